//! Native backups of NDB, whose files are made here: what is missing fails the source, whatever the command said.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use crate::memory::{Memory, capture_source, preset, restore, script, source, source_with_id};

/// The files that a data node leaves of a backup.
fn files(directory: &Path, id: u32, node: u32, parts: u32) {
    for part in 1..=parts {
        let mut base = directory.join(format!("BACKUP/BACKUP-{id}"));
        if parts > 1 {
            base = base.join(format!("BACKUP-{id}-PART-{part}-OF-{parts}"));
        }
        fs::create_dir_all(&base).unwrap();
        for name in [
            format!("BACKUP-{id}.{node}.ctl"),
            format!("BACKUP-{id}-0.{node}.Data"),
            format!("BACKUP-{id}.{node}.log"),
        ] {
            fs::write(base.join(&name), format!("{name} {part}")).unwrap();
        }
    }
}

fn lines(nodes: &[&Path], ids: &str, more: &str) -> String {
    let directories: Vec<String> =
        nodes.iter().map(|path| format!("'{}'", path.display())).collect();
    format!(
        "preset = {{ kind = 'ndb', directories = [{}], nodes = [{ids}] {more} }}\n",
        directories.join(", ")
    )
}

fn failure(lines: &str) -> String {
    capture_source(source(lines).unwrap()).1.expect_err(lines)
}

#[test]
fn a_whole_set_is_saved_and_put_back() {
    for parts in [1, 2] {
        let directory = tempfile::tempdir().unwrap();
        let nodes = ["node1", "node2"].map(|name| directory.path().join(name));
        for (node, path) in nodes.iter().enumerate() {
            files(path, 6, node as u32 + 3, parts);
            files(path, 7, node as u32 + 3, parts);
        }
        let lines = lines(&[&nodes[0], &nodes[1]], "3, 4", "");
        let (memory, outcome, told) = capture_source(source(&lines).unwrap());
        assert_eq!((outcome, told.id()), (Ok(()), Some(7)));
        assert_eq!(memory.files.len(), 6 * parts as usize + 1);
        let set: serde_json::Value = serde_json::from_slice(memory.bytes("set.json")).unwrap();
        assert_eq!(set, serde_json::json!({ "id": 7, "parts": { "3": parts, "4": parts } }));
        fs::remove_dir_all(&nodes[0]).unwrap();
        restore(&preset(&lines), &memory).unwrap();
        let base = nodes[0].join("BACKUP/BACKUP-7");
        let base = if parts == 1 { base } else { base.join("BACKUP-7-PART-2-OF-2") };
        assert_eq!(
            fs::read_to_string(base.join("BACKUP-7.4.ctl")).unwrap(),
            format!("BACKUP-7.4.ctl {parts}")
        );
    }
}

/// Directories come back as they were: with mode, owner and time.
#[test]
fn directories_of_a_backup_keep_what_is_known_of_them() {
    let home = tempfile::tempdir().unwrap();
    let place = |name: &str| home.path().join(name);
    let node = place("node1");
    files(&node, 7, 3, 2);
    let base = node.join("BACKUP/BACKUP-7");
    let part = |number: u32| base.join(format!("BACKUP-7-PART-{number}-OF-2"));
    let known = |path: &Path| {
        let metadata = fs::metadata(path).unwrap();
        (metadata.mode() & 0o7777, metadata.uid(), metadata.gid(), metadata.mtime())
    };
    let is_root = known(Path::new("/proc/self")).1 == 0;
    let all = [(base.clone(), 0o2750, 1), (part(1), 0o700, 2), (part(2), 0o755, 3)];
    for (path, mode, day) in all.iter().rev() {
        if is_root {
            std::os::unix::fs::chown(path, Some(4711), Some(4712)).unwrap();
        }
        fs::set_permissions(path, fs::Permissions::from_mode(*mode)).unwrap();
        let time = UNIX_EPOCH + Duration::from_secs(day * 86_400);
        fs::File::open(path).unwrap().set_modified(time).unwrap();
    }
    let before = all.each_ref().map(|(path, ..)| known(path));
    assert_eq!(
        before.map(|(mode, _, _, time)| (mode, time / 86_400)),
        [(0o2750, 1), (0o700, 2), (0o755, 3)]
    );

    let source = lines(&[&node], "3", "").replace('\n', "");
    let configuration = format!(
        "[repositories.r]\nurl = '{}'\nkey_file = '{}'\n\
         [profiles.ndb]\nrepositories = ['r']\nsources = [{{ name = 'ndb', {source} }}]\n",
        place("repository").display(),
        place("key").display()
    );
    fs::write(place("esker.toml"), configuration).unwrap();
    let esker = |arguments: &[&str]| esker(home.path(), arguments);
    esker(&["-r", "r", "init"]);
    esker(&["run", "ndb"]);
    fs::remove_dir_all(&base).unwrap();
    esker(&["restore", "--profile", "ndb", "latest", "--yes"]);
    assert_eq!(all.each_ref().map(|(path, ..)| known(path)), before);
}

