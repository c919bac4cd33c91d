//! Trees of pages that are cut by their content: the file tree, item lists and
//! reference sets are all built this way.
//!
//! `format-spec/09-tree.md`, rules `[PAGE-1]` to `[PAGE-7]`.

use super::content::{Item, MAX_LEVEL, Root};
use super::entry::{Entry, key_is_valid};
use super::reader::Reader;
use super::reference::{Reference, parse_reference};
use super::{FormatError, Result};
use crate::crypto::SecretKey;
use crate::format::pack::Birth;
use crate::id::{ChunkId, PackId};

/// No page is cut before it has this many bytes, unless the stream ends.
pub const MIN_PAGE: usize = 16 * 1024;
/// A page is cut before an item that would make it longer than this.
pub const TARGET_MAX_PAGE: usize = 256 * 1024;
/// Longest page a parser takes, in bytes: one item may be longer than a page.
pub const MAX_PAGE: usize = 2 << 20;
const HEADER: usize = 8;
/// Of entries, children and references none is shorter, in bytes.
const MIN_ITEM: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PageKind {
    Tree = 1,
    List = 2,
    Refs = 3,
}

/// A child of an inner page of the file tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeChild {
    /// Key of the first entry below it.
    pub first: Vec<u8>,
    pub id: ChunkId,
    pub entries: u64,
    /// Total size of the files below it.
    pub bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListChild {
    pub id: ChunkId,
    pub bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefsChild {
    pub birth: Birth,
    pub pack: PackId,
    pub id: ChunkId,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Page {
    Entries(Vec<Entry>),
    TreeChildren(Vec<TreeChild>),
    Items(Vec<Item>),
    ListChildren(Vec<ListChild>),
    References(Vec<Reference>),
    RefsChildren(Vec<RefsChild>),
}

impl Page {
    /// `page kind 1 | level 1 | zero 2 | count 4 | items`
    pub fn parse(bytes: &[u8], kind: PageKind, level: u8) -> Result<Page> {
        if bytes.len() > MAX_PAGE {
            return Err(FormatError::new("PAGE-2", "a page is longer than 2 MiB"));
        }
        let mut reader = Reader::new(bytes, "PAGE-2");
        if reader.array()? != [kind as u8, level, 0, 0] {
            return Err(FormatError::new("PAGE-1", "a page is of another kind or level"));
        }
        let count = reader.u32()? as usize;
        if count > bytes.len() {
            return Err(FormatError::new("PAGE-2", "a page counts more items than fit"));
        }
        let page = match (kind, level) {
            (PageKind::Tree, 0) => Page::Entries(many(&mut reader, count, Entry::parse)?),
            (PageKind::Tree, _) => Page::TreeChildren(many(&mut reader, count, parse_tree_child)?),
            (PageKind::List, 0) => Page::Items(many(&mut reader, count, Item::parse)?),
            (PageKind::List, _) => Page::ListChildren(many(&mut reader, count, parse_list_child)?),
            (PageKind::Refs, 0) => Page::References(many(&mut reader, count, parse_reference)?),
            (PageKind::Refs, _) => Page::RefsChildren(many(&mut reader, count, parse_refs_child)?),
        };
        reader.end()?;
        page.check()?;
        Ok(page)
    }

    fn check(&self) -> Result<()> {
        let sorted = match self {
            Page::Entries(entries) => entries.is_sorted_by(|a, b| a.key < b.key),
            Page::TreeChildren(children) => children.is_sorted_by(|a, b| a.first < b.first),
            Page::References(references) => {
                references.is_sorted_by(|a, b| (a.birth, a.pack) < (b.birth, b.pack))
            }
            Page::RefsChildren(children) => {
                children.is_sorted_by(|a, b| (a.birth, a.pack) < (b.birth, b.pack))
            }
            Page::Items(_) | Page::ListChildren(_) => true,
        };
        let empty_inner = match self {
            Page::TreeChildren(children) => children.is_empty(),
            Page::ListChildren(children) => children.is_empty(),
            Page::RefsChildren(children) => children.is_empty(),
            _ => false,
        };
        if !sorted {
            return Err(FormatError::new("PAGE-3", "items repeat or are not sorted"));
        }
        if empty_inner {
            return Err(FormatError::new("PAGE-4", "an inner page has no children"));
        }
        Ok(())
    }
}

fn many<T>(
    reader: &mut Reader<'_>,
    count: usize,
    parse: impl Fn(&mut Reader<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    // whatever a count says, no more items than the bytes have room for
    let mut items = Vec::with_capacity(count.min(reader.remaining() / MIN_ITEM));
    for _ in 0..count {
        items.push(parse(reader)?);
    }
    Ok(items)
}

fn parse_tree_child(reader: &mut Reader<'_>) -> Result<TreeChild> {
    let length = usize::from(reader.u16()?);
    let first = reader.take(length)?.to_vec();
    if !key_is_valid(&first) {
        return Err(FormatError::new("ENT-1", "a path has a component that no path may have"));
    }
    let id = ChunkId(reader.array()?);
    Ok(TreeChild { first, id, entries: reader.u64()?, bytes: reader.u64()? })
}

fn parse_list_child(reader: &mut Reader<'_>) -> Result<ListChild> {
    Ok(ListChild { id: ChunkId(reader.array()?), bytes: reader.u64()? })
}

fn parse_refs_child(reader: &mut Reader<'_>) -> Result<RefsChild> {
    Ok(RefsChild {
        birth: Birth(reader.u64()?),
        pack: PackId(reader.array()?),
        id: ChunkId(reader.array()?),
    })
}

/// What a page adds up to, for its parent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub entries: u64,
    pub bytes: u64,
}

/// A page ready to be named and stored.
pub struct FinishedPage {
    pub bytes: Vec<u8>,
    pub level: u8,
    /// Key of its first item, as children are sorted by.
    pub first: Vec<u8>,
    pub totals: Totals,
}

struct OpenPage {
    bytes: Vec<u8>,
    count: u32,
    first: Vec<u8>,
    totals: Totals,
}

/// A page of entries as an earlier tree has it, stored already.
pub struct KnownPage {
    pub id: ChunkId,
    /// Its length in bytes.
    pub length: usize,
    pub entries: Vec<Entry>,
}

/// Where the pages of a builder go.
pub trait PageSink {
    type Error;

    /// Stores a finished page and says its id.
    fn store(&mut self, page: FinishedPage) -> std::result::Result<ChunkId, Self::Error>;

    /// Takes a page that was stored before as one of this tree. If it says no, the
    /// page is built and stored again.
    fn reuse(&mut self, _page: &ChunkId) -> std::result::Result<bool, Self::Error> {
        Ok(false)
    }
}

impl<E, F: FnMut(FinishedPage) -> std::result::Result<ChunkId, E>> PageSink for F {
    type Error = E;

    fn store(&mut self, page: FinishedPage) -> std::result::Result<ChunkId, E> {
        self(page)
    }
}

/// Cuts a sorted stream of items into pages, and those into pages of children,
/// up to one root. The same items give the same pages, whatever came before.
pub struct PageBuilder<S> {
    kind: PageKind,
    cut: SecretKey,
    levels: Vec<OpenPage>,
    scratch: Vec<u8>,
    /// A page of an earlier tree that ends here if what follows lets it.
    known: Option<KnownPage>,
    sink: S,
}

impl OpenPage {
    fn new(kind: PageKind, level: u8) -> Self {
        let bytes = vec![kind as u8, level, 0, 0, 0, 0, 0, 0];
        OpenPage { bytes, count: 0, first: Vec::new(), totals: Totals::default() }
    }
}

impl<S: PageSink> PageBuilder<S> {
    pub fn new(kind: PageKind, cut: SecretKey, sink: S) -> Self {
        let levels = vec![OpenPage::new(kind, 0)];
        PageBuilder { kind, cut, levels, scratch: Vec::new(), known: None, sink }
    }

    pub fn push_entry(&mut self, entry: &Entry) -> std::result::Result<(), S::Error> {
        let mut item = std::mem::take(&mut self.scratch);
        item.clear();
        entry.encode_into(&mut item);
        let totals = Totals { entries: 1, bytes: entry.metadata.size };
        self.settle_known(&entry.key, item.len())?;
        self.push(0, &entry.key, &item, totals)?;
        self.scratch = item;
        Ok(())
    }

    /// Pushes all entries of a page that was built by the same rule. The tree
    /// becomes the same as if they came one by one; where the page stays whole,
    /// its entries are not encoded again.
    pub fn push_known_page(&mut self, page: KnownPage) -> std::result::Result<(), S::Error> {
        debug_assert_eq!(self.kind, PageKind::Tree);
        let Some(first) = page.entries.first() else { return Ok(()) };
        self.scratch.clear();
        first.encode_into(&mut self.scratch);
        let length = self.scratch.len();
        self.settle_known(&first.key, length)?;
        let open = &self.levels[0];
        if open.count > 0 && self.is_cut(0, open.bytes.len(), &first.key, length) {
            self.finish_page(0)?;
        }
        if self.levels[0].count > 0 {
            return page.entries.iter().try_for_each(|entry| self.push_entry(entry));
        }
        self.known = Some(page);
        Ok(())
    }

    /// Ends the page that waits, or opens it again: the next item has this key
    /// and length.
    fn settle_known(&mut self, key: &[u8], length: usize) -> std::result::Result<(), S::Error> {
        match self.known.take() {
            None => Ok(()),
            Some(page) if self.is_cut(0, page.length, key, length) => self.end_known(page),
            Some(page) => page.entries.iter().try_for_each(|entry| self.push_entry(entry)),
        }
    }

    fn end_known(&mut self, page: KnownPage) -> std::result::Result<(), S::Error> {
        if !self.sink.reuse(&page.id)? {
            page.entries.iter().try_for_each(|entry| self.push_entry(entry))?;
            return self.finish_page(0);
        }
        let totals = totals(&page.entries);
        let first = page.entries.into_iter().next().map(|entry| entry.key).unwrap_or_default();
        self.add_child(0, first, page.id, totals)
    }

    pub fn push_item(&mut self, list_item: &Item) -> std::result::Result<(), S::Error> {
        let mut item = Vec::with_capacity(37);
        list_item.encode_into(&mut item);
        let totals = Totals { entries: 1, bytes: list_item.length() };
        self.push(0, &item.clone(), &item, totals)
    }

    pub fn push_reference(&mut self, reference: &Reference) -> std::result::Result<(), S::Error> {
        let mut item = Vec::new();
        reference.encode_into(&mut item);
        let key = reference_key(reference.birth, reference.pack);
        self.push(0, &key, &item, Totals { entries: 1, bytes: 0 })
    }

    /// Whether a page of `length` bytes ends before an item.
    fn is_cut(&self, level: u8, length: usize, key: &[u8], item_length: usize) -> bool {
        let full = length + item_length > TARGET_MAX_PAGE;
        full || length >= MIN_PAGE && self.hits(level, key)
    }

    fn hits(&self, level: u8, key: &[u8]) -> bool {
        let mut hasher = blake3::Hasher::new_keyed(self.cut.bytes());
        hasher.update(&[level]);
        hasher.update(key);
        hasher.finalize().as_bytes()[0] == 0
    }

    fn push(
        &mut self,
        level: u8,
        key: &[u8],
        item: &[u8],
        totals: Totals,
    ) -> std::result::Result<(), S::Error> {
        let open = &self.levels[usize::from(level)];
        if open.count > 0 && self.is_cut(level, open.bytes.len(), key, item.len()) {
            self.finish_page(level)?;
        }
        let open = &mut self.levels[usize::from(level)];
        if open.count == 0 {
            open.first = key.to_vec();
        }
        open.count += 1;
        open.bytes.extend_from_slice(item);
        open.totals.entries += totals.entries;
        open.totals.bytes += totals.bytes;
        Ok(())
    }

    fn close(&mut self, level: u8) -> FinishedPage {
        let fresh = OpenPage::new(self.kind, level);
        let mut open = std::mem::replace(&mut self.levels[usize::from(level)], fresh);
        open.bytes[4..HEADER].copy_from_slice(&open.count.to_le_bytes());
        FinishedPage { bytes: open.bytes, level, first: open.first, totals: open.totals }
    }

    fn finish_page(&mut self, level: u8) -> std::result::Result<(), S::Error> {
        let page = self.close(level);
        let (first, totals) = (page.first.clone(), page.totals);
        let id = self.sink.store(page)?;
        self.add_child(level, first, id, totals)
    }

    /// Adds a page of `level` to the level above.
    fn add_child(
        &mut self,
        level: u8,
        first: Vec<u8>,
        id: ChunkId,
        totals: Totals,
    ) -> std::result::Result<(), S::Error> {
        let above = level + 1;
        if usize::from(above) == self.levels.len() {
            assert!(above <= MAX_LEVEL, "a tree of pages this high holds more than any store");
            self.levels.push(OpenPage::new(self.kind, above));
        }
        let mut item = Vec::new();
        let key = match self.kind {
            PageKind::Tree => {
                item.extend_from_slice(&(first.len() as u16).to_le_bytes());
                item.extend_from_slice(&first);
                item.extend_from_slice(&id.0);
                item.extend_from_slice(&totals.entries.to_le_bytes());
                item.extend_from_slice(&totals.bytes.to_le_bytes());
                first
            }
            PageKind::List => {
                item.extend_from_slice(&id.0);
                item.extend_from_slice(&totals.bytes.to_le_bytes());
                id.0.to_vec()
            }
            PageKind::Refs => {
                item.extend_from_slice(&first);
                item.extend_from_slice(&id.0);
                first
            }
        };
        self.push(above, &key, &item, totals)
    }

    /// Stores what is open and says the root and what it adds up to.
    pub fn finish(mut self) -> std::result::Result<(Root, Totals), S::Error> {
        match self.known.take() {
            Some(page) if self.levels.len() == 1 => {
                if self.sink.reuse(&page.id)? {
                    return Ok((Root { id: page.id, level: 0 }, totals(&page.entries)));
                }
                page.entries.iter().try_for_each(|entry| self.push_entry(entry))?;
            }
            Some(page) => self.end_known(page)?,
            None => {}
        }
        let mut level = 0u8;
        while usize::from(level) + 1 < self.levels.len() {
            if self.levels[usize::from(level)].count > 0 {
                self.finish_page(level)?;
            }
            level += 1;
        }
        let page = self.close(level);
        let totals = page.totals;
        Ok((Root { id: self.sink.store(page)?, level }, totals))
    }
}

fn totals(entries: &[Entry]) -> Totals {
    let bytes = entries.iter().map(|entry| entry.metadata.size).sum();
    Totals { entries: entries.len() as u64, bytes }
}

/// How references are keyed: birth, then origin pack.
fn reference_key(birth: Birth, pack: PackId) -> Vec<u8> {
    [&birth.0.to_le_bytes()[..], &pack.0].concat()
}

#[cfg(test)]
mod tests;
