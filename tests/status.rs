//! `status` and `snapshots` over a whole configuration: what is overdue, suspicious or away is said, with the
//! command to type next, and nothing else is. Every test runs the real binary in a home of its own.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use esker::format::notes::{Record, Session, SessionState};
use esker::id::{SnapshotId, hex};
use esker::overdue::run_of;
use esker::record::{self, Finished};
use esker::repository::now_ms;
use esker::repository::runs::{Whereabouts, sign_of_life};
use esker::status::{Overview, groups, overview};
use esker::store::{LocalStore, OpendalStore, Store};
use jiff::Timestamp;
use serde_json::Value;
use support::program::{self, Run};
use tempfile::TempDir;

mod support;

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

/// A home with files to save, a key, and repositories that it opens.
struct Home {
    directory: TempDir,
}

impl Home {
    fn new(repositories: &[&str], profiles: &str) -> Home {
        let home = Home { directory: tempfile::tempdir().unwrap() };
        home.write("key", format!("ESKER-KEY-1 {}\n", hex(&support::KEY)));
        home.write("data/file", "something to keep");
        for name in repositories {
            let store = LocalStore::create(&home.path(name)).unwrap();
            support::init(&(Arc::new(store) as Arc<dyn Store>));
        }
        home.configure(repositories, profiles);
        home
    }

