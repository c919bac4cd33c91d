//! The last stage before the commit: takes finished work in the order of the
//! walk, builds lists and the tree, and notes every coordinate used.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::context::Context;
use super::parent::StatListWriter;
use super::read::{Gather, bare_entry};
use super::work::{Before, Done, Part, Planned, Result as WorkResult};
use crate::crypto::keys;
use crate::format::ChunkKind;
use crate::format::content::{Content, Item, MAX_ITEMS, Root};
use crate::format::entry::{Entry, EntryKind, display_key};
use crate::format::manifest::Counts;
use crate::format::page::{FinishedPage, PageBuilder, PageKind};
use crate::id::ChunkId;
use crate::progress::Event;
use crate::repository::commit::ReferenceSet;
use crate::repository::{Error, Result};

/// Bytes put, or time passed, after which packs get their segment.
const CHECKPOINT_BYTES: u64 = 512 << 20;
const CHECKPOINT_TIME: Duration = Duration::from_secs(600);

/// Coordinates used so far; those of chunks in open packs are not known yet.
#[derive(Default)]
pub struct Used {
    pub set: ReferenceSet,
    pending: Vec<ChunkId>,
}

impl Used {
    fn part(&mut self, part: &Part) {
        match (part.known, part.item) {
            (Some(coordinate), _) => self.set.add(coordinate),
            (None, Item::Chunk { id, .. }) => self.pending.push(id),
            (None, Item::Hole { .. }) => {}
        }
    }

    /// Resolves what lies in closed packs by now.
    pub fn resolve(&mut self, context: &Context<'_>) {
        let set = &mut self.set;
        self.pending.retain(|id| match context.packer.coordinate(id) {
            Some(coordinate) => {
                set.add(coordinate);
                false
            }
            None => true,
        });
    }

    pub fn all_resolved(&self) -> bool {
        self.pending.is_empty()
    }
}

/// Stores pages and counts what they use.
struct PageStore<'a> {
    trees: Gather<'a>,
    lists: Gather<'a>,
    used: Used,
}

impl PageStore<'_> {
    fn store(&mut self, kind: ChunkKind, page: &[u8]) -> Result<ChunkId> {
        let gather = if kind == ChunkKind::Tree { &mut self.trees } else { &mut self.lists };
        let part = gather.chunk(page)?;
        self.used.part(&part);
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
    last_checkpoint: (u64, Instant),
}

type TreeBuilder<'p> = PageBuilder<Box<dyn FnMut(FinishedPage) -> Result<ChunkId> + 'p>>;

