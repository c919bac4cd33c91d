//! Moves what is needed out of packs that are about to go. Without the content
//! key blocks move as they are; with it, chunks that are needed are gathered
//! into new blocks. Reference pages can be gathered by whoever holds the index
//! key. Every block is checked before it moves; a damaged one stays where it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::progress_check;
use super::survey::Survey;
use crate::format::ChunkKind;
use crate::format::pack::{Block, Chunk, Coordinate, Session, pack_key};
use crate::id::{PackId, WriterId};
use crate::progress::{Event, Progress};
use crate::repository::index::PackToc;
use crate::repository::packer::{BLOCK_CHUNKS, Packer, SealedBlock, Sealer, block_target};
use crate::repository::{Error, ErrorKind, Repository, Result};
use crate::store::{Ahead, at_once, in_order};

/// Bytes read from a pack at once, unless a single block is longer.
const READ_BYTES: u64 = 2 << 20;
/// Reads under way at once, and their bytes: enough that the link is busy while
/// what came is worked on. Not more: they share it, and nothing goes up before
/// the first have come.
const READS: usize = 4;
const READ_AHEAD_BYTES: u64 = 8 << 20;

/// A block some of which is needed.
struct LiveBlock {
    at: usize,
    needed: Vec<u16>,
}

/// What is to be moved of a pack.
struct Moving {
    toc: Arc<PackToc>,
    live: Vec<LiveBlock>,
    /// Set when the rest of it must stay: nothing more is read.
    stays: AtomicBool,
}

