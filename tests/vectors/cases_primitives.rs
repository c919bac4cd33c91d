//! Cases of CBOR, conventions, keys and chunker.

use esker::compression::{Codec, DEFAULT_LEVEL, compress};
use esker::crypto::{self, HybridPrivate, SecretKey, SigningKey};
use esker::format::{ChunkKind, block_place};
use esker::id::{RepositoryId, hex};
use serde_json::json;

use crate::{Case, ok, reject};

const NONE: serde_json::Value = serde_json::Value::Null;

pub fn cbor() -> Vec<Case> {
    let good = [
        ("zero", "00"),
        ("23 in the head", "17"),
        ("24 in one byte", "1818"),
        ("255", "18ff"),
        ("256", "190100"),
        ("65535", "19ffff"),
        ("65536", "1a00010000"),
        ("2^32 - 1", "1affffffff"),
        ("2^32", "1b0000000100000000"),
        ("2^64 - 1", "1bffffffffffffffff"),
        ("empty bytes", "40"),
        ("bytes", "43010203"),
        ("empty text", "60"),
        ("text of two bytes a letter", "62c3bc"),
        ("empty array", "80"),
        ("array", "8301f4f5"),
        ("empty map", "a0"),
        ("map with keys in order", "a401050242aabb0361781a0001117081f5"),
        ("eight arrays around a number", "818181818181818100"),
    ];
    let bad = [
        ("CBOR-1", "nothing", ""),
        ("CBOR-1", "number cut short", "19ff"),
        ("CBOR-1", "bytes cut short", "430102"),
        ("CBOR-1", "text longer than the input", "7affffffff"),
        ("CBOR-1", "array of 2^64 - 1 items", "9bffffffffffffffff"),
        ("CBOR-1", "map of more pairs than bytes", "ba00ffffff00"),
        ("CBOR-1", "map that ends after a key", "a101"),
        ("CBOR-2", "indefinite bytes", "5f4100ff"),
        ("CBOR-2", "indefinite array", "9fff"),
        ("CBOR-2", "indefinite map", "bfff"),
        ("CBOR-2", "reserved length", "1c"),
        ("CBOR-2", "break alone", "ff"),
        ("CBOR-3", "negative number", "20"),
        ("CBOR-3", "tag", "c000"),
        ("CBOR-3", "null", "f6"),
        ("CBOR-3", "undefined", "f7"),
        ("CBOR-3", "simple value in a byte", "f820"),
        ("CBOR-3", "half float", "f93c00"),
        ("CBOR-3", "double", "fb3ff0000000000000"),
        ("CBOR-3", "text that is not UTF-8", "61ff"),
        ("CBOR-3", "text with a surrogate", "63eda080"),
        ("CBOR-3", "map key that is a text", "a1616100"),
        ("CBOR-3", "nine arrays around a number", "81818181818181818100"),
        ("CBOR-4", "5 in one byte", "1805"),
        ("CBOR-4", "23 in one byte", "1817"),
        ("CBOR-4", "255 in two bytes", "1900ff"),
        ("CBOR-4", "65535 in four bytes", "1a0000ffff"),
        ("CBOR-4", "2^32 - 1 in eight bytes", "1b00000000ffffffff"),
        ("CBOR-4", "length not shortest", "580100"),
        ("CBOR-4", "map key not shortest", "a1180100"),
        ("CBOR-5", "keys not ascending", "a202000100"),
        ("CBOR-5", "keys repeat", "a201000100"),
        ("CBOR-6", "a second item", "0000"),
        ("CBOR-6", "a byte behind a map", "a000"),
    ];
    let good = good.map(|(name, bytes)| ok("cbor", name, json!({ "bytes": bytes }), json!({})));
    let bad = bad.map(|(rule, name, bytes)| {
        reject("cbor", rule, name, json!({ "bytes": bytes }), json!({}))
    });
    good.into_iter().chain(bad).collect()
}

pub fn conventions() -> Vec<Case> {
    let mut cases: Vec<Case> = [
        0u64,
        1,
        2,
        3,
        4,
        8,
        9,
        11,
        100,
        1000,
        4096,
        4097,
        65_536,
        65_537,
        1 << 20,
        33_554_433,
        u64::from(u32::MAX),
    ]
    .into_iter()
    .map(|length| {
        ok("padding", &format!("length {length}"), json!({ "length": length }), json!({}))
    })
    .collect();
    let repository = hex(&(0xa0..=0xaf).collect::<Vec<u8>>());
    for (name, label, kind, epoch, key) in [
        ("signature of config", "esker signature", 1, 0, "config"),
        (
            "payload of a confirmation",
            "esker object",
            8,
            1,
            "confirmed/000102030405060708090a0b0c0d0e0f",
        ),
        ("table of contents", "esker toc", 4, 258, ""),
        ("session key", "esker session key", 4, 1, ""),
        ("grant", "esker grant", 2, 2, "keys/000102030405060708090a0b0c0d0e0f"),
    ] {
        let inputs = json!({ "label": label, "repository": repository, "object_kind": kind,
            "epoch": epoch, "key": key });
        cases.push(ok("place", name, inputs, json!({})));
    }
    let inputs = json!({ "repository": repository, "chunk_kind": 1, "codec": 1,
        "raw_length": 0x01020304 });
    cases.push(ok("block_place", "block of data", inputs, json!({})));
    cases
}

