//! What a failure means for a store.

use super::session::{Failure, Tried};
use super::wire::{self, Attributes, FAILURE, Kind, NO_SUCH_FILE, Status};
use crate::store::ErrorKind;
use crate::store::remote::explain;

/// Signs, in lower case, that the next try will not go better.
const LASTING: [&str; 5] = [
    "what the server says is no sftp",
    "subsystem request failed",
    "bad configuration option",
    "bad owner or permissions",
    "ssh: not found",
];

/// What a failure means, and its words.
pub(super) fn judged(failure: Failure) -> (ErrorKind, String) {
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
pub(super) fn unreadable(failure: Failure) -> Failure {
    match failure {
        Failure::Refused(status) if status.code == FAILURE => {
            Failure::Is(ErrorKind::Unreadable, status.words)
        }
        failure => failure,
    }
}

/// How long an object is; what is no file is no object.
pub(super) fn length_of(attributes: Attributes) -> Tried<u64> {
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
