//! A directory of our own for temporary files, that goes with its value.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

pub struct PrivateDirectory {
    path: PathBuf,
}

impl PrivateDirectory {
    /// Beneath `parent`, for nobody else to read. Fails where something is there already.
    pub fn new(parent: &Path) -> io::Result<PrivateDirectory> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let path = parent.join(format!("esker-{:016x}", u64::from_le_bytes(random)));
        DirBuilder::new().mode(0o700).create(&path).map_err(|error| {
            io::Error::new(error.kind(), format!("temporary directory {}: {error}", path.display()))
        })?;
        Ok(PrivateDirectory { path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        // what stays behind is private, and the next run makes its own
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
