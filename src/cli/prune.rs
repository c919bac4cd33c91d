//! `prune`: frees what no kept snapshot uses. Also what `forget --prune` does
//! behind its marks, and what both say of space that comes back later.

use clap::Args;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::context::Context;
use super::exit::when;
use super::streams::Output;
use super::{Exit, Outcome, history, values};
use crate::history::of_prune;
use crate::output;
use crate::prune::{self, MAX_UNUSED, Outlook, Plan, PruneOptions, PruneReport, Reason};
use crate::repository::{Repository, now_ms};

/// Free what no kept snapshot uses
///
/// Takes forgotten snapshots whose grace time is over, whole packs that nobody needs, and moves what
/// is needed out of packs that are mostly free. It announces what goes, looks again at everything, and
/// only then deletes: backups and other prunes may run beside it.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    pub how: How,

    /// Say what would be done; change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,

    /// Judge age by this machine's clock, however far it is from what the repository has seen
    #[arg(long = "i-trust-this-clock")]
    trust_clock: bool,

    /// Take away announcements that cannot be read. Only while no other prune runs
    #[arg(long)]
    drop_unreadable_plans: bool,
}

#[derive(Args)]
#[command(next_help_heading = "How to prune")]
pub struct How {
    /// Time from forgetting until a snapshot goes for good; 0: forgotten ones of any age
    #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = grace)]
    pub grace: u64,

    /// Share of unneeded bytes that may stay in the packs looked at, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = MAX_UNUSED * 100.0, value_parser = percent)]
    pub max_unused: f64,

    /// Move so many bytes at most
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    pub max_repack: Option<u64>,

    /// Look at all packs, not only at those that may have become free; every tenth prune does so
    #[arg(long)]
    pub full: bool,
}

impl How {
    pub fn options(&self, repository: &Repository, now: u64) -> PruneOptions {
        PruneOptions {
            now,
            grace: self.grace,
            max_unused: self.max_unused / 100.0,
            max_repack: self.max_repack,
            full: self.full,
            ..PruneOptions::new(repository)
        }
    }
}

/// A length of time in ms; `0` is one too.
fn grace(text: &str) -> Result<u64, String> {
    if text == "0" {
        return Ok(0);
    }
    let too_long = || format!("{text:?} is too long");
    // days and hours are the same from any start; months are counted from now
    let now = now_ms();
    let then = values::after(now, values::span(text)?).ok_or_else(too_long)?;
    Ok(then.saturating_sub(now))
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim_end_matches('%').parse::<f64>().ok();
    let within = number.filter(|number| (0.0..=100.0).contains(number));
    within.ok_or_else(|| format!("{text:?} is no percentage from 0 to 100"))
}

pub fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let repository = context.open()?;
    let options = PruneOptions {
        trust_clock: arguments.trust_clock,
        drop_unreadable_plans: arguments.drop_unreadable_plans,
        ..arguments.how.options(&repository, now_ms())
    };
    if arguments.dry_run {
        let reporter = context.reporter();
        let plan = prune::plan_only(&repository, &options, &reporter);
        reporter.finish();
        print_plan(context, &plan?)?;
        return Ok(Exit::Ok);
    }
    let exit = prune_and_tell(context, &repository, &options)?;
    tell_outlook(context, &repository, &options)?;
    Ok(exit)
}

/// Prunes and says what came of it.
pub fn prune_and_tell(
    context: &Context,
    repository: &Repository,
    options: &PruneOptions,
) -> Outcome {
    let reporter = context.reporter();
    let started = now_ms();
    let pruned = prune::prune(repository, options, &reporter);
    reporter.finish();
    history::keep(context, repository, &of_prune(started, &pruned), &pruned);
    let report = pruned?;
    for damage in &report.damage {
        context.warn(damage);
    }
    warn_of_held(context, &report.plan);
    if context.json() {
        let mut output = Output::new();
        output.json("pruned", report_json(&report))?;
        output.finish()?;
    } else {
        sentences(&report).iter().for_each(|line| context.say(line));
    }
    if let Some(stopped) = &report.stopped {
        context.warn(stopped);
    }
    let incomplete = when(report.stopped.is_some(), Exit::TryLater);
    Ok(if report.damage.is_empty() { incomplete } else { Exit::Damage })
}

/// Says what space comes back when, without failing anything for it.
pub fn tell_outlook(
    context: &Context,
    repository: &Repository,
    options: &PruneOptions,
) -> Result<(), super::Stop> {
    let outlook = match prune::outlook(repository, options, &crate::progress::Silent) {
        Ok(outlook) => outlook,
        Err(error) => {
            context.warn(&format!("what comes free when could not be told: {error}"));
            return Ok(());
        }
    };
    if context.json() {
        let mut output = Output::new();
        for item in &outlook {
            output.json("outlook", outlook_json(item))?;
        }
        output.finish()?;
        return Ok(());
    }
    outlook.iter().for_each(|item| context.say(&outlook_sentence(item, options.now)));
    Ok(())
}

pub fn outlook_json(item: &Outlook) -> Value {
    json!({
        "from": output::rfc3339(item.from),
        "snapshots": item.snapshots,
        "bytes": item.bytes,
    })
}

pub fn outlook_sentence(item: &Outlook, now: u64) -> String {
    let size = output::size(item.bytes);
    let snapshots = output::counted(item.snapshots, "snapshot");
    if item.from <= now {
        return format!("{size} of {snapshots} can be freed by a prune now");
    }
    let zone = TimeZone::system();
    format!(
        "{size} of {snapshots} can be freed by a prune on {}; until then undo brings them back",
        output::time(item.from, &zone)
    )
}

