//! Lists what a snapshot holds at a path: a directory's own children, or all
//! that lies below. Children's subtrees are sought past, not read through.

use crate::format::entry::{Entry, EntryKind};
use crate::repository::snapshots::Snapshot;
use crate::repository::{Error, Repository, Result};

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub key: Vec<u8>,
    /// None for a directory that is only implied by what lies below it.
    pub entry: Option<Entry>,
}

/// Visits what lies below `key` (at the top of the tree without one) in path
/// order. A key that is no directory lists itself; one that is not there is an
/// error.
pub fn list(
    repository: &Repository,
    snapshot: &Snapshot,
    key: Option<&[u8]>,
    recursive: bool,
    visit: &mut dyn FnMut(Listed),
) -> Result<()> {
    let root = repository.private_part(snapshot)?.tree;
    let base = key.unwrap_or_default();
    let mut walk = repository.tree(root, base);
    let mut next = walk.next().transpose()?;
    if let Some(key) = key {
        match next.take() {
            Some(entry) if entry.key == key => {
                if entry.kind != EntryKind::Directory {
                    visit(Listed { key: entry.key.clone(), entry: Some(entry) });
                }
                next = walk.next().transpose()?;
            }
            Some(entry) if is_below(&entry.key, key) => next = Some(entry),
            _ => return Err(Error::no_such_path(snapshot.id, key)),
        }
    }
    while let Some(entry) = next.take().filter(|entry| is_below(&entry.key, base)) {
        if recursive {
            visit(Listed { key: entry.key.clone(), entry: Some(entry) });
            next = walk.next().transpose()?;
            continue;
        }
        let child = child_of(&entry.key, base).to_vec();
        let own = (entry.key == child).then_some(entry);
        visit(Listed { key: child.clone(), entry: own });
        // what lies below the child is passed over: to the end of the page at
        // hand entry by entry, then by looking for what follows it
        loop {
            if walk.at_page_boundary() {
                walk = repository.tree(root, &[child.as_slice(), &[1]].concat());
            }
            next = walk.next().transpose()?;
            if next.as_ref().is_none_or(|entry| !is_below(&entry.key, &child)) {
                break;
            }
        }
    }
    Ok(())
}

fn is_below(key: &[u8], directory: &[u8]) -> bool {
    match key.strip_prefix(directory) {
        Some(rest) => directory.is_empty() || rest.first() == Some(&0),
        None => false,
    }
}

/// The child of `base` that `key` is or lies in.
fn child_of<'a>(key: &'a [u8], base: &[u8]) -> &'a [u8] {
    let start = if base.is_empty() { 0 } else { base.len() + 1 };
    let name = key.get(start..).unwrap_or_default();
    let length = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    key.get(..start + length).unwrap_or(key)
}
