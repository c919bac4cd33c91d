//! Sorts packs: those that nobody needs, those worth moving, those that stay.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::facts::Facts;
use super::plan::{DeadPack, LivePack, Plan};
use super::survey::Survey;
use super::usage::Usage;
use super::{PruneOptions, progress_check};
use crate::format::pack::PackKind;
use crate::id::PackId;
use crate::progress::Progress;
use crate::repository::commit::Doomed;
use crate::repository::index::PackToc;
use crate::repository::{Repository, Result};

/// How long a pack that was moved and not listed yet is left to its prune, in ms.
const MOVED_MS: u64 = 3600 * 1000;

pub(super) struct Judge<'a, 'r> {
    pub repository: &'a Repository,
    pub facts: &'a Facts,
    pub options: &'a PruneOptions,
    /// What snapshots that go use.
    pub leaving: &'a Usage<'r>,
    /// What other plans name.
    pub doomed: &'a Doomed,
}

impl Judge<'_, '_> {
    /// Sorts packs into dead ones and those to move. Of a chunk that lies in
    /// several packs the place that is asked about last stays.
    pub fn packs(
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
            // one that is needed and in no index stays: that is an index to repair
            self.pack(&toc, survey, plan)?;
        }
        self.broken(survey, plan)?;
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
        // what a prune moved nobody waits for but that prune, until it is listed
        let carried: u32 = toc.toc.foreign.iter().map(|run| run.count).sum();
        let unlisted = self.repository.index().pack_number(toc.pack).is_none();
        if unlisted && carried as usize == toc.toc.chunks.len() {
            return began.saturating_add(MOVED_MS) > self.options.now;
        }
        !is_used && !self.facts.runs.is_over(toc.toc.run, began, self.options.now)
    }

    /// Broken packs go only when everything that is used was found elsewhere,
    /// which only a look at everything can tell.
    fn broken(&self, survey: &Survey<'_>, plan: &mut Plan) -> Result<()> {
        if plan.broken.is_empty() || survey.nothing_is_missing()? {
            return Ok(());
        }
        let why = "something that is used is missing: it may be in here";
        let kept = std::mem::take(&mut plan.broken).into_iter();
        plan.unreadable.extend(kept.map(|pack| (pack.id, why.to_owned())));
        Ok(())
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
