//! Which snapshot a standby holds, as this machine remembers it. Without it the newest
//! snapshot is restored once more, which writes only what differs.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::id::hex;
use crate::repository::local::write_private;
use crate::repository::snapshots::Snapshot;
use crate::repository::{Result, now_ms};

/// A snapshot that was restored.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Applied {
    /// Its id in hex, in the repository it came from.
    pub snapshot: String,
    /// When it was taken, in ms since 1970. Copies of one snapshot have it in common.
    pub taken: u64,
    /// When it was restored.
    pub applied: u64,
}

/// What a standby holds.
#[derive(Debug)]
pub struct State {
    file: PathBuf,
    written: Written,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Written {
    /// The last that was restored whole.
    applied: Option<Applied>,
    /// One whose restore began and did not end well: some of it may be there.
    #[serde(default)]
    begun: Option<String>,
}

impl State {
    /// In a directory that outlives the machine's next start.
    pub fn read(directory: &Path, profile: &str) -> State {
        let name = hex(&blake3::hash(profile.as_bytes()).as_bytes()[..8]);
        let file = directory.join(format!("standby-{name}"));
        let read = std::fs::read(&file).ok();
        let written = read.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        State { file, written: written.unwrap_or_default() }
    }

    /// The snapshot that was restored whole last.
    pub fn applied(&self) -> Option<&Applied> {
        self.written.applied.as_ref()
    }

    /// Whether a restore began since that did not end well.
    pub fn is_torn(&self) -> bool {
        self.written.begun.is_some()
    }

    /// Whether nothing is to be done: what is held is this snapshot, or a newer one
    /// from a repository that is away today.
    pub fn is_level_with(&self, newest: &Snapshot) -> bool {
        let taken = self.written.applied.as_ref().map(|applied| applied.taken);
        !self.is_torn() && taken.is_some_and(|taken| taken >= newest.manifest.started)
    }

    /// How much older what is held is than the newest snapshot, in ms; none if nothing
    /// was ever restored whole.
    pub fn behind_ms(&self, newest: &Snapshot) -> Option<u64> {
        let applied = self.written.applied.as_ref()?;
        Some(newest.manifest.started.saturating_sub(applied.taken))
    }

    /// Notes that a restore begins.
    pub fn begin(&mut self, snapshot: &Snapshot) -> Result<()> {
        self.written.begun = Some(snapshot.id.to_hex());
        self.write()
    }

    /// Takes back that a restore began: nothing was touched.
    pub fn nothing_done(&mut self, was_torn: Option<String>) -> Result<()> {
        self.written.begun = was_torn;
        self.write()
    }

    /// The snapshot of a restore that began and did not end well.
    pub fn begun(&self) -> Option<String> {
        self.written.begun.clone()
    }

    /// Notes that all of a snapshot was restored.
    pub fn done(&mut self, snapshot: &Snapshot) -> Result<()> {
        let taken = snapshot.manifest.started;
        let applied = Applied { snapshot: snapshot.id.to_hex(), taken, applied: now_ms() };
        self.written = Written { applied: Some(applied), begun: None };
        self.write()
    }

    fn write(&self) -> Result<()> {
        let bytes = serde_json::to_vec(&self.written).unwrap_or_default();
        write_private(&self.file, &bytes)
    }
}
