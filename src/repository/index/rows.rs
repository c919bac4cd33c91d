//! Where chunks are, on disk: rows of (first six bytes of the id, pack, ordinal)
//! in *layers*, each a sorted list cut into leaves of one database page.
//!
//! Ids have no order that anything shares, so rows that go into a B-tree one
//! segment at a time touch nearly every page for each segment. Here what is new
//! becomes a layer of its own, written once from end to end, and layers are
//! merged as they grow: work in sequence only, twelve bytes a row, and no
//! statement for each. A leaf is never changed, and its number never used again.
//!
//! A merge goes in steps, each a transaction of a second or so: of the layers that
//! go into another, what that has already is gone but for the leaf where the last
//! step stopped, whose rows may be found in both. Rows of packs that are gone stay
//! until a merge leaves them out.
//!
//! Every function works inside a transaction of its caller.

use rusqlite::{Connection, OptionalExtension, params};

use super::{PackNumber, Place};
use crate::format::pack::Toc;
use crate::id::ChunkId;

/// Key (48 bits), pack (32), ordinal (16): rows sort like these numbers.
pub type Row = u128;

pub const ROW_BYTES: usize = 12;
pub const KEY_BITS: u32 = 48;
/// With what SQLite puts around it a leaf fills one page of 4096 bytes.
const LEAF_ROWS: usize = 338;
/// Leaves that a merge has in memory at once.
const WINDOW: usize = if cfg!(test) { 4 } else { 2048 };
/// Windows in one step of a merge: 11 million rows.
const STEP: usize = if cfg!(test) { 2 } else { 16 };
/// A layer is merged with all smaller ones when they reach this part of it.
const PART: u64 = 4;
/// Layers that a load may leave behind before they are merged.
const MANY_LAYERS: usize = if cfg!(test) { 6 } else { 256 };

/// Greater than any key.
const END: u64 = 1 << KEY_BITS;

pub type LayerNumber = i64;

/// What tells two states of a layer apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub number: LayerNumber,
    pub rows: u64,
    /// Leaves at its beginning that are gone into another layer.
    pub start: usize,
}

/// A layer without its leaves.
pub struct LayerHead {
    pub extent: Extent,
    /// The first key of each leaf.
    pub firsts: Vec<u64>,
}

impl LayerHead {
    /// The first key of each leaf that is there.
    fn leaves(&self) -> impl Iterator<Item = u64> + '_ {
        self.firsts.iter().skip(self.extent.start).copied()
    }
}

pub fn key(id: &ChunkId) -> u64 {
    let mut first = [0; 8];
    first[2..].copy_from_slice(&id.0[..6]);
    u64::from_be_bytes(first)
}

pub fn key_of(row: Row) -> u64 {
    (row >> 48) as u64
}

pub fn place_of(row: Row) -> Place {
    Place { pack: (row >> 16) as u32, ordinal: row as u16 }
}

pub fn rows_of(number: PackNumber, toc: &Toc) -> impl Iterator<Item = Row> + '_ {
    toc.chunks.iter().zip(0u16..=u16::MAX).map(move |(chunk, ordinal)| {
        u128::from(key(&chunk.id)) << 48 | u128::from(number) << 16 | u128::from(ordinal)
    })
}

/// The rows of a leaf.
pub fn rows_in(leaf: &[u8]) -> impl Iterator<Item = Row> + '_ {
    leaf.as_chunks::<ROW_BYTES>().0.iter().map(decode)
}

fn decode(bytes: &[u8; ROW_BYTES]) -> Row {
    let mut whole = [0; 16];
    whole[4..].copy_from_slice(bytes);
    u128::from_be_bytes(whole)
}

/// Places of all rows with `key` in a leaf.
pub fn find_in(leaf: &[u8], key: u64, places: &mut Vec<Place>) {
    let rows = leaf.as_chunks::<ROW_BYTES>().0;
    let start = rows.partition_point(|row| key_of(decode(row)) < key);
    let rows = rows.get(start..).unwrap_or_default().iter().map(decode);
    places.extend(rows.take_while(|row| key_of(*row) == key).map(place_of));
}

pub fn leaf_number(layer: LayerNumber, at: usize) -> i64 {
    layer << 32 | at as i64
}

/// A leaf, unless it is gone: merged into another layer.
pub fn read_leaf(connection: &Connection, number: i64) -> rusqlite::Result<Option<Box<[u8]>>> {
    connection
        .prepare_cached("SELECT rows FROM leaf WHERE number = ?1")?
        .query_row([number], |row| Ok(row.get_ref(0)?.as_blob()?.into()))
        .optional()
}

fn extent(row: &rusqlite::Row<'_>) -> rusqlite::Result<Extent> {
    let (rows, start): (i64, i64) = (row.get(1)?, row.get(2)?);
    Ok(Extent { number: row.get(0)?, rows: rows as u64, start: start as usize })
}

