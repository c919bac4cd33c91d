//! Index segments: what some packs contain, laid out so that one id can be
//! looked up with a few ranged reads.
//!
//! `header | sealed directory | sealed look-up pieces | TOC frames`
//!
//! `format-spec/08-index.md`, rules `[SEG-1]` to `[SEG-8]`, `[SEG-10]`.

use super::object::{sign, verify};
use super::pack::MAX_PACK;
use super::reader::Reader;
use super::{FormatError, Kind, Place, Result, SUITE, VERSION, padded_length};
use crate::crypto::{
    SEAL_OVERHEAD, SIGNATURE_LENGTH, SecretKey, Signature, SigningKey, VerifyKey, open, seal,
};
use crate::id::{ChunkId, ObjectHash, PackId, RepositoryId, SegmentId, WriterId};

pub const MAGIC: [u8; 4] = *b"ESKI";
pub const PREFIX: &str = "index/";
/// Longest segment, in bytes.
pub const MAX_SEGMENT: usize = 64 << 20;
pub const HEADER_LENGTH: usize = 96;
/// Plaintext of a look-up piece: at most this many bytes, of 10-byte rows.
pub const PIECE_LENGTH: usize = 65_530;
const ROW: usize = 10;
const PACK_ROW: usize = 60;
const MAX_LISTED: usize = 1 << 20;
const LABEL_DIRECTORY: &str = "esker segment directory";
const LABEL_PIECE: &str = "esker segment piece";

pub fn segment_key(id: SegmentId) -> String {
    format!("{PREFIX}{id}")
}

pub fn segment_of_key(key: &str) -> Option<SegmentId> {
    key.strip_prefix(PREFIX)?.parse().ok()
}

/// `magic 4 | version 2 | kind 1 | suite 1 | epoch 4 | directory length 4 |
/// signer 16 | signature 64`
pub struct Header {
    pub epoch: u32,
    pub directory_length: u32,
    pub signer: WriterId,
    signature: Signature,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackRow {
    pub id: PackId,
    /// Length of the pack object.
    pub length: u64,
    /// Length of sealed TOC and footer.
    pub frame_length: u32,
    /// First 16 bytes of the BLAKE3 of sealed TOC and footer: what the signature
    /// of the directory ties to the pack's id.
    pub frame_hash: [u8; 16],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// First 6 bytes of the first chunk id in it.
    pub first: [u8; 6],
    pub rows: u32,
    /// BLAKE3 of the sealed piece.
    pub hash: ObjectHash,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    pub supersedes: Vec<SegmentId>,
    pub removes: Vec<PackId>,
    pub packs: Vec<PackRow>,
    pub pieces: Vec<Piece>,
}

/// A pack as a segment describes it.
pub struct PackEntry<'a> {
    pub id: PackId,
    pub length: u64,
    pub frame: &'a [u8],
    /// Ids of its chunks, for the look-up table.
    pub chunks: Vec<ChunkId>,
}

/// Who seals and signs.
pub struct Sealing<'a> {
    pub repository: RepositoryId,
    pub epoch: u32,
    pub key: &'a SecretKey,
    pub signer: WriterId,
    pub signing: &'a SigningKey,
}

fn place(repository: RepositoryId, epoch: u32) -> Place<'static> {
    Place { repository, kind: Kind::Segment, epoch, key: "" }
}

impl Header {
    pub fn parse(bytes: &[u8]) -> Result<Header> {
        let mut reader = Reader::new(bytes, "SEG-1");
        if reader.array()? != MAGIC {
            return Err(FormatError::new("SEG-1", "does not begin like an index segment"));
        }
        let version = reader.u16()?;
        let kind = reader.u8()?;
        let suite = reader.u8()?;
        if version != VERSION || suite != SUITE {
            let what = format!("segment of version {version}, suite {suite}: upgrade esker");
            return Err(FormatError::new("SEG-2", what));
        }
        if kind != Kind::Segment as u8 {
            return Err(FormatError::new("SEG-1", "is not of the kind segment"));
        }
        let header = Header {
            epoch: reader.u32()?,
            directory_length: reader.u32()?,
            signer: WriterId(reader.array()?),
            signature: reader.array()?,
        };
        if header.directory_length as usize > MAX_SEGMENT {
            return Err(FormatError::new("SEG-3", "the directory has an absurd length"));
        }
        Ok(header)
    }

