//! What each parser must stand, whatever the bytes: no panic, and a value that
//! was parsed is the same once it was encoded and parsed again. Where a value
//! has one encoding only, that is what was parsed.
//!
//! One function a parser. The fuzz target of its name runs it, and
//! `tests/corpora.rs` does over the files of `corpus/`. What shields a parser
//! from bytes that nobody vouched for, be it a hash, a signature or a seal, is
//! made here with keys that are known, so that the bytes reach it.

#![allow(dead_code)] // a fuzz target uses one of them

use std::convert::Infallible;
use std::fmt::Debug;
use std::path::Path;
use std::str::from_utf8;
use std::sync::LazyLock;

use esker::compression::{Codec, DEFAULT_LEVEL, compress, decompress};
use esker::config::Loaded;
use esker::crypto::keys::slot_wrap;
use esker::crypto::{
    self, HybridPrivate, HybridPublic, SEAL_OVERHEAD, SecretKey, SigningKey, seal,
};
use esker::format::cbor::{Fields, Value};
use esker::format::config::{CONFIG_KEY, Config};
use esker::format::content::Content;
use esker::format::entry::{Entry, display_key, key_of_path};
use esker::format::manifest::{self, Manifest, PrivatePart};
use esker::format::notes::{self, Confirmation, Mark, Record, Session, Sweep};
use esker::format::object::{self, Contents};
use esker::format::pack::{self, CHUNK_ENTRY_BYTES, FOOTER_LENGTH, HEADER_LENGTH, Toc, TocFrame};
use esker::format::page::{FinishedPage, Page, PageBuilder, PageKind};
use esker::format::reader::Reader;
use esker::format::reference::{Reference, parse_reference};
use esker::format::segment::{self, Directory, Piece, Segment};
use esker::format::slot::{EpochKeys, Method, Role, Slot, slot_key};
use esker::format::update::{self, ConfigUpdate};
use esker::format::{Kind, Place, Result, SUITE, VERSION};
use esker::id::{
    ChunkId, ObjectHash, PackId, RepositoryId, SegmentId, SlotId, SnapshotId, SweepId, WriterId,
    hex,
};
use esker::keys::file;

/// Name of a target, and of the directory of its corpus, and what it runs.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: &[Target] = &[
    ("block", block),
    ("cbor", cbor),
    ("config", config),
    ("confirmation", confirmation),
    ("content", content),
    ("directory", directory),
    ("entry", entry),
    ("epoch_keys", epoch_keys),
    ("key_text", key_text),
    ("manifest", manifest),
    ("mark", mark),
    ("names", names),
    ("object", object),
    ("pack_header", pack_header),
    ("page_list_inner", page_list_inner),
    ("page_list_leaf", page_list_leaf),
    ("page_refs_inner", page_refs_inner),
    ("page_refs_leaf", page_refs_leaf),
    ("page_tree_inner", page_tree_inner),
    ("page_tree_leaf", page_tree_leaf),
    ("piece", piece),
    ("private_part", private_part),
    ("profiles", profiles),
    ("record", record),
    ("reference", reference),
    ("secrets", secrets),
    ("segment", segment),
    ("segment_frames", segment_frames),
    ("session", session),
    ("slot", slot),
    ("sweep", sweep),
    ("toc", toc),
    ("toc_frame", toc_frame),
    ("update", update),
];

const REPOSITORY: RepositoryId = RepositoryId([0xa0; 16]);
const SLOT: SlotId = SlotId([0x51; 16]);
static ADMIN: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::from_seed(&[1; 32]));
static RECIPIENT: LazyLock<HybridPublic> =
    LazyLock::new(|| HybridPrivate::from_seed([4; 32]).public());

fn key() -> SecretKey {
    SecretKey::from_bytes([3; 32])
}

fn again<T: Debug + PartialEq>(
    data: &[u8],
    parse: fn(&[u8]) -> Result<T>,
    encode: fn(&T) -> Vec<u8>,
) {
    if let Ok(value) = parse(data) {
        assert_eq!(parse(&encode(&value)), Ok(value));
    }
}

