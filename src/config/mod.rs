//! The configuration: repositories, and profiles that say what is backed up, when,
//! and what is promised of it. Where its files lie, and what the environment says,
//! is `cli`'s to know.
//!
//! | file | |
//! |---|---|
//! | `profile`, `value` | the types of what is written |
//! | `document` | a file as a tree of values that know their lines |
//! | `shape` | what may stand where: unknown keys, wrong types, by the types' own JSON schema |
//! | `resolve` | profiles that extend others |
//! | `load` | files to a [`Configuration`], with everything that is wrong |
//! | `check` | what is well written and makes no sense |
//! | `machine` | what this machine lacks: programs, mounts, secrets |
//! | `rights` | what the steps of a profile need of its keys |
//! | `secret` | reading secrets |
//! | `portable` | a profile without its secrets |
//! | `finding` | a sentence about a line |

pub mod check;
mod document;
mod finding;
mod load;
pub mod machine;
mod portable;
pub mod profile;
mod resolve;
pub mod rights;
pub mod secret;
mod shape;
pub mod value;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

pub use self::finding::{At, Finding, Severity, nearest, tidy};
pub use self::load::{Configuration, Loaded, load, parse};
pub use self::resolve::Profile;
pub use self::shape::schema;

use crate::repository::local::write_private;
use crate::repository::{Error, ErrorKind, Result};

/// Reads a file, or all `*.toml` of a directory; `None` if there is none. The first
/// of its mistakes is the error.
pub fn read(path: &Path) -> Result<Option<Configuration>> {
    load(path)?.map(Loaded::sound).transpose()
}

/// Adds a repository to a configuration file that names none yet, and makes the
/// file if need be. What stands in it stays as it is.
pub fn add(path: &Path, repository: Option<&str>, key_file: Option<&Path>) -> Result<()> {
    let old = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(wrong(path, &error)),
    };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|error| wrong(parent, &error))?;
    }
    let mut text = Vec::new();
    let key_file = key_file.map(|path| path.display().to_string());
    for (name, value) in [("repository", repository), ("key_file", key_file.as_deref())] {
        if let Some(value) = value {
            let value = toml::Value::String(value.to_owned());
            writeln!(text, "{name} = {value}").expect("memory takes all");
        }
    }
    // In front: further down it might belong to a table.
    text.extend(old);
    write_private(path, &text).map_err(|error| wrong(path, &error.message))
}

fn wrong(path: &Path, reason: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Usage, format!("configuration {}: {reason}", path.display()))
}

/// Where `init` writes a repository down, of the place that configuration is read from.
pub fn file_of(place: &Path) -> PathBuf {
    if place.is_dir() { place.join("esker.toml") } else { place.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_read_and_the_rest_stays() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a/esker.toml");
        assert!(read(&file).unwrap().is_none());
        let name = "/with \"quotes\" and \\";
        add(&file, None, Some(Path::new("/key"))).unwrap();
        add(&file, Some(name), None).unwrap();
        let read = read(&file).unwrap().unwrap();
        assert_eq!(read.file.repository.as_deref(), Some(name));
        assert_eq!(read.file.key_file.as_deref(), Some(Path::new("/key")));
    }

    #[test]
    fn a_wrong_file_is_named_with_its_line() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("esker.toml");
        std::fs::write(&file, "repository = \"/x\"\nrepositry = \"/y\"\n").unwrap();
        let error = read(&file).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Usage);
        let told = format!(
            "{}, line 2: unknown key `repositry`: did you mean `repository`?",
            file.display()
        );
        assert!(error.message.contains(&told), "{error}");
        assert!(!error.message.contains('\n'));
    }
}
