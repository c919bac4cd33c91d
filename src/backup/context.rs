//! What all stages of one run share: keys, chunker, the look-up of known
//! chunks, what is to be reported, and the first fatal error.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::BackupOptions;
use crate::chunker::Chunker;
use crate::format::ChunkKind;
use crate::format::entry::{Entry, Timestamp, display_key};
use crate::format::manifest::{Failure, MAX_LISTED_ERRORS};
use crate::id::ChunkId;
use crate::progress::{Event, Progress};
use crate::repository::coordinates::ReferenceSet;
use crate::repository::known::{Known, Unusable};
use crate::repository::packer::{Packer, Sealer};
use crate::repository::{Error, Repository, Result};

/// Failures and notes of a run: counted all, listed up to a limit.
#[derive(Default)]
pub struct Reports {
    pub failures: Vec<Failure>,
    pub notes: Vec<Failure>,
    pub failure_count: u64,
    pub note_count: u64,
    /// Positions of the paths beneath which something failed.
    pub failed_roots: BTreeSet<usize>,
}

pub struct Context<'a> {
    pub repository: &'a Repository,
    pub options: &'a BackupOptions,
    /// The paths that are saved, absolute.
    pub roots: &'a [PathBuf],
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
    /// What is there already.
    pub known: Known<'a>,
    /// Damaged or missing chunks stored again, over all attempts of the run.
    healed: &'a AtomicU64,
    abort: AtomicBool,
    error: Mutex<Option<Error>>,
}

impl<'a> Context<'a> {
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        repository: &'a Repository,
        options: &'a BackupOptions,
        roots: &'a [PathBuf],
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
            roots,
            progress,
            packer,
            sealer,
            chunker,
            started_ms,
            next_session: AtomicU64::new(2),
            bytes_added: AtomicU64::new(0),
            reports: Mutex::default(),
            known: Known::new(repository, unusable, parent_references),
            healed,
            abort: AtomicBool::new(false),
            error: Mutex::new(None),
        })
    }

    /// When the run started, as a file's time.
    pub fn started(&self) -> Timestamp {
        Timestamp::of_ms(self.started_ms)
    }

    pub fn reports(&self) -> std::sync::MutexGuard<'_, Reports> {
        self.reports.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A path that could not be read, of whichever source it belongs to.
    pub fn failure(&self, path: &[u8], reason: &str) {
        let path_of = |bytes| Path::new(std::ffi::OsStr::from_bytes(bytes));
        let beneath = |root: &PathBuf| path_of(path).starts_with(root);
        if self.options.may_fail.iter().any(beneath) {
            return self.note(path, reason);
        }
        // what fails above a root keeps it from being whole, too
        let concerns = |root: &PathBuf| beneath(root) || root.starts_with(path_of(path));
        let roots = self.roots.iter().enumerate().filter(|(_, root)| concerns(root));
        self.reports().failed_roots.extend(roots.map(|(at, _)| at));
        self.source_failure(path, reason);
    }

    /// The same of a source that is no path.
    pub fn source_failure(&self, path: &[u8], reason: &str) {
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

    pub fn next_session(&self) -> u64 {
        self.next_session.fetch_add(1, Ordering::Relaxed)
    }

    pub fn chunk_id(&self, kind: ChunkKind, bytes: &[u8]) -> Result<ChunkId> {
        self.repository.keyring().chunk_id(kind, bytes)
    }

    /// Counts a chunk that this run stores although the index has a place for it
    /// that cannot be relied on.
    pub fn count_if_healed(&self, id: &ChunkId) -> Result<()> {
        if self.known.lies_in_lost(id)? {
            self.healed.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}
