//! Cases of envelopes, config, updates and slots.

use esker::chunker::ChunkerParams;
use esker::crypto::{HybridPrivate, SecretKey, SigningKey, Stretching};
use esker::format::cbor::Value as Cbor;
use esker::format::config::{CONFIG_KEY, Config};
use esker::format::object::{self, ADMIN, Contents};
use esker::format::slot::{EpochKeys, Method, Role, Secrets, Slot, slot_key};
use esker::format::update::{self, ConfigUpdate, Features, Revocation, Writer};
use esker::format::{ChunkKind, Kind, Place};
use esker::id::{ObjectHash, RepositoryId, SlotId, SnapshotId, WriterId, hex};
use serde_json::{Value, json};

use crate::{Case, ok, reject};

pub const REPOSITORY: RepositoryId = RepositoryId([0xa0; 16]);
const UPDATE_KEY: &str = "config-updates/00000001-0123456789abcdef";
const SLOT: SlotId = SlotId([0x51; 16]);
const WRITER: WriterId = WriterId([0x77; 16]);

fn admin() -> SigningKey {
    SigningKey::from_seed(&[1; 32])
}

/// The map with one field changed, added or (`None`) taken out.
pub fn with(map: &[u8], key: u64, value: Option<Cbor>) -> Vec<u8> {
    let Ok(Cbor::Map(mut pairs)) = Cbor::parse(map) else { panic!("not a map") };
    pairs.retain(|(at, _)| *at != key);
    pairs.extend(value.map(|value| (key, value)));
    pairs.sort_by_key(|(key, _)| *key);
    Cbor::Map(pairs).encode()
}

pub fn uint(number: u64) -> Option<Cbor> {
    Some(Cbor::Uint(number))
}

pub fn field(map: &[u8], key: u64) -> Cbor {
    let Ok(Cbor::Map(pairs)) = Cbor::parse(map) else { panic!("not a map") };
    pairs.into_iter().find(|(at, _)| *at == key).expect("the field").1
}

/// Array field `key` of `map`, its first item changed by `change`.
pub fn with_first(map: &[u8], key: u64, change: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let Cbor::Array(mut items) = field(map, key) else { panic!("not an array") };
    items[0] = Cbor::parse(&change(&items[0].encode())).unwrap();
    with(map, key, Some(Cbor::Array(items)))
}

/// Every map must refuse these, whatever its fields are.
pub fn map_cases(
    cases: &mut Vec<Case>,
    kind: &'static str,
    rule: &'static str,
    map: &[u8],
    inputs: impl Fn(&[u8]) -> Value,
    keys: &Value,
) {
    let mut bad = |rule, name: &str, map: &[u8]| {
        cases.push(reject(kind, rule, name, inputs(map), keys.clone()));
    };
    bad(rule, "unknown field 99", &with(map, 99, uint(0)));
    bad(rule, "unknown field 32767", &with(map, 32_767, uint(0)));
    bad("CBOR-6", "byte behind the map", &[map, &[0]].concat());
    bad("CBOR-1", "map cut short", &map[..map.len() - 1]);
    bad(rule, "an array instead of a map", &[0x80]);
    let kept = with(map, 32_768, uint(0));
    cases.push(ok(kind, "unknown field 32768 is ignored", inputs(&kept), keys.clone()));
}

