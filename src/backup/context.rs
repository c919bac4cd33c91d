//! What all stages of one run share: keys, chunker, the look-up of known
//! chunks, what is to be reported, and the first fatal error.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::BackupOptions;
use crate::chunker::Chunker;
use crate::format::ChunkKind;
use crate::format::entry::{Entry, display_key};
use crate::format::manifest::{Failure, MAX_LISTED_ERRORS};
use crate::format::pack::Coordinate;
use crate::id::{ChunkId, PackId};
use crate::progress::{Event, Progress};
use crate::repository::coordinates::ReferenceSet;
use crate::repository::index::{PackInfo, PackToc};
use crate::repository::packer::{Packer, Sealer};
use crate::repository::sync::Claimants;
use crate::repository::{Error, Repository, Result};

/// Failures and notes of a run: counted all, listed up to a limit.
#[derive(Default)]
pub struct Reports {
    pub failures: Vec<Failure>,
    pub notes: Vec<Failure>,
    pub failure_count: u64,
    pub note_count: u64,
}

/// Packs that are not built upon.
#[derive(Clone, Default)]
pub struct Unusable {
    /// A sweep that was announced takes them.
    pub doomed: HashSet<PackId>,
    /// Missing, or marked as damaged: what they held is stored again.
    pub lost: HashSet<PackId>,
}

/// A pack with its table of contents.
struct IndexedPack {
    info: PackInfo,
    toc: Arc<PackToc>,
}

/// Packs that one thread tries before it asks the index.
const NEAR: usize = 4;

/// Looks chunks up for one thread, in the packs of the last ones first: what
/// are neighbours in the tree were stored as neighbours.
pub struct Lookup<'a> {
    context: &'a Context<'a>,
    near: Vec<IndexedPack>,
}

impl<'a> Lookup<'a> {
    pub fn new(context: &'a Context<'a>) -> Self {
        Lookup { context, near: Vec::with_capacity(NEAR + 1) }
    }

    /// As [`Context::known`], but of several places any that the parent uses.
    pub fn known(&mut self, id: &ChunkId) -> Result<Option<Coordinate>> {
        for (at, pack) in self.near.iter().enumerate() {
            let ordinal = pack.toc.ordinal_of(id);
            let coordinate = ordinal.and_then(|ordinal| self.context.usable(pack, ordinal));
            if let Some(coordinate) = coordinate
                && self.context.parent_references.contains(&coordinate)
            {
                self.near[..=at].rotate_right(1);
                return Ok(Some(coordinate));
            }
        }
        let Some((coordinate, pack)) = self.context.find(id)? else { return Ok(None) };
        if self.near.iter().all(|near| near.info.id != pack.info.id) {
            self.near.insert(0, pack);
            self.near.truncate(NEAR);
        }
        Ok(Some(coordinate))
    }
}

pub struct Context<'a> {
    pub repository: &'a Repository,
    pub options: &'a BackupOptions,
    pub progress: &'a dyn Progress,
    pub packer: &'a Packer,
    pub sealer: &'a Sealer,
    pub chunker: Chunker,
    pub started_ms: u64,
    /// Number of the next sign of life.
    next_session: AtomicU64,
    /// Plaintext of chunks that were new.
    pub bytes_added: AtomicU64,
    pub reports: Mutex<Reports>,
    claimants: Claimants,
    /// Spares look-ups in a first backup until it has packs of its own there.
    index_is_empty: AtomicBool,
    unusable: &'a Unusable,
    /// Damaged or missing chunks stored again, over all attempts of the run.
    healed: &'a AtomicU64,
    parent_references: ReferenceSet,
    abort: AtomicBool,
    error: Mutex<Option<Error>>,
}

