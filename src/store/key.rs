//! The syntax of keys and prefixes. Which keys a repository has is the format's affair.

use super::{ErrorKind, Result, StoreError};

/// Longest key, in bytes.
pub const MAX_KEY_LENGTH: usize = 200;

/// The directory in which a store of files writes objects before they get their key.
pub(super) const TEMPORARY: &str = "tmp";
/// The file a local store gives up when the disk is full.
pub(super) const RESERVE: &str = "reserve";

/// Refuses what is no valid key.
pub(super) fn check_key(url: &str, key: &str) -> Result<()> {
    if is_key(key) {
        return Ok(());
    }
    Err(StoreError::new(ErrorKind::Permanent, url, key).because("not a valid key"))
}

/// Refuses what is neither empty nor a valid directory followed by `/`.
pub(super) fn check_prefix(url: &str, prefix: &str) -> Result<()> {
    let directory = prefix.strip_suffix('/');
    if prefix.is_empty() || directory.is_some_and(is_key) {
        return Ok(());
    }
    Err(StoreError::new(ErrorKind::Permanent, url, prefix)
        .because("not a valid prefix: it must end in `/`"))
}

/// Whether the name is a valid key. The store's own names are not: what lies there is no object.
pub(super) fn is_key(key: &str) -> bool {
    let own = key == RESERVE || key.split('/').next() == Some(TEMPORARY);
    !own && key.len() <= MAX_KEY_LENGTH && key.split('/').all(is_component)
}

fn is_component(component: &str) -> bool {
    let is_allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    !matches!(component, "" | "." | "..") && component.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_from_other_names() {
        let longest = "a".repeat(MAX_KEY_LENGTH);
        for key in [
            "config",
            "packs/ab/0f",
            "a.b_c-d",
            "marks/00/1-ff",
            "tmpx/y",
            "a/tmp",
            "a/reserve",
            "...",
            &longest,
        ] {
            assert!(is_key(key), "{key}");
        }
        let too_long = "a".repeat(MAX_KEY_LENGTH + 1);
        let bad = [
            "", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "A", "a b", "a\\b", "a\0",
            "ä", "a:b",
        ];
        for key in bad.into_iter().chain(["tmp", "tmp/a", "reserve", &too_long]) {
            assert!(!is_key(key), "{key}");
        }
    }

    #[test]
    fn prefixes_end_in_a_slash() {
        for prefix in ["", "packs/", "packs/ab/"] {
            assert!(check_prefix("", prefix).is_ok(), "{prefix}");
        }
        for prefix in ["packs", "/", "packs//", "../", "tmp/"] {
            assert!(check_prefix("", prefix).is_err(), "{prefix}");
        }
    }
}
