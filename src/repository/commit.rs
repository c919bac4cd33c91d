//! How a run becomes a snapshot: signs of life, segments for its packs, the
//! manifest, the commit check, the confirmation. The order of the puts is an
//! invariant; `format-spec/13-protocol.md` says why.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

use super::blocks::is_gone;
use super::coordinates::ReferenceSet;
use super::error::{Error, ErrorKind, Result};
use super::keyring::{Standing, Trust};
use super::packer::{Packer, Sealer, block_target};
use super::sync::Troubles;
use super::{Repository, now_ms};
use crate::crypto::keys;
use crate::format::content::Root;
use crate::format::manifest::{Manifest, PrivatePart, manifest_key};
use crate::format::notes::{self, Confirmation, Session, Sweep, confirmation_key, session_key};
use crate::format::object::{self, Contents};
use crate::format::pack::{self, Chunk, pack_of_key};
use crate::format::page::{FinishedPage, PageBuilder, PageKind};
use crate::format::{ChunkKind, FormatError, Kind, Place};
use crate::id::{ChunkId, ObjectHash, PackId, SnapshotId};
use crate::progress::Progress;
use crate::store::{ErrorKind as StoreKind, both, get_each};

/// A sweep that was announced: what is about to go, or went half.
#[derive(Clone, Debug)]
pub struct Announced {
    pub key: String,
    pub sweep: Sweep,
}

/// Everything in `sweeps/`.
#[derive(Clone, Debug, Default)]
pub struct Plans {
    pub announced: Vec<Announced>,
    /// Plans that cannot be read: nobody knows what is about to go.
    pub unreadable: Vec<(String, Error)>,
    /// Plans by others than maintainers.
    pub ignored: Troubles,
}

/// What sweeps that are under way have announced.
#[derive(Clone, Debug, Default)]
pub struct Doomed {
    pub packs: HashSet<PackId>,
    pub manifests: HashSet<SnapshotId>,
}

