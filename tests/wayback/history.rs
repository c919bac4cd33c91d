//! What the repository tells of its own runs.

use std::fs;

use serde_json::Value;

use super::home::{Home, noise};

/// Kind, exit code and outcome of every run.
fn told(home: &Home, more: &[&str]) -> Vec<(String, i64, String)> {
    let run = home.ok(&[&["history", "--json"], more].concat());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let of = |item: Value| {
        (text(&item["kind"]), item["exit_code"].as_i64().unwrap_or(-1), text(&item["outcome"]))
    };
    run.of_type("run").into_iter().map(of).collect()
}

fn entry(kind: &str, code: i64, outcome: &str) -> (String, i64, String) {
    (kind.to_owned(), code, outcome.to_owned())
}

/// A backup that fails because packs cannot be put.
fn fail_backup(home: &Home) -> i32 {
    let packs = home.repository().join("packs");
    let aside = home.path("aside");
    fs::rename(&packs, &aside).unwrap();
    fs::write(&packs, b"").unwrap();
    home.write("tree/new", &noise(300_000));
    let code = home.run(&["backup", "tree"]).code;
    fs::remove_file(&packs).unwrap();
    fs::rename(&aside, &packs).unwrap();
    code
}

#[test]
fn every_run_is_told_with_how_it_ended() {
    let home = Home::new();
    home.write("tree/a", b"a");
    home.ok(&["backup", "tree"]);
    let code = fail_backup(&home);
    assert_ne!(code, 0);
    home.ok(&["check"]);
    home.ok(&["prune"]);
    let expected = [
        entry("backup", 0, "complete"),
        entry("backup", code.into(), "failed"),
        entry("check", 0, "done"),
        entry("prune", 0, "done"),
    ];
    assert_eq!(told(&home, &[]), expected);
    assert_eq!(told(&home, &["--kind", "check", "--kind", "prune"]), expected[2..]);
    assert_eq!(told(&home, &["--last", "1"]), expected[3..]);
    assert_eq!(told(&home, &["--host", "elsewhere"]), []);
    // records of what concerns no snapshot are of no profile
    assert_eq!(told(&home, &["--profile", "default"]), expected[..2]);
    let failed = home.ok(&["history", "--json"]).of_type("run").remove(1);
    let log = home.ok(&["history", "--log", failed["id"].as_str().unwrap()]);
    assert!(log.out.contains("packs/"));
    home.fails(1, &["history", "--log", "zz"], "no run has an id");
}

#[test]
fn a_copy_is_recorded_where_it_went() {
    let home = Home::new();
    home.write("tree/a", b"a");
    home.ok(&["backup", "tree"]);
    home.ok(&["-r", "other", "init", "--key-file", "other.key"]);
    home.ok(&["copy", "--to", "other", "--to-key-file", "other.key"]);
    assert_eq!(told(&home, &[]), [entry("backup", 0, "complete")]);
    let of_other = ["-r", "other", "--key-file", "other.key", "--kind", "copy"];
    assert_eq!(told(&home, &of_other), [entry("copy", 0, "done")]);
}

#[test]
fn what_a_check_found_is_in_its_log() {
    let home = Home::new();
    home.write("tree/a", &noise(100_000));
    home.ok(&["backup", "tree"]);
    let pack = home.packs(1).remove(0);
    let mut bytes = fs::read(&pack).unwrap();
    bytes[100] ^= 1;
    fs::write(&pack, bytes).unwrap();
    assert_eq!(home.run(&["check", "--read-data"]).code, 20);
    assert_eq!(told(&home, &["--kind", "check"]), [entry("check", 20, "damage")]);
    let check = home.ok(&["history", "--json", "--kind", "check"]).of_type("run").remove(0);
    let log = home.ok(&["history", "--log", check["id"].as_str().unwrap()]);
    let name = pack.file_name().unwrap().to_str().unwrap();
    assert!(log.out.contains(name));
}

/// Nothing is written, and nothing told.
#[test]
fn who_only_looks_leaves_no_record() {
    let home = Home::new();
    home.write("tree/a", b"a");
    home.ok(&["backup", "tree"]);
    home.ok(&["check", "--no-mark"]);
    home.ok(&["prune", "--dry-run"]);
    assert!(!home.repository().join("records").exists());
}
