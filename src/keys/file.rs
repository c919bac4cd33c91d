//! Texts that people keep: key files, identities, recipients. Lines that begin
//! with `#` and empty lines are comments; one line is left.
//!
//! | text | holds |
//! |---|---|
//! | `ESKER-KEY-1 <64 hex>` | 256 random bits that open a slot |
//! | `ESKER-IDENTITY-1 <64 hex> <64 hex>` | a recipient's seed, the repository's admin key |
//! | `esker-recipient-1:<2432 hex>` | a recipient's public key, no secret |

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use zeroize::Zeroizing;

use crate::crypto::{HYBRID_PUBLIC_LENGTH, HybridPrivate, HybridPublic, SecretKey, VerifyKey};
use crate::id::{from_hex, hex};
use crate::repository::{Error, ErrorKind, Result, Unlock};

const KEY: &str = "ESKER-KEY-1";
const IDENTITY: &str = "ESKER-IDENTITY-1";
const RECIPIENT: &str = "esker-recipient-1:";
/// Longest text of any of the three that is looked at, in bytes.
pub const MAX_TEXT: usize = 64 * 1024;

fn wrong(what: &str) -> Error {
    Error::new(ErrorKind::Usage, what)
}

pub fn key_text(key: &SecretKey) -> Zeroizing<String> {
    let digits = Zeroizing::new(hex(key.bytes()));
    Zeroizing::new(format!("{KEY} {}\n", *digits))
}

pub fn identity_text(key: &HybridPrivate, admin: &VerifyKey) -> Zeroizing<String> {
    let digits = Zeroizing::new(hex(key.seed()));
    Zeroizing::new(format!("{IDENTITY} {} {}\n", *digits, hex(&admin.0)))
}

pub fn recipient_text(key: &HybridPublic) -> String {
    format!("{RECIPIENT}{}", hex(key.bytes()))
}

/// A key file's bytes.
pub fn parse_key(text: &str) -> Result<SecretKey> {
    let line = only_line(text, "key file")?;
    let [digits] = words(line, KEY)
        .ok_or_else(|| wrong(&format!("key file: its line is not `{KEY}` and 64 hex digits")))?;
    secret(digits).map(|bytes| SecretKey::from_bytes(*bytes)).ok_or_else(|| {
        wrong("key file: the key is not 64 lower-case hex digits: is a part of it missing?")
    })
}

/// A recipient's private key and the admin key it trusts.
pub fn parse_identity(text: &str) -> Result<(HybridPrivate, VerifyKey)> {
    let line = only_line(text, "identity file")?;
    let [seed, admin] = words(line, IDENTITY).ok_or_else(|| {
        wrong(&format!("identity file: its line is not `{IDENTITY}`, a seed and an admin key"))
    })?;
    let seed = secret(seed)
        .ok_or_else(|| wrong("identity file: the seed is not 64 lower-case hex digits"))?;
    Ok((HybridPrivate::from_seed(*seed), parse_admin_key(admin)?))
}

/// The hex of an admin verify key, as `key list` shows it.
pub fn parse_admin_key(text: &str) -> Result<VerifyKey> {
    let bytes = from_hex(text).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    bytes.map(VerifyKey).ok_or_else(|| wrong("the admin key is not 64 lower-case hex digits"))
}

pub fn parse_recipient(text: &str) -> Result<HybridPublic> {
    let digits = only_line(text, "recipient")?
        .strip_prefix(RECIPIENT)
        .ok_or_else(|| wrong(&format!("recipient: does not begin with `{RECIPIENT}`")))?;
    let bytes = from_hex(digits).filter(|bytes| bytes.len() == HYBRID_PUBLIC_LENGTH);
    let bytes = bytes.ok_or_else(|| {
        let length = HYBRID_PUBLIC_LENGTH * 2;
        wrong(&format!("recipient: the key is not {length} lower-case hex digits"))
    })?;
    HybridPublic::from_bytes(&bytes).map_err(|_| wrong("recipient: the key is not valid"))
}

