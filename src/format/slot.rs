//! `keys/<slot>`: one role's keys, wrapped by a password, a key file or a
//! public-key recipient.
//!
//! `format-spec/06-slots.md`, rules `[SLOT-1]` to `[SLOT-6]`.

use super::cbor::{Fields, MapBuilder, Value};
use super::object::{self, Contents, Object};
use super::{ChunkKind, FormatError, Kind, Place, Result};
use crate::crypto::{
    self, HybridPrivate, HybridPublic, SecretKey, SigningKey, VerifyKey, keys::slot_wrap,
};
use crate::id::{RepositoryId, SlotId, WriterId};

const LABEL_SECRETS: &str = "esker slot secrets";
const MAX_EPOCHS: usize = 4096;

/// What a key may do; the number is what the format stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Role {
    Full = 1,
    Write = 2,
    Read = 3,
    Maintain = 4,
    Watch = 5,
}

impl Role {
    pub const ALL: [Role; 5] = [Role::Full, Role::Write, Role::Read, Role::Maintain, Role::Watch];

    pub fn from_byte(byte: u8) -> Option<Role> {
        Role::ALL.into_iter().find(|role| *role as u8 == byte)
    }

    pub fn name(self) -> &'static str {
        match self {
            Role::Full => "full",
            Role::Write => "write",
            Role::Read => "read",
            Role::Maintain => "maintain",
            Role::Watch => "watch",
        }
    }

    pub fn may_write(self) -> bool {
        matches!(self, Role::Full | Role::Write)
    }

    pub fn may_read(self) -> bool {
        matches!(self, Role::Full | Role::Read)
    }

    pub fn may_maintain(self) -> bool {
        matches!(self, Role::Full | Role::Maintain)
    }
}

/// How a slot is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Method {
    Password = 1,
    KeyFile = 2,
    Recipient = 3,
}

impl Method {
    fn from_byte(byte: u8) -> Option<Method> {
        [Method::Password, Method::KeyFile, Method::Recipient]
            .into_iter()
            .find(|method| *method as u8 == byte)
    }
}

/// The outer fields, in clear and signed by the admin key, and the sealed secrets.
#[derive(Clone)]
pub struct Slot {
    pub id: SlotId,
    pub method: Method,
    pub role: Role,
    pub label: String,
    pub writer: WriterId,
    /// Rotations seal new epochs to this key; its private half is inside.
    pub recipient: HybridPublic,
    pub created: u64,
    pub created_by: WriterId,
    pub sealed: Vec<u8>,
    /// Ties the slot to the key that wraps it; absent for recipients.
    pub commitment: Option<[u8; 32]>,
    pub kept: Vec<(u64, Value)>,
}

/// One epoch's keys as a slot or an update's grant carries them.
#[derive(Clone)]
pub struct EpochKeys {
    pub epoch: u32,
    pub index: SecretKey,
    /// With roles that may read.
    pub content: Option<HybridPrivate>,
}

/// What opening a slot gives.
#[derive(Clone)]
pub struct Secrets {
    pub role: Role,
    pub repository: RepositoryId,
    pub admin: VerifyKey,
    pub writer: WriterId,
    pub signer: SigningKey,
    pub recipient: HybridPrivate,
    pub domain: String,
    /// With the full role only; the rest follows from it.
    pub root: Option<SecretKey>,
    pub epochs: Vec<EpochKeys>,
    pub chunk_ids: Vec<(ChunkKind, SecretKey)>,
    pub chunker: Option<SecretKey>,
}

pub fn slot_key(id: SlotId) -> String {
    format!("keys/{id}")
}

fn place(repository: RepositoryId, key: &str) -> Place<'_> {
    Place { repository, kind: Kind::Slot, epoch: 0, key }
}

impl Slot {
    /// Wraps `secrets` under a password's or key file's input.
    pub fn wrap(&mut self, input: &SecretKey, secrets: &Secrets) {
        let (wrap, commitment) = slot_wrap(input, &self.id.0);
        let key = slot_key(self.id);
        let place = place(secrets.repository, &key).bytes(LABEL_SECRETS);
        self.sealed = crypto::seal(&wrap, &place, &secrets.encode());
        self.commitment = Some(commitment);
    }

