//! What `restore` does besides writing files: a stream into a command, a tar stream
//! on standard output, all of a snapshot as its profile says.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::context::Context;
use super::environment::variable;
use super::exit::when;
use super::progress::Reporter;
use super::snapshot_name::{Narrow, SnapshotPath};
use super::streams::{Output, Stop, check_raw_output, raw_output, talk};
use super::{Exit, Outcome, sources, terminal};
use crate::config::profile::Source;
use crate::config::value::Secret;
use crate::config::{self, Profile};
use crate::files::Rules;
use crate::format::entry::{display_key, key_of_path};
use crate::format::manifest;
use crate::output;
use crate::progress::{Event, Progress, Silent};
use crate::repository::snapshots::Snapshot;
use crate::repository::{Error, ErrorKind, Repository, Result};
use crate::restore::{Present, RestoreOutcome, Selection, archive, present};
use crate::source::Surroundings;
use crate::wayback::command::Command;
use crate::wayback::profile::{steps_of_profile, stored_name};
use crate::wayback::{self, Done, Left, Step, StepReport, WayBack, What, Why};

/// Whether and where to ask before something is changed.
pub struct Asking(Option<File>);

impl Asking {
    /// With `yes` nobody is asked; else there must be a terminal to ask at.
    pub fn new(yes: bool, what: &str) -> Result<Asking> {
        if yes {
            return Ok(Asking(None));
        }
        let none = |_| {
            let message = format!("{what} asks at a terminal, and there is none: say --yes");
            Error::new(ErrorKind::Usage, message)
        };
        terminal::open().map(|terminal| Asking(Some(terminal))).map_err(none)
    }

    fn ask(self, question: &str, progress: &dyn Progress) -> Result<()> {
        let Some(terminal) = self.0 else { return Ok(()) };
        match terminal::ask(terminal, question) {
            Ok(true) if !progress.interrupted() => Ok(()),
            _ => Err(Error::failed("nothing was restored")),
        }
    }
}

/// Feeds one source, or one path, to a command.
pub fn to_command(
    context: &Context,
    (named, narrow): (&SnapshotPath, &Narrow),
    words: &[OsString],
    asking: Asking,
) -> Outcome {
    let usage = |message| Error::new(ErrorKind::Usage, message);
    if named.path.is_none() && narrow.source.len() != 1 {
        let message = "--to-command takes one stream: name it with --source, or as SNAPSHOT:PATH";
        return Err(usage(message).into());
    }
    let repository = context.open()?;
    let snapshots = context.readable_snapshots(&repository)?;
    let snapshot = context.select(&repository, &snapshots, &named.wanted, narrow)?;
    let chosen = sources::chosen(context, &repository, snapshot, named, narrow)?;
    chosen.check_whole(snapshot)?;
    let key = named.key().or_else(|| chosen.keys().pop());
    let key = key.ok_or_else(|| usage("--to-command takes one stream: name it with --source"))?;
    let name = output::path(&display_key(&key)).into_owned();
    let command = Command {
        words: words.to_vec(),
        environment: Vec::new(),
        // standard output is for JSON then
        prints_aside: context.json(),
        ..Command::default()
    };
    let question = |found: &[Present]| {
        let bytes = found.iter().map(|found| found.bytes).sum();
        let (of, size) = (of(snapshot), output::size(bytes));
        format!("feed {name} of {of}, {size}, to `{}`?", output::sentence(&command.shown()))
    };
    let what = What::Command { key, command: command.clone() };
    let steps = [Step { name: name.clone(), snapshot, what }];
    let reporter = context.reporter();
    let reports = run(context, &repository, &steps, asking, question, &reporter)?;
    let Some(StepReport { outcome, milliseconds, .. }) = reports.into_iter().next() else {
        return Ok(Exit::Ok);
    };
    let bytes = match outcome {
        wayback::Outcome::Done(Done::Fed { bytes }) => bytes,
        wayback::Outcome::Failed(error) => return Err(error.into()),
        _ => return Ok(Exit::Failed),
    };
    if context.json() {
        let mut output = Output::new();
        let members = json!({
            "snapshot": snapshot.id.to_hex(),
            "repository": repository.url(),
            "source": name,
            "command": command.words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>(),
            "bytes": bytes,
            "milliseconds": milliseconds,
        });
        output.json("summary", members)?;
        output.finish()?;
    }
    context.say(&format!(
        "{name} of {}: {} taken in {}",
        of(snapshot),
        output::size(bytes),
        output::duration(milliseconds)
    ));
    Ok(Exit::Ok)
}

