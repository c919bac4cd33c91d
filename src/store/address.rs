//! Addresses of stores: what a user types, taken apart and checked before anything is asked of anybody.
//!
//! An address never holds a secret, so it can be printed, logged and written down: a password in it is refused.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use url::Url;

/// The services that esker speaks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    S3,
    Azblob,
    Gcs,
    Sftp,
    Ftp,
    Ftps,
    Webdav,
    /// WebDAV without TLS
    WebdavHttp,
}

/// One row a service: its scheme, and the options that its addresses may have beside those of all.
const SERVICES: [(Service, &str, &[&str]); 8] = [
    (Service::S3, "s3", &["endpoint", "region", "profile", "storage-class", "virtual-host"]),
    (Service::Azblob, "azblob", &["endpoint", "account"]),
    (Service::Gcs, "gcs", &["endpoint", "anonymous", "storage-class"]),
    (Service::Sftp, "sftp", &["identity"]),
    (Service::Ftp, "ftp", &[]),
    (Service::Ftps, "ftps", &[]),
    (Service::Webdav, "webdav", &[]),
    (Service::WebdavHttp, "webdav+http", &[]),
];

/// Options of every address.
const COMMON_OPTIONS: [&str; 2] = ["connections", "patience"];
pub const MAX_CONNECTIONS: usize = 256;

/// How long a store that does not answer is waited for, unless the address says otherwise.
pub const DEFAULT_PATIENCE: Duration = Duration::from_secs(300);
const MAX_PATIENCE_SECONDS: u64 = 7 * 24 * 3600;

/// An address that is not to be used, with the sentence that says why.
#[derive(Debug, PartialEq, Eq)]
pub struct BadAddress(pub String);

impl fmt::Display for BadAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadAddress {}

/// The address of a store on another machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub service: Service,
    pub user: Option<String>,
    /// the bucket, the container, or the host
    pub host: String,
    pub port: Option<u16>,
    /// Where the repository lies in there, without slashes at its ends; empty for all of it.
    pub path: String,
    options: BTreeMap<String, String>,
    /// Requests at once, if the address says how many.
    pub connections: Option<usize>,
    /// How long to go on trying when the store does not answer.
    pub patience: Duration,
}

impl Address {
    /// Takes apart `scheme://[user@]host[:port]/path?option=value&…`.
    pub fn parse(text: &str) -> Result<Address, BadAddress> {
        let bad = |reason: String| BadAddress(format!("{}: {reason}", without_password(text)));
        let scheme = text.split(':').next().unwrap_or_default();
        let Some((service, _, own)) = SERVICES.into_iter().find(|row| row.1 == scheme) else {
            let known = SERVICES.map(|row| row.1).join(", ");
            return Err(bad(format!("esker knows no store {scheme}: it has file, {known}")));
        };
        let url = Url::parse(text).map_err(|error| bad(error.to_string()))?;
        if url.password().is_some() {
            return Err(bad(
                "no password belongs into an address, where logs and process lists show it: \
                            put it into the environment (docs/stores.md says which variable)"
                    .to_owned(),
            ));
        }
        if url.fragment().is_some() {
            return Err(bad("an address has no part behind `#`: write it as %23".to_owned()));
        }
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| bad(format!("{} is missing", service.host_word())))?;
        let mut address = Address {
            service,
            user: Some(decoded(url.username())).filter(|user| !user.is_empty()),
            host: decoded(host),
            port: url.port(),
            path: decoded(url.path()).trim_matches('/').to_owned(),
            options: BTreeMap::new(),
            connections: None,
            patience: DEFAULT_PATIENCE,
        };
        if address.path.split('/').any(|part| matches!(part, "." | "..")) {
            return Err(bad("the path has `.` or `..` in it".to_owned()));
        }
        if address.path.split('/').next() == Some("~") {
            return Err(bad(
                "the path begins at the server's root: write the home directory out".to_owned()
            ));
        }
        for (name, value) in url.query_pairs() {
            if !COMMON_OPTIONS.contains(&&*name) && !own.contains(&&*name) {
                let options = [own, &COMMON_OPTIONS].concat().join(", ");
                return Err(bad(format!("{scheme} has no option {name:?}: it has {options}")));
            }
            if address.options.insert(name.to_string(), value.to_string()).is_some() {
                return Err(bad(format!("option {name} is given twice")));
            }
        }
        let endpoint = address.option("endpoint").and_then(|text| Url::parse(text).ok());
        let tells = |url: Url| !url.username().is_empty() || url.password().is_some();
        if endpoint.is_some_and(tells) {
            let place = format!("{scheme}://{}", address.host);
            return Err(BadAddress(format!(
                "{place}: no user or password belongs into an endpoint"
            )));
        }
        address.numbers().map_err(bad)?;
        Ok(address)
    }

    fn numbers(&mut self) -> Result<(), String> {
        if let Some(text) = self.options.get("connections") {
            let number = connections(text).map_err(|reason| format!("connections={reason}"));
            self.connections = Some(number?);
        }
        if let Some(text) = self.options.get("patience") {
            let number = text.parse().ok().filter(|number| *number <= MAX_PATIENCE_SECONDS);
            let wrong = || format!("patience={text} is no number of seconds up to a week");
            self.patience = Duration::from_secs(number.ok_or_else(wrong)?);
        }
        Ok(())
    }

    /// What the address says of an option of its service.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    pub fn flag(&self, name: &str) -> bool {
        self.option(name).is_some_and(|value| matches!(value, "" | "true" | "yes" | "1"))
    }

    /// `host:port`, as URLs have it.
    pub fn authority(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.clone(),
        }
    }
}

