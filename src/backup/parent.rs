//! What is known of the previous state: the tree of the parent snapshot, or,
//! for a key that cannot open trees, the stat list of its own last run.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::format::content::{Content, Item, Root};
use crate::format::entry::Entry;
use crate::format::reader::Reader;
use crate::id::{ChunkId, RepositoryId, SnapshotId, WriterId, hex};
use crate::repository::coordinates::ReferenceSet;
use crate::repository::pages::{PagePlace, TreeWalk};
use crate::repository::snapshots::Snapshot;
use crate::repository::{Error, ErrorKind, Repository, Result};

const MAGIC: &[u8; 8] = b"eskstat1";
/// Longest record a stat list may hold, in bytes.
const MAX_RECORD: u32 = 64 << 20;
/// Items of a list that fit a record beside its entry.
pub const MAX_LISTED_ITEMS: usize = 1 << 20;

pub enum Previous {
    None,
    Tree { snapshot: SnapshotId, started: u64, root: Root },
    StatList(StatList),
}

/// A stat list that was found whole and belongs to a good snapshot.
pub struct StatList {
    path: PathBuf,
    snapshot: SnapshotId,
    started: u64,
    root: Root,
}

impl Previous {
    pub fn started_ms(&self) -> u64 {
        match self {
            Previous::None => 0,
            Previous::Tree { started, .. } | Previous::StatList(StatList { started, .. }) => {
                *started
            }
        }
    }

    pub fn snapshot(&self) -> Option<SnapshotId> {
        match self {
            Previous::None => None,
            Previous::Tree { snapshot, .. } | Previous::StatList(StatList { snapshot, .. }) => {
                Some(*snapshot)
            }
        }
    }

    pub fn root(&self) -> Option<Root> {
        match self {
            Previous::None => None,
            Previous::Tree { root, .. } | Previous::StatList(StatList { root, .. }) => Some(*root),
        }
    }

    pub fn entries<'a>(&'a self, repository: &'a Repository) -> PreviousEntries<'a> {
        let entries: Records<'a> = match self {
            Previous::None => Records::None,
            Previous::Tree { root, .. } => Records::Tree(repository.tree(*root, b"")),
            Previous::StatList(list) => match StatListReader::open(&list.path) {
                Ok(reader) => Records::StatList(reader),
                Err(_) => Records::None,
            },
        };
        PreviousEntries::new(entries)
    }

    /// Those of a stream source, which begin with its name. A stat list has none of them.
    pub fn entries_of<'a>(&'a self, repository: &'a Repository, name: &str) -> PreviousEntries<'a> {
        PreviousEntries::new(match self {
            Previous::Tree { root, .. } => Records::Tree(repository.tree(*root, name.as_bytes())),
            _ => Records::None,
        })
    }

    /// Picks the newest good snapshot of the same writer, host and profile, with
    /// the same sources if there is one.
    pub fn choose(
        repository: &Repository,
        snapshots: &[Snapshot],
        host: &str,
        profile: &str,
        labels: &[String],
    ) -> Result<Previous> {
        let writer = repository.keyring().writer;
        let mine = |s: &&Snapshot| {
            let m = &s.manifest;
            s.is_good() && m.writer == writer && m.host == host && m.profile == profile
        };
        if !repository.keyring().may_read_content() {
            return Ok(StatList::load(repository, profile, snapshots)
                .map_or(Previous::None, Previous::StatList));
        }
        let same_sources = |s: &&Snapshot| {
            s.manifest.sources.len() == labels.len()
                && s.manifest.sources.iter().all(|source| labels.contains(&source.label))
        };
        let best = snapshots
            .iter()
            .rev()
            .filter(mine)
            .find(same_sources)
            .or_else(|| snapshots.iter().rev().find(mine));
        let Some(snapshot) = best else { return Ok(Previous::None) };
        let private = match repository.private_part(snapshot) {
            Ok(private) => private,
            // a damaged parent costs time, not the backup
            Err(error) if error.kind == ErrorKind::Damage => {
                return Ok(Previous::None);
            }
            Err(error) => return Err(error),
        };
        Ok(Previous::Tree {
            snapshot: snapshot.id,
            started: snapshot.manifest.started,
            root: private.tree,
        })
    }

    /// The coordinates the parent uses; empty when they cannot be read.
    pub fn references(&self, repository: &Repository, snapshots: &[Snapshot]) -> ReferenceSet {
        let mut set = ReferenceSet::default();
        let parent = self.snapshot().and_then(|id| snapshots.iter().find(|s| s.id == id));
        if let Some(parent) = parent {
            let read = repository.references(parent.manifest.references, &mut |reference| {
                set.add_reference(reference);
                Ok(())
            });
            if read.is_err() {
                return ReferenceSet::default();
            }
        }
        set
    }
}

