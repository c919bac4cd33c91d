//! Look-ups without the whole index, for who only reads: of segments that are
//! not here, the directories are got, and then, id by id, the look-up pieces
//! that may tell of it and the table of the pack they name. What was found goes
//! into the local index; its segment stays one to be read whole by whoever
//! writes or judges.
//!
//! Every byte is bound by a hash to a directory that a listed writer signed.
//! Where something cannot be read, or looking up costs more than it saves, the
//! whole index is got after all.
//!
//! `format-spec/08-index.md`, looking up an id.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Repository;
use super::error::{Error, ErrorKind, Result};
use super::index::{CachedObject, NewPack, NewSegment, Place};
use super::sync::{SegmentsSeen, Troubles, unlisted};
use crate::format::FormatError;
use crate::format::segment::{
    self, Directory, HEADER_LENGTH, Header, MAX_SEGMENT, PackRow, frame_hash, segment_key,
};
use crate::id::{ChunkId, PackId, SegmentId, WriterId};
use crate::progress::{Event, Progress, Silent};
use crate::store::{ErrorKind as StoreKind, at_once};

/// Bytes of segments that are got whole rather than asked.
const SMALL: u64 = 8 << 20;
/// Once a fourth of what is missing was got in pieces, all of it is got.
const SHARE: u64 = 4;
/// A directory is about this part of its segment; what it is more is got by a
/// second request.
const DIRECTORY_SHARE: u64 = 512;
const DIRECTORY_GUESS: (u64, u64) = (4 << 10, 128 << 10);
/// Segments asked first: those that answered last, then the short ones. Then
/// twice as many each time.
const FIRST_ASKED: usize = 4;
/// Opened look-up pieces in memory, 77 KiB each at most.
const PIECES_KEPT: usize = 256;
/// How often a look-up begins anew because segments were merged meanwhile.
const TRIES: usize = 3;
/// Neighbours among files, and in long files, lie together: so many files, or
/// bytes, are taken to cost one look-up.
const FILES_TOGETHER: u64 = 64;
const BYTES_TOGETHER: u64 = 16 << 20;

/// The rows of a look-up piece.
type Rows = Vec<([u8; 6], u32)>;
type PieceName = (SegmentId, usize);

/// What is known of segments that are not loaded, if any matter.
#[derive(Default)]
pub(super) struct Ranged {
    segments: Mutex<Option<Segments>>,
    /// Spares the lock when all are loaded.
    active: AtomicBool,
}

/// Held while segments are looked into, or loaded.
pub(super) struct RangedState<'a> {
    segments: MutexGuard<'a, Option<Segments>>,
    active: &'a AtomicBool,
}

impl Ranged {
    pub fn lock(&self) -> RangedState<'_> {
        let segments = self.segments.lock().unwrap_or_else(PoisonError::into_inner);
        RangedState { segments, active: &self.active }
    }

    fn is_active(&self) -> bool {
        self.active.load(Ordering::Acquire)
    }
}

impl RangedState<'_> {
    /// Everything is in the index.
    pub fn end(&mut self) {
        *self.segments = None;
        self.active.store(false, Ordering::Release);
    }

    fn begin(&mut self, segments: Segments) {
        *self.segments = Some(segments);
        self.active.store(true, Ordering::Release);
    }
}

/// A segment whose directory is here.
struct Remote {
    id: SegmentId,
    length: u64,
    signer: WriterId,
    epoch: u32,
    directory: Directory,
    /// Offsets of the pieces and of the frames.
    pieces: Vec<u64>,
    frames: Vec<u64>,
}

#[derive(Default)]
struct Segments {
    /// Who answered last comes first; before any did, the short ones, which cost
    /// little: what was put lately is in them, for nobody merged them yet.
    remotes: Vec<Arc<Remote>>,
    /// Bytes of all segments that are not here whole.
    missing_bytes: u64,
    /// Bytes got of them so far.
    spent: u64,
    pieces: HashMap<PieceName, Arc<Rows>>,
    /// Some directory could not be read.
    unreadable: bool,
    /// A segment vanished since they were listed.
    stale: bool,
}

