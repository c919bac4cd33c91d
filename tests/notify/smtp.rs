//! A mail server for tests: as much of RFC 5321 as a client needs to hand in a mail, with STARTTLS and TLS under a
//! certificate of its own.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::server::serve;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Security {
    None,
    StartTls,
    Tls,
}

/// What one connection said.
#[derive(Debug, Default, PartialEq)]
pub struct Session {
    /// Commands, in their order, behind `TLS` those that were protected.
    pub commands: Vec<String>,
    pub mail: Option<String>,
}

trait Connection: Read + Write {}
impl<T: Read + Write> Connection for T {}

/// A server that refuses the recipients `refusal` answers for, if there is a refusal, and a certificate for 127.0.0.1 in
/// PEM.
pub fn server(
    security: Security,
    refusal: Option<&'static str>,
) -> (SocketAddr, Receiver<Session>, String) {
    let (tls, pem) = tls();
    let (address, heard) = serve(move |connection, heard| {
        let mut session = Session::default();
        // a client that goes away ends the session, and no more
        let _ = converse(connection, security, refusal, &tls, &mut session);
        // and a test may have ended without asking
        let _ = heard.send(session);
    });
    (address, heard, pem)
}

/// A server that only begins TLS, and hears what is said under it.
pub fn https() -> (SocketAddr, Receiver<String>) {
    let (tls, _) = tls();
    serve(move |connection, heard| {
        let mut text = String::new();
        let connection =
            ServerConnection::new(Arc::clone(&tls)).map(|tls| StreamOwned::new(tls, connection));
        let _ = connection.unwrap().read_to_string(&mut text);
        let _ = heard.send(text);
    })
}

fn tls() -> (Arc<ServerConfig>, String) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    (Arc::new(config), cert.pem())
}

fn converse(
    connection: TcpStream,
    security: Security,
    refusal: Option<&str>,
    tls: &Arc<ServerConfig>,
    session: &mut Session,
) -> io::Result<()> {
    let protect = |connection: TcpStream| {
        let tls = ServerConnection::new(Arc::clone(tls)).map_err(io::Error::other)?;
        io::Result::Ok(BufReader::new(
            Box::new(StreamOwned::new(tls, connection)) as Box<dyn Connection>
        ))
    };
    let clear = connection.try_clone()?;
    let mut stream = match security {
        Security::Tls => protect(connection.try_clone()?)?,
        _ => BufReader::new(Box::new(connection.try_clone()?) as Box<dyn Connection>),
    };
    let mut protected = security == Security::Tls;
    say(&mut stream, "220 test")?;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let line = line.trim_end().to_owned();
        session.commands.push(line.clone());
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_uppercase();
        match verb.as_str() {
            "EHLO" if security == Security::StartTls && !protected => {
                say(&mut stream, "250-test\r\n250 STARTTLS")?;
            }
            "EHLO" => say(&mut stream, "250-test\r\n250-8BITMIME\r\n250 AUTH PLAIN LOGIN")?,
            "STARTTLS" => {
                say(&mut stream, "220 go on")?;
                stream = protect(clear.try_clone()?)?;
                protected = true;
                session.commands.push("TLS".into());
            }
            "AUTH" if line.ends_with("AHVzZXIAd3Jvbmc=") => say(&mut stream, "535 wrong password")?,
            "AUTH" => say(&mut stream, "235 welcome")?,
            "RCPT" => say(&mut stream, refusal.unwrap_or("250 ok"))?,
            "DATA" => {
                say(&mut stream, "354 go on")?;
                session.mail = Some(mail(&mut stream)?);
                say(&mut stream, "250 taken")?;
            }
            "QUIT" => {
                say(&mut stream, "221 bye")?;
                return Ok(());
            }
            _ => say(&mut stream, "250 ok")?,
        }
    }
}

fn say(stream: &mut BufReader<Box<dyn Connection>>, text: &str) -> io::Result<()> {
    stream.get_mut().write_all(format!("{text}\r\n").as_bytes())?;
    stream.get_mut().flush()
}

fn mail(stream: &mut impl BufRead) -> io::Result<String> {
    let mut text = String::new();
    while !text.ends_with("\r\n.\r\n") {
        if stream.read_line(&mut text)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(text)
}
