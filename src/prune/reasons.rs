//! Which manifests go, and why. Asked twice: when a plan is made, and again
//! after it was announced.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::id::SnapshotId;
use crate::repository::Error;
use crate::repository::snapshots::{Listing, Snapshot, State};

/// How long a run may be silent before what it left is swept, in ms.
pub const SILENCE_MS: u64 = 3 * 24 * 3600 * 1000;

/// Why a manifest goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Forgotten, and its grace time is over.
    Forgotten,
    /// Its run never confirmed it and was not heard of for long, or is over.
    NeverConfirmed,
    /// What replaces it goes.
    Replaced,
    /// It cannot be believed, and an administrator forgot it.
    Unbelieved,
}

/// What runs said of themselves.
#[derive(Clone, Debug, Default)]
pub struct RunSigns {
    /// When each run that left signs was last heard of, in ms since 1970.
    pub last_sign: HashMap<SnapshotId, u64>,
    /// Runs that said that they ended or failed, or are seen to be gone.
    pub over: HashSet<SnapshotId>,
}

impl RunSigns {
    /// Whether a run that began at `began` needs what it put no more, as far as
    /// can be told at `now`.
    pub fn is_over(&self, run: SnapshotId, began: u64, now: u64) -> bool {
        let last = self.last_sign.get(&run).copied().unwrap_or(0).max(began);
        self.over.contains(&run) || last.saturating_add(SILENCE_MS) <= now
    }
}

/// By which time forgotten snapshots go.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    pub now: u64,
    pub grace: u64,
}

impl Due {
    fn is_due(self, forgotten: u64) -> bool {
        // without grace a mark of any age counts, also one from the future
        self.grace == 0 || forgotten.saturating_add(self.grace) <= self.now
    }
}

/// The manifests that go. What nobody can judge stays.
pub fn going(listing: &Listing, runs: &RunSigns, due: Due) -> BTreeMap<SnapshotId, Reason> {
    let mut going = BTreeMap::new();
    for snapshot in &listing.snapshots {
        if let Some(reason) = reason(listing, snapshot, runs, due) {
            going.insert(snapshot.id, reason);
        }
    }
    add_replaced(&listing.snapshots, &mut going);
    let forgotten = listing
        .unbelieved
        .iter()
        .filter(|unbelieved| unbelieved.forgotten.is_some_and(|time| due.is_due(time)));
    going.extend(forgotten.map(|unbelieved| (unbelieved.id, Reason::Unbelieved)));
    going.retain(|id, _| !listing.unclear.contains(id));
    going
}

fn reason(listing: &Listing, snapshot: &Snapshot, runs: &RunSigns, due: Due) -> Option<Reason> {
    if snapshot.replaced {
        // goes with what replaces it, never sooner
        let successor = listing.snapshots.iter().any(|s| s.manifest.replaces == Some(snapshot.id));
        if successor {
            return None;
        }
    }
    match snapshot.forgotten {
        Some(time) => due.is_due(time).then_some(Reason::Forgotten),
        None if snapshot.state == State::Unconfirmed => {
            let run = run_of(listing, snapshot);
            let over = runs.is_over(run, snapshot.manifest.ended, due.now);
            over.then_some(Reason::NeverConfirmed)
        }
        None => None,
    }
}

/// The run that made a snapshot: its first manifest has the run's id.
fn run_of(listing: &Listing, snapshot: &Snapshot) -> SnapshotId {
    let mut first = snapshot;
    for _ in 0..listing.snapshots.len() {
        let Some(before) = first.manifest.replaces else { break };
        match listing.snapshots.iter().find(|s| s.id == before) {
            Some(found) => first = found,
            None => return before,
        }
    }
    first.id
}

/// Adds what is replaced by manifests that go.
fn add_replaced(snapshots: &[Snapshot], going: &mut BTreeMap<SnapshotId, Reason>) {
    let by_id: HashMap<SnapshotId, &Snapshot> = snapshots.iter().map(|s| (s.id, s)).collect();
    let mut next: Vec<SnapshotId> = going.keys().copied().collect();
    while let Some(id) = next.pop() {
        let before = by_id.get(&id).and_then(|snapshot| snapshot.manifest.replaces);
        if let Some(before) = before.and_then(|before| by_id.get(&before))
            && before.replaced
            && going.insert(before.id, Reason::Replaced).is_none()
        {
            next.push(before.id);
        }
    }
}

/// A manifest that nobody can read may use anything: nothing may go.
pub fn refuse_unbelieved(
    listing: &Listing,
    going: &BTreeMap<SnapshotId, Reason>,
) -> Result<(), Error> {
    match listing.unbelieved.iter().find(|unbelieved| !going.contains_key(&unbelieved.id)) {
        None => Ok(()),
        Some(unbelieved) => Err(Error::damage(format!(
            "{}: it may use anything, so nothing was deleted; \
             if it is not needed, `esker forget {}` lets the next prune go on",
            unbelieved.error, unbelieved.id
        ))),
    }
}
