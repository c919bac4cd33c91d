//! Into trees that are there already.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::time::{Duration, SystemTime};

use esker::files::Rules;
use esker::progress::Silent;
use esker::repository::ErrorKind;
use esker::restore::{Overwrite, RestoreOptions, RestoreOutcome, plan_delete, restore};

use super::{Fixture, Listener, check, check_below, random_bytes};

fn saved() -> Fixture {
    let fixture = Fixture::new();
    let top = fixture.source();
    fs::create_dir_all(top.join("d/e")).unwrap();
    fs::write(top.join("big"), random_bytes(1, 20 << 20)).unwrap();
    for number in 0..50 {
        fs::write(top.join(format!("d/f{number}")), random_bytes(number, 5000)).unwrap();
    }
    fs::write(top.join("d/e/g"), "good").unwrap();
    fixture.save();
    fixture
}

#[test]
fn only_what_differs_is_written() {
    let fixture = saved();
    let options = fixture.options("out");
    fixture.restore(&options);
    let out = fixture.path("out");
    let changes = || fs::metadata(out.join("d/f1")).unwrap().ctime_nsec();
    let before = changes();
    let unchanged = fixture.restore(&options);
    assert_eq!((unchanged.files_unchanged, unchanged.bytes_written), (52, 0));
    assert_eq!(changes(), before, "a file that is right is not touched");

    let big = fs::File::options().write(true).open(out.join("big")).unwrap();
    let inode = big.metadata().unwrap().ino();
    big.write_all_at(b"scratch", 7 << 20).unwrap();
    big.set_len((20 << 20) + 5).unwrap();
    fs::write(out.join("d/f3"), "shorter").unwrap();
    fs::remove_file(out.join("d/f4")).unwrap();
    fs::File::open(out.join("d/f5")).unwrap().set_modified(SystemTime::now()).unwrap();
    let report = fixture.restore(&options);
    assert_eq!((report.files_updated, report.files_written), (2, 1));
    assert!(report.bytes_written < 1 << 20, "{} bytes", report.bytes_written);
    assert_eq!(fs::metadata(out.join("big")).unwrap().ino(), inode);
    check_below(&fixture.source(), &out);
}

