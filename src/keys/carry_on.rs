//! What a maintainer did to the index stops counting when he is revoked: packs
//! he removed would come back, and where he moved chunks would be forgotten. An
//! administrator takes it over, as far as it can be seen to be true:
//!
//! - a remove is repeated only if the pack is gone from the store;
//! - a pack he listed is listed again with its table of contents, if it is
//!   there with the length he stated. One that is lost is listed again too, as
//!   the index knows it: only the index tells what was in it, and by that prune
//!   keeps what healed it;
//! - his segments are superseded when all they list was taken over. What *he*
//!   superseded is not: those segments are listed until a prune merges them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::format::FormatError;
use crate::format::segment::{
    self, Directory, MAX_SEGMENT, PackRow, Segment, segment_key, segment_of_key,
};
use crate::id::{PackId, SegmentId, WriterId};
use crate::progress::{Event, Progress};
use crate::repository::segments::{ListedPack, NewSegments};
use crate::repository::{Error, ErrorKind, Repository, Result};
use crate::store::ErrorKind as StoreKind;

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

/// Takes over what one writer's segments say.
pub(super) struct Handover<'r> {
    repository: &'r Repository,
    writer: WriterId,
    /// Packs that say they were born later are left out.
    since: Option<u64>,
    read: HashSet<SegmentId>,
    /// Superseded: all of it was taken over.
    done: HashSet<SegmentId>,
    packs: HashSet<PackId>,
    removes: HashSet<PackId>,
    removes_dropped: HashSet<PackId>,
    packs_dropped: HashSet<PackId>,
    needed: bool,
}

impl<'r> Handover<'r> {
    pub fn new(repository: &'r Repository, writer: WriterId, since: Option<u64>) -> Self {
        Handover {
            repository,
            writer,
            since,
            read: HashSet::new(),
            done: HashSet::new(),
            packs: HashSet::new(),
            removes: HashSet::new(),
            removes_dropped: HashSet::new(),
            packs_dropped: HashSet::new(),
            needed: false,
        }
    }

