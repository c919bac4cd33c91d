//! A decorator that makes a store fail on purpose. For tests only: esker itself never builds one.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;

use super::{ErrorKind, Listed, Operation, OperationKind, Result, Store, StoreError};

/// What is to happen to an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Pass,
    /// The operation is not performed and fails.
    FailBefore(ErrorKind),
    /// The operation is performed, but its answer is lost.
    FailAfter(ErrorKind),
    /// The process crashes here: this operation and all later ones are not performed and fail.
    Stop,
}

type Decide = dyn Fn(&Operation) -> Decision + Send + Sync;

/// Asks a function before each operation whether it may go on.
///
/// A test that wants a crash at every place runs once undisturbed, reads [`Faulty::operations`], and runs again with
/// [`Faulty::stop_at`] for each number from 1 to that.
pub struct Faulty {
    inner: Arc<dyn Store>,
    decide: Box<Decide>,
    operations: AtomicU64,
    stopped: AtomicBool,
}

impl Faulty {
    pub fn new(
        inner: Arc<dyn Store>,
        decide: impl Fn(&Operation) -> Decision + Send + Sync + 'static,
    ) -> Faulty {
        Faulty {
            inner,
            decide: Box::new(decide),
            operations: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        }
    }

    /// A store whose user crashes just before its `number`-th operation, counted from 1.
    pub fn stop_at(inner: Arc<dyn Store>, number: u64) -> Faulty {
        Faulty::new(
            inner,
            move |operation| {
                if operation.number >= number { Decision::Stop } else { Decision::Pass }
            },
        )
    }

    /// How many operations were asked for so far.
    pub fn operations(&self) -> u64 {
        self.operations.load(Ordering::SeqCst)
    }

    /// Whether a [`Decision::Stop`] was met.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    fn run<T>(
        &self,
        kind: OperationKind,
        key: &str,
        perform: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let fail = |kind, why: &str| Err(StoreError::new(kind, self.inner.url(), key).because(why));
        let number = self.operations.fetch_add(1, Ordering::SeqCst) + 1;
        if self.is_stopped() {
            return fail(ErrorKind::Permanent, "stopped earlier on purpose");
        }
        match (self.decide)(&Operation { number, kind, key: key.to_owned() }) {
            Decision::Pass => perform(),
            Decision::FailBefore(kind) => fail(kind, "failed on purpose"),
            Decision::FailAfter(kind) => {
                perform().and_then(|_| fail(kind, "answer lost on purpose"))
            }
            Decision::Stop => {
                self.stopped.store(true, Ordering::SeqCst);
                fail(ErrorKind::Permanent, "stopped on purpose")
            }
        }
    }
}

impl Store for Faulty {
    fn url(&self) -> &str {
        self.inner.url()
    }

    fn put(&self, key: &str, object: Bytes) -> Result<()> {
        self.run(OperationKind::Put, key, || self.inner.put(key, object))
    }

    fn get(&self, key: &str, max_length: u64) -> Result<Bytes> {
        self.run(OperationKind::Get, key, || self.inner.get(key, max_length))
    }

    fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Bytes> {
        self.run(OperationKind::GetRange, key, || self.inner.get_range(key, offset, length))
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        self.run(OperationKind::List, prefix, || self.inner.list(prefix))
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.run(OperationKind::Delete, key, || self.inner.delete(key))
    }

    fn local_path(&self) -> Option<&Path> {
        self.inner.local_path()
    }

    fn has_directories(&self) -> bool {
        self.inner.has_directories()
    }

    fn create_reserve(&self, length: u64) -> Result<()> {
        self.run(OperationKind::Reserve, "", || self.inner.create_reserve(length))
    }

    fn release_reserve(&self) -> Result<bool> {
        self.run(OperationKind::Reserve, "", || self.inner.release_reserve())
    }

    fn restore_reserve(&self) -> Result<bool> {
        self.run(OperationKind::Reserve, "", || self.inner.restore_reserve())
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
