//! Which entries of a snapshot are meant, and where beneath the target each
//! belongs.

use crate::files::Rules;
use crate::format::content::Root;
use crate::format::entry::{Entry, EntryKind, display_key};
use crate::repository::pages::TreeWalk;
use crate::repository::{Error, ErrorKind, Repository, Result};

/// The part of a tree that is asked for.
pub(super) enum Scope {
    /// Everything: `files` is unwrapped, so that full paths arise beneath the
    /// target; other components lie beside them under their names.
    Whole,
    /// What lies in this directory; its own entry stands for the target.
    Directory(Vec<u8>),
    /// One thing that is no directory.
    Single(Vec<u8>),
    /// Some of everything, each with all beneath it, where [`Scope::Whole`] puts it.
    Parts(Vec<Vec<u8>>),
}

const FILES: &[u8] = b"files";

/// Whether `key` lies beneath the directory `above`.
pub(super) fn is_below(key: &[u8], above: &[u8]) -> bool {
    key.strip_prefix(above).is_some_and(|rest| rest.first() == Some(&0))
}

fn path_of(key: &[u8]) -> Vec<u8> {
    key.iter().map(|byte| if *byte == 0 { b'/' } else { *byte }).collect()
}

impl Scope {
    /// The part that is asked for; it is an error if the snapshot does not have it.
    pub fn find(repository: &Repository, tree: Root, selection: Selection<'_>) -> Result<Scope> {
        if let Some(key) = selection.path {
            return match find(repository, tree, key)? {
                EntryKind::Directory => Ok(Scope::Directory(key.to_vec())),
                _ => Ok(Scope::Single(key.to_vec())),
            };
        }
        if selection.sources.is_empty() {
            return Ok(Scope::Whole);
        }
        let mut parts = selection.sources.to_vec();
        parts.sort_unstable();
        parts.dedup();
        for key in &parts {
            find(repository, tree, key)?;
        }
        Ok(Scope::Parts(parts))
    }

    /// The first key that may be meant.
    pub fn start(&self) -> &[u8] {
        match self {
            Scope::Whole | Scope::Parts(_) => b"",
            Scope::Directory(key) | Scope::Single(key) => key,
        }
    }

    /// Whether a key is meant.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Scope::Whole => true,
            Scope::Directory(top) => key == top || is_below(key, top),
            Scope::Single(only) => key == only,
            Scope::Parts(parts) => parts.iter().any(|part| key == part || is_below(key, part)),
        }
    }

    /// Whether something that is meant lies beneath a key that is not.
    fn leads_on(&self, key: &[u8]) -> bool {
        matches!(self, Scope::Parts(parts) if parts.iter().any(|part| is_below(part, key)))
    }

    /// The first key behind `key` that is meant or leads there.
    fn next_after(&self, key: &[u8]) -> Option<Vec<u8>> {
        let Scope::Parts(parts) = self else { return None };
        parts
            .iter()
            .flat_map(|part| above_and_itself(part))
            .filter(|next| *next > key)
            .min()
            .map(<[u8]>::to_vec)
    }

    /// The path beneath the target, with `/` between components; empty for the
    /// target itself.
    pub fn target_path(&self, key: &[u8]) -> Vec<u8> {
        let top = match self {
            Scope::Whole | Scope::Parts(_) if key == FILES || is_below(key, FILES) => FILES,
            Scope::Whole | Scope::Parts(_) => return path_of(key),
            Scope::Directory(top) => top,
            Scope::Single(only) => {
                return only.rsplit(|byte| *byte == 0).next().unwrap_or_default().to_vec();
            }
        };
        path_of(key.get(top.len() + 1..).unwrap_or_default())
    }
}

/// What kind of thing lies at a key; a directory also where only what is beneath
/// it was saved.
fn find(repository: &Repository, tree: Root, key: &[u8]) -> Result<EntryKind> {
    match repository.tree(tree, key).next() {
        Some(Err(error)) => Err(error),
        Some(Ok(entry)) if entry.key == key => Ok(entry.kind),
        Some(Ok(entry)) if is_below(&entry.key, key) => Ok(EntryKind::Directory),
        _ => {
            let path = String::from_utf8_lossy(&display_key(key)).into_owned();
            Err(Error::new(ErrorKind::Failed, format!("{path}: is not in this snapshot")))
        }
    }
}

/// The directories above a key, and the key.
fn above_and_itself(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = key.iter().enumerate().filter(|(_, byte)| **byte == 0).map(|(at, _)| at);
    ends.chain([key.len()]).map(|end| &key[..end])
}

