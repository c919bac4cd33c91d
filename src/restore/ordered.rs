//! Bytes in their order, fetched ahead: one thread plans, some fetch, and the
//! caller's writes out what is next as soon as it is there.

use std::io::Write;
use std::sync::Arc;

use bytes::BytesMut;
use crossbeam_channel::{Receiver, Sender, bounded};

use super::elsewhere::Elsewhere;
use super::fetch::open;
use crate::format::ChunkKind;
use crate::format::content::{Content, Item};
use crate::format::pack::pack_key;
use crate::id::{ChunkId, PackId};
use crate::repository::blocks::{chunk_slice, mutable};
use crate::repository::index::{PackNumber, PackToc};
use crate::repository::{Error, ErrorKind, Repository, Result};
use crate::store::at_once;

/// Runs on their way at once, and bytes of each: of what it gives, of its blocks as
/// they are stored, and of what lies between its chunks. Together with a decoded
/// block for each thread that is what is held in memory.
const MAX_RUNS: usize = 8;
/// Of them, read at once at least where the store is elsewhere.
const MIN_REMOTE: usize = 4;
const MAX_RUN_RAW: u64 = 8 << 20;
const MAX_RUN_STORED: u64 = 8 << 20;
const MAX_RUN_BETWEEN: u64 = 1 << 20;
const MAX_RUN_PARTS: usize = 1 << 16;

/// A stretch of the stream whose chunks follow each other in one pack.
struct Run {
    pack: PackNumber,
    toc: Arc<PackToc>,
    parts: Vec<Part>,
    /// Of all parts, and of those that are bytes.
    bytes: u64,
    between: u64,
    first_block: usize,
    last_block: usize,
}

enum Part {
    Chunk(u16, ChunkId),
    /// What lies between: headers of an archive, holes.
    Bytes(Vec<u8>),
    Zeros(u64),
}

/// What was read of a run, and why not the rest.
type RunBytes = (Vec<u8>, Option<Error>);

/// The block that a thread decoded last: the next run may begin in it.
struct Decoded {
    pack: PackId,
    block: usize,
    raw: Vec<u8>,
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
    last: Option<(PackNumber, Arc<PackToc>)>,
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
            && run.fits(block, length)
        {
            run.last_block = block;
            run.add(Part::Chunk(ordinal, id), u64::from(length));
            return Ok(());
        }
        self.end_run()?;
        let parts = vec![Part::Chunk(ordinal, id)];
        let bytes = u64::from(length);
        let (first_block, last_block) = (block, block);
        self.open = Some(Run { pack, toc, parts, bytes, between: 0, first_block, last_block });
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
    fn add(&mut self, part: Part, length: u64) {
        self.parts.push(part);
        self.bytes += length;
    }

    /// Whether a chunk of `block` may be added.
    fn fits(&self, block: usize, length: u32) -> bool {
        let blocks = self.toc.toc.blocks.get(self.first_block..=block).unwrap_or_default();
        let raw: u64 = blocks.iter().map(|block| u64::from(block.raw_length)).sum();
        // the same chunk many times over is long without being many blocks
        let bytes = self.bytes + u64::from(length);
        raw <= MAX_RUN_RAW && self.stored(block) <= MAX_RUN_STORED && bytes <= MAX_RUN_RAW
    }

    /// Stored bytes of its blocks up to one.
    fn stored(&self, last_block: usize) -> u64 {
        let blocks = self.toc.toc.blocks.get(self.first_block..=last_block).unwrap_or_default();
        blocks.iter().map(|block| u64::from(block.stored_length)).sum()
    }

    fn read(
        &self,
        repository: &Repository,
        elsewhere: &Elsewhere<'_>,
        decoded: &mut Option<Decoded>,
    ) -> RunBytes {
        let mut bytes = Vec::with_capacity(self.bytes as usize);
        let end = self.read_into(repository, elsewhere, decoded, &mut bytes).err();
        (bytes, end)
    }

    fn read_into(
        &self,
        repository: &Repository,
        elsewhere: &Elsewhere<'_>,
        decoded: &mut Option<Decoded>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let (toc, pack) = (&self.toc, self.toc.pack);
        let offset = toc.offsets.get(self.first_block).copied().unwrap_or_default();
        let mut fetched = None;
        for part in &self.parts {
            let (ordinal, id) = match part {
                Part::Chunk(ordinal, id) => (*ordinal, id),
                Part::Bytes(bytes) => {
                    out.extend_from_slice(bytes);
                    continue;
                }
                Part::Zeros(length) => {
                    out.resize(out.len() + *length as usize, 0);
                    continue;
                }
            };
            let block = toc.block_of(ordinal);
            if decoded.as_ref().is_none_or(|last| (last.pack, last.block) != (pack, block)) {
                if fetched.is_none() {
                    fetched = Some(self.fetch(repository, offset)?);
                }
                let stored = fetched.as_mut().and_then(Option::as_mut);
                let raw = stored.and_then(|stored| {
                    Some(open(repository, toc, offset, stored, block).ok()?.into_owned())
                });
                *decoded = raw.map(|raw| Decoded { pack, block, raw });
            }
            let found = decoded.as_ref().and_then(|last| chunk_slice(toc, ordinal, &last.raw));
            match found {
                Some(found) if repository.keyring().chunk_id(ChunkKind::Data, found)? == *id => {
                    out.extend_from_slice(found);
                }
                // the same block first: it may have been altered on its way only
                _ => out.extend_from_slice(&elsewhere.rescue(id)?),
            }
        }
        Ok(())
    }

    /// The stored bytes of its blocks; nothing where they are damaged or gone.
    fn fetch(&self, repository: &Repository, offset: u64) -> Result<Option<BytesMut>> {
        let length = self.stored(self.last_block);
        match repository.store().get_range(&pack_key(self.toc.pack), offset, length) {
            Ok(fetched) => Ok(Some(mutable(fetched))),
            Err(error) => match Error::from(error) {
                error if error.kind == ErrorKind::Damage => Ok(None),
                error => Err(error),
            },
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
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let queue = queue.clone();
            scope.spawn(move || {
                let mut decoded = None;
                for (run, reply) in queue {
                    let _ = reply.send(run.read(repository, elsewhere, &mut decoded));
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
