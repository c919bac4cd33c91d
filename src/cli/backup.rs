//! `backup`: takes a snapshot.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use jiff::Span;
use rustix::event::{PollFd, PollFlags, Timespec};
use serde_json::{Map, Value, json};

use super::context::Context;
use super::environment::variable;
use super::exit::when;
use super::progress::Reporter;
use super::streams::Output;
use super::{Exit, Outcome, values};
use crate::backup::{BackupOptions, BackupReport, Sink, StreamSource, backup};
use crate::compression::DEFAULT_LEVEL;
use crate::config::Profile;
use crate::files::pipe;
use crate::files::{Rules, absolute};
use crate::format::manifest::Outcome as SnapshotOutcome;
use crate::format::notes::MarkKind;
use crate::output;
use crate::repository::marks::check_name;
use crate::repository::{Error, ErrorKind, Repository, Result, now_ms};
use crate::source::Source;
use crate::source::command::CommandSource;
use crate::source::process::{Limits, Program};
use crate::source::tar::{self, TarSource};
use crate::tag::check_free;

/// Take a snapshot
///
/// Unchanged files are not read again. Files that cannot be read are named, the rest is saved, and
/// the exit code is 3.
#[derive(Args)]
pub struct Arguments {
    /// What to save
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Save standard input
    #[arg(long)]
    stdin: bool,

    /// The name that the stream is saved under [default: stdin, or the command's]
    #[arg(long, value_name = "NAME")]
    stdin_name: Option<String>,

    /// Save what a command prints; it stands behind --, and must end with exit status 0
    #[arg(long, requires = "words", conflicts_with = "stdin")]
    command: bool,

    /// The stream is a tar stream: save its members
    #[arg(long)]
    tar: bool,

    #[arg(last = true, value_name = "COMMAND", requires = "command")]
    words: Vec<OsString>,

    /// Read paths to save from a file, or from standard input: one a line
    #[arg(long, value_name = "FILE|-")]
    files_from: Vec<PathBuf>,

    /// Paths from --files-from end with NUL instead of a line end
    #[arg(long, requires = "files_from")]
    null: bool,

    /// Save nothing, exit 1, if any of the paths does not exist
    #[arg(long)]
    require_all: bool,

    /// Say what would be done; store nothing
    #[arg(short = 'n', long)]
    dry_run: bool,

    /// List every new, changed and removed path
    #[arg(long)]
    list: bool,

    #[command(flatten)]
    exclude: Exclude,

    #[command(flatten)]
    snapshot: About,

    #[command(flatten)]
    reading: Reading,
}

#[derive(Args)]
#[command(next_help_heading = "What to leave out")]
struct Exclude {
    /// Leave out what matches beneath the paths, as in a .gitignore; a leading / is the root of the file system
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,

    /// Read such patterns from a file
    #[arg(long, value_name = "FILE")]
    exclude_file: Vec<PathBuf>,

    /// Leave out directories that hold a CACHEDIR.TAG
    #[arg(long)]
    exclude_caches: bool,

    /// Leave out larger files
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    exclude_larger_than: Option<u64>,

    /// Do not enter other file systems
    #[arg(short = 'x', long)]
    one_file_system: bool,
}

#[derive(Args)]
#[command(next_help_heading = "About the snapshot")]
struct About {
    /// The host's name [default: this machine's]
    #[arg(long, value_name = "NAME")]
    host: Option<String>,

    /// The profile's name: a line of snapshots of its own
    #[arg(long, value_name = "NAME", default_value = "default")]
    profile: String,

    /// Its name, which stands for it in every command
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// A tag; may be given several times
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,

    /// When it was taken [default: now]
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    time: Option<u64>,

    /// How long it is to be kept: 30d, 1y
    #[arg(long, value_name = "DURATION", value_parser = values::span)]
    expire_after: Option<Span>,

    /// Take no snapshot if nothing has changed since the last one
    #[arg(long)]
    skip_if_unchanged: bool,
}

#[derive(Args)]
#[command(next_help_heading = "How to read and store")]
struct Reading {
    /// Read every file, changed or not
    #[arg(long)]
    reread: bool,

    /// A file with another inode number may be unchanged
    #[arg(long)]
    ignore_inode: bool,

    /// A file with another time of change may be unchanged
    #[arg(long)]
    ignore_ctime: bool,

    /// Record what is read from FROM as lying in TO: a mounted snapshot of a file system
    #[arg(long, value_name = "FROM=TO", value_parser = PairParser)]
    map: Vec<(PathBuf, PathBuf)>,

