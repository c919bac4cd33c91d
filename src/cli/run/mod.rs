//! `run`: does what profiles say, from the first hook to the last notice.
//!
//! | file | |
//! |---|---|
//! | `chosen` | which profiles are meant, or due |
//! | `around` | lock, conditions, notices: what surrounds the run of a profile |
//! | `work` | the run itself: hooks, backup, steps |
//! | `snapshot` | one backup of a profile into one repository |
//! | `level` | brings the profile's other repositories level |
//! | `standby` | brings this machine level with another's snapshots |
//! | `step` | the program's own commands as steps of a run |

mod around;
mod chosen;
mod level;
mod snapshot;
mod standby;
mod step;
mod work;

use clap::Args;

use super::context::Context;
use super::{Exit, Outcome};

/// Do what profiles say: hooks, backup, copies, retention, prune, check, notices
///
/// A profile is a part of the configuration file; `esker config check` looks at it, and
/// `esker schedule install` has it run by itself.
#[derive(Args)]
pub struct Arguments {
    /// Profiles of the configuration
    #[arg(value_name = "PROFILE", required_unless_present = "due")]
    profiles: Vec<String>,

    /// Those that are due by their schedules; of the named ones, or of all
    #[arg(long, conflicts_with = "scheduled")]
    due: bool,

    /// It is a scheduler that asks: look at the profile's conditions, yield to everything else
    #[arg(long)]
    scheduled: bool,

    /// The number of the set, or of a native backup of NDB
    #[arg(long, value_name = "N")]
    set_id: Option<u32>,

    /// Say what the backup would do; run no hook, store nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

pub fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let mut exit = Exit::Ok;
    for profile in chosen::profiles(context, arguments)? {
        // one profile that is under way, or broken, does not keep others from their run
        exit = exit.and(around::run(context, &profile, arguments).unwrap_or_else(|error| {
            let ended = Exit::of(error.kind);
            super::report(&error, ended, context.json());
            ended
        }));
        if exit == Exit::Interrupted {
            break;
        }
    }
    Ok(exit)
}
