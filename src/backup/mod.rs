//! Backup: walk → compare → read and cut → hash → deduplicate → gather blocks →
//! compress and seal → packs → uploads, then the commit.

use std::io::Read;
use std::path::PathBuf;

use crate::files::Rules;
use crate::format::manifest::{Counts, Failure, Outcome};
use crate::id::SnapshotId;
use crate::progress::Progress;
use crate::repository::{Repository, Result};

/// A stream that is not a file: standard input, the output of a command.
pub struct Stream {
    /// First component of its key in the tree; never `files`.
    pub name: String,
    pub reader: Box<dyn Read + Send>,
}

#[derive(Default)]
pub struct BackupOptions {
    /// What to save; relative paths are taken from the current directory.
    pub paths: Vec<PathBuf>,
    pub streams: Vec<Stream>,
    pub host: String,
    pub profile: String,
    pub tags: Vec<String>,
    /// Start of the run in ms since 1970; now without it.
    pub time: Option<u64>,
    /// IANA name or offset of the zone.
    pub zone: String,
    /// When the snapshot may go by itself, in ms since 1970.
    pub expires: Option<u64>,
    pub rules: Option<Rules>,
    /// The patterns as they were given, for the manifest.
    pub exclusions: Vec<String>,
    pub exclude_caches: bool,
    pub exclude_larger_than: Option<u64>,
    pub one_file_system: bool,
    /// Fail before anything is stored when a path is missing.
    pub require_all: bool,
    /// Say what would be done; store nothing.
    pub dry_run: bool,
    /// Report every new, changed and removed path.
    pub list: bool,
    /// Read every file, changed or not.
    pub reread: bool,
    pub ignore_inode: bool,
    pub ignore_ctime: bool,
    /// Paths to record under another name: (read from, recorded as).
    pub map: Vec<(PathBuf, PathBuf)>,
    pub skip_if_unchanged: bool,
    /// zstd level; 0 stores.
    pub compression: i32,
    /// Files read at once; 0 lets the program choose.
    pub read_concurrency: usize,
    /// Directories that are never saved: repository, cache, temporary files.
    pub leave_out: Vec<PathBuf>,
}

#[derive(Clone, Debug)]
pub struct BackupReport {
    /// The new snapshot; none after a dry run, or when nothing had changed.
    pub snapshot: Option<SnapshotId>,
    pub parent: Option<SnapshotId>,
    pub outcome: Outcome,
    pub counts: Counts,
    pub failures: Vec<Failure>,
    pub notes: Vec<Failure>,
    pub unused_patterns: Vec<String>,
    /// Left out because nothing had changed since the parent.
    pub unchanged: bool,
    /// Bytes put into the store, packs only.
    pub bytes_put: u64,
    /// Damaged or missing chunks that this run stored again.
    pub healed: u64,
}

/// Takes a snapshot.
pub fn backup(
    repository: &Repository,
    options: BackupOptions,
    progress: &dyn Progress,
) -> Result<BackupReport> {
    let _ = (repository, options, progress);
    Err(crate::repository::Error::failed("backup"))
}
