//! One regular file on its way: pieces arrive in any order and from any thread,
//! and whoever brings the last one finishes it.
//!
//! What happens when a piece is damaged or cannot be written:
//! - A new file is removed again. One that replaces something is written under
//!   a temporary name, so that what it would have replaced stays.
//! - An existing file is changed in place. Its pieces are held back until all
//!   are there, if they are few; then it stays untouched. Otherwise pieces were
//!   written already, and it gets the name `<name>.esker-damaged`: it is
//!   neither the old file nor the new one. Where a missing piece would lie
//!   behind the old end it is cut there: zeros never stand for data.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::context::Context;
use super::report::FileResult;
use crate::files::target::{punch_hole, set_length};
use crate::format::ChunkKind;
use crate::format::content::{Content, Item};
use crate::format::entry::{EntryKind, Metadata};
use crate::id::ChunkId;
use crate::repository::{Error, ErrorKind, Result};

/// Files kept open between two pieces; more are closed and opened again.
const MAX_OPEN_FILES: usize = 400;
pub(super) const DAMAGED_SUFFIX: &[u8] = b".esker-damaged";

/// What has to be done to get a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Nothing is there, or an empty directory.
    New,
    /// Something is there that goes when the new file is whole.
    Replace,
    /// A file is there, of this length, that can be changed where it lies.
    InPlace(u64),
    /// A file is there whose content is right.
    Unchanged,
}

pub(super) enum Trouble {
    Damage(String),
    Failed(String),
}

#[derive(Default)]
struct State {
    file: Option<Arc<File>>,
    created: bool,
    /// Pieces that wait for the others, by offset.
    held: Vec<(u64, Vec<u8>)>,
    /// Ranges of zeros where an existing file has something else.
    zeros: Vec<Range<u64>>,
    /// End of the last byte written.
    end: u64,
    touched: bool,
    /// Where an existing file is cut if a piece of it is damaged.
    cut: Option<u64>,
    trouble: Option<Trouble>,
}

pub(super) struct FileJob {
    /// Beneath the target.
    pub path: Vec<u8>,
    pub way: Way,
    pub metadata: Metadata,
    pub content: Content,
    pub link_group: u64,
    /// Hold pieces back until all are there.
    pub hold: AtomicBool,
    /// Its pieces are planned in more than one window.
    pub spans_windows: AtomicBool,
    /// Bytes that have to be fetched.
    pub needed: AtomicU64,
    /// Bytes of which the progress has been told.
    pub told: AtomicU64,
    /// Pieces to come, and one for the planner while it plans the file.
    pending: AtomicUsize,
    state: Mutex<State>,
}

/// The name a file has until it is whole; the same in every run, so that what
/// an interrupted one left is used up by the next.
fn temporary_path(path: &[u8]) -> Vec<u8> {
    let at = path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    let (directory, name) = path.split_at(at);
    let hash = blake3::hash(name).to_hex();
    [directory, b".esker-", &hash.as_bytes()[..16]].concat()
}

fn failed(what: &str, error: &io::Error) -> Trouble {
    Trouble::Failed(format!("{what}: {error}"))
}

