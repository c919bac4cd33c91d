//! Entries on their way into the tree whose turn has not come: those of streams, which arrive in any order, and those
//! of the walk while streams that sort before them are still being captured. They lie in a temporary file that has no
//! name, so that memory does not grow with their number.

use rusqlite::{Connection, OptionalExtension, params};

use crate::format::entry::Entry;
use crate::format::reader::Reader;
use crate::repository::{Error, Result};

pub struct Spool {
    database: Connection,
}

fn failed(error: rusqlite::Error) -> Error {
    Error::failed(format!("entries cannot be kept in a temporary file: {error}"))
}

impl Spool {
    pub fn new() -> Result<Spool> {
        // an empty name: a file of its own that goes when it is closed, written only when the cache of pages is full
        let database = Connection::open("").map_err(failed)?;
        let begin = "PRAGMA cache_size = -8192; PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF; \
                     CREATE TABLE entries (key BLOB PRIMARY KEY, entry BLOB NOT NULL) WITHOUT ROWID; BEGIN";
        database.execute_batch(begin).map_err(failed)?;
        Ok(Spool { database })
    }

    /// Takes an entry; one that was there under its key goes.
    pub fn put(&self, entry: &Entry) -> Result<()> {
        let mut bytes = Vec::with_capacity(256);
        entry.encode_into(&mut bytes);
        let put = "INSERT OR REPLACE INTO entries VALUES (?1, ?2)";
        let mut put = self.database.prepare_cached(put).map_err(failed)?;
        put.execute(params![entry.key, bytes]).map_err(failed)?;
        Ok(())
    }

    pub fn get(&self, key: &[u8]) -> Result<Option<Entry>> {
        let mut get = self
            .database
            .prepare_cached("SELECT entry FROM entries WHERE key = ?1")
            .map_err(failed)?;
        let bytes: Option<Vec<u8>> =
            get.query_row([key], |row| row.get(0)).optional().map_err(failed)?;
        bytes.map(|bytes| parse(&bytes)).transpose()
    }

    /// Gives all entries in the order of their keys.
    pub fn each(&self, take: &mut dyn FnMut(Entry) -> Result<()>) -> Result<()> {
        let mut all =
            self.database.prepare("SELECT entry FROM entries ORDER BY key").map_err(failed)?;
        let mut rows = all.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let bytes = row.get_ref(0).and_then(|value| Ok(value.as_blob()?)).map_err(failed)?;
            take(parse(bytes)?)?;
        }
        Ok(())
    }
}

fn parse(bytes: &[u8]) -> Result<Entry> {
    let entry = Entry::parse(&mut Reader::new(bytes, "temporary file"));
    entry.map_err(|error| Error::failed(format!("a temporary file came back altered: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::entry::{EntryKind, Metadata};

    fn entry(key: &[u8], size: u64) -> Entry {
        let metadata = Metadata { inode: size, ..Metadata::default() };
        Entry::new(key.to_vec(), EntryKind::Directory, metadata)
    }

    #[test]
    fn entries_come_back_in_the_order_of_their_keys() {
        let spool = Spool::new().unwrap();
        for (key, size) in [(&b"b"[..], 1), (b"a\0z", 2), (b"a", 3), (b"b", 4), (b"a\0\xff", 5)] {
            spool.put(&entry(key, size)).unwrap();
        }
        assert_eq!(spool.get(b"b").unwrap().unwrap(), entry(b"b", 4));
        assert_eq!(spool.get(b"c").unwrap(), None);
        let mut keys = Vec::new();
        spool
            .each(&mut |entry| {
                keys.push(entry.key);
                Ok(())
            })
            .unwrap();
        assert_eq!(keys, [&b"a"[..], b"a\0z", b"a\0\xff", b"b"]);
    }
}
