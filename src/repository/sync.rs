//! Brings the local index up to what the listed segments say.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use super::Repository;
use super::blocks::twice;
use super::error::{Error, ErrorKind, Result};
use super::index::{NewPack, NewSegment, PackNumber, PackToc};
use super::keyring::{Standing, Trust};
use super::ranged::RangedState;
use crate::format::FormatError;
use crate::format::pack::{FOOTER_LENGTH, Footer, MAX_PACK, Toc, TocFrame, pack_key};
use crate::format::reader::Reader;
use crate::format::segment::{self, Directory, HEADER_LENGTH, MAX_SEGMENT, Segment};
use crate::id::{ObjectHash, PackId, SegmentId, WriterId};
use crate::progress::{Event, Progress};
use crate::store::{Ahead, ErrorKind as StoreKind, ask_all, at_once, in_order};

/// Bytes at the end of a pack that hold most tables.
const TAIL: u64 = 128 << 10;
/// Bytes of segments that are fetched, and added to the index, at once.
const BATCH: u64 = 32 << 20;
/// Bytes of ends of packs that are read ahead.
const AHEAD_BYTES: u64 = 32 << 20;

/// The table that a pack ends in, or why it could not be read.
pub type OwnToc = Result<Arc<PackToc>>;

/// Objects of the index that could not be used, by key.
pub type Troubles = Vec<Error>;

/// A segment that is whole, with its tables still sealed.
pub(crate) struct OpenedSegment<'b> {
    pub signer: WriterId,
    pub directory: Directory,
    pub frames: Vec<&'b [u8]>,
}

/// Which segments there are, here and in the store.
pub(super) struct SegmentsSeen {
    /// Those the index has whole.
    pub whole: HashSet<SegmentId>,
    /// Those it has some packs of.
    pub partial: HashSet<SegmentId>,
    /// Listed, with their lengths.
    pub listed: BTreeMap<SegmentId, u64>,
}

impl SegmentsSeen {
    /// Listed and not here whole, with their lengths.
    pub fn missing(&self) -> Vec<(SegmentId, u64)> {
        let missing = self.listed.iter().filter(|(id, _)| !self.whole.contains(*id));
        missing.map(|(id, length)| (*id, *length)).collect()
    }

    /// No longer listed.
    pub fn gone(&self) -> Vec<SegmentId> {
        let known = self.whole.union(&self.partial);
        known.filter(|id| !self.listed.contains_key(*id)).copied().collect()
    }
}

impl Repository {
    /// Loads segments that are listed and not yet known, and forgets those that
    /// are no longer listed. Segments that are damaged or signed by nobody are
    /// reported and earn nothing.
    pub fn sync_index(&self, progress: &dyn Progress) -> Result<Troubles> {
        let mut ranged = self.ranged.lock();
        self.sync_whole(&mut ranged, progress)
    }

    /// The same for who holds what is known of segments that are not loaded:
    /// afterwards there are none.
    pub(super) fn sync_whole(
        &self,
        ranged: &mut RangedState<'_>,
        progress: &dyn Progress,
    ) -> Result<Troubles> {
        let troubles = match self.look_at_segments().and_then(|seen| self.load(&seen, progress)) {
            // a disk that is full, or read-only, must not keep anybody from his data
            Err(error) if error.kind == ErrorKind::Cache => {
                self.go_on_in_memory(&error, progress)?;
                self.look_at_segments().and_then(|seen| self.load(&seen, progress))
            }
            result => result,
        }?;
        ranged.end();
        Ok(troubles)
    }

    /// Gives the database on disk up.
    pub(super) fn go_on_in_memory(&self, error: &Error, progress: &dyn Progress) -> Result<()> {
        progress.event(Event::Warning(&error.message));
        self.index.leave_disk()?;
        // blocks are named by numbers that mean other packs now
        self.blocks.clear();
        Ok(())
    }

    /// Brings the index's own knowledge up to date, then lists segments.
    pub(super) fn look_at_segments(&self) -> Result<SegmentsSeen> {
        self.index.judge_anew_unless(self.judgement())?;
        self.index.load_packs()?;
        // known first: what is added meanwhile must not look gone
        let whole = self.index.segments()?;
        let partial = self.index.partial_segments()?;
        let listed = self
            .store
            .list(segment::PREFIX)?
            .iter()
            .filter_map(|listed| Some((segment::segment_of_key(&listed.key)?, listed.length)))
            .collect();
        Ok(SegmentsSeen { whole, partial, listed })
    }

