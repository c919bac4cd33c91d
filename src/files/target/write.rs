//! Creating entries and opening files. With `replace`, what is in the way goes
//! first, but never a directory with something in it: that takes
//! [`Target::remove`], which the caller must mean.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{AtFlags, CWD, FallocateFlags, FileType, Mode, OFlags, makedev};
use rustix::io::Errno;

use super::{Target, is_directory};
use crate::files::directory::open_quietly;
use crate::files::examine::{kind_of, stat};
use crate::files::xattr::handle_path;
use crate::format::entry::EntryKind;

impl Target {
    /// Makes sure a real directory lies at `path`, and says whether it is new.
    /// A new one has mode 0700; an existing one of which this user lacks a
    /// right gets it, since files are about to be written into it.
    pub fn make_directory(&self, path: &[u8], replace: bool) -> io::Result<bool> {
        let (parent, name) = self.parent(path)?;
        match rustix::fs::mkdirat(&parent, &name, Mode::RWXU) {
            Ok(()) => return Ok(true),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let seen = stat(parent.as_fd(), &name, AtFlags::SYMLINK_NOFOLLOW)?;
        if is_directory(kind_of(&seen)) {
            if seen.stx_mode & 0o700 != 0o700 {
                open_up(&parent, &name, u32::from(seen.stx_mode));
            }
            return Ok(false);
        }
        if !replace {
            return Err(Errno::EXIST.into());
        }
        rustix::fs::unlinkat(&parent, &name, AtFlags::empty())?;
        rustix::fs::mkdirat(&parent, &name, Mode::RWXU)?;
        Ok(true)
    }

    /// Creates an empty file of mode 0600, open for reading and writing.
    pub fn create_file(&self, path: &[u8], replace: bool) -> io::Result<File> {
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.create(path, replace, |parent, name| {
            rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR).map(File::from)
        })
    }

