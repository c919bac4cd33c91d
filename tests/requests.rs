//! What a store that charges for requests is asked for. The limits are those that
//! `docs/stores.md` states.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use esker::backup::{StreamSource, backup};
use esker::crypto::SecretKey;
use esker::progress::Silent;
use esker::repository::local::CacheRoot;
use esker::repository::runs::Whereabouts;
use esker::repository::{Repository, Unlock, now_ms};
use esker::restore::{RestoreOptions, restore};
use esker::status::overview;
use esker::store::{Counting, Listed, OpendalStore, OperationKind, Result, Store};
use support::{KEY, init, options};

const MIB: u64 = 1 << 20;

/// Keeps of long objects only that they were put: nothing here reads data again.
struct Hollow {
    inner: OpendalStore,
    long: Mutex<BTreeMap<String, u64>>,
}

impl Store for Hollow {
    fn url(&self) -> &str {
        self.inner.url()
    }

    fn put(&self, key: &str, object: Bytes) -> Result<()> {
        if (object.len() as u64) < 16 * MIB {
            return self.inner.put(key, object);
        }
        self.long.lock().unwrap().insert(key.to_owned(), object.len() as u64);
        Ok(())
    }

    fn get(&self, key: &str, max_length: u64) -> Result<Bytes> {
        self.inner.get(key, max_length)
    }

    fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Bytes> {
        self.inner.get_range(key, offset, length)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        let mut listed = self.inner.list(prefix)?;
        let long = self.long.lock().unwrap();
        let long = long.iter().filter(|(key, _)| key.starts_with(prefix));
        listed.extend(long.map(|(key, length)| Listed { key: key.clone(), length: *length }));
        listed.sort_unstable();
        Ok(listed)
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.inner.delete(key)
    }
}

/// Packs are listed directory by directory, and each listing is written down.
struct Directories {
    inner: Arc<dyn Store>,
    listed: Mutex<Vec<String>>,
}

impl Store for Directories {
    fn url(&self) -> &str {
        self.inner.url()
    }

    fn put(&self, key: &str, object: Bytes) -> Result<()> {
        self.inner.put(key, object)
    }

    fn get(&self, key: &str, max_length: u64) -> Result<Bytes> {
        self.inner.get(key, max_length)
    }

    fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Bytes> {
        self.inner.get_range(key, offset, length)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        self.listed.lock().unwrap().push(prefix.to_owned());
        self.inner.list(prefix)
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.inner.delete(key)
    }

    fn has_directories(&self) -> bool {
        true
    }
}

struct Scene {
    directory: tempfile::TempDir,
    counting: Arc<Counting>,
    store: Arc<dyn Store>,
}

