//! Native backups of MySQL NDB clusters (RonDB): every data node writes its part under one number. A set counts only if
//! every node and every `PART-i-OF-n` is there, whatever the command that made it said.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::caller::Caller;
use super::{RestoreStep, Stored, give_bytes};
use crate::backup::Sink;
use crate::config::profile::NdbPreset;
use crate::format::entry::EntryKind;
use crate::repository::{Result, now_ms};
use crate::source::capture::{metadata_of, output};
use crate::source::process::{Program, check_program};
use crate::source::usage;

/// What the source says of the set.
const SET: &str = "set.json";
/// What the command prints, which is only kept for messages.
const MAX_PRINTED: usize = 1 << 20;

pub struct Ndb {
    settings: NdbPreset,
    id: Option<u32>,
}

/// What is stored beside the files.
#[derive(Serialize)]
struct Set {
    id: u32,
    /// How many parts each node's backup has; 1 where it has none.
    parts: BTreeMap<u32, u32>,
}

/// A file of a backup: `BACKUP-7-PART-1-OF-2/BACKUP-7.3.ctl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    node: u32,
    /// Part and number of parts.
    part: (u32, u32),
    kind: FileKind,
}

/// What all nodes have of one backup. Paths are relative to the source.
#[derive(Default)]
struct Found {
    files: BTreeMap<(Name, String), PathBuf>,
    /// That of the backup and those of its parts. Nodes have directories of the same names: that of the first counts,
    /// where they come back to.
    directories: BTreeMap<String, PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum FileKind {
    Control,
    Data,
    Log,
}

const KINDS: [(FileKind, &str); 3] =
    [(FileKind::Control, "ctl"), (FileKind::Data, "Data"), (FileKind::Log, "log")];

impl Ndb {
    pub fn new(settings: NdbPreset, id: Option<u32>) -> Result<Ndb> {
        let nodes: BTreeSet<&u32> = settings.nodes.iter().collect();
        if settings.directories.is_empty() || nodes.is_empty() {
            return Err(usage(
                "a source of NDB needs the directories of the data nodes, and the nodes' ids",
            ));
        }
        if nodes.len() != settings.nodes.len() || nodes.contains(&0) {
            return Err(usage("ndb: a node's id is 0, or named twice"));
        }
        if id == Some(0) {
            return Err(usage("ndb: a backup's number is from 1 to 4294967295"));
        }
        Ok(Ndb { settings, id })
    }

    pub fn check(&self, caller: &Caller) -> Result<()> {
        for directory in &self.settings.directories {
            if !directory.is_dir() {
                return Err(usage(format!("ndb: {}: no such directory", directory.display())));
            }
        }
        match &self.settings.start {
            Some(command) => check_program(&command.words(), &caller.path),
            None => Ok(()),
        }
    }

    pub fn capture(&self, caller: &Caller, sink: &mut dyn Sink) -> std::result::Result<(), String> {
        let there = self.ids()?;
        let Some(id) = caller.told.id() else {
            return Err(too_late(self.number()?));
        };
        if let (None, None) = (&self.settings.start, self.id)
            && let Some(newer) = there.last().filter(|newest| **newest > id)
        {
            return Err(too_late(*newer));
        }
        if let Some(command) = &self.settings.start {
            if there.contains(&id) {
                return Err(format!("backup {id} is there already: choose another number"));
            }
            let words =
                command.words().iter().map(|word| word.replace("{id}", &id.to_string())).collect();
            let program =
                Program { words, environment: caller.environment.clone(), ..Program::default() };
            output(&program, MAX_PRINTED, caller.deadline, &caller.told.log, &|| {
                sink.interrupted()
            })?;
        }
        let found = self.find(id)?;
        let names = found.files.keys().map(|(name, _)| *name).collect();
        let parts = whole(id, &self.settings.nodes, &names)?;
        give(caller, sink, &found)?;
        let set = Set { id, parts };
        let text = serde_json::to_vec_pretty(&set).map_err(|error| error.to_string())?;
        give_bytes(sink, SET.as_bytes(), &text)
    }

    /// The number of the backup that is to be saved. It is chosen before anything is captured, since snapshots and sets
    /// may be named after it: the number that was asked for; a new one for a backup that is started here; else the
    /// highest that is there.
    pub fn number(&self) -> std::result::Result<u32, String> {
        match (self.id, &self.settings.start) {
            (Some(id), _) => Ok(id),
            // that directories cannot be read is for the capture to say
            (None, Some(_)) => {
                new_number(self.ids().unwrap_or_default().last().copied(), now_ms() / 1000)
            }
            (None, None) => {
                let newest = self.ids()?.last().copied();
                newest.ok_or_else(|| "no backup is there".to_owned())
            }
        }
    }

