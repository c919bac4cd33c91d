//! A part of a snapshot as a tar stream: POSIX.1-2001 with PAX records for
//! whatever the plain header cannot say, extended attributes as
//! `SCHILY.xattr.*`, as GNU tar, bsdtar and star read them. Holes are written
//! out as the zeros they read as.

use std::collections::HashMap;

use tar::{EntryType, Header};

use super::ordered::Emitter;
use super::scope::{Chosen, Scope, Step, is_below};
use crate::format::entry::{Entry, EntryKind, Metadata};
use crate::progress::{Event, Progress};
use crate::repository::{Error, ErrorKind, Repository, Result};

const BLOCK: u64 = 512;
/// What seven and eleven octal digits can say.
const MAX_OCTAL_7: u64 = 0o7_777_777;
const MAX_OCTAL_11: u64 = 0o77_777_777_777;
const MAX_XATTR: u64 = 64 << 10;

/// Emits what is chosen of a tree. Names are the paths that a restore makes beneath
/// its target.
pub(super) fn emit_archive(
    repository: &Repository,
    chosen: Chosen<'_>,
    scope: &Scope,
    progress: &dyn Progress,
    emitter: &mut Emitter<'_>,
) -> Result<()> {
    let mut archive = Archive {
        repository,
        progress,
        links: HashMap::new(),
        on_the_way: Vec::new(),
        top_names: HashMap::new(),
    };
    let mut damage = None;
    for step in chosen {
        match step {
            Step::Entry { entry, only_on_the_way } => {
                let name = scope.target_path(&entry.key);
                archive.check_name(&entry.key, &name)?;
                archive.on_the_way.retain(|(above, _)| is_below(&entry.key, &above.key));
                if only_on_the_way {
                    archive.on_the_way.push((entry, name));
                    continue;
                }
                for (above, name) in std::mem::take(&mut archive.on_the_way) {
                    archive.emit(above, name, emitter)?;
                }
                archive.emit(entry, name, emitter)?;
            }
            // what can be read is worth having; the end tells
            Step::Damage(error) if error.kind == ErrorKind::Damage => damage = Some(error),
            Step::Damage(error) => return Err(error),
        }
    }
    emitter.bytes(vec![0; 2 * BLOCK as usize])?;
    damage.map_or(Ok(()), Err)
}

struct Archive<'a> {
    repository: &'a Repository,
    progress: &'a dyn Progress,
    /// Name of the first member of each hard-linked file.
    links: HashMap<u64, Vec<u8>>,
    /// Directories that are a member only if something beneath them is.
    on_the_way: Vec<(Entry, Vec<u8>)>,
    /// First name of a member → component of the tree it is from.
    top_names: HashMap<Vec<u8>, Vec<u8>>,
}

impl Archive<'_> {
    /// Two components of a tree may want the same name: a reader of the stream would
    /// have the second over the first.
    fn check_name(&mut self, key: &[u8], name: &[u8]) -> Result<()> {
        let top = name.split(|byte| *byte == b'/').next().unwrap_or_default();
        if top.is_empty() || self.top_names.get(top).is_some_and(|from| is_at_or_below(key, from)) {
            return Ok(());
        }
        let component = key.split(|byte| *byte == 0).next().unwrap_or_default();
        if self.top_names.insert(top.to_vec(), component.to_vec()).is_some() {
            let top = String::from_utf8_lossy(top);
            return Err(Error::failed(format!(
                "{top}: two parts of the snapshot have this name: name one with --source"
            )));
        }
        Ok(())
    }

    fn emit(
        &mut self,
        mut entry: Entry,
        mut name: Vec<u8>,
        emitter: &mut Emitter<'_>,
    ) -> Result<()> {
        for (xattr, content) in std::mem::take(&mut entry.long_xattrs) {
            let value = self.repository.read_value(&content, MAX_XATTR)?;
            entry.metadata.xattrs.push((xattr, value));
        }
        if entry.kind == EntryKind::Directory {
            name.extend_from_slice(if name.is_empty() { b"./" } else { b"/" });
        }
        let group = entry.link_group;
        if let Some(first) = self.links.get(&group).filter(|_| group != 0) {
            return emitter.bytes(headers(&entry.metadata, EntryType::Link, &name, first, 0)?);
        }
        if group != 0 {
            self.links.insert(group, name.clone());
        }
        let (kind, size) = match entry.kind {
            EntryKind::File => (EntryType::Regular, entry.metadata.size),
            EntryKind::Directory => (EntryType::Directory, 0),
            EntryKind::Symlink => (EntryType::Symlink, 0),
            EntryKind::CharDevice => (EntryType::Char, 0),
            EntryKind::BlockDevice => (EntryType::Block, 0),
            EntryKind::Fifo => (EntryType::Fifo, 0),
        };
        let target = std::mem::take(&mut entry.metadata.target);
        emitter.bytes(headers(&entry.metadata, kind, &name, &target, size)?)?;
        if size > 0 {
            emitter.content(&entry.content)?;
            emitter.bytes(vec![0; padding(size)])?;
        }
        if entry.kind == EntryKind::File {
            self.progress.event(Event::Done { files: 1, bytes: 0 });
        }
        Ok(())
    }
}

