//! What to delete and what to move: a pure function of what is listed and of
//! reference pages. Nothing is changed here.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::reasons::{Reason, RunSigns, going, held, refuse_unbelieved};
use super::survey::{Survey, origins_of};
use super::usage::{Focus, Origin, Usage};
use super::{PruneOptions, progress_check};
use crate::format::manifest::manifest_key;
use crate::format::pack::{PackKind, pack_key};
use crate::id::{PackId, SnapshotId};
use crate::progress::{Event, Progress};
use crate::repository::commit::{Announced, Doomed};
use crate::repository::index::{PackInfo, PackToc};
use crate::repository::snapshots::{Listing, Snapshot, State};
use crate::repository::{Error, ErrorKind, Repository, Result};

/// A pack that can go as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadPack {
    pub id: PackId,
    /// In the store, in bytes; 0 if it is not there any more.
    pub length: u64,
}

/// A pack of which some is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LivePack {
    pub id: PackId,
    pub length: u64,
    pub kind: PackKind,
    /// Bytes that moving what is needed would free with this key.
    pub free: u64,
    /// Bytes that a full key would free.
    pub free_with_full: u64,
}

/// What a prune would do.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub manifests: BTreeMap<SnapshotId, Reason>,
    /// Forgotten snapshots that stay although their grace is over, and why.
    pub held: Vec<(SnapshotId, &'static str)>,
    pub dead: Vec<DeadPack>,
    pub repack: Vec<LivePack>,
    /// Bytes of what is not needed and stays: moving it would not pay.
    pub unused_kept: u64,
    /// Of these, bytes that only a full key could free.
    pub only_full_could_free: u64,
    /// Bytes of packs nobody uses, kept because their run may still be at it.
    pub spared: u64,
    /// Packs that cannot be judged, and why.
    pub unreadable: Vec<(PackId, String)>,
    /// Whether all packs were looked at.
    pub full: bool,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.manifests.is_empty() && self.dead.is_empty() && self.repack.is_empty()
    }

    /// About how many requests to the store it takes to carry this out.
    pub fn requests(&self) -> Requests {
        let moved: u64 = self.repack.iter().map(|pack| pack.length - pack.free).sum();
        let (dead, moving) = (self.dead.len() as u64, self.repack.len() as u64);
        let sweeps = 2 + u64::from(moving > 0);
        Requests {
            lists: 8 * sweeps,
            // each pack's own table, and what moves in pieces of 8 MiB
            gets: dead + 2 * moving + moved / (8 << 20),
            // announcements, segments, the record, packs of 32 MiB
            puts: 2 * sweeps + 1 + moved.div_ceil(32 << 20),
            deletes: dead + moving + sweeps + 4 * self.manifests.len() as u64,
        }
    }

    /// Bytes that come free.
    pub fn freed(&self) -> u64 {
        let dead: u64 = self.dead.iter().map(|pack| pack.length).sum();
        dead + self.repack.iter().map(|pack| pack.free).sum::<u64>()
    }
}

/// Requests to a store, about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    pub lists: u64,
    pub gets: u64,
    pub puts: u64,
    pub deletes: u64,
}

/// What a plan is made from: one listing of everything.
pub(super) struct Facts {
    pub listing: Listing,
    pub runs: RunSigns,
    pub plans: Vec<Announced>,
    pub listed: HashMap<PackId, u64>,
    /// Whether everything is looked at.
    pub full: bool,
    /// Manifests that are known to be gone.
    pub went: HashSet<SnapshotId>,
}

/// The plan, and what is known when packs are judged again.
pub(super) struct Planned<'a> {
    pub plan: Plan,
    pub survey: Survey<'a>,
    pub origins: BTreeSet<Origin>,
}

