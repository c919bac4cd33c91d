//! `snapshots`: what there is, by host and profile, newest last; and the runs
//! that are under way or went wrong since. `whole` lists all repositories.

mod whole;

use std::collections::{BTreeMap, HashMap};

use clap::Args;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::backup::outcome_name;
use super::context::Context;
use super::exit::when;
use super::snapshot_name::Narrow;
use super::status_words::{
    name_or_place, reason, run_json, run_text, run_word, snapshot_text, unbelieved_text,
};
use super::streams::Output;
use super::{Exit, Outcome};
use crate::format::manifest::Outcome as SnapshotOutcome;
use crate::id::SnapshotId;
use crate::output::{self, Table};
use crate::repository::runs::Whereabouts;
use crate::repository::snapshots::{Snapshot, State, Unbelieved};
use crate::repository::{Repository, Result, now_ms};
use crate::status::{Overview, RunStatus, SnapshotStatus, Status, overview, undo_until};

/// List snapshots, and runs that are under way or went wrong
///
/// Snapshots that were forgotten are listed as long as that can be undone. Of the runs without a
/// snapshot those are listed that are newer than the last complete one.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    narrow: Narrow,

    /// Only the newest of each host and profile
    #[arg(long, value_name = "N")]
    latest: Option<usize>,

    /// Also what was replaced, never confirmed, or is being deleted, and every run
    #[arg(long)]
    all: bool,

    /// Of every repository of the configuration, in one table; one that is away is a warning,
    /// and exit code 75 says that none answered
    #[arg(long)]
    all_repositories: bool,
}

/// What is listed of one host and profile.
#[derive(Default)]
struct Group<'a> {
    snapshots: Vec<&'a SnapshotStatus>,
    runs: Vec<&'a RunStatus>,
}

type Groups<'a> = BTreeMap<(&'a str, &'a str), Group<'a>>;

pub fn run(context: &Context, arguments: &Arguments) -> Outcome {
    if arguments.all_repositories {
        return whole::run(context, arguments);
    }
    let repository = context.open()?;
    let overview = overview(&repository, &Whereabouts::here(repository.id()), now_ms())?;
    let groups = choose(&repository, arguments, &overview)?;
    let unbelieved = unbelieved(arguments, &overview);
    let mut output = Output::new();
    if context.json() {
        for Listed { kind, members, .. } in lines(context, &repository, groups) {
            output.json(kind, members)?;
        }
        unbelieved.iter().try_for_each(|u| output.json("snapshot", unbelieved_json(u)))?;
    } else {
        for (number, ((host, profile), group)) in groups.iter().enumerate() {
            if number > 0 {
                output.line("")?;
            }
            output.line(&output::sentence(&format!("host {host}, profile {profile}")))?;
            output.table(&table(context, &repository, group, &overview))?;
        }
        for one in unbelieved {
            output.line(&format!("{}  {}", one.id, unbelieved_text(one, overview.now)))?;
        }
    }
    output.finish()?;
    for trouble in &overview.troubles {
        context.warn(&trouble.message);
    }
    Ok(when(!overview.troubles.is_empty(), Exit::Damage))
}

fn choose<'a>(
    repository: &Repository,
    arguments: &Arguments,
    overview: &'a Overview,
) -> Result<Groups<'a>> {
    let filter = arguments.narrow.filter();
    let matcher = filter.matcher(repository.keyring())?;
    let mut groups = Groups::new();
    for told in &overview.snapshots {
        let manifest = &told.snapshot.manifest;
        if (arguments.all || told.current) && matcher.matches(&told.snapshot) {
            let group = groups.entry((&manifest.host, &manifest.profile)).or_default();
            group.snapshots.push(told);
        }
    }
    for group in groups.values_mut() {
        let surplus = group.snapshots.len().saturating_sub(arguments.latest.unwrap_or(usize::MAX));
        group.snapshots.drain(..surplus);
    }
    // what a run without a snapshot was to save, and its tags, nobody can tell
    let knowable = filter.sources.is_empty() && filter.tags.is_empty();
    let any = |wanted: &[String], is: &String| wanted.is_empty() || wanted.contains(is);
    for told in &overview.runs {
        let run = &told.run;
        let meant = any(&filter.hosts, &run.host) && any(&filter.profiles, &run.profile);
        if knowable && meant && !told.has_manifest && (arguments.all || told.current) {
            groups.entry((&run.host, &run.profile)).or_default().runs.push(told);
        }
    }
    Ok(groups)
}

