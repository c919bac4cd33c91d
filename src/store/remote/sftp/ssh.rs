//! The system's `ssh`, which makes the connection: with its configuration, known hosts and agent, as when it is run by
//! hand, but for what would make it ask somebody.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use zeroize::Zeroizing;

use super::session::{Failure, Peer, Session, Tried};
use crate::store::ErrorKind;
use crate::store::address::Address;

/// So much of what `ssh` says is kept, from the end.
const MAX_WORDS_BYTES: usize = 8 << 10;
const MAX_WORDS_LINES: usize = 3;
/// How long it may take to say why it ends.
const LAST_WORDS_TIME: Duration = Duration::from_secs(2);

/// What `ssh` is told each time. What is said here counts more than its configuration.
const OPTIONS: [&str; 10] = [
    "StrictHostKeyChecking=yes",
    "ConnectTimeout=20",
    "ServerAliveInterval=15",
    "ServerAliveCountMax=4",
    // nothing but the files
    "ForwardAgent=no",
    "ForwardX11=no",
    "ClearAllForwardings=yes",
    "PermitLocalCommand=no",
    "RemoteCommand=none",
    "RequestTTY=no",
];
const WITHOUT_PASSWORD: [&str; 1] = ["BatchMode=yes"];
const WITH_PASSWORD: [&str; 3] = [
    "BatchMode=no",
    "NumberOfPasswordPrompts=1",
    "PreferredAuthentications=password,keyboard-interactive",
];

/// Answers with the password, and only where it is asked for: by the one `ssh` that was started for it, not by another
/// that this one starts to get through a host on the way; and not when a passphrase, a new password or a yes is wanted.
const ASKPASS: &str = r#"#!/bin/sh
[ "$PPID" = "$ESKER_SFTP_SSH" ] || exit 1
case $1 in
  *assphrase* | *yes/no* | *[Nn]ew\ password* | *[Rr]etype*) exit 1 ;;
  *assword:* | *assword\ for\ *) printf '%s\n' "$ESKER_SFTP_ANSWER" ;;
  *) exit 1 ;;
esac
"#;
/// Tells the script above who may ask: `exec` keeps the number of the process.
const EXEC_SSH: &str = r#"export ESKER_SFTP_SSH=$$; exec ssh "$@""#;

/// Gives the password, or says why there is none.
pub type AskPassword = Arc<dyn Fn() -> Result<Zeroizing<String>, String> + Send + Sync>;

/// How to get to a server.
pub(super) struct Ssh {
    arguments: Vec<OsString>,
    ask_password: Option<AskPassword>,
    /// asked for once
    password: Mutex<Option<Zeroizing<String>>>,
}

impl Ssh {
    /// Why an address is refused is said in the error.
    pub(super) fn new(address: &Address, ask_password: Option<AskPassword>) -> Result<Ssh, String> {
        let user = address.user.as_deref().unwrap_or_default();
        for name in [&*address.host, user] {
            if name.starts_with('-') {
                return Err(format!("{name:?} is no name: it begins like an option"));
            }
        }
        let authentication = match ask_password {
            Some(_) => &WITH_PASSWORD[..],
            None => &WITHOUT_PASSWORD,
        };
        let mut arguments: Vec<OsString> = Vec::new();
        for option in OPTIONS.iter().chain(authentication) {
            arguments.extend(["-o".into(), option.into()]);
        }
        if let Some(port) = address.port {
            arguments.extend(["-p".into(), port.to_string().into()]);
        }
        if !user.is_empty() {
            arguments.extend(["-l".into(), user.into()]);
        }
        if let Some(identity) = address.option("identity") {
            arguments.extend(["-o".into(), "IdentitiesOnly=yes".into()]);
            arguments.extend(["-i".into(), identity.into()]);
        }
        // addresses have those of IPv6 in brackets, ssh has not
        let host = address.host.trim_start_matches('[').trim_end_matches(']');
        arguments.extend(["-s".into(), "--".into(), host.into(), "sftp".into()]);
        Ok(Ssh { arguments, ask_password, password: Mutex::default() })
    }

    /// Starts a session.
    pub(super) fn connect(&self) -> Tried<Session> {
        let (mut command, _script) = match &self.ask_password {
            None => (Command::new("ssh"), None),
            Some(ask) => {
                let password = self.password(ask)?;
                let script = Script::new().map_err(|error| {
                    Failure::Lost(format!("no place for the program that answers ssh: {error}"))
                })?;
                let mut command = Command::new("/bin/sh");
                command.args(["-c", EXEC_SSH, "ssh"]);
                command.env("SSH_ASKPASS", script.path()).env("SSH_ASKPASS_REQUIRE", "force");
                command.env("ESKER_SFTP_ANSWER", &*password);
                (command, Some(script))
            }
        };
        command.args(&self.arguments).stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        // what interrupts us is not to interrupt the connection, over which we still put things in order
        command.process_group(0);
        let mut child = command.spawn().map_err(cannot_run)?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(input), Some(output), Some(errors)) = pipes else {
            return Err(Failure::Lost("ssh has no pipes".to_owned()));
        };
        let process = Process::new(child, errors)?;
        Session::start(output, input, process)
    }

    fn password(&self, ask: &AskPassword) -> Tried<Zeroizing<String>> {
        let mut known = self.password.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some(password) => Ok(password.clone()),
            None => {
                let password =
                    ask().map_err(|reason| Failure::Is(ErrorKind::Permission, reason))?;
                Ok(known.insert(password).clone())
            }
        }
    }
}

