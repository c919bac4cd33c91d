//! `snapshots/<id>`: the manifest, with a public part under the index key and a
//! private part sealed to the content public key.
//!
//! `format-spec/11-snapshots.md`, rules `[MAN-1]` to `[MAN-4]`.

use super::cbor::{self, Fields, MapBuilder, Value};
use super::content::{MAX_LEVEL, Root};
use super::{FormatError, Result};
use crate::id::{ChunkId, RepositoryId, SnapshotId, WriterId};

pub const PREFIX: &str = "snapshots/";
const MAX_SOURCES: usize = 65_536;
const MAX_TAGS: usize = 1024;
const MAX_PARTS: usize = 65_536;
/// Most failures and notes a manifest lists; the counts say how many there were.
pub const MAX_LISTED_ERRORS: usize = 10_000;
const MAX_PATHS: usize = 1 << 20;

pub fn manifest_key(id: SnapshotId) -> String {
    format!("{PREFIX}{id}")
}

pub fn snapshot_of_key(key: &str, prefix: &str) -> Option<SnapshotId> {
    key.strip_prefix(prefix)?.parse().ok()
}

/// How a snapshot or one of its sources came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    Complete = 1,
    /// Something of it could not be read.
    Partial = 2,
    /// A source of which nothing could be read.
    Failed = 3,
}

impl Outcome {
    fn from_byte(byte: u8) -> Option<Outcome> {
        [Outcome::Complete, Outcome::Partial, Outcome::Failed]
            .into_iter()
            .find(|outcome| *outcome as u8 == byte)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Keyed hash of the path or name: groups without telling.
    pub label: String,
    pub outcome: Outcome,
    pub required: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub files: u64,
    pub directories: u64,
    pub others: u64,
    /// Size of all files together.
    pub bytes: u64,
    pub files_new: u64,
    pub files_changed: u64,
    pub files_unchanged: u64,
    /// Bytes of new chunks before and after compression.
    pub bytes_added: u64,
    pub bytes_stored: u64,
    pub failures: u64,
    pub notes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopiedFrom {
    pub repository: RepositoryId,
    pub snapshot: SnapshotId,
    pub writer: WriterId,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    pub name: String,
    /// Names of the parts that make the set whole.
    pub parts: Vec<String>,
    /// Which of them this is.
    pub part: String,
    /// Numeric id of the source system, such as a replication position's server.
    pub system: Option<u64>,
    /// Who the set's parts are signed by, as the first part's manifest lists.
    pub writers: Vec<WriterId>,
}

/// What the profile promises, in seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Promises {
    pub maximum_age: Option<u64>,
    pub drill_interval: Option<u64>,
    pub check_interval: Option<u64>,
}

/// What every key of the repository can read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub id: SnapshotId,
    pub outcome: Outcome,
    /// Milliseconds since 1970-01-01 UTC.
    pub started: u64,
    pub ended: u64,
    /// IANA name or offset of the zone the run took place in.
    pub zone: String,
    pub host: String,
    pub profile: String,
    pub sources: Vec<Source>,
    pub writer: WriterId,
    pub set: Option<Set>,
    pub tags: Vec<String>,
    /// When the snapshot may go by itself.
    pub expires: Option<u64>,
    pub promises: Promises,
    pub counts: Counts,
    pub parent: Option<SnapshotId>,
    pub replaces: Option<SnapshotId>,
    pub copied_from: Option<CopiedFrom>,
    pub references: Root,
    pub program: String,
    pub kept: Vec<(u64, Value)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub path: Vec<u8>,
    pub reason: String,
}

/// What only a reader can open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrivatePart {
    pub tree: Root,
    /// The sources as they were named.
    pub paths: Vec<Vec<u8>>,
    pub exclusions: Vec<String>,
    pub failures: Vec<Failure>,
    pub notes: Vec<Failure>,
    /// File systems that entries refer to by their index.
    pub filesystems: Vec<Vec<u8>>,
    /// The resolved profile without secrets, and the commands that restore it.
    pub profile: Option<String>,
    pub restore_commands: Vec<String>,
    pub kept: Vec<(u64, Value)>,
}

fn root_value(root: Root) -> Value {
    Value::Array(vec![root.id.0[..].into(), u64::from(root.level).into()])
}

fn root(values: Vec<Value>) -> Result<Root> {
    let wrong = || FormatError::new("MAN-2", "a root is not an id and a level");
    let [Value::Bytes(id), Value::Uint(level)] = values.as_slice() else { return Err(wrong()) };
    let id = <[u8; 32]>::try_from(id.as_slice()).map_err(|_| wrong())?;
    let level = u8::try_from(*level).ok().filter(|level| *level <= MAX_LEVEL).ok_or_else(wrong)?;
    Ok(Root { id: ChunkId(id), level })
}

