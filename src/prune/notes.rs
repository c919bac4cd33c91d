//! Small objects that are only in the way: of snapshots that are gone, of runs that
//! are over, and records whose time is.

use std::collections::HashSet;

use super::facts::Facts;
use super::reasons::Due;
use super::records::expired;
use crate::format::manifest::{self, snapshot_of_key};
use crate::format::notes::{CONFIRMED, MARKS, SESSIONS, mark_of_key, session_of_key};
use crate::id::SnapshotId;
use crate::repository::snapshots::State;
use crate::repository::{Repository, Result};
use crate::store::both;

/// How long the signs of a run that made no snapshot are kept, in ms: its owner
/// may want to know why.
const KEEP_SIGNS_MS: u64 = 30 * 24 * 3600 * 1000;

pub(super) fn listed_snapshots(repository: &Repository) -> Result<HashSet<SnapshotId>> {
    let keys = repository.listed_keys(manifest::PREFIX)?;
    Ok(keys.iter().filter_map(|key| snapshot_of_key(key, manifest::PREFIX)).collect())
}

/// Small objects that can go, each class in its own list.
pub(super) struct InTheWay {
    pub confirmations: Vec<String>,
    pub sessions: Vec<String>,
    pub marks: Vec<String>,
    pub records: Vec<String>,
}

/// Notes of manifests that are gone, sessions of runs whose snapshot is
/// confirmed, and of runs that were over long ago. Notes are listed before the
/// manifests are: a note of a manifest that is not listed after it is of one
/// that is gone, for a manifest is put before any note of it but sessions, and
/// its key is never used again.
pub(super) fn in_the_way(repository: &Repository, facts: &Facts, due: Due) -> Result<InTheWay> {
    let store = &**repository.store();
    let ((confirmations, records), (sessions, marks)) = both(
        store,
        || both(store, || repository.listed_keys(CONFIRMED), || expired(repository, due.now)),
        || both(store, || repository.listed_keys(SESSIONS), || repository.listed_keys(MARKS)),
    );
    let (confirmations, sessions, marks) = (confirmations?, sessions?, marks?);
    let records = records?;
    let manifests = listed_snapshots(repository)?;
    let confirmed: HashSet<SnapshotId> = facts
        .listing
        .snapshots
        .iter()
        .filter(|snapshot| snapshot.state == State::Confirmed)
        .flat_map(|snapshot| [Some(snapshot.id), snapshot.manifest.replaces])
        .flatten()
        .collect();
    let long_over = |run: &SnapshotId| {
        let last = facts.runs.last_sign.get(run).copied();
        last.is_some_and(|last| last.saturating_add(KEEP_SIGNS_MS) <= due.now)
    };
    // unreadable, and of no snapshot: nobody can tell how old it is
    let unreadable = |run: &SnapshotId| {
        facts.full
            && facts.signed.contains(run)
            && !facts.runs.last_sign.contains_key(run)
            && !manifests.contains(run)
    };
    let went = |run: &SnapshotId| facts.went.contains(run) && !manifests.contains(run);
    let idle = |run: &SnapshotId| {
        confirmed.contains(run) || went(run) || long_over(run) || unreadable(run)
    };
    let of_none = |id: Option<SnapshotId>| id.is_some_and(|id| !manifests.contains(&id));
    Ok(InTheWay {
        confirmations: only(confirmations, |key| of_none(snapshot_of_key(key, CONFIRMED))),
        sessions: only(sessions, |key| session_of_key(key).is_some_and(|(run, _)| idle(&run))),
        marks: only(marks, |key| {
            let settled = facts.listing.settled_marks.contains(key);
            settled || of_none(mark_of_key(key).map(|(id, _)| id))
        }),
        records,
    })
}

fn only(keys: Vec<String>, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    keys.into_iter().filter(|key| wanted(key)).collect()
}
