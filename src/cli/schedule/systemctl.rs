//! `systemctl`: run where systemd runs, told to the user elsewhere.

use std::path::Path;
use std::process::{Command, Stdio};

use super::super::context::Context;
use super::files::Place;
use crate::repository::{Error, Result};

/// Commands that make systemd take note of what was written or removed.
pub struct Commands {
    commands: Vec<Vec<String>>,
    run: bool,
}

impl Commands {
    /// None for cron. They are only shown where units lie elsewhere than
    /// systemd looks, or where it does not run.
    pub fn new(place: &Place, commands: &[&[&str]]) -> Commands {
        let front: &[&str] = if place.user { &["systemctl", "--user"] } else { &["systemctl"] };
        let whole =
            |rest: &&[&str]| front.iter().chain(*rest).map(|word| word.to_string()).collect();
        // sd_booted(3)
        let booted = Path::new("/run/systemd/system").is_dir();
        Commands {
            commands: if place.cron { Vec::new() } else { commands.iter().map(whole).collect() },
            run: booted && place.directory.is_none(),
        }
    }

    pub fn run_or_tell(&self, context: &Context) -> Result<()> {
        if !self.run && !self.commands.is_empty() {
            context.say("now type:");
        }
        for command in &self.commands {
            match self.run {
                true => run(command)?,
                false => context.say(&format!("  {}", command.join(" "))),
            }
        }
        Ok(())
    }
}

fn run(command: &[String]) -> Result<()> {
    let line = command.join(" ");
    let [program, arguments @ ..] = command else { return Ok(()) };
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| Error::failed(format!("{line}: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().last().unwrap_or("it does not say why");
    Err(Error::failed(format!("{line} failed: {said}")))
}
