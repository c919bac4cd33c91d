//! Backups as a library user takes them: what is stored, read again, and found.

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;

use esker::backup::{BackupOptions, StreamSource, backup};
use esker::files::RootOptions;
use esker::format::manifest::Outcome;
use esker::progress::{Event, Progress, Silent};
use esker::repository::snapshots::Snapshot;
use esker::store::{Counting, Decision, ErrorKind, Faulty, OpendalStore, OperationKind, Store};
use support::{contents, init, on_disk, open, options, run, settle};

fn tree(path: &Path) {
    for directory in 0..20 {
        let directory = path.join(format!("d{directory}"));
        fs::create_dir_all(&directory).unwrap();
        for file in 0..50 {
            let text = format!("{} {file} ", directory.display()).repeat(file * 7);
            fs::write(directory.join(format!("f{file}")), text).unwrap();
        }
    }
    let mut long = vec![0; 5 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut long);
    fs::write(path.join("long"), long).unwrap();
}

#[test]
fn an_unchanged_second_backup_puts_no_data_pack_and_reads_no_file() {
    let directory = tempfile::tempdir().unwrap();
    tree(directory.path());
    settle();
    let counting = Arc::new(Counting::new(Arc::new(OpendalStore::memory().unwrap())));
    let store: Arc<dyn Store> = counting.clone();
    init(&store);
    // recorded below the root: the times of the directory for temporary files,
    // where other tests are at work, would be saved as well
    let map = vec![(directory.path().to_owned(), "/tree".into())];
    let options = BackupOptions { map, ..options(directory.path()) };
    let run = || backup(&open(&store), &options, Vec::new(), &Silent).unwrap();
    let first = run();
    assert_eq!(first.counts.files, 1001);
    assert_eq!(first.counts.files_new, 1001);
    assert!(first.counts.failures == 0 && first.bytes_put > 5 << 20);
    counting.reset();
    let second = run();
    assert_eq!(second.counts.files_unchanged, 1001);
    assert_eq!(second.counts.bytes_added, 0);
    assert!(second.unchanged);
    assert_eq!(counting.count(OperationKind::Put, "packs").calls, 0);
    let (snapshots, troubles) = open(&store).snapshots().unwrap();
    assert!(troubles.is_empty(), "{troubles:?}");
    assert_eq!(snapshots.len(), 2);
    assert!(snapshots.iter().all(|snapshot| snapshot.is_complete()));
}

/// What stayed as it was goes from one tree into the next by whole pages. The
/// tree must be the one that is built without, and so must what it uses.
#[test]
fn pages_taken_over_give_the_tree_that_is_built_anew() {
    let directory = tempfile::tempdir().unwrap();
    let at = |directory_number: usize, file: usize| {
        directory.path().join(format!("d{directory_number:02}/f{file:03}"))
    };
    let write = |path: &Path, text: &str| fs::write(path, format!("{} {text}", path.display()));
    for number in 0..40 {
        fs::create_dir_all(at(number, 0).parent().unwrap()).unwrap();
        (0..100).for_each(|file| write(&at(number, file), "at first").unwrap());
        std::os::unix::fs::symlink("f001", directory.path().join(format!("d{number:02}/link")))
            .unwrap();
    }
    fs::hard_link(at(5, 5), at(25, 555)).unwrap();
    let mut long = vec![0; 5 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut long);
    fs::write(at(15, 555), long).unwrap();
    fs::File::create(at(16, 555)).unwrap().set_len(1 << 20).unwrap();
    let store: Arc<dyn Store> = Arc::new(OpendalStore::memory().unwrap());
    init(&store);
    let map = vec![(directory.path().to_owned(), "/tree".into())];
    let kept = BackupOptions { map, ..options(directory.path()) };
    let anew = BackupOptions { reread: true, map: kept.map.clone(), ..options(directory.path()) };
    let take = |options: &BackupOptions| {
        settle();
        backup(&open(&store), options, Vec::new(), &Silent).unwrap()
    };
    take(&kept);
    let mode = |path: &Path, mode: u32| fs::set_permissions(path, Permissions::from_mode(mode));
    let rounds: [&dyn Fn(); 8] = [
        &|| {},
        &|| write(&at(20, 50), "changed").unwrap(),
        &|| mode(&at(20, 50), 0o600).and_then(|()| mode(&at(31, 0), 0o400)).unwrap(),
        &|| fs::remove_file(at(5, 5)).unwrap(),
        &|| (10..30).for_each(|number| fs::remove_file(at(number, 7)).unwrap()),
        &|| (0..3000).for_each(|file| write(&at(33, 1000 + file), "new").unwrap()),
        &|| fs::remove_dir_all(at(39, 0).parent().unwrap()).unwrap(),
        &|| {
            (0..40).step_by(3).for_each(|number| drop(fs::remove_file(at(number, number))));
            write(&directory.path().join("a"), "before all").unwrap();
            write(&directory.path().join("z"), "behind all").unwrap();
        },
    ];
    for (round, change) in rounds.iter().enumerate() {
        change();
        let counts = take(&kept).counts;
        assert_eq!(counts.files, counts.files_unchanged + counts.files_changed + counts.files_new);
        assert!(take(&anew).unchanged, "round {round}: another tree");
        let (snapshots, _) = open(&store).snapshots().unwrap();
        let [.., by_pages, without] = &snapshots[..] else { panic!("too few snapshots") };
        let references = |snapshot: &Snapshot| snapshot.manifest.references;
        assert_eq!(references(by_pages), references(without), "round {round}: other references");
    }
}

