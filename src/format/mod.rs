//! The bytes of format 1: every object's layout, parsed and encoded, without
//! any I/O. One file a chapter of `format-spec/`. Parsers turn untrusted bytes
//! into valid values or into a [`FormatError`] that names the rule broken; they
//! never panic and never allocate beyond a `MAX_*`.

pub mod cbor;
pub mod config;
pub mod content;
pub mod entry;
pub mod manifest;
pub mod notes;
pub mod object;
pub mod pack;
pub mod page;
pub mod reader;
pub mod reference;
pub mod segment;
pub mod slot;
pub mod update;

use crate::id::RepositoryId;

/// The format version this program reads and writes.
pub const VERSION: u16 = 1;
/// Crypto suite 1: BLAKE3, XChaCha20-Poly1305, Ed25519, HPKE with X-Wing, Argon2id.
pub const SUITE: u8 = 1;

/// Bytes that are not what the format says, and the rule of `format-spec/`
/// that says so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} [{rule}]")]
pub struct FormatError {
    pub rule: &'static str,
    pub what: String,
}

impl FormatError {
    pub fn new(rule: &'static str, what: impl Into<String>) -> Self {
        FormatError { rule, what: what.into() }
    }

    /// A version, suite or feature this program is too old for.
    pub fn asks_for_upgrade(&self) -> bool {
        matches!(self.rule, "OBJ-2" | "OBJ-3" | "PACK-2" | "SEG-2" | "UPD-7")
    }
}

pub type Result<T> = std::result::Result<T, FormatError>;

/// What an object is; also what a pack or segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Config = 1,
    Update = 2,
    Slot = 3,
    Pack = 4,
    Segment = 5,
    Session = 6,
    Manifest = 7,
    Confirmation = 8,
    Mark = 9,
    Sweep = 10,
    Record = 11,
}

impl Kind {
    pub fn from_byte(byte: u8) -> Option<Kind> {
        use Kind::*;
        [Config, Update, Slot, Pack, Segment, Session, Manifest, Confirmation, Mark, Sweep, Record]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// What a chunk, and so the block it lies in, holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum ChunkKind {
    Data = 1,
    List = 2,
    Tree = 3,
    Refs = 4,
}

impl ChunkKind {
    pub fn from_byte(byte: u8) -> Option<ChunkKind> {
        use ChunkKind::*;
        [Data, List, Tree, Refs].into_iter().find(|kind| *kind as u8 == byte)
    }

    /// The kind of pack its blocks lie in.
    pub fn pack_kind(self) -> pack::PackKind {
        match self {
            ChunkKind::Data => pack::PackKind::Data,
            ChunkKind::List | ChunkKind::Tree => pack::PackKind::Tree,
            ChunkKind::Refs => pack::PackKind::Refs,
        }
    }
}

/// What a seal or signature is bound to.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub repository: RepositoryId,
    pub kind: Kind,
    pub epoch: u32,
    /// The object's full key; empty for objects named by their hash.
    pub key: &'a str,
}

impl Place<'_> {
    /// `label 00 | version 2 | repository 16 | kind 1 | epoch 4 | key length 2 | key`
    pub fn bytes(&self, label: &str) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(label.len() + 26 + self.key.len());
        bytes.extend_from_slice(label.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.repository.0);
        bytes.push(self.kind as u8);
        bytes.extend_from_slice(&self.epoch.to_le_bytes());
        bytes.extend_from_slice(&(self.key.len() as u16).to_le_bytes());
        bytes.extend_from_slice(self.key.as_bytes());
        bytes
    }
}

/// Associated data of a block: it moves between packs and epochs, so neither is
/// part of it. `label 00 | version 2 | repository 16 | kind 1 | codec 1 | raw length 4`
pub fn block_place(
    repository: RepositoryId,
    kind: ChunkKind,
    codec: crate::compression::Codec,
    raw_length: u32,
) -> [u8; 36] {
    let mut bytes = [0; 36];
    bytes[..12].copy_from_slice(b"esker block\0");
    bytes[12..14].copy_from_slice(&VERSION.to_le_bytes());
    bytes[14..30].copy_from_slice(&repository.0);
    bytes[30] = kind as u8;
    bytes[31] = codec as u8;
    bytes[32..].copy_from_slice(&raw_length.to_le_bytes());
    bytes
}

/// The smallest Padmé length that holds `length` bytes: at most 12 % more, and
/// only O(log log n) bits of the true length remain visible.
pub fn padded_length(length: u64) -> u64 {
    if length < 2 {
        return length;
    }
    let exponent = 63 - u64::from(length.leading_zeros());
    let kept = 64 - u64::from(exponent.leading_zeros());
    let mask = (1u64 << (exponent - kept.min(exponent))) - 1;
    (length + mask) & !mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_small_and_idempotent() {
        for length in (0..5000).chain([1 << 20, (1 << 20) + 1, 33_000_000, u64::from(u32::MAX)]) {
            let padded = padded_length(length);
            assert!(padded >= length && padded - length <= length / 8, "{length} → {padded}");
            assert_eq!(padded_length(padded), padded);
        }
        assert_eq!(padded_length(9), 10);
        assert_eq!(padded_length((32 << 20) + 1), 33 << 20);
    }
}
