//! Every object that is neither pack nor segment: its bytes, its signature, its
//! contents, and that it lies under the right name. Read from the store, never
//! from the cache.

use std::collections::{BTreeSet, HashSet};
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use super::report::{Findings, Grade};
use crate::format::config::{CONFIG_KEY, Config};
use crate::format::manifest::{self, Manifest, PrivatePart, manifest_key, snapshot_of_key};
use crate::format::notes::{self, Confirmation, Mark, Record, Session, SessionState, Sweep};
use crate::format::object::{self, MAX_OBJECT};
use crate::format::slot::{Slot, slot_key};
use crate::format::update::{self, ConfigUpdate};
use crate::format::{FormatError, Kind, Place, pack, segment};
use crate::id::{SnapshotId, SweepId};
use crate::progress::{Event, Progress};
use crate::repository::keyring::{Standing, Trust};
use crate::repository::{Error, ErrorKind, Repository, Result};
use crate::store::{ErrorKind as StoreKind, Listed, Reading, StoreError, read_many};

const SLOTS: &str = "keys/";
const THREADS: usize = 8;
const BUDGET_BYTES: u64 = 64 << 20;

/// The updates as the store has them now; none if they are damaged.
pub(super) fn trust(repository: &Repository, findings: &Findings) -> Result<Option<Trust>> {
    match repository.reload_trust() {
        Ok(trust) => Ok(Some(trust)),
        Err(error) if super::ends_check(&error) => Err(error),
        Err(error) => {
            findings.error(Grade::Damage, update::PREFIX.trim_end_matches('/'), &error);
            Ok(None)
        }
    }
}

/// What a key says it is; none for a stranger.
fn kind_of(key: &str) -> Option<Kind> {
    let hex = |prefix: &str, length: usize| {
        let name = key.strip_prefix(prefix)?;
        crate::id::from_hex(name).filter(|bytes| bytes.len() == length)
    };
    let prefix = key.split_inclusive('/').next().unwrap_or(key);
    match prefix {
        CONFIG_KEY => Some(Kind::Config),
        update::PREFIX => update::number_of(key).map(|_| Kind::Update),
        SLOTS => hex(SLOTS, 16).map(|_| Kind::Slot),
        pack::PREFIX => pack::pack_of_key(key).map(|_| Kind::Pack),
        segment::PREFIX => segment::segment_of_key(key).map(|_| Kind::Segment),
        notes::SESSIONS => notes::session_of_key(key).map(|_| Kind::Session),
        manifest::PREFIX => hex(manifest::PREFIX, 16).map(|_| Kind::Manifest),
        notes::CONFIRMED => hex(notes::CONFIRMED, 16).map(|_| Kind::Confirmation),
        notes::MARKS => notes::mark_of_key(key).map(|_| Kind::Mark),
        notes::SWEEPS => key[prefix.len()..].parse::<SweepId>().ok().map(|_| Kind::Sweep),
        notes::RECORDS => notes::record_of_key(key).map(|_| Kind::Record),
        _ => None,
    }
}

struct ObjectCheck<'a> {
    repository: &'a Repository,
    trust: &'a Trust,
    /// Unreadable marks that a later one settled.
    settled: &'a BTreeSet<String>,
    findings: &'a Findings,
    progress: &'a dyn Progress,
    error: Mutex<Option<Error>>,
}

pub(super) fn check(
    repository: &Repository,
    listing: &[Listed],
    trust: &Trust,
    settled: &BTreeSet<String>,
    findings: &Findings,
    progress: &dyn Progress,
) -> Result<()> {
    let mut objects = Vec::new();
    for listed in listing {
        match kind_of(&listed.key) {
            Some(Kind::Pack | Kind::Segment) => {}
            Some(_) => objects.push(listed.clone()),
            None => findings.note(&listed.key, "is nothing this program knows; left alone", None),
        }
    }
    progress.event(Event::Stage("checking objects"));
    progress.event(Event::Expect { files: objects.len() as u64, bytes: 0 });
    findings.count(|counts| counts.objects = objects.len() as u64);
    let error = Mutex::default();
    let check = ObjectCheck { repository, trust, settled, findings, progress, error };
    let max_length = MAX_OBJECT as u64;
    let reading = Reading { threads: THREADS, budget_bytes: BUDGET_BYTES, max_length };
    read_many(&**repository.store(), &objects, reading, &|listed, read| check.object(listed, read));
    if let Some(error) = check.error.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    look_for_absent(repository, &objects, findings)
}

