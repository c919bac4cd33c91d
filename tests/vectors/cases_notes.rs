//! Cases of manifests, sessions, confirmations, marks, sweeps and records.

use esker::format::cbor::Value as Cbor;
use esker::format::content::Root;
use esker::format::manifest::{
    CopiedFrom, Counts, Failure, Manifest, Outcome, PrivatePart, Promises, Set, Source,
};
use esker::format::notes::{Confirmation, Mark, MarkKind, Record, Session, SessionState, Sweep};
use esker::id::{ChunkId, ObjectHash, PackId, RepositoryId, SnapshotId, WriterId, hex};
use serde_json::{Value, json};

use crate::cases_objects::{field, map_cases, uint, with, with_first};
use crate::{Case, ok, reject};

fn inputs(bytes: &[u8]) -> Value {
    json!({ "bytes": hex(bytes) })
}

const ID: SnapshotId = SnapshotId([0x5a; 16]);
const WRITER: WriterId = WriterId([0x77; 16]);

fn small_manifest() -> Manifest {
    Manifest {
        id: ID,
        outcome: Outcome::Complete,
        started: 1_790_000_000_000,
        ended: 1_790_000_060_000,
        zone: "Europe/Berlin".into(),
        host: "harbour".into(),
        profile: String::new(),
        sources: vec![Source {
            label: "0123456789abcdef".into(),
            outcome: Outcome::Complete,
            required: true,
        }],
        writer: WRITER,
        set: None,
        tags: Vec::new(),
        expires: None,
        promises: Promises::default(),
        counts: Counts::default(),
        parent: None,
        replaces: None,
        copied_from: None,
        references: Root { id: ChunkId([0x61; 32]), level: 0 },
        program: "esker 0.1.0".into(),
        kept: Vec::new(),
    }
}

fn full_manifest() -> Manifest {
    Manifest {
        outcome: Outcome::Partial,
        profile: "nightly".into(),
        set: Some(Set {
            name: "cluster".into(),
            parts: vec!["one".into(), "two".into()],
            part: "two".into(),
            system: Some(7_123_456_789),
            writers: vec![WRITER, WriterId([0x78; 16])],
        }),
        tags: vec!["weekly".into()],
        expires: Some(1_800_000_000_000),
        promises: Promises {
            maximum_age: Some(86_400),
            drill_interval: None,
            check_interval: Some(604_800),
        },
        counts: Counts {
            files: 1,
            directories: 2,
            others: 3,
            bytes: 1 << 40,
            files_new: 5,
            files_changed: 6,
            files_unchanged: 7,
            bytes_added: 8,
            bytes_stored: 9,
            failures: 10,
            notes: 11,
        },
        parent: Some(SnapshotId([1; 16])),
        replaces: Some(SnapshotId([2; 16])),
        copied_from: Some(CopiedFrom {
            repository: RepositoryId([3; 16]),
            snapshot: SnapshotId([4; 16]),
            writer: WriterId([5; 16]),
        }),
        references: Root { id: ChunkId([0x61; 32]), level: 16 },
        ..small_manifest()
    }
}

fn full_private_part() -> PrivatePart {
    let failure = |path: &[u8]| Failure { path: path.into(), reason: "permission denied".into() };
    PrivatePart {
        tree: Root { id: ChunkId([0x62; 32]), level: 1 },
        paths: vec![b"/etc".to_vec(), b"/srv/\xff".to_vec()],
        exclusions: vec!["*.tmp".into()],
        failures: vec![failure(b"/etc/shadow")],
        notes: vec![failure(b"/srv/x")],
        filesystems: vec![b"/dev/sda1".to_vec()],
        profile: Some("[profile]".into()),
        restore_commands: vec!["esker restore".into()],
        kept: Vec::new(),
    }
}

