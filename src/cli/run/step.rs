//! The program's own commands as steps of a run.

use clap::Parser;

use crate::cli::arguments::{Arguments, Global};
use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::streams::Stop;
use crate::cli::{dispatch, report};
use crate::repository::{Error, ErrorKind};

/// What became of a step: the sentence of the error, if there was one.
pub struct Ended {
    pub exit: Exit,
    pub error: Option<Error>,
}

/// Does what `esker -r REPOSITORY WORDS` would, with the same options.
pub fn run(context: &Context, repository: &str, words: &[String]) -> Ended {
    let typed = std::iter::once("esker").chain(words.iter().map(String::as_str));
    let parsed = match Arguments::try_parse_from(typed) {
        Ok(parsed) => parsed,
        Err(error) => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
            let message = format!("`esker {}`: {line}", words.join(" "));
            return failed(context, Error::new(ErrorKind::Usage, message));
        }
    };
    let global = Global { repository: Some(repository.into()), ..context.global.clone() };
    let inner = match context.for_step(global) {
        Ok(inner) => inner,
        Err(error) => return failed(context, error),
    };
    match dispatch(&inner, parsed.command) {
        Ok(exit) => Ended { exit, error: None },
        Err(Stop::ClosedPipe) => Ended { exit: Exit::Ok, error: None },
        Err(Stop::Error(error)) => failed(context, error),
    }
}

fn failed(context: &Context, error: Error) -> Ended {
    let exit = report(&error, Exit::of(error.kind), context.json());
    Ended { exit, error: Some(error) }
}
