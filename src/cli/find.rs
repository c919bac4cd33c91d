//! `find`: paths across snapshots, and when each version of them came and went.

use std::collections::HashMap;
use std::io;

use clap::{Args, ValueEnum};
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};

use super::context::Context;
use super::exit::when;
use super::ls::kind_name;
use super::snapshot_name::Narrow;
use super::streams::Output;
use super::{Exit, Outcome, values};
use crate::find::{FindOptions, Found, Version, find};
use crate::format::entry::{EntryKind, Timestamp, display_key};
use crate::id::SnapshotId;
use crate::output;
use crate::repository::snapshots::Snapshot;

/// Find paths across snapshots
///
/// A pattern without / is matched against names, one with / against whole paths; * does not cross
/// directories, ** does.
#[derive(Args)]
pub struct Arguments {
    #[arg(value_name = "PATTERN", required = true)]
    patterns: Vec<String>,

    /// Upper and lower case are the same
    #[arg(short, long)]
    ignore_case: bool,

    /// Only entries of this kind
    #[arg(short = 't', long = "type", value_name = "KIND")]
    kind: Option<Kind>,

    /// Only what was modified at this time or later
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    newer: Option<u64>,

    /// Only what was modified before this time
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    older: Option<u64>,

    #[command(flatten)]
    narrow: Narrow,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    #[value(alias = "f")]
    File,
    #[value(alias = "d")]
    Directory,
    #[value(alias = "l")]
    Symlink,
    #[value(alias = "c")]
    CharDevice,
    #[value(alias = "b")]
    BlockDevice,
    #[value(alias = "p")]
    Fifo,
}

impl From<Kind> for EntryKind {
    fn from(kind: Kind) -> EntryKind {
        match kind {
            Kind::File => EntryKind::File,
            Kind::Directory => EntryKind::Directory,
            Kind::Symlink => EntryKind::Symlink,
            Kind::CharDevice => EntryKind::CharDevice,
            Kind::BlockDevice => EntryKind::BlockDevice,
            Kind::Fifo => EntryKind::Fifo,
        }
    }
}

pub fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let repository = context.open()?;
    let snapshots = context.readable_snapshots(&repository)?;
    let filter = arguments.narrow.filter();
    let matcher = filter.matcher(repository.keyring())?;
    let chosen: Vec<&Snapshot> = snapshots
        .iter()
        .filter(|snapshot| snapshot.is_good() && matcher.matches(snapshot))
        .collect();
    let times = chosen.iter().map(|snapshot| (snapshot.id, snapshot.manifest.started)).collect();
    let options = FindOptions {
        ignore_case: arguments.ignore_case,
        kind: arguments.kind.map(EntryKind::from),
        newer: arguments.newer.map(Timestamp::of_ms),
        older: arguments.older.map(Timestamp::of_ms),
    };
    let mut print =
        Print { as_json: context.json(), times, zone: TimeZone::system(), output: Output::new() };
    let mut written = Ok(());
    let reporter = context.reporter();
    let found =
        find(&repository, &chosen, &arguments.patterns, &options, &reporter, &mut |found| {
            if written.is_ok() {
                written = print.found(found);
            }
        });
    reporter.finish();
    let report = found?;
    written?;
    if context.json() {
        print.output.json(
            "summary",
            json!({
                "snapshots": report.snapshots,
                "paths": report.paths,
                "snapshots_not_searched": report.troubles.len(),
            }),
        )?;
    }
    print.output.finish()?;
    let paths = output::counted(report.paths, "path");
    context.say(&format!("{paths} in {}", output::counted(report.snapshots, "snapshot")));
    Ok(when(!report.troubles.is_empty(), Exit::Damage))
}

struct Print {
    as_json: bool,
    times: HashMap<SnapshotId, u64>,
    zone: TimeZone,
    output: Output,
}

impl Print {
    fn found(&mut self, found: &Found) -> io::Result<()> {
        let path = display_key(&found.key);
        if self.as_json {
            let versions: Vec<Value> =
                found.versions.iter().map(|version| self.to_json(version)).collect();
            let mut object = Map::new();
            output::json_path(&mut object, "path", &path);
            object.insert("host".to_owned(), found.host.clone().into());
            object.insert("profile".to_owned(), found.profile.clone().into());
            object.insert("versions".to_owned(), versions.into());
            return self.output.json("found", Value::Object(object));
        }
        let place = format!("host {}, profile {}", found.host, found.profile);
        self.output.line(&format!("{}  ({})", output::path(&path), output::sentence(&place)))?;
        for version in &found.versions {
            let line = self.line(version);
            self.output.line(&line)?;
        }
        Ok(())
    }

    fn line(&self, version: &Version) -> String {
        let facts = &version.facts;
        let vanished = match version.vanished {
            Some(id) => format!(", gone or changed in {}", self.snapshot(id)),
            None => String::new(),
        };
        format!(
            "  {:<9} {:>10}  modified {}  from {} to {}, in {}{vanished}",
            kind_name(facts.kind),
            output::size(facts.size),
            output::time_of(facts.mtime.seconds, &self.zone),
            self.snapshot(version.first),
            self.snapshot(version.last),
            output::counted(version.snapshots, "snapshot"),
        )
    }

    fn snapshot(&self, id: SnapshotId) -> String {
        let time = self.times.get(&id).map(|ms| output::time(*ms, &self.zone));
        format!("{} ({})", &id.to_hex()[..8], time.unwrap_or_default())
    }

    fn to_json(&self, version: &Version) -> Value {
        let time = |id: &SnapshotId| self.times.get(id).map(|ms| output::rfc3339(*ms));
        let facts = &version.facts;
        json!({
            "kind": kind_name(facts.kind),
            "bytes": facts.size,
            "mtime": output::rfc3339_of(facts.mtime.seconds, facts.mtime.nanoseconds),
            "first": version.first.to_hex(),
            "first_time": time(&version.first),
            "last": version.last.to_hex(),
            "last_time": time(&version.last),
            "snapshots": version.snapshots,
            "vanished": version.vanished.map(|id| id.to_hex()),
            "vanished_time": version.vanished.as_ref().and_then(time),
        })
    }
}
