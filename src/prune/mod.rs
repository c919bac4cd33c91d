//! Prune: frees what no kept snapshot uses. It costs what expired, needs neither
//! locks nor clocks, and runs beside anything.
//!
//! | module | |
//! |---|---|
//! | `reasons` | which manifests go, and why |
//! | `usage` | which pages and coordinates snapshots use |
//! | `survey` | what of a pack is needed |
//! | `facts` | one listing of everything |
//! | `plan`, `judge` | what to delete, what to move |
//! | `rounds` | first the one, then the other |
//! | `repack` | move what is needed out of packs that go |
//! | `sweep` | one announced deletion |
//! | `merge` | few index segments instead of many |
//! | `notes` | small objects that are only in the way |
//! | `records` | records whose time is over |
//! | `outlook` | what comes free when |
//!
//! A prune goes in rounds: first whole packs that nobody needs, with the
//! manifests; then pack by pack what must be moved. Each round is a sweep of its
//! own, so that a store without space has room before anything is moved, and a
//! prune that is cut off has done what it did.

mod facts;
mod judge;
mod merge;
mod notes;
mod outlook;
mod plan;
mod reasons;
mod records;
mod repack;
mod rounds;
mod survey;
mod sweep;
mod usage;

pub use self::outlook::{Outlook, outlook};
pub use self::plan::{DeadPack, LivePack, Plan, Requests};
pub use self::reasons::{Reason, SILENCE_MS};
pub use self::records::{KEEP_MS, KEEP_NEWEST};

use self::facts::{Facts, settle};
use self::plan::{Planned, unreadable_sentence};
use self::reasons::Due;
use self::sweep::Sweeper;
use crate::format::Kind;
use crate::format::notes::{Sweep, sweep_key};
use crate::id::{SnapshotId, SweepId};
use crate::progress::{Event, Progress};
use crate::repository::{Error, ErrorKind, Repository, Result, now_ms};

/// How prune is to work.
#[derive(Clone, Debug)]
pub struct PruneOptions {
    /// The time, in ms since 1970.
    pub now: u64,
    /// Whether `now` counts although nothing in the repository supports it.
    pub trust_clock: bool,
    /// Time from a forget mark until its snapshot goes, in ms.
    pub grace: u64,
    /// Share of what is looked at that may stay although nobody needs it, 0 to 1.
    pub max_unused: f64,
    /// Bytes to move at most.
    pub max_repack: Option<u64>,
    /// Look at all packs, not only at those that may have become free.
    pub full: bool,
    /// Whether blocks may be cut anew: set by who opens the repository, as far
    /// as the key allows.
    pub recuts: bool,
    /// zstd level of blocks that are cut anew.
    pub compression: i32,
    /// Take away plans that cannot be read. Only while no other prune runs.
    pub drop_unreadable_plans: bool,
}

/// Share of unused bytes that stays by default.
pub const MAX_UNUSED: f64 = 0.03;

impl PruneOptions {
    /// The defaults, now, for this key.
    pub fn new(repository: &Repository) -> Self {
        PruneOptions {
            now: now_ms(),
            trust_clock: false,
            grace: crate::repository::marks::DEFAULT_GRACE_MS,
            max_unused: MAX_UNUSED,
            max_repack: None,
            full: false,
            recuts: repository.keyring().may_read_content(),
            compression: 3,
            drop_unreadable_plans: false,
        }
    }

    fn due(&self) -> Due {
        Due { now: self.now, grace: self.grace }
    }
}

/// What a prune did.
#[derive(Clone, Debug, Default)]
pub struct PruneReport {
    pub plan: Plan,
    pub manifests: Vec<SnapshotId>,
    pub packs_deleted: u64,
    /// Length of all packs deleted, in bytes.
    pub bytes_deleted: u64,
    pub packs_repacked: u64,
    /// Bytes put to move what was needed.
    pub bytes_put: u64,
    /// Packs that were announced and are needed after all.
    pub packs_kept: u64,
    pub segments_deleted: u64,
    pub notes_deleted: u64,
    /// Why not all was moved that should have been.
    pub stopped: Option<String>,
    /// Damage that was met: what it concerns stays.
    pub damage: Vec<String>,
}

impl PruneReport {
    /// How much smaller the repository is, in bytes.
    pub fn freed(&self) -> u64 {
        self.bytes_deleted.saturating_sub(self.bytes_put)
    }
}

/// So often at least everything is looked at.
const FULL_EVERY: u64 = 10;

/// Says what a prune would do.
pub fn plan_only(
    repository: &Repository,
    options: &PruneOptions,
    progress: &dyn Progress,
) -> Result<Plan> {
    begin(repository, options, progress)?;
    Ok(look(repository, options, progress)?.1.plan.plan)
}

/// Settled options, and the plan that came of them.
struct Looked<'a> {
    options: PruneOptions,
    plan: Planned<'a>,
}

