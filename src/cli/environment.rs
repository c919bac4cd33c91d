//! The environment, read once, and the places that follow from it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use uzers::os::unix::UserExt;
use zeroize::Zeroizing;

use super::secrets::{Password, password_from_command};
use crate::repository::Result;
use crate::store::S3Secrets;

/// What esker reads of the environment. An empty variable counts as none.
#[derive(Default)]
pub struct Environment {
    pub repository: Option<OsString>,
    pub password: Option<Zeroizing<Vec<u8>>>,
    pub password_file: Option<PathBuf>,
    pub password_command: Option<OsString>,
    pub key_file: Option<PathBuf>,
    pub cache: Option<PathBuf>,
    pub config: Option<PathBuf>,
    pub xdg_config: Option<PathBuf>,
    pub xdg_cache: Option<PathBuf>,
    pub xdg_data: Option<PathBuf>,
    pub home: Option<PathBuf>,
    /// Where programs are looked for.
    pub path: Option<OsString>,
    /// The home directory that the system's list of accounts gives.
    pub account_home: Option<PathBuf>,
    pub root: bool,
    pub stores: StoreEnvironment,
}

/// What opens stores on other machines.
#[derive(Default)]
pub struct StoreEnvironment {
    pub ftp: StorePassword,
    pub webdav: StorePassword,
    pub sftp_password_command: Option<OsString>,
    pub azure_account: Option<String>,
    pub azure_key: Option<Zeroizing<String>>,
    pub azure_sas_token: Option<Zeroizing<String>>,
    /// Only what a repository of the configuration has of its own: without it the
    /// providers' rules look into the environment themselves.
    pub s3: S3Secrets,
    pub google_credentials: Option<String>,
}

/// A variable, by its name.
type Variable<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// A password, or a command that prints it.
#[derive(Default)]
pub struct StorePassword {
    pub password: Option<Zeroizing<Vec<u8>>>,
    pub command: Option<OsString>,
}

impl StorePassword {
    fn read(name: &str, variable: Variable<'_>) -> StorePassword {
        StorePassword {
            password: variable(name).map(|value| Zeroizing::new(value.into_vec())),
            command: variable(&format!("{name}_COMMAND")),
        }
    }

    /// The password, if there is one.
    pub fn get(&self) -> Result<Option<Password>> {
        match (&self.password, &self.command) {
            (Some(password), _) => Ok(Some(password.clone())),
            (None, Some(command)) => password_from_command(command).map(Some),
            (None, None) => Ok(None),
        }
    }
}

impl StoreEnvironment {
    fn read(variable: Variable<'_>) -> StoreEnvironment {
        let string =
            |names: &[&str]| names.iter().find_map(|name| variable(name)?.into_string().ok());
        StoreEnvironment {
            ftp: StorePassword::read("ESKER_FTP_PASSWORD", variable),
            webdav: StorePassword::read("ESKER_WEBDAV_PASSWORD", variable),
            sftp_password_command: variable("ESKER_SFTP_PASSWORD_COMMAND"),
            azure_account: string(&["AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME"]),
            azure_key: string(&["AZURE_STORAGE_KEY", "AZURE_STORAGE_ACCOUNT_KEY"])
                .map(Zeroizing::new),
            azure_sas_token: string(&["AZURE_STORAGE_SAS_TOKEN"]).map(Zeroizing::new),
            ..StoreEnvironment::default()
        }
    }

    /// Of a repository that has variables of its own. For a service that these speak
    /// of, the environment does not count: half of each would be a third thing.
    pub fn of_repository(own: &BTreeMap<&str, Zeroizing<String>>) -> StoreEnvironment {
        // `AZURE_STORAGE`, `ESKER_FTP`
        let service = |name: &str| name.split('_').take(2).collect::<Vec<_>>().join("_");
        let value = |name: &str| own.get(name).map(|value| value.as_str().to_owned());
        let secret = |name: &str| own.get(name).cloned();
        let either = |name: &str| match own.keys().any(|own| service(own) == service(name)) {
            true => value(name).map(OsString::from),
            false => text(name),
        };
        StoreEnvironment {
            s3: S3Secrets {
                key_id: value("AWS_ACCESS_KEY_ID"),
                key: secret("AWS_SECRET_ACCESS_KEY"),
                session_token: secret("AWS_SESSION_TOKEN"),
                region: value("AWS_REGION"),
                profile: value("AWS_PROFILE"),
            },
            google_credentials: value("GOOGLE_APPLICATION_CREDENTIALS"),
            ..StoreEnvironment::read(&either)
        }
    }
}

/// A variable as it is; for what the configuration refers to.
pub fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

