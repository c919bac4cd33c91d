//! No two runs of one profile at once on a machine. Only runs are kept apart:
//! repositories need no lock.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};

use super::notes::file_name;
use crate::repository::{Error, ErrorKind, Result};

/// Held until it is dropped or the process ends, however that is.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Where root's locks are: one place, whichever scheduler started a run.
const SYSTEM: &str = "/run/esker";

/// The directory of locks: of root one of the system, if it can be made; else
/// one in the cache directory.
pub fn directory(root: bool, cache: &Path) -> PathBuf {
    let system = Path::new(SYSTEM);
    match root && private_directory(system).is_ok() {
        true => system.to_owned(),
        false => cache.join("schedule"),
    }
}

impl Lock {
    /// For a run of a profile of a configuration file. Fails with `TryLater` and
    /// says who runs it if somebody does.
    pub fn take(directory: &Path, configuration: &Path, profile: &str) -> Result<Lock> {
        let configuration = fs::canonicalize(configuration).unwrap_or(configuration.to_owned());
        let name = format!("{}.lock", file_name(&configuration, profile));
        Lock::at(directory, &name, &format!("profile {profile} is being run"))
    }

    /// For the scheduler of a configuration file.
    pub fn scheduler(directory: &Path, configuration: &Path) -> Result<Lock> {
        let configuration = fs::canonicalize(configuration).unwrap_or(configuration.to_owned());
        // profiles have names
        let name = format!("{}.lock", file_name(&configuration, ""));
        Lock::at(directory, &name, "a scheduler of this configuration runs already")
    }

    fn at(directory: &Path, name: &str, taken: &str) -> Result<Lock> {
        let path = directory.join(name);
        let cannot = |error: &io::Error| Error::failed(format!("{}: {error}", path.display()));
        private_directory(directory).map_err(|error| cannot(&error))?;
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&path).map_err(|error| cannot(&error))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let message = format!("{taken}{}", holder(&mut file));
                return Err(Error::new(ErrorKind::TryLater, message));
            }
            Err(error) => return Err(cannot(&error.into())),
        }
        // on a full disk nobody can read who holds it, and it is held
        let _ = write_holder(&mut file);
        Ok(Lock { _file: file })
    }
}

fn private_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn write_holder(file: &mut File) -> io::Result<()> {
    let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(format!("{} {now}\n", std::process::id()).as_bytes())
}

/// ` by process 12 since 2026-05-04T02:00:00Z`; nothing if the file does not tell.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.take(200).read_to_string(&mut text);
    let told = read.ok().and_then(|_| text.trim().split_once(' ')).and_then(|(process, since)| {
        Some((process.parse::<u32>().ok()?, since.parse::<Timestamp>().ok()?))
    });
    told.map_or_else(String::new, |(process, since)| format!(" by process {process} since {since}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_runs_and_the_lock_ends_with_its_holder() {
        let directory = tempfile::tempdir().unwrap();
        let take = |profile| Lock::take(directory.path(), Path::new("/c"), profile);
        let lock = take("web").unwrap();
        let error = take("web").unwrap_err();
        assert_eq!(error.kind, ErrorKind::TryLater);
        let by = format!("profile web is being run by process {} since 2", std::process::id());
        assert!(error.message.starts_with(&by), "{error}");
        take("db").unwrap();
        drop(lock);
        take("web").unwrap();
    }

    #[test]
    fn one_scheduler_a_configuration() {
        let directory = tempfile::tempdir().unwrap();
        let take = |file| Lock::scheduler(directory.path(), Path::new(file));
        let _lock = take("/c").unwrap();
        assert!(take("/c").unwrap_err().message.contains("runs already by process"));
        take("/d").unwrap();
    }

    #[test]
    fn a_holder_that_left_no_name_is_still_kept_out() {
        let directory = tempfile::tempdir().unwrap();
        let _lock = Lock::take(directory.path(), Path::new("/c"), "web").unwrap();
        let file = fs::read_dir(directory.path()).unwrap().next().unwrap().unwrap().path();
        fs::write(&file, "nonsense").unwrap();
        let error = Lock::take(directory.path(), Path::new("/c"), "web").unwrap_err();
        assert_eq!(error.message, "profile web is being run");
    }
}
