//! FTP, plain or under TLS that AUTH TLS begins, as a [`Store`], on the protocol that `suppaftp` speaks.
//!
//! Calls share a few connections (`pool.rs`), because servers allow few. Trying again is [`Patient`]'s affair: a reply
//! that was lost after a success is no harm, because every put looks first.
//!
//! Sentences of the contract that FTP cannot keep by itself:
//!
//! * There is no conditional put. An object is written under a temporary name, and moved to its key when the server says
//!   that all of it is there. The look before that can lose a race between writers of different bytes, and many
//!   servers' rename replaces what it finds. Names that are hashes or random numbers make that a race which nobody runs.
//! * Nothing tells a server to sync: durability is what its operator gives.
//! * A listing is a walk. A directory that vanishes meanwhile makes it fail, and so does a line that is not understood.
//!   Servers without `MLSD` show no names that begin with a dot, unless they take `LIST -a`; esker puts none.
//!
//! [`Patient`]: crate::store::Patient

mod connection;
mod files;
mod listing;
mod pool;
mod reply;
mod server;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use self::connection::Connection;
use self::files::{not_plain, split};
use self::listing::{Entry, Found};
use self::pool::Pool;
use self::reply::Failure;
use self::server::Server;
use super::{Secrets, temporary};
use crate::store::address::Address;
use crate::store::key::{TEMPORARY, check_key, check_prefix, is_key};
use crate::store::{ErrorKind, Limits, Listed, Result, Store, StoreError, ask_all};

/// Many servers allow no more from one address.
const CONNECTIONS: usize = 2;

pub(super) struct FtpStore {
    url: String,
    /// the repository's directory, without a slash at its end; the root is empty
    base: String,
    pool: Pool,
    limits: Arc<Limits>,
    /// Directories that are known to be there.
    made: Mutex<HashSet<String>>,
}

impl FtpStore {
    /// Nothing is asked of the server yet.
    pub(super) fn new(
        address: &Address,
        secrets: &Secrets,
        limits: Arc<Limits>,
        connections: Option<usize>,
    ) -> Result<FtpStore> {
        let url = address.to_string();
        let server = Server::new(address, secrets).map_err(|failure| failure.error(&url, ""))?;
        let pool = Pool::new(server, connections.unwrap_or(CONNECTIONS));
        let base = match &*address.path {
            "" => String::new(),
            path => format!("/{path}"),
        };
        Ok(FtpStore { url, base, pool, limits, made: Mutex::default() })
    }

    /// Where an object or a directory lies; the empty key is the repository's directory.
    fn path(&self, key: &str) -> String {
        match key {
            "" => self.base.clone(),
            key => format!("{}/{key}", self.base),
        }
    }

    fn with<T>(
        &self,
        key: &str,
        work: impl FnOnce(&mut Connection) -> std::result::Result<T, Failure>,
    ) -> Result<T> {
        self.pool.with(work).map_err(|failure| failure.error(&self.url, key))
    }

    /// Whether exactly these bytes are there; other bytes are [`ErrorKind::Exists`].
    fn is_there(&self, key: &str, object: &[u8]) -> Result<bool> {
        let (path, length) = (self.path(key), object.len() as u64);
        let other = || Failure::Told(ErrorKind::Exists, String::new());
        self.with(key, |connection| match connection.look(&path)? {
            None => Ok(false),
            Some(found) if found != length => Err(other()),
            Some(_) => {
                let found = connection.read(&path, 0..length, length, &self.limits.download)?;
                if found == object { Ok(true) } else { Err(other()) }
            }
        })
    }

    /// Writes the object under another name, sees that all of it arrived, and moves it to its key.
    fn write_and_move(&self, key: &str, name: &str, object: &[u8]) -> Result<()> {
        let (path, temporary, length) = (self.path(key), self.path(name), object.len() as u64);
        self.with(key, |connection| {
            self.make_directory(connection, split(&temporary).0)?;
            connection.write(&temporary, object, &self.limits.upload)?;
            let arrived = connection.look(&temporary)?.unwrap_or_default();
            if arrived != length {
                let words = format!("{arrived} bytes of {length} arrived");
                return Err(Failure::Told(ErrorKind::Temporary, words));
            }
            self.make_directory(connection, split(&path).0)?;
            connection.begin(&format!("RNFR {temporary}"))?;
            connection.ask(&format!("RNTO {path}"))?;
            Ok(())
        })
    }

    fn make_directory(
        &self,
        connection: &mut Connection,
        directory: &str,
    ) -> std::result::Result<(), Failure> {
        let made = || self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if directory.is_empty() || made().contains(directory) {
            return Ok(());
        }
        if !connection.enter(directory)? {
            self.make_directory(connection, split(directory).0)?;
            match connection.ask(&format!("MKD {directory}")) {
                // perhaps somebody else was quicker
                Err(Failure::Refused(reply)) if !connection.enter(directory)? => {
                    return Err(Failure::Refused(reply));
                }
                Err(failure) if failure.is_broken() => return Err(failure),
                _ => {}
            }
        }
        made().insert(directory.to_owned());
        Ok(())
    }

