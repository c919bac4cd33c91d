//! Where units and files of cron lie, and those among them that are esker's.

use std::fs;
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use clap::Args;

use super::super::context::Context;
use super::usage;
use crate::repository::{Error, Result};
use crate::schedule::units::systemd::Manager;
use crate::schedule::units::{Unit, profile_of};

#[derive(Args)]
pub struct Place {
    /// For this user's own systemd or crontab, not the system's
    #[arg(long)]
    pub user: bool,

    /// For cron, not systemd
    #[arg(long)]
    pub cron: bool,

    /// Where units lie [default: /etc/systemd/system, ~/.config/systemd/user or /etc/cron.d]
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
}

impl Place {
    pub fn manager(&self) -> Manager {
        if self.user { Manager::User } else { Manager::System }
    }

    /// Absolute.
    pub fn directory(&self, context: &Context) -> Result<PathBuf> {
        let environment = &context.environment;
        let configuration = || {
            let home = environment.home.as_ref().map(|home| home.join(".config"));
            environment.xdg_config.clone().or(home)
        };
        let directory = match (&self.directory, self.user, self.cron) {
            (Some(directory), _, _) => Some(directory.clone()),
            (None, true, true) => {
                let message = "a user's crontab is no directory: see \"crontab -l\"";
                return Err(usage(message.to_owned()));
            }
            (None, false, true) => Some(PathBuf::from("/etc/cron.d")),
            (None, false, false) => Some(PathBuf::from("/etc/systemd/system")),
            (None, true, false) => configuration().map(|home| home.join("systemd/user")),
        };
        let directory = directory
            .ok_or_else(|| usage("no place for units: set HOME or say --directory".to_owned()))?;
        std::path::absolute(&directory).map_err(|error| failed(&directory, &error))
    }
}

/// A file that esker wrote.
pub struct Installed {
    pub profile: String,
    pub path: PathBuf,
}

impl Installed {
    pub fn is_timer(&self) -> bool {
        self.path.extension().is_some_and(|extension| extension == "timer")
    }

    pub fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }
}

/// All of a directory by name; none if it is not there.
pub fn installed(directory: &Path) -> Result<Vec<Installed>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(directory, &error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| failed(directory, &error))?.path();
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        // what is no text is not ours either
        let text = if name.starts_with(b"esker-") { fs::read_to_string(&path).ok() } else { None };
        let profile = text.as_deref().and_then(profile_of);
        found.extend(profile.map(|profile| Installed { profile, path: path.clone() }));
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

/// Writes all of them, or none if one would replace what is not esker's.
pub fn write(directory: &Path, units: &[Unit]) -> Result<()> {
    for unit in units {
        let path = directory.join(&unit.name);
        let there = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(&path, &error)),
        };
        if std::str::from_utf8(&there).ok().and_then(profile_of).is_none() {
            let path = path.display();
            let message = format!("{path}: it was not written by esker: move it away first");
            return Err(Error::failed(message));
        }
    }
    fs::create_dir_all(directory).map_err(|error| failed(directory, &error))?;
    units.iter().try_for_each(|unit| write_whole(&directory.join(&unit.name), &unit.text))
}

/// A file that everybody may read, whole or not at all.
fn write_whole(path: &Path, text: &str) -> Result<()> {
    // neither cron nor systemd looks at such a name
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}~", std::process::id()));
    let write = || {
        let mut options = fs::OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o644).open(&temporary)?;
        io::Write::write_all(&mut file, text.as_bytes())?;
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&temporary);
        failed(path, &error)
    })
}

pub fn remove(path: &Path) -> Result<()> {
    fs::remove_file(path).map_err(|error| failed(path, &error))
}

fn failed(path: &Path, error: &io::Error) -> Error {
    Error::failed(format!("{}: {error}", path.display()))
}
