//! The threads: fetch ranges of the source's packs, open and verify what is in
//! them, name every chunk anew, and seal what the destination lacks.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::Stop;
use super::build::Part;
use super::run::Run;
use crate::format::ChunkKind;
use crate::format::pack::pack_key;
use crate::id::ChunkId;
use crate::repository::blocks::mutable;
use crate::repository::index::{PackNumber, PackToc};
use crate::repository::known::Lookup;
use crate::repository::packer::Gather;
use crate::repository::{Error, ErrorKind};
use crate::store::at_once;

type Result<T> = std::result::Result<T, Stop>;

/// Threads that fetch and seal, at most; each holds a range, a decoded block and
/// one that is gathered.
const MAX_WORKERS: usize = 8;
/// As many are worth it where the store is elsewhere, whatever the processors.
const REMOTE_WORKERS: usize = 6;
/// Stored bytes fetched at once, unless a single block is longer.
const MAX_RANGE: u64 = 4 << 20;
/// Unwanted bytes that are fetched along rather than asked for around.
const MAX_GAP: u64 = 128 << 10;

/// A chunk of a pack: ordinal, id and the length that whoever uses it tells.
type Wanted = (u16, ChunkId, u32);

/// Consecutive bytes of one pack, and what is wanted of them.
struct Range {
    toc: Arc<PackToc>,
    /// Bytes in the pack.
    offset: u64,
    length: u64,
    /// Blocks with the chunks wanted of them, sorted by ordinal.
    blocks: Vec<(usize, Vec<Wanted>)>,
}

/// What the threads take their work from.
struct Work {
    ranges: Vec<Range>,
    /// In no pack that is known, or of another length there.
    unplaced: Vec<(ChunkId, u32)>,
}

/// The threads' own, from window to window.
pub(super) struct Readers<'r> {
    run: &'r Run<'r>,
    workers: Vec<Worker<'r>>,
}

struct Worker<'r> {
    run: &'r Run<'r>,
    gather: Gather<'r>,
    lookup: Lookup<'r>,
    /// Chunks by their id in the source.
    done: Vec<(ChunkId, Part)>,
}

impl<'r> Readers<'r> {
    pub fn new(run: &'r Run<'r>) -> Readers<'r> {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let remote = at_once(&**run.source.store()) > 1;
        let workers = cores.max(if remote { REMOTE_WORKERS } else { 1 }).min(MAX_WORKERS);
        let worker = |_| Worker {
            run,
            gather: Gather::new(run.packer, run.sealer, ChunkKind::Data),
            lookup: Lookup::new(run.known),
            done: Vec::new(),
        };
        Readers { run, workers: (0..workers).map(worker).collect() }
    }

    /// Fetches chunks, pack by pack, and has those put that the destination lacks:
    /// each with what it is there.
    pub fn fetch(&mut self, wanted: HashMap<ChunkId, u32>) -> Result<Vec<(ChunkId, Part)>> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let work = self.work(wanted)?;
        let next = AtomicUsize::new(0);
        let stopped = Mutex::new(None);
        let threads = self.workers.len().min(work.ranges.len()).max(1);
        std::thread::scope(|scope| {
            for worker in &mut self.workers[..threads] {
                scope.spawn(|| {
                    if let Err(stop) = worker.take(&work, &next) {
                        // the others stop at their next range
                        next.store(usize::MAX / 2, Ordering::Relaxed);
                        let mut stopped = stopped.lock().unwrap_or_else(PoisonError::into_inner);
                        stopped.get_or_insert(stop);
                    }
                });
            }
        });
        if let Some(stop) = stopped.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(stop);
        }
        let mut done = Vec::new();
        self.workers.iter_mut().for_each(|worker| done.append(&mut worker.done));
        for (id, length) in work.unplaced {
            done.push((id, self.workers[0].rescue(&id, length)?));
        }
        Ok(done)
    }

    /// Puts what is gathered.
    pub fn finish(mut self) -> Result<()> {
        self.workers.iter_mut().try_for_each(|worker| worker.gather.flush())?;
        Ok(())
    }

    /// Where the chunks lie, in the order of the packs.
    fn work(&self, wanted: HashMap<ChunkId, u32>) -> Result<Work> {
        let source = self.run.source;
        let mut packs: BTreeMap<PackNumber, (Arc<PackToc>, Vec<Wanted>)> = BTreeMap::new();
        let mut work = Work { ranges: Vec::new(), unplaced: Vec::new() };
        for (id, length) in wanted {
            let places = source.places(&id).map_err(Stop::Source)?;
            let used = places.iter().find(|place| packs.contains_key(&place.pack));
            let Some(place) = used.or(places.first()) else {
                work.unplaced.push((id, length));
                continue;
            };
            let toc = source.index().toc(place.pack).map_err(Stop::Source)?;
            let chunk = toc.toc.chunks.get(usize::from(place.ordinal));
            if chunk.is_some_and(|chunk| chunk.id == id && chunk.length == length) {
                let (_, wants) = packs.entry(place.pack).or_insert_with(|| (toc, Vec::new()));
                wants.push((place.ordinal, id, length));
            } else {
                work.unplaced.push((id, length));
            }
        }
        work.unplaced.sort_unstable();
        for (toc, wants) in packs.into_values() {
            ranges(&toc, wants, &mut work.ranges);
        }
        Ok(work)
    }
}

