//! Says under snapshots which packs are damaged, so that no backup builds on
//! them and no prune relies on them. Which snapshots need a pack is told by their
//! reference sets, so every role can do it.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use super::ends_check;
use super::report::CheckReport;
use crate::format::content::Root;
use crate::format::notes::MarkKind;
use crate::format::pack::Coordinate;
use crate::format::page::{Page, PageKind};
use crate::format::reference::Reference;
use crate::id::{ChunkId, PackId};
use crate::repository::coordinates::Holders;
use crate::repository::index::Place;
use crate::repository::snapshots::{Listing, State};
use crate::repository::{Repository, Result, now_ms};

type Packs = Rc<BTreeSet<PackId>>;

struct Search<'a> {
    repository: &'a Repository,
    holders: Holders,
    damaged: BTreeSet<PackId>,
    /// Packs that chunks of the damaged ones were born in.
    origins: BTreeSet<PackId>,
    /// Damaged packs that a page and those below it need.
    pages: HashMap<ChunkId, Packs>,
}

/// Marks the packs that a check found damaged under every confirmed snapshot that
/// needs them; what none needs, under the newest. What is marked already is not
/// marked again. How many marks were put.
pub fn mark_damaged(repository: &Repository, report: &CheckReport) -> Result<u64> {
    if report.damaged_packs.is_empty() {
        return Ok(0);
    }
    let Listing { snapshots, damaged: marked, .. } = repository.list_snapshots()?;
    let damaged: BTreeSet<PackId> = report.damaged_packs.iter().map(|pack| pack.id).collect();
    let mut search = Search::new(repository, damaged)?;
    let mut unmarked: BTreeSet<PackId> = &search.damaged - &marked;
    let mut marks = 0;
    let mut put = |snapshot, packs: Vec<PackId>| {
        marks += u64::from(!packs.is_empty());
        match packs.is_empty() {
            true => Ok(()),
            false => repository.put_mark(snapshot, MarkKind::Damaged(packs), now_ms()),
        }
    };
    let confirmed = || snapshots.iter().filter(|snapshot| snapshot.state == State::Confirmed);
    for snapshot in confirmed() {
        let needed = search.page(snapshot.manifest.references)?;
        unmarked = &unmarked - &needed;
        put(snapshot.id, needed.difference(&snapshot.damaged).copied().collect())?;
    }
    if let Some(newest) = confirmed().next_back() {
        put(newest.id, unmarked.into_iter().collect())?;
    }
    Ok(marks)
}

impl<'a> Search<'a> {
    fn new(repository: &'a Repository, damaged: BTreeSet<PackId>) -> Result<Self> {
        let index = repository.index();
        let mut origins: BTreeSet<PackId> = damaged.iter().copied().collect();
        for number in damaged.iter().filter_map(|id| index.pack_number(*id)) {
            origins.extend(index.toc(number)?.toc.foreign.iter().map(|run| run.pack));
        }
        let holders = Holders::of(repository, &origins)?;
        Ok(Search { repository, holders, damaged, origins, pages: HashMap::new() })
    }

    fn page(&mut self, root: Root) -> Result<Packs> {
        if let Some(packs) = self.pages.get(&root.id) {
            return Ok(packs.clone());
        }
        let mut packs = self.among_damaged(&self.repository.index().places(&root.id)?);
        match self.repository.read_page(PageKind::Refs, &root.id, root.level) {
            Ok(Page::References(references)) => {
                for reference in &references {
                    packs.extend(self.reference(reference));
                }
            }
            Ok(Page::RefsChildren(children)) => {
                for child in children {
                    let child = Root { id: child.id, level: root.level.saturating_sub(1) };
                    packs.extend(self.page(child)?.iter());
                }
            }
            Err(error) if ends_check(&error) => return Err(error),
            // nobody knows which it needs, so it may be any
            Ok(_) | Err(_) => packs.clone_from(&self.damaged),
        }
        let packs = Rc::new(packs);
        self.pages.insert(root.id, packs.clone());
        Ok(packs)
    }

    fn reference(&self, reference: &Reference) -> BTreeSet<PackId> {
        let (birth, pack) = (reference.birth, reference.pack);
        if !self.origins.contains(&pack) {
            return BTreeSet::new();
        }
        let coordinates = reference.ordinals().map(|ordinal| Coordinate { birth, pack, ordinal });
        let places = |coordinate| self.holders.places(self.repository, &coordinate);
        self.among_damaged(&coordinates.flat_map(places).collect::<Vec<_>>())
    }

    fn among_damaged(&self, places: &[Place]) -> BTreeSet<PackId> {
        let index = self.repository.index();
        let ids = places.iter().filter_map(|place| Some(index.pack(place.pack)?.id));
        ids.filter(|id| self.damaged.contains(id)).collect()
    }
}
