//! What earlier drills of the same extent recorded, and the record of this one.

use super::report::DrillReport;
use crate::output;
use crate::record::{self, Finished};
use crate::repository::{Error, Repository, Result};

const KIND: &str = "drill";
/// The count under which a record says where the hand stands.
const HAND: &str = "hand";

/// What earlier drills came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Drills that ran to their end.
    pub drills: u64,
    /// Where the hand stands.
    pub hand: u64,
    /// When the last of them began, in ms since 1970.
    pub newest: Option<u64>,
}

impl History {
    /// Reads the records of drills of one extent. Records that cannot be read, or are
    /// gone, only mean that a round begins anew.
    pub fn read(repository: &Repository, extent: &str) -> Result<History> {
        let mut history = History::default();
        for recorded in record::list(repository)?.records {
            let record = &recorded.record;
            if record.kind != KIND || record.extent != extent || recorded.by_revoked {
                continue;
            }
            let hand = record.counts.iter().find(|(name, _)| name == HAND);
            if let Some((_, hand)) = hand {
                history.drills += 1;
                history.hand = *hand;
                history.newest = history.newest.max(Some(record.started));
            }
        }
        Ok(history)
    }
}

/// Puts the record of a drill that began at `started`, in ms since 1970, and ended
/// with `code`, or with an error. Names are in its log only, which is sealed to those
/// who may read.
pub fn record(
    repository: &Repository,
    host: &str,
    started: u64,
    report: &DrillReport,
    (code, error): (u64, Option<&Error>),
) -> Result<String> {
    let mut finished = Finished::new(KIND, started, report.extent.clone())
        .count("packs", report.packs)
        .count("packs_covered", report.covered.len() as u64)
        .count("bytes_covered", report.covered_bytes)
        .count("files", report.files)
        .count("bytes", report.bytes)
        .count("live", report.live)
        .count("sources", report.sources.len() as u64)
        .count("loaded", report.loaded.len() as u64)
        .count("findings", report.findings.count())
        .count("failures", report.failures_count)
        .count("not_covered", report.not_covered.len() as u64);
    // one that had to end covered nothing that the next may rely on
    if let (Some(hand), None) = (report.hand, error) {
        finished = finished.count(HAND, hand);
    }
    finished.code = code;
    finished.snapshots = report.snapshots.clone();
    finished.log = log(report, error);
    record::put(repository, host, &finished)
}

/// What was not covered first: of a long log the end is kept, and that is the findings.
fn log(report: &DrillReport, error: Option<&Error>) -> String {
    let mut lines: Vec<String> = Vec::new();
    lines.extend(report.not_covered.iter().map(|text| format!("not covered: {text}")));
    lines.extend(report.sources.iter().map(|name| format!("restored from: {name}")));
    lines.extend(report.loaded.iter().map(|name| format!("loaded: {name}")));
    lines.extend(report.notes.iter().map(|text| format!("note: {text}")));
    lines.extend(report.failures.iter().map(|text| format!("not written: {text}")));
    lines.extend(report.findings.iter().map(|finding| {
        format!("wrong: {}: {}", output::path(&finding.path), output::sentence(&finding.reason))
    }));
    lines.extend(error.map(|error| format!("ended by: {}", error.message)));
    lines.join("\n")
}
