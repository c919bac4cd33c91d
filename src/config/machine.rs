//! What a configuration needs of the machine it is read on: programs, mounts, and
//! secrets that can be read, and not by others.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::check::first_after;
use super::finding::{At, Finding, tidy};
use super::load::Configuration;
use super::profile::{Preset, Source};
use super::resolve::Profile;
use super::secret::{Lookup, exposed, is_setting};
use super::shape::{self, Shape};
use super::value::{Command, Reference, Secret};
use crate::schedule::conditions::not_mounted;
use crate::source::process::look_up;

/// Everything that `profiles` and the repositories need and this machine lacks.
pub fn check(
    configuration: &Configuration,
    profiles: &[&Profile],
    environment: Lookup<'_>,
) -> Vec<Finding> {
    let path = environment("PATH").unwrap_or_default();
    let mut findings = Vec::new();
    secrets(configuration, environment, &mut findings);
    key_files(configuration, &mut findings);
    for profile in profiles {
        tools(profile, &path, &mut findings);
        mounts(profile, &mut findings);
        schedule(profile, &mut findings);
    }
    tidy(&mut findings);
    findings
}

fn secrets(configuration: &Configuration, environment: Lookup<'_>, findings: &mut Vec<Finding>) {
    let mut told = BTreeSet::new();
    let mut tree = configuration.tree.clone();
    shape::each_secret(&mut tree, Shape::file(), "", &mut |path, node| {
        let Ok(secret) = node.to_toml().try_into::<Secret>() else { return };
        match &secret {
            Secret::Text(text) if !text.is_empty() && !is_setting(path, text) => {
                let others = std::fs::metadata(&node.at.file).is_ok_and(|m| m.mode() & 0o077 != 0);
                if others && told.insert(node.at.file.clone()) {
                    let file = node.at.file.display();
                    let sentence = format!(
                        "`{path}` is a secret, and others can read or change this file: chmod 600 {file}"
                    );
                    findings.push(Finding::warning(&node.at, sentence));
                }
            }
            Secret::Reference(Reference::Environment(name)) if environment(name).is_none() => {
                let sentence =
                    format!("`{path}`: the variable {name} is not set here: a run needs it");
                findings.push(Finding::warning(&node.at, sentence));
            }
            _ => {
                let file = secret.file(environment);
                file.into_iter().for_each(|file| readable(path, &file, &node.at, findings));
            }
        }
    });
}

/// A file that holds a secret.
fn readable(key: &str, file: &Path, at: &At, findings: &mut Vec<Finding>) {
    match std::fs::File::open(file) {
        Ok(_) => findings
            .extend(exposed(file).map(|told| Finding::warning(at, format!("`{key}`: {told}")))),
        Err(error) => {
            let sentence = format!("`{key}`: {}: {error}", file.display());
            findings.push(Finding::error(at, sentence));
        }
    }
}

fn key_files(configuration: &Configuration, findings: &mut Vec<Finding>) {
    let tree = &configuration.tree;
    let mut check = |key: String, file: &Option<PathBuf>, path: &[&str]| {
        if let Some(file) = file {
            readable(&key, file, tree.place(path), findings);
        }
    };
    check("key_file".into(), &configuration.file.key_file, &["key_file"]);
    for (name, settings) in &configuration.file.repositories {
        for (key, file) in [("key_file", &settings.key_file), ("identity", &settings.identity)] {
            check(format!("repositories.{name}.{key}"), file, &["repositories", name, key]);
        }
    }
}

fn mounts(profile: &Profile, findings: &mut Vec<Finding>) {
    for (index, source) in profile.settings.sources.iter().enumerate() {
        let index = index.to_string();
        for path in source.expect_mount.iter().flatten() {
            if let Some(sentence) = not_mounted(path) {
                let at = profile.written.place(&["sources", &index, "expect_mount"]);
                let sentence = format!("{sentence}, which `expect_mount` names");
                findings.push(Finding::warning(at, sentence));
            }
        }
    }
}

