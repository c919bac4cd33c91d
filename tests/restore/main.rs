//! Restores as a library user makes them: trees written back, compared in
//! content and metadata with what was saved.

#[path = "../support/mod.rs"]
mod support;

mod damage;
mod dump;
mod existing;
mod tree;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use esker::files::{Item, WalkOptions, walk};
use esker::format::entry::{Metadata, key_of_path};
use esker::progress::{Event, Progress, Silent};
use esker::repository::Repository;
use esker::repository::snapshots::Snapshot;
use esker::restore::{RestoreOptions, RestoreReport, restore};
use esker::store::{LocalStore, Store};

/// A repository in a directory, a source and a place for targets.
pub struct Fixture {
    pub base: tempfile::TempDir,
    pub store: Arc<dyn Store>,
}

#[expect(clippy::new_without_default, reason = "it makes a directory and a repository")]
impl Fixture {
    pub fn new() -> Fixture {
        let base = tempfile::tempdir().unwrap();
        let store = LocalStore::create(&base.path().join("repository")).unwrap();
        let store: Arc<dyn Store> = Arc::new(store);
        support::init(&store);
        fs::create_dir(base.path().join("source")).unwrap();
        Fixture { base, store }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.base.path().join(name)
    }

    pub fn source(&self) -> PathBuf {
        self.path("source")
    }

    pub fn open(&self) -> Repository {
        let repository = support::open(&self.store);
        repository.sync_index(&Silent).unwrap();
        repository
    }

    /// Saves the source.
    pub fn save(&self) {
        support::settle();
        let report = support::run(&self.open(), &self.source());
        assert_eq!(report.failures, []);
    }

    pub fn newest(&self, repository: &Repository) -> Snapshot {
        repository.snapshots().unwrap().0.pop().unwrap()
    }

    /// Options that put the contents of the source into `name`.
    pub fn options(&self, name: &str) -> RestoreOptions {
        RestoreOptions {
            target: self.path(name),
            path: Some(key(&self.source())),
            ..RestoreOptions::default()
        }
    }

    pub fn restore(&self, options: &RestoreOptions) -> RestoreReport {
        let repository = self.open();
        restore(&repository, &self.newest(&repository), options, &Silent).unwrap()
    }

    /// Packs of a kind: 1 data, 2 tree.
    pub fn packs(&self, kind: u8) -> Vec<PathBuf> {
        let listed = self.store.list("packs/").unwrap();
        let paths = listed.iter().map(|listed| self.path("repository").join(&listed.key));
        paths.filter(|path| fs::read(path).unwrap()[6] == kind).collect()
    }
}

pub fn key(path: &Path) -> Vec<u8> {
    key_of_path(path.as_os_str().as_bytes())
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub fn random_bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Everything a tree is, by path: kind and metadata without what no restore
/// can set, content, and which paths are one file.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    kind: String,
    metadata: Metadata,
    content: Vec<u8>,
    first_name: Option<Vec<u8>>,
}

pub fn see(top: &Path) -> BTreeMap<Vec<u8>, Seen> {
    let mut seen = BTreeMap::new();
    let mut names: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let options = WalkOptions { read_xattrs: true, ..WalkOptions::default() };
    walk(&[top.to_owned()], &options, &mut |item| {
        let Item::Found(found) = item else { panic!("something could not be walked") };
        let Some(below) = found.path.strip_prefix(top.as_os_str().as_bytes()) else {
            return std::ops::ControlFlow::Continue(());
        };
        let path = Path::new(std::ffi::OsStr::from_bytes(&found.path)).to_owned();
        let plain = fs::symlink_metadata(&path).unwrap();
        let content = if plain.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        let first_name = (plain.nlink() > 1 && !plain.is_dir())
            .then(|| names.entry(plain.ino()).or_insert_with(|| below.to_vec()).clone());
        assert!(!plain.file_type().is_socket());
        let mut metadata = found.metadata.clone();
        (metadata.ctime, metadata.inode) = Default::default();
        let kind = format!("{:?}", found.kind);
        seen.insert(below.to_vec(), Seen { kind, metadata, content, first_name });
        std::ops::ControlFlow::Continue(())
    });
    seen
}

/// Compares two trees in everything but inode and change time.
#[track_caller]
pub fn check(expected: &Path, found: &Path) {
    check_seen(see(expected), see(found));
}

/// The same without the directories themselves: a target that was there
/// before keeps its own metadata.
#[track_caller]
pub fn check_below(expected: &Path, found: &Path) {
    let below = |top: &Path| {
        let mut seen = see(top);
        seen.remove(&b""[..]);
        seen
    };
    check_seen(below(expected), below(found));
}

#[track_caller]
fn check_seen(expected: BTreeMap<Vec<u8>, Seen>, found: BTreeMap<Vec<u8>, Seen>) {
    let names = |tree: &BTreeMap<Vec<u8>, Seen>| {
        tree.keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&expected), names(&found));
    for (path, seen) in &expected {
        let other = &found[path];
        let path = String::from_utf8_lossy(path);
        assert_eq!(seen.metadata, other.metadata, "{path}");
        assert_eq!((&seen.kind, &seen.first_name), (&other.kind, &other.first_name), "{path}");
        assert!(seen.content == other.content, "{path}: content");
    }
}

/// Remembers lines, and can interrupt after so many bytes.
#[derive(Default)]
pub struct Listener {
    pub lines: Mutex<Vec<(String, Vec<u8>, u64)>>,
    pub done: Mutex<u64>,
    pub interrupt_after: Option<u64>,
}

impl Progress for Listener {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Line { kind, path, bytes } => {
                self.lines.lock().unwrap().push((kind.to_owned(), path.to_vec(), bytes));
            }
            Event::Done { bytes, .. } => *self.done.lock().unwrap() += bytes,
            _ => {}
        }
    }

    fn interrupted(&self) -> bool {
        self.interrupt_after.is_some_and(|limit| *self.done.lock().unwrap() >= limit)
    }
}
