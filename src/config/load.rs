//! Files to a configuration, with everything that is wrong with them.

use std::fs::File as OpenFile;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::document::{Member, Node, Value};
use super::finding::{At, Finding, nearest, tidy};
use super::profile::File;
use super::resolve::{self, Profile};
use super::shape::{self, Shape};
use super::wrong;
use crate::repository::{Error, ErrorKind, Result};

/// The longest file, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// All files together, as far as they are well written.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// Repositories, what counts for commands that are told nothing, and `notify`.
    /// Its `profiles` hold what each has with all that it extends; no templates.
    pub file: File,
    profiles: Vec<Profile>,
    pub(super) tree: Node,
}

/// What was read, and what is wrong with it.
pub struct Loaded {
    /// Without the repositories and profiles that have mistakes.
    pub configuration: Configuration,
    pub findings: Vec<Finding>,
    pub files: Vec<PathBuf>,
}

impl Configuration {
    /// In the order of the files; no templates.
    pub fn profiles(&self) -> &[Profile] {
        &self.profiles
    }

    /// Whether it is there and has mistakes, or extends what has.
    pub fn is_broken(&self, name: &str) -> bool {
        let written = self.tree.get("profiles").and_then(|profiles| profiles.get(name));
        let template = |node: &Node| node.get("kind").and_then(Node::text) == Some("template");
        written.is_some_and(|node| !template(node))
            && !self.profiles.iter().any(|profile| profile.name == name)
    }

    /// The profile of this name; else a sentence with the nearest name that there is.
    pub fn profile(&self, name: &str) -> Result<&Profile> {
        self.profiles.iter().find(|profile| profile.name == name).ok_or_else(|| {
            let names = || self.profiles.iter().map(|profile| profile.name.as_str());
            let template = self.tree.get("profiles").and_then(|profiles| profiles.get(name));
            let told = match (template, nearest(name, names())) {
                (Some(_), _) if self.is_broken(name) => {
                    " without mistakes: `esker config check` lists them".to_owned()
                }
                (Some(_), _) => ": it is a template, there to be extended".to_owned(),
                (None, Some(near)) => format!(": did you mean {near}?"),
                (None, None) if self.profiles.is_empty() => {
                    ", and no other: a configuration file has them as [profiles.NAME]".to_owned()
                }
                (None, None) => format!(": there are {}", names().collect::<Vec<_>>().join(", ")),
            };
            Error::new(ErrorKind::Usage, format!("there is no profile {name}{told}"))
        })
    }
}

impl Loaded {
    /// The configuration, if nothing is wrong with it; else the first mistake.
    pub fn sound(self) -> Result<Configuration> {
        let mut mistakes = self.findings.iter().filter(|finding| finding.is_error());
        let Some(first) = mistakes.next() else { return Ok(self.configuration) };
        let more = match mistakes.count() {
            0 => String::new(),
            more => format!(" (and {more} more: `esker config check` lists them)"),
        };
        Err(Error::new(ErrorKind::Usage, format!("configuration {first}{more}")))
    }
}

