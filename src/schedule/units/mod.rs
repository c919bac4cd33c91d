//! What makes others start runs: texts only, nothing is written here.
//!
//! All of them start `esker run PROFILE --scheduled`. Files say in their first
//! line which profile they are of, so that they are found again.

pub mod cron;
pub mod kubernetes;
pub mod systemd;

use std::path::{Path, PathBuf};

use crate::repository::{Error, ErrorKind, Result};

/// A file to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// without a directory
    pub name: String,
    pub text: String,
}

/// What is to be started, and how it finds its configuration.
#[derive(Clone, Debug)]
pub struct Program {
    /// absolute
    pub path: PathBuf,
    /// absolute; nothing where it lies at its usual place
    pub configuration: Option<PathBuf>,
}

impl Program {
    /// The program and its arguments.
    fn words(&self, profile: &str) -> Result<Vec<String>> {
        let mut words = vec![text(&self.path)?];
        words.extend(["run", profile, "--scheduled"].map(str::to_owned));
        if let Some(configuration) = &self.configuration {
            words.extend(["--config".to_owned(), text(configuration)?]);
        }
        Ok(words)
    }
}

/// Paths that stand in lines of text.
fn text(path: &Path) -> Result<String> {
    let plain = path.to_str().filter(|text| !text.contains(char::is_control));
    let message = || format!("{}: only a path that is plain text can be scheduled", path.display());
    plain.map(str::to_owned).ok_or_else(|| Error::new(ErrorKind::Usage, message()))
}

const MARK: &str = "# esker schedule: profile ";

fn header(profile: &str) -> String {
    let profile = serde_json::Value::from(profile);
    format!("{MARK}{profile}\n# Written by \"esker schedule install\", which writes it anew.\n")
}

/// Whose file it is; nothing if it was not written by esker.
pub fn profile_of(text: &str) -> Option<String> {
    serde_json::from_str(text.lines().next()?.strip_prefix(MARK)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_first_line() {
        for profile in ["web", "we \"b\" \\ é"] {
            assert_eq!(profile_of(&(header(profile) + "[Unit]\n")).as_deref(), Some(profile));
        }
        for other in [
            "",
            "[Unit]\n",
            "# esker schedule: profile web\n",
            "\n# esker schedule: profile \"web\"",
        ] {
            assert_eq!(profile_of(other), None);
        }
    }
}
