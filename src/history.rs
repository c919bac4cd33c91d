//! What every run did: those that take snapshots, as their snapshots and signs of
//! life tell, and all others, as their records do.

use crate::check::{CheckOptions, CheckReport, Subset};
use crate::copy::CopyReport;
use crate::format::manifest::Outcome;
use crate::id::SnapshotId;
use crate::prune::PruneReport;
use crate::record::{self, Finished, Recorded};
use crate::repository::judge::RunState;
use crate::repository::runs::Run;
use crate::repository::sync::Troubles;
use crate::repository::{Repository, Result};
use crate::status::{Overview, RunStatus, SnapshotStatus, Status};

/// Lines of a log that a record of ours holds, at most.
const MAX_LOG_LINES: usize = 500;

/// One run.
#[derive(Clone, Debug)]
pub enum Item {
    /// It made a snapshot.
    Snapshot(Box<SnapshotStatus>),
    /// It was to make one, and did not.
    Run(Box<RunStatus>),
    Record(Box<Recorded>),
}

impl Item {
    /// What kind of run it was: `backup`, or the kind of its record.
    pub fn kind(&self) -> &str {
        match self {
            Item::Snapshot(_) | Item::Run(_) => "backup",
            Item::Record(recorded) => &recorded.record.kind,
        }
    }

    /// 32 hex digits.
    pub fn id(&self) -> String {
        match self {
            Item::Snapshot(told) => told.snapshot.id.to_hex(),
            Item::Run(told) => told.run.id.to_hex(),
            Item::Record(recorded) => recorded.id.clone(),
        }
    }

    pub fn host(&self) -> &str {
        match self {
            Item::Snapshot(told) => &told.snapshot.manifest.host,
            Item::Run(told) => &told.run.host,
            Item::Record(recorded) => &recorded.record.host,
        }
    }

    /// In ms since 1970.
    pub fn started(&self) -> u64 {
        match self {
            Item::Snapshot(told) => told.snapshot.manifest.started,
            Item::Run(told) => told.run.started,
            Item::Record(recorded) => recorded.record.started,
        }
    }

    /// In ms since 1970; the last sign of life of a run that told no end.
    pub fn ended(&self) -> u64 {
        match self {
            Item::Snapshot(told) => told.snapshot.manifest.ended,
            Item::Run(told) => told.run.last_sign,
            Item::Record(recorded) => recorded.record.ended,
        }
    }

    /// The exit code its caller saw, where that is known.
    pub fn code(&self) -> Option<u64> {
        match self {
            Item::Snapshot(told) => match (told.status, told.snapshot.manifest.outcome) {
                (Status::Running | Status::Unconfirmed | Status::Distrusted, _) => None,
                (_, Outcome::Complete) => Some(0),
                (_, Outcome::Partial | Outcome::Failed) => Some(3),
            },
            Item::Run(told) => match told.state {
                RunState::Failed { code } => Some(code),
                _ => told.run.code,
            },
            Item::Record(recorded) => Some(recorded.record.code),
        }
    }

    /// The snapshots it made, or is about.
    pub fn snapshots(&self) -> Vec<SnapshotId> {
        match self {
            Item::Snapshot(told) => vec![told.snapshot.id],
            Item::Run(_) => Vec::new(),
            Item::Record(recorded) => recorded.record.snapshots.clone(),
        }
    }

    pub fn counts(&self) -> Vec<(String, u64)> {
        match self {
            Item::Snapshot(told) => {
                let counts = &told.snapshot.manifest.counts;
                let named = [
                    ("files", counts.files),
                    ("files new", counts.files_new),
                    ("files changed", counts.files_changed),
                    ("bytes", counts.bytes),
                    ("bytes added", counts.bytes_added),
                    ("bytes stored", counts.bytes_stored),
                    ("failures", counts.failures),
                ];
                named.map(|(name, number)| (name.to_owned(), number)).into()
            }
            Item::Run(told) => {
                vec![("packs".to_owned(), told.run.packs), ("bytes put".to_owned(), told.run.bytes)]
            }
            Item::Record(recorded) => recorded.record.counts.clone(),
        }
    }
}

/// All runs, in the order in which they began.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub items: Vec<Item>,
    /// What could not be believed.
    pub troubles: Troubles,
}

/// Puts together what the repository tells of runs. A manifest that another took the
/// place of is not a run of its own.
pub fn history(repository: &Repository, overview: &Overview) -> Result<History> {
    let listing = record::list(repository)?;
    let made = overview.snapshots.iter().filter(|told| told.status != Status::Replaced);
    let failed = overview.runs.iter().filter(|told| !told.has_manifest);
    let mut items: Vec<Item> = made
        .map(|told| Item::Snapshot(Box::new(told.clone())))
        .chain(failed.map(|told| Item::Run(Box::new(told.clone()))))
        .chain(listing.records.into_iter().map(|record| Item::Record(Box::new(record))))
        .collect();
    items.sort_by_cached_key(|item| (item.started(), item.id()));
    Ok(History { items, troubles: [overview.troubles.clone(), listing.troubles].concat() })
}

