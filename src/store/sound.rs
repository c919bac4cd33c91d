//! A decorator that gets an object again whose bytes do not fit their hash: on the way from a distant store a disk, a
//! memory or a proxy may alter them, and they come whole the next time. What comes altered every time is handed on:
//! whoever asked for it says what is wrong with it.
//!
//! Every object tells its hash: in its name, or at its end (`format-spec/01-conventions.md`). Ranges do not; who asks
//! for one checks it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Listed, Result, Store};
use crate::format::object;

/// Answers of which one should be sound.
const TRIES: u32 = 3;

pub struct Sound {
    inner: Arc<dyn Store>,
}

impl Sound {
    pub fn new(inner: Arc<dyn Store>) -> Sound {
        Sound { inner }
    }
}

/// Whether the bytes are what the key, or their own end, says.
fn is_sound(key: &str, object: &[u8]) -> bool {
    let (directory, name) = key.rsplit_once('/').unwrap_or(("", key));
    match directory.split('/').next() {
        Some("packs" | "index") => blake3::hash(object).to_hex().as_str() == name,
        // put by `store test`, and none of a repository
        Some("test") => true,
        _ => object::hash_is_right(object),
    }
}

impl Store for Sound {
    fn url(&self) -> &str {
        self.inner.url()
    }

    fn put(&self, key: &str, object: Bytes) -> Result<()> {
        self.inner.put(key, object)
    }

    fn get(&self, key: &str, max_length: u64) -> Result<Bytes> {
        for _ in 1..TRIES {
            let object = self.inner.get(key, max_length)?;
            if is_sound(key, &object) {
                return Ok(object);
            }
        }
        self.inner.get(key, max_length)
    }

    fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Bytes> {
        self.inner.get_range(key, offset, length)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        self.inner.list(prefix)
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.inner.delete(key)
    }

    fn local_path(&self) -> Option<&Path> {
        self.inner.local_path()
    }

    fn has_directories(&self) -> bool {
        self.inner.has_directories()
    }

    fn create_reserve(&self, length: u64) -> Result<()> {
        self.inner.create_reserve(length)
    }

    fn release_reserve(&self) -> Result<bool> {
        self.inner.release_reserve()
    }

    fn restore_reserve(&self) -> Result<bool> {
        self.inner.restore_reserve()
    }

    fn date(&self) -> Result<Option<u64>> {
        self.inner.date()
    }

    fn concurrency(&self) -> usize {
        self.inner.concurrency()
    }

    fn retry_after(&self) -> Option<Duration> {
        self.inner.retry_after()
    }

    fn wait(&self, time: Duration) {
        self.inner.wait(time);
    }

    fn clean_temporary(&self) -> Result<u64> {
        self.inner.clean_temporary()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::store::{Counting, OpendalStore, OperationKind};

    /// Alters what is got, the first so many times.
    struct Altering(Arc<dyn Store>, AtomicU32);

    impl Store for Altering {
        fn url(&self) -> &str {
            self.0.url()
        }
        fn put(&self, key: &str, object: Bytes) -> Result<()> {
            self.0.put(key, object)
        }
        fn get(&self, key: &str, max_length: u64) -> Result<Bytes> {
            let mut bytes = self.0.get(key, max_length)?.to_vec();
            let left = self.1.load(Ordering::Relaxed);
            if left > 0 {
                self.1.store(left - 1, Ordering::Relaxed);
                bytes[0] ^= 1;
            }
            Ok(bytes.into())
        }
        fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Bytes> {
            self.0.get_range(key, offset, length)
        }
        fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
            self.0.list(prefix)
        }
        fn delete(&self, key: &str) -> Result<()> {
            self.0.delete(key)
        }
    }

    #[test]
    fn what_was_altered_on_its_way_is_got_again() {
        let body = b"some bytes".to_vec();
        let with_hash = [&body[..], blake3::hash(&body).as_bytes()].concat();
        let hash = blake3::hash(&body).to_hex();
        for (key, object) in [
            ("config".to_owned(), with_hash),
            (format!("packs/00/{hash}"), body.clone()),
            (format!("index/{hash}"), body),
        ] {
            let memory: Arc<dyn Store> = Arc::new(OpendalStore::memory().unwrap());
            let counting = Arc::new(Counting::new(memory));
            let object = Bytes::from(object);
            for (altered, gets) in [(0, 1), (1, 2), (2, 3), (3, 3)] {
                let altering = Altering(counting.clone(), AtomicU32::new(altered));
                let store = Sound::new(Arc::new(altering));
                store.put(&key, object.clone()).unwrap();
                counting.reset();
                assert_eq!(store.get(&key, 100).unwrap() == object, altered < 3, "{key}");
                assert_eq!(counting.total(OperationKind::Get).calls, gets, "{key} {altered}");
            }
        }
    }
}
