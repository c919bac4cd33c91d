//! Chunks next to those that were found before: what are neighbours in a tree
//! were stored as neighbours, so as a rule the next chunk lies behind the last
//! one. Looking there spares most look-ups in the index. Nothing is searched for:
//! a table of contents may have 65,536 chunks, and chunks may come in no order.

use std::sync::Arc;

use super::index::{PackNumber, PackToc, Place};
use super::{Repository, Result};
use crate::id::ChunkId;

/// Packs that are tried.
const NEAR: usize = 4;
/// Chunks behind the one used last that are tried: what lies between is not
/// wanted, or no longer there.
const CHUNKS_BEHIND: usize = 32;
/// Blocks behind it whose first chunks are tried: between those of one thread lie
/// those that others put meanwhile.
const BLOCKS_BEHIND: usize = 16;

/// The packs that were used last.
pub struct Neighbours<T = ()> {
    near: Vec<Near<T>>,
}

/// A pack that was used, and what its user knows about it.
pub struct Near<T> {
    pub number: PackNumber,
    pub toc: Arc<PackToc>,
    pub about: T,
    /// The ordinal behind the one used last.
    next: u16,
}

impl<T> Near<T> {
    fn behind(&self, id: &ChunkId) -> Option<u16> {
        let chunks = (self.next..=u16::MAX).take(CHUNKS_BEHIND);
        let starts = self.toc.starts_behind(self.next).iter().take(BLOCKS_BEHIND);
        chunks
            .chain(starts.map(|start| *start as u16))
            .find(|ordinal| self.toc.has_at(*ordinal, id))
    }
}

impl<T> Default for Neighbours<T> {
    fn default() -> Self {
        Neighbours { near: Vec::with_capacity(NEAR + 1) }
    }
}

impl<T> Neighbours<T> {
    /// What `take` makes of a chunk in one of the packs, if it lies where it is to
    /// be expected and `take` likes the place.
    pub fn find<R>(
        &mut self,
        id: &ChunkId,
        take: impl Fn(&Near<T>, u16) -> Option<R>,
    ) -> Option<R> {
        let next = |near: &Near<T>| near.toc.has_at(near.next, id).then_some(near.next);
        self.find_where(next, &take).or_else(|| self.find_where(|near| near.behind(id), &take))
    }

    fn find_where<R>(
        &mut self,
        ordinal_in: impl Fn(&Near<T>) -> Option<u16>,
        take: &impl Fn(&Near<T>, u16) -> Option<R>,
    ) -> Option<R> {
        let (at, ordinal, taken) = self.near.iter().enumerate().find_map(|(at, near)| {
            let ordinal = ordinal_in(near)?;
            Some((at, ordinal, take(near, ordinal)?))
        })?;
        self.near[..=at].rotate_right(1);
        self.near[0].next = ordinal.saturating_add(1);
        Some(taken)
    }

    /// Of several places of a chunk one in the packs that were used last.
    pub fn among<'a>(&self, places: &'a [Place]) -> Option<&'a Place> {
        let place_in = |pack| places.iter().find(|place| place.pack == pack);
        self.near.iter().find_map(|near| place_in(near.number))
    }

    /// The table of the pack at a place of a chunk, if that was used lately.
    pub fn toc(&self, place: &Place, id: &ChunkId) -> Option<Arc<PackToc>> {
        let near = self.near.iter().find(|near| near.number == place.pack)?;
        // numbers of packs change their meaning when the index is made anew
        near.toc.has_at(place.ordinal, id).then(|| near.toc.clone())
    }

    /// The same, read if it was not.
    pub fn table(
        &self,
        repository: &Repository,
        place: &Place,
        id: &ChunkId,
    ) -> Result<Arc<PackToc>> {
        match self.toc(place, id) {
            Some(toc) => Ok(toc),
            None => repository.index().toc(place.pack),
        }
    }

    /// Notes which chunk was used last.
    pub fn used(&mut self, number: PackNumber, toc: Arc<PackToc>, about: T, ordinal: u16) {
        self.near.retain(|near| near.number != number);
        self.near.insert(0, Near { number, toc, about, next: ordinal.saturating_add(1) });
        self.near.truncate(NEAR);
    }

    pub fn clear(&mut self) {
        self.near.clear();
    }
}

/// A chunk's pack, the table of that, and the chunk's ordinal in it.
pub type InPack = (PackNumber, Arc<PackToc>, u16);

impl Neighbours {
    /// Where a chunk lies: next to others, or wherever the index says.
    pub fn place(&mut self, repository: &Repository, id: &ChunkId) -> Result<Option<InPack>> {
        if let Some(found) = self.next_to_others(id) {
            return Ok(Some(found));
        }
        let places = repository.places(id)?;
        let Some(place) = self.among(&places).or(places.first()) else { return Ok(None) };
        let toc = self.table(repository, place, id)?;
        self.used(place.pack, toc.clone(), (), place.ordinal);
        Ok(Some((place.pack, toc, place.ordinal)))
    }

