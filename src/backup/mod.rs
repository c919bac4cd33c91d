//! Backup: walk → compare → read and cut → hash → deduplicate → gather blocks →
//! compress and seal → packs → uploads, then the commit.

mod assemble;
mod capture;
mod content;
mod context;
mod cut;
mod parent;
mod plan;
mod read;
mod same;
mod sources;
mod spool;
mod stream;
mod work;

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use assemble::{Assembled, Assembler};
use context::Context;
use parent::{Previous, StatListWriter};
use plan::{Planner, WalkEnd};
pub use stream::{Attentive, Sink, StreamSource, wrong_name};

use crate::files::{self, RootOptions, Rules};
use crate::format::content::Root;
use crate::format::manifest::{
    Counts, Failure, Manifest, Outcome, PrivatePart, Promises, Set, Source,
};
use crate::format::notes::{Session, SessionState};
use crate::id::SnapshotId;
use crate::progress::{Event, Progress};
use crate::repository::adopt;
use crate::repository::coordinates::ReferenceSet;
use crate::repository::known::{Unusable, Used};
use crate::repository::open::program;
use crate::repository::packer::{self, Packer};
use crate::repository::runs::{Whereabouts, sign_of_life};
use crate::repository::snapshots::Listing;
use crate::repository::{Error, ErrorKind, Repository, Result, now_ms};
use crate::store::both;

#[derive(Default)]
pub struct BackupOptions {
    /// What to save; relative paths are taken from the current directory.
    pub paths: Vec<PathBuf>,
    pub host: String,
    pub profile: String,
    pub tags: Vec<String>,
    /// Start of the run in ms since 1970; now without it.
    pub time: Option<u64>,
    /// IANA name or offset of the zone.
    pub zone: String,
    /// When the snapshot may go by itself, in ms since 1970.
    pub expires: Option<u64>,
    pub rules: Option<Arc<Rules>>,
    /// The patterns as they were given, for the manifest.
    pub exclusions: Vec<String>,
    pub exclude_caches: bool,
    pub exclude_larger_than: Option<u64>,
    pub one_file_system: bool,
    /// Those of `paths` with options of their own, which count instead.
    pub of_roots: Vec<(PathBuf, RootOptions)>,
    /// Fail before anything is stored when a path is missing.
    pub require_all: bool,
    /// Say what would be done; store nothing.
    pub dry_run: bool,
    /// Report every new, changed and removed path.
    pub list: bool,
    /// Read every file, changed or not.
    pub reread: bool,
    pub ignore_inode: bool,
    pub ignore_ctime: bool,
    /// Paths to record under another name: (read from, recorded as).
    pub map: Vec<(PathBuf, PathBuf)>,
    pub skip_if_unchanged: bool,
    /// zstd level; 0 stores.
    pub compression: i32,
    /// Threads that read files; 0 lets the program choose.
    pub read_concurrency: usize,
    /// Bytes put after which packs get their segment; 0 is 512 MiB.
    pub checkpoint_bytes: u64,
    /// Those of `paths` without which the snapshot is complete all the same.
    pub optional: Vec<PathBuf>,
    /// Absolute paths at and beneath which a failure is a note.
    pub may_fail: Vec<PathBuf>,
    /// The set that the snapshot is a part of.
    pub set: Option<Set>,
    pub promises: Promises,
    /// The profile as it is resolved, without secrets.
    pub profile_text: Option<String>,
    /// How its streams are put back.
    pub restore_commands: Vec<String>,
    /// Directories that are never saved: repository, cache, temporary files.
    pub leave_out: Vec<PathBuf>,
}

#[derive(Clone, Debug)]
pub struct BackupReport {
    /// The new snapshot; none after a dry run, or when nothing had changed.
    pub snapshot: Option<SnapshotId>,
    pub parent: Option<SnapshotId>,
    pub outcome: Outcome,
    pub counts: Counts,
    /// What became of each path, then of each stream, in the order they were given.
    pub sources: Vec<Outcome>,
    pub failures: Vec<Failure>,
    pub notes: Vec<Failure>,
    /// Those of `rules` that matched nothing.
    pub unused_patterns: Vec<String>,
    /// Left out because nothing had changed since the parent.
    pub unchanged: bool,
    /// Bytes put into the store, packs only.
    pub bytes_put: u64,
    /// Damaged or missing chunks that this run stored again.
    pub healed: u64,
}

