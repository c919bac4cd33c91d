//! `--delete`: what lies beneath restored directories and is not in the
//! snapshot. Planned without changing anything, so that it can be confirmed.
//!
//! A directory counts as restored if it is one of the sources of the snapshot
//! or lies beneath one. Directories above sources are in the tree only to lead
//! there: what else they hold was never asked for, and is left alone. What the
//! patterns of a restore leave out is left alone too.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::context::Context;
use super::scope::{Chosen, Scope, Step, absolute, is_below};
use super::{Overwrite, RestoreOptions};
use crate::files::{NodeKind, Target};
use crate::format::content::Root;
use crate::format::entry::{Entry, EntryKind, key_of_path};
use crate::format::manifest::PrivatePart;
use crate::progress::{Event, Progress};
use crate::repository::snapshots::Snapshot;
use crate::repository::{Error, ErrorKind, Repository, Result};

/// Something to be removed, a directory with all it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// Beneath the target, with `/` between components.
    pub path: Vec<u8>,
    pub kind: NodeKind,
}

/// What `--delete` would remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeletePlan {
    pub deletions: Vec<Deletion>,
    /// How many things that is, those within directories included.
    pub count: u64,
    /// How many bytes their files take.
    pub bytes: u64,
}

/// Finds what a restore with these options and `delete` would remove. An error
/// of kind damage means that a part of the tree cannot be read: then nobody can
/// say what the snapshot does not have.
pub fn plan_delete(
    repository: &Repository,
    snapshot: &Snapshot,
    options: &RestoreOptions,
    progress: &dyn Progress,
) -> Result<DeletePlan> {
    repository.keyring().require_read()?;
    if !options.target.is_dir() {
        return Ok(DeletePlan::default());
    }
    repository.prepare_reading(progress)?;
    let tree = repository.private_part(snapshot)?.tree;
    let scope = Scope::find(repository, tree, options.selection())?;
    let context = Context::new(repository, options, progress, Some(super::open(options)?));
    plan(&context, snapshot, tree, &scope)
}

pub(super) fn plan(
    context: &Context<'_>,
    snapshot: &Snapshot,
    tree: Root,
    scope: &Scope,
) -> Result<DeletePlan> {
    let Ok(target) = context.target() else { return Ok(DeletePlan::default()) };
    if matches!(scope, Scope::Single(_)) {
        return Ok(DeletePlan::default());
    }
    context.progress.event(Event::Stage("looking for what the snapshot does not have"));
    let private = context.repository.private_part(snapshot)?;
    let counts = &snapshot.manifest.counts;
    if counts.failures + counts.notes > (private.failures.len() + private.notes.len()) as u64 {
        let text = "so much of the source was not saved that what to keep is not known: nothing is deleted";
        context.progress.event(Event::Warning(text));
        return Ok(DeletePlan::default());
    }
    let mut pass = Pass {
        context,
        target,
        scope,
        sources: sources(context, &private.paths),
        kept: Kept::new(context, &private),
        open: Vec::new(),
        plan: DeletePlan::default(),
    };
    // Everything the snapshot has counts here, chosen or not.
    let everything = match scope {
        Scope::Parts(_) => &Scope::Whole,
        one => one,
    };
    let all = Chosen::new(context.repository, tree, everything, Default::default());
    // components that lie beside the contents of `files` come before it
    let mut beside = Vec::new();
    for step in all {
        context.check_running()?;
        match step {
            Step::Entry { entry, .. } => {
                let path = scope.target_path(&entry.key);
                pass.leave(Some(&entry.key))?;
                if pass.open.is_empty() && !path.is_empty() && !path.contains(&b'/') {
                    beside.push(path.clone());
                }
                pass.enter(&entry, path)?;
            }
            Step::Damage(error) if error.kind == ErrorKind::Damage => {
                let message = format!("{}: nothing is deleted", error.message);
                return Err(Error::damage(message));
            }
            Step::Damage(error) => return Err(error),
        }
    }
    pass.leave(None)?;
    let mut plan = pass.plan;
    plan.deletions.retain(|deletion| !beside.contains(&deletion.path));
    count(target, &mut plan);
    Ok(plan)
}

/// Keys of the directories below which the snapshot has everything.
fn sources(context: &Context<'_>, paths: &[Vec<u8>]) -> Vec<Vec<u8>> {
    for relative in paths.iter().filter(|path| !path.starts_with(b"/")) {
        let text = String::from_utf8_lossy(relative);
        let text = format!("{text}: saved by a relative path: nothing is deleted there");
        context.progress.event(Event::Warning(&text));
    }
    paths.iter().filter(|path| path.starts_with(b"/")).map(|path| key_of_path(path)).collect()
}

