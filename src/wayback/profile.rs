//! The way back as a profile names it: paths in place, streams into their commands, presets by their own steps; in the
//! declared order.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::command::Command;
use super::{Left, Step, Variables, WayBack, What, Why, has, left};
use crate::config::profile::{Preset, ProfileSettings, Source as Settings};
use crate::config::value::Secret;
use crate::format::entry::{EntryKind, key_of_path};
use crate::progress::Silent;
use crate::repository::snapshots::Snapshot;
use crate::repository::{Repository, Result};
use crate::restore::RestoreOptions;
use crate::run::sources::name_of;
use crate::source::preset::{PresetSource, RestoreStep, Stored};
use crate::source::process::Limits;
use crate::source::{Surroundings, limits};

/// The steps that bring a snapshot back by a profile: paths beneath `root`. What the profile does not name, and what was
/// not saved whole, is left.
pub fn steps_of_profile<'a>(
    repository: &Repository,
    snapshot: &'a Snapshot,
    settings: &ProfileSettings,
    root: &Path,
    surroundings: &Surroundings<'_>,
) -> Result<WayBack<'a>> {
    repository.keyring().require_read()?;
    repository.prepare_reading(&Silent)?;
    let mut sources: Vec<&Settings> = settings.sources.iter().collect();
    sources.sort_by_key(|source| source.restore_order.unwrap_or(0));
    let mut way_back = WayBack { steps: Vec::new(), left: Vec::new() };
    let planning = Planning { repository, snapshot, root, surroundings };
    for source in &sources {
        planning.source(source, &mut way_back)?;
    }
    let names: Vec<String> = sources.into_iter().map(stored_name).collect();
    left::complete(repository, snapshot, &names, &mut way_back)?;
    Ok(way_back)
}

/// What a source is called in a snapshot: a preset without a name after its kind.
pub fn stored_name(source: &Settings) -> String {
    match (&source.name, &source.preset) {
        (None, Some(preset)) => kind_of(preset).to_owned(),
        _ => name_of(source),
    }
}

pub fn kind_of(preset: &Preset) -> &'static str {
    match preset {
        Preset::Postgresql(_) => "postgresql",
        Preset::Mariadb(_) => "mariadb",
        Preset::Sqlite(_) => "sqlite",
        Preset::Redis(_) => "redis",
        Preset::Elasticsearch(_) => "elasticsearch",
        Preset::Ndb(_) => "ndb",
    }
}

/// Whose way back is planned, and whereto.
struct Planning<'a, 's> {
    repository: &'s Repository,
    snapshot: &'a Snapshot,
    root: &'s Path,
    surroundings: &'s Surroundings<'s>,
}

impl<'a> Planning<'a, '_> {
    fn source(&self, source: &Settings, way_back: &mut WayBack<'a>) -> Result<()> {
        let name = stored_name(source);
        if let Some(paths) = &source.paths {
            let keys = self.keys(paths)?;
            if !keys.is_empty() {
                way_back.steps.push(self.step(&name, self.files(keys)));
            }
            return Ok(());
        }
        let tree = self.repository.private_part(self.snapshot)?.tree;
        match (&source.restore, &source.preset) {
            (None, Some(preset)) => self.preset(source, preset, way_back)?,
            // it failed, or did not exist when the snapshot was taken
            _ if !has(self.repository, tree, name.as_bytes())? => {}
            (Some(restore), _) => {
                let command = self.command(source, restore.words())?;
                let key = name.clone().into_bytes();
                way_back.steps.push(self.step(&name, What::Command { key, command }));
            }
            (None, None) => way_back.left.push(Left::new(name, Why::NoCommand)),
        }
        Ok(())
    }

    fn step(&self, name: &str, what: What) -> Step<'a> {
        Step { name: name.to_owned(), snapshot: self.snapshot, what }
    }

    /// Of those paths that are there: one that was missing has nothing to bring back.
    fn keys(&self, paths: &[PathBuf]) -> Result<Vec<Vec<u8>>> {
        let tree = self.repository.private_part(self.snapshot)?.tree;
        let mut keys = Vec::new();
        for path in paths {
            let key = key_of_path(path.as_os_str().as_encoded_bytes());
            if has(self.repository, tree, &key)? {
                keys.push(key);
            }
        }
        Ok(keys)
    }

    fn files(&self, keys: Vec<Vec<u8>>) -> What {
        What::Files(Box::new(RestoreOptions {
            target: self.root.to_owned(),
            sources: keys,
            ..RestoreOptions::default()
        }))
    }

    fn command(&self, source: &Settings, words: Vec<String>) -> Result<Command> {
        let reveal = |(name, secret): (&String, &Secret)| {
            let value = (self.surroundings.reveal)(secret)?;
            Ok((name.into(), value.as_str().into()))
        };
        let environment = source.environment.iter().map(reveal).collect::<Result<Variables>>()?;
        let words = words.into_iter().map(OsString::from).collect();
        let limits = Some(limits(source));
        Ok(Command { words, environment, prints_aside: true, limits, ..Command::default() })
    }

    fn preset(&self, source: &Settings, preset: &Preset, way_back: &mut WayBack<'a>) -> Result<()> {
        let preset = PresetSource::new(source, preset, self.surroundings)?;
        let stored = stored(self.repository, self.snapshot, preset.name.as_bytes())?;
        if stored.is_empty() {
            return Ok(());
        }
        for restored in preset.restore_steps(&stored)? {
            let what = of_preset(&preset.name, restored, limits(source));
            way_back.steps.push(self.step(&preset.name, what));
        }
        Ok(())
    }
}

fn of_preset(name: &str, step: RestoreStep, limits: Limits) -> What {
    let key = |path: &[u8]| {
        let mut key = name.as_bytes().to_vec();
        if !path.is_empty() {
            key.push(0);
            key.extend(path.iter().map(|byte| if *byte == b'/' { 0 } else { *byte }));
        }
        key
    };
    match step {
        RestoreStep::Command(step) => {
            let key = key(&step.path);
            What::Command { key, command: Command { limits: Some(limits), ..Command::from(step) } }
        }
        RestoreStep::Place { from, to } => What::Files(Box::new(RestoreOptions {
            target: to,
            path: Some(key(&from)),
            ..RestoreOptions::default()
        })),
        RestoreStep::Call(call) => What::Call { key: key(&call.path), call },
    }
}

/// The files that a snapshot has of a source, by their path relative to it.
fn stored(repository: &Repository, snapshot: &Snapshot, name: &[u8]) -> Result<Stored> {
    let tree = repository.private_part(snapshot)?.tree;
    let mut stored = Stored::new();
    for entry in repository.tree(tree, name) {
        let entry = entry?;
        match entry.key.strip_prefix(name) {
            Some([0, path @ ..]) if entry.kind == EntryKind::File => {
                let path = path.iter().map(|byte| if *byte == 0 { b'/' } else { *byte });
                stored.insert(path.collect(), entry.metadata);
            }
            Some([] | [0, ..]) => {}
            _ => break,
        }
    }
    Ok(stored)
}
