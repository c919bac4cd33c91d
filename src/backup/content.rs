//! Builds contents and pages, and notes which chunks they use.

use std::cell::RefCell;

use super::context::Context;
use super::parent::MAX_LISTED_ITEMS;
use super::read::Gather;
use super::work::Part;
use crate::crypto::SecretKey;
use crate::format::ChunkKind;
use crate::format::content::{Content, Item, MAX_ITEMS};
use crate::format::page::{FinishedPage, Page, PageBuilder, PageKind, PageSink};
use crate::id::ChunkId;
use crate::repository::known::Used;
use crate::repository::{Error, Result};

pub type Builder<'p, 'c> = PageBuilder<Pages<'p, 'c>>;

/// Where the pages of a tree or list go.
pub struct Pages<'p, 'c> {
    pages: &'p RefCell<PageStore<'c>>,
    kind: ChunkKind,
}

impl PageSink for Pages<'_, '_> {
    type Error = Error;

    fn store(&mut self, page: FinishedPage) -> Result<ChunkId> {
        self.pages.borrow_mut().store(self.kind, &page)
    }

    fn reuse(&mut self, page: &ChunkId) -> Result<bool> {
        self.pages.borrow_mut().reuse(page)
    }
}

pub fn builder<'p, 'c>(
    pages: &'p RefCell<PageStore<'c>>,
    kind: ChunkKind,
    cut: &SecretKey,
) -> Builder<'p, 'c> {
    PageBuilder::new(page_kind(kind), cut.clone(), Pages { pages, kind })
}

fn page_kind(kind: ChunkKind) -> PageKind {
    if kind == ChunkKind::Tree { PageKind::Tree } else { PageKind::List }
}

/// Notes what an entry is made of.
pub fn note(used: &mut Used, part: &Part) {
    if let Item::Chunk { id, .. } = part.item {
        used.add(id, part.known);
    }
}

/// Stores pages and counts what they use.
pub struct PageStore<'a> {
    trees: Gather<'a>,
    lists: Gather<'a>,
    pub used: Used,
}

impl<'a> PageStore<'a> {
    pub fn new(context: &'a Context<'a>) -> PageStore<'a> {
        PageStore {
            trees: Gather::new(context, ChunkKind::Tree),
            lists: Gather::new(context, ChunkKind::List),
            used: Used::default(),
        }
    }

    /// All pages are on their way into packs; what they and others use.
    pub fn finish(mut self) -> Result<Used> {
        self.trees.flush()?;
        self.lists.flush()?;
        Ok(self.used)
    }

    fn store(&mut self, kind: ChunkKind, page: &FinishedPage) -> Result<ChunkId> {
        // what no reader could parse must never be called stored
        Page::parse(&page.bytes, page_kind(kind), page.level)
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

    /// Notes a page of the tree that an earlier snapshot stored; false if it cannot
    /// be relied on, also because its pack was found damaged a moment ago.
    fn reuse(&mut self, page: &ChunkId) -> Result<bool> {
        let known = self.trees.find(page)?;
        self.used.set.add_all(known);
        Ok(known.is_some())
    }
}

/// Builds what an entry says of its content, part by part, so that the longest
/// file takes no more memory than a page a level.
pub struct ContentBuilder<'p, 'c> {
    pub pages: &'p RefCell<PageStore<'c>>,
    cut: &'p SecretKey,
    /// Whether a stat list wants the items of a long list too.
    keep: bool,
    items: Vec<Item>,
    list: Option<Builder<'p, 'c>>,
    /// Neighbouring holes are one.
    hole: u64,
    pub size: u64,
}

impl<'p, 'c> ContentBuilder<'p, 'c> {
    pub fn new(pages: &'p RefCell<PageStore<'c>>, cut: &'p SecretKey, keep: bool) -> Self {
        ContentBuilder { pages, cut, keep, items: Vec::new(), list: None, hole: 0, size: 0 }
    }

    pub fn add(&mut self, part: &Part) -> Result<()> {
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
            let mut list = builder(self.pages, ChunkKind::List, self.cut);
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
    pub fn finish(mut self) -> Result<(Content, Option<Vec<Item>>)> {
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
