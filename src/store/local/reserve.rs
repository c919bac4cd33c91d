//! The file that is given up when the disk is full. Deleting from a full store needs room for the announcement of
//! what is deleted (and, on copy-on-write file systems, for the deletion itself).

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{self, AtFlags, FallocateFlags, Mode, OFlags};
use rustix::io::Errno;

use super::super::key::RESERVE;
use super::sync_directory;

const WRITE_BYTES: usize = 64 << 10;

/// Makes the reserve, unless one of at least this length is there. A shorter one, left by a crash, is made anew.
pub(super) fn create(root: BorrowedFd<'_>, length: u64) -> io::Result<()> {
    match fs::statat(root, RESERVE, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if u64::try_from(stat.st_size).is_ok_and(|there| there >= length) => return Ok(()),
        Ok(_) => drop(release(root)?),
        Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = match fs::openat(root, RESERVE, flags, Mode::RUSR | Mode::WUSR) {
        // Another process is at it.
        Err(Errno::EXIST) => return Ok(()),
        result => File::from(result?),
    };
    let filled =
        fill(&file, length).and_then(|()| file.sync_all()).and_then(|()| sync_directory(root));
    if filled.is_err() {
        let _ = fs::unlinkat(root, RESERVE, AtFlags::empty());
    }
    filled
}

/// Whether there is a reserve, of whatever length.
pub(super) fn exists(root: BorrowedFd<'_>) -> io::Result<bool> {
    match fs::statat(root, RESERVE, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Removes the reserve; `true` if there was one.
pub(super) fn release(root: BorrowedFd<'_>) -> io::Result<bool> {
    match fs::unlinkat(root, RESERVE, AtFlags::empty()) {
        Ok(()) => sync_directory(root).map(|()| true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Occupies the space for real: by allocation, or by bytes that no file system can compress away.
fn fill(mut file: &File, length: u64) -> io::Result<()> {
    match rustix::io::retry_on_intr(|| {
        fs::fallocate(file.as_fd(), FallocateFlags::empty(), 0, length)
    }) {
        Err(Errno::NOTSUP | Errno::NOSYS | Errno::INVAL) => {}
        result => return Ok(result?),
    }
    let mut noise = blake3::Hasher::new().finalize_xof();
    let mut piece = vec![0; WRITE_BYTES];
    let mut left = length;
    while left > 0 {
        noise.fill(&mut piece);
        let now = left.min(WRITE_BYTES as u64);
        file.write_all(&piece[..now as usize])?;
        left -= now;
    }
    Ok(())
}