/// Makes a plan.
pub(super) fn plan<'a>(
    repository: &'a Repository,
    facts: &Facts,
    options: &PruneOptions,
    progress: &dyn Progress,
) -> Result<Planned<'a>> {
    progress.event(Event::Stage("looking at what is used"));
    let manifests = going(&facts.listing, &facts.runs, options.due());
    refuse_unbelieved(&facts.listing, &manifests)?;
    let (mut leaving, mut staying) = (Usage::new(repository), Usage::new(repository));
    let mut full = options.full;
    for snapshot in &facts.listing.snapshots {
        if manifests.contains_key(&snapshot.id) {
            // without its pages nobody knows what it used: look everywhere
            full |= leaving.add(snapshot.manifest.references).is_err();
        } else {
            add(repository, &mut staying, snapshot)?;
        }
        progress_check(progress)?;
    }
    let doomed = Doomed::of(&facts.plans);
    let mut survey = Survey::new(
        repository,
        staying,
        facts.listed.clone(),
        doomed.packs.clone(),
        facts.listing.damaged.clone(),
    );
    let held = held(&facts.listing, &manifests, options.due());
    let mut plan = Plan { manifests, held, full, ..Plan::default() };
    let leftovers = leftovers(repository, facts, &mut plan);
    let touched = match full {
        true => None,
        false => touched(repository, facts, &leaving, &survey, &doomed)?,
    };
    plan.full = touched.is_none();
    let asked = touched.unwrap_or_else(|| {
        repository.index().packs().into_iter().map(|(_, info)| info.id).collect()
    });
    let origins = origins(repository, &asked, &survey, &leftovers)?;
    let focus = || if plan.full { Focus::All } else { Focus::Some(origins.clone()) };
    survey.focus(focus()).map_err(|error| stopped_by(repository, facts, &plan, error))?;
    if leaving.focus(focus()).is_err() {
        leaving = Usage::new(repository);
    }
    let judge = Judge { repository, facts, options, leaving: &leaving, doomed: &doomed };
    judge.packs(&asked, leftovers, &mut survey, &mut plan, progress)?;
    survey.set_leaving(&[]);
    Ok(Planned { plan, survey, origins })
}

/// Adds a snapshot that stays. One that cannot be read stops the prune, unless
/// another prune has taken it since it was listed: packs go after manifests.
pub(super) fn add(
    repository: &Repository,
    staying: &mut Usage<'_>,
    snapshot: &Snapshot,
) -> Result<()> {
    match staying.add(snapshot.manifest.references) {
        Err(error) if error.kind == ErrorKind::Damage => {
            match repository.exists(&manifest_key(snapshot.id))? {
                true => Err(cannot_be_read(snapshot, &error)),
                false => Ok(()),
            }
        }
        result => result,
    }
}

/// The snapshot that an error in reading pages comes from, named.
fn stopped_by(repository: &Repository, facts: &Facts, plan: &Plan, error: Error) -> Error {
    let mut staying = facts
        .listing
        .snapshots
        .iter()
        .filter(|snapshot| !plan.manifests.contains_key(&snapshot.id));
    let named = staying.find_map(|snapshot| {
        let read = repository.references(snapshot.manifest.references, &mut |_| Ok(()));
        read.err().map(|error| cannot_be_read(snapshot, &error))
    });
    named.unwrap_or(error)
}

/// What a manifest names that is not confirmed may be gone: a run whose packs
/// were swept before it put its manifest will find out, and make another.
fn cannot_be_read(snapshot: &Snapshot, error: &Error) -> Error {
    let id = snapshot.id;
    if error.kind == ErrorKind::Damage && snapshot.state == State::Unconfirmed {
        let message = format!(
            "snapshot {id}: is not confirmed, and what it uses is gone, \
             so nothing was deleted: try again when its backup has ended: {error}"
        );
        return Error::new(ErrorKind::TryLater, message);
    }
    let what = "what it uses cannot be read, so nothing was deleted";
    Error::new(error.kind, format!("snapshot {id}: {what}: {error}"))
}

/// Packs in the store that no segment lists: what runs that ended early left,
/// or what one is about to list.
fn leftovers(repository: &Repository, facts: &Facts, plan: &mut Plan) -> Vec<Arc<PackToc>> {
    let mut leftovers = Vec::new();
    let mut unlisted: Vec<(PackId, u64)> = facts
        .listed
        .iter()
        .filter(|(id, _)| repository.index().pack_number(**id).is_none())
        .map(|(id, length)| (*id, *length))
        .collect();
    unlisted.sort_unstable();
    for (id, length) in unlisted {
        match repository.own_toc(id, length) {
            Ok(toc) => leftovers.push(toc),
            Err(error) => plan.unreadable.push((id, error.message)),
        }
    }
    leftovers
}

