//! Tells people and machines how runs end and how profiles stand: pings, webhooks, e-mail, gauges for Prometheus, logs.
//!
//! | file | |
//! |---|---|
//! | `event` | what happened, and the words for it |
//! | `rules` | who is told when, and the file that remembers |
//! | `template` | texts with placeholders |
//! | `http` | pings, webhooks, push gateways |
//! | `mail` | SMTP |
//! | `prometheus`, `log` | files, and the journal |
//! | `place` | how files are replaced |
//!
//! Nothing here fails a run: what could not be delivered comes back as sentences, without secrets in them. What goes over
//! the network goes at once, and all of it is over within [`Limits`]. `docs/notices.md` tells users of it.

mod event;
mod http;
mod log;
mod mail;
mod place;
mod prometheus;
mod rules;
mod template;

use std::future::{Future, ready};
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use self::event::Notice;
pub use self::event::{Counts, Event, Figures, LastGood, Moment, Reason, State};
pub use self::rules::{Sent, Told, decide};
pub use self::template::check as check_template;
use crate::config::profile::Notify;
use crate::config::secret::Lookup;

/// Where systemd's journal takes entries.
pub const JOURNAL: &str = "/run/systemd/journal/socket";

/// How long deliveries may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Until there is a connection.
    pub connect: Duration,
    /// From beginning to end.
    pub whole: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { connect: Duration::from_secs(15), whole: Duration::from_secs(30) }
    }
}

/// What deliveries need to know of this machine.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// Where is remembered what was sent: a directory that outlives caches.
    pub state_directory: &'a Path,
    pub environment: Lookup<'a>,
    /// [`JOURNAL`].
    pub journal: &'a Path,
    pub limits: Limits,
    /// In ms since 1970.
    pub now_ms: u64,
}

/// Something that goes over the network.
struct Delivery {
    /// What it is and where it goes, as far as everybody may know.
    name: String,
    /// Who is told of it once only, and why now.
    told: Option<(String, Reason)>,
    work: Work,
}

/// What became of it.
struct Delivered {
    name: String,
    told: Option<(String, Reason)>,
    result: Result<(), String>,
}

type Work = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// Tells everybody whom `settings` name of the event, and gives warnings: one sentence for each who could not be told.
///
/// Recipients of notices are remembered by their place in `settings`: the general settings come first, a profile's own
/// behind them.
pub fn notify(settings: &[&Notify], event: &Event, surroundings: &Surroundings<'_>) -> Vec<String> {
    let file = rules::file(surroundings.state_directory, &event.host, &event.profile);
    let (before, warning) = Sent::read(&file);
    let mut sent = before.clone();
    let mut event = event.clone();
    sent.complete(&mut event);
    let mut round = Round {
        event: &event,
        sent: &sent,
        surroundings,
        deliveries: Vec::new(),
        silent: Vec::new(),
        warnings: Vec::new(),
    };
    round.warnings.extend(warning);
    for (place, notify) in settings.iter().enumerate() {
        round.log(notify);
        round.ping(notify);
        round.figures(notify);
        round.notices(notify, place);
    }
    let Round { deliveries, silent, mut warnings, .. } = round;
    for recipient in silent {
        if let Some(told) = sent.told.get_mut(&recipient) {
            *told = told.after(&event, None, surroundings.now_ms);
        }
    }
    for Delivered { name, told, result } in deliver(deliveries, surroundings.limits) {
        if let Some((recipient, reason)) = told {
            let told = sent.told.entry(recipient).or_default();
            let delivery = Some((reason, result.is_ok()));
            *told = told.after(&event, delivery, surroundings.now_ms);
        }
        warnings.extend(result.err().map(|error| format!("{name}: {error}")));
    }
    if sent != before {
        warnings.extend(sent.write(&file).err());
    }
    warnings
}

/// All that is told of one event.
struct Round<'a> {
    event: &'a Event,
    sent: &'a Sent,
    surroundings: &'a Surroundings<'a>,
    deliveries: Vec<Delivery>,
    /// Recipients to whom it is no news, or not all of it.
    silent: Vec<String>,
    warnings: Vec<String>,
}

impl<'a> Round<'a> {
    fn log(&mut self, notify: &Notify) {
        let Surroundings { journal, limits, now_ms, .. } = *self.surroundings;
        if let Some(target) = &notify.log {
            self.warnings.extend(log::write(target, self.event, now_ms, journal, limits).err());
        }
    }

    /// Every run is pinged for: it is their absence that is noticed.
    fn ping(&mut self, notify: &Notify) {
        if let Some(address) = &notify.ping
            && self.event.moment != Moment::Look
        {
            let request = http::ping(address, self.event, self.surroundings.environment);
            self.request("ping", request, None);
        }
    }

