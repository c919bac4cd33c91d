//! Two repositories with keys of their own, and a tree to save in the first.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use esker::backup::{BackupOptions, backup};
use esker::chunker::ChunkerParams;
use esker::copy::{CopyOptions, CopyReport, copy};
use esker::crypto::{SecretKey, Stretching};
use esker::format::content::{Content, Item};
use esker::format::entry::Entry;
use esker::format::slot::Role;
use esker::id::SnapshotId;
use esker::keys::AddOptions;
use esker::progress::Silent;
use esker::repository::local::CacheRoot;
use esker::repository::snapshots::Snapshot;
use esker::repository::{InitOptions, NewSlot, Repository, Result, Unlock};
use esker::store::{OpendalStore, Store};

use crate::support;

pub const THERE: [u8; 32] = [9; 32];

pub struct World {
    pub directory: tempfile::TempDir,
    pub source: Arc<dyn Store>,
    pub destination: Arc<dyn Store>,
}

pub fn memory() -> Arc<dyn Store> {
    Arc::new(OpendalStore::memory().unwrap())
}

/// A repository that cuts otherwise than the source does.
pub fn init_there(store: &Arc<dyn Store>) {
    let options = InitOptions {
        slot: NewSlot::KeyFile(SecretKey::from_bytes(THERE)),
        label: "there".into(),
        chunker: ChunkerParams::new(16 << 10).unwrap(),
        chunker_key: None,
        stretching: Stretching::default(),
    };
    Repository::init(store, &options).unwrap();
}

pub fn open_with(store: &Arc<dyn Store>, key: [u8; 32], cache: &CacheRoot) -> Result<Repository> {
    Repository::open(store.clone(), &Unlock::KeyFile(SecretKey::from_bytes(key)), cache)
}

pub fn open_there(store: &Arc<dyn Store>) -> Repository {
    open_with(store, THERE, &CacheRoot::None).unwrap()
}

pub fn options() -> CopyOptions {
    CopyOptions { host: "carrier".into(), compression: 3, ..CopyOptions::default() }
}

pub fn noise(seed: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new_keyed(&[seed; 32]).finalize_xof().fill(&mut bytes);
    bytes
}

impl World {
    pub fn new() -> World {
        let world = World {
            directory: tempfile::tempdir().unwrap(),
            source: memory(),
            destination: memory(),
        };
        support::init(&world.source);
        init_there(&world.destination);
        world.fill();
        world
    }

    pub fn tree(&self) -> PathBuf {
        self.directory.path().join("tree")
    }

    /// Small and long files, holes, links, and names of all sorts.
    fn fill(&self) {
        let tree = self.tree();
        fs::create_dir_all(tree.join("d/empty")).unwrap();
        for file in 0..60 {
            let text = format!("file {file} ").repeat(300 + file);
            fs::write(tree.join(format!("d/{file}")), text).unwrap();
        }
        // more than an entry names itself, so a list
        fs::write(tree.join("long"), noise(1, 5 << 20)).unwrap();
        fs::write(tree.join("nothing"), b"").unwrap();
        let sparse = fs::File::create(tree.join("sparse")).unwrap();
        sparse.set_len(3 << 20).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&sparse, &noise(2, 100_000), 1 << 20).unwrap();
        std::os::unix::fs::symlink("long", tree.join("link")).unwrap();
        fs::hard_link(tree.join("d/7"), tree.join("seven")).unwrap();
        fs::set_permissions(tree.join("d/8"), fs::Permissions::from_mode(0o4711)).unwrap();
        support::settle();
    }

    pub fn here(&self) -> Repository {
        support::open(&self.source)
    }

    pub fn there(&self) -> Repository {
        open_there(&self.destination)
    }

    pub fn save(&self) -> SnapshotId {
        self.save_with(|_| {})
    }

    pub fn save_with(&self, change: impl FnOnce(&mut BackupOptions)) -> SnapshotId {
        let mut options = support::options(&self.tree());
        change(&mut options);
        backup(&self.here(), &options, Vec::new(), &Silent).unwrap().snapshot.unwrap()
    }

    pub fn copy(&self) -> CopyReport {
        let report = copy(&self.here(), &self.there(), &options(), &Silent).unwrap();
        assert!(report.stopped.is_none(), "{:?}", report.stopped);
        report
    }
}

pub fn snapshot(repository: &Repository, id: SnapshotId) -> Snapshot {
    let (snapshots, troubles) = repository.snapshots().unwrap();
    assert!(troubles.is_empty(), "{troubles:?}");
    snapshots.into_iter().find(|snapshot| snapshot.id == id).unwrap()
}

/// Contents as far as they are the same under other keys.
fn without_ids(repository: &Repository, content: &Content) -> Content {
    match content {
        Content::Empty | Content::Inline(_) => content.clone(),
        _ => {
            let mut items = Vec::new();
            let mut keep = |item| {
                items.push(item);
                Ok(())
            };
            repository.items(content, &mut keep).unwrap();
            let strip = |item| match item {
                Item::Chunk { length, .. } => {
                    Item::Chunk { id: esker::id::ChunkId([0; 32]), length }
                }
                hole => hole,
            };
            Content::Items(items.into_iter().map(strip).collect())
        }
    }
}

/// Every entry of a snapshot, whole but for the ids of its chunks.
pub fn entries(repository: &Repository, id: SnapshotId) -> Vec<Entry> {
    repository.sync_index(&Silent).unwrap();
    let snapshot = snapshot(repository, id);
    let root = repository.private_part(&snapshot).unwrap().tree;
    let strip = |mut entry: Entry| {
        entry.content = without_ids(repository, &entry.content);
        for (_, value) in &mut entry.long_xattrs {
            *value = without_ids(repository, value);
        }
        entry
    };
    repository.tree(root, b"").map(|entry| strip(entry.unwrap())).collect()
}

/// The copy is the original: every entry, every byte, and a clean check.
pub fn assert_same(world: &World, original: SnapshotId, copy: SnapshotId) {
    let (here, there) = (world.here(), world.there());
    assert_eq!(entries(&here, original), entries(&there, copy));
    assert_eq!(support::contents(&here, original), support::contents(&there, copy));
}

/// All of a repository is whole, read to the last byte and counted anew.
pub fn assert_clean(repository: &Repository) {
    use esker::check::{CheckOptions, Subset, check};
    let options =
        CheckOptions { read_data: Some(Subset::All), refs: true, ..CheckOptions::default() };
    let report = check(repository, &options, &Silent).unwrap();
    assert!(report.is_ok(), "{:?}", report.findings);
}

/// A key of `role` for the destination, and the repository opened with it.
pub fn open_as(world: &World, role: Role) -> Repository {
    let key = [role as u8 + 100; 32];
    let slot = NewSlot::KeyFile(SecretKey::from_bytes(key));
    let label = role.name().to_owned();
    let options = AddOptions { role, label, slot, domain: None, same_writer: false };
    esker::keys::add(&world.there(), &options).unwrap();
    open_with(&world.destination, key, &CacheRoot::None).unwrap()
}
