//! The answer of `status`: tables and sentences for people, JSON for scripts.

use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::rows::{Asked, Row, Told};
use crate::cli::backup::outcome_name;
use crate::cli::context::Context;
use crate::cli::prune::{outlook_json, outlook_sentence};
use crate::cli::snake;
use crate::cli::status_words::{reason, run_json, run_text};
use crate::cli::streams::{Output, Stop};
use crate::config::profile::ProfileKind;
use crate::output::{self, Table};
use crate::overdue::{Lack, Remark, behind};
use crate::progress::Silent;
use crate::prune::{PruneOptions, outlook};
use crate::repository::judge::RunState;
use crate::repository::snapshots::{Snapshot, State};
use crate::status::{Group, RunStatus};

/// One repository with its runs, and what a prune would free.
pub fn one(
    context: &Context,
    asked: &Asked,
    rows: &[Row<'_>],
    output: &mut Output,
) -> Result<(), Stop> {
    let Ok(told) = &asked.result else { return Ok(()) };
    match context.json() {
        true => json_lines(context, rows, output)?,
        false if rows.is_empty() => {}
        false => {
            output.table(&runs(context, told, rows))?;
            sentences(rows, output)?;
        }
    }
    let pruning = PruneOptions::new(&told.repository);
    for item in outlook(&told.repository, &pruning, &Silent).unwrap_or_default() {
        match context.json() {
            true => output.json("outlook", outlook_json(&item))?,
            false => output.line(&outlook_sentence(&item, pruning.now))?,
        }
    }
    Ok(())
}

/// All repositories of the configuration.
pub fn whole(
    context: &Context,
    asked: &[Asked],
    rows: &[Row<'_>],
    output: &mut Output,
) -> Result<(), Stop> {
    if context.json() {
        for asked in asked {
            output.json("repository", repository_json(asked))?;
        }
        return json_lines(context, rows, output);
    }
    if rows.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&["profile", "host", "repository", ">age", "state"]);
    for row in rows {
        let expected = &row.expected;
        let is_maintenance = expected.kind == ProfileKind::Maintenance;
        let age = row.group.as_ref().and_then(|group| group.age).filter(|_| !is_maintenance);
        let host = if is_maintenance { "" } else { expected.host.as_str() };
        table.row([
            output::sentence(&expected.name).into_owned(),
            output::sentence(host).into_owned(),
            output::sentence(expected.repository.as_deref().unwrap_or_default()).into_owned(),
            age.map(output::age).unwrap_or_default(),
            state(row),
        ]);
    }
    output.table(&table)?;
    sentences(rows, output)?;
    Ok(())
}

/// In few words: what is amiss, or that nothing is.
fn state(row: &Row<'_>) -> String {
    if row.asked.result.is_err() {
        return match row.remarks.is_empty() {
            true => "away".to_owned(),
            false => "UNREACHABLE".to_owned(),
        };
    }
    let mut words: Vec<String> = Vec::new();
    for remark in &row.remarks {
        let word = remark.lack.word().replace('_', " ").to_uppercase();
        if !words.contains(&word) {
            words.push(word);
        }
    }
    if words.is_empty() {
        words.push("good".to_owned());
    }
    if let Some(late) = lag(row) {
        words.push(format!("{} behind", output::age(late)));
    }
    let is_running = row.group.as_ref().is_some_and(|group| !group.under_way.is_empty());
    words.extend(is_running.then(|| "running".to_owned()));
    words.join(", ")
}

/// How much older what a standby holds is than what there is, in ms.
fn lag(row: &Row<'_>) -> Option<u64> {
    let newest = row.group.as_ref().and_then(|group| group.newest_complete);
    behind(newest?, taken(row)?)
}

/// When the snapshot was taken that a standby holds.
fn taken(row: &Row<'_>) -> Option<u64> {
    let told = row.asked.result.as_ref().ok()?;
    let is_standby = row.expected.kind == ProfileKind::Standby;
    told.seen.taken(&row.expected).filter(|_| is_standby)
}

fn sentences(rows: &[Row<'_>], output: &mut Output) -> Result<(), Stop> {
    for row in rows {
        for remark in &row.remarks {
            let kind = if remark.lack == Lack::Suspicious { "SUSPICIOUS" } else { "OVERDUE" };
            let line = format!("{kind}: {}: {}", whose(row), remark.sentence);
            output.line(&output::sentence(&line))?;
            output.line(&output::sentence(&format!("  {}", remark.command)))?;
        }
    }
    Ok(())
}

/// `host web1, profile nightly, repository offsite`, as far as there are such.
fn whose(row: &Row<'_>) -> String {
    let expected = &row.expected;
    let host = Some(&expected.host).filter(|_| expected.kind == ProfileKind::Backup);
    let host = host.map(|host| ("host", host));
    let profile = ("profile", &expected.name);
    let repository = row.asked.name.as_ref().map(|name| ("repository", name));
    let all = host.into_iter().chain([profile]).chain(repository);
    let all = all.filter(|(_, name)| !name.is_empty());
    all.map(|(what, name)| format!("{what} {name}")).collect::<Vec<_>>().join(", ")
}

fn runs(context: &Context, told: &Told, rows: &[Row<'_>]) -> Table {
    let zone = TimeZone::system();
    let mut table =
        Table::new(&["host", "profile", "newest complete", ">age", "last run", "", "under way"]);
    let (repository, now) = (&told.repository, told.seen.overview.now);
    let text =
        |run: &RunStatus| run_text(run, reason(context, repository, &run.run).as_deref(), now);
    for row in rows {
        let group = row.group.as_ref();
        let newest = group.and_then(|group| group.newest_complete);
        let last = group.and_then(last);
        let under_way = group.map(|group| group.under_way.as_slice()).unwrap_or_default();
        table.row([
            output::sentence(&row.expected.host).into_owned(),
            output::sentence(&row.expected.name).into_owned(),
            newest.map_or("none".to_owned(), |s| output::minute(s.manifest.started, &zone)),
            group.and_then(|group| group.age).map(output::age).unwrap_or_default(),
            last.as_ref().map(|last| output::minute(last.time, &zone)).unwrap_or_default(),
            match last {
                Some(Last { outcome: Some(outcome), .. }) => outcome.to_owned(),
                _ => group.and_then(|group| group.last_run).map(text).unwrap_or_default(),
            },
            under_way.iter().map(|run| text(run)).collect::<Vec<_>>().join(", "),
        ]);
    }
    table
}

/// When the last run that is over began, and how the snapshot came out that it
/// made. Runs whose signs are gone are told by their snapshots.
struct Last {
    time: u64,
    outcome: Option<&'static str>,
}

fn last(group: &Group<'_>) -> Option<Last> {
    let outcome = |snapshot: &Snapshot| match snapshot.state {
        State::Distrusted => "distrusted",
        _ => outcome_name(snapshot.manifest.outcome),
    };
    let told = |snapshot: &&&Snapshot| snapshot.state != State::Unconfirmed;
    match group.last_run {
        Some(run) => {
            let made = match run.state {
                RunState::MadeSnapshot(id) => group.snapshots.iter().find(|s| s.id == id),
                _ => None,
            };
            Some(Last { time: run.run.started, outcome: made.map(|made| outcome(made)) })
        }
        None => group.snapshots.iter().rfind(told).map(|snapshot| Last {
            time: snapshot.manifest.started,
            outcome: Some(outcome(snapshot)),
        }),
    }
}

fn json_lines(context: &Context, rows: &[Row<'_>], output: &mut Output) -> Result<(), Stop> {
    for row in rows {
        output.json("group", group_json(context, row))?;
    }
    for row in rows {
        for remark in &row.remarks {
            output.json("overdue", remark_json(row, remark))?;
        }
    }
    Ok(())
}

fn repository_json(asked: &Asked) -> Value {
    let error = asked.result.as_ref().err();
    json!({
        "repository": asked.name,
        "removable": asked.is_removable,
        "state": if error.is_some() { "unreachable" } else { "reachable" },
        "kind": error.map(|error| snake(&format!("{:?}", error.kind))),
        "reason": error.map(|error| &error.message),
    })
}

fn remark_json(row: &Row<'_>, remark: &Remark) -> Value {
    json!({
        "what": remark.lack.word(),
        "profile": row.expected.name,
        "host": row.expected.host,
        "repository": row.asked.name,
        "sentence": remark.sentence,
        "command": remark.command,
    })
}

fn group_json(context: &Context, row: &Row<'_>) -> Value {
    let expected = &row.expected;
    let group = row.group.as_ref();
    let newest = group.and_then(|group| group.newest_complete);
    let last = group.and_then(last);
    let run = |run: &RunStatus| {
        let told = row.asked.result.as_ref().ok()?;
        let repository = &told.repository;
        Some(run_json(repository, run, reason(context, repository, &run.run)))
    };
    let has = |lack: Lack| row.remarks.iter().any(|remark| remark.lack == lack);
    let mut amiss: Vec<&str> = row.remarks.iter().map(|remark| remark.lack.word()).collect();
    amiss.dedup();
    let under_way = group.map(|group| group.under_way.as_slice()).unwrap_or_default();
    let seconds = |ms: Option<u64>| ms.map(|ms| ms / 1000);
    json!({
        "repository": row.asked.name,
        "reachable": row.asked.result.is_ok(),
        "host": expected.host,
        "profile": expected.name,
        "kind": expected.kind.name(),
        "newest_complete": newest.map(|snapshot| snapshot.id.to_hex()),
        "newest_complete_time": newest.map(|snapshot| output::rfc3339(snapshot.manifest.started)),
        "age_seconds": seconds(group.and_then(|group| group.age)),
        "maximum_age_seconds": seconds(expected.promised.maximum_age),
        "drill_seconds": seconds(expected.promised.drill),
        "check_seconds": seconds(expected.promised.check),
        "prune_seconds": seconds(expected.promised.prune),
        "applied_time": expected.last.applied.map(output::rfc3339),
        "held_time": taken(row).map(output::rfc3339),
        "behind_seconds": seconds(lag(row)),
        "stale": has(Lack::TooOld) || has(Lack::NoSnapshot),
        "overdue": amiss.iter().any(|word| *word != Lack::Suspicious.word()),
        "suspicious": has(Lack::Suspicious),
        "amiss": amiss,
        "last_time": last.as_ref().map(|last| output::rfc3339(last.time)),
        "last_outcome": last.as_ref().and_then(|last| last.outcome),
        "last_run": group.and_then(|group| group.last_run).and_then(run),
        "under_way": under_way.iter().filter_map(|told| run(told)).collect::<Vec<_>>(),
    })
}