/// What the source had and the snapshot does not: it must not go for being
/// unknown to it.
struct Kept {
    /// What could not be read, and what was left out with a note.
    keys: Vec<Vec<u8>>,
    /// The repository this restores from and this program's cache, if they lie
    /// on this machine.
    places: Vec<PathBuf>,
    target: PathBuf,
}

impl Kept {
    fn new(context: &Context<'_>, private: &PrivatePart) -> Kept {
        let listed = private.failures.iter().chain(&private.notes);
        let repository = context.repository;
        let places = [repository.store().local_path(), repository.local().directory()];
        Kept {
            keys: listed.map(|failure| key_of_path(&failure.path)).collect(),
            places: places.into_iter().flatten().filter_map(|p| p.canonicalize().ok()).collect(),
            target: context.options.target.canonicalize().unwrap_or_default(),
        }
    }

    fn full_path(&self, path: &[u8]) -> PathBuf {
        self.target.join(std::ffi::OsStr::from_bytes(path))
    }

    fn has(&self, key: &[u8], path: &[u8]) -> bool {
        let full = self.full_path(path);
        self.keys.iter().any(|kept| kept == key || is_below(key, kept))
            || self.places.iter().any(|place| full.starts_with(place))
    }

    fn has_below(&self, key: &[u8], path: &[u8]) -> bool {
        let full = self.full_path(path);
        self.keys.iter().any(|kept| is_below(kept, key))
            || self.places.iter().any(|place| place.starts_with(&full))
    }
}

/// A directory of the snapshot that is being passed, and what the target has
/// there that was not seen in the snapshot.
struct Open {
    key: Vec<u8>,
    path: Vec<u8>,
    unseen: HashMap<Vec<u8>, NodeKind>,
}

struct Pass<'a> {
    context: &'a Context<'a>,
    target: &'a Target,
    scope: &'a Scope,
    sources: Vec<Vec<u8>>,
    kept: Kept,
    open: Vec<Open>,
    plan: DeletePlan,
}

