//! What each role holds and may do.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use esker::crypto::{HybridPrivate, VerifyKey};
use esker::format::ChunkKind;
use esker::format::slot::Role;
use esker::keys::{self, SheetKey, file};
use esker::repository::local::CacheRoot;
use esker::repository::{ErrorKind, NewSlot, Repository, Unlock};
use esker::store::{Counting, OperationKind};

use crate::support::*;

/// Every role's slot holds what DESIGN §4.1 gives it, and nothing more.
#[test]
fn slots_hold_what_their_role_has() {
    let store = init();
    use ChunkKind::{Data, List, Refs, Tree};
    for (number, role, root, content, ids, chunker, domain) in [
        (2, Role::Full, true, false, vec![], true, Some("default")),
        (3, Role::Write, false, false, vec![Data, List, Tree, Refs], true, None),
        (4, Role::Read, false, true, vec![Data, List, Tree, Refs], false, Some("")),
        (5, Role::Maintain, false, false, vec![Refs], false, Some("")),
        (6, Role::Watch, false, false, vec![Refs], false, Some("")),
    ] {
        let added = add(&store, role, number);
        let opened = open(&store, number);
        let held = opened.keyring().secrets();
        assert_eq!(held.role, role);
        assert_eq!(held.root.is_some(), root, "{role:?}");
        assert_eq!(held.epochs.len(), usize::from(role != Role::Full), "{role:?}");
        assert!(held.epochs.iter().all(|epoch| epoch.content.is_some() == content), "{role:?}");
        assert_eq!(held.chunk_ids.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), ids);
        assert_eq!(held.chunker.is_some(), chunker, "{role:?}");
        assert_eq!(held.domain, added.domain);
        if let Some(domain) = domain {
            assert_eq!(held.domain, domain, "{role:?}");
        }
        let listed = opened.update().writer(held.writer).unwrap();
        assert_eq!((listed.role, &listed.domain), (role, &held.domain));
        assert!(listed.verify == held.signer.verify_key());
    }
    let domains: Vec<_> = [7, 8].map(|n| add(&store, Role::Write, n).domain).into();
    assert!(domains[0] != domains[1] && domains.iter().all(|domain| !domain.is_empty()));
}

