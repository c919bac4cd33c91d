//! One control connection: commands and their replies, and transfers, each over a data connection of its own.
//!
//! A connection is used again only while both sides agree on what was said: after anything else it is *spoiled*.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use rustls::{ClientConnection, StreamOwned};
use suppaftp::{DataStream, FtpError, Mode, RustlsFtpStream, Status, TlsStream};

use super::listing::Entry;
use super::reply::{Failure, Reply, any};
use crate::store::{ErrorKind, Pace};

/// A server that says nothing for so long is lost.
pub(super) const LONGEST_SILENCE: Duration = Duration::from_secs(120);
/// So long the data connection of a refused transfer may be waited for.
pub(super) const REFUSED_SILENCE: Duration = Duration::from_millis(1);
/// For what a server sends on a connection that it only receives on.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// A connection that was used more recently is taken to be there still, unless its socket says otherwise.
const TRUSTED: Duration = Duration::from_secs(10);
/// For an answer on a connection that may have been lost.
const DOUBT: Duration = Duration::from_secs(20);
/// What is read or written at once where no rate is set.
const LONGEST_SLICE: usize = 1 << 20;
/// Memory taken for an object before its bytes arrive; more is taken as they do.
const FIRST_ALLOCATION: u64 = 64 << 20;
const MAX_LINE_LENGTH: u64 = 8 << 10;
const MAX_LISTING_LENGTH: u64 = 64 << 20;

type Tls = StreamOwned<ClientConnection, TcpStream>;

pub(super) struct Connection {
    stream: RustlsFtpStream,
    /// The server knows `EPSV`; `PASV` otherwise.
    extended: bool,
    /// The server has `MLSD` and `MLST`.
    pub facts: bool,
    used: Instant,
    spoiled: bool,
}

impl Connection {
    /// Takes a connection that is logged in.
    pub(super) fn new(mut stream: RustlsFtpStream, extended: bool) -> Connection {
        stream.set_mode(if extended { Mode::ExtendedPassive } else { Mode::Passive });
        // a server behind a translated address tells one that leads nowhere
        stream.set_passive_nat_workaround(true);
        Connection { stream, extended, facts: false, used: Instant::now(), spoiled: false }
    }

    /// Whether the connection can be used for something else after this.
    pub(super) fn is_good_after<T>(&mut self, result: &Result<T, Failure>) -> bool {
        self.used = Instant::now();
        !self.spoiled && !result.as_ref().is_err_and(Failure::is_broken)
    }

    /// Whether the server still holds a connection that was not used for a while.
    pub(super) fn is_alive(&mut self) -> bool {
        let socket = self.stream.get_ref();
        is_quiet(socket) && (self.used.elapsed() < TRUSTED || self.answers_soon())
    }

    fn answers_soon(&mut self) -> bool {
        let wait = |stream: &RustlsFtpStream, time| stream.get_ref().set_read_timeout(Some(time));
        wait(&self.stream, DOUBT).is_ok()
            && self.ask("NOOP").is_ok()
            && wait(&self.stream, LONGEST_SILENCE).is_ok()
    }

    /// Sends a command; what comes back is the reply, whatever it says.
    pub(super) fn send(&mut self, command: &str) -> Result<Reply, Failure> {
        any(self.stream.custom_command(command, &[]))
    }

    /// Sends a command that is to be done.
    pub(super) fn ask(&mut self, command: &str) -> Result<Reply, Failure> {
        self.expect(command, 2)
    }

    /// Sends the first of two commands that belong together.
    pub(super) fn begin(&mut self, command: &str) -> Result<Reply, Failure> {
        self.expect(command, 3)
    }

    fn expect(&mut self, command: &str, class: u32) -> Result<Reply, Failure> {
        match self.send(command)? {
            reply if reply.class() == class => Ok(reply),
            reply => Err(Failure::of_reply(reply)),
        }
    }

