//! `status`: whether every host and profile keeps what was promised of it. It
//! answers 0, or 21 if not or if nobody can tell.

use clap::Args;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::backup::outcome_name;
use super::context::Context;
use super::exit::when;
use super::prune::{outlook_json, outlook_sentence};
use super::status_words::{reason, run_json, run_text};
use super::streams::{Output, Stop};
use super::{Exit, Outcome};
use crate::output::{self, Table};
use crate::progress::Silent;
use crate::prune::{PruneOptions, outlook};
use crate::repository::judge::RunState;
use crate::repository::runs::Whereabouts;
use crate::repository::snapshots::{Snapshot, State};
use crate::repository::{ErrorKind, Repository, now_ms};
use crate::status::{Group, Overview, RunStatus, groups, overview};

/// Tell how fresh the snapshots of every host and profile are
///
/// Exit code 21: a snapshot is older than was promised, something listed cannot be judged, or the
/// repository cannot be reached.
#[derive(Args)]
pub struct Arguments {
    /// Only this host
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,

    /// Only this profile
    #[arg(long, value_name = "NAME")]
    profile: Vec<String>,
}

pub fn run(context: &Context, arguments: &Arguments) -> Outcome {
    match tell(context, arguments) {
        // whatever keeps this command from an answer, the answer is not that all is well
        Err(Stop::Error(error)) if error.kind != ErrorKind::Usage => {
            Ok(super::report(&error, Exit::Stale, context.json()))
        }
        other => other,
    }
}

fn tell(context: &Context, arguments: &Arguments) -> Outcome {
    let repository = context.open()?;
    let overview = overview(&repository, &Whereabouts::here(repository.id()), now_ms())?;
    let any = |wanted: &[String], is: &str| wanted.is_empty() || wanted.iter().any(|w| w == is);
    let mut groups = groups(&overview);
    groups.retain(|g| any(&arguments.host, g.host) && any(&arguments.profile, g.profile));
    let mut output = Output::new();
    if context.json() {
        for group in &groups {
            output.json("group", group_json(context, &repository, group))?;
        }
    } else if !groups.is_empty() {
        output.table(&table(context, &repository, &overview, &groups))?;
        for group in groups.iter().filter(|group| group.is_stale()) {
            output.line(&output::sentence(&stale(group)))?;
        }
    }
    let pruning = PruneOptions::new(&repository);
    for item in outlook(&repository, &pruning, &Silent).unwrap_or_default() {
        match context.json() {
            true => output.json("outlook", outlook_json(&item))?,
            false => output.line(&outlook_sentence(&item, pruning.now))?,
        }
    }
    output.finish()?;
    for trouble in &overview.troubles {
        context.warn(&trouble.message);
    }
    let named = !arguments.host.is_empty() || !arguments.profile.is_empty();
    if groups.is_empty() {
        context.say(match named {
            true => "there is no snapshot of what was named",
            false => "there is no snapshot yet",
        });
    }
    let stale = groups.iter().any(Group::is_stale) || (groups.is_empty() && named);
    Ok(when(stale || !overview.troubles.is_empty(), Exit::Stale))
}

fn table(
    context: &Context,
    repository: &Repository,
    overview: &Overview,
    groups: &[Group<'_>],
) -> Table {
    let zone = TimeZone::system();
    let mut table =
        Table::new(&["host", "profile", "newest complete", ">age", "last run", "", "under way"]);
    for group in groups {
        let text = |run: &RunStatus| {
            run_text(run, reason(context, repository, &run.run).as_deref(), overview.now)
        };
        let newest = group.newest_complete;
        let last = last(group);
        table.row([
            output::sentence(group.host).into_owned(),
            output::sentence(group.profile).into_owned(),
            newest.map_or("none".to_owned(), |s| output::minute(s.manifest.started, &zone)),
            group.age.map(output::age).unwrap_or_default(),
            last.as_ref().map(|last| output::minute(last.time, &zone)).unwrap_or_default(),
            match last {
                Some(Last { outcome: Some(outcome), .. }) => outcome.to_owned(),
                _ => group.last_run.map(text).unwrap_or_default(),
            },
            group.under_way.iter().map(|run| text(run)).collect::<Vec<_>>().join(", "),
        ]);
    }
    table
}

fn stale(group: &Group<'_>) -> String {
    let promised = group.maximum_age.map(output::age).unwrap_or_default();
    let is = match group.age {
        Some(age) => format!("the newest complete snapshot is {} old", output::age(age)),
        None => "there is no complete snapshot".to_owned(),
    };
    format!("STALE: host {}, profile {}: {is}, promised is {promised}", group.host, group.profile)
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

fn group_json(context: &Context, repository: &Repository, group: &Group<'_>) -> Value {
    let run = |run: &RunStatus| run_json(repository, run, reason(context, repository, &run.run));
    let last = last(group);
    json!({
        "host": group.host,
        "profile": group.profile,
        "newest_complete": group.newest_complete.map(|snapshot| snapshot.id.to_hex()),
        "newest_complete_time":
            group.newest_complete.map(|snapshot| output::rfc3339(snapshot.manifest.started)),
        "age_seconds": group.age.map(|age| age / 1000),
        "maximum_age_seconds": group.maximum_age.map(|age| age / 1000),
        "stale": group.is_stale(),
        "last_time": last.as_ref().map(|last| output::rfc3339(last.time)),
        "last_outcome": last.as_ref().and_then(|last| last.outcome),
        "last_run": group.last_run.map(run),
        "under_way": group.under_way.iter().map(|told| run(told)).collect::<Vec<_>>(),
    })
}
