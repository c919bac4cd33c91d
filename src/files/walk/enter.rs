//! The walk's way into and out of directories, and the passing on of items.
//! What is saved at all was decided before.

use std::ffi::CStr;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, Statx};

use super::roots::Wanted;
use super::{Child, FileSystem, Found, Frame, Item, LeftOut, Nearest, Walker};
use crate::files::directory::{Names, open_directory_path, open_quietly};
use crate::files::examine::{device_of, mount_of, stat};
use crate::format::entry::EntryKind;

const CACHE_TAG: &CStr = c"CACHEDIR.TAG";
const CACHE_TAG_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// A directory as far as it could be opened.
struct Opened {
    handle: Option<OwnedFd>,
    /// Its names can be read, not only names looked up in it.
    readable: bool,
    trouble: Option<io::Error>,
}

impl<'w> Walker<'w> {
    /// Passes on a directory and makes its contents the next to be walked.
    pub(super) fn enter(&mut self, mut child: Child<'_, 'w>) -> ControlFlow<()> {
        let mut foreign = is_foreign(&child);
        let opened = open(&child, child.saved && !foreign);
        if let Some(handle) = &opened.handle
            && let Ok(own) = stat(handle.as_fd(), c"", AtFlags::EMPTY_PATH)
        {
            // The handle's own word is what counts: opening may have mounted something.
            child.stat = own;
            foreign = is_foreign(&child);
        } else if opened
            .trouble
            .as_ref()
            .is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
        {
            return match child.wanted {
                None => self.leave_out(LeftOut::Vanished),
                wanted => self.fail(wanted, io::ErrorKind::NotFound.into()),
            };
        }
        let (holder, name) = match &opened.handle {
            Some(handle) => (handle, b".".as_slice()),
            None => (child.directory, child.name.to_bytes()),
        };
        self.found(holder, name, &child.stat, EntryKind::Directory, Vec::new(), !child.saved)?;
        if foreign {
            self.leave_out(LeftOut::OtherFileSystem)?;
        }
        if let Some(error) = opened.trouble {
            self.visit_failure(None, error)?;
        }
        let whole = child.saved && !foreign && opened.readable;
        match opened.handle {
            Some(handle) => self.list(handle, &child, whole),
            None => self.fail_below(child.wanted, "a directory above it could not be opened"),
        }
    }

    /// Lists a directory and puts it on top of the branch.
    fn list(&mut self, handle: OwnedFd, child: &Child<'_, 'w>, whole: bool) -> ControlFlow<()> {
        let mut names = Names::default();
        if whole {
            match Names::read(handle.as_fd(), &mut self.listing) {
                Ok(read) => names = read,
                Err(error) => self.visit_failure(None, error)?,
            }
            let may_be_cache = self.options.exclude_caches && !child.is_root();
            if may_be_cache && names.contains(CACHE_TAG.to_bytes()) && is_cache(handle.as_fd()) {
                self.leave_out(LeftOut::CacheDirectory)?;
                names = Names::default();
                names.push(CACHE_TAG.to_bytes()).unwrap_or_default();
            }
        }
        if let Some(wanted) = child.wanted {
            let missing: Vec<_> =
                wanted.below.keys().filter(|name| !names.contains(name)).collect();
            for name in &missing {
                // Only a name of more than 64 KiB is refused, and no directory holds one.
                names.push(name).unwrap_or_default();
            }
            if !missing.is_empty() {
                names.sort();
            }
        }
        let own = FileSystem::of(&child.stat);
        self.branch.push(handle, own.device, child.stat.stx_ino);
        self.frames.push(Frame {
            names,
            next: 0,
            path_length: self.path.len(),
            wanted: child.wanted,
            whole,
            nearest: match child.wanted.filter(|wanted| !wanted.roots.is_empty()) {
                None => child.nearest,
                Some(root) if root.options.is_empty() => {
                    Nearest { home: own, options: self.others }
                }
                Some(root) => Nearest { home: own, options: &root.options },
            },
        });
        ControlFlow::Continue(())
    }

    /// Goes back up. If the directory above had to be closed and cannot be
    /// found again, the rest of it is lost, and said so once.
    pub(super) fn leave(&mut self) -> ControlFlow<()> {
        self.frames.pop();
        let Err(error) = self.branch.pop() else {
            return ControlFlow::Continue(());
        };
        let Some(frame) = self.frames.last_mut() else {
            return ControlFlow::Continue(());
        };
        self.path.truncate(frame.path_length);
        if open_directory_path(&self.path).and_then(|handle| self.branch.restore(handle)).is_ok() {
            return ControlFlow::Continue(());
        }
        let rest = frame.next..frame.names.len();
        frame.next = frame.names.len();
        let wanted = frame.wanted;
        let lost: Vec<Vec<u8>> = rest.map(|position| frame.names.get(position).to_vec()).collect();
        if !lost.is_empty() {
            self.visit_failure(None, error)?;
        }
        for name in lost {
            if let Some(wanted) = wanted.and_then(|wanted| wanted.below.get(&name)) {
                self.fail_roots(
                    &wanted.all_roots(),
                    "a directory above it was moved while it was being read",
                )?;
            }
        }
        ControlFlow::Continue(())
    }

