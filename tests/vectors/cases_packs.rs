//! Cases of packs and index segments.

use esker::compression::Codec;
use esker::crypto::{HybridPrivate, SecretKey, SigningKey, seal};
use esker::format::object::sign;
use esker::format::pack::{
    self, Birth, Block, Chunk, ForeignRun, PackKind, Session, SessionKey, Toc,
};
use esker::format::segment::{self, PackEntry, Sealing};
use esker::format::{ChunkKind, Kind, Place, padded_length};
use esker::id::{ChunkId, PackId, SegmentId, SnapshotId, WriterId, hex};
use serde_json::{Value, json};

use crate::cases_objects::REPOSITORY;
use crate::{Case, ok, reject};

const SIGNER: WriterId = WriterId([0x77; 16]);

fn index_key() -> SecretKey {
    SecretKey::from_bytes([3; 32])
}

fn signing() -> SigningKey {
    SigningKey::from_seed(&[2; 32])
}

fn keys() -> Value {
    json!({ "verify": hex(&signing().verify_key().0), "index": hex(&[3; 32]) })
}

fn sealed_session_key() -> Vec<u8> {
    let place = Place { repository: REPOSITORY, kind: Kind::Pack, epoch: 1, key: "" };
    let public = HybridPrivate::from_seed([4; 32]).public();
    public.seal(&place.bytes("esker session key"), &[5; 32])
}

fn block(kind: ChunkKind, session: u16, chunks: u32, raw_length: u32) -> Block {
    Block {
        kind,
        codec: Codec::Zstd,
        session,
        stored_length: 100,
        raw_length,
        chunks,
        stored_hash: [4; 16],
    }
}

fn chunk(id: u8, length: u32) -> Chunk {
    Chunk { id: ChunkId([id; 32]), length }
}

fn data_toc() -> Toc {
    Toc {
        kind: PackKind::Data,
        birth: Birth(1_790_000_000_000 << 20 | 3),
        run: SnapshotId([1; 16]),
        sessions: vec![Session {
            epoch: 1,
            writer: SIGNER,
            key: SessionKey::Sealed(vec![0xee; 1168]),
        }],
        blocks: vec![block(ChunkKind::Data, 0, 2, 30), block(ChunkKind::Data, 0, 1, 7)],
        chunks: vec![chunk(5, 10), chunk(6, 20), chunk(7, 7)],
        foreign: Vec::new(),
    }
}

fn refs_toc() -> Toc {
    Toc {
        kind: PackKind::Refs,
        sessions: vec![Session { epoch: 1, writer: SIGNER, key: SessionKey::Index }],
        blocks: vec![block(ChunkKind::Refs, 0, 1, 8)],
        chunks: vec![chunk(8, 8)],
        ..data_toc()
    }
}

fn run(start: u16, count: u32, ordinal: u16) -> ForeignRun {
    ForeignRun { start, count, birth: Birth(5 << 20), pack: PackId([9; 32]), ordinal }
}

fn carried_toc() -> Toc {
    Toc { foreign: vec![run(0, 1, 65_535), run(1, 2, 4)], ..data_toc() }
}

pub fn pack() -> Vec<Case> {
    let mut cases = headers();
    cases.extend(frames());
    cases.extend(tables());
    cases
}

fn headers() -> Vec<Case> {
    let good = pack::header(PackKind::Data, Birth(0x0102030405060708));
    let inputs = |bytes: &[u8]| json!({ "bytes": hex(bytes) });
    let altered = |at: usize, byte: u8| {
        let mut bytes = good;
        bytes[at] = byte;
        inputs(&bytes)
    };
    let bad = |rule, name, inputs| reject("pack_header", rule, name, inputs, json!({}));
    vec![
        ok("pack_header", "good", inputs(&good), json!({})),
        bad("PACK-1", "another magic", altered(3, b'X')),
        bad("PACK-1", "cut short", inputs(&good[..15])),
        bad("PACK-2", "version 2", altered(4, 2)),
        bad("PACK-2", "suite 2", altered(7, 2)),
        bad("PACK-3", "kind 0", altered(6, 0)),
        bad("PACK-3", "kind parity, reserved", altered(6, 4)),
    ]
}

