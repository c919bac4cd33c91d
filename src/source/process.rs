//! Programs that run beside us: in a process group of their own, with a deadline, and with what they write to standard
//! error kept. Standard output is read here, standard error is drained beside it, so that neither can block the other.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{self, ErrorKind as IoErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Access, OFlags, access, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use zeroize::Zeroizing;

use super::{Environment, usage};
use crate::files::pipe;
use crate::output;
use crate::repository::Result;

/// Bytes of standard error that are kept.
pub const MAX_LOG: usize = 64 << 10;
/// How soon a silent command is seen to be unwanted.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long a program that is told to end may take to tidy up.
const GRACE: Duration = Duration::from_secs(2);
/// Lines and characters of standard error that a message quotes.
const QUOTED_LINES: usize = 3;
const QUOTED_CHARACTERS: usize = 500;

/// The last bytes of what was written to it; shared by its clones.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<VecDeque<u8>>>);

impl Log {
    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    pub fn add(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(bytes);
        let surplus = kept.len().saturating_sub(MAX_LOG);
        kept.drain(..surplus);
    }

    /// The last lines, in one sentence's worth of harmless characters.
    fn quote(&self) -> Option<String> {
        let bytes = self.bytes();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> =
            text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let last = lines[lines.len().saturating_sub(QUOTED_LINES)..].join("; ");
        let surplus = last.chars().count().saturating_sub(QUOTED_CHARACTERS);
        let last: String = last.chars().skip(surplus).collect();
        (!last.is_empty()).then(|| output::path(last.as_bytes()).into_owned())
    }
}

/// What is to be run. Without `Debug`: its environment may hold secrets.
#[derive(Clone, Default)]
pub struct Program {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// Added to our own environment, without the secrets in it that are ours alone.
    pub environment: Environment,
    /// What it reads from standard input first, at most a few KiB; then comes the end, unless more is fed.
    pub input: Zeroizing<Vec<u8>>,
    /// Whether what it prints ends with a frame, see [`super::through`].
    pub framed: bool,
}

impl Program {
    pub fn new(words: &[&str]) -> Program {
        Program {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            ..Program::default()
        }
    }

    /// The program's name, for messages.
    pub fn name(&self) -> String {
        let program = self.words.first().map(String::as_str).unwrap_or_default();
        let name = program.rsplit('/').next().unwrap_or(program);
        match (name, self.words.get(1).map(String::as_str), self.words.get(2)) {
            ("sh" | "bash" | "dash", Some("-c"), Some(text)) => {
                let first = text.split_whitespace().next().unwrap_or("sh -c");
                output::path(first.as_bytes()).into_owned()
            }
            _ => output::path(name.as_bytes()).into_owned(),
        }
    }
}

/// How long a program that nobody watches may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From beginning to end.
    pub total: Option<Duration>,
    /// Without a byte printed or taken, and without an end.
    pub idle: Duration,
}

impl Default for Limits {
    /// Dumps may take days, and think for hours before their first byte; none is silent for a whole night and well.
    fn default() -> Limits {
        Limits { total: None, idle: Duration::from_secs(6 * 3600) }
    }
}

impl Limits {
    /// The time runs from now on.
    pub fn begin(self) -> Deadline {
        Deadline { idle: Some(self.idle), ..Deadline::after(self.total) }
    }
}

/// When a program's time is over.
#[derive(Clone, Copy, Default)]
pub struct Deadline {
    end: Option<(Instant, Duration)>,
    /// The longest silence.
    idle: Option<Duration>,
}

impl Deadline {
    /// However long it is silent.
    pub fn after(limit: Option<Duration>) -> Deadline {
        let at = |limit| Some((Instant::now().checked_add(limit)?, limit));
        Deadline { end: limit.and_then(at), idle: None }
    }

    fn passed(&self) -> Option<Duration> {
        self.end.filter(|(end, _)| Instant::now() >= *end).map(|(_, limit)| limit)
    }

    /// The error of who has not been heard of for too long, if it is that long.
    pub fn check_silence(&self, name: &str, since: Instant) -> std::result::Result<(), String> {
        match self.idle.filter(|idle| since.elapsed() >= *idle) {
            Some(idle) => {
                let seconds = idle.as_secs_f64();
                Err(format!(
                    "{name} gave no sign of life for {seconds} s, and was ended: idle_timeout is how long it may"
                ))
            }
            None => Ok(()),
        }
    }

    /// The error of a wait that took too long, if it did.
    pub fn check(&self, name: &str) -> std::result::Result<(), String> {
        match self.passed() {
            Some(limit) => {
                let seconds = limit.as_secs_f64();
                Err(format!("{name} took longer than the {seconds} s it was given, and was ended"))
            }
            None => Ok(()),
        }
    }

    fn wait(&self) -> Duration {
        match self.end {
            Some((end, _)) => PATIENCE.min(end.saturating_duration_since(Instant::now())),
            None => PATIENCE,
        }
    }
}

