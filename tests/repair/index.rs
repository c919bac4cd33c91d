//! Lost index segments are made anew from what packs say of themselves.

use esker::format::segment::{self, PackEntry, segment_key};
use esker::id::SegmentId;
use esker::repair::{IndexOptions, IndexReport, repair_index};
use esker::repository::ErrorKind;

use super::*;

fn repair(repository: &Repository) -> IndexReport {
    repair_index(repository, &IndexOptions::default(), &Silent).unwrap()
}

fn segments(store: &Arc<dyn Store>) -> Vec<String> {
    store.list("index/").unwrap().into_iter().map(|listed| listed.key).collect()
}

#[test]
fn every_damage_to_segments_is_repaired_from_the_packs() {
    let whole = Fixture::new();
    let first = whole.save().snapshot.unwrap();
    fs::write(whole.path().join("more"), noise("more", 50_000)).unwrap();
    let second = whole.save().snapshot.unwrap();
    for read_data in [false, true] {
        for action in ACTIONS {
            let case = format!("{action:?} {read_data}");
            let fixture = whole.copy();
            let damaged = segments(&fixture.store);
            assert_eq!(damaged.len(), 2);
            damaged.iter().for_each(|key| damage(&*fixture.store, key, action));
            assert!(!fixture.check().is_ok(), "{case}: not detected");
            let options = IndexOptions { read_data, ..IndexOptions::default() };
            let dry_run = IndexOptions { dry_run: true, ..options };
            let before = fixture.store.list("").unwrap();
            let told = repair_index(&open(&fixture.store), &dry_run, &Silent).unwrap();
            assert_eq!(fixture.store.list("").unwrap(), before, "{case}: a dry run wrote");
            let report = repair_index(&open(&fixture.store), &options, &Silent).unwrap();
            assert_eq!((&told.listed, &told.superseded), (&report.listed, &report.superseded));
            assert_eq!(report.remaining, [], "{case}");
            assert_eq!(report.listed.len() as u64, report.packs, "{case}");
            let replaced = if action == Action::Delete { 0 } else { 2 };
            assert_eq!(report.superseded.len(), replaced, "{case}");
            let check = fixture.check();
            assert_eq!(check.findings, [], "{case}");
            for key in &damaged {
                let noted = check.notes.iter().any(|note| note.key == *key);
                assert_eq!(noted, action != Action::Delete, "{case}: {:?}", check.notes);
            }
            fixture.is_as_on_disk(second);
            assert!(support::contents(&open(&fixture.store), first).len() == 41);
            let again = repair(&open(&fixture.store));
            assert!(again.listed.is_empty() && again.superseded.is_empty(), "{case}");
        }
    }
}

/// A write key lists what it put itself; what others put, and the segments that
/// cannot be read, wait for a maintainer.
#[test]
fn who_may_repair_what() {
    let fixture = Fixture::new();
    fixture.save();
    let writer = open_as(&fixture.store, Role::Write);
    let own = fixture.save_with(&writer).snapshot.unwrap();
    for key in segments(&fixture.store) {
        damage(&*fixture.store, &key, Action::Flip);
    }
    let report = repair(&reopen(&fixture.store, Role::Write));
    assert!(!report.listed.is_empty() && report.superseded.is_empty());
    let (packs, others): (Vec<_>, Vec<_>) =
        report.remaining.iter().partition(|left| left.key.starts_with("packs/"));
    assert!(!packs.is_empty() && others.len() == 2, "{:?}", report.remaining);
    fixture.is_as_on_disk(own);
    for role in [Role::Read, Role::Watch] {
        let error = repair_index(&open_as(&fixture.store, role), &IndexOptions::default(), &Silent)
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::NoRight, "{role:?}");
    }
    let report = repair(&open_as(&fixture.store, Role::Maintain));
    assert_eq!((report.listed.len(), report.superseded.len()), (packs.len(), 2));
    assert_eq!(report.remaining, []);
    assert_eq!(fixture.check().findings, []);
}

