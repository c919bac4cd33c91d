//! The tables of the local index and the statements that change them. Every
//! function works inside a transaction of its caller.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, params};

use super::{NewPack, NewSegment, PackNumber, Place};
use crate::format::pack::Toc;
use crate::id::{ChunkId, PackId, SegmentId};

/// Raise it whenever the tables change: an older database is thrown away.
const SCHEMA: i64 = 7;

const TABLES: &str = "
CREATE TABLE segment (
    id BLOB PRIMARY KEY, signer BLOB NOT NULL, whole INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE removed (pack BLOB, segment BLOB, PRIMARY KEY (pack, segment)) WITHOUT ROWID;
CREATE TABLE superseded (old BLOB, segment BLOB, PRIMARY KEY (old, segment)) WITHOUT ROWID;
CREATE TABLE pack (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE, length INTEGER NOT NULL,
    kind INTEGER NOT NULL, birth INTEGER NOT NULL, run BLOB NOT NULL, chunks INTEGER NOT NULL,
    has_foreign INTEGER NOT NULL, signer BLOB NOT NULL, frame BLOB NOT NULL,
    toc BLOB NOT NULL);
CREATE TABLE segment_pack (pack INTEGER, segment BLOB, PRIMARY KEY (pack, segment)) WITHOUT ROWID;
CREATE INDEX pack_of_segment ON segment_pack (segment);
CREATE TABLE carried (origin BLOB, pack INTEGER, PRIMARY KEY (origin, pack)) WITHOUT ROWID;
CREATE TABLE chunk (prefix INTEGER, location INTEGER, PRIMARY KEY (prefix, location)) WITHOUT ROWID;
CREATE TABLE judgement (hash BLOB NOT NULL);
CREATE TABLE object (key TEXT PRIMARY KEY, bytes BLOB NOT NULL, proof BLOB) WITHOUT ROWID;
CREATE TABLE page (id BLOB PRIMARY KEY, bytes BLOB NOT NULL) WITHOUT ROWID;
";

pub fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(60))?;
    prepare(&connection)?;
    Ok(connection)
}

pub fn in_memory() -> rusqlite::Result<Connection> {
    let connection = Connection::open_in_memory()?;
    prepare(&connection)?;
    Ok(connection)
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cache_size", -32_000)?;
    connection.set_prepared_statement_cache_capacity(64);
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version == SCHEMA {
        return Ok(());
    }
    if version != 0 {
        return Err(rusqlite::Error::InvalidQuery);
    }
    connection.execute_batch(&format!("BEGIN; {TABLES} PRAGMA user_version = {SCHEMA}; COMMIT;"))
}

pub fn key(id: &ChunkId) -> i64 {
    let mut first = [0; 8];
    first.copy_from_slice(&id.0[..8]);
    i64::from_be_bytes(first)
}

fn location(place: Place) -> i64 {
    i64::from(place.pack) << 16 | i64::from(place.ordinal)
}

pub fn place(location: i64) -> Place {
    Place { pack: (location >> 16) as u32, ordinal: location as u16 }
}

/// Writes what is told of a pack: a new row, or another table of contents for
/// the one there is. Its chunk rows must be gone.
pub fn write_pack(connection: &Connection, pack: &NewPack) -> rusqlite::Result<PackNumber> {
    let toc = &pack.toc.toc;
    let number = connection
        .prepare_cached(
            "INSERT INTO pack
             (id, length, kind, birth, run, chunks, has_foreign, signer, frame, toc)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
             ON CONFLICT (id) DO UPDATE SET length = ?2, kind = ?3, birth = ?4, run = ?5,
             chunks = ?6, has_foreign = ?7, signer = ?8, frame = ?9, toc = ?10
             RETURNING number",
        )?
        .query_row(
            params![
                &pack.id.0[..],
                pack.length as i64,
                toc.kind as u8,
                toc.birth.0 as i64,
                &toc.run.0[..],
                toc.chunks.len() as i64,
                !toc.foreign.is_empty(),
                &pack.signer.0[..],
                &pack.frame_hash[..],
                toc.encode(),
            ],
            |row| row.get(0),
        )?;
    let mut carry = connection
        .prepare_cached("INSERT OR IGNORE INTO carried (origin, pack) VALUES (?1, ?2)")?;
    for run in &toc.foreign {
        carry.execute(params![&run.pack.0[..], number])?;
    }
    Ok(number)
}

pub fn number_of(connection: &Connection, id: PackId) -> rusqlite::Result<Option<PackNumber>> {
    use rusqlite::OptionalExtension;
    connection
        .prepare_cached("SELECT number FROM pack WHERE id = ?1")?
        .query_row([&id.0[..]], |row| row.get(0))
        .optional()
}

