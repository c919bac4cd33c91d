//! `tag`: names, descriptions, tags and pins, given afterwards.

use clap::{ArgGroup, Args};
use serde_json::json;

use super::context::Context;
use super::snapshot_name::{Narrow, parse_snapshot};
use super::streams::Output;
use super::{Exit, Outcome};
use crate::output;
use crate::repository::snapshots::Snapshot;
use crate::repository::{Error, ErrorKind, Result};
use crate::tag::{TagOptions, tag};

/// Name, describe, tag or pin snapshots
///
/// No rule forgets a pinned snapshot. A write key can do this to its own snapshots only.
#[derive(Args)]
#[command(group = ArgGroup::new("change").required(true).multiple(true))]
pub struct Arguments {
    /// Beginning of its id, name, latest, latest~N or latest@TIME
    #[arg(value_name = "SNAPSHOT", required = true)]
    snapshots: Vec<String>,

    /// Give it this tag; may be given several times
    #[arg(long, value_name = "TAG", group = "change")]
    add: Vec<String>,

    /// Take this tag away; may be given several times
    #[arg(long, value_name = "TAG", group = "change")]
    remove: Vec<String>,

    /// Call it so: the name stands for it in every command
    #[arg(long, value_name = "NAME", group = "change", conflicts_with = "no_name")]
    name: Option<String>,

    /// Take its name away
    #[arg(long, group = "change")]
    no_name: bool,

    /// Describe it
    #[arg(long, value_name = "TEXT", group = "change", conflicts_with = "no_description")]
    description: Option<String>,

    /// Take its description away
    #[arg(long, group = "change")]
    no_description: bool,

    /// Keep it whatever rules say
    #[arg(long, group = "change", conflicts_with = "unpin")]
    pin: bool,

    /// Let rules decide about it again
    #[arg(long, group = "change")]
    unpin: bool,

    #[command(flatten)]
    narrow: Narrow,
}

pub fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let options = options(arguments)?;
    let repository = context.open()?;
    let all = context.snapshots(&repository)?;
    let mut chosen: Vec<&Snapshot> = Vec::new();
    for name in &arguments.snapshots {
        let wanted = parse_snapshot(name)?;
        let snapshot = context.select(&repository, &all, &wanted, &arguments.narrow)?;
        if !chosen.iter().any(|other| other.id == snapshot.id) {
            chosen.push(snapshot);
        }
    }
    let changed = tag(&repository, &all, &chosen, &options)?;
    let mut out = Output::new();
    for snapshot in &chosen {
        let changed = changed.contains(&snapshot.id);
        let id = snapshot.id.to_hex();
        if context.json() {
            out.json("tagged", json!({ "snapshot": id, "changed": changed }))?;
        } else {
            let what = if changed { "changed" } else { "is so already" };
            context.say(&format!("snapshot {} {what}", output::sentence(&id[..8])));
        }
    }
    out.finish()?;
    Ok(Exit::Ok)
}

fn options(arguments: &Arguments) -> Result<TagOptions> {
    let empty = |what: &str| {
        let message = format!("--{what} is empty: say --no-{what} to take it away");
        Err(Error::new(ErrorKind::Usage, message))
    };
    if arguments.name.as_deref() == Some("") {
        return empty("name");
    }
    if arguments.description.as_deref() == Some("") {
        return empty("description");
    }
    let or_none = |text: &Option<String>, none: bool| match none {
        true => Some(String::new()),
        false => text.clone(),
    };
    Ok(TagOptions {
        add: arguments.add.clone(),
        remove: arguments.remove.clone(),
        name: or_none(&arguments.name, arguments.no_name),
        description: or_none(&arguments.description, arguments.no_description),
        pin: (arguments.pin || arguments.unpin).then_some(arguments.pin),
    })
}
