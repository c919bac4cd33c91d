//! A segment of which only the directory is here: what else is wanted of it is
//! got by range, and held against the hashes in the directory.

use crate::format::FormatError;
use crate::format::segment::{
    Directory, HEADER_LENGTH, Header, MAX_SEGMENT, frame_hash, segment_key,
};
use crate::id::{PackId, SegmentId, WriterId};
use crate::repository::Repository;
use crate::repository::error::{Error, ErrorKind, Result};
use crate::repository::index::{NewPack, NewSegment};
use crate::repository::sync::unlisted;
use crate::store::ErrorKind as StoreKind;

/// A directory is about this part of its segment; what it is more is got by a
/// second request.
const DIRECTORY_SHARE: u64 = 512;
const DIRECTORY_GUESS: (u64, u64) = (4 << 10, 128 << 10);

/// The rows of a look-up piece.
pub(super) type Rows = Vec<([u8; 6], u32)>;

/// A segment whose directory is here.
pub(super) struct Remote {
    pub id: SegmentId,
    pub length: u64,
    pub signer: WriterId,
    epoch: u32,
    pub directory: Directory,
    /// Offsets of the pieces and of the frames.
    pieces: Vec<u64>,
    frames: Vec<u64>,
}

/// What a request told, where it is no reason to stop.
pub(super) enum Got<T> {
    It(T),
    /// The segment is not there any more.
    Gone,
    Unreadable(Error),
}

/// Sorts what a request came to: only damage of one object lets others be asked.
pub(super) fn sort<T>(result: std::result::Result<T, Failure>) -> Result<Got<T>> {
    match result {
        Ok(it) => Ok(Got::It(it)),
        Err(Failure::Gone) => Ok(Got::Gone),
        Err(Failure::Other(error)) if error.kind == ErrorKind::Damage => Ok(Got::Unreadable(error)),
        Err(Failure::Other(error)) => Err(error),
    }
}

pub(super) enum Failure {
    Gone,
    Other(Error),
}

impl From<crate::store::StoreError> for Failure {
    fn from(error: crate::store::StoreError) -> Failure {
        match error.kind() {
            StoreKind::NotFound => Failure::Gone,
            _ => Failure::Other(error.into()),
        }
    }
}

/// What does not fit is read once more: it may have been altered on its way only.
fn twice<T>(read: impl Fn() -> std::result::Result<T, Failure>) -> std::result::Result<T, Failure> {
    match read() {
        Err(Failure::Other(error)) if error.kind == ErrorKind::Damage => read(),
        result => result,
    }
}

impl Remote {
    /// Reads a segment's beginning: header and directory.
    pub fn open(
        repository: &Repository,
        id: SegmentId,
        length: u64,
        head: &[u8],
    ) -> std::result::Result<Remote, FormatError> {
        let header = Header::parse(head)?;
        let end = HEADER_LENGTH + header.directory_length as usize;
        let sealed = head
            .get(HEADER_LENGTH..end)
            .ok_or_else(|| FormatError::new("SEG-3", "the directory overruns the segment"))?;
        let signer = header.signer;
        let verify = repository.trust.verify_key(signer).ok_or_else(|| unlisted("SEG-4"))?;
        header.verify(repository.id(), sealed, verify)?;
        let key = repository.keyring.index_key(header.epoch)?;
        let directory = header.open(repository.id(), sealed, key)?;
        let mut offset = end as u64;
        let mut next = |length: u64| {
            let at = offset;
            offset += length;
            at
        };
        let pieces = directory.pieces.iter().map(|p| next(p.sealed_length() as u64)).collect();
        let frames = directory.packs.iter().map(|p| next(u64::from(p.frame_length))).collect();
        if offset != length {
            return Err(FormatError::new("SEG-3", "the segment is not as long as it says"));
        }
        Ok(Remote { id, length, signer, epoch: header.epoch, directory, pieces, frames })
    }

    /// The same from the store. Gives the bytes that hold it, and how many were
    /// got.
    pub fn fetch(
        repository: &Repository,
        id: SegmentId,
        length: u64,
    ) -> std::result::Result<(Remote, Vec<u8>, u64), Failure> {
        twice(|| Remote::fetch_once(repository, id, length))
    }