    pub fn verify(&self, repository: RepositoryId, sealed: &[u8], key: &VerifyKey) -> Result<()> {
        verify(key, &place(repository, self.epoch), sealed, &self.signature)
            .map_err(|_| FormatError::new("SEG-4", "the signature does not verify"))
    }

    /// The directory that was verified.
    pub fn open(
        &self,
        repository: RepositoryId,
        sealed: &[u8],
        key: &SecretKey,
    ) -> Result<Directory> {
        let place = place(repository, self.epoch).bytes(LABEL_DIRECTORY);
        let text = open(key, &place, sealed)
            .map_err(|_| FormatError::new("SEG-5", "the directory does not open"))?;
        Directory::parse(&text)
    }
}

/// A whole segment: header and sealed directory found, nothing else believed.
pub struct Segment<'a> {
    pub header: Header,
    sealed_directory: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Segment<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<Segment<'a>> {
        if bytes.len() > MAX_SEGMENT {
            return Err(FormatError::new("SEG-3", "is longer than 64 MiB"));
        }
        let header = Header::parse(bytes)?;
        let mut reader = Reader::new(bytes, "SEG-3");
        reader.take(HEADER_LENGTH)?;
        let sealed_directory = reader.take(header.directory_length as usize)?;
        Ok(Segment { header, sealed_directory, rest: reader.rest() })
    }

    pub fn verify(&self, repository: RepositoryId, key: &VerifyKey) -> Result<()> {
        self.header.verify(repository, self.sealed_directory, key)
    }

    pub fn directory(&self, repository: RepositoryId, key: &SecretKey) -> Result<Directory> {
        self.header.open(repository, self.sealed_directory, key)
    }

    /// The TOC frames in the order of the directory's packs, each the one that
    /// the directory names.
    pub fn frames(&self, directory: &Directory) -> Result<Vec<&'a [u8]>> {
        let mut reader = Reader::new(self.rest, "SEG-3");
        for piece in &directory.pieces {
            reader.take(piece.sealed_length())?;
        }
        let frames = directory
            .packs
            .iter()
            .map(|pack| reader.take(pack.frame_length as usize))
            .collect::<Result<Vec<_>>>()?;
        reader.end()?;
        let named = |(pack, frame): (&PackRow, &&[u8])| frame_hash(frame) == pack.frame_hash;
        if !directory.packs.iter().zip(&frames).all(named) {
            let what = "a table of contents is not the one the directory names";
            return Err(FormatError::new("SEG-10", what));
        }
        Ok(frames)
    }
}

impl Piece {
    pub fn sealed_length(&self) -> usize {
        self.rows as usize * ROW + SEAL_OVERHEAD
    }

    /// The rows of a sealed piece: first 6 bytes of a chunk id, number of its
    /// pack in the directory.
    pub fn open(
        &self,
        repository: RepositoryId,
        epoch: u32,
        key: &SecretKey,
        sealed: &[u8],
    ) -> Result<Vec<([u8; 6], u32)>> {
        if ObjectHash::of(sealed) != self.hash {
            return Err(FormatError::new("SEG-6", "a look-up piece does not match its hash"));
        }
        let text = open(key, &place(repository, epoch).bytes(LABEL_PIECE), sealed)
            .map_err(|_| FormatError::new("SEG-5", "a look-up piece does not open"))?;
        let mut reader = Reader::new(&text, "SEG-6");
        let rows = (0..self.rows)
            .map(|_| Ok((reader.array()?, reader.u32()?)))
            .collect::<Result<Vec<_>>>()?;
        reader.end()?;
        let sorted = rows.is_sorted() && rows.first().is_none_or(|row| row.0 == self.first);
        if !sorted {
            return Err(FormatError::new("SEG-6", "a look-up piece is not sorted"));
        }
        Ok(rows)
    }
}

impl Directory {
    /// The look-up pieces that may have rows with this prefix: the last that
    /// begins below it, and all that begin with it.
    pub fn pieces_with(&self, prefix: [u8; 6]) -> std::ops::Range<usize> {
        let start = self.pieces.partition_point(|piece| piece.first < prefix).saturating_sub(1);
        start..self.pieces.partition_point(|piece| piece.first <= prefix)
    }

