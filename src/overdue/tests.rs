//! Remarks on made-up snapshots and records.

use super::*;
use crate::config;
use crate::format::notes::Record;
use crate::id::WriterId;
use crate::status::{SnapshotStatus, groups};

const DAY: u64 = 86_400_000;

fn all(text: &str) -> Vec<Expected> {
    let loaded = config::parse(Path::new("esker.toml"), text.to_owned()).sound().unwrap();
    loaded.profiles().iter().flat_map(|profile| expected(profile, "here", None)).collect()
}

fn web() -> Expected {
    all("[profiles.web]\nrepositories = ['/main', '/usb disk']\n\
         sources = [{ paths = ['/data'] }]\n\
         promises = { maximum_age = '1d', drill = '30d', check = '7d', prune = '7d' }\n\
         copy = [{ to = '/far', every = '7d' }]\n")
    .remove(1)
}

/// An empty repository with these records: kind, days ago, exit code.
fn seen(records: &[(&str, u64, u64)]) -> Seen {
    let now = 1000 * DAY;
    let record = |(kind, days, code): &(&str, u64, u64)| Recorded {
        key: String::new(),
        id: String::new(),
        writer: WriterId([0; 16]),
        by_revoked: false,
        has_log: false,
        record: Record {
            kind: (*kind).to_owned(),
            started: now - days * DAY,
            ended: now - days * DAY,
            host: "elsewhere".to_owned(),
            code: *code,
            extent: "snapshots of here/web".to_owned(),
            snapshots: Vec::new(),
            counts: Vec::new(),
            kept: Vec::new(),
        },
    };
    let (snapshots, runs) = (Vec::new(), Vec::new());
    let (unbelieved, troubles) = (Vec::new(), Vec::new());
    Seen {
        overview: Overview { snapshots, runs, unbelieved, troubles, now },
        records: Some(records.iter().map(record).collect()),
        snapshots: Vec::new(),
        revoked: HashSet::new(),
    }
}

/// Of here/web, complete and begun then, in days from the time of `seen`.
fn snapshot(id: u8, days: i64) -> Snapshot {
    let started = (1000 * DAY).checked_add_signed(days * DAY as i64).unwrap();
    Snapshot::example([id; 16], "here", "web", started)
}

/// What is amiss with here/web, with snapshots begun on these days.
fn amiss(snapshots: &[i64], records: &[(&str, u64, u64)], expected: &Expected) -> Vec<Remark> {
    amiss_of(snapshots, seen(records), expected)
}

fn amiss_of(snapshots: &[i64], mut seen: Seen, expected: &Expected) -> Vec<Remark> {
    for (number, days) in snapshots.iter().enumerate() {
        let snapshot = snapshot(number as u8, *days);
        seen.snapshots.push(snapshot.clone());
        let status = Status::Complete;
        let (run, set_lacks, current) = (None, None, true);
        let told = SnapshotStatus { snapshot, status, run, set_lacks, current };
        seen.overview.snapshots.push(told);
    }
    let groups = groups(&seen.overview);
    judge(expected, groups.iter().find(|group| group.profile == "web"), &seen)
}

fn lacks(remarks: &[Remark]) -> Vec<Lack> {
    remarks.iter().map(|remark| remark.lack).collect()
}

/// A clock was ten years ahead, once.
#[test]
fn a_snapshot_from_the_future_hides_nothing_and_is_told() {
    let promised = Promised { maximum_age: Some(DAY), ..Promised::default() };
    let web = Expected { promised, ..web() };
    let of = |days: &[i64]| amiss(days, &[], &web);
    assert_eq!(lacks(&of(&[0])), []);
    assert_eq!(lacks(&of(&[-3])), [Lack::TooOld]);
    let remarks = of(&[-3, 3650]);
    assert_eq!(lacks(&remarks), [Lack::TooOld, Lack::Ahead]);
    assert!(remarks[0].sentence.contains("3 d old"), "{}", remarks[0].sentence);
    assert!(remarks[1].sentence.contains("3,650 d from now"), "{}", remarks[1].sentence);
    assert_eq!(remarks[1].command, "esker -r '/usb disk' forget 01010101 --i-trust-this-clock");
    assert_eq!(lacks(&of(&[0, 3650])), [Lack::Ahead]);
    assert_eq!(lacks(&of(&[3650])), [Lack::NoSnapshot, Lack::Ahead]);
}

