//! What a secret is, read from where the configuration says that it is.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process_group};
use zeroize::Zeroizing;

use super::value::{Reference, Secret};
use crate::repository::{Error, ErrorKind, Result};

/// A variable of the environment. Only `cli` reads them.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The longest secret, in bytes.
const MAX_SECRET: u64 = 64 << 10;

/// How long a command may take to print a secret.
const LIMIT: Duration = Duration::from_secs(60);

/// Parts of names of variables that hold secrets, and ends of such names.
const SECRET_WORDS: [&str; 6] =
    ["PASSWORD", "PASSWD", "PASSPHRASE", "SECRET", "TOKEN", "CREDENTIAL"];
const SECRET_ENDS: [&str; 4] = ["KEY", "_PWD", "_PASS", "AUTH"];

/// The variable by which systemd tells where the credentials of a unit lie.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

impl Secret {
    /// Reads it; `key` is what the configuration calls it, for the error.
    ///
    /// Of files, credentials and commands the first line counts. An absent or empty
    /// secret is an error of kind [`ErrorKind::WrongKey`]; no error holds any of it.
    pub fn read(&self, key: &str, environment: Lookup<'_>) -> Result<Zeroizing<String>> {
        let reference = match self {
            Secret::Text(text) => return Ok(Zeroizing::new(text.clone())),
            Secret::Reference(reference) => reference,
        };
        let read = match reference {
            Reference::File(path) => first_line(path),
            Reference::Environment(name) => variable(name, environment),
            Reference::Command(command) => printed(&command.words()),
            Reference::Credential(name) => {
                credential(name, environment).and_then(|p| first_line(&p))
            }
        };
        read.map_err(|reason| Error::new(ErrorKind::WrongKey, format!("`{key}`: {reason}")))
    }

    /// The file that holds it, if one does and it is known where.
    pub fn file(&self, environment: Lookup<'_>) -> Option<PathBuf> {
        match self {
            Secret::Reference(Reference::File(path)) => Some(path.clone()),
            Secret::Reference(Reference::Credential(name)) => credential(name, environment).ok(),
            _ => None,
        }
    }
}

/// Who else may read a file: a sentence with what to type, if somebody may.
pub fn exposed(path: &Path) -> Option<String> {
    let mode = std::fs::metadata(path).ok()?.mode();
    (mode & 0o077 != 0).then(|| {
        let path = path.display();
        format!("others can read or change {path}, which holds a secret: chmod 600 {path}")
    })
}

/// Whether a text at a place of secrets is a setting and none: a variable of a source, unless its name, or a password in
/// an address, says otherwise. `path` is as `profiles.web.sources[0].environment.LANG`.
pub fn is_setting(path: &str, text: &str) -> bool {
    let variable =
        path.strip_prefix("profiles.").and_then(|path| path.split_once("].environment."));
    variable.is_some_and(|(_, name)| !is_secret_name(name) && !holds_secret(text))
}

fn is_secret_name(name: &str) -> bool {
    let name = name.trim_matches('"').to_ascii_uppercase();
    // the path of a secret is none
    let is_place = name.ends_with("_FILE") || name.ends_with("_PATH");
    let is_secret = SECRET_WORDS.iter().any(|word| name.contains(word))
        || SECRET_ENDS.iter().any(|end| name.ends_with(end));
    is_secret && !is_place
}

/// `postgres://user:password@host/`, `host=db password=secret`.
fn holds_secret(text: &str) -> bool {
    let mut addresses = text.split("://").skip(1);
    let text = text.to_ascii_uppercase();
    addresses.any(|rest| rest.rsplit_once('@').is_some_and(|(user, _)| user.contains(':')))
        || SECRET_WORDS.iter().any(|word| text.contains(&format!("{word}=")))
}

fn variable(name: &str, environment: Lookup<'_>) -> std::result::Result<Zeroizing<String>, String> {
    let value = environment(name).filter(|value| !value.is_empty());
    let value = value.ok_or_else(|| format!("the variable {name} is not set"))?;
    value.into_string().map(Zeroizing::new).map_err(|_| format!("the variable {name} is not UTF-8"))
}

