//! `stats`: what snapshots, hosts and tags take, and what would be freed
//! without them.

use std::collections::HashMap;
use std::io;

use clap::Args;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::context::Context;
use super::exit::when;
use super::streams::Output;
use super::{Exit, Outcome};
use crate::id::SnapshotId;
use crate::output::{self, Table};
use crate::repository::Repository;
use crate::repository::snapshots::Snapshot;
use crate::stats::{GroupStats, KindStats, Stats, Usage, stats};

/// Show what snapshots, hosts and tags take
///
/// Total is all a snapshot uses, added what no older one of its host and profile uses, freed what
/// would go if it alone were forgotten; all of them as stored, that is compressed.
#[derive(Args)]
pub struct Arguments {}

pub fn run(context: &Context, _: &Arguments) -> Outcome {
    let repository = context.open()?;
    let snapshots = context.snapshots(&repository)?;
    let reporter = context.reporter();
    let counted =
        repository.sync_index(&reporter).and_then(|_| stats(&repository, &snapshots, &reporter));
    reporter.finish();
    let stats = counted?;
    let by_id = snapshots.iter().map(|snapshot| (snapshot.id, snapshot)).collect();
    match context.json() {
        true => print_json(&repository, &by_id, &stats)?,
        false => print(&by_id, &stats)?,
    }
    for trouble in &stats.troubles {
        context.warn(&trouble.message);
    }
    Ok(when(!stats.troubles.is_empty(), Exit::Damage))
}

fn print(snapshots: &HashMap<SnapshotId, &Snapshot>, stats: &Stats) -> io::Result<()> {
    let zone = TimeZone::system();
    let mut output = Output::new();
    let mut table =
        Table::new(&["snapshot", "time", "host", "profile", ">total", ">added", ">freed"]);
    for line in &stats.snapshots {
        let manifest = snapshots.get(&line.id).map(|snapshot| &snapshot.manifest);
        table.row([
            line.id.to_hex()[..8].to_owned(),
            manifest.map(|m| output::time(m.started, &zone)).unwrap_or_default(),
            manifest.map(|m| output::sentence(&m.host).into_owned()).unwrap_or_default(),
            manifest.map(|m| output::sentence(&m.profile).into_owned()).unwrap_or_default(),
            output::size(line.total.stored),
            output::size(line.added.stored),
            output::size(line.freed.stored),
        ]);
    }
    output.table(&table)?;
    for (heading, groups) in [("host", &stats.hosts), ("tag", &stats.tags)] {
        if groups.is_empty() {
            continue;
        }
        let mut table = Table::new(&[heading, ">snapshots", ">total", ">freed"]);
        for group in groups {
            table.row([
                output::sentence(&group.name).into_owned(),
                output::count(group.snapshots),
                output::size(group.total.stored),
                output::size(group.freed.stored),
            ]);
        }
        output.line("")?;
        output.table(&table)?;
    }
    output.line("")?;
    let whole = &stats.repository;
    let mut table = Table::new(&["repository", ">packs", ">stored", ">chunks", ">raw", ">unused"]);
    for (name, kind) in [("data", &whole.data), ("tree", &whole.tree), ("refs", &whole.refs)] {
        table.row([
            name.to_owned(),
            output::count(kind.packs),
            output::size(kind.stored),
            output::count(kind.chunks),
            output::size(kind.raw),
            output::size(kind.unused),
        ]);
    }
    table.row(["index".to_owned(), output::count(whole.segments), output::size(whole.index_bytes)]);
    table.row([
        "other".to_owned(),
        output::count(whole.small_objects),
        output::size(whole.small_bytes),
    ]);
    if whole.unlisted_packs > 0 {
        table.row([
            "unlisted".to_owned(),
            output::count(whole.unlisted_packs),
            output::size(whole.unlisted_bytes),
        ]);
    }
    output.table(&table)?;
    output.finish()
}

fn usage(usage: &Usage) -> Value {
    json!({
        "chunks": usage.chunks,
        "bytes": usage.raw,
        "bytes_stored": usage.stored,
        "unknown_chunks": usage.unknown,
    })
}

fn kind(kind: &KindStats) -> Value {
    json!({
        "packs": kind.packs,
        "bytes_stored": kind.stored,
        "chunks": kind.chunks,
        "bytes": kind.raw,
        "bytes_unused": kind.unused,
    })
}

fn print_json(
    repository: &Repository,
    snapshots: &HashMap<SnapshotId, &Snapshot>,
    stats: &Stats,
) -> io::Result<()> {
    let mut output = Output::new();
    for line in &stats.snapshots {
        let manifest = snapshots.get(&line.id).map(|snapshot| &snapshot.manifest);
        output.json(
            "snapshot",
            json!({
                "id": line.id.to_hex(),
                "time": manifest.map(|m| output::rfc3339(m.started)),
                "host": manifest.map(|m| &m.host),
                "profile": manifest.map(|m| &m.profile),
                "total": usage(&line.total),
                "added": usage(&line.added),
                "freed": usage(&line.freed),
            }),
        )?;
    }
    let mut groups = |kind: &str, groups: &[GroupStats]| -> io::Result<()> {
        groups.iter().try_for_each(|group| {
            output.json(
                kind,
                json!({
                    "name": group.name,
                    "snapshots": group.snapshots,
                    "total": usage(&group.total),
                    "freed": usage(&group.freed),
                }),
            )
        })
    };
    groups("host", &stats.hosts)?;
    groups("tag", &stats.tags)?;
    let whole = &stats.repository;
    output.json(
        "repository",
        json!({
            "repository": repository.url(),
            "data": kind(&whole.data),
            "tree": kind(&whole.tree),
            "refs": kind(&whole.refs),
            "segments": whole.segments,
            "index_bytes": whole.index_bytes,
            "small_objects": whole.small_objects,
            "small_bytes": whole.small_bytes,
            "unlisted_packs": whole.unlisted_packs,
            "unlisted_bytes": whole.unlisted_bytes,
            "used": usage(&whole.used),
        }),
    )?;
    output.finish()
}
