//! Damaged packs of which nothing is lost: whatever kept snapshots use of them
//! lies, by the same chunk id, in another pack that is whole there.

use std::collections::{BTreeSet, HashSet};

use super::packs::Packs;
use super::report::Grade;
use super::{ends_check, grade, stop_if_interrupted};
use crate::format::content::Root;
use crate::format::pack::Coordinate;
use crate::format::page::{Page, PageKind};
use crate::format::reference::Reference;
use crate::id::{ChunkId, PackId};
use crate::progress::{Event, Progress};
use crate::repository::coordinates::Holders;
use crate::repository::index::{PackNumber, Place};
use crate::repository::snapshots::Snapshot;
use crate::repository::{Repository, Result};

struct Search<'a> {
    repository: &'a Repository,
    packs: &'a Packs<'a>,
    holders: Holders,
    /// Packs that chunks of the damaged ones were born in.
    origins: BTreeSet<PackId>,
    seen: HashSet<ChunkId>,
    /// Damaged packs that something is lost with.
    lossy: HashSet<PackNumber>,
}

/// The damaged packs that cost no kept snapshot anything. When a page of
/// references cannot be read, nobody knows what is used: then there are none.
pub(super) fn find(
    repository: &Repository,
    snapshots: &[Snapshot],
    packs: &Packs<'_>,
    progress: &dyn Progress,
) -> Result<HashSet<PackId>> {
    if packs.damaged.is_empty() {
        return Ok(HashSet::new());
    }
    progress.event(Event::Stage("looking for what is lost"));
    let mut origins = BTreeSet::new();
    for number in packs.damaged.keys() {
        let toc = repository.index().toc(*number)?;
        origins.insert(toc.pack);
        origins.extend(toc.toc.foreign.iter().map(|run| run.pack));
    }
    let holders = Holders::of(repository, &origins)?;
    let (seen, lossy) = (HashSet::new(), HashSet::new());
    let mut search = Search { repository, packs, holders, origins, seen, lossy };
    for snapshot in snapshots.iter().filter(|snapshot| grade(snapshot) == Grade::Damage) {
        stop_if_interrupted(progress)?;
        if !search.page(snapshot.manifest.references)? {
            return Ok(HashSet::new());
        }
    }
    let healed = packs.damaged.keys().filter(|number| !search.lossy.contains(number));
    Ok(healed.filter_map(|number| Some(repository.index().pack(*number)?.id)).collect())
}

impl Search<'_> {
    /// Whether the page and all below it can be read.
    fn page(&mut self, root: Root) -> Result<bool> {
        if !self.seen.insert(root.id) {
            return Ok(true);
        }
        self.chunk(&root.id)?;
        match self.repository.read_page(PageKind::Refs, &root.id, root.level) {
            Ok(Page::References(references)) => {
                references.iter().try_for_each(|reference| self.reference(reference))?;
                Ok(true)
            }
            Ok(Page::RefsChildren(children)) => {
                for child in children {
                    let child = Root { id: child.id, level: root.level.saturating_sub(1) };
                    if !self.page(child)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Ok(_) => Ok(false),
            Err(error) if ends_check(&error) => Err(error),
            Err(_) => Ok(false),
        }
    }

    fn reference(&mut self, reference: &Reference) -> Result<()> {
        let (birth, pack) = (reference.birth, reference.pack);
        if !self.origins.contains(&pack) {
            return Ok(());
        }
        for ordinal in reference.ordinals() {
            let coordinate = Coordinate { birth, pack, ordinal };
            let places = self.holders.places(self.repository, &coordinate);
            if self.any_stands(&places)? {
                continue;
            }
            if let Some(id) = self.chunk_at(&places)? {
                self.chunk(&id)?;
            }
        }
        Ok(())
    }

    fn chunk_at(&self, places: &[Place]) -> Result<Option<ChunkId>> {
        let Some(place) = places.first() else { return Ok(None) };
        let toc = self.repository.index().toc(place.pack)?;
        Ok(toc.toc.chunks.get(usize::from(place.ordinal)).map(|chunk| chunk.id))
    }

    /// Blames the damaged packs that hold a chunk if it stands nowhere else.
    fn chunk(&mut self, id: &ChunkId) -> Result<()> {
        let places = self.repository.index().places(id)?;
        if !self.any_stands(&places)? {
            let numbers = places.iter().map(|place| place.pack);
            self.lossy.extend(numbers.filter(|number| self.packs.damaged.contains_key(number)));
        }
        Ok(())
    }

    fn any_stands(&self, places: &[Place]) -> Result<bool> {
        for place in places {
            if self.packs.stands_soundly(*place)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
