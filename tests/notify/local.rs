//! Text files for Prometheus, logs and the journal.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::thread;

use esker::config::profile::{Notify, Prometheus};
use esker::notify::{Event, Figures, Moment};
use serde_json::Value;

use super::{Machine, failure, good};

fn textfile(path: &Path) -> Notify {
    let prometheus = Prometheus { textfile: Some(path.to_owned()), push: None };
    Notify { prometheus: Some(prometheus), ..Notify::default() }
}

fn log(path: &Path) -> Notify {
    Notify { log: Some(path.to_str().unwrap().to_owned()), ..Notify::default() }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_text_file_is_replaced_whole_and_keeps_what_is_not_known_now() {
    let machine = Machine::new();
    let file = machine.path("esker.prom");
    assert_eq!(machine.tell(&textfile(&file), &failure()), [""; 0]);
    assert_eq!(mode(&file), 0o644);
    let labels = "{host=\"web1\",profile=\"nightly\",repository=\"offsite\"}";
    let text = std::fs::read_to_string(&file).unwrap();
    for line in [
        format!("esker_last_success_timestamp_seconds{labels} 1795744800"),
        format!("esker_last_run_exit_code{labels} 3"),
        format!("esker_last_run_duration_seconds{labels} 3600"),
        format!("esker_overdue{labels} 0"),
        format!("esker_files{labels} 7"),
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    // the repository is away: its last success stays what it was
    let away = Figures {
        repository: "offsite".into(),
        exit_code: Some(75),
        overdue: Some(true),
        ..Figures::default()
    };
    let event = Event { figures: vec![away], ..failure() };
    assert_eq!(machine.tell(&textfile(&file), &event), [""; 0]);
    let text = std::fs::read_to_string(&file).unwrap();
    for line in [
        format!("esker_last_success_timestamp_seconds{labels} 1795744800"),
        format!("esker_last_run_exit_code{labels} 75"),
        format!("esker_overdue{labels} 1"),
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    let files = std::fs::read_dir(machine.directory.path()).unwrap().count();
    assert_eq!(files, 2, "the file and the state directory, nothing temporary");
}

/// Nobody's gauges are lost when several end at once.
#[test]
fn profiles_share_a_text_file() {
    let machine = Machine::new();
    let file = machine.path("esker.prom");
    let state = machine.path("state");
    thread::scope(|scope| {
        for number in 0..8 {
            let (file, state) = (&file, &state);
            scope.spawn(move || {
                let event = Event { profile: format!("p{number}"), ..failure() };
                let surroundings = esker::notify::Surroundings {
                    state_directory: state,
                    environment: &|_| None,
                    journal: Path::new("/nowhere"),
                    limits: esker::notify::Limits::default(),
                    now_ms: 0,
                };
                let warnings = esker::notify::notify(&[&textfile(file)], &event, &surroundings);
                assert_eq!(warnings, [""; 0]);
            });
        }
    });
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text.matches("esker_overdue{").count(), 8, "{text}");
    assert_eq!(text.matches("# HELP esker_overdue ").count(), 1, "{text}");
}

#[test]
fn a_text_file_that_cannot_be_written_is_a_sentence() {
    let machine = Machine::new();
    let file = machine.path("missing/esker.prom");
    let warnings = machine.tell(&textfile(&file), &failure());
    assert!(
        warnings.len() == 1 && warnings[0].contains("esker.prom: No such file"),
        "{warnings:?}"
    );
    let warnings = machine.tell(&textfile(machine.directory.path()), &failure());
    assert!(warnings.len() == 1 && warnings[0].contains("no file"), "{warnings:?}");
}

#[test]
fn a_log_has_an_object_a_line() {
    let machine = Machine::new();
    let file = machine.path("log");
    let start = Event { moment: Moment::Start, ..good() };
    let odd = Event { sentence: "two\nlines \"quoted\"".into(), ..failure() };
    for event in [&start, &odd, &good()] {
        assert_eq!(machine.tell(&log(&file), event), [""; 0]);
    }
    assert_eq!(mode(&file), 0o600);
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["moment"], "start");
    assert_eq!(lines[0]["ended"], Value::Null);
    assert_eq!(lines[1]["sentence"], "two\nlines \"quoted\"");
    assert_eq!(lines[1]["time"], "2026-11-28T03:00:00Z");
    assert_eq!(lines[2]["state"], "good");
}

#[test]
fn a_log_that_cannot_be_written_is_a_sentence() {
    let machine = Machine::new();
    let pipe = machine.path("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    for path in [machine.directory.path(), &pipe, Path::new("/nowhere/log"), Path::new("/dev/full")]
    {
        let warnings = machine.tell(&log(path), &failure());
        assert_eq!(warnings.len(), 1, "{}", path.display());
        assert!(warnings[0].starts_with(&format!("log {}: ", path.display())), "{warnings:?}");
    }
}

#[test]
fn the_journal_gets_fields() {
    let machine = Machine::new();
    let path = machine.path("journal");
    let journal = UnixDatagram::bind(&path).unwrap();
    let settings = Notify { log: Some("journal".into()), ..Notify::default() };
    let event = Event { profile: "a\nPRIORITY=0".into(), ..failure() };
    assert_eq!(machine.tell_all(&[&settings], &event, &path), [""; 0]);
    let mut buffer = vec![0; 65_536];
    let length = journal.recv(&mut buffer).unwrap();
    let text = String::from_utf8_lossy(&buffer[..length]);
    for line in [
        "PRIORITY=3",
        "SYSLOG_IDENTIFIER=esker",
        "MESSAGE=source orders: pg_dump ended with 1",
        "ESKER_HOST=web1",
        "ESKER_STATE=failed",
        "ESKER_EXIT_CODE=3",
        "ESKER_COMMAND=esker run nightly",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(text.contains("ESKER_PROFILE\n\u{c}\0\0\0\0\0\0\0a\nPRIORITY=0\n"), "{text:?}");
}

#[test]
fn a_machine_without_a_journal_is_told_so() {
    let settings = Notify { log: Some("journal".into()), ..Notify::default() };
    let warnings = Machine::new().tell(&settings, &failure());
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].starts_with("journal /nowhere/journal: No such file"), "{warnings:?}");
}
