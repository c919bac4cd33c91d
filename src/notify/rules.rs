//! Who is told when: once for each change of state, daily while it lasts, once when all is well again; and what could
//! not be delivered, at the next event. Pure, but for the file that remembers.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use super::event::{Event, Figures, Moment, Reason, State};
use super::place;

/// A notice is repeated after this time. A day less four hours: runs do not end at the same minute every night, and
/// that of tonight is not to wait for that of tomorrow.
const REPEAT_MS: u64 = 20 * 3600 * 1000;

/// What is remembered of a profile from one event to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sent {
    /// By recipient.
    pub told: BTreeMap<String, Told>,
    /// By repository: what was known last.
    pub figures: BTreeMap<String, Figures>,
}

/// What one recipient knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Told {
    /// What was delivered last, and when, in ms since 1970.
    pub state: Option<State>,
    pub time_ms: u64,
    /// A state that was to be told and could not be.
    pub missed: Option<State>,
}

/// Why the recipient is told of the event, if it is.
pub fn decide(previous: &Told, event: &Event, now_ms: u64) -> Option<Reason> {
    if event.moment == Moment::Start {
        return None;
    }
    if event.state == State::Good {
        let before = previous.missed.or(previous.state)?;
        return (before != State::Good).then_some(Reason::Recovery(before));
    }
    if previous.state != Some(event.state) || previous.missed.is_some() {
        return Some(Reason::Change);
    }
    // a time that lies ahead says that a clock was wrong, and nothing of how long ago it was
    let lately = previous.time_ms <= now_ms && now_ms - previous.time_ms < REPEAT_MS;
    (!lately).then_some(Reason::Repeated)
}

impl Told {
    /// What the recipient knows after a delivery was tried.
    pub fn after(self, state: State, reason: Reason, is_delivered: bool, now_ms: u64) -> Told {
        if is_delivered {
            return Told { state: Some(state), time_ms: now_ms, missed: None };
        }
        let missed = match reason {
            Reason::Recovery(before) => before,
            _ => state,
        };
        Told { missed: Some(missed), ..self }
    }
}

impl Sent {
    /// What is remembered; nothing where nothing is, or with a sentence where it cannot be read.
    pub fn read(file: &Path) -> (Sent, Option<String>) {
        let wrong = |error: &dyn std::fmt::Display| {
            format!("{}: {error}: notices that were sent already may be sent again", file.display())
        };
        match std::fs::read(file) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(sent) => (sent, None),
                Err(error) => (Sent::default(), Some(wrong(&error))),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Sent::default(), None),
            Err(error) => (Sent::default(), Some(wrong(&error))),
        }
    }

    pub fn write(&self, file: &Path) -> Result<(), String> {
        let write = || {
            if let Some(directory) = file.parent() {
                place::private_directory(directory)?;
            }
            place::replace(file, serde_json::to_string_pretty(self)?.as_bytes(), 0o600)
        };
        write().map_err(|error| {
            format!("{}: {error}: notices will be sent again at the next event", file.display())
        })
    }

    /// Adds to an event's figures what is known from earlier ones, and remembers them.
    pub fn complete(&mut self, figures: &mut [Figures]) {
        for now in figures {
            if let Some(before) = self.figures.get(&now.repository) {
                now.complete(before);
            }
            self.figures.insert(now.repository.clone(), now.clone());
        }
    }
}

/// File names keep these as they are.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');
/// Longest name, in bytes, that is written out.
const LONGEST_NAME: usize = 180;

