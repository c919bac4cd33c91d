//! Looking and verifying: check and scrub name every damage and nothing else;
//! diff, find, list and stats say the same as slow, simple counts do.

mod support;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use esker::backup::{BackupOptions, backup};
use esker::check::{AffectedWhat, CheckOptions, CheckReport, Subset, check, mark_damaged};
use esker::crypto::SecretKey;
use esker::diff::{Change, ChangeKind, Side, diff};
use esker::find::{FindOptions, Found, find};
use esker::format::Kind;
use esker::format::entry::{Entry, EntryKind, display_key, key_of_path};
use esker::format::notes::{self, Mark, MarkKind, Record, Sweep};
use esker::format::pack::{Coordinate, PackKind, pack_key};
use esker::format::slot::Role;
use esker::id::{PackId, SnapshotId, SweepId};
use esker::keys::add::{AddOptions, add};
use esker::list::list;
use esker::progress::{Event, Progress, Silent};
use esker::repository::local::CacheRoot;
use esker::repository::snapshots::Snapshot;
use esker::repository::{NewSlot, Repository, Unlock};
use esker::scrub::{ScrubOptions, scrub};
use esker::stats::{Usage, stats};
use esker::store::{Counting, LocalStore, OpendalStore, OperationKind, Store};
use support::{contents, copy_all, init, memory_of, open, options, settle};

fn noise(seed: &str, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn save(store: &Arc<dyn Store>, path: &Path, host: &str, tags: &[&str], time: u64) -> SnapshotId {
    let mut options = options(path);
    options.host = host.into();
    options.tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
    options.time = Some(time);
    backup(&open(store), &options, Vec::new(), &Silent).unwrap().snapshot.unwrap()
}

fn snapshots(repository: &Repository) -> Vec<Snapshot> {
    repository.sync_index(&Silent).unwrap();
    repository.snapshots().unwrap().0
}

fn snapshot(repository: &Repository, id: SnapshotId) -> Snapshot {
    snapshots(repository).into_iter().find(|snapshot| snapshot.id == id).unwrap()
}

fn entries(repository: &Repository, snapshot: &Snapshot) -> Vec<Entry> {
    let root = repository.private_part(snapshot).unwrap().tree;
    repository.tree(root, b"").map(Result::unwrap).collect()
}

fn whole() -> CheckOptions {
    CheckOptions { read_data: Some(Subset::All), affected: true, refs: true, snapshots: None }
}

fn run_check(repository: &Repository) -> CheckReport {
    check(repository, &whole(), &Silent).unwrap()
}

/// Two hosts with data of their own, one object of every kind, nothing wrong.
fn two_hosts() -> (Arc<dyn Store>, [SnapshotId; 2]) {
    let store: Arc<dyn Store> = Arc::new(OpendalStore::memory().unwrap());
    init(&store);
    let mut ids = Vec::new();
    for (at, host) in ["one", "two"].into_iter().enumerate() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("long"), noise(host, 3 << 20)).unwrap();
        fs::write(directory.path().join("short"), host).unwrap();
        fs::hard_link(directory.path().join("long"), directory.path().join("link")).unwrap();
        ids.push(save(&store, directory.path(), host, &[], 1_000_000 + at as u64));
    }
    let repository = open(&store);
    let put = |kind: Kind, key: &str, payload: Vec<u8>| {
        repository.put_object(kind, key, &payload, None).unwrap();
    };
    let named = Mark { kind: MarkKind::Name("first".into()), time: 5, kept: Vec::new() };
    put(Kind::Mark, &notes::new_mark_key(ids[0], 1), named.encode());
    let sweep = Sweep { manifests: Vec::new(), packs: Vec::new(), time: 5, kept: Vec::new() };
    put(Kind::Sweep, &notes::sweep_key(SweepId::random()), sweep.encode());
    let record = Record {
        kind: "check".into(),
        started: 1,
        ended: 2,
        host: "one".into(),
        code: 0,
        extent: "all".into(),
        snapshots: ids.clone(),
        counts: Vec::new(),
        kept: Vec::new(),
    };
    put(Kind::Record, &esker::format::notes::record_key("check", [1; 16]), record.encode());
    (store, [ids[0], ids[1]])
}

#[test]
fn a_whole_repository_is_found_whole() {
    let (store, _) = two_hosts();
    let report = run_check(&open(&store));
    assert_eq!(report.findings, [], "damage where there is none");
    assert_eq!(report.notes, []);
    assert_eq!(report.unproven, Vec::<String>::new());
    assert_eq!(report.counts.snapshots, 2);
    assert_eq!(report.counts.packs, report.counts.packs_read);
    assert!(report.counts.bytes_read > 6 << 20 && report.counts.entries > 8);
    let scrubbed = scrub(&*store, &ScrubOptions::default(), &Silent).unwrap();
    assert!(scrubbed.is_ok() && scrubbed.strangers.is_empty());
    assert_eq!(scrubbed.objects as usize, store.list("").unwrap().len());
}

