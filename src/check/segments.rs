//! Index segments, whole and from the store: hash, signature, look-up pieces,
//! tables; and that the local index says what they say.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use super::objects::unreadable;
use super::report::Findings;
use crate::format::FormatError;
use crate::format::pack::pack_key;
use crate::format::reader::Reader;
use crate::format::segment::{
    self, Directory, HEADER_LENGTH, MAX_SEGMENT, Segment, segment_of_key,
};
use crate::id::{PackId, SegmentId, WriterId};
use crate::progress::{Event, Progress};
use crate::repository::keyring::Trust;
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
        error: Mutex::default(),
    };
    let max_length = MAX_SEGMENT as u64;
    let reading = Reading { threads: THREADS, budget_bytes: BUDGET_BYTES, max_length };
    read_many(&**repository.store(), &segments, reading, &|listed, read| {
        check.segment(listed, read)
    });
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
        let result = match read {
            Err(error) if error.kind() == StoreKind::NotFound => Ok(()),
            Err(error) => unreadable(key, error, self.findings),
            Ok(bytes) => match segment_of_key(key) {
                Some(id) => self.whole(id, key, &bytes),
                None => Ok(()),
            },
        };
        match result {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => stop(error),
        }
    }

    fn whole(&self, id: SegmentId, key: &str, bytes: &[u8]) -> Result<()> {
        if blake3::hash(bytes).as_bytes() != &id.0 {
            self.findings.damage(key, "its bytes do not match its name", Some("SEG-9"));
            return Ok(());
        }
        match self.parse(bytes) {
            Ok((signer, directory, frames)) => self.compare(key, signer, &directory, &frames),
            Err(error) => {
                self.findings.format(key, &error);
                Ok(())
            }
        }
    }

    fn parse<'b>(
        &self,
        bytes: &'b [u8],
    ) -> std::result::Result<(WriterId, Directory, Vec<&'b [u8]>), FormatError> {
        let segment = Segment::parse(bytes)?;
        let unlisted = || FormatError::new("SEG-4", "is signed by nobody this repository lists");
        let verify = self.trust.verify_key(segment.header.signer).ok_or_else(unlisted)?;
        let repository = self.repository.id();
        segment.verify(repository, verify)?;
        let key = self.repository.keyring().index_key(segment.header.epoch)?;
        let directory = segment.directory(repository, key)?;
        let frames = segment.frames(&directory)?;
        let mut pieces = Reader::new(bytes, "SEG-3");
        pieces.take(HEADER_LENGTH + segment.header.directory_length as usize)?;
        for piece in &directory.pieces {
            let sealed = pieces.take(piece.sealed_length())?;
            let rows = piece.open(repository, segment.header.epoch, key, sealed)?;
            if rows.iter().any(|(_, pack)| *pack as usize >= directory.packs.len()) {
                return Err(FormatError::new("SEG-6", "a look-up piece names no pack it lists"));
            }
        }
        Ok((segment.header.signer, directory, frames))
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
