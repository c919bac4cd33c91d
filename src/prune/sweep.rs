//! One announced deletion: put the plan, look at everything again, delete what
//! still may go, class by class, take the plan away. Steps P4 to P7 of
//! `format-spec/13-protocol.md`; their order is what makes them safe.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::facts::{Facts, unreadable_plan};
use super::merge::{self, Merge};
use super::notes::{self, InTheWay};
use super::plan::{add, is_broken};
use super::reasons::{Due, Reason, going, refuse_unbelieved};
use super::survey::Survey;
use super::usage::Origin;
use crate::format::Kind;
use crate::format::manifest::manifest_key;
use crate::format::notes::{Sweep, confirmation_key, sweep_key};
use crate::format::pack::{Toc, pack_key};
use crate::format::segment::segment_key;
use crate::id::{PackId, SegmentId, SnapshotId, SweepId};
use crate::progress::{Event, Progress};
use crate::repository::commit::{Announced, Doomed};
use crate::repository::index::PackToc;
use crate::repository::sync::OwnToc;
use crate::repository::{Error, ErrorKind, Repository, Result};
use crate::store::{ErrorKind as StoreKind, StoreError};

/// What is to go.
#[derive(Default)]
pub(super) struct Wanted {
    pub manifests: BTreeMap<SnapshotId, Reason>,
    pub packs: Vec<PackId>,
    /// Of the packs, those that were seen to be broken, in a look at everything.
    pub broken: HashSet<PackId>,
    /// Whether what is only in the way goes too: notes of what is gone,
    /// segments that were superseded, plans that nothing is left of.
    pub tidy: bool,
}

/// What went.
#[derive(Clone, Debug, Default)]
pub(super) struct Swept {
    pub manifests: Vec<SnapshotId>,
    pub packs: Vec<PackId>,
    pub bytes: u64,
    /// Packs that were announced and are needed after all.
    pub kept: Vec<PackId>,
    pub segments: u64,
    pub notes: u64,
    /// The key of the announcement, which is still there.
    pub announced: String,
}

pub(super) struct Sweeper<'a, 's> {
    pub repository: &'a Repository,
    pub survey: &'s mut Survey<'a>,
    pub origins: &'s BTreeSet<Origin>,
    pub full: bool,
    pub due: Due,
    pub facts: &'s mut Facts,
    pub progress: &'s dyn Progress,
    /// Segments that were superseded before this prune began.
    pub superseded: &'s HashSet<SegmentId>,
}

impl Sweeper<'_, '_> {
    /// Announces, looks again, deletes.
    pub fn sweep(&mut self, wanted: &Wanted) -> Result<Swept> {
        self.progress.event(Event::Stage("announcing what goes"));
        let key = sweep_key(SweepId::random());
        let sweep = Sweep {
            manifests: wanted.manifests.keys().copied().collect(),
            packs: wanted.packs.clone(),
            time: self.due.now,
            kept: Vec::new(),
        };
        self.repository.put_object(Kind::Sweep, &key, &sweep.encode(), None)?;
        let decided = self.look_again(&key, wanted);
        let decided = match decided {
            Ok(decided) => decided,
            Err(error) => {
                // nothing was deleted under it: it may go at once
                let _ = self.repository.store().delete(&key);
                return Err(error);
            }
        };
        let mut swept = self.delete(wanted, decided)?;
        swept.announced = key;
        Ok(swept)
    }

    /// Takes an announcement away: all that it named is settled.
    pub fn withdraw(&self, announced: String) -> Result<()> {
        self.delete_keys(vec![announced])
    }

    /// Lists everything anew, in the order that makes it safe, and decides.
    fn look_again(&mut self, own: &str, wanted: &Wanted) -> Result<Decided> {
        self.progress.event(Event::Stage("looking again"));
        self.repository.wait_for_listings();
        self.facts.listing = self.repository.list_snapshots()?;
        let mut plans = self.repository.announced()?;
        if let Some((_, error)) = plans.unreadable.first() {
            return Err(unreadable_plan(error));
        }
        plans.announced.retain(|plan| plan.key != own);
        self.repository.sync_index(self.progress)?;
        self.facts.listed = self.repository.listed_packs()?;
        self.facts.plans = plans.announced;
        let mut manifests = going(&self.facts.listing, &self.facts.runs, self.due);
        manifests.retain(|id, _| wanted.manifests.contains_key(id));
        refuse_unbelieved(&self.facts.listing, &manifests)?;
        for snapshot in &self.facts.listing.snapshots {
            if !manifests.contains_key(&snapshot.id) {
                add(self.repository, &mut self.survey.staying, snapshot)?;
            }
        }
        self.survey.listed = self.facts.listed.clone();
        self.survey.condemned = Doomed::of(&self.facts.plans).packs;
        self.survey.damaged = self.facts.listing.damaged.clone();
        self.survey.refresh(self.origins, self.full, &wanted.packs)?;
        let mut decided = Decided { manifests, ..Decided::default() };
        self.repository.own_tocs(&wanted.packs, &self.survey.listed, |pack, own| {
            let goes = self.may_go(pack, own, wanted)?;
            if goes { &mut decided.packs } else { &mut decided.kept }.push(pack);
            Ok(())
        })?;
        self.survey.set_leaving(&[]);
        Ok(decided)
    }