/// All layers, the largest first.
pub fn extents(connection: &Connection) -> rusqlite::Result<Vec<Extent>> {
    let mut statement = connection
        .prepare_cached("SELECT number, rows, start FROM layer ORDER BY rows DESC, number")?;
    statement.query_map([], extent)?.collect()
}

pub fn read_head(connection: &Connection, number: LayerNumber) -> rusqlite::Result<LayerHead> {
    connection
        .prepare_cached("SELECT number, rows, start, firsts FROM layer WHERE number = ?1")?
        .query_row([number], |row| {
            let firsts = row.get_ref(3)?.as_blob()?.as_chunks::<8>().0.iter();
            let firsts = firsts.map(|first| u64::from_be_bytes(*first)).collect();
            Ok(LayerHead { extent: extent(row)?, firsts })
        })
}

struct Writer<'c> {
    connection: &'c Connection,
    number: LayerNumber,
    rows: u64,
    firsts: Vec<u64>,
    leaf: Vec<u8>,
}

impl<'c> Writer<'c> {
    fn new(connection: &'c Connection) -> rusqlite::Result<Writer<'c>> {
        let number = connection
            .prepare_cached(
                "INSERT INTO layer (rows, start, filled, firsts) VALUES (0, 0, 0, x'')
                 RETURNING number",
            )?
            .query_row([], |row| row.get(0))?;
        Writer::go_on(connection, number)
    }

    /// Goes on behind the last leaf of a layer.
    fn go_on(connection: &'c Connection, number: LayerNumber) -> rusqlite::Result<Writer<'c>> {
        let LayerHead { extent, firsts } = read_head(connection, number)?;
        let leaf = Vec::with_capacity(LEAF_ROWS * ROW_BYTES);
        Ok(Writer { connection, number, rows: extent.rows, firsts, leaf })
    }

    fn push(&mut self, row: Row) -> rusqlite::Result<()> {
        if self.leaf.len() == LEAF_ROWS * ROW_BYTES {
            self.write_leaf()?;
        }
        if self.leaf.is_empty() {
            self.firsts.push(key_of(row));
        }
        self.leaf
            .extend_from_slice(row.to_be_bytes().last_chunk::<ROW_BYTES>().unwrap_or(&[0; 12]));
        self.rows += 1;
        Ok(())
    }

    fn write_leaf(&mut self) -> rusqlite::Result<()> {
        let number = leaf_number(self.number, self.firsts.len().saturating_sub(1));
        self.connection
            .prepare_cached("INSERT INTO leaf (number, rows) VALUES (?1, ?2)")?
            .execute(params![number, self.leaf])?;
        self.leaf.clear();
        Ok(())
    }

    fn finish(mut self) -> rusqlite::Result<LayerNumber> {
        if !self.leaf.is_empty() {
            self.write_leaf()?;
        }
        let firsts: Vec<u8> = self.firsts.iter().flat_map(|first| first.to_be_bytes()).collect();
        self.connection
            .prepare_cached("UPDATE layer SET rows = ?2, firsts = ?3 WHERE number = ?1")?
            .execute(params![self.number, self.rows as i64, firsts])?;
        Ok(self.number)
    }
}

/// Writes rows as a new layer.
pub fn add_layer(connection: &Connection, rows: &mut Vec<Row>) -> rusqlite::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    rows.sort_unstable();
    let mut writer = Writer::new(connection)?;
    for row in rows.drain(..) {
        writer.push(row)?;
    }
    writer.finish().map(drop)
}

/// How far merging goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Merging {
    /// Until few layers are left for look-ups.
    Settle,
    /// Only where they become too many: more are about to come.
    Defer,
}

/// Merges layers that have grown enough, and all when more than half of their
/// rows tell of packs that are gone. `chunks` is what the packs hold together.
/// Does one step, and tells whether there is more to do.
pub fn tidy(connection: &Connection, chunks: u64, merging: Merging) -> rusqlite::Result<bool> {
    let layers = extents(connection)?;
    if merging == Merging::Defer && layers.len() < MANY_LAYERS {
        return Ok(false);
    }
    let begun: Option<LayerNumber> = connection
        .prepare_cached("SELECT goes_into FROM layer WHERE goes_into NOT NULL")?
        .query_row([], |row| row.get(0))
        .optional()?;
    if let Some(target) = begun {
        return step(connection, target);
    }
    let rows: u64 = layers.iter().map(|layer| layer.rows).sum();
    let from = match rows / 2 > chunks {
        true => Some(0),
        false => grown(&layers),
    };
    let Some(due) = from.and_then(|from| layers.get(from..)) else { return Ok(false) };
    let target = Writer::new(connection)?.number;
    let mut mark =
        connection.prepare_cached("UPDATE layer SET goes_into = ?2 WHERE number = ?1")?;
    for layer in due {
        mark.execute([layer.number, target])?;
    }
    step(connection, target)
}

/// The largest layer, of those sorted by size, that the smaller ones together
/// have caught up with.
fn grown(layers: &[Extent]) -> Option<usize> {
    let mut smaller: u64 = layers.iter().map(|layer| layer.rows).sum();
    layers.iter().position(|layer| {
        smaller -= layer.rows;
        smaller > 0 && smaller * PART >= layer.rows
    })
}

