//! Where runs begin: a few small repositories with a history, and the
//! directories that are backed up. Both are made once and used by many runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use esker::backup::{BackupOptions, BackupReport, backup};
use esker::chunker::ChunkerParams;
use esker::crypto::{SecretKey, Stretching, keys as derive};
use esker::format::notes::MarkKind;
use esker::format::slot::Role;
use esker::format::update;
use esker::id::{ObjectHash, SnapshotId};
use esker::keys::{self, AddOptions};
use esker::progress::{Progress, Silent};
use esker::prune::{PruneOptions, plan_only, prune};
use esker::repository::local::CacheRoot;
use esker::repository::{InitOptions, NewSlot, Repository, Result, Unlock, now_ms};
use esker::store::{Faulty, Store};

use crate::dice::Dice;
use crate::nature;
use crate::world::{BEGINNING, Handle, Objects, World};

pub const FULL: u8 = 1;
pub const WRITE: u8 = 2;
pub const MAINTAIN: u8 = 3;
/// Another full key: the same deduplication domain, another writer.
pub const FULL_TOO: u8 = 4;

/// How many repositories there are to begin with.
pub const BASES: usize = 16;
/// Seconds that listings may lag, where they do.
pub const LAG_S: u64 = 2;

/// Names and bytes of files.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A directory to back up.
pub struct Tree {
    pub path: PathBuf,
    pub files: Files,
}

/// A repository that runs begin with.
pub struct Base {
    pub objects: Objects,
    pub snapshots: Vec<Known>,
    /// Whether a prune would find something to move.
    pub moves: bool,
}

/// A snapshot that was reported good.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    pub id: SnapshotId,
    pub tree: usize,
    pub forgotten: bool,
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// All directories. They stay where they are from one process to the next, and
/// with them what the file system says of their files.
pub fn trees() -> &'static [Tree] {
    static TREES: OnceLock<Vec<Tree>> = OnceLock::new();
    TREES.get_or_init(|| {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("simulator");
        let mut dice = Dice::new(1);
        (0..14).map(|number| tree(&root.join(number.to_string()), &mut dice)).collect()
    })
}

/// One to four files out of few, so that most chunks are in several trees.
fn tree(path: &Path, dice: &mut Dice) -> Tree {
    fs::create_dir_all(path).unwrap();
    let mut files = Files::new();
    for _ in 0..1 + dice.below(4) {
        let number = dice.below(6);
        let length = 2_000 + 700 * number;
        let name = format!("file{number}");
        let bytes = noise(number as u64, length);
        let file = path.join(&name);
        if fs::read(&file).ok().as_ref() != Some(&bytes) {
            fs::write(&file, &bytes).unwrap();
            let time = UNIX_EPOCH + Duration::from_secs(1_600_000_000);
            fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
        }
        files.insert(name, bytes);
    }
    Tree { path: path.to_owned(), files }
}

/// Opens the repository with the key of this number.
pub fn open(store: Arc<dyn Store>, number: u8, cache: Option<&Path>) -> Repository {
    let unlock = Unlock::KeyFile(SecretKey::from_bytes([number; 32]));
    let cache = cache.map_or(CacheRoot::None, |path| CacheRoot::Directory(path.to_owned()));
    Repository::open(store, &unlock, &cache).unwrap()
}

pub fn back_up(
    repository: &Repository,
    tree: usize,
    profile: &str,
    progress: &dyn Progress,
) -> Result<BackupReport> {
    let path = trees()[tree].path.clone();
    let options = BackupOptions {
        map: vec![(path.clone(), PathBuf::from("/home"))],
        paths: vec![path],
        host: "host".into(),
        profile: profile.into(),
        zone: "UTC".into(),
        compression: 3,
        read_concurrency: 1,
        ..BackupOptions::default()
    };
    backup(repository, &options, Vec::new(), progress)
}