/// A key file or an identity file, whichever `text` is.
pub fn parse_unlock(text: &str) -> Result<Unlock> {
    if only_line(text, "key file")?.starts_with(IDENTITY) {
        let (key, admin) = parse_identity(text)?;
        return Ok(Unlock::Identity { key, admin });
    }
    parse_key(text).map(Unlock::KeyFile)
}

/// Writes a new file that only its owner may read; never over another.
pub fn write_new(path: &Path, text: &str) -> Result<()> {
    let failed = |error: std::io::Error| Error::failed(format!("{}: {error}", path.display()));
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written.and_then(|()| sync_directory(path)).map_err(failed)
}

fn sync_directory(path: &Path) -> std::io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    std::fs::File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

fn only_line<'a>(text: &'a str, what: &str) -> Result<&'a str> {
    if text.len() > MAX_TEXT {
        return Err(wrong(&format!("{what}: is longer than 64 KiB: is this the right file?")));
    }
    let mut lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let line = lines.next().ok_or_else(|| wrong(&format!("{what}: is empty")))?;
    match lines.next() {
        None => Ok(line),
        Some(_) => Err(wrong(&format!("{what}: holds more than one line"))),
    }
}

/// The `N` words after `tag`, if there are just that many.
fn words<'a, const N: usize>(line: &'a str, tag: &str) -> Option<[&'a str; N]> {
    let mut words = line.split_ascii_whitespace();
    if words.next() != Some(tag) {
        return None;
    }
    let mut found = [""; N];
    for word in &mut found {
        *word = words.next()?;
    }
    words.next().is_none().then_some(found)
}

fn secret(digits: &str) -> Option<Zeroizing<[u8; 32]>> {
    let bytes = Zeroizing::new(from_hex(digits)?);
    let bytes: &[u8; 32] = bytes.as_slice().try_into().ok()?;
    Some(Zeroizing::new(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_round_trip() {
        let key = SecretKey::random();
        let text = format!("# laptop\n\n{}", *key_text(&key));
        assert!(parse_key(&text).is_ok_and(|read| read == key));
        let (seed, admin) = (HybridPrivate::random(), VerifyKey([7; 32]));
        let text = identity_text(&seed, &admin);
        let (read, pinned) = parse_identity(&text).unwrap_or_else(|_| panic!("an identity"));
        assert!(read.seed() == seed.seed() && pinned == admin);
        assert!(matches!(parse_unlock(&text), Ok(Unlock::Identity { .. })));
        let text = recipient_text(&seed.public());
        assert!(parse_recipient(&format!("{text}\n")).is_ok_and(|read| read == seed.public()));
    }

    #[test]
    fn what_is_no_key_is_refused_with_a_sentence() {
        let hex64 = "ab".repeat(32);
        for (text, says) in [
            (String::new(), "is empty"),
            ("# nothing\n".to_owned(), "is empty"),
            (format!("ESKER-KEY-2 {hex64}"), "is not `ESKER-KEY-1`"),
            (format!("ESKER-KEY-1 {hex64} {hex64}"), "is not `ESKER-KEY-1`"),
            (format!("ESKER-KEY-1 {}", &hex64[1..]), "64 lower-case hex digits"),
            (format!("ESKER-KEY-1 {}", hex64.to_uppercase()), "64 lower-case hex digits"),
            (format!("ESKER-KEY-1 {hex64}\nESKER-KEY-1 {hex64}"), "more than one line"),
            ("x".repeat(MAX_TEXT + 1), "longer than"),
        ] {
            let error = parse_key(&text).err().unwrap_or_else(|| panic!("{text}"));
            assert!(error.message.contains(says), "{text}: {error}");
            assert!(!error.message.contains(&hex64), "a message must not quote the key");
        }
        for text in [format!("ESKER-IDENTITY-1 {hex64}"), format!("ESKER-IDENTITY-1 {hex64} xyz")] {
            assert!(parse_identity(&text).is_err(), "{text}");
        }
        assert!(parse_recipient("esker-recipient-1:abcd").is_err());
        assert!(parse_recipient(&"ab".repeat(1216)).is_err());
    }
}
