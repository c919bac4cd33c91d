//! Puts one config update on top of those there are. Two administrators may do
//! so at once: both updates then count, and writers and revocations of all
//! updates add up, so nothing is lost and nothing need be repeated.

use super::{admin, root};
use crate::format::update::{self, ConfigUpdate};
use crate::id::ObjectHash;
use crate::repository::open::program;
use crate::repository::{Error, ErrorKind, Repository, Result, Updates, now_ms};

/// What is known after an update was put.
pub(super) struct Changed {
    pub number: u64,
    /// Somebody else put an update at the same time.
    pub combined: bool,
    /// All updates, read after the put.
    pub after: Updates,
}

/// Puts an update that is the sum of all there are, as `edit` changes it.
pub(super) fn change(
    repository: &Repository,
    edit: impl FnOnce(&mut ConfigUpdate) -> Result<()>,
) -> Result<Changed> {
    root(repository)?;
    let before = repository.load_updates()?;
    if let Some(feature) = before.merged.forbids_writing() {
        let message = format!("the repository uses the feature {feature:?}: upgrade esker");
        return Err(Error::failed(message));
    }
    let mut next = before.merged;
    next.number += 1;
    next.previous = before.newest;
    next.written = now_ms();
    next.program = program();
    edit(&mut next)?;
    next.sort();
    let key = update::new_key(next.number);
    let bytes = next.encode(repository.id(), &key, &admin(repository)?);
    let hash = ObjectHash::of(&bytes);
    repository.store().put(&key, bytes.into())?;
    let after = repository.load_updates()?;
    if !after.holds(hash) {
        return Err(Error::new(
            ErrorKind::TryLater,
            format!("{key}: was put, and the store does not list it: look with `esker key list`"),
        ));
    }
    repository.local().remember_updates(&after.seen())?;
    let since = after.all.iter().filter(|other| other.number >= next.number).count();
    Ok(Changed { number: next.number, combined: since > 1, after })
}
