//! `undo`: takes forgotten snapshots back.

use clap::Args;
use serde_json::json;

use super::context::Context;
use super::streams::Output;
use super::{Exit, Outcome};
use crate::id::SnapshotId;
use crate::output;
use crate::progress::Progress;
use crate::repository::sets::{Gathered, Sets};
use crate::repository::snapshots::{Listing, Snapshot};
use crate::repository::{Error, Repository, Result, now_ms};
use crate::undo::{Undone, undo, undo_unreadable};

/// Take forgotten snapshots back
///
/// Works until a prune has swept them; the parts of a set come back together. It says *recovered* only after
/// everything the snapshot needs was seen to be there, and in no announcement of a prune.
#[derive(Args)]
pub struct Arguments {
    /// Snapshots by id or name, sets by name
    #[arg(value_name = "SNAPSHOT", required = true)]
    snapshots: Vec<String>,
}

pub fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let repository = context.open()?;
    repository.require_maintain()?;
    let listing = context.listing(&repository)?;
    let sets = Sets::forgotten(&listing.snapshots);
    let mut wanted = Vec::new();
    for name in &arguments.snapshots {
        let found = find(&repository, (&listing, &sets), name)?;
        let set = listing.snapshots.iter().find(|s| s.id == found).and_then(|s| sets.with(s));
        let parts = set.into_iter().flat_map(Gathered::members).map(|snapshot| snapshot.id);
        for id in std::iter::once(found).chain(parts) {
            if !wanted.contains(&id) {
                wanted.push(id);
            }
        }
    }
    let reporter = context.reporter();
    let undone = undo_each(&repository, &listing, &wanted, &reporter);
    reporter.finish();
    let mut output = Output::new();
    let mut late = false;
    for (id, undone) in undone? {
        let (word, why) = match &undone {
            Undone::Recovered => ("recovered", ""),
            Undone::NotForgotten => ("not forgotten", ""),
            Undone::Settled => ("kept", "a mark of it cannot be read and counts for nothing now"),
            Undone::Unbelieved => ("not forgotten any more", "its manifest still cannot be read"),
            Undone::TooLate(why) => ("too late", why.as_str()),
        };
        late |= matches!(undone, Undone::TooLate(_));
        if context.json() {
            output.json("undo", json!({ "id": id.to_hex(), "outcome": word, "why": why }))?;
        } else if why.is_empty() {
            context.say(&format!("snapshot {}: {word}", &id.to_hex()[..8]));
        } else {
            let why = output::sentence(why);
            context.warn(&format!("snapshot {}: {word}: {why}", &id.to_hex()[..8]));
        }
    }
    output.finish()?;
    Ok(super::exit::when(late, Exit::Failed))
}

fn undo_each(
    repository: &Repository,
    listing: &Listing,
    wanted: &[SnapshotId],
    progress: &dyn Progress,
) -> Result<Vec<(SnapshotId, Undone)>> {
    let mut undone = Vec::new();
    for id in wanted {
        match undo_unreadable(repository, listing, *id, now_ms())? {
            Some(outcome) => undone.push((*id, outcome)),
            None => {
                undone.extend(undo(repository, &listing.snapshots, &[*id], now_ms(), progress)?)
            }
        }
    }
    Ok(undone)
}

/// Names of forgotten snapshots count before those of others: it is they that
/// are meant.
fn find(
    repository: &Repository,
    (listing, sets): (&Listing, &Sets<'_>),
    name: &str,
) -> Result<SnapshotId> {
    if let Some(part) = sets.find(name)?.and_then(|set| set.members().next()) {
        return Ok(part.id);
    }
    let forgotten: Vec<&Snapshot> =
        listing.snapshots.iter().filter(|snapshot| snapshot.forgotten.is_some()).collect();
    let named: Vec<_> =
        forgotten.iter().filter(|snapshot| snapshot.name.as_deref() == Some(name)).collect();
    match named.as_slice() {
        [snapshot] => Ok(snapshot.id),
        [] => match unbelieved(listing, name) {
            Some(id) => Ok(id),
            None => Ok(repository.find_snapshot(&listing.snapshots, name)?.id),
        },
        several => Err(Error::new(
            crate::repository::ErrorKind::Usage,
            format!(
                "{} forgotten snapshots are called {name:?}: name one by its id",
                several.len()
            ),
        )),
    }
}

/// The one manifest that cannot be read and whose id begins so; as `forget` asks
/// for eight digits of it, so does this.
fn unbelieved(listing: &Listing, name: &str) -> Option<SnapshotId> {
    let prefix = name.to_ascii_lowercase();
    let begins = |id: &SnapshotId| prefix.len() >= 8 && id.to_hex().starts_with(&prefix);
    let is_believed = listing.snapshots.iter().any(|snapshot| begins(&snapshot.id));
    let mut found = listing.unbelieved.iter().map(|other| other.id).filter(begins);
    found.next().filter(|_| !is_believed && found.next().is_none())
}
