//! Forget marks, undo and prune on a repository in memory: what is kept
//! restores, what is not goes.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use esker::crypto::SecretKey;
use esker::format::content::Root;
use esker::format::manifest::{Manifest, manifest_key};
use esker::format::notes::MarkKind;
use esker::format::pack::{Birth, Chunk, pack_key};
use esker::format::{ChunkKind, Kind};
use esker::id::{PackId, SnapshotId};
use esker::progress::Silent;
use esker::prune::{PruneOptions, PruneReport, prune};
use esker::repository::local::CacheRoot;
use esker::repository::packer::with_packer;
use esker::repository::{Repository, Unlock, now_ms};
use esker::store::{
    Decision, ErrorKind as StoreErrorKind, Faulty, OpendalStore, OperationKind, Store,
};
use esker::undo::{Undone, undo};
use support::{contents, init, open};

type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

fn memory() -> Arc<dyn Store> {
    let store: Arc<dyn Store> = Arc::new(OpendalStore::memory().unwrap());
    init(&store);
    store
}

fn snapshot(store: &Arc<dyn Store>, tree: &Path) -> (SnapshotId, Contents) {
    let report = support::run(&open(store), tree);
    (report.snapshot.unwrap(), support::on_disk(tree))
}

fn forget(repository: &Repository, id: SnapshotId) {
    repository.put_mark(id, MarkKind::Forget, now_ms()).unwrap();
}

fn options(repository: &Repository) -> PruneOptions {
    PruneOptions { grace: 0, max_unused: 0.0, ..PruneOptions::new(repository) }
}

fn prune_now(store: &Arc<dyn Store>) -> PruneReport {
    let repository = open(store);
    prune(&repository, &options(&repository), &Silent).unwrap()
}

/// Bytes that no compression makes smaller, different for each seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn stored(store: &Arc<dyn Store>) -> u64 {
    store.list("packs/").unwrap().iter().map(|listed| listed.length).sum()
}

fn clean(store: &Arc<dyn Store>) {
    let read_data = Some(esker::check::Subset::All);
    let options = esker::check::CheckOptions { read_data, ..Default::default() };
    let report = esker::check::check(&open(store), &options, &Silent).unwrap();
    assert!(report.is_ok(), "{:?}", report.findings);
}

#[test]
fn what_only_a_forgotten_snapshot_used_goes() {
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path();
    fs::write(tree.join("kept"), noise(1, 300_000)).unwrap();
    fs::write(tree.join("gone"), noise(2, 3_000_000)).unwrap();
    let store = memory();
    let (first, _) = snapshot(&store, tree);
    fs::remove_file(tree.join("gone")).unwrap();
    let (second, expected) = snapshot(&store, tree);
    let before = stored(&store);
    forget(&open(&store), first);
    let report = prune_now(&store);
    assert_eq!(report.manifests, [first]);
    assert!(stored(&store) + 2_900_000 < before, "{} of {before} left", stored(&store));
    let repository = open(&store);
    assert_eq!(contents(&repository, second), expected);
    assert!(store.list("sweeps/").unwrap().is_empty());
    assert!(!store.list("marks/").unwrap().iter().any(|l| l.key.contains(&first.to_hex())));
    clean(&store);
    // a second prune finds nothing to do
    let again = prune_now(&store);
    assert!(again.plan.is_empty(), "{:?}", again.plan);
    clean(&store);
}

/// What a prune moved a moment ago goes at once when the last that used it goes.
#[test]
fn moved_packs_are_not_spared_once_they_are_listed() {
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path();
    fs::write(tree.join("first"), noise(70, 300_000)).unwrap();
    fs::write(tree.join("second"), noise(71, 300_000)).unwrap();
    let store = memory();
    let (first, _) = snapshot(&store, tree);
    fs::remove_file(tree.join("first")).unwrap();
    let (second, _) = snapshot(&store, tree);
    fs::remove_file(tree.join("second")).unwrap();
    fs::write(tree.join("third"), noise(72, 1000)).unwrap();
    let (third, expected) = snapshot(&store, tree);
    forget(&open(&store), first);
    assert!(prune_now(&store).packs_repacked > 0);
    forget(&open(&store), second);
    prune_now(&store);
    assert!(stored(&store) < 100_000, "{} left", stored(&store));
    assert_eq!(contents(&open(&store), third), expected);
}

