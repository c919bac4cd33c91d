//! Finds out what a store does, by doing it: what its owner should know before trusting it with backups.
//!
//! Everything happens under one prefix of its own, which is empty again afterwards. What a store claims is not asked;
//! what no test can show (that acknowledged objects survive a power loss) is not said.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::repository::{Error, Result};
use crate::store::{ErrorKind, Store, StoreError};

/// Objects that a listing has to show.
const LISTED: usize = 20;
/// Races of two puts of different bytes under one key.
const RACES: usize = 6;
const RATE_BYTES: usize = 8 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Yes,
    No,
}

/// One thing that was tried.
#[derive(Debug, Clone)]
pub struct Finding {
    /// a stable name, as in `--json`
    pub name: &'static str,
    /// what it means
    pub question: &'static str,
    pub verdict: Verdict,
    /// Backups rely on it.
    pub needed: bool,
    /// what was seen, if it was not what it should be
    pub detail: String,
}

#[derive(Debug, Clone, Default)]
pub struct ProbeReport {
    pub findings: Vec<Finding>,
    /// of an object of 1 KiB, the median of some
    pub put: Duration,
    pub get: Duration,
    pub list: Duration,
    pub delete: Duration,
    /// of one object of 8 MiB, in bytes a second
    pub put_rate: u64,
    pub get_rate: u64,
}

impl ProbeReport {
    /// Whether backups may rely on this store.
    pub fn is_ok(&self) -> bool {
        self.findings.iter().all(|finding| !finding.needed || finding.verdict == Verdict::Yes)
    }
}

/// Tries a store. Fails where it does not answer at all, or refuses to put an object.
pub fn probe(store: &dyn Store) -> Result<ProbeReport> {
    let number = getrandom::u64().map_err(|error| Error::failed(error.to_string()))?;
    let probe = Probe { store, prefix: format!("test/{number:016x}/") };
    let mut report = ProbeReport::default();
    let tried = probe.all(&mut report);
    // also after a failure: nothing of a test is to stay
    let removed = probe.remove_all();
    tried.and(removed).map_err(Error::from)?;
    Ok(report)
}

struct Probe<'a> {
    store: &'a dyn Store,
    prefix: String,
}

type Tried<T> = std::result::Result<T, StoreError>;

impl Probe<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn all(&self, report: &mut ProbeReport) -> Tried<()> {
        self.objects(report)?;
        self.ranges(report)?;
        self.once(report)?;
        self.deletions(report)?;
        self.rates(report)
    }

    /// Puts objects one by one; each has to be in the very next listing.
    fn objects(&self, report: &mut ProbeReport) -> Tried<()> {
        let (mut puts, mut gets, mut lists) = (Vec::new(), Vec::new(), Vec::new());
        let (mut unseen, mut wrong) = (0, 0);
        let mut sorted = true;
        for number in 0..LISTED {
            // not in the order of their names
            let key = self.key(&format!("object-{:02}", number * 7 % LISTED));
            let object = Bytes::from(vec![number as u8; 1024]);
            puts.push(timed(|| self.store.put(&key, object.clone()))?.0);
            let (time, listed) = timed(|| self.store.list(&self.prefix))?;
            lists.push(time);
            let seen = listed.iter().any(|entry| entry.key == key && entry.length == 1024);
            unseen += usize::from(!seen || listed.len() != number + 1);
            sorted &= listed.is_sorted();
            let (time, got) = timed(|| self.store.get(&key, 1 << 20))?;
            gets.push(time);
            wrong += usize::from(got != object);
        }
        (report.put, report.get, report.list) = (median(puts), median(gets), median(lists));
        report.found("visible", "what was put is in the next listing, with its length", unseen == 0, true, || {
            format!("{unseen} of {LISTED} listings were wrong; a lag must be stated before anything is pruned")
        });
        report.found("complete", "listings are whole and in order", sorted, true, String::new);
        report.found("same", "what was put is what comes back", wrong == 0, true, || {
            format!("{wrong} of {LISTED} objects differed")
        });
        Ok(())
    }

    fn ranges(&self, report: &mut ProbeReport) -> Tried<()> {
        let key = self.key("range");
        let mut object = vec![0; 1024];
        blake3::Hasher::new().finalize_xof().fill(&mut object);
        self.store.put(&key, Bytes::from(object.clone()))?;
        let middle = self.store.get_range(&key, 100, 200)?;
        let past = self.store.get_range(&key, 1000, 100);
        let is_short = past.is_err_and(|error| error.kind() == ErrorKind::Truncated);
        report.found(
            "ranges",
            "a part of an object can be had alone",
            middle == object[100..300],
            true,
            String::new,
        );
        report.found(
            "ends",
            "what reaches past an object's end is refused",
            is_short,
            true,
            String::new,
        );
        Ok(())
    }

    /// Other bytes under a name that is taken; two at once under one that is not.
    fn once(&self, report: &mut ProbeReport) -> Tried<()> {
        let key = self.key("object-00");
        let before = self.store.get(&key, 1 << 20)?;
        self.store.put(&key, before.clone())?;
        let refused = self.store.put(&key, Bytes::from_static(b"other"));
        let refused = refused.is_err_and(|error| error.kind() == ErrorKind::Exists);
        let kept = self.store.get(&key, 1 << 20)? == before;
        report.found("once", "an object is never replaced", refused && kept, false, || {
            "it was; esker's names are hashes or random, so it never comes to that".to_owned()
        });
        let mut both = 0;
        for race in 0..RACES {
            let key = self.key(&format!("race-{race}"));
            let put = |bytes: &'static [u8]| self.store.put(&key, Bytes::from_static(bytes));
            let (one, other) = std::thread::scope(|scope| {
                let one = scope.spawn(|| put(b"one"));
                (put(b"other"), one.join())
            });
            both += usize::from(one.is_ok() && other.is_ok_and(|result| result.is_ok()));
        }
        report.found(
            "races",
            "of two that put under one name at once, one wins",
            both == 0,
            false,
            || format!("both did in {both} of {RACES} tries; likewise"),
        );
        Ok(())
    }

    fn deletions(&self, report: &mut ProbeReport) -> Tried<()> {
        let mut deletes = Vec::new();
        let mut seen = 0;
        for number in 0..5 {
            let key = self.key(&format!("object-{number:02}"));
            deletes.push(timed(|| self.store.delete(&key))?.0);
            seen +=
                usize::from(self.store.list(&self.prefix)?.iter().any(|entry| entry.key == key));
            let got = self.store.get(&key, 1 << 20);
            seen += usize::from(!got.is_err_and(|error| error.kind() == ErrorKind::NotFound));
        }
        let again = self.store.delete(&self.key("object-00")).is_ok();
        report.delete = median(deletes);
        report.found(
            "deletes",
            "what was deleted is gone from listings and reads",
            seen == 0 && again,
            true,
            || format!("{seen} times it was still there"),
        );
        Ok(())
    }

    fn rates(&self, report: &mut ProbeReport) -> Tried<()> {
        let key = self.key("large");
        let mut bytes = vec![0; RATE_BYTES];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        let object = Bytes::from(bytes);
        let put = timed(|| self.store.put(&key, object.clone()))?.0;
        let (get, got) = timed(|| self.store.get(&key, RATE_BYTES as u64))?;
        report.put_rate = rate(put);
        report.get_rate = rate(get);
        report.found("large", "8 MiB come back as they were", got == object, true, String::new);
        Ok(())
    }

    fn remove_all(&self) -> Tried<()> {
        for entry in self.store.list(&self.prefix)? {
            self.store.delete(&entry.key)?;
        }
        Ok(())
    }
}

