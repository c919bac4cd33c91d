//! From a name of `[repositories]`, or a place, to what the configuration knows of
//! it: address, key, and what opens its store.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::environment::{StoreEnvironment, variable};
use super::location::{self, Place};
use super::secrets::Origin;
use crate::config::profile::{File, RepositorySettings};
use crate::repository::Result;
use crate::store::{Limits, Pace};

/// A repository as it is meant.
pub struct Named {
    pub place: Place,
    /// Its name in the configuration, if it has one.
    name: Option<String>,
    settings: RepositorySettings,
}

impl Named {
    /// A name of the configuration's repositories counts before a directory of the
    /// same name: write `./NAME` for that.
    pub fn find(name: &OsStr, file: &File) -> Result<Named> {
        let is_default = file.repository.as_deref().is_some_and(|default| name == default);
        let text = name.to_str();
        let configured = text.and_then(|text| file.repositories.get_key_value(text));
        let (place, mut settings) = match configured {
            Some((_, settings)) => (location::place(settings.url.as_ref())?, settings.clone()),
            None => (location::place(name)?, RepositorySettings::default()),
        };
        let opens = settings.password.is_some() || settings.identity.is_some();
        if is_default && !opens && settings.key_file.is_none() {
            settings.key_file = file.key_file.clone();
        }
        Ok(Named { place, name: configured.map(|(name, _)| name.clone()), settings })
    }

    /// What opens it by the configuration.
    pub fn origin(&self) -> Option<Origin> {
        let key_file = |path: &PathBuf| Origin::KeyFile(path.clone());
        let identity = |path: &PathBuf| Origin::Identity(path.clone());
        let settings = &self.settings;
        let password =
            settings.password.clone().map(|secret| Origin::Secret(self.key("password"), secret));
        let file = settings.key_file.as_ref().map(key_file);
        file.or(password).or_else(|| settings.identity.as_ref().map(identity))
    }

    /// What opens its store, if it has variables of its own.
    pub fn store_environment(&self) -> Result<Option<StoreEnvironment>> {
        if self.settings.environment.is_empty() {
            return Ok(None);
        }
        let mut own: BTreeMap<&str, Zeroizing<String>> = BTreeMap::new();
        for (name, secret) in &self.settings.environment {
            let key = self.key(&format!("environment.{name}"));
            own.insert(name, secret.read(&key, &variable)?);
        }
        Ok(Some(StoreEnvironment::of_repository(&own)))
    }

    /// Its own limits, if it has any.
    pub fn limits(&self, all: &Arc<Limits>) -> Arc<Limits> {
        let RepositorySettings { limit_upload: upload, limit_download: download, .. } =
            &self.settings;
        if upload.is_none() && download.is_none() {
            return Arc::clone(all);
        }
        let pace = |limit: &Option<crate::config::value::Size>| Pace::new(limit.map(|size| size.0));
        Arc::new(Limits { upload: pace(upload), download: pace(download) })
    }

    pub fn connections(&self) -> Option<usize> {
        self.settings.connections
    }

    /// Whether it may be away.
    pub fn is_removable(&self) -> bool {
        self.settings.removable
    }

    /// What the configuration calls one of its settings.
    fn key(&self, setting: &str) -> String {
        format!("repositories.{}.{setting}", self.name.as_deref().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;

    fn file(text: &str) -> File {
        let loaded = config::parse(Path::new("esker.toml"), text.to_owned());
        loaded.sound().unwrap().file
    }

    fn key_file(named: &Named) -> Option<String> {
        match named.origin() {
            Some(Origin::KeyFile(path)) => Some(path.display().to_string()),
            _ => None,
        }
    }

    #[test]
    fn names_count_before_places_and_bring_their_keys() {
        let file = file(
            "\
repository = 'main'
key_file = '/default-key'
[repositories.main]
url = '/nowhere/main'
[repositories.other]
url = 's3://bucket/x'
key_file = '/other-key'
",
        );
        let find = |name: &str| Named::find(OsStr::new(name), &file).unwrap();
        assert_eq!(find("main").place.to_string(), "/nowhere/main");
        assert_eq!(key_file(&find("main")).as_deref(), Some("/default-key"));
        assert_eq!(find("other").place.to_string(), "s3://bucket/x");
        assert_eq!(key_file(&find("other")).as_deref(), Some("/other-key"));
        assert_eq!(find("/nowhere/main").place.to_string(), "/nowhere/main");
        assert_eq!(key_file(&find("/nowhere/main")), None);
        assert!(find("./main").place.to_string().ends_with("/main"));
    }

    #[test]
    fn variables_of_a_repository_are_its_own() {
        let file = file(
            "\
[repositories.a]
url = 's3://bucket/a'
environment = { AWS_ACCESS_KEY_ID = 'id', AWS_SECRET_ACCESS_KEY = 'secret' }
[repositories.b]
url = 's3://bucket/b'
[repositories.c]
url = 's3://bucket/c'
environment = { AWS_ACCESS_KEY_ID = { file = '/nowhere/at/all' } }
",
        );
        let of = |name: &str| Named::find(OsStr::new(name), &file).unwrap().store_environment();
        let own = of("a").unwrap().unwrap();
        assert_eq!(own.s3.key_id.as_deref(), Some("id"));
        assert_eq!(own.s3.key.as_ref().map(|key| key.as_str()), Some("secret"));
        assert!(of("b").unwrap().is_none());
        let error = of("c").err().unwrap().message;
        assert!(error.contains("repositories.c.environment.AWS_ACCESS_KEY_ID"), "{error}");
    }
}