    /// The row of a pack.
    pub fn pack(&self, id: PackId) -> Option<&PackRow> {
        let at = self.packs.binary_search_by_key(&id, |pack| pack.id).ok()?;
        self.packs.get(at)
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for count in
            [self.supersedes.len(), self.removes.len(), self.packs.len(), self.pieces.len()]
        {
            out.extend_from_slice(&(count as u32).to_le_bytes());
        }
        self.supersedes.iter().for_each(|id| out.extend_from_slice(&id.0));
        self.removes.iter().for_each(|id| out.extend_from_slice(&id.0));
        for pack in &self.packs {
            out.extend_from_slice(&pack.id.0);
            out.extend_from_slice(&pack.length.to_le_bytes());
            out.extend_from_slice(&pack.frame_length.to_le_bytes());
            out.extend_from_slice(&pack.frame_hash);
        }
        for piece in &self.pieces {
            out.extend_from_slice(&piece.first);
            out.extend_from_slice(&piece.rows.to_le_bytes());
            out.extend_from_slice(&piece.hash.0);
        }
        out.resize(padded_length(out.len() as u64) as usize, 0);
        out
    }

    pub fn parse(bytes: &[u8]) -> Result<Directory> {
        let mut reader = Reader::new(bytes, "SEG-7");
        let mut count = |size: usize| {
            let count = reader.u32()? as usize;
            if count > MAX_LISTED || count * size > bytes.len() {
                return Err(FormatError::new("SEG-7", "a count is over its limit"));
            }
            Ok(count)
        };
        let (supersedes, removes) = (count(32)?, count(32)?);
        let (packs, pieces) = (count(PACK_ROW)?, count(42)?);
        let directory = Directory {
            supersedes: (0..supersedes)
                .map(|_| reader.array().map(SegmentId))
                .collect::<Result<_>>()?,
            removes: (0..removes).map(|_| reader.array().map(PackId)).collect::<Result<_>>()?,
            packs: (0..packs)
                .map(|_| {
                    Ok(PackRow {
                        id: PackId(reader.array()?),
                        length: reader.u64()?,
                        frame_length: reader.u32()?,
                        frame_hash: reader.array()?,
                    })
                })
                .collect::<Result<_>>()?,
            pieces: (0..pieces)
                .map(|_| {
                    Ok(Piece {
                        first: reader.array()?,
                        rows: reader.u32()?,
                        hash: ObjectHash(reader.array()?),
                    })
                })
                .collect::<Result<_>>()?,
        };
        let length = bytes.len() - reader.remaining();
        if reader.rest().iter().any(|byte| *byte != 0)
            || padded_length(length as u64) != bytes.len() as u64
        {
            return Err(FormatError::new("SEG-7", "the directory is not padded as it must be"));
        }
        directory.check()?;
        Ok(directory)
    }

    fn check(&self) -> Result<()> {
        let sorted = self.supersedes.is_sorted_by(|a, b| a < b)
            && self.removes.is_sorted_by(|a, b| a < b)
            && self.packs.is_sorted_by(|a, b| a.id < b.id)
            && self.pieces.is_sorted_by(|a, b| a.first <= b.first);
        if !sorted {
            return Err(FormatError::new("SEG-8", "a list repeats or is not sorted"));
        }
        if self.pieces.iter().any(|p| p.rows == 0 || p.rows as usize * ROW > PIECE_LENGTH) {
            return Err(FormatError::new("SEG-8", "a look-up piece has an absurd length"));
        }
        if self.packs.iter().any(|pack| pack.length > MAX_PACK) {
            return Err(FormatError::new("SEG-8", "a pack is longer than 192 MiB"));
        }
        Ok(())
    }
}

