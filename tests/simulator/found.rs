//! What the simulator found, each made short: one operation in the middle of
//! another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use esker::format::notes::MarkKind;
use esker::format::pack::pack_key;
use esker::id::SnapshotId;
use esker::progress::Silent;
use esker::prune::{PruneOptions, plan_only, prune};
use esker::repository::now_ms;
use esker::store::{Decision, Faulty, OperationKind, Store};

use crate::bases::{FULL, FULL_TOO, back_up, base, open, thorough};
use crate::nature;
use crate::oracle;
use crate::run::alone;
use crate::world::{Handle, World};

/// A store that does something else just before `prefix` is listed for the
/// `number`-th time.
fn just_before(
    store: &Arc<dyn Store>,
    prefix: &'static str,
    number: u64,
    act: impl Fn() + Send + Sync + 'static,
) -> Arc<dyn Store> {
    let listed = AtomicU64::new(0);
    Arc::new(Faulty::new(store.clone(), move |operation| {
        let is_it = operation.kind == OperationKind::List && operation.key == prefix;
        if is_it && listed.fetch_add(1, Ordering::SeqCst) + 1 == number {
            act();
        }
        Decision::Pass
    }))
}

/// A world of one's own, in which two trees of different files were backed up.
fn two_snapshots() -> (Arc<dyn Store>, [(SnapshotId, usize); 2]) {
    let objects = base(0, false).objects.clone();
    nature::seed_chance(1);
    let world = World::quiet(objects);
    let store = Handle::alone(&world);
    let snapshots = [0, 1].map(|tree| {
        world.pass(60_000);
        let profile = if tree == 0 { "one" } else { "two" };
        let report = back_up(&open(store.clone(), FULL, None), tree, profile, &Silent).unwrap();
        (report.snapshot.unwrap(), tree)
    });
    (store, snapshots)
}

fn forget(store: &Arc<dyn Store>, id: SnapshotId) {
    open(store.clone(), FULL, None).put_mark(id, MarkKind::Forget, now_ms()).unwrap();
}

/// A merge took in a segment that was put after the index had been brought up to
/// date, without the packs it lists; the next prune deleted the segment.
#[test]
fn a_segment_that_is_put_while_a_prune_merges_is_not_lost() {
    let _alone = alone();
    let (store, [first, second]) = two_snapshots();
    let made = Arc::new(std::sync::Mutex::new(Vec::new()));
    // a prune lists segments first, then after it announced, then to merge them
    let meanwhile = just_before(&store, "index/", 3, {
        let (store, made) = (store.clone(), made.clone());
        move || {
            let writer = open(store.clone(), FULL_TOO, None);
            let report = back_up(&writer, 5, "other", &Silent).unwrap();
            made.lock().unwrap().push((report.snapshot.unwrap(), 5));
        }
    });
    for store in [&meanwhile, &store, &store] {
        let repository = open(store.clone(), FULL, None);
        prune(&repository, &thorough(&repository), &Silent).unwrap();
    }
    let kept = [made.lock().unwrap().as_slice(), &[first, second]].concat();
    assert_eq!(kept.len(), 3);
    assert_eq!(oracle::all_kept(&open(store, FULL, None), &kept), Ok(()));
    nature::restore();
}

/// A prune ended with exit code 20 because another one had deleted a snapshot
/// that this one kept.
#[test]
fn a_snapshot_that_another_prune_deletes_meanwhile_is_no_damage() {
    let _alone = alone();
    let (store, [(first, _), _]) = two_snapshots();
    forget(&store, first);
    let meanwhile = just_before(&store, "packs/", 1, {
        let store = store.clone();
        move || {
            let other = open(store.clone(), FULL_TOO, None);
            prune(&other, &thorough(&other), &Silent).unwrap();
        }
    });
    let repository = open(meanwhile, FULL, None);
    let patient = PruneOptions { grace: 24 * 3_600_000, ..thorough(&repository) };
    let report = prune(&repository, &patient, &Silent).unwrap();
    assert!(report.damage.is_empty(), "{:?}", report.damage);
    nature::restore();
}

/// A prune that does not look at everything ended at a forgotten snapshot whose
/// reference page is gone.
#[test]
fn a_forgotten_snapshot_without_its_pages_makes_prune_look_at_everything() {
    let _alone = alone();
    let (store, [(first, _), _]) = two_snapshots();
    forget(&store, first);
    let repository = open(store.clone(), FULL, None);
    repository.sync_index(&Silent).unwrap();
    let (snapshots, _) = repository.snapshots().unwrap();
    let snapshot = snapshots.iter().find(|snapshot| snapshot.id == first).unwrap();
    let page = snapshot.manifest.references.id;
    for (pack, chunks) in oracle::packs(&repository) {
        if chunks.contains(&page) {
            store.delete(&pack_key(pack)).unwrap();
        }
    }
    let repository = open(store, FULL, None);
    let options = PruneOptions { full: false, ..thorough(&repository) };
    let plan = plan_only(&repository, &options, &Silent).unwrap();
    assert!(plan.full && plan.manifests.contains_key(&first));
    nature::restore();
}