/// Nobody can tell whose they are: where some were asked for, they are not meant.
fn unbelieved<'a>(arguments: &Arguments, overview: &'a Overview) -> &'a [Unbelieved] {
    let filter = arguments.narrow.filter();
    let asked = [&filter.hosts, &filter.profiles, &filter.tags].iter().any(|some| !some.is_empty())
        || !filter.sources.is_empty();
    if asked { &[] } else { &overview.unbelieved }
}

/// What cannot be known of it is absent.
fn unbelieved_json(unbelieved: &Unbelieved) -> Value {
    let undo_until = undo_until(unbelieved);
    json!({
        "id": unbelieved.id.to_hex(),
        "state": "unreadable",
        "status": if undo_until.is_some() { "deleting" } else { "unreadable" },
        "complete": false,
        "forgotten": unbelieved.forgotten.map(output::rfc3339),
        "undo_until": undo_until.map(output::rfc3339),
        "reason": unbelieved.error.message,
    })
}

/// A snapshot or run as JSON.
struct Listed {
    time: u64,
    id: SnapshotId,
    kind: &'static str,
    members: Value,
}

/// Oldest first.
fn lines(context: &Context, repository: &Repository, groups: Groups<'_>) -> Vec<Listed> {
    let mut lines = Vec::new();
    for group in groups.into_values() {
        for told in group.snapshots {
            let (time, id) = (told.snapshot.manifest.started, told.snapshot.id);
            lines.push(Listed { time, id, kind: "snapshot", members: to_json(repository, told) });
        }
        for told in group.runs {
            let members = run_json(repository, told, reason(context, repository, &told.run));
            lines.push(Listed { time: told.run.started, id: told.run.id, kind: "run", members });
        }
    }
    lines.sort_by_key(|line| (line.time, line.id));
    lines
}

fn table(
    context: &Context,
    repository: &Repository,
    group: &Group<'_>,
    overview: &Overview,
) -> Table {
    let mut rows: Vec<(u64, SnapshotId, [String; 9])> = Vec::new();
    let runs: HashMap<_, _> = overview.runs.iter().map(|told| (told.run.id, told)).collect();
    let said = |run: &RunStatus| {
        run_text(run, reason(context, repository, &run.run).as_deref(), overview.now)
    };
    for told in &group.snapshots {
        let run = told.run.and_then(|(id, _)| runs.get(&id)).map(|run| said(run));
        let status = snapshot_text(told, run, overview.now);
        let row = snapshot_row(context, repository, &told.snapshot, status);
        rows.push((told.snapshot.manifest.started, told.snapshot.id, row));
    }
    for told in &group.runs {
        let mut row: [String; 9] = Default::default();
        row[0] = told.run.id.to_hex()[..8].to_owned();
        row[1] = output::time(told.run.started, &TimeZone::system());
        row[4] = said(told);
        rows.push((told.run.started, told.run.id, row));
    }
    rows.sort_by_key(|(time, id, _)| (*time, *id));
    let mut table = Table::new(&[
        "id",
        "time",
        ">size",
        ">added",
        "status",
        "name",
        "tags",
        "paths",
        "description",
    ]);
    rows.into_iter().for_each(|(.., row)| table.row(row));
    table
}