/// Times that are over, by this machine's clock. What never comes at all is a mistake of the text.
fn schedule(profile: &Profile, findings: &mut Vec<Finding>) {
    for (index, expression) in profile.schedule().iter().enumerate() {
        let after = |time| first_after(expression, profile.settings.zone.as_deref(), time);
        if let (Ok(Some(_)), Ok(None)) = (after(Timestamp::UNIX_EPOCH), after(Timestamp::now())) {
            let at = profile.written.place(&["schedule", &index.to_string()]);
            let sentence = format!("`schedule`: {expression:?} does not come any more");
            findings.push(Finding::warning(at, sentence));
        }
    }
}

/// A program that is needed: one of several, and where that is written.
struct Tool<'a> {
    any_of: Vec<&'a str>,
    at: &'a At,
    why: String,
}

fn tools(profile: &Profile, path: &OsStr, findings: &mut Vec<Finding>) {
    for tool in needed(profile) {
        if tool.any_of.iter().any(|program| is_there(program, path)) {
            continue;
        }
        let names = tool.any_of.join(" or ");
        let sentence = match tool.any_of.iter().any(|program| program.contains('/')) {
            true => format!("{names} is no program that can be run: {} needs it", tool.why),
            false => format!("there is no program {names} in PATH: {} needs it", tool.why),
        };
        findings.push(Finding::error(tool.at, sentence));
    }
}

fn needed(profile: &Profile) -> Vec<Tool<'_>> {
    let mut tools = Vec::new();
    for (path, command) in commands(profile) {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let at = profile.written.place(&path);
        let why = format!("`{}`", written(&profile.name, &path));
        tools.extend(program(command).map(|program| Tool { any_of: vec![program], at, why }));
    }
    for (index, source) in profile.settings.sources.iter().enumerate() {
        let at = profile.written.place(&["sources", &index.to_string(), "preset"]);
        for any_of in of_preset(source) {
            tools.push(Tool {
                any_of,
                at,
                why: format!("a preset of `profiles.{}`", profile.name),
            });
        }
    }
    tools
}

/// `profiles.web.sources[0].command`
fn written(profile: &str, path: &[&str]) -> String {
    let mut text = format!("profiles.{profile}");
    for step in path {
        match step.parse::<usize>() {
            Ok(index) => text.push_str(&format!("[{index}]")),
            Err(_) => text.push_str(&format!(".{step}")),
        }
    }
    text
}

/// Every command of a profile, and where it is written.
fn commands(profile: &Profile) -> Vec<(Vec<String>, &Command)> {
    let settings = &profile.settings;
    let mut found = Vec::new();
    let mut add = |path: &[&str], command| {
        found.push((path.iter().map(|&step| step.to_owned()).collect(), command));
    };
    for (index, source) in settings.sources.iter().enumerate() {
        let index = index.to_string();
        let commands =
            [("command", &source.command), ("tar", &source.tar), ("restore", &source.restore)];
        for (key, command) in commands {
            command.iter().for_each(|command| add(&["sources", &index, key], command));
        }
        for (list, position, command) in hooks(source.hooks.as_ref()) {
            add(&["sources", &index, "hooks", list, &position, "run"], command);
        }
        if let Some(Preset::Ndb(ndb)) = &source.preset {
            ndb.start.iter().for_each(|start| add(&["sources", &index, "preset", "start"], start));
        }
    }
    for (list, position, command) in hooks(settings.hooks.as_ref()) {
        add(&["hooks", list, &position, "run"], command);
    }
    for (name, command) in settings.drill.iter().flat_map(|drill| &drill.commands) {
        add(&["drill", "commands", name], command);
    }
    found
}

