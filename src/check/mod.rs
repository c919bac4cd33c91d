//! Check: verifies a repository with whatever key is at hand, and says what that
//! key could not prove. Repairs nothing; all it writes is marks, when asked to.
//!
//! | module | |
//! |---|---|
//! | `report` | findings and what they are about |
//! | `objects` | every small object: bytes, signature, contents, name |
//! | `segments` | index segments, and that the local index says the same |
//! | `packs` | packs listed against packs indexed; where a chunk stands |
//! | `references` | every coordinate lies in a pack that is there |
//! | `recount` | reference sets against what trees reach |
//! | `trees` | every path, page and chunk of the snapshots |
//! | `data` | the bytes of packs: hash, blocks, chunk ids |
//! | `healed` | damaged packs of which nothing is lost |
//! | `affected` | which paths of which snapshots damage hits |
//! | `marks` | say under snapshots which packs are damaged |
//!
//! What changes while it is looked at is no damage: when something is amiss and
//! the store moved meanwhile, all is looked at again.

mod affected;
mod data;
mod healed;
mod marks;
mod objects;
mod packs;
mod pieces;
mod recount;
mod references;
mod report;
mod segments;
mod trees;

use std::collections::{BTreeSet, HashSet};

use crate::format::manifest::manifest_key;
use crate::format::{manifest, notes, pack, segment};
use crate::id::{PackId, SnapshotId};
use crate::progress::{Event, Progress};
use crate::repository::commit::Doomed;
use crate::repository::coordinates::Holders;
use crate::repository::snapshots::{Listing, Snapshot, State};
use crate::repository::{Error, ErrorKind, Repository, Result};
use crate::store::Listed;

pub use marks::mark_damaged;
pub use report::{
    Affected, AffectedWhat, CheckCounts, CheckReport, DamagedPack, Finding, MAX_FINDINGS,
};
use report::{Findings, Grade};

/// Which packs to read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Subset {
    All,
    /// The n-th of m parts, from 1; m runs read every pack once.
    Fraction(u32, u32),
    /// A random choice of so many of a hundred packs, 0 to 100.
    Percent(f64),
}

#[derive(Clone, Debug, Default)]
pub struct CheckOptions {
    /// Read packs as well; the structure alone without.
    pub read_data: Option<Subset>,
    /// Name every path that damage hits. Needs a key that may read.
    pub affected: bool,
    /// Compute reference sets once more from the trees. Needs a key that may read.
    pub refs: bool,
    /// Look at these snapshots only; at all without.
    pub snapshots: Option<Vec<SnapshotId>>,
}

/// How often all is looked at again because the store moved.
const ATTEMPTS: usize = 3;

/// Checks the repository. What is wrong with it is in the report; an error is
/// what kept the check from being made.
pub fn check(
    repository: &Repository,
    options: &CheckOptions,
    progress: &dyn Progress,
) -> Result<CheckReport> {
    refuse_senseless(options)?;
    let mut attempt = 1;
    let (findings, structure) = loop {
        let findings = Findings::default();
        let structure = look(repository, options, progress, &findings)?;
        let moved = || moved_since(repository, &structure.listing);
        if findings.is_empty() || attempt == ATTEMPTS || !moved()? {
            break (findings, structure);
        }
        attempt += 1;
        progress.event(Event::Stage("the repository changed meanwhile: looking again"));
    };
    let Structure { mut packs, listing: _, snapshots, all, marked } = structure;
    packs.settle_blame();
    data::check(repository, options.read_data, &marked, &mut packs, &findings, progress)?;
    let healed = healed::find(repository, &all, &packs, progress)?;
    findings.settle_packs(&healed);
    let mut affected = Vec::new();
    if options.affected && !findings.is_empty() {
        affected = affected::find(repository, &snapshots, &packs, &findings, progress)?;
    }
    Ok(findings.into_report(packs.into_damaged(&healed), affected))
}

fn refuse_senseless(options: &CheckOptions) -> Result<()> {
    let sensible = match options.read_data {
        Some(Subset::Fraction(n, m)) => n >= 1 && n <= m,
        Some(Subset::Percent(percent)) => (0.0..=100.0).contains(&percent),
        Some(Subset::All) | None => true,
    };
    if sensible {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Usage,
        "a subset is n/m with n from 1 to m, or a percentage from 0 to 100",
    ))
}

struct Structure<'a> {
    listing: Vec<Listed>,
    packs: packs::Packs<'a>,
    /// The snapshots to look at.
    snapshots: Vec<Snapshot>,
    /// All that are not being deleted.
    all: Vec<Snapshot>,
    /// Packs that marks call damaged.
    marked: BTreeSet<PackId>,
}

