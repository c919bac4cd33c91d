//! Notices, against servers on loopback that are well, refuse, hang, or are not there.

mod http;
mod local;
mod mail;
mod repeated;
mod server;
mod smtp;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use esker::config::profile::Notify;
use esker::config::value::Secret;
use esker::notify::{
    Counts, Event, Figures, LastGood, Limits, Moment, State, Surroundings, notify,
};
use jiff::tz::TimeZone;

/// 2026-11-28 02:00 UTC
const NIGHT: u64 = 1_795_831_200_000;
const HOUR: u64 = 3_600_000;

/// A backup of that night that failed.
fn failure() -> Event {
    Event {
        moment: Moment::End,
        host: "web1".into(),
        profile: "nightly".into(),
        state: State::Failed,
        failed: vec!["orders".into()],
        last_good: Some(LastGood { snapshot: "5e1f0a2c".into(), time_ms: NIGHT - 24 * HOUR }),
        sentence: "source orders: pg_dump ended with 1".into(),
        command: "esker run nightly".into(),
        exit_code: 3,
        started_ms: NIGHT,
        ended_ms: NIGHT + HOUR,
        figures: vec![Figures {
            repository: "offsite".into(),
            last_success_ms: Some(NIGHT - 24 * HOUR),
            last_run_ms: Some(NIGHT + HOUR),
            exit_code: Some(3),
            duration_ms: Some(HOUR),
            overdue: Some(false),
            counts: Some(Counts { files: 7, bytes: 700, ..Counts::default() }),
        }],
        zone: TimeZone::UTC,
    }
}

fn good() -> Event {
    Event {
        state: State::Good,
        failed: Vec::new(),
        sentence: String::new(),
        command: String::new(),
        exit_code: 0,
        ..failure()
    }
}

/// A machine that sends notices.
struct Machine {
    directory: tempfile::TempDir,
    environment: BTreeMap<String, String>,
    limits: Limits,
    now_ms: u64,
}

impl Machine {
    fn new() -> Machine {
        let limits = Limits { connect: Duration::from_secs(5), whole: Duration::from_secs(10) };
        let directory = tempfile::tempdir().unwrap();
        Machine { directory, environment: BTreeMap::new(), limits, now_ms: NIGHT + HOUR }
    }

    /// One that does not wait: for servers that say nothing.
    fn impatient() -> Machine {
        let limits =
            Limits { connect: Duration::from_millis(200), whole: Duration::from_millis(400) };
        Machine { limits, ..Machine::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn tell(&self, settings: &Notify, event: &Event) -> Vec<String> {
        self.tell_all(&[settings], event, Path::new("/nowhere/journal"))
    }

    fn tell_all(&self, settings: &[&Notify], event: &Event, journal: &Path) -> Vec<String> {
        let environment = |name: &str| self.environment.get(name).map(Into::into);
        let state = self.path("state");
        let surroundings = Surroundings {
            state_directory: &state,
            environment: &environment,
            journal,
            limits: self.limits,
            now_ms: self.now_ms,
        };
        notify(settings, event, &surroundings)
    }
}

fn secret(text: impl Into<String>) -> Secret {
    Secret::Text(text.into())
}
