//! Several requests at once, within a budget of bytes: for whoever looks at everything, and for whoever would
//! otherwise wait for a distant store once for every object.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::{Listed, Result, Store};

/// How much is read at once.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// Objects worked on at once; at least 1. As many more are on their way where the store is elsewhere, so that the
    /// link is busy meanwhile.
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
    let read_next = || {
        let next = || objects.get(next.fetch_add(1, Ordering::Relaxed));
        let object = next().filter(|_| !stopped.load(Ordering::Relaxed))?;
        let share = budget.take(object.length.min(reading.max_length));
        Some((object, store.get(&object.key, reading.max_length), share))
    };
    let work_on = |(object, read, share)| {
        let result = work(object, read);
        drop::<Share<'_>>(share);
        if result.is_break() {
            stopped.store(true, Ordering::Relaxed);
        }
    };
    let threads = reading.threads.clamp(1, objects.len().max(1));
    std::thread::scope(|scope| {
        if at_once(store) < 2 {
            let read_some = || std::iter::from_fn(read_next).for_each(work_on);
            (1..threads).for_each(|_| drop(scope.spawn(read_some)));
            return read_some();
        }
        let (send, receive) = crossbeam_channel::bounded(0);
        for _ in 0..threads.min(at_once(store)) {
            let send = send.clone();
            scope.spawn(move || std::iter::from_fn(read_next).try_for_each(|read| send.send(read)));
        }
        drop(send);
        for _ in 1..threads {
            let receive = receive.clone();
            scope.spawn(move || receive.into_iter().for_each(work_on));
        }
        receive.into_iter().for_each(work_on);
    });
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

/// How many requests to make at once that wait for nothing but the store. A store in this machine answers before
/// another thread would have begun to ask.
pub fn at_once(store: &dyn Store) -> usize {
    if store.local_path().is_some() { 1 } else { store.concurrency().max(1) }
}

