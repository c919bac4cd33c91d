//! An open repository: keys, the local index, packs written and read, snapshots
//! listed, and the commit protocol. Knows no sources, policies or terminal.
//!
//! | module | |
//! |---|---|
//! | `open` | make a repository, open it with a password or key |
//! | `keyring` | keys by purpose; what a writer's signature is worth |
//! | `updates` | config updates: load all, refuse an old state, merge |
//! | `local` | where this machine keeps its cache, and what it remembers |
//! | `index` | chunk → pack, in SQLite |
//! | `sync` | bring the index up to the listed segments |
//! | `ranged` | look ids up in segments that are not loaded |
//! | `coordinates` | sets of coordinates, and which packs hold them |
//! | `blocks` | read chunks: fetch, check, open, decode, verify |
//! | `pages` | walk trees of pages: entries, items, references |
//! | `known` | which chunks a run may build on, and those it uses |
//! | `neighbours` | chunks next to those found before |
//! | `translations` | which chunk here is which of another repository |
//! | `packer` | gather sealed blocks into packs and put them |
//! | `segments` | write index segments |
//! | `commit` | sessions, segments, manifest, commit check, confirmation |
//! | `look` | whether all that a snapshot relies on is there and stays |
//! | `snapshots` | list snapshots and judge them |
//! | `checkpoints` | when packs put so far get their segment |
//! | `chains` | manifests that replace one another |
//! | `sets` | snapshots of several hosts that count as one |
//! | `runs` | list runs: who signed in, and how far it came |
//! | `records` | results of runs, as they were put |
//! | `adopt` | take over what interrupted runs put |
//! | `judge` | which runs live, failed, or were interrupted |
//! | `proofs` | signatures that were checked before |
//! | `marks` | say something of a snapshot afterwards |
//! | `clock` | whether this machine's time can be believed |

pub mod adopt;
pub mod blocks;
pub mod chains;
pub mod checkpoints;
pub mod clock;
pub mod commit;
pub mod coordinates;
pub mod error;
pub mod index;
pub mod judge;
pub mod keyring;
pub mod known;
pub mod local;
pub mod look;
pub mod marks;
pub mod neighbours;
pub mod open;
mod opening;
pub mod packer;
pub mod pages;
mod proofs;
mod ranged;
pub mod records;
pub mod runs;
pub mod segments;
pub mod sets;
pub mod snapshots;
pub mod sync;
pub mod translations;
pub mod updates;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub use error::{Error, ErrorKind, Result};
pub use index::Index;
pub use keyring::{Keyring, Standing, Trust};
pub use open::{InitOptions, NewSlot, Unlock};
pub use updates::Updates;

use crate::format::update::ConfigUpdate;
use crate::id::RepositoryId;
use crate::store::Store;

/// A repository whose keys are at hand.
pub struct Repository {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) keyring: Keyring,
    pub(crate) trust: Trust,
    /// Object hashes of the updates with the highest number, which the next
    /// update names.
    pub(crate) newest_updates: Vec<crate::id::ObjectHash>,
    pub(crate) index: Index,
    ranged: ranged::Ranged,
    pub(crate) blocks: blocks::BlockCache,
    pub(crate) local: local::LocalState,
    pub(crate) config: crate::format::config::Config,
    pub(crate) proofs: proofs::Proofs,
    /// Whether a full store's reserve may be given up: to make room, not to fill it.
    pub(crate) may_use_reserve: AtomicBool,
}

impl Repository {
    pub fn id(&self) -> RepositoryId {
        self.keyring.repository
    }

    pub fn url(&self) -> &str {
        self.store.url()
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    pub fn index(&self) -> &Index {
        &self.index
    }

    pub fn local(&self) -> &local::LocalState {
        &self.local
    }

    pub fn update(&self) -> &ConfigUpdate {
        self.trust.update()
    }
}

/// Milliseconds since 1970-01-01 UTC, as this machine believes.
pub fn now_ms() -> u64 {
    let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    elapsed.map_or(0, |elapsed| elapsed.as_millis() as u64)
}
