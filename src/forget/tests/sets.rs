//! Sets stay and go as one.

use super::*;
use crate::format::manifest::Set;

/// One a line: a date and time, a set's name, and which part of it this is; then what `listing` knows.
fn sets(lines: &str) -> Listing {
    let lines: Vec<&str> = lines.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let word = |line: &str, at: usize| line.split_whitespace().nth(at).unwrap().to_owned();
    let bare = |line: &&str| {
        let rest: Vec<&str> = line.split_whitespace().skip(3).collect();
        format!("{} {}", word(line, 0), rest.join(" "))
    };
    let text: Vec<String> = lines.iter().map(bare).collect();
    let mut listing = listing(&text.join("\n"), &utc());
    for snapshot in &mut listing.snapshots {
        let number = u32::from_be_bytes(snapshot.id.0[..4].try_into().unwrap());
        let line = lines[number as usize];
        snapshot.manifest.set = Some(Set {
            name: word(line, 1),
            parts: vec!["a".into(), "b".into()],
            part: word(line, 2),
            system: None,
            writers: vec![WriterId([1; 16]), WriterId([2; 16])],
        });
    }
    listing
}

/// Which lines of `sets` stay.
fn staying(listing: &Listing, rules: &str, now: &str) -> Vec<u32> {
    let plan = planned(listing, rules, ms(now, &utc()), &utc());
    numbers(stays(&plan))
}

fn numbers(ids: Vec<SnapshotId>) -> Vec<u32> {
    let number = |id: SnapshotId| u32::from_be_bytes(id.0[..4].try_into().unwrap());
    let mut numbers: Vec<u32> = ids.into_iter().map(number).collect();
    numbers.sort_unstable();
    numbers
}

const NIGHTS: &str = "
    2026-11-16T02:00 n-1 a
    2026-11-16T02:10 n-1 b
    2026-11-17T02:00 n-2 a
    2026-11-17T02:10 n-2 b
    2026-11-18T02:00 n-3 a
    2026-11-18T02:10 n-3 b";

/// Every night's set has a name of its own.
#[test]
fn rules_count_sets_of_all_names_together() {
    let all = sets(NIGHTS);
    assert_eq!(staying(&all, "last 2", "2026-11-19T00:00"), [2, 3, 4, 5]);
    assert_eq!(staying(&all, "last 1", "2026-11-19T00:00"), [4, 5]);
}

/// A part taken after midnight is of the day on which its set was begun.
#[test]
fn a_set_has_one_day() {
    let all = sets(
        "
        2026-11-15T23:50 n-1 a
        2026-11-16T00:10 n-1 b
        2026-11-16T23:50 n-2 a
        2026-11-16T23:55 n-2 b
        2026-11-17T23:50 n-3 a
        2026-11-18T00:10 n-3 b",
    );
    assert_eq!(staying(&all, "daily 2", "2026-11-19T00:00"), [2, 3, 4, 5]);
}

#[test]
fn a_set_that_is_not_whole_makes_no_other_go() {
    let all = sets(
        "
        2026-11-16T02:00 n-1 a
        2026-11-16T02:10 n-1 b
        2026-11-17T02:00 n-2 a
        2026-11-17T02:10 n-2 b
        2026-11-18T02:00 n-3 a",
    );
    assert_eq!(staying(&all, "last 1", "2026-11-19T00:00"), [2, 3, 4]);
    // a partial part of it is no better
    let all = sets(&format!("{NIGHTS} partial 5"));
    assert_eq!(staying(&all, "last 1", "2026-11-19T00:00"), [2, 3, 4, 5]);
}

#[test]
fn what_keeps_one_part_keeps_the_set() {
    let all = sets(&NIGHTS.replace("n-1 b", "n-1 b pinned"));
    assert_eq!(staying(&all, "last 1", "2026-11-19T00:00"), [0, 1, 4, 5]);
    let all = sets(&NIGHTS.replace("n-1 b", "n-1 b unconfirmed"));
    assert_eq!(staying(&all, "last 1", "2026-11-19T00:00"), [0, 1, 4, 5]);
}

#[test]
fn a_set_is_chosen_with_any_of_its_parts() {
    let all = sets(&NIGHTS.replace(" b", " b host other"));
    let options = PlanOptions {
        group_by: GroupBy::default(),
        now_ms: ms("2026-11-19T00:00", &utc()),
        zone: &utc(),
    };
    let here = |snapshot: &Snapshot| snapshot.manifest.host == "harbour";
    assert_eq!(numbers(stays(&plan(&all, &here, &policy("last 1"), &options))), [4, 5]);
    let tagged = plan_tagged(&all, &|s| here(s) && s.manifest.started % 7 != 8, &options);
    assert_eq!(tagged.marks().len(), 6);
    for wanted in [all.snapshots[1].id.to_hex(), "n-1".to_owned()] {
        let named = find(&all, &wanted).unwrap();
        assert_eq!(numbers(plan_named(&all, &[named], &options).marks()), [0, 1]);
    }
}

/// Who is not on the list of writers can neither make a set whole nor take a place in it.
#[test]
fn a_stranger_is_of_no_set() {
    let mut all = sets(NIGHTS);
    all.snapshots[5].manifest.writer = WriterId([3; 16]);
    // of the set that lacks its part what is there stays, and so does the last whole one
    assert_eq!(staying(&all, "last 1", "2026-11-19T00:00"), [2, 3, 4, 5]);
    let mut all = sets(&format!("{NIGHTS}\n2026-11-18T03:00 n-3 b partial 1"));
    all.snapshots[6].manifest.writer = WriterId([3; 16]);
    assert_eq!(staying(&all, "last 1", "2026-11-19T00:00"), [4, 5, 6]);
}

/// A host that ran again for the same set counts once, with what is complete.
#[test]
fn of_a_part_that_came_twice_one_counts() {
    let all = sets(&format!("{NIGHTS}\n2026-11-18T04:00 n-3 b partial 1"));
    assert_eq!(staying(&all, "last 1", "2026-11-19T00:00"), [4, 5, 6]);
    // as a recent partial snapshot the other one stays for as long as rules keep those
    let all = sets(&format!(
        "{NIGHTS} partial 1\n2026-11-18T04:00 n-3 b\n2026-11-19T02:00 n-4 a\n2026-11-19T02:00 n-4 b"
    ));
    assert_eq!(staying(&all, "last 1", "2026-11-20T00:00"), [7, 8]);
    assert_eq!(staying(&all, "last 2", "2026-11-20T00:00"), [4, 5, 6, 7, 8]);
}

/// A set whose name is always the same is that of the newest parts.
#[test]
fn sets_of_one_name_go_like_other_snapshots() {
    let all = sets(
        "
        2026-11-16T02:00 n a
        2026-11-17T02:00 n a
        2026-11-17T02:00 n b",
    );
    assert_eq!(staying(&all, "last 1", "2026-11-18T00:00"), [1, 2]);
}
