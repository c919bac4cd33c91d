//! Which files a drill restores: those that need the blocks of the packs that it
//! covers, and a few more that are at risk.

use std::collections::hash_map::Entry::Vacant;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::report::Findings;
use crate::format::content::{Content, Item};
use crate::format::entry::{Entry, EntryKind, Metadata, Timestamp, display_key, key_of_path};
use crate::format::pack::{Birth, PackKind, pack_key};
use crate::id::ChunkId;
use crate::progress::Progress;
use crate::repository::index::PackNumber;
use crate::repository::neighbours::{InPack, Neighbours};
use crate::repository::snapshots::Snapshot;
use crate::repository::{Error, ErrorKind, Repository, Result};
use crate::wayback::source_names;

/// Longer files are not restored for being at risk, only where a pack needs it.
const MAX_EXTRA_BYTES: u64 = 256 << 20;

/// A file that is restored. What is known of it decides what the live file is held to.
#[derive(Clone, Debug)]
pub struct Picked {
    /// Its key in the tree.
    pub key: Vec<u8>,
    pub size: u64,
    pub mtime: Timestamp,
    pub ctime: Timestamp,
    pub changed_while_read: bool,
}

impl Picked {
    pub fn of(entry: &Entry) -> Picked {
        let Metadata { size, mtime, ctime, .. } = entry.metadata;
        let changed_while_read = entry.changed_while_read;
        Picked { key: entry.key.clone(), size, mtime, ctime, changed_while_read }
    }
}

/// A block, by its pack and number in it.
pub type BlockPlace = (PackNumber, u32);

/// Finds the files of snapshots that blocks of the covered packs are needed by.
pub struct Sampler<'a> {
    repository: &'a Repository,
    progress: &'a dyn Progress,
    /// The packs that are covered.
    share: &'a BTreeSet<PackNumber>,
    /// Blocks that a file is restored for, and by which the file is named.
    pub users: HashMap<BlockPlace, (usize, Arc<[u8]>)>,
    /// What lies next to each other in a file lies next to each other in a pack.
    near: Neighbours,
}

/// What makes a file be looked at beyond packs.
pub struct Risk<'a> {
    /// How many files.
    pub files: usize,
    /// Keys of the snapshot's sources: one of each at least.
    pub sources: &'a [Vec<u8>],
    /// Data that was stored later was never drilled, in ms since 1970.
    pub drilled: Option<u64>,
    /// Decides what is taken where nothing else does.
    pub seed: u64,
}

