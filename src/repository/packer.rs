//! Gathers sealed blocks into packs, closes a pack where its padding costs
//! least, names it by its hash and puts it. Uploads run beside the work, a few
//! at a time; every byte on the way is within one budget.
//!
//! `format-spec/07-packs.md`

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender};

use super::Repository;
use super::blocks::session_place;
use super::error::{Error, Result};
use super::index::{NewPack, PackToc};
use crate::compression::{self, Codec};
use crate::crypto::{NONCE_LENGTH, SecretKey, random, seal_in_place};
use crate::format::pack::{
    Birth, Block, Chunk, Coordinate, ForeignRun, MAX_BLOCKS, MAX_CHUNKS, MAX_SESSIONS, PackKind,
    Session, SessionKey, Toc, header, pack_key,
};
use crate::format::segment::{PackEntry, frame_hash};
use crate::format::{ChunkKind, block_place, padded_length};
use crate::id::{ChunkId, PackId, SnapshotId};
use crate::store::Store;

/// Plaintext gathered into one block, in bytes.
const DATA_BLOCK_TARGET: usize = 2 << 20;
/// The same of pages, which are looked up one by one.
const PAGE_BLOCK_TARGET: usize = 1 << 20;
/// The same of data that does not shrink: long blocks gain nothing there, and of
/// shorter ones a pack can close where its padding costs little.
const STORED_BLOCK_TARGET: usize = 256 << 10;
/// Chunks gathered into one block: a pack holds no more than 65,536.
pub const BLOCK_CHUNKS: usize = 8192;
const SMALL_PACK_TARGET: u64 = 8 << 20;
/// Length of data packs in repositories of up to so many bytes: a store that
/// charges for each object, and a listing of them, must stay bearable.
const DATA_PACK_TARGETS: [(u64, u64); 3] =
    [(1 << 40, 32 << 20), (4 << 40, 64 << 20), (u64::MAX, 128 << 20)];
/// Packs on their way to the store at once.
const UPLOADS: usize = 2;
/// Most bytes gathered and on their way, in lengths of a data pack: room for
/// those uploads and the pack that fills meanwhile, each of which may become a
/// fourth longer than that.
const BUDGET: u64 = 3;

/// Plaintext gathered into a block of this kind, in bytes.
pub fn block_target(kind: ChunkKind) -> usize {
    if kind == ChunkKind::Data { DATA_BLOCK_TARGET } else { PAGE_BLOCK_TARGET }
}

/// A block ready to lie in a pack.
pub struct SealedBlock {
    pub kind: ChunkKind,
    codec: Codec,
    raw_length: u32,
    stored: Vec<u8>,
    stored_hash: [u8; 16],
    chunks: Vec<Chunk>,
    moved: Option<Moved>,
}

/// Of a block whose chunks were born in other packs.
struct Moved {
    session: Session,
    coordinates: Vec<Coordinate>,
}

impl SealedBlock {
    /// A block as another pack holds it, chunks that are not needed included.
    /// `stored` must have the hash that the block tells.
    pub fn carried(
        block: &Block,
        session: &Session,
        stored: Vec<u8>,
        chunks: Vec<Chunk>,
        coordinates: Vec<Coordinate>,
    ) -> SealedBlock {
        SealedBlock {
            kind: block.kind,
            codec: block.codec,
            raw_length: block.raw_length,
            stored,
            stored_hash: block.stored_hash,
            chunks,
            moved: Some(Moved { session: session.clone(), coordinates }),
        }
    }

    /// Says where the chunks of a block that was cut anew were born, and who
    /// claims them.
    pub fn born_at(mut self, session: Session, coordinates: Vec<Coordinate>) -> SealedBlock {
        self.moved = Some(Moved { session, coordinates });
        self
    }
}

/// Compresses, checks and seals blocks of one run. Used by many threads.
pub struct Sealer {
    repository: crate::id::RepositoryId,
    session_key: SecretKey,
    index_key: SecretKey,
    level: i32,
}

impl Sealer {
    pub fn seal(&self, kind: ChunkKind, raw: &[u8], chunks: Vec<Chunk>) -> Result<SealedBlock> {
        self.seal_in(Vec::new(), kind, raw, chunks)
    }

