//! What snapshots cost, from reference pages and tables of contents only: no
//! tree is walked and nothing is decrypted that a watch key could not open.
//!
//! A chunk counts with its raw length and with its share of the block it lies
//! in: the block's stored length, divided in proportion to raw lengths. Shares of
//! a whole block add up to the block exactly. A coordinate counts once, however
//! many packs hold it; reference pages, padding and tables have no coordinate and
//! count in the repository's totals only.
//!
//! *Freed* is the sum of what no other snapshot uses. It is what a prune with the
//! full key can free; one that cannot re-cut blocks frees less where a block
//! holds other chunks too.
//!
//! Memory: three bits a chunk, the ids of reference pages, and four small
//! numbers a snapshot and page.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::format::content::Root;
use crate::format::pack::{self, Coordinate, PackKind};
use crate::format::page::{Page, PageKind};
use crate::format::reference::Reference;
use crate::format::{config, segment};
use crate::id::{ChunkId, PackId, SnapshotId};
use crate::progress::{Event, Progress};
use crate::repository::coordinates::{Holders, ReferenceSet};
use crate::repository::index::{PackNumber, PackToc};
use crate::repository::snapshots::Snapshot;
use crate::repository::{Error, ErrorKind, Repository, Result};

/// An amount of chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub chunks: u64,
    /// Bytes before compression.
    pub raw: u64,
    /// Shares of stored blocks, in bytes.
    pub stored: u64,
    /// ReferenceSet whose chunk no pack in the index holds; their size is unknown.
    pub unknown: u64,
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Usage) {
        self.chunks += other.chunks;
        self.raw += other.raw;
        self.stored += other.stored;
        self.unknown += other.unknown;
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotStats {
    pub id: SnapshotId,
    /// All it uses.
    pub total: Usage,
    /// What no older snapshot of the same host and profile uses.
    pub added: Usage,
    /// What no other snapshot of the repository uses.
    pub freed: Usage,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStats {
    /// Host or tag.
    pub name: String,
    pub snapshots: u64,
    /// All that any of its snapshots uses, counted once.
    pub total: Usage,
    /// What no snapshot outside the group uses.
    pub freed: Usage,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindStats {
    pub packs: u64,
    /// Lengths of the packs: blocks, padding and tables.
    pub stored: u64,
    pub chunks: u64,
    /// Bytes of chunks before compression.
    pub raw: u64,
    /// Stored share of chunks that no snapshot uses.
    pub unused: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RepositoryStats {
    pub data: KindStats,
    pub tree: KindStats,
    pub refs: KindStats,
    pub segments: u64,
    pub index_bytes: u64,
    /// Manifests, marks, sessions, keys and the like.
    pub small_objects: u64,
    pub small_bytes: u64,
    /// Packs that are in the store and in no index segment.
    pub unlisted_packs: u64,
    pub unlisted_bytes: u64,
    /// All that any snapshot uses, counted once.
    pub used: Usage,
}

#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// In time order.
    pub snapshots: Vec<SnapshotStats>,
    /// By name.
    pub hosts: Vec<GroupStats>,
    pub tags: Vec<GroupStats>,
    pub repository: RepositoryStats,
    /// Snapshots whose reference pages cannot be read. They are left out, so
    /// that *freed* and *unused* may be too high.
    pub troubles: Vec<Error>,
}

/// Counts what `snapshots` use. They must be all there are: *freed* and *unused*
/// are what none of them uses.
pub fn stats(
    repository: &Repository,
    snapshots: &[Snapshot],
    progress: &dyn Progress,
) -> Result<Stats> {
    progress.event(Event::Stage("reading reference sets"));
    let mut sets = Sets::load(repository, snapshots, progress)?;
    let mut sizes = Sizes { repository, holders: Holders::load(repository)?, table: None };
    progress.event(Event::Stage("counting"));
    let singles: Vec<_> = (0..sets.snapshots.len()).map(|at| BTreeSet::from([at])).collect();
    let mut stats = Stats { troubles: std::mem::take(&mut sets.troubles), ..Default::default() };
    let freed = sets.exclusive(&mut sizes, &singles)?;
    let added = sets.added(&mut sizes)?;
    let totals = sets.page_totals(&mut sizes)?;
    for (at, snapshot) in sets.snapshots.iter().enumerate() {
        let mut total = Usage::default();
        sets.leaves_of(at).iter().filter_map(|leaf| totals.get(*leaf)).for_each(|t| total += *t);
        stats.snapshots.push(SnapshotStats {
            id: snapshot.id,
            total,
            added: added.get(at).copied().unwrap_or_default(),
            freed: freed.get(at).copied().unwrap_or_default(),
        });
    }
    stats.hosts = sets.groups(&mut sizes, |snapshot| vec![&snapshot.manifest.host])?;
    stats.tags = sets.groups(&mut sizes, |snapshot| snapshot.tags.iter().collect())?;
    stats.repository = repository_stats(repository, &sets, &mut sizes, progress)?;
    Ok(stats)
}

/// The leaf pages of every snapshot's reference set, by number.
struct Sets<'a> {
    repository: &'a Repository,
    snapshots: Vec<&'a Snapshot>,
    /// Leaf pages of each snapshot.
    leaves: Vec<Arc<[usize]>>,
    /// All leaf pages.
    pages: Vec<ChunkId>,
    /// All pages, inner ones too.
    ids: HashSet<ChunkId>,
    troubles: Vec<Error>,
}

impl<'a> Sets<'a> {
    fn load(
        repository: &'a Repository,
        snapshots: &'a [Snapshot],
        progress: &dyn Progress,
    ) -> Result<Sets<'a>> {
        let mut sorted: Vec<&Snapshot> = snapshots.iter().collect();
        sorted.sort_by_key(|snapshot| (snapshot.manifest.started, snapshot.id));
        let mut sets = Sets {
            repository,
            snapshots: Vec::new(),
            leaves: Vec::new(),
            pages: Vec::new(),
            ids: HashSet::new(),
            troubles: Vec::new(),
        };
        let mut known: HashMap<ChunkId, Arc<[usize]>> = HashMap::new();
        for snapshot in sorted {
            if progress.interrupted() {
                return Err(Error::interrupted());
            }
            match sets.pages_below(snapshot.manifest.references, &mut known) {
                Ok(leaves) => {
                    sets.snapshots.push(snapshot);
                    sets.leaves.push(leaves);
                }
                Err(error) if error.kind == ErrorKind::Damage => {
                    let message = format!("snapshot {}: {error}", snapshot.id);
                    sets.troubles.push(Error::new(error.kind, message));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(sets)
    }

    fn pages_below(
        &mut self,
        root: Root,
        known: &mut HashMap<ChunkId, Arc<[usize]>>,
    ) -> Result<Arc<[usize]>> {
        if let Some(leaves) = known.get(&root.id) {
            return Ok(leaves.clone());
        }
        let leaves: Arc<[usize]> = match root.level {
            0 => {
                // read once here, so that what cannot be read is known before counting
                self.references(&root.id)?;
                self.pages.push(root.id);
                Arc::from([self.pages.len() - 1])
            }
            level => match self.repository.read_page(PageKind::Refs, &root.id, level)? {
                Page::RefsChildren(children) => {
                    let mut leaves = Vec::new();
                    for child in children {
                        let child = Root { id: child.id, level: level - 1 };
                        leaves.extend_from_slice(&self.pages_below(child, known)?);
                    }
                    leaves.into()
                }
                _ => return Err(Error::damage(format!("page {} is of another kind", root.id))),
            },
        };
        self.ids.insert(root.id);
        known.insert(root.id, leaves.clone());
        Ok(leaves)
    }

    fn references(&self, id: &ChunkId) -> Result<Vec<Reference>> {
        match self.repository.read_page(PageKind::Refs, id, 0)? {
            Page::References(references) => Ok(references),
            _ => Err(Error::damage(format!("page {id} is of another kind"))),
        }
    }

    fn page(&self, leaf: usize) -> Result<Vec<Reference>> {
        self.pages.get(leaf).map_or(Ok(Vec::new()), |id| self.references(id))
    }

    fn leaves_of(&self, snapshot: usize) -> &[usize] {
        self.leaves.get(snapshot).map_or(&[], |leaves| leaves)
    }

    fn page_totals(&self, sizes: &mut Sizes<'_>) -> Result<Vec<Usage>> {
        (0..self.pages.len())
            .map(|leaf| {
                let mut total = Usage::default();
                for reference in self.page(leaf)? {
                    sizes.add(&reference, &mut total, |_| true)?;
                }
                Ok(total)
            })
            .collect()
    }

    /// What each snapshot uses that no older one of its line does.
    fn added(&self, sizes: &mut Sizes<'_>) -> Result<Vec<Usage>> {
        let mut lines: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
        for (at, snapshot) in self.snapshots.iter().enumerate() {
            let manifest = &snapshot.manifest;
            lines.entry((&manifest.host, &manifest.profile)).or_default().push(at);
        }
        let mut added = vec![Usage::default(); self.snapshots.len()];
        for line in lines.into_values() {
            let mut seen_pages: HashSet<usize> = HashSet::new();
            let mut seen = ReferenceSet::default();
            for snapshot in line {
                let mut usage = Usage::default();
                for leaf in self.leaves_of(snapshot) {
                    if seen_pages.insert(*leaf) {
                        self.add_new(*leaf, &mut seen, sizes, &mut usage)?;
                    }
                }
                if let Some(added) = added.get_mut(snapshot) {
                    *added = usage;
                }
            }
        }
        Ok(added)
    }

    /// Adds a page to `seen`, and what was not there yet to `usage`.
    fn add_new(
        &self,
        leaf: usize,
        seen: &mut ReferenceSet,
        sizes: &mut Sizes<'_>,
        usage: &mut Usage,
    ) -> Result<()> {
        for reference in self.page(leaf)? {
            let seen = seen.of_pack_mut(reference.birth, reference.pack);
            sizes.add(&reference, usage, |ordinal| seen.insert(ordinal))?;
        }
        Ok(())
    }

    /// What only the snapshots of each group use. Groups do not overlap; who is
    /// in none belongs to the rest.
    fn exclusive(&self, sizes: &mut Sizes<'_>, groups: &[BTreeSet<usize>]) -> Result<Vec<Usage>> {
        const REST: usize = usize::MAX;
        const SEVERAL: usize = usize::MAX - 1;
        let mut group_of = vec![REST; self.snapshots.len()];
        for (number, group) in groups.iter().enumerate() {
            for snapshot in group {
                if let Some(group) = group_of.get_mut(*snapshot) {
                    *group = number;
                }
            }
        }
        let mut users: Vec<Option<usize>> = vec![None; self.pages.len()];
        for (leaves, group) in self.leaves.iter().zip(&group_of) {
            for leaf in leaves.iter() {
                if let Some(user) = users.get_mut(*leaf) {
                    *user = match user {
                        Some(other) if other != group => Some(SEVERAL),
                        _ => Some(*group),
                    };
                }
            }
        }
        // a coordinate is shared as soon as two groups use it, on whatever pages
        let mut shared = ReferenceSet::default();
        let mut pages_of: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (leaf, user) in users.iter().enumerate() {
            pages_of.entry(user.unwrap_or(REST)).or_default().push(leaf);
        }
        let mut once = ReferenceSet::default();
        for (user, pages) in &pages_of {
            let mut own = ReferenceSet::default();
            for leaf in pages {
                for reference in self.page(*leaf)? {
                    let (birth, pack) = (reference.birth, reference.pack);
                    let own = own.of_pack_mut(birth, pack);
                    let once = once.of_pack_mut(birth, pack);
                    for ordinal in reference.ordinals() {
                        let again = own.insert(ordinal) && !once.insert(ordinal);
                        if again || *user == SEVERAL {
                            shared.of_pack_mut(birth, pack).insert(ordinal);
                        }
                    }
                }
            }
        }
        drop(once);
        let mut exclusive = vec![Usage::default(); groups.len()];
        for (user, pages) in &pages_of {
            let Some(usage) = exclusive.get_mut(*user) else { continue };
            let mut counted = ReferenceSet::default();
            for leaf in pages {
                for reference in self.page(*leaf)? {
                    let (birth, pack) = (reference.birth, reference.pack);
                    let counted = counted.of_pack_mut(birth, pack);
                    let shared = shared.of_pack(birth, pack);
                    sizes.add(&reference, usage, |ordinal| {
                        shared.is_none_or(|shared| !shared.contains(ordinal))
                            && counted.insert(ordinal)
                    })?;
                }
            }
        }
        Ok(exclusive)
    }

    fn groups(
        &self,
        sizes: &mut Sizes<'_>,
        names: impl Fn(&'a Snapshot) -> Vec<&'a String>,
    ) -> Result<Vec<GroupStats>> {
        let mut members: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
        for (at, snapshot) in self.snapshots.iter().enumerate() {
            for name in names(snapshot) {
                members.entry(name).or_default().insert(at);
            }
        }
        let mut groups = Vec::new();
        for (name, members) in members {
            // tags overlap: each is compared with the rest on its own
            let freed = self.exclusive(sizes, std::slice::from_ref(&members))?;
            let pages: BTreeSet<usize> =
                members.iter().flat_map(|at| self.leaves_of(*at)).copied().collect();
            let (mut seen, mut total) = (ReferenceSet::default(), Usage::default());
            for leaf in pages {
                self.add_new(leaf, &mut seen, sizes, &mut total)?;
            }
            groups.push(GroupStats {
                name: name.to_owned(),
                snapshots: members.len() as u64,
                total,
                freed: freed.first().copied().unwrap_or_default(),
            });
        }
        Ok(groups)
    }

    fn union(&self) -> Result<ReferenceSet> {
        let mut union = ReferenceSet::default();
        for leaf in 0..self.pages.len() {
            self.page(leaf)?.iter().for_each(|reference| union.add_reference(reference));
        }
        Ok(union)
    }
}

/// Raw length and stored share of each chunk of one pack.
struct ShareTable(Vec<(u32, u32)>);

impl ShareTable {
    fn new(toc: &PackToc) -> ShareTable {
        let mut shares = Vec::with_capacity(toc.toc.chunks.len());
        let mut chunks = toc.toc.chunks.iter();
        for block in &toc.toc.blocks {
            let (stored, raw) = (u64::from(block.stored_length), u64::from(block.raw_length));
            let mut end = 0u64;
            for chunk in chunks.by_ref().take(block.chunks as usize) {
                let start = end;
                end += u64::from(chunk.length);
                // differences of rounded ends, so that they add up to the block
                let share = |at: u64| (stored * at).checked_div(raw).unwrap_or_default();
                shares.push((chunk.length, (share(end) - share(start)) as u32));
            }
        }
        ShareTable(shares)
    }
}

/// Looks up how large chunks are; keeps the table of the pack used last.
struct Sizes<'a> {
    repository: &'a Repository,
    holders: Holders,
    table: Option<(PackNumber, Arc<ShareTable>)>,
}

impl Sizes<'_> {
    fn table(&mut self, number: PackNumber) -> Result<Arc<ShareTable>> {
        if let Some((known, table)) = &self.table
            && *known == number
        {
            return Ok(table.clone());
        }
        let table = Arc::new(ShareTable::new(&*self.repository.index().toc(number)?));
        self.table = Some((number, table.clone()));
        Ok(table)
    }

    /// Adds those chunks of a reference that are `wanted`.
    fn add(
        &mut self,
        reference: &Reference,
        usage: &mut Usage,
        mut wanted: impl FnMut(u16) -> bool,
    ) -> Result<()> {
        let index = self.repository.index();
        let own = index.pack_number(reference.pack);
        let born = own.and_then(|number| index.pack(number)).map(|info| info.birth);
        let table = match own {
            Some(number) if born == Some(reference.birth) => Some(self.table(number)?),
            _ => None,
        };
        for ordinal in reference.ordinals() {
            if !wanted(ordinal) {
                continue;
            }
            usage.chunks += 1;
            let own = table.as_ref().and_then(|table| table.0.get(usize::from(ordinal)).copied());
            let size = match own {
                Some(size) => Some(size),
                None => self.moved(reference, ordinal)?,
            };
            match size {
                Some((raw, stored)) => {
                    usage.raw += u64::from(raw);
                    usage.stored += u64::from(stored);
                }
                None => usage.unknown += 1,
            }
        }
        Ok(())
    }

    fn moved(&mut self, reference: &Reference, ordinal: u16) -> Result<Option<(u32, u32)>> {
        let (birth, pack) = (reference.birth, reference.pack);
        let coordinate = Coordinate { birth, pack, ordinal };
        for place in self.holders.places(self.repository, &coordinate) {
            let table = self.table(place.pack)?;
            if let Some(size) = table.0.get(usize::from(place.ordinal)) {
                return Ok(Some(*size));
            }
        }
        Ok(None)
    }
}

fn repository_stats(
    repository: &Repository,
    sets: &Sets<'_>,
    sizes: &mut Sizes<'_>,
    progress: &dyn Progress,
) -> Result<RepositoryStats> {
    progress.event(Event::Stage("counting packs"));
    let mut stats = RepositoryStats::default();
    let used = sets.union()?;
    let mut counted = ReferenceSet::default();
    for leaf in 0..sets.pages.len() {
        sets.add_new(leaf, &mut counted, sizes, &mut stats.used)?;
    }
    let mut indexed: HashSet<PackId> = HashSet::new();
    for (number, info) in repository.index().packs() {
        if progress.interrupted() {
            return Err(Error::interrupted());
        }
        indexed.insert(info.id);
        let toc = repository.index().toc(number)?;
        let table = sizes.table(number)?;
        let kind = match info.kind {
            PackKind::Data => &mut stats.data,
            PackKind::Tree => &mut stats.tree,
            PackKind::Refs => &mut stats.refs,
        };
        kind.packs += 1;
        kind.stored += info.length;
        for ((chunk, (raw, stored)), ordinal) in toc.toc.chunks.iter().zip(&table.0).zip(0u16..) {
            kind.chunks += 1;
            kind.raw += u64::from(*raw);
            let is_used = match info.kind {
                PackKind::Refs => sets.ids.contains(&chunk.id),
                _ => used.contains(&toc.coordinate(ordinal)),
            };
            if !is_used {
                kind.unused += u64::from(*stored);
            }
        }
    }
    for listed in repository.store().list("")? {
        if listed.key.starts_with(segment::PREFIX) {
            stats.segments += 1;
            stats.index_bytes += listed.length;
        } else if let Some(id) = pack::pack_of_key(&listed.key) {
            if !indexed.contains(&id) {
                stats.unlisted_packs += 1;
                stats.unlisted_bytes += listed.length;
            }
        } else if listed.key == config::CONFIG_KEY || listed.key.contains('/') {
            stats.small_objects += 1;
            stats.small_bytes += listed.length;
        }
    }
    Ok(stats)
}