impl FileJob {
    pub fn new(
        path: Vec<u8>,
        way: Way,
        metadata: Metadata,
        content: Content,
        link_group: u64,
    ) -> Self {
        FileJob {
            path,
            way,
            metadata,
            content,
            link_group,
            hold: AtomicBool::new(false),
            spans_windows: AtomicBool::new(false),
            needed: AtomicU64::new(0),
            told: AtomicU64::new(0),
            pending: AtomicUsize::new(1),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// So many more pieces will come.
    pub fn expect(&self, pieces: usize) {
        self.pending.fetch_add(pieces, Ordering::Relaxed);
    }

    /// So many pieces are dealt with; true for whoever must finish the file.
    pub fn settle(&self, pieces: usize) -> bool {
        self.pending.fetch_sub(pieces, Ordering::AcqRel) == pieces
    }

    pub fn add_zeros(&self, range: Range<u64>) {
        self.state().zeros.push(range);
    }

    pub fn is_inline(&self) -> bool {
        matches!(self.content, Content::Inline(_))
    }

    /// Whether finishing it would write to it; asked in a dry run.
    pub fn would_change(&self, context: &Context<'_>) -> bool {
        let Way::InPlace(length) = self.way else { return self.way != Way::Unchanged };
        let inline_differs = match &self.content {
            Content::Inline(bytes) => !self.holds(context, bytes),
            _ => false,
        };
        length != self.metadata.size
            || self.needed.load(Ordering::Relaxed) > 0
            || !self.state().zeros.is_empty()
            || inline_differs
    }

    /// What planning alone found out; told in a dry run.
    pub fn list_trouble(&self, context: &Context<'_>) {
        if let Some(Trouble::Damage(reason) | Trouble::Failed(reason)) = &self.state().trouble {
            context.tally.damaged(&self.path, reason);
        }
    }

    /// Where the bytes are written.
    fn work_path(&self) -> Vec<u8> {
        if self.way == Way::Replace { temporary_path(&self.path) } else { self.path.clone() }
    }

    /// Tells the progress of bytes that are dealt with.
    pub fn tell(&self, context: &Context<'_>, bytes: u64) {
        self.told.fetch_add(bytes, Ordering::Relaxed);
        context.tally.done(0, bytes);
    }

    /// Takes a verified piece.
    pub fn deliver(&self, context: &Context<'_>, offset: u64, bytes: &[u8]) {
        let mut state = self.state();
        // a file that is being changed in place is changed as far as it can be
        let goes_on = match &state.trouble {
            None => true,
            Some(Trouble::Damage(_)) => matches!(self.way, Way::InPlace(_)),
            Some(Trouble::Failed(_)) => false,
        };
        if goes_on {
            if self.hold.load(Ordering::Relaxed) {
                state.held.push((offset, bytes.to_vec()));
            } else {
                match self.open(context, &mut state) {
                    Ok(file) => {
                        state.touched = true;
                        state.end = state.end.max(offset + bytes.len() as u64);
                        drop(state);
                        let written = file.write_all_at(bytes, offset);
                        state = self.state();
                        self.note_write(context, &mut state, written, bytes.len());
                    }
                    Err(error) => state.trouble = Some(failed("not written", &error)),
                }
            }
        }
        drop(state);
        self.tell(context, bytes.len() as u64);
    }

    fn note_write(
        &self,
        context: &Context<'_>,
        state: &mut State,
        written: io::Result<()>,
        length: usize,
    ) {
        match written {
            Ok(()) => context.tally.update(|report| report.bytes_written += length as u64),
            Err(error) => state.trouble = Some(failed("not written", &error)),
        }
        if context.open_files.load(Ordering::Relaxed) > MAX_OPEN_FILES {
            close(context, state);
        }
    }

    /// Notes that a piece will never come.
    pub fn lose(&self, offset: u64, length: u64, trouble: Trouble) {
        let mut state = self.state();
        if let Way::InPlace(old_length) = self.way
            && offset + length > old_length
        {
            let cut = offset.max(old_length);
            state.cut = Some(state.cut.map_or(cut, |before| before.min(cut)));
        }
        // damage says more than what followed from it
        if !matches!(state.trouble, Some(Trouble::Damage(_))) {
            state.trouble = Some(trouble);
        }
    }

    fn open(&self, context: &Context<'_>, state: &mut State) -> io::Result<Arc<File>> {
        if let Some(file) = &state.file {
            return Ok(file.clone());
        }
        let target = context.target()?;
        let path = self.work_path();
        let file = match self.way {
            Way::New | Way::Replace if !state.created => target.create_file(&path, true)?,
            _ => target.open_file(&path)?.ok_or_else(|| {
                io::Error::new(io::ErrorKind::ResourceBusy, "it was replaced meanwhile")
            })?,
        };
        state.created = true;
        context.open_files.fetch_add(1, Ordering::Relaxed);
        let file = Arc::new(file);
        state.file = Some(file.clone());
        Ok(file)
    }

    /// Called once, when nothing is to come any more.
    pub fn finish(&self, context: &Context<'_>) {
        let mut state = self.state();
        if state.trouble.is_none()
            && let Err(trouble) = self.complete(context, &mut state)
        {
            state.trouble = Some(trouble);
        }
        close(context, &mut state);
        match state.trouble.take() {
            None => {
                context.note_leader(self.link_group, &self.path);
                let rest = self.metadata.size.saturating_sub(self.told.load(Ordering::Relaxed));
                context.tally.done(1, rest);
            }
            Some(trouble) => self.give_up(context, &state, trouble),
        }
    }

    fn complete(
        &self,
        context: &Context<'_>,
        state: &mut State,
    ) -> std::result::Result<(), Trouble> {
        let owners = context.options.owners;
        let not_written = |error: io::Error| failed("not written", &error);
        let target = context.target().map_err(not_written)?;
        self.write_rest(context, state).map_err(not_written)?;
        let result = match (&self.way, state.touched) {
            (Way::New | Way::Replace, _) => FileResult::Written,
            (Way::InPlace(_), true) => FileResult::Updated,
            _ => FileResult::Unchanged,
        };
        if result == FileResult::Unchanged {
            let unset = target.set_metadata(&self.path, EntryKind::File, &self.metadata, owners);
            context.tally.metadata(&self.path, unset);
        } else {
            let file = self.open(context, state).map_err(not_written)?;
            let unset = target.set_file_metadata(&file, &self.metadata, owners);
            context.tally.metadata(&self.path, unset);
            if context.options.verify {
                self.compare_all(context, &file)?;
            }
        }
        if self.way == Way::Replace {
            target.rename(&self.work_path(), &self.path).map_err(not_written)?;
        }
        context.tally.file(result);
        // of an existing file that was compared, its chunks are counted already
        if result == FileResult::Unchanged && (self.way == Way::Unchanged || self.is_inline()) {
            context.tally.update(|report| report.bytes_kept += self.metadata.size);
        }
        Ok(())
    }

    /// All that is not a piece from a block: held pieces, inline bytes, zeros,
    /// length.
    fn write_rest(&self, context: &Context<'_>, state: &mut State) -> io::Result<()> {
        let held = std::mem::take(&mut state.held);
        let inline = match &self.content {
            Content::Inline(bytes) if self.way != Way::Unchanged => Some(bytes),
            _ => None,
        };
        let is_new = matches!(self.way, Way::New | Way::Replace);
        let old_length = if let Way::InPlace(length) = self.way { length } else { 0 };
        let mut pieces: Vec<(u64, &[u8])> =
            held.iter().map(|(offset, bytes)| (*offset, bytes.as_slice())).collect();
        if let Some(bytes) = inline
            && !(old_length == bytes.len() as u64 && self.holds(context, bytes))
        {
            pieces.push((0, bytes));
        }
        for (offset, bytes) in pieces {
            let file = self.open(context, state)?;
            file.write_all_at(bytes, offset)?;
            state.touched = true;
            state.end = state.end.max(offset + bytes.len() as u64);
            context.tally.update(|report| report.bytes_written += bytes.len() as u64);
        }
        for range in std::mem::take(&mut state.zeros) {
            let file = self.open(context, state)?;
            punch_hole(&file, range)?;
            state.touched = true;
        }
        // What no piece covers reads as zeros, as the snapshot says it does. Where
        // the source had those zeros allocated, they become a hole all the same.
        let length_now = if is_new { state.end } else { old_length.max(state.end) };
        let changes = self.way != Way::Unchanged && length_now != self.metadata.size;
        if changes || is_new {
            let file = self.open(context, state)?;
            state.touched = true;
            if changes {
                set_length(&file, self.metadata.size)?;
            }
        }
        Ok(())
    }

    /// Whether the existing file holds exactly these few bytes.
    fn holds(&self, context: &Context<'_>, bytes: &[u8]) -> bool {
        let read = || -> io::Result<bool> {
            let file = context.target()?.read_file(&self.path)?;
            let mut now = vec![0; bytes.len()];
            file.read_exact_at(&mut now, 0)?;
            Ok(now == bytes)
        };
        read().unwrap_or(false)
    }

    /// Reads back what was written.
    fn compare_all(&self, context: &Context<'_>, file: &File) -> std::result::Result<(), Trouble> {
        let differs = || Trouble::Failed("what was written reads back differently".to_owned());
        match same_content(context, file, &self.content, self.metadata.size) {
            Ok(true) => Ok(()),
            Ok(false) => Err(differs()),
            Err(error) if error.kind == ErrorKind::Damage => Err(Trouble::Damage(error.message)),
            Err(error) => Err(Trouble::Failed(error.message)),
        }
    }

    fn give_up(&self, context: &Context<'_>, state: &State, trouble: Trouble) {
        let mut note = "";
        if let Ok(target) = context.target() {
            match self.way {
                Way::New | Way::Replace if state.created => {
                    let _ = target.remove(&self.work_path());
                }
                Way::InPlace(_) if state.touched && matches!(trouble, Trouble::Damage(_)) => {
                    let marked = [&self.path[..], DAMAGED_SUFFIX].concat();
                    if let (Some(cut), Ok(Some(file))) = (state.cut, target.open_file(&self.path)) {
                        let _ = set_length(&file, cut);
                    }
                    let renamed = target.rename(&self.path, &marked).is_ok();
                    note = if renamed {
                        ": what was there, partly overwritten, is now called *.esker-damaged"
                    } else {
                        ": what was there is partly overwritten"
                    };
                }
                Way::InPlace(_) if state.touched => note = ": what was there is partly overwritten",
                _ => {}
            }
        }
        match trouble {
            Trouble::Damage(reason) => {
                context.tally.damaged(&self.path, &format!("not restored: {reason}{note}"));
            }
            Trouble::Failed(reason) => {
                context.tally.failure(&self.path, &format!("{reason}{note}"));
            }
        }
    }
}

fn close(context: &Context<'_>, state: &mut State) {
    if state.file.take().is_some() {
        context.open_files.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether a range of a file is the chunk `id`. Not being able to read it is a
/// difference too.
pub(super) fn holds_chunk(
    context: &Context<'_>,
    file: &File,
    offset: u64,
    length: u32,
    id: &ChunkId,
) -> Result<bool> {
    let mut bytes = vec![0; length as usize];
    if file.read_exact_at(&mut bytes, offset).is_err() {
        return Ok(false);
    }
    Ok(context.repository.keyring().chunk_id(ChunkKind::Data, &bytes)? == *id)
}

/// Whether a range reads as zeros up to the end of the file.
pub(super) fn reads_as_zeros(file: &File, range: Range<u64>) -> bool {
    let mut buffer = vec![0; 256 << 10];
    let mut position = range.start;
    while position < range.end {
        let want = buffer.len().min(usize::try_from(range.end - position).unwrap_or(usize::MAX));
        match file.read_at(&mut buffer[..want], position) {
            Ok(0) => return true,
            Ok(read) if buffer[..read].iter().all(|byte| *byte == 0) => position += read as u64,
            _ => return false,
        }
    }
    true
}

/// Whether a file has exactly this content.
pub(super) fn same_content(
    context: &Context<'_>,
    file: &File,
    content: &Content,
    size: u64,
) -> Result<bool> {
    let length = file.metadata().map_err(|error| Error::failed(error.to_string()))?.len();
    if length != size {
        return Ok(false);
    }
    if let Content::Inline(bytes) = content {
        let mut now = vec![0; bytes.len()];
        return Ok(file.read_exact_at(&mut now, 0).is_ok() && now == *bytes);
    }
    let (mut offset, mut same) = (0, true);
    context.repository.items(content, &mut |item| {
        context.check_running()?;
        same = same
            && match item {
                Item::Chunk { id, length } => holds_chunk(context, file, offset, length, &id)?,
                Item::Hole { length } => reads_as_zeros(file, offset..offset + length),
            };
        offset += item.length();
        Ok(())
    })?;
    Ok(same)
}
