//! Reads chunks: fetch the block, check its stored hash, open it, decode it,
//! verify the chunk's id. A chunk is given out only after all of that.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use zeroize::Zeroizing;

use super::Repository;
use super::error::{Error, ErrorKind, Result};
use super::index::{PackToc, Place};
use crate::compression::{Codec, decompress};
use crate::crypto::{SecretKey, open_in_place};
use crate::format::pack::{Block, Session, SessionKey, pack_key};
use crate::format::{ChunkKind, Kind, Place as SealPlace, block_place};
use crate::id::{ChunkId, PackId, RepositoryId};
use crate::store::{Ahead, ErrorKind as StoreKind, at_once, in_order};

/// Decoded blocks kept in memory, in bytes.
const CACHE_BYTES: usize = 24 << 20;
const LABEL_SESSION_KEY: &str = "esker session key";

type BlockName = (u32, u32);

/// Decoded blocks and opened session keys, and where damage was met.
#[derive(Default)]
pub struct BlockCache {
    blocks: Mutex<Blocks>,
    sessions: Mutex<HashMap<[u8; 32], SecretKey>>,
    /// Packs that did not give a chunk they are said to hold.
    failing: Mutex<HashSet<PackId>>,
    /// Spares the lock as long as all is well.
    some_fail: AtomicBool,
}

#[derive(Default)]
struct Blocks {
    decoded: HashMap<BlockName, (Arc<Vec<u8>>, u64)>,
    bytes: usize,
    clock: u64,
}

impl BlockCache {
    pub fn clear(&self) {
        *self.blocks.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Blocks::default();
    }

    fn get(&self, name: BlockName) -> Option<Arc<Vec<u8>>> {
        let mut blocks = self.blocks.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        blocks.clock += 1;
        let clock = blocks.clock;
        let (block, used) = blocks.decoded.get_mut(&name)?;
        *used = clock;
        Some(block.clone())
    }

    fn note_failing(&self, pack: PackId) {
        self.failing.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(pack);
        self.some_fail.store(true, Ordering::Release);
    }

    fn put(&self, name: BlockName, block: Arc<Vec<u8>>) {
        let mut blocks = self.blocks.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        blocks.clock += 1;
        let clock = blocks.clock;
        blocks.bytes += block.len();
        if let Some((old, _)) = blocks.decoded.insert(name, (block, clock)) {
            blocks.bytes -= old.len();
        }
        while blocks.bytes > CACHE_BYTES && blocks.decoded.len() > 1 {
            let oldest = blocks.decoded.iter().min_by_key(|(_, (_, used))| *used).map(|(n, _)| *n);
            let Some((old, _)) = oldest.and_then(|name| blocks.decoded.remove(&name)) else {
                break;
            };
            blocks.bytes -= old.len();
        }
    }
}

/// What a session key is sealed for.
pub fn session_place(repository: RepositoryId, epoch: u32) -> Vec<u8> {
    SealPlace { repository, kind: Kind::Pack, epoch, key: "" }.bytes(LABEL_SESSION_KEY)
}

impl Repository {
    pub(crate) fn session_key(&self, session: &Session) -> Result<SecretKey> {
        let sealed = match &session.key {
            SessionKey::Index => {
                let key = self.keyring.index_key(session.epoch);
                return key.cloned().map_err(|error| Error::in_object("pack", error));
            }
            SessionKey::Sealed(sealed) => sealed,
        };
        let name = *blake3::hash(sealed).as_bytes();
        let sessions = || self.blocks.sessions.lock().unwrap_or_else(|p| p.into_inner());
        if let Some(key) = sessions().get(&name) {
            return Ok(key.clone());
        }
        let private = self.keyring.content_private(session.epoch)?;
        let bytes: [u8; 32] = private
            .open(&session_place(self.id(), session.epoch), sealed)
            .ok()
            .and_then(|bytes: Zeroizing<Vec<u8>>| bytes.as_slice().try_into().ok())
            .ok_or_else(|| Error::damage("a pack's session key does not open [TOC-10]"))?;
        let key = SecretKey::from_bytes(bytes);
        sessions().insert(name, key.clone());
        Ok(key)
    }