/// What must be there and is not.
fn look_for_absent(repository: &Repository, objects: &[Listed], findings: &Findings) -> Result<()> {
    let there: HashSet<&str> = objects.iter().map(|listed| listed.key.as_str()).collect();
    let slot = slot_key(repository.keyring().slot);
    for key in [CONFIG_KEY, &slot] {
        if !there.contains(key) {
            findings.damage(key, "is missing", None);
        }
    }
    let ids = |prefix: &str| -> HashSet<SnapshotId> {
        there.iter().filter_map(|key| snapshot_of_key(key, prefix)).collect()
    };
    let manifests = ids(manifest::PREFIX);
    for id in ids(notes::CONFIRMED).difference(&manifests) {
        // a sweep takes confirmations first: a manifest that is gone while its
        // confirmation stays was taken by nobody who may
        let confirmation = notes::confirmation_key(*id);
        if is_there(repository, &confirmation)? && !is_there(repository, &manifest_key(*id))? {
            let key = manifest_key(*id);
            match was_given_up(repository, *id)? {
                true => findings.note(&confirmation, "confirms what its run gave up", None),
                false => findings.damage(&key, "is missing, and was confirmed", None),
            }
        }
    }
    for key in there.iter().filter(|key| key.starts_with(notes::MARKS)) {
        if notes::mark_of_key(key).is_some_and(|(id, _)| !manifests.contains(&id)) {
            findings.note(key, "is a mark on a snapshot that is not there", None);
        }
    }
    Ok(())
}

/// Whether the run of a snapshot never called it good: a sweep took the manifest
/// before it was confirmed, and the run put another, or came no further.
fn was_given_up(repository: &Repository, id: SnapshotId) -> Result<bool> {
    let (snapshots, _) = repository.snapshots()?;
    if snapshots.iter().any(|snapshot| snapshot.manifest.replaces == Some(id)) {
        return Ok(true);
    }
    let runs = repository.list_runs()?.runs;
    Ok(runs.iter().any(|run| run.id == id && run.state != SessionState::Ended))
}

fn is_there(repository: &Repository, key: &str) -> Result<bool> {
    match repository.store().exists(key) {
        Err(error) if error.kind() == StoreKind::Truncated => Ok(true),
        found => Ok(found?),
    }
}

/// A store's refusal as a finding, or as the end of the check.
pub(super) fn unreadable(
    key: &str,
    error: StoreError,
    findings: &Findings,
) -> std::result::Result<(), Error> {
    match error.kind() {
        StoreKind::Temporary | StoreKind::Permission | StoreKind::Absent => Err(error.into()),
        StoreKind::TooLarge => {
            findings.damage(key, "is longer than any such object may be", None);
            Ok(())
        }
        // a sector that cannot be read is damage like any other
        _ => {
            findings.damage(key, &format!("cannot be read: {error}"), None);
            Ok(())
        }
    }
}

