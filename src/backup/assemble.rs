//! The last stage before the commit: takes finished work in the order of the
//! walk, builds lists and the tree, and notes every coordinate used.

use std::cell::RefCell;
use std::collections::BTreeMap;

use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::capture::{self, Captured};
use super::content::{Builder, ContentBuilder, PageStore, builder, note};
use super::context::Context;
use super::parent::{Previous, StatListWriter};
use super::read::{Gather, bare_entry};
use super::same::Same;
use super::spool::Spool;
use super::work::{Before, Done, FileEnd, Planned, Result as WorkResult};
use crate::crypto::{SecretKey, keys};
use crate::format::ChunkKind;
use crate::format::content::{Item, Root};
use crate::format::entry::{Entry, EntryKind, display_key};
use crate::format::manifest::Counts;
use crate::format::page::KnownPage;
use crate::progress::Event;
use crate::repository::Result;
use crate::repository::checkpoints::Checkpoints;
use crate::repository::known::Used;
use crate::repository::pages::PagePlace;

/// How often it is looked whether a checkpoint is due.
const CHECKPOINTS_AT_LEAST: Duration = Duration::from_secs(1);

/// What the stage leaves for the commit.
pub struct Assembled {
    pub root: Root,
    pub used: Used,
    pub counts: Counts,
    pub stat_list: Option<StatListWriter>,
    /// Streams that failed, and why.
    pub failed: Vec<(String, String)>,
}

pub struct Assembler<'a> {
    context: &'a Context<'a>,
    previous: &'a Previous,
    counts: Counts,
    stat_list: Option<StatListWriter>,
    checkpoints: Checkpoints,
    streams: Streams,
}

/// Streams, of which some sort before what the walk finds, and some behind it.
struct Streams {
    /// How many are still being captured of those that sort before.
    earlier: usize,
    captured: Vec<Captured>,
    /// What the walk found meanwhile.
    held: Option<Spool>,
    failed: Vec<(String, String)>,
}

impl<'a> Assembler<'a> {
    /// `streams` are the names of those that are being captured.
    pub fn new(
        context: &'a Context<'a>,
        previous: &'a Previous,
        stat_list: Option<StatListWriter>,
        streams: &[String],
    ) -> Result<Self> {
        let earlier = streams.iter().filter(|name| is_earlier(name)).count();
        Ok(Assembler {
            context,
            previous,
            counts: Counts::default(),
            stat_list,
            checkpoints: Checkpoints::every(context.options.checkpoint_bytes),
            streams: Streams {
                earlier,
                captured: Vec::new(),
                held: (earlier > 0).then(Spool::new).transpose()?,
                failed: Vec::new(),
            },
        })
    }

