//! What a copy costs: counted in objects put and bytes got.

use std::fs;
use std::sync::Arc;

use esker::copy::{CopyOptions, copy, plan};
use esker::progress::Silent;
use esker::repository::local::CacheRoot;
use esker::store::{Counting, OperationKind, Store};

use crate::support::{self, settle};
use crate::world::{
    THERE, World, assert_clean, assert_same, noise, open_there, open_with, options,
};

#[test]
fn a_copy_is_the_original_under_other_keys() {
    let world = World::new();
    let original = world.save();
    let report = world.copy();
    assert_eq!((report.copied.len(), report.there.len()), (1, 0));
    assert_same(&world, original, report.copied[0].id);
    assert_clean(&world.there());
}

#[test]
fn every_block_is_fetched_about_once() {
    let world = World::new();
    fs::write(world.tree().join("more"), noise(3, 40 << 20)).unwrap();
    settle();
    world.save();
    let stored: u64 = world.source.list("packs/").unwrap().iter().map(|listed| listed.length).sum();
    let counting = Arc::new(Counting::new(world.source.clone()));
    let store: Arc<dyn Store> = counting.clone();
    let report = copy(&support::open(&store), &world.there(), &options(), &Silent).unwrap();
    let got = counting.count(OperationKind::GetRange, "packs").bytes;
    assert!(got < stored + stored / 10, "{got} bytes got of {stored}");
    assert!(report.copied[0].bytes_read > 40 << 20);
}

#[test]
fn what_was_copied_is_not_copied_again() {
    let world = World::new();
    let original = world.save();
    let first = world.copy();
    let counting = Arc::new(Counting::new(world.destination.clone()));
    let store: Arc<dyn Store> = counting.clone();
    let report = copy(&world.here(), &open_there(&store), &options(), &Silent).unwrap();
    assert!(report.copied.is_empty());
    assert_eq!((report.there[0].from.id, report.there[0].id), (original, first.copied[0].id));
    for component in ["packs", "index", "snapshots", "sessions"] {
        assert_eq!(counting.count(OperationKind::Put, component).calls, 0, "{component}");
    }
}

#[test]
fn the_same_content_in_a_new_snapshot_puts_no_data() {
    let world = World::new();
    world.save();
    world.copy();
    world.save_with(|options| options.reread = true);
    let report = world.copy();
    let copied = &report.copied[0];
    // the page with the changed time of a directory, at most, and its references
    assert!(copied.bytes_added < 64 << 10, "{} bytes", copied.bytes_added);
    assert_clean(&world.there());
}

/// With a cache neither data nor lists that were copied before are read again,
/// also by a key that cannot read what it wrote.
#[test]
fn a_new_snapshot_costs_what_changed() {
    let world = World::new();
    fs::write(world.tree().join("more"), noise(3, 20 << 20)).unwrap();
    settle();
    world.save();
    let directory = tempfile::tempdir().unwrap();
    let cache = CacheRoot::Directory(directory.path().to_owned());
    let run = || {
        let there = open_with(&world.destination, THERE, &cache).unwrap();
        copy(&world.here(), &there, &options(), &Silent).unwrap()
    };
    assert!(run().copied[0].bytes_read > 20 << 20);
    fs::write(world.tree().join("new"), noise(4, 200_000)).unwrap();
    settle();
    let original = world.save();
    let report = run();
    let copied = &report.copied[0];
    assert!(copied.bytes_read < 1 << 20, "{} bytes read", copied.bytes_read);
    assert!(copied.bytes_added < 1 << 20, "{} bytes added", copied.bytes_added);
    assert_same(&world, original, copied.id);
    // what the table says decides nothing: here it lies
    for entry in fs::read_dir(directory.path()).unwrap() {
        let path = entry.unwrap().path();
        for entry in fs::read_dir(&path).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_str().unwrap().starts_with("translations") {
                fs::write(&path, noise(5, 4096)).unwrap();
            }
        }
    }
    fs::write(world.tree().join("newer"), noise(6, 200_000)).unwrap();
    settle();
    let original = world.save();
    let report = run();
    assert!(report.copied[0].bytes_read > 20 << 20);
    assert!(report.copied[0].bytes_added < 1 << 20);
    assert_same(&world, original, report.copied[0].id);
}

#[test]
fn several_snapshots_share_what_they_share() {
    let world = World::new();
    let mut originals = vec![world.save()];
    for seed in 10..13 {
        fs::write(world.tree().join("changing"), noise(seed, 300_000)).unwrap();
        settle();
        originals.push(world.save());
    }
    let report = world.copy();
    assert_eq!(report.copied.len(), 4);
    // once copied, a chunk is not even read again
    for copied in &report.copied[1..] {
        assert!(copied.bytes_read < 1 << 20, "{} bytes read", copied.bytes_read);
    }
    for (original, copied) in originals.iter().zip(&report.copied) {
        assert_eq!(copied.from, *original);
        assert_same(&world, *original, copied.id);
    }
    assert_clean(&world.there());
}

#[test]
fn a_plan_changes_nothing_and_named_snapshots_are_all_that_is_copied() {
    let world = World::new();
    let first = world.save();
    let second = world.save();
    let before = world.destination.list("").unwrap();
    let (here, there) = (world.here(), world.there());
    let planned = plan(&here, &there, &options(), &Silent).unwrap();
    let ids: Vec<_> = planned.wanted.iter().map(|snapshot| snapshot.id).collect();
    assert_eq!(ids, [first, second]);
    assert_eq!(world.destination.list("").unwrap(), before);
    let named = CopyOptions { snapshots: Some(vec![second]), ..options() };
    let report = copy(&here, &there, &named, &Silent).unwrap();
    assert_eq!(report.copied.iter().map(|copied| copied.from).collect::<Vec<_>>(), [second]);
    let rest = plan(&here, &there, &options(), &Silent).unwrap();
    assert_eq!((rest.wanted.len(), rest.wanted[0].id, rest.there.len()), (1, first, 1));
}