    /// Begins a transfer.
    fn open(
        &mut self,
        command: &str,
    ) -> Result<DataStream<impl TlsStream<InnerStream = Tls> + use<>>, Failure> {
        let begun = [Status::AboutToSend, Status::AlreadyOpen];
        let opened = match self.stream.custom_data_command(command, &begun) {
            Err(FtpError::UnexpectedResponse(response))
                if self.extended && lacks_extended(Reply::new(&response).code) =>
            {
                self.extended = false;
                self.stream.set_mode(Mode::Passive);
                self.stream.custom_data_command(command, &begun)
            }
            opened => opened,
        };
        let (_, data) = opened.map_err(Failure::of)?;
        data.get_ref()
            .set_read_timeout(Some(LONGEST_SILENCE))
            .map_err(|error| Failure::of_io(&error))?;
        Ok(data)
    }

    /// Reads a part of a file that is so long.
    pub(super) fn read(
        &mut self,
        path: &str,
        range: Range<u64>,
        file_length: u64,
        pace: &Pace,
    ) -> Result<Vec<u8>, Failure> {
        let is_offset = range.start > 0;
        if is_offset {
            self.begin(&format!("REST {}", range.start))?;
        }
        // refused, the offset would count for the next transfer
        let mut data =
            self.open(&format!("RETR {path}")).inspect_err(|_| self.spoiled |= is_offset)?;
        let to_end = range.end == file_length;
        let bytes = receive(&mut data, range.end - range.start, to_end, pace).map_err(|error| {
            self.spoiled = true;
            Failure::of_io(&error)
        })?;
        // With less than the file, the server finds its data connection closed and says so in the one reply that ends
        // every transfer. It changes nothing about what arrived. A new connection takes twice as long and more, and after
        // ABOR servers differ in how many replies come.
        let end = self.stream.finalize_retr_stream(data).map_err(Failure::of);
        self.spoiled |= end.is_err_and(|failure| failure.is_broken());
        Ok(bytes)
    }

    /// Writes a file; what was there under the name is replaced.
    pub(super) fn write(&mut self, path: &str, object: &[u8], pace: &Pace) -> Result<(), Failure> {
        let mut data = self.open(&format!("STOR {path}"))?;
        let sent = transmit(&mut data, object, pace).and_then(|()| finish(&mut data));
        let end = self.stream.finalize_put_stream(data).map_err(Failure::of);
        // why a server stopped listening is in its reply
        end?;
        sent.map_err(|error| {
            self.spoiled = true;
            Failure::of_io(&error)
        })
    }

    /// What a listing says, line by line.
    pub(super) fn lines(
        &mut self,
        command: &str,
        parse: fn(&str) -> Result<Option<Entry>, String>,
    ) -> Result<Vec<Entry>, Failure> {
        let data = self.open(command)?;
        let mut reader = BufReader::new(data.take(MAX_LISTING_LENGTH));
        let entries = entries(&mut reader, parse).inspect_err(|_| self.spoiled = true)?;
        if reader.get_ref().limit() == 0 {
            self.spoiled = true;
            return Err(Failure::Told(ErrorKind::Permanent, "a listing has no end".to_owned()));
        }
        self.stream.finalize_retr_stream(reader).map_err(Failure::of)?;
        Ok(entries)
    }
}

/// Whether this is how servers say that they do not know `EPSV`.
fn lacks_extended(code: u32) -> bool {
    matches!(code, 500 | 501 | 502 | 522)
}

/// Nothing is to be heard on an idle connection: neither its end, nor words that lead there.
fn is_quiet(socket: &TcpStream) -> bool {
    if socket.set_nonblocking(true).is_err() {
        return false;
    }
    let heard = socket.peek(&mut [0]);
    let is_quiet = heard.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
    socket.set_nonblocking(false).is_ok() && is_quiet
}

