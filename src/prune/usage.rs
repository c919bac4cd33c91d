//! What snapshots use. Every reference page is looked at once, however many
//! snapshots share it, and only pages that may tell of the packs in question
//! are read.

use std::collections::{BTreeSet, HashSet};

use crate::format::content::Root;
use crate::format::pack::{Birth, Coordinate};
use crate::format::page::Page;
use crate::format::reference::Reference;
use crate::id::{ChunkId, PackId};
use crate::repository::coordinates::ReferenceSet;
use crate::repository::pages::PAGES_AHEAD;
use crate::repository::{Error, Repository, Result};

/// Where a reference stands in the order of a set.
pub(super) type Origin = (Birth, PackId);

/// A page with references, and the bounds that one parent tells of it. A parent
/// may lie: another that tells other bounds is believed as well.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Leaf {
    id: ChunkId,
    from: Option<Origin>,
    to: Option<Origin>,
}

/// Which origin packs are asked about.
pub(super) enum Focus {
    All,
    Some(BTreeSet<Origin>),
}

impl Focus {
    pub fn contains(&self, origin: &Origin) -> bool {
        match self {
            Focus::All => true,
            Focus::Some(origins) => origins.contains(origin),
        }
    }

    fn touches(&self, leaf: &Leaf) -> bool {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let Focus::Some(origins) = self else { return true };
        let from = leaf.from.map_or(Unbounded, Included);
        let to = leaf.to.map_or(Unbounded, Excluded);
        let empty = matches!((leaf.from, leaf.to), (Some(from), Some(to)) if from >= to);
        !empty && origins.range((from, to)).next().is_some()
    }
}

/// The pages and coordinates that some snapshots use.
pub(super) struct Usage<'a> {
    repository: &'a Repository,
    pages: HashSet<ChunkId>,
    /// Inner pages that were read, at the level they were read for.
    inner: HashSet<(ChunkId, u8)>,
    leaves: Vec<Leaf>,
    known_leaves: HashSet<Leaf>,
    /// How many of the leaves were read with the focus.
    read: usize,
    focus: Option<Focus>,
    used: ReferenceSet,
}

/// What one set adds, until all of it was read.
#[derive(Default)]
struct Fresh {
    pages: Vec<ChunkId>,
    inner: Vec<(ChunkId, u8)>,
}

impl<'a> Usage<'a> {
    pub fn new(repository: &'a Repository) -> Self {
        Usage {
            repository,
            pages: HashSet::new(),
            inner: HashSet::new(),
            leaves: Vec::new(),
            known_leaves: HashSet::new(),
            read: 0,
            focus: None,
            used: ReferenceSet::default(),
        }
    }

    /// Adds the set below `root`, all of it or, with an error, nothing: a page
    /// that could not be read must not look as if it had been.
    pub fn add(&mut self, root: Root) -> Result<()> {
        let leaves = self.leaves.len();
        let mut fresh = Fresh::default();
        let leaf = Leaf { id: root.id, from: None, to: None };
        let added = self.descend(leaf, root.level, &mut fresh).and_then(|()| self.read_leaves());
        if added.is_err() {
            for leaf in self.leaves.drain(leaves..) {
                self.known_leaves.remove(&leaf);
            }
            self.read = self.read.min(leaves);
            fresh.pages.iter().for_each(|id| {
                self.pages.remove(id);
            });
            fresh.inner.iter().for_each(|page| {
                self.inner.remove(page);
            });
        }
        added
    }

    /// What an inner page says depends on nothing above it: the last of its
    /// children has no end.
    fn descend(&mut self, page: Leaf, level: u8, fresh: &mut Fresh) -> Result<()> {
        if self.pages.insert(page.id) {
            fresh.pages.push(page.id);
        }
        if level == 0 {
            if self.known_leaves.insert(page) {
                self.leaves.push(page);
            }
            return Ok(());
        }
        if !self.inner.insert((page.id, level)) {
            return Ok(());
        }
        fresh.inner.push((page.id, level));
        let children = match self.repository.reference_page(Root { id: page.id, level })? {
            Page::RefsChildren(children) => children,
            _ => return Err(Error::damage(format!("page {} is of another kind", page.id))),
        };
        let mut ends = children.iter().skip(1).map(|next| (next.birth, next.pack));
        for child in &children {
            let (from, to) = (Some((child.birth, child.pack)), ends.next());
            self.descend(Leaf { id: child.id, from, to }, level - 1, fresh)?;
        }
        Ok(())
    }

    /// Counts what is used of these origin packs, from now on too.
    pub fn focus(&mut self, focus: Focus) -> Result<()> {
        self.focus = Some(focus);
        self.used = ReferenceSet::default();
        self.read = 0;
        self.read_leaves()
    }

    fn read_leaves(&mut self) -> Result<()> {
        let Some(focus) = &self.focus else { return Ok(()) };
        let mut fetched = self.read;
        while let Some(leaf) = self.leaves.get(self.read) {
            if self.read == fetched {
                let next = self.leaves.iter().skip(fetched).take(PAGES_AHEAD);
                fetched += PAGES_AHEAD;
                let touched = next.filter(|leaf| focus.touches(leaf)).map(|leaf| leaf.id);
                self.repository.fetch_references_ahead(&touched.collect::<Vec<_>>());
            }
            if focus.touches(leaf) {
                for reference in leaf_references(self.repository, leaf.id)? {
                    if focus.contains(&(reference.birth, reference.pack)) {
                        self.used.add_reference(&reference);
                    }
                }
            }
            self.read += 1;
        }
        Ok(())
    }

    /// Whether the use of an origin pack is counted.
    pub fn counts(&self, origin: &Origin) -> bool {
        self.focus.as_ref().is_some_and(|focus| focus.contains(origin))
    }

    pub fn uses(&self, coordinate: &Coordinate) -> bool {
        self.used.contains(coordinate)
    }

    pub fn used(&self) -> &ReferenceSet {
        &self.used
    }

    pub fn needs_page(&self, id: &ChunkId) -> bool {
        self.pages.contains(id)
    }

    /// All pages that are needed by id.
    pub fn pages(&self) -> impl Iterator<Item = &ChunkId> {
        self.pages.iter()
    }

    /// Pages that `other` does not need, and what the leaves among them name.
    pub fn beyond(&self, other: &Usage<'_>) -> Result<(Vec<ChunkId>, BTreeSet<Origin>)> {
        let pages = self.pages.iter().filter(|id| !other.pages.contains(*id)).copied().collect();
        let mut origins = BTreeSet::new();
        for leaf in self.leaves.iter().filter(|leaf| !other.pages.contains(&leaf.id)) {
            let references = leaf_references(self.repository, leaf.id)?;
            origins.extend(references.iter().map(|reference| (reference.birth, reference.pack)));
        }
        Ok((pages, origins))
    }
}

fn leaf_references(repository: &Repository, id: ChunkId) -> Result<Vec<Reference>> {
    match repository.reference_page(Root { id, level: 0 })? {
        Page::References(references) => Ok(references),
        _ => Err(Error::damage(format!("page {id} is of another kind"))),
    }
}
