//! A store that lies: swapped, old, self-made and absurd objects.

use esker::crypto::{HybridPrivate, SigningKey, Stretching, keys as derive};
use esker::format::config::Config;
use esker::format::slot::Role;
use esker::format::update::{ConfigUpdate, number_of};
use esker::keys;
use esker::repository::{ErrorKind, NewSlot, Unlock};

use crate::support::*;

const MINE: u8 = 1;
const THEIRS: u8 = 9;

fn only_key(store: &SharedStore, prefix: &str) -> String {
    let keys = keys_of(store, prefix);
    assert_eq!(keys.len(), 1, "{keys:?}");
    keys[0].clone()
}

/// Whatever parts of my repository a store swaps for those of a stranger's, my
/// client either refuses, or still seals to my content key: never to a stranger.
#[test]
fn no_swap_makes_a_client_seal_to_a_stranger() {
    let (mine, theirs) = (init_with(MINE), init_with(THEIRS));
    let content = open(&mine, MINE).keyring().content_public.clone();
    let stranger = open(&theirs, THEIRS).keyring().content_public.clone();
    for swapped in 1..8u8 {
        for keep in [false, true] {
            let store = copy_store(&mine);
            for (bit, prefix) in [(1, "config"), (2, "keys/"), (4, "config-updates/")] {
                if swapped & bit == 0 {
                    continue;
                }
                let key = if bit == 1 { "config".to_owned() } else { only_key(&theirs, prefix) };
                let replaced = if bit == 1 { key.clone() } else { only_key(&mine, prefix) };
                if !keep || bit == 1 {
                    store.delete(&replaced).unwrap();
                }
                store.put(&key, get(&theirs, &key)).unwrap();
            }
            if let Ok(opened) = try_open(&store, MINE) {
                assert!(keep && swapped & 1 == 0, "opened with {swapped:03b} swapped");
                assert!(opened.keyring().content_public == content);
                assert!(opened.keyring().content_public != stranger);
                assert_eq!(opened.update().writers.len(), 1);
            }
        }
    }
}

/// The same when the stranger knows my key file, and has made a whole repository
/// that it opens: my client has seen another one here, and refuses.
#[test]
fn a_strangers_repository_at_the_same_place_is_refused() {
    let (mine, theirs) = (init_with(MINE), init_with(MINE));
    let cache = tempfile::tempdir().unwrap();
    open_cached(&mine, MINE, cache.path()).unwrap();
    assert_eq!(kind_of(open_cached(&theirs, MINE, cache.path())), ErrorKind::NoRepository);
    let empty = memory();
    assert_eq!(kind_of(open_cached(&empty, MINE, cache.path())), ErrorKind::NoRepository);
}

/// An update that somebody else signed, under a fresh name or mine, counts for
/// nothing, whatever number it has.
#[test]
fn updates_signed_by_another_admin_count_for_nothing() {
    let store = init();
    let full = admin(&store);
    add(&store, Role::Write, 2);
    let first = full.load_own_update();
    let stranger = HybridPrivate::random();
    let mut forged = ConfigUpdate { content: stranger.public(), epoch: 7, ..first };
    for number in [2, 3] {
        forged.number = number;
        let key = esker::format::update::new_key(number);
        let bytes = forged.encode(full.id(), &key, &SigningKey::random());
        store.put(&key, bytes.into()).unwrap();
    }
    for opened in [admin(&store), open(&store, 2)] {
        assert!(opened.keyring().content_public == full.keyring().content_public);
        assert_eq!(opened.update().number, 2);
    }
    // put in the place of the genuine one, it leaves a gap or an old state
    let genuine = keys_of(&store, "config-updates/");
    let genuine = genuine.iter().find(|key| number_of(key) == Some(1)).unwrap();
    forged.number = 1;
    forged.previous.clear();
    let bytes = forged.encode(full.id(), genuine, &SigningKey::random());
    replace(&store, genuine, bytes.into());
    assert_eq!(kind_of(try_open(&store, 2)), ErrorKind::Damage);
}

/// Helper view of a repository's own update, to forge from.
trait OwnUpdate {
    fn load_own_update(&self) -> ConfigUpdate;
}

impl OwnUpdate for esker::repository::Repository {
    fn load_own_update(&self) -> ConfigUpdate {
        let mut update = self.update().clone();
        update.previous = vec![esker::id::ObjectHash([0; 32])];
        update
    }
}

