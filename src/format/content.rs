//! What a file's bytes, or any long value, are made of.
//!
//! `format-spec/09-tree.md`, rules `[CONT-1]` to `[CONT-4]`.

use super::reader::Reader;
use super::{FormatError, Result};
use crate::chunker::MAX_CHUNK;
use crate::id::ChunkId;

/// Longest value kept inside an entry, in bytes.
pub const MAX_INLINE: usize = 4096;
/// Most items an entry names itself; more become a list.
pub const MAX_ITEMS: usize = 16;
/// Highest level of a root. A page of the longest keys has three children, and
/// 3¹⁶ of those pages hold more names than any store.
pub const MAX_LEVEL: u8 = 16;

/// A piece of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    Chunk {
        id: ChunkId,
        length: u32,
    },
    /// Zeros that are not stored.
    Hole {
        length: u64,
    },
}

impl Item {
    pub fn length(&self) -> u64 {
        match self {
            Item::Chunk { length, .. } => u64::from(*length),
            Item::Hole { length } => *length,
        }
    }

    pub fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Item::Chunk { id, length } => {
                out.push(1);
                out.extend_from_slice(&length.to_le_bytes());
                out.extend_from_slice(&id.0);
            }
            Item::Hole { length } => {
                out.push(2);
                out.extend_from_slice(&length.to_le_bytes());
            }
        }
    }

    pub fn parse(reader: &mut Reader<'_>) -> Result<Item> {
        match reader.u8()? {
            1 => {
                let length = reader.u32()?;
                let id = ChunkId(reader.array()?);
                if length == 0 || length > MAX_CHUNK {
                    return Err(FormatError::new("CONT-1", "a chunk has an absurd length"));
                }
                Ok(Item::Chunk { id, length })
            }
            2 => match reader.u64()? {
                0 => Err(FormatError::new("CONT-1", "a hole has no length")),
                length => Ok(Item::Hole { length }),
            },
            _ => Err(FormatError::new("CONT-2", "an item is of an unknown type")),
        }
    }
}

/// Root of a tree of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Root {
    pub id: ChunkId,
    /// 0 when the root is a leaf.
    pub level: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Content {
    /// No bytes.
    #[default]
    Empty,
    Inline(Vec<u8>),
    Items(Vec<Item>),
    /// A list of items, as pages of kind list.
    List(Root),
}

impl Content {
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Content::Empty => out.push(0),
            Content::Inline(bytes) => {
                out.push(1);
                out.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
                out.extend_from_slice(bytes);
            }
            Content::Items(items) => {
                out.push(2);
                out.push(items.len() as u8);
                items.iter().for_each(|item| item.encode_into(out));
            }
            Content::List(root) => {
                out.push(3);
                out.push(root.level);
                out.extend_from_slice(&root.id.0);
            }
        }
    }

    pub fn parse(reader: &mut Reader<'_>) -> Result<Content> {
        match reader.u8()? {
            0 => Ok(Content::Empty),
            1 => {
                let length = usize::from(reader.u16()?);
                if length == 0 || length > MAX_INLINE {
                    return Err(FormatError::new("CONT-3", "an inline value has an absurd length"));
                }
                Ok(Content::Inline(reader.take(length)?.to_vec()))
            }
            2 => {
                let count = usize::from(reader.u8()?);
                if count == 0 || count > MAX_ITEMS {
                    return Err(FormatError::new("CONT-3", "an entry names too many items"));
                }
                (0..count).map(|_| Item::parse(reader)).collect::<Result<_>>().map(Content::Items)
            }
            3 => {
                let level = reader.u8()?;
                if level > MAX_LEVEL {
                    return Err(FormatError::new("CONT-3", "a list is nested too deep"));
                }
                Ok(Content::List(Root { level, id: ChunkId(reader.array()?) }))
            }
            _ => Err(FormatError::new("CONT-2", "a content is of an unknown type")),
        }
    }

    /// Whether its items add up to more than a length can say.
    pub fn overflows(&self) -> bool {
        matches!(self, Content::Items(_)) && self.length().is_none()
    }

    /// Total bytes, if the content itself tells.
    pub fn length(&self) -> Option<u64> {
        match self {
            Content::Empty => Some(0),
            Content::Inline(bytes) => Some(bytes.len() as u64),
            Content::Items(items) => {
                items.iter().try_fold(0u64, |sum, item| sum.checked_add(item.length()))
            }
            Content::List(_) => None,
        }
    }
}
