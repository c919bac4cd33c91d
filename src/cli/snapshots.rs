//! `snapshots`: what there is, by host and profile, newest last.

use std::collections::BTreeMap;

use clap::Args;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::backup::outcome_name;
use super::context::Context;
use super::exit::when;
use super::snapshot_name::Narrow;
use super::streams::Output;
use super::{Exit, Outcome};
use crate::format::manifest::Outcome as SnapshotOutcome;
use crate::output::{self, Table};
use crate::repository::Repository;
use crate::repository::snapshots::{Snapshot, State};

/// List snapshots
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    narrow: Narrow,

    /// Only the newest of each host and profile
    #[arg(long, value_name = "N")]
    latest: Option<usize>,

    /// Also those that were forgotten, replaced, or never confirmed
    #[arg(long)]
    all: bool,
}

pub fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let repository = context.open()?;
    let (snapshots, troubles) = repository.snapshots()?;
    let filter = arguments.narrow.filter();
    let matcher = filter.matcher(repository.keyring())?;
    let mut groups: BTreeMap<(&str, &str), Vec<&Snapshot>> = BTreeMap::new();
    for snapshot in &snapshots {
        if (arguments.all || is_shown(snapshot)) && matcher.matches(snapshot) {
            let manifest = &snapshot.manifest;
            groups.entry((&manifest.host, &manifest.profile)).or_default().push(snapshot);
        }
    }
    for group in groups.values_mut() {
        let surplus = group.len().saturating_sub(arguments.latest.unwrap_or(usize::MAX));
        group.drain(..surplus);
    }
    let mut output = Output::new();
    if context.json() {
        let mut chosen: Vec<&Snapshot> = groups.into_values().flatten().collect();
        chosen.sort_by_key(|snapshot| (snapshot.manifest.started, snapshot.id));
        for snapshot in chosen {
            output.json("snapshot", to_json(&repository, snapshot))?;
        }
    } else {
        for (number, ((host, profile), group)) in groups.iter().enumerate() {
            if number > 0 {
                output.line("")?;
            }
            output.line(&output::sentence(&format!("host {host}, profile {profile}")))?;
            output.table(&table(&repository, group))?;
        }
    }
    output.finish()?;
    for trouble in &troubles {
        context.warn(&trouble.message);
    }
    Ok(when(!troubles.is_empty(), Exit::Damage))
}

/// What an owner wants to see: what can be restored, and what went wrong last.
fn is_shown(snapshot: &Snapshot) -> bool {
    snapshot.is_good() || snapshot.state == State::Distrusted
}

fn table(repository: &Repository, group: &[&Snapshot]) -> Table {
    let zone = TimeZone::system();
    let mut table =
        Table::new(&["id", "time", ">size", ">added", "status", "name", "tags", "paths"]);
    for snapshot in group {
        let counts = &snapshot.manifest.counts;
        table.row([
            snapshot.id.to_hex()[..8].to_owned(),
            output::time(snapshot.manifest.started, &zone),
            output::size(counts.bytes),
            output::size(counts.bytes_added),
            status(snapshot).join(", "),
            output::sentence(snapshot.name.as_deref().unwrap_or_default()).into_owned(),
            output::sentence(&snapshot.tags.join(",")).into_owned(),
            paths(repository, snapshot)
                .iter()
                .map(|p| output::path(p))
                .collect::<Vec<_>>()
                .join(" "),
        ]);
    }
    table
}

/// The sources as they were named, for those who may read them.
fn paths(repository: &Repository, snapshot: &Snapshot) -> Vec<Vec<u8>> {
    match repository.keyring().may_read_content() {
        true => repository.private_part(snapshot).map(|part| part.paths).unwrap_or_default(),
        false => Vec::new(),
    }
}

pub fn status(snapshot: &Snapshot) -> Vec<&'static str> {
    let mut words = vec![match snapshot.state {
        State::Confirmed => outcome_name(snapshot.manifest.outcome),
        State::Unconfirmed => "unconfirmed",
        State::Distrusted => "distrusted",
    }];
    let flags = [
        (snapshot.replaced, "replaced"),
        (snapshot.forgotten.is_some(), "forgotten"),
        (snapshot.pinned, "pinned"),
    ];
    words.extend(flags.into_iter().filter(|(applies, _)| *applies).map(|(_, word)| word));
    words
}

fn to_json(repository: &Repository, snapshot: &Snapshot) -> Value {
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
        "state": status(snapshot)[0],
        "complete": snapshot.state == State::Confirmed && manifest.outcome == SnapshotOutcome::Complete,
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
