//! The bytes of packs, all of them: the pack's hash is its name, its table is the
//! one in the index, every block's bytes have the hash the table says, and with
//! the keys for it every block opens and every chunk is the one it is named.

use std::collections::{BTreeSet, HashSet};
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::Subset;
use super::objects::unreadable;
use super::packs::Packs;
use super::pieces::{Pieces, Source};
use super::report::Findings;
use crate::crypto::random;
use crate::format::FormatError;
use crate::format::pack::{
    Block, HEADER_LENGTH, MAX_PACK, PackKind, TocFrame, pack_key, pack_of_key, parse_header,
};
use crate::id::PackId;
use crate::progress::{Event, Progress};
use crate::repository::blocks::mutable;
use crate::repository::index::{PackNumber, PackToc};
use crate::repository::{Error, Repository, Result};
use crate::store::{ErrorKind as StoreKind, Listed, Reading, StoreError, read_many};

/// Bytes of packs in memory at once where they are fetched whole, besides one
/// decoded block a thread.
const BUDGET_BYTES: u64 = 64 << 20;
/// Packs read at once.
const MAX_THREADS: usize = 8;

struct DataCheck<'a> {
    repository: &'a Repository,
    findings: &'a Findings,
    progress: &'a dyn Progress,
    marked: &'a BTreeSet<PackId>,
    damaged: Mutex<Vec<(PackNumber, HashSet<u32>, bool)>>,
    error: Mutex<Option<Error>>,
}

/// Reads the chosen packs, and those that marks call damaged in any case, and
/// adds what is damaged to `packs`.
pub(super) fn check(
    repository: &Repository,
    subset: Option<Subset>,
    marked: &BTreeSet<PackId>,
    packs: &mut Packs<'_>,
    findings: &Findings,
    progress: &dyn Progress,
) -> Result<()> {
    let all: Vec<_> = packs.listed.iter().map(|(id, length)| (*id, *length)).collect();
    let mut chosen = subset.map_or(Vec::new(), |subset| choose(subset, all));
    tell_unproven(repository, subset, (chosen.len(), packs.listed.len()), findings);
    let more = marked.iter().filter_map(|id| Some((*id, *packs.listed.get(id)?)));
    chosen.extend(more.collect::<Vec<_>>());
    chosen.sort_unstable();
    chosen.dedup();
    if chosen.is_empty() {
        return Ok(());
    }
    let listed: Vec<Listed> =
        chosen.iter().map(|(id, length)| Listed { key: pack_key(*id), length: *length }).collect();
    progress.event(Event::Stage("reading packs"));
    // pages are not looked at again
    repository.blocks.clear();
    let bytes = listed.iter().map(|listed| listed.length).sum();
    progress.event(Event::Expect { files: listed.len() as u64, bytes });
    let check = DataCheck {
        repository,
        findings,
        progress,
        marked,
        damaged: Mutex::default(),
        error: Mutex::default(),
    };
    check.all(&listed)?;
    if let Some(error) = check.error.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let damaged = check.damaged.into_inner().unwrap_or_else(PoisonError::into_inner);
    for (number, blocks, unsound) in damaged {
        packs.add_blocks(number, blocks);
        if unsound {
            packs.add_unsound(number);
        }
    }
    Ok(())
}

fn tell_unproven(
    repository: &Repository,
    subset: Option<Subset>,
    (read, all): (usize, usize),
    findings: &Findings,
) {
    if subset.is_none() {
        return findings.unproven("bytes of packs were not read: --read-data does that");
    }
    if read < all {
        findings.unproven(&format!("only {read} of {all} packs were read"));
    }
    if !repository.keyring().may_read_content() {
        let role = repository.keyring().role.name();
        findings.unproven(&format!(
            "a {role} key cannot open blocks of data and names: their stored bytes were compared \
             with their hashes, and that they open was not seen"
        ));
    }
}

/// The packs of a subset. The n-th of m parts is told by the pack's own name, so
/// that m runs read every pack, whatever is added meanwhile.
fn choose(subset: Subset, mut packs: Vec<(PackId, u64)>) -> Vec<(PackId, u64)> {
    packs.sort_unstable();
    match subset {
        Subset::All => {}
        Subset::Fraction(n, m) => packs.retain(|(id, _)| {
            let mut first = [0; 8];
            first.copy_from_slice(&id.0[..8]);
            u64::from_be_bytes(first) % u64::from(m.max(1)) + 1 == u64::from(n)
        }),
        Subset::Percent(percent) => {
            let seed = random();
            packs.sort_by_cached_key(|(id, _)| *blake3::keyed_hash(&seed, &id.0).as_bytes());
            let count = (packs.len() as f64 * percent / 100.0).ceil() as usize;
            packs.truncate(count);
        }
    }
    packs
}

/// Why a pack was not read to its end.
enum Failure {
    Store(StoreError),
    /// The check cannot go on.
    Fatal(Error),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure::Store(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Fatal(error)
    }
}

/// What was seen of a pack in the index.
struct Seen {
    table: std::result::Result<(), FormatError>,
    /// Blocks that are not what they should be.
    blocks: Vec<(u32, Error)>,
}