/// An entry of the previous state.
pub struct Record {
    pub entry: Entry,
    /// Items of its list, where the previous state is a stat list.
    pub items: Option<Arc<Vec<Item>>>,
    /// Where it lies, if the previous state is a tree.
    pub place: Option<PagePlace>,
}

enum Records<'a> {
    None,
    Tree(TreeWalk<'a>),
    StatList(StatListReader),
}

impl Iterator for Records<'_> {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Result<Record>> {
        match self {
            Records::None => None,
            Records::Tree(walk) => loop {
                match walk.next()? {
                    // what a lost page named counts as new: only that is read again
                    Err(error) if error.kind == ErrorKind::Damage => walk.skip_unreadable(),
                    Err(error) => return Some(Err(error)),
                    Ok(entry) => {
                        return Some(Ok(Record { entry, items: None, place: walk.place() }));
                    }
                }
            },
            Records::StatList(reader) => reader.next_record(),
        }
    }
}

/// The previous entries, merged with a walk in the same order.
pub struct PreviousEntries<'a> {
    records: Records<'a>,
    /// The first one that was not asked for yet.
    next: Option<Record>,
}

impl<'a> PreviousEntries<'a> {
    fn new(records: Records<'a>) -> PreviousEntries<'a> {
        PreviousEntries { records, next: None }
    }

    /// The previous entry at `key`. Those passed over are no longer there.
    /// What cannot be read counts as unknown: the files are read again.
    pub fn find(&mut self, key: &[u8], removed: &mut dyn FnMut(&Entry)) -> Result<Option<Record>> {
        loop {
            if self.next.is_none() {
                self.next = match self.records.next().transpose() {
                    Ok(Some(record)) => Some(record),
                    Err(error) if error.kind != ErrorKind::Damage => return Err(error),
                    Ok(None) | Err(_) => {
                        self.records = Records::None;
                        return Ok(None);
                    }
                };
            }
            match self.next.take_if(|record| record.entry.key.as_slice() <= key) {
                None => return Ok(None),
                Some(record) if record.entry.key == key => return Ok(Some(record)),
                Some(record) => removed(&record.entry),
            }
        }
    }

    pub fn skip_rest(&mut self, removed: &mut dyn FnMut(&Entry)) -> Result<()> {
        self.next.take().iter().for_each(|record| removed(&record.entry));
        for record in &mut self.records {
            let Ok(record) = record else { return Ok(()) };
            removed(&record.entry);
        }
        Ok(())
    }
}

fn stat_list_path(directory: &Path, writer: WriterId, profile: &str) -> PathBuf {
    let profile = hex(&blake3::hash(profile.as_bytes()).as_bytes()[..8]);
    directory.join(format!("stat-{writer}-{profile}"))
}

fn header(repository: RepositoryId, writer: WriterId) -> Vec<u8> {
    [&MAGIC[..], &repository.0, &writer.0].concat()
}

impl StatList {
    /// The list of this writer's last confirmed run, if that snapshot is still
    /// listed, good and unforgotten, and the list is whole.
    fn load(repository: &Repository, profile: &str, snapshots: &[Snapshot]) -> Option<StatList> {
        let writer = repository.keyring().writer;
        let path = stat_list_path(repository.local().directory()?, writer, profile);
        let file = File::open(&path).ok()?;
        let length = file.metadata().ok()?.len();
        // header 40, tail: snapshot 16, started 8, root 33, hash 32
        let tail_at = length.checked_sub(89).filter(|at| *at >= 40)?;
        let mut reader = BufReader::new(file);
        let mut hasher = blake3::Hasher::new();
        std::io::copy(&mut (&mut reader).take(length - 32), &mut hasher).ok()?;
        let mut hash = [0; 32];
        reader.read_exact(&mut hash).ok()?;
        if *hasher.finalize().as_bytes() != hash {
            return None;
        }
        let file = reader.into_inner();
        let mut start = [0; 40];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut start, 0).ok()?;
        if start[..] != header(repository.id(), writer) {
            return None;
        }
        let mut tail = [0; 57];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut tail, tail_at).ok()?;
        let mut fields = Reader::new(&tail, "stat list");
        let snapshot = SnapshotId(fields.array().ok()?);
        let started = fields.u64().ok()?;
        let root = Root { id: ChunkId(fields.array().ok()?), level: fields.u8().ok()? };
        let listed = snapshots.iter().find(|listed| listed.id == snapshot)?;
        listed.is_good().then_some(StatList { path, snapshot, started, root })
    }
}

