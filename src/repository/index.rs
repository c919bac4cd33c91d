//! The local index: which pack holds which chunk, exactly as the listed segments
//! say. A cache in SQLite, keyed by pack; delete it and it is rebuilt.
//!
//! Nothing here decides what exists in the store (`commit` lists that), and
//! nothing here judges signatures (`sync` does, before it inserts).

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, RwLock};

use rusqlite::{Connection, OptionalExtension, params};

use super::error::{Error, Result};
use crate::format::pack::{Birth, Coordinate, PackKind, Toc};
use crate::id::{ChunkId, ObjectHash, PackId, SegmentId, WriterId};

/// Raise it whenever the tables change: an older database is thrown away.
const SCHEMA: i64 = 3;
/// Decoded tables of contents kept in memory, in chunks.
const TOC_CACHE_CHUNKS: usize = 400_000;

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
    pub chunks: u32,
    /// Whether some of its chunks were born in other packs.
    pub has_foreign: bool,
    /// Who signed its table of contents.
    pub signer: WriterId,
    /// Who signed the segments that list it.
    pub listed_by: Vec<WriterId>,
}

/// A table of contents with what look-ups in it need.
pub struct PackToc {
    pub pack: PackId,
    pub toc: Toc,
    pub offsets: Vec<u64>,
    /// Ordinal of each block's first chunk.
    pub first_ordinals: Vec<u32>,
    by_id: HashMap<ChunkId, u16>,
}

impl PackToc {
    pub fn new(pack: PackId, toc: Toc) -> Self {
        let offsets = toc.offsets();
        let mut next = 0;
        let first_ordinals = toc
            .blocks
            .iter()
            .map(|block| {
                let first = next;
                next += block.chunks;
                first
            })
            .collect();
        let by_id =
            toc.chunks.iter().zip(0u16..=u16::MAX).map(|(chunk, at)| (chunk.id, at)).collect();
        PackToc { pack, toc, offsets, first_ordinals, by_id }
    }

    pub fn block_of(&self, ordinal: u16) -> usize {
        self.first_ordinals.partition_point(|first| *first <= u32::from(ordinal)) - 1
    }

    pub fn ordinal_of(&self, id: &ChunkId) -> Option<u16> {
        self.by_id.get(id).copied()
    }

    pub fn coordinate(&self, ordinal: u16) -> Coordinate {
        self.toc.coordinate(self.pack, ordinal)
    }
}

/// Which packs there are.
#[derive(Default)]
struct PackTable {
    by_number: HashMap<PackNumber, PackInfo>,
    by_id: HashMap<PackId, PackNumber>,
}

#[derive(Default)]
struct TocCache {
    tocs: HashMap<PackNumber, (Arc<PackToc>, u64)>,
    chunks: usize,
    clock: u64,
}

pub struct Index {
    database: Mutex<Connection>,
    packs: RwLock<PackTable>,
    cache: Mutex<TocCache>,
}

/// A pack as it goes into the index.
pub struct NewPack {
    pub id: PackId,
    pub length: u64,
    pub signer: WriterId,
    pub toc: Arc<PackToc>,
}

fn sql(error: rusqlite::Error) -> Error {
    Error::failed(format!("local index: {error}: delete the cache directory and try again"))
}

fn key(id: &ChunkId) -> i64 {
    let mut first = [0; 8];
    first.copy_from_slice(&id.0[..8]);
    i64::from_be_bytes(first)
}

fn location(place: Place) -> i64 {
    i64::from(place.pack) << 16 | i64::from(place.ordinal)
}

fn place(location: i64) -> Place {
    Place { pack: (location >> 16) as u32, ordinal: location as u16 }
}

