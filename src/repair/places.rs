//! Which chunks are left. A chunk counts where its pack is there, with the length
//! it should have, unmarked and in no plan; in other packs only once it was read.

use std::collections::{HashMap, HashSet};

use crate::format::ChunkKind;
use crate::format::content::{Content, Item, Root};
use crate::format::entry::Entry;
use crate::format::pack::Coordinate;
use crate::format::page::{Page, PageKind};
use crate::id::{ChunkId, PackId};
use crate::repository::coordinates::ReferenceSet;
use crate::repository::index::{PackNumber, Place};
use crate::repository::{Error, ErrorKind, Repository, Result};

/// What is left of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// It lies where it can be relied on.
    At(Coordinate),
    /// It was read, from a pack that nothing should rely on.
    Readable,
    /// It was read, from what is there of a pack that lacks a part.
    Remains,
    Nothing,
}

/// What is asked of chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Demand {
    /// That they can be read.
    Left,
    /// That they can be read from packs that are there as they should be.
    Standing,
}

pub struct Places<'a> {
    pub repository: &'a Repository,
    /// Packs that are there with the length they should have.
    standing: HashSet<PackNumber>,
    /// Packs that are there with another length.
    remains: HashSet<PackNumber>,
    /// Packs that marks call damaged, or that a sweep is about to take.
    avoid: &'a HashSet<PackId>,
    /// Chunks that nothing vouches for, by what came of reading them.
    tried: HashMap<ChunkId, Left>,
    /// Whether all is as demanded at and below a page.
    whole: HashMap<(ChunkId, Demand), bool>,
}

