//! A directory of a snapshot as a tar stream: POSIX.1-2001 with PAX records for
//! whatever the plain header cannot say, extended attributes as
//! `SCHILY.xattr.*`, as GNU tar, bsdtar and star read them. Holes are written
//! out as the zeros they read as.

use std::collections::HashMap;

use tar::{EntryType, Header};

use super::ordered::Emitter;
use super::scope::{Chosen, Scope, Step};
use crate::format::content::Root;
use crate::format::entry::{Entry, EntryKind, Metadata};
use crate::repository::{Error, ErrorKind, Repository, Result};

const BLOCK: u64 = 512;
/// What seven and eleven octal digits can say.
const MAX_OCTAL_7: u64 = 0o7_777_777;
const MAX_OCTAL_11: u64 = 0o77_777_777_777;
const MAX_XATTR: u64 = 64 << 10;

pub(super) fn emit_archive(
    repository: &Repository,
    tree: Root,
    key: &[u8],
    emitter: &mut Emitter<'_>,
) -> Result<()> {
    let scope = Scope::Directory(key.to_vec());
    let mut links: HashMap<u64, Vec<u8>> = HashMap::new();
    let mut damage = None;
    for step in Chosen::new(repository, tree, &scope, Default::default()) {
        match step {
            Step::Entry { entry, .. } => {
                let name = scope.target_path(&entry.key);
                emit_entry(repository, entry, name, &mut links, emitter)?;
            }
            // what can be read is worth having; the end tells
            Step::Damage(error) if error.kind == ErrorKind::Damage => damage = Some(error),
            Step::Damage(error) => return Err(error),
        }
    }
    emitter.bytes(vec![0; 2 * BLOCK as usize])?;
    damage.map_or(Ok(()), Err)
}

fn emit_entry(
    repository: &Repository,
    mut entry: Entry,
    mut name: Vec<u8>,
    links: &mut HashMap<u64, Vec<u8>>,
    emitter: &mut Emitter<'_>,
) -> Result<()> {
    for (xattr, content) in std::mem::take(&mut entry.long_xattrs) {
        let value = repository.read_value(&content, MAX_XATTR)?;
        entry.metadata.xattrs.push((xattr, value));
    }
    if entry.kind == EntryKind::Directory {
        name.extend_from_slice(if name.is_empty() { b"./" } else { b"/" });
    }
    let group = entry.link_group;
    let first = links.get(&group).filter(|_| group != 0).cloned();
    if let Some(first) = first {
        return emitter.bytes(headers(&entry.metadata, EntryType::Link, &name, &first, 0)?);
    }
    if group != 0 {
        links.insert(group, name.clone());
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
    Ok(())
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
