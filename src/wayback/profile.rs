//! The way back as a profile names it: paths in place, streams into their commands, presets by their own steps; in the
//! declared order.

use std::ffi::OsString;
use std::path::Path;

use super::command::Command;
use super::{Step, Variables, WayBack, What, has};
use crate::config::profile::{ProfileSettings, Source as Settings};
use crate::config::value::Secret;
use crate::format::entry::{EntryKind, key_of_path};
use crate::progress::Silent;
use crate::repository::snapshots::Snapshot;
use crate::repository::{Repository, Result};
use crate::restore::RestoreOptions;
use crate::run::sources::name_of;
use crate::source::Surroundings;
use crate::source::preset::{PresetSource, RestoreStep, Stored};

/// The steps that bring a snapshot back by a profile: paths beneath `root`.
pub fn steps_of_profile<'a>(
    repository: &Repository,
    snapshot: &'a Snapshot,
    settings: &ProfileSettings,
    root: &Path,
    surroundings: &Surroundings<'_>,
) -> Result<WayBack<'a>> {
    repository.keyring().require_read()?;
    repository.prepare_reading(&Silent)?;
    let tree = repository.private_part(snapshot)?.tree;
    let mut sources: Vec<&Settings> = settings.sources.iter().collect();
    sources.sort_by_key(|source| source.restore_order.unwrap_or(0));
    let mut way_back = WayBack { steps: Vec::new(), left: Vec::new() };
    for source in sources {
        let name = name_of(source);
        let step = |what| Step { name: name.clone(), snapshot, what };
        if let Some(paths) = &source.paths {
            let mut keys = Vec::new();
            for path in paths {
                let key = key_of_path(path.as_os_str().as_encoded_bytes());
                // one that was missing has nothing to bring back
                if has(repository, tree, &key)? {
                    keys.push(key);
                }
            }
            if !keys.is_empty() {
                way_back.steps.push(step(What::Files(Box::new(RestoreOptions {
                    target: root.to_owned(),
                    sources: keys,
                    ..RestoreOptions::default()
                }))));
            }
        } else if let (None, Some(preset)) = (&source.restore, &source.preset) {
            let preset = PresetSource::new(source, preset, surroundings)?;
            let stored = stored(repository, snapshot, preset.name.as_bytes())?;
            if stored.is_empty() {
                continue;
            }
            for restored in preset.restore_steps(&stored)? {
                let what = of_preset(&preset.name, restored);
                way_back.steps.push(Step { name: preset.name.clone(), snapshot, what });
            }
        } else if !has(repository, tree, name.as_bytes())? {
            // it failed, or did not exist when the snapshot was taken
            continue;
        } else if let Some(restore) = &source.restore {
            let words = restore.words().into_iter().map(OsString::from).collect();
            let reveal = |(name, secret): (&String, &Secret)| {
                let value = (surroundings.reveal)(secret)?;
                Ok((name.into(), value.as_str().into()))
            };
            let environment =
                source.environment.iter().map(reveal).collect::<Result<Variables>>()?;
            let command = Command { words, environment, prints_aside: true, ..Command::default() };
            let key = name.clone().into_bytes();
            way_back.steps.push(step(What::Command { key, command }));
        } else {
            way_back.left.push(name);
        }
    }
    Ok(way_back)
}

fn of_preset(name: &str, step: RestoreStep) -> What {
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
            What::Command { key: key(&step.path), command: Command::from(step) }
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
