//! Brings the repositories of a profile level: what one has of it and another has not is copied.

use crate::cli::progress::Reporter;
use crate::config::Profile;
use crate::copy::{CopyOptions, CopyReport, copy};
use crate::id::SnapshotId;
use crate::notify::LastGood;
use crate::repository::snapshots::Snapshot;
use crate::repository::{Repository, Result};

/// Host and profile that snapshots are of.
#[derive(Clone, Copy)]
pub struct Whose<'a> {
    pub host: &'a str,
    pub profile: &'a Profile,
}

impl Whose<'_> {
    fn is(&self, snapshot: &Snapshot) -> bool {
        snapshot.is_good()
            && snapshot.manifest.host == self.host
            && snapshot.manifest.profile == self.profile.name
    }

    /// The newest complete one.
    pub fn last_good(&self, snapshots: &[Snapshot]) -> Option<LastGood> {
        let own = snapshots.iter().rev().filter(|snapshot| self.is(snapshot));
        let complete = own.into_iter().find(|snapshot| snapshot.is_complete())?;
        Some(LastGood {
            snapshot: complete.id.to_hex()[..8].to_owned(),
            time_ms: complete.manifest.started,
        })
    }

    /// When the newest snapshot in a repository was taken, in ms since 1970.
    pub fn newest(&self, repository: &Repository) -> Result<Option<u64>> {
        let snapshots = repository.list_snapshots()?.snapshots;
        let own = snapshots.iter().filter(|snapshot| self.is(snapshot));
        Ok(own.map(|snapshot| snapshot.manifest.started).max())
    }
}

/// Copies what is newer than `after`, or only the newest of that. Older ones were copied before, and went by the other
/// repository's own retention.
pub fn copy_newer(
    whose: Whose<'_>,
    from: &Repository,
    to: &Repository,
    after: Option<u64>,
    latest: bool,
    reporter: &Reporter,
) -> Result<Option<CopyReport>> {
    let snapshots = from.list_snapshots()?.snapshots;
    let newer = |snapshot: &&Snapshot| {
        whose.is(snapshot) && after.is_none_or(|after| snapshot.manifest.started > after)
    };
    let mut wanted: Vec<SnapshotId> = snapshots.iter().filter(newer).map(|s| s.id).collect();
    if latest {
        wanted = wanted.pop().into_iter().collect();
    }
    if wanted.is_empty() {
        return Ok(None);
    }
    let options = CopyOptions {
        snapshots: Some(wanted),
        host: whose.host.to_owned(),
        compression: whose.profile.compression(),
        checkpoint_bytes: 0,
    };
    copy(from, to, &options, reporter).map(Some)
}
