//! Lists snapshots and judges them: who signed, whether the commit check passed,
//! what marks say.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::Repository;
use super::blocks::is_gone;
use super::error::{Error, ErrorKind, Result};
use super::index::CachedObject;
use super::keyring::{Standing, Trust};
use super::sets::Sets;
use super::sync::Troubles;
#[cfg(test)]
use crate::format::content::Root;
use crate::format::manifest::{self, Manifest, PrivatePart, manifest_key, snapshot_of_key};
use crate::format::notes::{self, Confirmation, Mark, MarkKind, confirmation_key};
use crate::format::object::{self, MAX_OBJECT};
use crate::format::{FormatError, Kind, Place};
#[cfg(test)]
use crate::id::ChunkId;
use crate::id::{ObjectHash, PackId, SnapshotId, WriterId};
use crate::store::{Ahead, ErrorKind as StoreKind, both, in_order};

/// Small objects on their way at once, for each operation that suits the store.
const SMALL_AT_ONCE: usize = 4;
/// Objects that are read and cached together.
const OBJECTS_TOGETHER: usize = 2048;

/// Whether a snapshot can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The commit check passed: everything it needs was there.
    Confirmed,
    /// The run ended before its commit check did.
    Unconfirmed,
    /// Signed by a writer that was revoked, and not listed as standing.
    Distrusted,
}

#[derive(Clone, Debug)]
pub struct Snapshot {
    pub id: SnapshotId,
    pub manifest: Manifest,
    pub hash: ObjectHash,
    pub state: State,
    pub name: Option<String>,
    pub description: Option<String>,
    pub tags: Vec<String>,
    pub pinned: bool,
    /// When it was marked to be forgotten, in ms since 1970.
    pub forgotten: Option<u64>,
    /// A confirmed manifest of the same writer replaces it.
    pub replaced: bool,
    /// Packs that a mark on it calls damaged.
    pub damaged: BTreeSet<PackId>,
}

impl Snapshot {
    /// Usable as a parent and as `latest`.
    pub fn is_good(&self) -> bool {
        self.state == State::Confirmed && self.forgotten.is_none() && !self.replaced
    }

    pub fn is_complete(&self) -> bool {
        self.is_good() && self.manifest.outcome == manifest::Outcome::Complete
    }
}

/// A manifest that cannot be believed: unreadable, or signed by nobody who may.
#[derive(Clone, Debug)]
pub struct Unbelieved {
    pub id: SnapshotId,
    pub error: Error,
    /// When it was marked to be forgotten all the same.
    pub forgotten: Option<u64>,
}

/// Everything the store lists of snapshots.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Oldest first.
    pub snapshots: Vec<Snapshot>,
    /// Objects that earn nothing: they could not be believed.
    pub troubles: Troubles,
    pub unbelieved: Vec<Unbelieved>,
    /// Snapshots of which a mark could not be read, and no later one tells whether
    /// they are forgotten: they stay.
    pub unclear: BTreeSet<SnapshotId>,
    /// Snapshots whose confirmation could not be read: nobody can call them never
    /// confirmed.
    pub unreadable_confirmations: BTreeSet<SnapshotId>,
    /// Keys of marks that could not be read and that a later undo settled: they
    /// count for nothing.
    pub settled_marks: BTreeSet<String>,
    /// Packs that a mark calls damaged.
    pub damaged: BTreeSet<PackId>,
    /// The newest time that a manifest that is believed, the confirmation of
    /// one, or a mark tells, in ms since 1970. What runs and the store tell, too, is
    /// in [`Repository::newest_time`].
    pub newest_time: u64,
}

impl Listing {
    /// Whether something said of a snapshot could not be read: no rule looks at it.
    pub fn is_unclear(&self, id: SnapshotId) -> bool {
        self.unclear.contains(&id) || self.unreadable_confirmations.contains(&id)
    }
}

