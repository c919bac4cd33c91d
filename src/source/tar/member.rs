//! Reads a tar stream member by member: old, POSIX and GNU headers, long names, extended headers, sparse files. Headers
//! are the tar crate's; the order of blocks is followed here, since that crate takes a stream that is cut between two
//! members for whole, splits binary attributes at line feeds, and does not know sparse files of POSIX headers.

use std::io::{self, ErrorKind, Read};

use tar::{EntryType, GnuExtSparseHeader, Header};

use super::nobody;
use super::pax::{Pax, decimal};
use super::sparse::{Content, MAX_PIECES, Map, cut};
use crate::format::entry::{EntryKind, MAX_KEY, MAX_XATTR_NAME, Metadata, Name, Timestamp};

const BLOCK: usize = 512;
/// Bytes of an extended header: attributes of 64 KiB each, several of them.
const MAX_PAX: u64 = 16 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Entry(EntryKind),
    /// Another name of a member before it.
    Link,
    Other(u8),
}

pub struct Member {
    /// As it stands in the stream.
    pub path: Vec<u8>,
    /// Target of a hard link.
    pub link: Vec<u8>,
    pub kind: Kind,
    pub metadata: Metadata,
    /// An access list in the form of text, which is not read.
    pub has_acl: bool,
    stored: u64,
    map: Option<Map>,
}

pub struct Members<'a> {
    reader: &'a mut dyn Read,
    /// Bytes of the current member that were not read, and those that fill its last block.
    left: u64,
    padding: u64,
    globals: Pax,
}

/// What stands in front of a member.
#[derive(Default)]
struct Front {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: Option<Pax>,
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("no tar stream: {reason}"))
}