/// A layer that goes into another, and how far it has.
struct Source {
    head: LayerHead,
    /// The leaf to be read next.
    next: usize,
    /// The last key that was read.
    last: u64,
}

impl Source {
    fn all_of(connection: &Connection, target: LayerNumber) -> rusqlite::Result<Vec<Source>> {
        let mut numbers =
            connection.prepare_cached("SELECT number FROM layer WHERE goes_into = ?1")?;
        let numbers = numbers.query_map([target], |row| row.get(0))?;
        numbers
            .map(|number| {
                let head = read_head(connection, number?)?;
                Ok(Source { next: head.extent.start, head, last: 0 })
            })
            .collect()
    }

    /// Reads all leaves that begin before `cut`. Each is deleted once the next is
    /// read, so that the database does not grow by what is written anew.
    fn take(
        &mut self,
        connection: &Connection,
        cut: u64,
        rows: &mut Vec<Row>,
    ) -> rusqlite::Result<()> {
        while self.head.firsts.get(self.next).is_some_and(|first| *first < cut) {
            let number = leaf_number(self.head.extent.number, self.next);
            let leaf = read_leaf(connection, number)?;
            rows.extend(rows_in(&leaf.ok_or(rusqlite::Error::QueryReturnedNoRows)?));
            self.last = rows.last().map_or(0, |row| key_of(*row));
            if self.next > self.head.extent.start {
                delete_leaf(connection, number - 1)?;
            }
            self.next += 1;
        }
        Ok(())
    }

    /// Ends a step that moved all keys below `filled`.
    fn leave(&self, connection: &Connection, filled: u64) -> rusqlite::Result<()> {
        let Extent { number, start, .. } = self.head.extent;
        let mut gone = self.next;
        if gone > start {
            match self.last < filled {
                true => delete_leaf(connection, leaf_number(number, gone - 1))?,
                false => gone -= 1,
            }
        }
        if gone == self.head.firsts.len() {
            let mut forget = connection.prepare_cached("DELETE FROM layer WHERE number = ?1")?;
            return forget.execute([number]).map(drop);
        }
        connection
            .prepare_cached("UPDATE layer SET start = ?2 WHERE number = ?1")?
            .execute([number, gone as i64])
            .map(drop)
    }
}

fn delete_leaf(connection: &Connection, number: i64) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM leaf WHERE number = ?1")?.execute([number]).map(drop)
}

/// Moves the next rows of all layers that go into `target`, in the order of
/// their keys, a window at a time. Tells whether any are left.
fn step(connection: &Connection, target: LayerNumber) -> rusqlite::Result<bool> {
    let packs = Numbers::of_packs(connection)?;
    let mut sources = Source::all_of(connection, target)?;
    let mut filled = connection
        .prepare_cached("SELECT filled FROM layer WHERE number = ?1")?
        .query_row([target], |row| row.get::<_, i64>(0))? as u64;
    let from = filled;
    let mut firsts: Vec<u64> = sources.iter().flat_map(|source| source.head.leaves()).collect();
    firsts.sort_unstable();
    let cuts = firsts.chunks(WINDOW).skip(1).filter_map(|window| window.first().copied());
    let mut rows: Vec<Row> = Vec::new();
    let mut writer = Writer::go_on(connection, target)?;
    for cut in cuts.chain([END]).take(STEP) {
        for source in &mut sources {
            source.take(connection, cut, &mut rows)?;
        }
        // made of sorted pieces, which this sort finds
        rows.sort();
        rows.dedup();
        let below = rows.partition_point(|row| key_of(*row) < cut);
        let moved = rows.drain(..below).filter(|row| key_of(*row) >= from);
        for row in moved.filter(|row| packs.contains(place_of(*row).pack)) {
            writer.push(row)?;
        }
        filled = cut;
    }
    writer.finish()?;
    connection
        .prepare_cached("UPDATE layer SET filled = ?2 WHERE number = ?1")?
        .execute([target, filled as i64])?;
    sources.iter().try_for_each(|source| source.leave(connection, filled))?;
    Ok(filled < END)
}

/// A set of numbers of packs, a bit each.
struct Numbers(Vec<u64>);

impl Numbers {
    fn of_packs(connection: &Connection) -> rusqlite::Result<Numbers> {
        let mut statement = connection.prepare_cached("SELECT number FROM pack")?;
        let mut numbers = Numbers(Vec::new());
        for number in statement.query_map([], |row| row.get::<_, PackNumber>(0))? {
            let number = number? as usize;
            if numbers.0.len() <= number / 64 {
                numbers.0.resize(number / 64 + 1, 0);
            }
            if let Some(word) = numbers.0.get_mut(number / 64) {
                *word |= 1 << (number % 64);
            }
        }
        Ok(numbers)
    }

    fn contains(&self, number: PackNumber) -> bool {
        let word = self.0.get(number as usize / 64);
        word.is_some_and(|word| word >> (number % 64) & 1 == 1)
    }
}