#[test]
fn without_reading_data_it_says_so_and_reads_no_data_pack() {
    let (store, _) = two_hosts();
    let counting = Arc::new(Counting::new(store));
    let store: Arc<dyn Store> = counting.clone();
    let repository = open(&store);
    counting.reset();
    let report = check(&repository, &CheckOptions::default(), &Silent).unwrap();
    assert!(report.is_ok());
    assert_eq!(report.unproven.len(), 1);
    assert!(counting.count(OperationKind::GetRange, "packs").bytes < 1 << 20);
    assert_eq!(counting.count(OperationKind::Get, "packs").calls, 0);
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Action {
    Truncate,
    Extend,
    Empty,
    Flip,
    Delete,
    /// By another whole object of its kind, or of any other.
    Swap,
}

const ACTIONS: [Action; 6] =
    [Action::Truncate, Action::Extend, Action::Empty, Action::Flip, Action::Delete, Action::Swap];

fn damage(store: &dyn Store, key: &str, action: Action) {
    let bytes = store.get(key, u64::MAX).unwrap().to_vec();
    store.delete(key).unwrap();
    let damaged = match action {
        Action::Truncate => bytes[..bytes.len() / 2].to_vec(),
        Action::Extend => [bytes.as_slice(), b"x"].concat(),
        Action::Empty => Vec::new(),
        Action::Flip => {
            let mut bytes = bytes;
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x40;
            bytes
        }
        Action::Delete => return,
        Action::Swap => {
            let prefix = key.split_inclusive('/').next().unwrap();
            let others = store.list("").unwrap();
            let same = others.iter().find(|l| prefix != key && l.key.starts_with(prefix));
            let other = same.unwrap_or_else(|| others.iter().find(|l| l.key != key).unwrap());
            store.get(&other.key, u64::MAX).unwrap().to_vec()
        }
    };
    store.put(key, Bytes::from(damaged)).unwrap();
}

/// One object of each kind, with what its place is called.
fn places(repository: &Repository) -> Vec<(&'static str, String)> {
    let listing = repository.store().list("").unwrap();
    let first = |prefix: &str| {
        listing.iter().find(|l| l.key.starts_with(prefix)).map(|l| l.key.clone()).unwrap()
    };
    let mut places: Vec<(&'static str, String)> = [
        "config",
        "config-updates/",
        "keys/",
        "index/",
        "sessions/",
        "snapshots/",
        "confirmed/",
        "marks/",
        "sweeps/",
        "records/",
    ]
    .into_iter()
    .map(|prefix| (prefix, first(prefix)))
    .collect();
    places[0].1 = "config".into();
    repository.sync_index(&Silent).unwrap();
    for (name, kind) in
        [("data", PackKind::Data), ("tree", PackKind::Tree), ("refs", PackKind::Refs)]
    {
        let packs = repository.index().packs();
        let (_, info) = packs.iter().find(|(_, info)| info.kind == kind).unwrap();
        places.push((name, pack_key(info.id)));
    }
    places
}

/// What nobody can know to be missing, since nothing names it.
fn leaves_no_trace(place: &str, action: Action) -> bool {
    action == Action::Delete && ["sessions/", "marks/", "sweeps/", "records/"].contains(&place)
}

#[test]
fn every_damage_to_every_kind_of_object_is_named() {
    let (store, _) = two_hosts();
    let place_keys = places(&open(&store));
    for (place, key) in &place_keys {
        for action in ACTIONS {
            let case = format!("{action:?} {place} {key}");
            let damaged = memory_of(&store);
            // some damage keeps a repository from being opened at all
            let repository = open(&damaged);
            damage(&*damaged, key, action);
            let report = run_check(&repository);
            if leaves_no_trace(place, action) {
                assert!(report.is_ok(), "{case}: {:#?}", report.findings);
                continue;
            }
            let named = match (*place, action) {
                // its packs are found to be unlisted, and what they held to be lost
                ("index/", Action::Delete) => report
                    .findings
                    .iter()
                    .any(|f| f.key.starts_with("packs/") || f.key.starts_with("snapshots/")),
                ("config-updates/", Action::Delete) => {
                    report.findings.iter().any(|f| f.key.starts_with("config-updates"))
                }
                // it may be that the run had not come that far
                ("confirmed/", Action::Delete) => {
                    let snapshot = key.replace("confirmed/", "snapshots/");
                    assert!(report.is_ok(), "{case}: {:#?}", report.findings);
                    report.notes.iter().any(|note| note.key == snapshot)
                }
                _ => report.findings.iter().any(|finding| finding.key == *key),
            };
            assert!(named, "{case}: {:#?}\n{:#?}", report.findings, report.notes);
            let scrubbed = scrub(&*damaged, &ScrubOptions::default(), &Silent).unwrap();
            let seen = scrubbed.mismatches.iter().any(|mismatch| mismatch.key == *key);
            let hash_named = key.starts_with("packs/") || key.starts_with("index/");
            let expected = match action {
                Action::Delete => false,
                Action::Swap => hash_named,
                _ => true,
            };
            assert_eq!(seen, expected, "scrub: {case}");
            assert_eq!(scrubbed.mismatches.len(), usize::from(expected), "scrub: {case}");
        }
    }
}

/// A directory is read piece by piece, other stores a pack at a time.
#[test]
fn a_check_of_a_directory_says_what_one_of_any_other_store_says() {
    let (store, _) = two_hosts();
    let places = places(&open(&store));
    let packs: Vec<_> = places.iter().filter(|(_, key)| key.starts_with("packs/")).collect();
    for (at, (place, key)) in packs.iter().enumerate() {
        let bytes = store.get(key, u64::MAX).unwrap();
        let end = bytes.len();
        // in the header, in the first block, in padding or table, and in the footer
        let flipped = [3, 20, end - 200, end - 1].map(|at| {
            let mut bytes = bytes.to_vec();
            bytes[at] ^= 0x40;
            Some(Bytes::from(bytes))
        });
        let cut = [0, 10, 16, 17, end / 2, end - 97, end - 1].map(|end| Some(bytes.slice(..end)));
        let longer = Bytes::from([&bytes[..], b"x"].concat());
        let other = store.get(&packs[(at + 1) % packs.len()].1, u64::MAX).unwrap();
        let more = [None, Some(bytes.clone()), Some(longer), Some(other)];
        for (number, changed) in flipped.into_iter().chain(cut).chain(more).enumerate() {
            let directory = tempfile::tempdir().unwrap();
            let local = LocalStore::create(&directory.path().join("repository")).unwrap();
            copy_all(&*store, &local);
            let stores: [Arc<dyn Store>; 2] = [Arc::new(local), memory_of(&store)];
            let [found, expected] = stores.map(|copy| {
                let repository = open(&copy);
                copy.delete(key).unwrap();
                changed.iter().for_each(|changed| copy.put(key, changed.clone()).unwrap());
                // in no index, and not the bytes of its name
                copy.put(&pack_key(PackId([7; 32])), bytes.clone()).unwrap();
                let mut report = run_check(&repository);
                for finding in &mut report.findings {
                    finding.what = finding.what.replace(copy.url(), "there");
                }
                report
            });
            let case = format!("{place}, change {number}");
            assert_eq!(found.findings.is_empty(), changed.as_ref() == Some(&bytes), "{case}");
            assert_eq!(found.findings, expected.findings, "{case}");
            assert_eq!(found.notes, expected.notes, "{case}");
            assert_eq!(found.damaged_packs, expected.damaged_packs, "{case}");
            assert_eq!(found.affected, expected.affected, "{case}");
            assert_eq!(found.counts, expected.counts, "{case}");
        }
    }
}

/// Deletes an object once packs are being read, as a prune would.
struct Deletes<'a>(&'a dyn Store, &'a str);

impl Progress for Deletes<'_> {
    fn event(&self, event: Event<'_>) {
        if let Event::Stage("reading packs") = event {
            self.0.delete(self.1).unwrap();
        }
    }
}

