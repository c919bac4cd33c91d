//! How things look in print: sizes, durations, times, paths, tables, JSON lines.
//! Nothing here prints.

use std::borrow::Cow;
use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};

use crate::id::hex;

/// `1.2 MiB`; whole bytes below 1 KiB.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `86,572`
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 file`, `2 files`
pub fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// `0.4 s`, `3 min 05 s`, `2 h 07 min`
pub fn duration(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0..60 => format!("{}.{} s", seconds, milliseconds % 1000 / 100),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// `12 s`, `3 min`, `7 h`, `5 d`: how long ago something was.
pub fn age(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", count(seconds / 86_400)),
    }
}

fn timestamp(ms: u64) -> Timestamp {
    i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or_default()
}

/// `2026-11-21 02:04:54` in `zone`.
pub fn time(ms: u64, zone: &TimeZone) -> String {
    timestamp(ms).to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// `2026-11-21 02:04` in `zone`.
pub fn minute(ms: u64, zone: &TimeZone) -> String {
    timestamp(ms).to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M").to_string()
}

/// The same as `time` of seconds since 1970, which may be before that.
pub fn time_of(seconds: i64, zone: &TimeZone) -> String {
    match Timestamp::from_second(seconds) {
        Ok(time) => time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => format!("@{seconds}"),
    }
}

/// RFC 3339 in UTC, for JSON.
pub fn rfc3339(ms: u64) -> String {
    timestamp(ms).to_string()
}

/// The same of a file's time; `@seconds` where the calendar ends.
pub fn rfc3339_of(seconds: i64, nanoseconds: u32) -> String {
    let nanoseconds = i32::try_from(nanoseconds).unwrap_or(0);
    // Before 1970 the calendar crate counts both parts downwards.
    let time = Timestamp::from_second(seconds).ok().and_then(|time| {
        time.checked_add(jiff::SignedDuration::from_nanos(i64::from(nanoseconds))).ok()
    });
    time.map_or_else(|| format!("@{seconds}"), |time| time.to_string())
}

/// Whether a terminal would act on it, or show something else than is there.
fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A sentence without anything a terminal would act on.
pub fn sentence(text: &str) -> Cow<'_, str> {
    if !text.contains(is_deceptive) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match is_deceptive(c) {
            true => safe.extend(c.escape_default()),
            false => safe.push(c),
        }
    }
    Cow::Owned(safe)
}

/// A path in one line of text that can be told from every other: bytes that
/// are not UTF-8 as `\xff`, control characters as `\n` or `\u{1b}`, `\` as `\\`.
pub fn path(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(|c| is_deceptive(c) || c == '\\') => Cow::Borrowed(text),
        _ => Cow::Owned(escaped(bytes)),
    }
}

fn escaped(bytes: &[u8]) -> String {
    let mut safe = String::with_capacity(bytes.len() + 8);
    for piece in bytes.utf8_chunks() {
        for c in piece.valid().chars() {
            match is_deceptive(c) || c == '\\' {
                true => safe.extend(c.escape_default()),
                false => safe.push(c),
            }
        }
        for byte in piece.invalid() {
            let _ = write!(safe, "\\x{byte:02x}");
        }
    }
    safe
}

/// Puts a path into a JSON object: as text under `name`, and as hex under
/// `<name>_hex` as well where the text cannot hold it.
pub fn json_path(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    object.insert(name.to_owned(), String::from_utf8_lossy(bytes).into());
    if std::str::from_utf8(bytes).is_err() {
        object.insert(format!("{name}_hex"), hex(bytes).into());
    }
}

/// One line of JSON output: an object whose first member says what it is.
pub fn json_line(kind: &str, members: Value) -> String {
    let mut object = Map::new();
    object.insert("type".to_owned(), kind.into());
    if let Value::Object(members) = members {
        object.extend(members);
    }
    Value::Object(object).to_string()
}

/// A path with a reason or note.
pub fn json_remark(path: &[u8], name: &str, text: &str) -> Value {
    let mut object = Map::new();
    json_path(&mut object, "path", path);
    object.insert(name.to_owned(), json!(text));
    Value::Object(object)
}

/// Columns of text under a heading, as wide as they must be.
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

struct Column {
    heading: &'static str,
    right: bool,
}

impl Table {
    /// Headings that begin with `>` are of columns aligned to the right.
    pub fn new(headings: &[&'static str]) -> Table {
        let column = |heading: &&'static str| Column {
            heading: heading.trim_start_matches('>'),
            right: heading.starts_with('>'),
        };
        Table { columns: headings.iter().map(column).collect(), rows: Vec::new() }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table's lines; columns that are empty throughout are left out.
    pub fn lines(&self) -> Vec<String> {
        let cell = |row: &'_ Vec<String>, column: usize| -> usize {
            row.get(column).map_or(0, |cell| cell.chars().count())
        };
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|column| {
                let widest = self.rows.iter().map(|row| cell(row, column)).max().unwrap_or(0);
                if widest == 0 { 0 } else { widest.max(self.columns[column].heading.len()) }
            })
            .collect();
        let headings: Vec<String> = self.columns.iter().map(|c| c.heading.to_owned()).collect();
        std::iter::once(&headings).chain(&self.rows).map(|row| self.line(row, &widths)).collect()
    }

    fn line(&self, row: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for ((cell, column), &width) in row.iter().zip(&self.columns).zip(widths) {
            if width == 0 {
                continue;
            }
            if !line.is_empty() {
                line.push_str("  ");
            }
            let padding = width.saturating_sub(cell.chars().count());
            match column.right {
                true => line.extend(std::iter::repeat_n(' ', padding).chain(cell.chars())),
                false => line.extend(cell.chars().chain(std::iter::repeat_n(' ', padding))),
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_counts_read_well() {
        let sizes = [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_048_575, "1.0 MiB")];
        for (bytes, text) in sizes {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(size(u64::MAX), "16.0 EiB");
        assert_eq!(
            [count(0), count(999), count(86_572), count(1_000_000)],
            ["0", "999", "86,572", "1,000,000"]
        );
        assert_eq!([counted(1, "file"), counted(2, "file")], ["1 file", "2 files"]);
        let ages = [(0, "0 s"), (59_999, "59 s"), (60_000, "1 min"), (7_200_000, "2 h")];
        for (ms, text) in ages {
            assert_eq!(age(ms), text);
        }
        assert_eq!([age(172_799_999), age(172_800_000)], ["47 h", "2 d"]);
        let durations = [(430, "0.4 s"), (185_000, "3 min 05 s"), (7_620_000, "2 h 07 min")];
        for (ms, text) in durations {
            assert_eq!(duration(ms), text);
        }
    }

    /// Two different paths never look the same, and none moves the cursor.
    #[test]
    fn paths_are_one_safe_line() {
        let paths: [(&[u8], &str); 5] = [
            (b"/etc/pass wd", "/etc/pass wd"),
            (b"a\nb", "a\\nb"),
            (b"a\\nb", "a\\\\nb"),
            (b"\xff\x1b[2J", "\\xff\\u{1b}[2J"),
            ("x\u{202e}gpj".as_bytes(), "x\\u{202e}gpj"),
        ];
        for (bytes, text) in paths {
            assert_eq!(path(bytes), text);
        }
        assert_eq!(sentence("a\u{1b}[0m b\\"), "a\\u{1b}[0m b\\");
    }

    #[test]
    fn tables_align_and_drop_empty_columns() {
        let mut table = Table::new(&["id", "tags", ">size"]);
        table.row(["ab".into(), String::new(), "1 B".into()]);
        table.row(["abcd".into(), String::new(), "10 KiB".into()]);
        assert_eq!(table.lines(), ["id      size", "ab       1 B", "abcd  10 KiB"]);
    }

    #[test]
    fn json_keeps_paths_that_are_not_text() {
        let line = json_line("failure", json_remark(b"a\xff", "reason", "gone"));
        let expected = r#"{"type":"failure","path":"a�","path_hex":"61ff","reason":"gone"}"#;
        assert_eq!(line, expected);
    }
}
