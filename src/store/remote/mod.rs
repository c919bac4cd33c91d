//! Stores on other machines: any OpenDAL service as a [`Store`], and SFTP (`sftp/`) and FTP (`ftp/`) by themselves.
//! Services differ in how their operator is built (`connect.rs`) and in the
//! [`Manners`] that hold the contract over what they lack; what their refusals mean is in `explain.rs`.
//!
//! Every request goes through [`OpendalStore::run`], which bounds its time and how many run at once. Trying again is
//! [`super::Patient`]'s affair.
//!
//! Sentences of the contract that depend on the service:
//!
//! * Put-once needs a conditional put. Where there is none (WebDAV, some S3 servers), the look before the
//!   write can lose a race between writers of different bytes, and a server that ignores the condition replaces what
//!   is there. Names that are hashes or random numbers make that a race which nobody runs.
//! * WebDAV is given an object under a temporary name, which is moved to its key when its length is right. Nothing tells
//!   it to sync: durability is what its operator gives.
//! * Listings of object stores are complete by their protocols. Of file servers a listing is a walk, and a directory
//!   that vanishes meanwhile makes it fail.

mod connect;
mod explain;
mod ftp;
mod sftp;
mod temporary;
mod transport;
mod turns;

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::opendal::options::{ListOptions, ReadOptions, WriteOptions};
use ::opendal::{BufferStream, EntryMode, Operator, services};
use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

pub use self::connect::{S3Secrets, Secrets};
use self::ftp::FtpStore;
pub use self::sftp::AskPassword;
use self::sftp::SftpStore;
use self::transport::Heard;
use super::address::{Address, Service};
use super::key::{TEMPORARY, check_key, check_prefix, is_key};
use super::{ErrorKind, Limits, Listed, REMOTE_CONCURRENCY, Result, Store, StoreError};

/// Threads that drive requests; they wait for the network and compute nothing.
const RUNTIME_THREADS: usize = 2;

/// A request may take this long and its bytes' time at [`SLOWEST_RATE`] before it counts as lost.
const LONGEST_SILENCE: Duration = Duration::from_secs(120);
/// in bytes a second
const SLOWEST_RATE: u64 = 16 << 10;
/// A whole listing may take this long.
const LONGEST_LISTING: Duration = Duration::from_secs(3600);

/// How a service has to be treated so that the contract holds.
#[derive(Debug, Clone, Copy)]
struct Manners {
    /// Objects are written under another name and moved to their key.
    moves: bool,
    /// Requests at once.
    connections: usize,
}

impl Manners {
    const OBJECT_STORE: Manners = Manners { moves: false, connections: REMOTE_CONCURRENCY };

    fn of(service: Service) -> Manners {
        match service {
            Service::Webdav | Service::WebdavHttp => Manners { moves: true, connections: 8 },
            // file servers have stores of their own
            _ => Manners::OBJECT_STORE,
        }
    }
}

pub struct OpendalStore {
    operator: Operator,
    url: String,
    runtime: Runtime,
    manners: Manners,
    turns: Semaphore,
    /// The service puts only where nothing is; cleared when it turns out that it does not.
    conditional: AtomicBool,
    heard: Arc<Heard>,
}

/// The store at an address. Nothing is asked of it yet.
///
/// `connections` counts where the address itself says nothing.
pub fn connect(
    address: &Address,
    secrets: &Secrets,
    limits: Arc<Limits>,
    connections: Option<usize>,
) -> Result<Arc<dyn Store>> {
    let connections = address.connections.or(connections);
    Ok(match address.service {
        Service::Sftp => {
            let ask_password = secrets.ask_password.clone();
            Arc::new(SftpStore::new(address, ask_password, limits, connections)?)
        }
        Service::Ftp | Service::Ftps => {
            Arc::new(FtpStore::new(address, secrets, limits, connections)?)
        }
        _ => Arc::new(OpendalStore::connect(address, secrets, limits, connections)?),
    })
}

impl OpendalStore {
    fn connect(
        address: &Address,
        secrets: &Secrets,
        limits: Arc<Limits>,
        connections: Option<usize>,
    ) -> Result<OpendalStore> {
        let heard = Arc::default();
        let operator = connect::connect(address, secrets, limits, &heard)?;
        let mut manners = Manners::of(address.service);
        manners.connections = connections.unwrap_or(manners.connections);
        let store = OpendalStore::with_manners(operator, &address.to_string(), manners)?;
        Ok(OpendalStore { heard, ..store })
    }

