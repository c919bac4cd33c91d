//! What the fuzzers run, on any toolchain: every file of `fuzz/corpus/` goes
//! through the function of its target, then cut and with single bytes altered.
//!
//! `ESKER_WRITE_CORPUS=1 cargo test --test corpora` makes the corpora anew from
//! `format-spec/vectors/`: what is sealed there is opened, so that the parser
//! within gets seeds of its own. Files that a fuzzer found stay.

#[path = "../fuzz/targets.rs"]
mod targets;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use esker::crypto::keys::slot_wrap;
use esker::crypto::{self, HybridPrivate, SecretKey, VerifyKey};
use esker::format::segment::{HEADER_LENGTH, Segment};
use esker::format::slot::{Slot, slot_key};
use esker::format::update::open_grant;
use esker::format::{ChunkKind, Kind, Place, block_place, manifest, notes, object, pack, segment};
use esker::id::{RepositoryId, SlotId, SnapshotId, from_hex};
use esker::keys::file;
use serde_json::Value;
use targets::{TARGETS, Target};

/// Longest cut, in bytes.
const CUTS: usize = 4096;
/// Bytes altered in each file, one at a time.
const MUTATIONS: usize = 4000;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn corpus() -> PathBuf {
    root().join("fuzz/corpus")
}

/// Of what is dear only every n-th variant is run: long files, and signatures
/// and public keys, which take a hundred times as long as parsing.
fn every_nth(target: &str, length: usize) -> usize {
    let signed = matches!(target, "config" | "update" | "slot" | "secrets");
    (1 + length / 2048) * if signed { 16 } else { 1 }
}

/// A corpus file being run; says what was made of it if that panics.
struct Running<'a> {
    target: &'a Target,
    file: &'a Path,
    made: Cell<(&'static str, usize)>,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (how, at) = self.made.get();
            eprintln!("target {}: {}: {how} {at}", self.target.0, self.file.display());
        }
    }
}

impl Running<'_> {
    fn run(&self) {
        let bytes = fs::read(self.file).unwrap();
        let run = self.target.1;
        let nth = every_nth(self.target.0, bytes.len());
        run(&bytes);
        for length in (0..bytes.len().min(CUTS + 1)).step_by(nth) {
            self.made.set(("cut to", length));
            run(&bytes[..length]);
        }
        let all = bytes.len() * 255;
        let mut altered = bytes;
        for number in (0..all.min(MUTATIONS)).step_by(nth) {
            // the step is prime, so that no mutation comes twice
            let chosen = number * 1_000_003 % all;
            let (at, change) = (chosen / 255, (chosen % 255 + 1) as u8);
            self.made.set(("altered at", at));
            altered[at] ^= change;
            run(&altered);
            altered[at] ^= change;
        }
    }
}

fn files_in(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap_or_else(|e| panic!("{directory:?}: {e}"));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Goal: no parser panics on what is almost right, and what it takes it gives
/// back.
#[test]
fn parsers_stand_whatever_is_near_their_corpus() {
    if std::env::var_os("ESKER_WRITE_CORPUS").is_some() {
        write_corpus();
    }
    let files: Vec<(&Target, PathBuf)> = TARGETS
        .iter()
        .flat_map(|target| files_in(&corpus().join(target.0)).into_iter().map(move |f| (target, f)))
        .collect();
    assert!(files.len() > 400, "only {} files", files.len());
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((target, file)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    Running { target, file, made: Cell::new(("whole", 0)) }.run();
                }
            });
        }
    });
}

/// Goal: a target that is in one place is in all of them.
#[test]
fn every_target_has_a_program_and_a_corpus() {
    let names: BTreeSet<String> = TARGETS.iter().map(|target| target.0.to_owned()).collect();
    let stems = |directory: PathBuf| -> BTreeSet<String> {
        let stem = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
        files_in(&directory).iter().map(stem).collect()
    };
    assert_eq!(stems(root().join("fuzz/fuzz_targets")), names);
    if std::env::var_os("ESKER_WRITE_CORPUS").is_none() {
        assert_eq!(stems(corpus()), names);
    }
    let manifest = fs::read_to_string(root().join("fuzz/Cargo.toml")).unwrap();
    for name in &names {
        let path = format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"");
        assert!(manifest.contains(&path), "{name} is no [[bin]] of fuzz/Cargo.toml");
        let program = root().join(format!("fuzz/fuzz_targets/{name}.rs"));
        assert!(fs::read_to_string(program).unwrap().contains(&format!("targets::{name}(data)")));
    }
}

