//! `dump`: a file as its bytes, a directory as a tar stream, on standard output.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};

use clap::Args;

use super::context::Context;
use super::snapshot_name::{self, Narrow};
use super::streams::Stop;
use super::{Exit, Outcome};
use crate::repository::{Error, ErrorKind};
use crate::restore::dump;

/// Print a file of a snapshot, or a directory as a tar stream
#[derive(Args)]
pub struct Arguments {
    #[arg(value_name = "SNAPSHOT:PATH")]
    snapshot: OsString,

    #[command(flatten)]
    narrow: Narrow,
}

/// Standard output that remembers why it took no more.
struct Raw {
    out: io::BufWriter<io::Stdout>,
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

pub fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let named = snapshot_name::parse(&arguments.snapshot)?;
    let usage = |message: &str| Error::new(ErrorKind::Usage, message);
    let key = named.key().ok_or_else(|| usage("dump what? Write SNAPSHOT:PATH"))?;
    if context.json() {
        return Err(usage("dump prints bytes: there is no --json of them").into());
    }
    if io::stdout().is_terminal() {
        return Err(usage("dump prints raw bytes: send them into a file or a program").into());
    }
    let repository = context.open()?;
    let snapshots = context.readable_snapshots(&repository)?;
    let snapshot = context.select(&repository, &snapshots, &named.wanted, &arguments.narrow)?;
    let mut raw = Raw { out: io::BufWriter::with_capacity(1 << 20, io::stdout()), failed: None };
    let dumped = dump(&repository, snapshot, &key, &mut raw);
    let flushed = raw.flush();
    match raw.failed {
        Some(error) => Err(Stop::from(error)),
        None => {
            dumped?;
            flushed?;
            Ok(Exit::Ok)
        }
    }
}
