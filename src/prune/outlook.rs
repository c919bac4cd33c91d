//! What comes free when: the plans of days to come, as far as marks that are
//! there today decide them.

use super::PruneOptions;
use super::facts::{Facts, list};
use super::plan::plan;
use crate::progress::{Progress, Silent};
use crate::repository::{Repository, Result};

/// Space that comes free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// From when on a prune can free it, in ms since 1970.
    pub from: u64,
    /// Snapshots that go by then.
    pub snapshots: u64,
    /// Bytes, all earlier ones included.
    pub bytes: u64,
}

const DAY_MS: u64 = 24 * 3600 * 1000;
/// Days that are told apart; what is due later counts with the last of them.
const DAYS: usize = 5;

/// What a prune could free now and on days to come, the earliest first. Any key
/// may ask.
pub fn outlook(
    repository: &Repository,
    options: &PruneOptions,
    progress: &dyn Progress,
) -> Result<Vec<Outlook>> {
    let (facts, _) = list(repository, options.now, progress)?;
    let mut outlook = Vec::new();
    for from in due_times(&facts, options) {
        let then = PruneOptions { now: from, ..options.clone() };
        let plan = plan(repository, &facts, &then, &Silent)?.plan;
        outlook.push(Outlook { from, snapshots: plan.manifests.len() as u64, bytes: plan.freed() });
    }
    outlook.retain(|item| item.snapshots > 0 || item.bytes > 0);
    Ok(outlook)
}

/// The ends of grace times, one a day. While a manifest that nobody can read has
/// not gone, nothing else does.
fn due_times(facts: &Facts, options: &PruneOptions) -> Vec<u64> {
    let ends = |forgotten: u64| match options.grace {
        0 => options.now,
        grace => forgotten.saturating_add(grace).max(options.now),
    };
    let unbelieved = facts.listing.unbelieved.iter().filter_map(|other| other.forgotten);
    let first = unbelieved.map(ends).max();
    let marks = facts.listing.snapshots.iter().filter_map(|snapshot| snapshot.forgotten);
    let times = marks.map(|time| ends(time).max(first.unwrap_or(0)));
    let mut times: Vec<u64> = times.chain(first).collect();
    times.sort_unstable();
    // of a day the last: by then all of it is due
    let mut days: Vec<u64> = Vec::new();
    for time in times {
        let joins = days.last().is_some_and(|last| last / DAY_MS == time / DAY_MS);
        if joins || days.len() > DAYS {
            days.pop();
        }
        days.push(time);
    }
    days
}
