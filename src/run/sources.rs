//! What the backup of a profile saves: its paths, and its sources that are none, each with what surrounds it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::hooks::{self, Facts, Moment};
use crate::backup::{BackupOptions, Sink, StreamSource, wrong_name};
use crate::config::profile::{Hooks, Preset, ProfileSettings, Source as Settings};
use crate::files::{RootOptions, Rules};
use crate::format::manifest::Promises;
use crate::repository::{Error, ErrorKind, Result};
use crate::schedule::conditions::not_mounted;
use crate::source::process::Log;
use crate::source::{Source, Surroundings, Told};

/// All that a backup needs to be told, and what its sources tell in return.
pub struct Prepared {
    pub options: BackupOptions,
    pub streams: Vec<StreamSource>,
    /// By source, once it was captured.
    pub told: Vec<(String, Told)>,
    /// Names of the sources, in the order of a report: paths first, then streams.
    pub names: Vec<String>,
    /// Sources that are paths and have hooks.
    pub around: Vec<Around>,
}

/// Hooks around a source of paths: they run before and after the whole backup.
pub struct Around {
    pub source: String,
    pub hooks: Hooks,
    /// What a report calls it.
    pub names: Vec<String>,
    paths: Vec<PathBuf>,
    required: bool,
}

impl Prepared {
    /// A source of paths fails before it began: none of them is saved.
    pub fn fails(&mut self, around: &Around, reason: String) {
        let names = self.names.drain(..self.options.paths.len()).collect::<Vec<_>>();
        let own = std::mem::take(&mut self.options.paths).into_iter().zip(names);
        let (paths, names): (Vec<_>, Vec<_>) =
            own.filter(|(path, _)| !around.paths.contains(path)).unzip();
        self.names.splice(..0, names);
        self.options.paths = paths;
        self.options.of_roots.retain(|(path, _)| !around.paths.contains(path));
        let stream = failing(&around.source, around.required, reason);
        self.names.push(stream.name.clone());
        self.streams.push(stream);
    }
}

/// Makes ready what a profile names. Programs that are missing are an error (`Usage`) before anything is started; a
/// mount point without a mount, or another source that cannot even begin, fails that source alone.
pub fn prepare(
    settings: &ProfileSettings,
    facts: &Facts,
    surroundings: &Surroundings<'_>,
    warn: &Arc<dyn Fn(String) + Send + Sync>,
) -> Result<Prepared> {
    let everywhere = settings.exclude.clone().unwrap_or_default();
    let mut patterns = everywhere.clone();
    let mut options = BackupOptions::default();
    let (mut streams, mut told, mut names, mut around) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut broken = Vec::new();
    for source in &settings.sources {
        let required = source.required.unwrap_or(true);
        let mounts = source.expect_mount.iter().flatten();
        if let Some(reason) = mounts.into_iter().find_map(|path| not_mounted(path)) {
            broken.push(failing(&name_of(source), required, reason));
            continue;
        }
        if let Some(stream) = Source::new(source, surroundings)? {
            if let Err(error) = stream.check() {
                if is_elsewhere(source) {
                    // what cannot be reached today is no reason not to save the rest
                    broken.push(failing(stream.name(), required, error.message));
                    continue;
                }
                let message = format!("source {}: {}", stream.name(), error.message);
                return Err(Error::new(error.kind, message));
            }
            let (stream, tells) = stream.stream();
            told.push((stream.name.clone(), tells.clone()));
            streams.push(with_hooks(stream, source, facts, &tells.log, warn));
            continue;
        }
        let paths = source.paths.clone().unwrap_or_default();
        if !required {
            options.optional.extend(paths.iter().cloned());
        }
        options.may_fail.extend(source.may_fail.iter().flatten().cloned());
        let own = everywhere.iter().chain(source.exclude.iter().flatten());
        let rules = Rules::new(&own.cloned().collect::<Vec<_>>(), &[]);
        let rules = rules.map_err(|error| Error::new(ErrorKind::Usage, error.to_string()))?;
        let rules = Some(Arc::new(rules));
        let own = RootOptions { one_file_system: source.one_file_system, rules };
        options.of_roots.extend(paths.iter().map(|path| (path.clone(), own.clone())));
        for pattern in source.exclude.iter().flatten() {
            patterns.extend(paths.iter().map(|path| beneath(path, pattern)));
        }
        let name_of_path = |path: &PathBuf| match &source.name {
            Some(name) => name.clone(),
            None => path.display().to_string(),
        };
        let own: Vec<String> = paths.iter().map(name_of_path).collect();
        if let Some(hooks) = source.hooks.clone() {
            let (source, names, paths) = (name_of(source), own.clone(), paths.clone());
            around.push(Around { source, hooks, names, paths, required });
        }
        names.extend(own);
        options.paths.extend(paths);
    }
    streams.extend(broken);
    names.extend(streams.iter().map(|stream| stream.name.clone()));
    options.exclusions = patterns;
    options.promises = promises(settings);
    Ok(Prepared { options, streams, told, names, around })
}

