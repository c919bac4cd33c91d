//! Drills: restores for practice. Files go to a scratch directory and dumps into
//! throw-away servers, always through the ordinary restore and with a cache that knows
//! nothing yet; what arrives is compared with what was saved. What is not covered is
//! said.
//!
//! | file | what lives there |
//! |---|---|
//! | `extent` | which packs snapshots use |
//! | `share` | which of them a drill covers, so that a round of drills covers all |
//! | `sample` | which files that takes, and which more are at risk |
//! | `practice` | files: restored, read back, compared with the live source |
//! | `packs` | packs compared whole with their hashes |
//! | `database`, `server` | dumps loaded into servers, or given to commands |
//! | `history` | what earlier drills recorded, and the record of this one |
//! | `scratch` | where all of that happens, and goes |
//! | `report` | what came of it |
//!
//! `docs/drills.md` says the same to users.

mod database;
mod extent;
mod history;
mod packs;
mod practice;
mod report;
mod sample;
mod scratch;
mod server;
mod share;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

pub use self::history::{History, record};
pub use self::report::{DrillReport, Finding};
pub use self::scratch::Scratch;
pub use self::share::ROUND;

use self::database::Loading;
use self::extent::{Used, used};
use self::practice::Practice;
use self::sample::{Risk, Sampler, is_of, sources};
use self::share::{Placed, place, share};
use crate::config::profile::ProfileSettings;
use crate::config::value::Command;
use crate::progress::{Event, Progress};
use crate::repository::index::PackNumber;
use crate::repository::snapshots::Snapshot;
use crate::repository::{ErrorKind, Repository, Result};

/// Keys in the tree and names of sources.
type Sources = Vec<(Vec<u8>, String)>;

/// So many files at risk are restored, if nothing else is said.
pub const FILES: u64 = 20;

/// What is drilled.
#[derive(Clone)]
pub struct DrillOptions<'a> {
    /// Which snapshots it is about, in words without any path.
    pub extent: String,
    /// Everything in the newest snapshots, not a sample.
    pub all: bool,
    /// Files at risk that are restored besides those that packs need.
    pub files: u64,
    /// Compare with the live source, too, where a snapshot is of this host.
    pub live: bool,
    /// The name of this machine.
    pub host: String,
    /// Load dumps into servers.
    pub databases: bool,
    /// Commands that are given a source's stream, by its name.
    pub commands: BTreeMap<String, Command>,
    /// The value of PATH.
    pub path: OsString,
    /// What the profile of a snapshot is, if anything knows it.
    pub profile: &'a dyn Fn(&Snapshot) -> Result<Option<ProfileSettings>>,
}

/// Drills these snapshots, newest first. An error means that the drill could not begin
/// or had to end; `report` holds what it came to until then.
///
/// The repository must have been opened with an empty cache.
pub fn drill(
    repository: &Repository,
    snapshots: &[&Snapshot],
    scratch: &Scratch,
    options: &DrillOptions<'_>,
    history: &History,
    report: &mut DrillReport,
    progress: &dyn Progress,
) -> Result<()> {
    repository.keyring().require_read()?;
    report.extent = options.extent.clone();
    progress.event(Event::Stage("loading the index"));
    for trouble in repository.sync_index(progress)? {
        report.findings.add(None, b"index".to_vec(), trouble.message);
    }
    let heads = heads(snapshots);
    let looked_at = if options.all { &heads } else { snapshots };
    let used = used(repository, looked_at, &mut report.findings, progress)?;
    report.packs = used.len() as u64;
    let drill = Drill { repository, scratch, options, history, progress };
    match options.all {
        true => drill.everything(&heads, &used, report)?,
        false => drill.sample((snapshots, &heads), &used, report)?,
    }
    for snapshot in &heads {
        drill.load(snapshot, report)?;
    }
    drill.tell_what_is_missing(&heads, &used, report);
    Ok(())
}

/// The newest of each host and profile, newest first.
fn heads<'a>(snapshots: &[&'a Snapshot]) -> Vec<&'a Snapshot> {
    let mut seen = BTreeSet::new();
    let is_first = |snapshot: &&&Snapshot| {
        seen.insert((snapshot.manifest.host.clone(), snapshot.manifest.profile.clone()))
    };
    snapshots.iter().filter(is_first).copied().collect()
}

struct Drill<'a> {
    repository: &'a Repository,
    scratch: &'a Scratch,
    options: &'a DrillOptions<'a>,
    history: &'a History,
    progress: &'a dyn Progress,
}

