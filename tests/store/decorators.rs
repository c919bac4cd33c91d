//! The decorators count what happens, and make happen what they are told.

use std::sync::Arc;
use std::time::Duration;

use esker::store::{
    Count, Counting, Decision, ErrorKind, Faulty, OpendalStore, OperationKind, Slow, Store,
};

use crate::conformance::{Races, check_kind, conformance, put};

fn memory() -> Arc<dyn Store> {
    Arc::new(OpendalStore::memory().expect("memory"))
}

#[test]
fn decorators_change_nothing_by_themselves() {
    conformance(&Counting::new(memory()), Races::OneWins);
    conformance(&Faulty::new(memory(), |_| Decision::Pass), Races::OneWins);
    conformance(&Slow::new(memory(), Duration::ZERO, u64::MAX), Races::OneWins);
}

#[test]
fn calls_and_bytes_are_counted_by_kind_and_place() {
    let store = Counting::new(memory());
    put(&store, "packs/ab/1", "12345").expect("put");
    put(&store, "packs/cd/2", "123").expect("put");
    check_kind(put(&store, "packs/cd/2", "other"), ErrorKind::Exists);
    put(&store, "config", "1").expect("put");
    store.get_range("packs/ab/1", 1, 2).expect("get_range");
    check_kind(store.get("snapshots/x", 9), ErrorKind::NotFound);
    store.list("packs/").expect("list");

    let count = |calls, bytes, listed| Count { calls, bytes, listed };
    assert_eq!(store.count(OperationKind::Put, "packs"), count(3, 8, 0));
    assert_eq!(store.count(OperationKind::Put, "config"), count(1, 1, 0));
    assert_eq!(store.total(OperationKind::Put), count(4, 9, 0));
    assert_eq!(store.count(OperationKind::GetRange, "packs"), count(1, 2, 0));
    assert_eq!(store.count(OperationKind::Get, "snapshots"), count(1, 0, 0));
    assert_eq!(store.count(OperationKind::List, "packs"), count(1, 0, 2));
    assert_eq!(store.total(OperationKind::Delete), Count::default());
    store.reset();
    assert!(store.counts().is_empty());
}

#[test]
fn a_lost_answer_is_not_a_lost_object() {
    let inner = memory();
    let store = Faulty::new(inner.clone(), |operation| match operation.number {
        1 => Decision::FailBefore(ErrorKind::Full),
        2 => Decision::FailAfter(ErrorKind::Temporary),
        _ => Decision::Pass,
    });
    check_kind(put(&store, "a", "x"), ErrorKind::Full);
    check_kind(inner.get("a", 9), ErrorKind::NotFound);
    let lost = put(&store, "a", "x").expect_err("answer lost");
    assert!(lost.is_temporary());
    assert_eq!(inner.get("a", 9).expect("get"), "x");
    put(&store, "a", "x").expect("putting again is fine");
    assert_eq!(store.operations(), 3);
}

/// The loop that crash tests are made of.
#[test]
fn a_stop_can_be_placed_before_every_operation() {
    let work = |store: &dyn Store| -> esker::store::Result<()> {
        put(store, "a", "1")?;
        put(store, "b", "2")?;
        store.delete("a")
    };
    let undisturbed = Faulty::new(memory(), |_| Decision::Pass);
    work(&undisturbed).expect("work");
    assert_eq!(undisturbed.operations(), 3);

    let left = |number| {
        let inner = memory();
        let store = Faulty::stop_at(inner.clone(), number);
        check_kind(work(&store), ErrorKind::Permanent);
        assert!(store.is_stopped());
        check_kind(store.get("b", 9), ErrorKind::Permanent);
        inner.list("").expect("list").into_iter().map(|object| object.key).collect::<Vec<_>>()
    };
    assert_eq!(left(1), [""; 0]);
    assert_eq!(left(2), ["a"]);
    assert_eq!(left(3), ["a", "b"]);
}
