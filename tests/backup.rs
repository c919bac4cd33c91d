//! Backups as a library user takes them: what is stored, read again, and found.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use esker::backup::{BackupOptions, BackupReport, backup};
use esker::chunker::ChunkerParams;
use esker::crypto::{SecretKey, Stretching};
use esker::progress::Silent;
use esker::repository::local::CacheRoot;
use esker::repository::{InitOptions, NewSlot, Repository, Unlock};
use esker::store::{Counting, OpendalStore, OperationKind, Store};

const KEY: [u8; 32] = [7; 32];

fn init(store: &Arc<dyn Store>) {
    let options = InitOptions {
        slot: NewSlot::KeyFile(SecretKey::from_bytes(KEY)),
        label: "test".into(),
        chunker: ChunkerParams::default(),
        chunker_key: None,
        stretching: Stretching::default(),
    };
    Repository::init(store, &options).unwrap();
}

fn open(store: &Arc<dyn Store>) -> Repository {
    let unlock = Unlock::KeyFile(SecretKey::from_bytes(KEY));
    Repository::open(store.clone(), &unlock, &CacheRoot::None).unwrap()
}

fn options(path: &Path) -> BackupOptions {
    BackupOptions {
        paths: vec![path.to_owned()],
        host: "host".into(),
        profile: "default".into(),
        compression: 3,
        ..BackupOptions::default()
    }
}

fn run(repository: &Repository, path: &Path) -> BackupReport {
    backup(repository, &options(path), Vec::new(), &Silent).unwrap()
}

/// Changes older than the clock's grain are told apart from racy ones.
fn settle() {
    std::thread::sleep(std::time::Duration::from_millis(60));
}

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
