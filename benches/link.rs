//! What a distant store costs: backup, restore, check and prune over a link of
//! 50 ms and a given rate, with every request counted. Prints a table a tree.
//!
//! `cargo bench --bench link [-- TREE…] [--mbits N…] [--noise MIB] [--only OPERATION]`
//!
//! Without a tree: `/usr/lib/python3`, and 256 MiB of noise in files of 100 KiB
//! to 10 MiB. *Link use* is what the busier direction carried, as a share of
//! what it could have carried in the time. Every operation is a process of its
//! own.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{init, key, used};
use esker::backup::{BackupOptions, backup};
use esker::check::{CheckOptions, Subset, check};
use esker::files::Rules;
use esker::format::notes::MarkKind;
use esker::progress::Silent;
use esker::prune::{PruneOptions, prune};
use esker::repository::local::CacheRoot;
use esker::repository::{Repository, Unlock, now_ms};
use esker::restore::{RestoreOptions, restore};
use esker::store::{Counting, LocalStore, OperationKind, Slow, Store};

const LATENCY: Duration = Duration::from_millis(50);
/// What the second snapshot leaves out: about half of everything.
const HALF: [&str; 2] = ["[a-m]*.*", "*-goes.noise"];
/// Operations in their order, and whether they are measured.
const OPERATIONS: [(&str, bool); 8] = [
    ("first backup", true),
    ("backup again", true),
    ("restore", true),
    ("restore, empty cache", true),
    ("check --read-data", true),
    ("half is gone", false),
    ("prune", true),
    ("prune again", true),
];

fn options(tree: &Path) -> BackupOptions {
    BackupOptions {
        paths: vec![tree.to_owned()],
        host: "host".into(),
        profile: "default".into(),
        compression: 3,
        ..BackupOptions::default()
    }
}

/// One operation from opening the repository to its end.
fn operate(name: &str, store: Arc<dyn Store>, directory: &Path, tree: &Path) {
    if name.ends_with("empty cache") {
        fs::remove_dir_all(directory.join("cache")).unwrap();
        fs::create_dir(directory.join("cache")).unwrap();
    }
    let cache = CacheRoot::Directory(directory.join("cache"));
    let repository = Repository::open(store, &Unlock::KeyFile(key()), &cache).unwrap();
    match name {
        "first backup" | "backup again" => {
            backup(&repository, &options(tree), Vec::new(), &Silent).unwrap();
        }
        "half is gone" => {
            let rules = Rules::new(&HALF.map(str::to_owned), &[]).unwrap();
            let options = BackupOptions { rules: Some(Arc::new(rules)), ..options(tree) };
            let (old, _) = repository.snapshots().unwrap();
            backup(&repository, &options, Vec::new(), &Silent).unwrap();
            for snapshot in old {
                repository.put_mark(snapshot.id, MarkKind::Forget, now_ms()).unwrap();
            }
        }
        "prune" | "prune again" => {
            let defaults = PruneOptions::new(&repository);
            prune(&repository, &PruneOptions { grace: 0, trust_clock: true, ..defaults }, &Silent)
                .unwrap();
        }
        "check --read-data" => {
            let options = CheckOptions { read_data: Some(Subset::All), ..CheckOptions::default() };
            let report = check(&repository, &options, &Silent).unwrap();
            assert!(report.damaged_packs.is_empty());
        }
        _ => {
            let (snapshots, _) = repository.snapshots().unwrap();
            let target = directory.join("out");
            let options = RestoreOptions { target: target.clone(), ..RestoreOptions::default() };
            restore(&repository, snapshots.last().unwrap(), &options, &Silent).unwrap();
        }
    }
}

