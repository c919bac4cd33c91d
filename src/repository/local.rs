//! What this machine keeps of a repository: a cache directory of its own per
//! repository, and the little it must not forget: which repository lies at a
//! URL, and the highest config update it saw.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::{Error, ErrorKind, Result};
use crate::id::{ObjectHash, RepositoryId, hex};

/// A file that is as old as the last opening that read everything from the store.
const OPENED: &str = "opened";
const LATELY: Duration = Duration::from_secs(7 * 24 * 3600);

/// Directory of one repository below the cache directory; nothing without one.
#[derive(Clone, Debug)]
pub struct LocalState {
    directory: Option<PathBuf>,
}

/// The config updates with the highest number that this machine saw: a store
/// that shows less shows an old state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenUpdates {
    pub number: u64,
    pub hashes: Vec<ObjectHash>,
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

    /// The highest config updates seen.
    pub fn seen_updates(&self) -> SeenUpdates {
        let text = self
            .directory
            .as_ref()
            .and_then(|directory| fs::read_to_string(directory.join("updates")).ok())
            .unwrap_or_default();
        let mut lines = text.lines().map(str::trim);
        let number = lines.next().and_then(|line| line.parse().ok()).unwrap_or(0);
        SeenUpdates { number, hashes: lines.filter_map(|line| line.parse().ok()).collect() }
    }

    /// Whether everything that opens the repository was read from the store within the last week.
    pub fn was_opened_lately(&self) -> bool {
        let Some(directory) = &self.directory else { return false };
        let opened = fs::metadata(directory.join(OPENED)).and_then(|file| file.modified());
        // of a time that lies ahead nothing can be told
        opened.is_ok_and(|time| time.elapsed().is_ok_and(|age| age < LATELY))
    }

    /// Notes that it was.
    pub fn note_opened(&self) {
        if let Some(directory) = &self.directory {
            let _ = write_private(&directory.join(OPENED), b"");
        }
    }

    /// Notes that a prune begins. How many have ended since the last one that
    /// looked at everything; nothing if one did not end.
    pub fn begin_prune(&self) -> Option<u64> {
        let Some(directory) = &self.directory else { return Some(0) };
        let file = directory.join("prunes");
        let count = fs::read_to_string(&file).map_or(Some(0), |text| text.trim().parse().ok());
        let _ = write_private(&file, b"unfinished\n");
        count
    }

    /// Notes that a prune ended, the `count`-th since one looked at everything.
    pub fn end_prune(&self, count: u64) {
        if let Some(directory) = &self.directory {
            let _ = write_private(&directory.join("prunes"), format!("{count}\n").as_bytes());
        }
    }

    pub fn remember_updates(&self, seen: &SeenUpdates) -> Result<()> {
        let Some(directory) = &self.directory else { return Ok(()) };
        let before = self.seen_updates();
        if before == *seen || before.number > seen.number {
            return Ok(());
        }
        let mut text = format!("{}\n", seen.number);
        for hash in &seen.hashes {
            text.push_str(&format!("{hash}\n"));
        }
        write_private(&directory.join("updates"), text.as_bytes())
    }
}
