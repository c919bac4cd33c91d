//! The threads that fetch ranges of packs, open and verify what is in them, and
//! write it to every file that needs it. Where the store is in this machine each
//! takes whole jobs. Where it is elsewhere some only fetch, so that the link is
//! busy whatever the others do.

use std::borrow::Cow;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender};

use super::context::Context;
use super::file::{FileJob, Trouble, holds_chunk};
use crate::format::ChunkKind;
use crate::format::pack::pack_key;
use crate::id::ChunkId;
use crate::repository::blocks::mutable;
use crate::repository::index::PackToc;
use crate::repository::{Error, ErrorKind, Repository, Result};
use crate::store::{StoreError, at_once};

/// Ranges on their way from a store elsewhere, at once.
const FETCHES: usize = 6;

/// A chunk that a file needs at an offset.
#[derive(Clone)]
pub(super) struct Want {
    pub file: Arc<FileJob>,
    pub offset: u64,
    pub length: u32,
    pub id: ChunkId,
}

/// Consecutive bytes of one pack, and what is wanted of them.
pub(super) struct FetchJob {
    pub toc: Arc<PackToc>,
    /// Bytes in the pack.
    pub offset: u64,
    pub length: u64,
    pub blocks: Vec<BlockWant>,
}

pub(super) struct BlockWant {
    pub block: usize,
    /// Sorted by ordinal.
    pub chunks: Vec<(u16, Want)>,
}

pub(super) enum Job {
    Fetch(FetchJob),
    /// Wants of which no place is known.
    Rescue(Vec<Want>),
    /// Which of these an existing file does not hold yet.
    Compare(Vec<Want>, Sender<Result<Vec<Want>>>),
    Finish(Vec<Arc<FileJob>>),
}

/// Hands jobs to threads.
pub(super) struct Pool {
    jobs: Sender<Ticket>,
    /// Where those that fetch take their jobs, if some do nothing else.
    fetches: Option<Sender<Ticket>>,
}

/// A job, who waits for it, and the answer where a fetch has one.
struct Ticket {
    job: Job,
    answer: Option<Answer>,
    done: Done,
}

type Answer = std::result::Result<Bytes, StoreError>;

/// Jobs that somebody waits for together.
#[derive(Clone, Default)]
pub(super) struct Group(Arc<(Mutex<usize>, Condvar)>);

impl Group {
    /// Waits until every job sent for it so far is done.
    pub fn wait(&self) {
        let mut outstanding = lock(&self.0.0);
        while *outstanding > 0 {
            let waited = self.0.1.wait(outstanding);
            outstanding = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }
}

impl Pool {
    /// Runs `work` with threads to do its jobs. They are gone afterwards.
    pub fn run<T>(context: &Context<'_>, work: impl FnOnce(&Pool) -> T) -> T {
        let cores = std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
        let workers = cores.min(16);
        let (jobs, queue) = crossbeam_channel::unbounded();
        let (fetches, to_fetch) = crossbeam_channel::unbounded();
        // as many as the workers take next wait here, and no more
        let (fetched, to_open) = crossbeam_channel::bounded(workers);
        let store = &**context.repository.store();
        let fetchers = Some(at_once(store).min(FETCHES)).filter(|fetchers| *fetchers > 1);
        let pool = Pool { jobs, fetches: fetchers.map(|_| fetches) };
        std::thread::scope(|scope| {
            for _ in 0..fetchers.unwrap_or(0) {
                let (to_fetch, fetched) = (to_fetch.clone(), fetched.clone());
                scope.spawn(move || fetch_ranges(context, &to_fetch, &fetched));
            }
            drop(fetched);
            for _ in 0..workers {
                let (queue, to_open) = (queue.clone(), to_open.clone());
                scope.spawn(move || take_jobs(context, &queue, &to_open));
            }
            // when those that work are gone, so are their jobs
            drop((queue, to_open, to_fetch));
            let result = work(&pool);
            drop(pool);
            result
        })
    }

