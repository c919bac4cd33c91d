//! What is well written and makes no sense: only by the text, whatever machine it
//! is read on.

mod repositories;
mod sources;

use std::collections::BTreeSet;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::document::Node;
use super::finding::{Finding, nearest, one_of, tidy};
use super::load::Configuration;
use super::profile::{Hooks, Notify, ProfileKind, Retention};
use super::resolve::Profile;
use super::value::{self, Period};
use crate::notify::check_template;
use crate::run::names::fill;
use crate::schedule::calendar::Calendar;

/// What `retention.group_by` may hold.
const GROUPS: [&str; 4] = ["host", "profile", "sources", "tags"];
/// From here on runs are looked at: whatever machine the text is read on, and when.
const BEGINNING: Timestamp = Timestamp::constant(1_767_225_600, 0);
/// So many runs in a row are held against each other: a name for a week repeats itself within them.
const RUNS: usize = 32;

/// Says what is wrong with the place of a store, if anything is.
pub type PlaceCheck<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Everything that makes no sense in the repositories and in `profiles`.
pub fn check(
    configuration: &Configuration,
    profiles: &[&Profile],
    place: PlaceCheck<'_>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    repositories::check(configuration, place, &mut findings);
    findings.extend(notices(configuration.file.notify.as_ref(), &configuration.tree));
    for profile in profiles {
        let mut checker = Checker { configuration, profile, place, findings: Vec::new() };
        checker.all();
        findings.append(&mut checker.findings);
    }
    tidy(&mut findings);
    findings
}

/// When an expression first happens after `after`; why it is no schedule, if it is none.
pub fn first_after(
    expression: &str,
    zone: Option<&str>,
    after: Timestamp,
) -> Result<Option<Timestamp>, String> {
    let zone = zone.map(value::zone).transpose()?.unwrap_or(TimeZone::UTC);
    Ok(Calendar::parse(expression, &zone)?.next(after))
}

/// Texts of notices with words in braces that are none of their placeholders. They are legal, and a slip mostly.
fn notices(notify: Option<&Notify>, tree: &Node) -> Vec<Finding> {
    let webhook = notify.and_then(|notify| notify.webhook.as_ref());
    let mail = notify.and_then(|notify| notify.mail.as_ref());
    let texts = [
        (["notify", "webhook", "body"], webhook.and_then(|webhook| webhook.body.as_ref())),
        (["notify", "mail", "subject"], mail.and_then(|mail| mail.subject.as_ref())),
        (["notify", "mail", "body"], mail.and_then(|mail| mail.body.as_ref())),
    ];
    let wrong = texts.into_iter().filter_map(|(path, text)| {
        let reason = check_template(text?).err()?;
        let sentence = format!("`{}`: {reason}; it stays as it is", path.join("."));
        Some(Finding::warning(tree.place(&path), sentence))
    });
    wrong.collect()
}

struct Checker<'a> {
    configuration: &'a Configuration,
    profile: &'a Profile,
    place: PlaceCheck<'a>,
    findings: Vec<Finding>,
}

