//! The first hour on a new machine: what it takes to list ten thousand
//! snapshots, to list a directory and to restore a file, without any cache, from
//! a repository of many million chunks that is 50 ms and 100 Mbit/s away.
//!
//! `cargo bench --bench empty_cache [-- MILLIONS]`
//!
//! All long segments but one are the same bytes under other names: a reader that
//! looks up sees no difference, and a hundred million chunks fit on any machine.
//! What the real machine stored is in the one that is asked last.

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{init, key, used};
use esker::backup::{BackupOptions, backup};
use esker::format::manifest::manifest_key;
use esker::format::notes::{Confirmation, confirmation_key};
use esker::format::pack::{Chunk, pack_key};
use esker::format::segment;
use esker::format::{ChunkKind, Kind};
use esker::id::{ChunkId, PackId, SnapshotId, hex};
use esker::list::list;
use esker::progress::Silent;
use esker::repository::local::CacheRoot;
use esker::repository::packer::{PutPack, with_packer};
use esker::repository::runs::Whereabouts;
use esker::repository::{Repository, Unlock, now_ms};
use esker::restore::{RestoreOptions, restore};
use esker::status::overview;
use esker::store::{Counting, LocalStore, OperationKind, Slow, Store};

const LATENCY: Duration = Duration::from_millis(50);
const BYTES_PER_SECOND: u64 = 100_000_000 / 8;
const SNAPSHOTS: u64 = 10_000;
/// A segment of 24 MiB, as long as merged ones are on average: packs, and chunks
/// in each.
const PACKS: u32 = 500;
const CHUNKS: u32 = 1000;
const FILE_BYTES: usize = 20_000_000;

fn open(store: Arc<dyn Store>) -> Repository {
    Repository::open(store, &Unlock::KeyFile(key()), &CacheRoot::None).unwrap()
}

