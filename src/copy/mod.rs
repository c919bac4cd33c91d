//! Copy: takes snapshots into another repository, which has keys, parameters and a
//! store of its own. Chunks move as they were cut; lists, the tree and the
//! reference set are built anew, for ids are keyed per repository. Nothing is
//! deleted on either side.
//!
//! | file | what lives there |
//! |---|---|
//! | `plan` | which snapshots are to be copied, and which are there |
//! | `run` | one snapshot: signs of life, checkpoints, commit |
//! | `describe` | what the copy's manifest and name say |
//! | `write` | the one pass over the tree, in windows |
//! | `fetch` | the threads: fetch, open, verify, seal for the other repository |
//! | `build` | contents, lists and tree of the copy |
//!
//! What was copied before is not read again, where the cache still knows which
//! chunk became which; without the cache it is read, and not put again.
//!
//! Memory: one window of the tree (some 30 MiB) and 16 MiB a thread, eight threads
//! at most, beside the packs on their way and what the two indexes take.

mod build;
mod describe;
mod fetch;
mod plan;
mod run;
mod write;

use crate::format::manifest::{self, Outcome};
use crate::id::SnapshotId;
use crate::progress::{Event, Progress};
use crate::repository::{Error, ErrorKind, Repository, Result};

pub use self::plan::{Plan, There, plan};

use self::run::Copier;

#[derive(Clone, Debug, Default)]
pub struct CopyOptions {
    /// Only these; without it all that are good.
    pub snapshots: Option<Vec<SnapshotId>>,
    /// This host's name, for the runs' signs of life.
    pub host: String,
    /// zstd level; 0 stores.
    pub compression: i32,
    /// Bytes put after which packs get their segment; 0 is 512 MiB.
    pub checkpoint_bytes: u64,
}

/// A snapshot that was copied.
#[derive(Clone, Debug)]
pub struct Copied {
    pub from: SnapshotId,
    pub id: SnapshotId,
    pub host: String,
    /// Start of the backup, in ms since 1970.
    pub started: u64,
    pub outcome: Outcome,
    /// Stored bytes of data that were got from the source.
    pub bytes_read: u64,
    /// Bytes of chunks that were new in the destination, before compression.
    pub bytes_added: u64,
    /// Bytes put into the destination, packs only.
    pub bytes_put: u64,
}

#[derive(Clone, Debug, Default)]
pub struct CopyReport {
    pub copied: Vec<Copied>,
    pub there: Vec<There>,
    /// Snapshots that are damaged in the source: nothing of them was made a snapshot.
    pub damaged: Vec<(SnapshotId, Error)>,
    /// Snapshots that were deleted from the source meanwhile.
    pub gone: Vec<SnapshotId>,
    /// What ended it before all were looked at.
    pub stopped: Option<Error>,
}

/// Why a snapshot could not be copied, and which side is to blame.
enum Stop {
    Source(Error),
    Destination(Error),
}

impl Stop {
    fn error(&self) -> &Error {
        match self {
            Stop::Source(error) | Stop::Destination(error) => error,
        }
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Destination(error)
    }
}

/// Copies snapshots, the oldest first. An error means that nothing was done; what
/// ended it later, and what is wrong with single snapshots, is in the report.
///
/// The source is read with a read or full key, the destination written with a write
/// or full key.
pub fn copy(
    source: &Repository,
    destination: &Repository,
    options: &CopyOptions,
    progress: &dyn Progress,
) -> Result<CopyReport> {
    let (plan, listing) = plan::survey(source, destination, options, progress)?;
    let (mut files, mut bytes) = (0, 0);
    for snapshot in &plan.wanted {
        files += snapshot.manifest.counts.files;
        bytes += snapshot.manifest.counts.bytes;
    }
    source.expect_reads(files, bytes, progress)?;
    progress.event(Event::Expect { files, bytes });
    let mut report = CopyReport::default();
    let mut copier = Copier::new(source, destination, options, listing, progress)?;
    let done = copier.complete_names(&plan.there).and_then(|()| copier.adopt());
    report.there = plan.there;
    report.stopped = done.err();
    for snapshot in &plan.wanted {
        if report.stopped.is_some() {
            break;
        }
        match copier.copy(snapshot) {
            Ok(copied) => report.copied.push(copied),
            Err(Stop::Source(error)) if error.kind == ErrorKind::Damage => {
                match source.exists(&manifest::manifest_key(snapshot.id)) {
                    Ok(true) => report.damaged.push((snapshot.id, error)),
                    Ok(false) => report.gone.push(snapshot.id),
                    Err(error) => report.stopped = Some(error),
                }
            }
            Err(Stop::Source(error)) => report.stopped = Some(of_source(source, error)),
            Err(Stop::Destination(error)) => report.stopped = Some(error),
        }
    }
    copier.end();
    Ok(report)
}

/// The store's own errors name an object, which may be on either side.
fn of_source(source: &Repository, error: Error) -> Error {
    match error.kind {
        ErrorKind::Interrupted => error,
        kind => Error::new(kind, format!("reading {}: {}", source.url(), error.message)),
    }
}