    fn with_manners(operator: Operator, url: &str, manners: Manners) -> Result<OpendalStore> {
        let capability = operator.info().capability();
        if !(capability.read
            && capability.write
            && capability.delete
            && capability.list
            && capability.stat)
        {
            return Err(StoreError::new(ErrorKind::Permanent, url, "").because(
                "this service cannot read, write, list and delete, so it cannot hold a repository",
            ));
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(RUNTIME_THREADS)
            .thread_name("esker-store")
            .enable_all()
            .build()
            .map_err(|error| StoreError::of_io(url, "", error))?;
        let conditional = AtomicBool::new(capability.write_with_if_not_exists && !manners.moves);
        let turns = Semaphore::new(manners.connections);
        let url = url.to_owned();
        let heard = Arc::default();
        Ok(OpendalStore { operator, url, runtime, manners, turns, conditional, heard })
    }

    /// A store in memory that ends with this value.
    pub fn memory() -> Result<OpendalStore> {
        let operator = Operator::new(services::Memory::default())
            .map_err(|error| StoreError::new(ErrorKind::Permanent, "memory:", "").because(error))?;
        OpendalStore::with_manners(operator, "memory:", Manners::OBJECT_STORE)
    }

    /// The one place where requests are made: waits for its turn, runs it for at most the time that so many bytes may
    /// take, and gives its error our kind and the object's name.
    fn run<T>(
        &self,
        key: &str,
        longest: Duration,
        request: impl Future<Output = ::opendal::Result<T>>,
    ) -> Result<T> {
        self.runtime.block_on(async {
            let _turn = self.turns.acquire().await.expect("the semaphore is never closed");
            match tokio::time::timeout(longest, request).await {
                Ok(result) => result.map_err(|error| self.error(key, &error)),
                Err(_) => Err(StoreError::new(ErrorKind::Temporary, &self.url, key)
                    .because(format!("no answer within {} seconds", longest.as_secs()))),
            }
        })
    }

    fn error(&self, key: &str, error: &::opendal::Error) -> StoreError {
        let words = explain::words(error);
        let (kind, sentence) = self.judge(error, &words);
        let result = StoreError::new(kind, &self.url, key).because(words);
        match sentence {
            Some(sentence) => result.meaning(sentence),
            None => result,
        }
    }

    /// The kind of an error, with a sentence if its reason is a known one.
    fn judge(&self, error: &::opendal::Error, words: &str) -> (ErrorKind, Option<&'static str>) {
        let kind = kind_of(error);
        match explain::reason(words) {
            Some((ErrorKind::Absent, sentence)) => (ErrorKind::Absent, Some(sentence)),
            // that an object is not there, or is already, needs no reason
            _ if matches!(kind, ErrorKind::NotFound | ErrorKind::Exists | ErrorKind::Truncated) => {
                (kind, None)
            }
            Some((kind, sentence)) => (kind, Some(sentence)),
            None => (kind, None),
        }
    }

    /// Whether exactly these bytes are there; other bytes are [`ErrorKind::Exists`].
    fn is_there(&self, key: &str, object: &Bytes) -> Result<bool> {
        match self.get(key, object.len() as u64) {
            Ok(found) if found == object => Ok(true),
            Ok(_) => Err(StoreError::new(ErrorKind::Exists, &self.url, key)),
            Err(error) => match error.kind() {
                ErrorKind::TooLarge => Err(StoreError::new(ErrorKind::Exists, &self.url, key)),
                ErrorKind::NotFound => Ok(false),
                _ => Err(error),
            },
        }
    }

    /// Writes the object under its key; with `only_new`, only if nothing is there.
    fn write(&self, key: &str, object: &Bytes, only_new: bool) -> Result<()> {
        let options = WriteOptions { if_not_exists: only_new, ..WriteOptions::default() };
        let write = self.operator.write_options(key, object.clone(), options);
        self.run(key, longest(object.len() as u64), write).map(|_| ())
    }

    /// Writes the object under another name, sees that all of it arrived, and moves it to its key.
    fn write_and_move(&self, key: &str, object: &Bytes) -> Result<()> {
        let name = temporary::name(&self.url)?;
        let written = self
            .write(&name, object, false)
            .and_then(|()| self.check_length(&name, object.len() as u64))
            .and_then(|()| {
                self.run(key, LONGEST_SILENCE, self.operator.rename(&name, key)).map(|_| ())
            });
        if written.is_err() {
            // what stays is tidied up some day
            let _ = self.run(key, LONGEST_SILENCE, self.operator.delete(&name));
        }
        written
    }

    fn check_length(&self, key: &str, expected: u64) -> Result<()> {
        match self.length(key)? {
            length if length == expected => Ok(()),
            length => Err(StoreError::new(ErrorKind::Temporary, &self.url, key)
                .because(format!("{length} bytes of {expected} arrived"))),
        }
    }

    /// What became of a put that found something under its key: somebody was first, or an earlier try of our own was
    /// done after all.
    fn settle(&self, key: &str, object: &Bytes, result: Result<()>) -> Result<()> {
        match result {
            Err(error) if error.kind() == ErrorKind::Exists => match self.is_there(key, object)? {
                true => Ok(()),
                // it is gone again
                false => Err(StoreError::new(ErrorKind::Temporary, &self.url, key).because(error)),
            },
            result => result,
        }
    }

    /// A listing that found no directory: empty if it is not there, and otherwise one that something moved under.
    fn absent_directory(&self, prefix: &str, error: StoreError) -> Result<Vec<Listed>> {
        let directory = if prefix.is_empty() { "/" } else { prefix };
        match self.run(prefix, LONGEST_SILENCE, self.operator.stat(directory)) {
            Err(stat) if stat.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(stat) => Err(stat),
            Ok(_) => Err(StoreError::new(ErrorKind::Temporary, &self.url, prefix).because(error)),
        }
    }

    /// The length of an object; a directory is none.
    fn length(&self, key: &str) -> Result<u64> {
        let metadata = self.run(key, LONGEST_SILENCE, self.operator.stat(key))?;
        match metadata.is_dir() {
            true => Err(StoreError::new(ErrorKind::NotFound, &self.url, key)),
            false => Ok(metadata.content_length()),
        }
    }

    /// The error of a range read, as `Truncated` if the object turns out to be too short.
    ///
    /// Services answer a range that reaches past the end with an error, with fewer bytes, or with nothing; the
    /// length is the only answer that means the same everywhere.
    fn range_error(&self, key: &str, end: u64, error: StoreError) -> StoreError {
        if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Permission) {
            return error;
        }
        match self.length(key) {
            Ok(length) if length < end => {
                StoreError::new(ErrorKind::Truncated, &self.url, key).because(error)
            }
            Err(absent) if absent.kind() == ErrorKind::NotFound => absent,
            _ => error,
        }
    }
}