const TABLES: &str = "
CREATE TABLE segment (id BLOB PRIMARY KEY, signer BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE removed (pack BLOB, segment BLOB, PRIMARY KEY (pack, segment)) WITHOUT ROWID;
CREATE TABLE pack (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE, length INTEGER NOT NULL,
    kind INTEGER NOT NULL, birth INTEGER NOT NULL, chunks INTEGER NOT NULL,
    has_foreign INTEGER NOT NULL, signer BLOB NOT NULL, toc BLOB NOT NULL);
CREATE TABLE segment_pack (pack INTEGER, segment BLOB, PRIMARY KEY (pack, segment)) WITHOUT ROWID;
CREATE TABLE chunk (prefix INTEGER, location INTEGER, PRIMARY KEY (prefix, location)) WITHOUT ROWID;
CREATE TABLE judgement (hash BLOB NOT NULL);
CREATE TABLE object (key TEXT PRIMARY KEY, bytes BLOB NOT NULL) WITHOUT ROWID;
";

impl Index {
    /// Opens the database in `directory`, or makes it anew when it is missing,
    /// damaged or of another schema.
    pub fn open(directory: &Path) -> Result<Index> {
        let path = directory.join("index.sqlite");
        let connection = connect(&path).or_else(|_| {
            for suffix in ["", "-wal", "-shm"] {
                let _ = std::fs::remove_file(directory.join(format!("index.sqlite{suffix}")));
            }
            connect(&path)
        });
        Index::with(connection.map_err(sql)?)
    }

    pub fn in_memory() -> Result<Index> {
        let connection = Connection::open_in_memory().map_err(sql)?;
        prepare(&connection).map_err(sql)?;
        Index::with(connection)
    }

    fn with(connection: Connection) -> Result<Index> {
        let index = Index {
            database: Mutex::new(connection),
            packs: RwLock::default(),
            cache: Mutex::default(),
        };
        index.load_packs()?;
        Ok(index)
    }

    fn database(&self) -> MutexGuard<'_, Connection> {
        self.database.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Reads anew which packs there are: other processes use the same database.
    pub fn load_packs(&self) -> Result<()> {
        let mut table = PackTable::default();
        let database = self.database();
        let mut packs = database
            .prepare(
                "SELECT number, id, length, kind, birth, chunks, has_foreign, signer FROM pack
                 WHERE id NOT IN (SELECT pack FROM removed)",
            )
            .map_err(sql)?;
        let rows = packs
            .query_map([], |row| {
                Ok((
                    row.get::<_, u32>(0)?,
                    PackInfo {
                        id: PackId(row.get(1)?),
                        length: row.get::<_, i64>(2)? as u64,
                        kind: PackKind::from_byte(row.get(3)?).unwrap_or(PackKind::Data),
                        birth: Birth(row.get::<_, i64>(4)? as u64),
                        chunks: row.get(5)?,
                        has_foreign: row.get(6)?,
                        signer: WriterId(row.get(7)?),
                        listed_by: Vec::new(),
                    },
                ))
            })
            .map_err(sql)?;
        for row in rows {
            let (number, info) = row.map_err(sql)?;
            table.by_id.insert(info.id, number);
            table.by_number.insert(number, info);
        }
        let mut listed_by = database
            .prepare(
                "SELECT DISTINCT segment_pack.pack, segment.signer
                 FROM segment_pack JOIN segment ON segment.id = segment_pack.segment",
            )
            .map_err(sql)?;
        let rows = listed_by
            .query_map([], |row| Ok((row.get::<_, u32>(0)?, WriterId(row.get(1)?))))
            .map_err(sql)?;
        for row in rows {
            let (number, signer) = row.map_err(sql)?;
            if let Some(info) = table.by_number.get_mut(&number) {
                info.listed_by.push(signer);
            }
        }
        drop((packs, listed_by));
        // while the database is held, so that no newer table is overwritten
        *self.packs.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = table;
        drop(database);
        Ok(())
    }

    pub fn segments(&self) -> Result<HashSet<SegmentId>> {
        let database = self.database();
        let mut statement = database.prepare("SELECT id FROM segment").map_err(sql)?;
        let rows = statement.query_map([], |row| Ok(SegmentId(row.get(0)?))).map_err(sql)?;
        rows.collect::<rusqlite::Result<_>>().map_err(sql)
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
        transaction
            .execute_batch(
                "DELETE FROM judgement; DELETE FROM segment; DELETE FROM removed;
                 DELETE FROM pack; DELETE FROM segment_pack; DELETE FROM chunk;",
            )
            .map_err(sql)?;
        transaction
            .execute("INSERT INTO judgement (hash) VALUES (?1)", [&judgement.0[..]])
            .map_err(sql)?;
        transaction.commit().map_err(sql)?;
        drop(database);
        *self.cache.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = TocCache::default();
        self.load_packs()
    }

    /// Adds one segment with the packs it lists that are new here, in one
    /// transaction. `known` are packs of it that the index has already.
    pub fn add_segment(
        &self,
        segment: SegmentId,
        signer: WriterId,
        removes: &[PackId],
        known: &[PackId],
        packs: &[NewPack],
    ) -> Result<()> {
        let mut database = self.database();
        let transaction = database.transaction().map_err(sql)?;
        let mut rows: Vec<(i64, i64)> = Vec::new();
        let mut numbers = Vec::new();
        for pack in packs {
            let number = insert_pack(&transaction, pack).map_err(sql)?;
            numbers.push(number);
            rows.extend(chunk_rows(number, &pack.toc.toc));
        }
        rows.sort_unstable();
        insert_rows(&transaction, &rows).map_err(sql)?;
        link_segment(&transaction, segment, signer, removes, known, &numbers).map_err(sql)?;
        transaction.commit().map_err(sql)?;
        drop(database);
        let mut table = self.packs.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        for (pack, number) in packs.iter().zip(numbers) {
            table.by_id.insert(pack.id, number);
            let toc = &pack.toc.toc;
            let info = PackInfo {
                id: pack.id,
                length: pack.length,
                kind: toc.kind,
                birth: toc.birth,
                chunks: toc.chunks.len() as u32,
                has_foreign: !toc.foreign.is_empty(),
                signer: pack.signer,
                listed_by: vec![signer],
            };
            table.by_number.insert(number, info);
        }
        for id in known {
            let number = table.by_id.get(id).copied();
            if let Some(info) = number.and_then(|number| table.by_number.get_mut(&number))
                && !info.listed_by.contains(&signer)
            {
                info.listed_by.push(signer);
            }
        }
        for id in removes {
            if let Some(number) = table.by_id.remove(id) {
                table.by_number.remove(&number);
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
            for table in ["segment_pack", "removed"] {
                let statement = format!("DELETE FROM {table} WHERE segment = ?1");
                transaction.execute(&statement, [&segment.0[..]]).map_err(sql)?;
            }
            transaction
                .execute("DELETE FROM segment WHERE id = ?1", [&segment.0[..]])
                .map_err(sql)?;
        }
        drop_unlisted_packs(&transaction).map_err(sql)?;
        transaction.commit().map_err(sql)?;
        drop(database);
        self.load_packs()
    }

    pub fn pack(&self, number: PackNumber) -> Option<PackInfo> {
        let table = self.packs.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        table.by_number.get(&number).cloned()
    }

    /// Gives a pack another table of contents. The segments that list it stay.
    pub fn replace_table(&self, pack: &NewPack) -> Result<()> {
        let Some(number) = self.pack_number(pack.id) else { return Ok(()) };
        let old = self.toc(number)?;
        let toc = &pack.toc.toc;
        let mut database = self.database();
        let transaction = database.transaction().map_err(sql)?;
        delete_rows(&transaction, number, &old.toc).map_err(sql)?;
        let mut rows = chunk_rows(number, toc);
        rows.sort_unstable();
        insert_rows(&transaction, &rows).map_err(sql)?;
        transaction
            .execute(
                "UPDATE pack SET length = ?2, kind = ?3, birth = ?4, chunks = ?5, has_foreign = ?6,
                 signer = ?7, toc = ?8 WHERE number = ?1",
                params![
                    number,
                    pack.length as i64,
                    toc.kind as u8,
                    toc.birth.0 as i64,
                    toc.chunks.len() as i64,
                    !toc.foreign.is_empty(),
                    &pack.signer.0[..],
                    toc.encode(),
                ],
            )
            .map_err(sql)?;
        transaction.commit().map_err(sql)?;
        drop(database);
        let mut cache = self.cache.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some((old, _)) = cache.tocs.remove(&number) {
            cache.chunks -= old.toc.chunks.len();
        }
        drop(cache);
        self.load_packs()
    }

    /// Who lists a pack: a maintainer in force if there is one among them.
    pub fn lister(&self, id: PackId, trust: &super::Trust) -> Option<WriterId> {
        let info = self.pack(self.pack_number(id)?)?;
        let maintainer = info.listed_by.iter().find(|w| trust.standing(**w).may_maintain());
        maintainer.or(info.listed_by.first()).copied()
    }

    pub fn pack_number(&self, id: PackId) -> Option<PackNumber> {
        let table = self.packs.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        table.by_id.get(&id).copied()
    }

    pub fn packs(&self) -> Vec<(PackNumber, PackInfo)> {
        let table = self.packs.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut packs: Vec<_> =
            table.by_number.iter().map(|(number, info)| (*number, info.clone())).collect();
        packs.sort_by_key(|(number, _)| *number);
        packs
    }

    pub fn is_empty(&self) -> bool {
        self.packs.read().unwrap_or_else(|poisoned| poisoned.into_inner()).by_id.is_empty()
    }

    /// Bytes of all indexed packs together.
    pub fn stored_bytes(&self) -> u64 {
        let table = self.packs.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        table.by_number.values().map(|info| info.length).sum()
    }

    /// Every place that holds the chunk, oldest pack first.
    pub fn places(&self, id: &ChunkId) -> Result<Vec<Place>> {
        let mut places = Vec::new();
        for place in self.candidates(id)? {
            if self.pack(place.pack).is_none() {
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
        let rows = statement.query_map([key(id)], |row| row.get(0).map(place)).map_err(sql)?;
        rows.collect::<rusqlite::Result<_>>().map_err(sql)
    }

    pub fn toc(&self, number: PackNumber) -> Result<Arc<PackToc>> {
        if let Some(toc) = self.cached_toc(number) {
            return Ok(toc);
        }
        let row: Option<([u8; 32], Vec<u8>)> = self
            .database()
            .prepare_cached("SELECT id, toc FROM pack WHERE number = ?1")
            .and_then(|mut s| {
                s.query_row([number], |row| Ok((row.get(0)?, row.get(1)?))).optional()
            })
            .map_err(sql)?;
        let (id, bytes) =
            row.ok_or_else(|| Error::failed("local index: a pack is gone from it"))?;
        let toc = Toc::parse(&bytes).map_err(|error| {
            Error::failed(format!("local index: {error}: delete the cache directory and try again"))
        })?;
        let toc = Arc::new(PackToc::new(PackId(id), toc));
        self.keep_toc(number, toc.clone());
        Ok(toc)
    }

    fn cached_toc(&self, number: PackNumber) -> Option<Arc<PackToc>> {
        let mut cache = self.cache.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        cache.clock += 1;
        let clock = cache.clock;
        let (toc, used) = cache.tocs.get_mut(&number)?;
        *used = clock;
        Some(toc.clone())
    }

    fn keep_toc(&self, number: PackNumber, toc: Arc<PackToc>) {
        let mut cache = self.cache.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        cache.chunks += toc.toc.chunks.len();
        cache.clock += 1;
        let clock = cache.clock;
        cache.tocs.insert(number, (toc, clock));
        while cache.chunks > TOC_CACHE_CHUNKS && cache.tocs.len() > 1 {
            let oldest = cache.tocs.iter().min_by_key(|(_, (_, used))| *used).map(|(n, _)| *n);
            let Some((toc, _)) = oldest.and_then(|number| cache.tocs.remove(&number)) else {
                break;
            };
            cache.chunks -= toc.toc.chunks.len();
        }
    }

    /// Bytes of a small immutable object seen before.
    pub fn cached_object(&self, key: &str) -> Option<Vec<u8>> {
        self.database()
            .prepare_cached("SELECT bytes FROM object WHERE key = ?1")
            .and_then(|mut statement| statement.query_row([key], |row| row.get(0)).optional())
            .ok()
            .flatten()
    }

    /// Forgets objects that turned out not to be what they should: the store may
    /// give the right ones next time.
    pub fn forget_objects<'k>(&self, keys: impl Iterator<Item = &'k str>) {
        let database = self.database();
        for key in keys {
            let _ = database.execute("DELETE FROM object WHERE key = ?1", [key]);
        }
    }

    /// Remembers small immutable objects. A cache that cannot be written is no
    /// reason to fail.
    pub fn cache_objects(&self, objects: &[(String, Vec<u8>)]) {
        let mut database = self.database();
        let Ok(transaction) = database.transaction() else { return };
        for (key, bytes) in objects {
            let _ = transaction
                .prepare_cached("INSERT OR REPLACE INTO object (key, bytes) VALUES (?1, ?2)")
                .and_then(|mut statement| statement.execute(params![key, bytes]));
        }
        let _ = transaction.commit();
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(std::time::Duration::from_secs(60))?;
    prepare(&connection)?;
    Ok(connection)
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cache_size", -32_000)?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version == SCHEMA {
        return Ok(());
    }
    if version != 0 {
        return Err(rusqlite::Error::InvalidQuery);
    }
    connection.execute_batch(&format!("BEGIN; {TABLES} PRAGMA user_version = {SCHEMA}; COMMIT;"))
}

fn insert_pack(connection: &Connection, pack: &NewPack) -> rusqlite::Result<PackNumber> {
    let toc = &pack.toc.toc;
    connection
        .prepare_cached(
            "INSERT OR IGNORE INTO pack (id, length, kind, birth, chunks, has_foreign, signer, toc)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            &pack.id.0[..],
            pack.length as i64,
            toc.kind as u8,
            toc.birth.0 as i64,
            toc.chunks.len() as i64,
            !toc.foreign.is_empty(),
            &pack.signer.0[..],
            toc.encode(),
        ])?;
    // another process may have added it first
    connection
        .prepare_cached("SELECT number FROM pack WHERE id = ?1")?
        .query_row([&pack.id.0[..]], |row| row.get(0))
}

fn insert_rows(connection: &Connection, rows: &[(i64, i64)]) -> rusqlite::Result<()> {
    let mut statement = connection
        .prepare_cached("INSERT OR IGNORE INTO chunk (prefix, location) VALUES (?1, ?2)")?;
    for (prefix, location) in rows {
        statement.execute([prefix, location])?;
    }
    Ok(())
}

fn link_segment(
    connection: &Connection,
    segment: SegmentId,
    signer: WriterId,
    removes: &[PackId],
    known: &[PackId],
    numbers: &[PackNumber],
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO segment (id, signer) VALUES (?1, ?2)")?
        .execute(params![&segment.0[..], &signer.0[..]])?;
    let mut link = connection
        .prepare_cached("INSERT OR IGNORE INTO segment_pack (pack, segment) VALUES (?1, ?2)")?;
    for number in numbers {
        link.execute(params![number, &segment.0[..]])?;
    }
    let mut link_known = connection.prepare_cached(
        "INSERT OR IGNORE INTO segment_pack (pack, segment)
         SELECT number, ?2 FROM pack WHERE id = ?1",
    )?;
    for id in known {
        link_known.execute(params![&id.0[..], &segment.0[..]])?;
    }
    let mut remove = connection
        .prepare_cached("INSERT OR IGNORE INTO removed (pack, segment) VALUES (?1, ?2)")?;
    for id in removes {
        remove.execute(params![&id.0[..], &segment.0[..]])?;
    }
    Ok(())
}

fn chunk_rows(number: PackNumber, toc: &Toc) -> Vec<(i64, i64)> {
    let chunks = toc.chunks.iter().zip(0u16..=u16::MAX);
    chunks
        .map(|(chunk, ordinal)| (key(&chunk.id), location(Place { pack: number, ordinal })))
        .collect()
}

fn delete_rows(connection: &Connection, number: PackNumber, toc: &Toc) -> rusqlite::Result<()> {
    let mut delete =
        connection.prepare_cached("DELETE FROM chunk WHERE prefix = ?1 AND location = ?2")?;
    for (prefix, location) in chunk_rows(number, toc) {
        delete.execute([prefix, location])?;
    }
    Ok(())
}

fn drop_unlisted_packs(connection: &Connection) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(
        "SELECT number, toc FROM pack
         WHERE number NOT IN (SELECT pack FROM segment_pack)
            OR id IN (SELECT pack FROM removed)",
    )?;
    let gone: Vec<(PackNumber, Vec<u8>)> = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for (number, bytes) in gone {
        if let Ok(toc) = Toc::parse(&bytes) {
            delete_rows(connection, number, &toc)?;
        }
        connection.execute("DELETE FROM segment_pack WHERE pack = ?1", [number])?;
        connection.execute("DELETE FROM pack WHERE number = ?1", [number])?;
    }
    Ok(())
}