/// Encodes a segment. `packs` need not be sorted.
pub fn encode(
    sealing: &Sealing<'_>,
    supersedes: &[SegmentId],
    removes: &[PackId],
    packs: &mut [PackEntry<'_>],
) -> Vec<u8> {
    packs.sort_by_key(|pack| pack.id);
    let place = place(sealing.repository, sealing.epoch);
    let mut rows: Vec<([u8; 6], u32)> = Vec::new();
    for (number, pack) in packs.iter().enumerate() {
        rows.extend(pack.chunks.iter().map(|id| (prefix(id), number as u32)));
    }
    rows.sort_unstable();
    let mut pieces = Vec::new();
    let mut sealed_pieces = Vec::new();
    for rows in rows.chunks(PIECE_LENGTH / ROW) {
        let mut text = Vec::with_capacity(rows.len() * ROW);
        for (prefix, number) in rows {
            text.extend_from_slice(prefix);
            text.extend_from_slice(&number.to_le_bytes());
        }
        let sealed = seal(sealing.key, &place.bytes(LABEL_PIECE), &text);
        let hash = ObjectHash::of(&sealed);
        pieces.push(Piece { first: rows[0].0, rows: rows.len() as u32, hash });
        sealed_pieces.push(sealed);
    }
    let mut directory = Directory {
        supersedes: supersedes.to_vec(),
        removes: removes.to_vec(),
        packs: packs
            .iter()
            .map(|pack| PackRow {
                id: pack.id,
                length: pack.length,
                frame_length: pack.frame.len() as u32,
                frame_hash: frame_hash(pack.frame),
            })
            .collect(),
        pieces,
    };
    directory.supersedes.sort_unstable();
    directory.removes.sort_unstable();
    let sealed = seal(sealing.key, &place.bytes(LABEL_DIRECTORY), &directory.encode());
    let signature = sign(sealing.signing, &place, &sealed);
    let mut out = Vec::new();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&[Kind::Segment as u8, SUITE]);
    out.extend_from_slice(&sealing.epoch.to_le_bytes());
    out.extend_from_slice(&(sealed.len() as u32).to_le_bytes());
    out.extend_from_slice(&sealing.signer.0);
    out.extend_from_slice(&signature);
    debug_assert_eq!(out.len(), HEADER_LENGTH);
    debug_assert_eq!(signature.len(), SIGNATURE_LENGTH);
    out.extend_from_slice(&sealed);
    sealed_pieces.iter().for_each(|piece| out.extend_from_slice(piece));
    packs.iter().for_each(|pack| out.extend_from_slice(pack.frame));
    out
}

/// What the directory keeps of a frame.
pub fn frame_hash(frame: &[u8]) -> [u8; 16] {
    let mut hash = [0; 16];
    hash.copy_from_slice(&blake3::hash(frame).as_bytes()[..16]);
    hash
}

/// What the look-up table keeps of a chunk id.
pub fn prefix(id: &ChunkId) -> [u8; 6] {
    let mut prefix = [0; 6];
    prefix.copy_from_slice(&id.0[..6]);
    prefix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_looks_up() {
        let (key, signing) = (SecretKey::from_bytes([1; 32]), SigningKey::from_seed(&[2; 32]));
        let repository = RepositoryId([3; 16]);
        let sealing = Sealing {
            repository,
            epoch: 1,
            key: &key,
            signer: WriterId([4; 16]),
            signing: &signing,
        };
        let ids: Vec<ChunkId> =
            (0..10_000u32).map(|n| ChunkId(*blake3::hash(&n.to_le_bytes()).as_bytes())).collect();
        let mut packs = [
            PackEntry {
                id: PackId([9; 32]),
                length: 5,
                frame: b"nine",
                chunks: ids[..7000].into(),
            },
            PackEntry {
                id: PackId([8; 32]),
                length: 6,
                frame: b"eight",
                chunks: ids[7000..].into(),
            },
        ];
        let removed = PackId([7; 32]);
        let bytes = encode(&sealing, &[], &[removed], &mut packs);
        let segment = Segment::parse(&bytes).unwrap();
        segment.verify(repository, &signing.verify_key()).unwrap();
        let directory = segment.directory(repository, &key).unwrap();
        assert_eq!(directory.removes, [removed]);
        assert_eq!(segment.frames(&directory).unwrap(), [&b"eight"[..], b"nine"]);
        let mut at = HEADER_LENGTH + segment.header.directory_length as usize;
        let mut rows = Vec::new();
        for piece in &directory.pieces {
            let sealed = &bytes[at..at + piece.sealed_length()];
            rows.extend(piece.open(repository, 1, &key, sealed).unwrap());
            at += piece.sealed_length();
        }
        assert_eq!(rows.len(), 10_000);
        assert!(rows.contains(&(prefix(&ids[0]), 1)) && rows.contains(&(prefix(&ids[9999]), 0)));
        for length in 0..bytes.len() {
            let whole = Segment::parse(&bytes[..length])
                .and_then(|segment| segment.frames(&directory).map(drop));
            assert!(whole.is_err(), "cut at {length}");
        }
        let mut other = bytes.clone();
        *other.last_mut().unwrap() ^= 1;
        let segment = Segment::parse(&other).unwrap();
        segment.verify(repository, &signing.verify_key()).unwrap();
        assert_eq!(segment.frames(&directory).unwrap_err().rule, "SEG-10");
    }
}
