//! Writes new snapshots in place of those that lost content. The old ones stay
//! until they are forgotten.
//!
//! `format-spec/11-snapshots.md`, *Repaired snapshots*.

use std::cell::RefCell;
use std::collections::HashSet;

use super::places::{Demand, Places, is_there};
use super::rewrite::{Loss, TAG, rewrite, survey};
use super::{IndexOptions, Remaining, marks, repair_index};
use crate::format::manifest::manifest_key;
use crate::format::notes::{self, MarkKind};
use crate::id::{PackId, SnapshotId};
use crate::progress::{Event, Progress};
use crate::repository::snapshots::{Listing, Snapshot, State};
use crate::repository::{Error, Repository, Result, now_ms};

#[derive(Clone, Debug, Default)]
pub struct SnapshotsOptions {
    /// Only these; without it all that are confirmed and not forgotten.
    pub snapshots: Option<Vec<SnapshotId>>,
    /// Say what would be done; write nothing.
    pub dry_run: bool,
    /// Forget the old ones.
    pub forget: bool,
    /// This host's name, for the run's signs of life.
    pub host: String,
    /// zstd level; 0 stores.
    pub compression: i32,
}

/// A snapshot that lost something.
#[derive(Clone, Debug)]
pub struct Repaired {
    pub old: SnapshotId,
    /// Without the lost content; none after a dry run.
    pub new: Option<SnapshotId>,
    /// What was lost, and what is left.
    pub loss: Loss,
    /// Why it was written anew, in words.
    pub why: &'static str,
}

#[derive(Clone, Debug, Default)]
pub struct SnapshotsReport {
    /// Snapshots that lost nothing.
    pub whole: u64,
    pub repaired: Vec<Repaired>,
    /// Lossy ones of which a repaired one is there already: old, new.
    pub before: Vec<(SnapshotId, SnapshotId)>,
    /// Snapshots with a mark that cannot be read: they are kept from now on.
    pub settled: Vec<SnapshotId>,
    /// Nothing of these can be saved: only forgetting is left.
    pub remaining: Vec<Remaining>,
}

/// Writes a snapshot without the lost content for every one that lost some. Damage
/// that was not yet seen, by a check that reads data, is not known here either.
pub fn repair_snapshots(
    repository: &Repository,
    options: &SnapshotsOptions,
    progress: &dyn Progress,
) -> Result<SnapshotsReport> {
    require_full(repository)?;
    progress.event(Event::Stage("looking for what is lost"));
    repository.sync_index(progress)?;
    let (doomed, _) = repository.doomed()?;
    let listing = repository.list_snapshots()?;
    let mut avoid: HashSet<PackId> = listing.damaged.iter().copied().collect();
    avoid.extend(doomed.packs);
    require_index(repository, progress)?;
    let places = RefCell::new(Places::new(repository, &avoid)?);
    let mut report = SnapshotsReport::default();
    for other in listing.unbelieved.iter().filter(|other| is_wanted(options, other.id)) {
        if other.forgotten.is_none() {
            let what = format!("{}; it can only be forgotten", other.error.message);
            report.remaining.push(Remaining { key: manifest_key(other.id), what });
        }
    }
    report.settled = marks::settle(repository, &listing, options)?;
    let confirmations: HashSet<String> =
        repository.listed_keys(notes::CONFIRMED)?.into_iter().collect();
    for snapshot in listing.snapshots.iter().rev().filter(|s| !doomed.manifests.contains(&s.id)) {
        let unreadable = snapshot.state == State::Unconfirmed
            && confirmations.contains(&notes::confirmation_key(snapshot.id));
        let usual = (snapshot.state == State::Confirmed || unreadable)
            && snapshot.forgotten.is_none()
            && !snapshot.replaced;
        let chosen = match &options.snapshots {
            Some(wanted) => wanted.contains(&snapshot.id),
            None => usual,
        };
        if chosen {
            let why = why(&places, snapshot, unreadable)?;
            repair(&places, &listing, snapshot, why, &avoid, options, &mut report, progress)?;
        }
    }
    report.repaired.reverse();
    Ok(report)
}

fn require_full(repository: &Repository) -> Result<()> {
    let keyring = repository.keyring();
    if !(keyring.role.may_read() && keyring.role.may_write()) {
        let role = keyring.role.name();
        return Err(Error::no_right(format!(
            "a {role} key cannot repair snapshots: use a full key"
        )));
    }
    match repository.update().forbids_writing() {
        Some(feature) => Err(Error::failed(format!(
            "the repository uses the feature {feature:?}: upgrade esker to write to it"
        ))),
        None => Ok(()),
    }
}

