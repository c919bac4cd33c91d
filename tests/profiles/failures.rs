//! What goes wrong around a backup, and what is done all the same.

use std::process::Command;

use super::support::program::Run;
use super::{Machine, web};

/// Two trees, of which one cannot be made ready.
#[test]
fn a_source_whose_hook_fails_is_alone_in_that_and_what_was_stopped_goes_on() {
    let machine = Machine::new(
        "[profiles.web]
        repositories = ['one']
        [[profiles.web.sources]]
        name = 'good'
        paths = ['BASE/tree']
        hooks.before = [{ run = 'echo stop good >>BASE/told' }]
        hooks.finally = [{ run = 'echo start good >>BASE/told' }]
        [[profiles.web.sources]]
        name = 'bad'
        paths = ['BASE/config']
        hooks.before = [{ run = 'echo stop bad >>BASE/told' }, { run = 'exit 7' }]
        hooks.failure = [{ run = 'echo failed bad >>BASE/told' }]
        hooks.finally = [{ run = 'echo start bad >>BASE/told' }]",
    );
    let ran = machine.ends(3, &["run", "web"]);
    assert!(ran.err.contains("bad") && ran.err.contains("before"), "{}", ran.err);
    assert_eq!(machine.read("told"), "stop good\nstop bad\nfailed bad\nstart bad\nstart good\n");
    assert_eq!(machine.snapshots("one"), ["partial"]);
    let snapshots = machine.ok(&["-r", "one", "--json", "snapshots"]).of_type("snapshot");
    let id = snapshots[0]["id"].as_str().unwrap();
    let listed = machine.ok(&["-r", "one", "ls", id, "--recursive"]).out;
    assert!(listed.contains("tree/file") && !listed.contains("esker.toml"), "{listed}");
}

/// Whoever ends a run does not want the application to stay down.
#[test]
fn hooks_that_follow_are_done_though_the_run_is_ended() {
    let machine = Machine::new(
        "[profiles.web]
        repositories = ['one']
        hooks.finally = [{ run = 'sleep 1; touch BASE/of-the-run' }]
        [[profiles.web.sources]]
        name = 'dump'
        command = 'touch BASE/begun; sleep 100'
        hooks.finally = [{ run = 'sleep 1; touch BASE/of-the-source' }]",
    );
    let child = machine.command(&["run", "web"]).stderr(std::process::Stdio::piped()).spawn();
    let child = child.unwrap();
    machine.wait_for("begun");
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let ended = Run::of(child.wait_with_output().unwrap());
    assert_eq!(ended.code, 130, "{}", ended.err);
    assert!(machine.path("of-the-source").exists(), "{}", ended.err);
    assert!(machine.path("of-the-run").exists(), "{}", ended.err);
}

/// Of the only record of a run there is.
#[track_caller]
fn log_of_run(machine: &Machine) -> String {
    let runs = machine.ok(&["-r", "one", "--json", "history", "--kind", "run"]).of_type("run");
    let [run] = &runs[..] else { panic!("{runs:?}") };
    machine.ok(&["-r", "one", "history", "--log", run["id"].as_str().unwrap()]).out
}

/// It put neither a snapshot nor a sign of life.
#[test]
fn a_run_that_failed_before_it_began_leaves_a_record_with_what_was_said() {
    let machine = web("repositories = ['one']
        hooks.before = [{ run = 'echo disk of the database is gone >&2; exit 1' }]");
    machine.ends(1, &["run", "web"]);
    let runs = machine.ok(&["-r", "one", "--json", "history", "--kind", "run"]).of_type("run");
    assert_eq!(runs[0]["exit_code"], 1, "{}", runs[0]);
    let told = log_of_run(&machine);
    assert!(told.contains("disk of the database is gone"), "{told}");
    let status = machine.ends(21, &["status", "--json"]).out;
    assert!(status.contains("unconfirmed") || status.contains("no_snapshot"), "{status}");
}

/// A command says something and ends well: it is kept, too.
#[test]
fn what_sources_say_is_kept() {
    let machine = Machine::new(
        "[profiles.web]
        repositories = ['one']
        [[profiles.web.sources]]
        name = 'dump'
        command = 'echo rows; echo three rows were strange >&2'",
    );
    machine.ok(&["run", "web"]);
    let told = log_of_run(&machine);
    assert!(told.contains("three rows were strange"), "{told}");
}

/// One repository cannot take anything: the night is in the other.
#[test]
fn a_repository_that_fails_does_not_take_the_night_from_the_others() {
    let machine = web("repositories = ['one', 'two']");
    machine.write("one/packs", "no directory");
    let ran = machine.run(&["run", "web"]);
    assert!(ran.code != 0, "{}", ran.err);
    assert_eq!(machine.snapshots("two"), ["complete"]);
}

#[test]
fn a_profile_that_is_under_way_keeps_no_other_from_its_run() {
    let machine = Machine::new(
        "[profiles.slow]
        repositories = ['one']
        sources = [{ name = 'dump', command = 'touch BASE/begun; cat BASE/fifo' }]
        [profiles.web]
        repositories = ['two']
        sources = [{ paths = ['BASE/tree'] }]",
    );
    let fifo = machine.path("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let mut slow = machine.command(&["run", "slow"]).spawn().unwrap();
    machine.wait_for("begun");
    let ran = machine.run(&["run", "slow", "web"]);
    std::fs::write(&fifo, "rows").unwrap();
    assert!(slow.wait().unwrap().success());
    assert_eq!(ran.code, 75, "{}", ran.err);
    assert_eq!(machine.snapshots("two"), ["complete"]);
}
