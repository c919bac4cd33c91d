//! Repositories that released versions wrote are read, checked and written to
//! for ever; and what a later version may leave in one stops nobody, but for
//! what it says itself.
//!
//! `tests/repositories/make` made them. Each is a tar of the objects, the key
//! file that opens it, and what is in it as the source tree had it.

mod support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use esker::backup::backup;
use esker::check::{CheckOptions, CheckReport, Subset, check};
use esker::crypto::keys;
use esker::format::content::Content;
use esker::format::entry::{Entry, EntryKind, display_key};
use esker::format::pack::{FOOTER_LENGTH, Footer, pack_key};
use esker::format::segment::{self, PackEntry, segment_key};
use esker::format::update::{self, Features};
use esker::id::{ObjectHash, PackId, SegmentId, hex};
use esker::keys::file::parse_unlock;
use esker::progress::Silent;
use esker::repository::local::CacheRoot;
use esker::repository::snapshots::Snapshot;
use esker::repository::{Error, ErrorKind, Repository};
use esker::store::{LocalStore, Store};
use serde_json::{Value, json};
use support::{contents, memory_of, on_disk, options, settle};

const NAMES: [&str; 1] = ["format-1"];
/// Below this lies what was backed up, whatever the machine had above it.
const SOURCE: &[u8] = b"/home/anna/";

fn file_of(name: &str, end: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/repositories/{name}.{end}"))
}

/// The repository in a directory of its own, which may be written to.
fn unpack(name: &str) -> (tempfile::TempDir, Arc<dyn Store>) {
    let directory = tempfile::tempdir().unwrap();
    tar::Archive::new(File::open(file_of(name, "tar")).unwrap()).unpack(directory.path()).unwrap();
    let store = LocalStore::open(directory.path()).unwrap();
    (directory, Arc::new(store))
}

fn try_open(name: &str, store: &Arc<dyn Store>) -> Result<Repository, Error> {
    let key = fs::read_to_string(file_of(name, "key")).unwrap();
    Repository::open(store.clone(), &parse_unlock(&key).unwrap(), &CacheRoot::None)
}

fn open(name: &str, store: &Arc<dyn Store>) -> Repository {
    try_open(name, store).unwrap()
}

fn snapshots(repository: &Repository) -> Vec<Snapshot> {
    let (snapshots, troubles) = repository.snapshots().unwrap();
    assert!(troubles.is_empty(), "{troubles:?}");
    assert!(snapshots.iter().all(|snapshot| snapshot.is_good() && snapshot.is_complete()));
    snapshots
}

fn expected(name: &str) -> Vec<Value> {
    let text = fs::read_to_string(file_of(name, "list")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Any bytes, each as the character of its number.
fn text(path: &[u8]) -> String {
    path.iter().map(|byte| char::from(*byte)).collect()
}

/// What the snapshots of the list hold, as the list says it.
fn found(repository: &Repository) -> Vec<Value> {
    let mut lines = Vec::new();
    for tag in ["first", "second", "stream"] {
        let all = snapshots(repository);
        let snapshot = all.iter().find(|s| s.manifest.tags == [tag]).unwrap();
        let files = contents(repository, snapshot.id);
        let root = repository.private_part(snapshot).unwrap().tree;
        let mut links: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        for entry in repository.tree(root, b"") {
            let entry = entry.unwrap();
            let path = display_key(&entry.key);
            if tag == "stream" {
                let hash = blake3::hash(&files[&path]).to_hex().to_string();
                lines.push(json!({ "snapshot": tag, "path": text(&path), "kind": "file",
                    "blake3": hash }));
            } else if path.starts_with(SOURCE) {
                lines.push(describe(tag, &entry, &path, files.get(&path), &mut links));
            }
        }
    }
    lines
}

fn describe(
    tag: &str,
    entry: &Entry,
    path: &[u8],
    bytes: Option<&Vec<u8>>,
    links: &mut BTreeMap<u64, Vec<u8>>,
) -> Value {
    let m = &entry.metadata;
    let mut line = json!({ "snapshot": tag, "path": text(path), "mode": m.mode,
        "mtime": [json!(m.mtime.seconds), json!(m.mtime.nanoseconds)] });
    match entry.kind {
        EntryKind::Directory => line["kind"] = "directory".into(),
        EntryKind::Symlink => {
            line["kind"] = "symlink".into();
            line["target"] = String::from_utf8(m.target.clone()).unwrap().into();
        }
        EntryKind::File => {
            line["kind"] = "file".into();
            line["blake3"] = blake3::hash(bytes.unwrap()).to_hex().to_string().into();
        }
        other => panic!("{}: {other:?}", path.escape_ascii()),
    }
    if entry.link_group != 0 {
        let first = links.entry(entry.link_group).or_insert_with(|| path.to_vec());
        line["same_as"] = text(first).into();
    }
    if entry.sparse {
        line["sparse"] = true.into();
    }
    let user = m.xattrs.iter().filter(|(name, _)| name.starts_with(b"user."));
    for (name, value) in user {
        line["xattrs"][str::from_utf8(name).unwrap()] = hex(value).into();
    }
    line
}

fn run_check(repository: &Repository) -> CheckReport {
    let options =
        CheckOptions { read_data: Some(Subset::All), affected: true, refs: true, snapshots: None };
    check(repository, &options, &Silent).unwrap()
}

fn new_tree() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("sub")).unwrap();
    fs::write(directory.path().join("sub/new"), "written by this version").unwrap();
    directory
}

