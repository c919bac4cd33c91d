//! Values of the configuration file that are more than text.

use std::fmt;
use std::path::PathBuf;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, SpanRelativeTo};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

/// A length of time: `90s`, `12h`, `30d`, `2w`. A day has 24 hours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[schemars(with = "String", extend("format" = "period"))]
pub struct Period {
    /// in ms
    pub ms: u64,
}

impl Period {
    pub fn parse(text: &str) -> Result<Period, String> {
        let wrong = || format!("{text:?} is no length of time: write 90s, 12h, 30d or 2w");
        let span: Span = text.parse().map_err(|_| wrong())?;
        let days = SpanRelativeTo::days_are_24_hours();
        let duration: SignedDuration = span.to_duration(days).map_err(|_| wrong())?;
        u64::try_from(duration.as_millis()).map(|ms| Period { ms }).map_err(|_| wrong())
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Period::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// Bytes: `512K`, `10M`, `1.5G`; units are powers of 1024.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String", extend("format" = "size"))]
pub struct Size(pub u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        size(&text).map(Size).map_err(D::Error::custom)
    }
}

/// `100`, `64K`, `1.5 GiB`: bytes; units are powers of 1024.
pub fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no size: write 512K, 10M or 1.5G");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let power = match unit.trim().to_ascii_lowercase().trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(wrong()),
    };
    let factor = 1024u64.pow(power);
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor).ok_or_else(wrong);
    }
    match number.parse::<f64>() {
        Ok(value) if value * (factor as f64) < u64::MAX as f64 => {
            Ok((value * factor as f64) as u64)
        }
        _ => Err(wrong()),
    }
}

/// `30d`, `1y 6mo`, `12h`: a length of time, in units of the calendar.
pub fn span(text: &str) -> Result<Span, String> {
    let span: Result<Span, _> = text.parse();
    let positive = span.ok().filter(|span| span.is_positive());
    positive.ok_or_else(|| format!("{text:?} is no length of time: write 12h, 30d or \"1y 6mo\""))
}

/// A time zone by its IANA name.
pub fn zone(text: &str) -> Result<TimeZone, String> {
    let wrong = |_| format!("{text:?} is no time zone: write Europe/Berlin or UTC");
    TimeZone::get(text).map_err(wrong)
}

/// `5%` is 0.05: more than nothing, and all at most.
pub fn share(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    let percent = number.filter(|percent| *percent > 0.0 && *percent <= 100.0);
    let wrong = || format!("{text:?} is no share: write 5% or 100%");
    percent.map(|percent| percent / 100.0).ok_or_else(wrong)
}

/// A command: one text for `/bin/sh -c`, or a program and its arguments.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(untagged)]
pub enum Command {
    Shell(String),
    Program(Vec<String>),
}

impl Command {
    /// The program and its arguments.
    pub fn words(&self) -> Vec<String> {
        match self {
            Command::Shell(text) => vec!["/bin/sh".into(), "-c".into(), text.clone()],
            Command::Program(words) => words.clone(),
        }
    }
}

/// What must not stand in a file that others read: the text itself, or where it is.
#[derive(Clone, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(untagged)]
pub enum Secret {
    Text(String),
    Reference(Reference),
}

#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Reference {
    /// The first line of a file.
    File(PathBuf),
    /// A variable of the environment.
    Environment(String),
    /// What a command prints.
    Command(Command),
    /// A credential that systemd's `LoadCredential` gives.
    Credential(String),
}

impl Default for Secret {
    fn default() -> Secret {
        Secret::Text(String::new())
    }
}

/// Never shows the text.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Secret::Text(_) => f.write_str("Secret"),
            Secret::Reference(reference) => reference.fmt(f),
        }
    }
}
