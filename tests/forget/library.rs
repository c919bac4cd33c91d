//! Marks in a real repository: who may put them, and what a crash leaves.

use std::path::Path;
use std::sync::Arc;

use esker::backup::{BackupOptions, backup};
use esker::crypto::SecretKey;
use esker::forget::{
    self, GroupBy, Limit, Named, Period, Plan, PlanOptions, Policy, Rule, execute, plan,
};
use esker::format::Kind;
use esker::format::manifest::manifest_key;
use esker::format::notes::{Confirmation, MarkKind, confirmation_key};
use esker::format::slot::Role;
use esker::id::SnapshotId;
use esker::keys::{self, AddOptions, RemoveOptions};
use esker::progress::Silent;
use esker::repository::clock::believable_now;
use esker::repository::local::CacheRoot;
use esker::repository::runs::Run;
use esker::repository::snapshots::Listing;
use esker::repository::{ErrorKind, NewSlot, Repository, Unlock, now_ms};
use esker::store::{Faulty, OpendalStore, Store};
use jiff::tz::TimeZone;

use crate::support::{init, memory_of, open, options};

const DAY: u64 = 86_400_000;

/// A repository with a snapshot of each of the last days, oldest first.
fn repository_of(days: u64) -> (Arc<dyn Store>, Vec<SnapshotId>) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("file"), "text").unwrap();
    let store: Arc<dyn Store> = Arc::new(OpendalStore::memory().unwrap());
    init(&store);
    let repository = open(&store);
    let take = |age| back_up(&repository, directory.path(), now_ms() - age * DAY);
    let ids = (0..days).rev().map(take).collect();
    (store, ids)
}

fn back_up(repository: &Repository, path: &Path, time: u64) -> SnapshotId {
    let options = BackupOptions { time: Some(time), ..options(path) };
    backup(repository, &options, Vec::new(), &Silent).unwrap().snapshot.unwrap()
}

fn keep_last(count: u32) -> Policy {
    let rule = Rule { period: Period::Each, limit: Limit::Count(count) };
    Policy { rules: vec![rule], ..Policy::default() }
}

/// A plan by the clock of this machine, which the tests take for right.
fn plan_last(listing: &Listing, count: u32) -> Plan<'_> {
    let zone = TimeZone::UTC;
    let options = PlanOptions { group_by: GroupBy::default(), now_ms: now_ms(), zone: &zone };
    plan(listing, &|_| true, &keep_last(count), &options)
}

fn plan_by_name<'a>(listing: &'a Listing, text: &str) -> Plan<'a> {
    let zone = TimeZone::UTC;
    let options = PlanOptions { group_by: GroupBy::default(), now_ms: now_ms(), zone: &zone };
    forget::plan_named(listing, &[forget::find(listing, text).unwrap()], &options)
}

fn forgotten(listing: &Listing) -> Vec<SnapshotId> {
    let marked = listing.snapshots.iter().filter(|snapshot| snapshot.forgotten.is_some());
    marked.map(|snapshot| snapshot.id).collect()
}

/// A key of `role` and what it opens.
fn key_of(store: &Arc<dyn Store>, role: Role) -> Repository {
    let key = [role as u8 + 100; 32];
    let options = AddOptions {
        role,
        label: role.name().into(),
        slot: NewSlot::KeyFile(SecretKey::from_bytes(key)),
        domain: None,
        same_writer: false,
    };
    keys::add(&open(store), &options).unwrap();
    let unlock = Unlock::KeyFile(SecretKey::from_bytes(key));
    Repository::open(store.clone(), &unlock, &CacheRoot::None).unwrap()
}

