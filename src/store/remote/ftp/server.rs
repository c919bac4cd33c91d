//! From an address to a connection that is logged in.

use std::net::{TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls_platform_verifier::BuilderVerifierExt;
use suppaftp::types::{FileType, FtpError};
use suppaftp::{FtpResult, RustlsConnector, RustlsFtpStream};
use zeroize::Zeroizing;

use super::super::connect::{CONNECT_TIMEOUT, Secrets};
use super::connection::{Connection, LONGEST_SILENCE, REFUSED_SILENCE};
use super::reply::Failure;
use crate::store::ErrorKind;
use crate::store::address::{Address, Service};

const PORT: u16 = 21;
const ANONYMOUS: &str = "anonymous";
/// What anonymous users give is no secret.
const ANONYMOUS_PASSWORD: &str = "esker@";
/// Sessions that can be resumed: of one server, a few tickets.
const SESSIONS: usize = 8;

/// Where to connect, and as whom.
pub(super) struct Server {
    host: String,
    port: u16,
    user: String,
    password: Zeroizing<String>,
    tls: Option<ClientConfig>,
    /// Whether it has `MLSD` and `MLST`; asked once.
    facts: OnceLock<bool>,
    /// Cleared when a port that it told in answer to `EPSV` could not be reached.
    extended: Arc<AtomicBool>,
}

impl Server {
    pub(super) fn new(address: &Address, secrets: &Secrets) -> Result<Server, Failure> {
        let user = address.user.clone().unwrap_or_else(|| ANONYMOUS.to_owned());
        let password = match &secrets.password {
            Some(password) => password.clone(),
            None if user == ANONYMOUS => Zeroizing::new(ANONYMOUS_PASSWORD.to_owned()),
            None => Zeroizing::default(),
        };
        let tls = (address.service == Service::Ftps).then(configuration).transpose();
        let tls = tls.map_err(|error| Failure::Told(ErrorKind::Permanent, error.to_string()))?;
        Ok(Server {
            host: address.host.trim_matches(['[', ']']).to_owned(),
            port: address.port.unwrap_or(PORT),
            user,
            password,
            tls,
            facts: OnceLock::new(),
            extended: Arc::new(AtomicBool::new(true)),
        })
    }

    /// Connects and logs in.
    pub(super) fn connect(&self) -> Result<Connection, Failure> {
        let socket = self.socket()?;
        let stream = RustlsFtpStream::connect_with_stream(socket).map_err(Failure::of)?;
        let stream = stream.passive_stream_builder(data_connections(Arc::clone(&self.extended)));
        let mut stream = self.protect(stream)?;
        stream.login(self.user.as_str(), self.password.as_str()).map_err(Failure::of)?;
        stream.transfer_type(FileType::Binary).map_err(Failure::of)?;
        let mut connection = Connection::new(stream, self.extended.load(Ordering::Relaxed));
        connection.facts = match self.facts.get() {
            Some(facts) => *facts,
            None => {
                let features = connection.send("FEAT")?.text;
                *self.facts.get_or_init(|| has_facts(&features))
            }
        };
        Ok(connection)
    }

    /// The first of the host's addresses that answers.
    fn socket(&self) -> Result<TcpStream, Failure> {
        let failed = |error: std::io::Error| Failure::of_io(&error);
        let addresses = (self.host.as_str(), self.port).to_socket_addrs().map_err(failed)?;
        let mut last = Failure::Broken(ErrorKind::Temporary, "the host has no address".to_owned());
        for address in addresses {
            let socket = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).and_then(|socket| {
                socket.set_nodelay(true)?;
                socket.set_read_timeout(Some(LONGEST_SILENCE))?;
                socket.set_write_timeout(Some(LONGEST_SILENCE))?;
                Ok(socket)
            });
            match socket {
                Ok(socket) => return Ok(socket),
                Err(error) => last = failed(error),
            }
        }
        Err(last)
    }

    /// From here on under TLS, if that is wanted: commands and data.
    fn protect(&self, stream: RustlsFtpStream) -> Result<RustlsFtpStream, Failure> {
        let Some(tls) = &self.tls else { return Ok(stream) };
        // Many servers want data connections to resume the session of the control connection: so the two share their
        // tickets, and nobody else uses them up.
        let mut tls = tls.clone();
        tls.resumption = Resumption::in_memory_sessions(SESSIONS);
        let connector = RustlsConnector::from(Arc::new(tls));
        stream.into_secure(connector, &self.host).map_err(|error| match Failure::of(error) {
            Failure::Refused(reply) => Failure::Broken(
                ErrorKind::Permission,
                format!("the server does not begin TLS: {}", reply.words()),
            ),
            failure => failure,
        })
    }
}

/// TLS with the system's certificates, as the stores over HTTPS have it.
fn configuration() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_platform_verifier()?.with_no_client_auth())
}

/// How data connections are made. What a refused transfer leaves behind is not waited for: the time for reading is set
/// when one has begun.
fn data_connections(
    extended: Arc<AtomicBool>,
) -> impl Fn(std::net::SocketAddr) -> FtpResult<TcpStream> + Send + Sync + 'static {
    move |address| {
        let socket = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT);
        let socket = socket.inspect_err(|_| extended.store(false, Ordering::Relaxed));
        socket
            .and_then(|socket| {
                socket.set_nodelay(true)?;
                socket.set_read_timeout(Some(REFUSED_SILENCE))?;
                socket.set_write_timeout(Some(LONGEST_SILENCE))?;
                Ok(socket)
            })
            .map_err(FtpError::ConnectionError)
    }
}

/// Whether the answer to `FEAT` has the commands of RFC 3659: `MLST` stands for `MLSD` too.
fn has_facts(features: &str) -> bool {
    let first_words = features.lines().filter_map(|line| line.split_whitespace().next());
    first_words.into_iter().any(|word| word.eq_ignore_ascii_case("MLST"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_found() {
        assert!(has_facts(
            "211-Features supported:\r\n MLST type*;size*;modify*;\r\n SIZE\r\n211 End"
        ));
        assert!(!has_facts("211-Features:\r\n EPSV\r\n SIZE\r\n211 End\r\n"));
        assert!(!has_facts("502 Command not implemented.\r\n"));
    }
}
