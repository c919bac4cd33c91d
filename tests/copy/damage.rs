//! A damaged source: what is whole is copied, what is not is named, and nothing of
//! it is called a snapshot.

use std::collections::BTreeSet;
use std::fs;

use esker::repository::ErrorKind;
use esker::store::Store;

use crate::support::settle;
use crate::world::{World, assert_clean, assert_same, noise};

fn packs(store: &std::sync::Arc<dyn Store>) -> BTreeSet<String> {
    store.list("packs/").unwrap().into_iter().map(|listed| listed.key).collect()
}

/// Three snapshots, of which the second alone needs the packs that are given out.
fn three(world: &World) -> ([esker::id::SnapshotId; 3], Vec<String>) {
    let first = world.save();
    let before = packs(&world.source);
    fs::write(world.tree().join("victim"), noise(20, 700_000)).unwrap();
    settle();
    let second = world.save();
    let new: Vec<String> = packs(&world.source).difference(&before).cloned().collect();
    fs::remove_file(world.tree().join("victim")).unwrap();
    settle();
    let third = world.save();
    ([first, second, third], new)
}

fn check(spoil: impl Fn(&World, &str)) {
    let world = World::new();
    let ([first, second, third], new) = three(&world);
    let longest = |key: &&String| {
        let listed = world.source.list("packs/").unwrap();
        listed.into_iter().find(|listed| listed.key == **key).unwrap().length
    };
    spoil(&world, new.iter().max_by_key(longest).unwrap());
    let report = world.copy();
    let copied: Vec<_> = report.copied.iter().map(|copied| copied.from).collect();
    assert_eq!(copied, [first, third]);
    assert_eq!(report.damaged.len(), 1);
    let (id, error) = &report.damaged[0];
    assert_eq!((*id, error.kind), (second, ErrorKind::Damage));
    for copied in &report.copied {
        assert_same(&world, copied.from, copied.id);
    }
    let there = world.there();
    assert!(there.snapshots().unwrap().0.iter().all(|snapshot| snapshot.is_good()));
    assert_clean(&there);
}

#[test]
fn a_missing_pack_costs_the_snapshots_that_need_it() {
    check(|world, key| world.source.delete(key).unwrap());
}

#[test]
fn altered_data_is_never_copied() {
    check(|world, key| {
        let mut bytes = world.source.get(key, u64::MAX).unwrap().to_vec();
        bytes[5000..5100].fill(0xEE);
        world.source.delete(key).unwrap();
        world.source.put(key, bytes.into()).unwrap();
    });
}

/// What a later snapshot still holds is found wherever it is.
#[test]
fn a_snapshot_that_was_deleted_meanwhile_is_no_damage() {
    let world = World::new();
    let ([first, second, third], new) = three(&world);
    let spoiling = esker::store::Faulty::new(world.source.clone(), {
        let (source, new) = (world.source.clone(), new.clone());
        let marker = std::sync::atomic::AtomicBool::new(false);
        move |operation| {
            // when its data is asked for, the snapshot and all that was its own are gone
            let asked = new.contains(&operation.key);
            if asked && !marker.swap(true, std::sync::atomic::Ordering::SeqCst) {
                for key in new.iter().chain([&format!("snapshots/{second}")]) {
                    source.delete(key).unwrap();
                }
            }
            esker::store::Decision::Pass
        }
    });
    let source: std::sync::Arc<dyn Store> = std::sync::Arc::new(spoiling);
    let here = crate::support::open(&source);
    let report = esker::copy::copy(
        &here,
        &world.there(),
        &crate::world::options(),
        &esker::progress::Silent,
    )
    .unwrap();
    let copied: Vec<_> = report.copied.iter().map(|copied| copied.from).collect();
    assert_eq!((copied, report.gone), (vec![first, third], vec![second]));
    assert!(report.damaged.is_empty());
}
