//! Records: what a prune, check, copy, drill or run leaves in the repository of how
//! it ended. Anybody's key may put one; who may read content sees the log.
//!
//! `format-spec/12-notes.md`, records.

use crate::format::notes::Record;
use crate::id::SnapshotId;
use crate::repository::{Error, Repository, Result, now_ms};

pub use crate::repository::records::{RecordListing, Recorded};

/// Longest end of a log that is kept, in bytes.
pub const MAX_LOG: usize = 64 << 10;
/// Most snapshots and counts that one record names.
const MAX_SNAPSHOTS: usize = 10_000;
const MAX_COUNTS: usize = 1024;

/// How a run ended. Only the log may name paths or quote a tool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finished {
    /// One of [`RECORD_KINDS`](crate::format::notes::RECORD_KINDS).
    pub kind: &'static str,
    /// Start of the run, in ms since 1970.
    pub started: u64,
    /// The exit code its caller sees.
    pub code: u64,
    /// What was looked at, in words a reader of any role may see: no paths.
    pub extent: String,
    pub snapshots: Vec<SnapshotId>,
    /// Named counts.
    pub counts: Vec<(String, u64)>,
    pub log: String,
}

impl Finished {
    /// A run that is ending now and began at `started`.
    pub fn new(kind: &'static str, started: u64, extent: impl Into<String>) -> Finished {
        Finished { kind, started, extent: extent.into(), ..Finished::default() }
    }

    /// The same, ended by an error.
    pub fn failed(self, error: &Error) -> Finished {
        Finished { code: error.exit_code(), log: error.message.clone(), ..self }
    }

    pub fn count(mut self, name: &str, number: u64) -> Finished {
        self.counts.push((name.to_owned(), number));
        self
    }
}

/// Puts a record of a run of this host, and returns its id in hex. Of a long log the
/// end is kept.
pub fn put(repository: &Repository, host: &str, finished: &Finished) -> Result<String> {
    let mut snapshots = finished.snapshots.clone();
    snapshots.truncate(MAX_SNAPSHOTS);
    let mut counts = finished.counts.clone();
    counts.truncate(MAX_COUNTS);
    let record = Record {
        kind: finished.kind.to_owned(),
        started: finished.started,
        ended: now_ms().max(finished.started),
        host: host.to_owned(),
        code: finished.code,
        extent: finished.extent.clone(),
        snapshots,
        counts,
        kept: Vec::new(),
    };
    let log = Some(end(&finished.log)).filter(|log| !log.is_empty());
    repository.put_record(record, log)
}

/// All records, in the order in which their runs ended. What cannot be read is a
/// trouble, not an end.
pub fn list(repository: &Repository) -> Result<RecordListing> {
    repository.list_records()
}

/// The log of a record; nothing if it has none. Needs a key that may read content.
pub fn log(repository: &Repository, recorded: &Recorded) -> Result<Option<String>> {
    repository.record_log(recorded)
}

/// The end of a text, from the beginning of a line if it is cut.
fn end(text: &str) -> &str {
    let mut start = text.len().saturating_sub(MAX_LOG);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    let rest = &text[start..];
    match rest.split_once('\n') {
        Some((_, lines)) if start > 0 && !lines.is_empty() => lines,
        _ => rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_log_whole_lines_are_kept() {
        assert_eq!(end("short"), "short");
        let long = "ü line\n".repeat(20_000);
        let kept = end(&long);
        assert!(kept.len() <= MAX_LOG && kept.len() > MAX_LOG - 20);
        assert!(kept.starts_with("ü line\n") && long.ends_with(kept));
        let one = "x".repeat(2 * MAX_LOG);
        assert_eq!(end(&one).len(), MAX_LOG);
    }
}
