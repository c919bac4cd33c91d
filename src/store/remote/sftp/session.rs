//! A session: requests go out one behind the other, answers come back in any order, and each finds the one who asked.
//!
//! Two threads serve it, one for each direction. Whoever asks waits for the answer, and not for ever: a session that
//! gives none in time is given up as a whole, and everybody who waits for it is told.

use std::collections::HashMap;
use std::io::{self, BufReader, Read, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, bounded};

use super::super::{LONGEST_SILENCE, longest};
use super::wire::{self, Answer, Attributes, Name, Offers, Request, Status};
use crate::store::ErrorKind;

/// Messages that wait to be written; those behind them wait where they are made.
const QUEUE: usize = 64;
const READ_BUFFER_BYTES: usize = 256 << 10;
/// What every server takes and gives at once (protocol, section 3).
const SURE_PIECE_BYTES: u32 = 32 << 10;
/// OpenSSH's own limit, less a message's head.
const LONGEST_PIECE_BYTES: u64 = 255 << 10;

/// Of a server that says something else.
pub(super) const NO_SFTP: &str =
    "what the server says is no SFTP: does a shell there print something when it starts?";

/// Why something was not done.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server's answer.
    Refused(Status),
    /// The session is no more; these are its last words.
    Lost(String),
    /// What we make of the answers.
    Is(ErrorKind, String),
}

pub(super) type Tried<T> = Result<T, Failure>;

impl Failure {
    pub(super) fn has_code(&self, code: u32) -> bool {
        matches!(self, Failure::Refused(status) if status.code == code)
    }
}

/// What is at the other end of the pipes.
pub(super) trait Peer: Send + Sync {
    /// Ends it by force.
    fn end(&self);
    /// What it said before it ended, or why.
    fn last_words(&self) -> String;
}

pub(super) struct Session {
    outgoing: Sender<(Vec<u8>, Bytes)>,
    shared: Arc<Shared>,
    number: AtomicU32,
    pub(super) offers: Offers,
    /// The longest piece to read and to write at once, in bytes.
    pub(super) read_bytes: u32,
    pub(super) write_bytes: u32,
}

struct Shared {
    state: Mutex<State>,
    peer: Box<dyn Peer>,
}

#[derive(Default)]
struct State {
    waiting: HashMap<u32, Waiting>,
    /// Bytes that have to pass until all who wait have their answers.
    bytes: u64,
    ended: Option<String>,
}

struct Waiting {
    answer: Sender<Answer>,
    bytes: u64,
}

impl Session {
    /// Greets the server. `incoming` is what it says, `outgoing` what it hears.
    pub(super) fn start(
        incoming: impl Read + Send + 'static,
        outgoing: impl Write + Send + 'static,
        peer: impl Peer + 'static,
    ) -> Tried<Session> {
        let shared = Arc::new(Shared { state: Mutex::default(), peer: Box::new(peer) });
        let (send, messages) = bounded(QUEUE);
        let (greet, greeting) = bounded(1);
        let no_thread = |error: io::Error| Failure::Lost(error.to_string());
        let thread = |name: &str| thread::Builder::new().name(name.to_owned());
        let writer = thread("esker-sftp-out").spawn(move || write_messages(outgoing, &messages));
        writer.map_err(no_thread)?;
        let reader = thread("esker-sftp-in").spawn({
            let shared = Arc::clone(&shared);
            move || read_all(incoming, &greet, &shared)
        });
        reader.map_err(no_thread)?;
        let _ = send.send((wire::HELLO.to_vec(), Bytes::new()));
        let offers = match greeting.recv_timeout(LONGEST_SILENCE) {
            Ok(offers) => offers,
            Err(RecvTimeoutError::Disconnected) => return Err(shared.lost()),
            Err(RecvTimeoutError::Timeout) => return Err(shared.give_up(LONGEST_SILENCE)),
        };
        let number = AtomicU32::new(1);
        let (read_bytes, write_bytes) = (SURE_PIECE_BYTES, SURE_PIECE_BYTES);
        let session = Session { outgoing: send, shared, number, offers, read_bytes, write_bytes };
        session.with_limits()
    }

    /// Takes larger pieces if the server says that it does.
    fn with_limits(mut self) -> Tried<Session> {
        if !self.offers.limits {
            return Ok(self);
        }
        let answer = match self.ask(&Request::Limits)?.answer()? {
            Answer::Extended(answer) => wire::parse_limits(answer),
            _ => None,
        };
        if let Some((read, write)) = answer {
            // zero is no limit
            let piece = |limit: u64| match limit.min(LONGEST_PIECE_BYTES) {
                0 => LONGEST_PIECE_BYTES as u32,
                limit => limit as u32,
            };
            (self.read_bytes, self.write_bytes) = (piece(read), piece(write));
        }
        Ok(self)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.shared.state().ended.is_some()
    }

