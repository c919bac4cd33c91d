//! Reads the tiny repository step by step as `format-spec/00-overview.md` says.

use std::collections::BTreeMap;

use esker::compression::{Codec, decompress};
use esker::crypto::{self, SecretKey, keys};
use esker::format::config::{CONFIG_KEY, Config};
use esker::format::content::{Content, Item, Root};
use esker::format::entry::Entry;
use esker::format::manifest::{Manifest, PREFIX, PrivatePart};
use esker::format::notes::Confirmation;
use esker::format::object;
use esker::format::pack::{self, SessionKey, Toc, TocFrame};
use esker::format::page::{Page, PageKind};
use esker::format::segment::{self, Segment};
use esker::format::slot::{Secrets, Slot, slot_key};
use esker::format::update::{self, ConfigUpdate};
use esker::format::{ChunkKind, Kind, Place, block_place};
use esker::id::{ChunkId, ObjectHash, from_hex, hex};
use serde_json::{Value, json};

use crate::repository::{Objects, REPOSITORY, id_key, named, session_place};

/// Where a chunk lies.
struct Found {
    stored: Vec<u8>,
    kind: ChunkKind,
    codec: Codec,
    raw_length: u32,
    stored_hash: [u8; 16],
    sealed: Option<Vec<u8>>,
    start: usize,
    length: usize,
}

struct OpenRepository {
    index: SecretKey,
    content: crypto::HybridPrivate,
    id_keys: BTreeMap<ChunkKind, SecretKey>,
    found: BTreeMap<ChunkId, Found>,
}

/// Steps 1 to 15 of the overview; says every path and the hash of its bytes.
pub fn restore(vector: &Value, role: &str) -> Value {
    let objects: Objects = vector["objects"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(key, bytes)| (key.clone(), from_hex(bytes.as_str().unwrap()).unwrap()))
        .collect();
    let (config, config_object) = Config::parse(&objects[CONFIG_KEY]).unwrap();
    let password = vector["passwords"][role].as_str().unwrap();
    let input = config.stretching.stretch(password.as_bytes(), &config.salt).unwrap();
    let (slot, object, secrets) = objects
        .iter()
        .filter(|(key, _)| key.starts_with("keys/"))
        .find_map(|(key, bytes)| {
            let (slot, object) = Slot::parse(bytes).unwrap();
            assert_eq!(*key, slot_key(slot.id));
            let secrets = slot.unwrap(&input, config.repository).unwrap()?;
            Some((slot, object, secrets))
        })
        .expect("a slot for the password");
    slot.verify(&object, config.repository, &secrets.admin).unwrap();
    config.verify(&config_object, &secrets.admin).unwrap();
    let (key, bytes) = objects.iter().rfind(|(key, _)| update::number_of(key).is_some()).unwrap();
    let update = ConfigUpdate::parse(bytes, config.repository, key, &secrets.admin).unwrap();
    assert_eq!(update.writer_in_force(secrets.writer).unwrap().role, secrets.role);
    let mut open = open_keys(&secrets);
    load_index(&objects, &update, &mut open);
    let private = read_snapshot(&objects, &update, &open, vector["snapshot"].as_str().unwrap());
    let mut files = Vec::new();
    walk(&open, private.tree, &mut files);
    files.into()
}

fn open_keys(secrets: &Secrets) -> OpenRepository {
    let kinds = [ChunkKind::Data, ChunkKind::List, ChunkKind::Tree, ChunkKind::Refs];
    let (index, content, id_keys) = match &secrets.root {
        Some(root) => (
            keys::index(root, 1),
            keys::content(root, 1),
            kinds.map(|kind| (kind, id_key(root, kind))).into(),
        ),
        None => (
            secrets.epochs[0].index.clone(),
            secrets.epochs[0].content.clone().unwrap(),
            secrets.chunk_ids.iter().cloned().collect(),
        ),
    };
    OpenRepository { index, content, id_keys, found: BTreeMap::new() }
}

fn load_index(objects: &Objects, update: &ConfigUpdate, open: &mut OpenRepository) {
    for (key, bytes) in objects {
        let Some(id) = segment::segment_of_key(key) else { continue };
        assert_eq!(id.0, *blake3::hash(bytes).as_bytes());
        let segment = Segment::parse(bytes).unwrap();
        let signer = update.writer(segment.header.signer).unwrap();
        segment.verify(REPOSITORY, &signer.verify).unwrap();
        let directory = segment.directory(REPOSITORY, &open.index).unwrap();
        let frames = segment.frames(&directory).unwrap();
        for (row, frame) in directory.packs.iter().zip(frames) {
            let pack = &objects[&pack::pack_key(row.id)];
            assert_eq!(pack.len() as u64, row.length);
            let frame = TocFrame::parse(frame).unwrap();
            let signer = update.writer(frame.footer.signer).unwrap();
            frame.verify(REPOSITORY, &signer.verify).unwrap();
            let toc = frame.open(REPOSITORY, &open.index).unwrap();
            assert!(toc.fits(row.length));
            assert_eq!(pack::parse_header(pack), Ok((toc.kind, toc.birth)));
            add_chunks(&toc, pack, &mut open.found);
        }
    }
}

fn add_chunks(toc: &Toc, pack: &[u8], found: &mut BTreeMap<ChunkId, Found>) {
    let mut chunks = toc.chunks.iter();
    for (block, offset) in toc.blocks.iter().zip(toc.offsets()) {
        let offset = offset as usize;
        let sealed = match &toc.sessions[usize::from(block.session)].key {
            SessionKey::Sealed(sealed) => Some(sealed.clone()),
            SessionKey::Index => None,
        };
        let mut start = 0;
        for chunk in chunks.by_ref().take(block.chunks as usize) {
            found.insert(
                chunk.id,
                Found {
                    stored: pack[offset..offset + block.stored_length as usize].to_vec(),
                    kind: block.kind,
                    codec: block.codec,
                    raw_length: block.raw_length,
                    stored_hash: block.stored_hash,
                    sealed: sealed.clone(),
                    start,
                    length: chunk.length as usize,
                },
            );
            start += chunk.length as usize;
        }
    }
}

