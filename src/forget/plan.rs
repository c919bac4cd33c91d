//! All rules on all groups: for each snapshot, whether it stays and why.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use jiff::tz::TimeZone;

use super::group::{GroupBy, GroupKey};
use super::policy::{Policy, Rule};
use super::slots::{Verdict, judge};
use crate::id::SnapshotId;
use crate::repository::chains::Chains;
use crate::repository::clock::latest_believed;
use crate::repository::sets::Sets;
use crate::repository::snapshots::{Listing, Snapshot, State};

/// What a plan is made by.
pub struct PlanOptions<'a> {
    pub group_by: GroupBy,
    /// A time that can be believed, in ms since 1970.
    pub now_ms: u64,
    pub zone: &'a TimeZone,
}

/// What stays and what goes. Snapshots that were forgotten before are in no plan.
#[derive(Debug, Default)]
pub struct Plan<'a> {
    pub groups: Vec<Group<'a>>,
    /// Manifests that nobody believes and that were named by their id.
    pub unbelieved: Vec<SnapshotId>,
    /// Manifests whose successor was forgotten before, and they with it were not.
    pub left_behind: Vec<&'a Snapshot>,
    /// Tags to keep that no snapshot listed has, chosen or not.
    pub unmatched_tags: Vec<String>,
}

#[derive(Debug)]
pub struct Group<'a> {
    pub key: GroupKey,
    /// Oldest first.
    pub items: Vec<Item<'a>>,
}

#[derive(Debug)]
pub struct Item<'a> {
    pub snapshot: &'a Snapshot,
    pub fate: Fate,
    /// Whether it counts as something the group can fall back on.
    pub counts: bool,
    /// Manifests of the same run that it replaces: they go when it goes.
    pub replaces: Vec<&'a Snapshot>,
}

#[derive(Clone, Debug)]
pub enum Fate {
    /// It stays, for at least one reason.
    Keep(Vec<Keep>),
    /// It is none of the rules' business, and stays.
    Leave(Left),
    Forget(Cause),
}

/// What keeps a snapshot.
#[derive(Clone, Debug)]
pub enum Keep {
    /// A rule, and the slot it stands for.
    Rule(Rule, Option<String>),
    Tag(String),
    Pinned,
    /// It is the newest of its group, and nothing else keeps it.
    Newest,
    /// It is one of so many good ones that always stay.
    Floor,
    /// Another part of its set stays.
    Set,
    /// No rule was given that lets it go.
    NotAsked,
}

/// Why the rules do not look at a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Signed by a writer that was revoked.
    Distrusted,
    /// Its run may still go on; prune takes it when it is long silent.
    Unconfirmed,
    /// A mark or confirmation of it could not be read.
    Unclear,
    /// Dated in the future.
    Future,
}

/// Why a snapshot goes.
#[derive(Clone, Debug)]
pub enum Cause {
    Named,
    /// It has the tags that were named.
    Tagged,
    /// It was to be kept until then, in ms since 1970.
    Expired(u64),
    /// What each rule said.
    NoRule(Vec<(Rule, Verdict)>),
}

impl Item<'_> {
    pub fn goes(&self) -> bool {
        matches!(self.fate, Fate::Forget(_))
    }
}

impl Group<'_> {
    pub fn going(&self) -> usize {
        self.items.iter().filter(|item| item.goes()).count()
    }

    /// Nothing that counts would be left of what counted.
    pub fn is_emptied(&self) -> bool {
        let mut counting = self.items.iter().filter(|item| item.counts).peekable();
        counting.peek().is_some() && counting.all(Item::goes)
    }

    /// More than half of what counts would go.
    pub fn is_halved(&self) -> bool {
        let counting = self.items.iter().filter(|item| item.counts);
        let (all, going) =
            counting.fold((0, 0), |(all, going), item| (all + 1, going + usize::from(item.goes())));
        going * 2 > all
    }
}

impl<'a> Plan<'a> {
    /// The snapshots to mark, in the order the marks are put: oldest first, and
    /// what a snapshot replaces right behind it, never sooner.
    pub fn marks(&self) -> Vec<SnapshotId> {
        let mut going: Vec<&Item<'_>> = self.items().filter(|item| item.goes()).collect();
        going.sort_by_key(|item| (item.snapshot.manifest.started, item.snapshot.id));
        let with_replaced = going.into_iter().flat_map(|item| {
            std::iter::once(item.snapshot.id).chain(item.replaces.iter().map(|other| other.id))
        });
        let left_behind = self.left_behind.iter().map(|snapshot| snapshot.id);
        let mut seen = HashSet::new();
        let all = with_replaced.chain(left_behind).chain(self.unbelieved.iter().copied());
        all.filter(|id| seen.insert(*id)).collect()
    }

