//! What became of every snapshot and run: running, interrupted, silent, failed,
//! deleting and the rest; and who may name, tag and pin.

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use esker::backup::backup;
use esker::crypto::SecretKey;
use esker::format::Kind;
use esker::format::notes::{self, MarkKind, SessionState, Sweep};
use esker::format::slot::Role;
use esker::id::{SnapshotId, SweepId, hex};
use esker::keys::{self, AddOptions};
use esker::progress::Silent;
use esker::repository::judge::{Cause, Judge, RunState, SILENT_AFTER_MS};
use esker::repository::local::CacheRoot;
use esker::repository::marks::DEFAULT_GRACE_MS;
use esker::repository::runs::{Run, Whereabouts};
use esker::repository::{ErrorKind, NewSlot, Repository, Unlock, now_ms};
use esker::status::{Overview, Status, groups, overview};
use esker::store::{Counting, Decision, ErrorKind as StoreKind, Faulty, LocalStore, OpendalStore};
use esker::store::{OperationKind, Store};
use esker::tag::{TagOptions, tag};
use serde_json::Value;
use support::program;
use tempfile::TempDir;

type SharedStore = Arc<dyn Store>;

fn memory() -> SharedStore {
    let store: SharedStore = Arc::new(OpendalStore::memory().unwrap());
    support::init(&store);
    store
}

/// A key of `role`, opened with key file `number`.
fn add_key(store: &SharedStore, role: Role, number: u8) -> Repository {
    let slot = NewSlot::KeyFile(SecretKey::from_bytes([number; 32]));
    let label = format!("{} {number}", role.name());
    let options = AddOptions { role, label, slot, domain: None, same_writer: false };
    keys::add(&support::open(store), &options).unwrap();
    let unlock = Unlock::KeyFile(SecretKey::from_bytes([number; 32]));
    Repository::open(store.clone(), &unlock, &CacheRoot::None).unwrap()
}

fn tree() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("file"), b"some text").unwrap();
    directory
}

fn save(repository: &Repository, path: &Path, host: &str) -> SnapshotId {
    let mut options = support::options(path);
    options.host = host.into();
    backup(repository, &options, Vec::new(), &Silent).unwrap().snapshot.unwrap()
}

/// A run that fails when it puts an object under `prefix`, or dies there.
fn break_off(store: &SharedStore, path: &Path, prefix: &'static str, decision: Decision) {
    let faulty: SharedStore = Arc::new(Faulty::new(store.clone(), move |operation| {
        let here = operation.kind == OperationKind::Put && operation.key.starts_with(prefix);
        if here { decision } else { Decision::Pass }
    }));
    backup(&support::open(&faulty), &support::options(path), Vec::new(), &Silent).unwrap_err();
}

/// Another machine than this one.
fn elsewhere() -> Whereabouts {
    Whereabouts {
        machine: Some("another".into()),
        boot: "another".into(),
        process: 1,
        lives: |_| panic!("no process of another machine can be seen"),
    }
}

fn here(repository: &Repository) -> Whereabouts {
    Whereabouts::here(repository.id())
}

fn runs(repository: &Repository) -> Vec<Run> {
    let listing = repository.list_runs().unwrap();
    assert!(listing.troubles.is_empty(), "{:?}", listing.troubles);
    listing.runs
}

/// States of all runs, in the order they started, as seen from `here` at `now`.
fn states(repository: &Repository, here: &Whereabouts, now: u64) -> Vec<RunState> {
    let (runs, snapshots) = (runs(repository), repository.snapshots().unwrap().0);
    let judge = Judge::new(&runs, &snapshots, here, now);
    runs.iter().map(|run| judge.state(run)).collect()
}

fn look(repository: &Repository, now: u64) -> Overview {
    let overview = overview(repository, &here(repository), now).unwrap();
    assert!(overview.troubles.is_empty(), "{:?}", overview.troubles);
    overview
}

fn status(overview: &Overview, id: SnapshotId) -> (Status, bool) {
    let told = overview.snapshots.iter().find(|told| told.snapshot.id == id).unwrap();
    (told.status, told.current)
}

