//! `restore`: writes a snapshot, or a part of it, beneath a directory.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::context::Context;
use super::exit::when;
use super::other::Other;
use super::snapshot_name::{self, Narrow, SnapshotPath, source_key};
use super::streams::{Output, talk};
use super::wayback::{self, Asking};
use super::{Exit, Outcome, sources, terminal};
use crate::files::{Owners, Rules};
use crate::format::manifest::Failure;
use crate::output;
use crate::progress::Progress;
use crate::repository::sets::Sets;
use crate::repository::snapshots::Snapshot;
use crate::repository::{Error, ErrorKind, Repository, Result};
use crate::restore::{
    DeletePlan, Overwrite, RestoreOptions, RestoreOutcome, RestoreReport, Selection, counterpart,
    plan_delete, present, present_with_second, restore, restore_with_second,
};
use crate::select::Wanted;

/// How many of the things to be deleted are shown before asking.
const SHOWN_DELETIONS: usize = 20;

/// Restore a snapshot, or a part of it
///
/// `restore latest out` makes full paths beneath out; `latest:/etc out` puts the contents of /etc
/// into out; a file lands in out under its name; `restore latest /` restores in place. A set's name stands
/// for all its parts, each into a directory of its own beneath out. `restore latest
/// --source db --to-command -- psql shop` feeds a stream to a program; `restore --profile web latest`
/// brings all of a snapshot back as its profile says, and with `--source db` that source alone by its own command.
#[derive(Args)]
pub struct Arguments {
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    snapshot: OsString,

    /// The directory to restore beneath; made if it is missing
    target: Option<PathBuf>,

    /// Feed one source, or PATH, to the command behind --: the bytes of a file, a directory as a tar stream
    #[arg(long, requires = "command")]
    #[arg(conflicts_with_all = ["target", "to_tar", "overwrite", "delete", "include", "exclude", "dry_run"])]
    #[arg(conflicts_with_all = ["verify", "numeric_owner", "second"])]
    to_command: bool,

    /// The program of --to-command and its arguments
    #[arg(last = true, value_name = "COMMAND", requires = "to_command")]
    command: Vec<OsString>,

    /// Print a tar stream of what is chosen
    #[arg(long)]
    #[arg(conflicts_with_all = ["target", "overwrite", "delete", "dry_run", "verify", "numeric_owner", "second"])]
    to_tar: bool,

    /// What happens to files that are there already
    #[arg(long, value_enum, default_value_t = OverwriteArgument::IfChanged)]
    overwrite: OverwriteArgument,

    /// Remove what the snapshot does not have, after asking
    #[arg(long)]
    delete: bool,

    /// Do not ask
    #[arg(long)]
    yes: bool,

    /// Only what matches, as in a .gitignore; a leading / is the root of the snapshot
    #[arg(long, value_name = "PATTERN")]
    include: Vec<String>,

    /// Nothing that matches
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,

    /// Say what would be written; write nothing
    #[arg(short = 'n', long)]
    dry_run: bool,

    /// Compare files that seem unchanged too, and read back what was written
    #[arg(long)]
    verify: bool,

    /// Owners by number, even where their names exist here
    #[arg(long)]
    numeric_owner: bool,

    #[command(flatten)]
    narrow: Narrow,

    #[command(flatten)]
    second: Second,
}

#[derive(Args)]
#[command(next_help_heading = "Second repository")]
struct Second {
    /// Take files that are damaged or missing from this repository, which holds a copy of the snapshot
    /// or the original of it
    #[arg(long, value_name = "URL|PATH")]
    second: Option<OsString>,

    /// Open it with this key file (or ESKER_SECOND_KEY_FILE)
    #[arg(long, value_name = "FILE")]
    #[arg(conflicts_with_all = ["second_password_file", "second_password_command"])]
    second_key_file: Option<PathBuf>,

    /// Read its password from this file (or ESKER_SECOND_PASSWORD_FILE)
    #[arg(long, value_name = "FILE", conflicts_with = "second_password_command")]
    second_password_file: Option<PathBuf>,

    /// Run this in a shell; it prints its password (or ESKER_SECOND_PASSWORD_COMMAND)
    #[arg(long, value_name = "COMMAND")]
    second_password_command: Option<OsString>,
}

/// A second repository and the same snapshot in it.
type Counterpart = Option<(Repository, Snapshot)>;

