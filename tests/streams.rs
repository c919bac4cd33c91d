//! Several sources in one snapshot: paths and streams, captured side by side, each with an outcome of its own.

mod support;

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use esker::backup::{BackupOptions, BackupReport, Sink, StreamSource, backup};
use esker::check::{CheckOptions, Subset, check};
use esker::format::entry::{Entry, EntryKind, Metadata};
use esker::format::manifest::Outcome;
use esker::progress::Silent;
use esker::repository::{Repository, Result};
use esker::store::{OpendalStore, Store};
use support::{contents, init, open, options};

fn memory() -> Arc<dyn Store> {
    let store: Arc<dyn Store> = Arc::new(OpendalStore::memory().unwrap());
    init(&store);
    store
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn source(
    name: &str,
    capture: impl FnOnce(&mut dyn Sink) -> std::result::Result<(), String> + Send + 'static,
) -> StreamSource {
    StreamSource { name: name.to_owned(), required: true, capture: Box::new(capture) }
}

fn stream(name: &str, bytes: Vec<u8>) -> StreamSource {
    StreamSource::reader(name, Box::new(io::Cursor::new(bytes)))
}

/// Ends with an error after its bytes.
struct Broken(io::Cursor<Vec<u8>>);

impl Read for Broken {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::Error::other("the other side went away")),
            read => Ok(read),
        }
    }
}

fn take(
    store: &Arc<dyn Store>,
    paths: &[&Path],
    streams: Vec<StreamSource>,
) -> Result<BackupReport> {
    let paths = paths.iter().map(|path| path.to_path_buf()).collect();
    let options = BackupOptions { paths, ..options(Path::new("/")) };
    backup(&open(store), &options, streams, &Silent)
}

fn entries(repository: &Repository, report: &BackupReport) -> Vec<Entry> {
    repository.sync_index(&Silent).unwrap();
    let (snapshots, _) = repository.snapshots().unwrap();
    let snapshot = snapshots.iter().find(|s| Some(s.id) == report.snapshot).unwrap();
    let root = repository.private_part(snapshot).unwrap().tree;
    repository.tree(root, b"").collect::<Result<_>>().unwrap()
}

fn is_sound(store: &Arc<dyn Store>) {
    let options = CheckOptions { read_data: Some(Subset::All), ..CheckOptions::default() };
    let report = check(&open(store), &options, &Silent).unwrap();
    assert!(report.is_ok(), "{report:?}");
}

#[test]
fn streams_before_and_behind_the_paths_lie_in_one_tree() {
    let directory = tempfile::tempdir().unwrap();
    for number in 0..300 {
        fs::write(directory.path().join(format!("f{number}")), noise(number, 3000)).unwrap();
    }
    let store = memory();
    // longer than the window of pieces, and slower than the walk
    let (early, late) = (noise(1, 50 << 20), noise(2, 3 << 20));
    let slow = {
        let early = early.clone();
        source("a", move |sink| {
            std::thread::sleep(std::time::Duration::from_millis(300));
            let metadata = Metadata { mode: 0o640, ..Metadata::default() };
            let length = sink.file(b"", metadata, &mut &early[..]).map_err(|e| e.to_string())?;
            assert_eq!(length, early.len() as u64);
            Ok(())
        })
    };
    let streams = vec![stream("z", late.clone()), slow, stream("empty", Vec::new())];
    let report = take(&store, &[directory.path()], streams).unwrap();
    assert_eq!(report.outcome, Outcome::Complete);
    assert_eq!(report.sources, [Outcome::Complete; 4]);
    assert_eq!(report.counts.files, 303);
    let repository = open(&store);
    let files = contents(&repository, report.snapshot.unwrap());
    assert!(
        files[&b"a"[..]] == early && files[&b"z"[..]] == late && files[&b"empty"[..]].is_empty()
    );
    let keys: Vec<_> = entries(&repository, &report).into_iter().map(|entry| entry.key).collect();
    assert!(keys.is_sorted() && keys[0] == b"a" && keys.last().unwrap() == b"z");
    assert!(keys.iter().filter(|key| key.starts_with(b"files\0")).count() > 300);
    is_sound(&store);
}

