//! Forgetting, as a library user and as a user of the program does it. What the
//! rules keep is tested beside them.

#[path = "../support/mod.rs"]
mod support;

mod library;
mod program;
