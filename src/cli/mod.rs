//! The command line: one file a command, each of them arguments, one call and
//! its output. Only here is anything printed or the environment read.
//!
//! | file | |
//! |---|---|
//! | `arguments` | what was typed |
//! | `environment`, `context` | what it means: repository, key, cache, places |
//! | `named`, `location`, `secrets` | from a name to a store, from a source to a key |
//! | `everywhere` | every repository of the configuration at once |
//! | `other` | a second repository, and what opens it |
//! | `streams`, `progress`, `terminal` | standard output and error; progress as it is shown; asking |
//! | `values` | sizes, times and the like, as people type them |
//! | `snapshot_name` | snapshots and places inside, as people type them |
//! | `sources` | which sources of a snapshot are meant |
//! | `wayback` | what `restore` feeds to commands, or prints |
//! | `status_words` | what became of a snapshot or run, in words |
//! | `notices` | who is told |
//! | `exit`, `signals` | exit codes; Ctrl-C |
//!
//! Every other file is the command of its name.

mod arguments;
mod context;
mod environment;
mod everywhere;
mod exit;
mod location;
mod named;
mod notices;
mod other;
mod progress;
mod secrets;
mod signals;
mod streams;
mod terminal;
mod values;

mod backup;
mod cat;
mod check;
mod completions;
mod config;
mod copy;
mod diff;
mod drill;
mod dump;
mod find;
mod forget;
mod history;
mod init;
mod key;
mod ls;
mod man;
mod prune;
mod recover;
mod repair;
mod restore;
mod run;
mod schedule;
mod scrub;
mod snapshot_name;
mod snapshots;
mod sources;
mod stats;
mod status;
mod status_words;
mod store;
mod tag;
mod undo;
mod wayback;

use std::process::ExitCode;

use clap::Parser;
use serde_json::json;

use self::arguments::{Arguments, Command};
use self::context::Context;
use self::environment::Environment;
use self::exit::Exit;
use self::streams::{Output, Stop, talk};
use crate::repository::Error;

/// How a command ends when it ends at all.
type Outcome = Result<Exit, Stop>;

/// Runs what the command line says.
pub fn main() -> ExitCode {
    match Arguments::try_parse() {
        Ok(arguments) => run(arguments).code().into(),
        Err(error) => {
            let _ = error.print();
            if error.use_stderr() { Exit::Usage } else { Exit::Ok }.code().into()
        }
    }
}

fn run(arguments: Arguments) -> Exit {
    let context = Context::new(arguments.global, Environment::read());
    match dispatch(&context, arguments.command) {
        Ok(exit) => exit,
        Err(Stop::ClosedPipe) => Exit::Ok,
        Err(Stop::Error(error)) => report(&error, Exit::of(error.kind), context.json()),
    }
}

/// One command.
fn dispatch(context: &Context, command: Command) -> Outcome {
    match command {
        Command::Init(arguments) => init::run(context, &arguments),
        Command::Backup(arguments) => backup::run(context, *arguments),
        Command::Snapshots(arguments) => snapshots::run(context, &arguments),
        Command::Status(arguments) => status::run(context, &arguments),
        Command::History(arguments) => history::run(context, &arguments),
        Command::Tag(arguments) => tag::run(context, &arguments),
        Command::Ls(arguments) => ls::run(context, &arguments),
        Command::Restore(arguments) => restore::run(context, &arguments),
        Command::Dump(arguments) => dump::run(context, &arguments),
        Command::Find(arguments) => find::run(context, &arguments),
        Command::Diff(arguments) => diff::run(context, &arguments),
        Command::Stats(arguments) => stats::run(context, &arguments),
        Command::Forget(arguments) => forget::run(context, &arguments),
        Command::Copy(arguments) => copy::run(context, &arguments),
        Command::Check(arguments) => check::run(context, &arguments),
        Command::Drill(arguments) => drill::run(context, &arguments),
        Command::Repair(arguments) => repair::run(context, &arguments),
        Command::Scrub(arguments) => scrub::run(context, &arguments),
        Command::Undo(arguments) => undo::run(context, &arguments),
        Command::Prune(arguments) => prune::run(context, &arguments),
        Command::Key(arguments) => key::run(context, &arguments),
        Command::Cat(arguments) => cat::run(context, &arguments),
        Command::Config(arguments) => config::run(context, &arguments),
        Command::Recover(arguments) => recover::run(context, &arguments),
        Command::Run(arguments) => run::run(context, &arguments),
        Command::Schedule(arguments) => schedule::run(context, &arguments),
        Command::Store(arguments) => store::run(context, &arguments),
        Command::Completions(arguments) => completions::run(&arguments),
        Command::Man(arguments) => man::run(&arguments),
    }
}

/// One line on standard error; with `--json` an object on standard output too.
fn report(error: &Error, exit: Exit, as_json: bool) -> Exit {
    talk(&format!("esker: {}", error.message.replace('\n', " ")));
    if as_json {
        let mut out = Output::new();
        let kind = format!("{:?}", error.kind);
        let members =
            json!({ "kind": snake(&kind), "message": error.message, "exit_code": exit.code() });
        let _ = out.json("error", members).and_then(|()| out.finish());
    }
    exit
}

/// `NoRepository` → `no_repository`
fn snake(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(c.to_ascii_lowercase());
    }
    text
}
