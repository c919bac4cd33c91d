//! What is read before a repository can be opened: `config`, slots and updates.
//! Nothing a store can alter is believed before a slot's seal vouches for the
//! admin key.
//!
//! `format-spec/02-keys.md`, `format-spec/05-config.md`

use bytes::Bytes;

use super::error::{Error, ErrorKind, Result};
use super::index::{CachedObject, Index};
use super::keyring::{Keyring, Standing, Trust};
use super::local::LocalState;
use super::open::{Unlock, no_repository, other_repository};
use super::updates::{UpdateObjects, Updates};
use crate::crypto::keys::key_file_input;
use crate::format::config::{CONFIG_KEY, Config};
use crate::format::object::MAX_OBJECT;
use crate::format::slot::{Secrets, Slot, slot_key};
use crate::format::update;
use crate::id::SlotId;
use crate::store::{ErrorKind as StoreKind, Store, both, get_each};

const SLOTS: &str = "keys/";

/// The objects as they were read; nothing of them is believed yet.
pub(super) struct Opening {
    config: Bytes,
    slots: SlotObjects,
    updates: UpdateObjects,
}

/// A slot that opened.
pub(super) struct Unlocked {
    config: Config,
    slot: SlotId,
    pub secrets: Secrets,
}

/// All of it, verified.
pub(super) struct Opened {
    pub config: Config,
    pub keyring: Keyring,
    pub trust: Trust,
    pub updates: Updates,
    /// What another opening may begin with, by key.
    objects: Vec<(String, Bytes)>,
}

