//! Packs: `header | blocks | padding | sealed TOC | footer`.
//!
//! `format-spec/07-packs.md`, rules `[PACK-1]` to `[PACK-6]`, `[TOC-1]` to `[TOC-9]`.

use std::ops::Range;

use super::object::{sign, verify};
use super::reader::Reader;
use super::{ChunkKind, FormatError, Kind, Place, Result, SUITE, VERSION, padded_length};
use crate::compression::Codec;
use crate::crypto::{
    HYBRID_OVERHEAD, SEAL_OVERHEAD, SIGNATURE_LENGTH, SecretKey, SigningKey, VerifyKey, open, seal,
};
use crate::id::{ChunkId, PackId, RepositoryId, SnapshotId, WriterId};

pub const HEADER_MAGIC: [u8; 4] = *b"ESKP";
pub const FOOTER_MAGIC: [u8; 4] = *b"PKSE";
pub const HEADER_LENGTH: usize = 16;
pub const FOOTER_LENGTH: usize = 96;
/// Longest pack, in bytes.
pub const MAX_PACK: u64 = 192 << 20;
pub const MAX_CHUNKS: usize = 65_536;
pub const MAX_BLOCKS: usize = 65_536;
/// What a table of contents says of a chunk: its id and its length.
pub const CHUNK_ENTRY_BYTES: usize = 36;
pub const MAX_SESSIONS: usize = 4096;
/// Longest plaintext of a block and of a chunk, in bytes.
pub const MAX_BLOCK: u32 = 8 << 20;
pub const MAX_TOC: usize = 32 << 20;
pub const PREFIX: &str = "packs/";
/// Length of a session key sealed to a content public key.
const SEALED_KEY: usize = 32 + HYBRID_OVERHEAD;
const LABEL_TOC: &str = "esker toc";

/// A pack's kind. 4 is reserved for parity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum PackKind {
    Data = 1,
    Tree = 2,
    Refs = 3,
}

impl PackKind {
    pub const ALL: [PackKind; 3] = [PackKind::Data, PackKind::Tree, PackKind::Refs];

    pub fn from_byte(byte: u8) -> Option<PackKind> {
        PackKind::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Start of a run in ms since 1970 (44 bits), then the pack's number within the
/// run (20 bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Birth(pub u64);

/// Where a chunk was born; it keeps this for life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Coordinate {
    pub birth: Birth,
    pub pack: PackId,
    pub ordinal: u16,
}

/// Whose key opens a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionKey {
    /// A run's session key, sealed to the content public key of `epoch`.
    Sealed(Vec<u8>),
    /// The index key of `epoch`: reference pages.
    Index,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub epoch: u32,
    /// Who first put the blocks of this session.
    pub writer: WriterId,
    pub key: SessionKey,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    pub kind: ChunkKind,
    pub codec: Codec,
    pub session: u16,
    /// Bytes in the pack: nonce, ciphertext, tag.
    pub stored_length: u32,
    pub raw_length: u32,
    pub chunks: u32,
    /// First 16 bytes of the BLAKE3 of the stored bytes.
    pub stored_hash: [u8; 16],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    pub id: ChunkId,
    pub length: u32,
}

/// A run of chunks that were born elsewhere, at consecutive ordinals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForeignRun {
    /// Ordinal in this pack of the run's first chunk.
    pub start: u16,
    pub count: u32,
    pub birth: Birth,
    pub pack: PackId,
    pub ordinal: u16,
}

/// A pack's table of contents. Blocks lie one behind the other from
/// [`HEADER_LENGTH`] on; chunks are listed in the order of their blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toc {
    pub kind: PackKind,
    pub birth: Birth,
    pub run: SnapshotId,
    pub sessions: Vec<Session>,
    pub blocks: Vec<Block>,
    pub chunks: Vec<Chunk>,
    pub foreign: Vec<ForeignRun>,
}

/// `packs/<first two digits>/<pack id>`
pub fn pack_key(id: PackId) -> String {
    format!("{}{}", directory_of(id), id.to_hex())
}

/// `packs/<first two digits>/`
pub fn directory_of(id: PackId) -> String {
    format!("{PREFIX}{}/", &id.to_hex()[..2])
}

