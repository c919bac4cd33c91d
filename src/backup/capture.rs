//! Captures a stream source on a thread of its own, beside the walk: cuts what it gives, has long pieces hashed by the
//! workers, and keeps the finished entries until their place in the tree comes.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::content::{ContentBuilder, PageStore, note};
use super::context::Context;
use super::cut::{Buffers, PIECE, cut_stream};
use super::read::{Gather, bare_entry, cut_small};
use super::spool::Spool;
use super::stream::{Attentive, Sink, StreamSource};
use super::work::{Cut, Job, Part, Planned};
use crate::crypto::{SecretKey, keys};
use crate::format::ChunkKind;
use crate::format::content::Content;
use crate::format::entry::{Entry, EntryKind, Metadata, display_key, key_is_valid};
use crate::progress::Event;
use crate::repository::known::Used;
use crate::repository::{Error, Result};

/// Pieces of one stream under way at once.
const WINDOW: u64 = 16;
/// Chunks whose places are not known yet, from which on it is looked where they came to lie.
const UNPLACED: usize = 1 << 16;
/// How soon a capture sees that the run has ended.
const PATIENCE: Duration = Duration::from_millis(200);
/// Link groups of streams; the walk's are numbers of inodes.
const OF_A_STREAM: u64 = 1 << 63;

/// What a source gave: nothing of it counts when it failed.
pub struct Captured {
    pub name: String,
    pub outcome: std::result::Result<(Spool, Used), String>,
}

/// Runs a source to its end.
pub fn capture(
    context: &Context<'_>,
    source: StreamSource,
    jobs: Sender<(u64, Job)>,
) -> Result<Captured> {
    let name = source.name;
    let mut capture = Capture {
        context,
        name: name.clone().into_bytes(),
        jobs,
        data: Gather::new(context, ChunkKind::Data),
        pages: RefCell::new(PageStore::new(context)),
        cut: keys::page_cut(context.repository.keyring().chunker_key()?),
        spool: Spool::new()?,
        fatal: None,
    };
    let outcome = (source.capture)(&mut capture);
    let Capture { mut data, pages, spool, fatal, .. } = capture;
    // chunks of a source that failed are claimed as well: others rely on them
    data.flush()?;
    let used = pages.into_inner().finish()?;
    if let Some(error) = fatal {
        return Err(error);
    }
    if context.progress.interrupted() {
        // Ctrl-C ends the other side of a pipe too: its end is not the stream's
        return Err(Error::interrupted());
    }
    context.check_abort()?;
    Ok(Captured { name, outcome: outcome.map(|()| (spool, used)) })
}

struct Capture<'a> {
    context: &'a Context<'a>,
    name: Vec<u8>,
    jobs: Sender<(u64, Job)>,
    data: Gather<'a>,
    pages: RefCell<PageStore<'a>>,
    cut: SecretKey,
    spool: Spool,
    /// What ends the run, whatever the source says.
    fatal: Option<Error>,
}

impl Capture<'_> {
    fn key(&self, path: &[u8]) -> io::Result<Vec<u8>> {
        let mut key = self.name.clone();
        if !path.is_empty() {
            key.push(0);
            key.extend(path.iter().map(|byte| if *byte == b'/' { 0 } else { *byte }));
        }
        match key_is_valid(&key) && !path.contains(&0) {
            true => Ok(key),
            false => {
                let path = String::from_utf8_lossy(path);
                let reason = format!("{path:?} is no path that a snapshot can hold");
                Err(io::Error::new(io::ErrorKind::InvalidInput, reason))
            }
        }
    }

    /// What keeps the whole run from going on is remembered as that.
    fn run<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> io::Result<T> {
        work(self).map_err(|error| {
            let told = io::Error::other(error.to_string());
            self.fatal.get_or_insert(error);
            told
        })
    }

    fn put(
        &mut self,
        key: Vec<u8>,
        kind: EntryKind,
        metadata: Metadata,
        content: Content,
    ) -> Result<()> {
        let (mut entry, attributes) =
            bare_entry(&mut self.data, &mut Planned::captured(key, kind, metadata), false)?;
        let used = &mut self.pages.borrow_mut().used;
        attributes.iter().for_each(|part| note(used, part));
        place(self.context, used)?;
        entry.content = content;
        self.spool.put(&entry)
    }

    /// Reads a file's bytes to their end. The inner error is the reader's.
    fn content(&mut self, reader: &mut dyn Read) -> Result<io::Result<(Content, u64)>> {
        let (context, mut begun) = (self.context, Vec::new());
        let over = || context.progress.interrupted() || context.check_abort().is_err();
        let reader: &mut dyn Read = &mut Attentive { reader, over: &over };
        if let Err(error) = (&mut *reader).take(PIECE as u64).read_to_end(&mut begun) {
            return Ok(Err(error));
        }
        if begun.len() == PIECE {
            return self.long(begun, reader);
        }
        let mut content = ContentBuilder::new(&self.pages, &self.cut, false);
        for part in cut_small(&mut self.data, &begun)? {
            content.add(&part)?;
        }
        let size = content.size;
        let event = Event::Done { files: 0, bytes: size };
        self.context.progress.event(event);
        Ok(Ok((content.finish()?.0, size)))
    }

    /// Lets the workers hash and store one piece after another, and takes the results in order.
    fn long(&self, begun: Vec<u8>, reader: &mut dyn Read) -> Result<io::Result<(Content, u64)>> {
        let (reply, replies) = crossbeam_channel::unbounded();
        let mut pieces = Pieces { waiting: BTreeMap::new(), sent: 0, next: 0 };
        let mut content = ContentBuilder::new(&self.pages, &self.cut, false);
        let read = cut_stream(
            self.context,
            &mut Buffers::default(),
            begun,
            reader,
            &mut |buffer: Arc<Vec<u8>>, cuts: Vec<Cut>| {
                let job = Job::Piece { buffer, cuts, reply: Some(reply.clone()) };
                self.jobs.send((pieces.sent, job)).map_err(|_| self.context.aborted())?;
                pieces.sent += 1;
                pieces.take(self.context, &replies, WINDOW, &mut content)
            },
        )?;
        if let Err(error) = read {
            return Ok(Err(error));
        }
        pieces.take(self.context, &replies, 0, &mut content)?;
        let size = content.size;
        Ok(Ok((content.finish()?.0, size)))
    }
}