impl<'a> Assembler<'a> {
    pub fn new(context: &'a Context<'a>, stat_list: Option<StatListWriter>) -> Self {
        Assembler {
            context,
            counts: Counts::default(),
            stat_list,
            last_checkpoint: (0, Instant::now()),
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
            Box::new(|page| pages.borrow_mut().store(ChunkKind::Tree, &page.bytes));
        let mut tree: TreeBuilder<'_> = PageBuilder::new(PageKind::Tree, cut.clone(), store);
        let mut waiting: BTreeMap<u64, WorkResult> = BTreeMap::new();
        let mut next = 0;
        let mut long_file: Vec<Part> = Vec::new();
        for (sequence, result) in results {
            waiting.insert(sequence, result);
            while let Some(result) = waiting.remove(&next) {
                next += 1;
                let _ = tokens.try_recv();
                self.take(result, &mut long_file, &mut tree, &pages, &cut)?;
            }
            context.check_abort()?;
            self.checkpoint_if_due(&mut pages.borrow_mut().used)?;
        }
        context.check_abort()?;
        let (root, _) = tree.finish()?;
        let PageStore { mut trees, mut lists, used } = pages.into_inner();
        trees.flush()?;
        lists.flush()?;
        Ok(Assembled { root, used, counts: self.counts, stat_list: self.stat_list })
    }

    fn take(
        &mut self,
        result: WorkResult,
        long_file: &mut Vec<Part>,
        tree: &mut TreeBuilder<'_>,
        pages: &RefCell<PageStore<'_>>,
        cut: &crate::crypto::SecretKey,
    ) -> Result<()> {
        match result {
            WorkResult::Batch(batch) => {
                batch.into_iter().try_for_each(|done| self.entry(done, tree, pages, cut))
            }
            WorkResult::Piece(mut parts) => {
                long_file.append(&mut parts);
                Ok(())
            }
            WorkResult::Restart => {
                long_file.clear();
                Ok(())
            }
            WorkResult::FileEnd(planned, changed) => {
                let done = self.long_entry(*planned, changed, std::mem::take(long_file))?;
                self.entry(done, tree, pages, cut)
            }
        }
    }

    fn long_entry(
        &mut self,
        mut planned: Planned,
        changed: bool,
        content: Vec<Part>,
    ) -> Result<Done> {
        planned.found.metadata.size = content.iter().map(|part| part.item.length()).sum();
        if changed {
            self.context.note(&planned.found.path, "changed while it was read");
        }
        // long attribute values of a long file: data chunks like any other
        let mut gather = Gather::new(self.context, ChunkKind::Data);
        let (entry, attributes) = bare_entry(&mut gather, &planned, changed)?;
        gather.flush()?;
        self.context.progress.event(Event::Done { files: 1, bytes: 0 });
        Ok(Done {
            entry,
            content,
            attributes,
            before: planned.before,
            unchanged: false,
            implied: false,
        })
    }

    fn entry(
        &mut self,
        done: Done,
        tree: &mut TreeBuilder<'_>,
        pages: &RefCell<PageStore<'_>>,
        cut: &crate::crypto::SecretKey,
    ) -> Result<()> {
        let Done { mut entry, content, attributes, before, unchanged, implied } = done;
        {
            let used = &mut pages.borrow_mut().used;
            content.iter().chain(&attributes).for_each(|part| used.part(part));
        }
        let content = join_holes(content);
        let mut items = Vec::new();
        entry.content = match content.len() {
            0 => Content::Empty,
            1..=MAX_ITEMS => Content::Items(content),
            _ => {
                let root = build_list(&content, pages, cut)?;
                items = content;
                Content::List(root)
            }
        };
        self.count(&entry, before.as_ref(), unchanged, implied);
        if let Some(list) = &mut self.stat_list
            && list.add(&entry, &items).is_err()
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

    /// Gives packs their segment every so often, so that a run that is cut off
    /// has not worked in vain.
    fn checkpoint_if_due(&mut self, used: &mut Used) -> Result<()> {
        let put = self.context.packer.bytes_put.load(Ordering::Relaxed);
        let (bytes, time) = self.last_checkpoint;
        if put - bytes < CHECKPOINT_BYTES && time.elapsed() < CHECKPOINT_TIME || put == bytes {
            return Ok(());
        }
        self.last_checkpoint = (put, Instant::now());
        super::checkpoint(self.context, used)
    }
}

fn is_same(entry: &Entry, before: &Before) -> bool {
    let (a, b) = (&entry.metadata, &before.metadata);
    entry.kind == before.kind
        && (a.mode, a.uid, a.gid, a.size, a.mtime) == (b.mode, b.uid, b.gid, b.size, b.mtime)
        && (&a.target, a.device) == (&b.target, b.device)
        && (entry.kind == EntryKind::Directory || a.ctime == b.ctime)
}

/// Neighbouring holes are one.
fn join_holes(parts: Vec<Part>) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::with_capacity(parts.len());
    for part in parts {
        match (items.last_mut(), part.item) {
            (Some(Item::Hole { length }), Item::Hole { length: more }) => *length += more,
            (_, item) => items.push(item),
        }
    }
    items
}

fn build_list(
    items: &[Item],
    pages: &RefCell<PageStore<'_>>,
    cut: &crate::crypto::SecretKey,
) -> Result<Root> {
    let mut builder = PageBuilder::new(PageKind::List, cut.clone(), |page: FinishedPage| {
        pages.borrow_mut().store(ChunkKind::List, &page.bytes)
    });
    items.iter().try_for_each(|item| builder.push_item(item))?;
    Ok(builder.finish()?.0)
}
