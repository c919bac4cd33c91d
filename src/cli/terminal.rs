//! Asking at the terminal, which is there even where standard input is not.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};

/// The terminal this process belongs to, if there is one.
pub fn open() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open("/dev/tty")
}

/// Asks, and takes only a yes for a yes.
pub fn ask(mut terminal: File, question: &str) -> io::Result<bool> {
    write!(terminal, "{question} [y/N] ")?;
    let mut answer = String::new();
    BufReader::new(terminal).read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
