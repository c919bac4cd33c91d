//! Records: signed results of prunes, checks, copies, drills and runs. Read here,
//! for whoever shows them and for the prune that lets old ones go.
//!
//! `format-spec/12-notes.md`, records.

use super::error::{Error, Result};
use super::keyring::Standing;
use super::sync::Troubles;
use super::{Repository, now_ms};
use crate::format::notes::{self, Record, record_key, record_of_key};
use crate::format::object;
use crate::format::{FormatError, Kind, Place};
use crate::id::{SnapshotId, WriterId, hex};

/// Most records that are read at one time: retention leaves far fewer.
pub const MAX_RECORDS: usize = 65_536;
/// Records whose bytes are held at once.
const TOGETHER: usize = 512;

/// A record that can be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Its key in the store.
    pub key: String,
    /// 32 hex digits.
    pub id: String,
    pub writer: WriterId,
    /// Whether the writer was revoked since: then anybody who has its key may have
    /// put it.
    pub by_revoked: bool,
    pub record: Record,
    /// Whether the end of a log came with it.
    pub has_log: bool,
}

#[derive(Clone, Debug, Default)]
pub struct RecordListing {
    /// In the order in which their runs ended.
    pub records: Vec<Recorded>,
    /// Records that could not be believed.
    pub troubles: Troubles,
}

impl Repository {
    /// All records.
    pub fn list_records(&self) -> Result<RecordListing> {
        let keys = self.listed_keys(notes::RECORDS)?;
        self.read_records(&keys)
    }

    /// The records under these keys; keys of another form are no records.
    pub fn read_records(&self, keys: &[String]) -> Result<RecordListing> {
        let mut listing = RecordListing::default();
        let keys: Vec<String> =
            keys.iter().filter(|key| record_of_key(key).is_some()).cloned().collect();
        if keys.len() > MAX_RECORDS {
            let message = format!("there are more than {MAX_RECORDS} records: not all are read");
            listing.troubles.push(Error::damage(message));
        }
        let mut reloaded = None;
        for keys in keys[..keys.len().min(MAX_RECORDS)].chunks(TOGETHER) {
            let objects = self.read_objects(keys)?;
            // loaded after the listing it judges, when somebody new signed
            if reloaded.is_none() && self.has_unknown_signer(&objects) {
                reloaded = Some(self.reload_trust()?);
            }
            let trust = reloaded.as_ref().unwrap_or(&self.trust);
            for (key, bytes) in objects {
                let read = self.open_object(Kind::Record, &key, bytes, trust).and_then(|opened| {
                    let record = Record::parse(&opened.text)?;
                    let (kind, id) = record_of_key(&key).unwrap_or_default();
                    if record.kind != kind {
                        return Err(FormatError::new("REC-2", "is of another kind than its key"));
                    }
                    let attachment = object::parse(&opened.bytes, Kind::Record)?.attachment;
                    Ok(Recorded {
                        id: hex(&id),
                        writer: opened.writer,
                        by_revoked: !matches!(opened.standing, Standing::InForce(_)),
                        record,
                        has_log: !attachment.is_empty(),
                        key: key.clone(),
                    })
                });
                match read {
                    Ok(record) => listing.records.push(record),
                    Err(error) => {
                        self.index.forget_objects(std::iter::once(key.as_str()));
                        listing.troubles.push(Error::in_object(&key, error));
                    }
                }
            }
        }
        self.keep_proofs();
        listing.records.sort_by(|a, b| (a.record.ended, &a.id).cmp(&(b.record.ended, &b.id)));
        Ok(listing)
    }

    /// The end of the log that came with a record, for those who may read what can
    /// name a path.
    pub fn record_log(&self, recorded: &Recorded) -> Result<Option<String>> {
        if !recorded.has_log {
            return Ok(None);
        }
        let key = &recorded.key;
        let mut objects = self.read_objects(std::slice::from_ref(key))?;
        let bytes = objects.remove(key);
        let bytes = bytes.ok_or_else(|| Error::failed(format!("{key}: is gone")))?;
        let in_object = |error| Error::in_object(key, error);
        let opened = self.open_object(Kind::Record, key, bytes, &self.trust).map_err(in_object)?;
        let object = object::parse(&opened.bytes, Kind::Record).map_err(in_object)?;
        let place = Place { repository: self.id(), kind: Kind::Record, epoch: object.epoch, key };
        let private = self.keyring.content_private(object.epoch)?;
        let text = object.open_attachment(private, &place).map_err(in_object)?;
        Ok(Some(String::from_utf8_lossy(&text).into_owned()))
    }

    /// Puts a record under a new id, which is returned. `log` is text, sealed to those
    /// who may read content. The record's end is now, if it says none.
    pub fn put_record(&self, mut record: Record, log: Option<&str>) -> Result<String> {
        if record.ended == 0 {
            record.ended = now_ms();
        }
        record.ended = record.ended.max(record.started);
        let id = SnapshotId::random().0;
        let key = record_key(&record.kind, id);
        self.put_object(Kind::Record, &key, &record.encode(), log.map(str::as_bytes))?;
        Ok(hex(&id))
    }
}
