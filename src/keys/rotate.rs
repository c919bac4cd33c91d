//! `key rotate`: a new epoch, sealed to the slots that stay.
//!
//! The keys of an epoch follow from the root and its number, so that two
//! administrators who rotate at once make the same keys. Full slots hold the
//! root and need no grant.

use std::collections::HashSet;

use super::change::{Changed, change};
use super::{epoch_keys, in_force, root, slots};
use crate::crypto::{SecretKey, keys};
use crate::format::slot::{Role, Slot};
use crate::format::update::{ConfigUpdate, seal_grant};
use crate::id::SlotId;
use crate::repository::{Error, ErrorKind, Repository, Result, Trust, Updates};

#[derive(Clone, Debug)]
pub struct RotateReport {
    /// Number of the last update this put.
    pub update: u64,
    pub epoch: u32,
    /// Slots other than full ones that were given the new keys.
    pub granted: usize,
    /// Somebody else changed keys at the same time; both changes count.
    pub combined: bool,
}

/// Makes a new epoch: new objects are sealed with keys that nobody has who is
/// no longer listed. Needs a full key. Old objects stay as they are.
pub fn rotate(repository: &Repository) -> Result<RotateReport> {
    rotate_with(repository, |_| Ok(()))
}

/// Rotates, and in the same update changes what `edit` changes: whom it revokes
/// is given nothing.
pub(super) fn rotate_with(
    repository: &Repository,
    edit: impl FnOnce(&mut ConfigUpdate) -> Result<()>,
) -> Result<RotateReport> {
    root(repository)?;
    let mut changed = change(repository, |update| {
        edit(update)?;
        new_epoch(repository, update)
    })?;
    let mut combined = changed.combined;
    // Whoever adds or removes a key at the same time puts, then looks; so does
    // this. At least one of the two sees the other.
    for _ in 0..8 {
        let holders = holders(repository, &Trust::new(changed.after.merged.clone()))?;
        let granted = granted(&changed.after);
        let someone_gone = granted.iter().any(|slot| !holders.iter().any(|h| h.id == *slot));
        let left_out: Vec<_> = holders.iter().filter(|h| !granted.contains(&h.id)).collect();
        if someone_gone {
            // another rotation gave this epoch to one whom we shut out
            changed = change(repository, |update| new_epoch(repository, update))?;
        } else if !left_out.is_empty() {
            changed = change(repository, |update| grant_all(repository, update, &left_out))?;
        } else {
            return Ok(RotateReport {
                update: changed.number,
                epoch: changed.after.merged.epoch,
                granted: granted.len(),
                combined,
            });
        }
        combined = true;
    }
    Err(Error::new(
        ErrorKind::TryLater,
        "somebody else changes keys all the time: see `esker key list` and rotate again",
    ))
}

fn new_epoch(repository: &Repository, update: &mut ConfigUpdate) -> Result<()> {
    update.epoch += 1;
    update.content = keys::content(root(repository)?, update.epoch).public();
    let holders = holders(repository, &Trust::new(update.clone()))?;
    grant_all(repository, update, &holders.iter().collect::<Vec<_>>())
}

fn grant_all(repository: &Repository, update: &mut ConfigUpdate, slots: &[&Slot]) -> Result<()> {
    let root = root(repository)?;
    update.grants = slots.iter().map(|slot| grant(repository, root, update.epoch, slot)).collect();
    Ok(())
}

fn grant(repository: &Repository, root: &SecretKey, epoch: u32, slot: &Slot) -> (SlotId, Vec<u8>) {
    let keys = epoch_keys(root, epoch, slot.role);
    (slot.id, seal_grant(repository.id(), slot.id, &slot.recipient, &keys))
}

/// Slots that need a grant: the admin key signed them, and their writer is in
/// force. A slot that the store keeps after its removal is not among them.
fn holders(repository: &Repository, trust: &Trust) -> Result<Vec<Slot>> {
    let (slots, _) = slots(repository)?;
    Ok(slots.into_iter().filter(|slot| slot.role != Role::Full && in_force(trust, slot)).collect())
}

/// Whom the newest epoch was given to.
fn granted(updates: &Updates) -> HashSet<SlotId> {
    updates
        .all
        .iter()
        .filter(|update| update.epoch == updates.merged.epoch)
        .flat_map(|update| update.grants.iter().map(|(slot, _)| *slot))
        .collect()
}

impl RotateReport {
    pub(super) fn without_new_epoch(changed: &Changed) -> RotateReport {
        RotateReport {
            update: changed.number,
            epoch: changed.after.merged.epoch,
            granted: 0,
            combined: changed.combined,
        }
    }
}
