//! `config-updates/<n>-<random>`: the numbered, signed list of what changes in
//! a repository: keys by epoch, writers, revocations, features, chunker.
//!
//! `format-spec/05-config.md`, rules `[UPD-1]` to `[UPD-7]`.

use super::cbor::{self, Fields, MapBuilder, Value};
use super::object::{self, Contents, Object};
use super::slot::{EpochKeys, Role};
use super::{FormatError, Kind, Place, Result};
use crate::chunker::{ChunkerParams, FASTCDC_GEAR};
use crate::crypto::{HybridPrivate, HybridPublic, SigningKey, VerifyKey, random};
use crate::id::{ObjectHash, RepositoryId, SlotId, SnapshotId, WriterId, hex};

pub const PREFIX: &str = "config-updates/";
const LABEL_GRANT: &str = "esker grant";
const MAX_WRITERS: usize = 65_536;
const MAX_STANDING: usize = 1 << 20;
const MAX_FEATURES: usize = 256;
/// Features of each class this program knows.
pub const KNOWN_FEATURES: [&[&str]; 3] = [&[], &[], &[]];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writer {
    pub id: WriterId,
    pub verify: VerifyKey,
    pub role: Role,
    pub label: String,
    pub domain: String,
    pub created: u64,
    pub created_by: WriterId,
}

/// A writer that is no longer believed, but for the snapshots that stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    pub writer: WriterId,
    pub at: u64,
    /// Snapshots that stay good, with the hash of their manifest objects.
    pub standing: Vec<(SnapshotId, ObjectHash)>,
}

/// Names of features by what an older program may still do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Who does not know one of these must not open the repository.
    pub incompatible: Vec<String>,
    /// Who does not know one of these may read, not write.
    pub read_compatible: Vec<String>,
    /// Who does not know one of these may read and write, not maintain.
    pub compatible: Vec<String>,
}

#[derive(Clone)]
pub struct ConfigUpdate {
    pub number: u64,
    /// Hashes of the updates of the number before; one, or all that share it.
    pub previous: Vec<ObjectHash>,
    pub epoch: u32,
    pub content: HybridPublic,
    /// New epoch's keys sealed to the slots that stay; only in the update that
    /// made the epoch.
    pub grants: Vec<(SlotId, Vec<u8>)>,
    pub writers: Vec<Writer>,
    pub revoked: Vec<Revocation>,
    pub features: Features,
    pub chunker: ChunkerParams,
    /// Seconds a listing may lag behind a put on this store, if any.
    pub listing_lag: Option<u64>,
    pub written: u64,
    pub program: String,
    pub kept: Vec<(u64, Value)>,
}

/// A fresh key for update `number`.
pub fn new_key(number: u64) -> String {
    format!("{PREFIX}{number:08}-{}", hex(&random::<8>()))
}

/// The number in an update's key, if it is one.
pub fn number_of(key: &str) -> Option<u64> {
    let (number, random) = key.strip_prefix(PREFIX)?.split_once('-')?;
    let well_formed = number.len() == 8
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && random.len() == 16
        && crate::id::from_hex(random).is_some();
    if well_formed { number.parse().ok() } else { None }
}

fn place(repository: RepositoryId, key: &str) -> Place<'_> {
    Place { repository, kind: Kind::Update, epoch: 0, key }
}

fn grant_place(repository: RepositoryId, epoch: u32, slot: SlotId) -> Vec<u8> {
    let key = super::slot::slot_key(slot);
    Place { repository, kind: Kind::Update, epoch, key: &key }.bytes(LABEL_GRANT)
}

/// Seals an epoch's keys to one slot.
pub fn seal_grant(
    repository: RepositoryId,
    slot: SlotId,
    recipient: &HybridPublic,
    keys: &EpochKeys,
) -> Vec<u8> {
    recipient.seal(&grant_place(repository, keys.epoch, slot), &keys.to_value().encode_secret())
}