/// Takes a snapshot of a new tree and reads it back.
fn write_and_read_back(name: &str, store: &Arc<dyn Store>) {
    let tree = new_tree();
    settle();
    let report = support::run(&open(name, store), tree.path());
    let read = contents(&open(name, store), report.snapshot.unwrap());
    assert_eq!(read, on_disk(tree.path()));
}

/// Goal: what an old version stored comes back to the byte, and goes on.
#[test]
fn old_repositories_are_read_checked_and_written_to() {
    for name in NAMES {
        let (_directory, store) = unpack(name);
        let expected = expected(name);
        let repository = open(name, &store);
        assert_eq!(snapshots(&repository).len(), 3, "{name}");
        assert_eq!(found(&repository), expected, "{name}");
        let report = run_check(&repository);
        assert_eq!((report.findings, report.notes, report.unproven), Default::default(), "{name}");
        write_and_read_back(name, &store);
        assert_eq!(found(&open(name, &store)), expected, "{name}");
        assert!(run_check(&open(name, &store)).is_ok(), "{name}");
    }
}

/// Goal: the repositories have what is worth keeping: a tree of more than one
/// page, and files of few chunks and of many.
#[test]
fn old_repositories_have_pages_above_pages_and_lists() {
    for name in NAMES {
        let (_directory, store) = unpack(name);
        let repository = open(name, &store);
        repository.sync_index(&Silent).unwrap();
        let all = snapshots(&repository);
        let first = all.iter().find(|s| s.manifest.tags == ["first"]).unwrap();
        let root = repository.private_part(first).unwrap().tree;
        assert!(root.level > 0, "{name}: the tree is one page");
        let mut contents = repository.tree(root, b"").map(|entry| entry.unwrap().content);
        assert!(contents.any(|content| matches!(content, Content::Items(_))), "{name}");
        assert!(contents.any(|content| matches!(content, Content::List(_))), "{name}");
    }
}

/// Goal: chunks are cut and named as ever, so that an old snapshot's data is
/// found again.
#[test]
fn what_an_old_repository_holds_is_not_stored_again() {
    for name in NAMES {
        let (_directory, store) = unpack(name);
        let repository = open(name, &store);
        let all = snapshots(&repository);
        let second = all.iter().find(|s| s.manifest.tags == ["second"]).unwrap();
        let photo = &contents(&repository, second.id)[&b"/home/anna/photo.raw"[..]];
        let tree = tempfile::tempdir().unwrap();
        fs::write(tree.path().join("copy"), photo).unwrap();
        settle();
        let report = support::run(&open(name, &store), tree.path());
        assert_eq!(report.counts.bytes, photo.len() as u64);
        assert!(report.counts.bytes_added < 8192, "{name}: {}", report.counts.bytes_added);
    }
}

