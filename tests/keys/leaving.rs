//! The rows of `docs/someone-leaves.md`.

use std::fs;

use esker::format::pack::{Birth, FOOTER_LENGTH, ForeignRun, PackKind, Toc, header};
use esker::format::segment::{self, PackEntry, Sealing, Segment, segment_of_key};
use esker::format::slot::Role;
use esker::id::{PackId, SegmentId, SlotId, SnapshotId};
use esker::keys::{self, RemoveOptions, RemoveReport};
use esker::progress::Silent;
use esker::repository::snapshots::State;
use esker::repository::{ErrorKind, Repository};

use crate::support::*;

fn remove(store: &SharedStore, slot: SlotId, options: &RemoveOptions) -> RemoveReport {
    keys::remove(&admin(store), slot, options, &Silent).unwrap()
}

/// Row "a server with a write key is stolen": its snapshots up to now stand, what
/// the thief puts later is distrusted and earns nothing, his key opens no more.
#[test]
fn lost_write_key() {
    let store = init();
    let added = add(&store, Role::Write, 2);
    let directory = tempfile::tempdir().unwrap();
    tree(directory.path(), &["january"]);
    let good = back_up(&open(&store, 2), directory.path());
    // the thief has the keys and goes on with what he opened before
    let thief = open(&store, 2);
    let report = remove(&store, added.slot, &RemoveOptions::default());
    assert_eq!((report.revoked, report.standing), (Some(added.writer), 1));
    assert!(report.rotated && !report.knew_root);
    assert_eq!(kind_of(try_open(&store, 2)), ErrorKind::WrongKey);
    tree(directory.path(), &["forged"]);
    let before = keys_of(&store, "snapshots/");
    assert_eq!(kind_of(try_backup(&thief, directory.path())), ErrorKind::NoRight);
    let forged: SnapshotId = keys_of(&store, "snapshots/")
        .iter()
        .find(|key| !before.contains(key))
        .and_then(|key| key.strip_prefix("snapshots/")?.parse().ok())
        .unwrap();
    let full = admin(&store);
    assert_eq!(state(&full, good), State::Confirmed);
    assert_eq!(state(&full, forged), State::Distrusted);
    assert!(read_all(&full, good).is_ok());
    // his chunks are not built upon: the same files are stored again
    let again = try_backup(&full, directory.path()).unwrap();
    assert!(again.parent.is_none() && again.bytes_put > 400_000, "{again:?}");
}

/// A snapshot that the thief made before the removal is distrusted by its time
/// or by its id; the others stand.
#[test]
fn lost_write_key_with_doubtful_snapshots() {
    let store = init();
    let added = add(&store, Role::Write, 2);
    let directory = tempfile::tempdir().unwrap();
    let ids: Vec<_> = ["a", "b", "c"]
        .iter()
        .map(|name| {
            tree(directory.path(), &[name]);
            back_up(&open(&store, 2), directory.path())
        })
        .collect();
    let last = snapshots(&admin(&store)).iter().find(|s| s.id == ids[2]).unwrap().manifest.started;
    let options = RemoveOptions {
        distrust_since: Some(last),
        distrust: vec![ids[0]],
        ..RemoveOptions::default()
    };
    let report = remove(&store, added.slot, &options);
    assert_eq!((report.standing, report.distrusted.len()), (1, 2));
    let states: Vec<_> = ids.iter().map(|id| state(&admin(&store), *id)).collect();
    assert_eq!(states, [State::Distrusted, State::Confirmed, State::Distrusted]);
}

