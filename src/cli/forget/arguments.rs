//! What is typed behind `forget`.

use clap::Args;
use jiff::Span;
use jiff::tz::TimeZone;

use super::super::prune::How;
use super::super::snapshot_name::Narrow;
use super::super::values;
use crate::forget::{GroupBy, Limit, Period, Policy, Rule};
use crate::repository::{Error, ErrorKind, Result};

/// Forget snapshots: those that are named, or those that no rule keeps
///
/// Nothing is deleted by this. A forgotten snapshot can be had back until a prune has swept it.
///
/// Rules look at each group by itself. A rule cuts time into slots, and a slot keeps its newest
/// complete snapshot; one without any keeps the partial one that holds most. The newest snapshot of
/// a group, what is pinned, and a floor of good ones always stay.
#[derive(Args)]
pub struct Arguments {
    /// Snapshots by id, name, latest, latest~N or latest@TIME
    #[arg(value_name = "SNAPSHOT")]
    pub snapshots: Vec<String>,

    #[command(flatten)]
    pub keep: Keep,

    /// What tells groups apart beside the writer: host, profile, sources, tags; or none
    #[arg(long, value_name = "LIST", default_value = "host,profile,sources", value_parser = group_by)]
    pub group_by: GroupBy,

    /// The calendar that hours, days, weeks, months and years are of [default: this machine's]
    #[arg(long, value_name = "ZONE", value_parser = values::zone)]
    pub zone: Option<TimeZone>,

    /// Say what would be forgotten and why; mark nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,

    /// Say of every snapshot which rule keeps it, or why none does
    #[arg(long)]
    pub explain: bool,

    /// Go on although a group would be left with nothing, or something that was typed matches nothing
    #[arg(long)]
    pub allow_empty: bool,

    /// Do not ask
    #[arg(long)]
    pub yes: bool,

    /// Judge age by this machine's clock, however far it is from what the repository has seen
    #[arg(long = "i-trust-this-clock")]
    pub trust_clock: bool,

    /// Prune as well, once the marks are put
    #[arg(long)]
    pub prune: bool,

    #[command(flatten)]
    pub how: How,

    #[command(flatten)]
    pub narrow: Narrow,
}

#[derive(Args)]
#[command(next_help_heading = "What to keep")]
pub struct Keep {
    /// The newest N
    #[arg(long, value_name = "N")]
    keep_last: Option<u32>,

    /// One of each of the newest N hours that have any
    #[arg(long, value_name = "N")]
    keep_hourly: Option<u32>,

    /// One of each of the newest N days
    #[arg(long, value_name = "N")]
    keep_daily: Option<u32>,

    /// One of each of the newest N weeks, Monday to Sunday
    #[arg(long, value_name = "N")]
    keep_weekly: Option<u32>,

    /// One of each of the newest N months
    #[arg(long, value_name = "N")]
    keep_monthly: Option<u32>,

    /// One of each of the newest N years
    #[arg(long, value_name = "N")]
    keep_yearly: Option<u32>,

    /// All that are no older than this, counted from now: 30d, "1y 6mo"
    #[arg(long, value_name = "DURATION", value_parser = values::span)]
    keep_within: Option<Span>,

    /// One of each hour since so long before now
    #[arg(long, value_name = "DURATION", value_parser = values::span)]
    keep_within_hourly: Option<Span>,

    /// One of each day since then
    #[arg(long, value_name = "DURATION", value_parser = values::span)]
    keep_within_daily: Option<Span>,

    /// One of each week since then
    #[arg(long, value_name = "DURATION", value_parser = values::span)]
    keep_within_weekly: Option<Span>,

    /// One of each month since then
    #[arg(long, value_name = "DURATION", value_parser = values::span)]
    keep_within_monthly: Option<Span>,

    /// One of each year since then
    #[arg(long, value_name = "DURATION", value_parser = values::span)]
    keep_within_yearly: Option<Span>,

    /// All with this tag; may be given several times
    #[arg(long, value_name = "TAG")]
    pub keep_tag: Vec<String>,

    /// Without other rules: forget only what --expire-after let expire. Rules do so too
    #[arg(long)]
    expired: bool,

    /// So many good snapshots of each group always stay, and the newest; 0: not even these
    #[arg(long, value_name = "N", default_value_t = 1)]
    floor: u32,
}

impl Keep {
    pub fn policy(&self) -> Policy {
        let counts = [
            self.keep_last,
            self.keep_hourly,
            self.keep_daily,
            self.keep_weekly,
            self.keep_monthly,
            self.keep_yearly,
        ];
        let spans = [
            self.keep_within,
            self.keep_within_hourly,
            self.keep_within_daily,
            self.keep_within_weekly,
            self.keep_within_monthly,
            self.keep_within_yearly,
        ];
        // a rule that keeps none is no rule
        let counted = Period::ALL.into_iter().zip(counts).filter_map(|(period, count)| {
            let count = count.filter(|count| *count > 0)?;
            Some(Rule { period, limit: Limit::Count(count) })
        });
        let within = Period::ALL
            .into_iter()
            .zip(spans)
            .filter_map(|(period, span)| Some(Rule { period, limit: Limit::Within(span?) }));
        Policy {
            rules: counted.chain(within).collect(),
            keep_tags: self.keep_tag.clone(),
            floor: self.floor,
        }
    }
}

/// What says which snapshots go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    Named,
    Tagged,
    Policy,
}

impl Arguments {
    pub fn request(&self) -> Result<Request> {
        let usage = |message: &str| Err(Error::new(ErrorKind::Usage, message));
        let has_rules = self.keep.expired || !self.keep.policy().only_expires();
        match (self.snapshots.is_empty(), has_rules) {
            (false, true) => usage("name snapshots, or say what is kept: not both at once"),
            (false, false) => Ok(Request::Named),
            (true, true) => Ok(Request::Policy),
            (true, false) if !self.narrow.tag.is_empty() => Ok(Request::Tagged),
            (true, false) => usage(
                "forget what? Name snapshots, a --tag, or what is kept, such as --keep-daily 7",
            ),
        }
    }

    pub fn zone(&self) -> TimeZone {
        self.zone.clone().unwrap_or_else(TimeZone::system)
    }
}

fn group_by(text: &str) -> std::result::Result<GroupBy, String> {
    let mut by = GroupBy::NONE;
    if text == "none" {
        return Ok(by);
    }
    for word in text.split(',') {
        match word.trim() {
            "host" => by.host = true,
            "profile" => by.profile = true,
            "sources" => by.sources = true,
            "tags" => by.tags = true,
            _ => return Err(format!("{word:?}: write host,profile,sources,tags, or none")),
        }
    }
    Ok(by)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_told_apart_by_what_was_typed() {
        assert_eq!(group_by("host,profile,sources"), Ok(GroupBy::default()));
        assert_eq!(group_by("none"), Ok(GroupBy::NONE));
        assert_eq!(group_by("tags"), Ok(GroupBy { tags: true, ..GroupBy::NONE }));
        for text in ["", "hosts", "host,", "host,none"] {
            assert!(group_by(text).is_err(), "{text}");
        }
    }
}
