//! From an address and secrets to an OpenDAL operator: one function a service, and the HTTP client they share.

use std::sync::Arc;
use std::time::Duration;

use ::opendal::{HttpTransporter, OperationContext, Operator, services};
use zeroize::Zeroizing;

use super::explain;
use super::sftp::AskPassword;
use super::transport::{Heard, Transport};
use crate::store::address::{Address, Service};
use crate::store::{ErrorKind, Limits, Result, StoreError};

/// How long a server may take to accept a connection, and to acknowledge what was sent to it.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(60);

/// What opens a store and does not stand in its address. What S3 and Google Cloud Storage are not given here they find by
/// the providers' own rules: environment, files, the machine's role.
#[derive(Default, Clone)]
pub struct Secrets {
    /// of FTP and WebDAV
    pub password: Option<Zeroizing<String>>,
    /// of SFTP: asked for when a connection is made
    pub ask_password: Option<AskPassword>,
    /// of Azure: the account's name, if the address does not say it, and a key or a signature
    pub account: Option<String>,
    pub account_key: Option<Zeroizing<String>>,
    pub sas_token: Option<Zeroizing<String>>,
    pub s3: S3Secrets,
    /// of Google Cloud Storage: a key file
    pub google_credentials: Option<String>,
}

/// Of S3. A key counts before all that the provider's rules would find; region and profile if the address says none.
#[derive(Default, Clone)]
pub struct S3Secrets {
    pub key_id: Option<String>,
    pub key: Option<Zeroizing<String>>,
    pub session_token: Option<Zeroizing<String>>,
    pub region: Option<String>,
    pub profile: Option<String>,
}

pub(super) fn connect(
    address: &Address,
    secrets: &Secrets,
    limits: Arc<Limits>,
    heard: &Arc<Heard>,
) -> Result<Operator> {
    let url = address.to_string();
    let failed = |error: ::opendal::Error| {
        let words = explain::words(&error);
        let reason = explain::reason(&words).map(|reason| reason.1.to_owned());
        StoreError::new(ErrorKind::Permanent, &url, "").because(reason.unwrap_or(words))
    };
    let operator = match address.service {
        Service::S3 => Operator::new(s3(address, &secrets.s3)),
        Service::Azblob => Operator::new(azblob(address, secrets)?),
        Service::Gcs => Operator::new(gcs(address, secrets)),
        // file servers have stores of their own
        Service::Sftp | Service::Ftp | Service::Ftps => {
            return Err(StoreError::new(ErrorKind::Unsupported, &url, ""));
        }
        Service::Webdav => Operator::new(webdav(address, secrets, "https")),
        Service::WebdavHttp => Operator::new(webdav(address, secrets, "http")),
    };
    let client = http_client().map_err(|error| {
        StoreError::new(ErrorKind::Permanent, &url, "").because(error.to_string())
    })?;
    let transport = Transport { client, limits, heard: Arc::clone(heard) };
    let context = OperationContext::new().with_http_transport(HttpTransporter::new(transport));
    Ok(operator.map_err(failed)?.with_context(context))
}

/// HTTP/1.1, so that transfers do not share one connection, over rustls with the system's certificates.
fn http_client() -> std::result::Result<reqwest::Client, reqwest::Error> {
    // fails when it was done before, which is as good
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_user_timeout(ACKNOWLEDGE_TIMEOUT)
        .tcp_keepalive(Duration::from_secs(30))
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .build()
}

fn s3(address: &Address, secrets: &S3Secrets) -> services::S3 {
    let region = address.option("region").or(secrets.region.as_deref());
    let mut s3 = services::S3::default().bucket(&address.host).root(&root(address));
    match address.option("endpoint") {
        // servers of one's own have no regions, but signatures name one
        Some(endpoint) => {
            s3 = s3.endpoint(endpoint).region(region.unwrap_or("us-east-1"));
        }
        None => {
            if let Some(region) = region {
                s3 = s3.region(region);
            }
        }
    }
    // what arrives otherwise than it was sent is refused
    s3 = s3.checksum_algorithm("md5");
    if let Some(profile) = address.option("profile").or(secrets.profile.as_deref()) {
        s3 = s3.profile(profile);
    }
    if let (Some(id), Some(key)) = (&secrets.key_id, &secrets.key) {
        s3 = s3.access_key_id(id).secret_access_key(key);
    }
    if let Some(token) = &secrets.session_token {
        s3 = s3.session_token(token);
    }
    if let Some(class) = address.option("storage-class") {
        s3 = s3.default_storage_class(class);
    }
    if address.flag("virtual-host") {
        s3 = s3.enable_virtual_host_style();
    }
    s3
}

fn azblob(address: &Address, secrets: &Secrets) -> Result<services::Azblob> {
    let account = address.option("account").or(secrets.account.as_deref());
    let endpoint = match (address.option("endpoint"), account) {
        (Some(endpoint), _) => endpoint.to_owned(),
        (None, Some(account)) => format!("https://{account}.blob.core.windows.net"),
        (None, None) => {
            return Err(StoreError::new(ErrorKind::Permanent, &address.to_string(), "").because(
                "the storage account is missing: add ?account=NAME, or set AZURE_STORAGE_ACCOUNT",
            ));
        }
    };
    let mut azblob = services::Azblob::default()
        .container(&address.host)
        .root(&root(address))
        .endpoint(&endpoint);
    if let Some(account) = account {
        azblob = azblob.account_name(account);
    }
    if let Some(key) = &secrets.account_key {
        azblob = azblob.account_key(key);
    }
    if let Some(token) = &secrets.sas_token {
        azblob = azblob.sas_token(token.trim_start_matches('?'));
    }
    Ok(azblob)
}

fn gcs(address: &Address, secrets: &Secrets) -> services::Gcs {
    let mut gcs = services::Gcs::default().bucket(&address.host).root(&root(address));
    if let Some(endpoint) = address.option("endpoint") {
        gcs = gcs.endpoint(endpoint);
    }
    if let Some(class) = address.option("storage-class") {
        gcs = gcs.default_storage_class(class);
    }
    if let Some(file) = &secrets.google_credentials {
        gcs = gcs.credential_path(file);
    }
    if address.flag("anonymous") {
        gcs = gcs.skip_signature();
    }
    gcs
}

fn webdav(address: &Address, secrets: &Secrets, scheme: &str) -> services::Webdav {
    let mut webdav = services::Webdav::default()
        .endpoint(&format!("{scheme}://{}", address.authority()))
        .root(&root(address));
    if let Some(user) = &address.user {
        webdav = webdav.username(user);
    }
    if let Some(password) = &secrets.password {
        webdav = webdav.password(password);
    }
    webdav
}

fn root(address: &Address) -> String {
    format!("/{}", address.path)
}
