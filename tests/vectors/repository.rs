//! One whole tiny repository with its passwords, made by the encoders.

use std::collections::BTreeMap;
use std::convert::Infallible;

use esker::chunker::{Chunker, ChunkerParams};
use esker::compression::{DEFAULT_LEVEL, compress};
use esker::crypto::{self, HybridPublic, SecretKey, SigningKey, Stretching, keys};
use esker::format::config::{CONFIG_KEY, Config};
use esker::format::content::{Content, Item, Root};
use esker::format::entry::{Entry, EntryKind, Metadata};
use esker::format::manifest::{
    Counts, Manifest, Outcome, PrivatePart, Promises, Source, manifest_key,
};
use esker::format::notes::{self, Confirmation, Mark, MarkKind, Session, SessionState};
use esker::format::object::{self, Contents};
use esker::format::pack::{self, Birth, Block, Chunk, SessionKey, Toc};
use esker::format::page::{FinishedPage, PageBuilder, PageKind};
use esker::format::reference::Reference;
use esker::format::segment::{self, PackEntry, Sealing};
use esker::format::slot::{EpochKeys, Method, Role, Secrets, Slot, slot_key};
use esker::format::update::{ConfigUpdate, Features, Writer};
use esker::format::{ChunkKind, Kind, Place, block_place, padded_length};
use esker::id::{
    ChunkId, ObjectHash, PackId, RepositoryId, SegmentId, SlotId, SnapshotId, WriterId, hex,
};
use serde_json::{Value, json};

use crate::reading::restore;

pub const REPOSITORY: RepositoryId = RepositoryId([0xa0; 16]);
const SNAPSHOT: SnapshotId = SnapshotId([0x5a; 16]);
const FULL: WriterId = WriterId([0x71; 16]);
const READER: WriterId = WriterId([0x73; 16]);
const TIME: u64 = 1_790_000_000_000;
const STRETCHING: Stretching = Stretching { memory_kib: 64, passes: 1, lanes: 1 };
const SALT: [u8; 16] = [5; 16];

pub type Objects = BTreeMap<String, Vec<u8>>;

struct Keys {
    root: SecretKey,
    index: SecretKey,
    content: HybridPublic,
    session: SecretKey,
    signer: SigningKey,
}

pub fn id_key(root: &SecretKey, kind: ChunkKind) -> SecretKey {
    match kind {
        ChunkKind::Data => keys::id_data(root),
        ChunkKind::List => keys::id_list(root),
        ChunkKind::Tree => keys::id_tree(root),
        ChunkKind::Refs => keys::id_refs(root),
    }
}

pub fn named(key: &SecretKey, text: &[u8]) -> ChunkId {
    ChunkId(*blake3::keyed_hash(key.bytes(), text).as_bytes())
}

/// Text that shrinks by half, so that blocks are zstd frames.
fn stream(label: &str, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length / 2];
    blake3::Hasher::new().update(label.as_bytes()).finalize_xof().fill(&mut bytes);
    hex(&bytes).into_bytes()
}

pub fn make() -> Value {
    let root = SecretKey::from_bytes([7; 32]);
    let keys = Keys {
        index: keys::index(&root, 1),
        content: keys::content(&root, 1).public(),
        session: SecretKey::from_bytes([0x33; 32]),
        signer: SigningKey::from_seed(&[0x71; 32]),
        root,
    };
    let mut objects = Objects::new();
    put_config(&keys, &mut objects);
    let (tree, references, packs) = put_packs(&keys, &mut objects);
    put_segment(&keys, &packs, &mut objects);
    put_snapshot(&keys, tree, references, &mut objects);
    let objects: BTreeMap<_, _> = objects.into_iter().map(|(key, b)| (key, hex(&b))).collect();
    let mut vector = json!({
        "format": 1,
        "about": "full: password \"correct horse\"; read: password \"read only\"",
        "passwords": { "full": "correct horse", "read": "read only" },
        "snapshot": SNAPSHOT.to_hex(),
        "name": "monday",
        "objects": objects,
    });
    vector["files"] = restore(&vector, "full");
    vector
}

