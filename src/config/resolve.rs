//! Profiles that extend others, made whole.

use super::document::{Member, Node, Value};
use super::finding::{Finding, nearest};
use super::profile::{ProfileKind, ProfileSettings};
use super::shape::{self, Shape};

/// A profile with the settings of all it extends.
#[derive(Clone, Debug)]
pub struct Profile {
    pub name: String,
    /// `extends` is empty in them. Defaults are not filled in: ask the methods.
    pub settings: ProfileSettings,
    /// The settings with their lines.
    pub(super) written: Node,
    /// What it names of the rest of the configuration, with lines: `repository`
    /// and `key_file` if it goes there, its `repositories`, and `notify`.
    pub(super) around: Node,
}

impl Profile {
    pub fn kind(&self) -> ProfileKind {
        self.settings.kind.unwrap_or_default()
    }

    /// Names of repositories, or places; at least one unless `config check` complains.
    pub fn repositories(&self) -> &[String] {
        self.settings.repositories.as_deref().unwrap_or_default()
    }

    pub fn tags(&self) -> &[String] {
        self.settings.tags.as_deref().unwrap_or_default()
    }

    pub fn exclude(&self) -> &[String] {
        self.settings.exclude.as_deref().unwrap_or_default()
    }

    pub fn schedule(&self) -> &[String] {
        self.settings.schedule.as_deref().unwrap_or_default()
    }

    pub fn copies(&self) -> &[super::profile::Copy] {
        self.settings.copy.as_deref().unwrap_or_default()
    }

    /// Whether a missed run is made up for.
    pub fn catch_up(&self) -> bool {
        self.settings.catch_up.unwrap_or(true)
    }

    /// Whether scheduled runs yield to others.
    pub fn nice(&self) -> bool {
        self.settings.nice.unwrap_or(true)
    }

    /// zstd level; 0 stores.
    pub fn compression(&self) -> i32 {
        self.settings.compression.unwrap_or(3)
    }
}

/// The settings of the profile `name` with those of all it extends; none, and why,
/// if that cannot be told.
pub(super) fn resolve(profiles: &Node, name: &str) -> Result<Node, Finding> {
    resolve_below(profiles, name, &mut Vec::new())
}

fn resolve_below<'a>(
    profiles: &'a Node,
    name: &'a str,
    above: &mut Vec<&'a str>,
) -> Result<Node, Finding> {
    let Some(own) = profiles.get(name) else { return Ok(profiles.clone()) };
    above.push(name);
    let mut whole = own.clone();
    for extended in own.get("extends").map(Node::items).unwrap_or_default() {
        let Some(base) = extended.text() else { continue };
        if profiles.get(base).is_none() {
            return Err(unknown(profiles, extended, base));
        }
        if above.contains(&base) {
            let way = [above.as_slice(), &[base]].concat().join("` → `");
            let sentence = format!("profile `{base}` extends itself: `{way}`");
            return Err(Finding::error(&extended.at, sentence));
        }
        let base = resolve_below(profiles, base, above)?;
        complete(&mut whole, &base, Shape::profile());
    }
    above.pop();
    if let Value::Table(members) = &mut whole.value {
        members.retain(|member| member.name != "extends");
    }
    Ok(whole)
}

fn unknown(profiles: &Node, at: &Node, base: &str) -> Finding {
    let names = profiles.members().iter().map(|member| member.name.as_str());
    let meant = nearest(base, names).map(|name| format!(": did you mean `{name}`?"));
    let sentence = format!("there is no profile `{base}` to extend{}", meant.unwrap_or_default());
    Finding::error(&at.at, sentence)
}

/// Gives `own` what only `base` has: tables of settings key by key, all else whole.
fn complete(own: &mut Node, base: &Node, shape: Shape) {
    let (Value::Table(members), Value::Table(more)) = (&mut own.value, &base.value) else { return };
    for member in more {
        let inner = shape.member(&member.name);
        match members.iter_mut().find(|own| own.name == member.name) {
            Some(own) => {
                if let Some(inner) = inner.filter(|inner| inner.is_settings()) {
                    complete(&mut own.node, &member.node, inner);
                }
            }
            None if is_heirloom(member) => members.push(member.clone()),
            None => {}
        }
    }
}

/// That a profile is a template says nothing of those that extend it.
fn is_heirloom(member: &Member) -> bool {
    !(member.name == "extends" || member.name == "kind" && member.node.text() == Some("template"))
}

/// A profile of whole settings: what is wrong with it, if anything is.
pub(super) fn profile(name: &str, mut written: Node, file: &Node) -> Result<Profile, Vec<Finding>> {
    let default = file.member("repository");
    if written.get("repositories").is_none()
        && let Some(default) = default
        && let Value::Table(members) = &mut written.value
    {
        let list = Value::List(vec![default.node.clone()]);
        let node = Node { at: default.at.clone(), value: list };
        members.push(Member { name: "repositories".into(), at: default.at.clone(), node });
    }
    let mut findings = shape::check(&written, Shape::profile(), &format!("profiles.{name}"), true);
    if findings.is_empty() {
        match written.to_toml().try_into() {
            Ok(settings) => {
                let around = around(&written, file);
                return Ok(Profile { name: name.to_owned(), settings, written, around });
            }
            Err(error) => findings.push(untold(&written, &error)),
        }
    }
    Err(findings)
}

