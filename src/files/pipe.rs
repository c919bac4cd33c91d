//! Pipes that hold more.

use std::os::fd::AsFd;

use rustix::pipe::{fcntl_getpipe_size, fcntl_setpipe_size};

/// What a pipe is made to hold: the most that every user may ask for.
const BYTES: usize = 1 << 20;

/// Lets a pipe hold more than its 64 KiB, so that its two ends do not wait for each
/// other at every bit. Anything else, and a system that refuses, stays as it is.
pub fn widen(pipe: impl AsFd) {
    if fcntl_getpipe_size(&pipe).is_ok_and(|now| now < BYTES) {
        let _ = fcntl_setpipe_size(&pipe, BYTES);
    }
}
