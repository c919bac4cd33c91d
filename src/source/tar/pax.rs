//! Extended headers of POSIX tar (pax): `length key=value` records. Values are bytes and may hold line feeds, which is
//! why the tar crate's own reader of them is not used.

use std::collections::BTreeMap;

use crate::format::entry::Timestamp;

/// Keys and values of an extended header.
#[derive(Clone, Default)]
pub struct Pax {
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Offsets and lengths of a sparse file, in the oldest of three ways to write them.
    pub pairs: Vec<(u64, u64)>,
}

impl Pax {
    /// Adds the records of a header; `None` if they are none.
    pub fn read(&mut self, mut bytes: &[u8]) -> Option<()> {
        let mut offset = None;
        while !bytes.is_empty() {
            let blank = bytes.iter().position(|byte| *byte == b' ')?;
            let length: usize = decimal(&bytes[..blank]).and_then(|n| usize::try_from(n).ok())?;
            let record = bytes.get(blank + 1..length)?.strip_suffix(b"\n")?;
            bytes = &bytes[length..];
            let equals = record.iter().position(|byte| *byte == b'=')?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match (key, offset) {
                (b"GNU.sparse.offset", None) => offset = Some(decimal(value)?),
                (b"GNU.sparse.numbytes", Some(at)) => {
                    self.pairs.push((at, decimal(value)?));
                    offset = None;
                }
                // an empty value takes back what a global header said
                _ if value.is_empty() => drop(self.values.remove(key)),
                _ => drop(self.values.insert(key.to_vec(), value.to_vec())),
            }
        }
        Some(())
    }

    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.values.get(key.as_bytes()).map(Vec::as_slice)
    }

    pub fn number(&self, key: &str) -> Option<u64> {
        self.get(key).and_then(decimal)
    }

    /// A time in seconds with a fraction; before 1970 with a minus.
    pub fn time(&self, key: &str) -> Option<Timestamp> {
        let text = std::str::from_utf8(self.get(key)?).ok()?;
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
        let seconds: i64 = seconds.parse().ok().filter(|seconds| *seconds >= 0)?;
        let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
        let nanoseconds: u32 = digits.parse().ok()?;
        Some(match (negative, nanoseconds) {
            (false, _) => Timestamp { seconds, nanoseconds },
            (true, 0) => Timestamp { seconds: -seconds, nanoseconds },
            (true, _) => {
                Timestamp { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds }
            }
        })
    }

    /// Names behind `prefix`, and their values, sorted.
    pub fn beneath<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let from = self.values.range(prefix.as_bytes().to_vec()..);
        from.map_while(move |(key, value)| {
            Some((key.strip_prefix(prefix.as_bytes())?, value.as_slice()))
        })
    }
}

/// A number in decimal digits and nothing else.
pub fn decimal(text: &[u8]) -> Option<u64> {
    match text.iter().all(u8::is_ascii_digit) {
        true => std::str::from_utf8(text).ok()?.parse().ok(),
        false => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_hold_anything_and_bad_records_are_refused() {
        let mut pax = Pax::default();
        let records =
            b"22 SCHILY.xattr.a=x\ny\n26 SCHILY.xattr.b=\0\n\n=\xff\n\n\n19 mtime=-1.250000\n";
        assert_eq!(pax.read(&records[..22]), Some(()));
        assert_eq!(pax.read(&records[22..48]), Some(()));
        assert_eq!(pax.read(&records[48..]), Some(()));
        let found: Vec<_> = pax.beneath("SCHILY.xattr.").collect();
        assert_eq!(found, [(&b"a"[..], &b"x\ny"[..]), (&b"b"[..], &b"\0\n\n=\xff\n\n"[..])]);
        assert_eq!(pax.time("mtime"), Some(Timestamp { seconds: -2, nanoseconds: 750_000_000 }));
        for bad in [
            "5 a=b",
            "99 a=b\n",
            "x a=b\n",
            "2 \n",
            "6 abc\n",
            "0 a=b\n",
            "18446744073709551616 a=b\n",
        ] {
            assert_eq!(Pax::default().read(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
