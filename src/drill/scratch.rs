//! Where a drill restores to: a directory of its own that goes when the drill ends,
//! however it ends.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::crypto::random;
use crate::id::hex;
use crate::repository::{Error, Result};

/// Longest path of a directory in which a server's socket may lie: the system takes
/// 107 bytes for the whole.
const MAX_SOCKET_DIRECTORY: usize = 88;

#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Beneath `parent`. Others may pass through it, because a server may have to run
    /// as another user, and cannot list it; what lies in it is private.
    pub fn new(parent: &Path) -> Result<Scratch> {
        let failed = |path: &Path, error: io::Error| {
            Error::failed(format!("scratch directory {}: {error}", path.display()))
        };
        let parent = parent.canonicalize().map_err(|error| failed(parent, error))?;
        let path = parent.join(format!("esker-drill-{}", hex(&random::<6>())));
        DirBuilder::new().mode(0o711).create(&path).map_err(|error| failed(&path, error))?;
        let scratch = Scratch { path };
        // a mask may have taken more than it should
        fs::set_permissions(&scratch.path, Permissions::from_mode(0o711))
            .map_err(|error| failed(&scratch.path, error))?;
        Ok(scratch)
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
        match is_full(error) {
            true => self.full(),
            false => Error::failed(format!("scratch directory {}: {error}", path.display())),
        }
    }

    pub(super) fn full(&self) -> Error {
        let parent = self.path.parent().unwrap_or(&self.path).display();
        Error::failed(format!(
            "scratch directory {parent} is full: name a larger one with --scratch"
        ))
    }
}

pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // nobody is left to be told; what stays is private
        let _ = remove(&self.path);
    }
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
