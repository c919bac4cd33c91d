//! Rebuilds the index: packs that no readable segment lists are listed again,
//! from the table of contents that each of them ends in.
//!
//! `format-spec/08-index.md`, *Rebuilding*.

use std::collections::{BTreeSet, HashSet};

use rayon::prelude::*;

use super::Remaining;
use super::segments::Segments;
use crate::format::pack::{FOOTER_LENGTH, Footer, HEADER_LENGTH, MAX_PACK, pack_key};
use crate::format::segment::segment_key;
use crate::id::{PackId, SegmentId};
use crate::progress::{Event, Progress, Silent};
use crate::repository::packer::PutPack;
use crate::repository::segments::NewSegments;
use crate::repository::{Error, Repository, Result};
use crate::store::{ErrorKind as StoreKind, StoreError};

/// Tables read at once: most of the time is spent waiting for the store.
const THREADS: usize = 8;
/// Packs whose tables are in memory together.
const GROUP: usize = 64;

#[derive(Clone, Copy, Debug, Default)]
pub struct IndexOptions {
    /// Read the tables of all packs, listed or not, and replace the segments.
    pub rebuild: bool,
    /// Read packs whole, and list only those whose bytes match their name.
    pub read_data: bool,
    /// Say what would be done; write nothing.
    pub dry_run: bool,
}

#[derive(Clone, Debug, Default)]
pub struct IndexReport {
    /// Segments that are whole.
    pub segments: u64,
    /// Packs in the store.
    pub packs: u64,
    /// Packs listed again.
    pub listed: Vec<PackId>,
    /// Segments that cannot be read, and now have others in their stead; the next
    /// prune deletes them. With `rebuild` those that were replaced, too.
    pub superseded: Vec<SegmentId>,
    /// What could not be put right.
    pub remaining: Vec<Remaining>,
}

/// Why a pack is not listed.
enum Why {
    /// It is gone, or nothing for this program.
    Nothing,
    Not(String),
}

/// Puts segments for packs that no readable segment lists. A key that may maintain
/// also replaces the segments that cannot be read.
pub fn repair_index(
    repository: &Repository,
    options: &IndexOptions,
    progress: &dyn Progress,
) -> Result<IndexReport> {
    let role = repository.keyring().role;
    let maintains = role.may_maintain();
    if options.rebuild {
        repository.require_maintain()?;
    }
    if !maintains && !role.may_write() {
        let message = format!(
            "a {} key cannot write the index: use a full, maintain or write key",
            role.name()
        );
        return Err(Error::no_right(message));
    }
    if let Some(feature) = repository.update().forbids_writing() {
        return Err(Error::failed(format!(
            "the repository uses the feature {feature:?}: upgrade esker to write to it"
        )));
    }
    progress.event(Event::Stage("reading the index"));
    repository.sync_index(&Silent)?;
    let trust = repository.reload_trust()?;
    let segments = Segments::read(repository, &trust, progress)?;
    let mut report =
        IndexReport { segments: segments.whole.len() as u64, ..IndexReport::default() };
    list_packs(repository, options, &segments, &mut report, progress)?;
    supersede(repository, options, &segments, &mut report, maintains)?;
    report.remaining.extend(segments.strange);
    report.remaining.sort_unstable();
    repository.sync_index(&Silent)?;
    Ok(report)
}

fn list_packs(
    repository: &Repository,
    options: &IndexOptions,
    segments: &Segments,
    report: &mut IndexReport,
    progress: &dyn Progress,
) -> Result<()> {
    progress.event(Event::Stage("reading tables of packs"));
    let there = repository.listed_packs()?;
    report.packs = there.len() as u64;
    let mut wanted: Vec<(PackId, u64)> = there
        .into_iter()
        .filter(|(id, _)| options.rebuild || !segments.listed.contains(id))
        // a prune that removed it is about to delete it
        .filter(|(id, _)| !segments.removed.contains(id))
        .collect();
    wanted.sort_unstable();
    progress.event(Event::Expect { files: wanted.len() as u64, bytes: 0 });
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(THREADS)
        .build()
        .map_err(|error| Error::failed(format!("threads: {error}")))?;
    for group in wanted.chunks(GROUP) {
        if progress.interrupted() {
            return Err(Error::interrupted());
        }
        let read = |(id, length): &(PackId, u64)| {
            (*id, table(repository, *id, *length, options.read_data))
        };
        let tables: Vec<_> = pool.install(|| group.par_iter().map(read).collect());
        let mut packs = Vec::new();
        for (id, table) in tables {
            progress.event(Event::Done { files: 1, bytes: 0 });
            match table? {
                Ok(pack) => packs.push(pack),
                Err(Why::Nothing) => {}
                // a whole segment says already what it holds
                Err(Why::Not(_)) if segments.listed.contains(&id) => {}
                Err(Why::Not(what)) => {
                    report.remaining.push(Remaining { key: pack_key(id), what });
                }
            }
        }
        report.listed.extend(packs.iter().map(|pack| pack.id));
        if !options.dry_run {
            repository.put_segments(&packs)?;
        }
    }
    Ok(())
}