impl Pass<'_> {
    fn is_restored(&self, key: &[u8]) -> bool {
        let is_file_tree = key == b"files" || is_below(key, b"files");
        if matches!(self.scope, Scope::Parts(_)) && !self.scope.contains(key) {
            return false;
        }
        !is_file_tree || self.sources.iter().any(|source| key == source || is_below(key, source))
    }

    fn enter(&mut self, entry: &Entry, path: Vec<u8>) -> Result<()> {
        let present = match self.open.last_mut() {
            // the name in that directory, also where entries in between are missing
            Some(open) => {
                let rest = entry.key.get(open.key.len() + 1..).unwrap_or_default();
                let name = rest.split(|byte| *byte == 0).next().unwrap_or_default();
                let kind = open.unseen.remove(name);
                if name.len() == rest.len() {
                    kind
                } else {
                    self.context.stat(&path).ok().flatten().map(|existing| existing.kind)
                }
            }
            None => self.context.stat(&path).ok().flatten().map(|existing| existing.kind),
        };
        let is_directory = present == Some(NodeKind::Entry(EntryKind::Directory));
        if entry.kind != EntryKind::Directory {
            // what is in the way of a file goes, with all it holds
            let replaces =
                matches!(self.context.options.overwrite, Overwrite::Always | Overwrite::IfChanged);
            if is_directory
                && replaces
                && self.is_restored(&entry.key)
                && !self.kept.has_below(&entry.key, &path)
                && self.is_chosen(&entry.key, false)
            {
                self.plan
                    .deletions
                    .push(Deletion { path, kind: NodeKind::Entry(EntryKind::Directory) });
            }
            return Ok(());
        }
        let mut unseen = HashMap::new();
        if is_directory || path.is_empty() {
            match self.target.list(&path) {
                Ok(listed) => unseen.extend(listed),
                Err(error) => {
                    self.context.tally.failure(&path, &format!("not listed: {error}"));
                }
            }
        }
        self.open.push(Open { key: entry.key.clone(), path, unseen });
        Ok(())
    }

    fn leave(&mut self, key: Option<&[u8]>) -> Result<()> {
        while self.open.last().is_some_and(|open| !key.is_some_and(|key| is_below(key, &open.key)))
        {
            let Some(open) = self.open.pop() else { break };
            if !self.is_restored(&open.key) {
                continue;
            }
            let mut unseen: Vec<_> = open.unseen.into_iter().collect();
            unseen.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            for (name, kind) in unseen {
                let path = match open.path.is_empty() {
                    true => name.clone(),
                    false => [&open.path[..], b"/", &name].concat(),
                };
                let key = [&open.key[..], b"\0", &name].concat();
                self.delete(path, key, kind)?;
            }
        }
        Ok(())
    }

    /// Whether the patterns choose a path, which may be in no snapshot.
    fn is_chosen(&self, key: &[u8], is_directory: bool) -> bool {
        let choice = self.context.options.choice();
        let path = absolute(key);
        let ends: Vec<usize> = path
            .iter()
            .enumerate()
            .skip(1)
            .filter(|(_, byte)| **byte == b'/')
            .map(|(at, _)| at)
            .collect();
        let above = || ends.iter().map(|end| (&path[..*end], true));
        let all = || above().chain([(&path[..], is_directory)]);
        let excluded = choice
            .exclude
            .is_some_and(|rules| all().any(|(path, is_dir)| rules.exclude(path, is_dir)));
        let included = choice
            .include
            .is_none_or(|rules| all().any(|(path, is_dir)| rules.exclude(path, is_dir)));
        included && !excluded
    }

    fn delete(&mut self, path: Vec<u8>, key: Vec<u8>, kind: NodeKind) -> Result<()> {
        self.context.check_running()?;
        if kind == NodeKind::Socket || self.kept.has(&key, &path) {
            return Ok(());
        }
        let is_directory = kind == NodeKind::Entry(EntryKind::Directory);
        let all_of_it = self.is_chosen(&key, is_directory) && !self.kept.has_below(&key, &path);
        if all_of_it && (!is_directory || self.context.options.choice().is_all()) {
            self.plan.deletions.push(Deletion { path, kind });
            return Ok(());
        }
        if !is_directory {
            return Ok(());
        }
        // patterns may keep something within
        let before = self.plan.deletions.len();
        let listed = self.target.list(&path).unwrap_or_default();
        let mut goes = 0;
        for (name, kind) in &listed {
            let deletions = self.plan.deletions.len();
            let below = [&path[..], b"/", name].concat();
            self.delete(below.clone(), [&key[..], b"\0", name].concat(), *kind)?;
            let last = self.plan.deletions.last();
            goes += usize::from(
                self.plan.deletions.len() > deletions && last.is_some_and(|d| d.path == below),
            );
        }
        if all_of_it && goes == listed.len() {
            self.plan.deletions.truncate(before);
            self.plan.deletions.push(Deletion { path, kind });
        }
        Ok(())
    }
}

/// Counts what the plan would remove.
fn count(target: &Target, plan: &mut DeletePlan) {
    let mut rest: Vec<(Vec<u8>, NodeKind)> =
        plan.deletions.iter().map(|d| (d.path.clone(), d.kind)).collect();
    while let Some((path, kind)) = rest.pop() {
        plan.count += 1;
        if kind == NodeKind::Entry(EntryKind::Directory) {
            let listed = target.list(&path).unwrap_or_default();
            rest.extend(
                listed.into_iter().map(|(name, kind)| ([&path[..], b"/", &name].concat(), kind)),
            );
        } else if let Ok(Some(existing)) = target.stat(&path)
            && existing.links == 1
        {
            plan.bytes += existing.metadata.size;
        }
    }
}

/// Removes what was planned, or in a dry run tells it.
pub(super) fn execute(context: &Context<'_>, plan: &DeletePlan) -> Result<()> {
    if plan.deletions.is_empty() {
        return Ok(());
    }
    if context.options.dry_run {
        plan.deletions.iter().for_each(|gone| context.tally.line("delete", &gone.path, 0));
        context.tally.update(|report| report.deleted += plan.count);
        return Ok(());
    }
    context.progress.event(Event::Stage("deleting"));
    let mut not_deleted = 0;
    for gone in &plan.deletions {
        context.check_running()?;
        let removed = context.target().map(|target| target.remove(&gone.path));
        let error = match removed {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => (error.path, error.error),
            Err(error) => (gone.path.clone(), error),
        };
        not_deleted += 1;
        context.tally.failure(&error.0, &format!("not deleted: {}", error.1));
    }
    // what a directory held that could not be removed whole is not told apart
    let deleted = if not_deleted == 0 {
        plan.count
    } else {
        plan.deletions.len().saturating_sub(not_deleted) as u64
    };
    context.tally.update(|report| report.deleted += deleted);
    Ok(())
}
