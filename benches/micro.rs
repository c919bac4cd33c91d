//! The steps of a backup and a restore, each by itself, so that a regression
//! shows where it is: `cargo bench --bench micro [-- NAME]`.

use std::path::PathBuf;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use esker::chunker::{Chunker, ChunkerParams};
use esker::compression::{Codec, DEFAULT_LEVEL, compress, decompress};
use esker::crypto::{NONCE_LENGTH, SecretKey, open_in_place, seal_in_place};
use esker::files::{self, WalkOptions};
use esker::format::ChunkKind;
use esker::format::content::{Content, Item};
use esker::format::entry::{Entry, EntryKind, Metadata, key_of_path};
use esker::format::pack::{Birth, Block, Chunk, PackKind, Session, SessionKey, Toc};
use esker::format::page::{FinishedPage, Page, PageBuilder, PageKind};
use esker::id::{ChunkId, PackId, SegmentId, SnapshotId, WriterId};
use esker::repository::index::{Index, NewPack, NewSegment, PackToc};

const BLOCK: usize = 2 << 20;

fn main() {
    divan::main();
}

fn key() -> SecretKey {
    SecretKey::from_bytes([7; 32])
}

fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

/// Words in no order, which shrink about as source code does.
fn text(length: usize) -> Vec<u8> {
    let numbers = noise(length);
    let mut text = Vec::with_capacity(length + 16);
    for pair in numbers.chunks(2) {
        let number = u16::from_le_bytes([pair[0], *pair.get(1).unwrap_or(&0)]) % 900;
        text.extend_from_slice(format!("{} ", number * number).as_bytes());
        if text.len() >= length {
            break;
        }
    }
    text.truncate(length);
    text
}

