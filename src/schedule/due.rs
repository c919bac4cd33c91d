//! Whether a run of a profile is due, and when the next one is.
//!
//! An *occurrence* is a time that the expressions name; its run begins at that
//! time and the jitter. A run serves every occurrence up to its beginning: so
//! many missed ones lead to one run, and a clock that is set back to none.

use std::time::Duration;

use jiff::Timestamp;

use super::Job;

/// A run that begins later than this was missed. Whoever asks every five minutes is on time.
pub const ON_TIME: Duration = Duration::from_secs(10 * 60);
/// A last run that lies further ahead was noted while the clock was wrong.
const CREDIBLY_AHEAD: Duration = Duration::from_secs(24 * 60 * 60);
/// A clock may be set back so much between a scheduler's look at it and a run's.
const CLOCK_SLACK: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// When the run was to begin that is to begin now.
    pub due: Option<Timestamp>,
    /// When one is to begin after that; later than now.
    pub next: Option<Timestamp>,
}

/// `last` is when a run of this profile began last, or when the profile was
/// first seen. Without it, nothing counts as missed. `machine` spreads the jitter.
pub fn outlook(job: &Job, machine: &str, last: Option<Timestamp>, now: Timestamp) -> Outlook {
    let last = credible(last, now);
    let occurrences = Occurrences { job, machine };
    let (due, waiting) = occurrences.up_to(now, last);
    let from = last.map_or(now, |last| last.max(now));
    let coming = occurrences.first_start_after(from);
    // a run that begins now also serves what waits for its jitter
    let waiting = waiting.filter(|_| due.is_none());
    Outlook { due, next: waiting.into_iter().chain(coming).min() }
}

/// How long a run is to wait for the jitter of the time that it was started at
/// exactly, as cron and Kubernetes do. None if it is late by then.
pub fn delay(job: &Job, machine: &str, last: Option<Timestamp>, now: Timestamp) -> Duration {
    let occurrences = Occurrences { job, machine };
    let (due, waiting) = occurrences.up_to(now, credible(last, now));
    let waiting = waiting.filter(|_| due.is_none()).map(|start| start.duration_since(now));
    waiting.and_then(|wait| wait.try_into().ok()).unwrap_or(Duration::ZERO)
}

/// Whether every time up to now was served by a run that began at `last`: a
/// second scheduler has nothing left to do then. Where no times are known, none was.
pub fn is_served(job: &Job, last: Timestamp, now: Timestamp) -> bool {
    let occurrences = Occurrences { job, machine: "" };
    let soon = later(now, CLOCK_SLACK);
    let served = |last| occurrences.after(last).is_none_or(|next| next > soon);
    !job.expressions.is_empty() && credible(Some(last), now).is_some_and(served)
}

fn credible(last: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
    last.filter(|last| *last <= later(now, CREDIBLY_AHEAD))
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

fn earlier(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_sub(by).unwrap_or(Timestamp::MIN)
}

struct Occurrences<'a> {
    job: &'a Job,
    machine: &'a str,
}

