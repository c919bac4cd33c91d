//! Lines for machines that read logs: JSON in a file, or fields in systemd's journal.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use rustix::fs::OFlags;
use serde_json::Value;

use super::Limits;
use super::event::{Event, Moment, State};
use super::template::line;

/// What the settings call the journal.
const JOURNAL: &str = "journal";
/// Longest text of a field, in bytes: a datagram has to hold all of them.
const LONGEST_FIELD: usize = 16 << 10;

/// Adds the event to `target`: a file, or `journal`.
pub(super) fn write(
    target: &str,
    event: &Event,
    now_ms: u64,
    journal: &Path,
    limits: Limits,
) -> Result<(), String> {
    if target == JOURNAL {
        return send(journal, &fields(event), limits)
            .map_err(|error| format!("journal {}: {error}", journal.display()));
    }
    append(Path::new(target), &event.json(now_ms)).map_err(|error| format!("log {target}: {error}"))
}

/// One line in one write, so that lines of several processes do not mix.
fn append(file: &Path, record: &Value) -> io::Result<()> {
    let text = format!("{record}\n");
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        // a pipe that nobody reads is an error and no reason to wait
        .custom_flags(OFlags::NONBLOCK.bits() as i32)
        .open(file)?;
    match file.write(text.as_bytes())? {
        written if written == text.len() => Ok(()),
        written => Err(io::Error::other(format!("{written} of {} bytes were written", text.len()))),
    }
}

fn fields(event: &Event) -> Vec<(&'static str, String)> {
    // as syslog counts: 3 is an error, 4 a warning, 6 information
    let priority = match event.state {
        _ if event.moment == Moment::Start => 6,
        State::Good => 6,
        State::Failed => 3,
        State::Partial | State::Overdue | State::Suspicious => 4,
    };
    let mut fields = vec![
        ("PRIORITY", priority.to_string()),
        ("SYSLOG_IDENTIFIER", "esker".to_owned()),
        ("MESSAGE", line(&event.sentence())),
        ("ESKER_HOST", event.host.clone()),
        ("ESKER_PROFILE", event.profile.clone()),
    ];
    if event.moment != Moment::Start {
        fields.push(("ESKER_STATE", event.state.word().to_owned()));
        fields.push(("ESKER_EXIT_CODE", event.exit_code.to_string()));
    }
    if let Some(good) = &event.last_good {
        fields.push(("ESKER_LAST_GOOD", good.snapshot.clone()));
    }
    for (name, value) in
        [("ESKER_FAILED", event.failed.join(", ")), ("ESKER_COMMAND", event.command.clone())]
    {
        if !value.is_empty() {
            fields.push((name, value));
        }
    }
    fields
}

/// The journal's native protocol: `NAME=value`, or name, length and bytes where the value has several lines.
fn datagram(fields: &[(&'static str, String)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        let end = value.floor_char_boundary(LONGEST_FIELD);
        let value = &value.as_bytes()[..end];
        bytes.extend(name.as_bytes());
        if value.contains(&b'\n') {
            bytes.push(b'\n');
            bytes.extend((value.len() as u64).to_le_bytes());
        } else {
            bytes.push(b'=');
        }
        bytes.extend(value);
        bytes.push(b'\n');
    }
    bytes
}

fn send(journal: &Path, fields: &[(&'static str, String)], limits: Limits) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(limits.connect))?;
    socket.send_to(&datagram(fields), journal).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_several_lines_have_a_length() {
        let bytes = datagram(&[("A", "1".into()), ("B", "x\ny".into())]);
        assert_eq!(bytes, b"A=1\nB\n\x03\0\0\0\0\0\0\0x\ny\n");
        let long = datagram(&[("A", "é".repeat(20_000))]);
        assert_eq!(long.len(), 2 + LONGEST_FIELD + 1);
    }
}
