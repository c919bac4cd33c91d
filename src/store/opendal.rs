//! Any OpenDAL service as a [`Store`]. Later services differ only in how their `Operator` is built.
//!
//! Not here: retries, timeouts and limits on concurrency. They are OpenDAL layers, which whoever builds the operator
//! adds (`Timeout`, then `Retry`, then `ConcurrentLimit`); every request of this file goes through [`OpendalStore::run`].
//!
//! Sentences of the contract that depend on the service: put-once against *concurrent* writers needs
//! `write_with_if_not_exists`; without it the look before the write can lose a race. Durability and complete listings
//! are what the service promises.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;

use ::opendal::options::{ListOptions, ReadOptions, WriteOptions};
use ::opendal::{BufferStream, EntryMode, Operator, services};
use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use tokio::runtime::Runtime;

use super::key::{check_key, check_prefix, is_key};
use super::{ErrorKind, Listed, REMOTE_CONCURRENCY, Result, Store, StoreError};

/// Threads that drive requests; they wait for the network and compute nothing.
const RUNTIME_THREADS: usize = 2;

pub struct OpendalStore {
    operator: Operator,
    url: String,
    runtime: Runtime,
}

impl OpendalStore {
    /// Wraps an operator whose root is the repository. `url` is printed and must not hold a secret.
    pub fn new(operator: Operator, url: &str) -> Result<OpendalStore> {
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
        Ok(OpendalStore { operator, url: url.to_owned(), runtime })
    }

    /// A store in memory that ends with this value.
    pub fn memory() -> Result<OpendalStore> {
        let operator = Operator::new(services::Memory::default())
            .map_err(|error| StoreError::new(ErrorKind::Permanent, "memory:", "").because(error))?;
        OpendalStore::new(operator, "memory:")
    }

    /// The one place where requests are made: runs it to its end and gives its error our kind and the object's name.
    fn run<T>(&self, key: &str, request: impl Future<Output = ::opendal::Result<T>>) -> Result<T> {
        self.runtime.block_on(request).map_err(|error| self.error(key, error))
    }

    fn error(&self, key: &str, error: ::opendal::Error) -> StoreError {
        StoreError::new(kind_of(&error), &self.url, key).because(error)
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

    fn length(&self, key: &str) -> Result<u64> {
        Ok(self.run(key, self.operator.stat(key))?.content_length())
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
        let if_not_exists = self.operator.info().capability().write_with_if_not_exists;
        if !if_not_exists && self.is_there(key, &object)? {
            return Ok(());
        }
        let options = WriteOptions { if_not_exists, ..WriteOptions::default() };
        match self.run(key, self.operator.write_options(key, object.clone(), options)) {
            Ok(_) => Ok(()),
            // Somebody was first, or the answer to an earlier try of our own was lost.
            Err(error) if error.kind() == ErrorKind::Exists => match self.is_there(key, &object)? {
                true => Ok(()),
                false => Err(StoreError::new(ErrorKind::Temporary, &self.url, key).because(error)),
            },
            Err(error) => Err(error),
        }
    }

    fn get(&self, key: &str, max_length: u64) -> Result<Bytes> {
        check_key(&self.url, key)?;
        let read = async {
            let stream = self.operator.reader(key).await?.into_stream(..).await?;
            collect(stream, max_length).await
        };
        match self.run(key, read)? {
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
            .run(key, self.operator.read_options(key, options))
            .map_err(|error| self.range_error(key, end, error))?;
        if found.len() as u64 != length {
            return Err(truncated());
        }
        Ok(found.to_bytes())
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        check_prefix(&self.url, prefix)?;
        let options = ListOptions { recursive: true, ..ListOptions::default() };
        // All pages or an error: OpenDAL gives up at the first page that fails.
        let entries = self.run(prefix, self.operator.list_options(prefix, options))?;
        let mut listed = Vec::with_capacity(entries.len());
        for (key, metadata) in entries.into_iter().map(|entry| entry.into_parts()) {
            if !key.starts_with(prefix) || !is_key(&key) {
                continue;
            }
            let length = match metadata.mode() {
                EntryMode::FILE => metadata.content_length(),
                EntryMode::DIR => continue,
                EntryMode::Unknown => match self.length(&key) {
                    Ok(length) => length,
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                },
            };
            listed.push(Listed { key, length });
        }
        listed.sort_unstable();
        Ok(listed)
    }

    fn delete(&self, key: &str) -> Result<()> {
        check_key(&self.url, key)?;
        match self.run(key, self.operator.delete(key)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn concurrency(&self) -> usize {
        REMOTE_CONCURRENCY
    }
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
        check(error(Opendal::Unsupported), ErrorKind::Permanent);
    }
}
