//! A home of its own for the program: nothing of the machine's configuration is seen.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::support::program::{self, Run};

pub struct Home {
    directory: TempDir,
}

impl Home {
    /// With a repository, opened by a key file.
    pub fn new() -> Home {
        let home = Home { directory: tempfile::tempdir().unwrap() };
        home.ok(&["init", "--key-file", "key"]);
        home
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().canonicalize().unwrap().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub fn repository(&self) -> PathBuf {
        self.path(".local/share/esker/repository")
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        program::command(self.directory.path(), arguments)
    }

    pub fn run(&self, arguments: &[&str]) -> Run {
        Run::of_bytes(self.command(arguments).output().unwrap())
    }

    /// Runs what must end well.
    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> Run {
        let run = self.run(arguments);
        assert_eq!(run.code, 0, "{arguments:?}: {}", run.err);
        run
    }

    /// Runs what must fail with this code and say this.
    #[track_caller]
    pub fn fails(&self, code: i32, arguments: &[&str], word: &str) {
        let run = self.run(arguments);
        assert_eq!(run.code, code, "{arguments:?}: {}", run.err);
        let last = run.err.lines().last().unwrap_or_default();
        assert!(last.starts_with("esker: ") && last.contains(word), "{arguments:?}: {}", run.err);
    }

    /// Saves bytes as a stream `name`, with paths.
    pub fn save_stream(&self, name: &str, bytes: &[u8], more: &[&str]) {
        let arguments = [&["backup", "--stdin", "--stdin-name", name], more].concat();
        let mut child =
            self.command(&arguments).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(bytes).unwrap();
        let run = Run::of_bytes(child.wait_with_output().unwrap());
        assert_eq!(run.code, 0, "{}", run.err);
    }

    /// Packs of a kind: 1 data, 2 tree.
    pub fn packs(&self, kind: u8) -> Vec<PathBuf> {
        let mut packs = files(&self.repository().join("packs"));
        packs.retain(|path| fs::read(path).unwrap()[6] == kind);
        packs
    }
}

/// All files beneath a directory.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

/// Bytes that do not compress.
pub fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

/// Two directories hold the same.
#[track_caller]
pub fn assert_same(one: &Path, other: &Path) {
    let compared = Command::new("diff").arg("-r").args([one, other]).output().unwrap();
    assert!(compared.status.success(), "{}", String::from_utf8_lossy(&compared.stdout));
}