/// What only the index lost is not lost: that is repaired first.
fn require_index(repository: &Repository, progress: &dyn Progress) -> Result<()> {
    let dry_run = IndexOptions { dry_run: true, ..IndexOptions::default() };
    match repair_index(repository, &dry_run, progress)?.listed.len() {
        0 => Ok(()),
        packs => Err(Error::failed(format!(
            "{packs} packs are in the store and in no readable index segment: \
             run `esker repair index` first"
        ))),
    }
}

fn is_wanted(options: &SnapshotsOptions, id: SnapshotId) -> bool {
    options.snapshots.as_ref().is_none_or(|wanted| wanted.contains(&id))
}

/// What is wrong with a snapshot, if anything is.
fn why(
    places: &RefCell<Places<'_>>,
    snapshot: &Snapshot,
    unreadable_confirmation: bool,
) -> Result<Option<&'static str>> {
    let repository = places.borrow().repository;
    let Some(private) = is_there(repository.private_part(snapshot))? else {
        return Ok(Some("its private part cannot be opened"));
    };
    let (tree, set) = (private.tree, snapshot.manifest.references);
    let mut places = places.borrow_mut();
    if !places.tree_is_whole(Demand::Left, tree)? {
        return Ok(Some("content is lost"));
    }
    if !places.references_are_whole(Demand::Left, set)? {
        return Ok(Some("its reference set is lost"));
    }
    let stands = places.tree_is_whole(Demand::Standing, tree)?
        && places.references_are_whole(Demand::Standing, set)?;
    if !stands {
        return Ok(Some("some of it lies in packs that lack a part"));
    }
    Ok(unreadable_confirmation.then_some("its confirmation cannot be read"))
}

#[allow(clippy::too_many_arguments)]
fn repair(
    places: &RefCell<Places<'_>>,
    listing: &Listing,
    snapshot: &Snapshot,
    why: Option<&'static str>,
    avoid: &HashSet<PackId>,
    options: &SnapshotsOptions,
    report: &mut SnapshotsReport,
    progress: &dyn Progress,
) -> Result<()> {
    let repository = places.borrow().repository;
    let Some(why) = why else {
        report.whole += 1;
        return Ok(());
    };
    if let Some(successor) = whole_successor(places, listing, snapshot.id)? {
        report.before.push((snapshot.id, successor));
        return forget(repository, snapshot, options);
    }
    let nothing = |what: &str| {
        let what = format!("{what}: nothing of it can be saved; it can only be forgotten");
        Remaining { key: manifest_key(snapshot.id), what }
    };
    let Some(private) = is_there(repository.private_part(snapshot))? else {
        report.remaining.push(nothing(why));
        return Ok(());
    };
    let loss = survey(places, private.tree, &mut |_| Ok(()), progress)?;
    if loss.entries() == 0 {
        report.remaining.push(nothing("all names are lost"));
        return Ok(());
    }
    if options.dry_run {
        report.repaired.push(Repaired { old: snapshot.id, new: None, loss, why });
        return Ok(());
    }
    progress.event(Event::Stage("writing a repaired snapshot"));
    let (loss, new) = rewrite(places, snapshot, avoid, options, progress)?;
    let lost = match loss.count {
        0 => "nothing lost".to_owned(),
        1 => "1 path lost".to_owned(),
        count => format!("{count} paths lost"),
    };
    let description = format!("repaired from {}: {lost}", &snapshot.id.to_hex()[..8]);
    repository.put_mark(new, MarkKind::Description(description), now_ms())?;
    report.repaired.push(Repaired { old: snapshot.id, new: Some(new), loss, why });
    forget(repository, snapshot, options)
}

fn forget(repository: &Repository, old: &Snapshot, options: &SnapshotsOptions) -> Result<()> {
    if options.dry_run || !options.forget || old.forgotten.is_some() {
        return Ok(());
    }
    repository.put_mark(old.id, MarkKind::Forget, now_ms())
}

/// A good snapshot that was repaired from `old`, or from one that was, and that
/// lost nothing itself.
fn whole_successor(
    places: &RefCell<Places<'_>>,
    listing: &Listing,
    old: SnapshotId,
) -> Result<Option<SnapshotId>> {
    let repaired: Vec<&Snapshot> = listing
        .snapshots
        .iter()
        .filter(|snapshot| snapshot.is_good() && snapshot.manifest.tags.iter().any(|t| t == TAG))
        .collect();
    let mut line = vec![old];
    let mut at = 0;
    while let Some(parent) = line.get(at).copied() {
        at += 1;
        for snapshot in repaired.iter().filter(|s| s.manifest.parent == Some(parent)) {
            if line.contains(&snapshot.id) {
                continue;
            }
            line.push(snapshot.id);
            if why(places, snapshot, false)?.is_none() {
                return Ok(Some(snapshot.id));
            }
        }
    }
    Ok(None)
}
