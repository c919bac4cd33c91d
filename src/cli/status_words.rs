//! The status of snapshots and runs in words, for people and for scripts.

use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::backup::outcome_name;
use super::context::Context;
use crate::output;
use crate::repository::Repository;
use crate::repository::judge::{Cause, RunState};
use crate::repository::runs::Run;
use crate::repository::snapshots::{Snapshot, State, Unbelieved};
use crate::status::{RunStatus, SnapshotStatus, Status, undo_until};

/// What `--json` calls a run's state.
pub fn run_word(state: RunState) -> &'static str {
    match state {
        RunState::MadeSnapshot(_) => "made_snapshot",
        RunState::Running => "running",
        RunState::Interrupted(_) => "interrupted",
        RunState::Silent { .. } => "silent",
        RunState::Failed { .. } => "failed",
        RunState::Ended => "ended",
    }
}

/// `running (3 min ago)`, `no sign for 7 h`, `failed (no space left)`.
pub fn run_text(run: &RunStatus, reason: Option<&str>, now: u64) -> String {
    match run.state {
        RunState::MadeSnapshot(_) => "made a snapshot".to_owned(),
        RunState::Running => {
            format!("running ({} ago)", output::age(now.saturating_sub(run.run.last_sign)))
        }
        RunState::Interrupted(_) => "interrupted".to_owned(),
        RunState::Silent { hours } => format!("no sign for {} h", output::count(hours)),
        RunState::Failed { code } => match reason {
            Some(reason) => format!("failed ({})", output::sentence(reason)),
            None => format!("failed (exit code {code})"),
        },
        RunState::Ended => "ended without a snapshot".to_owned(),
    }
}

/// Why a run failed, where this key may know.
pub fn reason(context: &Context, repository: &Repository, run: &Run) -> Option<String> {
    repository.run_reason(run).unwrap_or_else(|error| {
        context.warn(&error.message);
        None
    })
}

/// What a snapshot is called, else its place in a set: `cluster-7/node-1`.
pub fn name_or_place(snapshot: &Snapshot) -> String {
    let place = || snapshot.manifest.set.as_ref().map(|set| format!("{}/{}", set.name, set.part));
    snapshot.name.clone().or_else(place).unwrap_or_default()
}

/// The words of a snapshot's status; of one that was never confirmed, `run` is
/// what its run's state is called.
pub fn snapshot_text(told: &SnapshotStatus, run: Option<String>, now: u64) -> String {
    let snapshot = &told.snapshot;
    let mut words: Vec<String> = vec![match snapshot.state {
        State::Confirmed => outcome_name(snapshot.manifest.outcome).to_owned(),
        State::Distrusted => "distrusted".to_owned(),
        State::Unconfirmed => "unconfirmed".to_owned(),
    }];
    match told.status {
        Status::Complete | Status::Partial | Status::Distrusted => {}
        Status::Running => words = run.into_iter().collect(),
        Status::Unconfirmed => words.extend(run),
        Status::Replaced => words.push("replaced".to_owned()),
        Status::Expired => words.push("expired".to_owned()),
        Status::Deleting { undo_until } => words.push(deleting(undo_until, now)),
        Status::BeingDeleted => words.push("being deleted".to_owned()),
    }
    match (&told.set_lacks, told.status) {
        (Some(lacking), Status::Complete | Status::Partial) if !lacking.is_empty() => {
            words.push(output::sentence(&format!("set lacks {}", lacking.join(", "))).into_owned());
        }
        _ => {}
    }
    if snapshot.pinned {
        words.push("pinned".to_owned());
    }
    words.join(", ")
}

/// `unreadable, deleting (undo until ...)`.
pub fn unbelieved_text(unbelieved: &Unbelieved, now: u64) -> String {
    match undo_until(unbelieved) {
        Some(undo_until) => format!("unreadable, {}", deleting(undo_until, now)),
        None => "unreadable".to_owned(),
    }
}

fn deleting(undo_until: u64, now: u64) -> String {
    match undo_until > now {
        true => {
            let time = output::minute(undo_until, &TimeZone::system());
            format!("deleting (undo until {time})")
        }
        false => "deleting (undo until the next prune)".to_owned(),
    }
}

pub fn run_json(repository: &Repository, told: &RunStatus, reason: Option<String>) -> Value {
    let run = &told.run;
    let interrupted = match told.state {
        RunState::Interrupted(Cause::Signal) => Some("signal"),
        RunState::Interrupted(Cause::ProcessGone) => Some("process_gone"),
        RunState::Interrupted(Cause::LaterRun) => Some("later_run"),
        _ => None,
    };
    let hours = match told.state {
        RunState::Silent { hours } => Some(hours),
        _ => None,
    };
    let snapshot = match told.state {
        RunState::MadeSnapshot(id) => Some(id.to_hex()),
        _ => None,
    };
    json!({
        "id": run.id.to_hex(),
        "status": run_word(told.state),
        "host": run.host,
        "profile": run.profile,
        "started": output::rfc3339(run.started),
        "last_sign": output::rfc3339(run.last_sign),
        "silent_hours": hours,
        "interrupted_by": interrupted,
        "exit_code": run.code,
        "reason": reason,
        "snapshot": snapshot,
        "packs": run.packs,
        "bytes": run.bytes,
        "writer": run.writer.to_hex(),
        "writer_label": repository.trust().label(run.writer),
        "machine": run.machine,
        "boot": run.boot,
        "process": run.process,
    })
}

/// How a snapshot stands by itself, whatever its run does: stable words.
pub fn standing(snapshot: &Snapshot) -> Vec<&'static str> {
    let mut words = vec![match snapshot.state {
        State::Confirmed => outcome_name(snapshot.manifest.outcome),
        State::Unconfirmed => "unconfirmed",
        State::Distrusted => "distrusted",
    }];
    let flags = [
        (snapshot.replaced, "replaced"),
        (snapshot.forgotten.is_some(), "forgotten"),
        (snapshot.pinned, "pinned"),
    ];
    words.extend(flags.into_iter().filter(|(applies, _)| *applies).map(|(_, word)| word));
    words
}
