//! Chunks next to those that were found before: what are neighbours in a tree
//! were stored as neighbours, so as a rule the next chunk lies behind the last
//! one. Looking there spares most look-ups in the index; nothing is searched for.

use std::sync::Arc;

use super::index::{PackNumber, PackToc};
use super::{Repository, Result};
use crate::id::ChunkId;

/// Packs that are tried.
const NEAR: usize = 4;
/// Blocks behind the one used last that are tried: between those of one thread
/// lie those that others put meanwhile.
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
        let start = |near: &Near<T>| {
            let starts = near.toc.starts_behind(near.next).iter().take(BLOCKS_BEHIND);
            starts.map(|start| *start as u16).find(|start| near.toc.has_at(*start, id))
        };
        self.find_where(next, &take).or_else(|| self.find_where(start, &take))
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

    /// The table of a pack that was used lately.
    pub fn toc(&self, number: PackNumber) -> Option<Arc<PackToc>> {
        let near = self.near.iter().find(|near| near.number == number);
        near.map(|near| near.toc.clone())
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
    /// Where a chunk lies: next to others, or wherever the index says first.
    pub fn place(&mut self, repository: &Repository, id: &ChunkId) -> Result<Option<InPack>> {
        if let Some(found) = self.find_any(id) {
            return Ok(Some(found));
        }
        let Some(place) = repository.places(id)?.first().copied() else { return Ok(None) };
        let toc = match self.toc(place.pack).filter(|toc| toc.has_at(place.ordinal, id)) {
            Some(toc) => toc,
            None => repository.index().toc(place.pack)?,
        };
        self.used(place.pack, toc.clone(), (), place.ordinal);
        Ok(Some((place.pack, toc, place.ordinal)))
    }

    pub fn find_any(&mut self, id: &ChunkId) -> Option<InPack> {
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
        near.find_any(&id(number, at)).map(|(number, _, ordinal)| (number, ordinal))
    }

    #[test]
    fn the_next_chunk_and_the_blocks_behind_are_found_and_nothing_else() {
        let mut near = Neighbours::default();
        near.used(1, toc(1), (), 6);
        assert_eq!(find(&mut near, 1, 6), None);
        assert_eq!(find(&mut near, 1, 7), Some((1, 7)));
        assert_eq!(find(&mut near, 1, 8), Some((1, 8)));
        assert_eq!(find(&mut near, 1, 11), None, "in the middle of the block behind");
        assert_eq!(find(&mut near, 1, 95), None, "too many blocks behind");
        assert_eq!(find(&mut near, 1, 85), Some((1, 85)));
        assert_eq!(find(&mut near, 1, 86), Some((1, 86)));
        assert_eq!(find(&mut near, 2, 86), None, "another chunk");
    }

    #[test]
    fn of_several_packs_each_goes_on_where_it_was() {
        let mut near = Neighbours::default();
        for number in 1..=5 {
            near.used(number, toc(number as u8), (), 10 * number as u16);
        }
        assert!(near.toc(1).is_none(), "used longest ago");
        for round in 1..5 {
            for number in [2, 5, 3, 4] {
                let next = 10 * u16::from(number) + round;
                assert_eq!(find(&mut near, number, next), Some((number.into(), next)));
            }
        }
        // one that is not liked where it lies is looked for elsewhere
        assert_eq!(near.find(&id(2, 25), |_, _| None::<()>), None);
        assert_eq!(find(&mut near, 2, 25), Some((2, 25)));
        near.clear();
        assert_eq!(find(&mut near, 2, 26), None);
    }
}