impl Store for OpendalStore {
    fn url(&self) -> &str {
        &self.url
    }

    fn put(&self, key: &str, object: Bytes) -> Result<()> {
        check_key(&self.url, key)?;
        if self.conditional.load(Ordering::Relaxed) {
            match self.write(key, &object, true) {
                Err(error) if error.kind() == ErrorKind::Unsupported => {
                    self.conditional.store(false, Ordering::Relaxed);
                }
                result => return self.settle(key, &object, result),
            }
        }
        if self.is_there(key, &object)? {
            return Ok(());
        }
        let result = match self.manners.moves {
            // of two that make the same directory at once, Apache tells one that it may not
            true => self.write_and_move(key, &object).or_else(|error| match error.kind() {
                ErrorKind::Permission => self.write_and_move(key, &object),
                _ => Err(error),
            }),
            false => self.write(key, &object, false),
        };
        self.settle(key, &object, result)
    }

    fn get(&self, key: &str, max_length: u64) -> Result<Bytes> {
        check_key(&self.url, key)?;
        let read = async {
            let stream = self.operator.reader(key).await?.into_stream(..).await?;
            collect(stream, max_length).await
        };
        match self.run(key, longest(max_length.min(1 << 30)), read)? {
            // of a directory file servers give something, too
            Some(object) if self.manners.moves && object.is_empty() => {
                self.length(key).map(|_| object)
            }
            Some(object) => Ok(object),
            None => Err(StoreError::new(ErrorKind::TooLarge, &self.url, key)),
        }
    }

    fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Bytes> {
        check_key(&self.url, key)?;
        let truncated = || StoreError::new(ErrorKind::Truncated, &self.url, key);
        let end = offset.checked_add(length).ok_or_else(truncated)?;
        if length == 0 {
            return if self.length(key)? < end { Err(truncated()) } else { Ok(Bytes::new()) };
        }
        let options = ReadOptions { range: (offset..end).into(), ..ReadOptions::default() };
        let found = self
            .run(key, longest(length), self.operator.read_options(key, options))
            .map_err(|error| self.range_error(key, end, error))?;
        if found.len() as u64 != length {
            return Err(self.range_error(key, end, truncated()));
        }
        Ok(found.to_bytes())
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        check_prefix(&self.url, prefix)?;
        let options = ListOptions { recursive: true, ..ListOptions::default() };
        // All pages or an error: OpenDAL gives up at the first page that fails.
        let entries =
            self.run(prefix, LONGEST_LISTING, self.operator.list_options(prefix, options));
        let entries = match entries {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return self.absent_directory(prefix, error);
            }
            result => result?,
        };
        let mut listed = Vec::with_capacity(entries.len());
        for (path, metadata) in entries.into_iter().map(|entry| entry.into_parts()) {
            let key = path.as_str();
            if !key.starts_with(prefix) || !is_key(key) {
                continue;
            }
            let length = match metadata.mode() {
                EntryMode::FILE => metadata.content_length(),
                EntryMode::DIR => continue,
                EntryMode::Unknown => match self.length(key) {
                    Ok(length) => length,
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                },
            };
            listed.push(Listed { key: key.to_owned(), length });
        }
        listed.sort_unstable();
        Ok(listed)
    }

    fn delete(&self, key: &str) -> Result<()> {
        check_key(&self.url, key)?;
        if self.manners.moves {
            // a file server takes a directory for an object as well, and all beneath it with it
            match self.length(key) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                _ => {}
            }
        }
        match self.run(key, LONGEST_SILENCE, self.operator.delete(key)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn has_directories(&self) -> bool {
        self.manners.moves
    }

    fn concurrency(&self) -> usize {
        self.manners.connections
    }

    fn date(&self) -> Result<Option<u64>> {
        Ok(self.heard.date())
    }

    fn retry_after(&self) -> Option<Duration> {
        self.heard.busy_for()
    }

    fn clean_temporary(&self) -> Result<u64> {
        if !self.manners.moves {
            return Ok(0);
        }
        let directory = format!("{TEMPORARY}/");
        let entries = match self.run("", LONGEST_LISTING, self.operator.list(&directory)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
            result => result?,
        };
        let mut removed = 0;
        for name in entries.iter().map(|entry| entry.path()).filter(|name| temporary::is_old(name))
        {
            self.run("", LONGEST_SILENCE, self.operator.delete(name))?;
            removed += 1;
        }
        Ok(removed)
    }
}

/// The longest time that a request which moves so many bytes may take.
fn longest(bytes: u64) -> Duration {
    LONGEST_SILENCE + Duration::from_secs(bytes / SLOWEST_RATE)
}

impl fmt::Debug for OpendalStore {
    // The operator holds the service's configuration, and that may hold credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpendalStore").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Reads a stream to its end, or says `None` as soon as it is longer than `max_length`.
async fn collect(mut stream: BufferStream, max_length: u64) -> ::opendal::Result<Option<Bytes>> {
    let mut pieces = Vec::new();
    let mut length = 0;
    while let Some(buffer) = poll_fn(|context| Pin::new(&mut stream).poll_next(context)).await {
        let piece = buffer?.to_bytes();
        length += piece.len() as u64;
        if length > max_length {
            return Ok(None);
        }
        pieces.push(piece);
    }
    if pieces.len() == 1 {
        return Ok(pieces.pop());
    }
    let mut whole = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
    for piece in &pieces {
        whole.extend_from_slice(piece);
    }
    Ok(Some(whole.freeze()))
}

fn kind_of(error: &::opendal::Error) -> ErrorKind {
    use ::opendal::ErrorKind as Opendal;
    match error.kind() {
        Opendal::NotFound => ErrorKind::NotFound,
        Opendal::PermissionDenied => ErrorKind::Permission,
        Opendal::AlreadyExists | Opendal::ConditionNotMatch => ErrorKind::Exists,
        Opendal::RangeNotSatisfied => ErrorKind::Truncated,
        // A conflict the service reports of its own accord: two requests met, and one of them is to come again.
        Opendal::RateLimited | Opendal::Conflict => ErrorKind::Temporary,
        Opendal::Unsupported => ErrorKind::Unsupported,
        _ if error.is_temporary() => ErrorKind::Temporary,
        _ => ErrorKind::Permanent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_keep_their_meaning() {
        use ::opendal::ErrorKind as Opendal;
        let check = |error: ::opendal::Error, kind| assert_eq!(kind_of(&error), kind, "{error}");
        let error = |kind| ::opendal::Error::new(kind, "x");
        check(error(Opendal::NotFound), ErrorKind::NotFound);
        check(error(Opendal::PermissionDenied), ErrorKind::Permission);
        check(error(Opendal::ConditionNotMatch), ErrorKind::Exists);
        check(error(Opendal::AlreadyExists), ErrorKind::Exists);
        check(error(Opendal::RateLimited), ErrorKind::Temporary);
        check(error(Opendal::Conflict), ErrorKind::Temporary);
        check(error(Opendal::Unexpected).set_temporary(), ErrorKind::Temporary);
        check(error(Opendal::Unexpected), ErrorKind::Permanent);
        check(error(Opendal::Unsupported), ErrorKind::Unsupported);
    }
}
