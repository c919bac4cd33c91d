//! One rule on one group. Time is cut into slots, and a slot keeps one snapshot:
//! its newest complete one, or, where none is complete, the fullest.

use std::cmp::Reverse;
use std::collections::HashMap;

use jiff::tz::TimeZone;

use super::policy::{Limit, Rule, before, on_calendar};
use crate::id::SnapshotId;
use crate::repository::sets::Sets;
use crate::repository::snapshots::Snapshot;

/// What a rule says of one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is what its slot keeps; single snapshots have no slot's name.
    Kept { slot: Option<String> },
    /// Its slot keeps another one.
    Other { slot: String, keeps: SnapshotId },
    /// As many newer slots as the rule counts hold something.
    Beyond,
    /// It is older than the rule reaches.
    TooOld,
}

/// Snapshots of one slot, by place in the list that was given, newest first.
struct Slot {
    name: Option<String>,
    members: Vec<usize>,
    keeper: usize,
    complete: bool,
}

/// The verdict of `rule` on each of `snapshots`, which are in order, newest first.
///
/// Of counted slots those that hold a complete snapshot are counted apart: the
/// newest N of them stay, and of the newest N of all slots also those that hold
/// only partial ones. So no partial snapshot makes a complete one go, nor does a
/// run of partial ones leave nothing recent; together they are at most 2 N.
pub(super) fn judge(
    rule: &Rule,
    snapshots: &[&Snapshot],
    sets: &Sets<'_>,
    now_ms: u64,
    zone: &TimeZone,
) -> Vec<Verdict> {
    let (since, count) = match rule.limit {
        Limit::Count(count) => (0, count as usize),
        Limit::Within(span) => (before(now_ms, span, zone), usize::MAX),
    };
    let mut verdicts = vec![Verdict::TooOld; snapshots.len()];
    let mut complete_before = 0;
    for (position, slot) in slots(rule, (snapshots, sets), since, zone).into_iter().enumerate() {
        let rank = if slot.complete { complete_before } else { position };
        complete_before += usize::from(slot.complete);
        for &member in &slot.members {
            verdicts[member] = match &slot.name {
                _ if rank >= count => Verdict::Beyond,
                name if member == slot.keeper => Verdict::Kept { slot: name.clone() },
                name => Verdict::Other {
                    slot: name.clone().unwrap_or_default(),
                    keeps: snapshots[slot.keeper].id,
                },
            };
        }
    }
    verdicts
}

/// The slots that hold snapshots begun since `since`, newest first.
fn slots(
    rule: &Rule,
    (snapshots, sets): (&[&Snapshot], &Sets<'_>),
    since: u64,
    zone: &TimeZone,
) -> Vec<Slot> {
    let mut slots: Vec<Slot> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    for (place, snapshot) in snapshots.iter().enumerate() {
        let started = sets.started(snapshot);
        if started < since {
            continue;
        }
        let name = rule.period.slot(&on_calendar(started, zone));
        match name.as_ref().and_then(|name| known.get(name)) {
            Some(&slot) => slots[slot].members.push(place),
            None => {
                known.extend(name.clone().map(|name| (name, slots.len())));
                slots.push(Slot { name, members: vec![place], keeper: place, complete: false });
            }
        }
    }
    for slot in &mut slots {
        let complete = slot.members.iter().find(|&&place| sets.completes(snapshots[place]));
        slot.complete = complete.is_some();
        let fullest =
            slot.members.iter().max_by_key(|&&place| (fullness(snapshots[place]), Reverse(place)));
        slot.keeper = *complete.or(fullest).unwrap_or(&slot.keeper);
    }
    slots
}

/// How much a partial snapshot holds.
fn fullness(snapshot: &Snapshot) -> (u64, u64) {
    (snapshot.manifest.counts.files, snapshot.manifest.counts.bytes)
}
