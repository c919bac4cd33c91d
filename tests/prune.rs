//! Forget marks, undo and prune on a repository in memory: what is kept
//! restores, what is not goes.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use esker::format::notes::MarkKind;
use esker::id::SnapshotId;
use esker::progress::Silent;
use esker::prune::{PruneOptions, PruneReport, prune};
use esker::repository::{Repository, now_ms};
use esker::store::{OpendalStore, Store};
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