pub fn pack_of_key(key: &str) -> Option<PackId> {
    let (shard, hex) = key.strip_prefix(PREFIX)?.split_once('/')?;
    let id = hex.parse().ok()?;
    hex.starts_with(shard).then_some(id).filter(|_| shard.len() == 2)
}

/// `magic 4 | version 2 | pack kind 1 | suite 1 | birth 8`
pub fn header(kind: PackKind, birth: Birth) -> [u8; HEADER_LENGTH] {
    let mut bytes = [0; HEADER_LENGTH];
    bytes[..4].copy_from_slice(&HEADER_MAGIC);
    bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
    bytes[6] = kind as u8;
    bytes[7] = SUITE;
    bytes[8..].copy_from_slice(&birth.0.to_le_bytes());
    bytes
}

pub fn parse_header(bytes: &[u8]) -> Result<(PackKind, Birth)> {
    let mut reader = Reader::new(bytes, "PACK-1");
    if reader.array()? != HEADER_MAGIC {
        return Err(FormatError::new("PACK-1", "does not begin like a pack"));
    }
    let kind = version_kind_suite(&mut reader)?;
    Ok((kind, Birth(reader.u64()?)))
}

fn version_kind_suite(reader: &mut Reader<'_>) -> Result<PackKind> {
    let version = reader.u16()?;
    let kind = reader.u8()?;
    let suite = reader.u8()?;
    if version != VERSION || suite != SUITE {
        let what = format!("pack of version {version}, suite {suite}: upgrade esker");
        return Err(FormatError::new("PACK-2", what));
    }
    PackKind::from_byte(kind)
        .ok_or_else(|| FormatError::new("PACK-3", format!("pack of unknown kind {kind}")))
}

/// The last bytes of a pack: `epoch 4 | sealed TOC length 4 | signer 16 |
/// signature 64 | version 2 | pack kind 1 | suite 1 | magic 4`.
#[derive(Clone, Copy)]
pub struct Footer {
    pub epoch: u32,
    pub toc_length: u32,
    pub signer: WriterId,
    pub kind: PackKind,
    signature: [u8; SIGNATURE_LENGTH],
}

impl Footer {
    pub fn parse(bytes: &[u8; FOOTER_LENGTH]) -> Result<Footer> {
        let mut reader = Reader::new(bytes, "PACK-4");
        let epoch = reader.u32()?;
        let toc_length = reader.u32()?;
        let signer = WriterId(reader.array()?);
        let signature = reader.array()?;
        let version_at = reader.take(4)?;
        if reader.array()? != FOOTER_MAGIC {
            return Err(FormatError::new("PACK-4", "does not end like a pack"));
        }
        let kind = version_kind_suite(&mut Reader::new(version_at, "PACK-4"))?;
        if toc_length as usize > MAX_TOC || (toc_length as usize) < SEAL_OVERHEAD {
            return Err(FormatError::new("PACK-5", "the table of contents has an absurd length"));
        }
        Ok(Footer { epoch, toc_length, signer, kind, signature })
    }

    /// Length of sealed TOC and footer together, as segments carry them.
    pub fn frame_length(&self) -> usize {
        self.toc_length as usize + FOOTER_LENGTH
    }
}

fn place(repository: RepositoryId, epoch: u32) -> Place<'static> {
    Place { repository, kind: Kind::Pack, epoch, key: "" }
}

/// Sealed TOC and footer, split and not yet believed.
pub struct TocFrame<'a> {
    pub footer: Footer,
    sealed: &'a [u8],
}

