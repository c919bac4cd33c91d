//! The index against a naive one, with one connection and with two.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::compression::Codec;
use crate::format::ChunkKind;
use crate::format::pack::{Birth, Block, Chunk, PackKind, Session, SessionKey};
use crate::id::SnapshotId;

/// Ids in no order. Every third shares what rows keep of it with the one before.
fn chunk_id(number: u32) -> ChunkId {
    let mut bytes = *blake3::hash(&(number - u32::from(number % 3 == 2)).to_le_bytes()).as_bytes();
    bytes[8..12].copy_from_slice(&number.to_le_bytes());
    ChunkId(bytes)
}

fn pack_id(number: u8) -> PackId {
    PackId([number; 32])
}

fn segment_id(number: u8) -> SegmentId {
    SegmentId([number; 32])
}

fn new_pack(number: u8, chunks: &[u32]) -> NewPack {
    let block = |_: &u32| Block {
        kind: ChunkKind::Data,
        codec: Codec::Stored,
        session: 0,
        stored_length: 100,
        raw_length: 10,
        chunks: 1,
        stored_hash: [0; 16],
    };
    let session = Session {
        epoch: 1,
        writer: WriterId([1; 16]),
        key: SessionKey::Sealed(vec![0; 32 + crate::crypto::HYBRID_OVERHEAD]),
    };
    let toc = Toc {
        kind: PackKind::Data,
        birth: Birth(u64::from(number)),
        run: SnapshotId([1; 16]),
        sessions: vec![session],
        blocks: chunks.iter().map(block).collect(),
        chunks: chunks.iter().map(|n| Chunk { id: chunk_id(*n), length: 10 }).collect(),
        foreign: Vec::new(),
    };
    let id = pack_id(number);
    let frame_hash = crate::format::segment::frame_hash(&toc.encode());
    let toc = Arc::new(PackToc::new(id, toc));
    NewPack { id, length: 1000, signer: WriterId([1; 16]), frame_hash, toc }
}

fn add(index: &Index, segment: u8, packs: &[(u8, &[u32])], removes: &[u8]) {
    let known: Vec<PackId> = packs.iter().map(|(number, _)| pack_id(*number)).collect();
    let (known, new): (Vec<_>, Vec<_>) =
        known.iter().zip(packs).partition(|(id, _)| index.pack_number(**id).is_some());
    let new: Vec<NewPack> = new.iter().map(|(_, (n, chunks))| new_pack(*n, chunks)).collect();
    index
        .add_segment(&NewSegment {
            id: segment_id(segment),
            signer: WriterId([2; 16]),
            supersedes: &[],
            removes: &removes.iter().map(|number| pack_id(*number)).collect::<Vec<_>>(),
            known: &known.iter().map(|(id, _)| **id).collect::<Vec<_>>(),
            packs: &new,
        })
        .unwrap();
}

/// Where a chunk is, by pack ids.
fn found(index: &Index, chunk: u32) -> Vec<(u8, u16)> {
    let places = index.places(&chunk_id(chunk)).unwrap();
    let mut found: Vec<(u8, u16)> = places
        .iter()
        .map(|place| (index.pack(place.pack).unwrap().id.0[0], place.ordinal))
        .collect();
    found.sort_unstable();
    found
}

fn layers_of(index: &Index) -> Vec<u64> {
    rows::extents(&index.database()).unwrap().iter().map(|layer| layer.rows).collect()
}

#[test]
fn finds_a_chunk_in_each_pack_that_holds_it() {
    let index = Index::in_memory().unwrap();
    add(&index, 1, &[(1, &[7, 8, 9]), (2, &[9, 7])], &[]);
    add(&index, 2, &[(3, &[10, 7])], &[]);
    assert_eq!(found(&index, 7), [(1, 0), (2, 1), (3, 1)]);
    // shares its first six bytes with 7
    assert_eq!(found(&index, 8), [(1, 1)]);
    assert_eq!(found(&index, 6), []);
    let oldest_first = index.places(&chunk_id(7)).unwrap();
    assert!(oldest_first.is_sorted_by_key(|place| place.pack));
}

#[test]
fn a_removed_pack_is_not_found_and_leaves_the_rows_when_they_are_merged() {
    let index = Index::in_memory().unwrap();
    let many: Vec<u32> = (0..3000).collect();
    add(&index, 1, &[(1, &many), (2, &[5])], &[]);
    add(&index, 2, &[], &[1]);
    assert_eq!(found(&index, 5), [(2, 0)]);
    assert_eq!(found(&index, 6), []);
    assert_eq!(layers_of(&index).iter().sum::<u64>(), 3001);
    add(&index, 3, &[(3, &[6])], &[]);
    index.settle().unwrap();
    assert_eq!(layers_of(&index).iter().sum::<u64>(), 2, "most rows led nowhere");
    assert_eq!(found(&index, 6), [(3, 0)]);
}