/// Which part of a snapshot is meant.
#[derive(Clone, Copy, Debug, Default)]
pub struct Selection<'a> {
    /// Tree key of the one thing that is meant, with all beneath it.
    pub path: Option<&'a [u8]>,
    /// Without a path: tree keys of sources, each with all beneath it. All without
    /// any.
    pub sources: &'a [Vec<u8>],
    /// Only what these match, with all beneath.
    pub include: Option<&'a Rules>,
    /// Nothing that these match.
    pub exclude: Option<&'a Rules>,
}

impl<'a> Selection<'a> {
    pub(super) fn choice(&self) -> Choice<'a> {
        Choice { include: self.include, exclude: self.exclude }
    }
}

/// Patterns that choose, in the language of exclude rules, matched against the
/// absolute path in the snapshot (`/name/…` for what is no file tree).
#[derive(Clone, Copy, Default)]
pub(super) struct Choice<'a> {
    pub include: Option<&'a Rules>,
    pub exclude: Option<&'a Rules>,
}

impl Choice<'_> {
    pub fn is_all(&self) -> bool {
        self.include.is_none() && self.exclude.is_none()
    }
}

/// The path that patterns are matched against.
pub(super) fn absolute(key: &[u8]) -> Vec<u8> {
    let rest = match key.strip_prefix(FILES) {
        Some(rest) if rest.is_empty() || rest.first() == Some(&0) => rest,
        _ => {
            let mut path = b"/".to_vec();
            path.extend(path_of(key));
            return path;
        }
    };
    path_of(rest)
}

/// What the walk over the chosen part of a tree tells.
#[expect(clippy::large_enum_variant, reason = "nearly all are entries")]
pub(super) enum Step {
    Entry {
        entry: Entry,
        /// Not chosen itself: a directory beneath which something may be.
        only_on_the_way: bool,
    },
    /// A part of the tree behind the entry told last cannot be read.
    Damage(Error),
}

/// The chosen entries in path order, what is unreadable passed over.
pub(super) struct Chosen<'a> {
    repository: &'a Repository,
    tree: Root,
    walk: TreeWalk<'a>,
    scope: &'a Scope,
    choice: Choice<'a>,
    /// Left out with all beneath it.
    left_out: Option<Vec<u8>>,
    /// Chosen with all beneath it.
    taken: Option<Vec<u8>>,
}

impl<'a> Chosen<'a> {
    pub fn new(
        repository: &'a Repository,
        tree: Root,
        scope: &'a Scope,
        choice: Choice<'a>,
    ) -> Chosen<'a> {
        let walk = repository.tree(tree, scope.start());
        Chosen { repository, tree, walk, scope, choice, left_out: None, taken: None }
    }

    /// Whether an entry is given out, and if so whether only on the way.
    fn judge(&mut self, entry: &Entry) -> Option<bool> {
        let key = &entry.key;
        if self.left_out.as_ref().is_some_and(|above| is_below(key, above)) {
            return None;
        }
        let is_directory = entry.kind == EntryKind::Directory;
        let path = if self.choice.is_all() { Vec::new() } else { absolute(key) };
        if !path.is_empty() && self.choice.exclude.is_some_and(|r| r.exclude(&path, is_directory)) {
            self.left_out = Some(key.clone());
            return None;
        }
        let Some(include) = self.choice.include else { return Some(false) };
        if self.taken.as_ref().is_some_and(|above| is_below(key, above)) {
            return Some(false);
        }
        if !path.is_empty() && include.exclude(&path, is_directory) {
            self.taken = Some(key.clone());
            return Some(false);
        }
        is_directory.then_some(true)
    }
}

impl Iterator for Chosen<'_> {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        loop {
            let entry = match self.walk.next()? {
                Ok(entry) => entry,
                Err(error) => {
                    if error.kind == ErrorKind::Damage {
                        self.walk.skip_unreadable();
                    }
                    return Some(Step::Damage(error));
                }
            };
            let leads_on = !self.scope.contains(&entry.key);
            if leads_on && !self.scope.leads_on(&entry.key) {
                let next = self.scope.next_after(&entry.key)?;
                self.walk = self.repository.tree(self.tree, &next);
                continue;
            }
            if let Some(only_on_the_way) = self.judge(&entry) {
                let only_on_the_way = only_on_the_way || leads_on;
                return Some(Step::Entry { entry, only_on_the_way });
            }
        }
    }
}
