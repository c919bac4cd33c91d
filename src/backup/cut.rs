//! Reads a stream and cuts it as it comes.

use std::io::{self, Read};
use std::sync::Arc;

use super::context::Context;
use super::work::Cut;
use crate::repository::{Error, Result};

/// Bytes read before a piece is handed out: half a block, since several pieces
/// wait for every worker.
pub const PIECE: usize = 1 << 20;

/// Reads to the end, cutting as it comes, and gives the cuts of one buffer after another to `submit`. How many bytes
/// there were, those that were `begun` with included. The inner error is the reader's.
pub fn cut_stream(
    context: &Context<'_>,
    buffers: &mut Buffers,
    begun: Vec<u8>,
    reader: &mut dyn Read,
    submit: &mut dyn FnMut(Arc<Vec<u8>>, Vec<Cut>) -> Result<()>,
) -> Result<io::Result<u64>> {
    let max = context.chunker.params().max();
    let mut total = begun.len() as u64;
    let mut carried = begun;
    loop {
        if context.progress.interrupted() {
            return Err(Error::interrupted());
        }
        let mut shared = buffers.take(PIECE + max);
        let buffer = Arc::make_mut(&mut shared);
        let (head, room) = buffer.split_at_mut(carried.len());
        head.copy_from_slice(&carried);
        let read = match fill(reader, room) {
            Ok(read) => read,
            Err(error) => return Ok(Err(error)),
        };
        total += read as u64;
        let at_end = read < room.len();
        let filled = carried.len() + read;
        let (cuts, used) = cut_buffer(context, &buffer[..filled], at_end, max);
        carried = buffer[used..filled].to_vec();
        if !cuts.is_empty() {
            submit(shared.clone(), cuts)?;
        }
        buffers.0.push(shared);
        if at_end {
            return Ok(Ok(total));
        }
    }
}

/// Buffers that were handed out. Those that came back are filled again: new
/// memory costs as much as reading into it.
#[derive(Default)]
pub struct Buffers(Vec<Arc<Vec<u8>>>);

impl Buffers {
    fn take(&mut self, length: usize) -> Arc<Vec<u8>> {
        match self.0.iter_mut().position(|buffer| Arc::get_mut(buffer).is_some()) {
            Some(at) => self.0.swap_remove(at),
            None => Arc::new(vec![0; length]),
        }
    }
}

/// Reads until the buffer is full or the end has come; how many bytes.
fn fill(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
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