/// Attempts before a run gives up on a repository that changes under it.
const ATTEMPTS: usize = 3;
/// Jobs between the walk and the assembler, at most.
const WINDOW: usize = 64;

/// Takes a snapshot.
pub fn backup(
    repository: &Repository,
    options: &BackupOptions,
    streams: Vec<StreamSource>,
    progress: &dyn Progress,
) -> Result<BackupReport> {
    repository.keyring().require_write()?;
    if let Some(feature) = repository.update().forbids_writing() {
        return Err(Error::failed(format!(
            "the repository uses the feature {feature:?}: upgrade esker to write to it"
        )));
    }
    let here = here();
    let roots: Vec<PathBuf> =
        options.paths.iter().map(|path| files::absolute(path, &here)).collect();
    check_sources(&roots, &streams, options)?;
    let recorded = recorded_roots(&roots, options)?;
    let labels = labels(repository, &recorded, &streams)?;
    let required = |path| !options.optional.contains(path);
    let required = options.paths.iter().map(required);
    let required: Vec<bool> = required.chain(streams.iter().map(|s| s.required)).collect();
    let names: Vec<String> = streams.iter().map(|stream| stream.name.clone()).collect();
    let mut given_up = Vec::new();
    let sources = Sources {
        roots: &roots,
        recorded: &recorded,
        labels: &labels,
        required: &required,
        streams: &names,
    };
    let result = attempts(repository, options, sources, streams, progress, &mut given_up);
    for run in given_up {
        // only now: till then prune spares their packs, and the next attempt built on them
        run_ended(repository, options, run, None);
    }
    result
}

/// What relative paths are taken from.
fn here() -> PathBuf {
    std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"))
}

/// What is saved, as it is read, as it is recorded, and as it is labelled.
#[derive(Clone, Copy)]
struct Sources<'a> {
    roots: &'a [PathBuf],
    recorded: &'a [PathBuf],
    labels: &'a [String],
    /// Of paths, then of streams.
    required: &'a [bool],
    /// Names of the streams.
    streams: &'a [String],
}

/// Tries again when something the snapshot needs was swept meanwhile.
fn attempts(
    repository: &Repository,
    options: &BackupOptions,
    sources: Sources<'_>,
    streams: Vec<StreamSource>,
    progress: &dyn Progress,
    given_up: &mut Vec<SnapshotId>,
) -> Result<BackupReport> {
    let attempts = if streams.is_empty() { ATTEMPTS } else { 1 };
    let mut streams = Some(streams);
    let mut gone = HashSet::new();
    let healed = AtomicU64::new(0);
    for _ in 0..attempts {
        let mut run = Run::start(repository, options, sources, &healed, progress)?;
        if attempts == 1 {
            // a stream cannot be read twice: what is missing must be known before
            gone.extend(repository.missing_packs()?);
        }
        run.unusable.lost.extend(std::mem::take(&mut gone));
        match run.take(streams.take().unwrap_or_default()) {
            Ok(Some(report)) => return Ok(report),
            Ok(None) => given_up.push(run.id),
            Err(error) => {
                run_failed(repository, options, run.id, &error);
                return Err(error);
            }
        }
        gone = repository.missing_packs()?;
    }
    Err(Error::new(
        ErrorKind::TryLater,
        "packs this snapshot needs were swept while it was made: try again",
    ))
}

/// Nothing is stored when no source exists, or one that must exist does not.
fn check_sources(
    roots: &[PathBuf],
    streams: &[StreamSource],
    options: &BackupOptions,
) -> Result<()> {
    if roots.is_empty() && streams.is_empty() {
        return Err(Error::new(ErrorKind::Usage, "nothing to back up: name at least one path"));
    }
    for StreamSource { name, .. } in streams {
        if let Some(reason) = wrong_name(name) {
            let message = format!("a source cannot be called {name:?}: {reason}");
            return Err(Error::new(ErrorKind::Usage, message));
        }
    }
    let mut names = HashSet::new();
    if let Some(twice) = streams.iter().find(|stream| !names.insert(stream.name.as_str())) {
        let message = format!("two streams have the name {:?}", twice.name);
        return Err(Error::new(ErrorKind::Usage, message));
    }
    let missing: Vec<_> =
        roots.iter().filter(|root| std::fs::symlink_metadata(root).is_err()).collect();
    match missing.first() {
        Some(first) if options.require_all => {
            Err(Error::failed(format!("{}: does not exist; nothing was stored", first.display())))
        }
        Some(first) if missing.len() == roots.len() && streams.is_empty() => {
            Err(Error::failed(format!("{}: does not exist; nothing was stored", first.display())))
        }
        _ => Ok(()),
    }
}