impl Second {
    /// The second repository and the same snapshot in it, if one was named.
    fn find(
        &self,
        context: &Context,
        first: &Repository,
        snapshot: &Snapshot,
    ) -> Result<Counterpart> {
        let other = Other {
            option: "second",
            prefix: "ESKER_SECOND",
            repository: self.second.as_ref(),
            key_file: self.second_key_file.as_ref(),
            password_file: self.second_password_file.as_ref(),
            password_command: self.second_password_command.as_ref(),
        };
        let Some(second) = other.open(context)? else { return Ok(None) };
        let snapshots = context.snapshots(&second)?;
        let same = counterpart(first, snapshot, &second, &snapshots).cloned();
        let none = || {
            let (id, url) = (&snapshot.id.to_hex()[..8], second.url());
            Error::failed(format!("{url}: holds neither a copy of snapshot {id} nor its original"))
        };
        let same = same.ok_or_else(none)?;
        Ok(Some((second, same)))
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum OverwriteArgument {
    /// Compare every file's content, write what differs
    Always,
    /// The same, but believe a file with the snapshot's size and time
    IfChanged,
    /// Touch only what is older than the snapshot's
    IfNewer,
    /// Touch nothing that is there
    Never,
}

impl From<OverwriteArgument> for Overwrite {
    fn from(argument: OverwriteArgument) -> Overwrite {
        match argument {
            OverwriteArgument::Always => Overwrite::Always,
            OverwriteArgument::IfChanged => Overwrite::IfChanged,
            OverwriteArgument::IfNewer => Overwrite::IfNewer,
            OverwriteArgument::Never => Overwrite::Never,
        }
    }
}

pub fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let named = snapshot_name::parse(&arguments.snapshot)?;
    arguments.narrow.source.iter().try_for_each(|name| source_key(name).map(drop))?;
    if arguments.to_command {
        let asking = Asking::new(arguments.yes, "--to-command")?;
        let what = (&named, &arguments.narrow);
        return wayback::to_command(context, what, &arguments.command, asking);
    }
    if arguments.to_tar {
        let choice = (rules(&arguments.include)?, rules(&arguments.exclude)?);
        return wayback::to_tar(context, (&named, &arguments.narrow), choice);
    }
    let Some(target) = &arguments.target else {
        return everything(context, arguments, &named);
    };
    if arguments.yes && !arguments.delete {
        return Err(
            usage("--yes answers what --delete and --to-command ask: neither is here").into()
        );
    }
    // a mistake in them is said before a password is asked for
    rules(&arguments.include)?;
    rules(&arguments.exclude)?;
    let repository = context.open()?;
    let snapshots = context.readable_snapshots(&repository)?;
    let parts = match &named.wanted {
        Wanted::Named(name) => set_parts(&snapshots, name, target)?,
        _ => Vec::new(),
    };
    if parts.is_empty() {
        let snapshot = context.select(&repository, &snapshots, &named.wanted, &arguments.narrow)?;
        let second = arguments.second.find(context, &repository, snapshot)?;
        return restore_one(context, arguments, &named, (&repository, snapshot), second, target);
    }
    if named.path.is_some() || !arguments.narrow.source.is_empty() {
        return Err(usage("a set is restored as a whole: name one part of it by its id").into());
    }
    let seconds: Vec<Counterpart> = parts
        .iter()
        .map(|(snapshot, _)| arguments.second.find(context, &repository, snapshot))
        .collect::<Result<_>>()?;
    if !arguments.dry_run {
        let snapshots = parts.iter().map(|(snapshot, _)| *snapshot);
        see_parts(context, arguments, &repository, snapshots.zip(&seconds))?;
    }
    let mut exit = Exit::Ok;
    for ((snapshot, target), second) in parts.into_iter().zip(seconds) {
        let of = (&repository, snapshot);
        let part = restore_one(context, arguments, &named, of, second, &target)?;
        exit = exit.and(part);
    }
    Ok(exit)
}

/// The parts of a set of this name, in its order, and the directory beneath the target that each
/// goes into; nothing if no set is called so. All of them must be there before the first is written.
fn set_parts<'a>(
    snapshots: &'a [Snapshot],
    name: &str,
    target: &Path,
) -> Result<Vec<(&'a Snapshot, PathBuf)>> {
    if snapshots.iter().any(|snapshot| snapshot.name.as_deref() == Some(name)) {
        return Ok(Vec::new());
    }
    let sets = Sets::standing(snapshots);
    let Some(set) = sets.find(name)? else { return Ok(Vec::new()) };
    let lacking: Vec<&str> = set.lacking().collect();
    if !lacking.is_empty() {
        let message = format!(
            "the set {name:?} lacks {}: what it has can be restored part by part, by id",
            lacking.join(", ")
        );
        return Err(Error::failed(message));
    }
    let placed = set.parts.iter().filter_map(|(part, snapshot)| Some((part, (*snapshot)?)));
    placed
        .map(|(part, snapshot)| {
            // a name comes from whoever made the snapshot: it must not lead out of the target
            let is_plain = !matches!(*part, "" | "." | "..") && !part.contains(['/', '\0']);
            let message = format!("the part {part:?} of {name:?} is no name for a directory");
            let target = is_plain.then(|| target.join(part)).ok_or_else(|| Error::failed(message));
            target.map(|target| (snapshot, target))
        })
        .collect()
}

