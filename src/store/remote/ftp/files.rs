//! Questions about files and directories, answered so that a refusal is never taken for an absence.
//!
//! Servers say 550 for both. Whether something is absent is therefore asked of the directory that it would lie in, up to
//! the root, unless the server's own words leave no doubt.

use super::connection::Connection;
use super::listing::{self, Entry, Found};
use super::reply::Failure;
use crate::store::ErrorKind;

impl Connection {
    /// The length of the file at a path; `None` if there is none.
    pub(super) fn look(&mut self, path: &str) -> Result<Option<u64>, Failure> {
        let command = if self.facts { "MLST" } else { "SIZE" };
        match self.ask(&format!("{command} {path}")) {
            Ok(reply) if !self.facts => {
                if let Some(length) = reply.number() {
                    return Ok(Some(length));
                }
            }
            Ok(reply) => match listing::of_reply(&reply.text) {
                Some(Found::File(length)) => return Ok(Some(length)),
                Some(Found::Directory) => return Ok(None),
                Some(Found::Other) | None => {}
            },
            Err(Failure::Refused(reply)) if reply.tells_absence() => return Ok(None),
            Err(Failure::Refused(_)) => {}
            Err(failure) => return Err(failure),
        }
        self.look_in_listing(path)
    }

    fn look_in_listing(&mut self, path: &str) -> Result<Option<u64>, Failure> {
        match self.find(path)? {
            Some(Found::File(length)) => Ok(Some(length)),
            Some(Found::Directory) | None => Ok(None),
            Some(Found::Other) => Err(not_plain(path)),
        }
    }

    /// What the directory above says of a path; `None` if there is no such name in it, or no such directory.
    fn find(&mut self, path: &str) -> Result<Option<Found>, Failure> {
        let (parent, name) = split(path);
        let entries = self.list(parent)?.unwrap_or_default();
        Ok(entries.into_iter().find(|entry| entry.name == name).map(|entry| entry.found))
    }

    /// Everything in a directory; `None` if there is no such directory. The root's path is empty.
    pub(super) fn list(&mut self, directory: &str) -> Result<Option<Vec<Entry>>, Failure> {
        match self.entries(directory) {
            Err(Failure::Refused(reply)) if reply.class() == 5 => {
                if self.is_absent(directory)? {
                    return Ok(None);
                }
                // perhaps it was made a moment ago
                self.entries(directory).map(Some)
            }
            result => result.map(Some),
        }
    }

    fn entries(&mut self, directory: &str) -> Result<Vec<Entry>, Failure> {
        match self.facts {
            true => self.lines(&format!("MLSD {}", or_root(directory)), listing::of_facts),
            false => self.list_in_lines(directory),
        }
    }

    fn is_absent(&mut self, directory: &str) -> Result<bool, Failure> {
        if directory.is_empty() {
            return Ok(false);
        }
        // a file is no directory
        Ok(matches!(self.find(directory)?, None | Some(Found::File(_))))
    }

    /// Without `MLSD`. Some servers call a listing done when they could not open the directory: if all names are shown,
    /// the directory's own is the proof that they did.
    fn list_in_lines(&mut self, directory: &str) -> Result<Vec<Entry>, Failure> {
        let mut entries = self.list_all(directory)?;
        if !entries.iter().any(is_own) {
            entries = self.lines("LIST", listing::of_list)?;
            if entries.is_empty() && self.list_all("")?.iter().any(is_own) {
                let words = "the server does not open this directory".to_owned();
                return Err(Failure::Told(ErrorKind::Permission, words));
            }
        }
        entries.retain(|entry| !is_own(entry));
        Ok(entries)
    }

    /// Nothing, where `-a` means something else.
    fn list_all(&mut self, directory: &str) -> Result<Vec<Entry>, Failure> {
        self.ask(&format!("CWD {}", or_root(directory)))?;
        match self.lines("LIST -a", listing::of_list) {
            Err(Failure::Refused(_)) => Ok(Vec::new()),
            result => result,
        }
    }

    /// Removes a file; that it is absent is fine.
    pub(super) fn remove(&mut self, path: &str) -> Result<(), Failure> {
        match self.ask(&format!("DELE {path}")) {
            Err(Failure::Refused(reply)) if reply.class() == 5 => match self.look(path)? {
                None => Ok(()),
                Some(_) => Err(Failure::Refused(reply)),
            },
            result => result.map(|_| ()),
        }
    }

    /// Goes to a directory; `false` if that cannot be done.
    pub(super) fn enter(&mut self, directory: &str) -> Result<bool, Failure> {
        match self.ask(&format!("CWD {}", or_root(directory))) {
            Ok(_) => Ok(true),
            Err(Failure::Refused(_)) => Ok(false),
            Err(failure) => Err(failure),
        }
    }
}

/// Whether it is a name of the directory itself or of the one above.
fn is_own(entry: &Entry) -> bool {
    matches!(&*entry.name, "." | "..")
}

pub(super) fn not_plain(path: &str) -> Failure {
    let words = format!("{} is neither a file nor a directory", path.escape_debug());
    Failure::Told(ErrorKind::Permanent, words)
}

/// The directory that a path lies in, and its name there. The root is the empty path.
pub(super) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn or_root(directory: &str) -> &str {
    if directory.is_empty() { "/" } else { directory }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_split() {
        assert_eq!(split("/a/b/c"), ("/a/b", "c"));
        assert_eq!(split("/a"), ("", "a"));
        assert_eq!(or_root(split("/a").0), "/");
    }
}
