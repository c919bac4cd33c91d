//! The one pass over a snapshot's tree: gathers a window of it, has the chunks
//! fetched that the destination lacks, and builds the same tree there.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use super::Stop;
use super::build::{Builder, Pages, Part};
use super::fetch::Readers;
use super::run::Run;
use crate::crypto::keys;
use crate::format::content::{Content, Item, Root};
use crate::format::entry::{Entry, EntryKind};
use crate::id::ChunkId;
use crate::progress::Event;
use crate::repository::Error;
use crate::repository::checkpoints::Checkpoints;
use crate::repository::known::{Lookup, Used};

type Result<T> = std::result::Result<T, Stop>;

/// Bytes of chunks to be fetched for one window; they are not held.
const MAX_FETCHED_BYTES: u64 = 128 << 20;
/// Items, values and entries of one window.
const MAX_STEPS: usize = 65_536;
/// Bytes that a window's entries hold themselves.
const MAX_HELD: usize = 12 << 20;
/// What an entry takes besides its key, content and attributes, in bytes.
const ENTRY: usize = 512;

/// What a pass leaves for the commit.
pub(super) struct Written {
    pub root: Root,
    pub used: Used,
    /// First components of the tree that are no file tree.
    pub streams: BTreeSet<Vec<u8>>,
}

/// What the tree is made of, in its order.
enum Step {
    Item(Item),
    /// The items since the last end are this long attribute.
    Value(Vec<u8>, Content),
    /// The items since the last end are this entry's content.
    Entry(Box<Entry>),
}

/// A bounded piece of the tree.
#[derive(Default)]
struct Window {
    steps: Vec<Step>,
    held: usize,
    /// Chunks of which it is known where they are in the destination.
    found: HashMap<ChunkId, Part>,
    /// Chunks to be fetched, with their lengths.
    wanted: HashMap<ChunkId, u32>,
    wanted_bytes: u64,
}

impl Window {
    fn is_full(&self) -> bool {
        self.wanted_bytes >= MAX_FETCHED_BYTES
            || self.steps.len() >= MAX_STEPS
            || self.held >= MAX_HELD
    }
}

/// Builds the tree in the destination.
pub(super) fn write(run: &Run<'_>, tree: Root) -> Result<Written> {
    let cut = keys::page_cut(run.destination.keyring().chunker_key()?);
    let pages = RefCell::new(Pages::new(run));
    let mut writer = Writer {
        run,
        pages: &pages,
        builder: Builder::new(&pages, &cut),
        readers: Readers::new(run),
        lookup: Lookup::new(run.known),
        window: Window::default(),
        checkpoints: Checkpoints::every(run.options.checkpoint_bytes),
        streams: BTreeSet::new(),
    };
    for entry in run.source.tree(tree, b"") {
        writer.entry(entry.map_err(Stop::Source)?)?;
    }
    let (root, streams) = writer.finish()?;
    Ok(Written { root, used: pages.into_inner().finish()?, streams })
}

struct Writer<'p, 'r> {
    run: &'r Run<'r>,
    pages: &'p RefCell<Pages<'r>>,
    builder: Builder<'p, 'r>,
    readers: Readers<'r>,
    lookup: Lookup<'r>,
    window: Window,
    checkpoints: Checkpoints,
    streams: BTreeSet<Vec<u8>>,
}

impl Writer<'_, '_> {
    fn entry(&mut self, mut entry: Entry) -> Result<()> {
        if self.run.progress.interrupted() {
            return Err(Error::interrupted().into());
        }
        let first = entry.key.split(|byte| *byte == 0).next().unwrap_or_default();
        if first != b"files" && !self.streams.contains(first) {
            self.streams.insert(first.to_vec());
        }
        for (name, content) in std::mem::take(&mut entry.long_xattrs) {
            let own = self.content(content)?;
            self.window.held += name.len();
            self.window.steps.push(Step::Value(name, own));
        }
        entry.content = self.content(std::mem::take(&mut entry.content))?;
        let metadata = &entry.metadata;
        let xattrs = metadata.xattrs.iter().map(|(name, value)| name.len() + value.len());
        self.window.held += ENTRY + entry.key.len() + xattrs.sum::<usize>();
        self.window.steps.push(Step::Entry(Box::new(entry)));
        if self.window.is_full() { self.flush() } else { Ok(()) }
    }

    /// Plans the items of a content; what it has without items.
    fn content(&mut self, content: Content) -> Result<Content> {
        if let Content::Empty | Content::Inline(_) = content {
            self.window.held += if let Content::Inline(bytes) = &content { bytes.len() } else { 0 };
            return Ok(content);
        }
        let mut stop = None;
        let walked = self.run.source.items(&content, &mut |item| {
            self.item(item).map_err(|reason| {
                stop = Some(reason);
                Error::interrupted()
            })
        });
        match stop {
            Some(stop) => Err(stop),
            None => walked.map(|()| Content::Empty).map_err(Stop::Source),
        }
    }

    fn item(&mut self, item: Item) -> Result<()> {
        if let Item::Chunk { id, length } = item {
            self.want(id, length)?;
        }
        self.window.steps.push(Step::Item(item));
        if self.window.is_full() { self.flush() } else { Ok(()) }
    }

    /// Has a chunk fetched unless the destination is known to have it.
    fn want(&mut self, id: ChunkId, length: u32) -> Result<()> {
        let window = &mut self.window;
        if window.found.contains_key(&id) || window.wanted.contains_key(&id) {
            return Ok(());
        }
        if let Some(here) = self.run.translations.get(&id) {
            let known = self.lookup.find(&here)?;
            if known.is_some() || self.run.packer.is_claimed(&here) {
                window.found.insert(id, Part { id: here, known });
                return Ok(());
            }
        }
        window.wanted.insert(id, length);
        window.wanted_bytes += u64::from(length);
        Ok(())
    }

    /// Fetches what the window wants, and builds on.
    fn flush(&mut self) -> Result<()> {
        let Window { steps, mut found, wanted, .. } = std::mem::take(&mut self.window);
        let mut pairs = Vec::with_capacity(wanted.len());
        for (there, part) in self.readers.fetch(wanted)? {
            pairs.push((there, part.id));
            found.insert(there, part);
        }
        self.run.translations.add(&mut pairs);
        let (mut files, mut bytes) = (0, 0);
        for step in steps {
            match step {
                Step::Item(Item::Chunk { id, length }) => {
                    let part = found.get(&id).copied();
                    let missing = || Error::failed("a chunk was not fetched: this is a bug");
                    self.builder.chunk(part.ok_or_else(missing)?, length)?;
                    bytes += u64::from(length);
                }
                Step::Item(Item::Hole { length }) => {
                    self.builder.hole(length)?;
                    bytes += length;
                }
                Step::Value(name, own) => self.builder.value(name, own)?,
                Step::Entry(entry) => {
                    files += u64::from(entry.kind == EntryKind::File);
                    if let Content::Inline(inline) = &entry.content {
                        bytes += inline.len() as u64;
                    }
                    self.builder.entry(*entry)?;
                }
            }
        }
        self.run.progress.event(Event::Done { files, bytes });
        if self.checkpoints.is_due(self.run.packer) {
            self.run.checkpoint(&mut self.pages.borrow_mut().used)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(Root, BTreeSet<Vec<u8>>)> {
        self.flush()?;
        self.readers.finish()?;
        Ok((self.builder.finish()?, self.streams))
    }
}