fn promises(settings: &ProfileSettings) -> Promises {
    let promises = settings.promises.clone().unwrap_or_default();
    let seconds = |period: crate::config::value::Period| period.ms / 1000;
    Promises {
        maximum_age: promises.maximum_age.map(seconds),
        drill_interval: promises.drill.map(seconds),
        check_interval: promises.check.map(seconds),
    }
}

/// What a source is called; one of paths without a name after its first one.
pub fn name_of(source: &Settings) -> String {
    let path = || source.paths.iter().flatten().next().map(|path| path.display().to_string());
    source.name.clone().or_else(path).unwrap_or_else(|| "source".to_owned())
}

/// Whether a source's programs are on another machine.
fn is_elsewhere(source: &Settings) -> bool {
    let through = match &source.preset {
        Some(Preset::Postgresql(preset)) => &preset.through,
        Some(Preset::Mariadb(preset)) => &preset.through,
        Some(Preset::Sqlite(preset)) => &preset.through,
        Some(Preset::Redis(preset)) => &preset.through,
        Some(Preset::Elasticsearch(_)) => return true,
        Some(Preset::Ndb(_)) | None => &None,
    };
    through.as_ref().is_some_and(|through| !through.is_empty())
}

/// A source that fails before it began.
fn failing(name: &str, required: bool, reason: String) -> StreamSource {
    let plain = name.trim_matches('/').replace('/', "_");
    let name = if wrong_name(&plain).is_none() { plain } else { "source".to_owned() };
    StreamSource { name, required, capture: Box::new(move |_| Err(reason)) }
}

/// A pattern that counts beneath one path only.
fn beneath(path: &Path, pattern: &str) -> String {
    let (not, pattern) = match pattern.strip_prefix('!') {
        Some(rest) => ("!", rest),
        None => ("", pattern),
    };
    match pattern.starts_with('/') {
        true => format!("{not}{pattern}"),
        false => format!("{not}{}/**/{pattern}", path.display()),
    }
}

fn with_hooks(
    stream: StreamSource,
    source: &Settings,
    facts: &Facts,
    log: &Log,
    warn: &Arc<dyn Fn(String) + Send + Sync>,
) -> StreamSource {
    let Some(around) = source.hooks.clone() else { return stream };
    let (log, warn) = (log.clone(), Arc::clone(warn));
    let facts = Facts { source: Some(stream.name.clone()), ..facts.clone() };
    let StreamSource { name, required, capture } = stream;
    let capture = move |sink: &mut dyn Sink| {
        let run = |moment, facts: &Facts, sink: &dyn Sink| {
            let over = || sink.interrupted();
            hooks::run(&around, moment, facts, &log, &over, &mut |text| warn(text))
        };
        let result = run(Moment::Before, &facts, sink).and_then(|()| capture(sink));
        around_end(result, &facts, &mut |moment, facts| run(moment, facts, sink))
    };
    StreamSource { name, required, capture: Box::new(capture) }
}

/// Runs the hooks that follow: `success` or `failure`, `after` what ended well or not, and `finally`. The first that
/// fails where all was well before makes a failure of it.
pub fn around_end(
    mut result: std::result::Result<(), String>,
    facts: &Facts,
    run: &mut dyn FnMut(Moment, &Facts) -> std::result::Result<(), String>,
) -> std::result::Result<(), String> {
    for moment in [Moment::Success, Moment::Failure, Moment::After, Moment::Finally] {
        let applies = match moment {
            Moment::Success => result.is_ok(),
            Moment::Failure => result.is_err(),
            _ => true,
        };
        if !applies {
            continue;
        }
        let facts = Facts {
            status: match (facts.status, &result) {
                ("", Ok(())) => "complete",
                ("" | "complete", Err(_)) => "failed",
                (status, _) => status,
            },
            error: result.as_ref().err().cloned().or_else(|| facts.error.clone()),
            ..facts.clone()
        };
        let ran = run(moment, &facts);
        if result.is_ok() {
            result = ran;
        }
    }
    result
}
