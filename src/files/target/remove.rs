//! Recursive removal by handles: nothing outside what was named can be
//! reached, no link is followed, no other file system is entered.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, OFlags};
use rustix::io::Errno;

use super::Target;
use crate::files::FileError;
use crate::files::directory::{Branch, Names, open_quietly};

pub(super) fn listing_buffer() -> Vec<MaybeUninit<u8>> {
    vec![MaybeUninit::uninit(); 64 << 10]
}

/// The directories being emptied, from the named one down.
struct Removal {
    branch: Branch,
    frames: Vec<Frame>,
    path: Vec<u8>,
    device: u64,
    listing: Vec<MaybeUninit<u8>>,
}

struct Frame {
    names: Names,
    next: usize,
    path_length: usize,
    /// Its name in the directory above.
    name: CString,
}

impl Target {
    /// Removes what lies at `path`, directories with all they hold. It stops
    /// at the first thing that cannot be removed, a mount point included, and
    /// names it. Nothing there is no error.
    pub fn remove(&self, path: &[u8]) -> Result<(), FileError> {
        let here = |error: io::Error| FileError { path: path.to_vec(), error };
        let (parent, name) = self.parent(path).map_err(here)?;
        self.forget(path);
        match rustix::fs::unlinkat(&parent, &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(here(error.into())),
        }
        let seen = rustix::fs::statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| here(error.into()))?;
        if FileType::from_raw_mode(seen.st_mode) != FileType::Directory {
            return Err(here(Errno::PERM.into()));
        }
        let mut removal = Removal {
            branch: Branch::default(),
            frames: Vec::new(),
            path: path.to_vec(),
            device: seen.st_dev,
            listing: listing_buffer(),
        };
        let done = removal.enter(&parent, name.clone()).and_then(|()| removal.run());
        done.map_err(|error| FileError { path: removal.path, error })?;
        rustix::fs::unlinkat(&parent, &name, AtFlags::REMOVEDIR).map_err(|error| here(error.into()))
    }
}

impl Removal {
    /// Empties the topmost directory.
    fn run(&mut self) -> io::Result<()> {
        while let Some(frame) = self.frames.last_mut() {
            self.path.truncate(frame.path_length);
            let directory = self.branch.last().ok_or(Errno::NOENT)?;
            if frame.next < frame.names.len() {
                let name = CString::new(frame.names.get(frame.next))?;
                frame.next += 1;
                self.path.push(b'/');
                self.path.extend_from_slice(name.as_bytes());
                self.take(&directory, name)?;
                continue;
            }
            let emptied = self.frames.pop();
            self.branch.pop()?;
            if let (Some(above), Some(frame)) = (self.branch.last(), emptied)
                && !self.frames.is_empty()
            {
                rustix::fs::unlinkat(&*above, &frame.name, AtFlags::REMOVEDIR)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, directory: &OwnedFd, name: CString) -> io::Result<()> {
        match rustix::fs::unlinkat(directory, &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR) => self.enter(directory, name),
            // POSIX allows this answer for a directory; for anything else it stands.
            Err(Errno::PERM) => self.enter(directory, name).map_err(|_| Errno::PERM.into()),
            Err(error) => Err(error.into()),
        }
    }

    fn enter(&mut self, directory: &OwnedFd, name: CString) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let handle = open_quietly(directory.as_fd(), &name, flags)?;
        let own = rustix::fs::fstat(&handle)?;
        if own.st_dev != self.device {
            return Err(io::Error::new(
                io::ErrorKind::CrossesDevices,
                "another file system is mounted there",
            ));
        }
        let names = Names::read(handle.as_fd(), &mut self.listing)?;
        self.branch.push(handle, own.st_dev, own.st_ino);
        self.frames.push(Frame { names, next: 0, path_length: self.path.len(), name });
        Ok(())
    }
}
