//! Whether a run changed its source as it never did: ransomware, a wrong path, an empty mount. Pure. A run is held
//! against the median of the last ten of the same host and profile, and against none where there are fewer than five.
//!
//! # What manifests state
//!
//! Counts of files and `bytes_added` and `bytes_stored` stand in each manifest. How many files were deleted does not: it
//! is what the parent has and neither stayed nor changed, so it is known where the parent's manifest is still there. How
//! many bytes the new and changed files have does not either: `bytes_added` stands for it, what was new of them.

use std::collections::BTreeSet;

use crate::config::profile;
use crate::format::manifest::{Counts, Outcome};
use crate::repository::snapshots::{Snapshot, State};

/// So many runs before one are looked at, and at least so many there have to be.
const RUNS: usize = 10;
const FEWEST_RUNS: usize = 5;

/// How far changed bytes were compressed is judged of runs with at least so many of them: trees and indexes are stored,
/// too, and weigh more than the data in a run that changed next to nothing.
const JUDGED_BYTES: u64 = 4 << 20;
/// The same for the runs before it, each of which is only one of several.
const COUNTED_BYTES: u64 = 1 << 20;

/// What one run did to its source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunCounts {
    pub files: u64,
    pub files_new: u64,
    pub files_changed: u64,
    pub files_unchanged: u64,
    /// Of the snapshot before; nothing if there is none to compare with.
    pub files_deleted: Option<u64>,
    /// Of new and changed files, if that is known, and else as `bytes_added`.
    pub bytes_changed: u64,
    /// Of new chunks, before compression.
    pub bytes_added: u64,
    /// Everything that was put.
    pub bytes_stored: u64,
}

/// From when on a run is suspicious. Shares are from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Share of files that changed, and how many times the median that has to be, too.
    pub changed: f64,
    pub changed_times_median: f64,
    /// Share of files that were deleted.
    pub deleted: f64,
    /// Bytes stored per changed byte, where the median is below the second.
    pub stored_per_changed: f64,
    pub stored_per_changed_median: f64,
}

impl Default for Thresholds {
    fn default() -> Thresholds {
        Thresholds {
            changed: 0.5,
            changed_times_median: 5.0,
            deleted: 0.3,
            stored_per_changed: 0.95,
            stored_per_changed_median: 0.8,
        }
    }
}

impl From<&profile::Suspicion> for Thresholds {
    fn from(settings: &profile::Suspicion) -> Thresholds {
        let usual = Thresholds::default();
        // a value that is no number would make nothing suspicious
        let or =
            |value: Option<f64>, usual| value.filter(|value| value.is_finite()).unwrap_or(usual);
        Thresholds {
            changed: or(settings.changed, usual.changed),
            changed_times_median: or(settings.changed_times_median, usual.changed_times_median),
            deleted: or(settings.deleted, usual.deleted),
            stored_per_changed: or(settings.stored_per_changed, usual.stored_per_changed),
            stored_per_changed_median: or(
                settings.stored_per_changed_median,
                usual.stored_per_changed_median,
            ),
        }
    }
}

impl RunCounts {
    /// What the counts of a manifest and of its parent's tell.
    pub fn of(now: &Counts, parent: Option<&Counts>) -> RunCounts {
        let stayed = now.files_unchanged.saturating_add(now.files_changed);
        RunCounts {
            files: now.files,
            files_new: now.files_new,
            files_changed: now.files_changed,
            files_unchanged: now.files_unchanged,
            files_deleted: parent.map(|parent| parent.files.saturating_sub(stayed)),
            bytes_changed: now.bytes_added,
            bytes_added: now.bytes_added,
            bytes_stored: now.bytes_stored,
        }
    }

    /// Files that the snapshot before has, too.
    fn stayed(&self) -> u64 {
        self.files_unchanged.saturating_add(self.files_changed)
    }

    /// Files of the snapshot before.
    fn before(&self) -> Option<u64> {
        Some(self.stayed().saturating_add(self.files_deleted?))
    }

    /// Share of the files that stayed: their parent need not be known for it, and often it was forgotten.
    fn changed(&self) -> Option<f64> {
        share(self.files_changed, self.stayed())
    }

    fn deleted(&self) -> Option<f64> {
        share(self.files_deleted?, self.before()?)
    }

    fn stored_per_changed(&self, least: u64) -> Option<f64> {
        share(self.bytes_stored, self.bytes_changed).filter(|_| self.bytes_changed >= least)
    }
}

