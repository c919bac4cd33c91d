//! esker: encrypted, deduplicating backup to any object store.

pub mod backup;
pub mod check;
pub mod chunker;
pub mod cli;
pub mod compression;
pub mod config;
pub mod crypto;
pub mod diff;
pub mod files;
pub mod find;
pub mod format;
pub mod id;
pub mod list;
pub mod output;
pub mod progress;
pub mod repository;
pub mod scrub;
pub mod select;
pub mod stats;
pub mod store;
