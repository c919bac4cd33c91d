//! What stays and what goes, as a table for each group or as JSON.

use std::io;

use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::super::context::Context;
use super::super::status_words::{name_or_place, standing};
use super::super::streams::Output;
use super::super::values;
use super::arguments::Arguments;
use crate::forget::{Cause, Fate, Group, GroupKey, Item, Keep, Left, Plan, Rule, Verdict};
use crate::output::{self, Table};
use crate::repository::Repository;

pub struct Shown<'a> {
    pub context: &'a Context,
    pub repository: &'a Repository,
    pub plan: &'a Plan<'a>,
    /// What time rules counted from, if it was rules.
    pub policy: Option<u64>,
    pub zone: &'a TimeZone,
    pub arguments: &'a Arguments,
}

impl Shown<'_> {
    pub fn print(&self) -> io::Result<()> {
        let mut output = Output::new();
        if self.context.json() {
            self.json(&mut output)?;
        } else if !self.context.global.quiet || self.explains() {
            self.tables(&mut output)?;
        }
        output.finish()?;
        self.context.say(&self.summary());
        Ok(())
    }

    fn explains(&self) -> bool {
        self.arguments.explain || self.arguments.dry_run
    }

    fn tables(&self, output: &mut Output) -> io::Result<()> {
        if let Some(now) = self.policy {
            output.line(&format!(
                "calendar of {}; now, from which keep-within counts, is {}",
                values::name_of_zone(self.zone),
                output::time(now, self.zone)
            ))?;
        }
        for group in &self.plan.groups {
            let (going, all) = (group.going(), group.items.len());
            output.line("")?;
            output.line(&output::sentence(&format!(
                "{}: {} stay, {} go",
                group_name(self.repository, group),
                output::count((all - going) as u64),
                output::count(going as u64)
            )))?;
            output.table(&self.table(group))?;
        }
        for id in &self.plan.unbelieved {
            output.line(&format!("{id}, which nobody believes: forget"))?;
        }
        for snapshot in &self.plan.left_behind {
            output.line(&format!("{}, whose successor was forgotten: forget", snapshot.id))?;
        }
        Ok(())
    }

    fn table(&self, group: &Group<'_>) -> Table {
        let mut table = Table::new(&["id", "time", "status", "name", "tags", "", "why"]);
        for item in &group.items {
            let snapshot = item.snapshot;
            let why = if self.explains() { self.why(item).join("; ") } else { String::new() };
            table.row([
                snapshot.id.to_hex()[..8].to_owned(),
                output::time(snapshot.manifest.started, self.zone),
                standing(snapshot).join(", "),
                output::sentence(&name_or_place(snapshot)).into_owned(),
                output::sentence(&snapshot.tags.join(",")).into_owned(),
                fate_name(&item.fate).to_owned(),
                output::sentence(&why).into_owned(),
            ]);
        }
        table
    }

    fn why(&self, item: &Item<'_>) -> Vec<String> {
        match &item.fate {
            Fate::Keep(keeps) => keeps.iter().map(keep_reason).collect(),
            Fate::Leave(left) => vec![left_reason(*left).to_owned()],
            Fate::Forget(Cause::Named) => vec!["named".to_owned()],
            Fate::Forget(Cause::Tagged) => vec!["tagged".to_owned()],
            Fate::Forget(Cause::Expired(time)) => {
                vec![format!("expired {}", output::time(*time, self.zone))]
            }
            Fate::Forget(Cause::NoRule(verdicts)) if verdicts.is_empty() => {
                vec!["no rule keeps it".to_owned()]
            }
            Fate::Forget(Cause::NoRule(verdicts)) => {
                verdicts.iter().map(|(rule, verdict)| verdict_reason(rule, verdict)).collect()
            }
        }
    }

    fn summary(&self) -> String {
        let marks = self.plan.marks().len() as u64;
        let going = output::counted(marks, "snapshot");
        match self.arguments.dry_run {
            true => format!("dry run: {going} would be forgotten; nothing was marked"),
            false if marks == 0 => "nothing to forget".to_owned(),
            false => format!("{going} forgotten; nothing is deleted before a prune"),
        }
    }

    fn json(&self, output: &mut Output) -> io::Result<()> {
        for group in &self.plan.groups {
            let key = key_to_json(self.repository, &group.key);
            for item in &group.items {
                output.json("decision", self.item_to_json(item, &key))?;
            }
        }
        let ids = |ids: Vec<crate::id::SnapshotId>| -> Vec<String> {
            ids.iter().map(|id| id.to_hex()).collect()
        };
        let staying = self.plan.items().filter(|item| !item.goes()).count();
        output.json(
            "summary",
            json!({
                "dry_run": self.arguments.dry_run,
                "zone": values::name_of_zone(self.zone),
                "now": self.policy.map(output::rfc3339),
                "groups": self.plan.groups.len(),
                "staying": staying,
                "going": self.plan.items().filter(|item| item.goes()).count(),
                "marked": ids(if self.arguments.dry_run { Vec::new() } else { self.plan.marks() }),
                "unbelieved": ids(self.plan.unbelieved.clone()),
            }),
        )
    }

    fn item_to_json(&self, item: &Item<'_>, group: &Value) -> Value {
        let replaces: Vec<String> = item.replaces.iter().map(|s| s.id.to_hex()).collect();
        json!({
            "id": item.snapshot.id.to_hex(),
            "time": output::rfc3339(item.snapshot.manifest.started),
            "status": standing(item.snapshot),
            "name": item.snapshot.name,
            "set": item.snapshot.manifest.set.as_ref().map(|set| &set.name),
            "tags": item.snapshot.tags,
            "group": group,
            "decision": fate_name(&item.fate),
            "why": self.why(item),
            "replaces": replaces,
        })
    }
}

