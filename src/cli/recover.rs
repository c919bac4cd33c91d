//! `recover`: on a machine that has nothing, writes the profile back that travels in its snapshots.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use jiff::tz::TimeZone;
use serde_json::json;

use super::context::Context;
use super::streams::{Output, Stop, talk};
use super::{Exit, Outcome};
use crate::config::{self, Profile};
use crate::format::manifest::Manifest;
use crate::output::{self, Table};
use crate::repository::sets::Sets;
use crate::repository::snapshots::Snapshot;
use crate::repository::{Error, ErrorKind, Repository, Result};
use crate::wayback::command::Command;

/// Write a lost machine's configuration back from its snapshots
///
/// Lists hosts and profiles, and writes the profile of the newest complete snapshot, with the repositories it names, to the
/// configuration file. It says which secrets no snapshot knows. Then `esker restore --profile NAME latest` brings
/// everything back.
#[derive(Args)]
pub struct Arguments {
    /// Of this host
    #[arg(long, value_name = "NAME")]
    host: Option<String>,

    /// This profile
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,

    /// Write to this file, or to standard output [default: the configuration file]
    #[arg(long, value_name = "FILE|-")]
    output: Option<PathBuf>,
}

pub fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let repository = context.without_missing_configuration().open()?;
    repository.keyring().require_read()?;
    let snapshots = context.readable_snapshots(&repository)?;
    let all = newest(&snapshots);
    if all.is_empty() {
        return Err(Error::failed("there is no complete snapshot to recover from").into());
    }
    let any = |wanted: &Option<String>, is: &str| wanted.as_ref().is_none_or(|w| w == is);
    let chosen: Vec<&Snapshot> = all
        .iter()
        .copied()
        .filter(|s| any(&arguments.host, &s.manifest.host))
        .filter(|s| any(&arguments.profile, &s.manifest.profile))
        .collect();
    let [snapshot] = chosen.as_slice() else {
        list(context, &repository, &all)?;
        let message = match chosen.len() {
            0 => "no snapshot of what was named: choose one of these by --host and --profile",
            _ => "several hosts or profiles: choose one by --host and --profile",
        };
        return Err(Error::new(ErrorKind::Usage, message).into());
    };
    let manifest = &snapshot.manifest;
    let text = repository.private_part(snapshot)?.profile.ok_or_else(|| {
        let id = &snapshot.id.to_hex()[..8];
        Error::failed(format!(
            "snapshot {id} was taken without a profile: restore it with `esker restore {id} TARGET`"
        ))
    })?;
    // read as a configuration file is, before it is written as one
    config::parse(Path::new("the snapshot's profile"), text.clone()).sound()?;
    if arguments.output.as_deref() == Some(Path::new("-")) {
        let mut output = Output::new();
        text.lines().try_for_each(|line| output.line(line))?;
        output.finish()?;
        return Ok(Exit::Ok);
    }
    let file = arguments.output.clone().or_else(|| context.config_file()).ok_or_else(|| {
        Error::new(ErrorKind::Usage, "no place for a configuration: name a file with --output")
    })?;
    write(&file, &text)?;
    let profile = &manifest.profile;
    let unknown: Vec<&str> = Profile::unknown_secrets(&text).collect();
    let next = next_command(manifest, &all);
    if context.json() {
        let members = json!({
            "snapshot": snapshot.id.to_hex(),
            "host": manifest.host,
            "profile": profile,
            "time": output::rfc3339(manifest.started),
            "file": file.display().to_string(),
            "not_known": unknown,
            "next": next,
        });
        let mut output = Output::new();
        output.json("recovered", members)?;
        output.finish()?;
    }
    let time = output::minute(manifest.started, &TimeZone::system());
    let host = output::sentence(&manifest.host);
    context.say(&format!(
        "profile {} of {host}, as of {time}, is in {}",
        output::sentence(profile),
        file.display()
    ));
    for secret in &unknown {
        talk(&format!("not known: {}", output::sentence(secret)));
    }
    context.say(match unknown.is_empty() {
        true => "now type",
        false => "bring these secrets where the file says, then type",
    });
    context.say(&format!("  {}", output::sentence(&next)));
    Ok(Exit::Ok)
}

/// What brings everything back; it names the host where several have such a profile.
fn next_command(manifest: &Manifest, all: &[&Snapshot]) -> String {
    let Manifest { host, profile, .. } = manifest;
    let same = all.iter().filter(|snapshot| snapshot.manifest.profile == *profile).count();
    let host = if same > 1 { vec!["--host", host] } else { Vec::new() };
    let words = [&["esker", "restore", "--profile", profile][..], &host, &["latest"]].concat();
    let words = words.into_iter().map(OsString::from).collect();
    Command { words, ..Command::default() }.shown()
}

/// The newest complete snapshot of each host and profile.
fn newest(snapshots: &[Snapshot]) -> Vec<&Snapshot> {
    let sets = Sets::standing(snapshots);
    let mut newest: Vec<&Snapshot> = Vec::new();
    for snapshot in snapshots.iter().rev().filter(|s| sets.completes(s)) {
        let of = |s: &Snapshot| (s.manifest.host.clone(), s.manifest.profile.clone());
        if !newest.iter().any(|known| of(known) == of(snapshot)) {
            newest.push(snapshot);
        }
    }
    newest.sort_by(|a, b| {
        let key = |s: &Snapshot| (s.manifest.host.clone(), s.manifest.profile.clone());
        key(a).cmp(&key(b))
    });
    newest
}

fn list(
    context: &Context,
    repository: &Repository,
    all: &[&Snapshot],
) -> std::result::Result<(), Stop> {
    let zone = TimeZone::system();
    let mut output = Output::new();
    let mut table = Table::new(&["host", "profile", "newest complete", "sources", "profile in it"]);
    for snapshot in all {
        let manifest = &snapshot.manifest;
        let travels = repository.private_part(snapshot)?.profile.is_some();
        if context.json() {
            let members = json!({
                "host": manifest.host,
                "profile": manifest.profile,
                "snapshot": snapshot.id.to_hex(),
                "time": output::rfc3339(manifest.started),
                "sources": manifest.sources.len(),
                "has_profile": travels,
            });
            output.json("candidate", members)?;
            continue;
        }
        table.row([
            output::sentence(&manifest.host).into_owned(),
            output::sentence(&manifest.profile).into_owned(),
            output::minute(manifest.started, &zone),
            manifest.sources.len().to_string(),
            if travels { "yes" } else { "no" }.to_owned(),
        ]);
    }
    if !context.json() {
        output.table(&table)?;
    }
    Ok(output.finish()?)
}

/// Never over a file that is there, whoever makes it meanwhile.
fn write(file: &Path, text: &str) -> Result<()> {
    let failed = |path: &Path, error: io::Error| {
        let path = path.display();
        Error::failed(match error.kind() {
            io::ErrorKind::AlreadyExists => {
                format!("{path}: is there already: name another file with --output")
            }
            _ => format!("{path}: {error}"),
        })
    };
    if let Some(parent) = file.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent).map_err(|error| failed(parent, error))?;
    }
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let mut made = made.map_err(|error| failed(file, error))?;
    let written = made.write_all(text.as_bytes()).and_then(|()| made.sync_all());
    written.map_err(|error| {
        // half a configuration is none
        let _ = std::fs::remove_file(file);
        failed(file, error)
    })
}
