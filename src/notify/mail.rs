//! E-mail by SMTP, plain text.

use lettre::address::Envelope;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Mailboxes, Message, MessageBuilder};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::{AsyncSmtpTransport, Error as SmtpError};
use lettre::{AsyncTransport, Tokio1Executor};
use url::{Host, Url};

use super::event::{Notice, Reason, State};
use super::template::{self, Escape, line};
use super::{Limits, reason};
use crate::config::profile::Mail as Settings;
use crate::config::secret::Lookup;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Security {
    None,
    StartTls,
    Tls,
}

/// Where mail is handed in.
#[derive(Debug, PartialEq, Eq)]
struct Server {
    security: Security,
    host: String,
    port: u16,
    /// On this machine: what is sent there in clear nobody else reads.
    is_here: bool,
}

/// A mail, complete, and where it goes.
pub(super) struct Mail {
    server: Server,
    credentials: Option<Credentials>,
    message: Message,
}

impl Server {
    fn parse(text: &str) -> Result<Server, String> {
        let wrong = || {
            "server: write smtp://host:25, smtp+starttls://host:587 or smtps://host:465, \
             and the password into password"
                .to_owned()
        };
        let url = Url::parse(text).map_err(|_| wrong())?;
        let (security, port) = match url.scheme() {
            "smtp" => (Security::None, 25),
            "smtp+starttls" => (Security::StartTls, 587),
            "smtps" => (Security::Tls, 465),
            _ => return Err(wrong()),
        };
        let is_plain = url.username().is_empty()
            && url.password().is_none()
            && matches!(url.path(), "" | "/")
            && url.query().is_none();
        let host = match url.host_str() {
            // of schemes that it does not know url leaves the host as it is
            Some(host) if is_plain && !host.is_empty() => host,
            _ => return Err(wrong()),
        };
        let (host, is_here) = match Host::parse(host).map_err(|_| wrong())? {
            Host::Domain(name) => {
                let is_here = name == "localhost";
                (name, is_here)
            }
            Host::Ipv4(address) => (address.to_string(), address.is_loopback()),
            Host::Ipv6(address) => (address.to_string(), address.is_loopback()),
        };
        Ok(Server { security, host, port: url.port().unwrap_or(port), is_here })
    }

    fn tls(&self) -> Result<Tls, String> {
        let parameters = || TlsParameters::new(self.host.clone()).map_err(|error| words(&error));
        Ok(match self.security {
            Security::None => Tls::None,
            Security::StartTls => Tls::Required(parameters()?),
            Security::Tls => Tls::Wrapper(parameters()?),
        })
    }
}

/// The mail of a notice.
pub(super) fn mail(
    settings: &Settings,
    notice: &Notice<'_>,
    environment: Lookup<'_>,
) -> Result<Mail, String> {
    let server = Server::parse(&settings.server)?;
    let credentials = credentials(settings, &server, environment)?;
    let subject = match &settings.subject {
        Some(template) => template::fill(template, notice, Escape::Line),
        None => subject(notice),
    };
    let body = match &settings.body {
        Some(template) => template::fill(template, notice, Escape::Plain),
        None => body(notice),
    };
    let from = mailbox("from", &settings.from)?;
    let mut to = Mailboxes::new();
    for address in &settings.to {
        to.push(mailbox("to", address)?);
    }
    let recipients = to.iter().map(|mailbox| mailbox.email.clone()).collect();
    let wrong = |error: &dyn std::fmt::Display| error.to_string();
    let envelope = Envelope::new(Some(from.email.clone()), recipients)
        .map_err(|_| "to: name at least one address".to_owned())?;
    let id = message_id(from.email.domain()).map_err(|error| wrong(&error))?;
    let message = to
        .into_iter()
        .fold(Message::builder(), MessageBuilder::to)
        .from(from)
        .date_now()
        .message_id(Some(id))
        // a template may hold line breaks of its own
        .subject(line(&subject))
        // no answer of a machine's is wanted (RFC 3834)
        .raw_header(HeaderValue::new(
            HeaderName::new_from_ascii_str("Auto-Submitted"),
            "auto-generated".to_owned(),
        ))
        .header(ContentType::TEXT_PLAIN)
        .envelope(envelope)
        .body(body)
        .map_err(|error| wrong(&error))?;
    Ok(Mail { server, credentials, message })
}

