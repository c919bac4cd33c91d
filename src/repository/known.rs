//! Which chunks a run may build on, and where those it uses came to lie.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::coordinates::ReferenceSet;
use super::index::{PackInfo, PackToc, Place};
use super::neighbours::Neighbours;
use super::packer::Packer;
use super::sync::{Claim, Claimants};
use super::{Repository, Result};
use crate::format::pack::Coordinate;
use crate::id::{ChunkId, PackId};

/// Packs that are not built upon.
#[derive(Clone, Default)]
pub struct Unusable {
    /// A sweep that was announced takes them.
    pub doomed: HashSet<PackId>,
    /// Missing, or marked as damaged: what they held is stored again.
    pub lost: HashSet<PackId>,
}

/// Looks up what is in the repository already, for one run.
pub struct Known<'a> {
    repository: &'a Repository,
    claimants: Claimants,
    /// Spares look-ups in a first run until it has packs of its own there.
    index_is_empty: AtomicBool,
    unusable: &'a Unusable,
    /// What the snapshot before uses: taken rather than any other place.
    preferred: ReferenceSet,
}

impl<'a> Known<'a> {
    pub fn new(
        repository: &'a Repository,
        unusable: &'a Unusable,
        preferred: ReferenceSet,
    ) -> Known<'a> {
        Known {
            repository,
            claimants: repository.claimants(),
            index_is_empty: AtomicBool::new(repository.index().is_empty()),
            unusable,
            preferred,
        }
    }

    /// The coordinate of a chunk that this client may build on. Of several the
    /// preferred one counts, else the oldest, so that duplicates die out.
    pub fn find(&self, id: &ChunkId) -> Result<Option<Coordinate>> {
        Ok(self.look_up(id)?.map(|(coordinate, ..)| coordinate))
    }

    /// The coordinate, and where and in which pack the chunk lies.
    fn look_up(&self, id: &ChunkId) -> Result<Option<(Coordinate, Place, PackInfo)>> {
        if self.index_is_empty.load(Ordering::Acquire) {
            return Ok(None);
        }
        let mut best: Option<(bool, Coordinate, Place, PackInfo)> = None;
        for (place, info) in self.repository.index().places_and_packs(id)? {
            let Some(coordinate) = self.usable_at(place, &info, id)? else { continue };
            let foreign = !self.preferred.contains(&coordinate);
            if best.as_ref().is_none_or(|best| (foreign, coordinate) < (best.0, best.1)) {
                best = Some((foreign, coordinate, place, info));
            }
        }
        Ok(best.map(|(_, coordinate, place, info)| (coordinate, place, info)))
    }

    /// The coordinate of a chunk at a place, if this client may build on it there.
    fn usable_at(&self, place: Place, info: &PackInfo, id: &ChunkId) -> Result<Option<Coordinate>> {
        let claim = self.claimants.claim(info);
        match claim {
            Claim::Nothing => return Ok(None),
            // what is true of all chunks of a pack takes no table to tell
            Claim::All if !info.has_foreign => {
                let born = Coordinate { birth: info.birth, pack: info.id, ordinal: place.ordinal };
                return Ok(self.stays(&info.id).then_some(born));
            }
            Claim::All | Claim::Blocks => {}
        }
        let toc = self.repository.index().toc(place.pack)?;
        // numbers of packs change their meaning when the index is made anew
        if toc.pack != info.id || !toc.has_at(place.ordinal, id) {
            return Ok(None);
        }
        Ok(self.usable(&toc, claim, place.ordinal))
    }

    /// The coordinate of a chunk in a pack, if this client may build on it there.
    fn usable(&self, toc: &PackToc, claim: Claim, ordinal: u16) -> Option<Coordinate> {
        let usable = self.stays(&toc.pack) && self.claimants.may_use(claim, toc, ordinal);
        usable.then(|| toc.coordinate(ordinal))
    }

    fn stays(&self, pack: &PackId) -> bool {
        !self.unusable.doomed.contains(pack) && !self.is_lost(pack)
    }

    /// Says that packs of this run are in the index by now.
    pub fn index_grew(&self) {
        self.index_is_empty.store(false, Ordering::Release);
    }

    /// Whether what a pack held must be stored again: it is missing, marked as
    /// damaged, or did not give what this run wanted to read from it.
    fn is_lost(&self, pack: &PackId) -> bool {
        self.unusable.lost.contains(pack) || self.repository.is_failing(pack)
    }

    /// Whether the index has a place for a chunk that cannot be relied on.
    pub fn lies_in_lost(&self, id: &ChunkId) -> Result<bool> {
        // nearly always: no look-up more for every new chunk
        if self.unusable.lost.is_empty() && self.repository.failing_packs().is_empty() {
            return Ok(false);
        }
        let index = self.repository.index();
        let lost = |pack| index.pack(pack).is_some_and(|info| self.is_lost(&info.id));
        Ok(index.places(id)?.iter().any(|place| lost(place.pack)))
    }

    /// Packs that no page of references is taken from.
    pub fn unusable_packs(&self) -> HashSet<PackId> {
        let mut packs = &self.unusable.doomed | &self.unusable.lost;
        packs.extend(self.repository.failing_packs());
        packs
    }
}

