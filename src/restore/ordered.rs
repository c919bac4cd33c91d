//! Bytes in their order, fetched ahead: one thread plans, some fetch, and the
//! caller's writes out what is next as soon as it is there.

use std::io::Write;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::elsewhere::Elsewhere;
use super::fetch::open;
use crate::format::ChunkKind;
use crate::format::content::{Content, Item};
use crate::format::pack::pack_key;
use crate::id::ChunkId;
use crate::repository::blocks::{chunk_slice, mutable};
use crate::repository::index::{PackNumber, PackToc};
use crate::repository::{Error, ErrorKind, Repository, Result};
use crate::store::at_once;

/// Runs on their way at once, and bytes of blocks in each before compression
/// and after: together what is held in memory.
const MAX_RUNS: usize = 8;
/// Of them, read at once at least where the store is elsewhere.
const MIN_REMOTE: usize = 4;
const MAX_RUN_RAW: u64 = 8 << 20;
const MAX_RUN_STORED: u64 = 8 << 20;

/// Chunks that follow each other in the stream and in one pack.
struct Run {
    pack: PackNumber,
    toc: Arc<PackToc>,
    chunks: Vec<(u16, ChunkId)>,
    first_block: usize,
    last_block: usize,
}

/// What was read of a run, and why not the rest.
type RunBytes = (Vec<u8>, Option<Error>);

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
    last: Option<(PackNumber, Arc<PackToc>)>,
}

fn nobody_listens() -> Error {
    Error::failed("the output ended early")
}

impl Emitter<'_> {
    pub fn bytes(&mut self, bytes: Vec<u8>) -> Result<()> {
        self.end_run()?;
        self.put(Piece::Bytes(bytes))
    }

    /// The bytes of a file.
    pub fn content(&mut self, content: &Content) -> Result<()> {
        if let Content::Inline(bytes) = content {
            return self.bytes(bytes.clone());
        }
        let repository = self.repository;
        repository.items(content, &mut |item| match item {
            Item::Chunk { id, length } => self.chunk(id, length),
            Item::Hole { length } => {
                self.end_run()?;
                self.put(Piece::Zeros(length))
            }
        })
    }

    fn put(&self, piece: Piece) -> Result<()> {
        self.pieces.send(piece).map_err(|_| nobody_listens())
    }

    fn chunk(&mut self, id: ChunkId, length: u32) -> Result<()> {
        let near = self.last.as_ref().and_then(|(_, toc)| toc.ordinal_of(&id));
        let ordinal = match near {
            Some(ordinal) => Some(ordinal),
            None => match self.repository.places(&id)?.first() {
                Some(place) => {
                    let toc = self.repository.index().toc(place.pack)?;
                    self.last = Some((place.pack, toc));
                    Some(place.ordinal)
                }
                None => None,
            },
        };
        let (Some(ordinal), Some((pack, toc))) = (ordinal, self.last.clone()) else {
            self.end_run()?;
            return self.put(Piece::Lost(id));
        };
        if toc.toc.chunks.get(usize::from(ordinal)).is_none_or(|chunk| chunk.length != length) {
            return Err(Error::damage(format!("chunk {id} has another length")));
        }
        let block = toc.block_of(ordinal);
        if let Some(run) = &mut self.open
            && run.pack == pack
            && (block == run.last_block || block == run.last_block + 1)
            && run.fits(block)
        {
            run.last_block = block;
            run.chunks.push((ordinal, id));
            return Ok(());
        }
        self.end_run()?;
        let chunks = vec![(ordinal, id)];
        self.open = Some(Run { pack, toc, chunks, first_block: block, last_block: block });
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
    fn fits(&self, block: usize) -> bool {
        let blocks = self.toc.toc.blocks.get(self.first_block..=block).unwrap_or_default();
        let raw: u64 = blocks.iter().map(|block| u64::from(block.raw_length)).sum();
        let stored: u64 = blocks.iter().map(|block| u64::from(block.stored_length)).sum();
        let bytes = self.chunks.iter().filter_map(|(ordinal, _)| {
            self.toc.toc.chunks.get(usize::from(*ordinal)).map(|chunk| u64::from(chunk.length))
        });
        // the same chunk many times over is long without being many blocks
        raw <= MAX_RUN_RAW && stored <= MAX_RUN_STORED && bytes.sum::<u64>() <= MAX_RUN_RAW
    }

    fn read(&self, repository: &Repository, elsewhere: &Elsewhere<'_>) -> RunBytes {
        let mut bytes = Vec::new();
        let end = self.read_into(repository, elsewhere, &mut bytes).err();
        (bytes, end)
    }

    fn read_into(
        &self,
        repository: &Repository,
        elsewhere: &Elsewhere<'_>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let toc = &self.toc;
        let offset = toc.offsets.get(self.first_block).copied().unwrap_or_default();
        let blocks = toc.toc.blocks.get(self.first_block..=self.last_block).unwrap_or_default();
        let length = blocks.iter().map(|block| u64::from(block.stored_length)).sum();
        let mut fetched = match repository.store().get_range(&pack_key(toc.pack), offset, length) {
            Ok(fetched) => Some(mutable(fetched)),
            Err(error) => match Error::from(error) {
                error if error.kind == ErrorKind::Damage => None,
                error => return Err(error),
            },
        };
        let mut raw: Option<(usize, Vec<u8>)> = None;
        for (ordinal, id) in &self.chunks {
            let block = toc.block_of(*ordinal);
            if raw.as_ref().is_none_or(|(at, _)| *at != block) {
                raw = fetched.as_mut().and_then(|fetched| {
                    let raw = open(repository, toc, offset, fetched, block).ok()?;
                    Some((block, raw.into_owned()))
                });
            }
            let found = raw.as_ref().and_then(|(_, raw)| chunk_slice(toc, *ordinal, raw));
            match found {
                Some(found) if repository.keyring().chunk_id(ChunkKind::Data, found)? == *id => {
                    out.extend_from_slice(found);
                }
                // the same block first: it may have been altered on its way only
                _ => {
                    out.extend_from_slice(&elsewhere.rescue(id)?);
                }
            }
        }
        Ok(())
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
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let queue = queue.clone();
            scope.spawn(move || {
                for (run, reply) in queue {
                    let _ = reply.send(run.read(repository, elsewhere));
                }
            });
        }
        drop(queue);
        scope.spawn(move || {
            let mut emitter = Emitter { repository, pieces, runs, open: None, last: None };
            let done = produce(&mut emitter).and_then(|()| emitter.end_run());
            if let Err(error) = done {
                let _ = emitter.end_run();
                let _ = emitter.put(Piece::End(error));
            }
        });
        write_pieces(elsewhere, to_write, out)
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