#[test]
fn a_pack_that_goes_while_packs_are_read_is_left_to_the_next_check() {
    let (store, _) = two_hosts();
    let directory = tempfile::tempdir().unwrap();
    let local: Arc<dyn Store> =
        Arc::new(LocalStore::create(&directory.path().join("repository")).unwrap());
    copy_all(&*store, &*local);
    for store in [local, store] {
        let (_, key) =
            places(&open(&store)).into_iter().find(|(place, _)| *place == "data").unwrap();
        let report = check(&open(&store), &whole(), &Deletes(&*store, &key)).unwrap();
        assert!(report.is_ok(), "{:?}", report.findings);
        assert_eq!(report.counts.packs_read + 1, report.counts.packs);
        assert!(!run_check(&open(&store)).is_ok());
    }
}

/// Every byte of a pack is read once, and no pack is asked for whole.
#[test]
fn a_check_of_a_directory_reads_packs_in_pieces_and_once() {
    let directory = tempfile::tempdir().unwrap();
    let local = LocalStore::create(&directory.path().join("repository")).unwrap();
    copy_all(&*two_hosts().0, &local);
    let counting = Arc::new(Counting::new(Arc::new(local)));
    let store: Arc<dyn Store> = counting.clone();
    let repository = open(&store);
    let structure = CheckOptions { read_data: None, ..whole() };
    let ranges = |options: &CheckOptions| {
        counting.reset();
        let report = check(&repository, options, &Silent).unwrap();
        assert!(report.is_ok());
        assert_eq!(counting.count(OperationKind::Get, "packs").calls, 0);
        (report.counts.bytes_read, counting.count(OperationKind::GetRange, "packs").bytes)
    };
    // the first one fetches pages that are at hand from then on
    let [_, (_, without), (read, with)] = [&structure, &structure, &whole()].map(ranges);
    assert_eq!(with - without, read);
}

