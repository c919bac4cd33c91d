//! esker: encrypted, deduplicating backup to any object store.
//!
//! A stream (directory tree, dump, standard input) is cut by its content into
//! *chunks*; new chunks are gathered into *blocks*, which are compressed and
//! sealed, and blocks into *packs*, which are put into a *store*. A *snapshot*
//! is a signed manifest that names a tree of entries and the set of chunks it
//! needs. `format-spec/` describes every byte; its README has the vocabulary.
//!
//! # Floors
//!
//! Imports only point down; `tests/floors.rs` proves it.
//!
//! | floor | modules | |
//! |---|---|---|
//! | 0 primitives | [`id`], [`chunker`], [`compression`], [`crypto`], [`progress`] | no format, files, network, clock |
//! | 1 format | [`format`](mod@format) | bytes to values and back, without I/O; one file a chapter |
//! | 2 outside world | [`store`], [`files`] | objects by key; walking, reading and writing files |
//! | 3 repository | [`repository`] | keys, index, packs, commit |
//! | 4 operations | [`backup`], … | one module each; they do not know each other |
//! | 5 program | [`config`], `source`, `schedule`, `notify`, …, `cli`, `output` | only `cli` prints and reads the environment |
//!
//! # Where to begin
//!
//! A backup is [`backup::backup`]: its stages lie in the files of that module in
//! the order of the work. What makes a snapshot good is
//! [`repository::Repository::commit`]. How bytes are laid out is
//! [`format`](mod@format), from [`format::object`] on.

pub mod backup;
pub mod cat;
pub mod check;
pub mod chunker;
pub mod cli;
pub mod compression;
pub mod config;
pub mod copy;
pub mod crypto;
pub mod diff;
pub mod drill;
pub mod files;
pub mod find;
pub mod forget;
pub mod format;
pub mod history;
pub mod id;
pub mod keys;
pub mod list;
pub mod notify;
pub mod output;
pub mod overdue;
pub mod probe;
pub mod progress;
pub mod prune;
pub mod record;
pub mod repair;
pub mod repository;
pub mod restore;
pub mod run;
pub mod schedule;
pub mod scrub;
pub mod select;
pub mod source;
pub mod standby;
pub mod stats;
pub mod status;
pub mod store;
pub mod suspicion;
pub mod tag;
pub mod undo;
pub mod wayback;
