//! The packs that a drill covers, compared whole with their hashes: a restore reads
//! blocks, and one flipped bit may lie beside them. What is damaged is named by the
//! files that need it.

use std::collections::{BTreeMap, BTreeSet};

use super::extent::Used;
use super::report::DrillReport;
use super::sample::{BlockPlace, Sampler};
use crate::format::entry::display_key;
use crate::format::pack::{Block, MAX_PACK, PackKind, pack_key};
use crate::output;
use crate::progress::Progress;
use crate::repository::index::{PackNumber, PackToc};
use crate::repository::snapshots::Snapshot;
use crate::repository::{Repository, Result};
use crate::scrub::{ScrubOptions, scrub};

/// Reads packs and compares them with their names.
pub fn compare(
    repository: &Repository,
    (snapshots, used): (&[&Snapshot], &Used),
    share: &BTreeSet<PackNumber>,
    sampler: &mut Sampler<'_>,
    report: &mut DrillReport,
    progress: &dyn Progress,
) -> Result<()> {
    let listed = repository.listed_packs()?;
    let mut keys: BTreeMap<String, PackNumber> = BTreeMap::new();
    for number in share {
        let Some(info) = repository.index().pack(*number) else { continue };
        if listed.contains_key(&info.id) {
            keys.insert(pack_key(info.id), *number);
            report.covered.insert(info.id);
            report.covered_bytes = report.covered_bytes.saturating_add(info.length);
        } else {
            let key = pack_key(info.id);
            report.not_covered.push(format!(
                "{key} is not there: a prune removed it meanwhile, or it is lost; `esker check` tells"
            ));
        }
    }
    if keys.is_empty() {
        return Ok(());
    }
    let prefixes = keys.keys().cloned().collect();
    let options = ScrubOptions { prefixes, ..ScrubOptions::default() };
    let scrubbed = scrub(&**repository.store(), &options, progress)?;
    let mut wrong: BTreeMap<BlockPlace, String> = BTreeMap::new();
    for mismatch in &scrubbed.mismatches {
        let Some(number) = keys.get(&mismatch.key) else { continue };
        let toc = repository.index().toc(*number)?;
        let key = &mismatch.key;
        let damaged = damaged_blocks(repository, &toc);
        for block in &damaged {
            wrong
                .insert((*number, *block), format!("its data in {key}, block {block}, is damaged"));
        }
        if damaged.is_empty() || toc.toc.kind != PackKind::Data {
            let what = &mismatch.what;
            let snapshot = used.get(number).and_then(|at| snapshots.get(*at));
            let among = sampler.user_of(*number).map_or(String::new(), |key| {
                format!(", {} among it,", output::path(&display_key(&key)))
            });
            let reason = match (toc.toc.kind, damaged.is_empty()) {
                (_, true) => format!("{what}; what lies in its blocks{among} is whole"),
                (PackKind::Tree, _) => format!("{what}: names of files are damaged"),
                _ => format!("{what}: what the snapshot uses cannot be told"),
            };
            report.findings.add(snapshot.map(|one| one.id), key.clone().into_bytes(), reason);
        }
    }
    name(snapshots, wrong, sampler, report)
}

/// The blocks whose stored bytes are not what the table says; all if there are none
/// to be read.
fn damaged_blocks(repository: &Repository, toc: &PackToc) -> BTreeSet<u32> {
    let all = 0u32..;
    let bytes = repository.store().get(&pack_key(toc.pack), MAX_PACK).unwrap_or_default();
    let blocks = all.zip(toc.toc.blocks.iter().zip(&toc.offsets));
    let is_wrong = |(_, (block, offset)): &(u32, (&Block, &u64))| {
        let start = usize::try_from(**offset).unwrap_or(usize::MAX);
        let stored = bytes.get(start..).and_then(|rest| rest.get(..block.stored_length as usize));
        stored.is_none_or(|stored| blake3::hash(stored).as_bytes()[..16] != block.stored_hash)
    };
    blocks.filter(is_wrong).map(|(at, _)| at).collect()
}

/// Names the files that need damaged blocks: those that were picked for them, else
/// the first that any snapshot has.
fn name(
    snapshots: &[&Snapshot],
    mut wrong: BTreeMap<BlockPlace, String>,
    sampler: &mut Sampler<'_>,
    report: &mut DrillReport,
) -> Result<()> {
    let is_data = |place: &BlockPlace, sampler: &Sampler<'_>| sampler.is_data(place.0);
    wrong.retain(|place, _| is_data(place, sampler));
    let mut nameless = BTreeSet::new();
    for (place, reason) in &wrong {
        match sampler.users.get(place) {
            Some((at, key)) => {
                if let Some(snapshot) = snapshots.get(*at) {
                    report.findings.of_key(snapshot, key, reason.clone());
                }
            }
            None => drop(nameless.insert(*place)),
        }
    }
    let reason = |place: BlockPlace| wrong.get(&place).cloned().unwrap_or_default();
    for snapshot in snapshots {
        if nameless.is_empty() {
            break;
        }
        sampler.name(snapshot, &mut nameless, &mut report.findings, &reason)?;
    }
    for place in nameless {
        let key = sampler.key_of(place.0);
        let reason = format!("block {} is damaged; no file of a snapshot needs it", place.1);
        report.findings.add(None, key.into_bytes(), reason);
    }
    Ok(())
}