impl Doomed {
    pub fn of<'a>(plans: impl IntoIterator<Item = &'a Announced>) -> Doomed {
        let mut doomed = Doomed::default();
        for plan in plans {
            doomed.packs.extend(&plan.sweep.packs);
            doomed.manifests.extend(&plan.sweep.manifests);
        }
        doomed
    }
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
        self.put(key, bytes.into())?;
        Ok(hash)
    }

    /// Puts an object; who maintains may use the space that was set aside for
    /// the day the store is full.
    pub(crate) fn put(&self, key: &str, bytes: bytes::Bytes) -> Result<()> {
        match self.store.put(key, bytes.clone()) {
            Err(error)
                if error.kind() == StoreKind::Full
                    && self.may_use_reserve.load(Ordering::Relaxed)
                    && self.store.release_reserve()? =>
            {
                Ok(self.store.put(key, bytes)?)
            }
            result => Ok(result?),
        }
    }

    /// Waits as long as this store's listings may lag behind a put.
    pub fn wait_for_listings(&self) {
        if let Some(lag) = self.update().listing_lag {
            self.store.wait(std::time::Duration::from_secs(lag));
        }
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

    /// What plans in `sweeps/` name, and what of them cannot be believed.
    pub fn doomed(&self) -> Result<(Doomed, Troubles)> {
        let plans = self.announced()?;
        let doomed = Doomed::of(&plans.announced);
        let unreadable = plans.unreadable.into_iter().map(|(_, error)| error);
        Ok((doomed, unreadable.chain(plans.ignored).collect()))
    }

    /// What plans name, for those who rely on data, and plans that announce nothing.
    ///
    /// Fails when a plan cannot be read: whatever is relied on might be in it.
    pub fn surely_doomed(&self) -> Result<(Doomed, Troubles)> {
        let plans = self.announced()?;
        if let Some((_, error)) = plans.unreadable.first() {
            return Err(Error::damage(format!(
                "{error}: it may name what is relied on here; \
                 run `esker prune --drop-unreadable-plans` while no other prune runs"
            )));
        }
        Ok((Doomed::of(&plans.announced), plans.ignored))
    }

    /// The plans in `sweeps/`. Those by others than maintainers announce nothing.
    pub fn announced(&self) -> Result<Plans> {
        let mut plans = Plans::default();
        let mut objects = HashMap::new();
        let keys = self.listed_keys(notes::SWEEPS)?;
        get_each(&*self.store, &keys, object::MAX_OBJECT as u64, |key, object| {
            match object {
                Ok(bytes) => drop(objects.insert(key.clone(), bytes.to_vec())),
                Err(error) if is_gone(&error) => {}
                Err(error)
                    if matches!(error.kind(), StoreKind::TooLarge | StoreKind::Unreadable) =>
                {
                    plans.unreadable.push((key.clone(), error.into()));
                }
                Err(error) => return Err(Error::from(error)),
            }
            Ok(())
        })?;
        // loaded after the listing it judges, when somebody new signed
        let reloaded =
            if self.has_unknown_signer(&objects) { Some(self.reload_trust()?) } else { None };
        let trust = reloaded.as_ref().unwrap_or(&self.trust);
        let mut objects: Vec<_> = objects.into_iter().collect();
        objects.sort_unstable();
        for (key, bytes) in objects {
            match self.open_plan(&key, bytes, trust) {
                Ok((true, sweep)) => plans.announced.push(Announced { key, sweep }),
                Ok((false, _)) => {
                    let error = Error::damage(format!("{key}: is signed by no maintainer"));
                    plans.ignored.push(error);
                }
                Err(error) => {
                    let error = Error::in_object(&key, error);
                    plans.unreadable.push((key, error));
                }
            }
        }
        Ok(plans)
    }

    /// A plan, and whether its signer may announce one. What a maintainer
    /// announced before he was revoked may be half deleted.
    fn open_plan(
        &self,
        key: &str,
        bytes: Vec<u8>,
        trust: &Trust,
    ) -> std::result::Result<(bool, Sweep), FormatError> {
        let opened = self.open_object(Kind::Sweep, key, bytes, trust)?;
        let may = match opened.standing {
            Standing::InForce(role) | Standing::Revoked(role) => role.may_maintain(),
            Standing::Unknown => false,
        };
        Ok((may, Sweep::parse(&opened.text)?))
    }

    /// Packs in the store, with their lengths.
    pub fn listed_packs(&self) -> Result<HashMap<PackId, u64>> {
        self.listed_packs_under(pack::PREFIX)
    }

    /// Packs under a prefix of their keys, with their lengths.
    pub(super) fn listed_packs_under(&self, prefix: &str) -> Result<HashMap<PackId, u64>> {
        let listed = self.store.list(prefix)?;
        Ok(listed.iter().filter_map(|l| Some((pack_of_key(&l.key)?, l.length))).collect())
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
                if raw.len() + page.bytes.len() > block_target(ChunkKind::Refs) {
                    let full = sealer.seal(ChunkKind::Refs, &raw, std::mem::take(&mut chunks))?;
                    raw.clear();
                    packer.add(&full)?;
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
            packer.add(&sealer.seal(ChunkKind::Refs, &raw, chunks)?)?;
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
            if claimants.may_use(claimants.claim(&info), &toc, place.ordinal) {
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
            let mut look = self.look(progress)?;
            if !look.all_stands(set, &references.pages)? {
                return Ok(Err(Moved));
            }
            let confirmation = Confirmation { manifest: hash, time: now_ms(), kept: Vec::new() };
            let confirmed = confirmation_key(manifest.id);
            self.put_object(Kind::Confirmation, &confirmed, &confirmation.encode(), None)?;
            self.wait_for_listings();
            let (doomed, _) = self.surely_doomed()?;
            let stays = !doomed.manifests.contains(&manifest.id);
            if stays && self.both_exist(&key, &confirmed)? {
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

    fn both_exist(&self, one: &str, other: &str) -> Result<bool> {
        let (one, other) = both(&*self.store, || self.exists(one), || self.exists(other));
        Ok(one? && other?)
    }

    pub(crate) fn exists(&self, key: &str) -> Result<bool> {
        Ok(self.store.exists(key)?)
    }
}
