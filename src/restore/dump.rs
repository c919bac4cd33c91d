//! `dump`: a file as its bytes, a directory as a tar stream.

use std::io::Write;

use super::archive::emit_archive;
use super::ordered::write_ordered;
use crate::format::entry::{EntryKind, display_key};
use crate::progress::Silent;
use crate::repository::snapshots::Snapshot;
use crate::repository::{Error, Repository, Result};

/// Writes what lies at a tree key to `out`: the bytes of a file, in order, or a
/// directory with all beneath it as a tar stream (POSIX with PAX records, names
/// relative to the directory).
///
/// Where data is damaged the output ends before it, with an error of kind
/// damage: a stream cannot leave anything out, and zeros are not data.
pub fn dump(
    repository: &Repository,
    snapshot: &Snapshot,
    key: &[u8],
    out: &mut dyn Write,
) -> Result<()> {
    repository.keyring().require_read()?;
    repository.prepare_reading(&Silent)?;
    let tree = repository.private_part(snapshot)?.tree;
    let shown = || String::from_utf8_lossy(&display_key(key)).into_owned();
    let entry = repository
        .find_entry(tree, key)?
        .ok_or_else(|| Error::failed(format!("{}: is not in this snapshot", shown())))?;
    let written = match entry.kind {
        EntryKind::File => {
            repository.expect_reads(1, entry.metadata.size, &Silent)?;
            write_ordered(repository, out, |emitter| emitter.content(&entry.content))
        }
        EntryKind::Directory => {
            write_ordered(repository, out, |emitter| emit_archive(repository, tree, key, emitter))
        }
        _ => {
            let message = format!("{}: is neither a file nor a directory", shown());
            return Err(Error::failed(message));
        }
    };
    written.map_err(|error| Error::new(error.kind, format!("{}: {}", shown(), error.message)))
}
