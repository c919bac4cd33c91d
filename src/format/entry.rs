//! One path of a tree: its metadata and where its content is.
//!
//! `format-spec/09-tree.md`, rules `[ENT-1]` to `[ENT-8]`.

use super::content::Content;
use super::reader::Reader;
use super::{FormatError, Result};

/// Longest key, in bytes: the path's components joined by NUL.
pub const MAX_KEY: usize = 65_535;
pub const MAX_XATTR_NAME: usize = 255;
pub const MAX_XATTRS: usize = 8192;
/// Longest extended attribute value kept inside an entry, in bytes.
pub const MAX_INLINE_XATTR: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EntryKind {
    File = 1,
    Directory = 2,
    Symlink = 3,
    CharDevice = 4,
    BlockDevice = 5,
    Fifo = 6,
}

impl EntryKind {
    pub fn from_byte(byte: u8) -> Option<EntryKind> {
        use EntryKind::*;
        [File, Directory, Symlink, CharDevice, BlockDevice, Fifo]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// Time since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Timestamp {
    pub seconds: i64,
    pub nanoseconds: u32,
}

impl Timestamp {
    /// Of a time in ms since 1970.
    pub fn of_ms(ms: u64) -> Timestamp {
        Timestamp { seconds: (ms / 1000) as i64, nanoseconds: (ms % 1000) as u32 * 1_000_000 }
    }
}

/// An owner's name; nearly always short enough to need no memory of its own.
pub type Name = smallvec::SmallVec<[u8; 16]>;

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Metadata {
    /// Permission bits with setuid, setgid and sticky; no type.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Names, empty if unknown.
    pub user: Name,
    pub group: Name,
    /// Bytes; 0 for everything but files.
    pub size: u64,
    pub mtime: Timestamp,
    pub ctime: Timestamp,
    pub inode: u64,
    /// Major and minor number of a device node.
    pub device: Option<(u32, u32)>,
    /// Target of a symlink.
    pub target: Vec<u8>,
    /// Sorted by name; raw values.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Components joined by NUL, which sorts below every byte of a name.
    pub key: Vec<u8>,
    pub kind: EntryKind,
    pub metadata: Metadata,
    /// Extended attributes too long to lie in the entry, sorted by name.
    pub long_xattrs: Vec<(Vec<u8>, Content)>,
    pub content: Content,
    /// Same number, same file: hard links within the snapshot. 0 is none.
    pub link_group: u64,
    /// Index into the manifest's table of file systems, where it differs from
    /// the parent directory's.
    pub filesystem: Option<u32>,
    /// The source changed while it was being read.
    pub changed_while_read: bool,
    /// The source had its holes; without it zeros were allocated.
    pub sparse: bool,
}

mod bit {
    pub const USER: u16 = 1 << 0;
    pub const GROUP: u16 = 1 << 1;
    pub const SIZE: u16 = 1 << 2;
    pub const LINK_GROUP: u16 = 1 << 3;
    pub const FILESYSTEM: u16 = 1 << 4;
    pub const DEVICE: u16 = 1 << 5;
    pub const TARGET: u16 = 1 << 6;
    pub const XATTRS: u16 = 1 << 7;
    pub const LONG_XATTRS: u16 = 1 << 8;
    pub const CONTENT: u16 = 1 << 9;
    pub const CHANGED: u16 = 1 << 10;
    pub const SPARSE: u16 = 1 << 11;
    pub const ALL: u16 = (1 << 12) - 1;
}

/// Whether `key` is components that a path may have: none empty, `.`, `..`, or
/// with a `/` in it.
pub fn key_is_valid(key: &[u8]) -> bool {
    let component = |part: &[u8]| !part.is_empty() && part != b"." && part != b"..";
    key.len() <= MAX_KEY && !key.contains(&b'/') && key.split(|byte| *byte == 0).all(component)
}

fn put_short(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(bytes.len() as u8);
    out.extend_from_slice(bytes);
}

fn put_time(time: Timestamp, out: &mut Vec<u8>) {
    out.extend_from_slice(&time.seconds.to_le_bytes());
    out.extend_from_slice(&time.nanoseconds.to_le_bytes());
}

impl Entry {
    /// Of nothing but these.
    pub fn new(key: Vec<u8>, kind: EntryKind, metadata: Metadata) -> Entry {
        Entry {
            key,
            kind,
            metadata,
            long_xattrs: Vec::new(),
            content: Content::Empty,
            link_group: 0,
            filesystem: None,
            changed_while_read: false,
            sparse: false,
        }
    }

