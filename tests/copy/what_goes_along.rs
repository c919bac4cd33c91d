//! What a manifest says of its snapshot goes along; what only one repository means
//! does not.

use std::fs;

use esker::backup::{StreamSource, backup};
use esker::copy::{CopyOptions, copy};
use esker::format::manifest::Outcome;
use esker::format::notes::MarkKind;
use esker::format::slot::Role;
use esker::progress::Silent;
use esker::repository::{ErrorKind, now_ms};
use esker::select::{Filter, Wanted, select};

use crate::support;
use crate::world::{
    World, assert_clean, assert_same, init_there, memory, open_as, options, snapshot,
};

#[test]
fn metadata_goes_along_and_says_where_it_came_from() {
    let world = World::new();
    let original = world.save_with(|options| {
        options.tags = vec!["weekly".into()];
        options.time = Some(1_700_000_000_000);
        options.zone = "Europe/Berlin".into();
        options.expires = Some(now_ms() + 1_000_000_000);
        options.exclusions = vec!["*.tmp".into()];
    });
    let here = world.here();
    for mark in [
        MarkKind::Name("spring".into()),
        MarkKind::Description("before the move".into()),
        MarkKind::Tags { add: vec!["kept".into()], remove: vec!["weekly".into()] },
        MarkKind::Pin(true),
    ] {
        here.put_mark(original, mark, now_ms()).unwrap();
    }
    let copied = world.copy().copied.remove(0);
    let there = world.there();
    let (old, new) = (snapshot(&here, original), snapshot(&there, copied.id));
    assert_eq!((&new.name, &new.description, &new.tags), (&old.name, &old.description, &old.tags));
    // what is kept how long is each repository's own
    assert!(old.pinned && !new.pinned);
    let (mine, theirs) = (&old.manifest, &new.manifest);
    assert_eq!((theirs.started, theirs.ended), (mine.started, mine.ended));
    assert_eq!((&theirs.zone, &theirs.host), (&mine.zone, &mine.host));
    assert_eq!((&theirs.profile, theirs.expires), (&mine.profile, mine.expires));
    assert_eq!((theirs.outcome, theirs.counts.files), (mine.outcome, mine.counts.files));
    let from = theirs.copied_from.as_ref().unwrap();
    assert_eq!((from.repository, from.snapshot), (here.id(), original));
    assert_eq!((from.writer, theirs.writer), (mine.writer, there.keyring().writer));
    let (mine, theirs) = (here.private_part(&old).unwrap(), there.private_part(&new).unwrap());
    assert_eq!((theirs.paths, theirs.exclusions), (mine.paths, mine.exclusions));
    assert_eq!((theirs.filesystems, theirs.notes), (mine.filesystems, mine.notes));
}

/// Labels are keyed per repository: the copy is found by its sources all the same.
#[test]
fn sources_are_found_by_their_names_in_the_copy() {
    let world = World::new();
    let stream = StreamSource::reader("dump.sql", Box::new(&b"select 1"[..]));
    let options = support::options(&world.tree());
    let id = backup(&world.here(), &options, vec![stream], &Silent).unwrap().snapshot.unwrap();
    let copied = world.copy().copied.remove(0);
    let there = world.there();
    let (snapshots, _) = there.snapshots().unwrap();
    let tree = world.tree().into_os_string().into_encoded_bytes();
    for source in [tree, b"dump.sql".to_vec()] {
        let filter = Filter { sources: vec![source], ..Filter::default() };
        let found = select(&there, &snapshots, &Wanted::Latest { back: 0 }, &filter).unwrap();
        assert_eq!(found.id, copied.id);
    }
    assert_same(&world, id, copied.id);
}

#[test]
fn partial_stays_partial() {
    let world = World::new();
    let missing = world.directory.path().join("missing");
    let original = world.save_with(|options| options.paths.push(missing));
    let copied = world.copy().copied.remove(0);
    assert_eq!(copied.outcome, Outcome::Partial);
    let (here, there) = (world.here(), world.there());
    let (old, new) = (snapshot(&here, original), snapshot(&there, copied.id));
    assert_eq!(new.manifest.outcome, Outcome::Partial);
    let outcomes = |sources: &[esker::format::manifest::Source]| {
        sources.iter().map(|source| source.outcome).collect::<Vec<_>>()
    };
    assert_eq!(outcomes(&new.manifest.sources), outcomes(&old.manifest.sources));
    let failures = |repository: &esker::repository::Repository, snapshot| {
        repository.private_part(snapshot).unwrap().failures
    };
    assert_eq!(failures(&there, &new), failures(&here, &old));
}

