//! The one pass over the tree: makes directories, links and nodes at once,
//! plans files into windows, and gives a directory its metadata when all that
//! goes into it is there.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Overwrite;
use super::context::Context;
use super::fetch::{Job, Pool, Want};
use super::file::{FileJob, Trouble, Way, reads_as_zeros, same_content};
use super::report::Parent;
use super::scope::{Chosen, Scope, Step, is_below};
use super::window::{LeftDirectory, Link, Told, Window};
use crate::files::{Existing, NodeKind};
use crate::format::content::{Content, Item};
use crate::format::entry::{Entry, EntryKind, Metadata};
use crate::repository::{Error, ErrorKind, Result};

/// Longest value of an extended attribute, in bytes, as Linux allows.
const MAX_XATTR: u64 = 64 << 10;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Made {
    /// Only if something beneath it is chosen.
    NotYet,
    New,
    Existed,
    /// It could not or must not be made: nothing beneath it is restored.
    Blocked,
}

/// A directory whose entries are being passed.
struct Open {
    key: Vec<u8>,
    path: Vec<u8>,
    metadata: Metadata,
    only_on_the_way: bool,
    made: Made,
}

pub(super) struct Planner<'a> {
    context: &'a Context<'a>,
    pool: &'a Pool,
    scope: &'a Scope,
    /// Whether this restore made the target directory.
    target_is_new: bool,
    open: Vec<Open>,
    window: Window,
    /// What waits for the window that the threads work on.
    running: Option<Window>,
    /// Hard-linked files that are planned and may not be there yet.
    planned_groups: HashSet<u64>,
    /// Names directly in the target that came from one component of the tree.
    top_names: HashSet<Vec<u8>>,
}

/// The directory a path beneath the target lies in.
fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(b"", |at| &path[..at])
}

fn is_directory(existing: &Existing) -> bool {
    existing.kind == NodeKind::Entry(EntryKind::Directory)
}

