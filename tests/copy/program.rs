//! `copy`, `init --chunker-from` and `restore --second` as people type them.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::world::noise;

struct Home(tempfile::TempDir);

struct Run {
    code: i32,
    out: String,
    err: String,
}

impl Run {
    fn json(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    fn types(&self) -> Vec<String> {
        let objects = self.json();
        let types = objects.iter().map(|object| object["type"].as_str().unwrap().to_owned());
        types.filter(|kind| kind != "stage").collect()
    }
}

impl Home {
    /// Two repositories with a key file each, and a tree that the first has saved.
    fn new() -> Home {
        let home = Home(tempfile::tempdir().unwrap());
        fs::create_dir_all(home.path("tree/deep")).unwrap();
        fs::write(home.path("tree/text"), "text").unwrap();
        fs::write(home.path("tree/deep/noise"), noise(50, 1 << 20)).unwrap();
        home.ok(&["-r", "one", "--key-file", "key1", "init", "--chunk-size", "8K"]);
        home.ok(&["-r", "one", "--key-file", "key1", "backup", "--tag", "first", "tree"]);
        home
    }

    fn init_two(&self) {
        self.ok(&["-r", "two", "--key-file", "key2", "init"]);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_esker"));
        command.args(arguments).current_dir(self.0.path()).env_clear();
        command.env("PATH", "/usr/bin:/bin").env("HOME", self.0.path()).env("TZ", "UTC");
        command.stdin(Stdio::null());
        command
    }

