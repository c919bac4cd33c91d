//! What of a pack is needed: the question that planning and sweeping ask alike.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::usage::{Focus, Origin, Usage};
use crate::format::ChunkKind;
use crate::format::pack::{Coordinate, PackKind};
use crate::id::{ChunkId, PackId};
use crate::repository::coordinates::Holders;
use crate::repository::index::{PackNumber, PackToc, Place};
use crate::repository::{ErrorKind, Repository, Result};

/// What is known of the store when a pack is judged.
pub(super) struct Survey<'a> {
    pub repository: &'a Repository,
    /// What snapshots that stay use.
    pub staying: Usage<'a>,
    /// Packs in the store, with their lengths.
    pub listed: HashMap<PackId, u64>,
    /// Packs that other plans name: they count as gone.
    pub condemned: HashSet<PackId>,
    /// Packs that a mark calls damaged: nothing relies on them.
    pub damaged: BTreeSet<PackId>,
    /// Packs in the index that exist, are in no other plan, and were not seen to
    /// be damaged.
    standing: HashSet<PackNumber>,
    /// Numbers of the packs that this plan names.
    going: HashSet<PackNumber>,
    holders: Holders,
    /// Chunks that are used where they are lost: wherever else they lie, they
    /// are needed.
    lost: HashSet<ChunkId>,
}

impl<'a> Survey<'a> {
    pub fn new(
        repository: &'a Repository,
        staying: Usage<'a>,
        listed: HashMap<PackId, u64>,
        condemned: HashSet<PackId>,
        damaged: BTreeSet<PackId>,
    ) -> Self {
        Survey {
            repository,
            staying,
            listed,
            condemned,
            damaged,
            standing: HashSet::new(),
            going: HashSet::new(),
            holders: Holders::default(),
            lost: HashSet::new(),
        }
    }

    /// Packs that the index tells of and that cannot be relied on.
    pub fn unreliable(&self) -> Vec<PackId> {
        let packs = self.repository.index().packs().into_iter();
        packs
            .filter(|(_, info)| {
                self.listed.get(&info.id) != Some(&info.length) || self.damaged.contains(&info.id)
            })
            .map(|(_, info)| info.id)
            .collect()
    }

    /// Counts what is used of `origins`, or of everything, and finds out which
    /// of it is lost.
    pub fn focus(&mut self, focus: Focus) -> Result<()> {
        let origins: Option<BTreeSet<PackId>> = match &focus {
            Focus::All => None,
            Focus::Some(origins) => Some(origins.iter().map(|(_, pack)| *pack).collect()),
        };
        // pages first: to read one may bring the index up to date
        self.staying.focus(focus)?;
        self.find_standing();
        self.holders = match origins {
            None => Holders::load(self.repository)?,
            Some(origins) => Holders::of(self.repository, &origins)?,
        };
        self.find_lost()
    }

    /// Looks again at what may have changed with new packs in the index.
    pub fn refresh(
        &mut self,
        origins: &BTreeSet<Origin>,
        all: bool,
        leaving: &[PackId],
    ) -> Result<()> {
        self.find_standing();
        self.set_leaving(leaving);
        self.holders = if all {
            Holders::load(self.repository)?
        } else {
            Holders::of(self.repository, &origins.iter().map(|(_, pack)| *pack).collect())?
        };
        self.find_lost()
    }

    fn find_lost(&mut self) -> Result<()> {
        self.lost.clear();
        for pack in self.unreliable() {
            let Some(number) = self.repository.index().pack_number(pack) else { continue };
            let toc = self.repository.index().toc(number)?;
            for (chunk, ordinal) in toc.toc.chunks.iter().zip(0u16..=u16::MAX) {
                let coordinate = toc.coordinate(ordinal);
                if self.staying.uses(&coordinate) && !self.is_elsewhere(pack, &coordinate) {
                    self.lost.insert(chunk.id);
                }
            }
        }
        Ok(())
    }

