//! Who is told when: once for each change of state, daily while it lasts, once when all is well again; and what could
//! not be delivered, at the next event. Pure, but for the file that remembers.
//!
//! Ends of runs and looks of `status` come in turns and know different things: a run that went well says nothing of a
//! drill that is overdue, and a look that finds all promises kept says nothing of a copy that failed tonight. So what
//! each found lasts until the same finds it gone, and all is well when nothing lasts.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use super::event::{Event, Figures, LastGood, Moment, Reason, State};
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
    /// The same of the last good snapshot: a run that reaches no repository does not know it.
    pub last_good: Option<LastGood>,
}

/// What one recipient knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written")]
pub struct Told {
    /// What was delivered last, and when, in ms since 1970.
    pub state: Option<State>,
    pub time_ms: u64,
    pub standing: Standing,
    /// All is well since this state, and that could not be told.
    pub recovered: Option<State>,
}

/// What lasts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Standing {
    /// How the last run ended: only runs tell.
    pub run: Trouble,
    /// Promises that do not hold: only looks tell.
    pub promises: Trouble,
    /// The newest snapshot: both tell the same of it, so that it is news once, and gone when either finds it gone.
    pub suspicion: Trouble,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Trouble {
    /// Nothing where all is well.
    pub state: Option<State>,
    /// When it was told last, in ms since 1970; nothing if that is still to be done.
    pub told_ms: Option<u64>,
}

/// As it may stand in the file: before runs and looks were told apart there was one state, and what was missed.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Written {
    state: Option<State>,
    time_ms: u64,
    missed: Option<State>,
    standing: Option<Standing>,
    recovered: Option<State>,
}

impl From<Written> for Told {
    fn from(written: Written) -> Told {
        let Written { state, time_ms, missed, standing, recovered } = written;
        let standing = standing.unwrap_or_else(|| {
            let mut standing = Standing::default();
            if let Some(trouble) = missed.or(state).and_then(|state| standing.of(state)) {
                let told_ms = missed.is_none().then_some(time_ms);
                *trouble = Trouble { state: missed.or(state), told_ms };
            }
            standing
        });
        Told { state, time_ms, standing, recovered }
    }
}

impl Standing {
    /// Where a state belongs, if it is trouble.
    fn of(&mut self, state: State) -> Option<&mut Trouble> {
        match state {
            State::Good => None,
            State::Failed | State::Partial => Some(&mut self.run),
            State::Overdue => Some(&mut self.promises),
            State::Suspicious => Some(&mut self.suspicion),
        }
    }

    fn is_none(&self) -> bool {
        [self.run, self.promises, self.suspicion].iter().all(|trouble| trouble.state.is_none())
    }

    /// With what an event tells; and what it ended.
    fn after(mut self, event: &Event) -> (Standing, Option<State>) {
        let knows = match event.moment {
            Moment::Start => return (self, None),
            Moment::End => &mut self.run,
            Moment::Look => &mut self.promises,
        };
        let is_well = matches!(event.state, State::Good | State::Suspicious);
        let mut ended = knows.state.filter(|_| is_well);
        if is_well {
            *knows = Trouble::default();
        }
        if event.state == State::Good {
            ended = ended.or(self.suspicion.state);
            self.suspicion = Trouble::default();
        }
        if let Some(trouble) = self.of(event.state).filter(|t| t.state != Some(event.state)) {
            *trouble = Trouble { state: Some(event.state), told_ms: None };
        }
        (self, ended)
    }
}

/// Why the recipient is told of the event, if it is.
pub fn decide(previous: &Told, event: &Event, now_ms: u64) -> Option<Reason> {
    if event.moment == Moment::Start {
        return None;
    }
    let (mut standing, ended) = previous.standing.after(event);
    let Some(trouble) = standing.of(event.state) else {
        let before = ended.or(previous.recovered)?;
        return standing.is_none().then_some(Reason::Recovery(before));
    };
    let Some(told_ms) = trouble.told_ms else { return Some(Reason::Change) };
    // a time that lies ahead says that a clock was wrong, and nothing of how long ago it was
    let lately = told_ms <= now_ms && now_ms - told_ms < REPEAT_MS;
    (!lately).then_some(Reason::Repeated)
}

