//! Sizes, times, durations and pairs of paths, as people type them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned};

pub use crate::config::value::{size, span, zone};

/// The least rate: below it, what is transferred at once counts as lost before it has arrived.
const LEAST_RATE: u64 = 128 << 10;

/// Bytes a second.
pub fn rate(text: &str) -> Result<u64, String> {
    match size(text.strip_suffix("/s").unwrap_or(text))? {
        rate if rate < LEAST_RATE => Err("the least is 128K".to_owned()),
        rate => Ok(rate),
    }
}

/// A moment in ms since 1970: RFC 3339, or a date, or a date and time of this
/// machine's zone.
pub fn time(text: &str) -> Result<u64, String> {
    time_in(text, &TimeZone::system())
}

fn time_in(text: &str, zone: &TimeZone) -> Result<u64, String> {
    let wrong =
        || format!("{text:?} is no time: write 2026-01-31, \"2026-01-31 17:30\" or RFC 3339");
    let zoned = || text.parse::<Zoned>().ok().map(|zoned| zoned.timestamp());
    let local =
        || text.parse::<DateTime>().ok()?.to_zoned(zone.clone()).ok().map(|z| z.timestamp());
    let moment = text.parse::<Timestamp>().ok().or_else(zoned).or_else(local);
    moment.and_then(|moment| u64::try_from(moment.as_millisecond()).ok()).ok_or_else(wrong)
}

/// The moment `span` after `from`, both in ms since 1970.
pub fn after(from: u64, span: Span) -> Option<u64> {
    let from = Timestamp::from_millisecond(i64::try_from(from).ok()?).ok()?;
    let then = from.to_zoned(TimeZone::system()).checked_add(span).ok()?;
    u64::try_from(then.timestamp().as_millisecond()).ok()
}

/// Name of this machine's time zone, or its offset at the moment.
pub fn zone_name() -> String {
    name_of_zone(&TimeZone::system())
}

/// Name of a time zone, or its offset at the moment.
pub fn name_of_zone(zone: &TimeZone) -> String {
    match zone.iana_name() {
        Some(name) => name.to_owned(),
        None => zone.to_offset(Timestamp::now()).to_string(),
    }
}

/// `FROM=TO`
pub fn pair_of_paths(text: &OsStr) -> Result<(PathBuf, PathBuf), String> {
    let bytes = text.as_bytes();
    let middle = bytes.iter().position(|&byte| byte == b'=');
    let (from, to) = match middle {
        Some(middle) => (&bytes[..middle], &bytes[middle + 1..]),
        None => return Err("write FROM=TO".to_owned()),
    };
    let path = |bytes: &[u8]| PathBuf::from(OsString::from_vec(bytes.to_vec()));
    let (from, to) = (path(from), path(to));
    match from.is_absolute() && to.is_absolute() {
        true => Ok((from, to)),
        false => Err("both paths must be absolute".to_owned()),
    }
}

/// A zstd level, or `off`, which is 0.
pub fn compression(text: &str) -> Result<i32, String> {
    let level =
        if text == "off" { Some(0) } else { text.parse().ok().filter(|l| (1..=22).contains(l)) };
    level.ok_or_else(|| format!("{text:?} is no level: write 1 to 22, or off"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_in_powers_of_1024() {
        for (text, bytes) in
            [("0", 0), ("100", 100), ("64K", 65536), ("1.5 MiB", 1_572_864), ("2gb", 2 << 30)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "x", "-1", "1X", "1..5M", "99999999P"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_have_bounds() {
        assert_eq!(rate("500K"), Ok(512_000));
        assert_eq!(rate("2MiB/s"), Ok(2 << 20));
        assert!(rate("127K").is_err() && rate("fast").is_err());
    }

    #[test]
    fn times_are_of_the_zone_unless_they_say_otherwise() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        for (text, expected) in [
            ("1970-01-01T00:00:01Z", 1000),
            ("1970-01-01 02:00:01", 1000),
            ("1970-01-01T02:00:01", 1000),
            ("1970-01-01T05:00:00+03:00", 7_200_000),
            ("1970-01-02", 22 * 3_600_000),
        ] {
            assert_eq!(time_in(text, &zone), Ok(expected), "{text}");
        }
        for text in ["", "yesterday", "1960-01-01", "2026-13-01"] {
            assert!(time_in(text, &zone).is_err(), "{text}");
        }
    }

    #[test]
    fn lengths_of_time_are_calendar_units() {
        for text in ["30d", "12h", "1y 6mo", "2 weeks"] {
            assert!(span(text).is_ok(), "{text}");
        }
        for text in ["", "soon", "-3d", "0d"] {
            assert!(span(text).is_err(), "{text}");
        }
        assert_eq!(after(0, span("36h").unwrap()), Some(36 * 3_600_000));
    }

    #[test]
    fn zones_are_known_by_name() {
        assert_eq!(name_of_zone(&zone("America/New_York").unwrap()), "America/New_York");
        assert_eq!(name_of_zone(&zone("UTC").unwrap()), "UTC");
        assert!(zone("Europe/Berlinn").is_err() && zone("").is_err());
    }

    #[test]
    fn pairs_are_of_absolute_paths() {
        let pair = pair_of_paths(OsStr::new("/mnt/snap=/home")).unwrap();
        assert_eq!(pair, ("/mnt/snap".into(), "/home".into()));
        assert!(pair_of_paths(OsStr::new("/mnt")).is_err());
        assert!(pair_of_paths(OsStr::new("a=/b")).is_err());
    }

    #[test]
    fn compression_is_a_level_or_off() {
        assert_eq!(compression("off"), Ok(0));
        assert_eq!(compression("3"), Ok(3));
        assert!(compression("0").is_err() && compression("23").is_err());
    }
}