#[test]
fn a_stream_that_fails_leaves_nothing_and_the_rest_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("file"), "text").unwrap();
    let store = memory();
    let shared = noise(3, 30 << 20);
    for name in ["broken", "zbroken"] {
        let broken = StreamSource::reader(name, Box::new(Broken(io::Cursor::new(shared.clone()))));
        // what the broken one stored first is relied on by this one
        let whole = stream("copy", shared.clone());
        let report = take(&store, &[directory.path()], vec![broken, whole]).unwrap();
        assert_eq!(report.outcome, Outcome::Partial);
        assert_eq!(report.sources, [Outcome::Complete, Outcome::Failed, Outcome::Complete]);
        assert_eq!(report.failures[0].reason, "the other side went away");
        assert_eq!(report.failures[0].path, name.as_bytes());
        let files = contents(&open(&store), report.snapshot.unwrap());
        assert!(!files.contains_key(name.as_bytes()) && files[&b"copy"[..]] == shared);
    }
    is_sound(&store);
    let (snapshots, _) = open(&store).snapshots().unwrap();
    let outcomes: Vec<_> = snapshots[0].manifest.sources.iter().map(|s| s.outcome).collect();
    assert_eq!(outcomes, [Outcome::Complete, Outcome::Failed, Outcome::Complete]);
}

#[test]
fn without_an_optional_stream_a_snapshot_is_complete() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("file"), "text").unwrap();
    let store = memory();
    let refuse = |name: &str| source(name, |_| Err("is not there today".to_owned()));
    let optional = StreamSource { required: false, ..refuse("db") };
    let report = take(&store, &[directory.path()], vec![optional]).unwrap();
    assert_eq!((report.outcome, report.counts.failures), (Outcome::Complete, 1));
    let (snapshots, _) = open(&store).snapshots().unwrap();
    assert!(!snapshots[0].manifest.sources[1].required);
    // nothing at all is no snapshot
    let before = snapshots.len();
    let error = take(&store, &[], vec![refuse("db"), refuse("other")]).unwrap_err();
    assert_eq!(error.message, "db: is not there today");
    assert_eq!(open(&store).snapshots().unwrap().0.len(), before);
}

#[test]
fn a_path_that_may_fail_or_be_missing_leaves_the_snapshot_complete() {
    let directory = tempfile::tempdir().unwrap();
    let (kept, gone) = (directory.path().join("kept"), directory.path().join("gone"));
    fs::write(&kept, "text").unwrap();
    let store = memory();
    let run = |options: BackupOptions| {
        let report = backup(&open(&store), &options, Vec::new(), &Silent).unwrap();
        (report.outcome, report.sources)
    };
    let both = || BackupOptions { paths: vec![kept.clone(), gone.clone()], ..options(&kept) };
    let sources = vec![Outcome::Complete, Outcome::Failed];
    assert_eq!(run(both()), (Outcome::Partial, sources.clone()));
    let optional = BackupOptions { optional: vec![gone.clone()], ..both() };
    assert_eq!(run(optional), (Outcome::Complete, sources));
}

