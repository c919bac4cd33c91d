//! Moves what is needed out of packs that are about to go. Without the content
//! key blocks move as they are; with it, chunks that are needed are gathered
//! into new blocks. Reference pages can be gathered by whoever holds the index
//! key. Every block is checked before it moves; a damaged one stays where it is.

use std::collections::BTreeMap;

use super::progress_check;
use super::survey::Survey;
use crate::format::ChunkKind;
use crate::format::pack::{Block, Chunk, Coordinate, Session, pack_key};
use crate::id::{PackId, WriterId};
use crate::progress::{Event, Progress};
use crate::repository::index::PackToc;
use crate::repository::packer::{BLOCK_CHUNKS, Packer, SealedBlock, Sealer, block_target};
use crate::repository::{Error, Repository, Result};

/// Bytes read from a pack at once, at most; a block is never longer.
const READ_BYTES: u64 = 8 << 20;

/// A block some of which is needed.
struct LiveBlock {
    at: usize,
    needed: Vec<u16>,
}

/// What is done with a block and its stored bytes.
type Work<'w, M> = dyn FnMut(&mut M, &LiveBlock, &[u8]) -> Result<()> + 'w;

/// Chunks of one kind and one claimant on their way into a block.
#[derive(Default)]
struct Open {
    raw: Vec<u8>,
    chunks: Vec<Chunk>,
    coordinates: Vec<Coordinate>,
}

pub(super) struct Mover<'a> {
    repository: &'a Repository,
    packer: &'a Packer,
    sealer: &'a Sealer,
    recuts: bool,
    open: BTreeMap<(u8, WriterId), (ChunkKind, Open)>,
}

impl<'a> Mover<'a> {
    pub fn new(
        repository: &'a Repository,
        packer: &'a Packer,
        sealer: &'a Sealer,
        recuts: bool,
    ) -> Self {
        Mover { repository, packer, sealer, recuts, open: BTreeMap::new() }
    }

    /// Moves what is needed of a pack. An error of the kind damage says that
    /// the pack must stay.
    pub fn pack(
        &mut self,
        pack: PackId,
        survey: &Survey<'_>,
        progress: &dyn Progress,
    ) -> Result<()> {
        let index = self.repository.index();
        let gone = || Error::damage(format!("{}: is not in the index any more", pack_key(pack)));
        let toc = index.toc(index.pack_number(pack).ok_or_else(gone)?)?;
        let live = live_blocks(&toc, survey)?;
        if survey.damaged.contains(&pack) {
            // all or nothing: what was moved of a pack that stays would lie twice
            self.each(&toc, &live, progress, &mut |_, block, stored| sound(&toc, block, stored))?;
        }
        self.each(&toc, &live, progress, &mut |mover, block, stored| {
            mover.block(&toc, block, stored)
        })
    }

    /// Reads blocks, neighbours together.
    fn each(
        &mut self,
        toc: &PackToc,
        live: &[LiveBlock],
        progress: &dyn Progress,
        work: &mut Work<'_, Self>,
    ) -> Result<()> {
        for group in groups(toc, live) {
            progress_check(progress)?;
            let (start, end) = extent(toc, group);
            let key = pack_key(toc.pack);
            let bytes = self.repository.store().get_range(&key, start, end - start)?;
            progress.event(Event::Done { files: 0, bytes: end - start });
            for block in group {
                let from = (offset(toc, block.at) - start) as usize;
                let length = toc.toc.blocks.get(block.at).map_or(0, |b| b.stored_length as usize);
                let stored = bytes.get(from..from + length).unwrap_or_default();
                work(self, block, stored)?;
            }
        }
        Ok(())
    }

    fn block(&mut self, toc: &PackToc, live: &LiveBlock, stored: &[u8]) -> Result<()> {
        let no_block = || Error::damage(format!("{}: no such block", pack_key(toc.pack)));
        let block = toc.toc.blocks.get(live.at).ok_or_else(no_block)?;
        let session = toc.toc.sessions.get(usize::from(block.session)).ok_or_else(no_block)?;
        sound(toc, live, stored)?;
        let whole = live.needed.len() == block.chunks as usize;
        let small = (block.raw_length as usize) < block_target(block.kind) / 4;
        let may_recut = self.recuts || block.kind == ChunkKind::Refs;
        if may_recut && (!whole || small) {
            return self.recut(toc, live, block, session, stored);
        }
        let ordinals = toc.ordinals_of(live.at);
        let chunks = toc.toc.chunks.get(ordinals.start as usize..ordinals.end as usize);
        let coordinates = ordinals.map(|ordinal| toc.coordinate(ordinal as u16)).collect();
        self.packer.add(SealedBlock::carried(
            block,
            session,
            stored.to_vec(),
            chunks.unwrap_or_default().to_vec(),
            coordinates,
        ))
    }

