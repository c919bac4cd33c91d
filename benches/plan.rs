//! How long a prune plans among ten thousand snapshots, of which a hundred are
//! forgotten, from a warm cache: seconds of CPU and peak memory.
//!
//! `cargo bench --bench plan [-- SNAPSHOTS]`

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use common::{init, key, used};
use esker::format::content::Root;
use esker::format::manifest::{Counts, Manifest, Outcome, PrivatePart, Promises, manifest_key};
use esker::format::notes::{Confirmation, MarkKind, confirmation_key};
use esker::format::pack::Chunk;
use esker::format::{ChunkKind, Kind};
use esker::id::{ChunkId, SnapshotId};
use esker::progress::Silent;
use esker::prune::{PruneOptions, plan_only};
use esker::repository::coordinates::ReferenceSet;
use esker::repository::local::CacheRoot;
use esker::repository::packer::with_packer;
use esker::repository::{Repository, Unlock, now_ms};
use esker::store::{LocalStore, Store};

/// Chunks that each snapshot adds.
const ADDED: u32 = 200;
/// Snapshots after which what one added is gone from new ones.
const LIFE: usize = 300;

fn open(directory: &Path) -> Repository {
    let store: Arc<dyn Store> = Arc::new(LocalStore::open(&directory.join("store")).unwrap());
    let cache = CacheRoot::Directory(directory.join("cache"));
    Repository::open(store, &Unlock::KeyFile(key()), &cache).unwrap()
}

fn build(directory: &Path, snapshots: usize) {
    init(directory);
    let repository = open(directory);
    let mut nights = Vec::new();
    for night in 0..snapshots {
        let id = SnapshotId::random();
        let started = now_ms() - (snapshots - night) as u64 * 1000;
        let references = with_packer(&repository, id, started, 3, |packer, sealer| {
            let ids: Vec<ChunkId> = (0..ADDED)
                .map(|n| {
                    ChunkId(
                        *blake3::hash(&[n.to_le_bytes(), (night as u32).to_le_bytes()].concat())
                            .as_bytes(),
                    )
                })
                .collect();
            let chunks = ids.iter().map(|id| Chunk { id: *id, length: 16 }).collect();
            packer.add(&sealer.seal(
                ChunkKind::Data,
                &vec![night as u8; 16 * ADDED as usize],
                chunks,
            )?)?;
            packer.flush()?;
            nights.push(ids.iter().map(|id| packer.coordinate(id).unwrap()).collect::<Vec<_>>());
            let mut set = ReferenceSet::default();
            for (age, coordinates) in nights.iter().rev().take(LIFE).enumerate() {
                // the older, the less of it is still used
                let used = coordinates.len() - coordinates.len() * age / LIFE;
                coordinates.iter().take(used).for_each(|coordinate| set.add(*coordinate));
            }
            let references =
                repository.store_references(&set, &Default::default(), packer, sealer)?;
            packer.flush()?;
            repository.put_segments(&packer.take_put())?;
            Ok(references.root)
        })
        .unwrap();
        put_manifest(&repository, id, started, references);
    }
    let (listed, _) = repository.snapshots().unwrap();
    for snapshot in listed.iter().take(snapshots / 100) {
        repository.put_mark(snapshot.id, MarkKind::Forget, 1).unwrap();
    }
}

fn put_manifest(repository: &Repository, id: SnapshotId, started: u64, references: Root) {
    let manifest = Manifest {
        id,
        outcome: Outcome::Complete,
        started,
        ended: started,
        zone: "UTC".into(),
        host: "host".into(),
        profile: "default".into(),
        sources: Vec::new(),
        writer: repository.keyring().writer,
        set: None,
        tags: Vec::new(),
        expires: None,
        promises: Promises::default(),
        counts: Counts::default(),
        parent: None,
        replaces: None,
        copied_from: None,
        references,
        program: "bench".into(),
        kept: Vec::new(),
    };
    let private = PrivatePart {
        tree: references,
        paths: vec![b"/home".to_vec()],
        exclusions: Vec::new(),
        failures: Vec::new(),
        notes: Vec::new(),
        filesystems: Vec::new(),
        profile: None,
        restore_commands: Vec::new(),
        kept: Vec::new(),
    };
    let key = manifest_key(id);
    let hash = repository
        .put_object(Kind::Manifest, &key, &manifest.encode(), Some(&private.encode()))
        .unwrap();
    let confirmation = Confirmation { manifest: hash, time: started, kept: Vec::new() };
    repository
        .put_object(Kind::Confirmation, &confirmation_key(id), &confirmation.encode(), None)
        .unwrap();
}

fn measure(directory: &Path) {
    let repository = open(directory);
    let options = PruneOptions { grace: 0, trust_clock: true, ..PruneOptions::new(&repository) };
    let (before, _) = used();
    let start = Instant::now();
    let plan = plan_only(&repository, &options, &Silent).unwrap();
    let wall = start.elapsed().as_secs_f64();
    let (after, peak) = used();
    println!(
        "{} snapshots go, {} packs are deleted, {} moved: {:.2} s of CPU, {wall:.2} s, {peak:.0} MiB",
        plan.manifests.len(),
        plan.dead.len(),
        plan.repack.len(),
        after - before,
    );
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|a| a == "--measure") {
        return measure(Path::new(&arguments[at + 1]));
    }
    let snapshots = arguments.iter().skip(1).find_map(|a| a.parse().ok()).unwrap_or(10_000);
    let root =
        if Path::new("/dev/shm").is_dir() { "/dev/shm".into() } else { std::env::temp_dir() };
    let directory = root.join(format!("esker-plan-{}", std::process::id()));
    fs::create_dir_all(directory.join("cache")).unwrap();
    build(&directory, snapshots);
    println!("{snapshots} snapshots; a cold look, then two from a warm cache");
    for _ in 0..3 {
        let program = std::env::current_exe().unwrap();
        std::process::Command::new(program).arg("--measure").arg(&directory).status().unwrap();
    }
    fs::remove_dir_all(&directory).unwrap();
}
