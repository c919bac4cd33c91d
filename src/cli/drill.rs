//! `drill`: restores for practice, and records what came of it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};

use super::backup::host_name;
use super::context::Context;
use super::environment::variable;
use super::exit::when;
use super::progress::Reporter;
use super::snapshot_name::{Narrow, parse_snapshot};
use super::streams::{Output, Stop};
use super::{Exit, Outcome, report, wayback};
use crate::config::Profile;
use crate::config::profile::{Drill as Settings, ProfileKind};
use crate::config::value::Command;
use crate::drill::{DrillOptions, DrillReport, FILES, History, Scratch, drill, record};
use crate::output;
use crate::progress::Progress;
use crate::repository::local::CacheRoot;
use crate::repository::snapshots::Snapshot;
use crate::repository::{Error, ErrorKind, Repository, Result, now_ms};

/// Restore for practice, and see that what arrives is what was saved
///
/// Without a SNAPSHOT, twelve drills cover every pack that is in use; each restores the files that
/// need its packs, and some at risk: the newest, the largest, some of the oldest snapshot, some
/// never drilled before. The result is recorded in the repository.
#[derive(Args)]
pub struct Arguments {
    /// Only this snapshot
    #[arg(value_name = "SNAPSHOT")]
    snapshot: Option<String>,

    /// A profile of the configuration: its snapshots, and what it says of drills
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,

    /// Only snapshots of this host
    #[arg(long, value_name = "NAME")]
    host: Option<String>,

    /// So many files at risk, besides those that packs need; 20 without it
    #[arg(long, value_name = "N", conflicts_with = "all")]
    files: Option<u64>,

    /// Restore everything in the newest snapshot of each host and profile
    #[arg(long)]
    all: bool,

    /// Compare with the live source, too
    #[arg(long)]
    live: bool,

    /// Load dumps of PostgreSQL, MariaDB, Redis and SQLite into servers started for that
    #[arg(long)]
    databases: bool,

    /// Give a source's stream to a command, whose exit status decides
    #[arg(long, value_name = "SOURCE=COMMAND", value_parser = command)]
    command: Vec<(String, Command)>,

    /// Restore to a directory made in this one; TMPDIR or /tmp without it
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
}

fn command(text: &str) -> std::result::Result<(String, Command), String> {
    match text.split_once('=') {
        Some((source, command)) if !source.is_empty() && !command.trim().is_empty() => {
            Ok((source.to_owned(), Command::Shell(command.to_owned())))
        }
        _ => Err(format!("{text:?} is no source and command: write db=\"psql -f -\"")),
    }
}

pub fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let profile = match &arguments.profile {
        Some(name) => context.profiles()?.into_iter().find(|profile| profile.name == *name),
        None => None,
    };
    let wanted = Wanted::new(arguments, profile.as_ref());
    let named = match &profile {
        Some(profile) if !context.has_named_repository() => profile.repositories(),
        _ => &[],
    };
    if named.is_empty() {
        return one(context, arguments, &wanted, None);
    }
    let mut exit = Exit::Ok;
    for name in named {
        let ended = match one(context, arguments, &wanted, Some(name)) {
            Ok(ended) => ended,
            Err(Stop::Error(error)) if named.len() > 1 => {
                report(&error, Exit::of(error.kind), context.json())
            }
            Err(stop) => return Err(stop),
        };
        exit = exit.and(ended);
        if exit == Exit::Interrupted {
            break;
        }
    }
    Ok(exit)
}

/// What was typed and what the profile says, together.
struct Wanted {
    settings: Settings,
    host: Option<String>,
    profile: Option<String>,
}

impl Wanted {
    fn new(arguments: &Arguments, profile: Option<&Profile>) -> Wanted {
        let mut settings =
            profile.and_then(|profile| profile.settings.drill.clone()).unwrap_or_default();
        settings.all |= arguments.all;
        settings.live |= arguments.live;
        settings.databases |= arguments.databases;
        settings.files = arguments.files.or(settings.files);
        settings.scratch = arguments.scratch.clone().or(settings.scratch);
        settings.commands.extend(arguments.command.iter().cloned());
        if arguments.files.is_some() {
            settings.all = false;
        }
        let own = profile.map(|profile| &profile.settings);
        let (host, name) = match (profile.map(Profile::kind), own) {
            (Some(ProfileKind::Backup), Some(own)) => {
                (Some(own.host.clone().unwrap_or_else(host_name)), arguments.profile.clone())
            }
            (Some(ProfileKind::Standby), Some(own)) => {
                let of = own.standby.as_ref();
                (of.map(|of| of.host.clone()), of.map(|of| of.profile.clone()))
            }
            (Some(_), _) => (None, None),
            // of a machine whose configuration is lost
            (None, _) => (None, arguments.profile.clone()),
        };
        Wanted { settings, host: arguments.host.clone().or(host), profile: name }
    }

