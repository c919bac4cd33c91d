//! Tells by notices what `status` found of each profile of the configuration: also of what did not run at all.

use jiff::tz::TimeZone;

use super::directory;
use super::rows::Row;
use crate::cli::backup::host_of;
use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::notices;
use crate::config::Profile;
use crate::config::profile::ProfileKind;
use crate::notify::{Counts, Event, Figures, LastGood, Moment, State};
use crate::overdue::{Lack, Remark, Written};
use crate::repository::{Result, now_ms};

/// Deliveries that fail are warnings.
pub fn send(context: &Context, rows: &[Row<'_>]) -> Result<()> {
    let Some(directory) = directory(context) else {
        context.warn("nobody is told: there is no place to remember who was, see ESKER_CACHE_DIR");
        return Ok(());
    };
    for profile in context.profiles()?.iter().filter(|p| p.kind() != ProfileKind::Template) {
        let is_own = |row: &&Row<'_>| {
            row.expected.written != Written::Snapshots && row.expected.name == profile.name
        };
        let own: Vec<&Row<'_>> = rows.iter().filter(is_own).collect();
        if !own.is_empty() {
            notices::send(context, &directory, profile, &event(profile, &own))?;
        }
    }
    Ok(())
}

fn event(profile: &Profile, rows: &[&Row<'_>]) -> Event {
    let now = now_ms();
    let remarks: Vec<(&Row<'_>, &Remark)> =
        rows.iter().flat_map(|row| row.remarks.iter().map(|remark| (*row, remark))).collect();
    let overdue = remarks.iter().find(|(_, remark)| remark.lack != Lack::Suspicious);
    let first = overdue.or(remarks.first());
    let mut failed: Vec<String> = remarks.iter().map(|(_, r)| r.lack.word().to_owned()).collect();
    failed.dedup();
    Event {
        moment: Moment::Look,
        host: host_of(profile),
        profile: profile.name.clone(),
        state: match (overdue, first) {
            (Some(_), _) => State::Overdue,
            (None, Some(_)) => State::Suspicious,
            (None, None) => State::Good,
        },
        failed,
        last_good: last_good(rows),
        sentence: first.map(|(row, remark)| sentence(row, remark)).unwrap_or_default(),
        command: first.map(|(_, remark)| remark.command.clone()).unwrap_or_default(),
        exit_code: u64::from(if first.is_some() { Exit::Stale } else { Exit::Ok }.code()),
        started_ms: now,
        ended_ms: now,
        figures: rows.iter().map(|row| figures(row)).collect(),
        zone: TimeZone::system(),
    }
}

fn sentence(row: &Row<'_>, remark: &Remark) -> String {
    let repository = row.expected.repository.as_deref().unwrap_or_default();
    format!("repository {repository}: {}", remark.sentence)
}

/// The newest complete snapshot that any of its repositories has.
fn last_good(rows: &[&Row<'_>]) -> Option<LastGood> {
    let complete = rows.iter().filter_map(|row| row.group.as_ref()?.newest_complete);
    let newest = complete.max_by_key(|snapshot| snapshot.manifest.started)?;
    let snapshot = newest.id.to_hex()[..8].to_owned();
    Some(LastGood { snapshot, time_ms: newest.manifest.started })
}

/// How runs ended is known from the runs themselves.
fn figures(row: &Row<'_>) -> Figures {
    let group = row.group.as_ref();
    let newest = group.and_then(|group| group.snapshots.iter().rfind(|s| s.is_good()));
    let counts = newest.map(|newest| &newest.manifest.counts);
    Figures {
        repository: row.expected.repository.clone().unwrap_or_default(),
        last_success_ms: group
            .and_then(|group| group.newest_complete)
            .map(|snapshot| snapshot.manifest.ended),
        overdue: Some(row.remarks.iter().any(|remark| remark.lack != Lack::Suspicious)),
        counts: counts.map(|counts| Counts {
            files: counts.files,
            bytes: counts.bytes,
            files_new: counts.files_new,
            files_changed: counts.files_changed,
            bytes_added: counts.bytes_added,
            bytes_stored: counts.bytes_stored,
        }),
        ..Figures::default()
    }
}
