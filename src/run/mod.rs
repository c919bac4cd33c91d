//! What a profile asks for, made into work: options of a backup, steps that follow it and when they are due, hooks.
//! `cli/run` does the work and tells of it; nothing here prints.
//!
//! | file | |
//! |---|---|
//! | `sources` | what the backup of a profile saves |
//! | `hooks` | commands of the user's around a run or a source |
//! | `steps` | what follows a backup, as commands, and when each is due |
//! | `names` | names of snapshots and sets, from patterns |

pub mod hooks;
pub mod names;
pub mod sources;
pub mod steps;
