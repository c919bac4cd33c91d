//! A second repository that holds a copy of the snapshot, or that it was copied
//! from: files that the first one cannot give back are taken from there.
//!
//! `format-spec/11-snapshots.md`, *Copied snapshots*.

use std::cell::Cell;

use super::{RestoreOptions, RestoreReport, present_with_second, restore_seen};
use crate::format::manifest::CopiedFrom;
use crate::progress::{Event, Progress};
use crate::repository::snapshots::{Snapshot, State};
use crate::repository::{ErrorKind, Repository, Result};

/// The snapshot of `second` that is the same as one of `first`: one is a copy of the
/// other, or both are of a third. `snapshots` are those of `second`.
pub fn counterpart<'a>(
    first: &Repository,
    snapshot: &Snapshot,
    second: &Repository,
    snapshots: &'a [Snapshot],
) -> Option<&'a Snapshot> {
    let origin = |repository: &Repository, snapshot: &Snapshot| match &snapshot.manifest.copied_from
    {
        Some(CopiedFrom { repository, snapshot, .. }) => (*repository, *snapshot),
        None => (repository.id(), snapshot.id),
    };
    let own = (first.id(), snapshot.id);
    let wanted = origin(first, snapshot);
    let is_same = |other: &&Snapshot| {
        let other = origin(second, other);
        other == wanted || other == own
    };
    // a copy of a copy names its own original only
    let copied_from = |other: &&Snapshot| wanted == (second.id(), other.id);
    let confirmed = || snapshots.iter().rev().filter(|other| other.state == State::Confirmed);
    confirmed().find(copied_from).or_else(|| confirmed().find(is_same))
}

/// Restores a snapshot, and what is damaged or missing of it, file by file, from the
/// same snapshot in another repository. What is whole is not written twice: it is
/// there, with its size and time, when the second pass comes to it.
///
/// The report's damage is what neither could give back.
pub fn restore_with_second(
    (first, snapshot): (&Repository, &Snapshot),
    (second, same): (&Repository, &Snapshot),
    options: &RestoreOptions,
    progress: &dyn Progress,
) -> Result<RestoreReport> {
    let (of_first, of_second) = ((first, snapshot), (second, same));
    let refused = Cell::new(false);
    let see = || {
        let seen = present_with_second(of_first, of_second, options.selection(), progress);
        refused.set(seen.is_err());
        seen
    };
    let before = match restore_seen(first, snapshot, options, &see, progress) {
        Ok(report) if report.damaged_count == 0 || options.dry_run => return Ok(report),
        Ok(report) => report,
        // nothing of it can be read there
        Err(error) if error.kind == ErrorKind::Damage && !refused.get() => {
            progress.event(Event::Warning(&error.message));
            RestoreReport::default()
        }
        Err(error) => return Err(error),
    };
    progress.event(Event::Stage("taking the rest from the second repository"));
    let after = restore_seen(second, same, options, &see, progress)?;
    Ok(together(&before, after))
}

/// The second pass saw everything, what the first had written as there already.
fn together(before: &RestoreReport, after: RestoreReport) -> RestoreReport {
    let written = before.files_written + before.files_updated + before.hard_links;
    let seen = |count: u64| count.saturating_sub(written);
    // where nothing that is there is touched, what the first wrote was passed over
    let were_skipped = after.files_unchanged < written;
    RestoreReport {
        files_written: before.files_written + after.files_written,
        files_updated: before.files_updated + after.files_updated,
        files_unchanged: seen(after.files_unchanged),
        skipped: if were_skipped { seen(after.skipped) } else { after.skipped },
        hard_links: before.hard_links + after.hard_links,
        bytes_written: before.bytes_written + after.bytes_written,
        bytes_kept: after.bytes_kept.saturating_sub(before.bytes_written),
        deleted: before.deleted + after.deleted,
        from_second: after.files_written + after.files_updated,
        ..after
    }
}