#[test]
fn a_mapped_path_is_recorded_and_compared_under_its_real_name() {
    let directory = tempfile::tempdir().unwrap();
    let (real, mounted) = (directory.path().join("real"), directory.path().join("mnt/snap"));
    fs::create_dir_all(&real).unwrap();
    fs::create_dir_all(mounted.join("sub")).unwrap();
    fs::write(mounted.join("sub/file"), "as it was").unwrap();
    settle();
    let store: Arc<dyn Store> = Arc::new(OpendalStore::memory().unwrap());
    init(&store);
    let options =
        BackupOptions { map: vec![(mounted.clone(), real.clone())], ..support::options(&mounted) };
    let take = || backup(&open(&store), &options, Vec::new(), &Silent).unwrap();
    let first = take();
    let contents = support::contents(&open(&store), first.snapshot.unwrap());
    let path = real.join("sub/file").into_os_string().into_encoded_bytes();
    assert_eq!(contents.into_iter().collect::<Vec<_>>(), [(path, b"as it was".to_vec())]);
    assert_eq!(take().counts.files_unchanged, 1);
}

#[test]
fn one_byte_changed_in_a_large_file_stores_little() {
    let directory = tempfile::tempdir().unwrap();
    let size =
        if std::env::var("ESKER_TEST_LONG").as_deref() == Ok("yes") { 1 << 30 } else { 1 << 27 };
    let mut bytes = vec![0; size];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    let path = directory.path().join("large");
    fs::write(&path, &bytes).unwrap();
    settle();
    let store: Arc<dyn Store> = Arc::new(OpendalStore::memory().unwrap());
    init(&store);
    run(&open(&store), directory.path());
    bytes[size / 3] ^= 1;
    fs::write(&path, &bytes).unwrap();
    settle();
    let second = run(&open(&store), directory.path());
    assert_eq!(second.counts.files_changed, 1);
    assert!(second.bytes_put < 2 << 20, "{} bytes put", second.bytes_put);
}

/// Replaces a file when the first one is done: by then all of their batch are open.
struct Replacing {
    path: PathBuf,
    replaced: AtomicBool,
}

impl Progress for Replacing {
    fn event(&self, event: Event<'_>) {
        if matches!(event, Event::Done { files: 1, .. }) && !self.replaced.swap(true, SeqCst) {
            let new = self.path.with_extension("new");
            fs::write(&new, "another text").unwrap();
            fs::rename(new, &self.path).unwrap();
        }
    }
}