/// Lists of hooks, positions in them, and what they run.
fn hooks(
    hooks: Option<&super::profile::Hooks>,
) -> impl Iterator<Item = (&'static str, String, &Command)> {
    let lists = hooks.map(|hooks| {
        [
            ("before", &hooks.before),
            ("after", &hooks.after),
            ("success", &hooks.success),
            ("failure", &hooks.failure),
            ("finally", &hooks.finally),
        ]
    });
    lists.into_iter().flatten().flat_map(|(name, list)| {
        list.iter().enumerate().map(move |(index, hook)| (name, index.to_string(), &hook.run))
    })
}

/// Programs of a preset, or the one through which it reaches them.
fn of_preset(source: &Source) -> Vec<Vec<&str>> {
    let (through, programs): (&Option<Vec<String>>, Vec<Vec<&str>>) = match &source.preset {
        Some(Preset::Postgresql(postgresql)) => {
            let mut programs = vec![vec!["psql"], vec!["pg_dump"]];
            if postgresql.globals.unwrap_or(true) {
                programs.push(vec!["pg_dumpall"]);
            }
            (&postgresql.through, programs)
        }
        Some(Preset::Mariadb(mariadb)) => {
            (&mariadb.through, vec![vec!["mariadb", "mysql"], vec!["mariadb-dump", "mysqldump"]])
        }
        Some(Preset::Redis(redis)) => (&redis.through, vec![vec!["redis-cli"]]),
        // without `through` none: esker reads the database by itself
        Some(Preset::Sqlite(sqlite)) => (&sqlite.through, Vec::new()),
        Some(Preset::Elasticsearch(_) | Preset::Ndb(_)) | None => return Vec::new(),
    };
    match through.as_ref().and_then(|words| words.first()) {
        Some(program) => vec![vec![program]],
        None => programs,
    }
}

/// The program that a command runs first; none if the shell itself does it, or if
/// that cannot be told without a shell.
fn program(command: &Command) -> Option<&str> {
    const BUILT_IN: [&str; 34] = [
        ".", ":", "[", "{", "!", "alias", "break", "case", "cd", "command", "continue", "do",
        "echo", "eval", "exec", "exit", "export", "false", "for", "if", "printf", "pwd", "read",
        "return", "set", "shift", "source", "test", "trap", "true", "umask", "unset", "until",
        "while",
    ];
    let text = match command {
        Command::Program(words) => return words.first().map(String::as_str),
        Command::Shell(text) => text,
    };
    let is_assignment = |word: &&str| {
        word.split_once('=').is_some_and(|(name, _)| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        })
    };
    let word = text.split_whitespace().find(|word| !is_assignment(word))?;
    let word = word.trim_end_matches(';');
    let plain = word.chars().all(|c| c.is_alphanumeric() || "/._-+".contains(c));
    (plain && !word.is_empty() && !BUILT_IN.contains(&word)).then_some(word)
}

fn is_there(program: &str, path: &OsStr) -> bool {
    look_up(program, path).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_of_a_command_is_its_program() {
        for (text, expected) in [
            ("pg_dump -Fc db | gzip", Some("pg_dump")),
            ("PGHOST=db pg_dump x", Some("pg_dump")),
            ("/usr/bin/env; x", Some("/usr/bin/env")),
            ("if true; then x; fi", None),
            ("$TOOL x", None),
            ("\"a b\" c", None),
            ("(x)", None),
            ("", None),
        ] {
            assert_eq!(program(&Command::Shell(text.into())), expected, "{text}");
        }
        let words = Command::Program(vec!["a b".into(), "c".into()]);
        assert_eq!(program(&words), Some("a b"));
    }

    #[test]
    fn programs_are_looked_for_in_path() {
        let path = OsStr::new("/nowhere:/bin:/usr/bin");
        assert!(is_there("sh", path) && is_there("/bin/sh", OsStr::new("")));
        assert!(!is_there("sh", OsStr::new("/nowhere")) && !is_there("/etc", path));
        assert!(!is_there("no-such-program-anywhere", path));
    }
}