#[test]
fn another_table_for_a_pack_counts_instead() {
    let index = Index::in_memory().unwrap();
    add(&index, 1, &[(1, &[1, 2, 3])], &[]);
    index.replace_table(&new_pack(1, &[3, 4])).unwrap();
    assert_eq!([1, 2, 3, 4].map(|chunk| found(&index, chunk).len()), [0, 0, 1, 1]);
    assert_eq!(found(&index, 3), [(1, 0)]);
    index.drop_segments(&[segment_id(1)]).unwrap();
    assert!(index.is_empty() && found(&index, 3).is_empty());
}

#[test]
fn layers_stay_few_however_many_segments_come() {
    let index = Index::in_memory().unwrap();
    for segment in 0..200u8 {
        let first = u32::from(segment) * 60;
        add(&index, segment, &[(segment, &(first..first + 60).collect::<Vec<_>>())], &[]);
    }
    assert!(layers_of(&index).len() <= 12, "{:?}", layers_of(&index));
    (0..12_000).for_each(|chunk| assert_eq!(found(&index, chunk).len(), 1, "{chunk}"));
    index.settle().unwrap();
    assert!(layers_of(&index).len() <= 6, "{:?}", layers_of(&index));
    assert_eq!(layers_of(&index).iter().sum::<u64>(), 12_000);
    for chunk in 0..12_000 {
        let pack = (chunk / 60) as u8;
        assert_eq!(found(&index, chunk), [(pack, (chunk % 60) as u16)], "{chunk}");
    }
    assert!((20_000..30_000).all(|chunk| found(&index, chunk).is_empty()));
}

#[test]
fn a_filter_knows_what_is_nowhere_and_new_layers_are_looked_at_all_the_same() {
    let index = Index::in_memory().unwrap();
    for segment in 0..20u8 {
        let first = u32::from(segment) * 300;
        add(&index, segment, &[(segment, &(first..first + 300).collect::<Vec<_>>())], &[]);
    }
    for chunk in 10_000..10_500 {
        assert_eq!(found(&index, chunk), []);
    }
    assert!(index.layers().has_filter());
    add(&index, 100, &[(100, &[10_000])], &[]);
    assert!(index.layers().has_filter());
    assert_eq!(found(&index, 10_000), [(100, 0)]);
    assert!((0..6000).all(|chunk| found(&index, chunk).len() == 1));
}

#[test]
fn one_process_merges_what_another_looks_up() {
    let directory = tempfile::tempdir().unwrap();
    let reader = Index::open(directory.path()).unwrap();
    let writer = Index::open(directory.path()).unwrap();
    let many: Vec<u32> = (0..3000).collect();
    add(&writer, 1, &[(1, &many)], &[]);
    assert_eq!(found(&reader, 5), [], "not yet loaded");
    reader.load_packs().unwrap();
    assert_eq!(found(&reader, 5), [(1, 5)]);
    // all leaves that the reader knows of are merged into others
    let more: Vec<u32> = (3000..6000).collect();
    add(&writer, 2, &[(2, &more)], &[]);
    assert_eq!(layers_of(&writer).len(), 3, "on its way from two layers into a third");
    assert!((0..3000).all(|chunk| found(&reader, chunk) == [(1, chunk as u16)]));
    writer.settle().unwrap();
    assert_eq!(layers_of(&writer).len(), 1);
    assert!((0..3000).all(|chunk| found(&reader, chunk) == [(1, chunk as u16)]));
    assert_eq!(found(&reader, 3000), [], "its pack is not yet loaded");
    reader.load_packs().unwrap();
    assert_eq!(found(&reader, 3000), [(2, 0)]);
    // a pack that is gone from under the reader
    add(&writer, 3, &[], &[1]);
    reader.tocs.clear();
    assert_eq!(found(&reader, 5), []);
}

