//! Which manifests go, and why. Asked twice: when a plan is made, and again
//! after it was announced.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::id::SnapshotId;
use crate::repository::Error;
use crate::repository::chains::Chains;
use crate::repository::snapshots::{Listing, Snapshot, State, Unbelieved};

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

/// The manifests that go. What nobody can judge stays, and what it replaces.
pub fn going(listing: &Listing, runs: &RunSigns, due: Due) -> BTreeMap<SnapshotId, Reason> {
    let chains = Chains::of(&listing.snapshots);
    let mut going = BTreeMap::new();
    for snapshot in listing.snapshots.iter().filter(|s| !listing.unclear.contains(&s.id)) {
        if let Some(reason) = reason(listing, &chains, snapshot, runs, due) {
            going.insert(snapshot.id, reason);
        }
    }
    add_replaced(listing, &chains, &mut going);
    let forgotten = listing.unbelieved.iter().filter(|other| {
        let is_due = other.forgotten.is_some_and(|time| due.is_due(time));
        is_due && !listing.unclear.contains(&other.id)
    });
    going.extend(forgotten.map(|unbelieved| (unbelieved.id, Reason::Unbelieved)));
    going
}

fn reason(
    listing: &Listing,
    chains: &Chains<'_>,
    snapshot: &Snapshot,
    runs: &RunSigns,
    due: Due,
) -> Option<Reason> {
    // goes with what replaces it, never sooner
    if snapshot.replaced {
        return None;
    }
    match snapshot.forgotten {
        Some(time) => due.is_due(time).then_some(Reason::Forgotten),
        // one that cannot be read may well confirm it: only who forgets it lets it go
        None if listing.unreadable_confirmations.contains(&snapshot.id) => None,
        None if snapshot.state == State::Unconfirmed => {
            let run = chains.run_of(snapshot);
            let over = runs.is_over(run, snapshot.manifest.ended, due.now);
            over.then_some(Reason::NeverConfirmed)
        }
        None => None,
    }
}

/// Adds what is replaced by manifests that go.
fn add_replaced(listing: &Listing, chains: &Chains<'_>, going: &mut BTreeMap<SnapshotId, Reason>) {
    let first: Vec<&Snapshot> =
        listing.snapshots.iter().filter(|snapshot| going.contains_key(&snapshot.id)).collect();
    for snapshot in first {
        for replaced in chains.replaced_by(snapshot) {
            if listing.unclear.contains(&replaced.id) {
                break;
            }
            going.insert(replaced.id, Reason::Replaced);
        }
    }
}

/// Why a forgotten one stays of which a mark cannot be read.
const TAKEN_BACK: &str =
    "a mark put since cannot be read and may take that back: undo it, then forget it again";

/// A manifest that nobody can read may use anything: nothing may go.
pub fn refuse_unbelieved(
    listing: &Listing,
    going: &BTreeMap<SnapshotId, Reason>,
) -> Result<(), Error> {
    let staying = listing.unbelieved.iter().find(|other| !going.contains_key(&other.id));
    let Some(Unbelieved { id, error, forgotten }) = staying else { return Ok(()) };
    let what_to_do = match forgotten {
        Some(_) if listing.unclear.contains(id) => TAKEN_BACK.to_owned(),
        Some(_) => "it is forgotten, and the next prune after its grace takes it".to_owned(),
        None => format!("if it is not needed, `esker forget {id}` lets the next prune go on"),
    };
    let what = "it may use anything, so nothing was deleted";
    Err(Error::damage(format!("{error}: {what}; {what_to_do}")))
}

/// Forgotten snapshots that stay although their grace is over, and why.
pub fn held(
    listing: &Listing,
    going: &BTreeMap<SnapshotId, Reason>,
    due: Due,
) -> Vec<(SnapshotId, &'static str)> {
    let is_held = |snapshot: &&Snapshot| {
        let is_due = snapshot.forgotten.is_some_and(|time| due.is_due(time));
        is_due && !going.contains_key(&snapshot.id)
    };
    let why = |snapshot: &Snapshot| match listing.unclear.contains(&snapshot.id) {
        true => TAKEN_BACK,
        false => "what replaces it stays",
    };
    listing.snapshots.iter().filter(is_held).map(|s| (s.id, why(s))).collect()
}