    /// Whether a pack may go: its own table was read, and nothing it holds is
    /// needed here.
    fn may_go(&self, pack: PackId, own: Option<OwnToc>, wanted: &Wanted) -> Result<bool> {
        let index = self.repository.index();
        let Some(own) = own else {
            // gone already: only the index still tells of it
            return match index.pack_number(pack) {
                Some(number) => self.survey.is_dead(&*index.toc(number)?),
                None => Ok(true),
            };
        };
        match own {
            Ok(toc) => self.may_take(&toc),
            Err(error) if error.kind == ErrorKind::Damage => Ok(wanted.broken.contains(&pack)
                && is_broken(self.repository, pack, self.due.now)?
                && self.survey.nothing_is_missing()?),
            Err(error) => Err(error),
        }
    }

    /// Whether nothing of a pack is needed, neither where its chunks are said to
    /// have been born, nor as its own: whose word counts may change.
    fn may_take(&self, toc: &PackToc) -> Result<bool> {
        if !self.survey.is_dead(toc)? {
            return Ok(false);
        }
        if toc.toc.foreign.is_empty() {
            return Ok(true);
        }
        let own = Toc { foreign: Vec::new(), ..toc.toc.clone() };
        self.survey.is_dead(&PackToc::new(toc.pack, own))
    }

    fn delete(&mut self, wanted: &Wanted, decided: Decided) -> Result<Swept> {
        self.progress.event(Event::Stage("deleting"));
        let Decided { manifests, packs, kept } = decided;
        let ids: Vec<SnapshotId> = manifests.keys().copied().collect();
        // what is replaced first: alone it would look like a snapshot of its own
        let mut ordered = ids.clone();
        ordered.sort_by_key(|id| manifests.get(id) != Some(&Reason::Replaced));
        self.delete_keys(ordered.iter().map(|id| confirmation_key(*id)).collect())?;
        self.delete_keys(ordered.iter().map(|id| manifest_key(*id)).collect())?;
        let merge = if wanted.tidy { self.merge(&packs)? } else { Merge::default() };
        merge::put(self.repository, merge, &packs)?;
        let bytes = packs.iter().filter_map(|id| self.survey.listed.get(id)).sum();
        self.delete_keys(packs.iter().map(|id| pack_key(*id)).collect())?;
        for pack in &packs {
            self.survey.listed.remove(pack);
        }
        self.facts.went.extend(&ids);
        let mut swept = Swept { manifests: ids, packs, bytes, kept, ..Swept::default() };
        if wanted.tidy {
            swept.segments = self.delete_superseded()?;
            swept.notes = self.delete_notes()?;
            self.delete_empty_plans()?;
        }
        Ok(swept)
    }

    fn merge(&self, packs: &[PackId]) -> Result<Merge> {
        merge::plan(self.repository, &packs.iter().copied().collect(), self.superseded, self.full)
    }

    /// Segments that others replaced before this run began.
    fn delete_superseded(&self) -> Result<u64> {
        let proven = merge::proven_superseded(self.repository, self.superseded)?;
        let keys: Vec<String> = proven.iter().map(|id| segment_key(*id)).collect();
        let count = keys.len() as u64;
        self.delete_keys(keys)?;
        self.repository.index().drop_segments(&proven)?;
        Ok(count)
    }

    /// Notes that are only in the way now.
    fn delete_notes(&self) -> Result<u64> {
        let InTheWay { confirmations, sessions, marks, records } =
            notes::in_the_way(self.repository, self.facts, self.due)?;
        let count = confirmations.len() + sessions.len() + marks.len() + records.len();
        for class in [confirmations, sessions, marks, records] {
            self.delete_keys(class)?;
        }
        Ok(count as u64)
    }

    /// Plans of which nothing is left. What they name never comes back.
    fn delete_empty_plans(&mut self) -> Result<()> {
        let manifests: HashSet<SnapshotId> = notes::listed_snapshots(self.repository)?;
        let is_empty = |plan: &&Announced| {
            !plan.sweep.manifests.iter().any(|id| manifests.contains(id))
                && !plan.sweep.packs.iter().any(|id| self.survey.listed.contains_key(id))
        };
        let empty: Vec<String> =
            self.facts.plans.iter().filter(is_empty).map(|plan| plan.key.clone()).collect();
        self.delete_keys(empty)
    }

    fn delete_keys(&self, keys: Vec<String>) -> Result<()> {
        crate::store::delete_many(&**self.repository.store(), &keys).map_err(deleting)
    }
}

#[derive(Default)]
struct Decided {
    manifests: BTreeMap<SnapshotId, Reason>,
    packs: Vec<PackId>,
    kept: Vec<PackId>,
}

/// What to say when a store does not delete.
pub(super) fn deleting(error: StoreError) -> Error {
    match error.kind() {
        StoreKind::Permission => Error::failed(format!(
            "{error}: this store does not let these credentials delete; nothing is lost: \
             run prune with credentials that may"
        )),
        _ => error.into(),
    }
}
