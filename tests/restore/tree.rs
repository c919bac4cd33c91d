//! Whole trees and parts of them into an empty place.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

use esker::files::Rules;
use esker::progress::Silent;
use esker::repository::ErrorKind;
use esker::restore::{RestoreOptions, RestoreOutcome, restore};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat, setxattr};

use super::{Fixture, check, is_root, key, random_bytes};

/// Every kind of entry a tree can have.
fn rich_tree(fixture: &Fixture) {
    let top = fixture.source();
    fs::create_dir_all(top.join("a/b/empty")).unwrap();
    fs::write(top.join("a/small"), "small").unwrap();
    fs::write(top.join("a/nothing"), "").unwrap();
    fs::write(top.join("a/long"), random_bytes(1, 9 << 20)).unwrap();
    fs::write(top.join("a/copy of long"), random_bytes(1, 9 << 20)).unwrap();
    fs::write(top.join("a/b/zeros"), vec![0; 1 << 20]).unwrap();
    let sparse = fs::File::create(top.join("a/b/sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    sparse.write_all_at(b"island", 32 << 20).unwrap();
    fs::hard_link(top.join("a/long"), top.join("z second name")).unwrap();
    fs::hard_link(top.join("a/long"), top.join("a/b/third name")).unwrap();
    symlink("../nowhere", top.join("a/link")).unwrap();
    let odd = OsStr::from_bytes(b"odd \xff\n name");
    fs::write(top.join(odd), "odd").unwrap();
    for number in 0..300 {
        fs::write(top.join(format!("a/b/n{number}")), random_bytes(number, 40 * number as usize))
            .unwrap();
    }
    mknodat(CWD, top.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    let user = |path: &str, name: &str, value: &[u8]| {
        setxattr(top.join(path), name, value, XattrFlags::empty())
    };
    if user("a/small", "user.note", b"hello").is_ok() {
        user("a", "user.directory", b"").unwrap();
        let _ = user("a/nothing", "user.long", &random_bytes(9, 3000));
    }
    fs::set_permissions(top.join("a/nothing"), fs::Permissions::from_mode(0o4751)).unwrap();
    if is_root() {
        mknodat(
            CWD,
            top.join("device"),
            FileType::CharacterDevice,
            Mode::from_raw_mode(0o600),
            rustix::fs::makedev(1, 3),
        )
        .unwrap();
        std::os::unix::fs::lchown(top.join("a/small"), Some(1234), Some(4321)).unwrap();
        std::os::unix::fs::lchown(top.join("a/link"), Some(1234), Some(4321)).unwrap();
        fs::set_permissions(top.join("a/small"), fs::Permissions::from_mode(0o6755)).unwrap();
        // cap_net_raw=ep, as setcap writes it
        let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        let _ = user("a/b/n7", "security.capability", capability);
    }
    let old = SystemTime::UNIX_EPOCH - Duration::new(5, 250_000_000);
    fs::File::open(top.join("a/small")).unwrap().set_modified(old).unwrap();
    fs::set_permissions(top.join("a/b/empty"), fs::Permissions::from_mode(0o1555)).unwrap();
    fs::set_permissions(top.join("a/b"), fs::Permissions::from_mode(0o555)).unwrap();
    fs::File::open(top.join("a/b")).unwrap().set_modified(old).unwrap();
}

#[test]
fn every_kind_of_entry_comes_back_as_it_was() {
    let fixture = Fixture::new();
    rich_tree(&fixture);
    fixture.save();
    let report = fixture.restore(&fixture.options("out"));
    assert_eq!(report.failures, []);
    assert_eq!(report.outcome(), RestoreOutcome::Complete);
    assert_eq!(report.hard_links, 2);
    check(&fixture.source(), &fixture.path("out"));
    let sparse = fs::metadata(fixture.path("out/a/b/sparse")).unwrap();
    assert!(sparse.blocks() * 512 < 1 << 20, "{} blocks", sparse.blocks());

    // a whole snapshot makes full paths; read back, nothing differs
    let whole =
        RestoreOptions { target: fixture.path("whole"), verify: true, ..Default::default() };
    let report = fixture.restore(&whole);
    assert_eq!(report.failures, []);
    let source = fixture.source();
    check(&source, &fixture.path("whole").join(source.strip_prefix("/").unwrap()));
    // and again: nothing is to be done, also where everything is compared
    let again = fixture.restore(&whole);
    assert_eq!((again.bytes_written, again.files_written, again.files_updated), (0, 0, 0));
    check(&source, &fixture.path("whole").join(source.strip_prefix("/").unwrap()));
}

#[test]
fn parts_are_chosen_by_path_and_patterns() {
    let fixture = Fixture::new();
    let top = fixture.source();
    for name in ["a/x.txt", "a/y.log", "b/c/x.txt", "b/c/deep/z.log"] {
        fs::create_dir_all(top.join(name).parent().unwrap()).unwrap();
        fs::write(top.join(name), name).unwrap();
    }
    fixture.save();
    let rules = |pattern: &str| Some(Rules::new(&[pattern.to_owned()], &[]).unwrap());

    let one = RestoreOptions { path: Some(key(&top.join("b/c/x.txt"))), ..fixture.options("one") };
    assert_eq!(fixture.restore(&one).files_written, 1);
    assert_eq!(fs::read_to_string(fixture.path("one/x.txt")).unwrap(), "b/c/x.txt");

    let logs = RestoreOptions { include: rules("*.log"), ..fixture.options("logs") };
    assert_eq!(fixture.restore(&logs).files_written, 2);
    assert!(fixture.path("logs/b/c/deep/z.log").exists());
    assert!(!fixture.path("logs/a/x.txt").exists());

    let not_c = RestoreOptions { exclude: rules("c/"), ..fixture.options("not c") };
    assert_eq!(fixture.restore(&not_c).files_written, 2);
    assert!(fixture.path("not c/b").exists() && !fixture.path("not c/b/c").exists());

    let none = RestoreOptions { include: rules("*.none"), ..fixture.options("none") };
    let report = fixture.restore(&none);
    assert_eq!(report.outcome(), RestoreOutcome::Nothing);
    assert_eq!(fs::read_dir(fixture.path("none")).unwrap().count(), 0);

    let repository = fixture.open();
    let missing = RestoreOptions { path: Some(key(&top.join("no"))), ..fixture.options("no") };
    let error = restore(&repository, &fixture.newest(&repository), &missing, &Silent).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Failed);
    assert!(!fixture.path("no").exists());
}
