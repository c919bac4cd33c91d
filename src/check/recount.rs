//! Reference sets, computed once more from the trees and compared with what is
//! stored. Many snapshots are compared at once, so that a page they share is
//! read once: from the roots down, level by level, with the set of snapshots
//! that reach it.
//!
//! Memory: two bits a chunk and snapshot compared at once, at most
//! [`MAX_SET_BYTES`] for the sets of all of them but the last.

use std::collections::{HashMap, HashSet};

use super::report::Findings;
use super::{ends_check, grade, stop_if_interrupted};
use crate::format::content::{Content, Item, MAX_LEVEL, Root};
use crate::format::entry::Entry;
use crate::format::manifest::manifest_key;
use crate::format::pack::Coordinate;
use crate::format::page::{Page, PageKind};
use crate::id::ChunkId;
use crate::progress::{Event, Progress};
use crate::repository::coordinates::Holders;
use crate::repository::coordinates::ReferenceSet;
use crate::repository::snapshots::Snapshot;
use crate::repository::{Repository, Result};

/// Snapshots compared at once: one bit each.
const AT_ONCE: usize = 64;
const MAX_SET_BYTES: u64 = 128 << 20;

/// Which of the snapshots compared at once.
type Members = u64;
/// Pages still to be read, by level.
type Pages = Vec<HashMap<ChunkId, Members>>;

struct Compared<'a> {
    snapshot: &'a Snapshot,
    set: ReferenceSet,
    reached: ReferenceSet,
    unnamed: HashSet<ChunkId>,
    /// A page could not be read: what lies below was not reached.
    incomplete: bool,
}

struct Recount<'a> {
    repository: &'a Repository,
    findings: &'a Findings,
    progress: &'a dyn Progress,
    compared: Vec<Compared<'a>>,
}

pub(super) fn check(
    repository: &Repository,
    snapshots: &[Snapshot],
    holders: &Holders,
    findings: &Findings,
    progress: &dyn Progress,
) -> Result<()> {
    if !repository.keyring().may_read_content() {
        let role = repository.keyring().role.name();
        findings.unproven(&format!(
            "a {role} key cannot open trees: reference sets were not compared with them"
        ));
        return Ok(());
    }
    progress.event(Event::Stage("comparing reference sets with trees"));
    let mut recount = Recount { repository, findings, progress, compared: Vec::new() };
    let mut bytes = 0;
    for snapshot in snapshots {
        stop_if_interrupted(progress)?;
        bytes += recount.add(snapshot)?;
        if recount.compared.len() == AT_ONCE || bytes >= MAX_SET_BYTES {
            recount.compare(holders)?;
            bytes = 0;
        }
    }
    recount.compare(holders)
}

impl<'a> Recount<'a> {
    /// Reads a snapshot's set. How many bytes it takes in memory.
    fn add(&mut self, snapshot: &'a Snapshot) -> Result<u64> {
        let (mut set, mut bytes) = (ReferenceSet::default(), 0);
        let read = self.repository.references(snapshot.manifest.references, &mut |reference| {
            bytes += reference.runs.last().map_or(0, |run| u64::from(run.1) / 8) + 64;
            set.add_reference(reference);
            Ok(())
        });
        match read {
            Ok(()) => {
                let (reached, unnamed) = (ReferenceSet::default(), HashSet::new());
                let incomplete = false;
                self.compared.push(Compared { snapshot, set, reached, unnamed, incomplete });
                Ok(2 * bytes)
            }
            Err(error) if ends_check(&error) => Err(error),
            // told of by who checks references
            Err(_) => Ok(0),
        }
    }

    fn compare(&mut self, holders: &Holders) -> Result<()> {
        let levels = usize::from(MAX_LEVEL) + 1;
        let (mut trees, mut lists) = (vec![HashMap::new(); levels], vec![HashMap::new(); levels]);
        for at in 0..self.compared.len() {
            let Some(compared) = self.compared.get_mut(at) else { continue };
            match self.repository.private_part(compared.snapshot) {
                Ok(private) => want(&mut trees, private.tree, 1 << at),
                Err(error) if ends_check(&error) => return Err(error),
                Err(_) => compared.incomplete = true,
            }
        }
        self.walk(PageKind::Tree, &mut trees, &mut lists)?;
        self.walk(PageKind::List, &mut lists, &mut Vec::new())?;
        for compared in std::mem::take(&mut self.compared) {
            compared.report(self.repository, holders, self.findings);
        }
        Ok(())
    }