/// Prints what is chosen as a tar stream.
pub fn to_tar(
    context: &Context,
    (named, narrow): (&SnapshotPath, &Narrow),
    (include, exclude): (Option<Rules>, Option<Rules>),
) -> Outcome {
    check_raw_output(context.json(), "restore --to-tar")?;
    let repository = context.open()?;
    let snapshots = context.readable_snapshots(&repository)?;
    let snapshot = context.select(&repository, &snapshots, &named.wanted, narrow)?;
    let keys = sources::chosen(context, &repository, snapshot, named, narrow)?.keys();
    let key = named.key();
    let selection = Selection {
        path: key.as_deref(),
        sources: &keys,
        include: include.as_ref(),
        exclude: exclude.as_ref(),
    };
    let reporter = context.reporter();
    let found = present(&repository, snapshot, selection, &reporter);
    if found.is_err() {
        reporter.finish();
    }
    let Present { files, bytes } = found?;
    reporter.event(Event::Stage("printing"));
    reporter.event(Event::Expect { files, bytes });
    let printed = repository
        .expect_reads(files, bytes, &reporter)
        .map_err(Stop::from)
        .and_then(|()| raw_output(|out| archive(&repository, snapshot, selection, out, &reporter)));
    reporter.finish();
    printed?;
    for patterns in [&include, &exclude].into_iter().flatten() {
        for pattern in patterns.unused() {
            context.warn(&format!("the pattern {pattern:?} matched nothing"));
        }
    }
    Ok(Exit::Ok)
}

/// Brings all of a snapshot back, or the sources that are named: paths in place, the rest by its restore commands.
pub fn everything(
    context: &Context,
    named: &SnapshotPath,
    narrow: &Narrow,
    asking: Asking,
) -> Outcome {
    let repository = open(context, narrow)?;
    let snapshots = context.readable_snapshots(&repository)?;
    let snapshot = context.select(&repository, &snapshots, &named.wanted, narrow)?;
    let chosen = chosen(context, &repository, snapshot, (named, narrow))?;
    let mut way_back = match profile_of(context, &repository, snapshot)? {
        Some(profile) => by_profile(&repository, snapshot, &profile, &chosen)?,
        None => {
            let none = |_: &str| Ok(Vec::new());
            wayback::steps(&repository, snapshot, Path::new("/"), &none)?
        }
    };
    if !chosen.is_empty() {
        way_back.only(&chosen);
    }
    let WayBack { steps, left } = way_back;
    left.iter().for_each(|left| context.warn(&sentence(snapshot, left)));
    if steps.is_empty() {
        let message = format!("{} has nothing that is brought back by itself", of(snapshot));
        return Err(Error::failed(message).into());
    }
    let reporter = context.reporter();
    let question = |found: &[Present]| {
        for (step, found) in steps.iter().zip(found) {
            talk(&format!("{}: {}", step.name, planned(step, found)));
        }
        format!("restore this of {}?", of(snapshot))
    };
    let reports = run(context, &repository, &steps, asking, question, &reporter)?;
    tell_with(context, snapshot, &reports, (&left, !chosen.is_empty()))?;
    let exits = reports.iter().map(exit_of);
    Ok(exits.fold(when(!left.is_empty(), Exit::Partial), Exit::and))
}

/// Names of the sources that are meant; none if all are.
fn chosen(
    context: &Context,
    repository: &Repository,
    snapshot: &Snapshot,
    (named, narrow): (&SnapshotPath, &Narrow),
) -> Result<Vec<String>> {
    let chosen = sources::chosen(context, repository, snapshot, named, narrow)?;
    chosen.check_whole(snapshot)?;
    let name = |key: &Vec<u8>| String::from_utf8_lossy(&display_key(key)).into_owned();
    Ok(chosen.keys().iter().map(name).collect())
}

/// The repository that was named; else the first of the profile's that can be reached.
fn open(context: &Context, narrow: &Narrow) -> Result<Repository> {
    let is_named = context.global.repository.is_some() || context.environment.repository.is_some();
    let configuration = context.configuration()?;
    let [profile] = narrow.profile.as_slice() else { return context.open() };
    let profile = configuration.profiles().iter().find(|configured| configured.name == *profile);
    let Some(profile) = profile.filter(|_| !is_named) else { return context.open() };
    let mut first = None;
    for name in profile.repositories() {
        match context.open_named(name) {
            Ok(repository) => return Ok(repository),
            Err(error) => {
                context.warn(&format!("repository {name}: {}", error.message));
                first.get_or_insert(error);
            }
        }
    }
    first.map_or_else(|| context.open(), Err)
}

