//! Work over a distant store: what does not depend on each other is asked for
//! together, and the number of round trips is known.

mod support;

use std::fs;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;
use esker::backup::{BackupOptions, backup};
use esker::check::{CheckOptions, check};
use esker::crypto::SecretKey;
use esker::files::Rules;
use esker::format::notes::MarkKind;
use esker::progress::Silent;
use esker::prune::{PruneOptions, prune};
use esker::repository::local::CacheRoot;
use esker::repository::{Repository, Unlock, now_ms};
use esker::restore::{RestoreOptions, restore};
use esker::store::{Counting, Listed, OperationKind, Result, Store};
use support::{KEY, init, on_disk, options};

use OperationKind::{Get, GetRange, List};

/// A range that is data, and no table of contents.
const LARGE: u64 = 160 << 10;

/// Requests that must be under way at the same time: kind and beginning of the
/// key, which is `large …` for a large range.
type Group = Vec<(OperationKind, &'static str)>;

/// Holds the requests of a group until all of them have come. Groups are formed
/// in their order.
struct Meeting {
    inner: Arc<dyn Store>,
    groups: Mutex<Groups>,
    came: Condvar,
}

#[derive(Default)]
struct Groups {
    /// Those still to come, of each group.
    missing: Vec<Group>,
    /// Groups of which somebody waited in vain.
    failed: Vec<Group>,
}

/// Long enough for the slowest machine; waited for only when a test fails.
const PATIENCE: Duration = Duration::from_secs(20);

impl Meeting {
    fn new(inner: Arc<dyn Store>, groups: &[Group]) -> Arc<Meeting> {
        let groups = Groups { missing: groups.to_vec(), failed: Vec::new() };
        Arc::new(Meeting { inner, groups: Mutex::new(groups), came: Condvar::new() })
    }

    fn meet(&self, kind: OperationKind, key: &str) {
        let mut groups = self.groups.lock().unwrap();
        let is_it = |(of, prefix): &(OperationKind, &str)| *of == kind && key.starts_with(prefix);
        let group = groups.missing.iter().position(|group| group.iter().any(is_it));
        // whoever is named in a later group has not come to it yet
        let Some(group) = group.filter(|at| groups.missing[..*at].iter().all(Vec::is_empty)) else {
            return;
        };
        let own = groups.missing[group].iter().position(is_it).unwrap();
        groups.missing[group].remove(own);
        self.came.notify_all();
        let waits = |groups: &mut Groups| !groups.missing[group].is_empty();
        let (mut groups, waited) = self.came.wait_timeout_while(groups, PATIENCE, waits).unwrap();
        if waited.timed_out() {
            let missing = std::mem::take(&mut groups.missing[group]);
            groups.failed.push(missing);
            self.came.notify_all();
        }
    }

    #[track_caller]
    fn all_met(&self) {
        let groups = self.groups.lock().unwrap();
        assert!(groups.failed.is_empty(), "did not come in time: {:?}", groups.failed);
        assert!(groups.missing.iter().all(Vec::is_empty), "never came: {:?}", groups.missing);
    }
}

impl Store for Meeting {
    fn url(&self) -> &str {
        self.inner.url()
    }

    fn put(&self, key: &str, object: Bytes) -> Result<()> {
        self.inner.put(key, object)
    }

    fn get(&self, key: &str, max_length: u64) -> Result<Bytes> {
        self.meet(Get, key);
        self.inner.get(key, max_length)
    }

    fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Bytes> {
        let large = if length >= LARGE { "large " } else { "" };
        self.meet(GetRange, &format!("{large}{key}"));
        self.inner.get_range(key, offset, length)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        self.meet(List, prefix);
        self.inner.list(prefix)
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.inner.delete(key)
    }
}

struct Scene {
    directory: tempfile::TempDir,
    store: Arc<dyn Store>,
}

impl Scene {
    /// A memory store, and so many mebibytes of noise in files of which every
    /// second is called `…goes`.
    fn new(mebibytes: usize) -> Scene {
        Scene::of(tempfile::tempdir().unwrap(), mebibytes)
    }

    fn of(directory: tempfile::TempDir, mebibytes: usize) -> Scene {
        fs::create_dir_all(directory.path().join("tree")).unwrap();
        fs::create_dir_all(directory.path().join("cache")).unwrap();
        let store: Arc<dyn Store> = Arc::new(esker::store::OpendalStore::memory().unwrap());
        init(&store);
        let scene = Scene { directory, store };
        let mut noise = blake3::Hasher::new().finalize_xof();
        for number in 0..mebibytes {
            let mut bytes = vec![0; 1 << 20];
            noise.fill(&mut bytes);
            let fate = if number % 2 == 0 { "goes" } else { "stays" };
            fs::write(scene.tree().join(format!("{number:03}-{fate}")), bytes).unwrap();
        }
        scene
    }

    fn tree(&self) -> std::path::PathBuf {
        self.directory.path().join("tree")
    }

    /// The repository behind a store that holds these groups up.
    fn open(&self, cache: &str, groups: &[Group]) -> (Repository, Arc<Meeting>, Arc<Counting>) {
        let meeting = Meeting::new(self.store.clone(), groups);
        let counting = Arc::new(Counting::new(meeting.clone()));
        let cache = CacheRoot::Directory(self.directory.path().join(cache));
        let unlock = Unlock::KeyFile(SecretKey::from_bytes(KEY));
        (Repository::open(counting.clone(), &unlock, &cache).unwrap(), meeting, counting)
    }

    fn back_up(&self, options: &BackupOptions) {
        let (repository, ..) = self.open("cache", &[]);
        backup(&repository, options, Vec::new(), &Silent).unwrap();
    }
}

fn requests(counting: &Counting) -> u64 {
    OperationKind::ALL.iter().map(|kind| counting.total(*kind).calls).sum()
}

/// A backup of an unchanged tree makes few requests, of which few wait for
/// another: so many round trips it takes, however many snapshots there are.
#[test]
fn an_unchanged_tree_takes_fifteen_round_trips() {
    // the directories above are in the snapshot, too: others make their entries elsewhere
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let scene = Scene::of(directory, 1);
    support::settle();
    for _ in 0..5 {
        scene.back_up(&options(&scene.tree()));
    }
    let groups: &[Group] = &[
        // the updates were listed; the session was put: what is in the way, what was here before, what is left of others
        vec![(List, "index/"), (List, "confirmed/"), (List, "marks/"), (List, "snapshots/")],
        vec![(List, "sweeps/"), (List, "snapshots/"), (List, "sessions/")],
        // of the last snapshot
        vec![(Get, "snapshots/"), (Get, "confirmed/")],
        // a page of its tree is read,
        // manifest put, plans, index, packs listed, confirmation put, plans listed; it ends with the
        // updates and the sign that the run ended
        vec![(GetRange, "snapshots/"), (GetRange, "confirmed/")],
    ];
    let (repository, meeting, counting) = scene.open("cache", groups);
    let report = backup(&repository, &options(&scene.tree()), Vec::new(), &Silent).unwrap();
    assert!(report.unchanged);
    meeting.all_met();
    let together: usize = groups.iter().map(|group| group.len() - 1).sum();
    // two threads that want the same block at the same time may both ask for it
    let trips = requests(&counting) - together as u64;
    assert!((15..=16).contains(&trips), "{trips} {:#?}", counting.counts());
}

/// What a machine without a cache needs of every snapshot comes several at once.
#[test]
fn an_empty_cache_fills_with_several_requests_at_once() {
    let scene = Scene::new(1);
    for number in 0..3 {
        fs::write(scene.tree().join("more"), number.to_string()).unwrap();
        scene.back_up(&options(&scene.tree()));
    }
    let of_snapshots = [vec![(Get, "snapshots/"); 3], vec![(Get, "confirmed/"); 3]].concat();
    let groups: &[Group] = &[vec![(Get, "index/"); 3], of_snapshots];
    let (repository, meeting, _) = scene.open("empty", groups);
    repository.sync_index(&Silent).unwrap();
    assert_eq!(repository.snapshots().unwrap().0.len(), 3);
    meeting.all_met();
}

/// Ranges come while others are opened and written.
#[test]
fn a_restore_fetches_several_ranges_at_once() {
    let scene = Scene::new(24);
    scene.back_up(&options(&scene.tree()));
    let (repository, meeting, counting) =
        scene.open("cache", &[vec![(GetRange, "large packs/"); 4]]);
    let snapshots = repository.snapshots().unwrap().0;
    let target = scene.directory.path().join("out");
    let options = RestoreOptions { target: target.clone(), ..RestoreOptions::default() };
    restore(&repository, &snapshots[0], &options, &Silent).unwrap();
    let beneath = |path: &Path| {
        let files = on_disk(path).into_iter();
        files.map(|(_, bytes)| blake3::hash(&bytes)).collect::<Vec<_>>()
    };
    assert_eq!(beneath(&target), beneath(&scene.tree()));
    // whole packs in ranges of four mebibytes, and nothing twice
    let read = counting.count(GetRange, "packs");
    assert!((6..=10).contains(&read.calls), "{read:?}");
    assert!(read.bytes < 25 << 20, "{read:?}");
    meeting.all_met();
}

/// What is needed is read ahead while what came is packed.
#[test]
fn a_prune_reads_several_ranges_at_once() {
    let scene = Scene::new(24);
    scene.back_up(&options(&scene.tree()));
    let (repository, ..) = scene.open("cache", &[]);
    let old = repository.snapshots().unwrap().0;
    repository.put_mark(old[0].id, MarkKind::Forget, now_ms()).unwrap();
    let rules = Rules::new(&["*-goes".to_owned()], &[]).unwrap();
    let half = BackupOptions { rules: Some(Arc::new(rules)), ..options(&scene.tree()) };
    scene.back_up(&half);
    let (repository, meeting, counting) =
        scene.open("cache", &[vec![(GetRange, "large packs/"); 4]]);
    let options =
        PruneOptions { grace: 0, trust_clock: true, full: true, ..PruneOptions::new(&repository) };
    let report = prune(&repository, &options, &Silent).unwrap();
    assert!(report.packs_repacked > 0, "{report:?}");
    meeting.all_met();
    // half of it is needed, in blocks that hold something else at their ends
    let read = counting.count(GetRange, "packs").bytes;
    assert!(((11 << 20)..(18 << 20)).contains(&read), "{read}");
    let (repository, ..) = scene.open("cache", &[]);
    let report = check(&repository, &CheckOptions::default(), &Silent).unwrap();
    assert!(report.findings.is_empty(), "{report:?}");
}
