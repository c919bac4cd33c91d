//! `SNAPSHOT[:PATH]`, as people type it, and the options that narrow it down.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use clap::Args;

use super::values;
use crate::repository::{self, Error, ErrorKind};
use crate::select::{Filter, Wanted};

#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Which snapshots")]
pub struct Narrow {
    /// Only snapshots of this host
    #[arg(long, value_name = "NAME")]
    pub host: Vec<String>,

    /// Only snapshots of this profile
    #[arg(long, value_name = "NAME")]
    pub profile: Vec<String>,

    /// Only snapshots that save this path or stream; `restore` takes only that from them
    #[arg(long, value_name = "PATH|NAME")]
    pub source: Vec<OsString>,

    /// Only snapshots with this tag; all of them when given several times
    #[arg(long, value_name = "TAG")]
    pub tag: Vec<String>,
}

impl Narrow {
    pub fn filter(&self) -> Filter {
        Filter {
            hosts: self.host.clone(),
            profiles: self.profile.clone(),
            sources: self.source.iter().map(|source| source.clone().into_vec()).collect(),
            tags: self.tag.clone(),
        }
    }
}

/// The tree key of a source: below `files` for an absolute path, else its name.
pub fn source_key(source: &OsStr) -> repository::Result<Vec<u8>> {
    let bytes = source.as_bytes();
    if bytes.first() == Some(&b'/') {
        return Ok(inside(b"files", bytes));
    }
    if bytes.is_empty() || bytes == b"files" || bytes.contains(&b'/') {
        let message =
            format!("{source:?} is no source: write an absolute path, or a stream's name");
        return Err(Error::new(ErrorKind::Usage, message));
    }
    Ok(bytes.to_vec())
}

/// A snapshot, and perhaps a place inside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotPath {
    pub wanted: Wanted,
    /// What was typed behind the colon.
    pub path: Option<Vec<u8>>,
}

impl SnapshotPath {
    /// The key in the tree of the place inside: `/etc` is `files/etc`, `NAME`
    /// a stream, `NAME:/x` what lies in it.
    pub fn key(&self) -> Option<Vec<u8>> {
        let path = self.path.as_deref()?;
        if path.first() == Some(&b'/') {
            return Some(inside(b"files", path));
        }
        let colon = path.iter().position(|&byte| byte == b':').unwrap_or(path.len());
        Some(inside(&path[..colon], path.get(colon + 1..).unwrap_or_default()))
    }
}

/// Components below a first one, joined as keys are.
fn inside(first: &[u8], path: &[u8]) -> Vec<u8> {
    let components = path.split(|&byte| byte == b'/').filter(|c| !c.is_empty() && *c != b".");
    let mut key = first.to_vec();
    for component in components {
        key.push(0);
        key.extend_from_slice(component);
    }
    key
}

/// Parses `SNAPSHOT[:PATH]`.
pub fn parse(text: &OsStr) -> repository::Result<SnapshotPath> {
    split(text).map_err(|reason| Error::new(ErrorKind::Usage, reason))
}

fn split(text: &OsStr) -> Result<SnapshotPath, String> {
    let bytes = text.as_bytes();
    // A time has colons of its own: the longest beginning that is a name counts.
    let ends = (0..bytes.len()).rev().filter(|&at| bytes[at] == b':');
    let mut reason = String::new();
    if bytes.starts_with(b"latest@") {
        for end in std::iter::once(bytes.len()).chain(ends) {
            match wanted(&bytes[..end]) {
                Ok(wanted) => return Ok(SnapshotPath { wanted, path: rest(bytes, end)? }),
                Err(error) if reason.is_empty() => reason = error,
                Err(_) => {}
            }
        }
        return Err(reason);
    }
    let end = bytes.iter().position(|&byte| byte == b':').unwrap_or(bytes.len());
    Ok(SnapshotPath { wanted: wanted(&bytes[..end])?, path: rest(bytes, end)? })
}

/// Parses a snapshot without a path.
pub fn parse_snapshot(text: &str) -> repository::Result<Wanted> {
    match parse(OsStr::new(text))? {
        SnapshotPath { wanted, path: None } => Ok(wanted),
        _ => {
            let message = format!("{text:?}: a snapshot is meant here, without a path");
            Err(Error::new(ErrorKind::Usage, message))
        }
    }
}

fn rest(bytes: &[u8], end: usize) -> Result<Option<Vec<u8>>, String> {
    match bytes.get(end + 1..) {
        None => Ok(None),
        Some([]) => Err("a path must follow the colon".to_owned()),
        Some(path) if path.split(|&b| b == b'/').any(|c| c == b"..") => {
            Err("a path inside a snapshot has no ..".to_owned())
        }
        Some(path) => Ok(Some(path.to_vec())),
    }
}

fn wanted(bytes: &[u8]) -> Result<Wanted, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "no snapshot has such a name".to_owned())?;
    if text == "latest" {
        return Ok(Wanted::Latest { back: 0 });
    }
    if let Some(back) = text.strip_prefix("latest~") {
        let back = back.parse().map_err(|_| format!("{text:?}: write latest~2"))?;
        return Ok(Wanted::Latest { back });
    }
    match text.strip_prefix("latest@") {
        Some(time) => values::time(time).map(Wanted::LatestAt),
        None if text.is_empty() => Err("the snapshot's name is empty".to_owned()),
        None => Ok(Wanted::Named(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was typed, and the key it means.
    fn check(text: &str, expected: Wanted, key: Option<&str>) {
        let parsed = parse(OsStr::new(text)).unwrap();
        assert_eq!(parsed.wanted, expected, "{text}");
        let key = key.map(|key| key.replace('|', "\0").into_bytes());
        assert_eq!(parsed.key(), key, "{text}");
    }

    #[test]
    fn snapshots_and_paths_are_told_apart() {
        let latest = || Wanted::Latest { back: 0 };
        let named = |name: &str| Wanted::Named(name.to_owned());
        check("latest", latest(), None);
        check("latest~3", Wanted::Latest { back: 3 }, None);
        check("latest:/", latest(), Some("files"));
        check("latest:/etc//./ssh/", latest(), Some("files|etc|ssh"));
        check("a1b2:/with:colon", named("a1b2"), Some("files|with:colon"));
        check("monday:dump.sql", named("monday"), Some("dump.sql"));
        check("monday:db:/x/y", named("monday"), Some("db|x|y"));
        let time = Wanted::LatestAt(1000);
        check("latest@1970-01-01T00:00:01Z", time.clone(), None);
        check("latest@1970-01-01T00:00:01Z:/etc", time.clone(), Some("files|etc"));
        check("latest@1970-01-01T00:00:01Z:db:/x", time, Some("db|x"));
    }

    #[test]
    fn sources_have_keys() {
        let key = |text: &str| source_key(OsStr::new(text)).ok();
        assert_eq!(key("/etc/ssh/"), Some(b"files\0etc\0ssh".to_vec()));
        assert_eq!(key("/"), Some(b"files".to_vec()));
        assert_eq!(key("db"), Some(b"db".to_vec()));
        for text in ["", "files", "a/b"] {
            assert_eq!(key(text), None, "{text}");
        }
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for text in ["", ":/etc", "latest:", "latest~x", "latest@noon", "latest:/a/../b"] {
            assert!(parse(OsStr::new(text)).is_err(), "{text}");
        }
        assert!(parse_snapshot("latest:/etc").is_err());
    }
}