impl<'a> Places<'a> {
    pub fn new(repository: &'a Repository, avoid: &'a HashSet<PackId>) -> Result<Places<'a>> {
        let listed = repository.listed_packs()?;
        let (mut standing, mut remains) = (HashSet::new(), HashSet::new());
        for (number, info) in repository.index().packs() {
            match listed.get(&info.id) {
                Some(length) if *length == info.length => standing.insert(number),
                Some(_) => remains.insert(number),
                None => continue,
            };
        }
        let (tried, whole) = (HashMap::new(), HashMap::new());
        Ok(Places { repository, standing, remains, avoid, tried, whole })
    }

    /// What is left of a chunk; of several places the one `prefer` has counts, else
    /// the oldest.
    pub fn left(&mut self, id: &ChunkId, kind: ChunkKind, prefer: &ReferenceSet) -> Result<Left> {
        let index = self.repository.index();
        let places = index.places(id)?;
        let mut best: Option<(bool, Coordinate)> = None;
        for place in places.iter().filter(|place| self.is_sound(place.pack)) {
            let coordinate = index.toc(place.pack)?.coordinate(place.ordinal);
            let rank = (!prefer.contains(&coordinate), coordinate);
            best = Some(best.map_or(rank, |best| best.min(rank)));
        }
        if let Some((_, coordinate)) = best {
            return Ok(Left::At(coordinate));
        }
        if let Some(left) = self.tried.get(id) {
            return Ok(*left);
        }
        let left = self.try_to_read(id, kind, &places)?;
        self.tried.insert(*id, left);
        Ok(left)
    }

    fn is_sound(&self, number: PackNumber) -> bool {
        let info = self.repository.index().pack(number);
        self.standing.contains(&number)
            && info.is_some_and(|info| {
                !self.avoid.contains(&info.id) && !self.repository.is_failing(&info.id)
            })
    }

    fn try_to_read(&self, id: &ChunkId, kind: ChunkKind, places: &[Place]) -> Result<Left> {
        for (packs, left) in [(&self.standing, Left::Readable), (&self.remains, Left::Remains)] {
            for place in places.iter().filter(|place| packs.contains(&place.pack)) {
                if is_there(self.repository.chunk_at(*place, id, kind))?.is_some() {
                    return Ok(left);
                }
            }
        }
        Ok(Left::Nothing)
    }

    fn is_as(&mut self, demand: Demand, id: &ChunkId, kind: ChunkKind) -> Result<bool> {
        Ok(match self.left(id, kind, &ReferenceSet::default())? {
            Left::At(_) | Left::Readable => true,
            Left::Remains => demand == Demand::Left,
            Left::Nothing => false,
        })
    }

    /// Whether every page of a reference set is as demanded.
    pub fn references_are_whole(&mut self, demand: Demand, root: Root) -> Result<bool> {
        if !self.is_as(demand, &root.id, ChunkKind::Refs)? {
            return Ok(false);
        }
        match self.page(PageKind::Refs, root)? {
            Some(Page::References(_)) => Ok(true),
            Some(Page::RefsChildren(children)) => {
                let level = root.level.saturating_sub(1);
                for child in children {
                    let child = Root { id: child.id, level };
                    if !self.references_are_whole(demand, child)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// A page; nothing if it is lost.
    pub fn page(&mut self, kind: PageKind, root: Root) -> Result<Option<Page>> {
        is_there(self.repository.read_page(kind, &root.id, root.level))
    }

    /// Whether all of a tree is as demanded: pages, lists, chunks, attributes.
    pub fn tree_is_whole(&mut self, demand: Demand, root: Root) -> Result<bool> {
        if let Some(whole) = self.whole.get(&(root.id, demand)) {
            return Ok(*whole);
        }
        let mut whole = self.is_as(demand, &root.id, ChunkKind::Tree)?;
        match self.page(PageKind::Tree, root)? {
            Some(Page::Entries(entries)) => {
                for entry in &entries {
                    whole = whole && self.entry_is_whole(demand, entry)?;
                }
            }
            Some(Page::TreeChildren(children)) => {
                let level = root.level.saturating_sub(1);
                for child in children {
                    whole = whole && self.tree_is_whole(demand, Root { id: child.id, level })?;
                }
            }
            _ => whole = false,
        }
        self.whole.insert((root.id, demand), whole);
        Ok(whole)
    }

    fn entry_is_whole(&mut self, demand: Demand, entry: &Entry) -> Result<bool> {
        for (_, value) in &entry.long_xattrs {
            if !self.content_is_whole(demand, value)? {
                return Ok(false);
            }
        }
        self.content_is_whole(demand, &entry.content)
    }

    /// Names of the long extended attributes that are lost.
    pub fn lost_attributes(&mut self, entry: &Entry) -> Result<Vec<Vec<u8>>> {
        let mut lost = Vec::new();
        for (name, value) in &entry.long_xattrs {
            if !self.content_is_whole(Demand::Left, value)? {
                lost.push(name.clone());
            }
        }
        Ok(lost)
    }

    pub fn content_is_whole(&mut self, demand: Demand, content: &Content) -> Result<bool> {
        match content {
            Content::Empty | Content::Inline(_) => Ok(true),
            Content::Items(items) => self.items_are_whole(demand, items),
            Content::List(root) => self.list_is_whole(demand, *root),
        }
    }

    fn items_are_whole(&mut self, demand: Demand, items: &[Item]) -> Result<bool> {
        for item in items {
            if let Item::Chunk { id, .. } = item
                && !self.is_as(demand, id, ChunkKind::Data)?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn list_is_whole(&mut self, demand: Demand, root: Root) -> Result<bool> {
        if let Some(whole) = self.whole.get(&(root.id, demand)) {
            return Ok(*whole);
        }
        let mut whole = self.is_as(demand, &root.id, ChunkKind::List)?;
        match self.page(PageKind::List, root)? {
            Some(Page::Items(items)) => whole = whole && self.items_are_whole(demand, &items)?,
            Some(Page::ListChildren(children)) => {
                let level = root.level.saturating_sub(1);
                for child in children {
                    whole = whole && self.list_is_whole(demand, Root { id: child.id, level })?;
                }
            }
            _ => whole = false,
        }
        self.whole.insert((root.id, demand), whole);
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
