//! Repair: writes what damage took from the index and from snapshots, as far as
//! what is left vouches for it. Nothing is deleted, nothing is invented.
//!
//! | module | |
//! |---|---|
//! | `index` | segments from the packs' own tables of contents |
//! | `segments` | what the listed segments say, and which cannot be read |
//! | `snapshots` | new snapshots without the content that is lost |
//! | `rewrite` | one of them: walk the old tree, build and commit the new one |
//! | `places` | which chunks are left, and where |
//! | `marks` | settle marks that cannot be read |
//!
//! Lost chunks that the source still has come back with the next backup; what
//! only old snapshots used does not.

mod index;
mod marks;
mod places;
mod rewrite;
mod segments;
mod snapshots;

pub use index::{IndexOptions, IndexReport, repair_index};
pub use snapshots::{Repaired, SnapshotsOptions, SnapshotsReport, repair_snapshots};

/// Something that could not be put right, by the key of the object it is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remaining {
    pub key: String,
    pub what: String,
}
