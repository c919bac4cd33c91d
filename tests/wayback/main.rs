//! The way back: one source, streams into commands, tar streams, whole snapshots,
//! and what the repository tells of its own history. Everything runs the real program.

mod damage;
mod everything;
mod history;
mod home;
mod recover;
mod sets;
mod standby;
mod streams;
#[path = "../support/mod.rs"]
mod support;
