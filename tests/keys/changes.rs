//! Several administrators at once, and crashes in the middle.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use esker::format::slot::Role;
use esker::id::SlotId;
use esker::keys::{self, RemoveOptions, RemoveReport};
use esker::progress::Silent;
use esker::repository::{ErrorKind, Result};
use esker::store::{Decision, Faulty, OperationKind};

use crate::support::*;

fn remove(store: &SharedStore, slot: SlotId) -> Result<RemoveReport> {
    keys::remove(&admin(store), slot, &RemoveOptions::default(), &Silent)
}

/// A store in which, just before the first operation of `kind` under `prefix`,
/// somebody else does `meanwhile`.
fn interleaved(
    store: &SharedStore,
    kind: OperationKind,
    prefix: &'static str,
    meanwhile: impl Fn(&SharedStore) + Send + Sync + 'static,
) -> SharedStore {
    let done = AtomicBool::new(false);
    let inner = store.clone();
    Arc::new(Faulty::new(store.clone(), move |operation| {
        let now = operation.kind == kind && operation.key.starts_with(prefix);
        if now && !done.swap(true, Ordering::SeqCst) {
            meanwhile(&inner);
        }
        Decision::Pass
    }))
}

/// Two keys added at once under the same number: both open, and the next update
/// names both.
#[test]
fn two_updates_of_one_number_combine() {
    let store = init();
    let raced = interleaved(&store, OperationKind::Put, "config-updates/", |store| {
        add(store, Role::Write, 3);
    });
    let report = keys::add(&admin(&raced), &options(Role::Read, 2)).unwrap();
    assert!(report.combined);
    assert_eq!(keys_of(&store, "config-updates/00000002").len(), 2);
    for number in [2, 3] {
        assert_eq!(open(&store, number).update().writers.len(), 3);
    }
    let third = add(&store, Role::Watch, 4);
    assert_eq!(third.update, Some(3));
    assert_eq!(open(&store, 4).update().writers.len(), 4);
}

/// An update put while somebody already built on its neighbour is not lost.
#[test]
fn a_late_update_is_not_lost() {
    let store = init();
    let leaver = add(&store, Role::Write, 2);
    let raced = interleaved(&store, OperationKind::Put, "config-updates/", |store| {
        add(store, Role::Watch, 3);
        add(store, Role::Watch, 4);
    });
    remove(&raced, leaver.slot).unwrap();
    let merged = admin(&store);
    assert!(merged.update().revocation(leaver.writer).is_some());
    assert_eq!(merged.update().writers.len(), 4);
    for number in [3, 4] {
        assert_eq!(open(&store, number).keyring().epoch, 2, "key {number}");
    }
    add(&store, Role::Watch, 5);
    assert!(open(&store, 5).update().revocation(leaver.writer).is_some());
}

/// Two removals with rotation at once: neither of the removed gets the newest
/// epoch from the other's update.
#[test]
fn two_rotations_at_once_shut_both_out() {
    let store = init();
    let (one, two) = (add(&store, Role::Read, 2), add(&store, Role::Read, 3));
    add(&store, Role::Read, 4);
    let (first, second) = (open(&store, 2), open(&store, 3));
    let raced = interleaved(&store, OperationKind::Put, "config-updates/", move |store| {
        remove(store, two.slot).unwrap();
    });
    remove(&raced, one.slot).unwrap();
    let directory = tempfile::tempdir().unwrap();
    tree(directory.path(), &["january"]);
    let before = keys_of(&store, "");
    let id = back_up(&admin(&store), directory.path());
    let new = new_since(&store, &before);
    assert!(read_all(&open(&store, 4), id).is_ok());
    for (number, gone) in [(2, first), (3, second)] {
        assert!(try_open(&store, number).is_err());
        let loot = try_everything(&store, &with_grants(&store, gone), &new);
        assert_eq!((loot.public, loot.secrets()), (0, 0), "key {number}: {loot:?}");
    }
}

/// The keys a removed holder can still come by: those it had. Its grants are
/// looked for in every update.
fn with_grants(
    store: &SharedStore,
    gone: esker::repository::Repository,
) -> esker::repository::Repository {
    let keyring = gone.keyring();
    let newest = admin(store).update().epoch;
    for key in keys_of(store, "config-updates/") {
        let bytes = get(store, &key);
        let update =
            esker::format::update::ConfigUpdate::parse(&bytes, gone.id(), &key, &keyring.admin)
                .unwrap();
        let granted = update.grants.iter().any(|(slot, _)| *slot == keyring.slot);
        assert!(!granted || update.epoch < newest, "{key} grants the newest epoch");
    }
    gone
}

/// Before which operation of a command, counted from when it is told to begin,
/// somebody else does something; and whether that came to pass.
struct Interruption {
    store: SharedStore,
    countdown: Arc<AtomicUsize>,
}

