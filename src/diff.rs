//! What differs between two trees: both are walked side by side in path order,
//! and wherever both stand before the same page it is passed over unread. The
//! cost follows the difference, not the size.

use std::cmp::Ordering;
use std::collections::VecDeque;

use crate::format::content::Root;
use crate::format::entry::{Entry, EntryKind};
use crate::format::page::{Page, PageKind};
use crate::repository::snapshots::Snapshot;
use crate::repository::{Error, Repository, Result};

/// One side of a comparison: a snapshot, or what lies at one key of its tree.
#[derive(Clone, Copy)]
pub struct Side<'a> {
    pub snapshot: &'a Snapshot,
    /// Key of the directory or file to compare; the whole tree without it.
    pub key: Option<&'a [u8]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    Added,
    Removed,
    /// In both, and not the same. At least one is true.
    Changed {
        /// The bytes of a file, the target of a link, the number of a device.
        content: bool,
        /// Mode, owner, modification time, extended attributes.
        metadata: bool,
        /// A file became a directory, and the like; then neither of the others.
        kind: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The entry's key; when two different keys are compared, on side `a`'s.
    pub key: Vec<u8>,
    pub change: ChangeKind,
    pub before: Option<EntryKind>,
    pub after: Option<EntryKind>,
    /// Sizes in bytes.
    pub bytes_before: Option<u64>,
    pub bytes_after: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub added: u64,
    pub removed: u64,
    pub changed: u64,
    /// Sizes of files that are new, or were changed in their content.
    pub bytes_added: u64,
    /// Sizes of files that are gone, or what changed files were before.
    pub bytes_removed: u64,
}

/// Visits what differs, in path order. Times of change and inode numbers are no
/// difference: a restored copy would differ in all of them.
pub fn diff(
    repository: &Repository,
    a: Side<'_>,
    b: Side<'_>,
    visit: &mut dyn FnMut(Change),
) -> Result<Totals> {
    let mut before = Cursor::new(repository, a)?;
    let mut after = Cursor::new(repository, b)?;
    let same_keys = a.key == b.key;
    let mut totals = Totals::default();
    loop {
        if same_keys && before.skip_common(&mut after) {
            continue;
        }
        let order = match (before.head(), after.head()) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(one), Some(other)) => {
                // pages are opened only where both sides have come to them
                match which_to_open(one, other) {
                    Open::Before => before.open()?,
                    Open::After => after.open()?,
                    Open::Both => {
                        before.open()?;
                        after.open()?;
                    }
                    Open::None => {
                        let order = one.key().cmp(other.key());
                        step(&mut before, &mut after, order, &mut totals, visit);
                    }
                }
                continue;
            }
        };
        let rest = if order == Ordering::Less { &mut before } else { &mut after };
        if rest.head_is_page() {
            rest.open()?;
            continue;
        }
        step(&mut before, &mut after, order, &mut totals, visit);
    }
    Ok(totals)
}

fn step(
    before: &mut Cursor<'_>,
    after: &mut Cursor<'_>,
    order: Ordering,
    totals: &mut Totals,
    visit: &mut dyn FnMut(Change),
) {
    let old = if order == Ordering::Greater { None } else { before.take_entry() };
    let new = if order == Ordering::Less { None } else { after.take_entry() };
    if let Some(change) = compare(before.prefix, after.prefix, old.as_ref(), new.as_ref()) {
        totals.count(&change);
        visit(change);
    }
}

impl Totals {
    fn count(&mut self, change: &Change) {
        let (before, after) =
            (change.bytes_before.unwrap_or_default(), change.bytes_after.unwrap_or_default());
        match change.change {
            ChangeKind::Added => self.added += 1,
            ChangeKind::Removed => self.removed += 1,
            ChangeKind::Changed { .. } => self.changed += 1,
        }
        let only_metadata =
            matches!(change.change, ChangeKind::Changed { content: false, kind: false, .. });
        if !only_metadata {
            self.bytes_added = self.bytes_added.saturating_add(after);
            self.bytes_removed = self.bytes_removed.saturating_add(before);
        }
    }
}

fn compare(
    prefix_a: &[u8],
    prefix_b: &[u8],
    old: Option<&Entry>,
    new: Option<&Entry>,
) -> Option<Change> {
    let change = match (old, new) {
        (None, None) => return None,
        (Some(_), None) => ChangeKind::Removed,
        (None, Some(_)) => ChangeKind::Added,
        (Some(old), Some(new)) => changed(old, new)?,
    };
    let key = match (old, new) {
        (Some(old), _) => old.key.clone(),
        (None, Some(new)) if prefix_a == prefix_b => new.key.clone(),
        (None, new) => {
            let key = new.map(|entry| entry.key.as_slice()).unwrap_or_default();
            [prefix_a, key.get(prefix_b.len()..).unwrap_or_default()].concat()
        }
    };
    Some(Change {
        key,
        change,
        before: old.map(|entry| entry.kind),
        after: new.map(|entry| entry.kind),
        bytes_before: old.map(|entry| entry.metadata.size),
        bytes_after: new.map(|entry| entry.metadata.size),
    })
}

