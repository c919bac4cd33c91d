//! How an object gets its key: looked for, written under another name, synced, and placed so that nothing is replaced.

use bytes::Bytes;

use super::refusal::length_of;
use super::session::{Failure, Handle, Pending, Session, Tried};
use super::sync::{open_directories, sync_all, synced};
use super::wire::{self, CREATE_NEW, FAILURE, NO_SUCH_FILE, PERMISSION_DENIED, READ, Request};
use super::{SftpStore, transfer};
use crate::store::ErrorKind;
use crate::store::remote::temporary;

/// Directories are made anew so often while others remove them.
const PUBLISH_TRIES: usize = 100;

/// How a key came to be taken.
enum Placed {
    /// The temporary name is there as well.
    Linked,
    Renamed,
    /// Somebody else put the same object.
    There,
}

impl SftpStore {
    pub(super) fn put_new(&self, session: &Session, key: &str, object: &Bytes) -> Tried<()> {
        let temporary = temporary::name(&self.url);
        let temporary = temporary.map_err(|e| Failure::Is(e.kind(), e.to_string()))?;
        let temporary = self.path(&temporary);
        let placed = self
            .write(session, &temporary, object)
            .and_then(|()| self.publish(session, &temporary, key, object))
            .map_err(|failure| self.why(session, failure, object.len()));
        // what stays is tidied up some day
        let removed = match placed {
            Ok(Placed::Renamed) => None,
            _ => session.ask(&Request::Remove(&temporary)).ok(),
        };
        let done = placed.and_then(|_| self.sync_above(session, key));
        let _ = removed.map(Pending::done);
        done
    }

    /// Whether exactly these bytes are there, durably; other bytes are [`ErrorKind::Exists`].
    pub(super) fn is_there(&self, session: &Session, key: &str, object: &Bytes) -> Tried<bool> {
        let path = self.path(key);
        let other = || Failure::Is(ErrorKind::Exists, String::new());
        match session.ask(&Request::Stat(&path))?.attributes() {
            Err(failure) if failure.has_code(NO_SUCH_FILE) => return Ok(false),
            result => match length_of(result?) {
                Ok(length) if length == object.len() as u64 => {}
                _ => return Err(other()),
            },
        }
        let handle = session.ask(&Request::Open(&path, READ))?.handle()?;
        if transfer::read(session, &handle, 0, object.len() as u64, &self.limits)? != object {
            return Err(other());
        }
        // whoever put it may not have synced it yet, and we are about to say that it is durable
        if session.offers.sync {
            synced(session.ask(&Request::Sync(handle.name()))?.done())?;
        }
        Ok(true)
    }

    /// Writes an object to a temporary file, all of it and to the disk.
    fn write(&self, session: &Session, path: &str, object: &Bytes) -> Tried<()> {
        let handle = self.create(session, path)?;
        transfer::write(session, &handle, object, &self.limits)?;
        let sync = match session.offers.sync {
            true => Some(session.ask(&Request::Sync(handle.name()))?),
            false => None,
        };
        let stat = session.ask(&Request::StatHandle(handle.name()))?;
        let closed = handle.close();
        sync.map_or(Ok(()), |sync| synced(sync.done()))?;
        match stat.attributes()?.length {
            Some(length) if length != object.len() as u64 => {
                let words = format!("{length} bytes of {} arrived", object.len());
                Err(Failure::Is(ErrorKind::Temporary, words))
            }
            _ => closed,
        }
    }

