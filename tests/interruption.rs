//! A backup that dies at any store operation loses no earlier snapshot, and the
//! next one is whole.

mod support;

use std::fs;
use std::sync::Arc;

use esker::progress::Silent;
use esker::store::{Faulty, OpendalStore, Store};
use support::{contents, init, memory_of, open, options, settle};

#[test]
fn a_crash_at_every_store_operation_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path().join("tree");
    for file in 0..40 {
        fs::create_dir_all(tree.join("d")).unwrap();
        fs::write(tree.join(format!("d/{file}")), format!("first {file} ").repeat(500)).unwrap();
    }
    settle();
    let base = Arc::new(OpendalStore::memory().unwrap());
    let store: Arc<dyn Store> = base.clone();
    init(&store);
    let first = support::run(&open(&store), &tree).snapshot.unwrap();
    let before = contents(&open(&store), first);
    for file in 0..30 {
        fs::write(tree.join(format!("d/{file}")), format!("second {file} ").repeat(500)).unwrap();
    }
    settle();
    let mut completed = 0;
    for stop in 1..200 {
        let copy = memory_of(&store);
        let faulty = Arc::new(Faulty::stop_at(copy.clone(), stop));
        let crashing: Arc<dyn Store> = faulty.clone();
        let outcome = support::try_open(&crashing).and_then(|repository| {
            esker::backup::backup(&repository, &options(&tree), Vec::new(), &Silent)
        });
        let repository = open(&copy);
        let (snapshots, troubles) = repository.snapshots().unwrap();
        assert!(troubles.is_empty(), "stopped at {stop}: {troubles:?}");
        assert!(snapshots.iter().any(|s| s.id == first && s.is_good()), "stopped at {stop}");
        assert_eq!(contents(&repository, first), before, "stopped at {stop}");
        match outcome {
            Ok(report) => {
                let id = report.snapshot.unwrap();
                assert!(snapshots.iter().any(|s| s.id == id && s.is_good()), "stopped at {stop}");
                completed += 1;
            }
            Err(_) => assert!(faulty.is_stopped(), "stopped at {stop}"),
        }
        let after = support::run(&repository, &tree).snapshot.unwrap();
        assert_eq!(support::on_disk(&tree), contents(&open(&copy), after), "stopped at {stop}");
        if completed == 2 {
            assert!(stop > 20, "a backup of {stop} operations was not looked at closely");
            return;
        }
    }
    panic!("a backup takes more than 200 store operations");
}

/// What a crashed run had uploaded is adopted, also when no segment names it.
#[test]
fn packs_of_a_crashed_run_are_not_uploaded_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut noise = vec![0; 6 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    fs::write(directory.path().join("noise"), &noise).unwrap();
    settle();
    let store: Arc<dyn Store> = Arc::new(OpendalStore::memory().unwrap());
    init(&store);
    // stop when the first segment is about to be put: the packs are there by then
    let crashing: Arc<dyn Store> = Arc::new(Faulty::new(store.clone(), |operation| {
        if operation.key.starts_with("index/") && operation.kind == esker::store::OperationKind::Put
        {
            esker::store::Decision::Stop
        } else {
            esker::store::Decision::Pass
        }
    }));
    esker::backup::backup(&open(&crashing), &options(directory.path()), Vec::new(), &Silent)
        .unwrap_err();
    assert!(!store.list("packs/").unwrap().is_empty());
    let report = support::run(&open(&store), directory.path());
    assert!(report.bytes_put < 1 << 20, "{} bytes put again", report.bytes_put);
    assert_eq!(
        contents(&open(&store), report.snapshot.unwrap()),
        support::on_disk(directory.path())
    );
}