fn credential(name: &str, environment: Lookup<'_>) -> std::result::Result<PathBuf, String> {
    if name.is_empty() || name.contains('/') || matches!(name, "." | "..") {
        return Err(format!("{name:?} is no name of a credential"));
    }
    let directory = environment(CREDENTIALS).filter(|directory| !directory.is_empty());
    let directory = directory.ok_or_else(|| {
        format!("there is no credential {name}: {CREDENTIALS} is not set, as systemd sets it for a unit with LoadCredential")
    })?;
    Ok(Path::new(&directory).join(name))
}

fn first_line(path: &Path) -> std::result::Result<Zeroizing<String>, String> {
    let mut text = Zeroizing::new(String::new());
    let read = File::open(path).and_then(|file| file.take(MAX_SECRET).read_to_string(&mut text));
    read.map_err(|error| format!("{}: {error}", path.display()))?;
    line_of(&text).ok_or_else(|| format!("the first line of {} is empty", path.display()))
}

fn printed(words: &[String]) -> std::result::Result<Zeroizing<String>, String> {
    let (program, arguments) = words.split_first().ok_or("its command is empty")?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    let bytes = printed_in_time(&mut command, LIMIT)
        .map_err(|reason| format!("its command {program} {reason}"))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| "its command prints no UTF-8")?;
    line_of(text).ok_or_else(|| "its command prints nothing".to_owned())
}

/// What a command prints that is to give a secret; it has a minute.
pub fn printed_secret(command: &mut Command) -> std::result::Result<Zeroizing<Vec<u8>>, String> {
    printed_in_time(command, LIMIT)
}

fn printed_in_time(
    command: &mut Command,
    limit: Duration,
) -> std::result::Result<Zeroizing<Vec<u8>>, String> {
    let until = Instant::now() + limit;
    command.stdout(Stdio::piped()).stderr(Stdio::inherit());
    // who may ask at a terminal has to stay in its foreground; elsewhere all that the command starts is ended with it
    let alone = File::open("/dev/tty").is_err();
    if alone {
        command.process_group(0);
    }
    let mut child = command.spawn().map_err(|error| format!("cannot be run: {error}"))?;
    let read = child.stdout.take().map(|mut stdout| read_until(&mut stdout, until));
    let read = read.unwrap_or_else(|| Ok(Zeroizing::default()));
    match read.and_then(|bytes| Ok((wait_until(&mut child, until)?, bytes))) {
        Ok((status, bytes)) if status.success() => Ok(bytes),
        Ok((status, _)) => Err(format!("failed: {status}")),
        Err(error) => {
            // it was not reaped yet: so its group's number cannot be somebody else's
            if let Some(group) = Pid::from_raw(child.id().cast_signed()).filter(|_| alone) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = child.kill();
            let _ = child.wait();
            Err(match error.kind() {
                io::ErrorKind::TimedOut => {
                    format!("took longer than {} s, and was ended", limit.as_secs_f64())
                }
                _ => format!("cannot be read: {error}"),
            })
        }
    }
}

fn wait_until(child: &mut Child, until: Instant) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= until {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// All that comes until the other side closes the pipe.
fn read_until(pipe: &mut ChildStdout, until: Instant) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_SECRET as usize));
    let mut buffer = Zeroizing::new([0; 4096]);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&*pipe, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        match pipe.read(&mut *buffer)? {
            0 => return Ok(bytes),
            read if bytes.len() + read > MAX_SECRET as usize => {
                return Err(io::Error::other(format!("it prints more than {MAX_SECRET} bytes")));
            }
            read => bytes.extend_from_slice(&buffer[..read]),
        }
    }
}