pub fn object() -> Vec<Case> {
    let signer = SigningKey::from_seed(&[2; 32]);
    let index = SecretKey::from_bytes([3; 32]);
    let content = HybridPrivate::from_seed([4; 32]);
    let key = "confirmed/000102030405060708090a0b0c0d0e0f";
    let place = Place { repository: REPOSITORY, kind: Kind::Confirmation, epoch: 1, key };
    let make = |index_key, attachment: Option<&[u8]>| {
        let public = content.public();
        let attachment = attachment.map(|text| (&public, text));
        let contents =
            Contents { place, writer: WRITER, index_key, payload: b"payload", attachment };
        object::encode(&contents, &signer)
    };
    let plain = make(Some(&index), None);
    let both = make(Some(&index), Some(b"attachment"));
    let keys = json!({ "verify": hex(&signer.verify_key().0), "index": hex(&[3; 32]),
        "content": hex(&[4; 32]) });
    let inputs = |bytes: &[u8]| {
        json!({ "repository": hex(&REPOSITORY.0), "object_kind": 8, "key": key,
            "bytes": hex(bytes) })
    };
    let mut cases = vec![
        ok("object", "sealed payload", inputs(&plain), keys.clone()),
        ok("object", "payload and attachment", inputs(&both), keys.clone()),
    ];
    let mut bad = |rule, name: &str, bytes: &[u8]| {
        cases.push(reject("object", rule, name, inputs(bytes), keys.clone()));
    };
    let altered = |at: usize, byte: u8| {
        let mut bytes = plain.clone();
        bytes[at] = byte;
        let end = bytes.len() - 32;
        let hash = ObjectHash::of(&bytes[..end]);
        bytes[end..].copy_from_slice(&hash.0);
        bytes
    };
    bad("OBJ-1", "another magic", &altered(0, b'X'));
    bad("OBJ-2", "version 2", &altered(4, 2));
    bad("OBJ-3", "suite 2", &altered(7, 2));
    bad("OBJ-6", "kind mark", &altered(6, 9));
    bad("OBJ-6", "kind unknown", &altered(6, 99));
    bad("OBJ-4", "nothing", &[]);
    bad("OBJ-4", "shorter than header and trailer", &plain[..131]);
    bad("OBJ-4", "payload length one more", &altered(12, plain[12] + 1));
    bad("OBJ-4", "attachment length one more", &altered(16, 1));
    bad("OBJ-4", "attachment length near 2^32", &altered(19, 255));
    bad("OBJ-10", "epoch 0", &altered(8, 0));
    bad("OBJ-5", "cut short", &plain[..plain.len() - 1]);
    bad("OBJ-5", "byte behind the hash", &[&plain[..], &[0]].concat());
    let mut flipped = plain.clone();
    flipped[40] ^= 1;
    bad("OBJ-5", "a bit flipped", &flipped);
    bad("OBJ-7", "another epoch in the header", &altered(8, 2));
    bad("OBJ-7", "another writer in the header", &altered(20, 0));
    bad("OBJ-7", "a bit of the payload flipped, hash made to fit", &altered(40, plain[40] ^ 1));
    let mut elsewhere = inputs(&plain);
    elsewhere["key"] = "confirmed/100102030405060708090a0b0c0d0e0f".into();
    cases.push(reject("object", "OBJ-7", "under another key", elsewhere, keys.clone()));
    let mut other = inputs(&plain);
    other["repository"] = hex(&[0xa1; 16]).into();
    cases.push(reject("object", "OBJ-7", "in another repository", other, keys.clone()));
    let other_index = SecretKey::from_bytes([9; 32]);
    let stranger = make(Some(&other_index), None);
    cases.push(reject(
        "object",
        "OBJ-8",
        "sealed under another key",
        inputs(&stranger),
        keys.clone(),
    ));
    let clear = make(None, None);
    cases.push(reject("object", "OBJ-8", "payload in clear", inputs(&clear), keys.clone()));
    let mut wrong = keys;
    wrong["content"] = hex(&[5; 32]).into();
    cases.push(reject("object", "OBJ-9", "another content key", inputs(&both), wrong));
    cases
}

/// An envelope signed by the admin key around any payload.
fn admin_object(kind: Kind, key: &str, payload: &[u8]) -> Vec<u8> {
    let place = Place { repository: REPOSITORY, kind, epoch: 0, key };
    let contents = Contents { place, writer: ADMIN, index_key: None, payload, attachment: None };
    object::encode(&contents, &admin())
}