/// Neighbouring blocks that are read together.
struct Group<'m> {
    of: &'m Moving,
    /// Which of the packs to move it lies in.
    number: usize,
    live: &'m [LiveBlock],
}

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

    /// Moves what is needed of packs, and gives back for each why it must stay,
    /// if it must: errors of the kind damage.
    pub fn packs(
        &mut self,
        packs: &[PackId],
        survey: &Survey<'_>,
        progress: &dyn Progress,
    ) -> Result<Vec<Option<Error>>> {
        let (mut moving, mut reasons) = (Vec::new(), Vec::new());
        for pack in packs {
            let looked = self.look(*pack, survey, progress);
            reasons.push(looked.as_ref().err().cloned());
            match looked {
                Ok(looked) => moving.push(Some(looked)),
                Err(error) if error.kind == ErrorKind::Damage => moving.push(None),
                Err(error) => return Err(error),
            }
        }
        let with_numbers = moving.iter().enumerate();
        let groups: Vec<Group<'_>> = with_numbers
            .filter_map(|(number, moving)| Some(groups(number, moving.as_ref()?)))
            .flatten()
            .collect();
        let repository = self.repository;
        read_groups(repository, &groups, progress, &mut |group, bytes| {
            let moved = bytes.and_then(|bytes| {
                each(repository, group, &bytes, &mut |block, stored| {
                    self.block(&group.of.toc, block, stored)
                })
            });
            match moved {
                Err(error) if error.kind == ErrorKind::Damage => {
                    group.of.stays.store(true, Ordering::Relaxed);
                    if let Some(reason) = reasons.get_mut(group.number) {
                        reason.get_or_insert(error);
                    }
                    Ok(())
                }
                moved => moved,
            }
        })?;
        Ok(reasons)
    }

    /// What is needed of a pack.
    fn look(&self, pack: PackId, survey: &Survey<'_>, progress: &dyn Progress) -> Result<Moving> {
        let index = self.repository.index();
        let gone = || Error::damage(format!("{}: is not in the index any more", pack_key(pack)));
        let toc = index.toc(index.pack_number(pack).ok_or_else(gone)?)?;
        let live = live_blocks(&toc, survey)?;
        let moving = Moving { toc, live, stays: AtomicBool::new(false) };
        if survey.damaged.contains(&pack) {
            // all or nothing: what was moved of a pack that stays would lie twice
            let all = groups(0, &moving);
            read_groups(self.repository, &all, progress, &mut |group, bytes| {
                each(self.repository, group, &bytes?, &mut |_, _| Ok(()))
            })?;
        }
        Ok(moving)
    }

    /// Moves a sound block.
    fn block(&mut self, toc: &PackToc, live: &LiveBlock, stored: &[u8]) -> Result<()> {
        let no_block = || Error::damage(format!("{}: no such block", pack_key(toc.pack)));
        let block = toc.toc.blocks.get(live.at).ok_or_else(no_block)?;
        let session = toc.toc.sessions.get(usize::from(block.session)).ok_or_else(no_block)?;
        let whole = live.needed.len() == block.chunks as usize;
        let small = (block.raw_length as usize) < block_target(block.kind) / 4;
        let may_recut = self.recuts || block.kind == ChunkKind::Refs;
        if may_recut && (!whole || small) {
            return self.recut(toc, live, block, session, stored);
        }
        let ordinals = toc.ordinals_of(live.at);
        let chunks = toc.toc.chunks.get(ordinals.start as usize..ordinals.end as usize);
        let coordinates = ordinals.map(|ordinal| toc.coordinate(ordinal as u16)).collect();
        self.packer.add(&SealedBlock::carried(
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
        self.packer.add(&sealed.born_at(session, origins))
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

impl Group<'_> {
    fn extent(&self) -> (u64, u64) {
        let toc = &self.of.toc;
        let start = self.live.first().map_or(0, |block| offset(toc, block.at));
        (start, self.live.last().map_or(start, |block| end(toc, block.at)))
    }

    fn length(&self) -> u64 {
        let (start, end) = self.extent();
        end - start
    }
}

/// Reads groups, some ahead, and gives them to `work` in their order.
fn read_groups(
    repository: &Repository,
    groups: &[Group<'_>],
    progress: &dyn Progress,
    work: &mut dyn FnMut(&Group<'_>, Result<Bytes>) -> Result<()>,
) -> Result<()> {
    let store = &**repository.store();
    let ahead = Ahead { requests: at_once(store).min(READS), budget_bytes: READ_AHEAD_BYTES };
    let stays = |group: &Group<'_>| group.of.stays.load(Ordering::Relaxed);
    let read = |group: &Group<'_>| {
        let key = pack_key(group.of.toc.pack);
        let (start, length) = (group.extent().0, group.length());
        (!stays(group)).then(|| store.get_range(&key, start, length).map_err(Error::from))
    };
    in_order(groups, ahead, Group::length, read, |group, bytes| {
        progress_check(progress)?;
        let Some(bytes) = bytes.filter(|_| !stays(group)) else { return Ok(()) };
        if bytes.is_ok() {
            progress.event(Event::Done { files: 0, bytes: group.length() });
        }
        work(group, bytes)
    })
}

/// Gives each block of a group that was read to `work`, if it is sound. One that is
/// not is read again: it may have been altered on its way.
fn each(
    repository: &Repository,
    group: &Group<'_>,
    bytes: &[u8],
    work: &mut dyn FnMut(&LiveBlock, &[u8]) -> Result<()>,
) -> Result<()> {
    let toc = &group.of.toc;
    let (start, _) = group.extent();
    group.live.iter().try_for_each(|block| {
        let from = (offset(toc, block.at) - start) as usize;
        let length = toc.toc.blocks.get(block.at).map_or(0, |b| b.stored_length as usize);
        let stored = bytes.get(from..from + length).unwrap_or_default();
        if sound(toc, block, stored).is_ok() {
            return work(block, stored);
        }
        let key = pack_key(toc.pack);
        let again = repository.store().get_range(&key, offset(toc, block.at), length as u64)?;
        sound(toc, block, &again)?;
        work(block, &again)
    })
}

/// Neighbouring blocks that are read together.
fn groups(number: usize, of: &Moving) -> Vec<Group<'_>> {
    let Moving { toc, live, .. } = of;
    let mut groups = Vec::new();
    let mut start = 0;
    for at in 1..=live.len() {
        let joins = live.get(at).zip(live.get(start)).is_some_and(|(next, first)| {
            let neighbours = live.get(at - 1).is_some_and(|last| last.at + 1 == next.at);
            neighbours && end(toc, next.at) - offset(toc, first.at) <= READ_BYTES
        });
        if !joins {
            let group = live.get(start..at).filter(|group| !group.is_empty());
            groups.extend(group.map(|live| Group { of, number, live }));
            start = at;
        }
    }
    groups
}
