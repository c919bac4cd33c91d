//! Steps of the way back. Whoever restores takes one after another, and gives each what it asks for.

use std::path::PathBuf;

use zeroize::Zeroizing;

use crate::source::Environment;
use crate::source::process::Program;

pub enum RestoreStep {
    /// A command reads a stored file.
    Command(CommandStep),
    /// What is stored beneath `from` comes to lie in the directory `to`, which may have other files.
    Place { from: Vec<u8>, to: PathBuf },
    /// A server is asked to do something, with what a stored file holds.
    Call(CallStep),
}

/// A command that reads a stored file from standard input.
pub struct CommandStep {
    /// The file, relative to the source.
    pub path: Vec<u8>,
    /// What is done, for people: `restore database shop`.
    pub what: String,
    pub command: Vec<String>,
    /// Added to our own; may hold secrets.
    pub environment: Environment,
    /// What the command reads before the file: secrets for where `through` leads.
    pub before: Zeroizing<Vec<u8>>,
    /// What it reads after the file.
    pub after: Zeroizing<Vec<u8>>,
}

impl CommandStep {
    pub(super) fn new(path: &[u8], what: String, program: Program) -> CommandStep {
        CommandStep {
            path: path.to_vec(),
            what,
            command: program.words,
            environment: program.environment,
            before: program.input,
            after: Zeroizing::default(),
        }
    }
}

type Call = dyn Fn(&[u8], &dyn Fn() -> bool) -> Result<(), String> + Send + Sync;

/// A request to a server.
pub struct CallStep {
    /// A small file that it needs, relative to the source.
    pub path: Vec<u8>,
    /// What is done, for people.
    pub what: String,
    pub(super) call: Box<Call>,
}

impl CallStep {
    /// Does it, with the file's bytes; `over` says whether to give up.
    pub fn run(&self, file: &[u8], over: &dyn Fn() -> bool) -> Result<(), String> {
        (self.call)(file, over).map_err(|message| format!("{}: {message}", self.what))
    }
}
