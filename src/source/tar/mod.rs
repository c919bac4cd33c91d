//! A command that prints a tar stream, whose members become entries of the source.

mod member;
mod pax;
mod sparse;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, ErrorKind, Read};

use self::member::{Kind, Member, Members};
use super::capture::file_metadata;
use super::process::{Feed, Limits, Log, Program, Running, check_program};
use crate::backup::{Sink, StreamSource};
use crate::format::entry::{EntryKind, MAX_KEY, Metadata};
use crate::repository::Result;

/// Symbolic links that are remembered, because a tar stream may have hard links to them.
const MAX_LINKS: usize = 100_000;

pub struct TarSource {
    pub name: String,
    pub required: bool,
    pub program: Program,
    pub limits: Limits,
    /// Where programs are looked for: the value of PATH.
    pub path: OsString,
}

impl TarSource {
    /// Whether the program is there. Starts nothing of it.
    pub fn check(&self) -> Result<()> {
        check_program(&self.program.words, &self.path)
    }

    /// The members' paths are relative to the source. Standard error goes to `log` as well.
    pub fn stream(self, log: Log) -> StreamSource {
        let (name, required) = (self.name.clone(), self.required);
        let capture = move |sink: &mut dyn Sink| {
            let deadline = self.limits.begin();
            let mut running = Running::start(&self.program, Feed::Nothing, deadline, &log)?;
            running.wait_for_first(&|| sink.interrupted())?;
            let given = entries(&mut running, sink);
            if let Err(error) = &given
                && error.kind() != ErrorKind::UnexpectedEof
            {
                return Err(error.to_string());
            }
            // how the program ended says more than how the stream did
            running.finish(&|| sink.interrupted())?;
            let members = given
                .map_err(|error| running.blame(&format!("{}: {error}", self.program.name())))?;
            match members {
                0 => Err(running.blame(&format!("{} gave nothing", self.program.name()))),
                _ => Ok(()),
            }
        };
        StreamSource { name, required, capture: Box::new(capture) }
    }
}

/// Gives the members of a tar stream to the sink, and reads the stream to its end. How many members there were. A
/// stream that is cut off is an error of `ErrorKind::UnexpectedEof`.
pub fn entries(reader: &mut dyn Read, sink: &mut dyn Sink) -> io::Result<u64> {
    let mut members = Members::new(reader);
    let mut links = BTreeMap::new();
    let mut count = 0;
    let mut acls_told = false;
    while let Some(member) = members.next(&|| sink.interrupted())? {
        count += 1;
        if member.has_acl && !acls_told {
            acls_told = true;
            sink.note(
                &member.path,
                "its access list is left out: tar gives access lists as attributes with --xattrs --xattrs-include='*'",
            );
        }
        match relative(&member.path) {
            Ok(path) => give(&path, member, &mut members, sink, &mut links)?,
            Err(reason) => sink.note(&member.path, &format!("left out: {reason}")),
        }
    }
    members.trailer(&|| sink.interrupted())?;
    Ok(count)
}

fn give(
    path: &[u8],
    member: Member,
    members: &mut Members<'_>,
    sink: &mut dyn Sink,
    links: &mut BTreeMap<Vec<u8>, (EntryKind, Metadata)>,
) -> io::Result<()> {
    let invalid = |reason: &str| {
        let path = String::from_utf8_lossy(path);
        io::Error::new(ErrorKind::InvalidData, format!("tar member {path:?}: {reason}"))
    };
    if path.is_empty() && member.kind != Kind::Entry(EntryKind::Directory) {
        // its place is that of the source
        sink.note(path, "left out: a member without a name");
        return Ok(());
    }
    match member.kind {
        Kind::Entry(EntryKind::File) => {
            let mut content = members.content(&member)?;
            sink.file(path, member.metadata, &mut content).map(drop)
        }
        Kind::Entry(kind) => {
            let target = &member.metadata.target;
            if kind == EntryKind::Symlink
                && (target.is_empty() || target.len() > 4096 || target.contains(&0))
            {
                return Err(invalid("the target of this symbolic link is no path"));
            }
            if kind != EntryKind::Directory && links.len() < MAX_LINKS {
                links.insert(path.to_vec(), (kind, member.metadata.clone()));
            }
            sink.entry(path, kind, member.metadata)
        }
        Kind::Link => {
            let to = relative(&member.link)
                .map_err(|reason| invalid(&format!("a hard link, {reason}")))?;
            match links.get(&to) {
                Some((kind, metadata)) => sink.entry(path, *kind, metadata.clone()),
                None => sink.link(path, &to),
            }
        }
        Kind::Other(byte) => {
            let letter = char::from(byte).escape_default();
            sink.note(path, &format!("left out: a member of the unknown type '{letter}'"));
            Ok(())
        }
    }
}

/// A member's name as a path relative to the source; the source itself is the empty one.
fn relative(name: &[u8]) -> std::result::Result<Vec<u8>, String> {
    if name.is_empty() {
        return Err("its name is empty".into());
    }
    if name.contains(&0) {
        return Err("its name has NUL in it".into());
    }
    let parts = name.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    let parts: Vec<&[u8]> = parts.collect();
    if parts.iter().any(|part| *part == b"..") {
        return Err("its name has .. in it".into());
    }
    let path = parts.join(&b'/');
    match path.len() < MAX_KEY - 256 {
        true => Ok(path),
        false => Err("its name is too long".into()),
    }
}

/// What a member is that says nothing of itself.
fn nobody() -> Metadata {
    Metadata { uid: 0, gid: 0, ..file_metadata() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_relative_or_refused() {
        for (name, expect) in [
            ("a/b", Some("a/b")),
            ("/a//b/", Some("a/b")),
            ("./a", Some("a")),
            ("././", Some("")),
            ("/", Some("")),
            ("a/./b", Some("a/b")),
            ("..", None),
            ("a/../b", None),
            ("", None),
            ("a\0b", None),
            ("..a/b..", Some("..a/b..")),
        ] {
            let path = relative(name.as_bytes()).ok();
            assert_eq!(path.as_deref(), expect.map(str::as_bytes), "{name:?}");
        }
    }
}
