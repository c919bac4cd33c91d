//! `history`: what every run did, newest last.

use clap::{Args, ValueEnum};
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};

use super::context::Context;
use super::exit::when;
use super::status_words::{reason, run_text, run_word, snapshot_text};
use super::streams::Output;
use super::{Exit, Outcome};
use crate::history::{History, Item, history, log};
use crate::output::{self, Table};
use crate::overdue::run_of;
use crate::record::{self, Finished, Recorded};
use crate::repository::runs::Whereabouts;
use crate::repository::{Error, ErrorKind, Repository, Result, now_ms};
use crate::status::{Overview, overview};

/// Tell what every run did: backups, prunes, checks, copies, drills
///
/// Backups are told as their snapshots and signs of life tell; prune, check, copy, drill and runs of
/// profiles that failed leave a record. What can name a path, such as the reason of a failure, only a full or read key shows.
#[derive(Args)]
pub struct Arguments {
    /// Only runs of this host
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,

    /// Only backups and runs of this profile, and what was done with their snapshots
    #[arg(long, value_name = "NAME")]
    profile: Vec<String>,

    /// Only runs of this kind
    #[arg(long, value_enum)]
    kind: Vec<Kind>,

    /// Only the newest N
    #[arg(long, value_name = "N")]
    last: Option<usize>,

    /// Print what a run left of its log, or why it failed
    #[arg(long, value_name = "ID", conflicts_with_all = ["host", "profile", "kind", "last"])]
    log: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Backup,
    Prune,
    Check,
    Copy,
    Drill,
    /// Whole runs of a profile
    Run,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Backup => "backup",
            Kind::Prune => "prune",
            Kind::Check => "check",
            Kind::Copy => "copy",
            Kind::Drill => "drill",
            Kind::Run => "run",
        }
    }
}

pub fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let repository = context.open()?;
    let overview = overview(&repository, &Whereabouts::here(repository.id()), now_ms())?;
    let History { mut items, troubles } = history(&repository, &overview)?;
    if let Some(wanted) = &arguments.log {
        return print_log(context, &repository, &overview, &items, wanted);
    }
    choose(arguments, &overview, &mut items);
    let mut output = Output::new();
    match context.json() {
        true => {
            for item in &items {
                let members = to_json(context, &repository, &overview, item);
                output.json("run", Value::Object(members))?;
            }
        }
        false if items.is_empty() => {}
        false => output.table(&table(context, &repository, &overview, &items))?,
    }
    output.finish()?;
    for trouble in &troubles {
        context.warn(&trouble.message);
    }
    Ok(when(!troubles.is_empty(), Exit::Damage))
}

fn choose(arguments: &Arguments, overview: &Overview, items: &mut Vec<Item>) {
    let any = |wanted: &[String], is: &str| wanted.is_empty() || wanted.iter().any(|w| w == is);
    let of_profile = |item: &Item| match item {
        Item::Snapshot(told) => any(&arguments.profile, &told.snapshot.manifest.profile),
        Item::Run(told) => any(&arguments.profile, &told.run.profile),
        Item::Record(recorded) => {
            let about = |id| recorded.record.snapshots.contains(id);
            let of_run = |profile: &String| {
                let record = &recorded.record;
                record.kind == Kind::Run.name() && record.extent == run_of(&record.host, profile)
            };
            arguments.profile.is_empty()
                || arguments.profile.iter().any(of_run)
                || overview.snapshots.iter().any(|told| {
                    about(&told.snapshot.id)
                        && any(&arguments.profile, &told.snapshot.manifest.profile)
                })
        }
    };
    items.retain(|item| {
        let kinds = &arguments.kind;
        (kinds.is_empty() || kinds.iter().any(|kind| kind.name() == item.kind()))
            && any(&arguments.host, item.host())
            && of_profile(item)
    });
    let surplus = items.len().saturating_sub(arguments.last.unwrap_or(usize::MAX));
    items.drain(..surplus);
}

fn table(context: &Context, repository: &Repository, overview: &Overview, items: &[Item]) -> Table {
    let zone = TimeZone::system();
    let mut table = Table::new(&[
        "id", "began", ">took", "host", "profile", "kind", ">exit", "what", "outcome",
    ]);
    for item in items {
        let took = item.ended().saturating_sub(item.started());
        table.row([
            item.id()[..8].to_owned(),
            output::time(item.started(), &zone),
            output::duration(took),
            output::sentence(item.host()).into_owned(),
            output::sentence(profile(item)).into_owned(),
            item.kind().to_owned(),
            item.code().map_or(String::new(), |code| code.to_string()),
            what(item),
            outcome(context, repository, overview, item),
        ]);
    }
    table
}

fn profile(item: &Item) -> &str {
    match item {
        Item::Snapshot(told) => &told.snapshot.manifest.profile,
        Item::Run(told) => &told.run.profile,
        Item::Record(_) => "",
    }
}

/// In words for people.
fn outcome(context: &Context, repository: &Repository, overview: &Overview, item: &Item) -> String {
    match item {
        Item::Snapshot(told) => {
            let run = told.run.and_then(|(id, _)| overview.runs.iter().find(|r| r.run.id == id));
            let said =
                |run| run_text(run, reason(context, repository, &run.run).as_deref(), overview.now);
            snapshot_text(told, run.map(said), overview.now)
        }
        Item::Run(told) => {
            run_text(told, reason(context, repository, &told.run).as_deref(), overview.now)
        }
        Item::Record(recorded) => {
            let mut text = code_words(recorded.record.code).to_owned();
            if recorded.by_revoked {
                text.push_str(", says a key that was revoked");
            }
            text
        }
    }
}

