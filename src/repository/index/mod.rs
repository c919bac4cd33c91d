//! The local index: which pack holds which chunk, exactly as the listed segments
//! say. A cache in SQLite, keyed by pack; delete it and it is rebuilt.
//!
//! Nothing here decides what exists in the store (`commit` lists that), and
//! nothing here judges signatures (`sync` does, before it inserts).
//!
//! | module | |
//! |---|---|
//! | `tables` | the tables and the statements that change them |
//! | `toc` | tables of contents, and those kept in memory |
//! | `objects` | small objects and reference pages seen before |

mod objects;
mod tables;
mod toc;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard};

use rusqlite::{Connection, OptionalExtension};

pub use self::objects::CachedObject;
pub use self::toc::PackToc;
use self::toc::TocCache;
use super::error::{Error, ErrorKind, Result};
use crate::format::pack::{Birth, PackKind, Toc};
use crate::id::{ChunkId, ObjectHash, PackId, SegmentId, SnapshotId, WriterId};

/// A number for a pack in this database only.
pub type PackNumber = u32;

/// A place that holds a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    pub pack: PackNumber,
    pub ordinal: u16,
}

#[derive(Clone, Debug)]
pub struct PackInfo {
    pub id: PackId,
    pub length: u64,
    pub kind: PackKind,
    pub birth: Birth,
    /// The run that put it.
    pub run: SnapshotId,
    pub chunks: u32,
    /// Whether some of its chunks were born in other packs.
    pub has_foreign: bool,
    /// Who signed its table of contents.
    pub signer: WriterId,
    /// Hash of the table as it lies in the pack: the one that was believed.
    pub frame_hash: [u8; 16],
    /// Who signed the segments that list it.
    pub listed_by: Vec<WriterId>,
}

/// A pack as it goes into the index.
pub struct NewPack {
    pub id: PackId,
    pub length: u64,
    pub signer: WriterId,
    /// Hash of the table as it lies in the pack.
    pub frame_hash: [u8; 16],
    pub toc: Arc<PackToc>,
}

impl NewPack {
    fn info(&self, listed_by: WriterId) -> PackInfo {
        let toc = &self.toc.toc;
        PackInfo {
            id: self.id,
            length: self.length,
            kind: toc.kind,
            birth: toc.birth,
            run: toc.run,
            chunks: toc.chunks.len() as u32,
            has_foreign: !toc.foreign.is_empty(),
            signer: self.signer,
            frame_hash: self.frame_hash,
            listed_by: vec![listed_by],
        }
    }
}

/// A segment as it goes into the index: what counts of it.
pub struct NewSegment<'a> {
    pub id: SegmentId,
    pub signer: WriterId,
    pub supersedes: &'a [SegmentId],
    pub removes: &'a [PackId],
    /// Packs of it that the index has already.
    pub known: &'a [PackId],
    /// Packs of it that are new here.
    pub packs: &'a [NewPack],
}

/// Which packs there are.
#[derive(Default)]
struct PackTable {
    by_number: HashMap<PackNumber, PackInfo>,
    by_id: HashMap<PackId, PackNumber>,
}

pub struct Index {
    database: Mutex<Connection>,
    packs: RwLock<PackTable>,
    tocs: TocCache,
}

fn sql(error: rusqlite::Error) -> Error {
    let message = format!("local index: {error}: delete the cache directory and try again");
    Error::new(ErrorKind::Cache, message)
}

impl Index {
    /// Opens the database in `directory`, or makes it anew when it is missing,
    /// damaged or of another schema; in memory where the disk takes none.
    pub fn open(directory: &Path) -> Result<Index> {
        let path = directory.join("index.sqlite");
        let connection = tables::connect(&path).or_else(|_| {
            for suffix in ["", "-wal", "-shm"] {
                let _ = std::fs::remove_file(directory.join(format!("index.sqlite{suffix}")));
            }
            tables::connect(&path)
        });
        Index::with(connection.or_else(|_| tables::in_memory()).map_err(sql)?)
    }

    pub fn in_memory() -> Result<Index> {
        Index::with(tables::in_memory().map_err(sql)?)
    }

    fn with(connection: Connection) -> Result<Index> {
        let index = Index {
            database: Mutex::new(connection),
            packs: RwLock::default(),
            tocs: TocCache::default(),
        };
        index.load_packs()?;
        Ok(index)
    }

