//! The end of a Redis dump (RDB): an end mark and a CRC-64 of all that precedes it.
//! <https://github.com/redis/redis/blob/7.0/src/rdb.c>, `rdbSaveRio` and `rdbLoadRio`.

use crate::source::end::Ending;

/// Opcode of the end.
const END: u8 = 0xff;
const SUM: usize = 8;
/// A word of chance by which a server says that a dump of unknown length has ended. A client that prints a dump prints
/// it, too.
const MARK: usize = 40;

#[derive(Clone, Default)]
pub struct RdbEnd {
    first: Vec<u8>,
    /// Passed, and not counted yet: may be the checksum.
    held: Vec<u8>,
    /// The last byte that was counted.
    last: u8,
    crc: u64,
    length: u64,
}

/// CRC-64 of Jones, as Redis has it: reflected, without inversion.
const TABLE: [u64; 256] = {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        let mut value = n as u64;
        let mut bit = 0;
        while bit < 8 {
            value = (value >> 1) ^ if value & 1 == 1 { 0x95AC_9329_AC4B_C9B5 } else { 0 };
            bit += 1;
        }
        table[n] = value;
        n += 1;
    }
    table
};

fn crc(start: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(start, |crc, byte| TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8))
}

impl Ending for RdbEnd {
    fn see(&mut self, bytes: &[u8]) {
        let missing = 9usize.saturating_sub(self.first.len());
        self.first.extend_from_slice(&bytes[..missing.min(bytes.len())]);
        self.length += bytes.len() as u64;
        self.held.extend_from_slice(bytes);
        let counted = self.held.len().saturating_sub(SUM);
        if let Some(last) = counted.checked_sub(1) {
            self.last = self.held[last];
            self.crc = crc(self.crc, &self.held[..counted]);
            self.held.drain(..counted);
        }
    }

    fn end(&mut self) -> Result<(), String> {
        let version = self
            .first
            .get(5..9)
            .and_then(|text| std::str::from_utf8(text).ok()?.parse::<u32>().ok());
        if !self.first.starts_with(b"REDIS") || version.is_none() {
            return Err("the stream is no dump of Redis".into());
        }
        let Ok(sum) = <[u8; SUM]>::try_from(self.held.as_slice()) else {
            return Err("the dump is cut off: it has no end".into());
        };
        let sum = u64::from_le_bytes(sum);
        // a server that is told to save time writes zeros
        match self.last == END && (sum == self.crc || sum == 0) {
            true => Ok(()),
            false => Err("the dump is cut off or altered: its checksum is wrong".into()),
        }
    }

    fn longest_surplus(&self) -> usize {
        MARK
    }

    fn surplus(&self, last: &[u8]) -> usize {
        let Some(start) = last.len().checked_sub(MARK) else {
            return 0;
        };
        let ends = |bytes: &[u8]| {
            let mut rest = self.clone();
            rest.see(bytes);
            rest.end().is_ok()
        };
        let is_mark = last[start..].iter().all(u8::is_ascii_hexdigit);
        if is_mark && !ends(last) && ends(&last[..start]) { MARK } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(dump: &[u8], step: usize) -> Result<(), String> {
        let mut ending = RdbEnd::default();
        dump.chunks(step).for_each(|piece| ending.see(piece));
        ending.end()
    }

    #[test]
    fn the_crc_is_that_of_redis() {
        // the value that the self-test in Redis' crc64.c expects
        assert_eq!(crc(0, b"123456789"), 0xe9c6_d914_c4b8_d9ca);
    }

    #[test]
    fn a_dump_is_whole_to_its_last_byte() {
        let mut body = b"REDIS0010".to_vec();
        body.extend((0..1000).map(|n| n as u8));
        body.push(END);
        for sum in [crc(0, &body), 0] {
            let dump = [body.as_slice(), &sum.to_le_bytes()].concat();
            for step in [1, 7, 4096] {
                assert_eq!(end(&dump, step), Ok(()));
                for cut in [0, 5, dump.len() / 2, dump.len() - 8, dump.len() - 1] {
                    assert!(end(&dump[..cut], step).is_err(), "{cut}");
                }
            }
        }
        let dump = [body.as_slice(), &crc(0, &body).to_le_bytes()].concat();
        let mark = b"0123456789abcdef0123456789abcdef01234567";
        for (surplus, last) in [
            (40, mark.as_slice()),
            (0, &b""[..]),
            (0, &mark[1..]),
            (0, &b"0123456789abcdef0123456789abcdef0123456z"[..]),
        ] {
            let mut ending = RdbEnd::default();
            let stream = [dump.as_slice(), last].concat();
            let (seen, held) = stream.split_at(stream.len() - MARK);
            ending.see(seen);
            assert_eq!(ending.surplus(held), surplus, "{last:?}");
        }
        let wrong = [body.as_slice(), &(crc(0, &body) ^ 1).to_le_bytes()].concat();
        assert!(end(&wrong, 100).is_err());
    }
}
