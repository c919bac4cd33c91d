//! A small scheduler: starts runs of profiles when they are due, each on a
//! thread of its own and never two of one profile at once.
//!
//! It goes by the wall clock, which it reads often enough to notice soon that a
//! machine woke up or a clock was set. What it starts is the caller's.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::unbounded;
use jiff::Timestamp;

use super::Job;
use super::due::outlook;

/// How long the clock is not looked at, at most.
pub const POLL: Duration = Duration::from_secs(30);

pub struct Runner<'a> {
    pub jobs: &'a [Job],
    /// As [`super::machine`].
    pub machine: &'a str,
    pub now: &'a dyn Fn() -> Timestamp,
    /// When a run of a profile began last, as far as is known elsewhere.
    pub last: &'a dyn Fn(&Job) -> Option<Timestamp>,
    /// Runs a profile to its end. Has to end soon once `stop` is raised.
    pub start: &'a (dyn Fn(&Job) + Sync),
    pub stop: &'a AtomicBool,
    /// How often `stop` is looked at.
    pub tick: Duration,
}

/// What is known of a job here.
#[derive(Clone, Copy, Default)]
struct State {
    running: bool,
    /// When this scheduler started it last.
    began: Option<Timestamp>,
}

impl Runner<'_> {
    /// Until `stop` is raised; then as soon as what runs has ended.
    pub fn run(&self) {
        let mut states = vec![State::default(); self.jobs.len()];
        let (ended, ends) = unbounded();
        thread::scope(|scope| {
            while !self.stop.load(Ordering::Relaxed) {
                let (due, wait) = self.look(&mut states);
                for number in due {
                    let (ended, start, job) = (ended.clone(), self.start, &self.jobs[number]);
                    scope.spawn(move || {
                        start(job);
                        let _ = ended.send(number);
                    });
                }
                self.wait(wait, &ends, &mut states);
            }
        });
    }

    /// Which jobs to start now, and how long nothing else is due.
    fn look(&self, states: &mut [State]) -> (Vec<usize>, Duration) {
        let now = (self.now)();
        let mut wait = POLL;
        let mut due = Vec::new();
        for (number, (job, state)) in self.jobs.iter().zip(states).enumerate() {
            if state.running {
                continue;
            }
            let last = (self.last)(job).into_iter().chain(state.began).max();
            let outlook = outlook(job, self.machine, last, now);
            if outlook.due.is_some() {
                *state = State { running: true, began: Some(now) };
                due.push(number);
            }
            let until = outlook.next.map(|next| next.duration_since(now));
            wait = until.and_then(|until| until.try_into().ok()).unwrap_or(POLL).min(wait);
        }
        (due, wait)
    }

    /// Until the time is over, a run ends, or `stop` is raised.
    fn wait(
        &self,
        mut left: Duration,
        ends: &crossbeam_channel::Receiver<usize>,
        states: &mut [State],
    ) {
        while !self.stop.load(Ordering::Relaxed) && !left.is_zero() {
            let tick = left.min(self.tick);
            if let Ok(number) = ends.recv_timeout(tick) {
                states[number].running = false;
                return;
            }
            left -= tick;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicI64;

    use jiff::tz::TimeZone;

    use super::*;

    fn job(profile: &str, settings: &str) -> Job {
        Job::of(profile, &toml::from_str(settings).unwrap(), &TimeZone::UTC).unwrap()
    }

    fn time(text: &str) -> Timestamp {
        format!("2026-{text}Z").parse().unwrap()
    }

    /// What begins when, as the scheduler looks at a clock that shows these
    /// times one after the other. Each run is over before the next look.
    fn simulate(jobs: &[Job], last: Option<Timestamp>, times: &[&str]) -> Vec<String> {
        let shown = Mutex::new("");
        let began = Mutex::new(Vec::new());
        let start = |job: &Job| {
            began.lock().unwrap().push(format!("{} {}", job.profile, shown.lock().unwrap()));
        };
        let runner = Runner {
            jobs,
            machine: "host",
            now: &|| time(&shown.lock().unwrap()),
            last: &|_| last,
            start: &start,
            stop: &AtomicBool::new(false),
            tick: Duration::ZERO,
        };
        let mut states = vec![State::default(); jobs.len()];
        for time in times {
            *shown.lock().unwrap() = time;
            for number in runner.look(&mut states).0 {
                (runner.start)(&jobs[number]);
                states[number].running = false;
            }
        }
        began.into_inner().unwrap()
    }

    #[test]
    fn a_suspend_leads_to_one_run_and_a_clock_set_back_to_none() {
        let jobs = [job("web", "schedule = ['02:00']"), job("db", "schedule = ['*:30']")];
        let times = [
            "05-01T01:59:59",
            "05-01T02:00",
            "05-01T02:00:30",
            "05-01T02:30",
            "05-01T02:31",
            // the clock is set back an hour
            "05-01T01:31",
            "05-01T02:00",
            "05-01T02:30:30",
            // and three days later
            "05-04T09:45",
            "05-04T09:45:30",
            "05-04T10:30",
        ];
        let expected = [
            "web 05-01T02:00",
            "db 05-01T02:30",
            "web 05-04T09:45",
            "db 05-04T09:45",
            "db 05-04T10:30",
        ];
        assert_eq!(simulate(&jobs, Some(time("05-01T01:31")), &times), expected);
    }

    #[test]
    fn what_another_scheduler_ran_is_not_run_again() {
        let jobs = [job("web", "schedule = ['02:00']")];
        let none: [&str; 0] = [];
        assert_eq!(simulate(&jobs, Some(time("05-01T02:00:10")), &["05-01T02:00:20"]), none);
    }

    /// The real loop: a second time comes while the first run is still going on.
    #[test]
    fn never_two_of_one_profile_and_it_stops_when_told() {
        let jobs = [job("web", "schedule = ['*:*:*']"), job("db", "schedule = ['*:*:*']")];
        let (stop, clock) = (AtomicBool::new(false), AtomicI64::new(1_777_600_000));
        let going: [AtomicBool; 2] = Default::default();
        let runs: [AtomicI64; 2] = Default::default();
        let start = |job: &Job| {
            let number = usize::from(job.profile == "db");
            assert!(!going[number].swap(true, Ordering::SeqCst), "two of one profile");
            let others = &runs[1 - number];
            let before = others.load(Ordering::SeqCst);
            // web waits until db has run three times meanwhile
            while number == 0
                && others.load(Ordering::SeqCst) < before + 3
                && !stop.load(Ordering::SeqCst)
            {
                thread::yield_now();
            }
            going[number].store(false, Ordering::SeqCst);
            if runs[number].fetch_add(1, Ordering::SeqCst) == 4 && number == 0 {
                stop.store(true, Ordering::SeqCst);
            }
        };
        let now = || Timestamp::from_second(clock.fetch_add(1, Ordering::SeqCst)).unwrap();
        let tick = Duration::from_millis(1);
        let last = |_: &Job| None;
        let runner = Runner {
            jobs: &jobs,
            machine: "host",
            now: &now,
            last: &last,
            start: &start,
            stop: &stop,
            tick,
        };
        runner.run();
        assert_eq!(runs[0].load(Ordering::SeqCst), 5);
        assert!(runs[1].load(Ordering::SeqCst) >= 15);
    }
}