/// What opens repositories and stores by variables that nobody but esker reads is not for the programs that it starts.
pub fn keep_own_secrets(command: &mut Command) {
    let repositories = ["ESKER", "ESKER_TO", "ESKER_SECOND", "ESKER_CHUNKER_FROM"];
    let stores = ["ESKER_FTP", "ESKER_WEBDAV", "ESKER_SFTP"];
    for whose in repositories.iter().chain(&stores) {
        for what in ["PASSWORD", "PASSWORD_FILE", "PASSWORD_COMMAND", "KEY_FILE"] {
            command.env_remove(format!("{whose}_{what}"));
        }
    }
}

/// A program on its way. Dropped before its end, it is ended with its whole group.
pub struct Running {
    name: String,
    child: Child,
    status: Option<ExitStatus>,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    /// What this program said, for messages; the log has that of all.
    said: Log,
    log: Log,
    deadline: Deadline,
    /// When it last printed something, or was asked something.
    heard: Instant,
}

/// What becomes of standard input once the program's own `input` is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Feed {
    Nothing,
    More,
}

impl Running {
    pub fn start(
        program: &Program,
        feed: Feed,
        deadline: Deadline,
        log: &Log,
    ) -> std::result::Result<Running, String> {
        let name = program.name();
        let first = program.words.first().ok_or("a command is empty")?;
        let piped = feed == Feed::More || !program.input.is_empty();
        let mut command = Command::new(first);
        keep_own_secrets(&mut command);
        command
            .args(&program.words[1..])
            .envs(program.environment.iter().map(|(name, value)| (name, value.as_str())))
            .stdin(if piped { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = command.spawn().map_err(|error| match error.kind() {
            IoErrorKind::NotFound => format!("{name}: no such program"),
            _ => format!("{name} does not start: {error}"),
        })?;
        let mut running = Running {
            name,
            status: None,
            stdin: child.stdin.take(),
            stdout: child.stdout.take(),
            stderr: child.stderr.take(),
            child,
            said: Log::default(),
            log: log.clone(),
            deadline,
            heard: Instant::now(),
        };
        running.prepare(program, feed).map_err(|error| format!("{}: {error}", running.name))?;
        Ok(running)
    }

    fn prepare(&mut self, program: &Program, feed: Feed) -> io::Result<()> {
        if let Some(stderr) = &self.stderr {
            fcntl_setfl(stderr, fcntl_getfl(stderr)? | OFlags::NONBLOCK)?;
        }
        if let Some(stdout) = &self.stdout {
            pipe::widen(stdout);
        }
        if let Some(stdin) = &mut self.stdin {
            // it fits into the pipe; who does not read it shows by its exit status
            let _ = stdin.write_all(&program.input);
        }
        if feed == Feed::Nothing {
            self.stdin = None;
        }
        Ok(())
    }

    /// Standard input, if it is fed: who is asked something may think anew.
    pub fn stdin(&mut self) -> Option<&mut ChildStdin> {
        self.heard = Instant::now();
        self.stdin.as_mut()
    }

    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Waits until standard output has something or ends, at most [`PATIENCE`]; whether it does.
    fn wait_for_output(&mut self) -> io::Result<bool> {
        let Some(stdout) = &self.stdout else {
            return Ok(true);
        };
        let mut waiting = vec![PollFd::new(stdout, PollFlags::IN)];
        if let Some(stderr) = &self.stderr {
            waiting.push(PollFd::new(stderr, PollFlags::IN));
        }
        match poll(&mut waiting, Some(&timespec(self.deadline.wait()))) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [ready, talks] =
            [0, 1].map(|n| waiting.get(n).is_some_and(|w| !w.revents().is_empty()));
        if talks {
            self.drain_stderr();
        }
        if ready {
            self.heard = Instant::now();
        }
        if let Err(message) = self.check_time() {
            self.end();
            return Err(io::Error::new(IoErrorKind::TimedOut, message));
        }
        Ok(ready)
    }

    fn check_time(&self) -> std::result::Result<(), String> {
        self.deadline.check(&self.name)?;
        self.deadline.check_silence(&self.name, self.heard)
    }

    /// Waits for the first byte or the end, as long as nobody says that it is over.
    pub fn wait_for_first(&mut self, over: &dyn Fn() -> bool) -> std::result::Result<(), String> {
        while !self.wait_for_output().map_err(|error| error.to_string())? {
            if over() {
                return Err("interrupted".into());
            }
        }
        Ok(())
    }

    fn drain_stderr(&mut self) {
        let mut buffer = [0; 4096];
        while let Some(stderr) = &mut self.stderr {
            match stderr.read(&mut buffer) {
                Ok(0) => self.stderr = None,
                Ok(read) => {
                    self.heard = Instant::now();
                    self.said.add(&buffer[..read]);
                    self.log.add(&buffer[..read]);
                }
                Err(error) if error.kind() == IoErrorKind::Interrupted => {}
                Err(error) if error.kind() == IoErrorKind::WouldBlock => return,
                Err(_) => self.stderr = None,
            }
        }
    }

    /// Waits for the end of the program, and says why it was none of success.
    pub fn finish(&mut self, over: &dyn Fn() -> bool) -> std::result::Result<(), String> {
        self.stdin = None;
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) => {}
                Err(error) => return Err(format!("{}: {error}", self.name)),
            }
            self.pause();
            let outcome = match over() {
                true => Err("interrupted".into()),
                false => self.check_time(),
            };
            if outcome.is_err() {
                self.end();
                return outcome;
            }
        };
        self.status = Some(status);
        self.drain_stderr();
        let how = match (status.code(), status.signal()) {
            (Some(0), _) => return Ok(()),
            (Some(code), _) => format!("exit status {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "no exit status".to_owned(),
        };
        Err(self.blame(&format!("{} ended with {how}", self.name)))
    }