#[test]
fn a_run_that_committed_says_that_it_ended() {
    let (store, tree) = (memory(), tree());
    let repository = support::open(&store);
    let id = save(&repository, tree.path(), "host");
    let run = runs(&repository).remove(0);
    assert_eq!((run.id, run.state, run.taken_over), (id, SessionState::Ended, false));
    assert_eq!((&*run.host, &*run.profile), ("host", "default"));
    assert!(run.packs > 0 && run.bytes > 0 && run.last_sign >= run.started);
    assert_eq!(run.writer, repository.keyring().writer);
    assert_eq!(states(&repository, &elsewhere(), now_ms()), [RunState::MadeSnapshot(id)]);
}

/// Signs of runs that made their snapshots cost a later backup nothing.
#[test]
fn a_backup_reads_no_signs_of_runs_that_have_their_snapshots() {
    let (store, tree) = (memory(), tree());
    save(&support::open(&store), tree.path(), "host");
    let counting = Arc::new(Counting::new(store));
    let counted: SharedStore = counting.clone();
    save(&support::open(&counted), tree.path(), "host");
    assert_eq!(counting.count(OperationKind::Get, "sessions").calls, 0);
    assert_eq!(counting.count(OperationKind::Put, "sessions").calls, 2);
    runs(&support::open(&counted));
    assert_eq!(counting.count(OperationKind::Get, "sessions").calls, 4);
}

/// The sign at the end is worth nothing to the snapshot: a store that does not
/// take it changes nothing.
#[test]
fn a_run_whose_end_is_not_taken_is_good_all_the_same() {
    let (store, tree) = (memory(), tree());
    let faulty: SharedStore = Arc::new(Faulty::new(store.clone(), |operation| {
        let end = operation.kind == OperationKind::Put && operation.key.contains("/94000000");
        if end { Decision::FailBefore(StoreKind::Temporary) } else { Decision::Pass }
    }));
    let id = save(&support::open(&faulty), tree.path(), "host");
    let repository = support::open(&store);
    assert_eq!(runs(&repository)[0].state, SessionState::Start);
    assert_eq!(states(&repository, &elsewhere(), now_ms()), [RunState::MadeSnapshot(id)]);
}

/// The reason may name a path: a watch key sees the code only. And what a later
/// run takes over stays what it was.
#[test]
fn a_failed_run_keeps_its_code_and_its_reason() {
    let (store, tree) = (memory(), tree());
    let watch = add_key(&store, Role::Watch, 2);
    break_off(&store, tree.path(), "packs/", Decision::FailBefore(StoreKind::Temporary));
    let check = || {
        let full = support::open(&store);
        let run = runs(&full).remove(0);
        assert_eq!(run.code, Some(75));
        let reason = full.run_reason(&run).unwrap().expect("a reason");
        assert!(reason.contains("packs/"), "{reason}");
        assert_eq!(runs(&watch)[0].code, Some(75));
        assert_eq!(watch.run_reason(&run).unwrap(), None);
        assert_eq!(states(&full, &elsewhere(), now_ms())[0], RunState::Failed { code: 75 });
        run
    };
    let before = check();
    save(&support::open(&store), tree.path(), "host");
    let after = check();
    assert!(!before.taken_over && after.taken_over);
    assert_eq!(before.last_sign, after.last_sign);
}

#[test]
fn a_run_that_fails_before_it_reads_says_so_too() {
    let (store, tree) = (memory(), tree());
    let faulty: SharedStore = Arc::new(Faulty::new(store.clone(), |operation| {
        let sweeps = operation.kind == OperationKind::List && operation.key == notes::SWEEPS;
        if sweeps { Decision::FailBefore(StoreKind::Temporary) } else { Decision::Pass }
    }));
    let options = support::options(tree.path());
    backup(&support::open(&faulty), &options, Vec::new(), &Silent).unwrap_err();
    let repository = support::open(&store);
    assert_eq!(states(&repository, &elsewhere(), now_ms()), [RunState::Failed { code: 75 }]);
}

