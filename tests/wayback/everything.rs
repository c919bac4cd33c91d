//! All of a snapshot back as its profile says: in order, and only if all of it is there.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, UNIX_EPOCH};

use super::home::{Home, noise};

/// A machine whose profile `web` has two directories and two dumps.
pub fn machine() -> Home {
    let home = Home::new();
    let base = home.text("");
    let base = base.trim_end_matches('/');
    let text = format!(
        "[repositories.main]
url = '{base}/.local/share/esker/repository'
key_file = '{base}/key'

[profiles.web]
repositories = ['main']

[[profiles.web.sources]]
paths = ['{base}/tree', '{base}/other']

[[profiles.web.sources]]
name = 'second'
command = 'cat {base}/dumps/second'
restore = 'cat >{base}/second; echo second >>{base}/order'
restore_order = 2

[[profiles.web.sources]]
name = 'first'
command = 'cat {base}/dumps/first'
restore = 'test ! -e {base}/fail && cat >{base}/first && echo first >>{base}/order'
restore_order = 1
"
    );
    home.write(CONFIGURATION, text.as_bytes());
    home.write("tree/a", b"of the tree");
    home.write("other/b", b"of the other");
    home.write("dumps/first", b"rows\n");
    home.write("dumps/second", &noise(2 << 20));
    home.ok(&["run", "web"]);
    home
}

const CONFIGURATION: &str = ".config/esker/esker.toml";
const BACK: [&str; 5] = ["restore", "--profile", "web", "latest", "--yes"];

#[test]
fn everything_comes_back_in_its_order() {
    let home = machine();
    fs::remove_dir_all(home.path("tree")).unwrap();
    fs::remove_dir_all(home.path("other")).unwrap();
    home.fails(2, &BACK[..4], "say --yes");
    assert!(!home.has("tree") && !home.has("order"));
    let run = home.ok(&[&["--json"], &BACK[..]].concat());
    assert!(run.of_type("step").iter().all(|step| step["outcome"] == "restored"));
    assert_eq!(fs::read(home.path("tree/a")).unwrap(), b"of the tree");
    assert_eq!(fs::read(home.path("other/b")).unwrap(), b"of the other");
    assert_eq!(fs::read(home.path("second")).unwrap(), noise(2 << 20));
    assert_eq!(fs::read(home.path("order")).unwrap(), b"first\nsecond\n");
}

/// Several steps write into them; whichever made them, they come back as the snapshot knows them, and what was there
/// before stays as it is.
#[test]
fn directories_above_come_back_as_they_were() {
    let home = Home::new();
    let base = home.text("");
    let base = base.trim_end_matches('/');
    let source = |path: &str, order: u8| {
        format!("[[profiles.web.sources]]\npaths = ['{base}/{path}']\nrestore_order = {order}\n")
    };
    let text = format!(
        "[repositories.main]\nurl = '{base}/.local/share/esker/repository'\nkey_file = '{base}/key'\n\
         [profiles.web]\nrepositories = ['main']\n{}{}{}",
        source("top/deep/one", 1),
        source("top/deep/two", 2),
        source("top/other/three", 3)
    );
    home.write(".config/esker/esker.toml", text.as_bytes());
    for file in ["top/deep/one/a", "top/deep/two/b", "top/other/three/c", "top/not/saved"] {
        home.write(file, b"x");
    }
    let known = |name: &str| {
        let metadata = fs::metadata(home.path(name)).unwrap();
        (metadata.mode() & 0o7777, metadata.modified().unwrap())
    };
    let names = ["top/deep/one", "top/deep/two", "top/deep", "top/other", "top"];
    for (day, name) in (1..).zip(names) {
        let path = home.path(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o710 + day as u32)).unwrap();
        let time = UNIX_EPOCH + Duration::from_secs(day * 86_400);
        fs::File::open(&path).unwrap().set_modified(time).unwrap();
    }
    let before = names.map(known);
    home.ok(&["run", "web"]);
    fs::remove_dir_all(home.path("top")).unwrap();
    home.ok(&BACK);
    assert_eq!(names.map(known), before);

    fs::remove_dir_all(home.path("top/deep")).unwrap();
    fs::set_permissions(home.path("top"), fs::Permissions::from_mode(0o700)).unwrap();
    home.ok(&BACK);
    assert_eq!(known("top").0, 0o700);
    assert_eq!(names[..4].iter().map(|name| known(name)).collect::<Vec<_>>(), before[..4]);
}