    pub fn next_to_others(&mut self, id: &ChunkId) -> Option<InPack> {
        self.find(id, |near, ordinal| Some((near.number, near.toc.clone(), ordinal)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compression::Codec;
    use crate::format::ChunkKind;
    use crate::format::pack::{Birth, Block, Chunk, PackKind, Session, SessionKey, Toc};
    use crate::id::{PackId, SnapshotId, WriterId};

    fn id(number: u8, at: u16) -> ChunkId {
        let mut id = [number; 32];
        id[..2].copy_from_slice(&at.to_le_bytes());
        ChunkId(id)
    }

    /// Forty blocks of five chunks each.
    fn toc(number: u8) -> Arc<PackToc> {
        let block = Block {
            kind: ChunkKind::Data,
            codec: Codec::Stored,
            session: 0,
            stored_length: 100,
            raw_length: 50,
            chunks: 5,
            stored_hash: [0; 16],
        };
        let session = Session { epoch: 1, writer: WriterId([1; 16]), key: SessionKey::Index };
        let toc = Toc {
            kind: PackKind::Data,
            birth: Birth(1),
            run: SnapshotId([1; 16]),
            sessions: vec![session],
            blocks: vec![block; 40],
            chunks: (0..200).map(|at| Chunk { id: id(number, at), length: 10 }).collect(),
            foreign: Vec::new(),
        };
        Arc::new(PackToc::new(PackId([number; 32]), toc))
    }

    fn find(near: &mut Neighbours, number: u8, at: u16) -> Option<(PackNumber, u16)> {
        near.next_to_others(&id(number, at)).map(|(number, _, ordinal)| (number, ordinal))
    }

    #[test]
    fn chunks_and_blocks_behind_are_found_and_nothing_else() {
        let mut near = Neighbours::default();
        near.used(1, toc(1), (), 6);
        assert_eq!(find(&mut near, 1, 6), None);
        assert_eq!(find(&mut near, 1, 7), Some((1, 7)));
        assert_eq!(find(&mut near, 2, 8), None, "of another pack");
        assert_eq!(find(&mut near, 1, 39), Some((1, 39)));
        assert_eq!(find(&mut near, 1, 72), None, "too many chunks behind");
        assert_eq!(find(&mut near, 1, 71), Some((1, 71)));
        assert_eq!(find(&mut near, 1, 155), None, "too many blocks behind");
        assert_eq!(find(&mut near, 1, 150), Some((1, 150)));
        assert_eq!(find(&mut near, 1, 199), None);
        assert_eq!(find(&mut near, 1, 180), Some((1, 180)));
        assert_eq!(find(&mut near, 1, 199), Some((1, 199)));
        assert_eq!(find(&mut near, 1, 199), None, "there is nothing behind it");
    }

    #[test]
    fn of_several_packs_each_goes_on_where_it_was() {
        let mut near = Neighbours::default();
        for number in 1..=4 {
            near.used(number, toc(number as u8), (), 10 * number as u16);
        }
        for round in 1..5 {
            for number in [2, 1, 3, 4] {
                let next = 10 * u16::from(number) + round;
                assert_eq!(find(&mut near, number, next), Some((number.into(), next)));
            }
        }
        // one that is not liked where it lies is looked for elsewhere
        assert_eq!(near.find(&id(2, 25), |_, _| None::<()>), None);
        assert_eq!(find(&mut near, 2, 25), Some((2, 25)));
        // another place in a pack at hand is not another pack
        near.used(3, toc(3), (), 90);
        assert_eq!(find(&mut near, 1, 15), Some((1, 15)));
        near.used(5, toc(5), (), 50);
        assert_eq!(find(&mut near, 4, 45), None, "used longest ago");
        for (number, at) in [(1, 16), (2, 26), (3, 91), (5, 51)] {
            assert_eq!(find(&mut near, number, at), Some((number.into(), at)));
        }
        near.clear();
        assert_eq!(find(&mut near, 2, 27), None);
    }

    #[test]
    fn of_several_places_one_in_the_pack_used_last_is_taken() {
        let place = |pack, ordinal| Place { pack, ordinal };
        let places = [place(1, 9), place(2, 8), place(3, 7)];
        let mut near = Neighbours::default();
        assert_eq!(near.among(&places), None);
        near.used(2, toc(2), (), 1);
        near.used(9, toc(9), (), 1);
        assert_eq!(near.among(&places), Some(&places[1]));
        near.used(3, toc(3), (), 1);
        assert_eq!(near.among(&places), Some(&places[2]));
        assert_eq!(near.among(&[]), None);
        assert!(near.toc(&places[2], &id(3, 7)).is_some());
        assert!(near.toc(&places[2], &id(3, 8)).is_none(), "not the chunk at that place");
        assert!(near.toc(&places[0], &id(1, 9)).is_none(), "no pack used lately");
    }
}