    /// Goes on in memory, empty, when the disk fails: a full cache must not keep
    /// anybody from pruning.
    pub fn leave_disk(&self) -> Result<()> {
        *self.database() = tables::in_memory().map_err(sql)?;
        self.tocs.clear();
        self.load_packs()
    }

    fn database(&self) -> MutexGuard<'_, Connection> {
        self.database.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn table(&self) -> RwLockReadGuard<'_, PackTable> {
        self.packs.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Reads anew which packs there are: other processes use the same database.
    pub fn load_packs(&self) -> Result<()> {
        let database = self.database();
        let table = read_packs(&database).map_err(sql)?;
        // while the database is held, so that no newer table is overwritten
        *self.packs.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = table;
        drop(database);
        Ok(())
    }

    /// Segments that were read whole.
    pub fn segments(&self) -> Result<HashSet<SegmentId>> {
        self.select_segments("SELECT id FROM segment WHERE whole")
    }

    /// Segments of which only some packs were looked up.
    pub fn partial_segments(&self) -> Result<HashSet<SegmentId>> {
        self.select_segments("SELECT id FROM segment WHERE NOT whole")
    }

    fn select_segments(&self, statement: &str) -> Result<HashSet<SegmentId>> {
        let database = self.database();
        let mut statement = database.prepare(statement).map_err(sql)?;
        let rows = statement.query_map([], |row| Ok(SegmentId(row.get(0)?))).map_err(sql)?;
        rows.collect::<rusqlite::Result<_>>().map_err(sql)
    }

    /// Segments that a listed segment of a maintainer replaces.
    pub fn superseded(&self) -> Result<HashSet<SegmentId>> {
        self.select_segments("SELECT DISTINCT old FROM superseded")
    }

    /// Segments of maintainers that replace others.
    pub fn superseding(&self) -> Result<HashSet<SegmentId>> {
        self.select_segments("SELECT DISTINCT segment FROM superseded")
    }