/// Row "a read key is lost": it opens nothing that is written from now on; what
/// was written before stays readable to whoever has a copy; keys that stay, and
/// keys added later, read everything.
#[test]
fn lost_read_key() {
    let store = init();
    let leaver = add(&store, Role::Read, 2);
    add(&store, Role::Read, 3);
    add(&store, Role::Write, 4);
    let directory = tempfile::tempdir().unwrap();
    tree(directory.path(), &["january"]);
    let old = back_up(&open(&store, 4), directory.path());
    let held = open(&store, 2);
    let report = remove(&store, leaver.slot, &RemoveOptions::default());
    assert_eq!(report.rotation.as_ref().map(|r| (r.epoch, r.granted)), Some((2, 2)));
    let before = keys_of(&store, "");
    tree(directory.path(), &["february"]);
    let new = back_up(&open(&store, 4), directory.path());
    let loot = try_everything(&store, &held, &new_since(&store, &before));
    assert!(loot.tried > 2, "{loot:?}");
    assert_eq!((loot.public, loot.secrets()), (0, 0), "{loot:?}");
    let loot = try_everything(&store, &held, &before);
    assert!(loot.private > 0 && loot.sessions > 0, "what was is not taken back: {loot:?}");
    add(&store, Role::Read, 5);
    for number in [ADMIN, 3, 5] {
        for id in [old, new] {
            assert!(read_all(&open(&store, number), id).is_ok(), "key {number}");
        }
    }
}

/// A store that shows a removed slot again gains its holder nothing: the writer
/// stays revoked, and no rotation grants it a new epoch.
#[test]
fn a_removed_slot_that_comes_back_gets_nothing() {
    let store = init();
    let leaver = add(&store, Role::Read, 2);
    let key = format!("keys/{}", leaver.slot);
    let slot = get(&store, &key);
    let report =
        remove(&store, leaver.slot, &RemoveOptions { rotate: Some(false), ..Default::default() });
    assert!(!report.rotated);
    store.put(&key, slot).unwrap();
    assert_eq!(kind_of(try_open(&store, 2)), ErrorKind::NoRight);
    assert_eq!(keys::rotate(&admin(&store)).unwrap().granted, 0);
    assert_eq!(kind_of(try_open(&store, 2)), ErrorKind::NoRight);
    // removing it again is all it takes
    let again = remove(&store, leaver.slot, &RemoveOptions::default());
    assert_eq!((again.revoked, again.rotated), (None, false));
    assert!(keys_of(&store, &key).is_empty());
}

/// Moves `from` into a pack of the maintainer's own, as prune does, and says so
/// in a segment with these `removes`. The blocks stay as they are.
fn repack(
    store: &SharedStore,
    maintainer: &Repository,
    from: PackId,
    removes: &[PackId],
) -> PackId {
    maintainer.sync_index(&Silent).unwrap();
    let number = maintainer.index().pack_number(from).unwrap();
    let old = maintainer.index().toc(number).unwrap();
    let bytes = get(store, &esker::format::pack::pack_key(from));
    let length: usize = old.toc.blocks.iter().map(|block| block.stored_length as usize).sum();
    let count = old.toc.chunks.len() as u32;
    let foreign =
        vec![ForeignRun { start: 0, count, birth: old.toc.birth, pack: from, ordinal: 0 }];
    let birth = Birth(old.toc.birth.0 + 1);
    let toc = Toc { birth, foreign, ..old.toc.clone() };
    let keyring = maintainer.keyring();
    let key = keyring.current_index_key();
    let frame =
        toc.encode_frame(keyring.repository, keyring.epoch, key, keyring.writer, &keyring.signer);
    let mut pack = header(toc.kind, birth).to_vec();
    pack.extend_from_slice(&bytes[16..16 + length]);
    pack.extend_from_slice(&frame);
    let id = PackId(*blake3::hash(&pack).as_bytes());
    let length = pack.len() as u64;
    store.put(&esker::format::pack::pack_key(id), pack.into()).unwrap();
    let sealing = Sealing {
        repository: keyring.repository,
        epoch: keyring.epoch,
        key,
        signer: keyring.writer,
        signing: &keyring.signer,
    };
    let chunks = toc.chunks.iter().map(|chunk| chunk.id).collect();
    let mut entries = [PackEntry { id, length, frame: &frame, chunks }];
    put_segment(store, &segment::encode(&sealing, &[], removes, &mut entries));
    id
}

fn put_segment(store: &SharedStore, bytes: &[u8]) {
    let id = SegmentId(*blake3::hash(bytes).as_bytes());
    store.put(&format!("index/{id}"), bytes.to_vec().into()).unwrap();
}

fn data_pack(repository: &Repository) -> PackId {
    repository.sync_index(&Silent).unwrap();
    let packs = repository.index().packs();
    packs.iter().find(|(_, info)| info.kind == PackKind::Data).unwrap().1.id
}

