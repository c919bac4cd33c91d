//! `man`: the manual pages.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};
use clap_mangen::Man;

use super::streams::Output;
use super::{Exit, Outcome, arguments};
use crate::repository::Error;

/// Print the manual page, or write all pages into a directory
#[derive(Args)]
pub struct Arguments {
    /// Where to write one page for each command
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let command = arguments::Arguments::command();
    if let Some(directory) = &arguments.directory {
        let failed =
            |error| Error::failed(format!("manual pages in {}: {error}", directory.display()));
        write_all(command, directory).map_err(failed)?;
        return Ok(Exit::Ok);
    }
    let mut page = Vec::new();
    Man::new(command).render(&mut page)?;
    let mut output = Output::new();
    output.write(&page)?;
    output.finish()?;
    Ok(Exit::Ok)
}

fn write_all(command: clap::Command, directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    clap_mangen::generate_to(command, directory)
}
