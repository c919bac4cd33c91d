//! Copies that are cut off, and copies beside a prune.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use esker::copy::{CopyOptions, copy};
use esker::format::notes::MarkKind;
use esker::progress::{Event, Progress, Silent};
use esker::prune::{PruneOptions, prune};
use esker::repository::local::CacheRoot;
use esker::repository::{ErrorKind, now_ms};
use esker::store::{Decision, Faulty, OperationKind, Store};

use crate::support::{self, memory_of, settle};
use crate::world::{
    THERE, World, assert_clean, entries, noise, open_there, open_with, options, snapshot,
};

/// Checkpoints as often as can be.
fn busy() -> CopyOptions {
    CopyOptions { checkpoint_bytes: 1, ..options() }
}

#[test]
fn a_copy_that_is_cut_off_anywhere_goes_on() {
    let world = World::new();
    let first = world.save();
    fs::write(world.tree().join("new"), noise(30, 200_000)).unwrap();
    settle();
    let second = world.save();
    world.here().put_mark(second, MarkKind::Name("second".into()), now_ms()).unwrap();
    let here = world.here();
    let expected = [entries(&here, first), entries(&here, second)];
    let mut whole = 0;
    for stop in 1..400 {
        let there = memory_of(&world.destination);
        let faulty = Arc::new(Faulty::stop_at(there.clone(), stop));
        let cut_off: Arc<dyn Store> = faulty.clone();
        let done = open_with(&cut_off, THERE, &CacheRoot::None)
            .and_then(|destination| copy(&here, &destination, &busy(), &Silent));
        let ended_well = done.as_ref().is_ok_and(|report| report.stopped.is_none());
        assert!(ended_well || faulty.is_stopped(), "stopped at {stop}: {done:?}");
        // what is called good there is whole already
        let (snapshots, troubles) = open_there(&there).snapshots().unwrap();
        assert!(troubles.is_empty(), "stopped at {stop}: {troubles:?}");
        for copied in snapshots.iter().filter(|snapshot| snapshot.is_good()) {
            let from = copied.manifest.copied_from.as_ref().unwrap().snapshot;
            let original = if from == first { &expected[0] } else { &expected[1] };
            assert_eq!(entries(&open_there(&there), copied.id), *original, "stopped at {stop}");
        }
        let again = copy(&here, &open_there(&there), &busy(), &Silent).unwrap();
        assert!(again.stopped.is_none(), "stopped at {stop}: {:?}", again.stopped);
        let repository = open_there(&there);
        let copies: Vec<_> = again
            .there
            .iter()
            .map(|there| (there.from.id, there.id))
            .chain(again.copied.iter().map(|copied| (copied.from, copied.id)))
            .collect();
        assert_eq!(copies.len(), 2, "stopped at {stop}");
        for (from, id) in copies {
            let at = usize::from(from == second);
            assert_eq!(entries(&repository, id), expected[at], "stopped at {stop}");
            let name = snapshot(&repository, id).name;
            assert_eq!(name.is_some(), from == second, "stopped at {stop}");
        }
        if ended_well {
            whole += 1;
        }
        if whole == 2 {
            assert_clean(&repository);
            assert!(stop > 30, "a copy of {stop} operations was not looked at closely");
            return;
        }
    }
    panic!("a copy takes more than 400 store operations");
}

#[test]
fn what_a_copy_put_before_it_was_cut_off_is_not_put_again() {
    let world = World::new();
    fs::write(world.tree().join("more"), noise(31, 8 << 20)).unwrap();
    settle();
    let original = world.save();
    // stop when the first segment is about to be put: the packs are there by then
    let cut_off: Arc<dyn Store> =
        Arc::new(Faulty::new(world.destination.clone(), |operation| match operation.kind {
            OperationKind::Put if operation.key.starts_with("index/") => Decision::Stop,
            _ => Decision::Pass,
        }));
    let report = copy(&world.here(), &open_there(&cut_off), &options(), &Silent).unwrap();
    assert!(report.stopped.is_some() && report.copied.is_empty());
    let report = world.copy();
    assert!(report.copied[0].bytes_put < 1 << 20, "{} bytes", report.copied[0].bytes_put);
    crate::world::assert_same(&world, original, report.copied[0].id);
}

/// Ctrl-C, the so-many-th time somebody asks.
struct Interrupt(AtomicU64);

impl Progress for Interrupt {
    fn event(&self, _: Event<'_>) {}

    fn interrupted(&self) -> bool {
        self.0.fetch_sub(1, Ordering::SeqCst) <= 1
    }
}

#[test]
fn what_an_interrupted_copy_put_is_not_put_again() {
    let world = World::new();
    for seed in 33..37 {
        fs::write(world.tree().join(format!("more{seed}")), noise(seed, 9 << 20)).unwrap();
    }
    settle();
    let original = world.save();
    // far into the ranges of data
    let interrupt = Interrupt(AtomicU64::new(78));
    let report = copy(&world.here(), &world.there(), &options(), &interrupt).unwrap();
    assert_eq!(report.stopped.unwrap().kind, ErrorKind::Interrupted);
    let put: u64 = world.destination.list("packs/").unwrap().iter().map(|pack| pack.length).sum();
    assert!(put > 4 << 20, "{put} bytes put");
    let copied = world.copy().copied.remove(0);
    assert!(copied.bytes_put + put < 43 << 20, "{} and {put} bytes put", copied.bytes_put);
    crate::world::assert_same(&world, original, copied.id);
}

/// A prune takes the packs the copy builds on, just before its manifest is put.
#[test]
fn a_copy_beside_a_prune_ends_good() {
    let world = World::new();
    world.save();
    let old = world.copy().copied.remove(0);
    fs::write(world.tree().join("new"), noise(32, 200_000)).unwrap();
    settle();
    let original = world.save();
    world.there().put_mark(old.id, MarkKind::Forget, now_ms()).unwrap();
    let pruned = AtomicBool::new(false);
    let inner = world.destination.clone();
    let store: Arc<dyn Store> =
        Arc::new(Faulty::new(world.destination.clone(), move |operation| {
            let is_manifest =
                operation.kind == OperationKind::Put && operation.key.starts_with("snapshots/");
            if is_manifest && !pruned.swap(true, Ordering::SeqCst) {
                let repository = open_there(&inner);
                let options =
                    PruneOptions { grace: 0, max_unused: 0.0, ..PruneOptions::new(&repository) };
                let report = prune(&repository, &options, &Silent).unwrap();
                assert!(report.packs_deleted > 0);
            }
            Decision::Pass
        }));
    let named = CopyOptions { snapshots: Some(vec![original]), ..options() };
    let report = copy(&world.here(), &open_there(&store), &named, &Silent).unwrap();
    assert!(report.stopped.is_none(), "{:?}", report.stopped);
    crate::world::assert_same(&world, original, report.copied[0].id);
    assert_clean(&world.there());
    support::contents(&world.there(), report.copied[0].id);
}
