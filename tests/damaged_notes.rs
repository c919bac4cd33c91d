//! Confirmations, marks and manifests that cannot be read: what keeps a snapshot,
//! and how it ends in a repository without damage.

mod support;

use std::fs;
use std::sync::Arc;

use esker::check::{CheckOptions, check};
use esker::format::Kind;
use esker::format::manifest::manifest_key;
use esker::format::notes::{self, Confirmation, MarkKind, confirmation_key};
use esker::id::SnapshotId;
use esker::progress::Silent;
use esker::prune::{PruneOptions, PruneReport, outlook, prune};
use esker::repair::{SnapshotsOptions, SnapshotsReport, repair_snapshots};
use esker::repository::now_ms;
use esker::repository::runs::Whereabouts;
use esker::repository::snapshots::Listing;
use esker::status::{overview, undo_until};
use esker::store::{OpendalStore, Store};
use esker::undo::{Undone, undo_unreadable};
use support::{init, open};

struct Fixture {
    store: Arc<dyn Store>,
    ids: [SnapshotId; 2],
}

/// Two snapshots of a file.
fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(OpendalStore::memory().unwrap());
    init(&store);
    let ids = ["one", "two"].map(|text| {
        fs::write(directory.path().join("file"), text).unwrap();
        support::run(&open(&store), directory.path()).snapshot.unwrap()
    });
    Fixture { store, ids }
}

impl Fixture {
    fn flip(&self, key: &str) {
        let mut bytes = self.store.get(key, u64::MAX).unwrap().to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        self.store.delete(key).unwrap();
        self.store.put(key, bytes.into()).unwrap();
    }

    fn put(&self, id: SnapshotId, kind: MarkKind) {
        open(&self.store).put_mark(id, kind, now_ms()).unwrap();
    }

    /// Puts an object that nobody can read where a mark with this number lies.
    fn junk(&self, id: SnapshotId, number: u64) -> String {
        let key = notes::new_mark_key(id, number);
        self.store.put(&key, vec![0; 100].into()).unwrap();
        key
    }

    fn listing(&self) -> Listing {
        open(&self.store).list_snapshots().unwrap()
    }

    fn forgotten(&self, id: SnapshotId) -> bool {
        let listing = self.listing();
        listing.snapshots.iter().any(|s| s.id == id && s.forgotten.is_some())
    }

    fn prune(&self) -> PruneReport {
        let repository = open(&self.store);
        let options = PruneOptions { grace: 0, ..PruneOptions::new(&repository) };
        prune(&repository, &options, &Silent).unwrap()
    }

    fn repair(&self) -> SnapshotsReport {
        let options =
            SnapshotsOptions { host: "host".into(), compression: 3, ..Default::default() };
        repair_snapshots(&open(&self.store), &options, &Silent).unwrap()
    }

    #[track_caller]
    fn is_clean(&self) {
        let report = check(&open(&self.store), &CheckOptions::default(), &Silent).unwrap();
        assert_eq!(report.findings, []);
        assert!(self.listing().troubles.is_empty());
    }
}

#[test]
fn a_damaged_confirmation_ends_in_a_clean_repository() {
    let fixture = fixture();
    let [first, _] = fixture.ids;
    fixture.flip(&notes::confirmation_key(first));
    assert!(fixture.prune().manifests.is_empty(), "it may well be confirmed");
    assert_eq!(fixture.repair().repaired.len(), 1);
    fixture.put(first, MarkKind::Forget);
    assert_eq!(fixture.prune().manifests, [first]);
    fixture.is_clean();
}

#[test]
fn what_may_be_undone_stays_and_a_later_forget_mark_counts() {
    let fixture = fixture();
    let [first, _] = fixture.ids;
    fixture.put(first, MarkKind::Forget);
    fixture.junk(first, 2);
    let report = fixture.prune();
    assert!(report.manifests.is_empty(), "the last word may be an undo");
    assert_eq!(report.plan.held.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [first]);
    fixture.put(first, MarkKind::Forget);
    assert!(fixture.repair().settled.is_empty(), "what was forgotten since stays forgotten");
    assert!(fixture.forgotten(first));
    assert_eq!(fixture.prune().manifests, [first]);
    fixture.is_clean();
}

