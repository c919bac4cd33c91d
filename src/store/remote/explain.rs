//! What a service's refusal means: its kind, and a sentence for whoever has to mend it.
//!
//! Services put the same few reasons into codes and texts of their own, and OpenDAL hands these on. Of an error only
//! the message and its sources are looked at and shown, never the request's address, in which a signature may stand.
//! [`reason`] takes words of any origin.

use std::error::Error;

use crate::store::ErrorKind;

pub(super) const CREDENTIALS: &str = "the server does not accept these credentials for this";

/// Signs of a reason, in lower case; the first row with one that occurs in the error counts.
const REASONS: [(&[&str], ErrorKind, &str); 16] = [
    (
        &[
            "nosuchbucket",
            "containernotfound",
            "specified bucket does not exist",
            "bucket_not_found",
        ],
        ErrorKind::Absent,
        "there is no such bucket or container: make it, or correct its name",
    ),
    (
        &["expiredtoken", "tokenrefreshrequired", "token has expired"],
        ErrorKind::Permission,
        "the credentials have expired: get new ones",
    ),
    (
        &["requesttimetooskewed", "difference between the request time", "requestexpired"],
        ErrorKind::Permission,
        "this machine's clock differs too much from the server's: set it right",
    ),
    (
        &[
            "authorizationheadermalformed",
            "permanentredirect",
            "illegallocationconstraint",
            "temporaryredirect",
        ],
        ErrorKind::Permanent,
        "the bucket lies in another region or behind another endpoint: name it with ?region= or &endpoint=",
    ),
    (
        &[
            "invalidaccesskeyid",
            "signaturedoesnotmatch",
            "authenticationfailed",
            "authorizationfailure",
            "failed to authenticate",
            "invalidauthenticationinfo",
            "accessdenied",
            "permission denied (publickey",
            "permission denied (password",
            "permission denied (keyboard-interactive",
            "permission denied (gssapi",
            "too many authentication failures",
            "permission denied, please try again",
            "no credential",
            "failed to load signing credential",
            "failed to load credential",
            "notloggedin",
            "login incorrect",
            "authentication failed",
            "401 unauthorized",
        ],
        ErrorKind::Permission,
        CREDENTIALS,
    ),
    (
        &[
            "host key verification failed",
            "remote host identification has changed",
            "no matching host key",
        ],
        ErrorKind::Permission,
        "the server's host key is not the known one: run `ssh` to this host by hand once, compare the fingerprint \
         it shows with the server's, and say yes",
    ),
    (
        &["invalid peer certificate"],
        ErrorKind::Permanent,
        "the server's certificate is refused: correct the name, or make its issuer known to this machine \
         (SSL_CERT_FILE names a file of issuers)",
    ),
    (
        &[
            "no space left",
            "insufficient storage",
            "insufficientstorage",
            "quotaexceeded",
            "quota exceeded",
            "exceeded storage",
            "disk full",
        ],
        ErrorKind::Full,
        "no space left; free some, or prune",
    ),
    (
        &[
            "dns error",
            "failed to lookup address",
            "could not resolve hostname",
            "name or service not known",
        ],
        ErrorKind::Temporary,
        "no host of this name can be found: correct it, or see whether the network is up",
    ),
    (
        &["connection refused"],
        ErrorKind::Temporary,
        "nobody answers at this address: correct it, or start the server",
    ),
    (
        &["no route to host", "network is unreachable"],
        ErrorKind::Temporary,
        "the network does not lead there",
    ),
    (
        &[
            "slowdown",
            "too many requests",
            "serverbusy",
            "toomanyrequests",
            "too many connections",
            "too many users",
            "maximum number of",
        ],
        ErrorKind::Temporary,
        "the server is too busy",
    ),
    (
        &["baddigest", "invaliddigest", "md5mismatch"],
        ErrorKind::Temporary,
        "what arrived is not what was sent",
    ),
    (
        &["tls required", "must use encryption"],
        ErrorKind::Permission,
        "the server wants TLS: use ftps:// instead of ftp://",
    ),
    (
        &["does not begin tls"],
        ErrorKind::Permission,
        "the server has no TLS here: where nobody else listens, ftp:// does without",
    ),
    (
        &["region is missing", "region cannot be found"],
        ErrorKind::Permanent,
        "the region is missing: add ?region=NAME, or set AWS_REGION",
    ),
];

/// The error's own words: message and sources.
pub(super) fn words(error: &::opendal::Error) -> String {
    let mut words = error.message().to_owned();
    let mut source = error.source();
    while let Some(error) = source {
        let text = error.to_string();
        if !words.contains(&text) {
            words = format!("{words}: {text}");
        }
        source = error.source();
    }
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The reason that the words tell, if they tell one of those that are known.
pub(super) fn reason(words: &str) -> Option<(ErrorKind, &'static str)> {
    let words = words.to_lowercase();
    let told = |signs: &[&str]| signs.iter().any(|sign| words.contains(sign));
    REASONS.iter().find(|row| told(row.0)).map(|row| (row.1, row.2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_recognised() {
        for (words, kind) in [
            ("S3Error { code: \"NoSuchBucket\", message: \"\" }", Some(ErrorKind::Absent)),
            ("S3Error { code: \"SignatureDoesNotMatch\" }", Some(ErrorKind::Permission)),
            ("S3Error { code: \"RequestTimeTooSkewed\" }", Some(ErrorKind::Permission)),
            (
                "send http request: error trying to connect: invalid peer certificate: UnknownIssuer",
                Some(ErrorKind::Permanent),
            ),
            (
                "send http request: client error (Connect): dns error: failed to lookup",
                Some(ErrorKind::Temporary),
            ),
            ("tcp connect error: Connection refused (os error 111)", Some(ErrorKind::Temporary)),
            ("ssh error: Host key verification failed.", Some(ErrorKind::Permission)),
            ("550 SSL/TLS required on the control channel.", Some(ErrorKind::Permission)),
            ("S3Error { code: \"InternalError\" }", None),
        ] {
            assert_eq!(reason(words).map(|reason| reason.0), kind, "{words}");
        }
    }
}
