//! Partial, unconfirmed, distrusted and misdated snapshots, and manifests that
//! were replaced.

use super::*;

#[test]
fn a_complete_snapshot_wins_its_slot() {
    let lines = "
        - 2026-11-18T01:00 partial 500
        + 2026-11-18T02:00
        - 2026-11-18T03:00 partial 500
        - 2026-11-19T01:00
        + 2026-11-19T02:00
        + 2026-11-20T02:00";
    check("daily 7", "2026-11-20T12:00", &utc(), lines);
}

#[test]
fn a_slot_of_partial_ones_keeps_the_fullest_and_of_equals_the_newest() {
    let lines = "
        - 2026-11-18T01:00 partial 4
        + 2026-11-18T02:00 partial 5
        - 2026-11-18T03:00 partial 3
        - 2026-11-19T01:00 partial 5
        + 2026-11-19T02:00 partial 5
        + 2026-11-20T02:00";
    check("daily 7", "2026-11-20T12:00", &utc(), lines);
}

/// Days that hold only partial ones do not use up the days that are asked for.
#[test]
fn partial_ones_never_displace_a_complete_one() {
    let lines = "
        - 2026-11-13T02:00
        + 2026-11-14T02:00
        - 2026-11-15T02:00 partial 90
        + 2026-11-16T02:00
        - 2026-11-17T02:00 partial 90
        + 2026-11-18T02:00 partial 90
        + 2026-11-19T02:00 partial 90";
    check("daily 2", "2026-11-20T12:00", &utc(), lines);
    check("last 2", "2026-11-20T12:00", &utc(), lines);
    let lines = "
        + 2026-10-14T02:00
        + 2026-11-18T02:00 partial 90
        + 2026-11-19T02:00 partial 90";
    let said = check("within 9d", "2026-11-20T12:00", &utc(), lines);
    assert!(said[0].contains("Floor"), "{said:?}");
}

/// The newest stays even where its slot keeps another, and goes later.
#[test]
fn the_newest_stays() {
    let lines = "
        + 2026-11-20T02:00
        - 2026-11-20T03:00 partial 5
        + 2026-11-20T04:00 partial 5";
    let said = check("daily 7", "2026-11-20T12:00", &utc(), lines);
    assert!(said[2].contains("Newest"), "{said:?}");
    let lines = "
        + 2026-11-20T02:00
        - 2026-11-20T04:00 partial 5
        + 2026-11-21T02:00";
    check("daily 7", "2026-11-21T12:00", &utc(), lines);
}

/// One file that can never be read makes every night partial.
fn nights(files: impl Fn(u64) -> u64) -> Listing {
    let first = ms("2025-10-17T02:00", &berlin());
    let mut all = Listing::default();
    for night in 0..400u64 {
        let started = on_the_wall(first, night);
        all.snapshots.push(partial(snapshot(night as u32, started), files(night)));
    }
    all
}

fn on_the_wall(first: u64, days: u64) -> u64 {
    let first = super::super::policy::on_calendar(first, &berlin());
    let then = first.checked_add(jiff::Span::new().days(days as i64)).unwrap();
    then.timestamp().as_millisecond() as u64
}

#[test]
fn four_hundred_partial_nights_leave_at_most_eleven_and_the_newest() {
    let fullness: [fn(u64) -> u64; 4] =
        [|_| 1000, |night| 1000 + night, |night| 2000 - night, |night| 1000 + night * 7919 % 101];
    for (number, files) in fullness.into_iter().enumerate() {
        let all = nights(files);
        let newest = all.snapshots.last().unwrap();
        let now = newest.manifest.ended + 3_600_000;
        let plan = planned(&all, "daily 7, weekly 4", now, &berlin());
        let stays = stays(&plan);
        assert!(stays.len() <= 11, "{number}: {}", stays.len());
        assert!(stays.len() >= 7 && stays.contains(&newest.id), "{number}");
    }
}