impl<'a> Context<'a> {
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        repository: &'a Repository,
        options: &'a BackupOptions,
        progress: &'a dyn Progress,
        packer: &'a Packer,
        sealer: &'a Sealer,
        started_ms: u64,
        unusable: &'a Unusable,
        healed: &'a AtomicU64,
        parent_references: ReferenceSet,
    ) -> Result<Self> {
        let chunker =
            Chunker::new(repository.keyring().chunker_key()?, repository.update().chunker);
        Ok(Context {
            repository,
            options,
            progress,
            packer,
            sealer,
            chunker,
            started_ms,
            next_session: AtomicU64::new(2),
            bytes_added: AtomicU64::new(0),
            reports: Mutex::default(),
            claimants: repository.claimants(),
            index_is_empty: AtomicBool::new(repository.index().is_empty()),
            unusable,
            healed,
            parent_references,
            abort: AtomicBool::new(false),
            error: Mutex::new(None),
        })
    }

    pub fn reports(&self) -> std::sync::MutexGuard<'_, Reports> {
        self.reports.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn failure(&self, path: &[u8], reason: &str) {
        self.progress.event(Event::Failure { path, reason });
        let mut reports = self.reports();
        reports.failure_count += 1;
        if reports.failures.len() < MAX_LISTED_ERRORS {
            reports.failures.push(Failure { path: path.to_vec(), reason: reason.to_owned() });
        }
    }

    pub fn note(&self, path: &[u8], text: &str) {
        self.progress.event(Event::Note { path, text });
        let mut reports = self.reports();
        reports.note_count += 1;
        if reports.notes.len() < MAX_LISTED_ERRORS {
            reports.notes.push(Failure { path: path.to_vec(), reason: text.to_owned() });
        }
    }

    /// The previous snapshot has an entry that the walk does not.
    pub fn removed(&self, entry: &Entry) {
        if self.options.list {
            let path = display_key(&entry.key);
            let bytes = entry.metadata.size;
            self.progress.event(Event::Line { kind: "removed", path: &path, bytes });
        }
    }

    /// Remembers the first fatal error; every stage ends soon after.
    pub fn fail(&self, error: Error) {
        let mut first = self.error.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        first.get_or_insert(error);
        self.abort.store(true, Ordering::Release);
    }

    pub fn check_abort(&self) -> Result<()> {
        if self.abort.load(Ordering::Acquire) { Err(self.aborted()) } else { Ok(()) }
    }

    /// The error that ended the run, for a stage that found its neighbour gone.
    pub fn aborted(&self) -> Error {
        let first = self.error.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        first.clone().unwrap_or_else(|| Error::failed("the run was ended"))
    }

    /// The coordinate of a chunk that this client may build on. Of several the
    /// parent's counts, else the oldest, so that duplicates die out.
    pub fn known(&self, id: &ChunkId) -> Result<Option<Coordinate>> {
        Ok(self.find(id)?.map(|(coordinate, _)| coordinate))
    }

    fn find(&self, id: &ChunkId) -> Result<Option<(Coordinate, IndexedPack)>> {
        if self.index_is_empty.load(Ordering::Acquire) {
            return Ok(None);
        }
        let index = self.repository.index();
        let mut best: Option<(bool, Coordinate, IndexedPack)> = None;
        for place in index.places(id)? {
            let Some(info) = index.pack(place.pack) else { continue };
            let pack = IndexedPack { info, toc: index.toc(place.pack)? };
            // numbers of packs change their meaning when the index is made anew
            let chunk = pack.toc.toc.chunks.get(usize::from(place.ordinal));
            if pack.toc.pack != pack.info.id || chunk.is_none_or(|chunk| chunk.id != *id) {
                continue;
            }
            let Some(coordinate) = self.usable(&pack, place.ordinal) else { continue };
            let foreign = !self.parent_references.contains(&coordinate);
            if best.as_ref().is_none_or(|best| (foreign, coordinate) < (best.0, best.1)) {
                best = Some((foreign, coordinate, pack));
            }
        }
        Ok(best.map(|(_, coordinate, pack)| (coordinate, pack)))
    }

    /// The coordinate of a chunk in a pack, if this client may build on it there.
    fn usable(&self, pack: &IndexedPack, ordinal: u16) -> Option<Coordinate> {
        let id = &pack.info.id;
        let stays = !self.unusable.doomed.contains(id) && !self.is_lost(id);
        let usable = stays && self.claimants.may_use(&pack.info, &pack.toc, ordinal);
        usable.then(|| pack.toc.coordinate(ordinal))
    }

    /// Says that packs of this run are in the index by now.
    pub fn index_grew(&self) {
        self.index_is_empty.store(false, Ordering::Release);
    }

    pub fn next_session(&self) -> u64 {
        self.next_session.fetch_add(1, Ordering::Relaxed)
    }

    pub fn chunk_id(&self, kind: ChunkKind, bytes: &[u8]) -> Result<ChunkId> {
        self.repository.keyring().chunk_id(kind, bytes)
    }

    /// Whether what a pack held must be stored again: it is missing, marked as
    /// damaged, or did not give what this run wanted to read from it.
    fn is_lost(&self, pack: &PackId) -> bool {
        self.unusable.lost.contains(pack) || self.repository.is_failing(pack)
    }

    /// Counts a chunk that this run stores although the index has a place for it
    /// that cannot be relied on.
    pub fn count_if_healed(&self, id: &ChunkId) -> Result<()> {
        // nearly always: no look-up more for every new chunk
        if self.unusable.lost.is_empty() && self.repository.failing_packs().is_empty() {
            return Ok(());
        }
        let index = self.repository.index();
        let lost = |pack| index.pack(pack).is_some_and(|info| self.is_lost(&info.id));
        if index.places(id)?.iter().any(|place| lost(place.pack)) {
            self.healed.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Packs that no page of references is taken from.
    pub fn unusable_packs(&self) -> HashSet<PackId> {
        let mut packs = &self.unusable.doomed | &self.unusable.lost;
        packs.extend(self.repository.failing_packs());
        packs
    }
}
