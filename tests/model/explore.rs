//! Breadth-first search through every interleaving.
//!
//! Of a state that was seen only a 64-bit fingerprint is kept; that two of n
//! states share one has a chance of about n²/2⁶⁵, for fifty million states one in
//! fourteen thousand. States themselves live as long as they wait to be expanded.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use super::configuration::Configuration;
use super::state::{Next, State};
use super::trace;

pub struct Outcome {
    pub states: u64,
    /// The steps of a shortest way to a snapshot that was reported good and is
    /// not.
    pub violation: Option<Vec<String>>,
}

/// How many states are handed to a thread at once.
const BATCH: usize = 4096;

/// Goes through all states, or up to the first that breaks the promise.
pub fn explore(configuration: &Configuration) -> Outcome {
    let seen = Seen::new();
    let first = State::new();
    seen.insert(fingerprint(&first));
    let mut waiting = vec![vec![first]];
    while !waiting.is_empty() {
        let broken = AtomicU64::new(0);
        waiting = waiting
            .into_par_iter()
            .flat_map_iter(|batch| expand(&batch, configuration, &seen, &broken))
            .collect();
        let broken = broken.into_inner();
        if broken != 0 {
            let violation = Some(way_to(broken, configuration));
            return Outcome { states: seen.len(), violation };
        }
    }
    Outcome { states: seen.len(), violation: None }
}

/// The new states that follow from these, in batches.
fn expand(
    states: &[State],
    configuration: &Configuration,
    seen: &Seen,
    broken: &AtomicU64,
) -> Vec<Vec<State>> {
    let mut batches = Vec::new();
    let mut batch = Vec::new();
    let mut next = Vec::new();
    for state in states {
        state.next(configuration, &mut next);
        for Next { state, .. } in next.drain(..) {
            let fingerprint = fingerprint(&state);
            if !seen.insert(fingerprint) {
                continue;
            }
            if state.broken(configuration).is_some() {
                broken.store(fingerprint, Ordering::Relaxed);
            }
            batch.push(state);
            if batch.len() == BATCH {
                batches.push(std::mem::take(&mut batch));
            }
        }
    }
    batches.push(batch);
    batches.retain(|batch| !batch.is_empty());
    batches
}

/// Searches again, this time with the parent of every state, and tells the way.
fn way_to(target: u64, configuration: &Configuration) -> Vec<String> {
    let first = State::new();
    let mut parents = HashMap::from([(fingerprint(&first), 0)]);
    let mut level = vec![first];
    let mut next = Vec::new();
    while !parents.contains_key(&target) {
        let mut following = Vec::new();
        for state in &level {
            let parent = fingerprint(state);
            state.next(configuration, &mut next);
            for Next { state, .. } in next.drain(..) {
                parents.entry(fingerprint(&state)).or_insert_with(|| {
                    following.push(state);
                    parent
                });
            }
        }
        level = following;
    }
    let mut way = vec![target];
    while let Some(&parent) = way.last().and_then(|last| parents.get(last)).filter(|p| **p != 0) {
        way.push(parent);
    }
    way.reverse();
    tell(&way, configuration)
}

/// The steps that lead from state to state.
fn tell(way: &[u64], configuration: &Configuration) -> Vec<String> {
    let mut state = State::new();
    let mut lines = Vec::new();
    for wanted in &way[1..] {
        let mut next = Vec::new();
        state.next(configuration, &mut next);
        let taken = next.into_iter().find(|next| fingerprint(&next.state) == *wanted);
        let taken = taken.expect("every state on the way follows from the one before");
        lines.push(trace::line(&state, &taken));
        state = taken.state;
    }
    lines.push(trace::complaint(&state, configuration));
    lines
}

/// Fingerprints of the states seen, in parts so that threads seldom meet.
struct Seen {
    parts: Vec<Mutex<Table>>,
}

const PARTS: usize = 64;

impl Seen {
    fn new() -> Seen {
        Seen { parts: (0..PARTS).map(|_| Mutex::new(Table::new())).collect() }
    }

    /// Whether it was not there before.
    fn insert(&self, fingerprint: u64) -> bool {
        let part = (fingerprint >> 58) as usize;
        self.parts[part].lock().unwrap().insert(fingerprint)
    }

    fn len(&self) -> u64 {
        self.parts.iter().map(|part| part.lock().unwrap().used as u64).sum()
    }
}

/// A set of numbers other than 0: open addressing, 8 bytes a slot.
struct Table {
    slots: Vec<u64>,
    used: usize,
}

impl Table {
    fn new() -> Table {
        Table { slots: vec![0; 64], used: 0 }
    }

    fn insert(&mut self, number: u64) -> bool {
        if self.used * 8 > self.slots.len() * 7 {
            let more = vec![0; self.slots.len() * 2];
            for number in std::mem::replace(&mut self.slots, more) {
                if number != 0 {
                    let at = self.place(number);
                    self.slots[at] = number;
                }
            }
        }
        let at = self.place(number);
        let new = self.slots[at] == 0;
        self.slots[at] = number;
        self.used += usize::from(new);
        new
    }

    /// Where the number is, or would be.
    fn place(&self, number: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = number as usize & mask;
        while self.slots[at] != 0 && self.slots[at] != number {
            at = (at + 1) & mask;
        }
        at
    }
}

/// Never 0.
fn fingerprint(state: &State) -> u64 {
    let mut fold = Fold { hash: 0x243f_6a88_85a3_08d3, word: 0, filled: 0 };
    state.hash(&mut fold);
    fold.finish().max(1)
}

/// Gathers the bytes of a state into words and folds each in by a full
/// multiplication. `std`'s own hasher is twice as slow on states this small.
struct Fold {
    hash: u64,
    word: u64,
    filled: u32,
}

impl Fold {
    fn push(&mut self, value: u64, bits: u32) {
        if self.filled + bits > 64 {
            self.fold();
        }
        self.word |= value << self.filled;
        self.filled += bits;
    }

    fn fold(&mut self) {
        self.hash = mix(self.hash ^ self.word, self.filled);
        (self.word, self.filled) = (0, 0);
    }
}

fn mix(word: u64, filled: u32) -> u64 {
    let factor = 0x9e37_79b9_7f4a_7c15 + 2 * u64::from(filled);
    let wide = u128::from(word ^ 0xa076_1d64_78bd_642f) * u128::from(factor);
    (wide as u64) ^ (wide >> 64) as u64
}

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.push(u64::from(*byte), 8);
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.push(value.into(), 8);
    }

    fn write_u16(&mut self, value: u16) {
        self.push(value.into(), 16);
    }

    /// The tag of an enum.
    fn write_isize(&mut self, value: isize) {
        self.push(value as u64 & 0xff, 8);
    }

    /// The length of an array, which is always the same.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        mix(mix(self.hash ^ self.word, self.filled), 0)
    }
}