/// Seals and signs a table that may be wrong; `kind` is that of the footer.
fn frame_of(table: &[u8], key: &SecretKey, kind: u8) -> Vec<u8> {
    let place = Place { repository: REPOSITORY, kind: Kind::Pack, epoch: 1, key: "" };
    let mut frame = seal(key, &place.bytes("esker toc"), table);
    let signature = sign(&signing(), &place, &frame);
    let length = frame.len() as u32;
    frame.extend_from_slice(&1u32.to_le_bytes());
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&SIGNER.0);
    frame.extend_from_slice(&signature);
    frame.extend_from_slice(&[1, 0, kind, 1]);
    frame.extend_from_slice(b"PKSE");
    frame
}

fn frames() -> Vec<Case> {
    let good = data_toc().encode_frame(REPOSITORY, 1, &index_key(), SIGNER, &signing());
    let inputs = |bytes: &[u8], whole: bool| json!({ "repository": hex(&REPOSITORY.0), "whole_pack": whole, "bytes": hex(bytes) });
    let mut whole = pack::header(PackKind::Data, data_toc().birth).to_vec();
    whole.extend_from_slice(&[0xbb; 200]);
    whole.extend_from_slice(&[0xdd; 60]);
    whole.extend_from_slice(&good);
    let mut cases = vec![
        ok("toc_frame", "frame alone", inputs(&good, false), keys()),
        ok("toc_frame", "frame at the end of a pack", inputs(&whole, true), keys()),
    ];
    let mut bad = |rule, name: &str, bytes: &[u8], whole: bool| {
        cases.push(reject("toc_frame", rule, name, inputs(bytes, whole), keys()));
    };
    let altered = |from_end: usize, byte: u8| {
        let mut bytes = good.clone();
        let at = bytes.len() - from_end;
        bytes[at] = byte;
        bytes
    };
    bad("PACK-4", "too short for a footer", &good[good.len() - 95..], false);
    bad("PACK-4", "another magic", &altered(1, b'X'), false);
    bad("PACK-2", "version 2", &altered(8, 2), false);
    bad("PACK-2", "suite 2", &altered(5, 2), false);
    bad("PACK-3", "kind parity, reserved", &altered(6, 4), false);
    bad("PACK-5", "sealed length one more", &altered(92, good[good.len() - 92] ^ 1), false);
    bad("PACK-5", "sealed length over 32 MiB", &altered(89, 3), false);
    bad("PACK-5", "frame longer than the pack", &good[1..], true);
    bad("PACK-5", "frame begins within the header", &whole[whole.len() - good.len() - 15..], true);
    bad("TOC-1", "a bit of the signature flipped", &altered(70, good[good.len() - 70] ^ 1), false);
    bad("TOC-1", "another epoch", &altered(96, 2), false);
    let mut table = good.clone();
    table[30] ^= 1;
    bad("TOC-1", "a bit of the sealed table flipped", &table, false);
    let table = data_toc().encode();
    let stranger = frame_of(&table, &SecretKey::from_bytes([9; 32]), 1);
    bad("TOC-2", "sealed under another key", &stranger, false);
    bad("TOC-3", "footer of another kind", &frame_of(&table, &index_key(), 2), false);
    let empty = frame_of(&[], &index_key(), 1);
    bad("TOC-4", "an empty table", &empty, false);
    let mut short = good[good.len() - 96..].to_vec();
    short[4..8].copy_from_slice(&39u32.to_le_bytes());
    bad("PACK-5", "sealed length below 40", &[&[0; 39][..], &short].concat(), false);
    cases
}

