//! The one suite that every backend must pass.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use bytes::Bytes;
use esker::store::{ErrorKind, LocalStore, OpendalStore, Result, Store};

#[test]
fn memory_conforms() {
    conformance(&OpendalStore::memory().expect("memory"), Races::OneWins);
}

#[test]
fn a_directory_conforms() {
    let directory = tempfile::tempdir().expect("tempdir");
    let store = LocalStore::create(&directory.path().join("repository")).expect("create");
    conformance(&store, Races::OneWins);
}

/// What becomes of different bytes that are put under one key at once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Races {
    OneWins,
    /// The service has no condition to put under: a look before is all there is.
    MayReplace,
}

/// Wants an empty store and leaves it empty.
pub fn conformance(store: &dyn Store, races: Races) {
    let nothing = store.list("").expect("list an empty store");
    assert_eq!(nothing, [], "the suite wants an empty store");
    puts_once(store);
    reads_whole_objects_up_to_a_limit(store);
    reads_exact_ranges(store);
    lists_subtrees_sorted(store);
    lists_more_than_a_page(store);
    deletes_what_may_be_absent(store);
    refuses_bad_keys(store);
    if races == Races::OneWins {
        lets_one_of_many_writers_win(store);
    }
    puts_and_deletes_side_by_side(store);
    holds_large_objects(store);
    for object in store.list("").expect("list") {
        store.delete(&object.key).expect("delete");
    }
    assert_eq!(store.list("").expect("list"), []);
}

pub fn put(store: &dyn Store, key: &str, object: impl Into<Vec<u8>>) -> Result<()> {
    store.put(key, Bytes::from(object.into()))
}

#[track_caller]
pub fn check_kind<T: std::fmt::Debug>(result: Result<T>, kind: ErrorKind) {
    assert_eq!(result.expect_err("must fail").kind(), kind);
}

fn puts_once(store: &dyn Store) {
    put(store, "config", "one").expect("put");
    put(store, "config", "one").expect("the same again");
    for other in ["two", "", "on", "one and more"] {
        check_kind(put(store, "config", other), ErrorKind::Exists);
    }
    assert_eq!(store.get("config", 3).expect("get"), "one");
    put(store, "marks/00/1-ab", "").expect("put an empty object");
    put(store, "marks/00/1-ab", "").expect("the same again");
    check_kind(put(store, "marks/00/1-ab", "x"), ErrorKind::Exists);
    assert_eq!(store.get("marks/00/1-ab", 0).expect("get"), "");
}

fn reads_whole_objects_up_to_a_limit(store: &dyn Store) {
    put(store, "index/ten", "0123456789").expect("put");
    assert_eq!(store.get("index/ten", u64::MAX).expect("get"), "0123456789");
    assert_eq!(store.get("index/ten", 10).expect("get"), "0123456789");
    check_kind(store.get("index/ten", 9), ErrorKind::TooLarge);
    check_kind(store.get("index/ten", 0), ErrorKind::TooLarge);
    for absent in ["index/eleven", "index", "absent", "absent/too", "index/ten/below"] {
        check_kind(store.get(absent, 100), ErrorKind::NotFound);
        check_kind(store.get_range(absent, 0, 1), ErrorKind::NotFound);
        check_kind(store.get_range(absent, 0, 0), ErrorKind::NotFound);
    }
}

fn reads_exact_ranges(store: &dyn Store) {
    let check = |offset, length, expected: &str| {
        assert_eq!(store.get_range("index/ten", offset, length).expect("get_range"), expected);
    };
    check(0, 10, "0123456789");
    check(0, 1, "0");
    check(3, 4, "3456");
    check(9, 1, "9");
    check(4, 0, "");
    check(10, 0, "");
    for (offset, length) in [
        (0, 11),
        (9, 2),
        (10, 1),
        (11, 0),
        (11, 1),
        (1 << 40, 1),
        (1, u64::MAX),
        (u64::MAX, 1),
        (u64::MAX, u64::MAX),
    ] {
        check_kind(store.get_range("index/ten", offset, length), ErrorKind::Truncated);
    }
}

fn keys(store: &dyn Store, prefix: &str) -> Vec<String> {
    store.list(prefix).expect("list").into_iter().map(|object| object.key).collect()
}

fn lists_subtrees_sorted(store: &dyn Store) {
    let mut expected =
        ["tree/b/2", "tree/a", "tree/b/10", "tree/b-c", "tree/b.c/x", "tree/b/1/2/3", "tree/c"];
    for (length, key) in expected.iter().enumerate() {
        put(store, key, vec![0; length]).expect("put");
    }
    put(store, "trees", "a neighbour").expect("put");
    expected.sort_unstable();
    assert_eq!(keys(store, "tree/"), expected);
    assert_eq!(keys(store, "tree/b/"), ["tree/b/1/2/3", "tree/b/10", "tree/b/2"]);
    assert_eq!(keys(store, "tree/b/1/"), ["tree/b/1/2/3"]);
    assert_eq!(keys(store, "tree/absent/"), [""; 0]);
    assert_eq!(keys(store, "absent/"), [""; 0]);
    let length = store.list("tree/b/").expect("list")[0].length;
    assert_eq!(length, 5);
    let all = keys(store, "");
    assert!(all.is_sorted());
    for key in ["config", "index/ten", "trees", "tree/a"] {
        assert!(all.iter().any(|listed| listed == key), "{key}");
    }
}