impl<'a> Members<'a> {
    pub fn new(reader: &'a mut dyn Read) -> Members<'a> {
        Members { reader, left: 0, padding: 0, globals: Pax::default() }
    }

    /// The next member; `None` once the end of the archive has been seen.
    pub fn next(&mut self, over: &dyn Fn() -> bool) -> io::Result<Option<Member>> {
        let mut front = Front::default();
        loop {
            self.skip(over)?;
            let mut header = Header::new_old();
            self.exact(header.as_mut_bytes(), over)?;
            if header.as_bytes().iter().all(|byte| *byte == 0) {
                let mut second = [0; BLOCK];
                self.exact(&mut second, over)?;
                return match second.iter().all(|byte| *byte == 0) {
                    true => Ok(None),
                    false => Err(invalid("one block of zeros is followed by something else")),
                };
            }
            check_sum(&header)?;
            let size = self.size(&header, front.pax.as_ref())?;
            self.left = size;
            self.padding = size.next_multiple_of(BLOCK as u64) - size;
            match header.entry_type() {
                EntryType::GNULongName => front.path = Some(self.name(over)?),
                EntryType::GNULongLink => front.link = Some(self.name(over)?),
                EntryType::XHeader => {
                    let mut pax = self.globals.clone();
                    self.records(&mut pax, over)?;
                    front.pax = Some(pax);
                }
                EntryType::XGlobalHeader => {
                    let mut pax = std::mem::take(&mut self.globals);
                    self.records(&mut pax, over)?;
                    self.globals = pax;
                }
                _ => return self.member(&header, front, size, over).map(Some),
            }
        }
    }

    /// What the file that `next` gave holds.
    pub fn content(&mut self, member: &Member) -> io::Result<Content<'_, '_>> {
        Ok(Content::new(&mut *self.reader, &mut self.left, member.stored, member.map.as_ref()))
    }

    /// Reads what follows the end of the archive: zeros in whole blocks, or anything else.
    pub fn trailer(&mut self, over: &dyn Fn() -> bool) -> io::Result<()> {
        let (mut buffer, mut zeros, mut length) = (vec![0; 64 << 10], true, 0usize);
        loop {
            match self.reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => {
                    zeros &= buffer[..read].iter().all(|byte| *byte == 0);
                    length = (length + read) % BLOCK;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted && !over() => {}
                Err(error) => return Err(wanted(error)),
            }
        }
        if zeros && length != 0 { Err(cut()) } else { Ok(()) }
    }

    fn exact(&mut self, mut buffer: &mut [u8], over: &dyn Fn() -> bool) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.reader.read(buffer) {
                Ok(0) => return Err(cut()),
                Ok(read) => {
                    buffer = &mut buffer[read..];
                }
                Err(error) if error.kind() == ErrorKind::Interrupted && !over() => {}
                Err(error) => return Err(wanted(error)),
            }
        }
        Ok(())
    }

    /// The rest of the current member.
    fn skip(&mut self, over: &dyn Fn() -> bool) -> io::Result<()> {
        let mut buffer = vec![0; 32 << 10];
        let mut left = std::mem::take(&mut self.left) + std::mem::take(&mut self.padding);
        while left > 0 {
            let count = left.min(buffer.len() as u64) as usize;
            self.exact(&mut buffer[..count], over)?;
            left -= count as u64;
        }
        Ok(())
    }

    /// All of the current member, which is a header in disguise.
    fn whole(&mut self, limit: u64, over: &dyn Fn() -> bool) -> io::Result<Vec<u8>> {
        if self.left > limit {
            return Err(invalid(&format!("a header of {} bytes", self.left)));
        }
        let mut bytes = vec![0; self.left as usize];
        self.exact(&mut bytes, over)?;
        self.left = 0;
        Ok(bytes)
    }

    fn name(&mut self, over: &dyn Fn() -> bool) -> io::Result<Vec<u8>> {
        let mut name = self.whole(MAX_KEY as u64 + 1, over)?;
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        name.truncate(end);
        Ok(name)
    }

    fn records(&mut self, pax: &mut Pax, over: &dyn Fn() -> bool) -> io::Result<()> {
        let bytes = self.whole(MAX_PAX, over)?;
        pax.read(&bytes).ok_or_else(|| invalid("an extended header is not one"))
    }

    fn size(&self, header: &Header, pax: Option<&Pax>) -> io::Result<u64> {
        let old = header.as_old();
        let own = matches!(
            header.entry_type(),
            EntryType::GNULongName
                | EntryType::GNULongLink
                | EntryType::XHeader
                | EntryType::XGlobalHeader
        );
        let size = match pax.unwrap_or(&self.globals).number("size") {
            Some(size) if !own => size,
            _ => number(&old.size)
                .and_then(|n| u64::try_from(n).ok())
                .ok_or_else(|| invalid("a size is no number"))?,
        };
        match size < 1 << 62 {
            true => Ok(size),
            false => Err(invalid("a member is longer than any file")),
        }
    }

    fn member(
        &mut self,
        header: &Header,
        front: Front,
        size: u64,
        over: &dyn Fn() -> bool,
    ) -> io::Result<Member> {
        let pax = front.pax.unwrap_or_else(|| self.globals.clone());
        let named = |key: &str| pax.get(key).map(<[u8]>::to_vec);
        let mut path =
            named("path").or(front.path).unwrap_or_else(|| header.path_bytes().into_owned());
        let old_link =
            || header.link_name_bytes().map(|name| name.into_owned()).unwrap_or_default();
        let link = named("linkpath").or(front.link).unwrap_or_else(old_link);
        let kind = kind(header, &path);
        if !has_content(header, kind) {
            // such members say a size and store nothing
            self.left = 0;
            self.padding = 0;
        }
        let map = match kind {
            Kind::Entry(EntryKind::File) => self.map(header, &pax, size, over)?,
            _ => None,
        };
        if map.is_some()
            && let Some(name) = named("GNU.sparse.name")
        {
            path = name;
        }
        let mut metadata = metadata(header, &pax)?;
        match kind {
            Kind::Entry(EntryKind::Symlink) => metadata.target = link.clone(),
            Kind::Entry(EntryKind::CharDevice | EntryKind::BlockDevice) => {
                metadata.device = Some(device(header)?)
            }
            _ => {}
        }
        let has_acl = pax.beneath("SCHILY.acl.").next().is_some();
        Ok(Member { path, link, kind, metadata, has_acl, stored: self.left, map })
    }

    /// Where the bytes of a sparse file belong; reads the map where it lies in front of the bytes.
    fn map(
        &mut self,
        header: &Header,
        pax: &Pax,
        size: u64,
        over: &dyn Fn() -> bool,
    ) -> io::Result<Option<Map>> {
        let (pieces, real) = if header.entry_type() == EntryType::GNUSparse {
            self.gnu_pieces(header, over)?
        } else if pax.get("GNU.sparse.major") == Some(b"1") {
            let real = pax
                .number("GNU.sparse.realsize")
                .ok_or_else(|| invalid("a sparse file without size"))?;
            (self.pieces_in_front(over)?, real)
        } else if let Some(real) = pax.number("GNU.sparse.size") {
            match pax.get("GNU.sparse.map") {
                Some(text) => (pairs(text)?, real),
                None => (pax.pairs.clone(), real),
            }
        } else {
            return Ok(None);
        };
        let stored = self.left.min(size);
        Map::new(pieces, real, stored).map(Some)
    }

    /// GNU's own format: four pieces in the header, and more in blocks behind it.
    fn gnu_pieces(
        &mut self,
        header: &Header,
        over: &dyn Fn() -> bool,
    ) -> io::Result<(Vec<(u64, u64)>, u64)> {
        let gnu = header.as_gnu().ok_or_else(|| invalid("a sparse file without GNU header"))?;
        let field = |bytes: &[u8]| {
            number(bytes)
                .and_then(|n| u64::try_from(n).ok())
                .ok_or_else(|| invalid("a map is not of numbers"))
        };
        let mut pieces = Vec::new();
        let add = |offset: &[u8], length: &[u8], pieces: &mut Vec<(u64, u64)>| {
            if offset[0] != 0 && length[0] != 0 {
                pieces.push((field(offset)?, field(length)?));
            }
            Ok::<(), io::Error>(())
        };
        for piece in &gnu.sparse {
            add(&piece.offset, &piece.numbytes, &mut pieces)?;
        }
        let mut more = gnu.is_extended();
        while more {
            let mut block = GnuExtSparseHeader::new();
            self.exact(block.as_mut_bytes(), over)?;
            for piece in block.sparse() {
                add(&piece.offset, &piece.numbytes, &mut pieces)?;
            }
            limit(&pieces)?;
            more = block.is_extended();
        }
        Ok((pieces, field(&gnu.realsize)?))
    }

    /// POSIX headers, version 1.0: numbers in lines, filled up to a whole block.
    fn pieces_in_front(&mut self, over: &dyn Fn() -> bool) -> io::Result<Vec<(u64, u64)>> {
        let (mut numbers, mut text) = (Vec::new(), Vec::new());
        let mut wanted = 1;
        while numbers.len() < wanted {
            if self.left < BLOCK as u64 {
                return Err(invalid("the map of a sparse file is not there"));
            }
            let mut block = [0; BLOCK];
            self.exact(&mut block, over)?;
            self.left -= BLOCK as u64;
            for byte in block {
                match byte {
                    b'\n' if numbers.len() < wanted => {
                        let number =
                            decimal(&text).ok_or_else(|| invalid("a map is not of numbers"))?;
                        text.clear();
                        numbers.push(number);
                        if numbers.len() == 1 {
                            let count = usize::try_from(number).unwrap_or(usize::MAX);
                            if count > MAX_PIECES {
                                return Err(invalid("a sparse file of too many pieces"));
                            }
                            wanted = 1 + 2 * count;
                        }
                    }
                    _ if text.len() > 20 => return Err(invalid("a map is not of numbers")),
                    _ if numbers.len() < wanted => text.push(byte),
                    _ => {}
                }
            }
        }
        Ok(numbers[1..].chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
    }
}