/// A slot that the store made itself is never granted an epoch, is told of by
/// `key list`, and opens for nobody.
#[test]
fn a_slot_made_by_the_store_alone_gets_nothing() {
    let store = init();
    let full = admin(&store);
    add(&store, Role::Read, 2);
    let genuine = keys_of(&store, "keys/");
    let (mut slot, _) = genuine
        .iter()
        .map(|key| get(&store, key))
        .map(|bytes| esker::format::slot::Slot::parse(&bytes).map(|(slot, _)| (slot, ())))
        .find_map(|slot| slot.ok().filter(|(slot, _)| slot.role == Role::Read))
        .unwrap();
    let thief = HybridPrivate::random();
    slot.id = esker::id::SlotId::random();
    slot.recipient = thief.public();
    let bytes = slot.encode(full.id(), &SigningKey::random());
    store.put(&esker::format::slot::slot_key(slot.id), bytes.into()).unwrap();
    let report = keys::rotate(&full).unwrap();
    assert_eq!(report.granted, 1);
    let (listed, troubles) = keys::list(&admin(&store)).unwrap();
    assert_eq!((listed.len(), troubles.len()), (2, 1));
    let granted = admin(&store).update().clone();
    assert_eq!(granted.epoch, 2);
    for key in keys_of(&store, "config-updates/") {
        let bytes = get(&store, &key);
        let update = ConfigUpdate::parse(&bytes, full.id(), &key, &full.keyring().admin).unwrap();
        assert!(update.grants.iter().all(|(to, _)| *to != slot.id));
    }
}

/// Password stretching that would take hours or all memory is refused before it
/// is begun, with a sentence.
#[test]
fn absurd_password_stretching_is_refused() {
    let store = init();
    let full = admin(&store);
    for absurd in [
        Stretching { memory_kib: u32::MAX, ..quick() },
        Stretching { memory_kib: 1024 * 1024 + 1, ..quick() },
        Stretching { passes: 17, ..quick() },
        Stretching { lanes: 65, ..quick() },
        Stretching { memory_kib: 0, passes: 0, lanes: 0 },
    ] {
        let bytes = get(&store, "config");
        let (genuine, _) = Config::parse(&bytes).unwrap();
        let forged = Config { stretching: absurd, ..genuine };
        let store = copy_store(&store);
        replace(&store, "config", forged.encode(&SigningKey::random()).into());
        let unlock = Unlock::Password(zeroize::Zeroizing::new(b"any".to_vec()));
        let opened = esker::repository::Repository::open(
            store.clone(),
            &unlock,
            &esker::repository::local::CacheRoot::None,
        );
        let error = opened.err().unwrap();
        assert!(error.message.contains("stretching"), "{error}");
        // a key file is not stretched, and finds the config not to be the admin's
        assert_eq!(kind_of(try_open(&store, ADMIN)), ErrorKind::Damage);
    }
    assert!(
        derive::admin(full.keyring().secrets().root.as_ref().unwrap()).verify_key()
            == full.keyring().admin
    );
}

/// An old state of the store is refused by a machine that has seen a newer one.
#[test]
fn an_old_state_is_noticed() {
    let store = init();
    let cache = tempfile::tempdir().unwrap();
    let old = copy_store(&store);
    let full = open_cached(&store, ADMIN, cache.path()).unwrap();
    add(&store, Role::Read, 2);
    open_cached(&store, ADMIN, cache.path()).unwrap();
    let error = open_cached(&old, ADMIN, cache.path()).err().unwrap();
    assert_eq!(error.kind, ErrorKind::Damage);
    assert!(error.message.contains("old state"), "{error}");
    // a gap in the middle, too, on a machine that has seen nothing
    keys::rotate(&full).unwrap();
    let middle = keys_of(&store, "config-updates/");
    store.delete(middle.iter().find(|key| number_of(key) == Some(2)).unwrap()).unwrap();
    assert_eq!(kind_of(try_open(&store, ADMIN)), ErrorKind::Damage);
}

/// Of two updates with the highest number a store cannot hide one, from whoever
/// has seen both.
#[test]
fn a_hidden_sibling_is_noticed() {
    let store = init();
    let added = add(&store, Role::Write, 2);
    let before = keys_of(&store, "");
    let one = copy_store(&store);
    let remove = |store: &SharedStore| {
        keys::remove(&admin(store), added.slot, &Default::default(), &esker::progress::Silent)
            .unwrap()
    };
    remove(&store);
    add(&one, Role::Read, 3);
    for key in new_since(&one, &before) {
        store.put(&key, get(&one, &key)).unwrap();
    }
    let cache = tempfile::tempdir().unwrap();
    let both = open_cached(&store, ADMIN, cache.path()).unwrap();
    assert!(both.update().revocation(added.writer).is_some());
    assert_eq!(both.update().writers.len(), 3);
    // the store shows only the one that does not revoke
    let error = open_cached(&one, ADMIN, cache.path()).err().unwrap();
    assert_eq!(error.kind, ErrorKind::Damage);
}

/// What an `init` left that crashed before its config locks nobody out.
#[test]
fn leftovers_of_another_init_lock_nobody_out() {
    let crashed = init_with(THEIRS);
    crashed.delete("config").unwrap();
    init_in(&crashed, NewSlot::KeyFile(key(MINE))).unwrap();
    let opened = open(&crashed, MINE);
    assert_eq!(opened.update().writers.len(), 1);
    assert!(try_open(&crashed, THEIRS).is_err());
    keys::add(&opened, &options(Role::Read, 3)).unwrap();
    keys::rotate(&opened).unwrap();
    assert_eq!(open(&crashed, 3).keyring().epoch, 2);
}