    /// A repository `usb` may be away; `HOME` is this home.
    fn configure(&self, repositories: &[&str], profiles: &str) {
        let mut text = String::new();
        for name in repositories {
            let removable = *name == "usb";
            text.push_str(&format!(
                "[repositories.{name}]\nurl = 'HOME/{name}'\nkey_file = 'HOME/key'\nremovable = {removable}\n"
            ));
        }
        text.push_str(profiles);
        let home = self.directory.path().to_str().unwrap();
        self.write(".config/esker/esker.toml", text.replace("HOME", home));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Run {
        Run::of(program::command(self.directory.path(), arguments).output().unwrap())
    }

    #[track_caller]
    fn ends(&self, code: i32, arguments: &[&str]) -> Run {
        let run = self.run(arguments);
        assert_eq!(run.code, code, "{arguments:?}\n{}{}", run.out, run.err);
        run
    }

    /// A backup of `data` as of so long ago.
    #[track_caller]
    fn back_up(&self, repository: &str, profile: &str, ago: u64) {
        self.back_up_at(repository, profile, now_ms() - ago);
    }

    #[track_caller]
    fn back_up_at(&self, repository: &str, profile: &str, time: u64) {
        let time = Timestamp::from_millisecond(time as i64).unwrap().to_string();
        self.ends(
            0,
            &[
                "-r",
                repository,
                "backup",
                "data",
                "--host",
                "box",
                "--profile",
                profile,
                "--time",
                &time,
            ],
        );
    }

    /// What `status --json` finds amiss: `profile repository what`, and the exit code that goes with it.
    #[track_caller]
    fn amiss(&self) -> Vec<String> {
        let run = self.run(&["status", "--json"]);
        let found: Vec<String> = run
            .of_type("overdue")
            .iter()
            .map(|one| {
                let text = |name: &str| one[name].as_str().unwrap_or("-").to_owned();
                assert!(!text("sentence").is_empty() && text("command").starts_with("esker "));
                format!("{} {} {}", text("profile"), text("repository"), text("what"))
            })
            .collect();
        assert_eq!(run.code, if found.is_empty() { 0 } else { 21 }, "{}{}", run.out, run.err);
        found
    }

    /// A record of a drill, check or prune.
    fn record(&self, repository: &str, kind: &str, ago: u64, code: u64, extent: &str) {
        self.record_at(repository, kind, now_ms() - ago, code, extent);
    }

    fn record_at(&self, repository: &str, kind: &str, ended: u64, code: u64, extent: &str) {
        let store: Arc<dyn Store> = Arc::new(LocalStore::open(&self.path(repository)).unwrap());
        let repository = support::open(&store);
        let snapshots = repository.list_snapshots().unwrap().snapshots;
        let of_this = |s: &&esker::repository::snapshots::Snapshot| s.manifest.profile == extent;
        let record = Record {
            kind: kind.into(),
            started: ended,
            ended,
            host: "elsewhere".into(),
            code,
            extent: "practice".into(),
            snapshots: snapshots.iter().filter(of_this).map(|snapshot| snapshot.id).collect(),
            counts: Vec::new(),
            kept: Vec::new(),
        };
        repository.put_record(record, None).unwrap();
    }
}

fn profile(name: &str, repositories: &str, more: &str) -> String {
    format!(
        "[profiles.{name}]\nhost = 'box'\nrepositories = [{repositories}]\nsources = [{{ paths = ['HOME/data'] }}]\n{more}\n"
    )
}

const DAILY: &str = "promises = { maximum_age = '26h' }";

#[test]
fn all_repositories_and_profiles_are_in_one_table() {
    let profiles = profile("web", "'main', 'other'", DAILY) + &profile("db", "'main'", DAILY);
    let home = Home::new(&["main", "other"], &profiles);
    home.back_up("main", "web", HOUR);
    home.back_up("other", "web", 2 * HOUR);
    home.back_up("main", "db", HOUR);
    // somebody else's, of which this configuration knows nothing
    home.back_up("other", "stranger", 900 * DAY);
    let run = home.ends(0, &["status"]);
    let lines: Vec<&str> = run.out.lines().collect();
    assert_eq!(lines.len(), 5, "{}", run.out);
    assert!(lines[0].starts_with("profile") && lines[0].contains("repository"), "{}", run.out);
    for line in ["web       box   other", "stranger  box   other", "db        box   main"] {
        assert!(lines.iter().any(|l| l.starts_with(line) && l.ends_with("good")), "{}", run.out);
    }
    let groups = home.ends(0, &["status", "--json"]).of_type("group");
    assert_eq!(groups.len(), 4);
    assert!(groups.iter().all(|group| group["amiss"].as_array().unwrap().is_empty()));
    let one = home.ends(0, &["status", "-r", "other", "--json"]).of_type("group");
    assert_eq!(one.len(), 2, "{one:?}");
    assert_eq!(one[0]["maximum_age_seconds"], 26 * 3600);
    home.ends(0, &["status", "--profile", "db"]);
    home.ends(21, &["status", "--profile", "nobody"]);
    home.ends(2, &["status", "--prophet"]);
    home.ends(2, &["status", "-r", "main", "--notify"]);
}

/// A monitor that knows 0 and 21 only is told of it, too.
#[test]
fn a_wrong_configuration_keeps_from_an_answer() {
    let home = Home::new(&["main"], &profile("web", "'main'", ""));
    home.back_up("main", "web", HOUR);
    home.ends(0, &["status"]);
    home.configure(&["main"], &profile("web", "'main'", "promisses = {}"));
    for arguments in [&["status"] as &[&str], &["status", "-r", "main"], &["status", "--notify"]] {
        let run = home.ends(21, arguments);
        assert!(run.err.contains("did you mean `promises`"), "{}", run.err);
    }
    home.ends(2, &["status", "--prophet"]);
}

#[test]
fn what_is_too_old_or_was_never_there_is_overdue() {
    let profiles = profile("web", "'main'", DAILY) + &profile("db", "'main'", "");
    let home = Home::new(&["main"], &profiles);
    assert_eq!(home.amiss(), ["web main no_snapshot", "db main no_snapshot"]);
    home.back_up("main", "web", 3 * DAY);
    home.back_up("main", "db", 300 * DAY);
    assert_eq!(home.amiss(), ["web main too_old"]);
    let run = home.ends(21, &["status"]);
    assert!(run.out.contains("TOO OLD"), "{}", run.out);
    assert!(
        run.out.contains(
            "OVERDUE: host box, profile web, repository main: the newest complete snapshot is 3 d \
             old, promised is 26 h\n  esker run web\n"
        ),
        "{}",
        run.out
    );
    home.ends(21, &["status", "-r", "main"]);
    home.back_up("main", "web", HOUR);
    assert!(home.amiss().is_empty());
}

/// A host began once with its clock ten years ahead, and its backups died since.
#[test]
fn a_snapshot_from_the_future_hides_nothing() {
    let promises = "promises = { maximum_age = '26h', drill = '30d' }";
    let home = Home::new(&["main"], &profile("web", "'main'", promises));
    home.back_up("main", "web", 3 * DAY);
    home.back_up_at("main", "web", now_ms() + 3650 * DAY);
    assert_eq!(home.amiss(), ["web main too_old", "web main ahead", "web main drill"]);
    home.back_up("main", "web", HOUR);
    assert_eq!(home.amiss(), ["web main ahead", "web main drill"]);
    // what was drilled in that time counts for as little
    home.record_at("main", "drill", now_ms() + 3650 * DAY, 0, "web");
    assert_eq!(home.amiss(), ["web main ahead", "web main drill"]);
    home.record("main", "drill", HOUR, 0, "web");
    assert_eq!(home.amiss(), ["web main ahead"]);
    let run = home.ends(21, &["status"]);
    let command = run.out.lines().find(|line| line.contains(" forget ")).unwrap();
    let words: Vec<&str> = command.split_whitespace().skip(1).chain(["--yes"]).collect();
    home.ends(0, &words);
    assert!(home.amiss().is_empty());
}

/// A run that failed is of interest until a complete snapshot follows it, and one that is dated ahead of now follows
/// nothing. Seen from half an hour ago, what is done now is.
#[test]
fn what_is_dated_ahead_outshines_no_failure() {
    let store: Arc<dyn Store> = Arc::new(OpendalStore::memory().unwrap());
    support::init(&store);
    let repository = support::open(&store);
    let fails = |ago: u64| {
        let life = sign_of_life(repository.id(), SessionState::Failed, "host", "default");
        let session = Session { time: life.time - ago, ..life };
        let run = SnapshotId::random();
        repository.put_failure(run, &session, "a reason").unwrap();
        run
    };
    let early = fails(HOUR);
    let here = Whereabouts::here(repository.id());
    let seen = |ago: u64| overview(&repository, &here, now_ms() - ago).unwrap();
    let is_current = |overview: &Overview| {
        overview.runs.iter().find(|told| told.run.id == early).unwrap().current
    };
    assert!(is_current(&seen(0)) && is_current(&seen(HOUR / 2)));
    let tree = tempfile::tempdir().unwrap();
    fs::write(tree.path().join("file"), "text").unwrap();
    support::run(&repository, tree.path());
    assert!(!is_current(&seen(0)));
    assert!(is_current(&seen(HOUR / 2)));
    let (now, before) = (seen(0), seen(HOUR / 2));
    assert!(groups(&now)[0].newest_complete.is_some() && groups(&now)[0].ahead.is_none());
    assert!(groups(&before)[0].newest_complete.is_none() && groups(&before)[0].ahead.is_some());

    let late = fails(0);
    let last = |ago: u64| groups(&seen(ago))[0].last_run.unwrap().run.id;
    assert_eq!((last(0), last(HOUR / 2)), (late, early));
    assert_eq!(last(2 * HOUR), late, "with all ahead the newest is");
}

/// Nothing was taken, and no session tells of it: only the record that the run left does.
#[test]
fn a_run_that_failed_before_it_took_anything_is_told() {
    let home = Home::new(&["main"], &(profile("web", "'main'", "") + &profile("db", "'main'", "")));
    home.back_up("main", "web", 2 * DAY);
    home.back_up("main", "db", 2 * DAY);
    let store: Arc<dyn Store> = Arc::new(LocalStore::open(&home.path("main")).unwrap());
    let finished = Finished {
        code: 1,
        log: "hook before ended with 1\n".to_owned(),
        ..Finished::new("run", now_ms() - DAY, run_of("box", "web"))
    };
    let id = record::put(&support::open(&store), "box", &finished).unwrap();
    assert_eq!(home.amiss(), ["web main unconfirmed"]);
    let said = home.run(&["status"]).out;
    assert!(said.contains("begun 24 h ago, ended with exit code 1 and took no snapshot"), "{said}");
    let listed = |profile| {
        let arguments = ["-r", "main", "history", "--json", "--kind", "run", "--profile", profile];
        home.ends(0, &arguments).of_type("run").len()
    };
    assert_eq!((listed("web"), listed("db")), (1, 0));
    let log = home.ends(0, &["-r", "main", "history", "--log", &id]).out;
    assert_eq!(log, "hook before ended with 1\n");
    home.back_up("main", "web", HOUR);
    assert!(home.amiss().is_empty());
}

/// A repository that is away is a row and no end; one that may be away is overdue once its promise is.
#[test]
fn a_repository_that_is_away_is_a_row() {
    let profiles = profile("web", "'main', 'usb'", DAILY) + &profile("far", "'gone'", "");
    let home = Home::new(&["main", "usb", "gone"], &profiles);
    home.ends(0, &["run", "web"]);
    home.ends(0, &["run", "far"]);
    assert!(home.amiss().is_empty());
    fs::rename(home.path("usb"), home.path("unplugged")).unwrap();
    assert!(home.amiss().is_empty());
    let run = home.ends(0, &["status"]);
    assert!(run.out.lines().any(|l| l.contains("usb") && l.ends_with("away")), "{}", run.out);
    fs::rename(home.path("gone"), home.path("lost")).unwrap();
    assert_eq!(home.amiss(), ["far gone unreachable"]);
    let run = home.ends(21, &["status"]);
    assert!(run.out.contains("UNREACHABLE") && run.out.contains("web"), "{}", run.out);
    let answers = home.run(&["status", "--json"]).of_type("repository");
    let of = |name: &str| answers.iter().find(|a| a["repository"] == name).unwrap().clone();
    assert_eq!(of("main")["state"], "reachable");
    assert_eq!(
        (&of("gone")["state"], &of("gone")["kind"]),
        (&"unreachable".into(), &"no_repository".into())
    );
    assert!(of("gone")["reason"].as_str().unwrap().contains("gone"));

    // without what this machine noted nobody knows that the disk was there in time
    fs::remove_dir_all(home.path(".cache")).unwrap();
    assert_eq!(home.amiss(), ["far gone unreachable", "web usb unreachable"]);
}

#[test]
fn a_partial_snapshot_is_overdue() {
    let broken =
        "sources = [{ paths = ['HOME/data'] }, { name = 'dump', command = ['/bin/false'] }]";
    let one = |sources: &str| {
        format!("[profiles.web]\nhost = 'box'\nrepositories = ['main']\n{sources}\n")
    };
    let home = Home::new(&["main"], &one("sources = [{ paths = ['HOME/data'] }]"));
    home.ends(0, &["run", "web"]);
    assert!(home.amiss().is_empty());
    home.configure(&["main"], &one(broken));
    home.ends(3, &["run", "web"]);
    assert_eq!(home.amiss(), ["web main partial"]);
    assert!(home.run(&["status"]).out.contains("is partial"));
    home.configure(&["main"], &one("sources = [{ paths = ['HOME/data'] }]"));
    home.ends(0, &["run", "web"]);
    assert!(home.amiss().is_empty());
}

#[test]
fn drills_checks_and_prunes_are_held_to_their_promises() {
    let promises = "promises = { drill = '30d', check = '7d', prune = '7d' }";
    let profiles = profile("web", "'main'", promises) + &profile("db", "'main'", "");
    let home = Home::new(&["main"], &profiles);
    home.back_up("main", "db", HOUR);
    home.back_up("main", "web", HOUR);
    // nobody practised yet; a first check and prune have time
    assert_eq!(home.amiss(), ["web main drill"]);
    home.record("main", "drill", DAY, 0, "db");
    assert_eq!(home.amiss(), ["web main drill"], "a drill of something else");
    home.record("main", "drill", 31 * DAY, 0, "web");
    assert_eq!(home.amiss(), ["web main drill"]);
    let said = home.run(&["status"]).out;
    assert!(said.contains("the last drill was 31 d ago, promised is one every 30 d"), "{said}");
    assert!(said.contains("esker -r main drill --host box --profile web"), "{said}");
    home.record("main", "drill", 2 * DAY, 0, "web");
    assert!(home.amiss().is_empty());
    home.record("main", "drill", DAY, 22, "web");
    assert_eq!(home.amiss(), ["web main drill"]);
    home.record("main", "drill", HOUR, 0, "web");
    home.record("main", "check", 8 * DAY, 0, "");
    home.record("main", "prune", 9 * DAY, 0, "");
    assert_eq!(home.amiss(), ["web main check", "web main prune"]);
    home.record("main", "check", HOUR, 0, "");
    home.record("main", "prune", HOUR, 0, "");
    assert!(home.amiss().is_empty());
    home.record("main", "check", 0, 20, "");
    assert_eq!(home.amiss(), ["web main check"]);
}

/// Bytes that cannot be compressed, another for each seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

#[test]
fn a_tree_encrypted_in_place_is_suspicious_and_a_point_release_is_not() {
    let home = Home::new(&["main"], &profile("web", "'main'", ""));
    const FILES: u64 = 100;
    let text = |number: u64, night: u64| format!("{night}: line of file {number}\n").repeat(3000);
    for number in 0..FILES {
        home.write(&format!("data/{number}"), text(number, 0));
    }
    for night in 1..=8 {
        home.write(&format!("data/{night}"), text(night, night));
        home.back_up("main", "web", (20 - night) * DAY);
    }
    assert!(home.amiss().is_empty());
    for number in [11, 12, 13] {
        home.write(&format!("data/{number}"), text(number, 99));
    }
    home.back_up("main", "web", 2 * DAY);
    assert!(home.amiss().is_empty(), "a point release");
    for number in 0..FILES {
        home.write(&format!("data/{number}"), noise(number, 90_000));
    }
    home.back_up("main", "web", DAY);
    let amiss = home.amiss();
    assert!(!amiss.is_empty() && amiss.iter().all(|one| one == "web main suspicious"), "{amiss:?}");
    let said = home.ends(21, &["status"]).out;
    assert!(
        said.contains("SUSPICIOUS: host box") && said.contains("of 101 files changed"),
        "{said}"
    );
    assert!(said.contains("  esker -r main diff "), "{said}");
    // a profile may expect that
    let expected =
        "suspicion = { changed = 1.0, stored_per_changed = 1.0, stored_per_changed_median = 0.0 }";
    home.configure(&["main"], &profile("web", "'main'", expected));
    assert!(home.amiss().is_empty());
}

#[test]
fn a_standby_says_how_far_it_is_behind() {
    let standby = "[profiles.spare]\nkind = 'standby'\nrepositories = ['main']\n\
                   standby = { host = 'box', profile = 'web', target = 'HOME/there' }\n\
                   promises = { maximum_age = '2h' }\n";
    let home = Home::new(&["main"], &(profile("web", "'main'", "") + standby));
    assert_eq!(home.amiss(), ["web main no_snapshot", "spare main no_snapshot"]);
    home.back_up("main", "web", HOUR + HOUR / 100);
    assert_eq!(home.amiss(), ["spare main behind"]);
    home.ends(0, &["run", "spare"]);
    assert!(home.amiss().is_empty());
    // what was saved since, the standby lacks; it has until its promise is over
    home.write("data/file", "something newer");
    home.ends(0, &["run", "web"]);
    assert!(home.amiss().is_empty());
    let groups = home.run(&["status", "--json"]).of_type("group");
    let spare = groups.iter().find(|group| group["profile"] == "spare").unwrap();
    assert_eq!(spare["behind_seconds"].as_u64().unwrap() / 3600, 1, "{spare}");
    assert!(home.ends(0, &["status"]).out.contains("good, 1 h behind"));
    home.configure(&["main"], &(profile("web", "'main'", "") + &standby.replace("2h", "30min")));
    assert_eq!(home.amiss(), ["spare main behind"]);
    let said = home.ends(21, &["status"]).out;
    assert!(
        said.contains("OVERDUE: profile spare, repository main: what the standby holds"),
        "{said}"
    );
    // elsewhere its record tells as much
    fs::remove_dir_all(home.path(".cache")).unwrap();
    assert_eq!(home.amiss(), ["spare main behind"]);
    home.ends(0, &["run", "spare"]);
    assert!(home.amiss().is_empty());
}

#[test]
fn a_watch_host_tells_of_what_did_not_run() {
    let more = format!(
        "{DAILY}\nnotify = {{ log = 'HOME/log', prometheus = {{ textfile = 'HOME/esker.prom' }}, \
         webhook = {{ url = 'http://127.0.0.1:1/nobody' }} }}\n"
    );
    let home = Home::new(&["main"], &profile("web", "'main'", &more));
    home.back_up("main", "web", 3 * DAY);
    let run = home.ends(21, &["status", "--notify"]);
    assert!(run.err.contains("warning: webhook to"), "{}", run.err);
    let log = fs::read_to_string(home.path("log")).unwrap();
    let told: Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    assert_eq!(told["state"], "overdue", "{told}");
    assert!(told["sentence"].as_str().unwrap().contains("3 d old"), "{told}");
    assert_eq!(told["command"], "esker run web");
    let gauges = fs::read_to_string(home.path("esker.prom")).unwrap();
    assert!(gauges.lines().any(|l| l.contains("overdue{") && l.ends_with(" 1")), "{gauges}");
    home.back_up("main", "web", HOUR);
    home.ends(0, &["status", "--notify"]);
    let gauges = fs::read_to_string(home.path("esker.prom")).unwrap();
    assert!(gauges.lines().any(|l| l.contains("overdue{") && l.ends_with(" 0")), "{gauges}");
    let log = fs::read_to_string(home.path("log")).unwrap();
    assert!(log.lines().last().unwrap().contains("\"good\""), "{log}");
    // nobody is told where nobody asked for it
    home.ends(0, &["status"]);
    assert_eq!(fs::read_to_string(home.path("log")).unwrap(), log);
}

/// A webhook hears of a change once.
#[test]
fn a_change_is_told_once() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let listener = std::thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        let mut heard = Vec::new();
        let mut buffer = [0; 4096];
        while !String::from_utf8_lossy(&heard).contains("END") {
            match stream.read(&mut buffer).unwrap() {
                0 => break,
                length => heard.extend(&buffer[..length]),
            }
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .unwrap();
        // whoever comes a second time finds nobody, and that would be a warning
        String::from_utf8(heard).unwrap()
    });
    let more = format!(
        "{DAILY}\nnotify = {{ webhook = {{ url = 'http://{address}/', body = '{{state}} {{command}} END' }} }}\n"
    );
    let home = Home::new(&["main"], &profile("web", "'main'", &more));
    home.ends(21, &["status", "--notify"]);
    let heard = listener.join().unwrap();
    assert!(heard.contains("overdue esker run web END"), "{heard}");
    let again = home.ends(21, &["status", "--notify"]);
    assert_eq!(again.err, "");
}