#[test]
fn damage_found_after_opening_anew_spares_what_it_does_not_touch() {
    let (store, ids) = two_hosts();
    let before = contents(&open(&store), ids[1]);
    for (place, key) in places(&open(&store)) {
        if !["data", "tree", "refs", "marks/", "sessions/"].contains(&place) {
            continue;
        }
        for action in ACTIONS {
            let case = format!("{action:?} {place}");
            let damaged = memory_of(&store);
            damage(&*damaged, &key, action);
            let repository = open(&damaged);
            let report = run_check(&repository);
            let hit: BTreeSet<SnapshotId> = report.affected.iter().map(|a| a.snapshot).collect();
            assert!(hit.len() <= 1, "{case}: {:?}", report.affected);
            if !hit.contains(&ids[1]) {
                assert_eq!(contents(&repository, ids[1]), before, "{case}");
            }
        }
    }
}

#[test]
fn affected_names_exactly_the_paths_that_are_lost() {
    let (store, ids) = two_hosts();
    let repository = open(&store);
    let first = snapshot(&repository, ids[0]);
    let entries = entries(&repository, &first);
    // the pack and block of each chunk of a file
    let blocks = |name: &str| {
        let file = entries.iter().find(|e| e.name() == name.as_bytes()).unwrap();
        let mut blocks = Vec::new();
        repository
            .items(&file.content, &mut |item| {
                if let esker::format::content::Item::Chunk { id, .. } = item {
                    let place = repository.index().places(&id).unwrap()[0];
                    let toc = repository.index().toc(place.pack).unwrap();
                    blocks.push((place.pack, toc.block_of(place.ordinal)));
                }
                Ok(())
            })
            .unwrap();
        blocks
    };
    // which block the short file shares depends on the worker that comes first
    let shared = blocks("short");
    let (number, block) = blocks("long").into_iter().find(|at| !shared.contains(at)).unwrap();
    let pack = repository.index().pack(number).unwrap().id;
    let toc = repository.index().toc(number).unwrap();
    let mut bytes = store.get(&pack_key(pack), u64::MAX).unwrap().to_vec();
    bytes[toc.offsets[block] as usize + 30] ^= 1;
    store.delete(&pack_key(pack)).unwrap();
    store.put(&pack_key(pack), bytes.into()).unwrap();

    let report = run_check(&open(&store));
    assert_eq!(report.damaged_packs.len(), 1);
    assert_eq!(report.damaged_packs[0].id, pack);
    assert!(!report.damaged_packs[0].missing);
    assert_eq!(report.damaged_packs[0].blocks, [block as u32]);
    let mut hit: Vec<_> = report.affected.iter().map(|a| (a.snapshot, a.what)).collect();
    hit.dedup();
    assert_eq!(hit, [(ids[0], AffectedWhat::Content)]);
    let names: Vec<_> =
        report.affected.iter().map(|a| a.key.rsplit(|b| *b == 0).next().unwrap()).collect();
    assert_eq!(names, [&b"link"[..], b"long"]);

    assert_eq!(mark_damaged(&repository, &report).unwrap(), 1);
    assert_eq!(store.list("marks/").unwrap().len(), 2);
}

#[test]
fn padding_that_was_flipped_is_damage_that_hits_no_file() {
    let (store, _) = two_hosts();
    let repository = open(&store);
    repository.sync_index(&Silent).unwrap();
    let packs = repository.index().packs();
    let (number, info) = packs.iter().find(|(_, info)| info.kind == PackKind::Refs).unwrap();
    let toc = repository.index().toc(*number).unwrap();
    let end = toc.offsets.last().unwrap() + u64::from(toc.toc.blocks.last().unwrap().stored_length);
    let frame = toc.toc.frame_length() as u64;
    if end + frame == info.length {
        return; // by chance this pack needed none
    }
    let key = pack_key(info.id);
    let mut bytes = store.get(&key, u64::MAX).unwrap().to_vec();
    bytes[end as usize] ^= 1;
    store.delete(&key).unwrap();
    store.put(&key, bytes.into()).unwrap();
    let report = run_check(&repository);
    assert_eq!(report.findings.len(), 1);
    assert_eq!(report.damaged_packs[0].blocks, Vec::<u32>::new());
    assert_eq!(report.affected, []);
}

