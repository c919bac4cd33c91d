//! Prune: frees what no kept snapshot uses. It costs what expired, needs neither
//! locks nor clocks, and runs beside anything.
//!
//! | module | |
//! |---|---|
//! | `reasons` | which manifests go, and why |
//! | `usage` | which pages and coordinates snapshots use |
//! | `survey` | what of a pack is needed |
//! | `plan` | what to delete, what to move |
//! | `repack` | move what is needed out of packs that go |
//! | `sweep` | one announced deletion |
//! | `merge` | few index segments instead of many |
//! | `notes` | small objects that are only in the way |
//! | `outlook` | what comes free when |
//!
//! A prune goes in rounds: first whole packs that nobody needs, with the
//! manifests; then pack by pack what must be moved. Each round is a sweep of its
//! own, so that a store without space has room before anything is moved, and a
//! prune that is cut off has done what it did.

mod merge;
mod notes;
mod outlook;
mod plan;
mod reasons;
mod repack;
mod survey;
mod sweep;
mod usage;

pub use self::outlook::{Outlook, outlook};
pub use self::plan::{DeadPack, LivePack, Plan, Requests};
pub use self::reasons::{Reason, SILENCE_MS};

use self::plan::{Facts, Planned, unreadable_sentence};
use self::reasons::{Due, RunSigns};
use self::repack::Mover;
use self::survey::Survey;
use self::sweep::{Sweeper, Wanted};
use crate::format::Kind;
use crate::format::notes::{Record, SESSIONS, Sweep, record_key, session_of_key, sweep_key};
use crate::format::pack::pack_key;
use crate::id::{PackId, SnapshotId, SweepId};
use crate::progress::{Event, Progress};
use crate::repository::clock::believable_now;
use crate::repository::judge::{Cause, Judge, RunState};
use crate::repository::packer::{Packer, Sealer, with_packer};
use crate::repository::runs::Whereabouts;
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
    pub host: String,
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
            host: String::new(),
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

/// Stored bytes of packs that are moved in one round, so that the space this
/// needs is bounded.
const ROUND_BYTES: u64 = 512 << 20;
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
    let started = now_ms();
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
    let rounds = rounds(&report.plan);
    for round in rounds {
        progress_check(progress)?;
        if !report.move_and_sweep(&mut sweeper, &round, &options)? {
            break;
        }
    }
    sweeper.withdraw(announced)?;
    // the space is there again that may have been given up to get so far
    let _ = repository.store().restore_reserve();
    repository.local().end_prune(if full { 0 } else { ended.unwrap_or(0) + 1 });
    put_record(repository, &report, started, &options);
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

/// Lists everything, refuses what must not be done, and settles the options.
fn settle(
    repository: &Repository,
    options: &PruneOptions,
    progress: &dyn Progress,
) -> Result<(Facts, PruneOptions)> {
    progress.event(Event::Stage("listing"));
    let (facts, unreadable) = list(repository, options.now, progress)?;
    if let Some((_, error)) = unreadable.first() {
        return Err(unreadable_plan(error));
    }
    let newest = facts.runs.last_sign.values().copied().max().unwrap_or(0);
    let newest = newest.max(facts.listing.newest_time);
    let store_date = repository.store().date()?;
    let now = believable_now(newest, store_date, options.now, options.trust_clock)?;
    let settled = PruneOptions {
        now,
        recuts: options.recuts && repository.keyring().may_read_content(),
        max_unused: options.max_unused.clamp(0.0, 1.0),
        ..options.clone()
    };
    Ok((facts, settled))
}

type UnreadablePlans = Vec<(String, Error)>;

/// One listing of everything, in the order of step P1.
fn list(
    repository: &Repository,
    now: u64,
    progress: &dyn Progress,
) -> Result<(Facts, UnreadablePlans)> {
    let signed = repository.listed_keys(SESSIONS)?;
    let signed = signed.iter().filter_map(|key| Some(session_of_key(key)?.0)).collect();
    let listing = repository.list_snapshots()?;
    for trouble in &listing.troubles {
        progress.event(Event::Warning(&trouble.message));
    }
    let runs = repository.list_runs()?;
    let plans = repository.announced()?;
    repository.sync_index(progress)?;
    let listed = repository.listed_packs()?;
    let here = Whereabouts::here(repository.id());
    let judge = Judge::new(&runs.runs, &listing.snapshots, &here, now);
    let is_over = |state| match state {
        RunState::Running | RunState::Silent { .. } => false,
        // two runs of one host and profile may well go side by side
        RunState::Interrupted(cause) => cause != Cause::LaterRun,
        _ => true,
    };
    let signs = RunSigns {
        last_sign: runs.runs.iter().map(|run| (run.id, run.last_sign)).collect(),
        over: runs.runs.iter().filter(|run| is_over(judge.state(run))).map(|run| run.id).collect(),
    };
    let went = plans
        .announced
        .iter()
        .flat_map(|plan| &plan.sweep.manifests)
        .filter(|id| !listing.snapshots.iter().any(|snapshot| snapshot.id == **id))
        .copied()
        .collect();
    let facts =
        Facts { listing, runs: signs, plans: plans.announced, listed, full: false, signed, went };
    Ok((facts, plans.unreadable))
}