/// An object that the admin key signed, with `payload` in clear.
fn signed(kind: Kind, key: &str, payload: &[u8]) -> Vec<u8> {
    let place = Place { repository: REPOSITORY, kind, epoch: 0, key };
    let contents =
        Contents { place, writer: object::ADMIN, index_key: None, payload, attachment: None };
    object::encode(&contents, &ADMIN)
}

pub fn cbor(data: &[u8]) {
    if let Ok(value) = Value::parse(data) {
        assert_eq!(value.encode(), data);
    }
}

/// An envelope of the kind it says it is, and the same with its hash put right.
pub fn object(data: &[u8]) {
    let kind = data.get(6).and_then(|byte| Kind::from_byte(*byte)).unwrap_or(Kind::Config);
    let _ = object::parse(data, kind);
    let Some((body, _)) = data.split_last_chunk::<32>() else { return };
    let bytes = [body, &ObjectHash::of(body).0].concat();
    assert!(object::hash_is_right(&bytes));
    let Ok(parsed) = object::parse(&bytes, kind) else { return };
    if !parsed.attachment.is_empty() {
        return; // sealing is not repeatable
    }
    let contents = Contents {
        place: Place { repository: REPOSITORY, kind, epoch: parsed.epoch, key: "" },
        writer: parsed.writer,
        index_key: None,
        payload: parsed.payload,
        attachment: None,
    };
    let encoded = object::encode(&contents, &ADMIN);
    let second = object::parse(&encoded, kind).unwrap();
    assert_eq!((second.epoch, second.writer), (parsed.epoch, parsed.writer));
    assert_eq!(second.payload, parsed.payload);
}

/// A payload.
pub fn config(data: &[u8]) {
    let bytes = signed(Kind::Config, CONFIG_KEY, data);
    if let Ok((config, _)) = Config::parse(&bytes) {
        let encoded = config.encode(&ADMIN);
        assert_eq!(Config::parse(&encoded).map(|(config, _)| config), Ok(config));
    }
}

/// A payload, under a key that has its number.
pub fn update(data: &[u8]) {
    let number = Fields::parse(data, "UPD-1").and_then(|mut fields| fields.uint(1)).unwrap_or(1);
    let key = format!("{}{:08}-0123456789abcdef", update::PREFIX, number % 100_000_000);
    let admin = ADMIN.verify_key();
    let parse = |bytes: &[u8]| ConfigUpdate::parse(bytes, REPOSITORY, &key, &admin);
    let Ok(update) = parse(&signed(Kind::Update, &key, data)) else { return };
    assert!(update.forbids_writing().is_none() || update.forbids_maintenance().is_some());
    let encoded = update.encode(REPOSITORY, &key, &ADMIN);
    let second = parse(&encoded).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(second.encode(REPOSITORY, &key, &ADMIN), encoded);
}

/// A payload.
pub fn slot(data: &[u8]) {
    let bytes = signed(Kind::Slot, &slot_key(SLOT), data);
    let Ok((slot, _)) = Slot::parse(&bytes) else { return };
    let encoded = slot.encode(REPOSITORY, &ADMIN);
    let (second, _) = Slot::parse(&encoded).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(second.encode(REPOSITORY, &ADMIN), encoded);
}

/// What is sealed in a slot that says of itself what the sealed text says.
pub fn secrets(data: &[u8]) {
    let outer = |mut fields: Fields| {
        let role = Role::from_byte(fields.byte(1).ok()?)?;
        let repository = RepositoryId(fields.fixed(2).ok()?);
        Some((role, repository, WriterId(fields.fixed(4).ok()?)))
    };
    let (role, repository, writer) = Fields::parse(data, "SLOT-1")
        .ok()
        .and_then(outer)
        .unwrap_or((Role::Full, REPOSITORY, WriterId([0; 16])));
    let (wrap, commitment) = slot_wrap(&key(), &SLOT.0);
    let slot_key = slot_key(SLOT);
    let place = Place { repository, kind: Kind::Slot, epoch: 0, key: &slot_key };
    let place = place.bytes("esker slot secrets");
    let mut slot = Slot {
        id: SLOT,
        method: Method::KeyFile,
        role,
        label: String::new(),
        writer,
        recipient: RECIPIENT.clone(),
        created: 0,
        created_by: writer,
        sealed: seal(&wrap, &place, data),
        commitment: Some(commitment),
        kept: Vec::new(),
    };
    let Ok(secrets) = slot.unwrap(&key(), repository) else { return };
    slot.wrap(&key(), &secrets.expect("the commitment is right"));
    let encoded = crypto::open(&wrap, &place, &slot.sealed).unwrap();
    let second = slot.unwrap(&key(), repository).unwrap_or_else(|error| panic!("{error}"));
    slot.wrap(&key(), &second.expect("the commitment is right"));
    assert_eq!(crypto::open(&wrap, &place, &slot.sealed).unwrap(), encoded);
}