/// A write key on a machine that never had another backs up, then backs up what
/// changed, and opens no private part, tree page or data block, its own included.
#[test]
fn write_key_backs_up_and_reads_nothing() {
    let store = init();
    add(&store, Role::Write, 2);
    let (directory, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    tree(directory.path(), &["january", "february", "march"]);
    let writer = open_cached(&store, 2, cache.path()).unwrap();
    let first = try_backup(&writer, directory.path()).unwrap();
    let other = tempfile::tempdir().unwrap();
    tree(directory.path(), &["april"]);
    for cache in [cache.path(), other.path()] {
        let writer = open_cached(&store, 2, cache).unwrap();
        let next = try_backup(&writer, directory.path()).unwrap();
        assert!(next.bytes_put < first.bytes_put / 2, "{} put", next.bytes_put);
    }
    let writer = open_cached(&store, 2, cache.path()).unwrap();
    let id = snapshots(&writer).last().unwrap().id;
    let loot = try_everything(&store, &writer, &keys_of(&store, ""));
    assert!(loot.public > 5 && loot.tried > 10, "{loot:?}");
    assert_eq!(loot.secrets(), 0, "{loot:?}");
    assert_eq!(kind_of(read_all(&writer, id)), ErrorKind::NoRight);
    let all = admin(&store);
    assert!(read_all(&all, id).unwrap() > 4);
    let loot = try_everything(&store, &all, &keys_of(&store, ""));
    assert!(loot.private > 0 && loot.sessions > 0, "the attempt itself works: {loot:?}");
}

/// A read key reads everything and can neither back up nor change keys.
#[test]
fn read_key_reads_and_writes_nothing() {
    let store = init();
    add(&store, Role::Read, 2);
    let directory = tempfile::tempdir().unwrap();
    tree(directory.path(), &["january"]);
    let id = back_up(&admin(&store), directory.path());
    let before = keys_of(&store, "");
    let reader = open(&store, 2);
    assert!(read_all(&reader, id).unwrap() > 2);
    assert_eq!(kind_of(try_backup(&reader, directory.path())), ErrorKind::NoRight);
    assert_eq!(keys_of(&store, ""), before);
}

/// Maintain and watch keys list snapshots and open no name and no data.
#[test]
fn maintain_and_watch_open_no_names() {
    let store = init();
    let directory = tempfile::tempdir().unwrap();
    tree(directory.path(), &["january"]);
    let id = back_up(&admin(&store), directory.path());
    for (number, role) in [(2, Role::Maintain), (3, Role::Watch)] {
        add(&store, role, number);
        let opened = open(&store, number);
        assert_eq!(snapshots(&opened).len(), 1);
        assert_eq!(kind_of(read_all(&opened, id)), ErrorKind::NoRight);
        assert_eq!(kind_of(try_backup(&opened, directory.path())), ErrorKind::NoRight);
        let loot = try_everything(&store, &opened, &keys_of(&store, ""));
        assert!(loot.public > 0 && loot.tried > 2, "{loot:?}");
        assert_eq!(loot.secrets(), 0, "{role:?}: {loot:?}");
    }
}

/// Only a full key changes keys; every other role is told so, and puts nothing.
#[test]
fn only_a_full_key_changes_keys() {
    let store = init();
    let slot = admin(&store).keyring().slot;
    for (number, role) in (2..).zip([Role::Write, Role::Read, Role::Maintain, Role::Watch]) {
        add(&store, role, number);
        let opened = open(&store, number);
        let before = keys_of(&store, "");
        assert_eq!(kind_of(keys::add(&opened, &options(Role::Read, 99))), ErrorKind::NoRight);
        assert_eq!(kind_of(keys::rotate(&opened)), ErrorKind::NoRight);
        let removed = keys::remove(&opened, slot, &Default::default(), &esker::progress::Silent);
        assert_eq!(kind_of(removed), ErrorKind::NoRight);
        assert_eq!(keys_of(&store, ""), before);
    }
}

/// What opens no slot is a wrong key, whatever kind it is of.
#[test]
fn wrong_password_and_key_are_wrong() {
    let store = memory();
    let password = |text: &str| zeroize::Zeroizing::new(text.as_bytes().to_vec());
    init_in(&store, NewSlot::Password(password("right"))).unwrap();
    let open = |unlock: Unlock| Repository::open(store.clone(), &unlock, &CacheRoot::None);
    let right = open(Unlock::Password(password("right"))).unwrap();
    for wrong in [
        Unlock::Password(password("wrong")),
        Unlock::Password(password("")),
        Unlock::KeyFile(key(1)),
        Unlock::Identity { key: HybridPrivate::random(), admin: right.keyring().admin },
    ] {
        assert_eq!(kind_of(open(wrong)), ErrorKind::WrongKey);
    }
}

/// A recipient's slot opens with its private key and the pinned admin key, and
/// not with another admin key pinned: anybody can seal to a public key.
#[test]
fn recipient_opens_only_with_the_admin_it_pinned() {
    let store = init();
    let full = admin(&store);
    let private = HybridPrivate::random();
    let recipient = file::parse_recipient(&file::recipient_text(&private.public())).unwrap();
    let slot = NewSlot::Recipient(recipient);
    keys::add(&full, &keys::AddOptions { slot, ..options(Role::Read, 2) }).unwrap();
    let open = |admin: VerifyKey| {
        let unlock = file::parse_unlock(&file::identity_text(&private, &admin)).unwrap();
        Repository::open(store.clone(), &unlock, &CacheRoot::None)
    };
    assert_eq!(open(full.keyring().admin).unwrap().keyring().role, Role::Read);
    let stranger = esker::crypto::SigningKey::random().verify_key();
    assert_eq!(kind_of(open(stranger)), ErrorKind::WrongKey);
}

/// A new password is a new slot of the same writer: taking the old one away
/// revokes nobody, and snapshots go on under the same writer.
#[test]
fn new_password_keeps_the_writer() {
    let store = init();
    let directory = tempfile::tempdir().unwrap();
    tree(directory.path(), &["january"]);
    let old = admin(&store);
    let before = back_up(&old, directory.path());
    let same = keys::AddOptions { same_writer: true, ..options(Role::Full, 2) };
    let added = keys::add(&old, &same).unwrap();
    assert_eq!((added.writer, added.update), (old.keyring().writer, None));
    let new = open(&store, 2);
    let removed =
        keys::remove(&new, old.keyring().slot, &Default::default(), &esker::progress::Silent);
    assert_eq!(removed.unwrap().revoked, None);
    assert_eq!(kind_of(try_open(&store, ADMIN)), ErrorKind::WrongKey);
    let after = back_up(&open(&store, 2), directory.path());
    let writers: Vec<_> = snapshots(&new).iter().map(|s| (s.id, s.manifest.writer)).collect();
    assert_eq!(writers, [(before, added.writer), (after, added.writer)]);
    let for_another = keys::AddOptions { same_writer: true, ..options(Role::Read, 3) };
    assert_eq!(kind_of(keys::add(&new, &for_another)), ErrorKind::Usage);
}

/// `key list` shows role, label, maker and last use, with any role.
#[test]
fn list_shows_who_used_which_key() {
    let store = init();
    let added = add(&store, Role::Write, 2);
    add(&store, Role::Watch, 3);
    let directory = tempfile::tempdir().unwrap();
    tree(directory.path(), &["january"]);
    back_up(&open(&store, 2), directory.path());
    let (keys, troubles) = keys::list(&open(&store, 3)).unwrap();
    assert!(troubles.is_empty(), "{troubles:?}");
    let shown: Vec<_> =
        keys.iter().map(|k| (k.role, k.label.as_str(), k.created_by.as_str())).collect();
    assert_eq!(
        shown,
        [
            (Role::Full, "anna", "anna"),
            (Role::Write, "write 2", "anna"),
            (Role::Watch, "watch 3", "anna")
        ]
    );
    assert_eq!(keys[1].slot, Some(added.slot));
    assert_eq!(keys[1].domain, added.domain);
    assert_eq!(keys[1].last_used.as_ref().unwrap().1, "lighthouse");
    assert!(keys[0].last_used.is_none() && keys[2].in_use && !keys[1].in_use);
    let found = keys::find(&open(&store, 3), &added.slot.to_hex()[..6]).unwrap();
    assert_eq!(found, added.slot);
    assert_eq!(keys::find(&open(&store, 3), "write 2").unwrap(), added.slot);
    assert_eq!(kind_of(keys::find(&open(&store, 3), "bert")), ErrorKind::Usage);
}

/// A recovery sheet holds a key that restores, and says where and how.
#[test]
fn recovery_sheet_is_enough() {
    let store = init();
    add(&store, Role::Write, 2);
    let full = admin(&store);
    let sheet = keys::export(&full, &SheetKey::KeyFile(key(ADMIN)), "s3://bucket/a").unwrap();
    let line = sheet.text.lines().find(|line| line.contains("ESKER-KEY-1")).unwrap();
    let from_paper = file::parse_key(line.trim_start_matches("key").trim()).unwrap();
    assert!(from_paper == key(ADMIN));
    for needed in ["s3://bucket/a", &full.id().to_hex(), "snapshots", "restore latest"] {
        assert!(sheet.text.contains(needed), "{needed}");
    }
    assert!(sheet.payload.contains("ESKER-KEY-1") && sheet.qr.lines().count() > 20);
    let place = SheetKey::KeptAt("the safe".into());
    assert!(keys::export(&full, &place, "/a").unwrap().payload.contains("the safe"));
    // a key that opens nothing, or cannot restore, must not end up in a safe
    let wrong = keys::export(&full, &SheetKey::KeyFile(key(9)), "/a");
    assert_eq!(kind_of(wrong), ErrorKind::WrongKey);
    let weak = keys::export(&full, &SheetKey::KeyFile(key(2)), "/a");
    assert_eq!(kind_of(weak), ErrorKind::NoRight);
    assert_eq!(kind_of(keys::export(&open(&store, 2), &place, "/a")), ErrorKind::NoRight);
}

/// A key file is for its owner only, and is never written over another.
#[test]
fn key_files_are_private_and_not_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    file::write_new(&path, &file::key_text(&key(1))).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(file::write_new(&path, &file::key_text(&key(2))).is_err());
    assert!(file::parse_key(&fs::read_to_string(&path).unwrap()).unwrap() == key(1));
}

/// A listing of keys
/// puts nothing.
#[test]
fn list_puts_nothing() {
    let store = init();
    let counting = std::sync::Arc::new(Counting::new(store.clone()));
    let shared: SharedStore = counting.clone();
    keys::list(&admin(&shared)).unwrap();
    assert_eq!(counting.total(OperationKind::Put).calls, 0);
}
