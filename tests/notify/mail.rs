//! Mail, against a server of the test's own, and against aiosmtpd where `ESKER_TEST_PYTHON` names a Python that has it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use esker::config::profile::{Mail, Notify};
use esker::notify::Event;

use super::server::{nobody, serve, silent};
use super::smtp::{Security, Session, server};
use super::{Machine, failure, secret};

fn settings(scheme: &str, address: SocketAddr) -> Notify {
    let mail = Mail {
        server: format!("{scheme}://{address}"),
        from: "esker <esker@example.org>".into(),
        to: vec!["Night Watch <watch@example.org>".into(), "root@example.org".into()],
        ..Mail::default()
    };
    Notify { mail: Some(mail), ..Notify::default() }
}

fn with_password(mut settings: Notify, password: &str) -> Notify {
    let mail = settings.mail.as_mut().unwrap();
    mail.user = Some("user".into());
    mail.password = Some(secret(password));
    settings
}

fn check_mail(session: &Session) {
    let mail = session.mail.as_deref().unwrap();
    assert!(mail.contains("Subject: esker: nightly on web1 failed\r\n"), "{mail}");
    assert!(mail.contains("source orders: pg_dump ended with 1\r\n"), "{mail}");
    let recipients: Vec<&String> =
        session.commands.iter().filter(|line| line.starts_with("RCPT")).collect();
    assert_eq!(recipients, ["RCPT TO:<watch@example.org>", "RCPT TO:<root@example.org>"]);
}

#[test]
fn a_mail_is_handed_in() {
    let (address, heard, _) = server(Security::None, None);
    let settings = with_password(settings("smtp", address), "word");
    assert_eq!(Machine::new().tell(&settings, &failure()), [""; 0]);
    let session = heard.recv().unwrap();
    check_mail(&session);
    assert!(session.commands.contains(&"AUTH PLAIN AHVzZXIAd29yZA==".into()), "{session:?}");
}

#[test]
fn refusals_are_sentences() {
    let check = |refusal, words: &str| {
        let (address, heard, _) = server(Security::None, Some(refusal));
        let warnings = Machine::new().tell(&settings("smtp", address), &failure());
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].starts_with(&format!("mail by {address}: ")), "{warnings:?}");
        assert!(warnings[0].ends_with(words), "{warnings:?}");
        assert_eq!(heard.recv().unwrap().mail, None);
    };
    check("550 no such user", "the server refused it: 550 no such user");
    check("450-later\r\n450 \u{7}please", "the server refused it: 450 later please");
    let (address, _, _) = server(Security::None, None);
    let warnings =
        Machine::new().tell(&with_password(settings("smtp", address), "wrong"), &failure());
    assert!(warnings[0].ends_with("535 wrong password"), "{warnings:?}");
}

#[test]
fn nobody_there_and_nothing_said_are_sentences() {
    let warnings = Machine::new().tell(&settings("smtp", nobody()), &failure());
    assert!(warnings.len() == 1 && warnings[0].contains("refused"), "{warnings:?}");
    for scheme in ["smtp", "smtps", "smtp+starttls"] {
        let machine = Machine::impatient();
        let begun = Instant::now();
        let warnings = machine.tell(&settings(scheme, silent()), &failure());
        assert!(begun.elapsed() < machine.limits.whole * 4, "{:?}", begun.elapsed());
        assert!(warnings[0].ends_with("no answer within 0.4 s"), "{warnings:?}");
    }
}

#[test]
fn a_server_that_speaks_something_else_is_a_sentence() {
    let (address, _heard) = serve(|mut connection, heard| {
        use std::io::Write;
        let _ = connection.write_all(b"SSH-2.0-OpenSSH_9.2\r\n\xff\xfe\x00\r\n");
        heard.send(()).unwrap();
    });
    let warnings = Machine::new().tell(&settings("smtp", address), &failure());
    assert_eq!(warnings.len(), 1);
    assert!(!warnings[0].chars().any(char::is_control), "{warnings:?}");
}

#[test]
fn a_certificate_nobody_knows_is_refused() {
    for (scheme, security) in [("smtps", Security::Tls), ("smtp+starttls", Security::StartTls)] {
        let (address, heard, _) = server(security, None);
        let settings = with_password(settings(scheme, address), "word");
        let warnings = Machine::new().tell(&settings, &failure());
        assert_eq!(warnings.len(), 1, "{scheme}");
        assert!(warnings[0].contains("certificate"), "{warnings:?}");
        let session = heard.recv().unwrap();
        assert_eq!(session.mail, None);
        assert!(!session.commands.iter().any(|line| line.starts_with("AUTH")), "{session:?}");
    }
}