    fn narrow(&self) -> Narrow {
        Narrow {
            host: self.host.iter().cloned().collect(),
            profile: self.profile.iter().cloned().collect(),
            ..Narrow::default()
        }
    }

    fn extent(&self, snapshot: Option<&Snapshot>) -> String {
        let of = match (snapshot, &self.host, &self.profile) {
            (Some(snapshot), ..) => format!("snapshot {}", &snapshot.id.to_hex()[..8]),
            (None, Some(host), Some(profile)) => format!("snapshots of {host}/{profile}"),
            (None, Some(host), None) => format!("snapshots of host {host}"),
            (None, None, Some(profile)) => format!("snapshots of profile {profile}"),
            (None, None, None) => "all snapshots".to_owned(),
        };
        match self.settings.all {
            true => format!("everything in {of}"),
            false => of,
        }
    }
}

/// A drill of one repository.
fn one(context: &Context, arguments: &Arguments, wanted: &Wanted, name: Option<&str>) -> Outcome {
    let started = now_ms();
    let (store, unlock) = context.door(name)?;
    // from here on Ctrl-C leaves time to tidy up
    let reporter = context.reporter();
    let parent = wanted.settings.scratch.clone().unwrap_or_else(std::env::temp_dir);
    let scratch = Scratch::new(&parent)?;
    let cache = CacheRoot::Directory(scratch.cache());
    let repository =
        Repository::open(store, &unlock, &cache).map_err(|error| scratch.explain(error))?;
    let mut drilled = DrillReport::default();
    let ended =
        practise(context, arguments, wanted, &repository, &scratch, &mut drilled, &reporter)
            .map_err(|error| scratch.explain(error));
    reporter.finish();
    let exit = match &ended {
        Ok(()) => when(!drilled.is_good(), Exit::DrillFailed)
            .and(when(drilled.failures_count > 0, Exit::Partial)),
        Err(error) if error.kind == ErrorKind::Damage => Exit::DrillFailed,
        Err(error) => Exit::of(error.kind),
    };
    let host = host_name();
    let code = (u64::from(exit.code()), ended.as_ref().err());
    let recorded = record(&repository, &host, started, &drilled, code);
    // its cache lies in scratch
    let url = repository.url().to_owned();
    drop(repository);
    drop(scratch);
    if let Err(error) = recorded {
        context.warn(&format!("the record of this drill could not be put: {}", error.message));
    }
    tell(context, &url, &drilled, exit, reporter.elapsed_ms())?;
    match ended {
        Ok(()) => Ok(exit),
        Err(error) => Ok(report(&error, exit, context.json())),
    }
}

fn practise(
    context: &Context,
    arguments: &Arguments,
    wanted: &Wanted,
    repository: &Repository,
    scratch: &Scratch,
    drilled: &mut DrillReport,
    reporter: &Reporter,
) -> Result<()> {
    repository.keyring().require_read()?;
    drilled.extent = wanted.extent(None);
    let all = context.readable_snapshots(repository)?;
    let narrow = wanted.narrow();
    let snapshots: Vec<&Snapshot> = match &arguments.snapshot {
        Some(name) => {
            vec![context.select(repository, &all, &parse_snapshot(name)?, &narrow)?]
        }
        None => {
            let is_meant = |snapshot: &&Snapshot| {
                let manifest = &snapshot.manifest;
                snapshot.is_good()
                    && wanted.host.as_ref().is_none_or(|host| manifest.host == *host)
                    && wanted.profile.as_ref().is_none_or(|name| manifest.profile == *name)
            };
            all.iter().rev().filter(is_meant).collect()
        }
    };
    let one = snapshots.first().copied().filter(|_| arguments.snapshot.is_some());
    let extent = wanted.extent(one);
    drilled.extent = extent.clone();
    if snapshots.is_empty() {
        let message = format!("there is no good snapshot to restore: {extent}");
        return Err(Error::failed(message));
    }
    if reporter.interrupted() {
        return Err(Error::interrupted());
    }
    let profile = |snapshot: &Snapshot| {
        let found = wayback::profile_of(context, repository, snapshot)?;
        Ok(found.map(|profile| profile.settings))
    };
    let commands: BTreeMap<String, Command> = wanted.settings.commands.clone();
    let options = DrillOptions {
        extent: extent.clone(),
        all: wanted.settings.all,
        files: wanted.settings.files.unwrap_or(FILES),
        live: wanted.settings.live,
        host: host_name(),
        databases: wanted.settings.databases,
        commands,
        path: variable("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin")),
        profile: &profile,
    };
    let history = History::read(repository, &extent)?;
    drill(repository, &snapshots, scratch, &options, &history, drilled, reporter)
}