    /// After a put that failed: what it left is removed, if that can be done, and nothing is taken to be known.
    fn tidy_up(&self, name: &str) {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let _ = self.with("", |connection| connection.remove(&self.path(name)));
    }

    /// What is in a directory, or `None` if it is not there.
    fn entries(&self, directory: &str) -> Result<Option<Vec<Entry>>> {
        self.with(directory, |connection| connection.list(&self.path(directory)))
    }

    /// Sorts what is in a directory into objects and directories to look into.
    fn sort(
        &self,
        directory: &str,
        entries: Vec<Entry>,
        objects: &mut Vec<Listed>,
        directories: &mut Vec<String>,
    ) -> Result<()> {
        for Entry { name, found } in entries {
            let key = if directory.is_empty() { name } else { format!("{directory}/{name}") };
            match found {
                _ if !is_key(&key) => {}
                Found::File(length) => objects.push(Listed { key, length }),
                Found::Directory => directories.push(key),
                Found::Other => return Err(not_plain(&key).error(&self.url, &key)),
            }
        }
        Ok(())
    }

    fn told(&self, kind: ErrorKind, key: &str) -> StoreError {
        StoreError::new(kind, &self.url, key)
    }
}

impl Store for FtpStore {
    fn url(&self) -> &str {
        &self.url
    }

    fn put(&self, key: &str, object: Bytes) -> Result<()> {
        check_key(&self.url, key)?;
        if self.is_there(key, &object)? {
            return Ok(());
        }
        let name = temporary::name(&self.url)?;
        let Err(error) = self.write_and_move(key, &name, &object) else { return Ok(()) };
        self.tidy_up(&name);
        // a server that moves nothing to where something is: somebody was quicker
        let may_be_there = !error.is_temporary() && error.kind() != ErrorKind::Full;
        if may_be_there && self.is_there(key, &object)? { Ok(()) } else { Err(error) }
    }

    fn get(&self, key: &str, max_length: u64) -> Result<Bytes> {
        check_key(&self.url, key)?;
        let path = self.path(key);
        let object = self.with(key, |connection| match connection.look(&path)? {
            None => Err(Failure::Told(ErrorKind::NotFound, String::new())),
            Some(length) if length > max_length => {
                Err(Failure::Told(ErrorKind::TooLarge, String::new()))
            }
            Some(length) => {
                let read = connection.read(&path, 0..length, length, &self.limits.download);
                read.map_err(|failure| unless_gone(connection, &path, failure))
            }
        });
        object.map(Bytes::from)
    }

    fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Bytes> {
        check_key(&self.url, key)?;
        let end = offset.checked_add(length);
        let end = end.ok_or_else(|| self.told(ErrorKind::Truncated, key));
        let path = self.path(key);
        let part = self.with(key, |connection| {
            let Some(file_length) = connection.look(&path)? else {
                return Err(Failure::Told(ErrorKind::NotFound, String::new()));
            };
            match end.as_ref().ok().filter(|end| **end <= file_length) {
                None => Err(Failure::Told(ErrorKind::Truncated, String::new())),
                Some(_) if length == 0 => Ok(Vec::new()),
                Some(end) => {
                    let range = offset..*end;
                    let read = connection.read(&path, range, file_length, &self.limits.download);
                    read.map_err(|failure| unless_gone(connection, &path, failure))
                }
            }
        });
        part.map(Bytes::from)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        check_prefix(&self.url, prefix)?;
        let (mut objects, mut below) = (Vec::new(), Vec::new());
        let top = prefix.trim_end_matches('/');
        let Some(entries) = self.entries(top)? else { return Ok(Vec::new()) };
        self.sort(top, entries, &mut objects, &mut below)?;
        while !below.is_empty() {
            let level = std::mem::take(&mut below);
            let answers = ask_all(self.pool.size, &level, &|directory| self.entries(directory));
            for (directory, entries) in level.iter().zip(answers) {
                let gone = || self.told(ErrorKind::Temporary, directory).because("it vanished");
                self.sort(directory, entries?.ok_or_else(gone)?, &mut objects, &mut below)?;
            }
        }
        objects.sort_unstable();
        Ok(objects)
    }

    fn delete(&self, key: &str) -> Result<()> {
        check_key(&self.url, key)?;
        let path = self.path(key);
        self.with(key, |connection| connection.remove(&path))
    }

    fn has_directories(&self) -> bool {
        true
    }

    fn concurrency(&self) -> usize {
        self.pool.size
    }

    fn clean_temporary(&self) -> Result<u64> {
        let mut removed = 0;
        for Entry { name, found } in self.entries(TEMPORARY)?.unwrap_or_default() {
            if matches!(found, Found::File(_)) && temporary::is_old(&name) {
                let path = self.path(&format!("{TEMPORARY}/{name}"));
                self.with("", |connection| connection.remove(&path))?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// Why a file was not read: a server says the same of one that is kept from us and of one that went since we looked.
fn unless_gone(connection: &mut Connection, path: &str, failure: Failure) -> Failure {
    match failure {
        Failure::Refused(_) if connection.look(path).is_ok_and(|length| length.is_none()) => {
            Failure::Told(ErrorKind::NotFound, String::new())
        }
        failure => failure,
    }
}
