//! A decorator that tries again what failed for the moment: with growing pauses, for a time, and then no more.
//!
//! It is right to repeat each call as a whole, because of the contract: a put of the same bytes succeeds if an earlier
//! one did after all, a deletion of what is gone does too, and reading changes nothing.
//!
//! Until a store has answered once, it is waited for only a short time: a wrong address is much likelier then than a
//! server that is being restarted.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Listed, Result, Store, StoreError};

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// So long it may take until a signal is heeded.
const LONGEST_SLEEP: Duration = Duration::from_millis(200);
/// How long a store that never answered is waited for, at most.
const FIRST_PATIENCE: Duration = Duration::from_secs(15);
/// A store that is away for less is not spoken of, and of one that stays away not more often than that.
const UNMENTIONED: Duration = Duration::from_secs(2);
const BETWEEN_NOTICES: Duration = Duration::from_secs(60);

/// Told of a failure after which the store is waited for, and how long that may last.
pub type Notice = Box<dyn Fn(&StoreError, Duration) + Send + Sync>;

pub struct Patient {
    inner: Arc<dyn Store>,
    patience: Duration,
    answered: AtomicBool,
    stop: Arc<AtomicBool>,
    notice: Notice,
    /// When `notice` was called last: many requests may fail at once.
    noticed: Mutex<Option<Instant>>,
}

impl Patient {
    /// `patience` counts from the first failure of a call. When `stop` is raised, nothing is waited for any longer.
    pub fn new(
        inner: Arc<dyn Store>,
        patience: Duration,
        stop: Arc<AtomicBool>,
        notice: Notice,
    ) -> Patient {
        let (answered, noticed) = (AtomicBool::new(false), Mutex::default());
        Patient { inner, patience, answered, stop, notice, noticed }
    }

    /// Tells of a failure that lasts: of the first one it is too early to speak.
    fn tell(&self, error: &StoreError, waited: Duration) {
        if waited < UNMENTIONED {
            return;
        }
        let mut noticed = self.noticed.lock().unwrap_or_else(PoisonError::into_inner);
        if noticed.is_none_or(|last| last.elapsed() > BETWEEN_NOTICES) {
            *noticed = Some(Instant::now());
            (self.notice)(error, self.patience().saturating_sub(waited));
        }
    }

    fn patience(&self) -> Duration {
        match self.answered.load(Ordering::Relaxed) {
            true => self.patience,
            false => self.patience.min(FIRST_PATIENCE),
        }
    }

    /// Lets time pass; `false` as soon as waiting is no use.
    fn pause(&self, time: Duration) -> bool {
        let mut left = time;
        while !self.stop.load(Ordering::Relaxed) && !left.is_zero() {
            let slice = left.min(LONGEST_SLEEP);
            self.inner.wait(slice);
            left -= slice;
        }
        left.is_zero()
    }

