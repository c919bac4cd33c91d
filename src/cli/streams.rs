//! Standard output is data, written in large pieces; a reader that goes away
//! (`| head`) ends the command quietly. Standard error is talk; that nobody
//! listens is no reason to stop.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use serde_json::Value;

use crate::files::pipe;
use crate::output;
use crate::repository::{Error, ErrorKind};

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

/// Refuses bytes where text is expected; `what` prints them.
pub fn check_raw_output(json: bool, what: &str) -> Result<(), Error> {
    let usage = |message| Err(Error::new(ErrorKind::Usage, message));
    if json {
        return usage(format!("{what} prints bytes: there is no --json of them"));
    }
    if io::stdout().is_terminal() {
        return usage(format!("{what} prints raw bytes: send them into a file or a program"));
    }
    Ok(())
}

/// Bytes for standard output. That its reader went away is told from all else that may
/// go wrong.
pub fn raw_output(write: impl FnOnce(&mut dyn Write) -> Result<(), Error>) -> Result<(), Stop> {
    pipe::widen(io::stdout());
    let mut raw = Raw { out: BufWriter::with_capacity(1 << 20, io::stdout()), failed: None };
    let written = write(&mut raw);
    let flushed = raw.flush();
    match raw.failed {
        Some(error) => Err(Stop::from(error)),
        None => {
            written?;
            Ok(flushed?)
        }
    }
}

/// Standard output for bytes that are no text; it remembers why it took no more.
struct Raw {
    out: BufWriter<Stdout>,
    failed: Option<io::Error>,
}

impl Write for Raw {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes);
        self.noted(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.out.flush();
        self.noted(flushed)
    }
}

impl Raw {
    fn noted<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| {
            let kind = error.kind();
            if kind != io::ErrorKind::Interrupted {
                self.failed.get_or_insert(error);
            }
            kind.into()
        })
    }
}

/// A line of talk, made safe for a terminal.
pub fn talk(line: &str) {
    let _ = writeln!(io::stderr(), "{}", output::sentence(line));
}