/// Where a profile's memory lies.
pub fn file(state_directory: &Path, host: &str, profile: &str) -> PathBuf {
    // a blank between them: neither has one, once encoded
    let mut name =
        format!("{} {}", utf8_percent_encode(host, PLAIN), utf8_percent_encode(profile, PLAIN));
    if name.len() > LONGEST_NAME {
        name = blake3::hash(name.as_bytes()).to_hex().to_string();
    }
    state_directory.join("notices").join(format!("{name}.json"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::failure;
    use super::*;

    const HOUR: u64 = 3600 * 1000;
    const NOON: u64 = 20_000 * 24 * HOUR + 12 * HOUR;

    /// Events as `hours state [undelivered]`, one a line, and what is sent at each.
    fn check(lines: &str) {
        let mut told = Told::default();
        for line in lines.lines().filter(|line| !line.trim().is_empty()) {
            let (event, expected) = line.split_once("->").unwrap();
            let words: Vec<&str> = event.split_whitespace().collect();
            let now = NOON.checked_add_signed(words[0].parse::<i64>().unwrap() * HOUR as i64);
            let now = now.unwrap();
            let mut event = failure();
            event.state = [State::Good, State::Partial, State::Failed, State::Overdue]
                .into_iter()
                .find(|state| state.word() == words[1])
                .unwrap();
            let reason = decide(&told, &event, now);
            let said = match reason {
                None => "nothing".to_owned(),
                Some(Reason::Change) => "change".to_owned(),
                Some(Reason::Repeated) => "repeated".to_owned(),
                Some(Reason::Recovery(before)) => format!("recovery from {}", before.word()),
            };
            assert_eq!(said, expected.trim(), "{line}");
            if let Some(reason) = reason {
                told = told.after(event.state, reason, !words.contains(&"undelivered"), now);
            }
        }
    }

    #[test]
    fn once_for_each_change_and_once_for_recovery() {
        check(
            "0 good -> nothing
             24 failed -> change
             25 failed -> nothing
             26 partial -> change
             27 failed -> change
             28 good -> recovery from failed
             29 good -> nothing",
        );
    }

    #[test]
    fn daily_while_it_lasts() {
        check(
            "0 overdue -> change
             1 overdue -> nothing
             19 overdue -> nothing
             23 overdue -> repeated
             24 overdue -> nothing
             47 overdue -> repeated",
        );
    }

    #[test]
    fn what_was_not_delivered_is_tried_at_the_next_event() {
        check(
            "0 failed undelivered -> change
             1 failed undelivered -> change
             2 failed -> change
             3 failed -> nothing
             24 failed undelivered -> repeated
             25 failed -> change
             26 good undelivered -> recovery from failed
             27 good -> recovery from failed
             28 good -> nothing",
        );
    }

    /// Nobody heard of the failure: they hear that there was one.
    #[test]
    fn a_failure_that_passed_unheard_is_told_by_its_recovery() {
        check(
            "0 good -> nothing
             24 partial undelivered -> change
             48 good -> recovery from partial
             72 good -> nothing",
        );
    }

    #[test]
    fn a_clock_that_goes_back_silences_nothing() {
        check(
            "87600 failed -> change
             0 failed -> repeated
             1 failed -> nothing
             -1 failed -> repeated
             24 failed -> repeated
             -87600 good -> recovery from failed",
        );
    }

    #[test]
    fn a_run_that_begins_is_told_to_nobody() {
        let mut event = failure();
        event.moment = Moment::Start;
        assert_eq!(decide(&Told::default(), &event, NOON), None);
    }

    #[test]
    fn memory_is_read_back_and_damage_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let file = file(directory.path(), "we/b", "../../etc");
        assert!(file.starts_with(directory.path().join("notices")), "{}", file.display());
        assert_eq!(file.components().count(), directory.path().components().count() + 2);
        let mut sent = Sent::default();
        let told = Told { state: Some(State::Overdue), time_ms: 7, missed: Some(State::Failed) };
        sent.told.insert("mail".into(), told);
        sent.complete(&mut [Figures { last_success_ms: Some(9), ..Figures::default() }]);
        sent.write(&file).unwrap();
        assert_eq!(Sent::read(&file), (sent, None));
        std::fs::write(&file, "{").unwrap();
        let (sent, warning) = Sent::read(&file);
        assert_eq!(sent, Sent::default());
        assert!(warning.unwrap().contains("may be sent again"));
    }

    #[test]
    fn names_differ_where_profiles_do() {
        let name = |host: &str, profile: &str| file(Path::new("/s"), host, profile);
        assert_ne!(name("a b", "c"), name("a", "b c"));
        assert_ne!(name("a", &"x".repeat(300)), name("a", &"x".repeat(301)));
        assert!(name("a", &"é".repeat(300)).file_name().unwrap().len() < 200);
    }
}
