//! Writing back beneath a restore's target directory. Nothing here follows a
//! link or leaves the target, whatever lies in the way. What is to be written,
//! and in which order, is decided by the caller.
//!
//! Paths are relative bytes with `/` between components, of any length; empty
//! components, `.`, `..` and NUL are refused. The empty path is the target
//! itself, where that makes sense. Directories are handles that were resolved
//! beneath the target; the recent ones are remembered, so a directory that
//! someone moves elsewhere while a restore runs may still receive its files.

mod metadata;
mod remove;
mod resolve;
mod write;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use self::resolve::Recent;
use super::directory::{Names, open_quietly};
use super::examine::{NodeKind, basics, device_of, kind_of, stat};
use super::owners::OwnerNumbers;
use crate::format::entry::{EntryKind, Metadata};

pub use self::metadata::Unset;
pub use self::write::{punch_hole, set_length};

/// The directory a restore writes beneath. May be shared between threads.
#[derive(Debug)]
pub struct Target {
    top: OwnedFd,
    /// Cleared when the kernel turns out to have no `openat2`.
    use_openat2: AtomicBool,
    recent: Mutex<Recent>,
    numbers: Mutex<OwnerNumbers>,
}

/// What already lies at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Existing {
    pub kind: NodeKind,
    /// Mode, owners' numbers, size, times, inode and device; the rest is empty.
    pub metadata: Metadata,
    pub links: u64,
    pub device_id: u64,
}

impl Target {
    /// Opens the directory; it and missing parents are created with mode 0700.
    /// The path itself is the user's choice and may lead through links.
    pub fn open(path: &Path) -> io::Result<Target> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
        Ok(Target {
            top,
            use_openat2: AtomicBool::new(true),
            recent: Mutex::new(Recent::default()),
            numbers: Mutex::new(OwnerNumbers::default()),
        })
    }

    /// The same target for a kernel without `openat2`: every component is opened by itself.
    pub fn without_openat2(self) -> Target {
        Target { use_openat2: AtomicBool::new(false), ..self }
    }

    /// What lies at `path`; `None` if nothing does, also because something on
    /// the way is missing, no directory, or a link.
    pub fn stat(&self, path: &[u8]) -> io::Result<Option<Existing>> {
        let seen = if path.is_empty() {
            stat(self.top.as_fd(), c"", AtFlags::EMPTY_PATH)
        } else {
            self.parent(path)
                .and_then(|(parent, name)| stat(parent.as_fd(), &name, AtFlags::SYMLINK_NOFOLLOW))
        };
        let seen = match seen {
            Ok(seen) => seen,
            Err(error) if resolve::means_nothing_there(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let kind = kind_of(&seen);
        Ok(Some(Existing {
            kind,
            metadata: basics(&seen, kind),
            links: u64::from(seen.stx_nlink),
            device_id: device_of(&seen),
        }))
    }

    /// The target of the symbolic link at `path`.
    pub fn read_link(&self, path: &[u8]) -> io::Result<Vec<u8>> {
        let (parent, name) = self.parent(path)?;
        Ok(rustix::fs::readlinkat(&parent, &name, Vec::new())?.into_bytes())
    }

    /// Names and kinds in the directory at `path`, in bytewise order.
    pub fn list(&self, path: &[u8]) -> io::Result<Vec<(Vec<u8>, NodeKind)>> {
        let handle = self.directory(path)?;
        let reading = open_quietly(handle.as_fd(), c".", OFlags::RDONLY | OFlags::DIRECTORY)?;
        let names = Names::read(reading.as_fd(), &mut remove::listing_buffer())?;
        let mut listed = Vec::with_capacity(names.len());
        for position in 0..names.len() {
            let name = names.get(position);
            match rustix::fs::statat(&reading, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(seen) => {
                    let kind = rustix::fs::FileType::from_raw_mode(seen.st_mode).into();
                    listed.push((name.to_vec(), kind));
                }
                Err(rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(listed)
    }

    /// Bytes that may still be written beneath the target by this user.
    pub fn free_space(&self) -> io::Result<u64> {
        let space = rustix::fs::fstatvfs(&self.top)?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }
}

fn is_directory(kind: NodeKind) -> bool {
    kind == NodeKind::Entry(EntryKind::Directory)
}
