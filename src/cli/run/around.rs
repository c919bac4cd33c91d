//! What surrounds the run of a profile: the lock, its conditions, notices.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::work::{Report, Work};
use super::{Arguments, chosen};
use crate::cli::backup::host_of;
use crate::cli::context::Context;
use crate::cli::environment::variable;
use crate::cli::exit::Exit;
use crate::cli::notices;
use crate::cli::signals;
use crate::config::Profile;
use crate::format::manifest::Outcome;
use crate::notify::{Counts, Event, Figures, Moment, State};
use crate::repository::{Result, now_ms};
use crate::run::steps::Done;
use crate::schedule::conditions::{Places, unmet};
use crate::schedule::gentle::{stay_awake, yield_to_others};
use crate::schedule::lock::{self, Lock};
use crate::schedule::units::systemd::SCHEDULER_VARIABLE;
use crate::schedule::{due, machine};

/// How often a signal is looked for while a run waits for its time.
const TICK: Duration = Duration::from_millis(200);

/// Runs a profile, and tells whoever is to be told.
pub fn run(context: &Context, profile: &Profile, arguments: &Arguments) -> Result<Exit> {
    let directory = chosen::directory(context)?;
    let job = chosen::job(profile)?;
    let locks = lock::directory(context.environment.root, &directory);
    let by_schedule = arguments.scheduled || arguments.due;
    if by_schedule {
        let unmet = unmet(&job.conditions, &Places::default());
        if let Some(first) = unmet.first() {
            context.say(&format!("profile {} does not run: {first}", profile.name));
            return Ok(Exit::TryLater);
        }
    }
    let notes = chosen::notes(context)?;
    if arguments.scheduled && variable(SCHEDULER_VARIABLE).is_none() {
        // cron and Kubernetes start at the time itself
        wait(due::delay(&job, &machine(), notes.last(&profile.name), Timestamp::now()));
    }
    let now = Timestamp::now();
    let _lock = match by_schedule {
        true => match notes.begin(&job, &locks, now, &mut |said| context.warn(&said))? {
            Some(lock) => lock,
            None => {
                context.say(&format!("profile {} was run by another scheduler", profile.name));
                return Ok(Exit::Ok);
            }
        },
        false => {
            let lock = Lock::take(&locks, &chosen::configuration(context), &profile.name)?;
            if !arguments.dry_run
                && let Err(error) = notes.began(&profile.name, now)
            {
                context.warn(&error.message);
            }
            lock
        }
    };
    let _awake = by_schedule.then(|| stay_awake(&format!("backup of {}", profile.name)));
    if by_schedule
        && job.nice
        && let Err(error) = yield_to_others()
    {
        context.warn(&error.message);
    }
    let started = now_ms();
    let begins = event(profile, Moment::Start, started, &Report::default());
    tell(context, profile, &begins, arguments)?;
    let done = Done::read(&directory, &profile.name);
    let report = Work::new(context, profile, arguments, done).run();
    tell(context, profile, &event(profile, Moment::End, started, &report), arguments)?;
    Ok(report.exit())
}

/// Until the time is over, or a signal comes.
fn wait(delay: Duration) {
    let stop = signals::listen();
    let until = Instant::now() + delay;
    while Instant::now() < until && !stop.load(Ordering::Relaxed) {
        std::thread::sleep(TICK.min(until.saturating_duration_since(Instant::now())));
    }
}

fn event(profile: &Profile, moment: Moment, started: u64, report: &Report) -> Event {
    let now = now_ms();
    let host = host_of(profile);
    let state = match (report.exit(), report.suspicions.is_empty()) {
        (Exit::Ok, true) => State::Good,
        (Exit::Ok, false) => State::Suspicious,
        (Exit::Partial, _) if report.outcome == Some(Outcome::Partial) => State::Partial,
        _ => State::Failed,
    };
    let counts = report.counts.as_ref().map(|counts| Counts {
        files: counts.files,
        bytes: counts.bytes,
        files_new: counts.files_new,
        files_changed: counts.files_changed,
        bytes_added: counts.bytes_added,
        bytes_stored: counts.bytes_stored,
    });
    let figures = profile.repositories().iter().map(|repository| Figures {
        repository: repository.clone(),
        last_success_ms: report.arrived.get(repository).copied(),
        last_run_ms: (moment == Moment::End).then_some(now),
        exit_code: (moment == Moment::End).then(|| u64::from(report.exit().code())),
        duration_ms: (moment == Moment::End).then(|| now.saturating_sub(started)),
        overdue: None,
        counts: counts.clone(),
    });
    Event {
        moment,
        host,
        profile: profile.name.clone(),
        state,
        failed: report.failed.clone(),
        last_good: report.last_good.clone(),
        sentence: report
            .sentences
            .first()
            .or(report.suspicions.first())
            .cloned()
            .unwrap_or_default(),
        command: match report.exit() {
            Exit::Ok if report.suspicions.is_empty() => String::new(),
            Exit::Damage => "esker check --read-data".to_owned(),
            Exit::Usage => "esker config check".to_owned(),
            _ => format!("esker run {}", profile.name),
        },
        exit_code: u64::from(report.exit().code()),
        started_ms: started,
        ended_ms: now,
        figures: figures.collect(),
        zone: TimeZone::system(),
    }
}

/// Nobody who cannot be told makes a run fail.
fn tell(context: &Context, profile: &Profile, event: &Event, arguments: &Arguments) -> Result<()> {
    if arguments.dry_run {
        return Ok(());
    }
    notices::send(context, &chosen::directory(context)?, profile, event)
}
