//! A decorator that makes a store far away: every operation waits, and bytes go through a link of a given rate. For
//! tests and benchmarks only: esker itself never builds one.
//!
//! What it is modelled on: one link with a rate for each direction, shared by all operations that are under way, and a
//! time that passes between a question and the first byte of its answer. Losses, slow starts and limits of single
//! connections are not modelled, nor that long listings come in pages.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::pace::Direction;
use super::{Listed, REMOTE_CONCURRENCY, Result, Store};

/// What a key takes in the answer to a listing, and what surrounds an answer, in bytes.
const LISTED_BYTES: u64 = 200;

/// Tells the time since some moment, and lets it pass.
pub trait Clock: Send + Sync {
    fn now(&self) -> Duration;
    fn sleep_until(&self, time: Duration);
}

/// The clock of this machine.
pub struct RealClock(Instant);

impl Default for RealClock {
    fn default() -> RealClock {
        RealClock(Instant::now())
    }
}

impl Clock for RealClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep_until(&self, time: Duration) {
        std::thread::sleep(time.saturating_sub(self.now()));
    }
}

/// A store behind a slow link.
pub struct Slow {
    inner: Arc<dyn Store>,
    latency: Duration,
    up: Mutex<Direction>,
    down: Mutex<Direction>,
    clock: Arc<dyn Clock>,
}

impl Slow {
    /// Each operation waits `latency`; `rate` is that of each direction, in bytes a second.
    pub fn new(inner: Arc<dyn Store>, latency: Duration, rate: u64) -> Slow {
        Slow::with_clock(inner, latency, rate, Arc::new(RealClock::default()))
    }

    pub fn with_clock(
        inner: Arc<dyn Store>,
        latency: Duration,
        rate: u64,
        clock: Arc<dyn Clock>,
    ) -> Slow {
        let direction = || Mutex::new(Direction::new(rate));
        Slow { inner, latency, up: direction(), down: direction(), clock }
    }

    fn wait_for_answer(&self) {
        self.clock.sleep_until(self.clock.now() + self.latency);
    }

    /// One slice after another: those of several operations take turns.
    fn transfer(&self, direction: &Mutex<Direction>, bytes: u64) {
        let mut left = bytes;
        while left > 0 {
            let passed = {
                let mut direction = direction.lock().unwrap_or_else(PoisonError::into_inner);
                let slice = direction.slice().min(left);
                left -= slice;
                direction.pass(self.clock.now(), slice)
            };
            self.clock.sleep_until(passed);
        }
    }

    fn answer(&self, result: Result<Bytes>) -> Result<Bytes> {
        self.wait_for_answer();
        let bytes = result?;
        self.transfer(&self.down, bytes.len() as u64);
        Ok(bytes)
    }
}

impl Store for Slow {
    fn url(&self) -> &str {
        self.inner.url()
    }

    /// The object is there when its last byte has arrived.
    fn put(&self, key: &str, object: Bytes) -> Result<()> {
        self.wait_for_answer();
        self.transfer(&self.up, object.len() as u64);
        self.inner.put(key, object)
    }

    fn get(&self, key: &str, max_length: u64) -> Result<Bytes> {
        self.answer(self.inner.get(key, max_length))
    }

    fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Bytes> {
        self.answer(self.inner.get_range(key, offset, length))
    }

    /// Begins when it is asked for and ends when all is there, as listings do.
    fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        self.wait_for_answer();
        let listed = self.inner.list(prefix)?;
        self.transfer(&self.down, LISTED_BYTES * listed.len() as u64);
        Ok(listed)
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.wait_for_answer();
        self.inner.delete(key)
    }

    fn concurrency(&self) -> usize {
        REMOTE_CONCURRENCY
    }

    // directories, the reserve and temporary files are of stores in this machine

    fn date(&self) -> Result<Option<u64>> {
        self.wait_for_answer();
        self.inner.date()
    }

    fn wait(&self, time: Duration) {
        self.clock.sleep_until(self.clock.now() + time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::OpendalStore;

    const MEGABYTE: u64 = 1_000_000;

    /// Jumps to wherever somebody wants to sleep to.
    #[derive(Default)]
    struct Jumping(Mutex<Duration>);

    impl Clock for Jumping {
        fn now(&self) -> Duration {
            *self.0.lock().unwrap()
        }

        fn sleep_until(&self, time: Duration) {
            let mut now = self.0.lock().unwrap();
            *now = time.max(*now);
        }
    }

    fn milliseconds(duration: Duration) -> u64 {
        (duration.as_secs_f64() * 1000.0).round() as u64
    }

    #[test]
    fn an_operation_takes_the_latency_and_its_bytes_time() {
        let clock = Arc::new(Jumping::default());
        let inner = Arc::new(OpendalStore::memory().unwrap());
        let latency = Duration::from_millis(50);
        let slow = Slow::with_clock(inner, latency, 10 * MEGABYTE, clock.clone());
        let took = |work: &dyn Fn()| {
            // long enough for the link to be idle
            slow.wait(Duration::from_secs(10));
            let before = clock.now();
            work();
            milliseconds(clock.now() - before)
        };
        // what a bucket holds passes at once: 256 KiB of these
        let bucket = 26;
        assert_eq!(took(&|| slow.put("packs/a", vec![1; 1_000_000].into()).unwrap()), 150 - bucket);
        assert_eq!(took(&|| drop(slow.get("packs/a", u64::MAX).unwrap())), 150 - bucket);
        assert_eq!(took(&|| drop(slow.get_range("packs/a", 5, 500_000).unwrap())), 100 - bucket);
        assert_eq!(took(&|| drop(slow.get("packs/b", u64::MAX).unwrap_err())), 50);
        assert_eq!(took(&|| assert_eq!(slow.list("packs/").unwrap().len(), 1)), 50);
        assert_eq!(took(&|| slow.delete("packs/a").unwrap()), 50);
    }
}
