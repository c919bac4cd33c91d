//! The way back of a whole snapshot: paths into directories and streams into
//! commands, in order. All that is needed is seen to be there before the first of
//! them is touched.
//!
//! | file | what lives there |
//! |---|---|
//! | `command` | a command that is fed a stream |
//! | `commands` | restore commands, as they travel in a snapshot |
//! | `left` | what nothing brings back, and why |
//! | `profile` | the steps that a profile names, presets included |

pub mod command;
pub mod commands;
mod left;
pub mod profile;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::Path;
use std::time::Instant;

use self::command::{Command, feed};
use self::commands::{RestoreCommand, parse_all};
pub use self::left::{Left, Why};
use crate::format::content::Root;
use crate::format::entry::{display_key, key_of_path};
use crate::progress::{Event, Progress};
use crate::repository::snapshots::Snapshot;
use crate::repository::{Error, Repository, Result};
use crate::restore::{
    Present, RestoreOptions, RestoreOutcome, RestoreReport, Selection, dump, present, restore,
    set_parents,
};
use crate::source::preset::CallStep;
use crate::source::process::Limits;

/// One thing that is put back.
#[derive(Debug)]
pub struct Step<'a> {
    /// What it is called in events, errors and reports: a source's name.
    pub name: String,
    pub snapshot: &'a Snapshot,
    pub what: What,
}

pub enum What {
    /// Files into a directory.
    Files(Box<RestoreOptions>),
    /// What lies at a tree key into a command: the bytes of a file, a directory as a
    /// tar stream whose names are relative to it.
    Command { key: Vec<u8>, command: Command },
    /// A server is asked to do something, with what a small file at a tree key holds.
    Call { key: Vec<u8>, call: CallStep },
}

impl fmt::Debug for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Files(options) => options.fmt(f),
            What::Command { command, .. } => f.write_str(&command.shown()),
            What::Call { call, .. } => f.write_str(&call.what),
        }
    }
}

impl Step<'_> {
    fn present(&self, repository: &Repository, progress: &dyn Progress) -> Result<Present> {
        let selection = match &self.what {
            What::Files(options) => options.selection(),
            What::Command { key, .. } | What::Call { key, .. } => {
                Selection { path: Some(key), ..Selection::default() }
            }
        };
        present(repository, self.snapshot, selection, progress)
    }

    fn run(
        &self,
        repository: &Repository,
        present: &Present,
        progress: &dyn Progress,
    ) -> Result<Done> {
        match &self.what {
            What::Files(options) => {
                restore(repository, self.snapshot, options, progress).map(Done::Files)
            }
            What::Command { key, command } => {
                progress.event(Event::Stage("restoring"));
                let Present { files, bytes } = *present;
                progress.event(Event::Expect { files, bytes });
                let fed = feed(&self.name, command, progress, |out| {
                    dump(repository, self.snapshot, key, out, progress)
                });
                fed.map(|bytes| Done::Fed { bytes })
            }
            What::Call { key, call } => {
                progress.event(Event::Stage("restoring"));
                let mut small = Vec::new();
                dump(repository, self.snapshot, key, &mut small, progress)?;
                let called = call.run(&small, &|| progress.interrupted());
                called.map(|()| Done::Called).map_err(Error::failed)
            }
        }
    }
}

/// What a step did.
#[derive(Debug)]
pub enum Done {
    Files(RestoreReport),
    /// So many bytes were taken by a command, which ended well.
    Fed {
        bytes: u64,
    },
    /// A server did what it was asked for.
    Called,
}

/// What became of a step.
#[derive(Debug)]
pub enum Outcome {
    Done(Done),
    Failed(Error),
    /// A step before it failed.
    NotBegun,
}

#[derive(Debug)]
pub struct StepReport {
    pub name: String,
    pub outcome: Outcome,
    pub milliseconds: u64,
}

impl StepReport {
    /// Whether the steps behind this one may follow. Files that could not be written
    /// are told; what lacks data, or was not done at all, is not built upon.
    fn is_done(&self) -> bool {
        match &self.outcome {
            Outcome::Done(Done::Files(report)) => {
                matches!(report.outcome(), RestoreOutcome::Complete | RestoreOutcome::Incomplete)
            }
            Outcome::Done(Done::Fed { .. } | Done::Called) => true,
            Outcome::Failed(_) | Outcome::NotBegun => false,
        }
    }
}

/// Runs steps in order. First it is seen that the programs and all data of all steps
/// are there; then `ask`, which is given what was found of each, may still refuse;
/// only then the first one begins. After one that fails none follows.
///
/// `path` is the list of directories that programs are looked for in. An error means
/// that nothing was touched.
pub fn run(
    repository: &Repository,
    steps: &[Step<'_>],
    path: Option<&OsStr>,
    ask: &mut dyn FnMut(&[Present]) -> Result<()>,
    progress: &dyn Progress,
) -> Result<Vec<StepReport>> {
    for step in steps {
        if let What::Command { command, .. } = &step.what {
            let named = |error: Error| Error::new(error.kind, format!("{}: {error}", step.name));
            command.check(path).map_err(named)?;
        }
    }
    let found: Vec<Present> =
        steps.iter().map(|step| step.present(repository, progress)).collect::<Result<_>>()?;
    ask(&found)?;
    let mut reports: Vec<StepReport> = Vec::new();
    for (step, present) in steps.iter().zip(&found) {
        let started = Instant::now();
        let outcome = match reports.last().is_none_or(StepReport::is_done) {
            true => match step.run(repository, present, progress) {
                Ok(done) => Outcome::Done(done),
                Err(error) => Outcome::Failed(error),
            },
            false => Outcome::NotBegun,
        };
        let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        reports.push(StepReport { name: step.name.clone(), outcome, milliseconds });
    }
    // what one step made for itself, the next ones may have written into
    for (step, report) in steps.iter().zip(&reports) {
        if let (What::Files(options), Outcome::Done(Done::Files(done))) =
            (&step.what, &report.outcome)
        {
            set_parents(options, &done.parents);
        }
    }
    Ok(reports)
}

/// Variables and their values.
pub type Variables = Vec<(OsString, OsString)>;

/// All that a snapshot says of its way back.
#[derive(Debug)]
pub struct WayBack<'a> {
    pub steps: Vec<Step<'a>>,
    /// Sources of which nothing, or not all, is brought back.
    pub left: Vec<Left>,
}

