//! `undo`: takes forgotten snapshots back.

use clap::Args;
use serde_json::json;

use super::context::Context;
use super::streams::Output;
use super::{Exit, Outcome};
use crate::output;
use crate::repository::snapshots::Snapshot;
use crate::repository::{Error, Repository, Result, now_ms};
use crate::undo::{Undone, undo};

/// Take forgotten snapshots back
///
/// Works until a prune has swept them. It says *recovered* only after everything the snapshot needs was
/// seen to be there, and in no announcement of a prune.
#[derive(Args)]
pub struct Arguments {
    /// Snapshots by id or name
    #[arg(value_name = "SNAPSHOT", required = true)]
    snapshots: Vec<String>,
}

pub fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let repository = context.open()?;
    repository.require_maintain()?;
    let all = context.snapshots(&repository)?;
    let mut wanted = Vec::new();
    for name in &arguments.snapshots {
        wanted.push(find(&repository, &all, name)?.id);
    }
    let reporter = context.reporter();
    let undone = undo(&repository, &all, &wanted, now_ms(), &reporter);
    reporter.finish();
    let mut output = Output::new();
    let mut late = false;
    for (id, undone) in undone? {
        let (word, why) = match &undone {
            Undone::Recovered => ("recovered", ""),
            Undone::NotForgotten => ("not forgotten", ""),
            Undone::TooLate(why) => ("too late", why.as_str()),
        };
        late |= matches!(undone, Undone::TooLate(_));
        if context.json() {
            output.json("undo", json!({ "id": id.to_hex(), "outcome": word, "why": why }))?;
        } else if why.is_empty() {
            context.say(&format!("snapshot {}: {word}", &id.to_hex()[..8]));
        } else {
            let why = output::sentence(why);
            context.warn(&format!("snapshot {}: {word}: {why}", &id.to_hex()[..8]));
        }
    }
    output.finish()?;
    Ok(super::exit::when(late, Exit::Failed))
}

/// Names of forgotten snapshots count before those of others: it is they that
/// are meant.
fn find<'a>(repository: &Repository, all: &'a [Snapshot], name: &str) -> Result<&'a Snapshot> {
    let forgotten: Vec<&Snapshot> =
        all.iter().filter(|snapshot| snapshot.forgotten.is_some()).collect();
    let named: Vec<_> =
        forgotten.iter().filter(|snapshot| snapshot.name.as_deref() == Some(name)).collect();
    match named.as_slice() {
        [snapshot] => Ok(snapshot),
        [] => repository.find_snapshot(all, name),
        several => Err(Error::new(
            crate::repository::ErrorKind::Usage,
            format!(
                "{} forgotten snapshots are called {name:?}: name one by its id",
                several.len()
            ),
        )),
    }
}
