//! What can be told of every snapshot and run at one moment, and of every host
//! and profile: whether it keeps what was promised of it.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::format::manifest::Outcome;
use crate::id::SnapshotId;
use crate::repository::clock::latest_believed;
use crate::repository::judge::{Judge, RunState};
use crate::repository::marks::DEFAULT_GRACE_MS;
use crate::repository::runs::{Run, Whereabouts};
use crate::repository::sets::{Gathered, Sets};
use crate::repository::snapshots::{Snapshot, State, Unbelieved};
use crate::repository::sync::Troubles;
use crate::repository::{Repository, Result};

/// The one thing that matters most about a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Complete,
    Partial,
    /// Its run is not done with it.
    Running,
    /// Its run ended before the commit check did, or is not heard of.
    Unconfirmed,
    /// Signed by a writer that was revoked, and not listed as standing.
    Distrusted,
    /// Another took its place.
    Replaced,
    /// Past its own expiry and not forgotten yet: it can be restored.
    Expired,
    /// Forgotten. It can be taken back until this time, in ms since 1970, and
    /// then until a prune takes it.
    Deleting {
        undo_until: u64,
    },
    /// A prune announced that it goes.
    BeingDeleted,
}

impl Status {
    /// A stable word.
    pub fn word(self) -> &'static str {
        match self {
            Status::Complete => "complete",
            Status::Partial => "partial",
            Status::Running => "running",
            Status::Unconfirmed => "unconfirmed",
            Status::Distrusted => "distrusted",
            Status::Replaced => "replaced",
            Status::Expired => "expired",
            Status::Deleting { .. } => "deleting",
            Status::BeingDeleted => "being_deleted",
        }
    }
}

#[derive(Clone, Debug)]
pub struct SnapshotStatus {
    pub snapshot: Snapshot,
    pub status: Status,
    /// The run that put it and what became of that, if the run is listed.
    pub run: Option<(SnapshotId, RunState)>,
    /// Of a part of a set, the parts that the set lacks: with none it is whole.
    pub set_lacks: Option<Vec<String>>,
    /// Of interest to who did not ask for everything.
    pub current: bool,
}

impl SnapshotStatus {
    /// It is complete, and so is every other part of its set.
    pub fn completes(&self) -> bool {
        let is_whole = self.set_lacks.as_ref().is_some_and(Vec::is_empty);
        self.snapshot.is_complete() && (self.snapshot.manifest.set.is_none() || is_whole)
    }
}

/// Whether it is dated later than any clock that is right can say: nothing is known of when it was taken, and `forget`
/// leaves it alone.
pub fn is_ahead(snapshot: &Snapshot, now: u64) -> bool {
    snapshot.manifest.started.max(snapshot.manifest.ended) > latest_believed(now)
}

/// Until when a forgotten manifest that cannot be read can be taken back, in ms
/// since 1970.
pub fn undo_until(unbelieved: &Unbelieved) -> Option<u64> {
    unbelieved.forgotten.map(|forgotten| forgotten.saturating_add(DEFAULT_GRACE_MS))
}

#[derive(Clone, Debug)]
pub struct RunStatus {
    pub run: Run,
    pub state: RunState,
    /// It put a manifest, which stands for it in a list.
    pub has_manifest: bool,
    /// As for snapshots.
    pub current: bool,
}

/// Everything listed, judged at one moment.
#[derive(Clone, Debug)]
pub struct Overview {
    /// Oldest first.
    pub snapshots: Vec<SnapshotStatus>,
    pub runs: Vec<RunStatus>,
    /// Manifests that cannot be believed.
    pub unbelieved: Vec<Unbelieved>,
    pub troubles: Troubles,
    /// The moment, in ms since 1970.
    pub now: u64,
}

