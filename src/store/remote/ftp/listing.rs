//! Lines of listings: those of `MLSD` and `MLST` (RFC 3659 §7), and of `LIST`, which look as each server likes.
//!
//! A line that is not understood is an error: what it names could be an object.

use suppaftp::list::{File, ListParser};

/// What a line says of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub name: String,
    pub found: Found,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// of so many bytes
    File(u64),
    Directory,
    /// A link, a device, or what the server has no word for.
    Other,
}

/// A line of `MLSD`; `None` if it is about the directory itself or the one above.
pub(super) fn of_facts(line: &str) -> Result<Option<Entry>, String> {
    let unknown =
        || format!("a listing has a line that is not understood: {}", line.escape_debug());
    // names may hold anything, blanks and semicolons among it; facts hold neither
    let (facts, name) = line.split_once(' ').ok_or_else(unknown)?;
    let fact = |wanted: &str| {
        let pairs = facts.split(';').filter_map(|fact| fact.split_once('='));
        pairs
            .into_iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value)
    };
    let found = match fact("type").ok_or_else(unknown)?.to_ascii_lowercase().as_str() {
        "cdir" | "pdir" => return Ok(None),
        "dir" => Found::Directory,
        "file" => {
            let size = fact("size").and_then(|size| size.parse().ok());
            Found::File(size.ok_or_else(unknown)?)
        }
        _ => Found::Other,
    };
    if matches!(name, "." | "..") {
        return Ok(None);
    }
    Ok(Some(Entry { name: name.to_owned(), found }))
}

/// What `MLST` said of the file it was asked for: the one line of the reply that is indented.
pub(super) fn of_reply(text: &str) -> Option<Found> {
    let line = text.lines().nth(1)?.trim_start();
    of_facts(line).ok()?.map(|entry| entry.found)
}

/// A line of `LIST`, as `ls -l` or DOS print it; `None` if it is the sum at the top. `.` and `..` are kept.
pub(super) fn of_list(line: &str) -> Result<Option<Entry>, String> {
    let is_sum = line.strip_prefix("total ").is_some_and(|sum| sum.trim().parse::<u64>().is_ok());
    if line.trim().is_empty() || is_sum {
        return Ok(None);
    }
    let file = ListParser::parse_posix(line).or_else(|_| ListParser::parse_dos(line));
    let file = file.map_err(|error| {
        format!("a listing has a line that is not understood: {}: {error}", line.escape_debug())
    })?;
    Ok(Some(Entry { name: file.name().to_owned(), found: found(&file) }))
}

fn found(file: &File) -> Found {
    match file {
        file if file.is_file() => Found::File(file.size() as u64),
        file if file.is_directory() => Found::Directory,
        _ => Found::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, found: Found) -> Entry {
        Entry { name: name.to_owned(), found }
    }

    #[test]
    fn facts_are_understood() {
        for (line, expected) in [
            (
                "type=file;size=12;perm=r;modify=20261128100000;unique=1g2;unix.mode=0100600; config",
                entry("config", Found::File(12)),
            ),
            ("Type=file;Size=0; a;b c", entry("a;b c", Found::File(0))),
            ("type=dir;sizd=4096; packs", entry("packs", Found::Directory)),
            ("modify=20261128100000;type=DIR; ab", entry("ab", Found::Directory)),
            ("type=OS.unix=slink:/x; link", entry("link", Found::Other)),
        ] {
            assert_eq!(of_facts(line), Ok(Some(expected)), "{line}");
        }
        for line in ["type=cdir; /x", "type=pdir;modify=1; ..", "type=dir; ."] {
            assert_eq!(of_facts(line), Ok(None), "{line}");
        }
        for line in ["", "config", "size=3; config", "type=file; config", "type=file;size=-1; x"] {
            assert!(of_facts(line).is_err(), "{line}");
        }
        let reply = "250-Listing x:\r\n type=file;size=7; /a/x\r\n250 End";
        assert_eq!(of_reply(reply), Some(Found::File(7)));
        assert_eq!(of_reply("250 done"), None);
    }

    #[test]
    fn lists_of_unix_and_dos_are_understood() {
        for (line, expected) in [
            (
                "-rw-------    1 108      115          1024 Nov 28 19:12 config",
                entry("config", Found::File(1024)),
            ),
            (
                "-rw-r--r-- 1 ftp ftp 8589934592 Feb 29  2024 a.b_c-d",
                entry("a.b_c-d", Found::File(8 << 30)),
            ),
            (
                "drwx------    3 0        0            4096 Nov 28 19:12 ab",
                entry("ab", Found::Directory),
            ),
            (
                "drwx------    3 0        0            4096 Nov 28 19:12 .",
                entry(".", Found::Directory),
            ),
            (
                "lrwxrwxrwx    1 0        0               7 Nov 28 19:12 l -> packs",
                entry("l", Found::Other),
            ),
            ("11-28-26  07:12PM                 1024 config", entry("config", Found::File(1024))),
            ("11-28-26  07:12PM       <DIR>          packs", entry("packs", Found::Directory)),
        ] {
            assert_eq!(of_list(line), Ok(Some(expected)), "{line}");
        }
        assert_eq!(of_list("total 12"), Ok(None));
        assert_eq!(of_list(""), Ok(None));
        for line in ["total eclipse", "config", "srwxr-xr-x 1 0 0 0 Nov 28 19:12 s", "-rw 1 x"] {
            assert!(of_list(line).is_err(), "{line}");
        }
    }
}