/// A second manifest of the same run, as a commit check that failed leaves it.
fn replace(fixture: &Fixture, id: SnapshotId) -> SnapshotId {
    let repository = open(&fixture.store);
    let (snapshots, _) = repository.snapshots().unwrap();
    let mut manifest = snapshots.iter().find(|s| s.id == id).unwrap().manifest.clone();
    manifest.id = SnapshotId([0xcd; 16]);
    manifest.replaces = Some(id);
    let key = manifest_key(manifest.id);
    let hash = repository.put_object(Kind::Manifest, &key, &manifest.encode(), None).unwrap();
    let confirmation = Confirmation { manifest: hash, time: now_ms(), kept: Vec::new() };
    let key = confirmation_key(manifest.id);
    repository.put_object(Kind::Confirmation, &key, &confirmation.encode(), None).unwrap();
    manifest.id
}

#[test]
fn what_is_replaced_stays_with_a_successor_that_nobody_can_judge() {
    let fixture = fixture();
    let [first, _] = fixture.ids;
    let successor = replace(&fixture, first);
    fixture.put(successor, MarkKind::Forget);
    fixture.put(first, MarkKind::Forget);
    fixture.junk(successor, 2);
    assert!(fixture.prune().manifests.is_empty());
    fixture.put(successor, MarkKind::Forget);
    assert_eq!(fixture.prune().manifests.len(), 2);
    fixture.is_clean();
}

#[test]
fn junk_with_the_highest_number_is_settled_too() {
    let fixture = fixture();
    let [first, _] = fixture.ids;
    for number in [notes::MAX_NUMBER, notes::MAX_NUMBER - 1, notes::FIRST_ABSURD_MARK - 1] {
        fixture.junk(first, number);
        fixture.put(first, MarkKind::Forget);
        assert!(fixture.forgotten(first), "{number}");
        fixture.put(first, MarkKind::Undo);
        assert!(!fixture.forgotten(first), "{number}");
        fixture.is_clean();
    }
    fixture.put(first, MarkKind::Forget);
    assert_eq!(fixture.prune().manifests, [first]);
    fixture.is_clean();
}

#[test]
fn an_undo_settles_what_cannot_be_read() {
    let fixture = fixture();
    let [first, second] = fixture.ids;
    fixture.junk(first, 1);
    fixture.flip(&manifest_key(second));
    fixture.put(second, MarkKind::Forget);
    let repository = open(&fixture.store);
    let listing = fixture.listing();
    let undo = |id| undo_unreadable(&repository, &listing, id, now_ms()).unwrap();
    assert_eq!(undo(first), Some(Undone::Settled));
    assert_eq!(undo(second), Some(Undone::Unbelieved));
    let listing = fixture.listing();
    assert!(listing.unclear.is_empty() && listing.unbelieved[0].forgotten.is_none());
    let undo = |id| undo_unreadable(&repository, &listing, id, now_ms()).unwrap();
    assert_eq!((undo(first), undo(second)), (None, Some(Undone::NotForgotten)));
}

#[test]
fn a_manifest_that_cannot_be_read_is_forgotten_and_goes_after_its_grace() {
    let fixture = fixture();
    let [first, second] = fixture.ids;
    fixture.flip(&manifest_key(first));
    let repository = open(&fixture.store);
    let options = PruneOptions::new(&repository);
    let refused = || prune(&repository, &options, &Silent).unwrap_err().message;
    assert!(refused().contains(&format!("`esker forget {first}`")), "{}", refused());
    fixture.put(second, MarkKind::Forget);
    fixture.put(first, MarkKind::Forget);
    assert!(refused().contains("the next prune after its grace takes it"), "{}", refused());
    let later = outlook(&repository, &options, &Silent).unwrap();
    assert!(later.len() == 1 && later[0].snapshots == 2, "{later:?}");
    let overview = overview(&repository, &Whereabouts::here(repository.id()), now_ms()).unwrap();
    assert!(undo_until(&overview.unbelieved[0]).unwrap() > now_ms());
    assert_eq!(fixture.prune().manifests.len(), 2);
    fixture.is_clean();
}

#[test]
fn a_settled_mark_is_no_trouble() {
    let fixture = fixture();
    fixture.junk(fixture.ids[0], 1);
    assert!(!fixture.listing().troubles.is_empty());
    assert_eq!(fixture.repair().settled, [fixture.ids[0]]);
    fixture.is_clean();
}
