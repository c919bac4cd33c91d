//! Confirmations without a manifest: what a check makes of them.

mod support;

use std::fs;
use std::sync::Arc;

use esker::check::{CheckOptions, CheckReport, check};
use esker::format::manifest::manifest_key;
use esker::format::notes::confirmation_key;
use esker::progress::Silent;

use esker::store::{Decision, Faulty, OpendalStore, OperationKind, Store};
use support::{init, open, run};

fn memory() -> Arc<dyn Store> {
    let store: Arc<dyn Store> = Arc::new(OpendalStore::memory().unwrap());
    init(&store);
    store
}

fn tree() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("file"), "content").unwrap();
    directory
}

fn checked(store: &Arc<dyn Store>) -> CheckReport {
    check(&open(store), &CheckOptions::default(), &Silent).unwrap()
}

/// A sweep took the manifest just before the run confirmed it; the run put
/// another that replaces it.
#[test]
fn what_confirms_a_replaced_manifest_is_a_note() {
    let (store, tree) = (memory(), tree());
    let beside = store.clone();
    let faulty: Arc<dyn Store> = Arc::new(Faulty::new(store.clone(), move |operation| {
        let confirmed = operation.key.strip_prefix("confirmed/");
        if let (OperationKind::Put, Some(id)) = (operation.kind, confirmed)
            && beside.list("confirmed/").unwrap().is_empty()
        {
            beside.delete(&format!("snapshots/{id}")).unwrap();
        }
        Decision::Pass
    }));
    let snapshot = run(&open(&faulty), tree.path()).snapshot.unwrap();
    let orphan = store
        .list("confirmed/")
        .unwrap()
        .into_iter()
        .find(|listed| listed.key != confirmation_key(snapshot))
        .unwrap();
    let report = checked(&store);
    assert_eq!(report.findings, []);
    let note = report.notes.iter().find(|note| note.key == orphan.key);
    assert!(note.is_some_and(|note| note.what.contains("gave up")), "{:?}", report.notes);
}

/// Its run ended and called it good: somebody took it who may not.
#[test]
fn a_confirmed_manifest_that_was_deleted_is_damage() {
    let (store, tree) = (memory(), tree());
    let snapshot = run(&open(&store), tree.path()).snapshot.unwrap();
    store.delete(&manifest_key(snapshot)).unwrap();
    let report = checked(&store);
    let finding = report.findings.iter().find(|found| found.key == manifest_key(snapshot));
    assert!(finding.is_some_and(|found| found.what.contains("was confirmed")), "{report:?}");
}
