//! `key remove`

use clap::Args;
use serde_json::json;

use super::streams::Output;
use super::values;
use super::{Context, Exit, Outcome};
use crate::keys::{self, RemoveOptions, RemoveReport};
use crate::output;
use crate::repository::{Repository, Result};

/// Remove a key: somebody leaves, or something was stolen
///
/// The key's writer is revoked and, but for a full key, new keys are made for those who stay. What
/// the key could read up to now stays readable to who held it; store credentials must change too.
#[derive(Args)]
pub struct Arguments {
    /// Its label, or the beginning of its id
    #[arg(value_name = "KEY")]
    key: String,

    /// Remove even the key that this command was opened with
    #[arg(long)]
    force: bool,

    /// Make new keys for those who stay, whatever the role
    #[arg(long, conflicts_with = "no_rotate")]
    rotate: bool,

    /// Make no new keys
    #[arg(long)]
    no_rotate: bool,

    /// Trust no snapshot of this key that says it began at or after this time
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    distrust_since: Option<u64>,

    /// Trust this snapshot of the key no more
    #[arg(long, value_name = "SNAPSHOT")]
    distrust: Vec<String>,
}

pub fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let repository = context.open()?;
    repository.keyring().require_full()?;
    let slot = keys::find(&repository, &arguments.key)?;
    let options = options(context, &repository, arguments)?;
    let reporter = context.reporter();
    let removed = keys::remove(&repository, slot, &options, &reporter);
    reporter.finish();
    let report = removed?;
    match context.json() {
        true => print_json(&report)?,
        false => talk(&report).iter().for_each(|line| context.say(line)),
    }
    Ok(Exit::Ok)
}

fn options(
    context: &Context,
    repository: &Repository,
    arguments: &Arguments,
) -> Result<RemoveOptions> {
    let mut distrust = Vec::new();
    if !arguments.distrust.is_empty() {
        let snapshots = context.snapshots(repository)?;
        for name in &arguments.distrust {
            distrust.push(repository.find_snapshot(&snapshots, name)?.id);
        }
    }
    Ok(RemoveOptions {
        force: arguments.force,
        rotate: (arguments.rotate || arguments.no_rotate).then_some(arguments.rotate),
        distrust_since: arguments.distrust_since,
        distrust,
    })
}

fn talk(report: &RemoveReport) -> Vec<String> {
    let id = &report.slot.to_hex()[..8];
    let mut lines = vec![format!("removed {} key {id}, {}", report.role.name(), report.label)];
    if report.revoked.is_some() {
        let standing = output::counted(report.standing as u64, "snapshot");
        let distrusted = output::count(report.distrusted.len() as u64);
        lines.push(format!(
            "its writer is revoked: {standing} of it stay good, {distrusted} do not"
        ));
    }
    lines.push(match report.rotated {
        true => "new keys were made: it reads nothing that is stored from now on".to_owned(),
        false => "no new keys were made".to_owned(),
    });
    lines.push("what it could read up to now stays readable to who held it; change the store's credentials too".to_owned());
    if report.knew_root {
        lines.push("it was a full key, whose holder knows all keys, later ones included: only a copy to a new repository shuts him out".to_owned());
    }
    lines
}

fn print_json(report: &RemoveReport) -> std::io::Result<()> {
    let distrusted: Vec<String> = report.distrusted.iter().map(|id| id.to_hex()).collect();
    let mut output = Output::new();
    output.json(
        "removed",
        json!({
            "id": report.slot.to_hex(),
            "label": report.label,
            "role": report.role.name(),
            "revoked_writer": report.revoked.map(|writer| writer.to_hex()),
            "standing": report.standing,
            "distrusted": distrusted,
            "rotated": report.rotated,
            "epoch": report.rotation.as_ref().map(|rotation| rotation.epoch),
            "update": report.rotation.as_ref().map(|rotation| rotation.update),
            "knew_root": report.knew_root,
        }),
    )?;
    output.finish()
}