#[test]
fn what_is_noted_for_a_time_to_come_was_not_done() {
    let ahead = Some(1000 * DAY + DAY);
    let last = Last { drill: ahead, check: ahead, prune: ahead, ..Last::default() };
    check(&[("check", 8, 0)], last, &[Lack::Check]);
    let mut of_then = seen(&[("drill", 0, 0), ("check", 0, 0), ("check", 8, 0)]);
    for recorded in of_then.records.iter_mut().flatten().take(2) {
        recorded.record.ended = 2000 * DAY;
    }
    assert_eq!(lacks(&judge(&web(), None, &of_then)), [Lack::NoSnapshot, Lack::Check]);
    let spare = all("[profiles.spare]\nkind = 'standby'\nrepositories = ['/main']\n\
         standby = { host = 'here', profile = 'web', target = '/there' }\n\
         promises = { maximum_age = '2h' }\n")
    .remove(0);
    let spare = |taken| Expected { last: Last { taken, ..Last::default() }, ..spare.clone() };
    assert_eq!(lacks(&amiss(&[0], &[], &spare(Some(1000 * DAY)))), []);
    assert_eq!(lacks(&amiss(&[0], &[], &spare(ahead))), [Lack::Behind]);
}

/// A hook that fails, a dump that cannot begin: nothing was taken, and no session tells of it.
#[test]
fn a_run_that_failed_before_its_first_sign_is_told_by_its_record() {
    let web = Expected { promised: Promised::default(), ..web() };
    let of = |days: &[i64], code| {
        let mut seen = seen(&[("run", 2, code)]);
        for recorded in seen.records.iter_mut().flatten() {
            recorded.record.extent = run_of("here", "web");
        }
        amiss_of(days, seen, &web)
    };
    let remarks = of(&[-3], 1);
    assert_eq!(lacks(&remarks), [Lack::Unconfirmed]);
    let said = "the last run, begun 2 d ago, ended with exit code 1 and took no snapshot";
    assert_eq!((&*remarks[0].sentence, &*remarks[0].command), (said, "esker run web"));
    assert_eq!(lacks(&of(&[], 1)), [Lack::NoSnapshot, Lack::Unconfirmed]);
    assert_eq!(lacks(&of(&[-3], 0)), []);
    assert_eq!(lacks(&of(&[-3, -2], 1)), []);
    assert_eq!(lacks(&of(&[-3, 3650], 1)), [Lack::Ahead, Lack::Unconfirmed]);
    // of another profile
    assert_eq!(lacks(&amiss(&[-3], &[("run", 2, 1)], &web)), []);
}

/// A login that may not read records: what they would tell is not held to be well, nor to be missing.
#[test]
fn without_records_what_was_promised_cannot_be_judged() {
    let promised = Promised { drill: Some(30 * DAY), check: Some(7 * DAY), ..Promised::default() };
    let of = |promised, last| {
        let unread = Seen { records: None, ..seen(&[]) };
        amiss_of(&[-9, 0], unread, &Expected { promised, last, ..web() })
    };
    let none = Last::default();
    let remarks = of(promised, none);
    assert_eq!(lacks(&remarks), [Lack::Drill, Lack::Check]);
    let unread = |remark: &Remark| remark.sentence.contains("records of this repository cannot");
    assert!(remarks.iter().all(unread), "{remarks:?}");
    assert_eq!(lacks(&of(Promised { check: None, ..promised }, none)), [Lack::Drill]);
    assert_eq!(lacks(&of(Promised::default(), none)), []);
    // what this machine did by itself it knows
    let today = Some(1000 * DAY);
    assert_eq!(lacks(&of(promised, Last { drill: today, check: today, ..none })), []);
}