/// Signed as it should be, but for what every reader must expect of its kind.
fn not_in_clear(kind: Kind, key: &str, payload: &[u8]) -> [(&'static str, Vec<u8>); 3] {
    let public = HybridPrivate::from_seed([4; 32]).public();
    let make = |epoch, writer, attachment: Option<&[u8]>| {
        let place = Place { repository: REPOSITORY, kind, epoch, key };
        let attachment = attachment.map(|text| (&public, text));
        let contents = Contents { place, writer, index_key: None, payload, attachment };
        object::encode(&contents, &admin())
    };
    [
        ("envelope of epoch 1", make(1, ADMIN, None)),
        ("envelope of a writer", make(0, WRITER, None)),
        ("envelope with an attachment", make(0, ADMIN, Some(b"attachment"))),
    ]
}

pub fn config() -> Vec<Case> {
    let config = Config {
        repository: REPOSITORY,
        admin: admin().verify_key(),
        salt: [5; 16],
        stretching: Stretching::default(),
        created: 1_790_000_000_000,
        kept: Vec::new(),
    };
    let good = config.encode(&admin());
    let payload = object::parse(&good, Kind::Config).unwrap().payload.to_vec();
    let keys = json!({ "admin": hex(&admin().verify_key().0) });
    let raw = |bytes: &[u8]| json!({ "bytes": hex(bytes) });
    let inputs = |payload: &[u8]| raw(&admin_object(Kind::Config, CONFIG_KEY, payload));
    let mut cases = vec![ok("config", "good", raw(&good), keys.clone())];
    map_cases(&mut cases, "config", "CONF-1", &payload, inputs, &keys);
    let mut bad = |rule, name: &str, payload: &[u8]| {
        cases.push(reject("config", rule, name, inputs(payload), keys.clone()));
    };
    let numbers =
        |numbers: &[u64]| Some(Cbor::Array(numbers.iter().map(|n| (*n).into()).collect()));
    bad("CONF-1", "no repository id", &with(&payload, 1, None));
    bad("CONF-1", "repository id of 15 bytes", &with(&payload, 1, Some((&[0u8; 15][..]).into())));
    bad("CONF-1", "salt of 17 bytes", &with(&payload, 3, Some((&[0u8; 17][..]).into())));
    bad("CONF-1", "created is a text", &with(&payload, 5, Some("now".into())));
    bad("CONF-1", "four stretching numbers", &with(&payload, 4, numbers(&[65_536, 3, 4, 1])));
    bad("CONF-2", "two stretching numbers", &with(&payload, 4, numbers(&[65_536, 3])));
    bad("CONF-2", "stretching number of 2^32", &with(&payload, 4, numbers(&[1 << 32, 3, 4])));
    bad("CONF-2", "no stretching", &with(&payload, 4, None));
    let mut other = keys.clone();
    other["admin"] = hex(&SigningKey::from_seed(&[9; 32]).verify_key().0).into();
    cases.push(reject("config", "CONF-3", "slot vouches for another admin key", raw(&good), other));
    // what a field of 32768 adds beside its bytes: its key 3, a length of 3
    let room = object::MAX_CONFIG - good.len() - 6;
    let filled = |length| inputs(&with(&payload, 32_768, Some(Cbor::Bytes(vec![0; length]))));
    cases.push(ok("config", "of 64 KiB", filled(room), keys.clone()));
    let long = filled(room + 1);
    cases.push(reject("config", "OBJ-4", "of 64 KiB and 1", long, keys.clone()));
    for (name, bytes) in not_in_clear(Kind::Config, CONFIG_KEY, &payload) {
        cases.push(reject("config", "OBJ-10", name, raw(&bytes), keys.clone()));
    }
    let elsewhere = raw(&admin_object(Kind::Config, "config2", &payload));
    cases.push(reject("config", "OBJ-7", "signed for another key", elsewhere, keys));
    cases
}

fn writer(id: u8, role: Role) -> Writer {
    Writer {
        id: WriterId([id; 16]),
        verify: SigningKey::from_seed(&[id; 32]).verify_key(),
        role,
        label: format!("writer {id}"),
        domain: "default".into(),
        created: 1_790_000_000_000,
        created_by: WriterId([0x77; 16]),
    }
}

fn first_update() -> ConfigUpdate {
    ConfigUpdate {
        number: 1,
        previous: Vec::new(),
        epoch: 1,
        content: HybridPrivate::from_seed([4; 32]).public(),
        grants: Vec::new(),
        writers: vec![writer(0x77, Role::Full), writer(0x78, Role::Write)],
        revoked: Vec::new(),
        features: Features::default(),
        chunker: ChunkerParams::default(),
        listing_lag: None,
        written: 1_790_000_000_000,
        program: "esker 0.1.0".into(),
        kept: Vec::new(),
    }
}

pub fn update() -> Vec<Case> {
    let first = first_update();
    let keys = json!({ "admin": hex(&admin().verify_key().0) });
    let raw = |key: &str, bytes: &[u8]| json!({ "repository": hex(&REPOSITORY.0), "key": key, "bytes": hex(bytes) });
    let bytes = first.encode(REPOSITORY, UPDATE_KEY, &admin());
    let payload = object::parse(&bytes, Kind::Update).unwrap().payload.to_vec();
    let inputs = |payload: &[u8]| raw(UPDATE_KEY, &admin_object(Kind::Update, UPDATE_KEY, payload));
    let second_key = "config-updates/00000002-fedcba9876543210";
    let second = second_update(&bytes);
    let second_bytes = second.encode(REPOSITORY, second_key, &admin());
    let mut cases = vec![
        ok("update", "first", raw(UPDATE_KEY, &bytes), keys.clone()),
        ok(
            "update",
            "second, with grant and revocation",
            raw(second_key, &second_bytes),
            keys.clone(),
        ),
    ];
    map_cases(&mut cases, "update", "UPD-1", &payload, inputs, &keys);
    let mut bad = |rule, name: &str, payload: &[u8]| {
        cases.push(reject("update", rule, name, inputs(payload), keys.clone()));
    };
    let names = |lists: [&[&str]; 3]| {
        let texts = |names: &[&str]| Cbor::Array(names.iter().map(|name| (*name).into()).collect());
        Some(Cbor::Array(lists.map(texts).into()))
    };
    let chunker = |algorithm: u64, average: u64| {
        Some(Cbor::Map(vec![(1, algorithm.into()), (2, average.into())]))
    };
    bad("UPD-1", "epoch 0", &with(&payload, 3, uint(0)));
    bad("UPD-1", "epoch of 2^32", &with(&payload, 3, uint(1 << 32)));
    bad("UPD-1", "content key too short", &with(&payload, 4, Some((&[0u8; 1215][..]).into())));
    bad("UPD-1", "content key not valid", &with(&payload, 4, Some((&[255u8; 1216][..]).into())));
    bad("UPD-1", "no features", &with(&payload, 8, None));
    bad("UPD-1", "no chunker", &with(&payload, 9, None));
    bad("UPD-1", "average no power of two", &with(&payload, 9, chunker(1, 65_537)));
    bad("UPD-1", "average too small", &with(&payload, 9, chunker(1, 2048)));
    bad("UPD-1", "average too great", &with(&payload, 9, chunker(1, 1 << 21)));
    bad("UPD-1", "65 previous updates", &with(&payload, 2, hashes(65)));
    bad("UPD-1", "257 features of a class", &with(&payload, 8, names([&["x"; 257], &[], &[]])));
    let no_label = with_first(&payload, 6, |writer| with(writer, 4, None));
    bad("UPD-1", "a writer without label", &no_label);
    let role = with_first(&payload, 6, |writer| with(writer, 3, uint(6)));
    bad("UPD-2", "a writer of role 6", &role);
    bad("UPD-3", "number 2 under the key of 1", &with(&with(&payload, 1, uint(2)), 2, hashes(1)));
    bad("UPD-4", "number 0", &with(&with(&payload, 1, uint(0)), 2, hashes(1)));
    bad("UPD-4", "the first names a previous one", &with(&payload, 2, hashes(1)));
    bad("UPD-4", "the second names none", &with(&payload, 1, uint(2)));
    for (field, name, item) in
        [(5, "grants", &grant_map as &dyn Fn(u8) -> Cbor), (7, "revocations", &revocation_map)]
    {
        for (ids, how) in [([2, 1], "not sorted"), ([1, 1], "repeat")] {
            let items = Cbor::Array(ids.map(item).into());
            bad("UPD-5", &format!("{name} {how}"), &with(&payload, field, Some(items)));
        }
    }
    let id = |id: u8| move |w: &[u8]| with(w, 1, Some((&[id; 16][..]).into()));
    bad("UPD-5", "writers not sorted", &with_first(&payload, 6, id(0x79)));
    bad("UPD-5", "writers repeat", &with_first(&payload, 6, id(0x78)));
    bad("UPD-7", "incompatible feature", &with(&payload, 8, names([&["parity"], &[], &[]])));
    bad("UPD-7", "unknown chunker", &with(&payload, 9, chunker(2, 65_536)));
    let others = with(&payload, 8, names([&[], &["fast"], &["slow"]]));
    cases.push(ok("update", "features that do not forbid to read", inputs(&others), keys.clone()));
    let lag = with(&payload, 10, uint(60));
    cases.push(ok("update", "listing lag", inputs(&lag), keys.clone()));
    for key in ["config-updates/1-0123456789abcdef", "config-updates/00000001-0123456789ABCDEF"] {
        let inputs = raw(key, &admin_object(Kind::Update, key, &payload));
        cases.push(reject("update", "UPD-3", &format!("key {key}"), inputs, keys.clone()));
    }
    for (name, bytes) in not_in_clear(Kind::Update, UPDATE_KEY, &payload) {
        cases.push(reject("update", "OBJ-10", name, raw(UPDATE_KEY, &bytes), keys.clone()));
    }
    let moved = raw("config-updates/00000001-0000000000000000", &bytes);
    cases.push(reject("update", "OBJ-7", "under another key", moved, keys.clone()));
    let stranger = first.encode(REPOSITORY, UPDATE_KEY, &SigningKey::from_seed(&[9; 32]));
    cases.push(reject("update", "OBJ-7", "signed by another", raw(UPDATE_KEY, &stranger), keys));
    cases.extend(grants());
    cases
}

fn grant_map(slot: u8) -> Cbor {
    Cbor::Map(vec![(1, Cbor::Bytes(vec![slot; 16])), (2, Cbor::Bytes(vec![0; 40]))])
}

fn revocation_map(writer: u8) -> Cbor {
    let standing = Cbor::Array(Vec::new());
    Cbor::Map(vec![(1, Cbor::Bytes(vec![writer; 16])), (2, 5u64.into()), (3, standing)])
}

fn hashes(count: usize) -> Option<Cbor> {
    Some(Cbor::Array(vec![Cbor::Bytes(vec![1; 32]); count]))
}

fn second_update(first: &[u8]) -> ConfigUpdate {
    let keys = EpochKeys { epoch: 2, index: SecretKey::from_bytes([6; 32]), content: None };
    let recipient = HybridPrivate::from_seed([7; 32]).public();
    ConfigUpdate {
        number: 2,
        previous: vec![ObjectHash::of(first)],
        epoch: 2,
        grants: vec![(SLOT, update::seal_grant(REPOSITORY, SLOT, &recipient, &keys))],
        revoked: vec![Revocation {
            writer: WriterId([0x78; 16]),
            at: 1_790_000_100_000,
            standing: vec![(SnapshotId([0x5a; 16]), ObjectHash([0x5b; 32]))],
        }],
        ..first_update()
    }
}

fn grants() -> Vec<Case> {
    let recipient = HybridPrivate::from_seed([7; 32]);
    let keys = json!({ "recipient": hex(&[7; 32]) });
    let epoch_keys = |epoch, content: Option<[u8; 32]>| EpochKeys {
        epoch,
        index: SecretKey::from_bytes([6; 32]),
        content: content.map(HybridPrivate::from_seed),
    };
    let inputs = |epoch: u32, sealed: &[u8]| {
        json!({ "repository": hex(&REPOSITORY.0), "slot": hex(&SLOT.0), "epoch": epoch,
            "sealed": hex(sealed) })
    };
    let seal = |keys: &EpochKeys| update::seal_grant(REPOSITORY, SLOT, &recipient.public(), keys);
    let read = seal(&epoch_keys(2, Some([8; 32])));
    let place = |epoch| {
        let key = slot_key(SLOT);
        Place { repository: REPOSITORY, kind: Kind::Update, epoch, key: &key }.bytes("esker grant")
    };
    let other_epoch = recipient.public().seal(&place(2), &epoch_keys(3, None).to_value().encode());
    let extra = with(&epoch_keys(2, None).to_value().encode(), 4, uint(0));
    let extra = recipient.public().seal(&place(2), &extra);
    let mut elsewhere = inputs(2, &read);
    elsewhere["slot"] = hex(&[0x52; 16]).into();
    vec![
        ok("grant", "for a slot that reads", inputs(2, &read), keys.clone()),
        ok(
            "grant",
            "for a slot that does not",
            inputs(2, &seal(&epoch_keys(2, None))),
            keys.clone(),
        ),
        reject("grant", "UPD-6", "for another epoch", inputs(3, &read), keys.clone()),
        reject("grant", "UPD-6", "for another slot", elsewhere, keys.clone()),
        reject("grant", "UPD-6", "another epoch within", inputs(2, &other_epoch), keys.clone()),
        reject("grant", "UPD-6", "unknown field within", inputs(2, &extra), keys),
    ]
}

fn secrets(role: Role) -> Secrets {
    let key = |byte| SecretKey::from_bytes([byte; 32]);
    let epochs = |content: Option<[u8; 32]>| {
        vec![EpochKeys { epoch: 1, index: key(3), content: content.map(HybridPrivate::from_seed) }]
    };
    let kinds = [ChunkKind::Data, ChunkKind::List, ChunkKind::Tree, ChunkKind::Refs];
    let ids = |kinds: &[ChunkKind]| {
        kinds.iter().map(|kind| (*kind, key(0x10 + *kind as u8))).collect::<Vec<_>>()
    };
    Secrets {
        role,
        repository: REPOSITORY,
        admin: admin().verify_key(),
        writer: WRITER,
        signer: SigningKey::from_seed(&[0x77; 32]),
        recipient: HybridPrivate::from_seed([7; 32]),
        domain: "default".into(),
        root: (role == Role::Full).then(|| key(0x0f)),
        epochs: match role {
            Role::Full => Vec::new(),
            Role::Read => epochs(Some([4; 32])),
            _ => epochs(None),
        },
        chunk_ids: match role {
            Role::Full => Vec::new(),
            Role::Write | Role::Read => ids(&kinds),
            Role::Maintain | Role::Watch => ids(&kinds[3..]),
        },
        chunker: (role == Role::Write).then(|| key(0x20)),
    }
}

fn unwrapped(role: Role, method: Method) -> Slot {
    Slot {
        id: SLOT,
        method,
        role,
        label: format!("the {} key", role.name()),
        writer: WRITER,
        recipient: HybridPrivate::from_seed([7; 32]).public(),
        created: 1_790_000_000_000,
        created_by: WRITER,
        sealed: Vec::new(),
        commitment: None,
        kept: Vec::new(),
    }
}

pub fn slot() -> Vec<Case> {
    let input = SecretKey::from_bytes([8; 32]);
    let keys = json!({ "input": hex(&[8; 32]) });
    let raw = |bytes: &[u8]| json!({ "repository": hex(&REPOSITORY.0), "bytes": hex(bytes) });
    let mut cases = Vec::new();
    for role in Role::ALL {
        let mut slot = unwrapped(role, Method::Password);
        slot.wrap(&input, &secrets(role));
        let bytes = slot.encode(REPOSITORY, &admin());
        cases.push(ok("slot", &format!("role {}", role.name()), raw(&bytes), keys.clone()));
    }
    let mut slot = unwrapped(Role::Watch, Method::KeyFile);
    slot.wrap(&input, &secrets(Role::Watch));
    let bytes = slot.encode(REPOSITORY, &admin());
    let payload = object::parse(&bytes, Kind::Slot).unwrap().payload.to_vec();
    let key = slot_key(SLOT);
    let inputs = |payload: &[u8]| raw(&admin_object(Kind::Slot, &key, payload));
    cases.push(ok("slot", "another password", raw(&bytes), json!({ "input": hex(&[9; 32]) })));
    map_cases(&mut cases, "slot", "SLOT-1", &payload, inputs, &keys);
    let mut bad = |rule, name: &str, payload: &[u8]| {
        cases.push(reject("slot", rule, name, inputs(payload), keys.clone()));
    };
    bad("SLOT-1", "no label", &with(&payload, 4, None));
    bad("SLOT-1", "commitment of 31 bytes", &with(&payload, 10, Some((&[0u8; 31][..]).into())));
    bad("SLOT-1", "recipient key not valid", &with(&payload, 6, Some((&[255u8; 1216][..]).into())));
    bad("SLOT-2", "method 4", &with(&payload, 2, uint(4)));
    bad("SLOT-2", "role 6", &with(&payload, 3, uint(6)));
    bad("SLOT-3", "secrets cut short", &with(&payload, 9, Some((&[0u8; 39][..]).into())));
    bad("SLOT-6", "no commitment", &with(&payload, 10, None));
    bad("SLOT-5", "another role outside", &with(&payload, 3, uint(4)));
    bad("SLOT-5", "another writer outside", &with(&payload, 5, Some((&[1u8; 16][..]).into())));
    let stranger = slot.encode(REPOSITORY, &SigningKey::from_seed(&[9; 32]));
    cases.push(reject("slot", "OBJ-7", "signed by another", raw(&stranger), keys.clone()));
    cases.push(of_another_repository(&input, &keys));
    cases.extend(wrong_secrets(&input, &keys));
    for (name, bytes) in not_in_clear(Kind::Slot, &key, &payload) {
        cases.push(reject("slot", "OBJ-10", name, raw(&bytes), keys.clone()));
    }
    let holder = HybridPrivate::from_seed([0x21; 32]);
    let mut slot = unwrapped(Role::Read, Method::Recipient);
    slot.wrap_to(&holder.public(), &secrets(Role::Read));
    let bytes = slot.encode(REPOSITORY, &admin());
    let payload = object::parse(&bytes, Kind::Slot).unwrap().payload.to_vec();
    let committed = with(&payload, 10, Some((&[0u8; 32][..]).into()));
    let holders = json!({ "recipient": hex(&[0x21; 32]) });
    let name = "recipient with a commitment";
    cases.push(reject("slot", "SLOT-6", name, inputs(&committed), holders));
    cases.push(ok("slot", "recipient", raw(&bytes), json!({ "recipient": hex(&[0x21; 32]) })));
    cases.push(ok("slot", "another recipient", raw(&bytes), json!({ "recipient": hex(&[9; 32]) })));
    cases
}

/// Secrets that no slot of their role has.
fn wrong_secrets(input: &SecretKey, keys: &Value) -> Vec<Case> {
    type Change = fn(&mut Secrets);
    let epoch = |epoch| EpochKeys { epoch, index: SecretKey::from_bytes([3; 32]), content: None };
    let of = |epochs: &[u32]| epochs.iter().copied().map(epoch).collect::<Vec<_>>();
    let changes: [(&'static str, &str, Role, Change); 2] = [
        ("SLOT-5", "full without root", Role::Full, |secrets| secrets.root = None),
        ("SLOT-5", "write with a root", Role::Write, |secrets| {
            secrets.root = Some(SecretKey::from_bytes([0x0f; 32]));
        }),
    ];
    let case = |rule, name: &str, secrets: &Secrets| {
        let mut slot = unwrapped(secrets.role, Method::Password);
        slot.wrap(input, secrets);
        let bytes = hex(&slot.encode(REPOSITORY, &admin()));
        let inputs = json!({ "repository": hex(&REPOSITORY.0), "bytes": bytes });
        reject("slot", rule, name, inputs, keys.clone())
    };
    let mut cases = Vec::new();
    for (rule, name, role, change) in changes {
        let mut secrets = secrets(role);
        change(&mut secrets);
        cases.push(case(rule, name, &secrets));
    }
    for (name, epochs) in
        [("epoch 0", [0, 1]), ("epochs repeat", [2, 2]), ("epochs not ascending", [2, 1])]
    {
        let secrets = Secrets { epochs: of(&epochs), ..secrets(Role::Watch) };
        cases.push(case("SLOT-1", name, &secrets));
    }
    cases
}

/// Sealed for this repository's place, but speaking of another.
fn of_another_repository(input: &SecretKey, keys: &Value) -> Case {
    let mut slot = unwrapped(Role::Watch, Method::Password);
    let mut elsewhere = secrets(Role::Watch);
    elsewhere.repository = RepositoryId([0xa1; 16]);
    slot.wrap(input, &elsewhere);
    let wrap = esker::crypto::keys::slot_wrap(input, &SLOT.0).0;
    let key = slot_key(SLOT);
    let place = |repository| {
        Place { repository, kind: Kind::Slot, epoch: 0, key: &key }.bytes("esker slot secrets")
    };
    let text = esker::crypto::open(&wrap, &place(elsewhere.repository), &slot.sealed).unwrap();
    slot.sealed = esker::crypto::seal(&wrap, &place(REPOSITORY), &text);
    let bytes = slot.encode(REPOSITORY, &admin());
    let inputs = json!({ "repository": hex(&REPOSITORY.0), "bytes": hex(&bytes) });
    reject("slot", "SLOT-4", "secrets of another repository", inputs, keys.clone())
}