/// The profile by which a snapshot is brought back: that of the configuration, which knows secrets, else the one that
/// travels in the snapshot.
pub fn profile_of(
    context: &Context,
    repository: &Repository,
    snapshot: &Snapshot,
) -> Result<Option<Profile>> {
    let name = &snapshot.manifest.profile;
    let configured = context.profiles()?.into_iter().find(|profile| profile.name == *name);
    if configured.is_some() {
        return Ok(configured);
    }
    repository.prepare_reading(&Silent)?;
    let Some(text) = repository.private_part(snapshot)?.profile else { return Ok(None) };
    let loaded = config::parse(Path::new("the snapshot's profile"), text).sound()?;
    loaded.profile(name).cloned().map(Some)
}

fn by_profile<'a>(
    repository: &Repository,
    snapshot: &'a Snapshot,
    profile: &Profile,
    chosen: &[String],
) -> Result<WayBack<'a>> {
    let mut settings = profile.settings.clone();
    // what is not meant needs no secrets
    settings.sources.retain_mut(|source| chosen.is_empty() || narrow_to(source, chosen));
    let reveal = |secret: &Secret| secret.read(&format!("profiles.{}", profile.name), &variable);
    let surroundings = Surroundings {
        path: variable("PATH").unwrap_or_default(),
        temporary: std::env::temp_dir(),
        reveal: &reveal,
        id: snapshot.manifest.set.as_ref().and_then(|set| u32::try_from(set.system?).ok()),
    };
    steps_of_profile(repository, snapshot, &settings, Path::new("/"), &surroundings)
}

/// Leaves only what is chosen of a source, single paths of several; whether anything is.
fn narrow_to(source: &mut Source, chosen: &[String]) -> bool {
    let Some(paths) = &mut source.paths else { return chosen.contains(&stored_name(source)) };
    let is_chosen = |path: &PathBuf| {
        let path = display_key(&key_of_path(path.as_os_str().as_encoded_bytes()));
        chosen.iter().any(|chosen| chosen.as_bytes() == path)
    };
    paths.retain(is_chosen);
    !paths.is_empty()
}

