//! Plans in `sweeps/`: whoever relies on data must know what they name, and one
//! that cannot be read may name anything.

mod support;

use std::fs;
use std::sync::Arc;

use bytes::Bytes;
use esker::backup::{BackupReport, backup};
use esker::crypto::SecretKey;
use esker::format::Kind;
use esker::format::notes::{MarkKind, Sweep, sweep_key};
use esker::format::slot::Role;
use esker::id::{SnapshotId, SweepId};
use esker::keys::{AddOptions, add};
use esker::progress::Silent;
use esker::repository::local::CacheRoot;
use esker::repository::{Error, ErrorKind, NewSlot, Repository, Result, Unlock, now_ms};

use esker::store::{Decision, Faulty, OpendalStore, OperationKind, Store};
use esker::undo::{Undone, undo};
use support::{init, open, options, run};

fn memory() -> Arc<dyn Store> {
    let store: Arc<dyn Store> = Arc::new(OpendalStore::memory().unwrap());
    init(&store);
    store
}

fn tree() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("file"), [5; 100_000]).unwrap();
    directory
}

fn try_run(repository: &Repository, tree: &tempfile::TempDir) -> Result<BackupReport> {
    backup(repository, &options(tree.path()), Vec::new(), &Silent)
}

/// Puts a plan that nobody can read.
fn put_garbage(store: &dyn Store) -> String {
    let key = sweep_key(SweepId::random());
    store.put(&key, Bytes::from_static(b"no plan")).unwrap();
    key
}

fn names_a_way_out(error: &Error) {
    assert_eq!(error.kind, ErrorKind::Damage, "{error}");
    assert!(error.message.contains("--drop-unreadable-plans"), "{error}");
}

/// A repository that was open when a maintainer was added reads his plans.
#[test]
fn a_plan_by_somebody_added_since_is_read() {
    let store = memory();
    let before = open(&store);
    let key = SecretKey::from_bytes([9; 32]);
    let added = AddOptions {
        role: Role::Maintain,
        label: "new".into(),
        slot: NewSlot::KeyFile(key.clone()),
        domain: None,
        same_writer: false,
    };
    add(&open(&store), &added).unwrap();
    let maintainer =
        Repository::open(store.clone(), &Unlock::KeyFile(key), &CacheRoot::None).unwrap();
    let manifest = SnapshotId::random();
    let plan = Sweep { manifests: vec![manifest], packs: vec![], time: now_ms(), kept: vec![] };
    let key = sweep_key(SweepId::random());
    maintainer.put_object(Kind::Sweep, &key, &plan.encode(), None).unwrap();
    let plans = before.announced().unwrap();
    assert!(plans.unreadable.is_empty() && plans.ignored.is_empty(), "{plans:?}");
    assert_eq!(plans.announced[0].sweep.manifests, [manifest]);
}

/// Step B1: nothing is uploaded that the commit check would have to throw away.
#[test]
fn a_backup_stops_at_an_unreadable_plan_before_it_reads_anything() {
    let (store, tree) = (memory(), tree());
    let key = put_garbage(&*store);
    let error = try_run(&open(&store), &tree).unwrap_err();
    names_a_way_out(&error);
    assert!(error.message.contains(&key), "{error}");
    assert!(store.list("packs/").unwrap().is_empty());
    store.delete(&key).unwrap();
    run(&open(&store), tree.path());
}

/// Step B7: the plan that comes after the commit check may name the snapshot.
#[test]
fn a_snapshot_is_not_good_beside_an_unreadable_plan() {
    let (inner, tree) = (memory(), tree());
    let beside = inner.clone();
    let faulty: Arc<dyn Store> = Arc::new(Faulty::new(inner, move |operation| {
        if operation.kind == OperationKind::Put && operation.key.starts_with("confirmed/") {
            put_garbage(&*beside);
        }
        Decision::Pass
    }));
    names_a_way_out(&try_run(&open(&faulty), &tree).unwrap_err());
}

/// What an unreadable plan names is unknown: neither recovered nor too late.
#[test]
fn an_undo_beside_an_unreadable_plan_is_put_off() {
    let (store, tree) = (memory(), tree());
    let snapshot = run(&open(&store), tree.path()).snapshot.unwrap();
    let repository = open(&store);
    repository.put_mark(snapshot, MarkKind::Forget, 12_345).unwrap();
    let key = put_garbage(&*store);
    let all = || repository.snapshots().unwrap().0;
    let take_back = || undo(&repository, &all(), &[snapshot], now_ms(), &Silent);
    names_a_way_out(&take_back().unwrap_err());
    assert_eq!(all()[0].forgotten, Some(12_345));
    store.delete(&key).unwrap();
    assert_eq!(take_back().unwrap(), [(snapshot, Undone::Recovered)]);
}