    /// The same in memory that is there already, whatever is in it.
    fn seal_in(
        &self,
        mut stored: Vec<u8>,
        kind: ChunkKind,
        raw: &[u8],
        chunks: Vec<Chunk>,
    ) -> Result<SealedBlock> {
        stored.clear();
        stored.resize(NONCE_LENGTH, 0);
        let codec = compression::compress(raw, self.level, &mut stored)
            .map_err(|error| Error::failed(error.to_string()))?;
        let raw_length = raw.len() as u32;
        let place = block_place(self.repository, kind, codec, raw_length);
        let key = if kind == ChunkKind::Refs { &self.index_key } else { &self.session_key };
        seal_in_place(key, &place, &mut stored);
        let mut stored_hash = [0; 16];
        stored_hash.copy_from_slice(&blake3::hash(&stored).as_bytes()[..16]);
        Ok(SealedBlock { kind, codec, raw_length, stored, stored_hash, chunks, moved: None })
    }
}

/// New chunks of one kind on their way into a block.
pub struct Gather<'a> {
    packer: &'a Packer,
    sealer: &'a Sealer,
    kind: ChunkKind,
    target: usize,
    raw: Vec<u8>,
    chunks: Vec<Chunk>,
    /// Of the sealed block before, for the next one.
    memory: Vec<u8>,
}

impl<'a> Gather<'a> {
    pub fn new(packer: &'a Packer, sealer: &'a Sealer, kind: ChunkKind) -> Self {
        let target = block_target(kind);
        Gather {
            packer,
            sealer,
            kind,
            target,
            raw: Vec::new(),
            chunks: Vec::new(),
            memory: Vec::new(),
        }
    }

    /// Adds a chunk that the caller claimed.
    pub fn add(&mut self, id: ChunkId, bytes: &[u8]) -> Result<()> {
        if self.raw.len() + bytes.len() > self.target || self.chunks.len() >= BLOCK_CHUNKS {
            self.flush()?;
        }
        if self.raw.capacity() == 0 {
            self.raw.reserve_exact(self.target);
        }
        self.chunks.push(Chunk { id, length: bytes.len() as u32 });
        self.raw.extend_from_slice(bytes);
        Ok(())
    }

    pub fn flush(&mut self) -> Result<()> {
        let chunks = std::mem::take(&mut self.chunks);
        if self.raw.is_empty() {
            return Ok(());
        }
        let memory = std::mem::take(&mut self.memory);
        let block = self.sealer.seal_in(memory, self.kind, &self.raw, chunks)?;
        let shrank = block.codec != Codec::Stored;
        self.target = if shrank { block_target(self.kind) } else { STORED_BLOCK_TARGET };
        self.raw.clear();
        self.packer.add(&block)?;
        self.memory = block.stored;
        Ok(())
    }
}

/// Where a chunk of this run is: its pack may still be open.
#[derive(Clone, Copy)]
enum NewPlace {
    Claimed,
    /// In which of the closed packs, and where in it.
    Placed(u32, u16),
}

struct OpenPack {
    bytes: Vec<u8>,
    toc: Toc,
}

/// A pack that was put, until a segment names it.
pub struct PutPack {
    pub id: PackId,
    pub length: u64,
    pub frame: Vec<u8>,
    pub toc: Arc<PackToc>,
}

struct State {
    open: HashMap<PackKind, OpenPack>,
    next_number: u64,
    in_flight: usize,
    /// Of the blocks on their way.
    bytes_in_flight: u64,
    put: Vec<PutPack>,
    error: Option<Error>,
}

/// What all the packs of one run have in common, and those still open.
pub struct Packer {
    repository: crate::id::RepositoryId,
    epoch: u32,
    run: SnapshotId,
    started: u64,
    index_key: SecretKey,
    signer_id: crate::id::WriterId,
    signer: crate::crypto::SigningKey,
    sealed_session: Vec<u8>,
    data_target: u64,
    new_chunks: Vec<Mutex<HashMap<ChunkId, NewPlace>>>,
    /// Packs of this run that were closed.
    closed: Mutex<Vec<(Birth, PackId)>>,
    state: Mutex<State>,
    /// Memory of a pack that was put, for the next one: new memory would have to
    /// be cleared by the system first.
    spare: Mutex<Option<Vec<u8>>>,
    settled: Condvar,
    jobs: Sender<(Bytes, PutPack)>,
    /// Stored bytes handed to the store so far.
    pub bytes_put: AtomicU64,
    pub packs_put: AtomicU64,
    pub chunks_put: AtomicU64,
}

const SHARDS: usize = 16;

