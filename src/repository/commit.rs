//! How a run becomes a snapshot: signs of life, segments for its packs, the
//! manifest, the commit check, the confirmation. The order of the puts is an
//! invariant; `format-spec/13-protocol.md` says why.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::blocks::is_gone;
use super::error::{Error, ErrorKind, Result};
use super::index::NewPack;
use super::keyring::Standing;
use super::packer::{BLOCK_TARGET, Packer, PutPack, Sealer};
use super::sync::Troubles;
use super::{Repository, now_ms};
use crate::crypto::keys;
use crate::format::content::Root;
use crate::format::manifest::{Manifest, PrivatePart, manifest_key};
use crate::format::notes::{self, Confirmation, Session, Sweep, confirmation_key, session_key};
use crate::format::object::{self, Contents};
use crate::format::pack::{self, Birth, Chunk, Coordinate, pack_of_key};
use crate::format::page::{FinishedPage, PageBuilder, PageKind};
use crate::format::reference::Reference;
use crate::format::segment::{self, PackEntry, Sealing, segment_key};
use crate::format::{ChunkKind, Kind, Place};
use crate::id::{ChunkId, ObjectHash, PackId, SegmentId, SnapshotId};
use crate::progress::Progress;
use crate::store::ErrorKind as StoreKind;

/// Which coordinates a snapshot uses.
#[derive(Clone, Debug, Default)]
pub struct ReferenceSet {
    packs: BTreeMap<(Birth, PackId), Vec<u64>>,
}

impl ReferenceSet {
    pub fn add(&mut self, coordinate: Coordinate) {
        let bits = self.packs.entry((coordinate.birth, coordinate.pack)).or_default();
        let word = usize::from(coordinate.ordinal) / 64;
        if bits.len() <= word {
            bits.resize(word + 1, 0);
        }
        bits[word] |= 1 << (coordinate.ordinal % 64);
    }

    pub fn add_reference(&mut self, reference: &Reference) {
        for ordinal in reference.ordinals() {
            self.add(Coordinate { birth: reference.birth, pack: reference.pack, ordinal });
        }
    }

    pub fn contains(&self, coordinate: Coordinate) -> bool {
        let word = usize::from(coordinate.ordinal) / 64;
        let bits = self.packs.get(&(coordinate.birth, coordinate.pack));
        let bits = bits.and_then(|bits| bits.get(word));
        bits.is_some_and(|bits| bits >> (coordinate.ordinal % 64) & 1 == 1)
    }

    pub fn references(&self) -> impl Iterator<Item = Reference> + '_ {
        self.packs.iter().map(|((birth, pack), bits)| {
            let mut runs: Vec<(u16, u16)> = Vec::new();
            for (word, at) in bits.iter().zip(0u32..) {
                let mut rest = *word;
                while rest != 0 {
                    let ordinal = (at * 64 + rest.trailing_zeros()) as u16;
                    rest &= rest - 1;
                    match runs.last_mut() {
                        Some((_, last)) if u32::from(*last) + 1 == u32::from(ordinal) => {
                            *last = ordinal;
                        }
                        _ => runs.push((ordinal, ordinal)),
                    }
                }
            }
            Reference { birth: *birth, pack: *pack, runs }
        })
    }
}

/// Bytes of tables in one segment, so that it stays far below its limit.
const SEGMENT_TABLES: usize = 16 << 20;

/// Cuts a list of packs where their tables fill a segment.
fn segment_groups(packs: &[PutPack]) -> Vec<&[PutPack]> {
    let mut groups = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, pack) in packs.iter().enumerate() {
        if at > start && bytes + pack.frame.len() > SEGMENT_TABLES {
            groups.extend(packs.get(start..at));
            (start, bytes) = (at, 0);
        }
        bytes += pack.frame.len();
    }
    groups.extend(packs.get(start..).filter(|rest| !rest.is_empty()));
    groups
}

/// What sweeps that are under way have announced.
#[derive(Clone, Debug, Default)]
pub struct Doomed {
    pub packs: HashSet<PackId>,
    pub manifests: HashSet<SnapshotId>,
}

/// The pages of a reference set, and where they are kept.
pub struct StoredReferences {
    pub root: Root,
    pub pages: Vec<ChunkId>,
}

/// Something the snapshot needs went away while it was made.
pub struct Moved;

impl Repository {
    /// Signs and puts one small object. `private` is sealed to the content key.
    pub fn put_object(
        &self,
        kind: Kind,
        key: &str,
        payload: &[u8],
        private: Option<&[u8]>,
    ) -> Result<ObjectHash> {
        let place = Place { repository: self.id(), kind, epoch: self.keyring.epoch, key };
        let contents = Contents {
            place,
            writer: self.keyring.writer,
            index_key: Some(self.keyring.current_index_key()),
            payload,
            attachment: private.map(|text| (&self.keyring.content_public, text)),
        };
        let bytes = object::encode(&contents, &self.keyring.signer);
        let hash = ObjectHash::of(&bytes);
        self.store.put(key, bytes.into())?;
        Ok(hash)
    }