/// Frees all that can be freed, now.
pub fn thorough(repository: &Repository) -> PruneOptions {
    PruneOptions {
        grace: 0,
        max_unused: 0.0,
        full: true,
        trust_clock: true,
        ..PruneOptions::new(repository)
    }
}

fn init(store: &Arc<dyn Store>) {
    let options = InitOptions {
        slot: NewSlot::KeyFile(SecretKey::from_bytes([FULL; 32])),
        label: "anna".into(),
        chunker: ChunkerParams::default(),
        chunker_key: None,
        stretching: Stretching { memory_kib: 64, passes: 1, lanes: 1 },
    };
    Repository::init(store, &options).unwrap();
    for (number, role) in [(WRITE, Role::Write), (MAINTAIN, Role::Maintain), (FULL_TOO, Role::Full)]
    {
        let options = AddOptions {
            role,
            label: format!("key {number}"),
            slot: NewSlot::KeyFile(SecretKey::from_bytes([number; 32])),
            domain: None,
            same_writer: false,
        };
        keys::add(&open(store.clone(), FULL, None), &options).unwrap();
    }
}

/// Says in a config update that listings lag.
fn state_lag(repository: &Repository) {
    let store = repository.store();
    let newest = store.list(update::PREFIX).unwrap().pop().unwrap();
    let mut next = repository.update().clone();
    next.number += 1;
    next.previous = vec![ObjectHash::of(&store.get(&newest.key, 1 << 20).unwrap())];
    next.listing_lag = Some(LAG_S);
    next.sort();
    let key = update::new_key(next.number);
    let root = repository.keyring().secrets().root.clone().unwrap();
    let bytes = next.encode(repository.id(), &key, &derive::admin(&root));
    store.put(&key, bytes.into()).unwrap();
}

/// The repository of this number; with `lags` its listings may lag.
pub fn base(number: usize, lags: bool) -> Arc<Base> {
    static MADE: Mutex<BTreeMap<(usize, bool), Arc<Base>>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.entry((number, lags)).or_insert_with(|| Arc::new(make(number, lags))).clone()
}

fn make(number: usize, lags: bool) -> Base {
    nature::seed_chance(number as u64);
    let mut dice = Dice::new(number as u64);
    let world = World::quiet(Objects::new());
    let store = Handle::alone(&world);
    init(&store);
    let mut snapshots = Vec::new();
    for _ in 0..1 + dice.below(3) {
        world.pass(60_000);
        let tree = dice.below(trees().len());
        let key = dice.pick(&[FULL, FULL, FULL_TOO, WRITE]);
        if dice.likely(250) {
            // a run that ends in the middle
            let stop = 12 + dice.below(6) as u64;
            let broken: Arc<dyn Store> = Arc::new(Faulty::stop_at(store.clone(), stop));
            let unlock = Unlock::KeyFile(SecretKey::from_bytes([key; 32]));
            if let Ok(repository) = Repository::open(broken, &unlock, &CacheRoot::None) {
                let _ = back_up(&repository, dice.below(trees().len()), "other", &Silent);
            }
        }
        let profile = dice.pick(&["one", "two"]);
        let report = back_up(&open(store.clone(), key, None), tree, profile, &Silent).unwrap();
        let forgotten = dice.likely(500);
        let id = report.snapshot.unwrap();
        let repository = open(store.clone(), FULL, None);
        if forgotten {
            repository.put_mark(id, MarkKind::Forget, now_ms()).unwrap();
        }
        snapshots.push(Known { id, tree, forgotten });
        if dice.likely(250) {
            prune(&repository, &thorough(&repository), &Silent).unwrap();
            snapshots.retain(|known| !known.forgotten);
        }
    }
    if lags {
        state_lag(&open(store.clone(), FULL, None));
    }
    let repository = open(store, FULL, None);
    let plan = plan_only(&repository, &thorough(&repository), &Silent).unwrap();
    let mut objects = world.objects();
    objects.values_mut().for_each(|object| object.visible = BEGINNING);
    nature::restore();
    Base { objects, snapshots, moves: !plan.repack.is_empty() }
}