    fn recut(
        &mut self,
        toc: &PackToc,
        live: &LiveBlock,
        block: &Block,
        session: &Session,
        stored: &[u8],
    ) -> Result<()> {
        let mut stored = stored.to_vec();
        let raw = self.repository.open_block(toc, block, &mut stored)?;
        let key = (block.kind as u8, session.writer);
        for ordinal in &live.needed {
            let bytes = crate::repository::blocks::chunk_slice(toc, *ordinal, &raw);
            let chunk = toc.toc.chunks.get(usize::from(*ordinal));
            let (Some(bytes), Some(chunk)) = (bytes, chunk) else { continue };
            // what is sealed anew is vouched for anew
            if self.repository.keyring().chunk_id(block.kind, bytes)? != chunk.id {
                return Err(Error::damage(format!(
                    "{}: a chunk is not the one it is said to be",
                    pack_key(toc.pack)
                )));
            }
            let full = self.open.get(&key).is_some_and(|(_, open)| {
                open.raw.len() + bytes.len() > block_target(block.kind) && !open.raw.is_empty()
                    || open.chunks.len() >= BLOCK_CHUNKS
            });
            if full {
                self.close(key)?;
            }
            let (_, open) = self.open.entry(key).or_insert_with(|| (block.kind, Open::default()));
            open.raw.extend_from_slice(bytes);
            open.chunks.push(*chunk);
            open.coordinates.push(toc.coordinate(*ordinal));
        }
        Ok(())
    }

    fn close(&mut self, key: (u8, WriterId)) -> Result<()> {
        let Some((kind, open)) = self.open.remove(&key) else { return Ok(()) };
        let session = self.packer.session(kind.pack_kind(), key.1);
        let sealed = self.sealer.seal(kind, &open.raw, open.chunks)?;
        // reference pages are needed by id: they have no coordinate
        let origins = if kind == ChunkKind::Refs { Vec::new() } else { open.coordinates };
        self.packer.add(sealed.born_at(session, origins))
    }

    /// Closes what is open; everything is in the store when this returns.
    pub fn finish(&mut self) -> Result<()> {
        let keys: Vec<_> = self.open.keys().copied().collect();
        for key in keys {
            self.close(key)?;
        }
        self.packer.flush()
    }
}

/// Whether a block's bytes are what the table of contents says.
fn sound(toc: &PackToc, live: &LiveBlock, stored: &[u8]) -> Result<()> {
    let block = toc.toc.blocks.get(live.at);
    if block.is_some_and(|b| blake3::hash(stored).as_bytes()[..16] == b.stored_hash) {
        return Ok(());
    }
    Err(Error::damage(format!("{}: a block's bytes are damaged [PACK-7]", pack_key(toc.pack))))
}

fn live_blocks(toc: &PackToc, survey: &Survey<'_>) -> Result<Vec<LiveBlock>> {
    let mut live = Vec::new();
    for at in 0..toc.toc.blocks.len() {
        let mut needed = Vec::new();
        for ordinal in toc.ordinals_of(at) {
            if survey.is_needed(toc, ordinal as u16)? {
                needed.push(ordinal as u16);
            }
        }
        if !needed.is_empty() {
            live.push(LiveBlock { at, needed });
        }
    }
    Ok(live)
}

fn offset(toc: &PackToc, at: usize) -> u64 {
    toc.offsets.get(at).copied().unwrap_or(0)
}

fn end(toc: &PackToc, at: usize) -> u64 {
    offset(toc, at) + toc.toc.blocks.get(at).map_or(0, |block| u64::from(block.stored_length))
}

fn extent(toc: &PackToc, group: &[LiveBlock]) -> (u64, u64) {
    let start = group.first().map_or(0, |block| offset(toc, block.at));
    (start, group.last().map_or(start, |block| end(toc, block.at)))
}

/// Neighbouring blocks that are read together.
fn groups<'b>(toc: &PackToc, live: &'b [LiveBlock]) -> Vec<&'b [LiveBlock]> {
    let mut groups = Vec::new();
    let mut start = 0;
    for at in 1..=live.len() {
        let joins = live.get(at).zip(live.get(start)).is_some_and(|(next, first)| {
            let neighbours = live.get(at - 1).is_some_and(|last| last.at + 1 == next.at);
            neighbours && end(toc, next.at) - offset(toc, first.at) <= READ_BYTES
        });
        if !joins {
            groups.extend(live.get(start..at).filter(|group| !group.is_empty()));
            start = at;
        }
    }
    groups
}
