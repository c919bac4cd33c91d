//! Names of objects on their way to a file server: when the put began, and a number nobody else has.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::store::key::TEMPORARY;
use crate::store::{ErrorKind, Result, StoreError};

/// Temporary objects of puts that were begun so long ago are of no use to anybody.
const TEMPORARY_AGE_MS: u64 = 3 * 24 * 3600 * 1000;

/// A name that nobody else uses, beneath `tmp/`.
pub(super) fn name(url: &str) -> Result<String> {
    let number = getrandom::u64().map_err(|error| {
        StoreError::new(ErrorKind::Permanent, url, "").because(error.to_string())
    })?;
    Ok(format!("{TEMPORARY}/{:x}-{number:016x}", now_ms()))
}

/// Whether a name, or a path that ends in one, is of a put that certainly ended long ago.
pub(super) fn is_old(name: &str) -> bool {
    let made = name.rsplit('/').next().and_then(|name| name.split_once('-'));
    let made = made.and_then(|(made, _)| u64::from_str_radix(made, 16).ok());
    made.is_some_and(|made| made.saturating_add(TEMPORARY_AGE_MS) < now_ms())
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}