fn key(byte: u8) -> String {
    hex(&[byte; 32])
}

pub fn keys() -> Vec<Case> {
    let mut cases = Vec::new();
    for epoch in [1, 2, 0x01020304] {
        let name = format!("epoch {epoch}");
        cases.push(ok("key_schedule", &name, json!({ "epoch": epoch }), json!({ "root": key(7) })));
    }
    cases.extend(stretching());
    let slot = json!({ "slot": hex(&[3; 16]) });
    cases.push(ok("slot_keys", "slot 03…", slot, json!({ "input": key(8) })));
    let slot = json!({ "slot": hex(&[4; 16]) });
    cases.push(ok("slot_keys", "another slot", slot, json!({ "input": key(8) })));
    cases.push(ok("key_file", "key file", json!({}), json!({ "file": key(9) })));
    cases.extend(signatures());
    cases.extend(seals());
    cases.extend(blocks());
    cases
}

fn stretching() -> Vec<Case> {
    let inputs = |memory: u64, passes: u64, lanes: u64| {
        json!({ "password": hex("käse".as_bytes()), "salt": hex(&[5; 16]),
            "memory_kib": memory, "passes": passes, "lanes": lanes })
    };
    let mut cases = vec![
        ok("stretching", "small", inputs(64, 1, 1), json!({})),
        ok("stretching", "four lanes, three passes", inputs(256, 3, 4), json!({})),
    ];
    for (name, memory, passes, lanes) in [
        ("more than 1 GiB", 1_048_577, 1, 1),
        ("17 passes", 64, 17, 1),
        ("65 lanes", 1024, 1, 65),
        ("no pass", 64, 0, 1),
        ("no lane", 64, 1, 0),
        ("less than 8 KiB a lane", 31, 1, 4),
    ] {
        cases.push(reject("stretching", "KEY-1", name, inputs(memory, passes, lanes), json!({})));
    }
    cases
}

fn signatures() -> Vec<Case> {
    let signing = SigningKey::from_seed(&[6; 32]);
    let verify = json!({ "verify": hex(&signing.verify_key().0) });
    let signature = signing.sign(b"message");
    let message = hex(b"message");
    let inputs = |signature: &[u8; 64]| json!({ "message": message, "signature": hex(signature) });
    let mut malleable = signature;
    add_group_order(&mut malleable[32..]);
    let mut altered = signature;
    altered[0] ^= 1;
    // the identity as key, with R the identity and S zero: any message would verify
    let mut identity = [0; 32];
    identity[0] = 1;
    let mut trivial = [0; 64];
    trivial[0] = 1;
    let small = json!({ "verify": hex(&identity) });
    vec![
        ok(
            "signing_key",
            "key and signature",
            json!({ "message": message }),
            json!({ "seed": key(6) }),
        ),
        ok("signature", "good", inputs(&signature), verify.clone()),
        reject("signature", "KEY-3", "altered", inputs(&altered), verify.clone()),
        reject("signature", "KEY-3", "S not below the group order", inputs(&malleable), verify),
        reject("signature", "KEY-3", "key of small order", inputs(&trivial), small),
    ]
}

fn add_group_order(s: &mut [u8]) {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut carry = 0u16;
    for (byte, order) in s.iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = sum as u8;
        carry = sum >> 8;
    }
}

fn seals() -> Vec<Case> {
    let secret = SecretKey::from_bytes([1; 32]);
    let message = crypto::seal(&secret, b"here", b"text");
    let inputs =
        |place: &[u8], message: &[u8]| json!({ "associated": hex(place), "message": hex(message) });
    let keys = json!({ "key": key(1) });
    let hybrid = HybridPrivate::from_seed([2; 32]);
    let sealed = hybrid.public().seal(b"here", b"text");
    let info =
        |place: &[u8], message: &[u8]| json!({ "info": hex(place), "message": hex(message) });
    let seed = json!({ "seed": key(2) });
    let mut too_great = *hybrid.public().bytes();
    too_great[..3].copy_from_slice(&[0xff; 3]);
    let public = |bytes: &[u8]| json!({ "public": hex(bytes) });
    vec![
        ok("seal", "good", inputs(b"here", &message), keys.clone()),
        ok("seal", "empty text", inputs(b"", &crypto::seal(&secret, b"", b"")), keys.clone()),
        reject("seal", "KEY-2", "elsewhere", inputs(b"there", &message), keys.clone()),
        reject("seal", "KEY-2", "cut short", inputs(b"here", &message[..39]), keys.clone()),
        reject("seal", "KEY-2", "another key", inputs(b"here", &message), json!({ "key": key(2) })),
        ok("hybrid_public", "public key of a seed", json!({}), seed.clone()),
        ok("hybrid_seal", "good", info(b"here", &sealed), seed.clone()),
        reject("hybrid_seal", "KEY-2", "elsewhere", info(b"there", &sealed), seed.clone()),
        reject("hybrid_seal", "KEY-2", "cut short", info(b"here", &sealed[..1135]), seed.clone()),
        reject(
            "hybrid_seal",
            "KEY-2",
            "another key",
            info(b"here", &sealed),
            json!({ "seed": key(3) }),
        ),
        ok("hybrid_public_bytes", "good", public(hybrid.public().bytes()), json!({})),
        reject("hybrid_public_bytes", "KEY-3", "too short", public(&[0; 1215]), json!({})),
        reject(
            "hybrid_public_bytes",
            "KEY-3",
            "coefficient not below q",
            public(&too_great),
            json!({}),
        ),
    ]
}

