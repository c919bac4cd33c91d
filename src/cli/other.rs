//! A second repository: the one to copy to, to take lost files from, or to cut like.
//! Each command that knows one has options of its own; what they mean is here.

use std::ffi::OsString;
use std::fs::File;
use std::path::PathBuf;

use super::context::Context;
use super::environment::OtherEnvironment;
use super::secrets::Origin;
use crate::repository::{Error, ErrorKind, Repository, Result};

/// What was typed, and how it is typed.
pub struct Other<'a> {
    /// The option that names the repository, without dashes: those for its key
    /// begin with it.
    pub option: &'static str,
    /// What its environment variables begin with.
    pub prefix: &'static str,
    pub repository: Option<&'a OsString>,
    pub key_file: Option<&'a PathBuf>,
    pub password_file: Option<&'a PathBuf>,
    pub password_command: Option<&'a OsString>,
}

impl Other<'_> {
    /// Opens it, if it was named. A key that was typed counts, else the environment.
    pub fn open(&self, context: &Context) -> Result<Option<Repository>> {
        let environment = OtherEnvironment::read(self.prefix);
        let Some(name) = self.repository.or(environment.repository.as_ref()) else {
            return self.refuse_key_without_repository();
        };
        let named = context.named(name)?;
        let store = context.store_of(&named)?;
        let cache = context.cache();
        if context.global.accept_other_repository {
            cache.forget_location(store.url());
        }
        let origin = match self.typed() {
            Some(origin) => origin,
            None => Origin::of_other(self.prefix, environment, named.origin())?,
        };
        if matches!(origin, Origin::Terminal) && File::open("/dev/tty").is_err() {
            return Err(self.nothing_opens(store.url()));
        }
        let unlock = origin.unlock_of(store.url())?;
        Repository::open(store, &unlock, &cache).map(Some)
    }

    fn typed(&self) -> Option<Origin> {
        let file = self.password_file.cloned().map(Origin::PasswordFile);
        let command = || self.password_command.cloned().map(Origin::PasswordCommand);
        let key_file = || self.key_file.cloned().map(Origin::KeyFile);
        file.or_else(command).or_else(key_file)
    }

    fn refuse_key_without_repository(&self) -> Result<Option<Repository>> {
        match self.typed() {
            None => Ok(None),
            Some(_) => Err(Error::new(
                ErrorKind::Usage,
                format!("a key for --{option}, and no --{option}", option = self.option),
            )),
        }
    }

    fn nothing_opens(&self, url: &str) -> Error {
        let Other { option, prefix, .. } = self;
        let message = format!(
            "{url}: no password or key, and no terminal to ask at: say --{option}-key-file or \
             --{option}-password-file, or set {prefix}_KEY_FILE or {prefix}_PASSWORD_FILE"
        );
        Error::new(ErrorKind::WrongKey, message)
    }
}