impl<'a> Planner<'a> {
    pub fn new(
        context: &'a Context<'a>,
        pool: &'a Pool,
        scope: &'a Scope,
        target_is_new: bool,
    ) -> Planner<'a> {
        Planner {
            context,
            pool,
            scope,
            target_is_new,
            open: Vec::new(),
            window: Window::default(),
            running: None,
            planned_groups: HashSet::new(),
            top_names: HashSet::new(),
        }
    }

    pub fn run(&mut self, chosen: Chosen<'_>) -> Result<()> {
        let done = self.pass(chosen);
        if done.is_err() {
            // what is there gets what is known of it, so that the next run finds
            // whole what is whole
            self.leave(None);
            let windows = [self.running.take(), Some(std::mem::take(&mut self.window))];
            for window in windows.into_iter().flatten() {
                window.work.wait();
                self.set_directories(window.directories);
            }
        }
        done
    }

    fn pass(&mut self, chosen: Chosen<'_>) -> Result<()> {
        let mut last = Vec::new();
        for step in chosen {
            self.context.check_running()?;
            match step {
                Step::Damage(error) if error.kind == ErrorKind::Damage => {
                    let reason = format!("entries behind this one are lost: {}", error.message);
                    self.context.tally.damaged(&last, &reason);
                }
                Step::Damage(error) => return Err(error),
                Step::Entry { entry, only_on_the_way } => {
                    last = self.scope.target_path(&entry.key);
                    self.entry(entry, last.clone(), only_on_the_way)?;
                }
            }
            if self.window.is_full() {
                self.flush()?;
            }
        }
        self.leave(None);
        self.drain()
    }

    pub(super) fn context(&self) -> &'a Context<'a> {
        self.context
    }

    /// Plans a hard link as a file of its own; the next names link to it.
    pub(super) fn copy(&mut self, entry: Entry, path: Vec<u8>) -> Result<()> {
        match self.context.stat(&path) {
            Ok(existing) if entry.kind == EntryKind::File => self.file(entry, path, existing),
            Ok(existing) => self.other(entry, path, existing),
            Err(error) => {
                self.context.tally.failure(&path, &error.to_string());
                Ok(())
            }
        }
    }

    fn entry(&mut self, entry: Entry, path: Vec<u8>, only_on_the_way: bool) -> Result<()> {
        self.leave(Some(&entry.key));
        if self.is_blocked() || self.name_is_taken(&entry, &path) {
            return Ok(());
        }
        if entry.kind == EntryKind::Directory {
            return self.directory(entry, path, only_on_the_way);
        }
        if !self.make_way(&path) {
            return Ok(());
        }
        let existing = match self.look(&path) {
            Ok(existing) => existing,
            Err(error) => {
                self.context.tally.failure(&path, &error.to_string());
                return Ok(());
            }
        };
        if let Some(existing) = &existing
            && !self.may_replace(existing, &entry)
        {
            self.context.tally.update(|report| report.skipped += 1);
            self.context.tally.done(u64::from(entry.kind == EntryKind::File), entry.metadata.size);
            self.tell("skip", path, 0);
            return Ok(());
        }
        let group = entry.link_group;
        if group != 0
            && (self.planned_groups.contains(&group) || self.context.leader(group).is_some())
        {
            self.tell("link", path.clone(), 0);
            self.window.links.push(Link { entry, path });
            return Ok(());
        }
        match entry.kind {
            EntryKind::File => self.file(entry, path, existing),
            _ => self.other(entry, path, existing),
        }
    }

    fn tell(&mut self, kind: &'static str, path: Vec<u8>, bytes: u64) {
        if self.context.options.dry_run {
            self.window.told.push(Told::Line(kind, path, bytes));
        }
    }

    fn is_blocked(&self) -> bool {
        self.open.last().is_some_and(|open| open.made == Made::Blocked)
    }

    /// Two components of a tree may want the same name in the target: the
    /// first has it.
    fn name_is_taken(&mut self, entry: &Entry, path: &[u8]) -> bool {
        if !matches!(self.scope, Scope::Whole | Scope::Parts(_))
            || path.is_empty()
            || path.contains(&b'/')
        {
            return false;
        }
        if self.top_names.insert(path.to_vec()) {
            return false;
        }
        let reason = "another part of the snapshot has this name: restore this one by itself";
        self.context.tally.failure(path, reason);
        if entry.kind == EntryKind::Directory {
            self.push(entry, path.to_vec(), false, Made::Blocked);
        }
        true
    }

    fn push(&mut self, entry: &Entry, path: Vec<u8>, only_on_the_way: bool, made: Made) {
        let (key, metadata) = (entry.key.clone(), entry.metadata.clone());
        self.open.push(Open { key, path, metadata, only_on_the_way, made });
    }

    /// Leaves the directories that `key` is not beneath.
    fn leave(&mut self, key: Option<&[u8]>) {
        while let Some(open) = self.open.last() {
            if key.is_some_and(|key| is_below(key, &open.key)) {
                return;
            }
            let Some(open) = self.open.pop() else { return };
            // An existing target keeps its own metadata: it may be /tmp. So does
            // an existing directory that is only on the way.
            let keeps_own = open.path.is_empty()
                || open.only_on_the_way
                || self.context.options.overwrite == Overwrite::Never;
            if open.made == Made::New && !open.path.is_empty() && !self.scope.contains(&open.key) {
                let parent = Parent { path: open.path.clone(), metadata: open.metadata.clone() };
                self.context.tally.update(|report| report.parents.push(parent));
            }
            if open.made == Made::New || open.made == Made::Existed && !keeps_own {
                self.window
                    .directories
                    .push(LeftDirectory { path: open.path, metadata: open.metadata });
            }
        }
    }

    fn directory(&mut self, mut entry: Entry, path: Vec<u8>, on_the_way: bool) -> Result<()> {
        self.complete_attributes(&mut entry, &path)?;
        if path.is_empty() {
            let made = if self.target_is_new { Made::New } else { Made::Existed };
            self.push(&entry, path, on_the_way, made);
            if !on_the_way {
                self.context.tally.update(|report| report.directories += 1);
            }
            return Ok(());
        }
        self.push(&entry, path.clone(), on_the_way, Made::NotYet);
        if !on_the_way {
            self.make_way(&[&path[..], b"/x"].concat());
        }
        Ok(())
    }

    /// Makes the directories above `path`; false if that cannot be.
    fn make_way(&mut self, path: &[u8]) -> bool {
        for at in 0..self.open.len() {
            if self.open[at].made != Made::NotYet {
                continue;
            }
            let made = self.make(at);
            if made == Made::Blocked {
                // also what lies between: it is beneath this one
                self.open[at..].iter_mut().for_each(|open| open.made = Made::Blocked);
                return false;
            }
            self.open[at].made = made;
        }
        let above = parent(path);
        self.open.last().map_or(&b""[..], |open| &open.path) == above || self.make_missing(above)
    }

    /// Makes directories whose entries are missing, in a damaged tree or a
    /// stream.
    fn make_missing(&self, above: &[u8]) -> bool {
        let ends = above.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in ends.chain([above.len()]) {
            let made = self.make_directory(&above[..end], false);
            if let Err(error) = made {
                self.context.tally.failure(&above[..end], &error.to_string());
                return false;
            }
        }
        true
    }

    fn make_directory(&self, path: &[u8], replace: bool) -> io::Result<bool> {
        if self.context.options.dry_run {
            return Ok(false);
        }
        self.context.target()?.make_directory(path, replace)
    }

    fn make(&mut self, at: usize) -> Made {
        let path = self.open[at].path.clone();
        let (above, above_is_new) = match at.checked_sub(1).and_then(|at| self.open.get(at)) {
            None => (&b""[..], self.target_is_new),
            Some(open) => (&open.path[..], open.made == Made::New),
        };
        let above_is_known = above == parent(&path);
        if !above_is_known && !self.make_missing(parent(&path)) {
            return Made::Blocked;
        }
        let above_is_new = above_is_new && above_is_known;
        let existing = if above_is_new { Ok(None) } else { self.context.stat(&path) };
        let existing = match existing {
            Ok(existing) => existing,
            Err(error) => return self.block(&path, &error),
        };
        let in_the_way = existing.as_ref().filter(|existing| !is_directory(existing));
        if let Some(in_the_way) = in_the_way {
            let keep = match self.context.options.overwrite {
                Overwrite::Never => true,
                Overwrite::IfNewer => in_the_way.metadata.mtime >= self.open[at].metadata.mtime,
                Overwrite::Always | Overwrite::IfChanged => false,
            };
            if keep {
                self.context.tally.update(|report| report.skipped += 1);
                self.tell("skip", path, 0);
                return Made::Blocked;
            }
        }
        let is_new = existing.is_none() || in_the_way.is_some();
        if let Err(error) = self.make_directory(&path, in_the_way.is_some()) {
            return self.block(&path, &error);
        }
        if is_new {
            self.tell("write", path, 0);
        }
        self.context.tally.update(|report| report.directories += 1);
        if is_new { Made::New } else { Made::Existed }
    }

    fn block(&self, path: &[u8], error: &io::Error) -> Made {
        let reason = format!("not restored, nor what lies beneath it: {error}");
        self.context.tally.failure(path, &reason);
        Made::Blocked
    }

    /// What lies at a path; nothing in a directory that was just made.
    fn look(&self, path: &[u8]) -> io::Result<Option<Existing>> {
        let above_is_new = match self.open.last() {
            Some(open) => open.made == Made::New && open.path == parent(path),
            None => self.target_is_new && !path.contains(&b'/'),
        };
        if above_is_new { Ok(None) } else { self.context.stat(path) }
    }

    fn may_replace(&self, existing: &Existing, entry: &Entry) -> bool {
        match self.context.options.overwrite {
            Overwrite::Always | Overwrite::IfChanged => true,
            Overwrite::IfNewer => existing.metadata.mtime < entry.metadata.mtime,
            Overwrite::Never => false,
        }
    }

    /// Adds attributes that are too long to lie in the entry.
    fn complete_attributes(&mut self, entry: &mut Entry, path: &[u8]) -> Result<()> {
        for (name, content) in std::mem::take(&mut entry.long_xattrs) {
            match self.context.repository.read_value(&content, MAX_XATTR) {
                Ok(value) => {
                    self.window.inline_bytes += value.len();
                    entry.metadata.xattrs.push((name, value));
                }
                Err(error) if error.kind == ErrorKind::Damage => {
                    let name = String::from_utf8_lossy(&name).into_owned();
                    let reason = format!("attribute {name} not restored: {}", error.message);
                    self.context.tally.damaged(path, &reason);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// A symbolic link, pipe or device.
    fn other(&mut self, mut entry: Entry, path: Vec<u8>, existing: Option<Existing>) -> Result<()> {
        self.complete_attributes(&mut entry, &path)?;
        let is_right = existing.as_ref().is_some_and(|existing| {
            existing.kind == NodeKind::Entry(entry.kind)
                && existing.metadata.device == entry.metadata.device
                && (entry.kind != EntryKind::Symlink || self.link_is(&path, &entry))
        });
        if self.context.options.dry_run {
            let kind = match (is_right, existing.is_some()) {
                (true, _) => "unchanged",
                (_, true) => "update",
                _ => "write",
            };
            self.tell(kind, path, 0);
            self.context.tally.update(|report| report.others += 1);
            return Ok(());
        }
        let (metadata, replace) = (&entry.metadata, existing.is_some());
        let make = || {
            let target = self.context.target()?;
            match entry.kind {
                _ if is_right => {}
                EntryKind::Symlink => target.symlink(&path, &metadata.target, replace)?,
                kind => target.node(&path, kind, metadata.device, replace)?,
            }
            target.set_metadata(&path, entry.kind, metadata, self.context.options.owners)
        };
        match make() {
            Ok(unset) => {
                self.context.tally.metadata(&path, Ok(unset));
                self.context.tally.update(|report| report.others += 1);
                self.context.note_leader(entry.link_group, &path);
            }
            Err(error) => self.context.tally.failure(&path, &format!("not written: {error}")),
        }
        Ok(())
    }

    fn link_is(&self, path: &[u8], entry: &Entry) -> bool {
        let link = self.context.target().and_then(|target| target.read_link(path));
        link.is_ok_and(|link| link == entry.metadata.target)
    }

    fn file(&mut self, mut entry: Entry, path: Vec<u8>, existing: Option<Existing>) -> Result<()> {
        self.complete_attributes(&mut entry, &path)?;
        let way = match self.way(&entry, &path, existing) {
            Ok(way) => way,
            Err(error) if error.kind == ErrorKind::Damage => {
                self.context.tally.damaged(&path, &format!("not restored: {}", error.message));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let content = std::mem::take(&mut entry.content);
        if let Content::Inline(bytes) = &content {
            self.window.inline_bytes += bytes.len();
        }
        if entry.link_group != 0 {
            self.planned_groups.insert(entry.link_group);
        }
        let file = Arc::new(FileJob::new(path, way, entry.metadata, content, entry.link_group));
        if file.way != Way::Unchanged {
            self.items(&file)?;
        }
        self.window.told.extend(self.context.options.dry_run.then(|| Told::File(file.clone())));
        self.window.planned.push(file);
        Ok(())
    }

    fn way(&self, entry: &Entry, path: &[u8], existing: Option<Existing>) -> Result<Way> {
        let options = self.context.options;
        let Some(existing) = existing else { return Ok(Way::New) };
        match existing.kind {
            NodeKind::Entry(EntryKind::File) => {}
            NodeKind::Entry(EntryKind::Directory) => return Ok(Way::New),
            _ => return Ok(Way::Replace),
        }
        let seems_same = existing.metadata.size == entry.metadata.size
            && existing.metadata.mtime == entry.metadata.mtime;
        if seems_same && options.overwrite == Overwrite::IfChanged && !options.verify {
            return Ok(Way::Unchanged);
        }
        let Ok(target) = self.context.target() else { return Ok(Way::New) };
        if matches!(target.open_file(path), Ok(Some(_))) {
            return Ok(Way::InPlace(existing.metadata.size));
        }
        // It has other names, is being executed or not ours to write: a new file
        // takes its place, unless nothing differs.
        let Ok(file) = target.read_file(path) else { return Ok(Way::Replace) };
        let same = same_content(self.context, &file, &entry.content, entry.metadata.size)?;
        Ok(if same { Way::Unchanged } else { Way::Replace })
    }

    /// Plans what a file is made of.
    fn items(&mut self, file: &Arc<FileJob>) -> Result<()> {
        let mut offset = 0u64;
        let mut existing = None;
        let context = self.context;
        let done = context.repository.items(&file.content, &mut |item| {
            let range = offset..offset.saturating_add(item.length());
            offset = range.end;
            if offset > file.metadata.size {
                return Err(Error::damage("its content is longer than its size"));
            }
            match item {
                Item::Chunk { id, length } => {
                    file.expect(1);
                    let want = Want { file: file.clone(), offset: range.start, length, id };
                    self.window.wants.push(want);
                    self.window.want_bytes += u64::from(length);
                }
                Item::Hole { .. } if matches!(file.way, Way::InPlace(_)) => {
                    let read = || context.target().and_then(|target| target.read_file(&file.path));
                    let open = existing.get_or_insert_with(read);
                    if !open.as_ref().is_ok_and(|open| reads_as_zeros(open, range.clone())) {
                        file.add_zeros(range);
                    }
                }
                Item::Hole { .. } => {}
            }
            if self.window.is_full() {
                file.spans_windows.store(true, Ordering::Relaxed);
                self.flush()?;
            }
            Ok(())
        });
        let is_short = matches!(file.content, Content::List(_)) && offset != file.metadata.size;
        let trouble = match done {
            Err(error) if error.kind == ErrorKind::Damage => error.message,
            Err(error) => return Err(error),
            Ok(()) if is_short => "its content is shorter than its size".to_owned(),
            Ok(()) => return Ok(()),
        };
        let rest = file.metadata.size.saturating_sub(offset);
        file.lose(offset.min(file.metadata.size), rest, Trouble::Damage(trouble));
        Ok(())
    }

    /// Gives the window to the threads, and ends the one before.
    fn flush(&mut self) -> Result<()> {
        let mut window = std::mem::take(&mut self.window);
        let jobs = match self.jobs(&mut window) {
            Ok(jobs) => jobs,
            Err(error) => {
                // its directories are there
                self.window.directories.append(&mut window.directories);
                return Err(error);
            }
        };
        if self.context.options.dry_run {
            self.list(window);
            return Ok(());
        }
        jobs.into_iter().for_each(|job| self.pool.send(job, &window.work));
        match self.running.replace(window) {
            Some(done) => self.end(done),
            None => Ok(()),
        }
    }

    fn jobs(&self, window: &mut Window) -> Result<Vec<Job>> {
        window.compare(self.context, self.pool)?;
        if self.context.options.dry_run {
            return Ok(Vec::new());
        }
        let jobs = window.jobs(self.context)?;
        self.context.check_running()?;
        Ok(jobs)
    }

    /// Waits for a window's jobs, then does what had to wait for them.
    fn end(&mut self, mut window: Window) -> Result<()> {
        window.work.wait();
        if let Err(error) = self.context.check_running() {
            self.window.directories.append(&mut window.directories);
            return Err(error);
        }
        self.complete(window)
    }

    /// Brings everything planned to its end.
    fn drain(&mut self) -> Result<()> {
        loop {
            // a hard link that could not be made becomes a file of its own
            if !self.window.is_empty() {
                self.flush()?;
                continue;
            }
            match self.running.take() {
                Some(last) => self.end(last)?,
                None => return Ok(()),
            }
        }
    }

    /// What had to wait until a window's files were there.
    fn complete(&mut self, window: Window) -> Result<()> {
        let mut copied = HashSet::new();
        for link in window.links {
            let group = link.entry.link_group;
            if copied.contains(&group) {
                self.window.links.push(link);
            } else if self.link(link)? {
                copied.insert(group);
            }
        }
        if copied.is_empty() {
            self.set_directories(window.directories);
        } else {
            // copies are written into directories that are not finished then
            let later = std::mem::replace(&mut self.window.directories, window.directories);
            self.window.directories.extend(later);
        }
        Ok(())
    }

    fn set_directories(&self, directories: Vec<LeftDirectory>) {
        let owners = self.context.options.owners;
        for LeftDirectory { path, metadata } in directories {
            let set = self.context.target().and_then(|target| {
                target.set_metadata(&path, EntryKind::Directory, &metadata, owners)
            });
            self.context.tally.metadata(&path, set);
        }
    }
}