impl ProbeReport {
    fn found(
        &mut self,
        name: &'static str,
        question: &'static str,
        holds: bool,
        needed: bool,
        otherwise: impl Fn() -> String,
    ) {
        let (verdict, detail) =
            if holds { (Verdict::Yes, String::new()) } else { (Verdict::No, otherwise()) };
        self.findings.push(Finding { name, question, verdict, needed, detail });
    }
}

fn timed<T>(work: impl FnOnce() -> Tried<T>) -> Tried<(Duration, T)> {
    let start = Instant::now();
    let result = work()?;
    Ok((start.elapsed(), result))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn rate(time: Duration) -> u64 {
    (RATE_BYTES as f64 / time.as_secs_f64().max(1e-6)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Listed, OpendalStore};

    #[test]
    fn a_good_store_is_found_good_and_left_empty() {
        let store = OpendalStore::memory().unwrap();
        let report = probe(&store).unwrap();
        assert!(report.is_ok(), "{report:?}");
        assert!(report.findings.iter().all(|finding| finding.verdict == Verdict::Yes));
        assert_eq!(store.list("").unwrap(), []);
    }

    /// Shows the newest object one listing late.
    struct Lagging(OpendalStore, std::sync::Mutex<Vec<Listed>>);

    impl Store for Lagging {
        fn url(&self) -> &str {
            self.0.url()
        }
        fn put(&self, key: &str, object: Bytes) -> crate::store::Result<()> {
            self.0.put(key, object)
        }
        fn get(&self, key: &str, max_length: u64) -> crate::store::Result<Bytes> {
            self.0.get(key, max_length)
        }
        fn get_range(&self, key: &str, offset: u64, length: u64) -> crate::store::Result<Bytes> {
            self.0.get_range(key, offset, length)
        }
        fn list(&self, prefix: &str) -> crate::store::Result<Vec<Listed>> {
            let now = self.0.list(prefix)?;
            Ok(std::mem::replace(&mut *self.1.lock().unwrap(), now))
        }
        fn delete(&self, key: &str) -> crate::store::Result<()> {
            self.0.delete(key)
        }
    }

    #[test]
    fn a_lag_of_listings_is_found() {
        let store = Lagging(OpendalStore::memory().unwrap(), Default::default());
        let report = probe(&store).unwrap();
        assert!(!report.is_ok());
        let wrong = |name| {
            let found = report.findings.iter().find(|finding| finding.name == name);
            found.is_some_and(|finding| finding.verdict == Verdict::No)
        };
        assert!(wrong("visible") && wrong("deletes") && !wrong("same"));
    }
}
