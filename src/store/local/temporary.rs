//! Files in `tmp/`: written, synced, then moved to their key or removed; and those that a crash left behind.
//!
//! No clock decides that a file is left behind. Its name says on which machine, in which boot, and by which process it
//! was written, and it is removed only when that process has certainly ended.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;

use rustix::fs::{self, AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use super::super::key::TEMPORARY;
use super::{DIRECTORY_MODE, open_at};

/// A file in `tmp/` that is removed when this value goes, unless it got its key meanwhile.
pub(super) struct Temporary<'a> {
    root: BorrowedFd<'a>,
    path: String,
}

impl<'a> Temporary<'a> {
    /// Writes a file and makes its bytes durable; nothing is left of it after an error.
    pub(super) fn write(root: BorrowedFd<'a>, object: &[u8]) -> io::Result<Temporary<'a>> {
        let path = format!("{TEMPORARY}/{}-{}", Owner::this_process().name(), random_hex()?);
        let mut file = match create(root, &path) {
            Err(Errno::NOENT) => {
                make_directory(root)?;
                create(root, &path)?
            }
            result => result?,
        };
        let temporary = Temporary { root, path };
        file.write_all(object)?;
        // Delayed allocation: a full disk may show only here. After a failed sync the file is of no use to anybody.
        file.sync_all()?;
        Ok(temporary)
    }

    /// Beneath the root.
    pub(super) fn path(&self) -> &str {
        &self.path
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        // After a successful put the name is gone already. One that cannot be removed waits for `clean`.
        let _ = fs::unlinkat(self.root, &self.path, AtFlags::empty());
    }
}

fn create(root: BorrowedFd<'_>, path: &str) -> rustix::io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    rustix::io::retry_on_intr(|| fs::openat(root, path, flags, mode)).map(File::from)
}

fn make_directory(root: BorrowedFd<'_>) -> io::Result<()> {
    match fs::mkdirat(root, TEMPORARY, DIRECTORY_MODE) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn random_hex() -> io::Result<String> {
    let random = getrandom::u64().map_err(io::Error::other)?;
    Ok(format!("{random:016x}"))
}

/// Removes the files of processes that have ended; returns how many. Names it does not understand stay.
pub(super) fn clean(root: BorrowedFd<'_>) -> io::Result<u64> {
    let directory =
        match open_at(root, TEMPORARY, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            result => result?,
        };
    let mut removed = 0;
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let owner = entry.file_name().to_str().ok().and_then(Owner::parse);
        if !owner.is_some_and(|owner| owner.has_ended(Owner::this_process())) {
            continue;
        }
        match fs::unlinkat(directory.as_fd(), entry.file_name(), AtFlags::empty()) {
            Ok(()) => removed += 1,
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(removed)
}

/// Who writes a temporary file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Owner {
    /// hash of machine id and host name
    machine: String,
    /// the kernel's boot id
    boot: String,
    /// process ids mean nothing outside their namespace
    namespace: String,
    process: i32,
}

/// What stands for a fact the system did not tell; nothing can be concluded from it.
const UNKNOWN: &str = "unknown";

impl Owner {
    fn this_process() -> &'static Owner {
        static THIS: OnceLock<Owner> = OnceLock::new();
        THIS.get_or_init(|| {
            let read =
                |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
            let hash = |text: String| blake3::hash(text.as_bytes()).to_hex()[..16].to_owned();
            let machine = read("/etc/machine-id").zip(read("/proc/sys/kernel/hostname"));
            let namespace = std::fs::read_link("/proc/self/ns/pid").ok();
            let known = |fact: Option<String>| fact.map_or(UNKNOWN.to_owned(), hash);
            Owner {
                machine: known(machine.map(|(id, name)| format!("{id} {name}"))),
                boot: known(read("/proc/sys/kernel/random/boot_id")),
                namespace: known(namespace.map(|link| link.to_string_lossy().into_owned())),
                process: rustix::process::getpid().as_raw_nonzero().get(),
            }
        })
    }

    fn name(&self) -> String {
        format!("{}-{}-{}-{}", self.machine, self.boot, self.namespace, self.process)
    }

    fn parse(name: &str) -> Option<Owner> {
        let mut parts = name.split('-');
        let mut part = || parts.next().map(str::to_owned);
        let (machine, boot, namespace, process) = (part()?, part()?, part()?, part()?);
        let (_random, None) = (part()?, part()) else { return None };
        Some(Owner { machine, boot, namespace, process: process.parse().ok()? })
    }

    /// Whether this process has certainly ended, seen from `here`.
    fn has_ended(&self, here: &Owner) -> bool {
        let same = |ours: &str, theirs: &str| ours == theirs && ours != UNKNOWN;
        let all_known = ![&self.boot, &here.boot].into_iter().any(|boot| boot == UNKNOWN);
        if !same(&self.machine, &here.machine) || !all_known {
            return false;
        }
        if self.boot != here.boot {
            return true;
        }
        same(&self.namespace, &here.namespace) && !is_alive(self.process)
    }
}

/// A process of somebody else is alive too; so is, to be safe, one whose number was given out again.
fn is_alive(process: i32) -> bool {
    // Rustix panics at negative numbers, and this one comes from a file name.
    match Some(process).filter(|process| *process > 0).and_then(Pid::from_raw) {
        Some(process) => test_kill_process(process) != Err(Errno::SRCH),
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn owner(machine: &str, boot: &str, namespace: &str, process: i32) -> Owner {
        Owner { machine: machine.into(), boot: boot.into(), namespace: namespace.into(), process }
    }

    #[test]
    fn names_are_read_back() {
        let this = Owner::this_process();
        assert_eq!(Owner::parse(&format!("{}-00", this.name())).as_ref(), Some(this));
        for name in ["", "a", "a-b-c-1", "a-b-c-x-r", "a-b-c-1-r-s", "notes.txt"] {
            assert_eq!(Owner::parse(name), None, "{name}");
        }
    }

    /// Only a dead process of this boot, or any process of an earlier boot of this machine, has certainly ended.
    #[test]
    fn only_certain_ends_count() {
        let mut child = Command::new("true").spawn().expect("spawn");
        let dead = i32::try_from(child.id()).expect("pid");
        child.wait().expect("wait");
        let alive = rustix::process::getpid().as_raw_nonzero().get();
        let here = owner("m", "b", "n", alive);

        assert!(owner("m", "b", "n", dead).has_ended(&here));
        assert!(owner("m", "earlier", "n", alive).has_ended(&here));

        assert!(!owner("m", "b", "n", alive).has_ended(&here));
        assert!(!owner("m", "b", "n", 1).has_ended(&here), "of another user, but alive");
        assert!(!owner("m", "b", "other", dead).has_ended(&here));
        assert!(!owner("other", "b", "n", dead).has_ended(&here));
        assert!(!owner("other", "earlier", "n", dead).has_ended(&here));
        assert!(!owner("m", UNKNOWN, "n", dead).has_ended(&here));
        assert!(!owner("m", "b", UNKNOWN, dead).has_ended(&owner("m", "b", UNKNOWN, alive)));
        assert!(!owner(UNKNOWN, "earlier", "n", dead).has_ended(&owner(UNKNOWN, "b", "n", alive)));
        for invalid in [0, -1, i32::MIN] {
            assert!(!owner("m", "b", "n", invalid).has_ended(&here));
        }
    }
}