impl Interruption {
    fn new(store: &SharedStore, meanwhile: impl Fn(&SharedStore) + Send + Sync + 'static) -> Self {
        let countdown = Arc::new(AtomicUsize::new(0));
        let (inner, left) = (store.clone(), countdown.clone());
        let store = Arc::new(Faulty::new(store.clone(), move |_| {
            if left.load(Ordering::SeqCst) > 0 && left.fetch_sub(1, Ordering::SeqCst) == 1 {
                meanwhile(&inner);
            }
            Decision::Pass
        }));
        Interruption { store, countdown }
    }

    fn before(&self, operation: usize) {
        self.countdown.store(operation, Ordering::SeqCst);
    }

    fn came_to_pass(&self) -> bool {
        self.countdown.load(Ordering::SeqCst) == 0
    }
}

/// A key added while the keys are rotated is not locked out, before whichever
/// operation of the one command the whole other runs.
#[test]
fn a_key_added_during_a_rotation_opens() {
    let rotate = |store: &SharedStore| assert!(keys::rotate(&admin(store)).is_ok());
    let add_two = |store: &SharedStore| assert!(add(store, Role::Read, 2).update.is_some());
    for rotating in [true, false] {
        let mut interleavings = 0;
        for operation in 1.. {
            let store = init();
            add(&store, Role::Watch, 3);
            let meanwhile: fn(&SharedStore) = if rotating { add_two } else { rotate };
            let raced = Interruption::new(&store, meanwhile);
            let full = admin(&raced.store);
            raced.before(operation);
            if rotating {
                keys::rotate(&full).unwrap();
            } else {
                keys::add(&full, &options(Role::Read, 2)).unwrap();
            }
            if !raced.came_to_pass() {
                break;
            }
            interleavings += 1;
            for number in [2, 3] {
                assert_eq!(open(&store, number).keyring().epoch, 2, "{rotating} {operation}");
            }
        }
        assert!(interleavings > 5, "{interleavings}");
    }
}

type Command = fn(&SharedStore, SlotId) -> Result<()>;

/// Wherever a key command stops, the full key and the keys that stay still open,
/// and the same command done again ends well.
#[test]
fn a_crash_anywhere_is_mended_by_doing_it_again() {
    let commands: [(&str, Command); 3] = [
        ("add", |store, _| keys::add(&try_open(store, ADMIN)?, &options(Role::Read, 4)).map(drop)),
        ("remove", |store, slot| {
            match keys::remove(&try_open(store, ADMIN)?, slot, &RemoveOptions::default(), &Silent) {
                // done already
                Err(error) if error.kind == ErrorKind::Usage => Ok(()),
                other => other.map(drop),
            }
        }),
        ("rotate", |store, _| keys::rotate(&try_open(store, ADMIN)?).map(drop)),
    ];
    for (name, command) in commands {
        let template = init();
        let leaver = add(&template, Role::Read, 2);
        add(&template, Role::Write, 3);
        let mut finished = false;
        for stop in 1..200 {
            let store = copy_store(&template);
            let faulty = Arc::new(Faulty::stop_at(store.clone(), stop));
            let shared: SharedStore = faulty.clone();
            finished = command(&shared, leaver.slot).is_ok() && !faulty.is_stopped();
            if finished {
                break;
            }
            assert!(open(&store, ADMIN).update().number >= 3, "{name} stopped at {stop}");
            assert!(try_open(&store, 3).is_ok(), "{name} stopped at {stop}");
            command(&store, leaver.slot).unwrap();
            assert!(try_open(&store, 3).is_ok(), "{name} again after {stop}");
            match name {
                "add" => assert!(try_open(&store, 4).is_ok(), "added again after {stop}"),
                "remove" => assert!(try_open(&store, 2).is_err(), "removed again after {stop}"),
                _ => assert!(open(&store, 3).keyring().epoch >= 2, "rotated after {stop}"),
            }
        }
        assert!(finished, "{name} never ended");
    }
}

/// The last full key stays, and the one in use goes only when told.
#[test]
fn the_last_full_key_stays() {
    let store = init();
    let full = admin(&store);
    let slot = full.keyring().slot;
    let forced = RemoveOptions { force: true, ..RemoveOptions::default() };
    assert_eq!(kind_of(keys::remove(&full, slot, &forced, &Silent)), ErrorKind::Failed);
    add(&store, Role::Read, 2);
    assert_eq!(kind_of(keys::remove(&full, slot, &forced, &Silent)), ErrorKind::Failed);
    add(&store, Role::Full, 3);
    assert_eq!(kind_of(remove(&store, slot)), ErrorKind::Failed);
    let report = keys::remove(&full, slot, &forced, &Silent).unwrap();
    assert!(report.knew_root && report.revoked == Some(full.keyring().writer));
    assert_eq!(kind_of(try_open(&store, ADMIN)), ErrorKind::WrongKey);
    assert!(try_open(&store, 3).is_ok());
}