/// The names the roots are recorded under. With mappings none may lie within
/// another: their entries could not be told apart.
fn recorded_roots(roots: &[PathBuf], options: &BackupOptions) -> Result<Vec<PathBuf>> {
    let recorded: Vec<PathBuf> =
        roots.iter().map(|root| plan::recorded_path(root, &options.map)).collect();
    for (at, one) in recorded.iter().enumerate() {
        let within =
            |(other_at, other): (usize, &PathBuf)| other_at != at && one.starts_with(other);
        if !options.map.is_empty() && recorded.iter().enumerate().any(within) {
            let message =
                format!("{}: lies within another source; --map needs them apart", one.display());
            return Err(Error::new(ErrorKind::Usage, message));
        }
    }
    if options.map.iter().any(|(from, to)| !from.is_absolute() || !to.is_absolute()) {
        return Err(Error::new(ErrorKind::Usage, "--map takes two absolute paths"));
    }
    Ok(recorded)
}

/// Gives the packs put so far their segment.
pub(crate) fn checkpoint(context: &Context<'_>, used: &mut Used) -> Result<()> {
    let packs = context.packer.take_put();
    context.repository.put_segments(&packs)?;
    // known from the index before they are forgotten here: no chunk is ever in neither
    context.known.index_grew();
    used.resolve(context.packer, &context.known)?;
    context.packer.forget(&packs);
    let state = SessionState::Checkpoint;
    let session = session(context.repository, context.options, state, context.packer);
    context.repository.put_session(context.packer.run(), context.next_session(), &session, None)
}

fn session(
    repository: &Repository,
    options: &BackupOptions,
    state: SessionState,
    packer: &Packer,
) -> Session {
    let mut session = first_session(repository, options, state);
    session.packs = packer.packs_put.load(Ordering::Relaxed);
    session.bytes = packer.bytes_put.load(Ordering::Relaxed);
    session
}

fn first_session(repository: &Repository, options: &BackupOptions, state: SessionState) -> Session {
    sign_of_life(repository.id(), state, &options.host, &options.profile)
}

/// Leaves a sign that a run is over. It failed already, so a store that does
/// not take it changes nothing.
fn run_failed(repository: &Repository, options: &BackupOptions, run: SnapshotId, error: &Error) {
    if !options.dry_run {
        let session = first_session(repository, options, SessionState::Failed);
        let session = Session { code: Some(error.exit_code()), ..session };
        let _ = repository.put_failure(run, &session, &error.message);
    }
}

/// Leaves a sign that a run needs nothing any more. What it did is done, also
/// where the store does not take it.
fn run_ended(
    repository: &Repository,
    options: &BackupOptions,
    run: SnapshotId,
    packer: Option<&Packer>,
) {
    let state = SessionState::Ended;
    let session = match packer {
        Some(packer) => session(repository, options, state, packer),
        None => first_session(repository, options, state),
    };
    let _ = repository.put_end(run, session);
}

/// Wakes the assembler when a worker ends, so that it looks whether the run
/// goes on.
struct WakeAssembler(crossbeam_channel::Sender<(u64, work::Result)>);

impl Drop for WakeAssembler {
    fn drop(&mut self) {
        let _ = self.0.try_send((u64::MAX, work::Result::Restart));
    }
}

/// One attempt at a snapshot.
struct Run<'a> {
    repository: &'a Repository,
    options: &'a BackupOptions,
    sources: Sources<'a>,
    progress: &'a dyn Progress,
    id: SnapshotId,
    started: u64,
    unusable: Unusable,
    healed: &'a AtomicU64,
    previous: Previous,
    parent_references: ReferenceSet,
}

