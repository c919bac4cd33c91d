//! Where a drill restores to: a directory of its own that goes when the drill ends. One
//! that was killed leaves it to the next.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::crypto::random;
use crate::id::hex;
use crate::repository::{Error, ErrorKind, Result};

/// Longest path of a directory in which a server's socket may lie, or that of a step in a
/// directory by `mktemp`: the system takes 107 bytes for the whole.
const MAX_SOCKET_DIRECTORY: usize = 84;

/// What the name of a scratch directory begins with; the rest is chance, in hexadecimal.
const PREFIX: &str = "esker-drill-";
const CHANCE: usize = 6;
/// A file in it that is locked as long as its drill lives.
const LOCK: &str = "lock";

#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    /// Held, and let go by the system when this program ends, however that comes.
    _lock: File,
}

impl Scratch {
    /// Beneath `parent`. Others may pass through it, because a server may have to run
    /// as another user, and cannot list it; what lies in it is private. What drills left
    /// there that were killed goes first.
    pub fn new(parent: &Path) -> Result<Scratch> {
        let failed = |path: &Path, error: io::Error| {
            Error::failed(format!("scratch directory {}: {error}", path.display()))
        };
        let parent = parent.canonicalize().map_err(|error| failed(parent, error))?;
        remove_left(&parent);
        let path = parent.join(format!("{PREFIX}{}", hex(&random::<CHANCE>())));
        DirBuilder::new().mode(0o711).create(&path).map_err(|error| failed(&path, error))?;
        // a mask may have taken more than it should
        let made = fs::set_permissions(&path, Permissions::from_mode(0o711));
        match made.and_then(|()| lock(&path)) {
            Ok(lock) => Ok(Scratch { path, _lock: lock }),
            Err(error) => {
                let _ = remove(&path);
                Err(failed(&path, error))
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A cache that knows nothing yet, for whoever opens the repository.
    pub fn cache(&self) -> PathBuf {
        self.path.join("cache")
    }

    /// Where files are restored.
    pub(super) fn files(&self) -> PathBuf {
        self.path.join("files")
    }

    /// A private directory for one server.
    pub(super) fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        if path.as_os_str().len() > MAX_SOCKET_DIRECTORY {
            return Err(Error::failed(format!(
                "scratch directory {}: its path is too long for a server's socket: name a shorter one with --scratch",
                self.path.display()
            )));
        }
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Ok(path),
            Err(error) => Err(self.cannot(&path, &error)),
        }
    }

    /// Removes what lies beneath it under this name.
    pub(super) fn clear(&self, path: &Path) -> Result<()> {
        match remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.cannot(path, &error)),
            _ => Ok(()),
        }
    }

    /// An error of the system that concerns the scratch directory.
    pub(super) fn cannot(&self, path: &Path, error: &io::Error) -> Error {
        match matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            true => self.full(),
            false => Error::failed(format!("scratch directory {}: {error}", path.display())),
        }
    }

    /// An error of what was done in it; where it is full, that is the reason.
    pub fn explain(&self, error: Error) -> Error {
        match matches!(error.kind, ErrorKind::Failed | ErrorKind::Cache)
            && tells_full(&error.message)
        {
            true => self.full(),
            false => error,
        }
    }

    /// An error that a restore into it ended with.
    pub(super) fn explain_restore(&self, error: Error) -> Error {
        let error = self.explain(error);
        match error.kind == ErrorKind::Failed && !error.message.contains("--scratch") {
            // it would not fit
            true => {
                let hint = "name a larger directory with --scratch";
                Error::failed(format!("{}; {hint}", error.message))
            }
            false => error,
        }
    }

    pub(super) fn full(&self) -> Error {
        let parent = self.path.parent().unwrap_or(&self.path).display();
        Error::failed(format!(
            "scratch directory {parent} is full: name a larger one with --scratch"
        ))
    }
}

/// Whether a tool's words say that a disk is full: those of the system, or of SQLite.
pub(super) fn tells_full(text: &str) -> bool {
    let of_system = [Errno::NOSPC, Errno::DQUOT].map(|errno| {
        let words = io::Error::from_raw_os_error(errno.raw_os_error()).to_string();
        words.split(" (").next().unwrap_or_default().to_owned()
    });
    of_system.iter().map(String::as_str).chain(["disk is full"]).any(|words| text.contains(words))
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // nobody is left to be told; the next drill tries again
        let _ = remove_scratch(&self.path);
    }
}

