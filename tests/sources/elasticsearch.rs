//! Elasticsearch's snapshots, against a stand-in: there is no real one to be had here.

use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;

use esker::source::preset::{Fingerprint, compare_fingerprint};

use crate::memory::{Memory, capture, fails, preset, restore, source};
use crate::standin::{Outcome, StandIn};

fn start(directory: &Path) -> (StandIn, String) {
    let files = directory.join("es");
    let server = StandIn::start(files.clone());
    server.server.lock().unwrap().indices = [("logs", 10), ("users", 3), (".internal", 1)]
        .into_iter()
        .map(|(name, documents)| (name.to_owned(), (documents, true)))
        .collect();
    let lines = format!(
        "name = 'es'\npreset = {{ kind = 'elasticsearch', url = 'http://127.0.0.1:{}', repository = 'backups', path = '{}' }}\n",
        server.port,
        files.display()
    );
    (server, lines)
}

#[test]
fn a_snapshot_is_waited_for_saved_and_restored_in_the_right_order() {
    let directory = tempfile::tempdir().unwrap();
    let (server, lines) = start(directory.path());
    source(&lines).unwrap().check().unwrap();
    let (memory, outcome, _) = capture(&lines);
    assert_eq!(outcome, Ok(()));
    assert!(memory.bytes("repository/indices/id-logs/0/__logs") == b"10");
    let stored = Fingerprint::parse(memory.bytes("fingerprint.json")).unwrap();

    // everything is lost, but an index that is in the way
    fs::remove_dir_all(directory.path().join("es")).unwrap();
    fs::create_dir_all(directory.path().join("es")).unwrap();
    {
        let mut server = server.server.lock().unwrap();
        server.registered = false;
        server.unhealthy = 2;
        server.indices.retain(|name, _| name != "users");
        server.indices.insert("logs".into(), (99, true));
        server.indices.remove(".internal");
        server.done.clear();
        server.asks = 0;
    }
    restore(&preset(&lines), &memory).unwrap();
    let done = server.server.lock().unwrap().done.clone();
    let order: Vec<&str> = done.iter().map(|request| request.rsplit('/').next().unwrap()).collect();
    let ours = order[0];
    assert!(ours.starts_with("esker-restore-"), "{done:?}");
    // the repository was gone, too: the next backup finds it
    assert_eq!(order, [ours, "_close", "_restore", ours, "backups"], "{done:?}");
    assert!(server.server.lock().unwrap().registered);
    assert_eq!(left_over(&directory.path().join("es")), [""; 0]);
    let found = preset(&lines).fingerprint(&|| false).unwrap().unwrap();
    assert_eq!(compare_fingerprint(&stored, &found), [""; 0]);
    assert_eq!(server.server.lock().unwrap().unhealthy, 0);
}

/// What ways back made for themselves in the repository's directory.
fn left_over(files: &Path) -> Vec<String> {
    names(files).into_iter().filter(|name| name.starts_with("esker-restore-")).collect()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The server's newest list of snapshots does not have it any more, and stays as it is.
#[test]
fn a_snapshot_that_the_server_dropped_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let (server, lines) = start(directory.path());
    // what is its own a server replaces itself
    server.server.lock().unwrap().indices.remove(".internal");
    let (first, outcome, _) = capture(&lines);
    assert_eq!(outcome, Ok(()));
    server.server.lock().unwrap().indices.insert("logs".into(), (20, true));
    for _ in 0..4 {
        assert_eq!(capture(&lines).1, Ok(()));
    }
    let files = directory.path().join("es");
    // what an interrupted way back left is not saved, and goes
    fs::create_dir_all(files.join("esker-restore-1/indices")).unwrap();
    let (last, outcome, _) = capture(&lines);
    assert_eq!(outcome, Ok(()));
    assert!(last.entries.keys().all(|path| !path.contains("esker-restore")), "{:?}", last.entries);
    let before = names(&files);
    restore(&preset(&lines), &first).unwrap();
    assert_eq!(server.server.lock().unwrap().indices["logs"], (10, true));
    let after: Vec<String> =
        before.into_iter().filter(|name| !name.starts_with("esker-restore-")).collect();
    assert_eq!(names(&files), after);
    assert_eq!(server.server.lock().unwrap().read_only.len(), 0);
    // and the newest one after it
    restore(&preset(&lines), &last).unwrap();
    assert_eq!(server.server.lock().unwrap().indices["logs"], (20, true));
    assert_eq!(capture(&lines).1, Ok(()));
}