/// What a grant holds.
pub fn epoch_keys(data: &[u8]) {
    let parse = |bytes: &[u8]| EpochKeys::from_fields(Fields::parse(bytes, "UPD-6")?);
    if let Ok(keys) = parse(data) {
        let value = keys.to_value();
        assert_eq!(parse(&value.encode()).map(|keys| keys.to_value()), Ok(value));
    }
}

pub fn pack_header(data: &[u8]) {
    if let Ok((kind, birth)) = pack::parse_header(data) {
        assert_eq!(pack::header(kind, birth), data[..HEADER_LENGTH]);
    }
}

/// Sealed table and footer, or a whole pack.
pub fn toc_frame(data: &[u8]) {
    if let Ok(frame) = TocFrame::parse(data) {
        assert_eq!(frame.footer.frame_length(), data.len());
    }
    if let Ok(frame) = TocFrame::of_pack(data) {
        assert!(frame.footer.frame_length() + HEADER_LENGTH <= data.len());
    }
}

pub fn toc(data: &[u8]) {
    let listed = Toc::chunks_in(data);
    let Ok(toc) = Toc::parse(data) else { return };
    let ids = data[listed.unwrap()].chunks_exact(CHUNK_ENTRY_BYTES).map(|entry| &entry[..32]);
    assert!(ids.eq(toc.chunks.iter().map(|chunk| &chunk.id.0[..])));
    assert_eq!(toc.encode(), data);
    assert_eq!(toc.frame_length(), data.len() + SEAL_OVERHEAD + FOOTER_LENGTH);
    assert!(toc.fits(u64::MAX));
    assert!(toc.offsets().is_sorted());
    for (ordinal, _) in (0..=u16::MAX).zip(&toc.chunks) {
        toc.coordinate(PackId([0; 32]), ordinal);
    }
}

pub fn segment(data: &[u8]) {
    if let Ok(segment) = Segment::parse(data) {
        assert!(segment.header.directory_length as usize + segment::HEADER_LENGTH <= data.len());
        let _ = segment.frames(&Directory::default());
    }
}

pub fn directory(data: &[u8]) {
    let _ = Directory::parse(data);
}

/// `length of a directory 2 | the directory in clear | what follows it`
pub fn segment_frames(data: &[u8]) {
    let Some((length, rest)) = data.split_first_chunk() else { return };
    let length = usize::from(u16::from_le_bytes(*length));
    let Some((directory, rest)) = rest.split_at_checked(length) else { return };
    let Ok(directory) = Directory::parse(directory) else { return };
    let mut bytes = segment::MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&[Kind::Segment as u8, SUITE]);
    bytes.resize(segment::HEADER_LENGTH, 0);
    bytes.extend_from_slice(rest);
    let segment = Segment::parse(&bytes).unwrap_or_else(|error| panic!("{error}"));
    if let Ok(frames) = segment.frames(&directory) {
        let pieces: usize = directory.pieces.iter().map(Piece::sealed_length).sum();
        let frames: usize = frames.iter().map(|frame| frame.len()).sum();
        assert_eq!(pieces + frames, rest.len());
    }
}