#[test]
fn an_absurdly_long_object_keeps_nothing_else_from_being_checked() {
    let (store, ids) = two_hosts();
    let long = Bytes::from(vec![0; (64 << 20) + 1]);
    let keys = [
        notes::new_mark_key(ids[0], 2),
        notes::sweep_key(SweepId::random()),
        notes::session_key(ids[0], 99),
        format!("index/{}", "ab".repeat(32)),
    ];
    for key in &keys {
        store.put(key, long.clone()).unwrap();
    }
    let repository = open(&store);
    let report = check(&repository, &CheckOptions::default(), &Silent).unwrap();
    let named: BTreeSet<&str> = report.findings.iter().map(|f| f.key.as_str()).collect();
    assert_eq!(named, keys.iter().map(String::as_str).collect());
    assert_eq!(report.counts.snapshots, 2);
}

#[test]
fn strangers_are_named_and_are_no_damage() {
    let (store, _) = two_hosts();
    for key in ["future/thing", "packs/ab/cd", "snapshots/zz", "readme"] {
        store.put(key, Bytes::from_static(b"?")).unwrap();
    }
    store.put("packs/00/README", Bytes::new()).unwrap_err();
    let report = run_check(&open(&store));
    assert_eq!(report.findings, []);
    let named: Vec<_> = report.notes.iter().map(|note| note.key.as_str()).collect();
    assert_eq!(named, ["future/thing", "packs/ab/cd", "readme", "snapshots/zz"]);
}

#[test]
fn a_subset_that_makes_no_sense_is_refused() {
    let (store, _) = two_hosts();
    let repository = open(&store);
    for subset in [
        Subset::Fraction(0, 3),
        Subset::Fraction(4, 3),
        Subset::Percent(-1.0),
        Subset::Percent(100.5),
        Subset::Percent(f64::NAN),
    ] {
        let options = CheckOptions { read_data: Some(subset), ..CheckOptions::default() };
        assert!(check(&repository, &options, &Silent).is_err(), "{subset:?}");
    }
    let mut read = 0;
    for n in 1..=3 {
        let read_data = Some(Subset::Fraction(n, 3));
        let options = CheckOptions { read_data, ..CheckOptions::default() };
        read += check(&repository, &options, &Silent).unwrap().counts.packs_read;
    }
    assert_eq!(read, run_check(&repository).counts.packs);
}

fn open_as(store: &Arc<dyn Store>, role: Role) -> Repository {
    let key = SecretKey::from_bytes([role as u8 + 40; 32]);
    let slot = NewSlot::KeyFile(key.clone());
    let label = role.name().to_owned();
    let options = AddOptions { role, label, slot, domain: None, same_writer: false };
    add(&open(store), &options).unwrap();
    Repository::open(store.clone(), &Unlock::KeyFile(key), &CacheRoot::None).unwrap()
}

#[test]
fn every_role_checks_what_it_can_and_says_what_it_cannot() {
    let (store, _) = two_hosts();
    let data = places(&open(&store)).into_iter().find(|(place, _)| *place == "data").unwrap().1;
    let full = stats_of(&open(&store));
    for role in [Role::Read, Role::Write, Role::Maintain, Role::Watch] {
        let repository = open_as(&store, role);
        let report = run_check(&repository);
        assert_eq!(report.findings, [], "{role:?}");
        assert_eq!(report.unproven.is_empty(), role == Role::Read, "{:?}", report.unproven);
        assert_eq!(stats_of(&repository), full, "{role:?}");
        let damaged = memory_of(&store);
        damage(&*damaged, &data, Action::Flip);
        let key = SecretKey::from_bytes([role as u8 + 40; 32]);
        let repository =
            Repository::open(damaged, &Unlock::KeyFile(key), &CacheRoot::None).unwrap();
        let report = run_check(&repository);
        assert!(report.findings.iter().all(|finding| finding.key == data), "{role:?}");
        assert!(!report.is_ok() && !report.damaged_packs[0].blocks.is_empty(), "{role:?}");
        assert_eq!(report.affected.is_empty(), role != Role::Read);
    }
}

fn stats_of(repository: &Repository) -> Vec<esker::stats::SnapshotStats> {
    let snapshots = snapshots(repository);
    stats(repository, &snapshots, &Silent).unwrap().snapshots
}

