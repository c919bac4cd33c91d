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

mod put;
mod refusal;
mod session;
mod ssh;
mod sync;
mod transfer;
mod walk;
mod wire;

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;

pub use self::ssh::AskPassword;

use self::refusal::{judged, length_of, unreadable};
use self::session::{Failure, Handle, Session, Tried};
use self::ssh::Ssh;
use self::sync::{open_directories, sync_all, synced};
use self::walk::Walk;
use self::wire::{Kind, NO_SUCH_FILE, READ, Request};
use super::turns::Turns;
use super::{explain, temporary};
use crate::store::address::Address;
use crate::store::key::{TEMPORARY, check_key, check_prefix};
use crate::store::{ErrorKind, Limits, Listed, Result, Store, StoreError};

/// Requests of the store at once, unless somebody says otherwise.
const CONNECTIONS: usize = 8;

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
        if words.is_empty() { error } else { error.because(words) }
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

    fn remove(&self, session: &Session, key: &str) -> Tried<()> {
        let path = self.path(key);
        let removed = session.ask(&Request::Remove(&path))?;
        // absent, too: whoever deleted it may not have synced that yet
        let nearest = match session.offers.sync {
            true => open_directories(session, &self.above(key))?.into_iter().next(),
            false => None,
        };
        match removed.done() {
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
        let sync = nearest.as_ref().map(|handle| session.ask(&Request::Sync(handle.name())));
        let sync = sync.transpose()?;
        self.remove_empty_directories(session, key)?;
        sync.map_or(Ok(()), |sync| synced(sync.done()))
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

    fn has_directories(&self) -> bool {
        true
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
