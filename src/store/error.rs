//! The one error of all stores: a kind to branch on, the object, and what the backend said.
//!
//! What to do about an error (retry, exit code) is decided above.

use std::error::Error;
use std::fmt;
use std::io;

use rustix::io::Errno;

pub type Result<T> = std::result::Result<T, StoreError>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// No such object, or no such directory.
    NotFound,
    /// The bucket or container is not there.
    Absent,
    /// Other bytes are there under this key, or a store is where a new one was to be made.
    Exists,
    /// The object is longer than the caller can accept.
    TooLarge,
    /// The object ends before the end of the range asked for.
    Truncated,
    /// The store refuses this to these credentials.
    Permission,
    /// No space, no inodes or no quota left.
    Full,
    /// The file system is mounted read-only.
    ReadOnly,
    /// The same call may succeed later.
    Temporary,
    /// The object is there, but its bytes cannot be read: a bad sector.
    Unreadable,
    /// The service has no such operation.
    Unsupported,
    /// The same call will fail again.
    Permanent,
}

impl ErrorKind {
    /// What an error of the operating system means for a store.
    pub(super) fn of_io(error: &io::Error) -> ErrorKind {
        use io::ErrorKind as Io;
        if matches!(Errno::from_io_error(error), Some(Errno::IO | Errno::BADMSG | Errno::UCLEAN)) {
            return ErrorKind::Unreadable;
        }
        if matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS))
        {
            return ErrorKind::Temporary;
        }
        match error.kind() {
            Io::NotFound => ErrorKind::NotFound,
            Io::AlreadyExists => ErrorKind::Exists,
            Io::PermissionDenied => ErrorKind::Permission,
            Io::StorageFull | Io::QuotaExceeded => ErrorKind::Full,
            Io::ReadOnlyFilesystem => ErrorKind::ReadOnly,
            Io::UnexpectedEof => ErrorKind::Truncated,
            // A network or FUSE mount that went away may come back.
            Io::TimedOut
            | Io::Interrupted
            | Io::WouldBlock
            | Io::ResourceBusy
            | Io::OutOfMemory => ErrorKind::Temporary,
            Io::StaleNetworkFileHandle | Io::NotConnected | Io::HostUnreachable => {
                ErrorKind::Temporary
            }
            Io::NetworkUnreachable | Io::NetworkDown => ErrorKind::Temporary,
            Io::ConnectionAborted | Io::ConnectionRefused | Io::ConnectionReset => {
                ErrorKind::Temporary
            }
            _ => ErrorKind::Permanent,
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            ErrorKind::NotFound => "not found",
            ErrorKind::Absent => "there is no such store",
            ErrorKind::Exists => "already exists with other content",
            ErrorKind::TooLarge => "larger than allowed",
            ErrorKind::Truncated => "shorter than it should be",
            ErrorKind::Permission => "permission denied",
            ErrorKind::Full => "no space left; free some, or prune",
            ErrorKind::ReadOnly => "the file system is read-only",
            ErrorKind::Temporary => "temporary failure; try again later",
            ErrorKind::Unreadable => "cannot be read",
            ErrorKind::Unsupported => "the service cannot do that",
            ErrorKind::Permanent => "failed",
        }
    }
}

type Source = Box<dyn Error + Send + Sync>;

/// Why a store did not do what it was asked.
#[derive(Debug)]
pub struct StoreError {
    kind: ErrorKind,
    url: String,
    key: String,
    /// What it means, where more is known than the kind tells.
    meaning: Option<&'static str>,
    source: Option<Source>,
}

impl StoreError {
    /// `key` is empty when the store as a whole is meant.
    pub fn new(kind: ErrorKind, url: &str, key: &str) -> StoreError {
        StoreError { kind, url: url.to_owned(), key: key.to_owned(), meaning: None, source: None }
    }

    /// Adds what the backend said.
    pub fn because(mut self, source: impl Into<Source>) -> StoreError {
        self.source = Some(source.into());
        self
    }

    /// Says what it means in a sentence of its own.
    pub(super) fn meaning(mut self, sentence: &'static str) -> StoreError {
        self.meaning = Some(sentence);
        self
    }

    pub(super) fn of_io(url: &str, key: &str, error: io::Error) -> StoreError {
        StoreError::new(ErrorKind::of_io(&error), url, key).because(error)
    }

    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The store's printable address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The object's key or a prefix; empty when the store as a whole is meant.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Whether the same call may succeed later.
    pub fn is_temporary(&self) -> bool {
        self.kind == ErrorKind::Temporary
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A key may come from outside: what is not a valid one must not reach a terminal as it is.
        let sentence = self.meaning.unwrap_or(self.kind.sentence());
        // a reason of its own concerns the whole store
        match self.key.is_empty() || self.meaning.is_some() {
            true => write!(f, "{}: {sentence}", self.url),
            false => write!(f, "{} in {}: {sentence}", self.key.escape_debug(), self.url),
        }
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
