//! Data that is missing or damaged, and a program that dies: no command may take a
//! part for the whole.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::home::{Home, assert_same, files, noise};

/// Takes everything, and only then says so.
const COMMITS: &str = "cat > got; touch committed";

fn feed<'a>(snapshot: &'a str, script: &'a str) -> Vec<&'a str> {
    vec!["restore", snapshot, "--yes", "--to-command", "--", "sh", "-c", script]
}

#[test]
fn missing_data_is_told_before_the_command_runs() {
    let home = Home::new();
    home.save_stream("db", &noise(70 << 20), &[]);
    let packs = home.packs(1);
    assert!(packs.len() > 1);
    let bytes = fs::read(&packs[1]).unwrap();
    let cases: [&dyn Fn(); 2] = [&|| fs::remove_file(&packs[1]).unwrap(), &|| {
        fs::write(&packs[1], &bytes[..1000]).unwrap()
    }];
    for damage in cases {
        damage();
        home.fails(20, &feed("latest:db", "touch ran"), "db: its data is missing");
        assert!(!home.has("ran"));
        home.fails(20, &["restore", "latest", "--to-tar"], "db: its data is missing");
    }
    fs::write(&packs[1], bytes).unwrap();
    home.ok(&feed("latest:db", "cat > got; touch committed"));
    assert!(home.has("committed"));
}

/// Names the file of a tree, not only the source.
#[test]
fn the_file_that_misses_data_is_named() {
    let home = Home::new();
    home.write("tree/x/whole", b"short");
    home.write("tree/x/lost", &noise(2 << 20));
    home.ok(&["backup", "tree"]);
    for pack in home.packs(1) {
        fs::remove_file(pack).unwrap();
    }
    let tree = format!("latest:{}", home.text("tree"));
    home.fails(20, &feed(&tree, "touch ran"), "tree/x/lost: its data is missing");
    assert!(!home.has("ran"));
}

/// Each repository lost something; together they have all, and only then something goes.
#[test]
fn a_second_repository_counts_before_anything_is_deleted() {
    let home = Home::new();
    home.write("tree/a", &noise(2 << 20));
    home.ok(&["backup", "tree"]);
    home.ok(&["-r", "other", "init", "--key-file", "other.key"]);
    home.ok(&["copy", "--to", "other", "--to-key-file", "other.key"]);
    home.ok(&["restore", "latest", "out"]);
    let extra = format!("out{}", home.text("tree/extra"));
    home.write(&extra, b"x");
    fs::remove_file(home.path(&format!("out{}", home.text("tree/a")))).unwrap();
    for pack in home.packs(1) {
        fs::remove_file(pack).unwrap();
    }
    let alone = ["restore", "latest", "out", "--delete", "--yes"];
    home.fails(20, &alone, "nothing was deleted or written");
    assert!(home.has(&extra));
    let second = ["--second", "other", "--second-key-file", "other.key"];
    home.ok(&[&alone[..], &second].concat());
    assert!(!home.has(&extra));
    assert_same(&home.path("tree"), &home.path(&format!("out{}", home.text("tree"))));
    home.write(&extra, b"x");
    for pack in files(&home.path("other/packs")) {
        fs::remove_file(pack).unwrap();
    }
    home.run(&[&alone[..], &second].concat());
    assert!(home.has(&extra));
}

#[test]
fn a_command_is_killed_before_it_sees_a_damaged_stream_end() {
    let home = Home::new();
    home.save_stream("db", &noise(70 << 20), &[]);
    let pack = home.packs(1).into_iter().next_back().unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&pack, bytes).unwrap();
    home.fails(20, &feed("latest:db", COMMITS), "damaged");
    assert!(home.has("got"), "it had begun");
    assert!(!home.has("committed"));
}

/// Waits for what another process is about to do.
#[track_caller]
fn wait_for(what: impl Fn() -> bool) {
    let started = Instant::now();
    while !what() {
        assert!(started.elapsed() < Duration::from_secs(60));
        std::thread::yield_now();
    }
}

/// Reads a little, says which process it is, and goes on when it is told to.
const WAITS: &str = "head -c 100 > /dev/null; echo $$ > pid.new; mv pid.new pid; \
                     while [ ! -e go ]; do sleep 0.05; done; cat > got; touch committed";

/// The program in the middle of a stream, and its own process number.
fn in_the_middle(home: &Home) -> (Child, String) {
    let child = home.command(&feed("latest:db", WAITS)).stderr(Stdio::null()).spawn().unwrap();
    wait_for(|| home.has("pid"));
    // the program is the parent of the command
    let pid = fs::read_to_string(home.path("pid")).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
    (child, parent.trim().to_owned())
}

fn signal(name: &str, pid: &str) {
    assert!(Command::new("kill").args([name, pid]).status().unwrap().success());
}

/// Nothing is left of the command: it was not only told that its input ended.
fn assert_gone(home: &Home) {
    let pid = fs::read_to_string(home.path("pid")).unwrap();
    let process = format!("/proc/{}/stat", pid.trim());
    // a process that nobody waited for yet is dead, too
    let lives = || fs::read_to_string(&process).is_ok_and(|stat| !stat.contains(") Z "));
    wait_for(|| !lives());
    home.write("go", b"");
    assert!(!home.has("got") && !home.has("committed"));
}

#[test]
fn a_command_does_not_outlive_a_program_that_is_killed() {
    let home = Home::new();
    home.save_stream("db", &noise(8 << 20), &[]);
    let (mut child, program) = in_the_middle(&home);
    signal("-KILL", &program);
    child.wait().unwrap();
    assert_gone(&home);
}

#[test]
fn an_interruption_ends_the_command() {
    let home = Home::new();
    home.save_stream("db", &noise(8 << 20), &[]);
    let (mut child, program) = in_the_middle(&home);
    signal("-TERM", &program);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_gone(&home);
}
