//! What a prune leaves to the keys beside the one that made it.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use esker::format::notes::MarkKind;
use esker::format::pack::{PackKind, pack_key};
use esker::format::slot::Role;
use esker::id::SnapshotId;
use esker::keys::{self, RemoveOptions};
use esker::progress::Silent;
use esker::prune::{PruneOptions, PruneReport, prune};
use esker::repository::{Repository, now_ms};
use esker::store::{Decision, Faulty, OperationKind};

use crate::support::*;

/// Forgets a snapshot and deletes all that nobody needs then.
fn forget_and_prune(repository: &Repository, id: SnapshotId) -> PruneReport {
    repository.put_mark(id, MarkKind::Forget, now_ms()).unwrap();
    prune_all(repository)
}

fn prune_all(repository: &Repository) -> PruneReport {
    let options = PruneOptions { grace: 0, max_unused: 0.0, ..PruneOptions::new(repository) };
    prune(repository, &options, &Silent).unwrap()
}

/// Two backups, the second without half of the first; then the first goes, and
/// what stays of its pack is moved.
fn save_and_move(
    store: &SharedStore,
    writer: u8,
    pruner: u8,
    path: &Path,
) -> (SnapshotId, PruneReport) {
    tree(path, &["kept", "dropped"]);
    let first = back_up(&open(store, writer), path);
    fs::remove_file(path.join("payroll/dropped")).unwrap();
    let second = back_up(&open(store, writer), path);
    (second, forget_and_prune(&open(store, pruner), first))
}

/// A pack is lost that only the leaver's segments list. The index still tells
/// what was in it, so a prune keeps the copies that a backup made meanwhile.
#[test]
fn lost_packs_of_a_leaver_stay_in_the_index() {
    let store = init();
    let leaver = add(&store, Role::Full, 2);
    let directory = tempfile::tempdir().unwrap();
    let (old, report) = save_and_move(&store, 2, 2, directory.path());
    assert!(report.packs_repacked > 0, "{report:?}");
    let full = admin(&store);
    full.sync_index(&Silent).unwrap();
    for (_, info) in full.index().packs() {
        if info.kind == PackKind::Data {
            store.delete(&pack_key(info.id)).unwrap();
        }
    }
    assert!(read_all(&admin(&store), old).is_err());
    let healing = back_up(&admin(&store), directory.path());
    assert!(read_all(&admin(&store), old).is_ok());
    let removed =
        keys::remove(&admin(&store), leaver.slot, &RemoveOptions::default(), &Silent).unwrap();
    assert!(removed.carried.is_some());
    prune_all(&admin(&store));
    forget_and_prune(&admin(&store), healing);
    prune_all(&admin(&store));
    assert!(read_all(&admin(&store), old).is_ok());
}

/// A prune of the leaver's that ends between the look at his segments and the
/// update that revokes him is taken over as well.
#[test]
fn what_a_leaver_did_at_the_last_moment_is_taken_over() {
    let store = init();
    let leaver = add(&store, Role::Full, 2);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    tree(path, &["kept", "dropped"]);
    let first = back_up(&open(&store, 2), path);
    fs::remove_file(path.join("payroll/dropped")).unwrap();
    let second = back_up(&open(&store, 2), path);
    let beside = store.clone();
    let done = AtomicBool::new(false);
    let faulty: SharedStore = Arc::new(Faulty::new(store.clone(), move |operation| {
        let update = operation.key.starts_with("config-updates/");
        let puts_update = operation.kind == OperationKind::Put && update;
        if puts_update && !done.swap(true, Ordering::SeqCst) {
            let report = forget_and_prune(&open(&beside, 2), first);
            assert!(report.packs_repacked > 0, "{report:?}");
        }
        Decision::Pass
    }));
    keys::remove(&admin(&faulty), leaver.slot, &RemoveOptions::default(), &Silent).unwrap();
    let full = admin(&store);
    assert!(full.sync_index(&Silent).unwrap().is_empty());
    let moved = full.index().packs().into_iter().find(|(_, info)| info.has_foreign);
    assert!(moved.is_some(), "where he moved chunks is not forgotten");
    for _ in 0..2 {
        let report = prune_all(&admin(&store));
        assert!(report.damage.is_empty(), "{report:?}");
        assert!(read_all(&admin(&store), second).is_ok());
    }
}

/// Whose claim a chunk is goes with the chunk when a prune moves it: a writer
/// finds his own again, and nobody finds another domain's.
#[test]
fn moved_chunks_stay_in_their_domain() {
    let store = init();
    add(&store, Role::Write, 2);
    let directory = tempfile::tempdir().unwrap();
    let (_, report) = save_and_move(&store, 2, ADMIN, directory.path());
    assert!(report.packs_repacked > 0, "{report:?}");
    // the same content elsewhere, where no parent tells of it
    let put = |number: u8| {
        let elsewhere = tempfile::tempdir().unwrap();
        tree(elsewhere.path(), &["kept"]);
        try_backup(&open(&store, number), elsewhere.path()).unwrap().bytes_put
    };
    let by_writer = put(2);
    assert!(by_writer < 100_000, "{by_writer}");
    let by_full = put(ADMIN);
    assert!(by_full > 200_000, "{by_full}");
    let again = put(ADMIN);
    assert!(again < 100_000, "{again}");
}