/// Nothing was ever saved to it: it was copied to.
#[test]
fn a_removable_copy_was_there_when_it_was_copied_to_last() {
    let directory = tempfile::tempdir().unwrap();
    let mut done = Done::read(directory.path(), "web");
    done.done("copy", "/far", 5).unwrap();
    done.done("snapshot", "/main", 7).unwrap();
    let memory = Memory::read(directory.path(), "web");
    assert_eq!(memory.of("/far", Written::Copy).snapshot, Some(5));
    assert_eq!(memory.of("/main", Written::Profile).snapshot, Some(7));
}

fn check(records: &[(&str, u64, u64)], last: Last, lacks: &[Lack]) {
    let expected = Expected { last, ..web() };
    let remarks = judge(&expected, None, &seen(records));
    let found: Vec<Lack> = remarks.iter().map(|remark| remark.lack).collect();
    assert_eq!(found, [&[Lack::NoSnapshot], lacks].concat(), "{records:?}");
}

#[test]
fn a_profile_is_held_to_its_promises_in_every_repository() {
    let all = all("[profiles.base]\nkind = 'template'\npromises = { maximum_age = '26h' }\n\
         [profiles.web]\nextends = ['base']\nrepositories = ['/main', '/usb']\n\
         sources = [{ paths = ['/data'] }]\ncopy = [{ to = '/far', every = '7d' }]\n");
    let of = |name: &str| all.iter().find(|e| e.repository.as_deref() == Some(name)).unwrap();
    assert_eq!(all.len(), 3);
    assert_eq!((&*of("/main").host, &*of("/main").profile), ("here", "web"));
    assert_eq!(of("/usb").promised.maximum_age, Some(26 * 3_600_000));
    assert_eq!(of("/far").promised.maximum_age, Some(26 * 3_600_000 + 7 * DAY));
    assert_eq!(of("/far").written, Written::Copy);
}

#[test]
fn what_was_done_lately_and_well_is_not_overdue() {
    let none = Last::default();
    check(&[], none, &[]);
    check(&[("drill", 29, 0), ("check", 6, 0), ("prune", 6, 0)], none, &[]);
    check(
        &[("drill", 31, 0), ("check", 8, 0), ("prune", 8, 0)],
        none,
        &[Lack::Drill, Lack::Check, Lack::Prune],
    );
    check(&[("check", 3, 0), ("check", 1, 20)], none, &[Lack::Check]);
    check(&[("check", 3, 20), ("check", 1, 0)], none, &[]);
    check(&[("check", 8, 0)], Last { check: Some(999 * DAY), ..none }, &[]);
}

#[test]
fn a_removable_repository_may_be_away_for_as_long_as_its_promise_holds() {
    let now = 1000 * DAY;
    let away = |expected: &Expected, is_removable| expected.away("gone", is_removable, now);
    let mut expected = web();
    assert!(away(&expected, false).is_some() && away(&expected, true).is_some());
    expected.last.snapshot = Some(now - DAY / 2);
    assert!(away(&expected, false).is_some() && away(&expected, true).is_none());
    expected.last.snapshot = Some(now - 2 * DAY);
    let said = away(&expected, true).unwrap();
    assert!(said.sentence.contains("48 h ago") || said.sentence.contains("2 d ago"));
    expected.last.snapshot = Some(now + 3650 * DAY);
    assert!(away(&expected, true).unwrap().sentence.contains("yet to come"));
    expected.promised.maximum_age = None;
    assert!(away(&expected, true).is_none());
}

/// What is printed can be pasted.
#[test]
fn commands_are_quoted() {
    let expected = web();
    assert_eq!(expected.command(Lack::Check, None), "esker -r '/usb disk' check");
    assert_eq!(expected.command(Lack::TooOld, None), "esker run web");
    let other = Expected { written: Written::Snapshots, ..expected };
    assert_eq!(
        other.command(Lack::TooOld, None),
        "esker -r '/usb disk' snapshots --host here --profile web --all"
    );
    assert_eq!(quote("it's"), "'it'\\''s'");
}