/// Row "a maintain key is lost": what he removed and is gone stays removed, what
/// he claims to have removed and is there comes back, and the chunks he moved
/// keep their coordinates, on a fresh cache and on one that knew him.
#[test]
fn lost_maintain_key() {
    let store = init();
    let added = add(&store, Role::Maintain, 2);
    let directory = tempfile::tempdir().unwrap();
    tree(directory.path(), &["january"]);
    let id = back_up(&admin(&store), directory.path());
    let old = data_pack(&admin(&store));
    tree(directory.path(), &["february"]);
    let second = back_up(&admin(&store), directory.path());
    let kept: Vec<PackId> = {
        let full = admin(&store);
        full.sync_index(&Silent).unwrap();
        let data = |kind| kind == PackKind::Data;
        let packs = full.index().packs();
        packs.iter().map(|(_, i)| i).filter(|i| data(i.kind) && i.id != old).map(|i| i.id).collect()
    };
    let maintainer = open(&store, 2);
    let cache = tempfile::tempdir().unwrap();
    let moved = repack(&store, &maintainer, old, &[old, kept[0]]);
    store.delete(&esker::format::pack::pack_key(old)).unwrap();
    let knew_him = open_cached(&store, ADMIN, cache.path()).unwrap();
    knew_him.sync_index(&Silent).unwrap();
    assert!(knew_him.index().pack_number(kept[0]).is_none(), "his remove counts while in force");
    drop(knew_him);
    let report = remove(&store, added.slot, &RemoveOptions::default());
    let carried = report.carried.unwrap();
    assert_eq!((carried.packs, carried.removes, carried.removes_dropped), (1, 1, 1));
    for full in [admin(&store), open_cached(&store, ADMIN, cache.path()).unwrap()] {
        assert!(full.sync_index(&Silent).unwrap().is_empty());
        let index = full.index();
        assert!(index.pack_number(old).is_none() && index.pack_number(kept[0]).is_some());
        let number = index.pack_number(moved).unwrap();
        assert!(index.pack(number).unwrap().has_foreign, "coordinates are not forgotten");
        assert_eq!(index.toc(number).unwrap().coordinate(0).pack, old);
        for id in [id, second] {
            assert!(read_all(&full, id).is_ok());
        }
    }
    assert_eq!(kind_of(try_open(&store, 2)), ErrorKind::WrongKey);
    // what he does now is not honoured any more
    let keyring = maintainer.keyring();
    let sealing = Sealing {
        repository: keyring.repository,
        epoch: keyring.epoch,
        key: keyring.current_index_key(),
        signer: keyring.writer,
        signing: &keyring.signer,
    };
    put_segment(&store, &segment::encode(&sealing, &[], &[kept[0]], &mut []));
    let full = admin(&store);
    full.sync_index(&Silent).unwrap();
    assert!(full.index().pack_number(kept[0]).is_some());
}

/// A removed pack stays removed whichever segment is loaded first, the one that
/// lists it or the one that removes it: their names are random.
#[test]
fn a_removed_pack_stays_removed_in_any_order() {
    let directory = tempfile::tempdir().unwrap();
    tree(directory.path(), &["january"]);
    for _ in 0..8 {
        let store = init();
        add(&store, Role::Maintain, 2);
        back_up(&admin(&store), directory.path());
        let old = data_pack(&admin(&store));
        repack(&store, &open(&store, 2), old, &[old]);
        let fresh = admin(&store);
        fresh.sync_index(&Silent).unwrap();
        assert!(fresh.index().pack_number(old).is_none());
    }
}

/// A maintainer who did nothing leaves nothing to take over.
#[test]
fn an_idle_maintainer_leaves_no_segment() {
    let store = init();
    let added = add(&store, Role::Maintain, 2);
    let before = keys_of(&store, "index/");
    assert!(remove(&store, added.slot, &RemoveOptions::default()).carried.is_none());
    assert_eq!(keys_of(&store, "index/"), before);
}

