//! What a maintainer did to the index stops counting when he is revoked: packs
//! he removed would come back, and where he moved chunks would be forgotten. An
//! administrator takes it over, as far as it can be seen to be true:
//!
//! - a remove is repeated only if the pack is gone from the store;
//! - a pack he listed is listed again with its table of contents, if it is
//!   there with the length he stated;
//! - his segments are superseded when all they list was taken over. What *he*
//!   superseded is not: those segments are listed until a prune merges them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::format::segment::{
    self, Directory, MAX_SEGMENT, PackEntry, PackRow, Sealing, Segment, segment_key, segment_of_key,
};
use crate::id::{PackId, SegmentId, WriterId};
use crate::progress::{Event, Progress};
use crate::repository::{Error, Repository, Result};
use crate::store::ErrorKind as StoreKind;

/// Frames gathered into one segment, in bytes.
const SEGMENT_TARGET: usize = 16 << 20;
const ROWS_PER_CHUNK: usize = 10;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Segments of his that were read.
    pub segments: usize,
    pub packs: usize,
    pub removes: usize,
    /// Removes of packs that are still in the store: they are listed again.
    pub removes_dropped: usize,
    /// Packs whose tables could not be believed, or were born too late.
    pub packs_dropped: usize,
}

struct TakenPack {
    length: u64,
    frame: Vec<u8>,
    chunks: Vec<crate::id::ChunkId>,
}

#[derive(Default)]
struct Taken {
    packs: BTreeMap<PackId, TakenPack>,
    removes: BTreeSet<PackId>,
    supersedes: Vec<SegmentId>,
    report: Carried,
    /// Whether anything of it stops counting with the writer.
    needed: bool,
}

/// Takes over what `writer`'s segments say; nothing if none of it would be lost.
/// With `since`, packs that say they were born later are left out.
pub(super) fn carry_on(
    repository: &Repository,
    writer: WriterId,
    since: Option<u64>,
    progress: &dyn Progress,
) -> Result<Option<Carried>> {
    let listed = repository.store().list(segment::PREFIX)?;
    let there = repository.listed_packs()?;
    let mut taken = Taken::default();
    for id in listed.iter().filter_map(|listed| segment_of_key(&listed.key)) {
        let key = segment_key(id);
        let bytes = match repository.store().get(&key, MAX_SEGMENT as u64) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == StoreKind::NotFound => continue,
            Err(error) => return Err(error.into()),
        };
        if let Err(error) = taken.read(repository, writer, id, &bytes, &there, since) {
            let error = Error::in_object(&key, error);
            progress.event(Event::Warning(&error.message));
        }
    }
    if !taken.needed {
        return Ok(None);
    }
    if writer == repository.keyring().writer {
        return Err(Error::failed(
            "this key has pruned, and cannot hand that over to itself: \
             remove it with another full key",
        ));
    }
    taken.put(repository)?;
    Ok(Some(taken.report))
}

impl Taken {
    fn read(
        &mut self,
        repository: &Repository,
        writer: WriterId,
        id: SegmentId,
        bytes: &[u8],
        there: &HashMap<PackId, u64>,
        since: Option<u64>,
    ) -> std::result::Result<(), crate::format::FormatError> {
        let segment = Segment::parse(bytes)?;
        if segment.header.signer != writer || blake3::hash(bytes).as_bytes() != &id.0 {
            return Ok(());
        }
        let keyring = repository.keyring();
        let Some(verify) = repository.trust().verify_key(writer) else { return Ok(()) };
        segment.verify(repository.id(), verify)?;
        let directory =
            segment.directory(repository.id(), keyring.index_key(segment.header.epoch)?)?;
        let frames = segment.frames(&directory)?;
        self.report.segments += 1;
        self.needed |= !directory.removes.is_empty() || !directory.supersedes.is_empty();
        let mut whole = self.take_removes(&directory, there);
        for (row, frame) in directory.packs.iter().zip(frames) {
            if there.get(&row.id) == Some(&row.length) {
                whole &= self.take_pack(repository, *row, frame, writer, since);
            }
        }
        if whole {
            self.supersedes.push(id);
        }
        Ok(())
    }

    fn take_removes(&mut self, directory: &Directory, there: &HashMap<PackId, u64>) -> bool {
        let (standing, gone): (Vec<_>, Vec<_>) =
            directory.removes.iter().copied().partition(|id| there.contains_key(id));
        self.removes.extend(gone);
        self.report.removes_dropped += standing.len();
        standing.is_empty()
    }

    fn take_pack(
        &mut self,
        repository: &Repository,
        row: PackRow,
        frame: &[u8],
        writer: WriterId,
        since: Option<u64>,
    ) -> bool {
        let pack = match repository.read_frame(row.id, row.length, frame, writer) {
            Ok(pack) => pack,
            Err(_) => {
                self.report.packs_dropped += 1;
                return false;
            }
        };
        let toc = &pack.toc.toc;
        if since.is_some_and(|since| toc.birth.0 >> 20 >= since) {
            self.report.packs_dropped += 1;
            return false;
        }
        self.needed |= !toc.foreign.is_empty();
        let chunks = toc.chunks.iter().map(|chunk| chunk.id).collect();
        let taken = TakenPack { length: row.length, frame: frame.to_vec(), chunks };
        self.packs.entry(row.id).or_insert(taken);
        true
    }

    /// Packs first; what supersedes his segments comes with the last segment.
    fn put(&mut self, repository: &Repository) -> Result<()> {
        let keyring = repository.keyring();
        let sealing = Sealing {
            repository: repository.id(),
            epoch: keyring.epoch,
            key: keyring.current_index_key(),
            signer: keyring.writer,
            signing: &keyring.signer,
        };
        self.report.packs = self.packs.len();
        self.report.removes = self.removes.len();
        let mut group: Vec<PackEntry<'_>> = Vec::new();
        let mut size = 0;
        for (id, pack) in &self.packs {
            let more = pack.frame.len() + pack.chunks.len() * ROWS_PER_CHUNK;
            if size + more > SEGMENT_TARGET && !group.is_empty() {
                put_segment(repository, &segment::encode(&sealing, &[], &[], &mut group))?;
                group.clear();
                size = 0;
            }
            size += more;
            group.push(PackEntry {
                id: *id,
                length: pack.length,
                frame: &pack.frame,
                chunks: pack.chunks.clone(),
            });
        }
        let removes: Vec<_> = self.removes.iter().copied().collect();
        let last = segment::encode(&sealing, &self.supersedes, &removes, &mut group);
        put_segment(repository, &last)
    }
}

fn put_segment(repository: &Repository, bytes: &[u8]) -> Result<()> {
    let id = SegmentId(*blake3::hash(bytes).as_bytes());
    Ok(repository.store().put(&segment_key(id), bytes.to_vec().into())?)
}
