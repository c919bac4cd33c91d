//! cron's lines: minute, hour, day of the month, month, day of the week, as
//! Vixie's cron and its heirs read them, in crontab(5).
//!
//! If both day fields are restricted, a day matches that matches one of them. A
//! field that begins with `*` counts as not restricted; `*/2` does, too.

use super::field::{Component, Field};
use super::{ALL_WEEKDAYS, Days, Rule};

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Five fields, or `@` with a word: systemd has `@` only with a number.
pub fn is_cron(text: &str) -> bool {
    text.split_ascii_whitespace().count() == 5
        || text.strip_prefix('@').is_some_and(|word| word.starts_with(|c: char| c.is_alphabetic()))
}

/// The five fields of a shorthand; other text with single spaces.
pub fn expand(text: &str) -> String {
    match shorthand(text) {
        Some(fields) => fields.to_owned(),
        None => text.split_ascii_whitespace().collect::<Vec<_>>().join(" "),
    }
}

fn shorthand(text: &str) -> Option<&'static str> {
    Some(match text.to_ascii_lowercase().as_str() {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        _ => return None,
    })
}

/// One rule, or two of which either may match. The error is a reason only.
pub fn parse(text: &str) -> Result<Vec<Rule>, String> {
    let text = match shorthand(text) {
        Some(fields) => fields,
        None if text.eq_ignore_ascii_case("@reboot") => {
            return Err("@reboot names no time".to_owned());
        }
        None if text.starts_with('@') => {
            let known = "@hourly, @daily, @weekly, @monthly and @yearly";
            return Err(format!("the shorthands are {known}"));
        }
        None => text,
    };
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let [minute, hour, day, month, weekday] = fields.as_slice() else {
        return Err("a line of cron has five fields".to_owned());
    };
    let rule = Rule {
        minutes: field(minute, &Kind { name: "minute", from: 0, to: 59, names: &[] })?,
        hours: field(hour, &Kind { name: "hour", from: 0, to: 23, names: &[] })?,
        months: field(month, &Kind { name: "month", from: 1, to: 12, names: &MONTHS })?,
        days: Days::OfMonth(field(day, &Kind { name: "day", from: 1, to: 31, names: &[] })?),
        weekdays: weekdays(weekday)?,
        ..Rule::daily()
    };
    let either = !day.starts_with('*') && !weekday.starts_with('*');
    if !either {
        return Ok(vec![rule]);
    }
    let by_day = Rule { weekdays: ALL_WEEKDAYS, ..rule.clone() };
    let by_weekday = Rule { days: Days::OfMonth(Field::any(1, 31)), ..rule };
    Ok(vec![by_day, by_weekday])
}

struct Kind {
    name: &'static str,
    from: u32,
    to: u32,
    /// Of the numbers from `from` on.
    names: &'static [&'static str],
}

/// Bit 0 is Monday; in the text Sunday is 0 and 7.
fn weekdays(text: &str) -> Result<u8, String> {
    let field = field(text, &Kind { name: "day of the week", from: 0, to: 7, names: &DAYS })?;
    let days = (0..=7).filter(|day| field.contains(*day));
    Ok(days.fold(0, |bits, day| bits | 1 << ((day + 6) % 7)))
}

fn field(text: &str, kind: &Kind) -> Result<Field, String> {
    match text {
        "*" => Ok(Field::any(kind.from, kind.to)),
        _ => text
            .split(',')
            .map(|item| component(item, kind))
            .collect::<Result<_, _>>()
            .map(Field::of),
    }
}

/// `2`, `2-8`, `2-8/3`, `*/3`
fn component(text: &str, kind: &Kind) -> Result<Component, String> {
    let (range, step) = match text.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (text, None),
    };
    let (start, stop) = match (range, range.split_once('-')) {
        ("*", _) => (kind.from, kind.to),
        (_, Some((start, stop))) => (number(start, kind)?, number(stop, kind)?),
        // some crons take it for 2-59/3, others for 2
        (_, None) if step.is_some() => {
            return Err(format!("{text:?} has a step but no range: write {range}-{}/…", kind.to));
        }
        (_, None) => (number(range, kind)?, number(range, kind)?),
    };
    if start > stop {
        return Err(format!("{text:?} runs backwards"));
    }
    let step = match step {
        None => 1,
        Some(step) => match step.parse::<u32>() {
            Ok(step) if step > 0 && !text.contains('+') => step,
            _ => return Err(format!("step {step:?} is no number above 0")),
        },
    };
    // a step beyond the range leaves its start
    let stop = stop - (stop - start) % step;
    Ok(Component { start, stop, step: if start == stop { 1 } else { step } })
}

fn number(text: &str, kind: &Kind) -> Result<u32, String> {
    let name = text.to_ascii_lowercase();
    if let Some(place) = kind.names.iter().position(|known| *known == name) {
        return Ok(kind.from + u32::try_from(place).unwrap_or(0));
    }
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u32>() {
        Ok(value) if digits && (kind.from..=kind.to).contains(&value) => Ok(value),
        Ok(_) if digits => {
            Err(format!("{} {text:?} is not between {} and {}", kind.name, kind.from, kind.to))
        }
        _ => Err(format!("{} {text:?} is no number", kind.name)),
    }
}
