//! How the local index grows: synthetic repositories of so many chunks are
//! loaded by an empty cache, one segment more is loaded, and a million ids are
//! looked up. Prints a table of bytes, seconds of CPU and peak memory.
//!
//! `cargo bench --bench index -- 1000000 10000000 100000000`, or `-- small`: ten
//! thousand segments of one pack with 300 chunks each. It runs in `ESKER_BENCH_DIR`, or
//! the current directory; a hundred million chunks need 7 GiB there. Segments
//! are cut to nothing once they were read, so that they and the index need not
//! fit both.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use common::{init, key, used};
use esker::compression::Codec;
use esker::format::ChunkKind;
use esker::format::pack::{Birth, Block, Chunk, PackKind, Session, SessionKey, Toc};
use esker::format::segment::{self, segment_key};
use esker::id::{ChunkId, PackId, SegmentId, SnapshotId};
use esker::progress::Silent;
use esker::repository::index::PackToc;
use esker::repository::local::CacheRoot;
use esker::repository::packer::PutPack;
use esker::repository::{Repository, Unlock};
use esker::store::{Listed, LocalStore, Result, Store};

/// Chunks in a pack of 32 MiB at the default size, a little compressed.
const CHUNKS_OF_PACK: u64 = 600;
/// Chunks in a block of 384 KiB.
const CHUNKS_OF_BLOCK: u64 = 6;
const CHUNK_BYTES: u32 = 64 << 10;
/// Packs in a segment: 13 MiB of tables, as merged segments have.
const PACKS_OF_SEGMENT: u64 = 500;
const LOOKUPS: u64 = 1_000_000;
/// Neighbours in a row: a file of 64 MiB, or many small ones.
const NEIGHBOURS: u64 = 1000;
/// One small segment more, like that of a night.
const NIGHT: u64 = 6000;

/// A directory whose segments are cut to nothing when they were read.
struct Shrinking {
    inner: LocalStore,
    directory: PathBuf,
}

impl Store for Shrinking {
    fn url(&self) -> &str {
        self.inner.url()
    }

    fn put(&self, key: &str, object: Bytes) -> Result<()> {
        self.inner.put(key, object)
    }

    fn get(&self, key: &str, max_length: u64) -> Result<Bytes> {
        let bytes = self.inner.get(key, max_length)?;
        if key.starts_with(segment::PREFIX) {
            let file = fs::File::create(self.directory.join(key)).unwrap();
            drop(file);
        }
        Ok(bytes)
    }

    fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Bytes> {
        self.inner.get_range(key, offset, length)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        self.inner.list(prefix)
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.inner.delete(key)
    }
}

fn open(directory: &Path, cache: &CacheRoot) -> Repository {
    let path = directory.join("store");
    let inner = LocalStore::open(&path).unwrap();
    let store: Arc<dyn Store> = Arc::new(Shrinking { inner, directory: path });
    Repository::open(store, &Unlock::KeyFile(key()), cache).unwrap()
}

fn open_cached(directory: &Path) -> Repository {
    open(directory, &CacheRoot::Directory(directory.join("cache")))
}

