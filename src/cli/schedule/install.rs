//! `schedule install`: writes what starts profiles' runs.

use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;

use super::super::context::Context;
use super::super::streams::Output;
use super::files::{self, Place};
use super::systemctl::Commands;
use super::{Exit, Outcome, jobs, program};
use crate::repository::Result;
use crate::schedule::Job;
use crate::schedule::units::{Unit, cron, kubernetes, systemd};

/// Write timers of systemd, or lines of cron, that run profiles when they are due
///
/// Where systemd runs, the timers are started. Lines of a user's crontab and CronJobs of Kubernetes
/// are printed.
#[derive(Args)]
pub struct Arguments {
    /// Profiles; all that have a schedule if none is named
    #[arg(value_name = "PROFILE")]
    profiles: Vec<String>,

    #[command(flatten)]
    place: Place,

    /// Print CronJobs of Kubernetes that run this image
    #[arg(long, value_name = "IMAGE", conflicts_with_all = ["user", "cron", "directory"])]
    kubernetes: Option<String>,
}

pub fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let jobs = jobs(context, &arguments.profiles)?;
    if let Some(image) = &arguments.kubernetes {
        return print_cron_jobs(context, &jobs, image);
    }
    let place = &arguments.place;
    if place.cron {
        warn_of_missed_runs(context, &jobs);
    }
    if place.cron && place.user && place.directory.is_none() {
        return print_crontab(context, &jobs);
    }
    let units = units(context, place, &jobs)?;
    let directory = place.directory(context)?;
    files::write(&directory, &units)?;
    let mut output = Output::new();
    for unit in &units {
        let path = directory.join(&unit.name).display().to_string();
        match context.json() {
            true => output.json("written", json!({ "path": path }))?,
            false => context.say(&format!("wrote {path}")),
        }
    }
    output.finish()?;
    let mut enable = vec!["enable".to_owned(), "--now".to_owned()];
    enable.extend(jobs.iter().map(|job| format!("{}.timer", systemd::unit_name(&job.profile))));
    let enable: Vec<&str> = enable.iter().map(String::as_str).collect();
    Commands::new(place, &[&["daemon-reload"], &enable]).run_or_tell(context)?;
    Ok(Exit::Ok)
}

/// What is to be written for these jobs, so that one that cannot be leaves all unwritten.
pub fn units(context: &Context, place: &Place, jobs: &[Job]) -> Result<Vec<Unit>> {
    let program = program(context)?;
    let mut units = Vec::new();
    for job in jobs {
        match place.cron {
            true => units.push(cron::file(job, &program, &TimeZone::system())?),
            false => {
                units.extend(systemd::units(job, &program, place.manager(), Timestamp::now())?);
            }
        }
    }
    Ok(units)
}

fn print_cron_jobs(context: &Context, jobs: &[Job], image: &str) -> Outcome {
    let documents = jobs.iter().map(|job| kubernetes::cron_jobs(job, image, Timestamp::now()));
    let (texts, warnings): (Vec<_>, Vec<_>) =
        documents.collect::<Result<Vec<_>>>()?.into_iter().unzip();
    let mut output = Output::new();
    output.write(texts.join("---\n").as_bytes())?;
    output.finish()?;
    warnings.iter().flatten().for_each(|warning| context.warn(warning));
    Ok(Exit::Ok)
}

fn print_crontab(context: &Context, jobs: &[Job]) -> Outcome {
    let program = program(context)?;
    let lines = jobs.iter().map(|job| cron::lines(job, &program, &TimeZone::system()));
    let mut output = Output::new();
    for line in lines.collect::<Result<Vec<_>>>()?.concat() {
        output.line(&line)?;
    }
    output.finish()?;
    context.say("add these lines with \"crontab -e\"");
    Ok(Exit::Ok)
}

fn warn_of_missed_runs(context: &Context, jobs: &[Job]) {
    let names: Vec<&str> =
        jobs.iter().filter(|job| job.catch_up).map(|job| job.profile.as_str()).collect();
    if !names.is_empty() {
        let names = names.join(", ");
        context.warn(&format!(
            "cron makes up for no run that it missed ({names}): \"esker run --due\" every five minutes would"
        ));
    }
}
