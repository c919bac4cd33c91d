//! What is looked up is right, whatever the store gives: damaged pieces and
//! tables, segments by nobody, removed packs, segments that go meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use esker::crypto::SigningKey;
use esker::format::segment::{segment_key, segment_of_key};
use esker::id::{PackId, SegmentId, WriterId};
use esker::progress::Silent;
use esker::repository::packer::PutPack;
use esker::repository::{ErrorKind, Repository};
use esker::restore::dump;
use esker::store::{Listed, Result, Store};

use crate::base::{CHUNKS, PACKS, SEGMENTS, base, invented, listed_pack, noise, put_segment};
use crate::support;

/// Gives other bytes than were put, once told to.
struct Bent {
    inner: Arc<dyn Store>,
    /// Segments whose parts behind their beginning are damaged.
    ranges_of: Vec<SegmentId>,
    /// Also when they are read whole.
    whole: bool,
    active: AtomicBool,
}

impl Bent {
    fn new(ranges_of: &[SegmentId], whole: bool) -> Arc<Bent> {
        let (inner, active) = (base().store(), AtomicBool::new(true));
        Arc::new(Bent { inner, ranges_of: ranges_of.to_vec(), whole, active })
    }

    fn bend(&self, key: &str, bytes: Bytes) -> Bytes {
        let meant = self.ranges_of.iter().any(|id| segment_key(*id) == key);
        if !meant || !self.active.load(Ordering::Relaxed) {
            return bytes;
        }
        let mut bytes = bytes.to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        bytes.into()
    }
}

impl Store for Bent {
    fn url(&self) -> &str {
        self.inner.url()
    }

    fn put(&self, key: &str, object: Bytes) -> Result<()> {
        self.inner.put(key, object)
    }

    fn get(&self, key: &str, max_length: u64) -> Result<Bytes> {
        let bytes = self.inner.get(key, max_length)?;
        Ok(if self.whole { self.bend(key, bytes) } else { bytes })
    }

    fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Bytes> {
        let bytes = self.inner.get_range(key, offset, length)?;
        Ok(if offset > 0 { self.bend(key, bytes) } else { bytes })
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        self.inner.list(prefix)
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.inner.delete(key)
    }
}

fn prepared(store: &Arc<dyn Store>) -> Repository {
    let repository = support::open(store);
    repository.prepare_reading(&Silent).unwrap();
    assert!(repository.looks_up());
    repository
}

/// The long file of the newest snapshot.
fn read_long(repository: &Repository) -> esker::repository::Result<Vec<u8>> {
    let snapshot = repository.snapshots().unwrap().0.pop().unwrap();
    let path = base().path().join("long");
    let key = format!("files{}", path.to_str().unwrap()).replace('/', "\0").into_bytes();
    let mut bytes = Vec::new();
    dump(repository, &snapshot, &key, &mut bytes, &esker::progress::Silent).map(|()| bytes)
}

/// The pack that holds an invented chunk, as it can be listed again.
fn invented_pack(store: &Arc<dyn Store>, first: u32) -> (PackId, PutPack) {
    let repository = prepared(store);
    let place = repository.places(&invented(first)).unwrap()[0];
    let id = repository.index().pack(place.pack).unwrap().id;
    (id, listed_pack(&repository, id))
}

/// Both ways of reading give the same.
#[test]
fn what_is_looked_up_is_what_the_whole_index_says() {
    let store = base().store();
    let ranged = prepared(&store);
    let whole = support::open(&store);
    whole.sync_index(&Silent).unwrap();
    let pack = |repository: &Repository, id| {
        let places = repository.places(&id).unwrap();
        let place = |p: &esker::repository::index::Place| {
            (repository.index().pack(p.pack).unwrap().id, p.ordinal)
        };
        places.iter().map(place).collect::<Vec<_>>()
    };
    let number = SEGMENTS * PACKS * CHUNKS;
    for number in [0, 1, CHUNKS, number / 2, number - 1, number, number + 1] {
        let id = invented(number);
        assert_eq!(pack(&ranged, id), pack(&whole, id), "chunk {number}");
    }
    assert!(ranged.looks_up());
    assert_eq!(read_long(&ranged).unwrap(), noise(77, 3_000_000));
}

/// Parts that are damaged on the way make the reader get all.
#[test]
fn damaged_ranges_lead_to_the_whole_index() {
    let store: Arc<dyn Store> = Bent::new(&base().real, false);
    let repository = prepared(&store);
    assert_eq!(read_long(&repository).unwrap(), noise(77, 3_000_000));
    assert!(!repository.looks_up());
}