#[test]
fn a_file_replaced_before_its_turn_is_saved_as_it_is_now() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c"] {
        fs::write(directory.path().join(name), format!("text of {name}")).unwrap();
    }
    settle();
    let store: Arc<dyn Store> = Arc::new(OpendalStore::memory().unwrap());
    init(&store);
    let replacing = Replacing { path: directory.path().join("b"), replaced: false.into() };
    let options = BackupOptions { read_concurrency: 1, ..options(directory.path()) };
    let report = backup(&open(&store), &options, Vec::new(), &replacing).unwrap();
    assert_eq!((report.counts.files, report.counts.failures), (3, 0));
    assert!(replacing.replaced.load(SeqCst));
    let stored = contents(&open(&store), report.snapshot.unwrap());
    assert_eq!(stored, on_disk(directory.path()));
    assert!(stored.values().any(|text| text == b"another text"));
}

#[test]
fn a_stream_is_kept_under_its_name_and_deduplicated() {
    let mut bytes = vec![0; 10 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    let store: Arc<dyn Store> = Arc::new(OpendalStore::memory().unwrap());
    init(&store);
    let options = BackupOptions { paths: Vec::new(), ..support::options(Path::new("/")) };
    let take = |name: &str| {
        let reader = Box::new(std::io::Cursor::new(bytes.clone()));
        let stream = StreamSource::reader(name, reader);
        backup(&open(&store), &options, vec![stream], &Silent)
    };
    let first = take("dump.sql").unwrap();
    let contents = support::contents(&open(&store), first.snapshot.unwrap());
    assert_eq!(contents.into_iter().collect::<Vec<_>>(), [(b"dump.sql".to_vec(), bytes.clone())]);
    // only the tree page with the new time is new
    assert!(take("dump.sql").unwrap().counts.bytes_added < 1024);
    assert!(take("files").is_err() && take("a/b").is_err() && take("..").is_err());
}

#[test]
fn missing_sources_are_failures_and_none_at_all_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let (there, missing) = (directory.path().join("there"), directory.path().join("missing"));
    fs::write(&there, "x").unwrap();
    let store: Arc<dyn Store> = Arc::new(OpendalStore::memory().unwrap());
    init(&store);
    let both = BackupOptions { paths: vec![missing.clone(), there], ..options(&missing) };
    let report = backup(&open(&store), &both, Vec::new(), &Silent).unwrap();
    assert_eq!((report.outcome, report.counts.files), (Outcome::Partial, 1));
    let required = BackupOptions { require_all: true, ..both };
    let before = store.list("").unwrap().len();
    assert!(backup(&open(&store), &required, Vec::new(), &Silent).is_err());
    assert!(backup(&open(&store), &options(&missing), Vec::new(), &Silent).is_err());
    assert_eq!(store.list("").unwrap().len(), before, "something was stored");
}