/// Elsewhere only time and a later run tell; here the process does.
#[test]
fn a_run_that_died_is_interrupted_here_and_silent_elsewhere() {
    let (store, tree) = (memory(), tree());
    break_off(&store, tree.path(), "index/", Decision::Stop);
    let (repository, now) = (support::open(&store), now_ms());
    let gone = RunState::Interrupted(Cause::ProcessGone);
    assert_eq!(states(&repository, &here(&repository), now), [gone]);
    assert_eq!(states(&repository, &elsewhere(), now), [RunState::Running]);
    let later = now + 7 * SILENT_AFTER_MS;
    let silent = RunState::Silent { hours: 7 };
    assert_eq!(states(&repository, &elsewhere(), later), [silent]);
    // another profile's run tells nothing of it; its own does
    let unlike = |host: &str| save(&add_key(&store, Role::Write, 3), tree.path(), host);
    unlike("other");
    assert_eq!(states(&repository, &elsewhere(), later)[0], silent);
    let store = support::memory_of(&store);
    save(&add_key(&store, Role::Write, 4), tree.path(), "host");
    let interrupted = RunState::Interrupted(Cause::LaterRun);
    assert_eq!(states(&support::open(&store), &elsewhere(), later)[0], interrupted);
}

#[test]
fn a_run_that_was_taken_over_stays_interrupted() {
    let (store, tree) = (memory(), tree());
    break_off(&store, tree.path(), "index/", Decision::Stop);
    let repository = support::open(&store);
    let before = runs(&repository).remove(0);
    save(&repository, tree.path(), "host");
    let after = runs(&repository).remove(0);
    assert!(after.taken_over && after.last_sign == before.last_sign);
    let gone = RunState::Interrupted(Cause::ProcessGone);
    assert_eq!(states(&repository, &elsewhere(), now_ms() + 100 * SILENT_AFTER_MS)[0], gone);
}

/// A pack is swept between the manifest and the commit check: the attempt made
/// in its place succeeds, and the first says that it ended.
#[test]
fn an_attempt_that_was_given_up_says_that_it_ended() {
    let (store, tree) = (memory(), tree());
    let (inner, done) = (store.clone(), AtomicBool::new(false));
    let faulty: SharedStore = Arc::new(Faulty::new(store.clone(), move |operation| {
        let manifest =
            operation.kind == OperationKind::Put && operation.key.starts_with("snapshots/");
        if manifest && !done.swap(true, Ordering::SeqCst) {
            for listed in inner.list("packs/").unwrap() {
                inner.delete(&listed.key).unwrap();
            }
        }
        Decision::Pass
    }));
    let id = save(&support::open(&faulty), tree.path(), "host");
    let repository = support::open(&store);
    let made = RunState::MadeSnapshot(id);
    assert_eq!(states(&repository, &elsewhere(), now_ms()), [RunState::Ended, made]);
    assert!(runs(&repository).iter().all(|run| !run.taken_over));
    let overview = look(&repository, now_ms());
    let given_up = overview.snapshots.iter().find(|told| told.snapshot.id != id).unwrap();
    assert_eq!((given_up.status, given_up.current), (Status::Unconfirmed, false));
}

/// Nobody ends another's run, or makes up runs without the right to back up.
#[test]
fn signs_by_others_earn_nothing() {
    let (store, tree) = (memory(), tree());
    let (writer, watch) = (add_key(&store, Role::Write, 2), add_key(&store, Role::Watch, 3));
    break_off(&store, tree.path(), "index/", Decision::Stop);
    let repository = support::open(&store);
    let run = runs(&repository).remove(0);
    let session = |state| notes::Session {
        state,
        time: now_ms(),
        host: "host".into(),
        boot: String::new(),
        process: 0,
        profile: "default".into(),
        packs: 0,
        bytes: 0,
        code: None,
        machine: None,
        kept: Vec::new(),
    };
    writer.put_session(run.id, 99_999_999, &session(SessionState::Ended), None).unwrap();
    let made_up = SnapshotId::random();
    watch.put_session(made_up, 1, &session(SessionState::Start), None).unwrap();
    let listing = repository.list_runs().unwrap();
    assert_eq!(listing.runs, [run]);
    let said: Vec<&str> = listing.troubles.iter().map(|t| t.message.as_str()).collect();
    assert!(said.iter().any(|text| text.contains("another than the run's writer")), "{said:?}");
    assert!(said.iter().any(|text| text.contains("may not back up")), "{said:?}");
}

