//! Later names of files with several, and the listing of a dry run: what a
//! planner does with a window that is done.

use std::io;
use std::sync::atomic::Ordering;

use super::context::Context;
use super::file::{FileJob, Way};
use super::plan::Planner;
use super::report::FileResult;
use super::window::{Link, Told, Window};
use crate::files::Target;
use crate::format::entry::EntryKind;
use crate::repository::Result;

impl Planner<'_> {
    /// Makes a second name of a restored file; true if it became a file of its
    /// own instead, because the first name was not restored or the file system
    /// refuses the link.
    pub(super) fn link(&mut self, link: Link) -> Result<bool> {
        let Link { entry, path } = link;
        let context = self.context();
        let size = entry.metadata.size;
        let leader = context.leader(entry.link_group);
        let linked = leader.as_ref().map(|leader| {
            let target = context.target()?;
            let is_there = same_inode(target, leader, &path)?;
            target.hard_link(leader, &path, true).map(|()| is_there)
        });
        match linked {
            Some(Ok(is_there)) => {
                context.tally.update(|report| match is_there {
                    true => report.files_unchanged += 1,
                    false => report.hard_links += 1,
                });
                context.tally.done(u64::from(entry.kind == EntryKind::File), size);
                Ok(false)
            }
            // whatever it was, writing the file tells
            Some(Err(_)) | None => {
                self.copy(entry, path)?;
                Ok(true)
            }
        }
    }

    /// The listing of a dry run.
    pub(super) fn list(&self, window: Window) {
        let context = self.context();
        for told in window.told {
            match told {
                Told::Line(kind, path, bytes) => context.tally.line(kind, &path, bytes),
                Told::File(file) => list_file(context, &file),
            }
        }
        context.tally.update(|report| report.hard_links += window.links.len() as u64);
    }
}

fn same_inode(target: &Target, leader: &[u8], path: &[u8]) -> io::Result<bool> {
    let (Some(first), Some(second)) = (target.stat(leader)?, target.stat(path)?) else {
        return Ok(false);
    };
    Ok((first.device_id, first.metadata.inode) == (second.device_id, second.metadata.inode))
}

fn list_file(context: &Context<'_>, file: &FileJob) {
    let size = file.metadata.size;
    let (kind, result, bytes) = match file.way {
        Way::New | Way::Replace => ("write", FileResult::Written, size),
        _ if file.would_change(context) => {
            let inline = file.content.length().filter(|_| file.is_inline()).unwrap_or(0);
            ("update", FileResult::Updated, file.needed.load(Ordering::Relaxed) + inline)
        }
        _ => ("unchanged", FileResult::Unchanged, 0),
    };
    context.tally.line(kind, &file.path, bytes);
    context.tally.file(result);
    context.tally.update(|report| report.bytes_written += bytes);
    file.list_trouble(context);
}