impl Scene {
    fn new() -> Scene {
        let directory = tempfile::tempdir().unwrap();
        for name in ["tree", "cache", "empty"] {
            fs::create_dir_all(directory.path().join(name)).unwrap();
        }
        let inner = OpendalStore::memory().unwrap();
        let counting = Arc::new(Counting::new(Arc::new(Hollow { inner, long: Mutex::default() })));
        let store: Arc<dyn Store> = counting.clone();
        init(&store);
        Scene { directory, counting, store }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn open(&self, cache: &str) -> Repository {
        let cache = CacheRoot::Directory(self.path(cache));
        let unlock = Unlock::KeyFile(SecretKey::from_bytes(KEY));
        Repository::open(self.store.clone(), &unlock, &cache).unwrap()
    }

    /// Two nights of a tree of 500 files.
    fn with_snapshots() -> Scene {
        let scene = Scene::new();
        for number in 0..500 {
            let directory = scene.path("tree").join(format!("{:02}", number % 20));
            fs::create_dir_all(&directory).unwrap();
            let text = format!("{number} ").repeat(number * 7);
            fs::write(directory.join(number.to_string()), text).unwrap();
        }
        support::settle();
        scene.back_up();
        fs::write(scene.path("tree").join("new"), "new").unwrap();
        support::settle();
        scene.back_up();
        scene
    }

    fn back_up(&self) -> bool {
        let options = options(&self.path("tree"));
        backup(&self.open("cache"), &options, Vec::new(), &Silent).unwrap().unchanged
    }

    /// Requests that `work` makes, from opening the repository on.
    fn requests(&self, work: impl FnOnce()) -> u64 {
        self.counting.reset();
        work();
        OperationKind::ALL.iter().map(|kind| self.counting.total(*kind).calls).sum()
    }

    #[track_caller]
    fn at_most(&self, limit: u64, requests: u64) {
        assert!(requests <= limit, "{requests} requests: {:#?}", self.counting.counts());
    }
}

/// So many bytes that do not compress.
fn noise(bytes: u64) -> StreamSource {
    let reader = blake3::Hasher::new().finalize_xof().take(bytes);
    StreamSource::reader("noise", Box::new(reader))
}

/// Each GiB more of a first backup: its packs, and checkpoints.
#[test]
fn a_gib_first_stored_takes_at_most_45_requests() {
    let stored = |bytes: u64| {
        let scene = Scene::new();
        let options =
            esker::backup::BackupOptions { paths: Vec::new(), ..options(&scene.path("tree")) };
        let requests = scene.requests(|| {
            backup(&scene.open("cache"), &options, vec![noise(bytes)], &Silent).unwrap();
        });
        (requests, scene)
    };
    let (little, _) = stored(64 * MIB);
    let (much, scene) = stored(64 * MIB + 1024 * MIB);
    scene.at_most(little + 45, much);
    // and what a backup takes anyway
    assert!(little <= 35, "{little} requests for 64 MiB");
}

#[test]
fn an_unchanged_night_takes_at_most_25_requests() {
    let scene = Scene::with_snapshots();
    let requests = scene.requests(|| assert!(scene.back_up()));
    scene.at_most(25, requests);
    // none of them lists more than is there: a page of a thousand is enough
    let listed: u64 = scene.counting.counts().values().map(|count| count.listed).sum();
    assert!(listed < 100, "{listed} objects listed");
}

/// Where every directory costs a request, only those are listed that hold a pack which the snapshot relies on: none of
/// the packs that another source has put.
#[test]
fn packs_are_listed_where_the_snapshot_relies_on_them() {
    let scene = Scene::new();
    let store =
        Arc::new(Directories { inner: scene.store.clone(), listed: Mutex::new(Vec::new()) });
    let open = || {
        let cache = CacheRoot::Directory(scene.path("cache"));
        let unlock = Unlock::KeyFile(SecretKey::from_bytes(KEY));
        Repository::open(store.clone(), &unlock, &cache).unwrap()
    };
    let packs = || {
        let listed = scene.store.list("packs/").unwrap().into_iter();
        listed.map(|listed| listed.key).collect::<BTreeSet<_>>()
    };
    let only_streams =
        esker::backup::BackupOptions { paths: Vec::new(), ..options(&scene.path("tree")) };
    backup(&open(), &only_streams, vec![noise(400 * MIB)], &Silent).unwrap();
    let of_the_noise = packs();
    fs::write(scene.path("tree").join("file"), "text").unwrap();
    support::settle();
    let night = |relied_on: Option<BTreeSet<String>>| {
        store.listed.lock().unwrap().clear();
        backup(&open(), &options(&scene.path("tree")), Vec::new(), &Silent).unwrap();
        let of_the_tree = packs();
        let of_the_tree = of_the_tree.difference(&of_the_noise);
        let of_the_tree: BTreeSet<_> = of_the_tree.map(|key| key[..9].to_owned()).collect();
        let listed = store.listed.lock().unwrap();
        let listed: BTreeSet<_> =
            listed.iter().filter(|prefix| prefix.starts_with("packs/")).cloned().collect();
        assert_eq!(listed, relied_on.unwrap_or_else(|| of_the_tree.clone()));
        of_the_tree
    };
    let first = night(None);
    assert!(!first.is_empty() && first.len() < 4, "{first:?}");
    // a night in which nothing changed relies on what the first one put
    night(Some(first));
}

#[test]
fn a_file_from_an_empty_cache_takes_at_most_20_requests() {
    let scene = Scene::with_snapshots();
    let tree = scene.path("tree");
    let wanted = tree.join("07/407");
    let key = format!("files{}", wanted.display()).replace('/', "\0").into_bytes();
    let target = scene.path("out");
    let requests = scene.requests(|| {
        let repository = scene.open("empty");
        let newest = repository.snapshots().unwrap().0.pop().unwrap();
        let options =
            RestoreOptions { target: target.clone(), path: Some(key), ..RestoreOptions::default() };
        assert_eq!(restore(&repository, &newest, &options, &Silent).unwrap().files_written, 1);
    });
    assert_eq!(fs::read(target.join("407")).unwrap(), fs::read(wanted).unwrap());
    scene.at_most(20, requests);
}

#[test]
fn a_list_of_snapshots_from_a_warm_cache_takes_5_requests() {
    let scene = Scene::with_snapshots();
    let look = || {
        let repository = scene.open("cache");
        let here = Whereabouts::here(repository.id());
        overview(&repository, &here, now_ms()).unwrap()
    };
    look();
    let requests = scene.requests(|| assert_eq!(look().snapshots.len(), 2));
    scene.at_most(5, requests);
}

/// What is remembered of a repository is no reason not to see that it went.
#[test]
fn a_remembered_repository_that_went_is_missed() {
    let scene = Scene::with_snapshots();
    scene.open("cache");
    for listed in scene.store.list("").unwrap() {
        scene.store.delete(&listed.key).unwrap();
    }
    let cache = CacheRoot::Directory(scene.path("cache"));
    let open = || {
        let unlock = Unlock::KeyFile(SecretKey::from_bytes(KEY));
        Repository::open(scene.store.clone(), &unlock, &cache).map(drop).unwrap_err()
    };
    assert!(open().message.contains("not the repository this machine used"), "{}", open());
    // another one in its place
    init(&scene.store);
    assert!(open().message.contains("not the repository this machine used"), "{}", open());
}