/// Damage of one segment concerns nobody who finds his chunks in others, and is
/// told to who does not.
#[test]
fn a_damaged_segment_is_damage_only_where_it_is_needed() {
    let bent = Bent::new(&base().real, true);
    let store: Arc<dyn Store> = bent.clone();
    let repository = prepared(&store);
    assert_eq!(repository.places(&invented(7)).unwrap().len(), 1);
    assert!(repository.looks_up());
    assert_eq!(read_long(&repository).unwrap_err().kind, ErrorKind::Damage);
    bent.active.store(false, Ordering::Relaxed);
    assert_eq!(read_long(&repository).unwrap(), noise(77, 3_000_000));
}

/// A directory that does not open is told, and costs only what it lists.
#[test]
fn a_segment_by_nobody_is_told_and_earns_nothing() {
    let store = base().store();
    let (id, pack) = invented_pack(&store, 0);
    let nobody = (WriterId([9; 16]), &SigningKey::from_seed(&[9; 32]));
    let writer = support::open(&store);
    let segment = put_segment(&writer, &[pack], &[id], Some(nobody));
    let repository = support::open(&store);
    let troubles = repository.prepare_reading(&Silent).unwrap();
    assert_eq!(troubles.len(), 1);
    assert!(troubles[0].message.contains(&segment_key(segment)), "{}", troubles[0]);
    assert!(troubles[0].message.contains("SEG-4"), "{}", troubles[0]);
    // what it removes is not removed
    assert_eq!(repository.places(&invented(0)).unwrap().len(), 1);
}

/// A pack that a maintainer removed is not found any more, also when it was
/// found before.
#[test]
fn removed_packs_are_not_found() {
    let store = base().store();
    let (id, _) = invented_pack(&store, 0);
    let before = prepared(&store);
    assert_eq!(before.places(&invented(0)).unwrap().len(), 1);
    put_segment(&support::open(&store), &[], &[id], None);
    let after = prepared(&store);
    assert_eq!(after.places(&invented(0)).unwrap(), []);
    assert_eq!(after.places(&invented(CHUNKS)).unwrap().len(), 1);
    before.prepare_reading(&Silent).unwrap();
    assert!(before.looks_up());
    assert_eq!(before.places(&invented(0)).unwrap(), []);
}

/// Segments are merged while somebody looks up: he finds what moved, and forgets
/// what went.
#[test]
fn segments_that_vanish_are_looked_for_anew() {
    let store = base().store();
    let (_, pack) = invented_pack(&store, 0);
    let repository = prepared(&store);
    let is_invented =
        |listed: &Listed| !base().real.contains(&segment_of_key(&listed.key).unwrap());
    let mut going = store.list("index/").unwrap();
    going.retain(is_invented);
    put_segment(&support::open(&store), &[pack], &[], None);
    // all but two go; of the packs they list, one is listed by another
    going.iter().skip(2).for_each(|listed| store.delete(&listed.key).unwrap());
    assert_eq!(repository.places(&invented(0)).unwrap().len(), 1);
    assert_eq!(read_long(&repository).unwrap(), noise(77, 3_000_000));
    let there = (0..SEGMENTS).filter(|segment| {
        let id = invented(segment * PACKS * CHUNKS + CHUNKS + 3);
        !repository.places(&id).unwrap().is_empty()
    });
    assert_eq!(there.count(), 3);
}

/// Nobody writes by what was looked up: who loads the index keeps nothing of a
/// segment that turns out to be damaged.
#[test]
fn what_was_looked_up_goes_with_a_segment_that_is_refused() {
    let listed = base().store().list("index/").unwrap();
    let ids = listed.iter().map(|listed| segment_of_key(&listed.key).unwrap());
    let invented_ones: Vec<_> = ids.filter(|id| !base().real.contains(id)).collect();
    let bent = Bent::new(&invented_ones, true);
    bent.active.store(false, Ordering::Relaxed);
    let store: Arc<dyn Store> = bent.clone();
    let repository = prepared(&store);
    assert_eq!(repository.places(&invented(7)).unwrap().len(), 1);
    bent.active.store(true, Ordering::Relaxed);
    let troubles = repository.sync_index(&Silent).unwrap();
    assert_eq!(troubles.len(), invented_ones.len());
    assert_eq!(repository.places(&invented(7)).unwrap(), []);
    assert_eq!(read_long(&repository).unwrap(), noise(77, 3_000_000));
}

/// Many threads look up at once.
#[test]
fn threads_look_up_beside_each_other() {
    let repository = prepared(&base().store());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let repository = &repository;
            scope.spawn(move || {
                for at in 0..20 {
                    let id = invented((at * 12_345 + thread) * 7 % (SEGMENTS * PACKS * CHUNKS));
                    assert_eq!(repository.places(&id).unwrap().len(), 1);
                }
            });
        }
    });
}
