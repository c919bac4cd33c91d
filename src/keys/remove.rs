//! `key remove`: shuts a key out.
//!
//! Order: what a maintainer did to the index is taken over, then one update
//! revokes the writer (and makes a new epoch), then what he did to the index in
//! between is taken over, then the slot is deleted. After a crash the same
//! command goes on where it ended. A slot whose writer stays is deleted first, and
//! an update follows.

use super::carry_on::{Carried, Handover};
use super::change::change;
use super::rotate::{RotateReport, rotate, rotate_with};
use super::{in_force, root, slots};
use crate::format::slot::{Role, Slot, slot_key};
use crate::format::update::{ConfigUpdate, Revocation};
use crate::id::{ObjectHash, SlotId, SnapshotId, WriterId};
use crate::progress::Progress;
use crate::repository::snapshots::State;
use crate::repository::{Error, ErrorKind, Repository, Result, Trust, now_ms};

#[derive(Clone, Debug, Default)]
pub struct RemoveOptions {
    /// Remove even the slot that this command was opened with.
    pub force: bool,
    /// Whether to make a new epoch. Without it: for every role but full, whose
    /// holder knows the keys of all epochs.
    pub rotate: Option<bool>,
    /// The key was stolen: snapshots that say they began at or after this time
    /// (ms since 1970) are not trusted any more. The time is the snapshot's own
    /// word; who held the key can have written an earlier one.
    pub distrust_since: Option<u64>,
    /// More snapshots of this writer that are not trusted any more.
    pub distrust: Vec<SnapshotId>,
}

#[derive(Clone, Debug)]
pub struct RemoveReport {
    pub slot: SlotId,
    pub label: String,
    pub role: Role,
    /// The writer that is revoked now; none while another slot has the same.
    pub revoked: Option<WriterId>,
    /// Snapshots of the writer that stay good, and those that do not.
    pub standing: usize,
    pub distrusted: Vec<SnapshotId>,
    /// What was taken over of a maintainer's index.
    pub carried: Option<Carried>,
    /// The update that did it; none if nothing but the slot had to go.
    pub rotation: Option<RotateReport>,
    /// Whether a new epoch was made.
    pub rotated: bool,
    /// The holder knew the root: only a copy to a new repository shuts him out.
    pub knew_root: bool,
}

/// Removes a key. Needs a full key.
pub fn remove(
    repository: &Repository,
    slot: SlotId,
    options: &RemoveOptions,
    progress: &dyn Progress,
) -> Result<RemoveReport> {
    root(repository)?;
    let trust = repository.reload_trust()?;
    let (all, _) = slots(repository)?;
    let slot = all.iter().find(|other| other.id == slot).ok_or_else(|| {
        Error::new(ErrorKind::Usage, format!("there is no key {slot}: see `esker key list`"))
    })?;
    let others: Vec<&Slot> = all.iter().filter(|other| other.id != slot.id).collect();
    check(repository, &trust, slot, &others, options)?;
    let mut report = RemoveReport {
        slot: slot.id,
        label: slot.label.clone(),
        role: slot.role,
        revoked: None,
        standing: 0,
        distrusted: Vec::new(),
        carried: None,
        rotation: None,
        rotated: options.rotate.unwrap_or(slot.role != Role::Full),
        knew_root: slot.role == Role::Full,
    };
    let shared = others.iter().any(|other| other.writer == slot.writer);
    if !shared && in_force(&trust, slot) {
        revoke(repository, slot, options, &mut report, progress)?;
    } else if options.rotate == Some(true) {
        report.rotation = Some(rotate(repository)?);
    } else {
        report.rotated = false;
    }
    repository.store().delete(&slot_key(slot.id))?;
    if report.revoked.is_none() {
        // it says nothing new, and shows machines that opened with the slot before that
        // they have to look for it again
        change(repository, |_| Ok(()))?;
    }
    Ok(report)
}

fn check(
    repository: &Repository,
    trust: &Trust,
    slot: &Slot,
    others: &[&Slot],
    options: &RemoveOptions,
) -> Result<()> {
    let stays = others.iter().any(|other| other.role == Role::Full && in_force(trust, other));
    if slot.role == Role::Full && !stays {
        return Err(Error::failed(format!(
            "{} is the last full key: without one nobody can change keys again: \
             add another first",
            slot.label
        )));
    }
    if slot.id == repository.keyring().slot && !options.force {
        return Err(Error::failed(format!(
            "{} is the key in use: open the repository with another, or say --force",
            slot.label
        )));
    }
    Ok(())
}

fn revoke(
    repository: &Repository,
    slot: &Slot,
    options: &RemoveOptions,
    report: &mut RemoveReport,
    progress: &dyn Progress,
) -> Result<()> {
    let writer = slot.writer;
    let mut handover = Handover::new(repository, writer, options.distrust_since);
    if slot.role.may_maintain() {
        handover.carry_on(progress)?;
    }
    let mut judged = judge(repository, writer, options)?;
    let revocation = Revocation { writer, at: now_ms(), standing: judged.standing.clone() };
    let edit = |update: &mut ConfigUpdate| {
        update.revoked.retain(|other| other.writer != writer);
        update.revoked.push(revocation);
        Ok(())
    };
    let mut rotation = if report.rotated {
        rotate_with(repository, edit)?
    } else {
        RotateReport::without_new_epoch(&change(repository, edit)?)
    };
    if slot.role.may_maintain() && writer != repository.keyring().writer {
        // what a prune of his did between the look and the update
        handover.carry_on(progress)?;
    }
    report.carried = handover.report();
    // a run that ended between the look and the update said that its snapshot is
    // good: look again
    let again = judge(repository, writer, options)?;
    if again.standing != judged.standing {
        let standing = again.standing.clone();
        let changed = change(repository, |update| {
            for revocation in update.revoked.iter_mut().filter(|r| r.writer == writer) {
                revocation.standing.clone_from(&standing);
            }
            Ok(())
        })?;
        rotation.update = changed.number;
        judged = again;
    }
    report.revoked = Some(writer);
    report.standing = judged.standing.len();
    report.distrusted = judged.distrusted;
    report.rotation = Some(rotation);
    Ok(())
}

struct Judged {
    standing: Vec<(SnapshotId, ObjectHash)>,
    distrusted: Vec<SnapshotId>,
}

/// A writer's confirmed snapshots: those that stay good, those that do not. The
/// repository's own trust, from before the revocation, judges them.
fn judge(repository: &Repository, writer: WriterId, options: &RemoveOptions) -> Result<Judged> {
    let (snapshots, _) = repository.snapshots()?;
    let mut judged = Judged { standing: Vec::new(), distrusted: Vec::new() };
    for snapshot in snapshots {
        if snapshot.manifest.writer != writer || snapshot.state != State::Confirmed {
            continue;
        }
        let late = options.distrust_since.is_some_and(|since| snapshot.manifest.started >= since);
        if late || options.distrust.contains(&snapshot.id) {
            judged.distrusted.push(snapshot.id);
        } else {
            judged.standing.push((snapshot.id, snapshot.hash));
        }
    }
    judged.standing.sort_unstable();
    Ok(judged)
}