fn tables() -> Vec<Case> {
    let inputs = |bytes: &[u8]| json!({ "pack": hex(&[0xcc; 32]), "bytes": hex(bytes) });
    let good = |name: &str, toc: &Toc| ok("toc", name, inputs(&toc.encode()), json!({}));
    let both = Toc {
        kind: PackKind::Tree,
        sessions: vec![Session {
            epoch: 7,
            writer: SIGNER,
            key: SessionKey::Sealed(sealed_session_key()),
        }],
        blocks: vec![block(ChunkKind::Tree, 0, 1, 10), block(ChunkKind::List, 0, 1, 20)],
        chunks: vec![chunk(5, 10), chunk(6, 20)],
        ..data_toc()
    };
    let empty = Toc { sessions: vec![], blocks: vec![], chunks: vec![], ..data_toc() };
    let mut cases = vec![
        good("data, two blocks", &data_toc()),
        good("blocks carried from other packs", &carried_toc()),
        good("tree pages and lists", &both),
        good("reference pages", &refs_toc()),
        good("nothing at all", &empty),
    ];
    let mut bad = |rule, name: &str, bytes: &[u8]| {
        cases.push(reject("toc", rule, name, inputs(bytes), json!({})));
    };
    type Change = fn(&mut Toc);
    let changes: [(&'static str, &str, Change); 19] = [
        ("TOC-3", "tree block in a data pack", |toc| toc.blocks[0].kind = ChunkKind::Tree),
        ("TOC-3", "index key for data", |toc| toc.sessions[0].key = SessionKey::Index),
        ("TOC-7", "block of a session that is not there", |toc| toc.blocks[1].session = 1),
        ("TOC-8", "raw length is not the sum", |toc| toc.blocks[0].raw_length = 31),
        ("TOC-8", "block with no chunk", |toc| {
            toc.blocks.push(block(ChunkKind::Data, 0, 0, 0));
        }),
        ("TOC-8", "empty chunk", |toc| {
            toc.chunks[0].length = 0;
            toc.blocks[0].raw_length = 20;
        }),
        ("TOC-8", "more chunks in blocks than listed", |toc| toc.blocks[1].chunks = 2),
        ("TOC-8", "2^32 - 1 chunks in a block", |toc| toc.blocks[1].chunks = u32::MAX),
        ("TOC-8", "more chunks listed than in blocks", |toc| toc.chunks.push(chunk(9, 1))),
        ("TOC-8", "stored length of a seal around nothing", |toc| toc.blocks[0].stored_length = 40),
        ("TOC-8", "stored length over 8 MiB + 40", |toc| {
            toc.blocks[0].stored_length = (8 << 20) + 41;
        }),
        ("TOC-8", "raw length over 8 MiB", |toc| {
            toc.chunks[0].length = 8 << 20;
            toc.blocks[0].raw_length = (8 << 20) + 20;
        }),
        ("TOC-8", "chunk lengths that overflow 32 bits", |toc| {
            toc.chunks[0].length = u32::MAX;
            toc.chunks[1].length = 31;
        }),
        ("TOC-9", "empty foreign run", |toc| toc.foreign.push(run(0, 0, 0))),
        ("TOC-9", "foreign run beyond the last chunk", |toc| toc.foreign.push(run(2, 2, 0))),
        ("TOC-9", "foreign runs overlap", |toc| {
            toc.foreign.extend([run(0, 2, 0), run(1, 1, 9)]);
        }),
        ("TOC-9", "foreign runs not sorted", |toc| {
            toc.foreign.extend([run(1, 1, 0), run(0, 1, 9)]);
        }),
        ("TOC-9", "ordinals beyond 65535", |toc| toc.foreign.push(run(0, 2, 65_535))),
        ("TOC-9", "count of 2^32 - 1", |toc| toc.foreign.push(run(0, u32::MAX, 0))),
    ];
    for (rule, name, change) in changes {
        let mut toc = data_toc();
        change(&mut toc);
        bad(rule, name, &toc.encode());
    }
    let table = data_toc().encode();
    let altered = |table: &[u8], at: usize, bytes: &[u8]| {
        let mut table = table.to_vec();
        table[at..at + bytes.len()].copy_from_slice(bytes);
        table
    };
    let first_block = 41 + 23 + 1168;
    bad("TOC-3", "pack kind parity, reserved", &altered(&table, 0, &[4]));
    bad("TOC-3", "block of an unknown kind", &altered(&table, first_block, &[5]));
    bad("TOC-3", "codec 2, reserved", &altered(&table, first_block + 1, &[2]));
    bad("TOC-3", "index key missing for references", &{
        let sessions = data_toc().sessions;
        Toc { sessions, ..refs_toc() }.encode()
    });
    bad("TOC-4", "nothing", &[]);
    let sessions_only = Toc { blocks: vec![], chunks: vec![], ..data_toc() }.encode();
    bad("TOC-4", "cut within a session entry", &sessions_only[..100]);
    for (at, name) in [(25, "sessions"), (29, "blocks"), (33, "chunks"), (37, "foreign runs")] {
        let most = altered(&table, at, &u32::MAX.to_le_bytes());
        bad("TOC-5", &format!("2^32 - 1 {name}"), &most);
        let one = altered(&table, at, &1000u32.to_le_bytes());
        bad("TOC-5", &format!("1000 {name} in a short table"), &one);
    }
    for (length, name) in [(0, "nothing"), (1167, "1167 bytes"), (1169, "1169 bytes")] {
        let mut toc = data_toc();
        toc.sessions[0].key = SessionKey::Sealed(vec![0xee; length]);
        bad("TOC-7", &format!("sealed key of {name}"), &toc.encode());
    }
    bad("TOC-7", "session entry of type 3", &altered(&table, 41, &[3]));
    bad("TOC-7", "index entry with a key", &altered(&table, 41, &[2]));
    let last = table.len() - 1;
    assert!(padded_length(last as u64) == table.len() as u64, "padding to alter");
    bad("TOC-6", "padding not zero", &altered(&table, last, &[1]));
    bad("TOC-6", "not padded", &table[..last]);
    bad("TOC-6", "padded too far", &[&table[..], &[0]].concat());
    cases
}

/// A segment of two packs whose frames are not looked into here.
fn segment_bytes(supersedes: &[SegmentId], removes: &[PackId]) -> Vec<u8> {
    let (key, signing) = (index_key(), signing());
    let sealing =
        Sealing { repository: REPOSITORY, epoch: 1, key: &key, signer: SIGNER, signing: &signing };
    let id = |byte: u8| ChunkId([byte; 32]);
    let mut packs = [
        PackEntry { id: PackId([9; 32]), length: 500, frame: b"nine", chunks: vec![id(1), id(3)] },
        PackEntry { id: PackId([8; 32]), length: 600, frame: b"eight", chunks: vec![id(2), id(1)] },
    ];
    segment::encode(&sealing, supersedes, removes, &mut packs)
}

/// A segment around any directory and what follows it.
fn segment_of(directory: &[u8], rest: &[u8]) -> Vec<u8> {
    let place = Place { repository: REPOSITORY, kind: Kind::Segment, epoch: 1, key: "" };
    let sealed = seal(&index_key(), &place.bytes("esker segment directory"), directory);
    let signature = sign(&signing(), &place, &sealed);
    let mut out = b"ESKI\x01\x00\x05\x01\x01\x00\x00\x00".to_vec();
    out.extend_from_slice(&(sealed.len() as u32).to_le_bytes());
    out.extend_from_slice(&SIGNER.0);
    out.extend_from_slice(&signature);
    out.extend_from_slice(&sealed);
    out.extend_from_slice(rest);
    out
}

/// A directory written out by hand: lists of ids, packs and pieces.
fn directory_of(
    supersedes: &[u8],
    removes: &[u8],
    packs: &[u8],
    pieces: &[(u8, u32, [u8; 32])],
) -> Vec<u8> {
    let mut out = Vec::new();
    for count in [supersedes.len(), removes.len(), packs.len(), pieces.len()] {
        out.extend_from_slice(&(count as u32).to_le_bytes());
    }
    supersedes.iter().chain(removes).for_each(|byte| out.extend_from_slice(&[*byte; 32]));
    for pack in packs {
        out.extend_from_slice(&[*pack; 32]);
        out.extend_from_slice(&500u64.to_le_bytes());
        out.extend_from_slice(&4u32.to_le_bytes());
        out.extend_from_slice(&[pack | 0xa0; 16]);
    }
    for (first, rows, hash) in pieces {
        out.extend_from_slice(&[*first; 6]);
        out.extend_from_slice(&rows.to_le_bytes());
        out.extend_from_slice(hash);
    }
    out.resize(padded_length(out.len() as u64) as usize, 0);
    out
}

pub fn segment() -> Vec<Case> {
    let inputs = |bytes: &[u8]| json!({ "repository": hex(&REPOSITORY.0), "bytes": hex(bytes) });
    let plain = segment_bytes(&[], &[]);
    let merging = segment_bytes(&[SegmentId([2; 32]), SegmentId([1; 32])], &[PackId([7; 32])]);
    let mut cases = vec![
        ok("segment", "two packs", inputs(&plain), keys()),
        ok("segment", "supersedes and removes", inputs(&merging), keys()),
        ok("segment", "nothing at all", inputs(&segment_of(&[0; 16], &[])), keys()),
    ];
    let mut bad = |rule, name: &str, bytes: &[u8]| {
        cases.push(reject("segment", rule, name, inputs(bytes), keys()));
    };
    let altered = |at: usize, byte: u8| {
        let mut bytes = plain.clone();
        bytes[at] = byte;
        bytes
    };
    bad("SEG-1", "another magic", &altered(0, b'X'));
    bad("SEG-1", "kind pack", &altered(6, 4));
    bad("SEG-1", "cut within the header", &plain[..95]);
    bad("SEG-2", "version 2", &altered(4, 2));
    bad("SEG-2", "suite 2", &altered(7, 2));
    bad("SEG-3", "directory over 64 MiB", &altered(15, 5));
    bad("SEG-3", "cut within the directory", &plain[..100]);
    bad("SEG-3", "cut within the frames", &plain[..plain.len() - 1]);
    bad("SEG-3", "byte behind the frames", &[&plain[..], &[0]].concat());
    bad("SEG-4", "another epoch", &altered(8, 2));
    let mut flipped = plain.clone();
    *flipped.last_mut().unwrap() ^= 1;
    bad("SEG-10", "a bit of a frame flipped", &flipped);
    let frames_at = plain.len() - b"eightnine".len();
    assert_eq!(plain[frames_at..], *b"eightnine");
    bad("SEG-10", "another frame", &[&plain[..frames_at], b"eighteigh"].concat());
    bad("SEG-4", "a bit of the directory flipped", &altered(130, plain[130] ^ 1));
    let place = Place { repository: REPOSITORY, kind: Kind::Segment, epoch: 1, key: "" };
    let elsewhere = seal(&index_key(), &place.bytes("esker segment piece"), &[0; 16]);
    bad("SEG-5", "directory sealed with another label", &resigned(&elsewhere));
    let piece = |text: &[u8], label: &str| seal(&index_key(), &place.bytes(label), text);
    let row =
        |prefix: u8, number: u8| [prefix, prefix, prefix, prefix, prefix, prefix, number, 0, 0, 0];
    let one_piece = |first: u8, rows: u32, sealed: &[u8], hash: Option<[u8; 32]>| {
        let hash = hash.unwrap_or(*blake3::hash(sealed).as_bytes());
        segment_of(&directory_of(&[], &[], &[], &[(first, rows, hash)]), sealed)
    };
    let sorted = piece(&[row(1, 0), row(2, 0)].concat(), "esker segment piece");
    bad("SEG-6", "piece of another hash", &one_piece(1, 2, &sorted, Some([0; 32])));
    bad("SEG-6", "first is not the first row's", &one_piece(0, 2, &sorted, None));
    let unsorted = piece(&[row(2, 0), row(1, 0)].concat(), "esker segment piece");
    bad("SEG-6", "rows not sorted", &one_piece(2, 2, &unsorted, None));
    let unsorted = piece(&[row(2, 1), row(2, 0)].concat(), "esker segment piece");
    bad("SEG-6", "pack numbers not sorted", &one_piece(2, 2, &unsorted, None));
    let label = piece(&row(1, 0), "esker segment directory");
    bad("SEG-5", "piece sealed with another label", &one_piece(1, 1, &label, None));
    cases.extend(directories());
    cases
}

/// A segment around a directory sealed in some other way.
fn resigned(sealed: &[u8]) -> Vec<u8> {
    let place = Place { repository: REPOSITORY, kind: Kind::Segment, epoch: 1, key: "" };
    let mut out = segment_of(&[0; 16], &[]);
    out.truncate(96);
    out[12..16].copy_from_slice(&(sealed.len() as u32).to_le_bytes());
    out[32..96].copy_from_slice(&sign(&signing(), &place, sealed));
    out.extend_from_slice(sealed);
    out
}

fn directories() -> Vec<Case> {
    let inputs = |bytes: &[u8]| json!({ "bytes": hex(bytes) });
    let good = directory_of(&[1, 2], &[3], &[4, 5], &[(1, 6553, [1; 32]), (1, 1, [2; 32])]);
    let mut cases = vec![ok("directory", "all lists", inputs(&good), json!({}))];
    let mut bad = |rule, name: &str, bytes: &[u8]| {
        cases.push(reject("directory", rule, name, inputs(bytes), json!({})));
    };
    for (at, name) in [(0, "supersedes"), (4, "removes"), (8, "packs"), (12, "pieces")] {
        let mut bytes = good.clone();
        bytes[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        bad("SEG-7", &format!("2^32 - 1 {name}"), &bytes);
    }
    let mut more = good.clone();
    more[8] = 4;
    bad("SEG-7", "more packs than there are bytes for", &more);
    bad("SEG-7", "nothing", &[]);
    let last = good.len() - 1;
    let mut padding = good.clone();
    padding[last] = 1;
    bad("SEG-7", "padding not zero", &padding);
    bad("SEG-7", "not padded", &good[..last]);
    bad("SEG-7", "padded too far", &[&good[..], &[0]].concat());
    bad("SEG-8", "supersedes not sorted", &directory_of(&[2, 1], &[], &[], &[]));
    bad("SEG-8", "removes repeat", &directory_of(&[], &[3, 3], &[], &[]));
    let mut long = directory_of(&[], &[], &[4], &[]);
    long[48..56].copy_from_slice(&(192u64 << 20).to_le_bytes());
    cases.push(ok("directory", "pack of 192 MiB", inputs(&long), json!({})));
    let mut bad = |rule, name: &str, bytes: &[u8]| {
        cases.push(reject("directory", rule, name, inputs(bytes), json!({})));
    };
    long[48] = 1;
    bad("SEG-8", "pack of 192 MiB and 1", &long);
    bad("SEG-8", "packs repeat", &directory_of(&[], &[], &[4, 4], &[]));
    bad("SEG-8", "packs not sorted", &directory_of(&[], &[], &[5, 4], &[]));
    let pieces = [(2, 1, [0; 32]), (1, 1, [0; 32])];
    bad("SEG-8", "pieces not sorted", &directory_of(&[], &[], &[], &pieces));
    bad("SEG-8", "piece of no row", &directory_of(&[], &[], &[], &[(1, 0, [0; 32])]));
    bad("SEG-8", "piece of 6554 rows", &directory_of(&[], &[], &[], &[(1, 6554, [0; 32])]));
    cases
}
