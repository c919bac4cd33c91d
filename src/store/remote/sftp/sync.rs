//! What makes names durable: directories are opened and synced like files, where the server does such a thing.
//!
//! OpenSSH does. Where a server syncs no files, or opens no directories, nothing is done: what survives a power cut
//! there is what its operator gives.

use super::session::{Failure, Handle, Pending, Session, Tried};
use super::wire::{BAD_MESSAGE, READ, Request, UNSUPPORTED};

/// Opens those of the directories that are there and can be opened.
pub(super) fn open_directories<'a>(
    session: &'a Session,
    paths: &[String],
) -> Tried<Vec<Handle<'a>>> {
    let asked: Tried<Vec<Pending<'a>>> =
        paths.iter().map(|path| session.ask(&Request::Open(path, READ))).collect();
    let mut handles = Vec::new();
    for pending in asked? {
        match pending.handle() {
            Ok(handle) => handles.push(handle),
            Err(Failure::Refused(_)) => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(handles)
}

/// Makes durable what is in them.
pub(super) fn sync_all(session: &Session, handles: &[Handle<'_>]) -> Tried<()> {
    let asked: Tried<Vec<Pending<'_>>> =
        handles.iter().map(|handle| session.ask(&Request::Sync(handle.name()))).collect();
    asked?.into_iter().try_for_each(|pending| synced(pending.done()))
}

/// File systems that have no notion of it say so.
pub(super) fn synced(result: Tried<()>) -> Tried<()> {
    match result {
        Err(failure) if failure.has_code(BAD_MESSAGE) || failure.has_code(UNSUPPORTED) => Ok(()),
        result => result,
    }
}
