//! Dumps that are loaded: into a throw-away server that the drill starts, or by a
//! command of the user's. The way back is the ordinary one; only where it leads is
//! another.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::DrillOptions;
use super::report::DrillReport;
use super::scratch::{Scratch, tells_full};
use super::server::{self, Machine, NoServer, Server};
use crate::config::profile::{Preset, ProfileSettings, Source, SqlitePreset};
use crate::config::value::Secret;
use crate::format::entry::key_of_path;
use crate::progress::Progress;
use crate::repository::snapshots::Snapshot;
use crate::repository::{Error, ErrorKind, Repository, Result};
use crate::restore::{Overwrite, RestoreOptions, RestoreOutcome, dump, restore};
use crate::source::preset::fingerprint::MAX_FINGERPRINT;
use crate::source::preset::{FINGERPRINT, Fingerprint, PresetSource, compare_fingerprint};
use crate::source::process::Limits;
use crate::source::{self, Surroundings};
use crate::wayback::command::Command;
use crate::wayback::profile::{kind_of, steps_of_profile, stored_name};
use crate::wayback::{self, Outcome, Step, What, source_names};

/// How many databases are named that were not compared.
const SHOWN_DATABASES: usize = 10;

/// Whose sources are loaded.
pub struct Loading<'a> {
    pub repository: &'a Repository,
    pub scratch: &'a Scratch,
    pub options: &'a DrillOptions<'a>,
    pub progress: &'a dyn Progress,
}

