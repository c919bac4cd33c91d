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
use crate::repository::{Error, Repository, Result};

/// Where a reference stands in the order of a set.
pub(super) type Origin = (Birth, PackId);

/// A page with references, and the bounds of what it can hold.
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
    leaves: Vec<Leaf>,
    /// How many of the leaves were read with the focus.
    read: usize,
    focus: Option<Focus>,
    used: ReferenceSet,
}

impl<'a> Usage<'a> {
    pub fn new(repository: &'a Repository) -> Self {
        Usage {
            repository,
            pages: HashSet::new(),
            leaves: Vec::new(),
            read: 0,
            focus: None,
            used: ReferenceSet::default(),
        }
    }

    pub fn repository(&self) -> &'a Repository {
        self.repository
    }

    /// Adds the set below `root`.
    pub fn add(&mut self, root: Root) -> Result<()> {
        let leaf = Leaf { id: root.id, from: None, to: None };
        self.descend(leaf, root.level)?;
        self.read_leaves()
    }

    fn descend(&mut self, page: Leaf, level: u8) -> Result<()> {
        if !self.pages.insert(page.id) {
            return Ok(());
        }
        if level == 0 {
            self.leaves.push(page);
            return Ok(());
        }
        let children = match self.repository.reference_page(Root { id: page.id, level })? {
            Page::RefsChildren(children) => children,
            _ => return Err(Error::damage(format!("page {} is of another kind", page.id))),
        };
        let mut ends = children.iter().skip(1).map(|next| Some((next.birth, next.pack)));
        for child in &children {
            let to = ends.next().flatten().or(page.to);
            let from = Some((child.birth, child.pack));
            self.descend(Leaf { id: child.id, from, to }, level - 1)?;
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
        while let Some(leaf) = self.leaves.get(self.read) {
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
