//! A profile as it travels inside every snapshot: whole, and without secrets.

use super::document::{Member, Node, Value};
use super::resolve::Profile;
use super::secret::is_setting;
use super::shape::{self, Shape};

impl Profile {
    /// The profile as a configuration file, with all that it extends written out,
    /// the repositories it names, and no secret: where one stood as text, a variable
    /// of the environment is named. Comments `# not known: …` say where secrets are
    /// that whoever has only this text must bring.
    pub fn without_secrets(&self) -> String {
        let mut file = self.around.clone();
        let mut profile = self.written.clone();
        let at = self.written.at.clone();
        if let Value::Table(members) = &mut profile.value {
            members.retain(|member| member.name != "extends");
        }
        let member = Member { name: self.name.clone(), at: at.clone(), node: profile };
        let profiles = Node { at: at.clone(), value: Value::Table(vec![member]) };
        if let Value::Table(members) = &mut file.value {
            members.push(Member { name: "profiles".into(), at, node: profiles });
        }
        let mut unknown = key_files(&file);
        shape::each_secret(&mut file, Shape::file(), "", &mut |path, node| {
            if !node.text().is_some_and(|text| is_setting(path, text)) {
                unknown.push(replace(path, node));
            }
        });
        let mut text: String =
            unknown.iter().map(|secret| format!("# not known: {secret}\n")).collect();
        if !text.is_empty() {
            text.push('\n');
        }
        // texts, numbers, lists and tables: there is nothing that TOML cannot say
        text.push_str(&toml::to_string(&file.to_toml()).unwrap_or_default());
        text
    }

    /// What `without_secrets` says is not known: a sentence for each secret.
    pub fn unknown_secrets(text: &str) -> impl Iterator<Item = &str> {
        text.lines().filter_map(|line| line.strip_prefix("# not known: "))
    }
}

/// Files that open repositories.
fn key_files(file: &Node) -> Vec<String> {
    let named = |place: &str, node: &Node, key: &str| {
        let path = node.get(key)?.text()?;
        Some(format!("`{place}{key}` is the file {path:?}"))
    };
    let mut found: Vec<String> = named("", file, "key_file").into_iter().collect();
    for repository in file.get("repositories").map(Node::members).unwrap_or_default() {
        let place = format!("repositories.{}.", repository.name);
        for key in ["key_file", "identity"] {
            found.extend(named(&place, &repository.node, key));
        }
    }
    found
}

/// Takes a secret that stands as text away; says where it is.
fn replace(path: &str, node: &mut Node) -> String {
    if let Value::Table(members) = &node.value {
        let place = members.first().map(|member| (member.name.as_str(), member.node.to_toml()));
        let (kind, value) = place.unwrap_or(("nothing", toml::Value::from("")));
        return format!("`{path}` is in the {kind} {value}").replace('\n', " ");
    }
    let name = variable(path);
    let value = Node { at: node.at.clone(), value: Value::Text(name.clone()) };
    let member = Member { name: "environment".into(), at: node.at.clone(), node: value };
    node.value = Value::Table(vec![member]);
    format!("`{path}` was written as text: set the variable {name}, or write it in again")
}

/// The variable that a secret is looked for in: its own name if it is one, else one
/// made of its path.
fn variable(path: &str) -> String {
    let last = path.rsplit(['.', ']']).next().unwrap_or_default();
    if path.contains("environment.") && !last.is_empty() && !last.ends_with('"') {
        return last.to_owned();
    }
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    format!("ESKER_SECRET_{}", path.chars().map(letter).collect::<String>())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::load::parse;
    use super::*;

    const TEXT: &str = r#"
repository = "main"
[repositories.main]
url = "s3://bucket/prefix"
key_file = "/etc/esker/key"
environment = { AWS_SECRET_ACCESS_KEY = "hush-1", AWS_ACCESS_KEY_ID = { file = "/id" } }
[repositories.unrelated]
url = "/elsewhere"
password = "hush-2"
[notify]
ping = "https://ping/hush-3"
[profiles.base]
kind = "template"
retention = { daily = 7 }
[profiles.web]
extends = ["base"]
tags = ["a"]
[[profiles.web.sources]]
paths = ["/srv"]
one_file_system = true
[[profiles.web.sources]]
name = "db"
preset = { kind = "postgresql", password = "hush-4" }
restore_order = 2
[[profiles.web.sources]]
name = "dump"
command = ["dump", "it"]
environment = { TOKEN = "hush-5", LANG = "C.UTF-8", PLACE = { environment = "PLACE" } }
"#;

    #[test]
    fn nothing_secret_travels_and_the_rest_reads_the_same() {
        let before = parse(Path::new("a.toml"), TEXT.to_owned());
        assert_eq!(before.findings, []);
        let web = before.configuration.profile("web").unwrap();
        let text = web.without_secrets();
        assert!(!text.contains("hush") && !text.contains("elsewhere"), "{text}");
        let unknown: Vec<&str> = Profile::unknown_secrets(&text).collect();
        assert_eq!(unknown.len(), 7, "{unknown:#?}");
        for words in [
            "`repositories.main.key_file` is the file \"/etc/esker/key\"",
            "`repositories.main.environment.AWS_ACCESS_KEY_ID` is in the file \"/id\"",
            "`profiles.web.sources[1].preset.password`",
            "ESKER_SECRET_NOTIFY_PING",
            "`profiles.web.sources[2].environment.PLACE` is in the environment \"PLACE\"",
        ] {
            assert!(
                unknown.iter().any(|sentence| sentence.contains(words)),
                "{words} {unknown:#?}"
            );
        }
        assert!(text.contains("environment = \"AWS_SECRET_ACCESS_KEY\""), "{text}");
        assert!(text.contains("environment = \"TOKEN\""), "{text}");

        let after = parse(Path::new("b.toml"), text.clone());
        assert_eq!(after.findings, [], "{text}");
        let again = after.configuration.profile("web").unwrap();
        assert_eq!(again.settings.retention, web.settings.retention);
        assert_eq!(again.settings.sources.len(), 3);
        assert_eq!(again.settings.sources[0], web.settings.sources[0]);
        assert_eq!(again.settings.repositories, web.settings.repositories);
        let body = |text: &str| text.split_once("\n\n").map(|(_, body)| body.to_owned());
        assert_eq!(body(&again.without_secrets()), body(&text));
        let environment = |profile: &Profile| profile.settings.sources[2].environment.clone();
        let (was, is) = (environment(web), environment(again));
        assert_eq!((&is["LANG"], &is["PLACE"]), (&was["LANG"], &was["PLACE"]));
        let repository = &after.configuration.file.repositories["main"];
        assert_eq!(repository.url, "s3://bucket/prefix");
    }
}
