//! Takes over the packs of this writer's own interrupted runs: what was
//! uploaded is not uploaded again.

use std::collections::HashSet;

use crate::format::Kind;
use crate::format::manifest;
use crate::format::notes::{self, Session, SessionState, session_of_key};
use crate::format::pack::{FOOTER_LENGTH, Footer, pack_key};
use crate::id::{PackId, SnapshotId};
use crate::progress::Progress;
use crate::repository::packer::PutPack;
use crate::repository::{Repository, Result};

/// What tells this process from others: host, boot and process id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whereabouts {
    pub host: String,
    pub boot: String,
    pub process: u64,
}

impl Whereabouts {
    pub fn here(host: &str) -> Whereabouts {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Whereabouts {
            host: host.to_owned(),
            boot: boot.trim().to_owned(),
            process: u64::from(std::process::id()),
        }
    }

    /// Whether the run that wrote `session` can be told to be over.
    fn outlived(&self, session: &Session) -> bool {
        if session.host != self.host {
            return false;
        }
        session.boot != self.boot
            || !process_lives(session.process)
            || session.process == self.process
    }
}

fn process_lives(process: u64) -> bool {
    std::path::Path::new(&format!("/proc/{process}")).exists()
}

/// Adopts packs of interrupted runs, other than the run `own`, into the index.
/// How many.
pub fn adopt(
    repository: &Repository,
    own: SnapshotId,
    whereabouts: &Whereabouts,
    progress: &dyn Progress,
) -> Result<u64> {
    let interrupted = interrupted_runs(repository, own, whereabouts)?;
    if interrupted.is_empty() {
        return Ok(0);
    }
    let mut adopted = Vec::new();
    for (id, length) in repository.listed_packs()? {
        if progress.interrupted() {
            return Err(crate::repository::Error::interrupted());
        }
        if repository.index().pack_number(id).is_none()
            && let Some(pack) = own_pack(repository, id, length)
        {
            adopted.push(pack);
        }
    }
    repository.put_segments(&adopted)?;
    for (run, number, last) in interrupted {
        let ended =
            Session { state: SessionState::Ended, time: crate::repository::now_ms(), ..last };
        // apart from the numbers a living run gives its own signs
        repository.put_session(run, number.max(95_000_000) + 1, &ended, None)?;
    }
    Ok(adopted.len() as u64)
}

/// Runs of this writer that neither made a snapshot nor ended, and are over.
fn interrupted_runs(
    repository: &Repository,
    own: SnapshotId,
    whereabouts: &Whereabouts,
) -> Result<Vec<(SnapshotId, u64, Session)>> {
    let keys = repository.listed_keys(notes::SESSIONS)?;
    let snapshots: HashSet<SnapshotId> = repository
        .listed_keys(manifest::PREFIX)?
        .iter()
        .filter_map(|key| manifest::snapshot_of_key(key, manifest::PREFIX))
        .collect();
    // the keys are sorted, so the last one of each run is its newest
    let mut last_keys: Vec<(SnapshotId, u64, String)> = Vec::new();
    for key in keys {
        let Some((run, number)) = session_of_key(&key) else { continue };
        if run == own || snapshots.contains(&run) {
            continue;
        }
        match last_keys.last_mut() {
            Some(last) if last.0 == run => *last = (run, number, key),
            _ => last_keys.push((run, number, key)),
        }
    }
    let wanted: Vec<String> = last_keys.iter().map(|(.., key)| key.clone()).collect();
    let objects = repository.read_objects(&wanted)?;
    let mut interrupted = Vec::new();
    for (run, number, key) in last_keys {
        let Some(bytes) = objects.get(&key) else { continue };
        let opened = repository.open_object(Kind::Session, &key, bytes.clone(), repository.trust());
        let Ok(opened) = opened else { continue };
        let Ok(session) = Session::parse(&opened.text) else { continue };
        let over = matches!(session.state, SessionState::Ended);
        if opened.writer == repository.keyring().writer && !over && whereabouts.outlived(&session) {
            interrupted.push((run, number, session));
        }
    }
    Ok(interrupted)
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
