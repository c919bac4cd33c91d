//! The protocol of `format-spec/13-protocol.md` on the real code: many clients,
//! crashes, lost replies, full stores, lagging listings and wrong clocks, in
//! interleavings that follow from a seed.
//!
//! | file | |
//! |---|---|
//! | `world` | the store in memory, and who may act next |
//! | `actors` | the real operations, and what they reported |
//! | `run` | one run: made from its seed, lived through, judged |
//! | `bases` | repositories and directories that runs begin with |
//! | `oracle` | what must hold, found out the naive way |
//! | `sabotage` | the protocol with one safety step left out |
//! | `interleavings` | many runs, and that a seed always makes the same |
//! | `found` | what runs found, each made short |
//! | `omissions` | every safety step left out, and the loss found |
//! | `plans` | prune's plan against the naive oracle, over random histories |
//! | `nature` | chance and time as the simulation wants them |
//! | `dice` | a small seeded generator |
//!
//! `ESKER_SEED=n` replays one run and prints its trace; `ESKER_TEST_LONG=yes`
//! makes twenty times as many.

#![cfg(all(target_os = "linux", target_pointer_width = "64"))]

mod actors;
mod bases;
mod dice;
mod found;
mod interleavings;
mod nature;
mod omissions;
mod oracle;
mod plans;
mod run;
mod sabotage;
mod world;