#[test]
fn marks_are_put_and_nothing_else_changes() {
    let (store, ids) = repository_of(5);
    let repository = open(&store);
    let before = store.list("").unwrap();
    let listing = repository.list_snapshots().unwrap();
    let now = now_ms();
    let plan = plan_last(&listing, 2);
    assert_eq!(execute(&repository, &plan, now, &Silent).unwrap().marked, ids[..3]);
    let listing = repository.list_snapshots().unwrap();
    assert!(listing.troubles.is_empty(), "{:?}", listing.troubles);
    assert_eq!(forgotten(&listing), ids[..3]);
    assert!(listing.snapshots[..3].iter().all(|snapshot| snapshot.forgotten == Some(now)));
    let after = store.list("").unwrap();
    assert!(before.iter().all(|listed| after.contains(listed)), "nothing is deleted");
    assert_eq!(after.len(), before.len() + 3);
    assert!(plan_last(&listing, 2).marks().is_empty(), "once is enough");
    // rules may be changed at any time; what they let go before stays forgotten
    assert!(plan_last(&listing, 5).marks().is_empty());
    assert_eq!(plan_last(&listing, 1).marks(), ids[3..4]);
}

#[test]
fn only_maintainers_forget() {
    let (store, ids) = repository_of(3);
    for role in [Role::Write, Role::Read, Role::Watch] {
        let repository = key_of(&store, role);
        let listing = repository.list_snapshots().unwrap();
        let error = execute(&repository, &plan_last(&listing, 1), now_ms(), &Silent).unwrap_err();
        assert_eq!(error.kind, ErrorKind::NoRight, "{error}");
        // and a mark that it puts all the same is worth nothing
        repository.put_mark(ids[0], MarkKind::Forget, now_ms()).unwrap();
        assert!(forgotten(&open(&store).list_snapshots().unwrap()).is_empty());
    }
    let repository = key_of(&store, Role::Maintain);
    let listing = repository.list_snapshots().unwrap();
    execute(&repository, &plan_last(&listing, 1), now_ms(), &Silent).unwrap();
    assert_eq!(forgotten(&open(&store).list_snapshots().unwrap()), ids[..2]);
}

/// Wherever it dies, the oldest are marked, the newest stay, and the next run
/// does the rest.
#[test]
fn a_crash_part_way_leaves_the_newest() {
    let (store, ids) = repository_of(6);
    let mut reached = 0;
    for stop in 1..100 {
        let copy = memory_of(&store);
        let faulty = Arc::new(Faulty::stop_at(copy.clone(), stop));
        let crashing: Arc<dyn Store> = faulty.clone();
        let Ok(repository) = crate::support::try_open(&crashing) else { continue };
        let Ok(listing) = repository.list_snapshots() else { continue };
        let outcome = execute(&repository, &plan_last(&listing, 2), now_ms(), &Silent);
        let repository = open(&copy);
        let listing = repository.list_snapshots().unwrap();
        assert!(listing.troubles.is_empty(), "stopped at {stop}: {:?}", listing.troubles);
        let marked = forgotten(&listing);
        assert_eq!(marked, ids[..marked.len()], "stopped at {stop}: oldest first");
        assert!(marked.len() <= 4, "stopped at {stop}");
        execute(&repository, &plan_last(&listing, 2), now_ms(), &Silent).unwrap();
        assert_eq!(forgotten(&repository.list_snapshots().unwrap()), ids[..4]);
        match outcome {
            Ok(_) => {
                assert_eq!(reached, 4, "every number of marks was looked at");
                return;
            }
            Err(error) if !marked.is_empty() => {
                let done = format!("{} of 4 snapshots were marked", marked.len());
                assert!(error.message.contains(&done), "{error}");
            }
            Err(_) => assert!(faulty.is_stopped()),
        }
        reached = reached.max(marked.len() + 1);
    }
    panic!("forgetting four snapshots takes more than 100 operations");
}

