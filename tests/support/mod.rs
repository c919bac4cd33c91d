//! What tests of whole repositories share: a repository with a key file in any
//! store, and the contents of a snapshot as plain values.

#![allow(dead_code)] // each test binary uses its part

pub mod program;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use esker::backup::{BackupOptions, BackupReport, backup};
use esker::chunker::ChunkerParams;
use esker::crypto::{SecretKey, Stretching};
use esker::format::ChunkKind;
use esker::format::content::Item;
use esker::format::entry::{EntryKind, display_key};
use esker::id::SnapshotId;
use esker::progress::Silent;
use esker::repository::local::CacheRoot;
use esker::repository::{InitOptions, NewSlot, Repository, Result, Unlock};
use esker::store::{OpendalStore, Store};

pub const KEY: [u8; 32] = [7; 32];

pub fn init(store: &Arc<dyn Store>) {
    let options = InitOptions {
        slot: NewSlot::KeyFile(SecretKey::from_bytes(KEY)),
        label: "test".into(),
        chunker: ChunkerParams::default(),
        chunker_key: None,
        stretching: Stretching::default(),
    };
    Repository::init(store, &options).unwrap();
}

pub fn try_open(store: &Arc<dyn Store>) -> Result<Repository> {
    let unlock = Unlock::KeyFile(SecretKey::from_bytes(KEY));
    Repository::open(store.clone(), &unlock, &CacheRoot::None)
}

pub fn open(store: &Arc<dyn Store>) -> Repository {
    try_open(store).unwrap()
}

pub fn options(path: &Path) -> BackupOptions {
    BackupOptions {
        paths: vec![path.to_owned()],
        host: "host".into(),
        profile: "default".into(),
        compression: 3,
        ..BackupOptions::default()
    }
}

pub fn run(repository: &Repository, path: &Path) -> BackupReport {
    backup(repository, &options(path), Vec::new(), &Silent).unwrap()
}

/// Lets the file system's clock tick, so that what was just written is not racy.
pub fn settle() {
    std::thread::sleep(std::time::Duration::from_millis(60));
}

/// A memory store with the same objects.
pub fn memory_of(store: &Arc<dyn Store>) -> Arc<dyn Store> {
    let copy = OpendalStore::memory().unwrap();
    copy_all(&**store, &copy);
    Arc::new(copy)
}

pub fn copy_all(from: &dyn Store, to: &dyn Store) {
    for listed in from.list("").unwrap() {
        to.put(&listed.key, from.get(&listed.key, u64::MAX).unwrap()).unwrap();
    }
}

/// Path and bytes of every file of a snapshot.
pub fn contents(repository: &Repository, id: SnapshotId) -> BTreeMap<Vec<u8>, Vec<u8>> {
    repository.sync_index(&Silent).unwrap();
    let (snapshots, _) = repository.snapshots().unwrap();
    let snapshot = snapshots.iter().find(|snapshot| snapshot.id == id).unwrap();
    let root = repository.private_part(snapshot).unwrap().tree;
    let mut files = BTreeMap::new();
    for entry in repository.tree(root, b"") {
        let entry = entry.unwrap();
        if entry.kind != EntryKind::File {
            continue;
        }
        let mut bytes = Vec::new();
        repository
            .items(&entry.content, &mut |item| {
                match item {
                    Item::Chunk { id, .. } => {
                        bytes.extend(repository.read_chunk(&id, ChunkKind::Data)?)
                    }
                    Item::Hole { length } => bytes.resize(bytes.len() + length as usize, 0),
                }
                Ok(())
            })
            .unwrap();
        assert_eq!(bytes.len() as u64, entry.metadata.size);
        files.insert(display_key(&entry.key), bytes);
    }
    files
}

/// Path and bytes of every file below a directory.
pub fn on_disk(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            files.extend(on_disk(&entry.path()));
        } else {
            let path = entry.path().as_os_str().as_bytes().to_vec();
            files.insert(path, fs::read(entry.path()).unwrap());
        }
    }
    files
}