enum Answer {
    /// Found; or all were asked, and none has it.
    Done,
    /// Segments vanished: list them again.
    Stale,
    /// Something could not be read, or it costs too much: get all.
    GetAll,
}

/// What asking some segments came to.
#[derive(Default)]
struct Asked {
    /// Segments that name a pack for the id.
    answered: HashSet<SegmentId>,
    unclear: bool,
}

/// What a request told, where it is no reason to stop.
enum Got<T> {
    It(T),
    /// The segment is not there any more.
    Gone,
    Unreadable(Error),
}

/// Sorts what a request came to: only damage of one object lets others be asked.
fn sort<T>(result: std::result::Result<T, Failure>) -> Result<Got<T>> {
    match result {
        Ok(it) => Ok(Got::It(it)),
        Err(Failure::Gone) => Ok(Got::Gone),
        Err(Failure::Other(error)) if error.kind == ErrorKind::Damage => Ok(Got::Unreadable(error)),
        Err(Failure::Other(error)) => Err(error),
    }
}

enum Failure {
    Gone,
    Other(Error),
}

impl From<crate::store::StoreError> for Failure {
    fn from(error: crate::store::StoreError) -> Failure {
        match error.kind() {
            StoreKind::NotFound => Failure::Gone,
            _ => Failure::Other(error.into()),
        }
    }
}

impl Remote {
    /// Reads a segment's beginning: header and directory.
    fn open(
        repository: &Repository,
        id: SegmentId,
        length: u64,
        head: &[u8],
    ) -> std::result::Result<Remote, FormatError> {
        let header = Header::parse(head)?;
        let end = HEADER_LENGTH + header.directory_length as usize;
        let sealed = head
            .get(HEADER_LENGTH..end)
            .ok_or_else(|| FormatError::new("SEG-3", "the directory overruns the segment"))?;
        let signer = header.signer;
        let verify = repository.trust.verify_key(signer).ok_or_else(|| unlisted("SEG-4"))?;
        header.verify(repository.id(), sealed, verify)?;
        let key = repository.keyring.index_key(header.epoch)?;
        let directory = header.open(repository.id(), sealed, key)?;
        let mut offset = end as u64;
        let mut next = |length: u64| {
            let at = offset;
            offset += length;
            at
        };
        let pieces = directory.pieces.iter().map(|p| next(p.sealed_length() as u64)).collect();
        let frames = directory.packs.iter().map(|p| next(u64::from(p.frame_length))).collect();
        if offset != length {
            return Err(FormatError::new("SEG-3", "the segment is not as long as it says"));
        }
        Ok(Remote { id, length, signer, epoch: header.epoch, directory, pieces, frames })
    }

    /// The same from the store. Gives the bytes that hold it, and how many were
    /// got.
    fn fetch(
        repository: &Repository,
        id: SegmentId,
        length: u64,
    ) -> std::result::Result<(Remote, Vec<u8>, u64), Failure> {
        let key = segment_key(id);
        let in_object = |error| Failure::Other(Error::in_object(&key, error));
        if length > MAX_SEGMENT as u64 {
            return Err(in_object(FormatError::new("SEG-3", "is longer than 64 MiB")));
        }
        let guess = (length / DIRECTORY_SHARE).clamp(DIRECTORY_GUESS.0, DIRECTORY_GUESS.1);
        let mut head = repository.store.get_range(&key, 0, guess.min(length))?.to_vec();
        let mut got = head.len() as u64;
        let header = Header::parse(&head).map_err(in_object)?;
        let wanted = HEADER_LENGTH + header.directory_length as usize;
        if wanted as u64 > length {
            let what = "the directory overruns the segment";
            return Err(in_object(FormatError::new("SEG-3", what)));
        }
        if let Some(more) = wanted.checked_sub(head.len()).filter(|more| *more > 0) {
            let rest = repository.store.get_range(&key, head.len() as u64, more as u64)?;
            got += rest.len() as u64;
            head.extend_from_slice(&rest);
        }
        head.truncate(wanted);
        let remote = Remote::open(repository, id, length, &head).map_err(in_object)?;
        Ok((remote, head, got))
    }

