//! Which chunks are left. A chunk counts where its pack is there, with the length
//! it should have, unmarked and in no plan; in other packs only once it was read.

use std::collections::{HashMap, HashSet};

use crate::format::ChunkKind;
use crate::format::content::{Content, Item, Root};
use crate::format::entry::Entry;
use crate::format::pack::Coordinate;
use crate::format::page::{Page, PageKind};
use crate::id::{ChunkId, PackId};
use crate::repository::commit::ReferenceSet;
use crate::repository::index::PackNumber;
use crate::repository::{Error, ErrorKind, Repository, Result};

/// What is left of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// It lies where it can be relied on.
    At(Coordinate),
    /// It was read, from a pack that nothing should rely on.
    Readable,
    Nothing,
}

pub struct Places<'a> {
    pub repository: &'a Repository,
    /// Packs to rely on.
    sound: HashSet<PackNumber>,
    /// Packs that are there and that nothing should rely on.
    doubtful: HashSet<PackNumber>,
    /// Whether chunks in doubtful packs only could be read.
    tried: HashMap<ChunkId, bool>,
    /// Pages at and below which nothing is lost.
    whole: HashMap<ChunkId, bool>,
}

impl<'a> Places<'a> {
    /// `avoid` are packs that marks call damaged, or that a sweep is about to take.
    pub fn new(repository: &'a Repository, avoid: &HashSet<PackId>) -> Result<Places<'a>> {
        let listed = repository.listed_packs()?;
        let (mut sound, mut doubtful) = (HashSet::new(), HashSet::new());
        for (number, info) in repository.index().packs() {
            if listed.get(&info.id) != Some(&info.length) {
                continue;
            }
            match avoid.contains(&info.id) {
                true => doubtful.insert(number),
                false => sound.insert(number),
            };
        }
        let (tried, whole) = (HashMap::new(), HashMap::new());
        Ok(Places { repository, sound, doubtful, tried, whole })
    }

    /// What is left of a chunk; of several places the one `prefer` has counts, else
    /// the oldest.
    pub fn left(&mut self, id: &ChunkId, kind: ChunkKind, prefer: &ReferenceSet) -> Result<Left> {
        let index = self.repository.index();
        let (mut best, mut doubtful) = (None, false);
        for place in index.places(id)? {
            let failing =
                || index.pack(place.pack).is_none_or(|info| self.repository.is_failing(&info.id));
            if !self.sound.contains(&place.pack) || failing() {
                let there = self.doubtful.contains(&place.pack) || self.sound.contains(&place.pack);
                doubtful |= there;
                continue;
            }
            let coordinate = index.toc(place.pack)?.coordinate(place.ordinal);
            let rank = (!prefer.contains(coordinate), coordinate);
            best = Some(best.map_or(rank, |best: (bool, Coordinate)| best.min(rank)));
        }
        match best {
            Some((_, coordinate)) => Ok(Left::At(coordinate)),
            None if doubtful && self.can_be_read(id, kind)? => Ok(Left::Readable),
            None => Ok(Left::Nothing),
        }
    }

    fn can_be_read(&mut self, id: &ChunkId, kind: ChunkKind) -> Result<bool> {
        if let Some(read) = self.tried.get(id) {
            return Ok(*read);
        }
        let read = is_there(self.repository.read_chunk(id, kind))?.is_some();
        self.tried.insert(*id, read);
        Ok(read)
    }

    fn is_left(&mut self, id: &ChunkId, kind: ChunkKind) -> Result<bool> {
        Ok(self.left(id, kind, &ReferenceSet::default())? != Left::Nothing)
    }

    /// A page; nothing if it is lost.
    pub fn page(&mut self, kind: PageKind, root: Root) -> Result<Option<Page>> {
        is_there(self.repository.read_page(kind, &root.id, root.level))
    }

    /// Whether nothing of a tree is lost: pages, lists, chunks, attributes.
    pub fn tree_is_whole(&mut self, root: Root) -> Result<bool> {
        if let Some(whole) = self.whole.get(&root.id) {
            return Ok(*whole);
        }
        let whole = match self.page(PageKind::Tree, root)? {
            Some(Page::Entries(entries)) => {
                let mut whole = true;
                for entry in &entries {
                    whole &= self.lost_attributes(entry)?.is_empty()
                        && self.content_is_whole(&entry.content)?;
                }
                whole
            }
            Some(Page::TreeChildren(children)) => {
                let mut whole = true;
                for child in children {
                    let level = root.level.saturating_sub(1);
                    whole &= self.tree_is_whole(Root { id: child.id, level })?;
                }
                whole
            }
            _ => false,
        };
        self.whole.insert(root.id, whole);
        Ok(whole)
    }

    /// Names of the long extended attributes that are lost.
    pub fn lost_attributes(&mut self, entry: &Entry) -> Result<Vec<Vec<u8>>> {
        let mut lost = Vec::new();
        for (name, value) in &entry.long_xattrs {
            if !self.content_is_whole(value)? {
                lost.push(name.clone());
            }
        }
        Ok(lost)
    }

    pub fn content_is_whole(&mut self, content: &Content) -> Result<bool> {
        match content {
            Content::Empty | Content::Inline(_) => Ok(true),
            Content::Items(items) => self.items_are_whole(items),
            Content::List(root) => self.list_is_whole(*root),
        }
    }

    fn items_are_whole(&mut self, items: &[Item]) -> Result<bool> {
        for item in items {
            if let Item::Chunk { id, .. } = item
                && !self.is_left(id, ChunkKind::Data)?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn list_is_whole(&mut self, root: Root) -> Result<bool> {
        if let Some(whole) = self.whole.get(&root.id) {
            return Ok(*whole);
        }
        let whole = match self.page(PageKind::List, root)? {
            Some(Page::Items(items)) => self.items_are_whole(&items)?,
            Some(Page::ListChildren(children)) => {
                let mut whole = true;
                for child in children {
                    let level = root.level.saturating_sub(1);
                    whole = whole && self.list_is_whole(Root { id: child.id, level })?;
                }
                whole
            }
            _ => false,
        };
        self.whole.insert(root.id, whole);
        Ok(whole)
    }

    /// Every chunk that a whole content is made of, pages of its list included.
    pub fn chunks_of(
        &mut self,
        content: &Content,
        visit: &mut dyn FnMut(&mut Self, ChunkId, ChunkKind) -> Result<()>,
    ) -> Result<()> {
        match content {
            Content::Empty | Content::Inline(_) => Ok(()),
            Content::Items(items) => self.chunks_of_items(items, visit),
            Content::List(root) => self.chunks_of_list(*root, visit),
        }
    }

    fn chunks_of_items(
        &mut self,
        items: &[Item],
        visit: &mut dyn FnMut(&mut Self, ChunkId, ChunkKind) -> Result<()>,
    ) -> Result<()> {
        for item in items {
            if let Item::Chunk { id, .. } = item {
                visit(self, *id, ChunkKind::Data)?;
            }
        }
        Ok(())
    }

    fn chunks_of_list(
        &mut self,
        root: Root,
        visit: &mut dyn FnMut(&mut Self, ChunkId, ChunkKind) -> Result<()>,
    ) -> Result<()> {
        visit(self, root.id, ChunkKind::List)?;
        match self.repository.read_page(PageKind::List, &root.id, root.level)? {
            Page::Items(items) => self.chunks_of_items(&items, visit),
            Page::ListChildren(children) => children.into_iter().try_for_each(|child| {
                let level = root.level.saturating_sub(1);
                self.chunks_of_list(Root { id: child.id, level }, visit)
            }),
            _ => Err(Error::damage(format!("page {} is of another kind", root.id))),
        }
    }
}

/// Nothing where there is damage.
pub fn is_there<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind == ErrorKind::Damage => Ok(None),
        Err(error) => Err(error),
    }
}