impl Occurrences<'_> {
    fn after(&self, time: Timestamp) -> Option<Timestamp> {
        self.job.expressions.iter().filter_map(|expression| expression.next(time)).min()
    }

    /// The start of a run that is due by `now`, and the earliest start still to
    /// come of an occurrence that is past.
    fn up_to(
        &self,
        now: Timestamp,
        last: Option<Timestamp>,
    ) -> (Option<Timestamp>, Option<Timestamp>) {
        let job = self.job;
        // whatever the jitter, runs of occurrences up to here were to begin by now
        let settled = earlier(now, job.jitter);
        // the bound itself is on time
        let on_time = earlier(earlier(settled, ON_TIME), Duration::from_micros(1));
        let first_missed = last.filter(|_| job.catch_up).and_then(|last| self.after(last));
        if let Some(missed) = first_missed.filter(|missed| *missed <= settled) {
            return (Some(self.start(missed)), None);
        }
        let mut at = last.map_or(on_time, |last| last.max(on_time));
        let mut waiting: Option<Timestamp> = None;
        while let Some(occurrence) = self.after(at).filter(|occurrence| *occurrence <= now) {
            let start = self.start(occurrence);
            let counts = (job.catch_up && last.is_some()) || later(start, ON_TIME) >= now;
            if start <= now && counts {
                return (Some(start), None);
            }
            if start > now {
                waiting = Some(waiting.map_or(start, |waiting| waiting.min(start)));
            }
            at = occurrence;
        }
        (None, waiting)
    }

    fn first_start_after(&self, from: Timestamp) -> Option<Timestamp> {
        let mut first: Option<Timestamp> = None;
        let mut at = from;
        while let Some(occurrence) = self.after(at) {
            if first.is_some_and(|first| first <= occurrence) {
                break;
            }
            let start = self.start(occurrence);
            first = Some(first.map_or(start, |first| first.min(start)));
            at = occurrence;
        }
        first
    }

    /// The same for one occurrence, profile and machine, however often it is asked.
    fn start(&self, occurrence: Timestamp) -> Timestamp {
        let jitter_ms = u64::try_from(self.job.jitter.as_millis()).unwrap_or(u64::MAX - 1);
        if jitter_ms == 0 {
            return occurrence;
        }
        let mut hasher = blake3::Hasher::new();
        for part in [self.machine, &self.job.profile] {
            hasher.update(part.as_bytes()).update(&[0]);
        }
        hasher.update(&occurrence.as_microsecond().to_le_bytes());
        let mut chance = [0; 8];
        hasher.finalize_xof().fill(&mut chance);
        let delay_ms = u64::from_le_bytes(chance) % jitter_ms.saturating_add(1);
        later(occurrence, Duration::from_millis(delay_ms))
    }
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;
    use jiff::tz::TimeZone;

    use super::*;

    fn job(settings: &str) -> Job {
        Job::of("web", &toml::from_str(settings).unwrap(), &TimeZone::UTC).unwrap()
    }

    fn time(text: &str) -> Timestamp {
        format!("2026-{text}Z").parse().unwrap()
    }

    /// What is due and next at `now`, after a run at `last`.
    fn check(job: &Job, last: &str, now: &str, due: Option<&str>, next: &str) {
        let last = Some(last).filter(|last| !last.is_empty()).map(time);
        let expected = Outlook { due: due.map(time), next: Some(time(next)) };
        assert_eq!(outlook(job, "host", last, time(now)), expected, "{last:?} {now}");
    }

    #[test]
    fn several_a_day_run_once_each() {
        let job = job("schedule = ['02:30', '0 14 * * *']");
        check(&job, "05-01T14:00", "05-02T02:29:59", None, "05-02T02:30");
        check(&job, "05-01T14:00", "05-02T02:30", Some("05-02T02:30"), "05-02T14:00");
        check(&job, "05-02T02:30", "05-02T02:30:01", None, "05-02T14:00");
        check(&job, "05-02T02:30", "05-02T14:00", Some("05-02T14:00"), "05-03T02:30");
    }

    #[test]
    fn three_days_asleep_lead_to_one_run() {
        let job = job("schedule = ['02:30', '*:00']");
        check(&job, "05-01T23:00", "05-04T09:10", Some("05-02T00:00"), "05-04T10:00");
        check(&job, "05-04T09:10", "05-04T09:10:01", None, "05-04T10:00");
    }

    #[test]
    fn without_catch_up_what_was_missed_stays_missed() {
        let job = job("schedule = ['02:30']\ncatch_up = false");
        check(&job, "05-01T02:30", "05-04T02:29", None, "05-04T02:30");
        check(&job, "05-01T02:30", "05-04T02:40", Some("05-04T02:30"), "05-05T02:30");
        check(&job, "05-01T02:30", "05-04T02:40:01", None, "05-05T02:30");
    }

    /// Nothing can have been missed then; what is on time runs.
    #[test]
    fn a_profile_that_never_ran_waits_for_its_time() {
        let job = job("schedule = ['02:30']");
        check(&job, "", "05-04T14:00", None, "05-05T02:30");
        check(&job, "", "05-05T02:33", Some("05-05T02:30"), "05-06T02:30");
    }

    #[test]
    fn a_clock_set_back_an_hour_runs_nothing_twice() {
        let job = job("schedule = ['02:00', '03:00']");
        check(&job, "05-04T02:30", "05-04T01:45", None, "05-04T03:00");
        check(&job, "05-04T02:30", "05-04T02:00", None, "05-04T03:00");
        check(&job, "05-04T02:30", "05-04T03:00", Some("05-04T03:00"), "05-05T02:00");
    }

    #[test]
    fn a_last_run_in_the_far_future_is_not_believed() {
        let job = job("schedule = ['02:00']");
        check(&job, "12-31T02:00", "05-04T02:01", Some("05-04T02:00"), "05-05T02:00");
        assert!(!is_served(&job, time("12-31T02:00"), time("05-04T02:01")));
    }

    #[test]
    fn a_second_scheduler_sees_that_the_time_was_served() {
        let job = job("schedule = ['02:00']");
        assert!(is_served(&job, time("05-04T02:00:00"), time("05-04T02:00:30")));
        assert!(is_served(&job, time("05-04T02:30:00"), time("05-04T01:45:00")));
        assert!(!is_served(&job, time("05-03T02:00:01"), time("05-04T02:00:00")));
    }

    #[test]
    fn jitter_is_stable_spread_and_within_its_bound() {
        let job = job("schedule = ['02:00']\njitter = '1h'");
        let day = time("05-04T02:00");
        let start = |machine, day| Occurrences { job: &job, machine }.start(day);
        let mut starts: Vec<_> = ["a", "b", "c", "d"].map(|machine| start(machine, day)).into();
        starts.extend((1..30).map(|days| {
            let day = day + (24 * days).hours();
            start("a", day) - (24 * days).hours()
        }));
        assert!(starts.iter().all(|time| *time >= day && *time <= day + 1.hour()));
        assert_eq!(start("a", day), start("a", day));
        starts.sort();
        starts.dedup();
        assert_eq!(starts.len(), 33);
        let spread = starts[32].duration_since(starts[0]);
        assert!(spread > jiff::SignedDuration::from_mins(40), "{spread}");
    }

    #[test]
    fn a_run_waits_for_its_jitter_and_a_catch_up_serves_it_too() {
        let job = job("schedule = ['02:00']\njitter = '1h'");
        let at = |text| Occurrences { job: &job, machine: "host" }.start(time(text));
        let (today, tomorrow) = (at("05-04T02:00"), at("05-05T02:00"));
        let yesterday = Some(time("05-03T02:30"));
        let outlook = |last, now| outlook(&job, "host", last, now);
        let before = today - 1.microsecond();
        assert_eq!(outlook(yesterday, before), Outlook { due: None, next: Some(today) });
        assert_eq!(outlook(yesterday, today), Outlook { due: Some(today), next: Some(tomorrow) });
        let woken = time("05-04T02:00:00");
        let missed = outlook(Some(time("05-01T02:30")), woken);
        assert_eq!(missed, Outlook { due: Some(at("05-02T02:00")), next: Some(tomorrow) });
        assert_eq!(outlook(Some(woken), today), Outlook { due: None, next: Some(tomorrow) });
        let delay = |last, now| delay(&job, "host", last, now);
        assert_eq!(woken + delay(yesterday, woken), today);
        assert_eq!(delay(yesterday, today), Duration::ZERO);
        assert_eq!(delay(Some(time("05-01T02:30")), woken), Duration::ZERO);
    }
}