/// What a later version might leave: an object under a prefix of its own, and a
/// pack of a kind of its own, listed by a segment. Says the names.
fn leave_strangers(name: &str, store: &Arc<dyn Store>) -> [String; 3] {
    let object = "future/0123456789abcdef".to_owned();
    store.put(&object, (&b"nobody knows what this is"[..]).into()).unwrap();
    let packs = store.list("packs/").unwrap();
    let mut bytes = store.get(&packs[0].key, u64::MAX).unwrap().to_vec();
    let (_, footer) = bytes.split_last_chunk::<FOOTER_LENGTH>().unwrap();
    let frame_length = Footer::parse(footer).unwrap().frame_length();
    const KIND_OF_HEADER: usize = 6;
    const KIND_FROM_END: usize = 6;
    let end = bytes.len();
    bytes[KIND_OF_HEADER] = 4;
    bytes[end - KIND_FROM_END] = 4;
    let id = PackId(*blake3::hash(&bytes).as_bytes());
    let mut listed = [PackEntry {
        id,
        length: end as u64,
        frame: &bytes[end - frame_length..],
        chunks: Vec::new(),
    }];
    let repository = open(name, store);
    let segment = segment::encode(&repository.sealing(), &[], &[], &mut listed);
    let segment_name = segment_key(SegmentId(*blake3::hash(&segment).as_bytes()));
    store.put(&pack_key(id), bytes.into()).unwrap();
    store.put(&segment_name, segment.into()).unwrap();
    [object, pack_key(id), segment_name]
}

/// Puts an update that adds features, as the administrator's later version would.
fn announce(name: &str, store: &Arc<dyn Store>, edit: fn(&mut Features)) {
    let repository = open(name, store);
    let mut update = repository.update().clone();
    let is_newest = |key: &str| update::number_of(key) == Some(update.number);
    let listed = store.list(update::PREFIX).unwrap();
    let newest = listed.iter().filter(|listed| is_newest(&listed.key));
    let hash = |key: &str| ObjectHash::of(&store.get(key, u64::MAX).unwrap());
    update.previous = newest.map(|listed| hash(&listed.key)).collect();
    update.number += 1;
    edit(&mut update.features);
    let key = update::new_key(update.number);
    let admin = keys::admin(repository.keyring().secrets().root.as_ref().unwrap());
    store.put(&key, update.encode(repository.id(), &key, &admin).into()).unwrap();
}

/// A copy in memory, with strangers in it.
fn of_the_future(name: &str) -> (Arc<dyn Store>, [String; 3]) {
    let (_directory, store) = unpack(name);
    let store = memory_of(&store);
    let strangers = leave_strangers(name, &store);
    (store, strangers)
}

#[test]
fn objects_of_a_later_version_disturb_nobody() {
    for name in NAMES {
        let (store, strangers) = of_the_future(name);
        assert_eq!(found(&open(name, &store)), expected(name), "{name}");
        write_and_read_back(name, &store);
        let report = run_check(&open(name, &store));
        assert_eq!(report.findings, [], "{name}");
        for key in strangers {
            assert!(report.notes.iter().any(|note| note.key == key), "{key}: {:#?}", report.notes);
            assert!(store.get(&key, u64::MAX).is_ok(), "{key} was deleted");
        }
    }
}

#[test]
fn an_unknown_compatible_feature_forbids_maintenance_only() {
    for name in NAMES {
        let (store, _) = of_the_future(name);
        announce(name, &store, |features| features.compatible.push("parity".into()));
        let repository = open(name, &store);
        assert_eq!(repository.update().forbids_maintenance(), Some("parity"));
        assert_eq!(repository.update().forbids_writing(), None);
        assert_eq!(found(&repository), expected(name), "{name}");
        write_and_read_back(name, &store);
        assert!(run_check(&open(name, &store)).is_ok(), "{name}");
    }
}

#[test]
fn an_unknown_read_compatible_feature_forbids_writing() {
    for name in NAMES {
        let (store, _) = of_the_future(name);
        announce(name, &store, |features| features.read_compatible.push("pages-2".into()));
        let repository = open(name, &store);
        assert_eq!(repository.update().forbids_writing(), Some("pages-2"));
        assert_eq!(repository.update().forbids_maintenance(), Some("pages-2"));
        assert_eq!(found(&repository), expected(name), "{name}");
        assert!(run_check(&repository).is_ok(), "{name}");
        let (tree, before) = (new_tree(), store.list("").unwrap());
        let refused = backup(&repository, &options(tree.path()), Vec::new(), &Silent).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Failed);
        assert!(refused.message.contains("\"pages-2\": upgrade esker"), "{refused}");
        assert_eq!(store.list("").unwrap(), before, "{name}: something was stored");
    }
}

#[test]
fn an_unknown_incompatible_feature_forbids_opening() {
    for name in NAMES {
        let (store, _) = of_the_future(name);
        announce(name, &store, |features| features.incompatible.push("format-2".into()));
        let refused = try_open(name, &store).err().unwrap();
        assert_eq!(refused.kind, ErrorKind::Failed, "{refused}: no damage");
        assert!(refused.message.contains("\"format-2\": upgrade esker"), "{refused}");
    }
}
