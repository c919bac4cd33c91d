//! What a check found.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::format::FormatError;
use crate::id::{PackId, SnapshotId};
use crate::repository::Error;

/// Most findings a report holds; beyond that they are only counted.
pub const MAX_FINDINGS: usize = 10_000;

/// Something about one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The object's key in the store.
    pub key: String,
    pub what: String,
    /// The rule of `format-spec/` that is broken, if it is one.
    pub rule: Option<&'static str>,
}

/// A pack that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedPack {
    pub id: PackId,
    /// It is not there at all, or not with the length it should have.
    pub missing: bool,
    /// Numbers of the blocks whose bytes are damaged, if it is there and was
    /// read. None of them are when the damage lies between blocks.
    pub blocks: Vec<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AffectedWhat {
    /// Bytes or extended attributes of the file at this path are lost.
    Content,
    /// The names of a stretch of the tree are lost, from this path on.
    Names,
    /// Pages of its reference set are lost: all can be restored, but no prune
    /// can be made while the snapshot is there.
    References,
}

/// A path in a snapshot that damage hits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Affected {
    pub snapshot: SnapshotId,
    /// Key of the entry; empty for the whole tree, and for references.
    pub key: Vec<u8>,
    pub what: AffectedWhat,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckCounts {
    pub objects: u64,
    pub segments: u64,
    /// Packs in the index.
    pub packs: u64,
    pub snapshots: u64,
    /// Pages of trees, lists and reference sets.
    pub pages: u64,
    pub entries: u64,
    /// Packs read whole, and their bytes.
    pub packs_read: u64,
    pub bytes_read: u64,
}

#[derive(Clone, Debug, Default)]
pub struct CheckReport {
    /// Damage, sorted by key. Empty means: all that was looked at is whole.
    pub findings: Vec<Finding>,
    /// Worth knowing, and no damage: strangers, remains, unconfirmed snapshots.
    pub notes: Vec<Finding>,
    /// Findings and notes that were too many to list.
    pub left_out: u64,
    /// What this run or this key could not see, in sentences.
    pub unproven: Vec<String>,
    pub damaged_packs: Vec<DamagedPack>,
    /// Only with `affected`; sorted by snapshot and path.
    pub affected: Vec<Affected>,
    pub counts: CheckCounts,
}

impl CheckReport {
    /// Whether no damage was found.
    pub fn is_ok(&self) -> bool {
        self.findings.is_empty()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grade {
    Damage,
    Note,
}

#[derive(Default)]
struct Lists {
    damage: Vec<Finding>,
    notes: Vec<Finding>,
    left_out: u64,
    unproven: Vec<String>,
    counts: CheckCounts,
}

/// Where all parts of a check, on whatever thread, put what they find.
#[derive(Default)]
pub(super) struct Findings {
    lists: Mutex<Lists>,
}

impl Findings {
    fn lock(&self) -> MutexGuard<'_, Lists> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add(&self, grade: Grade, key: &str, what: &str, rule: Option<&'static str>) {
        let mut lists = self.lock();
        if lists.damage.len() + lists.notes.len() >= MAX_FINDINGS {
            // one finding at least must say that there is damage
            let first_damage = grade == Grade::Damage && lists.damage.is_empty();
            if !first_damage {
                lists.left_out += 1;
                return;
            }
        }
        let finding = Finding { key: key.to_owned(), what: what.to_owned(), rule };
        match grade {
            Grade::Damage => lists.damage.push(finding),
            Grade::Note => lists.notes.push(finding),
        }
    }

    pub fn damage(&self, key: &str, what: &str, rule: Option<&'static str>) {
        self.add(Grade::Damage, key, what, rule);
    }

    pub fn note(&self, key: &str, what: &str, rule: Option<&'static str>) {
        self.add(Grade::Note, key, what, rule);
    }

    /// Bytes that break a rule: damage, unless this program is only too old.
    pub fn format(&self, key: &str, error: &FormatError) {
        if error.asks_for_upgrade() || error.rule == "PACK-3" {
            self.note(key, &error.what, Some(error.rule));
            self.unproven(&format!("{key}: {}", error.what));
        } else {
            self.damage(key, &error.what, Some(error.rule));
        }
    }

    /// An error of the repository, whose message may repeat the object's key.
    pub fn error(&self, grade: Grade, key: &str, error: &Error) {
        let what = error.message.strip_prefix(key).and_then(|rest| rest.strip_prefix(": "));
        self.add(grade, key, what.unwrap_or(&error.message), None);
    }

    pub fn unproven(&self, what: &str) {
        let mut lists = self.lock();
        if lists.unproven.len() < MAX_FINDINGS && !lists.unproven.iter().any(|had| had == what) {
            lists.unproven.push(what.to_owned());
        }
    }

    pub fn count(&self, change: impl FnOnce(&mut CheckCounts)) {
        change(&mut self.lock().counts);
    }

    pub fn is_empty(&self) -> bool {
        self.lock().damage.is_empty()
    }

    pub fn into_report(
        self,
        mut damaged_packs: Vec<DamagedPack>,
        affected: Vec<Affected>,
    ) -> CheckReport {
        let mut lists = self.lists.into_inner().unwrap_or_else(PoisonError::into_inner);
        lists.damage.sort_unstable();
        lists.damage.dedup();
        lists.notes.sort_unstable();
        lists.notes.dedup();
        damaged_packs.sort_by_key(|pack| pack.id);
        CheckReport {
            findings: lists.damage,
            notes: lists.notes,
            left_out: lists.left_out,
            unproven: lists.unproven,
            damaged_packs,
            affected,
            counts: lists.counts,
        }
    }
}
