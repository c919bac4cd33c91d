//! Snapshots without what is lost: marked, beside the old ones, and true.

use std::os::unix::ffi::OsStrExt;

use esker::check::mark_damaged;
use esker::format::manifest::Outcome;
use esker::format::notes::{self, MarkKind};
use esker::id::SnapshotId;
use esker::repair::{SnapshotsOptions, SnapshotsReport, repair_snapshots};
use esker::repository::ErrorKind;
use esker::repository::snapshots::Snapshot;

use super::*;

fn repair_options() -> SnapshotsOptions {
    SnapshotsOptions { host: "host".into(), compression: 3, ..SnapshotsOptions::default() }
}

fn repair(store: &Arc<dyn Store>) -> SnapshotsReport {
    repair_snapshots(&open(store), &repair_options(), &Silent).unwrap()
}

fn snapshot(store: &Arc<dyn Store>, id: SnapshotId) -> Snapshot {
    open(store).snapshots().unwrap().0.into_iter().find(|s| s.id == id).unwrap()
}

fn forget(store: &Arc<dyn Store>, id: SnapshotId) {
    open(store).put_mark(id, MarkKind::Forget, 5).unwrap();
}

fn remove_sources(fixture: &Fixture) {
    for entry in fs::read_dir(fixture.path()).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => fs::remove_dir_all(path).unwrap(),
            false => fs::remove_file(path).unwrap(),
        }
    }
}

/// Some data is lost for good: detected, named, left out of a new snapshot, and
/// with the old one forgotten nothing is damaged any more.
#[test]
fn lost_files_are_left_out_and_named() {
    for action in ACTIONS {
        let fixture = Fixture::new();
        let first = fixture.save();
        let first = first.snapshot.unwrap();
        let all = support::contents(&open(&fixture.store), first);
        for at in 0..3 {
            // noise of their own: a second pack
            fs::write(fixture.path().join(format!("late{at}")), noise(&at.to_string(), 90_000))
                .unwrap();
        }
        let packs_before = fixture.packs(PackKind::Data);
        settle();
        let second = fixture.save().snapshot.unwrap();
        let late: Vec<PackId> = fixture
            .packs(PackKind::Data)
            .into_iter()
            .filter(|id| !packs_before.contains(id))
            .collect();
        assert_eq!(late.len(), 1);
        fixture.damage_pack(late[0], action);
        let report = fixture.check();
        assert!(!report.is_ok());
        mark_damaged(&open(&fixture.store), &report).unwrap();
        let before = fixture.store.list("").unwrap();
        let dry_run = SnapshotsOptions { dry_run: true, ..repair_options() };
        let told = repair_snapshots(&open(&fixture.store), &dry_run, &Silent).unwrap();
        assert_eq!(fixture.store.list("").unwrap(), before, "a dry run wrote");
        let report = repair(&fixture.store);
        assert_eq!(report.remaining, []);
        assert_eq!((report.whole, report.repaired.len(), told.repaired.len()), (1, 1, 1));
        let repaired = &report.repaired[0];
        assert_eq!(repaired.old, second);
        assert_eq!(repaired.loss.count, told.repaired[0].loss.count);
        let new = snapshot(&fixture.store, repaired.new.unwrap());
        let old = snapshot(&fixture.store, second);
        assert!(new.is_good() && old.is_good(), "the old one stays");
        assert_eq!(new.manifest.outcome, Outcome::Partial);
        assert_eq!(new.manifest.parent, Some(second));
        assert_eq!((new.manifest.replaces, new.manifest.started), (None, old.manifest.started));
        assert_eq!(new.tags, ["repaired"]);
        let description = new.description.clone().unwrap();
        assert!(description.starts_with(&format!("repaired from {}", &second.to_hex()[..8])));
        let failures = open(&fixture.store).private_part(&new).unwrap().failures;
        assert_eq!(failures.len() as u64, repaired.loss.count);
        assert!(failures.iter().all(|failure| failure.reason == "lost: its content"));
        let lost: BTreeMap<_, _> = failures.iter().map(|f| (f.path.clone(), ())).collect();
        let mut expected = fixture.on_disk();
        expected.retain(|path, _| !lost.contains_key(path));
        assert!(support::contents(&open(&fixture.store), new.id) == expected);
        assert!(expected.len() >= all.len() && (1..=3).contains(&lost.len()), "{action:?}");
        // until it is told to, nothing takes the old one away
        let report = fixture.check();
        let about_new = esker::format::manifest::manifest_key(new.id);
        assert!(!report.is_ok() && report.findings.iter().all(|f| f.key != about_new));
        let again = repair(&fixture.store);
        assert_eq!((again.repaired.len(), again.before), (0, vec![(second, new.id)]));
        forget(&fixture.store, second);
        assert_eq!(fixture.check().findings, [], "{action:?}");
        assert!(support::contents(&open(&fixture.store), first) == all);
    }
}

