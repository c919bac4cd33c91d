//! Bytes in their order, fetched ahead: one thread plans, some fetch, and the
//! caller's writes out what is next as soon as it is there.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::elsewhere::Elsewhere;
use super::fetch::open;
use crate::format::ChunkKind;
use crate::format::content::{Content, Item};
use crate::format::pack::pack_key;
use crate::id::ChunkId;
use crate::repository::blocks::{chunk_slice, mutable};
use crate::repository::index::{PackNumber, PackToc};
use crate::repository::neighbours::Neighbours;
use crate::repository::{Error, ErrorKind, Repository, Result};
use crate::store::at_once;

/// Runs on their way at once, and bytes of each: of what it gives, of the blocks it
/// reads, decoded and as they are stored, and of what lies between its chunks. With
/// the blocks that are kept that is what is held in memory.
const MAX_RUNS: usize = 8;
/// Of them, read at once at least where the store is elsewhere.
const MIN_REMOTE: usize = 4;
const MAX_RUN_RAW: u64 = 4 << 20;
const MAX_RUN_STORED: u64 = 4 << 20;
const MAX_RUN_BETWEEN: u64 = 1 << 20;
const MAX_RUN_PARTS: usize = 1 << 16;
/// Bytes of decoded blocks that are kept for the runs to come: a backup fills as many
/// blocks at once as it has workers, and the stream goes to and fro between them.
const MAX_KEPT: u64 = 32 << 20;
/// What a kept block counts at least: there must not be too many to look through.
const MIN_KEPT: u64 = 256 << 10;

/// A stretch of the stream whose chunks lie in blocks of one pack.
struct Run {
    pack: PackNumber,
    toc: Arc<PackToc>,
    parts: Vec<Part>,
    /// Of all parts, and of those that are bytes.
    bytes: u64,
    between: u64,
    /// The blocks that this run reads, and their lengths; others a run before it reads.
    reads: Vec<Filling>,
    raw: u64,
    stored: u64,
}

enum Part {
    Chunk(u16, ChunkId, Arc<Slot>),
    /// What lies between: headers of an archive, holes.
    Bytes(Vec<u8>),
    Zeros(u64),
}

/// What was read of a run, and why not the rest.
type RunBytes = (Vec<u8>, Option<Error>);

/// Where a decoded block will be, for all runs with chunks of it. Runs are begun in
/// their order, and read their own blocks before they wait: whoever waits for one
/// waits for something under way.
type Slot = OnceLock<Result<Vec<u8>>>;

/// The duty to fill a slot: whatever becomes of it, nobody waits for ever.
struct Filling {
    block: usize,
    slot: Arc<Slot>,
}

impl Drop for Filling {
    fn drop(&mut self) {
        let _ = self.slot.set(Err(nobody_listens()));
    }
}

enum Piece {
    Bytes(Vec<u8>),
    Zeros(u64),
    Run(Receiver<RunBytes>),
    /// A chunk in no pack that is known here.
    Lost(ChunkId),
    End(Error),
}

/// Takes a stream's pieces in order.
pub(super) struct Emitter<'a> {
    repository: &'a Repository,
    pieces: Sender<Piece>,
    runs: Sender<(Run, Sender<RunBytes>)>,
    open: Option<Run>,
    near: Neighbours,
    /// Blocks that a run reads or has read, the one wanted last in front.
    kept: VecDeque<Kept>,
}

struct Kept {
    pack: PackNumber,
    block: usize,
    raw: u64,
    slot: Arc<Slot>,
}

fn nobody_listens() -> Error {
    Error::failed("the output ended early")
}

