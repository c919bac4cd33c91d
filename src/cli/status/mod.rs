//! `status`: whether every host and profile keeps what was promised of it. It
//! answers 0, or 21 if not or if nobody can tell.
//!
//! | file | |
//! |---|---|
//! | `rows` | asks repositories; what each has of every host and profile, and what is amiss |
//! | `print` | tables, sentences, JSON |
//! | `told` | notices of what was found |

mod print;
mod rows;
mod told;

use std::path::PathBuf;

use clap::Args;

use self::rows::{Asked, Row};
use super::context::Context;
use super::exit::when;
use super::streams::{Output, Stop};
use super::{Exit, Outcome};
use crate::repository::local::CacheRoot;
use crate::repository::{Error, ErrorKind};

/// Tell whether every host and profile has the backups that it was promised
///
/// Of all repositories and profiles of the configuration, if it has profiles and no repository is
/// named; else of one repository. Exit code 21: something is overdue or suspicious, cannot be
/// judged, or a repository cannot be asked.
#[derive(Args)]
pub struct Arguments {
    /// Only this host
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,

    /// Only this profile
    #[arg(long, value_name = "NAME")]
    profile: Vec<String>,

    /// Tell whom the profiles of the configuration name, as a run does
    #[arg(long)]
    notify: bool,
}

impl Arguments {
    fn wants(&self, row: &Row<'_>) -> bool {
        let any = |wanted: &[String], is: &[&str]| {
            wanted.is_empty() || wanted.iter().any(|wanted| is.contains(&wanted.as_str()))
        };
        let expected = &row.expected;
        any(&self.host, &[&expected.host])
            && any(&self.profile, &[&expected.profile, &expected.name])
    }

    fn names_any(&self) -> bool {
        !self.host.is_empty() || !self.profile.is_empty()
    }
}

pub fn run(context: &Context, arguments: &Arguments) -> Outcome {
    match tell(context, arguments) {
        // whatever keeps this command from an answer, the answer is not that all is well
        Err(Stop::Error(error))
            if error.kind != ErrorKind::Usage || !is_typed(context, arguments) =>
        {
            Ok(super::report(&error, Exit::Stale, context.json()))
        }
        other => other,
    }
}

/// Whether what makes no sense was typed, and does not stand in the configuration.
fn is_typed(context: &Context, arguments: &Arguments) -> bool {
    let is_sound = context.configuration().is_ok();
    is_sound && (arguments.notify || context.has_named_repository())
}

fn tell(context: &Context, arguments: &Arguments) -> Outcome {
    let is_named = context.has_named_repository();
    let configuration = context.configuration()?;
    let has_profiles = !configuration.profiles().is_empty();
    let has_several = has_profiles || !configuration.file.repositories.is_empty();
    let is_whole = !is_named && has_several;
    if arguments.notify && !(is_whole && has_profiles) {
        return Err(Stop::Error(no_profiles(is_named)));
    }
    let asked = match is_whole {
        true => rows::ask_all(context)?,
        false => vec![rows::ask_one(context)?],
    };
    let mut rows = rows::rows(context, &asked)?;
    rows.retain(|row| arguments.wants(row));
    let mut output = Output::new();
    match is_whole {
        true => print::whole(context, &asked, &rows, &mut output)?,
        false => print::one(context, &asked[0], &rows, &mut output)?,
    }
    output.finish()?;
    let troubles = warn(context, &asked);
    if rows.is_empty() {
        context.say(match arguments.names_any() {
            true => "there is no snapshot of what was named",
            false => "there is no snapshot yet",
        });
    }
    if arguments.notify {
        told::send(context, &rows)?;
    }
    let is_amiss = rows.iter().any(|row| !row.remarks.is_empty());
    Ok(when(is_amiss || troubles || (rows.is_empty() && arguments.names_any()), Exit::Stale))
}

fn no_profiles(is_named: bool) -> Error {
    let message = match is_named {
        true => "--notify tells of all profiles of the configuration: name no repository",
        false => "--notify tells of the profiles of the configuration, and there is none",
    };
    Error::new(ErrorKind::Usage, message)
}

/// Tells what could not be believed, and whether anything could not.
fn warn(context: &Context, asked: &[Asked]) -> bool {
    let mut troubles = false;
    for asked in asked {
        let Ok(answer) = &asked.result else { continue };
        for trouble in &answer.seen.overview.troubles {
            context.warn(&trouble.message);
            troubles = true;
        }
        for trouble in &answer.doubts {
            context.warn(&trouble.message);
        }
    }
    troubles
}

/// Where runs and notices are remembered on this machine; nothing where nothing can be.
fn directory(context: &Context) -> Option<PathBuf> {
    match context.cache() {
        CacheRoot::Directory(directory) => Some(directory),
        CacheRoot::None => None,
    }
}
