//! esker: encrypted, deduplicating backup to any object store.

pub mod backup;
pub mod chunker;
pub mod compression;
pub mod crypto;
pub mod files;
pub mod format;
pub mod id;
pub mod keys;
pub mod progress;
pub mod repository;
pub mod store;
