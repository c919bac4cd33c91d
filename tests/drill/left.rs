//! What a drill uses of what is there, and what it leaves behind.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::home::{Home, files};
use super::{drill, noise};

fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    files(directory).into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// What this machine knows of the repository helps no drill and hinders none: here it is garbage, which stays as it is.
#[test]
fn the_cache_is_empty_and_leaves_nothing_behind() {
    let home = Home::new();
    home.write("tree/file", &noise(1, 1 << 20));
    home.ok(&["backup", "tree"]);
    home.ok(&["ls", "latest"]);
    for file in files(&home.path(".cache")) {
        fs::write(file, b"garbage").unwrap();
    }
    let cache = contents(&home.path(".cache"));
    assert!(!cache.is_empty());
    assert_eq!(drill(&home, &["--all"]).code, 0);
    assert_eq!(contents(&home.path(".cache")), cache);
    assert_eq!(fs::read_dir(home.path("scratch")).unwrap().count(), 0);
}

/// A drill in the middle of a command, which waits for the file `go`.
fn in_the_middle(home: &Home) -> Child {
    let waits = "db=touch begun; while [ ! -e go ]; do sleep 0.02; done; cat >got";
    let arguments = ["drill", "--scratch", "scratch", "--command", waits];
    let child = home.command(&arguments).stderr(Stdio::null()).spawn().unwrap();
    let started = Instant::now();
    while !home.has("begun") {
        assert!(started.elapsed() < Duration::from_secs(60));
        std::thread::yield_now();
    }
    fs::remove_file(home.path("begun")).unwrap();
    child
}

fn scratches(home: &Home) -> Vec<PathBuf> {
    let entries = fs::read_dir(home.path("scratch")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn what_a_killed_drill_left_goes_with_the_next_and_nothing_else() {
    let home = Home::new();
    home.save_stream("db", b"a stream", &[]);
    fs::create_dir(home.path("scratch")).unwrap();
    let mut killed = in_the_middle(&home);
    killed.kill().unwrap();
    killed.wait().unwrap();
    let left = scratches(&home);
    assert_eq!(left.len(), 1);

    let mut running = in_the_middle(&home);
    let its_own = scratches(&home);
    assert!(its_own.len() == 1 && its_own != left, "{its_own:?}");
    home.write("scratch/esker-drill-0123456789ab/file", b"of somebody else");
    let run = drill(&home, &[]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(its_own[0].exists());

    home.write("go", b"");
    assert!(running.wait().unwrap().success());
    assert_eq!(scratches(&home), [home.path("scratch/esker-drill-0123456789ab")]);
}
