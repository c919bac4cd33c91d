//! A decorator that counts what is asked of a store, for tests that bound the work and for `--json`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::{Listed, OperationKind, Result, Store};

/// Calls of one kind, failed ones included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    pub calls: u64,
    /// bytes of the objects put, or of the bytes got; failed calls add none
    pub bytes: u64,
    /// keys that listings returned
    pub listed: u64,
}

type Counts = BTreeMap<(OperationKind, String), Count>;

/// Counts operations and bytes by kind and first path component (`packs`, `index`, …).
pub struct Counting {
    inner: Arc<dyn Store>,
    counts: Mutex<Counts>,
}

impl Counting {
    pub fn new(inner: Arc<dyn Store>) -> Counting {
        Counting { inner, counts: Mutex::default() }
    }

    /// Everything counted so far.
    pub fn counts(&self) -> BTreeMap<(OperationKind, String), Count> {
        self.lock().clone()
    }

    /// What was counted of one kind under one first path component.
    pub fn count(&self, kind: OperationKind, component: &str) -> Count {
        self.lock().get(&(kind, component.to_owned())).copied().unwrap_or_default()
    }

    /// What was counted of one kind under all keys.
    pub fn total(&self, kind: OperationKind) -> Count {
        let of_kind =
            |entry: (&(OperationKind, String), &Count)| (entry.0.0 == kind).then_some(*entry.1);
        self.lock().iter().filter_map(of_kind).fold(Count::default(), |sum, count| Count {
            calls: sum.calls + count.calls,
            bytes: sum.bytes + count.bytes,
            listed: sum.listed + count.listed,
        })
    }

    /// Forgets what was counted.
    pub fn reset(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, kind: OperationKind, key: &str, bytes: usize, listed: usize) {
        let component = key.split('/').next().unwrap_or_default().to_owned();
        let mut counts = self.lock();
        let count = counts.entry((kind, component)).or_default();
        count.calls += 1;
        count.bytes += bytes as u64;
        count.listed += listed as u64;
    }
}

impl Store for Counting {
    fn url(&self) -> &str {
        self.inner.url()
    }

    fn put(&self, key: &str, object: Bytes) -> Result<()> {
        let length = object.len();
        let result = self.inner.put(key, object);
        self.add(OperationKind::Put, key, if result.is_ok() { length } else { 0 }, 0);
        result
    }

    fn get(&self, key: &str, max_length: u64) -> Result<Bytes> {
        let result = self.inner.get(key, max_length);
        self.add(OperationKind::Get, key, result.as_ref().map_or(0, Bytes::len), 0);
        result
    }

    fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Bytes> {
        let result = self.inner.get_range(key, offset, length);
        self.add(OperationKind::GetRange, key, result.as_ref().map_or(0, Bytes::len), 0);
        result
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        let result = self.inner.list(prefix);
        self.add(OperationKind::List, prefix, 0, result.as_ref().map_or(0, Vec::len));
        result
    }

    fn delete(&self, key: &str) -> Result<()> {
        let result = self.inner.delete(key);
        self.add(OperationKind::Delete, key, 0, 0);
        result
    }

    fn local_path(&self) -> Option<&Path> {
        self.inner.local_path()
    }

    fn has_directories(&self) -> bool {
        self.inner.has_directories()
    }

    fn create_reserve(&self, length: u64) -> Result<()> {
        self.add(OperationKind::Reserve, "", 0, 0);
        self.inner.create_reserve(length)
    }

    fn release_reserve(&self) -> Result<bool> {
        self.add(OperationKind::Reserve, "", 0, 0);
        self.inner.release_reserve()
    }

    fn restore_reserve(&self) -> Result<bool> {
        self.add(OperationKind::Reserve, "", 0, 0);
        self.inner.restore_reserve()
    }

    fn date(&self) -> Result<Option<u64>> {
        self.inner.date()
    }

    fn concurrency(&self) -> usize {
        self.inner.concurrency()
    }

    fn wait(&self, time: std::time::Duration) {
        self.inner.wait(time);
    }

    fn clean_temporary(&self) -> Result<u64> {
        self.inner.clean_temporary()
    }
}
