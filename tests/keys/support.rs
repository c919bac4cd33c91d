//! A small repository with keys of every role, and somebody who tries every
//! secret he has on every object.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use esker::backup::{BackupOptions, BackupReport, backup};
use esker::chunker::ChunkerParams;
use esker::crypto::{HybridPrivate, SecretKey, Stretching, keys as derive, open as unseal};
use esker::format::object;
use esker::format::pack::{Session, SessionKey, TocFrame};
use esker::format::slot::Role;
use esker::format::{ChunkKind, Kind, Place, block_place};
use esker::id::SnapshotId;
use esker::keys::{self, AddOptions, AddReport};
use esker::progress::Silent;
use esker::repository::blocks::session_place;
use esker::repository::local::CacheRoot;
use esker::repository::snapshots::{Snapshot, State};
use esker::repository::{ErrorKind, InitOptions, NewSlot, Repository, Result, Unlock};
use esker::store::{OpendalStore, Store};

pub const ADMIN: u8 = 1;
pub type SharedStore = Arc<dyn Store>;

pub fn memory() -> SharedStore {
    Arc::new(OpendalStore::memory().unwrap())
}

pub fn key(number: u8) -> SecretKey {
    SecretKey::from_bytes([number; 32])
}

pub fn quick() -> Stretching {
    Stretching { memory_kib: 64, passes: 1, lanes: 1 }
}

/// A repository in memory whose full key is key file `number`.
pub fn init_with(number: u8) -> SharedStore {
    let store = memory();
    init_in(&store, NewSlot::KeyFile(key(number))).unwrap();
    store
}

pub fn init() -> SharedStore {
    init_with(ADMIN)
}

pub fn init_in(store: &SharedStore, slot: NewSlot) -> Result<esker::id::RepositoryId> {
    let options = InitOptions {
        slot,
        label: "anna".into(),
        chunker: ChunkerParams::default(),
        chunker_key: None,
        stretching: quick(),
    };
    Repository::init(store, &options)
}

pub fn try_open(store: &SharedStore, number: u8) -> Result<Repository> {
    Repository::open(store.clone(), &Unlock::KeyFile(key(number)), &CacheRoot::None)
}

pub fn open(store: &SharedStore, number: u8) -> Repository {
    try_open(store, number).unwrap()
}

pub fn open_cached(store: &SharedStore, number: u8, cache: &Path) -> Result<Repository> {
    let cache = CacheRoot::Directory(cache.to_owned());
    Repository::open(store.clone(), &Unlock::KeyFile(key(number)), &cache)
}

pub fn admin(store: &SharedStore) -> Repository {
    open(store, ADMIN)
}

pub fn options(role: Role, number: u8) -> AddOptions {
    AddOptions {
        role,
        label: format!("{} {number}", role.name()),
        slot: NewSlot::KeyFile(key(number)),
        domain: None,
        same_writer: false,
    }
}

/// A key of `role`, opened with key file `number`.
pub fn add(store: &SharedStore, role: Role, number: u8) -> AddReport {
    keys::add(&admin(store), &options(role, number)).unwrap()
}

pub fn tree(path: &Path, names: &[&str]) {
    for name in names {
        let directory = path.join("payroll");
        fs::create_dir_all(&directory).unwrap();
        let bytes: Vec<u8> = blake3_stream(name, 200_000);
        fs::write(directory.join(name), bytes).unwrap();
    }
}

fn blake3_stream(seed: &str, length: usize) -> Vec<u8> {
    (0u32..)
        .flat_map(|n| *blake3::hash(format!("{seed} {n}").as_bytes()).as_bytes())
        .take(length)
        .collect()
}

pub fn try_backup(repository: &Repository, path: &Path) -> Result<BackupReport> {
    let options = BackupOptions {
        paths: vec![path.to_owned()],
        host: "lighthouse".into(),
        profile: "default".into(),
        compression: 3,
        ..BackupOptions::default()
    };
    backup(repository, &options, Vec::new(), &Silent)
}

pub fn back_up(repository: &Repository, path: &Path) -> SnapshotId {
    try_backup(repository, path).unwrap().snapshot.unwrap()
}

pub fn snapshots(repository: &Repository) -> Vec<Snapshot> {
    let (snapshots, troubles) = repository.snapshots().unwrap();
    assert!(troubles.is_empty(), "{troubles:?}");
    snapshots
}

pub fn state(repository: &Repository, id: SnapshotId) -> State {
    snapshots(repository).into_iter().find(|snapshot| snapshot.id == id).unwrap().state
}

/// Reads a snapshot to its last byte; how many entries it has.
pub fn read_all(repository: &Repository, id: SnapshotId) -> Result<usize> {
    repository.sync_index(&Silent)?;
    let snapshot = snapshots(repository).into_iter().find(|s| s.id == id).unwrap();
    let private = repository.private_part(&snapshot)?;
    let mut entries = 0;
    for entry in repository.tree(private.tree, b"") {
        let entry = entry?;
        repository.read_value(&entry.content, 1 << 30)?;
        entries += 1;
    }
    Ok(entries)
}

pub fn kind_of<T>(result: Result<T>) -> ErrorKind {
    result.err().expect("an error").kind
}

