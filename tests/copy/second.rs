//! What one repository lost is taken from the other, and only that.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use esker::format::entry::key_of_path;
use esker::id::SnapshotId;
use esker::progress::Silent;
use esker::repository::Repository;
use esker::restore::{
    Overwrite, RestoreOptions, RestoreReport, counterpart, restore, restore_with_second,
};
use esker::store::{Counting, OperationKind, Store};

use crate::support::{self, on_disk, settle};
use crate::world::{World, init_there, memory, noise, open_there, snapshot};

fn options(world: &World, target: &Path) -> RestoreOptions {
    RestoreOptions {
        target: target.to_owned(),
        path: Some(key_of_path(world.tree().as_os_str().as_bytes())),
        ..RestoreOptions::default()
    }
}

fn with_second(
    (first, id): (&Repository, SnapshotId),
    second: &Repository,
    options: &RestoreOptions,
) -> RestoreReport {
    let lost = snapshot(first, id);
    let (snapshots, _) = second.snapshots().unwrap();
    let same = counterpart(first, &lost, second, &snapshots).expect("a counterpart");
    restore_with_second((first, &lost), (second, same), options, &Silent).unwrap()
}

/// All files are there, each as it was.
fn assert_restored(world: &World, target: &Path) {
    let strip = |top: &Path| {
        let files = on_disk(top).into_iter();
        files
            .map(|(path, bytes)| (path[top.as_os_str().len()..].to_vec(), bytes))
            .collect::<Vec<_>>()
    };
    assert_eq!(strip(&world.tree()), strip(target));
}

/// A file of its own pack, which the source loses after it was copied.
fn lossy() -> (World, SnapshotId, SnapshotId) {
    let world = World::new();
    world.save();
    let before = world.source.list("packs/").unwrap();
    fs::write(world.tree().join("victim"), noise(40, 2 << 20)).unwrap();
    settle();
    let original = world.save();
    let copied = world.copy().copied.into_iter().find(|copied| copied.from == original).unwrap();
    let new = world.source.list("packs/").unwrap().into_iter();
    let longest = new.filter(|pack| !before.contains(pack)).max_by_key(|pack| pack.length);
    world.source.delete(&longest.unwrap().key).unwrap();
    (world, original, copied.id)
}

#[test]
fn a_lost_file_comes_from_the_copy() {
    let (world, original, _) = lossy();
    let out = world.directory.path().join("out");
    let alone = restore(
        &world.here(),
        &snapshot(&world.here(), original),
        &options(&world, &world.directory.path().join("alone")),
        &Silent,
    );
    assert_eq!(alone.unwrap().damaged_count, 1);
    let counting = Arc::new(Counting::new(world.destination.clone()));
    let store: Arc<dyn Store> = counting.clone();
    let report =
        with_second((&world.here(), original), &open_there(&store), &options(&world, &out));
    assert_eq!((report.damaged_count, report.failures_count), (0, 0));
    assert_eq!(report.from_second, 1);
    assert_eq!(report.files_unchanged, 0);
    assert_eq!(report.files_written + report.hard_links, on_disk(&out).len() as u64 - 1);
    assert_restored(&world, &out);
    let got = counting.count(OperationKind::GetRange, "packs").bytes;
    assert!(got < 4 << 20, "{got} bytes for a file of two MiB");
}

/// The other way round: the copy is restored, and its original helps.
#[test]
fn what_a_copy_lost_comes_from_the_original() {
    let world = World::new();
    let original = world.save();
    let copied = world.copy().copied.remove(0);
    for pack in world.destination.list("packs/").unwrap() {
        world.destination.delete(&pack.key).unwrap();
    }
    let out = world.directory.path().join("out");
    let report = with_second((&world.there(), copied.id), &world.here(), &options(&world, &out));
    assert_eq!((report.damaged_count, report.failures_count), (0, 0));
    assert_restored(&world, &out);
    assert!(report.from_second > 60);
    assert!(snapshot(&world.here(), original).is_good());
}

#[test]
fn existing_files_are_compared_with_both() {
    let (world, original, _) = lossy();
    let out = world.directory.path().join("out");
    fs::create_dir(&out).unwrap();
    // of the right length, and wrong
    fs::write(out.join("victim"), noise(41, 2 << 20)).unwrap();
    fs::write(out.join("long"), fs::read(world.tree().join("long")).unwrap()).unwrap();
    let options = RestoreOptions { overwrite: Overwrite::Always, ..options(&world, &out) };
    let report = with_second((&world.here(), original), &world.there(), &options);
    assert_eq!((report.damaged_count, report.failures_count), (0, 0));
    let marked = out.join("victim.esker-damaged");
    if marked.exists() {
        fs::remove_file(marked).unwrap();
    }
    assert_restored(&world, &out);
}

#[test]
fn a_third_repository_is_no_counterpart_unless_it_has_the_snapshot() {
    let (world, original, copied) = lossy();
    let third = memory();
    init_there(&third);
    let (here, there) = (world.here(), world.there());
    let lost = snapshot(&here, original);
    let find = |second: &Repository| {
        let (snapshots, _) = second.snapshots().unwrap();
        counterpart(&here, &lost, second, &snapshots).map(|snapshot| snapshot.id)
    };
    assert_eq!(find(&there), Some(copied));
    assert_eq!(find(&open_there(&third)), None);
    // a copy of the copy says of which snapshot it is one
    let report =
        esker::copy::copy(&there, &open_there(&third), &crate::world::options(), &Silent).unwrap();
    let twice = report.copied.iter().find(|on| on.from == copied).unwrap();
    let third = open_there(&third);
    let (snapshots, _) = third.snapshots().unwrap();
    let copy = snapshot(&there, copied);
    let found = counterpart(&there, &copy, &third, &snapshots).unwrap();
    assert_eq!(found.id, twice.id);
    support::contents(&third, found.id);
}