    /// Loads all that is listed and not there whole.
    pub(super) fn load(&self, seen: &SegmentsSeen, progress: &dyn Progress) -> Result<Troubles> {
        let mut troubles = Vec::new();
        let mut new = seen.missing();
        // a revoked maintainer's segments last: what somebody in force lists
        // too is then known with all that it may say
        let mut of_revoked = Vec::new();
        let some_are_new = !new.is_empty();
        self.load_segments(&new, &mut troubles, Some(&mut of_revoked))?;
        new.retain(|(id, _)| of_revoked.contains(id));
        self.load_segments(&new, &mut troubles, None)?;
        let mut gone = seen.gone();
        if !seen.partial.is_empty() {
            // what was looked up in one that turned out to be worth nothing
            let still_partial = self.index.partial_segments()?;
            gone.extend(seen.partial.intersection(&still_partial));
        }
        // only now: what a merge took over must not be dropped in between
        self.index.drop_segments(&gone)?;
        if some_are_new {
            // a segment may list what an earlier one removed
            self.index.load_packs()?;
            let directories = self.index.cached_keys(segment::PREFIX);
            self.index.forget_objects(directories.iter().map(String::as_str));
        }
        for trouble in &troubles {
            progress.event(Event::Warning(&trouble.message));
        }
        Ok(troubles)
    }

    /// What the loaded segments were judged by: the maintainers that are revoked.
    fn judgement(&self) -> ObjectHash {
        let mut revoked: Vec<WriterId> = self
            .trust
            .update()
            .writers
            .iter()
            .map(|writer| writer.id)
            .filter(|id| self.trust.standing(*id).is_revoked_maintainer())
            .collect();
        revoked.sort_unstable();
        ObjectHash::of(&revoked.iter().flat_map(|id| id.0).collect::<Vec<_>>())
    }

    /// Loads segments in batches: those of one are fetched side by side, and
    /// added to the index as one change. Segments by a revoked maintainer only go
    /// to `later`.
    fn load_segments(
        &self,
        new: &[(SegmentId, u64)],
        troubles: &mut Troubles,
        mut later: Option<&mut Vec<SegmentId>>,
    ) -> Result<()> {
        for batch in batches(new) {
            let fetched = self.fetch_segments(batch)?;
            let mut disputed = Vec::new();
            self.index.batch(|| {
                for ((id, _), bytes) in batch.iter().zip(fetched) {
                    let mut packs = Vec::new();
                    let read = bytes.and_then(|bytes| {
                        let Some(bytes) = bytes else { return Ok(Vec::new()) };
                        let later = later.as_deref_mut();
                        let read = self.read_segment(*id, &bytes, later, Some(&mut packs));
                        if !packs.is_empty() {
                            disputed.push((*id, bytes, packs));
                        }
                        read
                    });
                    match read {
                        Ok(mut found) => troubles.append(&mut found),
                        Err(error) if error.kind == ErrorKind::Damage => troubles.push(error),
                        Err(error) => return Err(error),
                    }
                }
                Ok(())
            })?;
            // not in between: other processes wait while a batch is open
            for (id, bytes, packs) in disputed {
                for (pack, listed_by) in packs {
                    match self.settle_table(pack, listed_by) {
                        Err(error) if error.kind != ErrorKind::Damage => return Err(error),
                        settled => troubles.extend(settled.err()),
                    }
                }
                self.index.batch(|| self.read_segment(id, &bytes, None, None).map(drop))?;
            }
        }
        match new.is_empty() {
            true => Ok(()),
            false => self.index.settle(),
        }
    }

