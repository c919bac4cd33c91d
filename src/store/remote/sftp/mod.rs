//! A directory on a machine that is reached by `ssh`, as a [`Store`].
//!
//! One session serves all requests of a process; one that ended is followed by another. `ssh.rs` starts it, `wire.rs`
//! has its messages, `session.rs` brings questions and answers together. Nothing here tries again: that is
//! [`crate::store::Patient`]'s affair.
//!
//! How the contract is held:
//!
//! * An object is written under `tmp/`, synced, and given its key as a second name (a hard link), which fails if the
//!   key is taken: of several writers one wins. Where there are no links it is renamed, with the rename of the protocol,
//!   which must not replace anything. With OpenSSH that holds; of others not all keep it.
//! * Directories are synced as well, before anything is acknowledged or shown (`sync.rs`). Without
//!   `fsync@openssh.com` durability is what the server's operator gives.
//! * A listing is a walk (`walk.rs`).
//!
//! Servers say `Failure` for most of what the operating system told them, a full disk included; so when a write fails,
//! they are asked how much room there is.

mod session;
mod ssh;
mod sync;
mod transfer;
mod turns;
mod walk;
mod wire;

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;

pub use self::ssh::AskPassword;

use self::session::{Failure, Handle, Pending, Session, Tried};
use self::ssh::Ssh;
use self::sync::{open_directories, sync_all, synced};
use self::turns::Turns;
use self::walk::Walk;
use self::wire::{Attributes, CREATE_NEW, FAILURE, Kind, NO_SUCH_FILE, READ, Request, Status};
use super::{explain, temporary};
use crate::store::address::Address;
use crate::store::key::{TEMPORARY, check_key, check_prefix};
use crate::store::{ErrorKind, Limits, Listed, Result, Store, StoreError};

/// Requests of the store at once, unless somebody says otherwise.
const CONNECTIONS: usize = 8;
/// Directories are made anew so often while others remove them.
const PUBLISH_TRIES: usize = 100;

/// Signs, in lower case, that the next try will not go better.
const LASTING: [&str; 5] = [
    "what the server says is no sftp",
    "subsystem request failed",
    "bad configuration option",
    "bad owner or permissions",
    "ssh: not found",
];

pub(super) struct SftpStore {
    url: String,
    /// Where the repository lies: empty for all of the server, or a path without a slash at its end.
    root: String,
    ssh: Ssh,
    limits: Arc<Limits>,
    connections: usize,
    turns: Turns,
    link: Mutex<Link>,
    /// Directories of the first level whose own names are durable: nobody removes those.
    durable: Mutex<HashSet<String>>,
}

/// The way to the server.
#[derive(Default)]
struct Link {
    session: Option<Arc<Session>>,
    /// When there was none to be had last, and why.
    failed: Option<(Instant, ErrorKind, String)>,
}

/// How a key came to be taken.
enum Placed {
    /// The temporary name is there as well.
    Linked,
    Renamed,
    /// Somebody else put the same object.
    There,
}

impl SftpStore {
    /// Nothing is asked of the server yet.
    pub(super) fn new(
        address: &Address,
        ask_password: Option<AskPassword>,
        limits: Arc<Limits>,
        connections: Option<usize>,
    ) -> Result<SftpStore> {
        let url = address.to_string();
        let ssh = Ssh::new(address, ask_password)
            .map_err(|reason| StoreError::new(ErrorKind::Permanent, &url, "").because(reason))?;
        let root = match &*address.path {
            "" => String::new(),
            path => format!("/{path}"),
        };
        let connections = connections.unwrap_or(CONNECTIONS);
        let turns = Turns::new(connections);
        let (link, durable) = (Mutex::default(), Mutex::default());
        Ok(SftpStore { url, root, ssh, limits, connections, turns, link, durable })
    }

    fn path(&self, key: &str) -> String {
        format!("{}/{key}", self.root)
    }

    /// The one place where the server is spoken to: waits for its turn, and gives errors our kind and the object's name.
    fn call<T>(&self, key: &str, work: impl FnOnce(&Session) -> Tried<T>) -> Result<T> {
        let _turn = self.turns.take();
        let result = self.session().and_then(|session| work(&session));
        result.map_err(|failure| self.error(key, failure))
    }

    /// The session, or a new one if it ended.
    fn session(&self) -> Tried<Arc<Session>> {
        let asked = Instant::now();
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = link.session.as_ref().filter(|session| !session.has_ended()) {
            return Ok(Arc::clone(session));
        }
        // who waited meanwhile shares the answer: a wrong password is not to be tried once for each
        if let Some((failed, kind, words)) = &link.failed
            && *failed > asked
        {
            return Err(Failure::Is(*kind, words.clone()));
        }
        link.session = None;
        match self.ssh.connect() {
            Ok(session) => {
                let session = Arc::new(session);
                link.session = Some(Arc::clone(&session));
                Ok(session)
            }
            Err(failure) => {
                let (kind, words) = judged(failure);
                link.failed = Some((Instant::now(), kind, words.clone()));
                Err(Failure::Is(kind, words))
            }
        }
    }