impl DataCheck<'_> {
    /// Reads all of them: on this machine a block at a time, which is still in the
    /// processor's cache for all that is done with it; from elsewhere each with one
    /// request.
    fn all(&self, listed: &[Listed]) -> Result<()> {
        let store = &**self.repository.store();
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let threads = threads.clamp(2, MAX_THREADS);
        if store.local_path().is_none() {
            let reading = Reading { threads, budget_bytes: BUDGET_BYTES, max_length: MAX_PACK };
            read_many(store, listed, reading, &|listed, read| {
                self.pack(listed, read.map(|bytes| Source::Whole(mutable(bytes))))
            });
            return Ok(());
        }
        let read = |listed: &Listed| {
            let (key, length) = (&listed.key, listed.length);
            let too_large = || StoreError::new(StoreKind::TooLarge, store.url(), key);
            let fits = (length <= MAX_PACK).then_some(Source::Store(store, key, length));
            self.pack(listed, fits.ok_or_else(too_large))
        };
        // one after the other off a common list: the last are not left to one thread
        let packs = listed.par_iter().with_max_len(1);
        let _ = super::pool(threads)?.install(|| packs.try_for_each(read));
        Ok(())
    }

    fn stop(&self, error: Error) -> ControlFlow<()> {
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        ControlFlow::Break(())
    }

    fn damaged(&self, number: PackNumber, blocks: HashSet<u32>, unsound: bool) {
        let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        damaged.push((number, blocks, unsound));
    }

    /// A pack that the store does not give.
    fn unreadable(&self, id: PackId, number: Option<PackNumber>, error: StoreError) -> Result<()> {
        let Some(number) = number else {
            return unreadable(&pack_key(id), error, self.findings);
        };
        match error.kind() {
            StoreKind::Temporary | StoreKind::Permission | StoreKind::Absent => {
                return Err(error.into());
            }
            StoreKind::TooLarge => {
                self.findings.about_pack(id, "is longer than any pack may be", None);
            }
            // a sector that cannot be read is damage like any other
            _ => self.findings.about_pack(id, &format!("cannot be read: {error}"), None),
        }
        let blocks = self.repository.index().toc(number)?.toc.blocks.len() as u32;
        self.damaged(number, (0..blocks).collect(), true);
        Ok(())
    }

    fn pack(
        &self,
        listed: &Listed,
        source: std::result::Result<Source<'_>, StoreError>,
    ) -> ControlFlow<()> {
        if self.progress.interrupted() {
            return self.stop(Error::interrupted());
        }
        let Some(id) = pack_of_key(&listed.key) else { return ControlFlow::Continue(()) };
        let number = self.repository.index().pack_number(id);
        let read = source
            .map_err(Failure::Store)
            .and_then(|source| self.read(id, number, &mut Pieces::new(source)));
        let result = match read {
            // a prune may have taken it since; if it should be there, the next
            // look at the structure says so
            Err(Failure::Store(error)) if error.kind() == StoreKind::NotFound => Ok(()),
            Err(Failure::Store(error)) => self.unreadable(id, number, error),
            Err(Failure::Fatal(error)) => Err(error),
            Ok(()) => {
                self.findings.count(|counts| {
                    counts.packs_read += 1;
                    counts.bytes_read += listed.length;
                });
                self.progress.event(Event::Done { files: 1, bytes: listed.length });
                Ok(())
            }
        };
        match result {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => self.stop(error),
        }
    }

    fn read(
        &self,
        id: PackId,
        number: Option<PackNumber>,
        pack: &mut Pieces<'_>,
    ) -> std::result::Result<(), Failure> {
        let misnamed = "its bytes do not match its name";
        let Some(number) = number else {
            if pack.hash()? != id.0 {
                let what = format!("{misnamed}; no segment lists it, so nothing relies on it");
                self.findings.note(&pack_key(id), &what, Some("PACK-6"));
            }
            return Ok(());
        };
        let seen = self.look(number, pack)?;
        let named_right = pack.hash()? == id.0;
        if !named_right {
            self.findings.about_pack(id, misnamed, Some("PACK-6"));
        }
        if let Err(error) = &seen.table {
            self.findings.pack_format(id, error);
        }
        let mut blocks = HashSet::new();
        for (at, error) in seen.blocks {
            let what = error.message.strip_prefix(&format!("{}: ", pack_key(id)));
            self.findings.about_pack(id, what.unwrap_or(&error.message), None);
            blocks.insert(at);
        }
        if !named_right || seen.table.is_err() || !blocks.is_empty() {
            let unsound = seen.table.is_err() || blocks.is_empty();
            self.damaged(number, blocks, unsound);
        } else if self.marked.contains(&id) {
            let what = "is marked as damaged, but its bytes are what they should be";
            self.findings.note(&pack_key(id), what, None);
        }
        Ok(())
    }

    /// Reads a pack in the index from its beginning to its end.
    fn look(
        &self,
        number: PackNumber,
        pack: &mut Pieces<'_>,
    ) -> std::result::Result<Seen, Failure> {
        let length = pack.left();
        // first, since a prune takes a pack and its table in the cache together
        let mut outside = pack.next(HEADER_LENGTH)?.unwrap_or_default();
        let toc = self.repository.index().toc(number)?;
        let mut blocks = Vec::new();
        let mut cut_off = false;
        for (at, block) in toc.toc.blocks.iter().enumerate() {
            super::stop_if_interrupted(self.progress)?;
            let mut stored = match cut_off {
                true => None,
                false => pack.next(block.stored_length as usize)?,
            };
            cut_off = stored.is_none();
            if let Some(error) = self.block(&toc, at, stored.as_deref_mut())? {
                blocks.push((at as u32, error));
            }
        }
        // padding, of which there may be any amount
        pack.skip_to_last(toc.toc.frame_length())?;
        outside.unsplit(pack.rest()?);
        Ok(Seen { table: self.table(&toc, length, &outside), blocks })
    }

    /// Header and table of a pack of `length` bytes against the index. `outside` is
    /// its beginning and its end.
    fn table(
        &self,
        indexed: &PackToc,
        length: u64,
        outside: &[u8],
    ) -> std::result::Result<(), FormatError> {
        let (kind, birth) = parse_header(outside)?;
        if (kind, birth) != (indexed.toc.kind, indexed.toc.birth) {
            return Err(FormatError::new("PACK-1", "its header is of another pack"));
        }
        let blocks: u64 = indexed.toc.blocks.iter().map(|b| u64::from(b.stored_length)).sum();
        let around = HEADER_LENGTH + indexed.toc.frame_length();
        if blocks + around as u64 > length {
            return Err(FormatError::new("PACK-6", "is too short for its blocks and its table"));
        }
        let frame = TocFrame::of_pack(outside)?;
        let start = outside.len().saturating_sub(frame.footer.frame_length());
        let frame = outside.get(start..).unwrap_or_default();
        let id = indexed.pack;
        let listed_by = self.repository.index().lister(id, self.repository.trust());
        let listed_by = listed_by.ok_or_else(|| FormatError::new("PACK-10", "is not indexed"))?;
        let own = self.repository.read_frame(id, length, frame, listed_by)?;
        if own.toc.toc != indexed.toc {
            return Err(FormatError::new("PACK-10", "its table is not the one in the index"));
        }
        Ok(())
    }

    /// What is wrong with one block, if anything is. It is opened where it lies.
    fn block(&self, toc: &PackToc, at: usize, stored: Option<&mut [u8]>) -> Result<Option<Error>> {
        let Some(block) = toc.toc.blocks.get(at) else { return Ok(None) };
        let key = pack_key(toc.pack);
        let Some(stored) = stored else {
            return Ok(Some(Error::damage(format!("{key}: block {at} is cut off"))));
        };
        if !self.opens(toc, block) {
            let right = blake3::hash(stored).as_bytes()[..16] == block.stored_hash;
            let message = || format!("{key}: block {at}: its bytes are damaged [PACK-7]");
            return Ok((!right).then(|| Error::damage(message())));
        }
        let raw = match self.repository.open_block(toc, block, stored) {
            Ok(raw) => raw,
            Err(error) if super::ends_check(&error) => return Err(error),
            Err(error) => return Ok(Some(error)),
        };
        let first = toc.first_ordinals.get(at).copied().unwrap_or_default();
        let mut rest = &raw[..];
        for ordinal in first..first.saturating_add(block.chunks) {
            let chunk = toc.toc.chunks.get(ordinal as usize);
            let cut = chunk.and_then(|chunk| rest.split_at_checked(chunk.length as usize));
            let right = match (chunk, cut) {
                (Some(chunk), Some((bytes, after))) => {
                    rest = after;
                    self.repository.keyring().chunk_id(block.kind, bytes)? == chunk.id
                }
                _ => false,
            };
            if !right {
                let what = format!("{key}: block {at}: a chunk is not the one it is said to be");
                return Ok(Some(Error::damage(what)));
            }
        }
        Ok(None)
    }

    /// Whether this key opens such blocks and can name their chunks.
    fn opens(&self, toc: &PackToc, block: &Block) -> bool {
        let keyring = self.repository.keyring();
        let session = toc.toc.sessions.get(usize::from(block.session));
        let opens = match toc.toc.kind {
            PackKind::Refs => true,
            _ => session.is_some_and(|session| keyring.content_private(session.epoch).is_ok()),
        };
        opens && keyring.id_key(block.kind).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_every_pack_once_and_percentages_count() {
        let packs: Vec<(PackId, u64)> =
            (0..100u8).map(|n| (PackId(*blake3::hash(&[n]).as_bytes()), 1)).collect();
        let mut covered: Vec<_> =
            (1..=7).flat_map(|n| choose(Subset::Fraction(n, 7), packs.clone())).collect();
        covered.sort_unstable();
        assert_eq!(covered, choose(Subset::All, packs.clone()));
        assert_eq!(choose(Subset::Percent(9.5), packs.clone()).len(), 10);
        assert_eq!(choose(Subset::Percent(0.0), packs.clone()).len(), 0);
        assert_eq!(choose(Subset::Percent(100.0), packs).len(), 100);
    }
}