fn unreadable_plan(error: &Error) -> Error {
    Error::damage(format!(
        "{error}: nobody knows what it names, so nothing was deleted; \
         --drop-unreadable-plans takes it away, while no other prune runs"
    ))
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

/// Packs to move, in rounds of bounded size.
fn rounds(plan: &Plan) -> Vec<Vec<PackId>> {
    let mut rounds: Vec<Vec<PackId>> = Vec::new();
    let mut bytes = ROUND_BYTES;
    for pack in &plan.repack {
        if bytes >= ROUND_BYTES {
            rounds.push(Vec::new());
            bytes = 0;
        }
        bytes += pack.length;
        if let Some(round) = rounds.last_mut() {
            round.push(pack.id);
        }
    }
    rounds
}

fn progress_check(progress: &dyn Progress) -> Result<()> {
    if progress.interrupted() { Err(Error::interrupted()) } else { Ok(()) }
}

impl PruneReport {
    /// The first round: manifests, whole packs, and what is in the way.
    fn sweep_dead(&mut self, sweeper: &mut Sweeper<'_, '_>) -> Result<String> {
        let wanted = Wanted {
            manifests: self.plan.manifests.clone(),
            packs: self.plan.dead.iter().chain(&self.plan.broken).map(|pack| pack.id).collect(),
            broken: self.plan.broken.iter().map(|pack| pack.id).collect(),
            tidy: true,
        };
        let swept = sweeper.sweep(&wanted)?;
        let announced = swept.announced.clone();
        self.count(swept);
        Ok(announced)
    }

    /// Moves what is needed of these packs, and sweeps them. False when the
    /// store has no space for it: what was freed so far stays freed.
    fn move_and_sweep(
        &mut self,
        sweeper: &mut Sweeper<'_, '_>,
        packs: &[PackId],
        options: &PruneOptions,
    ) -> Result<bool> {
        let progress = sweeper.progress;
        progress.event(Event::Stage("moving what is needed"));
        let repository = sweeper.repository;
        let (run, level) = (SnapshotId::random(), options.compression);
        let survey = &mut *sweeper.survey;
        survey.refresh(sweeper.origins, sweeper.full, packs)?;
        let mut unlisted = Vec::new();
        let moved = with_packer(repository, run, now_ms(), level, |packer, sealer| {
            let moved = self.move_packs(packs, survey, options, progress, (packer, sealer));
            let put = packer.take_put();
            unlisted.extend(put.iter().map(|pack| pack.id));
            let moved = moved?;
            self.bytes_put += put.iter().map(|pack| pack.length).sum::<u64>();
            repository.put_segments(&put)?;
            unlisted.clear();
            Ok(moved)
        });
        let moved = match moved {
            Ok(moved) => moved,
            Err(error) => {
                // what was put so far is of no use; if it stays, the next prune takes it
                if !unlisted.is_empty() {
                    let wanted = Wanted { packs: unlisted, ..Wanted::default() };
                    let swept = sweeper.sweep(&wanted);
                    let _ = swept.and_then(|swept| sweeper.withdraw(swept.announced));
                }
                if error.kind != ErrorKind::Full {
                    return Err(error);
                }
                self.stopped = Some(format!("{error}: what is needed was not moved"));
                return Ok(false);
            }
        };
        self.packs_repacked += moved.len() as u64;
        let swept = sweeper.sweep(&Wanted { packs: moved, ..Wanted::default() })?;
        sweeper.withdraw(swept.announced.clone())?;
        self.count(swept);
        Ok(true)
    }

    /// Moves packs, all of it acknowledged when this returns. Which were moved.
    fn move_packs(
        &mut self,
        packs: &[PackId],
        survey: &Survey<'_>,
        options: &PruneOptions,
        progress: &dyn Progress,
        (packer, sealer): (&Packer, &Sealer),
    ) -> Result<Vec<PackId>> {
        let repository = survey.repository;
        let mut mover = Mover::new(repository, packer, sealer, options.recuts);
        let mut moved = Vec::new();
        for pack in packs {
            match mover.pack(*pack, survey, progress) {
                Ok(()) => moved.push(*pack),
                // another prune was faster: what is needed lies elsewhere
                Err(error)
                    if error.kind == ErrorKind::Damage
                        && !repository.exists(&pack_key(*pack))? => {}
                // known to be damaged, and not all of it can be moved: check tells of it
                Err(error) if error.kind == ErrorKind::Damage && survey.damaged.contains(pack) => {}
                Err(error) if error.kind == ErrorKind::Damage => {
                    self.damage.push(format!("{error}; {} stays", pack_key(*pack)));
                }
                Err(error) => return Err(error),
            }
        }
        mover.finish()?;
        Ok(moved)
    }

    fn count(&mut self, swept: sweep::Swept) {
        self.manifests.extend(swept.manifests);
        self.packs_deleted += swept.packs.len() as u64;
        self.bytes_deleted += swept.bytes;
        self.packs_kept += swept.kept.len() as u64;
        self.segments_deleted += swept.segments;
        self.notes_deleted += swept.notes;
    }
}

/// Leaves a signed record. The prune is done; a store that does not take it
/// changes nothing.
fn put_record(repository: &Repository, report: &PruneReport, started: u64, options: &PruneOptions) {
    let count = |name: &str, number: u64| (name.to_owned(), number);
    let record = Record {
        kind: "prune".to_owned(),
        started,
        ended: now_ms().max(started),
        host: options.host.clone(),
        code: if report.damage.is_empty() { 0 } else { 20 },
        extent: if report.plan.full { "all packs" } else { "packs that may have become free" }
            .to_owned(),
        snapshots: report.manifests.clone(),
        counts: vec![
            count("packs deleted", report.packs_deleted),
            count("bytes deleted", report.bytes_deleted),
            count("packs moved", report.packs_repacked),
            count("bytes put", report.bytes_put),
        ],
        kept: Vec::new(),
    };
    let key = record_key("prune", SweepId::random().0);
    let tail = report.damage.join("\n");
    let tail = (!tail.is_empty()).then_some(tail.as_bytes());
    let _ = repository.put_object(Kind::Record, &key, &record.encode(), tail);
}