    fn fetch_once(
        repository: &Repository,
        id: SegmentId,
        length: u64,
    ) -> std::result::Result<(Remote, Vec<u8>, u64), Failure> {
        let key = segment_key(id);
        let in_object = |error| Failure::Other(Error::in_object(&key, error));
        if length > MAX_SEGMENT as u64 {
            return Err(in_object(FormatError::new("SEG-3", "is longer than 64 MiB")));
        }
        let guess = (length / DIRECTORY_SHARE).clamp(DIRECTORY_GUESS.0, DIRECTORY_GUESS.1);
        let mut head = repository.store.get_range(&key, 0, guess.min(length))?.to_vec();
        let mut got = head.len() as u64;
        let header = Header::parse(&head).map_err(in_object)?;
        let wanted = HEADER_LENGTH + header.directory_length as usize;
        if wanted as u64 > length {
            let what = "the directory overruns the segment";
            return Err(in_object(FormatError::new("SEG-3", what)));
        }
        if let Some(more) = wanted.checked_sub(head.len()).filter(|more| *more > 0) {
            let rest = repository.store.get_range(&key, head.len() as u64, more as u64)?;
            got += rest.len() as u64;
            head.extend_from_slice(&rest);
        }
        head.truncate(wanted);
        let remote = Remote::open(repository, id, length, &head).map_err(in_object)?;
        Ok((remote, head, got))
    }

    pub fn fetch_piece(
        &self,
        repository: &Repository,
        at: usize,
    ) -> std::result::Result<Rows, Failure> {
        twice(|| self.fetch_piece_once(repository, at))
    }

    fn fetch_piece_once(
        &self,
        repository: &Repository,
        at: usize,
    ) -> std::result::Result<Rows, Failure> {
        let key = segment_key(self.id);
        let in_object = |error| Failure::Other(Error::in_object(&key, error));
        let (Some(piece), Some(offset)) = (self.directory.pieces.get(at), self.pieces.get(at))
        else {
            return Ok(Rows::new());
        };
        let length = piece.sealed_length() as u64;
        let sealed = repository.store.get_range(&key, *offset, length)?;
        let index_key = repository.keyring.index_key(self.epoch).map_err(in_object)?;
        let rows = piece.open(repository.id(), self.epoch, index_key, &sealed);
        let rows = rows.map_err(in_object)?;
        if rows.iter().any(|(_, pack)| *pack as usize >= self.directory.packs.len()) {
            let what = "a look-up piece names no pack it lists";
            return Err(in_object(FormatError::new("SEG-6", what)));
        }
        Ok(rows)
    }

    /// The table of the pack in row `at`, as a segment by `listed_by` lists it.
    pub fn fetch_pack(
        &self,
        repository: &Repository,
        at: usize,
        listed_by: WriterId,
    ) -> std::result::Result<NewPack, Failure> {
        twice(|| self.fetch_pack_once(repository, at, listed_by))
    }

    fn fetch_pack_once(
        &self,
        repository: &Repository,
        at: usize,
        listed_by: WriterId,
    ) -> std::result::Result<NewPack, Failure> {
        let key = segment_key(self.id);
        let in_object = |error| Failure::Other(Error::in_object(&key, error));
        let (Some(row), Some(offset)) = (self.directory.packs.get(at), self.frames.get(at)) else {
            return Err(in_object(FormatError::new("SEG-6", "names no pack it lists")));
        };
        let frame = repository.store.get_range(&key, *offset, u64::from(row.frame_length))?;
        if frame_hash(&frame) != row.frame_hash {
            let what = "a table of contents is not the one the directory names";
            return Err(in_object(FormatError::new("SEG-10", what)));
        }
        repository.read_frame(row.id, row.length, &frame, listed_by).map_err(in_object)
    }

    /// What it removes and lists of what is here, as it goes into the index.
    pub fn told<'a>(
        &'a self,
        removes: &'a [PackId],
        known: &'a [PackId],
        packs: &'a [NewPack],
    ) -> NewSegment<'a> {
        NewSegment { id: self.id, signer: self.signer, supersedes: &[], removes, known, packs }
    }
}