#[test]
fn a_snapshot_that_is_not_whole_fails_the_source_with_the_reasons() {
    let directory = tempfile::tempdir().unwrap();
    let (server, lines) = start(directory.path());
    let set = |outcome| server.server.lock().unwrap().outcome = outcome;
    set(Outcome::Partial);
    fails(&lines, &["PARTIAL", "logs[0] primary shard is", "not allocated"]);
    set(Outcome::Failed);
    fails(&lines, &["FAILED", "don't have primary shards"]);
    set(Outcome::Lying);
    fails(&lines, &["2 of 3 shards"]);
    set(Outcome::Running);
    fails(&format!("timeout = '1s'\n{lines}"), &["1 s", "the snapshot took longer"]);
    fails(&format!("idle_timeout = '1s'\n{lines}"), &["the snapshot gave no sign of life for 1 s"]);
    // what was of no use is not left behind
    let left = server
        .server
        .lock()
        .unwrap()
        .done
        .iter()
        .filter(|request| request.starts_with("DELETE"))
        .count();
    assert_eq!(left, 4);
    set(Outcome::Success);
    let elsewhere = lines.replace("/es'", "/other'");
    fs::create_dir_all(directory.path().join("other")).unwrap();
    fails(&elsewhere, &["no repository of snapshots lies there"]);
    fs::write(directory.path().join("other/index.latest"), [0; 8]).unwrap();
    fails(&elsewhere, &["is it the directory of repository backups?"]);
    fails(&lines.replace("backups", "other"), &["snapshot repository other", "404"]);
}

#[test]
fn the_end_of_the_run_takes_a_snapshot_back() {
    let directory = tempfile::tempdir().unwrap();
    let (server, lines) = start(directory.path());
    server.server.lock().unwrap().outcome = Outcome::Running;
    let (stream, _) = source(&lines).unwrap().stream();
    let mut memory = Memory::default();
    memory.over.store(true, Ordering::Relaxed);
    assert_eq!((stream.capture)(&mut memory), Err("interrupted".into()));
    assert!(
        server
            .server
            .lock()
            .unwrap()
            .done
            .last()
            .unwrap()
            .starts_with("DELETE /_snapshot/backups/esker-")
    );
}

#[test]
fn the_server_keeps_the_newest_few() {
    let directory = tempfile::tempdir().unwrap();
    let (server, lines) = start(directory.path());
    for _ in 0..5 {
        assert_eq!(capture(&lines).1, Ok(()));
    }
    let all = fs::read_dir(directory.path().join("es")).unwrap();
    let snapshots = all
        .filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().starts_with("snap-"))
        .count();
    assert_eq!(snapshots, 3);
    assert_eq!(
        server
            .server
            .lock()
            .unwrap()
            .done
            .iter()
            .filter(|request| request.starts_with("DELETE"))
            .count(),
        2
    );
}

/// Nothing is closed before the snapshot was seen, and nothing stays closed that was not restored.
#[test]
fn a_restore_that_fails_leaves_the_indices_open() {
    let directory = tempfile::tempdir().unwrap();
    let (server, lines) = start(directory.path());
    let (memory, outcome, _) = capture(&lines);
    assert_eq!(outcome, Ok(()));
    server.server.lock().unwrap().refuse_restore = true;
    let message = restore(&preset(&lines), &memory).unwrap_err();
    assert!(message.contains("cannot restore"), "{message}");
    assert!(server.server.lock().unwrap().indices.values().all(|(_, open)| *open));
    assert_eq!(left_over(&directory.path().join("es")), [""; 0]);
    assert_eq!(server.server.lock().unwrap().read_only.len(), 0);

    server.server.lock().unwrap().done.clear();
    server.server.lock().unwrap().outcome = Outcome::Partial;
    let message = restore(&preset(&lines), &memory).unwrap_err();
    assert!(message.contains("PARTIAL"), "{message}");
    let done = server.server.lock().unwrap().done.clone();
    assert!(done.iter().all(|request| !request.contains("_close")), "{done:?}");
}

#[test]
fn passwords_and_addresses_are_taken_as_they_should() {
    let directory = tempfile::tempdir().unwrap();
    let (server, lines) = start(directory.path());
    // Basic of elastic:secret
    server.server.lock().unwrap().password = Some("Basic ZWxhc3RpYzpzZWNyZXQ=".into());
    fails(&lines, &["missing authentication credentials (401)"]);
    let with = lines.replace("repository =", "user = 'elastic', password = 'secret', repository =");
    assert_eq!(capture(&with).1, Ok(()));
    for (lines, words) in [
        (lines.replace("http://127", "ftp://127"), "is no address"),
        (lines.replace("http://127", "http://u:p@127"), "do not belong into the address"),
        (lines.replace("'backups'", "'*'"), "no name of a repository"),
    ] {
        assert!(source(&lines).err().unwrap().message.contains(words));
    }
    let nobody = lines.replace(&format!(":{}", server.port), ":1");
    fails(&nobody, &["refused"]);
    let missing = lines.replace("/es'", "/nowhere'");
    assert!(source(&missing).unwrap().check().unwrap_err().message.contains("no such directory"));
}
