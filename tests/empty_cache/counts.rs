//! Requests and bytes: of a listing of snapshots, of `ls`, of restoring a file,
//! and when so much is read that the index is got whole.

use std::fs;
use std::sync::Arc;

use esker::crypto::SecretKey;
use esker::format::Kind;
use esker::format::manifest::{PrivatePart, manifest_key};
use esker::format::notes::{Confirmation, confirmation_key};
use esker::id::SnapshotId;
use esker::list::list;
use esker::progress::Silent;
use esker::repository::local::CacheRoot;
use esker::repository::snapshots::Snapshot;
use esker::repository::{Repository, Unlock};
use esker::restore::{RestoreOptions, restore};
use esker::store::{Counting, OperationKind, Store};

use crate::base::{Base, CHUNKS, PACKS, SEGMENTS, base, invented, noise};
use crate::support;

fn counting(base: &Base) -> (Arc<Counting>, Arc<dyn Store>) {
    let counting = Arc::new(Counting::new(base.store()));
    (counting.clone(), counting)
}

/// Requests and bytes got.
fn got(counting: &Counting) -> (u64, u64) {
    let (whole, range) =
        (counting.total(OperationKind::Get), counting.total(OperationKind::GetRange));
    let lists = counting.total(OperationKind::List).calls;
    (whole.calls + range.calls + lists, whole.bytes + range.bytes)
}

fn newest(repository: &Repository) -> Snapshot {
    repository.snapshots().unwrap().0.pop().unwrap()
}

fn key(path: &std::path::Path) -> Vec<u8> {
    let path = path.to_str().unwrap();
    format!("files{path}").replace('/', "\0").into_bytes()
}

fn names(repository: &Repository, snapshot: &Snapshot, key: &[u8]) -> Vec<Vec<u8>> {
    let mut names = Vec::new();
    list(repository, snapshot, Some(key), false, &mut |listed| names.push(listed.key)).unwrap();
    names
}

/// Listing a directory asks each segment for its directory and, for a page that
/// is not where the last one was, for one piece.
#[test]
fn a_directory_is_listed_with_little_of_the_index() {
    let base = base();
    let (counting, store) = counting(base);
    let repository = support::open(&store);
    repository.prepare_reading(&Silent).unwrap();
    let snapshot = newest(&repository);
    let listed = names(&repository, &snapshot, &key(&base.path().join("directory-7")));
    assert_eq!(listed.len(), 100);
    let (requests, bytes) = got(&counting);
    println!("ls: {requests} requests, {bytes} bytes");
    let index = counting.count(OperationKind::GetRange, "index");
    println!("    index: {} requests, {} bytes", index.calls, index.bytes);
    assert_eq!(counting.count(OperationKind::Get, "index").calls, 0, "a segment was got whole");
    assert!(index.calls <= 60, "{} requests", index.calls);
    assert!(index.bytes <= 3 << 20, "{} bytes", index.bytes);
    assert!(requests <= 90, "{requests} requests");
}

/// Restoring one file takes hardly more.
#[test]
fn a_file_is_restored_with_little_of_the_index() {
    let base = base();
    let (counting, store) = counting(base);
    let repository = support::open(&store);
    let snapshot = newest(&repository);
    let target = tempfile::tempdir().unwrap();
    let options = RestoreOptions {
        target: target.path().to_owned(),
        path: Some(key(&base.path().join("long"))),
        ..RestoreOptions::default()
    };
    let report = restore(&repository, &snapshot, &options, &Silent).unwrap();
    assert_eq!(report.files_written, 1);
    assert_eq!(fs::read(target.path().join("long")).unwrap(), noise(77, 3_000_000));
    let (requests, bytes) = got(&counting);
    println!("restore: {requests} requests, {bytes} bytes");
    let index = counting.count(OperationKind::GetRange, "index");
    println!("    index: {} requests, {} bytes", index.calls, index.bytes);
    assert_eq!(counting.count(OperationKind::Get, "index").calls, 0, "a segment was got whole");
    assert!(index.bytes <= 4 << 20, "{} bytes", index.bytes);
    assert!(requests <= 120, "{requests} requests");
}

/// What was looked up stays: the next command asks for a listing only.
#[test]
fn what_was_looked_up_is_known_the_next_time() {
    let base = base();
    let (counting, store) = counting(base);
    let cache = tempfile::tempdir().unwrap();
    let open = || {
        let root = CacheRoot::Directory(cache.path().to_owned());
        let unlock = Unlock::KeyFile(SecretKey::from_bytes(support::KEY));
        Repository::open(store.clone(), &unlock, &root).unwrap()
    };
    let directory = key(&base.path().join("directory-7"));
    let look = |repository: &Repository| {
        repository.prepare_reading(&Silent).unwrap();
        names(repository, &newest(repository), &directory)
    };
    let first = look(&open());
    counting.reset();
    assert_eq!(look(&open()), first);
    assert_eq!(counting.count(OperationKind::GetRange, "index").calls, 0);
    assert_eq!(counting.count(OperationKind::Get, "index").calls, 0);
    // who needs all of it gets all, and then has what one has who got it at once
    let (repository, fresh) = (open(), support::open(&base.store()));
    repository.sync_index(&Silent).unwrap();
    fresh.sync_index(&Silent).unwrap();
    let packs = |repository: &Repository| {
        let packs = repository.index().packs().into_iter();
        let mut packs: Vec<_> = packs.map(|(_, i)| (i.id, i.frame_hash, i.listed_by)).collect();
        packs.sort();
        packs
    };
    assert_eq!(packs(&repository), packs(&fresh));
    assert_eq!(packs(&repository).len() as u32, SEGMENTS * PACKS + real_packs(&fresh));
    assert!(!repository.looks_up());
    counting.reset();
    repository.sync_index(&Silent).unwrap();
    assert_eq!(got(&counting), (1, 0));
}

