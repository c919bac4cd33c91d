//! Requests to a server that speaks JSON: one at a time, with limits of time and size.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use tokio::runtime::Runtime;
use url::Url;
use zeroize::Zeroizing;

const CONNECT: Duration = Duration::from_secs(20);
/// No request waits for work that takes long.
const ANSWER: Duration = Duration::from_secs(120);
const MAX_ANSWER: usize = 64 << 20;

pub struct Api {
    base: Url,
    user: Option<(String, Zeroizing<String>)>,
    client: reqwest::Client,
    runtime: Runtime,
}

pub struct Answer {
    pub status: u16,
    pub body: Value,
}

impl Answer {
    /// What the server says is wrong.
    pub fn reason(&self) -> String {
        let error = &self.body["error"];
        let text = [&error["root_cause"][0]["reason"], &error["reason"], error]
            .into_iter()
            .find_map(Value::as_str);
        match text {
            Some(text) => format!("{} ({})", crate::output::sentence(text), self.status),
            None => format!("status {}", self.status),
        }
    }

    pub fn is_good(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body, if the request succeeded.
    pub fn good(self, what: &str) -> Result<Value, String> {
        match self.is_good() {
            true => Ok(self.body),
            false => Err(format!("{what}: {}", self.reason())),
        }
    }
}

impl Api {
    pub fn new(base: &Url, user: Option<(String, Zeroizing<String>)>) -> Result<Api, String> {
        // fails when it was done before, which is as good
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .timeout(ANSWER)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| error.to_string())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        Ok(Api { base: base.clone(), user, client, runtime })
    }

    /// A request; `path` in segments as they are, `query` as it stands.
    pub fn call(
        &self,
        method: &str,
        path: &[&str],
        query: &str,
        body: Option<Value>,
    ) -> Result<Answer, String> {
        let mut url = self.base.clone();
        match url.path_segments_mut() {
            Ok(mut segments) => drop(segments.pop_if_empty().extend(path)),
            Err(()) => return Err("this is no address of a server".into()),
        }
        url.set_query((!query.is_empty()).then_some(query));
        let what = format!("{method} {}", url.path());
        let method = Method::from_bytes(method.as_bytes()).map_err(|error| error.to_string())?;
        let mut request = self.client.request(method, url).header("accept", "application/json");
        if let Some((user, password)) = &self.user {
            request = request.basic_auth(user, Some(password.as_str()));
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = self.runtime.block_on(answer(request));
        answer.map_err(|reason| format!("{what}: {reason}"))
    }
}

async fn answer(request: reqwest::RequestBuilder) -> Result<Answer, String> {
    let mut response = request.send().await.map_err(|error| innermost(&error))?;
    let status = response.status().as_u16();
    let mut bytes = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| innermost(&error))? {
        bytes.extend_from_slice(&piece);
        if bytes.len() > MAX_ANSWER {
            return Err(format!("the answer has more than {MAX_ANSWER} bytes"));
        }
    }
    match serde_json::from_slice(&bytes) {
        Ok(body) => Ok(Answer { status, body }),
        // what stands between us and the server answers in other ways
        Err(_) if status >= 300 => Ok(Answer { status, body: Value::Null }),
        Err(_) => Err("the answer is no JSON".into()),
    }
}

/// The cause behind all the layers.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
