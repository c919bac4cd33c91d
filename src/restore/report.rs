//! What a restore did: counted while many threads work, handed out at the end.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use crate::files::Unset;
use crate::format::entry::Metadata;
use crate::format::manifest::{Failure, MAX_LISTED_ERRORS};
use crate::progress::{Event, Progress};

/// How a restore ended, in the classes of the exit codes (DESIGN.md §9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreOutcome {
    /// Exit code 0: all there.
    Complete,
    /// 3: something could not be written or set; each is named.
    Incomplete,
    /// 20: something of the snapshot is damaged or missing; each is named.
    Damage,
    /// 1: nothing was restored, and nothing was there already.
    Nothing,
}

/// Paths are those of the target, as the system knows them.
#[derive(Clone, Debug, Default)]
pub struct RestoreReport {
    pub files_written: u64,
    /// Existing files of which something was written.
    pub files_updated: u64,
    /// Files that were right already.
    pub files_unchanged: u64,
    /// Things left as they were because `overwrite` says so.
    pub skipped: u64,
    pub directories: u64,
    pub hard_links: u64,
    /// Symbolic links, pipes and devices.
    pub others: u64,
    pub bytes_written: u64,
    /// Bytes of files that were right already and not written.
    pub bytes_kept: u64,
    /// Things removed, directories with all they held counting each.
    pub deleted: u64,
    /// What could not be written or set; at most [`MAX_LISTED_ERRORS`].
    pub failures: Vec<Failure>,
    pub failures_count: u64,
    /// What the repository could not give back; at most [`MAX_LISTED_ERRORS`].
    pub damaged: Vec<Failure>,
    pub damaged_count: u64,
    /// Files that were taken from a second repository.
    pub from_second: u64,
    /// Things whose owner, or set-id bit that depends on it, this user may not
    /// set; no failures.
    pub owners_not_set: u64,
    /// Directories above what was chosen that had to be made.
    pub parents: Vec<Parent>,
}

/// A directory that was made only for what lies beneath it.
#[derive(Clone, Debug)]
pub struct Parent {
    /// Beneath the target.
    pub path: Vec<u8>,
    pub metadata: Metadata,
}

impl RestoreReport {
    pub fn outcome(&self) -> RestoreOutcome {
        let restored = self.files_written
            + self.files_updated
            + self.files_unchanged
            + self.skipped
            + self.directories
            + self.hard_links
            + self.others;
        if restored == 0 {
            RestoreOutcome::Nothing
        } else if self.damaged_count > 0 {
            RestoreOutcome::Damage
        } else if self.failures_count > 0 {
            RestoreOutcome::Incomplete
        } else {
            RestoreOutcome::Complete
        }
    }
}

/// How one file came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileResult {
    Written,
    Updated,
    Unchanged,
}

/// The report while it grows.
pub(super) struct Tally<'a> {
    target: Vec<u8>,
    is_root: bool,
    progress: &'a dyn Progress,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    report: RestoreReport,
    /// Attributes this file system does not take: first path and how many.
    unsupported: BTreeMap<Vec<u8>, (Vec<u8>, u64)>,
}

impl<'a> Tally<'a> {
    pub fn new(target: &Path, progress: &'a dyn Progress) -> Tally<'a> {
        let mut target = target.as_os_str().as_bytes().to_vec();
        while target.len() > 1 && target.last() == Some(&b'/') {
            target.pop();
        }
        let is_root = rustix::process::geteuid().is_root();
        Tally { target, is_root, progress, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn update(&self, change: impl FnOnce(&mut RestoreReport)) {
        change(&mut self.state().report);
    }

    /// A path beneath the target as the user knows it.
    pub fn shown(&self, path: &[u8]) -> Vec<u8> {
        let mut shown = self.target.clone();
        if !path.is_empty() {
            if shown.last() != Some(&b'/') {
                shown.push(b'/');
            }
            shown.extend_from_slice(path);
        }
        shown
    }

    pub fn line(&self, kind: &str, path: &[u8], bytes: u64) {
        self.progress.event(Event::Line { kind, path: &self.shown(path), bytes });
    }

    pub fn done(&self, files: u64, bytes: u64) {
        self.progress.event(Event::Done { files, bytes });
    }

    pub fn failure(&self, path: &[u8], reason: &str) {
        let path = self.shown(path);
        self.progress.event(Event::Failure { path: &path, reason });
        self.update(|report| {
            report.failures_count += 1;
            if report.failures.len() < MAX_LISTED_ERRORS {
                report.failures.push(Failure { path, reason: reason.to_owned() });
            }
        });
    }

    pub fn damaged(&self, path: &[u8], reason: &str) {
        let path = self.shown(path);
        self.progress.event(Event::Failure { path: &path, reason });
        self.update(|report| {
            report.damaged_count += 1;
            if report.damaged.len() < MAX_LISTED_ERRORS {
                report.damaged.push(Failure { path, reason: reason.to_owned() });
            }
        });
    }

    /// What of an entry's metadata could not be set.
    pub fn metadata(&self, path: &[u8], result: io::Result<Vec<Unset>>) {
        let unset = match result {
            Ok(unset) => unset,
            Err(error) => return self.failure(path, &format!("metadata not set: {error}")),
        };
        let mut owner_counted = false;
        for part in unset {
            match part {
                Unset::Owner(_) | Unset::SetId if !self.is_root => {
                    if !std::mem::replace(&mut owner_counted, true) {
                        self.update(|report| report.owners_not_set += 1);
                    }
                }
                Unset::Owner(error) => self.failure(path, &format!("owner not set: {error}")),
                Unset::SetId => self
                    .failure(path, "set-id bit not set: the owner is not the one of the snapshot"),
                Unset::Mode(error) => self.failure(path, &format!("mode not set: {error}")),
                Unset::Times(error) => self.failure(path, &format!("times not set: {error}")),
                Unset::Xattr(name, error)
                    if error.raw_os_error()
                        == Some(rustix::io::Errno::OPNOTSUPP.raw_os_error()) =>
                {
                    let mut state = self.state();
                    let seen = state.unsupported.entry(name).or_insert((path.to_vec(), 0));
                    seen.1 += 1;
                }
                Unset::Xattr(name, error) => {
                    let name = String::from_utf8_lossy(&name).into_owned();
                    self.failure(path, &format!("attribute {name} not set: {error}"));
                }
            }
        }
    }

    pub fn file(&self, result: FileResult) {
        self.update(|report| match result {
            FileResult::Written => report.files_written += 1,
            FileResult::Updated => report.files_updated += 1,
            FileResult::Unchanged => report.files_unchanged += 1,
        });
    }

    pub fn finish(self) -> RestoreReport {
        let unsupported = std::mem::take(&mut self.state().unsupported);
        for (name, (path, count)) in unsupported {
            let name = String::from_utf8_lossy(&name);
            let more = if count > 1 { format!(" ({} more)", count - 1) } else { String::new() };
            let reason = format!("attribute {name} not set: this file system takes none{more}");
            self.failure(&path, &reason);
        }
        self.state.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()).report
    }
}
