//! How much there is to restore, and whether there is room for it.

use std::collections::HashSet;

use super::context::Context;
use super::scope::{Chosen, Scope, Step};
use crate::files::NodeKind;
use crate::format::content::{Content, Item};
use crate::format::entry::{Entry, EntryKind};
use crate::progress::Event;
use crate::repository::snapshots::Snapshot;
use crate::repository::{Error, ErrorKind, Result};

#[derive(Default)]
struct Sum {
    files: u64,
    bytes: u64,
    /// Bytes that will be written at most: no holes, hard links once, and less
    /// what existing files take already.
    needed: u64,
}

/// Tells the progress what to expect, and refuses what does not fit. `freed` is
/// what will be removed before the first write.
pub(super) fn check_room<'a>(
    context: &Context<'_>,
    snapshot: &Snapshot,
    scope: &Scope,
    freed: u64,
    chosen: impl Fn() -> Chosen<'a>,
) -> Result<()> {
    let options = context.options;
    let counts = &snapshot.manifest.counts;
    let is_whole = matches!(scope, Scope::Whole) && options.choice().is_all();
    let free = context.target().and_then(|target| target.free_space());
    let free = free.map_or(u64::MAX, |free| free.saturating_add(freed));
    // the manifest's sum is enough to see that there is room for all of it
    if is_whole && counts.bytes <= free {
        let (files, bytes) = (counts.files, counts.bytes);
        context.progress.event(Event::Expect { files, bytes });
        return context.repository.expect_reads(files, bytes, context.progress);
    }
    let mut sum = Sum::default();
    let mut groups = HashSet::new();
    for step in chosen() {
        context.check_running()?;
        match step {
            Step::Entry { entry, .. } => add(context, scope, &entry, &mut groups, &mut sum)?,
            // the restore itself tells what is lost
            Step::Damage(error) if error.kind == ErrorKind::Damage => {}
            Step::Damage(error) => return Err(error),
        }
    }
    context.progress.event(Event::Expect { files: sum.files, bytes: sum.bytes });
    if sum.needed > free && !options.dry_run {
        return Err(Error::failed(format!(
            "{}: {} bytes are needed and {free} are free: nothing was written",
            options.target.display(),
            sum.needed,
        )));
    }
    context.repository.expect_reads(sum.files, sum.bytes, context.progress)
}

fn add(
    context: &Context<'_>,
    scope: &Scope,
    entry: &Entry,
    groups: &mut HashSet<u64>,
    sum: &mut Sum,
) -> Result<()> {
    if entry.kind != EntryKind::File {
        return Ok(());
    }
    sum.files += 1;
    sum.bytes = sum.bytes.saturating_add(entry.metadata.size);
    if entry.link_group != 0 && !groups.insert(entry.link_group) {
        return Ok(());
    }
    let existing = context.stat(&scope.target_path(&entry.key)).ok().flatten();
    let taken = existing
        .filter(|existing| existing.kind == NodeKind::Entry(EntryKind::File))
        .map_or(0, |existing| existing.metadata.size);
    sum.needed = sum.needed.saturating_add(data_bytes(context, entry)?.saturating_sub(taken));
    Ok(())
}

fn data_bytes(context: &Context<'_>, entry: &Entry) -> Result<u64> {
    if matches!(entry.content, Content::Empty | Content::Inline(_)) {
        return Ok(entry.metadata.size);
    }
    let mut bytes = 0u64;
    let sum = context.repository.items(&entry.content, &mut |item| {
        if let Item::Chunk { length, .. } = item {
            bytes += u64::from(length);
        }
        Ok(())
    });
    match sum {
        Err(error) if error.kind != ErrorKind::Damage => Err(error),
        _ => Ok(bytes),
    }
}
