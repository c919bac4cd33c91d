//! How requests of OpenDAL's HTTP services go out: with reqwest, at the pace that the user allows, and with an ear for
//! what an answer says beside what was asked for: when to come again, and what time it is.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use ::opendal::{Buffer, Error, ErrorKind, HttpBody, HttpTransport};
use bytes::Bytes;
use futures_core::Stream;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, DATE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, Method, Request, Response};
use http_body::{Body, Frame, SizeHint};
use jiff::Timestamp;
use tokio::time::Sleep;

use super::{LONGEST_SILENCE, longest};
use crate::store::{Limits, Pace};

/// No server is obeyed when it asks to be left alone for longer.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);

/// What servers say beside what they are asked for.
#[derive(Debug, Default)]
pub(super) struct Heard(Mutex<Said>);

#[derive(Debug, Default)]
struct Said {
    /// No request is welcome before this.
    busy_until: Option<Instant>,
    /// The server's time in ms since 1970, and when it told it.
    date: Option<(u64, Instant)>,
}

impl Heard {
    /// How long the server wants to be left alone.
    pub(super) fn busy_for(&self) -> Option<Duration> {
        let until = self.0.lock().unwrap_or_else(PoisonError::into_inner).busy_until?;
        until.checked_duration_since(Instant::now())
    }

    /// The server's time in ms since 1970, if it ever told it.
    pub(super) fn date(&self) -> Option<u64> {
        let (date, heard) = self.0.lock().unwrap_or_else(PoisonError::into_inner).date?;
        Some(date + heard.elapsed().as_millis() as u64)
    }

    fn listen(&self, headers: &HeaderMap) {
        let now = Instant::now();
        let date = text(headers, &DATE).and_then(moment);
        let busy = text(headers, &RETRY_AFTER).and_then(|text| retry_after(text, date));
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(busy) = busy {
            said.busy_until = Some(now + busy.min(LONGEST_RETRY_AFTER));
        }
        if let Some(date) = date.and_then(|date| u64::try_from(date.as_millisecond()).ok()) {
            said.date = Some((date, now));
        }
    }
}

/// Seconds, or the moment to come again (RFC 9110 §10.2.3).
fn retry_after(text: &str, now: Option<Timestamp>) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = moment(text)?;
    Duration::try_from(then.duration_since(now.unwrap_or_else(Timestamp::now))).ok()
}

fn moment(text: &str) -> Option<Timestamp> {
    let zoned = jiff::fmt::rfc2822::DateTimeParser::new().parse_zoned(text).ok()?;
    Some(zoned.timestamp())
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// What OpenDAL sends requests with.
pub(super) struct Transport {
    pub client: reqwest::Client,
    pub limits: Arc<Limits>,
    pub heard: Arc<Heard>,
}

impl HttpTransport for Transport {
    async fn fetch(&self, request: Request<Buffer>) -> ::opendal::Result<Response<HttpBody>> {
        let (parts, body) = request.into_parts();
        let wrong = |error: url::ParseError| {
            Error::new(ErrorKind::Unexpected, "the request's address is wrong").set_source(error)
        };
        let url = reqwest::Url::parse(&parts.uri.to_string()).map_err(wrong)?;
        let is_head = parts.method == Method::HEAD;
        let sent = body.len() as u64;
        let mut builder = self.client.request(parts.method, url).headers(parts.headers);
        if !body.is_empty() {
            builder = builder.body(reqwest::Body::wrap(Upload {
                left: body.len() as u64,
                body,
                slice: Bytes::new(),
                limits: Arc::clone(&self.limits),
                pause: Pause::default(),
            }));
        }
        let answer = tokio::time::timeout(longest(sent), builder.send()).await;
        let answer = answer.map_err(|_| silent())?;
        let mut answer = answer.map_err(|error| failed("send http request", error))?;
        self.heard.listen(answer.headers());
        // of what a server packs otherwise, the length is unknown
        let length = match is_head || answer.headers().contains_key(CONTENT_ENCODING) {
            true => None,
            false => text(answer.headers(), &CONTENT_LENGTH).and_then(|text| text.parse().ok()),
        };
        let headers = std::mem::take(answer.headers_mut());
        let (status, version) = (answer.status(), answer.version());
        let body = Download {
            body: Box::pin(answer.bytes_stream()),
            limits: Arc::clone(&self.limits),
            pause: Pause::default(),
            silence: Pause::default(),
        };
        let mut response = Response::new(HttpBody::new(body, length));
        *response.status_mut() = status;
        *response.version_mut() = version;
        *response.headers_mut() = headers;
        response.extensions_mut().insert(parts.uri);
        Ok(response)
    }
}

/// The request's address goes into no error: a signature may stand in it.
fn failed(what: &'static str, error: reqwest::Error) -> Error {
    let temporary = error.is_request() || error.is_body() || error.is_decode();
    Error::new(ErrorKind::Unexpected, what)
        .with_temporary(temporary)
        .set_source(error.without_url())
}

fn silent() -> Error {
    Error::new(ErrorKind::Unexpected, "the server does not answer").set_temporary()
}

/// A time that has to pass: until bytes may have passed, or until nothing more is expected.
#[derive(Default)]
struct Pause(Option<Pin<Box<Sleep>>>);

impl Pause {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(sleep) = &mut self.0 {
            ready!(sleep.as_mut().poll(context));
            self.0 = None;
        }
        Poll::Ready(())
    }

    fn after(&mut self, pace: &Pace, bytes: usize) {
        let time = pace.pass(bytes);
        self.0 = (!time.is_zero()).then(|| Box::pin(tokio::time::sleep(time)));
    }
}

