//! One snapshot on its way: signs of life, checkpoints, and the commit that every
//! snapshot goes through.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};

use super::describe::{self, Names};
use super::plan::There;
use super::write::{Written, write};
use super::{Copied, CopyOptions, Stop};
use crate::format::manifest::{Counts, Manifest, PrivatePart};
use crate::format::notes::{Session, SessionState};
use crate::id::{PackId, SnapshotId};
use crate::progress::{Event, Progress};
use crate::repository::adopt;
use crate::repository::coordinates::ReferenceSet;
use crate::repository::known::{Known, Unusable, Used};
use crate::repository::packer::{Packer, Sealer, with_packer};
use crate::repository::runs::{Whereabouts, sign_of_life};
use crate::repository::snapshots::{Listing, Snapshot};
use crate::repository::translations::Translations;
use crate::repository::{Error, ErrorKind, Repository, Result, now_ms};

/// Attempts before a run gives up on a repository that changes under it.
const ATTEMPTS: usize = 3;

/// What all snapshots of one copy share.
pub(super) struct Copier<'a> {
    source: &'a Repository,
    destination: &'a Repository,
    options: &'a CopyOptions,
    progress: &'a dyn Progress,
    translations: Translations,
    /// Good snapshots of the destination, those made here included.
    good: Vec<Manifest>,
    names: Names,
    /// Packs of the destination that a mark calls damaged.
    damaged: HashSet<PackId>,
    /// Runs that end when all is over: till then prune spares their packs.
    given_up: Vec<(SnapshotId, String)>,
}

