//! Tables of contents with what look-ups in them need, and those kept in memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use super::PackNumber;
use crate::format::pack::{Coordinate, Toc};
use crate::id::{ChunkId, PackId};

/// Decoded tables of contents kept in memory, in chunks.
const CACHE_CHUNKS: usize = 400_000;

/// Chunks of a table that are read and decoded in the time it takes to look one
/// up in a table that is not kept.
const CHUNKS_A_LOOK: u32 = 128;

/// A table of contents with what look-ups in it need.
pub struct PackToc {
    pub pack: PackId,
    pub toc: Toc,
    pub offsets: Vec<u64>,
    /// Ordinal of each block's first chunk.
    pub first_ordinals: Vec<u32>,
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
        PackToc { pack, toc, offsets, first_ordinals }
    }

    pub fn block_of(&self, ordinal: u16) -> usize {
        self.first_ordinals.partition_point(|first| *first <= u32::from(ordinal)) - 1
    }

    /// Ordinals of the first chunks of the blocks behind the one that an ordinal is in.
    pub fn starts_behind(&self, ordinal: u16) -> &[u32] {
        &self.first_ordinals[self.block_of(ordinal) + 1..]
    }

    /// Ordinals of the chunks in block `at`.
    pub fn ordinals_of(&self, at: usize) -> std::ops::Range<u32> {
        let first = self.first_ordinals.get(at).copied().unwrap_or(0);
        let count = self.toc.blocks.get(at).map_or(0, |block| block.chunks);
        first..first + count
    }

    /// Whether the chunk at an ordinal is this one.
    pub fn has_at(&self, ordinal: u16, id: &ChunkId) -> bool {
        self.toc.chunks.get(usize::from(ordinal)).is_some_and(|chunk| chunk.id == *id)
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
    /// How many ids were looked up in tables that are not kept, lately.
    looks: HashMap<PackNumber, u32>,
}

impl Kept {
    /// Forgets the tables that were not used for longest, half of what there is:
    /// one at a time would mean to look through all of them for each.
    fn forget_half(&mut self) {
        let mut used: Vec<(u64, PackNumber, usize)> = self
            .tocs
            .iter()
            .map(|(number, (toc, used))| (*used, *number, toc.toc.chunks.len()))
            .collect();
        used.sort_unstable();
        // whatever its size, the one just added stays
        used.pop();
        for (_, number, chunks) in used {
            if self.chunks <= CACHE_CHUNKS / 2 {
                break;
            }
            self.tocs.remove(&number);
            self.chunks -= chunks;
        }
        // looks that are far apart do not make a table one to keep
        self.looks.clear();
    }
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
        kept.looks.remove(&number);
        if let Some((old, _)) = kept.tocs.insert(number, (toc, clock)) {
            kept.chunks -= old.toc.chunks.len();
        }
        if kept.chunks > CACHE_CHUNKS {
            kept.forget_half();
        }
    }

    /// Notes a look into a table that is not kept. Says whether all of them
    /// together cost as much by now as reading it.
    pub fn note_look(&self, number: PackNumber, chunks: u32) -> bool {
        let mut kept = self.lock();
        let looks = kept.looks.entry(number).or_default();
        *looks += 1;
        looks.saturating_mul(CHUNKS_A_LOOK) >= chunks
    }

    pub fn remove(&self, number: PackNumber) {
        let mut kept = self.lock();
        kept.looks.remove(&number);
        if let Some((old, _)) = kept.tocs.remove(&number) {
            kept.chunks -= old.toc.chunks.len();
        }
    }

    /// Forgets the tables of which `stays` does not hold.
    pub fn retain(&self, stays: impl Fn(PackNumber) -> bool) {
        let mut kept = self.lock();
        kept.tocs.retain(|number, _| stays(*number));
        kept.looks.retain(|number, _| stays(*number));
        kept.chunks = kept.tocs.values().map(|(toc, _)| toc.toc.chunks.len()).sum();
    }

    pub fn clear(&self) {
        *self.lock() = Kept::default();
    }
}