/// Joins neighbouring blocks of a pack into ranges.
fn ranges(toc: &Arc<PackToc>, mut wants: Vec<Wanted>, ranges: &mut Vec<Range>) {
    wants.sort_unstable();
    let mut blocks: Vec<(usize, Vec<Wanted>)> = Vec::new();
    for want in wants {
        let block = toc.block_of(want.0);
        match blocks.last_mut() {
            Some((last, chunks)) if *last == block => chunks.push(want),
            _ => blocks.push((block, vec![want])),
        }
    }
    let mut open: Option<Range> = None;
    for (block, chunks) in blocks {
        let offset = toc.offsets.get(block).copied().unwrap_or_default();
        let length = toc.toc.blocks.get(block).map_or(0, |block| u64::from(block.stored_length));
        if let Some(range) = &mut open
            && offset - (range.offset + range.length) <= MAX_GAP
            && offset + length - range.offset <= MAX_RANGE
        {
            range.length = offset + length - range.offset;
            range.blocks.push((block, chunks));
            continue;
        }
        let next = Range { toc: toc.clone(), offset, length, blocks: vec![(block, chunks)] };
        ranges.extend(open.replace(next));
    }
    ranges.extend(open);
}

impl Worker<'_> {
    fn take(&mut self, work: &Work, next: &AtomicUsize) -> Result<()> {
        while let Some(range) = work.ranges.get(next.fetch_add(1, Ordering::Relaxed)) {
            if self.run.progress.interrupted() {
                return Err(Error::interrupted().into());
            }
            self.range(range)?;
        }
        Ok(())
    }

    fn range(&mut self, range: &Range) -> Result<()> {
        let key = pack_key(range.toc.pack);
        let got = self.run.source.store().get_range(&key, range.offset, range.length);
        let mut bytes = match got.map_err(Error::from) {
            Ok(bytes) => mutable(bytes),
            // gone or cut short: chunk by chunk, from wherever it still is
            Err(error) if error.kind == ErrorKind::Damage => {
                let mut chunks = range.blocks.iter().flat_map(|(_, chunks)| chunks);
                return chunks.try_for_each(|want| self.rescued(want));
            }
            Err(error) => return Err(Stop::Source(error)),
        };
        self.run.bytes_read.fetch_add(range.length, Ordering::Relaxed);
        for (at, chunks) in &range.blocks {
            self.block(range, *at, chunks, &mut bytes)?;
        }
        Ok(())
    }

    fn block(
        &mut self,
        range: &Range,
        at: usize,
        chunks: &[Wanted],
        fetched: &mut [u8],
    ) -> Result<()> {
        let (source, toc) = (self.run.source, &range.toc);
        let place = toc.toc.blocks.get(at).zip(toc.offsets.get(at)).and_then(|(block, offset)| {
            let start = offset.checked_sub(range.offset)? as usize;
            Some((block, fetched.get_mut(start..start + block.stored_length as usize)?))
        });
        let opened = match place {
            Some((block, stored)) => source.open_block(toc, block, stored),
            None => Err(Error::damage(format!("{}: no such block", pack_key(toc.pack)))),
        };
        let raw = match opened {
            Ok(raw) => raw,
            Err(error) if error.kind == ErrorKind::Damage => {
                return chunks.iter().try_for_each(|want| self.rescued(want));
            }
            Err(error) => return Err(Stop::Source(error)),
        };
        let mut ordinal = toc.first_ordinals.get(at).map_or(0, |first| *first as usize);
        let mut start = 0;
        for want in chunks {
            let (wanted, id, length) = want;
            while ordinal < usize::from(*wanted) {
                start += toc.toc.chunks.get(ordinal).map_or(0, |chunk| chunk.length as usize);
                ordinal += 1;
            }
            let bytes = raw.get(start..start + *length as usize).unwrap_or_default();
            let is_right = source.keyring().chunk_id(ChunkKind::Data, bytes);
            if is_right.map_err(Stop::Source)? != *id {
                self.rescued(want)?;
                continue;
            }
            let part = self.seal(bytes)?;
            self.done.push((*id, part));
        }
        Ok(())
    }

    fn rescued(&mut self, (_, id, length): &Wanted) -> Result<()> {
        let part = self.rescue(id, *length)?;
        self.done.push((*id, part));
        Ok(())
    }

    /// A chunk from any place that has it. What no place has ends the snapshot.
    fn rescue(&mut self, id: &ChunkId, length: u32) -> Result<Part> {
        let bytes = self.run.source.read_chunk(id, ChunkKind::Data).map_err(Stop::Source)?;
        if bytes.len() != length as usize {
            let message = format!("chunk {id} has another length");
            return Err(Stop::Source(Error::damage(message)));
        }
        self.seal(&bytes)
    }

    /// Names verified bytes as the destination does, and stores them if it has not
    /// got them.
    fn seal(&mut self, bytes: &[u8]) -> Result<Part> {
        let run = self.run;
        let id = run.destination.keyring().chunk_id(ChunkKind::Data, bytes)?;
        let known = self.lookup.find(&id)?;
        if known.is_none() && run.packer.claim(id) {
            run.bytes_added.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            self.gather.add(id, bytes)?;
        }
        Ok(Part { id, known })
    }
}
