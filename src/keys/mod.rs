//! Key operations: who holds which key, and what happens when somebody leaves.
//!
//! | module | |
//! |---|---|
//! | `add` | a new slot, for a new writer or with a new password |
//! | `list` | every key: role, label, made by whom, last used where |
//! | `remove` | revoke a writer, delete its slot, rotate |
//! | `rotate` | a new epoch for those who stay |
//! | `carry_on` | what a leaving maintainer did to the index, taken over |
//! | `export` | a recovery sheet |
//! | `file` | texts of key files, identities and recipients |
//! | `change` | puts one config update, and looks who else did |
//!
//! After `add` of a new writer, `remove` and `rotate` an open [`Repository`]
//! still has the keys and the trust it was opened with: open it again. Other
//! clients learn of the change when they open, and a backup that is running
//! learns of a revocation when it commits.
//!
//! [`Repository`]: crate::repository::Repository
//!
//! `format-spec/06-slots.md`

pub mod add;
mod carry_on;
mod change;
pub mod export;
pub mod file;
pub mod list;
pub mod remove;
pub mod rotate;

pub use add::{AddOptions, AddReport, add};
pub use export::{RecoverySheet, SheetKey, export};
pub use list::{KeyInfo, find, list};
pub use remove::{RemoveOptions, RemoveReport, remove};
pub use rotate::{RotateReport, rotate};

use crate::crypto::{SecretKey, SigningKey, keys};
use crate::format::FormatError;
use crate::format::object::MAX_OBJECT;
use crate::format::slot::{EpochKeys, Role, Slot, slot_key};
use crate::repository::sync::Troubles;
use crate::repository::{Error, Repository, Result, Trust};
use crate::store::ErrorKind as StoreKind;

/// The root, which only a full key has.
fn root(repository: &Repository) -> Result<&SecretKey> {
    repository.keyring().require_full()?;
    repository
        .keyring()
        .secrets()
        .root
        .as_ref()
        .ok_or_else(|| Error::damage("this full key's slot holds no root"))
}

fn admin(repository: &Repository) -> Result<SigningKey> {
    Ok(keys::admin(root(repository)?))
}

/// One epoch's keys as `role` may have them.
fn epoch_keys(root: &SecretKey, epoch: u32, role: Role) -> EpochKeys {
    let content = role.may_read().then(|| keys::content(root, epoch));
    EpochKeys { epoch, index: keys::index(root, epoch), content }
}

/// All slots that the admin key signed; the others are told of.
fn slots(repository: &Repository) -> Result<(Vec<Slot>, Troubles)> {
    let (mut slots, mut troubles) = (Vec::new(), Vec::new());
    for listed in repository.store().list("keys/")? {
        let bytes = match repository.store().get(&listed.key, MAX_OBJECT as u64) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == StoreKind::NotFound => continue,
            Err(error) => return Err(error.into()),
        };
        match believed_slot(repository, &listed.key, &bytes) {
            Ok(slot) => slots.push(slot),
            Err(error) => troubles.push(Error::in_object(&listed.key, error)),
        }
    }
    Ok((slots, troubles))
}

fn believed_slot(
    repository: &Repository,
    key: &str,
    bytes: &[u8],
) -> std::result::Result<Slot, FormatError> {
    let (slot, object) = Slot::parse(bytes)?;
    slot.verify(&object, repository.id(), &repository.keyring().admin)?;
    if slot_key(slot.id) != key {
        return Err(FormatError::new("SLOT-4", "lies under another name"));
    }
    Ok(slot)
}

fn in_force(trust: &Trust, slot: &Slot) -> bool {
    trust.update().writer_in_force(slot.writer).is_some()
}
