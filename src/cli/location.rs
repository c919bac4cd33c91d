//! From what names a repository to the store that holds it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::repository::local::CacheRoot;
use crate::repository::{Error, ErrorKind, Result};
use crate::store::{ErrorKind as StoreKind, LocalStore, Store, StoreError};

/// The directory that `-r`, the environment or the configuration names.
pub fn directory(name: &OsStr) -> Result<PathBuf> {
    let bytes = name.as_bytes();
    if bytes.is_empty() {
        return Err(Error::new(ErrorKind::Usage, "the repository's name is empty"));
    }
    let path = match bytes.strip_prefix(b"file:") {
        Some(rest) => rest.strip_prefix(b"//").unwrap_or(rest),
        None if has_scheme(bytes) => {
            let message =
                format!("{}: this build speaks to local directories only", name.display());
            return Err(Error::new(ErrorKind::Usage, message));
        }
        None => bytes,
    };
    let path = Path::new(OsStr::from_bytes(path));
    let absolute = std::path::absolute(path)
        .map_err(|error| Error::new(ErrorKind::Usage, format!("{}: {error}", name.display())))?;
    // One name for one place: messages, the cache and what is left out agree on it.
    Ok(std::fs::canonicalize(&absolute).unwrap_or_else(|_| absolute.components().collect()))
}

fn has_scheme(name: &[u8]) -> bool {
    let Some(colon) = name.iter().position(|&byte| byte == b':') else { return false };
    let (scheme, rest) = (&name[..colon], &name[colon + 1..]);
    let well_formed = scheme.first().is_some_and(u8::is_ascii_lowercase)
        && scheme
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(b));
    well_formed && (rest.starts_with(b"//") || scheme == b"memory")
}

/// Opens the store of a repository that is there already.
pub fn open(directory: &Path, cache: &CacheRoot) -> Result<Arc<dyn Store>> {
    match LocalStore::open(directory) {
        Ok(store) => Ok(Arc::new(store)),
        Err(error) if error.kind() == StoreKind::NotFound => {
            let known = cache.known_repository(error.url()).is_some();
            Err(absent(error.url(), known))
        }
        Err(error) => Err(failed(&error)),
    }
}

fn absent(url: &str, known: bool) -> Error {
    let message = match known {
        true => format!(
            "{url}: the repository this machine used is not there: is the disk mounted? If it has \
             moved, name its new place with -r"
        ),
        false => format!(
            "{url}: there is no repository here: make one with `esker -r {url} init`, or name another with -r"
        ),
    };
    Error::new(ErrorKind::NoRepository, message)
}

/// No repository named, and none made by `init`.
pub fn none_named() -> Error {
    Error::new(
        ErrorKind::NoRepository,
        "no repository: make one on this machine with `esker init`, or name one with -r or ESKER_REPOSITORY",
    )
}

/// Makes the store of a new repository: a directory that is absent or empty.
pub fn create(directory: &Path) -> Result<Arc<dyn Store>> {
    match LocalStore::create(directory) {
        // Opened again under the name that every later command will use.
        Ok(_) => open(
            &std::fs::canonicalize(directory).unwrap_or(directory.to_owned()),
            &CacheRoot::None,
        ),
        Err(error) if error.kind() == StoreKind::Exists && directory.join("config").exists() => {
            Err(Error::failed(format!("{}: there is a repository here already", error.url())))
        }
        Err(error) => Err(failed(&error)),
    }
}

/// The whole story of a store that cannot be made or opened: nothing was done.
fn failed(error: &StoreError) -> Error {
    let reason = std::error::Error::source(error);
    let reason =
        reason.map_or_else(|| error.to_string(), |source| format!("{}: {source}", error.url()));
    let kind = if error.is_temporary() { ErrorKind::TryLater } else { ErrorKind::Failed };
    Error::new(kind, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_paths_and_other_schemes_are_refused() {
        for (name, path) in [
            ("/nowhere/a", "/nowhere/a"),
            ("file:/nowhere/a", "/nowhere/a"),
            ("file:///nowhere/a", "/nowhere/a"),
            ("/nowhere/a:b", "/nowhere/a:b"),
            ("/nowhere//./a/", "/nowhere/a/"),
        ] {
            assert_eq!(directory(OsStr::new(name)).unwrap(), Path::new(path), "{name}");
        }
        for name in ["", "s3://bucket/prefix", "memory:", "sftp://user@host/x"] {
            assert_eq!(directory(OsStr::new(name)).unwrap_err().kind, ErrorKind::Usage, "{name}");
        }
    }
}
