//! The configuration file: today which repository is meant when none is named,
//! and its key file. Where the file lies is `cli`'s to know.

pub mod profile;
pub mod value;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::repository::local::write_private;
use crate::repository::{Error, ErrorKind, Result};

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The repository of commands that are told none.
    pub repository: Option<String>,
    /// What opens it.
    pub key_file: Option<PathBuf>,
}

/// Reads a configuration file; `None` if it is not there.
pub fn read(path: &Path) -> Result<Option<Settings>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(path, &error)),
    };
    match toml::from_str(&text) {
        Ok(settings) => Ok(Some(settings)),
        Err(error) => {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or("");
            let line = before.matches('\n').count() + 1;
            Err(wrong(path, &format!("line {line}: {}", error.message().replace('\n', " "))))
        }
    }
}

/// Adds settings to a configuration file that has none of them yet, and makes
/// the file if need be. What stands in it stays as it is.
pub fn add(path: &Path, settings: &Settings) -> Result<()> {
    let old = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(wrong(path, &error)),
    };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|error| wrong(parent, &error))?;
    }
    let mut text = Vec::new();
    let key_file = settings.key_file.as_ref().map(|path| path.display().to_string());
    for (name, value) in [("repository", &settings.repository), ("key_file", &key_file)] {
        if let Some(value) = value {
            let value = toml::Value::String(value.clone());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_read_and_the_rest_stays() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a/esker.toml");
        assert_eq!(read(&file).unwrap(), None);
        let settings = Settings {
            repository: Some("/with \"quotes\" and \\".to_owned()),
            key_file: Some("/key".into()),
        };
        add(&file, &Settings { key_file: settings.key_file.clone(), ..Settings::default() })
            .unwrap();
        add(&file, &Settings { key_file: None, ..settings.clone() }).unwrap();
        assert_eq!(read(&file).unwrap(), Some(settings));
    }

    #[test]
    fn a_wrong_file_is_named_with_its_line() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("esker.toml");
        std::fs::write(&file, "repository = \"/x\"\nrepositry = \"/y\"\n").unwrap();
        let error = read(&file).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Usage);
        assert!(error.message.contains("line 2") && error.message.contains("repositry"), "{error}");
        assert!(!error.message.contains('\n'));
    }
}
