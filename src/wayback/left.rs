//! What a way back leaves behind, and why: told by name, so that nobody takes a part for the whole.

use std::fmt;

use super::{Step, WayBack, What, has, source_names};
use crate::format::entry::{is_of_path, key_of_path};
use crate::format::manifest::{Failure, Outcome};
use crate::repository::snapshots::Snapshot;
use crate::repository::{Repository, Result};

/// A source of which not all comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    pub name: String,
    pub why: Why,
    /// What was noted when it was not saved.
    pub reason: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A stream that nothing says a command of.
    NoCommand,
    /// It failed when the snapshot was taken, or some of it could not be read.
    NotSaved,
    /// It is in the snapshot, and no source that is brought back by has it.
    NoSource,
}

impl Left {
    pub fn new(name: impl Into<String>, why: Why) -> Left {
        Left { name: name.into(), why, reason: None }
    }
}

/// By name, for people.
impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

/// Adds what the steps do not bring back: sources that were not saved whole, and paths and streams of the snapshot that
/// no step has. `names` are those that sources may have besides.
pub(super) fn complete(
    repository: &Repository,
    snapshot: &Snapshot,
    names: &[String],
    way_back: &mut WayBack<'_>,
) -> Result<()> {
    let private = repository.private_part(snapshot)?;
    let streams = source_names(repository, snapshot)?;
    let WayBack { steps, left } = way_back;
    let mut add = |name: &[u8], why: Why| {
        let text = String::from_utf8_lossy(name);
        if !left.iter().any(|left| left.name == text) {
            let of_it = |failure: &&Failure| is_in(&failure.path, name, b'/');
            let reason = private.failures.iter().find(of_it).filter(|_| why == Why::NotSaved);
            let reason = reason.map(|failure| failure.reason.clone());
            left.push(Left { reason, ..Left::new(text, why) });
        }
    };
    let paths = private.paths.iter().map(Vec::as_slice);
    let known = streams.iter().chain(names).map(|name| name.as_bytes());
    let failed = private.failures.iter().map(|failure| failure.path.as_slice());
    let known: Vec<&[u8]> = paths.clone().chain(known).chain(failed).collect();
    for source in snapshot.manifest.sources.iter().filter(|s| s.outcome != Outcome::Complete) {
        match find(repository, &source.label, &known)? {
            Some(name) => add(name, Why::NotSaved),
            // a copy has only a hash of what left nothing behind
            None => add(format!("source {}", source.label).as_bytes(), Why::NotSaved),
        }
    }
    for path in paths {
        let key = key_of_path(path);
        if !covers(steps, &key) && has(repository, private.tree, &key)? {
            add(path, Why::NoSource);
        }
    }
    for name in streams.iter().filter(|name| !covers(steps, name.as_bytes())) {
        add(name.as_bytes(), Why::NoSource);
    }
    Ok(())
}

fn find<'a>(repository: &Repository, label: &str, names: &[&'a [u8]]) -> Result<Option<&'a [u8]>> {
    for name in names {
        if repository.keyring().source_label(name)? == label {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Whether something is what lies above it, or beneath that.
fn is_in(path: &[u8], above: &[u8], separator: u8) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.first().is_none_or(|byte| *byte == separator))
}

fn covers(steps: &[Step<'_>], key: &[u8]) -> bool {
    steps.iter().any(|step| brings_back(&step.what, key))
}

/// Whether a step brings back what lies at a key: with all it lies in, or, as presets do, piece by piece.
fn brings_back(what: &What, key: &[u8]) -> bool {
    let is_path = is_of_path(key);
    let has = |step: &[u8]| is_in(key, step, 0) || (!is_path && is_in(step, key, 0));
    match what {
        What::Files(options) => match &options.path {
            Some(path) => has(path),
            None => options.sources.is_empty() || options.sources.iter().any(|key| has(key)),
        },
        What::Command { key, .. } | What::Call { key, .. } => has(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::restore::RestoreOptions;

    fn check(options: RestoreOptions, key: &[u8], expected: bool) {
        let what = What::Files(Box::new(options));
        assert_eq!(brings_back(&what, key), expected, "{}", String::from_utf8_lossy(key));
    }

    #[test]
    fn what_is_above_or_is_a_stream_in_pieces_is_covered() {
        let sources =
            |key: &[u8]| RestoreOptions { sources: vec![key.to_vec()], ..Default::default() };
        let path = |key: &[u8]| RestoreOptions { path: Some(key.to_vec()), ..Default::default() };
        check(sources(b"files\0srv"), b"files\0srv", true);
        check(sources(b"files\0srv"), b"files\0srv\0app", true);
        check(sources(b"files"), b"files\0srv", true);
        check(sources(b"files\0srv\0app"), b"files\0srv", false);
        check(sources(b"files\0srv"), b"files\0srvx", false);
        check(path(b"es\0repository"), b"es", true);
        check(path(b"es\0repository"), b"e", false);
        check(RestoreOptions::default(), b"files\0srv", true);
    }
}
