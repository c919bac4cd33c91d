//! What is well written and makes no sense: only by the text, whatever machine it
//! is read on.

use std::collections::BTreeSet;
use std::path::Path;

use super::finding::{Finding, nearest, one_of, tidy};
use super::load::Configuration;
use super::profile::{Hooks, Preset, ProfileKind, Retention, Source};
use super::resolve::Profile;
use super::value::{self, Period};

/// What `retention.group_by` may hold.
const GROUPS: [&str; 4] = ["host", "profile", "sources", "tags"];

/// The directory of a snapshot that holds the paths.
const PATHS: &str = "files";

/// Variables that stores read.
pub const STORE_VARIABLES: [&str; 16] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_PROFILE",
    "AZURE_STORAGE_ACCOUNT",
    "AZURE_STORAGE_ACCOUNT_NAME",
    "AZURE_STORAGE_KEY",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "ESKER_FTP_PASSWORD",
    "ESKER_FTP_PASSWORD_COMMAND",
    "ESKER_WEBDAV_PASSWORD",
    "ESKER_WEBDAV_PASSWORD_COMMAND",
    "ESKER_SFTP_PASSWORD_COMMAND",
];

/// Says what is wrong with the place of a store, if anything is.
pub type PlaceCheck<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Everything that makes no sense in the repositories and in `profiles`.
pub fn check(
    configuration: &Configuration,
    profiles: &[&Profile],
    place: PlaceCheck<'_>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    repositories(configuration, place, &mut findings);
    for profile in profiles {
        let mut checker = Checker { configuration, profile, place, findings: Vec::new() };
        checker.all();
        findings.append(&mut checker.findings);
    }
    tidy(&mut findings);
    findings
}

/// Why an expression is no schedule, if it is none.
pub fn check_schedule(expression: &str, zone: Option<&str>) -> Result<(), String> {
    if let Some(zone) = zone {
        value::zone(zone)?;
    }
    let last = expression.split_whitespace().last();
    let last = last.ok_or_else(|| "an empty expression never comes".to_owned())?;
    // a zone of its own, at its end: `Mon 02:00 Europe/Berlin`
    match last.contains('/') && last.starts_with(|c: char| c.is_ascii_alphabetic()) {
        true => value::zone(last).map(drop),
        false => Ok(()),
    }
}

fn repositories(configuration: &Configuration, place: PlaceCheck<'_>, findings: &mut Vec<Finding>) {
    let file = &configuration.file;
    if let Some(name) = &file.repository
        && !file.repositories.contains_key(name)
        && let Some(reason) = unknown_repository(configuration, name, place)
    {
        let at = configuration.tree.place(&["repository"]);
        findings.push(Finding::error(at, format!("`repository`: {reason}")));
    }
    for (name, settings) in &file.repositories {
        let at = |key: &str| configuration.tree.place(&["repositories", name, key]);
        let called = |key: &str| format!("`repositories.{name}.{key}`");
        if name.is_empty() || name.contains(['/', ':']) {
            let sentence =
                format!("a repository cannot be called {name:?}: `/` and `:` are of places");
            findings.push(Finding::error(at(""), sentence));
        }
        if let Some(reason) = place(&settings.url) {
            findings.push(Finding::error(at("url"), format!("{}: {reason}", called("url"))));
        }
        let keys = [
            ("key_file", settings.key_file.is_some()),
            ("password", settings.password.is_some()),
            ("identity", settings.identity.is_some()),
        ];
        let given: Vec<&str> = keys.iter().filter(|key| key.1).map(|key| key.0).collect();
        if let [first, second, ..] = given.as_slice() {
            let sentence =
                format!("{first} and {second} both open `repositories.{name}`: keep one of them");
            findings.push(Finding::error(at(second), sentence));
        }
        for variable in settings.environment.keys() {
            if !STORE_VARIABLES.contains(&variable.as_str()) {
                let meant = nearest(variable, STORE_VARIABLES);
                let told = match meant {
                    Some(meant) => format!("did you mean {meant}?"),
                    None => format!("they read {}", one_of(STORE_VARIABLES)),
                };
                let at = configuration.tree.place(&["repositories", name, "environment", variable]);
                let sentence =
                    format!("{}: no store reads {variable}: {told}", called("environment"));
                findings.push(Finding::error(at, sentence));
            }
        }
    }
}