/// An interruption that nobody asked about again is the end of the run.
fn wanted(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::Interrupted => io::Error::other("interrupted"),
        _ => error,
    }
}

fn limit(pieces: &[(u64, u64)]) -> io::Result<()> {
    match pieces.len() > MAX_PIECES {
        true => Err(invalid("a sparse file of too many pieces")),
        false => Ok(()),
    }
}

/// Offsets and lengths in turn, with commas between them.
fn pairs(text: &[u8]) -> io::Result<Vec<(u64, u64)>> {
    let numbers: Option<Vec<u64>> = text.split(|byte| *byte == b',').map(decimal).collect();
    match numbers {
        Some(numbers) if numbers.len() % 2 == 0 => {
            Ok(numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
        }
        _ => Err(invalid("a map is not of numbers")),
    }
}

fn check_sum(header: &Header) -> io::Result<()> {
    let bytes = header.as_bytes();
    let mut sums = (0i64, 0i64);
    for (at, byte) in bytes.iter().enumerate() {
        let byte = if (148..156).contains(&at) { b' ' } else { *byte };
        // old programs took bytes for signed
        sums = (sums.0 + i64::from(byte), sums.1 + i64::from(byte as i8));
    }
    match number(&header.as_old().cksum) {
        Some(sum) if sum == sums.0 || sum == sums.1 => Ok(()),
        _ => Err(invalid("a header's checksum is wrong")),
    }
}

/// Octal digits, or a binary number whose first bit is set.
fn number(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 != 0 {
        let negative = first & 0x40 != 0;
        let mut value: i64 = if negative { -1 } else { 0 };
        for (at, byte) in field.iter().enumerate() {
            let byte = if at == 0 && !negative { byte & 0x7f } else { *byte };
            value = value.checked_mul(256)? | i64::from(byte);
        }
        return Some(value);
    }
    let text = field.split(|byte| *byte == 0).next()?;
    let text = std::str::from_utf8(text).ok()?.trim_matches(' ');
    match text {
        "" => Some(0),
        _ => i64::from_str_radix(text, 8).ok().filter(|value| *value >= 0),
    }
}

fn kind(header: &Header, path: &[u8]) -> Kind {
    use EntryKind::*;
    match header.entry_type() {
        // before there was a type for them
        EntryType::Regular if path.ends_with(b"/") => Kind::Entry(Directory),
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::Entry(File),
        EntryType::Directory => Kind::Entry(Directory),
        EntryType::Symlink => Kind::Entry(Symlink),
        EntryType::Char => Kind::Entry(CharDevice),
        EntryType::Block => Kind::Entry(BlockDevice),
        EntryType::Fifo => Kind::Entry(Fifo),
        EntryType::Link => Kind::Link,
        other => match other.as_byte() {
            // a directory with the names in it, of an incremental dump
            b'D' => Kind::Entry(Directory),
            byte => Kind::Other(byte),
        },
    }
}

/// Whether as many bytes follow the header as it says.
fn has_content(header: &Header, kind: Kind) -> bool {
    match kind {
        Kind::Entry(EntryKind::File) | Kind::Other(_) => true,
        Kind::Entry(EntryKind::Directory) => header.entry_type().as_byte() == b'D',
        // POSIX allows content behind a link
        Kind::Link => header.as_ustar().is_some(),
        Kind::Entry(_) => false,
    }
}

fn metadata(header: &Header, pax: &Pax) -> io::Result<Metadata> {
    let old = header.as_old();
    let field = |bytes: &[u8], what: &str| {
        number(bytes).ok_or_else(|| invalid(&format!("{what} is no number")))
    };
    let id = |key: &str, bytes: &[u8]| {
        let value = match pax.number(key) {
            Some(value) => i64::try_from(value).unwrap_or(i64::MAX),
            None => field(bytes, key)?,
        };
        u32::try_from(value)
            .map_err(|_| invalid(&format!("a {key} of {value} is none of this system")))
    };
    let name = |key: &str, bytes: Option<&[u8]>| {
        let name = pax.get(key).or(bytes).unwrap_or_default();
        if name.len() > 255 || name.contains(&0) { Name::new() } else { Name::from_slice(name) }
    };
    let seconds = Timestamp { seconds: field(&old.mtime, "mtime")?, nanoseconds: 0 };
    let mtime = pax.time("mtime").unwrap_or(seconds);
    Ok(Metadata {
        mode: (field(&old.mode, "mode")? & 0o7777) as u32,
        uid: id("uid", &old.uid)?,
        gid: id("gid", &old.gid)?,
        user: name("uname", header.username_bytes()),
        group: name("gname", header.groupname_bytes()),
        mtime,
        ctime: pax.time("ctime").unwrap_or(mtime),
        xattrs: xattrs(pax),
        ..nobody()
    })
}

fn xattrs(pax: &Pax) -> Vec<(Vec<u8>, Vec<u8>)> {
    let good = |name: &[u8]| !name.is_empty() && name.len() <= MAX_XATTR_NAME && !name.contains(&0);
    let mut found: Vec<(Vec<u8>, Vec<u8>)> = pax
        .beneath("SCHILY.xattr.")
        .filter(|(name, _)| good(name))
        .map(|(name, value)| (name.to_vec(), value.to_vec()))
        .collect();
    let label = b"security.selinux".to_vec();
    if let Some(context) = pax.get("RHT.security.selinux")
        && !found.iter().any(|(name, _)| *name == label)
    {
        // the kernel counts the NUL at its end
        found.push((label, [context, b"\0"].concat()));
        found.sort();
    }
    found
}

fn device(header: &Header) -> io::Result<(u32, u32)> {
    let number = |value: io::Result<Option<u32>>| {
        value.ok().flatten().ok_or_else(|| invalid("a device has no number"))
    };
    Ok((number(header.device_major())?, number(header.device_minor())?))
}
