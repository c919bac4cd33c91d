//! Packs as the store lists them against packs as the index has them, and the
//! question all other parts ask: where does a chunk stand.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use super::ends_check;
use super::report::{DamagedPack, Findings};
use crate::format::pack::{pack_key, pack_of_key};
use crate::id::{ChunkId, PackId};
use crate::repository::commit::Doomed;
use crate::repository::index::{PackNumber, Place};
use crate::repository::{Repository, Result};
use crate::store::Listed;

pub(super) struct Packs<'a> {
    repository: &'a Repository,
    /// Packs in the index that are in the store with the length they should have.
    pub standing: HashSet<PackNumber>,
    /// Packs in the store, indexed or not.
    pub listed: HashMap<PackId, u64>,
    /// What is wrong with packs; numbers of blocks, or everything.
    pub damaged: HashMap<PackNumber, Damage>,
    /// Packs with damage outside of their blocks: in padding, header or table.
    unsound: HashSet<PackNumber>,
    /// Blocks that could not be read when a page in them was wanted.
    suspects: Mutex<HashMap<PackNumber, HashSet<u32>>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Damage {
    Missing,
    Blocks(HashSet<u32>),
}

impl<'a> Packs<'a> {
    pub fn new(
        repository: &'a Repository,
        listing: &[Listed],
        doomed: &Doomed,
        findings: &Findings,
    ) -> Packs<'a> {
        let listed: HashMap<PackId, u64> =
            listing.iter().filter_map(|l| Some((pack_of_key(&l.key)?, l.length))).collect();
        let mut packs = Packs {
            repository,
            standing: HashSet::new(),
            listed,
            damaged: HashMap::new(),
            unsound: HashSet::new(),
            suspects: Mutex::default(),
        };
        let mut indexed = HashSet::new();
        for (number, info) in repository.index().packs() {
            indexed.insert(info.id);
            let key = pack_key(info.id);
            match packs.listed.get(&info.id) {
                Some(length) if *length == info.length => {
                    packs.standing.insert(number);
                }
                // a sweep that was announced takes it: who needs it will say so
                None if doomed.packs.contains(&info.id) => {
                    findings.note(&key, "is being deleted by a prune", None);
                }
                None => {
                    findings.about_pack(info.id, "is missing", None);
                    packs.damaged.insert(number, Damage::Missing);
                }
                Some(length) => {
                    let what = format!("has {length} bytes where {} should be", info.length);
                    findings.about_pack(info.id, &what, None);
                    packs.damaged.insert(number, Damage::Missing);
                }
            }
        }
        findings.count(|counts| counts.packs = indexed.len() as u64);
        for id in packs.listed.keys().filter(|id| !indexed.contains(id)) {
            let what = "is in no index segment: the remains of a run that ended early, \
                        or one that is running";
            findings.note(&pack_key(*id), what, None);
        }
        packs
    }

    /// Whether what lies at a place can be believed to be there.
    pub fn stands(&self, place: Place) -> Result<bool> {
        if !self.standing.contains(&place.pack) {
            return Ok(false);
        }
        Ok(match self.damaged.get(&place.pack) {
            None => true,
            Some(Damage::Missing) => false,
            Some(Damage::Blocks(blocks)) => {
                let block = self.repository.index().toc(place.pack)?.block_of(place.ordinal);
                !blocks.contains(&(block as u32))
            }
        })
    }

    /// Whether a place stands in a pack that is damaged neither there nor outside
    /// of its blocks.
    pub fn stands_soundly(&self, place: Place) -> Result<bool> {
        Ok(!self.unsound.contains(&place.pack) && self.stands(place)?)
    }

    /// Every place of a chunk in the index, and whether one of them stands.
    pub fn places(&self, id: &ChunkId) -> Result<(Vec<Place>, bool)> {
        let places = self.repository.index().places(id)?;
        for place in &places {
            if self.stands(*place)? {
                return Ok((places, true));
            }
        }
        Ok((places, false))
    }

    pub fn has_place(&self, id: &ChunkId) -> Result<bool> {
        Ok(self.places(id)?.1)
    }

    /// Finds out which blocks are to blame for a page that cannot be read.
    pub fn blame(&self, page: &ChunkId) -> Result<()> {
        for place in self.repository.index().places(page)? {
            if !self.stands(place)? {
                continue;
            }
            let toc = self.repository.index().toc(place.pack)?;
            let block = toc.block_of(place.ordinal);
            if self.repository.fetch_block(&toc, block).is_err_and(|error| !ends_check(&error)) {
                let mut suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
                suspects.entry(place.pack).or_default().insert(block as u32);
            }
        }
        Ok(())
    }

    /// From here on, blocks to blame are damaged.
    pub fn settle_blame(&mut self) {
        let suspects = self.suspects.get_mut().unwrap_or_else(PoisonError::into_inner);
        for (number, blocks) in std::mem::take(suspects) {
            self.add_blocks(number, blocks);
        }
    }

    pub fn add_blocks(&mut self, number: PackNumber, more: HashSet<u32>) {
        match self.damaged.entry(number).or_insert_with(|| Damage::Blocks(HashSet::new())) {
            Damage::Missing => {}
            Damage::Blocks(blocks) => blocks.extend(more),
        }
    }

    /// Notes that a pack is damaged outside of its blocks.
    pub fn add_unsound(&mut self, number: PackNumber) {
        self.unsound.insert(number);
        self.add_blocks(number, HashSet::new());
    }

    pub fn into_damaged(self, healed: &HashSet<PackId>) -> Vec<DamagedPack> {
        let index = self.repository.index();
        let damaged = self.damaged.into_iter().filter_map(|(number, damage)| {
            let id = index.pack(number)?.id;
            let healed = healed.contains(&id);
            Some(match damage {
                Damage::Missing => DamagedPack { id, missing: true, blocks: Vec::new(), healed },
                Damage::Blocks(blocks) => {
                    let mut blocks: Vec<u32> = blocks.into_iter().collect();
                    blocks.sort_unstable();
                    DamagedPack { id, missing: false, blocks, healed }
                }
            })
        });
        damaged.collect()
    }
}
