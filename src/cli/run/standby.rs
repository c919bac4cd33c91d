//! The run of a standby: the newest complete snapshot of another host comes here.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::chosen;
use super::work::{Reached, Work};
use crate::cli::environment::variable;
use crate::cli::exit::{Exit, when};
use crate::cli::wayback::{exit_of, tell};
use crate::config::profile::{File, ProfileSettings, Standby};
use crate::config::value::Secret;
use crate::config::{self, Profile};
use crate::format::manifest::Outcome;
use crate::notify::LastGood;
use crate::progress::Progress;
use crate::record::{self, Finished};
use crate::repository::local::CacheRoot;
use crate::repository::snapshots::Snapshot;
use crate::repository::{Error, ErrorKind, Repository, Result, now_ms};
use crate::source::Surroundings;
use crate::standby::{self, Keep, Profiles, State};
use crate::wayback::{self, Done, StepReport, WayBack};

/// Brings this machine level with the newest snapshot of the reached repositories.
pub fn stand_by(work: &mut Work<'_>, reached: &[Reached]) -> Result<()> {
    let standby = work.profile.settings.standby.clone().unwrap_or_default();
    let mut listed: Vec<(&Reached, Vec<Snapshot>)> = Vec::new();
    let mut failed = None;
    for at in reached {
        match work.context.readable_snapshots(&at.repository) {
            Ok(snapshots) => listed.push((at, snapshots)),
            Err(error) => {
                let message = format!("repository {}: {}", at.name, error.message);
                work.warn(&message);
                // a newer one may be there
                work.report.fails(&at.name, Exit::of(error.kind), message.clone());
                failed = Some(Error::new(error.kind, message));
            }
        }
    }
    let candidates = listed.iter().rev();
    let candidates =
        candidates.filter_map(|(at, snapshots)| Some((*at, standby::newest(snapshots, &standby)?)));
    let newest = candidates.max_by_key(|(_, snapshot)| snapshot.manifest.started);
    let Some((at, snapshot)) = newest else {
        let Standby { host, profile, .. } = &standby;
        let none = || Error::failed(format!("there is no complete snapshot of {host}/{profile}"));
        return Err(failed.unwrap_or_else(none));
    };
    let state = State::read(&chosen::directory(work.context)?, &work.profile.name);
    let mut state = state.of(&standby);
    let id = snapshot.id.to_hex()[..8].to_owned();
    work.report.last_good =
        Some(LastGood { snapshot: id.clone(), time_ms: snapshot.manifest.started });
    if state.is_level_with(snapshot) {
        work.context.say(&format!("standby: snapshot {id} is here already"));
        work.report.outcome = Some(Outcome::Complete);
        work.report.arrived.insert(at.name.clone(), snapshot.manifest.started);
        return Ok(());
    }
    let started = now_ms();
    let applied = apply(work, &standby, &at.repository, snapshot, &mut state);
    if work.arguments.dry_run {
        return applied.map(drop);
    }
    let mut finished = Finished::new("run", started, standby::EXTENT);
    finished.snapshots = vec![snapshot.id];
    let ended = match applied {
        Ok(applied) => {
            finished.code = u64::from(applied.exit.code());
            finished.log = applied.log.join("\n");
            finished.counts = applied.counts;
            work.report.snapshot = Some(snapshot.id);
            let is_whole = applied.exit == Exit::Ok;
            let outcome = if is_whole { Outcome::Complete } else { Outcome::Partial };
            work.report.outcome = Some(outcome);
            if is_whole {
                work.report.arrived.insert(at.name.clone(), snapshot.manifest.started);
            } else {
                let sentence = format!("snapshot {id} is not here whole: {}", finished.log);
                work.report.fails("standby", applied.exit, sentence.replace('\n', "; "));
            }
            Ok(())
        }
        Err(error) => {
            finished = finished.failed(&error);
            Err(error)
        }
    };
    if let Err(error) = record::put(&at.repository, &work.host, &finished) {
        work.warn(&format!("the record of this run could not be put: {}", error.message));
    }
    ended
}

struct AppliedNow {
    exit: Exit,
    /// What went wrong, in sentences.
    log: Vec<String>,
    counts: Vec<(String, u64)>,
}