/// The table that a pack ends in, if it is by somebody listed and this key may
/// say that it is there.
fn table(
    repository: &Repository,
    id: PackId,
    length: u64,
    whole: bool,
) -> Result<std::result::Result<PutPack, Why>> {
    let frame = match if whole { whole_pack(repository, id) } else { frame(repository, id, length) }
    {
        Ok(Ok(frame)) => frame,
        Ok(Err(what)) => return Ok(Err(Why::Not(what))),
        Err(error) => {
            return match error.kind() {
                StoreKind::NotFound => Ok(Err(Why::Nothing)),
                StoreKind::TooLarge | StoreKind::Truncated | StoreKind::Unreadable => {
                    Ok(Err(Why::Not(error.to_string())))
                }
                _ => Err(error.into()),
            };
        }
    };
    let keyring = repository.keyring();
    let read = match repository.read_frame(id, length, &frame, keyring.writer) {
        Ok(read) => read,
        // kinds of packs that are for newer programs are left alone
        Err(error) if error.asks_for_upgrade() || error.rule == "PACK-3" => {
            return Ok(Err(Why::Nothing));
        }
        Err(error) => return Ok(Err(Why::Not(error.to_string()))),
    };
    if !keyring.role.may_maintain() && read.signer != keyring.writer {
        let what = "was put by another key: only a full or maintain key can list it";
        return Ok(Err(Why::Not(what.to_owned())));
    }
    // listed by a maintainer in force, whatever it says of origins would count
    let revoked = repository.trust().standing(read.signer).is_revoked_maintainer();
    if revoked && !read.toc.toc.foreign.is_empty() {
        let what = "was put by a maintainer whose key was removed, and tells of chunks that were \
                    moved: what it says cannot be believed";
        return Ok(Err(Why::Not(what.to_owned())));
    }
    Ok(Ok(PutPack { id, length, frame, toc: read.toc }))
}

type Frame = std::result::Result<std::result::Result<Vec<u8>, String>, StoreError>;

/// Two ranged reads: footer, then table and footer.
fn frame(repository: &Repository, id: PackId, length: u64) -> Frame {
    let (store, key) = (repository.store(), pack_key(id));
    let Some(footer_at) = length.checked_sub(FOOTER_LENGTH as u64) else {
        return Ok(Err("is too short for a pack".to_owned()));
    };
    let footer = store.get_range(&key, footer_at, FOOTER_LENGTH as u64)?;
    match frame_length(&footer, length) {
        Ok(frame) => Ok(Ok(store.get_range(&key, length - frame, frame)?.to_vec())),
        Err(what) => Ok(Err(what)),
    }
}

fn whole_pack(repository: &Repository, id: PackId) -> Frame {
    let bytes = repository.store().get(&pack_key(id), MAX_PACK)?;
    if *blake3::hash(&bytes).as_bytes() != id.0 {
        return Ok(Err("its bytes do not match its name [PACK-6]".to_owned()));
    }
    let footer = bytes.get(bytes.len().saturating_sub(FOOTER_LENGTH)..).unwrap_or_default();
    Ok(frame_length(footer, bytes.len() as u64).map(|frame| {
        let start = bytes.len().saturating_sub(frame as usize);
        bytes.get(start..).unwrap_or_default().to_vec()
    }))
}

fn frame_length(footer: &[u8], length: u64) -> std::result::Result<u64, String> {
    let footer = footer.try_into().map_err(|_| "is too short for a pack".to_owned())?;
    let footer = Footer::parse(footer).map_err(|error| error.to_string())?;
    let frame = footer.frame_length() as u64;
    if frame + HEADER_LENGTH as u64 > length {
        return Err("its table does not fit into it [PACK-5]".to_owned());
    }
    Ok(frame)
}

/// Names the segments that others now stand in for. What an unreadable one removed
/// is gone from the store, or is listed again and harmless.
fn supersede(
    repository: &Repository,
    options: &IndexOptions,
    segments: &Segments,
    report: &mut IndexReport,
    maintains: bool,
) -> Result<()> {
    let unreadable = segments.unreadable.iter().filter(|(id, _)| !segments.superseded.contains(id));
    if !maintains {
        report.remaining.extend(unreadable.map(|(id, what)| Remaining {
            key: segment_key(*id),
            what: format!("{what}: only a full or maintain key can replace it"),
        }));
        return Ok(());
    }
    let mut supersedes: BTreeSet<SegmentId> = unreadable.map(|(id, _)| *id).collect();
    let mut removes = BTreeSet::new();
    if options.rebuild {
        let listed: HashSet<&PackId> = report.listed.iter().collect();
        let stands_in = |id: &PackId| listed.contains(id) || segments.removed.contains(id);
        for whole in segments.whole.iter().filter(|whole| whole.packs.iter().all(stands_in)) {
            supersedes.insert(whole.id);
            removes.extend(&whole.removes);
        }
    }
    report.superseded = supersedes.iter().copied().collect();
    if supersedes.is_empty() || options.dry_run {
        return Ok(());
    }
    repository.put_new_segments(&NewSegments {
        removes: removes.into_iter().collect(),
        supersedes: report.superseded.clone(),
        ..NewSegments::default()
    })
}