    /// Reads every page once, the highest first; `lists` takes the lists of files.
    fn walk(&mut self, kind: PageKind, pages: &mut Pages, lists: &mut Pages) -> Result<()> {
        for level in (0..=MAX_LEVEL).rev() {
            let here = pages.get_mut(usize::from(level)).map(std::mem::take).unwrap_or_default();
            for (id, members) in here {
                stop_if_interrupted(self.progress)?;
                self.reach(&id, members)?;
                match self.repository.read_page(kind, &id, level) {
                    Ok(page) => self.page(page, level, members, pages, lists)?,
                    Err(error) if ends_check(&error) => return Err(error),
                    // told of by who walks the trees
                    Err(_) => self.incomplete(members),
                }
            }
        }
        Ok(())
    }

    fn page(
        &mut self,
        page: Page,
        level: u8,
        members: Members,
        pages: &mut Pages,
        lists: &mut Pages,
    ) -> Result<()> {
        let level = level.saturating_sub(1);
        match page {
            Page::Entries(entries) => {
                entries.iter().try_for_each(|entry| self.entry(entry, members, lists))?;
            }
            Page::Items(items) => self.items(&items, members)?,
            Page::TreeChildren(children) => {
                for child in children {
                    want(pages, Root { id: child.id, level }, members);
                }
            }
            Page::ListChildren(children) => {
                for child in children {
                    want(pages, Root { id: child.id, level }, members);
                }
            }
            Page::References(_) | Page::RefsChildren(_) => self.incomplete(members),
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Entry, members: Members, lists: &mut Pages) -> Result<()> {
        let values = entry.long_xattrs.iter().map(|(_, value)| value);
        for content in values.chain([&entry.content]) {
            match content {
                Content::Empty | Content::Inline(_) => {}
                Content::Items(items) => self.items(items, members)?,
                Content::List(root) => want(lists, *root, members),
            }
        }
        Ok(())
    }

    fn items(&mut self, items: &[Item], members: Members) -> Result<()> {
        for item in items {
            if let Item::Chunk { id, .. } = item {
                self.reach(id, members)?;
            }
        }
        Ok(())
    }

    /// Some snapshots reach a chunk: one of its coordinates must be in their sets.
    fn reach(&mut self, id: &ChunkId, members: Members) -> Result<()> {
        let index = self.repository.index();
        let mut coordinates: Vec<Coordinate> = Vec::new();
        for place in index.places(id)? {
            coordinates.push(index.toc(place.pack)?.coordinate(place.ordinal));
        }
        for compared in members_of(&mut self.compared, members) {
            let mut named = false;
            for coordinate in &coordinates {
                if compared.set.contains(coordinate) {
                    compared.reached.add(*coordinate);
                    named = true;
                }
            }
            // one that is in no pack at all is told of as that
            if !named && !coordinates.is_empty() {
                compared.unnamed.insert(*id);
            }
        }
        Ok(())
    }

    fn incomplete(&mut self, members: Members) {
        members_of(&mut self.compared, members).for_each(|compared| compared.incomplete = true);
    }
}

fn want(pages: &mut Pages, root: Root, members: Members) {
    if let Some(level) = pages.get_mut(usize::from(root.level)) {
        *level.entry(root.id).or_default() |= members;
    }
}

fn members_of<'c, 'a>(
    compared: &'c mut [Compared<'a>],
    members: Members,
) -> impl Iterator<Item = &'c mut Compared<'a>> {
    let is_member = move |(at, _): &(usize, &mut Compared<'a>)| members & (1 << *at) != 0;
    compared.iter_mut().enumerate().filter(is_member).map(|(_, compared)| compared)
}

impl Compared<'_> {
    fn report(&self, repository: &Repository, holders: &Holders, findings: &Findings) {
        let key = manifest_key(self.snapshot.id);
        if let Some(first) = self.unnamed.iter().min() {
            let count = self.unnamed.len();
            let what = format!(
                "its reference set does not name {count} chunks that its tree reaches, one of them \
                 {first}: a prune could take them"
            );
            findings.add(grade(self.snapshot), &key, &what, Some("REF-3"));
        }
        if self.incomplete {
            return;
        }
        let mut more = 0u64;
        for reference in self.set.references() {
            let (birth, pack) = (reference.birth, reference.pack);
            for ordinal in reference.ordinals() {
                let coordinate = Coordinate { birth, pack, ordinal };
                let unused = !self.reached.contains(&coordinate);
                // which chunk it was is not known where no pack tells any more
                more += u64::from(unused && !holders.places(repository, &coordinate).is_empty());
            }
        }
        if more > 0 {
            let what = format!(
                "its reference set names {more} chunks that its tree does not reach: a prune keeps \
                 them for nothing"
            );
            findings.note(&key, &what, Some("REF-4"));
        }
    }
}