/// Restores a snapshot. An error means that nothing was touched, or that the run was
/// interrupted.
fn apply(
    work: &Work<'_>,
    standby: &Standby,
    repository: &Repository,
    snapshot: &Snapshot,
    state: &mut State,
) -> Result<AppliedNow> {
    let keep = keep(work, standby, repository)?;
    let travelled = travelled(repository, snapshot)?;
    let profiles = Profiles { own: &work.profile.settings, travelled: travelled.as_ref() };
    let name = &work.profile.name;
    let reveal = |secret: &Secret| secret.read(&format!("profiles.{name}"), &variable);
    let path = variable("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin"));
    let surroundings = Surroundings {
        path: path.clone(),
        temporary: std::env::temp_dir(),
        reveal: &reveal,
        id: snapshot.manifest.set.as_ref().and_then(|set| u32::try_from(set.system?).ok()),
    };
    let WayBack { steps, left } =
        standby::way_back(repository, snapshot, standby, &profiles, &keep, &surroundings)?;
    let id = &snapshot.id.to_hex()[..8];
    if work.arguments.dry_run {
        for step in &steps {
            work.context.say(&format!("would restore {} of snapshot {id}", step.name));
        }
        return Ok(AppliedNow { exit: Exit::Ok, log: Vec::new(), counts: Vec::new() });
    }
    let before = state.begun();
    let mut has_begun = false;
    let ran = {
        let mut begin = |_: &[_]| {
            has_begun = true;
            state.begin(snapshot)
        };
        wayback::run(repository, &steps, Some(&path), &mut begin, &work.reporter)
    };
    work.reporter.finish();
    let reports = match ran {
        Ok(reports) => reports,
        Err(error) => {
            if has_begun {
                state.nothing_done(before)?;
            }
            return Err(error);
        }
    };
    // a closed pipe of whoever reads along is no reason to stop
    let _ = tell(work.context, snapshot, &reports);
    if work.reporter.interrupted() {
        return Err(Error::interrupted());
    }
    let mut log: Vec<String> = left
        .iter()
        .map(|name| format!("source {name} has no restore command: give the standby one"))
        .collect();
    log.extend(reports.iter().filter_map(problem));
    let worst = reports.iter().map(exit_of).fold(Exit::Ok, Exit::and);
    let exit = worst.and(when(!left.is_empty(), Exit::Partial));
    if exit == Exit::Ok {
        state.done(snapshot)?;
    }
    Ok(AppliedNow { exit, log, counts: counts(&reports) })
}

fn problem(report: &StepReport) -> Option<String> {
    let name = &report.name;
    match &report.outcome {
        wayback::Outcome::Failed(error) => Some(format!("{name}: {}", error.message)),
        wayback::Outcome::NotBegun => Some(format!("{name}: not begun")),
        wayback::Outcome::Done(Done::Files(files)) => {
            let first = files.damaged.iter().chain(&files.failures).next()?;
            let path = crate::output::path(&first.path).into_owned();
            let count = files.damaged_count + files.failures_count;
            Some(format!("{name}: {count} not restored, the first {path}: {}", first.reason))
        }
        wayback::Outcome::Done(_) => None,
    }
}

fn counts(reports: &[StepReport]) -> Vec<(String, u64)> {
    let files = reports.iter().filter_map(|report| match &report.outcome {
        wayback::Outcome::Done(Done::Files(files)) => Some(files),
        _ => None,
    });
    let mut counts = [0; 5];
    for files in files {
        counts[0] += files.files_written;
        counts[1] += files.files_updated;
        counts[2] += files.files_unchanged;
        counts[3] += files.bytes_written;
        counts[4] += files.deleted;
    }
    let names = ["files_written", "files_updated", "files_unchanged", "bytes_written", "deleted"];
    names.map(str::to_owned).into_iter().zip(counts).collect()
}

/// What the standby's owner wants to keep, and all that this program needs to go on:
/// its configuration, keys and secrets, its cache, and a repository on this machine.
fn keep(work: &Work<'_>, standby: &Standby, repository: &Repository) -> Result<Keep> {
    let context = work.context;
    let target = standby.target.clone().unwrap_or_else(|| PathBuf::from("/"));
    let mut own: Vec<PathBuf> = context.config_place().into_iter().collect();
    own.extend(files_of(&context.configuration()?.file));
    own.extend(secrets_of(work.profile));
    if let CacheRoot::Directory(cache) = context.cache() {
        own.push(cache);
    }
    own.extend(repository.store().local_path().map(Path::to_owned));
    let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
    let own: Vec<PathBuf> = own.into_iter().map(absolute).collect();
    Ok(Keep::new(&target, &standby.keep, &own))
}

/// Files that open repositories and their stores.
fn files_of(file: &File) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = file.key_file.iter().cloned().collect();
    for repository in file.repositories.values() {
        files.extend(repository.key_file.iter().chain(&repository.identity).cloned());
        let secrets = repository.password.iter().chain(repository.environment.values());
        files.extend(secrets.filter_map(|secret| secret.file(&variable)));
        if repository.url.starts_with('/') {
            files.push(PathBuf::from(&repository.url));
        }
    }
    files
}

/// Files with secrets of the standby's own sources.
fn secrets_of(profile: &Profile) -> Vec<PathBuf> {
    let sources = profile.settings.sources.iter();
    let secrets = sources.flat_map(|source| source.environment.values());
    secrets.filter_map(|secret| secret.file(&variable)).collect()
}

/// The profile that travels in a snapshot, if it was taken by one.
fn travelled(repository: &Repository, snapshot: &Snapshot) -> Result<Option<ProfileSettings>> {
    let Some(text) = repository.private_part(snapshot)?.profile else { return Ok(None) };
    let loaded = config::parse(Path::new("the snapshot's profile"), text).sound();
    let name = &snapshot.manifest.profile;
    let profile = loaded.and_then(|loaded| loaded.profile(name).cloned());
    // it is not this machine's configuration that is wrong
    let profile = profile.map_err(|error| Error::new(ErrorKind::Failed, error.message))?;
    Ok(Some(profile.settings))
}
