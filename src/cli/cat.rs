//! `cat`: one object of the repository, for those who want to look inside.

use clap::Args;

use super::context::Context;
use super::snapshot_name::{self, Narrow};
use super::streams::{Output, Stop};
use super::{Exit, Outcome};
use crate::cat::{cat, raw};
use crate::format::config::CONFIG_KEY;
use crate::format::manifest::manifest_key;
use crate::repository::Error;

/// Print an object of the repository as JSON
#[derive(Args)]
pub struct Arguments {
    /// The object's key in the store, such as config or keys/…, or a snapshot
    #[arg(value_name = "KEY|SNAPSHOT")]
    object: String,

    /// Print the stored bytes as they are
    #[arg(long)]
    raw: bool,

    #[command(flatten)]
    narrow: Narrow,
}

pub fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let repository = context.open()?;
    let key = if arguments.object.contains('/') || arguments.object == CONFIG_KEY {
        arguments.object.clone()
    } else {
        let wanted = snapshot_name::parse_snapshot(&arguments.object)?;
        let snapshots = context.snapshots(&repository)?;
        manifest_key(context.select(&repository, &snapshots, &wanted, &arguments.narrow)?.id)
    };
    let mut output = Output::new();
    if arguments.raw {
        output.write(&raw(&repository, &key)?)?;
    } else if context.json() {
        output.json("object", cat(&repository, &key)?)?;
    } else {
        let told = serde_json::to_string_pretty(&cat(&repository, &key)?);
        output.line(&told.map_err(|error| Stop::Error(Error::failed(error.to_string())))?)?;
    }
    output.finish()?;
    Ok(Exit::Ok)
}
