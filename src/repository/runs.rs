//! Runs: every backup that signed in, and how far it came. What that means for
//! it now is told in `judge`.
//!
//! `format-spec/12-notes.md`, sessions.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::error::{Error, Result};
use super::keyring::{Standing, Trust};
use super::sync::Troubles;
use super::{Repository, now_ms};
use crate::crypto::keys;
use crate::format::notes::{self, Session, SessionState, session_key, session_of_key};
use crate::format::object;
use crate::format::{Kind, Place};
use crate::id::{RepositoryId, SnapshotId, WriterId, hex};

/// Number of a failed run's last sign: above all checkpoints.
const FAILED_NUMBER: u64 = 90_000_000;
/// Number of the last sign of a run that ended otherwise.
const ENDED_NUMBER: u64 = 94_000_000;
/// Above this are signs that another run put for one that was interrupted.
const TAKEN_OVER: u64 = 95_000_000;

/// What tells this process from all others, wherever they run.
#[derive(Clone, Debug)]
pub struct Whereabouts {
    /// Equal only where process numbers mean the same; nothing if that cannot
    /// be told.
    pub machine: Option<String>,
    /// The kernel's id of this boot.
    pub boot: String,
    pub process: u64,
    /// Whether a process of this machine lives.
    pub lives: fn(u64) -> bool,
}

/// What can be seen of a run's process from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    Living,
    Gone,
    /// It is, or was, another machine's.
    OutOfSight,
}

