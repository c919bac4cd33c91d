//! The last stage before the commit: takes finished work in the order of the
//! walk, builds lists and the tree, and notes every coordinate used.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crossbeam_channel::Receiver;

use super::context::Context;
use super::parent::{MAX_LISTED_ITEMS, StatListWriter};
use super::read::{Gather, bare_entry};
use super::work::{Before, Done, FileEnd, Part, Planned, Result as WorkResult};
use crate::crypto::{SecretKey, keys};
use crate::format::ChunkKind;
use crate::format::content::{Content, Item, MAX_ITEMS, Root};
use crate::format::entry::{Entry, EntryKind, display_key};
use crate::format::manifest::Counts;
use crate::format::page::{FinishedPage, Page, PageBuilder, PageKind};
use crate::id::ChunkId;
use crate::progress::Event;
use crate::repository::checkpoints::Checkpoints;
use crate::repository::known::Used;
use crate::repository::{Error, Result};

/// Notes what an entry is made of.
fn note(used: &mut Used, part: &Part) {
    if let Item::Chunk { id, .. } = part.item {
        used.add(id, part.known);
    }
}

/// Stores pages and counts what they use.
struct PageStore<'a> {
    trees: Gather<'a>,
    lists: Gather<'a>,
    used: Used,
}

impl PageStore<'_> {
    fn store(&mut self, kind: ChunkKind, page: &FinishedPage) -> Result<ChunkId> {
        let page_kind = if kind == ChunkKind::Tree { PageKind::Tree } else { PageKind::List };
        // what no reader could parse must never be called stored
        Page::parse(&page.bytes, page_kind, page.level)
            .map_err(|error| Error::failed(format!("a page was built wrong: {error}")))?;
        let page = page.bytes.as_slice();
        let gather = if kind == ChunkKind::Tree { &mut self.trees } else { &mut self.lists };
        let part = gather.chunk(page)?;
        note(&mut self.used, &part);
        match part.item {
            Item::Chunk { id, .. } => Ok(id),
            Item::Hole { .. } => Err(Error::failed("a page became a hole")),
        }
    }
}

/// What the stage leaves for the commit.
pub struct Assembled {
    pub root: Root,
    pub used: Used,
    pub counts: Counts,
    pub stat_list: Option<StatListWriter>,
}

pub struct Assembler<'a> {
    context: &'a Context<'a>,
    counts: Counts,
    stat_list: Option<StatListWriter>,
    checkpoints: Checkpoints,
}

type TreeBuilder<'p> = PageBuilder<Box<dyn FnMut(FinishedPage) -> Result<ChunkId> + 'p>>;

impl<'a> Assembler<'a> {
    pub fn new(context: &'a Context<'a>, stat_list: Option<StatListWriter>) -> Self {
        Assembler {
            context,
            counts: Counts::default(),
            stat_list,
            checkpoints: Checkpoints::every(context.options.checkpoint_bytes),
        }
    }

    /// Takes results until every stage before has ended.
    pub fn run(
        mut self,
        results: &Receiver<(u64, WorkResult)>,
        tokens: &Receiver<()>,
    ) -> Result<Assembled> {
        let context = self.context;
        let cut = keys::page_cut(context.repository.keyring().chunker_key()?);
        let pages = RefCell::new(PageStore {
            trees: Gather::new(context, ChunkKind::Tree),
            lists: Gather::new(context, ChunkKind::List),
            used: Used::default(),
        });
        let store: Box<dyn FnMut(FinishedPage) -> Result<ChunkId> + '_> =
            Box::new(|page| pages.borrow_mut().store(ChunkKind::Tree, &page));
        let mut tree: TreeBuilder<'_> = PageBuilder::new(PageKind::Tree, cut.clone(), store);
        let mut waiting: BTreeMap<u64, WorkResult> = BTreeMap::new();
        let mut next = 0;
        let mut long_file = None;
        for (sequence, result) in results {
            // a worker that ended early says so under the last number there is
            if sequence != u64::MAX {
                waiting.insert(sequence, result);
            }
            while let Some(result) = waiting.remove(&next) {
                next += 1;
                let _ = tokens.try_recv();
                self.take(result, &mut long_file, &mut tree, &pages, &cut)?;
            }
            context.check_abort()?;
            if self.checkpoints.is_due(context.packer) {
                super::checkpoint(context, &mut pages.borrow_mut().used)?;
            }
        }
        context.check_abort()?;
        let (root, _) = tree.finish()?;
        drop(long_file);
        let PageStore { mut trees, mut lists, used } = pages.into_inner();
        trees.flush()?;
        lists.flush()?;
        Ok(Assembled { root, used, counts: self.counts, stat_list: self.stat_list })
    }