    /// Numbers of all backups that any node has something of.
    fn ids(&self) -> std::result::Result<BTreeSet<u32>, String> {
        let mut ids = BTreeSet::new();
        for directory in &self.settings.directories {
            let above = directory.join("BACKUP");
            let entries = match fs::read_dir(&above) {
                Ok(entries) => entries,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(format!("{}: {error}", above.display())),
            };
            let names = entries.flatten().map(|entry| entry.file_name());
            ids.extend(
                names
                    .filter_map(|name| name.to_str()?.strip_prefix("BACKUP-")?.parse::<u32>().ok()),
            );
        }
        Ok(ids)
    }

    fn find(&self, id: u32) -> std::result::Result<Found, String> {
        let mut found = Found::default();
        let stored = format!("BACKUP-{id}");
        for directory in &self.settings.directories {
            let base = directory.join("BACKUP").join(&stored);
            if !base.is_dir() {
                return Err(format!("{}: it is not there", base.display()));
            }
            for path in list(&base)? {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                if path.is_dir() {
                    let part = part_of(id, name)
                        .ok_or_else(|| format!("{}: no part of backup {id}", path.display()))?;
                    let stored = format!("{stored}/{name}");
                    for file in list(&path)? {
                        add(&mut found.files, id, part, &stored, file)?;
                    }
                    found.directories.entry(stored).or_insert(path);
                } else {
                    add(&mut found.files, id, (1, 1), &stored, path)?;
                }
            }
            found.directories.entry(stored.clone()).or_insert(base);
        }
        Ok(found)
    }