#[test]
fn a_damaged_sign_leaves_the_others() {
    let (store, tree) = (memory(), tree());
    save(&support::open(&store), tree.path(), "host");
    let last = store.list(notes::SESSIONS).unwrap().pop().unwrap().key;
    store.delete(&last).unwrap();
    store.put(&last, b"not an object".to_vec().into()).unwrap();
    let listing = support::open(&store).list_runs().unwrap();
    assert_eq!(listing.runs[0].state, SessionState::Start);
    assert!(listing.troubles[0].message.contains(&last), "{:?}", listing.troubles);
}

#[test]
fn snapshots_say_what_becomes_of_them() {
    let (store, tree) = (memory(), tree());
    let repository = support::open(&store);
    let mut options = support::options(tree.path());
    let now = now_ms();
    options.expires = Some(now + 1000);
    let id = backup(&repository, &options, Vec::new(), &Silent).unwrap().snapshot.unwrap();
    let other = save(&repository, tree.path(), "host");
    let told = |now| status(&look(&repository, now), id);
    assert_eq!(told(now + 999), (Status::Complete, true));
    assert_eq!(told(now + 1000), (Status::Expired, true));
    repository.put_mark(id, MarkKind::Forget, now).unwrap();
    let undo_until = now + DEFAULT_GRACE_MS;
    assert_eq!(told(now), (Status::Deleting { undo_until }, true));
    // nobody took it yet: it can still be undone
    assert_eq!(told(undo_until + 1), (Status::Deleting { undo_until }, true));
    let sweep = Sweep { manifests: vec![id], packs: Vec::new(), time: now, kept: Vec::new() };
    let key = notes::sweep_key(SweepId::random());
    repository.put_object(Kind::Sweep, &key, &sweep.encode(), None).unwrap();
    assert_eq!(told(now), (Status::BeingDeleted, false));
    store.delete(&key).unwrap();
    repository.put_mark(id, MarkKind::Undo, now).unwrap();
    assert_eq!(told(now), (Status::Complete, true));
    assert_eq!(status(&look(&repository, now), other), (Status::Complete, true));
}

/// A manifest whose commit check never came: its run tells whether it still may.
#[test]
fn a_manifest_without_confirmation_is_told_by_its_run() {
    let (store, tree) = (memory(), tree());
    break_off(&store, tree.path(), "confirmed/", Decision::Stop);
    let repository = support::open(&store);
    let told = look(&repository, now_ms());
    let id = told.snapshots[0].snapshot.id;
    assert_eq!(status(&told, id), (Status::Unconfirmed, true));
    assert!(told.runs[0].has_manifest);
    let from_there = overview(&repository, &elsewhere(), now_ms()).unwrap();
    assert_eq!(status(&from_there, id), (Status::Running, true));
    save(&repository, tree.path(), "host");
    assert_eq!(status(&look(&repository, now_ms()), id), (Status::Unconfirmed, false));
}

#[test]
fn groups_tell_how_fresh_they_are() {
    let (store, tree) = (memory(), tree());
    let repository = support::open(&store);
    let first = save(&repository, tree.path(), "one");
    save(&repository, tree.path(), "two");
    break_off(&store, tree.path(), "snapshots/", Decision::FailBefore(StoreKind::Temporary));
    let mut overview = look(&repository, now_ms() + SILENT_AFTER_MS);
    let told = groups(&overview);
    let hosts: Vec<&str> = told.iter().map(|group| group.host).collect();
    assert_eq!(hosts, ["host", "one", "two"]);
    assert!(told[0].newest_complete.is_none() && told[0].last_run.is_some());
    assert_eq!(told[1].newest_complete.unwrap().id, first);
    assert!(told[1].age.unwrap() >= SILENT_AFTER_MS);
    assert!(told.iter().all(|group| group.under_way.is_empty() && !group.is_stale()));
    // nothing puts promises into manifests yet that can be waited for
    for told in &mut overview.snapshots {
        told.snapshot.manifest.promises.maximum_age = Some(3000);
    }
    let stale: Vec<bool> = groups(&overview).iter().map(|group| group.is_stale()).collect();
    assert_eq!(stale, [false, true, true]);
}