    pub fn items(&self) -> impl Iterator<Item = &Item<'a>> {
        self.groups.iter().flat_map(|group| &group.items)
    }
}

/// Applies a policy to those snapshots of a listing that `chosen` lets pass. A set
/// is chosen with any of its parts, and stays or goes as one.
pub fn plan<'a>(
    listing: &'a Listing,
    chosen: &dyn Fn(&Snapshot) -> bool,
    policy: &Policy,
    options: &PlanOptions<'_>,
) -> Plan<'a> {
    let sets = Sets::standing(&listing.snapshots);
    let mut groups: BTreeMap<GroupKey, Vec<&Snapshot>> = BTreeMap::new();
    for snapshot in standing(listing).filter(|snapshot| sets.any(snapshot, chosen)) {
        groups.entry(GroupKey::of(snapshot, options.group_by)).or_default().push(snapshot);
    }
    let replaced = Replaced::of(listing);
    let has = |tag: &String| listing.snapshots.iter().any(|s| s.tags.contains(tag));
    let unmatched_tags = policy.keep_tags.iter().filter(|tag| !has(tag)).cloned().collect();
    let groups = groups.into_iter().map(|(key, snapshots)| {
        let fates = GroupPlan::new(&snapshots, &sets, listing, policy, options).fates();
        let items = snapshots.into_iter().zip(fates).map(|(snapshot, fate)| Item {
            snapshot,
            fate,
            counts: left(snapshot, listing, options.now_ms).is_none(),
            replaces: replaced.by(snapshot),
        });
        Group { key, items: items.collect() }
    });
    let mut groups: Vec<Group<'_>> = groups.collect();
    keep_sets_together(&mut groups, &sets);
    Plan {
        groups,
        unmatched_tags,
        left_behind: replaced.left_behind(listing, chosen),
        unbelieved: Vec::new(),
    }
}

/// A set of which one part stays, stays.
pub(super) fn keep_sets_together(groups: &mut [Group<'_>], sets: &Sets<'_>) {
    let set_of = |item: &Item<'_>| sets.with(item.snapshot).map(std::ptr::from_ref);
    let items = groups.iter().flat_map(|group| &group.items);
    let staying: HashSet<_> = items.filter(|item| !item.goes()).filter_map(set_of).collect();
    for item in groups.iter_mut().flat_map(|group| &mut group.items) {
        if item.goes() && set_of(item).is_some_and(|set| staying.contains(&set)) {
            item.fate = Fate::Keep(vec![Keep::Set]);
        }
    }
}

/// What a plan is about: neither forgotten yet nor replaced, oldest first.
pub(super) fn standing(listing: &Listing) -> impl Iterator<Item = &Snapshot> {
    let stands = |snapshot: &&Snapshot| snapshot.forgotten.is_none() && !snapshot.replaced;
    listing.snapshots.iter().filter(stands)
}

/// Why rules do not look at it, if they do not.
pub(super) fn left(snapshot: &Snapshot, listing: &Listing, now_ms: u64) -> Option<Left> {
    match snapshot.state {
        State::Distrusted => Some(Left::Distrusted),
        _ if listing.is_unclear(snapshot.id) => Some(Left::Unclear),
        State::Unconfirmed => Some(Left::Unconfirmed),
        // its end is never before its beginning
        State::Confirmed if snapshot.manifest.ended > latest_believed(now_ms) => Some(Left::Future),
        State::Confirmed => None,
    }
}

/// One group and what is said about it.
struct GroupPlan<'a, 'b> {
    snapshots: &'b [&'a Snapshot],
    /// Those that rules look at, newest first.
    counting: Vec<&'a Snapshot>,
    sets: &'b Sets<'a>,
    listing: &'b Listing,
    policy: &'b Policy,
    options: &'b PlanOptions<'b>,
}

