//! The tables of the local index and the statements that change them. Every
//! function works inside a transaction of its caller.

use std::path::Path;
use std::time::Duration;

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, params};

use super::{NewPack, NewSegment, PackNumber, Place};
use crate::format::FormatError;
use crate::format::pack::{CHUNK_ENTRY_BYTES, Toc};
use crate::id::{ChunkId, PackId, SegmentId};

/// Raise it whenever the tables change: an older database is thrown away.
const SCHEMA: i64 = 8;

/// Chunks that one row of a table of contents lists: they fill a page, so that to
/// look at one of them takes no more.
pub const PIECE_CHUNKS: usize = 112;

const TABLES: &str = "
CREATE TABLE segment (
    id BLOB PRIMARY KEY, signer BLOB NOT NULL, whole INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE removed (pack BLOB, segment BLOB, PRIMARY KEY (pack, segment)) WITHOUT ROWID;
CREATE TABLE superseded (old BLOB, segment BLOB, PRIMARY KEY (old, segment)) WITHOUT ROWID;
CREATE TABLE pack (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE, length INTEGER NOT NULL,
    kind INTEGER NOT NULL, birth INTEGER NOT NULL, run BLOB NOT NULL, chunks INTEGER NOT NULL,
    has_foreign INTEGER NOT NULL, claimed_by BLOB, signer BLOB NOT NULL, frame BLOB NOT NULL);
CREATE TABLE toc (piece INTEGER PRIMARY KEY, bytes BLOB NOT NULL);
CREATE TABLE segment_pack (pack INTEGER, segment BLOB, PRIMARY KEY (pack, segment)) WITHOUT ROWID;
CREATE INDEX pack_of_segment ON segment_pack (segment);
CREATE TABLE carried (origin BLOB, pack INTEGER, PRIMARY KEY (origin, pack)) WITHOUT ROWID;
CREATE INDEX carried_by ON carried (pack);
CREATE TABLE layer (
    number INTEGER PRIMARY KEY AUTOINCREMENT, rows INTEGER NOT NULL, start INTEGER NOT NULL,
    filled INTEGER NOT NULL, goes_into INTEGER, firsts BLOB NOT NULL);
CREATE TABLE leaf (number INTEGER PRIMARY KEY, rows BLOB NOT NULL);
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
    // a great merge leaves no great journal behind
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cache_size", -8_000)?;
    connection.set_prepared_statement_cache_capacity(64);
    let version = || connection.pragma_query_value(None, "user_version", |row| row.get(0));
    match version()? {
        SCHEMA => return Ok(()),
        0 => {}
        _ => return Err(rusqlite::Error::InvalidQuery),
    }
    connection.execute_batch("BEGIN IMMEDIATE")?;
    // another process may have been first
    match version()? {
        SCHEMA => connection.execute_batch("COMMIT"),
        _ => connection.execute_batch(&format!("{TABLES} PRAGMA user_version = {SCHEMA}; COMMIT")),
    }
}

/// Writes what is told of a pack: a new row, or another table of contents for
/// the one there is. What that carried must be forgotten.
pub fn write_pack(connection: &Connection, pack: &NewPack) -> rusqlite::Result<PackNumber> {
    let toc = &pack.toc.toc;
    let number = connection
        .prepare_cached(
            "INSERT INTO pack
             (id, length, kind, birth, run, chunks, has_foreign, claimed_by, signer, frame)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
             ON CONFLICT (id) DO UPDATE SET length = ?2, kind = ?3, birth = ?4, run = ?5,
             chunks = ?6, has_foreign = ?7, claimed_by = ?8, signer = ?9, frame = ?10
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
                toc.claimed_by().map(|writer| writer.0),
                &pack.signer.0[..],
                &pack.frame_hash[..],
            ],
            |row| row.get(0),
        )?;
    write_toc(connection, number, &toc.encode())?;
    let mut carry = connection
        .prepare_cached("INSERT OR IGNORE INTO carried (origin, pack) VALUES (?1, ?2)")?;
    for run in &toc.foreign {
        carry.execute(params![&run.pack.0[..], number])?;
    }
    Ok(number)
}

/// The row of a table of contents: the first holds all but the list of chunks,
/// which is in those behind it.
fn piece(number: PackNumber, at: usize) -> i64 {
    i64::from(number) << 32 | at as i64
}

fn damaged(error: FormatError) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Blob, Box::new(error))
}