/// Lists runs, snapshots and sweeps, and judges them as seen from `here`.
pub fn overview(repository: &Repository, here: &Whereabouts, now: u64) -> Result<Overview> {
    // in this order: a run that ends meanwhile is found among the snapshots
    let runs = repository.list_runs()?;
    let listing = repository.look_at_snapshots()?;
    let (doomed, more) = repository.doomed()?;
    let view = View::new(&runs.runs, &listing.snapshots, here, now);
    let judged = |snapshot| view.snapshot(snapshot, doomed.manifests.contains(&snapshot.id));
    let mut snapshots: Vec<SnapshotStatus> = listing.snapshots.iter().map(judged).collect();
    let staying = listing.snapshots.iter().filter(|s| !doomed.manifests.contains(&s.id));
    let sets = Sets::standing(staying);
    for told in &mut snapshots {
        let lacking = |set: &Gathered<'_>| set.lacking().map(str::to_owned).collect();
        told.set_lacks = sets.with(&told.snapshot).map(lacking);
    }
    let judged_runs = runs.runs.iter().map(|run| view.run(run)).collect();
    Ok(Overview {
        snapshots,
        runs: judged_runs,
        unbelieved: listing.unbelieved,
        troubles: [runs.troubles, listing.troubles, more].concat(),
        now,
    })
}

/// What the judgement of one snapshot or run needs to know of all others.
struct View<'a> {
    now: u64,
    runs: HashMap<SnapshotId, (&'a Run, RunState)>,
    /// Runs whose manifests are listed, by the manifests' ids.
    put_by: HashMap<SnapshotId, SnapshotId>,
    with_manifest: HashSet<SnapshotId>,
    /// When the run of the newest complete snapshot of a host and profile
    /// started. One from the future would hide every failure until then.
    newest_complete: HashMap<(&'a str, &'a str), u64>,
}

impl<'a> View<'a> {
    fn new(
        runs: &'a [Run],
        snapshots: &'a [Snapshot],
        here: &'a Whereabouts,
        now: u64,
    ) -> View<'a> {
        let judge = Judge::new(runs, snapshots, here, now);
        let runs: HashMap<_, _> =
            runs.iter().map(|run| (run.id, (run, judge.state(run)))).collect();
        let put_by: HashMap<SnapshotId, SnapshotId> = snapshots
            .iter()
            .map(|snapshot| (snapshot, judge.run_of(snapshot)))
            .filter(|(snapshot, run)| {
                runs.get(run).is_some_and(|(run, _)| run.writer == snapshot.manifest.writer)
            })
            .map(|(snapshot, run)| (snapshot.id, run))
            .collect();
        let mut newest_complete = HashMap::new();
        let counts = |snapshot: &&Snapshot| snapshot.is_complete() && !is_ahead(snapshot, now);
        for snapshot in snapshots.iter().filter(counts) {
            let manifest = &snapshot.manifest;
            // a snapshot may be told to say another time than its run's
            let run = put_by.get(&snapshot.id).and_then(|run| runs.get(run));
            let started = run.map_or(manifest.started, |(run, _)| run.started);
            if started > latest_believed(now) {
                continue;
            }
            let newest: &mut u64 =
                newest_complete.entry((&*manifest.host, &*manifest.profile)).or_default();
            *newest = started.max(*newest);
        }
        let with_manifest = put_by.values().copied().collect();
        View { now, runs, put_by, with_manifest, newest_complete }
    }

    fn snapshot(&self, snapshot: &Snapshot, named_by_sweep: bool) -> SnapshotStatus {
        let run = self.put_by.get(&snapshot.id).and_then(|run| self.runs.get(run));
        let state = run.map(|(_, state)| *state);
        let status = status(snapshot, state, named_by_sweep, self.now);
        let current = match status {
            Status::BeingDeleted | Status::Replaced => false,
            // its run is what matters of it
            Status::Unconfirmed => run.is_some_and(|(run, state)| self.is_current(run, *state)),
            Status::Deleting { .. } => snapshot.state != State::Unconfirmed,
            _ => true,
        };
        let run = run.map(|(run, state)| (run.id, *state));
        SnapshotStatus { snapshot: snapshot.clone(), status, run, set_lacks: None, current }
    }

    fn run(&self, run: &Run) -> RunStatus {
        let state = self.runs.get(&run.id).map_or(RunState::Ended, |(_, state)| *state);
        RunStatus {
            run: run.clone(),
            state,
            has_manifest: self.with_manifest.contains(&run.id),
            current: self.is_current(run, state),
        }
    }

    /// A run that is under way, or that went wrong since all went well.
    fn is_current(&self, run: &Run, state: RunState) -> bool {
        let complete = self.newest_complete.get(&(&*run.host, &*run.profile));
        let since = complete.is_none_or(|started| run.started > *started);
        match state {
            RunState::Running => true,
            RunState::Interrupted(_) | RunState::Silent { .. } | RunState::Failed { .. } => since,
            RunState::MadeSnapshot(_) | RunState::Ended => false,
        }
    }
}