    /// All parts come to lie in the first directory, from where `ndb_restore` takes them.
    pub fn restore_steps(&self, stored: &Stored) -> Result<Vec<RestoreStep>> {
        let bases: BTreeSet<&str> = stored
            .keys()
            .filter_map(|path| {
                std::str::from_utf8(path).ok()?.split_once('/').map(|(base, _)| base)
            })
            .filter(|base| base.starts_with("BACKUP-"))
            .collect();
        let place = |base: &str| RestoreStep::Place {
            from: base.as_bytes().to_vec(),
            to: self.settings.directories[0].join("BACKUP").join(base),
        };
        Ok(bases.into_iter().map(place).collect())
    }
}

/// A number above all that are there: seconds since 1970, so that none comes twice though old backups go.
fn new_number(newest: Option<u32>, seconds: u64) -> std::result::Result<u32, String> {
    let next = newest.unwrap_or(0).checked_add(1);
    let next = next.ok_or("backup 4294967295 is there: no number is left for another")?;
    Ok(next.max(u32::try_from(seconds).unwrap_or(0)))
}

/// What was named after one backup must not hold another.
fn too_late(id: u32) -> String {
    format!(
        "backup {id} appeared after the run had begun: let `start` start it, or a hook of the profile instead of the source"
    )
}

fn give(caller: &Caller, sink: &mut dyn Sink, found: &Found) -> std::result::Result<(), String> {
    for ((_, stored), path) in &found.files {
        if sink.interrupted() {
            return Err("interrupted".into());
        }
        caller.deadline.check("reading the backup")?;
        let wrong = |error: std::io::Error| format!("{}: {error}", path.display());
        let metadata = fs::metadata(path).map_err(wrong)?;
        let mut file = fs::File::open(path).map_err(wrong)?;
        let bytes =
            sink.file(stored.as_bytes(), metadata_of(&metadata), &mut file).map_err(wrong)?;
        let after = fs::metadata(path).map_err(wrong)?;
        if bytes != metadata.len() || after.len() != bytes || after.mtime() != metadata.mtime() {
            return Err(format!(
                "{}: it changed while it was read: the backup goes on",
                path.display()
            ));
        }
    }
    for (stored, path) in &found.directories {
        let wrong = |error: std::io::Error| format!("{}: {error}", path.display());
        let metadata = metadata_of(&fs::metadata(path).map_err(wrong)?);
        sink.entry(stored.as_bytes(), EntryKind::Directory, metadata).map_err(wrong)?;
    }
    Ok(())
}

fn list(directory: &Path) -> std::result::Result<Vec<PathBuf>, String> {
    let wrong = |error: std::io::Error| format!("{}: {error}", directory.display());
    let entries = fs::read_dir(directory).map_err(wrong)?;
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()
        .map_err(wrong)?;
    paths.sort();
    Ok(paths)
}

fn add(
    files: &mut BTreeMap<(Name, String), PathBuf>,
    id: u32,
    part: (u32, u32),
    directory: &str,
    path: PathBuf,
) -> std::result::Result<(), String> {
    let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = name_of(id, part, file)
        .ok_or_else(|| format!("{}: no file of backup {id}", path.display()))?;
    let is_empty =
        fs::metadata(&path).map_err(|error| format!("{}: {error}", path.display()))?.len() == 0;
    if is_empty {
        return Err(format!("{}: it is empty", path.display()));
    }
    match files.insert((name, format!("{directory}/{file}")), path.clone()) {
        None => Ok(()),
        Some(other) => Err(format!(
            "{} and {} are one and the same of a backup",
            other.display(),
            path.display()
        )),
    }
}

/// `BACKUP-7-PART-1-OF-2` is (1, 2).
fn part_of(id: u32, directory: &str) -> Option<(u32, u32)> {
    let rest = directory.strip_prefix(&format!("BACKUP-{id}-PART-"))?;
    let (part, parts) = rest.split_once("-OF-")?;
    let (part, parts) = (number(part)?, number(parts)?);
    (1 <= part && part <= parts).then_some((part, parts))
}

/// `BACKUP-7.3.ctl`, `BACKUP-7-0.3.Data`, `BACKUP-7.3.log`.
fn name_of(id: u32, part: (u32, u32), file: &str) -> Option<Name> {
    let rest = file.strip_prefix(&format!("BACKUP-{id}"))?;
    let (rest, end) = rest.rsplit_once('.')?;
    let (piece, node) = rest.rsplit_once('.')?;
    let kind = KINDS.iter().find(|(_, name)| *name == end)?.0;
    let expected =
        if kind == FileKind::Data { piece.strip_prefix('-').and_then(number) } else { None };
    match kind {
        FileKind::Data if expected.is_none() => None,
        FileKind::Control | FileKind::Log if !piece.is_empty() => None,
        _ => Some(Name { node: number(node)?, part, kind }),
    }
}

fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// How many parts each node has, if all are there with all their files, and nobody else's.
fn whole(
    id: u32,
    nodes: &[u32],
    found: &BTreeSet<Name>,
) -> std::result::Result<BTreeMap<u32, u32>, String> {
    let mut parts = BTreeMap::new();
    for name in found {
        if !nodes.contains(&name.node) {
            return Err(format!(
                "backup {id} has files of node {}, which does not take part",
                name.node
            ));
        }
        let count = *parts.entry(name.node).or_insert(name.part.1);
        if count != name.part.1 {
            return Err(format!(
                "backup {id} of node {} is of {count} parts and of {}",
                name.node, name.part.1
            ));
        }
    }
    for node in nodes {
        let Some(count) = parts.get(node).copied() else {
            return Err(format!("backup {id} of node {node} is missing"));
        };
        for part in 1..=count {
            for (kind, end) in KINDS {
                if !found.contains(&Name { node: *node, part: (part, count), kind }) {
                    let which = if count == 1 {
                        String::new()
                    } else {
                        format!("PART-{part}-OF-{count} of ")
                    };
                    return Err(format!("{which}backup {id} of node {node} has no .{end} file"));
                }
            }
        }
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_read() {
        use FileKind::*;
        for (file, expect) in [
            ("BACKUP-7.3.ctl", Some((3, Control))),
            ("BACKUP-7-0.3.Data", Some((3, Data))),
            ("BACKUP-7.3.log", Some((3, Log))),
            ("BACKUP-7.3.Data", None),
            ("BACKUP-71.3.ctl", None),
            ("BACKUP-7-0.3.ctl", None),
            ("BACKUP-7.x.log", None),
            ("BACKUP-7.+3.log", None),
            ("other", None),
        ] {
            let name = name_of(7, (1, 1), file).map(|name| (name.node, name.kind));
            assert_eq!(name, expect, "{file}");
        }
        assert_eq!(part_of(7, "BACKUP-7-PART-1-OF-2"), Some((1, 2)));
        for wrong in
            ["BACKUP-7-PART-3-OF-2", "BACKUP-7-PART-0-OF-2", "BACKUP-8-PART-1-OF-2", "BACKUP-7"]
        {
            assert_eq!(part_of(7, wrong), None);
        }
    }

    #[test]
    fn a_new_number_is_above_all_others() {
        let seconds = 1_790_000_000;
        assert_eq!(new_number(None, seconds), Ok(1_790_000_000));
        assert_eq!(new_number(Some(41), seconds), Ok(1_790_000_000));
        // also when the clock was set back, or is past what 32 bits hold
        assert_eq!(new_number(Some(1_790_000_000), seconds), Ok(1_790_000_001));
        assert_eq!(new_number(Some(7), 1 << 32), Ok(8));
        assert!(new_number(Some(u32::MAX), seconds).is_err());
    }
}