/// Keeps what is noted of the chunks small: where they lie is shorter than their names.
fn place(context: &Context<'_>, used: &mut Used) -> Result<()> {
    if used.unplaced() < UNPLACED { Ok(()) } else { used.resolve(context.packer, &context.known) }
}

/// Pieces of one stream that the workers have.
struct Pieces {
    waiting: BTreeMap<u64, Vec<Part>>,
    sent: u64,
    next: u64,
}

impl Pieces {
    /// Takes results until at most so many pieces are under way.
    fn take(
        &mut self,
        context: &Context<'_>,
        replies: &Receiver<(u64, Vec<Part>)>,
        left: u64,
        content: &mut ContentBuilder<'_, '_>,
    ) -> Result<()> {
        while self.sent - self.next > left {
            match replies.recv_timeout(PATIENCE) {
                Ok((number, parts)) => drop(self.waiting.insert(number, parts)),
                Err(RecvTimeoutError::Timeout) => context.check_abort()?,
                Err(RecvTimeoutError::Disconnected) => return Err(context.aborted()),
            }
            while let Some(parts) = self.waiting.remove(&self.next) {
                self.next += 1;
                parts.iter().try_for_each(|part| content.add(part))?;
            }
            place(context, &mut content.pages.borrow_mut().used)?;
        }
        Ok(())
    }
}

impl Sink for Capture<'_> {
    fn file(&mut self, path: &[u8], metadata: Metadata, reader: &mut dyn Read) -> io::Result<u64> {
        let key = self.key(path)?;
        let (content, size) = self.run(|capture| capture.content(reader))??;
        let metadata = Metadata { size, ..metadata };
        self.run(|capture| capture.put(key, EntryKind::File, metadata, content))?;
        self.context.progress.event(Event::Done { files: 1, bytes: 0 });
        Ok(size)
    }

    fn entry(&mut self, path: &[u8], kind: EntryKind, metadata: Metadata) -> io::Result<()> {
        let key = self.key(path)?;
        self.run(|capture| capture.put(key, kind, metadata, Content::Empty))
    }

    fn link(&mut self, path: &[u8], to: &[u8]) -> io::Result<()> {
        let (key, to_key) = (self.key(path)?, self.key(to)?);
        let target = self.run(|capture| capture.spool.get(&to_key))?;
        let Some(mut target) = target.filter(|target| target.kind == EntryKind::File) else {
            let to = String::from_utf8_lossy(to);
            let reason = format!("a hard link to {to:?}, which is no file before it");
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        };
        if key == to_key {
            return Ok(());
        }
        if target.link_group == 0 {
            let hash = blake3::hash(&to_key);
            let number =
                hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
            target.link_group = OF_A_STREAM | number;
            self.run(|capture| capture.spool.put(&target))?;
        }
        target.key = key;
        self.run(|capture| capture.spool.put(&target))
    }

    fn note(&mut self, path: &[u8], text: &str) {
        let path = match self.key(path) {
            Ok(key) => display_key(&key),
            Err(_) => path.to_vec(),
        };
        self.context.note(&path, text);
    }

    fn interrupted(&self) -> bool {
        self.context.progress.interrupted() || self.context.check_abort().is_err()
    }
}

/// Gives what a source gave in the order of the tree, directories that it left out included. What lies beneath
/// something that is no directory is left out.
pub fn in_order(
    context: &Context<'_>,
    name: &str,
    spool: &Spool,
    take: &mut dyn FnMut(Entry) -> Result<()>,
) -> Result<()> {
    let mut directories: BTreeSet<Vec<u8>> = BTreeSet::new();
    let mut any = false;
    let made = |key: &[u8]| {
        let time = context.started();
        let metadata = Metadata { mode: 0o755, mtime: time, ctime: time, ..Metadata::default() };
        Entry::new(key.to_vec(), EntryKind::Directory, metadata)
    };
    let mut others: Vec<u8> = Vec::new();
    spool.each(&mut |entry| {
        any = true;
        let beneath = |above: &[u8]| {
            entry.key.strip_prefix(above).is_some_and(|rest| rest.first() == Some(&0))
        };
        if !others.is_empty() && beneath(&others) {
            context
                .note(&display_key(&entry.key), "left out: it lies beneath what is no directory");
            return Ok(());
        }
        directories.retain(|directory| beneath(directory));
        let ends = entry.key.iter().enumerate().filter(|(_, byte)| **byte == 0);
        for (end, _) in ends {
            let above = &entry.key[..end];
            if !directories.contains(above) {
                take(made(above))?;
                directories.insert(above.to_vec());
            }
        }
        match entry.kind {
            EntryKind::Directory => drop(directories.insert(entry.key.clone())),
            _ => others.clone_from(&entry.key),
        }
        take(entry)
    })?;
    if any { Ok(()) } else { take(made(name.as_bytes())) }
}