#[test]
fn a_batch_that_fails_leaves_nothing() {
    let index = Index::in_memory().unwrap();
    add(&index, 1, &[(1, &[1])], &[]);
    let failed: Result<()> = index.batch(|| {
        add(&index, 2, &[(2, &[2])], &[1]);
        assert!(index.pack_number(pack_id(2)).is_some());
        Err(Error::failed("no more"))
    });
    assert!(failed.is_err());
    assert_eq!(index.segments().unwrap().len(), 1);
    assert_eq!([found(&index, 1), found(&index, 2)], [vec![(1, 0)], vec![]]);
    add(&index, 3, &[(3, &[2])], &[]);
    assert_eq!(found(&index, 2), [(3, 0)]);
}

#[test]
fn looking_up_while_another_process_adds_and_merges_finds_what_is_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let reader = Index::open(directory.path()).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let writer = Index::open(directory.path()).unwrap();
            for segment in 0..60u8 {
                let first = u32::from(segment) * 100;
                let chunks: Vec<u32> = (first..first + 100).collect();
                let added: Result<()> = writer.batch(|| {
                    add(&writer, segment, &[(segment, &chunks)], &[]);
                    Ok(())
                });
                added.unwrap();
                writer.settle().unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::Release);
        });
        while !done.load(std::sync::atomic::Ordering::Acquire) {
            reader.load_packs().unwrap();
            for (_, info) in reader.packs() {
                let first = u32::from(info.id.0[0]) * 100;
                for chunk in (first..first + 100).step_by(9) {
                    assert_eq!(found(&reader, chunk).len(), 1, "{chunk}");
                }
            }
        }
    });
    reader.load_packs().unwrap();
    assert_eq!(reader.packs().len(), 60);
}

#[derive(Clone, Debug)]
enum Act {
    /// A segment that lists some packs and removes some.
    Add {
        packs: Vec<u8>,
        removes: Vec<u8>,
        second: bool,
    },
    Drop(u8),
    Replace(u8, u32),
    Batch(Vec<u8>),
    Load(bool),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let packs = || proptest::collection::vec(0u8..24, 0..4);
    let act = prop_oneof![
        4 => (packs(), proptest::collection::vec(0u8..24, 0..2), any::<bool>())
            .prop_map(|(packs, removes, second)| Act::Add { packs, removes, second }),
        1 => (0u8..30).prop_map(Act::Drop),
        1 => (0u8..24, 0u32..900).prop_map(|(pack, first)| Act::Replace(pack, first)),
        1 => packs().prop_map(Act::Batch),
        1 => any::<bool>().prop_map(Act::Load),
    ];
    proptest::collection::vec(act, 1..30)
}

fn chunks_from(first: u32) -> Vec<u32> {
    (first..first + 200).collect()
}

/// What a list of segments means, the slow way.
#[derive(Default)]
struct Naive {
    segments: BTreeMap<u8, BTreeSet<u8>>,
    removed: BTreeMap<u8, BTreeSet<u8>>,
    packs: BTreeMap<u8, Vec<u32>>,
}

impl Naive {
    fn add(&mut self, segment: u8, packs: &[u8], removes: &[u8]) {
        for pack in packs {
            self.packs.entry(*pack).or_insert_with(|| chunks_from(u32::from(*pack) * 37));
        }
        removes.iter().for_each(|pack| drop(self.packs.remove(pack)));
        self.segments.insert(segment, packs.iter().copied().collect());
        self.removed.insert(segment, removes.iter().copied().collect());
    }

    fn is_removed(&self, pack: u8) -> bool {
        self.removed.values().flatten().any(|removed| *removed == pack)
    }

    fn drop(&mut self, segment: u8) {
        if self.segments.remove(&segment).is_some() {
            self.removed.remove(&segment);
            let listed: BTreeSet<u8> = self.segments.values().flatten().copied().collect();
            self.packs.retain(|pack, _| listed.contains(pack));
        }
    }

    fn find(&self, chunk: u32) -> Vec<(u8, u16)> {
        let in_pack = |(pack, chunks): (&u8, &Vec<u32>)| {
            chunks.iter().position(|c| *c == chunk).map(|at| (*pack, at as u16))
        };
        self.packs.iter().filter_map(in_pack).collect()
    }
}

