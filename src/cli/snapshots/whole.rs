//! The snapshots and runs of every repository of the configuration, in one table.

use std::collections::HashMap;

use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::{Arguments, Listed, choose, lines, unbelieved, unbelieved_json};
use crate::cli::context::Context;
use crate::cli::everywhere::{self, Answer};
use crate::cli::exit::when;
use crate::cli::snake;
use crate::cli::status_words::{name_or_place, reason, run_text, snapshot_text, unbelieved_text};
use crate::cli::streams::{Output, Stop};
use crate::cli::{Exit, Outcome, report};
use crate::output::{self, Table};
use crate::repository::runs::Whereabouts;
use crate::repository::sync::Troubles;
use crate::repository::{Error, ErrorKind, Repository, Result, now_ms};
use crate::status::{Overview, RunStatus, overview};

/// What one repository has.
struct Has {
    rows: Vec<Row>,
    json: Vec<(&'static str, Value)>,
    troubles: Troubles,
}

/// By time and id.
type Row = ((u64, String), [String; 8]);

pub fn run(context: &Context, arguments: &Arguments) -> Outcome {
    if context.global.repository.is_some() {
        let message = "--all-repositories lists every repository of the configuration: name none";
        return Err(Stop::Error(Error::new(ErrorKind::Usage, message)));
    }
    let names = everywhere::names(context)?;
    if names.is_empty() {
        let message = "--all-repositories: the configuration names no repository";
        return Err(Stop::Error(Error::new(ErrorKind::Usage, message)));
    }
    let answers = everywhere::ask(context, &names, |name, repository| {
        has(context, arguments, name, &repository)
    });
    print(context, &answers)?;
    let mut exit = Exit::Ok;
    for Answer { name, result } in &answers {
        match result {
            Ok(has) => {
                has.troubles.iter().for_each(|trouble| context.warn(&trouble.message));
                exit = exit.and(when(!has.troubles.is_empty(), Exit::Damage));
            }
            Err(error) => context.warn(&format!("repository {name}: {}", error.message)),
        }
    }
    if answers.iter().all(|answer| answer.result.is_err()) {
        let error = Error::new(ErrorKind::TryLater, "no repository of the configuration answers");
        return Ok(report(&error, Exit::TryLater, context.json()));
    }
    Ok(exit)
}

fn print(context: &Context, answers: &[Answer<Has>]) -> std::result::Result<(), Stop> {
    let mut output = Output::new();
    if context.json() {
        for answer in answers {
            output.json("repository", repository_json(answer))?;
        }
        for (kind, members) in answers.iter().flat_map(|a| a.result.iter()).flat_map(|h| &h.json) {
            output.json(kind, members.clone())?;
        }
        return Ok(output.finish()?);
    }
    let all = answers.iter().filter_map(|answer| answer.result.as_ref().ok());
    let mut rows: Vec<&Row> = all.flat_map(|has| &has.rows).collect();
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    let headings = ["repository", "host", "profile", "id", "time", ">size", "status", "name"];
    let mut table = Table::new(&headings);
    rows.into_iter().for_each(|(_, row)| table.row(row.clone()));
    if !table.is_empty() {
        output.table(&table)?;
    }
    Ok(output.finish()?)
}

fn repository_json(answer: &Answer<Has>) -> Value {
    let error = answer.result.as_ref().err();
    json!({
        "repository": answer.name,
        "state": if error.is_some() { "unreachable" } else { "reachable" },
        "kind": error.map(|error| snake(&format!("{:?}", error.kind))),
        "reason": error.map(|error| &error.message),
    })
}

fn has(
    context: &Context,
    arguments: &Arguments,
    name: &str,
    repository: &Repository,
) -> Result<Has> {
    let overview = overview(repository, &Whereabouts::here(repository.id()), now_ms())?;
    let groups = choose(repository, arguments, &overview)?;
    let unbelieved = unbelieved(arguments, &overview);
    if context.json() {
        let named = |mut members: Value| {
            if let Value::Object(object) = &mut members {
                object.insert("repository".to_owned(), json!(name));
            }
            members
        };
        let lines = lines(context, repository, groups).into_iter();
        let lines = lines.map(|Listed { kind, members, .. }| (kind, named(members)));
        let unreadable = unbelieved.iter().map(|u| ("snapshot", named(unbelieved_json(u))));
        let json = lines.chain(unreadable).collect();
        return Ok(Has { rows: Vec::new(), json, troubles: overview.troubles });
    }
    let mut rows = Vec::new();
    for ((host, profile), group) in &groups {
        let row = |time: u64, id: String, size: String, status: String, called: &str| {
            let shown = [
                output::sentence(name).into_owned(),
                output::sentence(host).into_owned(),
                output::sentence(profile).into_owned(),
                id[..8].to_owned(),
                output::time(time, &TimeZone::system()),
                size,
                status,
                output::sentence(called).into_owned(),
            ];
            ((time, id), shown)
        };
        rows.extend(snapshots_and_runs(context, repository, group, &overview, row));
    }
    for one in unbelieved {
        let mut shown: [String; 8] = Default::default();
        shown[0] = output::sentence(name).into_owned();
        shown[3] = one.id.to_hex()[..8].to_owned();
        shown[6] = unbelieved_text(one, overview.now);
        rows.push(((0, one.id.to_hex()), shown));
    }
    Ok(Has { rows, json: Vec::new(), troubles: overview.troubles })
}

fn snapshots_and_runs(
    context: &Context,
    repository: &Repository,
    group: &super::Group<'_>,
    overview: &Overview,
    row: impl Fn(u64, String, String, String, &str) -> Row,
) -> Vec<Row> {
    let runs: HashMap<_, _> = overview.runs.iter().map(|told| (told.run.id, told)).collect();
    let said = |run: &RunStatus| {
        run_text(run, reason(context, repository, &run.run).as_deref(), overview.now)
    };
    let snapshots = group.snapshots.iter().map(|told| {
        let run = told.run.and_then(|(id, _)| runs.get(&id)).map(|run| said(run));
        let manifest = &told.snapshot.manifest;
        row(
            manifest.started,
            told.snapshot.id.to_hex(),
            output::size(manifest.counts.bytes),
            snapshot_text(told, run, overview.now),
            &name_or_place(&told.snapshot),
        )
    });
    let without = group
        .runs
        .iter()
        .map(|told| row(told.run.started, told.run.id.to_hex(), String::new(), said(told), ""));
    snapshots.chain(without).collect()
}
