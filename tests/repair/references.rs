//! `check --refs`: sets that say too little or too much are told.

use std::collections::HashSet;

use esker::id::SnapshotId;
use esker::repository::coordinates::ReferenceSet;
use esker::repository::packer::with_packer;

use super::*;

/// Commits the tree of `from` once more, with another reference set.
fn commit_with(fixture: &Fixture, from: SnapshotId, set: &ReferenceSet) -> SnapshotId {
    let repository = open(&fixture.store);
    repository.sync_index(&Silent).unwrap();
    let (snapshots, _) = repository.snapshots().unwrap();
    let snapshot = snapshots.iter().find(|s| s.id == from).unwrap();
    let private = repository.private_part(snapshot).unwrap();
    let run = SnapshotId::random();
    with_packer(&repository, run, 1_000, 3, |packer, sealer| {
        let references = repository.store_references(set, &HashSet::new(), packer, sealer)?;
        packer.flush()?;
        repository.put_segments(&packer.take_put())?;
        let mut manifest = snapshot.manifest.clone();
        (manifest.id, manifest.references) = (run, references.root);
        let committed = repository.commit(manifest, &private, set, &references, &Silent)?;
        Ok(committed.ok().map(|manifest| manifest.id))
    })
    .unwrap()
    .unwrap()
}

fn set_of(fixture: &Fixture, id: SnapshotId) -> ReferenceSet {
    let repository = open(&fixture.store);
    repository.sync_index(&Silent).unwrap();
    let (snapshots, _) = repository.snapshots().unwrap();
    let snapshot = snapshots.iter().find(|s| s.id == id).unwrap();
    let mut set = ReferenceSet::default();
    repository
        .references(snapshot.manifest.references, &mut |reference| {
            set.add_reference(reference);
            Ok(())
        })
        .unwrap();
    set
}

#[test]
fn sets_that_name_too_little_or_too_much_are_told() {
    let fixture = Fixture::new();
    let first = fixture.save().snapshot.unwrap();
    fs::write(fixture.path().join("more"), noise("more", 50_000)).unwrap();
    settle();
    let second = fixture.save().snapshot.unwrap();
    let report = fixture.check();
    assert_eq!((report.findings, report.notes), (Vec::new(), Vec::new()));
    let (one, two) = (set_of(&fixture, first), set_of(&fixture, second));
    // the union names what the first tree does not reach; the set of the first
    // lacks what the second reaches
    let mut both = one.clone();
    two.references().for_each(|reference| both.add_reference(&reference));
    let much = commit_with(&fixture, first, &both);
    let little = commit_with(&fixture, second, &one);
    let report = fixture.check();
    let key = esker::format::manifest::manifest_key;
    let found: Vec<_> = report.findings.iter().map(|f| (f.key.clone(), f.rule)).collect();
    assert_eq!(found, [(key(little), Some("REF-3"))], "{report:#?}");
    let noted: Vec<_> = report.notes.iter().map(|f| (f.key.clone(), f.rule)).collect();
    assert!(noted.contains(&(key(much), Some("REF-4"))), "{report:#?}");
    assert!(noted.iter().all(|(key, _)| *key != esker::format::manifest::manifest_key(first)));
}