fn fate_name(fate: &Fate) -> &'static str {
    match fate {
        Fate::Keep(_) => "keep",
        Fate::Leave(_) => "leave",
        Fate::Forget(_) => "forget",
    }
}

fn keep_reason(keep: &Keep) -> String {
    match keep {
        Keep::Rule(rule, Some(slot)) => format!("{rule} ({slot})"),
        Keep::Rule(rule, None) => rule.to_string(),
        Keep::Tag(tag) => format!("keep-tag {tag}"),
        Keep::Pinned => "pinned".to_owned(),
        Keep::Newest => "newest of its group".to_owned(),
        Keep::Floor => "floor".to_owned(),
        Keep::Set => "another part of its set stays".to_owned(),
        Keep::NotAsked => "not asked for".to_owned(),
    }
}

fn left_reason(left: Left) -> &'static str {
    match left {
        Left::Distrusted => "signed by a key that was revoked: rules leave it alone",
        Left::Unconfirmed => "never confirmed: prune takes it once its run is long silent",
        Left::Unclear => "a mark or confirmation of it cannot be read",
        Left::Future => "dated in the future: not believed",
    }
}

fn verdict_reason(rule: &Rule, verdict: &Verdict) -> String {
    match verdict {
        Verdict::Kept { .. } => format!("{rule} keeps it"),
        Verdict::Other { slot, keeps } => {
            format!("{rule}: {slot} has {}", &keeps.to_hex()[..8])
        }
        Verdict::Beyond => format!("{rule}: as many are newer"),
        Verdict::TooOld => format!("{rule}: older"),
    }
}

/// A group as its owner calls it.
pub fn group_name(repository: &Repository, group: &Group<'_>) -> String {
    let key = &group.key;
    let mut parts = vec![format!("writer {}", repository.trust().label(key.writer))];
    parts.extend(key.set.as_ref().map(|set| {
        format!("profile {}, part {} of sets of {}", set.profile, set.part, set.parts.join(", "))
    }));
    parts.extend(key.host.as_ref().map(|host| format!("host {host}")));
    parts.extend(key.profile.as_ref().map(|profile| format!("profile {profile}")));
    parts.extend(key.sources.as_ref().map(|labels| sources(repository, group, labels)));
    parts.extend(key.tags.as_ref().map(|tags| format!("tags {}", tags.join(","))));
    parts.join(", ")
}

/// The sources as they were named, for those who may read them.
fn sources(repository: &Repository, group: &Group<'_>, labels: &[String]) -> String {
    let newest = group.items.last().filter(|_| repository.keyring().may_read_content());
    let paths = newest.and_then(|item| repository.private_part(item.snapshot).ok());
    match paths {
        Some(part) => part.paths.iter().map(|p| output::path(p)).collect::<Vec<_>>().join(" "),
        None => format!("sources {}", labels.join(" ")),
    }
}

fn key_to_json(repository: &Repository, key: &GroupKey) -> Value {
    json!({
        "writer": key.writer.to_hex(),
        "writer_label": repository.trust().label(key.writer),
        "set": key.set.as_ref().map(|set| {
            json!({ "profile": set.profile, "part": set.part, "parts": set.parts })
        }),
        "host": key.host,
        "profile": key.profile,
        "sources": key.sources,
        "tags": key.tags,
    })
}
