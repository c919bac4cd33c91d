//! Pings, webhooks and push gateways: one HTTP request each. An address that comes from a secret is shown without
//! what would let others use it.

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Method, Url};

use super::event::{Event, Moment, Notice, State};
use super::template::{self, Escape};
use super::{Limits, reason};
use crate::config::profile::Webhook;
use crate::config::secret::Lookup;
use crate::config::value::Secret;

/// One request, complete.
pub(super) struct Request {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: String,
}

/// The ping of a run, healthchecks style: `/start`, nothing, `/fail` or `/<exit code>` behind the address, the sentence
/// as its body.
pub(super) fn ping(
    address: &Secret,
    event: &Event,
    environment: Lookup<'_>,
) -> Result<Request, String> {
    let mut url = address_of("ping", address, environment)?;
    let end = match event.moment {
        Moment::Start => "start".to_owned(),
        _ if event.exit_code != 0 => event.exit_code.to_string(),
        _ if event.state == State::Good => String::new(),
        _ => "fail".to_owned(),
    };
    if !end.is_empty() {
        let path = format!("{}/{end}", url.path().trim_end_matches('/'));
        url.set_path(&path);
    }
    let headers = content("text/plain; charset=utf-8");
    Ok(Request { method: Method::POST, url, headers, body: event.sentence() })
}

/// The webhook with its template filled in, or with JSON of everything where it has none.
pub(super) fn webhook(
    settings: &Webhook,
    notice: &Notice<'_>,
    environment: Lookup<'_>,
) -> Result<Request, String> {
    let url = address_of("url", &settings.url, environment)?;
    let mut headers = HeaderMap::new();
    for (name, value) in &settings.headers {
        let wrong = |why: &str| format!("header {name:?}: {why}");
        let key = format!("headers.{name}");
        let value = value.read(&key, environment).map_err(|error| error.message)?;
        let name: HeaderName = name.parse().map_err(|_| wrong("this is no name of a header"))?;
        let mut value: HeaderValue =
            value.parse().map_err(|_| wrong("its value holds what a header cannot hold"))?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    let said = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let (kind, body) = match &settings.body {
        None => ("application/json", notice.json().to_string()),
        Some(body) => {
            let escape = escape_of(said, body);
            let kind = match escape {
                Escape::Json => "application/json",
                _ => "text/plain; charset=utf-8",
            };
            (kind, template::fill(body, notice, escape))
        }
    };
    if said.is_none() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    Ok(Request { method: Method::POST, url, headers, body })
}

/// Replaces what a push gateway holds of one repository of a profile.
pub(super) fn push(
    address: &Secret,
    group: &str,
    body: String,
    environment: Lookup<'_>,
) -> Result<Request, String> {
    let mut url = address_of("push", address, environment)?;
    let path = format!("{}/metrics/job/esker{group}", url.path().trim_end_matches('/'));
    url.set_path(&path);
    let headers = content("text/plain; version=0.0.4; charset=utf-8");
    Ok(Request { method: Method::PUT, url, headers, body })
}

fn content(kind: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))])
}

fn escape_of(content_type: Option<&str>, body: &str) -> Escape {
    let kind = content_type.map(|text| text.to_ascii_lowercase());
    match kind.as_deref() {
        Some(kind) if kind.contains("json") => Escape::Json,
        Some(kind) if kind.starts_with("application/x-www-form-urlencoded") => Escape::Form,
        Some(_) => Escape::Plain,
        None if body.trim_start().starts_with(['{', '[']) => Escape::Json,
        None => Escape::Plain,
    }
}

fn address_of(key: &str, address: &Secret, environment: Lookup<'_>) -> Result<Url, String> {
    let text = address.read(key, environment).map_err(|error| error.message)?;
    match Url::parse(text.trim()) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ => Err("its address does not begin with https:// or http:// and a host".to_owned()),
    }
}

/// Scheme, host and port; the rest may be what a ping is protected by.
fn masked(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}/…", url.scheme(), url.host_str().unwrap_or_default())
}

impl Request {
    /// Where it goes, as far as everybody may know.
    pub(super) fn place(&self) -> String {
        masked(&self.url)
    }

    pub(super) async fn send(self, limits: Limits) -> Result<(), String> {
        let client = client(&self.url, limits).map_err(|error| words(error, limits))?;
        let request = client.request(self.method, self.url).headers(self.headers).body(self.body);
        let answer = request.send().await.map_err(|error| words(error, limits))?;
        let status = answer.status();
        match status {
            _ if status.is_success() => Ok(()),
            _ if status.is_redirection() => Err(format!(
                "the server answered {status}: give the address that it sends others to"
            )),
            _ => Err(format!("the server answered {status}")),
        }
    }
}

/// A client for one address. One without TLS knows no certificates: they need not be there, nor be read.
fn client(url: &Url, limits: Limits) -> reqwest::Result<reqwest::Client> {
    // fails when it was done before, which is as good
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("esker/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(limits.connect)
        .redirect(Policy::none())
        .http1_only();
    if url.scheme() == "http" {
        builder = builder.tls_certs_only([]);
    }
    builder.build()
}

/// What went wrong, without the address.
fn words(error: reqwest::Error, limits: Limits) -> String {
    match error.is_timeout() {
        true => format!("no connection within {} s", limits.connect.as_secs_f32()),
        false => reason(&error.without_url()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::failure;
    use super::*;

    fn check_ping(address: &str, change: impl Fn(&mut Event), expected: &str) {
        let mut event = failure();
        change(&mut event);
        let address = Secret::Text(address.into());
        let request = ping(&address, &event, &|_| None).map(|request| request.url.to_string());
        assert_eq!(request.unwrap(), expected);
    }

    #[test]
    fn a_ping_says_how_the_run_ended() {
        let address = "https://hc-ping.com/8e1c";
        check_ping(address, |event| event.moment = Moment::Start, "https://hc-ping.com/8e1c/start");
        check_ping(address, |event| event.exit_code = 75, "https://hc-ping.com/8e1c/75");
        let well = |event: &mut Event| (event.state, event.exit_code) = (State::Good, 0);
        check_ping(address, well, "https://hc-ping.com/8e1c");
        let odd = |event: &mut Event| (event.state, event.exit_code) = (State::Suspicious, 0);
        check_ping(address, odd, "https://hc-ping.com/8e1c/fail");
        check_ping("http://h/x/?create=1", odd, "http://h/x/fail?create=1");
    }

    #[test]
    fn what_protects_an_address_is_not_shown() {
        let url = Url::parse("https://user:word@hc-ping.com:8443/8e1c?key=1").unwrap();
        assert_eq!(masked(&url), "https://hc-ping.com:8443/…");
        for address in ["8e1c-secret", "ftp://8e1c-secret", "https:///", "https://:8e1c-secret"] {
            let error = address_of("ping", &Secret::Text(address.into()), &|_| None).unwrap_err();
            assert!(!error.contains("8e1c"), "{error}");
        }
    }

    #[test]
    fn bodies_are_escaped_for_what_they_are() {
        let check = |kind, body, escape| assert_eq!(escape_of(kind, body), escape, "{body}");
        check(None, r#" {"text": "{sentence}"}"#, Escape::Json);
        check(None, "{sentence}", Escape::Json);
        check(None, "backup: {sentence}", Escape::Plain);
        check(Some("text/plain"), "{sentence}", Escape::Plain);
        check(Some("application/vnd.x+JSON"), "x", Escape::Json);
        check(Some("application/x-www-form-urlencoded"), "text={sentence}", Escape::Form);
    }
}
