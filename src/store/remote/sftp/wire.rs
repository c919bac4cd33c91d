//! Messages of the SSH file transfer protocol, version 3 (draft-ietf-secsh-filexfer-02), as far as a store needs them,
//! with four extensions of OpenSSH (its file PROTOCOL, section 4). Nothing here reads or writes.
//!
//! Every message is a length (`u32`), a type (`u8`), and, but for the first one of each side, the number of the request
//! that it is or answers (`u32`). Numbers are big-endian; strings have their length (`u32`) in front.

use bytes::{Buf, BufMut, Bytes};

/// The longest message that is taken from a server: OpenSSH sends no more than 256 KiB.
pub(super) const MAX_MESSAGE: usize = 1 << 20;

/// Ways to open a file.
pub(super) const READ: u32 = 0x01;
/// for writing, made, and not there before
pub(super) const CREATE_NEW: u32 = 0x02 | 0x08 | 0x20;

/// Codes of a status, as far as they are told apart.
pub(super) const END: u32 = 1;
pub(super) const NO_SUCH_FILE: u32 = 2;
pub(super) const PERMISSION_DENIED: u32 = 3;
pub(super) const FAILURE: u32 = 4;
pub(super) const BAD_MESSAGE: u32 = 5;
pub(super) const UNSUPPORTED: u32 = 8;

/// The first message of a client: its version, 3.
pub(super) const HELLO: [u8; 9] = [0, 0, 0, 5, 1, 0, 0, 0, 3];

