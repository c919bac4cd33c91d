//! `esker run`: what profiles say, done by the real binary.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use support::program::{self, Run};
use tempfile::TempDir;

mod failures;
mod others;
#[path = "../support/mod.rs"]
mod support;

struct Machine {
    directory: TempDir,
}

impl Machine {
    /// A machine with repositories `one` and `two`, and a tree to save.
    fn new(profile: &str) -> Machine {
        let machine = Machine { directory: tempfile::tempdir().unwrap() };
        let base = machine.directory.path().display().to_string();
        let mut text = String::new();
        for name in ["one", "two"] {
            text += &format!(
                "[repositories.{name}]\nurl = '{base}/{name}'\nkey_file = '{base}/{name}.key'\nremovable = true\n"
            );
            let url = format!("{base}/{name}");
            let key = format!("{name}.key");
            machine.ok(&["-r", &url, "init", "--key-file", &key]);
        }
        machine.write("tree/file", "as it was");
        let text = text + &profile.replace("BASE", &base);
        machine.write("config/esker.toml", &text);
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program::command(self.directory.path(), arguments);
        command.env("ESKER_CONFIG", self.path("config")).env("ESKER_CACHE_DIR", self.path("cache"));
        command
    }

    fn run(&self, arguments: &[&str]) -> Run {
        Run::of(self.command(arguments).output().unwrap())
    }