#[test]
fn after_a_step_that_fails_none_follows() {
    let home = machine();
    home.write("fail", b"");
    let run = home.run(&[&["--json"], &BACK[..]].concat());
    assert_eq!(run.code, 1, "{}", run.err);
    let steps = run.of_type("step");
    let outcome = |name: &str| steps.iter().find(|step| step["name"] == name).unwrap();
    assert_eq!(outcome("first")["outcome"], "failed");
    assert_eq!(outcome("second")["outcome"], "not_begun");
    assert!(!home.has("second"));
}

/// By its own command, and only that: also where the repository lost the others.
#[test]
fn one_source_comes_back_by_its_own_command() {
    let home = machine();
    fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
        [&BACK[..], more].concat()
    }
    home.fails(2, &[&BACK[..4], &["--source", "first"]].concat(), "say --yes");
    assert!(!home.has("first"));
    fs::remove_dir_all(home.path("tree")).unwrap();
    let run = home.ok(&with(&["--source", "first"]));
    assert!(run.err.contains("what was named is back"), "{}", run.err);
    assert_eq!(fs::read(home.path("first")).unwrap(), b"rows\n");
    assert_eq!(fs::read(home.path("order")).unwrap(), b"first\n");
    assert!(!home.has("tree") && !home.has("second"));
    // several, in their order, and a path alone of a source of two
    fs::remove_file(home.path("order")).unwrap();
    fs::remove_dir_all(home.path("other")).unwrap();
    let tree = home.text("tree");
    home.ok(&with(&["--source", "second", "--source", "first", "--source", &tree]));
    assert_eq!(fs::read(home.path("order")).unwrap(), b"first\nsecond\n");
    assert!(home.has("tree/a") && !home.has("other"));
    home.fails(1, &with(&["--source", "third"]), "no complete snapshot matches");

    // all of `second` is gone: nothing of it begins, and `first`, which lies elsewhere, does not need it
    let old = home.packs(1);
    home.write("other/b", b"of the other");
    home.write("dumps/first", b"more rows\n");
    home.ok(&["run", "web"]);
    for pack in old {
        fs::remove_file(pack).unwrap();
    }
    for name in ["first", "order", "second"] {
        fs::remove_file(home.path(name)).unwrap();
    }
    home.fails(20, &with(&["--source", "second"]), "its data is missing");
    assert!(!home.has("second") && !home.has("order"));
    home.ok(&with(&["--source", "first"]));
    assert_eq!(fs::read(home.path("first")).unwrap(), b"more rows\n");
}

/// What did not come along, and what no source of the profile brings back, is named: it is not all of it.
#[test]
fn what_stays_behind_is_named() {
    let home = machine();
    // a dump that ends half way and is not required, and a path and a stream that the profile does not know any more
    let text = fs::read_to_string(home.path(CONFIGURATION)).unwrap();
    let half = "[[profiles.web.sources]]\nname = 'half'\nrequired = false\ncommand = 'echo beginning; exit 1'\n";
    let half = format!("{half}restore = 'cat >{}'\n", home.text("half"));
    home.write(CONFIGURATION, format!("{text}{half}").as_bytes());
    home.ok(&["run", "web"]);
    let left = |words: &[&str]| {
        let run = home.run(&[&["--json"], words].concat());
        let steps = run.of_type("step").into_iter().filter(|step| step["outcome"] == "left");
        let names = steps.map(|step| step["name"].as_str().unwrap().to_owned());
        (run.code, names.collect::<Vec<_>>(), run.err)
    };
    let (code, names, said) = left(&BACK);
    assert_eq!((code, names), (3, vec!["half".to_owned()]), "{said}");
    assert!(said.contains("half failed"), "{said}");
    let told = home.run(&BACK);
    assert!(told.code == 3 && told.err.contains("not all of it is back"), "{}", told.err);
    assert!(!home.has("half"));

    let other = home.text("other");
    let without = format!("{text}{half}").replace(&format!(", '{other}'"), "");
    home.write(CONFIGURATION, without.replace("name = 'second'", "name = 'renamed'").as_bytes());
    let (code, names, said) = left(&BACK);
    assert_eq!((code, names), (3, ["half", &other, "second"].map(str::to_owned).into()), "{said}");
    assert!(said.contains("second is in snapshot"), "{said}");
    // each comes back as the sentence says
    home.ok(&["-r", "main", "restore", "latest", "--source", "second", "out"]);
    assert_eq!(fs::read(home.path("out/second")).unwrap(), noise(2 << 20));
}