fn shard(id: &ChunkId) -> usize {
    usize::from(id.0[31]) % SHARDS
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Runs `work` with a packer and the sealer of its session. Uploads end before
/// this returns.
pub fn with_packer<T>(
    repository: &Repository,
    run: SnapshotId,
    started: u64,
    level: i32,
    work: impl FnOnce(&Packer, &Sealer) -> Result<T>,
) -> Result<T> {
    let keyring = repository.keyring();
    let session_key = SecretKey::random();
    let place = session_place(repository.id(), keyring.epoch);
    let (jobs, queue) = crossbeam_channel::bounded(0);
    let packer = Packer {
        repository: repository.id(),
        epoch: keyring.epoch,
        run,
        started,
        index_key: keyring.current_index_key().clone(),
        signer_id: keyring.writer,
        signer: keyring.signer.clone(),
        sealed_session: keyring.content_public.seal(&place, session_key.bytes()),
        data_target: data_target(repository.index().stored_bytes()),
        new_chunks: (0..SHARDS).map(|_| Mutex::default()).collect(),
        closed: Mutex::default(),
        state: Mutex::new(State {
            open: HashMap::new(),
            next_number: 0,
            in_flight: 0,
            bytes_in_flight: 0,
            put: Vec::new(),
            error: None,
        }),
        spare: Mutex::default(),
        settled: Condvar::new(),
        jobs,
        bytes_put: AtomicU64::new(0),
        packs_put: AtomicU64::new(0),
        chunks_put: AtomicU64::new(0),
    };
    let sealer = Sealer {
        repository: repository.id(),
        session_key,
        index_key: keyring.current_index_key().clone(),
        level,
    };
    let uploads = repository.store().concurrency().clamp(1, UPLOADS);
    std::thread::scope(|scope| {
        for _ in 0..uploads {
            let (packer, queue, store) = (&packer, queue.clone(), repository.store().clone());
            scope.spawn(move || packer.upload(&queue, &*store));
        }
        drop(queue);
        let end = EndUploads { packer: &packer, uploads };
        let result = work(&packer, &sealer);
        packer.wait_for_uploads();
        drop(end);
        let value = result?;
        match lock(&packer.state).error.take() {
            Some(error) => Err(error),
            None => Ok(value),
        }
    })
}

/// Ends the uploaders, also when the work panics: nobody would wait for them.
struct EndUploads<'a> {
    packer: &'a Packer,
    uploads: usize,
}

impl Drop for EndUploads<'_> {
    fn drop(&mut self) {
        for _ in 0..self.uploads {
            // an empty job ends one; where nobody takes it, all have ended
            let _ = self.packer.jobs.send((Bytes::new(), PutPack::nothing()));
        }
    }
}

fn panicked() -> Error {
    Error::failed("putting a pack failed in an unexpected way: this is a bug")
}

fn data_target(stored: u64) -> u64 {
    let [.., (_, longest)] = DATA_PACK_TARGETS;
    DATA_PACK_TARGETS.iter().find(|(most, _)| stored < *most).map_or(longest, |(_, target)| *target)
}

impl PutPack {
    fn nothing() -> PutPack {
        let toc = Toc {
            kind: PackKind::Data,
            birth: Birth(0),
            run: SnapshotId([0; 16]),
            sessions: Vec::new(),
            blocks: Vec::new(),
            chunks: Vec::new(),
            foreign: Vec::new(),
        };
        let id = PackId([0; 32]);
        PutPack { id, length: 0, frame: Vec::new(), toc: Arc::new(PackToc::new(id, toc)) }
    }

    /// As a segment lists it.
    pub fn as_entry(&self) -> PackEntry<'_> {
        PackEntry {
            id: self.id,
            length: self.length,
            frame: &self.frame,
            chunks: self.toc.toc.chunks.iter().map(|chunk| chunk.id).collect(),
        }
    }

    pub fn as_new_pack(&self, signer: crate::id::WriterId) -> NewPack {
        let frame_hash = frame_hash(&self.frame);
        NewPack { id: self.id, length: self.length, signer, frame_hash, toc: self.toc.clone() }
    }
}

impl Packer {
    pub fn run(&self) -> SnapshotId {
        self.run
    }

    /// The session of this run's own blocks, with `writer` as the one who claims
    /// their chunks.
    pub fn session(&self, kind: PackKind, writer: crate::id::WriterId) -> Session {
        let key = match kind {
            PackKind::Refs => SessionKey::Index,
            _ => SessionKey::Sealed(self.sealed_session.clone()),
        };
        Session { epoch: self.epoch, writer, key }
    }

