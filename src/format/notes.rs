//! The small objects around a snapshot: sessions, confirmations, marks, sweeps
//! and records.
//!
//! `format-spec/12-notes.md`, rules `[SES-1]`, `[CFM-1]`, `[MARK-1]` to
//! `[MARK-3]`, `[SWP-1]`, `[REC-1]`.

use super::cbor::{Fields, MapBuilder, Value};
use super::{FormatError, Result};
use crate::crypto::random;
use crate::id::{ObjectHash, PackId, SnapshotId, SweepId, hex};

pub const SESSIONS: &str = "sessions/";
pub const CONFIRMED: &str = "confirmed/";
pub const MARKS: &str = "marks/";
pub const SWEEPS: &str = "sweeps/";
pub const RECORDS: &str = "records/";
/// What a record may be of: the second part of its key.
pub const RECORD_KINDS: [&str; 5] = ["prune", "check", "copy", "drill", "run"];
const MAX_LISTED: usize = 1 << 20;
/// Highest number of a session or mark: their keys have eight digits.
pub const MAX_NUMBER: u64 = 99_999_999;
/// From here on a mark that cannot be read takes no room on the number line: no
/// snapshot has so many marks.
pub const FIRST_ABSURD_MARK: u64 = 90_000_000;

pub fn session_key(run: SnapshotId, number: u64) -> String {
    format!("{SESSIONS}{run}/{number:08}")
}

/// Run and number of a session key.
pub fn session_of_key(key: &str) -> Option<(SnapshotId, u64)> {
    let (run, number) = key.strip_prefix(SESSIONS)?.split_once('/')?;
    let well_formed = number.len() == 8 && number.bytes().all(|byte| byte.is_ascii_digit());
    Some((run.parse().ok()?, number.parse().ok().filter(|_| well_formed)?))
}

pub fn confirmation_key(id: SnapshotId) -> String {
    format!("{CONFIRMED}{id}")
}

pub fn new_mark_key(snapshot: SnapshotId, number: u64) -> String {
    format!("{MARKS}{snapshot}/{number:08}-{}", hex(&random::<8>()))
}

pub fn mark_of_key(key: &str) -> Option<(SnapshotId, u64)> {
    let (snapshot, rest) = key.strip_prefix(MARKS)?.split_once('/')?;
    let (number, random) = rest.split_once('-')?;
    let well_formed = number.len() == 8
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && random.len() == 16
        && crate::id::from_hex(random).is_some();
    Some((snapshot.parse().ok()?, number.parse().ok().filter(|_| well_formed)?))
}

pub fn sweep_key(id: SweepId) -> String {
    format!("{SWEEPS}{id}")
}

/// The key of a record of one of [`RECORD_KINDS`].
pub fn record_key(kind: &str, id: [u8; 16]) -> String {
    debug_assert!(RECORD_KINDS.contains(&kind), "no record is of kind {kind}");
    format!("{RECORDS}{kind}/{}", hex(&id))
}

/// Kind and id of a record's key.
pub fn record_of_key(key: &str) -> Option<(&'static str, [u8; 16])> {
    let (kind, id) = key.strip_prefix(RECORDS)?.split_once('/')?;
    let kind = RECORD_KINDS.into_iter().find(|known| *known == kind)?;
    Some((kind, crate::id::from_hex(id)?.try_into().ok()?))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SessionState {
    Start = 1,
    Checkpoint = 2,
    Failed = 3,
    /// Committed, or nothing was left to do: the run needs nothing any more.
    Ended = 4,
}

/// A run's sign of life; the reason of a failure is in the attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub state: SessionState,
    pub time: u64,
    pub host: String,
    /// Boot and process that the run is, to tell a dead run from a living one.
    pub boot: String,
    pub process: u64,
    pub profile: String,
    pub packs: u64,
    pub bytes: u64,
    /// Exit code of a failed run.
    pub code: Option<u64>,
    /// Opaque name of the machine; equal only where process numbers mean the
    /// same.
    pub machine: Option<String>,
    pub kept: Vec<(u64, Value)>,
}

impl Session {
    pub fn encode(&self) -> Vec<u8> {
        MapBuilder::default()
            .put(1, self.state as u64)
            .put(2, self.time)
            .put(3, self.host.as_str())
            .put(4, self.boot.as_str())
            .put(5, self.process)
            .put(6, self.profile.as_str())
            .put(7, self.packs)
            .put(8, self.bytes)
            .put_some(9, self.code)
            .put_some(10, self.machine.as_deref())
            .extend(&self.kept)
            .encode()
    }