/// Whether all data of all parts of a set is there, before the first is written.
fn see_parts<'a>(
    context: &Context,
    arguments: &Arguments,
    repository: &Repository,
    parts: impl Iterator<Item = (&'a Snapshot, &'a Counterpart)>,
) -> Result<()> {
    let reporter = context.reporter();
    for (snapshot, second) in parts {
        let (include, exclude) = (rules(&arguments.include)?, rules(&arguments.exclude)?);
        let selection = Selection {
            include: include.as_ref(),
            exclude: exclude.as_ref(),
            ..Selection::default()
        };
        let seen = match second {
            None => present(repository, snapshot, selection, &reporter),
            Some((other, same)) => {
                let (first, second) = ((repository, snapshot), (other, same));
                present_with_second(first, second, selection, &reporter)
            }
        };
        if let Err(error) = seen {
            reporter.finish();
            let id = &snapshot.id.to_hex()[..8];
            let message = match error.kind {
                ErrorKind::Damage => format!(
                    "{}; nothing of the set was written: `esker restore {id} DIRECTORY` brings back what there is of this part",
                    error.message
                ),
                _ => error.message,
            };
            return Err(Error::new(error.kind, message));
        }
    }
    reporter.finish();
    Ok(())
}

fn restore_one(
    context: &Context,
    arguments: &Arguments,
    named: &SnapshotPath,
    (repository, snapshot): (&Repository, &Snapshot),
    second: Counterpart,
    target: &Path,
) -> Outcome {
    let chosen = sources::chosen(context, repository, snapshot, named, &arguments.narrow)?;
    let options = RestoreOptions {
        target: std::path::absolute(target)?,
        path: named.key(),
        sources: chosen.keys(),
        include: rules(&arguments.include)?,
        exclude: rules(&arguments.exclude)?,
        overwrite: arguments.overwrite.into(),
        delete: arguments.delete,
        dry_run: arguments.dry_run,
        verify: arguments.verify,
        owners: Owners { numeric: arguments.numeric_owner, ..Owners::default() },
    };
    let reporter = context.reporter();
    if options.delete && !options.dry_run && !arguments.yes {
        let plan = plan_delete(repository, snapshot, &options, &reporter);
        reporter.finish();
        confirm(&plan?, &reporter)?;
    }
    let restored = match &second {
        None => restore(repository, snapshot, &options, &reporter),
        Some((other, same)) => {
            restore_with_second((repository, snapshot), (other, same), &options, &reporter)
        }
    };
    reporter.finish();
    let report = restored?;
    let elapsed = reporter.elapsed_ms();
    match context.json() {
        true => print_json(repository, snapshot, &options, &report, elapsed)?,
        false => {
            summary(snapshot, &options, &report, elapsed).iter().for_each(|line| context.say(line))
        }
    }
    if report.from_second > 0 {
        let files = output::counted(report.from_second, "file");
        context.warn(&format!(
            "{files} could not be read in {} and came from the second repository: \
             run `esker check --read-data`",
            repository.url()
        ));
    }
    for patterns in [&options.include, &options.exclude].into_iter().flatten() {
        for pattern in patterns.unused() {
            context.warn(&format!("the pattern {pattern:?} matched nothing"));
        }
    }
    Ok(when(report.outcome() == RestoreOutcome::Nothing, Exit::Failed)
        .and(when(report.damaged_count > 0, Exit::Damage))
        .and(when(report.failures_count > 0, Exit::Partial)))
}

fn usage(message: &str) -> Error {
    Error::new(ErrorKind::Usage, message)
}

/// Without a target: all that the profile's snapshot says of its way back, or that of one source.
fn everything(context: &Context, arguments: &Arguments, named: &SnapshotPath) -> Outcome {
    let Arguments { narrow, delete, dry_run, verify, numeric_owner, .. } = arguments;
    let plain = !(*delete || *dry_run || *verify || *numeric_owner)
        && arguments.include.is_empty()
        && arguments.exclude.is_empty()
        && matches!(arguments.overwrite, OverwriteArgument::IfChanged)
        && arguments.second.second.is_none()
        && named.path.is_none();
    if narrow.profile.is_empty() || !plain {
        let message = "restore where to? Name a directory; `restore --profile NAME SNAPSHOT`, \
                       without more, brings back all that a profile saved, with --source one source";
        return Err(usage(message).into());
    }
    let asking = Asking::new(arguments.yes, "a restore in place")?;
    wayback::everything(context, named, narrow, asking)
}