/// Puts the lock into a new scratch directory. It gets its name when it is held, so that
/// one that can be had always belongs to nobody.
fn lock(directory: &Path) -> io::Result<File> {
    let new = directory.join("lock.new");
    let file = File::options().write(true).create_new(true).mode(0o600).open(&new)?;
    file.try_lock()?;
    fs::rename(&new, directory.join(LOCK))?;
    Ok(file)
}

/// Removes what drills of this user left that were killed: only directories of our name
/// with a lock in them that nobody holds. What cannot be removed is left to the next.
fn remove_left(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().to_str().is_some_and(is_our_name)
            && entry.metadata().is_ok_and(|metadata| metadata.is_dir() && is_mine(&metadata));
        if !is_ours {
            continue;
        }
        let no_link = OFlags::NOFOLLOW.bits().cast_signed();
        let lock = entry.path().join(LOCK);
        let lock = File::options().read(true).custom_flags(no_link).open(lock);
        if lock.is_ok_and(|lock| lock.try_lock().is_ok()) {
            let _ = remove_scratch(&entry.path());
        }
    }
}

fn is_our_name(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|chance| {
        chance.len() == 2 * CHANCE && chance.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

fn is_mine(metadata: &fs::Metadata) -> bool {
    metadata.uid() == rustix::process::geteuid().as_raw()
}

/// The lock goes last: what is left of a removal that was killed can be told by it.
fn remove_scratch(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)?.flatten().filter(|entry| entry.file_name() != LOCK) {
        match entry.file_type()?.is_dir() {
            true => remove(&entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    remove(path)
}

/// Removes a directory with all it holds. One that was restored may forbid its owner
/// to change it.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path)?;
            fs::remove_dir_all(path)
        }
        result => result,
    }
}

fn open_up(directory: &Path) -> io::Result<()> {
    fs::set_permissions(directory, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_stays_behind() {
        let parent = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(parent.path()).unwrap();
        let deep = scratch.files().join("a/b");
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("file"), b"x").unwrap();
        fs::set_permissions(&deep, Permissions::from_mode(0o500)).unwrap();
        assert_eq!(fs::metadata(scratch.path()).unwrap().permissions().mode() & 0o777, 0o711);
        let server = scratch.directory("server").unwrap();
        assert_eq!(fs::metadata(server).unwrap().permissions().mode() & 0o777, 0o700);
        drop(scratch);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    /// What is in use, of another name, or without a lock, is not ours to remove.
    #[test]
    fn only_what_a_killed_drill_left_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        let make = |name: &str, files: &[&str]| {
            let path = parent.path().join(name);
            fs::create_dir(&path).unwrap();
            files.iter().for_each(|file| fs::write(path.join(file), b"x").unwrap());
            path
        };
        let left = make("esker-drill-0123456789ab", &[LOCK, "file"]);
        let stay = [
            make("esker-drill-0123456789ac", &["file"]),
            make("esker-drill-0123456789a", &[LOCK]),
            make("esker-drill-0123456789xx", &[LOCK]),
            make("other-0123456789ab", &[LOCK]),
        ];
        let link = parent.path().join("esker-drill-0123456789ad");
        std::os::unix::fs::symlink(make("elsewhere", &[LOCK]), &link).unwrap();
        let running = Scratch::new(parent.path()).unwrap();
        assert!(!left.exists());
        let another = Scratch::new(parent.path()).unwrap();
        assert!(running.path().join(LOCK).exists() && another.path().exists());
        assert!(stay.iter().all(|path| path.exists()), "{stay:?}");
        assert!(link.join(LOCK).exists());
    }

    #[test]
    fn a_parent_that_is_not_there_is_named() {
        let error = Scratch::new(Path::new("/nowhere/at/all")).unwrap_err();
        assert!(error.message.contains("/nowhere/at/all"), "{error}");
    }

    #[test]
    fn a_path_too_long_for_sockets_is_told() {
        let parent = tempfile::tempdir().unwrap();
        let long = parent.path().join("x".repeat(90));
        fs::create_dir(&long).unwrap();
        let error = Scratch::new(&long).unwrap().directory("server").unwrap_err();
        assert!(error.message.contains("--scratch"), "{error}");
    }
}
