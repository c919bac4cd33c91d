//! `schedule`: makes this machine, a cluster or this process itself run
//! profiles when they are due.

mod files;
mod install;
mod list;
mod remove;
mod run;
mod show;
mod systemctl;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use jiff::tz::TimeZone;

use super::context::Context;
use super::{Exit, Outcome};
use crate::config::profile::{File, ProfileKind, ProfileSettings};
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
    let jobs = all_jobs(&configuration(context)?)?;
    for name in names {
        match jobs.iter().find(|job| job.profile == *name) {
            None => return Err(usage(format!("the configuration has no profile {name:?}"))),
            Some(job) if job.expressions.is_empty() => {
                return Err(usage(format!("profile {name}: it has no schedule")));
            }
            Some(_) => {}
        }
    }
    let wanted = |job: &Job| names.is_empty() || names.contains(&job.profile);
    let jobs: Vec<Job> =
        jobs.into_iter().filter(|job| wanted(job) && !job.expressions.is_empty()).collect();
    match jobs.is_empty() {
        true => Err(usage("no profile of the configuration has a schedule".to_owned())),
        false => Ok(jobs),
    }
}

/// All profiles of a configuration file that can run.
fn all_jobs(configuration: &Path) -> Result<Vec<Job>> {
    let file = read(configuration)?;
    let local = TimeZone::system();
    let runs = |settings: &ProfileSettings| settings.kind != Some(ProfileKind::Template);
    let profiles = file.profiles.iter().filter(|(_, settings)| runs(settings));
    profiles.map(|(name, settings)| job(&file, name, settings, &local)).collect()
}

fn job(file: &File, name: &str, settings: &ProfileSettings, local: &TimeZone) -> Result<Job> {
    let mut job = Job::of(name, settings, local)?;
    let repositories = settings.repositories.iter().flatten();
    for repository in repositories.filter_map(|name| file.repositories.get(name)) {
        job.credentials.extend(credentials::of_repository(repository));
    }
    job.credentials.extend(file.notify.iter().flat_map(credentials::of_notices));
    job.credentials.sort();
    job.credentials.dedup();
    Ok(job)
}

fn read(path: &Path) -> Result<File> {
    let wrong = |reason: &dyn std::fmt::Display| {
        usage(format!("configuration {}: {reason}", path.display()))
    };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
    toml::from_str(&text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or("");
        let line = before.matches('\n').count() + 1;
        wrong(&format!("line {line}: {}", error.message().replace('\n', " ")))
    })
}

/// Where the configuration file is, from the root on.
fn configuration(context: &Context) -> Result<PathBuf> {
    let file = context.config_file();
    let file =
        file.ok_or_else(|| usage("no place for a configuration: set ESKER_CONFIG".to_owned()))?;
    std::path::absolute(&file).map_err(|error| usage(format!("{}: {error}", file.display())))
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