    fn create<'a>(&self, session: &'a Session, path: &str) -> Tried<Handle<'a>> {
        for _ in 0..PUBLISH_TRIES {
            match session.ask(&Request::Open(path, CREATE_NEW))?.handle() {
                Err(failure) if failure.has_code(NO_SUCH_FILE) => {
                    self.make_directories(session, path)?;
                }
                result => return result,
            }
        }
        Err(keeps_disappearing())
    }

    /// A full disk, if that is why something could not be written.
    fn why(&self, session: &Session, failure: Failure, bytes: usize) -> Failure {
        if !(failure.has_code(FAILURE) && session.offers.space) {
            return failure;
        }
        let root = self.path("");
        let answer = session.ask(&Request::Space(&root)).and_then(Pending::extended);
        match answer.ok().and_then(wire::parse_space) {
            Some((free, files)) if free < bytes as u64 || !files => {
                Failure::Is(ErrorKind::Full, "the server's disk is full".to_owned())
            }
            _ => failure,
        }
    }

    /// Gives a finished file its key, making directories as needed.
    fn publish(
        &self,
        session: &Session,
        temporary: &str,
        key: &str,
        object: &Bytes,
    ) -> Tried<Placed> {
        let path = self.path(key);
        for _ in 0..PUBLISH_TRIES {
            let failure = match place(session, temporary, &path) {
                Err(failure @ Failure::Refused(_)) => failure,
                result => return result,
            };
            match failure {
                failure if failure.has_code(NO_SUCH_FILE) => {
                    self.make_directories(session, &path)?
                }
                // taken since we looked: fine if by the same bytes
                _ if self.is_there(session, key, object)? => return Ok(Placed::There),
                failure => return Err(failure),
            }
        }
        Err(keeps_disappearing())
    }

    /// Makes all directories above a path. Others make them too, and remove them, which the next try finds out.
    fn make_directories(&self, session: &Session, path: &str) -> Tried<()> {
        let above = path.match_indices('/').map(|(end, _)| &path[..end]).filter(|p| !p.is_empty());
        let asked: Tried<Vec<(&str, Pending<'_>)>> = above
            .map(|directory| Ok((directory, session.ask(&Request::MakeDirectory(directory))?)))
            .collect();
        let (mut above_root, mut last, mut denied) = (Vec::new(), Ok(()), None);
        for (directory, pending) in asked? {
            if let Err(failure) = std::mem::replace(&mut last, pending.done())
                && failure.has_code(PERMISSION_DENIED)
            {
                denied.get_or_insert(failure);
            }
            match &last {
                Ok(()) if directory.len() <= self.root.len() => {
                    let end = directory.rfind('/').unwrap_or_default();
                    above_root.push(directory[..end.max(1)].to_owned());
                }
                Ok(()) | Err(Failure::Refused(_)) => {}
                Err(_) => break,
            }
        }
        if session.offers.sync {
            // as far as the server lets us: not all of them are ours
            sync_all(session, &open_directories(session, &above_root)?).or_else(unless_refused)?;
        }
        match (last, denied) {
            // what it would lie in is missing, and may not be made
            (Err(failure), Some(denied)) if failure.has_code(NO_SUCH_FILE) => Err(denied),
            (Err(failure), _) if !failure.has_code(NO_SUCH_FILE) && !failure.has_code(FAILURE) => {
                Err(failure)
            }
            _ => Ok(()),
        }
    }
}

/// Gives a file a name that is free: beside the one it has, or, where the server does not do that, instead of it.
fn place(session: &Session, temporary: &str, path: &str) -> Tried<Placed> {
    if session.offers.link {
        match session.ask(&Request::Link(temporary, path))?.done() {
            Ok(()) => return Ok(Placed::Linked),
            Err(failure @ Failure::Refused(_)) if !failure.has_code(NO_SUCH_FILE) => {
                // It says as little when the name is taken as when there are no links. A server that has links may
                // have a rename that replaces.
                match session.ask(&Request::Stat(path))?.attributes() {
                    Err(stat) if stat.has_code(NO_SUCH_FILE) => {}
                    _ => return Err(failure),
                }
            }
            Err(failure) => return Err(failure),
        }
    }
    session.ask(&Request::Rename(temporary, path))?.done().map(|()| Placed::Renamed)
}

fn unless_refused(failure: Failure) -> Tried<()> {
    match failure {
        Failure::Refused(_) => Ok(()),
        failure => Err(failure),
    }
}

fn keeps_disappearing() -> Failure {
    Failure::Is(ErrorKind::Temporary, "its directory keeps disappearing".to_owned())
}