/// A second manifest of the same run, as a commit check that failed leaves it.
#[test]
fn a_replaced_manifest_is_marked_with_its_successor() {
    let (store, ids) = repository_of(2);
    let repository = open(&store);
    let listing = repository.list_snapshots().unwrap();
    let mut manifest = listing.snapshots[0].manifest.clone();
    manifest.id = SnapshotId([0xcd; 16]);
    manifest.replaces = Some(ids[0]);
    let key = manifest_key(manifest.id);
    let hash = repository.put_object(Kind::Manifest, &key, &manifest.encode(), None).unwrap();
    let confirmation = Confirmation { manifest: hash, time: now_ms(), kept: Vec::new() };
    let key = confirmation_key(manifest.id);
    repository.put_object(Kind::Confirmation, &key, &confirmation.encode(), None).unwrap();
    let listing = repository.list_snapshots().unwrap();
    assert_eq!(listing.snapshots.iter().filter(|snapshot| snapshot.replaced).count(), 1);
    assert!(plan_last(&listing, 2).marks().is_empty());
    execute(&repository, &plan_last(&listing, 1), now_ms(), &Silent).unwrap();
    let marked = forgotten(&repository.list_snapshots().unwrap());
    assert!(marked.len() == 2 && marked.contains(&ids[0]) && marked.contains(&manifest.id));
}

/// What cannot be read stops a prune, until somebody who may says its whole name.
#[test]
fn an_unreadable_manifest_can_be_forgotten_by_its_id() {
    let (store, ids) = repository_of(2);
    let garbage = SnapshotId([0xab; 16]);
    store.put(&manifest_key(garbage), vec![0; 300].into()).unwrap();
    let repository = open(&store);
    let listing = repository.list_snapshots().unwrap();
    assert!(matches!(forget::find(&listing, "abababab").unwrap(), Named::Unbelieved(_)));
    assert_eq!(plan_last(&listing, 1).marks(), ids[..1], "rules do not look at it");
    execute(&repository, &plan_by_name(&listing, &garbage.to_hex()), now_ms(), &Silent).unwrap();
    let listing = repository.list_snapshots().unwrap();
    assert!(listing.unbelieved[0].forgotten.is_some());
    assert!(forgotten(&listing).is_empty());
}

/// A repository in use believes a clock like its own, and neither 1970 nor 2038.
#[test]
fn maintainers_in_1970_and_2038_are_refused() {
    let (store, _) = repository_of(2);
    let seen = open(&store).list_snapshots().unwrap().newest_time;
    assert!(seen.abs_diff(now_ms()) < DAY, "confirmations tell the time");
    assert!(believable_now(seen, None, now_ms(), false).is_ok());
    for clock in [0, 40_000, 2_147_483_647_000] {
        let refused = believable_now(seen, None, clock, false).unwrap_err();
        assert!(refused.message.contains("--i-trust-this-clock"), "{refused}");
        assert_eq!(believable_now(seen, None, clock, true).unwrap(), clock);
    }
    let store: Arc<dyn Store> = Arc::new(OpendalStore::memory().unwrap());
    init(&store);
    assert_eq!(open(&store).list_snapshots().unwrap().newest_time, 0, "nothing is older than it");
}

/// A thief's snapshots cannot stop everybody's rules by a date in the future.
#[test]
fn a_revoked_writer_tells_no_time() {
    let (store, _) = repository_of(1);
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("file"), "text").unwrap();
    let in_2090 = 3_786_912_000_000;
    back_up(&key_of(&store, Role::Write), directory.path(), in_2090);
    let repository = open(&store);
    let listing = repository.list_snapshots().unwrap();
    assert!(listing.newest_time >= in_2090);
    let thief = listing.snapshots.last().unwrap().manifest.writer;
    let options = RemoveOptions {
        force: false,
        rotate: Some(false),
        distrust_since: Some(in_2090),
        distrust: Vec::new(),
    };
    let slot = keys::find(&repository, "write").unwrap();
    keys::remove(&repository, slot, &options, &Silent).unwrap();
    let repository = open(&store);
    let listing = repository.list_snapshots().unwrap();
    let runs = repository.list_runs().unwrap().runs;
    let sign = |writer| {
        let mut run = runs[0].clone();
        (run.writer, run.last_sign) = (writer, in_2090);
        run
    };
    let newest = |run: Run| repository.newest_time(&listing, &[run]).unwrap();
    assert!(believable_now(newest(sign(thief)), None, now_ms(), false).is_ok());
    assert_eq!(newest(sign(listing.snapshots[0].manifest.writer)), in_2090);
}
