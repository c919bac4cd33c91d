//! Sources that are no paths, captured into memory: what they give when all is well, and that they fail when it is not,
//! whatever a command's exit status says.

mod commands;
mod elasticsearch;
mod memory;
mod ndb;
mod paths;
mod servers;
mod sqlite;
mod standin;
#[path = "../support/mod.rs"]
mod support;
mod tar;
