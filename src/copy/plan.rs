//! Which snapshots are to be copied, and which the destination holds already.
//! Changes nothing.

use std::collections::HashMap;

use super::CopyOptions;
use crate::id::SnapshotId;
use crate::progress::{Event, Progress};
use crate::repository::snapshots::{Listing, Snapshot, State};
use crate::repository::{Error, ErrorKind, Repository, Result};

/// A snapshot that the destination holds already.
#[derive(Clone, Debug)]
pub struct There {
    pub from: Snapshot,
    /// What it is in the destination.
    pub id: SnapshotId,
    /// It was marked to be forgotten there.
    pub forgotten: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// To be copied, the oldest first.
    pub wanted: Vec<Snapshot>,
    pub there: Vec<There>,
}

/// Says what [`copy`](super::copy) would do.
pub fn plan(
    source: &Repository,
    destination: &Repository,
    options: &CopyOptions,
    progress: &dyn Progress,
) -> Result<Plan> {
    survey(source, destination, options, progress).map(|(plan, _)| plan)
}

/// The plan, and all that the destination lists.
pub(super) fn survey(
    source: &Repository,
    destination: &Repository,
    options: &CopyOptions,
    progress: &dyn Progress,
) -> Result<(Plan, Listing)> {
    require_rights(source, destination)?;
    progress.event(Event::Stage("listing snapshots"));
    source.prepare_reading(progress)?;
    let listing = source.list_snapshots()?;
    let there = destination.list_snapshots()?;
    for trouble in listing.troubles.iter().chain(&there.troubles) {
        progress.event(Event::Warning(&trouble.message));
    }
    let held = held(source, &there.snapshots);
    let mut plan = Plan::default();
    for snapshot in listing.snapshots {
        if !is_wanted(&snapshot, options)? {
            continue;
        }
        match held.get(&snapshot.id).copied().or_else(|| original(destination, &there, &snapshot)) {
            Some((id, forgotten)) => plan.there.push(There { from: snapshot, id, forgotten }),
            None => plan.wanted.push(snapshot),
        }
    }
    Ok((plan, there))
}

fn require_rights(source: &Repository, destination: &Repository) -> Result<()> {
    if source.id() == destination.id() {
        let message = format!(
            "{} and {} are one repository: copy into one that `esker init` made",
            source.url(),
            destination.url()
        );
        return Err(Error::new(ErrorKind::Usage, message));
    }
    let on = |repository: &Repository, error: Error| {
        Error::new(error.kind, format!("{}: {}", repository.url(), error.message))
    };
    source.keyring().require_read().map_err(|error| on(source, error))?;
    destination.keyring().require_write().map_err(|error| on(destination, error))?;
    match destination.update().forbids_writing() {
        Some(feature) => Err(Error::failed(format!(
            "{}: the repository uses the feature {feature:?}: upgrade esker to write to it",
            destination.url()
        ))),
        None => Ok(()),
    }
}

/// What of the source lies in the destination: its id there, and whether it was
/// forgotten. One that was forgotten and is there all the same was let go by the
/// destination's own rules.
fn held(source: &Repository, there: &[Snapshot]) -> HashMap<SnapshotId, (SnapshotId, bool)> {
    let mut held = HashMap::new();
    for copy in there.iter().filter(|copy| copy.state == State::Confirmed && !copy.replaced) {
        let Some(from) = &copy.manifest.copied_from else { continue };
        if from.repository == source.id() {
            let known = held.entry(from.snapshot).or_insert((copy.id, true));
            if copy.forgotten.is_none() {
                *known = (copy.id, false);
            }
        }
    }
    held
}

/// The snapshot of the destination that one of the source is a copy of.
fn original(
    destination: &Repository,
    there: &Listing,
    snapshot: &Snapshot,
) -> Option<(SnapshotId, bool)> {
    let from = snapshot.manifest.copied_from.as_ref()?;
    let is_it = |other: &&Snapshot| other.id == from.snapshot && other.state == State::Confirmed;
    let original = there.snapshots.iter().find(is_it)?;
    (from.repository == destination.id()).then_some((original.id, original.forgotten.is_some()))
}

fn is_wanted(snapshot: &Snapshot, options: &CopyOptions) -> Result<bool> {
    let Some(named) = &options.snapshots else { return Ok(snapshot.is_good()) };
    if !named.contains(&snapshot.id) {
        return Ok(false);
    }
    let why = match snapshot.state {
        State::Confirmed => return Ok(true),
        State::Unconfirmed => "its run did not end well, and it may lack data",
        State::Distrusted => "it is signed by a key that was revoked",
    };
    let id = &snapshot.id.to_hex()[..8];
    Err(Error::failed(format!("snapshot {id} is not copied: {why}; nothing was copied")))
}