/// Looks chunks up for one thread, next to the last ones first.
pub struct Lookup<'a> {
    known: &'a Known<'a>,
    near: Neighbours<Claim>,
}

impl<'a> Lookup<'a> {
    pub fn new(known: &'a Known<'a>) -> Self {
        Lookup { known, near: Neighbours::default() }
    }

    /// As [`Known::find`], but of several places any that is preferred.
    pub fn find(&mut self, id: &ChunkId) -> Result<Option<Coordinate>> {
        let known = self.known;
        let found = self.near.find(id, |near, ordinal| {
            let coordinate = known.usable(&near.toc, near.about, ordinal)?;
            known.preferred.contains(&coordinate).then_some(coordinate)
        });
        if let Some(coordinate) = found {
            return Ok(Some(coordinate));
        }
        let Some((coordinate, place, info)) = known.look_up(id)? else { return Ok(None) };
        // for chunks in no order no table is read only to try what lies behind them
        let is_same = |toc: &Arc<PackToc>| toc.pack == info.id && toc.has_at(place.ordinal, id);
        let near = self.near.toc(&place, id).filter(is_same);
        let toc = near.or_else(|| known.repository.index().kept_toc(place.pack));
        if let Some(toc) = toc.filter(is_same) {
            self.near.used(place.pack, toc, known.claimants.claim(&info), place.ordinal);
        }
        Ok(Some(coordinate))
    }
}

/// Coordinates used so far; those of chunks in open packs are not known yet.
#[derive(Default)]
pub struct Used {
    pub set: ReferenceSet,
    pending: Vec<ChunkId>,
}

impl Used {
    /// Notes a chunk with the coordinate it has, if it was there before this run.
    pub fn add(&mut self, id: ChunkId, known: Option<Coordinate>) {
        match known {
            Some(coordinate) => self.set.add(coordinate),
            None => self.pending.push(id),
        }
    }

    /// Adds what another part of the run used.
    pub fn absorb(&mut self, other: Used) {
        other.set.references().for_each(|reference| self.set.add_reference(&reference));
        self.pending.extend(other.pending);
    }

    /// Resolves what lies in closed packs by now.
    pub fn resolve(&mut self, packer: &Packer, known: &Known<'_>) -> Result<()> {
        let mut open = Vec::new();
        for id in self.pending.drain(..) {
            let placed = match packer.coordinate(&id) {
                Some(coordinate) => Some(coordinate),
                // its pack went into the index at an earlier checkpoint
                None if !packer.is_claimed(&id) => known.find(&id)?,
                None => None,
            };
            match placed {
                Some(coordinate) => self.set.add(coordinate),
                None => open.push(id),
            }
        }
        self.pending = open;
        Ok(())
    }

    /// Chunks whose coordinates are not known yet.
    pub fn unplaced(&self) -> usize {
        self.pending.len()
    }

    pub fn all_resolved(&self) -> bool {
        self.pending.is_empty()
    }
}

impl Repository {
    /// Packs that the index tells of and the store does not have.
    pub fn missing_packs(&self) -> Result<HashSet<PackId>> {
        let listed = self.listed_packs()?;
        let packs = self.index.packs().into_iter();
        let missing = packs.filter(|(_, info)| listed.get(&info.id) != Some(&info.length));
        Ok(missing.map(|(_, info)| info.id).collect())
    }
}
