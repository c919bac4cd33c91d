//! Which of systemd's credentials a profile refers to.

use crate::config::profile::{Notify, Preset, ProfileSettings, RepositorySettings, Source};
use crate::config::value::{Reference, Secret};

/// Names that the profile itself refers to, sorted, each once.
pub fn of_profile(settings: &ProfileSettings) -> Vec<String> {
    let mut secrets: Vec<&Secret> = settings.sources.iter().flat_map(of_source).collect();
    secrets.extend(settings.notify.iter().flat_map(of_notify));
    names(secrets)
}

/// The same of a repository that it uses.
pub fn of_repository(settings: &RepositorySettings) -> Vec<String> {
    names(settings.password.iter().chain(settings.environment.values()).collect())
}

/// The same of notices that a configuration file has for all profiles.
pub fn of_notices(notify: &Notify) -> Vec<String> {
    names(of_notify(notify))
}

fn of_source(source: &Source) -> Vec<&Secret> {
    let password = match &source.preset {
        Some(Preset::Postgresql(preset)) => preset.password.as_ref(),
        Some(Preset::Mariadb(preset)) => preset.password.as_ref(),
        Some(Preset::Redis(preset)) => preset.password.as_ref(),
        Some(Preset::Elasticsearch(preset)) => preset.password.as_ref(),
        Some(Preset::Sqlite(_) | Preset::Ndb(_)) | None => None,
    };
    source.environment.values().chain(password).collect()
}

fn of_notify(notify: &Notify) -> Vec<&Secret> {
    let mut secrets: Vec<&Secret> = notify.ping.iter().collect();
    if let Some(webhook) = &notify.webhook {
        secrets.push(&webhook.url);
        secrets.extend(webhook.headers.values());
    }
    secrets.extend(notify.mail.iter().filter_map(|mail| mail.password.as_ref()));
    secrets.extend(notify.prometheus.iter().filter_map(|prometheus| prometheus.push.as_ref()));
    secrets
}

fn names(secrets: Vec<&Secret>) -> Vec<String> {
    let name = |secret: &Secret| match secret {
        Secret::Reference(Reference::Credential(name)) => Some(name.clone()),
        _ => None,
    };
    let mut names: Vec<String> = secrets.into_iter().filter_map(name).collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_found_wherever_a_secret_may_stand() {
        let settings: ProfileSettings = toml::from_str(
            r#"
            [[sources]]
            name = "db"
            preset = { kind = "postgresql", password = { credential = "pg" } }
            [[sources]]
            name = "dump"
            command = "true"
            environment = { A = { credential = "env" }, B = "text", C = { file = "/f" } }
            [notify]
            ping = { credential = "ping" }
            webhook = { url = { credential = "url" }, headers = { X = { credential = "pg" } } }
            mail = { server = "smtp://h:25", from = "a", to = [], password = { credential = "mail" } }
            prometheus = { push = { credential = "push" } }
            "#,
        )
        .unwrap();
        assert_eq!(of_profile(&settings), ["env", "mail", "pg", "ping", "push", "url"]);
        let repository: RepositorySettings = toml::from_str(
            "url = 's3://b'\npassword = { credential = 'p' }\nenvironment = { K = { credential = 'k' } }",
        )
        .unwrap();
        assert_eq!(of_repository(&repository), ["k", "p"]);
    }
}