    fn fetch_piece(
        &self,
        repository: &Repository,
        at: usize,
    ) -> std::result::Result<Rows, Failure> {
        let key = segment_key(self.id);
        let in_object = |error| Failure::Other(Error::in_object(&key, error));
        let (Some(piece), Some(offset)) = (self.directory.pieces.get(at), self.pieces.get(at))
        else {
            return Ok(Rows::new());
        };
        let length = piece.sealed_length() as u64;
        let sealed = repository.store.get_range(&key, *offset, length)?;
        let index_key = repository.keyring.index_key(self.epoch).map_err(in_object)?;
        let rows = piece.open(repository.id(), self.epoch, index_key, &sealed);
        let rows = rows.map_err(in_object)?;
        if rows.iter().any(|(_, pack)| *pack as usize >= self.directory.packs.len()) {
            let what = "a look-up piece names no pack it lists";
            return Err(in_object(FormatError::new("SEG-6", what)));
        }
        Ok(rows)
    }

    /// The table of the pack in row `at`, as a segment by `listed_by` lists it.
    fn fetch_pack(
        &self,
        repository: &Repository,
        at: usize,
        listed_by: WriterId,
    ) -> std::result::Result<NewPack, Failure> {
        let key = segment_key(self.id);
        let in_object = |error| Failure::Other(Error::in_object(&key, error));
        let (Some(row), Some(offset)) = (self.directory.packs.get(at), self.frames.get(at)) else {
            return Err(in_object(FormatError::new("SEG-6", "names no pack it lists")));
        };
        let frame = repository.store.get_range(&key, *offset, u64::from(row.frame_length))?;
        if frame_hash(&frame) != row.frame_hash {
            let what = "a table of contents is not the one the directory names";
            return Err(in_object(FormatError::new("SEG-10", what)));
        }
        repository.read_frame(row.id, row.length, &frame, listed_by).map_err(in_object)
    }

    /// What it removes and lists of what is here, as it goes into the index.
    fn told<'a>(
        &'a self,
        removes: &'a [PackId],
        known: &'a [PackId],
        packs: &'a [NewPack],
    ) -> NewSegment<'a> {
        NewSegment { id: self.id, signer: self.signer, supersedes: &[], removes, known, packs }
    }
}

impl Segments {
    fn is_too_dear(&self) -> bool {
        self.spent > self.missing_bytes / SHARE
    }

    /// Asks one segment after the other, several at once, until one knows the
    /// id; or all of them.
    fn ask(&mut self, repository: &Repository, id: &ChunkId, all: bool) -> Result<Answer> {
        let most = repository.store.concurrency().max(1);
        let (mut at, mut step) = (0, FIRST_ASKED.min(most));
        let mut unclear = self.unreadable;
        while at < self.remotes.len() {
            if self.is_too_dear() {
                return Ok(Answer::GetAll);
            }
            let end = (at + step).min(self.remotes.len());
            let asked = self.ask_some(repository, id, at..end)?;
            unclear |= asked.unclear;
            if !asked.answered.is_empty() {
                self.remotes[..end].sort_by_key(|remote| !asked.answered.contains(&remote.id));
                if !all && !repository.index.places(id)?.is_empty() {
                    return Ok(Answer::Done);
                }
            }
            (at, step) = (end, (step * 2).min(most));
        }
        Ok(match (self.stale, unclear) {
            (true, _) => Answer::Stale,
            (false, true) => Answer::GetAll,
            (false, false) => Answer::Done,
        })
    }

