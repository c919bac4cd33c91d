//! Files and directories as streams.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, SystemTime};

use esker::backup::{BackupOptions, backup};
use esker::progress::Silent;
use esker::repository::ErrorKind;
use esker::restore::dump;
use esker::store::{Counting, Decision, Faulty, OperationKind};
use rustix::fs::{XattrFlags, setxattr};

use super::support::{options, settle};
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

/// A file whose blocks four workers filled side by side, so that it goes to and fro
/// between them: each shrinks to half.
fn filled_side_by_side(fixture: &Fixture) -> Vec<u8> {
    let half: Vec<u8> = random_bytes(5, 40 << 20).iter().map(|byte| byte & 15).collect();
    fs::write(fixture.source().join("half"), &half).unwrap();
    settle();
    let options = BackupOptions { read_concurrency: 4, ..options(&fixture.source()) };
    backup(&fixture.open(), &options, Vec::new(), &Silent).unwrap();
    half
}

#[test]
fn blocks_filled_side_by_side_are_read_once() {
    let mut fixture = Fixture::new();
    let half = filled_side_by_side(&fixture);
    let packs = fixture.store.list("packs/").unwrap();
    let stored: u64 = packs.iter().map(|pack| pack.length).sum();
    assert!(stored < 24 << 20, "{stored} bytes stored");
    let counting = Arc::new(Counting::new(fixture.store.clone()));
    fixture.store = counting.clone();
    assert!(dumped(&fixture, "half") == half);
    let read = counting.count(OperationKind::GetRange, "packs");
    assert!(read.bytes < stored + stored / 8, "{read:?} of {stored} bytes stored");
    assert!(read.calls < 60, "{read:?}");
}

/// What comes before is written; nobody asks a store again that does not answer.
#[test]
fn a_store_that_fails_ends_the_stream_where_it_does() {
    let mut fixture = Fixture::new();
    let half = filled_side_by_side(&fixture);
    let fails = Arc::new(AtomicBool::new(false));
    let (asked, refused) = (AtomicU64::new(0), Arc::new(AtomicU64::new(0)));
    let (fails_now, refused_now) = (fails.clone(), refused.clone());
    fixture.store = Arc::new(Faulty::new(fixture.store.clone(), move |operation| {
        let is_data = operation.kind == OperationKind::GetRange && fails_now.load(SeqCst);
        if is_data && asked.fetch_add(1, SeqCst) >= 6 {
            refused_now.fetch_add(1, SeqCst);
            return Decision::FailBefore(esker::store::ErrorKind::Permanent);
        }
        Decision::Pass
    }));
    let repository = fixture.open();
    let newest = fixture.newest(&repository);
    let key = key(&fixture.source().join("half"));
    fails.store(true, SeqCst);
    let mut out = Vec::new();
    let error = dump(&repository, &newest, &key, &mut out, &Silent).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Failed, "{error:?}");
    assert!(out.len() > 1 << 20 && half.starts_with(&out), "{} bytes", out.len());
    assert!(refused.load(SeqCst) < 24, "{refused:?}");
}

struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_output_that_ends_early_ends_the_reading() {
    let mut fixture = Fixture::new();
    let half = filled_side_by_side(&fixture);
    let counting = Arc::new(Counting::new(fixture.store.clone()));
    fixture.store = counting.clone();
    let repository = fixture.open();
    let newest = fixture.newest(&repository);
    let key = key(&fixture.source().join("half"));
    counting.reset();
    dump(&repository, &newest, &key, &mut Full(100), &Silent).unwrap_err();
    let read = counting.count(OperationKind::GetRange, "packs").bytes;
    assert!(read < half.len() as u64 * 3 / 8, "{read} bytes read");
}