    /// Whether a listed segment of a maintainer removes the pack.
    pub fn is_removed(&self, pack: PackId) -> Result<bool> {
        self.database()
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM removed WHERE pack = ?1)")
            .and_then(|mut statement| statement.query_row([&pack.0[..]], |row| row.get(0)))
            .map_err(sql)
    }

    /// What was loaded was judged by who may maintain. When that is another
    /// judgement than before, all is forgotten, to be loaded and judged anew.
    pub fn judge_anew_unless(&self, judgement: ObjectHash) -> Result<()> {
        let mut database = self.database();
        let before: Option<[u8; 32]> = database
            .query_row("SELECT hash FROM judgement", [], |row| row.get(0))
            .optional()
            .map_err(sql)?;
        if before == Some(judgement.0) {
            return Ok(());
        }
        let transaction = database.transaction().map_err(sql)?;
        tables::clear(&transaction).map_err(sql)?;
        transaction
            .execute("INSERT INTO judgement (hash) VALUES (?1)", [&judgement.0[..]])
            .map_err(sql)?;
        transaction.commit().map_err(sql)?;
        drop(database);
        self.tocs.clear();
        self.load_packs()
    }

    /// Adds one segment with the packs it lists that are new here, in one
    /// transaction.
    pub fn add_segment(&self, segment: &NewSegment<'_>) -> Result<()> {
        self.add(segment, true)
    }

    /// The same with only some of the packs it lists: whoever wants it whole
    /// still has to read it.
    pub fn add_partial(&self, segment: &NewSegment<'_>) -> Result<()> {
        self.add(segment, false)
    }

    fn add(&self, segment: &NewSegment<'_>, whole: bool) -> Result<()> {
        let mut database = self.database();
        let transaction = database.transaction().map_err(sql)?;
        let numbers = add_packs(&transaction, segment.packs).map_err(sql)?;
        tables::link_segment(&transaction, segment, &numbers, whole).map_err(sql)?;
        tables::drop_removed(&transaction, segment.removes).map_err(sql)?;
        transaction.commit().map_err(sql)?;
        let mut table = self.packs.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        drop(database);
        for (pack, number) in segment.packs.iter().zip(numbers) {
            table.by_id.insert(pack.id, number);
            table.by_number.insert(number, pack.info(segment.signer));
        }
        for id in segment.known {
            let number = table.by_id.get(id).copied();
            if let Some(info) = number.and_then(|number| table.by_number.get_mut(&number))
                && !info.listed_by.contains(&segment.signer)
            {
                info.listed_by.push(segment.signer);
            }
        }
        for id in segment.removes {
            if let Some(number) = table.by_id.remove(id) {
                table.by_number.remove(&number);
                self.tocs.remove(number);
            }
        }
        Ok(())
    }

    /// Forgets segments that are no longer listed, and packs that no segment
    /// lists any more.
    pub fn drop_segments(&self, gone: &[SegmentId]) -> Result<()> {
        if gone.is_empty() {
            return Ok(());
        }
        let mut database = self.database();
        let transaction = database.transaction().map_err(sql)?;
        for segment in gone {
            tables::unlink_segment(&transaction, *segment).map_err(sql)?;
        }
        tables::drop_unlisted(&transaction).map_err(sql)?;
        transaction.commit().map_err(sql)?;
        drop(database);
        self.load_packs()
    }

    /// Gives a pack another table of contents. The segments that list it stay.
    pub fn replace_table(&self, pack: &NewPack) -> Result<()> {
        let Some(number) = self.pack_number(pack.id) else { return Ok(()) };
        let old = self.toc(number)?;
        let mut database = self.database();
        let transaction = database.transaction().map_err(sql)?;
        tables::delete_rows(&transaction, number, &old.toc).map_err(sql)?;
        tables::write_pack(&transaction, pack).map_err(sql)?;
        tables::insert_rows(&transaction, tables::chunk_rows(number, &pack.toc.toc))
            .map_err(sql)?;
        transaction.commit().map_err(sql)?;
        drop(database);
        self.tocs.remove(number);
        self.load_packs()
    }

    pub fn pack(&self, number: PackNumber) -> Option<PackInfo> {
        self.table().by_number.get(&number).cloned()
    }

    /// Whether this very table of contents of a pack was believed before.
    pub fn has_frame(&self, id: PackId, length: u64, frame_hash: [u8; 16]) -> bool {
        let table = self.table();
        let info = table.by_id.get(&id).and_then(|number| table.by_number.get(number));
        info.is_some_and(|info| (info.length, info.frame_hash) == (length, frame_hash))
    }

    pub fn pack_number(&self, id: PackId) -> Option<PackNumber> {
        self.table().by_id.get(&id).copied()
    }

    /// All packs, in the order of their numbers.
    pub fn packs(&self) -> Vec<(PackNumber, PackInfo)> {
        let table = self.table();
        let mut packs: Vec<_> =
            table.by_number.iter().map(|(number, info)| (*number, info.clone())).collect();
        packs.sort_by_key(|(number, _)| *number);
        packs
    }

    pub fn is_empty(&self) -> bool {
        self.table().by_id.is_empty()
    }

    /// Bytes of all indexed packs together.
    pub fn stored_bytes(&self) -> u64 {
        self.table().by_number.values().map(|info| info.length).sum()
    }

    /// Who lists a pack: a maintainer in force if there is one among them.
    pub fn lister(&self, id: PackId, trust: &super::Trust) -> Option<WriterId> {
        let info = self.pack(self.pack_number(id)?)?;
        let maintainer = info.listed_by.iter().find(|w| trust.standing(**w).may_maintain());
        maintainer.or(info.listed_by.first()).copied()
    }

    /// Packs that carry chunks which were born in `origin`.
    pub fn carriers(&self, origin: PackId) -> Result<Vec<PackNumber>> {
        let database = self.database();
        let mut statement =
            database.prepare_cached("SELECT pack FROM carried WHERE origin = ?1").map_err(sql)?;
        let rows = statement.query_map([&origin.0[..]], |row| row.get(0)).map_err(sql)?;
        rows.collect::<rusqlite::Result<_>>().map_err(sql)
    }

    /// Packs some of whose chunks other packs carry.
    pub fn carried_origins(&self) -> Result<Vec<PackId>> {
        let database = self.database();
        let mut statement = database.prepare("SELECT DISTINCT origin FROM carried").map_err(sql)?;
        let rows = statement.query_map([], |row| Ok(PackId(row.get(0)?))).map_err(sql)?;
        rows.collect::<rusqlite::Result<_>>().map_err(sql)
    }

    /// Every place that holds the chunk, oldest pack first.
    pub fn places(&self, id: &ChunkId) -> Result<Vec<Place>> {
        let mut places = Vec::new();
        for place in self.candidates(id)? {
            if !self.table().by_number.contains_key(&place.pack) {
                continue;
            }
            let toc = self.toc(place.pack)?;
            let chunk = toc.toc.chunks.get(usize::from(place.ordinal));
            if chunk.is_some_and(|chunk| chunk.id == *id) {
                places.push(place);
            }
        }
        Ok(places)
    }

    fn candidates(&self, id: &ChunkId) -> Result<Vec<Place>> {
        let database = self.database();
        let mut statement =
            database.prepare_cached("SELECT location FROM chunk WHERE prefix = ?1").map_err(sql)?;
        let rows = statement
            .query_map([tables::key(id)], |row| row.get(0).map(tables::place))
            .map_err(sql)?;
        rows.collect::<rusqlite::Result<_>>().map_err(sql)
    }

    pub fn toc(&self, number: PackNumber) -> Result<Arc<PackToc>> {
        if let Some(toc) = self.tocs.get(number) {
            return Ok(toc);
        }
        let row: Option<([u8; 32], Vec<u8>)> = self
            .database()
            .prepare_cached("SELECT id, toc FROM pack WHERE number = ?1")
            .and_then(|mut s| {
                s.query_row([number], |row| Ok((row.get(0)?, row.get(1)?))).optional()
            })
            .map_err(sql)?;
        let gone = || Error::new(ErrorKind::Cache, "local index: a pack is gone from it");
        let (id, bytes) = row.ok_or_else(gone)?;
        let toc = Toc::parse(&bytes).map_err(|error| {
            let what = "delete the cache directory and try again";
            Error::new(ErrorKind::Cache, format!("local index: {error}: {what}"))
        })?;
        let toc = Arc::new(PackToc::new(PackId(id), toc));
        self.tocs.put(number, toc.clone());
        Ok(toc)
    }
}