fn sentences(report: &PruneReport) -> Vec<String> {
    let mut lines = vec![format!(
        "{} deleted for good, {} deleted, {} moved: {} freed",
        output::counted(report.manifests.len() as u64, "snapshot"),
        output::counted(
            report.packs_deleted - report.packs_repacked.min(report.packs_deleted),
            "pack"
        ),
        output::count(report.packs_repacked),
        output::size(report.freed()),
    )];
    lines.extend(left(&report.plan));
    if report.packs_kept > 0 {
        let packs = output::counted(report.packs_kept, "pack");
        lines.push(format!(
            "{packs} announced, not deleted: a second look found some of it needed, or unreadable"
        ));
    }
    lines
}

/// What was forgotten, and nothing comes of it until somebody does something.
fn warn_of_held(context: &Context, plan: &Plan) {
    for (id, why) in &plan.held {
        let id = &id.to_hex()[..8];
        context.warn(&format!("snapshot {id} was forgotten and stays: {why}"));
    }
}

/// What a plan leaves, and why.
fn left(plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    if plan.unused_kept >= 1024 {
        let size = output::size(plan.unused_kept);
        lines.push(format!("{size} that nobody needs stay in packs: less than --max-unused"));
    }
    if plan.only_full_could_free > 0 {
        let size = output::size(plan.only_full_could_free);
        lines.push(format!("another {size} lie in blocks that only a full key can cut anew"));
    }
    if plan.spared > 0 {
        let size = output::size(plan.spared);
        lines.push(format!("{size} are kept for runs that may be under way"));
    }
    lines
}

fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Forgotten => "forgotten",
        Reason::NeverConfirmed => "never confirmed",
        Reason::Replaced => "replaced",
        Reason::Unbelieved => "unbelieved",
    }
}

fn print_plan(context: &Context, plan: &Plan) -> Result<(), super::Stop> {
    let mut output = Output::new();
    let requests = plan.requests();
    warn_of_held(context, plan);
    if context.json() {
        for (id, why) in &plan.manifests {
            output.json("snapshot", json!({ "id": id.to_hex(), "reason": reason(*why) }))?;
        }
        for pack in &plan.dead {
            let id = pack.id.to_hex();
            output.json("pack", json!({ "id": id, "do": "delete", "bytes": pack.length }))?;
        }
        for pack in &plan.repack {
            let id = pack.id.to_hex();
            output.json(
                "pack",
                json!({ "id": id, "do": "move", "bytes": pack.length, "frees": pack.free }),
            )?;
        }
        let mut summary = plan_json(plan);
        summary["requests"] = json!({
            "list": requests.lists, "get": requests.gets,
            "put": requests.puts, "delete": requests.deletes,
        });
        output.json("plan", summary)?;
    } else {
        for (id, why) in &plan.manifests {
            output.line(&format!("delete snapshot {id}: {}", reason(*why)))?;
        }
        for pack in &plan.dead {
            output.line(&format!("delete pack {}: {}", pack.id, output::size(pack.length)))?;
        }
        for pack in &plan.repack {
            let (all, free) = (output::size(pack.length), output::size(pack.free));
            output.line(&format!("move pack {}: frees {free} of {all}", pack.id))?;
        }
        output.line(&format!(
            "{} would be freed, with about {} puts, {} gets, {} deletes and {} listings",
            output::size(plan.freed()),
            output::count(requests.puts),
            output::count(requests.gets),
            output::count(requests.deletes),
            output::count(requests.lists),
        ))?;
        left(plan).iter().try_for_each(|line| output.line(line))?;
    }
    Ok(output.finish()?)
}

fn plan_json(plan: &Plan) -> Value {
    let held = plan.held.iter().map(|(id, why)| json!({ "id": id.to_hex(), "why": why }));
    json!({
        "held": held.collect::<Vec<_>>(),
        "snapshots": plan.manifests.len(),
        "packs_deleted": plan.dead.len(),
        "packs_moved": plan.repack.len(),
        "bytes_freed": plan.freed(),
        "unused_kept": plan.unused_kept,
        "only_full_could_free": plan.only_full_could_free,
        "spared": plan.spared,
        "all_packs": plan.full,
    })
}

fn report_json(report: &PruneReport) -> Value {
    let ids: Vec<String> = report.manifests.iter().map(|id| id.to_hex()).collect();
    json!({
        "snapshots": ids,
        "packs_deleted": report.packs_deleted,
        "bytes_deleted": report.bytes_deleted,
        "packs_moved": report.packs_repacked,
        "bytes_put": report.bytes_put,
        "bytes_freed": report.freed(),
        "packs_kept": report.packs_kept,
        "segments_deleted": report.segments_deleted,
        "notes_deleted": report.notes_deleted,
        "plan": plan_json(&report.plan),
        "stopped": report.stopped,
        "damage": report.damage,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grace_is_a_length_of_time_or_nothing() {
        assert_eq!(grace("0"), Ok(0));
        assert_eq!(grace("12h"), Ok(12 * 3_600_000));
        for text in ["", "7", "-1d", "soon"] {
            assert!(grace(text).is_err(), "{text}");
        }
        assert_eq!(percent("2.5%"), Ok(2.5));
        assert!(percent("101").is_err() && percent("x").is_err());
    }
}
