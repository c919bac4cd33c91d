//! Reading a file that the walk found: opening exactly that file, noticing
//! whether it changed meanwhile, and where a sparse file holds data. What the
//! bytes become is not decided here.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Advice, AtFlags, CWD, FileType, OFlags, SeekFrom};
use rustix::io::Errno;

use super::directory::{PATH_MAX_BYTES, open_parent, open_quietly};
use super::examine::{basics, kind_of, stat};
use crate::format::entry::Metadata;

/// Of files shorter than this the system is asked for all bytes, to be there when
/// they are read.
const SHORT_FILE: i64 = 2 << 20;

/// Opens the regular file at an absolute path of any length for reading,
/// without touching its access time where that is allowed and without ever
/// waiting on a pipe. It must be the inode that was found: anything put in its
/// place, also by a link in a directory above, is an error of kind
/// [`io::ErrorKind::StaleNetworkFileHandle`].
pub fn open(path: &Path, inode: u64, device_id: u64) -> io::Result<File> {
    let bytes = path.as_os_str().as_bytes();
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let handle = if bytes.len() < PATH_MAX_BYTES {
        open_quietly(CWD, &std::ffi::CString::new(bytes)?, flags)?
    } else {
        let (parent, name) = open_parent(bytes)?;
        open_quietly(parent.as_fd(), &std::ffi::CString::new(name)?, flags)?
    };
    let now = rustix::fs::fstat(&handle)?;
    let is_file = FileType::from_raw_mode(now.st_mode) == FileType::RegularFile;
    if !is_file || now.st_ino != inode || now.st_dev != device_id {
        let reason = "it was replaced by something else while the backup ran";
        return Err(io::Error::new(io::ErrorKind::StaleNetworkFileHandle, reason));
    }
    // Advice only: a file system that takes none is read all the same.
    let advice = if now.st_size < SHORT_FILE { Advice::WillNeed } else { Advice::Sequential };
    let _ = rustix::fs::fadvise(&handle, 0, None, advice);
    Ok(File::from(handle))
}

/// Whether an open file is still as the walk saw it, in size, times and inode.
/// Asked after reading, it tells whether what was read can be trusted to be one state.
pub fn unchanged(file: &File, expected: &Metadata) -> io::Result<bool> {
    let now = current(file.as_fd())?;
    Ok(now.size == expected.size
        && now.mtime == expected.mtime
        && now.ctime == expected.ctime
        && now.inode == expected.inode)
}

/// The present size, mode, owners' numbers, times and inode of an open file;
/// names, target and attributes stay empty.
pub fn current(file: BorrowedFd) -> io::Result<Metadata> {
    let now = stat(file, c"", AtFlags::EMPTY_PATH)?;
    Ok(basics(&now, kind_of(&now)))
}

/// The ranges of the first `size` bytes that hold data, in order; what lies
/// between is holes. One range over all if the file system does not tell.
/// The file's position is moved.
pub fn data_ranges(file: BorrowedFd, size: u64) -> io::Result<Vec<Range<u64>>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    let mut position = 0;
    while position < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(position)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => {
                return Ok(Vec::from([Range { start: 0, end: size }]));
            }
            Err(error) => return Err(error.into()),
        };
        if start >= size {
            break;
        }
        // The file may be cut short between the two calls: then its end is the end of data.
        let end = match rustix::fs::seek(file, SeekFrom::Hole(start)) {
            Ok(end) => end.min(size),
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        if end <= start {
            break;
        }
        ranges.push(start..end);
        position = end;
    }
    Ok(ranges)
}
