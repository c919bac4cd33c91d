//! The ids of everything that has one. Each is a type of its own, so that a
//! chunk id never stands where a pack id belongs.

use std::fmt;
use std::str::FromStr;

/// A text that is not the lower-case hex of the id it should be.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not an id: expected {expected} lower-case hex digits")]
pub struct InvalidId {
    pub expected: usize,
}

/// Lower-case hex of any bytes.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)] as char);
        text.push(DIGITS[usize::from(byte & 15)] as char);
    }
    text
}

/// Bytes of a lower-case hex text; `None` for anything else.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?))
        .collect()
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $length:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $length]);

        impl $name {
            pub const LENGTH: usize = $length;

            pub fn to_hex(self) -> String {
                hex(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), hex(&self.0))
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                from_hex(text)
                    .and_then(|bytes| bytes.try_into().ok())
                    .map($name)
                    .ok_or(InvalidId { expected: $length * 2 })
            }
        }
    };
}

macro_rules! random_id {
    ($name:ident) => {
        impl $name {
            /// Fresh random bits from the operating system.
            pub fn random() -> Self {
                $name(crate::crypto::random())
            }
        }
    };
}

id! {
    /// Keyed BLAKE3-256 of a chunk's bytes under the key of its kind.
    ChunkId, 32
}
id! {
    /// Unkeyed BLAKE3-256 of a pack's bytes.
    PackId, 32
}
id! {
    /// Unkeyed BLAKE3-256 of an index segment's bytes.
    SegmentId, 32
}
id! {
    /// 128 random bits that name a snapshot, and the run that makes it.
    SnapshotId, 16
}
id! {
    /// 128 random bits that name a repository for life.
    RepositoryId, 16
}
id! {
    /// 128 random bits that name a key slot.
    SlotId, 16
}
id! {
    /// 128 random bits that name a holder of a signing key.
    WriterId, 16
}
id! {
    /// 128 random bits that name one announced deletion.
    SweepId, 16
}
id! {
    /// Unkeyed BLAKE3-256 of an object's bytes.
    ObjectHash, 32
}
random_id!(SnapshotId);
random_id!(RepositoryId);
random_id!(SlotId);
random_id!(WriterId);
random_id!(SweepId);

impl ObjectHash {
    pub fn of(bytes: &[u8]) -> Self {
        ObjectHash(*blake3::hash(bytes).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_round_trips_and_refuses_what_is_not_an_id() {
        let id = SnapshotId([0xa5; 16]);
        assert_eq!(id.to_hex().parse(), Ok(id));
        for wrong in ["", "a5", "A5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5", "zz", &"a".repeat(33)] {
            assert!(wrong.parse::<SnapshotId>().is_err(), "{wrong}");
        }
    }
}
