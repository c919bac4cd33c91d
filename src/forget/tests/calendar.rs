//! Hours, days, weeks, months and years where the calendar is not regular.

use super::*;

/// Clocks go back at 03:00 in Berlin on 2026-10-25: two hours are called 02, and
/// they are two.
#[test]
fn a_repeated_hour_is_two_slots() {
    let lines = "
        - 2026-10-25T01:10+02:00
        + 2026-10-25T01:50+02:00
        - 2026-10-25T02:10+02:00
        + 2026-10-25T02:50+02:00
        - 2026-10-25T02:10+01:00
        + 2026-10-25T02:50+01:00
        + 2026-10-25T03:10+01:00";
    check("hourly 4", "2026-10-25T12:00", &berlin(), lines);
    let lines = "
        + 2026-11-01T01:50-04:00
        + 2026-11-01T01:10-05:00
        + 2026-11-01T02:10-05:00";
    check("hourly 3", "2026-11-01T12:00", &new_york(), lines);
    check("within-hourly 1d", "2026-11-01T12:00", &new_york(), lines);
}

/// Clocks go forward at 02:00 in Berlin on 2026-03-29: 01:59 is followed by 03:00.
#[test]
fn a_missing_hour_is_no_slot() {
    let lines = "
        - 2026-03-29T00:30+01:00
        + 2026-03-29T01:30+01:00
        - 2026-03-29T03:10+02:00
        + 2026-03-29T03:30+02:00";
    check("hourly 2", "2026-03-29T12:00", &berlin(), lines);
    let lines = "
        - 2026-03-08T00:30-05:00
        + 2026-03-08T01:59-05:00
        + 2026-03-08T03:00-04:00";
    check("hourly 2", "2026-03-08T12:00", &new_york(), lines);
}

#[test]
fn days_of_23_and_25_hours_are_one_day_each() {
    let lines = "
        + 2026-03-28T23:59+01:00
        - 2026-03-29T00:00+01:00
        + 2026-03-29T23:59+02:00
        - 2026-03-30T00:00+02:00
        + 2026-03-30T00:01+02:00";
    check("daily 3", "2026-03-30T12:00", &berlin(), lines);
    let lines = "
        + 2026-10-24T23:59+02:00
        - 2026-10-25T00:00+02:00
        + 2026-10-25T23:59+01:00
        + 2026-10-26T00:00+01:00";
    check("daily 3", "2026-10-26T12:00", &berlin(), lines);
}

/// A day within is a day of the calendar, and not 24 hours.
#[test]
fn within_days_follows_the_clock_on_the_wall() {
    let lines = "
        - 2026-10-24T11:59+02:00
        + 2026-10-24T12:00+02:00
        + 2026-10-25T12:00+01:00";
    check("within 1d", "2026-10-25T12:00+01:00", &berlin(), lines);
    let lines = "
        - 2026-10-24T12:59+02:00
        + 2026-10-24T13:00+02:00
        + 2026-10-25T12:00+01:00";
    check("within 24h", "2026-10-25T12:00+01:00", &berlin(), lines);
}

/// The same moments are of other days elsewhere.
#[test]
fn the_zone_decides_what_a_day_is() {
    let lines = "
        - 2026-11-18T22:30Z
        - 2026-11-18T23:30Z
        + 2026-11-19T22:30Z";
    check("daily 1", "2026-11-20T00:00Z", &utc(), lines);
    let lines = "
        + 2026-11-18T22:30Z
        - 2026-11-18T23:30Z
        + 2026-11-19T22:30Z";
    check("daily 2", "2026-11-20T00:00Z", &berlin(), lines);
    let lines = "
        - 2026-11-18T22:30Z
        + 2026-11-18T23:30Z
        + 2026-11-19T22:30Z";
    check("daily 2", "2026-11-20T00:00Z", &utc(), lines);
}

/// 2026 has 53 weeks; its last ends on Sunday, 2027-01-03.
#[test]
fn weeks_go_on_across_the_year() {
    let lines = "
        - 2026-12-26T02:00
        + 2026-12-27T02:00
        - 2026-12-28T02:00
        - 2026-12-31T02:00
        - 2027-01-01T02:00
        + 2027-01-03T02:00
        + 2027-01-04T02:00";
    let said = check("weekly 3", "2027-01-05T00:00", &utc(), lines);
    assert!(said[5].contains("2026-W53") && said[6].contains("2027-W01"), "{said:?}");
    let lines = "
        + 2024-12-29T02:00
        - 2024-12-30T02:00
        + 2025-01-05T02:00
        + 2025-01-06T02:00";
    let said = check("weekly 3", "2025-01-06T12:00", &utc(), lines);
    assert!(said[0].contains("2024-W52") && said[2].contains("2025-W01"), "{said:?}");
}

#[test]
fn months_and_years_end_where_the_zone_says() {
    let lines = "
        + 2024-02-29T23:59
        - 2024-03-01T00:00
        + 2024-03-31T23:59
        + 2024-04-01T00:00";
    check("monthly 3", "2024-04-02T00:00", &berlin(), lines);
    let lines = "
        + 2025-12-31T22:59Z
        - 2025-12-31T23:00Z
        + 2026-12-31T22:59Z
        + 2026-12-31T23:00Z";
    check("yearly 3", "2027-01-02T00:00Z", &berlin(), lines);
    let lines = "
        - 2025-12-31T22:59Z
        + 2025-12-31T23:00Z
        - 2026-12-31T22:59Z
        + 2026-12-31T23:00Z";
    check("yearly 3", "2027-01-02T00:00Z", &utc(), lines);
}

/// A day that the zone left out, and one whose end was put off past midnight.
#[test]
fn days_that_begin_twice_or_never_are_counted_once() {
    let apia = TimeZone::get("Pacific/Apia").unwrap();
    let lines = "
        + 2011-12-29T23:59-10:00
        + 2011-12-31T00:00+14:00
        + 2012-01-01T00:00+14:00";
    check("daily 3", "2012-01-01T12:00+14:00", &apia, lines);
    // until 2011 clocks in St John's went back at 00:01, to 23:01 of the day before
    let newfoundland = TimeZone::get("America/St_Johns").unwrap();
    let lines = "
        - 2010-11-06T23:30-02:30
        + 2010-11-06T23:30-03:30
        + 2010-11-07T12:00-03:30";
    check("daily 2", "2010-11-07T13:00-03:30", &newfoundland, lines);
}