#[test]
fn a_snapshot_within_its_grace_stays_and_can_be_taken_back() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("file"), noise(3, 200_000)).unwrap();
    let store = memory();
    let (first, expected) = snapshot(&store, directory.path());
    fs::write(directory.path().join("file"), noise(4, 200_000)).unwrap();
    snapshot(&store, directory.path());
    forget(&open(&store), first);
    let repository = open(&store);
    let report = prune(&repository, &PruneOptions::new(&repository), &Silent).unwrap();
    assert!(report.plan.manifests.is_empty());
    let (all, _) = repository.snapshots().unwrap();
    let outcome = undo(&repository, &all, &[first], now_ms(), &Silent).unwrap();
    assert_eq!(outcome, [(first, Undone::Recovered)]);
    prune_now(&store);
    assert_eq!(contents(&open(&store), first), expected);
    clean(&store);
}

#[test]
fn an_undo_after_the_sweep_says_that_it_is_too_late() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("file"), noise(5, 200_000)).unwrap();
    let store = memory();
    let (first, _) = snapshot(&store, directory.path());
    fs::write(directory.path().join("file"), noise(6, 200_000)).unwrap();
    snapshot(&store, directory.path());
    forget(&open(&store), first);
    let repository = open(&store);
    let (all, _) = repository.snapshots().unwrap();
    prune_now(&store);
    let outcome = undo(&repository, &all, &[first], now_ms(), &Silent).unwrap();
    assert!(matches!(outcome.as_slice(), [(_, Undone::TooLate(_))]), "{outcome:?}");
    clean(&store);
}

/// A manifest may lie about pages it shares with others: that somebody else's
/// inner page is a leaf, or that a leaf tells of later packs than it does.
#[test]
fn pages_are_not_judged_by_what_one_parent_says() {
    let directory = tempfile::tempdir().unwrap();
    let store = memory();
    let mut kept = Vec::new();
    for night in 0..3 {
        fs::write(directory.path().join("file"), noise(40 + night, 200_000)).unwrap();
        kept.push(snapshot(&store, directory.path()));
    }
    let (gone, last) = (kept[0].0, kept.pop().unwrap());
    let repository = open(&store);
    repository.sync_index(&Silent).unwrap();
    let (listed, _) = repository.snapshots().unwrap();
    let honest = listed.iter().find(|s| s.id == last.0).unwrap().manifest.clone();
    // an inner page above the honest root that says: nothing before the year 2500
    let far = Birth(16_725_225_600_000 << 20);
    let mut page = vec![3, honest.references.level + 1, 0, 0, 1, 0, 0, 0];
    page.extend_from_slice(&far.0.to_le_bytes());
    page.extend_from_slice(&[0xff; 32]);
    page.extend_from_slice(&honest.references.id.0);
    let id = repository.keyring().chunk_id(ChunkKind::Refs, &page).unwrap();
    let forged = SnapshotId::random();
    with_packer(&repository, forged, 1000, 3, |packer, sealer| {
        let chunk = Chunk { id, length: page.len() as u32 };
        packer.add(&sealer.seal(ChunkKind::Refs, &page, vec![chunk])?)?;
        packer.flush()?;
        repository.put_segments(&packer.take_put())
    })
    .unwrap();
    let references = Root { id, level: honest.references.level + 1 };
    // listed first, so that its word comes first
    let manifest = Manifest { id: forged, references, started: 1, ..honest };
    let key = manifest_key(forged);
    repository.put_object(Kind::Manifest, &key, &manifest.encode(), Some(b"")).unwrap();
    forget(&repository, gone);
    prune_now(&store);
    assert_eq!(contents(&open(&store), last.0), last.1);
}

/// What an upload that was cut off left goes, when everything is looked at; what
/// only cannot be read may be somebody else's.
#[test]
fn packs_in_no_index_go_only_when_they_are_seen_to_be_broken() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("file"), noise(50, 100_000)).unwrap();
    let store = memory();
    let (kept, expected) = snapshot(&store, directory.path());
    let broken = pack_key(PackId([0x21; 32]));
    store.put(&broken, noise(51, 5000).into()).unwrap();
    let newer = noise(52, 5000);
    let strange = pack_key(PackId(*blake3::hash(&newer).as_bytes()));
    store.put(&strange, newer.into()).unwrap();
    let there = |key: &str| store.list("packs/").unwrap().iter().any(|l| l.key == key);
    let repository = open(&store);
    prune(&repository, &options(&repository), &Silent).unwrap();
    assert!(there(&broken) && there(&strange));
    let repository = open(&store);
    let full = PruneOptions { full: true, ..options(&repository) };
    let report = prune(&repository, &full, &Silent).unwrap();
    assert!(!there(&broken) && there(&strange));
    assert_eq!(report.damage.len(), 1, "{:?}", report.damage);
    assert_eq!(contents(&open(&store), kept), expected);
}