impl Whereabouts {
    /// This process. The machine's name means nothing outside `repository`.
    pub fn here(repository: RepositoryId) -> Whereabouts {
        let read = |path: &str| {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            Some(text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        let boot = read("/proc/sys/kernel/random/boot_id");
        // containers of one image may share id and name; process numbers they share only
        // with those of their namespace
        let id = read("/etc/machine-id").or_else(|| boot.clone());
        let namespace = std::fs::read_link("/proc/self/ns/pid").ok();
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let machine = id.zip(namespace).zip(boot.as_ref()).map(|((id, namespace), _)| {
            let facts = [id, name, namespace.to_string_lossy().into_owned()].join("\0");
            hex(&keys::machine(&repository.0, facts.as_bytes()))
        });
        Whereabouts {
            machine,
            boot: boot.unwrap_or_default(),
            process: u64::from(std::process::id()),
            lives: process_lives,
        }
    }

    /// A process number may have been given anew: then a dead run looks alive
    /// for a while, which harms nobody. A run with the number of this very
    /// process is over: one process makes one at a time.
    pub fn sees(&self, run: &Run) -> Sight {
        if self.machine.is_none() || self.machine != run.machine {
            Sight::OutOfSight
        } else if self.boot != run.boot || self.process == run.process || !(self.lives)(run.process)
        {
            Sight::Gone
        } else {
            Sight::Living
        }
    }
}

/// Also of processes that only their owner may see.
fn process_lives(process: u64) -> bool {
    let pid = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

/// What a run of this process says of itself before it has put anything.
pub fn sign_of_life(
    repository: RepositoryId,
    state: SessionState,
    host: &str,
    profile: &str,
) -> Session {
    let Whereabouts { machine, boot, process, .. } = Whereabouts::here(repository);
    Session {
        state,
        time: now_ms(),
        host: host.to_owned(),
        boot,
        process,
        profile: profile.to_owned(),
        packs: 0,
        bytes: 0,
        code: None,
        machine,
        kept: Vec::new(),
    }
}

/// A run, as its signs of life tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub id: SnapshotId,
    /// Signed all signs that count.
    pub writer: WriterId,
    pub host: String,
    pub profile: String,
    pub machine: Option<String>,
    pub boot: String,
    pub process: u64,
    /// Times in ms since 1970.
    pub started: u64,
    pub last_sign: u64,
    pub state: SessionState,
    /// The end was told by another run, which found this one interrupted.
    pub taken_over: bool,
    /// What was put until the last sign.
    pub packs: u64,
    pub bytes: u64,
    /// Exit code of a failed run.
    pub code: Option<u64>,
    /// Number of the newest sign.
    pub number: u64,
    /// The sign that tells of the failure.
    pub(super) failure: Option<String>,
}

impl Run {
    /// Whether the run told how it ended, or was told to have.
    pub fn is_over(&self) -> bool {
        matches!(self.state, SessionState::Failed | SessionState::Ended)
    }
}

/// All runs that have signs of life in the store.
#[derive(Clone, Debug, Default)]
pub struct RunListing {
    /// In the order they started.
    pub runs: Vec<Run>,
    /// Signs that could not be believed.
    pub troubles: Troubles,
}

/// Key and number of a listed sign.
type Listed = (u64, String);

impl Repository {
    /// Lists all runs; of each the first and the newest sign are read.
    pub fn list_runs(&self) -> Result<RunListing> {
        self.list_runs_but(&HashSet::new())
    }

    /// The same without some, of which nothing is read.
    pub fn list_runs_but(&self, left_out: &HashSet<SnapshotId>) -> Result<RunListing> {
        let mut signs: BTreeMap<SnapshotId, Vec<Listed>> = BTreeMap::new();
        for key in self.listed_keys(notes::SESSIONS)? {
            match session_of_key(&key) {
                Some((run, number)) if !left_out.contains(&run) => {
                    signs.entry(run).or_default().push((number, key));
                }
                _ => {}
            }
        }
        let ends = |signs: &Vec<Listed>| {
            let last = signs.last().filter(|_| signs.len() > 1);
            signs.first().into_iter().chain(last).map(|(_, key)| key.clone()).collect::<Vec<_>>()
        };
        let wanted: Vec<String> = signs.values().flat_map(ends).collect();
        let objects = self.read_objects(&wanted)?;
        // loaded after the listing it judges, when somebody new signed
        let reloaded =
            if self.has_unknown_signer(&objects) { Some(self.reload_trust()?) } else { None };
        let trust = reloaded.as_ref().unwrap_or(&self.trust);
        let mut reading = Reading { repository: self, objects, trust, troubles: Vec::new() };
        let mut runs = Vec::new();
        for (id, signs) in &signs {
            runs.extend(reading.run(*id, signs)?);
        }
        if !reading.troubles.is_empty() {
            self.index.forget_objects(reading.objects.keys().map(String::as_str));
        }
        self.keep_proofs();
        runs.sort_by_key(|run| (run.started, run.id));
        Ok(RunListing { runs, troubles: reading.troubles })
    }

    /// Why a run failed, for those who may read what can name a path.
    pub fn run_reason(&self, run: &Run) -> Result<Option<String>> {
        let Some(key) = run.failure.as_ref().filter(|_| self.keyring.may_read_content()) else {
            return Ok(None);
        };
        let mut objects = self.read_objects(std::slice::from_ref(key))?;
        let Some(bytes) = objects.remove(key) else { return Ok(None) };
        let in_object = |error| Error::in_object(key, error);
        let opened = self.open_object(Kind::Session, key, bytes, &self.trust).map_err(in_object)?;
        let object = object::parse(&opened.bytes, Kind::Session).map_err(in_object)?;
        if opened.writer != run.writer || object.attachment.is_empty() {
            return Ok(None);
        }
        let place = Place { repository: self.id(), kind: Kind::Session, epoch: object.epoch, key };
        let private = self.keyring.content_private(object.epoch)?;
        let text = object.open_attachment(private, &place).map_err(in_object)?;
        Ok(Some(String::from_utf8_lossy(&text).into_owned()))
    }

    /// Leaves the sign that a run failed, with the reason for those who may
    /// read it.
    pub fn put_failure(&self, run: SnapshotId, session: &Session, reason: &str) -> Result<()> {
        self.put_session(run, FAILED_NUMBER, session, Some(reason))
    }

    /// Leaves the sign that a run ended and needs nothing any more.
    pub fn put_end(&self, run: SnapshotId, session: Session) -> Result<()> {
        let session = Session { state: SessionState::Ended, ..session };
        self.put_session(run, ENDED_NUMBER, &session, None)
    }

    /// Leaves the sign that another run took over what an interrupted one had
    /// put. It says what the run's newest sign said, its time included.
    pub fn put_taken_over(&self, run: &Run) -> Result<()> {
        let session = Session {
            state: SessionState::Ended,
            time: run.last_sign,
            host: run.host.clone(),
            boot: run.boot.clone(),
            process: run.process,
            profile: run.profile.clone(),
            packs: run.packs,
            bytes: run.bytes,
            code: run.code,
            machine: run.machine.clone(),
            kept: Vec::new(),
        };
        self.put_session(run.id, run.number.max(TAKEN_OVER) + 1, &session, None)
    }
}

/// Sessions that were read, and what was wrong with some.
struct Reading<'a> {
    repository: &'a Repository,
    objects: HashMap<String, Vec<u8>>,
    trust: &'a Trust,
    troubles: Troubles,
}

impl Reading<'_> {
    /// The first sign that can be believed says whose run it is; the newest of
    /// that writer how far it came.
    fn run(&mut self, id: SnapshotId, signs: &[Listed]) -> Result<Option<Run>> {
        let mut rest = signs.iter();
        let (number, key, writer, first) = loop {
            let Some((number, key)) = rest.next() else { return Ok(None) };
            if let Some((writer, session)) = self.sign(key)? {
                break (*number, key, writer, session);
            }
        };
        let mut newest = (number, key, first.clone());
        while let Some((number, key)) = rest.next_back() {
            match self.sign(key)? {
                Some((signer, session)) if signer == writer => {
                    newest = (*number, key, session);
                    break;
                }
                Some(_) => {
                    let message = format!("{key}: is signed by another than the run's writer");
                    self.troubles.push(Error::damage(message));
                }
                None => {}
            }
        }
        let (number, key, newest) = newest;
        let taken_over = newest.state == SessionState::Ended && number > TAKEN_OVER;
        let failure = match newest.state {
            SessionState::Failed => Some(key.clone()),
            _ if taken_over && newest.code.is_some() => {
                let failed = session_key(id, FAILED_NUMBER);
                signs.iter().any(|(_, key)| *key == failed).then_some(failed)
            }
            _ => None,
        };
        Ok(Some(Run {
            id,
            writer,
            started: first.time,
            last_sign: first.time.max(newest.time),
            host: first.host,
            profile: first.profile,
            machine: first.machine,
            boot: first.boot,
            process: first.process,
            state: newest.state,
            taken_over,
            packs: newest.packs,
            bytes: newest.bytes,
            code: newest.code,
            number,
            failure,
        }))
    }

    /// Signer and contents of a sign, if both can be believed.
    fn sign(&mut self, key: &String) -> Result<Option<(WriterId, Session)>> {
        let bytes = match self.objects.get(key) {
            Some(bytes) => Some(bytes.clone()),
            None => self.repository.read_objects(std::slice::from_ref(key))?.remove(key),
        };
        let Some(bytes) = bytes else { return Ok(None) };
        let read = self
            .repository
            .open_object(Kind::Session, key, bytes, self.trust)
            .and_then(|opened| Ok((opened.writer, opened.standing, Session::parse(&opened.text)?)));
        let error = match read {
            Ok((writer, Standing::InForce(role) | Standing::Revoked(role), session))
                if role.may_write() =>
            {
                return Ok(Some((writer, session)));
            }
            Ok(_) => Error::damage(format!("{key}: is signed by a key that may not back up")),
            Err(error) => Error::in_object(key, error),
        };
        self.troubles.push(error);
        Ok(None)
    }
}