    fn take<'p, 'c>(
        &mut self,
        result: WorkResult,
        long_file: &mut Option<ContentBuilder<'p, 'c>>,
        tree: &mut TreeBuilder<'_>,
        pages: &'p RefCell<PageStore<'c>>,
        cut: &'p SecretKey,
    ) -> Result<()> {
        let keep = self.stat_list.is_some();
        let fresh = || ContentBuilder::new(pages, cut, keep);
        match result {
            WorkResult::Batch(batch) => batch.into_iter().try_for_each(|mut done| {
                let parts = std::mem::take(&mut done.content);
                if done.unchanged {
                    parts.iter().for_each(|part| note(&mut pages.borrow_mut().used, part));
                    return self.add(done, Some(Vec::new()), pages, tree);
                }
                let mut content = fresh();
                parts.iter().try_for_each(|part| content.add(part))?;
                self.entry(done, content, tree)
            }),
            WorkResult::Piece(parts) => {
                let content = long_file.get_or_insert_with(fresh);
                parts.iter().try_for_each(|part| content.add(part))
            }
            WorkResult::Restart => {
                *long_file = None;
                Ok(())
            }
            WorkResult::FileEnd(planned, end) => {
                let content = long_file.take().unwrap_or_else(fresh);
                let done = self.long_entry(*planned, end, content.size)?;
                self.entry(done, content, tree)
            }
        }
    }

    fn long_entry(&mut self, mut planned: Planned, end: FileEnd, size: u64) -> Result<Done> {
        planned.found.metadata.size = size;
        let changed = end == FileEnd::Changed;
        if changed {
            self.context.note(&planned.found.path, "changed while it was read");
        }
        // long attribute values of a long file: data chunks like any other
        let mut gather = Gather::new(self.context, ChunkKind::Data);
        let (entry, attributes) = bare_entry(&mut gather, &mut planned, changed)?;
        gather.flush()?;
        self.context.progress.event(Event::Done { files: 1, bytes: 0 });
        Ok(Done {
            entry,
            content: Vec::new(),
            attributes,
            before: planned.before,
            unchanged: end == FileEnd::Kept,
            implied: false,
        })
    }

    fn entry(
        &mut self,
        mut done: Done,
        content: ContentBuilder<'_, '_>,
        tree: &mut TreeBuilder<'_>,
    ) -> Result<()> {
        let pages = content.pages;
        let (content, items) = content.finish()?;
        done.entry.content = content;
        self.add(done, items, pages, tree)
    }

    /// Adds an entry to the tree. `items` are those of its list, for a stat list.
    fn add(
        &mut self,
        done: Done,
        items: Option<Vec<Item>>,
        pages: &RefCell<PageStore<'_>>,
        tree: &mut TreeBuilder<'_>,
    ) -> Result<()> {
        let Done { entry, attributes, before, unchanged, implied, .. } = done;
        {
            let used = &mut pages.borrow_mut().used;
            attributes.iter().for_each(|part| note(used, part));
        }
        self.count(&entry, before.as_ref(), unchanged, implied);
        if let Some(list) = &mut self.stat_list
            && list.add(&entry, items.as_deref()).is_err()
        {
            // without it the next run reads everything; that is no reason to fail
            self.stat_list = None;
        }
        tree.push_entry(&entry)
    }