#[test]
fn a_rebuilt_index_needs_none_of_the_old_segments() {
    let fixture = Fixture::new();
    fixture.save();
    fs::write(fixture.path().join("more"), noise("more", 50_000)).unwrap();
    let second = fixture.save().snapshot.unwrap();
    let old = segments(&fixture.store);
    let options = IndexOptions { rebuild: true, ..IndexOptions::default() };
    let writer = open_as(&fixture.store, Role::Write);
    assert_eq!(repair_index(&writer, &options, &Silent).unwrap_err().kind, ErrorKind::NoRight);
    let report = repair_index(&open(&fixture.store), &options, &Silent).unwrap();
    assert_eq!(report.superseded.len(), old.len());
    assert!(fixture.check().is_ok());
    old.iter().for_each(|key| fixture.store.delete(key).unwrap());
    assert_eq!(fixture.check().findings, []);
    fixture.is_as_on_disk(second);
}

/// What a pack says of itself is only believed with the right bytes and signer.
#[test]
fn packs_that_prove_nothing_are_left_and_named() {
    let fixture = Fixture::new();
    fixture.save();
    for key in segments(&fixture.store) {
        fixture.store.delete(&key).unwrap();
    }
    let listed = fixture.store.list("packs/").unwrap();
    // cut short; with a flipped byte in its table; with one in its padding or blocks
    let [cut, table, block] = [0, 1, 2].map(|at| listed[at].key.clone());
    damage(&*fixture.store, &cut, Action::Truncate);
    let bytes = fixture.store.get(&table, u64::MAX).unwrap().to_vec();
    let mut flipped = bytes.clone();
    flipped[bytes.len() - 150] ^= 1;
    fixture.store.delete(&table).unwrap();
    fixture.store.put(&table, flipped.into()).unwrap();
    damage(&*fixture.store, &block, Action::Flip);
    let keys = |report: &IndexReport| -> Vec<String> {
        report.remaining.iter().map(|left| left.key.clone()).collect()
    };
    let dry_run = IndexOptions { dry_run: true, ..IndexOptions::default() };
    let report = repair_index(&open(&fixture.store), &dry_run, &Silent).unwrap();
    let mut expected = vec![cut.clone(), table.clone()];
    expected.sort();
    assert_eq!(keys(&report), expected);
    let options = IndexOptions { read_data: true, ..dry_run };
    let report = repair_index(&open(&fixture.store), &options, &Silent).unwrap();
    expected.push(block);
    expected.sort();
    assert_eq!(keys(&report), expected);
}

/// A pack that a maintainer removed does not come back, though it is still there.
#[test]
fn a_removed_pack_stays_removed() {
    let fixture = Fixture::new();
    fixture.save();
    let removed = fixture.packs(PackKind::Refs);
    let old = segments(&fixture.store);
    let repository = open(&fixture.store);
    let none: &mut [PackEntry<'_>] = &mut [];
    let bytes = segment::encode(&repository.sealing(), &[], &removed, none);
    let id = SegmentId(*blake3::hash(&bytes).as_bytes());
    fixture.store.put(&segment_key(id), bytes.into()).unwrap();
    old.iter().for_each(|key| fixture.store.delete(key).unwrap());
    let options = IndexOptions { rebuild: true, ..IndexOptions::default() };
    for options in [IndexOptions::default(), options] {
        let report = repair_index(&open(&fixture.store), &options, &Silent).unwrap();
        assert!(!report.listed.is_empty());
        assert!(removed.iter().all(|id| !report.listed.contains(id)));
        assert!(fixture.packs(PackKind::Refs).is_empty());
    }
    // the remove was carried on
    fixture.store.delete(&segment_key(id)).unwrap();
    assert!(fixture.packs(PackKind::Refs).is_empty());
}