fn put_config(keys: &Keys, objects: &mut Objects) {
    let admin = keys::admin(&keys.root);
    for (role, writer, password) in
        [(Role::Full, FULL, "correct horse"), (Role::Read, READER, "read only")]
    {
        let slot = make_slot(keys, role, writer, password);
        objects.insert(slot_key(slot.id), slot.encode(REPOSITORY, &admin));
    }
    let writer = |id: WriterId, role| Writer {
        id,
        verify: SigningKey::from_seed(&[id.0[0]; 32]).verify_key(),
        role,
        label: format!("the {role:?} key"),
        domain: "default".into(),
        created: TIME,
        created_by: FULL,
    };
    let update = ConfigUpdate {
        number: 1,
        previous: Vec::new(),
        epoch: 1,
        content: keys.content.clone(),
        grants: Vec::new(),
        writers: vec![writer(FULL, Role::Full), writer(READER, Role::Read)],
        revoked: Vec::new(),
        features: Features::default(),
        chunker: ChunkerParams::new(4096).unwrap(),
        listing_lag: None,
        written: TIME,
        program: "esker vectors".into(),
        kept: Vec::new(),
    };
    let key = "config-updates/00000001-0123456789abcdef";
    objects.insert(key.into(), update.encode(REPOSITORY, key, &admin));
    let config = Config {
        repository: REPOSITORY,
        admin: admin.verify_key(),
        salt: SALT,
        stretching: STRETCHING,
        created: TIME,
        kept: Vec::new(),
    };
    objects.insert(CONFIG_KEY.into(), config.encode(&admin));
}

fn make_slot(keys: &Keys, role: Role, writer: WriterId, password: &str) -> Slot {
    let recipient = crypto::HybridPrivate::from_seed([writer.0[0] ^ 0x80; 32]);
    let full = role == Role::Full;
    let kinds = [ChunkKind::Data, ChunkKind::List, ChunkKind::Tree, ChunkKind::Refs];
    let epoch = EpochKeys {
        epoch: 1,
        index: keys.index.clone(),
        content: Some(keys::content(&keys.root, 1)),
    };
    let secrets = Secrets {
        role,
        repository: REPOSITORY,
        admin: keys::admin(&keys.root).verify_key(),
        writer,
        signer: SigningKey::from_seed(&[writer.0[0]; 32]),
        recipient: recipient.clone(),
        domain: "default".into(),
        root: full.then(|| keys.root.clone()),
        epochs: if full { Vec::new() } else { vec![epoch] },
        chunk_ids: match full {
            true => Vec::new(),
            false => kinds.map(|kind| (kind, id_key(&keys.root, kind))).into(),
        },
        chunker: None,
    };
    let mut slot = Slot {
        id: SlotId([writer.0[0] ^ 0x40; 16]),
        method: Method::Password,
        role,
        label: format!("{role:?}"),
        writer,
        recipient: recipient.public(),
        created: TIME,
        created_by: FULL,
        sealed: Vec::new(),
        commitment: None,
        kept: Vec::new(),
    };
    slot.wrap(&STRETCHING.stretch(password.as_bytes(), &SALT).unwrap(), &secrets);
    slot
}

/// Chunks of one pack, gathered until it is closed.
struct Gathered {
    kind: pack::PackKind,
    chunks: Vec<(ChunkKind, ChunkId, Vec<u8>)>,
}

impl Gathered {
    fn put(&mut self, keys: &Keys, kind: ChunkKind, text: &[u8]) -> ChunkId {
        let id = named(&id_key(&keys.root, kind), text);
        if !self.chunks.iter().any(|(_, known, _)| *known == id) {
            self.chunks.push((kind, id, text.to_vec()));
        }
        id
    }

