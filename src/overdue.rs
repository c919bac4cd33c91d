//! What a host and profile are to keep in one repository, and do not: one sentence each, with the command to type next.
//! Pure: who asks the repository and what is done about it is `cli`'s.

use std::collections::HashSet;
use std::path::Path;

use crate::config::Profile;
use crate::config::profile::{self, ProfileKind};
use crate::config::value::Period;
use crate::format::manifest::Outcome;
use crate::id::SnapshotId;
use crate::output;
use crate::repository::Repository;
use crate::repository::clock::latest_believed;
use crate::repository::judge::RunState;
use crate::repository::keyring::Standing;
use crate::repository::records::Recorded;
use crate::repository::snapshots::Snapshot;
use crate::run::steps::Done;
use crate::source::through;
use crate::standby::{self, State};
use crate::status::{Group, Overview, Status, is_ahead};
use crate::suspicion::{Thresholds, judge_newest};

/// What is amiss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lack {
    /// The repository could not be asked.
    Unreachable,
    NoSnapshot,
    TooOld,
    /// The newest snapshot is.
    Partial,
    /// The newest run ended without a snapshot that can be relied on.
    Unconfirmed,
    Drill,
    Check,
    Prune,
    /// A standby has not got what it is to have.
    Behind,
    /// A snapshot is dated later than now.
    Ahead,
    /// The newest run changed its source as none before.
    Suspicious,
}

impl Lack {
    /// A stable word.
    pub fn word(self) -> &'static str {
        match self {
            Lack::Unreachable => "unreachable",
            Lack::NoSnapshot => "no_snapshot",
            Lack::TooOld => "too_old",
            Lack::Partial => "partial",
            Lack::Unconfirmed => "unconfirmed",
            Lack::Drill => "drill",
            Lack::Check => "check",
            Lack::Prune => "prune",
            Lack::Behind => "behind",
            Lack::Ahead => "ahead",
            Lack::Suspicious => "suspicious",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    pub lack: Lack,
    /// Without a full stop, and without saying of whom.
    pub sentence: String,
    /// What to type next.
    pub command: String,
}

/// Longest times between two of a kind, in ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Promised {
    pub maximum_age: Option<u64>,
    pub drill: Option<u64>,
    pub check: Option<u64>,
    pub prune: Option<u64>,
}

impl From<&profile::Promises> for Promised {
    fn from(promises: &profile::Promises) -> Promised {
        let ms = |period: Option<Period>| period.map(|period| period.ms);
        Promised {
            maximum_age: ms(promises.maximum_age),
            drill: ms(promises.drill),
            check: ms(promises.check),
            prune: ms(promises.prune),
        }
    }
}

/// Where what is expected stands written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// In a profile of this machine's configuration.
    Profile,
    /// There, as a copy that goes to another repository.
    Copy,
    /// In the snapshots.
    Snapshots,
}

/// What is expected of one host and profile in one repository.
#[derive(Clone, Debug)]
pub struct Expected {
    /// As the configuration or the user names it; nothing where it goes without saying.
    pub repository: Option<String>,
    /// The profile's own name.
    pub name: String,
    /// Host and profile that snapshots are of: of a standby, what it follows.
    pub host: String,
    pub profile: String,
    pub kind: ProfileKind,
    pub written: Written,
    pub promised: Promised,
    pub thresholds: Thresholds,
    /// When steps were done last from here, in ms since 1970.
    pub last: Last,
}

/// When a profile's steps were done last from this machine, in ms since 1970.
#[derive(Clone, Copy, Debug, Default)]
pub struct Last {
    pub snapshot: Option<u64>,
    pub drill: Option<u64>,
    pub check: Option<u64>,
    pub prune: Option<u64>,
    /// When a standby restored last, and when the snapshot was taken that it holds since.
    pub applied: Option<u64>,
    pub taken: Option<u64>,
    /// A restore began since that did not end well.
    pub is_torn: bool,
}

