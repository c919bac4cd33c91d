//! `dump`: a file as its bytes, a directory as a tar stream, on standard output.

use std::ffi::OsString;

use clap::Args;

use super::context::Context;
use super::snapshot_name::{self, Narrow};
use super::streams::{check_raw_output, raw_output};
use super::{Exit, Outcome};
use crate::progress::Silent;
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

pub fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let named = snapshot_name::parse(&arguments.snapshot)?;
    let usage = |message: &str| Error::new(ErrorKind::Usage, message);
    let key = named.key().ok_or_else(|| usage("dump what? Write SNAPSHOT:PATH"))?;
    check_raw_output(context.json(), "dump")?;
    let repository = context.open()?;
    let snapshots = context.readable_snapshots(&repository)?;
    let snapshot = context.select(&repository, &snapshots, &named.wanted, &arguments.narrow)?;
    raw_output(|out| dump(&repository, snapshot, &key, out, &Silent))?;
    Ok(Exit::Ok)
}
