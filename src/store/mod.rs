//! The storage seam: what esker asks of a bucket, a container or a directory, and nothing more.
//!
//! Here live the [`Store`] trait with its contract, its errors, addresses, the syntax of keys, the backends ([`LocalStore`],
//! [`OpendalStore`]), [`Patient`] that tries again, [`Sound`] that looks twice, and three decorators for tests ([`Counting`], [`Faulty`], [`Slow`]). What objects mean, and in which order they are put and deleted, does not live here.
//!
//! # The contract
//!
//! A store holds immutable objects by key. Everything above relies on these sentences (DESIGN.md §6) and on no others:
//!
//! 1. **Put is atomic.** Under a valid key there is the whole object or nothing, at every instant and after any crash.
//! 2. **Put is once.** An object is never replaced. Putting the same bytes again succeeds; other bytes under the same
//!    key are refused with [`ErrorKind::Exists`]. Of several writers that put different bytes at once exactly one wins.
//! 3. **Acknowledged is durable.** When `put` or `delete` has returned `Ok`, a power loss does not undo it. That holds
//!    too when the object was already there, or already gone, because of somebody else.
//! 4. **A listing is complete or an error.** An object put before the listing began and not removed before it ended is
//!    in it, with its length. Objects put or removed meanwhile may be in it or not. What a listing shows is durable.
//! 5. **A failed call promises nothing.** After an error the object may be there or not; only a later answer tells.
//!
//! A backend that cannot keep a sentence says so where it is implemented. No backend retries and none waits: whether
//! trying again makes sense is what [`StoreError::is_temporary`] answers, and [`Patient`] does it.
//!
//! Calls block. They must not be made on a thread that drives an async runtime.

pub mod address;
mod counting;
mod error;
mod faulty;
mod key;
mod local;
mod many;
mod operation;
mod pace;
mod patient;
mod remote;
mod slow;
mod sound;

use std::path::Path;

use bytes::Bytes;

pub use self::counting::{Count, Counting};
pub use self::error::{ErrorKind, Result, StoreError};
pub use self::faulty::{Decision, Faulty};
pub use self::key::MAX_KEY_LENGTH;
pub use self::local::LocalStore;
pub use self::many::{
    Ahead, Reading, ask_all, at_once, both, delete_many, get_each, in_order, read_many,
};
pub use self::operation::{Operation, OperationKind};
pub use self::pace::{Limits, Pace};
pub use self::patient::{Notice, Patient};
pub use self::remote::{AskPassword, OpendalStore, S3Secrets, Secrets, connect};
pub use self::slow::{Clock, RealClock, Slow};
pub use self::sound::Sound;

/// Requests at once that hide the way to a distant store and back.
pub(crate) const REMOTE_CONCURRENCY: usize = 32;

/// Size of the file that is given up so that a full disk can be pruned.
pub const RESERVE_BYTES: u64 = 8 << 20;

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    pub key: String,
    /// in bytes
    pub length: u64,
}

/// A place that holds objects by key; the contract is at the top of this module.
///
/// Keys are 1 to [`MAX_KEY_LENGTH`] bytes of `[a-z0-9._/-]` without empty, `.` or `..` components; `reserve` and all
/// beneath `tmp/` belong to the store itself. No key may be a directory of another (`a` and `a/b`). Other keys are
/// refused with [`ErrorKind::Permanent`] before anything is done.
pub trait Store: Send + Sync {
    /// The store's address for messages and records; it never holds a secret.
    fn url(&self) -> &str;

    /// Puts an object once: fine if exactly these bytes are there already, [`ErrorKind::Exists`] if others are.
    fn put(&self, key: &str, object: Bytes) -> Result<()>;

    /// Reads a whole object; one of more than `max_length` bytes is [`ErrorKind::TooLarge`] and is not held in memory.
    fn get(&self, key: &str, max_length: u64) -> Result<Bytes>;

    /// Reads exactly `length` bytes from `offset`; [`ErrorKind::Truncated`] if the object ends before that.
    ///
    /// The caller bounds `length`: that much memory is allocated once the object is known to be long enough.
    fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Bytes>;

    /// Whether an object is there; [`ErrorKind::Truncated`] if it is shorter than any that esker writes.
    fn exists(&self, key: &str) -> Result<bool> {
        // not one byte: there are servers that take `bytes=0-0` for the whole object
        match self.get_range(key, 0, 2) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Lists the whole subtree under a prefix that ends in `/` (or everything, for the empty prefix), sorted by key.
    ///
    /// Names that are no valid keys are left out. A prefix under which nothing was ever put is an empty listing.
    fn list(&self, prefix: &str) -> Result<Vec<Listed>>;

    /// Deletes an object; that it is absent is fine.
    fn delete(&self, key: &str) -> Result<()>;

    /// Where the repository lies in this machine's file system, if it does.
    fn local_path(&self) -> Option<&Path> {
        None
    }

    /// Whether a listing takes a request for every directory beneath its prefix, however few objects are in them.
    fn has_directories(&self) -> bool {
        false
    }

    /// Sets `length` bytes aside for the day the disk is full. Stores that cannot fill up do nothing.
    fn create_reserve(&self, _length: u64) -> Result<()> {
        Ok(())
    }

    /// Gives the reserve up; `true` if there was one, that is, if a put refused with [`ErrorKind::Full`] may now work.
    fn release_reserve(&self) -> Result<bool> {
        Ok(false)
    }

    /// Sets [`RESERVE_BYTES`] aside if no reserve is there and there is room; `true` if one is there afterwards.
    fn restore_reserve(&self) -> Result<bool> {
        Ok(false)
    }

    /// The store's own date in ms since 1970, if it tells one.
    fn date(&self) -> Result<Option<u64>> {
        Ok(None)
    }

    /// How many operations at once suit this store: few where the answer is near, many where each one takes its time.
    fn concurrency(&self) -> usize {
        8
    }

    /// How long the server asked to be left alone, if it did and the time is not over.
    fn retry_after(&self) -> Option<std::time::Duration> {
        None
    }

    /// Lets time pass: a store whose listings lag is given the time it needs.
    fn wait(&self, time: std::time::Duration) {
        std::thread::sleep(time);
    }

    /// Removes what interrupted puts of processes that certainly ended have left behind; returns how many files.
    ///
    /// Such remains are never under a valid key, so this is tidiness and needs no order with anything.
    fn clean_temporary(&self) -> Result<u64> {
        Ok(0)
    }
}
