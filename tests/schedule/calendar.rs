//! Calendar expressions: the same times as `systemd-analyze calendar`, but for
//! those that a change to summer time skips, and as the crate `croner`.

use std::process::Command;

use esker::config::value::zone;
use esker::schedule::calendar::Calendar;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use proptest::prelude::*;

const ZONES: [&str; 5] =
    ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"];

/// Two changes of clocks lie soon after these, in the zones that have them.
const STARTS: [&str; 4] = [
    "2026-03-07T20:00:00Z",
    "2026-03-28T12:34:56Z",
    "2026-10-03T03:00:00Z",
    "2026-10-24T12:00:00Z",
];

const ITERATIONS: usize = 20;

/// One expression a line, `#` between groups.
const SYSTEMD: &str = include_str!("systemd.txt");
const CRON: &str = include_str!("cron.txt");

fn lines(text: &'static str) -> Vec<&'static str> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn next_times(calendar: &Calendar, start: Timestamp, count: usize) -> Vec<Timestamp> {
    std::iter::successors(calendar.next(start), |time| calendar.next(*time)).take(count).collect()
}

/// What systemd says of each expression, in whole seconds.
fn systemd_times(expressions: &[&str], zone: &str, start: &str) -> Vec<Vec<Timestamp>> {
    let base = start.replace('T', " ").replace('Z', " UTC");
    let output = Command::new("systemd-analyze")
        .env("TZ", zone)
        .env("LC_ALL", "C.UTF-8")
        .args(["calendar", &format!("--iterations={ITERATIONS}"), &format!("--base-time={base}")])
        .args(expressions)
        .output()
        .expect("systemd-analyze runs (package systemd)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let sections: Vec<&str> = text.split("Normalized form:").skip(1).collect();
    assert_eq!(sections.len(), expressions.len());
    sections.into_iter().map(utc_times).collect()
}

/// The times of lines such as `(in UTC): Sat 2026-03-28 01:30:00 UTC`.
fn utc_times(section: &str) -> Vec<Timestamp> {
    let utc = |line: &str| {
        let (label, value) = line.trim_start().split_once(": ")?;
        let is_time = ["Next elapse", "(in UTC)"].contains(&label) || label.starts_with("Iter. ");
        let (_, text) = value.strip_suffix(" UTC").filter(|_| is_time)?.split_once(' ')?;
        Some(time(&format!("{}Z", text.replace(' ', "T"))))
    };
    section.lines().skip(1).filter_map(utc).collect()
}

/// Ours without what was moved over a change of clocks, as systemd has it.
fn ours_without_moved(calendar: &Calendar, start: Timestamp) -> (Vec<Timestamp>, usize) {
    let times = next_times(calendar, start, ITERATIONS * 2);
    let last = times.last().copied().unwrap_or(start);
    let moved = calendar.moved(start, last);
    let mut count = 0;
    let kept = times.into_iter().filter(|time| {
        let is_moved = moved.contains(time);
        count += usize::from(is_moved);
        !is_moved
    });
    let whole = |time: Timestamp| Timestamp::from_second(time.as_second()).unwrap();
    let kept = kept.take(ITERATIONS).map(whole).collect();
    (kept, count)
}

#[test]
fn agrees_with_systemd() {
    let expressions = lines(SYSTEMD);
    assert!(expressions.len() >= 200, "{}", expressions.len());
    let (mut compared, mut moved_in_all) = (0, 0);
    for name in ZONES {
        let zone = zone(name).unwrap();
        for start in STARTS {
            let theirs = systemd_times(&expressions, name, start);
            for (text, theirs) in expressions.iter().zip(theirs) {
                let calendar = Calendar::parse(text, &zone).unwrap();
                let (ours, moved) = ours_without_moved(&calendar, time(start));
                assert_eq!(ours, theirs, "{text} in {name} from {start}");
                compared += ours.len();
                moved_in_all += moved;
            }
        }
    }
    // were nothing moved, nothing would have been left out of the comparison either
    assert!(compared > 50_000 && moved_in_all > 20, "{compared} {moved_in_all}");
}

/// In zones whose clocks are not changed: what happens then is our own rule.
#[test]
fn agrees_with_croner() {
    let expressions = lines(CRON);
    assert!(expressions.len() > 50, "{}", expressions.len());
    for name in ["UTC", "Asia/Kolkata"] {
        let zone = zone(name).unwrap();
        for text in &expressions {
            let calendar = Calendar::parse(text, &zone).unwrap();
            let theirs: croner::Cron = text.parse().unwrap();
            let mut at = time(STARTS[1]);
            for _ in 0..ITERATIONS {
                let next = calendar.next(at).unwrap();
                let zoned = theirs.find_next_occurrence(&at.to_zoned(zone.clone()), false).unwrap();
                assert_eq!(next, zoned.timestamp(), "{text} in {name} after {at}");
                at = next;
            }
        }
    }
}

/// The stated difference: systemd drops a time that the change to summer time skips.
#[test]
fn a_skipped_time_runs_once_where_systemd_drops_it() {
    let start = "2026-03-28T12:00:00Z";
    let theirs = systemd_times(&["02:30"], "Europe/Berlin", start);
    assert_eq!(theirs[0][0], time("2026-03-30T00:30:00Z"));
    check("02:30", "Europe/Berlin", start, &["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
    check("30 2 * * *", "Europe/Berlin", start, &["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
}

fn check(text: &str, name: &str, start: &str, expected: &[&str]) {
    let calendar = Calendar::parse(text, &zone(name).unwrap()).unwrap();
    let expected: Vec<Timestamp> = expected.iter().map(|text| time(text)).collect();
    assert_eq!(next_times(&calendar, time(start), expected.len()), expected, "{text} in {name}");
}

#[test]
fn changes_of_clocks_neither_lose_nor_double_a_time() {
    let berlin = "Europe/Berlin";
    // forward: several skipped times are one, and one with a time that is there
    check(
        "2:0/10",
        berlin,
        "2026-03-29T00:00:00Z",
        &["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"],
    );
    check(
        "*:0/30",
        berlin,
        "2026-03-29T00:15:00Z",
        &["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"],
    );
    // asked in the last instant before the change
    check("02:30", berlin, "2026-03-29T00:59:59.999999999Z", &["2026-03-29T01:00:00Z"]);
    check("02:30", berlin, "2026-03-29T01:00:00Z", &["2026-03-30T00:30:00Z"]);
    // back: the first of two, also when asked between them and after both
    check(
        "02:30",
        berlin,
        "2026-10-24T12:00:00Z",
        &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
    );
    check("02:30", berlin, "2026-10-25T00:45:00Z", &["2026-10-26T01:30:00Z"]);
    check("02:30", berlin, "2026-10-25T01:10:00Z", &["2026-10-26T01:30:00Z"]);
    check(
        "*:0/30",
        berlin,
        "2026-10-25T00:15:00Z",
        &["2026-10-25T00:30:00Z", "2026-10-25T02:00:00Z", "2026-10-25T02:30:00Z"],
    );
    check("*:*:*", berlin, "2026-10-25T01:00:00Z", &["2026-10-25T02:00:00Z"]);
    // half an hour, and a day that a whole country left out
    check("02:15", "Australia/Lord_Howe", "2026-10-03T15:00:00Z", &["2026-10-03T15:30:00Z"]);
    check("12-30 05:00", "Pacific/Apia", "2011-12-29T00:00:00Z", &["2011-12-30T10:00:00Z"]);
}

#[test]
fn zones_of_expressions_count_before_the_profile_s() {
    check(
        "02:30 America/New_York",
        "Europe/Berlin",
        "2026-07-01T00:00:00Z",
        &["2026-07-01T06:30:00Z"],
    );
    check("daily UTC", "Asia/Kolkata", "2026-07-01T12:00:00Z", &["2026-07-02T00:00:00Z"]);
    check("@1800000000", "Asia/Kolkata", "2026-07-01T12:00:00Z", &["2027-01-15T08:00:00Z"]);
}

#[test]
fn what_never_comes_is_nothing() {
    let never = |text| Calendar::parse(text, &TimeZone::UTC).unwrap().next(time(STARTS[0]));
    for text in ["*-02-30", "2025-*-*", "@0", "0 0 31 2 *", "2026-01-01 UTC"] {
        assert_eq!(never(text), None, "{text}");
    }
}

/// What is refused by systemd, or by cron, is refused here in one sentence.
#[test]
fn errors_say_what_is_wrong() {
    let cases = [
        ("", "empty"),
        ("0 2\n* * *", "more than one line"),
        ("Mon..", "no day of the week"),
        ("Sat..Tue", "runs backwards"),
        ("Mun 10:00", "\"Mun\" is no day"),
        ("25:00", "hour \"25\" is not between 0 and 23"),
        ("10:60", "minute \"60\""),
        ("10:00:60", "second \"60\" is not between 0 and 59"),
        ("10:00:00..00.5", "shorter than the second"),
        ("*-13-01", "month \"13\""),
        ("*-*-32", "day \"32\""),
        ("*-*-0", "day \"0\""),
        ("*-*~29", "day from the end \"29\""),
        ("*-*-31/1", "never repeats"),
        ("0/24:00", "never repeats"),
        ("0/0:00", "every 0"),
        ("*:*/5", "is no number"),
        ("*-*-5..1", "runs backwards"),
        ("100-1-1", "year \"100\""),
        ("2026", "neither a date such as"),
        ("1.5:00", "is no number"),
        ("1:2:3:4", "is no time"),
        ("daily Europe/Berlim", "\"Europe/Berlim\" is no time zone"),
        ("@99999999999999999999", "no number of seconds"),
        ("@-5", "no number of seconds"),
        ("fortnightly", "no day of the week nor a shorthand"),
        ("60 * * * *", "minute \"60\" is not between 0 and 59"),
        ("* * 0 * *", "day \"0\""),
        ("* * * foo *", "month \"foo\" is no number"),
        ("* * * * 8", "day of the week \"8\""),
        ("5/10 * * * *", "write 5-59/"),
        ("*/0 * * * *", "step \"0\""),
        ("10-5 * * * *", "runs backwards"),
        ("? * * * *", "is no number"),
        ("@reboot", "names no time"),
        ("@fortnightly", "the shorthands are"),
    ];
    for (text, word) in cases {
        let error = Calendar::parse(text, &TimeZone::UTC).unwrap_err();
        assert!(error.contains(word) && !error.contains('\n'), "{text}: {error}");
    }
}

/// Both ways of writing the same times down mean the same.
#[test]
fn translations_mean_the_same() {
    let zone = TimeZone::UTC;
    let start = time(STARTS[1]);
    for text in lines(SYSTEMD).into_iter().chain(lines(CRON)) {
        let calendar = Calendar::parse(text, &zone).unwrap();
        let times = next_times(&calendar, start, ITERATIONS);
        let again =
            calendar.systemd_lines().into_iter().map(|line| Calendar::parse(&line, &zone).unwrap());
        let again: Vec<Calendar> = again.collect();
        let earliest = |after| again.iter().filter_map(|calendar| calendar.next(after)).min();
        let theirs: Vec<Timestamp> = std::iter::successors(earliest(start), |time| earliest(*time))
            .take(ITERATIONS)
            .collect();
        assert_eq!(theirs, times, "{text}");
        if let Ok(line) = calendar.cron_line() {
            let cron = Calendar::parse(&line, &zone).unwrap();
            assert_eq!(next_times(&cron, start, ITERATIONS), times, "{text}: {line}");
        }
    }
}

proptest! {
    /// Any text is an expression or an error of one line.
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,40}", after in any::<i64>()) {
        never_panics(&text, after);
    }

    #[test]
    fn what_looks_like_an_expression_never_panics(
        text in "[-0-9*.,:~/@ a-zA-Z]{0,24}", after in any::<i64>(),
    ) {
        never_panics(&text, after);
    }

    #[test]
    fn what_is_one_never_panics(
        text in "((Mon|Sat,)?\\.?\\.?(Sun)? )?(([0-9]{1,4}|\\*)-)?[0-9*]{1,2}[-~][0-9]{1,2}(/[0-9]|\\.\\.[0-9]{1,2})? [0-9]{1,2}(,[0-9])?:[0-9]{1,2}(:[0-9]{1,2}(\\.[0-9]{1,6})?)?",
        after in any::<i64>(),
    ) {
        never_panics(&text, after);
    }
}

fn never_panics(text: &str, after: i64) {
    let after = Timestamp::from_second(after % 253_402_207_200).unwrap_or_default();
    match Calendar::parse(text, &TimeZone::get("Europe/Berlin").unwrap()) {
        Ok(calendar) => {
            assert!(calendar.next(after).is_none_or(|next| next > after));
            let soon = after.checked_add((24 * 400).hours()).unwrap_or(after);
            let _ = (calendar.moved(after, soon), calendar.systemd_lines(), calendar.cron_line());
        }
        Err(error) => assert!(!error.contains('\n'), "{error}"),
    }
}
