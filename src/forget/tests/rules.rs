//! What each rule keeps, and what goes before what.

use super::*;

#[test]
fn last_keeps_the_newest() {
    let lines = "
        - 2026-11-01T02:00
        - 2026-11-02T02:00
        + 2026-11-03T02:00
        + 2026-11-03T03:00";
    check("last 2", "2026-11-04T00:00", &utc(), lines);
}

/// Days without a snapshot are no days.
#[test]
fn counted_slots_are_those_that_hold_something() {
    let lines = "
        - 2026-09-30T02:00
        + 2026-10-01T02:00
        - 2026-11-01T02:00
        + 2026-11-01T03:00
        + 2026-11-20T02:00";
    let said = check("daily 3", "2026-11-21T00:00", &utc(), lines);
    assert!(said[0].contains("Beyond") && said[2].contains("Other"), "{said:?}");
    assert!(said[2].contains("2026-11-01"), "{said:?}");
}

#[test]
fn rules_add_up() {
    let lines = "
        + 2024-12-31T02:00
        + 2025-12-31T02:00
        - 2026-10-30T02:00
        + 2026-10-31T02:00
        - 2026-11-18T02:00
        + 2026-11-19T02:00
        + 2026-11-20T02:00";
    check("daily 2, monthly 2, yearly 3", "2026-11-20T12:00", &utc(), lines);
}

#[test]
fn within_counts_from_now_and_not_from_the_newest() {
    let lines = "
        - 2026-11-09T11:59
        + 2026-11-10T12:00
        + 2026-11-12T02:00";
    let said = check("within 10d", "2026-11-20T12:00", &utc(), lines);
    assert!(said[0].contains("TooOld"), "{said:?}");
    let lines = "
        - 2026-11-09T11:59
        - 2026-11-10T12:00
        + 2026-11-12T02:00";
    // what it reaches no more, only the newest outlasts
    let said = check("within 10d", "2026-12-20T12:00", &utc(), lines);
    assert!(said[2].contains("Newest"), "{said:?}");
}

#[test]
fn within_of_a_period_keeps_one_of_each() {
    let lines = "
        - 2026-08-01T02:00
        - 2026-09-21T02:00
        + 2026-09-30T02:00
        - 2026-10-01T02:00
        + 2026-10-31T02:00
        - 2026-11-19T02:00
        + 2026-11-20T02:00";
    check("within-monthly 2mo", "2026-11-20T12:00", &utc(), lines);
}

#[test]
fn tags_keep_and_pins_keep_without_taking_a_slot() {
    let lines = "
        - 2026-11-17T02:00
        + 2026-11-18T02:00 tag release
        + 2026-11-19T02:00
        + 2026-11-20T02:00 pinned";
    check("last 1, tag release", "2026-11-20T12:00", &utc(), lines);
    let lines = "
        - 2026-11-19T02:00
        + 2026-11-20T02:00 tag release";
    // a tag that keeps takes its slot like any other
    check("last 1, tag release", "2026-11-20T12:00", &utc(), lines);
}

#[test]
fn what_expired_goes_before_tags_and_slots_but_not_before_pin_and_floor() {
    let lines = "
        - 2026-11-16T02:00 expires 2026-11-19T00:00 tag keep
        + 2026-11-17T02:00 expires 2026-11-19T00:00 pinned
        + 2026-11-18T02:00
        - 2026-11-18T03:00 expires 2026-11-20T12:00
        + 2026-11-19T02:00 expires 2026-11-20T12:01";
    let said = check("daily 9, tag keep", "2026-11-20T12:00", &utc(), lines);
    assert!(said[0].contains("Expired") && said[3].contains("Expired"), "{said:?}");
    let lines = "
        - 2026-11-16T02:00 expires 2026-11-17T00:00
        + 2026-11-17T02:00 expires 2026-11-18T00:00";
    let said = check("daily 9", "2026-11-20T12:00", &utc(), lines);
    assert!(said[1].contains("Floor"), "{said:?}");
    check("daily 9, floor 0", "2026-11-20T12:00", &utc(), &lines.replace('+', "-"));
}

/// Without rules only what expired goes.
#[test]
fn an_empty_policy_lets_nothing_else_go() {
    let lines = "
        - 2026-11-16T02:00 expires 2026-11-17T00:00
        + 2026-11-17T02:00 expires 2026-12-18T00:00
        + 2026-11-18T02:00
        + 2026-11-19T02:00";
    check("", "2026-11-20T12:00", &utc(), lines);
    check("floor 0", "2026-11-20T12:00", &utc(), lines);
}

#[test]
fn a_floor_of_more_keeps_more() {
    let lines = "
        - 2020-11-16T02:00
        + 2020-11-17T02:00
        - 2020-11-18T02:00 partial 5
        + 2020-11-19T02:00
        + 2020-11-20T02:00
        + 2020-11-21T02:00 partial 5";
    let said = check("within 1d, floor 3", "2026-11-20T12:00", &utc(), lines);
    assert!(said[5].contains("Newest") && said[1].contains("Floor"), "{said:?}");
}

#[test]
fn hosts_profiles_sources_and_writers_are_told_apart() {
    let mut all = listing("2026-11-16T02:00\n".repeat(5).as_str(), &utc());
    all.snapshots[1].manifest.host = "lighthouse".into();
    all.snapshots[2].manifest.profile = "db".into();
    all.snapshots[3].manifest.sources = vec![source("0000000000000002")];
    all.snapshots[4].manifest.writer = WriterId([2; 16]);
    let now = ms("2026-11-17T00:00", &utc());
    assert_eq!(stays(&planned(&all, "last 1", now, &utc())).len(), 5);
    let zone = utc();
    let options = PlanOptions { group_by: GroupBy::NONE, now_ms: now, zone: &zone };
    let by_writer = plan(&all, &|_| true, &policy("last 1"), &options);
    assert_eq!(stays(&by_writer).len(), 2, "writers are always told apart");
    let by_tags = PlanOptions { group_by: GroupBy { tags: true, ..GroupBy::NONE }, ..options };
    all.snapshots[1].tags = vec!["b".into(), "a".into()];
    all.snapshots[2].tags = vec!["a".into(), "b".into()];
    let by_tags = plan(&all, &|_| true, &policy("last 1"), &by_tags);
    assert_eq!(stays(&by_tags).len(), 3);
}

#[test]
fn groups_that_lose_much_are_seen() {
    let lines = "2026-11-16T02:00\n2026-11-17T02:00\n2026-11-18T02:00\n2026-11-19T02:00";
    let all = listing(lines, &utc());
    let now = ms("2026-11-20T00:00", &utc());
    let halved = |rules| planned(&all, rules, now, &utc()).groups[0].is_halved();
    assert!(halved("last 1") && !halved("last 2"));
    let emptied = |rules| planned(&all, rules, now, &utc()).groups[0].is_emptied();
    assert!(emptied("within 1h, floor 0") && !emptied("within 1h"));
    let tags = planned(&all, "tag prod, last 1", now, &utc()).unmatched_tags;
    assert_eq!(tags, ["prod"]);
}

#[test]
fn rules_are_named_as_their_options_are_typed() {
    let names: Vec<String> = policy("last 3, daily 7, within 30d, within-weekly 1y 6mo, hourly 1")
        .rules
        .iter()
        .map(Rule::to_string)
        .collect();
    let expected = ["keep-last 3", "keep-daily 7", "keep-within 30d", "keep-within-weekly 1y 6mo"];
    assert_eq!(names[..4], expected);
    assert_eq!(names[4], "keep-hourly 1");
}
