//! A bounded piece of the work: some files, the chunks they want, and what has
//! to wait until they are there. Planned while the threads work on the window
//! before and end the one before that, so three windows and what the threads
//! hold are all the memory there is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::context::Context;
use super::fetch::{BlockWant, FetchJob, Group, Job, Pool, Want};
use super::file::{FileJob, Way};
use crate::format::entry::{Entry, Metadata};
use crate::repository::Result;
use crate::repository::index::{PackNumber, PackToc};
use crate::repository::neighbours::Neighbours;

/// Bytes of wanted chunks in one window; they are fetched, not held.
const MAX_WINDOW_BYTES: u64 = 256 << 20;
const MAX_WINDOW_FILES: usize = 16_384;
const MAX_WINDOW_WANTS: usize = 65_536;
/// Bytes of inline content and attributes in one window: these are held.
const MAX_WINDOW_INLINE: usize = 12 << 20;
/// Most bytes that are held back for existing files, of one and of a window's.
const MAX_HELD_FILE: u64 = 8 << 20;
const MAX_HELD: u64 = 20 << 20;
/// Stored bytes one job fetches, unless a single block is longer. From elsewhere
/// several come at once, and their number matters more.
const MAX_RANGE_REMOTE: u64 = 4 << 20;
const MAX_RANGE_LOCAL: u64 = 8 << 20;
/// Unwanted bytes that are fetched along rather than asked for around. Several
/// ranges are on their way at once, so that a request more costs no time, and
/// bytes do.
const MAX_GAP_REMOTE: u64 = 256 << 10;
const MAX_GAP_LOCAL: u64 = 64 << 10;
const COMPARE_JOB_BYTES: u64 = 8 << 20;
const FINISH_JOB_FILES: usize = 64;

/// A later name of a file with several.
pub(super) struct Link {
    pub entry: Entry,
    pub path: Vec<u8>,
}

/// A directory that nothing more goes into.
pub(super) struct LeftDirectory {
    pub path: Vec<u8>,
    pub metadata: Metadata,
}

/// Told in a dry run, in path order.
pub(super) enum Told {
    Line(&'static str, Vec<u8>, u64),
    File(Arc<FileJob>),
}

#[derive(Default)]
pub(super) struct Window {
    pub wants: Vec<Want>,
    /// Planned to their end.
    pub planned: Vec<Arc<FileJob>>,
    pub links: Vec<Link>,
    pub directories: Vec<LeftDirectory>,
    pub told: Vec<Told>,
    pub want_bytes: u64,
    pub inline_bytes: usize,
    /// Its jobs that the threads have.
    pub work: Group,
}

impl Window {
    pub fn is_empty(&self) -> bool {
        self.wants.is_empty()
            && self.planned.is_empty()
            && self.links.is_empty()
            && self.directories.is_empty()
            && self.told.is_empty()
    }

    pub fn is_full(&self) -> bool {
        let count = self.planned.len() + self.links.len() + self.directories.len();
        self.want_bytes >= MAX_WINDOW_BYTES
            || self.wants.len() >= MAX_WINDOW_WANTS
            || self.inline_bytes >= MAX_WINDOW_INLINE
            || count.max(self.told.len()) >= MAX_WINDOW_FILES
    }

    /// Drops the wants that existing files hold already.
    pub fn compare(&mut self, context: &Context<'_>, pool: &Pool) -> Result<()> {
        let exists = |want: &Want| matches!(want.file.way, Way::InPlace(_));
        if !self.wants.iter().any(exists) {
            return self.count_needed();
        }
        let (reply, replies) = crossbeam_channel::unbounded();
        let mut kept = Vec::with_capacity(self.wants.len());
        let (mut batch, mut bytes): (Vec<Want>, u64) = (Vec::new(), 0);
        for want in std::mem::take(&mut self.wants) {
            if !exists(&want) {
                kept.push(want);
                continue;
            }
            let other_file = batch.last().is_some_and(|last| !Arc::ptr_eq(&last.file, &want.file));
            if other_file || bytes > COMPARE_JOB_BYTES {
                pool.send(Job::Compare(std::mem::take(&mut batch), reply.clone()), &self.work);
                bytes = 0;
            }
            bytes += u64::from(want.length);
            batch.push(want);
        }
        pool.send(Job::Compare(batch, reply), &self.work);
        for different in replies {
            kept.append(&mut different?);
        }
        // jobs that were dropped because the work ends have not answered
        context.check_running()?;
        self.wants = kept;
        self.count_needed()
    }