/// Rows of many packs at once: sorted, they touch each page of the table once.
pub fn insert_rows(connection: &Connection, mut rows: Vec<(i64, i64)>) -> rusqlite::Result<()> {
    rows.sort_unstable();
    let mut statement = connection
        .prepare_cached("INSERT OR IGNORE INTO chunk (prefix, location) VALUES (?1, ?2)")?;
    for (prefix, location) in rows {
        statement.execute([prefix, location])?;
    }
    Ok(())
}

pub fn chunk_rows(number: PackNumber, toc: &Toc) -> Vec<(i64, i64)> {
    let chunks = toc.chunks.iter().zip(0u16..=u16::MAX);
    chunks
        .map(|(chunk, ordinal)| (key(&chunk.id), location(Place { pack: number, ordinal })))
        .collect()
}

/// Forgets where the chunks of a pack are, and what it carries of others.
pub fn delete_rows(connection: &Connection, number: PackNumber, toc: &Toc) -> rusqlite::Result<()> {
    let mut delete =
        connection.prepare_cached("DELETE FROM chunk WHERE prefix = ?1 AND location = ?2")?;
    for (prefix, location) in chunk_rows(number, toc) {
        delete.execute([prefix, location])?;
    }
    let mut carried =
        connection.prepare_cached("DELETE FROM carried WHERE origin = ?1 AND pack = ?2")?;
    for run in &toc.foreign {
        carried.execute(params![&run.pack.0[..], number])?;
    }
    Ok(())
}

/// A segment that was read whole stays so.
pub fn link_segment(
    connection: &Connection,
    segment: &NewSegment<'_>,
    numbers: &[PackNumber],
    whole: bool,
) -> rusqlite::Result<()> {
    let id = &segment.id.0[..];
    connection
        .prepare_cached(
            "INSERT INTO segment (id, signer, whole) VALUES (?1, ?2, ?3)
             ON CONFLICT (id) DO UPDATE SET whole = max(whole, ?3)",
        )?
        .execute(params![id, &segment.signer.0[..], whole])?;
    let mut link = connection
        .prepare_cached("INSERT OR IGNORE INTO segment_pack (pack, segment) VALUES (?1, ?2)")?;
    for number in numbers {
        link.execute(params![number, id])?;
    }
    for pack in segment.known {
        if let Some(number) = number_of(connection, *pack)? {
            link.execute(params![number, id])?;
        }
    }
    let mut remove = connection
        .prepare_cached("INSERT OR IGNORE INTO removed (pack, segment) VALUES (?1, ?2)")?;
    for pack in segment.removes {
        remove.execute(params![&pack.0[..], id])?;
    }
    let mut supersede = connection
        .prepare_cached("INSERT OR IGNORE INTO superseded (old, segment) VALUES (?1, ?2)")?;
    for old in segment.supersedes {
        supersede.execute(params![&old.0[..], id])?;
    }
    Ok(())
}

pub fn unlink_segment(connection: &Connection, segment: SegmentId) -> rusqlite::Result<()> {
    for table in ["segment_pack", "removed", "superseded"] {
        let statement = format!("DELETE FROM {table} WHERE segment = ?1");
        connection.prepare_cached(&statement)?.execute([&segment.0[..]])?;
    }
    connection
        .prepare_cached("DELETE FROM segment WHERE id = ?1")?
        .execute([&segment.0[..]])
        .map(drop)
}

/// Drops one pack with all its rows.
fn drop_pack(connection: &Connection, number: PackNumber, toc: &[u8]) -> rusqlite::Result<()> {
    if let Ok(toc) = Toc::parse(toc) {
        delete_rows(connection, number, &toc)?;
    }
    connection.prepare_cached("DELETE FROM segment_pack WHERE pack = ?1")?.execute([number])?;
    connection.prepare_cached("DELETE FROM pack WHERE number = ?1")?.execute([number]).map(drop)
}

type NumberedToc = (PackNumber, Vec<u8>);

/// Drops packs that a segment removes.
pub fn drop_removed(connection: &Connection, removes: &[PackId]) -> rusqlite::Result<()> {
    for id in removes {
        let found: Vec<NumberedToc> = connection
            .prepare_cached("SELECT number, toc FROM pack WHERE id = ?1")?
            .query_map([&id.0[..]], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        for (number, toc) in found {
            drop_pack(connection, number, &toc)?;
        }
    }
    Ok(())
}

/// Drops packs that no segment lists any more.
pub fn drop_unlisted(connection: &Connection) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(
        "SELECT number, toc FROM pack WHERE number NOT IN (SELECT pack FROM segment_pack)",
    )?;
    let gone: Vec<NumberedToc> = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    gone.iter().try_for_each(|(number, toc)| drop_pack(connection, *number, toc))
}

/// Forgets everything that was judged.
pub fn clear(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "DELETE FROM judgement; DELETE FROM segment; DELETE FROM removed; DELETE FROM superseded;
         DELETE FROM pack; DELETE FROM segment_pack; DELETE FROM carried; DELETE FROM chunk;",
    )
}