fn rules(patterns: &[String]) -> Result<Option<Rules>> {
    if patterns.is_empty() {
        return Ok(None);
    }
    let rules = Rules::new(patterns, &[]);
    rules.map(Some).map_err(|error| Error::new(ErrorKind::Usage, error.to_string()))
}

/// Shows what is to be deleted, and asks at the terminal.
fn confirm(plan: &DeletePlan, progress: &dyn Progress) -> Result<()> {
    if plan.deletions.is_empty() {
        return Ok(());
    }
    for deletion in plan.deletions.iter().take(SHOWN_DELETIONS) {
        talk(&format!("delete {}", output::path(&deletion.path)));
    }
    if plan.deletions.len() > SHOWN_DELETIONS {
        let more = (plan.deletions.len() - SHOWN_DELETIONS) as u64;
        talk(&format!("and {} more; --dry-run lists all", output::count(more)));
    }
    let no_terminal = |_| {
        let message = "--delete asks at a terminal, and there is none: say --yes";
        Error::new(ErrorKind::Usage, message)
    };
    let things = output::counted(plan.count, "file");
    let question = format!("delete {things}, {}?", output::size(plan.bytes));
    let answer = terminal::open().and_then(|terminal| terminal::ask(terminal, &question));
    match answer.map_err(no_terminal)? {
        true if !progress.interrupted() => Ok(()),
        _ => Err(Error::failed("nothing was deleted, and nothing restored")),
    }
}

fn summary(
    snapshot: &Snapshot,
    options: &RestoreOptions,
    report: &RestoreReport,
    elapsed: u64,
) -> Vec<String> {
    let id = &snapshot.id.to_hex()[..8];
    let target = options.target.display();
    let mut lines = vec![match options.dry_run {
        true => format!("dry run: snapshot {id} into {target}; nothing was written"),
        false => format!("snapshot {id} restored into {target}"),
    }];
    lines.push(format!(
        "{}: {} written, {} updated, {} unchanged, {} skipped; {} directories, {}, {} others",
        output::counted(
            report.files_written + report.files_updated + report.files_unchanged,
            "file"
        ),
        output::count(report.files_written),
        output::count(report.files_updated),
        output::count(report.files_unchanged),
        output::count(report.skipped),
        output::count(report.directories),
        output::counted(report.hard_links, "hard link"),
        output::count(report.others),
    ));
    lines.push(format!(
        "{} written, {} right already, in {}",
        output::size(report.bytes_written),
        output::size(report.bytes_kept),
        output::duration(elapsed),
    ));
    if report.deleted > 0 {
        lines.push(format!("{} deleted", output::count(report.deleted)));
    }
    if report.owners_not_set > 0 {
        lines.push(format!(
            "{} without the snapshot's owner: only root may set it",
            output::count(report.owners_not_set)
        ));
    }
    if report.failures_count > 0 {
        lines.push(format!("{} not written or set", output::count(report.failures_count)));
    }
    if report.damaged_count > 0 {
        lines.push(format!(
            "{} DAMAGED in the repository and left out",
            output::count(report.damaged_count)
        ));
    }
    lines
}

fn print_json(
    repository: &Repository,
    snapshot: &Snapshot,
    options: &RestoreOptions,
    report: &RestoreReport,
    elapsed: u64,
) -> io::Result<()> {
    let remarks = |list: &[Failure]| -> Vec<Value> {
        list.iter()
            .map(|failure| output::json_remark(&failure.path, "reason", &failure.reason))
            .collect()
    };
    let outcome = match report.outcome() {
        RestoreOutcome::Complete => "complete",
        RestoreOutcome::Incomplete => "incomplete",
        RestoreOutcome::Damage => "damage",
        RestoreOutcome::Nothing => "nothing",
    };
    let mut output = Output::new();
    output.json(
        "summary",
        json!({
            "snapshot": snapshot.id.to_hex(),
            "repository": repository.url(),
            "target": options.target.display().to_string(),
            "dry_run": options.dry_run,
            "outcome": outcome,
            "files_written": report.files_written,
            "files_updated": report.files_updated,
            "files_unchanged": report.files_unchanged,
            "skipped": report.skipped,
            "directories": report.directories,
            "hard_links": report.hard_links,
            "others": report.others,
            "bytes_written": report.bytes_written,
            "bytes_kept": report.bytes_kept,
            "deleted": report.deleted,
            "owners_not_set": report.owners_not_set,
            "failure_count": report.failures_count,
            "failures": remarks(&report.failures),
            "from_second": report.from_second,
            "damaged_count": report.damaged_count,
            "damaged": remarks(&report.damaged),
            "milliseconds": elapsed,
        }),
    )?;
    output.finish()
}
