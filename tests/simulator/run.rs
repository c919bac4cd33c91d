//! One run: made from its seed, lived through, and judged.

use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use esker::progress::Silent;
use esker::prune::{PruneOptions, prune};

use crate::actors::{Ledger, Script, Stage, Task};
use crate::bases::{self, BASES, FULL, FULL_TOO, LAG_S, MAINTAIN, WRITE, base, open, trees};
use crate::dice::Dice;
use crate::nature;
use crate::oracle;
use crate::sabotage::Sabotage;
use crate::world::{Actor, Ends, Faults, Handle, Pace, Step, World};

const DAY_MS: i64 = 24 * 3_600_000;
/// A run takes well under a second; one that takes this long hangs.
const HANGS_AFTER: Duration = Duration::from_secs(60);

/// What is to be run.
pub struct Plot {
    base: usize,
    lag: bool,
    /// Whether packs are listed by directory.
    directories: bool,
    faults: Faults,
    pace: Pace,
    actors: Vec<Actor>,
    scripts: Vec<Script>,
    sabotage: Option<Sabotage>,
}

/// What came of a run.
pub struct Ran {
    pub trace: Vec<Step>,
    /// Tasks that ended well.
    pub done: usize,
    /// Snapshots that had to be there at the end.
    pub kept: usize,
    /// What was found wrong; what was lost begins with `lost`.
    pub wrong: Option<String>,
}

impl Plot {
    pub fn new(seed: u64) -> Plot {
        let mut dice = Dice::new(seed);
        let disturbed = dice.likely(500);
        let lag = dice.likely(150);
        let pace = pace(&mut dice);
        let mut plot = Plot {
            base: dice.below(BASES),
            lag,
            directories: seed % 2 == 1,
            faults: if disturbed { faults(&mut dice) } else { Faults::default() },
            pace,
            actors: Vec::new(),
            scripts: Vec::new(),
            sabotage: None,
        };
        for _ in 0..2 + dice.below(3) {
            let tasks = (0..1 + dice.below(2)).map(|_| task(&mut dice)).collect();
            plot.add(&mut dice, tasks, disturbed);
        }
        plot
    }

    /// Those who must meet so that what is left out can matter.
    pub fn sabotaged(seed: u64, sabotage: Sabotage) -> Plot {
        let mut dice = Dice::new(seed);
        let mut plot = Plot {
            base: dice.below(BASES),
            lag: false,
            directories: false,
            faults: Faults::default(),
            // few changes, each where it counts
            pace: Pace { switch: 20, switch_at_steps: dice.pick(&[100, 250]) },
            actors: Vec::new(),
            scripts: Vec::new(),
            sabotage: Some(sabotage),
        };
        if sabotage == Sabotage::NoPlanRelist {
            // both must want to move something
            while !base(plot.base, false).moves {
                plot.base = dice.below(BASES);
            }
        }
        let mut tasks = vec![thorough_prune(&mut dice)];
        match sabotage {
            Sabotage::NoPlanRelist => tasks.push(thorough_prune(&mut dice)),
            Sabotage::BlindUndo | Sabotage::NoConfirmRelist => {
                tasks.push(Task::Undo { choice: dice.below(4) });
            }
            _ => tasks.push(backup_task(&mut dice)),
        }
        if sabotage == Sabotage::ForeignPlanRemoval {
            tasks.push(Task::RemovePlans);
        }
        for task in tasks {
            plot.add(&mut dice, vec![task], false);
        }
        plot.actors.iter_mut().for_each(|actor| (actor.skew, actor.sleeps_at) = (0, None));
        if sabotage == Sabotage::NoPlanRelist {
            // what it moves looks older than where it was moved from
            plot.actors[0].skew = -10 * DAY_MS;
        }
        plot
    }

    /// The same with nothing left out.
    pub fn honest(mut self) -> Plot {
        self.sabotage = None;
        for script in &mut self.scripts {
            script.tasks.retain(|task| !matches!(task, Task::RemovePlans));
        }
        self
    }

    fn add(&mut self, dice: &mut Dice, tasks: Vec<Task>, disturbed: bool) {
        let mut ends = Ends::default();
        if disturbed && dice.likely(400) {
            ends.crashes = Some((1 + dice.below(120) as u64, dice.likely(500)));
        } else if disturbed && dice.likely(100) {
            ends.interrupted = Some(1 + dice.below(60) as u64);
        }
        self.scripts.push(Script {
            tasks,
            ends,
            tries_again: dice.likely(500),
            knows_before: dice.likely(500),
            cache: None,
        });
        let skew = if dice.likely(200) { (dice.below(21) as i64 - 10) * DAY_MS } else { 0 };
        let sleeps_at = dice.likely(250).then(|| 1 + dice.below(100) as u64);
        self.actors.push(Actor { skew, sleeps_at, ..Actor::default() });
    }
}

fn pace(dice: &mut Dice) -> Pace {
    Pace { switch: dice.pick(&[20, 100, 500]), switch_at_steps: dice.pick(&[100, 300, 700]) }
}

