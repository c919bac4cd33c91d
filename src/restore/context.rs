//! What all threads of one restore share.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use super::RestoreOptions;
use super::elsewhere::Elsewhere;
use super::report::Tally;
use crate::files::{Existing, Target};
use crate::progress::Progress;
use crate::repository::{Error, Repository, Result};

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
    pub elsewhere: Elsewhere<'a>,
    /// Path of the first restored name of each hard-linked file.
    leaders: Mutex<HashMap<u64, Box<[u8]>>>,
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
            elsewhere: Elsewhere::new(repository),
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
            // the newest: an older one may have as many names as it can
            lock(&self.leaders).insert(group, path.into());
        }
    }

    pub fn leader(&self, group: u64) -> Option<Vec<u8>> {
        lock(&self.leaders).get(&group).map(|path| path.to_vec())
    }
}