/// The same, forgotten every night as a timer does it.
#[test]
fn four_hundred_partial_nights_one_by_one() {
    let all = nights(|night| 1000 + night * 7919 % 101);
    let mut kept = Listing::default();
    for night in &all.snapshots {
        kept.snapshots.push(night.clone());
        let now = night.manifest.ended + 60_000;
        let plan = planned(&kept, "daily 7, weekly 4", now, &berlin());
        let marks = plan.marks();
        kept.snapshots.retain(|snapshot| !marks.contains(&snapshot.id));
        assert!(kept.snapshots.len() <= 11);
        assert_eq!(kept.snapshots.last().unwrap().id, night.id);
    }
    let mondays = kept.snapshots.first().unwrap().manifest.started;
    let weeks = (all.snapshots.last().unwrap().manifest.started - mondays) / (7 * 86_400_000);
    assert!(weeks >= 2, "weeks are kept for as long as was asked");
}

#[test]
fn unconfirmed_and_distrusted_ones_never_count_and_are_left_alone() {
    let lines = "
        - 2026-11-17T02:00
        + 2026-11-18T02:00
        + 2026-11-19T02:00 unconfirmed
        + 2026-11-20T02:00 distrusted expires 2026-11-20T03:00";
    let said = check("last 1", "2026-11-20T12:00", &utc(), lines);
    assert!(said[2].contains("Unconfirmed") && said[3].contains("Distrusted"), "{said:?}");
}

#[test]
fn snapshots_of_the_future_fill_no_slot_and_stay() {
    let lines = "
        - 2026-11-18T02:00
        + 2026-11-19T02:00
        + 2026-11-20T12:10
        + 2026-11-20T12:11
        + 2038-01-19T03:14:08";
    // ten minutes is what clocks may differ by; the end of a run counts too
    let said = check("last 2", "2026-11-20T12:00:01", &utc(), lines);
    assert!(said[2].contains("Rule") && said[3].contains("Future"), "{said:?}");
    assert!(said[4].contains("Future"), "{said:?}");
}

/// A clock in 1970 that its owner vouches for forgets nothing.
#[test]
fn in_1970_all_is_of_the_future() {
    let all = nights(|_| 5);
    let plan = planned(&all, "daily 7, floor 0", 5000, &berlin());
    assert!(plan.marks().is_empty());
    let in_2038 = ms("2038-01-19T03:14:08Z", &utc());
    let plan = planned(&all, "within 30d", in_2038, &berlin());
    assert_eq!(stays(&plan), [all.snapshots.last().unwrap().id], "the floor holds");
}

#[test]
fn what_a_mark_says_nobody_knows_stays() {
    let mut all = listing("2026-11-17T02:00\n2026-11-18T02:00\n2026-11-19T02:00", &utc());
    all.unclear.insert(all.snapshots[0].id);
    let plan = planned(&all, "last 1", ms("2026-11-20T00:00", &utc()), &utc());
    assert_eq!(stays(&plan), [all.snapshots[0].id, all.snapshots[2].id]);
}

/// Four manifests of one run and one of the next night; the last word is 3's.
fn replaced() -> Listing {
    let mut all = listing("2026-11-17T02:00\n".repeat(4).as_str(), &utc());
    for number in 1..4 {
        all.snapshots[number].manifest.replaces = Some(all.snapshots[number - 1].id);
        all.snapshots[number - 1].replaced = true;
    }
    all.snapshots[0].state = State::Unconfirmed;
    all.snapshots.push(snapshot(9, ms("2026-11-18T02:00", &utc())));
    all
}

#[test]
fn what_was_replaced_goes_with_its_successor_and_never_alone() {
    let mut all = replaced();
    let ids: Vec<SnapshotId> = all.snapshots.iter().map(|snapshot| snapshot.id).collect();
    let now = ms("2026-11-19T00:00", &utc());
    assert!(planned(&all, "last 2", now, &utc()).marks().is_empty(), "they fill no slot");
    let marks = planned(&all, "last 1", now, &utc()).marks();
    assert_eq!(marks, [ids[3], ids[2], ids[1], ids[0]], "the successor first");
    // a crash behind the successor's mark: the next run does the rest
    all.snapshots[3].forgotten = Some(now);
    all.snapshots[2].forgotten = Some(now);
    assert_eq!(planned(&all, "last 1", now, &utc()).marks(), [ids[1], ids[0]]);
    let error = find(&all, &ids[1].to_hex()).unwrap_err();
    assert!(error.message.contains("goes with it"), "{error}");
}