    /// Asks something of the server. Who does not want the answer may drop it.
    pub(super) fn ask(&self, request: &Request<'_>) -> Tried<Pending<'_>> {
        self.ask_with(request, Bytes::new())
    }

    /// The same for [`Request::Write`], with what is to be written.
    pub(super) fn ask_with(&self, request: &Request<'_>, data: Bytes) -> Tried<Pending<'_>> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let (answer, receive) = bounded(1);
        let bytes = data.len() as u64 + request.answer_length();
        let time = self.shared.expect(number, Waiting { answer, bytes })?;
        let pending =
            Pending { session: self, answer: receive, time, until: Instant::now() + time };
        match self.outgoing.send_deadline((request.message(number), data), pending.until) {
            Err(SendTimeoutError::Timeout(_)) => Err(self.shared.give_up(time)),
            // if the writer has gone, the session is about to end, and tells why
            Ok(()) | Err(SendTimeoutError::Disconnected(_)) => Ok(pending),
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of who waits for an answer, and says how long that may take.
    fn expect(&self, number: u32, waiting: Waiting) -> Tried<Duration> {
        let mut state = self.state();
        if let Some(words) = &state.ended {
            return Err(Failure::Lost(words.clone()));
        }
        state.bytes += waiting.bytes;
        state.waiting.insert(number, waiting);
        Ok(longest(state.bytes))
    }

    /// Gives an answer to who waits for it; `false` if nobody asked.
    fn deliver(&self, number: u32, answer: Answer) -> bool {
        let mut state = self.state();
        let Some(waiting) = state.waiting.remove(&number) else { return false };
        state.bytes -= waiting.bytes;
        // who asked may have lost interest
        let _ = waiting.answer.send(answer);
        true
    }

    /// Tells all who wait that it is over. The first words count.
    fn end(&self, words: String) {
        let mut state = self.state();
        state.ended.get_or_insert(words);
        state.waiting.clear();
    }

    fn lost(&self) -> Failure {
        Failure::Lost(self.state().ended.clone().unwrap_or_default())
    }

    fn give_up(&self, time: Duration) -> Failure {
        self.end(format!("no answer within {} seconds", time.as_secs()));
        self.peer.end();
        self.lost()
    }
}

/// Until the session is dropped, or the peer hears nothing any more: then there is nothing to read either, and whoever
/// reads finds out why.
fn write_messages(mut to: impl Write, messages: &Receiver<(Vec<u8>, Bytes)>) {
    for (head, data) in messages {
        if to.write_all(&head).and_then(|()| to.write_all(&data)).is_err() {
            return;
        }
    }
}

fn read_all(from: impl Read, greet: &Sender<Offers>, shared: &Shared) {
    let mut from = BufReader::with_capacity(READ_BUFFER_BYTES, from);
    let result = read_messages(&mut from, greet, shared);
    let words = match result {
        // said before it is over, so that it is not taken for what the peer says
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            shared.peer.end();
            error.to_string()
        }
        _ => shared.peer.last_words(),
    };
    shared.end(words);
}

fn read_messages(from: &mut impl Read, greet: &Sender<Offers>, shared: &Shared) -> io::Result<()> {
    let strange = || io::Error::new(io::ErrorKind::InvalidData, NO_SFTP);
    let hello = wire::parse_hello(read_message(from)?).ok_or_else(strange)?;
    let _ = greet.send(hello);
    loop {
        let (number, answer) = wire::parse(read_message(from)?).ok_or_else(strange)?;
        if !shared.deliver(number, answer) {
            return Err(strange());
        }
    }
}

fn read_message(from: &mut impl Read) -> io::Result<Bytes> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > wire::MAX_MESSAGE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, NO_SFTP));
    }
    let mut message = vec![0; length];
    from.read_exact(&mut message)?;
    Ok(message.into())
}

/// An answer on its way.
pub(super) struct Pending<'a> {
    session: &'a Session,
    answer: Receiver<Answer>,
    time: Duration,
    until: Instant,
}

impl<'a> Pending<'a> {
    fn answer(self) -> Tried<Answer> {
        let shared = &self.session.shared;
        match self.answer.recv_deadline(self.until) {
            Ok(Answer::Status(status)) if status.code != 0 => Err(Failure::Refused(status)),
            Ok(answer) => Ok(answer),
            Err(RecvTimeoutError::Disconnected) => Err(shared.lost()),
            Err(RecvTimeoutError::Timeout) => Err(shared.give_up(self.time)),
        }
    }

    /// Waits until it is done.
    pub(super) fn done(self) -> Tried<()> {
        match self.answer()? {
            Answer::Status(_) => Ok(()),
            _ => Err(strange()),
        }
    }

