//! What is backed up.

use std::collections::BTreeSet;
use std::path::Path;

use super::super::profile::{Preset, Source};
use super::{Checker, is_empty};
use crate::backup::wrong_name;

impl Checker<'_> {
    pub(super) fn sources(&mut self) {
        let mut names = BTreeSet::new();
        for (index, source) in self.profile.settings.sources.iter().enumerate() {
            let index = index.to_string();
            self.source(&index, source);
            if let Some(name) = &source.name
                && !names.insert(name.as_str())
            {
                self.error(
                    &["sources", &index, "name"],
                    format!("two sources are called {name:?}"),
                );
            }
        }
    }

    fn source(&mut self, index: &str, source: &Source) {
        let here = ["sources", index];
        let kinds = [
            ("paths", source.paths.is_some()),
            ("command", source.command.is_some()),
            ("tar", source.tar.is_some()),
            ("preset", source.preset.is_some()),
        ];
        let given: Vec<&str> = kinds.iter().filter(|kind| kind.1).map(|kind| kind.0).collect();
        match given.as_slice() {
            [] => self.error(&here, "a source needs one of paths, command, tar and preset"),
            [only] => self.source_of_kind(index, source, only),
            [first, second, ..] => {
                let sentence = format!(
                    "a source is one of paths, command, tar and preset: this has {first} and {second}"
                );
                self.error(&["sources", index, second], sentence);
            }
        }
        self.hooks(&["sources", index, "hooks"], source.hooks.as_ref());
        for (key, limit) in [("timeout", source.timeout), ("idle_timeout", source.idle_timeout)] {
            if limit.is_some_and(|limit| limit.ms == 0) {
                let sentence = format!("`{key}` of nothing leaves no time");
                self.error(&["sources", index, key], sentence);
            }
        }
    }

    fn source_of_kind(&mut self, index: &str, source: &Source, kind: &str) {
        let at = |key| ["sources", index, key];
        match (&source.name, kind) {
            (None, "paths") => {}
            (None, _) => {
                let sentence = format!(
                    "a source that is a {kind} needs a `name`: it is a directory or file of the snapshot"
                );
                self.error(&["sources", index], sentence);
            }
            (Some(name), _) => {
                if let Some(reason) = wrong_name(name) {
                    self.error(
                        &at("name"),
                        format!("a source cannot be called {name:?}: {reason}"),
                    );
                }
            }
        }
        let of_paths = [
            ("exclude", source.exclude.is_some()),
            ("one_file_system", source.one_file_system),
            ("may_fail", source.may_fail.is_some()),
            ("expect_mount", source.expect_mount.is_some()),
        ];
        let of_streams =
            [("ends_with", source.ends_with.is_some()), ("restore", source.restore.is_some())];
        let of_programs = [
            ("timeout", source.timeout.is_some()),
            ("idle_timeout", source.idle_timeout.is_some()),
            ("environment", !source.environment.is_empty()),
        ];
        let strange: Vec<(&str, bool)> = match kind {
            "paths" => [&of_streams[..], &of_programs[..]].concat(),
            "preset" => [&of_paths[..], &of_streams[..1]].concat(),
            _ => of_paths.to_vec(),
        };
        for (key, _) in strange.into_iter().filter(|(_, given)| *given) {
            self.error(&at(key), format!("`{key}` says nothing of a source with {kind}"));
        }
        if source.paths.as_ref().is_some_and(Vec::is_empty) {
            self.error(&at("paths"), "`paths` is empty");
        }
        for path in source.paths.iter().flatten() {
            self.absolute(&at("paths"), "paths", path);
        }
        for (key, command) in [("command", &source.command), ("tar", &source.tar)] {
            if command.as_ref().is_some_and(is_empty) {
                self.error(&at(key), format!("`{key}` is empty"));
            }
        }
        self.preset(index, source.preset.as_ref());
    }

    fn preset(&mut self, index: &str, preset: Option<&Preset>) {
        let at = |key| ["sources", index, "preset", key];
        match preset {
            Some(Preset::Sqlite(sqlite)) if sqlite.files.is_empty() => {
                self.error(&at("files"), "`files` is empty: name the database files");
            }
            Some(Preset::Ndb(ndb)) => {
                if ndb.directories.is_empty() {
                    self.error(
                        &at("directories"),
                        "`directories` is empty: name those of the data nodes",
                    );
                }
                if ndb.nodes.is_empty() {
                    self.error(
                        &at("nodes"),
                        "`nodes` is empty: without it nobody knows that a node is missing",
                    );
                }
            }
            Some(Preset::Elasticsearch(search)) => {
                let web = search.url.starts_with("http://") || search.url.starts_with("https://");
                if !web {
                    self.error(
                        &at("url"),
                        format!(
                            "`url` is {:?}, and must begin with http:// or https://",
                            search.url
                        ),
                    );
                }
            }
            _ => {}
        }
    }

    fn absolute(&mut self, path: &[&str], key: &str, file: &Path) {
        if !file.is_absolute() {
            let file = file.display();
            let sentence = format!(
                "`{key}`: {file} counts from wherever esker is started: write the whole path"
            );
            self.warning(path, sentence);
        }
    }
}