/// A source of many entries gives them in any order, as a tar stream does.
#[test]
fn entries_of_a_stream_become_a_tree() {
    let store = memory();
    let capture = |sink: &mut dyn Sink| -> io::Result<()> {
        let with = |mode| Metadata { mode, ..Metadata::default() };
        sink.file(b"z/last", with(0o600), &mut &b"last"[..])?;
        sink.file(b"a/b/c", with(0o644), &mut &b"old"[..])?;
        sink.entry(b"a", EntryKind::Directory, with(0o700))?;
        sink.link(b"m/link", b"z/last")?;
        sink.link(b"m/link2", b"m/link")?;
        sink.file(b"a/b/c", with(0o640), &mut &b"new"[..])?;
        let link = Metadata { target: b"a/b/c".to_vec(), ..with(0o777) };
        sink.entry(b"s", EntryKind::Symlink, link)?;
        // beneath what is no directory
        sink.file(b"s/x", with(0o600), &mut &b"x"[..])?;
        for path in [&b"../up"[..], b"a//b", b"a/./b", b"/a", b"a\0b"] {
            assert!(sink.file(path, with(0o600), &mut &b""[..]).is_err(), "{path:?}");
        }
        assert!(sink.link(b"n", b"nowhere").is_err() && sink.link(b"n", b"a").is_err());
        let mut large =
            Metadata { xattrs: vec![(b"user.x".to_vec(), noise(4, 5000))], ..with(0o600) };
        sink.file(b"large-attribute", large.clone(), &mut &b""[..])?;
        large.xattrs.clear();
        sink.file(b"name", large, &mut &noise(5, 9 << 20)[..])?;
        Ok(())
    };
    let volume = || vec![source("vol", move |sink| capture(sink).map_err(|e| e.to_string()))];
    let report = take(&store, &[], volume()).unwrap();
    assert_eq!((report.outcome, report.counts.notes), (Outcome::Complete, 1));
    let repository = open(&store);
    let entries = entries(&repository, &report);
    let shown: Vec<(String, u32)> = entries
        .iter()
        .map(|entry| {
            let key = String::from_utf8(entry.key.clone()).unwrap().replace('\0', "/");
            (key, entry.metadata.mode)
        })
        .collect();
    let expected = [
        ("vol", 0o755),
        ("vol/a", 0o700),
        ("vol/a/b", 0o755),
        ("vol/a/b/c", 0o640),
        ("vol/large-attribute", 0o600),
        ("vol/m", 0o755),
        ("vol/m/link", 0o600),
        ("vol/m/link2", 0o600),
        ("vol/name", 0o600),
        ("vol/s", 0o777),
        ("vol/z", 0o755),
        ("vol/z/last", 0o600),
    ];
    assert_eq!(shown, expected.map(|(key, mode)| (key.to_owned(), mode)));
    let group = entries.last().unwrap().link_group;
    let linked = entries.iter().filter(|entry| entry.link_group == group).count();
    assert!(group != 0 && linked == 3);
    let files = contents(&repository, report.snapshot.unwrap());
    assert_eq!(files[&b"vol:/a/b/c"[..]], b"new");
    // the same again is found unchanged, whatever its order
    let again = take(&store, &[], volume()).unwrap();
    assert_eq!((again.counts.files_unchanged, again.counts.files_new), (6, 0));
    is_sound(&store);
}

/// Nothing but a stream, longer than what is put between two checkpoints: what it used is found where it lies by then.
#[test]
fn checkpoints_are_made_while_only_a_stream_is_read() {
    let store = memory();
    let bytes = noise(6, 100 << 20);
    let options =
        BackupOptions { paths: Vec::new(), checkpoint_bytes: 1, ..options(Path::new("/")) };
    let slow = {
        let half = bytes.len() / 2;
        let first = io::Cursor::new(bytes[..half].to_vec());
        // so slow that the assembler looks in between
        let rest = io::Cursor::new(bytes[half..].to_vec());
        StreamSource::reader("dump", Box::new(first.chain(Pause(false)).chain(rest)))
    };
    let report = backup(&open(&store), &options, vec![slow], &Silent).unwrap();
    assert!(store.list("index/").unwrap().len() > 1, "no checkpoint");
    assert!(contents(&open(&store), report.snapshot.unwrap())[&b"dump"[..]] == bytes);
    is_sound(&store);
}

struct Pause(bool);

impl Read for Pause {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        if !std::mem::replace(&mut self.0, true) {
            std::thread::sleep(std::time::Duration::from_millis(2500));
        }
        Ok(0)
    }
}
