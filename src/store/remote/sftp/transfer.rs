//! Bytes of objects on their way: in pieces, several of them at once, at the pace that is allowed.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::session::{Failure, Handle, Pending, Session, Tried};
use super::wire::Request;
use crate::store::{ErrorKind, Limits, Pace};

/// Bytes of one object that are under way at once: a server that is 50 ms away is kept busy at 160 Mbit/s.
const WINDOW_BYTES: u64 = 1 << 20;

/// The length of the next piece. Waits until it may pass.
fn next_piece(pace: &Pace, longest: u32, left: u64) -> u32 {
    let slice = pace.slice().map_or(u64::MAX, |slice| slice as u64);
    let length = left.min(slice).min(longest.into()) as u32;
    let time = pace.pass(length as usize);
    if !time.is_zero() {
        std::thread::sleep(time);
    }
    length
}

/// Writes all of an object to a new file.
pub(super) fn write(
    session: &Session,
    handle: &Handle<'_>,
    object: &Bytes,
    limits: &Limits,
) -> Tried<()> {
    let mut under_way: VecDeque<(u32, Pending<'_>)> = VecDeque::new();
    let (mut rest, mut offset, mut unanswered) = (object.clone(), 0, 0);
    while !rest.is_empty() {
        let length = next_piece(&limits.upload, session.write_bytes, rest.len() as u64);
        let piece = rest.split_to(length as usize);
        let request = Request::Write { handle: handle.name(), offset, length };
        under_way.push_back((length, session.ask_with(&request, piece)?));
        offset += u64::from(length);
        unanswered += u64::from(length);
        while unanswered > WINDOW_BYTES
            && let Some((length, pending)) = under_way.pop_front()
        {
            pending.done()?;
            unanswered -= u64::from(length);
        }
    }
    under_way.into_iter().try_for_each(|(_, pending)| pending.done())
}

/// Reads exactly `length` bytes from `offset`, of which the caller knows that they are there.
pub(super) fn read(
    session: &Session,
    handle: &Handle<'_>,
    offset: u64,
    length: u64,
    limits: &Limits,
) -> Tried<Bytes> {
    let too_long = |_| Failure::Is(ErrorKind::TooLarge, "larger than memory".to_owned());
    let mut object = BytesMut::with_capacity(usize::try_from(length).map_err(too_long)?);
    let mut under_way: VecDeque<(u32, Pending<'_>)> = VecDeque::new();
    let mut asked = 0;
    while (object.len() as u64) < length {
        while asked < length && asked - (object.len() as u64) < WINDOW_BYTES {
            let piece = next_piece(&limits.download, session.read_bytes, length - asked);
            let request =
                Request::Read { handle: handle.name(), offset: offset + asked, length: piece };
            under_way.push_back((piece, session.ask(&request)?));
            asked += u64::from(piece);
        }
        let Some((wanted, pending)) = under_way.pop_front() else { break };
        let data = pending.data()?.unwrap_or_default();
        if data.is_empty() {
            return Err(Failure::Is(
                ErrorKind::Truncated,
                format!("it ends after {} bytes", object.len()),
            ));
        }
        if data.len() > wanted as usize {
            return Err(Failure::Is(
                ErrorKind::Permanent,
                "more came than was asked for".to_owned(),
            ));
        }
        object.extend_from_slice(&data);
        if data.len() < wanted as usize {
            // a server may give less at once: what is missing is asked for, and all behind it again
            under_way.clear();
            asked = object.len() as u64;
        }
    }
    Ok(object.freeze())
}