/// Packs that may have become free: those that what goes names and nothing that
/// stays does on the same page, those of runs that made no snapshot, those that
/// were moved and not deleted, and those another plan names. Nothing when what
/// goes cannot be read: then all must be looked at.
fn touched(
    repository: &Repository,
    facts: &Facts,
    leaving: &Usage<'_>,
    survey: &Survey<'_>,
    doomed: &Doomed,
) -> Result<Option<BTreeSet<PackId>>> {
    let index = repository.index();
    let (pages, mut named) = match leaving.beyond(&survey.staying) {
        Err(error) if error.kind == ErrorKind::Damage => return Ok(None),
        beyond => beyond?,
    };
    let mut touched = BTreeSet::new();
    let id_of = |number| index.pack(number).map(|info| info.id);
    for page in &pages {
        touched.extend(index.places(page)?.iter().filter_map(|place| id_of(place.pack)));
    }
    for origin in index.carried_origins()? {
        if let Some(info) = index.pack_number(origin).and_then(|number| index.pack(number)) {
            named.insert((info.birth, info.id));
        }
    }
    for (_, pack) in named {
        touched.extend(index.pack_number(pack).map(|_| pack));
        touched.extend(index.carriers(pack)?.into_iter().filter_map(id_of));
    }
    let made: HashSet<SnapshotId> = facts
        .listing
        .snapshots
        .iter()
        .flat_map(|snapshot| [Some(snapshot.id), snapshot.manifest.replaces])
        .flatten()
        .collect();
    let failed =
        |info: &PackInfo| facts.runs.last_sign.contains_key(&info.run) && !made.contains(&info.run);
    let packs = index.packs().into_iter().map(|(_, info)| info);
    touched.extend(packs.filter(|info| failed(info)).map(|info| info.id));
    touched.extend(doomed.packs.iter().filter(|id| index.pack_number(**id).is_some()));
    touched.extend(survey.unreliable());
    Ok(Some(touched))
}

/// Every origin pack whose use must be known to judge the packs asked about.
fn origins(
    repository: &Repository,
    asked: &BTreeSet<PackId>,
    survey: &Survey<'_>,
    leftovers: &[Arc<PackToc>],
) -> Result<BTreeSet<Origin>> {
    let index = repository.index();
    let mut origins = BTreeSet::new();
    for pack in asked.iter().copied().chain(survey.unreliable()) {
        if let Some(number) = index.pack_number(pack) {
            origins.extend(origins_of(&*index.toc(number)?));
        }
    }
    origins.extend(leftovers.iter().flat_map(|toc| origins_of(toc).collect::<Vec<_>>()));
    Ok(origins)
}

struct Judge<'a, 'r> {
    repository: &'a Repository,
    facts: &'a Facts,
    options: &'a PruneOptions,
    leaving: &'a Usage<'r>,
    doomed: &'a Doomed,
}

impl Judge<'_, '_> {
    /// Sorts packs into dead ones and those to move. Of a chunk that lies in
    /// several packs the place that is asked about last stays.
    fn packs(
        &self,
        asked: &BTreeSet<PackId>,
        leftovers: Vec<Arc<PackToc>>,
        survey: &mut Survey<'_>,
        plan: &mut Plan,
        progress: &dyn Progress,
    ) -> Result<()> {
        let index = self.repository.index();
        let mut tocs: Vec<(u64, PackId)> = Vec::new();
        for id in asked {
            let info = index.pack_number(*id).and_then(|number| index.pack(number));
            tocs.extend(info.map(|info| (info.birth.0, info.id)));
        }
        tocs.sort_unstable();
        let mut live = Vec::new();
        for (_, id) in tocs {
            progress_check(progress)?;
            let Some(number) = index.pack_number(id) else { continue };
            let toc = index.toc(number)?;
            live.extend(self.pack(&toc, survey, plan)?);
        }
        for toc in leftovers {
            // what is needed of it and not listed anywhere: an index to repair
            live.extend(self.pack(&toc, survey, plan)?.filter(|_| false));
        }
        self.unreadable(survey, plan);
        self.choose(live, survey, plan);
        Ok(())
    }

