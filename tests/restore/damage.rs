//! What the repository cannot give back is named, and all else is restored.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use esker::progress::Silent;
use esker::repository::ErrorKind;
use esker::restore::{RestoreOptions, RestoreOutcome, dump, plan_delete, restore};

use super::{Fixture, key, random_bytes};

const FILES: u64 = 12;

/// Files of a few blocks each, in data packs.
fn saved() -> Fixture {
    let fixture = Fixture::new();
    for number in 0..FILES {
        let path = fixture.source().join(format!("f{number:02}"));
        fs::write(path, random_bytes(number, 1 << 20)).unwrap();
    }
    fixture.save();
    fixture
}

fn flip(path: &Path, offset: u64) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

/// Which files are there, each checked to be whole.
fn whole_files(fixture: &Fixture, out: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(out).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let same = fs::read(out.join(&name)).unwrap()
            == fs::read(fixture.source().join(&name)).unwrap_or_default();
        assert!(same, "{name}");
        names.push(name);
    }
    names.sort();
    names
}

#[test]
fn a_damaged_block_costs_the_files_in_it_and_no_other() {
    let fixture = saved();
    let packs = fixture.packs(1);
    flip(&packs[0], 5 << 20);
    let report = fixture.restore(&fixture.options("out"));
    assert_eq!(report.outcome(), RestoreOutcome::Damage);
    assert!((1..=3).contains(&report.damaged.len()), "{:?}", report.damaged);
    let whole = whole_files(&fixture, &fixture.path("out"));
    assert_eq!(whole.len() + report.damaged.len(), FILES as usize);
    for damaged in &report.damaged {
        let path = String::from_utf8(damaged.path.clone()).unwrap();
        assert!(path.starts_with(fixture.path("out").to_str().unwrap()));
        assert!(!Path::new(&path).exists());
    }
}

#[test]
fn an_existing_file_outlives_damage_to_its_new_content() {
    let fixture = saved();
    let out = fixture.path("out");
    fs::create_dir(&out).unwrap();
    for number in 0..FILES {
        fs::write(out.join(format!("f{number:02}")), "what was there").unwrap();
    }
    for pack in fixture.packs(1) {
        fs::remove_file(pack).unwrap();
    }
    let report = fixture.restore(&fixture.options("out"));
    assert_eq!(report.damaged.len(), FILES as usize);
    for number in 0..FILES {
        let text = fs::read_to_string(out.join(format!("f{number:02}"))).unwrap();
        assert_eq!(text, "what was there");
    }
}

#[test]
fn a_long_existing_file_half_written_is_renamed() {
    let fixture = Fixture::new();
    fs::write(fixture.source().join("long"), random_bytes(1, 24 << 20)).unwrap();
    fixture.save();
    flip(&fixture.packs(1)[0], 9 << 20);
    let out = fixture.path("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("long"), "x".repeat(1 << 20)).unwrap();
    let report = fixture.restore(&fixture.options("out"));
    assert_eq!(report.damaged.len(), 1);
    assert!(!out.join("long").exists());
    let marked = fs::read(out.join("long.esker-damaged")).unwrap();
    // cut where the first piece is missing: no zeros stand for it
    assert!(marked.len() < 24 << 20);
    let zeros = marked.windows(64).any(|bytes| bytes.iter().all(|byte| *byte == 0));
    assert!(!zeros);
}

#[test]
fn a_damaged_tree_page_is_told_and_forbids_deletion() {
    let fixture = saved();
    let pack = fixture.packs(2).remove(0);
    flip(&pack, 100);
    let repository = fixture.open();
    let snapshot = fixture.newest(&repository);
    let options = RestoreOptions { target: fixture.path("out"), ..Default::default() };
    let report = restore(&repository, &snapshot, &options, &Silent).unwrap();
    assert_eq!((report.damaged.len(), report.outcome()), (1, RestoreOutcome::Nothing));
    let error = plan_delete(&repository, &snapshot, &options, &Silent).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Damage);
}

/// What would go is kept while what should take its place is lost; what there is comes back all the same where nothing
/// goes for it.
#[test]
fn nothing_is_deleted_when_data_is_missing() {
    let fixture = saved();
    let out = fixture.path("out");
    fixture.restore(&fixture.options("out"));
    fs::write(out.join("extra"), "x").unwrap();
    fs::remove_file(out.join("f00")).unwrap();
    let packs: Vec<_> =
        fixture.packs(1).into_iter().map(|pack| (fs::read(&pack).unwrap(), pack)).collect();
    packs.iter().for_each(|(_, pack)| fs::remove_file(pack).unwrap());
    let repository = fixture.open();
    let snapshot = fixture.newest(&repository);
    let options = RestoreOptions { delete: true, ..fixture.options("out") };
    let error = restore(&repository, &snapshot, &options, &Silent).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Damage);
    assert!(error.message.contains("its data is missing"), "{}", error.message);
    assert!(error.message.contains("nothing was deleted or written"), "{}", error.message);
    assert!(out.join("extra").exists() && !out.join("f00").exists());

    let report = fixture.restore(&fixture.options("out"));
    assert_eq!((report.outcome(), report.deleted), (RestoreOutcome::Damage, 0));
    assert!(out.join("extra").exists());
    let new = RestoreOptions { delete: true, ..fixture.options("new") };
    assert_eq!(fixture.restore(&new).damaged.len(), FILES as usize);

    packs.iter().for_each(|(bytes, pack)| fs::write(pack, bytes).unwrap());
    let report = fixture.restore(&options);
    assert_eq!((report.outcome(), report.deleted), (RestoreOutcome::Complete, 1));
}

#[test]
fn a_dump_ends_where_the_damage_is() {
    let fixture = Fixture::new();
    let long_path = fixture.source().join("long");
    let bytes = random_bytes(1, 24 << 20);
    // two workers fill a pack, so the order of its blocks is only roughly the
    // file's; what a later snapshot adds lies in packs of its own
    fs::write(&long_path, &bytes[..12 << 20]).unwrap();
    fixture.save();
    let first = fixture.packs(1);
    fs::write(&long_path, &bytes).unwrap();
    fixture.save();
    let added = fixture.packs(1).into_iter().find(|pack| !first.contains(pack)).unwrap();
    flip(&added, 3 << 20);
    let repository = fixture.open();
    let mut out = Vec::new();
    let long = key(&long_path);
    let error =
        dump(&repository, &fixture.newest(&repository), &long, &mut out, &Silent).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Damage);
    assert!((11 << 20..24 << 20).contains(&out.len()), "{} bytes", out.len());
    assert!(bytes.starts_with(&out));
}
