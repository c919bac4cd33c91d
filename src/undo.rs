//! Undo: takes a forget mark back. It is a commit: the mark is put first, then
//! everything the snapshot needs must be seen to be there, in no plan of a
//! sweep. Nothing is deleted, so a store without that right will do.
//!
//! `format-spec/13-protocol.md`, steps U1 to U3.

use crate::format::manifest::manifest_key;
use crate::format::notes::{MarkKind, confirmation_key};
use crate::id::SnapshotId;
use crate::progress::{Event, Progress};
use crate::repository::chains::Chains;
use crate::repository::commit::Doomed;
use crate::repository::coordinates::ReferenceSet;
use crate::repository::snapshots::{Listing, Snapshot};
use crate::repository::{Error, ErrorKind, Repository, Result};

/// What came of an undo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undone {
    Recovered,
    /// It was not marked to be forgotten.
    NotForgotten,
    /// It was not forgotten, as far as can be read: a mark that nobody can read
    /// counts for nothing from now on.
    Settled,
    /// The forget mark of a manifest that cannot be read was taken back.
    Unbelieved,
    /// Something it needs is gone or about to go; it is marked as forgotten again.
    TooLate(String),
}

/// Takes back the forget mark of each snapshot, in order; `now` is in ms since
/// 1970. A replaced one of `all` comes back with its successor.
pub fn undo(
    repository: &Repository,
    all: &[Snapshot],
    wanted: &[SnapshotId],
    now: u64,
    progress: &dyn Progress,
) -> Result<Vec<(SnapshotId, Undone)>> {
    repository.require_maintain()?;
    let mut outcomes = Vec::new();
    for id in wanted {
        let snapshot = all
            .iter()
            .find(|snapshot| snapshot.id == *id)
            .ok_or_else(|| Error::failed(format!("there is no snapshot {id}")))?;
        progress.event(Event::Stage("looking whether all of it is there"));
        let outcome = undo_one(repository, snapshot, now, progress)?;
        if outcome == Undone::Recovered {
            for replaced in chain(all, snapshot) {
                repository.put_mark(replaced, MarkKind::Undo, now)?;
            }
        }
        outcomes.push((*id, outcome));
    }
    Ok(outcomes)
}

/// Takes back what was said of a snapshot that cannot be read, or of which a mark
/// cannot. Nothing where that is not so: then [`undo`] is meant.
pub fn undo_unreadable(
    repository: &Repository,
    listing: &Listing,
    id: SnapshotId,
    now: u64,
) -> Result<Option<Undone>> {
    repository.require_maintain()?;
    let unclear = listing.unclear.contains(&id);
    let outcome = match listing.unbelieved.iter().find(|other| other.id == id) {
        Some(other) if other.forgotten.is_some() => Undone::Unbelieved,
        Some(_) if !unclear => return Ok(Some(Undone::NotForgotten)),
        Some(_) => Undone::Settled,
        None => {
            let snapshot = listing.snapshots.iter().find(|snapshot| snapshot.id == id);
            // one that can be read to be forgotten is brought back with a look at all it needs
            if !unclear || snapshot.is_none_or(|snapshot| snapshot.forgotten.is_some()) {
                return Ok(None);
            }
            Undone::Settled
        }
    };
    repository.put_mark(id, MarkKind::Undo, now)?;
    Ok(Some(outcome))
}

/// The forgotten manifests that this one replaces, one after the other.
fn chain(all: &[Snapshot], snapshot: &Snapshot) -> Vec<SnapshotId> {
    let replaced = Chains::of(all).replaced_by(snapshot).into_iter();
    replaced.filter(|before| before.forgotten.is_some()).map(|before| before.id).collect()
}

fn undo_one(
    repository: &Repository,
    snapshot: &Snapshot,
    now: u64,
    progress: &dyn Progress,
) -> Result<Undone> {
    let Some(forgotten) = snapshot.forgotten else { return Ok(Undone::NotForgotten) };
    repository.put_mark(snapshot.id, MarkKind::Undo, now)?;
    match what_is_missing(repository, snapshot, progress) {
        Ok(None) => Ok(Undone::Recovered),
        Ok(Some(missing)) => {
            repository.put_mark(snapshot.id, MarkKind::Forget, forgotten)?;
            Ok(Undone::TooLate(missing))
        }
        Err(error) => {
            // what could not be looked at, or read, cannot be called recovered;
            // the first time still counts
            let _ = repository.put_mark(snapshot.id, MarkKind::Forget, forgotten);
            Err(error)
        }
    }
}

/// Lists plans, then looks at all that the snapshot needs.
fn what_is_missing(
    repository: &Repository,
    snapshot: &Snapshot,
    progress: &dyn Progress,
) -> Result<Option<String>> {
    let mut look = repository.look(progress)?;
    if let Some(going) = what_of_it_goes(repository, snapshot.id, &look.doomed)? {
        return Ok(Some(going.to_owned()));
    }
    let mut set = ReferenceSet::default();
    let mut pages = Vec::new();
    let read = repository.reference_pages(snapshot.manifest.references, &mut |id, references| {
        pages.push(id);
        references.iter().for_each(|reference| set.add_reference(reference));
        Ok(())
    });
    match read {
        Ok(()) if look.all_stands(&set, &pages)? => Ok(None),
        Ok(()) => Ok(Some("data it needs is gone, or about to be deleted".to_owned())),
        // a page may have gone in a sweep that took the manifest before
        Err(error) if error.kind == ErrorKind::Damage => {
            match what_of_it_goes(repository, snapshot.id, &look.doomed)? {
                Some(going) => Ok(Some(going.to_owned())),
                None => Err(error),
            }
        }
        Err(error) => Err(error),
    }
}

/// What of a snapshot's own objects is gone, or named by a plan.
fn what_of_it_goes(
    repository: &Repository,
    id: SnapshotId,
    doomed: &Doomed,
) -> Result<Option<&'static str>> {
    if doomed.manifests.contains(&id) {
        return Ok(Some("a prune is deleting it"));
    }
    for (key, what) in [
        (manifest_key(id), "its manifest is gone"),
        (confirmation_key(id), "its confirmation is gone"),
    ] {
        if !repository.exists(&key)? {
            return Ok(Some(what));
        }
    }
    Ok(None)
}
