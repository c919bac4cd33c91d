//! What a program prints becomes a file of the source, if the stream proves to be whole.

use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;

use rustix::process::{getegid, geteuid};

use super::end::Ending;
use super::process::{Deadline, Feed, Log, Program, Running};
use super::through::Framed;
use crate::backup::Sink;
use crate::format::entry::{Metadata, Timestamp};

/// Gives what `program` prints to the sink as the file `path`. Fails if the program does, if it prints nothing, if the
/// stream is not whole, or if the time is over. How many bytes it was.
pub fn capture(
    sink: &mut dyn Sink,
    path: &[u8],
    program: &Program,
    ending: &mut dyn Ending,
    deadline: Deadline,
    log: &Log,
) -> Result<u64, String> {
    let mut running = Running::start(program, Feed::Nothing, deadline, log)?;
    running.wait_for_first(&|| sink.interrupted())?;
    let (given, bytes, frame) = {
        let mut framed = Framed::new(&mut running, program.framed);
        let mut seen =
            Seen { reader: &mut framed, ending, bytes: 0, held: Vec::new(), at_end: false };
        let given = sink.file(path, file_metadata(), &mut seen);
        let bytes = seen.bytes;
        (given, bytes, framed.verdict())
    };
    if let Err(error) = &given
        && error.kind() != ErrorKind::UnexpectedEof
    {
        return Err(error.to_string());
    }
    // how the program ended says more than how the stream did
    running.finish(&|| sink.interrupted())?;
    frame.map_err(|message| running.blame(&format!("{}: {message}", program.name())))?;
    given.map_err(|error| running.blame(&error.to_string()))?;
    if bytes == 0 {
        return Err(running.blame(&format!("{} gave nothing", program.name())));
    }
    ending.end().map_err(|message| running.blame(&format!("{}: {message}", program.name())))?;
    Ok(bytes)
}

/// What a program prints, as a whole and at most `limit` bytes of it.
pub fn output(
    program: &Program,
    limit: usize,
    deadline: Deadline,
    log: &Log,
    over: &dyn Fn() -> bool,
) -> Result<Vec<u8>, String> {
    let mut running = Running::start(program, Feed::Nothing, deadline, log)?;
    let mut printed = Vec::new();
    let verdict = {
        let mut framed = Framed::new(&mut running, program.framed);
        read_all(&mut framed, &mut printed, limit, over)
            .map_err(|error| format!("{}: {error}", program.name()))?;
        framed.verdict()
    };
    running.finish(over)?;
    verdict.map_err(|message| running.blame(&format!("{}: {message}", program.name())))?;
    Ok(printed)
}

fn read_all(
    reader: &mut dyn Read,
    into: &mut Vec<u8>,
    limit: usize,
    over: &dyn Fn() -> bool,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => into.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // the frame says what is wrong with the stream
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
        if into.len() > limit {
            return Err(io::Error::other(format!("printed more than {limit} bytes")));
        }
        if over() {
            return Err(io::Error::other("interrupted"));
        }
    }
}

/// Shows what passes to an [`Ending`], and keeps back what it says is none of the stream.
struct Seen<'a> {
    reader: &'a mut dyn Read,
    ending: &'a mut dyn Ending,
    bytes: u64,
    /// Read, and not given: may be surplus.
    held: Vec<u8>,
    at_end: bool,
}

impl Seen<'_> {
    /// Reads until more is held than may be surplus, or the end.
    fn fill(&mut self, longest: usize) -> io::Result<()> {
        while !self.at_end && self.held.len() <= longest {
            let kept = self.held.len();
            self.held.resize(kept + (64 << 10), 0);
            let read = self.reader.read(&mut self.held[kept..]);
            self.held.truncate(kept + *read.as_ref().unwrap_or(&0));
            if read? == 0 {
                self.at_end = true;
                let surplus = self.ending.surplus(&self.held);
                self.held.truncate(kept - surplus.min(kept));
            }
        }
        Ok(())
    }
}

impl Read for Seen<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let longest = self.ending.longest_surplus();
        let read = match longest {
            0 => self.reader.read(buffer)?,
            _ => {
                self.fill(longest)?;
                let ready = self.held.len() - if self.at_end { 0 } else { longest };
                let count = ready.min(buffer.len());
                buffer[..count].copy_from_slice(&self.held[..count]);
                self.held.drain(..count);
                count
            }
        };
        self.ending.see(&buffer[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}

/// That of a file which is made now and belongs to whoever runs us.
pub fn file_metadata() -> Metadata {
    let now = jiff::Timestamp::now();
    let time = Timestamp {
        seconds: now.as_second(),
        nanoseconds: u32::try_from(now.subsec_nanosecond()).unwrap_or(0),
    };
    Metadata {
        mode: 0o600,
        uid: geteuid().as_raw(),
        gid: getegid().as_raw(),
        mtime: time,
        ctime: time,
        ..Metadata::default()
    }
}

/// That of a file which is there.
pub fn metadata_of(metadata: &std::fs::Metadata) -> Metadata {
    let mtime = Timestamp {
        seconds: metadata.mtime(),
        nanoseconds: u32::try_from(metadata.mtime_nsec()).unwrap_or(0),
    };
    Metadata {
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        mtime,
        ..file_metadata()
    }
}
