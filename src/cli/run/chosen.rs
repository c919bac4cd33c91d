//! Which profiles are meant, or due.

use std::path::PathBuf;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Arguments;
use crate::cli::context::Context;
use crate::config::Profile;
use crate::config::profile::ProfileKind;
use crate::repository::local::CacheRoot;
use crate::repository::{Error, ErrorKind, Result};
use crate::schedule::notes::Notes;
use crate::schedule::{Job, due, machine};

/// Those that were named; with `--due`, those of them, or of all, that are due.
pub fn profiles(context: &Context, arguments: &Arguments) -> Result<Vec<Profile>> {
    let named = arguments.profiles.iter().map(|name| context.profile(name));
    let named: Vec<Profile> = named.collect::<Result<_>>()?;
    if !arguments.due {
        return Ok(named);
    }
    let all = if named.is_empty() { context.profiles()? } else { named };
    let notes = notes(context)?;
    let now = Timestamp::now();
    let mut wanted = Vec::new();
    for profile in all {
        let job = job(&profile)?;
        if profile.kind() == ProfileKind::Template || job.expressions.is_empty() {
            continue;
        }
        let last = notes.last_or_first_seen(&job.profile, now)?;
        if due::outlook(&job, &machine(), Some(last), now).due.is_some() {
            wanted.push(profile);
        }
    }
    Ok(wanted)
}

pub fn job(profile: &Profile) -> Result<Job> {
    Job::of(&profile.name, &profile.settings, &TimeZone::system())
}

/// Where this machine notes when runs began.
pub fn notes(context: &Context) -> Result<Notes> {
    Ok(Notes::new(&directory(context)?, &configuration(context)))
}

/// Where runs remember what they did: the cache directory.
pub fn directory(context: &Context) -> Result<PathBuf> {
    match context.cache() {
        CacheRoot::Directory(directory) => Ok(directory),
        CacheRoot::None => Err(Error::new(
            ErrorKind::Usage,
            "a run notes what it did: set ESKER_CACHE_DIR to a directory that can be written",
        )),
    }
}

pub fn configuration(context: &Context) -> PathBuf {
    context.config_place().unwrap_or_default()
}