impl ObjectCheck<'_> {
    fn object(
        &self,
        listed: &Listed,
        read: std::result::Result<bytes::Bytes, StoreError>,
    ) -> ControlFlow<()> {
        self.progress.event(Event::Done { files: 1, bytes: 0 });
        let key = &listed.key;
        let stop = |error| {
            *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            ControlFlow::Break(())
        };
        if self.progress.interrupted() {
            return stop(Error::interrupted());
        }
        match read {
            // what a sweep may remove may go at any time
            Err(error) if error.kind() == StoreKind::NotFound => {}
            _ if self.settled.contains(key) => {
                let what = "cannot be read; a later undo settled it: a prune deletes it";
                self.findings.note(key, what, None);
            }
            Err(error) => {
                if let Err(error) = unreadable(key, error, self.findings) {
                    return stop(error);
                }
            }
            Ok(bytes) => match self.parse(key, &bytes) {
                Ok(()) => {}
                Err(error) => self.findings.format(key, &error),
            },
        }
        ControlFlow::Continue(())
    }

    fn parse(&self, key: &str, bytes: &[u8]) -> std::result::Result<(), FormatError> {
        let id = self.repository.id();
        let admin = &self.repository.keyring().admin;
        match kind_of(key) {
            Some(Kind::Config) => {
                let (config, object) = Config::parse(bytes)?;
                config.verify(&object, admin)
            }
            Some(Kind::Update) => ConfigUpdate::parse(bytes, id, key, admin).map(drop),
            Some(Kind::Slot) => {
                let (slot, object) = Slot::parse(bytes)?;
                slot.verify(&object, id, admin)?;
                if slot_key(slot.id) != key {
                    return Err(FormatError::new("SLOT-4", "lies under another name"));
                }
                self.note_slot(key, &slot);
                Ok(())
            }
            Some(kind) => self.signed(kind, key, bytes),
            None => Ok(()),
        }
    }

    fn note_slot(&self, key: &str, slot: &Slot) {
        let what = match self.trust.standing(slot.writer) {
            Standing::InForce(role) if role == slot.role => return,
            Standing::InForce(_) => "is listed with another role",
            Standing::Revoked(_) => "belongs to a revoked key",
            Standing::Unknown => "belongs to a key that is not listed",
        };
        self.findings.note(key, what, None);
    }

    fn signed(&self, kind: Kind, key: &str, bytes: &[u8]) -> std::result::Result<(), FormatError> {
        let opened = self.repository.open_object(kind, key, bytes.to_vec(), self.trust)?;
        let role = match opened.standing {
            Standing::InForce(role) | Standing::Revoked(role) => Some(role),
            Standing::Unknown => None,
        };
        let may_write = role.is_some_and(|role| role.may_write());
        let text = &opened.text;
        match kind {
            Kind::Session => {
                Session::parse(text)?;
                self.private(kind, key, bytes).map(drop)
            }
            Kind::Manifest => {
                let manifest = Manifest::parse(text)?;
                if snapshot_of_key(key, manifest::PREFIX) != Some(manifest.id) {
                    return Err(FormatError::new("MAN-5", "lies under another snapshot's name"));
                }
                if !may_write || manifest.writer != opened.writer {
                    let what = "is signed by a key that may not back up";
                    return Err(FormatError::new("MAN-6", what));
                }
                match self.private(kind, key, bytes)? {
                    Some(private) => PrivatePart::parse(&private).map(drop),
                    None => Ok(()),
                }
            }
            Kind::Confirmation => {
                let confirmation = Confirmation::parse(text)?;
                self.confirmation(key, &confirmation)
            }
            Kind::Mark => Mark::parse(text).map(drop),
            Kind::Sweep => {
                Sweep::parse(text)?;
                match role.is_some_and(|role| role.may_maintain()) {
                    true => Ok(()),
                    false => Err(FormatError::new("SWP-2", "is signed by no maintainer")),
                }
            }
            Kind::Record => {
                Record::parse(text)?;
                self.private(kind, key, bytes).map(drop)
            }
            _ => Ok(()),
        }
    }

    fn confirmation(
        &self,
        key: &str,
        confirmation: &Confirmation,
    ) -> std::result::Result<(), FormatError> {
        let Some(id) = snapshot_of_key(key, notes::CONFIRMED) else { return Ok(()) };
        let manifest = self.repository.store().get(&manifest_key(id), MAX_OBJECT as u64);
        // whether it is there, and can be read, is told elsewhere
        let Ok(manifest) = manifest else { return Ok(()) };
        if !object::hash_is_right(&manifest)
            || crate::id::ObjectHash::of(&manifest) == confirmation.manifest
        {
            return Ok(());
        }
        Err(FormatError::new("CFM-2", "confirms another manifest than the one listed"))
    }

    /// The attachment, if there is one and the key may open it.
    fn private(
        &self,
        kind: Kind,
        key: &str,
        bytes: &[u8],
    ) -> std::result::Result<Option<zeroize::Zeroizing<Vec<u8>>>, FormatError> {
        let object = object::parse(bytes, kind)?;
        if object.attachment.is_empty() {
            return Ok(None);
        }
        let content = match self.repository.keyring().content_private(object.epoch) {
            Ok(content) => content,
            Err(error) => {
                debug_assert_eq!(error.kind, ErrorKind::NoRight);
                self.findings.unproven("private parts of objects were not opened");
                return Ok(None);
            }
        };
        let place = Place { repository: self.repository.id(), kind, epoch: object.epoch, key };
        object.open_attachment(content, &place).map(Some)
    }
}
