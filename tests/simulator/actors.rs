//! Who acts in a run, and what becomes of it: the real operations, each on a
//! store handle of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use esker::format::notes::MarkKind;
use esker::id::SnapshotId;
use esker::prune::{PruneOptions, prune};
use esker::repository::{Error, ErrorKind, Repository, now_ms};
use esker::store::Store;
use esker::undo::{Undone, undo};

use crate::bases::{self, Base};
use crate::sabotage::{Sabotage, Victim};
use crate::world::{Ends, Handle, World};

#[derive(Clone, Debug)]
pub enum Task {
    Backup {
        tree: usize,
        key: u8,
        profile: &'static str,
    },
    /// Of what is there then, the snapshot of this number; its mark is dated
    /// so many ms ahead.
    Forget {
        choice: usize,
        ahead: i64,
    },
    Undo {
        choice: usize,
    },
    Prune {
        key: u8,
        full: bool,
        max_unused: f64,
        recuts: bool,
        grace: u64,
    },
    /// Removes every plan it sees, as nobody must.
    RemovePlans,
}

/// One actor: its tasks in order, and how its lives end.
#[derive(Clone, Debug, Default)]
pub struct Script {
    pub tasks: Vec<Task>,
    /// Of the first life.
    pub ends: Ends,
    /// Whether what failed is tried once more.
    pub tries_again: bool,
    /// Whether the index is up to date before anybody begins.
    pub knows_before: bool,
    pub cache: Option<PathBuf>,
}

/// From one step to another.
#[derive(Clone, Copy, Debug)]
pub struct Interval {
    pub from: usize,
    pub until: usize,
}

/// What was reported to those who ran the operations.
#[derive(Default)]
pub struct Ledger {
    /// Reported good, with the directory it was taken of.
    pub good: Vec<(SnapshotId, usize)>,
    /// May have marked a snapshot as forgotten.
    pub forgets: Vec<(SnapshotId, Interval)>,
    pub recovered: Vec<(SnapshotId, Interval)>,
    /// What went wrong, and whether somebody made it go wrong.
    pub errors: Vec<String>,
    pub panics: Vec<String>,
    pub done: usize,
}

impl Ledger {
    pub fn of(base: &Base) -> Ledger {
        let start = Interval { from: 0, until: 0 };
        let forgotten = base.snapshots.iter().filter(|known| known.forgotten);
        Ledger {
            good: base.snapshots.iter().map(|known| (known.id, known.tree)).collect(),
            forgets: forgotten.map(|known| (known.id, start)).collect(),
            ..Ledger::default()
        }
    }

    /// What must be there at the end: reported good, and either forgotten by
    /// nobody, or taken back when all who forgot it had ended.
    pub fn kept(&self) -> Vec<(SnapshotId, usize)> {
        let is_kept = |id: SnapshotId| {
            let forgets: Vec<Interval> =
                self.forgets.iter().filter(|(of, _)| *of == id).map(|(_, i)| *i).collect();
            let after_all =
                |undo: &Interval| forgets.iter().all(|forget| forget.until <= undo.from);
            forgets.is_empty()
                || self.recovered.iter().any(|(of, undo)| *of == id && after_all(undo))
        };
        self.good.iter().filter(|(id, _)| is_kept(*id)).copied().collect()
    }
}

/// What all actors of a run share.
pub struct Stage {
    pub world: Arc<World>,
    pub ledger: Mutex<Ledger>,
    pub sabotage: Option<Sabotage>,
}

impl Stage {
    pub fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lives through a script, and ends whatever happens.
    pub fn act(&self, actor: usize, script: &Script) {
        let lived = catch_unwind(AssertUnwindSafe(|| self.live(actor, script)));
        if let Err(panic) = lived {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            self.ledger().panics.push(text.unwrap_or_default());
        }
        self.world.end(actor);
    }