fn look<'a>(
    repository: &'a Repository,
    options: &CheckOptions,
    progress: &dyn Progress,
    findings: &Findings,
) -> Result<Structure<'a>> {
    progress.event(Event::Stage("listing objects"));
    // what is wrong with sweeps and segments is found again, with its rules,
    // when each of them is read
    let doomed = match repository.doomed() {
        Err(error) if ends_check(&error) => return Err(error),
        doomed => doomed.map(|(doomed, _)| doomed).unwrap_or_default(),
    };
    repository.sync_index(&crate::progress::Silent)?;
    let listing = repository.store().list("")?;
    let trust = objects::trust(repository, findings)?;
    let trust = trust.as_ref().unwrap_or(repository.trust());
    let snapshots_listed = repository.list_snapshots()?;
    let settled = &snapshots_listed.settled_marks;
    objects::check(repository, &listing, trust, settled, findings, progress)?;
    segments::check(repository, &listing, trust, findings, progress)?;
    let packs = packs::Packs::new(repository, &listing, &doomed, findings);
    let Listing { snapshots: mut all, damaged: marked, .. } = snapshots_listed;
    all.retain(|snapshot| {
        let going = doomed.manifests.contains(&snapshot.id);
        if going {
            let key = manifest_key(snapshot.id);
            findings.note(&key, "is being deleted by a prune, and was not looked at", None);
        }
        !going
    });
    let snapshots = wanted_snapshots(&all, options, &doomed, findings);
    let holders = Holders::load(repository)?;
    let mut references = references::ReferenceCheck::new(repository, &packs, &holders, findings);
    progress.event(Event::Stage("checking references"));
    for snapshot in &snapshots {
        stop_if_interrupted(progress)?;
        references.check(snapshot)?;
    }
    if repository.keyring().may_read_content() {
        progress.event(Event::Stage("walking trees"));
        // with --refs every snapshot's set is compared, further below
        let compare = !options.refs;
        let mut trees = trees::TreeCheck::new(repository, &packs, findings, progress, compare)?;
        for snapshot in &snapshots {
            stop_if_interrupted(progress)?;
            trees.check(snapshot)?;
        }
    } else {
        let role = repository.keyring().role.name();
        findings.unproven(&format!(
            "a {role} key cannot open file names: that the trees are whole was not seen"
        ));
    }
    if options.refs {
        recount::check(repository, &snapshots, &holders, findings, progress)?;
    }
    Ok(Structure { listing, packs, snapshots, all, marked })
}

fn stop_if_interrupted(progress: &dyn Progress) -> Result<()> {
    if progress.interrupted() { Err(Error::interrupted()) } else { Ok(()) }
}

fn pool(threads: usize) -> Result<rayon::ThreadPool> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.map_err(|error| Error::failed(format!("threads: {error}")))
}

/// Snapshots to look at: those that can be relied on first, so that a page that
/// both kinds share is judged as theirs.
fn wanted_snapshots(
    all: &[Snapshot],
    options: &CheckOptions,
    doomed: &Doomed,
    findings: &Findings,
) -> Vec<Snapshot> {
    let mut snapshots = all.to_vec();
    if let Some(wanted) = &options.snapshots {
        for id in wanted {
            let there = all.iter().any(|snapshot| snapshot.id == *id);
            if !there && !doomed.manifests.contains(id) {
                findings.damage(&manifest_key(*id), "is not there, or cannot be believed", None);
            }
        }
        snapshots.retain(|snapshot| wanted.contains(&snapshot.id));
    }
    for snapshot in &snapshots {
        let what = match snapshot.state {
            State::Confirmed => continue,
            State::Unconfirmed => "is not confirmed: its run did not end",
            State::Distrusted => "was written by a revoked key and is not listed as standing",
        };
        findings.note(&manifest_key(snapshot.id), what, None);
    }
    snapshots.sort_by_key(|snapshot| grade(snapshot) != Grade::Damage);
    findings.count(|counts| counts.snapshots = snapshots.len() as u64);
    snapshots
}

/// What it means if something of a snapshot is missing: the commit check never
/// said that an unconfirmed one was whole, and one that is forgotten was given up.
fn grade(snapshot: &Snapshot) -> Grade {
    let kept = snapshot.state == State::Confirmed && snapshot.forgotten.is_none();
    if kept { Grade::Damage } else { Grade::Note }
}

/// Whether an error ends the check; the others are something it found.
fn ends_check(error: &Error) -> bool {
    !matches!(error.kind, ErrorKind::Damage | ErrorKind::Failed)
}

fn moved_since(repository: &Repository, before: &[Listed]) -> Result<bool> {
    let prefixes = [notes::SWEEPS, segment::PREFIX, pack::PREFIX, manifest::PREFIX];
    for prefix in prefixes {
        let now: HashSet<String> = repository.listed_keys(prefix)?.into_iter().collect();
        let then = before.iter().filter(|listed| listed.key.starts_with(prefix));
        if then.clone().count() != now.len() || then.clone().any(|l| !now.contains(&l.key)) {
            return Ok(true);
        }
    }
    Ok(false)
}