/// Why a run failed, or the log that came with a record; nothing where there is none.
pub fn log(repository: &Repository, item: &Item, runs: &[RunStatus]) -> Result<Option<String>> {
    let reason = |run: &Run| repository.run_reason(run);
    match item {
        Item::Record(recorded) => record::log(repository, recorded),
        Item::Run(told) => reason(&told.run),
        Item::Snapshot(told) => {
            let run = told.run.and_then(|(id, _)| runs.iter().find(|told| told.run.id == id));
            run.map_or(Ok(None), |told| reason(&told.run))
        }
    }
}

/// The record of a prune.
pub fn of_prune(started: u64, pruned: &Result<PruneReport>) -> Finished {
    let report = match pruned {
        Ok(report) => report,
        Err(error) => return Finished::new("prune", started, "nothing").failed(error),
    };
    let extent = if report.plan.full { "all packs" } else { "packs that may have become free" };
    let code = match (report.damage.is_empty(), &report.stopped) {
        (false, _) => 20,
        (true, Some(_)) => 75,
        (true, None) => 0,
    };
    let lines = report.damage.iter().chain(&report.stopped).map(String::as_str);
    Finished {
        code,
        snapshots: report.manifests.clone(),
        ..Finished::new("prune", started, extent)
    }
    .count("snapshots deleted", report.manifests.len() as u64)
    .count("packs deleted", report.packs_deleted)
    .count("bytes deleted", report.bytes_deleted)
    .count("packs moved", report.packs_repacked)
    .count("bytes put", report.bytes_put)
    .with_log(lines)
}

/// The record of a check.
pub fn of_check(started: u64, options: &CheckOptions, checked: &Result<CheckReport>) -> Finished {
    let data = match options.read_data {
        None => "structure".to_owned(),
        Some(Subset::All) => "structure and all data".to_owned(),
        Some(Subset::Fraction(n, m)) => format!("structure and data, part {n} of {m}"),
        Some(Subset::Percent(percent)) => format!("structure and {percent} % of the data"),
    };
    let extent = match &options.snapshots {
        None => data,
        Some(some) => format!("{data}, of snapshots that were named: {}", some.len()),
    };
    let finished = Finished {
        snapshots: options.snapshots.clone().unwrap_or_default(),
        ..Finished::new("check", started, extent)
    };
    let report = match checked {
        Ok(report) => report,
        Err(error) => return finished.failed(error),
    };
    let counts = &report.counts;
    let lines = report.findings.iter().map(|finding| format!("{}: {}", finding.key, finding.what));
    let unproven = report.unproven.iter().map(|text| format!("not proven: {text}"));
    Finished { code: if report.is_ok() { 0 } else { 20 }, ..finished }
        .count("damage", report.findings.len() as u64)
        .count("not listed", report.left_out)
        .count("damaged packs", report.damaged_packs.len() as u64)
        .count("snapshots", counts.snapshots)
        .count("objects", counts.objects)
        .count("packs", counts.packs)
        .count("entries", counts.entries)
        .count("packs read", counts.packs_read)
        .count("bytes read", counts.bytes_read)
        .with_log(lines.chain(unproven))
}

/// The record of a copy out of `source`, for the repository that took it.
pub fn of_copy(started: u64, source: &Repository, copied: &Result<CopyReport>) -> Finished {
    let finished = Finished::new("copy", started, format!("from repository {}", source.id()));
    let report = match copied {
        Ok(report) => report,
        Err(error) => return finished.failed(error),
    };
    let sum = |of: fn(&crate::copy::Copied) -> u64| report.copied.iter().map(of).sum();
    let damaged = report.damaged.iter().map(|(id, error)| format!("{id}: {error}"));
    let stopped = report.stopped.iter().map(ToString::to_string);
    let code = match (report.damaged.is_empty(), &report.stopped) {
        (true, None) => 0,
        // what is damaged stays so, whatever else can be done later
        (false, None) => 20,
        (false, Some(error)) if error.exit_code() == 75 => 20,
        (_, Some(error)) => error.exit_code(),
    };
    Finished { code, snapshots: report.copied.iter().map(|copied| copied.id).collect(), ..finished }
        .count("snapshots copied", report.copied.len() as u64)
        .count("snapshots there already", report.there.len() as u64)
        .count("snapshots damaged", report.damaged.len() as u64)
        .count("bytes read", sum(|copied| copied.bytes_read))
        .count("bytes put", sum(|copied| copied.bytes_put))
        .with_log(damaged.chain(stopped))
}

impl Finished {
    /// The same with the first lines of a log, and how many there were.
    fn with_log(mut self, lines: impl Iterator<Item = impl AsRef<str>>) -> Finished {
        let mut left_out = 0u64;
        for (number, line) in lines.enumerate() {
            if number >= MAX_LOG_LINES {
                left_out += 1;
                continue;
            }
            self.log.push_str(line.as_ref());
            self.log.push('\n');
        }
        if left_out > 0 {
            self.log.push_str(&format!("and {left_out} more\n"));
        }
        self
    }
}
