//! A command that is fed a stream on its standard input, so that no half of it is
//! ever taken for the whole.
//!
//! A program that reads to the end of its input, and then commits, cannot tell an
//! input that was cut off from one that is complete. So whatever goes wrong, the
//! command and all it started are killed before the pipe's other end is closed; also
//! when this program is killed itself: a *guard*, a shell that does nothing but wait,
//! holds the pipe open until it has killed them. What a command started on another
//! machine is out of reach: there only the end of the input is seen.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdin, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use zeroize::Zeroizing;

use crate::progress::{Event, Progress};
use crate::repository::{Error, Result};
use crate::source::preset::CommandStep;
use crate::source::process::{Deadline, Limits, keep_own_secrets, look_up};

/// How often interruptions, and commands that stopped, are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Longest line of standard error that is shown in one piece, in bytes.
const MAX_LINE: usize = 4096;
/// Bytes of the end of standard error that go into the error of a command.
const LAST_WORDS: usize = 600;

/// A program with its arguments, found as a shell finds it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// What it does, for errors: `restore database shop`. The program's name without it.
    pub what: Option<String>,
    /// The program and its arguments.
    pub words: Vec<OsString>,
    /// Variables it has besides those of this program.
    pub environment: Vec<(OsString, OsString)>,
    /// Whether what it prints goes to standard error, because standard output has
    /// another use. It is this program's standard output else.
    pub prints_aside: bool,
    /// What it reads before the stream, and after it.
    pub before: Zeroizing<Vec<u8>>,
    pub after: Zeroizing<Vec<u8>>,
    /// How long it may take; as long as it likes without.
    pub limits: Option<Limits>,
}

impl Command {
    /// The words in one line, for people.
    pub fn shown(&self) -> String {
        self.words.iter().map(|word| shown_word(word)).collect::<Vec<_>>().join(" ")
    }

    fn called(&self) -> String {
        self.what.clone().unwrap_or_else(|| self.program())
    }

    fn program(&self) -> String {
        self.words.first().map(|word| shown_word(word)).unwrap_or_default()
    }

    /// Fails if there is no such program: told before anything starts. `path` is the
    /// list of directories that programs are looked for in.
    pub fn check(&self, path: Option<&OsStr>) -> Result<()> {
        let Some(program) = self.words.first().filter(|program| !program.is_empty()) else {
            return Err(Error::failed("there is no command to run"));
        };
        // without the list the system has one of its own
        let is_elsewhere = path.is_none() && !program.as_bytes().contains(&b'/');
        let found = is_elsewhere || look_up(program, path.unwrap_or_default()).is_some();
        match found {
            true => Ok(()),
            false => Err(Error::failed(format!("{}: there is no such program", self.program()))),
        }
    }
}

/// A step of a preset's way back.
impl From<CommandStep> for Command {
    fn from(step: CommandStep) -> Command {
        let environment = step.environment.iter();
        let environment = environment.map(|(name, value)| (name.into(), value.as_str().into()));
        Command {
            what: Some(step.what),
            words: step.command.iter().map(OsString::from).collect(),
            environment: environment.collect(),
            prints_aside: true,
            before: step.before,
            after: step.after,
            limits: None,
        }
    }
}

fn shown_word(word: &OsStr) -> String {
    let text = word.to_string_lossy();
    let is_plain = |c: char| c.is_alphanumeric() || "-_./=:,@%+".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.into_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// Starts the command, writes to it what `produce` gives, and waits until it ended.
/// `name` says in events and errors whose stream it is. Returns the bytes it took.
///
/// It has done its work only if it took the whole stream and then ended with status
/// 0. One that ends before has not, whatever its status: who wants the beginning of a
/// stream only has `dump`. When `produce` fails, it is killed before it can see the
/// end of its input.
pub fn feed(
    name: &str,
    command: &Command,
    progress: &dyn Progress,
    produce: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<u64> {
    let mut fed = Fed::start(name, command, progress)?;
    let said = |fed: &mut Fed<'_>, bytes: &[u8]| {
        fed.write_all(bytes).map_err(|error| match progress.interrupted() {
            true => Error::interrupted(),
            false => Error::failed(error.to_string()),
        })
    };
    let produced = said(&mut fed, &command.before)
        .and_then(|()| produce(&mut fed))
        .and_then(|()| said(&mut fed, &command.after));
    match (&fed.end, produced) {
        (None, Ok(())) => fed.finish(),
        (Some(End::TookNoMore), _) => fed.ended_early(),
        (Some(End::Stopped), _) => {
            fed.kill();
            Err(fed.error("was stopped: it has no terminal to ask at, so give it what it asks for by its environment or a file"))
        }
        (Some(End::Late(message)), _) => {
            let message = message.clone();
            Err(fed.ended_for(&message))
        }
        (None, Err(error)) => {
            fed.kill();
            Err(error)
        }
    }
}

/// Why a command is given nothing more.
#[derive(Clone, PartialEq, Eq)]
enum End {
    /// It closed its input, or ended.
    TookNoMore,
    /// It was stopped, as who asks at a terminal that is not his is.
    Stopped,
    /// Its time is over, as this says.
    Late(String),
}

struct Fed<'a> {
    name: &'a str,
    called: String,
    progress: &'a dyn Progress,
    child: Child,
    input: Option<ChildStdin>,
    guard: Option<Guard>,
    said: Said,
    end: Option<End>,
    bytes: u64,
    deadline: Deadline,
}

