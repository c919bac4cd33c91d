//! A disk that fills.

use std::process::Command;

use super::home::Home;
use super::support::program::Run;
use super::{drill, noise, recorded};

/// Runs in a mount namespace of its own, with a small disk over the directory `scratch`; says what is left there.
const SMALL: &str = r#"mount -t tmpfs -o "size=$1" none scratch && echo mounted >left || exit 99
shift; "$@"; code=$?; ls -A scratch >>left; exit $code"#;

/// Whether the cache or the files fill it, it is one sentence, nothing counts as practised, and nothing stays behind.
#[test]
fn a_full_disk_ends_the_drill_and_proves_nothing() {
    let home = Home::new();
    for number in 0..40 {
        home.write(&format!("tree/{number}"), &noise(number, 200 << 10));
    }
    home.ok(&["backup", "tree"]);
    std::fs::create_dir(home.path("scratch")).unwrap();
    // the cache does not fit; the index does not; the files do not
    for size in ["32k", "100k", "3m"] {
        let before = recorded(&home).len();
        let program = home.command(&["drill", "--all", "--scratch", "scratch"]);
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", SMALL, "sh", size]);
        command.arg(program.get_program()).args(program.get_args());
        command.current_dir(home.path("")).env_clear();
        command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let run = Run::of(command.output().unwrap());
        if !home.has("left") {
            println!("not run: mounting tmpfs is not permitted here: {}", run.err);
            return;
        }
        let left = std::fs::read_to_string(home.path("left")).unwrap();
        assert_eq!((run.code, left.as_str()), (1, "mounted\n"), "{size}: {}", run.err);
        let last = run.err.lines().last().unwrap_or_default();
        assert!(last.starts_with("esker: ") && last.contains("--scratch"), "{size}: {}", run.err);
        assert!(!run.err.contains("DRILL FAILED") && run.out.is_empty(), "{size}: {}", run.err);
        let records = recorded(&home);
        assert!(records.iter().all(|record| record["exit_code"] == 1), "{records:?}");
        // nothing can be recorded without the cache that opens the repository
        assert_eq!(records.len(), before + usize::from(size != "32k"), "{size}: {records:?}");
    }
    // with room it is good
    let run = drill(&home, &["--all"]);
    assert_eq!((run.code, &recorded(&home).pop().unwrap()["exit_code"]), (0, &0.into()));
}