#[test]
fn the_command_gets_the_number_and_its_exit_status_alone_proves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let node = directory.path().join("node1");
    files(&node, 41, 3, 2);
    let program = directory.path().join("ndb_mgm");
    let start =
        format!(", start = ['{}', 'START BACKUP {{id}} WAIT COMPLETED']", program.display());
    let lines = lines(&[&node], "3", &start);
    assert!(
        source(&lines).unwrap().check().unwrap_err().message.contains("ndb_mgm: no such program")
    );

    let make = |parts: &str, status: u8| {
        let body = format!(
            "set -e; id=$(echo \"$1\" | cut -d' ' -f3); for p in {parts}; do d={}/BACKUP/BACKUP-$id/BACKUP-$id-PART-$p-OF-2; mkdir -p $d
echo c >$d/BACKUP-$id.3.ctl; echo d >$d/BACKUP-$id-0.3.Data; echo l >$d/BACKUP-$id.3.log; done; echo said >&2; exit {status}",
            node.display()
        );
        script(&program, &body);
    };
    make("1 2", 0);
    source(&lines).unwrap().check().unwrap();
    let (memory, outcome, told) =
        capture_source(source_with_id(&lines, Some(4_294_967_295)).unwrap());
    assert_eq!((outcome, told.id()), (Ok(()), Some(u32::MAX)));
    assert_eq!(told.log.bytes(), b"said\n");
    assert!(
        memory.files.contains_key(
            "BACKUP-4294967295/BACKUP-4294967295-PART-1-OF-2/BACKUP-4294967295.3.ctl"
        )
    );
    assert!(failure(&lines).contains("no number is left"));
    fs::remove_dir_all(node.join("BACKUP/BACKUP-4294967295")).unwrap();

    let ends = || {
        let (_, outcome, told) = capture_source(source(&lines).unwrap());
        (outcome.unwrap_err(), told.id().unwrap())
    };
    make("1", 0);
    let (message, first) = ends();
    assert_eq!(message, format!("PART-2-OF-2 of backup {first} of node 3 has no .ctl file"));
    make("1 2", 9);
    assert_eq!(failure(&lines), "ndb_mgm ended with exit status 9: said");
    make("", 0);
    let (message, third) = ends();
    assert!(message.contains(&format!("BACKUP-{third}: it is not there")), "{message}");
    // one after the other, and none that was there long ago
    assert!(first > 1_700_000_000 && third >= first + 2, "{first} {third}");
    let (_, outcome, _) = capture_source(source_with_id(&lines, Some(41)).unwrap());
    assert!(outcome.unwrap_err().contains("is there already"));
}

/// Snapshots and sets are named before anything is captured.
#[test]
fn the_number_is_known_before_the_capture_and_counts() {
    let directory = tempfile::tempdir().unwrap();
    let node = directory.path().join("node1");
    files(&node, 6, 3, 1);
    files(&node, 7, 3, 1);
    let alone = lines(&[&node], "3", "");
    let started = lines(&[&node], "3", ", start = ['true', '{id}']");
    let (_, told) = source(&alone).unwrap().stream();
    assert_eq!(told.id(), Some(7));
    let (_, told) = source_with_id(&alone, Some(6)).unwrap().stream();
    assert_eq!(told.id(), Some(6));
    let (_, told) = source(&started).unwrap().stream();
    assert!(told.id() > Some(1_700_000_000));

    // what comes later has another number than the name
    let late = |id: Option<u32>| {
        let (stream, told) = source(&alone).unwrap().stream();
        assert_eq!(told.id(), id);
        files(&node, 8, 3, 1);
        let message = (stream.capture)(&mut Memory::default()).unwrap_err();
        assert!(message.contains("backup 8 appeared after the run had begun"), "{message}");
    };
    late(Some(7));
    fs::remove_dir_all(node.join("BACKUP")).unwrap();
    let (stream, told) = source(&alone).unwrap().stream();
    assert_eq!(told.id(), None);
    assert_eq!((stream.capture)(&mut Memory::default()).unwrap_err(), "no backup is there");
    late(None);
}

