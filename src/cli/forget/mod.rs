//! `forget`: marks snapshots as forgotten, by name or by rules.

mod arguments;
mod refuse;
mod show;

use super::context::Context;
use super::exit::when;
use super::streams::talk;
use super::{Exit, Outcome, prune, snapshot_name, terminal};
use crate::forget::{self, Item, Named, Plan, PlanOptions};
use crate::output;
use crate::prune::PruneOptions;
use crate::repository::clock::believable_now;
use crate::repository::snapshots::{Listing, Snapshot};
use crate::repository::{Error, ErrorKind, Repository, Result, now_ms};
use crate::select::{self, Wanted};

pub use self::arguments::Arguments;
use self::arguments::Request;

/// How many of the snapshots to be forgotten are shown before asking.
const SHOWN: usize = 50;

pub fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let request = arguments.request()?;
    let repository = context.open()?;
    repository.require_maintain()?;
    let listing = repository.list_snapshots()?;
    for trouble in &listing.troubles {
        context.warn(&trouble.message);
    }
    let now_ms = judged_time(context, &repository, &listing, request, arguments.trust_clock)?;
    let zone = arguments.zone();
    let options = PlanOptions { group_by: arguments.group_by, now_ms, zone: &zone };
    let plan = make_plan(context, &repository, &listing, arguments, request, &options)?;
    let refused = match arguments.allow_empty {
        true => Ok(()),
        false => refuse::check(&repository, &listing, &plan, arguments, request),
    };
    let shown = show::Shown {
        context,
        repository: &repository,
        plan: &plan,
        policy: (request == Request::Policy).then_some(now_ms),
        zone: &zone,
        arguments,
    };
    if arguments.dry_run {
        shown.print()?;
        refused?;
    } else {
        refused?;
        if !arguments.yes {
            confirm(&plan, request, &options)?;
        }
        let reporter = context.reporter();
        let forgotten = forget::execute(&repository, &plan, now_ms, &reporter);
        reporter.finish();
        forgotten?;
        shown.print()?;
    }
    let mut exit = when(!listing.troubles.is_empty(), Exit::Damage);
    if !arguments.dry_run {
        let options = PruneOptions {
            trust_clock: arguments.trust_clock,
            ..arguments.how.options(&repository, now_ms)
        };
        if arguments.prune {
            let pruned = prune::prune_and_tell(context, &repository, &options)?;
            exit = if exit == Exit::Ok { pruned } else { exit };
        }
        prune::tell_outlook(context, &repository, &options)?;
    }
    Ok(exit)
}

/// The time that age is judged by, and that marks are dated.
///
/// What was named goes even where a clock is far ahead, which most often means
/// that the repository was quiet. One that is behind would date the mark before
/// its time, and the grace would be over at once.
fn judged_time(
    context: &Context,
    repository: &Repository,
    listing: &Listing,
    request: Request,
    trusted: bool,
) -> Result<u64> {
    let now = now_ms();
    let newest = repository.newest_time(listing, &repository.list_runs()?.runs)?;
    match believable_now(newest, None, now, trusted) {
        Err(error) if request != Request::Policy && now > newest => {
            context.warn(&error.message);
            Ok(now)
        }
        believed => believed,
    }
}

fn make_plan<'a>(
    context: &Context,
    repository: &Repository,
    listing: &'a Listing,
    arguments: &Arguments,
    request: Request,
    options: &PlanOptions<'_>,
) -> Result<Plan<'a>> {
    let filter = arguments.narrow.filter();
    let matcher = filter.matcher(repository.keyring())?;
    let chosen = |snapshot: &Snapshot| matcher.matches(snapshot);
    match request {
        Request::Policy => Ok(forget::plan(listing, &chosen, &arguments.keep.policy(), options)),
        Request::Tagged => Ok(forget::plan_tagged(listing, &chosen, options)),
        Request::Named => {
            let mut named = Vec::new();
            for text in &arguments.snapshots {
                named.extend(name(context, repository, listing, arguments, text)?);
            }
            Ok(forget::plan_named(listing, &named, options))
        }
    }
}

/// What was meant, unless it is forgotten already.
fn name<'a>(
    context: &Context,
    repository: &Repository,
    listing: &'a Listing,
    arguments: &Arguments,
    text: &str,
) -> Result<Option<Named<'a>>> {
    let found = match snapshot_name::parse_snapshot(text)? {
        Wanted::Named(name) => forget::find(listing, &name)?,
        wanted => {
            let filter = arguments.narrow.filter();
            Named::Snapshot(select::select(repository, &listing.snapshots, &wanted, &filter)?)
        }
    };
    let forgotten = match found {
        Named::Snapshot(snapshot) => snapshot.forgotten,
        Named::Unbelieved(id) => {
            listing.unbelieved.iter().find(|other| other.id == id).and_then(|other| other.forgotten)
        }
    };
    if forgotten.is_some() {
        context.warn(&format!("{text}: was forgotten before"));
    }
    Ok(Some(found).filter(|_| forgotten.is_none()))
}

/// Shows what goes and asks, where somebody can answer: always for what was
/// named, and for rules that take more than half of a group.
fn confirm(plan: &Plan<'_>, request: Request, options: &PlanOptions<'_>) -> Result<()> {
    let marks = plan.marks();
    let by_rule = request == Request::Policy;
    let is_small = by_rule && !plan.groups.iter().any(forget::Group::is_halved);
    if marks.is_empty() || is_small {
        return Ok(());
    }
    let terminal = match terminal::open() {
        Ok(terminal) => terminal,
        Err(_) if by_rule => return Ok(()),
        Err(_) => return Err(no_terminal()),
    };
    let going: Vec<&Item<'_>> = plan.items().filter(|item| item.goes()).collect();
    for item in going.iter().take(SHOWN) {
        talk(&format!("forget {}", describe(item.snapshot, options)));
    }
    if going.len() > SHOWN {
        let more = output::count((going.len() - SHOWN) as u64);
        talk(&format!("and {more} more; --dry-run lists all"));
    }
    for id in &plan.unbelieved {
        talk(&format!("forget {id}, which nobody believes"));
    }
    let question = format!("forget {}?", output::counted(marks.len() as u64, "snapshot"));
    match terminal::ask(terminal, &question).map_err(|_| no_terminal())? {
        true => Ok(()),
        false => Err(Error::failed("nothing was forgotten")),
    }
}

fn no_terminal() -> Error {
    let message = "forgetting by id, name or tag asks at a terminal, and there is none: say --yes";
    Error::new(ErrorKind::Usage, message)
}

fn describe(snapshot: &Snapshot, options: &PlanOptions<'_>) -> String {
    let manifest = &snapshot.manifest;
    format!(
        "{} of {}, host {}, profile {}, {}{}",
        &snapshot.id.to_hex()[..8],
        output::time(manifest.started, options.zone),
        manifest.host,
        manifest.profile,
        output::counted(manifest.counts.files, "file"),
        if snapshot.pinned { ", PINNED" } else { "" }
    )
}