    /// Passes on an entry with its attributes.
    pub(super) fn found(
        &mut self,
        holder: &OwnedFd,
        name: &[u8],
        stat: &Statx,
        kind: EntryKind,
        target: Vec<u8>,
        implied_parent: bool,
    ) -> ControlFlow<()> {
        let device_id = device_of(stat);
        let mut metadata = self.examiner.metadata(stat, kind);
        metadata.target = target;
        let mut trouble = None;
        match self.examiner.xattrs(holder.as_fd(), name, &self.path, device_id) {
            Ok(xattrs) => metadata.xattrs = xattrs,
            Err(error) => trouble = Some(error),
        }
        let path = self.told_path();
        let links = u64::from(stat.stx_nlink);
        let found = Found {
            path,
            kind,
            metadata,
            links,
            device_id,
            mount_id: mount_of(stat),
            implied_parent,
        };
        (self.visit)(Item::Found(found))?;
        match trouble {
            Some(error) => {
                let reason = format!("its extended attributes could not be read: {error}");
                self.visit_failure(None, io::Error::new(error.kind(), reason))
            }
            None => ControlFlow::Continue(()),
        }
    }

    pub(super) fn leave_out(&mut self, why: LeftOut) -> ControlFlow<()> {
        let path = self.told_path();
        (self.visit)(Item::LeftOut { path, why })
    }

    /// Reports that the path at hand could not be looked at; every root at or
    /// beneath it is then missing.
    pub(super) fn fail(&mut self, wanted: Option<&Wanted>, error: io::Error) -> ControlFlow<()> {
        let Some(wanted) = wanted else {
            return self.visit_failure(None, error);
        };
        for number in wanted.all_roots() {
            let copy = match error.raw_os_error() {
                Some(code) => io::Error::from_raw_os_error(code),
                None => io::Error::new(error.kind(), error.to_string()),
            };
            self.visit_failure(Some(number), copy)?;
        }
        ControlFlow::Continue(())
    }

    /// Reports the roots strictly beneath the path at hand as unreachable.
    pub(super) fn fail_below(&mut self, wanted: Option<&Wanted>, reason: &str) -> ControlFlow<()> {
        let below = wanted.into_iter().flat_map(|wanted| wanted.below.values());
        let roots: Vec<usize> = below.flat_map(Wanted::all_roots).collect();
        self.fail_roots(&roots, reason)
    }

    fn fail_roots(&mut self, roots: &[usize], reason: &str) -> ControlFlow<()> {
        for &number in roots {
            self.visit_failure(Some(number), io::Error::other(reason.to_owned()))?;
        }
        ControlFlow::Continue(())
    }

    fn visit_failure(&mut self, root_missing: Option<usize>, error: io::Error) -> ControlFlow<()> {
        let path = self.told_path();
        (self.visit)(Item::Failed { path, root_missing, error })
    }

    fn told_path(&self) -> Vec<u8> {
        if self.path.is_empty() { b"/".to_vec() } else { self.path.clone() }
    }
}

/// Whether a directory's contents lie on another file system than its root, which stays on its own.
fn is_foreign(child: &Child<'_, '_>) -> bool {
    let other = FileSystem::of(&child.stat).device != child.nearest.home.device;
    other && child.saved && !child.is_root() && child.nearest.stays_on_its_file_system()
}

/// Opens a directory to read its names or, on the way to a root, only to look
/// names up, which needs fewer permissions and may go through a link.
fn open(child: &Child<'_, '_>, to_read: bool) -> Opened {
    let mut trouble = None;
    if to_read {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        match open_quietly(child.directory.as_fd(), child.name, flags) {
            Ok(handle) => {
                return Opened { handle: Some(handle), readable: true, trouble };
            }
            Err(error) => trouble = Some(error),
        }
    }
    if !child.leads_to_roots() {
        return Opened { handle: None, readable: false, trouble };
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::openat(child.directory, child.name, flags, Mode::empty()) {
        Ok(handle) => Opened { handle: Some(handle), readable: false, trouble },
        Err(error) => {
            Opened { handle: None, readable: false, trouble: trouble.or(Some(error.into())) }
        }
    }
}

/// Whether a directory's `CACHEDIR.TAG` begins as <https://bford.info/cachedir/> wants it.
fn is_cache(directory: BorrowedFd) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let Ok(tag) = open_quietly(directory, CACHE_TAG, flags) else {
        return false;
    };
    let mut start = [0; CACHE_TAG_SIGNATURE.len()];
    rustix::io::read(&tag, &mut start) == Ok(start.len()) && start == CACHE_TAG_SIGNATURE
}
