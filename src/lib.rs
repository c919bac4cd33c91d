//! esker: encrypted, deduplicating backup to any object store.

pub mod chunker;
pub mod compression;
pub mod crypto;
pub mod format;
pub mod id;
