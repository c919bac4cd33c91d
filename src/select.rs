//! Naming snapshots: `latest`, `latest~2`, `latest@TIME`, the beginning of an id
//! or a name, narrowed by host, profile, source and tag. What was typed is
//! parsed elsewhere.

use std::collections::BTreeSet;

use crate::repository::sets::Sets;
use crate::repository::snapshots::Snapshot;
use crate::repository::{Error, ErrorKind, Keyring, Repository, Result};

/// Which snapshot is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The newest complete one, or so many before it.
    Latest { back: usize },
    /// The newest complete one that was started at or before this time, in ms
    /// since 1970.
    LatestAt(u64),
    /// The beginning of an id, or a name.
    Named(String),
}

/// Which snapshots are considered; an empty list lets all pass, of several
/// values in one list any may match, and tags must all be there.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub hosts: Vec<String>,
    pub profiles: Vec<String>,
    /// Absolute paths or names of streams, as they were backed up.
    pub sources: Vec<Vec<u8>>,
    pub tags: Vec<String>,
}

/// A filter that knows the labels of its sources in one repository.
pub struct Matcher<'a> {
    filter: &'a Filter,
    labels: Vec<String>,
}

impl Filter {
    /// Fails when the key cannot tell labels, which a filter by source needs.
    pub fn matcher(&self, keyring: &Keyring) -> Result<Matcher<'_>> {
        let label = |path: &Vec<u8>| keyring.source_label(path);
        let labels = self.sources.iter().map(label).collect::<Result<_>>()?;
        Ok(Matcher { filter: self, labels })
    }
}

impl Matcher<'_> {
    pub fn matches(&self, snapshot: &Snapshot) -> bool {
        let manifest = &snapshot.manifest;
        let any = |wanted: &[String], is: &String| wanted.is_empty() || wanted.contains(is);
        let saves = |label: &String| manifest.sources.iter().any(|source| source.label == *label);
        any(&self.filter.hosts, &manifest.host)
            && any(&self.filter.profiles, &manifest.profile)
            && (self.labels.is_empty() || self.labels.iter().any(saves))
            && self.filter.tags.iter().all(|tag| snapshot.tags.contains(tag))
    }
}

/// The snapshot that is meant among `snapshots`, which are in order of time.
pub fn select<'a>(
    repository: &Repository,
    snapshots: &'a [Snapshot],
    wanted: &Wanted,
    filter: &Filter,
) -> Result<&'a Snapshot> {
    let matcher = filter.matcher(repository.keyring())?;
    let (back, until) = match wanted {
        Wanted::Named(name) => return repository.find_snapshot(snapshots, name),
        Wanted::Latest { back } => (*back, u64::MAX),
        Wanted::LatestAt(time) => (0, *time),
    };
    let sets = Sets::standing(snapshots);
    let complete = |s: &&Snapshot| sets.completes(s) && matcher.matches(s);
    let candidates: Vec<&Snapshot> = snapshots.iter().filter(complete).collect();
    check_unambiguous(&candidates, filter)?;
    let mut newest_first =
        candidates.iter().rev().filter(|snapshot| snapshot.manifest.started <= until);
    newest_first.nth(back).copied().ok_or_else(|| none(&candidates, snapshots.len()))
}

fn none(candidates: &[&Snapshot], all: usize) -> Error {
    let message = match (all, candidates.len()) {
        (0, _) => "there is no snapshot yet".to_owned(),
        (_, 0) => {
            "no complete snapshot matches: `esker snapshots --all` lists what there is".to_owned()
        }
        (_, 1) => "there is but one complete snapshot that matches, and it is not this".to_owned(),
        (_, some) => format!("of {some} complete snapshots that match, none is this far back"),
    };
    Error::failed(message)
}

/// `latest` must not silently be another machine's.
fn check_unambiguous(candidates: &[&Snapshot], filter: &Filter) -> Result<()> {
    let hosts: BTreeSet<&str> = candidates.iter().map(|s| s.manifest.host.as_str()).collect();
    let profiles: BTreeSet<&str> = candidates.iter().map(|s| s.manifest.profile.as_str()).collect();
    let list = |names: &BTreeSet<&str>| names.iter().copied().collect::<Vec<_>>().join(", ");
    let ambiguous = |what: &str, names: &BTreeSet<&str>| {
        let names = list(names);
        Err(Error::new(
            ErrorKind::Usage,
            format!("latest of which {what}? There are {names}: name one with --{what}"),
        ))
    };
    if hosts.len() > 1 && filter.hosts.is_empty() {
        return ambiguous("host", &hosts);
    }
    if profiles.len() > 1 && filter.profiles.is_empty() {
        return ambiguous("profile", &profiles);
    }
    Ok(())
}
