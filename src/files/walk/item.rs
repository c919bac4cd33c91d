//! What a walk takes and what it tells: options, items, reasons.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::super::rules::Rules;
use crate::format::entry::{EntryKind, Metadata};

/// What counts beneath one root, down to the next root that lies inside it.
#[derive(Clone, Debug, Default)]
pub struct RootOptions {
    /// Do not enter file systems other than that of the root. A mount point
    /// is kept as an empty directory.
    pub one_file_system: bool,
    /// What is left out beneath the root. The root itself was named, and stays.
    pub rules: Option<Arc<Rules>>,
}

/// What to leave out of a walk.
#[derive(Debug, Default)]
pub struct WalkOptions {
    /// Of the roots that `of_roots` does not name, as in [`RootOptions`].
    pub one_file_system: bool,
    pub rules: Option<Arc<Rules>>,
    /// Roots with options of their own. Beneath one that is named twice only
    /// that is left out which both leave out.
    pub of_roots: Vec<(PathBuf, RootOptions)>,
    /// Of directories with a valid `CACHEDIR.TAG`, keep only themselves and the tag.
    pub exclude_caches: bool,
    /// Leave out files of more than so many bytes, unless they are roots.
    pub exclude_larger_than: Option<u64>,
    /// Directories (or files) to leave out wherever they appear: the
    /// repository, the cache. Compared by device and inode.
    pub leave_out: Vec<PathBuf>,
    pub read_xattrs: bool,
    /// Tell also what the rules left out.
    pub report_excluded: bool,
}

/// One thing a walk met. The path is absolute; `/` is the root.
#[derive(Debug)]
pub enum Item {
    Found(Found),
    /// Something could not be read. For a directory it may follow its own
    /// `Found` and then means its contents, for any entry its attributes.
    Failed {
        path: Vec<u8>,
        /// The root that could not be reached because of it, by its position.
        root_missing: Option<usize>,
        error: io::Error,
    },
    LeftOut {
        path: Vec<u8>,
        why: LeftOut,
    },
}

/// Why something is not in the stream though it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftOut {
    Socket,
    /// It went away between the listing and the look at it.
    Vanished,
    /// Its contents (a directory) or itself (anything else) lie on another file system.
    OtherFileSystem,
    /// It is named by [`WalkOptions::leave_out`].
    OwnRepository,
    TooLarge,
    /// The contents of a tagged cache directory.
    CacheDirectory,
    Excluded,
}

/// An entry of the stream.
#[derive(Clone, Debug)]
pub struct Found {
    pub path: Vec<u8>,
    pub kind: EntryKind,
    pub metadata: Metadata,
    /// How many names the inode has.
    pub links: u64,
    /// `st_dev`; with the inode it identifies hard links.
    pub device_id: u64,
    /// The mount's number in `/proc/self/mountinfo`, 0 if unknown.
    pub mount_id: u64,
    /// A directory that is only here because a root lies beneath it.
    pub implied_parent: bool,
}

/// What a walk left unsaid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalkCounts {
    /// Paths left out by rules; an excluded directory counts once.
    pub excluded: u64,
}