/// A directory with enough names for many pages, and three states of it.
fn history() -> (Arc<dyn Store>, tempfile::TempDir, Vec<SnapshotId>) {
    let store: Arc<dyn Store> = Arc::new(OpendalStore::memory().unwrap());
    init(&store);
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    for sub in 0..40 {
        let sub = root.join(format!("d{sub:02}"));
        fs::create_dir_all(sub.join("deep/er")).unwrap();
        for file in 0..60 {
            fs::write(sub.join(format!("f{file:02}")), format!("{file}").repeat(file)).unwrap();
        }
        fs::write(sub.join("deep/er/leaf"), "leaf").unwrap();
    }
    fs::write(root.join("big"), noise("big", 1 << 20)).unwrap();
    // names around the byte that parts components
    for name in ["d05-x", "d05.y", "d05!", "d05\u{1}"] {
        fs::write(root.join(name), name).unwrap();
    }
    settle();
    let mut ids = vec![save(&store, root, "one", &["weekly", "all"], 1_000_000)];
    fs::write(root.join("d03/f07"), "changed").unwrap();
    fs::remove_file(root.join("d20/f10")).unwrap();
    fs::remove_dir_all(root.join("d31")).unwrap();
    fs::write(root.join("d33/new"), noise("new", 200_000)).unwrap();
    fs::set_permissions(root.join("d10/f01"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(root.join("d11/f01")).unwrap();
    fs::create_dir(root.join("d11/f01")).unwrap();
    settle();
    ids.push(save(&store, root, "one", &["all"], 2_000_000));
    fs::remove_file(root.join("d33/new")).unwrap();
    fs::write(root.join("big"), noise("other", 1 << 20)).unwrap();
    fs::write(root.join("d20/f10"), "back").unwrap();
    settle();
    ids.push(save(&store, root, "one", &["all"], 3_000_000));
    ids.push(save(&store, root, "two", &[], 4_000_000));
    (store, directory, ids)
}

/// What differs, the slow way.
fn simple_diff(before: &[Entry], after: &[Entry]) -> Vec<(Vec<u8>, ChangeKind)> {
    let map = |entries: &[Entry]| -> BTreeMap<Vec<u8>, Entry> {
        entries.iter().map(|entry| (entry.key.clone(), entry.clone())).collect()
    };
    let (before, after) = (map(before), map(after));
    let keys: BTreeSet<&Vec<u8>> = before.keys().chain(after.keys()).collect();
    let mut changes = Vec::new();
    for key in keys {
        let change = match (before.get(key), after.get(key)) {
            (Some(_), None) => ChangeKind::Removed,
            (None, _) => ChangeKind::Added,
            (Some(a), Some(b)) => {
                let (m, n) = (&a.metadata, &b.metadata);
                let kind = a.kind != b.kind;
                let content = !kind && (a.content != b.content || m.size != n.size);
                let metadata = !kind && (m.mode, m.mtime) != (n.mode, n.mtime);
                if !kind && !content && !metadata {
                    continue;
                }
                ChangeKind::Changed { content, metadata, kind }
            }
        };
        changes.push((key.clone(), change));
    }
    changes
}

#[test]
fn diff_says_what_a_slow_comparison_says() {
    let (store, _directory, ids) = history();
    let repository = open(&store);
    let of: HashMap<SnapshotId, Snapshot> =
        snapshots(&repository).into_iter().map(|snapshot| (snapshot.id, snapshot)).collect();
    for a in &ids {
        for b in &ids {
            let (a, b) = (&of[a], &of[b]);
            let mut changes = Vec::new();
            let sides = (Side { snapshot: a, key: None }, Side { snapshot: b, key: None });
            let totals = diff(&repository, sides.0, sides.1, &mut |change: Change| {
                changes.push((change.key, change.change));
            })
            .unwrap();
            let expected = simple_diff(&entries(&repository, a), &entries(&repository, b));
            assert_eq!(changes, expected);
            assert_eq!(totals.added + totals.removed + totals.changed, expected.len() as u64);
        }
    }
}

#[test]
fn diff_of_directories_compares_below_them_only() {
    let (store, directory, ids) = history();
    let repository = open(&store);
    let (a, b) = (snapshot(&repository, ids[0]), snapshot(&repository, ids[1]));
    let key = |name: &str| key_of_path(directory.path().join(name).to_str().unwrap().as_bytes());
    let changes = |a: (&Snapshot, &[u8]), b: (&Snapshot, &[u8])| {
        let mut changes = Vec::new();
        let (a, b) =
            (Side { snapshot: a.0, key: Some(a.1) }, Side { snapshot: b.0, key: Some(b.1) });
        diff(&repository, a, b, &mut |change: Change| changes.push(change)).map(|_| changes)
    };
    let here = key("d33");
    let same = changes((&a, &here), (&b, &here)).unwrap();
    let added: Vec<_> = same.iter().filter(|c| c.change == ChangeKind::Added).collect();
    assert_eq!(added.len(), 1);
    assert_eq!(added[0].key, key("d33/new"));
    assert_eq!(added[0].bytes_after, Some(200_000));
    // the same names and contents under another name: only times may differ
    for change in changes((&a, &key("d01")), (&a, &key("d02"))).unwrap() {
        assert!(matches!(change.change, ChangeKind::Changed { content: false, kind: false, .. }));
        assert!(change.key.starts_with(&key("d01")));
    }
    // neighbours that begin with the same letters are not below
    assert!(changes((&a, &key("d05")), (&b, &key("d05"))).unwrap().is_empty());
    assert!(changes((&a, &key("d05")), (&b, &key("none"))).is_err());
}

#[test]
fn diff_passes_over_pages_that_both_sides_share() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("file"), "the same").unwrap();
    settle();
    let counting = Arc::new(Counting::new(Arc::new(OpendalStore::memory().unwrap())));
    let store: Arc<dyn Store> = counting.clone();
    init(&store);
    let repository = open(&store);
    // below the root: the directory for temporary files changes while this runs
    let map = vec![(directory.path().to_owned(), "/tree".into())];
    let options = BackupOptions { map, ..options(directory.path()) };
    let take = || backup(&repository, &options, Vec::new(), &Silent).unwrap().snapshot.unwrap();
    let ids = [take(), take()];
    let (two, three) = (snapshot(&repository, ids[0]), snapshot(&repository, ids[1]));
    counting.reset();
    let side = |snapshot| Side { snapshot, key: None };
    diff(&repository, side(&two), side(&three), &mut |_| panic!("same tree")).unwrap();
    assert_eq!(counting.count(OperationKind::GetRange, "packs").calls, 0);
}