/// A stable word.
fn outcome_word(item: &Item) -> &'static str {
    match item {
        Item::Snapshot(told) => told.status.word(),
        Item::Run(told) => run_word(told.state),
        Item::Record(recorded) => code_words(recorded.record.code),
    }
}

fn code_words(code: u64) -> &'static str {
    match code {
        0 => "done",
        3 => "partial",
        20 => "damage",
        22 => "drill failed",
        75 => "put off",
        130 => "interrupted",
        _ => "failed",
    }
}

/// What a run did, in a few numbers.
fn what(item: &Item) -> String {
    let is_size = |name: &str| name.starts_with("bytes");
    let shown = |(name, number): &(String, u64)| match is_size(name) {
        true => format!("{name} {}", output::size(*number)),
        false => format!("{name} {}", output::count(*number)),
    };
    let counts = item.counts();
    let chosen: Vec<&(String, u64)> = match item {
        Item::Snapshot(_) => {
            let wanted = ["files", "bytes", "bytes added", "failures"];
            let is_wanted = |(name, number): &&(String, u64)| {
                wanted.contains(&name.as_str()) && (*number > 0 || name == "files")
            };
            counts.iter().filter(is_wanted).collect()
        }
        _ => counts.iter().filter(|(name, number)| *number > 0 || is_size(name)).collect(),
    };
    let mut parts: Vec<String> = chosen.into_iter().map(shown).collect();
    if let Item::Record(recorded) = item {
        parts.insert(0, recorded.record.extent.clone());
    }
    output::sentence(&parts.join(", ")).into_owned()
}

fn to_json(
    context: &Context,
    repository: &Repository,
    overview: &Overview,
    item: &Item,
) -> Map<String, Value> {
    let counts: Map<String, Value> = item
        .counts()
        .into_iter()
        .map(|(name, number)| (name.replace(' ', "_"), number.into()))
        .collect();
    let (writer, extent, by_revoked, has_log) = match item {
        Item::Snapshot(told) => (told.snapshot.manifest.writer, None, false, false),
        Item::Run(told) => (told.run.writer, None, false, told.run.code.is_some()),
        Item::Record(recorded) => {
            let Recorded { writer, by_revoked, has_log, .. } = **recorded;
            (writer, Some(recorded.record.extent.clone()), by_revoked, has_log)
        }
    };
    let failed = match item {
        Item::Run(told) => reason(context, repository, &told.run),
        Item::Snapshot(_) | Item::Record(_) => None,
    };
    let snapshots: Vec<String> = item.snapshots().into_iter().map(|id| id.to_hex()).collect();
    let members = json!({
        "id": item.id(),
        "kind": item.kind(),
        "host": item.host(),
        "profile": match item { Item::Record(_) => None, _ => Some(profile(item)) },
        "started": output::rfc3339(item.started()),
        "ended": output::rfc3339(item.ended()),
        "outcome": outcome_word(item).replace(' ', "_"),
        "exit_code": item.code(),
        "reason": failed,
        "extent": extent,
        "snapshots": snapshots,
        "counts": counts,
        "has_log": has_log,
        "writer": writer.to_hex(),
        "writer_label": repository.trust().label(writer),
        "by_revoked": by_revoked,
        "now": output::rfc3339(overview.now),
    });
    match members {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

fn print_log(
    context: &Context,
    repository: &Repository,
    overview: &Overview,
    items: &[Item],
    wanted: &str,
) -> Outcome {
    let lower = wanted.to_ascii_lowercase();
    let is_prefix = lower.len() >= 2 && lower.bytes().all(|byte| byte.is_ascii_hexdigit());
    let matching: Vec<&Item> =
        items.iter().filter(|item| is_prefix && item.id().starts_with(&lower)).collect();
    let item = match matching.as_slice() {
        [item] => item,
        [] => return Err(Error::failed(format!("no run has an id like {wanted:?}")).into()),
        several => {
            let message =
                format!("{} runs begin with {wanted:?}: type more of the id", several.len());
            return Err(Error::new(ErrorKind::Usage, message).into());
        }
    };
    repository.keyring().require_read()?;
    let text = log(repository, item, &overview.runs)?;
    let mut output = Output::new();
    match (context.json(), &text) {
        (true, _) => output.json("log", json!({ "id": item.id(), "text": text }))?,
        (false, Some(text)) => {
            text.lines().try_for_each(|line| output.line(&output::sentence(line)))?;
        }
        (false, None) => context.say("this run left no log"),
    }
    output.finish()?;
    Ok(Exit::Ok)
}

/// Leaves the record of a run; that it cannot be put is no reason to call the run
/// failed. A store that was away while it ran is not waited for once more.
pub fn keep<T>(
    context: &Context,
    repository: &Repository,
    finished: &Finished,
    result: &Result<T>,
) {
    if matches!(result, Err(error) if error.kind == ErrorKind::TryLater) {
        return;
    }
    if let Err(error) = record::put(repository, &super::backup::host_name(), finished) {
        context.warn(&format!("the record of this run could not be put: {error}"));
    }
}