impl<'a> Copier<'a> {
    pub fn new(
        source: &'a Repository,
        destination: &'a Repository,
        options: &'a CopyOptions,
        listing: Listing,
        progress: &'a dyn Progress,
    ) -> Result<Copier<'a>> {
        Ok(Copier {
            source,
            destination,
            options,
            progress,
            translations: Translations::open(destination, source.id())?,
            names: Names::of(destination, &listing.snapshots),
            good: listing
                .snapshots
                .into_iter()
                .filter(Snapshot::is_good)
                .map(|snapshot| snapshot.manifest)
                .collect(),
            damaged: listing.damaged.into_iter().collect(),
            given_up: Vec::new(),
        })
    }

    /// Takes over what interrupted runs of this key have put.
    pub fn adopt(&self) -> Result<()> {
        let destination = self.destination;
        let _ = destination.store().clean_temporary();
        destination.sync_index(self.progress)?;
        let whereabouts = Whereabouts::here(destination.id());
        let none = SnapshotId::random();
        let interrupted = adopt::interrupted_runs(destination, none, &whereabouts)?;
        adopt::adopt(destination, interrupted, self.progress).map(drop)
    }

    /// Gives copies of which nothing was said since, because their run was cut off
    /// then, the names they should have.
    pub fn complete_names(&mut self, there: &[There]) -> Result<()> {
        for There { from, id, .. } in there {
            self.names.complete(self.destination, from, *id, self.progress)?;
        }
        Ok(())
    }

    /// Copies one snapshot; again when something it needs was swept meanwhile.
    pub fn copy(&mut self, snapshot: &Snapshot) -> std::result::Result<Copied, Stop> {
        let mut gone = HashSet::new();
        for _ in 0..ATTEMPTS {
            if let Some(copied) = self.attempt(snapshot, gone)? {
                self.names.put(self.destination, snapshot, copied.id, self.progress)?;
                return Ok(copied);
            }
            gone = self.destination.missing_packs()?;
        }
        let message = "packs this snapshot needs were swept while it was copied: try again";
        Err(Error::new(ErrorKind::TryLater, message).into())
    }

    fn attempt(
        &mut self,
        snapshot: &Snapshot,
        gone: HashSet<PackId>,
    ) -> std::result::Result<Option<Copied>, Stop> {
        let (destination, id) = (self.destination, SnapshotId::random());
        let profile = &snapshot.manifest.profile;
        let sign = |state| sign_of_life(destination.id(), state, &self.options.host, profile);
        destination.put_session(id, 1, &sign(SessionState::Start), None)?;
        let done = self.run(snapshot, id, gone);
        match done {
            Ok(Some((copied, manifest))) => {
                self.good.push(manifest);
                Ok(Some(copied))
            }
            Ok(None) => {
                self.given_up.push((id, profile.clone()));
                Ok(None)
            }
            Err(stop) => {
                let code = Some(stop.error().exit_code());
                let failed = Session { code, ..sign(SessionState::Failed) };
                // the run failed already: a store that does not take it changes nothing
                let _ = destination.put_failure(id, &failed, &stop.error().message);
                Err(stop)
            }
        }
    }

    fn run(
        &self,
        snapshot: &Snapshot,
        id: SnapshotId,
        gone: HashSet<PackId>,
    ) -> std::result::Result<Option<(Copied, Manifest)>, Stop> {
        self.progress.event(Event::Stage("copying"));
        let (destination, started) = (self.destination, now_ms());
        destination.sync_index(self.progress)?;
        let (doomed, troubles) = destination.surely_doomed()?;
        for trouble in troubles {
            self.progress.event(Event::Warning(&trouble.message));
        }
        let unusable = Unusable { doomed: doomed.packs, lost: &self.damaged | &gone };
        let private = self.source.private_part(snapshot).map_err(Stop::Source)?;
        let parent = self.parent(snapshot);
        let known = Known::new(destination, &unusable, references(destination, parent));
        let level = self.options.compression;
        with_packer(destination, id, started, level, |packer, sealer| {
            let run = Run {
                source: self.source,
                destination,
                options: self.options,
                progress: self.progress,
                translations: &self.translations,
                known: &known,
                packer,
                sealer,
                snapshot,
                next_session: AtomicU64::new(2),
                bytes_read: AtomicU64::new(0),
                bytes_added: AtomicU64::new(0),
            };
            Ok(run.take(private, parent))
        })?
    }

    /// The copy of what the snapshot was compared with, else the newest of the same
    /// kind.
    fn parent(&self, snapshot: &Snapshot) -> Option<&Manifest> {
        let original = &snapshot.manifest;
        let is_of_parent = |copy: &&Manifest| {
            let from = copy.copied_from.as_ref();
            from.is_some_and(|from| {
                from.repository == self.source.id() && Some(from.snapshot) == original.parent
            })
        };
        let is_like =
            |copy: &&Manifest| (&copy.host, &copy.profile) == (&original.host, &original.profile);
        let newest_first = || self.good.iter().rev();
        newest_first().find(is_of_parent).or_else(|| newest_first().find(is_like))
    }

    /// Says of the attempts that led to nothing that they need nothing any more.
    pub fn end(self) {
        for (run, profile) in self.given_up {
            let state = SessionState::Ended;
            let sign = sign_of_life(self.destination.id(), state, &self.options.host, &profile);
            let _ = self.destination.put_end(run, sign);
        }
    }
}

/// The coordinates a snapshot uses; empty when they cannot be read.
fn references(repository: &Repository, manifest: Option<&Manifest>) -> ReferenceSet {
    let mut set = ReferenceSet::default();
    let Some(manifest) = manifest else { return set };
    let read = repository.references(manifest.references, &mut |reference| {
        set.add_reference(reference);
        Ok(())
    });
    if read.is_ok() { set } else { ReferenceSet::default() }
}

/// One attempt at the copy of one snapshot.
pub(super) struct Run<'a> {
    pub source: &'a Repository,
    pub destination: &'a Repository,
    pub options: &'a CopyOptions,
    pub progress: &'a dyn Progress,
    pub translations: &'a Translations,
    pub known: &'a Known<'a>,
    pub packer: &'a Packer,
    pub sealer: &'a Sealer,
    snapshot: &'a Snapshot,
    /// Number of the next sign of life.
    next_session: AtomicU64,
    pub bytes_read: AtomicU64,
    pub bytes_added: AtomicU64,
}

