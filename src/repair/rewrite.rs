//! One snapshot without its lost content: walks the old tree, keeps every entry
//! that is whole, builds the tree of those, and commits it as a snapshot of its
//! own. Bytes come from chunks whose ids were verified, or not at all.

use std::cell::RefCell;
use std::sync::atomic::Ordering;

use super::places::{Demand, Left, Places, is_there};
use super::snapshots::SnapshotsOptions;
use crate::crypto::keys;
use crate::format::ChunkKind;
use crate::format::content::Root;
use crate::format::entry::{Entry, EntryKind, display_key};
use crate::format::manifest::{Counts, Failure, MAX_LISTED_ERRORS, Manifest, Outcome, PrivatePart};
use crate::format::notes::{Session, SessionState};
use crate::format::page::{FinishedPage, Page, PageBuilder, PageKind};
use crate::id::{ChunkId, PackId, SnapshotId};
use crate::progress::Progress;
use crate::repository::coordinates::ReferenceSet;
use crate::repository::open::program;
use crate::repository::packer::{Gather, Packer, Sealer, with_packer};
use crate::repository::runs::Whereabouts;
use crate::repository::snapshots::Snapshot;
use crate::repository::{Error, ErrorKind, Repository, Result, now_ms};

/// The tag of a repaired snapshot.
pub const TAG: &str = "repaired";

/// What a snapshot lost, and what is left of it.
#[derive(Clone, Debug, Default)]
pub struct Loss {
    /// Listed up to a limit.
    pub failures: Vec<Failure>,
    pub count: u64,
    pub counts: Counts,
}

impl Loss {
    fn add(&mut self, key: &[u8], reason: String) {
        self.count += 1;
        if self.failures.len() < MAX_LISTED_ERRORS {
            self.failures.push(Failure { path: display_key(key), reason });
        }
    }

    pub fn entries(&self) -> u64 {
        self.counts.files + self.counts.directories + self.counts.others
    }
}

/// Gives every entry that is left to `keep`, in order, and says what is lost.
pub fn survey(
    places: &RefCell<Places<'_>>,
    tree: Root,
    keep: &mut dyn FnMut(&Entry) -> Result<()>,
    progress: &dyn Progress,
) -> Result<Loss> {
    let mut survey = Survey { places, keep, progress, loss: Loss::default() };
    survey.page(tree, b"", None)?;
    Ok(survey.loss)
}

struct Survey<'s, 'a> {
    places: &'s RefCell<Places<'a>>,
    keep: &'s mut dyn FnMut(&Entry) -> Result<()>,
    progress: &'s dyn Progress,
    loss: Loss,
}

impl Survey<'_, '_> {
    /// One page; its keys are from `first` on, and below `end`.
    fn page(&mut self, root: Root, first: &[u8], end: Option<&[u8]>) -> Result<()> {
        if self.progress.interrupted() {
            return Err(Error::interrupted());
        }
        let page = self.places.borrow_mut().page(PageKind::Tree, root)?;
        match page {
            Some(Page::Entries(entries)) => {
                entries.into_iter().try_for_each(|entry| self.entry(entry))
            }
            Some(Page::TreeChildren(children)) => {
                let level = root.level.saturating_sub(1);
                for (at, child) in children.iter().enumerate() {
                    let end = children.get(at + 1).map(|next| next.first.as_slice()).or(end);
                    self.page(Root { id: child.id, level }, &child.first, end)?;
                }
                Ok(())
            }
            _ => {
                let reason = match end {
                    Some(end) => {
                        let end = String::from_utf8_lossy(&display_key(end)).into_owned();
                        format!("lost: all names from here to before {end:?}")
                    }
                    None => "lost: all names from here on".to_owned(),
                };
                self.loss.add(first, reason);
                Ok(())
            }
        }
    }

    fn entry(&mut self, mut entry: Entry) -> Result<()> {
        if !self.places.borrow_mut().content_is_whole(Demand::Left, &entry.content)? {
            self.loss.add(&entry.key, "lost: its content".to_owned());
            return Ok(());
        }
        for name in self.places.borrow_mut().lost_attributes(&entry)? {
            entry.long_xattrs.retain(|(kept, _)| *kept != name);
            let name = String::from_utf8_lossy(&name).into_owned();
            self.loss.add(&entry.key, format!("lost: the extended attribute {name:?}"));
        }
        let counts = &mut self.loss.counts;
        match entry.kind {
            EntryKind::File => counts.files += 1,
            EntryKind::Directory => counts.directories += 1,
            _ => counts.others += 1,
        }
        counts.bytes = counts.bytes.saturating_add(entry.metadata.size);
        (self.keep)(&entry)
    }
}