#[test]
fn a_listing_shows_children_only_or_all_that_is_below() {
    let (store, directory, ids) = history();
    let repository = open(&store);
    let first = snapshot(&repository, ids[0]);
    let all = entries(&repository, &first);
    let listed = |key: Option<&[u8]>, recursive: bool| {
        let mut keys = Vec::new();
        list(&repository, &first, key, recursive, &mut |line| {
            assert_eq!(line.entry.map(|entry| entry.key), Some(line.key.clone()));
            keys.push(line.key);
        })
        .map(|()| keys)
    };
    let directories = all.iter().filter(|entry| entry.kind == EntryKind::Directory);
    for entry in directories {
        let below: Vec<Vec<u8>> = all
            .iter()
            .filter(|other| other.key.starts_with(&[&entry.key[..], &[0]].concat()))
            .map(|other| other.key.clone())
            .collect();
        let children: Vec<Vec<u8>> =
            below.iter().filter(|key| !key[entry.key.len() + 1..].contains(&0)).cloned().collect();
        let name = String::from_utf8_lossy(&display_key(&entry.key)).into_owned();
        assert_eq!(listed(Some(&entry.key), true).unwrap(), below, "{name}");
        assert_eq!(listed(Some(&entry.key), false).unwrap(), children, "{name}");
    }
    assert_eq!(listed(None, false).unwrap(), [b"files".to_vec()]);
    assert_eq!(listed(None, true).unwrap().len(), all.len());
    let file = key_of_path(directory.path().join("big").to_str().unwrap().as_bytes());
    assert_eq!(listed(Some(&file), false).unwrap(), std::slice::from_ref(&file));
    assert!(listed(Some(b"files\0nowhere"), false).is_err());
}

#[test]
fn find_tells_when_each_version_appears_and_vanishes() {
    let (store, directory, ids) = history();
    let repository = open(&store);
    let all = snapshots(&repository);
    let all: Vec<&Snapshot> = all.iter().collect();
    let search = |patterns: &[&str], options: &FindOptions| {
        let patterns: Vec<String> = patterns.iter().map(|p| (*p).to_owned()).collect();
        let mut found: Vec<Found> = Vec::new();
        let report =
            find(&repository, &all, &patterns, options, &Silent, &mut |f| found.push(f.clone()));
        report.map(|report| {
            assert_eq!(report.snapshots, 4);
            assert_eq!(report.paths as usize, found.len());
            found
        })
    };
    let plain = FindOptions::default();
    let root = directory.path().to_str().unwrap();
    // gone in the second snapshot, back in the third
    let found = search(&[&format!("{root}/d20/f10")], &plain).unwrap();
    assert_eq!(found.len(), 2);
    let versions: Vec<_> =
        found[0].versions.iter().map(|v| (v.first, v.last, v.vanished)).collect();
    assert_eq!(versions, [(ids[0], ids[0], Some(ids[1])), (ids[2], ids[2], None)]);
    assert_eq!((found[1].host.as_str(), found[1].versions[0].first), ("two", ids[3]));
    // changed in the third
    let found = search(&["big"], &plain).unwrap();
    let versions: Vec<_> =
        found[0].versions.iter().map(|v| (v.first, v.last, v.snapshots, v.vanished)).collect();
    assert_eq!(versions, [(ids[0], ids[1], 2, Some(ids[2])), (ids[2], ids[2], 1, None)]);
    // in one snapshot only
    let found = search(&["new"], &plain).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].versions[0].facts.size, 200_000);
    assert_eq!(found[0].versions[0].vanished, Some(ids[2]));
    // kinds of patterns
    assert_eq!(search(&["LEAF"], &plain).unwrap().len(), 0);
    let careless = FindOptions { ignore_case: true, ..FindOptions::default() };
    assert_eq!(search(&["LEAF"], &careless).unwrap().len(), 40 + 39);
    assert_eq!(search(&["er/leaf"], &plain).unwrap().len(), 40 + 39);
    assert_eq!(search(&["/er/leaf"], &plain).unwrap().len(), 0);
    assert_eq!(search(&["d3?/*/er"], &plain).unwrap().len(), 10 + 9);
    let directories = FindOptions { kind: Some(EntryKind::Directory), ..FindOptions::default() };
    assert_eq!(search(&["f01"], &directories).unwrap().len(), 2);
    assert!(search(&["[a"], &plain).is_err() && search(&[""], &plain).is_err());
}

