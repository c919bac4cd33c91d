//! Which sources of a snapshot are meant, where `--source` names some: only
//! snapshots that have them, and of those nothing else.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use super::context::Context;
use super::snapshot_name::{Narrow, SnapshotPath, source_key};
use crate::format::entry::display_key;
use crate::format::manifest::Outcome;
use crate::output;
use crate::repository::snapshots::Snapshot;
use crate::repository::{Error, ErrorKind, Repository, Result};
use crate::wayback::source_names;

/// The sources of a snapshot that were named.
pub struct Chosen(Vec<(OsString, Vec<u8>, Outcome)>);

impl Chosen {
    /// Their tree keys; none if none were named.
    pub fn keys(&self) -> Vec<Vec<u8>> {
        self.0.iter().map(|(_, key, _)| key.clone()).collect()
    }

    /// Fails if one was not saved to its end.
    pub fn check_whole(&self, snapshot: &Snapshot) -> Result<()> {
        let Some((name, ..)) = self.0.iter().find(|(.., outcome)| *outcome == Outcome::Failed)
        else {
            return Ok(());
        };
        let (name, id) = (output::path(name.as_bytes()), &snapshot.id.to_hex()[..8]);
        Err(Error::failed(format!(
            "source {name} failed when snapshot {id} was taken: what there is of it, `esker dump` prints"
        )))
    }
}

/// Finds the sources that were named in the snapshot, which must have all of them.
pub fn chosen(
    context: &Context,
    repository: &Repository,
    snapshot: &Snapshot,
    named: &SnapshotPath,
    narrow: &Narrow,
) -> Result<Chosen> {
    let mut chosen = Vec::new();
    for name in &narrow.source {
        let key = source_key(name)?;
        let label = repository.keyring().source_label(name.as_bytes())?;
        let Some(source) = snapshot.manifest.sources.iter().find(|source| source.label == label)
        else {
            return Err(none(repository, snapshot, name));
        };
        if source.outcome != Outcome::Complete {
            let name = output::path(name.as_bytes());
            let id = &snapshot.id.to_hex()[..8];
            context.warn(&format!("source {name} of snapshot {id} was not saved completely"));
        }
        chosen.push((name.clone(), key, source.outcome));
    }
    if let Some(key) = named.key()
        && !chosen.is_empty()
        && !chosen.iter().any(|(_, source, _)| is_in(&key, source))
    {
        let path = output::path(&display_key(&key)).into_owned();
        return Err(Error::new(
            ErrorKind::Usage,
            format!("{path} is in no source that --source names"),
        ));
    }
    Ok(Chosen(chosen))
}

fn is_in(key: &[u8], source: &[u8]) -> bool {
    key.strip_prefix(source).is_some_and(|rest| rest.is_empty() || rest[0] == 0)
}

fn none(repository: &Repository, snapshot: &Snapshot, name: &OsString) -> Error {
    let (name, id) = (output::path(name.as_bytes()), &snapshot.id.to_hex()[..8]);
    let paths = repository.private_part(snapshot).map(|private| private.paths).unwrap_or_default();
    let paths = paths.iter().map(|path| output::path(path).into_owned());
    let streams = source_names(repository, snapshot).unwrap_or_default();
    let all: Vec<String> = streams.into_iter().chain(paths).take(20).collect();
    Error::failed(format!("snapshot {id} has no source {name}; it has {}", all.join(", ")))
}