    /// The bytes of each, or nothing if it is gone, or why it cannot be used.
    fn fetch_segments(&self, batch: &[(SegmentId, u64)]) -> Result<Vec<Result<Option<Bytes>>>> {
        let fetch = |(id, _): &(SegmentId, u64)| {
            let key = segment::segment_key(*id);
            match self.store.get(&key, MAX_SEGMENT as u64) {
                Ok(bytes) if *blake3::hash(&bytes).as_bytes() == id.0 => Ok(Ok(Some(bytes))),
                Ok(_) => {
                    let message = format!("{key}: its bytes do not match its name [SEG-9]");
                    Ok(Err(Error::damage(message)))
                }
                // superseded and swept since the listing
                Err(error) if error.kind() == StoreKind::NotFound => Ok(Ok(None)),
                // no segment is that long: one object must not end every command
                Err(error)
                    if matches!(error.kind(), StoreKind::TooLarge | StoreKind::Unreadable) =>
                {
                    Ok(Err(error.into()))
                }
                Err(error) => Err(Error::from(error)),
            }
        };
        ask_all(self.store.concurrency(), batch, &fetch).into_iter().collect()
    }

    /// A segment read whole: its name, signature, directory, look-up pieces and
    /// frames are what they should be. Its tables are not opened yet.
    pub(crate) fn open_segment<'b>(
        &self,
        id: SegmentId,
        bytes: &'b [u8],
        trust: &Trust,
    ) -> std::result::Result<OpenedSegment<'b>, FormatError> {
        if blake3::hash(bytes).as_bytes() != &id.0 {
            return Err(FormatError::new("SEG-9", "its bytes do not match its name"));
        }
        let segment = Segment::parse(bytes)?;
        let (signer, epoch) = (segment.header.signer, segment.header.epoch);
        let verify = trust.verify_key(signer).ok_or_else(|| unlisted("SEG-4"))?;
        segment.verify(self.id(), verify)?;
        let key = self.keyring.index_key(epoch)?;
        let directory = segment.directory(self.id(), key)?;
        let frames = segment.frames(&directory)?;
        let mut pieces = Reader::new(bytes, "SEG-3");
        pieces.take(HEADER_LENGTH + segment.header.directory_length as usize)?;
        for piece in &directory.pieces {
            let sealed = pieces.take(piece.sealed_length())?;
            let rows = piece.open(self.id(), epoch, key, sealed)?;
            if rows.iter().any(|(_, pack)| *pack as usize >= directory.packs.len()) {
                return Err(FormatError::new("SEG-6", "a look-up piece names no pack it lists"));
            }
        }
        Ok(OpenedSegment { signer, directory, frames })
    }

    /// Adds a segment to the index. `later` takes one by a revoked maintainer,
    /// `disputed` packs of which it tells something else than what is known; then it
    /// is not added.
    fn read_segment(
        &self,
        id: SegmentId,
        bytes: &[u8],
        later: Option<&mut Vec<SegmentId>>,
        disputed: Option<&mut Vec<(PackId, WriterId)>>,
    ) -> Result<Troubles> {
        let key = segment::segment_key(id);
        let in_object = |error| Error::in_object(&key, error);
        let segment = Segment::parse(bytes).map_err(in_object)?;
        let signer = segment.header.signer;
        let verify = self.trust.verify_key(signer);
        let verify = verify.ok_or_else(|| in_object(unlisted("SEG-4")))?;
        segment.verify(self.id(), verify).map_err(in_object)?;
        if let Some(later) = later
            && self.trust.standing(signer).is_revoked_maintainer()
        {
            later.push(id);
            return Ok(Vec::new());
        }
        let index_key = self.keyring.index_key(segment.header.epoch).map_err(in_object)?;
        let directory = segment.directory(self.id(), index_key).map_err(in_object)?;
        let frames = segment.frames(&directory).map_err(in_object)?;
        // only a maintainer may say that something is gone
        let (supersedes, removes) = match self.trust.standing(signer).may_maintain() {
            true => (directory.supersedes.clone(), directory.removes.clone()),
            false => (Vec::new(), Vec::new()),
        };
        let mut troubles = Vec::new();
        let (mut known, mut packs, mut differing) = (Vec::new(), Vec::new(), Vec::new());
        for (row, frame) in directory.packs.iter().zip(frames) {
            if self.index.is_removed(row.id)? {
                continue;
            }
            if self.index.has_frame(row.id, row.length, row.frame_hash) {
                known.push(row.id);
                continue;
            }
            let read = self.read_frame(row.id, row.length, frame, signer);
            match (self.index.pack_number(row.id), read) {
                (Some(number), Ok(pack)) if !self.says_the_same(number, &pack)? => {
                    differing.push((row.id, signer));
                    known.push(row.id);
                }
                (Some(_), _) => known.push(row.id),
                (None, Ok(pack)) => packs.push(pack),
                (None, Err(error)) => {
                    troubles.push(Error::in_object(&segment::segment_key(id), error));
                }
            }
        }
        if let Some(disputed) = disputed
            && !differing.is_empty()
        {
            // known when it is settled what these packs hold, and not before
            disputed.append(&mut differing);
            return Ok(troubles);
        }
        self.index.add_segment(&NewSegment {
            id,
            signer,
            supersedes: &supersedes,
            removes: &removes,
            known: &known,
            packs: &packs,
        })?;
        Ok(troubles)
    }

    /// Whether the index has the same table for a pack as `other`. Foreign
    /// origins are left out: whether they count depends on who lists the pack.
    pub(crate) fn says_the_same(&self, number: PackNumber, other: &NewPack) -> Result<bool> {
        let same_signer = self.index.pack(number).is_some_and(|info| info.signer == other.signer);
        let (known, other) = (self.index.toc(number)?, &other.toc.toc);
        Ok(same_signer && (&known.toc.blocks, &known.toc.chunks) == (&other.blocks, &other.chunks))
    }

    /// What a pack says itself that it holds: the table that it ends in, read from
    /// the store, with all foreign origins that it claims, whether they count or
    /// not.
    pub fn own_toc(&self, id: PackId, length: u64) -> OwnToc {
        twice(|| self.read_own_toc(id, length))
    }

    fn read_own_toc(&self, id: PackId, length: u64) -> OwnToc {
        let key = pack_key(id);
        let in_object = |error| Error::in_object(&key, error);
        let short = || Error::damage(format!("{key}: is too short for a pack [PACK-4]"));
        let tail =
            |size: u64| self.store.get_range(&key, length - size.min(length), size.min(length));
        // most tables are shorter than this: one request
        let mut end = tail(TAIL)?;
        let footer = end.last_chunk::<FOOTER_LENGTH>().ok_or_else(short)?;
        let frame_length = Footer::parse(footer).map_err(in_object)?.frame_length();
        if frame_length as u64 > length {
            return Err(short());
        }
        if frame_length > end.len() {
            end = tail(frame_length as u64)?;
        }
        let frame = end.get(end.len() - frame_length..).ok_or_else(short)?;
        let (_, toc) = self.open_frame(length, frame).map_err(in_object)?;
        Ok(Arc::new(PackToc::new(id, toc)))
    }

    /// What several packs say themselves, in the order of `packs`: nothing of those
    /// that are not `listed`.
    pub fn own_tocs(
        &self,
        packs: &[PackId],
        listed: &HashMap<PackId, u64>,
        mut take: impl FnMut(PackId, Option<OwnToc>) -> Result<()>,
    ) -> Result<()> {
        let ahead = Ahead { requests: at_once(&*self.store), budget_bytes: AHEAD_BYTES };
        in_order(
            packs,
            ahead,
            |_| TAIL,
            |id| listed.get(id).map(|length| self.own_toc(*id, *length)),
            |id, own| take(*id, own),
        )
    }

    /// Two segments tell different things of one pack. What a pack holds is
    /// read from the pack itself; its name vouches for that.
    fn settle_table(&self, id: PackId, listed_by: WriterId) -> Result<()> {
        let key = pack_key(id);
        let bytes = self.store.get(&key, MAX_PACK)?;
        if *blake3::hash(&bytes).as_bytes() != id.0 {
            return Err(Error::damage(format!("{key}: its bytes do not match its name [PACK-10]")));
        }
        let in_object = |error| Error::in_object(&key, error);
        let frame = TocFrame::of_pack(&bytes).map_err(in_object)?;
        let start = bytes.len().saturating_sub(frame.footer.frame_length());
        let frame = bytes.get(start..).unwrap_or_default();
        let own = self.read_frame(id, bytes.len() as u64, frame, listed_by).map_err(in_object)?;
        self.index.replace_table(&own)
    }

    /// A table of contents as it was signed, and by which listed writer.
    fn open_frame(
        &self,
        length: u64,
        frame: &[u8],
    ) -> std::result::Result<(WriterId, Toc), FormatError> {
        let frame = TocFrame::parse(frame)?;
        let signer = frame.footer.signer;
        let verify = self.trust.verify_key(signer).ok_or_else(|| unlisted("TOC-1"))?;
        frame.verify(self.id(), verify)?;
        let toc = frame.open(self.id(), self.keyring.index_key(frame.footer.epoch)?)?;
        if !toc.fits(length) {
            return Err(FormatError::new("PACK-6", "the table tells of more than the pack holds"));
        }
        Ok((signer, toc))
    }

    /// A table of contents that some listed writer signed, as a segment by
    /// `listed_by` carries it: with the foreign origins that count.
    pub(crate) fn read_frame(
        &self,
        pack: PackId,
        length: u64,
        frame: &[u8],
        listed_by: WriterId,
    ) -> std::result::Result<NewPack, FormatError> {
        let frame_hash = segment::frame_hash(frame);
        let (signer, mut toc) = self.open_frame(length, frame)?;
        // only a maintainer may say that a chunk was born elsewhere; once he is
        // revoked, another must have taken over his packs
        let standing = self.trust.standing(signer);
        let taken_over =
            standing.is_revoked_maintainer() && self.trust.standing(listed_by).may_maintain();
        if !standing.may_maintain() && !taken_over {
            toc.foreign.clear();
        }
        let toc = Arc::new(PackToc::new(pack, toc));
        Ok(NewPack { id: pack, length, signer, frame_hash, toc })
    }

    /// Whose chunks this client may build on: see [`Claimants`].
    pub(crate) fn claimants(&self) -> Claimants {
        let mut claimants = Claimants { own: HashSet::new(), carriers: HashSet::new() };
        for writer in &self.trust.update().writers {
            let Standing::InForce(role) = self.trust.standing(writer.id) else { continue };
            if role.may_maintain() {
                claimants.carriers.insert(writer.id);
            }
            if role.may_write() && writer.domain == self.keyring.domain {
                claimants.own.insert(writer.id);
            }
        }
        claimants
    }
}