fn perform(indexes: &[Index; 2], naive: &mut Naive, segment: u8, act: Act) {
    let listed = |index: &Index, naive: &mut Naive, packs: &[u8], removes: &[u8]| {
        index.load_packs().unwrap();
        // a segment's own packs are none that it, or another, removes
        let mut packs = packs.to_vec();
        packs.retain(|pack| !naive.is_removed(*pack) && !removes.contains(pack));
        packs.sort_unstable();
        packs.dedup();
        let tables: Vec<Vec<u32>> =
            packs.iter().map(|pack| chunks_from(u32::from(*pack) * 37)).collect();
        let new: Vec<(u8, &[u32])> =
            packs.iter().copied().zip(tables.iter().map(Vec::as_slice)).collect();
        add(index, segment, &new, removes);
        naive.add(segment, &packs, removes);
    };
    match act {
        Act::Add { packs, removes, second } => {
            listed(&indexes[usize::from(second)], naive, &packs, &removes);
        }
        Act::Drop(segment) => {
            indexes[0].load_packs().unwrap();
            if naive.segments.contains_key(&segment) {
                indexes[0].drop_segments(&[segment_id(segment)]).unwrap();
            }
            naive.drop(segment);
        }
        Act::Replace(pack, first) => {
            indexes[0].load_packs().unwrap();
            indexes[0].replace_table(&new_pack(pack, &chunks_from(first))).unwrap();
            if let Some(chunks) = naive.packs.get_mut(&pack) {
                *chunks = chunks_from(first);
            }
        }
        Act::Batch(packs) => {
            indexes[0].load_packs().unwrap();
            indexes[0]
                .batch(|| {
                    listed(&indexes[0], naive, &packs, &[]);
                    Ok(())
                })
                .unwrap();
        }
        Act::Load(second) => indexes[usize::from(second)].load_packs().unwrap(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn says_what_a_naive_index_says(acts in acts()) {
        let directory = tempfile::tempdir().unwrap();
        let indexes = [(); 2].map(|()| Index::open(directory.path()).unwrap());
        let mut naive = Naive::default();
        for (segment, act) in (0u8..).zip(acts) {
            perform(&indexes, &mut naive, segment, act);
            for chunk in (segment % 7..).step_by(41).map(u32::from).take(6) {
                // one that did not load may know less, and never what is wrong
                let _ = found(&indexes[1], chunk * 5);
            }
        }
        let anew = Index::open(directory.path()).unwrap();
        for index in indexes.iter().chain([&anew]) {
            index.load_packs().unwrap();
            for chunk in 0..1150 {
                prop_assert_eq!(found(index, chunk), naive.find(chunk), "chunk {}", chunk);
            }
        }
    }
}

/// However many rows a table takes, each chunk is found in it, and all of it is
/// read back; another table of the same pack leaves nothing of it behind.
#[test]
fn tables_of_any_length_are_read_in_pieces_and_whole() {
    let index = Index::in_memory().unwrap();
    let length = tables::PIECE_CHUNKS as u32;
    for chunks in [0, 1, length - 1, length, length + 1, 2 * length + 1, 1] {
        let ids: Vec<u32> = (0..chunks).collect();
        let pack = new_pack(1, &ids);
        match index.pack_number(pack.id) {
            Some(_) => index.replace_table(&pack).unwrap(),
            None => add(&index, 1, &[(1, &ids)], &[]),
        }
        let number = index.pack_number(pack.id).unwrap();
        for ordinal in 0..2 * length + 2 {
            let place = Place { pack: number, ordinal: ordinal as u16 };
            let there = (ordinal < chunks).then(|| chunk_id(ordinal));
            let found = tables::chunk_id(&index.database(), place).unwrap();
            assert_eq!(found, there, "{ordinal} of {chunks}");
        }
        assert_eq!(index.toc(number).unwrap().toc, pack.toc.toc, "{chunks}");
    }
    let nowhere = Place { pack: 99, ordinal: 0 };
    assert_eq!(tables::chunk_id(&index.database(), nowhere).unwrap(), None);
}

/// Few looks into a long table read pieces of it; many read it all.
#[test]
fn a_table_is_kept_once_it_was_looked_into_often() {
    let index = Index::in_memory().unwrap();
    add(&index, 1, &[(1, &(0..2000).collect::<Vec<u32>>())], &[]);
    let number = index.pack_number(pack_id(1)).unwrap();
    // of those that share no key with another
    let looks = (0..2000).step_by(120).position(|id| {
        assert_eq!(index.places(&chunk_id(id)).unwrap().len(), 1);
        index.kept_toc(number).is_some()
    });
    assert_eq!(looks, Some(15));
}

#[test]
fn what_is_known_of_packs_is_the_same_after_opening_anew() {
    let directory = tempfile::tempdir().unwrap();
    let index = Index::open(directory.path()).unwrap();
    add(&index, 1, &[(1, &[1, 2]), (2, &[3])], &[]);
    let told = |index: &Index| format!("{:?}", index.packs());
    assert!(told(&index).contains("claimed_by: Some"));
    assert_eq!(told(&Index::open(directory.path()).unwrap()), told(&index));
}