#[test]
fn a_store_that_does_not_delete_says_so_and_undo_works_there() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("file"), noise(60, 100_000)).unwrap();
    let store = memory();
    let (first, expected) = snapshot(&store, directory.path());
    fs::write(directory.path().join("file"), noise(61, 100_000)).unwrap();
    snapshot(&store, directory.path());
    forget(&open(&store), first);
    let append_only: Arc<dyn Store> =
        Arc::new(Faulty::new(store.clone(), |operation| match operation.kind {
            OperationKind::Delete => Decision::FailBefore(StoreErrorKind::Permission),
            _ => Decision::Pass,
        }));
    for _ in 0..3 {
        let repository = open(&append_only);
        let error = prune(&repository, &options(&repository), &Silent).unwrap_err();
        assert!(error.message.contains("does not let these credentials delete"), "{error}");
    }
    assert!(store.list("sweeps/").unwrap().len() <= 1, "one announcement of nothing is enough");
    let repository = open(&append_only);
    let (all, _) = repository.snapshots().unwrap();
    let outcome = undo(&repository, &all, &[first], now_ms(), &Silent).unwrap();
    assert_eq!(outcome, [(first, Undone::Recovered)]);
    assert_eq!(contents(&open(&store), first), expected);
}

/// A store that fails at any operation of a prune loses nothing, and the next
/// prune finishes.
#[test]
fn a_prune_that_dies_at_any_operation_is_finished_by_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path();
    for file in 0..30 {
        fs::write(tree.join(file.to_string()), noise(100 + file, 40_000)).unwrap();
    }
    let base = memory();
    let (first, _) = snapshot(&base, tree);
    for file in 0..15 {
        fs::write(tree.join(file.to_string()), noise(200 + file, 40_000)).unwrap();
    }
    let (second, expected) = snapshot(&base, tree);
    forget(&open(&base), first);
    let whole = support::memory_of(&base);
    prune_now(&whole);
    let mut operations = 0;
    for stop in 1..400 {
        let copy = support::memory_of(&base);
        let faulty = Arc::new(Faulty::stop_at(copy.clone(), stop));
        let dying: Arc<dyn Store> = faulty.clone();
        let done = support::try_open(&dying).and_then(|repository| {
            let options = options(&repository);
            prune(&repository, &options, &Silent)
        });
        assert_eq!(contents(&open(&copy), second), expected, "stopped at {stop}");
        if done.is_ok() && !faulty.is_stopped() {
            operations = stop;
            break;
        }
        let repository = open(&copy);
        let later = PruneOptions { now: now_ms() + 2 * 3_600_000, ..options(&repository) };
        prune(&repository, &later, &Silent).unwrap();
        assert_eq!(contents(&open(&copy), second), expected, "stopped at {stop}");
        assert!(copy.list("sweeps/").unwrap().is_empty(), "stopped at {stop}");
        let (left, least) = (stored(&copy), stored(&whole));
        assert!(left <= least + 4096, "stopped at {stop}: {left} bytes left, not {least}");
    }
    assert!(operations > 30, "a prune of {operations} operations was not looked at closely");
}

/// Every run puts a segment; prunes keep them few, and a client that knew the old
/// ones and one that knows nothing find all the same.
#[test]
fn segments_stay_few_and_say_all_they_said() {
    let directory = tempfile::tempdir().unwrap();
    let cache = tempfile::tempdir().unwrap();
    let store = memory();
    let mut kept = Vec::new();
    for night in 0..20 {
        fs::write(directory.path().join(night.to_string()), noise(300 + night, 20_000)).unwrap();
        kept.push(snapshot(&store, directory.path()));
    }
    let segments = || store.list("index/").unwrap().len();
    assert_eq!(segments(), 20);
    let cached = CacheRoot::Directory(cache.path().to_owned());
    let unlock = Unlock::KeyFile(SecretKey::from_bytes(support::KEY));
    let open_cached = || Repository::open(store.clone(), &unlock, &cached).unwrap();
    open_cached().sync_index(&Silent).unwrap();
    prune_now(&store);
    assert_eq!(segments(), 21, "merged ones are deleted by a later prune");
    let before = open_cached();
    before.sync_index(&Silent).unwrap();
    prune_now(&store);
    assert_eq!(segments(), 1);
    for (id, expected) in [&kept[0], &kept[10], &kept[19]] {
        assert_eq!(contents(&open(&store), *id), *expected);
        assert_eq!(contents(&open_cached(), *id), *expected);
        assert_eq!(contents(&before, *id), *expected);
    }
    clean(&store);
}
