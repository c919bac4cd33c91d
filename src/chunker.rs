//! Cuts a stream by its content: FastCDC with a secret gear table.
//!
//! The cut rule is part of the format (`format-spec/03-chunks.md`) and frozen
//! by vectors; the `fastcdc` crate is pinned to the version that has it.

use zeroize::Zeroizing;

use crate::crypto::{SecretKey, keys};

/// Registered chunker algorithms; 1 is the only one of format 1.
pub const FASTCDC_GEAR: u8 = 1;
/// Default average chunk size in bytes; `format-spec/03-chunks.md` has the figures.
pub const DEFAULT_AVERAGE: u32 = 64 * 1024;
pub const MIN_AVERAGE: u32 = 4 * 1024;
pub const MAX_AVERAGE: u32 = 1024 * 1024;
/// Longest chunk any parameters may produce, in bytes.
pub const MAX_CHUNK: u32 = 4 * MAX_AVERAGE;

/// What new data is cut with: the average is a power of two, the minimum a
/// quarter and the maximum four times of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkerParams {
    average: u32,
}

impl Default for ChunkerParams {
    fn default() -> Self {
        ChunkerParams { average: DEFAULT_AVERAGE }
    }
}

impl ChunkerParams {
    /// `None` unless `average` is a power of two within the limits.
    pub fn new(average: u32) -> Option<Self> {
        let valid = average.is_power_of_two() && (MIN_AVERAGE..=MAX_AVERAGE).contains(&average);
        valid.then_some(ChunkerParams { average })
    }

    pub fn average(&self) -> u32 {
        self.average
    }

    pub fn min(&self) -> usize {
        self.average as usize / 4
    }

    pub fn max(&self) -> usize {
        self.average as usize * 4
    }
}

/// A chunker ready to cut: parameters, masks and the secret tables.
pub struct Chunker {
    params: ChunkerParams,
    mask_short: u64,
    mask_long: u64,
    gear: Zeroizing<[u64; 256]>,
    gear_shifted: Zeroizing<[u64; 256]>,
}

impl Chunker {
    pub fn new(key: &SecretKey, params: ChunkerParams) -> Self {
        let gear = keys::gear_table(key);
        let mut gear_shifted = gear.clone();
        gear_shifted.iter_mut().for_each(|word| *word <<= 1);
        let (mask_short, mask_long) = fastcdc::v2020::select_masks(
            params.average as usize,
            fastcdc::v2020::Normalization::Level1,
        );
        Chunker { params, mask_short, mask_long, gear, gear_shifted }
    }

    pub fn params(&self) -> ChunkerParams {
        self.params
    }

    /// Length of the first chunk of `data`. A result of `data.len()` below the
    /// maximum is final only when the stream ends there.
    pub fn cut(&self, data: &[u8]) -> usize {
        if data.len() <= self.params.min() {
            return data.len();
        }
        let (_, length) = fastcdc::v2020::cut_gear(
            data,
            self.params.min(),
            self.params.average as usize,
            self.params.max(),
            self.mask_short,
            self.mask_long,
            self.mask_short << 1,
            self.mask_long << 1,
            &*self.gear,
            &*self.gear_shifted,
        );
        length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rule as `format-spec/03-chunks.md` states it, a byte at a time.
    fn reference_cut(chunker: &Chunker, data: &[u8]) -> usize {
        let (min, average, max) =
            (chunker.params.min(), chunker.params.average as usize, chunker.params.max());
        if data.len() <= min {
            return data.len();
        }
        let end = data.len().min(max);
        let center = end.min(average);
        let mut hash = 0u64;
        // the hash starts at the minimum rounded down to a pair of bytes
        let tested = data.iter().enumerate().take(end / 2 * 2).skip(min / 2 * 2);
        for (index, byte) in tested {
            hash = (hash << 1).wrapping_add(chunker.gear[usize::from(*byte)]);
            let mask = if index < center / 2 * 2 { chunker.mask_short } else { chunker.mask_long };
            if hash & mask == 0 {
                return index;
            }
        }
        end
    }

    #[test]
    fn cuts_as_the_specification_says() {
        let chunker = Chunker::new(&SecretKey::from_bytes([3; 32]), ChunkerParams::default());
        let mut data = vec![0; 5 << 20];
        blake3::Hasher::new().finalize_xof().fill(&mut data);
        let mut rest = &data[..];
        let mut cuts = 0;
        while !rest.is_empty() {
            let length = chunker.cut(rest);
            assert_eq!(length, reference_cut(&chunker, rest), "at {}", data.len() - rest.len());
            rest = &rest[length..];
            cuts += 1;
        }
        assert!((40..=160).contains(&cuts), "{cuts} chunks of 5 MiB");
    }

    #[test]
    fn another_key_cuts_elsewhere_and_zeros_reach_the_maximum() {
        let params = ChunkerParams::default();
        let one = Chunker::new(&SecretKey::from_bytes([3; 32]), params);
        let other = Chunker::new(&SecretKey::from_bytes([4; 32]), params);
        let mut data = vec![0; 1 << 20];
        assert_eq!(one.cut(&data), params.max());
        blake3::Hasher::new().finalize_xof().fill(&mut data);
        assert_ne!(one.cut(&data), other.cut(&data));
    }
}
