//! Small immutable objects and reference pages seen before. A cache that cannot
//! be read or written is no reason to fail; whoever takes from it checks what he
//! gets as if it came from the store.

use bytes::Bytes;
use rusqlite::{OptionalExtension, params};

use super::Index;
use crate::format::object;
use crate::id::{ChunkId, ObjectHash};

/// A small object, and the proof that its signature was checked before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedObject {
    pub bytes: Vec<u8>,
    pub proof: Option<ObjectHash>,
}

impl Index {
    pub fn cached_object(&self, key: &str) -> Option<CachedObject> {
        self.database()
            .prepare_cached("SELECT bytes, proof FROM object WHERE key = ?1")
            .and_then(|mut statement| {
                statement
                    .query_row([key], |row| {
                        let proof: Option<[u8; 32]> = row.get(1)?;
                        Ok(CachedObject { bytes: row.get(0)?, proof: proof.map(ObjectHash) })
                    })
                    .optional()
            })
            .ok()
            .flatten()
    }

    /// The bytes of a cached object that ends in the hash of what precedes it.
    pub fn sound_object(&self, key: &str) -> Option<Bytes> {
        let object = self.cached_object(key)?;
        object::hash_is_right(&object.bytes).then(|| object.bytes.into())
    }

    /// Keys of cached objects that begin with a prefix, which ends in `/`.
    pub fn cached_keys(&self, prefix: &str) -> Vec<String> {
        // 0 is the character behind /
        let end = format!("{}0", prefix.trim_end_matches('/'));
        let database = self.database();
        let read = || -> rusqlite::Result<Vec<String>> {
            database
                .prepare_cached("SELECT key FROM object WHERE key >= ?1 AND key < ?2")?
                .query_map([prefix, &end], |row| row.get(0))?
                .collect()
        };
        read().unwrap_or_default()
    }

    /// Forgets objects that turned out not to be what they should: the store may
    /// give the right ones next time.
    pub fn forget_objects<'k>(&self, keys: impl Iterator<Item = &'k str>) {
        let mut database = self.database();
        let Ok(savepoint) = database.savepoint() else { return };
        for key in keys {
            let _ = savepoint
                .prepare_cached("DELETE FROM object WHERE key = ?1")
                .and_then(|mut statement| statement.execute([key]));
        }
        let _ = savepoint.commit();
    }

    /// Remembers small immutable objects.
    pub fn cache_objects<'o>(&self, objects: impl Iterator<Item = (&'o str, &'o CachedObject)>) {
        let mut database = self.database();
        let Ok(savepoint) = database.savepoint() else { return };
        for (key, object) in objects {
            let statement = "INSERT OR REPLACE INTO object (key, bytes, proof) VALUES (?1, ?2, ?3)";
            let proof = object.proof.map(|proof| proof.0);
            let _ = savepoint
                .prepare_cached(statement)
                .and_then(|mut statement| statement.execute(params![key, object.bytes, proof]));
        }
        let _ = savepoint.commit();
    }

    /// Remembers of objects in the cache that their signatures were checked.
    pub fn keep_proofs(&self, proofs: &[(String, ObjectHash)]) {
        if proofs.is_empty() {
            return;
        }
        let mut database = self.database();
        let Ok(savepoint) = database.savepoint() else { return };
        for (key, proof) in proofs {
            let _ = savepoint
                .prepare_cached("UPDATE object SET proof = ?2 WHERE key = ?1")
                .and_then(|mut statement| statement.execute(params![key, &proof.0[..]]));
        }
        let _ = savepoint.commit();
    }

    pub fn cached_page(&self, id: &ChunkId) -> Option<Vec<u8>> {
        self.database()
            .prepare_cached("SELECT bytes FROM page WHERE id = ?1")
            .and_then(|mut statement| statement.query_row([&id.0[..]], |row| row.get(0)).optional())
            .ok()
            .flatten()
    }

    pub fn cache_pages<'p>(&self, pages: impl Iterator<Item = (&'p ChunkId, &'p [u8])>) {
        let mut database = self.database();
        let Ok(savepoint) = database.savepoint() else { return };
        for (id, bytes) in pages {
            let _ = savepoint
                .prepare_cached("INSERT OR IGNORE INTO page (id, bytes) VALUES (?1, ?2)")
                .and_then(|mut statement| statement.execute(params![&id.0[..], bytes]));
        }
        let _ = savepoint.commit();
    }

    /// Forgets pages that no snapshot needs any more.
    pub fn forget_pages<'p>(&self, pages: impl Iterator<Item = &'p ChunkId>) {
        let mut database = self.database();
        let Ok(savepoint) = database.savepoint() else { return };
        for id in pages {
            let _ = savepoint
                .prepare_cached("DELETE FROM page WHERE id = ?1")
                .and_then(|mut statement| statement.execute([&id.0[..]]));
        }
        let _ = savepoint.commit();
    }
}