    fn bits(&self) -> u16 {
        let m = &self.metadata;
        let flag = |on: bool, bit: u16| if on { bit } else { 0 };
        flag(!m.user.is_empty(), bit::USER)
            | flag(!m.group.is_empty(), bit::GROUP)
            | flag(m.size != 0, bit::SIZE)
            | flag(self.link_group != 0, bit::LINK_GROUP)
            | flag(self.filesystem.is_some(), bit::FILESYSTEM)
            | flag(m.device.is_some(), bit::DEVICE)
            | flag(!m.target.is_empty(), bit::TARGET)
            | flag(!m.xattrs.is_empty(), bit::XATTRS)
            | flag(!self.long_xattrs.is_empty(), bit::LONG_XATTRS)
            | flag(self.content != Content::Empty, bit::CONTENT)
            | flag(self.changed_while_read, bit::CHANGED)
            | flag(self.sparse, bit::SPARSE)
    }

    pub fn encode_into(&self, out: &mut Vec<u8>) {
        let m = &self.metadata;
        out.extend_from_slice(&(self.key.len() as u16).to_le_bytes());
        out.extend_from_slice(&self.key);
        out.push(self.kind as u8);
        out.extend_from_slice(&self.bits().to_le_bytes());
        out.extend_from_slice(&(m.mode as u16).to_le_bytes());
        out.extend_from_slice(&m.uid.to_le_bytes());
        out.extend_from_slice(&m.gid.to_le_bytes());
        put_time(m.mtime, out);
        put_time(m.ctime, out);
        out.extend_from_slice(&m.inode.to_le_bytes());
        if !m.user.is_empty() {
            put_short(&m.user, out);
        }
        if !m.group.is_empty() {
            put_short(&m.group, out);
        }
        if m.size != 0 {
            out.extend_from_slice(&m.size.to_le_bytes());
        }
        if self.link_group != 0 {
            out.extend_from_slice(&self.link_group.to_le_bytes());
        }
        if let Some(filesystem) = self.filesystem {
            out.extend_from_slice(&filesystem.to_le_bytes());
        }
        if let Some((major, minor)) = m.device {
            out.extend_from_slice(&major.to_le_bytes());
            out.extend_from_slice(&minor.to_le_bytes());
        }
        if !m.target.is_empty() {
            out.extend_from_slice(&(m.target.len() as u16).to_le_bytes());
            out.extend_from_slice(&m.target);
        }
        if !m.xattrs.is_empty() {
            out.extend_from_slice(&(m.xattrs.len() as u16).to_le_bytes());
            for (name, value) in &m.xattrs {
                put_short(name, out);
                out.extend_from_slice(&(value.len() as u16).to_le_bytes());
                out.extend_from_slice(value);
            }
        }
        if !self.long_xattrs.is_empty() {
            out.extend_from_slice(&(self.long_xattrs.len() as u16).to_le_bytes());
            for (name, value) in &self.long_xattrs {
                put_short(name, out);
                value.encode_into(out);
            }
        }
        if self.content != Content::Empty {
            self.content.encode_into(out);
        }
    }