    /// Takes over what was not yet; nothing if none of it would be lost. The
    /// repository's own trust, from before the revocation, judges the index.
    pub fn carry_on(&mut self, progress: &dyn Progress) -> Result<()> {
        let listed = self.repository.store().list(segment::PREFIX)?;
        let there = self.repository.listed_packs()?;
        // only now: what went by then was removed before, and is known to be
        self.repository.sync_index(progress)?;
        let mut taken = Taken::default();
        for id in listed.iter().filter_map(|listed| segment_of_key(&listed.key)) {
            if self.done.contains(&id) {
                continue;
            }
            let key = segment_key(id);
            let bytes = match self.repository.store().get(&key, MAX_SEGMENT as u64) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == StoreKind::NotFound => continue,
                Err(error) => return Err(error.into()),
            };
            if let Err(error) = self.read(id, &bytes, &there, &mut taken)? {
                let error = Error::in_object(&key, error);
                progress.event(Event::Warning(&error.message));
            }
        }
        self.put(taken)
    }

    /// What was taken over; none if nothing would have been lost.
    pub fn report(&self) -> Option<Carried> {
        self.needed.then(|| Carried {
            segments: self.read.len(),
            packs: self.packs.len(),
            removes: self.removes.len(),
            removes_dropped: self.removes_dropped.difference(&self.removes).count(),
            packs_dropped: self.packs_dropped.difference(&self.packs).count(),
        })
    }

    fn read(
        &mut self,
        id: SegmentId,
        bytes: &[u8],
        there: &HashMap<PackId, u64>,
        taken: &mut Taken,
    ) -> Result<std::result::Result<(), FormatError>> {
        let (directory, frames) = match self.open(id, bytes) {
            Ok(Some(opened)) => opened,
            Ok(None) => return Ok(Ok(())),
            Err(error) => return Ok(Err(error)),
        };
        self.read.insert(id);
        taken.needed |= !directory.removes.is_empty() || !directory.supersedes.is_empty();
        let mut whole = self.take_removes(&directory, there, taken);
        for (row, frame) in directory.packs.iter().zip(frames) {
            whole &= match self.believe(row, there)? {
                Some(true) => self.take_pack(*row, frame, taken),
                Some(false) => false,
                None => true,
            };
        }
        if whole {
            taken.supersedes.push(id);
        }
        Ok(Ok(()))
    }

    /// A segment of his, opened; nothing if it is another's.
    fn open<'b>(
        &self,
        id: SegmentId,
        bytes: &'b [u8],
    ) -> std::result::Result<Option<Opened<'b>>, FormatError> {
        let segment = Segment::parse(bytes)?;
        if segment.header.signer != self.writer || blake3::hash(bytes).as_bytes() != &id.0 {
            return Ok(None);
        }
        let (repository, keyring) = (self.repository.id(), self.repository.keyring());
        let Some(verify) = self.repository.trust().verify_key(self.writer) else { return Ok(None) };
        segment.verify(repository, verify)?;
        let directory = segment.directory(repository, keyring.index_key(segment.header.epoch)?)?;
        let frames = segment.frames(&directory)?;
        Ok(Some((directory, frames)))
    }

    fn take_removes(
        &mut self,
        directory: &Directory,
        there: &HashMap<PackId, u64>,
        taken: &mut Taken,
    ) -> bool {
        let (standing, gone): (Vec<_>, Vec<_>) =
            directory.removes.iter().copied().partition(|id| there.contains_key(id));
        taken.removes.extend(gone);
        self.removes_dropped.extend(&standing);
        standing.is_empty()
    }

    /// Whether what he says of a pack can be true; nothing if it was removed and
    /// is gone, so that there is nothing to say.
    fn believe(&self, row: &PackRow, there: &HashMap<PackId, u64>) -> Result<Option<bool>> {
        let index = self.repository.index();
        let length = there.get(&row.id);
        if length == Some(&row.length) {
            return Ok(Some(true));
        }
        if length.is_none() && index.is_removed(row.id)? {
            return Ok(None);
        }
        // lost, or he states another length than that of a pack that is whole
        let whole = match length.map(|length| self.repository.own_toc(row.id, *length)) {
            Some(Ok(_)) => true,
            Some(Err(error)) if error.kind != ErrorKind::Damage => return Err(error),
            _ => false,
        };
        Ok(Some(!whole && index.has_frame(row.id, row.length, row.frame_hash)))
    }

    fn take_pack(&mut self, row: PackRow, frame: &[u8], taken: &mut Taken) -> bool {
        let read = self.repository.read_frame(row.id, row.length, frame, self.writer);
        let is_late = |birth: u64| self.since.is_some_and(|since| birth >= since);
        let pack = match read {
            Ok(pack) if !is_late(pack.toc.toc.birth.0 >> 20) => pack,
            _ => {
                self.packs_dropped.insert(row.id);
                return false;
            }
        };
        let toc = &pack.toc.toc;
        taken.needed |= !toc.foreign.is_empty();
        if !self.packs.contains(&row.id) {
            let chunks = toc.chunks.iter().map(|chunk| chunk.id).collect();
            let listed = ListedPack { length: row.length, frame: frame.to_vec(), chunks };
            taken.packs.entry(row.id).or_insert(listed);
        }
        true
    }

    fn put(&mut self, mut taken: Taken) -> Result<()> {
        taken.removes.retain(|id| !self.removes.contains(id));
        self.needed |= taken.needed;
        if !taken.needed
            || taken.packs.is_empty() && taken.removes.is_empty() && taken.supersedes.is_empty()
        {
            return Ok(());
        }
        if self.writer == self.repository.keyring().writer {
            return Err(Error::failed(
                "this key has pruned, and cannot hand that over to itself: \
                 remove it with another full key",
            ));
        }
        self.packs.extend(taken.packs.keys());
        self.removes.extend(&taken.removes);
        self.done.extend(&taken.supersedes);
        self.repository.put_new_segments(&NewSegments {
            packs: taken.packs,
            removes: taken.removes.into_iter().collect(),
            supersedes: taken.supersedes,
        })
    }
}

/// A segment's directory, and the frame of each pack it lists.
type Opened<'b> = (Directory, Vec<&'b [u8]>);

/// What one look found to take over.
#[derive(Default)]
struct Taken {
    packs: BTreeMap<PackId, ListedPack>,
    removes: BTreeSet<PackId>,
    supersedes: Vec<SegmentId>,
    /// Whether anything of it stops counting with the writer.
    needed: bool,
}