/// Raw bytes of each coordinate of a snapshot, the slow way.
fn coordinates(repository: &Repository, snapshot: &Snapshot) -> BTreeMap<Coordinate, u64> {
    let mut all = BTreeMap::new();
    repository
        .references(snapshot.manifest.references, &mut |reference| {
            let number = repository.index().pack_number(reference.pack).unwrap();
            let toc = repository.index().toc(number)?;
            for ordinal in reference.ordinals() {
                let length = toc.toc.chunks[usize::from(ordinal)].length;
                all.insert(toc.coordinate(ordinal), u64::from(length));
            }
            Ok(())
        })
        .unwrap();
    all
}

#[test]
fn stats_say_what_a_slow_count_says() {
    let (store, _directory, _) = history();
    let repository = open(&store);
    let snapshots = snapshots(&repository);
    let stats = stats(&repository, &snapshots, &Silent).unwrap();
    assert!(stats.troubles.is_empty());
    let sets: Vec<_> = snapshots.iter().map(|s| coordinates(&repository, s)).collect();
    let sum = |set: &BTreeMap<Coordinate, u64>, wanted: &dyn Fn(&Coordinate) -> bool| {
        let wanted = set.iter().filter(|(coordinate, _)| wanted(coordinate));
        wanted.fold((0, 0), |(chunks, raw), (_, length)| (chunks + 1, raw + length))
    };
    let facts = |usage: &Usage| (usage.chunks, usage.raw);
    for (at, counted) in stats.snapshots.iter().enumerate() {
        assert_eq!(counted.id, snapshots[at].id);
        let host = &snapshots[at].manifest.host;
        assert_eq!(facts(&counted.total), sum(&sets[at], &|_| true));
        let older = |c: &Coordinate| {
            (0..at).any(|o| snapshots[o].manifest.host == *host && sets[o].contains_key(c))
        };
        assert_eq!(facts(&counted.added), sum(&sets[at], &|c| !older(c)));
        let others = |c: &Coordinate| (0..sets.len()).any(|o| o != at && sets[o].contains_key(c));
        assert_eq!(facts(&counted.freed), sum(&sets[at], &|c| !others(c)));
        assert!(counted.total.stored > 0 && counted.total.unknown == 0);
    }
    let group = |members: &dyn Fn(&Snapshot) -> bool| {
        let inside = |at: usize| members(&snapshots[at]);
        let mut union = BTreeMap::new();
        (0..sets.len()).filter(|at| inside(*at)).for_each(|at| union.extend(sets[at].clone()));
        let outside =
            |c: &Coordinate| (0..sets.len()).any(|at| !inside(at) && sets[at].contains_key(c));
        (sum(&union, &|_| true), sum(&union, &|c| !outside(c)))
    };
    assert_eq!(stats.hosts.iter().map(|h| h.name.as_str()).collect::<Vec<_>>(), ["one", "two"]);
    for host in &stats.hosts {
        let expected = group(&|s| s.manifest.host == host.name);
        assert_eq!((facts(&host.total), facts(&host.freed)), expected);
    }
    assert_eq!(stats.tags.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["all", "weekly"]);
    for tag in &stats.tags {
        let expected = group(&|s| s.tags.contains(&tag.name));
        assert_eq!((facts(&tag.total), facts(&tag.freed)), expected);
    }
    let whole = &stats.repository;
    assert_eq!(facts(&whole.used), group(&|_| true).0);
    let blocks: u64 = repository
        .index()
        .packs()
        .iter()
        .filter(|(_, info)| info.kind != PackKind::Refs)
        .flat_map(|(number, _)| repository.index().toc(*number).unwrap().toc.blocks.clone())
        .map(|block| u64::from(block.stored_length))
        .sum();
    assert_eq!(whole.used.stored + whole.data.unused + whole.tree.unused, blocks);
    assert!(whole.segments >= 3 && whole.unlisted_packs == 0 && whole.refs.packs >= 3);
    let listed: u64 = store.list("").unwrap().iter().map(|l| l.length).sum();
    let kinds = whole.data.stored + whole.tree.stored + whole.refs.stored;
    assert_eq!(kinds + whole.index_bytes + whole.small_bytes, listed);
    // without a snapshot nothing is used
    let none = esker::stats::stats(&repository, &[], &Silent).unwrap().repository;
    assert_eq!(none.used, Usage::default());
}
