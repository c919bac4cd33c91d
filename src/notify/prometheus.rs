//! Gauges for Prometheus: as a text file for the node exporter's collector, and for a push gateway
//! (the text format, version 0.0.4).

use std::fmt::Write;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::fs::{FlockOperation, flock};

use super::event::{Counts, Event, Figures, Moment};
use super::place;

/// A text file that is longer than this is not ours.
const LONGEST_FILE: u64 = 16 << 20;

struct Gauge {
    name: &'static str,
    help: &'static str,
    value: fn(&Figures) -> Option<f64>,
}

fn seconds(ms: Option<u64>) -> Option<f64> {
    ms.map(|ms| ms as f64 / 1000.0)
}

fn count(figures: &Figures, of: fn(&Counts) -> u64) -> Option<f64> {
    figures.counts.as_ref().map(|counts| of(counts) as f64)
}

const GAUGES: &[Gauge] = &[
    Gauge {
        name: "esker_last_success_timestamp_seconds",
        help: "When the last complete snapshot was taken.",
        value: |figures| seconds(figures.last_success_ms),
    },
    Gauge {
        name: "esker_last_run_timestamp_seconds",
        help: "When the last run ended.",
        value: |figures| seconds(figures.last_run_ms),
    },
    Gauge {
        name: "esker_last_run_exit_code",
        help: "Exit code of the last run.",
        value: |figures| figures.exit_code.map(|code| code as f64),
    },
    Gauge {
        name: "esker_last_run_duration_seconds",
        help: "How long the last run took.",
        value: |figures| seconds(figures.duration_ms),
    },
    Gauge {
        name: "esker_overdue",
        help: "Whether what the profile promises does not hold any more.",
        value: |figures| figures.overdue.map(|overdue| f64::from(u8::from(overdue))),
    },
    Gauge {
        name: "esker_files",
        help: "Files of the last snapshot.",
        value: |figures| count(figures, |counts| counts.files),
    },
    Gauge {
        name: "esker_bytes",
        help: "Size of all files of the last snapshot.",
        value: |figures| count(figures, |counts| counts.bytes),
    },
    Gauge {
        name: "esker_files_new",
        help: "Files that the last snapshot has and the one before had not.",
        value: |figures| count(figures, |counts| counts.files_new),
    },
    Gauge {
        name: "esker_files_changed",
        help: "Files that are otherwise than in the snapshot before.",
        value: |figures| count(figures, |counts| counts.files_changed),
    },
    Gauge {
        name: "esker_bytes_added",
        help: "Bytes of the last snapshot that were new, before compression.",
        value: |figures| count(figures, |counts| counts.bytes_added),
    },
    Gauge {
        name: "esker_bytes_stored",
        help: "Bytes that the last snapshot added to the repository.",
        value: |figures| count(figures, |counts| counts.bytes_stored),
    },
];

/// Labels that all gauges of a profile begin with.
fn profile_labels(event: &Event) -> String {
    format!("{{host=\"{}\",profile=\"{}\",", escaped(&event.host), escaped(&event.profile))
}

fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

/// The gauges of these figures, and the lines of `others` that nothing here says anew: those of other profiles, and what
/// only somebody else knows of this one.
fn render(event: &Event, figures: &[Figures], others: &str) -> String {
    let own = profile_labels(event);
    let labels = |of: &Figures| format!("{own}repository=\"{}\"}}", escaped(&of.repository));
    let mut text = String::new();
    for gauge in GAUGES {
        let stays = |line: &&str| match line.strip_prefix(gauge.name) {
            Some(rest) if rest.starts_with(&own) => {
                match figures.iter().find(|figures| rest.starts_with(&labels(figures))) {
                    Some(figures) => (gauge.value)(figures).is_none(),
                    // a look sees all repositories of a profile, a run not those that it copies to
                    None => event.moment != Moment::Look,
                }
            }
            Some(rest) => rest.starts_with('{'),
            None => false,
        };
        let mut lines: Vec<String> = others.lines().filter(stays).map(str::to_owned).collect();
        for figures in figures {
            if let Some(value) = (gauge.value)(figures) {
                lines.push(format!("{}{} {value}", gauge.name, labels(figures)));
            }
        }
        if !lines.is_empty() {
            // writing into a text cannot fail
            let _ = writeln!(text, "# HELP {} {}", gauge.name, gauge.help);
            let _ = writeln!(text, "# TYPE {} gauge", gauge.name);
            let _ = writeln!(text, "{}", lines.join("\n"));
        }
    }
    text
}

/// The body of one repository's push, and what the gateway knows it by.
pub(super) fn pushed(event: &Event, figures: &Figures) -> (String, String) {
    let mut group = String::new();
    for (label, value) in
        [("host", &event.host), ("profile", &event.profile), ("repository", &figures.repository)]
    {
        group.push_str(&group_label(label, value));
    }
    (group, render(event, std::slice::from_ref(figures), ""))
}

