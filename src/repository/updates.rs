//! All config updates of a repository, and what they say together. Writing new
//! ones is `keys`' business.
//!
//! `format-spec/05-config.md`

use bytes::Bytes;

use super::error::{Error, Result};
use super::index::Index;
use super::local::SeenUpdates;
use crate::crypto::VerifyKey;
use crate::format::object::MAX_OBJECT;
use crate::format::update::{self, ConfigUpdate};
use crate::id::{ObjectHash, RepositoryId};
use crate::store::{Store, get_each};

/// Every update the admin key signed, and their sum.
pub struct Updates {
    /// By number, then by name.
    pub all: Vec<ConfigUpdate>,
    /// Hashes of the objects in `all`.
    pub hashes: Vec<ObjectHash>,
    /// Hashes of those with the highest number, which the next update names.
    pub newest: Vec<ObjectHash>,
    /// What holds now; its `grants` are empty.
    pub merged: ConfigUpdate,
}

struct Loaded {
    key: String,
    hash: ObjectHash,
    update: ConfigUpdate,
}

/// The bytes of all updates, by key. Nothing of them is believed yet.
pub struct UpdateObjects(Vec<(String, Bytes)>);

impl UpdateObjects {
    /// Lists them, and reads those that the index does not have.
    pub fn get(store: &dyn Store, index: Option<&Index>) -> Result<UpdateObjects> {
        let listed = store.list(update::PREFIX)?.into_iter().map(|listed| listed.key);
        let (mut objects, mut new) = (Vec::new(), Vec::new());
        for key in listed.filter(|key| update::number_of(key).is_some()) {
            match index.and_then(|index| index.sound_object(&key)) {
                Some(bytes) => objects.push((key, bytes)),
                None => new.push(key),
            }
        }
        get_each(store, &new, MAX_OBJECT as u64, |key, object| {
            objects.push((key.clone(), object?));
            Ok::<_, Error>(())
        })?;
        Ok(UpdateObjects(objects))
    }

    pub fn keys(&self) -> impl Iterator<Item = &String> {
        self.0.iter().map(|(key, _)| key)
    }

    pub fn into_objects(self) -> Vec<(String, Bytes)> {
        self.0
    }
}

impl Updates {
    /// Loads all updates, and refuses a store that shows less than was `seen`.
    pub fn load(
        store: &dyn Store,
        index: &Index,
        repository: RepositoryId,
        admin: &VerifyKey,
        seen: &SeenUpdates,
    ) -> Result<Updates> {
        Updates::of(&UpdateObjects::get(store, Some(index))?, repository, admin, seen)
    }

    /// What objects that were got say, whoever signed them.
    pub fn of(
        objects: &UpdateObjects,
        repository: RepositoryId,
        admin: &VerifyKey,
        seen: &SeenUpdates,
    ) -> Result<Updates> {
        let mut loaded = Vec::new();
        for (key, bytes) in &objects.0 {
            match ConfigUpdate::parse(bytes, repository, key, admin) {
                Ok(update) => {
                    let hash = ObjectHash::of(bytes);
                    loaded.push(Loaded { key: key.clone(), hash, update });
                }
                // whole, and signed by somebody else: left by an `init` that lost
                // the race or crashed, or by whoever may put objects here
                Err(error) if error.rule == "OBJ-7" => {}
                Err(error) => return Err(Error::in_object(key, error)),
            }
        }
        loaded.sort_by(|a, b| (a.update.number, &a.key).cmp(&(b.update.number, &b.key)));
        check_numbers(&loaded)?;
        check_chain(&loaded)?;
        check_seen(&loaded, seen)?;
        let highest = loaded.last().map_or(0, |last| last.update.number);
        let hashes: Vec<_> = loaded.iter().map(|loaded| loaded.hash).collect();
        let older = loaded.iter().filter(|loaded| loaded.update.number < highest).count();
        let newest = hashes.iter().skip(older).copied().collect();
        let all: Vec<ConfigUpdate> = loaded.into_iter().map(|loaded| loaded.update).collect();
        let merged =
            merge(&all, older).ok_or_else(|| Error::damage("config-updates: none there"))?;
        Ok(Updates { all, hashes, newest, merged })
    }

    pub fn holds(&self, hash: ObjectHash) -> bool {
        self.hashes.contains(&hash)
    }

    /// What a machine should remember of this.
    pub fn seen(&self) -> SeenUpdates {
        SeenUpdates { number: self.merged.number, hashes: self.newest.clone() }
    }
}

fn check_numbers(loaded: &[Loaded]) -> Result<()> {
    let mut expected = 1;
    for Loaded { update, .. } in loaded {
        if update.number > expected {
            return Err(Error::damage(format!("config-updates: number {expected} is missing")));
        }
        expected = update.number + 1;
    }
    Ok(())
}

/// Each update names those of the number before it that its writer saw.
fn check_chain(loaded: &[Loaded]) -> Result<()> {
    for Loaded { key, update, .. } in loaded.iter().filter(|l| l.update.number > 1) {
        let is_there = |hash: &ObjectHash| {
            loaded.iter().any(|l| l.update.number == update.number - 1 && l.hash == *hash)
        };
        if !update.previous.iter().all(is_there) {
            return Err(Error::damage(format!("{key}: names an update that is not there")));
        }
    }
    Ok(())
}

fn check_seen(loaded: &[Loaded], seen: &SeenUpdates) -> Result<()> {
    let highest = loaded.last().map_or(0, |last| last.update.number);
    if highest < seen.number {
        return Err(Error::damage(format!(
            "config-updates: ends at {highest}, but this machine has seen {}: \
             the store shows an old state",
            seen.number
        )));
    }
    if !seen.hashes.iter().all(|hash| loaded.iter().any(|loaded| loaded.hash == *hash)) {
        return Err(Error::damage(
            "config-updates: one that this machine has seen is gone: the store shows an old state",
        ));
    }
    Ok(())
}

/// The newest update; of several with its number, the smaller name. Writers and
/// revocations add up over *all* updates, so that one that was put while
/// somebody else already built on its neighbour is not lost. New objects are
/// sealed under the highest epoch that any update made: all updates of one
/// epoch name the same content key, as it follows from the root.
fn merge(all: &[ConfigUpdate], older: usize) -> Option<ConfigUpdate> {
    let (older, newest) = all.split_at_checked(older)?;
    let (first, same) = newest.split_first()?;
    let mut merged = first.clone();
    merged.grants = Vec::new();
    for other in same.iter().chain(older.iter().rev()) {
        for writer in &other.writers {
            if let Err(at) = merged.writers.binary_search_by_key(&writer.id, |writer| writer.id) {
                merged.writers.insert(at, writer.clone());
            }
        }
        for revocation in &other.revoked {
            if merged.revocation(revocation.writer).is_none() {
                merged.revoked.push(revocation.clone());
            }
        }
        if other.epoch > merged.epoch {
            merged.epoch = other.epoch;
            merged.content = other.content.clone();
        }
    }
    for other in same {
        add_names(&mut merged.features.incompatible, &other.features.incompatible);
        add_names(&mut merged.features.read_compatible, &other.features.read_compatible);
        add_names(&mut merged.features.compatible, &other.features.compatible);
        merged.listing_lag = merged.listing_lag.max(other.listing_lag);
    }
    merged.sort();
    Some(merged)
}

fn add_names(names: &mut Vec<String>, more: &[String]) {
    for name in more {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
}