impl<'a> Fed<'a> {
    fn start(name: &'a str, command: &Command, progress: &'a dyn Progress) -> Result<Fed<'a>> {
        let called = command.called();
        let failed = |error: io::Error| {
            Error::failed(format!("{name}: {called} cannot be started: {error}"))
        };
        let Some((first, rest)) = command.words.split_first() else {
            return Err(Error::failed(format!("{name}: there is no command to run")));
        };
        let output = match command.prints_aside {
            true => io::stderr().as_fd().try_clone_to_owned().map_err(failed)?.into(),
            false => Stdio::inherit(),
        };
        let mut starts = std::process::Command::new(first);
        keep_own_secrets(&mut starts);
        let mut child = starts
            .args(rest)
            .envs(command.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let input = child.stdin.take();
        let said = Said { pipe: child.stderr.take(), line: Vec::new(), last: String::new() };
        let guard = input.as_ref().map(|input| Guard::start(&child, input.as_fd()));
        let mut fed = Fed {
            name,
            called: called.clone(),
            progress,
            child,
            input,
            guard: None,
            said,
            end: None,
            bytes: 0,
            deadline: command.limits.map_or_else(Deadline::default, Limits::begin),
        };
        let ready =
            guard.unwrap_or_else(|| Err(io::ErrorKind::BrokenPipe.into())).and_then(|guard| {
                fed.guard = Some(guard);
                let ends =
                    [fed.input.as_ref().map(AsFd::as_fd), fed.said.pipe.as_ref().map(AsFd::as_fd)];
                ends.into_iter().flatten().try_for_each(make_nonblocking)
            });
        match ready {
            Ok(()) => Ok(fed),
            Err(error) => {
                fed.kill();
                Err(failed(error))
            }
        }
    }

    /// The whole stream was taken: closes the pipe and waits for the end.
    fn finish(mut self) -> Result<u64> {
        let status = self.close_and_wait()?;
        match status.success() {
            true => Ok(self.bytes),
            false => Err(self.error(&format!("failed: {}", ended(status)))),
        }
    }

    fn ended_early(mut self) -> Result<u64> {
        let status = self.close_and_wait()?;
        let bytes = self.bytes;
        Err(self.error(&match status.success() {
            true => {
                format!("says all is well, but took only {bytes} bytes and not the whole stream")
            }
            false => format!("failed after {bytes} bytes: {}", ended(status)),
        }))
    }

    fn close_and_wait(&mut self) -> Result<ExitStatus> {
        self.input = None;
        let mut heard = Instant::now();
        if let Some(guard) = self.guard.take() {
            guard.dismiss();
        }
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => {
                    self.said.read(self.name, self.progress);
                    self.said.end(self.name, self.progress);
                    return Ok(status);
                }
                Ok(None) => {}
                Err(error) => return Err(self.error(&format!("cannot be waited for: {error}"))),
            }
            if self.progress.interrupted() {
                self.kill();
                return Err(Error::interrupted());
            }
            if self.is_stopped() {
                self.kill();
                return Err(self.error("was stopped: it has no terminal to ask at"));
            }
            self.look(false, &mut heard);
            if let Err(message) = self.in_time(heard) {
                return Err(self.ended_for(&message));
            }
        }
    }

    /// Waits for a moment, and hears what it says.
    fn look(&mut self, has_more: bool, heard: &mut Instant) {
        let input = self.input.as_ref().filter(|_| has_more).map(AsFd::as_fd);
        self.said.wait(input);
        if self.said.read(self.name, self.progress) {
            *heard = Instant::now();
        }
    }

    /// Whether it may go on; `heard` is when it last took or said something.
    fn in_time(&self, heard: Instant) -> std::result::Result<(), String> {
        self.deadline.check(&self.called)?;
        self.deadline.check_silence(&self.called, heard)
    }

    /// Ends it because its time is over.
    fn ended_for(&mut self, message: &str) -> Error {
        self.kill();
        Error::failed(format!("{}: {message}{}", self.name, self.last_words()))
    }

    fn last_words(&self) -> String {
        let said = self.said.last.trim();
        if said.is_empty() { String::new() } else { format!("; it said: {said}") }
    }

    /// Ends the command and all it started, then lets go of its input.
    fn kill(&mut self) {
        if let Some(group) = Pid::from_raw(self.child.id().cast_signed()) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
        self.said.read(self.name, self.progress);
        self.said.end(self.name, self.progress);
        self.input = None;
        if let Some(guard) = self.guard.take() {
            guard.dismiss();
        }
    }

    fn is_stopped(&self) -> bool {
        let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) else { return false };
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(pid), options).is_ok_and(|status| status.is_some_and(|s| s.stopped()))
    }

    fn error(&self, what: &str) -> Error {
        Error::failed(format!("{}: {} {what}{}", self.name, self.called, self.last_words()))
    }
}

