//! What is saved besides paths: sources that give streams. Who runs commands or reads tar streams is above; here is
//! what it is given to put them into.

use std::io::{self, Read};

use crate::format::entry::{EntryKind, Metadata, Timestamp};
use crate::repository::now_ms;

/// Bytes of a source's name: as many as file systems take.
const MAX_NAME: usize = 255;

/// Gives all a source has to a sink. What it gave is in the snapshot only if it returns `Ok`; else the source failed,
/// for the reason returned.
pub type Capture = Box<dyn FnOnce(&mut dyn Sink) -> Result<(), String> + Send>;

/// A source that is no path.
pub struct StreamSource {
    /// First component of its keys in the tree; see [`wrong_name`].
    pub name: String,
    /// Whether the snapshot is partial without it.
    pub required: bool,
    /// Those of several sources run at once, each on a thread of its own.
    pub capture: Capture,
}

impl StreamSource {
    /// A source that is one file: what `reader` gives.
    pub fn reader(name: &str, mut reader: Box<dyn Read + Send>) -> StreamSource {
        let capture: Capture = Box::new(move |sink| {
            sink.file(b"", now(), &mut *reader).map(drop).map_err(|error| error.to_string())
        });
        StreamSource { name: name.to_owned(), required: true, capture }
    }
}

/// Why no source that is no path can be called this, if none can: it is the first component of its keys in the tree.
pub fn wrong_name(name: &str) -> Option<&'static str> {
    match name {
        "" => Some("it is empty"),
        "." | ".." => Some("it means another directory"),
        "files" => Some("paths are called that"),
        _ if name.contains('/') => Some("it has a `/`"),
        _ if name.contains(char::is_control) => Some("it has a control character"),
        _ if name.len() > MAX_NAME => Some("it has more than 255 bytes"),
        _ => None,
    }
}

/// What is said of a file that has nothing but its bytes: it is private, and of now.
pub fn now() -> Metadata {
    let now = Timestamp::of_ms(now_ms());
    Metadata { mode: 0o600, mtime: now, ctime: now, ..Metadata::default() }
}

/// Takes entries of one source, in any order. Paths are relative to the source, components separated by `/`; the empty
/// path is the source itself. The last of several entries with one path counts. Directories above that nobody gave are
/// made.
///
/// An error is the reader's own, or says that the run is over or the path impossible; the source should return it.
pub trait Sink {
    /// A file with what `reader` gives until its end; how many bytes that was. The size in `metadata` does not count.
    /// A reader that has nothing for a while says `ErrorKind::Interrupted`: between two reads is looked whether the run
    /// is over, as [`Attentive`] does.
    fn file(&mut self, path: &[u8], metadata: Metadata, reader: &mut dyn Read) -> io::Result<u64>;

    /// An entry without content.
    fn entry(&mut self, path: &[u8], kind: EntryKind, metadata: Metadata) -> io::Result<()>;

    /// Another name of a file that was given before.
    fn link(&mut self, path: &[u8], to: &[u8]) -> io::Result<()>;

    /// Something was left out or changed, and is told; the source is whole all the same.
    fn note(&mut self, path: &[u8], text: &str);

    /// Whether the run is to end soon.
    fn interrupted(&self) -> bool;
}

/// A source's reader with an ear for the end of the run. `read_to_end` and its like pass over `ErrorKind::Interrupted`,
/// which is what a reader says that waits for a silent command; here it becomes an error once the run is over.
pub struct Attentive<'a> {
    pub reader: &'a mut dyn Read,
    /// Whether the run is to end soon.
    pub over: &'a dyn Fn() -> bool,
}

impl Read for Attentive<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.reader.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted && (self.over)() => {
                Err(io::Error::other("interrupted"))
            }
            result => result,
        }
    }
}
