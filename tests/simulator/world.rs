//! The world of one run: a store in memory, a clock, and a scheduler that grants
//! one operation at a time, in an order that follows from the seed.
//!
//! Every actor works on a [`Handle`] of its own. An operation waits until it is
//! granted, and one is granted only when every actor waits or has ended: at any
//! time one actor runs at most.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use esker::progress::{Event, Progress};
use esker::store::{ErrorKind, Listed, OperationKind, Result, Store, StoreError};

use crate::dice::Dice;
use crate::nature;
use crate::sabotage::{Memory, Sabotage};

/// When every run begins, in ms since 1970.
pub const BEGINNING: u64 = 1_800_000_000_000;
const URL: &str = "simulated";

#[derive(Clone, Debug)]
pub struct Object {
    pub bytes: Bytes,
    /// From when on listings show it.
    pub visible: u64,
}

pub type Objects = BTreeMap<String, Object>;

/// What goes wrong, of a thousand operations.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Performed, and the answer is lost.
    pub lost: u64,
    /// Not performed.
    pub refused: u64,
    /// Steps from which on and until which the store is full.
    pub full: Option<(u64, u64)>,
}

/// How fast the scheduler goes from one actor to another.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Of a thousand operations, after so many another actor may be next.
    pub switch: u64,
    /// The same where a step of the protocol is at hand.
    pub switch_at_steps: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Actor {
    /// What its clock says beyond the world's, in ms.
    pub skew: i64,
    /// After so many operations it sleeps until everybody else has ended.
    pub sleeps_at: Option<u64>,
    pub operations: u64,
    pub ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Failed(ErrorKind),
    /// Performed, but the actor did not get to know.
    Lost,
    /// The actor crashed instead, or right after.
    Crashed,
}

/// One operation of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub actor: usize,
    pub kind: &'static str,
    pub key: String,
    pub outcome: Outcome,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.key.split('/').filter(|part| part.len() != 2);
        let short: Vec<&str> = parts.map(|part| part.get(..8).unwrap_or(part)).collect();
        write!(f, "{} {} {}", self.actor, self.kind, short.join("/"))?;
        match self.outcome {
            Outcome::Done => Ok(()),
            other => write!(f, " {other:?}"),
        }
    }
}

struct Request {
    ticket: u64,
    actor: usize,
    kind: &'static str,
    key: String,
}

pub struct State {
    pub objects: Objects,
    /// Everything that was ever put, with its length.
    pub ever: BTreeMap<String, u64>,
    pub clock: u64,
    pub trace: Vec<Step>,
    /// How long listings may lag, in ms.
    pub lag: u64,
    /// Whether packs are listed directory by directory.
    pub directories: bool,
    faults: Faults,
    pace: Pace,
    dice: Dice,
    actors: Vec<Actor>,
    waiting: Vec<Request>,
    granted: Option<u64>,
    next_ticket: u64,
    last: usize,
    reserve: bool,
    /// Puts that pass while the store is full.
    room: u64,
}

pub struct World {
    state: Mutex<State>,
    turn: Condvar,
}

impl World {
    pub fn new(objects: Objects, dice: Dice, actors: Vec<Actor>, pace: Pace) -> Arc<World> {
        let ever = objects.iter().map(|(key, o)| (key.clone(), o.bytes.len() as u64)).collect();
        nature::set_clocks(BEGINNING);
        Arc::new(World {
            state: Mutex::new(State {
                objects,
                ever,
                clock: BEGINNING,
                trace: Vec::new(),
                lag: 0,
                directories: false,
                faults: Faults::default(),
                pace,
                dice,
                actors,
                waiting: Vec::new(),
                granted: None,
                next_ticket: 0,
                last: 0,
                reserve: true,
                room: 0,
            }),
            turn: Condvar::new(),
        })
    }