/// What only the types object to.
pub(super) fn untold(node: &Node, error: &toml::de::Error) -> Finding {
    Finding::error(&node.at, error.message().replace('\n', " "))
}

/// The parts of a configuration that a profile needs.
fn around(written: &Node, file: &Node) -> Node {
    let texts = |list: Option<&Node>| -> Vec<String> {
        let items = list.map(Node::items).unwrap_or_default();
        items.iter().filter_map(|item| Some(item.text()?.to_owned())).collect()
    };
    let mut names = texts(written.get("repositories"));
    for copy in written.get("copy").map(Node::items).unwrap_or_default() {
        names.extend(copy.get("to").and_then(Node::text).map(str::to_owned));
    }
    let default = file.get("repository").and_then(Node::text);
    let has_default = default.is_some_and(|default| names.iter().any(|name| name == default));
    let mut members = Vec::new();
    for member in file.members() {
        match member.name.as_str() {
            "repository" | "key_file" if has_default => members.push(member.clone()),
            "notify" => members.push(member.clone()),
            "repositories" => {
                let mut kept = member.clone();
                if let Value::Table(repositories) = &mut kept.node.value {
                    repositories.retain(|repository| names.contains(&repository.name));
                }
                members.extend((!kept.node.members().is_empty()).then_some(kept));
            }
            _ => {}
        }
    }
    Node { at: file.at.clone(), value: Value::Table(members) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::load::{Configuration, parse};
    use super::*;

    fn read(text: &str) -> Configuration {
        let loaded = parse(Path::new("esker.toml"), text.to_owned());
        assert_eq!(loaded.findings, [], "{text}");
        loaded.configuration
    }

    #[test]
    fn own_settings_count_first_then_those_of_the_extended_in_order() {
        let configuration = read(
            "\
repository = '/default'
[profiles.first]
kind = 'template'
tags = ['first']
compression = 1
[profiles.first.retention]
daily = 1
weekly = 1
[[profiles.first.sources]]
paths = ['/first']
[profiles.second]
kind = 'template'
extends = ['third']
tags = ['second']
zone = 'UTC'
retention = { daily = 2, monthly = 2 }
[profiles.third]
host = 'third'
zone = 'Europe/Berlin'
[profiles.own]
extends = ['first', 'second']
compression = 9
[profiles.own.retention]
daily = 7
",
        );
        let own = configuration.profile("own").unwrap();
        let settings = &own.settings;
        assert_eq!(own.kind(), ProfileKind::Backup);
        assert_eq!(own.tags(), ["first"]);
        assert_eq!(settings.compression, Some(9));
        assert_eq!(settings.zone.as_deref(), Some("UTC"));
        assert_eq!(settings.host.as_deref(), Some("third"));
        assert_eq!(settings.sources.len(), 1);
        assert!(settings.extends.is_empty());
        assert_eq!(own.repositories(), ["/default"]);
        let retention = settings.retention.as_ref().unwrap();
        let counts = [retention.daily, retention.weekly, retention.monthly, retention.last];
        assert_eq!(counts, [Some(7), Some(1), Some(2), None]);
        assert!(configuration.profile("first").is_err() && configuration.profile("third").is_ok());
    }

    #[test]
    fn secrets_replace_each_other_whole() {
        let configuration = read(
            "\
[profiles.base.notify]
ping = { file = '/a' }
log = 'journal'
[profiles.own]
extends = ['base']
[profiles.own.notify]
ping = { environment = 'PING' }
",
        );
        let notify = configuration.profile("own").unwrap().settings.notify.clone().unwrap();
        assert_eq!(format!("{:?}", notify.ping), "Some(Environment(\"PING\"))");
        assert_eq!(notify.log.as_deref(), Some("journal"));
    }

    #[test]
    fn what_an_extended_profile_has_is_not_missing() {
        let text = "\
[profiles.base.standby]
host = 'h'
profile = 'p'
[profiles.own]
extends = ['base']
standby = { delete = true }
";
        let configuration = read(text);
        let standby = configuration.profile("own").unwrap().settings.standby.clone().unwrap();
        assert!(standby.delete && standby.host == "h");
        let loaded = parse(Path::new("a"), text.replace("host = 'h'", ""));
        let lines: Vec<usize> = loaded.findings.iter().map(|finding| finding.at.line).collect();
        assert_eq!(lines, [1, 6], "{:#?}", loaded.findings);
    }

    #[test]
    fn circles_and_unknown_names_are_told_with_their_line() {
        for (text, line, words) in [
            ("[profiles.a]\nextends = ['a']", 2, "`a` → `a`"),
            (
                "[profiles.a]\nextends = ['b']\n[profiles.b]\nextends = [\n'a']",
                5,
                "`a` → `b` → `a`",
            ),
            (
                "[profiles.nightly]\n[profiles.b]\nextends = ['nigthly']",
                3,
                "did you mean `nightly`?",
            ),
        ] {
            let findings = parse(Path::new("esker.toml"), text.to_owned()).findings;
            let is_it = |f: &Finding| f.at.line == line && f.sentence.contains(words);
            assert!(findings.iter().any(is_it), "{findings:#?}");
        }
        // extended twice by different ways is no circle
        read("[profiles.a]\n[profiles.b]\nextends=['a']\n[profiles.c]\nextends=['a','b']");
    }
}
