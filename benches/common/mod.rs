//! What the benchmarks have in common.

#![allow(dead_code, reason = "each benchmark uses some of it")]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use esker::chunker::ChunkerParams;
use esker::crypto::{SecretKey, Stretching};
use esker::repository::{InitOptions, NewSlot, Repository};
use esker::store::{LocalStore, Store};

pub fn key() -> SecretKey {
    SecretKey::from_bytes([7; 32])
}

/// A new repository in `directory/store`, opened with [`key`].
pub fn init(directory: &Path) -> Arc<dyn Store> {
    let store: Arc<dyn Store> = Arc::new(LocalStore::create(&directory.join("store")).unwrap());
    let options = InitOptions {
        slot: NewSlot::KeyFile(key()),
        label: "bench".into(),
        chunker: ChunkerParams::default(),
        chunker_key: None,
        stretching: Stretching::default(),
    };
    Repository::init(&store, &options).unwrap();
    store
}

/// Seconds of CPU so far, and peak memory in MiB.
pub fn used() -> (f64, f64) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: f64 = peak.split_whitespace().next().unwrap().parse().unwrap();
    (ticks / 100.0, peak / 1024.0)
}
