//! A directory as a [`Store`]: how an object becomes durable under its key, and how it goes.
//!
//! A put writes `tmp/<name>`, syncs it, moves it to its key without replacing anything (`publish.rs`), and syncs the
//! directories above. So a crash leaves at most a file in `tmp/`, which no listing shows (`temporary.rs`). First-level
//! directories (`packs`, `index`, …) are made when first needed and never removed; deeper ones are removed when empty.
//!
//! Everything happens relative to a descriptor of the repository's directory: a disk that is unmounted under us makes
//! calls fail, and never puts objects into the empty directory it was mounted on.
//!
//! What does not hold everywhere: on a file system with neither `RENAME_NOREPLACE` nor hard links, two *processes*
//! that put different bytes under one key at the same instant may both be told that they won (`publish.rs`). On a
//! file system that cannot sync directories, durability is what its mount gives.

mod listing;
mod publish;
mod reserve;
mod temporary;

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::fs::{self, AtFlags, Mode, OFlags};
use rustix::io::Errno;

use self::temporary::Temporary;
use super::key::{check_key, check_prefix};
use super::{ErrorKind, Listed, RESERVE_BYTES, Result, Store, StoreError};

const DIRECTORY_MODE: Mode = Mode::RWXU;
/// Directories that other processes remove as empty while we put into them: how often to make them anew.
const PUBLISH_TRIES: usize = 16;
/// Pieces in which an object that is already there is compared.
const COMPARE_BYTES: usize = 256 << 10;

#[derive(Debug)]
pub struct LocalStore {
    root: OwnedFd,
    path: PathBuf,
    url: String,
    /// First-level directories whose own entry is known to be durable.
    durable: Mutex<HashSet<String>>,
}

impl LocalStore {
    /// Makes the directory of a new repository; its parent must be there, and it must be absent or empty.
    ///
    /// [`ErrorKind::Exists`] if anything is in it (but for the `lost+found` of a fresh file system).
    pub fn create(path: &Path) -> Result<LocalStore> {
        let url = path.display().to_string();
        let error = |error: io::Error| StoreError::of_io(&url, "", error);
        match fs::mkdir(path, DIRECTORY_MODE) {
            Err(Errno::NOENT) => {
                return Err(StoreError::new(ErrorKind::NotFound, &url, "")
                    .because("the directory above it does not exist; is the disk mounted?"));
            }
            Err(Errno::EXIST) => {}
            result => result.map_err(|errno| error(errno.into()))?,
        }
        let store = LocalStore::open(path)?;
        for entry in std::fs::read_dir(&store.path).map_err(error)? {
            if entry.map_err(error)?.file_name() != "lost+found" {
                return Err(StoreError::new(ErrorKind::Exists, &url, "")
                    .because("the directory is not empty; a new repository needs one that is absent or empty"));
            }
        }
        if let Some(parent) = store.path.parent() {
            let parent = File::open(parent).map_err(error)?;
            sync_directory(parent.as_fd()).map_err(error)?;
        }
        Ok(store)
    }

    /// Opens an existing directory and makes nothing: the mount point of an absent disk stays as it is.
    pub fn open(path: &Path) -> Result<LocalStore> {
        let error = |error: io::Error| StoreError::of_io(&path.display().to_string(), "", error);
        let path = std::path::absolute(path).map_err(error)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = fs::open(&path, flags, Mode::empty()).map_err(|errno| error(errno.into()))?;
        let url = path.display().to_string();
        Ok(LocalStore { root, path, url, durable: Mutex::default() })
    }

    fn error(&self, key: &str, error: io::Error) -> StoreError {
        StoreError::of_io(&self.url, key, error)
    }

