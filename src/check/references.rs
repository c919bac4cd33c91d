//! Reference sets: every page can be read, and every coordinate lies in a pack
//! that is there. Each page is looked at once, however many snapshots share it.

use std::collections::HashMap;

use super::packs::Packs;
use super::report::{Findings, Grade};
use super::{ends_check, grade};
use crate::format::content::Root;
use crate::format::manifest::manifest_key;
use crate::format::pack::{Coordinate, pack_key};
use crate::format::page::{Page, PageKind};
use crate::format::reference::Reference;
use crate::id::ChunkId;
use crate::repository::coordinates::{Holders, ReferenceSet};
use crate::repository::snapshots::Snapshot;
use crate::repository::{Repository, Result};

pub(super) struct ReferenceCheck<'a> {
    repository: &'a Repository,
    packs: &'a Packs<'a>,
    holders: &'a Holders,
    /// ReferenceSet that maintainers moved into packs that stand.
    moved: ReferenceSet,
    findings: &'a Findings,
    /// Pages seen, and whether all is well at and below them.
    seen: HashMap<ChunkId, bool>,
    grade: Grade,
}

impl<'a> ReferenceCheck<'a> {
    pub fn new(
        repository: &'a Repository,
        packs: &'a Packs<'a>,
        holders: &'a Holders,
        findings: &'a Findings,
    ) -> Self {
        let moved = holders.moved_into(&packs.standing);
        let (seen, grade) = (HashMap::new(), Grade::Damage);
        ReferenceCheck { repository, packs, holders, moved, findings, seen, grade }
    }

    pub fn check(&mut self, snapshot: &Snapshot) -> Result<()> {
        self.grade = grade(snapshot);
        let key = manifest_key(snapshot.id);
        if !self.page(&key, snapshot.manifest.references)? {
            let what = "something that it needs is missing or damaged";
            self.findings.add(self.grade, &key, what, None);
        }
        Ok(())
    }

    fn page(&mut self, key: &str, root: Root) -> Result<bool> {
        if let Some(well) = self.seen.get(&root.id) {
            return Ok(*well);
        }
        self.findings.count(|counts| counts.pages += 1);
        let well = match self.repository.read_page(PageKind::Refs, &root.id, root.level) {
            Err(error) if ends_check(&error) => return Err(error),
            Err(error) => {
                self.packs.blame(&root.id)?;
                self.findings.error(self.grade, key, &error);
                false
            }
            Ok(Page::References(references)) => self.references(&references)?,
            Ok(Page::RefsChildren(children)) => {
                let mut well = true;
                for child in children {
                    let child = Root { id: child.id, level: root.level.saturating_sub(1) };
                    well &= self.page(key, child)?;
                }
                well
            }
            Ok(_) => false,
        };
        self.seen.insert(root.id, well);
        Ok(well)
    }

    fn references(&mut self, references: &[Reference]) -> Result<bool> {
        let mut well = true;
        for reference in references {
            let lacking = self.lacking(reference)?;
            if lacking > 0 {
                well = false;
                let what = format!("{lacking} chunks born in it are used and in no pack any more");
                self.findings.add(self.grade, &pack_key(reference.pack), &what, None);
            }
        }
        Ok(well)
    }

    /// How many coordinates lie in no pack that is there.
    fn lacking(&self, reference: &Reference) -> Result<u64> {
        let moved = self.moved.of_pack(reference.birth, reference.pack);
        let own = self.chunks_of(reference);
        let mut lacking = 0;
        for ordinal in reference.ordinals() {
            let there = u32::from(ordinal) < own
                || moved.is_some_and(|moved| moved.contains(ordinal))
                || self.is_elsewhere(reference, ordinal)?;
            lacking += u64::from(!there);
        }
        Ok(lacking)
    }

    /// Chunks in the origin pack, if it stands.
    fn chunks_of(&self, reference: &Reference) -> u32 {
        let number = self.repository.index().pack_number(reference.pack);
        let standing = number.filter(|number| self.packs.standing.contains(number));
        let info = standing.and_then(|number| self.repository.index().pack(number));
        info.filter(|info| info.birth == reference.birth).map_or(0, |info| info.chunks)
    }

    /// Whether the same chunk stands in a pack that makes no claim to the
    /// coordinate: it was lost and stored again.
    fn is_elsewhere(&self, reference: &Reference, ordinal: u16) -> Result<bool> {
        let (birth, pack) = (reference.birth, reference.pack);
        let coordinate = Coordinate { birth, pack, ordinal };
        for place in self.holders.places(self.repository, &coordinate) {
            let toc = self.repository.index().toc(place.pack)?;
            let Some(chunk) = toc.toc.chunks.get(usize::from(place.ordinal)) else { continue };
            if self.packs.has_place(&chunk.id)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
