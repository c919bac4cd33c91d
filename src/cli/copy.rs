//! `copy`: takes snapshots into another repository.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::context::Context;
use super::exit::when;
use super::other::Other;
use super::snapshot_name::Narrow;
use super::streams::{Output, Stop, talk};
use super::{Exit, Outcome, history, values};
use crate::compression::DEFAULT_LEVEL;
use crate::copy::{Copied, CopyOptions, CopyReport, Plan, There, copy, plan};
use crate::history::of_copy;
use crate::id::SnapshotId;
use crate::output;
use crate::repository::snapshots::Snapshot;
use crate::repository::{Error, ErrorKind, Repository, Result, now_ms};

/// Copy snapshots into another repository
///
/// The other repository has keys, parameters and a store of its own: make it with `esker init`, best
/// with --chunker-from, so that both cut alike. What is there already is not copied again, and nothing is
/// deleted there: each repository has its own retention. A copy that was cut off goes on where it was.
/// Without a SNAPSHOT all good ones are copied that the other options let pass.
#[derive(Args)]
pub struct Arguments {
    /// Snapshots by id or name, latest, latest~N or latest@TIME; all without
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<String>,

    #[command(flatten)]
    to: To,

    /// Say what would be copied; change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,

    /// zstd level, or off
    #[arg(long, value_name = "1-22|off", default_value_t = DEFAULT_LEVEL.to_string(), value_parser = compression_text)]
    compression: String,

    #[command(flatten)]
    narrow: Narrow,
}

#[derive(Args)]
#[command(next_help_heading = "Where to")]
struct To {
    /// The repository to copy into (or ESKER_TO_REPOSITORY)
    #[arg(long, value_name = "URL|PATH")]
    to: Option<OsString>,

    /// Open it with this key file (or ESKER_TO_KEY_FILE)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["to_password_file", "to_password_command"])]
    to_key_file: Option<PathBuf>,

    /// Read its password from this file (or ESKER_TO_PASSWORD_FILE)
    #[arg(long, value_name = "FILE", conflicts_with = "to_password_command")]
    to_password_file: Option<PathBuf>,

    /// Run this in a shell; it prints its password (or ESKER_TO_PASSWORD_COMMAND)
    #[arg(long, value_name = "COMMAND")]
    to_password_command: Option<OsString>,
}

impl To {
    fn open(&self, context: &Context) -> Result<Repository> {
        let other = Other {
            option: "to",
            prefix: "ESKER_TO",
            repository: self.to.as_ref(),
            key_file: self.to_key_file.as_ref(),
            password_file: self.to_password_file.as_ref(),
            password_command: self.to_password_command.as_ref(),
        };
        other.open(context)?.ok_or_else(|| {
            Error::new(ErrorKind::Usage, "copy where to? Name the other repository with --to")
        })
    }
}

fn compression_text(text: &str) -> std::result::Result<String, String> {
    values::compression(text).map(|_| text.to_owned())
}

pub fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let usage = |text| Error::new(ErrorKind::Usage, text);
    let compression = values::compression(&arguments.compression).map_err(usage)?;
    let source = context.open()?;
    let destination = arguments.to.open(context)?;
    let options = CopyOptions {
        snapshots: chosen(context, &source, arguments)?,
        host: super::backup::host_name(),
        compression,
        checkpoint_bytes: 0,
    };
    let reporter = context.reporter();
    if arguments.dry_run {
        let planned = plan(&source, &destination, &options, &reporter);
        reporter.finish();
        print_plan(context, &planned?)?;
        return Ok(Exit::Ok);
    }
    let started = now_ms();
    let copied = copy(&source, &destination, &options, &reporter);
    reporter.finish();
    history::keep(context, &destination, &of_copy(started, &source, &copied), &copied);
    let report = copied?;
    for (id, error) in &report.damaged {
        context.warn(&format!("snapshot {} is DAMAGED and not copied: {error}", short(*id)));
    }
    for id in &report.gone {
        let id = short(*id);
        context.warn(&format!("snapshot {id} is not copied: it was deleted meanwhile"));
    }
    match context.json() {
        true => print_json(&report, &destination)?,
        false => sentences(&report, &destination).iter().for_each(|line| context.say(line)),
    }
    let damaged = when(!report.damaged.is_empty(), Exit::Damage);
    let Some(stopped) = &report.stopped else { return Ok(damaged) };
    talk(&format!("esker: {}", stopped.message.replace('\n', " ")));
    Ok(Exit::of(stopped.kind).and(damaged))
}