    /// Asks some segments at once for an id, and adds the packs they name to the
    /// index.
    fn ask_some(
        &mut self,
        repository: &Repository,
        id: &ChunkId,
        range: Range<usize>,
    ) -> Result<Asked> {
        let prefix = segment::prefix(id);
        let remotes: Vec<_> = self.remotes.get(range).unwrap_or_default().to_vec();
        let mut asked = Asked::default();
        let mut wanted = BTreeMap::new();
        for (remote, rows) in self.pieces_of(repository, &remotes, prefix, &mut asked)? {
            let first = rows.partition_point(|row| row.0 < prefix);
            let rows = rows.iter().skip(first).take_while(|row| row.0 == prefix);
            for (_, at) in rows {
                let Some(row) = remote.directory.packs.get(*at as usize) else { continue };
                if repository.index.is_removed(row.id)? {
                    continue;
                }
                asked.answered.insert(remote.id);
                wanted.entry(row.id).or_insert((remote.clone(), *at as usize, *row));
            }
        }
        wanted.retain(|_, (_, _, row)| {
            !repository.index.has_frame(row.id, row.length, row.frame_hash)
        });
        let wanted: Vec<_> = wanted.into_values().collect();
        // what segments do not agree on is settled when they are loaded
        let disputed = |row: &PackRow| {
            repository.index.pack_number(row.id).is_some()
                || self.listers(row.id).any(|(_, other)| other != row)
        };
        if wanted.iter().any(|(_, _, row)| disputed(row)) {
            asked.unclear = true;
            return Ok(asked);
        }
        let fetched = at_once(repository.store.concurrency(), &wanted, &|(remote, at, row)| {
            remote.fetch_pack(repository, *at, self.best_lister(repository, row.id, remote.signer))
        });
        for ((remote, _, row), pack) in wanted.iter().zip(fetched) {
            if let Some(pack) = self.sorted(pack, &mut asked)? {
                self.spent += u64::from(row.frame_length);
                repository.index.add_partial(&remote.told(&[], &[], &[pack]))?;
                for (other, _) in self.listers(row.id).filter(|(other, _)| other.id != remote.id) {
                    repository.index.add_partial(&other.told(&[], &[row.id], &[]))?;
                }
            }
        }
        Ok(asked)
    }

    /// The pieces of some segments that may tell of a prefix.
    fn pieces_of(
        &mut self,
        repository: &Repository,
        remotes: &[Arc<Remote>],
        prefix: [u8; 6],
        asked: &mut Asked,
    ) -> Result<Vec<(Arc<Remote>, Arc<Rows>)>> {
        let (mut found, mut wanted) = (Vec::new(), Vec::new());
        for remote in remotes {
            for at in remote.directory.pieces_with(prefix) {
                match self.pieces.get(&(remote.id, at)) {
                    Some(rows) => found.push((remote.clone(), rows.clone())),
                    None => wanted.push((remote.clone(), at)),
                }
            }
        }
        let threads = repository.store.concurrency();
        let fetched =
            at_once(threads, &wanted, &|(remote, at)| remote.fetch_piece(repository, *at));
        if self.pieces.len() + wanted.len() > PIECES_KEPT {
            // ids have no order: none of them is likelier to be asked again
            self.pieces.clear();
        }
        for ((remote, at), rows) in wanted.into_iter().zip(fetched) {
            if let Some(rows) = self.sorted(rows, asked)? {
                let rows = Arc::new(rows);
                self.spent +=
                    remote.directory.pieces.get(at).map_or(0, |p| p.sealed_length() as u64);
                self.pieces.insert((remote.id, at), rows.clone());
                found.push((remote, rows));
            }
        }
        Ok(found)
    }

    /// What was got of a segment, if anything; notes what is wrong with it.
    fn sorted<T>(
        &mut self,
        result: std::result::Result<T, Failure>,
        asked: &mut Asked,
    ) -> Result<Option<T>> {
        match sort(result)? {
            Got::It(it) => return Ok(Some(it)),
            Got::Gone => self.stale = true,
            Got::Unreadable(_) => asked.unclear = true,
        }
        Ok(None)
    }

    /// Segments that list a pack, with what they say of it.
    fn listers(&self, pack: PackId) -> impl Iterator<Item = (&Arc<Remote>, &PackRow)> {
        self.remotes
            .iter()
            .filter_map(move |remote| remote.directory.pack(pack).map(|row| (remote, row)))
    }

