//! esker: encrypted, deduplicating backup to any object store.

pub mod backup;
pub mod check;
pub mod chunker;
pub mod compression;
pub mod crypto;
pub mod diff;
pub mod files;
pub mod find;
pub mod format;
pub mod id;
pub mod list;
pub mod progress;
pub mod repository;
pub mod scrub;
pub mod stats;
pub mod store;
