//! The workers: read small files, cut, hash, deduplicate, gather new chunks
//! into blocks, compress and seal them.

use std::fs::File;
use std::io::Read;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::context::Context;
use super::work::{Cut, Done, Job, Part, Planned, Reading, Result as WorkResult};
use crate::files::{self, Found, Item as WalkItem, WalkOptions};
use crate::format::ChunkKind;
use crate::format::content::{Content, Item};
use crate::format::entry::{Entry, EntryKind, MAX_INLINE_XATTR, Metadata};
use crate::format::pack::Coordinate;
use crate::id::ChunkId;
use crate::progress::Event;
use crate::repository::Result;
use crate::repository::known::Lookup;
use crate::repository::packer;

/// Files from this size on are asked for their holes.
const ASK_FOR_HOLES: u64 = 64 * 1024;
const ATTEMPTS: usize = 3;
/// Files of a batch that a worker has open at once, at most. On a cold disk 16
/// are read in two thirds of the time of one; 256 gain little more.
const OPENED_AHEAD: usize = 32;
/// All extended attributes of an entry beyond this go out of it, in bytes.
const MAX_XATTRS_INLINE: usize = 32 * 1024;

/// New chunks on their way into a block.
pub struct Gather<'a> {
    context: &'a Context<'a>,
    kind: ChunkKind,
    lookup: Lookup<'a>,
    blocks: packer::Gather<'a>,
}

impl<'a> Gather<'a> {
    pub fn new(context: &'a Context<'a>, kind: ChunkKind) -> Self {
        let blocks = packer::Gather::new(context.packer, context.sealer, kind);
        Gather { context, kind, lookup: Lookup::new(&context.known), blocks }
    }

    /// Names a chunk and stores it if nobody has it. The id, and its coordinate
    /// if it was there before this run.
    pub fn chunk(&mut self, bytes: &[u8]) -> Result<Part> {
        let context = self.context;
        let id = context.chunk_id(self.kind, bytes)?;
        let item = Item::Chunk { id, length: bytes.len() as u32 };
        let known = self.lookup.find(&id)?;
        if known.is_none() && context.packer.claim(id) {
            context.bytes_added.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            context.count_if_healed(&id)?;
            if !context.options.dry_run {
                self.blocks.add(id, bytes)?;
            }
        }
        Ok(Part { item, known })
    }

    /// Where a chunk lies, if it was there before this run.
    pub fn find(&mut self, id: &ChunkId) -> Result<Option<Coordinate>> {
        self.lookup.find(id)
    }

    pub fn flush(&mut self) -> Result<()> {
        self.blocks.flush()
    }
}

/// Works as one of so many workers until no more jobs come.
pub fn work(
    context: &Context<'_>,
    workers: usize,
    jobs: &crossbeam_channel::Receiver<(u64, Job)>,
    results: &crossbeam_channel::Sender<(u64, WorkResult)>,
) -> Result<()> {
    let opened_ahead = opened_ahead(files::open_file_limit(), workers);
    let mut gather = Gather::new(context, ChunkKind::Data);
    let mut buffer = Vec::new();
    for (sequence, job) in jobs {
        context.check_abort()?;
        let result = match job {
            Job::Batch(batch) => {
                WorkResult::Batch(entries(&mut gather, batch, opened_ahead, &mut buffer)?)
            }
            Job::Piece { buffer, cuts, reply } => {
                let parts = piece(&mut gather, &buffer, &cuts)?;
                match reply {
                    None => WorkResult::Piece(parts),
                    Some(reply) => {
                        // nobody listens if the capture was given up
                        let _ = reply.send((sequence, parts));
                        continue;
                    }
                }
            }
        };
        if results.send((sequence, result)).is_err() {
            return Ok(());
        }
    }
    gather.flush()
}

/// The entries of a batch. Files are opened before their turn, which asks the
/// system for their bytes: a disk finds many sooner than one after the other.
fn entries(
    gather: &mut Gather<'_>,
    mut batch: Vec<Planned>,
    opened_ahead: usize,
    buffer: &mut Vec<u8>,
) -> Result<Vec<Done>> {
    let mut done = Vec::with_capacity(batch.len());
    batch.iter_mut().take(opened_ahead).for_each(open_ahead);
    let mut rest = batch.into_iter();
    while let Some(planned) = rest.next() {
        done.extend(entry(gather, planned, buffer)?);
        if let Some(next) = rest.as_mut_slice().get_mut(opened_ahead - 1) {
            open_ahead(next);
        }
    }
    Ok(done)
}

/// How many files each worker may have open, one at least: together a fourth of
/// what the process may, since others open files as well.
fn opened_ahead(limit: usize, workers: usize) -> usize {
    (limit / 4 / workers).clamp(1, OPENED_AHEAD)
}

/// A file that cannot be opened here is tried again when its turn comes.
fn open_ahead(planned: &mut Planned) {
    if let Reading::Whole = planned.reading {
        planned.opened = open(&planned.found).ok();
    }
}

