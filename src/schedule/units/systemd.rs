//! A service and a timer of systemd for a profile: systemd.service(5),
//! systemd.timer(5), systemd.exec(5).
//!
//! | exit code of a run | for systemd |
//! |---|---|
//! | 0, 3 (partial), 75 (try later) | it ended; `status` and the notices tell of 3 and 75 |
//! | other | it failed; the next time of the timer tries again |
//!
//! Nothing is restarted: a source that cannot be read today and a store that is
//! away are not there a second later either.

use std::path::Path;

use jiff::{Timestamp, ToSpan};

use super::{Program, Unit, header, text};
use crate::repository::Result;
use crate::schedule::calendar::Calendar;
use crate::schedule::{Job, gentle, usage};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manager {
    System,
    /// Of one user, while that user is logged in or lingers.
    User,
}

/// Tells a run that conditions and jitter have been seen to.
pub const SCHEDULER_VARIABLE: &str = "ESKER_SCHEDULER";

/// Fails if NetworkManager says that the connection is metered, or guesses so.
const NOT_METERED: &str = "! busctl --system --timeout=5 get-property \
    org.freedesktop.NetworkManager /org/freedesktop/NetworkManager \
    org.freedesktop.NetworkManager Metered 2>/dev/null | grep -qx \"u [13]\"";

/// Both files. `now` is when they are written: nights in which clocks are set
/// forward over the profile's time are named for ten years from then.
pub fn units(job: &Job, program: &Program, manager: Manager, now: Timestamp) -> Result<[Unit; 2]> {
    let name = unit_name(&job.profile);
    let service = service(job, program, manager)?;
    let timer = timer(job, now)?;
    Ok([
        Unit { name: format!("{name}.service"), text: service },
        Unit { name: format!("{name}.timer"), text: timer },
    ])
}

/// `esker-web`: without `.timer`, with `\x20` for what names of units cannot have.
pub fn unit_name(profile: &str) -> String {
    let escaped = profile.bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' => {
            char::from(byte).to_string()
        }
        _ => format!("\\x{byte:02x}"),
    });
    format!("esker-{}", escaped.collect::<String>())
}

fn service(job: &Job, program: &Program, manager: Manager) -> Result<String> {
    let mut lines = vec!["[Unit]".to_owned()];
    lines.push(format!("Description=esker run of profile {}", specifiers(&job.profile)));
    if manager == Manager::System {
        lines.push("Wants=network-online.target".to_owned());
        lines.push("After=network-online.target local-fs.target remote-fs.target".to_owned());
    }
    if job.conditions.mains_power {
        lines.push("ConditionACPower=true".to_owned());
    }
    for path in &job.conditions.mounts {
        lines.push(format!("ConditionPathIsMountPoint={}", mount(job, path)?));
    }
    lines.extend(["", "[Service]", "Type=oneshot"].map(str::to_owned));
    if job.conditions.not_metered {
        lines.push(format!("ExecCondition=/bin/sh -c '{NOT_METERED}'"));
    }
    lines.push(format!("ExecStart={}", command(&program.words(&job.profile)?)));
    // not only where HOME is set, and the same whoever starts a run
    lines.push(format!("Environment=ESKER_CACHE_DIR=%C/esker {SCHEDULER_VARIABLE}=systemd"));
    lines.extend(["CacheDirectory=esker", "CacheDirectoryMode=0700"].map(str::to_owned));
    for name in &job.credentials {
        lines.push(format!("LoadCredential={}", credential(job, name)?));
    }
    lines.extend(["SuccessExitStatus=3 75", "Restart=no"].map(str::to_owned));
    if job.nice {
        lines.push(format!("Nice={}", gentle::NICENESS));
        lines.push("IOSchedulingClass=idle".to_owned());
    }
    Ok(header(&job.profile) + &lines.join("\n") + "\n")
}

fn timer(job: &Job, now: Timestamp) -> Result<String> {
    if job.expressions.is_empty() {
        return Err(usage(&job.profile, "it has no schedule"));
    }
    let mut lines = vec!["[Unit]".to_owned()];
    lines.push(format!("Description=When esker runs profile {}", specifiers(&job.profile)));
    lines.extend(["", "[Timer]"].map(str::to_owned));
    for expression in &job.expressions {
        lines.push(format!("# {}", expression.text()));
        let zone = zone_suffix(expression);
        let times = expression.systemd_lines().into_iter().chain(skipped_times(expression, now));
        lines.extend(times.map(|time| format!("OnCalendar={time}{zone}")));
    }
    lines.push(format!("Persistent={}", job.catch_up));
    if !job.jitter.is_zero() {
        lines.push(format!("RandomizedDelaySec={}ms", job.jitter.as_millis()));
        lines.push("FixedRandomDelay=true".to_owned());
    }
    lines.push("AccuracySec=1s".to_owned());
    lines.extend(["", "[Install]", "WantedBy=timers.target"].map(str::to_owned));
    Ok(header(&job.profile) + &lines.join("\n") + "\n")
}

/// systemd drops a time that a change of clocks skips; these stand in for it.
fn skipped_times(expression: &Calendar, now: Timestamp) -> Vec<String> {
    let years = (10 * 366 * 24).hours();
    let until = now.checked_add(years).unwrap_or(Timestamp::MAX);
    let local = |time: Timestamp| {
        expression.zone().to_datetime(time).strftime("%Y-%m-%d %H:%M:%S").to_string()
    };
    expression.moved(now, until).into_iter().map(local).collect()
}

fn zone_suffix(expression: &Calendar) -> String {
    let name = expression.zone().iana_name();
    name.map_or_else(String::new, |name| format!(" {name}"))
}

fn mount(job: &Job, path: &Path) -> Result<String> {
    let text = text(path)?;
    match path.is_absolute() && text.trim() == text {
        true => Ok(specifiers(&text)),
        false => Err(usage(&job.profile, &format!("mount {text:?} is no absolute path"))),
    }
}

fn credential(job: &Job, name: &str) -> Result<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    match !name.is_empty() && name.len() < 256 && name.chars().all(plain) && !name.starts_with('.')
    {
        true => Ok(name.to_owned()),
        false => {
            let reason = "a name has letters, digits, '.', '_' and '-' only";
            Err(usage(&job.profile, &format!("credential {name:?}: {reason}")))
        }
    }
}

/// `%` means something in every value.
fn specifiers(text: &str) -> String {
    text.replace('%', "%%")
}

/// `$` begins a variable in every word but the program itself.
fn command(words: &[String]) -> String {
    let word = |(number, word): (usize, &String)| match number {
        0 => quoted(word),
        _ => quoted(&word.replace('$', "$$")),
    };
    words.iter().enumerate().map(word).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:@+=,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", specifiers(&escaped))
}