    /// Whether a pack exists, is indexed, is in no plan, and was not seen to be
    /// damaged.
    fn stands(&self, place: &Place) -> bool {
        self.standing.contains(&place.pack) && !self.going.contains(&place.pack)
    }

    fn find_standing(&mut self) {
        let packs = self.repository.index().packs().into_iter();
        self.standing = packs
            .filter(|(_, info)| {
                self.listed.get(&info.id) == Some(&info.length)
                    && !self.condemned.contains(&info.id)
                    && !self.damaged.contains(&info.id)
            })
            .map(|(number, _)| number)
            .collect();
    }

    /// These packs, and no others, are named by this plan.
    pub fn set_leaving(&mut self, packs: &[PackId]) {
        let number = |pack: &PackId| self.repository.index().pack_number(*pack);
        self.going = packs.iter().filter_map(number).collect();
    }

    /// This plan names one pack more.
    pub fn add_leaving(&mut self, pack: PackId) {
        self.going.extend(self.repository.index().pack_number(pack));
    }

    /// Whether a coordinate that `pack` holds lies in another pack that stands.
    fn is_elsewhere(&self, pack: PackId, coordinate: &Coordinate) -> bool {
        let own = self.repository.index().pack_number(pack);
        self.holders
            .places(self.repository, coordinate)
            .iter()
            .any(|place| Some(place.pack) != own && self.stands(place))
    }

    /// Whether a reference page was read in another pack that stands.
    fn page_is_elsewhere(&self, pack: PackId, id: &ChunkId) -> Result<bool> {
        let own = self.repository.index().pack_number(pack);
        for place in self.repository.index().places(id)? {
            if Some(place.pack) == own || !self.stands(&place) {
                continue;
            }
            match self.repository.chunk_at(place, id, ChunkKind::Refs) {
                Ok(_) => return Ok(true),
                Err(error) if error.kind == ErrorKind::Damage => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Whether a snapshot that stays needs the chunk at `ordinal` of this pack.
    pub fn is_needed(&self, toc: &PackToc, ordinal: u16) -> Result<bool> {
        let Some(chunk) = toc.toc.chunks.get(usize::from(ordinal)) else { return Ok(false) };
        if toc.toc.kind == PackKind::Refs {
            let needed = self.staying.needs_page(&chunk.id);
            return Ok(needed && !self.page_is_elsewhere(toc.pack, &chunk.id)?);
        }
        let coordinate = toc.coordinate(ordinal);
        // what was not asked about may be used
        let used = !self.staying.counts(&(coordinate.birth, coordinate.pack))
            || self.staying.uses(&coordinate);
        Ok(self.lost.contains(&chunk.id) || used && !self.is_elsewhere(toc.pack, &coordinate))
    }

    /// Whether nothing in this pack is needed.
    pub fn is_dead(&self, toc: &PackToc) -> Result<bool> {
        for ordinal in 0..toc.toc.chunks.len() {
            if self.is_needed(toc, ordinal as u16)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether all that is used, pages included, lies in packs that stand. Asks
    /// about what is in focus.
    pub fn nothing_is_missing(&self) -> Result<bool> {
        for page in self.staying.pages() {
            if !self.repository.index().places(page)?.iter().any(|place| self.stands(place)) {
                return Ok(false);
            }
        }
        Ok(self.staying.used().references().all(|reference| {
            reference.ordinals().all(|ordinal| {
                let (birth, pack) = (reference.birth, reference.pack);
                let places =
                    self.holders.places(self.repository, &Coordinate { birth, pack, ordinal });
                places.iter().any(|place| self.stands(place))
            })
        }))
    }
}

/// Origin packs of everything a table of contents lists.
pub(super) fn origins_of(toc: &PackToc) -> impl Iterator<Item = Origin> + '_ {
    let foreign = toc.toc.foreign.iter().map(|run| (run.birth, run.pack));
    foreign.chain(std::iter::once((toc.toc.birth, toc.pack)))
}
