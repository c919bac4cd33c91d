//! Which chunk here is which chunk of another repository, as copies found out:
//! the same bytes have other ids there. Spares reading what was copied before.
//!
//! It decides nothing: that a chunk is here is what the index says. Lost or
//! damaged, it costs the next copy the reading of all it copies, nothing else.
//! Every row proves that this client wrote it.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::Repository;
use super::error::{Error, ErrorKind, Result};
use crate::crypto::{SecretKey, keys};
use crate::format::ChunkKind;
use crate::id::{ChunkId, RepositoryId};

/// Memory for pages of the table, in KiB.
const CACHE_KIB: i64 = 16_000;
const BUSY: Duration = Duration::from_secs(10);

/// Chunks of kind data of one other repository.
pub struct Translations {
    table: Mutex<Connection>,
    other: RepositoryId,
    key: SecretKey,
}

fn prepare(connection: Connection) -> rusqlite::Result<Connection> {
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS chunks (
             there BLOB PRIMARY KEY, here BLOB NOT NULL, proof BLOB NOT NULL
         ) WITHOUT ROWID",
    )?;
    Ok(connection)
}

/// The table in the cache, made anew when it is damaged.
fn on_disk(directory: &Path, other: RepositoryId) -> rusqlite::Result<Connection> {
    let name = format!("translations-{other}.sqlite");
    let open = || Connection::open(directory.join(&name)).and_then(prepare);
    open().or_else(|_| {
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(directory.join(format!("{name}{suffix}")));
        }
        open()
    })
}

impl Translations {
    /// The table in this machine's cache of `repository`; one that ends with this
    /// value where there is no cache, or none that works.
    pub fn open(repository: &Repository, other: RepositoryId) -> Result<Translations> {
        let cached = repository.local().directory().map(|directory| on_disk(directory, other));
        // a file of its own without a name: beyond its cache it takes no memory
        let passing = || Connection::open("").and_then(prepare);
        let table = cached.and_then(rusqlite::Result::ok).map_or_else(passing, Ok);
        let table = table.map_err(|error| {
            Error::new(ErrorKind::Cache, format!("a table for the copy cannot be made: {error}"))
        })?;
        let key = keys::translation(repository.keyring().id_key(ChunkKind::Data)?);
        Ok(Translations { table: Mutex::new(table), other, key })
    }

    fn table(&self) -> MutexGuard<'_, Connection> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn proof(&self, there: &ChunkId, here: &ChunkId) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new_keyed(self.key.bytes());
        hasher.update(&self.other.0).update(&there.0).update(&here.0);
        let mut proof = [0; 16];
        proof.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        proof
    }

    /// What a chunk of the other repository is called here, if that is known.
    pub fn get(&self, there: &ChunkId) -> Option<ChunkId> {
        let table = self.table();
        let query = "SELECT here, proof FROM chunks WHERE there = ?";
        let row = table.prepare_cached(query).and_then(|mut statement| {
            let columns = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
            statement.query_row([&there.0[..]], columns).optional()
        });
        let (here, proof): ([u8; 32], [u8; 16]) = row.ok().flatten()?;
        let here = ChunkId(here);
        (self.proof(there, &here) == proof).then_some(here)
    }

    /// Remembers pairs of a chunk there and what it is called here. What cannot be
    /// written is not remembered.
    pub fn add(&self, pairs: &mut Vec<(ChunkId, ChunkId)>) {
        // neighbours in the table are written together
        pairs.sort_unstable();
        let mut table = self.table();
        let _ = table.transaction().and_then(|transaction| {
            let insert = "INSERT OR REPLACE INTO chunks VALUES (?, ?, ?)";
            let mut statement = transaction.prepare_cached(insert)?;
            for (there, here) in pairs.drain(..) {
                let proof = self.proof(&there, &here);
                statement.execute(params![&there.0[..], &here.0[..], &proof[..]])?;
            }
            drop(statement);
            transaction.commit()
        });
        pairs.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_proves_is_not_believed() {
        let table = Connection::open("").and_then(prepare).unwrap();
        let (other, key) = (RepositoryId([3; 16]), SecretKey::from_bytes([4; 32]));
        let translations = Translations { table: Mutex::new(table), other, key };
        let id = |byte| ChunkId([byte; 32]);
        translations.add(&mut vec![(id(2), id(20)), (id(1), id(10)), (id(2), id(21))]);
        assert_eq!(translations.get(&id(1)), Some(id(10)));
        assert_eq!(translations.get(&id(2)), Some(id(21)));
        assert_eq!(translations.get(&id(3)), None);
        let swap = "UPDATE chunks SET here = ? WHERE there = ?";
        translations.table().execute(swap, [&id(21).0[..], &id(1).0[..]]).unwrap();
        assert_eq!(translations.get(&id(1)), None);
        translations.add(&mut vec![(id(1), id(10))]);
        assert_eq!(translations.get(&id(1)), Some(id(10)));
    }
}
