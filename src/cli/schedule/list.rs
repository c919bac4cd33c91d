//! `schedule list`: which units or files of cron esker wrote.

use clap::Args;
use serde_json::json;

use super::super::context::Context;
use super::super::streams::Output;
use super::files::{Place, installed};
use super::{Exit, Outcome};
use crate::output::{self, Table};

/// List the units that were installed, and their profiles
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    place: Place,
}

pub fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let directory = arguments.place.directory(context)?;
    let found = installed(&directory)?;
    let mut output = Output::new();
    let mut table = Table::new(&["profile", "file"]);
    for file in &found {
        let path = file.path.display().to_string();
        match context.json() {
            true => output.json("installed", json!({ "profile": file.profile, "path": path }))?,
            false => table.row([output::sentence(&file.profile).into_owned(), path]),
        }
    }
    if !table.is_empty() {
        output.table(&table)?;
    }
    output.finish()?;
    if found.is_empty() {
        context.say(&format!("esker has installed nothing in {}", directory.display()));
    }
    Ok(Exit::Ok)
}