    pub(super) fn handle(self) -> Tried<Handle<'a>> {
        let session = self.session;
        match self.answer()? {
            Answer::Handle(name) => Ok(Handle { session, name }),
            _ => Err(strange()),
        }
    }

    pub(super) fn attributes(self) -> Tried<Attributes> {
        match self.answer()? {
            Answer::Attributes(attributes) => Ok(attributes),
            _ => Err(strange()),
        }
    }

    /// Bytes of a file; `None` at its end.
    pub(super) fn data(self) -> Tried<Option<Bytes>> {
        match self.answer() {
            Ok(Answer::Data(data)) => Ok(Some(data)),
            Ok(_) => Err(strange()),
            Err(failure) if failure.has_code(wire::END) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Some entries of a directory; none at its end.
    pub(super) fn names(self) -> Tried<Vec<Name>> {
        match self.answer() {
            Ok(Answer::Names(names)) => Ok(names),
            Ok(_) => Err(strange()),
            Err(failure) if failure.has_code(wire::END) => Ok(Vec::new()),
            Err(failure) => Err(failure),
        }
    }

    pub(super) fn extended(self) -> Tried<Bytes> {
        match self.answer()? {
            Answer::Extended(answer) => Ok(answer),
            _ => Err(strange()),
        }
    }
}

fn strange() -> Failure {
    Failure::Is(ErrorKind::Permanent, "the server's answer is none to what it was asked".to_owned())
}

/// A file or directory that the server holds open.
pub(super) struct Handle<'a> {
    session: &'a Session,
    name: Bytes,
}

impl Handle<'_> {
    pub(super) fn name(&self) -> &[u8] {
        &self.name
    }

    /// Closes it and waits for what the server says to that.
    pub(super) fn close(mut self) -> Tried<()> {
        let name = std::mem::take(&mut self.name);
        self.session.ask(&Request::Close(&name))?.done()
    }
}

impl Drop for Handle<'_> {
    fn drop(&mut self) {
        if !self.name.is_empty() {
            let _ = self.session.ask(&Request::Close(&self.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    struct Nobody;

    impl Peer for Nobody {
        fn end(&self) {}
        fn last_words(&self) -> String {
            "gone".to_owned()
        }
    }

    /// A session with a server that offers nothing, and then does this.
    fn session(serve: impl FnOnce(&mut UnixStream) + Send + 'static) -> Session {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        thread::spawn(move || {
            theirs.read_exact(&mut [0; wire::HELLO.len()]).unwrap();
            theirs.write_all(b"\0\0\0\x05\x02\0\0\0\x03").unwrap();
            serve(&mut theirs);
        });
        Session::start(ours.try_clone().unwrap(), ours, Nobody).unwrap()
    }

    /// Reads a request; its number.
    fn asked(stream: &mut UnixStream) -> u32 {
        let message = read_message(stream).unwrap();
        u32::from_be_bytes(message[1..5].try_into().unwrap())
    }

    fn answer_handle(stream: &mut UnixStream, number: u32, name: u8) {
        let mut message = b"\0\0\0\x0a\x66".to_vec();
        message.extend_from_slice(&number.to_be_bytes());
        message.extend_from_slice(&[0, 0, 0, 1, name]);
        stream.write_all(&message).unwrap();
    }

    fn lost(failure: Failure) -> String {
        match failure {
            Failure::Lost(words) => words,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn answers_find_who_asked() {
        let session = session(|stream| {
            let (first, second) = (asked(stream), asked(stream));
            answer_handle(stream, second, b'2');
            answer_handle(stream, first, b'1');
            // both are closed
            asked(stream);
            asked(stream);
        });
        let first = session.ask(&Request::OpenDirectory("/a")).unwrap();
        let second = session.ask(&Request::OpenDirectory("/b")).unwrap();
        assert_eq!(first.handle().unwrap().name(), b"1");
        assert_eq!(second.handle().unwrap().name(), b"2");
    }

    #[test]
    fn an_end_is_told_to_all_who_wait() {
        let session = session(|stream| {
            asked(stream);
        });
        let pending = session.ask(&Request::Stat("/a")).unwrap();
        assert_eq!(lost(pending.done().unwrap_err()), "gone");
        assert!(session.has_ended());
        assert_eq!(lost(session.ask(&Request::Stat("/a")).err().unwrap()), "gone");
    }

    #[test]
    fn an_answer_that_nobody_asked_for_ends_it() {
        let session = session(|stream| {
            let number = asked(stream);
            answer_handle(stream, number + 1, b'1');
            // stays, but is not listened to any more
            let _ = read_message(stream);
        });
        let pending = session.ask(&Request::Stat("/a")).unwrap();
        assert_eq!(lost(pending.done().unwrap_err()), NO_SFTP);
    }

    #[test]
    fn what_is_longer_than_any_message_is_none() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"Welcome\n").unwrap();
        let session = Session::start(ours.try_clone().unwrap(), ours, Nobody);
        assert_eq!(lost(session.err().unwrap()), NO_SFTP);
    }
}