    /// Decodes one block from its stored bytes, after their hash was compared.
    /// One that is not compressed is opened where it lies.
    pub(crate) fn open_block<'s>(
        &self,
        toc: &PackToc,
        block: &Block,
        stored: &'s mut [u8],
    ) -> Result<Cow<'s, [u8]>> {
        let name = || pack_key(toc.pack);
        if blake3::hash(stored).as_bytes()[..16] != block.stored_hash {
            let message = format!("{}: a block's bytes are damaged [PACK-7]", name());
            return Err(Error::damage(message));
        }
        let session = toc.toc.sessions.get(usize::from(block.session));
        let session = session.ok_or_else(|| Error::damage(format!("{}: no session", name())))?;
        let key = self.session_key(session)?;
        let place = block_place(self.id(), block.kind, block.codec, block.raw_length);
        let encoded = open_in_place(&key, &place, stored)
            .map_err(|_| Error::damage(format!("{}: a block does not open [PACK-8]", name())))?;
        let raw_length = block.raw_length as usize;
        if block.codec == Codec::Stored && encoded.len() == raw_length {
            return Ok(Cow::Borrowed(encoded));
        }
        let raw = decompress(block.codec, encoded, raw_length);
        raw.map(Cow::Owned)
            .map_err(|error| Error::damage(format!("{}: a block {error} [PACK-9]", name())))
    }

    /// Fetches and decodes block `at` of a pack.
    pub(crate) fn fetch_block(&self, toc: &PackToc, at: usize) -> Result<Vec<u8>> {
        twice(|| self.fetch_block_once(toc, at))
    }

    fn fetch_block_once(&self, toc: &PackToc, at: usize) -> Result<Vec<u8>> {
        let missing = || Error::damage(format!("{}: no such block", pack_key(toc.pack)));
        let block = toc.toc.blocks.get(at).ok_or_else(missing)?;
        let offset = toc.offsets.get(at).ok_or_else(missing)?;
        let stored =
            self.store.get_range(&pack_key(toc.pack), *offset, u64::from(block.stored_length))?;
        Ok(self.open_block(toc, block, &mut mutable(stored))?.into_owned())
    }

    fn cached_block(&self, place: Place, toc: &PackToc) -> Result<Arc<Vec<u8>>> {
        let at = toc.block_of(place.ordinal);
        let name = (place.pack, at as u32);
        if let Some(block) = self.blocks.get(name) {
            return Ok(block);
        }
        let block = Arc::new(self.fetch_block(toc, at)?);
        self.blocks.put(name, block.clone());
        Ok(block)
    }

    /// Fetches the blocks that hold these chunks, several at once, so that whoever
    /// reads the chunks one by one does not wait for the store each time. Ends
    /// after `most` blocks that were not at hand; how many of the chunks it came to.
    /// What cannot be had is left to whoever reads it; so is everything where the
    /// store answers at once.
    pub(crate) fn fetch_ahead<'c>(
        &self,
        chunks: impl Iterator<Item = &'c ChunkId>,
        most: usize,
    ) -> usize {
        let requests = at_once(&*self.store);
        if requests < 2 {
            return 0;
        }
        let mut missing: Vec<(BlockName, Arc<PackToc>)> = Vec::new();
        let mut passed = 0;
        for id in chunks {
            let place = self.index.places(id).ok().and_then(|places| places.first().copied());
            let toc = place.and_then(|place| Some((place, self.index.toc(place.pack).ok()?)));
            if let Some((place, toc)) = toc {
                let name = (place.pack, toc.block_of(place.ordinal) as u32);
                let is_asked_for = || missing.iter().any(|(other, _)| *other == name);
                if self.blocks.get(name).is_none() && !is_asked_for() {
                    if missing.len() == most {
                        break;
                    }
                    missing.push((name, toc));
                }
            }
            passed += 1;
        }
        let ahead = Ahead { requests, budget_bytes: u64::MAX };
        let fetch =
            |(name, toc): &(BlockName, Arc<PackToc>)| self.fetch_block(toc, name.1 as usize);
        let _ = in_order(
            &missing,
            ahead,
            |_| 0,
            fetch,
            |(name, _), block| {
                if let Ok(block) = block {
                    self.blocks.put(*name, Arc::new(block));
                }
                Ok::<_, ()>(())
            },
        );
        passed
    }

    /// The chunk as one place holds it.
    pub(crate) fn chunk_at(&self, place: Place, id: &ChunkId, kind: ChunkKind) -> Result<Vec<u8>> {
        let toc = self.index.toc(place.pack)?;
        let block = self.cached_block(place, &toc)?;
        let bytes = chunk_slice(&toc, place.ordinal, &block)
            .ok_or_else(|| Error::damage(format!("{}: no such chunk", pack_key(toc.pack))))?;
        if self.keyring.chunk_id(kind, bytes)? != *id {
            let message =
                format!("{}: a chunk is not the one it is said to be", pack_key(toc.pack));
            return Err(Error::damage(message));
        }
        Ok(bytes.to_vec())
    }

    /// One chunk, from any place that still holds it whole.
    pub fn read_chunk(&self, id: &ChunkId, kind: ChunkKind) -> Result<Vec<u8>> {
        let mut trouble = match self.read_chunk_once(id, kind) {
            Ok(bytes) => return Ok(bytes),
            Err(error) if error.kind == ErrorKind::Damage => error,
            Err(error) => return Err(error),
        };
        // a prune may have moved it since the index was read
        self.look_again(id)?;
        match self.read_chunk_once(id, kind) {
            Ok(bytes) => return Ok(bytes),
            Err(error) if error.kind == ErrorKind::Damage => trouble = error,
            Err(_) => {}
        }
        Err(trouble)
    }

    /// Packs that, since the repository was opened, did not give a chunk they are
    /// said to hold: none of them should be built upon.
    pub fn failing_packs(&self) -> HashSet<PackId> {
        if !self.blocks.some_fail.load(Ordering::Acquire) {
            return HashSet::new();
        }
        self.blocks.failing.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Whether a pack is among [`failing_packs`](Self::failing_packs).
    pub fn is_failing(&self, pack: &PackId) -> bool {
        self.blocks.some_fail.load(Ordering::Acquire)
            && self
                .blocks
                .failing
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner())
                .contains(pack)
    }

    fn read_chunk_once(&self, id: &ChunkId, kind: ChunkKind) -> Result<Vec<u8>> {
        let mut trouble = None;
        for place in self.places(id)? {
            match self.chunk_at(place, id, kind) {
                Ok(bytes) => return Ok(bytes),
                Err(error) if error.kind == ErrorKind::Damage => {
                    if let Some(info) = self.index.pack(place.pack) {
                        self.blocks.note_failing(info.id);
                    }
                    trouble = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(trouble.unwrap_or_else(|| Error::damage(format!("chunk {id} is in no pack"))))
    }
}

/// What is damaged is read once more: it may have been altered on its way only.
pub(crate) fn twice<T>(read: impl Fn() -> Result<T>) -> Result<T> {
    match read() {
        Err(error) if error.kind == ErrorKind::Damage => read(),
        result => result,
    }
}

/// Bytes as the store gave them, to be opened where they lie: nobody else has
/// them, as a rule.
pub(crate) fn mutable(bytes: Bytes) -> BytesMut {
    bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]))
}

/// The bytes of the chunk at `ordinal` within its decoded block.
pub fn chunk_slice<'a>(toc: &PackToc, ordinal: u16, block: &'a [u8]) -> Option<&'a [u8]> {
    let first = *toc.first_ordinals.get(toc.block_of(ordinal))? as usize;
    let chunks = toc.toc.chunks.get(first..=usize::from(ordinal))?;
    let (chunk, before) = chunks.split_last()?;
    let start: usize = before.iter().map(|chunk| chunk.length as usize).sum();
    block.get(start..start + chunk.length as usize)
}

/// Whether a store says that an object is not there any more.
pub(crate) fn is_gone(error: &crate::store::StoreError) -> bool {
    error.kind() == StoreKind::NotFound
}
