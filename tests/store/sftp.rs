//! The SFTP store before OpenSSH's own server, without a network: in the place of `ssh` stands a script that runs it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use esker::store::address::Address;
use esker::store::{ErrorKind, Limits, Secrets, Store, connect};

use crate::conformance::{Races, check_kind, conformance};

const SERVER: &str = "/usr/lib/openssh/sftp-server";

/// `plain` is a server that offers nothing beside the protocol, `guard` one that lets nobody remove anything. Each
/// start adds a line to a file.
const SSH: &str = r#"#!/bin/sh
echo started >>"$(dirname "$0")/started"
case "$*" in
  *" -- whole sftp") exec SERVER ;;
  *" -- plain sftp") exec SERVER -P hardlink,fsync,limits,statvfs ;;
  *" -- guard sftp") exec SERVER -P hardlink,remove,rmdir ;;
  *" -- shell sftp") echo Welcome to this machine ;;
  *" -- mute sftp") echo 'ssh: it is closed today' >&2; exit 255 ;;
  *" -- stranger sftp") echo 'Host key verification failed.' >&2; exit 255 ;;
esac
"#;

/// Runs a test of this file again, in a process whose `ssh` is the script; `false` in that process.
///
/// What a process looks programs up by cannot be changed while its threads run.
fn runs_elsewhere(test: &str) -> bool {
    const INSIDE: &str = "ESKER_TEST_INSIDE";
    if std::env::var_os(INSIDE).is_some() {
        return false;
    }
    if !Path::new(SERVER).exists() {
        eprintln!("skipped: there is no {SERVER}");
        return true;
    }
    let directory = tempfile::tempdir().expect("tempdir");
    let ssh = directory.path().join("ssh");
    fs::write(&ssh, SSH.replace("SERVER", SERVER)).expect("write");
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).expect("chmod");
    let path = std::env::var("PATH").expect("PATH");
    let status = Command::new(std::env::current_exe().expect("the test's own name"))
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, directory.path())
        .env("PATH", format!("{}:{path}", directory.path().display()))
        .status()
        .expect("run");
    assert!(status.success(), "{status}");
    true
}

fn store(host: &str, directory: &Path) -> Arc<dyn Store> {
    let address = format!("sftp://{host}{}/new/repository", directory.display());
    let address = Address::parse(&address).expect("address");
    connect(&address, &Secrets::default(), Arc::new(Limits::default()), None).expect("connect")
}

fn count_started() -> usize {
    let directory = std::env::var("ESKER_TEST_INSIDE").expect("inside");
    fs::read_to_string(Path::new(&directory).join("started")).map_or(0, |text| text.lines().count())
}

#[test]
fn sftp_conforms() {
    if runs_elsewhere("sftp::sftp_conforms") {
        return;
    }
    for host in ["whole", "plain"] {
        let directory = tempfile::tempdir().expect("tempdir");
        let before = count_started();
        conformance(&*store(host, directory.path()), Races::OneWins);
        assert_eq!(count_started() - before, 1, "one session serves all requests");
        // what was written on the way is gone
        let left = fs::read_dir(directory.path().join("new/repository/tmp")).expect("tmp").count();
        assert_eq!(left, 0);
    }
}

#[test]
fn what_may_not_be_removed_stays() {
    if runs_elsewhere("sftp::what_may_not_be_removed_stays") {
        return;
    }
    let directory = tempfile::tempdir().expect("tempdir");
    let store = store("guard", directory.path());
    store.put("packs/00/a", Bytes::from_static(b"one")).expect("put");
    check_kind(store.put("packs/00/a", Bytes::from_static(b"two")), ErrorKind::Exists);
    check_kind(store.delete("packs/00/a"), ErrorKind::Permission);
    store.delete("packs/00/b").expect("delete what is absent");
    assert_eq!(store.get("packs/00/a", 9).expect("get"), "one");
}

#[test]
fn sessions_that_do_not_begin_say_why() {
    if runs_elsewhere("sftp::sessions_that_do_not_begin_say_why") {
        return;
    }
    let directory = tempfile::tempdir().expect("tempdir");
    for (host, kind, words) in [
        ("shell", ErrorKind::Permanent, "is no SFTP"),
        ("mute", ErrorKind::Temporary, "ssh: it is closed today"),
        ("stranger", ErrorKind::Permission, "Host key verification failed."),
    ] {
        let error = store(host, directory.path()).get("config", 9).expect_err(host);
        let source = std::error::Error::source(&error).expect(host).to_string();
        assert_eq!(error.kind(), kind, "{host}: {error}");
        assert!(source.contains(words), "{host}: {source}");
    }
}

#[test]
fn a_session_that_ended_is_followed_by_another() {
    if runs_elsewhere("sftp::a_session_that_ended_is_followed_by_another") {
        return;
    }
    let directory = tempfile::tempdir().expect("tempdir");
    let store = store("whole", directory.path());
    store.put("packs/00/a", Bytes::from_static(b"one")).expect("put");
    end_server();
    let again = (0..2).find_map(|_| store.get("packs/00/a", 9).ok());
    assert_eq!(again.expect("get"), "one");
    assert_eq!(count_started(), 2);
}

/// Kills the one child of this process.
fn end_server() {
    let tasks = fs::read_dir("/proc/self/task").expect("tasks");
    let children: Vec<String> = tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok())
        .flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    assert_eq!(children.len(), 1, "{children:?}");
    assert!(Command::new("kill").args(["-KILL", &children[0]]).status().expect("kill").success());
}
