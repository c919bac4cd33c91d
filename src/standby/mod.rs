//! A standby: this machine restores the newest complete snapshot of another host's
//! profile. What it has right already is not transferred; what it keeps for itself is
//! neither written nor deleted; what it holds already is not restored again.
//!
//! | file | what lives there |
//! |---|---|
//! | `state` | which snapshot this machine holds |
//! | `keep` | what the standby keeps for itself |
//! | `way_back` | the steps that bring a snapshot to the standby |
//!
//! `docs/standby.md` says the same to users.

mod keep;
mod state;
mod way_back;

pub use self::keep::Keep;
pub use self::state::{Applied, State};
pub use self::way_back::{Profiles, way_back};

use crate::config::profile::Standby;
use crate::format::notes::Record;
use crate::id::SnapshotId;
use crate::repository::clock::latest_believed;
use crate::repository::now_ms;
use crate::repository::sets::Sets;
use crate::repository::snapshots::Snapshot;

/// What records of standbys say that they are about.
pub const EXTENT: &str = "standby";

/// The snapshot that the standby should hold: the newest complete one, of a set one whose set
/// is whole. Snapshots come oldest first.
pub fn newest<'a>(snapshots: &'a [Snapshot], standby: &Standby) -> Option<&'a Snapshot> {
    let sets = Sets::standing(snapshots);
    let is_meant = |snapshot: &&Snapshot| {
        let manifest = &snapshot.manifest;
        sets.completes(snapshot)
            && manifest.host == standby.host
            && manifest.profile == standby.profile
            // one that is dated ahead would be the newest for years
            && manifest.started <= latest_believed(now_ms())
    };
    snapshots.iter().filter(is_meant).max_by_key(|snapshot| snapshot.manifest.started)
}

/// The snapshot that a standby put a record of, if it holds it: for whoever sees only
/// the repository.
pub fn applied_by(record: &Record) -> Option<SnapshotId> {
    let is_standby = record.kind == "run" && record.extent == EXTENT && record.code == 0;
    record.snapshots.first().copied().filter(|_| is_standby)
}