/// Performs and measures one operation, and prints its row.
fn row(name: &str, directory: &Path, tree: &Path, mbits: u64, only: &str) {
    let local: Arc<dyn Store> = Arc::new(LocalStore::open(&directory.join("store")).unwrap());
    let measured = OPERATIONS.iter().any(|(known, measured)| *known == name && *measured);
    if !measured || !only.is_empty() && only != name {
        return operate(name, local, directory, tree);
    }
    let rate = mbits * 1_000_000 / 8;
    let counting = Arc::new(Counting::new(Arc::new(Slow::new(local, LATENCY, rate))));
    let start = Instant::now();
    operate(name, counting.clone(), directory, tree);
    let seconds = start.elapsed().as_secs_f64();
    let count = |kind| counting.total(kind);
    let (get, range) = (count(OperationKind::Get), count(OperationKind::GetRange));
    let up = count(OperationKind::Put).bytes;
    let down = get.bytes + range.bytes;
    let (cpu, peak) = used();
    println!(
        "| {name} | {} | {} | {} | {} | {:.1} | {:.1} | {seconds:.2} | {:.0} % | {cpu:.2} | {peak:.0} |",
        count(OperationKind::Put).calls,
        get.calls + range.calls,
        count(OperationKind::List).calls,
        count(OperationKind::Delete).calls,
        up as f64 / f64::from(1 << 20),
        down as f64 / f64::from(1 << 20),
        100.0 * up.max(down) as f64 / (rate as f64 * seconds),
    );
}

/// Files that nothing can be compressed or shared of; every second one goes.
fn make_noise(directory: &Path, mebibytes: u64) {
    let mut noise = blake3::Hasher::new().update(b"noise").finalize_xof();
    let lengths = [100_000, 1_000_000, 300_000, 10_000_000, 150_000, 3_000_000];
    fs::create_dir_all(directory).unwrap();
    let mut left = mebibytes << 20;
    for number in 0.. {
        if left == 0 {
            return;
        }
        let length = left.min(lengths[number % lengths.len()]);
        left -= length;
        let mut bytes = vec![0; length as usize];
        noise.fill(&mut bytes);
        // one of each length goes, the next of that length stays
        let fate = if number / lengths.len() % 2 == 0 { "goes" } else { "stays" };
        fs::write(directory.join(format!("{number:06}-{fate}.noise")), bytes).unwrap();
    }
}

fn table(scratch: &Path, tree: &Path, mbits: u64, only: &str) {
    let directory = scratch.join("run");
    fs::create_dir_all(directory.join("cache")).unwrap();
    init(&directory);
    println!("\n{}, {} ms and {mbits} Mbit/s\n", tree.display(), LATENCY.as_millis());
    println!(
        "| | puts | gets | lists | deletes | up, MiB | down, MiB | s | link use | CPU, s | memory, MiB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for (name, _) in OPERATIONS {
        let program = std::env::current_exe().unwrap();
        let mut child = Command::new(program);
        child
            .arg("--operation")
            .arg(name)
            .arg(&directory)
            .arg(tree)
            .arg(mbits.to_string())
            .arg(only);
        assert!(child.status().unwrap().success(), "{name} failed");
        let _ = fs::remove_dir_all(directory.join("out"));
    }
    fs::remove_dir_all(&directory).unwrap();
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if let [operation, name, directory, tree, mbits, only] = arguments.as_slice()
        && operation == "--operation"
    {
        return row(name, Path::new(directory), Path::new(tree), mbits.parse().unwrap(), only);
    }
    let (mut trees, mut rates, mut noise, mut only) = (Vec::new(), Vec::new(), 256, "");
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut number = || rest.next().and_then(|n| n.parse().ok()).expect("a number");
        match argument.as_str() {
            "--mbits" => rates.push(number()),
            "--noise" => noise = number(),
            "--only" => only = rest.next().expect("an operation"),
            tree => trees.push(fs::canonicalize(tree).unwrap()),
        }
    }
    if rates.is_empty() {
        rates = vec![100, 1000];
    }
    let root =
        if Path::new("/dev/shm").is_dir() { "/dev/shm".into() } else { std::env::temp_dir() };
    let scratch = root.join(format!("esker-link-{}", std::process::id()));
    if trees.is_empty() {
        trees.push(PathBuf::from("/usr/lib/python3"));
    }
    if noise > 0 {
        make_noise(&scratch.join("noise"), noise);
        trees.push(scratch.join("noise"));
    }
    for mbits in rates {
        trees.iter().for_each(|tree| table(&scratch, tree, mbits, only));
    }
    fs::remove_dir_all(&scratch).unwrap();
}