    pub fn send(&self, job: Job, group: &Group) {
        *lock(&group.0.0) += 1;
        let done = Done(group.clone());
        let to = match (&self.fetches, &job) {
            (Some(fetches), Job::Fetch(_)) => fetches,
            _ => &self.jobs,
        };
        // the other end lives as long as the pool
        let _ = to.send(Ticket { job, answer: None, done });
    }
}

fn lock(mutex: &Mutex<usize>) -> MutexGuard<'_, usize> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Counts a job as done even if it panicked, so that nobody waits for ever.
struct Done(Group);

impl Drop for Done {
    fn drop(&mut self) {
        *lock(&self.0.0.0) -= 1;
        self.0.0.1.notify_all();
    }
}

/// What those that only fetch do.
fn fetch_ranges(context: &Context<'_>, queue: &Receiver<Ticket>, fetched: &Sender<Ticket>) {
    for mut ticket in queue {
        if let Job::Fetch(job) = &ticket.job
            && !context.is_stopped()
        {
            ticket.answer = Some(get(context, job));
        }
        // the workers live until this ends
        let _ = fetched.send(ticket);
    }
}

fn get(context: &Context<'_>, job: &FetchJob) -> Answer {
    context.repository.store().get_range(&pack_key(job.toc.pack), job.offset, job.length)
}

/// The next thing to do; what was fetched waits for nothing else. Nothing when
/// there will be no more.
fn next_ticket(queue: &Receiver<Ticket>, fetched: &Receiver<Ticket>) -> Option<Ticket> {
    crossbeam_channel::select_biased! {
        recv(fetched) -> ticket => ticket.or_else(|_| queue.recv()),
        recv(queue) -> ticket => ticket.or_else(|_| fetched.recv()),
    }
    .ok()
}

fn take_jobs(context: &Context<'_>, queue: &Receiver<Ticket>, fetched: &Receiver<Ticket>) {
    while let Some(Ticket { job, answer, done }) = next_ticket(queue, fetched) {
        let _done = done;
        if context.is_stopped() {
            continue;
        }
        let result = match job {
            Job::Fetch(job) => {
                let answer = answer.unwrap_or_else(|| get(context, &job));
                write_range(context, job, answer)
            }
            Job::Rescue(wants) => rescue_all(context, wants),
            Job::Compare(wants, reply) => {
                let _ = reply.send(compare(context, wants));
                Ok(())
            }
            Job::Finish(files) => {
                files.iter().for_each(|file| file.finish(context));
                Ok(())
            }
        };
        if let Err(error) = result {
            context.fail(error);
        }
    }
}

fn settle(context: &Context<'_>, file: &FileJob) {
    if file.settle(1) {
        file.finish(context);
    }
}

fn write_range(context: &Context<'_>, job: FetchJob, answer: Answer) -> Result<()> {
    let bytes = match answer.map_err(Error::from) {
        Ok(bytes) => bytes,
        // gone or cut short: block by block, from wherever it still is
        Err(error) if error.kind == ErrorKind::Damage => {
            let wants = job.blocks.into_iter().flat_map(|block| block.chunks);
            return rescue_all(context, wants.map(|(_, want)| want).collect());
        }
        Err(error) => return Err(error),
    };
    let mut bytes = mutable(bytes);
    for block in job.blocks {
        if context.is_stopped() {
            return Ok(());
        }
        match open(context.repository, &job.toc, job.offset, &mut bytes, block.block) {
            Ok(raw) => write_block(context, &job.toc, &block, &raw)?,
            // the same block first: it may have been altered on its way only
            Err(error) if error.kind == ErrorKind::Damage => {
                rescue_all(context, block.chunks.into_iter().map(|(_, want)| want).collect())?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Opens one block of a fetched range, where it lies if it can be.
pub(super) fn open<'f>(
    repository: &Repository,
    toc: &PackToc,
    fetched_from: u64,
    fetched: &'f mut [u8],
    at: usize,
) -> Result<Cow<'f, [u8]>> {
    let missing = || Error::damage(format!("{}: no such block", pack_key(toc.pack)));
    let block = toc.toc.blocks.get(at).ok_or_else(missing)?;
    let offset = toc.offsets.get(at).and_then(|offset| offset.checked_sub(fetched_from));
    let start = offset.ok_or_else(missing)? as usize;
    let end = start + block.stored_length as usize;
    let stored = fetched.get_mut(start..end).ok_or_else(missing)?;
    repository.open_block(toc, block, stored)
}

/// Verifies the wanted chunks of a decoded block, each once, and hands them on.
fn write_block(context: &Context<'_>, toc: &PackToc, block: &BlockWant, raw: &[u8]) -> Result<()> {
    let first = toc.first_ordinals.get(block.block).map_or(0, |first| *first as usize);
    let (mut ordinal, mut start) = (first, 0);
    let mut verified = None;
    for (wanted, want) in &block.chunks {
        let wanted = usize::from(*wanted);
        while ordinal < wanted {
            start += toc.toc.chunks.get(ordinal).map_or(0, |chunk| chunk.length as usize);
            ordinal += 1;
        }
        let bytes = raw.get(start..start + want.length as usize).unwrap_or_default();
        if verified != Some(wanted) {
            if context.repository.keyring().chunk_id(ChunkKind::Data, bytes)? != want.id {
                rescue_all(context, vec![want.clone()])?;
                continue;
            }
            verified = Some(wanted);
        }
        want.file.deliver(context, want.offset, bytes);
        settle(context, &want.file);
    }
    Ok(())
}

/// Chunk by chunk, from any place that has it. What no place has is damage to
/// the files that need it, and to nothing else.
fn rescue_all(context: &Context<'_>, wants: Vec<Want>) -> Result<()> {
    let mut last: Option<(ChunkId, std::result::Result<Vec<u8>, String>)> = None;
    for want in wants {
        if context.is_stopped() {
            return Ok(());
        }
        if last.as_ref().is_none_or(|(id, _)| *id != want.id) {
            let found = match context.elsewhere.rescue(&want.id) {
                Ok(bytes) => Ok(bytes),
                Err(error) if error.kind == ErrorKind::Damage => Err(error.message),
                Err(error) => return Err(error),
            };
            last = Some((want.id, found));
        }
        let length = u64::from(want.length);
        match &last {
            Some((_, Ok(bytes))) if bytes.len() as u64 == length => {
                want.file.deliver(context, want.offset, bytes);
            }
            Some((_, Err(reason))) => {
                want.file.lose(want.offset, length, Trouble::Damage(reason.clone()));
            }
            _ => {
                let reason = format!("chunk {} has another length", want.id);
                want.file.lose(want.offset, length, Trouble::Damage(reason));
            }
        }
        settle(context, &want.file);
    }
    Ok(())
}

/// All wants are of one file.
fn compare(context: &Context<'_>, wants: Vec<Want>) -> Result<Vec<Want>> {
    let Some(first) = wants.first() else { return Ok(wants) };
    let Ok(file) = context.target().and_then(|target| target.read_file(&first.file.path)) else {
        return Ok(wants);
    };
    let mut different = Vec::new();
    for want in wants {
        context.check_running()?;
        if holds_chunk(context, &file, want.offset, want.length, &want.id)? {
            let length = u64::from(want.length);
            context.tally.update(|report| report.bytes_kept += length);
            want.file.tell(context, length);
            want.file.settle(1);
        } else {
            different.push(want);
        }
    }
    Ok(different)
}