    /// Claims a chunk for this run: true if nobody claimed it before, so that
    /// the caller must store it.
    pub fn claim(&self, id: ChunkId) -> bool {
        match lock(&self.new_chunks[shard(&id)]).entry(id) {
            std::collections::hash_map::Entry::Occupied(_) => false,
            std::collections::hash_map::Entry::Vacant(vacant) => {
                vacant.insert(NewPlace::Claimed);
                true
            }
        }
    }

    pub fn is_claimed(&self, id: &ChunkId) -> bool {
        lock(&self.new_chunks[shard(id)]).contains_key(id)
    }

    /// Where a chunk of this run came to lie, once its pack is closed.
    pub fn coordinate(&self, id: &ChunkId) -> Option<Coordinate> {
        let place = lock(&self.new_chunks[shard(id)]).get(id).copied();
        let Some(NewPlace::Placed(number, ordinal)) = place else { return None };
        let (birth, pack) = *lock(&self.closed).get(number as usize)?;
        Some(Coordinate { birth, pack, ordinal })
    }

    /// Forgets chunks of packs that are in the index by now.
    pub fn forget(&self, packs: &[PutPack]) {
        for chunk in packs.iter().flat_map(|pack| &pack.toc.toc.chunks) {
            lock(&self.new_chunks[shard(&chunk.id)]).remove(&chunk.id);
        }
    }