fn write_toc(connection: &Connection, number: PackNumber, bytes: &[u8]) -> rusqlite::Result<()> {
    forget_toc(connection, number)?;
    let listed = Toc::chunks_in(bytes).map_err(damaged)?;
    let rest = [&bytes[..listed.start], &bytes[listed.end..]].concat();
    let pieces = bytes[listed].chunks(PIECE_CHUNKS * CHUNK_ENTRY_BYTES);
    let mut insert = connection.prepare_cached("INSERT INTO toc (piece, bytes) VALUES (?1, ?2)")?;
    for (at, bytes) in std::iter::once(&rest[..]).chain(pieces).enumerate() {
        insert.execute(params![piece(number, at), bytes])?;
    }
    Ok(())
}

fn forget_toc(connection: &Connection, number: PackNumber) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM toc WHERE piece BETWEEN ?1 AND ?2")?
        .execute(pieces_of(number))
        .map(drop)
}

/// The first and the last that a table can have.
fn pieces_of(number: PackNumber) -> [i64; 2] {
    [piece(number, 0), piece(number, u32::MAX as usize)]
}

/// A table of contents as it was written, and whose it is.
pub fn read_toc(
    connection: &Connection,
    number: PackNumber,
) -> rusqlite::Result<Option<(PackId, Vec<u8>)>> {
    let id = connection
        .prepare_cached("SELECT id FROM pack WHERE number = ?1")?
        .query_row([number], |row| Ok(PackId(row.get(0)?)))
        .optional()?;
    let Some(id) = id else { return Ok(None) };
    let mut select = connection
        .prepare_cached("SELECT bytes FROM toc WHERE piece BETWEEN ?1 AND ?2 ORDER BY piece")?;
    let mut rows = select.query(pieces_of(number))?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let rest = row.get_ref(0)?.as_blob()?;
    let listed = Toc::chunks_in(rest).map_err(damaged)?;
    let mut bytes = Vec::with_capacity(rest.len() + listed.len());
    bytes.extend_from_slice(&rest[..listed.start]);
    let rest = rest[listed.start..].to_vec();
    while let Some(row) = rows.next()? {
        bytes.extend_from_slice(row.get_ref(0)?.as_blob()?);
    }
    bytes.extend_from_slice(&rest);
    Ok(Some((id, bytes)))
}

/// The id of one chunk, without reading the whole table it is in.
pub fn chunk_id(connection: &Connection, place: Place) -> rusqlite::Result<Option<ChunkId>> {
    let ordinal = usize::from(place.ordinal);
    let start = ordinal % PIECE_CHUNKS * CHUNK_ENTRY_BYTES;
    let id = connection
        .prepare_cached("SELECT bytes FROM toc WHERE piece = ?1")?
        .query_row([piece(place.pack, 1 + ordinal / PIECE_CHUNKS)], |row| {
            let id = row.get_ref(0)?.as_blob()?.get(start..start + 32);
            Ok(id.and_then(|id| id.try_into().ok()).map(ChunkId))
        })
        .optional()?;
    Ok(id.flatten())
}

pub fn number_of(connection: &Connection, id: PackId) -> rusqlite::Result<Option<PackNumber>> {
    connection
        .prepare_cached("SELECT number FROM pack WHERE id = ?1")?
        .query_row([&id.0[..]], |row| row.get(0))
        .optional()
}

/// Forgets which packs a pack carries chunks of.
pub fn forget_carried(connection: &Connection, number: PackNumber) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM carried WHERE pack = ?1")?.execute([number]).map(drop)
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

/// Drops one pack. Its chunk rows lead nowhere then, until a merge leaves them out.
fn drop_pack(connection: &Connection, number: PackNumber) -> rusqlite::Result<()> {
    forget_carried(connection, number)?;
    forget_toc(connection, number)?;
    for statement in
        ["DELETE FROM segment_pack WHERE pack = ?1", "DELETE FROM pack WHERE number = ?1"]
    {
        connection.prepare_cached(statement)?.execute([number])?;
    }
    Ok(())
}

/// Drops packs that a segment removes.
pub fn drop_removed(connection: &Connection, removes: &[PackId]) -> rusqlite::Result<()> {
    for id in removes {
        if let Some(number) = number_of(connection, *id)? {
            drop_pack(connection, number)?;
        }
    }
    Ok(())
}

/// Drops packs that no segment lists any more.
pub fn drop_unlisted(connection: &Connection) -> rusqlite::Result<()> {
    let mut statement = connection
        .prepare("SELECT number FROM pack WHERE number NOT IN (SELECT pack FROM segment_pack)")?;
    let gone: Vec<PackNumber> =
        statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    gone.iter().try_for_each(|number| drop_pack(connection, *number))
}

/// Forgets everything that was judged.
pub fn clear(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "DELETE FROM judgement; DELETE FROM segment; DELETE FROM removed; DELETE FROM superseded;
         DELETE FROM pack; DELETE FROM toc; DELETE FROM segment_pack; DELETE FROM carried;
         DELETE FROM layer; DELETE FROM leaf;",
    )
}