/// A label as a path has it: values that a path cannot hold in base64.
fn group_label(label: &str, value: &str) -> String {
    if value.is_empty() {
        return format!("/{label}@base64/=");
    }
    if value.contains('/') || matches!(value, "." | "..") {
        return format!("/{label}@base64/{}", base64_url(value.as_bytes()));
    }
    format!("/{label}/{}", utf8_percent_encode(value, NON_ALPHANUMERIC))
}

/// RFC 4648 §5, without padding.
fn base64_url(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - three.len()));
        for place in 0..=three.len() {
            text.push(char::from(LETTERS[(bits >> (18 - 6 * place) & 63) as usize]));
        }
    }
    text
}

/// Puts the profile's gauges into the text file. What other profiles of this machine have there stays.
pub(super) fn write(file: &Path, event: &Event, state_directory: &Path) -> Result<(), String> {
    let wrong = |error: io::Error| format!("prometheus text file {}: {error}", file.display());
    // two runs that end at once: the second has to see what the first wrote
    let _turn = turn(state_directory).ok();
    let others = contents(file).map_err(wrong)?;
    let text = render(event, &event.figures, &others);
    place::replace(file, text.as_bytes(), 0o644).map_err(wrong)
}

fn turn(state_directory: &Path) -> io::Result<File> {
    let directory = state_directory.join("notices");
    place::private_directory(&directory)?;
    let options = fs::OpenOptions::new().create(true).append(true).mode(0o600).clone();
    let lock = options.open(directory.join("prometheus.lock"))?;
    flock(&lock, FlockOperation::LockExclusive)?;
    Ok(lock)
}

fn contents(file: &Path) -> io::Result<String> {
    match fs::metadata(file) {
        Ok(metadata) if !metadata.is_file() => {
            return Err(io::Error::other("there is something that is no file"));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(error),
    }
    let mut bytes = Vec::new();
    File::open(file)?.take(LONGEST_FILE).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::super::tests::failure;
    use super::*;

    fn figures(repository: &str) -> Figures {
        Figures {
            repository: repository.into(),
            last_success_ms: Some(1_700_000_000_500),
            exit_code: Some(3),
            overdue: Some(true),
            ..Figures::default()
        }
    }

    #[test]
    fn gauges_have_help_type_labels_and_value() {
        let mut event = failure();
        event.host = "a\"b\\c\nd".into();
        let text = render(&event, &[figures("disk"), figures("s3")], "");
        let expected = "\
# HELP esker_last_success_timestamp_seconds When the last complete snapshot was taken.
# TYPE esker_last_success_timestamp_seconds gauge
esker_last_success_timestamp_seconds{host=\"a\\\"b\\\\c\\nd\",profile=\"nightly\",repository=\"disk\"} 1700000000.5
esker_last_success_timestamp_seconds{host=\"a\\\"b\\\\c\\nd\",profile=\"nightly\",repository=\"s3\"} 1700000000.5
";
        assert!(text.starts_with(expected), "{text}");
        assert!(
            text.contains("repository=\"disk\"} 3\n") && !text.contains("esker_files"),
            "{text}"
        );
    }

    #[test]
    fn lines_of_other_profiles_stay_and_old_ones_of_this_go() {
        let event = failure();
        let mut other = failure();
        other.profile = "night".into();
        let others = render(&other, &[figures("disk")], "");
        let both = render(&event, &[figures("disk")], &others);
        assert_eq!(both.matches("# TYPE esker_overdue gauge").count(), 1);
        assert_eq!(both.matches("esker_overdue{").count(), 2);
        let again = render(&event, &[figures("disk")], &both);
        assert_eq!(again.matches("esker_overdue{").count(), 2, "{again}");
        let stray = format!("{both}node_load1 5\nesker_overdued{{a=\"b\"}} 1\n");
        assert_eq!(render(&event, &[figures("disk")], &stray), again);
    }

    /// A run does not know what is overdue, nor the repository that is only copied to; a look knows of all.
    #[test]
    fn a_run_keeps_what_only_a_look_knows() {
        let look = Event { moment: Moment::Look, ..failure() };
        let text = render(&look, &[figures("disk"), figures("copy")], "");
        let of_run = Figures { overdue: None, exit_code: Some(0), ..figures("disk") };
        let text = render(&failure(), &[of_run], &text);
        assert_eq!(text.matches("esker_overdue{").count(), 2, "{text}");
        let code = |repository: &str, code| {
            text.contains(&format!("profile=\"nightly\",repository=\"{repository}\"}} {code}\n"))
        };
        assert!(code("disk", 0) && code("copy", 3), "{text}");
        let text = render(&look, &[figures("disk")], &text);
        assert!(!text.contains("repository=\"copy\""), "{text}");
    }

    #[test]
    fn groups_hold_what_a_path_cannot() {
        assert_eq!(group_label("host", "web 1"), "/host/web%201");
        assert_eq!(group_label("host", "ü%"), "/host/%C3%BC%25");
        assert_eq!(group_label("repository", "/srv/b?"), "/repository@base64/L3Nydi9iPw");
        assert_eq!(group_label("profile", ""), "/profile@base64/=");
        assert_eq!(base64_url(b"\xfb\xff\xfe"), "-__-");
        assert_eq!(base64_url(b"a"), "YQ");
    }
}
