//! Trees: every page can be read and says what its parent says of it, every
//! chunk of every file is in a pack that is there with the length it should
//! have, files are as long as their items, and reference sets name all of it.
//!
//! Each page is looked at once, however many snapshots share it, and several are
//! on their way at once.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;

use super::packs::Packs;
use super::report::{Findings, Grade};
use super::{ends_check, grade, stop_if_interrupted};
use crate::format::content::{Content, Item, Root};
use crate::format::entry::{Entry, display_key};
use crate::format::manifest::manifest_key;
use crate::format::page::{Page, PageKind, TreeChild};
use crate::id::ChunkId;
use crate::progress::{Event, Progress};
use crate::repository::coordinates::ReferenceSet;
use crate::repository::snapshots::Snapshot;
use crate::repository::{Repository, Result};

/// Pages read at once: most of the time is spent waiting for the store.
const THREADS: usize = 8;
/// Deeper than this pages are walked one after the other.
const MIN_PARALLEL_LEVEL: u8 = 1;

/// What a page that was looked at adds up to.
#[derive(Clone, Copy)]
struct Seen {
    well: bool,
    /// Entries and bytes; unknown if something below cannot be read.
    totals: Option<(u64, u64)>,
}

/// A hard-linked file as it was met first: a hash of kind, size and content.
type LinkGroups = HashMap<u64, [u8; 32]>;

pub(super) struct TreeCheck<'a> {
    repository: &'a Repository,
    packs: &'a Packs<'a>,
    findings: &'a Findings,
    progress: &'a dyn Progress,
    /// Whether to compare what is reached with reference sets; a page that several
    /// snapshots share is compared with the set of one of them.
    compare: bool,
    pool: rayon::ThreadPool,
    seen: Mutex<HashMap<ChunkId, Seen>>,
}

/// One snapshot's tree being walked.
struct Walk<'a> {
    check: &'a TreeCheck<'a>,
    grade: Grade,
    key: String,
    /// What its reference set names; none if that cannot be read.
    references: Option<ReferenceSet>,
    /// A chunk that the reference set does not name, and how many there are.
    unnamed: Mutex<(u64, Option<Vec<u8>>)>,
    links: Mutex<LinkGroups>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> TreeCheck<'a> {
    pub fn new(
        repository: &'a Repository,
        packs: &'a Packs<'a>,
        findings: &'a Findings,
        progress: &'a dyn Progress,
        compare: bool,
    ) -> Result<Self> {
        let pool = super::pool(THREADS)?;
        let seen = Mutex::default();
        Ok(TreeCheck { repository, packs, findings, progress, compare, pool, seen })
    }

    pub fn check(&mut self, snapshot: &Snapshot) -> Result<()> {
        let (grade, key) = (grade(snapshot), manifest_key(snapshot.id));
        let tree = match self.repository.private_part(snapshot) {
            Ok(private) => private.tree,
            Err(error) if ends_check(&error) => return Err(error),
            Err(error) => {
                self.findings.error(grade, &key, &error);
                return Ok(());
            }
        };
        let known = lock(&self.seen).get(&tree.id).copied();
        let seen = match known {
            Some(seen) => seen,
            None => self.walk(snapshot, tree, grade, &key)?,
        };
        if !seen.well {
            self.findings.add(grade, &key, "not all of it can be restored", None);
        }
        let size = snapshot.manifest.counts.bytes;
        if seen.totals.is_some_and(|(_, bytes)| bytes != size) {
            self.findings.note(&key, "counts other bytes than its tree holds", None);
        }
        Ok(())
    }

    /// What a snapshot's reference set names; nothing if it cannot be read.
    fn references(&self, snapshot: &Snapshot) -> Result<Option<ReferenceSet>> {
        let mut references = ReferenceSet::default();
        let read = self.repository.references(snapshot.manifest.references, &mut |reference| {
            references.add_reference(reference);
            Ok(())
        });
        match read {
            Ok(()) => Ok(Some(references)),
            Err(error) if ends_check(&error) => Err(error),
            // told of by who checks references
            Err(_) => Ok(None),
        }
    }

    fn walk(&self, snapshot: &Snapshot, tree: Root, grade: Grade, key: &str) -> Result<Seen> {
        let references = if self.compare { self.references(snapshot)? } else { None };
        let walk = Walk {
            check: self,
            grade,
            key: key.to_owned(),
            references,
            unnamed: Mutex::default(),
            links: Mutex::default(),
        };
        let seen = self.pool.install(|| walk.page(tree, None, None))?;
        let (count, example) = lock(&walk.unnamed).clone();
        if let Some(example) = example {
            let example = String::from_utf8_lossy(&display_key(&example)).into_owned();
            let what = format!(
                "its reference set does not name {count} chunks that it uses, the first for \
                 {example:?}: a prune could take them"
            );
            self.findings.add(grade, key, &what, Some("REF-3"));
        }
        Ok(seen)
    }
}

