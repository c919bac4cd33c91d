//! What a copy says of itself: the manifest and the name.
//!
//! `format-spec/11-snapshots.md`, *Copied snapshots*.

use std::collections::{BTreeSet, HashSet};

use crate::format::manifest::{CopiedFrom, Manifest, PrivatePart, Set, Source};
use crate::format::notes::{self, MarkKind};
use crate::id::SnapshotId;
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