/// What the new snapshot is made of, on its way into packs.
struct Builder<'a> {
    repository: &'a Repository,
    packer: &'a Packer,
    data: Gather<'a>,
    lists: Gather<'a>,
    trees: Gather<'a>,
    /// The coordinates the old snapshot uses, as far as they can be read.
    old: &'a ReferenceSet,
    set: ReferenceSet,
    /// Chunks stored by this run, whose packs are not closed yet.
    pending: Vec<ChunkId>,
    bytes_added: u64,
}

impl<'a> Builder<'a> {
    fn new(
        repository: &'a Repository,
        old: &'a ReferenceSet,
        packer: &'a Packer,
        sealer: &'a Sealer,
    ) -> Builder<'a> {
        Builder {
            repository,
            packer,
            data: Gather::new(packer, sealer, ChunkKind::Data),
            lists: Gather::new(packer, sealer, ChunkKind::List),
            trees: Gather::new(packer, sealer, ChunkKind::Tree),
            old,
            set: ReferenceSet::default(),
            pending: Vec::new(),
            bytes_added: 0,
        }
    }

    /// Relies on what is left of a chunk; stores it again where nothing should.
    fn take(&mut self, places: &mut Places<'_>, id: ChunkId, kind: ChunkKind) -> Result<()> {
        match places.left(&id, kind, self.old)? {
            Left::At(coordinate) => self.set.add(coordinate),
            _ if self.packer.is_claimed(&id) => self.pending.push(id),
            Left::Readable | Left::Remains => {
                let bytes = self.repository.read_chunk(&id, kind)?;
                self.store(id, kind, &bytes)?;
            }
            Left::Nothing => {
                return Err(Error::damage(format!("chunk {id} went missing meanwhile")));
            }
        }
        Ok(())
    }

    fn store(&mut self, id: ChunkId, kind: ChunkKind, bytes: &[u8]) -> Result<()> {
        self.pending.push(id);
        if !self.packer.claim(id) {
            return Ok(());
        }
        self.bytes_added += bytes.len() as u64;
        match kind {
            ChunkKind::List => self.lists.add(id, bytes),
            ChunkKind::Tree => self.trees.add(id, bytes),
            _ => self.data.add(id, bytes),
        }
    }

    fn entry(&mut self, places: &mut Places<'_>, entry: &Entry) -> Result<()> {
        let values = entry.long_xattrs.iter().map(|(_, value)| value);
        for content in values.chain([&entry.content]) {
            places.chunks_of(content, &mut |places, id, kind| self.take(places, id, kind))?;
        }
        Ok(())
    }

    fn page(&mut self, places: &mut Places<'_>, page: &FinishedPage) -> Result<ChunkId> {
        // what no reader could parse must never be called stored
        Page::parse(&page.bytes, PageKind::Tree, page.level)
            .map_err(|error| Error::failed(format!("a page was built wrong: {error}")))?;
        let id = self.repository.keyring().chunk_id(ChunkKind::Tree, &page.bytes)?;
        match places.left(&id, ChunkKind::Tree, self.old)? {
            Left::At(coordinate) => self.set.add(coordinate),
            _ => self.store(id, ChunkKind::Tree, &page.bytes)?,
        }
        Ok(id)
    }

    /// Puts what is gathered, and resolves where it came to lie.
    fn finish(mut self) -> Result<(ReferenceSet, u64)> {
        self.data.flush()?;
        self.lists.flush()?;
        self.trees.flush()?;
        self.packer.flush()?;
        for id in &self.pending {
            let placed = self.packer.coordinate(id);
            self.set.add(
                placed.ok_or_else(|| {
                    Error::failed("a chunk of this run has no place: this is a bug")
                })?,
            );
        }
        Ok((self.set, self.bytes_added))
    }
}

