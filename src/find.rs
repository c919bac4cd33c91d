//! Finds paths across snapshots and tells when each version of them appeared
//! and vanished. A page that several snapshots share is searched once.
//!
//! Memory follows what matches, not what is searched: a few dozen bytes a page
//! and every version of every path found.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::format::content::{Content, Root};
use crate::format::entry::{Entry, EntryKind, Timestamp, display_key};
use crate::format::page::{Page, PageKind};
use crate::id::{ChunkId, SnapshotId};
use crate::progress::{Event, Progress};
use crate::repository::snapshots::Snapshot;
use crate::repository::{Error, ErrorKind, Repository, Result};

/// What to look for besides patterns.
#[derive(Clone, Debug, Default)]
pub struct FindOptions {
    pub ignore_case: bool,
    /// Only entries of this kind.
    pub kind: Option<EntryKind>,
    /// Only entries modified at this time or later.
    pub newer: Option<Timestamp>,
    /// Only entries modified before this time.
    pub older: Option<Timestamp>,
}

/// What of an entry makes it another version when it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub kind: EntryKind,
    /// Bytes.
    pub size: u64,
    pub mtime: Timestamp,
    /// Same value, same content (a file's bytes, a link's target, a device's number).
    pub content: [u8; 16],
}

/// One version of a path, in snapshots of one host and profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub facts: Facts,
    /// The oldest and the newest snapshot it is in, without a gap between them.
    pub first: SnapshotId,
    pub last: SnapshotId,
    /// How many snapshots it is in.
    pub snapshots: u64,
    /// The first snapshot in which it was gone, or another version.
    pub vanished: Option<SnapshotId>,
}

/// A path that matched, with its versions in time order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub host: String,
    pub profile: String,
    pub key: Vec<u8>,
    pub versions: Vec<Version>,
}

#[derive(Clone, Debug, Default)]
pub struct FindReport {
    pub snapshots: u64,
    pub paths: u64,
    /// Snapshots that could not be searched through; they are left out.
    pub troubles: Vec<Error>,
}

/// Visits the paths that match any pattern, by host and profile, then by path.
///
/// A pattern is a glob. Without `/` it is matched against the last component;
/// with one against the whole path, from the root if it begins with `/`, from
/// any directory otherwise; then `*` does not match `/` and `**` does.
pub fn find(
    repository: &Repository,
    snapshots: &[&Snapshot],
    patterns: &[String],
    options: &FindOptions,
    progress: &dyn Progress,
    visit: &mut dyn FnMut(&Found),
) -> Result<FindReport> {
    repository.keyring().require_read()?;
    let matcher = Matcher::new(patterns, options)?;
    let mut search = Search { repository, matcher, pages: HashMap::new() };
    let mut lines: BTreeMap<(&str, &str), Vec<&Snapshot>> = BTreeMap::new();
    for snapshot in snapshots {
        let manifest = &snapshot.manifest;
        lines.entry((&manifest.host, &manifest.profile)).or_default().push(snapshot);
    }
    let mut report = FindReport::default();
    progress.event(Event::Stage("searching"));
    progress.event(Event::Expect { files: snapshots.len() as u64, bytes: 0 });
    for ((host, profile), mut line) in lines {
        line.sort_by_key(|snapshot| (snapshot.manifest.started, snapshot.id));
        let mut history = History::default();
        for snapshot in line {
            if progress.interrupted() {
                return Err(Error::interrupted());
            }
            match search.snapshot(snapshot) {
                Ok(matches) => {
                    history.add(snapshot.id, &matches);
                    report.snapshots += 1;
                }
                Err(error) if error.kind == ErrorKind::Damage => {
                    let message = format!("snapshot {}: {error}", snapshot.id);
                    progress.event(Event::Warning(&message));
                    report.troubles.push(Error::new(error.kind, message));
                }
                Err(error) => return Err(error),
            }
            progress.event(Event::Done { files: 1, bytes: 0 });
        }
        for (key, versions) in history.paths {
            report.paths += 1;
            let (host, profile) = (host.to_owned(), profile.to_owned());
            visit(&Found { host, profile, key, versions });
        }
    }
    Ok(report)
}

struct Matcher {
    names: GlobSet,
    paths: GlobSet,
    options: FindOptions,
}

impl Matcher {
    fn new(patterns: &[String], options: &FindOptions) -> Result<Matcher> {
        let (mut names, mut paths) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        for pattern in patterns {
            let wrong = |why: &str| {
                Error::new(ErrorKind::Usage, format!("pattern {pattern:?} is not valid: {why}"))
            };
            if pattern.is_empty() {
                return Err(wrong("it is empty"));
            }
            let whole = pattern.contains('/');
            let text = match whole && !pattern.starts_with('/') {
                true => format!("**/{pattern}"),
                false => pattern.clone(),
            };
            let glob = GlobBuilder::new(&text)
                .case_insensitive(options.ignore_case)
                .literal_separator(true)
                .backslash_escape(true)
                .build()
                .map_err(|error| wrong(&error.kind().to_string()))?;
            if whole {
                paths.add(glob)
            } else {
                names.add(glob)
            };
        }
        let build = |set: GlobSetBuilder| {
            set.build().map_err(|error| Error::new(ErrorKind::Usage, error.to_string()))
        };
        Ok(Matcher { names: build(names)?, paths: build(paths)?, options: options.clone() })
    }

