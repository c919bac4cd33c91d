//! Damage and what mends it: the next backup stores lost chunks again, and
//! whatever cannot be mended is declared lost. Nothing that was not saved is
//! ever given out as content.

#[path = "../support/mod.rs"]
mod support;

mod healing;
mod index;
mod references;
mod snapshots;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use esker::backup::{BackupOptions, BackupReport, backup};
use esker::check::{CheckOptions, CheckReport, Subset, check};
use esker::crypto::SecretKey;
use esker::format::pack::{PackKind, pack_key};
use esker::format::slot::Role;
use esker::id::PackId;
use esker::keys::add::{AddOptions, add};
use esker::progress::Silent;
use esker::repository::local::CacheRoot;
use esker::repository::{NewSlot, Repository, Unlock};
use esker::store::{OpendalStore, Store};
use support::{init, open, options, settle};

/// The name that the saved directory is recorded under.
const RECORDED: &str = "/esker-was-here";

fn noise(seed: &str, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A repository in memory, and a directory that was saved to it once.
struct Fixture {
    store: Arc<dyn Store>,
    directory: Arc<tempfile::TempDir>,
}

impl Fixture {
    /// The same directory, and a store of its own with the same objects.
    fn copy(&self) -> Fixture {
        Fixture { store: support::memory_of(&self.store), directory: self.directory.clone() }
    }

    fn new() -> Fixture {
        let store: Arc<dyn Store> = Arc::new(OpendalStore::memory().unwrap());
        init(&store);
        let directory = tempfile::tempdir().unwrap();
        for file in 0..40 {
            let sub = directory.path().join(format!("d{}", file % 4));
            fs::create_dir_all(&sub).unwrap();
            fs::write(sub.join(format!("f{file}")), noise(&file.to_string(), 30_000)).unwrap();
        }
        // long enough for a list of its own
        fs::write(directory.path().join("long"), noise("long", 5 << 20)).unwrap();
        settle();
        Fixture { store, directory: Arc::new(directory) }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn save(&self) -> BackupReport {
        self.save_with(&open(&self.store))
    }

    fn save_with(&self, repository: &Repository) -> BackupReport {
        backup(repository, &self.options(), Vec::new(), &Silent).unwrap()
    }

    /// Recorded under a name of its own: the directories above, which others
    /// change all the time, are then no part of the tree.
    fn options(&self) -> BackupOptions {
        let map = vec![(self.path().to_owned(), RECORDED.into())];
        BackupOptions { map, ..options(self.path()) }
    }

    fn check(&self) -> CheckReport {
        check_all(&open(&self.store))
    }

    fn packs(&self, kind: PackKind) -> Vec<PackId> {
        let repository = open(&self.store);
        repository.sync_index(&Silent).unwrap();
        let packs = repository.index().packs().into_iter();
        packs.filter(|(_, info)| info.kind == kind).map(|(_, info)| info.id).collect()
    }

    fn damage_pack(&self, id: PackId, action: Action) {
        damage(&*self.store, &pack_key(id), action);
    }

    /// What is on disk, under the names that are recorded.
    fn on_disk(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let recorded = |(path, bytes): (Vec<u8>, Vec<u8>)| {
            let below = &path[self.path().as_os_str().len()..];
            ([RECORDED.as_bytes(), below].concat(), bytes)
        };
        support::on_disk(self.path()).into_iter().map(recorded).collect()
    }

    /// Everything on disk is in the snapshot, byte for byte.
    fn is_as_on_disk(&self, id: esker::id::SnapshotId) {
        assert!(support::contents(&open(&self.store), id) == self.on_disk());
    }
}

fn check_all(repository: &Repository) -> CheckReport {
    let options =
        CheckOptions { read_data: Some(Subset::All), affected: true, refs: true, snapshots: None };
    check(repository, &options, &Silent).unwrap()
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Action {
    Flip,
    Truncate,
    Delete,
}

const ACTIONS: [Action; 3] = [Action::Flip, Action::Truncate, Action::Delete];

fn damage(store: &dyn Store, key: &str, action: Action) {
    let mut bytes = store.get(key, u64::MAX).unwrap().to_vec();
    store.delete(key).unwrap();
    match action {
        Action::Flip => {
            // in the first block of a pack
            let at = 20.min(bytes.len() / 2);
            bytes[at] ^= 0x40;
        }
        Action::Truncate => bytes.truncate(bytes.len() / 2),
        Action::Delete => return,
    }
    store.put(key, Bytes::from(bytes)).unwrap();
}

/// A key of another role in the same repository.
fn open_as(store: &Arc<dyn Store>, role: Role) -> Repository {
    let key = SecretKey::from_bytes([role as u8 + 40; 32]);
    let slot = NewSlot::KeyFile(key);
    let label = role.name().to_owned();
    let options = AddOptions { role, label, slot, domain: None, same_writer: false };
    add(&open(store), &options).unwrap();
    reopen(store, role)
}

fn reopen(store: &Arc<dyn Store>, role: Role) -> Repository {
    let key = SecretKey::from_bytes([role as u8 + 40; 32]);
    Repository::open(store.clone(), &Unlock::KeyFile(key), &CacheRoot::None).unwrap()
}
