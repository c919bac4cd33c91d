//! Marks: what is said of a snapshot after it was made. Forget, undo, name,
//! description, tags, pin, damaged.
//!
//! `format-spec/12-notes.md`; who may sign which mark is judged in `snapshots`.

use std::sync::atomic::Ordering;

use super::Repository;
use super::error::{Error, Result};
use crate::format::Kind;
use crate::format::notes::{self, MARKS, Mark, MarkKind};
use crate::id::SnapshotId;

/// How long a forgotten snapshot can be taken back, unless its maintainer says
/// otherwise: 7 days.
pub const DEFAULT_GRACE_MS: u64 = 7 * 24 * 3_600_000;

impl Repository {
    /// Puts a mark numbered one above the highest listed for the snapshot.
    /// `time` is in ms since 1970.
    pub fn put_mark(&self, snapshot: SnapshotId, kind: MarkKind, time: u64) -> Result<()> {
        let listed = self.listed_keys(&format!("{MARKS}{snapshot}/"))?;
        let numbers = listed.iter().filter_map(|key| notes::mark_of_key(key));
        let highest = numbers.map(|(_, number)| number).max().unwrap_or(0);
        if highest >= notes::MAX_NUMBER {
            return Err(Error::failed(format!("snapshot {snapshot} has too many marks")));
        }
        let key = notes::new_mark_key(snapshot, highest + 1);
        let mark = Mark { kind, time, kept: Vec::new() };
        self.put_object(Kind::Mark, &key, &mark.encode(), None).map(drop)
    }

    /// Who may forget, undo and prune.
    pub fn require_maintain(&self) -> Result<()> {
        self.keyring().require_maintain()?;
        self.may_use_reserve.store(true, Ordering::Relaxed);
        match self.update().forbids_maintenance() {
            Some(feature) => Err(Error::failed(format!(
                "the repository uses the feature {feature:?}: upgrade esker to maintain it"
            ))),
            None => Ok(()),
        }
    }
}
