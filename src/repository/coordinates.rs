//! Reference sets in memory, and which packs hold a coordinate today: what
//! backup, undo, prune, check and stats need in common.
//!
//! Memory: at most 8 KiB for each pack that a set names, one bit a chunk.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

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

    /// Adds all from `first` to `last`, a word at a time.
    pub fn insert_run(&mut self, first: u16, last: u16) {
        let (from, to) = (usize::from(first / 64), usize::from(last / 64));
        if self.0.len() <= to {
            self.0.resize(to + 1, 0);
        }
        for (at, word) in self.0.iter_mut().enumerate().take(to + 1).skip(from) {
            let low = if at == from { first % 64 } else { 0 };
            let high = if at == to { last % 64 } else { 63 };
            *word |= u64::MAX << low & u64::MAX >> (63 - high);
        }
    }

    pub fn contains(&self, ordinal: u16) -> bool {
        self.0.get(usize::from(ordinal / 64)).is_some_and(|bits| bits & (1 << (ordinal % 64)) != 0)
    }

    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.0.iter().zip(0u32..).flat_map(|(word, at)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros())?;
                rest &= rest - 1;
                Some((at * 64 + bit) as u16)
            })
        })
    }

    /// Neighbours together, from first to last.
    fn runs(&self) -> Vec<(u16, u16)> {
        let mut runs: Vec<(u16, u16)> = Vec::new();
        for ordinal in self.iter() {
            match runs.last_mut() {
                Some((_, last)) if u32::from(*last) + 1 == u32::from(ordinal) => *last = ordinal,
                _ => runs.push((ordinal, ordinal)),
            }
        }
        runs
    }
}

/// Which coordinates a snapshot uses, or several.
#[derive(Clone, Debug, Default)]
pub struct ReferenceSet {
    packs: BTreeMap<(Birth, PackId), Ordinals>,
}

impl ReferenceSet {
    pub fn add(&mut self, coordinate: Coordinate) {
        self.of_pack_mut(coordinate.birth, coordinate.pack).insert(coordinate.ordinal);
    }

    /// Adds many; those of one pack that follow each other cost one search for it.
    pub fn add_all(&mut self, coordinates: impl IntoIterator<Item = Coordinate>) {
        let mut rest = coordinates.into_iter().peekable();
        while let Some(first) = rest.next() {
            let ordinals = self.of_pack_mut(first.birth, first.pack);
            ordinals.insert(first.ordinal);
            let same = |c: &Coordinate| (c.birth, c.pack) == (first.birth, first.pack);
            while let Some(coordinate) = rest.next_if(same) {
                ordinals.insert(coordinate.ordinal);
            }
        }
    }

    pub fn add_reference(&mut self, reference: &Reference) {
        let ordinals = self.of_pack_mut(reference.birth, reference.pack);
        reference.runs.iter().for_each(|(first, last)| ordinals.insert_run(*first, *last));
    }

    pub fn contains(&self, coordinate: &Coordinate) -> bool {
        self.of_pack(coordinate.birth, coordinate.pack)
            .is_some_and(|ordinals| ordinals.contains(coordinate.ordinal))
    }

    /// What of one origin pack is in the set.
    pub fn of_pack(&self, birth: Birth, pack: PackId) -> Option<&Ordinals> {
        self.packs.get(&(birth, pack))
    }

    /// The ordinals of an origin pack, to add to.
    pub fn of_pack_mut(&mut self, birth: Birth, pack: PackId) -> &mut Ordinals {
        self.packs.entry((birth, pack)).or_default()
    }

    /// Sorted as the pages of a set are.
    pub fn references(&self) -> impl Iterator<Item = Reference> + '_ {
        self.packs.iter().map(|((birth, pack), ordinals)| Reference {
            birth: *birth,
            pack: *pack,
            runs: ordinals.runs(),
        })
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
#[derive(Default)]
pub struct Holders {
    moved: HashMap<PackId, Vec<Moved>>,
}

impl Holders {
    /// Reads the tables of all packs with foreign chunks once.
    pub fn load(repository: &Repository) -> Result<Holders> {
        let mut holders = Holders::default();
        for (number, info) in repository.index().packs() {
            if info.has_foreign {
                holders.add_carrier(repository, number, &|_| true)?;
            }
        }
        Ok(holders)
    }

    /// Only for chunks that were born in `origins`.
    pub fn of(repository: &Repository, origins: &BTreeSet<PackId>) -> Result<Holders> {
        let mut holders = Holders::default();
        let mut carriers = BTreeSet::new();
        for origin in origins {
            carriers.extend(repository.index().carriers(*origin)?);
        }
        for number in carriers {
            if repository.index().pack(number).is_some() {
                holders.add_carrier(repository, number, &|pack| origins.contains(&pack))?;
            }
        }
        Ok(holders)
    }

    fn add_carrier(
        &mut self,
        repository: &Repository,
        number: PackNumber,
        wanted: &dyn Fn(PackId) -> bool,
    ) -> Result<()> {
        for run in &repository.index().toc(number)?.toc.foreign {
            if wanted(run.pack) {
                let (birth, ordinal, count, start) = (run.birth, run.ordinal, run.count, run.start);
                let here = Moved { birth, ordinal, count, pack: number, start };
                self.moved.entry(run.pack).or_default().push(here);
            }
        }
        Ok(())
    }

    /// The packs that hold chunks which were born elsewhere.
    pub fn carriers(&self) -> impl Iterator<Item = PackNumber> {
        self.moved.values().flatten().map(|run| run.pack)
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
    pub fn moved_into(&self, standing: &HashSet<PackNumber>) -> ReferenceSet {
        let mut coordinates = ReferenceSet::default();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_give_back_what_was_added() {
        let mut set = ReferenceSet::default();
        let reference = Reference {
            birth: Birth(3),
            pack: PackId([1; 32]),
            runs: vec![(0, 0), (63, 64), (127, 127), (4000, 65_535)],
        };
        set.add_reference(&reference);
        assert_eq!(set.references().collect::<Vec<_>>(), [reference]);
        let coordinate = |ordinal| Coordinate { birth: Birth(3), pack: PackId([1; 32]), ordinal };
        assert!(set.contains(&coordinate(64)) && !set.contains(&coordinate(65)));
        assert!(!set.contains(&Coordinate { birth: Birth(4), ..coordinate(64) }));
    }

    #[test]
    fn runs_are_their_ordinals() {
        for (first, last) in [(0, 0), (63, 64), (1, 62), (64, 191), (5, 4000), (0, u16::MAX)] {
            let (mut run, mut each) = (Ordinals::default(), Ordinals::default());
            run.insert_run(first, last);
            (first..=last).for_each(|ordinal| {
                each.insert(ordinal);
            });
            assert_eq!(run, each, "{first} to {last}");
        }
    }
}
