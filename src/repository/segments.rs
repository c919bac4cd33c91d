//! Writes index segments: those of new packs, and those that list, remove and
//! supersede on a maintainer's word.
//!
//! `format-spec/08-index.md`

use std::collections::BTreeMap;

use super::Repository;
use super::error::{Error, ErrorKind, Result};
use super::index::{NewPack, NewSegment};
use super::packer::PutPack;
use crate::format::segment::{self, MAX_SEGMENT, PackEntry, Sealing, segment_key};
use crate::id::{ChunkId, PackId, SegmentId};
use crate::progress::Silent;

/// Bytes of tables in one segment: below its limit by far, for each is loaded at
/// once, and yet many, for who looks up without loading asks each of them.
pub const TARGET: usize = 32 << 20;
/// What a chunk takes in the look-up table, in bytes.
const ROW: usize = 10;

/// A pack with its table of contents as it lies in the pack.
pub struct ListedPack {
    pub length: u64,
    pub frame: Vec<u8>,
    pub chunks: Vec<ChunkId>,
}

impl ListedPack {
    fn size(&self) -> usize {
        self.frame.len() + self.chunks.len() * ROW
    }
}

/// What new segments say. Packs are in the index already.
#[derive(Default)]
pub struct NewSegments {
    pub packs: BTreeMap<PackId, ListedPack>,
    pub removes: Vec<PackId>,
    pub supersedes: Vec<SegmentId>,
}

/// Cuts a list where `size` fills a segment.
fn groups<T>(items: &[T], size: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let mut groups = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, item) in items.iter().enumerate() {
        if at > start && bytes + size(item) > TARGET {
            groups.extend(items.get(start..at));
            (start, bytes) = (at, 0);
        }
        bytes += size(item);
    }
    groups.extend(items.get(start..).filter(|rest| !rest.is_empty()));
    groups
}

impl Repository {
    /// How this key's writer seals and signs segments.
    pub fn sealing(&self) -> Sealing<'_> {
        Sealing {
            repository: self.id(),
            epoch: self.keyring.epoch,
            key: self.keyring.current_index_key(),
            signer: self.keyring.writer,
            signing: &self.keyring.signer,
        }
    }

    fn put_segment(&self, bytes: Vec<u8>) -> Result<SegmentId> {
        if bytes.len() > MAX_SEGMENT {
            let message = "too many packs were removed for one segment: prune, then try again";
            return Err(Error::failed(message));
        }
        let id = SegmentId(*blake3::hash(&bytes).as_bytes());
        self.put(&segment_key(id), bytes.into())?;
        Ok(id)
    }

    /// Adds what was put to the local index. When that fails, the index is made
    /// anew from the store, where the segment is.
    fn index_segment(&self, segment: &NewSegment<'_>) -> Result<()> {
        match self.index.add_segment(segment) {
            Err(error) if error.kind == ErrorKind::Cache => self.sync_index(&Silent).map(drop),
            result => result,
        }
    }

    /// Puts segments for packs that were put, and adds them to the index.
    pub fn put_segments(&self, packs: &[PutPack]) -> Result<()> {
        let signer = self.keyring.writer;
        for group in groups(packs, |pack| pack.frame.len() + pack.toc.toc.chunks.len() * ROW) {
            let mut entries: Vec<_> = group.iter().map(PutPack::as_entry).collect();
            let id = self.put_segment(segment::encode(&self.sealing(), &[], &[], &mut entries))?;
            let new: Vec<NewPack> = group.iter().map(|pack| pack.as_new_pack(signer)).collect();
            let (supersedes, removes, known) = (&[], &[], &[]);
            self.index_segment(&NewSegment {
                id,
                signer,
                supersedes,
                removes,
                known,
                packs: &new,
            })?;
        }
        Ok(())
    }

    /// Puts segments of a maintainer. Packs come first; what is removed and
    /// superseded comes with the last segment, when all packs are listed.
    pub fn put_new_segments(&self, new: &NewSegments) -> Result<()> {
        let signer = self.keyring.writer;
        let packs: Vec<(&PackId, &ListedPack)> = new.packs.iter().collect();
        let mut groups = groups(&packs, |(_, pack)| pack.size());
        if groups.is_empty() {
            groups.push(&[]);
        }
        let last = groups.len() - 1;
        for (at, group) in groups.into_iter().enumerate() {
            let (supersedes, removes) = match at == last {
                true => (&new.supersedes[..], &new.removes[..]),
                false => (&[][..], &[][..]),
            };
            let mut entries: Vec<PackEntry<'_>> = group
                .iter()
                .map(|(id, pack)| PackEntry {
                    id: **id,
                    length: pack.length,
                    frame: &pack.frame,
                    chunks: pack.chunks.clone(),
                })
                .collect();
            let bytes = segment::encode(&self.sealing(), supersedes, removes, &mut entries);
            let id = self.put_segment(bytes)?;
            let known: Vec<PackId> = group.iter().map(|(id, _)| **id).collect();
            let segment = NewSegment { id, signer, supersedes, removes, known: &known, packs: &[] };
            self.index_segment(&segment)?;
        }
        Ok(())
    }
}
