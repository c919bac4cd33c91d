//! Key files as `init` makes them: 256 random bits in hex, under a line that
//! says what they are.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use zeroize::Zeroizing;

use crate::crypto::SecretKey;
use crate::id::{from_hex, hex};
use crate::repository::{Error, ErrorKind, Result};

const HEADING: &str = "# esker key file: opens a repository; keep a copy elsewhere";

pub fn read(path: &Path) -> Result<SecretKey> {
    let wrong = |reason: &str| {
        Error::new(ErrorKind::WrongKey, format!("key file {}: {reason}", path.display()))
    };
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(|e| wrong(&e.to_string()))?);
    let line = text.lines().find(|line| !line.starts_with('#') && !line.trim().is_empty());
    let bytes = line.and_then(|line| from_hex(line.trim())).map(Zeroizing::new);
    let bytes = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok());
    Ok(SecretKey::from_bytes(bytes.ok_or_else(|| wrong("is no esker key file"))?))
}

/// Makes a key file that only its owner may read; never replaces one.
pub fn create(path: &Path) -> Result<SecretKey> {
    let key = SecretKey::random();
    let text = Zeroizing::new(format!("{HEADING}\n{}\n", hex(key.bytes())));
    let write = || {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|error| Error::failed(format!("key file {}: {error}", path.display())))?;
    Ok(key)
}
