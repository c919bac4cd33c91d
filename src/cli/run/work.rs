//! The run of a profile itself: hooks, backup, copies, and the steps that follow.

use std::collections::BTreeMap;

use super::Arguments;
use super::level::{Manner, Whose, copy_wanted, group};
use super::snapshot::{self, Taken};
use super::standby::stand_by;
use super::step;
use crate::cli::backup::host_of;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, when};
use crate::cli::progress::Reporter;
use crate::config::Profile;
use crate::config::profile::{Copy as CopySettings, Hooks, ProfileKind};
use crate::config::value::Period;
use crate::format::manifest::{Counts, Outcome};
use crate::id::SnapshotId;
use crate::notify::LastGood;
use crate::overdue;
use crate::progress::Progress;
use crate::record::{self, Finished};
use crate::repository::clock::latest_believed;
use crate::repository::snapshots::Snapshot;
use crate::repository::{Error, ErrorKind, Repository, Result, now_ms};
use crate::run::hooks::{self, Facts, Moment};
use crate::run::sources;
use crate::run::steps::{self, Done};
use crate::source::process::Log;
use crate::suspicion::{Thresholds, judge_newest};

/// No snapshot was left behind by a copy: none is as new.
const NONE_LEFT: u64 = u64::MAX;

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
    /// By repository that this run left with a complete snapshot of its own: when that was taken, in ms since 1970.
    pub arrived: BTreeMap<String, u64>,
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
    started: u64,
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
            started: now_ms(),
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
        let mut reached = Vec::new();
        match began {
            Err(sentence) => {
                self.warn(&sentence);
                self.report.fails("before", Exit::Failed, sentence);
                reached = self.quietly_reached();
            }
            Ok(()) => {
                if let Err(error) = self.work(&mut reached) {
                    self.tell(&error);
                    self.report.fails("run", Exit::of(error.kind), error.message);
                }
            }
        }
        // before the hooks that follow: one of them may take a disk away
        self.remember(&reached);
        drop(reached);
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

    fn work(&mut self, reached: &mut Vec<Reached>) -> Result<()> {
        *reached = self.reach()?;
        match self.profile.kind() {
            ProfileKind::Backup => self.back_up(reached)?,
            ProfileKind::Standby => stand_by(self, reached)?,
            ProfileKind::Maintenance | ProfileKind::Template => {}
        }
        if self.arguments.dry_run {
            return Ok(());
        }
        self.overdue_without()?;
        self.copies(reached)?;
        for at in reached.iter() {
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

    /// Those that can be opened, where nothing but a record will be put.
    fn quietly_reached(&self) -> Vec<Reached> {
        let open = |name: &String| {
            let repository = self.context.open_named(name).ok()?;
            Some(Reached { name: name.clone(), repository })
        };
        self.profile.repositories().iter().filter_map(open).collect()
    }

    fn is_away(&self, name: &str, error: &Error) -> Result<bool> {
        Ok(match error.kind {
            ErrorKind::TryLater => true,
            ErrorKind::NoRepository => self.is_removable(name)?,
            _ => false,
        })
    }

    fn is_removable(&self, name: &str) -> Result<bool> {
        let repositories = &self.context.configuration()?.file.repositories;
        Ok(repositories.get(name).is_some_and(|settings| settings.removable))
    }

    /// Whether what the profile promises of a repository holds without it: `step` is what brings snapshots there, `every`
    /// how much older they may be for that.
    fn may_be_away(&self, name: &str, step: &str, every: Option<Period>) -> Result<bool> {
        let promise = self.profile.settings.promises.as_ref().and_then(|p| p.maximum_age);
        let every = every.map_or(0, |every| every.ms);
        let maximum_age = promise.map(|age| age.ms.saturating_add(every));
        let fresh = overdue::is_kept(maximum_age, self.done.last(step, name), now_ms());
        Ok(fresh && self.is_removable(name)?)
    }

    /// Leaves a record of what went wrong, and of what sources and hooks said, for whoever looks from elsewhere: a run
    /// that failed before it began a snapshot leaves nothing else.
    fn remember(&mut self, reached: &[Reached]) {
        let is_backup = self.profile.kind() == ProfileKind::Backup;
        let Some(first) = reached.first().filter(|_| is_backup && !self.arguments.dry_run) else {
            return;
        };
        if self.report.last_good.is_none()
            && let Ok(listing) = first.repository.list_snapshots()
        {
            self.report.last_good = self.whose().last_good(&listing.snapshots);
        }
        let said = self.log.bytes();
        let exit = self.report.exit();
        if self.reporter.interrupted() || (exit == Exit::Ok && said.is_empty()) {
            return;
        }
        let extent = overdue::run_of(&self.host, &self.profile.name);
        let sentences = self.report.sentences.join("\n");
        let finished = Finished {
            code: u64::from(exit.code()),
            snapshots: self.report.snapshot.into_iter().collect(),
            log: format!("{sentences}\n{}", String::from_utf8_lossy(&said)).trim().to_owned(),
            ..Finished::new("run", self.started, extent)
        };
        for at in reached {
            if let Err(error) = record::put(&at.repository, &self.host, &finished) {
                let (name, reason) = (&at.name, error.message);
                self.warn(&format!("{name}: the record of this run could not be put: {reason}"));
            }
        }
    }

    /// Takes the snapshot in the first repository that takes one, and brings the others level. A key that cannot
    /// read takes another snapshot in each.
    fn back_up(&mut self, reached: &[Reached]) -> Result<()> {
        let mut others = reached.iter();
        let first = loop {
            let Some(at) = others.next() else { return Ok(()) };
            match self.snapshot(&at.name, &at.repository) {
                Ok(()) => break at,
                // what is wrong with the profile is wrong in every repository
                Err(error) if error.kind == ErrorKind::Usage || others.len() == 0 => {
                    return Err(error);
                }
                Err(error) if error.kind == ErrorKind::Interrupted => return Err(error),
                Err(error) => {
                    self.tell(&error);
                    self.report.fails(&at.name, Exit::of(error.kind), error.message);
                }
            }
        };
        if self.arguments.dry_run {
            return Ok(());
        }
        for other in others {
            let copied = match first.repository.keyring().may_read_content() {
                true => self.level(&first.repository, other),
                false => self.snapshot(&other.name, &other.repository),
            };
            if let Err(error) = copied {
                self.tell(&error);
                self.report.fails(&other.name, Exit::of(error.kind), error.message);
            }
        }
        for (repository, taken) in self.report.arrived.clone() {
            self.noted("snapshot", &repository, taken);
        }
        Ok(())
    }

    /// Remembers on this machine what was done; a full disk here makes nothing of it undone.
    fn noted(&mut self, step: &str, repository: &str, time: u64) {
        if let Err(error) = self.done.done(step, repository, time) {
            self.warn(&error.message);
        }
    }

    fn whose(&self) -> Whose {
        Whose::of(self.profile, &self.host)
    }

    /// What a repository took while another was away goes both ways.
    fn level(
        &mut self,
        first: &Repository,
        Reached { name, repository: other }: &Reached,
    ) -> Result<()> {
        let now = now_ms();
        let whose = self.whose();
        // what is older was there on both sides, and went by each one's own retention
        let after = match self.done.last("level", name).filter(|last| *last <= now) {
            Some(last) => Some(last),
            None => whose.newest(other)?.into_values().max(),
        };
        let is_newer = |s: &Snapshot| after.is_none_or(|after| s.manifest.started > after);
        let manner = Manner {
            whose: &whose,
            host: &self.host,
            compression: self.profile.compression(),
            latest: false,
        };
        let mut damaged = 0;
        let mut copy = |from, to| -> Result<()> {
            let copied = copy_wanted(&manner, from, to, &is_newer, &self.reporter);
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
            copy(other, first)?;
        }
        copy(first, other)?;
        if damaged > 0 {
            // not level: they are tried again, and told again
            let sentence = format!("{damaged} damaged snapshots were not copied: run esker check");
            self.warn(&sentence);
            self.report.fails("copy", Exit::Damage, sentence);
            return Ok(());
        }
        if let (Some(Outcome::Complete), Some(good)) = (self.report.outcome, &self.report.last_good)
        {
            self.report.arrived.insert(name.clone(), good.time_ms);
        }
        self.noted("level", name, now);
        Ok(())
    }

    /// One snapshot in one repository, and what of it is told.
    fn snapshot(&mut self, name: &str, repository: &Repository) -> Result<()> {
        let facts = self.facts();
        let id = self.arguments.set_id;
        let mut prepared = snapshot::prepare(self.context, self.profile, &facts, id)?;
        let is_real = !self.arguments.dry_run;
        let mut begun = Vec::new();
        for around in std::mem::take(&mut prepared.around).into_iter().filter(|_| is_real) {
            let facts = Facts { source: Some(around.source.clone()), ..facts.clone() };
            let began = self.hook(&around.hooks, Moment::Before, &facts);
            if let Err(sentence) = &began {
                prepared.fails(&around, sentence.clone());
            }
            begun.push((around, began));
        }
        let how = (&facts, id, self.arguments.dry_run);
        let taken =
            snapshot::take(self.context, self.profile, repository, prepared, how, &self.reporter);
        // whatever became of the backup: what was stopped for it is to go on
        for (around, began) in begun.into_iter().rev() {
            let source = &around.source;
            let facts = Facts { source: Some(source.clone()), ..self.facts() };
            let failed = |taken: &Taken| around.names.iter().any(|n| taken.failed.contains(n));
            let result = began.and(match &taken {
                Ok(Some(taken)) if failed(taken) => Err(format!("source {source} failed")),
                Ok(_) => Ok(()),
                Err(error) => Err(error.message.clone()),
            });
            let was_well = result.is_ok();
            let ended = sources::around_end(result, &facts, &mut |moment, facts| {
                self.hook(&around.hooks, moment, facts)
            });
            if let (true, Err(sentence)) = (was_well, ended) {
                self.warn(&sentence);
                self.report.fails(source, Exit::Partial, sentence);
            }
        }
        let Some(taken) = taken? else { return Ok(()) };
        self.note(name, &taken);
        if !self.arguments.dry_run {
            let thresholds = self.profile.settings.suspicion.as_ref();
            let thresholds = thresholds.map(Thresholds::from).unwrap_or_default();
            let snapshots = repository.list_snapshots()?.snapshots;
            let (until, profile) = (latest_believed(now_ms()), &self.profile.name);
            let odd = judge_newest(&snapshots, &self.host, profile, &thresholds, until);
            odd.iter().for_each(|sentence| self.warn(sentence));
            self.report.last_good = self.whose().last_good(&snapshots);
            if let (Outcome::Complete, Some(good)) = (taken.report.outcome, &self.report.last_good)
            {
                self.report.arrived.insert(name.to_owned(), good.time_ms);
            }
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
    fn overdue_without(&mut self) -> Result<()> {
        for name in self.report.away.clone() {
            if !self.may_be_away(&name, "snapshot", None)? {
                let sentence =
                    format!("repository {name} of profile {} is away", self.profile.name);
                self.report.fails(&name, Exit::TryLater, sentence);
            }
        }
        Ok(())
    }

    /// Copies to repositories that are none of the profile's own.
    fn copies(&mut self, reached: &[Reached]) -> Result<()> {
        let Some(first) = reached.first() else { return Ok(()) };
        for settings in self.profile.copies() {
            let to = &settings.to;
            if !self.done.is_due("copy", to, settings.every, now_ms()) {
                continue;
            }
            match self.copy(&first.repository, settings) {
                Ok(()) => {}
                Err(error)
                    if self.is_away(to, &error)?
                        && self.may_be_away(to, "copy", settings.every)? =>
                {
                    self.warn(&format!("repository {to} is away: {}", error.message));
                }
                Err(error) => {
                    self.tell(&error);
                    self.report.fails("copy", Exit::of(error.kind), error.message);
                }
            }
        }
        Ok(())
    }

    /// Older ones were copied before, and went by the other repository's own retention; but for those that were damaged
    /// the last time.
    fn copy(&mut self, from: &Repository, settings: &CopySettings) -> Result<()> {
        let to = &settings.to;
        let other = self.context.open_named(to)?;
        let whose = self.whose();
        let newest = whose.newest(&other)?;
        let left = self.done.last("left by copy", to);
        let is_wanted = |snapshot: &Snapshot| {
            let started = snapshot.manifest.started;
            newest.get(&group(snapshot)).is_none_or(|newest| started > *newest)
                || left.is_some_and(|left| started >= left)
        };
        let manner = Manner {
            whose: &whose,
            host: &self.host,
            compression: self.profile.compression(),
            latest: settings.latest,
        };
        let copied = copy_wanted(&manner, from, &other, &is_wanted, &self.reporter);
        self.reporter.finish();
        let report = copied?.unwrap_or_default();
        if !report.damaged.is_empty() {
            let snapshots = from.list_snapshots()?.snapshots;
            let is_damaged = |s: &&Snapshot| report.damaged.iter().any(|(id, _)| *id == s.id);
            let oldest = snapshots.iter().filter(is_damaged).map(|s| s.manifest.started).min();
            self.noted("left by copy", to, oldest.unwrap_or(0));
            let count = report.damaged.len();
            let sentence = format!("{count} damaged snapshots were not copied to {to}");
            self.warn(&sentence);
            self.report.fails("copy", Exit::Damage, sentence);
        }
        match report.stopped {
            Some(error) => Err(error),
            None if !report.damaged.is_empty() => Ok(()),
            None => {
                self.noted("left by copy", to, NONE_LEFT);
                self.noted("copy", to, now_ms());
                Ok(())
            }
        }
    }

    /// Retention, prune, check: each when it is due.
    fn steps(&mut self, repository: &str) -> Result<()> {
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
                Exit::Ok => self.noted(step.name, repository, now_ms()),
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