impl Walk<'_> {
    fn page(&self, root: Root, expected: Option<&TreeChild>, end: Option<&[u8]>) -> Result<Seen> {
        let check = self.check;
        {
            let mut seen = lock(&check.seen);
            if let Some(seen) = seen.get(&root.id) {
                return Ok(*seen);
            }
            // another thread that comes here meanwhile need not look as well
            seen.insert(root.id, Seen { well: true, totals: None });
        }
        stop_if_interrupted(check.progress)?;
        check.findings.count(|counts| counts.pages += 1);
        let path = expected.map_or(&[][..], |child| child.first.as_slice());
        self.name_chunk(&root.id, path)?;
        let page = match check.repository.read_page(PageKind::Tree, &root.id, root.level) {
            Ok(page) => page,
            Err(error) if ends_check(&error) => return Err(error),
            Err(error) => {
                check.packs.blame(&root.id)?;
                let path = String::from_utf8_lossy(&display_key(path)).into_owned();
                let what = format!("names from {path:?} on are lost: {error}");
                check.findings.add(self.grade, &self.key, &what, None);
                return Ok(self.settle(root, Seen { well: false, totals: None }));
            }
        };
        let mut seen = match &page {
            Page::Entries(entries) => self.entries(entries)?,
            Page::TreeChildren(children) => self.children(root, children, end)?,
            _ => Seen { well: false, totals: None },
        };
        seen.well &= self.fits(&page, expected, end, seen);
        Ok(self.settle(root, seen))
    }

    fn settle(&self, root: Root, seen: Seen) -> Seen {
        lock(&self.check.seen).insert(root.id, seen);
        seen
    }

    fn children(&self, root: Root, children: &[TreeChild], end: Option<&[u8]>) -> Result<Seen> {
        let level = root.level.saturating_sub(1);
        let look = |at: usize, child: &TreeChild| {
            let next = children.get(at + 1).map(|next| next.first.as_slice()).or(end);
            self.page(Root { id: child.id, level }, Some(child), next)
        };
        let seen: Vec<Seen> = if root.level >= MIN_PARALLEL_LEVEL {
            children.par_iter().enumerate().map(|(at, c)| look(at, c)).collect::<Result<_>>()?
        } else {
            children.iter().enumerate().map(|(at, c)| look(at, c)).collect::<Result<_>>()?
        };
        let add = |sum: Option<(u64, u64)>, seen: &Seen| {
            let ((entries, bytes), (more, longer)) = (sum?, seen.totals?);
            Some((entries.saturating_add(more), bytes.saturating_add(longer)))
        };
        Ok(Seen {
            well: seen.iter().all(|seen| seen.well),
            totals: seen.iter().fold(Some((0, 0)), add),
        })
    }

    /// Whether a page is what its parent says of it.
    fn fits(
        &self,
        page: &Page,
        expected: Option<&TreeChild>,
        end: Option<&[u8]>,
        seen: Seen,
    ) -> bool {
        let (first, last) = match page {
            Page::Entries(entries) => {
                (entries.first().map(|e| &e.key), entries.last().map(|e| &e.key))
            }
            Page::TreeChildren(children) => {
                (children.first().map(|c| &c.first), children.last().map(|c| &c.first))
            }
            _ => return false,
        };
        let Some(child) = expected else { return true };
        let in_place = first == Some(&child.first)
            && last.is_none_or(|last| end.is_none_or(|end| last.as_slice() < end));
        let adds_up = seen.totals.is_none_or(|totals| totals == (child.entries, child.bytes));
        if !in_place || !adds_up {
            let path = String::from_utf8_lossy(&display_key(&child.first)).into_owned();
            let what = format!("the tree says of {path:?} what the page there does not hold");
            self.check.findings.add(self.grade, &self.key, &what, None);
        }
        in_place && adds_up
    }

    fn entries(&self, entries: &[Entry]) -> Result<Seen> {
        let (mut well, mut bytes) = (true, 0u64);
        for entry in entries {
            bytes = bytes.saturating_add(entry.metadata.size);
            if let Some(trouble) = self.entry(entry)? {
                well = false;
                let path = String::from_utf8_lossy(&display_key(&entry.key)).into_owned();
                let what = format!("{path:?}: {trouble}");
                self.check.findings.add(self.grade, &self.key, &what, None);
            }
        }
        let count = entries.len() as u64;
        self.check.findings.count(|counts| counts.entries += count);
        self.check.progress.event(Event::Done { files: count, bytes });
        Ok(Seen { well, totals: Some((count, bytes)) })
    }

    /// What is wrong with an entry, if anything is.
    fn entry(&self, entry: &Entry) -> Result<Option<String>> {
        let mut trouble = match self.content(&entry.key, &entry.content)? {
            Ok(length) if length != entry.metadata.size => {
                let size = entry.metadata.size;
                Some(format!("its content is {length} bytes long, not {size}"))
            }
            Ok(_) => None,
            Err(trouble) => Some(trouble),
        };
        for (_, value) in &entry.long_xattrs {
            if let Err(lost) = self.content(&entry.key, value)? {
                trouble.get_or_insert(format!("an extended attribute: {lost}"));
            }
        }
        if entry.link_group != 0 && !self.is_like_its_links(entry) {
            let path = String::from_utf8_lossy(&display_key(&entry.key)).into_owned();
            let what = format!("{path:?} differs from the file it is a hard link to");
            self.check.findings.note(&self.key, &what, None);
        }
        Ok(trouble)
    }

    fn is_like_its_links(&self, entry: &Entry) -> bool {
        let mut bytes = vec![entry.kind as u8];
        bytes.extend_from_slice(&entry.metadata.size.to_le_bytes());
        entry.content.encode_into(&mut bytes);
        let facts = *blake3::hash(&bytes).as_bytes();
        *lock(&self.links).entry(entry.link_group).or_insert(facts) == facts
    }

    /// How long a content is, or what is wrong with it.
    fn content(&self, path: &[u8], content: &Content) -> Result<std::result::Result<u64, String>> {
        match content {
            Content::Empty => Ok(Ok(0)),
            Content::Inline(bytes) => Ok(Ok(bytes.len() as u64)),
            Content::Items(items) => self.items(path, items),
            Content::List(root) => self.list(path, *root),
        }
    }

    fn items(&self, path: &[u8], items: &[Item]) -> Result<std::result::Result<u64, String>> {
        let mut total = 0u64;
        for item in items {
            if let Item::Chunk { id, length } = item
                && let Some(trouble) = self.chunk(path, id, *length)?
            {
                return Ok(Err(trouble));
            }
            total = total.saturating_add(item.length());
        }
        Ok(Ok(total))
    }

    fn chunk(&self, path: &[u8], id: &ChunkId, length: u32) -> Result<Option<String>> {
        let (places, stands) = self.check.packs.places(id)?;
        if !stands {
            return Ok(Some(format!("chunk {id} is in no pack that is there")));
        }
        for place in &places {
            let toc = self.check.repository.index().toc(place.pack)?;
            let chunk = toc.toc.chunks.get(usize::from(place.ordinal));
            if chunk.is_some_and(|chunk| chunk.length != length) {
                return Ok(Some(format!("chunk {id} is not {length} bytes long")));
            }
        }
        self.name_places(&places, path)?;
        Ok(None)
    }

    fn name_chunk(&self, id: &ChunkId, path: &[u8]) -> Result<()> {
        let (places, _) = self.check.packs.places(id)?;
        self.name_places(&places, path)
    }

    /// Notes a chunk that no coordinate of the reference set leads to.
    fn name_places(&self, places: &[crate::repository::index::Place], path: &[u8]) -> Result<()> {
        let Some(references) = &self.references else { return Ok(()) };
        for place in places {
            let toc = self.check.repository.index().toc(place.pack)?;
            if references.contains(&toc.coordinate(place.ordinal)) {
                return Ok(());
            }
        }
        // one that is in no pack at all is told of as that
        if !places.is_empty() {
            let mut unnamed = lock(&self.unnamed);
            unnamed.0 += 1;
            unnamed.1.get_or_insert_with(|| path.to_vec());
        }
        Ok(())
    }

    fn list(&self, path: &[u8], root: Root) -> Result<std::result::Result<u64, String>> {
        let check = self.check;
        let known = lock(&check.seen).get(&root.id).copied();
        if let Some(Seen { well, totals }) = known {
            return Ok(match (well, totals) {
                (true, Some((_, bytes))) => Ok(bytes),
                _ => Err("something in its list of chunks is lost".to_owned()),
            });
        }
        check.findings.count(|counts| counts.pages += 1);
        self.name_chunk(&root.id, path)?;
        let result = match check.repository.read_page(PageKind::List, &root.id, root.level) {
            Err(error) if ends_check(&error) => return Err(error),
            Err(error) => {
                check.packs.blame(&root.id)?;
                Err(error.message)
            }
            Ok(Page::Items(items)) => self.items(path, &items)?,
            Ok(Page::ListChildren(children)) => {
                let level = root.level.saturating_sub(1);
                let mut total = Ok(0u64);
                for child in children {
                    let below = self.list(path, Root { id: child.id, level })?;
                    total = match (total, below) {
                        (Ok(total), Ok(bytes)) if bytes == child.bytes => {
                            Ok(total.saturating_add(bytes))
                        }
                        (Ok(_), Ok(_)) => Err("a page of its list does not add up".to_owned()),
                        (Err(trouble), _) | (_, Err(trouble)) => Err(trouble),
                    };
                }
                total
            }
            Ok(_) => Err("a page of its list is of another kind".to_owned()),
        };
        let seen =
            Seen { well: result.is_ok(), totals: result.as_ref().ok().map(|bytes| (1, *bytes)) };
        lock(&check.seen).insert(root.id, seen);
        Ok(result)
    }
}
