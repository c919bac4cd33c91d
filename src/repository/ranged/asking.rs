//! Which of the segments that are not loaded know an id.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use super::SHARE;
use super::remote::{Failure, Got, Remote, Rows, sort};
use crate::format::segment::{self, PackRow};
use crate::id::{ChunkId, PackId, SegmentId, WriterId};
use crate::repository::Repository;
use crate::repository::error::Result;
use crate::store::ask_all;

/// Segments asked first: those that answered last, then the short ones. Then
/// twice as many each time.
const FIRST_ASKED: usize = 4;
/// Opened look-up pieces in memory, 77 KiB each at most.
const PIECES_KEPT: usize = 256;

type PieceName = (SegmentId, usize);

#[derive(Default)]
pub(super) struct Segments {
    /// Who answered last comes first; before any did, the short ones, which cost
    /// little: what was put lately is in them, for nobody merged them yet.
    pub remotes: Vec<Arc<Remote>>,
    /// Bytes of all segments that are not here whole.
    pub missing_bytes: u64,
    /// Bytes got of them so far.
    pub spent: u64,
    pieces: HashMap<PieceName, Arc<Rows>>,
    /// Some directory could not be read.
    pub unreadable: bool,
    /// A segment vanished since they were listed.
    pub stale: bool,
}

pub(super) enum Answer {
    /// Found; or all were asked, and none has it.
    Done,
    /// Segments vanished: list them again.
    Stale,
    /// Something could not be read, or it costs too much: get all.
    GetAll,
}

/// What asking some segments came to.
#[derive(Default)]
struct Asked {
    /// Segments that name a pack for the id.
    answered: HashSet<SegmentId>,
    unclear: bool,
}

impl Segments {
    pub fn new(missing_bytes: u64, spent: u64) -> Segments {
        Segments { missing_bytes, spent, ..Segments::default() }
    }

    fn is_too_dear(&self) -> bool {
        self.spent > self.missing_bytes / SHARE
    }

    /// Asks one segment after the other, several at once, until one knows the
    /// id; or all of them.
    pub fn ask(&mut self, repository: &Repository, id: &ChunkId, all: bool) -> Result<Answer> {
        let most = repository.store.concurrency().max(1);
        if self.unreadable {
            // who vouches for a pack may stand in what cannot be read
            return Ok(Answer::GetAll);
        }
        let (mut at, mut step) = (0, FIRST_ASKED.min(most));
        let mut unclear = false;
        while at < self.remotes.len() {
            if self.is_too_dear() {
                return Ok(Answer::GetAll);
            }
            let end = (at + step).min(self.remotes.len());
            let asked = self.ask_some(repository, id, at..end)?;
            unclear |= asked.unclear;
            if !asked.answered.is_empty() {
                self.remotes[..end].sort_by_key(|remote| !asked.answered.contains(&remote.id));
                if !all && !repository.index.places(id)?.is_empty() {
                    return Ok(Answer::Done);
                }
            }
            (at, step) = (end, (step * 2).min(most));
        }
        Ok(match (self.stale, unclear) {
            (true, _) => Answer::Stale,
            (false, true) => Answer::GetAll,
            (false, false) => Answer::Done,
        })
    }