    pub fn parse(bytes: &[u8]) -> Result<Session> {
        let mut fields = Fields::parse(bytes, "SES-1")?;
        let state = match fields.byte(1)? {
            1 => SessionState::Start,
            2 => SessionState::Checkpoint,
            3 => SessionState::Failed,
            4 => SessionState::Ended,
            _ => return Err(FormatError::new("SES-1", "a session is in an unknown state")),
        };
        Ok(Session {
            state,
            time: fields.uint(2)?,
            host: fields.text(3)?,
            boot: fields.text(4)?,
            process: fields.uint(5)?,
            profile: fields.text(6)?,
            packs: fields.uint(7)?,
            bytes: fields.uint(8)?,
            code: fields.optional_uint(9)?,
            machine: fields.optional_text(10)?,
            kept: fields.end()?,
        })
    }
}

/// The commit check of a snapshot passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmation {
    /// BLAKE3 of the manifest object.
    pub manifest: ObjectHash,
    pub time: u64,
    pub kept: Vec<(u64, Value)>,
}

impl Confirmation {
    pub fn encode(&self) -> Vec<u8> {
        MapBuilder::default()
            .put(1, &self.manifest.0[..])
            .put(2, self.time)
            .extend(&self.kept)
            .encode()
    }

    pub fn parse(bytes: &[u8]) -> Result<Confirmation> {
        let mut fields = Fields::parse(bytes, "CFM-1")?;
        Ok(Confirmation {
            manifest: ObjectHash(fields.fixed(1)?),
            time: fields.uint(2)?,
            kept: fields.end()?,
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MarkKind {
    Forget,
    Undo,
    Name(String),
    Description(String),
    /// Tags to add and to remove.
    Tags {
        add: Vec<String>,
        remove: Vec<String>,
    },
    Pin(bool),
    /// Packs whose bytes are not what they should be.
    Damaged(Vec<PackId>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    pub kind: MarkKind,
    pub time: u64,
    pub kept: Vec<(u64, Value)>,
}

impl Mark {
    pub fn encode(&self) -> Vec<u8> {
        let mut map = MapBuilder::default();
        map.put(2, self.time);
        match &self.kind {
            MarkKind::Forget => map.put(1, 1u64),
            MarkKind::Undo => map.put(1, 2u64),
            MarkKind::Name(name) => map.put(1, 3u64).put(3, name.as_str()),
            MarkKind::Description(text) => map.put(1, 4u64).put(3, text.as_str()),
            MarkKind::Tags { add, remove } => {
                map.put(1, 5u64).put(4, super::cbor::texts(add)).put(5, super::cbor::texts(remove))
            }
            MarkKind::Pin(pinned) => map.put(1, 6u64).put(6, *pinned),
            MarkKind::Damaged(packs) => {
                let packs: Vec<Value> = packs.iter().map(|id| id.0[..].into()).collect();
                map.put(1, 7u64).put(7, packs)
            }
        };
        map.extend(&self.kept).encode()
    }

    pub fn parse(bytes: &[u8]) -> Result<Mark> {
        let mut fields = Fields::parse(bytes, "MARK-1")?;
        let kind = match fields.byte(1)? {
            1 => MarkKind::Forget,
            2 => MarkKind::Undo,
            3 => MarkKind::Name(fields.text(3)?),
            4 => MarkKind::Description(fields.text(3)?),
            5 => MarkKind::Tags { add: fields.texts(4, 1024)?, remove: fields.texts(5, 1024)? },
            6 => MarkKind::Pin(fields.boolean(6)?),
            7 => MarkKind::Damaged(
                fields.fixed_strings(7, MAX_LISTED)?.into_iter().map(PackId).collect(),
            ),
            _ => return Err(FormatError::new("MARK-2", "a mark is of an unknown kind")),
        };
        Ok(Mark { kind, time: fields.uint(2)?, kept: fields.end()? })
    }
}

/// What is about to be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sweep {
    pub manifests: Vec<SnapshotId>,
    pub packs: Vec<PackId>,
    pub time: u64,
    pub kept: Vec<(u64, Value)>,
}

impl Sweep {
    pub fn encode(&self) -> Vec<u8> {
        let manifests: Vec<Value> = self.manifests.iter().map(|id| id.0[..].into()).collect();
        let packs: Vec<Value> = self.packs.iter().map(|id| id.0[..].into()).collect();
        MapBuilder::default()
            .put(1, manifests)
            .put(2, packs)
            .put(3, self.time)
            .extend(&self.kept)
            .encode()
    }

    pub fn parse(bytes: &[u8]) -> Result<Sweep> {
        let mut fields = Fields::parse(bytes, "SWP-1")?;
        Ok(Sweep {
            manifests: fields.fixed_strings(1, MAX_LISTED)?.into_iter().map(SnapshotId).collect(),
            packs: fields.fixed_strings(2, MAX_LISTED)?.into_iter().map(PackId).collect(),
            time: fields.uint(3)?,
            kept: fields.end()?,
        })
    }
}

/// The signed result of a drill, check, prune, copy or failed run. The log's
/// tail is in the attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// One of [`RECORD_KINDS`], as in its key.
    pub kind: String,
    pub started: u64,
    pub ended: u64,
    pub host: String,
    /// Exit code of the run.
    pub code: u64,
    /// What was looked at, in words a reader of any role may see.
    pub extent: String,
    pub snapshots: Vec<SnapshotId>,
    /// Named counts.
    pub counts: Vec<(String, u64)>,
    pub kept: Vec<(u64, Value)>,
}

impl Record {
    pub fn encode(&self) -> Vec<u8> {
        let snapshots: Vec<Value> = self.snapshots.iter().map(|id| id.0[..].into()).collect();
        let counts: Vec<Value> = self
            .counts
            .iter()
            .map(|(name, n)| Value::Array(vec![name.as_str().into(), (*n).into()]))
            .collect();
        MapBuilder::default()
            .put(1, self.kind.as_str())
            .put(2, self.started)
            .put(3, self.ended)
            .put(4, self.host.as_str())
            .put(5, self.code)
            .put(6, self.extent.as_str())
            .put(7, snapshots)
            .put(8, counts)
            .extend(&self.kept)
            .encode()
    }

    pub fn parse(bytes: &[u8]) -> Result<Record> {
        let mut fields = Fields::parse(bytes, "REC-1")?;
        let counts = fields
            .array(8, 1024)?
            .into_iter()
            .map(|value| match value {
                Value::Array(pair) => match <[Value; 2]>::try_from(pair) {
                    Ok([Value::Text(name), Value::Uint(n)]) => Ok((name, n)),
                    _ => Err(FormatError::new("REC-1", "a count is not a name and a number")),
                },
                _ => Err(FormatError::new("REC-1", "a count is not a name and a number")),
            })
            .collect::<Result<_>>()?;
        let kind = fields.text(1)?;
        if !RECORD_KINDS.contains(&kind.as_str()) {
            return Err(FormatError::new("REC-1", "a record is of an unknown kind"));
        }
        Ok(Record {
            kind,
            started: fields.uint(2)?,
            ended: fields.uint(3)?,
            host: fields.text(4)?,
            code: fields.uint(5)?,
            extent: fields.text(6)?,
            snapshots: fields.fixed_strings(7, MAX_LISTED)?.into_iter().map(SnapshotId).collect(),
            counts,
            kept: fields.end()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_round_trip() {
        for kind in [
            MarkKind::Forget,
            MarkKind::Undo,
            MarkKind::Name("monday".into()),
            MarkKind::Description("before the move".into()),
            MarkKind::Tags { add: vec!["a".into()], remove: vec![] },
            MarkKind::Pin(true),
            MarkKind::Damaged(vec![PackId([1; 32])]),
        ] {
            let mark = Mark { kind, time: 5, kept: Vec::new() };
            assert_eq!(Mark::parse(&mark.encode()), Ok(mark));
        }
    }

    #[test]
    fn keys_say_what_they_name() {
        let id = SnapshotId([0xab; 16]);
        assert_eq!(mark_of_key(&new_mark_key(id, 3)), Some((id, 3)));
        assert_eq!(session_of_key(&session_key(id, 12)), Some((id, 12)));
        assert_eq!(session_of_key("sessions/ab/1"), None);
        for kind in RECORD_KINDS {
            assert_eq!(record_of_key(&record_key(kind, id.0)), Some((kind, id.0)));
        }
        let hex = "ab".repeat(16);
        for key in ["walk/".to_owned() + &hex, hex.clone(), format!("run/{}", hex.to_uppercase())] {
            assert_eq!(record_of_key(&format!("records/{key}")), None, "{key}");
        }
        assert_eq!(record_of_key(&format!("records/run/{hex}00")), None);
    }
}
