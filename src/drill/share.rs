//! Which packs a drill covers. All packs lie on a ring, each at a place of its own
//! that nothing moves; a hand goes round it, and every drill covers what lies in the
//! part behind the hand. So a pack that is there during [`ROUND`] drills was covered
//! by one of them, whatever else came and went meanwhile.

use crate::id::{PackId, RepositoryId};

/// In so many drills the hand goes round, at most.
pub const ROUND: u64 = 12;
/// Places on the ring.
pub const PLACES: u64 = 1_000_000;
/// A drill covers more than its part as long as that has fewer bytes: a small
/// repository needs no twelve drills.
const MIN_BYTES: u64 = 16 << 20;

/// Where a pack lies on the ring.
pub fn place(repository: RepositoryId, pack: PackId) -> u64 {
    let hash = blake3::Hasher::new().update(&repository.0).update(&pack.0).finalize();
    let first = hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    first % PLACES
}

/// A pack on the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed<T> {
    pub pack: T,
    pub place: u64,
    /// Length in bytes.
    pub length: u64,
}

/// The packs that a drill covers whose hand stands at `hand`, and where it stands
/// afterwards.
pub fn share<T: Copy + Ord>(packs: &[Placed<T>], hand: u64) -> (Vec<T>, u64) {
    let behind = |placed: &Placed<T>| (placed.place + PLACES - hand % PLACES) % PLACES;
    let mut ring: Vec<(u64, Placed<T>)> = packs.iter().map(|one| (behind(one), *one)).collect();
    ring.sort_by_key(|(behind, placed)| (*behind, placed.pack));
    let (mut share, mut bytes, mut reached) = (Vec::new(), 0u64, PLACES.div_ceil(ROUND));
    for (behind, placed) in ring {
        if behind >= reached {
            if bytes >= MIN_BYTES {
                break;
            }
            reached = behind + 1;
        }
        bytes = bytes.saturating_add(placed.length);
        share.push(placed.pack);
    }
    (share, (hand + reached) % PLACES)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn packs(numbers: std::ops::Range<u32>, length: u64) -> Vec<Placed<u32>> {
        let id = |number: u32| PackId(*blake3::hash(&number.to_le_bytes()).as_bytes());
        let place = |number| place(RepositoryId([7; 16]), id(number));
        numbers.map(|pack| Placed { pack, place: place(pack), length }).collect()
    }

    /// What is there during a whole round was covered by it.
    fn covered(of_drill: &dyn Fn(u64) -> Vec<Placed<u32>>, mut hand: u64) -> BTreeSet<u32> {
        let mut covered = BTreeSet::new();
        for drill in 0..ROUND {
            let (share, next) = share(&of_drill(drill), hand);
            covered.extend(share);
            hand = next;
        }
        covered
    }

    #[test]
    fn a_round_covers_all_packs() {
        for (count, length) in [(1, 1), (20, 1 << 20), (25, 32 << 20), (3000, 32 << 20)] {
            let all: BTreeSet<u32> = (0..count).collect();
            for hand in [0, 1, 500_000, PLACES - 1] {
                assert_eq!(covered(&|_| packs(0..count, length), hand), all, "{count} at {hand}");
            }
        }
    }

    /// A repository that grows and is pruned meanwhile hides none of the packs that stay.
    #[test]
    fn a_round_covers_what_stays_whatever_comes_and_goes() {
        let of_drill = |drill: u64| {
            let drill = drill as u32;
            let mut packs = packs(0..200, 32 << 20);
            packs.extend(self::packs(1000..1000 + 100 * drill, 32 << 20));
            packs.extend(self::packs(9000 + 10 * drill..9100 + 10 * drill, 32 << 20));
            packs
        };
        let stays: BTreeSet<u32> = (0..200).collect();
        assert!(covered(&of_drill, 123_456).is_superset(&stays));
    }

    #[test]
    fn the_parts_of_a_large_repository_are_a_twelfth_each() {
        let packs = packs(0..6000, 32 << 20);
        let mut hand = 0;
        for _ in 0..ROUND {
            let (share, next) = share(&packs, hand);
            assert!((400..600).contains(&share.len()), "{}", share.len());
            hand = next;
        }
    }

    #[test]
    fn a_small_repository_is_covered_at_once_and_none_has_no_packs() {
        let (share, hand) = share(&packs(0..20, 1000), 42);
        assert_eq!(share.len(), 20);
        assert!(hand < PLACES);
        assert_eq!(super::share(&packs(0..0, 1), 0).0, [0; 0]);
    }
}