fn id(number: u64) -> ChunkId {
    ChunkId(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

#[divan::bench]
fn cut(bencher: Bencher<'_, '_>) {
    let (chunker, bytes) = (Chunker::new(&key(), ChunkerParams::default()), noise(BLOCK));
    bencher.counter(BytesCount::new(BLOCK)).bench(|| {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            rest = &rest[chunker.cut(rest)..];
        }
    });
}

#[divan::bench(args = [4 << 10, 64 << 10, 2 << 20])]
fn hash(bencher: Bencher<'_, '_>, length: usize) {
    let bytes = noise(length);
    bencher.counter(BytesCount::new(length)).bench(|| blake3::keyed_hash(&[7; 32], &bytes));
}

#[divan::bench]
fn compress_block(bencher: Bencher<'_, '_>) {
    let block = text(BLOCK);
    bencher.counter(BytesCount::new(BLOCK)).bench(|| {
        let mut frame = Vec::new();
        assert_eq!(compress(&block, DEFAULT_LEVEL, &mut frame).unwrap(), Codec::Zstd);
        frame
    });
}

#[divan::bench]
fn decompress_block(bencher: Bencher<'_, '_>) {
    let mut frame = Vec::new();
    compress(&text(BLOCK), DEFAULT_LEVEL, &mut frame).unwrap();
    bencher
        .counter(BytesCount::new(BLOCK))
        .bench(|| decompress(Codec::Zstd, &frame, BLOCK).unwrap());
}

#[divan::bench]
fn seal(bencher: Bencher<'_, '_>) {
    let message = [&[0; NONCE_LENGTH][..], &noise(BLOCK)].concat();
    bencher
        .counter(BytesCount::new(BLOCK))
        .with_inputs(|| message.clone())
        .bench_values(|mut message| seal_in_place(&key(), b"place", &mut message));
}

#[divan::bench]
fn open(bencher: Bencher<'_, '_>) {
    let mut message = [&[0; NONCE_LENGTH][..], &noise(BLOCK)].concat();
    seal_in_place(&key(), b"place", &mut message);
    bencher
        .counter(BytesCount::new(BLOCK))
        .with_inputs(|| message.clone())
        .bench_values(|mut message| assert!(open_in_place(&key(), b"place", &mut message).is_ok()));
}

fn entries(count: u64) -> Vec<Entry> {
    let entry = |number: u64| {
        let path = format!("/home/somebody/project/{:03}/file-{number:07}.c", number / 100);
        let metadata = Metadata {
            mode: 0o644,
            size: 15_000,
            inode: number,
            user: b"somebody"[..].into(),
            group: b"users"[..].into(),
            ..Metadata::default()
        };
        let content = Content::Items(vec![Item::Chunk { id: id(number), length: 15_000 }]);
        let key = key_of_path(path.as_bytes());
        Entry { content, ..Entry::new(key, EntryKind::File, metadata) }
    };
    (0..count).map(entry).collect()
}

fn build(entries: &[Entry], mut take: impl FnMut(FinishedPage)) {
    let store = |page: FinishedPage| {
        let id = ChunkId(*blake3::hash(&page.bytes).as_bytes());
        take(page);
        Ok::<_, ()>(id)
    };
    let mut tree = PageBuilder::new(PageKind::Tree, key(), store);
    entries.iter().for_each(|entry| tree.push_entry(entry).unwrap());
    tree.finish().unwrap();
}

#[divan::bench]
fn build_pages(bencher: Bencher<'_, '_>) {
    let entries = entries(10_000);
    bencher.counter(ItemsCount::new(entries.len())).bench(|| build(&entries, |_| {}));
}

#[divan::bench]
fn parse_pages(bencher: Bencher<'_, '_>) {
    let entries = entries(10_000);
    let mut pages = Vec::new();
    build(&entries, |page| pages.push(page));
    bencher.counter(ItemsCount::new(entries.len())).bench(|| {
        let parse = |page: &FinishedPage| Page::parse(&page.bytes, PageKind::Tree, page.level);
        pages.iter().map(parse).collect::<Result<Vec<_>, _>>().unwrap()
    });
}

const PACKS: u64 = 160;
const OF_PACK: u64 = 600;
/// Bytes of each of them.
const CHUNK: u32 = 13_981;

fn table(number: u64) -> Toc {
    let ids = (number * OF_PACK..(number + 1) * OF_PACK).map(id);
    Toc {
        kind: PackKind::Data,
        birth: Birth(number << 20),
        run: SnapshotId([1; 16]),
        sessions: vec![Session {
            epoch: 1,
            writer: WriterId([2; 16]),
            key: SessionKey::Sealed(vec![4; 1168]),
        }],
        blocks: vec![Block {
            kind: ChunkKind::Data,
            codec: Codec::Zstd,
            session: 0,
            stored_length: 7 << 20,
            raw_length: OF_PACK as u32 * CHUNK,
            chunks: OF_PACK as u32,
            stored_hash: [3; 16],
        }],
        chunks: ids.map(|id| Chunk { id, length: CHUNK }).collect(),
        foreign: Vec::new(),
    }
}

fn index() -> Index {
    let index = Index::in_memory().unwrap();
    let pack = |number: u64| {
        let id = PackId(*blake3::hash(&number.to_be_bytes()).as_bytes());
        let toc = std::sync::Arc::new(PackToc::new(id, table(number)));
        NewPack { id, length: 8 << 20, signer: WriterId([2; 16]), frame_hash: [4; 16], toc }
    };
    let packs: Vec<NewPack> = (0..PACKS).map(pack).collect();
    let (id, signer) = (SegmentId([5; 32]), WriterId([2; 16]));
    let (supersedes, removes, known) = (&[], &[], &[]);
    index
        .add_segment(&NewSegment { id, signer, supersedes, removes, known, packs: &packs })
        .unwrap();
    index
}

#[divan::bench]
fn look_up_chunks(bencher: Bencher<'_, '_>) {
    let index = index();
    bencher.counter(ItemsCount::new(1000usize)).bench(|| {
        let found = |n: u64| index.places(&id(n * 96 % (PACKS * OF_PACK))).unwrap().len();
        (0..1000).map(found).sum::<usize>()
    });
}

#[divan::bench]
fn look_up_unknown_chunks(bencher: Bencher<'_, '_>) {
    let index = index();
    bencher.counter(ItemsCount::new(1000usize)).bench(|| {
        (0..1000).map(|n| index.places(&id((1 << 40) + n)).unwrap().len()).sum::<usize>()
    });
}

#[divan::bench]
fn parse_table(bencher: Bencher<'_, '_>) {
    let bytes = table(1).encode();
    bencher.counter(ItemsCount::new(OF_PACK as usize)).bench(|| Toc::parse(&bytes).unwrap());
}

#[divan::bench]
fn walk(bencher: Bencher<'_, '_>) {
    let directory = tempfile::tempdir().unwrap();
    for number in 0..2000 {
        let beneath = directory.path().join((number / 50).to_string());
        std::fs::create_dir_all(&beneath).unwrap();
        std::fs::write(beneath.join(number.to_string()), b"x").unwrap();
    }
    let roots: Vec<PathBuf> = vec![directory.path().to_owned()];
    let options = WalkOptions { read_xattrs: true, ..WalkOptions::default() };
    bencher
        .counter(ItemsCount::new(2040usize))
        .bench(|| files::walk(&roots, &options, &mut |_| std::ops::ControlFlow::Continue(())));
}