/// Asks two questions of a store that do not depend on each other: together, or one after the other.
pub fn both<A: Send, B: Send>(
    store: &dyn Store,
    first: impl FnOnce() -> A + Send,
    second: impl FnOnce() -> B + Send,
) -> (A, B) {
    if at_once(store) < 2 {
        let first = first();
        return (first, second());
    }
    std::thread::scope(|scope| {
        let second = scope.spawn(second);
        let first = first();
        (first, second.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// How far [`in_order`] reads ahead.
#[derive(Debug, Clone, Copy)]
pub struct Ahead {
    /// Requests under way at once; with one, nothing is read ahead.
    pub requests: usize,
    /// Bytes under way or waiting to be taken at once; what is longer is read alone.
    pub budget_bytes: u64,
}

/// Fetches items, several at once, and gives the answers to `take` in the order of the items. An error of `take` ends
/// it all. `bytes` is how long an answer will be.
pub fn in_order<T: Sync, R: Send, E>(
    items: &[T],
    ahead: Ahead,
    bytes: impl Fn(&T) -> u64 + Sync,
    fetch: impl Fn(&T) -> R + Sync,
    mut take: impl FnMut(&T, R) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let threads = ahead.requests.min(items.len());
    if threads < 2 {
        return items.iter().try_for_each(|item| take(item, fetch(item)));
    }
    let line: Line<R> = Line { state: Mutex::default(), changed: Condvar::new() };
    let fetch_some = || {
        let _guard = EndsWithPanic(&line);
        while let Some(at) = line.next(items, ahead.budget_bytes, &bytes) {
            let answer = fetch(&items[at]);
            line.change(|state| drop(state.answers.insert(at, answer)));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(fetch_some);
        }
        // whatever ends this, the others must not wait for it
        let _guard = Ends(&line);
        for (at, item) in items.iter().enumerate() {
            let Some(answer) = line.wait_for(at) else { break };
            take(item, answer)?;
            line.change(|state| state.used -= bytes(item));
        }
        Ok(())
    })
}

/// Asks for all items, so many at once; the answers in the order of the items.
pub fn ask_all<T: Sync, R: Send>(
    requests: usize,
    items: &[T],
    ask: &(dyn Fn(&T) -> R + Sync),
) -> Vec<R> {
    let mut answers = Vec::with_capacity(items.len());
    let ahead = Ahead { requests, budget_bytes: u64::MAX };
    let done: std::result::Result<(), Infallible> = in_order(
        items,
        ahead,
        |_| 0,
        ask,
        |_, answer| {
            answers.push(answer);
            Ok(())
        },
    );
    let Ok(()) = done;
    answers
}

/// Gets small objects whole, several at once, and gives them to `take` in the order of their keys.
pub fn get_each<K: AsRef<str> + Sync, E>(
    store: &dyn Store,
    keys: &[K],
    max_length: u64,
    mut take: impl FnMut(&K, Result<Bytes>) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let requests = at_once(store);
    // counted in objects: no more wait to be taken than are on their way
    let ahead = Ahead { requests, budget_bytes: 2 * requests as u64 };
    let get = |key: &K| store.get(key.as_ref(), max_length);
    in_order(keys, ahead, |_| 1, get, |key, object| take(key, object))
}

/// Answers on their way to whoever takes them in order.
struct Line<R> {
    state: Mutex<LineState<R>>,
    changed: Condvar,
}

struct LineState<R> {
    next: usize,
    used: u64,
    answers: BTreeMap<usize, R>,
    ended: bool,
}

impl<R> Default for LineState<R> {
    fn default() -> Self {
        LineState { next: 0, used: 0, answers: BTreeMap::new(), ended: false }
    }
}

impl<R> Line<R> {
    fn lock(&self) -> MutexGuard<'_, LineState<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut LineState<R>)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// The next item to fetch, when there is room for it. Room is given in the order of the items: the one that
    /// is waited for has its share.
    fn next<T>(&self, items: &[T], budget: u64, bytes: &impl Fn(&T) -> u64) -> Option<usize> {
        let mut state = self.lock();
        loop {
            let item = items.get(state.next).filter(|_| !state.ended)?;
            let bytes = bytes(item);
            if state.used == 0 || state.used.saturating_add(bytes) <= budget {
                state.used += bytes;
                state.next += 1;
                return Some(state.next - 1);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Nothing when a thread that fetches ended early.
    fn wait_for(&self, at: usize) -> Option<R> {
        let mut state = self.lock();
        loop {
            if let Some(answer) = state.answers.remove(&at) {
                return Some(answer);
            }
            if state.ended {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

struct Ends<'a, R>(&'a Line<R>);

impl<R> Drop for Ends<'_, R> {
    fn drop(&mut self) {
        self.0.change(|state| state.ended = true);
    }
}

struct EndsWithPanic<'a, R>(&'a Line<R>);

impl<R> Drop for EndsWithPanic<'_, R> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.change(|state| state.ended = true);
        }
    }
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

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn answers_come_in_order_and_within_the_budget() {
        let items: Vec<u64> = (0..200).map(|n| n * 37 % 50).collect();
        let (held, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let mut taken = Vec::new();
        let ahead = Ahead { requests: 7, budget_bytes: 100 };
        let fetch = |item: &u64| {
            let now = held.fetch_add(*item as usize, Ordering::SeqCst) + *item as usize;
            most.fetch_max(now, Ordering::SeqCst);
            *item
        };
        let done: std::result::Result<(), ()> = in_order(
            &items,
            ahead,
            |item| *item,
            fetch,
            |item, answer| {
                assert_eq!(*item, answer);
                held.fetch_sub(answer as usize, Ordering::SeqCst);
                taken.push(answer);
                Ok(())
            },
        );
        assert_eq!((done, taken), (Ok(()), items));
        assert!(most.load(Ordering::SeqCst) <= 100, "{most:?}");
    }

    #[test]
    fn requests_are_under_way_at_once_and_an_error_ends_them() {
        // nobody comes through alone
        let together = Barrier::new(4);
        let items: Vec<usize> = (0..8).collect();
        let ahead = Ahead { requests: 4, budget_bytes: 1 };
        let fetch = |_: &usize| {
            together.wait();
        };
        assert_eq!(in_order(&items, ahead, |_| 0, fetch, |_, ()| Ok::<_, ()>(())), Ok(()));
        // one that is too long for the budget goes alone
        let mut taken = 0;
        let ended = in_order(
            &items,
            ahead,
            |_| 9,
            |item| *item,
            |item, _| {
                taken += 1;
                if *item == 3 { Err("enough") } else { Ok(()) }
            },
        );
        assert_eq!((ended, taken), (Err("enough"), 4));
    }
}
