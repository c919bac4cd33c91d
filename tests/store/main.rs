//! Every store keeps the contract of `store/mod.rs`; the local one also keeps it on full and failing file systems.

mod conformance;
mod decorators;
mod durability;
mod local;
mod mounts;
mod servers;
mod sftp;
