//! Progress as it is shown: a bar on a terminal, a line now and then elsewhere,
//! events with `--json`, only failures with `--quiet`.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use super::arguments::Global;
use super::streams::talk;
use crate::output;
use crate::progress::{Event, Progress};

/// How often a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(30);
const JSON_EVERY: Duration = Duration::from_secs(1);
const BAR_EVERY: Duration = Duration::from_millis(100);

enum Look {
    Bar(ProgressBar),
    Lines,
    Json,
    Quiet,
}

/// Listens to an operation and shows it.
pub struct Reporter {
    look: Look,
    json: bool,
    verbose: bool,
    started: Instant,
    /// When progress was last shown, in ms since the start.
    shown: AtomicU64,
    files: AtomicU64,
    bytes: AtomicU64,
    files_expected: AtomicU64,
    bytes_expected: AtomicU64,
    interrupted: Arc<AtomicBool>,
    told_to_stop: AtomicBool,
}

impl Reporter {
    pub fn new(global: &Global, interrupted: Arc<AtomicBool>) -> Reporter {
        let look = match () {
            () if global.quiet => Look::Quiet,
            () if global.json => Look::Json,
            () if io::stderr().is_terminal() => Look::Bar(bar()),
            () => Look::Lines,
        };
        Reporter {
            look,
            json: global.json,
            verbose: global.verbose > 0,
            started: Instant::now(),
            shown: AtomicU64::new(0),
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            files_expected: AtomicU64::new(0),
            bytes_expected: AtomicU64::new(0),
            interrupted,
            told_to_stop: AtomicBool::new(false),
        }
    }

    /// The flag that a signal raises.
    pub fn interruption(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.interrupted)
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Look::Bar(bar) = &self.look {
            bar.finish_and_clear();
        }
    }

    pub fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Prints a line without tearing the bar.
    fn aside(&self, print: impl FnOnce()) {
        match &self.look {
            Look::Bar(bar) => bar.suspend(print),
            _ => print(),
        }
    }

    /// Something for whoever reads standard error and, with `--json`, for the
    /// program that reads standard output.
    fn remark(&self, line: &str, kind: &str, members: impl FnOnce() -> Value) {
        self.aside(|| talk(line));
        if self.json {
            data(&output::json_line(kind, members()));
        }
    }

    fn advance(&self) {
        let every = match &self.look {
            Look::Bar(_) => BAR_EVERY,
            Look::Lines => LINE_EVERY,
            Look::Json => JSON_EVERY,
            Look::Quiet => return,
        };
        let now = self.elapsed_ms();
        let shown = self.shown.load(Ordering::Relaxed);
        if now < shown + every.as_millis() as u64 {
            return;
        }
        // Of several threads one shows it.
        if self.shown.compare_exchange(shown, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.show(now);
        }
    }

    fn show(&self, now: u64) {
        let [files, bytes, files_expected, bytes_expected] =
            [&self.files, &self.bytes, &self.files_expected, &self.bytes_expected]
                .map(|number| number.load(Ordering::Relaxed));
        let left = time_left(now, bytes, bytes_expected);
        match &self.look {
            Look::Bar(bar) => {
                bar.set_length(bytes_expected.max(bytes));
                bar.set_position(bytes);
                let left =
                    left.map_or(String::new(), |ms| format!(", {} left", output::duration(ms)));
                bar.set_message(format!("{}{left}", output::counted(files, "file")));
            }
            Look::Lines => {
                let of = match bytes_expected > bytes {
                    true => format!(" of {}", output::size(bytes_expected)),
                    false => String::new(),
                };
                let left =
                    left.map_or(String::new(), |ms| format!(", {} left", output::duration(ms)));
                let files = output::counted(files, "file");
                talk(&format!(
                    "{}: {files}, {}{of}{left}",
                    output::duration(now),
                    output::size(bytes)
                ));
            }
            Look::Json => data(&output::json_line(
                "progress",
                json!({
                    "seconds": now / 1000,
                    "files": files,
                    "bytes": bytes,
                    "files_expected": files_expected,
                    "bytes_expected": bytes_expected,
                    "seconds_left": left.map(|ms| ms / 1000),
                }),
            )),
            Look::Quiet => {}
        }
    }
}