    pub fn parse(reader: &mut Reader<'_>) -> Result<Entry> {
        let length = usize::from(reader.u16()?);
        let key = reader.take(length)?.to_vec();
        if !key_is_valid(&key) {
            return Err(FormatError::new("ENT-1", "a path has a component that no path may have"));
        }
        let kind = EntryKind::from_byte(reader.u8()?)
            .ok_or_else(|| FormatError::new("ENT-2", "an entry is of an unknown kind"))?;
        let bits = reader.u16()?;
        if bits & !bit::ALL != 0 {
            return Err(FormatError::new("ENT-3", "an entry has unknown fields"));
        }
        let has = |bit: u16| bits & bit != 0;
        let mut metadata = Metadata {
            mode: u32::from(reader.u16()?),
            uid: reader.u32()?,
            gid: reader.u32()?,
            mtime: parse_time(reader)?,
            ctime: parse_time(reader)?,
            inode: reader.u64()?,
            ..Metadata::default()
        };
        if metadata.mode > 0o7777 {
            return Err(FormatError::new("ENT-3", "a mode has unknown bits"));
        }
        if has(bit::USER) {
            metadata.user = parse_name(reader)?;
        }
        if has(bit::GROUP) {
            metadata.group = parse_name(reader)?;
        }
        if has(bit::SIZE) {
            metadata.size = reader.u64()?;
        }
        let link_group = if has(bit::LINK_GROUP) { reader.u64()? } else { 0 };
        let filesystem = if has(bit::FILESYSTEM) { Some(reader.u32()?) } else { None };
        if has(bit::DEVICE) {
            metadata.device = Some((reader.u32()?, reader.u32()?));
        }
        if has(bit::TARGET) {
            let length = usize::from(reader.u16()?);
            metadata.target = reader.take(length)?.to_vec();
        }
        if has(bit::XATTRS) {
            metadata.xattrs = parse_xattrs(reader, |reader| {
                let length = usize::from(reader.u16()?);
                if length > MAX_INLINE_XATTR {
                    return Err(FormatError::new("ENT-6", "an extended attribute is too long"));
                }
                Ok(reader.take(length)?.to_vec())
            })?;
        }
        let long_xattrs =
            if has(bit::LONG_XATTRS) { parse_xattrs(reader, Content::parse)? } else { Vec::new() };
        let content = if has(bit::CONTENT) { Content::parse(reader)? } else { Content::Empty };
        let (changed_while_read, sparse) = (has(bit::CHANGED), has(bit::SPARSE));
        let entry = Entry {
            key,
            kind,
            metadata,
            long_xattrs,
            content,
            link_group,
            filesystem,
            changed_while_read,
            sparse,
        };
        entry.check(bits)?;
        Ok(entry)
    }

    /// Fields that an entry of its kind must or must not have.
    fn check(&self, bits: u16) -> Result<()> {
        if self.bits() != bits {
            return Err(FormatError::new("ENT-4", "an entry has a field that says nothing"));
        }
        let m = &self.metadata;
        let file = self.kind == EntryKind::File;
        let device = matches!(self.kind, EntryKind::CharDevice | EntryKind::BlockDevice);
        let link = self.kind == EntryKind::Symlink;
        let misplaced = (!file && (m.size != 0 || self.content != Content::Empty || self.sparse))
            || device != m.device.is_some()
            || link == m.target.is_empty();
        if misplaced {
            return Err(FormatError::new("ENT-5", "an entry's fields do not fit its kind"));
        }
        if m.target.contains(&0) || m.target.len() > 4096 {
            return Err(FormatError::new("ENT-5", "the target of a symlink is not a path"));
        }
        let twice = |(name, _): &(Vec<u8>, Content)| {
            m.xattrs.binary_search_by(|(other, _)| other.cmp(name)).is_ok()
        };
        if self.long_xattrs.iter().any(twice) {
            return Err(FormatError::new("ENT-6", "an extended attribute is short and long"));
        }
        if std::iter::once(&self.content)
            .chain(self.long_xattrs.iter().map(|(_, value)| value))
            .any(Content::overflows)
        {
            return Err(FormatError::new("ENT-7", "items are longer together than any file"));
        }
        if self.content.length().is_some_and(|length| length != m.size) {
            return Err(FormatError::new("ENT-7", "a file's content is not as long as its size"));
        }
        Ok(())
    }

