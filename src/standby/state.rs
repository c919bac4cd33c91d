//! Which snapshot a standby holds, as this machine remembers it, with what it is of and
//! where it lies: a standby that follows another host now, or has another target, holds
//! nothing yet. Without it the newest snapshot is restored once more, which writes only
//! what differs.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::profile::Standby;
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
    /// What it should be, if that was said.
    wanted: Option<Bound>,
}

/// What a standby's files are of, and where they lie, as hashes.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
struct Bound {
    /// Host and profile.
    from: String,
    /// Target and chosen sources; none if who wrote it did not say.
    to: Option<String>,
}

impl Bound {
    fn of(standby: &Standby) -> Bound {
        let mut sources = standby.sources.clone();
        sources.iter_mut().for_each(|sources| sources.sort_unstable());
        let target = standby.target.as_deref().unwrap_or(Path::new("/"));
        let to = hash(&(target.as_os_str().as_encoded_bytes(), sources));
        Bound { from: from(&standby.host, &standby.profile), to: Some(to) }
    }
}

fn from(host: &str, profile: &str) -> String {
    hash(&(host, profile))
}

fn hash(what: &impl Serialize) -> String {
    let bytes = serde_json::to_vec(what).unwrap_or_default();
    hex(&blake3::hash(&bytes).as_bytes()[..16])
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Written {
    /// The last that was restored whole.
    applied: Option<Applied>,
    /// One whose restore began and did not end well: some of it may be there.
    #[serde(default)]
    begun: Option<String>,
    /// Of the last that was restored whole.
    #[serde(default)]
    bound: Option<Bound>,
}

impl State {
    /// In a directory that outlives the machine's next start.
    pub fn read(directory: &Path, profile: &str) -> State {
        let name = hex(&blake3::hash(profile.as_bytes()).as_bytes()[..8]);
        let file = directory.join(format!("standby-{name}"));
        let read = std::fs::read(&file).ok();
        let written = read.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        State { file, written: written.unwrap_or_default(), wanted: None }
    }

    /// The state of this standby: what was restored from elsewhere, or to elsewhere,
    /// does not count.
    pub fn of(self, standby: &Standby) -> State {
        State { wanted: Some(Bound::of(standby)), ..self }
    }

    /// The snapshot that was restored whole last.
    pub fn applied(&self) -> Option<&Applied> {
        let is_wanted = self.wanted.is_none() || self.wanted == self.written.bound;
        self.written.applied.as_ref().filter(|_| is_wanted)
    }

    /// Whether a restore began since that did not end well.
    pub fn is_torn(&self) -> bool {
        self.written.begun.is_some()
    }

    /// Whether nothing is to be done: what is held is this snapshot, or a newer one
    /// from a repository that is away today.
    pub fn is_level_with(&self, newest: &Snapshot) -> bool {
        let taken = self.applied().map(|applied| applied.taken);
        let of = from(&newest.manifest.host, &newest.manifest.profile);
        let is_of_it = self.written.bound.as_ref().is_some_and(|bound| bound.from == of);
        !self.is_torn() && is_of_it && taken.is_some_and(|taken| taken >= newest.manifest.started)
    }

    /// How much older what is held is than the newest snapshot, in ms; none if nothing
    /// was ever restored whole.
    pub fn behind_ms(&self, newest: &Snapshot) -> Option<u64> {
        let applied = self.applied()?;
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
        let from = from(&snapshot.manifest.host, &snapshot.manifest.profile);
        let to = self.wanted.as_ref().and_then(|wanted| wanted.to.clone());
        let bound = Some(Bound { from, to });
        self.written = Written { applied: Some(applied), begun: None, bound };
        self.write()
    }

    fn write(&self) -> Result<()> {
        let bytes = serde_json::to_vec(&self.written).unwrap_or_default();
        write_private(&self.file, &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(host: &str, started: u64) -> Snapshot {
        Snapshot::example([1; 16], host, "web", started)
    }

    fn standby(host: &str, target: Option<&str>, sources: Option<&[&str]>) -> Standby {
        Standby {
            host: host.into(),
            profile: "web".into(),
            target: target.map(PathBuf::from),
            sources: sources.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
            ..Standby::default()
        }
    }

    #[test]
    fn what_was_restored_from_or_to_elsewhere_does_not_count() {
        let directory = tempfile::tempdir().unwrap();
        let read = |standby: &Standby| State::read(directory.path(), "level").of(standby);
        let chosen: Option<&[&str]> = Some(&["a", "b"]);
        let here = standby("one", Some("/srv"), chosen);
        let newest = snapshot("one", 5000);
        assert!(!read(&here).is_level_with(&newest));
        read(&here).done(&newest).unwrap();
        assert!(read(&here).is_level_with(&newest));
        assert!(read(&here).is_level_with(&snapshot("one", 4000)));
        assert!(read(&standby("one", Some("/srv"), Some(&["b", "a"]))).is_level_with(&newest));
        for (other, newest) in [
            // older than what is held, and of another
            (standby("two", Some("/srv"), chosen), snapshot("two", 4000)),
            (standby("one", None, chosen), newest.clone()),
            (standby("one", Some("/other"), chosen), newest.clone()),
            (standby("one", Some("/srv"), None), newest.clone()),
            (standby("one", Some("/srv"), Some(&["a"])), newest.clone()),
        ] {
            let state = read(&other);
            assert!(!state.is_level_with(&newest), "{other:?}");
            assert_eq!((state.applied(), state.behind_ms(&newest)), (None, None), "{other:?}");
        }
    }

    #[test]
    fn a_state_that_does_not_say_of_what_it_is_is_not_level() {
        let directory = tempfile::tempdir().unwrap();
        let here = standby("one", None, None);
        let state = State::read(directory.path(), "level");
        let old = r#"{"applied":{"snapshot":"01","taken":5000,"applied":6000},"begun":null}"#;
        std::fs::write(&state.file, old).unwrap();
        let newest = snapshot("one", 5000);
        assert!(!State::read(directory.path(), "level").is_level_with(&newest));
        assert!(!State::read(directory.path(), "level").of(&here).is_level_with(&newest));
    }
}
