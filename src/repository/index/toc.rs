//! Tables of contents with what look-ups in them need, and those kept in memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use super::PackNumber;
use crate::format::pack::{Coordinate, Toc};
use crate::id::{ChunkId, PackId};

/// Decoded tables of contents kept in memory, in chunks.
const CACHE_CHUNKS: usize = 400_000;

/// A table of contents with what look-ups in it need.
pub struct PackToc {
    pub pack: PackId,
    pub toc: Toc,
    pub offsets: Vec<u64>,
    /// Ordinal of each block's first chunk.
    pub first_ordinals: Vec<u32>,
    by_id: HashMap<ChunkId, u16>,
}

impl PackToc {
    pub fn new(pack: PackId, toc: Toc) -> Self {
        let offsets = toc.offsets();
        let mut next = 0;
        let first_ordinals = toc
            .blocks
            .iter()
            .map(|block| {
                let first = next;
                next += block.chunks;
                first
            })
            .collect();
        let by_id =
            toc.chunks.iter().zip(0u16..=u16::MAX).map(|(chunk, at)| (chunk.id, at)).collect();
        PackToc { pack, toc, offsets, first_ordinals, by_id }
    }

    pub fn block_of(&self, ordinal: u16) -> usize {
        self.first_ordinals.partition_point(|first| *first <= u32::from(ordinal)) - 1
    }

    /// Ordinals of the chunks in block `at`.
    pub fn ordinals_of(&self, at: usize) -> std::ops::Range<u32> {
        let first = self.first_ordinals.get(at).copied().unwrap_or(0);
        let count = self.toc.blocks.get(at).map_or(0, |block| block.chunks);
        first..first + count
    }

    pub fn ordinal_of(&self, id: &ChunkId) -> Option<u16> {
        self.by_id.get(id).copied()
    }

    pub fn coordinate(&self, ordinal: u16) -> Coordinate {
        self.toc.coordinate(self.pack, ordinal)
    }
}

#[derive(Default)]
struct Kept {
    tocs: HashMap<PackNumber, (Arc<PackToc>, u64)>,
    chunks: usize,
    clock: u64,
}

/// The tables used last.
#[derive(Default)]
pub struct TocCache(Mutex<Kept>);

impl TocCache {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn get(&self, number: PackNumber) -> Option<Arc<PackToc>> {
        let mut kept = self.lock();
        kept.clock += 1;
        let clock = kept.clock;
        let (toc, used) = kept.tocs.get_mut(&number)?;
        *used = clock;
        Some(toc.clone())
    }

    pub fn put(&self, number: PackNumber, toc: Arc<PackToc>) {
        let mut kept = self.lock();
        kept.chunks += toc.toc.chunks.len();
        kept.clock += 1;
        let clock = kept.clock;
        if let Some((old, _)) = kept.tocs.insert(number, (toc, clock)) {
            kept.chunks -= old.toc.chunks.len();
        }
        while kept.chunks > CACHE_CHUNKS && kept.tocs.len() > 1 {
            let oldest = kept.tocs.iter().min_by_key(|(_, (_, used))| *used).map(|(n, _)| *n);
            let Some((toc, _)) = oldest.and_then(|number| kept.tocs.remove(&number)) else { break };
            kept.chunks -= toc.toc.chunks.len();
        }
    }

    pub fn remove(&self, number: PackNumber) {
        let mut kept = self.lock();
        if let Some((old, _)) = kept.tocs.remove(&number) {
            kept.chunks -= old.toc.chunks.len();
        }
    }

    pub fn clear(&self) {
        *self.lock() = Kept::default();
    }
}
