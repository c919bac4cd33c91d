//! Repositories of the configuration, and names that mean one.

use super::super::document::Node;
use super::super::finding::{Finding, nearest, one_of};
use super::super::load::Configuration;
use super::super::profile::RepositorySettings;
use super::PlaceCheck;

/// Variables that stores read.
const STORE_VARIABLES: [&str; 16] = [
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

/// Everything that makes no sense in `repository` and `[repositories]`.
pub(super) fn check(
    configuration: &Configuration,
    place: PlaceCheck<'_>,
    findings: &mut Vec<Finding>,
) {
    let file = &configuration.file;
    if let Some(name) = &file.repository
        && !file.repositories.contains_key(name)
        && let Some(reason) = unknown(configuration, name, place)
    {
        let at = configuration.tree.place(&["repository"]);
        findings.push(Finding::error(at, format!("`repository`: {reason}")));
    }
    for (name, settings) in &file.repositories {
        let node = configuration.tree.get("repositories").and_then(|all| all.get(name));
        let Some(node) = node else { continue };
        repository(name, settings, node, place, findings);
        variables(name, settings, node, findings);
    }
}

fn repository(
    name: &str,
    settings: &RepositorySettings,
    node: &Node,
    place: PlaceCheck<'_>,
    findings: &mut Vec<Finding>,
) {
    let mut error = |key: &str, sentence| {
        findings.push(Finding::error(node.place(&[key]), sentence));
    };
    if name.is_empty() || name.contains(['/', ':']) {
        error("", format!("a repository cannot be called {name:?}: `/` and `:` are of places"));
    }
    if let Some(reason) = place(&settings.url) {
        error("url", format!("`repositories.{name}.url`: {reason}"));
    }
    let keys = [
        ("key_file", settings.key_file.is_some()),
        ("password", settings.password.is_some()),
        ("identity", settings.identity.is_some()),
    ];
    let given: Vec<&str> = keys.iter().filter(|key| key.1).map(|key| key.0).collect();
    if let [first, second, ..] = given.as_slice() {
        let both = format!("{first} and {second} both open `repositories.{name}`");
        error(second, format!("{both}: keep one of them"));
    }
}

fn variables(name: &str, settings: &RepositorySettings, node: &Node, findings: &mut Vec<Finding>) {
    let mut error = |variable: &str, told: String| {
        let sentence = format!("`repositories.{name}.environment`: {told}");
        findings.push(Finding::error(node.place(&["environment", variable]), sentence));
    };
    let [id, key] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
    for (one, other) in [(id, key), (key, id)] {
        if settings.environment.contains_key(one) && !settings.environment.contains_key(other) {
            error(one, format!("there is {one} and no {other}"));
        }
    }
    for variable in settings.environment.keys() {
        if STORE_VARIABLES.contains(&variable.as_str()) {
            continue;
        }
        let meant = match nearest(variable, STORE_VARIABLES) {
            Some(meant) => format!("did you mean {meant}?"),
            None => format!("they read {}", one_of(STORE_VARIABLES)),
        };
        error(variable, format!("no store reads {variable}: {meant}"));
    }
}

/// Why a name means no repository, if it means none.
pub(super) fn unknown(
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