impl Told {
    /// What the recipient knows after an event; `delivery` is why it was to be told, and whether it was.
    pub fn after(self, event: &Event, delivery: Option<(Reason, bool)>, now_ms: u64) -> Told {
        let (mut standing, _) = self.standing.after(event);
        let Some((reason, is_delivered)) = delivery else { return Told { standing, ..self } };
        if let Some(trouble) = standing.of(event.state) {
            trouble.told_ms = is_delivered.then_some(now_ms);
        }
        if is_delivered {
            let state = Some(event.state);
            return Told { state, time_ms: now_ms, standing, recovered: None };
        }
        let recovered = match reason {
            Reason::Recovery(before) => Some(before),
            _ => None,
        };
        Told { standing, recovered, ..self }
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

    /// Adds to an event what is known from earlier ones, and remembers it.
    pub fn complete(&mut self, event: &mut Event) {
        match &event.last_good {
            Some(_) => self.last_good.clone_from(&event.last_good),
            None => event.last_good.clone_from(&self.last_good),
        }
        for now in &mut event.figures {
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

    /// Events as `hours state [undelivered]`, one a line, and what is sent at each. `well`, `overdue` and `doubtful`
    /// (suspicious) are what a look finds, all else are ends of runs.
    fn check(lines: &str) {
        let mut told = Told::default();
        for line in lines.lines().filter(|line| !line.trim().is_empty()) {
            let (event, expected) = line.split_once("->").unwrap();
            let words: Vec<&str> = event.split_whitespace().collect();
            let now = NOON.checked_add_signed(words[0].parse::<i64>().unwrap() * HOUR as i64);
            let now = now.unwrap();
            let mut event = failure();
            event.state = match words[1] {
                "good" | "well" => State::Good,
                "partial" => State::Partial,
                "failed" => State::Failed,
                "overdue" => State::Overdue,
                "suspicious" | "doubtful" => State::Suspicious,
                other => panic!("{other}"),
            };
            if ["well", "overdue", "doubtful"].contains(&words[1]) {
                event.moment = Moment::Look;
            }
            let reason = decide(&told, &event, now);
            let said = match reason {
                None => "nothing".to_owned(),
                Some(Reason::Change) => "change".to_owned(),
                Some(Reason::Repeated) => "repeated".to_owned(),
                Some(Reason::Recovery(before)) => format!("recovery from {}", before.word()),
            };
            assert_eq!(said, expected.trim(), "{line}");
            let delivery = reason.map(|reason| (reason, !words.contains(&"undelivered")));
            told = told.after(&event, delivery, now);
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

    /// A copy fails every night, and all promises are kept.
    #[test]
    fn a_look_ends_no_failure_of_a_run() {
        check(
            "0 failed -> change
             1 well -> nothing
             2 well -> nothing
             24 failed -> repeated
             25 well -> nothing
             48 good -> recovery from failed
             49 well -> nothing",
        );
    }

    /// A drill is overdue, and every night's backup is well.
    #[test]
    fn a_run_ends_no_broken_promise() {
        check(
            "0 overdue -> change
             2 good -> nothing
             3 overdue -> nothing
             23 overdue -> repeated
             26 good -> nothing
             27 well -> recovery from overdue
             28 good -> nothing
             29 well -> nothing",
        );
    }

    #[test]
    fn all_is_well_when_both_say_so() {
        check(
            "0 failed -> change
             1 overdue -> change
             2 failed -> nothing
             3 good -> nothing
             4 overdue -> nothing
             5 well -> recovery from overdue
             6 overdue -> change
             7 partial -> change
             8 well -> nothing
             9 good -> recovery from partial
             10 well -> nothing",
        );
    }

    /// What a run said of the newest snapshot, a look is not to tell as news.
    #[test]
    fn a_suspicion_is_news_once() {
        check(
            "0 suspicious -> change
             1 doubtful -> nothing
             2 well -> recovery from suspicious
             3 doubtful -> change
             4 suspicious -> nothing
             5 overdue -> change
             6 good -> nothing
             7 well -> recovery from overdue
             8 failed -> change
             9 doubtful -> change
             10 suspicious -> nothing
             11 good -> recovery from suspicious
             12 well -> nothing",
        );
    }

    #[test]
    fn a_recovery_that_was_not_delivered_is_tried_at_any_event() {
        check(
            "0 failed -> change
             24 good undelivered -> recovery from failed
             25 well undelivered -> recovery from failed
             26 well -> recovery from failed
             27 well -> nothing
             48 failed -> change
             49 good undelivered -> recovery from failed
             50 overdue -> change
             51 well -> recovery from overdue
             52 good -> nothing",
        );
    }

    /// Files that were written when there was one state for all.
    #[test]
    fn older_memories_are_understood() {
        let read = |text: &str| -> Told { serde_json::from_str(text).unwrap() };
        let look = Event { moment: Moment::Look, state: State::Good, ..failure() };
        let run = Event { moment: Moment::End, ..look.clone() };
        let failed = read(r#"{"state": "failed", "time_ms": 7, "missed": null}"#);
        assert_eq!(decide(&failed, &failure(), 8), None);
        assert_eq!(decide(&failed, &look, 8), None);
        assert_eq!(decide(&failed, &run, 8), Some(Reason::Recovery(State::Failed)));
        let overdue = read(r#"{"state": "good", "time_ms": 7, "missed": "overdue"}"#);
        assert_eq!(decide(&overdue, &run, 8), None);
        assert_eq!(decide(&overdue, &look, 8), Some(Reason::Recovery(State::Overdue)));
        let well = read(r#"{"state": "good", "time_ms": 7, "missed": null}"#);
        assert_eq!((decide(&well, &run, 8), decide(&well, &look, 8)), (None, None));
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
        let told = Told::default().after(&failure(), Some((Reason::Change, true)), 7);
        let good = Event { state: State::Good, ..failure() };
        let told = told.after(&good, Some((Reason::Recovery(State::Failed), false)), 8);
        assert_eq!((told.state, told.recovered), (Some(State::Failed), Some(State::Failed)));
        sent.told.insert("mail".into(), told);
        sent.complete(&mut failure());
        let mut away = Event { last_good: None, ..failure() };
        sent.complete(&mut away);
        assert_eq!(away.last_good, failure().last_good);
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