fn outcome(byte: u8) -> Result<Outcome> {
    Outcome::from_byte(byte).ok_or_else(|| FormatError::new("MAN-3", "an outcome is unknown"))
}

impl Source {
    fn to_value(&self) -> Value {
        MapBuilder::default()
            .put(1, self.label.as_str())
            .put(2, self.outcome as u64)
            .put(3, self.required)
            .finish()
    }

    fn from_fields(mut fields: Fields) -> Result<Source> {
        let source = Source {
            label: fields.text(1)?,
            outcome: outcome(fields.byte(2)?)?,
            required: fields.boolean(3)?,
        };
        fields.end()?;
        Ok(source)
    }
}

impl Counts {
    fn numbers(&self) -> [u64; 11] {
        [
            self.files,
            self.directories,
            self.others,
            self.bytes,
            self.files_new,
            self.files_changed,
            self.files_unchanged,
            self.bytes_added,
            self.bytes_stored,
            self.failures,
            self.notes,
        ]
    }

    fn to_value(&self) -> Value {
        let mut map = MapBuilder::default();
        for (key, number) in (1..).zip(self.numbers()) {
            map.put(key, number);
        }
        map.finish()
    }

    fn from_fields(mut fields: Fields) -> Result<Counts> {
        let counts = Counts {
            files: fields.uint(1)?,
            directories: fields.uint(2)?,
            others: fields.uint(3)?,
            bytes: fields.uint(4)?,
            files_new: fields.uint(5)?,
            files_changed: fields.uint(6)?,
            files_unchanged: fields.uint(7)?,
            bytes_added: fields.uint(8)?,
            bytes_stored: fields.uint(9)?,
            failures: fields.uint(10)?,
            notes: fields.uint(11)?,
        };
        fields.end()?;
        Ok(counts)
    }
}

impl CopiedFrom {
    fn to_value(&self) -> Value {
        MapBuilder::default()
            .put(1, &self.repository.0[..])
            .put(2, &self.snapshot.0[..])
            .put(3, &self.writer.0[..])
            .finish()
    }

    fn from_fields(mut fields: Fields) -> Result<CopiedFrom> {
        let copied = CopiedFrom {
            repository: RepositoryId(fields.fixed(1)?),
            snapshot: SnapshotId(fields.fixed(2)?),
            writer: WriterId(fields.fixed(3)?),
        };
        fields.end()?;
        Ok(copied)
    }
}

impl Set {
    fn to_value(&self) -> Value {
        let writers: Vec<Value> = self.writers.iter().map(|id| id.0[..].into()).collect();
        MapBuilder::default()
            .put(1, self.name.as_str())
            .put(2, cbor::texts(&self.parts))
            .put(3, self.part.as_str())
            .put_some(4, self.system)
            .put(5, writers)
            .finish()
    }

    fn from_fields(mut fields: Fields) -> Result<Set> {
        let set = Set {
            name: fields.text(1)?,
            parts: fields.texts(2, MAX_PARTS)?,
            part: fields.text(3)?,
            system: fields.optional_uint(4)?,
            writers: fields.fixed_strings(5, MAX_PARTS)?.into_iter().map(WriterId).collect(),
        };
        fields.end()?;
        Ok(set)
    }
}

impl Promises {
    fn to_value(&self) -> Value {
        MapBuilder::default()
            .put_some(1, self.maximum_age)
            .put_some(2, self.drill_interval)
            .put_some(3, self.check_interval)
            .finish()
    }

    fn from_fields(mut fields: Fields) -> Result<Promises> {
        let promises = Promises {
            maximum_age: fields.optional_uint(1)?,
            drill_interval: fields.optional_uint(2)?,
            check_interval: fields.optional_uint(3)?,
        };
        fields.end()?;
        Ok(promises)
    }
}

