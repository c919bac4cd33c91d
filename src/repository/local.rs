//! What this machine keeps of a repository: a cache directory of its own per
//! repository, and the little it must not forget: which repository lies at a
//! URL, and the highest config update it saw.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::error::{Error, ErrorKind, Result};
use crate::id::{RepositoryId, hex};

/// Directory of one repository below the cache directory; nothing without one.
#[derive(Clone, Debug)]
pub struct LocalState {
    directory: Option<PathBuf>,
}

/// Where a machine keeps its caches.
#[derive(Clone, Debug)]
pub enum CacheRoot {
    Directory(PathBuf),
    /// Keep everything in memory and remember nothing.
    None,
}

impl CacheRoot {
    /// The repository this machine used at `url` before, if it did.
    pub fn known_repository(&self, url: &str) -> Option<RepositoryId> {
        let CacheRoot::Directory(root) = self else { return None };
        let text = fs::read_to_string(location_file(root, url)).ok()?;
        text.trim().parse().ok()
    }

    /// Remembers which repository lies at `url`, and opens its directory.
    pub fn repository(&self, id: RepositoryId, url: &str) -> Result<LocalState> {
        let CacheRoot::Directory(root) = self else { return Ok(LocalState { directory: None }) };
        let directory = root.join(id.to_hex());
        private_directory(&directory)?;
        private_directory(&root.join("locations"))?;
        let file = location_file(root, url);
        if !file.exists() {
            write_private(&file, format!("{id}\n").as_bytes())?;
        }
        Ok(LocalState { directory: Some(directory) })
    }

    /// Forgets what lay at `url`: the owner said that it is another one now.
    pub fn forget_location(&self, url: &str) {
        if let CacheRoot::Directory(root) = self {
            let _ = fs::remove_file(location_file(root, url));
        }
    }
}

fn location_file(root: &Path, url: &str) -> PathBuf {
    root.join("locations").join(hex(&blake3::hash(url.as_bytes()).as_bytes()[..16]))
}

fn cannot(path: &Path, error: &std::io::Error) -> Error {
    Error::new(
        ErrorKind::Failed,
        format!("cache {}: {error}: set ESKER_CACHE_DIR to a directory of yours", path.display()),
    )
}

fn private_directory(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| cannot(path, &error))
}

/// Writes a file that only its owner may read, whole or not at all.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension(format!("tmp{}", std::process::id()));
    let write = || {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&temporary);
        cannot(path, &error)
    })
}

impl LocalState {
    pub fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    /// The highest config update seen: its number and the object hashes.
    pub fn highest_update(&self) -> u64 {
        self.directory
            .as_ref()
            .and_then(|directory| fs::read_to_string(directory.join("updates")).ok())
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0)
    }

    pub fn remember_update(&self, number: u64) -> Result<()> {
        match &self.directory {
            Some(directory) if self.highest_update() < number => {
                write_private(&directory.join("updates"), format!("{number}\n").as_bytes())
            }
            _ => Ok(()),
        }
    }
}
