//! Groups: what rules count together. Writers are always told apart, so that no
//! key can push out what another one wrote.

use crate::id::WriterId;
use crate::repository::snapshots::Snapshot;

/// What tells groups apart beside the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupBy {
    pub host: bool,
    pub profile: bool,
    pub sources: bool,
    pub tags: bool,
}

impl Default for GroupBy {
    fn default() -> Self {
        GroupBy { host: true, profile: true, sources: true, tags: false }
    }
}

impl GroupBy {
    pub const NONE: GroupBy = GroupBy { host: false, profile: false, sources: false, tags: false };
}

/// What the snapshots of a group have in common; `None` is what was not asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupKey {
    pub writer: WriterId,
    pub set: Option<SetKey>,
    pub host: Option<String>,
    pub profile: Option<String>,
    /// Labels, sorted.
    pub sources: Option<Vec<String>>,
    /// Sorted.
    pub tags: Option<Vec<String>>,
}

/// A part of sets is grouped by its place in them, whatever else is asked: its
/// host may change, its place does not. The sets' names differ from one to the
/// next.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SetKey {
    pub profile: String,
    pub part: String,
    /// Sorted.
    pub parts: Vec<String>,
    /// Sorted.
    pub writers: Vec<WriterId>,
}

impl GroupKey {
    pub fn of(snapshot: &Snapshot, by: GroupBy) -> GroupKey {
        let manifest = &snapshot.manifest;
        let set = manifest.set.as_ref().map(|set| SetKey {
            profile: manifest.profile.clone(),
            part: set.part.clone(),
            parts: sorted(set.parts.clone()),
            writers: sorted(set.writers.clone()),
        });
        let by = if set.is_some() { GroupBy::NONE } else { by };
        let labels = || manifest.sources.iter().map(|source| source.label.clone()).collect();
        GroupKey {
            writer: manifest.writer,
            set,
            host: by.host.then(|| manifest.host.clone()),
            profile: by.profile.then(|| manifest.profile.clone()),
            sources: by.sources.then(|| sorted(labels())),
            tags: by.tags.then(|| sorted(snapshot.tags.clone())),
        }
    }
}

fn sorted<T: Ord>(mut list: Vec<T>) -> Vec<T> {
    list.sort_unstable();
    list.dedup();
    list
}