/// Writes the new snapshot: what it lost, and its id.
pub fn rewrite(
    places: &RefCell<Places<'_>>,
    snapshot: &Snapshot,
    avoid: &std::collections::HashSet<PackId>,
    options: &SnapshotsOptions,
    progress: &dyn Progress,
) -> Result<(Loss, SnapshotId)> {
    let repository = places.borrow().repository;
    let run = SnapshotId::random();
    let started = now_ms();
    let here = Whereabouts::here(repository.id());
    let session = |state, code| Session {
        state,
        time: now_ms(),
        host: options.host.clone(),
        boot: here.boot.clone(),
        process: here.process,
        machine: here.machine.clone(),
        profile: snapshot.manifest.profile.clone(),
        packs: 0,
        bytes: 0,
        code,
        kept: Vec::new(),
    };
    repository.put_session(run, 1, &session(SessionState::Start, None), None)?;
    let old = old_references(repository, snapshot)?;
    let level = options.compression;
    let written = with_packer(repository, run, started, level, |packer, sealer| {
        write(places, snapshot, run, &old, (packer, sealer), avoid, progress)
    });
    if let Err(error) = &written {
        let failed = session(SessionState::Failed, Some(error.exit_code()));
        // the run failed already: a store that does not take it changes nothing
        let _ = repository.put_failure(run, &failed, &error.message);
    }
    written
}

fn old_references(repository: &Repository, snapshot: &Snapshot) -> Result<ReferenceSet> {
    let mut set = ReferenceSet::default();
    is_there(repository.references(snapshot.manifest.references, &mut |reference| {
        set.add_reference(reference);
        Ok(())
    }))?;
    Ok(set)
}

fn write(
    places: &RefCell<Places<'_>>,
    snapshot: &Snapshot,
    run: SnapshotId,
    old: &ReferenceSet,
    (packer, sealer): (&Packer, &Sealer),
    avoid: &std::collections::HashSet<PackId>,
    progress: &dyn Progress,
) -> Result<(Loss, SnapshotId)> {
    let repository = places.borrow().repository;
    let mut private = repository.private_part(snapshot)?;
    let builder = RefCell::new(Builder::new(repository, old, packer, sealer));
    let cut = keys::page_cut(repository.keyring().chunker_key()?);
    let mut tree = PageBuilder::new(PageKind::Tree, cut, |page: FinishedPage| {
        builder.borrow_mut().page(&mut places.borrow_mut(), &page)
    });
    let mut loss = survey(
        places,
        private.tree,
        &mut |entry| {
            builder.borrow_mut().entry(&mut places.borrow_mut(), entry)?;
            tree.push_entry(entry)
        },
        progress,
    )?;
    let (root, _) = tree.finish()?;
    let (set, bytes_added) = builder.into_inner().finish()?;
    let mut avoid = avoid.clone();
    avoid.extend(repository.failing_packs());
    let references = repository.store_references(&set, &avoid, packer, sealer)?;
    packer.flush()?;
    repository.put_segments(&packer.take_put())?;
    loss.counts.bytes_added = bytes_added;
    loss.counts.bytes_stored = packer.bytes_put.load(Ordering::Relaxed);
    private.tree = root;
    let manifest = manifest(repository, snapshot, run, &loss, references.root);
    describe(&mut private, &loss);
    let committed = repository.commit(manifest, &private, &set, &references, progress)?;
    match committed {
        Ok(manifest) => Ok((loss, manifest.id)),
        Err(_) => Err(Error::new(
            ErrorKind::TryLater,
            "packs this snapshot needs were swept while it was repaired: try again",
        )),
    }
}

/// The old manifest but for what changed; it replaces nothing, so that the old
/// snapshot stays until it is forgotten.
fn manifest(
    repository: &Repository,
    snapshot: &Snapshot,
    run: SnapshotId,
    loss: &Loss,
    references: Root,
) -> Manifest {
    let old = &snapshot.manifest;
    let outcome = if loss.count > 0 { Outcome::Partial } else { old.outcome };
    let mut sources = old.sources.clone();
    for source in sources.iter_mut().filter(|source| source.outcome == Outcome::Complete) {
        source.outcome = outcome;
    }
    let mut tags = snapshot.tags.clone();
    if !tags.iter().any(|tag| tag == TAG) {
        // there is room for it: the last of too many goes
        tags.truncate(1023);
        tags.push(TAG.to_owned());
    }
    Manifest {
        id: run,
        outcome,
        sources,
        tags,
        writer: repository.keyring().writer,
        counts: Counts {
            files_unchanged: loss.counts.files,
            failures: old.counts.failures + loss.count,
            notes: old.counts.notes,
            ..loss.counts.clone()
        },
        parent: Some(old.id),
        replaces: None,
        references,
        program: program(),
        ..old.clone()
    }
}

fn describe(private: &mut PrivatePart, loss: &Loss) {
    private.failures.extend(loss.failures.iter().cloned());
    private.failures.truncate(MAX_LISTED_ERRORS);
}