pub fn manifest() -> Vec<Case> {
    let (small, full) = (small_manifest().encode(), full_manifest().encode());
    let mut cases = vec![
        ok("manifest", "small", inputs(&small), json!({})),
        ok("manifest", "every field", inputs(&full), json!({})),
        ok("manifest", "arrays absent are empty", inputs(&with(&small, 11, None)), json!({})),
    ];
    map_cases(&mut cases, "manifest", "MAN-1", &small, inputs, &json!({}));
    let mut bad = |rule, name: &str, bytes: &[u8]| {
        cases.push(reject("manifest", rule, name, inputs(bytes), json!({})));
    };
    let root =
        |id: usize, level: u64| Some(Cbor::Array(vec![Cbor::Bytes(vec![1; id]), level.into()]));
    bad("MAN-1", "no host", &with(&small, 6, None));
    bad("MAN-1", "host is bytes", &with(&small, 6, Some(Cbor::Bytes(b"x".into()))));
    bad("MAN-1", "id of 17 bytes", &with(&small, 1, Some(Cbor::Bytes(vec![0; 17]))));
    bad("MAN-1", "no counts", &with(&small, 14, None));
    let Cbor::Map(counts) = field(&small, 14) else { panic!() };
    let fewer = Cbor::Map(counts[..10].to_vec());
    bad("MAN-1", "a count is missing", &with(&small, 14, Some(fewer)));
    let no_required = with_first(&small, 8, |source| with(source, 3, None));
    bad("MAN-1", "a source without required", &no_required);
    let number = with_first(&small, 8, |source| with(source, 3, uint(1)));
    bad("MAN-1", "required is a number", &number);
    let tags = vec![Cbor::Text(String::new()); 1025];
    bad("MAN-1", "1025 tags", &with(&small, 11, Some(Cbor::Array(tags))));
    bad(
        "MAN-1",
        "three items in the root",
        &with(&small, 18, Some(Cbor::Array(vec![0u64.into(); 3]))),
    );
    bad("MAN-2", "no root", &with(&small, 18, None));
    bad("MAN-2", "root id of 31 bytes", &with(&small, 18, root(31, 0)));
    bad("MAN-2", "root of level 17", &with(&small, 18, root(32, 17)));
    bad("MAN-2", "root of level 256", &with(&small, 18, root(32, 256)));
    bad("MAN-3", "outcome 0", &with(&small, 2, uint(0)));
    bad("MAN-3", "outcome failed", &with(&small, 2, uint(3)));
    let source = with_first(&small, 8, |source| with(source, 2, uint(4)));
    bad("MAN-3", "outcome 4 of a source", &source);
    bad("MAN-4", "ended before it started", &with(&small, 4, uint(1)));
    let set = |writers: Cbor| {
        let Cbor::Map(mut set) = field(&full, 10) else { panic!() };
        set.retain(|(key, _)| *key != 5);
        set.push((5, writers));
        with(&full, 10, Some(Cbor::Map(set)))
    };
    let short = Cbor::Array(vec![Cbor::Bytes(vec![0; 15])]);
    bad("MAN-1", "a set's writer of 15 bytes", &set(short));
    bad("MAN-1", "a set's writers are one", &set(Cbor::Bytes(vec![0; 16])));
    let many = Cbor::Array(vec![Cbor::Bytes(vec![]); 65_537]);
    bad("MAN-1", "65,537 writers of a set", &set(many));
    cases.extend(private_parts());
    cases
}

fn private_parts() -> Vec<Case> {
    let full = full_private_part().encode();
    let mut cases = vec![ok("private_part", "every field", inputs(&full), json!({}))];
    map_cases(&mut cases, "private_part", "MAN-1", &full, inputs, &json!({}));
    let mut bad = |rule, name: &str, bytes: &[u8]| {
        cases.push(reject("private_part", rule, name, inputs(bytes), json!({})));
    };
    bad("MAN-2", "no tree", &with(&full, 1, None));
    let text = Cbor::Array(vec!["/etc".into()]);
    bad("MAN-1", "a path is a text", &with(&full, 2, Some(text)));
    let no_reason = with_first(&full, 4, |failure| with(failure, 2, None));
    bad("MAN-1", "a failure without reason", &no_reason);
    let many = vec![Cbor::parse(&failure_map()).unwrap(); 10_001];
    bad("MAN-1", "10,001 notes", &with(&full, 5, Some(Cbor::Array(many))));
    cases
}

fn failure_map() -> Vec<u8> {
    Cbor::Map(vec![(1, Cbor::Bytes(vec![])), (2, "".into())]).encode()
}

pub fn notes() -> Vec<Case> {
    let mut cases = sessions();
    cases.extend(confirmations_and_sweeps());
    cases.extend(marks());
    cases.extend(records());
    cases
}

fn sessions() -> Vec<Case> {
    let session = Session {
        state: SessionState::Failed,
        time: 1_790_000_000_000,
        host: "harbour".into(),
        boot: "5ad9".into(),
        process: 4242,
        profile: "nightly".into(),
        packs: 3,
        bytes: 100_000_000,
        code: Some(1),
        machine: Some("0a1b2c".into()),
        kept: Vec::new(),
    };
    let bytes = session.encode();
    let mut cases = vec![
        ok("session", "failed", inputs(&bytes), json!({})),
        ok("session", "started", inputs(&with(&with(&bytes, 1, uint(1)), 9, None)), json!({})),
        ok("session", "machine not known", inputs(&with(&bytes, 10, None)), json!({})),
    ];
    map_cases(&mut cases, "session", "SES-1", &bytes, inputs, &json!({}));
    for (name, bytes) in [
        ("state 0", with(&bytes, 1, uint(0))),
        ("state 5", with(&bytes, 1, uint(5))),
        ("state 257", with(&bytes, 1, uint(257))),
        ("no boot", with(&bytes, 4, None)),
        ("machine that is a number", with(&bytes, 10, uint(7))),
    ] {
        cases.push(reject("session", "SES-1", name, inputs(&bytes), json!({})));
    }
    cases
}

