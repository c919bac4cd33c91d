//! Walks trees of pages: entries of a snapshot in path order, items of a long
//! file, references of a set.

use super::Repository;
use super::error::{Error, Result};
use crate::format::ChunkKind;
use crate::format::content::{Content, Item, Root};
use crate::format::entry::Entry;
use crate::format::page::{Page, PageKind, TreeChild};
use crate::format::reference::Reference;
use crate::id::ChunkId;

/// Blocks of a megabyte that are fetched ahead in a walk, at most.
const MAX_BLOCKS_AHEAD: usize = 12;
/// Pages of reference sets that are worth asking for together.
pub(crate) const PAGES_AHEAD: usize = 16;

impl Repository {
    /// One page, verified and parsed.
    pub fn read_page(&self, kind: PageKind, id: &ChunkId, level: u8) -> Result<Page> {
        self.sized_page(kind, id, level).map(|(page, _)| page)
    }

    /// The same, with its length in bytes.
    fn sized_page(&self, kind: PageKind, id: &ChunkId, level: u8) -> Result<(Page, usize)> {
        let chunk_kind = match kind {
            PageKind::Tree => ChunkKind::Tree,
            PageKind::List => ChunkKind::List,
            PageKind::Refs => ChunkKind::Refs,
        };
        let bytes = self.read_chunk(id, chunk_kind)?;
        let page = Page::parse(&bytes, kind, level)
            .map_err(|error| Error::in_object(&format!("page {id}"), error))?;
        Ok((page, bytes.len()))
    }

    /// Entries of a tree in path order, from the first key that is not below
    /// `from`.
    pub fn tree(&self, root: Root, from: &[u8]) -> TreeWalk<'_> {
        TreeWalk {
            repository: self,
            from: from.to_vec(),
            stack: vec![root],
            entries: Vec::new().into_iter(),
            at_hand: None,
            failed: false,
            ahead: Lookahead::default(),
        }
    }

    /// The entry with exactly this key.
    pub fn find_entry(&self, root: Root, key: &[u8]) -> Result<Option<Entry>> {
        match self.tree(root, key).next() {
            Some(Ok(entry)) if entry.key == key => Ok(Some(entry)),
            Some(Err(error)) => Err(error),
            _ => Ok(None),
        }
    }

    /// The items a content is made of, in order. Inline bytes have none.
    pub fn items(
        &self,
        content: &Content,
        visit: &mut dyn FnMut(Item) -> Result<()>,
    ) -> Result<()> {
        match content {
            Content::Empty | Content::Inline(_) => Ok(()),
            Content::Items(items) => items.iter().try_for_each(|item| visit(*item)),
            Content::List(root) => self.list_items(*root, visit),
        }
    }

    fn list_items(&self, root: Root, visit: &mut dyn FnMut(Item) -> Result<()>) -> Result<()> {
        match self.read_page(PageKind::List, &root.id, root.level)? {
            Page::Items(items) => items.into_iter().try_for_each(visit),
            Page::ListChildren(children) => children.into_iter().try_for_each(|child| {
                self.list_items(Root { id: child.id, level: root.level - 1 }, visit)
            }),
            _ => Err(Error::damage(format!("page {} is of another kind", root.id))),
        }
    }

    /// All references of a set, sorted by birth.
    pub fn references(
        &self,
        root: Root,
        visit: &mut dyn FnMut(&Reference) -> Result<()>,
    ) -> Result<()> {
        self.reference_pages(root, &mut |_, references| references.iter().try_for_each(&mut *visit))
    }

    /// Every page of a reference set with the references on it, inner pages with
    /// none. Pages come from the cache where it has them; either way their id is
    /// verified.
    pub fn reference_pages(
        &self,
        root: Root,
        visit: &mut dyn FnMut(ChunkId, &[Reference]) -> Result<()>,
    ) -> Result<()> {
        match self.reference_page(root)? {
            Page::References(references) => visit(root.id, &references),
            Page::RefsChildren(children) => {
                visit(root.id, &[])?;
                children.into_iter().try_for_each(|child| {
                    let child = Root { id: child.id, level: root.level.saturating_sub(1) };
                    self.reference_pages(child, visit)
                })
            }
            _ => Err(Error::damage(format!("page {} is of another kind", root.id))),
        }
    }

    /// Fetches pages of reference sets that are not in the cache, several at once,
    /// where reading one after the other would mean waiting for each.
    pub(crate) fn fetch_references_ahead(&self, pages: &[ChunkId]) {
        let missing = pages.iter().filter(|page| self.index.cached_page(page).is_none());
        self.fetch_ahead(missing, PAGES_AHEAD);
    }

    /// One page of a reference set, from the cache if it is there.
    pub fn reference_page(&self, root: Root) -> Result<Page> {
        let parse = |bytes: &[u8]| Page::parse(bytes, PageKind::Refs, root.level);
        if let Some(bytes) = self.index.cached_page(&root.id)
            && self.keyring.chunk_id(ChunkKind::Refs, &bytes)? == root.id
            && let Ok(page) = parse(&bytes)
        {
            return Ok(page);
        }
        let bytes = self.read_chunk(&root.id, ChunkKind::Refs)?;
        let page =
            parse(&bytes).map_err(|error| Error::in_object(&format!("page {}", root.id), error))?;
        self.index.cache_pages(std::iter::once((&root.id, bytes.as_slice())));
        Ok(page)
    }

    /// All bytes of a small value.
    pub fn read_value(&self, content: &Content, max_length: u64) -> Result<Vec<u8>> {
        if let Content::Inline(bytes) = content {
            return Ok(bytes.clone());
        }
        let mut bytes = Vec::new();
        self.items(content, &mut |item| {
            if bytes.len() as u64 + item.length() > max_length {
                return Err(Error::damage("a value is longer than it may be"));
            }
            match item {
                Item::Chunk { id, .. } => {
                    bytes.extend_from_slice(&self.read_chunk(&id, ChunkKind::Data)?)
                }
                Item::Hole { length } => bytes.resize(bytes.len() + length as usize, 0),
            }
            Ok(())
        })?;
        Ok(bytes)
    }
}