fn noise(seed: u32, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Ten thousand files and a long one; each night a few others.
fn change(directory: &Path, night: u32) {
    for at in 0..100 {
        let below = directory.join(format!("directory-{at}"));
        fs::create_dir_all(&below).unwrap();
        for file in 0..if night == 0 { 100 } else { u32::from(at % 30 == night) } {
            let name = below.join(format!("a file with a name of some length {file}"));
            fs::write(name, noise(night << 20 | at << 8 | file, 5000)).unwrap();
        }
    }
    if night == 0 {
        fs::write(directory.join("long"), noise(77, FILE_BYTES)).unwrap();
    }
}

fn run(repository: &Repository, directory: &Path, night: u32) {
    change(directory, night);
    let options = BackupOptions {
        paths: vec![directory.to_owned()],
        host: "host".into(),
        profile: "default".into(),
        compression: 3,
        ..BackupOptions::default()
    };
    backup(repository, &options, Vec::new(), &Silent).unwrap();
}

fn build(directory: &Path, millions: u64) {
    let store = init(directory);
    let repository = open(store.clone());
    let source = directory.join("source");
    (0..2).for_each(|night| run(&repository, &source, night));
    let first = store.list("index/").unwrap();
    let merged: Vec<PackId> = repository.index().packs().iter().map(|(_, i)| i.id).collect();
    run(&repository, &source, 2);
    first.iter().for_each(|listed| store.delete(&listed.key).unwrap());
    let mut packs = invent_packs(&repository);
    let invented = segment_of(&repository, &packs);
    packs.extend(merged.iter().map(|id| listed_pack(&repository, *id)));
    put(&store, segment_of(&repository, &packs));
    let one = put(&store, invented);
    let path = |id: &str| directory.join("store/index").join(id);
    for number in 1..(millions * 1_000_000 / u64::from(PACKS * CHUNKS)).max(1) {
        let id = hex(blake3::hash(&number.to_le_bytes()).as_bytes());
        fs::hard_link(path(&one), path(&id)).unwrap();
    }
    put_manifests(&repository);
}

fn put(store: &Arc<dyn Store>, segment: Vec<u8>) -> String {
    let id = hex(blake3::hash(&segment).as_bytes());
    store.put(&format!("index/{id}"), segment.into()).unwrap();
    id
}

fn invent_packs(repository: &Repository) -> Vec<PutPack> {
    with_packer(repository, SnapshotId::random(), now_ms(), 3, |packer, sealer| {
        for pack in 0..PACKS {
            let id = |n: u32| ChunkId(*blake3::hash(&n.to_le_bytes()).as_bytes());
            let from = pack * CHUNKS;
            let chunks = (from..from + CHUNKS).map(|n| Chunk { id: id(n), length: 1 }).collect();
            packer.add(&sealer.seal(ChunkKind::Data, &[0; CHUNKS as usize], chunks)?)?;
            packer.flush()?;
        }
        Ok(packer.take_put())
    })
    .unwrap()
}

fn listed_pack(repository: &Repository, id: PackId) -> PutPack {
    let number = repository.index().pack_number(id).unwrap();
    let info = repository.index().pack(number).unwrap();
    let toc = repository.index().toc(number).unwrap();
    let bytes = repository.store().get(&pack_key(id), u64::MAX).unwrap();
    let frame = bytes[bytes.len() - toc.toc.frame_length()..].to_vec();
    PutPack { id, length: info.length, frame, toc }
}

fn segment_of(repository: &Repository, packs: &[PutPack]) -> Vec<u8> {
    let mut entries: Vec<_> = packs.iter().map(PutPack::as_entry).collect();
    segment::encode(&repository.sealing(), &[], &[], &mut entries)
}

fn put_manifests(repository: &Repository) {
    let model = repository.snapshots().unwrap().0.pop().unwrap();
    let private = repository.private_part(&model).unwrap().encode();
    for number in 0..SNAPSHOTS {
        let id = SnapshotId::random();
        let mut manifest = model.manifest.clone();
        (manifest.id, manifest.started, manifest.parent) = (id, number, None);
        let key = manifest_key(id);
        let hash = repository
            .put_object(Kind::Manifest, &key, &manifest.encode(), Some(&private))
            .unwrap();
        let confirmation = Confirmation { manifest: hash, time: 1, kept: Vec::new() };
        let key = confirmation_key(id);
        repository.put_object(Kind::Confirmation, &key, &confirmation.encode(), None).unwrap();
    }
}

fn tree_key(path: &Path) -> Vec<u8> {
    format!("files{}", path.to_str().unwrap()).replace('/', "\0").into_bytes()
}

fn measure(directory: &Path, what: &str) {
    let inner = LocalStore::open(&directory.join("store")).unwrap();
    let far = Slow::new(Arc::new(inner), LATENCY, BYTES_PER_SECOND);
    let counting = Arc::new(Counting::new(Arc::new(far)));
    let start = Instant::now();
    let repository = open(counting.clone());
    let opened = start.elapsed();
    let source = directory.join("source");
    match what {
        "snapshots" => {
            let here = Whereabouts::here(repository.id());
            let overview = overview(&repository, &here, now_ms()).unwrap();
            assert!(overview.snapshots.len() as u64 > SNAPSHOTS && overview.troubles.is_empty());
        }
        "ls" => {
            repository.prepare_reading(&Silent).unwrap();
            let snapshot = repository.snapshots().unwrap().0.pop().unwrap();
            let key = tree_key(&source.join("directory-50"));
            let mut listed = 0;
            list(&repository, &snapshot, Some(&key), false, &mut |_| listed += 1).unwrap();
            assert_eq!(listed, 100);
        }
        _ => {
            repository.prepare_reading(&Silent).unwrap();
            let snapshot = repository.snapshots().unwrap().0.pop().unwrap();
            let options = RestoreOptions {
                target: directory.join("target"),
                path: Some(tree_key(&source.join("long"))),
                ..RestoreOptions::default()
            };
            let report = restore(&repository, &snapshot, &options, &Silent).unwrap();
            assert_eq!(report.bytes_written, FILE_BYTES as u64);
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let (cpu, peak) = used();
    let sum = |component: Option<&str>| {
        let of = |kind| match component {
            Some(component) => counting.count(kind, component),
            None => counting.total(kind),
        };
        let kinds = [OperationKind::Get, OperationKind::GetRange, OperationKind::List];
        let counts = kinds.map(of);
        let calls: u64 = counts.iter().map(|count| count.calls).sum();
        let bytes: u64 = counts.iter().map(|count| count.bytes).sum();
        (calls, bytes as f64 / 1048576.0)
    };
    let ((calls, bytes), (index_calls, index)) = (sum(None), sum(Some("index")));
    println!(
        "| {what} | {seconds:.1} | {:.2} | {calls} | {bytes:.1} | {index_calls} | {index:.1} | {cpu:.1} | {peak:.0} |",
        opened.as_secs_f64(),
    );
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|a| a == "--measure") {
        return measure(Path::new(&arguments[at + 1]), &arguments[at + 2]);
    }
    let asked = arguments.iter().skip(1).find_map(|argument| argument.parse().ok());
    let root =
        if Path::new("/dev/shm").is_dir() { "/dev/shm".into() } else { std::env::temp_dir() };
    for millions in asked.map_or(vec![1, 10, 100], |millions| vec![millions]) {
        let directory = root.join(format!("esker-empty-cache-{}", std::process::id()));
        fs::create_dir_all(directory.join("source")).unwrap();
        build(&directory, millions);
        println!("{millions} million chunks");
        println!(
            "| | s | of these to open | requests | MiB | to the index | MiB | CPU, s | MiB of memory |"
        );
        for what in ["snapshots", "ls", "restore"] {
            let program = std::env::current_exe().unwrap();
            let arguments = ["--measure".as_ref(), directory.as_os_str(), what.as_ref()];
            std::process::Command::new(program).args(arguments).status().unwrap();
        }
        fs::remove_dir_all(&directory).unwrap();
    }
}
