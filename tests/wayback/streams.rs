//! One source of several, as files, into a command, as a tar stream.

use std::fs;
use std::process::{Command, Stdio};

use super::home::{Home, assert_same, noise};

/// A stream `db` and a tree in one snapshot.
fn saved() -> (Home, Vec<u8>) {
    let home = Home::new();
    home.write("tree/a", b"text of a");
    home.write("tree/deep/b", &noise(100_000));
    std::os::unix::fs::symlink("a", home.path("tree/link")).unwrap();
    let dump = noise(3 << 20);
    home.save_stream("db", &dump, &["tree"]);
    (home, dump)
}

#[test]
fn a_source_is_restored_alone_and_where_it_lies_in_the_whole() {
    let (home, dump) = saved();
    let tree = home.text("tree");
    home.ok(&["restore", "latest", "--source", "db", "one"]);
    assert_eq!(fs::read(home.path("one/db")).unwrap(), dump);
    assert_eq!(fs::read_dir(home.path("one")).unwrap().count(), 1);
    home.ok(&["restore", "latest", "--source", &tree, "other"]);
    assert!(!home.has("other/db"));
    assert_same(&home.path("tree"), &home.path(&format!("other{tree}")));
    home.ok(&["restore", "latest", "--source", &tree, "--source", "db", "both"]);
    home.ok(&["restore", "latest", "all"]);
    assert_same(&home.path("all"), &home.path("both"));
}

#[test]
fn a_source_narrows_to_snapshots_that_have_it() {
    let (home, dump) = saved();
    home.write("tree/a", b"later");
    home.ok(&["backup", "tree"]);
    home.ok(&["restore", "latest", "--source", "db", "out"]);
    assert_eq!(fs::read(home.path("out/db")).unwrap(), dump);
    home.fails(1, &["restore", "latest", "--source", "dc", "out"], "no complete snapshot matches");
    let listed = home.ok(&["snapshots", "--json"]).of_type("snapshot");
    let newest = listed.last().unwrap()["id"].as_str().unwrap();
    home.fails(1, &["restore", newest, "--source", "db", "out"], "has no source db; it has /");
    home.fails(2, &["restore", "latest:/etc", "--source", "db", "out"], "in no source");
    home.fails(2, &["restore", "latest", "--source", "a/b", "out"], "is no source");
}

/// What else lies in the target is another source's, and stays.
#[test]
fn deleting_keeps_to_the_source() {
    let (home, _) = saved();
    let tree = home.text("tree");
    home.ok(&["restore", "latest", "out"]);
    home.write(&format!("out{tree}/new"), b"new");
    home.write("out/beside", b"beside");
    home.ok(&["restore", "latest", "--source", &tree, "--delete", "--yes", "out"]);
    assert!(home.has("out/db") && home.has("out/beside"));
    assert!(!home.has(&format!("out{tree}/new")));
    // the other way round
    home.write(&format!("out{tree}/new"), b"new");
    home.ok(&["restore", "latest", "--source", "db", "--delete", "--yes", "out"]);
    assert!(home.has(&format!("out{tree}/new")));
}

#[test]
fn a_stream_goes_into_a_command() {
    let (home, dump) = saved();
    let to = ["restore", "latest", "--source", "db", "--yes", "--to-command", "--"];
    let run = home.ok(&[&to[..], &["sh", "-c", "cat > got; echo done >&2; echo printed"]].concat());
    assert_eq!(fs::read(home.path("got")).unwrap(), dump);
    assert_eq!(run.out, "printed\n");
    assert!(run.err.contains("db: done"), "{}", run.err);
    let run = home.ok(&[&["--json"], &to[..], &["sh", "-c", "cat > got; echo printed"]].concat());
    let summary = &run.of_type("summary")[0];
    assert_eq!(summary["bytes"], dump.len());
    assert_eq!(summary["command"][0], "sh");
    assert!(run.err.contains("printed"), "{}", run.err);
}

#[test]
fn a_directory_goes_into_a_command_as_a_tar_stream() {
    let (home, _) = saved();
    let tree = home.text("tree");
    fs::create_dir(home.path("out")).unwrap();
    let tar = ["--to-command", "--yes", "--", "tar", "-x", "-C", "out"];
    home.ok(&[&["restore", "latest", "--source", &tree], &tar[..]].concat());
    assert_same(&home.path("tree"), &home.path("out"));
    // and a part of a source
    let inside = format!("latest:{tree}/deep/b");
    home.ok(&["restore", &inside, "--to-command", "--yes", "--", "cp", "/dev/stdin", "b"]);
    assert_eq!(fs::read(home.path("b")).unwrap(), noise(100_000));
}

