//! `check`: verifies a repository as far as the key at hand can.

use std::io;

use clap::Args;
use serde_json::{Map, Value, json};

use super::context::Context;
use super::exit::when;
use super::snapshot_name::Narrow;
use super::streams::Output;
use super::{Exit, Outcome, history};
use crate::check::{
    Affected, AffectedWhat, CheckOptions, CheckReport, Finding, Subset, check, mark_damaged,
};
use crate::format::entry::display_key;
use crate::history::of_check;
use crate::output;
use crate::repository::{Repository, Result, Standing, now_ms};

/// Verify the repository
///
/// Without --read-data the structure is checked: that everything is there, signed and in its place.
#[derive(Args)]
pub struct Arguments {
    /// Only these snapshots
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<String>,

    /// Read every pack, and verify every byte
    #[arg(long)]
    read_data: bool,

    /// Read a part of the packs: the N-th of M parts, or a share of them at random
    #[arg(long, value_name = "N/M|PERCENT%", value_parser = subset, conflicts_with = "read_data")]
    read_data_subset: Option<Subset>,

    /// Name every file of every snapshot that damage hits
    #[arg(long)]
    affected: bool,

    /// Compute reference sets once more from the trees, and compare
    #[arg(long)]
    refs: bool,

    /// Do not mark damaged packs, and leave no record: nothing is written
    ///
    /// Without it damaged packs are marked, and the next backup stores again what they held.
    #[arg(long)]
    no_mark: bool,

    #[command(flatten)]
    narrow: Narrow,
}

/// `2/7`, or `5%`
fn subset(text: &str) -> std::result::Result<Subset, String> {
    let wrong = || format!("{text:?} is no part: write 2/7, or 5%");
    if let Some((n, m)) = text.split_once('/') {
        let (n, m) = (n.parse().map_err(|_| wrong())?, m.parse().map_err(|_| wrong())?);
        return if 0 < n && n <= m { Ok(Subset::Fraction(n, m)) } else { Err(wrong()) };
    }
    let percent: f64 = text.strip_suffix('%').and_then(|n| n.parse().ok()).ok_or_else(wrong)?;
    if percent > 0.0 && percent <= 100.0 { Ok(Subset::Percent(percent)) } else { Err(wrong()) }
}

pub fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let repository = context.open()?;
    let options = options(context, &repository, arguments)?;
    let reporter = context.reporter();
    let started = now_ms();
    let checked = check(&repository, &options, &reporter);
    reporter.finish();
    if !arguments.no_mark {
        history::keep(context, &repository, &of_check(started, &options, &checked), &checked);
    }
    let report = checked?;
    let marks = if arguments.no_mark { 0 } else { mark(context, &repository, &report) };
    match context.json() {
        true => print_json(&repository, &report, marks)?,
        false => print(&report)?,
    }
    for sentence in talk(context, &report, marks) {
        context.say(&sentence);
    }
    Ok(when(!report.is_ok(), Exit::Damage))
}

/// Marks what is damaged. That it cannot be marked is no reason to hide what was
/// found.
fn mark(context: &Context, repository: &Repository, report: &CheckReport) -> u64 {
    let standing = repository.trust().standing(repository.keyring().writer);
    if report.damaged_packs.is_empty() || !matches!(standing, Standing::InForce(_)) {
        return 0;
    }
    mark_damaged(repository, report).unwrap_or_else(|error| {
        context.warn(&format!("the damaged packs could not be marked: {}", error.message));
        0
    })
}

fn options(
    context: &Context,
    repository: &Repository,
    arguments: &Arguments,
) -> Result<CheckOptions> {
    let read_data = arguments.read_data_subset.or(arguments.read_data.then_some(Subset::All));
    let (affected, refs) = (arguments.affected, arguments.refs);
    let snapshots = context.select_all(repository, &arguments.snapshots, &arguments.narrow)?;
    Ok(CheckOptions { read_data, affected, refs, snapshots })
}