impl Loading<'_> {
    /// Loads what a snapshot has of databases, and gives the user's commands their
    /// streams. Whatever cannot be loaded for want of something on this machine is
    /// not covered; all else that fails is a finding.
    pub fn snapshot(
        &self,
        snapshot: &Snapshot,
        settings: Option<&ProfileSettings>,
        report: &mut DrillReport,
    ) -> Result<()> {
        let names = source_names(self.repository, snapshot)?;
        let mut commands = self.options.commands.clone();
        for name in &names {
            let source = settings.iter().flat_map(|settings| &settings.sources);
            let source = source.into_iter().find(|source| stored_name(source) == *name);
            let preset = source.and_then(|source| Some((source, source.preset.as_ref()?)));
            if let Some(command) = commands.remove(name) {
                let key = name.clone().into_bytes();
                let limits = source.map(source::limits).unwrap_or_default();
                self.command(snapshot, name, key, (&command.words(), limits), report)?;
            } else if let (Some((source, preset)), true) = (preset, self.options.databases) {
                self.preset(snapshot, name, source, preset, report)?;
            } else if preset.is_some() {
                report.not_covered.push(format!(
                    "source {name} was not loaded into a server: --databases does that"
                ));
            } else {
                report.not_covered.push(format!(
                    "source {name} was not given to what reads it: --command {name}=COMMAND does that"
                ));
            }
        }
        let paths = self.repository.private_part(snapshot)?.paths;
        for (name, command) in commands {
            if paths.iter().any(|path| path == name.as_bytes()) {
                let key = key_of_path(name.as_bytes());
                let words = command.words();
                self.command(snapshot, &name, key, (&words, Limits::default()), report)?;
            }
        }
        Ok(())
    }

    /// Feeds a source to a command, whose exit status decides.
    fn command(
        &self,
        snapshot: &Snapshot,
        name: &str,
        key: Vec<u8>,
        (words, limits): (&[String], Limits),
        report: &mut DrillReport,
    ) -> Result<()> {
        let words = words.iter().map(OsString::from).collect();
        let limits = Some(limits);
        let command = Command { words, prints_aside: true, limits, ..Command::default() };
        let what = What::Command { key, command };
        let step = Step { name: name.to_owned(), snapshot, what };
        if self.steps(snapshot, name, &[step], report)? {
            report.loaded.insert(name.to_owned());
        }
        Ok(())
    }

    /// Runs steps of the way back; whether all went well.
    fn steps(
        &self,
        snapshot: &Snapshot,
        name: &str,
        steps: &[Step<'_>],
        report: &mut DrillReport,
    ) -> Result<bool> {
        report.practised(snapshot);
        let mut finding = |reason: String| {
            report.findings.add(Some(snapshot.id), name.as_bytes().to_vec(), reason);
        };
        let path = Some(self.options.path.as_os_str());
        let ran = wayback::run(self.repository, steps, path, &mut |_| Ok(()), self.progress);
        let reports = match ran {
            Ok(reports) => reports,
            Err(error) if matters(&error) => {
                finding(error.message);
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        for step in reports {
            match step.outcome {
                Outcome::Failed(error) if matters(&error) => {
                    finding(error.message);
                    return Ok(false);
                }
                Outcome::Failed(error) => return Err(error),
                Outcome::NotBegun => return Ok(false),
                Outcome::Done(wayback::Done::Files(restored))
                    if restored.outcome() != RestoreOutcome::Complete =>
                {
                    let first = restored.damaged.iter().chain(&restored.failures).next();
                    let reason = first.map_or(String::new(), |first| first.reason.clone());
                    finding(format!("not all of it could be restored: {reason}"));
                    return Ok(false);
                }
                Outcome::Done(_) => {}
            }
        }
        Ok(true)
    }

    fn preset(
        &self,
        snapshot: &Snapshot,
        name: &str,
        source: &Source,
        preset: &Preset,
        report: &mut DrillReport,
    ) -> Result<()> {
        let machine = Machine {
            scratch: self.scratch,
            path: self.options.path.as_os_str(),
            progress: self.progress,
        };
        let kind = kind_of(preset);
        let started: std::result::Result<(Option<Server>, Preset), NoServer> = match preset {
            Preset::Postgresql(old) => server::postgresql(&machine).map(|(server, mut new)| {
                new.globals = old.globals;
                (Some(server), Preset::Postgresql(new))
            }),
            Preset::Mariadb(old) => server::mariadb(&machine).map(|(server, mut new)| {
                new.users = old.users;
                (Some(server), Preset::Mariadb(new))
            }),
            Preset::Redis(_) => {
                server::redis(&machine).map(|(server, new)| (Some(server), Preset::Redis(new)))
            }
            Preset::Sqlite(_) => self.sqlite(snapshot, name, report).map(|new| (None, new)),
            Preset::Elasticsearch(_) | Preset::Ndb(_) => {
                let what =
                    format!("a drill starts no server of {kind}: --command {name}=COMMAND may");
                Err(NoServer::Missing(what))
            }
        };
        let loaded = match started {
            Ok((server, new)) => {
                let before = report.findings.clone();
                let loaded = self.load(snapshot, name, source, &new, report);
                let has_new = report.findings.count() > before.count();
                if has_new && server.as_ref().is_some_and(Server::was_full) {
                    // what a full disk broke says nothing of the backup
                    report.findings = before;
                    return Err(self.scratch.full());
                }
                loaded
            }
            Err(NoServer::Missing(why)) => {
                report.not_covered.push(format!("source {name} was not loaded: {why}"));
                Ok(())
            }
            Err(NoServer::Failed(error)) => Err(error),
        };
        self.scratch.clear(&self.scratch.path().join(kind))?;
        loaded
    }

    /// SQLite needs no server: its files come to lie in scratch.
    fn sqlite(
        &self,
        snapshot: &Snapshot,
        name: &str,
        report: &mut DrillReport,
    ) -> std::result::Result<Preset, NoServer> {
        let target = self.scratch.directory("sqlite")?;
        let options = RestoreOptions {
            target: target.clone(),
            path: Some(name.as_bytes().to_vec()),
            overwrite: Overwrite::Always,
            verify: true,
            ..RestoreOptions::default()
        };
        report.practised(snapshot);
        let restored = restore(self.repository, snapshot, &options, self.progress)
            .map_err(|error| self.scratch.explain_restore(error))?;
        if restored.failures.iter().any(|failure| tells_full(&failure.reason)) {
            return Err(self.scratch.full().into());
        }
        if let Some(first) = restored.damaged.iter().chain(&restored.failures).next() {
            let reason = format!("not all of it could be restored: {}", first.reason);
            report.findings.add(Some(snapshot.id), name.as_bytes().to_vec(), reason);
        }
        let stored = self.fingerprint(snapshot, name)?;
        let files = stored.iter().flat_map(|stored| stored.databases.keys());
        Ok(Preset::Sqlite(SqlitePreset {
            files: files.map(|file| target.join(file)).collect(),
            through: None,
        }))
    }

    /// The fingerprint that lies beside a dump; none if there is none.
    fn fingerprint(&self, snapshot: &Snapshot, name: &str) -> Result<Option<Fingerprint>> {
        let key = [name.as_bytes(), b"\0", FINGERPRINT.as_bytes()].concat();
        let tree = self.repository.private_part(snapshot)?.tree;
        let Some(entry) = self.repository.find_entry(tree, &key)? else { return Ok(None) };
        let mut bytes = Vec::new();
        if entry.metadata.size <= MAX_FINGERPRINT as u64 {
            dump(self.repository, snapshot, &key, &mut bytes, self.progress)?;
        }
        let parsed = Fingerprint::parse(&bytes);
        parsed.map(Some).map_err(|what| Error::damage(format!("{name}: {FINGERPRINT}: {what}")))
    }

    /// Loads a dump by the steps of the way back, and holds what the server has then
    /// against what the real one had.
    fn load(
        &self,
        snapshot: &Snapshot,
        name: &str,
        source: &Source,
        preset: &Preset,
        report: &mut DrillReport,
    ) -> Result<()> {
        let own = |name: &str| {
            let text = self.scratch.path().join(kind_of(preset)).display().to_string();
            (name.to_owned(), Secret::Text(text))
        };
        let drilled = Source {
            name: Some(name.to_owned()),
            preset: Some(preset.clone()),
            timeout: source.timeout,
            idle_timeout: source.idle_timeout,
            // whatever clients are told in files of their user is of other servers; and
            // what steps keep for a moment goes with scratch
            environment: BTreeMap::from(["HOME", "MYSQL_HOME", "TMPDIR"].map(own)),
            ..Source::default()
        };
        let reveal = |secret: &Secret| match secret {
            Secret::Text(text) => Ok(text.clone().into()),
            Secret::Reference(_) => Err(Error::failed("a drill has no secrets of its own")),
        };
        let surroundings = Surroundings {
            path: self.options.path.clone(),
            temporary: self.scratch.path().to_owned(),
            reveal: &reveal,
            id: None,
        };
        let source = PresetSource::new(&drilled, preset, &surroundings);
        let loaded = match source.and_then(|source| source.check().map(|()| source)) {
            Ok(loaded) => loaded,
            Err(error) => {
                let why = error.message;
                report.not_covered.push(format!("source {name} was not loaded: {why}"));
                return Ok(());
            }
        };
        if !matches!(preset, Preset::Sqlite(_)) {
            let settings =
                ProfileSettings { sources: vec![drilled.clone()], ..ProfileSettings::default() };
            let root = self.scratch.files();
            let way_back =
                steps_of_profile(self.repository, snapshot, &settings, &root, &surroundings)?;
            if !self.steps(snapshot, name, &way_back.steps, report)? {
                return Ok(());
            }
        }
        self.hold_against(snapshot, name, &loaded, report)
    }

    fn hold_against(
        &self,
        snapshot: &Snapshot,
        name: &str,
        loaded: &PresetSource,
        report: &mut DrillReport,
    ) -> Result<()> {
        let Some(stored) = self.fingerprint(snapshot, name)? else {
            report.loaded.insert(name.to_owned());
            report
                .not_covered
                .push(format!("source {name} was loaded; no fingerprint lies beside its dump"));
            return Ok(());
        };
        let found = match loaded.fingerprint(&|| self.progress.interrupted()) {
            _ if self.progress.interrupted() => return Err(Error::interrupted()),
            Ok(found) => found.unwrap_or_default(),
            Err(reason) => {
                report.findings.add(Some(snapshot.id), name.as_bytes().to_vec(), reason);
                return Ok(());
            }
        };
        let differences = compare_fingerprint(&stored, &self.as_stored(found));
        if differences.is_empty() {
            report.loaded.insert(name.to_owned());
            report.not_covered.extend(not_compared(name, &stored));
        }
        if let Some((first, more)) = differences.split_first() {
            let more = match more.len() {
                0 => String::new(),
                more => format!("; and {more} more differences"),
            };
            let reason = format!("is not what was dumped: {first}{more}");
            report.findings.add(Some(snapshot.id), name.as_bytes().to_vec(), reason);
        }
        Ok(())
    }

    /// Files of SQLite lie in scratch, and are named as where they were.
    fn as_stored(&self, mut found: Fingerprint) -> Fingerprint {
        let scratch = self.scratch.path().join("sqlite").display().to_string();
        let prefix = format!("{}/", scratch.trim_start_matches('/'));
        let databases = std::mem::take(&mut found.databases).into_iter();
        let renamed = databases.map(|(name, database)| {
            let stored = name.strip_prefix(&prefix).map(str::to_owned);
            (stored.unwrap_or(name), database)
        });
        found.databases = renamed.collect();
        found
    }
}

/// Databases whose dump was told to leave things out: what they should have is not known.
fn not_compared(name: &str, stored: &Fingerprint) -> Option<String> {
    let unknown = stored.databases.iter().filter(|(_, database)| database.tables.is_none());
    let mut unknown: Vec<&str> = unknown.map(|(name, _)| name.as_str()).collect();
    let more = unknown.len().saturating_sub(SHOWN_DATABASES);
    unknown.truncate(SHOWN_DATABASES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!unknown.is_empty()).then(|| {
        let unknown = unknown.join(", ");
        format!(
            "source {name} was loaded, and not compared: {unknown}{more}: rows are not counted of a dump with `arguments`"
        )
    })
}

/// Whether an error says something of the backup, and not that the drill has to end.
fn matters(error: &Error) -> bool {
    matches!(error.kind, ErrorKind::Damage | ErrorKind::Failed | ErrorKind::Usage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::preset::fingerprint::{Count, Database};

    #[test]
    fn a_database_without_counts_is_loaded_and_not_compared() {
        let counted = Database {
            tables: Some(BTreeMap::from([("orders".to_owned(), Count::Exact(3))])),
            ..Database::default()
        };
        let of = |databases: &[(&str, &Database)]| Fingerprint {
            kind: "postgresql".into(),
            databases: databases
                .iter()
                .map(|(name, database)| ((*name).to_owned(), (*database).clone()))
                .collect(),
        };
        assert_eq!(not_compared("pg", &of(&[("shop", &counted)])), None);
        let told = not_compared("pg", &of(&[("shop", &counted), ("wiki", &Database::default())]));
        let told = told.unwrap();
        assert!(told.contains("source pg was loaded, and not compared: wiki:"), "{told}");
    }
}