#[test]
fn what_is_there_is_overwritten_as_asked() {
    let future = SystemTime::now() + Duration::from_secs(1000);
    let past = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
    let cases = [
        (Overwrite::Always, ["good", "good", "good"]),
        // size and time of the snapshot are believed
        (Overwrite::IfChanged, ["good", "good", "same"]),
        (Overwrite::IfNewer, ["newx", "good", "same"]),
        (Overwrite::Never, ["newx", "oldx", "same"]),
    ];
    let fixture = Fixture::new();
    let top = fixture.source();
    for name in ["newer", "older", "same"] {
        fs::write(top.join(name), "good").unwrap();
    }
    fixture.save();
    for (overwrite, expected) in cases {
        let name = format!("{overwrite:?}");
        let out = fixture.path(&name);
        fs::create_dir(&out).unwrap();
        let write = |name: &str, text: &str, time: SystemTime| {
            fs::write(out.join(name), text).unwrap();
            fs::File::open(out.join(name)).unwrap().set_modified(time).unwrap();
        };
        write("newer", "newx", future);
        write("older", "oldx", past);
        write("same", "same", fs::metadata(top.join("same")).unwrap().modified().unwrap());
        let report = fixture.restore(&RestoreOptions { overwrite, ..fixture.options(&name) });
        assert_eq!(report.outcome(), RestoreOutcome::Complete);
        let found =
            ["newer", "older", "same"].map(|name| fs::read_to_string(out.join(name)).unwrap());
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn delete_removes_what_the_snapshot_does_not_have_and_nothing_beside() {
    let fixture = saved();
    let options = RestoreOptions { delete: true, ..fixture.options("out") };
    fixture.restore(&options);
    let out = fixture.path("out");
    fs::create_dir_all(out.join("extra/deep")).unwrap();
    fs::write(out.join("extra/deep/file"), "x").unwrap();
    fs::write(out.join("d/extra.keep"), "x").unwrap();
    fs::remove_file(out.join("d/f1")).unwrap();
    fs::create_dir_all(out.join("d/f1/in the way")).unwrap();
    let repository = fixture.open();
    let snapshot = fixture.newest(&repository);
    let plan = plan_delete(&repository, &snapshot, &options, &Silent).unwrap();
    assert_eq!((plan.deletions.len(), plan.count), (3, 6));

    let keep = Some(Rules::new(&["*.keep".to_owned()], &[]).unwrap());
    let dry =
        RestoreOptions { dry_run: true, delete: true, exclude: keep, ..fixture.options("out") };
    let listener = Listener::default();
    restore(&repository, &snapshot, &dry, &listener).unwrap();
    let lines = listener.lines.into_inner().unwrap();
    let gone = lines.iter().filter(|line| line.0 == "delete").count();
    assert_eq!(gone, 2, "{lines:?}");
    assert!(out.join("extra").exists());

    let report = fixture.restore(&options);
    assert_eq!((report.deleted, report.failures), (6, vec![]));
    check_below(&fixture.source(), &out);

    // Directories above the source only lead there: their other contents stay.
    let whole =
        RestoreOptions { target: fixture.path("whole"), delete: true, ..Default::default() };
    fs::create_dir(fixture.path("whole")).unwrap();
    fs::write(fixture.path("whole/bystander"), "x").unwrap();
    assert_eq!(fixture.restore(&whole).deleted, 0);
    assert!(fixture.path("whole/bystander").exists());
}

#[test]
fn without_delete_a_full_directory_in_the_way_is_a_failure() {
    let fixture = saved();
    let out = fixture.path("out");
    fs::create_dir_all(out.join("big/full")).unwrap();
    let report = fixture.restore(&fixture.options("out"));
    assert_eq!((report.failures.len(), report.outcome()), (1, RestoreOutcome::Incomplete));
    assert!(out.join("big/full").exists());
}

#[test]
fn links_in_the_target_lead_nowhere() {
    let fixture = saved();
    let (out, outside) = (fixture.path("out"), fixture.path("outside"));
    fs::create_dir_all(&out).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), "precious").unwrap();
    symlink(&outside, out.join("d")).unwrap();
    symlink(outside.join("precious"), out.join("big")).unwrap();
    let report = fixture.restore(&fixture.options("out"));
    assert_eq!(report.failures, []);
    check_below(&fixture.source(), &out);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(outside.join("precious")).unwrap(), "precious");
}

#[test]
fn a_dry_run_tells_all_and_writes_nothing() {
    let fixture = saved();
    let options = RestoreOptions { dry_run: true, ..fixture.options("out") };
    let repository = fixture.open();
    let snapshot = fixture.newest(&repository);
    let listener = Listener::default();
    let report = restore(&repository, &snapshot, &options, &listener).unwrap();
    assert!(!fixture.path("out").exists());
    assert_eq!(report.files_written, 52);
    assert_eq!(listener.lines.into_inner().unwrap().len(), 54);

    fixture.restore(&fixture.options("out"));
    fs::write(fixture.path("out/d/e/g"), "bad").unwrap();
    let listener = Listener::default();
    let report = restore(&repository, &snapshot, &options, &listener).unwrap();
    assert_eq!((report.files_updated, report.files_unchanged), (1, 51));
    assert_eq!(fs::read_to_string(fixture.path("out/d/e/g")).unwrap(), "bad");
}

#[test]
fn an_interrupted_restore_is_resumed() {
    let fixture = saved();
    let options = fixture.options("out");
    let repository = fixture.open();
    let snapshot = fixture.newest(&repository);
    let listener = Listener { interrupt_after: Some(4 << 20), ..Listener::default() };
    let error = restore(&repository, &snapshot, &options, &listener).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Interrupted);
    let report = fixture.restore(&options);
    assert_eq!(report.outcome(), RestoreOutcome::Complete);
    assert!(report.bytes_written < 20 << 20, "{} bytes", report.bytes_written);
    check(&fixture.source(), &fixture.path("out"));
}