    /// Blocks of up to 16 KiB of one kind, padding, table, footer.
    fn close(self, keys: &Keys, number: u64, objects: &mut Objects) -> PackEntryOwned {
        let refs = self.kind == pack::PackKind::Refs;
        let birth = Birth(TIME << 20 | number);
        let mut bytes = pack::header(self.kind, birth).to_vec();
        let mut toc = Toc {
            kind: self.kind,
            birth,
            run: SNAPSHOT,
            sessions: vec![session_entry(keys, refs)],
            blocks: Vec::new(),
            chunks: Vec::new(),
            foreign: Vec::new(),
        };
        let mut rest = &self.chunks[..];
        while let [(kind, ..), ..] = rest {
            let mut total = 0;
            let count = rest
                .iter()
                .take_while(|(other, _, text)| {
                    let fits = total == 0 || total + text.len() <= 16 * 1024;
                    total += text.len();
                    other == kind && fits
                })
                .count();
            let (now, later) = rest.split_at(count);
            append_block(keys, *kind, now, &mut toc, &mut bytes);
            rest = later;
        }
        let frame = toc.encode_frame(REPOSITORY, 1, &keys.index, FULL, &keys.signer);
        let padded = padded_length((bytes.len() + frame.len()) as u64) as usize;
        let mut padding = vec![0; padded - bytes.len() - frame.len()];
        blake3::Hasher::new().update(&bytes).finalize_xof().fill(&mut padding);
        bytes.extend_from_slice(&padding);
        bytes.extend_from_slice(&frame);
        let id = PackId(*blake3::hash(&bytes).as_bytes());
        let length = bytes.len() as u64;
        objects.insert(pack::pack_key(id), bytes);
        let chunks = toc.chunks.iter().map(|chunk| chunk.id).collect();
        PackEntryOwned { id, birth, length, frame, chunks }
    }
}

struct PackEntryOwned {
    id: PackId,
    birth: Birth,
    length: u64,
    frame: Vec<u8>,
    chunks: Vec<ChunkId>,
}

pub fn session_place() -> Vec<u8> {
    let place = Place { repository: REPOSITORY, kind: Kind::Pack, epoch: 1, key: "" };
    place.bytes("esker session key")
}

fn session_entry(keys: &Keys, refs: bool) -> pack::Session {
    let sealed = || keys.content.seal(&session_place(), keys.session.bytes());
    let key = if refs { SessionKey::Index } else { SessionKey::Sealed(sealed()) };
    pack::Session { epoch: 1, writer: FULL, key }
}

fn append_block(
    keys: &Keys,
    kind: ChunkKind,
    chunks: &[(ChunkKind, ChunkId, Vec<u8>)],
    toc: &mut Toc,
    bytes: &mut Vec<u8>,
) {
    let text: Vec<u8> = chunks.iter().flat_map(|(_, _, text)| text.clone()).collect();
    let mut encoded = Vec::new();
    let codec = compress(&text, DEFAULT_LEVEL, &mut encoded).unwrap();
    let key = if kind == ChunkKind::Refs { &keys.index } else { &keys.session };
    let place = block_place(REPOSITORY, kind, codec, text.len() as u32);
    let stored = crypto::seal(key, &place, &encoded);
    let mut stored_hash = [0; 16];
    stored_hash.copy_from_slice(&blake3::hash(&stored).as_bytes()[..16]);
    toc.blocks.push(Block {
        kind,
        codec,
        session: 0,
        stored_length: stored.len() as u32,
        raw_length: text.len() as u32,
        chunks: chunks.len() as u32,
        stored_hash,
    });
    for (_, id, text) in chunks {
        toc.chunks.push(Chunk { id: *id, length: text.len() as u32 });
    }
    bytes.extend_from_slice(&stored);
}

type Store<'a> = Box<dyn FnMut(FinishedPage) -> Result<ChunkId, Infallible> + 'a>;