/// Services answer at most 1,000 keys a page. Eight threads, because each put waits for its disk.
fn lists_more_than_a_page(store: &dyn Store) {
    let mut expected: Vec<String> =
        (0..1_101).map(|n| format!("many/{:02x}/{n:05}", n % 7)).collect();
    in_parallel(&expected, |key| put(store, key, &key[..key.len() % 5]).expect("put"));
    expected.sort_unstable();
    assert_eq!(keys(store, "many/"), expected);
    assert_eq!(keys(store, "many/03/").len(), 157);
    in_parallel(&expected, |key| store.delete(key).expect("delete"));
    assert_eq!(keys(store, "many/"), [""; 0]);
}

fn in_parallel(keys: &[String], work: impl Fn(&str) + Sync) {
    thread::scope(|scope| {
        for keys in keys.chunks(keys.len().div_ceil(8)) {
            let work = &work;
            scope.spawn(move || keys.iter().for_each(|key| work(key)));
        }
    });
}

fn deletes_what_may_be_absent(store: &dyn Store) {
    put(store, "sweeps/s/1", "x").expect("put");
    put(store, "sweeps/s/2", "y").expect("put");
    for key in
        ["sweeps/s/1", "sweeps/s/1", "sweeps/s", "sweeps", "sweeps/t/1", "nowhere/a", "nothing"]
    {
        store.delete(key).expect("delete");
    }
    check_kind(store.get("sweeps/s/1", 10), ErrorKind::NotFound);
    assert_eq!(store.get("sweeps/s/2", 10).expect("get"), "y");
    store.delete("sweeps/s/2").expect("delete");
    put(store, "sweeps/s/1", "z").expect("put where a directory was removed");
    assert_eq!(store.get("sweeps/s/1", 10).expect("get"), "z");
}

fn refuses_bad_keys(store: &dyn Store) {
    let before = keys(store, "");
    for key in [
        "", "/", "/config", "a//b", "a/", "../a", "a/../b", ".", "A", "a b", "a\n", "tmp/a",
        "reserve",
    ] {
        check_kind(put(store, key, "x"), ErrorKind::Permanent);
        check_kind(store.get(key, 10), ErrorKind::Permanent);
        check_kind(store.get_range(key, 0, 1), ErrorKind::Permanent);
        check_kind(store.delete(key), ErrorKind::Permanent);
    }
    for prefix in ["packs", "/", "../", "a//", "tmp/"] {
        check_kind(store.list(prefix), ErrorKind::Permanent);
    }
    assert_eq!(keys(store, ""), before);
}

/// Sixteen threads put eight different objects under one key: one content wins, and it is whole at every instant.
fn lets_one_of_many_writers_win(store: &dyn Store) {
    const LENGTH: usize = 300_000;
    let object = |n: usize| vec![(n / 2) as u8; LENGTH];
    for round in 0..8 {
        let key = format!("race/{round}/winner");
        let start = Barrier::new(17);
        let (won, lost) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for n in 0..16 {
                let (key, start, won, lost) = (&key, &start, &won, &lost);
                scope.spawn(move || {
                    start.wait();
                    match put(store, key, object(n)) {
                        Ok(()) => won.fetch_add(1, Ordering::SeqCst),
                        Err(error) if error.kind() == ErrorKind::Exists => {
                            lost.fetch_add(1, Ordering::SeqCst)
                        }
                        Err(error) => panic!("{error}: {error:?}"),
                    };
                });
            }
            start.wait();
            while won.load(Ordering::SeqCst) + lost.load(Ordering::SeqCst) < 16 {
                for object in store.list(&format!("race/{round}/")).expect("list") {
                    assert_eq!(object.length, LENGTH as u64);
                }
                thread::yield_now();
            }
        });
        let winner = store.get(&key, LENGTH as u64).expect("get");
        assert!(winner.len() == LENGTH && winner.iter().all(|byte| *byte == winner[0]));
        assert_eq!((won.into_inner(), lost.into_inner()), (2, 14));
    }
}

/// Puts into a directory that others keep emptying; what stays put is in every listing.
fn puts_and_deletes_side_by_side(store: &dyn Store) {
    put(store, "busy/stays", "x").expect("put");
    thread::scope(|scope| {
        for n in 0..4 {
            scope.spawn(move || {
                for round in 0..50 {
                    let key = format!("busy/shared/{n}-{round}");
                    put(store, &key, key.as_bytes()).expect("put");
                    assert_eq!(store.get(&key, 100).expect("get"), key.as_bytes());
                    assert!(keys(store, "busy/").contains(&key), "{key}");
                    store.delete(&key).expect("delete");
                }
            });
        }
        for _ in 0..50 {
            assert!(keys(store, "busy/").iter().any(|key| key == "busy/stays"));
        }
    });
    assert_eq!(keys(store, "busy/"), ["busy/stays"]);
}

/// With ESKER_TEST_LONG=yes one of a gibibyte.
fn holds_large_objects(store: &dyn Store) {
    let long = std::env::var("ESKER_TEST_LONG").is_ok_and(|long| long == "yes");
    let length: u64 = if long { 1 << 30 } else { 64 << 20 };
    let mut object = vec![0; length as usize];
    blake3::Hasher::new().finalize_xof().fill(&mut object);
    let object = Bytes::from(object);
    store.put("packs/00/large", object.clone()).expect("put");
    assert!(store.get("packs/00/large", length).expect("get") == object);
    let tail = store.get_range("packs/00/large", length - 5_000_000, 5_000_000).expect("get_range");
    assert!(tail == object[object.len() - 5_000_000..]);
    check_kind(store.get("packs/00/large", length - 1), ErrorKind::TooLarge);
    assert_eq!(store.list("packs/").expect("list")[0].length, length);
}
