//! systemd's calendar expressions: `Mon..Fri *-*~03/1 2:00,30:15 Europe/Berlin`.
//! Source: systemd.time(7), and what `systemd-analyze calendar` takes.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::field::{Component, Field};
use super::{ALL_WEEKDAYS, Days, Rule, SECOND_US, YEARS};
use crate::config::value;

const MAX_COMPONENTS: usize = 240;

const DAYS: [(&str, &str); 7] = [
    ("monday", "mon"),
    ("tuesday", "tue"),
    ("wednesday", "wed"),
    ("thursday", "thu"),
    ("friday", "fri"),
    ("saturday", "sat"),
    ("sunday", "sun"),
];

/// The rule, and the zone if the text ends in one. The error is a reason only.
pub fn parse(text: &str) -> Result<(Rule, Option<TimeZone>), String> {
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    let (text, zone) = split_zone(text)?;
    if let Some(rule) = shorthand(text) {
        return Ok((rule, zone));
    }
    if let Some(seconds) = text.strip_prefix('@') {
        return Ok((moment(seconds)?, Some(TimeZone::UTC)));
    }
    let mut rule = Rule::daily();
    let mut rest = weekdays(text, &mut rule)?;
    rest = date(rest, &mut rule)?;
    if !rest.is_empty() {
        time(rest, &mut rule)?;
    }
    Ok((rule, zone))
}

fn split_zone(text: &str) -> Result<(&str, Option<TimeZone>), String> {
    let Some((before, name)) = text.rsplit_once(' ') else { return Ok((text, None)) };
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic()) && day_number(name).is_none();
    if !is_name {
        return Ok((text, None));
    }
    let zone = match name.eq_ignore_ascii_case("utc") {
        true => TimeZone::UTC,
        false => value::zone(name)?,
    };
    Ok((before.trim_end(), Some(zone)))
}

fn shorthand(text: &str) -> Option<Rule> {
    let daily = Rule::daily();
    let months = |months: &[u32]| {
        let months = Field::of(months.iter().copied().map(Component::one).collect());
        Rule { months, days: Days::OfMonth(Field::one(1)), ..Rule::daily() }
    };
    let any = |to| Field::any(0, to);
    Some(match text.to_ascii_lowercase().as_str() {
        "minutely" => Rule { hours: any(23), minutes: any(59), ..daily },
        "hourly" => Rule { hours: any(23), ..daily },
        "daily" => daily,
        "weekly" => Rule { weekdays: 1, ..daily },
        "monthly" => Rule { days: Days::OfMonth(Field::one(1)), ..daily },
        "quarterly" => months(&[1, 4, 7, 10]),
        "semiannually" | "semi-annually" | "biannually" | "bi-annually" => months(&[1, 7]),
        "yearly" | "annually" | "anually" => months(&[1]),
        _ => return None,
    })
}

/// A time in seconds since 1970.
fn moment(seconds: &str) -> Result<Rule, String> {
    let wrong = || format!("@{seconds} is no number of seconds since 1970");
    let digits = !seconds.is_empty() && seconds.bytes().all(|byte| byte.is_ascii_digit());
    let number: i64 =
        if digits { seconds.parse().map_err(|_| wrong())? } else { return Err(wrong()) };
    let time = Timestamp::from_second(number).map_err(|_| wrong())?;
    let local = TimeZone::UTC.to_datetime(time);
    let one = |value: i8| Field::one(value.unsigned_abs().into());
    let year = u32::try_from(local.year()).map_err(|_| wrong())?;
    if year > YEARS.1 {
        return Err(format!("@{seconds} is after the year {}", YEARS.1));
    }
    Ok(Rule {
        weekdays: ALL_WEEKDAYS,
        years: Field::one(year),
        months: one(local.month()),
        days: Days::OfMonth(one(local.day())),
        hours: one(local.hour()),
        minutes: one(local.minute()),
        seconds_us: Field::one(u32::from(local.second().unsigned_abs()) * SECOND_US),
    })
}

fn day_number(name: &str) -> Option<u8> {
    let name = name.to_ascii_lowercase();
    let found = DAYS.iter().position(|(long, short)| name == *long || name == *short);
    found.and_then(|day| u8::try_from(day).ok())
}

/// Takes the weekdays off the front. `Mon..Fri`, `Mon-Fri`, `Sat,Sun`, `Mon,`
fn weekdays<'a>(text: &'a str, rule: &mut Rule) -> Result<&'a str, String> {
    if !text.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Ok(text);
    }
    let (list, rest) = text.split_once(' ').unwrap_or((text, ""));
    let list = list.strip_suffix(',').unwrap_or(list);
    let number = |name: &str| {
        day_number(name).ok_or_else(|| format!("{name:?} is no day of the week nor a shorthand"))
    };
    rule.weekdays = 0;
    for item in list.split(',') {
        let (first, last) = match item.split_once("..").or_else(|| item.split_once('-')) {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(item)?, number(item)?),
        };
        if first > last {
            return Err(format!("{item:?} runs backwards: weeks begin on Monday"));
        }
        (first..=last).for_each(|day| rule.weekdays |= 1 << day);
    }
    Ok(rest.trim_start())
}

/// Takes the date off the front, if there is one.
fn date<'a>(text: &'a str, rule: &mut Rule) -> Result<&'a str, String> {
    let (date, rest) = text.split_once(' ').unwrap_or((text, ""));
    if date.is_empty() || date.contains(':') {
        return Ok(text);
    }
    let Some(last) = date.rfind(['-', '~']) else {
        return Err(format!("{date:?} is neither a date such as *-*-01 nor a time such as 02:30"));
    };
    let (front, day) = (&date[..last], &date[last + 1..]);
    let (year, month) = match front.split_once('-') {
        Some((year, month)) => (Some(year), month),
        None => (None, front),
    };
    if let Some(year) = year {
        rule.years = field(year, &Kind::YEAR)?;
    }
    rule.months = field(month, &Kind::MONTH)?;
    rule.days = match date[last..].starts_with('~') {
        true => Days::FromEnd(field(day, &Kind::DAY_FROM_END)?),
        false => Days::OfMonth(field(day, &Kind::DAY)?),
    };
    Ok(rest.trim_start())
}

