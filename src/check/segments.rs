//! Index segments, whole and from the store: hash, signature, look-up pieces,
//! tables; and that the local index says what they say.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use super::report::Findings;
use crate::format::FormatError;
use crate::format::pack::pack_key;
use crate::format::segment::{self, Directory, MAX_SEGMENT, segment_key, segment_of_key};
use crate::id::{PackId, SegmentId, WriterId};
use crate::progress::{Event, Progress};
use crate::repository::keyring::Trust;
use crate::repository::sync::OpenedSegment;
use crate::repository::{Error, Repository, Result};
use crate::store::{ErrorKind as StoreKind, Listed, Reading, StoreError, read_many};

const THREADS: usize = 2;
const BUDGET_BYTES: u64 = 128 << 20;

struct SegmentCheck<'a> {
    repository: &'a Repository,
    trust: &'a Trust,
    findings: &'a Findings,
    progress: &'a dyn Progress,
    /// Packs that a segment in the store, whole and believed, lists.
    listed: Mutex<HashSet<PackId>>,
    /// Segments that maintainers put others in the stead of.
    superseded: Mutex<HashSet<SegmentId>>,
    unreadable: Mutex<Vec<(SegmentId, String, Option<FormatError>)>>,
    error: Mutex<Option<Error>>,
}

pub(super) fn check(
    repository: &Repository,
    listing: &[Listed],
    trust: &Trust,
    findings: &Findings,
    progress: &dyn Progress,
) -> Result<()> {
    let segments: Vec<Listed> =
        listing.iter().filter(|l| segment_of_key(&l.key).is_some()).cloned().collect();
    progress.event(Event::Stage("checking the index"));
    progress.event(Event::Expect { files: segments.len() as u64, bytes: 0 });
    findings.count(|counts| counts.segments = segments.len() as u64);
    let check = SegmentCheck {
        repository,
        trust,
        findings,
        progress,
        listed: Mutex::default(),
        superseded: Mutex::default(),
        unreadable: Mutex::default(),
        error: Mutex::default(),
    };
    let max_length = MAX_SEGMENT as u64;
    let reading = Reading { threads: THREADS, budget_bytes: BUDGET_BYTES, max_length };
    read_many(&**repository.store(), &segments, reading, &|listed, read| {
        check.segment(listed, read)
    });
    check.settle_unreadable();
    if let Some(error) = check.error.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let listed = check.listed.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut only_here = 0;
    for (_, info) in repository.index().packs() {
        if !listed.contains(&info.id) {
            only_here += 1;
            let what = "is known to this machine's cache only: no whole segment lists it";
            findings.damage(&pack_key(info.id), what, None);
        }
    }
    if only_here > 0 {
        findings.unproven("another machine, or this one without its cache, would find less");
    }
    Ok(())
}

impl SegmentCheck<'_> {
    fn segment(
        &self,
        listed: &Listed,
        read: std::result::Result<bytes::Bytes, StoreError>,
    ) -> ControlFlow<()> {
        self.progress.event(Event::Done { files: 1, bytes: listed.length });
        let stop = |error| {
            *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            ControlFlow::Break(())
        };
        if self.progress.interrupted() {
            return stop(Error::interrupted());
        }
        let key = &listed.key;
        let Some(id) = segment_of_key(key) else { return ControlFlow::Continue(()) };
        let result = match read {
            Ok(bytes) => self.whole(id, key, &bytes),
            Err(error) => match error.kind() {
                StoreKind::NotFound => Ok(()),
                StoreKind::Temporary | StoreKind::Permission | StoreKind::Absent => {
                    Err(error.into())
                }
                StoreKind::TooLarge => {
                    self.unreadable(id, "is longer than any such object may be".to_owned(), None);
                    Ok(())
                }
                // a sector that cannot be read is damage like any other
                _ => {
                    self.unreadable(id, format!("cannot be read: {error}"), None);
                    Ok(())
                }
            },
        };
        match result {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => stop(error),
        }
    }

    fn whole(&self, id: SegmentId, key: &str, bytes: &[u8]) -> Result<()> {
        match self.repository.open_segment(id, bytes, self.trust) {
            Ok(OpenedSegment { signer, directory, frames }) => {
                if self.trust.standing(signer).may_maintain() {
                    let mut superseded =
                        self.superseded.lock().unwrap_or_else(PoisonError::into_inner);
                    superseded.extend(&directory.supersedes);
                }
                self.compare(key, signer, &directory, &frames)
            }
            Err(error) => {
                self.unreadable(id, error.what.clone(), Some(error));
                Ok(())
            }
        }
    }

    fn unreadable(&self, id: SegmentId, what: String, error: Option<FormatError>) {
        let mut unreadable = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        unreadable.push((id, what, error));
    }

    /// What cannot be read is damage, unless a maintainer put others in its stead.
    fn settle_unreadable(&self) {
        let mut unreadable = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        let superseded = self.superseded.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, what, error) in unreadable.drain(..) {
            let key = segment_key(id);
            match error {
                _ if superseded.contains(&id) => {
                    let what = format!("{what}; others stand in its stead: a prune deletes it");
                    self.findings.note(&key, &what, None);
                }
                Some(error) => self.findings.format(&key, &error),
                None => self.findings.damage(&key, &what, None),
            }
        }
    }

    fn compare(
        &self,
        key: &str,
        signer: WriterId,
        directory: &Directory,
        frames: &[&[u8]],
    ) -> Result<()> {
        let index = self.repository.index();
        for (row, frame) in directory.packs.iter().zip(frames) {
            let read = self.repository.read_frame(row.id, row.length, frame, signer);
            let pack = match read {
                Ok(pack) => pack,
                Err(error) => {
                    self.findings.format(key, &error);
                    continue;
                }
            };
            self.listed.lock().unwrap_or_else(PoisonError::into_inner).insert(row.id);
            // removed by another segment, or swept since: then it is not indexed
            let Some(number) = index.pack_number(row.id) else { continue };
            let Some(info) = index.pack(number) else { continue };
            let same = info.length == row.length
                && info.signer == pack.signer
                && index.toc(number)?.toc == pack.toc.toc;
            if !same {
                let what = format!(
                    "says something else of {} than the cache: delete the cache directory \
                     and check again",
                    pack_key(row.id)
                );
                self.findings.damage(key, &what, None);
            }
        }
        debug_assert!(key.starts_with(segment::PREFIX));
        Ok(())
    }
}
