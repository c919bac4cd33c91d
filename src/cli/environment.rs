//! The environment, read once, and the places that follow from it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use uzers::os::unix::UserExt;
use zeroize::Zeroizing;

use super::secrets::{Password, password_from_command};
use crate::repository::Result;

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
}

/// A password, or a command that prints it.
#[derive(Default)]
pub struct StorePassword {
    pub password: Option<Zeroizing<Vec<u8>>>,
    pub command: Option<OsString>,
}

impl StorePassword {
    fn read(name: &str) -> StorePassword {
        StorePassword {
            password: text(name).map(|value| Zeroizing::new(value.into_vec())),
            command: text(&format!("{name}_COMMAND")),
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
    fn read() -> StoreEnvironment {
        let string = |names: &[&str]| names.iter().find_map(|name| text(name)?.into_string().ok());
        StoreEnvironment {
            ftp: StorePassword::read("ESKER_FTP_PASSWORD"),
            webdav: StorePassword::read("ESKER_WEBDAV_PASSWORD"),
            sftp_password_command: text("ESKER_SFTP_PASSWORD_COMMAND"),
            azure_account: string(&["AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME"]),
            azure_key: string(&["AZURE_STORAGE_KEY", "AZURE_STORAGE_ACCOUNT_KEY"])
                .map(Zeroizing::new),
            azure_sas_token: string(&["AZURE_STORAGE_SAS_TOKEN"]).map(Zeroizing::new),
        }
    }
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
            stores: StoreEnvironment::read(),
        }
    }

    /// The configuration file. Root's is in `/etc`, so that a timer without HOME
    /// reads what `init` wrote; unless XDG_CONFIG_HOME, or a HOME that is not
    /// root's own, was set on purpose.
    pub fn config_file(&self) -> Option<PathBuf> {
        let own_home = self.home.is_none() || self.home == self.account_home;
        let system = || (self.root && own_home).then(|| PathBuf::from("/etc"));
        let home = || self.home.as_ref().map(|home| home.join(".config"));
        self.config.clone().or_else(|| {
            let directory = self.xdg_config.clone().or_else(system).or_else(home);
            Some(directory?.join("esker/esker.toml"))
        })
    }

    pub fn cache_directory(&self) -> Option<PathBuf> {
        let home = || self.home.as_ref().map(|home| home.join(".cache"));
        let system = || self.root.then(|| PathBuf::from("/var/cache"));
        self.cache.clone().or_else(|| {
            let directory = self.xdg_cache.clone().or_else(home).or_else(system);
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
                environment.config_file(),
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
                "/home/u/.config/esker/esker.toml",
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
            ["/e/esker/esker.toml", "/c/esker", "/d/esker/repository"],
        );
        check(root(), ["/etc/esker/esker.toml", "/var/cache/esker", "/var/lib/esker/repository"]);
        check(
            Environment { home: path("/root"), ..root() },
            ["/etc/esker/esker.toml", "/root/.cache/esker", "/root/.local/share/esker/repository"],
        );
        check(
            Environment { cache: path("/x"), config: path("/y"), ..root() },
            ["/y", "/x", "/var/lib/esker/repository"],
        );
        check(
            Environment { home: path("/elsewhere"), ..root() },
            [
                "/elsewhere/.config/esker/esker.toml",
                "/elsewhere/.cache/esker",
                "/elsewhere/.local/share/esker/repository",
            ],
        );
        check(Environment::default(), ["", "", ""]);
    }
}
