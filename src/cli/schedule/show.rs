//! `schedule show`: when profiles run next, and what would be installed.

use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::super::context::Context;
use super::super::streams::Output;
use super::files::Place;
use super::{Exit, Outcome, install, jobs};
use crate::output::duration;
use crate::schedule::Job;

/// Show when profiles run next, and the units that install would write
#[derive(Args)]
pub struct Arguments {
    /// Profiles; all that have a schedule if none is named
    #[arg(value_name = "PROFILE")]
    profiles: Vec<String>,

    #[command(flatten)]
    place: Place,

    /// How many runs of each
    #[arg(long, value_name = "N", default_value_t = 5)]
    runs: usize,
}

pub fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let jobs = jobs(context, &arguments.profiles)?;
    let units = install::units(context, &arguments.place, &jobs)?;
    let mut output = Output::new();
    for job in &jobs {
        let times = next_times(job, arguments.runs);
        if context.json() {
            let times: Vec<String> = times.iter().map(|time| time.to_string()).collect();
            let expressions: Vec<&str> = job.expressions.iter().map(|one| one.text()).collect();
            let jitter = job.jitter.as_secs();
            output.json(
                "schedule",
                json!({
                    "profile": job.profile, "expressions": expressions, "next": times,
                    "jitter_seconds": jitter, "catch_up": job.catch_up,
                }),
            )?;
            continue;
        }
        let later = match u64::try_from(job.jitter.as_millis()) {
            Ok(ms) if ms > 0 => format!(", each time up to {} later", duration(ms)),
            _ => String::new(),
        };
        output.line(&format!("profile {} runs next{later}:", job.profile))?;
        if times.is_empty() {
            output.line("  never")?;
        }
        for time in times {
            let local = time.to_zoned(job.zone.clone());
            output.line(&format!("  {}", local.strftime("%a %Y-%m-%d %H:%M:%S %Z")))?;
        }
    }
    for unit in units {
        match context.json() {
            true => output.json("unit", json!({ "name": unit.name, "text": unit.text }))?,
            false => output.line(&format!("\n{}:\n{}", unit.name, unit.text.trim_end()))?,
        }
    }
    output.finish()?;
    Ok(Exit::Ok)
}

fn next_times(job: &Job, count: usize) -> Vec<Timestamp> {
    let next = |after: Timestamp| job.expressions.iter().filter_map(|one| one.next(after)).min();
    std::iter::successors(next(Timestamp::now()), |time| next(*time)).take(count).collect()
}