fn faults(dice: &mut Dice) -> Faults {
    let full = dice.likely(150).then(|| {
        let from = dice.below(150) as u64;
        (from, from + 1 + dice.below(60) as u64)
    });
    Faults { lost: dice.pick(&[0, 5, 20]), refused: dice.pick(&[0, 5, 20]), full }
}

fn task(dice: &mut Dice) -> Task {
    match dice.below(100) {
        0..40 => backup_task(dice),
        40..75 => prune_task(dice),
        75..87 => {
            let ahead = if dice.likely(200) { 30 * DAY_MS } else { 0 };
            Task::Forget { choice: dice.below(4), ahead }
        }
        _ => Task::Undo { choice: dice.below(4) },
    }
}

fn backup_task(dice: &mut Dice) -> Task {
    Task::Backup {
        tree: dice.below(trees().len()),
        key: dice.pick(&[FULL, FULL, FULL_TOO, WRITE]),
        profile: dice.pick(&["one", "two"]),
    }
}

fn prune_task(dice: &mut Dice) -> Task {
    Task::Prune {
        key: dice.pick(&[FULL, FULL_TOO, MAINTAIN]),
        full: dice.likely(500),
        max_unused: dice.pick(&[0.0, 0.0, 0.5]),
        recuts: dice.likely(700),
        grace: dice.pick(&[0, 0, 0, DAY_MS as u64]),
    }
}

/// Moves whatever it can.
fn thorough_prune(dice: &mut Dice) -> Task {
    let key = dice.pick(&[FULL, FULL_TOO, MAINTAIN]);
    Task::Prune { key, full: true, max_unused: 0.0, recuts: true, grace: 0 }
}

/// Chance and time are the whole process's: one run at a time.
pub fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lives through a plot and judges what is left. Needs [`alone`].
pub fn run(seed: u64, mut plot: Plot) -> Ran {
    let base = base(plot.base, plot.lag);
    let caches = caches(seed, &mut plot);
    nature::seed_chance(seed);
    let dice = Dice::new(!seed);
    let world = World::new(base.objects.clone(), dice, plot.actors.clone(), plot.pace);
    world.lock().directories = plot.directories;
    world.disturb(plot.faults, if plot.lag { LAG_S * 1000 } else { 0 });
    let ledger = Mutex::new(Ledger::of(&base));
    let sabotage = plot.sabotage;
    let stage = Arc::new(Stage { world: world.clone(), ledger, sabotage });
    let (ended, ends) = mpsc::channel();
    for (actor, script) in plot.scripts.iter().cloned().enumerate() {
        let (stage, ended) = (stage.clone(), ended.clone());
        thread::spawn(move || {
            nature::this_is(actor);
            stage.act(actor, &script);
            let _ = ended.send(());
        });
    }
    drop(ended);
    let hangs = plot.scripts.iter().any(|_| ends.recv_timeout(HANGS_AFTER).is_err());
    let ledger = stage.ledger();
    let kept = ledger.kept();
    let wrong = if hangs {
        Some("hangs: actors wait for something that does not come".to_owned())
    } else {
        judge(&world, &plot, &ledger, &kept).err()
    };
    let trace = world.lock().trace.clone();
    nature::restore();
    drop(caches);
    Ran { trace, done: ledger.done, kept: kept.len(), wrong }
}

/// Cache directories for some, so that prunes need not look at everything.
fn caches(seed: u64, plot: &mut Plot) -> Vec<tempfile::TempDir> {
    let mut dice = Dice::new(seed ^ 0xcac4e);
    let mut kept = Vec::new();
    for script in &mut plot.scripts {
        if dice.likely(250) {
            let directory = tempfile::tempdir().unwrap();
            script.cache = Some(directory.path().to_owned());
            kept.push(directory);
        }
    }
    kept
}

fn judge(
    world: &Arc<World>,
    plot: &Plot,
    ledger: &Ledger,
    kept: &[(esker::id::SnapshotId, usize)],
) -> Result<(), String> {
    if let Some(panic) = ledger.panics.first() {
        return Err(format!("panicked: {panic}"));
    }
    world.disturb(Faults::default(), 0);
    world.pass(60_000);
    let store = Handle::alone(world);
    let first = open(store.clone(), FULL, None);
    oracle::all_kept(&first, kept)?;
    oracle::is_whole(&first, kept)?;
    let undisturbed = plot.faults.full.is_none()
        && (plot.faults.lost, plot.faults.refused) == (0, 0)
        && plot.scripts.iter().all(|script| script.ends.interrupted.is_none());
    if undisturbed
        && plot.sabotage.is_none()
        && let Some(error) = ledger.errors.iter().find(|error| !error.contains(" TryLater: "))
    {
        return Err(format!("refused: {error}"));
    }
    // in the end all can be freed: what others announced is taken over first
    world.pass(40 * DAY_MS as u64);
    for _ in 0..2 {
        let last = open(store.clone(), FULL, None);
        let options = PruneOptions { full: true, ..bases::thorough(&last) };
        prune(&last, &options, &Silent).map_err(|error| format!("the last prune: {error}"))?;
    }
    let last = open(store, FULL, None);
    oracle::all_kept(&last, kept)?;
    oracle::is_whole(&last, kept)?;
    oracle::nothing_is_left_over(&last)?;
    oracle::no_plan_is_left_over(&last)
}
