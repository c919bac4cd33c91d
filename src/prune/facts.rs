//! What a prune knows of the store: one listing of everything.

use std::collections::{HashMap, HashSet};

use super::PruneOptions;
use super::reasons::RunSigns;
use crate::format::notes::{SESSIONS, session_of_key};
use crate::id::{PackId, SnapshotId};
use crate::progress::{Event, Progress};
use crate::repository::clock::believable_now;
use crate::repository::commit::Announced;
use crate::repository::judge::{Cause, Judge, RunState};
use crate::repository::runs::Whereabouts;
use crate::repository::snapshots::Listing;
use crate::repository::{Error, Repository, Result};

/// What a plan is made from: one listing of everything.
pub(super) struct Facts {
    pub listing: Listing,
    /// The newest time seen, in ms since 1970.
    pub newest: u64,
    pub runs: RunSigns,
    pub plans: Vec<Announced>,
    pub listed: HashMap<PackId, u64>,
    /// Whether everything is looked at.
    pub full: bool,
    /// Runs that had left signs of life before anything else was listed.
    pub signed: HashSet<SnapshotId>,
    /// Manifests that are known to be gone.
    pub went: HashSet<SnapshotId>,
}

/// Lists everything, refuses what must not be done, and settles the options.
pub(super) fn settle(
    repository: &Repository,
    options: &PruneOptions,
    progress: &dyn Progress,
) -> Result<(Facts, PruneOptions)> {
    progress.event(Event::Stage("listing"));
    let (facts, unreadable) = list(repository, options.now, progress)?;
    if let Some((_, error)) = unreadable.first() {
        return Err(unreadable_plan(error));
    }
    let now = believable_now(facts.newest, None, options.now, options.trust_clock)?;
    let settled = PruneOptions {
        now,
        recuts: options.recuts && repository.keyring().may_read_content(),
        max_unused: options.max_unused.clamp(0.0, 1.0),
        ..options.clone()
    };
    Ok((facts, settled))
}

pub(super) type UnreadablePlans = Vec<(String, Error)>;

/// One listing of everything, in the order of step P1.
pub(super) fn list(
    repository: &Repository,
    now: u64,
    progress: &dyn Progress,
) -> Result<(Facts, UnreadablePlans)> {
    let signed = repository.listed_keys(SESSIONS)?;
    let signed = signed.iter().filter_map(|key| Some(session_of_key(key)?.0)).collect();
    let listing = repository.list_snapshots()?;
    for trouble in &listing.troubles {
        progress.event(Event::Warning(&trouble.message));
    }
    let runs = repository.list_runs()?;
    let plans = repository.announced()?;
    repository.sync_index(progress)?;
    let listed = repository.listed_packs()?;
    let here = Whereabouts::here(repository.id());
    let judge = Judge::new(&runs.runs, &listing.snapshots, &here, now);
    let is_over = |state| match state {
        RunState::Running | RunState::Silent { .. } => false,
        // two runs of one host and profile may well go side by side
        RunState::Interrupted(cause) => cause != Cause::LaterRun,
        _ => true,
    };
    let signs = RunSigns {
        last_sign: runs.runs.iter().map(|run| (run.id, run.last_sign)).collect(),
        over: runs.runs.iter().filter(|run| is_over(judge.state(run))).map(|run| run.id).collect(),
    };
    let went = plans
        .announced
        .iter()
        .flat_map(|plan| &plan.sweep.manifests)
        .filter(|id| !listing.snapshots.iter().any(|snapshot| snapshot.id == **id))
        .copied()
        .collect();
    let newest = repository.newest_time(&listing, &runs.runs)?;
    let facts = Facts {
        newest,
        listing,
        runs: signs,
        plans: plans.announced,
        listed,
        full: false,
        signed,
        went,
    };
    Ok((facts, plans.unreadable))
}

pub(super) fn unreadable_plan(error: &Error) -> Error {
    Error::damage(format!(
        "{error}: nobody knows what it names, so nothing was deleted; \
         --drop-unreadable-plans takes it away, while no other prune runs"
    ))
}