    /// A little time, or until the program says something.
    fn pause(&mut self) {
        let short = Duration::from_millis(10);
        let Some(stderr) = &self.stderr else {
            return std::thread::sleep(short);
        };
        let _ = poll(&mut [PollFd::new(stderr, PollFlags::IN)], Some(&timespec(short)));
        self.drain_stderr();
    }

    /// A message with the last that the program said.
    pub fn blame(&mut self, message: &str) -> String {
        self.drain_stderr();
        match self.said.quote() {
            Some(said) => format!("{message}: {said}"),
            None => message.to_owned(),
        }
    }

    /// Ends the program and its whole group.
    pub fn end(&mut self) {
        if self.status.is_some() {
            return;
        }
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::TERM);
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            let since = Instant::now();
            // the leader is not reaped before the last signal: so its group's number cannot be somebody else's
            while since.elapsed() < GRACE && matches!(waitid(WaitId::Pid(group), options), Ok(None))
            {
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.kill();
        self.status = self.child.wait().ok().or(Some(ExitStatus::from_raw(0)));
        self.drain_stderr();
    }
}

/// Says `Interrupted` where nothing has come for a while, so that whoever reads can see whether it is still wanted.
impl Read for Running {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.wait_for_output()? {
            return Err(IoErrorKind::Interrupted.into());
        }
        match &mut self.stdout {
            Some(stdout) => stdout.read(buffer),
            None => Ok(0),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// Runs a program to its end, while what it prints is thrown away; whether it ended well.
pub fn run(
    program: &Program,
    deadline: Deadline,
    log: &Log,
    over: &dyn Fn() -> bool,
) -> std::result::Result<(), String> {
    let mut running = Running::start(program, Feed::Nothing, deadline, log)?;
    running.stdout_to_end(over)?;
    running.finish(over)
}

impl Running {
    /// Reads what is left of the output, and keeps none of it.
    fn stdout_to_end(&mut self, over: &dyn Fn() -> bool) -> std::result::Result<(), String> {
        let mut buffer = [0; 16 << 10];
        loop {
            match self.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == IoErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
            if over() {
                return Err("interrupted".into());
            }
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

/// Where a program lies, if it can be run.
pub fn look_up(program: impl AsRef<OsStr>, path: &OsStr) -> Option<PathBuf> {
    let program = program.as_ref();
    let runs = |candidate: &Path| candidate.is_file() && access(candidate, Access::EXEC_OK).is_ok();
    if program.is_empty() {
        return None;
    }
    if program.as_bytes().contains(&b'/') {
        return Some(PathBuf::from(program)).filter(|candidate| runs(candidate));
    }
    let directories = path.as_bytes().split(|byte| *byte == b':');
    let mut candidates =
        directories.map(|directory| Path::new(OsStr::from_bytes(directory)).join(program));
    candidates.find(|candidate| runs(candidate))
}

/// Whether a command's program can be found: of a text for the shell, its first word.
pub fn check_program(words: &[String], path: &OsStr) -> Result<()> {
    let program = words.first().map(String::as_str).unwrap_or_default();
    if program.is_empty() {
        return Err(usage("a command is empty: write the program and its arguments"));
    }
    let missing = |program: &str| {
        usage(format!(
            "{}: no such program in PATH: install it, or write where it is",
            output::path(program.as_bytes())
        ))
    };
    look_up(program, path).ok_or_else(|| missing(program))?;
    let ("/bin/sh", Some("-c"), Some(text)) =
        (program, words.get(1).map(String::as_str), words.get(2))
    else {
        return Ok(());
    };
    let first = text
        .split_whitespace()
        .next()
        .ok_or_else(|| usage("a command is empty: write what to run"))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./+-".contains(c);
    if !first.chars().all(plain) || first.contains('/') && look_up(first, path).is_some() {
        return Ok(());
    }
    // the shell knows its own words
    let known = Command::new("/bin/sh")
        .args(["-c", "command -v -- \"$1\"", "sh", first])
        .env("PATH", path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match known {
        Ok(status) if status.success() => Ok(()),
        _ => Err(missing(first)),
    }
}