/// What a record of kind `run` is about.
pub fn run_of(host: &str, profile: &str) -> String {
    format!("run of {host}/{profile}")
}

/// What this machine remembers of a profile.
#[derive(Debug)]
pub struct Memory {
    done: Done,
    standby: State,
}

impl Memory {
    /// From the directory in which runs remember what they did.
    pub fn read(directory: &Path, profile: &str) -> Memory {
        Memory { done: Done::read(directory, profile), standby: State::read(directory, profile) }
    }

    fn of(&self, repository: &str, written: Written) -> Last {
        let last = |step| self.done.last(step, repository);
        // no snapshot is taken into a repository that is copied to
        let taken = if written == Written::Copy { "copy" } else { "snapshot" };
        let applied = self.standby.applied();
        Last {
            snapshot: last(taken),
            drill: last("drill"),
            check: last("check"),
            prune: last("prune"),
            applied: applied.map(|applied| applied.applied),
            taken: applied.map(|applied| applied.taken),
            is_torn: self.standby.is_torn(),
        }
    }
}

/// What a profile of the configuration is to keep, in each repository it names.
pub fn expected(profile: &Profile, here: &str, memory: Option<&Memory>) -> Vec<Expected> {
    let settings = &profile.settings;
    let standby = settings.standby.as_ref();
    let (host, of) = match standby {
        Some(standby) if profile.kind() == ProfileKind::Standby => {
            (standby.host.clone(), standby.profile.clone())
        }
        _ => (settings.host.clone().unwrap_or_else(|| here.to_owned()), profile.name.clone()),
    };
    let promised = settings.promises.as_ref().map(Promised::from).unwrap_or_default();
    let thresholds = settings.suspicion.as_ref().map(Thresholds::from).unwrap_or_default();
    let one = |repository: &String, written, promised| Expected {
        repository: Some(repository.clone()),
        name: profile.name.clone(),
        host: host.clone(),
        profile: of.clone(),
        kind: profile.kind(),
        written,
        promised,
        thresholds,
        last: memory.map(|memory| memory.of(repository, written)).unwrap_or_default(),
    };
    let own = profile.repositories().iter().map(|name| one(name, Written::Profile, promised));
    let copies = profile.copies().iter().map(|copy| {
        // one that is copied once a week may be a week older
        let every = copy.every.map_or(0, |every| every.ms);
        let maximum_age = promised.maximum_age.map(|age| age.saturating_add(every));
        one(&copy.to, Written::Copy, Promised { maximum_age, ..Promised::default() })
    });
    own.chain(copies).collect()
}

impl Expected {
    /// Of a host and profile that no configuration knows of: what its newest good snapshot promises.
    pub fn of_group(group: &Group<'_>, repository: Option<&str>, now: u64) -> Expected {
        let good = group.snapshots.iter().rfind(|s| s.is_good() && !is_ahead(s, now));
        let promises = good
            .or(group.ahead.as_ref())
            .map(|good| good.manifest.promises.clone())
            .unwrap_or_default();
        let ms = |seconds: Option<u64>| seconds.map(|seconds| seconds.saturating_mul(1000));
        Expected {
            repository: repository.map(str::to_owned),
            name: group.profile.to_owned(),
            host: group.host.to_owned(),
            profile: group.profile.to_owned(),
            kind: ProfileKind::Backup,
            written: Written::Snapshots,
            promised: Promised {
                maximum_age: ms(promises.maximum_age),
                drill: ms(promises.drill_interval),
                check: ms(promises.check_interval),
                prune: None,
            },
            thresholds: Thresholds::default(),
            last: Last::default(),
        }
    }

    /// Of a repository that no profile names.
    pub fn of_repository(repository: Option<&str>) -> Expected {
        Expected {
            repository: repository.map(str::to_owned),
            name: String::new(),
            host: String::new(),
            profile: String::new(),
            kind: ProfileKind::Backup,
            written: Written::Snapshots,
            promised: Promised::default(),
            thresholds: Thresholds::default(),
            last: Last::default(),
        }
    }