impl<'a> Sampler<'a> {
    pub fn new(
        repository: &'a Repository,
        share: &'a BTreeSet<PackNumber>,
        progress: &'a dyn Progress,
    ) -> Sampler<'a> {
        Sampler { repository, progress, share, users: HashMap::new(), near: Neighbours::default() }
    }

    /// A file that a pack is restored for.
    pub fn user_of(&self, pack: PackNumber) -> Option<Arc<[u8]>> {
        let of_pack = self.users.iter().filter(|((of, _), _)| *of == pack);
        of_pack.min_by_key(|((_, block), _)| *block).map(|(_, (_, key))| Arc::clone(key))
    }

    /// Whether a pack holds data of files.
    pub fn is_data(&self, pack: PackNumber) -> bool {
        self.repository.index().pack(pack).is_some_and(|info| info.kind == PackKind::Data)
    }

    /// The key of a pack in the store.
    pub fn key_of(&self, pack: PackNumber) -> String {
        self.repository.index().pack(pack).map_or(String::new(), |info| pack_key(info.id))
    }

    /// Walks over a snapshot, the `at`-th, and picks files: those for which blocks
    /// are read that nobody needed so far, and those at risk.
    pub fn pick(
        &mut self,
        snapshot: &Snapshot,
        at: usize,
        risk: Option<&Risk<'_>>,
        findings: &mut Findings,
    ) -> Result<Vec<Picked>> {
        let mut picked = BTreeMap::new();
        let mut candidates = risk.map(Candidates::new);
        self.walk(snapshot, findings, &mut |sampler, entry, findings| {
            let needs = match sampler.look(entry, at) {
                Ok(needs) => needs,
                Err(error) if error.kind == ErrorKind::Damage => {
                    findings.of_key(snapshot, &entry.key, error.message);
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            if needs.is_needed {
                picked.insert(entry.key.clone(), Picked::of(entry));
            } else if let Some(candidates) = &mut candidates {
                candidates.offer(entry, needs.newest_birth);
            }
            Ok(())
        })?;
        for extra in candidates.into_iter().flat_map(Candidates::take) {
            picked.insert(extra.key.clone(), extra);
        }
        Ok(picked.into_values().collect())
    }

    /// Names files of a snapshot that need any of these blocks, and takes the blocks
    /// out that are named so.
    pub fn name(
        &mut self,
        snapshot: &Snapshot,
        blocks: &mut BTreeSet<BlockPlace>,
        findings: &mut Findings,
        reason: &dyn Fn(BlockPlace) -> String,
    ) -> Result<()> {
        let mut found = BTreeSet::new();
        self.walk(snapshot, &mut Findings::default(), &mut |sampler, entry, _| {
            let mut hit = None;
            let read = sampler.blocks(entry, &mut |place, _| {
                if blocks.contains(&place) {
                    hit = Some(place);
                    found.insert(place);
                }
            });
            if let Some(place) = hit {
                findings.of_key(snapshot, &entry.key, reason(place));
            }
            match read {
                Err(error) if error.kind != ErrorKind::Damage => Err(error),
                _ => Ok(()),
            }
        })?;
        blocks.retain(|place| !found.contains(place));
        Ok(())
    }

    /// Every file of a snapshot, in the order of paths. A part of the tree that
    /// cannot be read is a finding.
    fn walk(
        &mut self,
        snapshot: &Snapshot,
        findings: &mut Findings,
        visit: &mut dyn FnMut(&mut Self, &Entry, &mut Findings) -> Result<()>,
    ) -> Result<()> {
        let repository = self.repository;
        let private = match repository.private_part(snapshot) {
            Err(error) if error.kind == ErrorKind::Damage => {
                findings.of_snapshot(snapshot, error.message);
                return Ok(());
            }
            result => result?,
        };
        let mut walk = repository.tree(private.tree, b"");
        let mut last: Option<Vec<u8>> = None;
        while let Some(entry) = walk.next() {
            if self.progress.interrupted() {
                return Err(Error::interrupted());
            }
            match entry {
                Ok(entry) => {
                    if entry.kind == EntryKind::File {
                        visit(self, &entry, findings)?;
                    }
                    last = Some(entry.key);
                }
                Err(error) if error.kind == ErrorKind::Damage => {
                    walk.skip_unreadable();
                    let reason = |what: &str| format!("{what} cannot be read: {}", error.message);
                    match &last {
                        Some(key) => {
                            findings.of_key(snapshot, key, reason("what follows it"));
                        }
                        None => findings.of_snapshot(snapshot, reason("its names")),
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether a file needs blocks of covered packs that none needed before it.
    fn look(&mut self, entry: &Entry, at: usize) -> Result<Needs> {
        let mut needs = Needs::default();
        let mut new = Vec::new();
        self.blocks(entry, &mut |place, birth| {
            needs.newest_birth = needs.newest_birth.max(birth.0);
            new.push(place);
        })?;
        new.retain(|(pack, _)| self.share.contains(pack));
        let mut key: Option<Arc<[u8]>> = None;
        for place in new {
            if let Vacant(user) = self.users.entry(place) {
                needs.is_needed = true;
                let key = key.get_or_insert_with(|| entry.key.clone().into());
                user.insert((at, Arc::clone(key)));
            }
        }
        Ok(needs)
    }

    /// The blocks that the content of a file lies in.
    fn blocks(&mut self, entry: &Entry, visit: &mut dyn FnMut(BlockPlace, Birth)) -> Result<()> {
        let repository = self.repository;
        let contents = std::iter::once(&entry.content);
        let contents = contents.chain(entry.long_xattrs.iter().map(|(_, content)| content));
        for content in contents {
            if matches!(content, Content::Empty | Content::Inline(_)) {
                continue;
            }
            repository.items(content, &mut |item| match item {
                Item::Chunk { id, .. } => {
                    let (pack, toc, ordinal) = self.place(&id)?;
                    visit((pack, toc.block_of(ordinal) as u32), toc.toc.birth);
                    Ok(())
                }
                Item::Hole { .. } => Ok(()),
            })?;
        }
        Ok(())
    }

    /// Where a restore would read a chunk.
    fn place(&mut self, id: &ChunkId) -> Result<InPack> {
        let found = self.near.place(self.repository, id)?;
        found.ok_or_else(|| Error::damage(format!("its data is missing: no pack holds chunk {id}")))
    }
}

#[derive(Default)]
struct Needs {
    is_needed: bool,
    newest_birth: u64,
}

/// Files at risk, the best of each kind.
struct Candidates<'a> {
    risk: &'a Risk<'a>,
    newest: Best<(Timestamp, u64)>,
    largest: Best<(u64, u64)>,
    undrilled: Best<(u64, u64)>,
    any: Best<u64>,
    /// One of each source, the newest.
    of_sources: Vec<Best<(Timestamp, u64)>>,
}

impl<'a> Candidates<'a> {
    fn new(risk: &'a Risk<'a>) -> Candidates<'a> {
        Candidates {
            risk,
            newest: Best::new(risk.files),
            largest: Best::new(risk.files),
            undrilled: Best::new(risk.files),
            any: Best::new(risk.files),
            of_sources: risk.sources.iter().map(|_| Best::new(1)).collect(),
        }
    }

    fn offer(&mut self, entry: &Entry, newest_birth: u64) {
        let Metadata { size, mtime, .. } = entry.metadata;
        if size > MAX_EXTRA_BYTES {
            return;
        }
        let chance = self.chance(&entry.key);
        self.newest.offer((mtime, chance), entry);
        self.largest.offer((size, chance), entry);
        self.any.offer(chance, entry);
        // a birth begins with the start of its run
        if self.risk.drilled.is_none_or(|drilled| newest_birth >> 20 > drilled) {
            self.undrilled.offer((newest_birth, chance), entry);
        }
        for (source, best) in self.risk.sources.iter().zip(&mut self.of_sources) {
            if is_of(&entry.key, source) {
                best.offer((mtime, chance), entry);
            }
        }
    }

    fn chance(&self, key: &[u8]) -> u64 {
        let hash =
            blake3::Hasher::new().update(&self.risk.seed.to_le_bytes()).update(key).finalize();
        hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    /// One of each source, then in turn the newest, the largest, one that was stored
    /// since the last drill, and any, until there are enough.
    fn take(self) -> Vec<Picked> {
        let mut seen: HashSet<Vec<u8>> = HashSet::new();
        let of_sources = self.of_sources.into_iter().flat_map(Best::files);
        let mut taken: Vec<Picked> =
            of_sources.filter(|picked| seen.insert(picked.key.clone())).collect();
        let mut kinds = [
            self.newest.files().into_iter(),
            self.largest.files().into_iter(),
            self.undrilled.files().into_iter(),
            self.any.files().into_iter(),
        ];
        loop {
            let before = taken.len();
            for kind in &mut kinds {
                if taken.len() >= self.risk.files {
                    return taken;
                }
                taken.extend(kind.find(|picked| seen.insert(picked.key.clone())));
            }
            if taken.len() == before {
                return taken;
            }
        }
    }
}

/// Whether a file is a source, or lies in it.
pub fn is_of(key: &[u8], source: &[u8]) -> bool {
    key.strip_prefix(source).is_some_and(|rest| rest.first().is_none_or(|byte| *byte == 0))
}

/// The files with the highest ranks.
struct Best<R> {
    limit: usize,
    files: BTreeMap<R, Picked>,
}

impl<R: Ord + Copy> Best<R> {
    fn new(limit: usize) -> Best<R> {
        Best { limit, files: BTreeMap::new() }
    }

    fn offer(&mut self, rank: R, entry: &Entry) {
        let is_full = self.files.len() >= self.limit;
        if is_full && self.files.first_key_value().is_none_or(|(least, _)| *least >= rank) {
            return;
        }
        if is_full {
            self.files.pop_first();
        }
        self.files.insert(rank, Picked::of(entry));
    }

    /// Highest first.
    fn files(self) -> Vec<Picked> {
        self.files.into_values().rev().collect()
    }
}

/// The keys of a snapshot's sources with what people call them.
pub fn sources(repository: &Repository, snapshot: &Snapshot) -> Result<Vec<(Vec<u8>, String)>> {
    let private = repository.private_part(snapshot)?;
    let paths = private.paths.iter().filter(|path| path.starts_with(b"/"));
    let mut keys: Vec<Vec<u8>> = paths.map(|path| key_of_path(path)).collect();
    let streams = source_names(repository, snapshot)?;
    keys.extend(streams.into_iter().map(String::into_bytes));
    let named = |key: Vec<u8>| {
        let name = String::from_utf8_lossy(&display_key(&key)).into_owned();
        (key, name)
    };
    Ok(keys.into_iter().map(named).collect())
}
