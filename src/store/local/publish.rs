//! Giving a finished file its key without replacing anything, by the best way the file system has.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, RenameFlags, linkat, renameat, renameat_with, statat, unlinkat};
use rustix::io::Errno;

/// Moves `from` to `to`, both beneath `root`; `AlreadyExists` if `to` is there, `NotFound` if its directory is not.
///
/// 1. `renameat2(RENAME_NOREPLACE)`: atomic. Missing on NFS and many FUSE file systems.
/// 2. `link`, then `unlink`: atomic. Missing on FAT, exFAT, many FUSE and SMB mounts.
/// 3. Look, then `rename`: the object still appears whole or not at all, but the look can lose against another
///    process, whose object is then replaced. Names that are hashes or random cannot be hurt by that; for the few
///    others (`config`, the first key) it takes two `init` in the same instant. Claiming the name with an empty file
///    first would close this and open worse: after a crash an empty object under a valid key.
pub(super) fn publish(root: BorrowedFd<'_>, from: &str, to: &str) -> io::Result<()> {
    match rename_without_replacing(root, from, to) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
        result => return Ok(result?),
    }
    match link_and_unlink(root, from, to) {
        Err(Errno::PERM | Errno::NOTSUP | Errno::NOSYS | Errno::INVAL | Errno::MLINK) => {}
        result => return Ok(result?),
    }
    Ok(look_and_rename(root, from, to)?)
}

fn rename_without_replacing(root: BorrowedFd<'_>, from: &str, to: &str) -> rustix::io::Result<()> {
    renameat_with(root, from, root, to, RenameFlags::NOREPLACE)
}

fn link_and_unlink(root: BorrowedFd<'_>, from: &str, to: &str) -> rustix::io::Result<()> {
    linkat(root, from, root, to, AtFlags::empty())?;
    // The object is in place; a second name left in `tmp/` is cleaned like any other remains.
    let _ = unlinkat(root, from, AtFlags::empty());
    Ok(())
}

fn look_and_rename(root: BorrowedFd<'_>, from: &str, to: &str) -> rustix::io::Result<()> {
    /// Within one process the look at least does not race.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    match statat(root, to, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Err(Errno::EXIST),
        Err(Errno::NOENT) => renameat(root, from, root, to),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd;

    use super::*;

    type Way = fn(BorrowedFd<'_>, &str, &str) -> rustix::io::Result<()>;

    /// Every way moves to a free name, and touches neither file when the name is taken or its directory missing.
    #[test]
    fn each_way_moves_and_never_replaces() {
        for way in [rename_without_replacing as Way, link_and_unlink, look_and_rename] {
            let directory = tempfile::tempdir().expect("tempdir");
            let root = File::open(directory.path()).expect("open");
            let path = |name: &str| directory.path().join(name);
            fs::write(path("from"), "new").expect("write");

            assert_eq!(way(root.as_fd(), "from", "absent/to"), Err(Errno::NOENT));
            assert_eq!(way(root.as_fd(), "from", "to"), Ok(()));
            assert!(!path("from").exists());

            fs::write(path("from"), "other").expect("write");
            assert_eq!(way(root.as_fd(), "from", "to"), Err(Errno::EXIST));
            assert_eq!(fs::read(path("to")).expect("read"), b"new");
            assert_eq!(fs::read(path("from")).expect("read"), b"other");
        }
    }
}