/// Files by target and name.
type Seeds = BTreeMap<(&'static str, String), Vec<u8>>;

fn write_corpus() {
    let mut seeds = Seeds::new();
    for file in files_in(&root().join("format-spec/vectors")) {
        if file.extension().is_some_and(|extension| extension == "json") {
            let text: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
            for vector in text["vectors"].as_array().into_iter().flatten() {
                add_vector(vector, &mut seeds);
            }
        }
    }
    add_names(&mut seeds);
    add_key_texts(&mut seeds);
    for (name, _) in TARGETS {
        let directory = corpus().join(name);
        fs::create_dir_all(&directory).unwrap();
        files_in(&directory).iter().filter(|file| is_seed(file)).for_each(|file| {
            fs::remove_file(file).unwrap();
        });
    }
    for ((target, name), bytes) in seeds {
        fs::write(corpus().join(target).join(name), bytes).unwrap();
    }
}

/// Whether a file has a name that [`write_corpus`] gives.
fn is_seed(file: &Path) -> bool {
    let name = file.file_name().unwrap().to_str().unwrap();
    name.starts_with("ok-") || name.starts_with(|first: char| first.is_ascii_uppercase())
}

fn bytes(of: &Value, name: &str) -> Vec<u8> {
    from_hex(of[name].as_str().unwrap_or_else(|| panic!("no {name} in {of}"))).unwrap()
}

fn fixed<const N: usize>(of: &Value, name: &str) -> [u8; N] {
    bytes(of, name).try_into().unwrap()
}

fn secret(of: &Value, name: &str) -> SecretKey {
    SecretKey::from_bytes(fixed(of, name))
}

/// What a vector gives: its bytes to the parser it is of, and what is sealed in
/// them to the one within.
fn add_vector(vector: &Value, seeds: &mut Seeds) {
    let (inputs, keys) = (&vector["inputs"], &vector["keys"]);
    let kind = vector["kind"].as_str().unwrap();
    let name = file_name(vector);
    let mut add = |target: &'static str, bytes: Vec<u8>| {
        seeds.insert((target, name.clone()), bytes);
    };
    match kind {
        "config" => envelope("config", Kind::Config, inputs, add),
        "update" => envelope("update", Kind::Update, inputs, add),
        "slot" => {
            if let Some(text) = slot_text(inputs, keys) {
                add("secrets", text);
            }
            envelope("slot", Kind::Slot, inputs, add);
        }
        "grant" => {
            if let Some(text) = grant_text(inputs, keys) {
                add("epoch_keys", text);
            }
        }
        "segment" => {
            add("segment", bytes(inputs, "bytes"));
            opened_segment(inputs, keys, add);
        }
        "page" => add(page_target(inputs), bytes(inputs, "bytes")),
        "block" => {
            if let Some(encoded) = block_text(inputs, keys) {
                add("block", encoded);
            }
        }
        _ => {
            if let Some((target, _)) = TARGETS.iter().find(|target| target.0 == kind) {
                add(target, bytes(inputs, "bytes"));
            }
        }
    }
}

/// `ok-` or the rule broken, then the words of the vector's name.
fn file_name(vector: &Value) -> String {
    let words = vector["name"].as_str().unwrap().to_lowercase();
    let letter = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let words: String = words.chars().map(letter).collect();
    format!("{}-{words}", vector["rule"].as_str().unwrap_or("ok"))
}

