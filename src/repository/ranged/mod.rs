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
//!
//! | module | |
//! |---|---|
//! | `remote` | one segment: its directory, pieces and tables by range |
//! | `asking` | which of them know an id |

mod asking;
mod remote;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::asking::{Answer, Segments};
use self::remote::{Got, Remote, sort};
use super::Repository;
use super::error::{ErrorKind, Result};
use super::index::{CachedObject, Place};
use super::sync::{SegmentsSeen, Troubles};
use crate::format::segment::{self, PackRow, segment_key};
use crate::id::{ChunkId, PackId, SegmentId};
use crate::progress::{Event, Progress, Silent};
use crate::store::ask_all;

/// Bytes of segments that are got whole rather than asked.
const SMALL: u64 = 8 << 20;
/// Once a fourth of what is missing was got in pieces, all of it is got.
const SHARE: u64 = 4;
/// How often a look-up begins anew because segments were merged meanwhile.
const TRIES: usize = 3;
/// Neighbours among files, and in long files, lie together: so many files, or
/// bytes, are taken to cost one look-up.
const FILES_TOGETHER: u64 = 64;
const BYTES_TOGETHER: u64 = 16 << 20;

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
        let before = state.segments.as_ref();
        let (at_hand, spent) =
            before.map(|before| (before.remotes.clone(), before.spent)).unwrap_or_default();
        let mut segments = Segments::new(missing_bytes, spent);
        let troubles = self.get_directories(&seen, at_hand, &mut segments)?;
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
        let fetched = ask_all(self.store.concurrency(), &wanted, &|(id, length)| {
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
