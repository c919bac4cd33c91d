//! `schedule run`: a scheduler in the foreground, for containers.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process};

use super::super::context::Context;
use super::super::signals;
use super::{Exit, Outcome, configuration, jobs, program, usage};
use crate::repository::local::CacheRoot;
use crate::repository::{Error, Result};
use crate::schedule::lock::{self, Lock};
use crate::schedule::notes::Notes;
use crate::schedule::runner::Runner;
use crate::schedule::units::Program;
use crate::schedule::units::systemd::SCHEDULER_VARIABLE;
use crate::schedule::{Job, machine};

/// How often a signal and the end of a run are looked for.
const TICK: Duration = Duration::from_millis(500);

/// Run profiles when they are due, until a signal ends it
///
/// Each run is a process of its own. A signal is passed on to what runs, and this command ends when
/// that has.
#[derive(Args)]
pub struct Arguments {
    /// Profiles; all that have a schedule if none is named
    #[arg(value_name = "PROFILE")]
    profiles: Vec<String>,
}

pub fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let jobs = jobs(context, &arguments.profiles)?;
    let CacheRoot::Directory(cache) = context.cache() else {
        let message = "a scheduler notes when runs began: set ESKER_CACHE_DIR to a directory";
        return Err(usage(message.to_owned()).into());
    };
    let configuration = configuration(context)?;
    let locks = lock::directory(context.environment.root, &cache);
    let _lock = Lock::scheduler(&locks, &configuration)?;
    let notes = Notes::new(&cache, &configuration);
    let stop = signals::listen();
    for job in &jobs {
        // without a note what is missed is not made up for, and all else runs
        if let Err(error) = notes.last_or_first_seen(&job.profile, Timestamp::now()) {
            context.warn(&error.message);
        }
        context.say(&format!("profile {} is scheduled", job.profile));
    }
    let program = program(context)?;
    let start = |job: &Job| {
        context.say(&format!("profile {}: a run begins", job.profile));
        match start(context, &program, job, &stop) {
            Ok(status) => context.say(&format!("profile {}: the run ended: {status}", job.profile)),
            Err(error) => context.warn(&error.message),
        }
    };
    let runner = Runner {
        jobs: &jobs,
        machine: &machine(),
        now: &Timestamp::now,
        last: &|job| notes.last(&job.profile),
        start: &start,
        stop: &stop,
        tick: TICK,
    };
    runner.run();
    Ok(Exit::Ok)
}

/// `esker run PROFILE --scheduled` to its end. It notes that it began by itself.
fn start(context: &Context, program: &Program, job: &Job, stop: &AtomicBool) -> Result<ExitStatus> {
    let failed = |error: &dyn std::fmt::Display| {
        Error::failed(format!("profile {}: the run cannot be started: {error}", job.profile))
    };
    let mut command = Command::new(&program.path);
    command.args(["run", &job.profile, "--scheduled"]).stdin(Stdio::null());
    command.env(SCHEDULER_VARIABLE, "esker");
    if let Some(configuration) = &program.configuration {
        command.arg("--config").arg(configuration);
    }
    if let Some(cache) = &context.global.cache_dir {
        command.arg("--cache-dir").arg(cache);
    }
    let mut child = command.spawn().map_err(|error| failed(&error))?;
    wait(&mut child, stop).map_err(|error| failed(&error))
}

/// Passes the wish to stop on, once.
fn wait(child: &mut Child, stop: &AtomicBool) -> std::io::Result<ExitStatus> {
    let mut told = false;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if stop.load(Ordering::Relaxed) && !told {
            told = true;
            let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            if let Some(pid) = pid {
                // one that has just ended needs no signal
                let _ = kill_process(pid, Signal::TERM);
            }
        }
        std::thread::sleep(TICK);
    }
}
