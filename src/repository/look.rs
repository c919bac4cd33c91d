//! A look at the store by who relies on data in it: which packs a plan names,
//! then which of the others are there. The order is an invariant;
//! `format-spec/13-protocol.md` says why.

use std::collections::{BTreeSet, HashMap};

use super::Repository;
use super::commit::Doomed;
use super::coordinates::{Holders, ReferenceSet};
use super::error::Result;
use super::index::Place;
use crate::format::pack::{self, Coordinate};
use crate::id::{ChunkId, PackId};
use crate::progress::Progress;
use crate::store::{ask_all, at_once};

/// What the store held at one look: plans first, then the index, then packs.
pub struct Look<'r> {
    repository: &'r Repository,
    pub doomed: Doomed,
    /// Prefixes of the packs' keys that were listed after the plans.
    listed: BTreeSet<String>,
    /// Packs that were found under them, with their lengths.
    packs: HashMap<PackId, u64>,
}

impl Repository {
    /// Lists sweeps, then loads new segments. Packs are listed when they are asked about.
    ///
    /// Fails when a plan cannot be read: whatever is relied on might be in it.
    pub fn look(&self, progress: &dyn Progress) -> Result<Look<'_>> {
        self.wait_for_listings();
        let (doomed, _) = self.surely_doomed()?;
        self.sync_index(progress)?;
        Ok(Look { repository: self, doomed, listed: BTreeSet::new(), packs: HashMap::new() })
    }
}

impl Look<'_> {
    /// Whether every coordinate and every page lies in a pack that stands.
    pub fn all_stands(&mut self, set: &ReferenceSet, pages: &[ChunkId]) -> Result<bool> {
        let index = self.repository.index();
        let places = pages.iter().map(|page| index.places(page));
        let places = places.collect::<Result<Vec<_>>>()?;
        let origins = set.references().map(|reference| reference.pack);
        let relied_on: BTreeSet<_> =
            origins.chain(self.packs_of(places.iter().flatten())).collect();
        self.list(relied_on)?;
        let fallen: Vec<_> =
            set.references().filter(|reference| !self.stands(reference.pack)).collect();
        let origins = fallen.iter().map(|reference| reference.pack).collect();
        let holders = Holders::of(self.repository, &origins)?;
        self.list(holders.carriers().filter_map(|number| Some(index.pack(number)?.id)).collect())?;
        let any_stands = |places: &[Place]| self.packs_of(places).any(|pack| self.stands(pack));
        let moved = fallen.iter().all(|reference| {
            reference.ordinals().all(|ordinal| {
                let (birth, pack) = (reference.birth, reference.pack);
                let coordinate = Coordinate { birth, pack, ordinal };
                any_stands(&holders.places(self.repository, &coordinate))
            })
        });
        Ok(moved && places.iter().all(|places| any_stands(places)))
    }

    /// Whether a pack that was listed exists, is indexed, and is in no plan.
    fn stands(&self, pack: PackId) -> bool {
        let index = self.repository.index();
        let info = index.pack_number(pack).and_then(|number| index.pack(number));
        info.is_some_and(|info| self.packs.get(&pack) == Some(&info.length))
            && !self.doomed.packs.contains(&pack)
    }

    fn packs_of<'a>(
        &'a self,
        places: impl IntoIterator<Item = &'a Place>,
    ) -> impl Iterator<Item = PackId> {
        let info = |place: &Place| self.repository.index().pack(place.pack);
        places.into_iter().filter_map(move |place| Some(info(place)?.id))
    }

    /// Lists what was not listed yet of where these packs are: their directories in a store that has some, else all
    /// packs.
    fn list(&mut self, packs: BTreeSet<PackId>) -> Result<()> {
        let store = &*self.repository.store;
        let prefix = |pack: &PackId| match store.has_directories() {
            true => pack::directory_of(*pack),
            false => pack::PREFIX.to_owned(),
        };
        let new: BTreeSet<_> = packs.iter().map(prefix).collect();
        let new: Vec<_> = new.difference(&self.listed).cloned().collect();
        let list = |prefix: &String| self.repository.listed_packs_under(prefix);
        let found = ask_all(at_once(store), &new, &list);
        for found in found {
            self.packs.extend(found?);
        }
        self.listed.extend(new);
        Ok(())
    }
}
