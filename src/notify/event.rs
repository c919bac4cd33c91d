//! What happened, and the words for it that every kind of notice shares.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// How a profile stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Good,
    /// Something could not be read.
    Partial,
    Failed,
    /// What the profile promises does not hold any more.
    Overdue,
    /// It changes as it never did.
    Suspicious,
}

impl State {
    /// A stable word.
    pub fn word(self) -> &'static str {
        match self {
            State::Good => "good",
            State::Partial => "partial",
            State::Failed => "failed",
            State::Overdue => "overdue",
            State::Suspicious => "suspicious",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// A run begins: only pings and logs tell of it.
    Start,
    /// A run has ended.
    End,
    /// Nothing ran: `status` looked.
    Look,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastGood {
    /// The snapshot's id, as short as users type it.
    pub snapshot: String,
    /// When it was taken, in ms since 1970.
    pub time_ms: u64,
}

/// What is told of a profile. Times are in ms since 1970.
#[derive(Clone, Debug)]
pub struct Event {
    pub moment: Moment,
    pub host: String,
    pub profile: String,
    pub state: State,
    /// Sources and steps that failed, by name.
    pub failed: Vec<String>,
    /// Nothing where it is not known.
    pub last_good: Option<LastGood>,
    /// What is wrong in one sentence; may be empty where nothing is.
    pub sentence: String,
    /// The command to run next; may be empty.
    pub command: String,
    pub exit_code: u64,
    pub started_ms: u64,
    /// As `started_ms` while it runs.
    pub ended_ms: u64,
    /// One for each repository of the profile.
    pub figures: Vec<Figures>,
    /// In which times are told to people.
    pub zone: TimeZone,
}

/// What is counted of a profile in one repository; nothing where it is not known at this moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Figures {
    /// Its name or place, without secrets.
    pub repository: String,
    /// When its last complete snapshot was taken.
    pub last_success_ms: Option<u64>,
    /// When the last run ended, how, and after how long.
    pub last_run_ms: Option<u64>,
    pub exit_code: Option<u64>,
    pub duration_ms: Option<u64>,
    pub overdue: Option<bool>,
    /// Of the last snapshot.
    pub counts: Option<Counts>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    pub files: u64,
    /// Size of all files together.
    pub bytes: u64,
    pub files_new: u64,
    pub files_changed: u64,
    /// Bytes of new chunks, before and after compression.
    pub bytes_added: u64,
    pub bytes_stored: u64,
}

/// Why somebody is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The state is another than the one told last.
    Change,
    /// It lasts.
    Repeated,
    /// All is well again after this state.
    Recovery(State),
}

/// An event as one recipient is told of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Notice<'a> {
    pub event: &'a Event,
    pub reason: Reason,
    /// What was told last.
    pub before: Option<State>,
    pub now_ms: u64,
}

/// Placeholders of templates.
pub(super) const PLACEHOLDERS: &[&str] = &[
    "host",
    "profile",
    "state",
    "before",
    "failed",
    "sentence",
    "last_good",
    "last_good_time",
    "age",
    "command",
    "exit_code",
    "started",
    "ended",
    "duration",
    "files",
    "bytes",
    "files_new",
    "files_changed",
    "bytes_added",
    "bytes_stored",
];

impl Event {
    /// The sentence, or one made from the state where none was given.
    pub(super) fn sentence(&self) -> String {
        let Event { profile, host, .. } = self;
        match (self.sentence.as_str(), self.moment, self.state) {
            ("", Moment::Start, _) => format!("a run of profile {profile} on {host} begins"),
            ("", _, State::Good) => format!("profile {profile} on {host} is good"),
            ("", _, state) => format!("profile {profile} on {host} is {}", state.word()),
            (sentence, ..) => sentence.to_owned(),
        }
    }

    fn counts(&self) -> Option<&Counts> {
        self.figures.iter().find_map(|figures| figures.counts.as_ref())
    }

    fn duration_ms(&self) -> u64 {
        self.ended_ms.saturating_sub(self.started_ms)
    }

    /// All of it, as webhooks without a template and logs have it.
    pub(super) fn json(&self, now_ms: u64) -> Value {
        let last_good = self.last_good.as_ref().map(|good| {
            json!({
                "snapshot": good.snapshot,
                "time": utc(good.time_ms),
                "age_seconds": now_ms.saturating_sub(good.time_ms) / 1000,
            })
        });
        let moment = match self.moment {
            Moment::Start => "start",
            Moment::End => "end",
            Moment::Look => "status",
        };
        json!({
            "time": utc(now_ms),
            "moment": moment,
            "host": self.host,
            "profile": self.profile,
            "state": self.state.word(),
            "sentence": self.sentence(),
            "failed": self.failed,
            "last_good": last_good,
            "command": self.command,
            "exit_code": self.exit_code,
            "started": utc(self.started_ms),
            "ended": (self.moment != Moment::Start).then(|| utc(self.ended_ms)),
            "duration_seconds": self.duration_ms() as f64 / 1000.0,
            "repositories": self.figures.iter().map(Figures::json).collect::<Vec<_>>(),
        })
    }
}