    fn count_needed(&self) -> Result<()> {
        for want in &self.wants {
            want.file.needed.fetch_add(u64::from(want.length), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Existing files of which little is needed change only when all of that is
    /// there.
    fn hold_back(&self) {
        let mut held = 0;
        for file in &self.planned {
            let needed = file.needed.load(Ordering::Relaxed);
            if matches!(file.way, Way::InPlace(_))
                && !file.spans_windows.load(Ordering::Relaxed)
                && needed <= MAX_HELD_FILE
                && held + needed <= MAX_HELD
            {
                held += needed;
                file.hold.store(true, Ordering::Relaxed);
            }
        }
    }

    /// The jobs that do this window's work.
    pub fn jobs(&mut self, context: &Context<'_>) -> Result<Vec<Job>> {
        self.hold_back();
        let mut finder = Finder::new(context);
        let mut unknown = Vec::new();
        for want in std::mem::take(&mut self.wants) {
            if let Some(want) = finder.find(want)? {
                unknown.push(want);
            }
        }
        let mut jobs = finder.jobs();
        if !unknown.is_empty() {
            unknown.sort_by_key(|want| want.id);
            jobs.push(Job::Rescue(unknown));
        }
        // only now: a file is finished by whoever settles its last piece
        let mut finished = Vec::new();
        for file in self.planned.drain(..) {
            if file.settle(1) {
                finished.push(file);
            }
        }
        while !finished.is_empty() {
            let rest = finished.split_off(finished.len().min(FINISH_JOB_FILES));
            jobs.push(Job::Finish(std::mem::replace(&mut finished, rest)));
        }
        Ok(jobs)
    }
}

/// What is wanted of one pack, by ordinal.
type WantedOfPack = (Arc<PackToc>, Vec<(u16, Want)>);

/// Finds for every want a pack that holds it, rather one of which something is wanted already.
struct Finder<'a> {
    context: &'a Context<'a>,
    near: Neighbours,
    found: BTreeMap<PackNumber, WantedOfPack>,
}

impl<'a> Finder<'a> {
    fn new(context: &'a Context<'a>) -> Finder<'a> {
        Finder { context, near: Neighbours::default(), found: BTreeMap::new() }
    }

    /// Gives back what is in no pack, or has another length there.
    fn find(&mut self, want: Want) -> Result<Option<Want>> {
        let (pack, toc, ordinal) = match self.near.next_to_others(&want.id) {
            Some(found) => found,
            None => {
                let repository = self.context.repository;
                let places = repository.places(&want.id)?;
                let used = || places.iter().find(|place| self.found.contains_key(&place.pack));
                let near = self.near.among(&places).or_else(used);
                let Some(place) = near.or(places.first()) else { return Ok(Some(want)) };
                let toc = match self.found.get(&place.pack) {
                    Some((toc, _)) => toc.clone(),
                    None => repository.index().toc(place.pack)?,
                };
                self.near.used(place.pack, toc.clone(), (), place.ordinal);
                (place.pack, toc, place.ordinal)
            }
        };
        let chunk = toc.toc.chunks.get(usize::from(ordinal));
        if chunk.is_none_or(|chunk| chunk.length != want.length) {
            return Ok(Some(want));
        }
        let (_, wants) = self.found.entry(pack).or_insert_with(|| (toc, Vec::new()));
        wants.push((ordinal, want));
        Ok(None)
    }

    fn jobs(self) -> Vec<Job> {
        let is_local = self.context.repository.store().local_path().is_some();
        let reading = match is_local {
            true => Reading { max_gap: MAX_GAP_LOCAL, max_range: MAX_RANGE_LOCAL },
            false => Reading { max_gap: MAX_GAP_REMOTE, max_range: MAX_RANGE_REMOTE },
        };
        let mut jobs = Vec::new();
        for (toc, mut wants) in self.found.into_values() {
            wants.sort_by_key(|(ordinal, want)| (*ordinal, want.offset));
            let mut blocks: Vec<BlockWant> = Vec::new();
            for (ordinal, want) in wants {
                let block = toc.block_of(ordinal);
                match blocks.last_mut() {
                    Some(last) if last.block == block => last.chunks.push((ordinal, want)),
                    _ => blocks.push(BlockWant { block, chunks: vec![(ordinal, want)] }),
                }
            }
            ranges(&toc, blocks, reading, &mut jobs);
        }
        jobs
    }
}

/// What is worth one request.
#[derive(Clone, Copy)]
struct Reading {
    max_gap: u64,
    max_range: u64,
}

/// Joins neighbouring blocks of a pack into ranges.
fn ranges(toc: &Arc<PackToc>, blocks: Vec<BlockWant>, reading: Reading, jobs: &mut Vec<Job>) {
    let mut open: Option<FetchJob> = None;
    for want in blocks {
        let offset = toc.offsets.get(want.block).copied().unwrap_or_default();
        let length = toc.toc.blocks.get(want.block).map_or(0, |b| u64::from(b.stored_length));
        if let Some(job) = &mut open
            && offset - (job.offset + job.length) <= reading.max_gap
            && offset + length - job.offset <= reading.max_range
        {
            job.length = offset + length - job.offset;
            job.blocks.push(want);
            continue;
        }
        let next = FetchJob { toc: toc.clone(), offset, length, blocks: vec![want] };
        jobs.extend(open.replace(next).map(Job::Fetch));
    }
    jobs.extend(open.map(Job::Fetch));
}