/// Milliseconds that the rest takes at the rate so far; unknown at the start.
fn time_left(elapsed: u64, done: u64, expected: u64) -> Option<u64> {
    if elapsed < 2000 || done == 0 || expected <= done {
        return None;
    }
    let left = u128::from(elapsed) * u128::from(expected - done) / u128::from(done);
    u64::try_from(left).ok()
}

fn bar() -> ProgressBar {
    let template =
        "{prefix} {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {msg}";
    let style = ProgressStyle::with_template(template).expect("a template of ours");
    // Drawn when we say so: ten times a second at most, by whoever has news.
    ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr()).with_style(style)
}

/// A line for whoever reads events; that nobody does is no reason to stop a backup.
fn data(line: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush());
}

impl Progress for Reporter {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Stage(stage) => match &self.look {
                Look::Bar(bar) => bar.set_prefix(stage.to_owned()),
                Look::Json => data(&output::json_line("stage", json!({ "stage": stage }))),
                Look::Lines | Look::Quiet => {}
            },
            Event::Expect { files, bytes } => {
                self.files_expected.fetch_add(files, Ordering::Relaxed);
                self.bytes_expected.fetch_add(bytes, Ordering::Relaxed);
                self.advance();
            }
            Event::Done { files, bytes } => {
                self.files.fetch_add(files, Ordering::Relaxed);
                self.bytes.fetch_add(bytes, Ordering::Relaxed);
                self.advance();
            }
            Event::Failure { path, reason } => {
                let line = format!("{}: {reason}", output::path(path));
                self.remark(&line, "failure", || output::json_remark(path, "reason", reason));
            }
            Event::Note { path, text } if self.verbose => {
                let line = format!("{}: note: {text}", output::path(path));
                self.remark(&line, "note", || output::json_remark(path, "note", text));
            }
            Event::Note { .. } => {}
            Event::Warning(message) => {
                let line = format!("esker: warning: {message}");
                self.remark(&line, "warning", || json!({ "message": message }));
            }
            // its error says it again if it fails
            Event::Said { .. } if matches!(self.look, Look::Quiet) => {}
            Event::Said { name, line } => {
                let members = || json!({ "name": name, "line": line });
                self.remark(&format!("{name}: {line}"), "said", members);
            }
            Event::Line { kind, path, bytes } => {
                self.aside(|| data(&self.listed(kind, path, bytes)))
            }
        }
    }

    fn interrupted(&self) -> bool {
        let interrupted = self.interrupted.load(Ordering::Relaxed);
        if interrupted && !self.told_to_stop.swap(true, Ordering::Relaxed) {
            self.aside(|| talk("esker: stopping in good order; once more stops at once"));
        }
        interrupted
    }
}

impl Reporter {
    fn listed(&self, kind: &str, path: &[u8], bytes: u64) -> String {
        if !self.json {
            return format!("{kind:<9} {:>10}  {}", output::size(bytes), output::path(path));
        }
        let mut members = serde_json::Map::new();
        members.insert("change".to_owned(), kind.into());
        output::json_path(&mut members, "path", path);
        members.insert("bytes".to_owned(), bytes.into());
        output::json_line("line", Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::time_left;

    #[test]
    fn time_left_follows_the_rate_and_is_silent_without_one() {
        assert_eq!(time_left(10_000, 100, 300), Some(20_000));
        for (elapsed, done, expected) in
            [(1000, 1, 2), (10_000, 0, 5), (10_000, 5, 5), (10_000, 6, 5)]
        {
            assert_eq!(time_left(elapsed, done, expected), None);
        }
    }
}
