//! Opening what was found, and where sparse files hold data.

use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

use super::{Told, deep_chain};
use crate::files::WalkOptions;
use crate::files::read::{current, data_ranges, open, unchanged};
use crate::files::target::{punch_hole, set_length};

#[test]
fn only_the_file_that_was_found_is_opened() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("file");
    fs::write(&path, "one").unwrap();
    let told = Told::of(std::slice::from_ref(&path), &WalkOptions::default());
    let found = told.get(&path);
    let try_open = || open(&path, found.metadata.inode, found.device_id);
    let file = try_open().unwrap();
    assert!(unchanged(&file, &found.metadata).unwrap());
    fs::write(&path, "other").unwrap();
    assert!(!unchanged(&file, &found.metadata).unwrap());
    assert_eq!(current(file.as_fd()).unwrap().size, 5);
    fs::rename(&path, base.path().join("away")).unwrap();
    symlink("away", &path).unwrap();
    assert!(try_open().is_err());
    fs::remove_file(&path).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR).unwrap();
    assert_eq!(try_open().unwrap_err().kind(), std::io::ErrorKind::StaleNetworkFileHandle);
}

#[test]
fn deeper_than_path_max() {
    let base = tempfile::tempdir().unwrap();
    deep_chain(base.path(), 90);
    let told = Told::of(&[base.path().to_owned()], &WalkOptions::default());
    let found = told.found.last().unwrap();
    let path = Path::new(std::ffi::OsStr::from_bytes(&found.path));
    let mut text = String::new();
    open(path, found.metadata.inode, found.device_id).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "deep");
    crate::files::Target::open(base.path()).unwrap().remove(&[b'd'; 100]).unwrap();
}

#[test]
fn holes() {
    let file = tempfile::tempfile().unwrap();
    assert_eq!(data_ranges(file.as_fd(), 0).unwrap(), []);
    set_length(&file, 10 << 20).unwrap();
    file.write_all_at(&[1; 4096], 1 << 20).unwrap();
    file.write_all_at(&[1; 65536], 5 << 20).unwrap();
    let size = 10 << 20;
    assert_eq!(
        data_ranges(file.as_fd(), size).unwrap(),
        [1 << 20..(1 << 20) + 4096, 5 << 20..(5 << 20) + 65536]
    );
    punch_hole(&file, (5 << 20)..(50 << 20)).unwrap();
    assert_eq!(
        data_ranges(file.as_fd(), size).unwrap(),
        std::slice::from_ref(&(1 << 20..(1 << 20) + 4096))
    );
    assert_eq!(file.metadata().unwrap().len(), size);
}