fn what(affected: &Affected) -> &'static str {
    match affected.what {
        AffectedWhat::Content => "content",
        AffectedWhat::Names => "names",
        AffectedWhat::References => "references",
    }
}

/// Damage is data: it goes to standard output.
fn print(report: &CheckReport) -> io::Result<()> {
    let mut output = Output::new();
    for finding in &report.findings {
        output.line(&output::sentence(&sentence(finding)))?;
    }
    for affected in &report.affected {
        let path = display_key(&affected.key);
        let id = &affected.snapshot.to_hex()[..8];
        output.line(&format!("snapshot {id}: {} lost: {}", what(affected), output::path(&path)))?;
    }
    output.finish()
}

fn sentence(finding: &Finding) -> String {
    let rule = finding.rule.map(|rule| format!(" [{rule}]")).unwrap_or_default();
    format!("{}: {}{rule}", finding.key, finding.what)
}

fn talk(context: &Context, report: &CheckReport, marks: u64) -> Vec<String> {
    let counts = &report.counts;
    let mut lines = Vec::new();
    if context.global.verbose > 0 {
        lines.extend(report.notes.iter().map(|note| format!("note: {}", sentence(note))));
    }
    lines.extend(report.unproven.iter().map(|text| format!("not proven: {text}")));
    if report.left_out > 0 {
        lines.push(format!("{} more not listed", output::counted(report.left_out, "finding")));
    }
    if marks > 0 {
        lines.push(format!(
            "{} marked: the next backup stores again what it can",
            output::counted(marks, "snapshot")
        ));
    }
    let verdict = match report.findings.len() as u64 {
        0 => "no damage found".to_owned(),
        found => format!("DAMAGE: {}", output::counted(found + report.left_out, "finding")),
    };
    lines.push(format!(
        "{}, {}, {}, {} ({} read): {verdict}",
        output::counted(counts.snapshots, "snapshot"),
        output::counted(counts.objects, "object"),
        output::counted(counts.entries, "path"),
        output::counted(counts.packs, "pack"),
        output::size(counts.bytes_read),
    ));
    lines
}

fn print_json(repository: &Repository, report: &CheckReport, marks: u64) -> io::Result<()> {
    let mut output = Output::new();
    for (kind, list) in [("damage", &report.findings), ("note", &report.notes)] {
        for finding in list {
            let rule = finding.rule;
            output.json(kind, json!({ "key": finding.key, "what": finding.what, "rule": rule }))?;
        }
    }
    for affected in &report.affected {
        let mut object = Map::new();
        object.insert("snapshot".to_owned(), affected.snapshot.to_hex().into());
        output::json_path(&mut object, "path", &display_key(&affected.key));
        object.insert("lost".to_owned(), what(affected).into());
        output.json("affected", Value::Object(object))?;
    }
    let packs: Vec<Value> = report
        .damaged_packs
        .iter()
        .map(|pack| json!({ "id": pack.id.to_hex(), "missing": pack.missing, "blocks": pack.blocks, "healed": pack.healed }))
        .collect();
    let counts = &report.counts;
    output.json(
        "summary",
        json!({
            "repository": repository.url(),
            "ok": report.is_ok(),
            "damage_count": report.findings.len(),
            "not_listed": report.left_out,
            "not_proven": report.unproven,
            "damaged_packs": packs,
            "marks": marks,
            "snapshots": counts.snapshots,
            "objects": counts.objects,
            "segments": counts.segments,
            "packs": counts.packs,
            "pages": counts.pages,
            "entries": counts.entries,
            "packs_read": counts.packs_read,
            "bytes_read": counts.bytes_read,
        }),
    )?;
    output.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_a_fraction_or_a_percentage() {
        assert_eq!(subset("2/7"), Ok(Subset::Fraction(2, 7)));
        assert_eq!(subset("2.5%"), Ok(Subset::Percent(2.5)));
        for text in ["", "0/7", "8/7", "5", "0%", "101%", "a/b", "NaN%"] {
            assert!(subset(text).is_err(), "{text}");
        }
    }
}
