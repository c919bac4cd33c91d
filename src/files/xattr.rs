//! Extended attributes by directory handle and name: POSIX ACLs, capabilities
//! and `user.*` alike, as raw bytes. The kernel has no call that takes a
//! handle and a name, so the path goes through `/proc/self/fd/N/name`; it is
//! never longer than a call takes and follows no link. That lookup is slow, so
//! the plain path is asked first, and believed only when it says "none":
//! someone who swaps a directory for a link meanwhile can hide attributes of
//! what is his, but not lend his file the capabilities of another.

use std::ffi::CStr;
use std::io;
use std::io::Write;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use super::directory::PATH_MAX_BYTES;

/// What the kernel allows for a list of names and for one value (both 64 KiB).
const MAX_XATTR_BYTES: usize = 65_536;

/// What is offered first: the kernel allocates as much as a call has room for,
/// and clears it, even where there is nothing to say.
const FIRST_BYTES: usize = 1024;

/// A name and its value.
pub(crate) type Xattr = (Vec<u8>, Vec<u8>);

/// Reads attributes with buffers that are reused from entry to entry.
pub(crate) struct XattrReader {
    path: Vec<u8>,
    buffer: Vec<u8>,
    without: Vec<u64>,
    /// The last file had attributes: then the next is likely to have some (SELinux labels all).
    had_some: bool,
    proc_is_mounted: bool,
}

impl XattrReader {
    pub fn new() -> XattrReader {
        XattrReader {
            path: Vec::with_capacity(512),
            buffer: vec![0; MAX_XATTR_BYTES],
            without: Vec::new(),
            had_some: false,
            proc_is_mounted: rustix::fs::access(c"/proc/self/fd", rustix::fs::Access::EXISTS)
                .is_ok(),
        }
    }

    /// All readable attributes of `name` in `directory`, sorted by name.
    /// `absolute` serves where `/proc` is not mounted. A name that the system
    /// lists and then refuses to show is passed over. `device` is the file
    /// system: one that has no attributes is asked once.
    pub fn read(
        &mut self,
        directory: BorrowedFd,
        name: &[u8],
        absolute: &[u8],
        device: u64,
    ) -> io::Result<Vec<Xattr>> {
        if self.without.contains(&device) {
            return Ok(Vec::new());
        }
        if !self.had_some && name != b"." && self.plainly_none(absolute) {
            return Ok(Vec::new());
        }
        self.path.clear();
        if self.proc_is_mounted {
            self.path.extend_from_slice(b"/proc/self/fd/");
            write!(self.path, "{}/", directory.as_raw_fd())?;
            self.path.extend_from_slice(name);
        } else {
            self.path.extend_from_slice(absolute);
        }
        self.path.push(0);
        let path = CStr::from_bytes_with_nul(&self.path).map_err(|_| Errno::INVAL)?;
        match grown(&mut self.buffer, |buffer| rustix::fs::llistxattr(path, buffer)) {
            Ok(0) => {
                self.had_some = false;
                Ok(Vec::new())
            }
            Ok(length) => {
                self.had_some = true;
                let list = self.buffer[..length].to_vec();
                values(path, &list, &mut self.buffer)
            }
            Err(Errno::NOTSUP) => {
                self.without.push(device);
                Ok(Vec::new())
            }
            Err(Errno::ACCESS | Errno::PERM | Errno::NOENT) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the absolute path leads to something without attributes. A
    /// directory is not asked so: the path may name a link to it.
    fn plainly_none(&mut self, absolute: &[u8]) -> bool {
        absolute.len() < PATH_MAX_BYTES
            && rustix::fs::llistxattr(absolute, &mut self.buffer[..FIRST_BYTES]) == Ok(0)
    }
}

/// Calls with little room first.
fn grown(
    buffer: &mut [u8],
    call: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
) -> rustix::io::Result<usize> {
    match call(&mut buffer[..FIRST_BYTES]) {
        Err(Errno::RANGE) => call(buffer),
        told => told,
    }
}

fn values(path: &CStr, list: &[u8], buffer: &mut [u8]) -> io::Result<Vec<Xattr>> {
    let mut found = Vec::new();
    for name in list.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        match grown(buffer, |buffer| rustix::fs::lgetxattr(path, name, buffer)) {
            Ok(length) => found.push((name.to_vec(), buffer[..length].to_vec())),
            Err(Errno::ACCESS | Errno::PERM | Errno::NODATA | Errno::NOTSUP | Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// All attributes of what an open handle stands for, `O_PATH` handles of
/// symbolic links included; `path` is its [`handle_path`].
pub(crate) fn read_handle(path: &[u8]) -> io::Result<Vec<Xattr>> {
    let mut buffer = vec![0; 1024];
    let length = loop {
        match rustix::fs::listxattr(path, &mut buffer[..]) {
            Ok(length) => break length,
            Err(Errno::RANGE) if buffer.len() < MAX_XATTR_BYTES => {
                buffer.resize(MAX_XATTR_BYTES, 0)
            }
            Err(Errno::NOTSUP) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
    };
    let mut found = Vec::new();
    let list = buffer[..length].to_vec();
    for name in list.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        buffer.resize(MAX_XATTR_BYTES, 0);
        // A value that cannot be read counts as empty: it differs from any stored one and can still be removed.
        let length = rustix::fs::getxattr(path, name, &mut buffer[..]).unwrap_or(0);
        found.push((name.to_vec(), buffer[..length].to_vec()));
    }
    Ok(found)
}

/// The path by which calls that know no handle reach what a handle stands for.
pub(crate) fn handle_path(handle: BorrowedFd) -> Vec<u8> {
    format!("/proc/self/fd/{}", handle.as_raw_fd()).into_bytes()
}
