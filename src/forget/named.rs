//! Forgetting what was named, by id, by name or by tag: which snapshots are
//! meant, and what would be left of their groups.

use std::collections::{BTreeMap, BTreeSet};

use super::group::GroupKey;
use super::plan::{
    Cause, Fate, Group, Item, Keep, Plan, PlanOptions, Replaced, keep_sets_together, left, standing,
};
use crate::id::SnapshotId;
use crate::repository::sets::Sets;
use crate::repository::snapshots::{Listing, Snapshot};
use crate::repository::{Error, ErrorKind, Result};

/// So much of its id must be typed to name a manifest that nobody believes.
const UNBELIEVED_DIGITS: usize = 8;

/// What a name or the beginning of an id means.
#[derive(Clone, Copy, Debug)]
pub enum Named<'a> {
    Snapshot(&'a Snapshot),
    /// A manifest that cannot be read, or that nobody signed who may.
    Unbelieved(SnapshotId),
}

/// The one snapshot that is meant by a name or the beginning of an id; of a set
/// that is named, one of its parts.
pub fn find<'a>(listing: &'a Listing, wanted: &str) -> Result<Named<'a>> {
    let found = match by_name(listing, wanted)? {
        Some(snapshot) => Named::Snapshot(snapshot),
        None => match part_of(listing, wanted)? {
            Some(snapshot) => Named::Snapshot(snapshot),
            None => by_id(listing, wanted)?,
        },
    };
    if let Named::Snapshot(snapshot) = found {
        require_not_replaced(listing, snapshot)?;
    }
    Ok(found)
}

fn by_name<'a>(listing: &'a Listing, wanted: &str) -> Result<Option<&'a Snapshot>> {
    let named: Vec<&Snapshot> =
        standing(listing).filter(|snapshot| snapshot.name.as_deref() == Some(wanted)).collect();
    match named.as_slice() {
        [] => Ok(None),
        [snapshot] => Ok(Some(snapshot)),
        several => {
            let ids: Vec<String> = several.iter().map(|s| s.id.to_hex()[..8].to_owned()).collect();
            let message = format!(
                "{} snapshots are called {wanted:?}: {}: name one by its id",
                several.len(),
                ids.join(", ")
            );
            Err(Error::new(ErrorKind::Usage, message))
        }
    }
}

fn part_of<'a>(listing: &'a Listing, set: &str) -> Result<Option<&'a Snapshot>> {
    let sets = Sets::standing(&listing.snapshots);
    Ok(sets.find(set)?.and_then(|set| set.members().next()))
}

fn by_id<'a>(listing: &'a Listing, wanted: &str) -> Result<Named<'a>> {
    let prefix = wanted.to_ascii_lowercase();
    let hex = prefix.len() >= 2 && prefix.bytes().all(|byte| byte.is_ascii_hexdigit());
    let begins = |id: SnapshotId| hex && id.to_hex().starts_with(&prefix);
    let believed = listing.snapshots.iter().filter(|s| begins(s.id)).map(Named::Snapshot);
    let unbelieved = listing.unbelieved.iter().map(|other| other.id).filter(|id| begins(*id));
    let found: Vec<Named<'_>> = believed.chain(unbelieved.map(Named::Unbelieved)).collect();
    match found.as_slice() {
        [Named::Unbelieved(id)] if prefix.len() < UNBELIEVED_DIGITS => {
            let message = format!(
                "the manifest {id} cannot be believed: type at least {UNBELIEVED_DIGITS} digits of \
                 its id to forget it"
            );
            Err(Error::new(ErrorKind::Usage, message))
        }
        [one] => Ok(*one),
        [] => Err(Error::failed(format!("no snapshot is called {wanted:?}"))),
        several => {
            let message =
                format!("{} snapshots begin with {wanted:?}: type more of the id", several.len());
            Err(Error::new(ErrorKind::Usage, message))
        }
    }
}

fn require_not_replaced(listing: &Listing, snapshot: &Snapshot) -> Result<()> {
    let replaces = |other: &&Snapshot| other.manifest.replaces == Some(snapshot.id);
    match listing.snapshots.iter().filter(|_| snapshot.replaced).find(replaces) {
        Some(successor) => Err(Error::failed(format!(
            "snapshot {} was replaced by {} of the same run and goes with it: forget that one",
            &snapshot.id.to_hex()[..8],
            &successor.id.to_hex()[..8]
        ))),
        None => Ok(()),
    }
}

/// Forgets what was named, whatever else is said of it, and the rest of its set
/// with it; what was forgotten before stays as it is.
pub fn plan_named<'a>(
    listing: &'a Listing,
    named: &[Named<'_>],
    options: &PlanOptions<'_>,
) -> Plan<'a> {
    let sets = Sets::standing(&listing.snapshots);
    let mut ids = BTreeSet::new();
    let mut unbelieved = BTreeSet::new();
    for name in named {
        match name {
            Named::Snapshot(snapshot) => ids.insert(snapshot.id),
            Named::Unbelieved(id) => unbelieved.insert(*id),
        };
    }
    let marked = |id: &SnapshotId| {
        listing.unbelieved.iter().any(|other| other.id == *id && other.forgotten.is_some())
    };
    Plan {
        unbelieved: unbelieved.into_iter().filter(|id| !marked(id)).collect(),
        ..plan_by(listing, options, &|snapshot| {
            sets.any(snapshot, &|part| ids.contains(&part.id)).then_some(Fate::Forget(Cause::Named))
        })
    }
}

/// Forgets what `chosen` lets pass. A tag may be put on many, so what is pinned,
/// not confirmed or not believed stays.
pub fn plan_tagged<'a>(
    listing: &'a Listing,
    chosen: &dyn Fn(&Snapshot) -> bool,
    options: &PlanOptions<'_>,
) -> Plan<'a> {
    let sets = Sets::standing(&listing.snapshots);
    let mut plan = plan_by(listing, options, &|snapshot| {
        // its date is nobody's reason here
        let fate = match left(snapshot, listing, u64::MAX) {
            Some(left) => Fate::Leave(left),
            None if snapshot.pinned => Fate::Keep(vec![Keep::Pinned]),
            None => Fate::Forget(Cause::Tagged),
        };
        sets.any(snapshot, chosen).then_some(fate)
    });
    keep_sets_together(&mut plan.groups, &sets);
    plan
}

/// A plan of the groups in which `fate` knows a snapshot; the others stay.
fn plan_by<'a>(
    listing: &'a Listing,
    options: &PlanOptions<'_>,
    fate: &dyn Fn(&Snapshot) -> Option<Fate>,
) -> Plan<'a> {
    let replaced = Replaced::of(listing);
    let mut groups: BTreeMap<GroupKey, (bool, Vec<Item<'a>>)> = BTreeMap::new();
    for snapshot in standing(listing) {
        let left = left(snapshot, listing, options.now_ms);
        let decided = fate(snapshot);
        let (meant, items) = groups.entry(GroupKey::of(snapshot, options.group_by)).or_default();
        *meant |= decided.is_some();
        items.push(Item {
            snapshot,
            fate: decided.unwrap_or(match left {
                Some(left) => Fate::Leave(left),
                None => Fate::Keep(vec![Keep::NotAsked]),
            }),
            counts: left.is_none(),
            replaces: replaced.by(snapshot),
        });
    }
    let meant = groups.into_iter().filter(|(_, (meant, _))| *meant);
    let groups = meant.map(|(key, (_, items))| Group { key, items }).collect();
    Plan { groups, ..Plan::default() }
}
