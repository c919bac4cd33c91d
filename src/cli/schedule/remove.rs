//! `schedule remove`: takes back what `schedule install` wrote.

use clap::Args;
use serde_json::json;

use super::super::context::Context;
use super::super::streams::Output;
use super::files::{self, Installed, Place, installed};
use super::systemctl::Commands;
use super::{Exit, Outcome, usage};

/// Remove units or files of cron that were installed
#[derive(Args)]
pub struct Arguments {
    /// Profiles; all that were installed if none is named
    #[arg(value_name = "PROFILE")]
    profiles: Vec<String>,

    #[command(flatten)]
    place: Place,
}

pub fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let place = &arguments.place;
    let directory = place.directory(context)?;
    let mut found = installed(&directory)?;
    let absent = |name: &&String| !found.iter().any(|file| file.profile == **name);
    if let Some(name) = arguments.profiles.iter().find(absent) {
        let directory = directory.display();
        return Err(
            usage(format!("nothing of profile {name:?} is installed in {directory}")).into()
        );
    }
    found
        .retain(|file| arguments.profiles.is_empty() || arguments.profiles.contains(&file.profile));
    let timers: Vec<String> =
        found.iter().filter(|file| file.is_timer()).map(Installed::name).collect();
    let mut disable = vec!["disable", "--now"];
    disable.extend(timers.iter().map(String::as_str));
    if !timers.is_empty() {
        Commands::new(place, &[&disable]).run_or_tell(context)?;
    }
    let mut output = Output::new();
    for file in &found {
        files::remove(&file.path)?;
        let path = file.path.display().to_string();
        match context.json() {
            true => output.json("removed", json!({ "path": path }))?,
            false => context.say(&format!("removed {path}")),
        }
    }
    output.finish()?;
    match found.is_empty() {
        true => context.say(&format!("esker has installed nothing in {}", directory.display())),
        false => Commands::new(place, &[&["daemon-reload"]]).run_or_tell(context)?,
    }
    Ok(Exit::Ok)
}
