//! What a server's answers mean: replies (RFC 959 §4.2), and what becomes of a connection after an error.

use std::io;

use suppaftp::types::Response;
use suppaftp::{FtpError, FtpResult};

use super::super::explain;
use crate::store::{ErrorKind, StoreError};

/// So much of a reply is shown.
const LONGEST_WORDS: usize = 300;
/// Signs, in lower case, that a refusal is about a file that is not there.
const ABSENCE: [&str; 5] =
    ["no such file", "no such directory", "not found", "cannot find", "does not exist"];

/// A whole reply, of one line or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub code: u32,
    pub text: String,
}

/// Why something was not done.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server said no, and the connection is as good as before.
    Refused(Reply),
    /// The answers came, and they mean this; the connection is as good as before.
    Told(ErrorKind, String),
    /// Nobody knows what the server will say next: the connection is of no use any more.
    Broken(ErrorKind, String),
}

impl Reply {
    pub(super) fn new(response: &Response) -> Reply {
        let text = String::from_utf8_lossy(&response.body).into_owned();
        // the crate has no name for some codes, and its number for those is 0
        let last = text.lines().last().unwrap_or_default();
        let code = last.get(..3).and_then(|code| code.parse().ok());
        Reply { code: code.unwrap_or(response.status.code()), text }
    }

    /// 2: done; 3: more is expected.
    pub(super) fn class(&self) -> u32 {
        self.code / 100
    }

    /// Whether the server says itself that there is no such file.
    pub(super) fn tells_absence(&self) -> bool {
        let text = self.text.to_lowercase();
        self.code == 550 && ABSENCE.iter().any(|sign| text.contains(sign))
    }

    /// The number behind the code, as `SIZE` answers.
    pub(super) fn number(&self) -> Option<u64> {
        self.text.get(3..)?.trim().parse().ok()
    }

    /// The text for messages: in one line, and nothing that a terminal would obey.
    pub(super) fn words(&self) -> String {
        let text: String =
            self.text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let words: Vec<&str> = text.split_whitespace().collect();
        words.join(" ").chars().take(LONGEST_WORDS).collect()
    }

    /// What the refusal means, with a sentence if its reason is a known one.
    fn judge(&self) -> (ErrorKind, Option<&'static str>) {
        if let Some((kind, sentence)) = explain::reason(&self.words()) {
            return (kind, Some(sentence));
        }
        match self.code {
            430 | 530 => (ErrorKind::Permission, Some(explain::CREDENTIALS)),
            452 | 552 => (ErrorKind::Full, None),
            400..500 => (ErrorKind::Temporary, None),
            500 | 502 | 504 => (ErrorKind::Unsupported, None),
            // accounts, names that are not allowed, and files that are there and kept from us
            532 | 550 | 553 => (ErrorKind::Permission, None),
            _ => (ErrorKind::Permanent, None),
        }
    }
}

impl Failure {
    /// What suppaftp's error leaves of a connection.
    pub(super) fn of(error: FtpError) -> Failure {
        match error {
            FtpError::UnexpectedResponse(response) => Failure::of_reply(Reply::new(&response)),
            FtpError::ConnectionError(error) => Failure::of_io(&error),
            FtpError::SecureError(words) => Failure::broken(ErrorKind::Permanent, words),
            FtpError::BadResponse => {
                Failure::Broken(ErrorKind::Temporary, "the connection was closed".to_owned())
            }
            error => Failure::Broken(ErrorKind::Temporary, error.to_string()),
        }
    }

    /// A reply that is not the one that was to come.
    pub(super) fn of_reply(reply: Reply) -> Failure {
        match reply.code {
            // the server closes the connection with these words
            421 => Failure::broken(ErrorKind::Temporary, reply.words()),
            400..600 => Failure::Refused(reply),
            _ => Failure::Broken(
                ErrorKind::Temporary,
                format!("an answer to something else: {}", reply.words()),
            ),
        }
    }

    /// An error of a connection: it may be better the next time, unless its reason says otherwise.
    pub(super) fn of_io(error: &io::Error) -> Failure {
        let kind = match ErrorKind::of_io(error) {
            kind @ (ErrorKind::Permission | ErrorKind::Full) => kind,
            // a line break in a name or a password
            ErrorKind::Permanent if error.kind() == io::ErrorKind::InvalidInput => {
                ErrorKind::Permanent
            }
            _ => ErrorKind::Temporary,
        };
        let words = match error.kind() {
            // so sockets say that their time is over
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "no answer in time".to_owned(),
            _ => error.to_string(),
        };
        Failure::broken(kind, words)
    }

    fn broken(kind: ErrorKind, words: String) -> Failure {
        let kind = explain::reason(&words).map_or(kind, |reason| reason.0);
        Failure::Broken(kind, words)
    }

    pub(super) fn is_broken(&self) -> bool {
        matches!(self, Failure::Broken(..))
    }