fn receive(data: &mut impl Read, length: u64, to_end: bool, pace: &Pace) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(length.min(FIRST_ALLOCATION) as usize);
    let slice = pace.slice().unwrap_or(LONGEST_SLICE) as u64;
    while (bytes.len() as u64) < length {
        let wanted = slice.min(length - bytes.len() as u64);
        let count = data.by_ref().take(wanted).read_to_end(&mut bytes)?;
        if count == 0 {
            let words = format!("{} bytes of {length} arrived", bytes.len());
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, words));
        }
        thread::sleep(pace.pass(count));
    }
    // an orderly end, which some servers wait for; any other does no harm now
    if to_end && data.read(&mut [0]).is_ok_and(|count| count > 0) {
        let words = format!("more than {length} bytes arrived");
        return Err(io::Error::new(io::ErrorKind::InvalidData, words));
    }
    Ok(bytes)
}

fn transmit(data: &mut impl Write, object: &[u8], pace: &Pace) -> io::Result<()> {
    for slice in object.chunks(pace.slice().unwrap_or(LONGEST_SLICE)) {
        data.write_all(slice)?;
        thread::sleep(pace.pass(slice.len()));
    }
    data.flush()
}

/// Ends what is sent under TLS.
///
/// The server has sent something too: tickets with which the session can be resumed. A connection closed while they lie
/// unread is reset, and with it goes what the server had not read yet.
fn finish<T: TlsStream<InnerStream = Tls>>(data: &mut DataStream<T>) -> io::Result<()> {
    let DataStream::Ssl(stream) = data else { return Ok(()) };
    let tls = stream.mut_ref();
    tls.conn.send_close_notify();
    tls.flush()?;
    tls.sock.shutdown(Shutdown::Write)?;
    tls.sock.set_read_timeout(Some(LAST_WORDS))?;
    // whatever it is and however it ends: the reply on the control connection counts
    let _ = tls.read(&mut [0]);
    Ok(())
}

fn entries(
    reader: &mut impl BufRead,
    parse: fn(&str) -> Result<Option<Entry>, String>,
) -> Result<Vec<Entry>, Failure> {
    let unclear = |words: String| Failure::Told(ErrorKind::Permanent, words);
    let mut entries = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.by_ref().take(MAX_LINE_LENGTH).read_until(b'\n', &mut line);
        if read.map_err(|error| Failure::of_io(&error))? == 0 {
            return Ok(entries);
        }
        if line.len() as u64 == MAX_LINE_LENGTH {
            return Err(unclear("a listing has a line without an end".to_owned()));
        }
        let text = String::from_utf8_lossy(&line);
        entries.extend(parse(text.trim_end_matches(['\r', '\n'])).map_err(unclear)?);
    }
}

#[cfg(test)]
mod tests {
    use super::super::listing::{Found, of_facts};
    use super::*;

    #[test]
    fn what_is_received_is_as_long_as_it_was_said_to_be() {
        let pace = Pace::default();
        let receive = |length, to_end| receive(&mut &b"0123456789"[..], length, to_end, &pace);
        assert_eq!(receive(10, true).unwrap(), b"0123456789");
        assert_eq!(receive(4, false).unwrap(), b"0123");
        assert_eq!(receive(0, false).unwrap(), b"");
        assert_eq!(receive(11, true).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(receive(1 << 60, true).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(receive(9, true).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn listings_are_understood_whole_or_not_at_all() {
        let entries = |text: &str| entries(&mut text.as_bytes(), of_facts);
        let lines = "type=cdir; .\r\ntype=file;size=3; a\r\ntype=dir; b\n";
        let found: Vec<Found> = entries(lines).unwrap().iter().map(|entry| entry.found).collect();
        assert_eq!(found, [Found::File(3), Found::Directory]);
        assert!(entries("type=file;size=3; a\r\nwhat?\r\n").is_err());
        assert!(entries(&format!("type=file;size=3; {}\r\n", "a".repeat(9000))).is_err());
    }
}
