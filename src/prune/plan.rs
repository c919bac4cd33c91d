//! What to delete and what to move: a pure function of what is listed and of
//! reference pages. Nothing is changed here.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::facts::Facts;
use super::judge::Judge;
use super::reasons::{Reason, SILENCE_MS, going, held, refuse_unbelieved};
use super::survey::{Survey, origins_of};
use super::usage::{Focus, Origin, Usage};
use super::{PruneOptions, progress_check};
use crate::format::manifest::manifest_key;
use crate::format::pack::{MAX_PACK, PackKind, pack_key, parse_header};
use crate::id::{PackId, SnapshotId};
use crate::progress::{Event, Progress};
use crate::repository::commit::Doomed;
use crate::repository::index::{PackInfo, PackToc};
use crate::repository::pages::PAGES_AHEAD;
use crate::repository::snapshots::{Snapshot, State};
use crate::repository::{Error, ErrorKind, Repository, Result};
use crate::store::ErrorKind as StoreKind;

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
    /// Packs in no index whose bytes are not what their name says.
    pub broken: Vec<DeadPack>,
    /// Packs that cannot be judged, and why.
    pub unreadable: Vec<(PackId, String)>,
    /// Whether all packs were looked at.
    pub full: bool,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.manifests.is_empty()
            && self.dead.is_empty()
            && self.broken.is_empty()
            && self.repack.is_empty()
    }

    /// About how many requests to the store it takes to carry this out.
    pub fn requests(&self) -> Requests {
        let moved: u64 = self.repack.iter().map(|pack| pack.length - pack.free).sum();
        let dead = (self.dead.len() + self.broken.len()) as u64;
        let moving = self.repack.len() as u64;
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
        let dead: u64 = self.dead.iter().chain(&self.broken).map(|pack| pack.length).sum();
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
    for (at, snapshot) in facts.listing.snapshots.iter().enumerate() {
        if at % PAGES_AHEAD == 0 {
            let next = facts.listing.snapshots.iter().skip(at).take(PAGES_AHEAD);
            let roots: Vec<_> = next.map(|snapshot| snapshot.manifest.references.id).collect();
            repository.fetch_references_ahead(&roots);
        }
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
    let leftovers = leftovers(repository, facts, options.now, &mut plan)?;
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
    if leaving.focus(focus()).is_err() {
        leaving = Usage::new(repository);
    }
    survey.focus(focus()).map_err(|error| stopped_by(repository, facts, &plan, error))?;
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
fn leftovers(
    repository: &Repository,
    facts: &Facts,
    now: u64,
    plan: &mut Plan,
) -> Result<Vec<Arc<PackToc>>> {
    let mut leftovers = Vec::new();
    let known = |id: &PackId| repository.index().pack_number(*id).is_some();
    let mut unlisted: Vec<PackId> = facts.listed.keys().filter(|id| !known(id)).copied().collect();
    unlisted.sort_unstable();
    repository.own_tocs(&unlisted, &facts.listed, |id, own| {
        let length = facts.listed.get(&id).copied().unwrap_or(0);
        match own.unwrap_or_else(|| repository.own_toc(id, length)) {
            Ok(toc) => leftovers.push(toc),
            // another prune took it
            Err(error)
                if error.kind == ErrorKind::Damage && !repository.exists(&pack_key(id))? => {}
            Err(error) if error.kind == ErrorKind::Damage => {
                if plan.full && is_broken(repository, id, now)? {
                    plan.broken.push(DeadPack { id, length });
                } else {
                    plan.unreadable.push((id, error.message));
                }
            }
            // of a newer version, say: left alone
            Err(error) if error.kind == ErrorKind::Failed => {
                plan.unreadable.push((id, error.message));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    })?;
    Ok(leftovers)
}

/// Whether a pack is not what its name says, and has not been for long: what an
/// upload that was cut off left. All others that cannot be read may be somebody
/// else's.
pub(super) fn is_broken(repository: &Repository, id: PackId, now: u64) -> Result<bool> {
    let bytes = match repository.store().get(&pack_key(id), MAX_PACK) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == StoreKind::NotFound => return Ok(false),
        Err(error) if error.kind() == StoreKind::TooLarge => return Ok(true),
        Err(error) => return Err(error.into()),
    };
    let young = parse_header(&bytes)
        .is_ok_and(|(_, birth)| (birth.0 >> 20).saturating_add(SILENCE_MS) > now);
    Ok(*blake3::hash(&bytes).as_bytes() != id.0 && !young)
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

/// The sentence for a pack that could not be judged.
pub(super) fn unreadable_sentence(id: PackId, why: &str) -> String {
    format!("{}: its table of contents cannot be read, so it stays: {why}", pack_key(id))
}