impl Emitter<'_> {
    pub fn bytes(&mut self, bytes: Vec<u8>) -> Result<()> {
        let length = bytes.len() as u64;
        match self.open_run(length) {
            Some(run) if run.between + length <= MAX_RUN_BETWEEN => {
                run.between += length;
                run.add(Part::Bytes(bytes), length);
                Ok(())
            }
            _ => {
                self.end_run()?;
                self.put(Piece::Bytes(bytes))
            }
        }
    }

    fn zeros(&mut self, length: u64) -> Result<()> {
        match self.open_run(length) {
            Some(run) => {
                run.add(Part::Zeros(length), length);
                Ok(())
            }
            None => {
                self.end_run()?;
                self.put(Piece::Zeros(length))
            }
        }
    }

    /// The run at hand, if so much more goes into it: ending it at everything that
    /// is no chunk would mean to decode the same block for the next one.
    fn open_run(&mut self, length: u64) -> Option<&mut Run> {
        self.open.as_mut().filter(|run| {
            run.bytes.saturating_add(length) <= MAX_RUN_RAW && run.parts.len() < MAX_RUN_PARTS
        })
    }

    /// The bytes of a file.
    pub fn content(&mut self, content: &Content) -> Result<()> {
        if let Content::Inline(bytes) = content {
            return self.bytes(bytes.clone());
        }
        let repository = self.repository;
        repository.items(content, &mut |item| match item {
            Item::Chunk { id, length } => self.chunk(id, length),
            Item::Hole { length } => self.zeros(length),
        })
    }

    fn put(&self, piece: Piece) -> Result<()> {
        self.pieces.send(piece).map_err(|_| nobody_listens())
    }

    fn chunk(&mut self, id: ChunkId, length: u32) -> Result<()> {
        let Some((pack, toc, ordinal)) = self.near.place(self.repository, &id)? else {
            self.end_run()?;
            return self.put(Piece::Lost(id));
        };
        if toc.toc.chunks.get(usize::from(ordinal)).is_none_or(|chunk| chunk.length != length) {
            return Err(Error::damage(format!("chunk {id} has another length")));
        }
        let block = toc.block_of(ordinal);
        let lengths = toc.toc.blocks.get(block);
        let raw = lengths.map_or(0, |block| u64::from(block.raw_length));
        let stored = lengths.map_or(0, |block| u64::from(block.stored_length));
        let at = self.kept.iter().position(|kept| (kept.pack, kept.block) == (pack, block));
        let kept = at.and_then(|at| self.kept.remove(at));
        // the same chunk many times over is long without being many blocks
        let fits = self.open_run(u64::from(length)).is_some_and(|run| {
            run.pack == pack
                && (kept.is_some()
                    || run.raw + raw <= MAX_RUN_RAW && run.stored + stored <= MAX_RUN_STORED)
        });
        if !fits {
            self.end_run()?;
        }
        let run = self.open.get_or_insert_with(|| Run::new(pack, toc));
        let kept = kept.unwrap_or_else(|| {
            let slot = Arc::<Slot>::default();
            run.reads.push(Filling { block, slot: slot.clone() });
            run.raw += raw;
            run.stored += stored;
            Kept { pack, block, raw, slot }
        });
        run.add(Part::Chunk(ordinal, id, kept.slot.clone()), u64::from(length));
        self.kept.push_front(kept);
        let mut room = MAX_KEPT;
        self.kept.retain(|kept| {
            room = room.saturating_sub(kept.raw.max(MIN_KEPT));
            room > 0
        });
        Ok(())
    }

    fn end_run(&mut self) -> Result<()> {
        let Some(run) = self.open.take() else { return Ok(()) };
        let (reply, answer) = bounded(1);
        self.put(Piece::Run(answer))?;
        self.runs.send((run, reply)).map_err(|_| nobody_listens())
    }
}

impl Run {
    fn new(pack: PackNumber, toc: Arc<PackToc>) -> Run {
        let (parts, reads) = (Vec::new(), Vec::new());
        Run { pack, toc, parts, bytes: 0, between: 0, reads, raw: 0, stored: 0 }
    }

    fn add(&mut self, part: Part, length: u64) {
        self.parts.push(part);
        self.bytes += length;
    }

    fn read(self, repository: &Repository, elsewhere: &Elsewhere<'_>) -> RunBytes {
        let mut bytes = Vec::with_capacity(self.bytes as usize);
        let end = self.read_into(repository, elsewhere, &mut bytes).err();
        (bytes, end)
    }

    fn read_into(
        mut self,
        repository: &Repository,
        elsewhere: &Elsewhere<'_>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        self.fill(repository);
        for part in self.parts {
            let (ordinal, id, slot) = match part {
                Part::Chunk(ordinal, id, slot) => (ordinal, id, slot),
                Part::Bytes(bytes) => {
                    out.extend_from_slice(&bytes);
                    continue;
                }
                Part::Zeros(length) => {
                    out.resize(out.len() + length as usize, 0);
                    continue;
                }
            };
            let found = match slot.wait() {
                Ok(raw) => chunk_slice(&self.toc, ordinal, raw),
                Err(error) if error.kind == ErrorKind::Damage => None,
                Err(error) => return Err(error.clone()),
            };
            match found {
                Some(found) if repository.keyring().chunk_id(ChunkKind::Data, found)? == id => {
                    out.extend_from_slice(found);
                }
                // the same block first: it may have been altered on its way only
                _ => out.extend_from_slice(&elsewhere.rescue(&id)?),
            }
        }
        Ok(())
    }

