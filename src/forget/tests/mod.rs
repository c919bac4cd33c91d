//! The rules on snapshots made of dates: `check` says which stay.

mod calendar;
mod properties;
mod rules;
mod sets;
mod suspicion;

use std::collections::BTreeMap;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::*;
use crate::format::manifest::{Counts, Outcome, Source};
use crate::id::WriterId;
use crate::repository::snapshots::{Listing, Snapshot, State};

fn utc() -> TimeZone {
    TimeZone::UTC
}

fn berlin() -> TimeZone {
    TimeZone::get("Europe/Berlin").unwrap()
}

fn new_york() -> TimeZone {
    TimeZone::get("America/New_York").unwrap()
}

/// ms since 1970 of a local date and time; with an offset behind it, of that.
fn ms(text: &str, zone: &TimeZone) -> u64 {
    let moment = match text.parse::<jiff::Timestamp>() {
        Ok(moment) => moment,
        Err(_) => text.parse::<DateTime>().unwrap().to_zoned(zone.clone()).unwrap().timestamp(),
    };
    moment.as_millisecond().try_into().unwrap()
}

/// A complete, confirmed snapshot begun at a time; `number` is its id.
fn snapshot(number: u32, started: u64) -> Snapshot {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&number.to_be_bytes());
    let mut snapshot = Snapshot::example(id, "harbour", "default", started);
    snapshot.manifest.sources = vec![source("0000000000000001")];
    snapshot.manifest.counts = Counts { files: 100, bytes: 1000, ..Counts::default() };
    snapshot
}

fn source(label: &str) -> Source {
    Source { label: label.into(), outcome: Outcome::Complete, required: false }
}

fn partial(mut snapshot: Snapshot, files: u64) -> Snapshot {
    snapshot.manifest.outcome = Outcome::Partial;
    snapshot.manifest.counts.files = files;
    snapshot
}

/// One a line: a date and time, then words. `partial 5` has 5 files, and
/// `tag x`, `pinned`, `expires DATE`, `unconfirmed`, `distrusted`, `host x`.
fn listing(lines: &str, zone: &TimeZone) -> Listing {
    let mut snapshots = Vec::new();
    for (number, line) in lines.lines().map(str::trim).filter(|l| !l.is_empty()).enumerate() {
        let mut words = line.split_whitespace();
        let started = ms(words.next().unwrap(), zone);
        let mut made = snapshot(number as u32, started);
        while let Some(word) = words.next() {
            let mut value = || words.next().unwrap();
            match word {
                "partial" => made = partial(made, value().parse().unwrap()),
                "tag" => made.tags.push(value().into()),
                "pinned" => made.pinned = true,
                "expires" => made.manifest.expires = Some(ms(value(), zone)),
                "unconfirmed" => made.state = State::Unconfirmed,
                "distrusted" => made.state = State::Distrusted,
                "host" => made.manifest.host = value().into(),
                _ => panic!("{word}?"),
            }
        }
        snapshots.push(made);
    }
    snapshots.sort_by_key(|snapshot| (snapshot.manifest.started, snapshot.id));
    Listing { snapshots, ..Listing::default() }
}

/// `daily 7`, `last 3`, `within 30d`, `within-weekly 3mo`, `tag x`, `floor 0`, with commas.
fn policy(text: &str) -> Policy {
    let mut policy = Policy::default();
    for rule in text.split(',').map(str::trim).filter(|rule| !rule.is_empty()) {
        let (name, value) = rule.split_once(' ').unwrap();
        let period = |name: &str| {
            Period::ALL.into_iter().find(|period| period.adverb() == Some(name)).unwrap()
        };
        let count = || Limit::Count(value.parse().unwrap());
        let within = || Limit::Within(value.parse().unwrap());
        let (period, limit) = match name {
            "tag" => {
                policy.keep_tags.push(value.into());
                continue;
            }
            "floor" => {
                policy.floor = value.parse().unwrap();
                continue;
            }
            "last" => (Period::Each, count()),
            "within" => (Period::Each, within()),
            name => match name.strip_prefix("within-") {
                Some(adverb) => (period(adverb), within()),
                None => (period(name), count()),
            },
        };
        policy.rules.push(Rule { period, limit });
    }
    policy
}

fn planned<'a>(listing: &'a Listing, rules: &str, now_ms: u64, zone: &TimeZone) -> Plan<'a> {
    let options = PlanOptions { group_by: GroupBy::default(), now_ms, zone };
    plan(listing, &|_| true, &policy(rules), &options)
}

fn stays(plan: &Plan<'_>) -> Vec<SnapshotId> {
    plan.items().filter(|item| !item.goes()).map(|item| item.snapshot.id).collect()
}

/// The listing as it is once a plan was executed.
fn after(listing: &Listing, plan: &Plan<'_>) -> Listing {
    let marks = plan.marks();
    let mut listing = listing.clone();
    for snapshot in &mut listing.snapshots {
        if marks.contains(&snapshot.id) {
            snapshot.forgotten = Some(1);
        }
    }
    listing
}

/// Each line of `lines` begins with `+` if it must stay, with `-` if it must go.
/// Returns for each line what is said of it.
fn check(rules: &str, now: &str, zone: &TimeZone, lines: &str) -> Vec<String> {
    let bare: Vec<&str> = lines.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let text: Vec<&str> = bare.iter().map(|line| line[1..].trim()).collect();
    let listing = listing(&text.join("\n"), zone);
    let plan = planned(&listing, rules, ms(now, zone), zone);
    let fates: BTreeMap<SnapshotId, (bool, String)> = plan
        .items()
        .map(|item| (item.snapshot.id, (item.goes(), format!("{:?}", item.fate))))
        .collect();
    let mut said = Vec::new();
    for (number, line) in bare.iter().enumerate() {
        let (goes, fate) = &fates[&snapshot(number as u32, 0).id];
        assert_eq!(*goes, line.starts_with('-'), "{rules}: {line}: {fate}");
        said.push(fate.clone());
    }
    said
}