fn status(snapshot: &Snapshot, run: Option<RunState>, named_by_sweep: bool, now: u64) -> Status {
    let expired = snapshot.manifest.expires.is_some_and(|expires| expires <= now);
    match (snapshot.state, snapshot.forgotten) {
        _ if named_by_sweep => Status::BeingDeleted,
        (_, Some(forgotten)) => {
            Status::Deleting { undo_until: forgotten.saturating_add(DEFAULT_GRACE_MS) }
        }
        (State::Distrusted, _) => Status::Distrusted,
        (State::Unconfirmed, _) if run == Some(RunState::Running) => Status::Running,
        (State::Unconfirmed, _) => Status::Unconfirmed,
        _ if snapshot.replaced => Status::Replaced,
        _ if expired => Status::Expired,
        _ if snapshot.manifest.outcome == Outcome::Complete => Status::Complete,
        _ => Status::Partial,
    }
}

/// One host and profile.
#[derive(Clone, Debug)]
pub struct Group<'a> {
    pub host: &'a str,
    pub profile: &'a str,
    /// All that are listed, oldest first.
    pub snapshots: Vec<&'a Snapshot>,
    /// Of parts of sets, the newest whose set is whole. None that is dated ahead of now.
    pub newest_complete: Option<&'a Snapshot>,
    /// Milliseconds since the newest complete snapshot was begun.
    pub age: Option<u64>,
    /// The last run that is not under way; one from the future only if there is no other.
    pub last_run: Option<&'a RunStatus>,
    pub under_way: Vec<&'a RunStatus>,
    /// What its newest good snapshot promises, in milliseconds.
    pub maximum_age: Option<u64>,
    /// A good snapshot that is dated ahead of now, if it has one.
    pub ahead: Option<&'a Snapshot>,
}

impl Group<'_> {
    /// The promised age is exceeded, or there is nothing to keep it.
    pub fn is_stale(&self) -> bool {
        self.maximum_age.is_some_and(|maximum| self.age.is_none_or(|age| age > maximum))
    }
}

/// Hosts and profiles by name.
pub fn groups(overview: &Overview) -> Vec<Group<'_>> {
    let mut groups: BTreeMap<(&str, &str), Group<'_>> = BTreeMap::new();
    let empty = |host, profile| Group {
        host,
        profile,
        snapshots: Vec::new(),
        newest_complete: None,
        age: None,
        last_run: None,
        under_way: Vec::new(),
        maximum_age: None,
        ahead: None,
    };
    for told in &overview.snapshots {
        let SnapshotStatus { snapshot, status, .. } = told;
        let (host, profile) = (&*snapshot.manifest.host, &*snapshot.manifest.profile);
        let group = groups.entry((host, profile)).or_insert_with(|| empty(host, profile));
        group.snapshots.push(snapshot);
        if !snapshot.is_good() || *status == Status::BeingDeleted {
            continue;
        }
        let promised = snapshot.manifest.promises.maximum_age;
        let promised = promised.map(|seconds| seconds.saturating_mul(1000));
        if is_ahead(snapshot, overview.now) {
            group.ahead = Some(snapshot);
            group.maximum_age = group.maximum_age.or(promised);
            continue;
        }
        group.maximum_age = promised;
        if told.completes() {
            group.newest_complete = Some(snapshot);
            group.age = Some(overview.now.saturating_sub(snapshot.manifest.started));
        }
    }
    let is_ahead = |run: &RunStatus| run.run.started > latest_believed(overview.now);
    for run in &overview.runs {
        let (host, profile) = (&*run.run.host, &*run.run.profile);
        let group = groups.entry((host, profile)).or_insert_with(|| empty(host, profile));
        match run.state {
            RunState::Running => group.under_way.push(run),
            _ if is_ahead(run) && group.last_run.is_some_and(|last| !is_ahead(last)) => {}
            _ => group.last_run = Some(run),
        }
    }
    groups.into_values().collect()
}
