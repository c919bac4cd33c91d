//! What a secret is, read from where the configuration says that it is.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use zeroize::Zeroizing;

use super::value::{Reference, Secret};
use crate::repository::{Error, ErrorKind, Result};

/// A variable of the environment. Only `cli` reads them.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The longest secret, in bytes.
const MAX_SECRET: u64 = 64 << 10;

/// The variable by which systemd tells where the credentials of a unit lie.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

impl Secret {
    /// Reads it; `key` is what the configuration calls it, for the error.
    ///
    /// Of files, credentials and commands the first line counts. An absent or empty
    /// secret is an error of kind [`ErrorKind::WrongKey`]; no error holds any of it.
    pub fn read(&self, key: &str, environment: Lookup<'_>) -> Result<Zeroizing<String>> {
        let reference = match self {
            Secret::Text(text) => return Ok(Zeroizing::new(text.clone())),
            Secret::Reference(reference) => reference,
        };
        let read = match reference {
            Reference::File(path) => first_line(path),
            Reference::Environment(name) => variable(name, environment),
            Reference::Command(command) => printed(&command.words()),
            Reference::Credential(name) => {
                credential(name, environment).and_then(|p| first_line(&p))
            }
        };
        read.map_err(|reason| Error::new(ErrorKind::WrongKey, format!("`{key}`: {reason}")))
    }

    /// The file that holds it, if one does and it is known where.
    pub fn file(&self, environment: Lookup<'_>) -> Option<PathBuf> {
        match self {
            Secret::Reference(Reference::File(path)) => Some(path.clone()),
            Secret::Reference(Reference::Credential(name)) => credential(name, environment).ok(),
            _ => None,
        }
    }
}

/// Who else may read a file: a sentence with what to type, if somebody may.
pub fn exposed(path: &Path) -> Option<String> {
    let mode = std::fs::metadata(path).ok()?.mode();
    (mode & 0o077 != 0).then(|| {
        let path = path.display();
        format!("others can read or change {path}, which holds a secret: chmod 600 {path}")
    })
}

fn variable(name: &str, environment: Lookup<'_>) -> std::result::Result<Zeroizing<String>, String> {
    let value = environment(name).filter(|value| !value.is_empty());
    let value = value.ok_or_else(|| format!("the variable {name} is not set"))?;
    value.into_string().map(Zeroizing::new).map_err(|_| format!("the variable {name} is not UTF-8"))
}

fn credential(name: &str, environment: Lookup<'_>) -> std::result::Result<PathBuf, String> {
    if name.is_empty() || name.contains('/') || matches!(name, "." | "..") {
        return Err(format!("{name:?} is no name of a credential"));
    }
    let directory = environment(CREDENTIALS).filter(|directory| !directory.is_empty());
    let directory = directory.ok_or_else(|| {
        format!("there is no credential {name}: {CREDENTIALS} is not set, as systemd sets it for a unit with LoadCredential")
    })?;
    Ok(Path::new(&directory).join(name))
}

fn first_line(path: &Path) -> std::result::Result<Zeroizing<String>, String> {
    let mut text = Zeroizing::new(String::new());
    let read = File::open(path).and_then(|file| file.take(MAX_SECRET).read_to_string(&mut text));
    read.map_err(|error| format!("{}: {error}", path.display()))?;
    line_of(&text).ok_or_else(|| format!("the first line of {} is empty", path.display()))
}

fn printed(words: &[String]) -> std::result::Result<Zeroizing<String>, String> {
    let (program, arguments) = words.split_first().ok_or("its command is empty")?;
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("its command {program} cannot be run: {error}"))?;
    let bytes = Zeroizing::new(output.stdout);
    if !output.status.success() {
        return Err(format!("its command failed: {}", output.status));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| "its command prints no UTF-8")?;
    line_of(text).ok_or_else(|| "its command prints nothing".to_owned())
}

fn line_of(text: &str) -> Option<Zeroizing<String>> {
    let line = text.lines().next().filter(|line| !line.is_empty())?;
    Some(Zeroizing::new(line.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::value::Command;
    use super::*;

    #[test]
    fn secrets_are_read_from_where_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("password");
        std::fs::write(&file, "from file\r\nsecond line\n").unwrap();
        let environment = |name: &str| match name {
            "PASSWORD" => Some("from environment".into()),
            CREDENTIALS => Some(directory.path().as_os_str().to_owned()),
            _ => None,
        };
        let shell = Command::Shell("echo from command; echo more".into());
        for (reference, expected) in [
            (Reference::File(file.clone()), "from file"),
            (Reference::Environment("PASSWORD".into()), "from environment"),
            (Reference::Command(shell), "from command"),
            (Reference::Credential("password".into()), "from file"),
        ] {
            let secret = Secret::Reference(reference);
            assert_eq!(secret.read("password", &environment).unwrap().as_str(), expected);
        }
        let text = Secret::Text("hush".into());
        assert_eq!(text.read("password", &environment).unwrap().as_str(), "hush");
        assert!(!format!("{text:?}").contains("hush"));
    }

    #[test]
    fn an_absent_secret_names_its_key_and_its_place() {
        for (reference, place) in [
            (Reference::File("/nowhere/at/all".into()), "/nowhere/at/all"),
            (Reference::Environment("NOT_SET".into()), "NOT_SET"),
            (Reference::Command(Command::Shell("exit 3".into())), "exit status: 3"),
            (Reference::Command(Command::Program(Vec::new())), "empty"),
            (Reference::Command(Command::Shell("true".into())), "prints nothing"),
            (Reference::Credential("x".into()), "CREDENTIALS_DIRECTORY"),
            (Reference::Credential("../x".into()), "no name"),
        ] {
            let error = Secret::Reference(reference).read("a.b", &|_| None).unwrap_err();
            assert_eq!(error.kind, ErrorKind::WrongKey);
            assert!(error.message.contains("`a.b`") && error.message.contains(place), "{error}");
        }
    }

    #[test]
    fn a_file_that_others_read_is_exposed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let set = |mode| {
            std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            exposed(file.path())
        };
        assert_eq!(set(0o600), None);
        assert!(set(0o640).unwrap().contains(&format!("chmod 600 {}", file.path().display())));
        assert_eq!(exposed(Path::new("/nowhere/at/all")), None);
    }
}