    /// The same as an error of the store.
    pub(super) fn error(self, url: &str, key: &str) -> StoreError {
        let (kind, sentence, words) = match self {
            Failure::Refused(reply) => {
                let (kind, sentence) = reply.judge();
                (kind, sentence, reply.words())
            }
            Failure::Told(kind, words) => (kind, None, words),
            Failure::Broken(kind, words) => {
                let sentence = explain::reason(&words).map(|reason| reason.1);
                (kind, sentence, words)
            }
        };
        let error = StoreError::new(kind, url, key);
        let error = if words.is_empty() { error } else { error.because(words) };
        match sentence {
            Some(sentence) => error.meaning(sentence),
            None => error,
        }
    }
}

/// A whole reply, whatever its code: asked for no code at all, suppaftp hands every reply on as an error.
pub(super) fn any(result: FtpResult<Response>) -> Result<Reply, Failure> {
    match result {
        Ok(response) | Err(FtpError::UnexpectedResponse(response)) => {
            let reply = Reply::new(&response);
            if reply.code == 421 { Err(Failure::of_reply(reply)) } else { Ok(reply) }
        }
        Err(error) => Err(Failure::of(error)),
    }
}

#[cfg(test)]
mod tests {
    use suppaftp::Status;

    use super::*;

    fn reply(text: &str) -> Reply {
        Reply::new(&Response::new(Status::Unknown, format!("{text}\r\n").into_bytes()))
    }

    fn error(failure: Failure) -> StoreError {
        failure.error("ftp://host/x", "a")
    }

    #[test]
    fn replies_have_their_meaning() {
        for (text, kind) in [
            ("530 Login incorrect.", ErrorKind::Permission),
            ("530 Authentication failed.", ErrorKind::Permission),
            ("430 Nobody", ErrorKind::Permission),
            ("421 Timeout.", ErrorKind::Temporary),
            (
                "421 There are too many connections from your internet address.",
                ErrorKind::Temporary,
            ),
            ("425 Can't open data connection.", ErrorKind::Temporary),
            ("426 Failure writing network stream.", ErrorKind::Temporary),
            ("450 busy", ErrorKind::Temporary),
            ("451 Failure writing to local file.", ErrorKind::Temporary),
            ("451 x: No space left on device", ErrorKind::Full),
            ("452 Insufficient", ErrorKind::Full),
            ("552 Exceeded", ErrorKind::Full),
            ("500 What?", ErrorKind::Unsupported),
            ("550 Permission denied.", ErrorKind::Permission),
            ("553 Could not create file.", ErrorKind::Permission),
            ("522 Data connections must be encrypted.", ErrorKind::Permanent),
        ] {
            assert_eq!(error(Failure::of_reply(reply(text))).kind(), kind, "{text}");
        }
        assert!(Failure::of_reply(reply("421 Timeout.")).is_broken());
        assert!(!Failure::of_reply(reply("550 no")).is_broken());
        assert!(Failure::of_reply(reply("226 of another transfer")).is_broken());
    }

    #[test]
    fn a_reply_of_several_lines_has_the_code_of_its_last() {
        let reply = reply("250-Listing x:\r\n type=file;size=3; x\r\n522 End");
        assert_eq!((reply.code, reply.class()), (522, 5));
        assert_eq!(reply.words(), "250-Listing x: type=file;size=3; x 522 End");
    }

    #[test]
    fn sizes_and_absences_are_told() {
        assert_eq!(reply("213 1024").number(), Some(1024));
        assert_eq!(reply("213 18446744073709551616").number(), None);
        assert_eq!(reply("213").number(), None);
        assert!(reply("550 /x/y: No such file or directory").tells_absence());
        for other in ["550 Could not get file size.", "550 Permission denied.", "226 not found"] {
            assert!(!reply(other).tells_absence(), "{other}");
        }
    }

    #[test]
    fn errors_of_connections_pass_but_for_wrong_names_and_certificates() {
        use io::ErrorKind as Io;
        let of = |kind: Io, words: &str| error(Failure::of_io(&io::Error::new(kind, words)));
        for kind in
            [Io::UnexpectedEof, Io::ConnectionReset, Io::TimedOut, Io::WouldBlock, Io::Other]
        {
            assert!(of(kind, "x").is_temporary(), "{kind:?}");
        }
        assert_eq!(of(Io::InvalidInput, "CR").kind(), ErrorKind::Permanent);
        let certificate = of(Io::InvalidData, "invalid peer certificate: UnknownIssuer");
        assert_eq!(certificate.kind(), ErrorKind::Permanent);
        assert!(certificate.to_string().contains("SSL_CERT_FILE"), "{certificate}");
    }

    #[test]
    fn what_a_server_says_reaches_no_terminal_as_it_is() {
        let failure = Failure::of_reply(reply("550 \u{1b}[2J\u{7}gone"));
        let source = std::error::Error::source(&error(failure)).map(ToString::to_string);
        assert_eq!(source.as_deref(), Some("550 [2J gone"));
    }
}
