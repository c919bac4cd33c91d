//! What a copy says of itself: the manifest, the name, the record of the run.
//!
//! `format-spec/11-snapshots.md`, *Copied snapshots*.

use std::collections::{BTreeSet, HashSet};

use super::{CopyOptions, CopyReport};
use crate::format::Kind;
use crate::format::manifest::{CopiedFrom, Manifest, PrivatePart, Set, Source};
use crate::format::notes::{self, MarkKind, Record, record_key};
use crate::id::{SnapshotId, SweepId};
use crate::progress::{Event, Progress};
use crate::repository::open::program;
use crate::repository::snapshots::Snapshot;
use crate::repository::{Repository, Result, now_ms};

/// Most tags a manifest lists.
const MAX_TAGS: usize = 1024;

/// The manifest but for what the run knows: id, counts, parent and references are
/// still those of the original.
pub(super) fn manifest(
    source: &Repository,
    destination: &Repository,
    snapshot: &Snapshot,
    private: &PrivatePart,
    streams: &BTreeSet<Vec<u8>>,
) -> Result<Manifest> {
    let original = &snapshot.manifest;
    let writer = destination.keyring().writer;
    let mut tags = snapshot.tags.clone();
    tags.truncate(MAX_TAGS);
    Ok(Manifest {
        sources: sources(source, destination, &original.sources, private, streams)?,
        writer,
        // who signs the parts here is not who signed them there
        set: original.set.clone().map(|set| Set { writers: vec![writer], ..set }),
        tags,
        replaces: None,
        copied_from: Some(CopiedFrom {
            repository: source.id(),
            snapshot: snapshot.id,
            writer: original.writer,
        }),
        program: program(),
        ..original.clone()
    })
}

/// The sources under the destination's labels. One of which neither a path nor a
/// stream is left gets a label of its own all the same, always the same one.
fn sources(
    source: &Repository,
    destination: &Repository,
    original: &[Source],
    private: &PrivatePart,
    streams: &BTreeSet<Vec<u8>>,
) -> Result<Vec<Source>> {
    let names = private.paths.iter().chain(streams);
    let labelled: Vec<(String, &Vec<u8>)> = names
        .map(|name| Ok((source.keyring().source_label(name)?, name)))
        .collect::<Result<_>>()?;
    let translate = |source: &Source| {
        let known = labelled.iter().find(|(label, _)| *label == source.label);
        let name = known.map_or(source.label.as_bytes(), |(_, name)| name.as_slice());
        Ok(Source { label: destination.keyring().source_label(name)?, ..source.clone() })
    };
    original.iter().map(translate).collect()
}

/// Which names are taken in the destination, and which copies have none yet.
pub(super) struct Names {
    taken: HashSet<String>,
    /// Copies by this key that nobody named or described.
    bare: HashSet<SnapshotId>,
}

impl Names {
    pub fn of(destination: &Repository, snapshots: &[Snapshot]) -> Names {
        let own = destination.keyring().writer;
        let is_bare = |copy: &&Snapshot| {
            copy.manifest.copied_from.is_some()
                && copy.manifest.writer == own
                && copy.name.is_none()
                && copy.description.is_none()
        };
        let stay = snapshots.iter().filter(|snapshot| snapshot.forgotten.is_none());
        Names {
            taken: stay.filter_map(|snapshot| snapshot.name.clone()).collect(),
            bare: snapshots.iter().filter(is_bare).map(|copy| copy.id).collect(),
        }
    }

    /// Gives a copy the name and description of its original.
    pub fn put(
        &mut self,
        destination: &Repository,
        original: &Snapshot,
        copy: SnapshotId,
        progress: &dyn Progress,
    ) -> Result<()> {
        if let Some(name) = &original.name {
            if self.taken.insert(name.clone()) {
                destination.put_mark(copy, MarkKind::Name(name.clone()), now_ms())?;
            } else {
                let id = &copy.to_hex()[..8];
                let text = format!("{id} has no name: another snapshot is called {name:?} there");
                progress.event(Event::Warning(&text));
            }
        }
        if let Some(text) = &original.description {
            destination.put_mark(copy, MarkKind::Description(text.clone()), now_ms())?;
        }
        Ok(())
    }

    /// The same for a copy whose run was cut off before it came to that: nothing
    /// was ever said of it.
    pub fn complete(
        &mut self,
        destination: &Repository,
        original: &Snapshot,
        copy: SnapshotId,
        progress: &dyn Progress,
    ) -> Result<()> {
        let has_any = original.name.is_some() || original.description.is_some();
        let is_bare = has_any && self.bare.contains(&copy);
        if is_bare && destination.listed_keys(&format!("{}{copy}/", notes::MARKS))?.is_empty() {
            self.put(destination, original, copy, progress)?;
        }
        Ok(())
    }
}

/// Leaves a signed record in the destination. The copy is done; a store that does
/// not take it changes nothing.
pub(super) fn put_record(
    source: &Repository,
    destination: &Repository,
    report: &CopyReport,
    started: u64,
    options: &CopyOptions,
) {
    let damaged = if report.damaged.is_empty() { 0 } else { 20 };
    let sum = |of: fn(&super::Copied) -> u64| report.copied.iter().map(of).sum();
    let count = |name: &str, number: u64| (name.to_owned(), number);
    let record = Record {
        kind: "copy".to_owned(),
        started,
        ended: now_ms().max(started),
        host: options.host.clone(),
        code: report.stopped.as_ref().map_or(damaged, |error| error.exit_code()),
        extent: format!("from repository {}", source.id()),
        snapshots: report.copied.iter().map(|copied| copied.id).collect(),
        counts: vec![
            count("snapshots there already", report.there.len() as u64),
            count("snapshots damaged", report.damaged.len() as u64),
            count("bytes read", sum(|copied| copied.bytes_read)),
            count("bytes put", sum(|copied| copied.bytes_put)),
        ],
        kept: Vec::new(),
    };
    let lines = report.damaged.iter().map(|(id, error)| format!("{id}: {error}"));
    let lines = lines.chain(report.stopped.iter().map(ToString::to_string));
    let tail = lines.collect::<Vec<_>>().join("\n");
    let tail = (!tail.is_empty()).then_some(tail.as_bytes());
    let key = record_key("copy", SweepId::random().0);
    let _ = destination.put_object(Kind::Record, &key, &record.encode(), tail);
}
