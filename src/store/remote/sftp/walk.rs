//! A listing: a walk through directories, many of them at once, so that a distant server is not waited for at each.
//!
//! It is complete because a directory that holds an object is never removed or renamed by esker, so it is found and
//! read once. One that vanishes meanwhile was empty, if that is all that vanished: see [`Walk::vanished`].

use std::collections::VecDeque;
use std::time::Instant;

use super::session::{Failure, Handle, Pending, Session, Tried};
use super::sync::synced;
use super::wire::{Kind, NO_SUCH_FILE, Name, READ, Request};
use crate::store::key::is_key;
use crate::store::remote::LONGEST_LISTING;
use crate::store::{ErrorKind, Listed};

/// Directories that are read at once.
const AT_ONCE: usize = 32;

pub(super) struct Walk<'a> {
    session: &'a Session,
    /// where the repository lies
    root: &'a str,
    /// Directories still to be read, by the part of a key that they are: empty, or ending in a slash.
    left: Vec<String>,
    listed: Vec<Listed>,
    began: Instant,
}

/// A directory that is being read.
struct Reading<'a> {
    directory: String,
    stage: Stage<'a>,
}

/// Each stage waits for its first answer.
enum Stage<'a> {
    /// opened for reading, and, where that can be done, for syncing
    Opening(Pending<'a>, Option<Pending<'a>>),
    /// One piece is asked for ahead.
    Entries {
        handle: Handle<'a>,
        asked: [Pending<'a>; 2],
        sync: Option<Pending<'a>>,
    },
    Syncing(Pending<'a>),
}

impl<'a> Walk<'a> {
    pub(super) fn new(session: &'a Session, root: &'a str) -> Walk<'a> {
        Walk { session, root, left: Vec::new(), listed: Vec::new(), began: Instant::now() }
    }

    /// All objects beneath a prefix, sorted by key.
    pub(super) fn list(mut self, prefix: &str) -> Tried<Vec<Listed>> {
        self.left.push(prefix.to_owned());
        let mut under_way = VecDeque::new();
        loop {
            while under_way.len() < AT_ONCE
                && let Some(directory) = self.left.pop()
            {
                under_way.push_back(self.open(directory)?);
            }
            let Some(reading) = under_way.pop_front() else { break };
            let Reading { directory, stage } = reading;
            match self.step(&directory, stage) {
                Ok(None) => {}
                Ok(Some(stage)) => under_way.push_back(Reading { directory, stage }),
                Err(failure) if failure.has_code(NO_SUCH_FILE) => {
                    self.vanished(&directory, prefix)?;
                }
                Err(failure) => return Err(failure),
            }
            if self.began.elapsed() > LONGEST_LISTING {
                let words = format!("no listing within {} seconds", LONGEST_LISTING.as_secs());
                return Err(Failure::Is(ErrorKind::Temporary, words));
            }
        }
        self.listed.sort_unstable();
        Ok(self.listed)
    }

    fn path(&self, directory: &str) -> String {
        let path = format!("{}/{}", self.root, directory);
        match path.trim_end_matches('/') {
            "" => "/".to_owned(),
            path => path.to_owned(),
        }
    }

    fn open(&self, directory: String) -> Tried<Reading<'a>> {
        let path = self.path(&directory);
        let open = self.session.ask(&Request::OpenDirectory(&path))?;
        // What a listing shows must outlast a power loss: others may build on it before its writer has synced it.
        let sync = match self.session.offers.sync {
            true => Some(self.session.ask(&Request::Open(&path, READ))?),
            false => None,
        };
        Ok(Reading { directory, stage: Stage::Opening(open, sync) })
    }

    /// Waits for an answer and asks the next; `None` when the directory is done with.
    fn step(&mut self, directory: &str, stage: Stage<'a>) -> Tried<Option<Stage<'a>>> {
        match stage {
            Stage::Opening(open, sync) => {
                let handle = open.handle();
                if handle.is_err()
                    && let Some(sync) = sync
                {
                    // to be closed, if only that was done
                    let _ = sync.handle();
                    return handle.map(|_| None);
                }
                let handle = handle?;
                let asked = [self.read(&handle)?, self.read(&handle)?];
                Ok(Some(Stage::Entries { handle, asked, sync }))
            }
            Stage::Entries { handle, asked: [first, second], sync } => {
                let names = first.names()?;
                if !names.is_empty() {
                    for name in &names {
                        self.take(directory, name)?;
                    }
                    let asked = [second, self.read(&handle)?];
                    return Ok(Some(Stage::Entries { handle, asked, sync }));
                }
                // where directories cannot be opened, they cannot be synced
                let Some(Ok(handle)) = sync.map(Pending::handle) else { return Ok(None) };
                Ok(Some(Stage::Syncing(self.session.ask(&Request::Sync(handle.name()))?)))
            }
            Stage::Syncing(sync) => synced(sync.done()).map(|()| None),
        }
    }

    fn read(&self, handle: &Handle<'a>) -> Tried<Pending<'a>> {
        self.session.ask(&Request::ReadDirectory(handle.name()))
    }

    /// Takes note of an entry that is an object or holds some.
    fn take(&mut self, directory: &str, name: &Name) -> Tried<()> {
        let Ok(text) = std::str::from_utf8(&name.name) else { return Ok(()) };
        let key = format!("{directory}{text}");
        if !is_key(&key) {
            return Ok(());
        }
        let mut attributes = name.attributes;
        let is_known = match attributes.kind {
            Some(Kind::Directory) => true,
            Some(Kind::File) => attributes.length.is_some(),
            _ => false,
        };
        if !is_known {
            // a link, as `get` follows it, or a server that says less
            attributes = match self.session.ask(&Request::Stat(&self.path(&key)))?.attributes() {
                Err(failure) if failure.has_code(NO_SUCH_FILE) => return Ok(()),
                result => result?,
            };
        }
        match (attributes.kind, attributes.length) {
            // left out, its objects would seem missing; followed, a loop would show them many times
            (Some(Kind::Directory), _) if name.attributes.kind == Some(Kind::Other) => {
                let words = format!("{key} is a link to a directory, which esker does not follow");
                return Err(Failure::Is(ErrorKind::Permanent, words));
            }
            (Some(Kind::Directory), _) => self.left.push(key + "/"),
            (Some(Kind::File), Some(length)) => self.listed.push(Listed { key, length }),
            (None, Some(length)) => self.listed.push(Listed { key, length }),
            _ => {}
        }
        Ok(())
    }

    /// A directory is not there. Where the listing begins, nothing was ever put. Beneath those of the first level,
    /// esker removes directories that are empty; the one above is there all the same. Whatever else has vanished may
    /// have had objects in it: a disk that is no longer mounted.
    fn vanished(&self, directory: &str, prefix: &str) -> Tried<()> {
        if directory == prefix {
            return Ok(());
        }
        let above = directory.trim_end_matches('/').rsplit_once('/');
        if let Some((above, _)) = above {
            let stat = self.session.ask(&Request::Stat(&self.path(above)))?.attributes();
            match stat {
                Ok(_) => return Ok(()),
                Err(failure) if failure.has_code(NO_SUCH_FILE) => {}
                Err(failure) => return Err(failure),
            }
        }
        let words = format!("{directory} vanished while it was listed");
        Err(Failure::Is(ErrorKind::Temporary, words))
    }
}
