//! A rate that bytes may pass at: for the limits that a user sets, and for [`super::Slow`].

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bytes that one operation transfers before others have their turn, at least.
const MIN_SLICE: u64 = 64 << 10;
/// And at most so much of a second's: sleeps must not become too short to be kept.
const SLICES_PER_SECOND: u64 = 256;
/// Slices that may pass at once after a pause: what waits in the buffers of a real link while whoever fills them is
/// busy elsewhere.
const BURST: u64 = 4;

/// One direction of a link: a bucket of tokens that [`BURST`] slices fit in.
#[derive(Debug)]
pub(super) struct Direction {
    /// in bytes a second
    rate: u64,
    /// When all slices so far will have passed.
    free_at: Duration,
}

impl Direction {
    /// `rate` is in bytes a second.
    pub(super) fn new(rate: u64) -> Direction {
        Direction { rate: rate.max(1), free_at: Duration::ZERO }
    }

    pub(super) fn slice(&self) -> u64 {
        (self.rate / SLICES_PER_SECOND).max(MIN_SLICE)
    }

    pub(super) fn time(&self, bytes: u64) -> Duration {
        Duration::from_secs_f64(bytes as f64 / self.rate as f64)
    }

    /// Takes a slice's place on the link; when it will have passed.
    ///
    /// Whoever wakes up late from the slice before does not lose the time, up to that of a burst.
    pub(super) fn pass(&mut self, now: Duration, bytes: u64) -> Duration {
        let earliest = now.saturating_sub(self.time(BURST * self.slice()));
        self.free_at = self.free_at.max(earliest) + self.time(bytes);
        self.free_at
    }
}

/// A limit that all transfers of one direction share; none by default.
#[derive(Debug, Default)]
pub struct Pace(Option<(Instant, Mutex<Direction>)>);

impl Pace {
    /// `rate` is in bytes a second; `None` is no limit.
    pub fn new(rate: Option<u64>) -> Pace {
        Pace(rate.map(|rate| (Instant::now(), Mutex::new(Direction::new(rate)))))
    }

    /// Bytes to transfer before the next question; `None` if there is no limit.
    pub(super) fn slice(&self) -> Option<usize> {
        let (_, direction) = self.0.as_ref()?;
        let slice = direction.lock().unwrap_or_else(PoisonError::into_inner).slice();
        usize::try_from(slice).ok()
    }

    /// Takes so many bytes' place, and says how long to wait until they may have passed.
    pub(super) fn pass(&self, bytes: usize) -> Duration {
        let Some((start, direction)) = &self.0 else { return Duration::ZERO };
        let now = start.elapsed();
        let mut direction = direction.lock().unwrap_or_else(PoisonError::into_inner);
        direction.pass(now, bytes as u64).saturating_sub(now)
    }
}

/// What a user lets esker take of the network.
#[derive(Debug, Default)]
pub struct Limits {
    pub upload: Pace,
    pub download: Pace,
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEGABYTE: u64 = 1_000_000;

    #[test]
    fn operations_share_the_rate_and_take_turns() {
        let mut link = Direction::new(10 * MEGABYTE);
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
        let mut link = Direction::new(10 * MEGABYTE);
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

    #[test]
    fn no_limit_never_waits() {
        let pace = Pace::default();
        assert_eq!((pace.slice(), pace.pass(usize::MAX)), (None, Duration::ZERO));
        let limited = Pace::new(Some(MEGABYTE));
        let waits: Duration = (0..10).map(|_| limited.pass(100_000)).max().unwrap();
        assert!(waits > Duration::from_millis(500) && waits <= Duration::from_secs(1), "{waits:?}");
    }
}