fn open(found: &Found) -> std::io::Result<File> {
    let path = Path::new(std::ffi::OsStr::from_bytes(&found.path));
    files::read::open(path, found.metadata.inode, found.device_id)
}

fn is_zero(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<64>();
    chunks.iter().all(|chunk| *chunk == [0; 64]) && rest.iter().all(|byte| *byte == 0)
}

fn piece(gather: &mut Gather<'_>, buffer: &[u8], cuts: &[Cut]) -> Result<Vec<Part>> {
    let mut parts = Vec::with_capacity(cuts.len());
    let mut bytes_done = 0;
    for cut in cuts {
        let part = match cut {
            Cut::Hole(length) => {
                bytes_done += length;
                Part { item: Item::Hole { length: *length }, known: None }
            }
            Cut::Data(range) => {
                bytes_done += range.len() as u64;
                data(gather, &buffer[range.clone()])?
            }
        };
        parts.push(part);
    }
    gather.context.progress.event(Event::Done { files: 0, bytes: bytes_done });
    Ok(parts)
}

/// A chunk of nothing but zeros is a hole: it costs nothing to keep.
fn data(gather: &mut Gather<'_>, bytes: &[u8]) -> Result<Part> {
    if bytes.len() >= 4096 && is_zero(bytes) {
        return Ok(Part { item: Item::Hole { length: bytes.len() as u64 }, known: None });
    }
    gather.chunk(bytes)
}

/// Looks at one path anew, after what was there was replaced.
pub fn look_again(path: &[u8]) -> std::io::Result<Option<Found>> {
    let options = WalkOptions { read_xattrs: true, ..WalkOptions::default() };
    let root = PathBuf::from(std::ffi::OsStr::from_bytes(path));
    let mut found = None;
    let mut failed = None;
    files::walk(&[root], &options, &mut |item| {
        match item {
            WalkItem::Found(again) if again.path == path => {
                found = Some(again);
                return ControlFlow::Break(());
            }
            WalkItem::Failed { error, .. } if error.kind() != std::io::ErrorKind::NotFound => {
                failed = Some(error);
            }
            _ => {}
        }
        ControlFlow::Continue(())
    });
    match failed {
        Some(error) if found.is_none() => Err(error),
        _ => Ok(found.filter(|found| found.kind == EntryKind::File)),
    }
}

/// Takes over what an open file says of itself now.
pub fn refresh(metadata: &mut Metadata, now: &Metadata) {
    metadata.size = now.size;
    metadata.mode = now.mode;
    metadata.uid = now.uid;
    metadata.gid = now.gid;
    metadata.mtime = now.mtime;
    metadata.ctime = now.ctime;
}

/// An entry with everything but its content. What `planned` knew goes into it.
pub fn bare_entry(
    gather: &mut Gather<'_>,
    planned: &mut Planned,
    changed_while_read: bool,
) -> Result<(Entry, Vec<Part>)> {
    let mut metadata = std::mem::take(&mut planned.found.metadata);
    let mut long = Vec::new();
    let mut parts = Vec::new();
    let total: usize = metadata.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
    let limit = if total > MAX_XATTRS_INLINE { 64 } else { MAX_INLINE_XATTR };
    if metadata.xattrs.iter().any(|(_, value)| value.len() > limit) {
        let (inline, out) = std::mem::take(&mut metadata.xattrs)
            .into_iter()
            .partition(|(_, value)| value.len() <= limit);
        metadata.xattrs = inline;
        for (name, value) in out {
            // 64 KiB at most, so one chunk
            let part = gather.chunk(&value)?;
            long.push((name, Content::Items(vec![part.item])));
            parts.push(part);
        }
    }
    if planned.found.kind != EntryKind::File {
        metadata.size = 0;
    }
    let entry = Entry {
        key: std::mem::take(&mut planned.key),
        kind: planned.found.kind,
        metadata,
        long_xattrs: long,
        content: Content::Empty,
        link_group: planned.link_group,
        filesystem: planned.filesystem,
        changed_while_read,
        sparse: planned.sparse,
    };
    Ok((entry, parts))
}

/// One entry of a batch; nothing when it could not be read or is gone.
fn entry(
    gather: &mut Gather<'_>,
    mut planned: Planned,
    buffer: &mut Vec<u8>,
) -> Result<Option<Done>> {
    let context = gather.context;
    let mut changed = false;
    let mut unchanged = false;
    let mut content_parts = Vec::new();
    if let Reading::Keep { content, items, sparse } = &planned.reading {
        match kept_parts(gather, content, items.as_deref().map(Vec::as_slice))? {
            Some(parts) => {
                content_parts = parts;
                unchanged = true;
                planned.sparse = *sparse;
            }
            // something of it is no longer there: read it again
            None => planned.reading = Reading::Whole,
        }
    }
    if let Reading::Whole = planned.reading {
        match small_file(gather, &mut planned, buffer)? {
            Some((parts, still_changing)) => {
                content_parts = parts;
                changed = still_changing;
            }
            None => return Ok(None),
        }
    }
    if planned.found.kind == EntryKind::File {
        let bytes = planned.found.metadata.size;
        context.progress.event(Event::Done { files: 1, bytes });
    }
    if changed {
        context.note(&planned.found.path, "changed while it was read");
    }
    let (mut entry, attributes) = bare_entry(gather, &mut planned, changed)?;
    if let Reading::Keep { content, .. } = planned.reading {
        entry.content = content;
    }
    Ok(Some(Done {
        entry,
        content: content_parts,
        attributes,
        before: planned.before,
        unchanged,
        implied: planned.found.implied_parent,
    }))
}

