//! Contents, lists and tree of the copy, built from chunks that lie in the
//! destination or are on their way there.

use std::cell::RefCell;
use std::sync::atomic::Ordering;

use super::run::Run;
use crate::crypto::SecretKey;
use crate::format::ChunkKind;
use crate::format::content::{Content, Item, MAX_ITEMS, Root};
use crate::format::entry::Entry;
use crate::format::pack::Coordinate;
use crate::format::page::{FinishedPage, Page, PageBuilder, PageKind};
use crate::id::ChunkId;
use crate::repository::known::{Lookup, Used};
use crate::repository::packer::Gather;
use crate::repository::{Error, Result};

/// A chunk as the destination names it, with the coordinate it has there, if it
/// was there before this run.
#[derive(Clone, Copy)]
pub(super) struct Part {
    pub id: ChunkId,
    pub known: Option<Coordinate>,
}

/// Stores pages and notes all that is used.
pub(super) struct Pages<'r> {
    run: &'r Run<'r>,
    lookup: Lookup<'r>,
    trees: Gather<'r>,
    lists: Gather<'r>,
    pub used: Used,
}

impl<'r> Pages<'r> {
    pub fn new(run: &'r Run<'r>) -> Pages<'r> {
        let gather = |kind| Gather::new(run.packer, run.sealer, kind);
        Pages {
            run,
            lookup: Lookup::new(run.known),
            trees: gather(ChunkKind::Tree),
            lists: gather(ChunkKind::List),
            used: Used::default(),
        }
    }

    fn store(&mut self, kind: ChunkKind, page: &FinishedPage) -> Result<ChunkId> {
        let page_kind = if kind == ChunkKind::Tree { PageKind::Tree } else { PageKind::List };
        // what no reader could parse must never be called stored
        Page::parse(&page.bytes, page_kind, page.level)
            .map_err(|error| Error::failed(format!("a page was built wrong: {error}")))?;
        let id = self.run.destination.keyring().chunk_id(kind, &page.bytes)?;
        let known = self.lookup.find(&id)?;
        self.used.add(id, known);
        if known.is_none() && self.run.packer.claim(id) {
            self.run.bytes_added.fetch_add(page.bytes.len() as u64, Ordering::Relaxed);
            let gather = if kind == ChunkKind::Tree { &mut self.trees } else { &mut self.lists };
            gather.add(id, &page.bytes)?;
        }
        Ok(id)
    }

    /// Puts what is gathered. What was used.
    pub fn finish(mut self) -> Result<Used> {
        self.trees.flush()?;
        self.lists.flush()?;
        Ok(self.used)
    }
}

type Pager<'p> = PageBuilder<Box<dyn FnMut(FinishedPage) -> Result<ChunkId> + 'p>>;

fn pager<'p>(
    pages: &'p RefCell<Pages<'_>>,
    cut: &SecretKey,
    page_kind: PageKind,
    kind: ChunkKind,
) -> Pager<'p> {
    let store = move |page| pages.borrow_mut().store(kind, &page);
    PageBuilder::new(page_kind, cut.clone(), Box::new(store))
}

/// Takes entries in path order, each after what it is made of.
pub(super) struct Builder<'p, 'r> {
    pages: &'p RefCell<Pages<'r>>,
    cut: &'p SecretKey,
    tree: Pager<'p>,
    /// What was told since the last value or entry.
    items: Vec<Item>,
    /// The same when it is too long to lie in an entry.
    list: Option<Pager<'p>>,
    /// Long extended attributes of the entry to come.
    values: Vec<(Vec<u8>, Content)>,
}

impl<'p, 'r> Builder<'p, 'r> {
    pub fn new(pages: &'p RefCell<Pages<'r>>, cut: &'p SecretKey) -> Builder<'p, 'r> {
        let tree = pager(pages, cut, PageKind::Tree, ChunkKind::Tree);
        Builder { pages, cut, tree, items: Vec::new(), list: None, values: Vec::new() }
    }

    pub fn chunk(&mut self, part: Part, length: u32) -> Result<()> {
        self.pages.borrow_mut().used.add(part.id, part.known);
        self.push(Item::Chunk { id: part.id, length })
    }

    pub fn hole(&mut self, length: u64) -> Result<()> {
        self.push(Item::Hole { length })
    }

    fn push(&mut self, item: Item) -> Result<()> {
        if let Some(list) = &mut self.list {
            return list.push_item(&item);
        }
        self.items.push(item);
        if self.items.len() > MAX_ITEMS {
            let mut list = pager(self.pages, self.cut, PageKind::List, ChunkKind::List);
            self.items.drain(..).try_for_each(|item| list.push_item(&item))?;
            self.list = Some(list);
        }
        Ok(())
    }

    /// `own` is a content without items.
    fn content(&mut self, own: Content) -> Result<Content> {
        match self.list.take() {
            Some(list) => Ok(Content::List(list.finish()?.0)),
            None if self.items.is_empty() => Ok(own),
            None => Ok(Content::Items(std::mem::take(&mut self.items))),
        }
    }

    /// What was told is the value of this attribute.
    pub fn value(&mut self, name: Vec<u8>, own: Content) -> Result<()> {
        let content = self.content(own)?;
        self.values.push((name, content));
        Ok(())
    }

    /// What was told is the content of this entry.
    pub fn entry(&mut self, mut entry: Entry) -> Result<()> {
        entry.content = self.content(std::mem::take(&mut entry.content))?;
        entry.long_xattrs = std::mem::take(&mut self.values);
        self.tree.push_entry(&entry)
    }

    pub fn finish(self) -> Result<Root> {
        Ok(self.tree.finish()?.0)
    }
}