/// The payload, or the whole object if it is the envelope that is wrong.
fn envelope(
    target: &'static str,
    kind: Kind,
    inputs: &Value,
    mut add: impl FnMut(&'static str, Vec<u8>),
) {
    let bytes = bytes(inputs, "bytes");
    match object::parse(&bytes, kind) {
        Ok(object) => add(target, object.payload.to_vec()),
        Err(_) => add("object", bytes),
    }
}

fn slot_text(inputs: &Value, keys: &Value) -> Option<Vec<u8>> {
    let bytes = bytes(inputs, "bytes");
    let (slot, _) = Slot::parse(&bytes).ok()?;
    keys.get("input")?;
    let (wrap, _) = slot_wrap(&secret(keys, "input"), &slot.id.0);
    let repository = RepositoryId(fixed(inputs, "repository"));
    let place = Place { repository, kind: Kind::Slot, epoch: 0, key: &slot_key(slot.id) };
    crypto::open(&wrap, &place.bytes("esker slot secrets"), &slot.sealed).ok()
}

fn grant_text(inputs: &Value, keys: &Value) -> Option<Vec<u8>> {
    let keys = open_grant(
        RepositoryId(fixed(inputs, "repository")),
        SlotId(fixed(inputs, "slot")),
        &HybridPrivate::from_seed(fixed(keys, "recipient")),
        inputs["epoch"].as_u64()? as u32,
        &bytes(inputs, "sealed"),
    );
    Some(keys.ok()?.to_value().encode())
}

/// Directory and frames as `segment_frames` takes them, and every piece.
fn opened_segment(inputs: &Value, keys: &Value, mut add: impl FnMut(&'static str, Vec<u8>)) {
    let bytes = bytes(inputs, "bytes");
    let Ok(segment) = Segment::parse(&bytes) else { return };
    let repository = RepositoryId(fixed(inputs, "repository"));
    let place = Place { repository, kind: Kind::Segment, epoch: segment.header.epoch, key: "" };
    let key = secret(keys, "index");
    let open = |label, sealed: &[u8]| crypto::open(&key, &place.bytes(label), sealed).ok();
    let (_, sealed) = bytes.split_at(HEADER_LENGTH);
    let (sealed, rest) = sealed.split_at(segment.header.directory_length as usize);
    let Some(text) = open("esker segment directory", sealed) else { return };
    add("segment_frames", [&(text.len() as u16).to_le_bytes()[..], &text, rest].concat());
    let Ok(directory) = segment::Directory::parse(&text) else { return };
    let mut rest = rest;
    for piece in &directory.pieces {
        let Some((sealed, behind)) = rest.split_at_checked(piece.sealed_length()) else { return };
        rest = behind;
        if let Some(text) = open("esker segment piece", sealed) {
            add("piece", [&piece.rows.to_le_bytes()[..], &text].concat());
        }
    }
}

fn page_target(inputs: &Value) -> &'static str {
    match (inputs["page_kind"].as_u64(), inputs["level"].as_u64()) {
        (Some(1), Some(0)) => "page_tree_leaf",
        (Some(1), _) => "page_tree_inner",
        (Some(2), Some(0)) => "page_list_leaf",
        (Some(2), _) => "page_list_inner",
        (_, Some(0)) => "page_refs_leaf",
        _ => "page_refs_inner",
    }
}

fn block_text(inputs: &Value, keys: &Value) -> Option<Vec<u8>> {
    let repository = RepositoryId(fixed(inputs, "repository"));
    let kind = ChunkKind::from_byte(inputs["chunk_kind"].as_u64()? as u8)?;
    let codec = esker::compression::Codec::from_byte(inputs["codec"].as_u64()? as u8)?;
    let length = inputs["raw_length"].as_u64()? as u32;
    let place = block_place(repository, kind, codec, length);
    let encoded = crypto::open(&secret(keys, "key"), &place, &bytes(inputs, "stored")).ok()?;
    Some([&u16::try_from(length).ok()?.to_le_bytes()[..], &encoded].concat())
}

fn add_names(seeds: &mut Seeds) {
    let id = SnapshotId([0xab; 16]);
    let names = [
        ("pack", pack::pack_key(esker::id::PackId([0xab; 32]))),
        ("segment", segment::segment_key(esker::id::SegmentId([0xab; 32]))),
        ("session", notes::session_key(id, 12)),
        ("snapshot", manifest::manifest_key(id)),
        ("confirmation", notes::confirmation_key(id)),
        ("record", notes::record_key("check", [0xab; 16])),
        ("mark", format!("marks/{id}/00000003-0123456789abcdef")),
        ("update", "config-updates/00000001-0123456789abcdef".to_owned()),
        ("id-16", id.to_hex()),
        ("id-32", "ab".repeat(32)),
    ];
    for (name, key) in names {
        seeds.insert(("names", format!("ok-{name}")), key.into_bytes());
    }
}

fn add_key_texts(seeds: &mut Seeds) {
    let (key, seed) = (SecretKey::from_bytes([7; 32]), HybridPrivate::from_seed([9; 32]));
    let admin = VerifyKey([5; 32]);
    let texts = [
        ("key", format!("# laptop\n\n{}", *file::key_text(&key))),
        ("identity", file::identity_text(&seed, &admin).to_string()),
        ("recipient", file::recipient_text(&seed.public())),
        ("admin", "05".repeat(32)),
    ];
    for (name, text) in texts {
        seeds.insert(("key_text", format!("ok-{name}")), text.into_bytes());
    }
}