impl<'a, 'b> GroupPlan<'a, 'b> {
    fn new(
        snapshots: &'b [&'a Snapshot],
        sets: &'b Sets<'a>,
        listing: &'b Listing,
        policy: &'b Policy,
        options: &'b PlanOptions<'b>,
    ) -> Self {
        let counts = |s: &&Snapshot| left(s, listing, options.now_ms).is_none();
        let mut counting: Vec<_> = snapshots.iter().rev().copied().filter(counts).collect();
        // stable: of one set's time the newest first
        counting.sort_by_key(|snapshot| Reverse(sets.started(snapshot)));
        GroupPlan { snapshots, counting, sets, listing, policy, options }
    }

    fn fates(&self) -> Vec<Fate> {
        let mut verdicts = self.verdicts();
        let always = self.always_kept();
        let newest = self.newest();
        let fate = |snapshot: &&Snapshot| {
            if let Some(left) = left(snapshot, self.listing, self.options.now_ms) {
                return Fate::Leave(left);
            }
            let verdicts = verdicts.remove(&snapshot.id).unwrap_or_default();
            let mut keeps = self.keeps(snapshot, &verdicts);
            if keeps.is_empty() && self.policy.only_expires() && !self.is_expired(snapshot) {
                keeps.push(Keep::NotAsked);
            }
            if keeps.is_empty() && newest == Some(snapshot.id) {
                keeps.push(Keep::Newest);
            }
            if keeps.is_empty() && always.contains(&snapshot.id) {
                keeps.push(Keep::Floor);
            }
            match (keeps.is_empty(), snapshot.manifest.expires) {
                (false, _) => Fate::Keep(keeps),
                (true, Some(expires)) if self.is_expired(snapshot) => {
                    Fate::Forget(Cause::Expired(expires))
                }
                (true, _) => Fate::Forget(Cause::NoRule(verdicts)),
            }
        };
        self.snapshots.iter().map(fate).collect()
    }

    /// A pin outlasts the date of expiry.
    fn is_expired(&self, snapshot: &Snapshot) -> bool {
        let expires = snapshot.manifest.expires;
        !snapshot.pinned && expires.is_some_and(|expires| expires <= self.options.now_ms)
    }

    /// What each rule says of each snapshot it looks at: pinned ones take no
    /// slot, and expired ones keep none.
    fn verdicts(&self) -> HashMap<SnapshotId, Vec<(Rule, Verdict)>> {
        let slotted: Vec<&Snapshot> = self
            .counting
            .iter()
            .copied()
            .filter(|snapshot| !snapshot.pinned && !self.is_expired(snapshot))
            .collect();
        let mut verdicts: HashMap<_, Vec<_>> = HashMap::new();
        for rule in &self.policy.rules {
            let judged = judge(rule, &slotted, self.sets, self.options.now_ms, self.options.zone);
            for (snapshot, verdict) in slotted.iter().zip(judged) {
                verdicts.entry(snapshot.id).or_default().push((*rule, verdict));
            }
        }
        verdicts
    }

    fn keeps(&self, snapshot: &Snapshot, verdicts: &[(Rule, Verdict)]) -> Vec<Keep> {
        if snapshot.pinned {
            return vec![Keep::Pinned];
        }
        if self.is_expired(snapshot) {
            return Vec::new();
        }
        let by_rule = verdicts.iter().filter_map(|(rule, verdict)| match verdict {
            Verdict::Kept { slot } => Some(Keep::Rule(*rule, slot.clone())),
            _ => None,
        });
        let kept_tags = self.policy.keep_tags.iter().filter(|tag| snapshot.tags.contains(tag));
        by_rule.chain(kept_tags.map(|tag| Keep::Tag(tag.clone()))).collect()
    }

    fn newest(&self) -> Option<SnapshotId> {
        let newest = self.counting.iter().find(|snapshot| !self.is_expired(snapshot));
        newest.filter(|_| self.policy.floor > 0).map(|snapshot| snapshot.id)
    }

    /// The newest complete ones, as many as always stay. If there are not so
    /// many, first those that expired fill up, then partial ones.
    fn always_kept(&self) -> BTreeSet<SnapshotId> {
        let mut by_worth = self.counting.clone();
        // stable: newest first among equals
        by_worth.sort_by_key(|s| (!self.sets.completes(s), self.is_expired(s)));
        by_worth.iter().take(self.policy.floor as usize).map(|snapshot| snapshot.id).collect()
    }
}

/// What goes with which manifests.
pub(super) struct Replaced<'a>(Chains<'a>);

impl<'a> Replaced<'a> {
    pub(super) fn of(listing: &'a Listing) -> Replaced<'a> {
        Replaced(Chains::of(&listing.snapshots))
    }

    /// What a snapshot replaces, and what that replaced, without those that were
    /// forgotten before.
    pub(super) fn by(&self, snapshot: &Snapshot) -> Vec<&'a Snapshot> {
        let mut found = self.0.replaced_by(snapshot);
        found.retain(|replaced| replaced.forgotten.is_none());
        found
    }

    /// What a crash kept from going with its successor.
    fn left_behind(
        &self,
        listing: &'a Listing,
        chosen: &dyn Fn(&Snapshot) -> bool,
    ) -> Vec<&'a Snapshot> {
        let staying: HashSet<SnapshotId> =
            standing(listing).flat_map(|s| self.by(s)).map(|replaced| replaced.id).collect();
        let forgotten = listing.snapshots.iter().filter(|s| s.forgotten.is_some());
        let mut found: Vec<&Snapshot> = forgotten.flat_map(|s| self.by(s)).collect();
        found.retain(|replaced| chosen(replaced) && !staying.contains(&replaced.id));
        found
    }
}
