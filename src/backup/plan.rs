//! The first stage: walks the sources in path order, merges the walk with the
//! previous snapshot, and hands out work. Long files and streams are read and
//! cut here; everything else is read by the workers.

use std::io::Read;
use std::ops::{ControlFlow, Range};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crossbeam_channel::Sender;

use super::BackupOptions;
use super::context::Context;
use super::cut::{Buffers, cut_stream};
use super::parent::{Previous, PreviousEntries, Record};
use super::same::Gathering;
use super::sources::{FileSystems, LinkGroups};
use super::work::{Before, Cut, FileEnd, Job, Part, Planned, Reading, Result as WorkResult};
use crate::files::{self, Found, Item, LeftOut};
use crate::format::content::{Content, Item as ContentItem};
use crate::format::entry::{Entry, EntryKind, Timestamp, is_of_path, key_of_path};
use crate::progress::Event;
use crate::repository::known::Lookup;
use crate::repository::{Error, ErrorKind, Result};

/// Files from this size on are cut here and hashed in pieces by all workers.
pub const LONG_FILE: u64 = 2 << 20;
/// Bytes and entries of one batch of small files.
const BATCH_BYTES: u64 = 2 << 20;
const BATCH_ENTRIES: usize = 512;
/// Items of an unchanged long list handed on together.
const ITEMS_AT_ONCE: usize = 4096;
/// How far a file's clock may lag behind the time of a change.
const CLOCK_GRAIN_MS: i64 = 20;
/// The same where the file system keeps whole seconds only, or every second one.
const COARSE_GRAIN_MS: i64 = 2000;
/// How often a file that changes under the reader is read anew.
const ATTEMPTS: usize = 3;

pub struct Planner<'a> {
    context: &'a Context<'a>,
    options: &'a BackupOptions,
    jobs: Sender<(u64, Job)>,
    results: Sender<(u64, WorkResult)>,
    tokens: Sender<()>,
    sequence: u64,
    batch: Vec<Planned>,
    batch_bytes: u64,
    buffers: Buffers,
    previous: PreviousEntries<'a>,
    same: Gathering<'a>,
    /// Entries are racy from this time on: ms since 1970.
    racy_from: i64,
    filesystems: FileSystems,
    links: LinkGroups,
    /// What is walked now is recorded under another name.
    mapped_root: bool,
    last_key: Option<Vec<u8>>,
}

/// What the walk leaves behind for the manifest.
pub struct WalkEnd {
    pub filesystems: Vec<Vec<u8>>,
    /// Indices of paths that do not exist.
    pub missing: Vec<usize>,
}

impl<'a> Planner<'a> {
    pub fn new(
        context: &'a Context<'a>,
        options: &'a BackupOptions,
        previous: &'a Previous,
        jobs: Sender<(u64, Job)>,
        results: Sender<(u64, WorkResult)>,
        tokens: Sender<()>,
    ) -> Self {
        Planner {
            context,
            options,
            jobs,
            results,
            tokens,
            sequence: 0,
            batch: Vec::new(),
            batch_bytes: 0,
            buffers: Buffers::default(),
            previous: previous.entries(context.repository),
            same: Gathering::new(&context.known),
            racy_from: previous.started_ms() as i64,
            filesystems: FileSystems::new(),
            links: LinkGroups::default(),
            mapped_root: false,
            last_key: None,
        }
    }

    /// Walks everything.
    pub fn run(mut self, roots: &[PathBuf], walk: &files::WalkOptions) -> Result<WalkEnd> {
        let missing = if self.options.map.is_empty() {
            self.walk(roots, walk)?
        } else {
            self.walk_mapped(roots, walk)?
        };
        self.hand_on_same()?;
        self.flush_batch()?;
        self.previous.skip_rest(&mut |entry| removed(self.context, entry))?;
        Ok(WalkEnd { filesystems: self.filesystems.table(), missing })
    }

    /// Walks roots together; the positions of those that are missing.
    fn walk(&mut self, roots: &[PathBuf], options: &files::WalkOptions) -> Result<Vec<usize>> {
        let mut missing = Vec::new();
        let mut failed = None;
        files::walk(roots, options, &mut |item| {
            if let Item::Failed { root_missing: Some(root), .. } = &item {
                missing.push(*root);
            }
            match self.item(item) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        });
        match failed {
            Some(error) => Err(error),
            None => Ok(missing),
        }
    }