fn chunk_id(number: u64) -> ChunkId {
    ChunkId(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

/// The pack with chunks from `first` on.
fn pack(repository: &Repository, first: u64, chunks: u64) -> PutPack {
    let ids: Vec<ChunkId> = (first..first + chunks).map(chunk_id).collect();
    let keyring = repository.keyring();
    let blocks = ids.chunks(CHUNKS_OF_BLOCK as usize).map(|chunks| Block {
        kind: ChunkKind::Data,
        codec: Codec::Zstd,
        session: 0,
        stored_length: CHUNK_BYTES * chunks.len() as u32,
        raw_length: CHUNK_BYTES * chunks.len() as u32,
        chunks: chunks.len() as u32,
        stored_hash: [3; 16],
    });
    let session = Session {
        epoch: keyring.epoch,
        writer: keyring.writer,
        key: SessionKey::Sealed(vec![first as u8; 1168]),
    };
    let toc = Toc {
        kind: PackKind::Data,
        birth: Birth(first << 20),
        run: SnapshotId([1; 16]),
        sessions: vec![session],
        blocks: blocks.collect(),
        chunks: ids.iter().map(|id| Chunk { id: *id, length: CHUNK_BYTES }).collect(),
        foreign: Vec::new(),
    };
    let key = keyring.current_index_key();
    let frame =
        toc.encode_frame(repository.id(), keyring.epoch, key, keyring.writer, &keyring.signer);
    let length = 16 + u64::from(CHUNK_BYTES) * chunks + frame.len() as u64;
    let id = PackId(*blake3::hash(&[&first.to_le_bytes()[..], b"pack"].concat()).as_bytes());
    PutPack { id, length, frame, toc: Arc::new(PackToc::new(id, toc)) }
}

fn put_segment(repository: &Repository, packs: &[PutPack]) {
    let mut entries: Vec<_> = packs.iter().map(PutPack::as_entry).collect();
    let bytes = segment::encode(&repository.sealing(), &[], &[], &mut entries);
    let id = SegmentId(*blake3::hash(&bytes).as_bytes());
    repository.store().put(&segment_key(id), bytes.into()).unwrap();
}

fn make(directory: &Path, first: u64, chunks: u64, of_pack: u64, of_segment: u64) {
    let repository = open(directory, &CacheRoot::None);
    let end = first + chunks;
    let mut at = first;
    while at < end {
        let mut packs = Vec::new();
        while at < end && (packs.len() as u64) < of_segment {
            let count = of_pack.min(end - at);
            packs.push(pack(&repository, at, count));
            at += count;
        }
        put_segment(&repository, &packs);
    }
}

/// The `n`-th of numbers below `below` in no order.
fn scattered(n: u64, below: u64) -> u64 {
    let mut x = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678;
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ (x >> 31)) % below
}

fn look_up(repository: &Repository, what: &str, chunks: u64) {
    for n in 0..LOOKUPS {
        let (number, hits) = match what {
            "hits" => (scattered(n, chunks), true),
            "neighbours" => {
                let start = scattered(n / NEIGHBOURS, chunks.saturating_sub(NEIGHBOURS).max(1));
                (start + n % NEIGHBOURS, true)
            }
            _ => (n + (1 << 40), false),
        };
        let places = repository.index().places(&chunk_id(number)).unwrap();
        assert_eq!(places.len(), usize::from(hits), "{what} {number}");
    }
}

/// One step in a process of its own: prints its seconds of CPU and peak memory.
fn step(arguments: &[String]) {
    let number = |at: usize| -> u64 { arguments[at].parse().unwrap() };
    let (what, directory) = (&arguments[0], Path::new(&arguments[1]));
    let before;
    match what.as_str() {
        "make" => {
            before = 0.0;
            make(directory, number(2), number(3), number(4), number(5));
        }
        "sync" => {
            let repository = open_cached(directory);
            before = used().0;
            assert!(repository.sync_index(&Silent).unwrap().is_empty());
        }
        "open" => {
            before = 0.0;
            open_cached(directory);
        }
        _ => {
            let repository = open_cached(directory);
            before = used().0;
            look_up(&repository, what, number(2));
        }
    }
    let (cpu, peak) = used();
    println!("{} {peak}", cpu - before);
}

fn run(step: &str, directory: &Path, numbers: &[u64]) -> (f64, f64) {
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(program);
    command.arg("--step").arg(step).arg(directory);
    command.args(numbers.iter().map(u64::to_string));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{step}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let (cpu, peak) = text.trim().split_once(' ').unwrap();
    (cpu.parse().unwrap(), peak.parse().unwrap())
}

/// Files and bytes beneath a directory.
fn size(directory: &Path) -> (u64, u64) {
    fs::read_dir(directory).unwrap().fold((0, 0), |(files, bytes), entry| {
        let entry = entry.unwrap();
        let (more, longer) = match entry.file_type().unwrap().is_dir() {
            true => size(&entry.path()),
            false => (1, entry.metadata().unwrap().len()),
        };
        (files + more, bytes + longer)
    })
}

struct Row {
    chunks: u64,
    segments: u64,
    segment_bytes: u64,
    index_bytes: u64,
    /// load, open, sync of one more, scattered hits, neighbours, misses
    cpu: [f64; 6],
    peak: [f64; 6],
}

fn measure(root: &Path, chunks: u64, of_pack: u64, of_segment: u64) -> Row {
    let directory = root.join(format!("esker-index-{}", std::process::id()));
    fs::create_dir_all(directory.join("cache")).unwrap();
    init(&directory);
    run("make", &directory, &[0, chunks, of_pack, of_segment]);
    let (segments, segment_bytes) = size(&directory.join("store/index"));
    let load = run("sync", &directory, &[]);
    let (_, index_bytes) = size(&directory.join("cache"));
    let opened = run("open", &directory, &[]);
    run("make", &directory, &[chunks, NIGHT, of_pack, of_segment]);
    let one = run("sync", &directory, &[]);
    let lookups = ["hits", "neighbours", "misses"].map(|what| run(what, &directory, &[chunks]));
    fs::remove_dir_all(&directory).unwrap();
    let steps = [load, opened, one, lookups[0], lookups[1], lookups[2]];
    Row {
        chunks,
        segments,
        segment_bytes,
        index_bytes,
        cpu: steps.map(|(cpu, _)| cpu),
        peak: steps.map(|(_, peak)| peak),
    }
}

fn print(rows: &[Row]) {
    println!("{CHUNKS_OF_PACK} chunks a pack; seconds are of CPU; 1 M look-ups each\n");
    println!(
        "| chunks | segments | their MiB | index, MiB | bytes a chunk | load, s | open, s | \
         one segment more, s | hits, s | neighbours, s | misses, s | peak MiB: load | look-ups |"
    );
    println!("|{}", "---|".repeat(13));
    for row in rows {
        let mib = |bytes: u64| bytes >> 20;
        let cpu = row.cpu.map(|seconds| format!("{seconds:.2}")).join(" | ");
        let lookups = row.peak[3..].iter().copied().fold(0.0, f64::max);
        println!(
            "| {} | {} | {} | {} | {:.1} | {cpu} | {:.0} | {lookups:.0} |",
            row.chunks,
            row.segments,
            mib(row.segment_bytes),
            mib(row.index_bytes),
            row.index_bytes as f64 / row.chunks as f64,
            row.peak[0],
        );
    }
    extrapolate(rows);
}

/// A quantity, its unit, and its place in a row.
type Quantity = (&'static str, &'static str, fn(&Row) -> f64);

const GROWING: [Quantity; 5] = [
    ("index", "MiB", |row| (row.index_bytes >> 20) as f64),
    ("load", "s", |row| row.cpu[0]),
    ("open", "s", |row| row.cpu[1]),
    ("peak memory when opened", "MiB", |row| row.peak[1]),
    ("peak memory of the load", "MiB", |row| row.peak[0]),
];

/// What the last two rows say of 10^9 chunks, and the last of a TB of data.
fn extrapolate(rows: &[Row]) {
    if let [.., before, last] = rows {
        let more = (last.chunks - before.chunks) as f64 / 1e6;
        let rest = (1e9 - last.chunks as f64) / 1e6;
        println!("\n10^9 chunks, along the line through the last two rows (chunks in millions):\n");
        for (what, unit, of) in GROWING {
            let (x, y) = (of(before), of(last));
            let all = y + (y - x) / more * rest;
            println!(
                "- {what}: {y:.2} + ({y:.2} − {x:.2}) / {more:.0} × {rest:.0} = {all:.0} {unit}"
            );
        }
    }
    if let Some(last) = rows.last() {
        let bytes = last.index_bytes as f64 / last.chunks as f64;
        let of_tb = 1e12 / f64::from(CHUNK_BYTES);
        println!(
            "\n1 TB of data: 10^12 / {CHUNK_BYTES} = {:.2} M chunks × {bytes:.1} B = {:.2} GB",
            of_tb / 1e6,
            of_tb * bytes / 1e9
        );
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--step") {
        return step(&arguments[at + 1..]);
    }
    let root = std::env::var_os("ESKER_BENCH_DIR").map_or_else(|| ".".into(), PathBuf::from);
    if arguments.iter().any(|argument| argument == "small") {
        let row = measure(&root, 3_000_000, 300, 1);
        return println!("{} segments of 300 chunks: {:.2} s", row.segments, row.cpu[0]);
    }
    let mut sizes: Vec<u64> = arguments.iter().filter_map(|a| a.parse().ok()).collect();
    if sizes.is_empty() {
        sizes.push(1_000_000);
    }
    let rows: Vec<Row> = sizes
        .iter()
        .map(|chunks| measure(&root, *chunks, CHUNKS_OF_PACK, PACKS_OF_SEGMENT))
        .collect();
    print(&rows);
}