    fn finish(mut command: Command) -> Run {
        let output = command.output().unwrap();
        Run {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn run(&self, arguments: &[&str]) -> Run {
        Home::finish(self.command(arguments))
    }

    fn ok(&self, arguments: &[&str]) -> Run {
        let run = self.run(arguments);
        assert_eq!(run.code, 0, "{arguments:?}: {}", run.err);
        run
    }

    /// Of the first repository.
    fn lose_longest_pack(&self) {
        let mut packs = Vec::new();
        for directory in fs::read_dir(self.path("one/packs")).unwrap() {
            let found = fs::read_dir(directory.unwrap().path()).unwrap();
            packs.extend(found.map(|pack| pack.unwrap().path()));
        }
        packs.sort_by_key(|path| fs::metadata(path).unwrap().len());
        fs::remove_file(packs.pop().unwrap()).unwrap();
    }

    fn copy(&self, arguments: &[&str]) -> Run {
        let usual =
            ["-r", "one", "--key-file", "key1", "copy", "--to", "two", "--to-key-file", "key2"];
        self.run(&[&usual[..], arguments].concat())
    }
}

#[test]
fn a_copy_says_what_it_did() {
    let home = Home::new();
    home.init_two();
    let planned = home.copy(&["--dry-run"]);
    assert_eq!((planned.code, planned.out.lines().count()), (0, 1), "{}", planned.err);
    assert!(planned.out.starts_with("copy snapshot "), "{}", planned.out);
    let copied = home.copy(&[]);
    assert_eq!(copied.code, 0, "{}", copied.err);
    assert!(copied.out.is_empty(), "stdout is data");
    assert!(copied.err.contains("1 snapshot copied to"), "{}", copied.err);
    let again = home.copy(&["--json", "latest"]);
    assert_eq!(again.types(), ["there", "summary"], "{}", again.err);
    assert_eq!(home.copy(&["--quiet"]).err, "");
    home.ok(&["-r", "two", "--key-file", "key2", "restore", "latest", "out"]);
    home.ok(&["-r", "two", "--key-file", "key2", "check", "--read-data"]);
}

#[test]
fn filters_choose_what_is_copied() {
    let home = Home::new();
    home.init_two();
    home.ok(&["-r", "one", "--key-file", "key1", "backup", "--tag", "second", "tree"]);
    assert_eq!(home.copy(&["--json", "--tag", "nothing"]).types(), ["summary"]);
    assert_eq!(home.copy(&["--json", "--tag", "second"]).types(), ["copied", "summary"]);
    assert_eq!(home.copy(&["--json", "--dry-run"]).types(), ["copy", "there"]);
    assert_eq!(home.copy(&["--json", "latest~1"]).types(), ["copied", "summary"]);
    assert_eq!(home.copy(&["absent"]).code, 1);
}

#[test]
fn the_other_repository_is_opened_by_what_is_said_of_it() {
    let home = Home::new();
    home.init_two();
    let source = ["-r", "one", "--key-file", "key1", "copy"];
    let no_place = home.run(&source);
    assert!(no_place.code == 2 && no_place.err.contains("--to"), "{}", no_place.err);
    let no_key = home.run(&[&source[..], &["--to", "two", "--to-key-file", "key1"]].concat());
    assert!(no_key.code == 12 && no_key.err.contains("two"), "{}", no_key.err);
    let nowhere = home.run(&[&source[..], &["--to", "three", "--to-key-file", "key2"]].concat());
    assert_eq!(nowhere.code, 10, "{}", nowhere.err);
    let itself = home.run(&[&source[..], &["--to", "one", "--to-key-file", "key1"]].concat());
    assert_eq!(itself.code, 2, "{}", itself.err);
    let stray = home.run(&[&source[..], &["--to-key-file", "key2"]].concat());
    assert_eq!(stray.code, 2, "{}", stray.err);
    let mut command = home.command(&source);
    command.env("ESKER_TO_REPOSITORY", "two").env("ESKER_TO_KEY_FILE", "key2");
    assert_eq!(Home::finish(command).code, 0);
    let mut command = home.command(&source);
    command.env("ESKER_TO_REPOSITORY", "two").env("ESKER_TO_KEY_FILE", "key2");
    let both = Home::finish({
        command.env("ESKER_TO_PASSWORD", "x");
        command
    });
    assert!(both.code == 2 && both.err.contains("ESKER_TO_PASSWORD and"), "{}", both.err);
}

/// Whoever cuts alike finds what was copied when it backs up the same files.
#[test]
fn a_repository_made_to_cut_alike_shares_chunks() {
    let added = |home: &Home| {
        assert_eq!(home.copy(&[]).code, 0);
        let backup = ["-r", "two", "--key-file", "key2", "--json", "backup", "--reread", "tree"];
        let objects = home.ok(&backup).json();
        objects.last().unwrap()["bytes_added"].as_u64().unwrap()
    };
    let alike = Home::new();
    let from = ["--chunker-from", "one", "--chunker-from-key-file", "key1"];
    alike.ok(&[&["-r", "two", "--key-file", "key2", "init"], &from[..]].concat());
    assert!(added(&alike) < 64 << 10);
    let other = Home::new();
    other.init_two();
    assert!(added(&other) > 512 << 10);
    let clash =
        [&["-r", "x", "--key-file", "k", "init", "--chunk-size", "64K"], &from[..]].concat();
    assert_eq!(other.run(&clash).code, 2);
    assert!(!other.path("x").exists() && !other.path("k").exists());
}

#[test]
fn damage_is_named_and_the_second_repository_helps() {
    let home = Home::new();
    home.init_two();
    assert_eq!(home.copy(&[]).code, 0);
    fs::write(home.path("tree/new"), noise(51, 2 << 20)).unwrap();
    home.ok(&["-r", "one", "--key-file", "key1", "backup", "tree"]);
    // what is new, then what was copied: that is read from nowhere
    home.lose_longest_pack();
    home.lose_longest_pack();
    let damaged = home.copy(&["--json"]);
    assert_eq!((damaged.code, damaged.types().join(" ")), (20, "there damaged summary".into()));
    assert!(damaged.err.contains("DAMAGED"), "{}", damaged.err);
    let restore = ["-r", "one", "--key-file", "key1", "restore", "latest~1", "out"];
    assert_eq!(home.run(&restore).code, 20);
    let second = ["--second", "two", "--second-key-file", "key2"];
    let restored = home.ok(&[&restore[..], &second[..]].concat());
    assert!(restored.err.contains("2 files could not be read"), "{}", restored.err);
    let inside = home.path("tree").canonicalize().unwrap();
    let out = home.path("out").join(inside.strip_prefix("/").unwrap());
    assert_eq!(fs::read(out.join("deep/noise")).unwrap(), noise(50, 1 << 20));
    let newest = ["-r", "one", "--key-file", "key1", "restore", "latest", "out2"];
    let none = home.run(&[&newest[..], &second[..]].concat());
    assert!(none.code == 1 && none.err.contains("holds neither"), "{}", none.err);
}