#[test]
fn owners_and_maintainers_mark_and_nobody_else() {
    let (store, tree) = (memory(), tree());
    let writer = add_key(&store, Role::Write, 2);
    let stranger = add_key(&store, Role::Write, 3);
    let (read, maintain) = (add_key(&store, Role::Read, 4), add_key(&store, Role::Maintain, 5));
    let own = save(&writer, tree.path(), "laptop");
    let other = save(&stranger, tree.path(), "desktop");
    let options = TagOptions {
        add: vec!["weekly".into()],
        name: Some("monday".into()),
        description: Some("before the move".into()),
        pin: Some(true),
        ..TagOptions::default()
    };
    let attempt = |repository: &Repository, ids: &[SnapshotId], options: &TagOptions| {
        let all = repository.snapshots().unwrap().0;
        let chosen: Vec<_> = all.iter().filter(|s| ids.contains(&s.id)).collect();
        tag(repository, &all, &chosen, options).map_err(|error| error.kind)
    };
    for repository in [&stranger, &read] {
        assert_eq!(attempt(repository, &[own], &options), Err(ErrorKind::NoRight));
    }
    // one that is not its own keeps both from being marked
    let tags = TagOptions { name: None, ..options.clone() };
    assert_eq!(attempt(&writer, &[own, other], &tags), Err(ErrorKind::NoRight));
    assert_eq!(store.list(notes::MARKS).unwrap(), []);
    assert_eq!(attempt(&writer, &[own], &options), Ok(vec![own]));
    assert_eq!(store.list(notes::MARKS).unwrap().len(), 4);
    assert_eq!(attempt(&writer, &[own], &options), Ok(vec![]), "it is so already");
    let snapshot = |id| {
        let (snapshots, troubles) = maintain.snapshots().unwrap();
        assert!(troubles.is_empty(), "{troubles:?}");
        snapshots.into_iter().find(|s| s.id == id).unwrap()
    };
    let marked = snapshot(own);
    assert_eq!(marked.name.as_deref(), Some("monday"));
    assert_eq!(marked.description.as_deref(), Some("before the move"));
    assert_eq!((marked.tags, marked.pinned), (vec!["weekly".to_owned()], true));
    // a name is one snapshot's, unless that is forgotten
    let name = TagOptions { name: Some("monday".into()), ..TagOptions::default() };
    assert_eq!(attempt(&maintain, &[other], &name), Err(ErrorKind::Failed));
    maintain.put_mark(own, MarkKind::Forget, now_ms()).unwrap();
    assert_eq!(attempt(&maintain, &[other], &name), Ok(vec![other]));
    let back = TagOptions {
        remove: vec!["weekly".into()],
        name: Some(String::new()),
        description: Some(String::new()),
        pin: Some(false),
        ..TagOptions::default()
    };
    assert_eq!(attempt(&maintain, &[own, other], &back).map(|ids| ids.len()), Ok(2));
    let bare = snapshot(own);
    assert_eq!((bare.name, bare.description, bare.tags.len()), (None, None, 0));
    assert!(!bare.pinned);
}

/// A home with a repository whose key the library has too.
struct Home {
    directory: TempDir,
}

