//! `completions`: a shell's completion script on standard output.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::streams::Output;
use super::{Exit, Outcome, arguments};

/// Print a completion script for a shell
#[derive(Args)]
pub struct Arguments {
    shell: Shell,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let mut script = Vec::new();
    let mut command = arguments::Arguments::command();
    clap_complete::generate(arguments.shell, &mut command, "esker", &mut script);
    let mut output = Output::new();
    output.write(&script)?;
    output.finish()?;
    Ok(Exit::Ok)
}