/// Keys that begin so, whether or not that is a directory.
pub fn keys_of(store: &SharedStore, prefix: &str) -> Vec<String> {
    let listed = store.list("").unwrap().into_iter().map(|listed| listed.key);
    listed.filter(|key| key.starts_with(prefix)).collect()
}

pub fn get(store: &SharedStore, key: &str) -> Bytes {
    store.get(key, 1 << 30).unwrap()
}

/// What only the store itself can do: other bytes under a key.
pub fn replace(store: &SharedStore, key: &str, bytes: Bytes) {
    store.delete(key).unwrap();
    store.put(key, bytes).unwrap();
}

/// Copies everything, as a thief or an old backup of the bucket would.
pub fn copy_store(from: &SharedStore) -> SharedStore {
    let to = memory();
    for key in keys_of(from, "") {
        to.put(&key, get(from, &key)).unwrap();
    }
    to
}

/// What trying every secret on every object opened.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Loot {
    /// Public parts: manifests, sessions, tables of contents.
    pub public: usize,
    /// Private parts of manifests and other objects.
    pub private: usize,
    /// Session keys of packs.
    pub sessions: usize,
    /// Blocks of data, lists and trees, tried with each secret itself.
    pub blocks: usize,
    /// Private parts, session keys and blocks there were to open.
    pub tried: usize,
}

impl Loot {
    pub fn secrets(&self) -> usize {
        self.private + self.sessions + self.blocks
    }
}

/// Every 32-byte secret of a key, and all that derives from any of them as if it
/// were a root.
fn secrets(repository: &Repository) -> Vec<[u8; 32]> {
    let held = repository.keyring().secrets();
    let mut all: Vec<[u8; 32]> = vec![*held.signer.seed(), *held.recipient.seed()];
    all.extend(held.root.iter().chain(&held.chunker).map(|key| *key.bytes()));
    all.extend(held.chunk_ids.iter().map(|(_, key)| *key.bytes()));
    for epoch in repository.keyring().epoch_keys() {
        all.push(*epoch.index.bytes());
        all.extend(epoch.content.iter().map(|key| *key.seed()));
    }
    let derived: Vec<_> = all
        .iter()
        .flat_map(|bytes| {
            let root = SecretKey::from_bytes(*bytes);
            let by_epoch = |epoch| {
                [*derive::content(&root, epoch).seed(), *derive::index(&root, epoch).bytes()]
            };
            (1..4).flat_map(by_epoch).collect::<Vec<_>>()
        })
        .collect();
    all.extend(derived);
    all.sort_unstable();
    all.dedup();
    all
}

/// Tries every secret of `repository`'s key on the objects in `keys`.
pub fn try_everything(store: &SharedStore, repository: &Repository, keys: &[String]) -> Loot {
    let secrets = secrets(repository);
    let pairs: Vec<_> = secrets.iter().map(|seed| HybridPrivate::from_seed(*seed)).collect();
    let symmetric: Vec<_> = secrets.iter().map(|bytes| SecretKey::from_bytes(*bytes)).collect();
    let mut loot = Loot::default();
    for key in keys {
        let bytes = get(store, key);
        for kind in [Kind::Session, Kind::Manifest, Kind::Confirmation, Kind::Mark, Kind::Record] {
            let Ok(object) = object::parse(&bytes, kind) else { continue };
            let place = Place { repository: repository.id(), kind, epoch: object.epoch, key };
            loot.public +=
                usize::from(symmetric.iter().any(|key| object.open(key, &place).is_ok()));
            if !object.attachment.is_empty() {
                loot.tried += 1;
                let opens = |pair| object.open_attachment(pair, &place).is_ok();
                loot.private += usize::from(pairs.iter().any(opens));
            }
        }
        if key.starts_with("packs/") {
            try_pack(&bytes, repository, &pairs, &symmetric, &mut loot);
        }
    }
    loot
}

fn try_pack(
    bytes: &[u8],
    repository: &Repository,
    pairs: &[HybridPrivate],
    symmetric: &[SecretKey],
    loot: &mut Loot,
) {
    let frame = TocFrame::of_pack(bytes).unwrap();
    let Some(toc) = symmetric.iter().find_map(|key| frame.open(repository.id(), key).ok()) else {
        loot.tried += 1;
        return;
    };
    loot.public += 1;
    for Session { epoch, key, .. } in &toc.sessions {
        let SessionKey::Sealed(sealed) = key else { continue };
        loot.tried += 1;
        let place = session_place(repository.id(), *epoch);
        loot.sessions += usize::from(pairs.iter().any(|pair| pair.open(&place, sealed).is_ok()));
    }
    for (block, offset) in toc.blocks.iter().zip(toc.offsets()) {
        if block.kind == ChunkKind::Refs {
            continue;
        }
        loot.tried += 1;
        let stored = &bytes[offset as usize..offset as usize + block.stored_length as usize];
        let place = block_place(repository.id(), block.kind, block.codec, block.raw_length);
        let opens = |key| unseal(key, &place, stored).is_ok();
        loot.blocks += usize::from(symmetric.iter().any(opens));
    }
}

/// Objects that are there now and were not `before`.
pub fn new_since(store: &SharedStore, before: &[String]) -> Vec<String> {
    let before: HashSet<_> = before.iter().collect();
    keys_of(store, "").into_iter().filter(|key| !before.contains(key)).collect()
}
