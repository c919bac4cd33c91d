//! Two hosts that contribute to one set.

use std::fs;

use serde_json::Value;

use super::home::{Home, noise};

/// A repository and the profiles of two hosts, each of which adds its part of a set.
fn two_hosts() -> Home {
    let home = Home::new();
    let base = home.text("");
    let base = base.trim_end_matches('/');
    let mut text = format!(
        "repository = 'main'\n[repositories.main]\nurl = '{base}/.local/share/esker/repository'\nkey_file = '{base}/key'\n"
    );
    for (host, directory) in [("one", "first"), ("two", "second")] {
        text += &format!(
            "[profiles.{host}]
repositories = ['main']
host = '{host}'
promises = {{ maximum_age = '1d' }}
set = {{ name = 'n-{{id}}', part = '{host}', parts = ['one', 'two'] }}
[[profiles.{host}.sources]]
paths = ['{base}/{directory}']
"
        );
        home.write(&format!("{directory}/file"), directory.as_bytes());
    }
    home.write(".config/esker/esker.toml", text.as_bytes());
    home
}

fn night(home: &Home, id: &str, hosts: &[&str]) {
    hosts.iter().for_each(|host| drop(home.ok(&["run", host, "--set-id", id])));
}

fn wholes(home: &Home) -> Vec<(String, bool)> {
    let listed = home.ok(&["--json", "snapshots"]).of_type("snapshot");
    let standing = listed.iter().filter(|snapshot| snapshot["forgotten"].is_null());
    let of = |snapshot: &Value| {
        let (set, part) = (&snapshot["set"]["name"], &snapshot["set"]["part"]);
        let name = format!("{}/{}", set.as_str().unwrap(), part.as_str().unwrap());
        (name, snapshot["set"]["whole"].as_bool().unwrap())
    };
    let mut wholes: Vec<_> = standing.map(of).collect();
    wholes.sort();
    wholes
}

fn expect(home: &Home, expected: &[(&str, bool)]) {
    let expected: Vec<_> = expected.iter().map(|(name, is)| ((*name).to_owned(), *is)).collect();
    assert_eq!(wholes(home), expected);
}

#[test]
fn a_set_is_whole_when_all_parts_are_and_comes_back_as_one() {
    let home = two_hosts();
    night(&home, "1", &["one"]);
    expect(&home, &[("n-1/one", false)]);
    let listed = home.ok(&["snapshots"]);
    let listed = listed.out;
    assert!(listed.contains("set lacks two") && listed.contains("n-1/one"), "{listed}");
    // nothing of a set that lacks a part is written
    home.fails(1, &["restore", "n-1", "out"], "lacks two");
    assert!(!home.has("out"));
    home.fails(1, &["restore", "--host", "one", "latest", "out"], "no complete snapshot");
    let status = home.run(&["status"]);
    let said = status.out.clone() + &status.err;
    assert_eq!(status.code, 21, "{said}");
    night(&home, "1", &["two"]);
    expect(&home, &[("n-1/one", true), ("n-1/two", true)]);
    home.ok(&["restore", "n-1", "out"]);
    for (part, directory) in [("one", "first"), ("two", "second")] {
        let path = format!("out/{part}{}", home.text(&format!("{directory}/file")));
        assert_eq!(fs::read(home.path(&path)).unwrap(), directory.as_bytes());
    }
    home.fails(2, &["restore", "n-1:/x", "other"], "as a whole");
    home.fails(2, &["ls", "n-1"], "one part of it");
}

/// The first part is not written when the last one has lost data; by its id it comes back alone.
#[test]
fn nothing_of_a_set_is_written_when_a_part_lost_data() {
    let home = two_hosts();
    home.write("first/file", &noise(300_000));
    home.write("second/file", &noise(400_000)[300_000..]);
    night(&home, "1", &["one"]);
    let before = home.packs(1);
    night(&home, "1", &["two"]);
    for pack in home.packs(1).iter().filter(|pack| !before.contains(pack)) {
        fs::remove_file(pack).unwrap();
    }
    home.fails(20, &["restore", "n-1", "out"], "nothing of the set was written");
    assert!(!home.has("out"));
    home.ok(&["restore", "--host", "one", "latest", "alone"]);
    let path = format!("alone{}", home.text("first/file"));
    assert_eq!(fs::read(home.path(&path)).unwrap(), noise(300_000));
}

#[test]
fn a_set_is_forgotten_and_taken_back_as_one() {
    let home = two_hosts();
    for id in ["1", "2", "3"] {
        night(&home, id, &["one", "two"]);
    }
    night(&home, "4", &["two"]);
    // as the retention of one of the hosts does
    home.ok(&["forget", "--yes", "--host", "one", "--profile", "one", "--keep-last", "1"]);
    let kept = [("n-3/one", true), ("n-3/two", true), ("n-4/two", false)];
    expect(&home, &kept);
    home.ok(&["undo", "n-2"]);
    let back = [&[("n-2/one", true), ("n-2/two", true)][..], &kept].concat();
    expect(&home, &back);
    home.ok(&["forget", "--yes", "n-2"]);
    expect(&home, &kept);
}
