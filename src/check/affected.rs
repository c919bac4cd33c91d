//! Which paths of which snapshots damage hits: those whose chunks have no place
//! left that is whole. Pages below which all is whole are walked once.

use std::collections::HashMap;

use super::packs::Packs;
use super::report::{Affected, AffectedWhat, Findings};
use super::{ends_check, stop_if_interrupted};
use crate::format::content::{Content, Item, Root};
use crate::format::entry::Entry;
use crate::format::page::{Page, PageKind};
use crate::id::{ChunkId, SnapshotId};
use crate::progress::{Event, Progress};
use crate::repository::snapshots::Snapshot;
use crate::repository::{Repository, Result};

struct Search<'a> {
    repository: &'a Repository,
    packs: &'a Packs<'a>,
    /// Pages at and below which nothing is hit.
    whole: HashMap<ChunkId, bool>,
    found: Vec<Affected>,
}

pub(super) fn find(
    repository: &Repository,
    snapshots: &[Snapshot],
    packs: &Packs<'_>,
    findings: &Findings,
    progress: &dyn Progress,
) -> Result<Vec<Affected>> {
    let may_read = repository.keyring().may_read_content();
    if !may_read {
        let role = repository.keyring().role.name();
        findings.unproven(&format!("a {role} key cannot tell which files are hit"));
    }
    progress.event(Event::Stage("looking for what is hit"));
    let mut search = Search { repository, packs, whole: HashMap::new(), found: Vec::new() };
    for snapshot in snapshots {
        stop_if_interrupted(progress)?;
        if !search.references(snapshot.manifest.references)? {
            search.hit(snapshot.id, &[], AffectedWhat::References);
        }
        if !may_read {
            continue;
        }
        match repository.private_part(snapshot) {
            Ok(private) => search.tree(snapshot.id, private.tree, &[]).map(drop)?,
            Err(error) if ends_check(&error) => return Err(error),
            Err(_) => search.hit(snapshot.id, &[], AffectedWhat::Names),
        }
    }
    let mut found = search.found;
    found.sort_by(|a, b| (a.snapshot, &a.key).cmp(&(b.snapshot, &b.key)));
    Ok(found)
}

impl Search<'_> {
    fn hit(&mut self, snapshot: SnapshotId, key: &[u8], what: AffectedWhat) {
        self.found.push(Affected { snapshot, key: key.to_vec(), what });
    }

    /// A page whose chunk still has a whole place, and can be read.
    fn page(&self, kind: PageKind, root: Root) -> Result<Option<Page>> {
        if !self.packs.has_place(&root.id)? {
            return Ok(None);
        }
        match self.repository.read_page(kind, &root.id, root.level) {
            Ok(page) => Ok(Some(page)),
            Err(error) if ends_check(&error) => Err(error),
            Err(_) => Ok(None),
        }
    }

    fn references(&mut self, root: Root) -> Result<bool> {
        if let Some(whole) = self.whole.get(&root.id) {
            return Ok(*whole);
        }
        let whole = match self.page(PageKind::Refs, root)? {
            Some(Page::References(_)) => true,
            Some(Page::RefsChildren(children)) => {
                let mut whole = true;
                for child in children {
                    let child = Root { id: child.id, level: root.level.saturating_sub(1) };
                    whole &= self.references(child)?;
                }
                whole
            }
            _ => false,
        };
        self.whole.insert(root.id, whole);
        Ok(whole)
    }

    /// Whether nothing at or below a page is hit. Only whole pages are
    /// remembered: the others are walked again to name their paths.
    fn tree(&mut self, snapshot: SnapshotId, root: Root, first: &[u8]) -> Result<bool> {
        if self.whole.contains_key(&root.id) {
            return Ok(true);
        }
        let mut whole = true;
        match self.page(PageKind::Tree, root)? {
            Some(Page::Entries(entries)) => {
                for entry in entries {
                    if !self.entry(&entry)? {
                        whole = false;
                        self.hit(snapshot, &entry.key, AffectedWhat::Content);
                    }
                }
            }
            Some(Page::TreeChildren(children)) => {
                for child in children {
                    let below = Root { id: child.id, level: root.level.saturating_sub(1) };
                    whole &= self.tree(snapshot, below, &child.first)?;
                }
            }
            _ => {
                whole = false;
                self.hit(snapshot, first, AffectedWhat::Names);
            }
        }
        if whole {
            self.whole.insert(root.id, true);
        }
        Ok(whole)
    }

    fn entry(&mut self, entry: &Entry) -> Result<bool> {
        let mut whole = self.content(&entry.content)?;
        for (_, value) in &entry.long_xattrs {
            whole &= self.content(value)?;
        }
        Ok(whole)
    }

    fn content(&mut self, content: &Content) -> Result<bool> {
        match content {
            Content::Empty | Content::Inline(_) => Ok(true),
            Content::Items(items) => self.items(items),
            Content::List(root) => self.list(*root),
        }
    }

    fn items(&self, items: &[Item]) -> Result<bool> {
        for item in items {
            if let Item::Chunk { id, .. } = item
                && !self.packs.has_place(id)?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn list(&mut self, root: Root) -> Result<bool> {
        if let Some(whole) = self.whole.get(&root.id) {
            return Ok(*whole);
        }
        let whole = match self.page(PageKind::List, root)? {
            Some(Page::Items(items)) => self.items(&items)?,
            Some(Page::ListChildren(children)) => {
                let mut whole = true;
                for child in children {
                    let child = Root { id: child.id, level: root.level.saturating_sub(1) };
                    whole &= self.list(child)?;
                }
                whole
            }
            _ => false,
        };
        self.whole.insert(root.id, whole);
        Ok(whole)
    }
}