/// Of a pack that is marked, what can still be read is kept, and stored again.
#[test]
fn what_can_be_read_of_a_damaged_pack_is_saved() {
    let fixture = Fixture::new();
    let first = fixture.save().snapshot.unwrap();
    let all = fixture.on_disk();
    remove_sources(&fixture);
    for pack in fixture.packs(PackKind::Data) {
        fixture.damage_pack(pack, Action::Flip);
    }
    mark_damaged(&open(&fixture.store), &fixture.check()).unwrap();
    let report = repair_snapshots(
        &open(&fixture.store),
        &SnapshotsOptions { forget: true, ..repair_options() },
        &Silent,
    )
    .unwrap();
    let repaired = &report.repaired[0];
    assert!(repaired.loss.counts.bytes_added > 0 && repaired.loss.count > 0);
    let left = support::contents(&open(&fixture.store), repaired.new.unwrap());
    assert_eq!(
        (left.len() as u64, left.len() as u64 + repaired.loss.count),
        (repaired.loss.counts.files, 41)
    );
    assert!(left.iter().all(|(path, bytes)| all[path] == *bytes));
    assert!(snapshot(&fixture.store, first).forgotten.is_some());
    assert_eq!(fixture.check().findings, []);
}

/// Whatever byte is flipped wherever: no repaired snapshot ever holds bytes that
/// were not saved.
#[test]
fn no_byte_is_ever_invented() {
    let whole = Fixture::new();
    whole.save();
    let all = whole.on_disk();
    let mut flips = noise("positions", 16 * 24);
    let mut repaired = 0;
    for at in flips.chunks_exact_mut(24) {
        let fixture = whole.copy();
        for (number, listed) in fixture.store.list("packs/").unwrap().iter().enumerate() {
            let mut bytes = fixture.store.get(&listed.key, u64::MAX).unwrap().to_vec();
            let position: [u8; 8] = at[number % 3 * 8..][..8].try_into().unwrap();
            let position = u64::from_le_bytes(position) as usize % bytes.len();
            bytes[position] ^= 1 << (number % 8);
            // the tree only now and then: without it nothing is left
            if number > 0 || at[0] % 4 == 0 {
                fixture.store.delete(&listed.key).unwrap();
                fixture.store.put(&listed.key, bytes.into()).unwrap();
            }
        }
        mark_damaged(&open(&fixture.store), &fixture.check()).unwrap();
        for one in repair(&fixture.store).repaired {
            repaired += 1;
            let left = support::contents(&open(&fixture.store), one.new.unwrap());
            assert!(left.iter().all(|(path, bytes)| all[path] == *bytes));
        }
    }
    assert!(repaired > 0);
}

/// A lost stretch of names is left out, and named by where it begins and ends.
#[test]
fn lost_names_are_told_as_a_range() {
    let fixture = Fixture::new();
    for directory in 0..20 {
        let directory = fixture.path().join(format!("many{directory:02}"));
        fs::create_dir(&directory).unwrap();
        (0..100).for_each(|file| fs::write(directory.join(format!("{file}")), "x").unwrap());
    }
    settle();
    fixture.save();
    let early = fixture.packs(PackKind::Tree);
    fs::write(fixture.path().join("zz"), "z").unwrap();
    settle();
    let second = fixture.save().snapshot.unwrap();
    let all = fixture.on_disk();
    for pack in early {
        fixture.damage_pack(pack, Action::Delete);
    }
    mark_damaged(&open(&fixture.store), &fixture.check()).unwrap();
    let report = repair(&fixture.store);
    // of the first not even the root is left
    assert_eq!(report.remaining.len(), 1, "{:?}", report.remaining);
    assert!(report.remaining[0].what.contains("can only be forgotten"));
    let repaired = &report.repaired[0];
    assert_eq!(repaired.old, second);
    assert!(
        repaired.loss.failures.iter().any(|f| f.reason.starts_with("lost: all names from here"))
    );
    let left = support::contents(&open(&fixture.store), repaired.new.unwrap());
    assert!(!left.is_empty() && left.len() < all.len());
    assert!(left.iter().all(|(path, bytes)| all[path] == *bytes));
    let ids: Vec<_> = open(&fixture.store).snapshots().unwrap().0.iter().map(|s| s.id).collect();
    ids.iter().filter(|id| Some(**id) != repaired.new).for_each(|id| forget(&fixture.store, *id));
    assert_eq!(fixture.check().findings, []);
}

