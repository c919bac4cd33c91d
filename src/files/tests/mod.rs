//! Tests of the outside world, in temporary directories. Some need root, and
//! say so by doing less without it.

mod read;
mod target;
mod walk;

use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{Found, Item, LeftOut, WalkCounts, WalkOptions};

pub fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What a walk told, taken apart.
#[derive(Default)]
pub struct Told {
    pub found: Vec<Found>,
    pub failed: Vec<(Vec<u8>, Option<usize>)>,
    pub left_out: Vec<(Vec<u8>, LeftOut)>,
    pub counts: WalkCounts,
}

impl Told {
    pub fn of(roots: &[PathBuf], options: &WalkOptions) -> Told {
        let mut told = Told::default();
        told.counts = super::walk(roots, options, &mut |item| {
            match item {
                Item::Found(found) => told.found.push(found),
                Item::Failed { path, root_missing, .. } => told.failed.push((path, root_missing)),
                Item::LeftOut { path, why } => told.left_out.push((path, why)),
            }
            ControlFlow::Continue(())
        });
        told
    }

    /// Paths beneath `base`, in the order told, `>` before implied parents.
    pub fn below(&self, base: &Path) -> Vec<String> {
        let base = bytes(base);
        let name = |found: &Found| {
            let rest = found.path.strip_prefix(base.as_slice())?;
            let sign = if found.implied_parent { ">" } else { "" };
            Some(format!("{sign}{}", String::from_utf8_lossy(rest)))
        };
        self.found
            .iter()
            .filter_map(name)
            .filter(|name| !name.trim_start_matches('>').is_empty())
            .collect()
    }

    pub fn get(&self, path: &Path) -> &Found {
        let path = bytes(path);
        self.found.iter().find(|found| found.path == path).expect("it was found")
    }

    pub fn why(&self, path: &Path) -> Option<LeftOut> {
        let path = bytes(path);
        self.left_out.iter().find(|(left, _)| *left == path).map(|(_, why)| *why)
    }
}

/// Makes a chain of `depth` directories beneath `base` with a file at its end,
/// and returns the file's path beneath `base`.
pub fn deep_chain(base: &Path, depth: usize) -> Vec<u8> {
    use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
    let name = "d".repeat(100);
    let mut path = Vec::new();
    let mut handle = openat(CWD, base, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..depth {
        mkdirat(&handle, name.as_str(), Mode::RWXU).unwrap();
        handle = openat(&handle, name.as_str(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
            .unwrap();
        path.extend_from_slice(name.as_bytes());
        path.push(b'/');
    }
    let file = openat(&handle, "end", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
    rustix::io::write(&file, b"deep").unwrap();
    path.extend_from_slice(b"end");
    path
}
