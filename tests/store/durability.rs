//! Power loss, for real: the file system is shut down under the store, and only what it had made durable is there
//! when it is mounted again (`xfs_io -x -c shutdown`).

use bytes::Bytes;
use esker::store::{LocalStore, Store};

use crate::mounts::{Mount, run, text};

const OBJECTS: usize = 50;

/// What never reached the disk is lost, metadata included.
#[test]
fn acknowledged_puts_survive_power_loss_on_ext4() {
    check("ext4", "shutdown");
}

/// The metadata journal is written, file contents are not: what is renamed without a sync is there with 0 bytes.
#[test]
fn acknowledged_puts_survive_power_loss_on_ext4_with_its_journal_flushed() {
    check("ext4", "shutdown -f");
}

#[test]
fn acknowledged_puts_survive_power_loss_on_xfs() {
    check("xfs", "shutdown");
    check("xfs", "shutdown -f");
}

fn key(n: usize) -> String {
    let first_level = ["packs", "index", "snapshots", "sessions"][n % 4];
    format!("{first_level}/{:02x}/{n}", n % 5)
}

fn object(n: usize) -> Bytes {
    let mut bytes = vec![0; 1 + n * 5_000];
    blake3::Hasher::new().update(&n.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes.into()
}

fn check(file_system: &str, shutdown: &str) {
    if !run("xfs_io", &["-V"]) {
        println!("not run: xfs_io is not installed (package xfsprogs)");
        return;
    }
    let Some(mount) = Mount::image(file_system) else {
        println!("not run: an image with {file_system} cannot be made and mounted here");
        return;
    };
    put_and_delete(&mount);
    assert!(
        run("xfs_io", &["-x", "-c", shutdown, text(&mount.path())]),
        "{file_system}: {shutdown}"
    );
    let mount = mount.remount().expect("mount again");
    check_what_is_left(&mount);
}

/// Acknowledged puts and deletes, and last a file that nobody synced: without it the test would not prove that
/// anything can be lost.
fn put_and_delete(mount: &Mount) {
    let store = LocalStore::create(&mount.path().join("repository")).expect("create");
    for n in 0..OBJECTS {
        store.put(&key(n), object(n)).expect("put");
    }
    for n in (0..OBJECTS).step_by(10) {
        store.delete(&key(n)).expect("delete");
    }
    std::fs::write(mount.path().join("repository/index/unsynced"), "lost").expect("write");
}

fn check_what_is_left(mount: &Mount) {
    let store = LocalStore::open(&mount.path().join("repository")).expect("open");
    let mut listed = store.list("").expect("list");
    listed.retain(|object| object.key != "index/unsynced");
    let kept: Vec<usize> = (0..OBJECTS).filter(|n| n % 10 != 0).collect();
    let mut expected: Vec<(String, u64)> =
        kept.iter().map(|n| (key(*n), object(*n).len() as u64)).collect();
    expected.sort_unstable();
    let listed: Vec<(String, u64)> =
        listed.into_iter().map(|object| (object.key, object.length)).collect();
    assert_eq!(listed, expected, "exactly the acknowledged objects, at their full length");
    for n in kept {
        assert!(store.get(&key(n), u64::MAX).expect("get") == object(n), "{}", key(n));
    }
    let unsynced =
        std::fs::read(mount.path().join("repository/index/unsynced")).unwrap_or_default();
    assert_eq!(unsynced, b"", "a shutdown that loses nothing proves nothing");
}