    /// The last component of the path.
    pub fn name(&self) -> &[u8] {
        self.key.rsplit(|byte| *byte == 0).next().unwrap_or_default()
    }
}

fn parse_time(reader: &mut Reader<'_>) -> Result<Timestamp> {
    let time = Timestamp { seconds: reader.i64()?, nanoseconds: reader.u32()? };
    if time.nanoseconds >= 1_000_000_000 {
        return Err(FormatError::new("ENT-8", "a time has more than a second of nanoseconds"));
    }
    Ok(time)
}

fn parse_name(reader: &mut Reader<'_>) -> Result<Name> {
    let length = usize::from(reader.u8()?);
    Ok(Name::from_slice(reader.take(length)?))
}

fn parse_short(reader: &mut Reader<'_>) -> Result<Vec<u8>> {
    let length = usize::from(reader.u8()?);
    Ok(reader.take(length)?.to_vec())
}

fn parse_xattrs<T>(
    reader: &mut Reader<'_>,
    value: impl Fn(&mut Reader<'_>) -> Result<T>,
) -> Result<Vec<(Vec<u8>, T)>> {
    let count = usize::from(reader.u16()?);
    if count > MAX_XATTRS {
        return Err(FormatError::new("ENT-6", "an entry has too many extended attributes"));
    }
    let mut xattrs: Vec<(Vec<u8>, T)> = Vec::new();
    for _ in 0..count {
        let name = parse_short(reader)?;
        if name.is_empty() || name.contains(&0) || xattrs.last().is_some_and(|x| x.0 >= name) {
            return Err(FormatError::new("ENT-6", "extended attributes repeat or are not sorted"));
        }
        xattrs.push((name, value(reader)?));
    }
    Ok(xattrs)
}

/// A tree key as the path a user types: `files` and NULs become slashes.
pub fn display_key(key: &[u8]) -> Vec<u8> {
    let rest = match key.strip_prefix(b"files") {
        Some([]) => return b"/".to_vec(),
        Some(rest) if rest.first() == Some(&0) => rest,
        _ => {
            let mut name = key.to_vec();
            if let Some(at) = name.iter().position(|byte| *byte == 0) {
                name[at] = b':';
                name.insert(at + 1, 0);
            }
            return name.into_iter().map(|byte| if byte == 0 { b'/' } else { byte }).collect();
        }
    };
    rest.iter().map(|byte| if *byte == 0 { b'/' } else { *byte }).collect()
}

/// Whether a key is one of what was found by its path.
pub fn is_of_path(key: &[u8]) -> bool {
    key.strip_prefix(b"files").is_some_and(|rest| rest.first().is_none_or(|byte| *byte == 0))
}

/// The key of an absolute path in the component `files`.
pub fn key_of_path(path: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(path.len() + 6);
    key.extend_from_slice(b"files");
    for component in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
        key.push(0);
        key.extend_from_slice(component);
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::content::Item;
    use crate::id::ChunkId;

    fn check(entry: &Entry) {
        let mut bytes = Vec::new();
        entry.encode_into(&mut bytes);
        let mut reader = Reader::new(&bytes, "ENT-0");
        assert_eq!(Entry::parse(&mut reader).as_ref(), Ok(entry));
        reader.end().unwrap();
        for length in 0..bytes.len() {
            assert!(Entry::parse(&mut Reader::new(&bytes[..length], "ENT-0")).is_err());
        }
    }

    fn plain(key: &[u8], kind: EntryKind) -> Entry {
        let metadata = Metadata { mode: 0o644, ..Metadata::default() };
        Entry::new(key.to_vec(), kind, metadata)
    }

    #[test]
    fn round_trips() {
        check(&plain(b"files", EntryKind::Directory));
        let mut file = plain(b"files\0a\0\xff", EntryKind::File);
        file.metadata.size = 5;
        file.metadata.user = Name::from_slice(b"root");
        file.metadata.mtime = Timestamp { seconds: -7, nanoseconds: 999_999_999 };
        file.metadata.xattrs = vec![(b"user.a".to_vec(), vec![]), (b"user.b".to_vec(), vec![1])];
        file.content = Content::Items(vec![Item::Chunk { id: ChunkId([1; 32]), length: 5 }]);
        file.link_group = 9;
        file.filesystem = Some(1);
        check(&file);
        let mut link = plain(b"files\0l", EntryKind::Symlink);
        link.metadata.target = b"../x".to_vec();
        check(&link);
        let mut node = plain(b"files\0null", EntryKind::CharDevice);
        node.metadata.device = Some((1, 3));
        check(&node);
    }

    #[test]
    fn refuses_paths_that_lead_elsewhere_and_fields_out_of_place() {
        for key in [&b""[..], b"files\0", b"files\0..", b"files\0.", b"a/b", b"\0a", b"a\0\0b"] {
            assert!(!key_is_valid(key), "{key:?}");
        }
        let mut entry = plain(b"files", EntryKind::Directory);
        entry.metadata.size = 3;
        let mut bytes = Vec::new();
        entry.encode_into(&mut bytes);
        let error = Entry::parse(&mut Reader::new(&bytes, "ENT-0")).unwrap_err();
        assert_eq!(error.rule, "ENT-5");
    }

    #[test]
    fn keys_and_paths() {
        assert_eq!(key_of_path(b"/etc//passwd"), b"files\0etc\0passwd");
        assert_eq!(display_key(b"files\0etc\0passwd"), b"/etc/passwd");
        assert_eq!(display_key(b"files"), b"/");
        assert_eq!(display_key(b"db\0x\0y"), b"db:/x/y");
        assert_eq!(display_key(b"dump.sql"), b"dump.sql");
    }
}
