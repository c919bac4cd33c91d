//! The file system of this machine, and nothing of repositories: walking
//! sources, reading files, writing back beneath a restore's target.
//!
//! | file | what lives there |
//! |---|---|
//! | `walk/` | the sorted walk over several roots and what it leaves out |
//! | `rules` | exclude rules |
//! | `read` | opening a found file safely, noticing change, data ranges of sparse files |
//! | `target/` | everything a restore writes, resolved beneath one directory |
//! | `directory` | directory handles, listings, branches of open directories |
//! | `examine` | `statx` and all else that makes up a `Metadata` |
//! | `xattr` | extended attributes, ACLs and capabilities included |
//! | `owners` | user and group names and numbers |
//!
//! Nothing here prints or reads the environment. Errors are plain `io::Error`s
//! of the path the caller named, or a [`FileError`] where another may be meant.

mod directory;
mod examine;
mod owners;
pub mod pipe;
pub mod read;
pub mod rules;
pub mod target;
pub mod walk;
mod xattr;

pub use directory::open_file_limit;
pub use examine::NodeKind;
pub use owners::Owners;
pub use rules::{RuleError, Rules};
pub use target::{Existing, Target, Unset};
pub use walk::{Found, Item, LeftOut, RootOptions, WalkCounts, WalkOptions, absolute, walk};

/// An error and the path it happened on.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", String::from_utf8_lossy(path))]
pub struct FileError {
    pub path: Vec<u8>,
    #[source]
    pub error: std::io::Error,
}

#[cfg(test)]
mod tests;
