//! `schedule`: makes this machine, a cluster or this process itself run
//! profiles when they are due.

mod files;
mod install;
mod list;
mod remove;
mod run;
mod show;
mod systemctl;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use jiff::tz::TimeZone;

use super::context::Context;
use super::{Exit, Outcome};
use crate::config::{Configuration, Profile};
use crate::repository::{Error, ErrorKind, Result};
use crate::schedule::units::Program;
use crate::schedule::{Job, credentials};

/// Run profiles when their schedules say so
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Install(install::Arguments),
    List(list::Arguments),
    Remove(remove::Arguments),
    Show(show::Arguments),
    Run(run::Arguments),
}

pub fn run(context: &Context, arguments: &Arguments) -> Outcome {
    match &arguments.command {
        Command::Install(arguments) => install::run(context, arguments),
        Command::List(arguments) => list::run(context, arguments),
        Command::Remove(arguments) => remove::run(context, arguments),
        Command::Show(arguments) => show::run(context, arguments),
        Command::Run(arguments) => run::run(context, arguments),
    }
}

/// The profiles that are named; all that have a schedule if none are.
fn jobs(context: &Context, names: &[String]) -> Result<Vec<Job>> {
    let configuration = context.configuration()?;
    let named = names.iter().map(|name| context.profile(name));
    let profiles = match names.is_empty() {
        true => context.profiles()?,
        false => named.collect::<Result<_>>()?,
    };
    let local = TimeZone::system();
    let mut jobs = Vec::new();
    for profile in &profiles {
        let job = job(configuration, profile, &local)?;
        match job.expressions.is_empty() {
            true if names.is_empty() => {}
            true => return Err(usage(format!("profile {}: it has no schedule", job.profile))),
            false => jobs.push(job),
        }
    }
    match jobs.is_empty() {
        true => Err(usage("no profile of the configuration has a schedule".to_owned())),
        false => Ok(jobs),
    }
}

/// With the credentials of what the profile uses of the rest of the configuration.
fn job(configuration: &Configuration, profile: &Profile, local: &TimeZone) -> Result<Job> {
    let mut job = Job::of(&profile.name, &profile.settings, local)?;
    let file = &configuration.file;
    let names = profile.repositories().iter().chain(profile.copies().iter().map(|copy| &copy.to));
    for repository in names.filter_map(|name| file.repositories.get(name)) {
        job.credentials.extend(credentials::of_repository(repository));
    }
    job.credentials.extend(file.notify.iter().flat_map(credentials::of_notices));
    job.credentials.sort();
    job.credentials.dedup();
    Ok(job)
}

/// Where the configuration is, from the root on.
fn configuration(context: &Context) -> Result<PathBuf> {
    let place = context.config_place();
    let place =
        place.ok_or_else(|| usage("no place for a configuration: set ESKER_CONFIG".to_owned()))?;
    std::path::absolute(&place).map_err(|error| usage(format!("{}: {error}", place.display())))
}

/// What schedulers start: this program, with this configuration.
fn program(context: &Context) -> Result<Program> {
    let path = std::env::current_exe();
    let path = path.map_err(|error| Error::failed(format!("where esker lies: {error}")))?;
    Ok(Program { path, configuration: Some(configuration(context)?) })
}

fn usage(message: String) -> Error {
    Error::new(ErrorKind::Usage, message)
}
