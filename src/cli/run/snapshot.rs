//! One backup of a profile into one repository.

use std::ffi::OsString;
use std::sync::Arc;

use jiff::Zoned;

use crate::backup::{BackupOptions, BackupReport, backup};
use crate::cli::backup::{give_name, leave_out, summary};
use crate::cli::context::Context;
use crate::cli::environment::variable;
use crate::cli::progress::Reporter;
use crate::cli::values;
use crate::config::Profile;
use crate::config::profile::Set as SetSettings;
use crate::format::manifest::{Outcome, Set};
use crate::format::update::Writer;
use crate::id::WriterId;
use crate::repository::keyring::Standing;
use crate::repository::{Error, ErrorKind, Repository, Result};
use crate::run::hooks::Facts;
use crate::run::names;
use crate::run::sources::{self, Prepared};
use crate::source::{Surroundings, Told};
use crate::tag::free_name;
use crate::wayback::commands::RestoreCommand;

/// What a backup of a profile came to.
pub struct Taken {
    pub report: BackupReport,
    /// Sources that failed, and whether the snapshot is partial without them.
    pub failed: Vec<String>,
    /// The end of what their commands said, by source.
    pub told: Vec<(String, Told)>,
    pub named: bool,
}

/// What the profile's sources need. Programs that are missing are named here, before anything is started.
pub fn prepare(
    context: &Context,
    profile: &Profile,
    facts: &Facts,
    id: Option<u32>,
) -> Result<Prepared> {
    let path = variable("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin"));
    let reveal = |secret: &crate::config::value::Secret| {
        secret.read(&format!("profiles.{}", profile.name), &variable)
    };
    let surroundings = Surroundings { path, temporary: std::env::temp_dir(), reveal: &reveal, id };
    let talk = context.warner();
    let warn: Arc<dyn Fn(String) + Send + Sync> = Arc::new(move |text| talk(&text));
    sources::prepare(&profile.settings, facts, &surroundings, &warn)
}

/// Takes the snapshot. A dry run of streams alone comes to nothing.
pub fn take(
    context: &Context,
    profile: &Profile,
    repository: &Repository,
    prepared: Prepared,
    (facts, id, dry_run): (&Facts, Option<u32>, bool),
    reporter: &Reporter,
) -> Result<Option<Taken>> {
    let now = Zoned::now();
    let settings = &profile.settings;
    let id = id.or_else(|| prepared.told.iter().find_map(|(_, told)| told.id()));
    let fill = |pattern: &String| {
        names::fill(pattern, &facts.host, &profile.name, id, &now).map_err(usage)
    };
    let name = settings.name.as_ref().map(fill).transpose()?;
    let name = match name {
        Some(name) => Some(free_name(&repository.list_snapshots()?.snapshots, name)),
        None => None,
    };
    let started = crate::repository::now_ms();
    let expires = settings.expire_after.map(|period| started + period.ms);
    let set = settings.set.as_ref().map(|set| set_of(set, repository, &fill(&set.name)?, id));
    let options = BackupOptions {
        host: facts.host.clone(),
        profile: profile.name.clone(),
        tags: profile.tags().to_vec(),
        zone: values::zone_name(),
        expires,
        compression: profile.compression(),
        set: set.transpose()?,
        profile_text: Some(profile.without_secrets()),
        restore_commands: restore_commands(profile)?,
        leave_out: leave_out(context, repository),
        dry_run,
        ..prepared.options
    };
    let mut streams = prepared.streams;
    if dry_run {
        // to capture one would run its commands
        for stream in streams.drain(..) {
            context.say(&format!("would capture {}", stream.name));
        }
        if options.paths.is_empty() {
            return Ok(None);
        }
    }
    let report = backup(repository, &options, streams, reporter);
    reporter.finish();
    let report = report?;
    let named = match &name {
        Some(name) if !dry_run => give_name(context, repository, &report, name),
        _ => true,
    };
    summary(repository, &options, &report, reporter.elapsed_ms())
        .iter()
        .for_each(|line| context.say(line));
    let failed = prepared.names.iter().zip(&report.sources);
    let failed = failed.filter(|(_, outcome)| **outcome != Outcome::Complete);
    let failed = failed.map(|(name, _)| name.clone()).collect();
    Ok(Some(Taken { report, failed, told: prepared.told, named }))
}

fn usage(message: String) -> Error {
    Error::new(ErrorKind::Usage, message)
}

fn set_of(set: &SetSettings, repository: &Repository, name: &str, id: Option<u32>) -> Result<Set> {
    // of a host that was lost, the key that was revoked may have the new one's label
    let trust = repository.trust();
    let in_force = |writer: &&Writer| matches!(trust.standing(writer.id), Standing::InForce(_));
    let known: Vec<&Writer> = repository.update().writers.iter().filter(in_force).collect();
    let writer = |wanted: &String| {
        let found = known.iter().filter(|w| w.label == *wanted || w.id.to_string() == *wanted);
        let url = repository.url();
        match found.map(|writer| writer.id).collect::<Vec<_>>()[..] {
            [id] => Ok(id),
            [] => Err(usage(format!("set: {url} has no key {wanted:?} in force"))),
            _ => Err(usage(format!(
                "set: {url} has several keys {wanted:?}: name the one by its id, see esker key list"
            ))),
        }
    };
    let mut writers: Vec<WriterId> = set.writers.iter().map(writer).collect::<Result<_>>()?;
    if writers.is_empty() {
        writers.push(repository.keyring().writer);
    }
    Ok(Set {
        name: name.to_owned(),
        parts: set.parts.clone(),
        part: set.part.clone(),
        system: id.map(u64::from),
        writers,
    })
}

/// How the sources are put back, for who has nothing but the snapshot.
fn restore_commands(profile: &Profile) -> Result<Vec<String>> {
    let mut commands = Vec::new();
    for source in &profile.settings.sources {
        let order = i64::from(source.restore_order.unwrap_or(0));
        let name = sources::name_of(source);
        if source.paths.is_some() {
            for path in source.paths.iter().flatten() {
                let path = path.display().to_string();
                let path = format!("files/{}", path.trim_matches('/'));
                let path = path.trim_end_matches('/').to_owned();
                let command = Vec::new();
                commands.push(RestoreCommand { source: name.clone(), path, command, order });
            }
        } else if let Some(restore) = &source.restore {
            let (path, command) = (name.clone(), restore.words());
            commands.push(RestoreCommand { source: name, path, command, order });
        }
    }
    commands.iter().map(RestoreCommand::encode).collect()
}
