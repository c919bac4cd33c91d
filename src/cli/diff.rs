//! `diff`: what differs between two snapshots, or places in them.

use std::ffi::OsString;
use std::io;

use clap::Args;
use serde_json::{Map, Value, json};

use super::context::Context;
use super::ls::kind_name;
use super::snapshot_name::{self, Narrow};
use super::streams::Output;
use super::{Exit, Outcome};
use crate::diff::{Change, ChangeKind, Side, diff};
use crate::format::entry::{EntryKind, display_key};
use crate::output;

/// Show what differs between two snapshots
///
/// In front of each path: + added, - removed, M content changed, m only metadata changed,
/// T of another type.
#[derive(Args)]
pub struct Arguments {
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    before: OsString,

    #[arg(value_name = "SNAPSHOT[:PATH]")]
    after: OsString,

    #[command(flatten)]
    narrow: Narrow,
}

pub fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let before = snapshot_name::parse(&arguments.before)?;
    let after = snapshot_name::parse(&arguments.after)?;
    let repository = context.open()?;
    let snapshots = context.readable_snapshots(&repository)?;
    let narrow = &arguments.narrow;
    let (before_key, after_key) = (before.key(), after.key());
    let a = Side {
        snapshot: context.select(&repository, &snapshots, &before.wanted, narrow)?,
        key: before_key.as_deref(),
    };
    let b = Side {
        snapshot: context.select(&repository, &snapshots, &after.wanted, narrow)?,
        key: after_key.as_deref(),
    };
    let mut output = Output::new();
    let mut written = Ok(());
    let mut print = |change: Change| -> io::Result<()> {
        match context.json() {
            true => output.json("change", to_json(&change)),
            false => output.line(&line(&change)),
        }
    };
    let totals = diff(&repository, a, b, &mut |change| {
        if written.is_ok() {
            written = print(change);
        }
    })?;
    written?;
    if context.json() {
        output.json(
            "summary",
            json!({
                "before": a.snapshot.id.to_hex(),
                "after": b.snapshot.id.to_hex(),
                "added": totals.added,
                "removed": totals.removed,
                "changed": totals.changed,
                "bytes_added": totals.bytes_added,
                "bytes_removed": totals.bytes_removed,
            }),
        )?;
    }
    output.finish()?;
    context.say(&format!(
        "{} added, {} removed, {} changed; +{} -{}",
        output::count(totals.added),
        output::count(totals.removed),
        output::count(totals.changed),
        output::size(totals.bytes_added),
        output::size(totals.bytes_removed),
    ));
    Ok(Exit::Ok)
}

fn letter(change: ChangeKind) -> char {
    match change {
        ChangeKind::Added => '+',
        ChangeKind::Removed => '-',
        ChangeKind::Changed { kind: true, .. } => 'T',
        ChangeKind::Changed { content: true, .. } => 'M',
        ChangeKind::Changed { .. } => 'm',
    }
}

fn line(change: &Change) -> String {
    let is_file = [change.before, change.after].contains(&Some(EntryKind::File));
    let size = |bytes: Option<u64>| bytes.map(output::size).unwrap_or_default();
    let (before, after) = (size(change.bytes_before), size(change.bytes_after));
    let bytes = match change.change {
        _ if !is_file => String::new(),
        ChangeKind::Added => format!("  ({after})"),
        ChangeKind::Removed => format!("  ({before})"),
        ChangeKind::Changed { .. } if before == after => format!("  ({after})"),
        ChangeKind::Changed { .. } => format!("  ({before} -> {after})"),
    };
    format!("{} {}{bytes}", letter(change.change), output::path(&display_key(&change.key)))
}

fn to_json(change: &Change) -> Value {
    let (name, content, metadata) = match change.change {
        ChangeKind::Added => ("added", None, None),
        ChangeKind::Removed => ("removed", None, None),
        ChangeKind::Changed { kind: true, .. } => ("type", None, None),
        ChangeKind::Changed { content, metadata, .. } => ("changed", Some(content), Some(metadata)),
    };
    let mut object = Map::new();
    output::json_path(&mut object, "path", &display_key(&change.key));
    let members = json!({
        "change": name,
        "content": content,
        "metadata": metadata,
        "kind_before": change.before.map(kind_name),
        "kind_after": change.after.map(kind_name),
        "bytes_before": change.bytes_before,
        "bytes_after": change.bytes_after,
    });
    if let Value::Object(members) = members {
        object.extend(members);
    }
    Value::Object(object)
}