impl Checker<'_> {
    fn error(&mut self, path: &[&str], sentence: impl Into<String>) {
        self.findings.push(Finding::error(self.profile.written.place(path), sentence));
    }

    fn warning(&mut self, path: &[&str], sentence: impl Into<String>) {
        self.findings.push(Finding::warning(self.profile.written.place(path), sentence));
    }

    fn all(&mut self) {
        self.name();
        self.snapshot_name();
        self.repositories();
        self.kind();
        self.sources();
        self.set();
        self.schedule();
        self.hooks(&["hooks"], self.profile.settings.hooks.as_ref());
        self.retention();
        self.copies();
        self.drill();
        self.notices();
        self.periods();
    }

    fn name(&mut self) {
        let name = &self.profile.name;
        if name.is_empty() || name.contains(['/', '\0']) || name.contains(char::is_control) {
            self.error(&[], format!("a profile cannot be called {name:?}"));
        }
    }

    /// A snapshot's name is refused a second time, and a set that is called as the one before takes that one's parts for
    /// its own.
    fn snapshot_name(&mut self) {
        let settings = &self.profile.settings;
        let set = settings.set.as_ref().map(|set| &set.name);
        let names = [(&["name"] as &[&str], settings.name.as_ref()), (&["set", "name"], set)];
        for (path, name) in names {
            let Some(name) = name else { continue };
            match self.repeats(name) {
                Err(reason) => self.error(path, format!("`name`: {reason}")),
                Ok(Some([one, next])) => {
                    let sentence = format!(
                        "`name` {name:?} is the same for two runs in a row, of {one} and of {next}: let it hold more of the time"
                    );
                    self.warning(path, sentence);
                }
                Ok(None) => {}
            }
        }
    }

    /// Two runs in a row for which a name is the same, by the profile's schedule; an error if it is no name.
    fn repeats(&self, name: &str) -> Result<Option<[String; 2]>, String> {
        let zone = self.profile.settings.zone.as_deref();
        let local = zone.and_then(|zone| value::zone(zone).ok()).unwrap_or(TimeZone::UTC);
        let fill = |time: &Zoned| fill(name, "host", &self.profile.name, Some(1), time);
        let start = BEGINNING.to_zoned(local.clone());
        let mut before = (start.clone(), fill(&start)?);
        if name.contains("{id}") {
            return Ok(None);
        }
        for _ in 0..RUNS {
            let after = before.0.timestamp();
            let next = self
                .profile
                .schedule()
                .iter()
                .filter_map(|expression| first_after(expression, zone, after).ok().flatten());
            let Some(next) = next.min() else { break };
            let next = next.to_zoned(local.clone());
            let filled = fill(&next)?;
            if filled == before.1 && after != BEGINNING {
                let text = |time: &Zoned| time.strftime("%Y-%m-%d %H:%M").to_string();
                return Ok(Some([text(&before.0), text(&next)]));
            }
            before = (next, filled);
        }
        Ok(None)
    }

    fn repositories(&mut self) {
        let names = self.profile.repositories();
        if names.is_empty() {
            let name = &self.profile.name;
            let sentence = format!(
                "profile `{name}` has no repository: name one with `repositories = [\"…\"]`, or `repository = \"…\"` for all"
            );
            self.error(&["repositories"], sentence);
        }
        for (index, name) in names.iter().enumerate() {
            let path = ["repositories", &index.to_string()];
            if names[..index].contains(name) {
                self.error(&path, format!("`repositories` names {name:?} twice"));
            }
            if let Some(reason) = repositories::unknown(self.configuration, name, self.place) {
                self.error(&path, format!("`repositories`: {reason}"));
            }
        }
    }

    /// What each kind of profile needs, and what it cannot have.
    fn kind(&mut self) {
        let settings = &self.profile.settings;
        let name = &self.profile.name;
        let kind = self.profile.kind();
        match kind {
            ProfileKind::Backup if settings.sources.is_empty() => {
                self.error(&["sources"], format!("profile `{name}` backs up nothing: add [[profiles.{name}.sources]] with paths, a command, tar or a preset"));
            }
            ProfileKind::Standby => match &settings.standby {
                None => self.error(&["kind"], format!("profile `{name}` is a standby and has no [profiles.{name}.standby], with the host and profile that it restores")),
                Some(standby) if standby.host.is_empty() || standby.profile.is_empty() => {
                    self.error(&["standby"], "a standby needs the host and the profile that it restores");
                }
                Some(_) => {}
            },
            _ => {}
        }
        if kind != ProfileKind::Backup && !settings.sources.is_empty() {
            self.error(
                &["sources"],
                format!("profile `{name}` takes no snapshots, by its kind, and has sources"),
            );
        }
        if kind != ProfileKind::Standby && settings.standby.is_some() {
            self.warning(&["standby"], format!("profile `{name}` is no standby: say kind = \"standby\", or [profiles.{name}.standby] does nothing"));
        }
        let idle = settings.retention.is_none()
            && settings.prune.is_none()
            && settings.check.is_none()
            && settings.copy.is_none()
            && settings.drill.is_none();
        if kind == ProfileKind::Maintenance && idle {
            self.error(
                &["kind"],
                format!(
                    "profile `{name}` does nothing: give it retention, prune, check, copy or drill"
                ),
            );
        }
    }

    fn set(&mut self) {
        let Some(set) = &self.profile.settings.set else { return };
        if set.name.is_empty() {
            self.error(&["set", "name"], "a set needs a name");
        } else if !set.name.contains("{id}") && !set.name.contains("{time:") {
            let sentence = format!(
                "every set would be called {:?}, and one host's part of tonight and another's of last month would make a whole one: add {{id}} or {{time:%Y-%m-%d}}",
                set.name
            );
            self.error(&["set", "name"], sentence);
        }
        if !set.parts.contains(&set.part) {
            let sentence = match nearest(&set.part, set.parts.iter().map(String::as_str)) {
                Some(near) => {
                    format!("`part` {:?} is none of `parts`: did you mean {near:?}?", set.part)
                }
                None => format!("`part` {:?} is none of `parts`", set.part),
            };
            self.error(&["set", "part"], sentence);
        }
        let different: BTreeSet<&String> = set.parts.iter().collect();
        if different.len() < set.parts.len() {
            self.error(&["set", "parts"], "`parts` names a part twice");
        }
    }

    fn schedule(&mut self) {
        let settings = &self.profile.settings;
        for (index, expression) in self.profile.schedule().iter().enumerate() {
            let path = ["schedule", &index.to_string()];
            match first_after(expression, settings.zone.as_deref(), Timestamp::UNIX_EPOCH) {
                Err(reason) => self.error(&path, format!("`schedule`: {reason}")),
                Ok(None) => {
                    self.error(
                        &path,
                        format!("`schedule`: {expression:?} is a time that never comes"),
                    );
                }
                Ok(Some(_)) => {}
            }
        }
        let unscheduled = self.profile.schedule().is_empty();
        for (key, given) in
            [("jitter", settings.jitter.is_some()), ("zone", settings.zone.is_some())]
        {
            if unscheduled && given {
                self.warning(&[key], format!("`{key}` says nothing without a `schedule`"));
            }
        }
    }

    fn hooks(&mut self, path: &[&str], hooks: Option<&Hooks>) {
        let Some(hooks) = hooks else { return };
        let lists = [
            ("before", &hooks.before),
            ("after", &hooks.after),
            ("success", &hooks.success),
            ("failure", &hooks.failure),
            ("finally", &hooks.finally),
        ];
        for (name, list) in lists {
            for (index, hook) in list.iter().enumerate() {
                let index = index.to_string();
                let at = |key| [path, &[name, index.as_str(), key]].concat();
                if is_empty(&hook.run) {
                    self.error(&at("run"), "`run` is empty");
                }
                if hook.timeout.is_some_and(|timeout| timeout.ms == 0) {
                    self.error(&at("timeout"), "a `timeout` of nothing leaves no time");
                }
            }
        }
    }

    fn retention(&mut self) {
        let Some(retention) = &self.profile.settings.retention else { return };
        if !keeps_something(retention) {
            let sentence = "retention keeps nothing: give it last, hourly, daily, weekly, monthly, yearly, within or tags";
            self.error(&["retention"], sentence);
        }
        for (index, word) in retention.group_by.iter().flatten().enumerate() {
            if !GROUPS.contains(&word.as_str()) {
                let near = nearest(word, GROUPS).map(|near| format!(": did you mean {near:?}?"));
                let sentence = format!(
                    "`group_by` has {word:?}, and may have {}{}",
                    one_of(GROUPS),
                    near.unwrap_or_default()
                );
                self.error(&["retention", "group_by", &index.to_string()], sentence);
            }
        }
    }

    fn copies(&mut self) {
        for (index, copy) in self.profile.copies().iter().enumerate() {
            let path = ["copy", &index.to_string(), "to"];
            if let Some(reason) = repositories::unknown(self.configuration, &copy.to, self.place) {
                self.error(&path, format!("`copy`: {reason}"));
            }
            if self.profile.repositories().contains(&copy.to) {
                self.error(
                    &path,
                    format!("`copy` goes to {:?}, where the profile writes anyway", copy.to),
                );
            }
        }
    }

    fn drill(&mut self) {
        let Some(drill) = &self.profile.settings.drill else { return };
        let sources = &self.profile.settings.sources;
        let names: Vec<&str> = sources.iter().filter_map(|source| source.name.as_deref()).collect();
        if self.profile.kind() != ProfileKind::Backup {
            return;
        }
        for name in drill.commands.keys().filter(|name| !names.contains(&name.as_str())) {
            let near = nearest(name, names.iter().copied());
            let near = near.map(|near| format!(": did you mean {near:?}?")).unwrap_or_default();
            let sentence = format!("`commands` has {name:?}, and no source is called that{near}");
            self.error(&["drill", "commands", name], sentence);
        }
    }

    fn notices(&mut self) {
        let found = notices(self.profile.settings.notify.as_ref(), &self.profile.written);
        self.findings.extend(found);
    }

    /// What happens every so often happens at least now and then.
    fn periods(&mut self) {
        let settings = &self.profile.settings;
        let promises = settings.promises.clone().unwrap_or_default();
        let all: [(&[&str], Option<Period>); 9] = [
            (&["retention", "every"], settings.retention.as_ref().and_then(|r| r.every)),
            (&["prune", "every"], settings.prune.as_ref().and_then(|prune| prune.every)),
            (&["check", "every"], settings.check.as_ref().and_then(|check| check.every)),
            (&["drill", "every"], settings.drill.as_ref().and_then(|drill| drill.every)),
            (&["expire_after"], settings.expire_after),
            (&["promises", "maximum_age"], promises.maximum_age),
            (&["promises", "drill"], promises.drill),
            (&["promises", "check"], promises.check),
            (&["promises", "prune"], promises.prune),
        ];
        for (path, period) in all {
            if period.is_some_and(|period| period.ms == 0) {
                self.error(path, format!("`{}` must be longer than nothing", path.join(".")));
            }
        }
    }
}

fn keeps_something(retention: &Retention) -> bool {
    let counts = [
        retention.last,
        retention.hourly,
        retention.daily,
        retention.weekly,
        retention.monthly,
        retention.yearly,
    ];
    counts.into_iter().flatten().any(|count| count > 0)
        || retention.within.is_some()
        || retention.tags.as_ref().is_some_and(|tags| !tags.is_empty())
}

fn is_empty(command: &value::Command) -> bool {
    match command {
        value::Command::Shell(text) => text.trim().is_empty(),
        value::Command::Program(words) => words.first().is_none_or(String::is_empty),
    }
}

#[cfg(test)]
mod tests;
