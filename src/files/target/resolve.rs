//! From a relative path to a handle of its directory, without following a
//! link: by `openat2`, or component by component where the kernel has none.

use std::collections::HashMap;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::Target;
use crate::files::directory::path_groups;

/// Directory handles kept for the next path.
const MAX_RECENT: usize = 64;

/// How often `openat2` is asked again when a rename elsewhere made it unsure.
const MAX_TRIES: usize = 16;

/// The directories used last.
#[derive(Debug, Default)]
pub(super) struct Recent {
    handles: HashMap<Vec<u8>, (u64, Arc<OwnedFd>)>,
    uses: u64,
}

impl Recent {
    fn get(&mut self, path: &[u8]) -> Option<Arc<OwnedFd>> {
        self.uses += 1;
        let (used, handle) = self.handles.get_mut(path)?;
        *used = self.uses;
        Some(handle.clone())
    }

    fn put(&mut self, path: &[u8], handle: Arc<OwnedFd>) {
        if self.handles.len() >= MAX_RECENT {
            let oldest = self
                .handles
                .iter()
                .min_by_key(|(_, (used, _))| *used)
                .map(|(path, _)| path.clone());
            if let Some(oldest) = oldest {
                self.handles.remove(&oldest);
            }
        }
        self.uses += 1;
        self.handles.insert(path.to_vec(), (self.uses, handle));
    }

    /// Forgets a directory and all beneath it.
    fn forget(&mut self, path: &[u8]) {
        self.handles.retain(|known, _| {
            let rest = known.strip_prefix(path);
            !rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        });
    }
}

impl Target {
    /// The handle of the directory that holds `path`, and the last component.
    pub(super) fn parent(&self, path: &[u8]) -> io::Result<(Arc<OwnedFd>, CString)> {
        check(path)?;
        let (above, name) = split(path);
        Ok((self.checked_directory(above)?, CString::new(name)?))
    }

    /// A handle for lookups in the directory at `path`; the target's own for the empty path.
    pub(super) fn directory(&self, path: &[u8]) -> io::Result<Arc<OwnedFd>> {
        if !path.is_empty() {
            check(path)?;
        }
        self.checked_directory(path)
    }

    pub(in crate::files) fn forget(&self, path: &[u8]) {
        self.recent().forget(path);
    }

    fn checked_directory(&self, path: &[u8]) -> io::Result<Arc<OwnedFd>> {
        if let Some(known) = self.recent().get(path) {
            return Ok(known);
        }
        let (start, rest) = self.nearest(path);
        let mut handle = start;
        if rest.is_empty() {
            handle = Some(self.top.try_clone()?.into());
        }
        for group in path_groups(rest) {
            let from = handle.as_ref().map_or(self.top.as_fd(), |handle| handle.as_fd());
            handle = Some(Arc::new(self.open_beneath(from, group)?));
        }
        let handle = handle.ok_or(Errno::NOENT)?;
        self.recent().put(path, handle.clone());
        Ok(handle)
    }

    /// The nearest directory above `path` that is at hand, and the way from there.
    fn nearest<'p>(&self, path: &'p [u8]) -> (Option<Arc<OwnedFd>>, &'p [u8]) {
        let mut recent = self.recent();
        let slashes = path.iter().enumerate().rev().filter(|(_, byte)| **byte == b'/');
        // One look-up goes far; only beyond that is it worth looking for a nearer start.
        let at_hand = slashes.take(2).find_map(|(at, _)| Some((recent.get(&path[..at])?, at)));
        match at_hand {
            Some((handle, at)) => (Some(handle), &path[at + 1..]),
            None => (None, path),
        }
    }

    fn open_beneath(&self, from: BorrowedFd, path: &[u8]) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..MAX_TRIES {
            if !self.use_openat2.load(Ordering::Relaxed) {
                break;
            }
            match rustix::fs::openat2(from, path, flags, Mode::empty(), resolve) {
                Ok(handle) => return Ok(handle),
                Err(Errno::AGAIN) => {}
                // Containers refuse system calls they do not know with either of these.
                Err(Errno::NOSYS | Errno::PERM) => self.use_openat2.store(false, Ordering::Relaxed),
                Err(error) => return Err(error.into()),
            }
        }
        let mut handle: Option<OwnedFd> = None;
        for component in path.split(|&byte| byte == b'/') {
            let above = handle.as_ref().map_or(from, |handle| handle.as_fd());
            handle = Some(rustix::fs::openat(above, component, flags, Mode::empty())?);
        }
        Ok(handle.ok_or(Errno::NOENT)?)
    }

    /// A panic in another thread leaves the table whole: it holds only handles.
    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an error says that nothing can lie at the path; a link on the way
/// is `ELOOP` to `openat2` and `ENOTDIR` to the walk by components.
pub(super) fn means_nothing_there(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    [Errno::NOENT, Errno::NOTDIR, Errno::LOOP]
        .iter()
        .any(|errno| Some(errno.raw_os_error()) == code)
}

/// Directory and last component of a checked path.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(cut) => (&path[..cut], &path[cut + 1..]),
        None => (b"", path),
    }
}

fn check(path: &[u8]) -> io::Result<()> {
    let wrong =
        |component: &[u8]| matches!(component, b"" | b"." | b"..") || component.contains(&0);
    if path.split(|&byte| byte == b'/').any(wrong) {
        let reason = "a path to restore has an empty component, '.', '..' or a NUL byte";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    Ok(())
}
