//! Builds contents and pages, and notes which chunks they use.

use std::cell::RefCell;

use super::context::Context;
use super::parent::MAX_LISTED_ITEMS;
use super::read::Gather;
use super::work::Part;
use crate::crypto::SecretKey;
use crate::format::ChunkKind;
use crate::format::content::{Content, Item, MAX_ITEMS};
use crate::format::page::{FinishedPage, Page, PageBuilder, PageKind};
use crate::id::ChunkId;
use crate::repository::known::Used;
use crate::repository::{Error, Result};

pub type TreeBuilder<'p> = PageBuilder<Box<dyn FnMut(FinishedPage) -> Result<ChunkId> + 'p>>;

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

    pub fn store(&mut self, kind: ChunkKind, page: &FinishedPage) -> Result<ChunkId> {
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

/// Builds what an entry says of its content, part by part, so that the longest
/// file takes no more memory than a page a level.
pub struct ContentBuilder<'p, 'c> {
    pub pages: &'p RefCell<PageStore<'c>>,
    cut: &'p SecretKey,
    /// Whether a stat list wants the items of a long list too.
    keep: bool,
    items: Vec<Item>,
    list: Option<TreeBuilder<'p>>,
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