    /// Walks each root by itself, in the order of the names it is recorded
    /// under: two walks could not be merged when one is recorded elsewhere.
    fn walk_mapped(
        &mut self,
        roots: &[PathBuf],
        options: &files::WalkOptions,
    ) -> Result<Vec<usize>> {
        let mut missing = Vec::new();
        let mut order: Vec<usize> = (0..roots.len()).collect();
        let recorded: Vec<PathBuf> =
            roots.iter().map(|root| recorded_path(root, &self.options.map)).collect();
        order.sort_by_key(|at| key_of_path(recorded[*at].as_os_str().as_bytes()));
        for at in order {
            if recorded[at] != roots[at] {
                self.recorded_parents(&recorded[at], options)?;
            }
            self.mapped_root = recorded[at] != roots[at];
            if !self.walk(std::slice::from_ref(&roots[at]), options)?.is_empty() {
                missing.push(at);
            }
            self.mapped_root = false;
        }
        Ok(missing)
    }

    /// Directories above a recorded path, as they are on this machine.
    fn recorded_parents(&mut self, recorded: &Path, options: &files::WalkOptions) -> Result<()> {
        let options = files::WalkOptions { read_xattrs: options.read_xattrs, ..Default::default() };
        let mut parents = Vec::new();
        files::walk(&[recorded.to_owned()], &options, &mut |item| match item {
            Item::Found(found) if found.implied_parent => {
                parents.push(found);
                ControlFlow::Continue(())
            }
            _ => ControlFlow::Break(()),
        });
        parents.into_iter().try_for_each(|parent| self.found(parent))
    }

    fn item(&mut self, item: Item) -> Result<()> {
        if self.context.progress.interrupted() {
            return Err(Error::interrupted());
        }
        self.context.check_abort()?;
        match item {
            Item::Found(found) => self.found(found),
            Item::Failed { path, error, .. } => {
                self.context.failure(&path, &error.to_string());
                Ok(())
            }
            Item::LeftOut { path, why } => {
                let text = match why {
                    LeftOut::Socket => "left out: a socket",
                    LeftOut::Vanished => "left out: vanished before it was read",
                    LeftOut::OwnRepository => {
                        "left out: the repository, cache or temporary files of this program"
                    }
                    LeftOut::OtherFileSystem => "left out: it lies on another file system",
                    LeftOut::TooLarge | LeftOut::CacheDirectory | LeftOut::Excluded => {
                        return Ok(());
                    }
                };
                self.context.note(&path, text);
                Ok(())
            }
        }
    }

    fn found(&mut self, found: Found) -> Result<()> {
        if self.mapped_root && found.implied_parent {
            return Ok(());
        }
        let path = Path::new(std::ffi::OsStr::from_bytes(&found.path));
        let key = if self.mapped_root {
            key_of_path(recorded_path(path, &self.options.map).as_os_str().as_bytes())
        } else {
            key_of_path(&found.path)
        };
        // parents that several roots share come once, and so does a name that
        // a directory lists twice
        if self.last_key.as_ref().is_some_and(|last| *last >= key) {
            if !found.implied_parent {
                self.context.note(&found.path, "left out: listed twice");
            }
            return Ok(());
        }
        self.last_key.get_or_insert_default().clone_from(&key);
        let mut before = self.previous.find(&key, &mut |entry| removed(self.context, entry))?;
        let filesystem = self.filesystems.index_if_changed(&found);
        let link_group = self.links.group(&found);
        if let Some(record) = before {
            before = self.take_same(record, &found, link_group, filesystem)?;
            if before.is_none() {
                return Ok(());
            }
        }
        self.hand_on_same()?;
        if found.kind == EntryKind::File {
            let size = found.metadata.size;
            self.context.progress.event(Event::Expect { files: 1, bytes: size });
        }
        let is_file = found.kind == EntryKind::File;
        let reading = match &mut before {
            Some(Record { entry, items, .. }) if is_file && self.is_unchanged(entry, &found) => {
                Reading::Keep {
                    content: std::mem::take(&mut entry.content),
                    items: items.take(),
                    sparse: entry.sparse,
                }
            }
            _ if is_file => Reading::Whole,
            _ => Reading::Nothing,
        };
        let planned = Planned {
            key,
            link_group,
            filesystem,
            before: before
                .map(|Record { entry, .. }| Before { kind: entry.kind, metadata: entry.metadata }),
            reading,
            sparse: false,
            opened: None,
            found,
        };
        let listed = matches!(planned.reading, Reading::Keep { content: Content::List(_), .. });
        if listed {
            return self.kept_list(planned);
        }
        let long = planned.found.metadata.size >= LONG_FILE;
        if long && matches!(planned.reading, Reading::Whole) {
            return self.long_file(planned);
        }
        if matches!(planned.reading, Reading::Whole) {
            self.batch_bytes += planned.found.metadata.size;
        }
        self.batch.push(planned);
        if self.batch_bytes >= BATCH_BYTES || self.batch.len() >= BATCH_ENTRIES {
            self.flush_batch()?;
        }
        Ok(())
    }