    /// A world without actors, for whoever is alone in it.
    pub fn quiet(objects: Objects) -> Arc<World> {
        let pace = Pace { switch: 0, switch_at_steps: 0 };
        World::new(objects, Dice::new(0), Vec::new(), pace)
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn disturb(&self, faults: Faults, lag_ms: u64) {
        let mut state = self.lock();
        state.faults = faults;
        state.lag = lag_ms;
    }

    /// How many steps were made: the only clock that all agree on.
    pub fn step(&self) -> usize {
        self.lock().trace.len()
    }

    /// Lets time go on for whoever is alone.
    pub fn pass(&self, ms: u64) {
        let mut state = self.lock();
        state.clock += ms;
        nature::set_clocks(state.clock);
    }

    pub fn objects(&self) -> Objects {
        self.lock().objects.clone()
    }

    pub fn end(&self, actor: usize) {
        let mut state = self.lock();
        state.actors[actor].ended = true;
        state.decide();
        self.turn.notify_all();
    }

    fn wait_for_turn<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        actor: usize,
        kind: &'static str,
        key: &str,
    ) -> MutexGuard<'a, State> {
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.waiting.push(Request { ticket, actor, kind, key: key.to_owned() });
        state.decide();
        self.turn.notify_all();
        while state.granted != Some(ticket) {
            state = self.turn.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.granted = None;
        state.waiting.retain(|request| request.ticket != ticket);
        let longest_hop = state.lag as usize / 4;
        let hop = state.dice.below(longest_hop) as u64;
        state.clock += 1 + hop;
        let skew = state.actors[actor].skew;
        nature::set_clock(actor, state.clock.saturating_add_signed(skew));
        state
    }
}

/// Where one actor's step decides over another's.
fn is_step(kind: &str, key: &str) -> bool {
    let listed = ["sweeps/", "packs/", "snapshots/", "confirmed/", "marks/", "index/"];
    match kind {
        "put" => !key.starts_with("sessions/"),
        "list" => listed.iter().any(|prefix| key.starts_with(prefix)),
        _ => kind == "delete",
    }
}

impl State {
    /// Grants an operation, if every actor waits or has ended.
    fn decide(&mut self) {
        let waits = |at: usize| self.waiting.iter().any(|request| request.actor == at);
        let idle = |(at, actor): (usize, &Actor)| actor.ended || waits(at);
        if self.granted.is_some() || !self.actors.iter().enumerate().all(idle) {
            return;
        }
        let mut candidates: Vec<usize> =
            (0..self.actors.len()).filter(|at| waits(*at) && !self.actors[*at].ended).collect();
        let sleeps = |at: &usize| {
            let actor = &self.actors[*at];
            actor.sleeps_at.is_some_and(|sleeps_at| actor.operations >= sleeps_at)
        };
        if candidates.iter().all(sleeps) {
            // everybody else has ended
            candidates.iter().for_each(|at| self.actors[*at].sleeps_at = None);
        } else {
            candidates.retain(|at| !sleeps(at));
        }
        if candidates.is_empty() {
            return;
        }
        let next = |at: usize, waiting: &[Request]| {
            let own = waiting.iter().filter(|request| request.actor == at);
            let first = own.min_by(|a, b| (a.kind, &a.key).cmp(&(b.kind, &b.key)));
            first.map(|request| (request.ticket, is_step(request.kind, &request.key)))
        };
        let at_step = next(self.last, &self.waiting).is_some_and(|(_, is_step)| is_step);
        let switch = if at_step { self.pace.switch_at_steps } else { self.pace.switch };
        let switches = self.dice.likely(switch);
        let chosen = match candidates.contains(&self.last) && !switches {
            true => self.last,
            false => self.dice.pick(&candidates),
        };
        self.last = chosen;
        self.actors[chosen].operations += 1;
        self.granted = next(chosen, &self.waiting).map(|(ticket, _)| ticket);
    }