/// Pages of `kind` around what `push` puts, gathered for a pack.
fn build(
    keys: &Keys,
    kind: PageKind,
    gathered: &mut Gathered,
    push: impl FnOnce(&mut PageBuilder<Store<'_>>) -> Result<(), Infallible>,
) -> Root {
    let (cut, chunk_kind) = match kind {
        PageKind::Tree => (keys::page_cut(&keys::chunker(&keys.root)), ChunkKind::Tree),
        PageKind::List => (keys::page_cut(&keys::chunker(&keys.root)), ChunkKind::List),
        PageKind::Refs => (keys::reference_cut(&keys::id_refs(&keys.root)), ChunkKind::Refs),
    };
    let store: Store<'_> = Box::new(|page| Ok(gathered.put(keys, chunk_kind, &page.bytes)));
    let mut builder = PageBuilder::new(kind, cut, store);
    let Ok(()) = push(&mut builder);
    let Ok((root, _)) = builder.finish();
    root
}

fn put_packs(keys: &Keys, objects: &mut Objects) -> (Root, Root, Vec<PackEntryOwned>) {
    use pack::PackKind::*;
    let gather = |kind| Gathered { kind, chunks: Vec::new() };
    let (mut data, mut tree, mut refs) = (gather(Data), gather(Tree), gather(Refs));
    let entries = entries(keys, &mut data, &mut tree);
    let root = build(keys, PageKind::Tree, &mut tree, |pages| {
        entries.iter().try_for_each(|entry| pages.push_entry(entry))
    });
    let mut packs = vec![data.close(keys, 0, objects), tree.close(keys, 1, objects)];
    let references: Vec<Reference> = packs
        .iter()
        .map(|pack| Reference {
            birth: pack.birth,
            pack: pack.id,
            runs: vec![(0, pack.chunks.len() as u16 - 1)],
        })
        .collect();
    let set = build(keys, PageKind::Refs, &mut refs, |pages| {
        references.iter().try_for_each(|reference| pages.push_reference(reference))
    });
    packs.push(refs.close(keys, 2, objects));
    (root, set, packs)
}

fn entry(key: &[u8], kind: EntryKind, content: Content, size: u64) -> Entry {
    let mode = if kind == EntryKind::Directory { 0o755 } else { 0o644 };
    let metadata = Metadata { mode, size, user: b"root"[..].into(), ..Metadata::default() };
    Entry { content, ..Entry::new(key.to_vec(), kind, metadata) }
}

fn cut(keys: &Keys, text: &[u8], data: &mut Gathered) -> Vec<Item> {
    let params = ChunkerParams::new(4096).unwrap();
    let chunker = Chunker::new(&keys::chunker(&keys.root), params);
    let mut items = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (chunk, later) = rest.split_at(chunker.cut(rest));
        let id = data.put(keys, ChunkKind::Data, chunk);
        items.push(Item::Chunk { id, length: chunk.len() as u32 });
        rest = later;
    }
    items
}

fn entries(keys: &Keys, data: &mut Gathered, tree: &mut Gathered) -> Vec<Entry> {
    use EntryKind::*;
    let big = stream("big", 120_000);
    let items = cut(keys, &big, data);
    assert!(items.len() > 16, "a list, not items");
    let list = build(keys, PageKind::List, tree, |pages| {
        items.iter().try_for_each(|item| pages.push_item(item))
    });
    let mut holed = cut(keys, &stream("head", 8192), data);
    holed.push(Item::Hole { length: 1 << 20 });
    holed.extend(cut(keys, &stream("tail", 100), data));
    let mut sparse =
        entry(b"files\0srv\0sparse", File, Content::Items(holed), 8192 + (1 << 20) + 100);
    sparse.sparse = true;
    let linked = Content::Items(cut(keys, &stream("linked", 5000), data));
    let mut one = entry(b"files\0srv\0link-1", File, linked, 5000);
    one.link_group = 1;
    let mut other = one.clone();
    other.key = b"files\0srv\0link-2".to_vec();
    let mut symlink = entry(b"files\0etc\0link", Symlink, Content::Empty, 0);
    symlink.metadata.target = b"hello".to_vec();
    let mut attribute = entry(b"files\0srv\0long", File, Content::Empty, 0);
    let value = Content::Items(cut(keys, &stream("attribute", 6000), data));
    attribute.long_xattrs = vec![(b"user.long".to_vec(), value)];
    attribute.metadata.xattrs = vec![(b"user.short".to_vec(), b"short".to_vec())];
    vec![
        entry(b"files", Directory, Content::Empty, 0),
        entry(b"files\0etc", Directory, Content::Empty, 0),
        entry(b"files\0etc\0empty", File, Content::Empty, 0),
        entry(b"files\0etc\0hello", File, Content::Inline(b"hello\n".to_vec()), 6),
        symlink,
        entry(b"files\0srv", Directory, Content::Empty, 0),
        entry(b"files\0srv\0big", File, Content::List(list), 120_000),
        one,
        other,
        attribute,
        sparse,
    ]
}