    fn matches(&self, entry: &Entry) -> bool {
        let FindOptions { kind, newer, older, .. } = self.options;
        let mtime = entry.metadata.mtime;
        if kind.is_some_and(|kind| kind != entry.kind)
            || newer.is_some_and(|newer| mtime < newer)
            || older.is_some_and(|older| mtime >= older)
        {
            return false;
        }
        let path = |bytes: &[u8]| Path::new(OsStr::from_bytes(bytes)).to_owned();
        self.names.is_match(path(entry.name()))
            || (!self.paths.is_empty() && self.paths.is_match(path(&display_key(&entry.key))))
    }
}

struct Match {
    key: Vec<u8>,
    facts: Facts,
}

fn facts(entry: &Entry) -> Facts {
    let mut bytes = Vec::new();
    entry.content.encode_into(&mut bytes);
    if entry.content == Content::Empty {
        let (major, minor) = entry.metadata.device.unwrap_or_default();
        bytes.extend_from_slice(&major.to_le_bytes());
        bytes.extend_from_slice(&minor.to_le_bytes());
        bytes.extend_from_slice(&entry.metadata.target);
    }
    let mut content = [0; 16];
    content.copy_from_slice(&blake3::hash(&bytes).as_bytes()[..16]);
    let metadata = &entry.metadata;
    Facts { kind: entry.kind, size: metadata.size, mtime: metadata.mtime, content }
}

/// What a page that was searched before holds.
#[derive(Clone)]
enum Searched {
    Nothing,
    Leaf(Arc<[Match]>),
    /// The children that hold something.
    Inner(Arc<[Root]>),
}

struct Search<'a> {
    repository: &'a Repository,
    matcher: Matcher,
    pages: HashMap<ChunkId, Searched>,
}

impl Search<'_> {
    fn snapshot(&mut self, snapshot: &Snapshot) -> Result<Vec<Arc<[Match]>>> {
        let root = self.repository.private_part(snapshot)?.tree;
        let mut matches = Vec::new();
        self.page(root, &mut matches)?;
        Ok(matches)
    }

    fn page(&mut self, root: Root, matches: &mut Vec<Arc<[Match]>>) -> Result<bool> {
        match self.pages.get(&root.id).cloned() {
            Some(Searched::Nothing) => return Ok(false),
            Some(Searched::Leaf(leaf)) => matches.push(leaf),
            Some(Searched::Inner(children)) => {
                for child in children.iter() {
                    self.page(*child, matches)?;
                }
            }
            None => return self.new_page(root, matches),
        }
        Ok(true)
    }

    fn new_page(&mut self, root: Root, matches: &mut Vec<Arc<[Match]>>) -> Result<bool> {
        let searched = match self.repository.read_page(PageKind::Tree, &root.id, root.level)? {
            Page::Entries(entries) => {
                let leaf: Arc<[Match]> = entries
                    .into_iter()
                    .filter(|entry| self.matcher.matches(entry))
                    .map(|entry| Match { facts: facts(&entry), key: entry.key })
                    .collect();
                match leaf.is_empty() {
                    true => Searched::Nothing,
                    false => {
                        matches.push(leaf.clone());
                        Searched::Leaf(leaf)
                    }
                }
            }
            Page::TreeChildren(children) => {
                let mut holding = Vec::new();
                for child in children {
                    let child = Root { id: child.id, level: root.level.saturating_sub(1) };
                    if self.page(child, matches)? {
                        holding.push(child);
                    }
                }
                match holding.is_empty() {
                    true => Searched::Nothing,
                    false => Searched::Inner(holding.into()),
                }
            }
            _ => return Err(Error::damage(format!("page {} is of another kind", root.id))),
        };
        let holds = !matches!(searched, Searched::Nothing);
        self.pages.insert(root.id, searched);
        Ok(holds)
    }
}

/// Versions of paths, as snapshots come in time order.
#[derive(Default)]
struct History {
    paths: BTreeMap<Vec<u8>, Vec<Version>>,
    /// Paths that the last snapshot held.
    standing: Vec<Vec<u8>>,
}

impl History {
    fn add(&mut self, snapshot: SnapshotId, matches: &[Arc<[Match]>]) {
        let mut standing = Vec::new();
        for Match { key, facts } in matches.iter().flat_map(|leaf| leaf.iter()) {
            let versions = self.paths.entry(key.clone()).or_default();
            standing.push(key.clone());
            match versions.last_mut() {
                Some(last) if last.vanished.is_none() && last.facts == *facts => {
                    last.last = snapshot;
                    last.snapshots += 1;
                    continue;
                }
                Some(last) if last.vanished.is_none() => last.vanished = Some(snapshot),
                _ => {}
            }
            versions.push(Version {
                facts: facts.clone(),
                first: snapshot,
                last: snapshot,
                snapshots: 1,
                vanished: None,
            });
        }
        for key in std::mem::replace(&mut self.standing, standing) {
            let last = self.paths.get_mut(&key).and_then(|versions| versions.last_mut());
            if let Some(last) = last.filter(|last| last.last != snapshot) {
                last.vanished.get_or_insert(snapshot);
            }
        }
    }
}