impl Drill<'_> {
    fn practice(&self, snapshot: &Snapshot) -> Practice<'_> {
        Practice {
            repository: self.repository,
            scratch: self.scratch,
            live: self.options.live && snapshot.manifest.host == self.options.host,
            progress: self.progress,
        }
    }

    /// All of the newest snapshots, and all packs that they use.
    fn everything(&self, heads: &[&Snapshot], used: &Used, report: &mut DrillReport) -> Result<()> {
        let all: BTreeSet<PackNumber> = used.keys().copied().collect();
        let mut sampler = Sampler::new(self.repository, &all, self.progress);
        for (at, snapshot) in heads.iter().enumerate() {
            sampler.pick(snapshot, at, None, &mut report.findings)?;
            self.practice(snapshot).everything(snapshot, report)?;
            if let Some(sources) = self.sources(snapshot)? {
                report.sources.extend(sources.into_iter().map(|(_, name)| name));
            }
        }
        packs::compare(self.repository, (heads, used), &all, &mut sampler, report, self.progress)
    }

    /// The packs whose turn it is, by the files that need them; then what is at risk.
    fn sample(
        &self,
        (snapshots, heads): (&[&Snapshot], &[&Snapshot]),
        used: &Used,
        report: &mut DrillReport,
    ) -> Result<()> {
        let (chosen, hand) = self.share(used);
        let mut sampler = Sampler::new(self.repository, &chosen, self.progress);
        // heads take turns, and the oldest snapshot is always among those at risk
        let turn = self.history.drills as usize % heads.len().max(1);
        let turn = heads.get(turn).map(|snapshot| snapshot.id);
        let oldest = snapshots.last().map(|snapshot| snapshot.id);
        for (at, snapshot) in snapshots.iter().enumerate() {
            let is_at_risk = [turn, oldest].contains(&Some(snapshot.id));
            let has_share = chosen.iter().any(|pack| used.get(pack) == Some(&at));
            if !is_at_risk && !has_share {
                continue;
            }
            self.progress.event(Event::Stage("choosing files"));
            let sources = self.sources(snapshot)?.unwrap_or_default();
            let keys: Vec<Vec<u8>> = sources.iter().map(|(key, _)| key.clone()).collect();
            let quarter = self.options.files.div_ceil(4);
            let files = if turn == Some(snapshot.id) { self.options.files } else { quarter };
            let risk = Risk {
                files: usize::try_from(files).unwrap_or(usize::MAX),
                sources: &keys,
                drilled: self.history.newest,
                seed: self.history.drills,
            };
            let risk = is_at_risk.then_some(&risk);
            let picked = sampler.pick(snapshot, at, risk, &mut report.findings)?;
            self.practice(snapshot).files(snapshot, &picked, report)?;
            for (key, name) in sources {
                if picked.iter().any(|file| is_of(&file.key, &key)) {
                    report.sources.insert(name);
                }
            }
        }
        let whose = (snapshots, used);
        packs::compare(self.repository, whose, &chosen, &mut sampler, report, self.progress)?;
        report.hand = Some(hand);
        Ok(())
    }

    /// The packs of this drill, and where the hand stands afterwards.
    fn share(&self, used: &Used) -> (BTreeSet<PackNumber>, u64) {
        let placed: Vec<Placed<PackNumber>> = used
            .keys()
            .filter_map(|number| {
                let info = self.repository.index().pack(*number)?;
                let place = place(self.repository.id(), info.id);
                Some(Placed { pack: *number, place, length: info.length })
            })
            .collect();
        let (share, hand) = share(&placed, self.history.hand);
        (share.into_iter().collect(), hand)
    }

    /// The sources of a snapshot; none if what names them is damaged, which is found
    /// elsewhere.
    fn sources(&self, snapshot: &Snapshot) -> Result<Option<Sources>> {
        match sources(self.repository, snapshot) {
            Err(error) if error.kind == ErrorKind::Damage => Ok(None),
            result => result.map(Some),
        }
    }

    fn load(&self, snapshot: &Snapshot, report: &mut DrillReport) -> Result<()> {
        let Drill { repository, scratch, options, progress, .. } = *self;
        let loading = Loading { repository, scratch, options, progress };
        let loaded = (options.profile)(snapshot)
            .and_then(|settings| loading.snapshot(snapshot, settings.as_ref(), report));
        match loaded {
            Err(error) if error.kind == ErrorKind::Damage => {
                report.findings.of_snapshot(snapshot, error.message);
                Ok(())
            }
            result => result,
        }
    }

    fn tell_what_is_missing(&self, heads: &[&Snapshot], used: &Used, report: &mut DrillReport) {
        let (covered, all) = (report.covered.len() as u64, used.len() as u64);
        if covered < all {
            let text = format!("{} of {all} packs were not read", all - covered);
            report.not_covered.push(text);
        }
        let mut missing = BTreeSet::new();
        for snapshot in heads {
            let sources = self.sources(snapshot).ok().flatten().unwrap_or_default();
            missing.extend(sources.into_iter().map(|(_, name)| name));
        }
        for name in missing.difference(&report.sources) {
            report.not_covered.push(format!("no file of source {name} was restored"));
        }
        if !self.options.live {
            report.not_covered.push("nothing was compared with the live source".to_owned());
        } else if let Some(other) =
            heads.iter().find(|snapshot| snapshot.manifest.host != self.options.host)
        {
            let host = &other.manifest.host;
            let text = format!("what is of {host} was not compared with its live source");
            report.not_covered.push(text);
        }
    }
}
