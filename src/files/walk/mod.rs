//! A sorted depth-first walk over several roots: one stream in the order of
//! esker's tree, which is the bytewise order of absolute paths with `/` read
//! as NUL. Who reads the files, and what is unchanged, is decided elsewhere.
//!
//! Roots merge into one stream without duplicates that begins with `/`; the
//! directories above a root come as entries of their own without their other
//! children. A root that is a symbolic link is saved as one. A link *above* a
//! root is entered as the directory it leads to — unless that link is itself
//! saved by another root: then it stays a link and the root beneath it fails.
//!
//! Rules apply to what lies beneath a root, not to the root, which was named,
//! nor to the implied directories above; a root inside an excluded directory is
//! still walked. The nearest root decides what is left out: see [`RootOptions`].

mod enter;
mod item;
mod roots;

use std::collections::HashSet;
use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{AtFlags, Statx};

use self::roots::Wanted;
use super::directory::{Branch, Names, open_directory_path};
use super::examine::{Examiner, NodeKind, device_of, kind_of, mount_of, stat};
use crate::format::entry::EntryKind;

pub use self::item::{Found, Item, LeftOut, RootOptions, WalkCounts, WalkOptions};
pub use self::roots::absolute;

/// The longest path that is saved.
pub const MAX_PATH_BYTES: usize = 65_000;

const LISTING_BUFFER_BYTES: usize = 64 << 10;

/// Walks `roots` (absolute and normalised, see [`absolute`]) and passes each
/// item on until `visit` breaks off. Without roots there is nothing to tell.
pub fn walk(
    roots: &[PathBuf],
    options: &WalkOptions,
    visit: &mut dyn FnMut(Item) -> ControlFlow<()>,
) -> WalkCounts {
    let wanted = Wanted::new(roots, options);
    let others =
        [RootOptions { one_file_system: options.one_file_system, rules: options.rules.clone() }];
    let mut walker = Walker {
        options,
        others: &others,
        visit,
        examiner: Examiner::new(options.read_xattrs),
        leave_out: identities(&options.leave_out),
        path: Vec::with_capacity(512),
        frames: Vec::new(),
        branch: Branch::default(),
        listing: vec![MaybeUninit::uninit(); LISTING_BUFFER_BYTES],
        counts: WalkCounts::default(),
    };
    if !roots.is_empty() {
        // Breaking off is how the caller stops the walk; it is no error here.
        let _ = walker.run(&wanted);
    }
    walker.counts
}

/// Device and inode of what exists among `paths`, links followed.
fn identities(paths: &[PathBuf]) -> HashSet<(u64, u64)> {
    let look = |path: &PathBuf| rustix::fs::stat(path).ok().map(|stat| (stat.st_dev, stat.st_ino));
    paths.iter().filter_map(look).collect()
}

struct Walker<'w> {
    options: &'w WalkOptions,
    /// Of roots that have none of their own.
    others: &'w [RootOptions],
    visit: &'w mut dyn FnMut(Item) -> ControlFlow<()>,
    examiner: Examiner,
    leave_out: HashSet<(u64, u64)>,
    /// The path at hand without a trailing slash: empty for `/`.
    path: Vec<u8>,
    /// The directories being read, from `/` down, and their handles.
    frames: Vec<Frame<'w>>,
    branch: Branch,
    listing: Vec<MaybeUninit<u8>>,
    counts: WalkCounts,
}

struct Frame<'w> {
    names: Names,
    next: usize,
    path_length: usize,
    wanted: Option<&'w Wanted>,
    /// All of this directory is wanted, not only the way to a root.
    whole: bool,
    nearest: Nearest<'w>,
}

/// The root that is nearest to a place: what it says counts there.
#[derive(Clone, Copy)]
struct Nearest<'w> {
    /// The file system the walk stays on, if it stays on one.
    home: FileSystem,
    /// More than one if the root was given twice; none on the way to a root.
    options: &'w [RootOptions],
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct FileSystem {
    device: u64,
    mount: u64,
}

/// A child as the walk first sees it.
struct Child<'c, 'w> {
    directory: &'c OwnedFd,
    name: &'c CStr,
    stat: Statx,
    wanted: Option<&'w Wanted>,
    /// It is saved itself, not only passed through.
    saved: bool,
    nearest: Nearest<'w>,
}

impl Child<'_, '_> {
    fn is_root(&self) -> bool {
        self.wanted.is_some_and(|wanted| !wanted.roots.is_empty())
    }

    fn leads_to_roots(&self) -> bool {
        self.wanted.is_some_and(|wanted| !wanted.below.is_empty())
    }
}

impl Nearest<'_> {
    fn stays_on_its_file_system(&self) -> bool {
        !self.options.is_empty() && self.options.iter().all(|options| options.one_file_system)
    }

    fn excludes(&self, path: &[u8], is_directory: bool) -> bool {
        let excludes = |options: &RootOptions| {
            options.rules.as_ref().is_some_and(|rules| rules.exclude(path, is_directory))
        };
        !self.options.is_empty() && self.options.iter().all(excludes)
    }
}

impl<'w> Walker<'w> {
    fn run(&mut self, wanted: &'w Wanted) -> ControlFlow<()> {
        let mut name = Vec::with_capacity(256);
        self.start(wanted)?;
        while let Some(frame) = self.frames.last_mut() {
            self.path.truncate(frame.path_length);
            if frame.next == frame.names.len() {
                self.leave()?;
                continue;
            }
            name.clear();
            name.extend_from_slice(frame.names.get(frame.next));
            frame.next += 1;
            self.path.push(b'/');
            self.path.extend_from_slice(&name);
            name.push(0);
            self.child(&name)?;
        }
        ControlFlow::Continue(())
    }