    pub fn is_of(&self, host: &str, profile: &str) -> bool {
        self.kind != ProfileKind::Maintenance && self.host == host && self.profile == profile
    }

    fn remark(&self, lack: Lack, sentence: String, newest: Option<&Snapshot>) -> Remark {
        Remark { lack, sentence, command: self.command(lack, newest) }
    }

    fn command(&self, lack: Lack, newest: Option<&Snapshot>) -> String {
        let (host, profile) = (quote(&self.host), quote(&self.profile));
        let esker = match &self.repository {
            Some(repository) => format!("esker -r {}", quote(repository)),
            None => "esker".to_owned(),
        };
        let parent = newest.and_then(|newest| newest.manifest.parent.zip(Some(newest.id)));
        match (lack, parent) {
            (Lack::Check, _) => format!("{esker} check"),
            (Lack::Prune, _) => format!("{esker} prune"),
            (Lack::Drill, _) if self.kind == ProfileKind::Maintenance => {
                format!("{esker} drill --profile {}", quote(&self.name))
            }
            (Lack::Drill, _) => format!("{esker} drill --host {host} --profile {profile}"),
            (Lack::Unreachable, _) => format!("{esker} snapshots"),
            (Lack::Ahead, _) if newest.is_some() => {
                let id = newest.map(|newest| short(newest.id)).unwrap_or_default();
                format!("{esker} forget {id} --i-trust-this-clock")
            }
            (Lack::Suspicious, Some((parent, newest))) => {
                format!("{esker} diff {} {}", short(parent), short(newest))
            }
            (Lack::NoSnapshot | Lack::TooOld | Lack::Partial | Lack::Unconfirmed, _)
            | (Lack::Behind, _)
                if self.written != Written::Snapshots =>
            {
                format!("esker run {}", quote(&self.name))
            }
            _ => format!("{esker} snapshots --host {host} --profile {profile} --all"),
        }
    }

    /// Of a repository that could not be asked, and why; nothing as long as it may be away.
    pub fn away(&self, reason: &str, is_removable: bool, now: u64) -> Option<Remark> {
        let last = self.last.snapshot.or(self.last.applied);
        if is_removable && is_kept(self.promised.maximum_age, last, now) {
            return None;
        }
        let since = match (is_removable, last) {
            (true, Some(last)) if last > latest_believed(now) => {
                format!(", and was there last on {}, which is yet to come", output::rfc3339(last))
            }
            (true, Some(last)) => {
                format!(", and was there last {} ago", output::age(now.saturating_sub(last)))
            }
            (true, None) => ", and was never there".to_owned(),
            (false, _) => String::new(),
        };
        let sentence = format!("the repository cannot be asked{since}: {reason}");
        Some(self.remark(Lack::Unreachable, sentence, None))
    }
}

/// Whether what was there last is no older than promised. Times in ms.
pub fn is_kept(maximum_age: Option<u64>, last: Option<u64>, now: u64) -> bool {
    let is_young =
        |last: u64, age: u64| last <= latest_believed(now) && now.saturating_sub(last) <= age;
    maximum_age.is_none_or(|age| last.is_some_and(|last| is_young(last, age)))
}

/// What a repository tells.
pub struct Seen {
    pub overview: Overview,
    /// Results of drills, checks and prunes, by keys that are in force; nothing if they could not be read.
    pub records: Option<Vec<Recorded>>,
    /// Snapshots of `overview`, for whoever compares them.
    snapshots: Vec<Snapshot>,
    /// Runs whose writer was revoked since.
    revoked: HashSet<SnapshotId>,
}

