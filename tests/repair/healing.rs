//! The next backup stores again what is damaged or missing.

use esker::backup::StreamSource;
use esker::check::mark_damaged;
use esker::id::SnapshotId;

use super::*;

const KINDS: [PackKind; 3] = [PackKind::Data, PackKind::Tree, PackKind::Refs];

fn good(repository: &Repository, id: SnapshotId) -> bool {
    repository.snapshots().unwrap().0.iter().any(|s| s.id == id && s.is_complete())
}

/// Whatever happens to all packs of a kind: found, marked, stored again by a
/// backup of the unchanged tree; then the old snapshot is whole too.
#[test]
fn every_damage_to_packs_is_made_good_by_the_next_backup() {
    let whole = Fixture::new();
    let first = whole.save().snapshot.unwrap();
    for kind in KINDS {
        for action in ACTIONS {
            let case = format!("{action:?} {kind:?}");
            let fixture = whole.copy();
            let packs = fixture.packs(kind);
            packs.iter().for_each(|pack| fixture.damage_pack(*pack, action));
            let found = fixture.check();
            for pack in &packs {
                let key = pack_key(*pack);
                assert!(found.findings.iter().any(|f| f.key == key), "{case}: {found:#?}");
            }
            assert_eq!(mark_damaged(&open(&fixture.store), &found).unwrap(), 1, "{case}");
            assert_eq!(mark_damaged(&open(&fixture.store), &found).unwrap(), 0, "{case}: again");
            let report = fixture.save();
            assert!(report.healed > 0, "{case}");
            fixture.is_as_on_disk(report.snapshot.unwrap());
            fixture.is_as_on_disk(first);
            let after = fixture.check();
            assert_eq!(after.findings, [], "{case}");
            for pack in &packs {
                let key = pack_key(*pack);
                let note = after.notes.iter().find(|note| note.key == key);
                assert!(note.is_some_and(|n| n.what.contains("healed")), "{case}: {after:#?}");
            }
            // once is enough
            assert_eq!(fixture.save().healed, 0, "{case}");
            assert!(fixture.check().is_ok(), "{case}");
        }
    }
}

/// Packs that are gone are noticed by the commit check, without any mark.
#[test]
fn a_missing_pack_is_stored_again_without_a_check() {
    let whole = Fixture::new();
    let first = whole.save().snapshot.unwrap();
    for action in [Action::Delete, Action::Truncate] {
        let fixture = whole.copy();
        for pack in fixture.packs(PackKind::Data) {
            fixture.damage_pack(pack, action);
        }
        let report = fixture.save();
        assert!(report.healed > 40, "{} healed", report.healed);
        fixture.is_as_on_disk(first);
        assert!(fixture.check().is_ok());
    }
}

/// A tree page that a backup cannot read is stored again by that backup.
#[test]
fn a_damaged_page_that_is_met_is_stored_again_without_a_check() {
    let fixture = Fixture::new();
    let first = fixture.save().snapshot.unwrap();
    for pack in fixture.packs(PackKind::Tree) {
        fixture.damage_pack(pack, Action::Flip);
    }
    let report = fixture.save();
    assert!(report.healed > 0);
    fixture.is_as_on_disk(report.snapshot.unwrap());
    fixture.is_as_on_disk(first);
    assert!(fixture.check().is_ok());
}

/// Pages that were found as they are may turn out to lie in a pack that is
/// damaged farther on, before they are part of the new tree.
#[test]
fn pages_beside_a_damaged_one_are_stored_again_with_it() {
    let whole = Fixture::new();
    for number in 0..9000 {
        let name = format!("{number:04}-{}", "long".repeat(50));
        fs::write(whole.path().join(name), "").unwrap();
    }
    settle();
    let first = whole.save().snapshot.unwrap();
    let repository = open(&whole.store);
    repository.sync_index(&Silent).unwrap();
    let index = repository.index();
    let packs = index.packs().into_iter().filter(|(_, info)| info.kind == PackKind::Tree);
    let blocks = packs.flat_map(|(number, _)| {
        let toc = index.toc(number).unwrap();
        toc.offsets.iter().map(|offset| (toc.pack, *offset)).collect::<Vec<_>>()
    });
    let blocks: Vec<_> = blocks.collect();
    assert!(blocks.len() > 2, "too few blocks of pages");
    for (pack, offset) in blocks {
        let fixture = whole.copy();
        let key = pack_key(pack);
        let mut bytes = fixture.store.get(&key, u64::MAX).unwrap().to_vec();
        bytes[offset as usize + 50] ^= 0x40;
        fixture.store.delete(&key).unwrap();
        fixture.store.put(&key, bytes.into()).unwrap();
        let report = fixture.save();
        assert!(report.healed > 0, "block at {offset}");
        fixture.is_as_on_disk(report.snapshot.unwrap());
        fixture.is_as_on_disk(first);
        assert!(fixture.check().is_ok(), "block at {offset}");
    }
}