impl WayBack<'_> {
    /// Leaves only sources that are wanted, by name or by the path that is saved. Returns
    /// those that the snapshot does not have.
    pub fn only(&mut self, wanted: &[String]) -> Vec<String> {
        let mut missing: BTreeSet<&str> = wanted.iter().map(String::as_str).collect();
        let mut is_wanted = |name: &str| {
            missing.remove(name);
            wanted.iter().any(|wanted| wanted == name)
        };
        self.left.retain(|left| is_wanted(&left.name));
        self.steps.retain_mut(|step| {
            if is_wanted(&step.name) {
                return true;
            }
            let What::Files(options) = &mut step.what else { return false };
            options.sources.retain(|key| is_wanted(&String::from_utf8_lossy(&display_key(key))));
            !options.sources.is_empty()
        });
        missing.into_iter().map(str::to_owned).collect()
    }
}

/// The steps that bring all of a snapshot back: paths to where they were beneath
/// `root`, then what its restore commands name, unless those give paths an order of
/// their own. `environment` gives the variables that a source's commands need.
pub fn steps<'a>(
    repository: &Repository,
    snapshot: &'a Snapshot,
    root: &Path,
    environment: &dyn Fn(&str) -> Result<Variables>,
) -> Result<WayBack<'a>> {
    repository.keyring().require_read()?;
    repository.prepare_reading(&crate::progress::Silent)?;
    let private = repository.private_part(snapshot)?;
    let id = &snapshot.id.to_hex()[..8];
    let commands = parse_all(&private.restore_commands)
        .map_err(|error| Error::new(error.kind, format!("snapshot {id}: {error}")))?;
    let files = |name: &str, keys: Vec<Vec<u8>>| Step {
        name: name.to_owned(),
        snapshot,
        what: What::Files(Box::new(RestoreOptions {
            target: root.to_owned(),
            sources: keys,
            ..RestoreOptions::default()
        })),
    };
    let mut steps = Vec::new();
    let mut paths: Vec<Vec<u8>> = Vec::new();
    for path in private.paths.iter().filter(|path| path.starts_with(b"/")) {
        let key = key_of_path(path);
        // one that was missing has nothing to bring back
        if !commands.iter().any(|command| command.key() == key)
            && has(repository, private.tree, &key)?
        {
            paths.push(key);
        }
    }
    if !paths.is_empty() {
        steps.push(files("paths", paths));
    }
    for restored in &commands {
        let RestoreCommand { source, command: words, .. } = restored;
        // it failed, or was missing, when the snapshot was taken
        if !has(repository, private.tree, &restored.key())? {
            continue;
        }
        if words.is_empty() {
            steps.push(files(source, vec![restored.key()]));
            continue;
        }
        let command = Command {
            words: words.iter().map(OsString::from).collect(),
            environment: environment(source)?,
            prints_aside: true,
            limits: Some(Limits::default()),
            ..Command::default()
        };
        let what = What::Command { key: restored.key(), command };
        steps.push(Step { name: source.clone(), snapshot, what });
    }
    let mut without = source_names(repository, snapshot)?;
    without.retain(|name| !commands.iter().any(|command| command.source == *name));
    let left = without.into_iter().map(|name| Left::new(name, Why::NoCommand)).collect();
    let mut way_back = WayBack { steps, left };
    let names: Vec<String> = commands.into_iter().map(|command| command.source).collect();
    left::complete(repository, snapshot, &names, &mut way_back)?;
    Ok(way_back)
}

fn has(repository: &Repository, tree: Root, key: &[u8]) -> Result<bool> {
    match repository.tree(tree, key).next() {
        Some(Ok(entry)) => Ok(entry.key == key || entry.key.starts_with(&[key, b"\0"].concat())),
        Some(Err(error)) => Err(error),
        None => Ok(false),
    }
}

/// Names of a snapshot's sources that are no paths: the first components of its
/// tree, but for `files`.
pub fn source_names(repository: &Repository, snapshot: &Snapshot) -> Result<Vec<String>> {
    let tree = repository.private_part(snapshot)?.tree;
    let mut names = Vec::new();
    let mut from = Vec::new();
    while let Some(entry) = repository.tree(tree, &from).next() {
        let entry = entry?;
        let name = entry.key.split(|byte| *byte == 0).next().unwrap_or_default();
        if name != b"files" {
            names.push(String::from_utf8_lossy(name).into_owned());
        }
        // behind all that lies beneath it
        from = [name, b"\x01"].concat();
    }
    Ok(names)
}