    /// Asks some segments at once for an id, and adds the packs they name to the
    /// index.
    fn ask_some(
        &mut self,
        repository: &Repository,
        id: &ChunkId,
        range: Range<usize>,
    ) -> Result<Asked> {
        let prefix = segment::prefix(id);
        let remotes: Vec<_> = self.remotes.get(range).unwrap_or_default().to_vec();
        let mut asked = Asked::default();
        let mut wanted = BTreeMap::new();
        for (remote, rows) in self.pieces_of(repository, &remotes, prefix, &mut asked)? {
            let first = rows.partition_point(|row| row.0 < prefix);
            let rows = rows.iter().skip(first).take_while(|row| row.0 == prefix);
            for (_, at) in rows {
                let Some(row) = remote.directory.packs.get(*at as usize) else { continue };
                if repository.index.is_removed(row.id)? {
                    continue;
                }
                asked.answered.insert(remote.id);
                wanted.entry(row.id).or_insert((remote.clone(), *at as usize, *row));
            }
        }
        wanted.retain(|_, (_, _, row)| {
            !repository.index.has_frame(row.id, row.length, row.frame_hash)
        });
        let wanted: Vec<_> = wanted.into_values().collect();
        // what segments do not agree on is settled when they are loaded
        let disputed = |row: &PackRow| {
            repository.index.pack_number(row.id).is_some()
                || self.listers(row.id).any(|(_, other)| other != row)
        };
        if wanted.iter().any(|(_, _, row)| disputed(row)) {
            asked.unclear = true;
            return Ok(asked);
        }
        let fetched = ask_all(repository.store.concurrency(), &wanted, &|(remote, at, row)| {
            remote.fetch_pack(repository, *at, self.best_lister(repository, row.id, remote.signer))
        });
        for ((remote, _, row), pack) in wanted.iter().zip(fetched) {
            if let Some(pack) = self.sorted(pack, &mut asked)? {
                self.spent += u64::from(row.frame_length);
                repository.index.add_partial(&remote.told(&[], &[], &[pack]))?;
                for (other, _) in self.listers(row.id).filter(|(other, _)| other.id != remote.id) {
                    repository.index.add_partial(&other.told(&[], &[row.id], &[]))?;
                }
            }
        }
        Ok(asked)
    }

    /// The pieces of some segments that may tell of a prefix.
    fn pieces_of(
        &mut self,
        repository: &Repository,
        remotes: &[Arc<Remote>],
        prefix: [u8; 6],
        asked: &mut Asked,
    ) -> Result<Vec<(Arc<Remote>, Arc<Rows>)>> {
        let (mut found, mut wanted) = (Vec::new(), Vec::new());
        for remote in remotes {
            for at in remote.directory.pieces_with(prefix) {
                match self.pieces.get(&(remote.id, at)) {
                    Some(rows) => found.push((remote.clone(), rows.clone())),
                    None => wanted.push((remote.clone(), at)),
                }
            }
        }
        let threads = repository.store.concurrency();
        let fetched =
            ask_all(threads, &wanted, &|(remote, at)| remote.fetch_piece(repository, *at));
        if self.pieces.len() + wanted.len() > PIECES_KEPT {
            // ids have no order: none of them is likelier to be asked again
            self.pieces.clear();
        }
        for ((remote, at), rows) in wanted.into_iter().zip(fetched) {
            if let Some(rows) = self.sorted(rows, asked)? {
                let rows = Arc::new(rows);
                self.spent +=
                    remote.directory.pieces.get(at).map_or(0, |p| p.sealed_length() as u64);
                self.pieces.insert((remote.id, at), rows.clone());
                found.push((remote, rows));
            }
        }
        Ok(found)
    }

    /// What was got of a segment, if anything; notes what is wrong with it.
    fn sorted<T>(
        &mut self,
        result: std::result::Result<T, Failure>,
        asked: &mut Asked,
    ) -> Result<Option<T>> {
        match sort(result)? {
            Got::It(it) => return Ok(Some(it)),
            Got::Gone => self.stale = true,
            Got::Unreadable(_) => asked.unclear = true,
        }
        Ok(None)
    }

    /// Segments that list a pack, with what they say of it.
    fn listers(&self, pack: PackId) -> impl Iterator<Item = (&Arc<Remote>, &PackRow)> {
        self.remotes
            .iter()
            .filter_map(move |remote| remote.directory.pack(pack).map(|row| (remote, row)))
    }

    /// On whose word a pack is listed: a maintainer's in force, if there is one.
    fn best_lister(&self, repository: &Repository, pack: PackId, other: WriterId) -> WriterId {
        let mut signers = self.listers(pack).map(|(remote, _)| remote.signer);
        signers.find(|signer| repository.trust.standing(*signer).may_maintain()).unwrap_or(other)
    }
}
