//! Whether all the data of a part of a snapshot is there, told before anything is
//! touched: every chunk lies in a pack that is listed with the length the index
//! states. Nothing of the data is read: what a pack really holds is seen when it is
//! restored.

use std::collections::{HashMap, HashSet};

use super::scope::{Chosen, Scope, Selection, Step};
use crate::format::content::{Content, Item};
use crate::format::entry::{Entry, EntryKind, display_key};
use crate::id::{ChunkId, PackId};
use crate::progress::{Event, Progress};
use crate::repository::index::{PackNumber, PackToc, Place};
use crate::repository::neighbours::Neighbours;
use crate::repository::snapshots::Snapshot;
use crate::repository::{Error, ErrorKind, Repository, Result};

/// What was seen to be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Present {
    pub files: u64,
    /// Lengths of all files together.
    pub bytes: u64,
}

/// Sees whether all data of a part of a snapshot is there. An error of kind damage
/// names the first file that misses some. Packs are listed once, and once more if
/// one is missing: a prune may have moved what it held.
pub fn present(
    repository: &Repository,
    snapshot: &Snapshot,
    selection: Selection<'_>,
    progress: &dyn Progress,
) -> Result<Present> {
    pass((repository, snapshot), selection, progress, &mut |_, error| Err(error))
}

/// The same where a second repository gives what the first one misses, file by file,
/// as [`restore_with_second`](super::restore_with_second) takes it.
pub fn present_with_second(
    first: (&Repository, &Snapshot),
    (second, same): (&Repository, &Snapshot),
    selection: Selection<'_>,
    progress: &dyn Progress,
) -> Result<Present> {
    second.keyring().require_read()?;
    second.prepare_reading(progress)?;
    let tree = second.private_part(same)?.tree;
    let mut look = None;
    let mut in_second = |entry: &Entry, error: Error| {
        let Some(there) = second.find_entry(tree, &entry.key)? else { return Err(error) };
        let look = match &mut look {
            Some(look) => look,
            none => none.insert(Look::new(second)?),
        };
        look.entry(&there).map_err(|other| if is_damage(&other) { error } else { other })
    };
    match pass(first, selection, progress, &mut in_second) {
        // of a tree that cannot be read all must come from the second
        Err(error) if is_damage(&error) => present(second, same, selection, progress)
            .map_err(|other| if is_damage(&other) { error } else { other }),
        other => other,
    }
}

fn is_damage(error: &Error) -> bool {
    error.kind == ErrorKind::Damage
}

/// One pass over the tree; `missing` says whether an entry that misses data is there all the same.
fn pass(
    (repository, snapshot): (&Repository, &Snapshot),
    selection: Selection<'_>,
    progress: &dyn Progress,
    missing: &mut dyn FnMut(&Entry, Error) -> Result<()>,
) -> Result<Present> {
    repository.keyring().require_read()?;
    progress.event(Event::Stage("seeing whether everything is there"));
    repository.prepare_reading(progress)?;
    let tree = repository.private_part(snapshot)?.tree;
    let scope = Scope::find(repository, tree, selection)?;
    let mut look = Look::new(repository)?;
    let mut present = Present::default();
    for step in Chosen::new(repository, tree, &scope, selection.choice()) {
        if progress.interrupted() {
            return Err(Error::interrupted());
        }
        match step {
            Step::Damage(error) => return Err(error),
            Step::Entry { entry, only_on_the_way } => {
                match look.entry(&entry) {
                    Err(error) if is_damage(&error) => missing(&entry, in_file(&entry, error))?,
                    other => other.map_err(|error| in_file(&entry, error))?,
                }
                if entry.kind == EntryKind::File && !only_on_the_way {
                    present.files += 1;
                    present.bytes = present.bytes.saturating_add(entry.metadata.size);
                }
            }
        }
    }
    Ok(present)
}

fn in_file(entry: &Entry, error: Error) -> Error {
    let path = display_key(&entry.key);
    let path = String::from_utf8_lossy(&path);
    Error::new(error.kind, format!("{path}: {}", error.message))
}

/// Packs as they were listed, and what was found in them.
struct Look<'a> {
    repository: &'a Repository,
    listed: HashMap<PackId, u64>,
    listed_again: bool,
    /// Packs that are listed as the index knows them.
    there: HashSet<PackNumber>,
    near: Neighbours,
}

impl<'a> Look<'a> {
    fn new(repository: &'a Repository) -> Result<Look<'a>> {
        let listed = repository.listed_packs()?;
        let (there, near) = (HashSet::new(), Neighbours::default());
        Ok(Look { repository, listed, listed_again: false, there, near })
    }

    fn entry(&mut self, entry: &Entry) -> Result<()> {
        self.content(&entry.content)?;
        entry.long_xattrs.iter().try_for_each(|(_, content)| self.content(content))
    }

    fn content(&mut self, content: &Content) -> Result<()> {
        let repository = self.repository;
        repository.items(content, &mut |item| match item {
            Item::Chunk { id, length } => self.chunk(&id, length),
            Item::Hole { .. } => Ok(()),
        })
    }

    fn chunk(&mut self, id: &ChunkId, length: u32) -> Result<()> {
        let has = |toc: &PackToc, ordinal: u16| {
            toc.toc.chunks.get(usize::from(ordinal)).is_some_and(|chunk| chunk.length == length)
        };
        if self.near.find(id, |near, ordinal| has(&near.toc, ordinal).then_some(())).is_some() {
            return Ok(());
        }
        for looked_again in [false, true] {
            for place in self.repository.places(id)? {
                if !self.is_there(&place) {
                    continue;
                }
                let toc = self.near.table(self.repository, &place, id)?;
                if has(&toc, place.ordinal) {
                    self.near.used(place.pack, toc, (), place.ordinal);
                    return Ok(());
                }
            }
            if looked_again || self.listed_again {
                break;
            }
            self.look_again(id)?;
        }
        let message = format!("its data is missing: chunk {id} lies in no pack that is there");
        Err(Error::damage(message))
    }

    /// The index first: a pack that it names then was put before the listing.
    fn look_again(&mut self, id: &ChunkId) -> Result<()> {
        self.repository.look_again(id)?;
        self.listed = self.repository.listed_packs()?;
        // what is only looked up chunk by chunk is looked up for the next one, too
        self.listed_again = !self.repository.looks_up();
        self.there.clear();
        self.near.clear();
        Ok(())
    }

    fn is_there(&mut self, place: &Place) -> bool {
        if self.there.contains(&place.pack) {
            return true;
        }
        let info = self.repository.index().pack(place.pack);
        let there = info.is_some_and(|info| self.listed.get(&info.id) == Some(&info.length));
        if there {
            self.there.insert(place.pack);
        }
        there
    }
}
