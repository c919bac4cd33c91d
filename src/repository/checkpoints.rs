//! When the packs that a run has put get their segment, so that a run that is cut
//! off has not worked in vain.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::packer::Packer;

/// Bytes or chunks put, or time passed, after which packs get their segment.
const BYTES: u64 = 512 << 20;
/// Until then every chunk takes memory.
const CHUNKS: u64 = 200_000;
const TIME: Duration = Duration::from_secs(600);

/// When a checkpoint was, and what had been put by then.
pub struct Checkpoints {
    every_bytes: u64,
    bytes: u64,
    chunks: u64,
    time: Instant,
}

impl Checkpoints {
    /// After so many bytes put; 0 is 512 MiB.
    pub fn every(bytes: u64) -> Checkpoints {
        let every_bytes = if bytes == 0 { BYTES } else { bytes };
        Checkpoints { every_bytes, bytes: 0, chunks: 0, time: Instant::now() }
    }

    /// Whether one is due; if so it is taken for made.
    pub fn is_due(&mut self, packer: &Packer) -> bool {
        let bytes = packer.bytes_put.load(Ordering::Relaxed);
        let chunks = packer.chunks_put.load(Ordering::Relaxed);
        let is_due = bytes - self.bytes >= self.every_bytes
            || chunks - self.chunks >= CHUNKS
            || self.time.elapsed() >= TIME;
        if !is_due || bytes == self.bytes {
            return false;
        }
        (self.bytes, self.chunks, self.time) = (bytes, chunks, Instant::now());
        true
    }
}
