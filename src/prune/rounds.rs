//! The rounds of a prune: what nobody needs, then what must be moved.

use super::plan::Plan;
use super::repack::Mover;
use super::survey::Survey;
use super::sweep::{self, Sweeper, Wanted};
use super::{PruneOptions, PruneReport};
use crate::format::pack::pack_key;
use crate::id::{PackId, SnapshotId};
use crate::progress::{Event, Progress};
use crate::repository::packer::{Packer, Sealer, with_packer};
use crate::repository::{ErrorKind, Result, now_ms};

/// Stored bytes of packs that are moved in one round, so that the space this
/// needs is bounded. A store elsewhere does not fill up, and at the end of a
/// round its link carries little.
const ROUND_BYTES: u64 = 512 << 20;
const ROUND_BYTES_REMOTE: u64 = 2 << 30;

/// Packs to move, in rounds of bounded size.
pub(super) fn rounds(plan: &Plan, is_local: bool) -> Vec<Vec<PackId>> {
    let mut rounds: Vec<Vec<PackId>> = Vec::new();
    let most = if is_local { ROUND_BYTES } else { ROUND_BYTES_REMOTE };
    let mut bytes = most;
    for pack in &plan.repack {
        if bytes >= most {
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

impl PruneReport {
    /// The first round: manifests, whole packs, and what is in the way.
    pub(super) fn sweep_dead(&mut self, sweeper: &mut Sweeper<'_, '_>) -> Result<String> {
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
    pub(super) fn move_and_sweep(
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
        for (pack, reason) in packs.iter().zip(mover.packs(packs, survey, progress)?) {
            match reason {
                None => moved.push(*pack),
                // another prune was faster: what is needed lies elsewhere
                Some(_) if !repository.exists(&pack_key(*pack))? => {}
                // known to be damaged, and not all of it can be moved: check tells of it
                Some(_) if survey.damaged.contains(pack) => {}
                Some(error) => self.damage.push(format!("{error}; {} stays", pack_key(*pack))),
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