/// Reads a file, or all `*.toml` of a directory in the order of their names; `None`
/// if there is none. Only what cannot be read at all is an error.
pub fn load(path: &Path) -> Result<Option<Loaded>> {
    let files = files_of(path).map_err(|error| wrong(path, &error))?;
    let mut texts = Vec::new();
    for file in files {
        match text_of(&file) {
            Ok(text) => texts.push((file, text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(wrong(&file, &error)),
        }
    }
    Ok((!texts.is_empty()).then(|| from_texts(texts)))
}

/// The same of one text, as if it was the file `name`.
pub fn parse(name: &Path, text: String) -> Loaded {
    from_texts(vec![(name.to_owned(), text)])
}

fn files_of(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let file = entry?.path();
        let hidden = file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && file.extension().is_some_and(|extension| extension == "toml") {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn text_of(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    OpenFile::open(file)?.take(MAX_FILE + 1).read_to_string(&mut text)?;
    match text.len() as u64 > MAX_FILE {
        true => Err(io::Error::other(format!("longer than {} MiB", MAX_FILE >> 20))),
        false => Ok(text),
    }
}

fn from_texts(texts: Vec<(PathBuf, String)>) -> Loaded {
    let mut findings = Vec::new();
    let first = texts.first().map(|(file, _)| file.as_path()).unwrap_or(Path::new(""));
    let at = At { file: Arc::from(first), line: 1 };
    let mut tree = Node { at, value: Value::Table(Vec::new()) };
    for (file, text) in &texts {
        match Node::parse(&Arc::from(file.as_path()), text) {
            Ok(node) => {
                findings.extend(shape::check(&node, Shape::file(), "", true));
                join(&mut tree, node, 0, &mut findings);
            }
            Err(mistakes) => findings.extend(mistakes),
        }
    }
    let mut configuration = whole(&tree, &mut findings);
    configuration.tree = tree;
    tidy(&mut findings);
    Loaded { configuration, findings, files: texts.into_iter().map(|(file, _)| file).collect() }
}

/// Puts the settings of one more file to those of the others. Only the tables of
/// repositories and of profiles may be in several, and what says the same in all:
/// `recover` writes a file for each profile, with the repositories that it names.
fn join(tree: &mut Node, more: Node, depth: usize, findings: &mut Vec<Finding>) {
    let (Value::Table(members), Value::Table(more)) = (&mut tree.value, more.value) else { return };
    for member in more {
        let shared = depth == 0 && matches!(member.name.as_str(), "repositories" | "profiles");
        match members.iter_mut().find(|there| there.name == member.name) {
            Some(there) if shared => join(&mut there.node, member.node, 1, findings),
            Some(there) if there.node.says_the_same(&member.node) => {}
            Some(there) => {
                let sentence = format!(
                    "`{}` is given twice, and not the same: here and in {}",
                    member.name, there.at
                );
                findings.push(Finding::error(&member.at, sentence));
            }
            None => members.push(member),
        }
    }
}

/// All that is well written.
fn whole(tree: &Node, findings: &mut Vec<Finding>) -> Configuration {
    let mut file = File {
        repository: tree.get("repository").and_then(Node::text).map(str::to_owned),
        key_file: tree.get("key_file").and_then(Node::text).map(PathBuf::from),
        ..File::default()
    };
    let shape = |name: &str| Shape::file().member(name);
    file.notify =
        tree.member("notify").and_then(|member| typed(member, shape("notify")?, findings));
    let repository = shape("repositories").and_then(|shape| shape.member(""));
    for member in tree.get("repositories").map(Node::members).unwrap_or_default() {
        let settings = repository.and_then(|shape| typed(member, shape, findings));
        if let Some(settings) = settings {
            file.repositories.insert(member.name.clone(), settings);
        }
    }
    let mut profiles = Vec::new();
    if let Some(all) = tree.get("profiles") {
        for member in all.members() {
            let Some(node) = resolved(all, member, findings) else { continue };
            match resolve::profile(&member.name, node, tree) {
                Ok(profile) => profiles.push(profile),
                Err(mistakes) => {
                    // what is wrong where it is written was told; what is missing was not
                    let told: Vec<At> = findings.iter().map(|told| told.at.clone()).collect();
                    findings.extend(mistakes.into_iter().filter(|new| !told.contains(&new.at)));
                }
            }
        }
    }
    let settings = |profile: &Profile| (profile.name.clone(), profile.settings.clone());
    file.profiles = profiles.iter().map(settings).collect();
    Configuration { file, profiles, tree: tree.clone() }
}

/// A table of settings as its type, if nothing is wrong with it.
fn typed<T: serde::de::DeserializeOwned>(
    member: &Member,
    shape: Shape,
    findings: &mut Vec<Finding>,
) -> Option<T> {
    // told when the file was checked
    if !shape::check(&member.node, shape, &member.name, true).is_empty() {
        return None;
    }
    match member.node.to_toml().try_into() {
        Ok(settings) => Some(settings),
        Err(error) => {
            findings.push(resolve::untold(&member.node, &error));
            None
        }
    }
}

/// The profile with all it extends; none if it is a template, or extends what is not there.
fn resolved(all: &Node, member: &Member, findings: &mut Vec<Finding>) -> Option<Node> {
    let node = resolve::resolve(all, &member.name);
    let is_template = member.node.get("kind").and_then(Node::text) == Some("template");
    match node {
        Ok(node) => (!is_template).then_some(node),
        Err(finding) => {
            findings.push(finding);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Line and sentence of everything that is wrong with a text.
    fn findings(text: &str) -> Vec<(usize, String)> {
        let loaded = parse(Path::new("esker.toml"), text.to_owned());
        loaded.findings.into_iter().map(|found| (found.at.line, found.sentence)).collect()
    }

    #[track_caller]
    fn check(text: &str, line: usize, words: &[&str]) {
        let found = findings(text);
        let is_it = |(at, sentence): &&(usize, String)| {
            *at == line && words.iter().all(|word| sentence.contains(word))
        };
        assert!(found.iter().any(|found| is_it(&found)), "{words:?} in line {line}: {found:#?}");
        assert_eq!(found.len(), 1, "{found:#?}");
    }

    #[test]
    fn unknown_keys_name_their_line_and_the_nearest_key() {
        check("repositry = 'x'", 1, &["`repositry`", "`repository`"]);
        check("[repositories.a]\nurl = '/x'\nkeyfile = 'k'", 3, &["`key_file`"]);
        check("[profiles.a]\nretantion = { last = 1 }", 2, &["`retention`", "`profiles.a`"]);
        check("[profiles.a.retention]\ndayly = 7", 2, &["`daily`"]);
        check("[[profiles.a.sources]]\nname = 'x'\nexclud = []", 3, &["`exclude`", "sources[0]"]);
        check(
            "[[profiles.a.sources]]\nname = 'x'\npreset = {\n  kind = 'postgresql',\n  databses = [],\n}",
            5,
            &["`databses`", "`databases`", "preset"],
        );
        check("[[profiles.a.hooks.before]]\nrun = 'x'\non_failur = 'warn'", 3, &["`on_failure`"]);
        check(
            "[notify.mail]\nserver = 's'\nfrom = 'f'\nto = []\npasword = 'x'",
            5,
            &["`password`"],
        );
        check("[repositories.a]\nurl = '/x'\npassword = { fle = 'x' }", 3, &["`fle`", "`file`"]);
        check("xyz = 1", 1, &["`xyz`", "its keys are repository, key_file"]);
    }

    #[test]
    fn values_of_the_wrong_kind_say_what_is_right() {
        check("repository = 1", 1, &["a whole number", "must be text"]);
        check("[profiles.a]\ntags = 'x'", 2, &["is text", "must be a list"]);
        check("[profiles.a]\nsources = 3", 2, &["must be a list"]);
        check("[profiles.a]\ncatch_up = 'yes'", 2, &["must be true or false"]);
        check("[profiles.a]\nretention = 7", 2, &["must be a table"]);
        check(
            "[profiles.a]\nkind = 'standbye'",
            2,
            &["backup, standby, maintenance or template", "\"standby\""],
        );
        check(
            "[[profiles.a.sources]]\npreset = { kind = 'postgres' }",
            2,
            &["\"postgresql\"", "mariadb"],
        );
        check(
            "[[profiles.a.sources]]\npreset = { user = 'x' }",
            2,
            &["`kind` is missing", "redis"],
        );
        check("[[profiles.a.sources]]\ncommand = true", 2, &["must be text or a list"]);
        check("[[profiles.a.sources]]\ncommand = ['a', 1]", 2, &["command[1]", "must be text"]);
        check("[[profiles.a.sources]]\nenvironment = { A = 1 }", 2, &["environment.A", "file"]);
        check("[repositories.a]\nurl = '/x'\npassword = {}", 3, &["one key", "file, environment"]);
        check(
            "[repositories.a]\nurl = '/x'\npassword = { file = 'a', command = 'b' }",
            3,
            &["one key"],
        );
        check("[repositories.a]\nurl = 2026-01-01", 2, &["a time"]);
        check("[repositories.a]\nkey_file = 'k'", 1, &["`url` is missing"]);
        check("[profiles.a.hooks]\nbefore = [{ timeout = '1s' }]", 2, &["`run` is missing"]);
    }

    #[test]
    fn values_out_of_range_say_the_range() {
        check("[profiles.a]\ncompression = 30", 2, &["30", "from 0 to 22"]);
        check("[profiles.a.suspicion]\nchanged = 50", 2, &["from 0 to 1"]);
        check("[profiles.a.retention]\nlast = -1", 2, &["from 0"]);
        check("[profiles.a.retention]\nlast = 99999999999999999999", 2, &["must be"]);
        check("[repositories.a]\nurl = '/x'\nconnections = 0", 3, &["from 1 to 256"]);
        check("[[profiles.a.sources]]\npreset = { kind = 'redis', port = 70000 }", 2, &["65535"]);
        check("[profiles.a]\njitter = 'a while'", 2, &["no length of time", "12h"]);
        check("[profiles.a]\nzone = 'Europe/Berlinn'", 2, &["no time zone"]);
        check("[profiles.a.check]\nread_data = '120%'", 2, &["no share"]);
        check("[profiles.a.prune]\nmax_unused = 'some'", 2, &["write 5%"]);
        check("[repositories.a]\nurl = '/x'\nlimit_upload = 'fast'", 3, &["no size"]);
    }

    #[test]
    fn all_mistakes_are_told_at_once_and_each_once() {
        let text = "\
colour = 1
[profiles.base]
kind = 'template'
compression = 99
[profiles.a]
extends = ['base']
tag = ['x']
[profiles.b]
extends = ['base']
";
        let found = findings(text);
        let lines: Vec<usize> = found.iter().map(|found| found.0).collect();
        assert_eq!(lines, [1, 4, 7], "{found:#?}");
    }

    #[test]
    fn what_has_no_mistake_is_there_all_the_same() {
        let text = "\
[profiles.good]
repositories = ['/x']
[profiles.bad]
compression = 99
";
        let loaded = parse(Path::new("esker.toml"), text.to_owned());
        assert_eq!(loaded.configuration.profiles().len(), 1);
        assert!(loaded.configuration.profile("good").is_ok());
        let error = loaded.sound().unwrap_err();
        assert!(error.message.contains("line 4"), "{error}");
    }

    #[test]
    fn files_of_a_directory_count_together() {
        let directory = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        assert!(load(directory.path()).unwrap().is_none());
        write("b.toml", "[profiles.two]\n[repositories.r]\nurl = '/r'");
        write("a.toml", "repository = 'r'\n[profiles.one]\n");
        write("a.toml.old", "nonsense");
        write(".#a.toml", "nonsense");
        let loaded = load(directory.path()).unwrap().unwrap();
        assert_eq!(loaded.findings, []);
        assert_eq!(loaded.files.len(), 2);
        let names: Vec<&str> =
            loaded.configuration.profiles().iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["one", "two"]);

        write("c.toml", "\n[profiles.one]\ntags = []\n[repositories.r]\nurl = '/other'\n");
        let loaded = load(directory.path()).unwrap().unwrap();
        let told: Vec<String> = loaded.findings.iter().map(|finding| finding.to_string()).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(
            told[0].contains("c.toml, line 2") && told[0].contains("a.toml, line 2"),
            "{told:?}"
        );
        assert!(
            told[1].contains("c.toml, line 4") && told[1].contains("b.toml, line 2"),
            "{told:?}"
        );
    }

    #[test]
    fn unknown_profiles_are_answered_with_the_nearest() {
        let text = "[profiles.nightly]\n[profiles.base]\nkind = 'template'";
        let configuration = parse(Path::new("a"), text.to_owned()).configuration;
        let told = |name| configuration.profile(name).unwrap_err().message;
        assert!(told("nightli").contains("did you mean nightly?"));
        assert!(told("weekly-of-all").contains("there are nightly"));
        assert!(told("base").contains("template"));
    }
}