    /// zstd level, or off
    #[arg(long, value_name = "1-22|off", default_value_t = DEFAULT_LEVEL.to_string(), value_parser = compression_text)]
    compression: String,

    /// How many threads read files
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    read_concurrency: Option<u16>,
}

fn compression_text(text: &str) -> std::result::Result<String, String> {
    values::compression(text).map(|_| text.to_owned())
}

/// `FROM=TO`, of any bytes.
#[derive(Clone)]
struct PairParser;

impl clap::builder::TypedValueParser for PairParser {
    type Value = (PathBuf, PathBuf);

    fn parse_ref(
        &self,
        command: &clap::Command,
        _: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> std::result::Result<Self::Value, clap::Error> {
        values::pair_of_paths(value).map_err(|reason| {
            let message = format!("invalid value '{}' for '--map': {reason}\n", value.display());
            clap::Error::raw(clap::error::ErrorKind::ValueValidation, message).with_cmd(command)
        })
    }
}

pub fn run(context: &Context, arguments: Arguments) -> Outcome {
    let mut options = options(&arguments)?;
    let repository = context.open()?;
    options.leave_out = leave_out(context, &repository);
    let name = arguments.snapshot.name.as_deref();
    if let Some(name) = name {
        // a run of hours must not end with a name that cannot be given
        check_free(&repository.list_snapshots()?.snapshots, name, None)?;
    }
    let reporter = context.reporter();
    let streams = streams(&arguments, &reporter)?;
    let report = backup(&repository, &options, streams, &reporter);
    reporter.finish();
    let report = report?;
    let named = name.is_none_or(|name| give_name(context, &repository, &report, name));
    for pattern in &report.unused_patterns {
        context.warn(&format!("the pattern {pattern:?} matched nothing"));
    }
    let elapsed = reporter.elapsed_ms();
    match context.json() {
        true => print_json(&repository, &options, &report, name.filter(|_| named), elapsed)?,
        false => {
            summary(&repository, &options, &report, elapsed).iter().for_each(|l| context.say(l))
        }
    }
    Ok(when(report.outcome != SnapshotOutcome::Complete || !named, Exit::Partial))
}

/// Names the new snapshot. It is good without a name too: that it got none is
/// told, and changes nothing else.
pub fn give_name(
    context: &Context,
    repository: &Repository,
    report: &BackupReport,
    name: &str,
) -> bool {
    let Some(snapshot) = report.snapshot else { return true };
    match repository.put_mark(snapshot, MarkKind::Name(name.to_owned()), now_ms()) {
        Ok(()) => true,
        Err(error) => {
            let message = &error.message;
            context.warn(&format!("the snapshot did not get the name {name:?}: {message}"));
            false
        }
    }
}

fn options(arguments: &Arguments) -> Result<BackupOptions> {
    let Arguments { exclude, snapshot, reading, .. } = arguments;
    let usage = |message: String| Error::new(ErrorKind::Usage, message);
    let rules = Rules::new(&exclude.exclude, &exclude.exclude_file);
    let rules = rules.map_err(|error| usage(error.to_string()))?;
    let paths = paths(arguments)?;
    let is_stream = arguments.stdin || arguments.command;
    if paths.is_empty() && !is_stream {
        return Err(usage("nothing to back up: name a path, or say --stdin".to_owned()));
    }
    if !is_stream && (arguments.tar || arguments.stdin_name.is_some()) {
        return Err(usage("--tar and --stdin-name are of --stdin or --command".to_owned()));
    }
    snapshot.name.as_deref().map_or(Ok(()), check_name)?;
    let started = snapshot.time.unwrap_or_else(now_ms);
    let expires = snapshot.expire_after.map(|span| {
        values::after(started, span).ok_or_else(|| usage("--expire-after is too long".to_owned()))
    });
    Ok(BackupOptions {
        paths,
        host: snapshot.host.clone().unwrap_or_else(host_name),
        profile: snapshot.profile.clone(),
        tags: snapshot.tag.clone(),
        time: snapshot.time,
        zone: values::zone_name(),
        expires: expires.transpose()?,
        rules: Some(Arc::new(rules)),
        exclusions: exclude.exclude.clone(),
        exclude_caches: exclude.exclude_caches,
        exclude_larger_than: exclude.exclude_larger_than,
        one_file_system: exclude.one_file_system,
        require_all: arguments.require_all,
        dry_run: arguments.dry_run,
        list: arguments.list,
        reread: reading.reread,
        ignore_inode: reading.ignore_inode,
        ignore_ctime: reading.ignore_ctime,
        map: reading.map.clone(),
        skip_if_unchanged: snapshot.skip_if_unchanged,
        compression: values::compression(&reading.compression).map_err(usage)?,
        read_concurrency: reading.read_concurrency.map_or(0, usize::from),
        checkpoint_bytes: 0,
        leave_out: Vec::new(),
        ..BackupOptions::default()
    })
}

pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The host that a profile's snapshots are of.
pub fn host_of(profile: &Profile) -> String {
    profile.settings.host.clone().unwrap_or_else(host_name)
}

/// Paths that were typed, then those that files list.
fn paths(arguments: &Arguments) -> Result<Vec<PathBuf>> {
    let mut paths = arguments.paths.clone();
    if arguments.stdin && arguments.files_from.iter().any(|file| file.as_os_str() == "-") {
        let message = "--stdin and --files-from - both want standard input";
        return Err(Error::new(ErrorKind::Usage, message));
    }
    for file in &arguments.files_from {
        let mut list = Vec::new();
        let read = match file.as_os_str() == "-" {
            true => io::stdin().read_to_end(&mut list).map(drop),
            false => std::fs::read(file).map(|bytes| list = bytes),
        };
        read.map_err(|error| {
            Error::new(ErrorKind::Usage, format!("--files-from {}: {error}", file.display()))
        })?;
        let end = if arguments.null { 0 } else { b'\n' };
        let names = list.split(|&byte| byte == end).filter(|name| !name.is_empty());
        paths.extend(names.map(|name| PathBuf::from(OsString::from_vec(name.to_vec()))));
    }
    if paths.iter().any(|path| path.as_os_str().is_empty()) {
        return Err(Error::new(ErrorKind::Usage, "a path is empty"));
    }
    // A relative path says nothing to who reads the snapshot elsewhere.
    let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    Ok(paths.iter().map(|path| absolute(path, &here)).collect())
}

fn streams(arguments: &Arguments, reporter: &Reporter) -> Result<Vec<StreamSource>> {
    let name = arguments.stdin_name.clone();
    if arguments.command {
        return command(arguments, name).map(|stream| vec![stream]);
    }
    if !arguments.stdin {
        return Ok(Vec::new());
    }
    let name = name.unwrap_or_else(|| "stdin".to_owned());
    pipe::widen(io::stdin());
    let mut reader = Interruptible { input: io::stdin(), interrupted: reporter.interruption() };
    if !arguments.tar {
        return Ok(vec![StreamSource::reader(&name, Box::new(reader))]);
    }
    let capture = move |sink: &mut dyn Sink| {
        tar::entries(&mut reader, sink).map(drop).map_err(|error| error.to_string())
    };
    Ok(vec![StreamSource { name, required: true, capture: Box::new(capture) }])
}

/// What a command prints. That it is there is seen before anything starts.
fn command(arguments: &Arguments, name: Option<String>) -> Result<StreamSource> {
    let text = |word: &OsString| {
        let not_text = || Error::new(ErrorKind::Usage, "the command is not UTF-8");
        word.to_str().map(str::to_owned).ok_or_else(not_text)
    };
    let words: Vec<String> = arguments.words.iter().map(text).collect::<Result<_>>()?;
    let program = words.first().map(|word| word.rsplit('/').next().unwrap_or_default().to_owned());
    let name = name.or(program).unwrap_or_default();
    let path = variable("PATH").unwrap_or_default();
    let program = Program { words, ..Program::default() };
    let (required, limits) = (true, Limits::default());
    let source = match arguments.tar {
        true => Source::Tar(TarSource { name, required, program, limits, path }),
        false => {
            let ends_with = None;
            Source::Command(CommandSource { name, required, program, limits, ends_with, path })
        }
    };
    source.check()?;
    Ok(source.stream().0)
}

/// Standard input that ends with an error soon after a signal, however long
/// the other side stays silent.
struct Interruptible {
    input: io::Stdin,
    interrupted: Arc<AtomicBool>,
}

impl Read for Interruptible {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wait = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
        loop {
            if self.interrupted.load(Ordering::Relaxed) {
                return Err(io::Error::other("interrupted"));
            }
            let mut polled = [PollFd::new(&self.input, PollFlags::IN)];
            match rustix::event::poll(&mut polled, Some(&wait)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                Ok(_) => return Ok(rustix::io::read(&self.input, buffer)?),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// What is never saved: the repository itself, and the cache.
pub fn leave_out(context: &Context, repository: &Repository) -> Vec<PathBuf> {
    let store = repository.store().local_path().map(PathBuf::from);
    let cache = repository.local().directory().and_then(|directory| directory.parent());
    let cache = cache.map(PathBuf::from).or_else(|| context.environment.cache_directory());
    store.into_iter().chain(cache).collect()
}

pub fn summary(
    repository: &Repository,
    options: &BackupOptions,
    report: &BackupReport,
    elapsed: u64,
) -> Vec<String> {
    let counts = &report.counts;
    let mut lines = Vec::new();
    lines.push(match (&report.snapshot, options.dry_run) {
        (Some(id), _) => {
            let partial = match report.outcome {
                SnapshotOutcome::Complete => "",
                _ => ", PARTIAL: some sources could not be read",
            };
            format!("snapshot {} in {}{partial}", &id.to_hex()[..8], repository.url())
        }
        (None, true) => format!("dry run: nothing was stored in {}", repository.url()),
        (None, false) => format!("nothing has changed; no snapshot in {}", repository.url()),
    });
    lines.push(format!(
        "{}: {} new, {} changed, {} unchanged; {} in {}",
        output::counted(counts.files, "file"),
        output::count(counts.files_new),
        output::count(counts.files_changed),
        output::count(counts.files_unchanged),
        output::size(counts.bytes),
        output::duration(elapsed),
    ));
    let stored = match options.dry_run {
        true => String::new(),
        false => format!(", {} stored", output::size(report.bytes_put)),
    };
    let parent =
        report.parent.map_or("no parent".to_owned(), |id| format!("parent {}", &id.to_hex()[..8]));
    lines.push(format!("{} added{stored}; {parent}", output::size(counts.bytes_added)));
    if report.healed > 0 {
        lines.push(format!(
            "{} stored again that were damaged or missing",
            output::counted(report.healed, "chunk")
        ));
    }
    if counts.failures > 0 || counts.notes > 0 {
        let failures = output::counted(counts.failures, "failure");
        let notes = output::counted(counts.notes, "note");
        lines.push(format!(
            "{failures}, {notes}{}",
            if counts.notes > 0 { " (-v names notes)" } else { "" }
        ));
    }
    lines
}

fn print_json(
    repository: &Repository,
    options: &BackupOptions,
    report: &BackupReport,
    name: Option<&str>,
    elapsed: u64,
) -> io::Result<()> {
    let counts = &report.counts;
    let remarks = |list: &[crate::format::manifest::Failure], name: &str| -> Vec<Value> {
        list.iter().map(|remark| output::json_remark(&remark.path, name, &remark.reason)).collect()
    };
    let paths = options.paths.iter().map(|path| {
        let mut object = Map::new();
        output::json_path(&mut object, "path", path.as_os_str().as_encoded_bytes());
        Value::Object(object)
    });
    let mut output = Output::new();
    output.json(
        "summary",
        json!({
            "snapshot": report.snapshot.map(|id| id.to_hex()),
            "repository": repository.url(),
            "repository_id": repository.id().to_hex(),
            "parent": report.parent.map(|id| id.to_hex()),
            "outcome": outcome_name(report.outcome),
            "dry_run": options.dry_run,
            "unchanged": report.unchanged,
            "host": options.host,
            "profile": options.profile,
            "name": name.filter(|_| report.snapshot.is_some()),
            "tags": options.tags,
            "paths": paths.collect::<Vec<_>>(),
            "files": counts.files,
            "directories": counts.directories,
            "others": counts.others,
            "files_new": counts.files_new,
            "files_changed": counts.files_changed,
            "files_unchanged": counts.files_unchanged,
            "bytes": counts.bytes,
            "bytes_added": counts.bytes_added,
            "bytes_stored": report.bytes_put,
            "healed": report.healed,
            "failure_count": counts.failures,
            "note_count": counts.notes,
            "failures": remarks(&report.failures, "reason"),
            "notes": remarks(&report.notes, "note"),
            "unused_patterns": report.unused_patterns,
            "milliseconds": elapsed,
        }),
    )?;
    output.finish()
}

pub fn outcome_name(outcome: SnapshotOutcome) -> &'static str {
    match outcome {
        SnapshotOutcome::Complete => "complete",
        SnapshotOutcome::Partial => "partial",
        SnapshotOutcome::Failed => "failed",
    }
}