/// Taken-over segments supersede the leaver's, and name each pack once.
#[test]
fn what_is_taken_over_is_one_segment() {
    let store = init();
    let added = add(&store, Role::Maintain, 2);
    let directory = tempfile::tempdir().unwrap();
    tree(directory.path(), &["january"]);
    back_up(&admin(&store), directory.path());
    let old = data_pack(&admin(&store));
    repack(&store, &open(&store, 2), old, &[old]);
    store.delete(&esker::format::pack::pack_key(old)).unwrap();
    let before = keys_of(&store, "index/");
    remove(&store, added.slot, &RemoveOptions::default());
    let new = new_since(&store, &before);
    let new: Vec<_> = new.iter().filter(|key| key.starts_with("index/")).collect();
    assert_eq!(new.len(), 1);
    let full = admin(&store);
    let bytes = get(&store, new[0]);
    let segment = Segment::parse(&bytes).unwrap();
    let directory = segment.directory(full.id(), full.keyring().index_key(1).unwrap()).unwrap();
    assert_eq!((directory.packs.len(), directory.removes), (1, vec![old]));
    let his = directory.supersedes;
    assert!(his.len() == 1 && before.iter().any(|key| segment_of_key(key) == Some(his[0])));
    assert!(directory.packs[0].frame_length as usize > FOOTER_LENGTH);
}

/// Row "an administrator leaves": his slot is gone, his snapshots stand, another
/// full key goes on. Who kept the root still derives every key, the new epoch's
/// too: the command says so, and so does the page.
#[test]
fn departed_administrator() {
    let store = init();
    let directory = tempfile::tempdir().unwrap();
    tree(directory.path(), &["january"]);
    add(&store, Role::Full, 2);
    let leaver = open(&store, 2);
    let his = back_up(&leaver, directory.path());
    let report = remove(&store, leaver.keyring().slot, &RemoveOptions::default());
    assert!(report.knew_root && !report.rotated && report.standing == 1);
    let rotated = keys::rotate(&admin(&store)).unwrap();
    assert_eq!(rotated.epoch, 2);
    assert_eq!(kind_of(try_open(&store, 2)), ErrorKind::WrongKey);
    assert_eq!(state(&admin(&store), his), State::Confirmed);
    tree(directory.path(), &["february"]);
    assert_eq!(kind_of(try_backup(&leaver, directory.path())), ErrorKind::NoRight);
    let before = keys_of(&store, "");
    back_up(&admin(&store), directory.path());
    let loot = try_everything(&store, &leaver, &new_since(&store, &before));
    assert!(loot.private > 0, "the root outlives a rotation: {loot:?}");
}

/// Row "a client's cache is stolen or lost": nothing in it opens the store, and
/// files in it are the owner's only.
#[test]
fn a_stolen_cache_holds_no_key() {
    let store = init();
    let cache = tempfile::tempdir().unwrap();
    add(&store, Role::Write, 2);
    let directory = tempfile::tempdir().unwrap();
    tree(directory.path(), &["january"]);
    let writer = open_cached(&store, 2, cache.path()).unwrap();
    back_up(&writer, directory.path());
    let seed = *writer.keyring().signer.seed();
    let index = *writer.keyring().current_index_key().bytes();
    drop(writer);
    let mut pending = vec![cache.path().to_owned()];
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        for secret in [seed, index, [2; 32]] {
            let found = bytes.windows(32).any(|window| window == secret);
            assert!(!found, "{} holds a key", path.display());
        }
    }
}

/// Row "a password became known": a new slot, the old one removed, nothing else
/// changes (the test of what stays is in `roles`).
#[test]
fn password_became_known() {
    let store = init();
    let old = admin(&store);
    let options = keys::AddOptions { same_writer: true, ..options(Role::Full, 2) };
    keys::add(&old, &options).unwrap();
    // a machine that knows the old one by heart
    let cache = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        open_cached(&store, ADMIN, cache.path()).unwrap();
    }
    let report =
        keys::remove(&open(&store, 2), old.keyring().slot, &Default::default(), &Silent).unwrap();
    assert!(report.knew_root && report.revoked.is_none() && !report.rotated);
    assert_eq!(kind_of(try_open(&store, ADMIN)), ErrorKind::WrongKey);
    assert_eq!(kind_of(open_cached(&store, ADMIN, cache.path())), ErrorKind::WrongKey);
    assert!(try_open(&store, 2).is_ok());
    assert!(open_cached(&store, 2, cache.path()).is_ok());
}