    fn pack(
        &self,
        toc: &PackToc,
        survey: &mut Survey<'_>,
        plan: &mut Plan,
    ) -> Result<Option<LivePack>> {
        let id = toc.pack;
        let length = survey.listed.get(&id).copied().unwrap_or(0);
        let mut live = LivePack { id, length, kind: toc.toc.kind, free: 0, free_with_full: 0 };
        let mut needed_bytes = 0u64;
        for (at, block) in toc.toc.blocks.iter().enumerate() {
            let mut needed = 0u64;
            for ordinal in toc.ordinals_of(at) {
                if survey.is_needed(toc, ordinal as u16)? {
                    let chunk = toc.toc.chunks.get(ordinal as usize);
                    needed += chunk.map_or(0, |chunk| u64::from(chunk.length));
                }
            }
            let stored = u64::from(block.stored_length);
            let share = stored * needed / u64::from(block.raw_length).max(1);
            live.free_with_full += stored - share.min(stored);
            live.free += if needed == 0 { stored } else { 0 };
            needed_bytes += needed;
        }
        if needed_bytes > 0 {
            // whoever holds the index key can cut reference pages anew
            if self.options.recuts || live.kind == PackKind::Refs {
                live.free = live.free_with_full;
            }
            return Ok(Some(live));
        }
        if self.is_spared(toc, survey) {
            plan.spared += length;
        } else {
            survey.add_leaving(id);
            plan.dead.push(DeadPack { id, length });
        }
        Ok(None)
    }

    /// A run may still be making the first snapshot that uses the pack. This is for
    /// efficiency: such a run would find out, and store it again.
    fn is_spared(&self, toc: &PackToc, survey: &Survey<'_>) -> bool {
        if self.doomed.packs.contains(&toc.pack) {
            return false;
        }
        let is_used = toc.toc.chunks.iter().zip(0u16..=u16::MAX).any(|(chunk, ordinal)| {
            let coordinate = toc.coordinate(ordinal);
            [self.leaving, &survey.staying]
                .iter()
                .any(|usage| usage.uses(&coordinate) || usage.needs_page(&chunk.id))
        });
        let began = toc.toc.birth.0 >> 20;
        !is_used && !self.facts.runs.is_over(toc.toc.run, began, self.options.now)
    }

    /// Packs without a readable table go only when everything that is used was
    /// found elsewhere, which only a look at everything can tell.
    fn unreadable(&self, survey: &Survey<'_>, plan: &mut Plan) {
        if !plan.full || plan.unreadable.is_empty() || !survey.nothing_is_missing() {
            return;
        }
        for (id, _) in std::mem::take(&mut plan.unreadable) {
            let length = survey.listed.get(&id).copied().unwrap_or(0);
            plan.dead.push(DeadPack { id, length });
        }
    }

    /// Picks what to move: where most of a pack comes free, the older first,
    /// until what is left unused is within its limit.
    fn choose(&self, mut live: Vec<LivePack>, survey: &Survey<'_>, plan: &mut Plan) {
        let all: u64 = live.iter().map(|pack| pack.length).sum();
        let limit = (all as f64 * self.options.max_unused) as u64;
        let mut unused: u64 = live.iter().map(|pack| pack.free).sum();
        let unused_with_full: u64 = live.iter().map(|pack| pack.free_with_full).sum();
        plan.only_full_could_free = unused_with_full.saturating_sub(unused);
        // what another plan names, or is damaged in part, must be moved
        let (forced, mut rest): (Vec<_>, Vec<_>) = live.drain(..).partition(|pack| {
            self.doomed.packs.contains(&pack.id)
                || survey.damaged.contains(&pack.id) && pack.length > 0
        });
        // stable: the older first where the share is the same
        let share = |pack: &LivePack| pack.free * 1000 / pack.length.max(1);
        rest.sort_by_key(|pack| std::cmp::Reverse(share(pack)));
        let mut budget = self.options.max_repack.unwrap_or(u64::MAX);
        for pack in &forced {
            unused = unused.saturating_sub(pack.free);
        }
        plan.repack.extend(forced);
        for pack in rest {
            let moves = pack.length - pack.free.min(pack.length);
            if unused <= limit || pack.free == 0 || pack.length == 0 || moves > budget {
                continue;
            }
            budget -= moves;
            unused -= pack.free;
            plan.repack.push(pack);
        }
        plan.unused_kept = unused;
    }
}

/// The sentence for a pack that could not be judged.
pub(super) fn unreadable_sentence(id: PackId, why: &str) -> String {
    format!("{}: its table of contents cannot be read, so it stays: {why}", pack_key(id))
}