fn snapshot_row(
    context: &Context,
    repository: &Repository,
    snapshot: &Snapshot,
    status: String,
) -> [String; 9] {
    let counts = &snapshot.manifest.counts;
    let paths = paths(repository, snapshot);
    let description = snapshot.description.as_deref().filter(|_| context.global.verbose > 0);
    [
        snapshot.id.to_hex()[..8].to_owned(),
        output::time(snapshot.manifest.started, &TimeZone::system()),
        output::size(counts.bytes),
        output::size(counts.bytes_added),
        status,
        output::sentence(&name_or_place(snapshot)).into_owned(),
        output::sentence(&snapshot.tags.join(",")).into_owned(),
        paths.iter().map(|p| output::path(p)).collect::<Vec<_>>().join(" "),
        output::sentence(description.unwrap_or_default()).into_owned(),
    ]
}

/// The sources as they were named, for those who may read them.
fn paths(repository: &Repository, snapshot: &Snapshot) -> Vec<Vec<u8>> {
    match repository.keyring().may_read_content() {
        true => repository.private_part(snapshot).map(|part| part.paths).unwrap_or_default(),
        false => Vec::new(),
    }
}

/// How the snapshot came to be, whatever became of it since.
fn state(snapshot: &Snapshot) -> &'static str {
    match snapshot.state {
        State::Confirmed => outcome_name(snapshot.manifest.outcome),
        State::Unconfirmed => "unconfirmed",
        State::Distrusted => "distrusted",
    }
}

fn to_json(repository: &Repository, told: &SnapshotStatus) -> Value {
    let snapshot = &told.snapshot;
    let undo_until = match told.status {
        Status::Deleting { undo_until } => Some(output::rfc3339(undo_until)),
        _ => None,
    };
    let manifest = &snapshot.manifest;
    let counts = &manifest.counts;
    let paths: Vec<Value> = paths(repository, snapshot)
        .iter()
        .map(|path| {
            let mut object = serde_json::Map::new();
            output::json_path(&mut object, "path", path);
            Value::Object(object)
        })
        .collect();
    let sources: Vec<Value> = manifest
        .sources
        .iter()
        .map(|source| {
            let outcome = outcome_name(source.outcome);
            json!({ "label": source.label, "outcome": outcome, "required": source.required })
        })
        .collect();
    json!({
        "id": snapshot.id.to_hex(),
        "time": output::rfc3339(manifest.started),
        "ended": output::rfc3339(manifest.ended),
        "zone": manifest.zone,
        "host": manifest.host,
        "profile": manifest.profile,
        "name": snapshot.name,
        "description": snapshot.description,
        "tags": snapshot.tags,
        "state": state(snapshot),
        "status": told.status.word(),
        "undo_until": undo_until,
        "run": told.run.map(|(_, state)| run_word(state)),
        "complete": snapshot.state == State::Confirmed && manifest.outcome == SnapshotOutcome::Complete,
        "set": manifest.set.as_ref().map(|set| json!({
            "name": set.name,
            "part": set.part,
            "parts": set.parts,
            "system": set.system,
            "whole": told.set_lacks.as_ref().is_some_and(Vec::is_empty),
            "lacking": told.set_lacks,
        })),
        "pinned": snapshot.pinned,
        "replaced": snapshot.replaced,
        "forgotten": snapshot.forgotten.map(output::rfc3339),
        "expires": manifest.expires.map(output::rfc3339),
        "writer": manifest.writer.to_hex(),
        "writer_label": repository.trust().label(manifest.writer),
        "parent": manifest.parent.map(|id| id.to_hex()),
        "replaces": manifest.replaces.map(|id| id.to_hex()),
        "program": manifest.program,
        "paths": paths,
        "sources": sources,
        "files": counts.files,
        "directories": counts.directories,
        "others": counts.others,
        "bytes": counts.bytes,
        "bytes_added": counts.bytes_added,
        "bytes_stored": counts.bytes_stored,
        "failure_count": counts.failures,
        "note_count": counts.notes,
    })
}