    /// Reads its blocks, neighbours with one request.
    fn fill(&mut self, repository: &Repository) {
        let mut reads = std::mem::take(&mut self.reads);
        reads.sort_by_key(|filling| filling.block);
        for neighbours in reads.chunk_by(|one, next| one.block + 1 == next.block) {
            let first = neighbours.first().map_or(0, |filling| filling.block);
            let offset = self.toc.offsets.get(first).copied().unwrap_or_default();
            let blocks = self.toc.toc.blocks.get(first..first + neighbours.len());
            let stored = blocks.unwrap_or_default().iter().map(|b| u64::from(b.stored_length));
            let key = pack_key(self.toc.pack);
            let mut fetched = match repository.store().get_range(&key, offset, stored.sum()) {
                Ok(fetched) => Ok(mutable(fetched)),
                Err(error) => Err(Error::from(error)),
            };
            for Filling { block, slot } in neighbours {
                let raw = match &mut fetched {
                    Ok(fetched) => open(repository, &self.toc, offset, fetched, *block),
                    Err(error) => Err(error.clone()),
                };
                let _ = slot.set(raw.map(Cow::into_owned));
            }
        }
    }
}

/// Writes what `produce` emits. When something cannot be read, all that comes
/// before it is written first.
pub(super) fn write_ordered(
    repository: &Repository,
    out: &mut dyn Write,
    produce: impl FnOnce(&mut Emitter<'_>) -> Result<()> + Send,
) -> Result<()> {
    let elsewhere = &Elsewhere::new(repository);
    let (pieces, to_write) = bounded(MAX_RUNS);
    let (runs, queue) = bounded::<(Run, Sender<RunBytes>)>(MAX_RUNS);
    let cores = std::thread::available_parallelism().map_or(2, |n| n.get().max(2));
    // of those that wait for a store elsewhere there may be more
    let threads = cores.max(at_once(&**repository.store()).min(MIN_REMOTE)).min(MAX_RUNS);
    // then runs that wait are not read any more
    let ended = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let queue = queue.clone();
            scope.spawn(move || {
                for (run, reply) in queue {
                    if !ended.load(Ordering::Relaxed) {
                        let _ = reply.send(run.read(repository, elsewhere));
                    }
                }
            });
        }
        drop(queue);
        scope.spawn(move || {
            let mut emitter = Emitter {
                repository,
                pieces,
                runs,
                open: None,
                near: Neighbours::default(),
                kept: VecDeque::new(),
            };
            let done = produce(&mut emitter).and_then(|()| emitter.end_run());
            if let Err(error) = done {
                let _ = emitter.end_run();
                let _ = emitter.put(Piece::End(error));
            }
        });
        let written = write_pieces(elsewhere, to_write, out);
        ended.store(true, Ordering::Relaxed);
        written
    })
}

fn write_pieces(
    elsewhere: &Elsewhere<'_>,
    pieces: Receiver<Piece>,
    out: &mut dyn Write,
) -> Result<()> {
    let zeros = vec![0; 64 << 10];
    let failed = |error: std::io::Error| Error::failed(format!("cannot write the output: {error}"));
    for piece in pieces {
        match piece {
            Piece::Bytes(bytes) => out.write_all(&bytes).map_err(failed)?,
            Piece::Zeros(mut length) => {
                while length > 0 {
                    let part = length.min(zeros.len() as u64);
                    out.write_all(&zeros[..part as usize]).map_err(failed)?;
                    length -= part;
                }
            }
            Piece::Run(answer) => {
                let (bytes, end) = answer.recv().map_err(|_| nobody_listens())?;
                out.write_all(&bytes).map_err(failed)?;
                if let Some(error) = end {
                    return Err(error);
                }
            }
            Piece::Lost(id) => out.write_all(&elsewhere.rescue(&id)?).map_err(failed)?,
            Piece::End(error) => return Err(error),
        }
    }
    out.flush().map_err(failed)
}