    fn durable(&self) -> MutexGuard<'_, HashSet<String>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens an object and says how long it is.
    fn open_object(&self, key: &str) -> Result<(File, u64)> {
        // Without NONBLOCK a FIFO under a valid name would hang us.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match open_at(self.root.as_fd(), key, flags) {
            Ok(file) => File::from(file),
            Err(error) if is_absence(&error) => {
                return Err(StoreError::new(ErrorKind::NotFound, &self.url, key).because(error));
            }
            Err(error) => return Err(self.error(key, error)),
        };
        let metadata = file.metadata().map_err(|error| self.error(key, error))?;
        match metadata {
            _ if metadata.is_file() => Ok((file, metadata.len())),
            _ if metadata.is_dir() => Err(StoreError::new(ErrorKind::NotFound, &self.url, key)),
            _ => {
                Err(StoreError::new(ErrorKind::Permanent, &self.url, key)
                    .because("not a regular file"))
            }
        }
    }

    /// Whether exactly these bytes are there; other bytes are [`ErrorKind::Exists`].
    fn is_there(&self, key: &str, object: &[u8]) -> Result<bool> {
        let (mut file, length) = match self.open_object(key) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            result => result?,
        };
        let failed = |error| self.error(key, error);
        if length != object.len() as u64 || !has_content(&mut file, object).map_err(failed)? {
            return Err(StoreError::new(ErrorKind::Exists, &self.url, key));
        }
        // Whoever put it may not have synced it yet, and we are about to say that it is durable.
        file.sync_all().map_err(failed)?;
        Ok(true)
    }

    /// Moves a finished file to its key, making directories as needed; `false` if the key is taken.
    fn publish(&self, temporary: &Temporary<'_>, key: &str) -> Result<bool> {
        for _ in 0..PUBLISH_TRIES {
            match publish::publish(self.root.as_fd(), temporary.path(), key) {
                Ok(()) => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.make_directories(key)?
                }
                Err(error) => return Err(self.error(key, error)),
            }
        }
        Err(StoreError::new(ErrorKind::Temporary, &self.url, key)
            .because("its directory keeps disappearing"))
    }

    fn make_directories(&self, key: &str) -> Result<()> {
        for (end, _) in key.match_indices('/') {
            match fs::mkdirat(&self.root, &key[..end], DIRECTORY_MODE) {
                // Other processes make them too; and remove them, which the next try finds out.
                Ok(()) | Err(Errno::EXIST | Errno::NOENT) => {}
                Err(errno) => return Err(self.error(key, errno.into())),
            }
        }
        Ok(())
    }

    /// Makes the names above a key durable, from its directory up to the repository's own.
    ///
    /// Only the entries of first-level directories are remembered as durable: deeper directories may have been
    /// removed and made anew by another process since.
    fn sync_above(&self, key: &str) -> io::Result<()> {
        let first = key.split_once('/').map(|(first, _)| first);
        for (end, _) in key.rmatch_indices('/') {
            // One that was removed meanwhile, with the object, has nothing left to sync.
            self.sync_at(&key[..end])?;
        }
        match first {
            Some(first) if self.durable().contains(first) => return Ok(()),
            _ => sync_directory(self.root.as_fd())?,
        }
        if let Some(first) = first {
            self.durable().insert(first.to_owned());
        }
        Ok(())
    }

    /// Makes it durable that nothing is under a key: syncs its directory, or the nearest above that still exists.
    fn sync_nearest(&self, key: &str) -> io::Result<()> {
        for (end, _) in key.rmatch_indices('/') {
            if self.sync_at(&key[..end])? {
                return Ok(());
            }
        }
        sync_directory(self.root.as_fd())
    }

    /// Syncs one directory; `false` if it is not there.
    fn sync_at(&self, directory: &str) -> io::Result<bool> {
        match open_at(
            self.root.as_fd(),
            directory,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        ) {
            Ok(directory) => sync_directory(directory.as_fd()).map(|()| true),
            Err(error) if is_absence(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes directories that a deletion left empty, but none of the first level. Those that are not empty stay.
    fn remove_empty_directories(&self, key: &str) {
        for (end, _) in key.rmatch_indices('/').filter(|(end, _)| key[..*end].contains('/')) {
            if fs::unlinkat(&self.root, &key[..end], AtFlags::REMOVEDIR).is_err() {
                return;
            }
        }
    }
}

impl Store for LocalStore {
    fn url(&self) -> &str {
        &self.url
    }

    fn put(&self, key: &str, object: Bytes) -> Result<()> {
        check_key(&self.url, key)?;
        if !self.is_there(key, &object)? {
            let temporary = Temporary::write(self.root.as_fd(), &object)
                .map_err(|error| self.error(key, error))?;
            // Taken since we looked: fine if by the same bytes.
            if !self.publish(&temporary, key)? && !self.is_there(key, &object)? {
                return Err(StoreError::new(ErrorKind::Exists, &self.url, key)
                    .because("something that is no object"));
            }
        }
        self.sync_above(key).map_err(|error| self.error(key, error))
    }

    fn get(&self, key: &str, max_length: u64) -> Result<Bytes> {
        check_key(&self.url, key)?;
        let (file, length) = self.open_object(key)?;
        if length > max_length {
            return Err(StoreError::new(ErrorKind::TooLarge, &self.url, key));
        }
        read_range(&file, 0, length).map_err(|error| self.error(key, error))
    }

    fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Bytes> {
        check_key(&self.url, key)?;
        let (file, file_length) = self.open_object(key)?;
        if offset.checked_add(length).is_none_or(|end| end > file_length) {
            return Err(StoreError::new(ErrorKind::Truncated, &self.url, key));
        }
        read_range(&file, offset, length).map_err(|error| self.error(key, error))
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        check_prefix(&self.url, prefix)?;
        listing::list(self.root.as_fd(), prefix)
            .map_err(|(directory, error)| self.error(&directory, error))
    }

    fn delete(&self, key: &str) -> Result<()> {
        check_key(&self.url, key)?;
        let failed = |error| self.error(key, error);
        match fs::unlinkat(&self.root, key, AtFlags::empty()) {
            // A directory is no object, and below a file there is none.
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::ISDIR) => {}
            Err(errno) => return Err(failed(errno.into())),
        }
        // Absent, too: whoever deleted it may not have synced that yet.
        self.sync_nearest(key).map_err(failed)?;
        self.remove_empty_directories(key);
        Ok(())
    }

    fn has_directories(&self) -> bool {
        true
    }

    fn local_path(&self) -> Option<&Path> {
        Some(&self.path)
    }

    fn create_reserve(&self, length: u64) -> Result<()> {
        reserve::create(self.root.as_fd(), length).map_err(|error| self.error("", error))
    }

    fn release_reserve(&self) -> Result<bool> {
        reserve::release(self.root.as_fd()).map_err(|error| self.error("", error))
    }

    fn restore_reserve(&self) -> Result<bool> {
        if reserve::exists(self.root.as_fd()).map_err(|error| self.error("", error))? {
            return Ok(true);
        }
        match self.create_reserve(RESERVE_BYTES) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Full => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn clean_temporary(&self) -> Result<u64> {
        temporary::clean(self.root.as_fd()).map_err(|error| self.error("", error))
    }
}

/// Opens what exists, as often as signals want it.
fn open_at(directory: BorrowedFd<'_>, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(rustix::io::retry_on_intr(|| fs::openat(directory, path, flags, Mode::empty()))?)
}

/// Whether the error says that nothing is there; below a file there is nothing.
fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Makes the entries of a directory durable, where the file system has a notion of that.
fn sync_directory(directory: BorrowedFd<'_>) -> io::Result<()> {
    match rustix::io::retry_on_intr(|| fs::fsync(directory)) {
        // Network and FUSE file systems without such a call; and nothing changes where all is read-only.
        Ok(()) | Err(Errno::INVAL | Errno::NOTSUP | Errno::NOSYS | Errno::ROFS) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// The caller has made sure that the file is this long.
fn read_range(file: &File, offset: u64, length: u64) -> io::Result<Bytes> {
    let length =
        usize::try_from(length).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        let at = offset + bytes.len() as u64;
        match rustix::io::pread(file, spare_capacity(&mut bytes), at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    // a file that grew, in whatever capacity there was beyond
    bytes.truncate(length);
    Ok(bytes.into())
}

fn has_content(file: &mut File, expected: &[u8]) -> io::Result<bool> {
    let mut piece = vec![0; COMPARE_BYTES.min(expected.len())];
    for expected in expected.chunks(COMPARE_BYTES) {
        let piece = &mut piece[..expected.len()];
        file.read_exact(piece)?;
        if piece != expected {
            return Ok(false);
        }
    }
    Ok(true)
}
