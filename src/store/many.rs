//! Many requests at once: whole objects within a budget of bytes, deletions, and whatever else is asked for together.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use bytes::Bytes;

use super::{Listed, Result, Store};

/// How much is read at once.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// Objects on their way at once; at least 1.
    pub threads: usize,
    /// Bytes of objects in memory at once; an object longer than that is read alone.
    pub budget_bytes: u64,
    /// Longer objects are [`TooLarge`](super::ErrorKind::TooLarge).
    pub max_length: u64,
}

/// Reads each object and gives it, or why it could not be read, to `work`, on several threads, in no order.
///
/// Memory for objects stays below `budget_bytes`, or that of the longest object. `Break` ends it all soon.
pub fn read_many(
    store: &dyn Store,
    objects: &[Listed],
    reading: Reading,
    work: &(dyn Fn(&Listed, Result<Bytes>) -> ControlFlow<()> + Sync),
) {
    let (next, stopped) = (AtomicUsize::new(0), AtomicBool::new(false));
    let budget = Budget { used: Mutex::new(0), freed: Condvar::new(), limit: reading.budget_bytes };
    let read_some = || {
        while !stopped.load(Ordering::Relaxed) {
            let Some(object) = objects.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
            let share = budget.take(object.length.min(reading.max_length));
            let result = work(object, store.get(&object.key, reading.max_length));
            drop(share);
            if result.is_break() {
                stopped.store(true, Ordering::Relaxed);
            }
        }
    };
    let threads = reading.threads.clamp(1, objects.len().max(1));
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(read_some);
        }
        read_some();
    });
}

/// Does `work` for every item, on up to `threads` threads; the answers come in the order of the items. With one thread
/// the work is done here, in that order.
pub fn at_once<T: Sync, R: Send>(
    threads: usize,
    items: &[T],
    work: &(dyn Fn(&T) -> R + Sync),
) -> Vec<R> {
    let threads = threads.clamp(1, items.len().max(1));
    if threads == 1 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let do_some = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { return done };
            done.push((at, work(item)));
        }
    };
    let mut answers = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(do_some)).collect();
        let mut answers = do_some();
        for other in others {
            match other.join() {
                Ok(more) => answers.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        answers
    });
    answers.sort_unstable_by_key(|(at, _)| *at);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

/// Deletes objects, several at once; all of them are acknowledged when this returns `Ok`.
pub fn delete_many(store: &dyn Store, keys: &[String]) -> Result<()> {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(None);
    let delete_some = || {
        while let Some(key) = keys.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = store.delete(key) {
                // the others stop at their next key
                next.store(keys.len(), Ordering::Relaxed);
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..store.concurrency().clamp(1, keys.len().max(1)) {
            scope.spawn(delete_some);
        }
        delete_some();
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

struct Budget {
    used: Mutex<u64>,
    freed: Condvar,
    limit: u64,
}

struct Share<'a> {
    budget: &'a Budget,
    bytes: u64,
}

impl Budget {
    fn take(&self, bytes: u64) -> Share<'_> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        while *used > 0 && used.saturating_add(bytes) > self.limit {
            used = self.freed.wait(used).unwrap_or_else(PoisonError::into_inner);
        }
        *used += bytes;
        Share { budget: self, bytes }
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        *self.budget.used.lock().unwrap_or_else(PoisonError::into_inner) -= self.bytes;
        self.budget.freed.notify_all();
    }
}