pub fn open_grant(
    repository: RepositoryId,
    slot: SlotId,
    recipient: &HybridPrivate,
    epoch: u32,
    sealed: &[u8],
) -> Result<EpochKeys> {
    let wrong = |_| FormatError::new("UPD-6", "the grant for this slot does not open");
    let text = recipient.open(&grant_place(repository, epoch, slot), sealed).map_err(wrong)?;
    let keys = EpochKeys::from_fields(Fields::parse(&text, "UPD-6")?)?;
    if keys.epoch != epoch {
        return Err(FormatError::new("UPD-6", "the grant for this slot is of another epoch"));
    }
    Ok(keys)
}

impl Writer {
    fn to_value(&self) -> Value {
        MapBuilder::default()
            .put(1, &self.id.0[..])
            .put(2, &self.verify.0[..])
            .put(3, self.role as u64)
            .put(4, self.label.as_str())
            .put(5, self.domain.as_str())
            .put(6, self.created)
            .put(7, &self.created_by.0[..])
            .finish()
    }

    fn from_fields(mut fields: Fields) -> Result<Writer> {
        let writer = Writer {
            id: WriterId(fields.fixed(1)?),
            verify: VerifyKey(fields.fixed(2)?),
            role: Role::from_byte(fields.byte(3)?)
                .ok_or_else(|| FormatError::new("UPD-2", "a writer's role is unknown"))?,
            label: fields.text(4)?,
            domain: fields.text(5)?,
            created: fields.uint(6)?,
            created_by: WriterId(fields.fixed(7)?),
        };
        fields.end()?;
        Ok(writer)
    }
}

impl Revocation {
    fn to_value(&self) -> Value {
        let standing: Vec<Value> = self
            .standing
            .iter()
            .map(|(id, hash)| Value::Bytes([&id.0[..], &hash.0[..]].concat()))
            .collect();
        MapBuilder::default().put(1, &self.writer.0[..]).put(2, self.at).put(3, standing).finish()
    }

    fn from_fields(mut fields: Fields) -> Result<Revocation> {
        let writer = WriterId(fields.fixed(1)?);
        let at = fields.uint(2)?;
        let mut standing = Vec::new();
        for both in fields.fixed_strings::<48>(3, MAX_STANDING)? {
            let (mut id, mut hash) = ([0; 16], [0; 32]);
            id.copy_from_slice(&both[..16]);
            hash.copy_from_slice(&both[16..]);
            standing.push((SnapshotId(id), ObjectHash(hash)));
        }
        fields.end()?;
        Ok(Revocation { writer, at, standing })
    }
}

impl ConfigUpdate {
    pub fn encode(&self, repository: RepositoryId, key: &str, admin: &SigningKey) -> Vec<u8> {
        let payload = self.payload();
        let contents = Contents {
            place: place(repository, key),
            writer: object::ADMIN,
            index_key: None,
            payload: &payload,
            attachment: None,
        };
        object::encode(&contents, admin)
    }

    fn payload(&self) -> Vec<u8> {
        let previous: Vec<Value> = self.previous.iter().map(|hash| hash.0[..].into()).collect();
        let grants: Vec<Value> = self
            .grants
            .iter()
            .map(|(slot, sealed)| {
                MapBuilder::default().put(1, &slot.0[..]).put(2, &sealed[..]).finish()
            })
            .collect();
        let features = vec![
            cbor::texts(&self.features.incompatible),
            cbor::texts(&self.features.read_compatible),
            cbor::texts(&self.features.compatible),
        ];
        let chunker = MapBuilder::default()
            .put(1, u64::from(FASTCDC_GEAR))
            .put(2, u64::from(self.chunker.average()))
            .finish();
        MapBuilder::default()
            .put(1, self.number)
            .put(2, previous)
            .put(3, u64::from(self.epoch))
            .put(4, &self.content.bytes()[..])
            .put(5, grants)
            .put(6, self.writers.iter().map(Writer::to_value).collect::<Vec<_>>())
            .put(7, self.revoked.iter().map(Revocation::to_value).collect::<Vec<_>>())
            .put(8, features)
            .put(9, chunker)
            .put_some(10, self.listing_lag)
            .put(11, self.written)
            .put(12, self.program.as_str())
            .extend(&self.kept)
            .encode()
    }

