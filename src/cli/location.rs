//! From what names a repository to the store that holds it.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::environment::StoreEnvironment;
use super::{secrets, signals};
use crate::repository::local::CacheRoot;
use crate::repository::{Error, ErrorKind, Result};
use crate::store::address::{Address, Service};
use crate::store::{
    self, AskPassword, ErrorKind as StoreKind, Limits, LocalStore, Notice, Patient, Secrets, Sound,
    Store, StoreError,
};

/// Where a repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Directory(PathBuf),
    Remote(Box<Address>),
}

/// One name for one place: messages, the cache and what is left out agree on it.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Directory(path) => path.display().fmt(f),
            Place::Remote(address) => address.fmt(f),
        }
    }
}

/// The place that `-r`, the environment or the configuration names.
pub fn place(name: &OsStr) -> Result<Place> {
    let usage = |message: String| Error::new(ErrorKind::Usage, message);
    let bytes = name.as_bytes();
    if bytes.is_empty() {
        return Err(usage("the repository's name is empty".to_owned()));
    }
    let path = match bytes.strip_prefix(b"file:") {
        Some(rest) => rest.strip_prefix(b"//").unwrap_or(rest),
        None if has_scheme(bytes) => {
            let text = name.to_str().ok_or_else(|| usage("an address must be UTF-8".to_owned()))?;
            let address = Address::parse(text).map_err(|error| usage(error.0))?;
            return Ok(Place::Remote(Box::new(address)));
        }
        None => bytes,
    };
    let path = Path::new(OsStr::from_bytes(path));
    let absolute =
        std::path::absolute(path).map_err(|error| usage(format!("{}: {error}", name.display())))?;
    let absolute = || absolute.components().collect();
    Ok(Place::Directory(std::fs::canonicalize(path).unwrap_or_else(|_| absolute())))
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

/// How stores on other machines are reached: what opens them, and what of the network they may take.
pub struct Network<'a> {
    pub environment: &'a StoreEnvironment,
    pub limits: Arc<Limits>,
    /// Requests at once, where the address says nothing.
    pub connections: Option<usize>,
    /// Told when a store fails for the moment and is waited for.
    pub notice: Notice,
}

/// Opens the store of a repository that is there already.
pub fn open(place: &Place, network: Network<'_>, cache: &CacheRoot) -> Result<Arc<dyn Store>> {
    let directory = match place {
        Place::Directory(directory) => directory,
        Place::Remote(address) => return connect(address, network),
    };
    match LocalStore::open(directory) {
        Ok(store) => Ok(Arc::new(store)),
        Err(error) if error.kind() == StoreKind::NotFound => {
            let known = cache.known_repository(error.url()).is_some();
            Err(absent(error.url(), known))
        }
        Err(error) => Err(failed(&error)),
    }
}

/// A store on another machine, with whatever opens it.
fn connect(address: &Address, network: Network<'_>) -> Result<Arc<dyn Store>> {
    let Network { environment, limits, connections, notice } = network;
    let text = |secret: secrets::Password| {
        utf8(&secret)
            .map_err(|reason| Error::new(ErrorKind::WrongKey, format!("{address}: {reason}")))
    };
    let password = match address.service {
        Service::Ftp | Service::Ftps => environment.ftp.get()?,
        Service::Webdav | Service::WebdavHttp => environment.webdav.get()?,
        _ => None,
    };
    let secrets = Secrets {
        password: password.map(text).transpose()?,
        ask_password: environment.sftp_password_command.clone().map(ask_password),
        account: environment.azure_account.clone(),
        account_key: environment.azure_key.clone(),
        sas_token: environment.azure_sas_token.clone(),
        s3: environment.s3.clone(),
        google_credentials: environment.google_credentials.clone(),
    };
    let store = store::connect(address, &secrets, limits, connections);
    let store = store.map_err(|error| failed(&error))?;
    let patient = Patient::new(store, address.patience, signals::raised(), notice);
    Ok(Arc::new(Sound::new(Arc::new(patient))))
}

fn utf8(secret: &[u8]) -> std::result::Result<Zeroizing<String>, String> {
    let text = std::str::from_utf8(secret).map_err(|_| "its password is not UTF-8")?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Runs the command when the password is needed, and not before.
fn ask_password(command: OsString) -> AskPassword {
    Arc::new(move || {
        let password = secrets::password_from_command(&command);
        utf8(&password.map_err(|error| error.message)?)
    })
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

/// Makes the store of a new repository: a directory that is absent or empty, or a prefix in a bucket that is there.
pub fn create(place: &Place, network: Network<'_>) -> Result<Arc<dyn Store>> {
    let directory = match place {
        Place::Directory(directory) => directory,
        Place::Remote(address) => return connect(address, network),
    };
    match LocalStore::create(directory) {
        // Opened again under the name that every later command will use.
        Ok(_) => {
            let directory = std::fs::canonicalize(directory).unwrap_or(directory.clone());
            open(&Place::Directory(directory), network, &CacheRoot::None)
        }
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
    fn paths_are_paths_and_addresses_are_addresses() {
        for (name, path) in [
            ("/nowhere/a", "/nowhere/a"),
            ("file:/nowhere/a", "/nowhere/a"),
            ("file:///nowhere/a", "/nowhere/a"),
            ("/nowhere/a:b", "/nowhere/a:b"),
            ("/nowhere//./a/", "/nowhere/a/"),
        ] {
            let expected = Place::Directory(Path::new(path).components().collect());
            assert_eq!(place(OsStr::new(name)).unwrap(), expected, "{name}");
        }
        for name in ["s3://bucket/prefix", "sftp://user@host/x"] {
            assert_eq!(place(OsStr::new(name)).unwrap().to_string(), name);
        }
        for name in ["", "memory:", "gopher://x/y", "s3://"] {
            assert_eq!(place(OsStr::new(name)).unwrap_err().kind, ErrorKind::Usage, "{name}");
        }
    }
}
