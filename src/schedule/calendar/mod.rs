//! Calendar expressions: when something is to happen, as systemd and as cron
//! write it, in a time zone.
//!
//! | file | |
//! |---|---|
//! | `systemd`, `cron` | from text to rules, one file a syntax |
//! | `field` | the numbers that one field allows |
//!
//! Times of a rule are local times. When clocks are set forward, a local time
//! that is skipped counts at the first moment after the change; when they are
//! set back, one that comes twice counts the first time only.

mod cron;
mod field;
mod systemd;

use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Span, Timestamp, ToSpan};

use self::field::{Field, first_from};

/// Longer texts are refused.
const MAX_LENGTH_BYTES: usize = 1000;
/// As systemd: no expression means a time outside these years.
const YEARS: (u32, u32) = (1970, 2199);
const SECOND_US: u32 = 1_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    Systemd,
    Cron,
}

/// One expression with the zone that its times are in.
#[derive(Clone, Debug, PartialEq)]
pub struct Calendar {
    text: String,
    syntax: Syntax,
    rules: Vec<Rule>,
    zone: TimeZone,
}

/// Local times that match every field.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    /// Bit 0 is Monday.
    weekdays: u8,
    years: Field,
    months: Field,
    days: Days,
    hours: Field,
    minutes: Field,
    seconds_us: Field,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Days {
    OfMonth(Field),
    /// 1 is the last day of the month.
    FromEnd(Field),
}

const ALL_WEEKDAYS: u8 = 0b111_1111;
const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

impl Calendar {
    /// `zone` counts where the text names none. Five fields, or an `@` with a
    /// word, are cron's; all else is systemd's. The error is one sentence.
    pub fn parse(text: &str, zone: &TimeZone) -> Result<Calendar, String> {
        let text = text.trim();
        if text.len() > MAX_LENGTH_BYTES {
            return Err(format!("a calendar expression has at most {MAX_LENGTH_BYTES} bytes"));
        }
        let wrong = |reason| format!("{text:?} is no calendar expression: {reason}");
        if text.contains(|c: char| c.is_control() && c != '\t') {
            return Err(wrong("it is more than one line of text".to_owned()));
        }
        let (syntax, rules, own_zone) = match cron::is_cron(text) {
            true => (Syntax::Cron, cron::parse(text).map_err(wrong)?, None),
            false => {
                let (rule, own_zone) = systemd::parse(text).map_err(wrong)?;
                (Syntax::Systemd, vec![rule], own_zone)
            }
        };
        let zone = own_zone.unwrap_or_else(|| zone.clone());
        Ok(Calendar { text: text.to_owned(), syntax, rules, zone })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn syntax(&self) -> Syntax {
        self.syntax
    }

    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The first time after `after`, to the microsecond; nothing if there is
    /// none before the year 2200.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        self.rules.iter().filter_map(|rule| rule.next(after, &self.zone)).min()
    }

    /// The moments from `after` until `until` at which it happens only because
    /// clocks were set forward over a time that it names.
    pub fn moved(&self, after: Timestamp, until: Timestamp) -> Vec<Timestamp> {
        let happens = |rule: &Rule, change: &Timestamp| {
            let local = self.zone.to_datetime(*change);
            let just_before = change.checked_sub(1.microsecond()).ok();
            rule.first_from(local) != Some(local)
                && just_before.and_then(|before| rule.next(before, &self.zone)) == Some(*change)
        };
        let changes = self.zone.following(after).map(|change| change.timestamp());
        changes
            .take_while(|change| *change <= until)
            .filter(|change| self.rules.iter().any(|rule| happens(rule, change)))
            .collect()
    }

    /// The same times as systemd writes them, without a zone: one or two lines.
    pub fn systemd_lines(&self) -> Vec<String> {
        self.rules.iter().map(Rule::systemd_line).collect()
    }

    /// The same times as a line of cron, without a zone; an error where cron
    /// cannot say them.
    pub fn cron_line(&self) -> Result<String, String> {
        match (self.syntax, self.rules.as_slice()) {
            (Syntax::Cron, _) => Ok(cron::expand(&self.text)),
            (Syntax::Systemd, rules) => rules.iter().map(Rule::cron_line).collect(),
        }
    }
}

impl Rule {
    /// Every day at midnight.
    fn daily() -> Rule {
        Rule {
            weekdays: ALL_WEEKDAYS,
            years: Field::any(YEARS.0, YEARS.1),
            months: Field::any(1, 12),
            days: Days::OfMonth(Field::any(1, 31)),
            hours: Field::one(0),
            minutes: Field::one(0),
            seconds_us: Field::one(0),
        }
    }

    fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let microsecond = 1.microsecond();
        // on from the local time, not the local time later on: that may be beyond a gap
        let mut from = whole_microseconds(zone.to_datetime(after)).checked_add(microsecond).ok()?;
        loop {
            let local = self.first_from(from)?;
            from = match zone.to_ambiguous_timestamp(local).offset() {
                AmbiguousOffset::Unambiguous { offset } => {
                    return offset.to_timestamp(local).ok();
                }
                AmbiguousOffset::Gap { after: offset, .. } => {
                    // by the later offset a skipped time lies before the change
                    let before = offset.to_timestamp(local).ok()?;
                    let change = zone.following(before).next()?.timestamp();
                    if change > after {
                        return Some(change);
                    }
                    local.checked_add(microsecond).ok()?
                }
                AmbiguousOffset::Fold { before: offset, .. } => {
                    let first = offset.to_timestamp(local).ok()?;
                    if first > after {
                        return Some(first);
                    }
                    // what comes a second time is over when the first pass would have been
                    offset.to_datetime(zone.following(first).next()?.timestamp())
                }
            };
        }
    }

    /// The first local time that matches and is not before `from`.
    fn first_from(&self, from: DateTime) -> Option<DateTime> {
        let fields = [&self.hours, &self.minutes, &self.seconds_us];
        let time = from.time();
        let second_us = u32::from(time.second().unsigned_abs()) * SECOND_US
            + time.subsec_nanosecond().unsigned_abs() / 1000;
        let start = [
            u32::from(time.hour().unsigned_abs()),
            u32::from(time.minute().unsigned_abs()),
            second_us,
        ];
        let today = first_from(fields, start).filter(|_| self.matches(from.date()));
        if let Some(found) = today {
            return at(from.date(), found);
        }
        let date = self.first_date(from.date().tomorrow().ok()?)?;
        at(date, first_from(fields, [0; 3])?)
    }

    fn first_date(&self, from: Date) -> Option<Date> {
        let mut month = from;
        loop {
            let (year, number) = (u32::try_from(month.year()).ok()?, month.month().unsigned_abs());
            let no_more = Field::one(0);
            let found = first_from([&self.years, &self.months, &no_more], [year, number.into(), 0]);
            let [year, number, _] = found?;
            let first = Date::new(year.try_into().ok()?, number.try_into().ok()?, 1).ok()?;
            let last = first.last_of_month();
            let mut day = first.max(from);
            while day <= last {
                if self.matches_day(day) {
                    return Some(day);
                }
                day = day.tomorrow().ok()?;
            }
            month = last.tomorrow().ok()?;
        }
    }

    fn matches(&self, date: Date) -> bool {
        u32::try_from(date.year()).is_ok_and(|year| self.years.contains(year))
            && self.months.contains(date.month().unsigned_abs().into())
            && self.matches_day(date)
    }

    fn matches_day(&self, date: Date) -> bool {
        let day = u32::from(date.day().unsigned_abs());
        let length = u32::from(date.days_in_month().unsigned_abs());
        let matches = match &self.days {
            Days::OfMonth(days) => days.contains(day),
            Days::FromEnd(days) => days.contains(length - day + 1),
        };
        matches && self.weekdays & bit(date.weekday()) != 0
    }

    /// `Mon,Fri *-*-01..07 02:30:00`
    fn systemd_line(&self) -> String {
        let names = WEEKDAYS.iter().enumerate().filter(|(day, _)| self.weekdays & (1 << day) != 0);
        let weekdays = match self.weekdays {
            ALL_WEEKDAYS => String::new(),
            _ => names.map(|(_, name)| *name).collect::<Vec<_>>().join(",") + " ",
        };
        let (separator, days) = match &self.days {
            Days::OfMonth(days) => ("-", days),
            Days::FromEnd(days) => ("~", days),
        };
        format!(
            "{weekdays}{}-{}{separator}{} {}:{}:{}",
            self.years.text("..", 4, 1),
            self.months.text("..", 2, 1),
            days.text("..", 2, 1),
            self.hours.text("..", 2, 1),
            self.minutes.text("..", 2, 1),
            self.seconds_us.text("..", 2, SECOND_US),
        )
    }

    fn cron_line(&self) -> Result<String, String> {
        let cannot = |what| Err(format!("cron cannot say {what}"));
        let days = match &self.days {
            Days::OfMonth(days) => days,
            Days::FromEnd(_) => return cannot("days from the end of a month"),
        };
        if !self.seconds_us.is_just(0) {
            return cannot("seconds");
        }
        if !self.years.any {
            return cannot("years");
        }
        if self.weekdays != ALL_WEEKDAYS && !days.any {
            return cannot("a day of the month that must also be a certain day of the week");
        }
        // cron counts from Sunday
        let names = (0..7u8).filter(|day| self.weekdays & (1 << ((day + 6) % 7)) != 0);
        let weekdays = match self.weekdays {
            ALL_WEEKDAYS => "*".to_owned(),
            _ => names.map(|day| day.to_string()).collect::<Vec<_>>().join(","),
        };
        let text = |field: &Field| field.text("-", 1, 1);
        let [minutes, hours] = [&self.minutes, &self.hours].map(text);
        Ok(format!("{minutes} {hours} {} {} {weekdays}", text(days), text(&self.months)))
    }
}

fn bit(weekday: Weekday) -> u8 {
    1 << weekday.to_monday_zero_offset()
}

fn at(date: Date, [hour, minute, second_us]: [u32; 3]) -> Option<DateTime> {
    let time = Span::new()
        .try_hours(hour)
        .and_then(|span| span.try_minutes(minute))
        .and_then(|span| span.try_microseconds(second_us));
    date.to_datetime(jiff::civil::Time::midnight()).checked_add(time.ok()?).ok()
}

fn whole_microseconds(time: DateTime) -> DateTime {
    let whole = time.subsec_nanosecond() / 1000 * 1000;
    time.with().subsec_nanosecond(whole).build().unwrap_or(time)
}