/// A snapshot that is partial, by its id.
#[test]
fn a_source_that_failed_is_not_back() {
    let home = machine();
    fs::remove_file(home.path("dumps/first")).unwrap();
    assert_eq!(home.run(&["run", "web"]).code, 3);
    let listed = home.ok(&["-r", "main", "--json", "snapshots"]).of_type("snapshot");
    let partial = listed.iter().find(|snapshot| snapshot["status"] == "partial").unwrap();
    let id = partial["id"].as_str().unwrap();
    fs::remove_dir_all(home.path("tree")).unwrap();
    let run = home.run(&["restore", "--profile", "web", id, "--yes"]);
    assert_eq!(run.code, 3, "{}", run.err);
    assert!(run.err.contains("first failed") && !run.err.contains(": all of it"), "{}", run.err);
    assert!(home.has("tree/a") && home.has("second") && !home.has("first"));
}

/// One that takes nothing more, and one that has all and does not end: both are over when the source's time is.
#[test]
fn a_restore_command_that_hangs_is_ended() {
    let home = machine();
    let text = fs::read_to_string(home.path(CONFIGURATION)).unwrap();
    let hangs = |restore: &str, limit: &str, word: &str| {
        let old = text.lines().find(|line| line.starts_with("restore = 'cat >")).unwrap();
        let new = format!("restore = 'echo $$ >{}; {restore}'\n{limit}", home.text("pid"));
        home.write(CONFIGURATION, text.replace(old, &new).as_bytes());
        let run = home.run(&BACK);
        assert_eq!(run.code, 1, "{}", run.err);
        assert!(run.err.contains("second: failed") && run.err.contains(word), "{}", run.err);
        let pid = fs::read_to_string(home.path("pid")).unwrap();
        assert!(!fs::exists(format!("/proc/{}", pid.trim())).unwrap(), "it still runs");
    };
    for restore in ["head -c 10 >/dev/null; sleep 600", "cat >/dev/null; sleep 600"] {
        hangs(restore, "timeout = '1s'", "took longer than the 1 s");
        hangs(restore, "idle_timeout = '1s'", "gave no sign of life for 1 s");
    }
    // whoever goes on, however slowly, is not silent
    let slow = "for n in 1 2 3 4 5; do sleep 0.4; echo $n >&2; done; cat";
    let old = text.lines().find(|line| line.starts_with("restore = 'cat >")).unwrap();
    let new = old.replace("'cat", &format!("'{slow}")) + "\nidle_timeout = '1s'";
    home.write(CONFIGURATION, text.replace(old, &new).as_bytes());
    home.ok(&BACK);
    assert_eq!(fs::read(home.path("second")).unwrap(), noise(2 << 20));
}

/// What the last step lacks keeps the first one from beginning.
#[test]
fn nothing_is_touched_when_something_is_missing() {
    let home = machine();
    fs::remove_dir_all(home.path("tree")).unwrap();
    for pack in home.packs(1) {
        fs::remove_file(pack).unwrap();
    }
    home.fails(20, &BACK, "its data is missing");
    assert!(!home.has("tree") && !home.has("first") && !home.has("order"));
}
