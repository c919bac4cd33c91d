//! Manifests of one run that replace one another: a commit check that fails
//! puts another manifest, which names the one before.
//!
//! `format-spec/11-snapshots.md`; what goes with what is in `13-protocol.md`.

use std::collections::HashMap;

use super::snapshots::{Snapshot, State};
use crate::id::SnapshotId;

/// How many manifests in a row may each replace the one before.
const MAX_REPLACED: usize = 1000;

/// Snapshots by what they replace.
pub struct Chains<'a> {
    by_id: HashMap<SnapshotId, &'a Snapshot>,
}

impl<'a> Chains<'a> {
    pub fn of(snapshots: &'a [Snapshot]) -> Chains<'a> {
        Chains { by_id: snapshots.iter().map(|snapshot| (snapshot.id, snapshot)).collect() }
    }

    /// The snapshot's id, that of the one it says it replaces, and so on, whether
    /// or not that is true. The last one need not be listed.
    pub fn claimed(&self, snapshot: &Snapshot) -> impl Iterator<Item = SnapshotId> + '_ {
        let next = |id: &SnapshotId| self.by_id.get(id).and_then(|s| s.manifest.replaces);
        std::iter::successors(Some(snapshot.id), next).take(MAX_REPLACED)
    }

    /// The run that put a snapshot's first manifest, which has the run's id.
    pub fn run_of(&self, snapshot: &Snapshot) -> SnapshotId {
        self.claimed(snapshot).last().unwrap_or(snapshot.id)
    }

    /// What a snapshot replaces, and what that replaced, the nearest first: what
    /// is forgotten, undone and swept with it. Only a confirmed manifest replaces,
    /// and only one of its own writer.
    pub fn replaced_by(&self, snapshot: &Snapshot) -> Vec<&'a Snapshot> {
        let mut found: Vec<&'a Snapshot> = Vec::new();
        let mut at = snapshot;
        while let Some(before) = self.directly_replaced_by(at) {
            // a circle of manifests that replace each other must not be one for us
            let is_known = before.id == snapshot.id || found.iter().any(|s| s.id == before.id);
            if is_known || found.len() >= MAX_REPLACED {
                break;
            }
            found.push(before);
            at = before;
        }
        found
    }

    fn directly_replaced_by(&self, successor: &Snapshot) -> Option<&'a Snapshot> {
        let replaced = successor.manifest.replaces.filter(|_| successor.state == State::Confirmed);
        let replaced = *self.by_id.get(&replaced?)?;
        (replaced.manifest.writer == successor.manifest.writer).then_some(replaced)
    }
}
