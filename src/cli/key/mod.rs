//! `key`: who may open the repository, and what for.

mod add;
mod export;
mod identity;
mod list;
mod remove;
mod rotate;

use clap::{Args, Subcommand};

use super::context::Context;
use super::{Exit, Outcome, exit, secrets, streams, values};

/// Manage keys
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Add(add::Arguments),
    List(list::Arguments),
    Remove(remove::Arguments),
    Rotate(rotate::Arguments),
    Export(export::Arguments),
    Identity(identity::Arguments),
}

pub fn run(context: &Context, arguments: &Arguments) -> Outcome {
    match &arguments.command {
        Command::Add(arguments) => add::run(context, arguments),
        Command::List(arguments) => list::run(context, arguments),
        Command::Remove(arguments) => remove::run(context, arguments),
        Command::Rotate(arguments) => rotate::run(context, arguments),
        Command::Export(arguments) => export::run(context, arguments),
        Command::Identity(arguments) => identity::run(context, arguments),
    }
}
