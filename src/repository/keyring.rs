//! The keys an opened slot gives, by what they are used for, and the judgement
//! of other people's signatures.

use std::collections::{BTreeMap, HashMap};

use super::error::{Error, Result};
use super::updates::Updates;
use crate::crypto::{HybridPrivate, HybridPublic, SecretKey, SigningKey, VerifyKey, keys};
use crate::format::slot::{EpochKeys, Role, Secrets};
use crate::format::update::{ConfigUpdate, open_grant};
use crate::format::{ChunkKind, FormatError};
use crate::id::{ChunkId, ObjectHash, RepositoryId, SlotId, SnapshotId, WriterId, hex};

pub struct Keyring {
    pub repository: RepositoryId,
    pub role: Role,
    pub slot: SlotId,
    pub writer: WriterId,
    pub signer: SigningKey,
    pub admin: VerifyKey,
    pub domain: String,
    /// Newest epoch; new objects are sealed under it.
    pub epoch: u32,
    pub content_public: HybridPublic,
    secrets: Secrets,
    epochs: BTreeMap<u32, EpochKeys>,
    chunk_ids: HashMap<ChunkKind, SecretKey>,
}

impl Keyring {
    /// New objects are sealed under the newest epoch that any update made.
    pub fn new(slot: SlotId, secrets: Secrets, updates: &Updates) -> Result<Self> {
        let newest = &updates.merged;
        let mut epochs = BTreeMap::new();
        if let Some(root) = &secrets.root {
            for epoch in 1..=newest.epoch {
                let index = keys::index(root, epoch);
                let content = Some(keys::content(root, epoch));
                epochs.insert(epoch, EpochKeys { epoch, index, content });
            }
        } else {
            epochs.extend(secrets.epochs.iter().map(|keys| (keys.epoch, keys.clone())));
            for update in &updates.all {
                for (_, sealed) in update.grants.iter().filter(|(to, _)| *to == slot) {
                    let keys = open_grant(
                        secrets.repository,
                        slot,
                        &secrets.recipient,
                        update.epoch,
                        sealed,
                    )
                    .map_err(|error| Error::in_object("config-updates", error))?;
                    epochs.insert(keys.epoch, keys);
                }
            }
        }
        let mut chunk_ids: HashMap<_, _> = secrets.chunk_ids.iter().cloned().collect();
        if let Some(root) = &secrets.root {
            chunk_ids.insert(ChunkKind::Data, keys::id_data(root));
            chunk_ids.insert(ChunkKind::List, keys::id_list(root));
            chunk_ids.insert(ChunkKind::Tree, keys::id_tree(root));
            chunk_ids.insert(ChunkKind::Refs, keys::id_refs(root));
        }
        if !epochs.contains_key(&newest.epoch) {
            return Err(Error::no_right(
                "this key was left out when the keys were rotated: ask for a new one",
            ));
        }
        Ok(Keyring {
            repository: secrets.repository,
            role: secrets.role,
            slot,
            writer: secrets.writer,
            signer: secrets.signer.clone(),
            admin: secrets.admin,
            domain: secrets.domain.clone(),
            epoch: newest.epoch,
            content_public: newest.content.clone(),
            secrets,
            epochs,
            chunk_ids,
        })
    }

    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    pub fn epoch_keys(&self) -> impl Iterator<Item = &EpochKeys> {
        self.epochs.values()
    }

    pub fn index_key(&self, epoch: u32) -> std::result::Result<&SecretKey, FormatError> {
        let keys = self.epochs.get(&epoch);
        keys.map(|keys| &keys.index).ok_or_else(|| {
            FormatError::new(
                "OBJ-8",
                format!("is sealed under epoch {epoch}, which this key lacks"),
            )
        })
    }

    pub fn current_index_key(&self) -> &SecretKey {
        &self.epochs.get(&self.epoch).expect("checked when the keyring was made").index
    }

    pub fn content_private(&self, epoch: u32) -> Result<&HybridPrivate> {
        self.epochs.get(&epoch).and_then(|keys| keys.content.as_ref()).ok_or_else(|| {
            let role = self.role.name();
            Error::no_right(format!(
                "a {role} key cannot open data or file names: use a full or read key"
            ))
        })
    }

