//! A command whose output is one file of the snapshot.

use std::ffi::OsString;

use super::capture::capture;
use super::end::{Anything, Ending, LastLine};
use super::process::{Limits, Log, Program, check_program};
use super::usage;
use crate::backup::StreamSource;
use crate::repository::Result;

pub struct CommandSource {
    pub name: String,
    pub required: bool,
    pub program: Program,
    pub limits: Limits,
    /// What the last line of a whole stream begins with.
    pub ends_with: Option<String>,
    /// Where programs are looked for: the value of PATH.
    pub path: OsString,
}

impl CommandSource {
    /// Whether the program is there. Starts nothing of it.
    pub fn check(&self) -> Result<()> {
        if self
            .ends_with
            .as_deref()
            .is_some_and(|text| text.trim().is_empty() || text.contains('\n'))
        {
            return Err(usage("ends_with is the beginning of one line that is not blank"));
        }
        check_program(&self.program.words, &self.path)
    }

    /// The file is the source itself: its name is the source's. Standard error goes to `log` as well.
    pub fn stream(self, log: Log) -> StreamSource {
        let (name, required) = (self.name.clone(), self.required);
        let capture = move |sink: &mut dyn crate::backup::Sink| {
            let mut ending: Box<dyn Ending> = match &self.ends_with {
                Some(text) => Box::new(LastLine::new(text)),
                None => Box::new(Anything),
            };
            capture(sink, b"", &self.program, &mut *ending, self.limits.begin(), &log).map(drop)
        };
        StreamSource { name, required, capture: Box::new(capture) }
    }
}