fn changed(old: &Entry, new: &Entry) -> Option<ChangeKind> {
    if old.kind != new.kind {
        return Some(ChangeKind::Changed { content: false, metadata: false, kind: true });
    }
    let (m, n) = (&old.metadata, &new.metadata);
    let content = m.size != n.size
        || old.content != new.content
        || m.target != n.target
        || m.device != n.device;
    let metadata = (m.mode, m.uid, m.gid, m.mtime) != (n.mode, n.uid, n.gid, n.mtime)
        || (&m.user, &m.group, &m.xattrs) != (&n.user, &n.group, &n.xattrs)
        || old.long_xattrs != new.long_xattrs;
    (content || metadata).then_some(ChangeKind::Changed { content, metadata, kind: false })
}

enum Open {
    Before,
    After,
    Both,
    None,
}

/// Which side's page must be opened before anything can be said. A page is
/// opened only once nothing smaller is left on the other side, so that two
/// sides that differ by a few pages meet again at the next common one.
fn which_to_open(one: &Head, other: &Head) -> Open {
    use Head::{Entry, Page};
    match (one, other) {
        (Entry { .. }, Entry { .. }) => Open::None,
        (Entry { .. }, Page { first, .. }) if one.key() < first.as_slice() => Open::None,
        (Entry { .. }, Page { .. }) => Open::After,
        (Page { first, .. }, Entry { .. }) if other.key() < first.as_slice() => Open::None,
        (Page { .. }, Entry { .. }) => Open::Before,
        (Page { first: a, root: p, .. }, Page { first: b, root: q, .. }) => {
            match a.cmp(b).then(q.level.cmp(&p.level)) {
                Ordering::Less => Open::Before,
                Ordering::Greater => Open::After,
                Ordering::Equal => Open::Both,
            }
        }
    }
}

/// What one side comes to next.
enum Head {
    Page {
        /// No key in the page is below this.
        first: Vec<u8>,
        root: Root,
    },
    Entry {
        entry: Box<crate::format::entry::Entry>,
        /// Where the key without the prefix begins.
        start: usize,
    },
}

impl Head {
    /// The key relative to what is compared.
    fn key(&self) -> &[u8] {
        match self {
            Head::Page { first, .. } => first,
            Head::Entry { entry, start } => entry.key.get(*start..).unwrap_or_default(),
        }
    }
}

/// A place in one tree, before a page or an entry.
struct Cursor<'a> {
    repository: &'a Repository,
    prefix: &'a [u8],
    /// What is still to come, the next first.
    ahead: VecDeque<Head>,
}

impl<'a> Cursor<'a> {
    fn new(repository: &'a Repository, side: Side<'a>) -> Result<Self> {
        let root = repository.private_part(side.snapshot)?.tree;
        if let Some(key) = side.key {
            let first = repository.tree(root, key).next().transpose()?;
            if first.is_none_or(|entry| !is_at_or_below(&entry.key, key)) {
                return Err(Error::no_such_path(side.snapshot.id, key));
            }
        }
        let ahead = VecDeque::from([Head::Page { first: Vec::new(), root }]);
        Ok(Cursor { repository, prefix: side.key.unwrap_or_default(), ahead })
    }

    fn head(&self) -> Option<&Head> {
        self.ahead.front()
    }

    fn head_is_page(&self) -> bool {
        matches!(self.head(), Some(Head::Page { .. }))
    }

    /// Passes over the page before which both stand, if it is the same.
    fn skip_common(&mut self, other: &mut Cursor<'_>) -> bool {
        let (Some(Head::Page { root: one, .. }), Some(Head::Page { root: two, .. })) =
            (self.head(), other.head())
        else {
            return false;
        };
        if one != two {
            return false;
        }
        self.ahead.pop_front();
        other.ahead.pop_front();
        true
    }

    fn take_entry(&mut self) -> Option<Entry> {
        match self.ahead.pop_front() {
            Some(Head::Entry { entry, .. }) => Some(*entry),
            _ => None,
        }
    }

    /// Replaces the page ahead by what is in it and wanted.
    fn open(&mut self) -> Result<()> {
        let Some(Head::Page { root, .. }) = self.ahead.pop_front() else { return Ok(()) };
        match self.repository.read_page(PageKind::Tree, &root.id, root.level)? {
            Page::Entries(entries) => {
                let start = self.prefix.len();
                for entry in entries.into_iter().rev() {
                    if is_at_or_below(&entry.key, self.prefix) {
                        let entry = Box::new(entry);
                        self.ahead.push_front(Head::Entry { entry, start });
                    }
                }
            }
            Page::TreeChildren(children) => {
                // the subtree of a key ends before the key with 01 behind it
                let end = [self.prefix, &[1]].concat();
                let mut next: Option<Vec<u8>> = None;
                for child in children.into_iter().rev() {
                    let before = next.as_deref().is_some_and(|next| next <= self.prefix);
                    let after = !self.prefix.is_empty() && child.first >= end;
                    next = Some(child.first.clone());
                    if before || after {
                        continue;
                    }
                    let first = child.first.get(self.prefix.len()..).unwrap_or_default();
                    let first = if is_at_or_below(&child.first, self.prefix) { first } else { &[] };
                    let root = Root { id: child.id, level: root.level.saturating_sub(1) };
                    self.ahead.push_front(Head::Page { first: first.to_vec(), root });
                }
            }
            _ => return Err(Error::damage(format!("page {} is of another kind", root.id))),
        }
        Ok(())
    }
}

/// Whether a key is `base` or lies below it; everything lies below no base.
fn is_at_or_below(key: &[u8], base: &[u8]) -> bool {
    match key.strip_prefix(base) {
        Some([]) => true,
        Some([next, ..]) => base.is_empty() || *next == 0,
        None => false,
    }
}
