//! Keeps index segments few: small ones are merged into one, which carries
//! every remove on. What was merged is deleted by a later prune, so that nobody
//! finds neither. Packs' tables are copied byte for byte; no chunk row of
//! anybody's local index changes.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::format::segment::{self, MAX_SEGMENT, segment_key, segment_of_key};
use crate::id::{PackId, SegmentId};
use crate::repository::segments::{ListedPack, NewSegments, TARGET};
use crate::repository::sync::OpenedSegment;
use crate::repository::{Error, Repository, Result};
use crate::store::{Ahead, ErrorKind as StoreKind, at_once, in_order};

/// Segments below this are merged, in bytes.
const SMALL: u64 = 4 << 20;
/// How many small ones there must be, so that merging pays.
const ENOUGH: usize = 16;
/// How many are merged at once, so that no prune pays for all that others left.
const MOST: usize = 64;
/// Bytes of them: all are in memory.
const MOST_BYTES: u64 = 128 << 20;
/// Segments that were merged once and lie below this are merged again, when they
/// are as long as this together: whoever looks up by ranges asks all segments.
const MIDDLE: u64 = TARGET as u64 / 2;
/// Bytes of segments that are read ahead.
const AHEAD_BYTES: u64 = 32 << 20;

/// Segments to merge, and what they say.
#[derive(Default)]
pub(super) struct Merge {
    pub supersedes: BTreeSet<SegmentId>,
    pub removes: BTreeSet<PackId>,
    pub packs: BTreeMap<PackId, ListedPack>,
}

/// Reads the segments worth merging. Those in `superseded` are merged already.
pub(super) fn plan(
    repository: &Repository,
    leaving: &HashSet<PackId>,
    superseded: &HashSet<SegmentId>,
    eager: bool,
) -> Result<Merge> {
    let listed: Vec<(SegmentId, u64)> = repository
        .store()
        .list(segment::PREFIX)?
        .iter()
        .filter_map(|listed| Some((segment_of_key(&listed.key)?, listed.length)))
        .filter(|(id, _)| !superseded.contains(id))
        .collect();
    let mut merge = Merge::default();
    let store = &**repository.store();
    let ahead = Ahead { requests: at_once(store), budget_bytes: AHEAD_BYTES };
    in_order(
        &worth_merging(listed, eager),
        ahead,
        |_| 2 * MIDDLE,
        |id| store.get(&segment_key(*id), MAX_SEGMENT as u64),
        |id, bytes| match bytes {
            Ok(bytes) => {
                // one that cannot be believed is left as it is
                let _ = merge.take(repository, *id, &bytes, leaving);
                Ok(())
            }
            Err(error) if error.kind() == StoreKind::NotFound => Ok(()),
            Err(error) => Err(Error::from(error)),
        },
    )?;
    Ok(merge)
}

/// Small segments, if there are enough, and longer ones that make a long one.
fn worth_merging(mut listed: Vec<(SegmentId, u64)>, eager: bool) -> Vec<SegmentId> {
    listed.retain(|(_, length)| *length < MIDDLE);
    let (mut small, mut middle): (Vec<_>, Vec<_>) =
        listed.into_iter().partition(|(_, length)| *length < SMALL);
    let (enough, most) = if eager { (2, usize::MAX) } else { (ENOUGH, MOST) };
    if small.len() < enough {
        small.clear();
    }
    small.truncate(most);
    take_until(&mut small, MOST_BYTES);
    middle.sort_by_key(|(_, length)| *length);
    if middle.len() < 2 || take_until(&mut middle, TARGET as u64) < MIDDLE {
        middle.clear();
    }
    small.extend(middle);
    small.into_iter().map(|(id, _)| id).collect()
}

/// Leaves the first that have so many bytes together at most; says how many.
fn take_until(segments: &mut Vec<(SegmentId, u64)>, most: u64) -> u64 {
    let mut bytes = 0;
    let fitting = segments.iter().take_while(|(_, length)| {
        let fits = bytes + length <= most;
        bytes += if fits { *length } else { 0 };
        fits
    });
    let count = fitting.count();
    segments.truncate(count);
    bytes
}

