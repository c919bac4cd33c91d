//! Where passwords and keys come from: a file, a command, the environment, the
//! terminal. Never the command line.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use zeroize::Zeroizing;

use super::arguments::Global;
use super::environment::{Environment, OtherEnvironment, variable};
use crate::config::secret::printed_secret;
use crate::config::value::Secret;
use crate::crypto::SecretKey;
use crate::keys::file;
use crate::repository::{Error, ErrorKind, Result, Unlock};

pub type Password = Zeroizing<Vec<u8>>;

/// What is to open a repository, and where it is from.
pub enum Origin {
    Password(Password),
    PasswordFile(PathBuf),
    PasswordCommand(std::ffi::OsString),
    KeyFile(PathBuf),
    Identity(PathBuf),
    /// A password that the configuration knows of, and what it is called there.
    Secret(String, Secret),
    /// Nothing was said: ask.
    Terminal,
}

impl Origin {
    /// What was typed counts, else the environment, else the configuration.
    pub fn find(
        global: &Global,
        environment: &Environment,
        configured: Option<Origin>,
    ) -> Result<Origin> {
        if let Some(origin) = typed(global) {
            return Ok(origin);
        }
        let found = one_of(
            "ESKER",
            [
                ("PASSWORD", environment.password.clone().map(Origin::Password)),
                ("PASSWORD_FILE", environment.password_file.clone().map(Origin::PasswordFile)),
                (
                    "PASSWORD_COMMAND",
                    environment.password_command.clone().map(Origin::PasswordCommand),
                ),
                ("KEY_FILE", environment.key_file.clone().map(Origin::KeyFile)),
            ],
        )?;
        Ok(found.or(configured).unwrap_or(Origin::Terminal))
    }

    /// The same for a second repository, whose variables begin with `prefix`.
    pub fn of_other(
        prefix: &str,
        environment: OtherEnvironment,
        configured: Option<Origin>,
    ) -> Result<Origin> {
        let found = one_of(
            prefix,
            [
                ("PASSWORD", environment.password.map(Origin::Password)),
                ("PASSWORD_FILE", environment.password_file.map(Origin::PasswordFile)),
                ("PASSWORD_COMMAND", environment.password_command.map(Origin::PasswordCommand)),
                ("KEY_FILE", environment.key_file.map(Origin::KeyFile)),
            ],
        )?;
        Ok(found.or(configured).unwrap_or(Origin::Terminal))
    }

    /// What opens slots of the repository at `url`; where the password is asked for,
    /// it is said for which.
    pub fn unlock_of(&self, url: &str) -> Result<Unlock> {
        match self {
            Origin::Terminal => ask(&format!("password of {url}: ")).map(Unlock::Password),
            _ => self.unlock(),
        }
    }

    /// What opens slots.
    pub fn unlock(&self) -> Result<Unlock> {
        match self {
            Origin::KeyFile(path) | Origin::Identity(path) => read_key_file(path),
            _ => self.password().map(|password| Unlock::Password(password.unwrap_or_default())),
        }
    }

    /// The password, if that is what this is.
    pub fn password(&self) -> Result<Option<Password>> {
        match self {
            Origin::Password(password) => Ok(Some(password.clone())),
            Origin::PasswordFile(path) => password_from_file(path).map(Some),
            Origin::PasswordCommand(command) => password_from_command(command).map(Some),
            Origin::Terminal => ask("password: ").map(Some),
            Origin::Secret(key, secret) => {
                let text = secret.read(key, &variable)?;
                Ok(Some(Zeroizing::new(text.as_bytes().to_vec())))
            }
            Origin::KeyFile(_) | Origin::Identity(_) => Ok(None),
        }
    }

    /// A password that is to be: asked for twice, and never empty.
    pub fn new_password(&self) -> Result<Option<Password>> {
        let password = match self {
            Origin::Terminal => Some(ask_twice()?),
            _ => self.password()?,
        };
        match password {
            Some(password) if password.is_empty() => {
                Err(Error::new(ErrorKind::Usage, "an empty password protects nothing"))
            }
            password => Ok(password),
        }
    }
}