/// Why a name means no repository, if it means none.
fn unknown_repository(
    configuration: &Configuration,
    name: &str,
    place: PlaceCheck<'_>,
) -> Option<String> {
    if configuration.file.repositories.contains_key(name) {
        return None;
    }
    if name.contains(['/', ':']) {
        return place(name);
    }
    let names = configuration.file.repositories.keys().map(String::as_str);
    Some(match nearest(name, names) {
        Some(near) => format!("there is no repository {name:?}: did you mean {near:?}?"),
        None => format!(
            "{name:?} is neither in [repositories] nor a place: write a path with `/`, or an address"
        ),
    })
}

struct Checker<'a> {
    configuration: &'a Configuration,
    profile: &'a Profile,
    place: PlaceCheck<'a>,
    findings: Vec<Finding>,
}

impl Checker<'_> {
    fn error(&mut self, path: &[&str], sentence: impl Into<String>) {
        self.findings.push(Finding::error(self.profile.written.place(path), sentence));
    }

    fn warning(&mut self, path: &[&str], sentence: impl Into<String>) {
        self.findings.push(Finding::warning(self.profile.written.place(path), sentence));
    }

    fn all(&mut self) {
        self.name();
        self.repositories();
        self.kind();
        self.sources();
        self.set();
        self.schedule();
        self.hooks(&["hooks"], self.profile.settings.hooks.as_ref());
        self.retention();
        self.copies();
        self.drill();
        self.periods();
    }

    fn name(&mut self) {
        let name = &self.profile.name;
        if name.is_empty() || name.contains(['/', '\0']) || name.contains(char::is_control) {
            self.error(&[], format!("a profile cannot be called {name:?}"));
        }
    }

    fn repositories(&mut self) {
        let names = self.profile.repositories();
        if names.is_empty() {
            let name = &self.profile.name;
            let sentence = format!(
                "profile `{name}` has no repository: name one with `repositories = [\"…\"]`, or `repository = \"…\"` for all"
            );
            self.error(&["repositories"], sentence);
        }
        for (index, name) in names.iter().enumerate() {
            let path = ["repositories", &index.to_string()];
            if names[..index].contains(name) {
                self.error(&path, format!("`repositories` names {name:?} twice"));
            }
            if let Some(reason) = unknown_repository(self.configuration, name, self.place) {
                self.error(&path, format!("`repositories`: {reason}"));
            }
        }
    }

    /// What each kind of profile needs, and what it cannot have.
    fn kind(&mut self) {
        let settings = &self.profile.settings;
        let name = &self.profile.name;
        let kind = self.profile.kind();
        match kind {
            ProfileKind::Backup if settings.sources.is_empty() => {
                self.error(&["sources"], format!("profile `{name}` backs up nothing: add [[profiles.{name}.sources]] with paths, a command, tar or a preset"));
            }
            ProfileKind::Standby => match &settings.standby {
                None => self.error(&["kind"], format!("profile `{name}` is a standby and has no [profiles.{name}.standby], with the host and profile that it restores")),
                Some(standby) if standby.host.is_empty() || standby.profile.is_empty() => {
                    self.error(&["standby"], "a standby needs the host and the profile that it restores");
                }
                Some(_) => {}
            },
            _ => {}
        }
        if kind != ProfileKind::Backup && !settings.sources.is_empty() {
            self.error(
                &["sources"],
                format!("profile `{name}` takes no snapshots, by its kind, and has sources"),
            );
        }
        if kind != ProfileKind::Standby && settings.standby.is_some() {
            self.warning(&["standby"], format!("profile `{name}` is no standby: say kind = \"standby\", or [profiles.{name}.standby] does nothing"));
        }
        let idle = settings.retention.is_none()
            && settings.prune.is_none()
            && settings.check.is_none()
            && settings.copy.is_none()
            && settings.drill.is_none();
        if kind == ProfileKind::Maintenance && idle {
            self.error(
                &["kind"],
                format!(
                    "profile `{name}` does nothing: give it retention, prune, check, copy or drill"
                ),
            );
        }
    }

    fn sources(&mut self) {
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
        if source.timeout.is_some_and(|timeout| timeout.ms == 0) {
            self.error(&["sources", index, "timeout"], "a `timeout` of nothing leaves no time");
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
            ("environment", !source.environment.is_empty()),
        ];
        let strange: Vec<(&str, bool)> = match kind {
            "paths" => [of_streams, of_programs].concat(),
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

    fn set(&mut self) {
        let Some(set) = &self.profile.settings.set else { return };
        if set.name.is_empty() {
            self.error(&["set", "name"], "a set needs a name");
        }
        if !set.parts.contains(&set.part) {
            let sentence = match nearest(&set.part, set.parts.iter().map(String::as_str)) {
                Some(near) => {
                    format!("`part` {:?} is none of `parts`: did you mean {near:?}?", set.part)
                }
                None => format!("`part` {:?} is none of `parts`", set.part),
            };
            self.error(&["set", "part"], sentence);
        }
        let different: BTreeSet<&String> = set.parts.iter().collect();
        if different.len() < set.parts.len() {
            self.error(&["set", "parts"], "`parts` names a part twice");
        }
    }

    fn schedule(&mut self) {
        let settings = &self.profile.settings;
        for (index, expression) in self.profile.schedule().iter().enumerate() {
            if let Err(reason) = check_schedule(expression, settings.zone.as_deref()) {
                self.error(&["schedule", &index.to_string()], format!("`schedule`: {reason}"));
            }
        }
        let unscheduled = self.profile.schedule().is_empty();
        for (key, given) in
            [("jitter", settings.jitter.is_some()), ("zone", settings.zone.is_some())]
        {
            if unscheduled && given {
                self.warning(&[key], format!("`{key}` says nothing without a `schedule`"));
            }
        }
    }

    fn hooks(&mut self, path: &[&str], hooks: Option<&Hooks>) {
        let Some(hooks) = hooks else { return };
        let lists = [
            ("before", &hooks.before),
            ("after", &hooks.after),
            ("success", &hooks.success),
            ("failure", &hooks.failure),
            ("finally", &hooks.finally),
        ];
        for (name, list) in lists {
            for (index, hook) in list.iter().enumerate() {
                let index = index.to_string();
                let at = |key| [path, &[name, index.as_str(), key]].concat();
                if is_empty(&hook.run) {
                    self.error(&at("run"), "`run` is empty");
                }
                if hook.timeout.is_some_and(|timeout| timeout.ms == 0) {
                    self.error(&at("timeout"), "a `timeout` of nothing leaves no time");
                }
            }
        }
    }

    fn retention(&mut self) {
        let Some(retention) = &self.profile.settings.retention else { return };
        if !keeps_something(retention) {
            let sentence = "retention keeps nothing: give it last, hourly, daily, weekly, monthly, yearly, within or tags";
            self.error(&["retention"], sentence);
        }
        for (index, word) in retention.group_by.iter().flatten().enumerate() {
            if !GROUPS.contains(&word.as_str()) {
                let near = nearest(word, GROUPS).map(|near| format!(": did you mean {near:?}?"));
                let sentence = format!(
                    "`group_by` has {word:?}, and may have {}{}",
                    one_of(GROUPS),
                    near.unwrap_or_default()
                );
                self.error(&["retention", "group_by", &index.to_string()], sentence);
            }
        }
    }

    fn copies(&mut self) {
        for (index, copy) in self.profile.copies().iter().enumerate() {
            let path = ["copy", &index.to_string(), "to"];
            if let Some(reason) = unknown_repository(self.configuration, &copy.to, self.place) {
                self.error(&path, format!("`copy`: {reason}"));
            }
            if self.profile.repositories().contains(&copy.to) {
                self.error(
                    &path,
                    format!("`copy` goes to {:?}, where the profile writes anyway", copy.to),
                );
            }
        }
    }

    fn drill(&mut self) {
        let Some(drill) = &self.profile.settings.drill else { return };
        let sources = &self.profile.settings.sources;
        let names: Vec<&str> = sources.iter().filter_map(|source| source.name.as_deref()).collect();
        if self.profile.kind() != ProfileKind::Backup {
            return;
        }
        for name in drill.commands.keys().filter(|name| !names.contains(&name.as_str())) {
            let near = nearest(name, names.iter().copied());
            let near = near.map(|near| format!(": did you mean {near:?}?")).unwrap_or_default();
            let sentence = format!("`commands` has {name:?}, and no source is called that{near}");
            self.error(&["drill", "commands", name], sentence);
        }
    }

    /// What happens every so often happens at least now and then.
    fn periods(&mut self) {
        let settings = &self.profile.settings;
        let promises = settings.promises.clone().unwrap_or_default();
        let all: [(&[&str], Option<Period>); 9] = [
            (&["retention", "every"], settings.retention.as_ref().and_then(|r| r.every)),
            (&["prune", "every"], settings.prune.as_ref().and_then(|prune| prune.every)),
            (&["check", "every"], settings.check.as_ref().and_then(|check| check.every)),
            (&["drill", "every"], settings.drill.as_ref().and_then(|drill| drill.every)),
            (&["expire_after"], settings.expire_after),
            (&["promises", "maximum_age"], promises.maximum_age),
            (&["promises", "drill"], promises.drill),
            (&["promises", "check"], promises.check),
            (&["promises", "prune"], promises.prune),
        ];
        for (path, period) in all {
            if period.is_some_and(|period| period.ms == 0) {
                self.error(path, format!("`{}` must be longer than nothing", path.join(".")));
            }
        }
    }
}

fn keeps_something(retention: &Retention) -> bool {
    let counts = [
        retention.last,
        retention.hourly,
        retention.daily,
        retention.weekly,
        retention.monthly,
        retention.yearly,
    ];
    counts.into_iter().flatten().any(|count| count > 0)
        || retention.within.is_some()
        || retention.tags.as_ref().is_some_and(|tags| !tags.is_empty())
}

fn is_empty(command: &value::Command) -> bool {
    match command {
        value::Command::Shell(text) => text.trim().is_empty(),
        value::Command::Program(words) => words.first().is_none_or(String::is_empty),
    }
}

/// Why no directory of a snapshot can be called that.
fn wrong_name(name: &str) -> Option<&'static str> {
    match name {
        "" => Some("it is empty"),
        "." | ".." => Some("it means another directory"),
        PATHS => Some("paths are called that"),
        _ if name.contains('/') => Some("it has a `/`"),
        _ if name.contains(char::is_control) => Some("it has a control character"),
        _ if name.len() > 255 => Some("it has more than 255 bytes"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::load::parse;
    use super::*;

    fn findings(text: &str) -> Vec<Finding> {
        let loaded = parse(Path::new("esker.toml"), text.to_owned());
        assert_eq!(loaded.findings, [], "{text}");
        let profiles: Vec<&Profile> = loaded.configuration.profiles().iter().collect();
        let place = |name: &str| name.starts_with("gopher:").then(|| "no such store".to_owned());
        check(&loaded.configuration, &profiles, &place)
    }

    const GOOD: &str = "\
[repositories.main]
url = '/repository'
[profiles.a]
repositories = ['main']
";

    /// What is added to a good beginning of four lines is wrong in one way only.
    #[track_caller]
    fn wrong(more: &str, line: usize, words: &[&str]) {
        let found = findings(&format!("{GOOD}{more}"));
        assert_eq!(found.len(), 1, "{found:#?}");
        assert_eq!(found[0].at.line, line, "{found:#?}");
        assert!(words.iter().all(|word| found[0].sentence.contains(word)), "{found:#?}");
    }

    const PATHS: &str = "sources = [{ paths = ['/srv'] }]\n";

    fn with_paths(more: &str, line: usize, words: &[&str]) {
        wrong(&format!("{PATHS}{more}"), line, words);
    }

    #[test]
    fn a_good_one_is_good() {
        assert_eq!(findings(&format!("{GOOD}{PATHS}")), []);
    }

    #[test]
    fn sources_are_one_of_four_and_have_names() {
        wrong("", 3, &["backs up nothing"]);
        let source = |more: &str, line, words: &[&str]| {
            wrong(&format!("[[profiles.a.sources]]\n{more}"), line, words);
        };
        source("name = 'x'", 5, &["one of paths, command, tar and preset"]);
        source("name = 'x'\npaths = ['/a']\ncommand = 'b'", 8, &["paths and command"]);
        source("command = 'b'", 5, &["command", "`name`"]);
        source("preset = { kind = 'redis' }", 5, &["preset", "`name`"]);
        for name in ["files", ".", "..", "a/b", "", "a\\u0000b"] {
            source(&format!("name = \"{name}\"\ntar = 'b'"), 6, &["cannot be called"]);
        }
        source("name = 'x'\ncommand = ' '", 7, &["`command` is empty"]);
        source("paths = []", 6, &["`paths` is empty"]);
        source("paths = ['srv']", 6, &["whole path"]);
        source("paths = ['/a']\nends_with = 'x'", 7, &["`ends_with`", "paths"]);
        source("name = 'x'\ncommand = 'a'\nmay_fail = ['/a']", 8, &["`may_fail`", "command"]);
        source("name = 'x'\npreset = { kind = 'sqlite', files = [] }", 7, &["`files` is empty"]);
        source("name = 'x'\ncommand = 'a'\ntimeout = '0s'", 8, &["leaves no time"]);
        let twice = "[[profiles.a.sources]]\nname = 'x'\ncommand = 'a'\n";
        wrong(&format!("{twice}{twice}"), 9, &["two sources", "\"x\""]);
    }

    #[test]
    fn repositories_are_known_or_places() {
        let check = |text: &str, line, words: &[&str]| {
            let found = findings(&format!("{text}\n{PATHS}"));
            assert_eq!((found.len(), found[0].at.line), (1, line), "{found:#?}");
            assert!(words.iter().all(|word| found[0].sentence.contains(word)), "{found:#?}");
        };
        check(
            "[repositories.main]\nurl = '/r'\n[profiles.a]\nrepositories = ['mian']",
            4,
            &["\"main\""],
        );
        check("[profiles.a]\nrepositories = ['gopher://x']", 2, &["no such store"]);
        check("[profiles.a]\nrepositories = ['elsewhere']", 2, &["neither"]);
        check("[profiles.a]\nrepositories = ['/x', '/x']", 2, &["twice"]);
        check("[profiles.a]", 1, &["no repository"]);
        check(
            "[profiles.a]\nrepositories = ['/x']\ncopy = [{ to = '/x' }]",
            3,
            &["`copy`", "anyway"],
        );
        let repository = |more: &str| {
            format!("[repositories.r]\nurl = '/r'\n{more}\n[profiles.a]\nrepositories = ['r']")
        };
        check(&repository("key_file = '/k'\npassword = 'x'"), 4, &["key_file and password"]);
        check(&repository("environment = { AWS_SECRET_KEY = 'x' }"), 3, &["AWS_SECRET_ACCESS_KEY"]);
    }

    #[test]
    fn the_rest_makes_sense_too() {
        with_paths("retention = { every = '1d' }", 6, &["keeps nothing"]);
        with_paths("retention = { last = 0 }", 6, &["keeps nothing"]);
        with_paths("retention = { last = 1, group_by = ['source'] }", 6, &["\"sources\""]);
        with_paths("schedule = ['02:00 Europe/Berlinn']", 6, &["no time zone"]);
        with_paths("schedule = ['']", 6, &["never"]);
        with_paths("jitter = '5min'", 6, &["`jitter`", "`schedule`"]);
        with_paths(
            "set = { name = 's', part = 'db', parts = ['bd', 'web'] }",
            6,
            &["`part`", "\"bd\""],
        );
        with_paths("set = { name = 's', part = 'a', parts = ['a', 'a'] }", 6, &["twice"]);
        with_paths("hooks = { before = [{ run = [] }] }", 6, &["`run` is empty"]);
        with_paths("prune = { every = '0s' }", 6, &["longer than nothing"]);
        with_paths("drill = { commands = { db = 'true' } }", 6, &["no source is called that"]);
        with_paths("kind = 'maintenance'\nprune = {}", 5, &["takes no snapshots"]);
        wrong("kind = 'maintenance'", 5, &["does nothing"]);
        wrong("kind = 'standby'", 5, &["standby"]);
        wrong("kind = 'standby'\nstandby = { host = '', profile = 'p' }", 6, &["host"]);
        with_paths("standby = { host = 'h', profile = 'p' }", 6, &["no standby"]);
    }
}