/// The parts of an unchanged file; nothing when a chunk is no longer known.
fn kept_parts(
    gather: &mut Gather<'_>,
    content: &Content,
    items: Option<&[Item]>,
) -> Result<Option<Vec<Part>>> {
    let repository = gather.context.repository;
    let mut parts = Vec::new();
    let mut all_known = true;
    let mut add = |item: Item| {
        let known = match item {
            Item::Chunk { id, .. } => {
                let known = gather.find(&id)?;
                all_known &= known.is_some();
                known
            }
            Item::Hole { .. } => None,
        };
        parts.push(Part { item, known });
        Ok(())
    };
    match items.or_else(|| super::plan::own_items(content)) {
        Some(items) => items.iter().try_for_each(|item| add(*item))?,
        None => match repository.items(content, &mut add) {
            Ok(()) => {}
            Err(error) if error.kind == crate::repository::ErrorKind::Damage => return Ok(None),
            Err(error) => return Err(error),
        },
    }
    Ok(all_known.then_some(parts))
}

/// Reads a file into memory and cuts it. Nothing when it could not be read or
/// is gone; else its parts, and whether it kept changing.
fn small_file(
    gather: &mut Gather<'_>,
    planned: &mut Planned,
    buffer: &mut Vec<u8>,
) -> Result<Option<(Vec<Part>, bool)>> {
    let context = gather.context;
    for attempt in 1..=ATTEMPTS {
        match read_once(planned, buffer) {
            Ok(stable) if stable || attempt == ATTEMPTS => {
                let parts = cut_small(gather, buffer)?;
                return Ok(Some((parts, !stable)));
            }
            Ok(_) => {}
            Err(error) => {
                let replaced = error.kind() == std::io::ErrorKind::StaleNetworkFileHandle;
                let gone = error.kind() == std::io::ErrorKind::NotFound;
                match (replaced || gone).then(|| look_again(&planned.found.path)) {
                    Some(Ok(Some(found))) if attempt < ATTEMPTS => planned.found = found,
                    Some(Ok(None)) => {
                        context.note(&planned.found.path, "left out: vanished before it was read");
                        return Ok(None);
                    }
                    _ => {
                        context.failure(&planned.found.path, &error.to_string());
                        return Ok(None);
                    }
                }
            }
        }
    }
    Ok(None)
}

/// Whether the file was the same before and after it was read.
fn read_once(planned: &mut Planned, buffer: &mut Vec<u8>) -> std::io::Result<bool> {
    let mut file = match planned.opened.take() {
        Some(file) => file,
        None => open(&planned.found)?,
    };
    let found = &planned.found;
    buffer.clear();
    let limit = super::plan::LONG_FILE * 8;
    (&mut file).take(limit).read_to_end(buffer)?;
    let now = files::read::current(file.as_fd())?;
    if buffer.len() as u64 == limit {
        let reason = "grew by far while it was read: the next backup will take it";
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, reason));
    }
    let size = found.metadata.size;
    let stable = now.mtime == found.metadata.mtime
        && now.ctime == found.metadata.ctime
        && now.size == size
        && buffer.len() as u64 == size;
    planned.sparse = false;
    if size >= ASK_FOR_HOLES {
        let ranges = files::read::data_ranges(file.as_fd(), size)?;
        planned.sparse_to(&ranges, size);
    }
    refresh(&mut planned.found.metadata, &now);
    planned.found.metadata.size = buffer.len() as u64;
    Ok(stable)
}

/// Cuts what is whole in memory.
pub fn cut_small(gather: &mut Gather<'_>, buffer: &[u8]) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    let mut rest = buffer;
    while !rest.is_empty() {
        let length = gather.context.chunker.cut(rest);
        let (chunk, after) = rest.split_at(length);
        parts.push(data(gather, chunk)?);
        rest = after;
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_opened_ahead_leave_room_for_others() {
        assert_eq!(opened_ahead(usize::MAX, 256), OPENED_AHEAD);
        assert_eq!(opened_ahead(1024, 8), OPENED_AHEAD);
        assert_eq!(opened_ahead(64, 8), 2);
        assert_eq!(opened_ahead(64, 256), 1);
    }
}