impl Figures {
    fn json(&self) -> Value {
        json!({
            "repository": self.repository,
            "last_success": self.last_success_ms.map(utc),
            "exit_code": self.exit_code,
            "overdue": self.overdue,
            "counts": self.counts,
        })
    }

    /// Takes from what was known before whatever is not known now.
    pub(super) fn complete(&mut self, before: &Figures) {
        fn keep<T: Clone>(now: &mut Option<T>, before: &Option<T>) {
            if now.is_none() {
                now.clone_from(before);
            }
        }
        keep(&mut self.last_success_ms, &before.last_success_ms);
        keep(&mut self.last_run_ms, &before.last_run_ms);
        keep(&mut self.exit_code, &before.exit_code);
        keep(&mut self.duration_ms, &before.duration_ms);
        keep(&mut self.overdue, &before.overdue);
        keep(&mut self.counts, &before.counts);
    }
}

impl Notice<'_> {
    pub(super) fn state(&self) -> &'static str {
        match self.reason {
            Reason::Recovery(_) => "recovered",
            _ => self.event.state.word(),
        }
    }

    pub(super) fn before(&self) -> Option<&'static str> {
        match self.reason {
            Reason::Recovery(state) => Some(state.word()),
            _ => self.before.map(State::word),
        }
    }

    /// How old the last good snapshot is.
    pub(super) fn age(&self) -> Option<String> {
        let good = self.event.last_good.as_ref()?;
        Some(period(self.now_ms.saturating_sub(good.time_ms)))
    }

    pub(super) fn duration(&self) -> String {
        period(self.event.duration_ms())
    }

    pub(super) fn moment(&self, ms: u64) -> String {
        match timestamp(ms) {
            Some(time) => {
                time.to_zoned(self.event.zone.clone()).strftime("%Y-%m-%d %H:%M %Z").to_string()
            }
            None => "at no known time".to_owned(),
        }
    }

    /// What stands for a placeholder; nothing if there is none of that name.
    pub(super) fn value(&self, placeholder: &str) -> Option<String> {
        let event = self.event;
        let good = event.last_good.as_ref();
        let none = || "none".to_owned();
        // nobody has seen that there is none
        let unknown = || "not known".to_owned();
        let count = |of: fn(&Counts) -> u64| {
            event.counts().map_or_else(|| "unknown".to_owned(), |counts| of(counts).to_string())
        };
        Some(match placeholder {
            "host" => event.host.clone(),
            "profile" => event.profile.clone(),
            "state" => self.state().to_owned(),
            "before" => self.before().map_or_else(none, str::to_owned),
            "failed" if event.failed.is_empty() => none(),
            "failed" => event.failed.join(", "),
            "sentence" => event.sentence(),
            "last_good" => good.map_or_else(unknown, |good| good.snapshot.clone()),
            "last_good_time" => good.map_or_else(unknown, |good| self.moment(good.time_ms)),
            "age" => self.age().unwrap_or_else(|| "unknown".to_owned()),
            "command" => event.command.clone(),
            "exit_code" => event.exit_code.to_string(),
            "started" => self.moment(event.started_ms),
            "ended" => self.moment(event.ended_ms),
            "duration" => self.duration(),
            "files" => count(|counts| counts.files),
            "bytes" => count(|counts| counts.bytes),
            "files_new" => count(|counts| counts.files_new),
            "files_changed" => count(|counts| counts.files_changed),
            "bytes_added" => count(|counts| counts.bytes_added),
            "bytes_stored" => count(|counts| counts.bytes_stored),
            _ => return None,
        })
    }

    /// The event with what only the recipient's history says.
    pub(super) fn json(&self) -> Value {
        let mut value = self.event.json(self.now_ms);
        value["state"] = self.state().into();
        value["before"] = self.before().into();
        value["repeated"] = (self.reason == Reason::Repeated).into();
        value
    }
}

fn timestamp(ms: u64) -> Option<Timestamp> {
    Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()
}

/// RFC 3339 in UTC.
fn utc(ms: u64) -> Option<String> {
    timestamp(ms).map(|time| time.to_string())
}

/// A length of time in its two largest units.
fn period(ms: u64) -> String {
    let seconds = ms / 1000;
    let units = [("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1)];
    let first = units.iter().position(|(_, length)| seconds >= *length).unwrap_or(3);
    let mut rest = seconds;
    let mut words = Vec::new();
    for (name, length) in units.iter().skip(first).take(2) {
        let count = rest / length;
        rest %= length;
        if count > 0 || words.is_empty() {
            words.push(format!("{count} {name}{}", if count == 1 { "" } else { "s" }));
        }
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_have_two_units_at_most() {
        let check = |seconds: u64, words| assert_eq!(period(seconds * 1000), words);
        check(0, "0 seconds");
        check(61, "1 minute 1 second");
        check(3600, "1 hour");
        check(86_400 + 3 * 3600 + 59, "1 day 3 hours");
        check(86_400 * 2 + 59, "2 days");
    }

    #[test]
    fn what_is_not_known_now_is_as_before() {
        let mut now = Figures { exit_code: Some(75), ..Figures::default() };
        let before = Figures { exit_code: Some(0), last_success_ms: Some(5), ..Figures::default() };
        now.complete(&before);
        assert_eq!((now.exit_code, now.last_success_ms), (Some(75), Some(5)));
    }
}