    /// Parses and checks the admin's signature for `key`.
    pub fn parse(
        bytes: &[u8],
        repository: RepositoryId,
        key: &str,
        admin: &VerifyKey,
    ) -> Result<ConfigUpdate> {
        let object = object::parse(bytes, Kind::Update)?;
        object.verify(admin, &place(repository, key))?;
        let update = Self::parse_payload(&object)?;
        if number_of(key) != Some(update.number) {
            return Err(FormatError::new("UPD-3", "its number is not the one in its key"));
        }
        update.check_features()?;
        Ok(update)
    }

    fn parse_payload(object: &Object<'_>) -> Result<ConfigUpdate> {
        let mut fields = Fields::parse(object.payload, "UPD-1")?;
        let number = fields.uint(1)?;
        let previous: Vec<_> = fields.fixed_strings(2, 64)?.into_iter().map(ObjectHash).collect();
        if number == 0 || previous.is_empty() != (number == 1) {
            return Err(FormatError::new("UPD-4", "does not name the update before it"));
        }
        let epoch = fields.uint32(3)?;
        if epoch == 0 {
            return Err(FormatError::new("UPD-1", "its epoch is 0"));
        }
        let content = HybridPublic::from_bytes(&fields.bytes(4)?)
            .map_err(|_| FormatError::new("UPD-1", "the content key is not valid"))?;
        let mut grants = Vec::new();
        for mut grant in fields.maps(5, MAX_WRITERS)? {
            grants.push((SlotId(grant.fixed(1)?), grant.bytes(2)?));
            grant.end()?;
        }
        if !grants.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(FormatError::new("UPD-5", "grants repeat or are not sorted by slot"));
        }
        let writers = fields
            .maps(6, MAX_WRITERS)?
            .into_iter()
            .map(Writer::from_fields)
            .collect::<Result<Vec<_>>>()?;
        if !writers.is_sorted_by(|a, b| a.id < b.id) {
            return Err(FormatError::new("UPD-5", "writers repeat or are not sorted by id"));
        }
        let revoked = fields
            .maps(7, MAX_WRITERS)?
            .into_iter()
            .map(Revocation::from_fields)
            .collect::<Result<Vec<_>>>()?;
        if !revoked.is_sorted_by(|a, b| a.writer < b.writer) {
            return Err(FormatError::new(
                "UPD-5",
                "revocations repeat or are not sorted by writer",
            ));
        }
        let features = parse_features(fields.array(8, 3)?)?;
        let chunker = parse_chunker(fields.map(9)?)?;
        Ok(ConfigUpdate {
            number,
            previous,
            epoch,
            content,
            grants,
            writers,
            revoked,
            features,
            chunker,
            listing_lag: fields.optional_uint(10)?,
            written: fields.uint(11)?,
            program: fields.text(12)?,
            kept: fields.end()?,
        })
    }

    fn check_features(&self) -> Result<()> {
        match unknown(&self.features.incompatible, KNOWN_FEATURES[0]) {
            None => Ok(()),
            Some(name) => Err(FormatError::new(
                "UPD-7",
                format!("the repository uses the feature {name:?}: upgrade esker to open it"),
            )),
        }
    }

    /// A feature that forbids this program to write, if there is one.
    pub fn forbids_writing(&self) -> Option<&str> {
        unknown(&self.features.read_compatible, KNOWN_FEATURES[1])
    }

    /// A feature that forbids this program to delete anything, if there is one.
    pub fn forbids_maintenance(&self) -> Option<&str> {
        self.forbids_writing().or_else(|| unknown(&self.features.compatible, KNOWN_FEATURES[2]))
    }

    /// Brings the lists into the order they are written in; of what repeats the
    /// first stays.
    pub fn sort(&mut self) {
        self.writers.sort_by_key(|writer| writer.id);
        self.writers.dedup_by_key(|writer| writer.id);
        self.revoked.sort_by_key(|revocation| revocation.writer);
        self.revoked.dedup_by_key(|revocation| revocation.writer);
        self.grants.sort_by_key(|(slot, _)| *slot);
        self.grants.dedup_by_key(|(slot, _)| *slot);
    }

    pub fn writer(&self, id: WriterId) -> Option<&Writer> {
        let at = self.writers.binary_search_by_key(&id, |writer| writer.id).ok()?;
        self.writers.get(at)
    }

    pub fn revocation(&self, id: WriterId) -> Option<&Revocation> {
        self.revoked.iter().find(|revocation| revocation.writer == id)
    }

    /// The writer, if it is listed and not revoked.
    pub fn writer_in_force(&self, id: WriterId) -> Option<&Writer> {
        self.writer(id).filter(|_| self.revocation(id).is_none())
    }
}

