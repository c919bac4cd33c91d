//! What can be told of a run now. One that is not seen to have ended is never
//! guessed to have failed.

use std::collections::HashMap;

use super::chains::Chains;
use super::runs::{Run, Sight, Whereabouts};
use super::snapshots::{Snapshot, State};
use crate::format::notes::SessionState;
use crate::id::{SnapshotId, WriterId};

/// A run whose last sign is older than this is no longer said to be running,
/// unless its process is seen. Six times what lies between two checkpoints.
pub const SILENT_AFTER_MS: u64 = 3_600_000;
/// Exit code of a run that a signal ended.
const INTERRUPTED: u64 = 130;

/// Why a run is known to be interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Somebody asked it to stop.
    Signal,
    /// It ran on this machine, where its process or its boot is gone.
    ProcessGone,
    /// The same host and profile started a run after its last sign of life.
    LaterRun,
}

/// What can be told of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// It made this snapshot, whose commit check passed.
    MadeSnapshot(SnapshotId),
    Running,
    Interrupted(Cause),
    /// No sign of life for so many hours, and nothing else is known.
    Silent {
        hours: u64,
    },
    Failed {
        code: u64,
    },
    /// It ended in good order without a snapshot that counts: nothing had
    /// changed, or another attempt was made.
    Ended,
}

impl RunState {
    /// Whether the run may still put something.
    pub fn may_go_on(self) -> bool {
        matches!(self, RunState::Running | RunState::Silent { .. })
    }
}

/// Judges runs by all that is known at one moment. Pure but for looking
/// whether processes live.
pub struct Judge<'a> {
    here: &'a Whereabouts,
    now: u64,
    made: HashMap<(SnapshotId, WriterId), SnapshotId>,
    /// When the newest run of a host and profile started.
    newest: HashMap<(&'a str, &'a str), u64>,
    chains: Chains<'a>,
}