impl Opening {
    /// Reads all of it; two ways to the store and back. `known` says that this machine used a repository here before.
    pub fn get(store: &dyn Store, known: bool) -> Result<Opening> {
        // what they say is looked at in this order; none is needed to ask for another
        let (config, (slots, updates)) = both(
            store,
            || store.get(CONFIG_KEY, MAX_OBJECT as u64),
            || both(store, || SlotObjects::get(store), || UpdateObjects::get(store, None)),
        );
        let config = match config {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == StoreKind::NotFound && known => {
                return Err(other_repository(store.url()));
            }
            Err(error) if error.kind() == StoreKind::NotFound => {
                return Err(no_repository(store.url()));
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Opening { config, slots: slots?, updates: updates? })
    }

    /// What opened the repository before. Nothing if the store does not list just the
    /// updates that were seen: then another repository may lie there, or none, or
    /// something was said of keys since; every `key` command puts an update. Nothing
    /// either if it was long ago: what is no longer read must be missed some day.
    pub fn remembered(
        store: &dyn Store,
        index: &Index,
        local: &LocalState,
    ) -> Result<Option<Opening>> {
        if !local.was_opened_lately() {
            return Ok(None);
        }
        let Some(config) = index.sound_object(CONFIG_KEY) else { return Ok(None) };
        let slots = index.cached_keys(SLOTS).into_iter();
        let slots: Vec<_> =
            slots.filter_map(|key| Some((index.sound_object(&key)?, key))).collect();
        let seen = index.cached_keys(update::PREFIX);
        if slots.is_empty() || seen.is_empty() {
            return Ok(None);
        }
        let updates = UpdateObjects::get(store, Some(index))?;
        let is_there = |key: &String| updates.keys().any(|listed| listed == key);
        if updates.keys().count() != seen.len() || !seen.iter().all(is_there) {
            return Ok(None);
        }
        let slots = SlotObjects(slots.into_iter().map(|(bytes, key)| (key, bytes)).collect());
        Ok(Some(Opening { config, slots, updates }))
    }

    /// Opens with what is remembered of the repository whose local state this is.
    pub fn open(self, store: &dyn Store, unlock: &Unlock, local: &LocalState) -> Result<Opened> {
        let unlocked = self.unlock(store.url(), unlock)?;
        self.judge(unlocked, local)
    }

    /// Tries what was given on every slot. The seal of one vouches for the admin
    /// key, and that for `config`.
    pub fn unlock(&self, url: &str, unlock: &Unlock) -> Result<Unlocked> {
        let (config, object) =
            Config::parse(&self.config).map_err(|error| Error::in_object(CONFIG_KEY, error))?;
        let (slot, secrets) = open_slot(url, &self.slots, &config, unlock)?;
        let verified = config.verify(&object, &secrets.admin);
        verified.map_err(|error| Error::in_object(CONFIG_KEY, error))?;
        Ok(Unlocked { config, slot, secrets })
    }

    /// What the updates say, and whether the key that opened is still in force.
    pub fn judge(self, unlocked: Unlocked, local: &LocalState) -> Result<Opened> {
        let Unlocked { config, slot, secrets, .. } = unlocked;
        let seen = local.seen_updates();
        let updates = Updates::of(&self.updates, secrets.repository, &secrets.admin, &seen)?;
        let trust = Trust::new(updates.merged.clone());
        match trust.standing(secrets.writer) {
            Standing::InForce(_) => {}
            Standing::Revoked(_) => {
                return Err(Error::no_right("this key was revoked: ask for a new one"));
            }
            Standing::Unknown => {
                return Err(Error::no_right(
                    "this key is not listed in config-updates: ask for a new one",
                ));
            }
        }
        let key = slot_key(slot);
        let mut objects = self.updates.into_objects();
        objects.push((CONFIG_KEY.to_owned(), self.config));
        objects.extend(self.slots.0.into_iter().filter(|(other, _)| *other == key));
        let keyring = Keyring::new(slot, secrets, &updates)?;
        Ok(Opened { config, keyring, trust, updates, objects })
    }
}

impl Opened {
    /// Keeps what is not in the cache yet. Of the slots only the one that opened:
    /// another one would not have to be there the next time.
    pub fn remember(&self, index: &Index) {
        let new = |(key, _): &&(String, Bytes)| index.sound_object(key).is_none();
        let new = self.objects.iter().filter(new).map(|(key, bytes)| {
            (key.as_str(), CachedObject { bytes: bytes.to_vec(), proof: None })
        });
        let new: Vec<_> = new.collect();
        if !new.is_empty() {
            index.cache_objects(new.iter().map(|(key, object)| (*key, object)));
        }
    }
}

/// The bytes of all slots, by key.
struct SlotObjects(Vec<(String, Bytes)>);

impl SlotObjects {
    fn get(store: &dyn Store) -> Result<SlotObjects> {
        let keys: Vec<String> = store.list(SLOTS)?.into_iter().map(|listed| listed.key).collect();
        let mut objects = Vec::new();
        get_each(store, &keys, MAX_OBJECT as u64, |key, object| {
            match object {
                Ok(bytes) => objects.push((key.clone(), bytes)),
                Err(error) if error.kind() == StoreKind::NotFound => {}
                Err(error) => return Err(Error::from(error)),
            }
            Ok(())
        })?;
        Ok(SlotObjects(objects))
    }
}

/// Tries what was given on every slot. Slots that cannot be parsed are passed
/// over: one damaged slot must not lock the others out.
fn open_slot(
    url: &str,
    slots: &SlotObjects,
    config: &Config,
    unlock: &Unlock,
) -> Result<(SlotId, Secrets)> {
    let input = match unlock {
        Unlock::Password(password) => Some(
            config
                .stretching
                .stretch(password, &config.salt)
                .map_err(|error| Error::failed(format!("config: {error}")))?,
        ),
        Unlock::KeyFile(key) => Some(key_file_input(key)),
        Unlock::Identity { .. } => None,
    };
    let mut damaged = Vec::new();
    for (key, bytes) in &slots.0 {
        let opened = Slot::parse(bytes).and_then(|(slot, object)| {
            if slot_key(slot.id) != *key {
                return Err(crate::format::FormatError::new("SLOT-4", "lies under another name"));
            }
            let secrets = match (unlock, &input) {
                (Unlock::Identity { key: identity, admin }, _) => slot
                    .unwrap_with(identity, config.repository)
                    .filter(|secrets| secrets.admin == *admin),
                (_, Some(input)) => slot.unwrap(input, config.repository)?,
                (_, None) => None,
            };
            if let Some(secrets) = &secrets {
                slot.verify(&object, config.repository, &secrets.admin)?;
            }
            Ok(secrets.map(|secrets| (slot.id, secrets)))
        });
        match opened {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => {}
            Err(error) => damaged.push(Error::in_object(key, error)),
        }
    }
    match damaged.into_iter().next() {
        Some(error) => Err(error),
        None => Err(Error::new(
            ErrorKind::WrongKey,
            format!("{url}: wrong password or key: no slot opens with it"),
        )),
    }
}