fn is_at_or_below(key: &[u8], component: &[u8]) -> bool {
    key == component || is_below(key, component)
}

fn padding(size: u64) -> usize {
    (size.next_multiple_of(BLOCK) - size) as usize
}

/// The header of an entry, after the records of what does not fit into it.
fn headers(
    metadata: &Metadata,
    kind: EntryType,
    name: &[u8],
    target: &[u8],
    size: u64,
) -> Result<Vec<u8>> {
    let records = records(metadata, kind, name, target, size);
    let mut out = Vec::new();
    if !records.is_empty() {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        copy(&mut header.as_old_mut().name, b"././@PaxHeader");
        header.set_mode(0o644);
        header.set_size(records.len() as u64);
        header.set_cksum();
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(&records);
        out.resize(out.len() + padding(records.len() as u64), 0);
    }
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    copy(&mut header.as_old_mut().name, name);
    copy(&mut header.as_old_mut().linkname, target);
    header.set_mode(metadata.mode);
    header.set_uid(u64::from(metadata.uid).min(MAX_OCTAL_7));
    header.set_gid(u64::from(metadata.gid).min(MAX_OCTAL_7));
    header.set_size(size.min(MAX_OCTAL_11));
    header.set_mtime(u64::try_from(metadata.mtime.seconds).unwrap_or(0).min(MAX_OCTAL_11));
    if let Some(ustar) = header.as_ustar_mut() {
        copy(&mut ustar.uname, &metadata.user);
        copy(&mut ustar.gname, &metadata.group);
    }
    if let Some((major, minor)) = metadata.device {
        let wrong = |error: std::io::Error| Error::failed(error.to_string());
        header.set_device_major(major).map_err(wrong)?;
        header.set_device_minor(minor).map_err(wrong)?;
    }
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
    Ok(out)
}

/// As much as fits; a record says the rest.
fn copy(field: &mut [u8], bytes: &[u8]) {
    let length = field.len().min(bytes.len());
    field[..length].copy_from_slice(&bytes[..length]);
}

fn records(metadata: &Metadata, kind: EntryType, name: &[u8], target: &[u8], size: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let mut put = |key: &[u8], value: &[u8]| record(key, value, &mut out);
    let needs_record = |bytes: &[u8], room: usize| bytes.len() > room || !bytes.is_ascii();
    if needs_record(name, 100) {
        put(b"path", name);
    }
    if needs_record(target, 100) {
        put(b"linkpath", target);
    }
    if size > MAX_OCTAL_11 {
        put(b"size", size.to_string().as_bytes());
    }
    for (key, id) in [("uid", metadata.uid), ("gid", metadata.gid)] {
        if u64::from(id) > MAX_OCTAL_7 {
            put(key.as_bytes(), id.to_string().as_bytes());
        }
    }
    for (key, owner) in [(&b"uname"[..], &metadata.user), (b"gname", &metadata.group)] {
        if needs_record(owner, 31) {
            put(key, owner);
        }
    }
    let time = metadata.mtime;
    if time.nanoseconds != 0 || !(0..=MAX_OCTAL_11 as i64).contains(&time.seconds) {
        put(b"mtime", decimal(time.seconds, time.nanoseconds).as_bytes());
    }
    if kind != EntryType::Link {
        for (xattr, value) in &metadata.xattrs {
            let mut key = b"SCHILY.xattr.".to_vec();
            for byte in xattr {
                match byte {
                    b'=' => key.extend_from_slice(b"%3D"),
                    b'%' => key.extend_from_slice(b"%25"),
                    _ => key.push(*byte),
                }
            }
            put(&key, value);
        }
    }
    out
}

/// Seconds with a fraction; -0.25 s is -1 s and 750,000,000 ns.
fn decimal(seconds: i64, nanoseconds: u32) -> String {
    if seconds >= 0 || nanoseconds == 0 {
        return format!("{seconds}.{nanoseconds:09}");
    }
    format!("-{}.{:09}", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanoseconds)
}

/// `length key=value\n`, the length counting itself.
fn record(key: &[u8], value: &[u8], out: &mut Vec<u8>) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}
