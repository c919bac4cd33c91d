//! Records whose time is over: the only objects that go for being old.
//!
//! `format-spec/12-notes.md`, records.

use std::collections::BTreeMap;

use crate::format::notes::{RECORDS, record_of_key};
use crate::repository::records::Recorded;
use crate::repository::{Repository, Result};

/// So many of a kind are kept, however old.
pub const KEEP_NEWEST: usize = 100;
/// All that ended in so long a time are kept, in ms.
pub const KEEP_MS: u64 = 400 * 24 * 3600 * 1000;

/// Keys of the records that may go. Of a kind with few none is even read; one that
/// cannot be read stays, for nobody can tell how old it is.
pub(super) fn expired(repository: &Repository, now: u64) -> Result<Vec<String>> {
    let mut kinds: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for key in repository.listed_keys(RECORDS)? {
        if let Some((kind, _)) = record_of_key(&key) {
            kinds.entry(kind).or_default().push(key);
        }
    }
    let mut expired = Vec::new();
    for keys in kinds.values().filter(|keys| keys.len() > KEEP_NEWEST) {
        let listing = repository.read_records(keys)?;
        let surplus = listing.records.len().saturating_sub(KEEP_NEWEST);
        let old = listing.records.iter().take(surplus).filter(|recorded| is_old(recorded, now));
        expired.extend(old.map(|recorded| recorded.key.clone()));
    }
    Ok(expired)
}

fn is_old(recorded: &Recorded, now: u64) -> bool {
    recorded.record.ended.saturating_add(KEEP_MS) <= now
}