/// `rows 4 | a look-up piece in clear`
pub fn piece(data: &[u8]) {
    let Some((rows, text)) = data.split_first_chunk() else { return };
    let place = Place { repository: REPOSITORY, kind: Kind::Segment, epoch: 1, key: "" };
    let sealed = seal(&key(), &place.bytes("esker segment piece"), text);
    let piece = Piece {
        first: text.first_chunk().copied().unwrap_or_default(),
        rows: u32::from_le_bytes(*rows),
        hash: ObjectHash::of(&sealed),
    };
    if let Ok(rows) = piece.open(REPOSITORY, 1, &key(), &sealed) {
        let encode = |(prefix, pack): &([u8; 6], u32)| [&prefix[..], &pack.to_le_bytes()].concat();
        assert_eq!(rows.iter().flat_map(encode).collect::<Vec<u8>>(), text);
    }
}

/// One item, and whatever lies behind it.
fn item<T>(
    data: &[u8],
    parse: impl Fn(&mut Reader<'_>) -> Result<T>,
    encode_into: impl Fn(&T, &mut Vec<u8>),
) -> Option<T> {
    let mut reader = Reader::new(data, "PAGE-2");
    let item = parse(&mut reader).ok()?;
    let mut encoded = Vec::new();
    encode_into(&item, &mut encoded);
    assert_eq!(encoded, data[..data.len() - reader.remaining()]);
    Some(item)
}

pub fn content(data: &[u8]) {
    if let Some(content) = item(data, Content::parse, Content::encode_into) {
        content.length();
    }
}

pub fn entry(data: &[u8]) {
    let Some(entry) = item(data, Entry::parse, Entry::encode_into) else { return };
    assert!(!entry.name().is_empty());
    let path = display_key(&entry.key);
    if path.first() == Some(&b'/') {
        assert_eq!(key_of_path(&path), entry.key);
    }
}

pub fn reference(data: &[u8]) {
    if let Some(reference) = item(data, parse_reference, Reference::encode_into) {
        assert_eq!(reference.ordinals().count() as u64, reference.count());
    }
}

/// A leaf page: its items, cut into pages again, are the same bytes.
fn leaf(data: &[u8], kind: PageKind) {
    const HEADER: usize = 8;
    let Ok(page) = Page::parse(data, kind, 0) else { return };
    if !adds_up(&page) {
        return; // no builder meets more bytes than a file system has
    }
    let mut items = Vec::new();
    let mut builder = PageBuilder::new(kind, key(), |page: FinishedPage| {
        let id = ChunkId(ObjectHash::of(&page.bytes).0);
        if page.level == 0 {
            Page::parse(&page.bytes, kind, 0).unwrap_or_else(|error| panic!("{error}"));
            items.extend_from_slice(&page.bytes[HEADER..]);
        }
        Ok::<_, Infallible>(id)
    });
    let Ok(()) = match &page {
        Page::Entries(entries) => entries.iter().try_for_each(|entry| builder.push_entry(entry)),
        Page::Items(items) => items.iter().try_for_each(|item| builder.push_item(item)),
        Page::References(references) => {
            references.iter().try_for_each(|reference| builder.push_reference(reference))
        }
        _ => panic!("a leaf page holds children"),
    };
    let Ok(_) = builder.finish();
    assert_eq!(items, data[HEADER..]);
}

fn adds_up(page: &Page) -> bool {
    let add = |sum: u64, bytes: u64| sum.checked_add(bytes);
    let sum = match page {
        Page::Entries(entries) => entries.iter().map(|e| e.metadata.size).try_fold(0, add),
        Page::Items(items) => items.iter().map(|item| item.length()).try_fold(0, add),
        _ => Some(0),
    };
    sum.is_some()
}

fn inner(data: &[u8], kind: PageKind) {
    let _ = Page::parse(data, kind, 1);
}

pub fn page_tree_leaf(data: &[u8]) {
    leaf(data, PageKind::Tree);
}

pub fn page_tree_inner(data: &[u8]) {
    inner(data, PageKind::Tree);
}

pub fn page_list_leaf(data: &[u8]) {
    leaf(data, PageKind::List);
}

pub fn page_list_inner(data: &[u8]) {
    inner(data, PageKind::List);
}

pub fn page_refs_leaf(data: &[u8]) {
    leaf(data, PageKind::Refs);
}

pub fn page_refs_inner(data: &[u8]) {
    inner(data, PageKind::Refs);
}

pub fn manifest(data: &[u8]) {
    again(data, Manifest::parse, Manifest::encode);
}

pub fn private_part(data: &[u8]) {
    again(data, PrivatePart::parse, PrivatePart::encode);
}

pub fn session(data: &[u8]) {
    again(data, Session::parse, Session::encode);
}

pub fn confirmation(data: &[u8]) {
    again(data, Confirmation::parse, Confirmation::encode);
}

pub fn mark(data: &[u8]) {
    again(data, Mark::parse, Mark::encode);
}

pub fn sweep(data: &[u8]) {
    again(data, Sweep::parse, Sweep::encode);
}

pub fn record(data: &[u8]) {
    again(data, Record::parse, Record::encode);
}

/// Keys of objects, and bare ids.
pub fn names(data: &[u8]) {
    let Ok(name) = from_utf8(data) else { return };
    let said = [
        pack::pack_of_key(name).map(pack::pack_key),
        segment::segment_of_key(name).map(segment::segment_key),
        notes::session_of_key(name).map(|(run, number)| notes::session_key(run, number)),
        manifest::snapshot_of_key(name, manifest::PREFIX).map(manifest::manifest_key),
        manifest::snapshot_of_key(name, notes::CONFIRMED).map(notes::confirmation_key),
        notes::record_of_key(name).map(|(kind, id)| notes::record_key(kind, id)),
        name.parse().ok().map(ChunkId::to_hex),
        name.parse().ok().map(SnapshotId::to_hex),
        name.parse().ok().map(SegmentId::to_hex),
        name.parse().ok().map(SweepId::to_hex),
    ];
    assert!(said.into_iter().flatten().all(|said| said == name));
    // these two end with random digits
    if let Some((snapshot, number)) = notes::mark_of_key(name) {
        assert!(name.starts_with(&format!("{}{snapshot}/{number:08}-", notes::MARKS)));
    }
    if let Some(number) = update::number_of(name) {
        assert!(name.starts_with(&format!("{}{number:08}-", update::PREFIX)));
    }
}

/// Texts of key files, identities, recipients and admin keys.
pub fn key_text(data: &[u8]) {
    let Ok(text) = from_utf8(data) else { return };
    let _ = file::parse_unlock(text);
    if let Ok(key) = file::parse_key(text) {
        assert!(file::parse_key(&file::key_text(&key)).unwrap() == key);
    }
    if let Ok((seed, admin)) = file::parse_identity(text) {
        let text = file::identity_text(&seed, &admin);
        let second = file::parse_identity(&text);
        assert!(second.is_ok_and(|second| second.0.seed() == seed.seed() && second.1 == admin));
    }
    if let Ok(recipient) = file::parse_recipient(text) {
        assert!(file::parse_recipient(&file::recipient_text(&recipient)).unwrap() == recipient);
    }
    if let Ok(admin) = file::parse_admin_key(text) {
        assert_eq!(hex(&admin.0), text);
    }
}

/// A configuration file. A profile that is taken travels without secrets, and arrives.
pub fn profiles(data: &[u8]) {
    let Ok(text) = from_utf8(data) else { return };
    let read = |text: &str| esker::config::parse(Path::new("x.toml"), text.to_owned());
    let Loaded { configuration, findings, .. } = read(text);
    let profiles: Vec<_> = configuration.profiles().iter().collect();
    esker::config::check::check(&configuration, &profiles, &|_| None);
    if findings.is_empty() {
        for profile in profiles {
            let arrived = read(&profile.without_secrets());
            assert_eq!(arrived.findings, []);
            let arrived = arrived.configuration.profile(&profile.name).unwrap().without_secrets();
            assert_eq!(read(&arrived).configuration.profiles().len(), 1);
        }
    }
}

/// `raw length 2 | a compressed block`
pub fn block(data: &[u8]) {
    let Some((length, encoded)) = data.split_first_chunk() else { return };
    let length = usize::from(u16::from_le_bytes(*length));
    let Ok(text) = decompress(Codec::Zstd, encoded, length) else { return };
    assert_eq!(text.len(), length);
    let mut packed = Vec::new();
    let codec = compress(&text, DEFAULT_LEVEL, &mut packed).unwrap();
    assert_eq!(decompress(codec, &packed, length).unwrap(), text);
}
