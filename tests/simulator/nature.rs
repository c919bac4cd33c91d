//! Chance and time as the simulation wants them. Ids and nonces come from
//! `getrandom`, times from `clock_gettime`: both are this file's own functions in
//! this test binary, which answer from the seed while a simulation runs and ask
//! the kernel otherwise. Every actor has a stream of chance and a clock of its
//! own, and so have the threads it starts, for which `pthread_create` is here as
//! well. All `unsafe` of the simulator is in this file.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_long, c_uint, c_ulong, c_void};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use blake3::OutputReader;

/// Actors there may be, and one more for whoever is none.
const CLOCKS: usize = 16;
const NOBODY: usize = CLOCKS - 1;

/// The seed, and the stream of each actor.
static CHANCE: Mutex<Option<(u64, BTreeMap<usize, OutputReader>)>> = Mutex::new(None);
/// In ms since 1970; 0 is the real clock.
static CLOCK: [AtomicU64; CLOCKS] = [const { AtomicU64::new(0) }; CLOCKS];

thread_local! {
    static ACTOR: Cell<usize> = const { Cell::new(NOBODY) };
}

/// This thread, and those it starts, act for this actor.
pub fn this_is(actor: usize) {
    ACTOR.set(actor);
}

/// From now on all chance follows from `seed`.
pub fn seed_chance(seed: u64) {
    *chance() = Some((seed, BTreeMap::new()));
}

/// What an actor's clock says.
pub fn set_clock(actor: usize, ms: u64) {
    CLOCK[actor].store(ms, Ordering::SeqCst);
}

/// What all clocks say.
pub fn set_clocks(ms: u64) {
    (0..CLOCKS).for_each(|actor| set_clock(actor, ms));
}

/// Gives the kernel's chance and time back.
pub fn restore() {
    *chance() = None;
    set_clocks(0);
}

fn chance() -> std::sync::MutexGuard<'static, Option<(u64, BTreeMap<usize, OutputReader>)>> {
    CHANCE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn stream(seed: u64, actor: usize) -> OutputReader {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).update(&(actor as u64).to_le_bytes());
    hasher.finalize_xof()
}

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
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
    let Some((seed, streams)) = chance.as_mut() else {
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
        let actor = ACTOR.get();
        streams.entry(actor).or_insert_with(|| stream(*seed, actor)).fill(bytes);
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
    let ms = CLOCK[ACTOR.get()].load(Ordering::SeqCst);
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

type Start = unsafe extern "C" fn(*mut c_void) -> *mut c_void;
type Create = unsafe extern "C" fn(*mut c_ulong, *const c_void, Start, *mut c_void) -> c_int;

/// Where a thread begins, and for whom.
struct Child {
    start: Start,
    argument: *mut c_void,
    actor: usize,
}

unsafe extern "C" fn begin(child: *mut c_void) -> *mut c_void {
    // SAFETY: `pthread_create` below made it for this one call
    let child = unsafe { Box::from_raw(child.cast::<Child>()) };
    ACTOR.set(child.actor);
    // SAFETY: as whoever made the thread vouches for
    unsafe { (child.start)(child.argument) }
}

/// The next definition after this one: that of the C library.
const NEXT: *mut c_void = usize::MAX as *mut c_void;
const CREATE: &CStr = c"pthread_create";

/// # Safety
/// As `pthread_create(3)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_create(
    thread: *mut c_ulong,
    attributes: *const c_void,
    start: Start,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: the C library has this function, of this type
    let create =
        unsafe { std::mem::transmute::<*mut c_void, Option<Create>>(dlsym(NEXT, CREATE.as_ptr())) };
    let child = Box::into_raw(Box::new(Child { start, argument, actor: ACTOR.get() }));
    match create {
        // SAFETY: passes on what the caller vouches for; `begin` frees the child
        Some(create) => unsafe { create(thread, attributes, begin, child.cast()) },
        None => std::process::abort(),
    }
}