/// What is odd about a run, one sentence each; nothing if all is as ever or there are too few runs to tell.
///
/// `history` are the runs before it, oldest first.
pub fn judge(history: &[RunCounts], now: &RunCounts, thresholds: &Thresholds) -> Vec<String> {
    let history = &history[history.len().saturating_sub(RUNS)..];
    if history.len() < FEWEST_RUNS {
        return Vec::new();
    }
    let mut sentences = Vec::new();
    if let (Some(share), Some(usual)) = (now.changed(), median(history, RunCounts::changed))
        && share > thresholds.changed
        && share > thresholds.changed_times_median * usual
    {
        sentences.push(format!(
            "{} of {} files changed, {}, where {} are usual: see whether something rewrites or \
             encrypts them",
            now.files_changed,
            now.stayed(),
            percent(share),
            percent(usual)
        ));
    }
    if let Some(share) = now.deleted()
        && share > thresholds.deleted
    {
        sentences.push(format!(
            "{} of {} files are gone, {}: see whether something deleted or renamed them, or is not \
             mounted",
            now.files_deleted.unwrap_or_default(),
            now.before().unwrap_or_default(),
            percent(share)
        ));
    }
    let usual = median(history, |run| run.stored_per_changed(COUNTED_BYTES));
    if let (Some(share), Some(usual)) = (now.stored_per_changed(JUDGED_BYTES), usual)
        && share > thresholds.stored_per_changed
        && usual < thresholds.stored_per_changed_median
    {
        sentences.push(format!(
            "what changed could hardly be compressed, to {}, where {} is usual: see whether \
             something encrypted it",
            percent(share),
            percent(usual)
        ));
    }
    sentences
}

/// What is odd about the newest good snapshot of a host and profile.
///
/// `snapshots` are all of the repository, oldest first; only confirmed ones that nothing replaced are looked at, those
/// that were forgotten meanwhile among them. A partial one is no run to hold others against: what could not be read
/// counts as deleted.
///
/// Those that ended later than `until`, in ms since 1970, do not count: one from the future would be the newest for years.
pub fn judge_newest(
    snapshots: &[Snapshot],
    host: &str,
    profile: &str,
    thresholds: &Thresholds,
    until: u64,
) -> Vec<String> {
    let of_this = |snapshot: &&Snapshot| {
        let manifest = &snapshot.manifest;
        manifest.host == host
            && manifest.profile == profile
            && manifest.started.max(manifest.ended) <= until
            && snapshot.state == State::Confirmed
            && !snapshot.replaced
    };
    let labels = |snapshot: &Snapshot| -> BTreeSet<String> {
        snapshot.manifest.sources.iter().map(|source| source.label.clone()).collect()
    };
    let counts = |snapshot: &Snapshot| {
        let parent = snapshot.manifest.parent;
        let parent = snapshots.iter().find(|other| Some(other.id) == parent);
        // what was taken out of the profile is not gone
        let parent = parent.filter(|parent| labels(parent) == labels(snapshot));
        RunCounts::of(&snapshot.manifest.counts, parent.map(|parent| &parent.manifest.counts))
    };
    let mut runs = snapshots.iter().filter(of_this).rev();
    let Some(newest) = runs.find(|snapshot| snapshot.forgotten.is_none()) else {
        return Vec::new();
    };
    let whole = |snapshot: &&Snapshot| snapshot.manifest.outcome == Outcome::Complete;
    let mut history: Vec<RunCounts> = runs.filter(whole).take(RUNS).map(counts).collect();
    history.reverse();
    judge(&history, &counts(newest), thresholds)
}