/// An iterator over entries. After an error it ends.
pub struct TreeWalk<'a> {
    repository: &'a Repository,
    from: Vec<u8>,
    stack: Vec<Root>,
    entries: std::vec::IntoIter<Entry>,
    /// The page that they lie on.
    at_hand: Option<PageAtHand>,
    failed: bool,
    ahead: Lookahead,
}

#[derive(Clone, Copy)]
struct PageAtHand {
    id: ChunkId,
    /// In bytes.
    length: usize,
    entries: usize,
}

/// Where in a tree an entry lies: which one of how many on which page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PagePlace {
    pub page: ChunkId,
    /// Bytes of the page.
    pub length: usize,
    pub at: usize,
    pub of: usize,
}

/// How far the pages of a walk were fetched ahead: the farther, the longer it
/// goes on.
#[derive(Default)]
struct Lookahead {
    /// Pages of the lowest level that were passed.
    passed: usize,
    /// Pages to come that were fetched already.
    fetched: usize,
    /// Blocks to fetch next time.
    blocks: usize,
}

impl Lookahead {
    /// Before the page on top of the stack is read.
    fn look(&mut self, repository: &Repository, stack: &[Root]) {
        // whoever wants one entry reads one page
        self.passed += 1;
        if self.passed < 2 {
            return;
        }
        if self.fetched == 0 {
            self.blocks = (2 * self.blocks).clamp(2, MAX_BLOCKS_AHEAD);
            let next = stack.iter().rev().take_while(|root| root.level == 0);
            self.fetched = repository.fetch_ahead(next.map(|root| &root.id), self.blocks);
        }
        self.fetched = self.fetched.saturating_sub(1);
    }
}

impl TreeWalk<'_> {
    /// Entries not yet given out of the page at hand; empty at a page's end.
    pub fn at_page_boundary(&self) -> bool {
        self.entries.len() == 0
    }

    /// Where the entry given out last lies.
    pub fn place(&self) -> Option<PagePlace> {
        let PageAtHand { id, length, entries } = self.at_hand?;
        let at = entries.checked_sub(self.entries.len() + 1)?;
        Some(PagePlace { page: id, length, at, of: entries })
    }

    /// After an error: goes on behind the page that could not be read. What it
    /// held is missing from what follows.
    pub fn skip_unreadable(&mut self) {
        self.failed = false;
    }

    fn fill(&mut self) -> Result<bool> {
        while let Some(root) = self.stack.last().copied() {
            if root.level == 0 {
                self.ahead.look(self.repository, &self.stack);
            }
            self.stack.pop();
            let (page, length) =
                self.repository.sized_page(PageKind::Tree, &root.id, root.level)?;
            match page {
                Page::Entries(mut entries) => {
                    self.at_hand = Some(PageAtHand { id: root.id, length, entries: entries.len() });
                    let start = entries.partition_point(|entry| entry.key < self.from);
                    entries.drain(..start);
                    self.entries = entries.into_iter();
                    if !self.at_page_boundary() {
                        return Ok(true);
                    }
                }
                Page::TreeChildren(children) => self.push_children(children, root.level),
                _ => return Err(Error::damage(format!("page {} is of another kind", root.id))),
            }
        }
        Ok(false)
    }

    fn push_children(&mut self, children: Vec<TreeChild>, level: u8) {
        // the last child that begins at or before `from` may still hold it
        let after = children.partition_point(|child| child.first <= self.from);
        let start = after.saturating_sub(1);
        for child in children.into_iter().skip(start).rev() {
            let root = Root { id: child.id, level: level.saturating_sub(1) };
            self.stack.push(root);
        }
    }
}

impl Iterator for TreeWalk<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Result<Entry>> {
        if self.failed {
            return None;
        }
        if let Some(entry) = self.entries.next() {
            return Some(Ok(entry));
        }
        match self.fill() {
            Ok(true) => self.entries.next().map(Ok),
            Ok(false) => None,
            Err(error) => {
                self.failed = true;
                Some(Err(error))
            }
        }
    }
}