/// The one variable that is set, if one is.
fn one_of(prefix: &str, variables: [(&str, Option<Origin>); 4]) -> Result<Option<Origin>> {
    let set = variables.into_iter().filter_map(|(name, origin)| Some((name, origin?)));
    let set: Vec<(&str, Origin)> = set.collect();
    if let [(one, _), (other, _), ..] = set.as_slice() {
        let message = format!("{prefix}_{one} and {prefix}_{other} are both set: keep one of them");
        return Err(Error::new(ErrorKind::Usage, message));
    }
    Ok(set.into_iter().next().map(|(_, origin)| origin))
}

fn typed(global: &Global) -> Option<Origin> {
    let file = global.password_file.clone().map(Origin::PasswordFile);
    let command = || global.password_command.clone().map(Origin::PasswordCommand);
    let key_file = || global.key_file.clone().map(Origin::KeyFile);
    let identity = || global.identity.clone().map(Origin::Identity);
    file.or_else(command).or_else(key_file).or_else(identity)
}

/// A key file or an identity file: the text says which.
fn read_key_file(path: &Path) -> Result<Unlock> {
    file::parse_unlock(&read_text(path)?)
        .map_err(|error| no_password(format!("{}: {}", path.display(), error.message)))
}

/// The key in a key file.
pub fn read_key(path: &Path) -> Result<SecretKey> {
    file::parse_key(&read_text(path)?)
        .map_err(|error| no_password(format!("{}: {}", path.display(), error.message)))
}

/// Makes a key file; never replaces one.
pub fn new_key_file(path: &Path) -> Result<SecretKey> {
    let key = SecretKey::random();
    file::write_new(path, &file::key_text(&key))?;
    Ok(key)
}

/// A small text that holds a secret.
pub fn read_text(path: &Path) -> Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    let read = File::open(path)
        .and_then(|file| file.take(file::MAX_TEXT as u64).read_to_string(&mut text));
    read.map_err(|error| no_password(format!("{}: {error}", path.display())))?;
    Ok(text)
}

fn no_password(message: String) -> Error {
    Error::new(ErrorKind::WrongKey, message)
}

/// The whole file but for a line end at its end.
pub fn password_from_file(path: &Path) -> Result<Password> {
    let read = std::fs::read(path).map(Zeroizing::new);
    let bytes =
        read.map_err(|error| no_password(format!("password file {}: {error}", path.display())))?;
    Ok(without_line_end(bytes))
}

/// What a command prints, but for a line end at its end.
pub fn password_from_command(command: &OsStr) -> Result<Password> {
    let failed = |reason: String| no_password(format!("the password command {reason}"));
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(command).stdin(Stdio::inherit());
    printed_secret(&mut shell).map(without_line_end).map_err(failed)
}

fn without_line_end(mut bytes: Password) -> Password {
    for end in [b'\n', b'\r'] {
        if bytes.last() == Some(&end) {
            bytes.pop();
        }
    }
    bytes
}

/// Asks at the terminal, whatever standard input and output are.
fn ask(prompt: &str) -> Result<Password> {
    if File::open("/dev/tty").is_err() {
        return Err(no_password(
            "no password or key, and no terminal to ask at: set ESKER_PASSWORD_FILE, \
             ESKER_PASSWORD_COMMAND or ESKER_KEY_FILE"
                .to_owned(),
        ));
    }
    let asked = rpassword::prompt_password(format!("esker: {prompt}"));
    let password = asked.map_err(|error| no_password(format!("no password: {error}")))?;
    Ok(Zeroizing::new(password.into_bytes()))
}

fn ask_twice() -> Result<Password> {
    let first = ask("new password: ")?;
    match *ask("the same again: ")? == *first {
        true => Ok(first),
        false => Err(Error::new(ErrorKind::Usage, "the two passwords differ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_line_end_is_no_part_of_a_password() {
        for (text, expected) in
            [("x\n", "x"), ("x\r\n", "x"), ("x", "x"), ("x \n\n", "x \n"), ("\n", ""), ("", "")]
        {
            let password = without_line_end(Zeroizing::new(text.as_bytes().to_vec()));
            assert_eq!(password.as_slice(), expected.as_bytes(), "{text:?}");
        }
    }

    #[test]
    fn a_command_gives_the_password_or_fails() {
        assert_eq!(password_from_command(OsStr::new("echo x")).unwrap().as_slice(), b"x");
        let error = password_from_command(OsStr::new("exit 3")).unwrap_err();
        assert_eq!(error.kind, ErrorKind::WrongKey);
    }
}