    fn error(&self, key: &str, failure: Failure) -> StoreError {
        let (kind, words) = judged(failure);
        let error = StoreError::new(kind, &self.url, key);
        let error = match explain::reason(&words) {
            Some((meant, sentence)) if meant == kind => error.meaning(sentence),
            _ => error,
        };
        error.because(words)
    }

    fn durable(&self) -> MutexGuard<'_, HashSet<String>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens an object and says how long it is.
    fn open<'a>(&self, session: &'a Session, key: &str) -> Tried<(Handle<'a>, u64)> {
        let path = self.path(key);
        let stat = session.ask(&Request::Stat(&path))?;
        let open = session.ask(&Request::Open(&path, READ))?;
        let (stat, open) = (stat.attributes(), open.handle());
        let length = length_of(stat?)?;
        Ok((open?, length))
    }

    /// Whether exactly these bytes are there, durably; other bytes are [`ErrorKind::Exists`].
    fn is_there(&self, session: &Session, key: &str, object: &Bytes) -> Tried<bool> {
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
        let (mut above_root, mut last) = (Vec::new(), Ok(()));
        for (directory, pending) in asked? {
            last = pending.done();
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
        match last {
            Err(failure) if !failure.has_code(NO_SUCH_FILE) && !failure.has_code(FAILURE) => {
                Err(failure)
            }
            _ => Ok(()),
        }
    }

    /// Makes the names above a key durable, from its directory up to the repository's own.
    fn sync_above(&self, session: &Session, key: &str) -> Tried<()> {
        if !session.offers.sync {
            return Ok(());
        }
        let first = key.split_once('/').map(|(first, _)| first);
        let mut directories = self.above(key);
        if first.is_some_and(|first| self.durable().contains(first)) {
            directories.pop();
        }
        // one that was removed meanwhile, with the object, has nothing left to sync
        sync_all(session, &open_directories(session, &directories)?)?;
        if let Some(first) = first {
            self.durable().insert(first.to_owned());
        }
        Ok(())
    }

    /// The directories above a key, from its own up to the repository's.
    fn above(&self, key: &str) -> Vec<String> {
        let ends = key.rmatch_indices('/').map(|(end, _)| self.path(&key[..end]));
        let root = if self.root.is_empty() { "/" } else { &self.root };
        ends.chain([root.to_owned()]).collect()
    }

    /// Removes directories that a deletion left empty, but none of the first level. Those that are not empty stay.
    fn remove_empty_directories(&self, session: &Session, key: &str) -> Tried<()> {
        for (end, _) in key.rmatch_indices('/').filter(|(end, _)| key[..*end].contains('/')) {
            match session.ask(&Request::RemoveDirectory(&self.path(&key[..end])))?.done() {
                Ok(()) => {}
                Err(Failure::Refused(_)) => return Ok(()),
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    fn put_new(&self, session: &Session, key: &str, object: &Bytes) -> Tried<()> {
        let temporary = temporary::name(&self.url);
        let temporary = temporary.map_err(|e| Failure::Is(e.kind(), e.to_string()))?;
        let temporary = self.path(&temporary);
        let placed = self
            .write(session, &temporary, object)
            .map_err(|failure| self.why(session, failure, object.len()))
            .and_then(|()| self.publish(session, &temporary, key, object));
        // what stays is tidied up some day
        let removed = match placed {
            Ok(Placed::Renamed) => None,
            _ => session.ask(&Request::Remove(&temporary)).ok(),
        };
        let done = placed.and_then(|_| self.sync_above(session, key));
        let _ = removed.map(Pending::done);
        done
    }

    fn remove(&self, session: &Session, key: &str) -> Tried<()> {
        let path = self.path(key);
        match session.ask(&Request::Remove(&path))?.done() {
            Err(failure @ Failure::Refused(_)) if !failure.has_code(NO_SUCH_FILE) => {
                // a directory is no object
                match session.ask(&Request::Stat(&path))?.attributes() {
                    Ok(attributes) if attributes.kind == Some(Kind::Directory) => {}
                    Err(stat) if stat.has_code(NO_SUCH_FILE) => {}
                    _ => return Err(failure),
                }
            }
            Err(failure) if !failure.has_code(NO_SUCH_FILE) => return Err(failure),
            _ => {}
        }
        if session.offers.sync {
            // absent, too: whoever deleted it may not have synced that yet
            let mut handles = open_directories(session, &self.above(key))?;
            handles.truncate(1);
            sync_all(session, &handles)?;
        }
        self.remove_empty_directories(session, key)
    }

    fn remove_old_temporaries(&self, session: &Session) -> Tried<u64> {
        let directory = self.path(TEMPORARY);
        let handle = match session.ask(&Request::OpenDirectory(&directory))?.handle() {
            Err(failure) if failure.has_code(NO_SUCH_FILE) => return Ok(0),
            result => result?,
        };
        let mut removed = 0;
        loop {
            let names = session.ask(&Request::ReadDirectory(handle.name()))?.names()?;
            if names.is_empty() {
                return Ok(removed);
            }
            for name in names {
                let name = String::from_utf8_lossy(&name.name);
                if temporary::is_old(&name) {
                    session.ask(&Request::Remove(&format!("{directory}/{name}")))?.done()?;
                    removed += 1;
                }
            }
        }
    }
}

impl Store for SftpStore {
    fn url(&self) -> &str {
        &self.url
    }

    fn put(&self, key: &str, object: Bytes) -> Result<()> {
        check_key(&self.url, key)?;
        self.call(key, |session| match self.is_there(session, key, &object)? {
            true => self.sync_above(session, key),
            false => self.put_new(session, key, &object),
        })
    }

    fn get(&self, key: &str, max_length: u64) -> Result<Bytes> {
        check_key(&self.url, key)?;
        self.call(key, |session| {
            let (handle, length) = self.open(session, key)?;
            if length > max_length {
                return Err(Failure::Is(ErrorKind::TooLarge, format!("{length} bytes")));
            }
            transfer::read(session, &handle, 0, length, &self.limits).map_err(unreadable)
        })
    }

    fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Bytes> {
        check_key(&self.url, key)?;
        self.call(key, |session| {
            let (handle, there) = self.open(session, key)?;
            if offset.checked_add(length).is_none_or(|end| end > there) {
                return Err(Failure::Is(ErrorKind::Truncated, format!("it has {there} bytes")));
            }
            transfer::read(session, &handle, offset, length, &self.limits).map_err(unreadable)
        })
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        check_prefix(&self.url, prefix)?;
        self.call(prefix, |session| Walk::new(session, &self.root).list(prefix))
    }

    fn delete(&self, key: &str) -> Result<()> {
        check_key(&self.url, key)?;
        self.call(key, |session| self.remove(session, key))
    }

    fn concurrency(&self) -> usize {
        self.connections
    }

    fn clean_temporary(&self) -> Result<u64> {
        self.call("", |session| self.remove_old_temporaries(session))
    }
}

impl fmt::Debug for SftpStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SftpStore").field("url", &self.url).finish_non_exhaustive()
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

/// How long an object is; what is no file is no object.
fn length_of(attributes: Attributes) -> Tried<u64> {
    match (attributes.kind, attributes.length) {
        (Some(Kind::Directory), _) => {
            Err(Failure::Is(ErrorKind::NotFound, "a directory".to_owned()))
        }
        (Some(Kind::Other), _) => {
            Err(Failure::Is(ErrorKind::Permanent, "not a regular file".to_owned()))
        }
        (_, Some(length)) => Ok(length),
        (_, None) => Err(Failure::Is(
            ErrorKind::Unsupported,
            "the server does not say how long files are".to_owned(),
        )),
    }
}

/// What a failure means, and its words.
fn judged(failure: Failure) -> (ErrorKind, String) {
    match failure {
        Failure::Is(kind, words) => (kind, words),
        Failure::Refused(status) => (kind_of(&status), status.words),
        Failure::Lost(words) => {
            let lasts = LASTING.iter().any(|sign| words.to_lowercase().contains(sign));
            let kind = match explain::reason(&words) {
                Some((kind, _)) => kind,
                None if lasts => ErrorKind::Permanent,
                None => ErrorKind::Temporary,
            };
            (kind, words)
        }
    }
}

fn kind_of(status: &Status) -> ErrorKind {
    match status.code {
        NO_SUCH_FILE => ErrorKind::NotFound,
        wire::PERMISSION_DENIED => ErrorKind::Permission,
        wire::UNSUPPORTED => ErrorKind::Unsupported,
        wire::BAD_MESSAGE => ErrorKind::Permanent,
        // some servers say why
        _ if explain::reason(&status.words).is_some_and(|r| r.0 == ErrorKind::Full) => {
            ErrorKind::Full
        }
        // whatever it is, it may be over the next time
        _ => ErrorKind::Temporary,
    }
}

/// A file that could be opened and not be read: its disk is broken.
fn unreadable(failure: Failure) -> Failure {
    match failure {
        Failure::Refused(status) if status.code == FAILURE => {
            Failure::Is(ErrorKind::Unreadable, status.words)
        }
        failure => failure,
    }
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