    fn put(&mut self, key: &str, object: Bytes) -> Result<()> {
        match self.objects.get(key) {
            Some(there) if there.bytes == object => return Ok(()),
            Some(_) => return Err(error(ErrorKind::Exists, key)),
            None => {}
        }
        let behind = if self.lag > 0 { self.dice.below(self.lag as usize + 1) as u64 } else { 0 };
        self.ever.insert(key.to_owned(), object.len() as u64);
        self.objects.insert(key.to_owned(), Object { bytes: object, visible: self.clock + behind });
        Ok(())
    }

    fn get(&self, key: &str) -> Result<&Bytes> {
        let object = self.objects.get(key).ok_or_else(|| error(ErrorKind::NotFound, key))?;
        Ok(&object.bytes)
    }

    fn list(&self, prefix: &str) -> Vec<Listed> {
        let under = self.objects.range(prefix.to_owned()..);
        under
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter(|(_, object)| object.visible <= self.clock)
            .map(|(key, o)| Listed { key: key.clone(), length: o.bytes.len() as u64 })
            .collect()
    }

    fn is_full(&mut self, step: u64) -> bool {
        let full = self.faults.full.is_some_and(|(from, until)| (from..until).contains(&step));
        if full && self.room > 0 {
            self.room -= 1;
            return false;
        }
        full
    }
}

fn error(kind: ErrorKind, key: &str) -> StoreError {
    StoreError::new(kind, URL, key)
}

/// When a life ends, counted in its own operations.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ends {
    /// And whether the last operation was still performed.
    pub crashes: Option<(u64, bool)>,
    /// Somebody presses Ctrl-C.
    pub interrupted: Option<u64>,
}

struct Life {
    operations: u64,
    crashed: bool,
    memory: Memory,
}

/// The store as one life of an actor sees it.
pub struct Handle {
    world: Arc<World>,
    actor: usize,
    ends: Ends,
    sabotage: Option<Sabotage>,
    /// Operations that the scheduler is not asked for.
    free: AtomicBool,
    life: Mutex<Life>,
}

impl Handle {
    pub fn new(
        world: &Arc<World>,
        actor: usize,
        ends: Ends,
        sabotage: Option<Sabotage>,
    ) -> Arc<Handle> {
        Arc::new(Handle {
            world: world.clone(),
            actor,
            ends,
            sabotage,
            free: AtomicBool::new(true),
            life: Mutex::new(Life { operations: 0, crashed: false, memory: Memory::default() }),
        })
    }

    /// A handle of whoever is alone in the world.
    pub fn alone(world: &Arc<World>) -> Arc<dyn Store> {
        Handle::new(world, 0, Ends::default(), None)
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first step of a life.
    pub fn begin(&self) {
        let state = self.world.wait_for_turn(self.world.lock(), self.actor, "begin", "");
        drop(state);
    }

    /// From now on the scheduler is asked.
    pub fn is_scheduled_now(&self) {
        self.free.store(false, Ordering::SeqCst);
    }

    pub fn has_crashed(&self) -> bool {
        self.life().crashed
    }

    fn operate<T>(
        &self,
        kind: OperationKind,
        key: &str,
        perform: impl FnOnce(&mut State, &mut Memory) -> Result<T>,
    ) -> Result<T> {
        let mut state = self.world.lock();
        if self.free.load(Ordering::SeqCst) {
            return perform(&mut state, &mut self.life().memory);
        }
        if self.life().crashed {
            return Err(error(ErrorKind::Permanent, key).because("crashed earlier"));
        }
        state = self.world.wait_for_turn(state, self.actor, kind.name(), key);
        let mut life = self.life();
        life.operations += 1;
        let step = state.trace.len() as u64;
        let crash = self.ends.crashes.filter(|(at, _)| life.operations >= *at);
        let full = kind == OperationKind::Put && state.is_full(step);
        let faults = state.faults;
        let (outcome, result) = match crash {
            Some((_, performed)) => {
                life.crashed = true;
                if performed {
                    let _ = perform(&mut state, &mut life.memory);
                }
                (Outcome::Crashed, Err(error(ErrorKind::Permanent, key).because("crashed")))
            }
            None if full => (Outcome::Failed(ErrorKind::Full), Err(error(ErrorKind::Full, key))),
            None if state.dice.likely(faults.refused) => {
                let kind = ErrorKind::Temporary;
                (Outcome::Failed(kind), Err(error(kind, key)))
            }
            None => {
                let lost = state.dice.likely(faults.lost);
                match perform(&mut state, &mut life.memory) {
                    Ok(_) if lost => (Outcome::Lost, Err(error(ErrorKind::Temporary, key))),
                    Ok(value) => (Outcome::Done, Ok(value)),
                    Err(error) => (Outcome::Failed(error.kind()), Err(error)),
                }
            }
        };
        let key = key.to_owned();
        state.trace.push(Step { actor: self.actor, kind: kind.name(), key, outcome });
        result
    }
}

impl Store for Handle {
    fn url(&self) -> &str {
        URL
    }

