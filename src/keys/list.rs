//! `key list`: every key, and who used it last. Works with any role.

use std::collections::HashMap;

use super::slots;
use crate::format::manifest::{self, Manifest};
use crate::format::notes::{self, Record, Session};
use crate::format::slot::{Method, Role, Slot};
use crate::format::update::Writer;
use crate::format::{FormatError, Kind};
use crate::id::{SlotId, WriterId};
use crate::repository::sync::Troubles;
use crate::repository::{Error, ErrorKind, Repository, Result, Trust};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// None when only the writer is left: its slot was removed, or an
    /// interrupted `key add` never put one.
    pub slot: Option<SlotId>,
    pub method: Option<Method>,
    pub role: Role,
    pub label: String,
    /// Milliseconds since 1970-01-01 UTC.
    pub created: u64,
    /// Label of the writer that made it.
    pub created_by: String,
    pub writer: WriterId,
    pub domain: String,
    /// When its writer was revoked, if it was.
    pub revoked: Option<u64>,
    /// The newest session, snapshot or record it signed: time and host. A time
    /// is what that host believed.
    pub last_used: Option<(u64, String)>,
    /// The slot this repository was opened with.
    pub in_use: bool,
}

/// All keys, oldest first, and the objects that could not be believed.
pub fn list(repository: &Repository) -> Result<(Vec<KeyInfo>, Troubles)> {
    let (slots, mut troubles) = slots(repository)?;
    let trust = repository.reload_trust()?;
    let last_used = last_used(repository, &trust, &mut troubles)?;
    let mut keys: Vec<KeyInfo> =
        slots.iter().map(|slot| of_slot(repository, &trust, slot)).collect();
    for writer in &trust.update().writers {
        if !slots.iter().any(|slot| slot.writer == writer.id) {
            keys.push(of_writer(&trust, writer));
        }
    }
    for key in &mut keys {
        key.last_used = last_used.get(&key.writer).cloned();
    }
    keys.sort_by_key(|key| (key.created, key.writer, key.slot));
    Ok((keys, troubles))
}

/// The one slot whose id begins with `wanted`, or that has this label.
pub fn find(repository: &Repository, wanted: &str) -> Result<SlotId> {
    let (slots, _) = slots(repository)?;
    let labelled: Vec<_> = slots.iter().filter(|slot| slot.label == wanted).collect();
    let by_id = || slots.iter().filter(|slot| slot.id.to_hex().starts_with(wanted)).collect();
    let matching: Vec<&Slot> = if labelled.is_empty() { by_id() } else { labelled };
    match matching.as_slice() {
        [slot] => Ok(slot.id),
        [] => Err(Error::new(
            ErrorKind::Usage,
            format!("no key is called {wanted:?}: see `esker key list`"),
        )),
        several => Err(Error::new(
            ErrorKind::Usage,
            format!("{} keys are called {wanted:?}: name one by its id", several.len()),
        )),
    }
}

fn of_slot(repository: &Repository, trust: &Trust, slot: &Slot) -> KeyInfo {
    let update = trust.update();
    KeyInfo {
        slot: Some(slot.id),
        method: Some(slot.method),
        role: slot.role,
        label: slot.label.clone(),
        created: slot.created,
        created_by: trust.label(slot.created_by).to_owned(),
        writer: slot.writer,
        domain: update.writer(slot.writer).map_or_else(String::new, |w| w.domain.clone()),
        revoked: update.revocation(slot.writer).map(|revocation| revocation.at),
        last_used: None,
        in_use: slot.id == repository.keyring().slot,
    }
}

fn of_writer(trust: &Trust, writer: &Writer) -> KeyInfo {
    KeyInfo {
        slot: None,
        method: None,
        role: writer.role,
        label: writer.label.clone(),
        created: writer.created,
        created_by: trust.label(writer.created_by).to_owned(),
        writer: writer.id,
        domain: writer.domain.clone(),
        revoked: trust.update().revocation(writer.id).map(|revocation| revocation.at),
        last_used: None,
        in_use: false,
    }
}

type LastUsed = HashMap<WriterId, (u64, String)>;

fn last_used(repository: &Repository, trust: &Trust, troubles: &mut Troubles) -> Result<LastUsed> {
    let mut last_used = LastUsed::new();
    for (kind, prefix) in [
        (Kind::Session, notes::SESSIONS),
        (Kind::Manifest, manifest::PREFIX),
        (Kind::Record, notes::RECORDS),
    ] {
        let keys = repository.listed_keys(prefix)?;
        for (key, bytes) in repository.read_objects(&keys)? {
            let used = repository
                .open_object(kind, &key, bytes, trust)
                .and_then(|opened| Ok((opened.writer, when_and_where(kind, &opened.text)?)));
            match used {
                Ok((writer, used)) => {
                    let last = last_used.entry(writer).or_default();
                    *last = used.max(std::mem::take(last));
                }
                Err(error) => troubles.push(Error::in_object(&key, error)),
            }
        }
    }
    Ok(last_used)
}

fn when_and_where(kind: Kind, text: &[u8]) -> std::result::Result<(u64, String), FormatError> {
    Ok(match kind {
        Kind::Session => Session::parse(text).map(|session| (session.time, session.host))?,
        Kind::Record => Record::parse(text).map(|record| (record.ended, record.host))?,
        _ => Manifest::parse(text).map(|manifest| (manifest.ended, manifest.host))?,
    })
}