/// The median of what is known, if it is known of enough runs.
fn median(runs: &[RunCounts], value: impl Fn(&RunCounts) -> Option<f64>) -> Option<f64> {
    let mut values: Vec<f64> = runs.iter().filter_map(value).collect();
    if values.len() < FEWEST_RUNS {
        return None;
    }
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 => Some((values[middle - 1] + values[middle]) / 2.0),
        _ => Some(values[middle]),
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        _ if percent < 10.0 && percent != percent.trunc() => format!("{percent:.1} %"),
        _ => format!("{percent:.0} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A night on which so many of 10,000 files changed, were added and deleted, of 50 KiB each, stored at a share of
    /// their length.
    fn night(changed: u64, new: u64, deleted: u64, stored: f64) -> RunCounts {
        let bytes = (changed + new) * (50 << 10);
        RunCounts {
            files: 10_000 - deleted + new,
            files_new: new,
            files_changed: changed,
            files_unchanged: 10_000 - changed - deleted,
            files_deleted: Some(deleted),
            bytes_changed: bytes,
            bytes_added: bytes,
            bytes_stored: (bytes as f64 * stored) as u64 + (64 << 10),
        }
    }

    fn ordinary() -> Vec<RunCounts> {
        (0..10).map(|number| night(100 + number * 20, 30, 20, 0.4)).collect()
    }

    /// Holds a night against ten ordinary ones: each word is of one sentence.
    fn check(now: &RunCounts, words: &[&str]) {
        let said = judge(&ordinary(), now, &Thresholds::default());
        assert_eq!(said.len(), words.len(), "{said:?}");
        for (sentence, word) in said.iter().zip(words) {
            assert!(sentence.contains(word), "{sentence}");
        }
    }

    #[test]
    fn a_tree_encrypted_in_place_is_flagged_on_the_first_night() {
        check(&night(9_900, 0, 0, 1.02), &["9900 of 10000 files changed, 99 %", "encrypted it"]);
        // a part of it, by and by
        check(&night(2_000, 0, 0, 1.02), &["hardly be compressed, to 102 %, where"]);
        // under other names
        check(&night(0, 9_900, 9_900, 1.02), &["9900 of 10000 files are gone", "encrypted it"]);
    }

    #[test]
    fn ordinary_work_is_not() {
        let kernel_point_release = night(300, 12, 5, 0.25);
        check(&kernel_point_release, &[]);
        for changed in [1_000, 1_500, 2_000] {
            let package_upgrade = night(changed, 300, 250, 0.45);
            check(&package_upgrade, &[]);
        }
        check(&night(0, 0, 0, 0.0), &[]);
        check(&night(5_000, 0, 0, 0.5), &[]);
        check(&night(0, 0, 3_000, 0.5), &[]);
    }

    #[test]
    fn an_empty_mount_is_flagged() {
        check(&night(0, 0, 10_000, 0.0), &["10000 of 10000 files are gone, 100 %"]);
    }

    /// Trees and indexes of a quiet night are more than its data.
    #[test]
    fn a_quiet_night_is_not_flagged_for_what_it_costs() {
        let quiet = RunCounts { bytes_stored: 2 * MIB, ..night(20, 0, 0, 0.4) };
        assert!(quiet.bytes_stored > quiet.bytes_changed);
        check(&quiet, &[]);
    }

    #[test]
    fn fewer_than_five_runs_tell_nothing() {
        let encrypted = night(9_900, 0, 0, 1.02);
        let all = ordinary();
        assert_eq!(judge(&all[..4], &encrypted, &Thresholds::default()), [""; 0]);
        assert_eq!(judge(&all[..5], &encrypted, &Thresholds::default()).len(), 2);
    }

    #[test]
    fn only_the_last_ten_count() {
        let mut history = vec![night(9_000, 0, 0, 1.0); 30];
        history.extend(ordinary());
        assert_eq!(judge(&history, &night(9_900, 0, 0, 1.02), &Thresholds::default()).len(), 2);
    }

    #[test]
    fn where_much_changes_every_night_that_is_usual() {
        let history = vec![night(3_000, 0, 0, 0.9); 10];
        assert_eq!(judge(&history, &night(9_900, 0, 0, 1.0), &Thresholds::default()), [""; 0]);
    }

    #[test]
    fn thresholds_are_the_profiles() {
        let settings = profile::Suspicion {
            changed: Some(0.1),
            deleted: Some(0.01),
            stored_per_changed: Some(f64::NAN),
            ..profile::Suspicion::default()
        };
        let thresholds = Thresholds::from(&settings);
        assert_eq!(thresholds.stored_per_changed, 0.95);
        let said = judge(&ordinary(), &night(1_500, 0, 200, 0.4), &thresholds);
        assert_eq!(said.len(), 2, "{said:?}");
    }

    /// A first run, or one whose parent is not there, has nothing to be held against.
    #[test]
    fn without_a_parent_nothing_is_deleted() {
        let now = Counts { files: 10, files_new: 10, ..Counts::default() };
        let run = RunCounts::of(&now, None);
        assert_eq!((run.deleted(), run.changed()), (None, None));
        check(&run, &[]);
        let parent = Counts { files: 8, ..Counts::default() };
        let now = Counts { files: 9, files_new: 4, files_unchanged: 3, files_changed: 2, ..now };
        assert_eq!(RunCounts::of(&now, Some(&parent)).files_deleted, Some(3));
    }

    /// Numbers that no run has, but a manifest may state.
    #[test]
    fn no_number_is_too_large() {
        let all = Counts {
            files: u64::MAX,
            files_changed: u64::MAX,
            files_unchanged: u64::MAX,
            bytes_added: u64::MAX,
            bytes_stored: u64::MAX,
            ..Counts::default()
        };
        let run = RunCounts::of(&all, Some(&Counts { files: 1, ..Counts::default() }));
        assert!(judge(&vec![run.clone(); 10], &run, &Thresholds::default()).is_empty());
    }

    #[test]
    fn medians_are_in_the_middle() {
        let of = |values: &[u64]| {
            let runs: Vec<RunCounts> =
                values.iter().map(|&files| RunCounts { files, ..RunCounts::default() }).collect();
            median(&runs, |run| Some(run.files as f64))
        };
        assert_eq!(of(&[9, 1, 5, 2, 3]), Some(3.0));
        assert_eq!(of(&[9, 1, 5, 2, 3, 4]), Some(3.5));
        assert_eq!(of(&[1, 2, 3, 4]), None);
    }
}