    fn put(&self, key: &str, object: Bytes) -> Result<()> {
        self.operate(OperationKind::Put, key, |state, memory| {
            let Some(sabotage) = self.sabotage else { return state.put(key, object) };
            for (key, object) in sabotage.put(memory, key, object) {
                state.put(&key, object)?;
            }
            Ok(())
        })
    }

    fn get(&self, key: &str, max_length: u64) -> Result<Bytes> {
        self.operate(OperationKind::Get, key, |state, _| match state.get(key)? {
            bytes if bytes.len() as u64 > max_length => Err(error(ErrorKind::TooLarge, key)),
            bytes => Ok(bytes.clone()),
        })
    }

    fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Bytes> {
        self.operate(OperationKind::GetRange, key, |state, memory| {
            if self.sabotage.is_some_and(|sabotage| sabotage.takes_for_there(memory, key)) {
                return Ok(Bytes::from(vec![0; length as usize]));
            }
            let bytes = state.get(key)?;
            let (from, to) = (offset as usize, (offset + length) as usize);
            match bytes.get(from..to) {
                Some(_) => Ok(bytes.slice(from..to)),
                None => Err(error(ErrorKind::Truncated, key)),
            }
        })
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        self.operate(OperationKind::List, prefix, |state, memory| {
            let listed = state.list(prefix);
            Ok(match self.sabotage {
                Some(sabotage) => sabotage.list(memory, prefix, listed, &state.ever),
                None => listed,
            })
        })
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.operate(OperationKind::Delete, key, |state, memory| {
            memory.deleted(key);
            state.objects.remove(key);
            Ok(())
        })
    }

    fn release_reserve(&self) -> Result<bool> {
        let mut state = self.world.lock();
        let had = std::mem::take(&mut state.reserve);
        state.room += if had { 8 } else { 0 };
        Ok(had)
    }

    fn restore_reserve(&self) -> Result<bool> {
        let mut state = self.world.lock();
        state.reserve = true;
        Ok(true)
    }

    fn has_directories(&self) -> bool {
        self.world.lock().directories
    }

    fn concurrency(&self) -> usize {
        1
    }

    fn wait(&self, time: Duration) {
        let state = self.world.lock();
        let until = state.clock + time.as_millis() as u64;
        let alone = self.free.load(Ordering::SeqCst) || self.life().crashed;
        let mut state = match alone {
            true => state,
            false => self.world.wait_for_turn(state, self.actor, "wait", ""),
        };
        state.clock = state.clock.max(until);
    }
}

impl Progress for Handle {
    fn event(&self, _: Event<'_>) {}

    fn interrupted(&self) -> bool {
        let operations = self.life().operations;
        self.ends.interrupted.is_some_and(|at| operations >= at)
    }
}
