//! `dump`: a file as its bytes, a part of the tree as a tar stream.

use std::io::{self, Write};

use super::archive::emit_archive;
use super::ordered::write_ordered;
use super::scope::{Chosen, Scope, Selection};
use crate::format::entry::{EntryKind, display_key};
use crate::progress::{Event, Progress};
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
    progress: &dyn Progress,
) -> Result<()> {
    repository.keyring().require_read()?;
    repository.prepare_reading(progress)?;
    let tree = repository.private_part(snapshot)?.tree;
    let shown = || String::from_utf8_lossy(&display_key(key)).into_owned();
    let entry = repository.find_entry(tree, key)?;
    let kind = entry.as_ref().map(|entry| entry.kind);
    let out = &mut Told { out, progress };
    let written = match entry {
        Some(entry) if entry.kind == EntryKind::File => {
            repository.expect_reads(1, entry.metadata.size, progress)?;
            let written = write_ordered(repository, out, |emitter| emitter.content(&entry.content));
            written.map(|()| progress.event(Event::Done { files: 1, bytes: 0 }))
        }
        _ if kind.is_none_or(|kind| kind == EntryKind::Directory) => {
            let selection = Selection { path: Some(key), ..Selection::default() };
            let scope = Scope::find(repository, tree, selection)?;
            let chosen = Chosen::new(repository, tree, &scope, selection.choice());
            write_ordered(repository, out, |emitter| {
                emit_archive(repository, chosen, &scope, progress, emitter)
            })
        }
        _ => {
            let message = format!("{}: is neither a file nor a directory", shown());
            return Err(Error::failed(message));
        }
    };
    told(written, progress)
        .map_err(|error| Error::new(error.kind, format!("{}: {}", shown(), error.message)))
}

/// Writes a part of a snapshot to `out` as a tar stream, whose names are the paths
/// that a restore of it makes beneath its target. Ends as [`dump`] does where data
/// is damaged.
pub fn archive(
    repository: &Repository,
    snapshot: &Snapshot,
    selection: Selection<'_>,
    out: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<()> {
    repository.keyring().require_read()?;
    repository.prepare_reading(progress)?;
    let tree = repository.private_part(snapshot)?.tree;
    let scope = Scope::find(repository, tree, selection)?;
    let chosen = Chosen::new(repository, tree, &scope, selection.choice());
    let written = write_ordered(repository, &mut Told { out, progress }, |emitter| {
        emit_archive(repository, chosen, &scope, progress, emitter)
    });
    told(written, progress)
}

/// Output whose bytes are told, and that ends when it is to be interrupted.
struct Told<'a> {
    out: &'a mut dyn Write,
    progress: &'a dyn Progress,
}

impl Write for Told<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.progress.interrupted() {
            return Err(io::Error::other("interrupted"));
        }
        let written = self.out.write(bytes)?;
        self.progress.event(Event::Done { files: 0, bytes: written as u64 });
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn told(written: Result<()>, progress: &dyn Progress) -> Result<()> {
    written.map_err(|error| match progress.interrupted() {
        true => Error::interrupted(),
        false => error,
    })
}
