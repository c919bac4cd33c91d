//! The local index: which pack holds which chunk, exactly as the listed segments
//! say. A cache in SQLite, keyed by pack; delete it and it is rebuilt.
//!
//! Nothing here decides what exists in the store (`commit` lists that), and
//! nothing here judges signatures (`sync` does, before it inserts).
//!
//! | module | |
//! |---|---|
//! | `database` | the connection: changes that hold together, rows not yet written |
//! | `tables` | the tables and the statements that change them |
//! | `rows` | where chunks are: sorted layers of rows, written and merged |
//! | `layers` | what of the layers is in memory; look-ups in them |
//! | `packs` | which packs there are, all in memory |
//! | `toc` | tables of contents, and those kept in memory |
//! | `objects` | small objects and reference pages seen before |

mod database;
mod layers;
mod objects;
mod packs;
mod rows;
mod tables;
#[cfg(test)]
mod tests;
mod toc;

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use rusqlite::OptionalExtension;

use self::database::Database;
use self::layers::Layers;
pub use self::objects::CachedObject;
use self::packs::PackTable;
pub use self::packs::{NewPack, PackInfo, PackNumber};
pub use self::toc::PackToc;
use self::toc::TocCache;
use super::error::{Error, ErrorKind, Result};
use crate::format::pack::Toc;
use crate::id::{ChunkId, ObjectHash, PackId, SegmentId, WriterId};

/// How often a look-up begins anew because another process merged layers.
const TRIES: usize = 16;

/// Between two steps of a merge.
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 0 } else { 150 });

/// A place that holds a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    pub pack: PackNumber,
    pub ordinal: u16,
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

