//! Directory handles: opening them, listing their names, and holding a whole
//! branch of them open without running out of file descriptors. Shared by the
//! walk, by reading and by writing back. No policy about what is saved.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawDir};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// One system call takes paths shorter than this (PATH_MAX counts the NUL).
pub(crate) const PATH_MAX_BYTES: usize = 4096;

/// Levels of one branch that stay open; deeper branches close their oldest
/// handles and reopen them on the way back up.
const MAX_OPEN_LEVELS: usize = 128;

/// How many files this process may have open.
pub fn open_file_limit() -> usize {
    getrlimit(Resource::Nofile)
        .current
        .map_or(usize::MAX, |limit| limit.try_into().unwrap_or(usize::MAX))
}

/// `openat` that does not touch the access time where the kernel allows that
/// (it does for the owner and for root).
pub(crate) fn open_quietly(
    directory: BorrowedFd,
    name: &CStr,
    flags: OFlags,
) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC;
    match rustix::fs::openat(directory, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => Ok(rustix::fs::openat(directory, name, flags, Mode::empty())?),
        other => Ok(other?),
    }
}

/// Opens the directory that holds the last component of an absolute path of
/// any length, and returns that last component (`.` for `/`). Symbolic links
/// on the way are followed; the caller compares what it finds with what it expects.
pub(crate) fn open_parent(path: &[u8]) -> io::Result<(OwnedFd, &[u8])> {
    let cut = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
    let name = path.get(cut + 1..).unwrap_or_default();
    let name = if name.is_empty() { b".".as_slice() } else { name };
    Ok((open_directory_path(&path[..cut])?, name))
}

/// Opens a directory by an absolute path of any length, as a handle for lookups only.
pub(crate) fn open_directory_path(path: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut handle = rustix::fs::openat(CWD, c"/", flags, Mode::empty())?;
    for group in path_groups(path.strip_prefix(b"/").unwrap_or(path)) {
        handle = rustix::fs::openat(&handle, group, flags, Mode::empty())?;
    }
    Ok(handle)
}

/// Splits a relative path at slashes into the fewest parts that one system
/// call takes each. An empty path has no parts.
pub(crate) fn path_groups(mut path: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        if path.is_empty() {
            return None;
        }
        if path.len() < PATH_MAX_BYTES {
            return Some(std::mem::take(&mut path));
        }
        let window = &path[..PATH_MAX_BYTES];
        // A component too long for one call is passed on whole: the kernel refuses it by name.
        let cut = window
            .iter()
            .rposition(|&byte| byte == b'/')
            .or_else(|| path.iter().position(|&byte| byte == b'/'));
        let cut = cut.unwrap_or(path.len());
        let group = &path[..cut];
        path = path.get(cut + 1..).unwrap_or_default();
        Some(group)
    })
}

/// The names of one directory in bytewise order, without `.` and `..`: one
/// buffer of NUL-terminated names and a table of places, so that a million
/// names cost little more than their bytes.
#[derive(Default)]
pub(crate) struct Names {
    bytes: Vec<u8>,
    places: Vec<(u32, u16)>,
}

impl Names {
    /// Reads all names of a directory opened for reading.
    pub fn read(directory: BorrowedFd, buffer: &mut [MaybeUninit<u8>]) -> io::Result<Names> {
        let mut names = Names::default();
        let mut entries = RawDir::new(directory, buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(name)?;
            }
        }
        names.sort();
        Ok(names)
    }

    /// Adds a name; [`Names::sort`] must follow before names are looked up.
    pub fn push(&mut self, name: &[u8]) -> io::Result<()> {
        let too_large = |_| {
            io::Error::new(
                io::ErrorKind::Unsupported,
                "the directory holds more than 4 GiB of names",
            )
        };
        let start = u32::try_from(self.bytes.len()).map_err(too_large)?;
        let length = u16::try_from(name.len()).map_err(too_large)?;
        self.bytes.extend_from_slice(name);
        self.bytes.push(0);
        self.places.push((start, length));
        Ok(())
    }

    pub fn sort(&mut self) {
        let bytes = &self.bytes;
        self.places.sort_unstable_by(|&a, &b| slice(bytes, a).cmp(slice(bytes, b)));
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn get(&self, position: usize) -> &[u8] {
        slice(&self.bytes, self.places[position])
    }

    pub fn contains(&self, name: &[u8]) -> bool {
        self.places.binary_search_by(|&place| slice(&self.bytes, place).cmp(name)).is_ok()
    }
}

fn slice(bytes: &[u8], (start, length): (u32, u16)) -> &[u8] {
    &bytes[start as usize..start as usize + length as usize]
}

/// A branch of open directories, from the topmost down. Only the last
/// [`MAX_OPEN_LEVELS`] hold a handle; the rest is found again through `..`,
/// and believed only if device and inode are those that were left.
#[derive(Default)]
pub(crate) struct Branch {
    levels: Vec<Level>,
}

struct Level {
    handle: Option<Rc<OwnedFd>>,
    device: u64,
    inode: u64,
}

impl Branch {
    pub fn push(&mut self, handle: OwnedFd, device: u64, inode: u64) {
        if let Some(oldest) = self.levels.len().checked_sub(MAX_OPEN_LEVELS) {
            self.levels[oldest].handle = None;
        }
        self.levels.push(Level { handle: Some(Rc::new(handle)), device, inode });
    }

    /// The deepest directory, unless it could not be found again.
    pub fn last(&self) -> Option<Rc<OwnedFd>> {
        self.levels.last()?.handle.clone()
    }

    /// Leaves the deepest directory. Fails if the one above had been closed
    /// and is no longer where it was; [`Branch::last`] is then `None` until
    /// [`Branch::restore`] or the next `pop`.
    pub fn pop(&mut self) -> io::Result<()> {
        let Some(left) = self.levels.pop() else {
            return Ok(());
        };
        let Some(level) = self.levels.last() else {
            return Ok(());
        };
        if level.handle.is_some() {
            return Ok(());
        }
        let Some(from) = left.handle else {
            return Err(moved());
        };
        // A handle for lookups is enough: names are listed before anything below is entered.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let above = rustix::fs::openat(&*from, c"..", flags, Mode::empty())?;
        self.restore(above)
    }

    /// Gives the deepest directory a newly opened handle, if it is the same directory.
    pub fn restore(&mut self, handle: OwnedFd) -> io::Result<()> {
        let stat = rustix::fs::statat(&handle, c"", AtFlags::EMPTY_PATH)?;
        match self.levels.last_mut() {
            Some(level) if level.device == stat.st_dev && level.inode == stat.st_ino => {
                level.handle = Some(Rc::new(handle))
            }
            _ => return Err(moved()),
        }
        Ok(())
    }
}

fn moved() -> io::Error {
    io::Error::other("the directory was moved or replaced while it was being read")
}