struct StatListReader {
    file: BufReader<File>,
}

impl StatListReader {
    fn open(path: &Path) -> std::io::Result<StatListReader> {
        let mut file = BufReader::with_capacity(1 << 20, File::open(path)?);
        file.read_exact(&mut [0; 40])?;
        Ok(StatListReader { file })
    }

    /// The list was found whole before, so what fails now is the disk.
    fn next_record(&mut self) -> Option<Result<Record>> {
        let broken = || Error::damage("the stat list cannot be read");
        let mut length = [0; 4];
        if self.file.read_exact(&mut length).is_err() {
            return Some(Err(broken()));
        }
        let length = u32::from_le_bytes(length);
        if length == 0 {
            return None;
        }
        if length > MAX_RECORD {
            return Some(Err(broken()));
        }
        let mut bytes = vec![0; length as usize];
        if self.file.read_exact(&mut bytes).is_err() {
            return Some(Err(broken()));
        }
        Some(parse_record(&bytes).map_err(|_| broken()))
    }
}

fn parse_record(bytes: &[u8]) -> crate::format::Result<Record> {
    let mut reader = Reader::new(bytes, "stat list");
    let entry = Entry::parse(&mut reader)?;
    let mut items = Vec::new();
    while reader.remaining() > 0 {
        items.push(Item::parse(&mut reader)?);
    }
    let listed = matches!(entry.content, Content::List(_));
    Ok(Record { entry, items: listed.then(|| Arc::new(items)), place: None })
}

/// Writes the stat list of a run, beside the old one until the run is good.
pub struct StatListWriter {
    file: BufWriter<File>,
    hasher: blake3::Hasher,
    temporary: PathBuf,
    path: PathBuf,
}

impl StatListWriter {
    /// Nothing for keys that can open trees, or without a cache directory.
    pub fn create(repository: &Repository, profile: &str) -> Option<StatListWriter> {
        if repository.keyring().may_read_content() {
            return None;
        }
        let writer = repository.keyring().writer;
        let path = stat_list_path(repository.local().directory()?, writer, profile);
        let temporary = path.with_extension(format!("tmp{}", std::process::id()));
        let file = std::os::unix::fs::OpenOptionsExt::mode(
            std::fs::OpenOptions::new().write(true).create(true).truncate(true),
            0o600,
        )
        .open(&temporary)
        .ok()?;
        let mut list = StatListWriter {
            file: BufWriter::with_capacity(1 << 20, file),
            hasher: blake3::Hasher::new(),
            temporary,
            path,
        };
        list.write(&header(repository.id(), writer)).ok()?;
        Some(list)
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.hasher.update(bytes);
        self.file.write_all(bytes)
    }

    /// One entry; `items` are those of its list, if its content is one. A list
    /// too long for a record is left out: its file will be read again.
    pub fn add(&mut self, entry: &Entry, items: Option<&[Item]>) -> std::io::Result<()> {
        let Some(items) = items else { return Ok(()) };
        let mut record = Vec::with_capacity(256);
        entry.encode_into(&mut record);
        items.iter().for_each(|item| item.encode_into(&mut record));
        self.write(&(record.len() as u32).to_le_bytes())?;
        self.write(&record)
    }

    /// Puts the list in force: the snapshot it belongs to is good.
    pub fn finish(mut self, snapshot: SnapshotId, started: u64, root: Root) -> std::io::Result<()> {
        self.write(&0u32.to_le_bytes())?;
        self.write(&snapshot.0)?;
        self.write(&started.to_le_bytes())?;
        self.write(&root.id.0)?;
        self.write(&[root.level])?;
        let hash = *self.hasher.finalize().as_bytes();
        self.file.write_all(&hash)?;
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        std::fs::rename(&self.temporary, &self.path)
    }
}

impl Drop for StatListWriter {
    fn drop(&mut self) {
        // after a rename there is nothing left under this name
        let _ = std::fs::remove_file(&self.temporary);
    }
}