/// The snapshots that are meant; nothing if that is all good ones.
fn chosen(
    context: &Context,
    source: &Repository,
    arguments: &Arguments,
) -> Result<Option<Vec<SnapshotId>>> {
    let named = context.select_all(source, &arguments.snapshots, &arguments.narrow)?;
    let Narrow { host, profile, source: sources, tag } = &arguments.narrow;
    let is_narrow =
        !(host.is_empty() && profile.is_empty() && sources.is_empty() && tag.is_empty());
    if named.is_some() || !is_narrow {
        return Ok(named);
    }
    let filter = arguments.narrow.filter();
    let matcher = filter.matcher(source.keyring())?;
    let snapshots = source.list_snapshots()?.snapshots;
    let good = snapshots.iter().filter(|snapshot| snapshot.is_good() && matcher.matches(snapshot));
    Ok(Some(good.map(|snapshot| snapshot.id).collect()))
}

fn short(id: SnapshotId) -> String {
    id.to_hex()[..8].to_owned()
}

fn when_and_where(started: u64, host: &str) -> String {
    format!("{} of {host}", output::minute(started, &TimeZone::system()))
}

fn sentences(report: &CopyReport, destination: &Repository) -> Vec<String> {
    let line = |copied: &Copied| {
        let what = when_and_where(copied.started, &copied.host);
        let (from, id, new) = (short(copied.from), short(copied.id), copied.bytes_put);
        format!("snapshot {from}, {what}, is {id} there: {} put", output::size(new))
    };
    let mut lines: Vec<String> = report.copied.iter().map(line).collect();
    lines.push(format!(
        "{} copied to {}, {} there already",
        output::counted(report.copied.len() as u64, "snapshot"),
        destination.url(),
        output::count(report.there.len() as u64),
    ));
    lines
}

fn there_json(there: &There) -> Value {
    json!({
        "snapshot": there.from.id.to_hex(),
        "copy": there.id.to_hex(),
        "forgotten": there.forgotten,
    })
}

fn print_json(report: &CopyReport, destination: &Repository) -> std::result::Result<(), Stop> {
    let mut output = Output::new();
    for copied in &report.copied {
        let members = json!({
            "snapshot": copied.from.to_hex(),
            "copy": copied.id.to_hex(),
            "host": copied.host,
            "time": output::rfc3339(copied.started),
            "bytes_read": copied.bytes_read,
            "bytes_added": copied.bytes_added,
            "bytes_put": copied.bytes_put,
        });
        output.json("copied", members)?;
    }
    for there in &report.there {
        output.json("there", there_json(there))?;
    }
    for (id, error) in &report.damaged {
        output.json("damaged", json!({ "snapshot": id.to_hex(), "reason": error.message }))?;
    }
    let sum = |of: fn(&Copied) -> u64| report.copied.iter().map(of).sum::<u64>();
    let gone: Vec<String> = report.gone.iter().map(|id| id.to_hex()).collect();
    let summary = json!({
        "repository": destination.url(),
        "copied": report.copied.len(),
        "there": report.there.len(),
        "damaged": report.damaged.len(),
        "gone": gone,
        "bytes_read": sum(|copied| copied.bytes_read),
        "bytes_put": sum(|copied| copied.bytes_put),
        "stopped": report.stopped.as_ref().map(|error| &error.message),
    });
    output.json("summary", summary)?;
    Ok(output.finish()?)
}

fn print_plan(context: &Context, plan: &Plan) -> std::result::Result<(), Stop> {
    let mut output = Output::new();
    for Snapshot { id, manifest, .. } in &plan.wanted {
        if context.json() {
            let members = json!({
                "snapshot": id.to_hex(),
                "host": manifest.host,
                "time": output::rfc3339(manifest.started),
                "files": manifest.counts.files,
                "bytes": manifest.counts.bytes,
            });
            output.json("copy", members)?;
        } else {
            let what = when_and_where(manifest.started, &manifest.host);
            let size = output::size(manifest.counts.bytes);
            output.line(&format!("copy snapshot {}, {what}: {size}", short(*id)))?;
        }
    }
    for there in &plan.there {
        match context.json() {
            true => output.json("there", there_json(there))?,
            false => {
                let (from, id) = (short(there.from.id), short(there.id));
                output.line(&format!("snapshot {from} is there as {id}"))?;
            }
        }
    }
    Ok(output.finish()?)
}
