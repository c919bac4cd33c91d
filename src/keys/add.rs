//! `key add`: a new slot.
//!
//! The update that lists the writer is put first, then the slot: a crash in
//! between leaves a listed writer whose key nobody has, which is harmless (and
//! shown by `key list`). The other way round it would leave a slot that opens
//! and whose snapshots nobody believes. A rotation that runs meanwhile either
//! finds the slot when it looks again, or is found by the look at the end here.

use super::change::change;
use super::{epoch_keys, root};
use crate::crypto::{HybridPrivate, SecretKey, SigningKey};
use crate::format::ChunkKind;
use crate::format::slot::{EpochKeys, Role, Secrets, slot_key};
use crate::format::update::Writer;
use crate::id::{SlotId, WriterId};
use crate::repository::open::make_slot;
use crate::repository::{Error, ErrorKind, NewSlot, Repository, Result, Updates, now_ms};

pub struct AddOptions {
    pub role: Role,
    pub label: String,
    pub slot: NewSlot,
    /// Whose chunks the new writer builds on. Without it a full key has
    /// `default`, and a write key one of its own; other roles have none.
    pub domain: Option<String>,
    /// Another password for the full key that does this: the slot has the same
    /// writer, so that retention goes on as before.
    pub same_writer: bool,
}

#[derive(Clone, Debug)]
pub struct AddReport {
    pub slot: SlotId,
    pub writer: WriterId,
    pub role: Role,
    pub domain: String,
    /// Number of the update that lists the writer; none for the same writer.
    pub update: Option<u64>,
    /// Somebody else changed keys at the same time; both changes count.
    pub combined: bool,
}

/// Adds a key. Needs a full key.
pub fn add(repository: &Repository, options: &AddOptions) -> Result<AddReport> {
    root(repository)?;
    check(options)?;
    if options.same_writer {
        return add_for_same_writer(repository, options);
    }
    let mut secrets = secrets(repository, options)?;
    let keyring = repository.keyring();
    let writer = Writer {
        id: secrets.writer,
        verify: secrets.signer.verify_key(),
        role: options.role,
        label: options.label.clone(),
        domain: secrets.domain.clone(),
        created: now_ms(),
        created_by: keyring.writer,
    };
    let changed = change(repository, |update| {
        let at = update.writers.partition_point(|listed| listed.id < writer.id);
        update.writers.insert(at, writer);
        Ok(())
    })?;
    let slot = put_slot(repository, options, &mut secrets, changed.after)?;
    Ok(AddReport {
        slot,
        writer: secrets.writer,
        role: options.role,
        domain: secrets.domain,
        update: Some(changed.number),
        combined: changed.combined,
    })
}

fn check(options: &AddOptions) -> Result<()> {
    let wrong = |message: &str| Err(Error::new(ErrorKind::Usage, message));
    if options.same_writer && options.role != Role::Full {
        return wrong("only a full key can have another password: give other roles a new key");
    }
    match &options.domain {
        Some(_) if options.same_writer => {
            wrong("another password changes no dedup domain: leave --domain out")
        }
        Some(_) if !options.role.may_write() => {
            wrong("only full and write keys have a dedup domain: leave --domain out")
        }
        Some(domain) if domain.is_empty() => wrong("a dedup domain needs a name"),
        _ => Ok(()),
    }
}

fn add_for_same_writer(repository: &Repository, options: &AddOptions) -> Result<AddReport> {
    let keyring = repository.keyring();
    let mut secrets = keyring.secrets().clone();
    secrets.recipient = HybridPrivate::random();
    let slot = put_one_slot(repository, options, &secrets)?;
    Ok(AddReport {
        slot,
        writer: secrets.writer,
        role: Role::Full,
        domain: secrets.domain,
        update: None,
        combined: false,
    })
}

/// What the new role holds, but for its epochs.
fn secrets(repository: &Repository, options: &AddOptions) -> Result<Secrets> {
    let keyring = repository.keyring();
    let writer = WriterId::random();
    let domain = match (&options.domain, options.role) {
        (Some(domain), _) => domain.clone(),
        (None, Role::Full) => "default".to_owned(),
        (None, Role::Write) => format!("writer-{writer}"),
        (None, _) => String::new(),
    };
    let id_kinds: &[ChunkKind] = match options.role {
        Role::Full => &[],
        Role::Write | Role::Read => {
            &[ChunkKind::Data, ChunkKind::List, ChunkKind::Tree, ChunkKind::Refs]
        }
        Role::Maintain | Role::Watch => &[ChunkKind::Refs],
    };
    let chunk_ids = id_kinds
        .iter()
        .map(|kind| Ok((*kind, keyring.id_key(*kind)?.clone())))
        .collect::<Result<Vec<(ChunkKind, SecretKey)>>>()?;
    Ok(Secrets {
        role: options.role,
        repository: repository.id(),
        admin: keyring.admin,
        writer,
        signer: SigningKey::random(),
        recipient: HybridPrivate::random(),
        domain,
        root: (options.role == Role::Full).then(|| root(repository).cloned()).transpose()?,
        epochs: Vec::new(),
        chunk_ids,
        chunker: options.role.may_write().then(|| keyring.chunker_key().cloned()).transpose()?,
    })
}

/// Puts the slot with all epochs so far; once more if one was made meanwhile.
fn put_slot(
    repository: &Repository,
    options: &AddOptions,
    secrets: &mut Secrets,
    mut updates: Updates,
) -> Result<SlotId> {
    let root = root(repository)?;
    for _ in 0..8 {
        let epoch = updates.merged.epoch;
        if options.role != Role::Full {
            secrets.epochs = epochs_so_far(root, epoch, options.role);
        }
        let slot = put_one_slot(repository, options, secrets)?;
        updates = repository.load_updates()?;
        if options.role == Role::Full || updates.merged.epoch == epoch {
            return Ok(slot);
        }
        repository.store().delete(&slot_key(slot))?;
    }
    Err(Error::new(ErrorKind::TryLater, "keys are being rotated all the time: try again later"))
}

fn epochs_so_far(root: &SecretKey, epoch: u32, role: Role) -> Vec<EpochKeys> {
    (1..=epoch).map(|epoch| epoch_keys(root, epoch, role)).collect()
}

fn put_one_slot(
    repository: &Repository,
    options: &AddOptions,
    secrets: &Secrets,
) -> Result<SlotId> {
    let made_by = repository.keyring().writer;
    let slot = make_slot(&options.slot, &options.label, secrets, made_by, &repository.config)?;
    let admin = super::admin(repository)?;
    repository.store().put(&slot_key(slot.id), slot.encode(repository.id(), &admin).into())?;
    Ok(slot.id)
}
