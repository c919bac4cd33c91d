//! What passes between the stages of a backup.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use crossbeam_channel::Sender;

use super::capture::Captured;
use super::same::Same;
use crate::files::Found;
use crate::format::content::{Content, Item};
use crate::format::entry::{Entry, EntryKind, Metadata};
use crate::format::pack::Coordinate;

/// How the content of a planned entry is come by.
pub enum Reading {
    /// It has none.
    Nothing,
    Whole,
    /// As in the previous snapshot. `items` are those of a long list, where the
    /// previous state is a stat list.
    Keep {
        content: Content,
        items: Option<Arc<Vec<Item>>>,
        sparse: bool,
    },
}

/// What the previous snapshot had at the same path, as far as reports need it.
pub struct Before {
    pub kind: EntryKind,
    pub metadata: Metadata,
}

pub struct Planned {
    pub key: Vec<u8>,
    pub found: Found,
    pub link_group: u64,
    pub filesystem: Option<u32>,
    pub before: Option<Before>,
    pub reading: Reading,
    pub sparse: bool,
    /// The file, if it was opened before its turn.
    pub opened: Option<File>,
}

impl Planned {
    /// What a stream gave: its content is known already.
    pub fn captured(key: Vec<u8>, kind: EntryKind, metadata: Metadata) -> Planned {
        let found = Found {
            path: Vec::new(),
            kind,
            metadata,
            links: 1,
            device_id: 0,
            mount_id: 0,
            implied_parent: false,
        };
        Planned {
            key,
            found,
            link_group: 0,
            filesystem: None,
            before: None,
            reading: Reading::Nothing,
            sparse: false,
            opened: None,
        }
    }

    /// Notes whether a file of `size` bytes with these data ranges has holes.
    pub fn sparse_to(&mut self, ranges: &[Range<u64>], size: u64) {
        let data: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        self.sparse = data < size;
    }
}

/// A stretch of a buffer that is one chunk, or a hole between buffers.
#[derive(Clone, Debug)]
pub enum Cut {
    Data(Range<usize>),
    Hole(u64),
}

pub enum Job {
    /// Small files and everything without content, in path order.
    Batch(Vec<Planned>),
    /// Consecutive chunks of one long file. Without `reply` the result goes to the assembler; with it, to whoever
    /// captures a stream.
    Piece { buffer: Arc<Vec<u8>>, cuts: Vec<Cut>, reply: Option<Sender<(u64, Vec<Part>)>> },
}

/// An item with the coordinate it has, if it was in the repository before.
#[derive(Clone, Copy)]
pub struct Part {
    pub item: Item,
    pub known: Option<Coordinate>,
}

/// One entry, complete but for its content; of an unchanged one that too is in
/// place.
pub struct Done {
    pub entry: Entry,
    pub content: Vec<Part>,
    /// Parts of long extended attributes, which the entry names already.
    pub attributes: Vec<Part>,
    pub before: Option<Before>,
    pub unchanged: bool,
    pub implied: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileEnd {
    Read,
    /// It changed while it was read, each time.
    Changed,
    /// Not read: as it was in the previous snapshot.
    Kept,
}

pub enum Result {
    Batch(Vec<Done>),
    Piece(Vec<Part>),
    /// The pieces since the last end are this file.
    FileEnd(Box<Planned>, FileEnd),
    /// The pieces since the last end are void.
    Restart,
    /// A stream was captured, or failed. It has no number: it comes when it is done.
    Captured(Box<Captured>),
    /// What is as it was in the previous tree.
    Same(Same),
}