    fn figures(&mut self, notify: &Notify) {
        let Some(settings) = &notify.prometheus else { return };
        if self.event.moment == Moment::Start {
            return;
        }
        if let Some(file) = &settings.textfile {
            let written = prometheus::write(file, self.event, self.surroundings.state_directory);
            self.warnings.extend(written.err());
        }
        if let Some(address) = &settings.push {
            for figures in &self.event.figures {
                let (group, body) = prometheus::pushed(self.event, figures);
                let environment = self.surroundings.environment;
                let request = http::push(address, &group, body, environment);
                self.request("prometheus push", request, None);
            }
        }
    }

    /// Webhook and mail, if it is time for them.
    fn notices(&mut self, notify: &Notify, place: usize) {
        let environment = self.surroundings.environment;
        if let Some(settings) = &notify.webhook
            && let Some((told, notice)) = self.notice("webhook", place)
        {
            self.request("webhook", http::webhook(settings, &notice, environment), Some(told));
        }
        if let Some(settings) = &notify.mail
            && let Some((told, notice)) = self.notice("mail", place)
        {
            let limits = self.surroundings.limits;
            let (name, work): (_, Work) = match mail::mail(settings, &notice, environment) {
                Ok(mail) => (mail.name(), Box::pin(mail.send(limits))),
                Err(error) => ("mail".to_owned(), Box::pin(ready(Err(error)))),
            };
            self.deliveries.push(Delivery { name, told: Some(told), work });
        }
    }

    /// What could not even be made a request counts as a delivery that failed.
    fn request(
        &mut self,
        kind: &str,
        request: Result<http::Request, String>,
        told: Option<(String, Reason)>,
    ) {
        let limits = self.surroundings.limits;
        let (name, work): (_, Work) = match request {
            Ok(request) => {
                (format!("{kind} to {}", request.place()), Box::pin(request.send(limits)))
            }
            Err(error) => (kind.to_owned(), Box::pin(ready(Err(error)))),
        };
        self.deliveries.push(Delivery { name, told, work });
    }

    fn notice(&mut self, kind: &str, place: usize) -> Option<((String, Reason), Notice<'a>)> {
        let recipient = format!("{kind} {place}");
        let previous = self.sent.told.get(&recipient).copied().unwrap_or_default();
        let now_ms = self.surroundings.now_ms;
        let Some(reason) = decide(&previous, self.event, now_ms) else {
            self.silent.push(recipient);
            return None;
        };
        let before = previous.state;
        Some(((recipient, reason), Notice { event: self.event, reason, before, now_ms }))
    }
}

/// Delivers all at once: one that is slow keeps no other waiting.
fn deliver(deliveries: Vec<Delivery>, limits: Limits) -> Vec<Delivered> {
    if deliveries.is_empty() {
        return Vec::new();
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let failed = |Delivery { name, told, .. }| Delivered {
                name,
                told,
                result: Err(error.to_string()),
            };
            return deliveries.into_iter().map(failed).collect();
        }
    };
    let results = runtime.block_on(async {
        let work = deliveries.into_iter().map(|Delivery { name, told, work }| {
            let work = tokio::spawn(tokio::time::timeout(limits.whole, work));
            (name, told, work)
        });
        // begun before the first is waited for
        let work: Vec<_> = work.collect();
        let mut results = Vec::new();
        for (name, told, work) in work {
            let result = match work.await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => Err(format!("no answer within {} s", limits.whole.as_secs_f32())),
                Err(error) => Err(error.to_string()),
            };
            results.push(Delivered { name, told, result });
        }
        results
    });
    // a name server that does not answer is not waited for
    runtime.shutdown_background();
    results
}

/// The innermost reason of an error, which says most, on one line.
fn reason(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let reason = template::line(&innermost.to_string());
    match reason.as_str() {
        text if text.contains("UnknownIssuer") => {
            "no authority that this machine knows issued the server's certificate".to_owned()
        }
        text if text.contains("InvalidContentType") => {
            "the server does not begin TLS on this port".to_owned()
        }
        _ => reason,
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    /// A backup that failed on 2026-11-28 at 02:00 UTC, and what is known of it.
    pub(super) fn failure() -> Event {
        let started_ms = 1_795_831_200_000;
        Event {
            moment: Moment::End,
            host: "web1".into(),
            profile: "nightly".into(),
            state: State::Failed,
            failed: vec!["postgresql".into(), "orders".into()],
            last_good: Some(LastGood {
                snapshot: "5e1f0a2c".into(),
                time_ms: started_ms - 45 * 3_600_000,
            }),
            sentence: "source orders: pg_dump ended with 1: no such database".into(),
            command: "esker run nightly".into(),
            exit_code: 3,
            started_ms,
            ended_ms: started_ms + 20 * 60_000,
            figures: vec![Figures { repository: "offsite".into(), ..Figures::default() }],
            zone: TimeZone::UTC,
        }
    }
}
