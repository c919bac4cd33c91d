//! Which packs some snapshots use, and the newest snapshot that uses each.

use std::collections::{BTreeMap, HashSet};

use super::report::Findings;
use crate::format::content::Root;
use crate::format::pack::Coordinate;
use crate::format::page::Page;
use crate::format::reference::Reference;
use crate::id::ChunkId;
use crate::progress::{Event, Progress};
use crate::repository::coordinates::Holders;
use crate::repository::index::PackNumber;
use crate::repository::snapshots::Snapshot;
use crate::repository::{Error, ErrorKind, Repository, Result};

/// By pack, where in the list of snapshots the first one stands that uses it.
pub type Used = BTreeMap<PackNumber, usize>;

/// The packs that snapshots use: those of their data, of their names, and of the
/// pages of their reference sets. Snapshots come newest first. A set that cannot be
/// read is a finding.
pub fn used(
    repository: &Repository,
    snapshots: &[&Snapshot],
    findings: &mut Findings,
    progress: &dyn Progress,
) -> Result<Used> {
    progress.event(Event::Stage("reading what snapshots use"));
    let holders = Holders::load(repository)?;
    let mut look = Look { repository, holders, seen: HashSet::new(), used: Used::new() };
    for (at, snapshot) in snapshots.iter().enumerate() {
        if progress.interrupted() {
            return Err(Error::interrupted());
        }
        match look.page(snapshot.manifest.references, at) {
            Err(error) if error.kind == ErrorKind::Damage => {
                let reason = format!("its reference set cannot be read: {}", error.message);
                findings.of_snapshot(snapshot, reason);
            }
            result => result?,
        }
    }
    Ok(look.used)
}

struct Look<'a> {
    repository: &'a Repository,
    holders: Holders,
    /// What a page of a newer snapshot names is its own.
    seen: HashSet<ChunkId>,
    used: Used,
}

impl Look<'_> {
    fn page(&mut self, root: Root, at: usize) -> Result<()> {
        if !self.seen.insert(root.id) {
            return Ok(());
        }
        let places = self.repository.places(&root.id)?;
        if let Some(place) = places.first() {
            self.used.entry(place.pack).or_insert(at);
        }
        match self.repository.reference_page(root)? {
            Page::References(references) => {
                references.iter().for_each(|reference| self.reference(reference, at));
                Ok(())
            }
            Page::RefsChildren(children) => children.into_iter().try_for_each(|child| {
                let level = root.level.saturating_sub(1);
                self.page(Root { id: child.id, level }, at)
            }),
            _ => Err(Error::damage(format!("page {} is of another kind", root.id))),
        }
    }

    /// Chunks lie where they were born unless their pack is gone; then in the first
    /// pack they were moved to.
    fn reference(&mut self, reference: &Reference, at: usize) {
        let Reference { birth, pack, .. } = *reference;
        if let Some(number) = self.repository.index().pack_number(pack) {
            self.used.entry(number).or_insert(at);
            return;
        }
        for ordinal in reference.ordinals() {
            let coordinate = Coordinate { birth, pack, ordinal };
            if let Some(place) = self.holders.places(self.repository, &coordinate).first() {
                self.used.entry(place.pack).or_insert(at);
            }
        }
    }
}