    /// On whose word a pack is listed: a maintainer's in force, if there is one.
    fn best_lister(&self, repository: &Repository, pack: PackId, other: WriterId) -> WriterId {
        let mut signers = self.listers(pack).map(|(remote, _)| remote.signer);
        signers.find(|signer| repository.trust.standing(*signer).may_maintain()).unwrap_or(other)
    }
}

impl Repository {
    /// Makes ready to read chunks. Little that is missing in the index is loaded
    /// as by [`sync_index`](Self::sync_index); of much only the directories are,
    /// and [`places`](Self::places) looks further when it is asked.
    ///
    /// Nobody may write or judge by an index that is only this much up to date.
    pub fn prepare_reading(&self, progress: &dyn Progress) -> Result<Troubles> {
        let mut state = self.ranged.lock();
        self.prepare(&mut state, progress)
    }

    fn prepare(&self, state: &mut RangedState<'_>, progress: &dyn Progress) -> Result<Troubles> {
        match self.prepare_once(state, progress) {
            Err(error) if error.kind == ErrorKind::Cache => {
                self.go_on_in_memory(&error, progress)?;
                self.prepare_once(state, progress)
            }
            result => result,
        }
    }

    fn prepare_once(
        &self,
        state: &mut RangedState<'_>,
        progress: &dyn Progress,
    ) -> Result<Troubles> {
        let seen = self.look_at_segments()?;
        let missing_bytes = seen.missing().iter().map(|(_, length)| length).sum();
        if missing_bytes <= SMALL {
            let troubles = self.load(&seen, progress)?;
            state.end();
            return Ok(troubles);
        }
        let before = state.segments.take().unwrap_or_default();
        let mut segments = Segments { missing_bytes, spent: before.spent, ..Segments::default() };
        let troubles = self.get_directories(&seen, before.remotes, &mut segments)?;
        for remote in &segments.remotes {
            self.link_known(remote, &seen)?;
        }
        // only now: what a merge took over must not be dropped in between
        self.index.drop_segments(&seen.gone())?;
        // a segment may list what another one removes
        self.index.load_packs()?;
        state.begin(segments);
        for trouble in &troubles {
            progress.event(Event::Warning(&trouble.message));
        }
        Ok(troubles)
    }

    /// Directories of all segments that are missing: those `at_hand`, those in
    /// the cache, the others from the store.
    fn get_directories(
        &self,
        seen: &SegmentsSeen,
        at_hand: Vec<Arc<Remote>>,
        segments: &mut Segments,
    ) -> Result<Troubles> {
        let mut troubles = Vec::new();
        let missing: HashMap<SegmentId, u64> = seen.missing().into_iter().collect();
        segments.remotes = at_hand.into_iter().filter(|r| missing.contains_key(&r.id)).collect();
        let here: HashSet<SegmentId> = segments.remotes.iter().map(|remote| remote.id).collect();
        let mut wanted = Vec::new();
        for (id, length) in seen.missing().into_iter().filter(|(id, _)| !here.contains(id)) {
            let cached = self.index.cached_object(&segment_key(id));
            match cached.map(|cached| Remote::open(self, id, length, &cached.bytes)) {
                Some(Ok(remote)) => segments.remotes.push(Arc::new(remote)),
                _ => wanted.push((id, length)),
            }
        }
        let fetched = at_once(self.store.concurrency(), &wanted, &|(id, length)| {
            Remote::fetch(self, *id, *length)
        });
        let mut new = Vec::new();
        for result in fetched {
            match sort(result)? {
                Got::It((remote, head, got)) => {
                    segments.spent += got;
                    let object = CachedObject { bytes: head, proof: None };
                    new.push((segment_key(remote.id), object));
                    segments.remotes.push(Arc::new(remote));
                }
                // superseded and swept since the listing
                Got::Gone => segments.stale = true,
                Got::Unreadable(error) => {
                    segments.unreadable = true;
                    troubles.push(error);
                }
            }
        }
        let at_hand = here.len();
        segments.remotes[at_hand..].sort_by_key(|remote| remote.length);
        self.index.cache_objects(new.iter().map(|(key, object)| (key.as_str(), object)));
        let is_missing =
            |key: &String| segment::segment_of_key(key).is_some_and(|id| missing.contains_key(&id));
        let mut old = self.index.cached_keys(segment::PREFIX);
        old.retain(|key| !is_missing(key));
        if !old.is_empty() {
            self.index.forget_objects(old.iter().map(String::as_str));
        }
        Ok(troubles)
    }

