//! Runs vectors of CBOR, conventions, keys and chunker.

use esker::chunker::{Chunker, ChunkerParams};
use esker::compression::{Codec, decompress};
use esker::crypto::{self, HybridPublic, SigningKey, Stretching, keys};
use esker::format::{self, ChunkKind, Kind, Place, cbor};
use esker::id::{RepositoryId, hex};
use serde_json::{Value, json};

use crate::Outcome;
use crate::values::*;

pub fn run(kind: &str, inputs: &Value, keys: &Value) -> Option<Outcome> {
    Some(match kind {
        "cbor" => {
            cbor::Value::parse(&bytes(inputs, "bytes")).map(|value| show_cbor(&value)).map_err(rule)
        }
        "padding" => Ok(json!({ "padded": format::padded_length(number(inputs, "length")) })),
        "place" => Ok(place(inputs)),
        "block_place" => Ok(block_place(inputs)),
        "key_schedule" => Ok(key_schedule(&secret(keys, "root"), number(inputs, "epoch") as u32)),
        "stretching" => stretch(inputs),
        "slot_keys" => {
            let (wrap, commitment) =
                keys::slot_wrap(&secret(keys, "input"), &fixed(inputs, "slot"));
            Ok(json!({ "wrap": hex(wrap.bytes()), "commitment": hex(&commitment) }))
        }
        "key_file" => {
            Ok(json!({ "input": hex(keys::key_file_input(&secret(keys, "file")).bytes()) }))
        }
        "signing_key" => {
            let key = SigningKey::from_seed(&fixed(keys, "seed"));
            let signature = key.sign(&bytes(inputs, "message"));
            Ok(json!({ "verify": hex(&key.verify_key().0), "signature": hex(&signature) }))
        }
        "signature" => verify(keys, "verify")
            .verify(&bytes(inputs, "message"), &fixed(inputs, "signature"))
            .map(|()| json!({}))
            .map_err(crypto_rule),
        "seal" => crypto::open(
            &secret(keys, "key"),
            &bytes(inputs, "associated"),
            &bytes(inputs, "message"),
        )
        .map(|text| json!({ "text": hex(&text) }))
        .map_err(crypto_rule),
        "hybrid_public" => Ok(json!({ "public": hex(&hybrid(keys, "seed").public().bytes()[..]) })),
        "hybrid_seal" => hybrid(keys, "seed")
            .open(&bytes(inputs, "info"), &bytes(inputs, "message"))
            .map(|text| json!({ "text": hex(&text) }))
            .map_err(crypto_rule),
        "hybrid_public_bytes" => HybridPublic::from_bytes(&bytes(inputs, "public"))
            .map(|_| json!({}))
            .map_err(crypto_rule),
        "block" => block(inputs, keys),
        "chunker" => Ok(chunker(inputs, keys)),
        _ => return None,
    })
}

pub fn show_cbor(value: &cbor::Value) -> Value {
    match value {
        cbor::Value::Uint(number) => json!({ "uint": number }),
        cbor::Value::Bytes(bytes) => json!({ "bytes": hex(bytes) }),
        cbor::Value::Text(text) => json!({ "text": text }),
        cbor::Value::Array(items) => json!({ "array": list(items, show_cbor) }),
        cbor::Value::Map(pairs) => {
            json!({ "map": list(pairs, |(key, value)| json!([key, show_cbor(value)])) })
        }
        cbor::Value::Bool(value) => json!({ "bool": value }),
    }
}

fn place(inputs: &Value) -> Value {
    let place = Place {
        repository: RepositoryId(fixed(inputs, "repository")),
        kind: Kind::from_byte(number(inputs, "object_kind") as u8).unwrap(),
        epoch: number(inputs, "epoch") as u32,
        key: text(inputs, "key"),
    };
    json!({ "bytes": hex(&place.bytes(text(inputs, "label"))) })
}

fn block_place(inputs: &Value) -> Value {
    let bytes = format::block_place(
        RepositoryId(fixed(inputs, "repository")),
        ChunkKind::from_byte(number(inputs, "chunk_kind") as u8).unwrap(),
        Codec::from_byte(number(inputs, "codec") as u8).unwrap(),
        number(inputs, "raw_length") as u32,
    );
    json!({ "bytes": hex(&bytes) })
}

