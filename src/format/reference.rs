//! Reference sets: which coordinates a snapshot uses, by origin pack.
//!
//! `format-spec/10-references.md`, rules `[REF-1]` to `[REF-2]`.

use super::pack::Birth;
use super::reader::Reader;
use super::{FormatError, Result};
use crate::id::PackId;

/// The ordinals used of one origin pack, as runs from first to last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    pub birth: Birth,
    pub pack: PackId,
    pub runs: Vec<(u16, u16)>,
}

impl Reference {
    /// `birth 8 | origin pack 32 | runs 2 | (first 2 | last 2) …`
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.birth.0.to_le_bytes());
        out.extend_from_slice(&self.pack.0);
        out.extend_from_slice(&(self.runs.len() as u16).to_le_bytes());
        for (first, last) in &self.runs {
            out.extend_from_slice(&first.to_le_bytes());
            out.extend_from_slice(&last.to_le_bytes());
        }
    }

    pub fn ordinals(&self) -> impl Iterator<Item = u16> + '_ {
        self.runs.iter().flat_map(|(first, last)| *first..=*last)
    }

    pub fn count(&self) -> u64 {
        self.runs.iter().map(|(first, last)| u64::from(last - first) + 1).sum()
    }
}

pub fn parse_reference(reader: &mut Reader<'_>) -> Result<Reference> {
    let birth = Birth(reader.u64()?);
    let pack = PackId(reader.array()?);
    let count = reader.u16()?;
    if count == 0 {
        return Err(FormatError::new("REF-1", "a reference uses nothing"));
    }
    let mut runs: Vec<(u16, u16)> =
        Vec::with_capacity(usize::from(count).min(reader.remaining() / 4));
    for _ in 0..count {
        let (first, last) = (reader.u16()?, reader.u16()?);
        let apart = runs.last().is_none_or(|(_, before)| u32::from(first) > u32::from(*before) + 1);
        if first > last || !apart {
            return Err(FormatError::new("REF-2", "runs of ordinals touch or are not sorted"));
        }
        runs.push((first, last));
    }
    Ok(Reference { birth, pack, runs })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(runs: &[(u16, u16)], expect: std::result::Result<(), &str>) {
        let reference = Reference { birth: Birth(7), pack: PackId([1; 32]), runs: runs.to_vec() };
        let mut bytes = Vec::new();
        reference.encode_into(&mut bytes);
        let parsed = parse_reference(&mut Reader::new(&bytes, "REF-0"));
        assert_eq!(parsed.map(|r| assert_eq!(r, reference)).map_err(|e| e.rule), expect);
    }

    #[test]
    fn runs_are_sorted_apart_and_not_empty() {
        check(&[(0, 0), (2, 9), (65535, 65535)], Ok(()));
        check(&[], Err("REF-1"));
        check(&[(3, 2)], Err("REF-2"));
        check(&[(0, 4), (5, 6)], Err("REF-2"));
        check(&[(0, 4), (2, 6)], Err("REF-2"));
    }
}
