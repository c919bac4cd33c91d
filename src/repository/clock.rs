//! Whether this machine's clock is fit to judge age. A wrong one could let all
//! snapshots expire at once, so what counts days asks here first.
//!
//! `format-spec/13-protocol.md`, "The clock".

use jiff::Timestamp;

use super::Repository;
use super::error::{Error, Result};
use super::keyring::Standing;
use super::runs::Run;
use super::snapshots::Listing;

/// How far a clock may be behind what others wrote: machines differ a little.
pub const BEHIND_MS: u64 = 10 * 60 * 1000;
/// How far it may be ahead: a repository is in use, or its age is not judged.
pub const AHEAD_MS: u64 = 3 * 24 * 60 * 60 * 1000;

impl Repository {
    /// The newest time seen, in ms since 1970: what manifests, confirmations and
    /// marks tell, the signs of runs whose writers are in force, and the store's
    /// date, if it has one.
    pub fn newest_time(&self, listing: &Listing, runs: &[Run]) -> Result<u64> {
        let in_force = |run: &&Run| matches!(self.trust.standing(run.writer), Standing::InForce(_));
        let signs = runs.iter().filter(in_force).map(|run| run.last_sign).max();
        let date = self.store.date()?;
        Ok(listing.newest_time.max(signs.unwrap_or(0)).max(date.unwrap_or(0)))
    }
}

/// The time to judge age by, if `now_ms` can be believed: not behind the newest
/// time seen, nor far ahead of it. Where nothing was seen yet, any clock will do.
///
/// Seen are the times in authenticated objects and, where the store tells one,
/// its date; all in ms since 1970. With `trusted` the owner vouches for the clock.
pub fn believable_now(
    newest_seen_ms: u64,
    store_date_ms: Option<u64>,
    now_ms: u64,
    trusted: bool,
) -> Result<u64> {
    let newest = newest_seen_ms.max(store_date_ms.unwrap_or(0));
    if trusted || newest == 0 {
        return Ok(now_ms);
    }
    let (now, seen) = (date(now_ms), date(newest));
    if now_ms < newest.saturating_sub(BEHIND_MS) {
        return Err(Error::failed(format!(
            "this machine's clock says {now}, but the newest time in the repository is {seen}: set \
             the clock; if it is right and another machine's was wrong, say --i-trust-this-clock"
        )));
    }
    if now_ms > newest.saturating_add(AHEAD_MS) {
        return Err(Error::failed(format!(
            "this machine's clock says {now}, more than three days after the newest time in the \
             repository, {seen}: set the clock; if it is right and the repository was merely \
             quiet, run a backup first or, where that cannot be, say --i-trust-this-clock"
        )));
    }
    Ok(now_ms)
}

/// A snapshot dated after this cannot be believed, whatever vouched for the clock.
pub fn latest_believed(now_ms: u64) -> u64 {
    now_ms.saturating_add(BEHIND_MS)
}

fn date(ms: u64) -> String {
    let time =
        i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms / 1000 * 1000).ok());
    time.map_or_else(|| format!("{ms} ms after 1970"), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 60 * 60 * 1000;

    fn ms(text: &str) -> u64 {
        text.parse::<Timestamp>().unwrap().as_millisecond() as u64
    }

    fn check(seen: u64, store: Option<u64>, now: u64, believed: bool) {
        assert_eq!(
            believable_now(seen, store, now, false).is_ok(),
            believed,
            "{seen} {store:?} {now}"
        );
        assert_eq!(believable_now(seen, store, now, true).unwrap(), now);
    }

    #[test]
    fn a_clock_is_believed_near_what_was_seen() {
        let seen = ms("2026-11-21T02:00:00Z");
        check(seen, None, seen, true);
        check(seen, None, seen - BEHIND_MS, true);
        check(seen, None, seen - BEHIND_MS - 1, false);
        check(seen, None, seen + 3 * DAY, true);
        check(seen, None, seen + 3 * DAY + 1, false);
    }

    #[test]
    fn a_store_that_tells_the_date_vouches_for_a_quiet_repository() {
        let seen = ms("2026-11-21T02:00:00Z");
        check(seen, Some(seen + 90 * DAY), seen + 90 * DAY, true);
        check(seen, Some(seen + 90 * DAY), seen + DAY, false);
        check(0, Some(seen), seen, true);
        check(0, Some(seen), 0, false);
    }

    #[test]
    fn maintainers_in_1970_and_2038_are_told_what_is_wrong() {
        let seen = ms("2026-11-21T02:00:00Z");
        let error = believable_now(seen, None, 5000, false).unwrap_err().message;
        assert!(error.contains("1970-01-01T00:00:05Z") && error.contains("2026-11-21T02:00:00Z"));
        assert!(error.contains("--i-trust-this-clock"), "{error}");
        let error =
            believable_now(seen, None, ms("2038-01-19T03:14:08Z"), false).unwrap_err().message;
        assert!(error.contains("2038-01-19") && error.contains("run a backup first"), "{error}");
        assert!(believable_now(seen, None, u64::MAX, false).is_err());
    }

    #[test]
    fn an_empty_repository_believes_any_clock() {
        for now in [0, 5000, u64::MAX] {
            check(0, None, now, true);
        }
    }
}