impl Seen {
    pub fn new(
        repository: &Repository,
        overview: Overview,
        records: Option<Vec<Recorded>>,
    ) -> Seen {
        let trust = repository.trust();
        let is_revoked = |writer| matches!(trust.standing(writer), Standing::Revoked(_));
        let runs = overview.runs.iter().filter(|told| is_revoked(told.run.writer));
        let runs = runs.map(|told| told.run.id);
        let of_snapshots =
            overview.snapshots.iter().filter(|told| is_revoked(told.snapshot.manifest.writer));
        let revoked = runs.chain(of_snapshots.map(|told| told.snapshot.id)).collect();
        let records = records.map(|mut records| {
            records.retain(|recorded| !recorded.by_revoked);
            records
        });
        let snapshots = overview.snapshots.iter().map(|told| told.snapshot.clone()).collect();
        Seen { overview, records, snapshots, revoked }
    }

    /// When the snapshot was taken that a standby holds: as this machine remembers it, else as a record tells.
    pub fn taken(&self, expected: &Expected) -> Option<u64> {
        let find = |id: SnapshotId| self.snapshots.iter().find(|snapshot| snapshot.id == id);
        let told = || {
            let is_over =
                |recorded: &&Recorded| recorded.record.ended <= latest_believed(self.overview.now);
            let applied = self.records.iter().flatten().rev().filter(is_over);
            let applied =
                applied.filter_map(|recorded| find(standby::applied_by(&recorded.record)?));
            let mut own = applied.filter(|snapshot| {
                expected.is_of(&snapshot.manifest.host, &snapshot.manifest.profile)
            });
            own.next().map(|snapshot| snapshot.manifest.started)
        };
        expected.last.taken.or_else(told)
    }

    fn being_deleted(&self, id: SnapshotId) -> bool {
        let of = |status| status == Status::BeingDeleted;
        self.overview.snapshots.iter().any(|told| told.snapshot.id == id && of(told.status))
    }

    /// Whether a record of a drill is about a host and profile. What it is about in words counts where none of its
    /// snapshots is left.
    fn covers(&self, recorded: &Recorded, expected: &Expected) -> bool {
        let record = &recorded.record;
        if expected.kind == ProfileKind::Maintenance {
            return true;
        }
        let listed = |id: &SnapshotId| self.snapshots.iter().find(|s| s.id == *id);
        let mut listed = record.snapshots.iter().filter_map(listed).peekable();
        if listed.peek().is_some() {
            return listed.any(|snapshot| {
                let manifest = &snapshot.manifest;
                expected.is_of(&manifest.host, &manifest.profile)
            });
        }
        let Expected { host, profile, .. } = expected;
        [format!("snapshots of {host}/{profile}"), format!("snapshots of profile {profile}")]
            .iter()
            .any(|extent| record.extent.ends_with(extent))
            || record.extent.ends_with("all snapshots")
    }
}

/// What is amiss with a host and profile; `group` is what the repository has of it.
pub fn judge(expected: &Expected, group: Option<&Group<'_>>, seen: &Seen) -> Vec<Remark> {
    let look = Look { expected, group, seen, now: seen.overview.now };
    match expected.kind {
        ProfileKind::Template => Vec::new(),
        ProfileKind::Maintenance => look.steps(),
        ProfileKind::Standby => look.behind().into_iter().collect(),
        ProfileKind::Backup => {
            let mut remarks: Vec<Remark> = look.fresh().into_iter().chain(look.ahead()).collect();
            // of a host that was lost, its promise is all that still counts
            if !look.is_lost() {
                remarks.extend(look.newest());
                remarks.extend(look.run());
                remarks.extend(look.steps());
                remarks.extend(look.suspicious());
            }
            remarks
        }
    }
}

struct Look<'a> {
    expected: &'a Expected,
    group: Option<&'a Group<'a>>,
    seen: &'a Seen,
    now: u64,
}