    /// Opens an existing file to be changed in place. `None` if that must not
    /// or cannot be: it is no regular file, has other hard links, is being
    /// executed or not permitted. A new file must then replace it.
    pub fn open_file(&self, path: &[u8]) -> io::Result<Option<File>> {
        let (parent, name) = self.parent(path)?;
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        // Opening a device for writing can do things by itself: look first, and look again.
        let seen = rustix::fs::statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(seen.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        let handle = match rustix::fs::openat(&parent, &name, flags, Mode::empty()) {
            Ok(handle) => handle,
            Err(
                Errno::LOOP
                | Errno::ISDIR
                | Errno::NXIO
                | Errno::TXTBSY
                | Errno::ACCESS
                | Errno::PERM,
            ) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let own = rustix::fs::fstat(&handle)?;
        let usable =
            FileType::from_raw_mode(own.st_mode) == FileType::RegularFile && own.st_nlink == 1;
        Ok(usable.then(|| File::from(handle)))
    }

    /// Opens an existing regular file for reading only.
    pub fn read_file(&self, path: &[u8]) -> io::Result<File> {
        let (parent, name) = self.parent(path)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let handle = open_quietly(parent.as_fd(), &name, flags)?;
        if FileType::from_raw_mode(rustix::fs::fstat(&handle)?.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        Ok(File::from(handle))
    }

    /// Creates a symbolic link that holds `target`, whatever that leads to.
    pub fn symlink(&self, path: &[u8], target: &[u8], replace: bool) -> io::Result<()> {
        self.create(path, replace, |parent, name| rustix::fs::symlinkat(target, parent, name))
    }

    /// Gives the entry at `existing` (not a directory; a link is linked itself) a second name.
    pub fn hard_link(&self, existing: &[u8], path: &[u8], replace: bool) -> io::Result<()> {
        let (from, old_name) = self.parent(existing)?;
        if replace {
            // Replacing a name of the same inode would only lose time, or the inode if it is the last.
            let (to, new_name) = self.parent(path)?;
            let look = |directory: &OwnedFd, name: &CStr| {
                rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
            };
            let old = look(&from, &old_name)?;
            if look(&to, &new_name)
                .is_ok_and(|new| (new.st_dev, new.st_ino) == (old.st_dev, old.st_ino))
            {
                return Ok(());
            }
        }
        self.create(path, replace, |parent, name| {
            rustix::fs::linkat(&*from, &old_name, parent, name, AtFlags::empty())
        })
    }

    /// Creates a pipe or device node of mode 0600; `device` is (major, minor) of a device.
    pub fn node(
        &self,
        path: &[u8],
        kind: EntryKind,
        device: Option<(u32, u32)>,
        replace: bool,
    ) -> io::Result<()> {
        let file_type = match kind {
            EntryKind::Fifo => FileType::Fifo,
            EntryKind::CharDevice => FileType::CharacterDevice,
            EntryKind::BlockDevice => FileType::BlockDevice,
            EntryKind::File | EntryKind::Directory | EntryKind::Symlink => {
                return Err(Errno::INVAL.into());
            }
        };
        let number = match (kind, device) {
            (EntryKind::Fifo, _) => 0,
            (_, Some((major, minor))) => makedev(major, minor),
            (_, None) => return Err(Errno::INVAL.into()),
        };
        let mode = Mode::RUSR | Mode::WUSR;
        self.create(path, replace, |parent, name| {
            rustix::fs::mknodat(parent, name, file_type, mode, number)
        })
    }

    /// Gives the entry at `from` the name `to`; what was there under it, a
    /// directory excepted, is gone at the same instant.
    pub fn rename(&self, from: &[u8], to: &[u8]) -> io::Result<()> {
        let (old_parent, old_name) = self.parent(from)?;
        let (new_parent, new_name) = self.parent(to)?;
        Ok(rustix::fs::renameat(&*old_parent, &old_name, &*new_parent, &new_name)?)
    }

    fn create<T>(
        &self,
        path: &[u8],
        replace: bool,
        make: impl Fn(&OwnedFd, &CStr) -> rustix::io::Result<T>,
    ) -> io::Result<T> {
        let (parent, name) = self.parent(path)?;
        match make(&parent, &name) {
            Err(Errno::EXIST) if replace => {}
            other => return Ok(other?),
        }
        match rustix::fs::unlinkat(&parent, &name, AtFlags::empty()) {
            Err(Errno::ISDIR) => {
                rustix::fs::unlinkat(&parent, &name, AtFlags::REMOVEDIR)?;
                self.forget(path);
            }
            Err(Errno::NOENT) | Ok(()) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(make(&parent, &name)?)
    }
}

/// Gives the owner all rights to a directory. A refusal is left for the write
/// into it to report; the mode is set again with the metadata.
fn open_up(parent: &OwnedFd, name: &CStr, mode: u32) {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if let Ok(handle) = rustix::fs::openat(parent, name, flags, Mode::empty()) {
        let _ = rustix::fs::chmodat(
            CWD,
            handle_path(handle.as_fd()),
            Mode::from_raw_mode(mode & 0o7777 | 0o700),
            AtFlags::empty(),
        );
    }
}

/// Cuts or extends a file; what is added reads as zeros.
pub fn set_length(file: &File, length: u64) -> io::Result<()> {
    Ok(rustix::fs::ftruncate(file, length)?)
}

/// Makes a range read as zeros without taking space; where the file system has
/// no holes, zeros are written. The length does not change.
pub fn punch_hole(file: &File, range: Range<u64>) -> io::Result<()> {
    let end = range.end.min(file.metadata()?.len());
    if range.start >= end {
        return Ok(());
    }
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match rustix::fs::fallocate(file, flags, range.start, end - range.start) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_zeros(file, range.start..end),
        other => Ok(other?),
    }
}

fn write_zeros(file: &File, range: Range<u64>) -> io::Result<()> {
    let zeros = vec![0; 64 << 10];
    let mut position = range.start;
    while position < range.end {
        let length = zeros.len().min(usize::try_from(range.end - position).unwrap_or(usize::MAX));
        file.write_all_at(&zeros[..length], position)?;
        position += length as u64;
    }
    Ok(())
}
