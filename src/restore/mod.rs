//! Restore: plan by pack, fetch ranges, open and verify every chunk, write it to
//! every file that needs it; `dump` gives files and trees out as streams.
//!
//! | file | what lives there |
//! |---|---|
//! | `scope` | which entries are meant, and where beneath the target they belong |
//! | `plan` | the one pass over the tree |
//! | `window` | a bounded piece of the work, planned by pack |
//! | `fetch` | the threads: fetch, open, verify, hand on |
//! | `file` | one regular file: in place or new, held back, finished, given up |
//! | `link` | hard links; the listing of a dry run |
//! | `elsewhere` | chunks whose first place failed |
//! | `context`, `report` | what threads share, and what they count |
//! | `measure` | how much there is, and whether there is room for it |
//! | `second` | the same snapshot in another repository, for what is lost here |
//! | `delete` | what the snapshot does not have |
//! | `present` | whether all that is needed is there, before anything is touched |
//! | `dump`, `archive`, `ordered` | one file, or a part of the tree as a tar stream |
//!
//! A file's modification time is set last, after its content is complete: what
//! has size and time of the snapshot is whole. So an interrupted restore is
//! resumed by running it again.
//!
//! TARGET itself keeps its metadata if it was there before; it may be `/tmp`.

mod archive;
mod context;
mod delete;
mod dump;
mod elsewhere;
mod fetch;
mod file;
mod link;
mod measure;
mod ordered;
mod plan;
mod present;
mod report;
mod scope;
mod second;
mod window;

use std::path::PathBuf;

pub use self::delete::{DeletePlan, Deletion, plan_delete};
pub use self::dump::{archive, dump};
pub use self::present::{Present, present, present_with_second};
pub use self::report::{Parent, RestoreOutcome, RestoreReport};
pub use self::scope::Selection;
pub use self::second::{counterpart, restore_with_second};

use self::context::Context;
use self::fetch::Pool;
use self::plan::Planner;
use self::scope::{Choice, Chosen, Scope};
use crate::files::{Owners, Rules, Target};
use crate::format::entry::EntryKind;
use crate::progress::{Event, Progress};
use crate::repository::snapshots::Snapshot;
use crate::repository::{Error, ErrorKind, Repository, Result};

/// What happens to what is there already. Directories are always merged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overwrite {
    /// Compare every file's content with the snapshot, and write what differs.
    Always,
    /// The same, but believe a file that has the snapshot's size and time.
    #[default]
    IfChanged,
    /// Touch only what is older than the snapshot's.
    IfNewer,
    /// Touch nothing that is there, metadata of directories included.
    Never,
}

#[derive(Debug, Default)]
pub struct RestoreOptions {
    /// The directory to restore beneath; made if it is missing.
    pub target: PathBuf,
    /// Tree key of what to restore: of a directory the contents go into the
    /// target, anything else lands in it under its name. All without it.
    pub path: Option<Vec<u8>>,
    /// Without a path: tree keys of sources. Only they are restored, each where it
    /// lies in the whole. All without any.
    pub sources: Vec<Vec<u8>>,
    /// Only what these match, with all beneath. Patterns are in the language of
    /// exclude rules and matched against the absolute path in the snapshot.
    pub include: Option<Rules>,
    /// Nothing that these match.
    pub exclude: Option<Rules>,
    pub overwrite: Overwrite,
    /// Remove what [`plan_delete`] lists, before anything is written.
    pub delete: bool,
    /// Write nothing, and tell every path as an [`Event::Line`] of kind `write`,
    /// `update`, `unchanged`, `skip`, `link` or `delete`.
    pub dry_run: bool,
    /// Compare also files that seem unchanged, and read back what was written.
    pub verify: bool,
    pub owners: Owners,
}

impl RestoreOptions {
    /// What is to be restored.
    pub fn selection(&self) -> Selection<'_> {
        Selection {
            path: self.path.as_deref(),
            sources: &self.sources,
            include: self.include.as_ref(),
            exclude: self.exclude.as_ref(),
        }
    }

    fn choice(&self) -> Choice<'_> {
        self.selection().choice()
    }
}

/// Writes a snapshot, or a part of it, beneath a directory. An error means that
/// the restore could not begin or had to end; whatever concerns single files is
/// in the report. What is to be deleted goes only once all data was seen to be there.
pub fn restore(
    repository: &Repository,
    snapshot: &Snapshot,
    options: &RestoreOptions,
    progress: &dyn Progress,
) -> Result<RestoreReport> {
    let see = || present(repository, snapshot, options.selection(), progress);
    restore_seen(repository, snapshot, options, &see, progress)
}

/// The same; `see` fails if data is missing, and is asked before anything is deleted.
fn restore_seen(
    repository: &Repository,
    snapshot: &Snapshot,
    options: &RestoreOptions,
    see: &dyn Fn() -> Result<Present>,
    progress: &dyn Progress,
) -> Result<RestoreReport> {
    repository.keyring().require_read()?;
    progress.event(Event::Stage("reading the snapshot"));
    repository.prepare_reading(progress)?;
    let tree = repository.private_part(snapshot)?.tree;
    let scope = Scope::find(repository, tree, options.selection())?;
    let chosen = || Chosen::new(repository, tree, &scope, options.choice());
    let was_there = options.target.is_dir();
    let opened = if was_there || !options.dry_run { Some(open(options)?) } else { None };
    let context = Context::new(repository, options, progress, opened);
    let deletion = match options.delete {
        true => delete::plan(&context, snapshot, tree, &scope)?,
        false => DeletePlan::default(),
    };
    let room = measure::check_room(&context, snapshot, &scope, deletion.bytes, chosen);
    if let Err(error) = room {
        if !was_there {
            let _ = std::fs::remove_dir(&options.target);
        }
        return Err(error);
    }
    if !deletion.deletions.is_empty() && !options.dry_run {
        see().map_err(nothing_deleted)?;
    }
    delete::execute(&context, &deletion)?;
    progress.event(Event::Stage("restoring"));
    Pool::run(&context, |pool| Planner::new(&context, pool, &scope, !was_there).run(chosen()))?;
    context.check_running()?;
    Ok(context.tally.finish())
}

/// Gives directories that a restore made for what lies beneath them their metadata once more: others may have written
/// into them since. What could not be set was told by the restore that made them; one that is gone by now needs none.
pub fn set_parents(options: &RestoreOptions, parents: &[Parent]) {
    let Ok(target) = Target::open(&options.target) else { return };
    let mut parents: Vec<&Parent> = parents.iter().collect();
    // from below: one that lets nobody in would close the way
    parents.sort_by_key(|parent| std::cmp::Reverse(parent.path.len()));
    for Parent { path, metadata } in parents {
        let _ = target.set_metadata(path, EntryKind::Directory, metadata, options.owners);
    }
}

fn nothing_deleted(error: Error) -> Error {
    let message = match error.kind {
        ErrorKind::Damage => format!(
            "{}; nothing was deleted or written: without --delete what there is comes back",
            error.message
        ),
        _ => error.message,
    };
    Error::new(error.kind, message)
}

fn open(options: &RestoreOptions) -> Result<Target> {
    Target::open(&options.target).map_err(|error| {
        Error::failed(format!("{}: cannot restore here: {error}", options.target.display()))
    })
}