fn blocks() -> Vec<Case> {
    let repository = RepositoryId([0xa0; 16]);
    let secret = SecretKey::from_bytes([1; 32]);
    let keys = json!({ "key": key(1), "id": key(2) });
    let block = |text: &[u8], codec: Codec, encoded: &[u8], lengths: &[usize]| {
        let place = block_place(repository, ChunkKind::Data, codec, text.len() as u32);
        let stored = crypto::seal(&secret, &place, encoded);
        json!({ "repository": hex(&repository.0), "chunk_kind": 1, "codec": codec as u8,
            "raw_length": text.len(), "stored_hash": hex(&blake3::hash(&stored).as_bytes()[..16]),
            "chunk_lengths": lengths, "stored": hex(&stored) })
    };
    let text =
        b"layer on layer on layer on layer on layer, laid down by a stream under the ice".repeat(3);
    let mut frame = Vec::new();
    assert_eq!(compress(&text, DEFAULT_LEVEL, &mut frame).unwrap(), Codec::Zstd);
    let compressed = block(&text, Codec::Zstd, &frame, &[100, text.len() - 100]);
    let mut hash = compressed.clone();
    hash["stored_hash"] = hex(&[0; 16]).into();
    let mut kind = compressed.clone();
    kind["chunk_kind"] = 3.into();
    let mut length = compressed.clone();
    length["raw_length"] = (text.len() + 1).into();
    let both = text.repeat(2);
    let frames = frame.repeat(2);
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4];
    let framed = |text: &[u8], frames: &[u8]| block(text, Codec::Zstd, frames, &[text.len()]);
    vec![
        reject("block", "BLOCK-1", "two frames", framed(&both, &frames), keys.clone()),
        reject(
            "block",
            "BLOCK-1",
            "a skippable frame behind",
            framed(&text, &[&frame[..], &skippable].concat()),
            keys.clone(),
        ),
        reject(
            "block",
            "BLOCK-1",
            "a skippable frame before",
            framed(&text, &[&skippable, &frame[..]].concat()),
            keys.clone(),
        ),
        reject(
            "block",
            "BLOCK-1",
            "a byte behind the frame",
            framed(&text, &frames[..frame.len() + 1]),
            keys.clone(),
        ),
        ok("block", "stored", block(b"short", Codec::Stored, b"short", &[5]), keys.clone()),
        ok("block", "zstd, two chunks", compressed, keys.clone()),
        reject("block", "BLOCK-1", "stored hash differs", hash, keys.clone()),
        reject("block", "BLOCK-1", "another kind", kind, keys.clone()),
        reject("block", "BLOCK-1", "another raw length", length, keys.clone()),
        reject(
            "block",
            "BLOCK-1",
            "decompresses to less than stated",
            block(&[&text[..], b"x"].concat(), Codec::Zstd, &frame, &[100]),
            keys.clone(),
        ),
        reject(
            "block",
            "BLOCK-1",
            "stored bytes are not as long as stated",
            block(b"short", Codec::Stored, b"shor", &[5]),
            keys,
        ),
    ]
}

pub fn chunker() -> Vec<Case> {
    let keys = || json!({ "chunker": key(3) });
    let mut cases = Vec::new();
    for average in (12..=20).map(|bits| 1u32 << bits) {
        let length = (12 * average as usize).min(6 << 20) + 1;
        let inputs = json!({ "average": average, "label": "esker vector", "length": length });
        cases.push(ok("chunker", &format!("average {average}"), inputs, keys()));
    }
    for (name, length) in [
        ("empty stream", 0),
        ("one byte", 1),
        ("exactly the minimum", 1024),
        ("the minimum and one", 1025),
        ("the minimum and two", 1026),
        ("an odd end", 5001),
    ] {
        let inputs = json!({ "average": 4096, "label": "esker vector", "length": length });
        cases.push(ok("chunker", name, inputs, keys()));
    }
    let zeros = json!({ "average": 4096, "label": NONE, "length": 40_001 });
    cases.push(ok("chunker", "zeros reach the maximum", zeros, keys()));
    let inputs = json!({ "average": 65_536, "label": "esker vector", "length": 1 << 20 });
    cases.push(ok("chunker", "another key", inputs, json!({ "chunker": key(4) })));
    cases
}