fn confirmations_and_sweeps() -> Vec<Case> {
    let confirmation =
        Confirmation { manifest: ObjectHash([0x5b; 32]), time: 5, kept: Vec::new() }.encode();
    let mut cases = vec![ok("confirmation", "good", inputs(&confirmation), json!({}))];
    map_cases(&mut cases, "confirmation", "CFM-1", &confirmation, inputs, &json!({}));
    let short = with(&confirmation, 1, Some(Cbor::Bytes(vec![0; 31])));
    cases.push(reject("confirmation", "CFM-1", "hash of 31 bytes", inputs(&short), json!({})));
    let sweep = Sweep {
        manifests: vec![ID],
        packs: vec![PackId([2; 32]), PackId([1; 32])],
        time: 5,
        kept: Vec::new(),
    }
    .encode();
    cases.push(ok("sweep", "one manifest, two packs", inputs(&sweep), json!({})));
    let nothing = with(&with(&sweep, 1, None), 2, None);
    cases.push(ok("sweep", "nothing", inputs(&nothing), json!({})));
    map_cases(&mut cases, "sweep", "SWP-1", &sweep, inputs, &json!({}));
    let long = with(&sweep, 2, Some(Cbor::Array(vec![Cbor::Bytes(vec![0; 33])])));
    cases.push(reject("sweep", "SWP-1", "pack id of 33 bytes", inputs(&long), json!({})));
    cases
}

fn marks() -> Vec<Case> {
    let mark = |kind| Mark { kind, time: 5, kept: Vec::new() }.encode();
    let forget = mark(MarkKind::Forget);
    let mut cases: Vec<Case> = [
        ("forget", forget.clone()),
        ("undo", mark(MarkKind::Undo)),
        ("name", mark(MarkKind::Name("monday".into()))),
        ("description", mark(MarkKind::Description("before the move".into()))),
        ("tags", mark(MarkKind::Tags { add: vec!["a".into()], remove: vec!["b".into()] })),
        ("pin", mark(MarkKind::Pin(true))),
        ("unpin", mark(MarkKind::Pin(false))),
        ("damaged", mark(MarkKind::Damaged(vec![PackId([1; 32])]))),
    ]
    .map(|(name, bytes)| ok("mark", name, inputs(&bytes), json!({})))
    .into();
    map_cases(&mut cases, "mark", "MARK-1", &forget, inputs, &json!({}));
    let mut bad = |rule, name: &str, bytes: &[u8]| {
        cases.push(reject("mark", rule, name, inputs(bytes), json!({})));
    };
    bad("MARK-1", "forget with a text", &with(&forget, 3, Some("x".into())));
    bad("MARK-1", "name without text", &with(&forget, 1, uint(3)));
    bad("MARK-1", "pin that is a number", &with(&with(&forget, 1, uint(6)), 6, uint(1)));
    bad("MARK-1", "no time", &with(&forget, 2, None));
    bad("MARK-1", "mark 256", &with(&forget, 1, uint(256)));
    bad("MARK-2", "mark 0", &with(&forget, 1, uint(0)));
    bad("MARK-2", "mark 8", &with(&forget, 1, uint(8)));
    let damaged =
        with(&with(&forget, 1, uint(7)), 7, Some(Cbor::Array(vec![Cbor::Bytes(vec![0; 16])])));
    bad("MARK-1", "damaged pack id of 16 bytes", &damaged);
    cases
}

fn records() -> Vec<Case> {
    let record = Record {
        kind: "prune".into(),
        started: 5,
        ended: 6,
        host: "harbour".into(),
        code: 0,
        extent: "all packs".into(),
        snapshots: vec![ID],
        counts: vec![("packs".into(), 3), ("bytes".into(), 1 << 33)],
        kept: Vec::new(),
    }
    .encode();
    let mut cases = vec![ok("record", "prune", inputs(&record), json!({}))];
    map_cases(&mut cases, "record", "REC-1", &record, inputs, &json!({}));
    let counts = |items: Vec<Cbor>| with(&record, 8, Some(Cbor::Array(vec![Cbor::Array(items)])));
    for (name, bytes) in [
        ("count without number", counts(vec!["packs".into()])),
        ("count of three", counts(vec!["packs".into(), 1u64.into(), 2u64.into()])),
        ("number before name", counts(vec![1u64.into(), "packs".into()])),
        ("no extent", with(&record, 6, None)),
        ("of an unknown kind", with(&record, 1, Some("walk".into()))),
        ("of a kind in upper case", with(&record, 1, Some("PRUNE".into()))),
        (
            "snapshot id of 15 bytes",
            with(&record, 7, Some(Cbor::Array(vec![Cbor::Bytes(vec![0; 15])]))),
        ),
    ] {
        cases.push(reject("record", "REC-1", name, inputs(&bytes), json!({})));
    }
    cases
}
