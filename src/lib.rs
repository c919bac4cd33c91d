//! esker: encrypted, deduplicating backup to any object store.

pub mod backup;
pub mod chunker;
pub mod cli;
pub mod compression;
pub mod config;
pub mod crypto;
pub mod files;
pub mod format;
pub mod id;
pub mod keys;
pub mod output;
pub mod progress;
pub mod repository;
pub mod select;
pub mod store;