    /// Adds a block to the open pack of its kind, and closes that when it is
    /// full. Waits while too much is on its way to the store.
    pub fn add(&self, block: &SealedBlock) -> Result<()> {
        let kind = block.kind.pack_kind();
        let target = if kind == PackKind::Data { self.data_target } else { SMALL_PACK_TARGET };
        let is_full = |state: &State| {
            let open = state.open.get(&kind);
            open.is_some_and(|open| open.is_better_closed_before(block, target))
        };
        // one full pack behind those on their way is enough: more would only take
        // memory
        let must_wait = |state: &State| {
            state.in_flight >= UPLOADS && is_full(state)
                || state.is_crowded(block.stored.len() as u64, BUDGET * self.data_target)
        };
        let mut state = lock(&self.state);
        while state.error.is_none() && must_wait(&state) {
            state = self.settled.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        self.check(&state)?;
        let full = if is_full(&state) { state.take_open(kind) } else { None };
        if !state.open.contains_key(&kind) {
            let pack = self.open_pack(kind, state.next_number);
            state.next_number += 1;
            state.open.insert(kind, pack);
        }
        let open = state.open.get_mut(&kind).expect("just opened");
        open.add(block, || self.own_session(kind));
        drop(state);
        full.map_or(Ok(()), |full| self.close(full))
    }

    fn own_session(&self, kind: PackKind) -> Session {
        self.session(kind, self.signer_id)
    }

    fn check(&self, state: &State) -> Result<()> {
        match &state.error {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    fn open_pack(&self, kind: PackKind, number: u64) -> OpenPack {
        // past a million packs the next millisecond lends its numbers
        let birth = Birth((self.started << 20) + number);
        let toc = Toc {
            kind,
            birth,
            run: self.run,
            sessions: Vec::new(),
            blocks: Vec::new(),
            chunks: Vec::new(),
            foreign: Vec::new(),
        };
        let target = if kind == PackKind::Data { self.data_target } else { SMALL_PACK_TARGET };
        let spare = (kind == PackKind::Data).then(|| lock(&self.spare).take()).flatten();
        // address space only: pages become real as blocks come
        let fresh = || Vec::with_capacity((target + target / 4) as usize + (1 << 20));
        let mut bytes = spare.unwrap_or_else(fresh);
        bytes.extend_from_slice(&header(kind, birth));
        OpenPack { bytes, toc }
    }

    /// Pads, seals the table, names the pack, and sends it off. It is counted as
    /// on its way already.
    fn close(&self, open: OpenPack) -> Result<()> {
        let OpenPack { mut bytes, toc } = open;
        let frame = toc.encode_frame(
            self.repository,
            self.epoch,
            &self.index_key,
            self.signer_id,
            &self.signer,
        );
        let length = padded_length((bytes.len() + frame.len()) as u64) as usize;
        let padding = length - bytes.len() - frame.len();
        let mut noise = vec![0; padding];
        blake3::Hasher::new_keyed(&random()).finalize_xof().fill(&mut noise);
        bytes.extend_from_slice(&noise);
        bytes.extend_from_slice(&frame);
        let id = PackId(*blake3::hash(&bytes).as_bytes());
        let number = {
            let mut closed = lock(&self.closed);
            closed.push((toc.birth, id));
            closed.len() as u32 - 1
        };
        for (chunk, ordinal) in toc.chunks.iter().zip(0u16..=u16::MAX) {
            let place = NewPlace::Placed(number, ordinal);
            lock(&self.new_chunks[shard(&chunk.id)]).insert(chunk.id, place);
        }
        let put =
            PutPack { id, length: bytes.len() as u64, frame, toc: Arc::new(PackToc::new(id, toc)) };
        self.jobs.send((bytes.into(), put)).map_err(|_| Error::failed("uploads stopped"))
    }

    fn upload(&self, queue: &Receiver<(Bytes, PutPack)>, store: &dyn Store) {
        for (bytes, pack) in queue {
            if bytes.is_empty() {
                return;
            }
            let failed = lock(&self.state).error.is_some();
            let memory = bytes.clone();
            let put = || store.put(&pack_key(pack.id), bytes).map_err(Error::from);
            // whoever waits for this pack must not wait for ever
            let put = || catch_unwind(AssertUnwindSafe(put)).unwrap_or_else(|_| Err(panicked()));
            let result = if failed { Ok(()) } else { put() };
            // packs follow each other fast where compression has nothing to do
            if pack.toc.toc.kind == PackKind::Data
                && pack.toc.toc.blocks.iter().all(|block| block.codec == Codec::Stored)
                && let Ok(memory) = memory.try_into_mut()
            {
                let mut memory = Vec::from(memory);
                memory.clear();
                *lock(&self.spare) = Some(memory);
            }
            let mut state = lock(&self.state);
            state.in_flight -= 1;
            state.bytes_in_flight -= blocks_length(&pack.toc.toc);
            match result {
                Ok(()) if failed => {}
                Ok(()) => {
                    self.bytes_put.fetch_add(pack.length, Ordering::Relaxed);
                    self.packs_put.fetch_add(1, Ordering::Relaxed);
                    let chunks = pack.toc.toc.chunks.len() as u64;
                    self.chunks_put.fetch_add(chunks, Ordering::Relaxed);
                    state.put.push(pack);
                }
                // a put that failed is no damage, whatever the reason
                Err(mut error) => {
                    if error.kind == super::ErrorKind::Damage {
                        error.kind = super::ErrorKind::Failed;
                    }
                    state.error = Some(error);
                }
            }
            self.settled.notify_all();
        }
    }

    fn wait_for_uploads(&self) {
        let mut state = lock(&self.state);
        while state.in_flight > 0 {
            state = self.settled.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    /// Closes every open pack and waits until all are acknowledged.
    pub fn flush(&self) -> Result<()> {
        self.close_open()?;
        self.wait_for_uploads();
        self.check(&lock(&self.state))
    }

    /// Closes every open pack: what lies in it has its coordinate, and is on its
    /// way.
    pub fn close_open(&self) -> Result<()> {
        let mut open: Vec<OpenPack> = {
            let mut state = lock(&self.state);
            let kinds: Vec<_> = state.open.keys().copied().collect();
            kinds.into_iter().filter_map(|kind| state.take_open(kind)).collect()
        };
        open.sort_by_key(|pack| pack.toc.birth);
        open.into_iter().try_for_each(|pack| self.close(pack))
    }

    /// Packs acknowledged since the last call, for a segment.
    pub fn take_put(&self) -> Vec<PutPack> {
        std::mem::take(&mut lock(&self.state).put)
    }
}

impl State {
    /// Takes an open pack out, which is on its way from now on.
    fn take_open(&mut self, kind: PackKind) -> Option<OpenPack> {
        let open = self.open.remove(&kind)?;
        self.in_flight += 1;
        self.bytes_in_flight += blocks_length(&open.toc);
        Some(open)
    }

    /// Whether so many bytes more must wait. With nothing on its way there is
    /// nothing to wait for.
    fn is_crowded(&self, more: u64, budget: u64) -> bool {
        let open: u64 = self.open.values().map(|open| open.bytes.len() as u64).sum();
        self.in_flight > 0 && open + self.bytes_in_flight + more > budget
    }
}

fn blocks_length(toc: &Toc) -> u64 {
    toc.blocks.iter().map(|block| u64::from(block.stored_length)).sum()
}

impl OpenPack {
    fn add(&mut self, block: &SealedBlock, own_session: impl FnOnce() -> Session) {
        self.bytes.extend_from_slice(&block.stored);
        let session = match &block.moved {
            Some(moved) => {
                self.note_origins(&moved.coordinates);
                self.session_number(&moved.session)
            }
            None => self.session_number(&own_session()),
        };
        self.toc.blocks.push(Block {
            kind: block.kind,
            codec: block.codec,
            session,
            stored_length: block.stored.len() as u32,
            raw_length: block.raw_length,
            chunks: block.chunks.len() as u32,
            stored_hash: block.stored_hash,
        });
        self.toc.chunks.extend_from_slice(&block.chunks);
    }

    /// The newest sessions are the likely ones.
    fn session_number(&mut self, session: &Session) -> u16 {
        let sessions = &mut self.toc.sessions;
        let known = sessions.iter().rposition(|known| known == session);
        known.unwrap_or_else(|| {
            sessions.push(session.clone());
            sessions.len() - 1
        }) as u16
    }

    /// Where the chunks about to be added were born. Neighbours stay together.
    fn note_origins(&mut self, coordinates: &[Coordinate]) {
        let start = self.toc.chunks.len() as u32;
        for (at, coordinate) in (start..).zip(coordinates) {
            let Coordinate { birth, pack, ordinal } = *coordinate;
            match self.toc.foreign.last_mut() {
                Some(run)
                    if u32::from(run.start) + run.count == at
                        && (run.birth, run.pack) == (birth, pack)
                        && u32::from(run.ordinal) + run.count == u32::from(ordinal) =>
                {
                    run.count += 1;
                }
                _ => {
                    let start = at as u16;
                    self.toc.foreign.push(ForeignRun { start, count: 1, birth, pack, ordinal });
                }
            }
        }
    }

    fn length(&self) -> u64 {
        (self.bytes.len() + self.toc.frame_length()) as u64
    }

    /// Whether to close now rather than after `block`: always when a limit is
    /// reached; between 0.75 and 1.25 of the target where little padding is due,
    /// and the less the later.
    fn is_better_closed_before(&self, block: &SealedBlock, target: u64) -> bool {
        if self.toc.blocks.is_empty() {
            return false;
        }
        let length = self.length();
        let after = length + block.stored.len() as u64;
        let full = after > target + target / 4
            || self.toc.chunks.len() + block.chunks.len() > MAX_CHUNKS
            || self.toc.blocks.len() + 1 > MAX_BLOCKS
            || self.toc.sessions.len() + 1 > MAX_SESSIONS;
        if full {
            return true;
        }
        let padding = padded_length(length) - length;
        let crosses = padded_length(after) != padded_length(length);
        let bearable = if length < target { length / 1000 } else { length / 300 };
        length >= target - target / 4 && crosses && padding <= bearable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten terabytes are fewer than 150,000 objects: packs, and a segment for each
    /// checkpoint, before any were merged.
    #[test]
    fn ten_terabytes_stay_under_150_000_objects() {
        let (mut stored, mut packs) = (0, 0);
        while stored < 10_000_000_000_000 {
            stored += data_target(stored);
            packs += 1;
        }
        let segments = stored / (512 << 20);
        assert!(packs + segments < 150_000, "{packs} packs, {segments} segments");
        assert_eq!(data_target(0), 32 << 20);
        assert_eq!(data_target(100 << 40), 128 << 20);
    }

    #[test]
    fn a_block_waits_for_room_only_while_a_pack_is_on_its_way() {
        let toc = |stored_length| {
            let mut toc = PutPack::nothing().toc.toc.clone();
            toc.blocks.push(Block {
                kind: ChunkKind::Data,
                codec: Codec::Stored,
                session: 0,
                stored_length,
                raw_length: stored_length,
                chunks: 0,
                stored_hash: [0; 16],
            });
            toc
        };
        let open = |length: u32| OpenPack { bytes: vec![0; length as usize], toc: toc(length) };
        let mut state = State {
            open: HashMap::from([(PackKind::Data, open(60)), (PackKind::Tree, open(20))]),
            next_number: 0,
            in_flight: 0,
            bytes_in_flight: 0,
            put: Vec::new(),
            error: None,
        };
        assert!(!state.is_crowded(1000, 100));
        assert_eq!(state.take_open(PackKind::Data).unwrap().bytes.len(), 60);
        assert!(!state.is_crowded(20, 100));
        assert!(state.is_crowded(21, 100));
        assert!(state.take_open(PackKind::Data).is_none());
        assert_eq!((state.in_flight, state.bytes_in_flight), (1, 60));
    }
}
