//! How a preset calls its tools: with its environment and its secrets, here or through another command, until its time
//! is over.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::backup::Sink;
use crate::repository::Result;
use crate::source::capture::{capture, output};
use crate::source::end::Ending;
use crate::source::process::{Deadline, Limits, Program, look_up};
use crate::source::through::wrap;
use crate::source::{Environment, Told, usage};

/// Bytes that an answer may have, lists of tables among them.
const MAX_ANSWER: usize = 64 << 20;
/// How long the look for tools on the other side may take.
const LOOK: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub struct Caller {
    /// What stands before every command.
    pub through: Vec<String>,
    /// Of every command on this machine.
    pub environment: Environment,
    /// Of the tools, wherever they run.
    pub secrets: Environment,
    pub path: OsString,
    pub temporary: PathBuf,
    pub limits: Limits,
    pub deadline: Deadline,
    pub told: Told,
}

impl Caller {
    /// The same, with the time running from now on.
    pub fn begin(&self, told: Told) -> Caller {
        Caller { deadline: self.limits.begin(), told, ..self.clone() }
    }

    /// A tool whose output is read; with a frame if it runs elsewhere.
    pub fn program(&self, words: &[String]) -> Program {
        self.with_environment(wrap(&self.through, words, &self.secrets, false))
    }

    /// A tool that reads standard input.
    pub fn reader(&self, words: &[String]) -> Program {
        self.with_environment(wrap(&self.through, words, &self.secrets, true))
    }

    fn with_environment(&self, mut program: Program) -> Program {
        program.environment.extend(self.environment.iter().cloned());
        program
    }

    pub fn capture(
        &self,
        sink: &mut dyn Sink,
        path: &[u8],
        words: &[String],
        ending: &mut dyn Ending,
    ) -> std::result::Result<u64, String> {
        capture(sink, path, &self.program(words), ending, self.deadline, &self.told.log)
    }

    /// What a tool prints.
    pub fn output(
        &self,
        words: &[String],
        over: &dyn Fn() -> bool,
    ) -> std::result::Result<String, String> {
        let printed =
            output(&self.program(words), MAX_ANSWER, self.deadline, &self.told.log, over)?;
        let name = words.first().map(String::as_str).unwrap_or_default();
        String::from_utf8(printed).map_err(|_| format!("{name} printed what is no UTF-8"))
    }

    /// Whether a tool of each list is there, and which it is: the first that can be found.
    pub fn tools(&self, lists: &[&[&str]]) -> Result<Vec<String>> {
        let found = match self.through.first() {
            None => lists.iter().map(|list| self.tool_here(list)).collect(),
            Some(carrier) => {
                if look_up(carrier, &self.path).is_none() {
                    return Err(usage(format!(
                        "{carrier}: no such program in PATH: install it, or write where it is"
                    )));
                }
                self.tools_there(lists)?
            }
        };
        let place = if self.through.is_empty() { "in PATH" } else { "where `through` leads" };
        let missing = lists.iter().zip(&found).find(|(_, found)| found.is_none());
        if let Some((list, _)) = missing {
            return Err(usage(format!(
                "{}: no such program {place}: install it",
                list.join(" or ")
            )));
        }
        Ok(found.into_iter().flatten().collect())
    }

    fn tool_here(&self, list: &[&str]) -> Option<String> {
        list.iter().find(|tool| look_up(tool, &self.path).is_some()).map(|tool| (*tool).to_owned())
    }

    fn tools_there(&self, lists: &[&[&str]]) -> Result<Vec<Option<String>>> {
        let script = "for t do if command -v \"$t\" >/dev/null 2>&1; then echo \"$t\"; fi; done";
        let mut words: Vec<String> = ["sh", "-c", script, "esker"].map(str::to_owned).to_vec();
        words.extend(lists.iter().flat_map(|list| list.iter()).map(|tool| (*tool).to_owned()));
        let caller = Caller {
            deadline: Deadline::after(Some(LOOK)),
            secrets: Environment::new(),
            ..self.clone()
        };
        let printed = caller.output(&words, &|| false).map_err(usage)?;
        let there: Vec<&str> = printed.lines().collect();
        let find = |list: &&[&str]| {
            list.iter().find(|tool| there.contains(tool)).map(|tool| (*tool).to_owned())
        };
        Ok(lists.iter().map(find).collect())
    }
}

/// Words of a command.
pub fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
