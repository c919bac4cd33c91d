//! Forgets snapshots: by name, or by rules that say what is kept. Nothing is
//! deleted here; a mark is put, and a later prune goes by it.
//!
//! | file | |
//! |---|---|
//! | `policy` | the rules, and what period of the calendar a time falls into |
//! | `group` | which snapshots are told from which others |
//! | `slots` | one rule on one group: which slot keeps which snapshot |
//! | `plan` | all rules on all groups: what stays and what goes, and why |
//! | `named` | the same for snapshots that were named or tagged |
//!
//! Planning is pure: it knows only what was listed, the time and the zone it is
//! given. Whether the time can be believed is judged in `repository::clock`.
//! `format-spec/13-protocol.md`, "Forget".

mod group;
mod named;
mod plan;
mod policy;
mod slots;
#[cfg(test)]
mod tests;

pub use group::{GroupBy, GroupKey};
pub use named::{Named, find, plan_named, plan_tagged};
pub use plan::{Cause, Fate, Group, Item, Keep, Left, Plan, PlanOptions, plan};
pub use policy::{Limit, Period, Policy, Rule};
pub use slots::Verdict;

use crate::format::notes::MarkKind;
use crate::id::SnapshotId;
use crate::progress::Progress;
use crate::repository::{Error, ErrorKind, Repository, Result};

/// What came of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Snapshots that carry a mark now and did not before.
    pub marked: Vec<SnapshotId>,
}

/// Puts the marks that a plan calls for, oldest snapshot first. After an error
/// part-way those that were put stand; the same command then does the rest.
pub fn execute(
    repository: &Repository,
    plan: &Plan<'_>,
    now_ms: u64,
    progress: &dyn Progress,
) -> Result<Forgotten> {
    repository.require_maintain()?;
    let wanted = plan.marks();
    let mut forgotten = Forgotten::default();
    for id in &wanted {
        let put = match progress.interrupted() {
            true => Err(Error::interrupted()),
            false => repository.put_mark(*id, MarkKind::Forget, now_ms),
        };
        match put {
            Ok(()) => forgotten.marked.push(*id),
            Err(error) => return Err(part_way(error, forgotten.marked.len(), wanted.len())),
        }
    }
    Ok(forgotten)
}

fn part_way(error: Error, done: usize, wanted: usize) -> Error {
    if done == 0 && error.kind != ErrorKind::Interrupted {
        return error;
    }
    let message = format!(
        "{}: {done} of {wanted} snapshots were marked as forgotten, the rest stay: run it again, \
         or take it back with `esker undo`",
        error.message
    );
    Error::new(error.kind, message)
}
