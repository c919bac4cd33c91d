//! What is kept: rules of a period and a limit, tags, and a floor. And what
//! period of the calendar a time falls into.

use std::fmt;

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned};

/// What stays. A policy without rules and tags lets only what expired go.
#[derive(Clone, Debug)]
pub struct Policy {
    pub rules: Vec<Rule>,
    /// Snapshots with any of these tags stay.
    pub keep_tags: Vec<String>,
    /// So many good snapshots of each group stay whatever the rules say, and the
    /// newest. With 0 neither does.
    pub floor: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Policy { rules: Vec::new(), keep_tags: Vec::new(), floor: 1 }
    }
}

impl Policy {
    /// Whether nothing goes but what expired.
    pub fn only_expires(&self) -> bool {
        self.rules.is_empty() && self.keep_tags.is_empty()
    }
}

/// One snapshot of each period, as far as the limit reaches.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub period: Period,
    pub limit: Limit,
}

/// How time is cut into slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// Each snapshot is a slot of its own.
    Each,
    Hour,
    Day,
    /// Monday to Sunday, ISO 8601.
    Week,
    Month,
    Year,
}

impl Period {
    pub const ALL: [Period; 6] =
        [Period::Each, Period::Hour, Period::Day, Period::Week, Period::Month, Period::Year];

    /// The word that its rules are called by, `daily`; none for single snapshots.
    pub fn adverb(self) -> Option<&'static str> {
        match self {
            Period::Each => None,
            Period::Hour => Some("hourly"),
            Period::Day => Some("daily"),
            Period::Week => Some("weekly"),
            Period::Month => Some("monthly"),
            Period::Year => Some("yearly"),
        }
    }

    /// The name of the slot that a time falls into; two times are in one slot
    /// exactly when their names are the same. None for [`Period::Each`].
    ///
    /// An hour that a change of daylight saving repeats is two slots: the names
    /// of hours carry the offset.
    pub fn slot(self, time: &Zoned) -> Option<String> {
        let (year, month) = (time.year(), time.month());
        Some(match self {
            Period::Each => return None,
            Period::Hour => format!("{} {:02}h{}", time.date(), time.hour(), time.offset()),
            Period::Day => time.date().to_string(),
            Period::Week => {
                let week = time.date().iso_week_date();
                format!("{:04}-W{:02}", week.year(), week.week())
            }
            Period::Month => format!("{year:04}-{month:02}"),
            Period::Year => format!("{year:04}"),
        })
    }
}

/// How far a rule reaches.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// So many slots that hold something.
    Count(u32),
    /// All slots since so long before now.
    Within(Span),
}

impl fmt::Display for Rule {
    /// As its option is typed: `keep-daily 7`, `keep-within-weekly 3mo`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.limit, self.period.adverb()) {
            (Limit::Count(count), None) => write!(f, "keep-last {count}"),
            (Limit::Count(count), Some(adverb)) => write!(f, "keep-{adverb} {count}"),
            (Limit::Within(span), None) => write!(f, "keep-within {span:#}"),
            (Limit::Within(span), Some(adverb)) => write!(f, "keep-within-{adverb} {span:#}"),
        }
    }
}

/// A time in ms since 1970 on the calendar of `zone`; beyond the calendar's end,
/// its end.
pub(super) fn on_calendar(ms: u64, zone: &TimeZone) -> Zoned {
    let time = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    time.unwrap_or(Timestamp::MAX).to_zoned(zone.clone())
}

/// The moment `span` before `now`, in ms since 1970; the beginning of time when
/// that is before it.
pub(super) fn before(now_ms: u64, span: Span, zone: &TimeZone) -> u64 {
    let then = on_calendar(now_ms, zone).checked_sub(span);
    then.ok().and_then(|then| u64::try_from(then.timestamp().as_millisecond()).ok()).unwrap_or(0)
}