impl Merge {
    fn take(
        &mut self,
        repository: &Repository,
        id: SegmentId,
        bytes: &[u8],
        leaving: &HashSet<PackId>,
    ) -> Result<()> {
        let trust = repository.trust();
        let segment = repository
            .open_segment(id, bytes, trust)
            .map_err(|error| Error::in_object(&segment_key(id), error))?;
        let (signer, directory) = (segment.signer, segment.directory);
        if trust.standing(signer).is_revoked_maintainer() {
            // what of it counts was taken over when he was revoked
            return Err(Error::damage(format!("{}: is of a leaver", segment_key(id))));
        }
        let mut packs = Vec::new();
        for (row, frame) in directory.packs.iter().zip(segment.frames) {
            if leaving.contains(&row.id) || repository.index().is_removed(row.id)? {
                continue;
            }
            // put since the index was brought up to date: what it lists would be
            // lost with it, so it is left for a later prune
            let number = repository.index().pack_number(row.id).ok_or_else(|| {
                Error::damage(format!("{}: lists a pack not known yet", segment_key(id)))
            })?;
            // the index settled what a pack holds; a segment that says otherwise
            // is not carried on
            if !repository.index().has_frame(row.id, row.length, row.frame_hash) {
                return Err(Error::damage(format!("{}: is disputed", segment_key(id))));
            }
            let toc = repository.index().toc(number)?;
            let chunks = toc.toc.chunks.iter().map(|chunk| chunk.id).collect();
            packs.push((row.id, ListedPack { length: row.length, frame: frame.to_vec(), chunks }));
        }
        if trust.standing(signer).may_maintain() {
            self.removes.extend(&directory.removes);
        }
        self.packs.extend(packs);
        self.supersedes.insert(id);
        Ok(())
    }
}

/// Puts the merged segments; the last one removes `leaving` as well. Nothing is
/// put when nothing is to be said.
pub(super) fn put(repository: &Repository, merge: Merge, leaving: &[PackId]) -> Result<()> {
    let Merge { supersedes, mut removes, packs } = merge;
    removes.extend(leaving);
    if supersedes.is_empty() && removes.is_empty() {
        return Ok(());
    }
    repository.put_new_segments(&NewSegments {
        packs,
        removes: removes.into_iter().collect(),
        supersedes: supersedes.into_iter().collect(),
    })
}

/// Of segments that the index calls superseded, those that a segment of a
/// maintainer in force supersedes, read from the store now.
pub(super) fn proven_superseded(
    repository: &Repository,
    superseded: &HashSet<SegmentId>,
) -> Result<Vec<SegmentId>> {
    if superseded.is_empty() {
        return Ok(Vec::new());
    }
    let listed: BTreeSet<SegmentId> = repository
        .store()
        .list(segment::PREFIX)?
        .iter()
        .filter_map(|listed| segment_of_key(&listed.key))
        .collect();
    let may_supersede =
        |segment: &OpenedSegment<'_>| repository.trust().standing(segment.signer).may_maintain();
    let mut proven = BTreeSet::new();
    for id in repository.index().superseding()? {
        let bytes = match repository.store().get(&segment_key(id), MAX_SEGMENT as u64) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == StoreKind::NotFound => continue,
            Err(error) => return Err(error.into()),
        };
        let opened = repository.open_segment(id, &bytes, repository.trust());
        proven
            .extend(opened.into_iter().filter(may_supersede).flat_map(|s| s.directory.supersedes));
    }
    Ok(proven.into_iter().filter(|id| superseded.contains(id) && listed.contains(id)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enough_small_ones_and_what_makes_a_long_one_are_merged() {
        let check = |lengths: &[u64], eager, merged: usize| {
            let listed = lengths.iter().zip(0u32..).map(|(length, at)| {
                (SegmentId(*blake3::hash(&at.to_le_bytes()).as_bytes()), length << 20)
            });
            assert_eq!(worth_merging(listed.collect(), eager).len(), merged, "{lengths:?}");
        };
        check(&[1; 15], false, 0);
        check(&[1; 16], false, 16);
        check(&[1; 100], false, 64);
        check(&[3; 100], false, 42);
        check(&[1; 2], true, 2);
        check(&[15], true, 0);
        check(&[5, 5, 5], false, 0);
        check(&[5, 5, 6], false, 3);
        check(&[15, 15, 15, 20, 30, 64], false, 2);
        check(&[1, 1, 15, 15], false, 2);
    }
}
