//! What the listed segments say, read from the store and not from the cache, and
//! which of them cannot be read.

use std::collections::{BTreeSet, HashSet};

use super::Remaining;
use crate::format::FormatError;
use crate::format::segment::{self, MAX_SEGMENT, segment_key, segment_of_key};
use crate::id::{PackId, SegmentId};
use crate::progress::{Event, Progress};
use crate::repository::{Error, Repository, Result, Trust};
use crate::store::ErrorKind as StoreKind;

/// A segment that is whole and by somebody listed.
pub struct Whole {
    pub id: SegmentId,
    pub packs: Vec<PackId>,
    pub removes: Vec<PackId>,
}

#[derive(Default)]
pub struct Segments {
    pub whole: Vec<Whole>,
    /// Packs that whole segments list with a table that can be read.
    pub listed: HashSet<PackId>,
    /// Packs that maintainers removed.
    pub removed: BTreeSet<PackId>,
    /// Segments that maintainers superseded.
    pub superseded: HashSet<SegmentId>,
    /// What another segment may stand in for.
    pub unreadable: Vec<(SegmentId, String)>,
    /// What is left alone.
    pub strange: Vec<Remaining>,
}

impl Segments {
    pub fn read(
        repository: &Repository,
        trust: &Trust,
        progress: &dyn Progress,
    ) -> Result<Segments> {
        let mut segments = Segments::default();
        let listing = repository.store().list(segment::PREFIX)?;
        progress.event(Event::Expect { files: listing.len() as u64, bytes: 0 });
        for id in listing.iter().filter_map(|listed| segment_of_key(&listed.key)) {
            if progress.interrupted() {
                return Err(Error::interrupted());
            }
            segments.read_one(repository, trust, id)?;
            progress.event(Event::Done { files: 1, bytes: 0 });
        }
        Ok(segments)
    }

    fn read_one(&mut self, repository: &Repository, trust: &Trust, id: SegmentId) -> Result<()> {
        let bytes = match repository.store().get(&segment_key(id), MAX_SEGMENT as u64) {
            Ok(bytes) => bytes,
            Err(error) => {
                return match error.kind() {
                    // superseded and swept since the listing
                    StoreKind::NotFound => Ok(()),
                    StoreKind::TooLarge | StoreKind::Unreadable => {
                        self.unreadable.push((id, error.to_string()));
                        Ok(())
                    }
                    _ => Err(error.into()),
                };
            }
        };
        if let Err(error) = self.parse(repository, trust, id, &bytes) {
            match stays(&error) {
                true => {
                    let what = error.to_string();
                    self.strange.push(Remaining { key: segment_key(id), what });
                }
                false => self.unreadable.push((id, error.to_string())),
            }
        }
        Ok(())
    }

    fn parse(
        &mut self,
        repository: &Repository,
        trust: &Trust,
        id: SegmentId,
        bytes: &[u8],
    ) -> std::result::Result<(), FormatError> {
        let segment = repository.open_segment(id, bytes, trust)?;
        let (signer, directory) = (segment.signer, segment.directory);
        for (row, frame) in directory.packs.iter().zip(segment.frames) {
            if repository.read_frame(row.id, row.length, frame, signer).is_ok() {
                self.listed.insert(row.id);
            }
        }
        let packs = directory.packs.iter().map(|row| row.id).collect();
        let mut whole = Whole { id, packs, removes: Vec::new() };
        if trust.standing(signer).may_maintain() {
            self.removed.extend(&directory.removes);
            self.superseded.extend(&directory.supersedes);
            whole.removes = directory.removes;
        }
        self.whole.push(whole);
        Ok(())
    }
}

/// Segments that this program, this key or this trust cannot judge are nobody's
/// to replace: newer ones, of an epoch the key lacks, by an unlisted signer.
fn stays(error: &FormatError) -> bool {
    error.asks_for_upgrade() || matches!(error.rule, "OBJ-8" | "SEG-4")
}
