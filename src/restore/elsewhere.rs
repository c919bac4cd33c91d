//! Chunks whose first place failed: every other place that holds them is tried,
//! then the index is read again, for a prune may have moved them. Only then it
//! is damage.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::format::ChunkKind;
use crate::id::ChunkId;
use crate::repository::index::PackNumber;
use crate::repository::{Error, ErrorKind, Repository, Result};

/// How long an index that was just brought up to date is taken for that.
const SYNC_INTERVAL: Duration = Duration::from_secs(60);

pub(super) struct Elsewhere<'a> {
    repository: &'a Repository,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Blocks that failed: not asked for again for every chunk in them.
    bad_blocks: HashSet<(PackNumber, usize)>,
    synced: Option<Instant>,
}

impl<'a> Elsewhere<'a> {
    pub fn new(repository: &'a Repository) -> Elsewhere<'a> {
        Elsewhere { repository, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn note_bad_block(&self, pack: PackNumber, block: usize) {
        self.state().bad_blocks.insert((pack, block));
    }

    /// A chunk whose first place failed, from any other place: as known here,
    /// then after the index was read again, for a prune may have moved it.
    pub fn rescue(&self, id: &ChunkId) -> Result<Vec<u8>> {
        let mut trouble;
        loop {
            match self.rescue_once(id) {
                Err(error) if error.kind == ErrorKind::Damage => trouble = error,
                other => return other,
            }
            let mut state = self.state();
            if state.synced.is_some_and(|at| at.elapsed() < SYNC_INTERVAL) {
                break;
            }
            let looked_up = self.repository.looks_up();
            self.repository.look_again(id)?;
            // what was only looked up says nothing of other chunks
            state.synced = (!looked_up).then(Instant::now);
            state.bad_blocks.clear();
            if looked_up {
                break;
            }
        }
        // another thread may have brought the index up to date in between
        self.rescue_once(id).map_err(|error| match error.kind {
            ErrorKind::Damage => trouble,
            _ => error,
        })
    }

    fn rescue_once(&self, id: &ChunkId) -> Result<Vec<u8>> {
        let mut trouble = Error::damage(format!("chunk {id} is in no pack that can be read"));
        for place in self.repository.places(id)? {
            let block = self.repository.index().toc(place.pack)?.block_of(place.ordinal);
            if self.state().bad_blocks.contains(&(place.pack, block)) {
                continue;
            }
            match self.repository.chunk_at(place, id, ChunkKind::Data) {
                Ok(bytes) => return Ok(bytes),
                Err(error) if error.kind == ErrorKind::Damage => {
                    self.note_bad_block(place.pack, block);
                    trouble = error;
                }
                Err(error) => return Err(error),
            }
        }
        Err(trouble)
    }
}
