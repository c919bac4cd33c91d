//! Bytes that are altered on their way from a store, each the first time: they are
//! read again, and nobody calls them damaged.

mod support;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use esker::backup::backup;
use esker::check::{CheckOptions, Subset, check};
use esker::format::notes::MarkKind;
use esker::progress::Silent;
use esker::prune::{PruneOptions, prune};
use esker::repository::{Repository, now_ms};
use esker::restore::{RestoreOptions, restore};
use esker::store::{Listed, OpendalStore, Result, Sound, Store};
use support::{init, on_disk, options};

/// Alters a byte of each answer, unless that byte was given before.
struct Altering {
    inner: OpendalStore,
    given: Mutex<Vec<(String, Range<u64>)>>,
    altered: AtomicU64,
}

impl Altering {
    fn give(&self, key: &str, offset: u64, bytes: Bytes) -> Bytes {
        // what looks whether an object exists does not look at it
        if bytes.len() < 2 {
            return bytes;
        }
        let middle = bytes.len() / 2;
        let at = offset + middle as u64;
        let mut given = self.given.lock().unwrap();
        let was_given = given.iter().any(|(of, range)| of == key && range.contains(&at));
        given.push((key.to_owned(), offset..offset + bytes.len() as u64));
        if was_given {
            return bytes;
        }
        self.altered.fetch_add(1, Ordering::Relaxed);
        let mut bytes = bytes.to_vec();
        bytes[middle] ^= 1;
        bytes.into()
    }
}

impl Store for Altering {
    fn url(&self) -> &str {
        self.inner.url()
    }

    fn put(&self, key: &str, object: Bytes) -> Result<()> {
        self.inner.put(key, object)
    }

    fn get(&self, key: &str, max_length: u64) -> Result<Bytes> {
        Ok(self.give(key, 0, self.inner.get(key, max_length)?))
    }

    fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Bytes> {
        Ok(self.give(key, offset, self.inner.get_range(key, offset, length)?))
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        self.inner.list(prefix)
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.inner.delete(key)
    }
}

struct Scene {
    altering: Arc<Altering>,
    store: Arc<dyn Store>,
    directory: tempfile::TempDir,
}

impl Scene {
    fn new() -> Scene {
        let inner = OpendalStore::memory().unwrap();
        let (given, altered) = (Mutex::default(), AtomicU64::new(0));
        let altering = Arc::new(Altering { inner, given, altered });
        let store: Arc<dyn Store> = Arc::new(Sound::new(altering.clone()));
        init(&store);
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        fs::create_dir(&tree).unwrap();
        let mut noise = blake3::Hasher::new().finalize_xof();
        for number in 0..40 {
            let mut bytes = vec![0; 200_000 + number];
            noise.fill(&mut bytes);
            fs::write(tree.join(number.to_string()), bytes).unwrap();
        }
        Scene { altering, store, directory }
    }

    fn tree(&self) -> std::path::PathBuf {
        self.directory.path().join("tree")
    }

    /// Opens with nothing in a cache and every answer yet to be altered.
    fn open(&self) -> Repository {
        self.altering.given.lock().unwrap().clear();
        self.altering.altered.store(0, Ordering::Relaxed);
        support::open(&self.store)
    }

    fn back_up(&self) {
        let report = backup(&self.open(), &options(&self.tree()), Vec::new(), &Silent).unwrap();
        assert!(report.failures.is_empty());
    }

    #[track_caller]
    fn some_were_altered(&self) {
        assert!(self.altering.altered.load(Ordering::Relaxed) > 5);
    }
}

#[test]
fn restores_and_checks_read_again_what_was_altered() {
    let scene = Scene::new();
    scene.back_up();
    let repository = scene.open();
    let newest = repository.snapshots().unwrap().0.pop().unwrap();
    let target = scene.directory.path().join("out");
    let options = RestoreOptions { target: target.clone(), ..RestoreOptions::default() };
    let report = restore(&repository, &newest, &options, &Silent).unwrap();
    scene.some_were_altered();
    assert!(report.failures.is_empty() && report.damaged.is_empty(), "{report:?}");
    let names = |files: BTreeMap<Vec<u8>, Vec<u8>>| files.into_values().collect::<HashSet<_>>();
    assert_eq!(names(on_disk(&target)), names(on_disk(&scene.tree())));
    let repository = scene.open();
    let options = CheckOptions { read_data: Some(Subset::All), ..CheckOptions::default() };
    let report = check(&repository, &options, &Silent).unwrap();
    scene.some_were_altered();
    assert!(report.findings.is_empty(), "{report:?}");
}

#[test]
fn a_prune_reads_again_what_was_altered() {
    let scene = Scene::new();
    scene.back_up();
    let first = scene.open().snapshots().unwrap().0.pop().unwrap();
    for number in (0..40).step_by(2) {
        fs::remove_file(scene.tree().join(number.to_string())).unwrap();
    }
    scene.back_up();
    let repository = scene.open();
    repository.put_mark(first.id, MarkKind::Forget, now_ms()).unwrap();
    let repository = scene.open();
    let options =
        PruneOptions { grace: 0, trust_clock: true, full: true, ..PruneOptions::new(&repository) };
    let report = prune(&repository, &options, &Silent).unwrap();
    scene.some_were_altered();
    assert!(report.packs_repacked > 0, "{report:?}");
    let options = CheckOptions { read_data: Some(Subset::All), ..CheckOptions::default() };
    let report = check(&scene.open(), &options, &Silent).unwrap();
    assert!(report.findings.is_empty(), "{report:?}");
}