fn unknown<'a>(names: &'a [String], known: &[&str]) -> Option<&'a str> {
    names.iter().map(String::as_str).find(|name| !known.contains(name))
}

fn parse_features(classes: Vec<Value>) -> Result<Features> {
    let wrong = || FormatError::new("UPD-1", "features are not three lists of names");
    let mut lists = classes.into_iter().map(|class| match class {
        Value::Array(names) if names.len() <= MAX_FEATURES => names
            .into_iter()
            .map(|name| match name {
                Value::Text(name) => Ok(name),
                _ => Err(wrong()),
            })
            .collect::<Result<Vec<_>>>(),
        _ => Err(wrong()),
    });
    let mut next = || lists.next().unwrap_or_else(|| Err(wrong()));
    Ok(Features { incompatible: next()?, read_compatible: next()?, compatible: next()? })
}

fn parse_chunker(fields: Option<Fields>) -> Result<ChunkerParams> {
    let mut fields = fields.ok_or_else(|| FormatError::new("UPD-1", "names no chunker"))?;
    if fields.byte(1)? != FASTCDC_GEAR {
        return Err(FormatError::new("UPD-7", "the chunker is unknown: upgrade esker"));
    }
    let average = fields.uint32(2)?;
    fields.end()?;
    ChunkerParams::new(average)
        .ok_or_else(|| FormatError::new("UPD-1", "the average chunk size is not allowed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_written_in_order_however_they_were_gathered() {
        let admin = SigningKey::from_seed(&[1; 32]);
        let revocation = |id, at| Revocation { writer: WriterId([id; 16]), at, standing: vec![] };
        let mut update = ConfigUpdate {
            number: 1,
            previous: Vec::new(),
            epoch: 1,
            content: HybridPrivate::from_seed([4; 32]).public(),
            grants: [3, 1, 2].map(|id| (SlotId([id; 16]), vec![id])).into(),
            writers: Vec::new(),
            revoked: vec![revocation(2, 5), revocation(1, 6), revocation(2, 7)],
            features: Features::default(),
            chunker: ChunkerParams::default(),
            listing_lag: None,
            written: 0,
            program: String::new(),
            kept: Vec::new(),
        };
        let repository = RepositoryId([2; 16]);
        let key = new_key(1);
        let parsed = |update: &ConfigUpdate| {
            let bytes = update.encode(repository, &key, &admin);
            ConfigUpdate::parse(&bytes, repository, &key, &admin.verify_key())
        };
        assert_eq!(parsed(&update).err().unwrap().rule, "UPD-5");
        update.sort();
        let read = parsed(&update).unwrap();
        assert_eq!(read.revoked, [revocation(1, 6), revocation(2, 5)]);
        assert_eq!(read.grants, [1, 2, 3].map(|id| (SlotId([id; 16]), vec![id])));
    }
}