/// An object that a listed writer signed, opened with the index key.
pub(crate) struct Opened {
    pub writer: WriterId,
    pub standing: Standing,
    pub text: Vec<u8>,
    pub bytes: Vec<u8>,
}

impl Repository {
    /// Reads small objects, from the cache where it has them, the others many at
    /// once: each costs a way to the store and back, and nearly nothing else.
    /// Objects that are gone since they were listed are left out.
    pub(crate) fn read_objects(&self, keys: &[String]) -> Result<HashMap<String, Vec<u8>>> {
        let mut found = HashMap::with_capacity(keys.len());
        let mut wanted = Vec::new();
        for key in keys {
            let Some(object) = self.index.cached_object(key) else {
                wanted.push(key);
                continue;
            };
            if let Some(proof) = object.proof {
                self.proofs.recall(key, proof);
            }
            found.insert(key.clone(), object.bytes);
        }
        let threads = match self.store.concurrency() {
            0 | 1 => 1,
            several => several * SMALL_AT_ONCE,
        };
        let ahead = Ahead { requests: threads, budget_bytes: u64::MAX };
        // a part at a time, so that what is read is held once
        for wanted in wanted.chunks(OBJECTS_TOGETHER) {
            let mut fetched = Vec::new();
            let read = |key: &&String| self.read_object(key);
            in_order(
                wanted,
                ahead,
                |_| 0,
                read,
                |key, read| {
                    let Some(bytes) = read? else { return Ok(()) };
                    if object::hash_is_right(&bytes) {
                        let object = CachedObject { bytes: bytes.clone(), proof: None };
                        fetched.push((key.as_str(), object));
                    }
                    found.insert((*key).clone(), bytes);
                    Ok::<_, Error>(())
                },
            )?;
            self.index.cache_objects(fetched.iter().map(|(key, object)| (*key, object)));
        }
        Ok(found)
    }

