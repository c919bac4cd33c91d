//! Random nights and rules: against a slow reading of the rules' definition, and
//! what must hold whatever they are.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// Minutes since the beginning, whether it is partial, how full, and words.
#[derive(Clone, Debug)]
struct Night {
    minute: u64,
    partial: bool,
    files: u64,
    pinned: bool,
    expired: bool,
}

fn night() -> impl Strategy<Value = Night> {
    // close together and far apart, around the days on which clocks change
    let minute = prop_oneof![0..3000u64, 0..600_000u64, 311_000..313_000u64];
    let rarely = || proptest::bool::weighted(0.08);
    (minute, proptest::bool::weighted(0.4), 0..4u64, rarely(), rarely()).prop_map(
        |(minute, partial, files, pinned, expired)| Night {
            minute,
            partial,
            files,
            pinned,
            expired,
        },
    )
}

const FIRST: &str = "2026-03-20T12:00Z";
const NOW: &str = "2027-06-01T12:00Z";

fn listing_of(nights: &[Night]) -> Listing {
    let mut all = Listing::default();
    for (number, night) in nights.iter().enumerate() {
        let started = ms(FIRST, &utc()) + night.minute * 60_000;
        let mut made = snapshot(number as u32, started);
        if night.partial {
            made = partial(made, night.files);
        }
        made.pinned = night.pinned;
        made.manifest.expires = night.expired.then_some(1);
        all.snapshots.push(made);
    }
    all.snapshots.sort_by_key(|snapshot| (snapshot.manifest.started, snapshot.id));
    all
}

fn rules() -> impl Strategy<Value = String> {
    let counted = (0..6usize, 1..6u32).prop_map(|(period, count)| {
        let names = ["last", "hourly", "daily", "weekly", "monthly", "yearly"];
        format!("{} {count}", names[period])
    });
    let within = (0..6usize, 1..500u32).prop_map(|(period, days)| {
        let names = ["", "-hourly", "-daily", "-weekly", "-monthly", "-yearly"];
        format!("within{} {days}d", names[period])
    });
    let rule = prop_oneof![3 => counted, 1 => within];
    (proptest::collection::vec(rule, 1..4), 0..4u32)
        .prop_map(|(rules, floor)| format!("{}, floor {floor}", rules.join(", ")))
}

fn zone() -> impl Strategy<Value = TimeZone> {
    prop_oneof![Just(utc()), Just(berlin()), Just(new_york())]
}

fn is_partial(snapshot: &Snapshot) -> bool {
    snapshot.manifest.outcome == Outcome::Partial
}

/// Newer of two, of one time the greater id.
fn newer(a: &Snapshot, b: &Snapshot) -> bool {
    (a.manifest.started, a.id) > (b.manifest.started, b.id)
}

/// The slot, by names that the calendar crate makes from a format.
fn name(rule: &Rule, snapshot: &Snapshot, zone: &TimeZone) -> String {
    let format = match rule.period {
        Period::Each => return snapshot.id.to_hex(),
        Period::Hour => "%Y-%m-%d %H %z",
        Period::Day => "%Y-%m-%d",
        Period::Week => "%G-W%V",
        Period::Month => "%Y-%m",
        Period::Year => "%Y",
    };
    let started = jiff::Timestamp::from_millisecond(snapshot.manifest.started as i64).unwrap();
    started.to_zoned(zone.clone()).strftime(format).to_string()
}

