//! The program as people and scripts meet it: what it prints where, and how it
//! exits. Every test runs the real binary with a key file in a directory of its
//! own.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::program::{self, Run};
use tempfile::TempDir;

mod support;

/// A home of its own: nothing of the machine's configuration is seen.
struct Home {
    directory: TempDir,
}

impl Home {
    fn new() -> Home {
        Home { directory: tempfile::tempdir().unwrap() }
    }

    /// A home with a repository, made by `init` with a key file.
    fn with_repository() -> Home {
        let home = Home::new();
        home.ok(&["init", "--key-file", "key"]);
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn command(&self, arguments: &[&str]) -> Command {
        program::command(self.directory.path(), arguments)
    }

    fn run(&self, arguments: &[&str]) -> Run {
        Run::of(self.command(arguments).output().unwrap())
    }

    /// Runs what must end well.
    fn ok(&self, arguments: &[&str]) -> Run {
        let run = self.run(arguments);
        assert_eq!(run.code, 0, "{arguments:?}: {}", run.err);
        run
    }

    /// Runs what must fail with this code and one line that holds `word`.
    fn fails(&self, code: i32, arguments: &[&str], word: &str) {
        assert_fails(&self.run(arguments), code, word);
    }
}

/// One line that holds `word`, and this code.
#[track_caller]
fn assert_fails(run: &Run, code: i32, word: &str) {
    assert_eq!(run.code, code, "{}", run.err);
    let lines: Vec<&str> = run.err.lines().collect();
    assert_eq!(lines.len(), 1, "one line: {:?}", run.err);
    assert!(lines[0].starts_with("esker: ") && lines[0].contains(word), "{}", run.err);
}

fn tree(home: &Home) -> PathBuf {
    home.write("tree/a", b"text of a");
    let mut state = 1u32;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    home.write("tree/deep/er/b", &noise.take(100_000).collect::<Vec<u8>>());
    home.path("tree")
}

/// Two directories hold the same files.
fn assert_same(one: &Path, other: &Path) {
    let compared = Command::new("diff").arg("-r").args([one, other]).output().unwrap();
    assert!(compared.status.success(), "{}", String::from_utf8_lossy(&compared.stdout));
}

/// The three commands of the README: nothing is named, and it comes back.
#[test]
fn init_backup_restore_is_all_it_takes() {
    let home = Home::new();
    let tree = tree(&home);
    let init = home.ok(&["init", "--key-file", "key"]);
    assert_eq!(init.err.lines().count(), 2, "{}", init.err);
    assert!(init.err.contains(".local/share/esker/repository") && init.err.contains("/key"));
    assert!(init.err.contains("no backup until a copy"), "{}", init.err);
    assert_eq!(fs::metadata(home.path("key")).unwrap().permissions().mode() & 0o777, 0o600);
    let backup = home.ok(&["backup", "tree"]);
    assert!(backup.err.contains(".local/share/esker/repository"), "{}", backup.err);
    assert!(backup.out.is_empty(), "stdout is data");
    home.ok(&["restore", "latest", "out"]);
    let inside = tree.canonicalize().unwrap();
    assert_same(&tree, &home.path("out").join(inside.strip_prefix("/").unwrap()));
    home.ok(&["restore", &format!("latest:{}", inside.display()), "contents"]);
    assert_same(&tree, &home.path("contents"));
}

/// A job that lost its environment must fail, not back up to its own disk.
#[test]
fn only_init_makes_a_repository() {
    let home = Home::new();
    tree(&home);
    home.fails(10, &["backup", "tree"], "`esker init`");
    home.fails(10, &["backup", "tree"], "-r");
    home.fails(10, &["-r", "nowhere", "backup", "tree"], "-r");
    fs::create_dir(home.path("empty")).unwrap();
    home.write("key", format!("ESKER-KEY-1 {}\n", "07".repeat(32)).as_bytes());
    home.fails(10, &["-r", "empty", "--key-file", "key", "backup", "tree"], "no repository");
    assert!(!home.path("nowhere").exists());
    assert_eq!(fs::read_dir(home.path("empty")).unwrap().count(), 0);
}

/// A disk that is not mounted is said to be that.
#[test]
fn a_repository_that_went_away_is_named_as_such() {
    let home = Home::with_repository();
    tree(&home);
    home.ok(&["backup", "tree"]);
    let repository = home.path(".local/share/esker/repository");
    fs::rename(&repository, home.path("away")).unwrap();
    home.fails(10, &["backup", "tree"], "mounted");
    // the empty mount point
    fs::create_dir(&repository).unwrap();
    home.fails(10, &["backup", "tree"], "not the repository this machine used");
}

/// Another repository in the same place is noticed, and accepted when told so.
#[test]
fn a_replaced_repository_is_noticed() {
    let home = Home::new();
    tree(&home);
    home.ok(&["-r", "one", "init", "--key-file", "key"]);
    home.ok(&["-r", "one", "--key-file", "key", "backup", "tree"]);
    home.ok(&["-r", "two", "init", "--key-file", "key"]);
    fs::remove_dir_all(home.path("one")).unwrap();
    fs::rename(home.path("two"), home.path("one")).unwrap();
    let backup = ["-r", "one", "--key-file", "key", "backup", "tree"];
    home.fails(10, &backup, "--accept-other-repository");
    home.ok(&[&backup[..], &["--accept-other-repository"]].concat());
    home.ok(&backup);
}

#[test]
fn a_wrong_key_or_none_is_12() {
    let home = Home::with_repository();
    let wrong = format!("ESKER-KEY-1 {}\n", "08".repeat(32));
    home.write("wrong", wrong.as_bytes());
    home.write("password", b"guess\n");
    home.fails(12, &["--key-file", "wrong", "snapshots"], "wrong password or key");
    home.fails(12, &["--key-file", "absent", "snapshots"], "absent");
    home.fails(12, &["--key-file", "password", "snapshots"], "password");
    home.fails(12, &["--password-file", "password", "snapshots"], "wrong password or key");
    home.fails(12, &["--password-command", "exit 3", "snapshots"], "password command");
    // without a terminal nothing can be asked
    home.fails(12, &["-r", ".local/share/esker/repository", "snapshots"], "ESKER_PASSWORD_FILE");
}

#[test]
fn a_write_key_cannot_restore() {
    let home = Home::with_repository();
    tree(&home);
    home.ok(&["key", "add", "--role", "write", "--label", "laptop", "--new-key-file", "write"]);
    home.ok(&["--key-file", "write", "backup", "tree"]);
    for command in [&["restore", "latest", "out"][..], &["ls", "latest"], &["find", "a"]] {
        home.fails(13, &[&["--key-file", "write"], command].concat(), "a write key cannot");
    }
    assert!(!home.path("out").exists());
    home.ok(&["--key-file", "write", "snapshots"]);
    home.fails(13, &["--key-file", "write", "key", "rotate"], "a write key cannot");
}

#[test]
fn usage_errors_are_2() {
    let home = Home::with_repository();
    for arguments in [
        &["backup"][..],
        &["backup", "--no-such-option"],
        &["nonsense"],
        &["-r", "gopher://host/path", "snapshots"],
        &["-r", "sftp://ada:secret@host/path", "snapshots"],
        &["restore", "latest~x", "out"],
        &["backup", "--exclude", "[", "tree"],
        &["--key-file", "key", "--password-file", "x", "snapshots"],
        &["snapshots", "--latest", "many"],
    ] {
        assert_eq!(home.run(arguments).code, 2, "{arguments:?}");
    }
    home.fails(2, &["-r", "gopher://host/path", "snapshots"], "knows no store gopher");
    home.fails(2, &["-r", "s3://bucket?zone=1", "snapshots"], "has no option");
    let mut command = home.command(&["snapshots"]);
    command.env("ESKER_KEY_FILE", "key").env("ESKER_PASSWORD", "x");
    assert_fails(&Run::of(command.output().unwrap()), 2, "both set");
}

/// A server that is not there may come back.
#[test]
fn a_server_that_does_not_answer_is_75() {
    let home = Home::with_repository();
    home.write("key", format!("ESKER-KEY-1 {}\n", "07".repeat(32)).as_bytes());
    for scheme in ["ftp", "ftps"] {
        let address = format!("{scheme}://127.0.0.1:1/x?patience=0");
        home.fails(75, &["-r", &address, "--key-file", "key", "snapshots"], "nobody answers");
    }
}

#[test]
fn what_cannot_be_read_is_3_and_the_rest_is_saved() {
    let home = Home::with_repository();
    tree(&home);
    let run = home.run(&["backup", "tree", "absent"]);
    assert_eq!(run.code, 3, "{}", run.err);
    assert!(run.err.contains("absent") && run.err.contains("PARTIAL"), "{}", run.err);
    home.fails(1, &["backup", "absent"], "absent");
    home.fails(1, &["backup", "--require-all", "tree", "absent"], "absent");
    let snapshots = home.ok(&["snapshots", "--json"]);
    assert_eq!(snapshots.json().len(), 1, "only the partial one");
    assert_eq!(snapshots.last()["state"], "partial");
    // a partial snapshot is not the latest complete one
    home.fails(1, &["ls", "latest"], "no complete snapshot");
}

/// Files that wait for their turn leave enough to open for everything else.
#[test]
fn few_files_may_be_open_at_once() {
    let home = Home::with_repository();
    for file in 0..500 {
        home.write(
            &format!("tree/{}/{file}", file % 7),
            &format!("{file:9}").into_bytes().repeat(7000),
        );
    }
    let backup = home.command(&["backup", "tree", "--read-concurrency", "8"]);
    let mut few = Command::new("/bin/sh");
    few.args(["-c", "ulimit -n 64 && exec \"$0\" \"$@\""]).arg(backup.get_program());
    few.args(backup.get_args()).current_dir(home.directory.path()).env_clear();
    few.envs(backup.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let run = Run::of(few.stdin(Stdio::null()).output().unwrap());
    assert_eq!(run.code, 0, "{}", run.err);
    let inside = home.path("tree").canonicalize().unwrap();
    home.ok(&["restore", &format!("latest:{}", inside.display()), "out"]);
    assert_same(&inside, &home.path("out"));
}

#[test]
fn damage_is_20() {
    let home = Home::with_repository();
    let tree = tree(&home).canonicalize().unwrap();
    home.ok(&["backup", "tree"]);
    home.ok(&["check", "--read-data"]);
    let packs = home.path(".local/share/esker/repository/packs");
    // the greatest is the one with b's bytes; names and the rest stay whole
    let size = |path: &PathBuf| fs::metadata(path).unwrap().len();
    let pack = files_below(&packs).into_iter().max_by_key(size).unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    bytes[1000..90_000].iter_mut().step_by(32).for_each(|byte| *byte ^= 1);
    fs::set_permissions(&pack, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&pack, bytes).unwrap();
    // scrub needs no key
    let repository = home.path(".local/share/esker/repository");
    let scrub = home.run(&["-r", repository.to_str().unwrap(), "scrub"]);
    assert_eq!(scrub.code, 20, "{}", scrub.err);
    assert!(scrub.out.contains("packs/"), "{}", scrub.out);
    assert_eq!(home.run(&["check", "--read-data"]).code, 20);
    let json = home.run(&["check", "--read-data", "--json"]);
    assert_eq!(json.last()["ok"], false);
    let restore = home.run(&["restore", &format!("latest:{}", tree.display()), "out"]);
    assert_eq!(restore.code, 20, "{}", restore.err);
    assert!(restore.err.contains("out/deep/er/b"), "the file is named: {}", restore.err);
}

/// Damage from the day it is found to the day it is gone, as people meet it.
#[test]
fn damage_is_marked_healed_and_what_is_lost_is_left_out() {
    let home = Home::with_repository();
    let tree = tree(&home).canonicalize().unwrap();
    home.write("tree/c", &[b'c'; 9000]);
    home.ok(&["backup", "tree"]);
    let objects = |kind: &str| files_below(&home.path(".local/share/esker/repository").join(kind));
    let spoil = |file: &PathBuf| {
        let mut bytes = fs::read(file).unwrap();
        bytes[20] ^= 1;
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(file, bytes).unwrap();
    };
    // the greatest is the one with data
    let size = |path: &PathBuf| fs::metadata(path).unwrap().len();
    spoil(&objects("packs").into_iter().max_by_key(size).unwrap());
    let seen = home.run(&["check", "--read-data", "--no-mark", "--json"]);
    assert_eq!((seen.code, seen.last()["marks"].as_u64()), (20, Some(0)));
    let found = home.run(&["check", "--read-data"]);
    assert!(found.code == 20 && found.err.contains("1 snapshot marked"), "{}", found.err);
    let again = home.run(&["check", "--read-data", "--json"]);
    assert_eq!((again.code, again.last()["marks"].as_u64()), (20, Some(0)));
    // what was marked is read again also by a check that reads nothing else
    assert_eq!(home.run(&["check"]).code, 20);
    let backup = home.ok(&["backup", "tree"]);
    assert!(backup.err.contains("stored again"), "{}", backup.err);
    let healed = home.ok(&["check", "--read-data", "-v"]);
    assert!(healed.err.contains("healed"), "{}", healed.err);
    assert!(home.ok(&["check", "--json"]).last()["damaged_packs"][0]["healed"] == true);
    home.ok(&["restore", &format!("latest~1:{}", tree.display()), "out"]);
    assert_same(&tree, &home.path("out"));

    objects("index").iter().for_each(spoil);
    home.ok(&["--no-cache", "repair", "index", "--dry-run"]);
    assert_eq!(home.run(&["--no-cache", "check"]).code, 20);
    let listed = home.ok(&["--no-cache", "repair", "index"]);
    assert!(listed.err.contains("listed again"), "{}", listed.err);
    home.ok(&["--no-cache", "check", "--read-data"]);
    assert!(home.ok(&["repair", "index"]).err.contains("nothing to repair"));
    assert!(home.ok(&["repair", "snapshots"]).err.contains("nothing to repair"));
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// Ctrl-C ends a backup in good order, also one that waits for its input.
#[test]
fn an_interrupted_backup_is_130() {
    let home = Home::with_repository();
    let mut command = home.command(&["backup", "--stdin", "--json"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // it listens to signals from its first event on
    while !lines.next().unwrap().unwrap().contains("reading") {}
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    // it waits for more, and its input stays open: only the signal ends it
    let _input = child.stdin.take();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(130));
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert!(err.contains("interrupted"), "{err}");
    home.ok(&["check"]);
}

/// Every command that has something to say says it in JSON.
#[test]
fn json_of_every_command_parses() {
    let home = Home::new();
    tree(&home);
    let init = home.ok(&["init", "--key-file", "key", "--json"]).last();
    assert_eq!(init["type"], "repository");
    home.ok(&["backup", "tree", "--tag", "one", "--json", "--list"]);
    home.write("tree/a", b"another text");
    let summary = home.ok(&["backup", "tree", "--json"]).last();
    assert_eq!(summary["type"], "summary");
    assert_eq!(summary["files_changed"], 1, "{summary}");
    assert!(summary["repository"].as_str().unwrap().ends_with("esker/repository"));
    let id = summary["snapshot"].as_str().unwrap().to_owned();
    let snapshots = home.ok(&["snapshots", "--json"]).json();
    assert_eq!(snapshots[1]["id"], id.as_str());
    assert_eq!(snapshots[0]["tags"][0], "one");
    let inside = format!("latest:{}", home.path("tree").canonicalize().unwrap().display());
    for (arguments, kind) in [
        (&["ls", "-R", "latest"][..], "entry"),
        (&["find", "a"], "summary"),
        (&["diff", "latest~1", "latest"], "summary"),
        (&["stats"], "repository"),
        (&["check", "--refs"], "summary"),
        (&["repair", "index"], "summary"),
        (&["repair", "snapshots"], "summary"),
        (&["scrub"], "summary"),
        (&["restore", &inside, "out"], "summary"),
        (&["key", "list"], "key"),
        (&["key", "export"], "sheet"),
        (&["key", "rotate"], "rotated"),
        (&["cat", "config"], "object"),
        (&["cat", "latest"], "object"),
        (&["backup", "-n", "tree"], "summary"),
    ] {
        let run = home.ok(&[&["--json"], arguments].concat());
        assert_eq!(run.last()["type"], kind, "{arguments:?}: {}", run.out);
    }
    let error = home.run(&["--json", "restore", "ffff", "out"]);
    assert_eq!((error.code, error.last()["exit_code"].as_i64()), (1, Some(1)));
    assert_eq!(error.last()["type"], "error");
    let error = home.run(&["--json", "-r", "nowhere", "snapshots"]);
    assert_eq!(error.last()["kind"], "no_repository");
}

/// Each object that a repository holds can be looked at.
#[test]
fn cat_tells_every_kind_of_object() {
    let home = Home::with_repository();
    tree(&home);
    home.ok(&["backup", "tree"]);
    let repository = home.path(".local/share/esker/repository");
    let mut kinds = std::collections::BTreeSet::new();
    for file in files_below(&repository) {
        let key = file.strip_prefix(&repository).unwrap().to_str().unwrap().to_owned();
        if key == "reserve" {
            continue;
        }
        home.ok(&["cat", &key]);
        kinds.insert(key.split('/').next().unwrap().to_owned());
    }
    let expected = [
        "config",
        "config-updates",
        "confirmed",
        "index",
        "keys",
        "packs",
        "sessions",
        "snapshots",
    ];
    assert!(expected.iter().all(|kind| kinds.contains(*kind)), "{kinds:?}");
    home.fails(1, &["cat", "keys/00"], "no such object");
    home.fails(2, &["cat", "other/00"], "no key");
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let home = Home::with_repository();
    for number in 0..3000 {
        home.write(&format!("tree/{number:0100}"), b"");
    }
    home.ok(&["backup", "tree"]);
    for command in ["ls -R latest", "ls -R latest --json", "completions bash", "man"] {
        let esker = env!("CARGO_BIN_EXE_esker");
        let script = format!("{esker} {command} | head -n 1 >/dev/null; exit ${{PIPESTATUS[0]}}");
        let mut shell = Command::new("bash");
        shell.args(["-c", &script]).current_dir(home.directory.path());
        let run = Run::of(shell.env("HOME", home.directory.path()).output().unwrap());
        assert_eq!((run.code, run.err.as_str()), (0, ""), "{command}");
    }
}

/// A timer without HOME still runs; what it cannot cache it says.
#[test]
fn home_may_be_unset() {
    let home = Home::with_repository();
    tree(&home);
    let repository = home.path(".local/share/esker/repository");
    let mut command =
        home.command(&["-r", repository.to_str().unwrap(), "--key-file", "key", "backup", "tree"]);
    command.env_remove("HOME").env("ESKER_CACHE_DIR", "/proc/nowhere");
    let run = Run::of(command.output().unwrap());
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(run.err.contains("warning: cache /proc/nowhere"), "{}", run.err);
}

#[test]
fn quiet_is_silent_on_success_and_still_names_failures() {
    let home = Home::with_repository();
    tree(&home);
    let run = home.ok(&["-q", "backup", "tree"]);
    assert_eq!((run.out.as_str(), run.err.as_str()), ("", ""));
    let run = home.run(&["-q", "backup", "tree", "absent"]);
    assert_eq!((run.code, run.err.lines().count()), (3, 1), "{}", run.err);
}

/// Names that would move a cursor, or are no text, are shown harmlessly, and
/// byte for byte when asked for.
#[test]
fn hostile_names_are_shown_harmlessly() {
    use std::os::unix::ffi::OsStrExt;
    let home = Home::with_repository();
    let name = std::ffi::OsStr::from_bytes(b"x\x1b[2J\n\xff");
    fs::create_dir(home.path("tree")).unwrap();
    fs::write(home.path("tree").join(name), b"").unwrap();
    home.ok(&["backup", "tree"]);
    let listed = home.ok(&["ls", "-R", "latest"]);
    assert!(listed.out.contains("x\\u{1b}[2J\\n\\xff\n"), "{:?}", listed.out);
    let json = home.ok(&["ls", "-R", "latest", "--json"]).last();
    assert!(json["path_hex"].as_str().unwrap().ends_with("781b5b324a0aff"));
    let raw = home.command(&["ls", "-R", "-0", "latest"]).output().unwrap();
    assert!(raw.stdout.ends_with(b"/x\x1b[2J\n\xff\0"));
}

/// `latest` must not silently be another machine's.
#[test]
fn latest_of_several_hosts_asks_which() {
    let home = Home::with_repository();
    tree(&home);
    home.ok(&["backup", "tree", "--host", "one"]);
    home.ok(&["ls", "latest"]);
    home.ok(&["backup", "tree", "--host", "two"]);
    home.fails(2, &["ls", "latest"], "one, two");
    home.ok(&["ls", "latest", "--host", "two"]);
    home.ok(&["backup", "tree", "--host", "two", "--profile", "db"]);
    home.fails(2, &["ls", "latest", "--host", "two"], "db, default");
    home.ok(&["ls", "latest", "--host", "two", "--profile", "db"]);
    home.fails(1, &["ls", "latest~1", "--host", "one"], "but one");
    let source = home.path("tree").canonicalize().unwrap();
    home.ok(&["ls", "latest", "--host", "one", "--source", source.to_str().unwrap()]);
    home.fails(1, &["ls", "latest", "--source", "/elsewhere"], "no complete snapshot");
}

/// Standard input in, the same bytes out.
#[test]
fn streams_come_back_as_they_were() {
    let home = Home::with_repository();
    let file = home.write("dump.sql", &b"insert into t values (1);\n".repeat(10_000));
    let mut command = home.command(&["-q", "backup", "--stdin", "--stdin-name", "dump.sql"]);
    let run = Run::of(command.stdin(fs::File::open(&file).unwrap()).output().unwrap());
    assert_eq!(run.code, 0, "{}", run.err);
    let dumped = home.command(&["dump", "latest:dump.sql"]).output().unwrap();
    assert!(
        dumped.stdout == fs::read(&file).unwrap(),
        "{}",
        String::from_utf8_lossy(&dumped.stderr)
    );
}

/// Nothing is deleted that nobody confirmed.
#[test]
fn delete_asks_or_refuses() {
    let home = Home::with_repository();
    let tree = tree(&home).canonicalize().unwrap();
    home.ok(&["backup", "tree"]);
    let from = format!("latest:{}", tree.display());
    home.ok(&["restore", &from, "out"]);
    home.write("out/extra", b"mine");
    let run = home.run(&["restore", &from, "out", "--delete"]);
    assert_eq!(run.code, 2, "{}", run.err);
    assert!(run.err.contains("--yes") && home.path("out/extra").exists());
    home.ok(&["restore", &from, "out", "--delete", "--yes"]);
    assert!(!home.path("out/extra").exists());
}

/// A recipient's identity opens what was added for it.
#[test]
fn a_recipient_reads_with_its_identity() {
    let home = Home::with_repository();
    tree(&home);
    home.ok(&["backup", "tree"]);
    let admin = home.ok(&["cat", "config", "--json"]).last()["admin_key"].clone();
    let made = home.ok(&["key", "identity", "identity", "--admin-key", admin.as_str().unwrap()]);
    let recipient = made.out.trim().to_owned();
    home.ok(&["key", "add", "--role", "read", "--label", "auditor", "--recipient", &recipient]);
    home.ok(&["--identity", "identity", "restore", "latest", "out"]);
    home.ok(&["key", "remove", "auditor"]);
    home.fails(12, &["--identity", "identity", "restore", "latest", "out"], "no slot opens");
}

/// Only what works is offered, and every page can be made.
#[test]
fn help_manual_and_completions_are_there() {
    let home = Home::new();
    let help = home.ok(&["--help"]).out;
    assert!(!help.contains("\n  mount"), "mount does not work yet");
    assert!(home.ok(&["man"]).out.contains(".TH esker"));
    home.ok(&["man", "pages"]);
    assert!(home.path("pages/esker-backup.1").exists());
    for shell in ["bash", "zsh", "fish"] {
        assert!(home.ok(&["completions", shell]).out.contains("snapshots"));
    }
}
