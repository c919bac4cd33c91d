//! `esker forget` as people and scripts meet it.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::support::program::{self, Run};

/// A home with a repository and a directory to save.
struct Home {
    directory: TempDir,
}

impl Home {
    fn new() -> Home {
        let home = Home { directory: tempfile::tempdir().unwrap() };
        fs::create_dir(home.directory.path().join("tree")).unwrap();
        fs::write(home.directory.path().join("tree/a"), b"text").unwrap();
        home.ok("init --key-file key");
        home
    }

    fn run(&self, arguments: &str) -> Run {
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        Run::of(program::command(self.directory.path(), &arguments).output().unwrap())
    }

    fn ok(&self, arguments: &str) -> Run {
        let run = self.run(arguments);
        assert_eq!(run.code, 0, "{arguments}: {}", run.err);
        run
    }

    /// Runs what must fail with this code and one line that holds `word`.
    fn fails(&self, code: i32, arguments: &str, word: &str) {
        let run = self.run(arguments);
        assert_eq!(run.code, code, "{arguments}: {}", run.err);
        assert_eq!(run.err.lines().count(), 1, "{arguments}: {:?}", run.err);
        assert!(run.err.contains(word), "{arguments}: {}", run.err);
    }

    /// At a terminal, where `answer` is typed.
    fn at_terminal(&self, arguments: &str, answer: &str) -> Run {
        let mut command = Command::new("script");
        command.current_dir(self.directory.path()).env_clear();
        command.env("PATH", "/usr/bin:/bin").env("HOME", self.directory.path()).env("TZ", "UTC");
        let line = format!("{} {arguments}", env!("CARGO_BIN_EXE_esker"));
        command.args(["-qec", &line, "/dev/null"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
        Run::of(child.wait_with_output().unwrap())
    }

    fn back_up(&self, more: &str) -> String {
        let run = self.ok(&format!("backup tree --json {more}"));
        run.last()["snapshot"].as_str().unwrap().to_owned()
    }

    /// Ids of those that are not forgotten, oldest first.
    fn standing(&self) -> Vec<String> {
        let listed = self.ok("snapshots --json").json();
        let standing = listed.iter().filter(|object| object["forgotten"].is_null());
        standing.map(|object| object["id"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn something_must_be_said() {
    let home = Home::new();
    home.back_up("");
    home.fails(2, "forget", "forget what?");
    home.fails(2, "forget --host h", "forget what?");
    home.fails(2, "forget --keep-daily 0", "forget what?");
    home.fails(2, "forget latest --keep-daily 7", "not both");
    for wrong in ["--keep-within soon", "--zone Atlantis", "--group-by hosts", "--keep-daily x"] {
        assert_eq!(home.run(&format!("forget --keep-last 1 {wrong}")).code, 2, "{wrong}");
    }
    assert_eq!(home.standing().len(), 1);
}

#[test]
fn keys_that_may_not_maintain_are_told_so_first() {
    let home = Home::new();
    home.ok("key add --role write --label laptop --new-key-file write");
    home.fails(13, "--key-file write forget nonsense", "a write key cannot forget");
    home.fails(13, "--key-file write forget --keep-tag nonsense", "a write key cannot forget");
}

/// A timer has no terminal and says no --yes: rules run all the same.
#[test]
fn rules_run_unattended_and_say_what_they_did() {
    let home = Home::new();
    let ids: Vec<String> =
        (1..6).map(|day| home.back_up(&format!("--time 2026-01-0{day}T12:00:00Z"))).collect();
    let dry = home.ok("forget --keep-last 2 --dry-run --zone Europe/Berlin --keep-within 1d");
    assert!(dry.out.contains("calendar of Europe/Berlin; now, from which keep-within counts, is"));
    assert!(dry.out.contains("2026-01-05 13:00:00"), "{}", dry.out);
    assert!(
        dry.out.contains("keep-last 2: as many are newer; keep-within 1d: older"),
        "{}",
        dry.out
    );
    assert!(dry.err.contains("dry run: 3 snapshots would be forgotten"), "{}", dry.err);
    assert_eq!(home.standing(), ids);
    let run = home.ok("forget --keep-last 2");
    assert!(run.out.contains("2 stay, 3 go") && !run.out.contains("as many are newer"));
    assert!(run.err.contains("3 snapshots forgotten"), "{}", run.err);
    assert_eq!(home.standing(), ids[3..]);
    let again = home.ok("forget --keep-last 2");
    assert!(again.err.contains("nothing to forget"), "{}", again.err);
    let quiet = home.ok("-q forget --keep-last 1");
    assert_eq!((quiet.out.as_str(), quiet.err.as_str()), ("", ""));
    assert_eq!(home.standing(), ids[4..]);
}

#[test]
fn json_tells_each_decision_and_why() {
    let home = Home::new();
    let old = home.back_up("--time 2026-01-01T12:00:00Z --host harbour");
    home.back_up("--time 2026-01-02T12:00:00Z --host harbour");
    let mut told = home.ok("forget --keep-daily 1 --json").json();
    // what comes free when is told last
    told.retain(|object| object["type"] != "outlook");
    let summary = told.pop().unwrap();
    assert_eq!((&summary["type"], &summary["zone"]), (&"summary".into(), &"UTC".into()));
    assert_eq!(summary["marked"], serde_json::json!([old]));
    assert_eq!((&summary["staying"], &summary["going"]), (&1.into(), &1.into()));
    assert_eq!((&told[0]["type"], &told[0]["decision"]), (&"decision".into(), &"forget".into()));
    assert_eq!(told[0]["group"]["host"], "harbour");
    assert_eq!(told[1]["why"], serde_json::json!(["keep-daily 1 (2026-01-02)"]));
}

#[test]
fn what_is_named_asks_or_refuses() {
    let home = Home::new();
    let ids: Vec<String> = (0..3).map(|_| home.back_up("--tag x")).collect();
    home.fails(2, &format!("forget {}", &ids[0][..8]), "--yes");
    home.fails(2, "forget --tag x --allow-empty", "--yes");
    home.ok(&format!("forget {} --dry-run", &ids[0][..8]));
    assert_eq!(home.standing(), ids);
    home.ok(&format!("forget {} --yes", &ids[0][..8]));
    assert_eq!(home.standing(), ids[1..]);
    let again = home.ok(&format!("forget {} --yes", &ids[0][..8]));
    assert!(again.err.contains("was forgotten before"), "{}", again.err);
    home.fails(1, "forget nobody --yes", "no snapshot is called");
    home.ok("forget latest~1 --yes");
    assert_eq!(home.standing(), ids[2..]);
}

#[test]
fn a_terminal_is_asked() {
    let home = Home::new();
    let ids: Vec<String> = (0..3).map(|_| home.back_up("")).collect();
    let no = home.at_terminal("forget latest~2", "n\n");
    assert!(no.code == 1 && no.out.contains("nothing was forgotten"), "{}", no.out);
    assert!(no.out.contains(&ids[0][..8]) && no.out.contains("forget 1 snapshot? [y/N]"));
    // rules ask when they take more than half of a group
    let no = home.at_terminal("forget --keep-last 1", "\n");
    assert!(no.code == 1 && no.out.contains("forget 2 snapshots? [y/N]"), "{}", no.out);
    assert_eq!(home.standing(), ids);
    let few = home.at_terminal("forget --keep-last 2", "");
    assert!(few.code == 0 && !few.out.contains("[y/N]"), "{}", few.out);
    let yes = home.at_terminal("forget latest~1", "y\n");
    assert_eq!(yes.code, 0, "{}", yes.out);
    assert_eq!(home.standing(), ids[2..]);
}

#[test]
fn what_empties_a_group_or_matches_nothing_must_be_said_twice() {
    let home = Home::new();
    let old = home.back_up("--time 2026-01-01T12:00:00Z --tag prod");
    home.fails(1, &format!("forget {old} --yes"), "no good snapshot would be left of writer");
    home.fails(1, "forget --tag prod --yes", "--allow-empty");
    home.fails(1, "forget --keep-within 1d --floor 0", "--allow-empty");
    home.fails(1, "forget --keep-last 1 --keep-tag prdo", "--keep-tag prdo: no snapshot");
    home.fails(1, "forget --keep-last 1 --host habour", "--host habour: no snapshot");
    home.fails(1, "forget --tag prdo --yes", "--tag prdo: no snapshot");
    assert_eq!(home.standing(), [old]);
    home.ok("forget --keep-last 1 --keep-tag prdo --allow-empty");
    home.ok("forget --keep-within 1d --floor 0 --allow-empty");
    assert!(home.standing().is_empty());
}

/// Where there is no snapshot yet, a timer that begins with the rules is right.
#[test]
fn an_empty_repository_has_nothing_to_forget() {
    let home = Home::new();
    let run = home.ok("forget --keep-daily 7 --keep-tag prod --host harbour");
    assert!(run.err.contains("nothing to forget"), "{}", run.err);
}

#[test]
fn what_expired_goes_by_itself() {
    let home = Home::new();
    let old = home.back_up("--time 2026-01-01T12:00:00Z --expire-after 1d");
    let kept = home.back_up("--time 2026-01-02T12:00:00Z");
    let explained = home.ok("forget --expired --explain");
    assert!(explained.out.contains("expired 2026-01-02 12:00:00"), "{}", explained.out);
    assert!(explained.out.contains(&old[..8]) && explained.out.contains("not asked for"));
    assert_eq!(home.standing(), [kept]);
}

/// One machine's clock is in 2090: rules stop, until somebody vouches for theirs,
/// and then do not believe it.
#[test]
fn a_snapshot_of_the_future_stops_the_rules() {
    let home = Home::new();
    let ids: Vec<String> = (0..2).map(|_| home.back_up("")).collect();
    let future = home.back_up("--time 2090-01-01");
    home.fails(1, "forget --keep-last 1", "--i-trust-this-clock");
    home.fails(1, "forget --expired", "2090-01-01");
    home.fails(1, &format!("forget {} --yes", ids[0]), "--i-trust-this-clock");
    let run = home.ok("forget --keep-last 1 --i-trust-this-clock --explain");
    assert!(run.out.contains("dated in the future: not believed"), "{}", run.out);
    assert_eq!(home.standing(), [ids[1].clone(), future]);
}
