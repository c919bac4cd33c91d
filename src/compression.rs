//! zstd frames of blocks. One context a thread, reused; a frame is decoded and
//! compared before it may leave the machine.

use std::cell::RefCell;
use std::io::Cursor;

/// How a block's bytes were encoded. Codec 2 is reserved for zstd with a
/// dictionary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    Stored = 0,
    Zstd = 1,
}

impl Codec {
    pub fn from_byte(byte: u8) -> Option<Codec> {
        match byte {
            0 => Some(Codec::Stored),
            1 => Some(Codec::Zstd),
            _ => None,
        }
    }
}

/// zstd level of new blocks.
pub const DEFAULT_LEVEL: i32 = 3;

#[derive(Debug, thiserror::Error)]
pub enum CompressionError {
    #[error("does not decompress to the {0} bytes it should")]
    Corrupt(usize),
    #[error("the compressor made a frame that does not decode to what went in")]
    Miscompressed,
}

struct Contexts {
    level: i32,
    compressor: zstd::bulk::Compressor<'static>,
    decompressor: zstd::bulk::Decompressor<'static>,
    /// Long enough for any block so far: written over, never cleared.
    compare: Vec<u8>,
}

thread_local! {
    static CONTEXTS: RefCell<Option<Contexts>> = const { RefCell::new(None) };
}

fn with_contexts<T>(level: i32, work: impl FnOnce(&mut Contexts) -> T) -> T {
    CONTEXTS.with_borrow_mut(|slot| {
        if slot.as_ref().is_none_or(|contexts| contexts.level != level) {
            *slot = Some(Contexts {
                level,
                compressor: zstd::bulk::Compressor::new(level).expect("zstd allocates a context"),
                decompressor: zstd::bulk::Decompressor::new().expect("zstd allocates a context"),
                compare: Vec::new(),
            });
        }
        work(slot.as_mut().expect("just filled"))
    })
}

/// Appends the encoded `text` to `out` and says how. What does not shrink by a
/// thirty-second is stored, so that reading it back costs nothing.
pub fn compress(text: &[u8], level: i32, out: &mut Vec<u8>) -> Result<Codec, CompressionError> {
    if level == 0 || looks_incompressible(text, level) {
        out.extend_from_slice(text);
        return Ok(Codec::Stored);
    }
    with_contexts(level, |contexts| {
        let Contexts { compressor, decompressor, compare, .. } = contexts;
        let start = out.len();
        out.reserve(zstd::zstd_safe::compress_bound(text.len()));
        let mut end = Cursor::new(&mut *out);
        end.set_position(start as u64);
        let length = compressor
            .compress_to_buffer(text, &mut end)
            .map_err(|_| CompressionError::Miscompressed)?;
        if length >= text.len() - text.len() / 32 {
            out.truncate(start);
            out.extend_from_slice(text);
            return Ok(Codec::Stored);
        }
        let compare = at_least(compare, text.len());
        match decompressor.decompress_to_buffer(&out[start..], compare) {
            Ok(n) if n == text.len() && compare[..n] == *text => Ok(Codec::Zstd),
            _ => Err(CompressionError::Miscompressed),
        }
    })
}

/// A buffer of at least so many bytes, whatever is in them.
fn at_least(buffer: &mut Vec<u8>, length: usize) -> &mut [u8] {
    if buffer.len() < length {
        buffer.resize(length, 0);
    }
    buffer
}

/// Whether a sample of a large text does not shrink: then the rest is spared.
fn looks_incompressible(text: &[u8], level: i32) -> bool {
    const SAMPLE: usize = 16 * 1024;
    if text.len() < 8 * SAMPLE {
        return false;
    }
    with_contexts(level, |contexts| {
        let mut frame = Vec::with_capacity(zstd::zstd_safe::compress_bound(SAMPLE));
        [0, text.len() / 2, text.len() - SAMPLE].into_iter().all(|start| {
            let sample = &text[start..start + SAMPLE];
            contexts
                .compressor
                .compress_to_buffer(sample, &mut frame)
                .is_ok_and(|length| length >= SAMPLE - SAMPLE / 64)
        })
    })
}

/// Decodes a block into exactly `raw_length` bytes. What is not one frame and
/// nothing else is corrupt, as not every decoder goes on behind the first.
pub fn decompress(
    codec: Codec,
    encoded: &[u8],
    raw_length: usize,
) -> Result<Vec<u8>, CompressionError> {
    let corrupt = || CompressionError::Corrupt(raw_length);
    let decoded = match codec {
        Codec::Stored => encoded.to_vec(),
        Codec::Zstd
            if zstd::zstd_safe::find_frame_compressed_size(encoded) != Ok(encoded.len()) =>
        {
            return Err(corrupt());
        }
        Codec::Zstd => with_contexts(DEFAULT_LEVEL, |contexts| {
            contexts.decompressor.decompress(encoded, raw_length).map_err(|_| corrupt())
        })?,
    };
    if decoded.len() == raw_length { Ok(decoded) } else { Err(corrupt()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &[u8], expect: Codec) {
        let mut encoded = b"before".to_vec();
        assert_eq!(compress(text, DEFAULT_LEVEL, &mut encoded).unwrap(), expect);
        assert_eq!(decompress(expect, &encoded[6..], text.len()).unwrap(), text);
        for wrong in [text.len() + 1, text.len() - 1] {
            assert!(decompress(expect, &encoded[6..], wrong).is_err());
        }
    }

    #[test]
    fn round_trips_and_stores_what_does_not_shrink() {
        check(&[7; 100_000], Codec::Zstd);
        let mut noise = vec![0; 300_000];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        check(&noise, Codec::Stored);
        check(b"x", Codec::Stored);
    }
}