    pub fn wrap_to(&mut self, recipient: &HybridPublic, secrets: &Secrets) {
        let key = slot_key(self.id);
        let place = place(secrets.repository, &key).bytes(LABEL_SECRETS);
        self.sealed = recipient.seal(&place, &secrets.encode());
        self.commitment = None;
    }

    /// `None` when the input does not belong to this slot; an error when it does
    /// and the secrets are not whole.
    pub fn unwrap(&self, input: &SecretKey, repository: RepositoryId) -> Result<Option<Secrets>> {
        let (wrap, commitment) = slot_wrap(input, &self.id.0);
        if self.commitment != Some(commitment) {
            return Ok(None);
        }
        let key = slot_key(self.id);
        let secrets =
            crypto::open(&wrap, &place(repository, &key).bytes(LABEL_SECRETS), &self.sealed)
                .map_err(|_| FormatError::new("SLOT-3", "the sealed keys do not open"))?;
        self.checked(Secrets::parse(&zeroize::Zeroizing::new(secrets))?, repository).map(Some)
    }

    pub fn unwrap_with(&self, key: &HybridPrivate, repository: RepositoryId) -> Option<Secrets> {
        let slot = slot_key(self.id);
        let secrets =
            key.open(&place(repository, &slot).bytes(LABEL_SECRETS), &self.sealed).ok()?;
        self.checked(Secrets::parse(&secrets).ok()?, repository).ok()
    }

    fn checked(&self, secrets: Secrets, repository: RepositoryId) -> Result<Secrets> {
        if secrets.repository != repository {
            return Err(FormatError::new("SLOT-4", "the keys belong to another repository"));
        }
        if secrets.role != self.role || secrets.writer != self.writer {
            return Err(FormatError::new("SLOT-5", "the keys are not what the slot says"));
        }
        if secrets.root.is_some() != (secrets.role == Role::Full) {
            return Err(FormatError::new("SLOT-5", "the keys are not those of the slot's role"));
        }
        Ok(secrets)
    }

    pub fn encode(&self, repository: RepositoryId, admin: &SigningKey) -> Vec<u8> {
        let payload = MapBuilder::default()
            .put(1, &self.id.0[..])
            .put(2, self.method as u64)
            .put(3, self.role as u64)
            .put(4, self.label.as_str())
            .put(5, &self.writer.0[..])
            .put(6, &self.recipient.bytes()[..])
            .put(7, self.created)
            .put(8, &self.created_by.0[..])
            .put(9, &self.sealed[..])
            .put_some(10, self.commitment.as_ref().map(|bytes| &bytes[..]))
            .extend(&self.kept)
            .encode();
        let key = slot_key(self.id);
        let contents = Contents {
            place: place(repository, &key),
            writer: object::ADMIN,
            index_key: None,
            payload: &payload,
            attachment: None,
        };
        object::encode(&contents, admin)
    }

    pub fn parse(bytes: &[u8]) -> Result<(Slot, Object<'_>)> {
        let object = object::parse(bytes, Kind::Slot)?;
        let mut fields = Fields::parse(object.payload, "SLOT-1")?;
        let unknown = |what| FormatError::new("SLOT-2", format!("unknown {what}: upgrade esker"));
        let id = SlotId(fields.fixed(1)?);
        let method = Method::from_byte(fields.byte(2)?).ok_or_else(|| unknown("method"))?;
        let role = Role::from_byte(fields.byte(3)?).ok_or_else(|| unknown("role"))?;
        let slot = Slot {
            id,
            method,
            role,
            label: fields.text(4)?,
            writer: WriterId(fields.fixed(5)?),
            recipient: HybridPublic::from_bytes(&fields.bytes(6)?)
                .map_err(|_| FormatError::new("SLOT-1", "the recipient key is not valid"))?,
            created: fields.uint(7)?,
            created_by: WriterId(fields.fixed(8)?),
            sealed: fields.bytes(9)?,
            commitment: fields.optional_fixed(10)?,
            kept: fields.end()?,
        };
        if slot.commitment.is_some() != (slot.method != Method::Recipient) {
            let what = "a slot must have a commitment unless it is a recipient's";
            return Err(FormatError::new("SLOT-6", what));
        }
        Ok((slot, object))
    }

