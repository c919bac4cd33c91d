//! Whether nights of real backups look suspicious, told by nothing but their manifests.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use esker::backup::{BackupOptions, backup};
use esker::progress::Silent;
use esker::store::{OpendalStore, Store};
use esker::suspicion::{Thresholds, judge_newest};

const FILES: usize = 200;

/// A tree of 200 files of 40 KiB that is backed up every night, and after six of them usually 3 files a night changed.
struct Host {
    store: Arc<dyn Store>,
    tree: tempfile::TempDir,
    nights: u64,
}

impl Host {
    fn new() -> Host {
        let store: Arc<dyn Store> = Arc::new(OpendalStore::memory().unwrap());
        support::init(&store);
        let mut host = Host { store, tree: tempfile::tempdir().unwrap(), nights: 0 };
        for file in 0..FILES {
            fs::write(host.file(file), text(file, 0)).unwrap();
        }
        for night in 0..7 {
            for file in 0..3 {
                fs::write(host.file(night * 3 + file), text(file, night + 1)).unwrap();
            }
            assert_eq!(host.night(), [""; 0], "night {night}");
        }
        host
    }

    fn file(&self, number: usize) -> PathBuf {
        self.tree.path().join(format!("{number:03}"))
    }

    fn night(&mut self) -> Vec<String> {
        self.night_of(self.tree.path().to_owned().as_path())
    }

    fn night_of(&mut self, path: &Path) -> Vec<String> {
        support::settle();
        self.nights += 1;
        let repository = support::open(&self.store);
        let options = BackupOptions {
            time: Some(1_795_831_200_000 + self.nights * 86_400_000),
            ..support::options(path)
        };
        backup(&repository, &options, Vec::new(), &Silent).unwrap();
        let snapshots = repository.look_at_snapshots().unwrap().snapshots;
        assert_eq!(snapshots.len() as u64, self.nights);
        judge_newest(&snapshots, "host", "default", &Thresholds::default(), u64::MAX)
    }
}

/// Text that compresses as source code does, another for each number and version.
fn text(number: usize, version: usize) -> Vec<u8> {
    let mut text = String::new();
    while text.len() < 40 << 10 {
        let words = noise(number * 1000 + version, text.len());
        text.push_str(&format!("static int value_{} = {};\n", words[0] % 16, words[1]));
    }
    text.into_bytes()
}

fn noise(seed: usize, place: usize) -> [u8; 32] {
    *blake3::hash(format!("{seed} {place}").as_bytes()).as_bytes()
}

/// What ransomware leaves of a file: as long, and without any pattern.
fn encrypted(path: &Path) -> Vec<u8> {
    let mut bytes = vec![0; fs::read(path).unwrap().len()];
    let mut stream = blake3::Hasher::new();
    stream.update(path.as_os_str().as_encoded_bytes());
    stream.finalize_xof().fill(&mut bytes);
    bytes
}

#[test]
fn a_tree_encrypted_in_place_is_flagged_on_the_first_night() {
    let mut host = Host::new();
    for number in 0..FILES {
        let file = host.file(number);
        fs::write(&file, encrypted(&file)).unwrap();
    }
    let said = host.night();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].starts_with("200 of 200 files changed, 100 %, where 1.5 % are usual"),
        "{said:?}"
    );
}

/// A quiet run that is dated ahead of now would be the newest until then.
#[test]
fn a_run_that_is_dated_ahead_hides_nothing() {
    let mut host = Host::new();
    for number in 0..FILES {
        let file = host.file(number);
        fs::write(&file, encrypted(&file)).unwrap();
    }
    assert_eq!(host.night().len(), 1);
    assert_eq!(host.night(), [""; 0], "a quiet night");
    let snapshots = support::open(&host.store).look_at_snapshots().unwrap().snapshots;
    let newest = snapshots.last().unwrap().manifest.started;
    let until = |time| judge_newest(&snapshots, "host", "default", &Thresholds::default(), time);
    assert_eq!(until(newest - 1).len(), 1);
}

#[test]
fn a_tree_encrypted_under_other_names_is_flagged() {
    let mut host = Host::new();
    for number in 0..FILES {
        let file = host.file(number);
        fs::write(file.with_extension("locked"), encrypted(&file)).unwrap();
        fs::remove_file(&file).unwrap();
    }
    let said = host.night();
    assert!(said[0].starts_with("200 of 200 files are gone, 100 %"), "{said:?}");
}

/// On a host where enough changes every night for compression to be known.
#[test]
fn a_part_that_is_encrypted_is_flagged_by_how_it_compresses() {
    let mut host = Host::new();
    for night in 0..6 {
        for file in 0..40 {
            fs::write(host.file(file), text(file, 100 + night)).unwrap();
        }
        assert_eq!(host.night(), [""; 0], "night {night}");
    }
    for number in 0..FILES * 11 / 20 {
        let file = host.file(number);
        if number % 2 == 0 {
            fs::write(&file, encrypted(&file).repeat(2)).unwrap();
        }
    }
    let said = host.night();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("could hardly be compressed"), "{said:?}");
}

#[test]
fn a_point_release_and_an_upgrade_are_not_flagged() {
    let mut host = Host::new();
    for number in 0..6 {
        fs::write(host.file(number * 7), text(number, 50)).unwrap();
    }
    assert_eq!(host.night(), [""; 0], "3 % changed");
    for number in 0..40 {
        fs::write(host.file(number * 5), text(number, 60)).unwrap();
    }
    for number in 0..10 {
        fs::write(host.file(FILES + number), text(FILES + number, 0)).unwrap();
        fs::remove_file(host.file(number * 5 + 1)).unwrap();
    }
    assert_eq!(host.night(), [""; 0], "20 % changed, 5 % came and went");
}

#[test]
fn another_source_is_no_deletion() {
    let mut host = Host::new();
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("a"), "a").unwrap();
    assert_eq!(host.night_of(other.path()), [""; 0]);
}