    pub fn put_session(
        &self,
        run: SnapshotId,
        number: u64,
        session: &Session,
        reason: Option<&str>,
    ) -> Result<()> {
        let key = session_key(run, number);
        let reason = reason.map(str::as_bytes);
        self.put_object(Kind::Session, &key, &session.encode(), reason).map(drop)
    }

    /// What plans in `sweeps/` name. Plans by others than maintainers announce
    /// nothing; they are told of.
    pub fn doomed(&self) -> Result<(Doomed, Troubles)> {
        let mut doomed = Doomed::default();
        let mut troubles = Vec::new();
        for key in self.listed_keys(notes::SWEEPS)? {
            let bytes = match self.store.get(&key, object::MAX_OBJECT as u64) {
                Ok(bytes) => bytes.to_vec(),
                Err(error) if is_gone(&error) => continue,
                Err(error)
                    if matches!(error.kind(), StoreKind::TooLarge | StoreKind::Unreadable) =>
                {
                    troubles.push(error.into());
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let opened =
                self.open_object(Kind::Sweep, &key, bytes, &self.trust).and_then(|opened| {
                    let may = match opened.standing {
                        Standing::InForce(role) | Standing::Revoked(role) => role.may_maintain(),
                        Standing::Unknown => false,
                    };
                    Ok((may, Sweep::parse(&opened.text)?))
                });
            match opened {
                Ok((true, sweep)) => {
                    doomed.packs.extend(sweep.packs);
                    doomed.manifests.extend(sweep.manifests);
                }
                Ok((false, _)) => {
                    troubles.push(Error::damage(format!("{key}: is signed by no maintainer")));
                }
                Err(error) => troubles.push(Error::in_object(&key, error)),
            }
        }
        Ok((doomed, troubles))
    }

    /// Packs in the store, with their lengths.
    pub fn listed_packs(&self) -> Result<HashMap<PackId, u64>> {
        let listed = self.store.list(pack::PREFIX)?;
        Ok(listed.iter().filter_map(|l| Some((pack_of_key(&l.key)?, l.length))).collect())
    }

    /// Puts segments for packs that were put, and adds them to the index.
    pub fn put_segments(&self, packs: &[PutPack]) -> Result<()> {
        for group in segment_groups(packs) {
            let sealing = Sealing {
                repository: self.id(),
                epoch: self.keyring.epoch,
                key: self.keyring.current_index_key(),
                signer: self.keyring.writer,
                signing: &self.keyring.signer,
            };
            let mut entries: Vec<PackEntry<'_>> = group
                .iter()
                .map(|pack| PackEntry {
                    id: pack.id,
                    length: pack.length,
                    frame: &pack.frame,
                    chunks: pack.toc.toc.chunks.iter().map(|chunk| chunk.id).collect(),
                })
                .collect();
            let bytes = segment::encode(&sealing, &[], &[], &mut entries);
            let id = SegmentId(*blake3::hash(&bytes).as_bytes());
            self.store.put(&segment_key(id), bytes.into())?;
            let new: Vec<NewPack> =
                group.iter().map(|pack| pack.as_new_pack(self.keyring.writer)).collect();
            self.index.add_segment(id, self.keyring.writer, &[], &[], &new)?;
        }
        Ok(())
    }

    /// Builds and stores the pages of a reference set.
    pub fn store_references(
        &self,
        set: &ReferenceSet,
        absent: &HashSet<PackId>,
        packer: &Packer,
        sealer: &Sealer,
    ) -> Result<StoredReferences> {
        let mut pages = Vec::new();
        let (mut raw, mut chunks) = (Vec::new(), Vec::new());
        let cut = keys::reference_cut(self.keyring.id_key(ChunkKind::Refs)?);
        let mut builder = PageBuilder::new(PageKind::Refs, cut, |page: FinishedPage| {
            let id = self.keyring.chunk_id(ChunkKind::Refs, &page.bytes)?;
            pages.push(id);
            if self.usable_place(&id, absent)?.is_none() && packer.claim(id) {
                if raw.len() + page.bytes.len() > BLOCK_TARGET {
                    let full = sealer.seal(ChunkKind::Refs, &raw, std::mem::take(&mut chunks))?;
                    raw.clear();
                    packer.add(full)?;
                }
                chunks.push(Chunk { id, length: page.bytes.len() as u32 });
                raw.extend_from_slice(&page.bytes);
            }
            Ok::<_, Error>(id)
        });
        for reference in set.references() {
            builder.push_reference(&reference)?;
        }
        let (root, _) = builder.finish()?;
        if !raw.is_empty() {
            packer.add(sealer.seal(ChunkKind::Refs, &raw, chunks)?)?;
        }
        Ok(StoredReferences { root, pages })
    }

    /// A place whose claim this client may build on, in a pack that does not
    /// count as absent.
    pub fn usable_place(
        &self,
        id: &ChunkId,
        absent: &HashSet<PackId>,
    ) -> Result<Option<super::index::Place>> {
        let places = self.index.places(id)?;
        if places.is_empty() {
            return Ok(None);
        }
        let claimants = self.claimants();
        for place in places {
            let Some(info) = self.index.pack(place.pack) else { continue };
            if absent.contains(&info.id) {
                continue;
            }
            let toc = self.index.toc(place.pack)?;
            if claimants.may_use(&info, &toc, place.ordinal) {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    /// Puts manifest and confirmation, with the checks in between that make the
    /// snapshot good. `Err(Moved)` inside: a pack it needs went away.
    pub fn commit(
        &self,
        mut manifest: Manifest,
        private: &PrivatePart,
        set: &ReferenceSet,
        references: &StoredReferences,
        progress: &dyn Progress,
    ) -> Result<std::result::Result<Manifest, Moved>> {
        for _ in 0..16 {
            let key = manifest_key(manifest.id);
            let hash =
                self.put_object(Kind::Manifest, &key, &manifest.encode(), Some(&private.encode()))?;
            if !self.everything_is_there(set, references, progress)? {
                return Ok(Err(Moved));
            }
            let confirmation = Confirmation { manifest: hash, time: now_ms(), kept: Vec::new() };
            let confirmed = confirmation_key(manifest.id);
            self.put_object(Kind::Confirmation, &confirmed, &confirmation.encode(), None)?;
            let (doomed, _) = self.doomed()?;
            let stays = !doomed.manifests.contains(&manifest.id)
                && self.exists(&key)?
                && self.exists(&confirmed)?;
            if stays {
                self.check_still_in_force()?;
                return Ok(Ok(manifest));
            }
            manifest.replaces = Some(manifest.id);
            manifest.id = SnapshotId::random();
        }
        Err(Error::new(
            ErrorKind::TryLater,
            "the snapshot was swept as often as it was made: try again when no prune is running",
        ))
    }

    fn check_still_in_force(&self) -> Result<()> {
        let trust = self.reload_trust()?;
        match trust.standing(self.keyring.writer) {
            Standing::InForce(_) => Ok(()),
            _ => Err(Error::no_right("this key was revoked while the backup ran")),
        }
    }

    fn exists(&self, key: &str) -> Result<bool> {
        match self.store.get_range(key, 0, 1) {
            Ok(_) => Ok(true),
            Err(error) if is_gone(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Lists sweeps, then segments, then packs: every coordinate and page must
    /// lie in an existing, indexed pack that no plan names.
    fn everything_is_there(
        &self,
        set: &ReferenceSet,
        references: &StoredReferences,
        progress: &dyn Progress,
    ) -> Result<bool> {
        let (doomed, _) = self.doomed()?;
        self.sync_index(progress)?;
        let listed = self.listed_packs()?;
        let standing = |id: &PackId| {
            let number = self.index.pack_number(*id);
            let info = number.and_then(|number| self.index.pack(number));
            info.is_some_and(|info| listed.get(id) == Some(&info.length))
                && !doomed.packs.contains(id)
        };
        let moved = self.moved_coordinates(&standing)?;
        for reference in set.references() {
            if standing(&reference.pack) {
                continue;
            }
            let covered = moved.get(&reference.pack);
            let all = reference
                .ordinals()
                .all(|ordinal| covered.is_some_and(|there| there.contains(&ordinal)));
            if !all {
                return Ok(false);
            }
        }
        for page in &references.pages {
            let places = self.index.places(page)?;
            let there = places
                .iter()
                .any(|place| self.index.pack(place.pack).is_some_and(|info| standing(&info.id)));
            if !there {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Ordinals of origin packs that maintainers moved into packs that stand.
    fn moved_coordinates(
        &self,
        standing: &dyn Fn(&PackId) -> bool,
    ) -> Result<HashMap<PackId, HashSet<u16>>> {
        let mut moved: HashMap<PackId, HashSet<u16>> = HashMap::new();
        for (number, info) in self.index.packs() {
            if !info.has_foreign || !standing(&info.id) {
                continue;
            }
            for run in &self.index.toc(number)?.toc.foreign {
                let ordinals = (0..run.count).map(|at| run.ordinal + at as u16);
                moved.entry(run.pack).or_default().extend(ordinals);
            }
        }
        Ok(moved)
    }
}
