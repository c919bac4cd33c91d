//! SQLite databases that are written to while they are saved.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use esker::source::preset::{Fingerprint, compare_fingerprint};
use rusqlite::Connection;

use crate::memory::{Memory, capture, fails, preset, restore, script, source};

fn lines(file: &Path, more: &str) -> String {
    format!("name = 'db'\npreset = {{ kind = 'sqlite', files = ['{}'] {more} }}\n", file.display())
}

fn fill(file: &Path, mode: &str) {
    let database = Connection::open(file).unwrap();
    database.pragma_update(None, "journal_mode", mode).unwrap();
    database
        .execute_batch(
            "PRAGMA user_version = 7;
             CREATE TABLE a (n INTEGER, text TEXT); CREATE TABLE b (n INTEGER);
             CREATE TABLE \"odd \"\"na'me\" (x); INSERT INTO \"odd \"\"na'me\" VALUES (x'00ff'), ('ü');
             CREATE VIEW v AS SELECT n FROM a; CREATE INDEX i ON a (n);
             CREATE TRIGGER t AFTER DELETE ON b BEGIN DELETE FROM a; END;
             WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 20000)
             INSERT INTO a SELECT n, hex(randomblob(100)) FROM c; INSERT INTO b SELECT n FROM a;",
        )
        .unwrap();
}

/// What a database in memory's bytes holds; every transaction writes as much to `a` as to `b`.
fn check(memory: &Memory, file: &Path) {
    let path = file.to_str().unwrap().trim_start_matches('/');
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("copy");
    std::fs::write(&copy, memory.bytes(path)).unwrap();
    let database = Connection::open(&copy).unwrap();
    let ask = |query: &str| database.query_row(query, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(
        database.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0)).unwrap(),
        "ok"
    );
    assert_eq!(ask("SELECT count(*) FROM a"), ask("SELECT count(*) FROM b"));
    assert_eq!(ask("SELECT user_version FROM pragma_user_version"), 7);
    let fingerprint = String::from_utf8(memory.bytes("fingerprint.json").to_vec()).unwrap();
    let rows = format!("\"a\": {},", ask("SELECT count(*) FROM a"));
    assert!(fingerprint.contains(&rows), "{fingerprint} has no {rows}");
}

#[test]
fn a_database_is_of_one_moment_while_others_write() {
    for mode in ["wal", "delete"] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("app.db");
        fill(&file, mode);
        let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let writer = Connection::open(&file).unwrap();
                    writer.busy_timeout(std::time::Duration::from_secs(60)).unwrap();
                    while !stop.load(Ordering::Relaxed) {
                        writer
                            .execute_batch(
                                "BEGIN IMMEDIATE; INSERT INTO a VALUES (1, hex(randomblob(2000)));
                                 INSERT INTO b VALUES (1); COMMIT",
                            )
                            .unwrap();
                        written.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            let begun = written.load(Ordering::Relaxed);
            let result = std::panic::catch_unwind(|| {
                for _ in 0..5 {
                    let (memory, outcome, _) = capture(&lines(&file, ""));
                    assert_eq!(outcome, Ok(()));
                    check(&memory, &file);
                }
            });
            while written.load(Ordering::Relaxed) == begun {
                std::thread::yield_now();
            }
            stop.store(true, Ordering::Relaxed);
            if let Err(panic) = result {
                std::panic::resume_unwind(panic);
            }
        });
    }
}

#[test]
fn a_database_comes_back_where_it_was_and_its_fingerprint_agrees() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("app.db");
    fill(&file, "wal");
    let lines = lines(&file, "");
    let (memory, outcome, _) = capture(&lines);
    assert_eq!(outcome, Ok(()));
    let stored = Fingerprint::parse(memory.bytes("fingerprint.json")).unwrap();
    std::fs::remove_file(&file).unwrap();
    let gone = preset(&lines).fingerprint(&|| false);
    assert!(gone.is_err());
    restore(&preset(&lines), &memory).unwrap();
    let found = preset(&lines).fingerprint(&|| false).unwrap().unwrap();
    assert_eq!(compare_fingerprint(&stored, &found), [""; 0]);
    Connection::open(&file).unwrap().execute_batch("DELETE FROM a; DROP VIEW v").unwrap();
    let found = preset(&lines).fingerprint(&|| false).unwrap().unwrap();
    assert_eq!(compare_fingerprint(&stored, &found).len(), 2);
    let left: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(left.iter().all(|name| name.to_str().unwrap().starts_with("app.db")), "{left:?}");
}

/// A stand-in for `kubectl exec`: runs the command, and passes on some of what it prints, with exit status 0.
fn carrier(path: &Path) {
    script(
        path,
        r#"how=$1 tool=$2; shift 2; hit=; for word do case $word in *"$tool"*) hit=yes;; esac; done
[ -n "$hit" ] || exec "$@"
f=$(mktemp); "$@" >"$f"; n=$(wc -c <"$f")
case $how in none) n=0;; half) n=$((n / 2));; last) n=$((n - 1));; esac
head -c "$n" "$f"; rm "$f"; exit 0"#,
    );
}

/// Needs the `sqlite3` program, which tests/run installs.
#[test]
fn through_another_command_every_cut_is_seen() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("app.db");
    fill(&file, "wal");
    let kubectl = directory.path().join("carrier");
    carrier(&kubectl);
    let through = |how: &str| {
        lines(&file, &format!(", through = ['{}', '{how}', '.backup']", kubectl.display()))
    };
    source(&through("all")).unwrap().check().unwrap();
    let (memory, outcome, _) = capture(&through("all"));
    assert_eq!(outcome, Ok(()));
    check(&memory, &file);
    for how in ["none", "half", "last"] {
        fails(&through(how), &["cut off"]);
    }
    Connection::open(&file).unwrap().execute_batch("DELETE FROM a").unwrap();
    restore(&preset(&through("all")), &memory).unwrap();
    let stored = Fingerprint::parse(memory.bytes("fingerprint.json")).unwrap();
    let found = preset(&through("all")).fingerprint(&|| false).unwrap().unwrap();
    assert_eq!(compare_fingerprint(&stored, &found), [""; 0]);
}

#[test]
fn what_is_no_database_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("text");
    assert!(source(&lines(&file, "")).unwrap().check().unwrap_err().message.contains("text"));
    std::fs::write(&file, "no database, but some text that is long enough for a header".repeat(9))
        .unwrap();
    fails(&lines(&file, ""), &["text", "not a database"]);
    for wrong in ["relative.db", "/a/../b"] {
        let lines = lines(Path::new(wrong), "");
        assert!(source(&lines).err().unwrap().message.contains("absolute path"));
    }
}
