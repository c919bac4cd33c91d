//! Takes over the packs of this writer's own interrupted runs: what was
//! uploaded is not uploaded again.

use std::collections::HashSet;

use super::packer::PutPack;
use super::runs::{Run, Sight, Whereabouts};
use super::{Error, Repository, Result};
use crate::format::manifest;
use crate::format::notes::SessionState;
use crate::format::pack::{FOOTER_LENGTH, Footer, pack_key};
use crate::id::{PackId, SnapshotId};
use crate::progress::Progress;

/// Adopts packs of interrupted runs into the index, which is up to date. How
/// many.
pub fn adopt(
    repository: &Repository,
    interrupted: Vec<Run>,
    progress: &dyn Progress,
) -> Result<u64> {
    if interrupted.is_empty() {
        return Ok(0);
    }
    let mut adopted = Vec::new();
    for (id, length) in repository.listed_packs()? {
        if progress.interrupted() {
            return Err(Error::interrupted());
        }
        if repository.index().pack_number(id).is_none()
            && let Some(pack) = own_pack(repository, id, length)
        {
            adopted.push(pack);
        }
    }
    repository.put_segments(&adopted)?;
    for run in interrupted {
        // another run may be doing the same; without a sign the next one looks again
        let _ = repository.put_taken_over(&run);
    }
    Ok(adopted.len() as u64)
}

/// Runs of this writer, other than the run `own`, that neither made a snapshot
/// nor ended, and are over.
pub fn interrupted_runs(
    repository: &Repository,
    own: SnapshotId,
    whereabouts: &Whereabouts,
) -> Result<Vec<Run>> {
    // a run that has a manifest has segments for all it put: its signs need not be read
    let mut left_out: HashSet<SnapshotId> = repository
        .listed_keys(manifest::PREFIX)?
        .iter()
        .filter_map(|key| manifest::snapshot_of_key(key, manifest::PREFIX))
        .collect();
    left_out.insert(own);
    let runs = repository.list_runs_but(&left_out)?.runs;
    let writer = repository.keyring().writer;
    let is_left = |run: &Run| {
        run.writer == writer
            && run.state != SessionState::Ended
            && whereabouts.sees(run) == Sight::Gone
    };
    Ok(runs.into_iter().filter(is_left).collect())
}

/// A whole pack that this writer signed; nothing if it is someone else's or
/// damaged.
fn own_pack(repository: &Repository, id: PackId, length: u64) -> Option<PutPack> {
    let key = pack_key(id);
    let store = repository.store();
    let footer_at = length.checked_sub(FOOTER_LENGTH as u64)?;
    let footer = store.get_range(&key, footer_at, FOOTER_LENGTH as u64).ok()?;
    let footer = Footer::parse(footer.as_ref().try_into().ok()?).ok()?;
    if footer.signer != repository.keyring().writer {
        return None;
    }
    // read whole: a pack that was cut short or altered is not built upon
    let bytes = store.get(&key, crate::format::pack::MAX_PACK).ok()?;
    if *blake3::hash(&bytes).as_bytes() != id.0 {
        return None;
    }
    let frame_at = bytes.len().checked_sub(footer.frame_length())?;
    let frame = bytes.get(frame_at..)?.to_vec();
    let pack = repository.read_frame(id, length, &frame, footer.signer).ok()?;
    Some(PutPack { id, length, frame, toc: pack.toc })
}
