//! Sources that are no paths: what commands print, tar streams, and programs that esker knows how to ask for their data.
//! Each gives a [`StreamSource`] that the backup captures. What such a source believes of a command is what it can prove:
//! exit status 0 is not enough where the end of a stream is known.
//!
//! Not here: who starts a run and who puts things back. [`preset::RestoreStep`] only says what is to be done.

pub mod capture;
pub mod command;
pub mod end;
pub mod preset;
pub mod process;
pub mod tar;
mod temporary;
pub mod through;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::backup::{StreamSource, wrong_name};
use crate::config::profile::Source as Settings;
use crate::config::value::{Period, Secret};
use crate::repository::{Error, ErrorKind, Result};
use command::CommandSource;
use preset::PresetSource;
use process::{Limits, Log, Program};
use tar::TarSource;

/// Variables and their values; a value may be a secret.
pub type Environment = Vec<(String, Zeroizing<String>)>;

/// What sources need of the machine and of whoever starts them.
pub struct Surroundings<'a> {
    /// Where programs are looked for: the value of PATH.
    pub path: OsString,
    /// A directory for temporary files.
    pub temporary: PathBuf,
    /// Says what a secret is.
    pub reveal: &'a dyn Fn(&Secret) -> Result<Zeroizing<String>>,
    /// The number that a native backup of NDB is to have; also the number of a set.
    pub id: Option<u32>,
}

/// What a source tells beside its entries. The number is there as soon as there is a stream, the log is complete once its
/// capture has ended.
#[derive(Clone, Default)]
pub struct Told {
    /// The end of what its commands wrote to standard error.
    pub log: Log,
    id: Arc<Mutex<Option<u32>>>,
}

impl Told {
    /// The number of the native backup that is saved, for NDB; `None` if there is none to be saved.
    pub fn id(&self) -> Option<u32> {
        *self.id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_id(&self, id: u32) {
        *self.id.lock().unwrap_or_else(PoisonError::into_inner) = Some(id);
    }
}

/// A source that is no path.
pub enum Source {
    Command(CommandSource),
    Tar(TarSource),
    Preset(Box<PresetSource>),
}

impl Source {
    /// The source that a profile describes; `None` if it is one of paths. Secrets are revealed here.
    pub fn new(settings: &Settings, surroundings: &Surroundings<'_>) -> Result<Option<Source>> {
        let given = [
            settings.paths.is_some(),
            settings.command.is_some(),
            settings.tar.is_some(),
            settings.preset.is_some(),
        ];
        if given.iter().filter(|is_there| **is_there).count() != 1 {
            return Err(usage("a source has exactly one of paths, command, tar and preset"));
        }
        if let Some(preset) = &settings.preset {
            return PresetSource::new(settings, preset, surroundings)
                .map(|s| Some(Source::Preset(Box::new(s))));
        }
        let Some(words) = settings.command.as_ref().or(settings.tar.as_ref()) else {
            return Ok(None);
        };
        let name = match &settings.name {
            Some(name) => checked_name(name)?,
            None => return Err(usage("a source that is a command needs a name")),
        };
        let program = Program {
            words: words.words(),
            environment: environment(&settings.environment, surroundings)?,
            ..Program::default()
        };
        let limits = limits(settings);
        let required = settings.required.unwrap_or(true);
        let path = surroundings.path.clone();
        Ok(Some(match settings.command {
            Some(_) => Source::Command(CommandSource {
                name,
                required,
                program,
                limits,
                ends_with: settings.ends_with.clone(),
                path,
            }),
            None if settings.ends_with.is_some() => {
                return Err(usage("the end of a tar stream is known: leave ends_with away"));
            }
            None => Source::Tar(TarSource { name, required, program, limits, path }),
        }))
    }

    pub fn name(&self) -> &str {
        match self {
            Source::Command(source) => &source.name,
            Source::Tar(source) => &source.name,
            Source::Preset(source) => &source.name,
        }
    }

    /// Whether all programs that it needs are there. Starts nothing that could change anything.
    pub fn check(&self) -> Result<()> {
        match self {
            Source::Command(source) => source.check(),
            Source::Tar(source) => source.check(),
            Source::Preset(source) => source.check(),
        }
    }

    /// What the backup captures, and what is told of it afterwards.
    pub fn stream(self) -> (StreamSource, Told) {
        let told = Told::default();
        let stream = match self {
            Source::Command(source) => source.stream(told.log.clone()),
            Source::Tar(source) => source.stream(told.log.clone()),
            Source::Preset(source) => source.stream(told.clone()),
        };
        (stream, told)
    }
}

pub fn limits(settings: &Settings) -> Limits {
    let duration = |period: Period| Duration::from_millis(period.ms);
    let idle = settings.idle_timeout.map_or(Limits::default().idle, duration);
    Limits { total: settings.timeout.map(duration), idle }
}

fn checked_name(name: &str) -> Result<String> {
    match wrong_name(name) {
        Some(reason) => Err(usage(format!("a source cannot be called {name:?}: {reason}"))),
        None => Ok(name.to_owned()),
    }
}

fn environment(
    settings: &BTreeMap<String, Secret>,
    surroundings: &Surroundings<'_>,
) -> Result<Environment> {
    let reveal = |(name, secret): (&String, &Secret)| {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(usage(format!("{name:?} is no name of a variable")));
        }
        Ok((name.clone(), (surroundings.reveal)(secret)?))
    };
    settings.iter().map(reveal).collect()
}

pub(crate) fn usage(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, message)
}