impl<'a> TocFrame<'a> {
    /// `bytes` is exactly the sealed TOC and the footer.
    pub fn parse(bytes: &'a [u8]) -> Result<TocFrame<'a>> {
        let (sealed, footer) = bytes
            .split_last_chunk::<FOOTER_LENGTH>()
            .ok_or_else(|| FormatError::new("PACK-4", "is too short for a footer"))?;
        let footer = Footer::parse(footer)?;
        if sealed.len() != footer.toc_length as usize {
            return Err(FormatError::new("PACK-5", "the sealed table has another length"));
        }
        Ok(TocFrame { footer, sealed })
    }

    /// The frame at the end of a whole pack.
    pub fn of_pack(pack: &'a [u8]) -> Result<TocFrame<'a>> {
        let (_, footer) = pack
            .split_last_chunk::<FOOTER_LENGTH>()
            .ok_or_else(|| FormatError::new("PACK-4", "is too short for a footer"))?;
        let length = Footer::parse(footer)?.frame_length();
        let start = pack
            .len()
            .checked_sub(length)
            .filter(|start| *start >= HEADER_LENGTH)
            .ok_or_else(|| FormatError::new("PACK-5", "the table of contents does not fit"))?;
        TocFrame::parse(pack.get(start..).unwrap_or_default())
    }

    pub fn verify(&self, repository: RepositoryId, key: &VerifyKey) -> Result<()> {
        verify(key, &place(repository, self.footer.epoch), self.sealed, &self.footer.signature)
            .map_err(|_| FormatError::new("TOC-1", "the signature of the table does not verify"))
    }

    pub fn open(&self, repository: RepositoryId, key: &SecretKey) -> Result<Toc> {
        let text = open(key, &place(repository, self.footer.epoch).bytes(LABEL_TOC), self.sealed)
            .map_err(|_| FormatError::new("TOC-2", "the table does not open"))?;
        let toc = Toc::parse(&text)?;
        if toc.kind != self.footer.kind {
            return Err(FormatError::new("TOC-3", "the table is of another kind than its pack"));
        }
        Ok(toc)
    }
}

impl Toc {
    /// Length of the encoded, padded and sealed table with its footer.
    pub fn frame_length(&self) -> usize {
        padded_length(self.plain_length() as u64) as usize + SEAL_OVERHEAD + FOOTER_LENGTH
    }

    fn plain_length(&self) -> usize {
        let sessions: usize = self
            .sessions
            .iter()
            .map(|session| match &session.key {
                SessionKey::Sealed(sealed) => 23 + sealed.len(),
                SessionKey::Index => 23,
            })
            .sum();
        let chunks = CHUNK_ENTRY_BYTES * self.chunks.len();
        41 + sessions + 32 * self.blocks.len() + chunks + 48 * self.foreign.len()
    }

    /// Sealed TOC and footer.
    pub fn encode_frame(
        &self,
        repository: RepositoryId,
        epoch: u32,
        key: &SecretKey,
        signer: WriterId,
        signing: &SigningKey,
    ) -> Vec<u8> {
        let place = place(repository, epoch);
        let mut frame = seal(key, &place.bytes(LABEL_TOC), &self.encode());
        let signature = sign(signing, &place, &frame);
        let length = frame.len() as u32;
        frame.extend_from_slice(&epoch.to_le_bytes());
        frame.extend_from_slice(&length.to_le_bytes());
        frame.extend_from_slice(&signer.0);
        frame.extend_from_slice(&signature);
        frame.extend_from_slice(&VERSION.to_le_bytes());
        frame.extend_from_slice(&[self.kind as u8, SUITE]);
        frame.extend_from_slice(&FOOTER_MAGIC);
        frame
    }

    pub fn encode(&self) -> Vec<u8> {
        let length = padded_length(self.plain_length() as u64) as usize;
        let mut out = Vec::with_capacity(length);
        out.push(self.kind as u8);
        out.extend_from_slice(&self.birth.0.to_le_bytes());
        out.extend_from_slice(&self.run.0);
        for count in [self.sessions.len(), self.blocks.len(), self.chunks.len(), self.foreign.len()]
        {
            out.extend_from_slice(&(count as u32).to_le_bytes());
        }
        for session in &self.sessions {
            let (tag, sealed) = match &session.key {
                SessionKey::Sealed(sealed) => (1, sealed.as_slice()),
                SessionKey::Index => (2, &[][..]),
            };
            out.push(tag);
            out.extend_from_slice(&session.epoch.to_le_bytes());
            out.extend_from_slice(&session.writer.0);
            out.extend_from_slice(&(sealed.len() as u16).to_le_bytes());
            out.extend_from_slice(sealed);
        }
        for block in &self.blocks {
            out.extend_from_slice(&[block.kind as u8, block.codec as u8]);
            out.extend_from_slice(&block.session.to_le_bytes());
            out.extend_from_slice(&block.stored_length.to_le_bytes());
            out.extend_from_slice(&block.raw_length.to_le_bytes());
            out.extend_from_slice(&block.chunks.to_le_bytes());
            out.extend_from_slice(&block.stored_hash);
        }
        for chunk in &self.chunks {
            out.extend_from_slice(&chunk.id.0);
            out.extend_from_slice(&chunk.length.to_le_bytes());
        }
        for run in &self.foreign {
            out.extend_from_slice(&run.start.to_le_bytes());
            out.extend_from_slice(&run.count.to_le_bytes());
            out.extend_from_slice(&run.birth.0.to_le_bytes());
            out.extend_from_slice(&run.pack.0);
            out.extend_from_slice(&run.ordinal.to_le_bytes());
        }
        debug_assert_eq!(out.len(), self.plain_length());
        out.resize(length, 0);
        out
    }

    pub fn parse(bytes: &[u8]) -> Result<Toc> {
        let mut reader = Reader::new(bytes, "TOC-4");
        let kind = PackKind::from_byte(reader.u8()?)
            .ok_or_else(|| FormatError::new("TOC-3", "the table is of an unknown kind"))?;
        let birth = Birth(reader.u64()?);
        let run = SnapshotId(reader.array()?);
        let mut count = |max: usize, size: usize| {
            let count = reader.u32()? as usize;
            if count > max || count.saturating_mul(size) > bytes.len() {
                return Err(FormatError::new("TOC-5", "a count is over its limit"));
            }
            Ok(count)
        };
        let sessions = count(MAX_SESSIONS, 23)?;
        let blocks = count(MAX_BLOCKS, 32)?;
        let chunks = count(MAX_CHUNKS, CHUNK_ENTRY_BYTES)?;
        let foreign = count(MAX_CHUNKS, 48)?;
        let toc = Toc {
            kind,
            birth,
            run,
            sessions: (0..sessions).map(|_| parse_session(&mut reader)).collect::<Result<_>>()?,
            blocks: (0..blocks).map(|_| parse_block(&mut reader)).collect::<Result<_>>()?,
            chunks: parse_chunks(&mut reader, chunks)?,
            foreign: (0..foreign).map(|_| parse_foreign(&mut reader)).collect::<Result<_>>()?,
        };
        let length = bytes.len() - reader.remaining();
        if reader.rest().iter().any(|byte| *byte != 0)
            || padded_length(length as u64) != bytes.len() as u64
        {
            return Err(FormatError::new("TOC-6", "the table is not padded as it must be"));
        }
        toc.check_blocks()?;
        toc.check_foreign()?;
        Ok(toc)
    }

    /// Who claimed the blocks, if that was the same writer for all of them.
    pub fn claimed_by(&self) -> Option<WriterId> {
        let first = self.sessions.first()?.writer;
        self.sessions.iter().all(|session| session.writer == first).then_some(first)
    }

    /// Where an encoded table lists its chunks, [`CHUNK_ENTRY_BYTES`] for each.
    pub fn chunks_in(bytes: &[u8]) -> Result<Range<usize>> {
        let mut reader = Reader::new(bytes, "TOC-4");
        reader.take(25)?;
        let [sessions, blocks, chunks] = [reader.u32()?, reader.u32()?, reader.u32()?];
        let chunks = chunks as usize;
        reader.u32()?;
        if chunks > MAX_CHUNKS {
            return Err(FormatError::new("TOC-5", "a count is over its limit"));
        }
        for _ in 0..sessions {
            reader.take(21)?;
            let sealed = usize::from(reader.u16()?);
            reader.take(sealed)?;
        }
        reader.take((blocks as usize).saturating_mul(32))?;
        let start = bytes.len() - reader.remaining();
        Ok(start..start + CHUNK_ENTRY_BYTES * chunks)
    }

    fn check_blocks(&self) -> Result<()> {
        let mut chunks = self.chunks.iter();
        for block in &self.blocks {
            let session = self.sessions.get(usize::from(block.session));
            let by_index =
                session.map(|session| session.key == SessionKey::Index).ok_or_else(|| {
                    FormatError::new("TOC-7", "a block names a session that is not there")
                })?;
            if block.kind.pack_kind() != self.kind || by_index != (block.kind == ChunkKind::Refs) {
                return Err(FormatError::new("TOC-3", "a block is in a pack of the wrong kind"));
            }
            let mut length = 0u64;
            for _ in 0..block.chunks {
                let chunk = chunks.next().ok_or_else(|| {
                    FormatError::new("TOC-8", "blocks hold more chunks than listed")
                })?;
                if chunk.length == 0 {
                    return Err(FormatError::new("TOC-8", "a chunk is empty"));
                }
                length += u64::from(chunk.length);
            }
            let empty = block.chunks == 0 || block.raw_length > MAX_BLOCK;
            let impossible = (block.stored_length as usize) <= SEAL_OVERHEAD
                || u64::from(block.stored_length) > u64::from(MAX_BLOCK) + SEAL_OVERHEAD as u64;
            if empty || impossible || length != u64::from(block.raw_length) {
                return Err(FormatError::new("TOC-8", "a block's lengths do not add up"));
            }
        }
        match chunks.next() {
            None => Ok(()),
            Some(_) => Err(FormatError::new("TOC-8", "chunks are listed that lie in no block")),
        }
    }

    fn check_foreign(&self) -> Result<()> {
        let mut next = 0u32;
        for run in &self.foreign {
            let start = u32::from(run.start);
            let end = start.saturating_add(run.count);
            let last = u32::from(run.ordinal).saturating_add(run.count);
            if run.count == 0
                || start < next
                || end as usize > self.chunks.len()
                || last as usize > MAX_CHUNKS
            {
                return Err(FormatError::new("TOC-9", "runs of foreign chunks overlap or overrun"));
            }
            next = end;
        }
        Ok(())
    }

    /// Offset of each block within the pack.
    pub fn offsets(&self) -> Vec<u64> {
        let mut offset = HEADER_LENGTH as u64;
        self.blocks
            .iter()
            .map(|block| {
                let at = offset;
                offset += u64::from(block.stored_length);
                at
            })
            .collect()
    }

    /// Whether blocks, this table and its footer fit into a pack of `length`.
    pub fn fits(&self, length: u64) -> bool {
        let blocks: u64 = self.blocks.iter().map(|block| u64::from(block.stored_length)).sum();
        HEADER_LENGTH as u64 + blocks + self.frame_length() as u64 <= length
    }

    /// Where the chunk at `ordinal` of this pack was born.
    pub fn coordinate(&self, pack: PackId, ordinal: u16) -> Coordinate {
        let after = self.foreign.partition_point(|run| run.start <= ordinal);
        let run = after.checked_sub(1).and_then(|at| self.foreign.get(at));
        match run {
            Some(run) if u32::from(ordinal - run.start) < run.count => Coordinate {
                birth: run.birth,
                pack: run.pack,
                ordinal: run.ordinal + (ordinal - run.start),
            },
            _ => Coordinate { birth: self.birth, pack, ordinal },
        }
    }
}

fn parse_chunks(reader: &mut Reader<'_>, count: usize) -> Result<Vec<Chunk>> {
    // most of a table: memory for all of them at once
    let mut chunks = Vec::with_capacity(count);
    for _ in 0..count {
        chunks.push(Chunk { id: ChunkId(reader.array()?), length: reader.u32()? });
    }
    Ok(chunks)
}

fn parse_session(reader: &mut Reader<'_>) -> Result<Session> {
    let tag = reader.u8()?;
    let epoch = reader.u32()?;
    let writer = WriterId(reader.array()?);
    let length = usize::from(reader.u16()?);
    let key = match (tag, length) {
        (1, SEALED_KEY) => SessionKey::Sealed(reader.take(length)?.to_vec()),
        (2, 0) => SessionKey::Index,
        (1 | 2, _) => {
            return Err(FormatError::new("TOC-7", "a session key is not as long as it must be"));
        }
        _ => return Err(FormatError::new("TOC-7", "a session entry is of an unknown type")),
    };
    Ok(Session { epoch, writer, key })
}

fn parse_block(reader: &mut Reader<'_>) -> Result<Block> {
    let unknown = || FormatError::new("TOC-3", "a block is of an unknown kind or codec");
    Ok(Block {
        kind: ChunkKind::from_byte(reader.u8()?).ok_or_else(unknown)?,
        codec: Codec::from_byte(reader.u8()?).ok_or_else(unknown)?,
        session: reader.u16()?,
        stored_length: reader.u32()?,
        raw_length: reader.u32()?,
        chunks: reader.u32()?,
        stored_hash: reader.array()?,
    })
}

fn parse_foreign(reader: &mut Reader<'_>) -> Result<ForeignRun> {
    Ok(ForeignRun {
        start: reader.u16()?,
        count: reader.u32()?,
        birth: Birth(reader.u64()?),
        pack: PackId(reader.array()?),
        ordinal: reader.u16()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toc() -> Toc {
        Toc {
            kind: PackKind::Data,
            birth: Birth(77 << 20),
            run: SnapshotId([1; 16]),
            sessions: vec![Session {
                epoch: 1,
                writer: WriterId([2; 16]),
                key: SessionKey::Sealed(vec![3; 1168]),
            }],
            blocks: vec![Block {
                kind: ChunkKind::Data,
                codec: Codec::Zstd,
                session: 0,
                stored_length: 100,
                raw_length: 30,
                chunks: 2,
                stored_hash: [4; 16],
            }],
            chunks: vec![
                Chunk { id: ChunkId([5; 32]), length: 10 },
                Chunk { id: ChunkId([6; 32]), length: 20 },
            ],
            foreign: vec![ForeignRun {
                start: 1,
                count: 1,
                birth: Birth(5),
                pack: PackId([7; 32]),
                ordinal: 9,
            }],
        }
    }

    #[test]
    fn round_trips_and_knows_where_chunks_were_born() {
        let toc = toc();
        assert_eq!(Toc::parse(&toc.encode()).as_ref(), Ok(&toc));
        let encoded = toc.encode();
        let listed = &encoded[Toc::chunks_in(&encoded).unwrap()];
        let ids: Vec<_> = listed.chunks(CHUNK_ENTRY_BYTES).map(|chunk| &chunk[..32]).collect();
        assert_eq!(ids, [&toc.chunks[0].id.0, &toc.chunks[1].id.0]);
        let pack = PackId([8; 32]);
        let own = Coordinate { birth: toc.birth, pack, ordinal: 0 };
        assert_eq!(toc.coordinate(pack, 0), own);
        let foreign = Coordinate { birth: Birth(5), pack: PackId([7; 32]), ordinal: 9 };
        assert_eq!(toc.coordinate(pack, 1), foreign);
    }

    #[test]
    fn one_writer_claimed_all_blocks_or_nobody_is_named() {
        let mut toc = toc();
        let writer = toc.sessions[0].writer;
        toc.sessions.push(Session { epoch: 2, ..toc.sessions[0].clone() });
        assert_eq!(toc.claimed_by(), Some(writer));
        toc.sessions[1].writer = WriterId([9; 16]);
        assert_eq!(toc.claimed_by(), None);
        toc.sessions.clear();
        assert_eq!(toc.claimed_by(), None);
    }

    #[test]
    fn frame_opens_with_its_keys_only() {
        let (key, signing) = (SecretKey::from_bytes([1; 32]), SigningKey::from_seed(&[2; 32]));
        let repository = RepositoryId([3; 16]);
        let frame = toc().encode_frame(repository, 1, &key, WriterId([2; 16]), &signing);
        assert_eq!(frame.len(), toc().frame_length());
        let parsed = TocFrame::parse(&frame).unwrap();
        parsed.verify(repository, &signing.verify_key()).unwrap();
        assert_eq!(parsed.open(repository, &key).unwrap(), toc());
        assert!(parsed.verify(RepositoryId([4; 16]), &signing.verify_key()).is_err());
        assert!(parsed.open(RepositoryId([4; 16]), &key).is_err());
    }

    #[test]
    fn refuses_tables_that_do_not_add_up() {
        type Change = fn(&mut Toc);
        let cases: [(&str, Change); 9] = [
            ("TOC-8", |toc| toc.blocks[0].raw_length = 31),
            ("TOC-8", |toc| toc.blocks[0].chunks = 3),
            ("TOC-8", |toc| toc.chunks.push(toc.chunks[0])),
            ("TOC-8", |toc| toc.blocks[0].stored_length = 40),
            ("TOC-7", |toc| toc.blocks[0].session = 1),
            ("TOC-7", |toc| toc.sessions[0].key = SessionKey::Sealed(vec![3; 1167])),
            ("TOC-3", |toc| toc.blocks[0].kind = ChunkKind::Tree),
            ("TOC-9", |toc| toc.foreign[0].count = 2),
            ("TOC-9", |toc| toc.foreign.push(toc.foreign[0])),
        ];
        for (rule, change) in cases {
            let mut toc = toc();
            change(&mut toc);
            assert_eq!(Toc::parse(&toc.encode()).err().map(|error| error.rule), Some(rule));
        }
    }
}