fn put_segment(keys: &Keys, packs: &[PackEntryOwned], objects: &mut Objects) {
    let sealing = Sealing {
        repository: REPOSITORY,
        epoch: 1,
        key: &keys.index,
        signer: FULL,
        signing: &keys.signer,
    };
    let mut packs: Vec<PackEntry<'_>> = packs
        .iter()
        .map(|pack| PackEntry {
            id: pack.id,
            length: pack.length,
            frame: &pack.frame,
            chunks: pack.chunks.clone(),
        })
        .collect();
    let bytes = segment::encode(&sealing, &[], &[], &mut packs);
    let id = SegmentId(*blake3::hash(&bytes).as_bytes());
    objects.insert(segment::segment_key(id), bytes);
}

fn envelope(keys: &Keys, kind: Kind, key: &str, payload: &[u8], private: Option<&[u8]>) -> Vec<u8> {
    let contents = Contents {
        place: Place { repository: REPOSITORY, kind, epoch: 1, key },
        writer: FULL,
        index_key: Some(&keys.index),
        payload,
        attachment: private.map(|text| (&keys.content, text)),
    };
    object::encode(&contents, &keys.signer)
}

fn put_snapshot(keys: &Keys, tree: Root, references: Root, objects: &mut Objects) {
    let label = keys::source_label(&keys::id_data(&keys.root));
    let manifest = Manifest {
        id: SNAPSHOT,
        outcome: Outcome::Complete,
        started: TIME,
        ended: TIME + 1000,
        zone: "UTC".into(),
        host: "harbour".into(),
        profile: String::new(),
        sources: vec![Source {
            label: hex(&blake3::keyed_hash(label.bytes(), b"/").as_bytes()[..8]),
            outcome: Outcome::Complete,
            required: true,
        }],
        writer: FULL,
        set: None,
        tags: Vec::new(),
        expires: None,
        promises: Promises::default(),
        counts: Counts { files: 7, directories: 3, others: 1, ..Counts::default() },
        parent: None,
        replaces: None,
        copied_from: None,
        references,
        program: "esker vectors".into(),
        kept: Vec::new(),
    };
    let private = PrivatePart {
        tree,
        paths: vec![b"/".to_vec()],
        exclusions: Vec::new(),
        failures: Vec::new(),
        notes: Vec::new(),
        filesystems: vec![b"/dev/sda1".to_vec()],
        profile: None,
        restore_commands: Vec::new(),
        kept: Vec::new(),
    };
    let session = Session {
        state: SessionState::Start,
        time: TIME,
        host: "harbour".into(),
        boot: "b007".into(),
        process: 1,
        profile: String::new(),
        packs: 0,
        bytes: 0,
        code: None,
        machine: None,
        kept: Vec::new(),
    };
    let mut put = |kind, key: String, payload: Vec<u8>, private: Option<&[u8]>| {
        let bytes = envelope(keys, kind, &key, &payload, private);
        let hash = ObjectHash::of(&bytes);
        objects.insert(key, bytes);
        hash
    };
    put(Kind::Session, notes::session_key(SNAPSHOT, 1), session.encode(), None);
    let manifest =
        put(Kind::Manifest, manifest_key(SNAPSHOT), manifest.encode(), Some(&private.encode()));
    let confirmation = Confirmation { manifest, time: TIME + 1000, kept: Vec::new() };
    put(Kind::Confirmation, notes::confirmation_key(SNAPSHOT), confirmation.encode(), None);
    let mark = Mark { kind: MarkKind::Name("monday".into()), time: TIME, kept: Vec::new() };
    let key = format!("marks/{SNAPSHOT}/00000001-0123456789abcdef");
    put(Kind::Mark, key, mark.encode(), None);
}