fn read_packs(database: &Connection) -> rusqlite::Result<PackTable> {
    let mut table = PackTable::default();
    let mut packs = database.prepare(
        "SELECT number, id, length, kind, birth, run, chunks, has_foreign, signer, frame FROM pack
         WHERE id NOT IN (SELECT pack FROM removed)",
    )?;
    let rows = packs.query_map([], |row| {
        let info = PackInfo {
            id: PackId(row.get(1)?),
            length: row.get::<_, i64>(2)? as u64,
            kind: PackKind::from_byte(row.get(3)?).unwrap_or(PackKind::Data),
            birth: Birth(row.get::<_, i64>(4)? as u64),
            run: SnapshotId(row.get(5)?),
            chunks: row.get(6)?,
            has_foreign: row.get(7)?,
            signer: WriterId(row.get(8)?),
            frame_hash: row.get(9)?,
            listed_by: Vec::new(),
        };
        Ok((row.get::<_, PackNumber>(0)?, info))
    })?;
    for row in rows {
        let (number, info) = row?;
        table.by_id.insert(info.id, number);
        table.by_number.insert(number, info);
    }
    let mut listed_by = database.prepare(
        "SELECT DISTINCT segment_pack.pack, segment.signer
         FROM segment_pack JOIN segment ON segment.id = segment_pack.segment",
    )?;
    let rows =
        listed_by.query_map([], |row| Ok((row.get::<_, PackNumber>(0)?, WriterId(row.get(1)?))))?;
    for row in rows {
        let (number, signer) = row?;
        if let Some(info) = table.by_number.get_mut(&number) {
            info.listed_by.push(signer);
        }
    }
    Ok(table)
}

/// Writes packs and their chunks. One that another process added meanwhile keeps
/// its number.
fn add_packs(database: &Connection, packs: &[NewPack]) -> rusqlite::Result<Vec<PackNumber>> {
    let mut rows = Vec::new();
    let mut numbers = Vec::new();
    for pack in packs {
        let number = match tables::number_of(database, pack.id)? {
            Some(number) => number,
            None => tables::write_pack(database, pack)?,
        };
        numbers.push(number);
        rows.extend(tables::chunk_rows(number, &pack.toc.toc));
    }
    tables::insert_rows(database, rows)?;
    Ok(numbers)
}
