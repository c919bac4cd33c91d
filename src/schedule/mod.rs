//! When profiles run: expressions, what is due, and what makes a machine start
//! runs: units of systemd, lines of cron, CronJobs of Kubernetes, or the small
//! scheduler here. What a run does is not known here.
//!
//! | file | |
//! |---|---|
//! | `calendar/` | expressions of systemd and cron, in a time zone |
//! | `due` | whether a run is due, and when the next one is |
//! | `notes`, `lock` | when runs began; no two of one profile at once |
//! | `conditions`, `gentle` | whether now is a good time; in the background, and no sleep meanwhile |
//! | `credentials` | what systemd is to hand to a profile |
//! | `runner` | starts what is due, in the foreground |
//! | `units/` | what others start runs by |

pub mod calendar;
pub mod conditions;
pub mod credentials;
pub mod due;
pub mod gentle;
pub mod lock;
pub mod notes;
pub mod runner;
pub mod units;

use std::time::Duration;

use jiff::tz::TimeZone;

use self::calendar::Calendar;
use crate::config::profile::{Conditions, ProfileSettings};
use crate::config::value;
use crate::repository::{Error, ErrorKind, Result};

/// Longer names do not fit into names of units and files.
const MAX_NAME_BYTES: usize = 100;

/// A profile, as far as its schedule goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    pub profile: String,
    /// What its snapshots are of; the machine's own name where it says nothing.
    pub host: Option<String>,
    /// Empty where a profile runs by hand only.
    pub expressions: Vec<Calendar>,
    /// Of expressions that name none.
    pub zone: TimeZone,
    /// A run begins up to so much after its time.
    pub jitter: Duration,
    /// Whether what was missed is made up for, by one run.
    pub catch_up: bool,
    pub conditions: Conditions,
    /// Whether a run lets everything else go first.
    pub nice: bool,
    /// Names of what systemd's `LoadCredential` is to give.
    pub credentials: Vec<String>,
}

impl Job {
    /// `local` is the zone where the profile names none. Fails with a sentence
    /// (`Usage`) about an expression or a zone that is none.
    pub fn of(profile: &str, settings: &ProfileSettings, local: &TimeZone) -> Result<Job> {
        let wrong = |reason: String| usage(profile, &reason);
        if profile.is_empty()
            || profile.len() > MAX_NAME_BYTES
            || profile.contains(char::is_control)
        {
            let limit = MAX_NAME_BYTES;
            return Err(wrong(format!("a name has 1 to {limit} bytes and no control characters")));
        }
        let zone = match &settings.zone {
            Some(name) => value::zone(name).map_err(|reason| wrong(format!("zone: {reason}")))?,
            None => local.clone(),
        };
        let expressions = settings.schedule.iter().flatten();
        let expressions = expressions.map(|text| Calendar::parse(text, &zone));
        Ok(Job {
            profile: profile.to_owned(),
            host: settings.host.clone(),
            expressions: expressions
                .collect::<std::result::Result<_, _>>()
                .map_err(|reason| wrong(format!("schedule: {reason}")))?,
            zone,
            jitter: settings
                .jitter
                .map_or(Duration::ZERO, |period| Duration::from_millis(period.ms)),
            catch_up: settings.catch_up.unwrap_or(true),
            conditions: settings.conditions.clone().unwrap_or_default(),
            nice: settings.nice.unwrap_or(true),
            credentials: credentials::of_profile(settings),
        })
    }
}

/// What tells this machine from others: the same after every start.
pub fn machine() -> String {
    let id = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    match id.trim() {
        "" => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        id => id.to_owned(),
    }
}

fn usage(profile: &str, reason: &str) -> Error {
    Error::new(ErrorKind::Usage, format!("profile {profile}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(text: &str) -> Result<Job> {
        Job::of("web", &toml::from_str(text).unwrap(), &TimeZone::UTC)
    }

    #[test]
    fn what_is_left_out_has_its_defaults() {
        let job = job("schedule = ['02:30', '0 14 * * *']").unwrap();
        assert_eq!(job.expressions.len(), 2);
        assert_eq!((job.jitter, job.catch_up, job.nice), (Duration::ZERO, true, true));
        assert_eq!(job.zone, TimeZone::UTC);
    }

    #[test]
    fn what_is_wrong_is_said_with_the_profile() {
        for (text, word) in [
            ("schedule = ['02:60']", "minute \"60\""),
            ("zone = 'Mars/Olympus'", "\"Mars/Olympus\" is no time zone"),
        ] {
            let error = job(text).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Usage);
            let says = error.message.starts_with("profile web: ") && error.message.contains(word);
            assert!(says, "{error}");
        }
        let bad_names = [String::new(), "a\nb".to_owned(), "x".repeat(101)];
        for name in bad_names {
            assert!(Job::of(&name, &ProfileSettings::default(), &TimeZone::UTC).is_err());
        }
    }
}
