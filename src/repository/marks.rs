//! Marks: what is said of a snapshot after it was made. Forget, undo, name,
//! description, tags, pin, damaged.
//!
//! `format-spec/12-notes.md`; who may sign which mark is judged in `snapshots`.

use std::sync::atomic::Ordering;

use super::Repository;
use super::error::{Error, ErrorKind, Result};
use crate::format::Kind;
use crate::format::notes::{self, MARKS, Mark, MarkKind};
use crate::id::SnapshotId;

/// How long a forgotten snapshot can be taken back, unless its maintainer says
/// otherwise: 7 days.
pub const DEFAULT_GRACE_MS: u64 = 7 * 24 * 3_600_000;
/// Longest name or tag, in bytes.
const MAX_NAME: usize = 255;
/// Longest description, in bytes.
const MAX_DESCRIPTION: usize = 4096;

/// Whether a snapshot can be called so where snapshots are named on a command
/// line.
pub fn check_name(name: &str) -> Result<()> {
    let id_like = name.len() <= 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let reason = if name.is_empty() {
        "is empty"
    } else if name.len() > MAX_NAME {
        "is longer than 255 bytes"
    } else if name.chars().any(char::is_control) {
        "holds a control character"
    } else if name.contains(':') {
        "holds a colon, which begins a path"
    } else if name.starts_with("latest") {
        "begins with \"latest\", which means another thing"
    } else if name.starts_with('-') {
        "begins like an option"
    } else if name.trim() != name {
        "begins or ends with a space"
    } else if id_like {
        "could be the beginning of an id"
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::Usage, format!("the name {name:?} {reason}: choose another")))
}

pub fn check_tag(tag: &str) -> Result<()> {
    let reason = if tag.is_empty() {
        "is empty"
    } else if tag.len() > MAX_NAME {
        "is longer than 255 bytes"
    } else if tag.chars().any(char::is_control) {
        "holds a control character"
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::Usage, format!("the tag {tag:?} {reason}: choose another")))
}

pub fn check_description(text: &str) -> Result<()> {
    if text.len() <= MAX_DESCRIPTION {
        return Ok(());
    }
    let message = format!("the description is longer than {MAX_DESCRIPTION} bytes: shorten it");
    Err(Error::new(ErrorKind::Usage, message))
}

impl Repository {
    /// Puts a mark numbered one above the highest listed for the snapshot.
    /// `time` is in ms since 1970.
    pub fn put_mark(&self, snapshot: SnapshotId, kind: MarkKind, time: u64) -> Result<()> {
        let highest = self.highest_mark(snapshot)?;
        if highest >= notes::MAX_NUMBER {
            return Err(Error::failed(format!("snapshot {snapshot} has too many marks")));
        }
        let key = notes::new_mark_key(snapshot, highest + 1);
        let mark = Mark { kind, time, kept: Vec::new() };
        self.put_object(Kind::Mark, &key, &mark.encode(), None).map(drop)
    }

    /// The highest number of a mark listed for the snapshot. One with an absurd
    /// number counts only if it can be read: junk must not take all the room.
    fn highest_mark(&self, snapshot: SnapshotId) -> Result<u64> {
        let listed = self.listed_keys(&format!("{MARKS}{snapshot}/"))?;
        let numbered =
            listed.into_iter().filter_map(|key| Some((notes::mark_of_key(&key)?.1, key)));
        let (absurd, usual): (Vec<_>, Vec<_>) =
            numbered.partition(|(number, _)| *number >= notes::FIRST_ABSURD_MARK);
        let highest = usual.iter().map(|(number, _)| *number).max().unwrap_or(0);
        if absurd.is_empty() {
            return Ok(highest);
        }
        let keys: Vec<String> = absurd.iter().map(|(_, key)| key.clone()).collect();
        let objects = self.read_objects(&keys)?;
        let reloaded =
            if self.has_unknown_signer(&objects) { Some(self.reload_trust()?) } else { None };
        let trust = reloaded.as_ref().unwrap_or(&self.trust);
        let is_readable = |key: &String| {
            let bytes = objects.get(key).cloned().unwrap_or_default();
            let opened = self.open_object(Kind::Mark, key, bytes, trust);
            opened.and_then(|opened| Mark::parse(&opened.text)).is_ok()
        };
        let readable = absurd.iter().filter(|(_, key)| is_readable(key));
        Ok(readable.map(|(number, _)| *number).max().unwrap_or(0).max(highest))
    }

    /// Who may forget, undo and prune.
    pub fn require_maintain(&self) -> Result<()> {
        self.keyring().require_maintain()?;
        self.may_use_reserve.store(true, Ordering::Relaxed);
        match self.update().forbids_maintenance() {
            Some(feature) => Err(Error::failed(format!(
                "the repository uses the feature {feature:?}: upgrade esker to maintain it"
            ))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_can_be_typed_and_mean_one_thing() {
        for name in ["monday", "before the move", "größer", "2026-11-21", "cafe-1", "x"] {
            check_name(name).unwrap();
        }
        let long = "x".repeat(256);
        for name in ["", "latest", "latest~1", "a:b", "a\nb", "-x", " x", "cafe", "0", &long] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        for tag in ["", "a\u{1b}", &long] {
            assert!(check_tag(tag).is_err(), "{tag:?}");
        }
        check_tag("latest:cafe").unwrap();
    }
}