    fn again<T>(&self, call: impl Fn() -> Result<T>) -> Result<T> {
        let mut failing_since: Option<Instant> = None;
        let mut pause = FIRST_PAUSE;
        loop {
            let result = call();
            match &result {
                Err(error) if error.is_temporary() => {}
                _ => {
                    // whatever it was, it was an answer
                    self.answered.store(true, Ordering::Relaxed);
                    return result;
                }
            }
            let waited = failing_since.get_or_insert_with(Instant::now).elapsed();
            // a server that says when has answered, and is not asked sooner
            let retry_after = self.inner.retry_after();
            if retry_after.is_some() {
                self.answered.store(true, Ordering::Relaxed);
            }
            let pause_now = jittered(pause).max(retry_after.unwrap_or_default());
            if waited + pause_now > self.patience() {
                return result;
            }
            if let Err(error) = &result {
                self.tell(error, waited + pause_now);
            }
            if !self.pause(pause_now) {
                return result;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Between half of a pause and all of it: those who failed together shall not come back together.
fn jittered(pause: Duration) -> Duration {
    let share = f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX);
    pause.mul_f64(0.5 + share / 2.0)
}

impl Store for Patient {
    fn url(&self) -> &str {
        self.inner.url()
    }

    fn put(&self, key: &str, object: Bytes) -> Result<()> {
        self.again(|| self.inner.put(key, object.clone()))
    }

    fn get(&self, key: &str, max_length: u64) -> Result<Bytes> {
        self.again(|| self.inner.get(key, max_length))
    }

    fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Bytes> {
        self.again(|| self.inner.get_range(key, offset, length))
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        self.again(|| self.inner.list(prefix))
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.again(|| self.inner.delete(key))
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
        self.again(|| self.inner.date())
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
        self.again(|| self.inner.clean_temporary())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{ErrorKind, OpendalStore};

    /// Fails the first calls, counts all, and lets no time pass.
    struct Failing {
        inner: OpendalStore,
        failures: Mutex<(u32, ErrorKind)>,
        calls: Mutex<u32>,
        waited: Mutex<Duration>,
        busy: Option<Duration>,
    }

    impl Failing {
        fn new(failures: u32, kind: ErrorKind) -> Arc<Failing> {
            Arc::new(Failing {
                inner: OpendalStore::memory().unwrap(),
                failures: Mutex::new((failures, kind)),
                calls: Mutex::default(),
                waited: Mutex::default(),
                busy: None,
            })
        }

        fn fail(&self, key: &str) -> Result<()> {
            *self.calls.lock().unwrap() += 1;
            let mut failures = self.failures.lock().unwrap();
            if failures.0 == 0 {
                return Ok(());
            }
            failures.0 -= 1;
            Err(StoreError::new(failures.1, "x", key))
        }
    }

    impl Store for Failing {
        fn url(&self) -> &str {
            "x"
        }
        /// The put is done, and its answer lost.
        fn put(&self, key: &str, object: Bytes) -> Result<()> {
            self.inner.put(key, object)?;
            self.fail(key)
        }
        fn get(&self, key: &str, max_length: u64) -> Result<Bytes> {
            self.fail(key)?;
            self.inner.get(key, max_length)
        }
        fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Bytes> {
            self.fail(key)?;
            self.inner.get_range(key, offset, length)
        }
        fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
            self.fail(prefix)?;
            self.inner.list(prefix)
        }
        fn delete(&self, key: &str) -> Result<()> {
            self.inner.delete(key)?;
            self.fail(key)
        }
        fn retry_after(&self) -> Option<Duration> {
            self.busy
        }
        fn wait(&self, time: Duration) {
            *self.waited.lock().unwrap() += time;
        }
    }

    fn patient(failing: &Arc<Failing>, seconds: u64) -> Patient {
        let patience = Duration::from_secs(seconds);
        Patient::new(failing.clone(), patience, Arc::default(), Box::new(|_, _| {}))
    }

    #[test]
    fn a_signal_ends_the_waiting() {
        let failing = Failing::new(u32::MAX, ErrorKind::Temporary);
        let stop = Arc::new(AtomicBool::new(true));
        let store =
            Patient::new(failing.clone(), Duration::from_secs(100), stop, Box::new(|_, _| {}));
        assert!(store.get("a", 1).unwrap_err().is_temporary());
        assert_eq!(*failing.calls.lock().unwrap(), 1);
    }

    #[test]
    fn what_fails_for_the_moment_is_tried_again() {
        let failing = Failing::new(3, ErrorKind::Temporary);
        let store = patient(&failing, 100);
        store.put("a", Bytes::from_static(b"1")).unwrap();
        assert_eq!(*failing.calls.lock().unwrap(), 4);
        let waited = *failing.waited.lock().unwrap();
        let (least, most) = (Duration::from_millis(1750), Duration::from_millis(3500));
        assert!(waited >= least && waited <= most, "{waited:?}");
        *failing.failures.lock().unwrap() = (2, ErrorKind::Temporary);
        assert_eq!(store.get("a", 9).unwrap(), &b"1"[..]);
        store.delete("a").unwrap();
    }

    #[test]
    fn what_will_not_change_is_not() {
        for kind in
            [ErrorKind::NotFound, ErrorKind::Permission, ErrorKind::Permanent, ErrorKind::Full]
        {
            let failing = Failing::new(1, kind);
            let store = patient(&failing, 100);
            assert_eq!(store.list("").unwrap_err().kind(), kind);
            assert_eq!(*failing.calls.lock().unwrap(), 1, "{kind:?}");
        }
    }

    #[test]
    fn a_server_that_says_when_is_not_asked_sooner() {
        let mut failing = Failing::new(2, ErrorKind::Temporary);
        // longer than one is waited for that never answered
        Arc::get_mut(&mut failing).unwrap().busy = Some(Duration::from_secs(20));
        patient(&failing, 60).delete("a").unwrap();
        assert_eq!(*failing.waited.lock().unwrap(), Duration::from_secs(40));
    }

    #[test]
    fn a_failure_that_lasts_is_told_once() {
        let failing = Failing::new(6, ErrorKind::Temporary);
        let told = Arc::new(Mutex::new(Vec::new()));
        let notice: Notice = {
            let told = told.clone();
            Box::new(move |error, left| told.lock().unwrap().push((error.key().to_owned(), left)))
        };
        let store = Patient::new(failing.clone(), Duration::from_secs(100), Arc::default(), notice);
        // this one has answered
        store.get("b", 1).unwrap_err();
        let told = told.lock().unwrap();
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0].0, "b");
    }

    #[test]
    fn patience_ends() {
        let failing = Failing::new(u32::MAX, ErrorKind::Temporary);
        let store = patient(&failing, 0);
        assert!(store.get("a", 1).unwrap_err().is_temporary());
        assert_eq!(*failing.calls.lock().unwrap(), 1);
    }
}