impl<'a> Run<'a> {
    /// Signs in, brings the index up to date, adopts what earlier runs left, and
    /// finds the previous state.
    fn start(
        repository: &'a Repository,
        options: &'a BackupOptions,
        sources: Sources<'a>,
        healed: &'a AtomicU64,
        progress: &'a dyn Progress,
    ) -> Result<Run<'a>> {
        progress.event(Event::Stage("opening"));
        let id = SnapshotId::random();
        if !options.dry_run {
            // what killed runs left half written; not being able to is no reason to stop
            let _ = repository.store().clean_temporary();
            let session = first_session(repository, options, SessionState::Start);
            repository.put_session(id, 1, &session, None)?;
        }
        let run = Run::prepare(repository, options, sources, healed, progress, id);
        run.inspect_err(|error| run_failed(repository, options, id, error))
    }

    fn prepare(
        repository: &'a Repository,
        options: &'a BackupOptions,
        sources: Sources<'a>,
        healed: &'a AtomicU64,
        progress: &'a dyn Progress,
        id: SnapshotId,
    ) -> Result<Run<'a>> {
        let started = now_ms();
        let whereabouts = Whereabouts::here(repository.id());
        // what was here before is looked for beside the look at what is in the way
        let (looked, (interrupted, listing)) = both(
            &**repository.store(),
            || repository.sync_index(progress).and_then(|_| repository.surely_doomed()),
            || {
                let interrupted = || adopt::interrupted_runs(repository, id, &whereabouts);
                both(&**repository.store(), interrupted, || repository.list_snapshots())
            },
        );
        let (doomed, troubles) = looked?;
        for trouble in troubles {
            progress.event(Event::Warning(&trouble.message));
        }
        if !options.dry_run {
            adopt::adopt(repository, interrupted?, progress)?;
        }
        let Listing { snapshots, troubles, damaged, .. } = listing?;
        for trouble in troubles {
            progress.event(Event::Warning(&trouble.message));
        }
        let previous = Previous::choose(
            repository,
            &snapshots,
            &options.host,
            &options.profile,
            sources.labels,
        )?;
        let parent_references = previous.references(repository, &snapshots);
        let unusable = Unusable { doomed: doomed.packs, lost: damaged.into_iter().collect() };
        Ok(Run {
            repository,
            options,
            sources,
            progress,
            id,
            started,
            unusable,
            healed,
            previous,
            parent_references,
        })
    }

    /// Reads, stores and commits. Nothing when what it needs was swept.
    fn take(&self, streams: Vec<StreamSource>) -> Result<Option<BackupReport>> {
        let level = self.options.compression;
        packer::with_packer(self.repository, self.id, self.started, level, |packer, sealer| {
            let context = Context::new(
                self.repository,
                self.options,
                self.sources.roots,
                self.progress,
                packer,
                sealer,
                self.started,
                &self.unusable,
                self.healed,
                self.parent_references.clone(),
            )?;
            let read = self.read(&context, streams);
            match read {
                Ok((assembled, walked)) => self.finish(&context, assembled, walked),
                Err(error) => {
                    if !self.options.dry_run && error.kind == ErrorKind::Interrupted {
                        // what was uploaded is found again by the next run
                        packer.flush()?;
                        checkpoint(&context, &mut Used::default())?;
                    }
                    Err(error)
                }
            }
        })
    }

    fn read(
        &self,
        context: &Context<'_>,
        streams: Vec<StreamSource>,
    ) -> Result<(Assembled, WalkEnd)> {
        self.progress.event(Event::Stage("reading"));
        let workers = match self.options.read_concurrency {
            0 => std::thread::available_parallelism().map_or(2, usize::from),
            chosen => chosen.min(256),
        };
        let (jobs, job_queue) = crossbeam_channel::bounded(2 * workers);
        let (results, result_queue) = crossbeam_channel::bounded(WINDOW);
        let (tokens, token_queue) = crossbeam_channel::bounded(WINDOW);
        let stat_list = (!self.options.dry_run)
            .then(|| StatListWriter::create(self.repository, &self.options.profile))
            .flatten();
        std::thread::scope(|scope| {
            for _ in 0..workers {
                let (job_queue, results) = (job_queue.clone(), results.clone());
                scope.spawn(move || {
                    // also when it panics: the assembler must not wait for this
                    // worker's result
                    let _wake = WakeAssembler(results.clone());
                    if let Err(error) = read::work(context, workers, &job_queue, &results) {
                        context.fail(error);
                    }
                });
            }
            drop(job_queue);
            for stream in streams {
                let (jobs, results) = (jobs.clone(), results.clone());
                scope.spawn(move || {
                    let _wake = WakeAssembler(results.clone());
                    match capture::capture(context, stream, jobs) {
                        Ok(captured) => {
                            let captured = work::Result::Captured(Box::new(captured));
                            // the assembler has given up: so does this
                            let _ = results.send((u64::MAX, captured));
                        }
                        Err(error) => context.fail(error),
                    }
                });
            }
            let planner = scope.spawn(move || {
                let planner =
                    Planner::new(context, self.options, &self.previous, jobs, results, tokens);
                let walked = planner.run(self.sources.roots, &self.walk_options());
                if let Err(error) = &walked {
                    context.fail(error.clone());
                }
                walked
            });
            let assembler =
                Assembler::new(context, &self.previous, stat_list, self.sources.streams);
            let assembled =
                assembler.and_then(|assembler| assembler.run(&result_queue, &token_queue));
            if let Err(error) = &assembled {
                context.fail(error.clone());
            }
            // neighbours that wait for room end with their channel
            drop((result_queue, token_queue));
            let walked = planner.join().map_err(|_| Error::failed("the walk panicked"))?;
            context.check_abort()?;
            Ok((assembled?, walked?))
        })
    }

    fn walk_options(&self) -> files::WalkOptions {
        let here = here();
        let own = self.options.of_roots.iter();
        files::WalkOptions {
            one_file_system: self.options.one_file_system,
            of_roots: own
                .map(|(path, options)| (files::absolute(path, &here), options.clone()))
                .collect(),
            rules: self.options.rules.clone(),
            exclude_caches: self.options.exclude_caches,
            exclude_larger_than: self.options.exclude_larger_than,
            leave_out: self.options.leave_out.clone(),
            read_xattrs: true,
            report_excluded: false,
        }
    }

    /// Everything was read: flush, references, commit.
    fn finish(
        &self,
        context: &Context<'_>,
        assembled: Assembled,
        walked: WalkEnd,
    ) -> Result<Option<BackupReport>> {
        let Assembled { root, mut used, counts, stat_list, failed } = assembled;
        let mut report = self.report(context, counts, &walked, &failed);
        if report.sources.iter().all(|outcome| *outcome == Outcome::Failed)
            && let Some((name, reason)) = failed.first()
        {
            // a stream that broke off is no snapshot of anything
            return Err(Error::failed(format!("{name}: {reason}")));
        }
        let unchanged = self.previous.root() == Some(root);
        report.unchanged = unchanged;
        if self.options.dry_run {
            return Ok(Some(report));
        }
        // what was stored again needs a snapshot that relies on it
        let skip = unchanged && self.options.skip_if_unchanged && report.healed == 0;
        if skip && report.outcome == Outcome::Complete {
            run_ended(self.repository, self.options, self.id, Some(context.packer));
            return Ok(Some(report));
        }
        self.progress.event(Event::Stage("committing"));
        // references name packs that may still be on their way
        context.packer.close_open()?;
        used.resolve(context.packer, &context.known)?;
        if !used.all_resolved() {
            return Err(Error::failed("a chunk of this run has no place: this is a bug"));
        }
        let references = self.repository.store_references(
            &used.set,
            &context.known.unusable_packs(),
            context.packer,
            context.sealer,
        )?;
        context.packer.flush()?;
        for page in references.pages.iter().filter(|page| context.packer.is_claimed(page)) {
            context.count_if_healed(page)?;
        }
        report.healed = self.healed.load(Ordering::Relaxed);
        let packs = context.packer.take_put();
        self.repository.put_segments(&packs)?;
        report.bytes_put = context.packer.bytes_put.load(Ordering::Relaxed);
        report.counts.bytes_stored = report.bytes_put;
        let manifest = self.manifest(&report, references.root);
        let private = self.private_part(&report, root, walked);
        let committed =
            self.repository.commit(manifest, &private, &used.set, &references, self.progress)?;
        let Ok(manifest) = committed else { return Ok(None) };
        report.snapshot = Some(manifest.id);
        run_ended(self.repository, self.options, self.id, Some(context.packer));
        if let Some(list) = stat_list {
            // losing it costs the next run time, nothing else
            let _ = list.finish(manifest.id, manifest.started, root);
        }
        Ok(Some(report))
    }

    fn report(
        &self,
        context: &Context<'_>,
        mut counts: Counts,
        walked: &WalkEnd,
        failed: &[(String, String)],
    ) -> BackupReport {
        let reports = std::mem::take(&mut *context.reports());
        counts.failures = reports.failure_count;
        counts.notes = reports.note_count;
        counts.bytes_added = context.bytes_added.load(Ordering::Relaxed);
        let paths = (0..self.sources.roots.len()).map(|at| {
            match (walked.missing.contains(&at), reports.failed_roots.contains(&at)) {
                (true, _) => Outcome::Failed,
                (false, true) => Outcome::Partial,
                (false, false) => Outcome::Complete,
            }
        });
        let streams = self.sources.streams.iter().map(|name| {
            match failed.iter().any(|(failed, _)| failed == name) {
                true => Outcome::Failed,
                false => Outcome::Complete,
            }
        });
        let sources: Vec<Outcome> = paths.chain(streams).collect();
        let mut all = sources.iter().zip(self.sources.required);
        let complete = all.all(|(outcome, required)| !required || *outcome == Outcome::Complete);
        BackupReport {
            sources,
            snapshot: None,
            parent: self.previous.snapshot(),
            outcome: if complete { Outcome::Complete } else { Outcome::Partial },
            counts,
            failures: reports.failures,
            notes: reports.notes,
            unused_patterns: self.options.rules.as_ref().map(|r| r.unused()).unwrap_or_default(),
            unchanged: false,
            bytes_put: 0,
            healed: self.healed.load(Ordering::Relaxed),
        }
    }

    fn manifest(&self, report: &BackupReport, references: Root) -> Manifest {
        let started = self.options.time.unwrap_or(self.started);
        let labels = self.sources.labels.iter().zip(&report.sources).zip(self.sources.required);
        let sources = labels
            .map(|((label, outcome), required)| Source {
                label: label.clone(),
                outcome: *outcome,
                required: *required,
            })
            .collect();
        Manifest {
            id: self.id,
            outcome: report.outcome,
            started,
            ended: started + now_ms().saturating_sub(self.started),
            zone: self.options.zone.clone(),
            host: self.options.host.clone(),
            profile: self.options.profile.clone(),
            sources,
            writer: self.repository.keyring().writer,
            set: self.options.set.clone(),
            tags: self.options.tags.clone(),
            expires: self.options.expires,
            promises: self.options.promises.clone(),
            counts: report.counts.clone(),
            parent: report.parent,
            replaces: None,
            copied_from: None,
            references,
            program: program(),
            kept: Vec::new(),
        }
    }

    fn private_part(&self, report: &BackupReport, tree: Root, walked: WalkEnd) -> PrivatePart {
        PrivatePart {
            tree,
            paths: self
                .sources
                .recorded
                .iter()
                .map(|p| p.as_os_str().as_bytes().to_vec())
                .collect(),
            exclusions: self.options.exclusions.clone(),
            failures: report.failures.clone(),
            notes: report.notes.clone(),
            filesystems: walked.filesystems,
            profile: self.options.profile_text.clone(),
            restore_commands: self.options.restore_commands.clone(),
            kept: Vec::new(),
        }
    }
}

/// Opaque labels of the sources, in their order.
fn labels(
    repository: &Repository,
    roots: &[PathBuf],
    streams: &[StreamSource],
) -> Result<Vec<String>> {
    let roots = roots.iter().map(|path| path.as_os_str().as_bytes());
    roots
        .chain(streams.iter().map(|stream| stream.name.as_bytes()))
        .map(|name| repository.keyring().source_label(name))
        .collect()
}