    /// What a segment removes counts at once; packs of it that are here stay
    /// when another that lists them goes.
    fn link_known(&self, remote: &Remote, seen: &SegmentsSeen) -> Result<()> {
        if seen.partial.contains(&remote.id) {
            return Ok(());
        }
        let is_here = |row: &&PackRow| self.index.has_frame(row.id, row.length, row.frame_hash);
        let known: Vec<PackId> =
            remote.directory.packs.iter().filter(is_here).map(|row| row.id).collect();
        // only a maintainer may say that something is gone
        let removes = match self.trust.standing(remote.signer).may_maintain() {
            true => &remote.directory.removes[..],
            false => &[],
        };
        if known.is_empty() && removes.is_empty() {
            return Ok(());
        }
        self.index.add_partial(&remote.told(removes, &known, &[]))
    }

    /// Places that hold the chunk, oldest pack first: those the index knows, and
    /// if it knows none, one that a segment tells of.
    pub fn places(&self, id: &ChunkId) -> Result<Vec<Place>> {
        let places = self.index.places(id)?;
        if !places.is_empty() || !self.ranged.is_active() {
            return Ok(places);
        }
        let mut state = self.ranged.lock();
        // another thread may have found it meanwhile
        let places = self.index.places(id)?;
        if !places.is_empty() {
            return Ok(places);
        }
        self.look_up(&mut state, id, false)?;
        drop(state);
        self.index.places(id)
    }

    /// Whether some segments are not loaded, so that places are looked up one
    /// by one.
    pub fn looks_up(&self) -> bool {
        self.ranged.is_active()
    }

    /// Learns of all places that hold a chunk today: none of those known did, and
    /// a prune may have moved it since the index was read.
    pub fn look_again(&self, id: &ChunkId) -> Result<()> {
        let mut state = self.ranged.lock();
        if state.segments.is_none() {
            return self.sync_whole(&mut state, &Silent).map(drop);
        }
        self.prepare(&mut state, &Silent)?;
        self.look_up(&mut state, id, true)
    }

    /// Says how much is about to be read. Where looking it all up would cost more
    /// than the whole index, that is got at once.
    pub fn expect_reads(&self, files: u64, bytes: u64, progress: &dyn Progress) -> Result<()> {
        let mut state = self.ranged.lock();
        let Some(segments) = &*state.segments else { return Ok(()) };
        let piece = |remote: &Arc<Remote>| {
            remote.directory.pieces.first().map_or(0, |piece| piece.sealed_length() as u64)
        };
        let one: u64 = segments.remotes.iter().map(piece).sum();
        let times = files / FILES_TOGETHER + bytes / BYTES_TOGETHER;
        if one.saturating_mul(times) > segments.missing_bytes / SHARE {
            self.sync_whole(&mut state, progress)?;
        }
        Ok(())
    }

    fn look_up(&self, state: &mut RangedState<'_>, id: &ChunkId, all: bool) -> Result<()> {
        if state.segments.as_ref().is_some_and(|segments| segments.stale) {
            self.prepare(state, &Silent)?;
        }
        for _ in 0..TRIES {
            let Some(segments) = state.segments.as_mut() else { return Ok(()) };
            match segments.ask(self, id, all) {
                Ok(Answer::Done) => return Ok(()),
                Ok(Answer::GetAll) => break,
                Ok(Answer::Stale) => drop(self.prepare(state, &Silent)?),
                Err(error) if error.kind == ErrorKind::Cache => {
                    self.go_on_in_memory(&error, &Silent)?;
                    self.prepare(state, &Silent)?;
                }
                Err(error) => return Err(error),
            }
        }
        self.sync_whole(state, &Silent).map(drop)
    }
}