/// Runs by a schedule give no number: the set and the snapshot have the one that the source chose.
#[test]
fn a_run_without_a_number_names_set_and_snapshot_after_the_backup() {
    let home = tempfile::tempdir().unwrap();
    let place = |name: &str| home.path().join(name);
    let node = place("node1");
    fs::create_dir_all(&node).unwrap();
    let program = place("ndb_mgm");
    script(
        &program,
        &format!(
            "set -e; b=BACKUP-$1; d={}/BACKUP/$b; mkdir -p $d; for f in $b.3.ctl $b-0.3.Data $b.3.log; do echo x >$d/$f; done",
            node.display()
        ),
    );
    let configuration = |start: &str| {
        let source = lines(&[&node], "3", start).replace('\n', "");
        let text = format!(
            "[repositories.r]\nurl = '{}'\nkey_file = '{}'\n\
             [profiles.ndb]\nrepositories = ['r']\nname = 'ndb-{{id}}'\n\
             set = {{ name = 'set-{{id}}', part = 'node1', parts = ['node1'] }}\n\
             sources = [{{ name = 'ndb', {source} }}]\n",
            place("repository").display(),
            place("key").display()
        );
        fs::write(place("esker.toml"), text).unwrap();
    };
    let esker = |arguments: &[&str]| esker(home.path(), arguments);
    let newest = || {
        let names = fs::read_dir(node.join("BACKUP")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let number = |name: String| name.strip_prefix("BACKUP-").unwrap().parse::<u32>().unwrap();
        names.map(number).max().unwrap()
    };
    configuration(&format!(", start = ['{}', '{{id}}']", program.display()));
    esker(&["-r", "r", "init"]);
    esker(&["run", "ndb"]);
    let first = newest();
    esker(&["run", "ndb"]);
    let second = newest();
    // an external command left one
    configuration("");
    files(&node, second + 7, 3, 1);
    esker(&["run", "ndb"]);
    let listed = esker(&["-r", "r", "--json", "snapshots"]);
    for id in [first, second, second + 7] {
        assert!(listed.contains(&format!("\"name\":\"ndb-{id}\"")), "{id}: {listed}");
        assert!(listed.contains(&format!("set-{id}")), "{id}: {listed}");
    }
    assert!(first < second);
}

#[test]
fn whatever_is_missing_fails_the_source_and_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let nodes = ["node1", "node2"].map(|name| directory.path().join(name));
    let fresh = || {
        for (node, path) in nodes.iter().enumerate() {
            let _ = fs::remove_dir_all(path);
            files(path, 7, node as u32 + 3, 2);
        }
    };
    let lines = lines(&[&nodes[0], &nodes[1]], "3, 4", "");
    let base = nodes[1].join("BACKUP/BACKUP-7");
    let part = base.join("BACKUP-7-PART-2-OF-2");
    for (what, words) in [
        ("part", "PART-2-OF-2 of backup 7 of node 4 has no .ctl file"),
        ("node", "BACKUP-7: it is not there"),
        ("nothing", "backup 7 of node 4 is missing"),
        ("log", "PART-2-OF-2 of backup 7 of node 4 has no .log file"),
        ("empty", "BACKUP-7-0.4.Data: it is empty"),
        ("stranger", "files of node 9, which does not take part"),
        ("parts", "of node 4 is of 2 parts and of 3"),
        ("unknown", "readme: no file of backup 7"),
        ("twice", "are one and the same"),
    ] {
        fresh();
        match what {
            "part" => fs::remove_dir_all(&part).unwrap(),
            "node" => fs::remove_dir_all(&base).unwrap(),
            "nothing" => {
                fs::remove_dir_all(&base).unwrap();
                fs::create_dir_all(&base).unwrap();
            }
            "log" => fs::remove_file(part.join("BACKUP-7.4.log")).unwrap(),
            "empty" => fs::write(part.join("BACKUP-7-0.4.Data"), "").unwrap(),
            "stranger" => files(&nodes[1], 7, 9, 2),
            "parts" => files(&nodes[1], 7, 4, 3),
            "unknown" => fs::write(part.join("readme"), "x").unwrap(),
            _ => files(&nodes[0], 7, 4, 2),
        }
        let message = failure(&lines);
        assert!(message.contains(words), "{what}: {message}");
    }
    fresh();
    assert!(capture_source(source(&lines).unwrap()).1.is_ok());
    assert!(source("preset = { kind = 'ndb', directories = [], nodes = [1] }").is_err());
    assert!(source("preset = { kind = 'ndb', directories = ['/'], nodes = [1, 1] }").is_err());
}

/// Runs the program, with the configuration `esker.toml` of its home; what it prints.
#[track_caller]
fn esker(home: &Path, arguments: &[&str]) -> String {
    let mut esker = Command::new(env!("CARGO_BIN_EXE_esker"));
    esker.args(arguments).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", home);
    esker.env("ESKER_CONFIG", home.join("esker.toml")).stdin(Stdio::null());
    let output = esker.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}
