//! Files and directories as streams.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use esker::progress::Silent;
use esker::restore::dump;
use esker::store::{Counting, OperationKind};
use rustix::fs::{XattrFlags, setxattr};

use super::{Fixture, check, is_root, key, random_bytes};

fn dumped(fixture: &Fixture, name: &str) -> Vec<u8> {
    let repository = fixture.open();
    let mut out = Vec::new();
    let key = key(&fixture.source().join(name));
    dump(&repository, &fixture.newest(&repository), &key, &mut out, &Silent).unwrap();
    out
}

#[test]
fn a_file_is_its_bytes() {
    let fixture = Fixture::new();
    let mut long = random_bytes(1, 30 << 20);
    long[5 << 20..9 << 20].fill(0);
    let repeated = random_bytes(2, 1 << 20).repeat(8);
    let files = [("long", long), ("repeated", repeated), ("empty", vec![]), ("s", b"s".to_vec())];
    for (name, bytes) in &files {
        fs::write(fixture.source().join(name), bytes).unwrap();
    }
    fixture.save();
    for (name, bytes) in &files {
        assert!(dumped(&fixture, name) == *bytes, "{name}");
    }
}

#[test]
fn a_directory_is_an_archive_that_tar_extracts() {
    let fixture = Fixture::new();
    let top = fixture.source();
    let long_name = "directory ".repeat(20);
    fs::create_dir_all(top.join(&long_name).join("ü")).unwrap();
    fs::write(top.join(&long_name).join("ü/file"), random_bytes(1, 3 << 20)).unwrap();
    for number in 0..200 {
        fs::write(top.join(format!("n{number}")), random_bytes(number, 700)).unwrap();
    }
    fs::hard_link(top.join("n1"), top.join(&long_name).join("n1 again")).unwrap();
    symlink("x".repeat(150), top.join("link")).unwrap();
    let sparse = fs::File::create(top.join("sparse")).unwrap();
    sparse.set_len(1 << 20).unwrap();
    sparse.write_all_at(b"x", 700_000).unwrap();
    fs::set_permissions(top.join("n2"), fs::Permissions::from_mode(0o600)).unwrap();
    let old = SystemTime::UNIX_EPOCH - Duration::new(5, 250_000_000);
    fs::File::open(top.join("n3")).unwrap().set_modified(old).unwrap();
    let _ = setxattr(top.join("n4"), "user.a=b%", b"1\n2\0", XattrFlags::empty());
    if is_root() {
        std::os::unix::fs::chown(top.join("n5"), Some(3_000_000_000), Some(7)).unwrap();
    }
    fixture.save();
    fs::write(fixture.path("archive"), dumped(&fixture, "")).unwrap();
    let out = fixture.path("out");
    fs::create_dir(&out).unwrap();
    let tar = Command::new("tar")
        .args(["--xattrs", "-p", "-x", "-f"])
        .arg(fixture.path("archive"))
        .arg("-C")
        .arg(&out)
        .output()
        .unwrap();
    let complaints = String::from_utf8_lossy(&tar.stderr);
    assert!(tar.status.success(), "{complaints}");
    // GNU tar remarks that a time is before 1970
    assert!(complaints.lines().all(|line| line.contains("time stamp")), "{complaints}");
    check(&top, &out);
}

/// Neighbours come out of one block, which is read once for all of them and
/// whatever lies between.
#[test]
fn small_files_and_holes_cost_no_request_each() {
    let mut fixture = Fixture::new();
    for number in 0..500 {
        fs::write(fixture.source().join(format!("n{number}")), random_bytes(number, 900)).unwrap();
    }
    let mut holes = random_bytes(77, 4 << 20);
    holes.chunks_mut(64 << 10).for_each(|part| part[..32 << 10].fill(0));
    fs::write(fixture.source().join("holes"), &holes).unwrap();
    fixture.save();
    let counting = Arc::new(Counting::new(fixture.store.clone()));
    fixture.store = counting.clone();
    for (name, length) in [("", 500 * 900 + holes.len()), ("holes", holes.len())] {
        counting.reset();
        assert!(dumped(&fixture, name).len() >= length);
        let reads = counting.count(OperationKind::GetRange, "packs").calls;
        assert!(reads < 24, "{name:?}: {reads} reads");
    }
}
