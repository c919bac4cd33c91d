//! Files restored to scratch, read back, and compared with the live source. Of what is
//! restored only so much lies in scratch at a time as a batch has.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, BufReader, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::report::DrillReport;
use super::sample::Picked;
use super::scratch::{Scratch, tells_full};
use crate::format::entry::{EntryKind, Timestamp, display_key, is_of_path};
use crate::output;
use crate::progress::Progress;
use crate::repository::snapshots::Snapshot;
use crate::repository::{Error, ErrorKind, Repository, Result};
use crate::restore::{Overwrite, RestoreOptions, RestoreReport, restore};

/// A batch has at most so many files, and bytes unless it is one file.
const BATCH_FILES: usize = 500;
const BATCH_BYTES: u64 = 1 << 30;

/// What files are restored with.
pub struct Practice<'a> {
    pub repository: &'a Repository,
    pub scratch: &'a Scratch,
    /// Whether they are compared with the live source.
    pub live: bool,
    pub progress: &'a dyn Progress,
}

impl Practice<'_> {
    /// Restores files of one snapshot, a batch after the other.
    pub fn files(
        &self,
        snapshot: &Snapshot,
        picked: &[Picked],
        report: &mut DrillReport,
    ) -> Result<()> {
        let mut rest = picked;
        while !rest.is_empty() {
            let mut bytes = 0u64;
            let fits = |picked: &Picked| {
                bytes = bytes.saturating_add(picked.size);
                bytes <= BATCH_BYTES
            };
            let count = rest.iter().take(BATCH_FILES).map(fits).take_while(|fits| *fits).count();
            let (batch, after) = rest.split_at(count.max(1));
            rest = after;
            self.restore(snapshot, batch, report)?;
            for picked in batch {
                report.bytes = report.bytes.saturating_add(picked.size);
                self.compare(snapshot, picked, report)?;
            }
            self.scratch.clear(&self.scratch.files())?;
        }
        Ok(())
    }

    /// Restores all of a snapshot at once, as after a disaster.
    pub fn everything(&self, snapshot: &Snapshot, report: &mut DrillReport) -> Result<()> {
        self.restore(snapshot, &[], report)?;
        let tree = self.repository.private_part(snapshot)?.tree;
        let mut walk = self.repository.tree(tree, b"");
        while let Some(entry) = walk.next() {
            if self.progress.interrupted() {
                return Err(Error::interrupted());
            }
            match entry {
                Ok(entry) if entry.kind == EntryKind::File => {
                    report.bytes = report.bytes.saturating_add(entry.metadata.size);
                    self.compare(snapshot, &Picked::of(&entry), report)?;
                }
                Ok(_) => {}
                // the restore told what is lost
                Err(error) if error.kind == ErrorKind::Damage => walk.skip_unreadable(),
                Err(error) => return Err(error),
            }
        }
        self.scratch.clear(&self.scratch.files())
    }

    /// The ordinary restore, of everything if no files are named. What was written is read back and compared with the
    /// hashes once more.
    fn restore(
        &self,
        snapshot: &Snapshot,
        files: &[Picked],
        report: &mut DrillReport,
    ) -> Result<()> {
        let options = RestoreOptions {
            target: self.scratch.files(),
            sources: files.iter().map(|picked| picked.key.clone()).collect(),
            overwrite: Overwrite::Always,
            verify: true,
            ..RestoreOptions::default()
        };
        report.practised(snapshot);
        match restore(self.repository, snapshot, &options, self.progress) {
            Ok(restored) => self.tell(snapshot, files, &restored, report),
            Err(error) if error.kind == ErrorKind::Damage => {
                report.findings.of_snapshot(snapshot, error.message);
                Ok(())
            }
            Err(error) => Err(self.scratch.explain_restore(error)),
        }
    }

    fn tell(
        &self,
        snapshot: &Snapshot,
        files: &[Picked],
        restored: &RestoreReport,
        report: &mut DrillReport,
    ) -> Result<()> {
        if restored.failures.iter().any(|failure| tells_full(&failure.reason)) {
            return Err(self.scratch.full());
        }
        let target = self.scratch.files();
        let keys: HashMap<PathBuf, &[u8]> =
            files.iter().map(|file| (beneath_target(&file.key), file.key.as_slice())).collect();
        let shown = |path: &[u8]| {
            let path = Path::new(OsStr::from_bytes(path));
            let inside = path.strip_prefix(&target).unwrap_or(path);
            match keys.get(inside) {
                Some(key) => display_key(key),
                None => Path::new("/").join(inside).into_os_string().into_vec(),
            }
        };
        for damaged in &restored.damaged {
            let path = shown(&damaged.path);
            report.findings.add(Some(snapshot.id), path, damaged.reason.clone());
        }
        for failure in &restored.failures {
            let path = shown(&failure.path);
            report.failure(format!("{}: {}", output::path(&path), failure.reason));
        }
        report.files += restored.files_written + restored.files_updated + restored.files_unchanged;
        Ok(())
    }

    /// Holds a restored file against the live one.
    fn compare(
        &self,
        snapshot: &Snapshot,
        picked: &Picked,
        report: &mut DrillReport,
    ) -> Result<()> {
        let restored = self.scratch.files().join(beneath_target(&picked.key));
        if !self.live || !is_of_path(&picked.key) || report.findings.has(snapshot, &picked.key) {
            return Ok(());
        }
        let path = display_key(&picked.key);
        let live = PathBuf::from(OsStr::from_bytes(&path));
        match compare(&restored, &live, picked, self.progress)? {
            Compared::Same => report.live += 1,
            Compared::ChangedSince(how) => {
                report.live += 1;
                report.note(format!("{}: {how}", output::path(&path)));
            }
            Compared::Differs => {
                report.live += 1;
                let reason = "differs from the live file, which has the snapshot's size and times";
                report.findings.of_key(snapshot, &picked.key, reason.to_owned());
            }
            Compared::NotRestored => {}
        }
        Ok(())
    }
}

