//! What goes wrong with a repository, sorted by what the caller can do about it.

use std::fmt;

use crate::format::FormatError;
use crate::format::entry::display_key;
use crate::id::SnapshotId;
use crate::store::{ErrorKind as StoreKind, StoreError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// No repository there, or not the one this machine used.
    NoRepository,
    /// No slot opens with this password or key.
    WrongKey,
    /// The key lacks the right for this.
    NoRight,
    /// Stored bytes are not what they should be, or are missing.
    Damage,
    /// The store is away, or something moved under the run: try later.
    TryLater,
    Interrupted,
    /// The local index failed; the repository did not.
    Cache,
    /// The store has no space left.
    Full,
    /// The request itself makes no sense here.
    Usage,
    /// Everything else; nothing was done.
    Failed,
}

/// One sentence that names the object, says what is wrong and, if known, what
/// to do.
#[derive(Clone, Debug)]
pub struct Error {
    pub kind: ErrorKind,
    pub message: String,
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into() }
    }

    pub fn damage(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Damage, message)
    }

    pub fn failed(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Failed, message)
    }

    pub fn no_right(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::NoRight, message)
    }

    pub fn interrupted() -> Self {
        Error::new(ErrorKind::Interrupted, "interrupted")
    }

    /// A path that a snapshot does not hold.
    pub fn no_such_path(snapshot: SnapshotId, key: &[u8]) -> Self {
        let path = display_key(key);
        let path = String::from_utf8_lossy(&path);
        Error::failed(format!("snapshot {snapshot} holds no {path:?}"))
    }

    /// The exit code that tells scripts of this kind of error.
    pub fn exit_code(&self) -> u64 {
        match self.kind {
            ErrorKind::Failed | ErrorKind::Cache | ErrorKind::Full => 1,
            ErrorKind::Usage => 2,
            ErrorKind::NoRepository => 10,
            ErrorKind::WrongKey => 12,
            ErrorKind::NoRight => 13,
            ErrorKind::Damage => 20,
            ErrorKind::TryLater => 75,
            ErrorKind::Interrupted => 130,
        }
    }

    /// A format error in the object `key`: damage, unless only this program is
    /// too old.
    pub fn in_object(key: &str, error: FormatError) -> Self {
        let kind = if error.asks_for_upgrade() { ErrorKind::Failed } else { ErrorKind::Damage };
        Error::new(kind, format!("{key}: {error}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let kind = match error.kind() {
            StoreKind::NotFound
            | StoreKind::Truncated
            | StoreKind::TooLarge
            | StoreKind::Unreadable => ErrorKind::Damage,
            StoreKind::Temporary => ErrorKind::TryLater,
            StoreKind::Absent => ErrorKind::NoRepository,
            StoreKind::Full => ErrorKind::Full,
            _ => ErrorKind::Failed,
        };
        // these two kinds say nothing by themselves
        let vague = matches!(
            error.kind(),
            StoreKind::Temporary
                | StoreKind::Permanent
                | StoreKind::Permission
                | StoreKind::Unreadable
        );
        let message = match std::error::Error::source(&error) {
            Some(source) if vague => format!("{error}: {source}"),
            _ => error.to_string(),
        };
        Error::new(kind, message)
    }
}
