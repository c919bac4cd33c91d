//! Several nights: what is sent again and what is not.

use esker::config::profile::{Mail, Notify, Webhook};
use esker::notify::{Event, Moment, State};
use serde_json::Value;

use super::server::nobody;
use super::{HOUR, Machine, NIGHT, failure, good, http, secret, smtp};

fn webhook(url: String) -> Notify {
    let webhook = Webhook { url: secret(url), ..Webhook::default() };
    Notify { webhook: Some(webhook), ..Notify::default() }
}

#[test]
fn once_then_daily_then_the_recovery() {
    let (address, heard) = http::server("200 OK");
    let settings = webhook(format!("http://{address}/"));
    let mut machine = Machine::new();
    let mut night = |hours: u64, event: Event| {
        machine.now_ms = NIGHT + hours * HOUR;
        assert_eq!(machine.tell(&settings, &event), [""; 0]);
        let body: Option<Value> =
            heard.try_recv().ok().map(|heard| serde_json::from_str(&heard.body).unwrap());
        body.map(|body| {
            let before = body["before"].as_str().unwrap_or("nothing").to_owned();
            (body["state"].as_str().unwrap().to_owned(), before, body["repeated"] == true)
        })
    };
    let said =
        |state: &str, before: &str, repeated| Some((state.to_owned(), before.to_owned(), repeated));
    assert_eq!(night(0, good()), None);
    assert_eq!(night(24, Event { moment: Moment::Start, ..failure() }), None);
    assert_eq!(night(24, failure()), said("failed", "nothing", false));
    assert_eq!(night(30, failure()), None);
    assert_eq!(night(48, failure()), said("failed", "failed", true));
    let overdue = Event { moment: Moment::Look, state: State::Overdue, ..failure() };
    assert_eq!(night(60, overdue), said("overdue", "failed", false));
    // the run is well again, what is overdue only a look finds done
    assert_eq!(night(72, good()), None);
    assert_eq!(
        night(73, Event { moment: Moment::Look, ..good() }),
        said("recovered", "overdue", false)
    );
    assert_eq!(night(96, good()), None);
}

/// A copy fails every night, and half an hour later `status` finds all promises kept.
#[test]
fn a_look_that_finds_all_promises_kept_ends_no_failure() {
    let (address, heard) = http::server("200 OK");
    let settings = webhook(format!("http://{address}/"));
    let mut machine = Machine::new();
    let mut tell = |half_hours: u64, event: Event| {
        machine.now_ms = NIGHT + half_hours * HOUR / 2;
        assert_eq!(machine.tell(&settings, &event), [""; 0]);
        heard.try_iter().count()
    };
    let look = Event { moment: Moment::Look, ..good() };
    let counts = [
        tell(0, failure()),
        tell(1, look.clone()),
        tell(2, failure()),
        tell(48, failure()),
        tell(49, look.clone()),
        tell(96, good()),
        tell(97, look),
    ];
    assert_eq!(counts, [1, 0, 0, 1, 0, 1, 0]);
}

/// The store is away: the run does not know what was saved last, but an earlier one did.
#[test]
fn the_last_good_snapshot_is_remembered() {
    let (address, heard) = http::server("200 OK");
    let settings = webhook(format!("http://{address}/"));
    let machine = Machine::new();
    let told = || -> Value { serde_json::from_str(&heard.recv().unwrap().body).unwrap() };
    let away = Event { last_good: None, ..failure() };
    machine.tell(&settings, &away);
    assert_eq!(told()["last_good"], Value::Null);
    machine.tell(&settings, &good());
    assert_eq!(told()["state"], "recovered");
    machine.tell(&settings, &away);
    assert_eq!(told()["last_good"]["snapshot"], "5e1f0a2c");
}

#[test]
fn what_failed_is_tried_at_the_next_event_and_only_that() {
    let (address, heard) = http::server("200 OK");
    let (relay, mails, _) = smtp::server(smtp::Security::None, None);
    let mail = |server| {
        let to = vec!["root@example.org".into()];
        Some(Mail { server, from: "esker@example.org".into(), to, ..Mail::default() })
    };
    let mut settings = webhook(format!("http://{address}/"));
    settings.mail = mail(format!("smtp://{}", nobody()));
    let machine = Machine::new();
    assert_eq!(machine.tell(&settings, &failure()).len(), 1);
    assert!(heard.try_recv().is_ok());
    settings.mail = mail(format!("smtp://{relay}"));
    assert_eq!(machine.tell(&settings, &failure()), [""; 0]);
    assert!(heard.try_recv().is_err(), "the webhook knows");
    assert!(mails.recv().unwrap().mail.is_some());
    assert_eq!(machine.tell(&settings, &failure()), [""; 0]);
    assert!(mails.try_recv().is_err(), "now both know");
}

/// General settings and a profile's own are different recipients.
#[test]
fn both_of_two_settings_are_told() {
    let (first, heard_first) = http::server("200 OK");
    let (second, heard_second) = http::server("500 Oh");
    let machine = Machine::new();
    let settings = [&webhook(format!("http://{first}/")), &webhook(format!("http://{second}/"))];
    for (round, expected) in [(1, 1), (2, 0)] {
        assert_eq!(machine.tell_all(&settings, &failure(), "/x".as_ref()).len(), 1, "{round}");
        assert_eq!(heard_first.try_iter().count(), expected, "{round}");
        assert_eq!(heard_second.try_iter().count(), 1, "{round}");
    }
}

#[test]
fn a_state_directory_that_cannot_be_written_silences_nobody() {
    let (address, heard) = http::server("200 OK");
    let machine = Machine::new();
    std::fs::write(machine.path("state"), "in the way").unwrap();
    for _ in 0..2 {
        let warnings = machine.tell(&webhook(format!("http://{address}/")), &failure());
        assert!(warnings.iter().all(|warning| warning.contains("notices")), "{warnings:?}");
        assert!(!warnings.is_empty());
        assert!(heard.try_recv().is_ok());
    }
}