fn credentials(
    settings: &Settings,
    server: &Server,
    environment: Lookup<'_>,
) -> Result<Option<Credentials>, String> {
    let (user, password) = match (&settings.user, &settings.password) {
        (None, None) => return Ok(None),
        (Some(user), Some(password)) => (user, password),
        (Some(_), None) => return Err("there is a user, but no password".to_owned()),
        (None, Some(_)) => return Err("there is a password, but no user".to_owned()),
    };
    if server.security == Security::None && !server.is_here {
        return Err(format!(
            "the password would go to {} in clear: use smtps:// or smtp+starttls://",
            server.host
        ));
    }
    let password = password.read("password", environment).map_err(|error| error.message)?;
    Ok(Some(Credentials::new(user.clone(), password.to_string())))
}

fn mailbox(key: &str, address: &str) -> Result<Mailbox, String> {
    address.parse().map_err(|_| format!("{key}: {address:?} is no mail address"))
}

fn message_id(domain: &str) -> Result<String, getrandom::Error> {
    let mut random = [0; 16];
    getrandom::fill(&mut random)?;
    Ok(format!("<{:032x}@{domain}>", u128::from_le_bytes(random)))
}

/// What happened, in the words of a subject.
fn what(notice: &Notice<'_>) -> &'static str {
    match (notice.reason, notice.event.state) {
        (Reason::Recovery(_), _) | (_, State::Good) => "is well again",
        (_, State::Failed) => "failed",
        (_, State::Partial) => "is partial",
        (_, State::Overdue) => "is overdue",
        (_, State::Suspicious) => "looks suspicious",
    }
}

fn subject(notice: &Notice<'_>) -> String {
    let event = notice.event;
    let again = if notice.reason == Reason::Repeated { " (still)" } else { "" };
    line(&format!("esker: {} on {} {}{again}", event.profile, event.host, what(notice)))
}

fn body(notice: &Notice<'_>) -> String {
    let event = notice.event;
    let mut text = format!(
        "The backup of profile {} on host {} {}.\n\n",
        line(&event.profile),
        line(&event.host),
        what(notice)
    );
    let mut row = |name: &str, value: &str| {
        if !value.is_empty() {
            text.push_str(&format!("{name:<20}{}\n", line(value)));
        }
    };
    row("What is wrong:", if event.state == State::Good { "" } else { &event.sentence });
    row("What failed:", &event.failed.join(", "));
    if let Some(before) = notice.before() {
        row("Before:", before);
    }
    let good = event.last_good.as_ref().map_or_else(
        || "not known".to_owned(),
        |good| {
            let age = notice.age().unwrap_or_default();
            format!("{} of {}, {age} old", good.snapshot, notice.moment(good.time_ms))
        },
    );
    row("Last good snapshot:", &good);
    if event.moment == super::Moment::End {
        let began = notice.moment(event.started_ms);
        let ended =
            format!("began {began}, took {}, exit code {}", notice.duration(), event.exit_code);
        row("Run:", &ended);
    }
    row("What to do next:", &event.command);
    if event.state != State::Good {
        text.push_str("\nThis mail is repeated once a day while it lasts.\n");
    }
    text
}

impl Mail {
    pub(super) fn name(&self) -> String {
        format!("mail by {}:{}", self.server.host, self.server.port)
    }

    pub(super) async fn send(self, limits: Limits) -> Result<(), String> {
        let mut builder =
            AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(self.server.host.clone())
                .port(self.server.port)
                .tls(self.server.tls()?)
                .timeout(Some(limits.connect))
                .hello_name(hello());
        if let Some(credentials) = self.credentials {
            builder = builder.credentials(credentials);
        }
        match builder.build().send(self.message).await {
            Ok(_) => Ok(()),
            Err(error) => Err(words(&error)),
        }
    }
}

/// This machine's name, if servers take it for one.
fn hello() -> ClientId {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let is_name = !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
    if is_name { ClientId::Domain(name) } else { ClientId::default() }
}

fn words(error: &SmtpError) -> String {
    match error.status() {
        Some(code) => format!("the server refused it: {code} {}", reason(error)),
        None => reason(error),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::failure;
    use super::*;
    use crate::config::value::Secret;

    fn server(text: &str) -> Option<(Security, String, u16)> {
        let server = Server::parse(text).ok()?;
        Some((server.security, server.host, server.port))
    }

    #[test]
    fn servers_are_read() {
        use Security::{None as Clear, StartTls, Tls};
        let check = |text, security, host: &str, port| {
            assert_eq!(server(text), Some((security, host.to_owned(), port)), "{text}");
        };
        check("smtp://relay", Clear, "relay", 25);
        check("smtp+starttls://mail.example.org", StartTls, "mail.example.org", 587);
        check("smtps://mail.example.org:4650/", Tls, "mail.example.org", 4650);
        check("smtp://[::1]:2525", Clear, "::1", 2525);
        for wrong in
            ["relay", "smtp:relay", "smtp://", "http://relay", "smtp://a:b@relay", "smtp://r/x", ""]
        {
            assert_eq!(server(wrong), None, "{wrong}");
            assert!(!Server::parse(wrong).unwrap_err().contains("a:b"));
        }
    }

    fn settings(server: &str) -> Settings {
        Settings {
            server: server.into(),
            from: "esker <esker@example.org>".into(),
            to: vec!["root@example.org".into()],
            ..Settings::default()
        }
    }

    fn formatted(settings: &Settings, change: impl Fn(&mut super::super::Event)) -> String {
        let mut event = failure();
        change(&mut event);
        let now_ms = event.ended_ms;
        let notice = Notice { event: &event, reason: Reason::Change, before: None, now_ms };
        let mail = mail(settings, &notice, &|_| None).unwrap();
        String::from_utf8(mail.message.formatted()).unwrap()
    }

    #[test]
    fn the_default_mail_says_all_that_is_needed_at_night() {
        let text = formatted(&settings("smtp://relay"), |_| {});
        for needed in [
            "Subject: esker: nightly on web1 failed\r\n",
            "profile nightly on host web1 failed",
            "pg_dump ended with 1",
            "What failed:        postgresql, orders",
            "5e1f0a2c of 2026-11-26 05:00 UTC, 1 day 21 hours old",
            "began 2026-11-28 02:00 UTC, took 20 minutes, exit code 3",
            "esker run nightly",
            "repeated once a day",
        ] {
            assert!(text.contains(needed), "{needed}\n{text}");
        }
    }

    /// A run that reached no repository has seen none, and not that there is none.
    #[test]
    fn a_snapshot_that_nobody_knows_of_is_not_said_to_be_missing() {
        let text = formatted(&settings("smtp://relay"), |event| event.last_good = None);
        assert!(text.contains("Last good snapshot: not known\r\n"), "{text}");
    }

    #[test]
    fn no_name_adds_a_header() {
        for template in [None, Some("{profile}\r\nBcc: a@b.c\n{host}".to_owned())] {
            let settings = Settings { subject: template, ..settings("smtp://relay") };
            let text = formatted(&settings, |event| {
                event.profile = "x\r\nBcc: evil@example.org\r\n\r\nbody".into();
                event.host = "h\nX-Evil: 1".into();
            });
            let (head, _) = text.split_once("\r\n\r\n").unwrap();
            for line in head.lines() {
                assert!(!line.starts_with("Bcc") && !line.starts_with("X-Evil"), "{text}");
            }
            assert!(!head.replace("\r\n", "").contains(['\r', '\n']), "{text}");
        }
    }

    #[test]
    fn a_password_does_not_travel_in_clear() {
        let event = failure();
        let notice = Notice { event: &event, reason: Reason::Change, before: None, now_ms: 0 };
        let error = |server: &str, user: Option<&str>, password: Option<&str>| {
            let settings = Settings {
                user: user.map(str::to_owned),
                password: password.map(|text| Secret::Text(text.into())),
                ..settings(server)
            };
            mail(&settings, &notice, &|_| None).err().unwrap_or_default()
        };
        assert!(error("smtp://relay", Some("u"), Some("pass")).contains("in clear"));
        assert_eq!(error("smtp://127.0.0.1", Some("u"), Some("pass")), "");
        assert_eq!(error("smtps://relay", Some("u"), Some("pass")), "");
        assert!(error("smtps://relay", Some("u"), None).contains("no password"));
        assert!(error("smtps://relay", None, Some("pass")).contains("no user"));
    }

    #[test]
    fn wrong_addresses_are_named() {
        let event = failure();
        let notice = Notice { event: &event, reason: Reason::Change, before: None, now_ms: 0 };
        let error = |settings: Settings| mail(&settings, &notice, &|_| None).err().unwrap();
        let wrong = Settings { to: vec!["a@b\r\nRCPT".into()], ..settings("smtp://relay") };
        assert!(error(wrong).contains("is no mail address"));
        let nobody = Settings { to: Vec::new(), ..settings("smtp://relay") };
        assert!(error(nobody).contains("at least one"));
    }
}
