//! Whether a stream is whole, seen while it passes, in memory of a fixed size. A command that is cut off half way may
//! well exit with 0: `kubectl exec` does.

/// Sees a stream pass, and says at its end whether it was all.
pub trait Ending {
    fn see(&mut self, bytes: &[u8]);

    /// Why the stream is not whole.
    fn end(&mut self) -> Result<(), String>;

    /// How many bytes at most may follow the stream, that are none of it.
    fn longest_surplus(&self) -> usize {
        0
    }

    /// How many of the last bytes, which were not seen yet, are none of the stream.
    fn surplus(&self, _last: &[u8]) -> usize {
        0
    }
}

/// Nothing is known of the stream's end.
pub struct Anything;

impl Ending for Anything {
    fn see(&mut self, _bytes: &[u8]) {}

    fn end(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// The last line that is not blank begins with this, and is a whole line.
pub struct LastLine {
    begins_with: Vec<u8>,
    /// The beginnings of the line that passes and of the last one that was not blank.
    line: Vec<u8>,
    last: Vec<u8>,
    /// The line that passes has nothing but white space so far.
    blank: bool,
    /// The last byte was no line feed.
    open: bool,
}

impl LastLine {
    pub fn new(begins_with: &str) -> LastLine {
        LastLine {
            begins_with: begins_with.as_bytes().to_vec(),
            line: Vec::new(),
            last: Vec::new(),
            blank: true,
            open: true,
        }
    }

    fn extend(&mut self, piece: &[u8]) {
        let room = self.begins_with.len() - self.line.len();
        self.line.extend_from_slice(&piece[..room.min(piece.len())]);
        self.blank &= piece.iter().all(u8::is_ascii_whitespace);
    }
}

impl Ending for LastLine {
    fn see(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            self.extend(text);
            self.open = !ends;
            if ends {
                let line = std::mem::take(&mut self.line);
                if !self.blank {
                    self.last = line;
                }
                self.blank = true;
            }
        }
    }

    fn end(&mut self) -> Result<(), String> {
        // a line without its end may be half a line
        if !self.open && self.last == self.begins_with {
            return Ok(());
        }
        let wanted = String::from_utf8_lossy(&self.begins_with);
        Err(format!("the stream is cut off: its last line does not begin with {wanted:?}"))
    }
}

/// Keeps the last bytes, and looks at them when they have all passed.
pub struct Tail {
    kept: Vec<u8>,
    judge: fn(&[u8]) -> Result<(), String>,
}

/// More than the ends of dumps are long.
const TAIL: usize = 4096;

impl Tail {
    pub fn new(judge: fn(&[u8]) -> Result<(), String>) -> Tail {
        Tail { kept: Vec::new(), judge }
    }
}

impl Ending for Tail {
    fn see(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL)..]);
        let surplus = self.kept.len().saturating_sub(TAIL);
        self.kept.drain(..surplus);
    }

    fn end(&mut self) -> Result<(), String> {
        (self.judge)(&self.kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(begins_with: &str, stream: &str, whole: bool) {
        for step in [1, 2, 3, 7, stream.len().max(1)] {
            let mut ending = LastLine::new(begins_with);
            stream.as_bytes().chunks(step).for_each(|piece| ending.see(piece));
            assert_eq!(ending.end().is_ok(), whole, "{begins_with:?} {stream:?} by {step}");
        }
    }

    #[test]
    fn the_last_line_that_is_not_blank_counts_if_it_is_whole() {
        check("-- done", "a\n-- done\n", true);
        check("-- done", "a\n-- done at noon\n\n \r\n", true);
        check("-- done", "a\n-- done", false);
        check("-- done", "a\n-- don\n", false);
        check("-- done", "-- done\nb\n", false);
        check("-- done", "", false);
        check("-- done", "\n\n", false);
    }
}