/// Whether a rule keeps a snapshot, by the definition alone.
fn keeps(rule: &Rule, snapshot: &Snapshot, all: &[&Snapshot], now: u64, zone: &TimeZone) -> bool {
    let reached = |other: &Snapshot| match rule.limit {
        Limit::Count(_) => true,
        Limit::Within(span) => {
            let now = jiff::Timestamp::from_millisecond(now as i64).unwrap().to_zoned(zone.clone());
            let then = now.checked_sub(span).unwrap().timestamp().as_millisecond();
            other.manifest.started as i64 >= then
        }
    };
    if !reached(snapshot) {
        return false;
    }
    let own = name(rule, snapshot, zone);
    let displaces = |other: &Snapshot| match (is_partial(other), is_partial(snapshot)) {
        (false, false) => newer(other, snapshot),
        (false, true) => true,
        (true, false) => false,
        (true, true) => {
            let (theirs, mine) = (other.manifest.counts.files, snapshot.manifest.counts.files);
            theirs > mine || (theirs == mine && newer(other, snapshot))
        }
    };
    let others = || all.iter().filter(|other| other.id != snapshot.id && reached(other));
    if others().any(|other| name(rule, other, zone) == own && displaces(other)) {
        return false;
    }
    let rivals = others().filter(|other| is_partial(snapshot) || !is_partial(other));
    let newer_slots: BTreeSet<String> = rivals
        .filter(|other| newer(other, snapshot))
        .map(|other| name(rule, other, zone))
        .filter(|name| *name != own)
        .collect();
    match rule.limit {
        Limit::Count(count) => newer_slots.len() < count as usize,
        Limit::Within(_) => true,
    }
}

fn is_complete(snapshot: &Snapshot) -> bool {
    snapshot.manifest.outcome == Outcome::Complete
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn rules_keep_what_their_definition_says(
        nights in proptest::collection::vec(night(), 0..40),
        rules in rules(),
        zone in zone(),
    ) {
        let all = listing_of(&nights);
        let now = ms(NOW, &utc());
        let made = planned(&all, &rules, now, &zone);
        let counted: Vec<&Snapshot> =
            all.snapshots.iter().filter(|s| !s.pinned && s.manifest.expires.is_none()).collect();
        for item in made.items() {
            let own = item.snapshot;
            let takes_part = counted.iter().any(|other| other.id == own.id);
            let expected = takes_part
                && policy(&rules).rules.iter().any(|rule| keeps(rule, own, &counted, now, &zone));
            let by_rule = match &item.fate {
                Fate::Keep(keeps) => keeps.iter().any(|keep| matches!(keep, Keep::Rule(..))),
                _ => false,
            };
            prop_assert_eq!(by_rule, expected, "{} {:?}", rules, item);
        }
    }

    #[test]
    fn floor_newest_and_pins_hold_and_a_second_run_finds_nothing(
        nights in proptest::collection::vec(night(), 1..40),
        rules in rules(),
        zone in zone(),
    ) {
        let all = listing_of(&nights);
        let now = ms(NOW, &utc());
        let made = planned(&all, &rules, now, &zone);
        let stays = stays(&made);
        let floor = policy(&rules).floor as usize;
        let complete = |ids: &[SnapshotId]| {
            all.snapshots.iter().filter(|s| ids.contains(&s.id) && is_complete(s)).count()
        };
        let every: Vec<SnapshotId> = all.snapshots.iter().map(|s| s.id).collect();
        prop_assert!(stays.len() >= floor.min(every.len()));
        prop_assert!(complete(&stays) >= floor.min(complete(&every)));
        prop_assert!(all.snapshots.iter().all(|s| !s.pinned || stays.contains(&s.id)));
        let newest = all.snapshots.iter().rev().find(|s| s.pinned || s.manifest.expires.is_none());
        prop_assert!(floor == 0 || newest.is_none_or(|newest| stays.contains(&newest.id)));
        let left = after(&all, &made);
        prop_assert!(planned(&left, &rules, now, &zone).marks().is_empty());
    }

    #[test]
    fn one_more_partial_snapshot_takes_no_complete_one(
        nights in proptest::collection::vec(night(), 1..40),
        more in night(),
        rules in rules(),
        zone in zone(),
    ) {
        let now = ms(NOW, &utc());
        let all = listing_of(&nights);
        let before = stays(&planned(&all, &rules, now, &zone));
        let more = Night { partial: true, ..more };
        let with_more = listing_of(&[nights, vec![more]].concat());
        let plan = planned(&with_more, &rules, now, &zone);
        for item in plan.items().filter(|item| is_complete(item.snapshot)) {
            prop_assert!(!(before.contains(&item.snapshot.id) && item.goes()), "{:?}", item);
        }
    }
}