fn key_schedule(root: &crypto::SecretKey, epoch: u32) -> Value {
    let id_refs = keys::id_refs(root);
    let id_data = keys::id_data(root);
    let chunker = keys::chunker(root);
    let gear = keys::gear_table(&chunker);
    json!({
        "admin_seed": hex(&*keys::admin(root).seed()),
        "admin_verify": hex(&keys::admin(root).verify_key().0),
        "content_seed": hex(keys::content(root, epoch).seed()),
        "index": hex(keys::index(root, epoch).bytes()),
        "id_data": hex(id_data.bytes()),
        "id_list": hex(keys::id_list(root).bytes()),
        "id_tree": hex(keys::id_tree(root).bytes()),
        "id_refs": hex(id_refs.bytes()),
        "chunker": hex(chunker.bytes()),
        "gear_first": gear[0],
        "gear_last": gear[255],
        "page_cut": hex(keys::page_cut(&chunker).bytes()),
        "reference_cut": hex(keys::reference_cut(&id_refs).bytes()),
        "source_label": hex(keys::source_label(&id_data).bytes()),
    })
}

fn stretch(inputs: &Value) -> Outcome {
    let stretching = Stretching {
        memory_kib: number(inputs, "memory_kib") as u32,
        passes: number(inputs, "passes") as u32,
        lanes: number(inputs, "lanes") as u32,
    };
    stretching
        .stretch(&bytes(inputs, "password"), &fixed(inputs, "salt"))
        .map(|input| json!({ "input": hex(input.bytes()) }))
        .map_err(crypto_rule)
}

/// A block: stored hash, seal, codec, chunk ids.
fn block(inputs: &Value, keys: &Value) -> Outcome {
    let wrong = || "BLOCK-1".to_owned();
    let stored = bytes(inputs, "stored");
    let raw_length = number(inputs, "raw_length") as u32;
    let codec = Codec::from_byte(number(inputs, "codec") as u8).unwrap();
    let kind = ChunkKind::from_byte(number(inputs, "chunk_kind") as u8).unwrap();
    if blake3::hash(&stored).as_bytes()[..16] != bytes(inputs, "stored_hash")[..] {
        return Err(wrong());
    }
    let place =
        format::block_place(RepositoryId(fixed(inputs, "repository")), kind, codec, raw_length);
    let encoded = crypto::open(&secret(keys, "key"), &place, &stored).map_err(|_| wrong())?;
    let text = decompress(codec, &encoded, raw_length as usize).map_err(|_| wrong())?;
    let id_key: [u8; 32] = fixed(keys, "id");
    let id = |text: &[u8]| hex(blake3::keyed_hash(&id_key, text).as_bytes());
    let mut at = 0;
    let mut ids = Vec::new();
    for length in inputs["chunk_lengths"].as_array().unwrap() {
        let end = at + length.as_u64().unwrap() as usize;
        ids.push(Value::from(id(&text[at..end])));
        at = end;
    }
    Ok(json!({ "text": hex(&text), "chunk_ids": ids }))
}

/// The stream a chunker vector speaks of: the XOF of a label, or zeros, with
/// ranges made zero.
pub fn stream(inputs: &Value) -> Vec<u8> {
    let mut data = vec![0; number(inputs, "length") as usize];
    if let Some(label) = inputs["label"].as_str() {
        blake3::Hasher::new().update(label.as_bytes()).finalize_xof().fill(&mut data);
    }
    data
}

fn chunker(inputs: &Value, keys: &Value) -> Value {
    let params = ChunkerParams::new(number(inputs, "average") as u32).unwrap();
    let chunker = Chunker::new(&secret(keys, "chunker"), params);
    let data = stream(inputs);
    let mut rest = &data[..];
    let mut lengths = Vec::new();
    while !rest.is_empty() {
        let length = chunker.cut(rest);
        lengths.push(length);
        rest = &rest[length..];
    }
    json!({ "lengths": lengths })
}
