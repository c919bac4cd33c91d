//! `repair`: puts right what damage took, as far as what is left allows.

mod index;
mod snapshots;

use clap::{Args, Subcommand};

use super::context::Context;
use super::{Outcome, backup, exit, snapshot_name, streams};

/// Repair what is damaged
///
/// First `check --read-data` finds and marks the damage, and the next backup stores again what its
/// sources still have. `repair index` makes good lost index segments; `repair snapshots` writes
/// snapshots without the files that nothing can bring back. Nothing is deleted.
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Index(index::Arguments),
    Snapshots(snapshots::Arguments),
}

pub fn run(context: &Context, arguments: &Arguments) -> Outcome {
    match &arguments.command {
        Command::Index(arguments) => index::run(context, arguments),
        Command::Snapshots(arguments) => snapshots::run(context, arguments),
    }
}
