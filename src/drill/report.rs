//! What a drill found, covered and did not cover.

use std::collections::{BTreeMap, BTreeSet};

use crate::format::entry::display_key;
use crate::id::{PackId, SnapshotId};
use crate::repository::snapshots::Snapshot;

/// Most findings and remarks of a kind that are kept; all are counted.
pub const MAX_LISTED: usize = 10_000;

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The snapshot in which it was seen; that of a pack that no file needs has none.
    pub snapshot: Option<SnapshotId>,
    /// The file as a user types it, a source's name, or a pack's key.
    pub path: Vec<u8>,
    pub reason: String,
}

/// Findings, each file of a snapshot once.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    by_place: BTreeMap<(Option<SnapshotId>, Vec<u8>), String>,
    left_out: u64,
}

impl Findings {
    pub fn add(&mut self, snapshot: Option<SnapshotId>, path: Vec<u8>, reason: String) {
        if self.by_place.len() >= MAX_LISTED {
            self.left_out += 1;
            return;
        }
        self.by_place.entry((snapshot, path)).or_insert(reason);
    }

    /// Of the file at a tree key.
    pub fn of_key(&mut self, snapshot: &Snapshot, key: &[u8], reason: String) {
        self.add(Some(snapshot.id), display_key(key), reason);
    }

    pub fn of_snapshot(&mut self, snapshot: &Snapshot, reason: String) {
        let path = format!("snapshot {}", &snapshot.id.to_hex()[..8]).into_bytes();
        self.add(Some(snapshot.id), path, reason);
    }

    pub fn has(&self, snapshot: &Snapshot, key: &[u8]) -> bool {
        self.by_place.contains_key(&(Some(snapshot.id), display_key(key)))
    }

    pub fn count(&self) -> u64 {
        self.by_place.len() as u64 + self.left_out
    }

    pub fn iter(&self) -> impl Iterator<Item = Finding> + '_ {
        self.by_place.iter().map(|((snapshot, path), reason)| Finding {
            snapshot: *snapshot,
            path: path.clone(),
            reason: reason.clone(),
        })
    }
}

/// What a drill did.
#[derive(Clone, Debug, Default)]
pub struct DrillReport {
    /// Which snapshots it was about, in words without any path.
    pub extent: String,
    /// Those of which something was restored.
    pub snapshots: Vec<SnapshotId>,
    /// What is wrong with the backup.
    pub findings: Findings,
    /// What could not be written to scratch, which says nothing of the backup.
    pub failures: Vec<String>,
    pub failures_count: u64,
    /// Worth knowing, and nothing wrong.
    pub notes: Vec<String>,
    /// What was not practised, in sentences.
    pub not_covered: Vec<String>,
    /// Packs whose bytes were all compared with their hash, and whose blocks were
    /// restored as far as the snapshots need them.
    pub covered: BTreeSet<PackId>,
    /// Lengths of the covered packs together.
    pub covered_bytes: u64,
    /// Packs that the snapshots use.
    pub packs: u64,
    /// Files that were restored and read back.
    pub files: u64,
    pub bytes: u64,
    /// Files that were compared with the live source.
    pub live: u64,
    /// Sources of which a file was restored, by name.
    pub sources: BTreeSet<String>,
    /// Sources that were loaded into a server, or taken by a command.
    pub loaded: BTreeSet<String>,
    /// Where the hand stands for the next drill of the same extent; none if it stays
    /// where it is.
    pub hand: Option<u64>,
}

impl DrillReport {
    /// Whether nothing is wrong with what was covered.
    pub fn is_good(&self) -> bool {
        self.findings.count() == 0
    }

    pub fn note(&mut self, note: String) {
        if self.notes.len() < MAX_LISTED {
            self.notes.push(note);
        }
    }

    pub fn failure(&mut self, failure: String) {
        self.failures_count += 1;
        if self.failures.len() < MAX_LISTED {
            self.failures.push(failure);
        }
    }

    /// Takes note of a snapshot of which something was restored.
    pub fn practised(&mut self, snapshot: &Snapshot) {
        if !self.snapshots.contains(&snapshot.id) {
            self.snapshots.push(snapshot.id);
        }
    }
}
