//! Setting metadata on what was restored. The order matters: a change of owner
//! clears capabilities and set-id bits, an ACL changes the mode's group bits,
//! and everything but the times must be done before the times.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::PoisonError;

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::Target;
use crate::files::examine::{NodeKind, basics, kind_of, stat};
use crate::files::owners::Owners;
use crate::files::xattr::{handle_path, read_handle};
use crate::format::entry::{EntryKind, Metadata};

/// A part of the metadata that could not be set; the rest was.
#[derive(Debug)]
pub enum Unset {
    Owner(io::Error),
    /// The set-user-id or set-group-id bit was withheld: the owner is not the
    /// snapshot's, and the bit would lend the rights of another.
    SetId,
    Mode(io::Error),
    Times(io::Error),
    Xattr(Vec<u8>, io::Error),
}

impl Target {
    /// Gives the entry at `path` (empty: the target itself) the metadata of a
    /// snapshot's entry. An error means that no entry of this kind lies there.
    pub fn set_metadata(
        &self,
        path: &[u8],
        kind: EntryKind,
        metadata: &Metadata,
        owners: Owners,
    ) -> io::Result<Vec<Unset>> {
        if path.is_empty() {
            return self.apply(self.top.as_fd(), kind, metadata, owners);
        }
        let (parent, name) = self.parent(path)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(&parent, &name, flags, Mode::empty())?;
        self.apply(handle.as_fd(), kind, metadata, owners)
    }

    /// The same for a file that is open, after all its bytes were written.
    pub fn set_file_metadata(
        &self,
        file: &File,
        metadata: &Metadata,
        owners: Owners,
    ) -> io::Result<Vec<Unset>> {
        self.apply(file.as_fd(), EntryKind::File, metadata, owners)
    }

    fn apply(
        &self,
        handle: BorrowedFd,
        kind: EntryKind,
        metadata: &Metadata,
        owners: Owners,
    ) -> io::Result<Vec<Unset>> {
        let seen = stat(handle, c"", AtFlags::EMPTY_PATH)?;
        if kind_of(&seen) != NodeKind::Entry(kind) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "something of another kind lies there",
            ));
        }
        let now = basics(&seen, NodeKind::Entry(kind));
        // Calls that take no O_PATH handle reach it by its path; a link stays a link there.
        let path = handle_path(handle);
        let mut unset = Vec::new();
        let owner_is_right = self.set_owner(handle, &now, metadata, owners, &mut unset)?;
        set_xattrs(&path, &metadata.xattrs, &mut unset);
        if kind != EntryKind::Symlink {
            let mut mode = metadata.mode & 0o7777;
            let set_ids = if kind == EntryKind::Directory { 0 } else { mode & 0o6000 };
            if set_ids != 0 && !owner_is_right {
                mode &= !set_ids;
                unset.push(Unset::SetId);
            }
            if let Err(error) = rustix::fs::chmodat(
                CWD,
                path.as_slice(),
                Mode::from_raw_mode(mode),
                AtFlags::empty(),
            ) {
                unset.push(Unset::Mode(error.into()));
            }
        }
        if let Err(error) = set_times(&path, metadata) {
            unset.push(Unset::Times(error));
        }
        Ok(unset)
    }

    /// Sets user and group; says whether both are now those of the snapshot.
    fn set_owner(
        &self,
        handle: BorrowedFd,
        now: &Metadata,
        metadata: &Metadata,
        owners: Owners,
        unset: &mut Vec<Unset>,
    ) -> io::Result<bool> {
        let (uid, gid) = self.wanted_owner(metadata, owners);
        if owners.skip || (now.uid, now.gid) == (uid, gid) {
            return Ok((now.uid, now.gid) == (uid, gid));
        }
        // All ones means "leave as it is" to the kernel and can be no owner.
        if uid == u32::MAX || gid == u32::MAX {
            unset.push(Unset::Owner(Errno::INVAL.into()));
            return Ok(false);
        }
        let (user, group) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        let Err(error) = rustix::fs::chownat(handle, c"", user, group, AtFlags::EMPTY_PATH) else {
            return Ok(true);
        };
        // A user may still give a file to another of his own groups.
        let group_alone = rustix::fs::chownat(handle, c"", None, group, AtFlags::EMPTY_PATH);
        if now.uid == uid && group_alone.is_ok() {
            return Ok(true);
        }
        unset.push(Unset::Owner(error.into()));
        Ok(false)
    }

    /// The owner a snapshot's entry should have here: by name where the name
    /// exists on this system, else by number.
    fn wanted_owner(&self, metadata: &Metadata, owners: Owners) -> (u32, u32) {
        let (mut uid, mut gid) = (metadata.uid, metadata.gid);
        if !owners.numeric {
            let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
            if !metadata.user.is_empty() {
                uid = numbers.user(&metadata.user).unwrap_or(uid);
            }
            if !metadata.group.is_empty() {
                gid = numbers.group(&metadata.group).unwrap_or(gid);
            }
        }
        (uid, gid)
    }
}

/// Sets the stored attributes and removes those that the snapshot did not
/// have, as far as they are the user's or grant rights.
fn set_xattrs(path: &[u8], wanted: &[(Vec<u8>, Vec<u8>)], unset: &mut Vec<Unset>) {
    let present = read_handle(path).unwrap_or_default();
    for (name, _) in &present {
        let stays = wanted.iter().any(|(wanted, _)| wanted == name) || !is_ours_to_remove(name);
        if !stays && let Err(error) = rustix::fs::removexattr(path, name.as_slice()) {
            unset.push(Unset::Xattr(name.clone(), error.into()));
        }
    }
    for (name, value) in wanted {
        if present
            .iter()
            .any(|(present, current)| present == name && current == value && !value.is_empty())
        {
            continue;
        }
        if let Err(error) = rustix::fs::setxattr(path, name.as_slice(), value, XattrFlags::empty())
        {
            unset.push(Unset::Xattr(name.clone(), error.into()));
        }
    }
}

fn is_ours_to_remove(name: &[u8]) -> bool {
    name.starts_with(b"user.")
        || name.starts_with(b"system.posix_acl_")
        || name == b"security.capability"
}

/// The access time becomes the modification time: no snapshot keeps it.
fn set_times(path: &[u8], metadata: &Metadata) -> io::Result<()> {
    let time =
        Timespec { tv_sec: metadata.mtime.seconds, tv_nsec: i64::from(metadata.mtime.nanoseconds) };
    if !(0..1_000_000_000).contains(&time.tv_nsec) {
        return Err(Errno::INVAL.into());
    }
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::empty())?)
}