/// Where a restore puts what lies at a key, relative to its target.
fn beneath_target(key: &[u8]) -> PathBuf {
    let path = key.strip_prefix(b"files\0").unwrap_or(key);
    let path = path.iter().map(|byte| if *byte == 0 { b'/' } else { *byte });
    PathBuf::from(OsString::from_vec(path.collect()))
}

enum Compared {
    Same,
    ChangedSince(String),
    /// Nothing says that it changed, and it is another.
    Differs,
    /// It is not there to be compared, and was told before.
    NotRestored,
}

fn compare(
    restored: &Path,
    live: &Path,
    picked: &Picked,
    progress: &dyn Progress,
) -> Result<Compared> {
    let Ok(copy) = File::open(restored) else { return Ok(Compared::NotRestored) };
    let changed = |how: &str| Ok(Compared::ChangedSince(how.to_owned()));
    let before = match fs::symlink_metadata(live) {
        Ok(metadata) if metadata.is_file() => metadata,
        Ok(_) => return changed("the live source has something else there since"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return changed("is gone from the live source since");
        }
        Err(error) => return changed(&format!("the live file cannot be read: {error}")),
    };
    let since = "differs from the live file, which changed since";
    let has_changed = |now: &Metadata| {
        now.len() != picked.size
            || time(now.mtime(), now.mtime_nsec()) != picked.mtime
            || time(now.ctime(), now.ctime_nsec()) != picked.ctime
            || picked.changed_while_read
    };
    if before.len() != picked.size {
        return changed(since);
    }
    let same = File::open(live).and_then(|live| same_bytes(copy, live, progress));
    match same {
        Ok(true) => Ok(Compared::Same),
        Ok(false) if progress.interrupted() => Err(Error::interrupted()),
        Ok(false) => {
            // it may have changed while it was compared
            let after = fs::symlink_metadata(live).ok();
            match has_changed(&before) || after.is_none_or(|after| has_changed(&after)) {
                true => changed(since),
                false => Ok(Compared::Differs),
            }
        }
        Err(error) => changed(&format!("the live file cannot be read: {error}")),
    }
}

fn time(seconds: i64, nanoseconds: i64) -> Timestamp {
    Timestamp { seconds, nanoseconds: u32::try_from(nanoseconds).unwrap_or(0) }
}

/// Whether two files hold the same; no when interrupted.
fn same_bytes(one: File, other: File, progress: &dyn Progress) -> io::Result<bool> {
    let (mut one, mut other) = (BufReader::new(one), BufReader::new(other));
    let (mut left, mut right) = (vec![0; 256 << 10], vec![0; 256 << 10]);
    loop {
        let (read, other_read) = (fill(&mut one, &mut left)?, fill(&mut other, &mut right)?);
        if left.get(..read) != right.get(..other_read) || progress.interrupted() {
            return Ok(false);
        }
        if read == 0 {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    fn picked(file: &Path) -> Picked {
        let now = fs::metadata(file).unwrap();
        Picked {
            key: Vec::new(),
            size: now.len(),
            mtime: time(now.mtime(), now.mtime_nsec()),
            ctime: time(now.ctime(), now.ctime_nsec()),
            changed_while_read: false,
        }
    }

    #[test]
    fn only_a_file_that_shows_no_change_is_called_different() {
        let directory = tempfile::tempdir().unwrap();
        let [restored, live] = ["restored", "live"].map(|name| directory.path().join(name));
        fs::write(&restored, b"what was saved").unwrap();
        fs::write(&live, b"what was saved").unwrap();
        let known = picked(&live);
        let compare = |known: &Picked| super::compare(&restored, &live, known, &Silent).unwrap();
        assert!(matches!(compare(&known), Compared::Same));
        fs::write(&restored, b"what was SAVED").unwrap();
        assert!(matches!(compare(&known), Compared::Differs));
        let earlier = Timestamp { seconds: known.ctime.seconds - 1, nanoseconds: 0 };
        let touched = Picked { ctime: earlier, ..known.clone() };
        assert!(matches!(compare(&touched), Compared::ChangedSince(_)));
        let shorter = Picked { size: 3, ..known.clone() };
        assert!(matches!(compare(&shorter), Compared::ChangedSince(_)));
        fs::remove_file(&live).unwrap();
        assert!(matches!(compare(&known), Compared::ChangedSince(_)));
        fs::remove_file(&restored).unwrap();
        assert!(matches!(compare(&known), Compared::NotRestored));
    }
}
