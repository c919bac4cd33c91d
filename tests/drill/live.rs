//! Restored files held against the live ones.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rusqlite::Connection;

use super::home::Home;
use super::{drill, last_log, one, recorded, texts};

fn times(file: &Path) -> (u64, i64, i64, i64, i64) {
    let now = fs::metadata(file).unwrap();
    (now.len(), now.mtime(), now.mtime_nsec(), now.ctime(), now.ctime_nsec())
}

/// What changed since is told, and no damage; even where it has size and modification time of before.
#[test]
fn what_changed_since_is_told_and_is_no_damage() {
    let home = Home::new();
    for name in ["same", "longer", "touched", "gone", "another"] {
        home.write(&format!("tree/{name}"), format!("content of {name}").as_bytes());
    }
    home.ok(&["backup", "tree"]);
    let run = drill(&home, &["--live"]);
    let summary = one(&run, "summary");
    assert_eq!((run.code, &summary["live"], &summary["notes"]), (0, &5.into(), &[(); 0].into()));
    let said = texts(&summary["not_covered"]).join("\n");
    assert!(!said.contains("live"), "{said}");

    home.write("tree/longer", b"content of longer, and more");
    let touched = home.path("tree/touched");
    let before = fs::metadata(&touched).unwrap().modified().unwrap();
    home.write("tree/touched", b"CONTENT of touched");
    File::options().write(true).open(&touched).unwrap().set_modified(before).unwrap();
    fs::remove_file(home.path("tree/gone")).unwrap();
    fs::remove_file(home.path("tree/another")).unwrap();
    fs::create_dir(home.path("tree/another")).unwrap();
    let run = drill(&home, &["--live", "--all"]);
    let summary = one(&run, "summary");
    assert_eq!((run.code, &summary["live"], &summary["findings"]), (0, &5.into(), &0.into()));
    let mut notes = texts(&summary["notes"]);
    notes.sort_unstable();
    let expected = [
        "another: the live source has something else there since",
        "gone: is gone from the live source since",
        "longer: differs from the live file, which changed since",
        "touched: differs from the live file, which changed since",
    ];
    let expected = expected.map(|text| format!("{}{text}", home.text("tree/")));
    assert_eq!(notes, expected);
    let log = last_log(&home);
    assert!(expected.iter().all(|text| log.contains(&format!("note: {text}"))), "{log}");
    let said = home.run(&["drill", "--live"]).err;
    assert!(said.contains("4 files of the live source changed since"), "{said}");
}

/// What is written through memory on a tmpfs leaves no time behind: the index of SQLite's write-ahead log is.
#[test]
fn other_bytes_under_the_same_size_and_times_fail_the_drill() {
    let home = Home::new();
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let database = Connection::open(directory.path().join("db")).unwrap();
    database.pragma_update(None, "journal_mode", "WAL").unwrap();
    database.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1);").unwrap();
    home.ok(&["backup", directory.path().to_str().unwrap()]);
    let silent = directory.path().join("db-shm");
    let (before, bytes) = (times(&silent), fs::read(&silent).unwrap());
    database.execute_batch("INSERT INTO t VALUES (2);").unwrap();
    assert_eq!(times(&silent), before);
    assert_ne!(fs::read(&silent).unwrap(), bytes);
    let run = drill(&home, &["--live"]);
    assert_eq!(run.code, 22, "{}", run.err);
    let wrong = one(&run, "wrong");
    assert_eq!(wrong["path"], silent.to_str().unwrap());
    assert!(wrong["reason"].as_str().unwrap().contains("size and times"), "{wrong}");
    assert!(last_log(&home).contains("wrong: "));
    assert_eq!(recorded(&home).pop().unwrap()["exit_code"], 22);
    // the log itself shows that it changed
    let notes = one(&run, "summary")["notes"].to_string();
    assert!(notes.contains("db-wal"), "{notes}");
}