    /// Until a file is there.
    fn wait_for(&self, name: &str) {
        let patience = Instant::now() + Duration::from_secs(60);
        while !self.path(name).exists() {
            assert!(Instant::now() < patience, "{name} never came");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Bits all over the packs of a repository are others.
    fn damage(&self, repository: &str) {
        for pack in files(&self.path(repository).join("packs")) {
            let mut bytes = fs::read(&pack).unwrap();
            bytes.iter_mut().step_by(16).for_each(|byte| *byte ^= 1);
            fs::set_permissions(&pack, fs::Permissions::from_mode(0o600)).unwrap();
            fs::write(&pack, bytes).unwrap();
        }
    }

    #[track_caller]
    fn ends(&self, code: i32, arguments: &[&str]) -> Run {
        let ran = self.run(arguments);
        assert_eq!(ran.code, code, "{arguments:?}: {}{}", ran.out, ran.err);
        ran
    }

    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> Run {
        self.ends(0, arguments)
    }

    /// Status of each snapshot of a repository.
    fn snapshots(&self, repository: &str) -> Vec<String> {
        let listed = self.ok(&["-r", repository, "--json", "snapshots"]);
        let snapshots = listed.of_type("snapshot").into_iter();
        snapshots.map(|line| line["status"].as_str().unwrap().to_owned()).collect()
    }
}

const SOURCES: &str = "
[[profiles.web.sources]]
paths = ['BASE/tree']
[[profiles.web.sources]]
name = 'dump'
command = 'cat BASE/dump'
ends_with = '-- end'
restore = 'cat >BASE/restored'
";

fn web(settings: &str) -> Machine {
    let machine = Machine::new(&format!("[profiles.web]\n{settings}\n{SOURCES}"));
    machine.write("dump", "rows\n-- end\n");
    machine
}

#[test]
fn paths_and_a_command_come_into_one_snapshot_and_back() {
    let machine = web("repositories = ['one']");
    machine.ok(&["run", "web"]);
    assert_eq!(machine.snapshots("one"), ["complete"]);
    fs::remove_dir_all(machine.path("tree")).unwrap();
    machine.ok(&["-r", "one", "restore", "--profile", "web", "latest", "--yes"]);
    assert_eq!(machine.read("tree/file"), "as it was");
    assert_eq!(machine.read("restored"), "rows\n-- end\n");
}

#[test]
fn a_dump_without_its_end_makes_the_snapshot_partial_and_is_named() {
    let machine = web("repositories = ['one']");
    for (dump, reason) in [("", "nothing"), ("rows\n", "-- end")] {
        machine.write("dump", dump);
        let ran = machine.ends(3, &["run", "web"]);
        assert!(ran.err.contains("dump") && ran.err.contains(reason), "{}", ran.err);
    }
    assert_eq!(machine.snapshots("one"), ["partial", "partial"]);
}

#[test]
fn a_missing_program_is_named_before_anything_starts() {
    let machine = Machine::new(
        "[profiles.web]
        repositories = ['one']
        hooks.before = [{ run = 'touch BASE/begun' }]
        [[profiles.web.sources]]
        name = 'dump'
        command = ['no-such-dump-program', '--all']",
    );
    let ran = machine.ends(2, &["run", "web"]);
    assert!(ran.err.contains("no-such-dump-program"), "{}", ran.err);
    assert!(machine.snapshots("one").is_empty());
}

#[test]
fn what_one_repository_missed_it_gets_in_the_next_run() {
    let machine = web("repositories = ['one', 'two']\npromises.maximum_age = '1d'");
    machine.ok(&["run", "web"]);
    for away in ["two", "one"] {
        let elsewhere = machine.path("elsewhere");
        fs::rename(machine.path(away), &elsewhere).unwrap();
        machine.write("tree/file", &format!("changed while {away} was away"));
        let ran = machine.ok(&["run", "web"]);
        assert!(ran.err.contains(&format!("repository {away} is away")), "{}", ran.err);
        fs::rename(&elsewhere, machine.path(away)).unwrap();
    }
    machine.ok(&["run", "web"]);
    // the night each was away is there as well
    assert_eq!(machine.snapshots("one"), ["complete"; 4]);
    assert_eq!(machine.snapshots("two"), ["complete"; 4]);
    for name in ["one", "two"] {
        fs::rename(machine.path(name), machine.path(&format!("{name}-away"))).unwrap();
    }
    machine.ends(75, &["run", "web"]);
}

#[test]
fn hooks_are_told_how_it_ended() {
    let machine = web("repositories = ['one']
        [profiles.web.hooks]
        before = [{ run = 'echo $ESKER_HOOK $ESKER_PROFILE >>BASE/told; test ! -e BASE/stop' }]
        success = [{ run = 'echo success $ESKER_STATUS ${#ESKER_SNAPSHOT_ID} >>BASE/told' }]
        failure = [{ run = 'echo failure $ESKER_STATUS $ESKER_EXIT_CODE >>BASE/told' }]
        finally = [{ run = 'echo finally >>BASE/told' }]");
    let told = |code: i32| {
        let _ = fs::remove_file(machine.path("told"));
        machine.ends(code, &["run", "web"]);
        machine.read("told")
    };
    assert_eq!(told(0), "before web\nsuccess complete 32\nfinally\n");
    machine.write("dump", "half");
    assert_eq!(told(3), "before web\nfailure partial 3\nfinally\n");
    machine.write("stop", "");
    assert_eq!(told(1), "before web\nfailure failed 1\nfinally\n");
    assert_eq!(machine.snapshots("one").len(), 2);
}

#[test]
fn steps_follow_when_they_are_due() {
    let machine = web("repositories = ['one']
        retention = { last = 1 }
        prune = { every = '7d' }
        check = { every = '7d', read_data = '100%' }");
    let first = machine.ok(&["run", "web"]);
    assert!(first.err.contains("no damage found"), "{}", first.err);
    machine.write("tree/file", "another");
    let second = machine.ok(&["run", "web"]);
    assert!(!second.err.contains("no damage found"), "{}", second.err);
    assert!(second.err.contains("1 snapshot forgotten"), "{}", second.err);
    assert_eq!(machine.snapshots("one").len(), 2);
}

#[test]
fn a_damaged_repository_is_20_and_the_backup_is_done_all_the_same() {
    let machine = web("repositories = ['one']\ncheck = { read_data = '100%' }");
    machine.ok(&["run", "web"]);
    machine.damage("one");
    machine.write("tree/new", "new");
    machine.ends(20, &["run", "web"]);
    assert_eq!(machine.snapshots("one").len(), 2);
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn a_mount_that_is_missing_fails_its_source_alone() {
    let machine = Machine::new(
        "[profiles.web]
        repositories = ['one']
        [[profiles.web.sources]]
        paths = ['BASE/tree']
        [[profiles.web.sources]]
        name = 'disk'
        paths = ['BASE/config']
        expect_mount = ['BASE/config']",
    );
    let ran = machine.ends(3, &["run", "web"]);
    assert!(ran.err.contains("disk") && ran.err.contains("mount"), "{}", ran.err);
    assert_eq!(machine.snapshots("one"), ["partial"]);
}

#[test]
fn only_what_is_due_runs() {
    let machine = web("repositories = ['one']\nschedule = ['2000-01-01']");
    machine.ok(&["run", "--due"]);
    assert!(machine.snapshots("one").is_empty());
    let hourly = web("repositories = ['one']\nschedule = ['*:*']");
    // seen for the first time: due at the next minute
    hourly.ok(&["run", "--due"]);
    assert!(hourly.snapshots("one").len() <= 1);
}

#[test]
fn a_dry_run_stores_nothing_and_runs_no_hook_and_no_command() {
    let machine = Machine::new(
        "[profiles.web]
        repositories = ['one']
        hooks.before = [{ run = 'touch BASE/begun' }]
        [[profiles.web.sources]]
        name = 'dump'
        command = 'touch BASE/begun; echo rows'
        hooks.before = [{ run = 'touch BASE/begun' }]",
    );
    let ran = machine.ok(&["run", "--dry-run", "web"]);
    assert!(ran.err.contains("dump"), "{}", ran.err);
    assert!(machine.snapshots("one").is_empty() && !machine.path("begun").exists());
}

#[test]
fn a_name_that_is_taken_gets_a_number() {
    let machine = web("repositories = ['one']\nname = '{profile}-tonight'");
    for _ in 0..3 {
        machine.ok(&["run", "web"]);
    }
    let listed = machine.ok(&["-r", "one", "--json", "snapshots"]).of_type("snapshot");
    let names: Vec<&str> = listed.iter().map(|line| line["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["web-tonight", "web-tonight-2", "web-tonight-3"]);
}
