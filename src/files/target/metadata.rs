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
            return self.apply(&Node::By(self.top.as_fd()), kind, metadata, owners);
        }
        let (parent, name) = self.parent(path)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(&parent, &name, flags, Mode::empty())?;
        self.apply(&Node::By(handle.as_fd()), kind, metadata, owners)
    }

    /// The same for a file that is open, after all its bytes were written.
    pub fn set_file_metadata(
        &self,
        file: &File,
        metadata: &Metadata,
        owners: Owners,
    ) -> io::Result<Vec<Unset>> {
        self.apply(&Node::Open(file.as_fd()), EntryKind::File, metadata, owners)
    }

    /// Sets what differs and nothing else, so that what is right already does
    /// not look changed to the next backup.
    fn apply(
        &self,
        node: &Node<'_>,
        kind: EntryKind,
        metadata: &Metadata,
        owners: Owners,
    ) -> io::Result<Vec<Unset>> {
        let seen = stat(node.handle(), c"", AtFlags::EMPTY_PATH)?;
        if kind_of(&seen) != NodeKind::Entry(kind) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "something of another kind lies there",
            ));
        }
        let now = basics(&seen, NodeKind::Entry(kind));
        let mut unset = Vec::new();
        let owner = self.set_owner(node.handle(), &now, metadata, owners, &mut unset)?;
        let attributes_changed = set_xattrs(node, &metadata.xattrs, &mut unset);
        if kind != EntryKind::Symlink {
            let mut mode = metadata.mode & 0o7777;
            let set_ids = if kind == EntryKind::Directory { 0 } else { mode & 0o6000 };
            if set_ids != 0 && !owner.is_right {
                mode &= !set_ids;
                unset.push(Unset::SetId);
            }
            // both calls before this one may have changed the mode
            if (mode != now.mode || owner.changed || attributes_changed)
                && let Err(error) = node.set_mode(mode)
            {
                unset.push(Unset::Mode(error));
            }
        }
        if now.mtime != metadata.mtime
            && let Err(error) = node.set_times(metadata)
        {
            unset.push(Unset::Times(error));
        }
        Ok(unset)
    }

    /// Sets user and group.
    fn set_owner(
        &self,
        handle: BorrowedFd,
        now: &Metadata,
        metadata: &Metadata,
        owners: Owners,
        unset: &mut Vec<Unset>,
    ) -> io::Result<Owner> {
        let (uid, gid) = self.wanted_owner(metadata, owners);
        if owners.skip || (now.uid, now.gid) == (uid, gid) {
            return Ok(Owner { is_right: (now.uid, now.gid) == (uid, gid), changed: false });
        }
        // All ones means "leave as it is" to the kernel and can be no owner.
        if uid == u32::MAX || gid == u32::MAX {
            unset.push(Unset::Owner(Errno::INVAL.into()));
            return Ok(Owner { is_right: false, changed: false });
        }
        let (user, group) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        let Err(error) = rustix::fs::chownat(handle, c"", user, group, AtFlags::EMPTY_PATH) else {
            return Ok(Owner { is_right: true, changed: true });
        };
        // A user may still give a file to another of his own groups.
        let group_alone = rustix::fs::chownat(handle, c"", None, group, AtFlags::EMPTY_PATH);
        if now.uid == uid && group_alone.is_ok() {
            return Ok(Owner { is_right: true, changed: true });
        }
        unset.push(Unset::Owner(error.into()));
        Ok(Owner { is_right: false, changed: group_alone.is_ok() })
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

/// How an owner came out.
struct Owner {
    /// Both are now those of the snapshot.
    is_right: bool,
    changed: bool,
}

/// What metadata is set on. An `O_PATH` handle is reached by its path, since
/// the calls take none: a link stays a link there. An open file is spared that.
enum Node<'a> {
    By(BorrowedFd<'a>),
    Open(BorrowedFd<'a>),
}

impl Node<'_> {
    fn handle(&self) -> BorrowedFd<'_> {
        match self {
            Node::By(handle) | Node::Open(handle) => *handle,
        }
    }

    fn set_mode(&self, mode: u32) -> io::Result<()> {
        let mode = Mode::from_raw_mode(mode);
        match self {
            Node::Open(file) => Ok(rustix::fs::fchmod(file, mode)?),
            Node::By(handle) => {
                let path = handle_path(*handle);
                Ok(rustix::fs::chmodat(CWD, path.as_slice(), mode, AtFlags::empty())?)
            }
        }
    }

    /// The access time becomes the modification time: no snapshot keeps it.
    fn set_times(&self, metadata: &Metadata) -> io::Result<()> {
        let time = Timespec {
            tv_sec: metadata.mtime.seconds,
            tv_nsec: i64::from(metadata.mtime.nanoseconds),
        };
        if !(0..1_000_000_000).contains(&time.tv_nsec) {
            return Err(Errno::INVAL.into());
        }
        let times = Timestamps { last_access: time, last_modification: time };
        match self {
            Node::Open(file) => Ok(rustix::fs::futimens(file, &times)?),
            Node::By(handle) => {
                let path = handle_path(*handle);
                Ok(rustix::fs::utimensat(CWD, path.as_slice(), &times, AtFlags::empty())?)
            }
        }
    }

    fn has_no_xattrs(&self) -> bool {
        // with room for something, so that an answer of 0 can only mean nothing
        let mut buffer = [0u8; 64];
        match self {
            Node::Open(file) => rustix::fs::flistxattr(file, &mut buffer[..]) == Ok(0),
            Node::By(handle) => {
                rustix::fs::listxattr(handle_path(*handle), &mut buffer[..]) == Ok(0)
            }
        }
    }
}

/// Sets the stored attributes and removes those that the snapshot did not
/// have, as far as they are the user's or grant rights. Says whether it did
/// anything.
fn set_xattrs(node: &Node<'_>, wanted: &[(Vec<u8>, Vec<u8>)], unset: &mut Vec<Unset>) -> bool {
    if wanted.is_empty() && node.has_no_xattrs() {
        return false;
    }
    let mut changed = false;
    let path = handle_path(node.handle());
    let present = read_handle(&path).unwrap_or_default();
    for (name, _) in &present {
        let stays = wanted.iter().any(|(wanted, _)| wanted == name) || !is_ours_to_remove(name);
        if stays {
            continue;
        }
        changed = true;
        if let Err(error) = rustix::fs::removexattr(path.as_slice(), name.as_slice()) {
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
        changed = true;
        if let Err(error) =
            rustix::fs::setxattr(path.as_slice(), name.as_slice(), value, XattrFlags::empty())
        {
            unset.push(Unset::Xattr(name.clone(), error.into()));
        }
    }
    changed
}

fn is_ours_to_remove(name: &[u8]) -> bool {
    name.starts_with(b"user.")
        || name.starts_with(b"system.posix_acl_")
        || name == b"security.capability"
}