    pub fn verify(
        &self,
        object: &Object<'_>,
        repository: RepositoryId,
        admin: &VerifyKey,
    ) -> Result<()> {
        object.verify(admin, &place(repository, &slot_key(self.id)))
    }
}

impl EpochKeys {
    pub fn to_value(&self) -> Value {
        MapBuilder::default()
            .put(1, u64::from(self.epoch))
            .put(2, &self.index.bytes()[..])
            .put_some(3, self.content.as_ref().map(|key| &key.seed()[..]))
            .finish()
    }

    pub fn from_fields(mut fields: Fields) -> Result<EpochKeys> {
        let keys = EpochKeys {
            epoch: fields.uint32(1)?,
            index: SecretKey::from_bytes(fields.fixed(2)?),
            content: fields.optional_fixed(3)?.map(HybridPrivate::from_seed),
        };
        fields.end()?;
        Ok(keys)
    }
}

impl Secrets {
    fn encode(&self) -> zeroize::Zeroizing<Vec<u8>> {
        let epochs: Vec<Value> = self.epochs.iter().map(EpochKeys::to_value).collect();
        let mut chunk_ids = MapBuilder::default();
        for (kind, key) in &self.chunk_ids {
            chunk_ids.put(*kind as u64, &key.bytes()[..]);
        }
        MapBuilder::default()
            .put(1, self.role as u64)
            .put(2, &self.repository.0[..])
            .put(3, &self.admin.0[..])
            .put(4, &self.writer.0[..])
            .put(5, &self.signer.seed()[..])
            .put(6, &self.recipient.seed()[..])
            .put(7, self.domain.as_str())
            .put_some(8, self.root.as_ref().map(|key| &key.bytes()[..]))
            .put(9, epochs)
            .put(10, chunk_ids.finish())
            .put_some(11, self.chunker.as_ref().map(|key| &key.bytes()[..]))
            .finish()
            .encode_secret()
    }

    fn parse(bytes: &[u8]) -> Result<Secrets> {
        let mut fields = Fields::parse(bytes, "SLOT-1")?;
        let wrong = |what: &str| FormatError::new("SLOT-1", format!("{what} in the sealed keys"));
        let role = Role::from_byte(fields.byte(1)?).ok_or_else(|| wrong("an unknown role"))?;
        let mut secrets = Secrets {
            role,
            repository: RepositoryId(fields.fixed(2)?),
            admin: VerifyKey(fields.fixed(3)?),
            writer: WriterId(fields.fixed(4)?),
            signer: SigningKey::from_seed(&fields.fixed(5)?),
            recipient: HybridPrivate::from_seed(fields.fixed(6)?),
            domain: fields.text(7)?,
            root: fields.optional_fixed(8)?.map(SecretKey::from_bytes),
            epochs: Vec::new(),
            chunk_ids: Vec::new(),
            chunker: None,
        };
        for epoch in fields.maps(9, MAX_EPOCHS)? {
            secrets.epochs.push(EpochKeys::from_fields(epoch)?);
        }
        let from_one = secrets.epochs.first().is_none_or(|first| first.epoch != 0);
        if !from_one || !secrets.epochs.is_sorted_by(|a, b| a.epoch < b.epoch) {
            return Err(wrong("epochs that are 0, repeat or are not sorted"));
        }
        let mut ids = fields.map(10)?.ok_or_else(|| wrong("no chunk id keys"))?;
        for kind in [ChunkKind::Data, ChunkKind::List, ChunkKind::Tree, ChunkKind::Refs] {
            if let Some(key) = ids.optional_fixed(kind as u64)? {
                secrets.chunk_ids.push((kind, SecretKey::from_bytes(key)));
            }
        }
        ids.end()?;
        secrets.chunker = fields.optional_fixed(11)?.map(SecretKey::from_bytes);
        fields.end()?;
        Ok(secrets)
    }
}
