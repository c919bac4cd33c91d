//! `ls`: what a snapshot holds.

use std::ffi::OsString;
use std::io;

use clap::Args;
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};

use super::context::Context;
use super::snapshot_name::{self, Narrow};
use super::streams::Output;
use super::{Exit, Outcome};
use crate::format::entry::{Entry, EntryKind, display_key};
use crate::list::{Listed, list};
use crate::output;

/// List what a snapshot holds
///
/// A directory lists what lies in it, with -R all that lies below. PATH is /an/absolute/path, the
/// NAME of a stream, or NAME:/a/path in one.
#[derive(Args)]
pub struct Arguments {
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    snapshot: OsString,

    /// Mode, owner, size and time as well
    #[arg(short, long)]
    long: bool,

    /// All that lies below
    #[arg(short = 'R', long)]
    recursive: bool,

    /// End paths with NUL, and print them byte for byte
    #[arg(short = '0', long, conflicts_with_all = ["long", "json"])]
    print0: bool,

    #[command(flatten)]
    narrow: Narrow,
}

pub fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let named = snapshot_name::parse(&arguments.snapshot)?;
    let repository = context.open()?;
    let snapshots = context.readable_snapshots(&repository)?;
    let snapshot = context.select(&repository, &snapshots, &named.wanted, &arguments.narrow)?;
    let key = named.key();
    let zone = TimeZone::system();
    let mut output = Output::new();
    let mut written = Ok(());
    let mut print = |listed: Listed| -> io::Result<()> {
        let path = display_key(&listed.key);
        match &listed.entry {
            _ if context.json() => output.json("entry", to_json(&path, listed.entry.as_ref())),
            _ if arguments.print0 => output.write(&[&path[..], b"\0"].concat()),
            Some(entry) if arguments.long => output.line(&long(&path, entry, &zone)),
            None if arguments.long => output.line(&format!("d{:66}{}", "", output::path(&path))),
            _ => output.line(&output::path(&path)),
        }
    };
    list(&repository, snapshot, key.as_deref(), arguments.recursive, &mut |listed| {
        if written.is_ok() {
            written = print(listed);
        }
    })?;
    written?;
    output.finish()?;
    Ok(Exit::Ok)
}

fn letter(kind: EntryKind) -> char {
    match kind {
        EntryKind::File => '-',
        EntryKind::Directory => 'd',
        EntryKind::Symlink => 'l',
        EntryKind::CharDevice => 'c',
        EntryKind::BlockDevice => 'b',
        EntryKind::Fifo => 'p',
    }
}

pub fn kind_name(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::File => "file",
        EntryKind::Directory => "directory",
        EntryKind::Symlink => "symlink",
        EntryKind::CharDevice => "char_device",
        EntryKind::BlockDevice => "block_device",
        EntryKind::Fifo => "fifo",
    }
}

/// `-rw-r--r--`
fn mode(entry: &Entry) -> String {
    let bits = entry.metadata.mode;
    let mut text = String::from(letter(entry.kind));
    for (shift, special, set) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let on = |bit: u32| bits >> shift & bit != 0;
        text.push(if on(4) { 'r' } else { '-' });
        text.push(if on(2) { 'w' } else { '-' });
        text.push(match (bits & special != 0, on(1)) {
            (true, true) => set,
            (true, false) => set.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

fn long(path: &[u8], entry: &Entry, zone: &TimeZone) -> String {
    let metadata = &entry.metadata;
    let name = |name: &[u8], number: u32| match name.is_empty() {
        true => number.to_string(),
        false => output::path(name).into_owned(),
    };
    let size = match metadata.device {
        Some((major, minor)) => format!("{major}, {minor}"),
        None => output::size(metadata.size),
    };
    let target = match entry.kind {
        EntryKind::Symlink => format!(" -> {}", output::path(&metadata.target)),
        _ => String::new(),
    };
    let flag = if entry.changed_while_read { " (changed while it was read)" } else { "" };
    format!(
        "{} {:<9} {:<9} {:>10}  {}  {}{target}{flag}",
        mode(entry),
        name(&metadata.user, metadata.uid),
        name(&metadata.group, metadata.gid),
        size,
        output::time_of(metadata.mtime.seconds, zone),
        output::path(path),
    )
}

fn to_json(path: &[u8], entry: Option<&Entry>) -> Value {
    let mut object = Map::new();
    output::json_path(&mut object, "path", path);
    let Some(entry) = entry else {
        object.insert("kind".to_owned(), "directory".into());
        object.insert("implied".to_owned(), true.into());
        return Value::Object(object);
    };
    let metadata = &entry.metadata;
    let time =
        |time: crate::format::entry::Timestamp| output::rfc3339_of(time.seconds, time.nanoseconds);
    let members = json!({
        "kind": kind_name(entry.kind),
        "mode": format!("{:04o}", metadata.mode),
        "uid": metadata.uid,
        "gid": metadata.gid,
        "user": String::from_utf8_lossy(&metadata.user),
        "group": String::from_utf8_lossy(&metadata.group),
        "bytes": metadata.size,
        "mtime": time(metadata.mtime),
        "ctime": time(metadata.ctime),
        "inode": metadata.inode,
        "device": metadata.device,
        "link_group": (entry.link_group != 0).then_some(entry.link_group),
        "changed_while_read": entry.changed_while_read,
    });
    if let Value::Object(members) = members {
        object.extend(members);
    }
    if entry.kind == EntryKind::Symlink {
        output::json_path(&mut object, "target", &metadata.target);
    }
    let mut xattrs: Vec<&[u8]> = metadata.xattrs.iter().map(|(name, _)| &name[..]).collect();
    xattrs.extend(entry.long_xattrs.iter().map(|(name, _)| &name[..]));
    let xattrs: Vec<_> = xattrs.into_iter().map(String::from_utf8_lossy).collect();
    object.insert("xattrs".to_owned(), json!(xattrs));
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::entry::Metadata;

    #[test]
    fn modes_read_as_ls_shows_them() {
        let entry = |kind, mode| {
            Entry::new(b"files".to_vec(), kind, Metadata { mode, ..Metadata::default() })
        };
        for (kind, bits, text) in [
            (EntryKind::File, 0o644, "-rw-r--r--"),
            (EntryKind::File, 0o4755, "-rwsr-xr-x"),
            (EntryKind::File, 0o2644, "-rw-r-Sr--"),
            (EntryKind::Directory, 0o1777, "drwxrwxrwt"),
            (EntryKind::Symlink, 0o777, "lrwxrwxrwx"),
        ] {
            assert_eq!(mode(&entry(kind, bits)), text);
        }
    }
}
