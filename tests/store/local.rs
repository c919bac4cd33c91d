//! What only a directory can do: be absent, be full, hold strange files, be left behind by a crash.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use bytes::Bytes;
use esker::store::{ErrorKind, LocalStore, RESERVE_BYTES, Store};

use crate::conformance::{check_kind, put};
use crate::mounts::Mount;

fn store() -> (tempfile::TempDir, LocalStore) {
    let directory = tempfile::tempdir().expect("tempdir");
    let store = LocalStore::create(directory.path()).expect("create");
    (directory, store)
}

fn temporary_files(store: &LocalStore) -> usize {
    let path = store.local_path().expect("local").join("tmp");
    fs::read_dir(path).map_or(0, |entries| entries.count())
}

#[test]
fn open_makes_nothing_and_create_takes_only_what_is_empty() {
    let directory = tempfile::tempdir().expect("tempdir");
    let path = directory.path().join("disk/repository");
    check_kind(LocalStore::open(&path), ErrorKind::NotFound);
    check_kind(LocalStore::create(&path), ErrorKind::NotFound);
    assert!(!directory.path().join("disk").exists());

    fs::create_dir_all(path.join("lost+found")).expect("mkdir");
    LocalStore::create(&path).expect("empty but for lost+found");
    fs::write(path.join("letter.txt"), "dear").expect("write");
    check_kind(LocalStore::create(&path), ErrorKind::Exists);
    LocalStore::open(&path).expect("open");
    check_kind(LocalStore::create(&path.join("letter.txt")), ErrorKind::Permanent);
}

#[test]
fn only_its_owner_can_read_it() {
    let parent = tempfile::tempdir().expect("tempdir");
    let path = parent.path().join("repository");
    let store = LocalStore::create(&path).expect("create");
    put(&store, "packs/ab/cd", "x").expect("put");
    let mode =
        |name: &str| fs::metadata(path.join(name)).expect("stat").permissions().mode() & 0o777;
    for directory in ["", "packs", "packs/ab", "tmp"] {
        assert_eq!(mode(directory), 0o700, "{directory}");
    }
    assert_eq!(mode("packs/ab/cd"), 0o600);
}

/// A crash between writing and renaming leaves a file in `tmp/`, never one under a valid key; it is cleaned when its
/// process is known to be gone.
#[test]
fn a_crash_before_the_rename_leaves_nothing_under_a_key() {
    let (directory, store) = store();
    put(&store, "config", "x").expect("put");
    assert_eq!(temporary_files(&store), 0);

    let left_behind = name_of_a_dead_process(directory.path());
    fs::write(directory.path().join("tmp").join(&left_behind), "half an obj").expect("write");
    fs::write(directory.path().join("tmp/notes.txt"), "whose is this").expect("write");
    assert_eq!(store.list("").expect("list").len(), 1);
    put(&store, "packs/00/11", "whole object").expect("put");

    assert_eq!(store.clean_temporary().expect("clean"), 1);
    assert_eq!(store.clean_temporary().expect("clean"), 0);
    assert!(directory.path().join("tmp/notes.txt").exists());
}

/// The name is seen on a put that cannot finish, and its process number replaced by that of a process that ended.
fn name_of_a_dead_process(directory: &std::path::Path) -> String {
    let mut child = Command::new("true").spawn().expect("spawn");
    let dead = child.id();
    child.wait().expect("wait");
    let seen = std::sync::OnceLock::new();
    std::thread::scope(|scope| {
        let putting = scope.spawn(|| {
            let store = LocalStore::open(directory).expect("open");
            store.put("slow", Bytes::from(vec![7; 48 << 20])).expect("put");
        });
        while !putting.is_finished() {
            let first = fs::read_dir(directory.join("tmp"))
                .ok()
                .and_then(|mut entries| entries.next()?.ok());
            if let Some(entry) = first {
                let _ = seen.set(entry.file_name().into_string().expect("name"));
            }
        }
    });
    LocalStore::open(directory).expect("open").delete("slow").expect("delete");
    let seen = seen.into_inner().expect("a 48 MiB put is seen at work");
    seen.replace(&format!("-{}-", std::process::id()), &format!("-{dead}-"))
}

