//! A pack from its beginning to its end, hashed on the way.

use bytes::BytesMut;

use crate::repository::blocks::mutable;
use crate::store::{Result, Store};

/// Where the bytes of a pack come from.
pub(super) enum Source<'a> {
    Whole(BytesMut),
    /// A store with such an object of so many bytes.
    Store(&'a dyn Store, &'a str, u64),
}

/// Reads on in pieces of any length.
pub(super) struct Pieces<'a> {
    source: Source<'a>,
    at: u64,
    length: u64,
    hasher: blake3::Hasher,
}

/// Bytes that are hashed and nothing else, at a time.
const PIECE: u64 = 1 << 20;

impl<'a> Pieces<'a> {
    pub fn new(source: Source<'a>) -> Pieces<'a> {
        let length = match &source {
            Source::Whole(bytes) => bytes.len() as u64,
            Source::Store(_, _, length) => *length,
        };
        Pieces { source, at: 0, length, hasher: blake3::Hasher::new() }
    }

    /// Bytes to the end.
    pub fn left(&self) -> u64 {
        self.length - self.at
    }

    /// The next bytes, or nothing where fewer are left.
    pub fn next(&mut self, length: usize) -> Result<Option<BytesMut>> {
        if length as u64 > self.left() {
            return Ok(None);
        }
        let piece = match &mut self.source {
            Source::Whole(bytes) => bytes.split_to(length),
            Source::Store(store, key, _) => {
                mutable(store.get_range(key, self.at, length as u64)?)
            }
        };
        self.at += length as u64;
        self.hasher.update(&piece);
        Ok(Some(piece))
    }

    /// Passes over all but so many bytes.
    pub fn skip_to_last(&mut self, length: usize) -> Result<()> {
        while let more @ 1.. = self.left().saturating_sub(length as u64) {
            self.next(more.min(PIECE) as usize)?;
        }
        Ok(())
    }

    /// All that is left.
    pub fn rest(&mut self) -> Result<BytesMut> {
        Ok(self.next(self.left() as usize)?.unwrap_or_default())
    }

    /// The hash of the whole pack.
    pub fn hash(&mut self) -> Result<[u8; 32]> {
        self.skip_to_last(0)?;
        Ok(*self.hasher.finalize().as_bytes())
    }
}
