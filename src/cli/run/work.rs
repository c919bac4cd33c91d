//! The run of a profile itself: hooks, backup, copies, and the steps that follow.

use super::Arguments;
use super::level::{Whose, copy_newer};
use super::snapshot::{self, Taken};
use super::standby::stand_by;
use super::step;
use crate::cli::backup::host_of;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, when};
use crate::cli::progress::Reporter;
use crate::config::Profile;
use crate::config::profile::{Hooks, ProfileKind};
use crate::format::manifest::{Counts, Outcome};
use crate::id::SnapshotId;
use crate::notify::LastGood;
use crate::progress::Progress;
use crate::repository::{Error, ErrorKind, Repository, Result, now_ms};
use crate::run::hooks::{self, Facts, Moment};
use crate::run::sources;
use crate::run::steps::{self, Done};
use crate::source::process::Log;
use crate::suspicion::{Thresholds, judge_newest};

/// What became of a run.
#[derive(Default)]
pub struct Report {
    pub snapshot: Option<SnapshotId>,
    pub outcome: Option<Outcome>,
    pub counts: Option<Counts>,
    /// Sources and steps that failed, by name.
    pub failed: Vec<String>,
    /// What went wrong, one sentence each; the first is the one to tell.
    pub sentences: Vec<String>,
    pub suspicions: Vec<String>,
    /// The newest complete snapshot.
    pub last_good: Option<LastGood>,
    /// Repositories that could not be reached.
    pub away: Vec<String>,
    pub exit: Option<Exit>,
}

impl Report {
    pub fn exit(&self) -> Exit {
        self.exit.unwrap_or(Exit::Ok)
    }

    fn ends(&mut self, exit: Exit) {
        self.exit = Some(self.exit().and(exit));
    }

    pub fn fails(&mut self, what: &str, exit: Exit, sentence: String) {
        self.failed.push(what.to_owned());
        self.sentences.push(sentence);
        self.ends(exit);
    }
}

/// A repository of the profile that can be reached.
pub struct Reached {
    pub name: String,
    pub repository: Repository,
}

/// What the run of one profile works with.
pub struct Work<'a> {
    pub context: &'a Context,
    pub profile: &'a Profile,
    pub arguments: &'a Arguments,
    pub reporter: Reporter,
    pub host: String,
    pub done: Done,
    pub report: Report,
    pub log: Log,
}