/// What is asked of a server. Paths are absolute.
#[derive(Debug, Clone, Copy)]
pub(super) enum Request<'a> {
    Open(&'a str, u32),
    Close(&'a [u8]),
    Read {
        handle: &'a [u8],
        offset: u64,
        length: u32,
    },
    /// So many bytes follow the message.
    Write {
        handle: &'a [u8],
        offset: u64,
        length: u32,
    },
    StatHandle(&'a [u8]),
    OpenDirectory(&'a str),
    ReadDirectory(&'a [u8]),
    Remove(&'a str),
    MakeDirectory(&'a str),
    RemoveDirectory(&'a str),
    Stat(&'a str),
    /// Fails if the new name is taken, which `posix-rename@openssh.com` does not.
    Rename(&'a str, &'a str),
    /// `hardlink@openssh.com`
    Link(&'a str, &'a str),
    /// `fsync@openssh.com`
    Sync(&'a [u8]),
    /// `limits@openssh.com`
    Limits,
    /// `statvfs@openssh.com`
    Space(&'a str),
}

/// Behind a path: nothing is said of owner, mode and times.
const NO_ATTRIBUTES: u32 = 0;

impl Request<'_> {
    /// The message. That of [`Request::Write`] is complete with the bytes behind it.
    pub(super) fn message(&self, number: u32) -> Vec<u8> {
        let (kind, strings) = self.kind_and_strings();
        let mut message = vec![0; 4];
        message.put_u8(kind);
        message.put_u32(number);
        for string in strings {
            message.put_u32(string.len() as u32);
            message.extend_from_slice(string);
        }
        let mut following = 0;
        match *self {
            Request::Open(_, how) => {
                message.put_u32(how);
                message.put_u32(NO_ATTRIBUTES);
            }
            Request::MakeDirectory(_) => message.put_u32(NO_ATTRIBUTES),
            Request::Read { offset, length, .. } => {
                message.put_u64(offset);
                message.put_u32(length);
            }
            Request::Write { offset, length, .. } => {
                message.put_u64(offset);
                message.put_u32(length);
                following = length;
            }
            _ => {}
        }
        let length = message.len() as u32 - 4 + following;
        message[..4].copy_from_slice(&length.to_be_bytes());
        message
    }

    fn kind_and_strings(&self) -> (u8, Vec<&[u8]>) {
        const EXTENDED: u8 = 200;
        match *self {
            Request::Open(path, _) => (3, vec![path.as_bytes()]),
            Request::Close(handle) => (4, vec![handle]),
            Request::Read { handle, .. } => (5, vec![handle]),
            Request::Write { handle, .. } => (6, vec![handle]),
            Request::StatHandle(handle) => (8, vec![handle]),
            Request::OpenDirectory(path) => (11, vec![path.as_bytes()]),
            Request::ReadDirectory(handle) => (12, vec![handle]),
            Request::Remove(path) => (13, vec![path.as_bytes()]),
            Request::MakeDirectory(path) => (14, vec![path.as_bytes()]),
            Request::RemoveDirectory(path) => (15, vec![path.as_bytes()]),
            Request::Stat(path) => (17, vec![path.as_bytes()]),
            Request::Rename(from, to) => (18, vec![from.as_bytes(), to.as_bytes()]),
            Request::Link(from, to) => {
                (EXTENDED, vec![b"hardlink@openssh.com", from.as_bytes(), to.as_bytes()])
            }
            Request::Sync(handle) => (EXTENDED, vec![b"fsync@openssh.com", handle]),
            Request::Limits => (EXTENDED, vec![b"limits@openssh.com"]),
            Request::Space(path) => (EXTENDED, vec![b"statvfs@openssh.com", path.as_bytes()]),
        }
    }

    /// How many bytes the answer carries, where they count.
    pub(super) fn answer_length(&self) -> u64 {
        match *self {
            Request::Read { length, .. } => length.into(),
            _ => 0,
        }
    }
}

/// What a server answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Status(Status),
    Handle(Bytes),
    Data(Bytes),
    Names(Vec<Name>),
    Attributes(Attributes),
    /// to one of the extensions
    Extended(Bytes),
}

/// Of what is no success, the words are the server's.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Status {
    pub code: u32,
    pub words: String,
}

/// An entry of a directory.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub name: Bytes,
    pub attributes: Attributes,
}

/// What a server says of a file, as far as it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attributes {
    /// in bytes
    pub length: Option<u64>,
    pub kind: Option<Kind>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    /// a link, a pipe, a device
    Other,
}

/// What a server offers beside the protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Offers {
    pub link: bool,
    pub sync: bool,
    pub limits: bool,
    pub space: bool,
}

/// The server's first message; `None` if it is none of version 3.
pub(super) fn parse_hello(message: Bytes) -> Option<Offers> {
    let mut fields = Fields(message);
    if (fields.u8()?, fields.u32()?) != (2, 3) {
        return None;
    }
    let mut offers = Offers::default();
    while !fields.0.is_empty() {
        let (name, _version) = (fields.string()?, fields.string()?);
        match &*name {
            b"hardlink@openssh.com" => offers.link = true,
            b"fsync@openssh.com" => offers.sync = true,
            b"limits@openssh.com" => offers.limits = true,
            b"statvfs@openssh.com" => offers.space = true,
            _ => {}
        }
    }
    Some(offers)
}

/// The number of a request and its answer; `None` if the message is none.
pub(super) fn parse(message: Bytes) -> Option<(u32, Answer)> {
    let mut fields = Fields(message);
    let (kind, number) = (fields.u8()?, fields.u32()?);
    let answer = match kind {
        101 => Answer::Status(fields.status()?),
        102 => Answer::Handle(fields.string()?),
        103 => Answer::Data(fields.string()?),
        104 => Answer::Names(fields.names()?),
        105 => Answer::Attributes(fields.attributes()?),
        201 => Answer::Extended(fields.0),
        _ => return None,
    };
    Some((number, answer))
}

/// The longest piece that may be read, and written, at once: of the answer to [`Request::Limits`].
pub(super) fn parse_limits(answer: Bytes) -> Option<(u64, u64)> {
    let mut fields = Fields(answer);
    let _longest_message = fields.u64()?;
    Some((fields.u64()?, fields.u64()?))
}

/// How many bytes are free, and whether another file can be made: of the answer to [`Request::Space`].
pub(super) fn parse_space(answer: Bytes) -> Option<(u64, bool)> {
    let mut fields = Fields(answer);
    let _block = fields.u64()?;
    let [fragment, _blocks, _free, available] = fields.four()?;
    let [files, _free_files, available_files, _number] = fields.four()?;
    // file systems without a table of files say that they have none
    Some((fragment.saturating_mul(available), files == 0 || available_files > 0))
}

/// A message, from which fields are taken off.
struct Fields(Bytes);

impl Fields {
    fn u8(&mut self) -> Option<u8> {
        self.0.try_get_u8().ok()
    }

    fn u32(&mut self) -> Option<u32> {
        self.0.try_get_u32().ok()
    }

    fn u64(&mut self) -> Option<u64> {
        self.0.try_get_u64().ok()
    }

    fn four(&mut self) -> Option<[u64; 4]> {
        Some([self.u64()?, self.u64()?, self.u64()?, self.u64()?])
    }

    fn string(&mut self) -> Option<Bytes> {
        let length = usize::try_from(self.u32()?).ok()?;
        (length <= self.0.len()).then(|| self.0.split_to(length))
    }

    /// Old servers send the code alone.
    fn status(&mut self) -> Option<Status> {
        let code = self.u32()?;
        let words = self.string().unwrap_or_default();
        Some(Status { code, words: String::from_utf8_lossy(&words).into_owned() })
    }

    fn names(&mut self) -> Option<Vec<Name>> {
        let count = self.u32()?;
        let mut names = Vec::new();
        for _ in 0..count {
            let (name, _line) = (self.string()?, self.string()?);
            names.push(Name { name, attributes: self.attributes()? });
        }
        Some(names)
    }

    fn attributes(&mut self) -> Option<Attributes> {
        let has = self.u32()?;
        let length = if has & 1 != 0 { Some(self.u64()?) } else { None };
        if has & 2 != 0 {
            let _owner_and_group = self.u64()?;
        }
        let mode = if has & 4 != 0 { Some(self.u32()?) } else { None };
        if has & 8 != 0 {
            let _times = self.u64()?;
        }
        if has & 0x8000_0000 != 0 {
            for _ in 0..self.u32()? {
                let _name_and_value = (self.string()?, self.string()?);
            }
        }
        Some(Attributes { length, kind: mode.and_then(kind_of) })
    }
}

/// Some servers give permissions without a type.
fn kind_of(mode: u32) -> Option<Kind> {
    match mode & 0o170_000 {
        0 => None,
        0o100_000 => Some(Kind::File),
        0o040_000 => Some(Kind::Directory),
        _ => Some(Kind::Other),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_are_those_of_the_protocol() {
        let check = |request: Request<'_>, expected: &[u8]| {
            assert_eq!(request.message(7), expected, "{request:?}");
        };
        check(Request::Stat("/a"), b"\0\0\0\x0b\x11\0\0\0\x07\0\0\0\x02/a");
        check(
            Request::Open("/a", CREATE_NEW),
            b"\0\0\0\x13\x03\0\0\0\x07\0\0\0\x02/a\0\0\0\x2a\0\0\0\0",
        );
        // three bytes are to follow
        check(
            Request::Write { handle: b"h", offset: 1 << 32, length: 3 },
            b"\0\0\0\x19\x06\0\0\0\x07\0\0\0\x01h\0\0\0\x01\0\0\0\0\0\0\0\x03",
        );
        // the one that replaces nothing
        check(Request::Rename("/a", "/b"), b"\0\0\0\x11\x12\0\0\0\x07\0\0\0\x02/a\0\0\0\x02/b");
        check(
            Request::Sync(b"h"),
            b"\0\0\0\x1f\xc8\0\0\0\x07\0\0\0\x11fsync@openssh.com\0\0\0\x01h",
        );
    }

    #[test]
    fn a_server_says_what_it_offers() {
        let hello = |text: &'static [u8]| parse_hello(Bytes::from_static(text));
        assert_eq!(hello(b"\x02\0\0\0\x03"), Some(Offers::default()));
        let sync = hello(b"\x02\0\0\0\x03\0\0\0\x11fsync@openssh.com\0\0\0\x011");
        assert_eq!(sync, Some(Offers { sync: true, ..Offers::default() }));
        assert_eq!(hello(b"\x02\0\0\0\x06"), None);
        assert_eq!(hello(b"\x02\0\0\0\x03\0\0\0\x11fsync"), None);
        // what a server prints that runs a shell and no SFTP
        assert_eq!(hello(b"Welcome"), None);
    }

    #[test]
    fn answers_are_read() {
        let parsed = |text: &'static [u8]| parse(Bytes::from_static(text));
        let status =
            |code, words: &str| Some((1, Answer::Status(Status { code, words: words.to_owned() })));
        assert_eq!(
            parsed(b"\x65\0\0\0\x01\0\0\0\x04\0\0\0\x03Bad\0\0\0\0"),
            status(FAILURE, "Bad")
        );
        assert_eq!(parsed(b"\x65\0\0\0\x01\0\0\0\0"), status(0, ""));
        let attributes = b"\x69\0\0\0\x01\0\0\0\x05\0\0\0\0\0\0\0\x09\0\0\x81\xa4";
        let file = Attributes { length: Some(9), kind: Some(Kind::File) };
        assert_eq!(parsed(attributes), Some((1, Answer::Attributes(file))));
        assert_eq!(parsed(b"\x67\0\0\0\x01\0\0\0\x05four"), None);
        assert_eq!(parsed(b"\x68\0\0\0\x01\xff\xff\xff\xff"), None);
        assert_eq!(parsed(b"\x70\0\0\0\x01"), None);
        assert_eq!(parsed(b""), None);
    }

    proptest! {
        #[test]
        fn no_message_is_too_strange(mut message in proptest::collection::vec(any::<u8>(), 0..200), kind in 101..106_u8) {
            let _ = parse_hello(Bytes::from(message.clone()));
            let _ = parse(Bytes::from(message.clone()));
            let _ = (parse_limits(Bytes::from(message.clone())), parse_space(Bytes::from(message.clone())));
            if let Some(first) = message.first_mut() {
                *first = kind;
            }
            let _ = parse(Bytes::from(message));
        }
    }
}
