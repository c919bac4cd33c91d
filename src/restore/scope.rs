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
    pub fn find(repository: &Repository, tree: Root, path: Option<&[u8]>) -> Result<Scope> {
        let Some(key) = path else { return Ok(Scope::Whole) };
        match repository.tree(tree, key).next() {
            Some(Err(error)) => Err(error),
            Some(Ok(entry)) if entry.key == key && entry.kind != EntryKind::Directory => {
                Ok(Scope::Single(key.to_vec()))
            }
            Some(Ok(entry)) if entry.key == key || is_below(&entry.key, key) => {
                Ok(Scope::Directory(key.to_vec()))
            }
            _ => {
                let path = String::from_utf8_lossy(&display_key(key)).into_owned();
                Err(Error::new(ErrorKind::Failed, format!("{path}: is not in this snapshot")))
            }
        }
    }

    /// The first key that may be meant.
    pub fn start(&self) -> &[u8] {
        match self {
            Scope::Whole => b"",
            Scope::Directory(key) | Scope::Single(key) => key,
        }
    }

    fn contains(&self, key: &[u8]) -> bool {
        match self {
            Scope::Whole => true,
            Scope::Directory(top) => key == top || is_below(key, top),
            Scope::Single(only) => key == only,
        }
    }

    /// The path beneath the target, with `/` between components; empty for the
    /// target itself.
    pub fn target_path(&self, key: &[u8]) -> Vec<u8> {
        let top = match self {
            Scope::Whole if key == FILES || is_below(key, FILES) => FILES,
            Scope::Whole => return path_of(key),
            Scope::Directory(top) => top,
            Scope::Single(only) => {
                return only.rsplit(|byte| *byte == 0).next().unwrap_or_default().to_vec();
            }
        };
        path_of(key.get(top.len() + 1..).unwrap_or_default())
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
        Chosen { walk, scope, choice, left_out: None, taken: None }
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
            if !self.scope.contains(&entry.key) {
                return None;
            }
            if let Some(only_on_the_way) = self.judge(&entry) {
                return Some(Step::Entry { entry, only_on_the_way });
            }
        }
    }
}