fn time(text: &str, rule: &mut Rule) -> Result<(), String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (hours, minutes, seconds) = match parts.as_slice() {
        [hours, minutes] => (hours, minutes, None),
        [hours, minutes, seconds] => (hours, minutes, Some(seconds)),
        _ => return Err(format!("{text:?} is no time such as 02:30 or 02:30:15")),
    };
    rule.hours = field(hours, &Kind::HOUR)?;
    rule.minutes = field(minutes, &Kind::MINUTE)?;
    if let Some(seconds) = seconds {
        rule.seconds_us = field(seconds, &Kind::SECOND)?;
    }
    Ok(())
}

/// What a field's numbers are.
struct Kind {
    name: &'static str,
    from: u32,
    to: u32,
    /// How many units make 1: only seconds have parts.
    scale: u32,
    from_end: bool,
}

impl Kind {
    const fn new(name: &'static str, from: u32, to: u32) -> Kind {
        Kind { name, from, to, scale: 1, from_end: false }
    }

    const YEAR: Kind = Kind::new("year", YEARS.0, YEARS.1);
    const MONTH: Kind = Kind::new("month", 1, 12);
    const DAY: Kind = Kind::new("day", 1, 31);
    /// Every month has at least these.
    const DAY_FROM_END: Kind = Kind { from_end: true, ..Kind::new("day from the end", 1, 28) };
    const HOUR: Kind = Kind::new("hour", 0, 23);
    const MINUTE: Kind = Kind::new("minute", 0, 59);
    const SECOND: Kind = Kind { scale: SECOND_US, ..Kind::new("second", 0, 60 * SECOND_US - 1) };
}

/// `*`, or a list of `2`, `2..8`, `2/3` and `2..8/3`.
fn field(text: &str, kind: &Kind) -> Result<Field, String> {
    if text == "*" {
        let to = if kind.from_end { 31 } else { kind.to };
        return Ok(match kind.scale {
            1 => Field::any(kind.from, to),
            step => Field::of(vec![Component { start: 0, stop: to / step * step, step }]),
        });
    }
    if text.split(',').count() > MAX_COMPONENTS {
        return Err(format!("a list has at most {MAX_COMPONENTS} numbers"));
    }
    text.split(',').map(|item| component(item, kind)).collect::<Result<_, _>>().map(Field::of)
}

fn component(text: &str, kind: &Kind) -> Result<Component, String> {
    let (range, step) = match text.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (text, None),
    };
    let (start, stop) = match range.split_once("..") {
        Some((start, stop)) => (start, Some(stop)),
        None => (range, None),
    };
    let start = bounded(start, kind)?;
    let stop = stop.map(|stop| bounded(stop, kind)).transpose()?;
    let step = step.map(|step| number(step, kind)).transpose()?;
    if step == Some(0) {
        return Err(format!("{text:?} repeats every 0, which never ends"));
    }
    match (stop, step) {
        (None, None) => Ok(Component::one(start)),
        (Some(stop), _) if stop == start => Ok(Component::one(start)),
        (Some(stop), _) if stop < start => Err(format!("{text:?} runs backwards")),
        (Some(stop), None) if start + kind.scale > stop => {
            Err(format!("{text:?} is shorter than the second it repeats after"))
        }
        (Some(stop), step) => {
            let step = step.unwrap_or(kind.scale);
            Ok(Component { start, stop: stop - (stop - start) % step, step })
        }
        (None, Some(step)) => repeated(text, start, step, kind),
    }
}

/// `2/3`: on to the end of the field; of days from the end, towards the last.
fn repeated(text: &str, start: u32, step: u32, kind: &Kind) -> Result<Component, String> {
    let room = if kind.from_end { start - kind.from } else { kind.to - start };
    if step > room {
        return Err(format!("{text:?} never repeats: the {} ends before", kind.name));
    }
    Ok(match kind.from_end {
        true => Component { start: start - room / step * step, stop: start, step },
        false => Component { start, stop: start + room / step * step, step },
    })
}

fn bounded(text: &str, kind: &Kind) -> Result<u32, String> {
    let value = number(text, kind)?;
    let value = match value {
        // two digits of a year
        0..70 if kind.from == YEARS.0 => value + 2000,
        70..100 if kind.from == YEARS.0 => value + 1900,
        _ => value,
    };
    if value < kind.from || value > kind.to {
        let to = kind.to / kind.scale;
        return Err(format!("{} {text:?} is not between {} and {to}", kind.name, kind.from));
    }
    Ok(value)
}

/// Digits; of seconds with up to six after a point.
fn number(text: &str, kind: &Kind) -> Result<u32, String> {
    let wrong = || format!("{} {text:?} is no number", kind.name);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, part) = match text.split_once('.') {
        Some((whole, part)) if kind.scale > 1 => (whole, part),
        _ => (text, "0"),
    };
    if !digits(whole) || !digits(part) || part.len() > 6 {
        return Err(wrong());
    }
    let part: u32 = format!("{part:0<6}").parse().map_err(|_| wrong())?;
    let whole: u32 = whole.parse().map_err(|_| wrong())?;
    whole
        .checked_mul(kind.scale)
        .and_then(|whole| whole.checked_add(if kind.scale > 1 { part } else { 0 }))
        .ok_or_else(wrong)
}
