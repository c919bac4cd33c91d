//! Marks that cannot be read. Nobody knows what such a mark says, so its snapshot
//! is neither forgotten by a rule nor pruned, unless it was forgotten since. An
//! undo with a higher number settles it: the snapshot is kept, and the unreadable
//! mark counts for nothing any more.

use super::snapshots::SnapshotsOptions;
use crate::format::notes::MarkKind;
use crate::id::SnapshotId;
use crate::repository::snapshots::Listing;
use crate::repository::{Repository, Result, now_ms};

/// Puts an undo on every snapshot with a mark that cannot be read and is not
/// settled, unless a later one says that it is forgotten; which those are.
pub fn settle(
    repository: &Repository,
    listing: &Listing,
    options: &SnapshotsOptions,
) -> Result<Vec<SnapshotId>> {
    let there = |id: &SnapshotId| {
        let wanted = options.snapshots.as_ref().is_none_or(|wanted| wanted.contains(id));
        wanted && listing.snapshots.iter().any(|snapshot| snapshot.id == *id)
    };
    let ids: Vec<SnapshotId> = listing.unclear.iter().copied().filter(there).collect();
    if !options.dry_run {
        for id in &ids {
            repository.put_mark(*id, MarkKind::Undo, now_ms())?;
        }
    }
    Ok(ids)
}
