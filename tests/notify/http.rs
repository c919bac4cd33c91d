//! Pings, webhooks and push gateways.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::Receiver;
use std::time::Instant;

use esker::config::profile::{Notify, Prometheus, Webhook};
use esker::config::value::{Reference, Secret};
use esker::notify::{Event, Moment, State};
use serde_json::Value;

use super::server::{nobody, serve, silent};
use super::{Machine, failure, good, secret};

#[derive(Debug, PartialEq)]
pub struct Heard {
    pub line: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

/// An HTTP/1.1 server that answers all requests alike.
pub fn server(answer: &'static str) -> (SocketAddr, Receiver<Heard>) {
    serve(move |connection, heard| {
        let request = read(&connection);
        let length = "content-length: 0\r\nconnection: close\r\nlocation: http://127.0.0.1:1/\r\n";
        // before the answer: the test looks when it has come
        heard.send(request).unwrap();
        let _ = (&connection).write_all(format!("HTTP/1.1 {answer}\r\n{length}\r\n").as_bytes());
    })
}

fn read(connection: &TcpStream) -> Heard {
    let mut reader = BufReader::new(connection);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let mut headers = BTreeMap::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    Heard { line: line.trim_end().into(), headers, body: String::from_utf8(body).unwrap() }
}

fn ping(address: SocketAddr) -> Notify {
    Notify { ping: Some(secret(format!("http://{address}/8e1c"))), ..Notify::default() }
}

fn webhook(address: SocketAddr, body: Option<&str>) -> Notify {
    let url = secret(format!("http://{address}/hook/8e1c"));
    let webhook = Webhook { url, body: body.map(str::to_owned), ..Webhook::default() };
    Notify { webhook: Some(webhook), ..Notify::default() }
}

#[test]
fn every_run_is_pinged_for() {
    let (address, heard) = server("200 OK");
    let machine = Machine::new();
    let events = [
        (Event { moment: Moment::Start, ..good() }, "POST /8e1c/start HTTP/1.1"),
        (good(), "POST /8e1c HTTP/1.1"),
        (good(), "POST /8e1c HTTP/1.1"),
        (failure(), "POST /8e1c/3 HTTP/1.1"),
        (failure(), "POST /8e1c/3 HTTP/1.1"),
        (Event { state: State::Suspicious, ..good() }, "POST /8e1c/fail HTTP/1.1"),
    ];
    for (event, line) in events {
        assert_eq!(machine.tell(&ping(address), &event), [""; 0]);
        let request = heard.recv().unwrap();
        assert_eq!(request.line, line);
        match event.sentence.as_str() {
            "" => assert!(request.body.contains("nightly"), "{}", request.body),
            sentence => assert_eq!(request.body, sentence),
        }
    }
    machine.tell(&ping(address), &Event { moment: Moment::Look, ..failure() });
    assert!(heard.try_recv().is_err(), "a look is no run");
}

#[test]
fn a_webhook_without_a_template_gets_everything() {
    let (address, heard) = server("204 No Content");
    let mut settings = webhook(address, None);
    let hook = settings.webhook.as_mut().unwrap();
    let token = Secret::Reference(Reference::Environment("TOKEN".into()));
    hook.headers.insert("Authorization".into(), token);
    let mut machine = Machine::new();
    machine.environment.insert("TOKEN".into(), "Bearer 123".into());
    assert_eq!(machine.tell(&settings, &failure()), [""; 0]);
    let request = heard.recv().unwrap();
    assert_eq!(request.line, "POST /hook/8e1c HTTP/1.1");
    assert_eq!(request.headers["authorization"], "Bearer 123");
    assert_eq!(request.headers["content-type"], "application/json");
    let body: Value = serde_json::from_str(&request.body).unwrap();
    assert_eq!(body["state"], "failed");
    assert_eq!(body["before"], Value::Null);
    assert_eq!(body["sentence"], failure().sentence);
    assert_eq!(body["last_good"]["snapshot"], "5e1f0a2c");
    assert_eq!(body["last_good"]["age_seconds"], 25 * 3600);
    assert_eq!(body["repositories"][0]["counts"]["files"], 7);
    assert_eq!(body["duration_seconds"], 3600.0);
}

#[test]
fn a_template_stays_json_whatever_names_hold() {
    let (address, heard) = server("200 OK");
    let settings = webhook(
        address,
        Some(r#"{"text": "{host}/{profile}: {state}, {failed}", "n": {exit_code}}"#),
    );
    let event = Event {
        host: "a\"b\\".into(),
        profile: "c\n{state}\u{1}".into(),
        failed: vec!["é".into(), "\"},{\"".into()],
        ..failure()
    };
    assert_eq!(Machine::new().tell(&settings, &event), [""; 0]);
    let body: Value = serde_json::from_str(&heard.recv().unwrap().body).unwrap();
    assert_eq!(body["text"], "a\"b\\/c\n{state}\u{1}: failed, é, \"},{\"");
    assert_eq!(body["n"], 3);
}

#[test]
fn what_was_refused_is_a_sentence_without_the_secret() {
    for (answer, words) in [
        ("500 Internal Server Error", "the server answered 500 Internal Server Error"),
        ("404 Not Found", "the server answered 404 Not Found"),
        ("302 Found", "give the address that it sends others to"),
    ] {
        let (address, heard) = server(answer);
        for settings in [ping(address), webhook(address, None)] {
            let warnings = Machine::new().tell(&settings, &failure());
            assert_eq!(warnings.len(), 1);
            assert!(warnings[0].ends_with(words), "{warnings:?}");
            assert!(warnings[0].contains(&format!("to http://{address}/…")), "{warnings:?}");
            assert!(!warnings[0].contains("8e1c"), "{warnings:?}");
            heard.recv().unwrap();
        }
    }
}

#[test]
fn nobody_there_is_a_sentence() {
    let address = nobody();
    for settings in [ping(address), webhook(address, None)] {
        let warnings = Machine::new().tell(&settings, &failure());
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("refused"), "{warnings:?}");
        assert!(!warnings[0].contains("8e1c") && !warnings[0].contains('\n'), "{warnings:?}");
    }
}

/// All of them at once: together they take no longer than one.
#[test]
fn servers_that_say_nothing_are_left() {
    let settings: Vec<Notify> = (0..5).map(|_| ping(silent())).collect();
    let settings: Vec<&Notify> = settings.iter().collect();
    let machine = Machine::impatient();
    let begun = Instant::now();
    let warnings = machine.tell_all(&settings, &failure(), "/nowhere".as_ref());
    assert!(begun.elapsed() < machine.limits.whole * 4, "{:?}", begun.elapsed());
    assert_eq!(warnings.len(), 5);
    assert!(warnings[0].ends_with("no answer within 0.4 s"), "{warnings:?}");
}

#[test]
fn a_missing_secret_is_named_and_the_others_are_told() {
    let (address, heard) = server("200 OK");
    let mut settings = ping(address);
    let url = Secret::Reference(Reference::Environment("HOOK".into()));
    settings.webhook = Some(Webhook { url, ..Webhook::default() });
    let warnings = Machine::new().tell(&settings, &failure());
    assert_eq!(warnings, ["webhook: `url`: the variable HOOK is not set"]);
    assert_eq!(heard.recv().unwrap().line, "POST /8e1c/3 HTTP/1.1");
}

#[test]
fn a_wrong_header_is_named_without_its_value() {
    let mut settings = webhook(nobody(), None);
    let hook = settings.webhook.as_mut().unwrap();
    hook.headers.insert("X-Token".into(), secret("8e1c\r\nHost: evil"));
    let warnings = Machine::new().tell(&settings, &failure());
    assert_eq!(
        warnings,
        ["webhook: header \"X-Token\": its value holds what a header cannot hold"]
    );
}

#[test]
fn a_push_gateway_gets_one_group_for_each_repository() {
    let (address, heard) = server("202 Accepted");
    let push = Some(secret(format!("http://{address}/base/")));
    let prometheus = Some(Prometheus { push, textfile: None });
    let settings = Notify { prometheus, ..Notify::default() };
    let mut event = failure();
    event.figures.push(esker::notify::Figures {
        repository: "/srv/b".into(),
        exit_code: Some(75),
        ..Default::default()
    });
    let machine = Machine::new();
    assert_eq!(machine.tell(&settings, &event), [""; 0]);
    let mut both = [heard.recv().unwrap(), heard.recv().unwrap()];
    both.sort_by(|a, b| b.line.cmp(&a.line));
    assert_eq!(
        both[1].line,
        "PUT /base/metrics/job/esker/host/web1/profile/nightly/repository/offsite HTTP/1.1"
    );
    assert!(both[1].body.contains(
        "# TYPE esker_files gauge\nesker_files{host=\"web1\",profile=\"nightly\",repository=\"offsite\"} 7\n"
    ));
    assert!(both[0].line.ends_with("/repository@base64/L3Nydi9i HTTP/1.1"), "{}", both[0].line);
    assert!(!both[0].body.contains("esker_files"), "{}", both[0].body);
    assert!(both[0].body.ends_with("repository=\"/srv/b\"} 75\n"), "{}", both[0].body);
}

#[test]
fn a_certificate_nobody_knows_is_refused() {
    let (address, heard) = super::smtp::https();
    let settings =
        Notify { ping: Some(secret(format!("https://{address}/8e1c"))), ..Notify::default() };
    let warnings = Machine::new().tell(&settings, &failure());
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("certificate"), "{warnings:?}");
    assert!(!warnings[0].contains("8e1c"), "{warnings:?}");
    assert_eq!(heard.recv().unwrap(), "", "nothing is said to it");
}