impl Run<'_> {
    /// Writes and commits. Nothing when what it needs was swept.
    fn take(
        &self,
        private: PrivatePart,
        parent: Option<&Manifest>,
    ) -> std::result::Result<Option<(Copied, Manifest)>, Stop> {
        match write(self, private.tree) {
            Ok(written) => Ok(self.finish(private, written, parent)?),
            Err(stop) => {
                use ErrorKind::{Damage, Interrupted, TryLater};
                if matches!(stop.error().kind, Damage | Interrupted | TryLater) {
                    // what was put is found again by the next run
                    self.packer.flush()?;
                    self.checkpoint(&mut Used::default())?;
                }
                Err(stop)
            }
        }
    }

    /// Gives the packs put so far their segment.
    pub fn checkpoint(&self, used: &mut Used) -> Result<()> {
        let packs = self.packer.take_put();
        self.destination.put_segments(&packs)?;
        // known from the index before they are forgotten here: no chunk is ever in neither
        self.known.index_grew();
        used.resolve(self.packer, self.known)?;
        self.packer.forget(&packs);
        let number = self.next_session.fetch_add(1, Ordering::Relaxed);
        let sign = self.sign(SessionState::Checkpoint);
        self.destination.put_session(self.packer.run(), number, &sign, None)
    }

    fn sign(&self, state: SessionState) -> Session {
        let profile = &self.snapshot.manifest.profile;
        Session {
            packs: self.packer.packs_put.load(Ordering::Relaxed),
            bytes: self.packer.bytes_put.load(Ordering::Relaxed),
            ..sign_of_life(self.destination.id(), state, &self.options.host, profile)
        }
    }

    fn finish(
        &self,
        private: PrivatePart,
        written: Written,
        parent: Option<&Manifest>,
    ) -> Result<Option<(Copied, Manifest)>> {
        self.progress.event(Event::Stage("committing"));
        let Written { root, mut used, streams } = written;
        let (destination, packer) = (self.destination, self.packer);
        // references name packs that may still be on their way
        packer.close_open()?;
        used.resolve(packer, self.known)?;
        if !used.all_resolved() {
            return Err(Error::failed("a chunk of this run has no place: this is a bug"));
        }
        let absent = self.known.unusable_packs();
        let references = destination.store_references(&used.set, &absent, packer, self.sealer)?;
        packer.flush()?;
        destination.put_segments(&packer.take_put())?;
        let counts = Counts {
            bytes_added: self.bytes_added.load(Ordering::Relaxed),
            bytes_stored: packer.bytes_put.load(Ordering::Relaxed),
            ..self.snapshot.manifest.counts.clone()
        };
        let manifest = Manifest {
            id: packer.run(),
            counts,
            parent: parent.map(|parent| parent.id),
            references: references.root,
            ..describe::manifest(self.source, destination, self.snapshot, &private, &streams)?
        };
        let private = PrivatePart { tree: root, ..private };
        let committed =
            destination.commit(manifest, &private, &used.set, &references, self.progress)?;
        let Ok(manifest) = committed else { return Ok(None) };
        // what it did is done, also where the store does not take the sign
        let _ = destination.put_end(packer.run(), self.sign(SessionState::Ended));
        let copied = Copied {
            from: self.snapshot.id,
            id: manifest.id,
            host: manifest.host.clone(),
            started: manifest.started,
            outcome: manifest.outcome,
            bytes_read: self.bytes_read.load(Ordering::Relaxed),
            bytes_added: manifest.counts.bytes_added,
            bytes_put: manifest.counts.bytes_stored,
        };
        Ok(Some((copied, manifest)))
    }
}
