//! What the system says of one file: `statx`, link target, owners' names and
//! extended attributes, turned into a `Metadata`. Used by the walk; what to do
//! with it is decided there.

use std::ffi::CStr;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, FileType, Statx, StatxFlags};

use super::owners::OwnerNames;
use super::xattr::{Xattr, XattrReader};
use crate::format::entry::{EntryKind, Metadata, Timestamp};

/// The kind of anything that can lie in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NodeKind {
    /// What a snapshot can hold.
    Entry(EntryKind),
    /// A socket: it means nothing without the process that made it.
    Socket,
    /// A kind this program does not know.
    Other,
}

impl From<FileType> for NodeKind {
    fn from(kind: FileType) -> NodeKind {
        match kind {
            FileType::RegularFile => NodeKind::Entry(EntryKind::File),
            FileType::Directory => NodeKind::Entry(EntryKind::Directory),
            FileType::Symlink => NodeKind::Entry(EntryKind::Symlink),
            FileType::CharacterDevice => NodeKind::Entry(EntryKind::CharDevice),
            FileType::BlockDevice => NodeKind::Entry(EntryKind::BlockDevice),
            FileType::Fifo => NodeKind::Entry(EntryKind::Fifo),
            FileType::Socket => NodeKind::Socket,
            FileType::Unknown => NodeKind::Other,
        }
    }
}

/// `statx` with all this program wants to know.
pub(crate) fn stat(directory: BorrowedFd, name: &CStr, flags: AtFlags) -> io::Result<Statx> {
    Ok(rustix::fs::statx(directory, name, flags, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID)?)
}

pub(crate) fn kind_of(stat: &Statx) -> NodeKind {
    FileType::from_raw_mode(stat.stx_mode.into()).into()
}

/// The device number as `st_dev` gives it.
pub(crate) fn device_of(stat: &Statx) -> u64 {
    rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor)
}

/// The number of the mount, 0 where the kernel does not tell.
pub(crate) fn mount_of(stat: &Statx) -> u64 {
    if stat.stx_mask & StatxFlags::MNT_ID.bits() == 0 { 0 } else { stat.stx_mnt_id }
}

/// The part of the metadata that `statx` alone tells.
pub(crate) fn basics(stat: &Statx, kind: NodeKind) -> Metadata {
    let timestamp = |time: &rustix::fs::StatxTimestamp| Timestamp {
        seconds: time.tv_sec,
        nanoseconds: time.tv_nsec,
    };
    let is_device = matches!(kind, NodeKind::Entry(EntryKind::CharDevice | EntryKind::BlockDevice));
    Metadata {
        mode: u32::from(stat.stx_mode) & 0o7777,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        size: if kind == NodeKind::Entry(EntryKind::File) { stat.stx_size } else { 0 },
        mtime: timestamp(&stat.stx_mtime),
        ctime: timestamp(&stat.stx_ctime),
        inode: stat.stx_ino,
        device: is_device.then_some((stat.stx_rdev_major, stat.stx_rdev_minor)),
        ..Metadata::default()
    }
}

/// Completes metadata, remembering names and file systems from entry to entry.
pub(crate) struct Examiner {
    names: OwnerNames,
    xattrs: Option<XattrReader>,
}

impl Examiner {
    pub fn new(read_xattrs: bool) -> Examiner {
        Examiner { names: OwnerNames::default(), xattrs: read_xattrs.then(XattrReader::new) }
    }

    /// Metadata of `stat` with owners' names; target and attributes are still empty.
    pub fn metadata(&mut self, stat: &Statx, kind: EntryKind) -> Metadata {
        let mut metadata = basics(stat, NodeKind::Entry(kind));
        metadata.user = self.names.user(metadata.uid);
        metadata.group = self.names.group(metadata.gid);
        metadata
    }

    /// The extended attributes of `name` in `directory`; none if they are not wanted.
    pub fn xattrs(
        &mut self,
        directory: BorrowedFd,
        name: &[u8],
        absolute: &[u8],
        device: u64,
    ) -> io::Result<Vec<Xattr>> {
        match &mut self.xattrs {
            Some(reader) => reader.read(directory, name, absolute, device),
            None => Ok(Vec::new()),
        }
    }
}
