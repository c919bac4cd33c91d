//! Records of runs: what a repository keeps of them, and for how long.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

use esker::format::notes::{RECORDS, Record};
use esker::progress::Silent;
use esker::prune::{KEEP_MS, KEEP_NEWEST, PruneOptions, prune};
use esker::record::{self, Finished, MAX_LOG};
use esker::repository::{Repository, now_ms};
use esker::store::{OpendalStore, Store};

const DAY_MS: u64 = 24 * 3600 * 1000;

/// A repository with a snapshot, so that its clock can be believed.
fn repository() -> (Arc<dyn Store>, Repository) {
    let store: Arc<dyn Store> = Arc::new(OpendalStore::memory().unwrap());
    support::init(&store);
    let tree = tempfile::tempdir().unwrap();
    fs::write(tree.path().join("file"), "text").unwrap();
    let repository = support::open(&store);
    support::run(&repository, tree.path());
    (store, repository)
}

/// Puts a record of a run that ended so long ago.
fn put(repository: &Repository, kind: &str, age_ms: u64) -> String {
    let ended = now_ms() - age_ms;
    let record = Record {
        kind: kind.to_owned(),
        started: ended - 1000,
        ended,
        host: "host".to_owned(),
        code: 0,
        extent: "structure".to_owned(),
        snapshots: Vec::new(),
        counts: Vec::new(),
        kept: Vec::new(),
    };
    repository.put_record(record, None).unwrap()
}

fn ids(repository: &Repository) -> BTreeSet<String> {
    let listing = record::list(repository).unwrap();
    assert!(listing.troubles.is_empty());
    listing.records.into_iter().map(|recorded| recorded.id).collect()
}

#[test]
fn what_is_put_is_read_and_the_end_of_a_long_log_is_kept() {
    let (_, repository) = repository();
    let finished = Finished {
        code: 20,
        log: "a line\n".repeat(MAX_LOG),
        ..Finished::new("check", now_ms(), "all data").count("damage", 3)
    };
    let id = record::put(&repository, "harbour", &finished).unwrap();
    let recorded = record::list(&repository).unwrap().records.pop().unwrap();
    assert_eq!((&recorded.id, recorded.record.code), (&id, 20));
    assert_eq!(recorded.record.host, "harbour");
    assert_eq!(recorded.record.counts, [("damage".to_owned(), 3)]);
    let log = record::log(&repository, &recorded).unwrap().unwrap();
    assert!(log.len() <= MAX_LOG && log.starts_with("a line\n"));
}

#[test]
fn what_cannot_be_read_is_a_trouble_and_no_end() {
    let (store, repository) = repository();
    let whole = put(&repository, "check", DAY_MS);
    let junk = format!("{RECORDS}check/{}", "ab".repeat(16));
    store.put(&junk, "no record".into()).unwrap();
    // of another form: no record at all
    store.put(&format!("{RECORDS}walk/x"), "stranger".into()).unwrap();
    let listing = record::list(&repository).unwrap();
    assert_eq!(listing.records.len(), 1);
    assert_eq!(listing.records[0].id, whole);
    assert_eq!(listing.troubles.len(), 1);
    assert!(listing.troubles[0].message.contains(&junk));
}

/// Both must hold: a hundred newer ones of the kind, and 400 days.
#[test]
fn a_prune_takes_records_that_are_old_and_many() {
    let (store, repository) = repository();
    let mut expected: BTreeSet<String> = BTreeSet::new();
    let mut old: Vec<String> = Vec::new();
    for number in 0..KEEP_NEWEST as u64 + 5 {
        // the later ones are older
        old.push(put(&repository, "check", KEEP_MS + (1 + number) * DAY_MS));
    }
    expected.extend(old.iter().take(KEEP_NEWEST).cloned());
    // few of a kind stay, however old
    expected.insert(put(&repository, "prune", 2 * KEEP_MS));
    let pruned = || {
        let repository = support::open(&store);
        prune(&repository, &PruneOptions::new(&repository), &Silent).unwrap();
        ids(&repository)
    };
    assert_eq!(pruned(), expected);
    // many of a kind stay as long as they are not old
    expected.extend((0..KEEP_NEWEST + 5).map(|_| put(&repository, "copy", KEEP_MS - DAY_MS)));
    assert_eq!(pruned(), expected);
}