impl<'a> Work<'a> {
    pub fn new(
        context: &'a Context,
        profile: &'a Profile,
        arguments: &'a Arguments,
        done: Done,
    ) -> Work<'a> {
        Work {
            context,
            profile,
            arguments,
            reporter: context.reporter(),
            host: host_of(profile),
            done,
            report: Report::default(),
            log: Log::default(),
        }
    }

    /// Everything, with the hooks around it.
    pub fn run(mut self) -> Report {
        let around = self.profile.settings.hooks.clone().unwrap_or_default();
        let facts = self.facts();
        let began = match self.arguments.dry_run {
            true => Ok(()),
            false => self.hook(&around, Moment::Before, &facts),
        };
        match began {
            Err(sentence) => {
                self.warn(&sentence);
                self.report.fails("before", Exit::Failed, sentence);
            }
            Ok(()) => {
                if let Err(error) = self.work() {
                    self.tell(&error);
                    self.report.fails("run", Exit::of(error.kind), error.message);
                }
            }
        }
        if !self.arguments.dry_run {
            let result = match self.report.exit() {
                Exit::Ok => Ok(()),
                _ => Err(self.report.sentences.first().cloned().unwrap_or_default()),
            };
            let was_well = result.is_ok();
            let facts = self.facts();
            let ended = sources::around_end(result, &facts, &mut |moment, facts| {
                self.hook(&around, moment, facts)
            });
            if let (true, Err(sentence)) = (was_well, ended) {
                self.warn(&sentence);
                self.report.fails("hook", Exit::Partial, sentence);
            }
        }
        if self.reporter.interrupted() {
            self.report.ends(Exit::Interrupted);
        }
        self.report
    }

    fn work(&mut self) -> Result<()> {
        let mut reached = self.reach()?;
        match self.profile.kind() {
            ProfileKind::Backup => self.back_up(&mut reached)?,
            ProfileKind::Standby => stand_by(self, &reached)?,
            ProfileKind::Maintenance | ProfileKind::Template => {}
        }
        if self.arguments.dry_run {
            return Ok(());
        }
        self.copies(&reached)?;
        for at in &reached {
            self.steps(&at.name)?;
        }
        Ok(())
    }

    /// Opens the repositories. One that is away is no failure yet; none at all is.
    fn reach(&mut self) -> Result<Vec<Reached>> {
        let mut reached = Vec::new();
        let mut last = None;
        for name in self.profile.repositories() {
            match self.context.open_named(name) {
                Ok(repository) => reached.push(Reached { name: name.clone(), repository }),
                Err(error) if self.is_away(name, &error)? => {
                    self.warn(&format!("repository {name} is away: {}", error.message));
                    self.report.away.push(name.clone());
                    last = Some(Error::new(ErrorKind::TryLater, error.message));
                }
                Err(error) => {
                    self.tell(&error);
                    self.report.fails(name, Exit::of(error.kind), error.message.clone());
                    last = Some(error);
                }
            }
        }
        match (reached.is_empty(), last) {
            (true, Some(error)) => Err(error),
            (true, None) => {
                let message = format!("profile {}: it names no repository", self.profile.name);
                Err(Error::new(ErrorKind::Usage, message))
            }
            _ => Ok(reached),
        }
    }

    fn is_away(&self, name: &str, error: &Error) -> Result<bool> {
        let repositories = &self.context.configuration()?.file.repositories;
        let removable = repositories.get(name).is_some_and(|settings| settings.removable);
        Ok(match error.kind {
            ErrorKind::TryLater => true,
            ErrorKind::NoRepository => removable,
            _ => false,
        })
    }

    /// Takes the snapshot in the first repository that can be reached, and brings the others level. A key that cannot
    /// read takes another snapshot in each.
    fn back_up(&mut self, reached: &mut [Reached]) -> Result<()> {
        let (host, profile) = (self.host.clone(), self.profile);
        let whose = Whose { host: &host, profile };
        let Some((first, others)) = reached.split_first_mut() else { return Ok(()) };
        self.snapshot(&first.name, &first.repository)?;
        if self.arguments.dry_run {
            return Ok(());
        }
        for other in others {
            let copied = match first.repository.keyring().may_read_content() {
                true => self.level(whose, &first.repository, other),
                false => self.snapshot(&other.name, &other.repository),
            };
            if let Err(error) = copied {
                self.tell(&error);
                self.report.fails(&other.name, Exit::of(error.kind), error.message);
            }
        }
        self.overdue_without(whose)
    }

    /// What a repository took while another was away goes both ways.
    fn level(
        &mut self,
        whose: Whose<'_>,
        first: &Repository,
        Reached { name, repository: other }: &Reached,
    ) -> Result<()> {
        let now = now_ms();
        // what is older was there on both sides, and went by each one's own retention
        let after = match self.done.last("level", name).filter(|last| *last <= now) {
            Some(last) => Some(last),
            None => whose.newest(other)?,
        };
        let mut damaged = 0;
        let mut copy = |from, to, after| -> Result<()> {
            let copied = copy_newer(whose, from, to, after, false, &self.reporter);
            self.reporter.finish();
            if let Some(report) = copied? {
                let count = report.copied.len() as u64;
                let snapshots = crate::output::counted(count, "snapshot");
                self.context.say(&format!("{snapshots} copied to {}", to.url()));
                damaged += report.damaged.len();
                report.stopped.map_or(Ok(()), Err)?;
            }
            Ok(())
        };
        if after.is_some() && other.keyring().may_read_content() {
            copy(other, first, after)?;
        }
        copy(first, other, after)?;
        if damaged > 0 {
            let sentence = format!("{damaged} damaged snapshots were not copied: run esker check");
            self.report.fails("copy", Exit::Damage, sentence);
        }
        self.done.done("level", name, now)
    }

    /// One snapshot in one repository, and what of it is told.
    fn snapshot(&mut self, name: &str, repository: &Repository) -> Result<()> {
        let facts = self.facts();
        let id = self.arguments.set_id;
        let prepared = snapshot::prepare(self.context, self.profile, &facts, id)?;
        let around = prepared.hooks.clone();
        for (source, hooks) in &around {
            let facts = Facts { source: Some(source.clone()), ..facts.clone() };
            if !self.arguments.dry_run
                && let Err(sentence) = self.hook(hooks, Moment::Before, &facts)
            {
                return Err(Error::failed(format!("source {source}: {sentence}")));
            }
        }
        let how = (&facts, id, self.arguments.dry_run);
        let taken =
            snapshot::take(self.context, self.profile, repository, prepared, how, &self.reporter);
        for (source, hooks) in around.iter().rev().filter(|_| !self.arguments.dry_run) {
            let facts = Facts { source: Some(source.clone()), ..self.facts() };
            let failed = |taken: &Taken| taken.failed.contains(source);
            let result = match &taken {
                Ok(taken) if failed(taken) => Err(format!("source {source} failed")),
                Ok(_) => Ok(()),
                Err(error) => Err(error.message.clone()),
            };
            let was_well = result.is_ok();
            let ended = sources::around_end(result, &facts, &mut |moment, facts| {
                self.hook(hooks, moment, facts)
            });
            if let (true, Err(sentence)) = (was_well, ended) {
                self.warn(&sentence);
                self.report.fails(source, Exit::Partial, sentence);
            }
        }
        let taken = taken?;
        self.note(name, &taken);
        if !self.arguments.dry_run {
            let thresholds = self.profile.settings.suspicion.as_ref();
            let thresholds = thresholds.map(Thresholds::from).unwrap_or_default();
            let snapshots = repository.list_snapshots()?.snapshots;
            let odd = judge_newest(&snapshots, &self.host, &self.profile.name, &thresholds);
            odd.iter().for_each(|sentence| self.warn(sentence));
            let whose = Whose { host: &self.host, profile: self.profile };
            self.report.last_good = whose.last_good(&snapshots);
            self.report.suspicions.extend(odd);
        }
        Ok(())
    }

    fn note(&mut self, name: &str, taken: &Taken) {
        let report = &taken.report;
        self.report.snapshot = report.snapshot.or(self.report.snapshot);
        self.report.outcome = Some(report.outcome);
        self.report.counts = Some(report.counts.clone());
        for (source, told) in &taken.told {
            let said = told.log.bytes();
            if !said.is_empty() {
                let said = String::from_utf8_lossy(&said);
                self.log.add(format!("{source}:\n{said}\n").as_bytes());
            }
        }
        let partial = report.outcome != Outcome::Complete;
        if partial {
            let failures = report.failures.iter().take(3).map(|failure| {
                format!("{}: {}", String::from_utf8_lossy(&failure.path), failure.reason)
            });
            let failures: Vec<String> = failures.collect();
            self.report.failed.extend(taken.failed.iter().cloned());
            self.report
                .sentences
                .push(format!("the snapshot in {name} is partial: {}", failures.join("; ")));
        }
        self.report.ends(when(partial || !taken.named, Exit::Partial));
    }

    /// A repository that is away matters once what the profile promises of it no longer holds.
    fn overdue_without(&mut self, whose: Whose<'_>) -> Result<()> {
        let promise = self.profile.settings.promises.as_ref().and_then(|p| p.maximum_age);
        for name in self.report.away.clone() {
            let settings = self.context.configuration()?.file.repositories.get(&name).cloned();
            let removable = settings.is_some_and(|settings| settings.removable);
            let last = self.done.last("snapshot", &name);
            let fresh = match (promise, last) {
                (None, _) => true,
                (Some(age), Some(last)) => now_ms().saturating_sub(last) <= age.ms,
                (Some(_), None) => false,
            };
            if !(removable && fresh) {
                let profile = &whose.profile.name;
                let sentence = format!("repository {name} of profile {profile} is away");
                self.report.fails(&name, Exit::TryLater, sentence);
            }
        }
        Ok(())
    }

    /// Copies to repositories that are none of the profile's own.
    fn copies(&mut self, reached: &[Reached]) -> Result<()> {
        let Some(first) = reached.first() else { return Ok(()) };
        for settings in self.profile.copies() {
            let to = settings.to.clone();
            if !self.done.is_due("copy", &to, settings.every, now_ms()) {
                continue;
            }
            let copied = self.context.open_named(&to).and_then(|other| {
                let (host, profile) = (self.host.clone(), self.profile);
                let whose = Whose { host: &host, profile };
                let after = whose.newest(&other)?;
                let latest = settings.latest;
                let copied =
                    copy_newer(whose, &first.repository, &other, after, latest, &self.reporter);
                self.reporter.finish();
                match copied? {
                    Some(report) => report.stopped.map_or(Ok(report.damaged.len()), Err),
                    None => Ok(0),
                }
            });
            match copied {
                Ok(0) => self.done.done("copy", &to, now_ms())?,
                Ok(damaged) => {
                    let sentence = format!("{damaged} damaged snapshots were not copied to {to}");
                    self.report.fails("copy", Exit::Damage, sentence);
                }
                Err(error) => {
                    self.tell(&error);
                    self.report.fails("copy", Exit::of(error.kind), error.message);
                }
            }
        }
        Ok(())
    }

    /// Retention, prune, check: each when it is due.
    fn steps(&mut self, repository: &str) -> Result<()> {
        if self.report.snapshot.is_some() && self.profile.kind() == ProfileKind::Backup {
            self.done.done("snapshot", repository, now_ms())?;
        }
        let steps = steps::steps(&self.profile.settings, &self.host, &self.profile.name);
        for step in steps {
            if self.reporter.interrupted() {
                return Err(Error::interrupted());
            }
            if !self.done.is_due(step.name, repository, step.every, now_ms()) {
                continue;
            }
            let ended = step::run(self.context, repository, &step.words);
            match ended.exit {
                Exit::Ok => self.done.done(step.name, repository, now_ms())?,
                exit => {
                    let sentence = match ended.error {
                        Some(error) => format!("{}: {}", step.name, error.message),
                        None => format!("{} in {repository} ended with {}", step.name, exit.code()),
                    };
                    self.report.fails(step.name, exit, sentence);
                }
            }
        }
        Ok(())
    }

    fn facts(&self) -> Facts {
        let report = &self.report;
        Facts {
            profile: self.profile.name.clone(),
            host: self.host.clone(),
            source: None,
            snapshot: report.snapshot.map(|id| id.to_hex()),
            status: match (report.outcome, report.exit) {
                (Some(Outcome::Complete), _) => "complete",
                (Some(Outcome::Partial), _) => "partial",
                (Some(Outcome::Failed), _) | (None, Some(_)) => "failed",
                (None, None) => "",
            },
            exit_code: report.exit.map(|exit| u64::from(exit.code())),
            bytes: report.counts.as_ref().map_or(0, |counts| counts.bytes),
            bytes_added: report.counts.as_ref().map_or(0, |counts| counts.bytes_added),
            error: report.sentences.first().cloned(),
        }
    }

    fn hook(
        &self,
        hooks: &Hooks,
        moment: Moment,
        facts: &Facts,
    ) -> std::result::Result<(), String> {
        let over = || self.reporter.interrupted();
        hooks::run(hooks, moment, facts, &self.log, &over, &mut |text| self.warn(&text))
    }

    pub fn warn(&self, sentence: &str) {
        self.context.warn(sentence);
    }

    fn tell(&self, error: &Error) {
        crate::cli::report(error, Exit::of(error.kind), self.context.json());
    }
}
