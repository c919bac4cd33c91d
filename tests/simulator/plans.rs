//! Random histories, one operation after the other, and after each of them
//! prune's plan against the naive oracle.

use std::collections::HashSet;
use std::sync::Arc;

use esker::format::notes::MarkKind;
use esker::id::{ChunkId, PackId, SnapshotId};
use esker::progress::Silent;
use esker::prune::{Plan, PruneOptions, plan_only, prune};
use esker::repository::snapshots::State;
use esker::repository::{Repository, now_ms};
use esker::store::Store;
use esker::undo::{Undone, undo};

use crate::bases::{BASES, FULL, FULL_TOO, MAINTAIN, WRITE, back_up, base, open, thorough, trees};
use crate::dice::Dice;
use crate::interleavings::times;
use crate::nature;
use crate::oracle::{self, Needed};
use crate::run::alone;
use crate::world::{Handle, World};

const HISTORIES: u64 = 40;
const MINUTE_MS: u64 = 60_000;

/// What a plan would leave, by the naive oracle.
struct Judged {
    /// Packs without any chunk that a staying snapshot needs.
    useless: HashSet<PackId>,
    needed: HashSet<ChunkId>,
}

fn judge(repository: &Repository, plan: &Plan) -> Judged {
    let (snapshots, _) = repository.snapshots().unwrap();
    let staying: Vec<_> =
        snapshots.iter().filter(|snapshot| !plan.manifests.contains_key(&snapshot.id)).collect();
    let needed = Needed::by(repository, &staying).unwrap().chunks;
    let useless = oracle::packs(repository)
        .into_iter()
        .filter(|(_, chunks)| !chunks.iter().any(|chunk| needed.contains(chunk)))
        .map(|(pack, _)| pack)
        .collect();
    Judged { useless, needed }
}

/// What a plan deletes at once must not be needed, and a full one must delete
/// all that is useless.
fn check(repository: &Repository, options: &PruneOptions, told: &str) {
    let plan = plan_only(repository, options, &Silent).unwrap();
    let (snapshots, _) = repository.snapshots().unwrap();
    for snapshot in &snapshots {
        // no run is under way: what is not confirmed never will be
        let goes = snapshot.forgotten.is_some() || snapshot.state == State::Unconfirmed;
        assert_eq!(plan.manifests.contains_key(&snapshot.id), goes, "{told}: {}", snapshot.id);
    }
    let Judged { useless, needed } = judge(repository, &plan);
    let dead: HashSet<PackId> = plan.dead.iter().map(|pack| pack.id).collect();
    let left = oracle::packs(repository).into_iter().filter(|(pack, _)| !dead.contains(pack));
    let held: HashSet<ChunkId> = left.flat_map(|(_, chunks)| chunks).collect();
    let lost = needed.difference(&held).next();
    assert_eq!(lost, None, "{told}: the plan deletes what is needed");
    if plan.full {
        let forgotten = useless.difference(&dead).next();
        assert_eq!(forgotten, None, "{told}: the plan leaves a pack that nobody needs");
    }
}

fn step(store: &Arc<dyn Store>, dice: &mut Dice, kept: &mut Vec<(SnapshotId, usize)>) -> String {
    let repository = open(store.clone(), FULL, None);
    repository.sync_index(&Silent).unwrap();
    let (snapshots, _) = repository.snapshots().unwrap();
    match dice.below(10) {
        0..4 => {
            let (tree, key) = (dice.below(trees().len()), dice.pick(&[FULL, FULL_TOO, WRITE]));
            let writer = open(store.clone(), key, None);
            let report = back_up(&writer, tree, dice.pick(&["one", "two"]), &Silent).unwrap();
            kept.push((report.snapshot.unwrap(), tree));
            format!("backup of {tree} with key {key}")
        }
        4..7 if !kept.is_empty() => {
            let (id, _) = kept.swap_remove(dice.below(kept.len()));
            repository.put_mark(id, MarkKind::Forget, now_ms()).unwrap();
            format!("forget {id}")
        }
        7 => {
            let forgotten = snapshots.iter().find(|snapshot| snapshot.forgotten.is_some());
            let Some(snapshot) = forgotten else { return "nothing to undo".to_owned() };
            let outcome = undo(&repository, &snapshots, &[snapshot.id], now_ms(), &Silent);
            assert_eq!(outcome.unwrap(), [(snapshot.id, Undone::Recovered)]);
            let files = oracle::files(&repository, snapshot).unwrap();
            let tree = trees().iter().position(|tree| tree.files == files).unwrap();
            kept.push((snapshot.id, tree));
            format!("undo {}", snapshot.id)
        }
        _ => {
            let key = dice.pick(&[FULL, MAINTAIN, FULL_TOO]);
            let maintainer = open(store.clone(), key, None);
            let grace = dice.pick(&[0, 2 * MINUTE_MS]);
            let full = dice.likely(500);
            let options = PruneOptions { grace, full, ..thorough(&maintainer) };
            prune(&maintainer, &options, &Silent).unwrap();
            format!("prune with key {key}, grace {grace}, full {full}")
        }
    }
}

fn live_through(seed: u64) {
    let mut dice = Dice::new(seed);
    let base = base(dice.below(BASES), false);
    let cache = tempfile::tempdir().unwrap();
    nature::seed_chance(seed);
    let world = World::quiet(base.objects.clone());
    let store = Handle::alone(&world);
    let staying = base.snapshots.iter().filter(|known| !known.forgotten);
    let mut kept: Vec<_> = staying.map(|known| (known.id, known.tree)).collect();
    let mut told = format!("seed {seed}");
    for _ in 0..3 + dice.below(8) {
        world.pass(MINUTE_MS);
        told.push_str(", ");
        told.push_str(&step(&store, &mut dice, &mut kept));
        // one that has a cache need not look at everything
        let repository = open(store.clone(), FULL, Some(cache.path()));
        for full in [false, true] {
            let options = PruneOptions { full, ..thorough(&repository) };
            check(&repository, &options, &told);
        }
    }
    let repository = open(store.clone(), FULL, None);
    prune(&repository, &thorough(&repository), &Silent).unwrap();
    let repository = open(store, FULL, None);
    let result = oracle::all_kept(&repository, &kept)
        .and_then(|()| oracle::is_whole(&repository, &kept))
        .and_then(|()| oracle::nothing_is_left_over(&repository));
    assert_eq!(result, Ok(()), "{told}");
    nature::restore();
}

#[test]
fn a_plan_deletes_what_nobody_needs_and_nothing_else() {
    let _alone = alone();
    (0..HISTORIES * times()).for_each(live_through);
}