#[test]
fn strange_files_are_no_objects() {
    let (directory, store) = store();
    let path = |name: &str| directory.path().join(name);
    put(&store, "packs/ab/1", "x").expect("put");
    store.create_reserve(4096).expect("reserve");
    fs::write(path("packs/.DS Store"), "x").expect("write");
    fs::write(path("README"), "x").expect("write");
    fs::create_dir_all(path("packs/empty/below")).expect("mkdir");
    std::os::unix::fs::symlink("nowhere", path("packs/dangling")).expect("symlink");
    assert!(Command::new("mkfifo").arg(path("packs/pipe")).status().expect("mkfifo").success());

    let keys: Vec<_> = store.list("").expect("list").into_iter().map(|object| object.key).collect();
    assert_eq!(keys, ["packs/ab/1"]);
    check_kind(store.get("packs/pipe", 9), ErrorKind::Permanent);
    check_kind(put(&store, "packs/empty", "a directory is in the way"), ErrorKind::Exists);
    check_kind(put(&store, "packs/ab/1/2", "a file is in the way"), ErrorKind::Permanent);
    assert_eq!(temporary_files(&store), 0);

    std::os::unix::fs::symlink(".", path("packs/loop")).expect("symlink");
    check_kind(store.list("packs/"), ErrorKind::Permanent);
}

#[test]
fn empty_directories_go_but_first_level_stays() {
    let (directory, store) = store();
    put(&store, "sessions/ab/1", "x").expect("put");
    put(&store, "sessions/ab/2", "x").expect("put");
    store.delete("sessions/ab/1").expect("delete");
    assert!(directory.path().join("sessions/ab").exists());
    store.delete("sessions/ab/2").expect("delete");
    assert!(!directory.path().join("sessions/ab").exists());
    assert!(directory.path().join("sessions").exists());
}

#[test]
fn the_reserve_takes_real_space_and_gives_it_back() {
    use std::os::unix::fs::MetadataExt;
    let (directory, store) = store();
    assert!(!store.release_reserve().expect("release"));
    store.create_reserve(1 << 20).expect("create");
    store.create_reserve(1 << 20).expect("create again");
    let reserve = fs::metadata(directory.path().join("reserve")).expect("stat");
    assert!(reserve.len() == 1 << 20 && reserve.blocks() * 512 >= 1 << 20);
    assert!(store.release_reserve().expect("release"));
    assert!(!store.release_reserve().expect("release"));
    assert!(store.restore_reserve().expect("restore"));
    assert_eq!(fs::metadata(directory.path().join("reserve")).expect("stat").len(), RESERVE_BYTES);
}

/// Full: the put says so, leaves nothing, hurts nothing; the reserve makes room for what a prune has to put.
#[test]
fn a_full_disk_can_be_emptied() {
    let Some(mount) = Mount::tmpfs("size=4m") else {
        println!("not run: mounting tmpfs is not permitted here");
        return;
    };
    let store = LocalStore::create(&mount.path()).expect("create");
    store.create_reserve(1 << 20).expect("reserve");
    put(&store, "packs/00/first", vec![1; 1 << 20]).expect("put");
    let mut filled = 0;
    while put(&store, &format!("packs/00/{filled}"), vec![2; 64 << 10]).is_ok() {
        filled += 1;
    }
    check_kind(put(&store, "packs/00/large", vec![3; 2 << 20]), ErrorKind::Full);
    check_kind(store.get("packs/00/large", 9), ErrorKind::NotFound);
    assert_eq!(temporary_files(&store), 0);
    assert_eq!(store.get("packs/00/first", 1 << 20).expect("get"), vec![1; 1 << 20]);
    assert_eq!(store.list("packs/").expect("list").len(), filled + 1);

    check_kind(put(&store, "sweeps/plan", vec![4; 512 << 10]), ErrorKind::Full);
    assert!(store.restore_reserve().expect("the one that is there"));
    assert!(store.release_reserve().expect("release"));
    put(&store, "sweeps/plan", vec![4; 512 << 10]).expect("room for the plan");
    assert!(!store.restore_reserve().expect("no room for 8 MiB is no error"));
    assert!(!mount.path().join("reserve").exists());
    store.delete("packs/00/first").expect("delete");
    store.create_reserve(1 << 20).expect("room for the reserve");
}

#[test]
fn no_inodes_left_is_full_too() {
    let Some(mount) = Mount::tmpfs("size=4m,nr_inodes=20") else {
        println!("not run: mounting tmpfs is not permitted here");
        return;
    };
    let store = LocalStore::create(&mount.path()).expect("create");
    let failed = (0..40).map(|n| put(&store, &format!("packs/{n}"), "x")).find(Result::is_err);
    check_kind(failed.expect("no inodes"), ErrorKind::Full);
    assert_eq!(temporary_files(&store), 0);
}
