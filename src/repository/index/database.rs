//! The connection, and what belongs to it: changes that hold together, rows of
//! them that are not yet written, and as of when the tables in memory are.

use std::ops::{Deref, DerefMut};

use rusqlite::Connection;

use super::packs::{NewPack, PackNumber};
use super::rows::{self, Merging, Row};
use super::tables;

/// Rows that a batch gathers before they become a layer: 16 MiB.
const MAX_PENDING: usize = 1 << 20;

pub struct Database {
    connection: Connection,
    /// Rows of packs that were added since the transaction began.
    pending: Vec<Row>,
    /// How many rows that were in all.
    added: u64,
    /// Whether layers are left to be merged.
    pub unsettled: bool,
    /// State of the database that the tables in memory show.
    pub loaded: Option<i64>,
}

impl Deref for Database {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Database {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

impl Database {
    pub fn new(connection: Connection) -> Database {
        Database { connection, pending: Vec::new(), added: 0, unsettled: false, loaded: None }
    }

    /// Another number whenever another connection changed anything.
    pub fn version(&self) -> rusqlite::Result<i64> {
        self.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
    }

    /// Begins a transaction that will write: one that only turns to writing
    /// later could fail because of another process.
    pub fn begin(&mut self) -> rusqlite::Result<()> {
        self.pending.clear();
        self.added = 0;
        self.execute_batch("BEGIN IMMEDIATE")
    }

    /// Ends a transaction; `chunks` is what all packs held together before.
    pub fn commit(&mut self, chunks: u64, merging: Merging) -> rusqlite::Result<()> {
        rows::add_layer(&self.connection, &mut self.pending)?;
        // what a batch took
        self.pending.shrink_to(4096);
        self.unsettled = rows::tidy(&self.connection, chunks + self.added, merging)?;
        self.execute_batch("COMMIT")
    }

    pub fn roll_back(&mut self) {
        self.pending.clear();
        if !self.is_autocommit() {
            let _ = self.execute_batch("ROLLBACK");
        }
    }

    /// Makes a change: in a transaction of its own unless one is open.
    pub fn change<T>(
        &mut self,
        chunks: u64,
        work: impl FnOnce(&mut Database) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        if !self.is_autocommit() {
            return work(self);
        }
        self.begin()?;
        let result =
            work(self).and_then(|value| self.commit(chunks, Merging::Settle).map(|()| value));
        if result.is_err() {
            self.roll_back();
        }
        result
    }

    /// Writes packs and their chunks. One that another process added meanwhile
    /// keeps its number, and has its rows.
    pub fn add_packs(&mut self, packs: &[NewPack]) -> rusqlite::Result<Vec<PackNumber>> {
        packs
            .iter()
            .map(|pack| match tables::number_of(self, pack.id)? {
                Some(number) => Ok(number),
                None => self.write_pack(pack),
            })
            .collect()
    }

    /// Writes a pack, or another table for it, and its chunks.
    pub fn write_pack(&mut self, pack: &NewPack) -> rusqlite::Result<PackNumber> {
        let number = tables::write_pack(self, pack)?;
        self.pending.extend(rows::rows_of(number, &pack.toc.toc));
        self.added += pack.toc.toc.chunks.len() as u64;
        if self.pending.len() >= MAX_PENDING {
            rows::add_layer(&self.connection, &mut self.pending)?;
        }
        Ok(number)
    }
}