impl Write for Fed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // until now it may have waited for us
        let mut heard = Instant::now();
        loop {
            if self.progress.interrupted() {
                return Err(io::Error::other("interrupted"));
            }
            if let Err(message) = self.in_time(heard) {
                self.end = Some(End::Late(message));
                return Err(io::Error::other("the command took too long"));
            }
            let Some(input) = &mut self.input else { return Err(io::ErrorKind::BrokenPipe.into()) };
            match input.write(bytes) {
                Ok(written) => {
                    self.bytes += written as u64;
                    return Ok(written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    if error.kind() == io::ErrorKind::BrokenPipe {
                        self.end = Some(End::TookNoMore);
                    }
                    return Err(error);
                }
            }
            self.look(true, &mut heard);
            if self.is_stopped() {
                self.end = Some(End::Stopped);
                return Err(io::Error::other("the command was stopped"));
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Standard error of a command, by lines.
struct Said {
    pipe: Option<ChildStderr>,
    /// Of a line whose end has not come yet.
    line: Vec<u8>,
    /// The end of all that was said.
    last: String,
}

impl Said {
    /// Waits for something to read, or for room in the pipe to the command.
    fn wait(&self, input: Option<BorrowedFd<'_>>) {
        let reading =
            self.pipe.as_ref().map(|pipe| PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN));
        let writing = input.map(|input| PollFd::from_borrowed_fd(input, PollFlags::OUT));
        let mut fds: Vec<PollFd<'_>> = reading.into_iter().chain(writing).collect();
        let timeout = Timespec::try_from(LOOK_EVERY).ok();
        let _ = poll(&mut fds, timeout.as_ref());
    }

    /// Tells the lines that are there; whether anything was.
    fn read(&mut self, name: &str, progress: &dyn Progress) -> bool {
        let mut buffer = [0; 8192];
        let mut has_read = false;
        while let Some(pipe) = &mut self.pipe {
            match pipe.read(&mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(length) => {
                    has_read = true;
                    self.take(&buffer[..length], name, progress);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => self.pipe = None,
            }
        }
        has_read
    }

    fn take(&mut self, bytes: &[u8], name: &str, progress: &dyn Progress) {
        for byte in bytes {
            match byte {
                b'\n' => self.end(name, progress),
                _ => self.line.push(*byte),
            }
            if self.line.len() >= MAX_LINE {
                self.end(name, progress);
            }
        }
    }

    fn end(&mut self, name: &str, progress: &dyn Progress) {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end();
        if line.is_empty() {
            return;
        }
        progress.event(Event::Said { name, line });
        self.last.push_str(line);
        self.last.push(' ');
        let mut surplus = self.last.len().saturating_sub(LAST_WORDS);
        while !self.last.is_char_boundary(surplus) {
            surplus += 1;
        }
        self.last.drain(..surplus);
    }
}

/// Holds the pipe to a command open, and kills the command and all it started when
/// this program is gone. Dismissed, it lets go of the pipe and does nothing.
struct Guard {
    shell: Child,
}

/// `$1` is the command's process group. `read` fails when nobody is left to say a word;
/// `kill` is written as POSIX has it, for not every shell knows `kill -9 -- -1`.
const GUARD: &str = r#"read -r word; [ "$word" = dismissed ] || kill -s KILL -- "-$1""#;

impl Guard {
    fn start(child: &Child, input: BorrowedFd<'_>) -> io::Result<Guard> {
        let shell = std::process::Command::new("/bin/sh")
            .args(["-c", GUARD, "sh", &child.id().to_string()])
            .stdin(Stdio::piped())
            .stdout(input.try_clone_to_owned()?)
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Guard { shell })
    }

    fn dismiss(mut self) {
        if let Some(mut input) = self.shell.stdin.take()
            && input.write_all(b"dismissed\n").is_err()
        {
            let _ = self.shell.kill();
        }
        let _ = self.shell.wait();
    }
}

fn make_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = fcntl_getfl(fd)?;
    Ok(fcntl_setfl(fd, flags | OFlags::NONBLOCK)?)
}

/// `exit status 3`, `killed by signal 9`.
fn ended(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => status.to_string(),
    }
}