impl Manifest {
    pub fn encode(&self) -> Vec<u8> {
        let sources: Vec<Value> = self.sources.iter().map(Source::to_value).collect();
        let promises = (self.promises != Promises::default()).then(|| self.promises.to_value());
        MapBuilder::default()
            .put(1, &self.id.0[..])
            .put(2, self.outcome as u64)
            .put(3, self.started)
            .put(4, self.ended)
            .put(5, self.zone.as_str())
            .put(6, self.host.as_str())
            .put(7, self.profile.as_str())
            .put(8, sources)
            .put(9, &self.writer.0[..])
            .put_some(10, self.set.as_ref().map(Set::to_value))
            .put(11, cbor::texts(&self.tags))
            .put_some(12, self.expires)
            .put_some(13, promises)
            .put(14, self.counts.to_value())
            .put_some(15, self.parent.as_ref().map(|id| &id.0[..]))
            .put_some(16, self.replaces.as_ref().map(|id| &id.0[..]))
            .put_some(17, self.copied_from.as_ref().map(CopiedFrom::to_value))
            .put(18, root_value(self.references))
            .put(19, self.program.as_str())
            .extend(&self.kept)
            .encode()
    }

    pub fn parse(bytes: &[u8]) -> Result<Manifest> {
        let mut fields = Fields::parse(bytes, "MAN-1")?;
        let counts = fields.map(14)?;
        let counts = counts.ok_or_else(|| FormatError::new("MAN-1", "counts nothing"))?;
        let manifest = Manifest {
            id: SnapshotId(fields.fixed(1)?),
            outcome: outcome(fields.byte(2)?)?,
            started: fields.uint(3)?,
            ended: fields.uint(4)?,
            zone: fields.text(5)?,
            host: fields.text(6)?,
            profile: fields.text(7)?,
            sources: fields
                .maps(8, MAX_SOURCES)?
                .into_iter()
                .map(Source::from_fields)
                .collect::<Result<_>>()?,
            writer: WriterId(fields.fixed(9)?),
            set: fields.map(10)?.map(Set::from_fields).transpose()?,
            tags: fields.texts(11, MAX_TAGS)?,
            expires: fields.optional_uint(12)?,
            promises: fields.map(13)?.map(Promises::from_fields).transpose()?.unwrap_or_default(),
            counts: Counts::from_fields(counts)?,
            parent: fields.optional_fixed(15)?.map(SnapshotId),
            replaces: fields.optional_fixed(16)?.map(SnapshotId),
            copied_from: fields.map(17)?.map(CopiedFrom::from_fields).transpose()?,
            references: root(fields.array(18, 2)?)?,
            program: fields.text(19)?,
            kept: fields.end()?,
        };
        if manifest.outcome == Outcome::Failed {
            return Err(FormatError::new("MAN-3", "a failed run leaves no manifest"));
        }
        if manifest.ended < manifest.started {
            return Err(FormatError::new("MAN-4", "ended before it started"));
        }
        Ok(manifest)
    }
}

fn failures_value(failures: &[Failure]) -> Value {
    let values = failures.iter().map(|failure| {
        MapBuilder::default()
            .put(1, failure.path.as_slice())
            .put(2, failure.reason.as_str())
            .finish()
    });
    Value::Array(values.collect())
}

fn failures(fields: Vec<Fields>) -> Result<Vec<Failure>> {
    fields
        .into_iter()
        .map(|mut fields| {
            let failure = Failure { path: fields.bytes(1)?, reason: fields.text(2)? };
            fields.end()?;
            Ok(failure)
        })
        .collect()
}

impl PrivatePart {
    pub fn encode(&self) -> Vec<u8> {
        let strings = |list: &[Vec<u8>]| -> Value {
            Value::Array(list.iter().map(|bytes| Value::from(bytes.as_slice())).collect())
        };
        MapBuilder::default()
            .put(1, root_value(self.tree))
            .put(2, strings(&self.paths))
            .put(3, cbor::texts(&self.exclusions))
            .put(4, failures_value(&self.failures))
            .put(5, failures_value(&self.notes))
            .put(6, strings(&self.filesystems))
            .put_some(7, self.profile.as_deref())
            .put(8, cbor::texts(&self.restore_commands))
            .extend(&self.kept)
            .encode()
    }

    pub fn parse(bytes: &[u8]) -> Result<PrivatePart> {
        let mut fields = Fields::parse(bytes, "MAN-1")?;
        Ok(PrivatePart {
            tree: root(fields.array(1, 2)?)?,
            paths: fields.byte_strings(2, MAX_PATHS)?,
            exclusions: fields.texts(3, MAX_PATHS)?,
            failures: failures(fields.maps(4, MAX_LISTED_ERRORS)?)?,
            notes: failures(fields.maps(5, MAX_LISTED_ERRORS)?)?,
            filesystems: fields.byte_strings(6, MAX_PATHS)?,
            profile: fields.optional_text(7)?,
            restore_commands: fields.texts(8, 1024)?,
            kept: fields.end()?,
        })
    }
}
