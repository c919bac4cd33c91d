//! Sets of coordinates as bitmaps, and which packs hold a coordinate today:
//! what check, stats and whoever counts references need in common.
//!
//! Memory: at most 8 KiB for each pack that a set names, one bit a chunk.

use std::collections::{HashMap, HashSet};

use super::Repository;
use super::error::Result;
use super::index::{PackNumber, Place};
use crate::format::pack::{Birth, Coordinate};
use crate::format::reference::Reference;
use crate::id::PackId;

/// Some ordinals of one pack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ordinals(Vec<u64>);

impl Ordinals {
    /// Adds one; false if it was there.
    pub fn insert(&mut self, ordinal: u16) -> bool {
        let (word, bit) = (usize::from(ordinal / 64), 1 << (ordinal % 64));
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        match self.0.get_mut(word) {
            Some(bits) => {
                let new = *bits & bit == 0;
                *bits |= bit;
                new
            }
            None => false,
        }
    }

    pub fn contains(&self, ordinal: u16) -> bool {
        self.0.get(usize::from(ordinal / 64)).is_some_and(|bits| bits & (1 << (ordinal % 64)) != 0)
    }
}

/// Some coordinates.
#[derive(Clone, Debug, Default)]
pub struct Coordinates(HashMap<(Birth, PackId), Ordinals>);

impl Coordinates {
    pub fn contains(&self, coordinate: &Coordinate) -> bool {
        self.0
            .get(&(coordinate.birth, coordinate.pack))
            .is_some_and(|ordinals| ordinals.contains(coordinate.ordinal))
    }

    /// What of one origin pack is in the set.
    pub fn of_pack(&self, birth: Birth, pack: PackId) -> Option<&Ordinals> {
        self.0.get(&(birth, pack))
    }

    /// The ordinals of an origin pack, to add to.
    pub fn of_pack_mut(&mut self, birth: Birth, pack: PackId) -> &mut Ordinals {
        self.0.entry((birth, pack)).or_default()
    }

    pub fn add(&mut self, reference: &Reference) {
        let ordinals = self.of_pack_mut(reference.birth, reference.pack);
        reference.ordinals().for_each(|ordinal| {
            ordinals.insert(ordinal);
        });
    }
}

struct Moved {
    birth: Birth,
    /// Ordinal in the origin pack of the run's first chunk.
    ordinal: u16,
    count: u32,
    pack: PackNumber,
    start: u16,
}

/// Which packs hold a coordinate: the one it was born in, and those that
/// maintainers moved it to.
pub struct Holders {
    moved: HashMap<PackId, Vec<Moved>>,
}

impl Holders {
    /// Reads the tables of all packs with foreign chunks once.
    pub fn load(repository: &Repository) -> Result<Holders> {
        let mut moved: HashMap<PackId, Vec<Moved>> = HashMap::new();
        for (number, info) in repository.index().packs() {
            if !info.has_foreign {
                continue;
            }
            for run in &repository.index().toc(number)?.toc.foreign {
                let (birth, ordinal, count, start) = (run.birth, run.ordinal, run.count, run.start);
                let here = Moved { birth, ordinal, count, pack: number, start };
                moved.entry(run.pack).or_default().push(here);
            }
        }
        Ok(Holders { moved })
    }

    /// Every place in the index where the coordinate lies, its own pack first.
    pub fn places(&self, repository: &Repository, coordinate: &Coordinate) -> Vec<Place> {
        let index = repository.index();
        let mut places = Vec::new();
        if let Some(number) = index.pack_number(coordinate.pack)
            && let Some(info) = index.pack(number)
            && info.birth == coordinate.birth
            && u32::from(coordinate.ordinal) < info.chunks
        {
            places.push(Place { pack: number, ordinal: coordinate.ordinal });
        }
        for run in self.moved.get(&coordinate.pack).into_iter().flatten() {
            let Some(distance) = coordinate.ordinal.checked_sub(run.ordinal) else { continue };
            if run.birth == coordinate.birth
                && u32::from(distance) < run.count
                && let Some(ordinal) = run.start.checked_add(distance)
            {
                places.push(Place { pack: run.pack, ordinal });
            }
        }
        places
    }

    /// Coordinates that lie, moved there, in packs of `standing`.
    pub fn moved_into(&self, standing: &HashSet<PackNumber>) -> Coordinates {
        let mut coordinates = Coordinates::default();
        for (pack, runs) in &self.moved {
            for run in runs.iter().filter(|run| standing.contains(&run.pack)) {
                let ordinals = coordinates.of_pack_mut(run.birth, *pack);
                let last = u32::from(run.ordinal).saturating_add(run.count).min(65_536);
                (u32::from(run.ordinal)..last).for_each(|ordinal| {
                    ordinals.insert(ordinal as u16);
                });
            }
        }
        coordinates
    }
}