fn run(
    context: &Context,
    repository: &Repository,
    steps: &[Step<'_>],
    asking: Asking,
    question: impl Fn(&[Present]) -> String,
    reporter: &Reporter,
) -> Result<Vec<StepReport>> {
    let mut asking = Some(asking);
    let mut ask = |found: &[Present]| match asking.take() {
        Some(asking) if asking.0.is_some() => {
            reporter.finish();
            asking.ask(&question(found), reporter)
        }
        _ => Ok(()),
    };
    let path = context.environment.path.as_deref();
    let reports = wayback::run(repository, steps, path, &mut ask, reporter);
    reporter.finish();
    reports
}

/// `snapshot ab12cd34 of harbour, 2026-11-21 02:04:54`
fn of(snapshot: &Snapshot) -> String {
    let manifest = &snapshot.manifest;
    let time = output::time(manifest.started, &TimeZone::system());
    let host = output::sentence(&manifest.host);
    format!("snapshot {} of {host}, {time}", &snapshot.id.to_hex()[..8])
}

fn planned(step: &Step<'_>, found: &Present) -> String {
    let size = output::size(found.bytes);
    match &step.what {
        What::Files(options) => {
            let files = output::counted(found.files, "file");
            format!("{files}, {size}, into {}", options.target.display())
        }
        What::Command { command, .. } => match &command.what {
            Some(what) => format!("{size} to {what}"),
            None => format!("{size} to `{}`", command.shown()),
        },
        What::Call { call, .. } => call.what.clone(),
    }
}

pub fn exit_of(report: &StepReport) -> Exit {
    match &report.outcome {
        wayback::Outcome::Done(Done::Fed { .. } | Done::Called) => Exit::Ok,
        wayback::Outcome::Done(Done::Files(report)) => match report.outcome() {
            RestoreOutcome::Complete => Exit::Ok,
            RestoreOutcome::Incomplete => Exit::Partial,
            RestoreOutcome::Damage => Exit::Damage,
            RestoreOutcome::Nothing => Exit::Failed,
        },
        wayback::Outcome::Failed(error) => Exit::of(error.kind),
        wayback::Outcome::NotBegun => Exit::Ok,
    }
}

/// Why something is not brought back, and what does it.
fn sentence(snapshot: &Snapshot, left: &Left) -> String {
    let name = output::sentence(&left.name);
    let id = &snapshot.id.to_hex()[..8];
    match left.why {
        Why::NoCommand => {
            format!(
                "{name} has no restore command: bring it back with --source {name} --to-command"
            )
        }
        Why::NotSaved => {
            let reason =
                left.reason.as_ref().map(|reason| format!(": {}", output::sentence(reason)));
            let reason = reason.unwrap_or_default();
            format!("{name} failed or was not saved whole when snapshot {id} was taken{reason}")
        }
        Why::NoSource => format!(
            "{name} is in snapshot {id} and in no source of the profile: \
             `esker restore {id} --source {name} DIRECTORY` brings it back"
        ),
    }
}

pub fn tell(
    context: &Context,
    snapshot: &Snapshot,
    reports: &[StepReport],
) -> std::result::Result<(), Stop> {
    tell_with(context, snapshot, reports, (&[], false))
}

fn tell_with(
    context: &Context,
    snapshot: &Snapshot,
    reports: &[StepReport],
    (left, is_part): (&[Left], bool),
) -> std::result::Result<(), Stop> {
    let mut output = Output::new();
    for StepReport { name, outcome, milliseconds } in reports {
        let (word, bytes, reason) = match outcome {
            wayback::Outcome::Done(Done::Fed { bytes }) => ("restored", *bytes, None),
            wayback::Outcome::Done(Done::Called) => ("done", 0, None),
            wayback::Outcome::Done(Done::Files(report)) => {
                let lost = report.failures_count + report.damaged_count;
                let reason = (lost > 0).then(|| {
                    let first = report.failures.iter().chain(&report.damaged).next();
                    let first = first.map_or(String::new(), |f| {
                        format!("; the first is {}: {}", output::path(&f.path), f.reason)
                    });
                    format!("{} not restored{first}", output::counted(lost, "file"))
                });
                ("restored", report.bytes_written + report.bytes_kept, reason)
            }
            wayback::Outcome::Failed(error) => ("failed", 0, Some(error.message.clone())),
            wayback::Outcome::NotBegun => ("not begun", 0, None),
        };
        if context.json() {
            output.json("step", step_json(name, word, bytes, reason, *milliseconds))?;
            continue;
        }
        let name = output::sentence(name);
        match reason {
            Some(reason) => talk(&format!("esker: {name}: {word}: {reason}")),
            None if word == "done" => context.say(&format!("{name}: {word}")),
            None if word == "restored" => {
                let (size, time) = (output::size(bytes), output::duration(*milliseconds));
                context.say(&format!("{name}: {word}, {size} in {time}"));
            }
            None => talk(&format!("esker: {name}: {word}")),
        }
    }
    for Left { name, reason, .. } in left.iter().filter(|_| context.json()) {
        output.json("step", step_json(name, "left", 0, reason.clone(), 0))?;
    }
    output.finish()?;
    let is_back = left.is_empty() && reports.iter().all(|report| exit_of(report) == Exit::Ok);
    let verdict = match (is_back, is_part) {
        (true, true) => "what was named is back".to_owned(),
        (true, false) => all_is_back(snapshot),
        (false, true) => "not all that was named is back".to_owned(),
        (false, false) => "not all of it is back".to_owned(),
    };
    context.say(&format!("{}: {verdict}", of(snapshot)));
    Ok(())
}

fn step_json(name: &str, word: &str, bytes: u64, reason: Option<String>, ms: u64) -> Value {
    json!({ "name": name, "outcome": word.replace(' ', "_"), "bytes": bytes, "reason": reason, "milliseconds": ms })
}

/// A standby goes on without what was not saved.
fn all_is_back(snapshot: &Snapshot) -> String {
    let lacks = |source: &&manifest::Source| source.outcome != manifest::Outcome::Complete;
    match snapshot.manifest.sources.iter().filter(lacks).count() as u64 {
        0 => "all of it is back".to_owned(),
        lacking => format!(
            "all that it has is back; not saved whole when it was taken: {}",
            output::counted(lacking, "source")
        ),
    }
}
