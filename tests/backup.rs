//! Backups as a library user takes them: what is stored, read again, and found.

mod support;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use esker::store::{Counting, OpendalStore, OperationKind, Store};
use support::{init, open, run, settle};

fn tree(path: &Path) {
    for directory in 0..20 {
        let directory = path.join(format!("d{directory}"));
        fs::create_dir_all(&directory).unwrap();
        for file in 0..50 {
            let text = format!("{} {file} ", directory.display()).repeat(file * 7);
            fs::write(directory.join(format!("f{file}")), text).unwrap();
        }
    }
    let mut long = vec![0; 5 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut long);
    fs::write(path.join("long"), long).unwrap();
}

#[test]
fn an_unchanged_second_backup_puts_no_data_pack_and_reads_no_file() {
    let directory = tempfile::tempdir().unwrap();
    tree(directory.path());
    settle();
    let counting = Arc::new(Counting::new(Arc::new(OpendalStore::memory().unwrap())));
    let store: Arc<dyn Store> = counting.clone();
    init(&store);
    let first = run(&open(&store), directory.path());
    assert_eq!(first.counts.files, 1001);
    assert_eq!(first.counts.files_new, 1001);
    assert!(first.counts.failures == 0 && first.bytes_put > 5 << 20);
    counting.reset();
    let second = run(&open(&store), directory.path());
    assert_eq!(second.counts.files_unchanged, 1001);
    assert_eq!(second.counts.bytes_added, 0);
    assert!(second.unchanged);
    assert_eq!(counting.count(OperationKind::Put, "packs").calls, 0);
    let (snapshots, troubles) = open(&store).snapshots().unwrap();
    assert!(troubles.is_empty(), "{troubles:?}");
    assert_eq!(snapshots.len(), 2);
    assert!(snapshots.iter().all(|snapshot| snapshot.is_complete()));
}