/// A stream cannot be read twice: what is missing is known before it is read.
#[test]
fn a_stream_whose_chunks_went_missing_is_saved_at_the_first_attempt() {
    let fixture = Fixture::new();
    let options = BackupOptions { paths: Vec::new(), ..options(fixture.path()) };
    let take = || {
        let reader = Box::new(std::io::Cursor::new(noise("stream", 3 << 20)));
        let stream = StreamSource::reader("dump", reader);
        backup(&open(&fixture.store), &options, vec![stream], &Silent)
    };
    take().unwrap();
    for pack in fixture.packs(PackKind::Data) {
        fixture.damage_pack(pack, Action::Delete);
    }
    let report = take().unwrap();
    assert!(report.healed > 0);
    let contents = support::contents(&open(&fixture.store), report.snapshot.unwrap());
    assert!(contents[&b"dump"[..]] == noise("stream", 3 << 20));
}

/// A key that cannot read what it wrote stores it again all the same.
#[test]
fn a_write_key_heals_with_and_without_its_stat_list() {
    for with_cache in [false, true] {
        let fixture = Fixture::new();
        let cache = tempfile::tempdir().unwrap();
        let root = match with_cache {
            true => CacheRoot::Directory(cache.path().to_owned()),
            false => CacheRoot::None,
        };
        drop(open_as(&fixture.store, Role::Write));
        let open_writer = || {
            let key = SecretKey::from_bytes([Role::Write as u8 + 40; 32]);
            Repository::open(fixture.store.clone(), &Unlock::KeyFile(key), &root).unwrap()
        };
        let first = fixture.save_with(&open_writer()).snapshot.unwrap();
        for pack in fixture.packs(PackKind::Data) {
            fixture.damage_pack(pack, Action::Flip);
        }
        // any key may say what it found
        let writer = open_writer();
        assert_eq!(mark_damaged(&writer, &check_all(&writer)).unwrap(), 1);
        let report = fixture.save_with(&open_writer());
        assert!(report.healed > 40, "{} healed", report.healed);
        assert_eq!(report.parent.is_some(), with_cache);
        fixture.is_as_on_disk(first);
        assert!(fixture.check().is_ok());
    }
}

/// What was stored again is relied on by a snapshot, also when nothing changed.
#[test]
fn healing_makes_a_snapshot_even_if_unchanged_ones_are_skipped() {
    let fixture = Fixture::new();
    fixture.save();
    for pack in fixture.packs(PackKind::Data) {
        fixture.damage_pack(pack, Action::Flip);
    }
    mark_damaged(&open(&fixture.store), &fixture.check()).unwrap();
    let options = BackupOptions { skip_if_unchanged: true, ..fixture.options() };
    let take = || backup(&open(&fixture.store), &options, Vec::new(), &Silent).unwrap();
    let report = take();
    assert!(report.healed > 0);
    assert!(good(&open(&fixture.store), report.snapshot.unwrap()));
    assert_eq!(take().snapshot, None);
}

/// Only what is no longer there is lost, and only it is named.
#[test]
fn what_the_source_lost_too_stays_lost() {
    let fixture = Fixture::new();
    let first = fixture.save().snapshot.unwrap();
    std::fs::remove_file(fixture.path().join("d1/f1")).unwrap();
    for pack in fixture.packs(PackKind::Data) {
        fixture.damage_pack(pack, Action::Delete);
    }
    mark_damaged(&open(&fixture.store), &fixture.check()).unwrap();
    fixture.is_as_on_disk(fixture.save().snapshot.unwrap());
    let report = fixture.check();
    assert!(!report.is_ok());
    let names: Vec<_> =
        report.affected.iter().map(|a| (a.snapshot, a.key.rsplit(|b| *b == 0).next())).collect();
    assert_eq!(names, [(first, Some(&b"f1"[..]))]);
}