/// Lists everything and makes a plan; once more when another prune took what
/// was listed before it was looked at.
fn look<'a>(
    repository: &'a Repository,
    options: &PruneOptions,
    progress: &dyn Progress,
) -> Result<(Facts, Looked<'a>)> {
    for _ in 0..8 {
        let (facts, mut options) = settle(repository, options, progress)?;
        // a prune that did not finish may have left what nobody would look at
        options.full |= !facts.plans.is_empty();
        match plan::plan(repository, &facts, &options, progress) {
            Ok(plan) => return Ok((facts, Looked { options, plan })),
            Err(error) if may_be_stale(&error) && is_stale(repository, &facts)? => {}
            Err(error) => return Err(error),
        }
    }
    let message = "other prunes take what this one is looking at: try again when they are done";
    Err(Error::new(ErrorKind::TryLater, message))
}

fn may_be_stale(error: &Error) -> bool {
    matches!(error.kind, ErrorKind::Damage | ErrorKind::TryLater)
}

/// Whether a snapshot that was listed is not there any more.
fn is_stale(repository: &Repository, facts: &Facts) -> Result<bool> {
    let listed = notes::listed_snapshots(repository)?;
    Ok(facts.listing.snapshots.iter().any(|snapshot| !listed.contains(&snapshot.id)))
}

/// Frees what no kept snapshot uses.
pub fn prune(
    repository: &Repository,
    options: &PruneOptions,
    progress: &dyn Progress,
) -> Result<PruneReport> {
    begin(repository, options, progress)?;
    let ended = repository.local().begin_prune();
    let full = options.full || ended.is_none_or(|count| count + 1 >= FULL_EVERY);
    let asked = PruneOptions { full, ..options.clone() };
    let (mut facts, looked) = look(repository, &asked, progress)?;
    let Looked { options, plan: Planned { plan, mut survey, origins } } = looked;
    facts.full = plan.full;
    may_delete(repository, &facts, options.now)?;
    let superseded = repository.index().superseded()?;
    let mut report = PruneReport { plan, ..PruneReport::default() };
    let unreadable = report.plan.unreadable.iter();
    report.damage.extend(unreadable.map(|(id, why)| unreadable_sentence(*id, why)));
    let full = report.plan.full;
    let mut sweeper = Sweeper {
        repository,
        survey: &mut survey,
        origins: &origins,
        full,
        due: options.due(),
        facts: &mut facts,
        progress,
        superseded: &superseded,
    };
    // stays announced to the end: whoever finds it knows that a prune did not finish
    let announced = report.sweep_dead(&mut sweeper)?;
    let is_local = repository.store().local_path().is_some();
    for round in rounds::rounds(&report.plan, is_local) {
        progress_check(progress)?;
        if !report.move_and_sweep(&mut sweeper, &round, &options)? {
            break;
        }
    }
    sweeper.withdraw(announced)?;
    // the space is there again that may have been given up to get so far
    let _ = repository.store().restore_reserve();
    repository.local().end_prune(if full { 0 } else { ended.unwrap_or(0) + 1 });
    Ok(report)
}

/// Refuses whom it must, and clears the way.
fn begin(repository: &Repository, options: &PruneOptions, progress: &dyn Progress) -> Result<()> {
    repository.require_maintain()?;
    let _ = repository.store().clean_temporary();
    if !options.drop_unreadable_plans {
        return Ok(());
    }
    let unreadable = repository.announced()?.unreadable;
    for (key, error) in &unreadable {
        progress.event(Event::Warning(&format!("taking {key} away: {error}")));
    }
    let keys: Vec<String> = unreadable.into_iter().map(|(key, _)| key).collect();
    crate::store::delete_many(&**repository.store(), &keys).map_err(sweep::deleting)
}

fn is_empty(sweep: &Sweep) -> bool {
    sweep.manifests.is_empty() && sweep.packs.is_empty()
}

/// Deletes an empty plan, one that an earlier try left or one put for it: a store
/// that does not delete says so before anything is announced.
fn may_delete(repository: &Repository, facts: &Facts, time: u64) -> Result<()> {
    let left = facts.plans.iter().find(|plan| is_empty(&plan.sweep));
    let key = match left {
        Some(plan) => plan.key.clone(),
        None => {
            let key = sweep_key(SweepId::random());
            let (manifests, packs) = (Vec::new(), Vec::new());
            let nothing = Sweep { manifests, packs, time, kept: Vec::new() };
            repository.put_object(Kind::Sweep, &key, &nothing.encode(), None)?;
            key
        }
    };
    repository.store().delete(&key).map_err(sweep::deleting)
}

fn progress_check(progress: &dyn Progress) -> Result<()> {
    if progress.interrupted() { Err(Error::interrupted()) } else { Ok(()) }
}
