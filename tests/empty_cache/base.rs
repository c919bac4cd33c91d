//! A repository with a million chunks in a dozen segments, and in it what one
//! real machine stored: built once, copied for every test.

use std::fs;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use esker::crypto::SigningKey;
use esker::format::ChunkKind;
use esker::format::pack::{Chunk, pack_key};
use esker::format::segment::{self, segment_key};
use esker::id::{ChunkId, PackId, SegmentId, SnapshotId, WriterId};
use esker::repository::packer::{PutPack, with_packer};
use esker::repository::{Repository, now_ms};
use esker::store::{OpendalStore, Store};

use crate::support;

pub const SEGMENTS: u32 = 12;
pub const PACKS: u32 = 84;
pub const CHUNKS: u32 = 1000;
const DIRECTORIES: u32 = 30;
const FILES: u32 = 100;

pub struct Base {
    objects: Vec<(String, Bytes)>,
    /// Segments that list the packs of the real machine.
    pub real: Vec<SegmentId>,
    pub directory: tempfile::TempDir,
}

/// The id of an invented chunk: `number` counts through all of them.
pub fn invented(number: u32) -> ChunkId {
    ChunkId(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

pub fn noise(seed: u32, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn memory() -> Arc<dyn Store> {
    Arc::new(OpendalStore::memory().unwrap())
}

pub fn base() -> &'static Base {
    static BASE: OnceLock<Base> = OnceLock::new();
    BASE.get_or_init(build)
}

impl Base {
    pub fn store(&self) -> Arc<dyn Store> {
        let store = memory();
        for (key, object) in &self.objects {
            store.put(key, object.clone()).unwrap();
        }
        store
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

fn build() -> Base {
    let directory = tempfile::tempdir().unwrap();
    let store = memory();
    support::init(&store);
    let repository = support::open(&store);
    (0..2).for_each(|night| settled_run(&repository, directory.path(), night));
    // prunes merged what the first nights put into a long segment
    let first: Vec<SegmentId> = segments(&store);
    let mut merged: Vec<PackId> = repository.index().packs().iter().map(|(_, i)| i.id).collect();
    settled_run(&repository, directory.path(), 2);
    first.iter().for_each(|id| store.delete(&segment_key(*id)).unwrap());
    let mut real = segments(&store);
    for number in 0..SEGMENTS {
        let mut packs = invent_packs(&repository, number * PACKS * CHUNKS);
        let merged = if number == SEGMENTS / 2 { std::mem::take(&mut merged) } else { Vec::new() };
        packs.extend(merged.iter().map(|id| listed_pack(&repository, *id)));
        let id = put_segment(&repository, &packs, &[], None);
        real.extend((!merged.is_empty()).then_some(id));
    }
    let listed = store.list("").unwrap();
    let objects = listed.iter().map(|l| (l.key.clone(), store.get(&l.key, u64::MAX).unwrap()));
    Base { objects: objects.collect(), real, directory }
}

fn segments(store: &Arc<dyn Store>) -> Vec<SegmentId> {
    let listed = store.list("index/").unwrap();
    listed.iter().filter_map(|listed| segment::segment_of_key(&listed.key)).collect()
}

fn settled_run(repository: &Repository, directory: &Path, night: u32) {
    change(directory, night);
    support::settle();
    support::run(repository, directory);
}

/// A pack that the index knows, as a segment lists it.
pub fn listed_pack(repository: &Repository, id: PackId) -> PutPack {
    let number = repository.index().pack_number(id).unwrap();
    let info = repository.index().pack(number).unwrap();
    let toc = repository.index().toc(number).unwrap();
    let bytes = repository.store().get(&pack_key(id), u64::MAX).unwrap();
    let frame = bytes[bytes.len() - toc.toc.frame_length()..].to_vec();
    PutPack { id, length: info.length, frame, toc }
}

/// Some thousand files, one of them long; each night a few others, so that most
/// pages of the newest tree are of the first night.
fn change(directory: &Path, night: u32) {
    for at in 0..DIRECTORIES {
        let below = directory.join(format!("directory-{at}"));
        fs::create_dir_all(&below).unwrap();
        for file in 0..if night == 0 { FILES } else { u32::from(at % 10 == night) } {
            let seed = night * 1_000_000 + at * 1000 + file;
            let name = below.join(format!("a file with a name of some length {file}"));
            fs::write(name, noise(seed, 100 + 50 * file as usize)).unwrap();
        }
    }
    if night == 0 {
        fs::write(directory.join("long"), noise(77, 3_000_000)).unwrap();
    }
}

fn invent_packs(repository: &Repository, first: u32) -> Vec<PutPack> {
    with_packer(repository, SnapshotId::random(), now_ms(), 3, |packer, sealer| {
        for pack in 0..PACKS {
            let from = first + pack * CHUNKS;
            let chunk = |number| Chunk { id: invented(number), length: 1 };
            let chunks = (from..from + CHUNKS).map(chunk).collect();
            packer.add(&sealer.seal(ChunkKind::Data, &[0; CHUNKS as usize], chunks)?)?;
            packer.flush()?;
        }
        Ok(packer.take_put())
    })
    .unwrap()
}

/// Puts a segment, signed by this key's writer unless another is named.
pub fn put_segment(
    repository: &Repository,
    packs: &[PutPack],
    removes: &[PackId],
    signer: Option<(WriterId, &SigningKey)>,
) -> SegmentId {
    let mut sealing = repository.sealing();
    if let Some(signer) = signer {
        (sealing.signer, sealing.signing) = signer;
    }
    let mut entries: Vec<_> = packs.iter().map(PutPack::as_entry).collect();
    let bytes = segment::encode(&sealing, &[], removes, &mut entries);
    let id = SegmentId(*blake3::hash(&bytes).as_bytes());
    repository.store().put(&segment_key(id), bytes.into()).unwrap();
    id
}
