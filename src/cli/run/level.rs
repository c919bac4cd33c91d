//! Brings the repositories of a profile level: what one has of it and another has not is copied.

use std::collections::{BTreeMap, BTreeSet};

use crate::cli::progress::Reporter;
use crate::config::Profile;
use crate::config::profile::ProfileKind;
use crate::copy::{CopyOptions, CopyReport, copy};
use crate::id::SnapshotId;
use crate::notify::LastGood;
use crate::repository::snapshots::Snapshot;
use crate::repository::{Repository, Result};

/// Host and profile.
pub type Group = (String, String);

pub fn group(snapshot: &Snapshot) -> Group {
    (snapshot.manifest.host.clone(), snapshot.manifest.profile.clone())
}

/// What a profile is about: snapshots of one host and profile, or all.
#[derive(Clone)]
pub struct Whose(Option<Group>);

impl Whose {
    /// A maintenance profile's are all there are, and those of a standby are what it follows.
    pub fn of(profile: &Profile, host: &str) -> Whose {
        let standby = profile.settings.standby.as_ref();
        Whose(match (profile.kind(), standby) {
            (ProfileKind::Maintenance | ProfileKind::Template, _) => None,
            (ProfileKind::Standby, Some(followed)) => {
                Some((followed.host.clone(), followed.profile.clone()))
            }
            (ProfileKind::Standby, None) | (ProfileKind::Backup, _) => {
                Some((host.to_owned(), profile.name.clone()))
            }
        })
    }

    fn is(&self, snapshot: &Snapshot) -> bool {
        snapshot.is_good() && self.0.as_ref().is_none_or(|own| group(snapshot) == *own)
    }

    /// The newest complete one.
    pub fn last_good(&self, snapshots: &[Snapshot]) -> Option<LastGood> {
        let own = snapshots.iter().rev().filter(|snapshot| self.is(snapshot));
        let complete = own.into_iter().find(|snapshot| snapshot.is_complete())?;
        Some(LastGood {
            snapshot: complete.id.to_hex()[..8].to_owned(),
            time_ms: complete.manifest.started,
        })
    }

    /// When the newest snapshot of each host and profile in a repository was taken, in ms since 1970.
    pub fn newest(&self, repository: &Repository) -> Result<BTreeMap<Group, u64>> {
        let mut newest = BTreeMap::new();
        for snapshot in repository.list_snapshots()?.snapshots.iter().filter(|s| self.is(s)) {
            let known: &mut u64 = newest.entry(group(snapshot)).or_default();
            *known = snapshot.manifest.started.max(*known);
        }
        Ok(newest)
    }
}

/// How a profile's snapshots are copied.
pub struct Manner<'a> {
    pub whose: &'a Whose,
    /// This host.
    pub host: &'a str,
    pub compression: i32,
    /// Only the newest of each host and profile.
    pub latest: bool,
}

/// Copies what is wanted of a repository's snapshots; nothing where that is none.
pub fn copy_wanted(
    manner: &Manner<'_>,
    from: &Repository,
    to: &Repository,
    is_wanted: &dyn Fn(&Snapshot) -> bool,
    reporter: &Reporter,
) -> Result<Option<CopyReport>> {
    let snapshots = from.list_snapshots()?.snapshots;
    let mut seen = BTreeSet::new();
    let newest_first = snapshots.iter().rev().filter(|s| manner.whose.is(s) && is_wanted(s));
    let chosen = newest_first.filter(|snapshot| !manner.latest || seen.insert(group(snapshot)));
    let wanted: Vec<SnapshotId> = chosen.map(|snapshot| snapshot.id).collect();
    if wanted.is_empty() {
        return Ok(None);
    }
    let options = CopyOptions {
        snapshots: Some(wanted),
        host: manner.host.to_owned(),
        compression: manner.compression,
        checkpoint_bytes: 0,
    };
    copy(from, to, &options, reporter).map(Some)
}