#[test]
fn a_key_that_cannot_read_what_it_writes_is_enough() {
    let world = World::new();
    let first = world.save();
    let write_only = open_as(&world, Role::Write);
    let report = copy(&world.here(), &write_only, &options(), &Silent).unwrap();
    assert_same(&world, first, report.copied[0].id);
    fs::write(world.tree().join("new"), "new").unwrap();
    support::settle();
    let second = world.save();
    let report = copy(&world.here(), &write_only, &options(), &Silent).unwrap();
    assert_eq!(report.there.len(), 1);
    assert!(report.copied[0].bytes_added < 64 << 10);
    assert_same(&world, second, report.copied[0].id);
    assert_clean(&world.there());
}

#[test]
fn rights_are_asked_for_before_anything_is_done() {
    let world = World::new();
    world.save();
    for role in [Role::Read, Role::Maintain, Role::Watch] {
        let before = open_as(&world, role);
        let error = copy(&world.here(), &before, &options(), &Silent).unwrap_err();
        assert_eq!(error.kind, ErrorKind::NoRight, "{role:?}");
    }
    // the other way round: what is written with a write key is not read with it
    let write_only = open_as(&world, Role::Write);
    let error = copy(&write_only, &world.here(), &options(), &Silent).unwrap_err();
    assert_eq!(error.kind, ErrorKind::NoRight);
    let error = copy(&world.here(), &world.here(), &options(), &Silent).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Usage);
    assert!(world.destination.list("snapshots/").unwrap().is_empty());
}

/// Deletions are not mirrored, in neither direction.
#[test]
fn each_repository_lets_go_by_its_own_rules() {
    let world = World::new();
    let original = world.save();
    let copied = world.copy().copied.remove(0);
    // forgotten there: not brought back
    world.there().put_mark(copied.id, MarkKind::Forget, now_ms()).unwrap();
    let again = world.copy();
    assert!(again.copied.is_empty() && again.there[0].forgotten);
    // forgotten here: stays there, and is copied no more
    world.there().put_mark(copied.id, MarkKind::Undo, now_ms()).unwrap();
    world.here().put_mark(original, MarkKind::Forget, now_ms()).unwrap();
    let again = world.copy();
    assert!(again.copied.is_empty() && again.there.is_empty());
    assert!(snapshot(&world.there(), copied.id).is_good());
}

#[test]
fn what_comes_back_is_the_original_and_is_not_copied() {
    let world = World::new();
    let original = world.save();
    let copied = world.copy().copied.remove(0);
    let back = copy(&world.there(), &world.here(), &options(), &Silent).unwrap();
    assert!(back.copied.is_empty());
    assert_eq!((back.there[0].from.id, back.there[0].id), (copied.id, original));
    // a third one has neither
    let third = memory();
    init_there(&third);
    let on = copy(&world.there(), &crate::world::open_there(&third), &options(), &Silent).unwrap();
    assert_eq!(on.copied.len(), 1);
}

#[test]
fn what_never_was_confirmed_is_not_made_good_by_a_copy() {
    let world = World::new();
    let id = world.save();
    world.source.delete(&format!("confirmed/{id}")).unwrap();
    assert!(world.copy().copied.is_empty());
    let named = CopyOptions { snapshots: Some(vec![id]), ..options() };
    let error = copy(&world.here(), &world.there(), &named, &Silent).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Failed);
}

#[test]
fn a_name_that_is_taken_there_is_not_given_twice() {
    let world = World::new();
    let first = world.save();
    world.here().put_mark(first, MarkKind::Name("good".into()), now_ms()).unwrap();
    let copied = world.copy().copied.remove(0);
    world.here().put_mark(first, MarkKind::Name(String::new()), now_ms()).unwrap();
    let second = world.save();
    world.here().put_mark(second, MarkKind::Name("good".into()), now_ms()).unwrap();
    let second = world.copy().copied.remove(0);
    let there = world.there();
    assert_eq!(snapshot(&there, copied.id).name.as_deref(), Some("good"));
    assert_eq!(snapshot(&there, second.id).name, None);
}
