//! Chance and time as the simulation wants them. Ids and nonces come from
//! `getrandom`, times from `clock_gettime`: both are this file's own functions in
//! this test binary, which answer from the seed while a simulation runs and ask
//! the kernel otherwise. All `unsafe` of the simulator is here.

use std::ffi::{c_int, c_long, c_uint, c_void};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use blake3::OutputReader;

static CHANCE: Mutex<Option<OutputReader>> = Mutex::new(None);
/// In ms since 1970; 0 is the real clock.
static CLOCK: AtomicU64 = AtomicU64::new(0);

/// From now on all chance follows from `seed`.
pub fn seed_chance(seed: u64) {
    let reader = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
    *chance() = Some(reader);
}

pub fn set_clock(ms: u64) {
    CLOCK.store(ms, Ordering::SeqCst);
}

/// Gives the kernel's chance and time back.
pub fn restore() {
    *chance() = None;
    set_clock(0);
}

fn chance() -> std::sync::MutexGuard<'static, Option<OutputReader>> {
    CHANCE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
}

#[cfg(target_arch = "x86_64")]
const GETRANDOM: c_long = 318;
#[cfg(target_arch = "x86_64")]
const CLOCK_GETTIME: c_long = 228;
#[cfg(not(target_arch = "x86_64"))]
const GETRANDOM: c_long = 278;
#[cfg(not(target_arch = "x86_64"))]
const CLOCK_GETTIME: c_long = 113;

/// How the standard library asks for keys of hash maps.
const FOR_HASH_MAPS: c_uint = 4;
const REALTIME: c_int = 0;

/// # Safety
/// As `getrandom(2)`: `buffer` has room for `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, flags: c_uint) -> isize {
    let mut chance = chance();
    let Some(reader) = chance.as_mut() else {
        // SAFETY: passes on what the caller vouches for
        return unsafe { syscall(GETRANDOM, buffer, length, flags) } as isize;
    };
    if length == 0 {
        return 0;
    }
    // SAFETY: the caller vouches for the buffer
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
    if flags == FOR_HASH_MAPS {
        // threads ask for these in no order: they must not change what follows
        bytes.fill(7);
    } else {
        reader.fill(bytes);
    }
    length as isize
}

#[repr(C)]
pub struct Timespec {
    seconds: i64,
    nanoseconds: c_long,
}

/// # Safety
/// As `clock_gettime(2)`: `time` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: c_int, time: *mut Timespec) -> c_int {
    let ms = CLOCK.load(Ordering::SeqCst);
    if clock != REALTIME || ms == 0 {
        // SAFETY: passes on what the caller vouches for
        return unsafe { syscall(CLOCK_GETTIME, c_long::from(clock), time) } as c_int;
    }
    let now =
        Timespec { seconds: (ms / 1000) as i64, nanoseconds: (ms % 1000 * 1_000_000) as c_long };
    // SAFETY: the caller vouches for the pointer
    unsafe { time.write(now) };
    0
}
