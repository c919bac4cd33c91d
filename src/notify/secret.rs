//! The text of a secret, from where the configuration says that it is.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::config::value::{Reference, Secret};

/// The variables of the environment: only `cli` reads them.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// in bytes
const LONGEST: u64 = 64 << 10;

/// The secret's text; why there is none, else, without any of it.
pub(super) fn read(secret: &Secret, environment: Environment<'_>) -> Result<String, String> {
    let reference = match secret {
        Secret::Text(text) => return Ok(text.clone()),
        Secret::Reference(reference) => reference,
    };
    match reference {
        Reference::File(path) => first_line(path),
        Reference::Environment(name) => {
            environment(name).ok_or_else(|| format!("the environment has no {name}"))
        }
        Reference::Credential(name) => {
            let directory = environment("CREDENTIALS_DIRECTORY")
                .ok_or("systemd gives no credentials to this process")?;
            if name.is_empty() || name.contains('/') || name == ".." {
                return Err(format!("{name:?} is no name of a credential"));
            }
            first_line(&Path::new(&directory).join(name))
        }
        Reference::Command(command) => printed(&command.words()),
    }
}

fn first_line(path: &Path) -> Result<String, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(LONGEST).read_to_string(&mut text))
        .map_err(|error| wrong(&error))?;
    line_of(&text).ok_or_else(|| wrong(&"its first line is empty"))
}

fn printed(words: &[String]) -> Result<String, String> {
    let (program, arguments) = words.split_first().ok_or("the command for it is empty")?;
    let wrong = |error: &dyn std::fmt::Display| format!("the command for it ({program}): {error}");
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .map_err(|error| wrong(&error))?;
    if !output.status.success() {
        return Err(wrong(&output.status));
    }
    let text = String::from_utf8(output.stdout).map_err(|_| wrong(&"it prints no UTF-8"))?;
    line_of(&text).ok_or_else(|| wrong(&"it prints nothing"))
}

fn line_of(text: &str) -> Option<String> {
    text.lines().next().filter(|line| !line.is_empty()).map(str::to_owned)
}