    fn count(&mut self, entry: &Entry, before: Option<&Before>, unchanged: bool, implied: bool) {
        let counts = &mut self.counts;
        match entry.kind {
            EntryKind::File => counts.files += 1,
            EntryKind::Directory => counts.directories += 1,
            _ => counts.others += 1,
        }
        counts.bytes += entry.metadata.size;
        let kind = match before {
            None => "new",
            Some(before) if unchanged || is_same(entry, before) => "unchanged",
            Some(_) => "changed",
        };
        if entry.kind == EntryKind::File {
            match kind {
                "new" => counts.files_new += 1,
                "changed" => counts.files_changed += 1,
                _ => counts.files_unchanged += 1,
            }
        }
        if self.context.options.list && kind != "unchanged" && !implied {
            let path = display_key(&entry.key);
            let bytes = entry.metadata.size;
            self.context.progress.event(Event::Line { kind, path: &path, bytes });
        }
    }
}

fn is_same(entry: &Entry, before: &Before) -> bool {
    let (a, b) = (&entry.metadata, &before.metadata);
    entry.kind == before.kind
        && (a.mode, a.uid, a.gid, a.size, a.mtime) == (b.mode, b.uid, b.gid, b.size, b.mtime)
        && (&a.target, a.device) == (&b.target, b.device)
        && (entry.kind == EntryKind::Directory || a.ctime == b.ctime)
}

/// Builds what an entry says of its content, part by part, so that the longest
/// file takes no more memory than a page a level.
struct ContentBuilder<'p, 'c> {
    pages: &'p RefCell<PageStore<'c>>,
    cut: &'p SecretKey,
    /// Whether a stat list wants the items of a long list too.
    keep: bool,
    items: Vec<Item>,
    list: Option<TreeBuilder<'p>>,
    /// Neighbouring holes are one.
    hole: u64,
    size: u64,
}

impl<'p, 'c> ContentBuilder<'p, 'c> {
    fn new(pages: &'p RefCell<PageStore<'c>>, cut: &'p SecretKey, keep: bool) -> Self {
        ContentBuilder { pages, cut, keep, items: Vec::new(), list: None, hole: 0, size: 0 }
    }

    fn add(&mut self, part: &Part) -> Result<()> {
        self.size += part.item.length();
        note(&mut self.pages.borrow_mut().used, part);
        match part.item {
            Item::Hole { length } => {
                self.hole += length;
                Ok(())
            }
            chunk => {
                self.end_hole()?;
                self.push(chunk)
            }
        }
    }

    fn end_hole(&mut self) -> Result<()> {
        match std::mem::take(&mut self.hole) {
            0 => Ok(()),
            length => self.push(Item::Hole { length }),
        }
    }

    fn push(&mut self, item: Item) -> Result<()> {
        if let Some(list) = &mut self.list {
            list.push_item(&item)?;
            if self.keep && self.items.len() <= MAX_LISTED_ITEMS {
                self.items.push(item);
            }
            return Ok(());
        }
        self.items.push(item);
        if self.items.len() > MAX_ITEMS {
            let pages = self.pages;
            let store: Box<dyn FnMut(FinishedPage) -> Result<ChunkId> + 'p> =
                Box::new(move |page| pages.borrow_mut().store(ChunkKind::List, &page));
            let mut list = PageBuilder::new(PageKind::List, self.cut.clone(), store);
            self.items.iter().try_for_each(|item| list.push_item(item))?;
            self.list = Some(list);
            if !self.keep {
                self.items = Vec::new();
            }
        }
        Ok(())
    }

    /// The content, and the items for a stat list: none of a content that names
    /// its items itself; nothing at all when they are too many.
    fn finish(mut self) -> Result<(Content, Option<Vec<Item>>)> {
        self.end_hole()?;
        match self.list {
            Some(list) => {
                let (root, _) = list.finish()?;
                let fits = self.keep && self.items.len() <= MAX_LISTED_ITEMS;
                Ok((Content::List(root), fits.then_some(self.items)))
            }
            None if self.items.is_empty() => Ok((Content::Empty, Some(Vec::new()))),
            None => Ok((Content::Items(self.items), Some(Vec::new()))),
        }
    }
}
