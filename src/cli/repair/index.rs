//! `repair index`

use clap::Args;
use serde_json::{Value, json};

use super::exit::when;
use super::streams::Output;
use super::{Context, Outcome};
use crate::cli::Exit;
use crate::output;
use crate::repair::{IndexOptions, IndexReport, Remaining, repair_index};
use crate::repository::Repository;

/// List again packs that no readable index segment lists
///
/// Every pack ends in a table of what it holds; the index is made anew from those. Segments that
/// cannot be read are replaced, and the next prune deletes them. With a write key only packs of that
/// key are listed.
#[derive(Args)]
pub struct Arguments {
    /// Read the tables of all packs, and replace all segments
    #[arg(long)]
    rebuild: bool,

    /// Read packs whole, and list none whose bytes do not match its name
    #[arg(long)]
    read_data: bool,

    /// Say what would be done; write nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

pub fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let repository = context.open()?;
    let options = IndexOptions {
        rebuild: arguments.rebuild,
        read_data: arguments.read_data,
        dry_run: arguments.dry_run,
    };
    let reporter = context.reporter();
    let repaired = repair_index(&repository, &options, &reporter);
    reporter.finish();
    let report = repaired?;
    match context.json() {
        true => print_json(&repository, &options, &report)?,
        false => print(&report.remaining)?,
    }
    talk(&options, &report).iter().for_each(|line| context.say(line));
    Ok(when(!report.remaining.is_empty(), Exit::Damage))
}

/// What is not right yet is data: it goes to standard output.
pub fn print(remaining: &[Remaining]) -> std::io::Result<()> {
    let mut output = Output::new();
    for Remaining { key, what } in remaining {
        output.line(&output::sentence(&format!("{key}: {what}")))?;
    }
    output.finish()
}

fn talk(options: &IndexOptions, report: &IndexReport) -> Vec<String> {
    let would = if options.dry_run { "would be " } else { "" };
    let mut lines = vec![format!(
        "{} read, {} in the store",
        output::counted(report.segments, "segment"),
        output::counted(report.packs, "pack"),
    )];
    if report.listed.is_empty() && report.superseded.is_empty() {
        lines.push("nothing to repair".to_owned());
        return lines;
    }
    lines.push(format!(
        "{} {would}listed again, {} {would}replaced",
        output::counted(report.listed.len() as u64, "pack"),
        output::counted(report.superseded.len() as u64, "segment"),
    ));
    if !report.superseded.is_empty() {
        lines.push("the next prune deletes the segments that were replaced".to_owned());
    }
    lines
}

pub fn json_remaining(remaining: &[Remaining]) -> Vec<Value> {
    remaining.iter().map(|left| json!({ "key": left.key, "what": left.what })).collect()
}

fn print_json(
    repository: &Repository,
    options: &IndexOptions,
    report: &IndexReport,
) -> std::io::Result<()> {
    let packs: Vec<String> = report.listed.iter().map(|id| id.to_hex()).collect();
    let segments: Vec<String> = report.superseded.iter().map(|id| id.to_hex()).collect();
    let mut output = Output::new();
    output.json(
        "summary",
        json!({
            "repository": repository.url(),
            "dry_run": options.dry_run,
            "segments": report.segments,
            "packs": report.packs,
            "listed": packs,
            "replaced": segments,
            "remaining": json_remaining(&report.remaining),
        }),
    )?;
    output.finish()
}