/// Locks are taken in the order of the fields.
pub struct Index {
    /// Held by whoever makes many changes as one.
    batch: Mutex<()>,
    database: Mutex<Database>,
    packs: RwLock<PackTable>,
    layers: Mutex<Layers>,
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
        Index::with(Database::new(connection.or_else(|_| tables::in_memory()).map_err(sql)?))
    }

    pub fn in_memory() -> Result<Index> {
        Index::with(Database::new(tables::in_memory().map_err(sql)?))
    }

    fn with(database: Database) -> Result<Index> {
        let index = Index {
            batch: Mutex::default(),
            database: Mutex::new(database),
            packs: RwLock::default(),
            layers: Mutex::default(),
            tocs: TocCache::default(),
        };
        index.load_packs()?;
        Ok(index)
    }

    /// Goes on in memory, empty, when the disk fails: a full cache must not keep
    /// anybody from pruning.
    pub fn leave_disk(&self) -> Result<()> {
        let mut database = self.database();
        *database = Database::new(tables::in_memory().map_err(sql)?);
        self.forget_all(&mut database)
    }

    fn database(&self) -> MutexGuard<'_, Database> {
        self.database.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn table(&self) -> RwLockReadGuard<'_, PackTable> {
        self.packs.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn table_mut(&self) -> RwLockWriteGuard<'_, PackTable> {
        self.packs.write().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn layers(&self) -> MutexGuard<'_, Layers> {
        self.layers.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Reads anew which packs there are, if another process changed anything:
    /// they use the same database.
    pub fn load_packs(&self) -> Result<()> {
        self.load(&mut self.database())
    }

    fn load(&self, database: &mut Database) -> Result<()> {
        // first: what changes meanwhile is noticed the next time
        let version = database.version().map_err(sql)?;
        if database.loaded == Some(version) {
            return Ok(());
        }
        let table = PackTable::read(database).map_err(sql)?;
        // while the database is held, so that no newer table is overwritten
        let old = std::mem::replace(&mut *self.table_mut(), table);
        let frame = |table: &PackTable, number| {
            table.by_number.get(&number).map(|info: &PackInfo| info.frame_hash)
        };
        let table = self.table();
        self.tocs.retain(|number| frame(&old, number) == frame(&table, number));
        drop(table);
        self.layers().load(database).map_err(sql)?;
        database.loaded = Some(version);
        Ok(())
    }

    /// Numbers may mean something else from now on.
    fn forget_all(&self, database: &mut Database) -> Result<()> {
        database.loaded = None;
        *self.layers() = Layers::default();
        self.tocs.clear();
        self.load(database)
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
        database
            .change(0, |database| {
                tables::clear(database)?;
                database.execute("INSERT INTO judgement (hash) VALUES (?1)", [&judgement.0[..]])
            })
            .map_err(sql)?;
        self.forget_all(&mut database)
    }

    /// Makes many changes as one: all or none of them outlast this call, and
    /// other processes wait. Nothing slow belongs into it.
    pub fn batch<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let _alone = self.batch.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let chunks = self.table().chunks;
        self.database().begin().map_err(sql)?;
        let result = work();
        let mut database = self.database();
        let result = match result {
            Ok(value) => database.commit(chunks, rows::Merging::Defer).map_err(sql).map(|()| value),
            Err(error) => Err(error),
        };
        match result {
            Ok(value) => {
                self.layers().load(&database).map_err(sql)?;
                Ok(value)
            }
            Err(error) => {
                database.roll_back();
                self.forget_all(&mut database)?;
                Err(error)
            }
        }
    }

    /// After batches: merges what they added.
    pub fn settle(&self) -> Result<()> {
        let _alone = self.batch.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        while self.change(|_| Ok(()))?.0.unsettled {
            // other processes that wait try again every tenth of a second
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// One change, by itself or as a part of a batch. The database is still held
    /// when this returns, so that what is in memory can follow in order.
    fn change<T>(
        &self,
        work: impl FnOnce(&mut Database) -> rusqlite::Result<T>,
    ) -> Result<(MutexGuard<'_, Database>, T)> {
        let mut database = self.database();
        let chunks = self.table().chunks;
        match database.change(chunks, work) {
            Ok(value) => {
                if database.is_autocommit() {
                    self.layers().load(&database).map_err(sql)?;
                }
                Ok((database, value))
            }
            Err(error) => {
                if database.is_autocommit() {
                    self.forget_all(&mut database)?;
                }
                Err(sql(error))
            }
        }
    }

    /// Adds one segment with the packs it lists that are new here.
    pub fn add_segment(&self, segment: &NewSegment<'_>) -> Result<()> {
        self.add(segment, true)
    }

    /// The same with only some of the packs it lists: whoever wants it whole
    /// still has to read it.
    pub fn add_partial(&self, segment: &NewSegment<'_>) -> Result<()> {
        self.add(segment, false)
    }

    fn add(&self, segment: &NewSegment<'_>, whole: bool) -> Result<()> {
        let (database, numbers) = self.change(|database| {
            let numbers = database.add_packs(segment.packs)?;
            tables::link_segment(database, segment, &numbers, whole)?;
            tables::drop_removed(database, segment.removes)?;
            Ok(numbers)
        })?;
        let mut table = self.table_mut();
        drop(database);
        for (pack, number) in segment.packs.iter().zip(numbers) {
            table.add(number, pack, segment.signer);
        }
        for id in segment.known {
            table.listed(*id, segment.signer);
        }
        for number in segment.removes.iter().filter_map(|id| table.remove(*id)) {
            self.tocs.remove(number);
        }
        Ok(())
    }

    /// Forgets segments that are no longer listed, and packs that no segment
    /// lists any more.
    pub fn drop_segments(&self, gone: &[SegmentId]) -> Result<()> {
        if gone.is_empty() {
            return Ok(());
        }
        let (mut database, ()) = self.change(|database| {
            for segment in gone {
                tables::unlink_segment(database, *segment)?;
            }
            tables::drop_unlisted(database)
        })?;
        database.loaded = None;
        self.load(&mut database)
    }

    /// Gives a pack another table of contents. The segments that list it stay.
    pub fn replace_table(&self, pack: &NewPack) -> Result<()> {
        let Some(number) = self.pack_number(pack.id) else { return Ok(()) };
        let (mut database, ()) = self.change(|database| {
            tables::forget_carried(database, number)?;
            // rows of the old table name ordinals that hold something else now
            database.write_pack(pack).map(drop)
        })?;
        self.tocs.remove(number);
        database.loaded = None;
        self.load(&mut database)
    }

    pub fn pack(&self, number: PackNumber) -> Option<PackInfo> {
        self.table().by_number.get(&number).cloned()
    }

    /// Whether this very table of contents of a pack was believed before.
    pub fn has_frame(&self, id: PackId, length: u64, frame_hash: [u8; 16]) -> bool {
        let same = |info: &PackInfo| (info.length, info.frame_hash) == (length, frame_hash);
        self.table().get(id).is_some_and(|(_, info)| same(info))
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
        Ok(self.places_and_packs(id)?.into_iter().map(|(place, _)| place).collect())
    }

    /// The same with what is known of the packs.
    pub fn places_and_packs(&self, id: &ChunkId) -> Result<Vec<(Place, PackInfo)>> {
        let mut places = self.candidates(id)?;
        if places.len() > 1 {
            places.sort_unstable();
            places.dedup();
        }
        let mut found = Vec::with_capacity(places.len());
        for place in places {
            let Some(info) = self.pack(place.pack) else { continue };
            // numbers and tables of packs change when the index is made anew
            let same = |pack: &PackInfo| (pack.id, pack.frame_hash) == (info.id, info.frame_hash);
            if self.holds(place, &info, id)?
                && self.table().by_number.get(&place.pack).is_some_and(same)
            {
                found.push((place, info));
            }
        }
        Ok(found)
    }

    /// Places whose row begins like the id.
    fn candidates(&self, id: &ChunkId) -> Result<Vec<Place>> {
        let key = rows::key(id);
        for _ in 0..TRIES {
            let mut places = Vec::new();
            let wanted = self.layers().find(key, &mut places);
            if wanted.is_empty() {
                return Ok(places);
            }
            let database = self.database();
            let mut layers = self.layers();
            if layers.read(&database, &wanted, key, &mut places).map_err(sql)? {
                return Ok(places);
            }
            layers.load(&database).map_err(sql)?;
        }
        let message = "local index: it changes faster than it can be read: try again";
        Err(Error::new(ErrorKind::Cache, message))
    }

    /// Whether the whole id is that of the chunk at a place. Tables that are looked
    /// into often are kept; of others, for ids in no order, only this id is read.
    fn holds(&self, place: Place, info: &PackInfo, id: &ChunkId) -> Result<bool> {
        let toc = match self.tocs.get(place.pack) {
            Some(toc) => Some(toc),
            None if self.tocs.note_look(place.pack, info.chunks) => self.read_toc(place.pack)?,
            None => {
                let found = tables::chunk_id(&self.database(), place).map_err(sql)?;
                return Ok(found == Some(*id));
            }
        };
        Ok(toc.is_some_and(|toc| toc.has_at(place.ordinal, id)))
    }

    /// The table of a pack, if it is in memory.
    pub fn kept_toc(&self, number: PackNumber) -> Option<Arc<PackToc>> {
        self.tocs.get(number)
    }

    pub fn toc(&self, number: PackNumber) -> Result<Arc<PackToc>> {
        if let Some(toc) = self.tocs.get(number) {
            return Ok(toc);
        }
        let gone = || Error::new(ErrorKind::Cache, "local index: a pack is gone from it");
        self.read_toc(number)?.ok_or_else(gone)
    }

    /// Reads a table, unless another process dropped the pack.
    fn read_toc(&self, number: PackNumber) -> Result<Option<Arc<PackToc>>> {
        // held until it is kept: the number may mean another pack afterwards
        let database = self.database();
        let row = tables::read_toc(&database, number).map_err(sql)?;
        let Some((id, bytes)) = row else { return Ok(None) };
        let toc = Toc::parse(&bytes).map_err(|error| {
            let what = "delete the cache directory and try again";
            Error::new(ErrorKind::Cache, format!("local index: {error}: {what}"))
        })?;
        let toc = Arc::new(PackToc::new(id, toc));
        self.tocs.put(number, toc.clone());
        Ok(Some(toc))
    }
}