    pub fn may_read_content(&self) -> bool {
        self.epochs.values().any(|keys| keys.content.is_some())
    }

    pub fn id_key(&self, kind: ChunkKind) -> Result<&SecretKey> {
        self.chunk_ids.get(&kind).ok_or_else(|| {
            let role = self.role.name();
            Error::no_right(format!("a {role} key has no key for the ids of such chunks"))
        })
    }

    pub fn chunk_id(&self, kind: ChunkKind, bytes: &[u8]) -> Result<ChunkId> {
        let key = self.id_key(kind)?;
        Ok(ChunkId(*blake3::keyed_hash(key.bytes(), bytes).as_bytes()))
    }

    /// The label of a source: equal for equal paths, and telling nothing to those
    /// who may not read names.
    pub fn source_label(&self, path: &[u8]) -> Result<String> {
        let key = keys::source_label(self.id_key(ChunkKind::Data)?);
        Ok(hex(&blake3::keyed_hash(key.bytes(), path).as_bytes()[..8]))
    }

    pub fn chunker_key(&self) -> Result<&SecretKey> {
        self.secrets.chunker.as_ref().ok_or_else(|| {
            let role = self.role.name();
            Error::no_right(format!("a {role} key cannot back up: use a full or write key"))
        })
    }

    pub fn require_write(&self) -> Result<()> {
        self.require(self.role.may_write(), "back up: use a full or write key")
    }

    pub fn require_read(&self) -> Result<()> {
        let allowed = self.role.may_read();
        self.require(allowed, "open data or file names: use a full or read key")
    }

    pub fn require_full(&self) -> Result<()> {
        self.require(self.role == Role::Full, "change keys or settings: use a full key")
    }

    pub fn require_maintain(&self) -> Result<()> {
        self.require(self.role.may_maintain(), "forget or prune: use a full or maintain key")
    }

    fn require(&self, allowed: bool, what: &str) -> Result<()> {
        if allowed {
            return Ok(());
        }
        Err(Error::no_right(format!("a {} key cannot {what}", self.role.name())))
    }
}

/// What a signature by some writer is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    InForce(Role),
    /// Reads what it wrote; believes nothing new.
    Revoked(Role),
    Unknown,
}

impl Standing {
    pub fn may_maintain(self) -> bool {
        matches!(self, Standing::InForce(role) if role.may_maintain())
    }

    pub fn is_revoked_maintainer(self) -> bool {
        matches!(self, Standing::Revoked(role) if role.may_maintain())
    }

    pub fn may_write(self) -> bool {
        matches!(self, Standing::InForce(role) if role.may_write())
    }
}

/// The updates, as judge of objects.
pub struct Trust {
    update: ConfigUpdate,
}

impl Trust {
    pub fn new(update: ConfigUpdate) -> Self {
        Trust { update }
    }

    pub fn update(&self) -> &ConfigUpdate {
        &self.update
    }

    pub fn standing(&self, writer: WriterId) -> Standing {
        match self.update.writer(writer) {
            None => Standing::Unknown,
            Some(listed) if self.update.revocation(writer).is_some() => {
                Standing::Revoked(listed.role)
            }
            Some(listed) => Standing::InForce(listed.role),
        }
    }

    pub fn verify_key(&self, writer: WriterId) -> Option<&VerifyKey> {
        self.update.writer(writer).map(|writer| &writer.verify)
    }

    pub fn label(&self, writer: WriterId) -> &str {
        self.update.writer(writer).map_or("unknown", |writer| &writer.label)
    }

    pub fn domain(&self, writer: WriterId) -> Option<&str> {
        self.update.writer_in_force(writer).map(|writer| writer.domain.as_str())
    }

    /// Whether a revoked writer's snapshot was listed as standing.
    pub fn stands(&self, writer: WriterId, id: SnapshotId, hash: ObjectHash) -> bool {
        self.update
            .revocation(writer)
            .is_some_and(|revocation| revocation.standing.contains(&(id, hash)))
    }
}