fn real_packs(repository: &Repository) -> u32 {
    let packs = repository.index().packs().into_iter();
    packs.filter(|(_, info)| info.chunks != CHUNKS).count() as u32
}

/// Reading everything costs a quarter more than the index at most.
#[test]
fn whoever_reads_much_gets_the_whole_index() {
    let base = base();
    let (counting, store) = counting(base);
    let repository = support::open(&store);
    repository.prepare_reading(&Silent).unwrap();
    let all: u64 = store.list("index/").unwrap().iter().map(|listed| listed.length).sum();
    let number = SEGMENTS * PACKS * CHUNKS;
    let mut looked_up = 0;
    while repository.looks_up() {
        let id = invented((looked_up * 7919 * 131) % number);
        assert_eq!(repository.places(&id).unwrap().len(), 1);
        looked_up += 1;
        assert!(looked_up < 1000, "never got whole");
    }
    let bytes = counting.count(OperationKind::GetRange, "index").bytes;
    println!("{looked_up} look-ups, {bytes} of {all} bytes before all was got");
    assert!(looked_up > 15, "got whole after {looked_up} look-ups");
    assert!(bytes < all / 4 + (2 << 20), "{bytes} of {all} bytes");
    for number in (0..number).step_by(9973) {
        assert_eq!(repository.places(&invented(number)).unwrap().len(), 1);
    }
}

/// Who says that much will be read does not look up first.
#[test]
fn whoever_expects_to_read_much_gets_the_whole_index_at_once() {
    let base = base();
    let (counting, store) = counting(base);
    let repository = support::open(&store);
    repository.prepare_reading(&Silent).unwrap();
    repository.expect_reads(10, 10 << 20, &Silent).unwrap();
    assert!(repository.looks_up());
    repository.expect_reads(100_000, 10 << 30, &Silent).unwrap();
    assert!(!repository.looks_up());
    assert_eq!(counting.count(OperationKind::GetRange, "index").calls, u64::from(SEGMENTS) + 1);
    assert_eq!(repository.places(&invented(5)).unwrap().len(), 1);
}

/// A listing of snapshots asks for each manifest and confirmation once, and for
/// nothing of the index.
#[test]
fn snapshots_are_listed_without_the_index() {
    let base = base();
    let (counting, store) = counting(base);
    let repository = support::open(&store);
    put_manifests(&repository, 1000);
    let repository = support::open(&store);
    counting.reset();
    let (listed, troubles) = repository.snapshots().unwrap();
    assert_eq!((listed.len(), troubles.len()), (1003, 0));
    let (requests, bytes) = got(&counting);
    let each = |component| counting.count(OperationKind::Get, component).bytes / 1003;
    println!("a manifest {}, a confirmation {}", each("snapshots"), each("confirmed"));
    println!("snapshots: {requests} requests, {bytes} bytes for {}", listed.len());
    assert_eq!(requests, 2 * 1003 + 3);
    assert!(bytes < 1003 * 4096, "{bytes} bytes");
    let touched = counting.counts().into_keys().any(|(_, component)| component == "index");
    assert!(!touched);
}

fn put_manifests(repository: &Repository, count: u64) {
    let model = newest(repository);
    let private = PrivatePart { ..repository.private_part(&model).unwrap() };
    for number in 0..count {
        let id = SnapshotId::random();
        let mut manifest = model.manifest.clone();
        (manifest.id, manifest.started, manifest.parent) = (id, number, None);
        let key = manifest_key(id);
        let hash = repository
            .put_object(Kind::Manifest, &key, &manifest.encode(), Some(&private.encode()))
            .unwrap();
        let confirmation = Confirmation { manifest: hash, time: 1, kept: Vec::new() };
        let key = confirmation_key(id);
        repository.put_object(Kind::Confirmation, &key, &confirmation.encode(), None).unwrap();
    }
}

/// Opening takes two ways to the store and back, whatever there is to read.
#[test]
fn opening_asks_for_each_object_once() {
    let (counting, store) = counting(base());
    counting.reset();
    support::open(&store);
    let (requests, _) = got(&counting);
    assert_eq!(requests, 5, "config, slots and the one, updates and the one");
}
