//! Reads a stream and cuts it as it comes.

use std::io::Read;
use std::sync::Arc;

use super::context::Context;
use super::work::Cut;
use crate::repository::{Error, Result};

/// Bytes read before a piece is handed out.
pub const PIECE: usize = 2 << 20;

/// Reads to the end, cutting as it comes, and gives the cuts of one buffer after another to `submit`. How many bytes
/// there were, those that were `begun` with included. The inner error is the reader's.
pub fn cut_stream(
    context: &Context<'_>,
    begun: Vec<u8>,
    reader: &mut dyn Read,
    submit: &mut dyn FnMut(Arc<Vec<u8>>, Vec<Cut>) -> Result<()>,
) -> Result<std::io::Result<u64>> {
    let max = context.chunker.params().max();
    let mut total = begun.len() as u64;
    let mut carried = begun;
    loop {
        if context.progress.interrupted() {
            return Err(Error::interrupted());
        }
        let mut buffer = Vec::with_capacity(PIECE + max);
        buffer.extend_from_slice(&carried);
        let wanted = (PIECE + max).saturating_sub(carried.len()) as u64;
        let read = match (&mut *reader).take(wanted).read_to_end(&mut buffer) {
            Ok(read) => read as u64,
            Err(error) => return Ok(Err(error)),
        };
        total += read;
        let at_end = read < wanted;
        let (cuts, used) = cut_buffer(context, &buffer, at_end, max);
        carried = buffer[used..].to_vec();
        if !cuts.is_empty() {
            submit(Arc::new(buffer), cuts)?;
        }
        if at_end {
            return Ok(Ok(total));
        }
    }
}

/// Cuts that are final whatever follows, and how many bytes they take.
fn cut_buffer(context: &Context<'_>, buffer: &[u8], at_end: bool, max: usize) -> (Vec<Cut>, usize) {
    let mut cuts = Vec::new();
    let mut start = 0;
    while start < buffer.len() && (at_end || buffer.len() - start >= max) {
        let length = context.chunker.cut(&buffer[start..]);
        cuts.push(Cut::Data(start..start + length));
        start += length;
    }
    (cuts, start)
}