#[test]
fn a_command_that_does_not_take_all_has_failed() {
    let (home, _) = saved();
    let fails = |script: &str, word: &str| {
        let arguments = ["restore", "latest:db", "--yes", "--to-command", "--", "sh", "-c", script];
        home.fails(1, &arguments, word);
    };
    fails("cat > /dev/null; echo no such role >&2; exit 3", "exit status 3; it said: no such role");
    fails("head -c 10 > /dev/null; exit 4", "exit status 4");
    fails("head -c 10 > /dev/null", "says all is well, but took only");
    fails("kill -9 $$", "killed by signal 9");
    let absent = ["restore", "latest:db", "--yes", "--to-command", "--", "no-such-program"];
    home.fails(1, &absent, "no-such-program: there is no such program");
}

#[test]
fn nobody_is_there_to_ask() {
    let (home, _) = saved();
    let touch = ["--to-command", "--", "touch", "ran"];
    let arguments = [&["restore", "latest:db"], &touch[..]].concat();
    home.fails(2, &arguments, "say --yes");
    assert!(!home.has("ran"));
    let none = [&["restore", "latest", "--yes"], &touch[..]].concat();
    home.fails(2, &none, "takes one stream");
    assert_eq!(home.run(&["restore", "latest:db", "--to-command"]).code, 2);
    assert_eq!(home.run(&["restore", "latest:db", "--", "touch", "ran"]).code, 2);
    let target = [&["restore", "latest:db", "out", "--yes"], &touch[..]].concat();
    assert_eq!(home.run(&target).code, 2);
    home.fails(2, &["restore", "latest"], "restore where to?");
}

/// Member names of a tar stream, as GNU tar lists them.
fn listed(archive: &[u8]) -> Vec<String> {
    let mut tar =
        Command::new("tar").arg("-t").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = tar.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || std::io::Write::write_all(&mut input, archive).unwrap());
        let output = tar.wait_with_output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        let mut names: Vec<String> = text.lines().map(str::to_owned).collect();
        names.sort();
        names
    })
}

/// The stream of a selection has the members that GNU tar gives the same restored.
#[test]
fn a_tar_stream_is_what_a_restore_makes() {
    let (home, _) = saved();
    let tree = home.text("tree");
    let inside = format!("latest:{tree}");
    let selections: [&[&str]; 6] = [
        &["latest"],
        &["latest", "--source", "db"],
        &["latest", "--source", &tree],
        &[&inside],
        &["latest:db"],
        &["latest", "--include", "b"],
    ];
    for (number, selection) in selections.iter().enumerate() {
        let target = format!("out{number}");
        home.ok(&[&["restore"], *selection, &[&target]].concat());
        let mut expected = Command::new("tar");
        expected.args(["-c", "-C", &home.text(&target), "."]);
        let expected: Vec<String> = listed(&expected.output().unwrap().stdout)
            .into_iter()
            .map(|name| name.trim_start_matches("./").to_owned())
            .filter(|name| !name.is_empty())
            .collect();
        let archive = home.ok(&[&["restore"], *selection, &["--to-tar"]].concat()).bytes;
        let names: Vec<String> = listed(&archive).into_iter().filter(|name| name != "./").collect();
        assert_eq!(names, expected, "{selection:?}");
        let extracted = format!("extracted{number}");
        fs::create_dir(home.path(&extracted)).unwrap();
        let file = home.path("archive.tar");
        fs::write(&file, archive).unwrap();
        let tar = ["-x", "-C", &home.text(&extracted), "-f", file.to_str().unwrap()];
        assert!(Command::new("tar").args(tar).status().unwrap().success());
        assert_same(&home.path(&target), &home.path(&extracted));
    }
    home.fails(2, &["--json", "restore", "latest", "--to-tar"], "prints bytes");
}

/// Two sources of which both have a name: a reader of the stream would see one of them.
#[test]
fn a_tar_stream_has_no_name_twice() {
    let home = Home::new();
    let top = home.path("").components().nth(1).unwrap().as_os_str().to_owned();
    home.write("tree/a", b"a");
    home.save_stream(top.to_str().unwrap(), b"stream", &["tree"]);
    home.fails(1, &["restore", "latest", "--to-tar"], "two parts of the snapshot have this name");
}