    /// Takes what is exactly as it was in the previous tree, as long as its page
    /// is; gives back anything else.
    fn take_same(
        &mut self,
        record: Record,
        found: &Found,
        link_group: u64,
        filesystem: Option<u32>,
    ) -> Result<Option<Record>> {
        let Some(place) = record.place else { return Ok(Some(record)) };
        if place.at == 0 {
            self.hand_on_same()?;
        }
        let entry = &record.entry;
        let is_same = self.same.takes(place)
            && entry.kind == found.kind
            && entry.metadata == found.metadata
            && entry.long_xattrs.is_empty()
            && (entry.link_group, entry.filesystem) == (link_group, filesystem)
            && (entry.kind != EntryKind::File || self.is_unchanged(entry, found));
        if !is_same {
            return Ok(Some(record));
        }
        let Record { entry, items, place: _ } = record;
        if let Some(entry) = self.same.add(entry, place)? {
            return Ok(Some(Record { entry, items, place: Some(place) }));
        }
        if self.same.is_full() {
            self.hand_on_same()?;
        }
        Ok(None)
    }

    /// Hands on what was gathered, behind what came before.
    fn hand_on_same(&mut self) -> Result<()> {
        let Some(same) = self.same.take() else { return Ok(()) };
        let files = same.entries.iter().filter(|entry| entry.kind == EntryKind::File);
        let (files, bytes) =
            files.fold((0, 0), |(files, bytes), file| (files + 1, bytes + file.metadata.size));
        self.context.progress.event(Event::Expect { files, bytes });
        self.context.progress.event(Event::Done { files, bytes });
        self.flush_batch()?;
        self.answer(WorkResult::Same(same))
    }

    fn is_unchanged(&self, entry: &Entry, found: &Found) -> bool {
        let (old, new) = (&entry.metadata, &found.metadata);
        let options = self.options;
        let racy = |time: Timestamp| {
            let ms = time.seconds.saturating_mul(1000) + i64::from(time.nanoseconds / 1_000_000);
            let grain = if time.nanoseconds == 0 { COARSE_GRAIN_MS } else { CLOCK_GRAIN_MS };
            ms >= self.racy_from - grain
        };
        entry.kind == EntryKind::File
            && !options.reread
            && !entry.changed_while_read
            && old.size == new.size
            && old.mtime == new.mtime
            && (options.ignore_ctime || old.ctime == new.ctime)
            && (options.ignore_inode || old.inode == new.inode)
            && !racy(old.mtime)
            && (options.ignore_ctime || !racy(old.ctime))
    }

    /// Waits until the assembler is not too far behind.
    fn next_sequence(&mut self) -> Result<u64> {
        self.tokens.send(()).map_err(|_| self.context.aborted())?;
        self.sequence += 1;
        Ok(self.sequence - 1)
    }

    fn submit(&mut self, job: Job) -> Result<()> {
        let sequence = self.next_sequence()?;
        self.jobs.send((sequence, job)).map_err(|_| self.context.aborted())
    }

    fn answer(&mut self, result: WorkResult) -> Result<()> {
        let sequence = self.next_sequence()?;
        self.results.send((sequence, result)).map_err(|_| self.context.aborted())
    }

