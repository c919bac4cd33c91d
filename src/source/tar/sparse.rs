//! Content of a member: bytes of the stream, and zeros where a sparse file has holes.

use std::io::{self, ErrorKind, Read};

/// Pieces that a sparse file may have.
pub const MAX_PIECES: usize = 1 << 20;

/// Where the bytes of a sparse file belong.
#[derive(Debug, PartialEq, Eq)]
pub struct Map {
    /// Offset and length of each piece with data, in order.
    pieces: Vec<(u64, u64)>,
    /// Size of the file.
    size: u64,
}

impl Map {
    /// Pieces must be in order, not overlap, lie within the file, and need as many bytes as are stored.
    pub fn new(pieces: Vec<(u64, u64)>, size: u64, stored: u64) -> io::Result<Map> {
        let invalid = |reason| Err(io::Error::new(ErrorKind::InvalidData, reason));
        let (mut end, mut sum) = (0u64, 0u64);
        for (offset, length) in &pieces {
            let Some(next) = offset.checked_add(*length) else {
                return invalid("the map of a sparse file makes no sense");
            };
            if *offset < end || next > size {
                return invalid("the map of a sparse file is not in order");
            }
            end = next;
            sum += length;
        }
        match sum == stored {
            true => Ok(Map { pieces, size }),
            false => invalid("the map of a sparse file does not fit what is stored"),
        }
    }
}

/// Reads a file as it is outside the stream.
pub struct Content<'a, 'r> {
    pub stream: &'a mut dyn Read,
    /// Bytes of the member that were not read yet; shared with whoever skips the rest.
    pub left: &'r mut u64,
    map: std::vec::IntoIter<(u64, u64)>,
    piece: (u64, u64),
    at: u64,
    size: u64,
}

impl<'a, 'r> Content<'a, 'r> {
    pub fn new(
        stream: &'a mut dyn Read,
        left: &'r mut u64,
        size: u64,
        map: Option<&Map>,
    ) -> Content<'a, 'r> {
        let (pieces, size) = match map {
            Some(map) => (map.pieces.clone(), map.size),
            None => (vec![(0, size)], size),
        };
        let mut map = pieces.into_iter();
        let piece = map.next().unwrap_or((size, 0));
        Content { stream, left, map, piece, at: 0, size }
    }
}

impl Read for Content<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.0 + self.piece.1 && self.at < self.size {
            self.piece = self.map.next().unwrap_or((self.size, 0));
            if self.piece == (self.size, 0) {
                break;
            }
        }
        let hole = self.piece.0.saturating_sub(self.at);
        let available =
            if hole > 0 { hole } else { (self.piece.0 + self.piece.1).saturating_sub(self.at) };
        let count = usize::try_from(available).unwrap_or(usize::MAX).min(buffer.len());
        if count == 0 {
            return Ok(0);
        }
        let read = match hole {
            0 => self.stream.read(&mut buffer[..count])?,
            _ => {
                buffer[..count].fill(0);
                count
            }
        };
        if read == 0 {
            return Err(cut());
        }
        if hole == 0 {
            *self.left = self.left.saturating_sub(read as u64);
        }
        self.at += read as u64;
        Ok(read)
    }
}

/// The stream ends where it must not.
pub fn cut() -> io::Error {
    io::Error::new(ErrorKind::UnexpectedEof, "the tar stream is cut off: its end is not there")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pieces: &[(u64, u64)], size: u64, data: &str, expect: Option<&str>) {
        let map = Map::new(pieces.to_vec(), size, data.len() as u64);
        let Some(expect) = expect else {
            assert!(map.is_err());
            return;
        };
        let map = map.unwrap();
        let (mut stream, mut left) = (data.as_bytes(), data.len() as u64);
        let mut text = String::new();
        Content::new(&mut stream, &mut left, data.len() as u64, Some(&map))
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!((text.replace('\0', "."), left), (expect.to_owned(), 0));
    }

    #[test]
    fn holes_become_zeros() {
        check(&[(0, 2)], 2, "ab", Some("ab"));
        check(&[(1, 2), (4, 1)], 7, "abc", Some(".ab.c.."));
        check(&[(0, 0), (2, 1), (3, 1), (5, 0)], 5, "ab", Some("..ab."));
        check(&[], 3, "", Some("..."));
        check(&[], 0, "", Some(""));
        check(&[(2, 1), (1, 1)], 5, "ab", None);
        check(&[(0, 9)], 5, "abcdefghi", None);
        check(&[(u64::MAX, 2)], 5, "ab", None);
        check(&[(0, 1)], 5, "ab", None);
    }
}
