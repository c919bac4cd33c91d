//! Drills of real repositories in local directories, by the real program: what they cover, what they find, what they
//! say, and what they leave behind.

mod damage;
#[allow(dead_code)] // the part of it that is needed here
#[path = "../wayback/home.rs"]
mod home;
mod left;
mod live;
mod ring;
mod room;
#[path = "../support/mod.rs"]
mod support;

use serde_json::Value;

use home::Home;
use support::program::Run;

/// A drill in the directory `scratch` of the home.
fn drill(home: &Home, more: &[&str]) -> Run {
    std::fs::create_dir_all(home.path("scratch")).unwrap();
    home.run(&[&["drill", "--json", "--scratch", "scratch"], more].concat())
}

/// The one object of a kind that a command printed.
#[track_caller]
fn one(run: &Run, kind: &str) -> Value {
    let mut all = run.of_type(kind);
    assert_eq!(all.len(), 1, "{}", run.err);
    all.remove(0)
}

/// What the repository recorded of drills, oldest first.
fn recorded(home: &Home) -> Vec<Value> {
    home.ok(&["history", "--json", "--kind", "drill"]).of_type("run")
}

/// The log of the newest record of a drill.
fn last_log(home: &Home) -> String {
    let record = recorded(home).pop().expect("a drill was recorded");
    let log = home.ok(&["history", "--log", record["id"].as_str().unwrap()]);
    log.out
}

/// The texts of a list.
fn texts(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

/// Bytes that do not compress, others for each seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}
