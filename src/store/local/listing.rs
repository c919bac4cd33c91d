//! Listing a directory tree. Completeness rests on this: a directory that holds an object throughout the listing is
//! never removed or renamed by esker, so it is found and read once, and `readdir` returns every entry that stays.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, Dir, FileType, OFlags, statat};
use rustix::io::Errno;

use super::super::Listed;
use super::super::key::is_key;
use super::{is_absence, open_at, sync_directory};

/// All objects beneath `prefix` (empty, or a directory and `/`), sorted by key.
///
/// A link to a file is followed, as `get` follows it; one to a directory is an error. Errors come with the directory's name.
pub(super) fn list(root: BorrowedFd<'_>, prefix: &str) -> Result<Vec<Listed>, (String, io::Error)> {
    let mut listed = Vec::new();
    let mut directories = vec![prefix.to_owned()];
    while let Some(directory) = directories.pop() {
        list_directory(root, &directory, &mut listed, &mut directories)
            .map_err(|error| (directory, error))?;
    }
    // What a listing shows must outlast a power loss: others may build on it before its writer has synced it.
    sync_directory(root).map_err(|error| (prefix.to_owned(), error))?;
    listed.sort_unstable();
    Ok(listed)
}

fn list_directory(
    root: BorrowedFd<'_>,
    prefix: &str,
    listed: &mut Vec<Listed>,
    directories: &mut Vec<String>,
) -> io::Result<()> {
    let path = if prefix.is_empty() { "." } else { prefix };
    let directory = match open_at(root, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC)
    {
        // Never made, or removed since its last object went.
        Err(error) if is_absence(&error) => return Ok(()),
        result => result?,
    };
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        let key = format!("{prefix}{name}");
        if !is_key(&key) {
            continue;
        }
        if entry.file_type() == FileType::Directory {
            directories.push(key + "/");
            continue;
        }
        match classify(directory.as_fd(), name)? {
            Some(Entry::Object { length }) => listed.push(Listed { key, length }),
            Some(Entry::Directory) => directories.push(key + "/"),
            None => {}
        }
    }
    sync_directory(directory.as_fd())
}

enum Entry {
    Object { length: u64 },
    Directory,
}

/// What a name stands for; `None` if for nothing of ours: removed meanwhile, a link to nowhere, a pipe.
fn classify(directory: BorrowedFd<'_>, name: &str) -> io::Result<Option<Entry>> {
    let Some((mut kind, mut length)) = look(directory, name, AtFlags::SYMLINK_NOFOLLOW)? else {
        return Ok(None);
    };
    if kind == FileType::Symlink {
        match look(directory, name, AtFlags::empty())? {
            // Left out, its objects would seem missing; followed, a loop would show them many times.
            Some((FileType::Directory, _)) => {
                return Err(io::Error::other(format!(
                    "{name} is a link to a directory, which esker does not follow"
                )));
            }
            Some(target) => (kind, length) = target,
            None => return Ok(None),
        }
    }
    Ok(match kind {
        FileType::RegularFile => Some(Entry::Object { length }),
        FileType::Directory => Some(Entry::Directory),
        _ => None,
    })
}

/// Type and length in bytes; `None` if nothing is there.
fn look(
    directory: BorrowedFd<'_>,
    name: &str,
    flags: AtFlags,
) -> io::Result<Option<(FileType, u64)>> {
    match statat(directory, name, flags) {
        Ok(stat) => Ok(Some((
            FileType::from_raw_mode(stat.st_mode),
            u64::try_from(stat.st_size).unwrap_or(0),
        ))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}