    fn flush_batch(&mut self) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.batch_bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        self.submit(Job::Batch(batch))
    }

    /// An unchanged file with a long list: its items in groups, so that no file
    /// is too long. Read after all when one of its chunks is gone.
    fn kept_list(&mut self, mut planned: Planned) -> Result<()> {
        self.flush_batch()?;
        let Reading::Keep { content, items, sparse } =
            std::mem::replace(&mut planned.reading, Reading::Whole)
        else {
            return Ok(());
        };
        let context = self.context;
        let mut lookup = Lookup::new(&context.known);
        let mut group = Vec::new();
        let mut take = |item: ContentItem| {
            let known = match item {
                ContentItem::Chunk { id, .. } => {
                    let known = lookup.find(&id)?;
                    known.ok_or_else(|| Error::damage("a chunk of the previous state is gone"))?;
                    known
                }
                ContentItem::Hole { .. } => None,
            };
            group.push(Part { item, known });
            if group.len() >= ITEMS_AT_ONCE {
                self.answer(WorkResult::Piece(std::mem::take(&mut group)))?;
            }
            Ok(())
        };
        let walked = match &items {
            Some(items) => items.iter().try_for_each(|item| take(*item)),
            None => context.repository.items(&content, &mut take),
        };
        match walked {
            Ok(()) => {
                self.answer(WorkResult::Piece(group))?;
                planned.sparse = sparse;
                let bytes = planned.found.metadata.size;
                context.progress.event(Event::Done { files: 0, bytes });
                self.answer(WorkResult::FileEnd(Box::new(planned), FileEnd::Kept))
            }
            Err(error) if error.kind == ErrorKind::Damage => {
                self.answer(WorkResult::Restart)?;
                self.long_file(planned)
            }
            Err(error) => Err(error),
        }
    }

    fn long_file(&mut self, mut planned: Planned) -> Result<()> {
        self.flush_batch()?;
        for attempt in 1..=ATTEMPTS {
            match self.read_long_file(&mut planned)? {
                Ok(true) => {
                    return self.answer(WorkResult::FileEnd(Box::new(planned), FileEnd::Read));
                }
                Ok(false) if attempt == ATTEMPTS => {
                    return self.answer(WorkResult::FileEnd(Box::new(planned), FileEnd::Changed));
                }
                Ok(false) => self.answer(WorkResult::Restart)?,
                Err(error) => {
                    self.answer(WorkResult::Restart)?;
                    let replaced = error.kind() == std::io::ErrorKind::StaleNetworkFileHandle;
                    let gone = error.kind() == std::io::ErrorKind::NotFound;
                    match super::read::look_again(&planned.found.path) {
                        Ok(Some(found)) if replaced && attempt < ATTEMPTS => planned.found = found,
                        Ok(None) if replaced || gone => {
                            self.context
                                .note(&planned.found.path, "left out: vanished before it was read");
                            return Ok(());
                        }
                        Ok(_) | Err(_) => {
                            self.context.failure(&planned.found.path, &error.to_string());
                            return Ok(());
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads a long file once; whether it stayed as it was. The inner error is
    /// the file's.
    fn read_long_file(&mut self, planned: &mut Planned) -> Result<std::io::Result<bool>> {
        let found = &planned.found;
        let path = Path::new(std::ffi::OsStr::from_bytes(&found.path)).to_owned();
        let opened =
            files::read::open(&path, found.metadata.inode, found.device_id).and_then(|file| {
                let now = files::read::current(std::os::fd::AsFd::as_fd(&file))?;
                let ranges = files::read::data_ranges(std::os::fd::AsFd::as_fd(&file), now.size)?;
                Ok((file, now, ranges))
            });
        let (file, now, ranges) = match opened {
            Ok(opened) => opened,
            Err(error) => return Ok(Err(error)),
        };
        super::read::refresh(&mut planned.found.metadata, &now);
        planned.sparse_to(&ranges, now.size);
        let mut position = 0;
        // of the files before; on the ways out below they are let go
        let mut buffers = std::mem::take(&mut self.buffers);
        for range in &ranges {
            if range.start > position {
                self.submit_cuts(Arc::default(), vec![Cut::Hole(range.start - position)])?;
            }
            let mut part = SparseReader { file: &file, range: range.clone() };
            let cut = cut_stream(
                self.context,
                &mut buffers,
                Vec::new(),
                &mut part,
                &mut |buffer, cuts| self.submit_cuts(buffer, cuts),
            );
            match cut? {
                Ok(length) if length == range.end - range.start => position = range.end,
                // it became shorter while it was read
                Ok(length) => {
                    planned.found.metadata.size = range.start + length;
                    return Ok(Ok(false));
                }
                Err(error) => return Ok(Err(error)),
            }
        }
        if now.size > position {
            self.submit_cuts(Arc::default(), vec![Cut::Hole(now.size - position)])?;
        }
        self.buffers = buffers;
        Ok(files::read::unchanged(&file, &now))
    }

    fn submit_cuts(&mut self, buffer: Arc<Vec<u8>>, cuts: Vec<Cut>) -> Result<()> {
        self.submit(Job::Piece { buffer, cuts, reply: None })
    }
}

/// What the walk does not find any more. Entries of streams are none of its own.
fn removed(context: &Context<'_>, entry: &Entry) {
    if is_of_path(&entry.key) {
        context.removed(entry);
    }
}

/// One data range of a file, read by position.
struct SparseReader<'a> {
    file: &'a std::fs::File,
    range: Range<u64>,
}

impl Read for SparseReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let left = (self.range.end - self.range.start).min(buffer.len() as u64) as usize;
        let read =
            std::os::unix::fs::FileExt::read_at(self.file, &mut buffer[..left], self.range.start)?;
        self.range.start += read as u64;
        Ok(read)
    }
}

/// The name a path is recorded under: the longest mapping that fits counts.
pub fn recorded_path(path: &Path, map: &[(PathBuf, PathBuf)]) -> PathBuf {
    let fitting = map.iter().filter(|(from, _)| path.starts_with(from));
    let Some((from, to)) = fitting.max_by_key(|(from, _)| from.components().count()) else {
        return path.to_owned();
    };
    match path.strip_prefix(from) {
        Ok(rest) if rest.as_os_str().is_empty() => to.clone(),
        Ok(rest) => to.join(rest),
        Err(_) => path.to_owned(),
    }
}

/// All items of a content, where the entry itself names them.
pub fn own_items(content: &Content) -> Option<&[ContentItem]> {
    match content {
        Content::Empty => Some(&[]),
        Content::Items(items) => Some(items),
        _ => None,
    }
}
