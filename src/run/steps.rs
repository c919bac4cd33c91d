//! What follows a backup, as commands of the program, and when each is due.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::profile::{Check, ProfileKind, ProfileSettings, Prune, Retention};
use crate::config::value::Period;
use crate::id::hex;
use crate::repository::Result;
use crate::repository::local::write_private;

/// When the steps of a profile were done last on this machine. Without it all are due, which costs time and nothing
/// else.
#[derive(Debug)]
pub struct Done {
    file: PathBuf,
    times: Times,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Times {
    /// By step and repository; in ms since 1970.
    #[serde(default)]
    steps: BTreeMap<String, u64>,
}

impl Done {
    /// In a directory that outlives the machine's next start.
    pub fn read(directory: &Path, profile: &str) -> Done {
        let name = hex(&blake3::hash(profile.as_bytes()).as_bytes()[..8]);
        let file = directory.join(format!("steps-{name}"));
        let times = std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Done { file, times: times.unwrap_or_default() }
    }

    /// Whether a step is due: it was never done, or `every` is over since. A clock that was set back makes it due.
    pub fn is_due(&self, step: &str, repository: &str, every: Option<Period>, now: u64) -> bool {
        let (Some(every), Some(last)) = (every, self.times.steps.get(&key(step, repository)))
        else {
            return true;
        };
        // a nightly run that begins a little sooner than the last one is not put off by a day
        let slack = every.ms / 20;
        now < *last || now - last >= every.ms - slack
    }

    /// When a step was done last, in ms since 1970.
    pub fn last(&self, step: &str, repository: &str) -> Option<u64> {
        self.times.steps.get(&key(step, repository)).copied()
    }

    pub fn done(&mut self, step: &str, repository: &str, now: u64) -> Result<()> {
        self.times.steps.insert(key(step, repository), now);
        let bytes = serde_json::to_vec(&self.times).unwrap_or_default();
        write_private(&self.file, &bytes)
    }
}

fn key(step: &str, repository: &str) -> String {
    format!("{step} {repository}")
}

/// One command, as it would be typed behind `esker -r REPOSITORY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub name: &'static str,
    pub every: Option<Period>,
    pub words: Vec<String>,
}

/// What follows the backup in every repository of a profile, in its order.
pub fn steps(settings: &ProfileSettings, host: &str, profile: &str) -> Vec<Step> {
    let is_maintenance = settings.kind == Some(ProfileKind::Maintenance);
    let retention = settings.retention.as_ref().map(|retention| {
        let own = retention.only_own.unwrap_or(!is_maintenance);
        forget(retention, own.then_some((host, profile)))
    });
    let prune = settings.prune.as_ref().map(prune);
    let check = settings.check.as_ref().map(check);
    let drill = settings.drill.as_ref().map(|drill| Step {
        name: "drill",
        every: drill.every,
        // the rest it reads from the profile
        words: ["drill", "--profile", profile].map(str::to_owned).to_vec(),
    });
    [retention, prune, check, drill].into_iter().flatten().collect()
}

fn forget(retention: &Retention, only: Option<(&str, &str)>) -> Step {
    let mut words = vec!["forget".to_owned(), "--yes".to_owned()];
    let mut add = |option: &str, value: Option<String>| {
        if let Some(value) = value {
            words.extend([option.to_owned(), value]);
        }
    };
    for (option, number) in [
        ("--keep-last", retention.last),
        ("--keep-hourly", retention.hourly),
        ("--keep-daily", retention.daily),
        ("--keep-weekly", retention.weekly),
        ("--keep-monthly", retention.monthly),
        ("--keep-yearly", retention.yearly),
    ] {
        add(option, number.map(|number| number.to_string()));
    }
    add("--keep-within", retention.within.clone());
    for tag in retention.tags.iter().flatten() {
        add("--keep-tag", Some(tag.clone()));
    }
    add("--group-by", retention.group_by.as_ref().map(|by| by.join(",")));
    if let Some((host, profile)) = only {
        add("--host", Some(host.to_owned()));
        add("--profile", Some(profile.to_owned()));
    }
    Step { name: "retention", every: retention.every, words }
}

fn prune(prune: &Prune) -> Step {
    let mut words = vec!["prune".to_owned()];
    if let Some(share) = &prune.max_unused {
        words.extend(["--max-unused".to_owned(), share.clone()]);
    }
    if let Some(grace) = prune.grace {
        words.extend(["--grace".to_owned(), seconds(grace)]);
    }
    Step { name: "prune", every: prune.every, words }
}

fn check(check: &Check) -> Step {
    let mut words = vec!["check".to_owned()];
    match check.read_data.as_deref() {
        None => {}
        Some("100%" | "all") => words.push("--read-data".to_owned()),
        Some(share) => words.extend(["--read-data-subset".to_owned(), share.to_owned()]),
    }
    Step { name: "check", every: check.every, words }
}

/// As the command line takes it.
fn seconds(period: Period) -> String {
    match period.ms / 1000 {
        0 => "0".to_owned(),
        seconds => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_become_what_would_be_typed() {
        let settings: ProfileSettings = toml::from_str(
            "retention = { daily = 7, weekly = 4, within = '2d', tags = ['keep'], every = '1d' }\n\
             prune = { max_unused = '5', grace = '0s' }\n\
             check = { read_data = '10%', every = '7d' }\n\
             drill = { files = 3, every = '30d' }\n",
        )
        .unwrap();
        let typed = |is_maintenance: bool| {
            let kind = is_maintenance.then_some(ProfileKind::Maintenance);
            let steps = steps(&ProfileSettings { kind, ..settings.clone() }, "h", "p");
            steps.iter().map(|step| step.words.join(" ")).collect::<Vec<_>>()
        };
        assert_eq!(
            typed(false),
            [
                "forget --yes --keep-daily 7 --keep-weekly 4 --keep-within 2d --keep-tag keep --host h --profile p",
                "prune --max-unused 5 --grace 0",
                "check --read-data-subset 10%",
                "drill --profile p",
            ]
        );
        assert!(!typed(true)[0].contains("--host"));
    }

    #[test]
    fn a_step_is_due_when_its_time_is_over() {
        let directory = tempfile::tempdir().unwrap();
        let day = 86_400_000;
        let every = Some(Period { ms: day });
        let mut done = Done::read(directory.path(), "web");
        assert!(done.is_due("check", "main", every, 0));
        done.done("check", "main", 10 * day).unwrap();
        let done = Done::read(directory.path(), "web");
        assert!(!done.is_due("check", "main", every, 10 * day + day / 2));
        assert!(done.is_due("check", "main", every, 11 * day - day / 100));
        assert!(done.is_due("check", "main", every, 9 * day));
        assert!(done.is_due("check", "main", None, 10 * day));
        assert!(done.is_due("check", "other", every, 10 * day));
        assert!(Done::read(directory.path(), "other").is_due("check", "main", every, 10 * day));
    }
}