    fn live(&self, actor: usize, script: &Script) {
        let mut ends = script.ends;
        for task in &script.tasks {
            let sabotage = self.sabotage.filter(|sabotage| sabotage.victim() == victim(task));
            let handle = Handle::new(&self.world, actor, ends, sabotage);
            handle.begin();
            let mut result = self.try_task(&handle, script, task);
            if result.is_err() && script.tries_again && !interrupted(&result) {
                ends = Ends::default();
                let again = Handle::new(&self.world, actor, ends, sabotage);
                again.begin();
                result = self.try_task(&again, script, task);
            } else if handle.has_crashed() {
                return;
            }
            match result {
                Ok(()) => self.ledger().done += 1,
                Err(error) => {
                    let mut ledger = self.ledger();
                    let kind = error.kind;
                    ledger.errors.push(format!("actor {actor}, {task:?}: {kind:?}: {error}"));
                }
            }
        }
    }

    fn try_task(&self, handle: &Arc<Handle>, script: &Script, task: &Task) -> Result<(), Error> {
        let key = match task {
            Task::Backup { key, .. } | Task::Prune { key, .. } => *key,
            _ => bases::MAINTAIN,
        };
        let repository = bases::open(handle.clone(), key, script.cache.as_deref());
        if script.cache.is_some() && matches!(task, Task::Prune { full: false, .. }) {
            // as if one that looked at everything had been made here
            repository.local().end_prune(0);
        }
        if script.knows_before {
            repository.sync_index(&**handle)?;
        }
        handle.is_scheduled_now();
        match task {
            Task::Backup { tree, profile, .. } => {
                let report = bases::back_up(&repository, *tree, profile, &**handle)?;
                let good = report.snapshot.map(|id| (id, *tree));
                self.ledger().good.extend(good);
                Ok(())
            }
            Task::Forget { choice, ahead } => self.forget(&repository, *choice, *ahead),
            Task::Undo { choice } => self.undo(&repository, *choice, handle),
            Task::Prune { full, max_unused, recuts, grace, .. } => {
                let defaults = PruneOptions::new(&repository);
                let options = PruneOptions {
                    trust_clock: true,
                    grace: *grace,
                    max_unused: *max_unused,
                    full: *full,
                    recuts: *recuts && defaults.recuts,
                    ..defaults
                };
                prune(&repository, &options, &**handle).map(drop)
            }
            Task::RemovePlans => {
                for _ in 0..4 {
                    for plan in handle.list("sweeps/")? {
                        handle.delete(&plan.key)?;
                    }
                }
                Ok(())
            }
        }
    }

    fn forget(&self, repository: &Repository, choice: usize, ahead: i64) -> Result<(), Error> {
        let (snapshots, _) = repository.snapshots()?;
        let good: Vec<_> = snapshots.iter().filter(|snapshot| snapshot.is_good()).collect();
        let Some(snapshot) = good.get(choice % good.len().max(1)) else { return Ok(()) };
        let from = self.world.step();
        let time = now_ms().saturating_add_signed(ahead);
        let result = repository.put_mark(snapshot.id, MarkKind::Forget, time);
        let interval = Interval { from, until: self.world.step() };
        self.ledger().forgets.push((snapshot.id, interval));
        result
    }

    fn undo(&self, repository: &Repository, choice: usize, handle: &Handle) -> Result<(), Error> {
        let (snapshots, _) = repository.snapshots()?;
        let forgotten: Vec<_> =
            snapshots.iter().filter(|snapshot| snapshot.forgotten.is_some()).collect();
        let Some(snapshot) = forgotten.get(choice % forgotten.len().max(1)) else { return Ok(()) };
        let from = self.world.step();
        let result = undo(repository, &snapshots, &[snapshot.id], now_ms(), handle);
        let interval = Interval { from, until: self.world.step() };
        let mut ledger = self.ledger();
        match result.as_deref() {
            Ok([(_, Undone::Recovered)]) => ledger.recovered.push((snapshot.id, interval)),
            Ok([(_, Undone::NotForgotten)]) => {}
            // it may have been marked as forgotten again
            _ => ledger.forgets.push((snapshot.id, interval)),
        }
        result.map(drop)
    }
}

fn interrupted(result: &Result<(), Error>) -> bool {
    matches!(result, Err(error) if error.kind == ErrorKind::Interrupted)
}

fn victim(task: &Task) -> Victim {
    match task {
        Task::Backup { .. } => Victim::Backup,
        Task::Prune { .. } => Victim::Prune,
        Task::Undo { .. } => Victim::Undo,
        Task::Forget { .. } | Task::RemovePlans => Victim::None,
    }
}