/// Without its reference set a snapshot restores, and no prune can be made: it
/// is written anew, with nothing lost.
#[test]
fn a_lost_reference_set_is_made_anew_from_the_tree() {
    for action in ACTIONS {
        let fixture = Fixture::new();
        let first = fixture.save().snapshot.unwrap();
        for pack in fixture.packs(PackKind::Refs) {
            fixture.damage_pack(pack, action);
        }
        mark_damaged(&open(&fixture.store), &fixture.check()).unwrap();
        let report = repair(&fixture.store);
        assert!(!report.repaired.is_empty(), "{action:?} {report:?}");
        let new = report.repaired[0].new.unwrap();
        assert_eq!(report.repaired[0].loss.count, 0);
        assert_eq!(snapshot(&fixture.store, new).manifest.outcome, Outcome::Complete);
        fixture.is_as_on_disk(new);
        forget(&fixture.store, first);
        assert_eq!(fixture.check().findings, [], "{action:?}");
    }
}

#[test]
fn only_a_full_key_repairs_snapshots_and_only_with_a_whole_index() {
    let fixture = Fixture::new();
    fixture.save();
    for role in [Role::Write, Role::Read, Role::Maintain, Role::Watch] {
        let repository = open_as(&fixture.store, role);
        let error = repair_snapshots(&repository, &repair_options(), &Silent).unwrap_err();
        assert_eq!(error.kind, ErrorKind::NoRight, "{role:?}");
    }
    assert_eq!(repair(&fixture.store).whole, 1);
    for listed in fixture.store.list("index/").unwrap() {
        fixture.store.delete(&listed.key).unwrap();
    }
    let error = repair_snapshots(&open(&fixture.store), &repair_options(), &Silent).unwrap_err();
    assert!(error.message.contains("repair index"), "{}", error.message);
}

/// Damage to the small objects of a snapshot: what repair makes of it, and what
/// is left for a prune to delete.
#[test]
fn small_objects_are_settled_or_left_to_a_prune() {
    for (place, action) in ["snapshots/", "confirmed/", "marks/", "sessions/"]
        .into_iter()
        .flat_map(|place| ACTIONS.map(|action| (place, action)))
    {
        let case = format!("{action:?} {place}");
        let fixture = Fixture::new();
        let first = fixture.save().snapshot.unwrap();
        open(&fixture.store).put_mark(first, MarkKind::Pin(true), 5).unwrap();
        let key = fixture.store.list(place).unwrap()[0].key.clone();
        damage(&*fixture.store, &key, action);
        let found = fixture.check();
        let trace = match place {
            "marks/" | "sessions/" | "confirmed/" => action != Action::Delete,
            _ => true,
        };
        assert_eq!(found.findings.iter().any(|f| f.key == key), trace, "{case}");
        let report = repair(&fixture.store);
        let after = fixture.check();
        let named = || after.findings.iter().map(|f| f.key.as_str()).collect::<Vec<_>>();
        match (place, trace) {
            // nobody can know what it held; forgetting it is all that is left
            ("snapshots/", _) => assert_eq!(named(), [key.as_str()], "{case}"),
            // it was whole: so is the new one
            ("confirmed/", true) => {
                fixture.is_as_on_disk(report.repaired[0].new.unwrap());
                assert_eq!(named(), [key.as_str()], "{case}");
            }
            ("marks/", true) => {
                assert_eq!(report.settled, [first], "{case}");
                assert_eq!(after.findings, [], "{case}");
                assert!(after.notes.iter().any(|note| note.key == key), "{case}");
                let listing = open(&fixture.store).list_snapshots().unwrap();
                assert!(listing.unclear.is_empty() && listing.settled_marks.contains(&key));
                assert!(repair(&fixture.store).settled.is_empty(), "{case}: once is enough");
            }
            ("sessions/", true) => assert_eq!(named(), [key.as_str()], "{case}"),
            _ => assert_eq!(after.findings, [], "{case}"),
        }
        assert_eq!(notes::mark_of_key(&key).is_some(), place == "marks/");
    }
}

/// A long extended attribute that is lost takes no file with it.
#[test]
fn a_lost_attribute_costs_the_attribute() {
    let fixture = Fixture::new();
    remove_sources(&fixture);
    let file = fixture.path().join("file");
    fs::write(&file, "kept inline or in a pack of its own").unwrap();
    settle();
    fixture.save();
    let before = fixture.packs(PackKind::Data);
    let path = std::ffi::CString::new(file.as_os_str().as_bytes()).unwrap();
    let value = vec![b'v'; 5000];
    // where the file system has no room for it there is nothing to test
    let set = rustix::fs::setxattr(&path, "user.long", &value, rustix::fs::XattrFlags::empty());
    if set.is_err() {
        return;
    }
    settle();
    fixture.save();
    for pack in fixture.packs(PackKind::Data).into_iter().filter(|id| !before.contains(id)) {
        fixture.damage_pack(pack, Action::Delete);
    }
    let report = repair(&fixture.store);
    let repaired = &report.repaired[0];
    assert_eq!(repaired.loss.failures[0].reason, "lost: the extended attribute \"user.long\"");
    let left = support::contents(&open(&fixture.store), repaired.new.unwrap());
    assert_eq!(left.len(), 1);
}