    /// One object from the store, if it is there.
    fn read_object(&self, key: &str) -> Result<Option<Vec<u8>>> {
        match self.store.get(key, MAX_OBJECT as u64) {
            Ok(bytes) => Ok(Some(bytes.to_vec())),
            Err(error) if is_gone(&error) => Ok(None),
            // one absurd object must not keep all others from being read:
            // as no bytes at all it is refused by its parser and reported
            Err(error) if matches!(error.kind(), StoreKind::TooLarge | StoreKind::Unreadable) => {
                Ok(Some(Vec::new()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Checks an object's signer and opens its public part.
    pub(crate) fn open_object(
        &self,
        kind: Kind,
        key: &str,
        bytes: Vec<u8>,
        trust: &Trust,
    ) -> std::result::Result<Opened, FormatError> {
        let object = object::parse(&bytes, kind)?;
        let place = Place { repository: self.id(), kind, epoch: object.epoch, key };
        let verify = trust.verify_key(object.writer).ok_or_else(|| {
            FormatError::new("OBJ-7", "is signed by nobody this repository lists")
        })?;
        self.verify_once(&object, &bytes, verify, &place)?;
        let text = object.open(self.keyring.index_key(object.epoch)?, &place)?;
        let writer = object.writer;
        Ok(Opened { writer, standing: trust.standing(writer), text, bytes })
    }

    pub(crate) fn listed_keys(&self, prefix: &str) -> Result<Vec<String>> {
        Ok(self.store.list(prefix)?.into_iter().map(|listed| listed.key).collect())
    }

    /// All snapshots, oldest first, and the objects that could not be believed.
    pub fn snapshots(&self) -> Result<(Vec<Snapshot>, Troubles)> {
        let listing = self.list_snapshots()?;
        Ok((listing.snapshots, listing.troubles))
    }

    /// Lists confirmations and marks, then manifests, and judges all of them.
    pub fn list_snapshots(&self) -> Result<Listing> {
        let (confirmed, marks) = both(
            &*self.store,
            || self.listed_keys(notes::CONFIRMED),
            || self.listed_keys(notes::MARKS),
        );
        let (confirmed, marks) = (confirmed?, marks?);
        let manifests = self.listed_keys(manifest::PREFIX)?;
        self.judge_snapshots(manifests, confirmed, marks)
    }

    /// The same for who only looks: confirmations are listed only if one is not in
    /// the cache. One that was seen goes only in a sweep that names its manifest
    /// and takes that next; one that the store lost is found by `check`.
    pub fn look_at_snapshots(&self) -> Result<Listing> {
        let marks = self.listed_keys(notes::MARKS)?;
        let manifests = self.listed_keys(manifest::PREFIX)?;
        let seen: Option<Vec<String>> = manifests
            .iter()
            .map(|key| {
                let key = confirmation_key(snapshot_of_key(key, manifest::PREFIX)?);
                self.index.cached_object(&key).map(|_| key)
            })
            .collect();
        let confirmed = match seen {
            Some(seen) => seen,
            None => self.listed_keys(notes::CONFIRMED)?,
        };
        self.judge_snapshots(manifests, confirmed, marks)
    }

    fn judge_snapshots(
        &self,
        manifests: Vec<String>,
        confirmed: Vec<String>,
        marks: Vec<String>,
    ) -> Result<Listing> {
        let objects =
            self.read_objects(&[manifests.clone(), confirmed.clone(), marks.clone()].concat())?;
        // loaded after the listing it judges, when somebody new signed
        let reloaded =
            if self.has_unknown_signer(&objects) { Some(self.reload_trust()?) } else { None };
        let trust = reloaded.as_ref().unwrap_or(&self.trust);
        let mut listing = Listing::default();
        let mut snapshots = BTreeMap::new();
        for key in &manifests {
            let (Some(bytes), Some(id)) =
                (objects.get(key), snapshot_of_key(key, manifest::PREFIX))
            else {
                continue;
            };
            match self.judge_manifest(key, bytes.clone(), trust) {
                Ok(snapshot) => {
                    // whoever was revoked must not set everybody's clock
                    if snapshot.state != State::Distrusted {
                        listing.newest_time = listing.newest_time.max(snapshot.manifest.ended);
                    }
                    snapshots.insert(snapshot.id, snapshot);
                }
                Err(error) => {
                    let error = Error::in_object(key, error);
                    listing.troubles.push(error.clone());
                    listing.unbelieved.push(Unbelieved { id, error, forgotten: None });
                }
            }
        }
        for key in &confirmed {
            let Some(bytes) = objects.get(key) else { continue };
            match self.confirm(key, bytes.clone(), trust, &mut snapshots) {
                Ok(time) => listing.newest_time = listing.newest_time.max(time),
                Err(error) => {
                    let id = snapshot_of_key(key, notes::CONFIRMED);
                    listing.unreadable_confirmations.extend(id);
                    listing.troubles.push(Error::in_object(key, error));
                }
            }
        }
        self.apply_marks(&marks, &objects, trust, &mut snapshots, &mut listing);
        if !listing.troubles.is_empty() {
            let keys = objects.keys().map(String::as_str);
            self.index.forget_objects(keys);
        }
        self.keep_proofs();
        mark_replaced(&mut snapshots);
        listing.snapshots = snapshots.into_values().collect();
        listing.snapshots.sort_by_key(|snapshot| (snapshot.manifest.started, snapshot.id));
        Ok(listing)
    }

    pub(crate) fn has_unknown_signer(&self, objects: &HashMap<String, Vec<u8>>) -> bool {
        objects.values().any(|bytes| {
            let writer = bytes.get(20..36).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
            writer.is_some_and(|writer| self.trust.standing(WriterId(writer)) == Standing::Unknown)
        })
    }

    fn judge_manifest(
        &self,
        key: &str,
        bytes: Vec<u8>,
        trust: &Trust,
    ) -> std::result::Result<Snapshot, FormatError> {
        let opened = self.open_object(Kind::Manifest, key, bytes, trust)?;
        let manifest = Manifest::parse(&opened.text)?;
        if snapshot_of_key(key, manifest::PREFIX) != Some(manifest.id) {
            return Err(FormatError::new("MAN-5", "lies under another snapshot's name"));
        }
        let may_sign = match opened.standing {
            Standing::InForce(role) | Standing::Revoked(role) => role.may_write(),
            Standing::Unknown => false,
        };
        if !may_sign || manifest.writer != opened.writer {
            return Err(FormatError::new("MAN-6", "is signed by a key that may not back up"));
        }
        let hash = ObjectHash::of(&opened.bytes);
        let stands = matches!(opened.standing, Standing::InForce(_))
            || trust.stands(opened.writer, manifest.id, hash);
        Ok(Snapshot {
            id: manifest.id,
            hash,
            state: if stands { State::Unconfirmed } else { State::Distrusted },
            name: None,
            description: None,
            tags: manifest.tags.clone(),
            pinned: false,
            forgotten: None,
            replaced: false,
            damaged: BTreeSet::new(),
            manifest,
        })
    }

    /// The time it tells: none, if nothing that can be relied on is confirmed.
    fn confirm(
        &self,
        key: &str,
        bytes: Vec<u8>,
        trust: &Trust,
        snapshots: &mut BTreeMap<SnapshotId, Snapshot>,
    ) -> std::result::Result<u64, FormatError> {
        let opened = self.open_object(Kind::Confirmation, key, bytes, trust)?;
        let confirmation = Confirmation::parse(&opened.text)?;
        let id = snapshot_of_key(key, notes::CONFIRMED)
            .ok_or_else(|| FormatError::new("CFM-2", "names no snapshot"))?;
        let Some(snapshot) = snapshots.get_mut(&id) else { return Ok(0) };
        if confirmation.manifest != snapshot.hash || opened.writer != snapshot.manifest.writer {
            return Err(FormatError::new("CFM-2", "confirms another manifest than the one listed"));
        }
        if snapshot.state == State::Distrusted {
            return Ok(0);
        }
        snapshot.state = State::Confirmed;
        Ok(confirmation.time)
    }

    fn apply_marks(
        &self,
        keys: &[String],
        objects: &HashMap<String, Vec<u8>>,
        trust: &Trust,
        snapshots: &mut BTreeMap<SnapshotId, Snapshot>,
        listing: &mut Listing,
    ) {
        let mut marks: Vec<ListedMark> = Vec::new();
        let mut unreadable = Vec::new();
        for key in keys {
            let (Some(bytes), Some((id, number))) = (objects.get(key), notes::mark_of_key(key))
            else {
                continue;
            };
            let read = self.open_object(Kind::Mark, key, bytes.clone(), trust).and_then(|opened| {
                let mark = Mark::parse(&opened.text)?;
                let own = snapshots.get(&id).is_some_and(|s| s.manifest.writer == opened.writer);
                if mark_is_allowed(&mark.kind, opened.standing, own) {
                    // whoever was revoked must not set everybody's clock
                    let tells_time = matches!(opened.standing, Standing::InForce(_));
                    Ok((mark, tells_time))
                } else {
                    Err(FormatError::new("MARK-3", "is signed by a key without the right for it"))
                }
            });
            match read {
                Ok((mark, tells_time)) => {
                    if tells_time {
                        listing.newest_time = listing.newest_time.max(mark.time);
                    }
                    marks.push(ListedMark { id, number, key: key.clone(), mark });
                }
                Err(error) => {
                    // one that was read and may not be said changes nothing
                    let changes_nothing = error.rule == "MARK-3";
                    let error = Error::in_object(key, error);
                    match changes_nothing {
                        true => listing.troubles.push(error),
                        false => unreadable.push((id, number, key, error)),
                    }
                }
            }
        }
        for (id, number, key, error) in unreadable {
            if marks.iter().any(|mark| mark.settles(id, number)) {
                listing.settled_marks.insert(key.clone());
                continue;
            }
            listing.troubles.push(error);
            if !marks.iter().any(|mark| mark.forgets_after(id, number)) {
                listing.unclear.insert(id);
            }
        }
        // of equal numbers an undo counts last, else the greater name
        marks.sort_by(|a, b| (a.number, a.is_undo(), &a.key).cmp(&(b.number, b.is_undo(), &b.key)));
        for ListedMark { id, mark, .. } in marks {
            if let MarkKind::Damaged(packs) = &mark.kind {
                listing.damaged.extend(packs);
            }
            if let Some(snapshot) = snapshots.get_mut(&id) {
                apply(snapshot, mark);
            } else if let Some(other) = listing.unbelieved.iter_mut().find(|u| u.id == id) {
                match mark.kind {
                    MarkKind::Forget => other.forgotten = Some(mark.time),
                    MarkKind::Undo => other.forgotten = None,
                    _ => {}
                }
            }
        }
    }

    /// What only a reader can open of a snapshot.
    pub fn private_part(&self, snapshot: &Snapshot) -> Result<PrivatePart> {
        let key = manifest_key(snapshot.id);
        let objects = self.read_objects(std::slice::from_ref(&key))?;
        let bytes = objects.get(&key).ok_or_else(|| Error::damage(format!("{key}: is gone")))?;
        // the bytes may have come from the store once more: only what was judged counts
        if ObjectHash::of(bytes) != snapshot.hash {
            return Err(Error::damage(format!("{key}: is not the manifest that was listed")));
        }
        let in_object = |error| Error::in_object(&key, error);
        let object = object::parse(bytes, Kind::Manifest).map_err(in_object)?;
        let place =
            Place { repository: self.id(), kind: Kind::Manifest, epoch: object.epoch, key: &key };
        let private = self.keyring.content_private(object.epoch)?;
        let text = object.open_attachment(private, &place).map_err(in_object)?;
        PrivatePart::parse(&text).map_err(in_object)
    }

    /// The one snapshot whose id begins with `prefix`, or that has this name.
    pub fn find_snapshot<'a>(
        &self,
        snapshots: &'a [Snapshot],
        wanted: &str,
    ) -> Result<&'a Snapshot> {
        let named = snapshots.iter().rev().find(|s| s.name.as_deref() == Some(wanted));
        if let Some(snapshot) = named {
            return Ok(snapshot);
        }
        let hex = wanted.len() >= 2 && wanted.bytes().all(|b| b.is_ascii_hexdigit());
        let lower = wanted.to_ascii_lowercase();
        let matching: Vec<_> =
            snapshots.iter().filter(|s| hex && s.id.to_hex().starts_with(&lower)).collect();
        match matching.as_slice() {
            [snapshot] => Ok(snapshot),
            [] => Err(none_called(snapshots, wanted)),
            several => Err(Error::new(
                ErrorKind::Usage,
                format!("{} snapshots begin with {wanted:?}: type more of the id", several.len()),
            )),
        }
    }
}

/// Nothing has this name, or a set has it.
fn none_called(snapshots: &[Snapshot], wanted: &str) -> Error {
    let sets = Sets::standing(snapshots);
    let Ok(Some(set)) = sets.find(wanted) else {
        return Error::new(ErrorKind::Failed, format!("no snapshot is called {wanted:?}"));
    };
    let parts = set.parts.iter().filter_map(|(part, snapshot)| {
        snapshot.map(|snapshot| format!("{part} is {}", &snapshot.id.to_hex()[..8]))
    });
    let parts: Vec<String> = parts.collect();
    let message = format!("{wanted:?} is a set: name one part of it: {}", parts.join(", "));
    Error::new(ErrorKind::Usage, message)
}

/// A mark that was read and may be said.
struct ListedMark {
    id: SnapshotId,
    number: u64,
    key: String,
    mark: Mark,
}

impl ListedMark {
    fn is_undo(&self) -> bool {
        self.mark.kind == MarkKind::Undo
    }

    /// Whether an unreadable mark counts for nothing because of this one. Where
    /// there is no room above it, any undo will do.
    fn settles(&self, id: SnapshotId, number: u64) -> bool {
        let is_above = self.number > number || number >= notes::FIRST_ABSURD_MARK;
        self.is_undo() && self.id == id && is_above
    }

    /// Whether, whatever an unreadable mark says, its snapshot is forgotten.
    fn forgets_after(&self, id: SnapshotId, number: u64) -> bool {
        self.mark.kind == MarkKind::Forget && self.id == id && self.number > number
    }
}

fn mark_is_allowed(kind: &MarkKind, standing: Standing, own: bool) -> bool {
    match kind {
        // what a revoked maintainer did to protect still counts
        MarkKind::Undo => matches!(
            standing,
            Standing::InForce(role) | Standing::Revoked(role) if role.may_maintain()
        ),
        MarkKind::Forget => standing.may_maintain(),
        MarkKind::Damaged(_) => matches!(standing, Standing::InForce(_)),
        _ => standing.may_maintain() || (own && standing.may_write()),
    }
}

fn apply(snapshot: &mut Snapshot, mark: Mark) {
    match mark.kind {
        MarkKind::Forget => snapshot.forgotten = Some(mark.time),
        MarkKind::Undo => snapshot.forgotten = None,
        MarkKind::Name(name) => snapshot.name = Some(name).filter(|name| !name.is_empty()),
        MarkKind::Description(text) => {
            snapshot.description = Some(text).filter(|text| !text.is_empty());
        }
        MarkKind::Tags { add, remove } => {
            snapshot.tags.retain(|tag| !remove.contains(tag));
            let new: Vec<_> = add.into_iter().filter(|t| !snapshot.tags.contains(t)).collect();
            snapshot.tags.extend(new);
        }
        MarkKind::Pin(pinned) => snapshot.pinned = pinned,
        MarkKind::Damaged(packs) => snapshot.damaged.extend(packs),
    }
}

fn mark_replaced(snapshots: &mut BTreeMap<SnapshotId, Snapshot>) {
    let replaced: HashSet<(SnapshotId, WriterId)> = snapshots
        .values()
        .filter(|snapshot| snapshot.state == State::Confirmed)
        .filter_map(|snapshot| Some((snapshot.manifest.replaces?, snapshot.manifest.writer)))
        .collect();
    for snapshot in snapshots.values_mut() {
        snapshot.replaced = replaced.contains(&(snapshot.id, snapshot.manifest.writer));
    }
}

#[cfg(test)]
impl Snapshot {
    /// A complete, confirmed one, of which there is nothing else to tell.
    pub fn example(id: [u8; 16], host: &str, profile: &str, started: u64) -> Snapshot {
        let id = SnapshotId(id);
        let manifest = Manifest {
            id,
            outcome: manifest::Outcome::Complete,
            started,
            ended: started + 1000,
            zone: "UTC".into(),
            host: host.into(),
            profile: profile.into(),
            sources: Vec::new(),
            writer: WriterId([1; 16]),
            set: None,
            tags: Vec::new(),
            expires: None,
            promises: manifest::Promises::default(),
            counts: manifest::Counts::default(),
            parent: None,
            replaces: None,
            copied_from: None,
            references: Root { id: ChunkId([0; 32]), level: 0 },
            program: "esker".into(),
            kept: Vec::new(),
        };
        Snapshot {
            id,
            manifest,
            hash: ObjectHash([0; 32]),
            state: State::Confirmed,
            name: None,
            description: None,
            tags: Vec::new(),
            pinned: false,
            forgotten: None,
            replaced: false,
            damaged: Default::default(),
        }
    }
}