/// Where STARTTLS was asked for, nothing is said without it.
#[test]
fn a_server_without_tls_gets_no_password() {
    let (address, heard, _) = server(Security::None, None);
    let settings = with_password(settings("smtp+starttls", address), "word");
    let warnings = Machine::new().tell(&settings, &failure());
    assert!(warnings.len() == 1 && warnings[0].contains("STARTTLS"), "{warnings:?}");
    let session = heard.recv().unwrap();
    assert!(!session.commands.iter().any(|line| line.starts_with("AUTH")), "{session:?}");
}

const CHILD: &str = "ESKER_TEST_MAIL_OVER_TLS";

/// The system's certificates are read from where the environment says, and that is the process's: so this test runs
/// itself, once for each kind.
#[test]
fn a_known_certificate_is_good_enough() {
    if let Ok(server) = std::env::var(CHILD) {
        let (scheme, address) = server.split_once("://").unwrap();
        let settings = with_password(settings(scheme, address.parse().unwrap()), "word");
        assert_eq!(Machine::new().tell(&settings, &failure()), [""; 0]);
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for (scheme, security) in [("smtps", Security::Tls), ("smtp+starttls", Security::StartTls)] {
        let (address, heard, pem) = server(security, None);
        let certificates = directory.path().join(scheme);
        std::fs::write(&certificates, pem).unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["mail::a_known_certificate_is_good_enough", "--exact"])
            .env("SSL_CERT_FILE", &certificates)
            .env(CHILD, format!("{scheme}://{address}"))
            .output()
            .unwrap();
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
        let session = heard.recv().unwrap();
        check_mail(&session);
        let place = |word: &str| session.commands.iter().position(|line| line.starts_with(word));
        assert!(place("TLS") < place("AUTH"), "{session:?}");
    }
}

#[test]
fn templates_are_filled_and_no_name_adds_a_header_or_a_recipient() {
    let (address, heard, _) = server(Security::None, None);
    let mut settings = settings("smtp", address);
    let mail = settings.mail.as_mut().unwrap();
    mail.subject = Some("{profile} on {host}: {state}".into());
    mail.body = Some("{sentence}\n.\n{command}\n".into());
    let event = Event {
        profile: "x\r\nBcc: evil@example.org\r\n\r\nbody".into(),
        host: "h\nRCPT TO:<evil@example.org>".into(),
        sentence: "one\r\n.\r\nMAIL FROM:<evil@example.org>".into(),
        ..failure()
    };
    assert_eq!(Machine::new().tell(&settings, &event), [""; 0]);
    let session = heard.recv().unwrap();
    let mail = session.mail.unwrap();
    let (head, body) = mail.split_once("\r\n\r\n").unwrap();
    assert!(!head.lines().any(|line| line.starts_with("Bcc")), "{mail}");
    assert!(!head.contains("\r\nRCPT"), "{mail}");
    assert!(body.contains("one\r\n..\r\nMAIL FROM"), "a line of one dot ends no mail: {mail}");
    let commands = |word: &str| session.commands.iter().filter(|c| c.starts_with(word)).count();
    assert_eq!((commands("MAIL"), commands("RCPT"), commands("DATA")), (1, 2, 1));
}

/// aiosmtpd, ended with the test.
struct Aiosmtpd(Child);

impl Drop for Aiosmtpd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server that others wrote: it is strict about what it takes.
#[test]
fn aiosmtpd_takes_the_mail() {
    let Ok(python) = std::env::var("ESKER_TEST_PYTHON") else {
        println!(
            "ESKER_TEST_PYTHON names no Python with aiosmtpd: only the test's own server was asked"
        );
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers/smtp.py");
    let start = |arguments: &[&str]| {
        let mut child = Command::new(&python)
            .arg(&script)
            .arg(directory.path())
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut output, &mut line).unwrap();
        let address: SocketAddr = line.trim().parse().unwrap();
        (Aiosmtpd(child), address)
    };
    let (_server, address) = start(&["0", "user", "word"]);
    let good = with_password(settings("smtp", address), "word");
    assert_eq!(Machine::new().tell(&good, &failure()), [""; 0]);
    let mails: Vec<_> =
        std::fs::read_dir(directory.path()).unwrap().map(|file| file.unwrap().path()).collect();
    let [mail] = mails.as_slice() else { panic!("{mails:?}") };
    let mail = std::fs::read_to_string(mail).unwrap();
    assert!(mail.contains("X-RcptTo: watch@example.org, root@example.org"), "{mail}");
    assert!(mail.contains("Subject: esker: nightly on web1 failed"), "{mail}");
    let bad = with_password(settings("smtp", address), "wrong");
    let warnings = Machine::new().tell(&bad, &failure());
    assert!(warnings.len() == 1 && warnings[0].contains("535"), "{warnings:?}");
}