/// Chunks that a checkpoint moved from memory into the index are still found,
/// by what comes later and by the reference set.
#[test]
fn checkpoints_lose_no_chunk_and_store_none_twice() {
    let directory = tempfile::tempdir().unwrap();
    let mut noise = vec![0; 90 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    fs::write(directory.path().join("a"), &noise).unwrap();
    for part in 0..60 {
        // small files, so that batches are under way while a checkpoint is made
        let text = &noise[part << 20..(part << 20) + 50_000];
        fs::write(directory.path().join(format!("b{part}")), text).unwrap();
    }
    fs::write(directory.path().join("c"), &noise).unwrap();
    settle();
    let store: Arc<dyn Store> = Arc::new(OpendalStore::memory().unwrap());
    init(&store);
    let options = BackupOptions { checkpoint_bytes: 1, ..options(directory.path()) };
    let report = backup(&open(&store), &options, Vec::new(), &Silent).unwrap();
    assert!(store.list("index/").unwrap().len() >= 2, "no checkpoint was made");
    assert!(report.counts.bytes_added < 97 << 20, "{} bytes added", report.counts.bytes_added);
    let contents = support::contents(&open(&store), report.snapshot.unwrap());
    assert_eq!(contents, support::on_disk(directory.path()));
}

/// A block holds as many chunks as a table of contents can number, however
/// short they are.
#[test]
fn tens_of_thousands_of_tiny_files_restore() {
    let directory = tempfile::tempdir().unwrap();
    for file in 0..70_000 {
        fs::write(directory.path().join(format!("{file}")), format!("{file:06}")).unwrap();
    }
    settle();
    let store: Arc<dyn Store> = Arc::new(OpendalStore::memory().unwrap());
    init(&store);
    let options = BackupOptions { read_concurrency: 1, ..options(directory.path()) };
    let report = backup(&open(&store), &options, Vec::new(), &Silent).unwrap();
    let contents = support::contents(&open(&store), report.snapshot.unwrap());
    assert_eq!(contents, support::on_disk(directory.path()));
}

/// A pack of reference pages that is gone is written again, not missed every night.
#[test]
fn a_lost_pack_of_references_is_made_good_by_the_next_backup() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("file"), "content").unwrap();
    settle();
    let store: Arc<dyn Store> = Arc::new(OpendalStore::memory().unwrap());
    init(&store);
    run(&open(&store), directory.path());
    let repository = open(&store);
    repository.sync_index(&Silent).unwrap();
    for (_, info) in repository.index().packs() {
        if info.kind == esker::format::pack::PackKind::Refs {
            store.delete(&esker::format::pack::pack_key(info.id)).unwrap();
        }
    }
    let report = run(&open(&store), directory.path());
    assert!(report.snapshot.is_some());
}

/// A mount point that is left out is told, and only a root that asks for it leaves one out.
#[test]
fn what_lies_on_another_file_system_is_told_where_its_root_leaves_it_out() {
    use std::os::unix::fs::MetadataExt;
    let (devices, terminals) = (Path::new("/dev"), Path::new("/dev/pts"));
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    if device(terminals).is_none_or(|inner| Some(inner) == device(devices)) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("file"), "content").unwrap();
    let store: Arc<dyn Store> = Arc::new(OpendalStore::memory().unwrap());
    init(&store);
    let told = |stays: bool| {
        let of_roots = [(directory.path(), !stays), (devices, stays)];
        let own = |(path, one_file_system): (&Path, bool)| {
            (path.to_owned(), RootOptions { one_file_system, rules: None })
        };
        let options = BackupOptions {
            paths: vec![directory.path().to_owned(), devices.to_owned()],
            // files there are others' to fill
            exclude_larger_than: Some(0),
            of_roots: of_roots.map(own).to_vec(),
            dry_run: true,
            ..options(devices)
        };
        let report = backup(&open(&store), &options, Vec::new(), &Silent).unwrap();
        let mut notes = report.notes.iter();
        notes.any(|note| note.path == b"/dev/pts" && note.reason.contains("another file system"))
    };
    assert!(told(true) && !told(false));
}

/// A store that fails in the middle ends the run with its error, at once.
#[test]
fn a_failing_upload_ends_the_run() {
    let directory = tempfile::tempdir().unwrap();
    let mut noise = vec![0; 120 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    for part in 0..120 {
        let name = directory.path().join(format!("{part}"));
        fs::write(name, &noise[part << 20..(part + 1) << 20]).unwrap();
    }
    let store: Arc<dyn Store> = Arc::new(OpendalStore::memory().unwrap());
    init(&store);
    let failing: Arc<dyn Store> = Arc::new(Faulty::new(store.clone(), |operation| {
        if operation.kind == OperationKind::Put && operation.key.starts_with("packs/") {
            std::thread::sleep(std::time::Duration::from_millis(300));
            return Decision::FailBefore(ErrorKind::Full);
        }
        Decision::Pass
    }));
    let error = backup(&open(&failing), &options(directory.path()), Vec::new(), &Silent);
    assert!(error.is_err());
    assert!(open(&store).snapshots().unwrap().0.is_empty());
}