fn text(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

impl Environment {
    pub fn read() -> Environment {
        let path = |name: &str| text(name).map(PathBuf::from);
        // The XDG specification has relative paths ignored.
        let absolute = |name: &str| path(name).filter(|path| path.is_absolute());
        let root = rustix::process::geteuid().is_root();
        let account_home = home_of_account();
        Environment {
            repository: text("ESKER_REPOSITORY"),
            password: text("ESKER_PASSWORD").map(|value| Zeroizing::new(value.into_vec())),
            password_file: path("ESKER_PASSWORD_FILE"),
            password_command: text("ESKER_PASSWORD_COMMAND"),
            key_file: path("ESKER_KEY_FILE"),
            cache: path("ESKER_CACHE_DIR"),
            config: path("ESKER_CONFIG"),
            xdg_config: absolute("XDG_CONFIG_HOME"),
            xdg_cache: absolute("XDG_CACHE_HOME"),
            xdg_data: absolute("XDG_DATA_HOME"),
            home: absolute("HOME").or_else(|| account_home.clone().filter(|_| !root)),
            path: text("PATH"),
            account_home,
            root,
            stores: StoreEnvironment::read(&text),
        }
    }

    /// Nothing of the environment opens a repository any more.
    pub fn forget_key(&mut self) {
        (self.password, self.password_file) = (None, None);
        (self.password_command, self.key_file) = (None, None);
    }

    /// The directory of configuration files. Root's is in `/etc`, so that a timer
    /// without HOME reads what `init` wrote; unless XDG_CONFIG_HOME, or a HOME that is
    /// not root's own, was set on purpose.
    pub fn config_directory(&self) -> Option<PathBuf> {
        let system = || self.is_plain_root().then(|| PathBuf::from("/etc"));
        let home = || self.home.as_ref().map(|home| home.join(".config"));
        let directory = self.xdg_config.clone().or_else(system).or_else(home);
        Some(directory?.join("esker"))
    }

    /// Root without a HOME, or with its own.
    fn is_plain_root(&self) -> bool {
        self.root && (self.home.is_none() || self.home == self.account_home)
    }

    /// Root's is in `/var/cache` by the same rule: what is remembered there, of steps, standbys and notices, has to be
    /// the same for a run by hand and for one by a timer.
    pub fn cache_directory(&self) -> Option<PathBuf> {
        let home = || self.home.as_ref().map(|home| home.join(".cache"));
        let system = || self.is_plain_root().then(|| PathBuf::from("/var/cache"));
        self.cache.clone().or_else(|| {
            let directory = self.xdg_cache.clone().or_else(system).or_else(home);
            Some(directory?.join("esker"))
        })
    }

    /// Where `init` makes a repository when it is told no place.
    pub fn default_repository(&self) -> Option<PathBuf> {
        let home = || self.home.as_ref().map(|home| home.join(".local/share"));
        let system = || self.root.then(|| PathBuf::from("/var/lib"));
        let directory = self.xdg_data.clone().or_else(home).or_else(system);
        Some(directory?.join("esker/repository"))
    }
}

/// What opens a second repository: the same variables, each behind a prefix.
#[derive(Default)]
pub struct OtherEnvironment {
    pub repository: Option<OsString>,
    pub password: Option<Zeroizing<Vec<u8>>>,
    pub password_file: Option<PathBuf>,
    pub password_command: Option<OsString>,
    pub key_file: Option<PathBuf>,
}

impl OtherEnvironment {
    /// `prefix` is such as `ESKER_TO`.
    pub fn read(prefix: &str) -> OtherEnvironment {
        let text = |name: &str| text(&format!("{prefix}_{name}"));
        OtherEnvironment {
            repository: text("REPOSITORY"),
            password: text("PASSWORD").map(|value| Zeroizing::new(value.into_vec())),
            password_file: text("PASSWORD_FILE").map(PathBuf::from),
            password_command: text("PASSWORD_COMMAND"),
            key_file: text("KEY_FILE").map(PathBuf::from),
        }
    }
}

fn home_of_account() -> Option<PathBuf> {
    let user = uzers::get_user_by_uid(uzers::get_effective_uid())?;
    let home = user.home_dir().to_owned();
    (home.is_absolute() && home.is_dir()).then_some(home)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_follow_from_what_is_set() {
        let check = |environment: Environment, expected: [&str; 3]| {
            let places = [
                environment.config_directory(),
                environment.cache_directory(),
                environment.default_repository(),
            ];
            assert_eq!(
                places.map(|place| place.map(|p| p.display().to_string())),
                expected.map(|e| { Some(e.to_owned()).filter(|e| !e.is_empty()) })
            );
        };
        let path = |text: &str| Some(PathBuf::from(text));
        let user = || Environment { home: path("/home/u"), ..Environment::default() };
        let root =
            || Environment { root: true, account_home: path("/root"), ..Environment::default() };
        check(
            user(),
            [
                "/home/u/.config/esker",
                "/home/u/.cache/esker",
                "/home/u/.local/share/esker/repository",
            ],
        );
        check(
            Environment {
                xdg_cache: path("/c"),
                xdg_data: path("/d"),
                xdg_config: path("/e"),
                ..user()
            },
            ["/e/esker", "/c/esker", "/d/esker/repository"],
        );
        check(root(), ["/etc/esker", "/var/cache/esker", "/var/lib/esker/repository"]);
        check(
            Environment { home: path("/root"), ..root() },
            ["/etc/esker", "/var/cache/esker", "/root/.local/share/esker/repository"],
        );
        check(
            Environment { home: path("/root"), xdg_cache: path("/c"), ..root() },
            ["/etc/esker", "/c/esker", "/root/.local/share/esker/repository"],
        );
        check(
            Environment { cache: path("/x"), ..root() },
            ["/etc/esker", "/x", "/var/lib/esker/repository"],
        );
        check(
            Environment { home: path("/elsewhere"), ..root() },
            [
                "/elsewhere/.config/esker",
                "/elsewhere/.cache/esker",
                "/elsewhere/.local/share/esker/repository",
            ],
        );
        check(Environment::default(), ["", "", ""]);
    }
}