impl Home {
    fn new() -> Home {
        let home = Home { directory: tree() };
        let store = LocalStore::create(&home.path("repository")).unwrap();
        support::init(&(Arc::new(store) as SharedStore));
        fs::write(home.path("key"), format!("ESKER-KEY-1 {}\n", hex(&support::KEY))).unwrap();
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn store(&self) -> SharedStore {
        Arc::new(LocalStore::open(&self.path("repository")).unwrap())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let arguments = [&["-r", "repository"], arguments].concat();
        let mut command = program::command(self.directory.path(), &arguments);
        if !arguments.contains(&"--key-file") {
            command.args(["--key-file", "key"]);
        }
        command
    }

    /// Exit code and standard output; of a failure the talk too.
    fn run(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.command(arguments).output().unwrap();
        let mut text = String::from_utf8(output.stdout).unwrap();
        if !output.status.success() {
            text.push_str(&String::from_utf8(output.stderr).unwrap());
        }
        (output.status.code().unwrap(), text)
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let (code, text) = self.run(arguments);
        assert_eq!(code, 0, "{arguments:?}: {text}");
        text
    }

    fn fails(&self, expected: i32, arguments: &[&str], word: &str) {
        let (code, text) = self.run(arguments);
        assert!(code == expected && text.contains(word), "{arguments:?}: {code}: {text}");
    }

    fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let text = self.ok(&[arguments, &["--json"]].concat());
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// A backup that waits for its standard input, and its first sign is put.
    fn waiting_backup(&self, arguments: &[&str]) -> Child {
        let backup = ["backup", "--json", "--stdin", "--host", "host"];
        let mut child = self
            .command(&[&backup, arguments].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
        while !lines.next().unwrap().unwrap().contains("reading") {}
        child
    }
}

#[test]
fn a_killed_backup_is_told_here_and_on_another_machine() {
    let home = Home::new();
    let mut child = home.waiting_backup(&[]);
    assert!(home.ok(&["snapshots"]).contains("running ("));
    assert_eq!(home.json(&["snapshots"])[0]["status"], "running");
    let under_way = &home.json(&["status"])[0]["under_way"];
    assert_eq!(under_way[0]["status"], "running");
    assert_eq!(under_way[0]["process"], child.id());
    child.kill().unwrap();
    child.wait().unwrap();
    let listed = home.ok(&["snapshots"]);
    assert!(listed.contains("interrupted") && !listed.contains("running"), "{listed}");
    let run = home.json(&["snapshots"]).remove(0);
    for (name, value) in [
        ("type", "run"),
        ("status", "interrupted"),
        ("interrupted_by", "process_gone"),
        ("host", "host"),
        ("profile", "default"),
        ("writer_label", "test"),
    ] {
        assert_eq!(run[name], value, "{run}");
    }
    assert!(run["started"].is_string() && run["last_sign"].is_string(), "{run}");
    let repository = support::open(&home.store());
    assert_eq!(states(&repository, &elsewhere(), now_ms()), [RunState::Running]);
    let later = now_ms() + 7 * SILENT_AFTER_MS;
    assert_eq!(states(&repository, &elsewhere(), later), [RunState::Silent { hours: 7 }]);
    // a good snapshot later: what was before is for those who ask for everything
    home.ok(&["backup", "file", "--host", "host"]);
    let listed = home.ok(&["snapshots"]);
    assert!(listed.contains("complete") && !listed.contains("interrupted"), "{listed}");
    assert!(home.ok(&["snapshots", "--all"]).contains("interrupted"));
    assert_eq!(home.json(&["snapshots", "--all"]).len(), 2);
    assert_eq!(home.json(&["snapshots", "--all", "--profile", "x"]).len(), 0);
    let status = home.ok(&["status"]);
    assert!(status.contains("host") && status.contains("complete"), "{status}");
}

#[test]
fn a_run_that_overtakes_a_living_one_does_not_make_it_interrupted() {
    let home = Home::new();
    let mut child = home.waiting_backup(&[]);
    home.ok(&["backup", "file", "--host", "host"]);
    let listed = home.ok(&["snapshots"]);
    assert!(listed.contains("running (") && listed.contains("complete"), "{listed}");
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    let listed = home.ok(&["snapshots", "--all"]);
    assert!(!listed.contains("running") && !listed.contains("interrupted"), "{listed}");
    assert_eq!(home.json(&["snapshots"]).len(), 2);
}

#[test]
fn a_failed_run_is_listed_with_its_reason_or_its_code() {
    let home = Home::new();
    home.ok(&["key", "add", "--role", "watch", "--label", "w", "--new-key-file", "watch"]);
    let decision = Decision::FailBefore(StoreKind::Full);
    break_off(&home.store(), &home.path("file"), "packs/", decision);
    let listed = home.ok(&["snapshots"]);
    assert!(listed.contains("failed (") && listed.contains("packs/"), "{listed}");
    let watched = home.ok(&["--key-file", "watch", "snapshots"]);
    assert!(watched.contains("failed (exit code 1)") && !watched.contains("packs/"), "{watched}");
    let run = home.json(&["--key-file", "watch", "snapshots"]).remove(0);
    assert_eq!((&run["exit_code"], &run["reason"]), (&Value::from(1), &Value::Null));
    assert!(home.json(&["snapshots"])[0]["reason"].is_string());
    assert!(home.json(&["status"])[0]["last_run"]["reason"].is_string());
}

#[test]
fn deleting_and_expired_snapshots_are_listed_as_such() {
    let home = Home::new();
    home.ok(&["backup", "file", "--expire-after", "1d", "--time", "2020-01-01"]);
    home.ok(&["backup", "file"]);
    let repository = support::open(&home.store());
    let snapshots = repository.snapshots().unwrap().0;
    let forgotten = now_ms();
    repository.put_mark(snapshots[1].id, MarkKind::Forget, forgotten).unwrap();
    let listed = home.ok(&["snapshots"]);
    assert!(listed.contains("complete, expired"), "{listed}");
    assert!(listed.contains("complete, deleting (undo until 20"), "{listed}");
    let objects = home.json(&["snapshots"]);
    assert_eq!(
        (&objects[0]["status"], &objects[0]["state"]),
        (&"expired".into(), &"complete".into())
    );
    assert_eq!(objects[1]["status"], "deleting");
    assert!(objects[1]["undo_until"].is_string() && objects[1]["forgotten"].is_string());
    // an expired snapshot can be restored as long as nobody forgot it
    home.ok(&["restore", "latest", "out"]);
}

#[test]
fn names_tags_and_pins_are_given_and_taken() {
    let home = Home::new();
    home.ok(&["backup", "file", "--name", "monday"]);
    home.fails(2, &["backup", "file", "--name", "latest"], "latest");
    home.fails(1, &["backup", "file", "--name", "monday"], "--no-name");
    home.ok(&["backup", "file"]);
    home.ok(&["tag", "latest", "--add", "weekly", "--add", "kept", "--pin"]);
    home.ok(&["tag", "latest", "--description", "before the move", "--name", "tuesday"]);
    home.fails(1, &["tag", "latest", "--name", "monday"], "--no-name");
    home.fails(2, &["tag", "latest", "--name", "cafe"], "beginning of an id");
    home.fails(2, &["tag", "latest", "monday", "--name", "both"], "one snapshot");
    home.fails(2, &["tag", "latest"], "required");
    home.fails(2, &["tag", "latest", "--pin", "--unpin"], "cannot be used with");
    let listed = home.ok(&["snapshots"]);
    assert!(listed.contains("complete, pinned") && listed.contains("weekly,kept"), "{listed}");
    assert!(listed.contains("monday") && !listed.contains("before the move"), "{listed}");
    assert!(home.ok(&["snapshots", "-v"]).contains("before the move"));
    home.ok(&["ls", "tuesday"]);
    home.ok(&["tag", "tuesday", "--unpin", "--remove", "weekly", "--no-description", "--no-name"]);
    let object = home.json(&["snapshots"]).pop().unwrap();
    assert_eq!(object["tags"], serde_json::json!(["kept"]));
    assert!(object["name"].is_null() && object["pinned"] == false, "{object}");
    home.ok(&["key", "add", "--role", "write", "--label", "w", "--new-key-file", "write"]);
    home.fails(13, &["--key-file", "write", "tag", "latest", "--pin"], "only its own");
}

/// `status` answers 0 or 21, whatever is wrong.
#[test]
fn status_answers_0_or_21() {
    let home = Home::new();
    home.ok(&["status"]);
    home.ok(&["backup", "file", "--host", "host"]);
    let group = home.json(&["status"]).remove(0);
    assert_eq!((&group["type"], &group["stale"]), (&"group".into(), &false.into()));
    assert_eq!(group["last_outcome"], "complete");
    home.fails(21, &["status", "--host", "nobody"], "");
    fs::write(home.path("wrong"), format!("ESKER-KEY-1 {}\n", hex(&[9; 32]))).unwrap();
    home.fails(21, &["--key-file", "wrong", "status"], "wrong password or key");
    let manifest = home.store().list("snapshots/").unwrap().remove(0).key;
    let path = home.path("repository").join(&manifest);
    fs::remove_file(&path).unwrap();
    fs::write(&path, b"nothing").unwrap();
    home.fails(21, &["status", "--no-cache"], "snapshots/");
    let id = &manifest["snapshots/".len()..];
    home.fails(20, &["snapshots", "--no-cache"], &format!("{id}  unreadable"));
    home.fails(20, &["forget", "--yes", "--allow-empty", "--no-cache", id], "snapshots/");
    home.fails(20, &["snapshots", "--no-cache"], "unreadable, deleting (undo until 20");
    home.ok(&["undo", "--no-cache", &id[..8]]);
    home.fails(20, &["snapshots", "--no-cache", "--json"], "\"status\":\"unreadable\"");
    fs::rename(home.path("repository"), home.path("away")).unwrap();
    home.fails(21, &["status"], "repository");
}