#[test]
fn manifests_that_replace_each_other_end_no_run() {
    let mut all = listing("2026-11-16T02:00\n2026-11-17T02:00\n2026-11-18T02:00", &utc());
    all.snapshots[0].manifest.replaces = Some(all.snapshots[1].id);
    all.snapshots[1].manifest.replaces = Some(all.snapshots[0].id);
    all.snapshots[0].replaced = true;
    all.snapshots[1].replaced = true;
    let now = ms("2026-11-19T00:00", &utc());
    assert!(planned(&all, "last 1", now, &utc()).marks().is_empty());
}

#[test]
fn names_and_beginnings_of_ids_find_one() {
    let mut all = listing("2026-11-16T02:00\n2026-11-17T02:00\n2026-11-18T02:00", &utc());
    all.snapshots[0].name = Some("monday".into());
    let id = |named: Result<Named<'_>>| match named.unwrap() {
        Named::Snapshot(snapshot) => snapshot.id,
        Named::Unbelieved(id) => id,
    };
    assert_eq!(id(find(&all, "monday")), all.snapshots[0].id);
    assert_eq!(id(find(&all, "00000002")), all.snapshots[2].id);
    for (text, kind) in
        [("00", ErrorKind::Usage), ("ff", ErrorKind::Failed), ("", ErrorKind::Failed)]
    {
        assert_eq!(find(&all, text).unwrap_err().kind, kind, "{text}");
    }
    all.snapshots[1].name = Some("monday".into());
    assert_eq!(find(&all, "monday").unwrap_err().kind, ErrorKind::Usage);
    all.snapshots[1].forgotten = Some(1);
    assert_eq!(id(find(&all, "monday")), all.snapshots[0].id, "only one of them still stands");
}

#[test]
fn an_unbelieved_manifest_is_forgotten_by_much_of_its_id() {
    let mut all = listing("2026-11-16T02:00", &utc());
    let id = SnapshotId([0xab; 16]);
    let error = Error::damage("snapshots/ab: is not what it should be");
    all.unbelieved.push(crate::repository::snapshots::Unbelieved { id, error, forgotten: None });
    assert_eq!(find(&all, "ababab").unwrap_err().kind, ErrorKind::Usage);
    let named = find(&all, "abababab").unwrap();
    let zone = utc();
    let options = PlanOptions { group_by: GroupBy::default(), now_ms: 1, zone: &zone };
    assert_eq!(plan_named(&all, &[named], &options).marks(), [id]);
    all.unbelieved[0].forgotten = Some(1);
    let named = find(&all, "abababab").unwrap();
    assert!(plan_named(&all, &[named], &options).marks().is_empty());
}

#[test]
fn a_tag_takes_what_is_neither_pinned_nor_doubtful() {
    let lines = "
        2026-11-16T02:00 tag x
        2026-11-17T02:00 tag x pinned
        2026-11-18T02:00 tag x unconfirmed
        2026-11-19T02:00 tag x partial 5
        2026-11-19T03:00 tag x distrusted
        2026-11-20T02:00";
    let all = listing(lines, &utc());
    let zone = utc();
    let now_ms = ms("2026-11-21T00:00", &zone);
    let options = PlanOptions { group_by: GroupBy::default(), now_ms, zone: &zone };
    let tagged = plan_tagged(&all, &|snapshot| snapshot.tags.contains(&"x".into()), &options);
    assert_eq!(tagged.marks(), [all.snapshots[0].id, all.snapshots[3].id]);
    // by its id a pinned one goes, and one that was never confirmed
    let named: Vec<Named<'_>> = all.snapshots[1..3].iter().map(Named::Snapshot).collect();
    let plan = plan_named(&all, &named, &options);
    assert_eq!(plan.marks(), [all.snapshots[1].id, all.snapshots[2].id]);
    assert!(!plan.groups[0].is_emptied());
    let every: Vec<Named<'_>> = all.snapshots.iter().map(Named::Snapshot).collect();
    assert!(plan_named(&all, &every, &options).groups[0].is_emptied());
}