/// The address as it is printed and remembered; options that say how to get there, but not where, are left out.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.service.scheme())?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        write!(f, "{}", self.authority())?;
        if !self.path.is_empty() {
            write!(f, "/{}", self.path)?;
        }
        if let Some(endpoint) = self.option("endpoint") {
            write!(f, "?endpoint={endpoint}")?;
        }
        Ok(())
    }
}

/// How many requests at once, as an address or an option says it.
pub fn connections(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=MAX_CONNECTIONS).contains(number));
    number.ok_or_else(|| format!("{text} is no number from 1 to {MAX_CONNECTIONS}"))
}

impl Service {
    pub fn scheme(self) -> &'static str {
        SERVICES.into_iter().find(|row| row.0 == self).map_or("", |row| row.1)
    }

    /// What the first part of an address names.
    fn host_word(self) -> &'static str {
        match self {
            Service::S3 | Service::Gcs => "the bucket",
            Service::Azblob => "the container",
            _ => "the host",
        }
    }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// The text with everything between the user's name and the host taken out.
fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let after = &rest[authority.len()..];
    match authority.rsplit_once('@') {
        Some((user, host)) => {
            let user = user.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}@{host}{after}")
        }
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let address = Address::parse(
            "s3://bucket/a/b%20c/?region=eu-1&endpoint=http://127.0.0.1:9000&connections=4",
        )
        .unwrap();
        assert_eq!(address.service, Service::S3);
        assert_eq!((&*address.host, &*address.path), ("bucket", "a/b c"));
        assert_eq!(address.option("endpoint"), Some("http://127.0.0.1:9000"));
        assert_eq!(address.connections, Some(4));
        assert_eq!(address.to_string(), "s3://bucket/a/b c?endpoint=http://127.0.0.1:9000");
        let address = Address::parse("sftp://ada@host:2222/srv/x?patience=5").unwrap();
        assert_eq!((address.user.as_deref(), address.port), (Some("ada"), Some(2222)));
        assert_eq!(address.patience, Duration::from_secs(5));
        assert_eq!(address.to_string(), "sftp://ada@host:2222/srv/x");
        let address = Address::parse("webdav+http://u@h").unwrap();
        assert_eq!((address.service, &*address.path), (Service::WebdavHttp, ""));
    }

    #[test]
    fn connections_have_bounds() {
        assert_eq!(connections("4"), Ok(4));
        assert!(connections("0").is_err() && connections("257").is_err());
    }

    #[test]
    fn bad_addresses_say_what_is_wrong_and_show_no_password() {
        for (text, part) in [
            ("gopher://x/y", "knows no store gopher"),
            ("s3:///path", "the bucket is missing"),
            ("ftp://ada:secret@host/x", "no password belongs"),
            ("ftp://ada:secret@ho st/x", "invalid"),
            ("s3://b/x?regoin=1", "no option \"regoin\""),
            ("s3://b/x?region=1&region=2", "given twice"),
            ("s3://b/x?connections=0", "from 1 to 256"),
            ("sftp://h/x?patience=long", "seconds"),
            ("sftp://h/~/x", "write the home directory out"),
            ("sftp://h/x#y", "%23"),
            ("s3://b/x?endpoint=https://ada:secret@h", "into an endpoint"),
        ] {
            let error = Address::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
