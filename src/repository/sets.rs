//! Sets: snapshots of several hosts that count as one. A set is known by its name, its number in the source system, its parts and
//! its writers; what is signed by none of those writers, or is no part that is expected, is not of it.
//!
//! `format-spec/11-snapshots.md`, "Sets".

use std::collections::{BTreeMap, HashMap};

use super::error::{Error, ErrorKind, Result};
use super::snapshots::{Snapshot, State};
use crate::format::manifest::{Outcome, Set};
use crate::id::{SnapshotId, WriterId};

/// One set and the snapshots that make it.
#[derive(Debug)]
pub struct Gathered<'a> {
    pub name: &'a str,
    /// Each part that is expected, in the order of the set's first snapshot, and what counts for it.
    pub parts: Vec<(&'a str, Option<&'a Snapshot>)>,
}

impl<'a> Gathered<'a> {
    pub fn members(&self) -> impl Iterator<Item = &'a Snapshot> + '_ {
        self.parts.iter().filter_map(|(_, snapshot)| *snapshot)
    }

    /// Parts that are not there, not confirmed, or partial.
    pub fn lacking(&self) -> impl Iterator<Item = &'a str> + '_ {
        let is_complete = |part: &Option<&Snapshot>| part.is_some_and(is_complete);
        self.parts.iter().filter(move |(_, part)| !is_complete(part)).map(|(name, _)| *name)
    }

    pub fn is_whole(&self) -> bool {
        self.lacking().next().is_none()
    }

    /// When the first of its parts was begun, in ms since 1970.
    pub fn started(&self) -> u64 {
        self.members().map(|snapshot| snapshot.manifest.started).min().unwrap_or(0)
    }
}

/// The sets of a listing.
#[derive(Debug, Default)]
pub struct Sets<'a> {
    sets: Vec<Gathered<'a>>,
    by_member: HashMap<SnapshotId, usize>,
}

/// What tells sets apart; lists are sorted.
type Identity<'a> = (&'a str, Option<u64>, Vec<&'a str>, Vec<WriterId>);

impl<'a> Sets<'a> {
    /// Of snapshots that are neither forgotten nor replaced.
    pub fn standing(snapshots: impl IntoIterator<Item = &'a Snapshot>) -> Sets<'a> {
        let stands = |s: &&Snapshot| s.forgotten.is_none() && !s.replaced;
        Sets::of(snapshots.into_iter().filter(stands))
    }

    /// Of snapshots that are forgotten: what an undo brings back together.
    pub fn forgotten(snapshots: impl IntoIterator<Item = &'a Snapshot>) -> Sets<'a> {
        let is_forgotten = |s: &&Snapshot| s.forgotten.is_some() && !s.replaced;
        Sets::of(snapshots.into_iter().filter(is_forgotten))
    }

    fn of(snapshots: impl Iterator<Item = &'a Snapshot>) -> Sets<'a> {
        let mut gathered: BTreeMap<Identity<'a>, Vec<(&'a Set, &'a Snapshot)>> = BTreeMap::new();
        for snapshot in snapshots.filter(|snapshot| snapshot.state != State::Distrusted) {
            let Some(set) = part_of(snapshot) else { continue };
            gathered.entry(identity(set)).or_default().push((set, snapshot));
        }
        let mut sets = Sets::default();
        for mut members in gathered.into_values() {
            members.sort_by_key(|(_, snapshot)| (snapshot.manifest.started, snapshot.id));
            let Some((first, _)) = members.first() else { continue };
            let counting = |part: &'a String| {
                let own = members.iter().filter(|(set, _)| set.part == *part);
                // of several the newest that is complete counts, else the newest
                let best = own.max_by_key(|(_, s)| (is_complete(s), s.manifest.started, s.id));
                (part.as_str(), best.map(|(_, snapshot)| *snapshot))
            };
            let set =
                Gathered { name: &first.name, parts: first.parts.iter().map(counting).collect() };
            let place = sets.sets.len();
            sets.by_member.extend(set.members().map(|snapshot| (snapshot.id, place)));
            sets.sets.push(set);
        }
        sets
    }

    /// The set that a snapshot counts for.
    pub fn with(&self, snapshot: &Snapshot) -> Option<&Gathered<'a>> {
        self.by_member.get(&snapshot.id).map(|place| &self.sets[*place])
    }

    /// The one set of a name, if there is one.
    pub fn find(&self, name: &str) -> Result<Option<&Gathered<'a>>> {
        let mut named = self.sets.iter().filter(|set| set.name == name);
        match (named.next(), named.count()) {
            (found, 0) => Ok(found),
            (_, others) => {
                let sets = others + 1;
                let message = format!("{sets} sets are called {name:?}: name a part by its id");
                Err(Error::new(ErrorKind::Usage, message))
            }
        }
    }

    /// Whether `is` holds for a snapshot or another part of its set.
    pub fn any(&self, snapshot: &Snapshot, is: &dyn Fn(&Snapshot) -> bool) -> bool {
        is(snapshot) || self.with(snapshot).is_some_and(|set| set.members().any(is))
    }

    /// When a snapshot counts as begun: with the first part of its set.
    pub fn started(&self, snapshot: &Snapshot) -> u64 {
        self.with(snapshot).map_or(snapshot.manifest.started, Gathered::started)
    }

    /// Whether a snapshot is complete, and its set whole if it is part of one.
    pub fn completes(&self, snapshot: &Snapshot) -> bool {
        let set = || self.with(snapshot).is_some_and(Gathered::is_whole);
        snapshot.is_complete() && (snapshot.manifest.set.is_none() || set())
    }
}

fn is_complete(snapshot: &Snapshot) -> bool {
    snapshot.state == State::Confirmed && snapshot.manifest.outcome == Outcome::Complete
}

/// What a snapshot says it is a part of, if that can be so.
fn part_of(snapshot: &Snapshot) -> Option<&Set> {
    let set = snapshot.manifest.set.as_ref()?;
    let is_of_it = set.writers.contains(&snapshot.manifest.writer) && set.parts.contains(&set.part);
    is_of_it.then_some(set)
}

fn identity(set: &Set) -> Identity<'_> {
    let mut parts: Vec<&str> = set.parts.iter().map(String::as_str).collect();
    parts.sort_unstable();
    parts.dedup();
    let mut writers = set.writers.clone();
    writers.sort_unstable();
    writers.dedup();
    (&set.name, set.system, parts, writers)
}
