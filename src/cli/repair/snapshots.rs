//! `repair snapshots`

use clap::Args;
use serde_json::{Map, Value, json};

use super::exit::when;
use super::index::{json_remaining, print};
use super::snapshot_name::Narrow;
use super::streams::Output;
use super::{Context, Outcome, backup};
use crate::cli::Exit;
use crate::compression::DEFAULT_LEVEL;
use crate::output;
use crate::repair::{Repaired, SnapshotsOptions, SnapshotsReport, repair_snapshots};
use crate::repository::{Repository, Result};

/// Write snapshots without the content that is lost
///
/// Needs a full key. A snapshot that lost files gets another beside it, tagged "repaired", without
/// them; it says which they were. The old one stays until it is forgotten. Run `check --read-data`
/// first, and a backup: what the sources still have comes back by that.
#[derive(Args)]
pub struct Arguments {
    /// Only these snapshots [default: all that are not forgotten]
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<String>,

    /// Say what would be done; write nothing
    #[arg(short = 'n', long)]
    dry_run: bool,

    /// Forget the old ones
    #[arg(long, conflicts_with = "dry_run")]
    forget: bool,

    #[command(flatten)]
    narrow: Narrow,
}

pub fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let repository = context.open()?;
    let options = options(context, &repository, arguments)?;
    let reporter = context.reporter();
    let repaired = repair_snapshots(&repository, &options, &reporter);
    reporter.finish();
    let report = repaired?;
    match context.json() {
        true => print_json(&repository, &options, &report)?,
        false => {
            print_lost(&report.repaired)?;
            print(&report.remaining)?;
        }
    }
    talk(&options, &report).iter().for_each(|line| context.say(line));
    Ok(when(!report.remaining.is_empty(), Exit::Damage))
}

fn options(
    context: &Context,
    repository: &Repository,
    arguments: &Arguments,
) -> Result<SnapshotsOptions> {
    Ok(SnapshotsOptions {
        snapshots: context.select_all(repository, &arguments.snapshots, &arguments.narrow)?,
        dry_run: arguments.dry_run,
        forget: arguments.forget,
        host: backup::host_name(),
        compression: DEFAULT_LEVEL,
    })
}

/// Every path that is lost, by snapshot.
fn print_lost(repaired: &[Repaired]) -> std::io::Result<()> {
    let mut output = Output::new();
    for one in repaired {
        let id = &one.old.to_hex()[..8];
        for failure in &one.loss.failures {
            let path = output::path(&failure.path);
            output
                .line(&format!("snapshot {id}: {path}: {}", output::sentence(&failure.reason)))?;
        }
    }
    output.finish()
}

fn talk(options: &SnapshotsOptions, report: &SnapshotsReport) -> Vec<String> {
    let short = |id: crate::id::SnapshotId| id.to_hex()[..8].to_owned();
    let mut lines = Vec::new();
    for one in &report.repaired {
        let (old, lost) = (short(one.old), output::counted(one.loss.count, "path"));
        let left = output::counted(one.loss.counts.files, "file");
        lines.push(match one.new {
            Some(new) => {
                format!(
                    "snapshot {old}: {}: repaired as {}, {lost} lost, {left} left",
                    one.why,
                    short(new)
                )
            }
            None => format!("snapshot {old}: {}: {lost} would be lost, {left} left", one.why),
        });
    }
    for (old, new) in &report.before {
        lines.push(format!("snapshot {}: was repaired before, as {}", short(*old), short(*new)));
    }
    for id in &report.settled {
        let settled = if options.dry_run { "it would be kept" } else { "it is kept" };
        lines.push(format!("snapshot {}: a mark cannot be read: {settled}", short(*id)));
    }
    let old: Vec<String> = report.repaired.iter().map(|one| short(one.old)).collect();
    match (old.is_empty(), options.forget) {
        (true, _) if report.remaining.is_empty() && report.before.is_empty() => {
            lines.push(format!(
                "{}: nothing to repair",
                output::counted(report.whole, "whole snapshot")
            ));
        }
        (false, true) => lines.push("the old ones are forgotten; prune deletes them".to_owned()),
        (false, false) if !options.dry_run => {
            lines.push(format!("the old ones stay until you say: esker forget {}", old.join(" ")))
        }
        _ => {}
    }
    lines
}

fn print_json(
    repository: &Repository,
    options: &SnapshotsOptions,
    report: &SnapshotsReport,
) -> std::io::Result<()> {
    let mut output = Output::new();
    for one in &report.repaired {
        for failure in &one.loss.failures {
            let mut object = Map::new();
            object.insert("snapshot".to_owned(), one.old.to_hex().into());
            output::json_path(&mut object, "path", &failure.path);
            object.insert("reason".to_owned(), failure.reason.clone().into());
            output.json("lost", Value::Object(object))?;
        }
    }
    let repaired = report.repaired.iter().map(|one| {
        json!({
            "snapshot": one.old.to_hex(),
            "repaired": one.new.map(|id| id.to_hex()),
            "why": one.why,
            "lost_count": one.loss.count,
            "files": one.loss.counts.files,
            "bytes_added": one.loss.counts.bytes_added,
        })
    });
    let before = report
        .before
        .iter()
        .map(|(old, new)| json!({ "snapshot": old.to_hex(), "repaired": new.to_hex() }));
    let settled: Vec<String> = report.settled.iter().map(|id| id.to_hex()).collect();
    output.json(
        "summary",
        json!({
            "repository": repository.url(),
            "dry_run": options.dry_run,
            "whole": report.whole,
            "repaired": repaired.collect::<Vec<_>>(),
            "repaired_before": before.collect::<Vec<_>>(),
            "settled": settled,
            "forgotten": options.forget,
            "remaining": json_remaining(&report.remaining),
        }),
    )?;
    output.finish()
}
