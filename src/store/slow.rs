//! A decorator that makes a store far away: every operation waits, and bytes go through a link of a given rate. For
//! tests and benchmarks only: esker itself never builds one.
//!
//! What it is modelled on: one link with a rate for each direction, shared by all operations that are under way, and a
//! time that passes between a question and the first byte of its answer. Losses, slow starts and limits of single
//! connections are not modelled, nor that long listings come in pages.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Listed, REMOTE_CONCURRENCY, Result, Store};

/// Bytes that one operation transfers before others have their turn, at least.
const MIN_SLICE: u64 = 64 << 10;
/// And at most so much of a second's: sleeps must not become too short to be kept.
const SLICES_PER_SECOND: u64 = 256;
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

/// Slices that may pass at once after a pause: what waits in the buffers of a real link while whoever fills them is
/// busy elsewhere.
const BURST: u64 = 4;

/// One direction of a link: a bucket of tokens that [`BURST`] slices fit in.
#[derive(Debug)]
struct Direction {
    /// in bytes a second
    rate: u64,
    /// When all slices so far will have passed.
    free_at: Duration,
}

impl Direction {
    fn slice(&self) -> u64 {
        (self.rate / SLICES_PER_SECOND).max(MIN_SLICE)
    }

    fn time(&self, bytes: u64) -> Duration {
        Duration::from_secs_f64(bytes as f64 / self.rate as f64)
    }

    /// Takes a slice's place on the link; when it will have passed.
    ///
    /// Whoever wakes up late from the slice before does not lose the time, up to that of a burst.
    fn pass(&mut self, now: Duration, bytes: u64) -> Duration {
        let earliest = now.saturating_sub(self.time(BURST * self.slice()));
        self.free_at = self.free_at.max(earliest) + self.time(bytes);
        self.free_at
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
        let direction = || Mutex::new(Direction { rate: rate.max(1), free_at: Duration::ZERO });
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

    // the reserve and temporary files are of stores in this machine

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

    #[test]
    fn operations_share_the_rate_and_take_turns() {
        let mut link = Direction { rate: 10 * MEGABYTE, free_at: Duration::ZERO };
        let slice = link.slice();
        let start = Duration::from_secs(1);
        let mut ends = [start; 2];
        for _ in 0..100 {
            // each asks for its next slice when its last has passed
            for end in &mut ends {
                *end = link.pass(*end, slice);
            }
        }
        let all = link.time(200 * slice);
        let last = ends[1] - start;
        assert!(last <= all && last + link.time((BURST + 1) * slice) >= all, "{last:?} of {all:?}");
        assert!(ends[1] - ends[0] <= link.time(slice) * 2);
    }

    #[test]
    fn the_rate_holds_whatever_the_pauses() {
        let mut link = Direction { rate: 10 * MEGABYTE, free_at: Duration::ZERO };
        let slice = link.slice();
        let (mut passed, mut now) = (0, Duration::from_secs(1));
        let start = now;
        for turn in 0..1000u64 {
            // wakes up late, now and then by much
            now = link.pass(now, slice)
                + Duration::from_micros(if turn % 50 == 0 { 50_000 } else { 300 });
            passed += slice;
            let most = (BURST * slice) as f64 + 10e6 * (now - start).as_secs_f64();
            assert!(passed as f64 <= most + 1.0, "{passed} bytes of {most}");
        }
        let idle = Duration::from_millis(20 * 50);
        let least = 10e6 * (now - start - idle).as_secs_f64();
        assert!(passed as f64 >= 0.99 * least, "{passed} bytes of {least}");
    }
}