    /// Takes results until every stage before has ended.
    pub fn run(
        mut self,
        results: &Receiver<(u64, WorkResult)>,
        tokens: &Receiver<()>,
    ) -> Result<Assembled> {
        let context = self.context;
        let cut = keys::page_cut(context.repository.keyring().chunker_key()?);
        let pages = RefCell::new(PageStore::new(context));
        let mut tree = builder(&pages, ChunkKind::Tree, &cut);
        let mut waiting: BTreeMap<u64, WorkResult> = BTreeMap::new();
        let mut next = 0;
        let mut long_file = None;
        loop {
            // while nothing but streams is read no result comes for long, and packs are put all the same
            let (sequence, result) = match results.recv_timeout(CHECKPOINTS_AT_LEAST) {
                Ok(result) => result,
                Err(RecvTimeoutError::Timeout) => (u64::MAX, WorkResult::Restart),
                Err(RecvTimeoutError::Disconnected) => break,
            };
            match result {
                WorkResult::Captured(captured) => self.captured(*captured, &mut tree, &pages)?,
                result if sequence != u64::MAX => drop(waiting.insert(sequence, result)),
                // a worker that ended early says so under the last number there is
                _ => {}
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
        self.add_streams(&mut tree, &pages)?;
        let (root, _) = tree.finish()?;
        drop(long_file);
        let used = pages.into_inner().finish()?;
        let (counts, stat_list) = (self.counts, self.stat_list);
        Ok(Assembled { root, used, counts, stat_list, failed: self.streams.failed })
    }

    /// Takes what a stream gave. With the last of those that sort before the walk, the walk's turn has come.
    fn captured(
        &mut self,
        captured: Captured,
        tree: &mut Builder<'_, '_>,
        pages: &RefCell<PageStore<'_>>,
    ) -> Result<()> {
        let earlier = is_earlier(&captured.name);
        self.streams.captured.push(captured);
        if !earlier {
            return Ok(());
        }
        self.streams.earlier -= 1;
        if self.streams.earlier > 0 {
            return Ok(());
        }
        let held = self.streams.held.take();
        let later = self.streams.captured.extract_if(.., |captured| !is_earlier(&captured.name));
        let later: Vec<_> = later.collect();
        self.add_streams(tree, pages)?;
        self.streams.captured = later;
        held.map_or(Ok(()), |held| held.each(&mut |entry| tree.push_entry(&entry)))
    }

    /// Adds the streams that were captured to the tree, in its order.
    fn add_streams(
        &mut self,
        tree: &mut Builder<'_, '_>,
        pages: &RefCell<PageStore<'_>>,
    ) -> Result<()> {
        let mut captured = std::mem::take(&mut self.streams.captured);
        captured.sort_by(|a, b| a.name.cmp(&b.name));
        for Captured { name, outcome } in captured {
            let (spool, used) = match outcome {
                Ok(gave) => gave,
                Err(reason) => {
                    self.context.source_failure(name.as_bytes(), &reason);
                    self.streams.failed.push((name, reason));
                    continue;
                }
            };
            pages.borrow_mut().used.absorb(used);
            let (context, previous) = (self.context, self.previous);
            let mut before = previous.entries_of(context.repository, &name);
            let of_source = |key: &[u8]| {
                let rest = key.strip_prefix(name.as_bytes());
                rest.is_some_and(|rest| rest.first().is_none_or(|byte| *byte == 0))
            };
            let removed = |entry: &Entry| {
                if of_source(&entry.key) {
                    context.removed(entry);
                }
            };
            capture::in_order(context, &name, &spool, &mut |entry| {
                let before = before.find(&entry.key, &mut |entry| removed(entry))?;
                let before = before.map(|record| record.entry);
                let unchanged =
                    before.as_ref().is_some_and(|before| before.content == entry.content);
                let before =
                    before.map(|entry| Before { kind: entry.kind, metadata: entry.metadata });
                self.count(&entry, fate(&entry, before.as_ref(), unchanged), false);
                tree.push_entry(&entry)
            })?;
        }
        Ok(())
    }

    /// Adds what the walk found to the tree, or holds it until its turn has come. `items` are those of its list, for a
    /// stat list.
    fn push(
        &mut self,
        entry: &Entry,
        items: Option<&[Item]>,
        tree: &mut Builder<'_, '_>,
    ) -> Result<()> {
        if let Some(list) = &mut self.stat_list
            && list.add(entry, items).is_err()
        {
            // without it the next run reads everything; that is no reason to fail
            self.stat_list = None;
        }
        match &self.streams.held {
            Some(held) => held.put(entry),
            None => tree.push_entry(entry),
        }
    }

    fn take<'p, 'c>(
        &mut self,
        result: WorkResult,
        long_file: &mut Option<ContentBuilder<'p, 'c>>,
        tree: &mut Builder<'_, '_>,
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
            WorkResult::Same(same) => self.same(same, pages, tree),
            // taken when it came
            WorkResult::Captured(_) => Ok(()),
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

    fn same(
        &mut self,
        same: Same,
        pages: &RefCell<PageStore<'_>>,
        tree: &mut Builder<'_, '_>,
    ) -> Result<()> {
        let is_page = same.is_page();
        pages.borrow_mut().used.set.add_all(same.used);
        same.entries.iter().for_each(|entry| self.count(entry, "unchanged", false));
        if is_page && self.streams.held.is_none() {
            let PagePlace { page: id, length, .. } = same.last;
            return tree.push_known_page(KnownPage { id, length, entries: same.entries });
        }
        same.entries.iter().try_for_each(|entry| self.push(entry, Some(&[]), tree))
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
        tree: &mut Builder<'_, '_>,
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
        tree: &mut Builder<'_, '_>,
    ) -> Result<()> {
        let Done { entry, attributes, before, unchanged, implied, .. } = done;
        {
            let used = &mut pages.borrow_mut().used;
            attributes.iter().for_each(|part| note(used, part));
        }
        self.count(&entry, fate(&entry, before.as_ref(), unchanged), implied);
        self.push(&entry, items.as_deref(), tree)
    }

    fn count(&mut self, entry: &Entry, kind: &'static str, implied: bool) {
        let counts = &mut self.counts;
        match entry.kind {
            EntryKind::File => counts.files += 1,
            EntryKind::Directory => counts.directories += 1,
            _ => counts.others += 1,
        }
        counts.bytes += entry.metadata.size;
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

/// Whether a stream's entries stand before those of paths.
fn is_earlier(name: &str) -> bool {
    name < "files"
}

/// What became of an entry since the previous snapshot.
fn fate(entry: &Entry, before: Option<&Before>, unchanged: bool) -> &'static str {
    match before {
        None => "new",
        Some(before) if unchanged || is_same(entry, before) => "unchanged",
        Some(_) => "changed",
    }
}

fn is_same(entry: &Entry, before: &Before) -> bool {
    let (a, b) = (&entry.metadata, &before.metadata);
    entry.kind == before.kind
        && (a.mode, a.uid, a.gid, a.size, a.mtime) == (b.mode, b.uid, b.gid, b.size, b.mtime)
        && (&a.target, a.device) == (&b.target, b.device)
        && (entry.kind == EntryKind::Directory || a.ctime == b.ctime)
}
