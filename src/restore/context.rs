//! What all threads of one restore share.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::RestoreOptions;
use super::report::Tally;
use crate::files::{Existing, Target};
use crate::format::ChunkKind;
use crate::id::ChunkId;
use crate::progress::{Progress, Silent};
use crate::repository::index::PackNumber;
use crate::repository::{Error, ErrorKind, Repository, Result};

/// How long an index that was just brought up to date is taken for that.
const SYNC_INTERVAL: Duration = Duration::from_secs(60);

pub(super) struct Context<'a> {
    pub repository: &'a Repository,
    pub options: &'a RestoreOptions,
    pub progress: &'a dyn Progress,
    pub tally: Tally<'a>,
    /// None in a dry run into a directory that does not exist.
    pub opened: Option<Target>,
    pub open_files: AtomicUsize,
    stop: AtomicBool,
    error: Mutex<Option<Error>>,
    elsewhere: Mutex<Elsewhere>,
    /// Path of the first restored name of each hard-linked file.
    leaders: Mutex<HashMap<u64, Box<[u8]>>>,
}

/// What is known while chunks are looked for in other places.
#[derive(Default)]
struct Elsewhere {
    bad_blocks: HashSet<(PackNumber, usize)>,
    synced: Option<Instant>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl<'a> Context<'a> {
    pub fn new(
        repository: &'a Repository,
        options: &'a RestoreOptions,
        progress: &'a dyn Progress,
        opened: Option<Target>,
    ) -> Context<'a> {
        Context {
            repository,
            options,
            progress,
            tally: Tally::new(&options.target, progress),
            opened,
            open_files: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            error: Mutex::default(),
            elsewhere: Mutex::default(),
            leaders: Mutex::default(),
        }
    }

    pub fn target(&self) -> io::Result<&Target> {
        self.opened.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub fn stat(&self, path: &[u8]) -> io::Result<Option<Existing>> {
        self.opened.as_ref().map_or(Ok(None), |target| target.stat(path))
    }

    /// Ends the work: the first error is the one that counts.
    pub fn fail(&self, error: Error) {
        lock(&self.error).get_or_insert(error);
        self.stop.store(true, Ordering::Relaxed);
    }

    pub fn is_stopped(&self) -> bool {
        if self.stop.load(Ordering::Relaxed) {
            return true;
        }
        if self.progress.interrupted() {
            self.fail(Error::interrupted());
            return true;
        }
        false
    }

    /// An error when the work is to end.
    pub fn check_running(&self) -> Result<()> {
        if self.is_stopped() {
            return Err(lock(&self.error).clone().unwrap_or_else(Error::interrupted));
        }
        Ok(())
    }

    pub fn note_leader(&self, group: u64, path: &[u8]) {
        if group != 0 {
            lock(&self.leaders).entry(group).or_insert_with(|| path.into());
        }
    }

    pub fn leader(&self, group: u64) -> Option<Vec<u8>> {
        lock(&self.leaders).get(&group).map(|path| path.to_vec())
    }

    pub fn note_bad_block(&self, pack: PackNumber, block: usize) {
        lock(&self.elsewhere).bad_blocks.insert((pack, block));
    }

    /// A chunk whose first place failed, from any other place: as known here,
    /// then after the index was read again, for a prune may have moved it.
    pub fn rescue(&self, id: &ChunkId) -> Result<Vec<u8>> {
        let mut trouble = Error::damage(format!("chunk {id} is in no pack"));
        loop {
            match self.rescue_once(id) {
                Ok(bytes) => return Ok(bytes),
                Err(error) if error.kind == ErrorKind::Damage => trouble = error,
                Err(error) => return Err(error),
            }
            let mut elsewhere = lock(&self.elsewhere);
            if elsewhere.synced.is_some_and(|at| at.elapsed() < SYNC_INTERVAL) {
                break;
            }
            self.repository.sync_index(&Silent)?;
            elsewhere.synced = Some(Instant::now());
            elsewhere.bad_blocks.clear();
        }
        // another thread may have brought the index up to date in between
        self.rescue_once(id).map_err(|error| match error.kind {
            ErrorKind::Damage => trouble,
            _ => error,
        })
    }

    fn rescue_once(&self, id: &ChunkId) -> Result<Vec<u8>> {
        let mut trouble = Error::damage(format!("chunk {id} is in no pack that can be read"));
        for place in self.repository.index().places(id)? {
            let block = self.repository.index().toc(place.pack)?.block_of(place.ordinal);
            if lock(&self.elsewhere).bad_blocks.contains(&(place.pack, block)) {
                continue;
            }
            match self.repository.chunk_at(place, id, ChunkKind::Data) {
                Ok(bytes) => return Ok(bytes),
                Err(error) if error.kind == ErrorKind::Damage => {
                    self.note_bad_block(place.pack, block);
                    trouble = error;
                }
                Err(error) => return Err(error),
            }
        }
        Err(trouble)
    }
}