    fn start(&mut self, wanted: &'w Wanted) -> ControlFlow<()> {
        let top = open_directory_path(b"").and_then(|handle| {
            let stat = stat(handle.as_fd(), c".", AtFlags::empty())?;
            Ok((handle, stat))
        });
        match top {
            Ok((handle, stat)) => {
                let nearest = Nearest { home: FileSystem::of(&stat), options: &[] };
                let saved = !wanted.roots.is_empty();
                self.enter(Child {
                    directory: &handle,
                    name: c".",
                    stat,
                    wanted: Some(wanted),
                    saved,
                    nearest,
                })
            }
            Err(error) => self.fail(Some(wanted), error),
        }
    }

    /// Looks at one name of the deepest directory.
    fn child(&mut self, name: &[u8]) -> ControlFlow<()> {
        let (Some(frame), Ok(name)) = (self.frames.last(), CStr::from_bytes_with_nul(name)) else {
            return ControlFlow::Continue(());
        };
        let wanted = frame.wanted.and_then(|wanted| wanted.below.get(name.to_bytes()));
        let saved = frame.whole || wanted.is_some_and(|wanted| !wanted.roots.is_empty());
        let nearest = frame.nearest;
        if self.path.len() > MAX_PATH_BYTES {
            let reason = format!("the path is longer than {MAX_PATH_BYTES} bytes");
            return self.fail(wanted, io::Error::new(io::ErrorKind::InvalidFilename, reason));
        }
        let Some(directory) = self.branch.last() else {
            return self
                .fail(wanted, io::Error::other("its directory was moved while it was being read"));
        };
        match look(directory.as_fd(), name, saved) {
            Ok(stat) => {
                self.sort_out(Child { directory: &directory, name, stat, wanted, saved, nearest })
            }
            Err(error) if wanted.is_none() && error.kind() == io::ErrorKind::NotFound => {
                self.leave_out(LeftOut::Vanished)
            }
            Err(error) => self.fail(wanted, error),
        }
    }

    /// Decides what becomes of a child.
    fn sort_out(&mut self, mut child: Child<'_, 'w>) -> ControlFlow<()> {
        let kind = kind_of(&child.stat);
        let is_directory = kind == NodeKind::Entry(EntryKind::Directory);
        if !self.leave_out.is_empty()
            && self.leave_out.contains(&(device_of(&child.stat), child.stat.stx_ino))
        {
            self.leave_out(LeftOut::OwnRepository)?;
            return self.fail_below(child.wanted, "it lies in a directory that is left out");
        }
        if child.saved && !child.is_root() && child.nearest.excludes(&self.path, is_directory) {
            self.counts.excluded += 1;
            if self.options.report_excluded {
                self.leave_out(LeftOut::Excluded)?;
            }
            if !(is_directory && child.leads_to_roots()) {
                return self.fail_below(
                    child.wanted,
                    "it would lie beneath something that is no directory",
                );
            }
            child.saved = false;
        }
        if is_directory {
            return self.enter(child);
        }
        if child.saved {
            self.leaf(&child, kind)?;
        } else {
            return self.fail(child.wanted, io::ErrorKind::NotADirectory.into());
        }
        self.fail_below(
            child.wanted,
            "a link or file above it is saved as such; name the real path of this root",
        )
    }

    /// Passes on anything but a directory.
    fn leaf(&mut self, child: &Child<'_, 'w>, kind: NodeKind) -> ControlFlow<()> {
        let NodeKind::Entry(kind) = kind else {
            return self.leave_out(LeftOut::Socket);
        };
        let lies_in = FileSystem::of(&child.stat);
        // On overlay file systems files report other devices than their directory on the same mount.
        let home = child.nearest.home;
        let foreign =
            lies_in.device != home.device && (lies_in.mount == 0 || lies_in.mount != home.mount);
        if foreign && !child.is_root() && child.nearest.stays_on_its_file_system() {
            return self.leave_out(LeftOut::OtherFileSystem);
        }
        let limit = self.options.exclude_larger_than.unwrap_or(u64::MAX);
        if kind == EntryKind::File && child.stat.stx_size > limit && !child.is_root() {
            return self.leave_out(LeftOut::TooLarge);
        }
        let mut target = Vec::new();
        if kind == EntryKind::Symlink {
            match rustix::fs::readlinkat(child.directory, child.name, Vec::new()) {
                Ok(read) => target = read.into_bytes(),
                Err(rustix::io::Errno::NOENT) => return self.leave_out(LeftOut::Vanished),
                Err(error) => return self.fail(child.wanted, error.into()),
            }
        }
        self.found(child.directory, child.name.to_bytes(), &child.stat, kind, target, false)
    }
}

impl FileSystem {
    fn of(stat: &Statx) -> FileSystem {
        FileSystem { device: device_of(stat), mount: mount_of(stat) }
    }
}

/// Links above roots are followed, links that are saved are not.
fn look(directory: BorrowedFd, name: &CStr, saved: bool) -> io::Result<Statx> {
    let seen = stat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if !saved && kind_of(&seen) == NodeKind::Entry(EntryKind::Symlink) {
        return stat(directory, name, AtFlags::empty());
    }
    Ok(seen)
}