fn line_of(text: &str) -> Option<Zeroizing<String>> {
    let line = text.lines().next().filter(|line| !line.is_empty())?;
    Some(Zeroizing::new(line.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::value::Command;
    use super::*;

    #[test]
    fn secrets_are_read_from_where_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("password");
        std::fs::write(&file, "from file\r\nsecond line\n").unwrap();
        let environment = |name: &str| match name {
            "PASSWORD" => Some("from environment".into()),
            CREDENTIALS => Some(directory.path().as_os_str().to_owned()),
            _ => None,
        };
        let shell = Command::Shell("echo from command; echo more".into());
        for (reference, expected) in [
            (Reference::File(file.clone()), "from file"),
            (Reference::Environment("PASSWORD".into()), "from environment"),
            (Reference::Command(shell), "from command"),
            (Reference::Credential("password".into()), "from file"),
        ] {
            let secret = Secret::Reference(reference);
            assert_eq!(secret.read("password", &environment).unwrap().as_str(), expected);
        }
        let text = Secret::Text("hush".into());
        assert_eq!(text.read("password", &environment).unwrap().as_str(), "hush");
        assert!(!format!("{text:?}").contains("hush"));
    }

    #[test]
    fn an_absent_secret_names_its_key_and_its_place() {
        for (reference, place) in [
            (Reference::File("/nowhere/at/all".into()), "/nowhere/at/all"),
            (Reference::Environment("NOT_SET".into()), "NOT_SET"),
            (Reference::Command(Command::Shell("exit 3".into())), "exit status: 3"),
            (Reference::Command(Command::Program(Vec::new())), "empty"),
            (Reference::Command(Command::Shell("true".into())), "prints nothing"),
            (Reference::Credential("x".into()), "CREDENTIALS_DIRECTORY"),
            (Reference::Credential("../x".into()), "no name"),
        ] {
            let error = Secret::Reference(reference).read("a.b", &|_| None).unwrap_err();
            assert_eq!(error.kind, ErrorKind::WrongKey);
            assert!(error.message.contains("`a.b`") && error.message.contains(place), "{error}");
        }
    }

    /// With what it started, and however much of it was printed.
    #[test]
    fn a_command_that_gives_no_secret_in_time_is_ended() {
        let limit = Duration::from_millis(300);
        for text in
            ["sleep 60", "echo half; exec >&-; sleep 60", "sleep 60 & wait", "echo x; sleep 60"]
        {
            let began = Instant::now();
            let mut command = std::process::Command::new("/bin/sh");
            let outcome = printed_in_time(command.args(["-c", text]), limit);
            assert_eq!(outcome.unwrap_err(), "took longer than 0.3 s, and was ended", "{text}");
            assert!(began.elapsed() < Duration::from_secs(30), "{text}");
        }
        let mut endless = std::process::Command::new("yes");
        assert!(
            printed_in_time(&mut endless, LIMIT).unwrap_err().contains("more than 65536 bytes")
        );
    }

    #[test]
    fn a_text_is_a_setting_only_in_the_environment_of_a_source_and_under_a_harmless_name() {
        let of_source = |name: &str| format!("profiles.web.sources[0].environment.{name}");
        for name in ["LANG", "PGDATABASE", "PWD", "\"odd name\"", "TOKEN_FILE", "PGPASSFILE"] {
            assert!(is_setting(&of_source(name), "x"), "{name}");
        }
        for name in
            ["PGPASSWORD", "MYSQL_PWD", "REDISCLI_AUTH", "api_key", "\"my token\"", "B2_KEY"]
        {
            assert!(!is_setting(&of_source(name), "x"), "{name}");
        }
        for (text, is) in [
            ("https://example.org/a@b:c", true),
            ("https://user@example.org", true),
            ("postgres://me:hu/sh@db/shop", false),
            ("host=db user=me password=hush", false),
        ] {
            assert_eq!(is_setting(&of_source("PLACE"), text), is, "{text}");
        }
        for path in [
            "profiles.web.sources[0].preset.password",
            "repositories.r.environment.REGION",
            "notify.ping",
        ] {
            assert!(!is_setting(path, "x"), "{path}");
        }
    }

    #[test]
    fn a_file_that_others_read_is_exposed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let set = |mode| {
            std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            exposed(file.path())
        };
        assert_eq!(set(0o600), None);
        assert!(set(0o640).unwrap().contains(&format!("chmod 600 {}", file.path().display())));
        assert_eq!(exposed(Path::new("/nowhere/at/all")), None);
    }
}
