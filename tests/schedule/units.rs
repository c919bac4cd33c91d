//! The units that are written, before systemd's own eyes: `systemd-analyze
//! verify` exits 0 on what it only warns of, so that any output is a failure.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use esker::config::value::zone;
use esker::schedule::Job;
use esker::schedule::units::Program;
use esker::schedule::units::systemd::{Manager, unit_name, units};
use jiff::Timestamp;
use tempfile::TempDir;

fn job(profile: &str, settings: &str) -> Job {
    let local = zone("Europe/Berlin").unwrap();
    Job::of(profile, &toml::from_str(settings).unwrap(), &local).unwrap()
}

fn now() -> Timestamp {
    "2026-11-28T12:00:00Z".parse().unwrap()
}

/// A program that can be run, at a path that needs quoting.
fn program(directory: &TempDir) -> Program {
    let path = directory.path().join("my $esker 100%");
    fs::write(&path, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    Program { path, configuration: Some("/etc/my \"own\"/esker.toml".into()) }
}

/// Both texts, after systemd had nothing to say about them.
fn verified(job: &Job, manager: Manager) -> [String; 2] {
    let directory = tempfile::tempdir().unwrap();
    let [service, timer] = units(job, &program(&directory), manager, now()).unwrap();
    let mut command = Command::new("systemd-analyze");
    command.env("XDG_RUNTIME_DIR", directory.path()).env("LC_ALL", "C.UTF-8");
    if manager == Manager::User {
        command.arg("--user");
    }
    command.arg("verify");
    for unit in [&service, &timer] {
        let path = directory.path().join(&unit.name);
        fs::write(&path, &unit.text).unwrap();
        command.arg(path);
    }
    let output = command.output().expect("systemd-analyze runs (package systemd)");
    let said = [output.stdout, output.stderr].concat();
    let texts = format!("{}\n{}", service.text, timer.text);
    assert!(said.is_empty(), "{}\n{texts}", String::from_utf8_lossy(&said));
    assert!(output.status.success());
    [service.text, timer.text]
}

const ALL: &str = r#"
    schedule = ["02:30", "*-*~1 12:00:30 America/New_York", "30 4 1,15 * mon"]
    jitter = "90s"
    conditions = { mains_power = true, not_metered = true, mounts = ["/media/my 100% disk", "/srv"] }
    notify = { ping = { credential = "ping.url" }, mail = { server = "smtp://h:25", from = "a", to = [], password = { credential = "mail" } } }
"#;

#[test]
fn systemd_has_nothing_to_say_about_what_is_written() {
    let names = ["web", "we b@ö/100%", "-x.service", "a\\b\"c$d"];
    for manager in [Manager::System, Manager::User] {
        for name in names {
            verified(&job(name, ALL), manager);
        }
        verified(&job("plain", "schedule = ['daily']\nnice = false\ncatch_up = false"), manager);
    }
}

/// What is wrong in a unit is seen: the check above can fail.
#[test]
fn systemd_would_have_something_to_say() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("esker-a.timer");
    fs::write(&path, "[Timer]\nOnCalendar=25:00\nUnknown=1\n").unwrap();
    let output = Command::new("systemd-analyze").arg("verify").arg(path).output().unwrap();
    assert!(!output.stderr.is_empty());
}

/// Every line of a text that begins with `key`.
fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let value = |line: &'a str| line.strip_prefix(key)?.strip_prefix('=');
    text.lines().filter_map(value).collect()
}

#[test]
fn a_profile_s_settings_are_in_its_units() {
    let [service, timer] = verified(&job("web", ALL), Manager::System);
    let check = |text: &str, key: &str, expected: &[&str]| {
        assert_eq!(values(text, key), expected, "{key}\n{text}");
    };
    check(&service, "Type", &["oneshot"]);
    check(&service, "CacheDirectory", &["esker"]);
    check(&service, "Environment", &["ESKER_CACHE_DIR=%C/esker ESKER_SCHEDULER=systemd"]);
    check(&service, "LoadCredential", &["mail", "ping.url"]);
    check(&service, "SuccessExitStatus", &["3 75"]);
    check(&service, "Restart", &["no"]);
    check(&service, "Nice", &["10"]);
    check(&service, "IOSchedulingClass", &["idle"]);
    check(&service, "ConditionACPower", &["true"]);
    check(&service, "ConditionPathIsMountPoint", &["/media/my 100%% disk", "/srv"]);
    assert_eq!(values(&service, "ExecCondition").len(), 1);
    check(&timer, "Persistent", &["true"]);
    check(&timer, "RandomizedDelaySec", &["90000ms"]);
    let times = values(&timer, "OnCalendar");
    for time in [
        "*-*-* 02:30:00 Europe/Berlin",
        "*-*~01 12:00:30 America/New_York",
        "*-*-01,15 04:30:00 Europe/Berlin",
        "Mon *-*-* 04:30:00 Europe/Berlin",
        // the nights in which there is no 02:30
        "2027-03-28 03:00:00 Europe/Berlin",
        "2036-03-30 03:00:00 Europe/Berlin",
    ] {
        assert!(times.contains(&time), "{time}: {times:?}");
    }
    assert_eq!(times.len(), 14);

    let plain = job("web", "schedule = ['daily']\nnice = false\ncatch_up = false");
    let [service, timer] = verified(&plain, Manager::User);
    for key in ["Nice", "IOSchedulingClass", "LoadCredential", "ExecCondition", "After"] {
        check(&service, key, &[]);
    }
    check(&timer, "Persistent", &["false"]);
    check(&timer, "RandomizedDelaySec", &[]);
    check(&timer, "OnCalendar", &["*-*-* 00:00:00 Europe/Berlin"]);
}

/// systemd takes what is in quotation marks for what was meant.
#[test]
fn names_and_paths_survive_quoting() {
    let [service, _] = verified(&job("a b\"c\\d$e%f", ALL), Manager::System);
    let start = values(&service, "ExecStart")[0];
    assert!(start.contains(r#"/my $esker 100%%" run "a b\"c\\d$$e%%f" --scheduled --config "/etc/my \"own\"/esker.toml""#), "{start}");
    assert_eq!(unit_name("a b@"), r"esker-a\x20b\x40");
}

#[test]
fn what_cannot_be_in_a_unit_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let refused = |settings: &str| {
        units(&job("web", settings), &program(&directory), Manager::System, now())
            .unwrap_err()
            .message
    };
    assert!(refused("").contains("no schedule"));
    let mount = refused("schedule = ['daily']\nconditions = { mounts = ['srv'] }");
    assert!(mount.contains("\"srv\" is no absolute path"), "{mount}");
    let credential = refused("schedule = ['daily']\nnotify = { ping = { credential = 'a/b' } }");
    assert!(credential.contains("credential \"a/b\""), "{credential}");
}