#[test]
fn snapshots_of_all_repositories_are_in_one_table() {
    let home = Home::new(&["main", "other"], &profile("web", "'main', 'other'", ""));
    home.back_up("main", "web", 2 * DAY);
    home.back_up("other", "web", DAY);
    let run = home.ends(0, &["snapshots", "--all-repositories"]);
    let lines: Vec<&str> = run.out.lines().collect();
    assert!(
        lines.len() == 3 && lines[1].starts_with("main") && lines[2].starts_with("other"),
        "{lines:?}"
    );
    let listed = home.ends(0, &["snapshots", "--all-repositories", "--json"]);
    let names: Vec<Value> =
        listed.of_type("snapshot").iter().map(|one| one["repository"].clone()).collect();
    assert_eq!(names, ["main", "other"]);
    home.ends(2, &["snapshots", "--all-repositories", "-r", "main"]);
    fs::rename(home.path("other"), home.path("away")).unwrap();
    let run = home.ends(0, &["snapshots", "--all-repositories"]);
    assert!(
        run.err.contains("warning: repository other: ") && run.out.contains("main"),
        "{}",
        run.err
    );
    let answers =
        home.ends(0, &["snapshots", "--all-repositories", "--json"]).of_type("repository");
    assert_eq!(answers[1]["state"], "unreachable");
    fs::rename(home.path("main"), home.path("away too")).unwrap();
    home.ends(75, &["snapshots", "--all-repositories"]);
}
