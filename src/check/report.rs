//! What a check found.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::format::FormatError;
use crate::format::pack::pack_key;
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
    /// All that kept snapshots use of it lies elsewhere too: nothing is lost.
    pub healed: bool,
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
    /// What is wrong with packs of the index, until it is known whether anything
    /// is lost by it.
    about_packs: BTreeMap<PackId, Vec<Finding>>,
    pending: usize,
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
        if lists.damage.len() + lists.notes.len() + lists.pending >= MAX_FINDINGS {
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
        if !self.is_too_new(key, error) {
            self.damage(key, &error.what, Some(error.rule));
        }
    }

    /// The same in a pack of the index.
    pub fn pack_format(&self, pack: PackId, error: &FormatError) {
        if !self.is_too_new(&pack_key(pack), error) {
            self.about_pack(pack, &error.what, Some(error.rule));
        }
    }

    fn is_too_new(&self, key: &str, error: &FormatError) -> bool {
        let too_new = error.asks_for_upgrade() || error.rule == "PACK-3";
        if too_new {
            self.note(key, &error.what, Some(error.rule));
            self.unproven(&format!("{key}: {}", error.what));
        }
        too_new
    }

    /// An error of the repository, whose message may repeat the object's key.
    pub fn error(&self, grade: Grade, key: &str, error: &Error) {
        let what = error.message.strip_prefix(key).and_then(|rest| rest.strip_prefix(": "));
        self.add(grade, key, what.unwrap_or(&error.message), None);
    }

    /// Something wrong with a pack of the index: damage, unless it turns out that
    /// nothing is lost by it.
    pub fn about_pack(&self, pack: PackId, what: &str, rule: Option<&'static str>) {
        let mut lists = self.lock();
        if lists.damage.len() + lists.notes.len() + lists.pending >= MAX_FINDINGS {
            lists.left_out += 1;
            return;
        }
        lists.pending += 1;
        let finding = Finding { key: pack_key(pack), what: what.to_owned(), rule };
        lists.about_packs.entry(pack).or_default().push(finding);
    }

    /// From here on, what was found of packs is damage, or no more than a note
    /// for those that are `healed`.
    pub fn settle_packs(&self, healed: &HashSet<PackId>) {
        let mut lists = self.lock();
        lists.pending = 0;
        for (pack, findings) in std::mem::take(&mut lists.about_packs) {
            if !healed.contains(&pack) {
                lists.damage.extend(findings);
                continue;
            }
            lists.notes.extend(findings.into_iter().map(|mut finding| {
                finding.what.push_str("; healed: nothing that a kept snapshot uses is lost");
                finding
            }));
        }
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
        let lists = self.lock();
        lists.damage.is_empty() && lists.about_packs.is_empty()
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
