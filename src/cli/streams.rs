//! Standard output is data, written in large pieces; a reader that goes away
//! (`| head`) ends the command quietly. Standard error is talk; that nobody
//! listens is no reason to stop.

use std::io::{self, BufWriter, Stdout, Write};

use serde_json::Value;

use crate::output;
use crate::repository::Error;

/// Why a command stops before its end.
pub enum Stop {
    Error(Error),
    /// Whoever read our output has seen enough.
    ClosedPipe,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Error(error)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Stop::ClosedPipe,
            _ => Stop::Error(Error::failed(format!("standard output: {error}"))),
        }
    }
}

/// Data for standard output. [`finish`](Output::finish) it, or the last of it
/// may be lost without a word.
pub struct Output {
    writer: BufWriter<Stdout>,
}

impl Output {
    pub fn new() -> Output {
        Output { writer: BufWriter::with_capacity(64 << 10, io::stdout()) }
    }

    pub fn line(&mut self, line: &str) -> io::Result<()> {
        self.writer.write_all(line.as_bytes())?;
        self.writer.write_all(b"\n")
    }

    pub fn json(&mut self, kind: &str, members: Value) -> io::Result<()> {
        self.line(&output::json_line(kind, members))
    }

    pub fn table(&mut self, table: &output::Table) -> io::Result<()> {
        table.lines().iter().try_for_each(|line| self.line(line))
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(bytes)
    }

    pub fn finish(mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// A line of talk, made safe for a terminal.
pub fn talk(line: &str) {
    let _ = writeln!(io::stderr(), "{}", output::sentence(line));
}
