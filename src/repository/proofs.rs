//! Signatures that were checked before. Checking one takes longer than all else
//! that is done with a small object, so that its outcome is kept in the local
//! cache, with a proof that only a holder of the index key can make: a cache
//! that somebody altered proves nothing.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use super::Repository;
use crate::crypto::{VerifyKey, keys};
use crate::format::object::Object;
use crate::format::{Place, Result};
use crate::id::ObjectHash;

/// Proofs by object key: those the cache gave, and those it does not have yet.
#[derive(Default)]
pub struct Proofs {
    known: Mutex<HashMap<String, ObjectHash>>,
    fresh: Mutex<Vec<(String, ObjectHash)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Proofs {
    /// What the cache says of an object.
    pub fn recall(&self, key: &str, proof: ObjectHash) {
        lock(&self.known).insert(key.to_owned(), proof);
    }
}

impl Repository {
    /// Verifies an object's signature, unless it is proven that this was done.
    pub(crate) fn verify_once(
        &self,
        object: &Object<'_>,
        bytes: &[u8],
        verify: &VerifyKey,
        place: &Place<'_>,
    ) -> Result<()> {
        let mut hasher =
            blake3::Hasher::new_keyed(keys::checked(self.keyring.current_index_key()).bytes());
        hasher.update(&verify.0).update(&(place.key.len() as u64).to_le_bytes());
        hasher.update(place.key.as_bytes()).update(bytes);
        let proof = ObjectHash(*hasher.finalize().as_bytes());
        if lock(&self.proofs.known).get(place.key) == Some(&proof) {
            return Ok(());
        }
        object.verify(verify, place)?;
        lock(&self.proofs.known).insert(place.key.to_owned(), proof);
        lock(&self.proofs.fresh).push((place.key.to_owned(), proof));
        Ok(())
    }

    /// Lets the cache know what was checked.
    pub(crate) fn keep_proofs(&self) {
        let fresh = std::mem::take(&mut *lock(&self.proofs.fresh));
        self.index.keep_proofs(&fresh);
    }
}
