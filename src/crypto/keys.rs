//! Every key derivation of format 1 and every label, on one screen.
//!
//! `format-spec/02-keys.md` gives the same as formulas.

use zeroize::{Zeroize, Zeroizing};

use super::{CryptoError, HybridPrivate, SigningKey, random};

const ADMIN: &str = "esker 1 admin signing key";
const CONTENT: &str = "esker 1 content key pair";
const INDEX: &str = "esker 1 index key";
const ID_DATA: &str = "esker 1 chunk id data";
const ID_LIST: &str = "esker 1 chunk id list";
const ID_TREE: &str = "esker 1 chunk id tree";
const ID_REFS: &str = "esker 1 chunk id refs";
const CHUNKER: &str = "esker 1 chunker key";
const GEAR: &str = "esker 1 gear table";
const PAGE_CUT: &str = "esker 1 page cut";
const SOURCE_LABEL: &str = "esker 1 source label";
const SLOT_WRAP: &str = "esker 1 slot wrap";
const SLOT_COMMITMENT: &str = "esker 1 slot commitment";
const MACHINE: &str = "esker 1 machine";
const CHECKED: &str = "esker 1 checked signature";
const TRANSLATION: &str = "esker 1 translation";
const PASSWORD_TAG: &str = "esker 1 slot input password";
const KEY_FILE_TAG: &str = "esker 1 slot input key file";

/// Password stretching bounds: a slot or config that asks for more is refused.
pub const MAX_ARGON2_MEMORY_KIB: u32 = 1024 * 1024;
pub const MAX_ARGON2_PASSES: u32 = 16;
pub const MAX_ARGON2_LANES: u32 = 64;

/// A 32-byte symmetric secret. Wiped on drop, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey([u8; 32]);

impl SecretKey {
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        SecretKey(bytes)
    }

    pub fn random() -> Self {
        SecretKey(random())
    }

    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Drop for SecretKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

fn derive(label: &str, material: &[u8]) -> SecretKey {
    SecretKey(blake3::derive_key(label, material))
}

fn with_epoch(key: &SecretKey, epoch: u32) -> Zeroizing<[u8; 36]> {
    let mut material = Zeroizing::new([0; 36]);
    material[..32].copy_from_slice(key.bytes());
    material[32..].copy_from_slice(&epoch.to_le_bytes());
    material
}

pub fn admin(root: &SecretKey) -> SigningKey {
    SigningKey::from_seed(derive(ADMIN, root.bytes()).bytes())
}

pub fn content(root: &SecretKey, epoch: u32) -> HybridPrivate {
    HybridPrivate::from_seed(*derive(CONTENT, &*with_epoch(root, epoch)).bytes())
}

pub fn index(root: &SecretKey, epoch: u32) -> SecretKey {
    derive(INDEX, &*with_epoch(root, epoch))
}

pub fn id_data(root: &SecretKey) -> SecretKey {
    derive(ID_DATA, root.bytes())
}

pub fn id_list(root: &SecretKey) -> SecretKey {
    derive(ID_LIST, root.bytes())
}

pub fn id_tree(root: &SecretKey) -> SecretKey {
    derive(ID_TREE, root.bytes())
}

pub fn id_refs(root: &SecretKey) -> SecretKey {
    derive(ID_REFS, root.bytes())
}

pub fn chunker(root: &SecretKey) -> SecretKey {
    derive(CHUNKER, root.bytes())
}

/// The secret gear table: 256 little-endian 64-bit words of the XOF.
pub fn gear_table(chunker: &SecretKey) -> Zeroizing<[u64; 256]> {
    let mut hasher = blake3::Hasher::new_derive_key(GEAR);
    hasher.update(chunker.bytes());
    let mut bytes = Zeroizing::new([0; 2048]);
    hasher.finalize_xof().fill(&mut *bytes);
    let mut table = Zeroizing::new([0; 256]);
    for (word, bytes) in table.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    table
}

pub fn page_cut(chunker: &SecretKey) -> SecretKey {
    derive(PAGE_CUT, chunker.bytes())
}

/// Where reference pages are cut, for those who hold no chunker key.
pub fn reference_cut(id_refs: &SecretKey) -> SecretKey {
    derive(PAGE_CUT, id_refs.bytes())
}

/// Key for the opaque labels of sources; a maintainer cannot guess paths with it.
pub fn source_label(id_data: &SecretKey) -> SecretKey {
    derive(SOURCE_LABEL, id_data.bytes())
}

/// What a local cache proves with that a signature was checked before.
pub fn checked(index: &SecretKey) -> SecretKey {
    derive(CHECKED, index.bytes())
}

/// What a local cache proves with that a chunk has another id in another repository.
pub fn translation(id_data: &SecretKey) -> SecretKey {
    derive(TRANSLATION, id_data.bytes())
}

/// What a machine is called in one repository: tells nothing but that two runs
/// were of the same.
pub fn machine(repository: &[u8; 16], facts: &[u8]) -> [u8; 16] {
    let derived = blake3::derive_key(MACHINE, &[repository, facts].concat());
    *derived.first_chunk().expect("32 bytes are more than 16")
}

/// How a password becomes a key: Argon2id version 1.3 (RFC 9106).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretching {
    pub memory_kib: u32,
    pub passes: u32,
    pub lanes: u32,
}

impl Default for Stretching {
    fn default() -> Self {
        Stretching { memory_kib: 64 * 1024, passes: 3, lanes: 4 }
    }
}

impl Stretching {
    pub fn stretch(&self, password: &[u8], salt: &[u8; 16]) -> Result<SecretKey, CryptoError> {
        if self.memory_kib > MAX_ARGON2_MEMORY_KIB {
            return Err(CryptoError::StretchingTooLarge("more than 1 GiB of memory"));
        }
        if self.passes > MAX_ARGON2_PASSES {
            return Err(CryptoError::StretchingTooLarge("more than 16 passes"));
        }
        if self.lanes > MAX_ARGON2_LANES {
            return Err(CryptoError::StretchingTooLarge("more than 64 lanes"));
        }
        let params = argon2::Params::new(self.memory_kib, self.passes, self.lanes, Some(32))
            .map_err(|_| CryptoError::StretchingInvalid)?;
        let mut stretched = Zeroizing::new([0; 32]);
        argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
            .hash_password_into(password, salt, &mut *stretched)
            .map_err(|_| CryptoError::StretchingInvalid)?;
        Ok(derive(PASSWORD_TAG, &*stretched))
    }
}

/// A key file's 32 bytes as the input of slots: random already, not stretched.
pub fn key_file_input(bytes: &SecretKey) -> SecretKey {
    derive(KEY_FILE_TAG, bytes.bytes())
}

/// The key that wraps one slot, and the commitment that ties the slot to it:
/// without one, a forged slot could open under several passwords at once.
pub fn slot_wrap(input: &SecretKey, slot: &[u8; 16]) -> (SecretKey, [u8; 32]) {
    let mut material = Zeroizing::new([0; 48]);
    material[..32].copy_from_slice(input.bytes());
    material[32..].copy_from_slice(slot);
    (derive(SLOT_WRAP, &*material), *derive(SLOT_COMMITMENT, &*material).bytes())
}
