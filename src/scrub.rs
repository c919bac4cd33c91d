//! Scrub: verifies every object of a store without any key. Packs and index
//! segments are named by their hash, all other objects end in the hash of what
//! precedes it. What the bytes mean, and whether anything is missing, is not
//! seen here: that is `check`.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::format::pack::{self, MAX_PACK, pack_of_key};
use crate::format::segment::{self, MAX_SEGMENT, segment_of_key};
use crate::format::{config, manifest, notes, object, update};
use crate::progress::{Event, Progress};
use crate::repository::{Error, Result};
use crate::store::{ErrorKind as StoreKind, Listed, Reading, Store, StoreError, read_many};

/// Prefixes of objects that end in their own hash.
const SELF_HASHED: [&str; 8] = [
    update::PREFIX,
    "keys/",
    notes::SESSIONS,
    manifest::PREFIX,
    notes::CONFIRMED,
    notes::MARKS,
    notes::SWEEPS,
    notes::RECORDS,
];

#[derive(Clone, Debug)]
pub struct ScrubOptions {
    /// Only objects whose key begins with one of these; everything when empty.
    pub prefixes: Vec<String>,
    /// Objects read at once.
    pub threads: usize,
    /// Bytes of objects in memory at once.
    pub budget_bytes: u64,
}

impl Default for ScrubOptions {
    fn default() -> Self {
        ScrubOptions { prefixes: Vec::new(), threads: 4, budget_bytes: 256 << 20 }
    }
}

/// An object that is not what its hash says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mismatch {
    pub key: String,
    pub what: String,
}

#[derive(Clone, Debug, Default)]
pub struct ScrubReport {
    pub objects: u64,
    pub bytes: u64,
    /// Sorted by key.
    pub mismatches: Vec<Mismatch>,
    /// Keys that nothing in this format is called by; not read.
    pub strangers: Vec<String>,
    /// Removed by somebody since the listing.
    pub gone: u64,
}

impl ScrubReport {
    pub fn is_ok(&self) -> bool {
        self.mismatches.is_empty()
    }
}

/// How an object can be verified without a key.
enum Proof {
    /// Its name is the hash of its bytes.
    Name([u8; 32]),
    /// It ends in the hash of what precedes.
    End,
}

fn proof(key: &str) -> Option<Proof> {
    if key.starts_with(pack::PREFIX) {
        return pack_of_key(key).map(|id| Proof::Name(id.0));
    }
    if key.starts_with(segment::PREFIX) {
        return segment_of_key(key).map(|id| Proof::Name(id.0));
    }
    let known = key == config::CONFIG_KEY || SELF_HASHED.iter().any(|p| key.starts_with(p));
    known.then_some(Proof::End)
}

fn max_length(key: &str) -> u64 {
    match key.starts_with(pack::PREFIX) {
        true => MAX_PACK,
        false => MAX_SEGMENT.max(object::MAX_OBJECT) as u64,
    }
}

fn wrong(key: &str, bytes: &[u8]) -> Option<&'static str> {
    match proof(key)? {
        Proof::Name(name) if blake3::hash(bytes).as_bytes() == &name => None,
        Proof::Name(_) => Some("its bytes do not match its name"),
        Proof::End if object::hash_is_right(bytes) => None,
        Proof::End => Some("it does not end in the hash of its bytes"),
    }
}

struct Scrub<'a> {
    progress: &'a dyn Progress,
    bytes: AtomicU64,
    gone: AtomicU64,
    mismatches: Mutex<Vec<Mismatch>>,
    error: Mutex<Option<Error>>,
}

impl Scrub<'_> {
    fn mismatch(&self, key: &str, what: &str) {
        let found = Mismatch { key: key.to_owned(), what: what.to_owned() };
        self.mismatches.lock().unwrap_or_else(PoisonError::into_inner).push(found);
    }

    fn stop(&self, error: Error) -> ControlFlow<()> {
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        ControlFlow::Break(())
    }

    fn object(
        &self,
        listed: &Listed,
        read: std::result::Result<bytes::Bytes, StoreError>,
    ) -> ControlFlow<()> {
        if self.progress.interrupted() {
            return self.stop(Error::interrupted());
        }
        match read {
            Ok(bytes) => {
                if let Some(what) = wrong(&listed.key, &bytes) {
                    self.mismatch(&listed.key, what);
                }
                self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                self.progress.event(Event::Done { files: 1, bytes: bytes.len() as u64 });
            }
            Err(error) => match error.kind() {
                StoreKind::NotFound => {
                    self.gone.fetch_add(1, Ordering::Relaxed);
                }
                StoreKind::Temporary | StoreKind::Permission | StoreKind::Absent => {
                    return self.stop(error.into());
                }
                StoreKind::TooLarge => {
                    self.mismatch(&listed.key, "it is longer than any such object may be");
                }
                // a sector that cannot be read is damage like any other
                _ => self.mismatch(&listed.key, &format!("it cannot be read: {error}")),
            },
        }
        ControlFlow::Continue(())
    }
}

/// Reads every object and compares hashes. Memory: `budget_bytes`, or one pack.
pub fn scrub(
    store: &dyn Store,
    options: &ScrubOptions,
    progress: &dyn Progress,
) -> Result<ScrubReport> {
    progress.event(Event::Stage("listing objects"));
    let wanted = |listed: &Listed| {
        options.prefixes.is_empty() || options.prefixes.iter().any(|p| listed.key.starts_with(p))
    };
    let listed: Vec<Listed> = store.list("")?.into_iter().filter(wanted).collect();
    let (mut objects, strangers): (Vec<_>, Vec<_>) =
        listed.into_iter().partition(|listed| proof(&listed.key).is_some());
    let bytes = objects.iter().map(|listed| listed.length).sum();
    progress.event(Event::Expect { files: objects.len() as u64, bytes });
    progress.event(Event::Stage("comparing hashes"));
    let scrub = Scrub {
        progress,
        bytes: AtomicU64::new(0),
        gone: AtomicU64::new(0),
        mismatches: Mutex::default(),
        error: Mutex::default(),
    };
    // the two limits differ, so what has the lower one is read by itself
    objects.sort_by_key(|listed| max_length(&listed.key));
    let small = objects.partition_point(|listed| max_length(&listed.key) < MAX_PACK);
    let (small, packs) = objects.split_at(small);
    for (objects, max_length) in [(small, MAX_SEGMENT as u64), (packs, MAX_PACK)] {
        let (threads, budget_bytes) = (options.threads, options.budget_bytes);
        let reading = Reading { threads, budget_bytes, max_length };
        read_many(store, objects, reading, &|listed, read| scrub.object(listed, read));
    }
    if let Some(error) = scrub.error.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let mut mismatches = scrub.mismatches.into_inner().unwrap_or_else(PoisonError::into_inner);
    mismatches.sort_unstable();
    Ok(ScrubReport {
        objects: objects.len() as u64,
        bytes: scrub.bytes.into_inner(),
        mismatches,
        strangers: strangers.into_iter().map(|listed| listed.key).collect(),
        gone: scrub.gone.into_inner(),
    })
}
