//! What must hold when all is over, found out the naive way: by walking the
//! trees of all snapshots and reading everything.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use esker::check::{CheckOptions, Finding, Subset, check};
use esker::format::ChunkKind;
use esker::format::content::{Content, Item, Root};
use esker::format::entry::{Entry, EntryKind, display_key};
use esker::format::manifest::manifest_key;
use esker::format::page::{Page, PageKind};
use esker::id::{ChunkId, PackId, SnapshotId};
use esker::progress::Silent;
use esker::repository::snapshots::{Snapshot, State};
use esker::repository::{Repository, Result};

use crate::bases::{Files, trees};

/// Ids of every chunk that some snapshots need, pages of all kinds included.
pub struct Needed<'a> {
    repository: &'a Repository,
    pub chunks: HashSet<ChunkId>,
}

impl<'a> Needed<'a> {
    pub fn by(repository: &'a Repository, snapshots: &[&Snapshot]) -> Result<Needed<'a>> {
        let mut needed = Needed { repository, chunks: HashSet::new() };
        for snapshot in snapshots {
            needed.page(PageKind::Refs, snapshot.manifest.references)?;
            needed.page(PageKind::Tree, repository.private_part(snapshot)?.tree)?;
        }
        Ok(needed)
    }

    fn page(&mut self, kind: PageKind, root: Root) -> Result<()> {
        if !self.chunks.insert(root.id) {
            return Ok(());
        }
        let below = |id| Root { id, level: root.level.saturating_sub(1) };
        match self.repository.read_page(kind, &root.id, root.level)? {
            Page::Entries(entries) => entries.iter().try_for_each(|entry| self.entry(entry)),
            Page::Items(items) => {
                self.items(&items);
                Ok(())
            }
            Page::References(_) => Ok(()),
            Page::TreeChildren(children) => {
                children.iter().try_for_each(|child| self.page(kind, below(child.id)))
            }
            Page::ListChildren(children) => {
                children.iter().try_for_each(|child| self.page(kind, below(child.id)))
            }
            Page::RefsChildren(children) => {
                children.iter().try_for_each(|child| self.page(kind, below(child.id)))
            }
        }
    }

    fn entry(&mut self, entry: &Entry) -> Result<()> {
        self.content(&entry.content)?;
        entry.long_xattrs.iter().try_for_each(|(_, content)| self.content(content))
    }

    fn content(&mut self, content: &Content) -> Result<()> {
        match content {
            Content::Empty | Content::Inline(_) => Ok(()),
            Content::Items(items) => {
                self.items(items);
                Ok(())
            }
            Content::List(root) => self.page(PageKind::List, *root),
        }
    }

    fn items(&mut self, items: &[Item]) {
        self.chunks.extend(items.iter().filter_map(|item| match item {
            Item::Chunk { id, .. } => Some(*id),
            Item::Hole { .. } => None,
        }));
    }
}

/// What each pack that is there and indexed holds.
pub fn packs(repository: &Repository) -> BTreeMap<PackId, Vec<ChunkId>> {
    let listed = repository.listed_packs().unwrap();
    let indexed = repository.index().packs().into_iter();
    indexed
        .filter(|(_, info)| listed.get(&info.id) == Some(&info.length))
        .map(|(number, info)| {
            let toc = repository.index().toc(number).unwrap();
            (info.id, toc.toc.chunks.iter().map(|chunk| chunk.id).collect())
        })
        .collect()
}

/// Files of a snapshot by their names, read to the last byte.
pub fn files(repository: &Repository, snapshot: &Snapshot) -> Result<Files> {
    let root = repository.private_part(snapshot)?.tree;
    let mut files = Files::new();
    for entry in repository.tree(root, b"") {
        let entry = entry?;
        if entry.kind != EntryKind::File {
            continue;
        }
        let path = String::from_utf8(display_key(&entry.key)).unwrap();
        let name = path.strip_prefix("/home/").unwrap_or(&path).to_owned();
        let bytes = match &entry.content {
            Content::Items(items) => {
                let mut bytes = Vec::new();
                for item in items {
                    match item {
                        Item::Chunk { id, .. } => {
                            bytes.extend(repository.read_chunk(id, ChunkKind::Data)?)
                        }
                        Item::Hole { length } => bytes.resize(bytes.len() + *length as usize, 0),
                    }
                }
                bytes
            }
            other => repository.read_value(other, 1 << 30)?,
        };
        files.insert(name, bytes);
    }
    Ok(files)
}

/// Each of these snapshots must be good and read as the directory it was taken of.
pub fn all_kept(
    repository: &Repository,
    kept: &[(SnapshotId, usize)],
) -> std::result::Result<(), String> {
    repository.sync_index(&Silent).map_err(|error| error.to_string())?;
    let (snapshots, troubles) = repository.snapshots().map_err(|error| error.to_string())?;
    if !troubles.is_empty() {
        return Err(format!("troubles: {troubles:?}"));
    }
    for (id, tree) in kept {
        let Some(snapshot) = snapshots.iter().find(|snapshot| snapshot.id == *id) else {
            return Err(format!("lost: snapshot {id} is gone"));
        };
        if snapshot.state != State::Confirmed || snapshot.replaced {
            return Err(format!(
                "lost: snapshot {id} is {:?}, replaced {}",
                snapshot.state, snapshot.replaced
            ));
        }
        match files(repository, snapshot) {
            Ok(files) if files == trees()[*tree].files => {}
            Ok(files) => {
                let names: Vec<_> = files.keys().collect();
                return Err(format!("lost: snapshot {id} holds other files: {names:?}"));
            }
            Err(error) => return Err(format!("lost: snapshot {id}: {error}")),
        }
    }
    Ok(())
}

/// A check that reads everything must find nothing. A backup that slept while its
/// manifest was swept leaves a confirmation of nothing: that alone may be.
pub fn is_whole(
    repository: &Repository,
    kept: &[(SnapshotId, usize)],
) -> std::result::Result<(), String> {
    let options = CheckOptions { read_data: Some(Subset::All), ..CheckOptions::default() };
    let report = check(repository, &options, &Silent).map_err(|error| error.to_string())?;
    let of_nothing = |finding: &&Finding| {
        finding.what == "is missing, and was confirmed"
            && !kept.iter().any(|(id, _)| manifest_key(*id) == finding.key)
    };
    match report.findings.iter().find(|finding| !of_nothing(finding)) {
        None => Ok(()),
        Some(finding) => Err(format!("lost: check found {finding:?}")),
    }
}

/// A plan stays only for a manifest that it names and that stays, as one that was
/// taken back after a prune had announced it and before that crashed.
pub fn no_plan_is_left_over(repository: &Repository) -> std::result::Result<(), String> {
    let plans = repository.announced().map_err(|error| error.to_string())?.announced;
    let listed = repository.listed_packs().map_err(|error| error.to_string())?;
    let (snapshots, _) = repository.snapshots().map_err(|error| error.to_string())?;
    let stays = |id: &SnapshotId| snapshots.iter().any(|snapshot| snapshot.id == *id);
    let idle = plans.iter().find(|plan| {
        plan.sweep.packs.iter().any(|pack| listed.contains_key(pack))
            || !plan.sweep.manifests.iter().any(stays)
    });
    idle.map_or(Ok(()), |plan| Err(format!("left over: plan {plan:?}")))
}

/// After a thorough prune: every chunk that is there is needed, every chunk that
/// is needed is there, and no pack is unknown to the index.
pub fn nothing_is_left_over(repository: &Repository) -> std::result::Result<(), String> {
    let text = |error: esker::repository::Error| error.to_string();
    let (snapshots, _) = repository.snapshots().map_err(text)?;
    let needed = Needed::by(repository, &snapshots.iter().collect::<Vec<_>>()).map_err(text)?;
    let packs = packs(repository);
    let listed: BTreeSet<PackId> = repository.listed_packs().map_err(text)?.into_keys().collect();
    if let Some(unknown) = listed.iter().find(|id| !packs.contains_key(id)) {
        return Err(format!("left over: pack {unknown} is in no index"));
    }
    let indexed = repository.index().packs();
    if let Some((_, info)) = indexed.iter().find(|(_, info)| !listed.contains(&info.id)) {
        return Err(format!("left over: the index tells of pack {}, which is gone", info.id));
    }
    let held: HashSet<ChunkId> = packs.values().flatten().copied().collect();
    if let Some(missing) = needed.chunks.difference(&held).next() {
        return Err(format!("lost: chunk {missing} lies in no pack"));
    }
    for (pack, chunks) in &packs {
        if let Some(unused) = chunks.iter().find(|chunk| !needed.chunks.contains(chunk)) {
            return Err(format!("left over: chunk {unused} in pack {pack} is not needed"));
        }
    }
    Ok(())
}