/// New segments in the order of their ids, in batches that memory can hold.
fn batches(new: &[(SegmentId, u64)]) -> Vec<&[(SegmentId, u64)]> {
    let mut bytes = 0;
    new.chunk_by(|(_, this), (_, next)| {
        bytes += this;
        let fits = bytes + next <= BATCH;
        bytes = if fits { bytes } else { 0 };
        fits
    })
    .collect()
}

pub(super) fn unlisted(rule: &'static str) -> FormatError {
    FormatError::new(rule, "is signed by nobody this repository lists")
}

/// Whose claims this client deduplicates against: a pack's table and a segment
/// that lists it are signed by writers in force, and the chunk is claimed by one
/// that shares the domain.
pub struct Claimants {
    /// Writers of this client's domain.
    own: HashSet<WriterId>,
    /// Those who may move what others claimed.
    carriers: HashSet<WriterId>,
}

/// How much of a pack this client may build on.
#[derive(Clone, Copy)]
pub enum Claim {
    Nothing,
    All,
    /// It depends on who claimed a block.
    Blocks,
}

impl Claimants {
    pub fn claim(&self, info: &super::index::PackInfo) -> Claim {
        let in_force = |id: &WriterId| self.own.contains(id) || self.carriers.contains(id);
        match info.listed_by.iter().any(in_force) {
            false => Claim::Nothing,
            // who may move others' blocks names beside each who claimed it: for what
            // he puts himself that is he
            true if self.carriers.contains(&info.signer) => match info.claimed_by {
                Some(writer) if self.own.contains(&writer) => Claim::All,
                Some(_) => Claim::Nothing,
                None => Claim::Blocks,
            },
            true if self.own.contains(&info.signer) => Claim::All,
            true => Claim::Nothing,
        }
    }

    pub fn may_use(&self, claim: Claim, toc: &PackToc, ordinal: u16) -> bool {
        match claim {
            Claim::Nothing => false,
            Claim::All => true,
            Claim::Blocks => {
                let block = toc.toc.blocks.get(toc.block_of(ordinal));
                let session = block.and_then(|b| toc.toc.sessions.get(usize::from(b.session)));
                session.is_some_and(|session| self.own.contains(&session.writer))
            }
        }
    }
}
