//! When runs of profiles began on this machine: what `due` judges by. A profile
//! that never ran has the time at which it was first seen, so that a machine
//! that is never on at the right time still gets its run.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::Job;
use super::due::is_served;
use super::lock::Lock;
use crate::id::hex;
use crate::repository::local::write_private;
use crate::repository::{Error, Result};

/// Notes on the profiles of one configuration file.
#[derive(Clone, Debug)]
pub struct Notes {
    directory: PathBuf,
    configuration: PathBuf,
}

impl Notes {
    /// In `cache`, a cache directory that outlives the machine's next start.
    pub fn new(cache: &Path, configuration: &Path) -> Notes {
        let configuration = fs::canonicalize(configuration).unwrap_or(configuration.to_owned());
        Notes { directory: cache.join("schedule"), configuration }
    }

    /// When a run began last, or the profile was first seen; nothing if neither
    /// is known.
    pub fn last(&self, profile: &str) -> Option<Timestamp> {
        let text = fs::read_to_string(self.file(profile)).ok()?;
        text.trim().parse().ok()
    }

    /// The same. One that is seen for the first time is noted.
    pub fn last_or_first_seen(&self, profile: &str, now: Timestamp) -> Result<Timestamp> {
        match self.last(profile) {
            Some(time) => Ok(time),
            None => self.began(profile, now).map(|()| now),
        }
    }

    /// Notes that a run begins.
    pub fn began(&self, profile: &str, now: Timestamp) -> Result<()> {
        let directory = &self.directory;
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|error| cannot(directory, &error))?;
        write_private(&self.file(profile), format!("{now}\n").as_bytes())
    }

    /// Begins a scheduled run: nothing if another scheduler was faster and its
    /// run is over; `TryLater` while it lasts. Locks are in the directory `locks`.
    ///
    /// That it cannot be noted (a full disk, say) keeps nobody from a backup, and from hearing how it ended: it is a
    /// warning.
    pub fn begin(
        &self,
        job: &Job,
        locks: &Path,
        now: Timestamp,
        warn: &mut dyn FnMut(String),
    ) -> Result<Option<Lock>> {
        let lock = Lock::take(locks, &self.configuration, &job.profile)?;
        if self.last(&job.profile).is_some_and(|last| is_served(job, last, now)) {
            return Ok(None);
        }
        if let Err(error) = self.began(&job.profile, now) {
            let profile = &job.profile;
            warn(format!(
                "profile {profile}: that its run begins cannot be noted: {}",
                error.message
            ));
        }
        Ok(Some(lock))
    }

    fn file(&self, profile: &str) -> PathBuf {
        self.directory.join(file_name(&self.configuration, profile))
    }
}

/// Of a profile of a configuration file: equal only for the same of both.
pub(super) fn file_name(configuration: &Path, profile: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(configuration.as_os_str().as_encoded_bytes()).update(&[0]);
    let hash = hasher.update(profile.as_bytes()).finalize();
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    format!("{}-{}", profile.chars().map(plain).collect::<String>(), hex(&hash.as_bytes()[..8]))
}

fn cannot(path: &Path, error: &io::Error) -> Error {
    let path = path.display();
    Error::failed(format!("{path}: {error}: set ESKER_CACHE_DIR to a directory of yours"))
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::repository::ErrorKind;

    #[test]
    fn profiles_and_configurations_do_not_mix() {
        let directory = tempfile::tempdir().unwrap();
        let times = ["2026-05-04T02:00:00Z", "2026-05-05T02:00:00Z"];
        let [one, two]: [Timestamp; 2] = times.map(|time| time.parse().unwrap());
        let notes = Notes::new(directory.path(), Path::new("/etc/esker/esker.toml"));
        assert_eq!(notes.last("a b"), None);
        assert_eq!(notes.last_or_first_seen("a b", one).unwrap(), one);
        assert_eq!(notes.last_or_first_seen("a b", two).unwrap(), one);
        notes.began("a/b", two).unwrap();
        assert_eq!((notes.last("a b"), notes.last("a/b")), (Some(one), Some(two)));
        let other = Notes::new(directory.path(), Path::new("/home/u/esker.toml"));
        assert_eq!(other.last("a b"), None);
    }

    /// Both at once, and one right after the other.
    #[test]
    fn two_schedulers_run_a_profile_once() {
        let directory = tempfile::tempdir().unwrap();
        let notes = Notes::new(directory.path(), Path::new("/c"));
        let settings = toml::from_str("schedule = ['02:00']").unwrap();
        let job = Job::of("web", &settings, &TimeZone::UTC).unwrap();
        let begin = |now: &str| {
            notes.begin(&job, directory.path(), now.parse().unwrap(), &mut |said| panic!("{said}"))
        };
        let lock = begin("2026-05-04T02:00:00Z").unwrap().unwrap();
        let error = begin("2026-05-04T02:00:00Z").unwrap_err();
        assert_eq!(error.kind, ErrorKind::TryLater);
        drop(lock);
        assert!(begin("2026-05-04T02:00:20Z").unwrap().is_none());
        assert!(begin("2026-05-05T02:00:00Z").unwrap().is_some());
    }

    /// A disk that is full, or was mounted read-only.
    #[test]
    fn a_run_that_cannot_be_noted_begins_all_the_same() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("schedule"), "in the way").unwrap();
        let notes = Notes::new(directory.path(), Path::new("/c"));
        let settings = toml::from_str("schedule = ['02:00']").unwrap();
        let job = Job::of("web", &settings, &TimeZone::UTC).unwrap();
        let (locks, now) = (directory.path().join("locks"), Timestamp::UNIX_EPOCH);
        let mut said = Vec::new();
        let lock = notes.begin(&job, &locks, now, &mut |sentence| said.push(sentence)).unwrap();
        assert!(said.len() == 1 && said[0].starts_with("profile web: that its run"), "{said:?}");
        // and it is the only one
        assert!(lock.is_some());
        let error = notes.begin(&job, &locks, now, &mut |_| {}).unwrap_err();
        assert_eq!(error.kind, ErrorKind::TryLater);
    }

    #[test]
    fn a_note_that_is_no_time_counts_as_none() {
        let directory = tempfile::tempdir().unwrap();
        let notes = Notes::new(directory.path(), Path::new("/c"));
        notes.began("web", Timestamp::UNIX_EPOCH).unwrap();
        fs::write(notes.file("web"), b"\xff").unwrap();
        assert_eq!(notes.last("web"), None);
    }
}