impl Look<'_> {
    fn is_ahead(&self, snapshot: &Snapshot) -> bool {
        is_ahead(snapshot, self.now)
    }

    /// What is noted for a later time says that a clock was wrong, and nothing of how long ago it was.
    fn is_over(&self, time: u64) -> bool {
        time <= latest_believed(self.now)
    }

    fn ago(&self, time: u64) -> String {
        output::age(self.now.saturating_sub(time))
    }

    /// The newest that can be used.
    fn good(&self) -> Option<&Snapshot> {
        let good =
            |s: &&&Snapshot| s.is_good() && !self.is_ahead(s) && !self.seen.being_deleted(s.id);
        self.group?.snapshots.iter().rfind(good).copied()
    }

    /// Whatever somebody was to keep; a backup by hand without a promise is nobody's business.
    fn is_held(&self) -> bool {
        let Expected { written, promised, .. } = self.expected;
        *written == Written::Profile || *promised != Promised::default()
    }

    fn is_lost(&self) -> bool {
        let Some(group) = self.group else { return false };
        let run = group.last_run.map(|told| told.run.id);
        let believed = group.snapshots.iter().rfind(|snapshot| !self.is_ahead(snapshot));
        let newest = believed.or(group.snapshots.last()).map(|snapshot| snapshot.id);
        let revoked = |id: Option<SnapshotId>| id.map(|id| self.seen.revoked.contains(&id));
        revoked(newest).or(revoked(run)).unwrap_or(false)
    }

    fn fresh(&self) -> Option<Remark> {
        let Expected { promised, written, .. } = self.expected;
        let promise = promised.maximum_age;
        let age = self.group.and_then(|group| group.age);
        let remark = |lack, sentence| Some(self.expected.remark(lack, sentence, None));
        let is_expected = *written == Written::Profile || promise.is_some();
        match (age, promise) {
            (Some(age), Some(promise)) if age > promise => remark(
                Lack::TooOld,
                format!(
                    "the newest complete {} is {} old, promised is {}{}",
                    self.noun(),
                    output::age(age),
                    output::age(promise),
                    self.lacking()
                ),
            ),
            (Some(_), _) => None,
            (None, Some(promise)) if self.good().is_some() => remark(
                Lack::TooOld,
                format!(
                    "there is no complete {}, promised is one every {}{}",
                    self.noun(),
                    output::age(promise),
                    self.lacking()
                ),
            ),
            (None, _) if is_expected && self.good().is_none() && !self.is_under_way() => {
                let is_ahead = self.group.is_some_and(|group| group.ahead.is_some());
                let none = if is_ahead {
                    "there is no other snapshot"
                } else {
                    "there is no snapshot yet"
                };
                remark(Lack::NoSnapshot, none.to_owned())
            }
            _ => None,
        }
    }

    fn noun(&self) -> &'static str {
        let set = self.good().and_then(|newest| newest.manifest.set.as_ref());
        if set.is_some() { "set" } else { "snapshot" }
    }

    /// What keeps the newest set from being whole.
    fn lacking(&self) -> String {
        let newest =
            self.good().and_then(|newest| Some((newest.id, newest.manifest.set.as_ref()?)));
        let Some((id, set)) = newest else { return String::new() };
        let told = self.seen.overview.snapshots.iter().find(|told| told.snapshot.id == id);
        match told.and_then(|told| told.set_lacks.as_ref()) {
            Some(parts) if !parts.is_empty() => {
                format!("; of the newest, {}, {} is not there", set.name, parts.join(", "))
            }
            _ => String::new(),
        }
    }

    /// The first one, that is.
    fn is_under_way(&self) -> bool {
        let runs = |group: &Group<'_>| group.under_way.iter().any(|t| self.is_over(t.run.started));
        self.group.is_some_and(runs)
    }

    /// It would be the newest until its time comes, whatever happens meanwhile.
    fn ahead(&self) -> Option<Remark> {
        let ahead = self.group?.ahead.filter(|_| self.is_held())?;
        let time = ahead.manifest.started.max(ahead.manifest.ended);
        let sentence = format!(
            "snapshot {} is dated {}, {} from now, and does not count until then: if this \
             machine's clock is right, its host's was wrong",
            short(ahead.id),
            output::rfc3339(time),
            output::age(time.saturating_sub(self.now))
        );
        Some(self.expected.remark(Lack::Ahead, sentence, Some(ahead)))
    }

    fn newest(&self) -> Option<Remark> {
        let newest = self.good().filter(|_| self.is_held())?;
        let manifest = &newest.manifest;
        if manifest.outcome == Outcome::Complete {
            return None;
        }
        let failed = manifest.sources.iter().filter(|source| source.outcome != Outcome::Complete);
        let failures = match (failed.count() as u64, manifest.counts.failures) {
            (_, failures) if failures > 0 => {
                format!(": {} could not be read", output::counted(failures, "file"))
            }
            (sources, _) if sources > 0 => {
                format!(": {} failed", output::counted(sources, "source"))
            }
            _ => String::new(),
        };
        let sentence = format!("the newest snapshot, {}, is partial{failures}", short(newest.id));
        Some(self.expected.remark(Lack::Partial, sentence, Some(newest)))
    }

    fn run(&self) -> Option<Remark> {
        if !self.is_held() {
            return None;
        }
        let sentence = self.of_signs().or_else(|| self.of_records())?;
        Some(self.expected.remark(Lack::Unconfirmed, sentence, None))
    }

    /// What the last run's signs of life tell, if it went wrong.
    fn of_signs(&self) -> Option<String> {
        let told = self.group?.last_run.filter(|told| told.current)?;
        let became = match told.state {
            RunState::Interrupted(_) => "was interrupted".to_owned(),
            RunState::Silent { hours } => {
                format!("gave no sign for {}", output::counted(hours, "hour"))
            }
            RunState::Failed { code } => format!("failed with exit code {code}"),
            RunState::Running | RunState::MadeSnapshot(_) | RunState::Ended => return None,
        };
        let ago = self.ago(told.run.started);
        Some(format!("the last run, begun {ago} ago, {became}, and nothing is confirmed of it"))
    }

    /// A run that failed before it gave a sign, in a hook or a dump, left a record of it.
    fn of_records(&self) -> Option<String> {
        let Expected { host, profile, .. } = self.expected;
        let extent = run_of(host, profile);
        let is_of = |recorded: &&Recorded| {
            let record = &recorded.record;
            record.kind == "run" && record.extent == extent && self.is_over(record.ended)
        };
        let record = &self.seen.records.iter().flatten().rfind(is_of)?.record;
        let took = self.good().is_some_and(|good| good.manifest.started >= record.started);
        if record.code == 0 || took {
            return None;
        }
        let (ago, code) = (self.ago(record.started), record.code);
        Some(format!(
            "the last run, begun {ago} ago, ended with exit code {code} and took no snapshot"
        ))
    }

    fn steps(&self) -> Vec<Remark> {
        let Expected { promised, last, .. } = self.expected;
        let drill = self.step(Lack::Drill, promised.drill, last.drill);
        let check = self.step(Lack::Check, promised.check, last.check);
        let prune = self.step(Lack::Prune, promised.prune, last.prune);
        [drill, check, prune].into_iter().flatten().collect()
    }

    /// A drill, check or prune that went wrong, or is too long ago. One that never was is missed once it could have been:
    /// a backup that nobody practised is missed at once.
    fn step(&self, lack: Lack, promise: Option<u64>, here: Option<u64>) -> Option<Remark> {
        let promise = promise?;
        let records = self.seen.records.iter().flatten();
        let of_kind = |recorded: &&Recorded| {
            recorded.record.kind == lack.word()
                && self.is_over(recorded.record.ended)
                && (lack != Lack::Drill || self.seen.covers(recorded, self.expected))
        };
        let records: Vec<&Recorded> = records.filter(of_kind).collect();
        let remark = |sentence| Some(self.expected.remark(lack, sentence, None));
        let word = lack.word();
        let good = records.iter().filter(|recorded| recorded.record.code == 0);
        let here = here.filter(|time| self.is_over(*time));
        let good = good.map(|recorded| recorded.record.ended).max().max(here);
        let bad = records.last().filter(|recorded| recorded.record.code != 0);
        if let Some(bad) = bad.filter(|bad| good.is_none_or(|good| bad.record.ended > good)) {
            let (ago, code) = (self.ago(bad.record.ended), bad.record.code);
            return remark(format!("the last {word}, {ago} ago, ended with exit code {code}"));
        }
        let promised = output::age(promise);
        match good {
            Some(good) if self.now.saturating_sub(good) > promise => {
                let ago = self.ago(good);
                remark(format!("the last {word} was {ago} ago, promised is one every {promised}"))
            }
            Some(_) => None,
            None if self.is_missed(lack, promise) && self.seen.records.is_none() => {
                let unread = "the records of this repository cannot be read";
                remark(format!("nobody can tell when the last {word} was: {unread}"))
            }
            None if self.is_missed(lack, promise) => {
                remark(format!("there was never a {word}, promised is one every {promised}"))
            }
            None => None,
        }
    }

    fn is_missed(&self, lack: Lack, promise: u64) -> bool {
        let mut snapshots: Vec<&Snapshot> = match (self.expected.kind, self.group) {
            (ProfileKind::Maintenance, _) => self.seen.snapshots.iter().collect(),
            (_, Some(group)) => group.snapshots.clone(),
            (_, None) => Vec::new(),
        };
        snapshots.retain(|snapshot| snapshot.is_good());
        let first = snapshots.iter().map(|snapshot| snapshot.manifest.started).min();
        match lack {
            Lack::Drill => first.is_some(),
            _ => first.is_some_and(|first| self.now.saturating_sub(first) > promise),
        }
    }

    fn suspicious(&self) -> Vec<Remark> {
        let Expected { host, profile, thresholds, .. } = self.expected;
        let until = latest_believed(self.now);
        let odd = judge_newest(&self.seen.snapshots, host, profile, thresholds, until);
        let newest = self.good();
        let remark = |sentence| self.expected.remark(Lack::Suspicious, sentence, newest);
        odd.into_iter().map(remark).collect()
    }

    /// A standby has what was there when it restored last.
    fn behind(&self) -> Option<Remark> {
        let remark = |sentence| Some(self.expected.remark(Lack::Behind, sentence, None));
        let newest = self.group.and_then(|group| group.newest_complete);
        let Some(newest) = newest else {
            let Expected { host, profile, .. } = self.expected;
            let sentence =
                format!("there is no complete snapshot of host {host}, profile {profile}");
            return Some(self.expected.remark(Lack::NoSnapshot, sentence, None));
        };
        if self.expected.last.is_torn {
            return remark("the last restore did not end well: some of it may be there".to_owned());
        }
        let Some(taken) = self.seen.taken(self.expected) else {
            let sentence = match self.seen.records {
                Some(_) => "nothing was ever restored here",
                None => {
                    "nobody can tell what it holds: the records of this repository cannot be read"
                }
            };
            return remark(sentence.to_owned());
        };
        if !self.is_over(taken) {
            let taken = output::rfc3339(taken);
            return remark(format!(
                "what the standby holds is dated {taken}, which is yet to come"
            ));
        }
        let promise = self.expected.promised.maximum_age?;
        let age = self.now.saturating_sub(taken);
        if behind(newest, taken).is_none() || age <= promise {
            return None;
        }
        let (age, promise) = (output::age(age), output::age(promise));
        remark(format!("what the standby holds is {age} old, promised is {promise}"))
    }
}

/// How much older what a standby holds is than the newest there is, in ms; nothing if it holds that.
pub fn behind(newest: &Snapshot, taken: u64) -> Option<u64> {
    newest.manifest.started.checked_sub(taken).filter(|ms| *ms > 0)
}

fn short(id: SnapshotId) -> String {
    id.to_hex()[..8].to_owned()
}

/// As a shell takes it for one word, and people read it.
fn quote(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.to_owned(),
        false => through::quote(text),
    }
}

#[cfg(test)]
mod tests;