/// What is wrong is data; what was not covered is said in any case.
fn tell(
    context: &Context,
    url: &str,
    drilled: &DrillReport,
    exit: Exit,
    milliseconds: u64,
) -> std::result::Result<(), Stop> {
    let mut out = Output::new();
    for finding in drilled.findings.iter() {
        let snapshot = finding.snapshot.map(|id| id.to_hex());
        if context.json() {
            let mut object = Map::new();
            object.insert("snapshot".to_owned(), json!(snapshot));
            output::json_path(&mut object, "path", &finding.path);
            object.insert("reason".to_owned(), json!(finding.reason));
            out.json("wrong", Value::Object(object))?;
            continue;
        }
        let of = snapshot.map_or(String::new(), |id| format!("snapshot {}: ", &id[..8]));
        let (path, reason) = (output::path(&finding.path), output::sentence(&finding.reason));
        out.line(&format!("{of}{path}: {reason}"))?;
    }
    if context.json() {
        out.json("summary", summary(url, drilled, exit, milliseconds))?;
    }
    out.finish()?;
    for failure in &drilled.failures {
        context.warn(&format!("not written to scratch: {}", output::sentence(failure)));
    }
    if context.global.verbose > 0 {
        drilled.notes.iter().for_each(|note| context.say(&format!("note: {note}")));
    } else if !drilled.notes.is_empty() {
        let files = output::counted(drilled.notes.len() as u64, "file");
        context.say(&format!("{files} of the live source changed since; --verbose names them"));
    }
    for text in &drilled.not_covered {
        context.say(&format!("not covered: {}", output::sentence(text)));
    }
    if matches!(exit, Exit::Ok | Exit::DrillFailed | Exit::Partial) {
        context.say(&sentence(drilled, milliseconds));
    }
    Ok(())
}

fn sentence(drilled: &DrillReport, milliseconds: u64) -> String {
    let files = output::counted(drilled.files, "file");
    let loaded = match drilled.loaded.len() {
        0 => String::new(),
        count => format!(", {} loaded", output::counted(count as u64, "source")),
    };
    let verdict = match drilled.findings.count() {
        0 => "all as it was saved".to_owned(),
        count => format!("DRILL FAILED: {}", output::counted(count, "finding")),
    };
    format!(
        "{}: {files} restored, {}; {} of {} covered{loaded}, in {}: {verdict}",
        output::sentence(&drilled.extent),
        output::size(drilled.bytes),
        output::count(drilled.covered.len() as u64),
        output::counted(drilled.packs, "pack"),
        output::duration(milliseconds),
    )
}

fn summary(url: &str, drilled: &DrillReport, exit: Exit, milliseconds: u64) -> Value {
    let covered: Vec<String> = drilled.covered.iter().map(|id| id.to_hex()).collect();
    let snapshots: Vec<String> = drilled.snapshots.iter().map(|id| id.to_hex()).collect();
    json!({
        "repository": url,
        "extent": drilled.extent,
        "ok": exit == Exit::Ok,
        "exit_code": exit.code(),
        "snapshots": snapshots,
        "packs": drilled.packs,
        "covered": covered,
        "bytes_covered": drilled.covered_bytes,
        "files": drilled.files,
        "bytes": drilled.bytes,
        "live": drilled.live,
        "sources": drilled.sources,
        "loaded": drilled.loaded,
        "not_covered": drilled.not_covered,
        "notes": drilled.notes,
        "findings": drilled.findings.count(),
        "failures": drilled.failures_count,
        "milliseconds": milliseconds,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_named_by_their_source() {
        let (source, run) = command("db=grep -c '=' ").unwrap();
        assert_eq!((source.as_str(), run), ("db", Command::Shell("grep -c '=' ".to_owned())));
        for text in ["", "db", "=x", "db= "] {
            assert!(command(text).is_err(), "{text}");
        }
    }
}
