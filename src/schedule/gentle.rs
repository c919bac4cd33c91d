//! Runs that nobody waits for let everything else go first, and keep the
//! machine awake while they last. Each is done as far as the machine can.

use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::repository::{Error, Result};

/// The same as `Nice=` in the units that are written.
pub const NICENESS: i32 = 10;

/// Makes this process nice and gives it idle I/O priority. Threads that are
/// started later have both; so this comes first in a process. The I/O priority
/// is set by util-linux's `ionice`, as there is no safe call for it; without
/// that program only the niceness is set.
pub fn yield_to_others() -> Result<()> {
    let niceness = rustix::process::getpriority_process(None).unwrap_or(0);
    if niceness < NICENESS {
        let set = rustix::process::setpriority_process(None, NICENESS);
        set.map_err(|error| Error::failed(format!("niceness cannot be set: {error}")))?;
    }
    let process = std::process::id().to_string();
    let mut ionice = Command::new("ionice");
    let _ = silent(&mut ionice).args(["--class", "3", "--pid", &process]).status();
    Ok(())
}

/// Keeps the machine from going to sleep until it is dropped or this process ends.
#[derive(Debug)]
pub struct Wakefulness {
    child: Child,
    /// The inhibitor lasts as long as this is open.
    stdin: Option<ChildStdin>,
}

/// Asks logind by `systemd-inhibit`. Nothing where there is no such program;
/// where logind is away or refuses, sleep is not kept off either.
pub fn stay_awake(why: &str) -> Option<Wakefulness> {
    stay_awake_by(Path::new("systemd-inhibit"), why)
}

fn stay_awake_by(program: &Path, why: &str) -> Option<Wakefulness> {
    let mut command = Command::new(PathBuf::from(program));
    let why = format!("--why={why}");
    let arguments = ["--what=sleep:idle", "--who=esker", &why, "--mode=block", "cat"];
    let mut child = silent(&mut command).args(arguments).stdin(Stdio::piped()).spawn().ok()?;
    let stdin = child.stdin.take();
    Some(Wakefulness { child, stdin })
}

impl Drop for Wakefulness {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

fn silent(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A stand-in for `systemd-inhibit` notes when it begins and when it ends.
    #[test]
    fn sleep_is_kept_off_until_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let (program, log) = (directory.path().join("inhibit"), directory.path().join("log"));
        let script = format!("echo \"$*\" >'{0}'\ncat\necho over >>'{0}'", log.display());
        let text = directory.path().join("text");
        fs::write(&text, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&text, fs::Permissions::from_mode(0o755)).unwrap();
        // copied by another process: one that this process has open to write cannot be run
        assert!(Command::new("cp").arg("-p").arg(text).arg(&program).status().unwrap().success());
        drop(stay_awake_by(&program, "backup of web").unwrap());
        let expected = "--what=sleep:idle --who=esker --why=backup of web --mode=block cat\nover\n";
        assert_eq!(fs::read_to_string(&log).unwrap(), expected);
    }

    #[test]
    fn a_machine_without_logind_goes_on() {
        assert!(stay_awake_by(Path::new("/nonexistent/inhibit"), "x").is_none());
        drop(stay_awake_by(Path::new("/bin/false"), "x"));
    }
}