impl OpenRepository {
    fn chunk(&self, kind: ChunkKind, id: ChunkId) -> Vec<u8> {
        let found = &self.found[&id];
        assert_eq!(found.kind, kind);
        assert_eq!(found.stored_hash, blake3::hash(&found.stored).as_bytes()[..16]);
        let key = match &found.sealed {
            None => self.index.clone(),
            Some(sealed) => {
                let key = self.content.open(&session_place(), sealed).unwrap();
                SecretKey::from_bytes(key.as_slice().try_into().unwrap())
            }
        };
        let place = block_place(REPOSITORY, kind, found.codec, found.raw_length);
        let encoded = crypto::open(&key, &place, &found.stored).unwrap();
        let text = decompress(found.codec, &encoded, found.raw_length as usize).unwrap();
        let chunk = text[found.start..found.start + found.length].to_vec();
        assert_eq!(named(&self.id_keys[&kind], &chunk), id);
        chunk
    }

    fn item(&self, item: &Item, out: &mut Vec<u8>) {
        match item {
            Item::Chunk { id, length } => {
                let chunk = self.chunk(ChunkKind::Data, *id);
                assert_eq!(chunk.len(), *length as usize);
                out.extend_from_slice(&chunk);
            }
            Item::Hole { length } => out.resize(out.len() + *length as usize, 0),
        }
    }

    fn content(&self, content: &Content, out: &mut Vec<u8>) {
        match content {
            Content::Empty => {}
            Content::Inline(bytes) => out.extend_from_slice(bytes),
            Content::Items(items) => items.iter().for_each(|item| self.item(item, out)),
            Content::List(root) => self.list(*root, out),
        }
    }

    fn list(&self, root: Root, out: &mut Vec<u8>) {
        let page = self.chunk(ChunkKind::List, root.id);
        match Page::parse(&page, PageKind::List, root.level).unwrap() {
            Page::Items(items) => items.iter().for_each(|item| self.item(item, out)),
            Page::ListChildren(children) => {
                for child in children {
                    let before = out.len();
                    self.list(Root { id: child.id, level: root.level - 1 }, out);
                    assert_eq!((out.len() - before) as u64, child.bytes);
                }
            }
            _ => unreachable!(),
        }
    }
}

fn opened<'a>(
    objects: &'a Objects,
    update: &ConfigUpdate,
    open: &OpenRepository,
    kind: Kind,
    key: &'a str,
) -> (object::Object<'a>, Place<'a>, Vec<u8>) {
    let object = object::parse(&objects[key], kind).unwrap();
    let place = Place { repository: REPOSITORY, kind, epoch: object.epoch, key };
    let writer = update.writer_in_force(object.writer).unwrap();
    object.verify(&writer.verify, &place).unwrap();
    let payload = object.open(&open.index, &place).unwrap();
    (object, place, payload)
}

fn read_snapshot(
    objects: &Objects,
    update: &ConfigUpdate,
    open: &OpenRepository,
    id: &str,
) -> PrivatePart {
    let (key, confirmed) = (format!("{PREFIX}{id}"), format!("confirmed/{id}"));
    let (object, place, payload) = opened(objects, update, open, Kind::Manifest, &key);
    let manifest = Manifest::parse(&payload).unwrap();
    assert_eq!((manifest.id.to_hex().as_str(), manifest.writer), (id, object.writer));
    let (_, _, payload) = opened(objects, update, open, Kind::Confirmation, &confirmed);
    let confirmation = Confirmation::parse(&payload).unwrap();
    assert_eq!(confirmation.manifest, ObjectHash::of(&objects[&key]));
    let references = open.chunk(ChunkKind::Refs, manifest.references.id);
    Page::parse(&references, PageKind::Refs, manifest.references.level).unwrap();
    PrivatePart::parse(&object.open_attachment(&open.content, &place).unwrap()).unwrap()
}

fn walk(open: &OpenRepository, root: Root, files: &mut Vec<Value>) {
    let page = open.chunk(ChunkKind::Tree, root.id);
    match Page::parse(&page, PageKind::Tree, root.level).unwrap() {
        Page::Entries(entries) => files.extend(entries.iter().map(|entry| file(open, entry))),
        Page::TreeChildren(children) => {
            for child in children {
                walk(open, Root { id: child.id, level: root.level - 1 }, files);
            }
        }
        _ => unreachable!(),
    }
}

fn file(open: &OpenRepository, entry: &Entry) -> Value {
    let hash = |content: &Content| {
        let mut bytes = Vec::new();
        open.content(content, &mut bytes);
        (bytes.len() as u64, hex(blake3::hash(&bytes).as_bytes()))
    };
    let (length, blake3) = hash(&entry.content);
    assert_eq!(length, entry.metadata.size);
    let long: Vec<Value> = entry
        .long_xattrs
        .iter()
        .map(|(name, content)| json!([hex(name), hash(content).1]))
        .collect();
    json!({ "key": hex(&entry.key), "kind": entry.kind as u8, "size": length, "blake3": blake3,
        "link_group": entry.link_group, "target": hex(&entry.metadata.target),
        "long_xattrs": long })
}

pub fn check(vector: &Value) {
    for role in ["full", "read"] {
        assert_eq!(restore(vector, role), vector["files"], "restored with the {role} key");
    }
}