impl<'a> Judge<'a> {
    /// `runs` must have been listed before `snapshots`. `now` is in ms since 1970.
    pub fn new(
        runs: &'a [Run],
        snapshots: &'a [Snapshot],
        here: &'a Whereabouts,
        now: u64,
    ) -> Judge<'a> {
        let mut newest = HashMap::new();
        for run in runs {
            let started: &mut u64 = newest.entry((&*run.host, &*run.profile)).or_default();
            *started = run.started.max(*started);
        }
        let chains = Chains::of(snapshots);
        let mut judge = Judge { here, now, made: HashMap::new(), newest, chains };
        let good = || snapshots.iter().filter(|s| s.state != State::Unconfirmed);
        for snapshot in good() {
            let chain = judge.chains.claimed(snapshot).skip(1).collect::<Vec<_>>();
            for id in chain {
                judge.made.insert((id, snapshot.manifest.writer), snapshot.id);
            }
        }
        // a manifest that lies under the run's own name comes first
        judge.made.extend(good().map(|s| ((s.id, s.manifest.writer), s.id)));
        judge
    }

    /// The run that put a snapshot's first manifest.
    pub fn run_of(&self, snapshot: &Snapshot) -> SnapshotId {
        self.chains.run_of(snapshot)
    }

    pub fn state(&self, run: &Run) -> RunState {
        if let Some(snapshot) = self.made.get(&(run.id, run.writer)) {
            return RunState::MadeSnapshot(*snapshot);
        }
        match (run.is_over(), run.code) {
            (true, Some(INTERRUPTED)) => return RunState::Interrupted(Cause::Signal),
            (true, Some(code)) => return RunState::Failed { code },
            (true, None) if run.state == SessionState::Failed => {
                return RunState::Failed { code: 1 };
            }
            (true, None) if !run.taken_over => return RunState::Ended,
            // only a run that saw the process gone takes over
            (true, None) => return RunState::Interrupted(Cause::ProcessGone),
            (false, _) => {}
        }
        match self.here.sees(run) {
            Sight::Living => return RunState::Running,
            Sight::Gone => return RunState::Interrupted(Cause::ProcessGone),
            Sight::OutOfSight => {}
        }
        let newest = self.newest.get(&(&*run.host, &*run.profile));
        if newest.is_some_and(|started| *started > run.last_sign) {
            return RunState::Interrupted(Cause::LaterRun);
        }
        match self.age(run.last_sign) {
            age if age < SILENT_AFTER_MS => RunState::Running,
            age => RunState::Silent { hours: age / 3_600_000 },
        }
    }

    /// Milliseconds since `time`; what seems to lie ahead was just now.
    pub fn age(&self, time: u64) -> u64 {
        self.now.saturating_sub(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;
    const MINUTE: u64 = 60_000;
    const NOW: u64 = 1_000 * HOUR;
    const HERE: Option<&str> = Some("here");
    const THERE: Option<&str> = Some("there");

    /// This is process 1 of the third boot; processes below 100 live.
    fn here() -> Whereabouts {
        Whereabouts {
            machine: HERE.map(str::to_owned),
            boot: "third".into(),
            process: 1,
            lives: |process| process < 100,
        }
    }

    /// A run that started and gave its last sign so long ago.
    fn run(id: u8, machine: Option<&str>, process: u64, started: u64, last_sign: u64) -> Run {
        Run {
            id: SnapshotId([id; 16]),
            writer: WriterId([9; 16]),
            host: "alpha".into(),
            profile: "default".into(),
            machine: machine.map(str::to_owned),
            boot: "third".into(),
            process,
            started: NOW - started,
            last_sign: NOW - last_sign,
            state: SessionState::Checkpoint,
            taken_over: false,
            packs: 0,
            bytes: 0,
            code: None,
            number: 2,
            failure: None,
        }
    }

    fn snapshot(id: u8, replaces: Option<u8>, state: State) -> Snapshot {
        let mut snapshot = Snapshot::example([id; 16], "alpha", "default", NOW);
        snapshot.state = state;
        snapshot.manifest.writer = WriterId([9; 16]);
        snapshot.manifest.replaces = replaces.map(|id| SnapshotId([id; 16]));
        snapshot
    }

    #[track_caller]
    fn check(run: Run, others: &[Run], snapshots: &[Snapshot], expected: RunState) {
        let runs: Vec<Run> = others.iter().chain([&run]).cloned().collect();
        let here = here();
        assert_eq!(Judge::new(&runs, snapshots, &here, NOW).state(&run), expected);
    }

    #[test]
    fn a_run_without_an_end_is_told_by_what_is_seen_of_it() {
        let gone = RunState::Interrupted(Cause::ProcessGone);
        for (machine, process, last_sign, expected) in [
            // elsewhere only the last sign tells
            (THERE, 50, 3 * MINUTE, RunState::Running),
            (THERE, 500, 3 * MINUTE, RunState::Running),
            (THERE, 50, HOUR - 1, RunState::Running),
            (THERE, 50, HOUR, RunState::Silent { hours: 1 }),
            (THERE, 500, 500 * HOUR, RunState::Silent { hours: 500 }),
            (None, 500, 7 * HOUR + 1, RunState::Silent { hours: 7 }),
            // here the process does, however long it says nothing
            (HERE, 50, 500 * HOUR, RunState::Running),
            (HERE, 500, 0, gone),
            // this very process makes no run while it looks
            (HERE, 1, 0, gone),
        ] {
            check(run(1, machine, process, 600 * HOUR, last_sign), &[], &[], expected);
        }
        let rebooted = Run { boot: "second".into(), ..run(1, HERE, 50, HOUR, HOUR) };
        check(rebooted.clone(), &[], &[], gone);
        let elsewhere = Run { machine: THERE.map(str::to_owned), ..rebooted };
        check(elsewhere, &[], &[], RunState::Silent { hours: 1 });
        let ahead = Run { last_sign: NOW + 500 * HOUR, ..run(1, THERE, 50, 0, 0) };
        check(ahead, &[], &[], RunState::Running);
    }

    #[test]
    fn who_cannot_tell_machines_apart_sees_no_process() {
        let nowhere = Whereabouts { machine: None, ..here() };
        let unknown = run(1, None, 500, HOUR, 0);
        assert_eq!(nowhere.sees(&unknown), Sight::OutOfSight);
        assert_eq!(here().sees(&unknown), Sight::OutOfSight);
    }

    #[test]
    fn a_later_run_of_the_same_host_and_profile_tells_of_an_interruption() {
        let earlier = || run(1, THERE, 50, 9 * HOUR, 8 * HOUR);
        let interrupted = RunState::Interrupted(Cause::LaterRun);
        let silent = RunState::Silent { hours: 8 };
        let later = run(2, THERE, 51, 5 * HOUR, 0);
        check(earlier(), std::slice::from_ref(&later), &[], interrupted);
        let other_profile = Run { profile: "other".into(), ..later.clone() };
        let other_host = Run { host: "beta".into(), ..later.clone() };
        check(earlier(), &[other_profile, other_host], &[], silent);
        // it gave signs after the other had started: they overlap
        check(earlier(), &[run(2, THERE, 51, 8 * HOUR + 1, 0)], &[], silent);
        // what is seen to live is not interrupted, whoever started later
        let alive = run(1, HERE, 50, 9 * HOUR, 8 * HOUR);
        check(alive, &[run(2, HERE, 51, 5 * HOUR, 0)], &[], RunState::Running);
    }

    #[test]
    fn an_end_is_what_the_run_says_it_was() {
        let gone = RunState::Interrupted(Cause::ProcessGone);
        use SessionState::{Ended, Failed};
        for (state, code, taken_over, expected) in [
            (Failed, Some(3), false, RunState::Failed { code: 3 }),
            (Failed, None, false, RunState::Failed { code: 1 }),
            (Failed, Some(130), false, RunState::Interrupted(Cause::Signal)),
            (Ended, None, false, RunState::Ended),
            (Ended, None, true, gone),
            (Ended, Some(75), true, RunState::Failed { code: 75 }),
        ] {
            let run = Run { state, code, taken_over, ..run(1, HERE, 50, HOUR, 0) };
            check(run, &[], &[], expected);
        }
    }

    #[test]
    fn a_run_made_the_snapshot_of_its_name_or_one_that_replaced_it() {
        use State::{Confirmed, Distrusted, Unconfirmed};
        let dead = || run(1, HERE, 500, HOUR, 0);
        let made = |id: u8| RunState::MadeSnapshot(SnapshotId([id; 16]));
        let gone = RunState::Interrupted(Cause::ProcessGone);
        check(dead(), &[], &[snapshot(1, None, Confirmed)], made(1));
        check(dead(), &[], &[snapshot(1, None, Distrusted)], made(1));
        check(dead(), &[], &[snapshot(1, None, Unconfirmed)], gone);
        let alive = run(1, HERE, 50, HOUR, 0);
        check(alive, &[], &[snapshot(1, None, Unconfirmed)], RunState::Running);
        let chain = [
            snapshot(3, Some(2), Confirmed),
            snapshot(2, Some(1), Unconfirmed),
            snapshot(1, None, Unconfirmed),
        ];
        check(dead(), &[], &chain, made(3));
        // the first link may be swept, and somebody may have replaced a good one later
        check(dead(), &[], &chain[..2], made(3));
        check(
            dead(),
            &[],
            &[snapshot(1, None, Confirmed), snapshot(2, Some(1), Confirmed)],
            made(1),
        );
        // nobody else's manifest counts, nor does one in a circle keep us
        let mut foreign = snapshot(1, None, Confirmed);
        foreign.manifest.writer = WriterId([8; 16]);
        check(dead(), &[], &[foreign], gone);
        check(
            dead(),
            &[],
            &[snapshot(2, Some(3), Confirmed), snapshot(3, Some(2), Confirmed)],
            gone,
        );
    }

    #[test]
    fn the_run_of_a_snapshot_is_the_first_of_its_chain() {
        let snapshots =
            [snapshot(3, Some(2), State::Confirmed), snapshot(2, Some(1), State::Confirmed)];
        let (runs, here) = (Vec::new(), here());
        let judge = Judge::new(&runs, &snapshots, &here, NOW);
        assert_eq!(judge.run_of(&snapshots[0]), SnapshotId([1; 16]));
    }
}