fn cannot_run(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::NotFound => Failure::Is(
            ErrorKind::Permanent,
            "there is no program `ssh` on this machine: install OpenSSH's client".to_owned(),
        ),
        _ => Failure::Lost(format!("ssh: {error}")),
    }
}

/// The program that answers, in a directory that nobody else can enter. It holds no secret, and lasts as long as it
/// takes to log in.
struct Script(PathBuf);

impl Script {
    fn new() -> io::Result<Script> {
        let number = getrandom::u64().map_err(io::Error::other)?;
        let directory = std::env::temp_dir().join(format!("esker-{number:016x}"));
        DirBuilder::new().mode(0o700).create(&directory)?;
        let script = Script(directory);
        let mut file: File =
            OpenOptions::new().write(true).create_new(true).mode(0o700).open(script.path())?;
        file.write_all(ASKPASS.as_bytes())?;
        Ok(script)
    }

    fn path(&self) -> PathBuf {
        self.0.join("answer")
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.path());
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// A running `ssh`, and what it says.
struct Process {
    child: Mutex<Child>,
    words: Arc<Mutex<Vec<u8>>>,
    /// Closed when there are no more of them.
    said: Receiver<()>,
}

impl Process {
    fn new(child: Child, errors: impl Read + Send + 'static) -> Tried<Process> {
        let (words, (end, said)) = (Arc::default(), bounded(0));
        let listener = thread::Builder::new().name("esker-sftp-words".to_owned()).spawn({
            let words = Arc::clone(&words);
            move || listen(errors, &words, end)
        });
        listener.map_err(|error| Failure::Lost(error.to_string()))?;
        Ok(Process { child: Mutex::new(child), words, said })
    }
}

/// Keeps the last of what is said.
fn listen(mut from: impl Read, words: &Mutex<Vec<u8>>, _end: Sender<()>) {
    let mut piece = [0; 1024];
    loop {
        match from.read(&mut piece) {
            Ok(length) if length > 0 => {
                let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
                words.extend_from_slice(&piece[..length]);
                let surplus = words.len().saturating_sub(MAX_WORDS_BYTES);
                words.drain(..surplus);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => return,
        }
    }
}

impl Peer for Process {
    fn end(&self) {
        let _ = self.child.lock().unwrap_or_else(PoisonError::into_inner).kill();
    }

    fn last_words(&self) -> String {
        // nothing is ever sent: this waits until all is said
        let _ = self.said.recv_timeout(LAST_WORDS_TIME);
        let _ = self.child.lock().unwrap_or_else(PoisonError::into_inner).try_wait();
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        let words = last_lines(&String::from_utf8_lossy(&words));
        if words.is_empty() { "ssh ended and did not say why".to_owned() } else { words }
    }
}

/// The last lines as one, fit for a terminal.
fn last_lines(text: &str) -> String {
    let clean = |line: &str| line.replace(char::is_control, " ").trim().to_owned();
    let lines: Vec<String> = text.lines().map(clean).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(MAX_WORDS_LINES)..].join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(address: &str) -> Vec<String> {
        let address = Address::parse(address).unwrap();
        let ssh = Ssh::new(&address, None).unwrap();
        ssh.arguments.iter().map(|argument| argument.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn the_command_line_is_what_the_address_says() {
        let all = arguments("sftp://ada@host:2222/x?identity=/key");
        let joined = all.join(" ");
        assert!(joined.contains("-o BatchMode=yes"), "{joined}");
        assert!(
            joined.ends_with("-p 2222 -l ada -o IdentitiesOnly=yes -i /key -s -- host sftp"),
            "{joined}"
        );
        assert!(arguments("sftp://[::1]/x").join(" ").ends_with("-s -- ::1 sftp"));
    }

    #[test]
    fn no_name_is_taken_for_an_option() {
        for address in ["sftp://-oProxyCommand=x/y", "sftp://-oX@host/y"] {
            let address = Address::parse(address).unwrap();
            assert!(Ssh::new(&address, None).is_err(), "{address}");
        }
    }

    /// Runs the script as `ssh` would; `None` if it gives no answer.
    fn answer(prompt: &str, asked_by: Option<u32>) -> Option<String> {
        let script = Script::new().unwrap();
        let asked_by = asked_by.unwrap_or_else(std::process::id);
        let output = Command::new("/bin/sh")
            .arg(script.path())
            .arg(prompt)
            .env("ESKER_SFTP_SSH", asked_by.to_string())
            .env("ESKER_SFTP_ANSWER", "-n \\secret")
            .output()
            .unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }

    #[test]
    fn only_the_prompt_for_the_password_is_answered() {
        for prompt in ["ada@host's password: ", "(ada@host) Password: ", "Password for ada@host:"] {
            assert_eq!(answer(prompt, None).as_deref(), Some("-n \\secret\n"), "{prompt}");
        }
        for prompt in [
            "Enter passphrase for key '/home/password: /id': ",
            "The authenticity of host 'password:' can't be established. (yes/no/[fingerprint])? ",
            "Enter ada@host's new password: ",
            "Retype ada@host's new password: ",
            "Verification code: ",
            "",
        ] {
            assert_eq!(answer(prompt, None), None, "{prompt}");
        }
        // another ssh, on the way to a host in between
        assert_eq!(answer("ada@host's password: ", Some(1)), None);
    }

    #[test]
    fn the_last_words_are_one_line() {
        assert_eq!(last_lines("Welcome\r\n\r\na\r\n\x1b[31mb\nc\n"), "a; [31mb; c");
        assert_eq!(last_lines(""), "");
    }
}