/// What is sent, in slices at the pace that is allowed.
struct Upload {
    body: Buffer,
    /// what was taken out of the body and not sent yet
    slice: Bytes,
    left: u64,
    limits: Arc<Limits>,
    pause: Pause,
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        ready!(this.pause.poll(context));
        if this.slice.is_empty() {
            match this.body.next() {
                Some(bytes) => this.slice = bytes,
                None => return Poll::Ready(None),
            }
        }
        let length = this.limits.upload.slice().unwrap_or(usize::MAX).min(this.slice.len());
        let bytes = this.slice.split_to(length);
        this.left -= bytes.len() as u64;
        this.pause.after(&this.limits.upload, length);
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// What is received, likewise: what is not read yet waits at the server.
struct Download<S> {
    body: Pin<Box<S>>,
    limits: Arc<Limits>,
    pause: Pause,
    /// How long the next piece is waited for.
    silence: Pause,
}

impl<S: Stream<Item = reqwest::Result<Bytes>>> Stream for Download<S> {
    type Item = ::opendal::Result<Buffer>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<::opendal::Result<Buffer>>> {
        let this = &mut *self;
        loop {
            ready!(this.pause.poll(context));
            let Poll::Ready(piece) = this.body.as_mut().poll_next(context) else {
                let wait = || Box::pin(tokio::time::sleep(LONGEST_SILENCE));
                this.silence.0.get_or_insert_with(wait);
                ready!(this.silence.poll(context));
                return Poll::Ready(Some(Err(silent())));
            };
            this.silence = Pause::default();
            match piece {
                Some(Ok(bytes)) if bytes.is_empty() => {}
                Some(Ok(bytes)) => {
                    this.pause.after(&this.limits.download, bytes.len());
                    return Poll::Ready(Some(Ok(Buffer::from(bytes))));
                }
                Some(Err(error)) => {
                    let error = failed("read data from http response", error);
                    return Poll::Ready(Some(Err(error)));
                }
                None => return Poll::Ready(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(pairs: &[(HeaderName, &str)]) -> Heard {
        let heard = Heard::default();
        let headers = pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap()));
        heard.listen(&headers.collect());
        heard
    }

    #[test]
    fn a_server_says_when_to_come_again() {
        let busy = |text| heard(&[(RETRY_AFTER, text)]).busy_for();
        let about = |seconds: u64, left: Option<Duration>| {
            let left = left.unwrap();
            assert!(left <= Duration::from_secs(seconds), "{left:?}");
            assert!(left > Duration::from_secs(seconds - 5), "{left:?}");
        };
        about(20, busy("20"));
        about(300, busy("999999"));
        let date = (DATE, "Sat, 28 Nov 2026 10:00:00 GMT");
        let both = heard(&[date, (RETRY_AFTER, "Sat, 28 Nov 2026 10:00:40 GMT")]);
        about(40, both.busy_for());
        assert_eq!(busy("soon"), None);
        assert_eq!(busy("-4"), None);
        assert_eq!(heard(&[]).busy_for(), None);
    }

    #[test]
    fn a_server_tells_its_time() {
        let date = heard(&[(DATE, "Thu, 01 Jan 1970 00:01:00 GMT")]).date().unwrap();
        assert!((60_000..65_000).contains(&date), "{date}");
        assert_eq!(heard(&[(DATE, "today")]).date(), None);
    }
}
