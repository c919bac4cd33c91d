//! What was typed, the environment and the configuration, brought together:
//! which repository is meant, what opens it, where its cache is.

use std::ffi::{OsStr, OsString};
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::arguments::Global;
use super::environment::Environment;
use super::location::{self, Network};
use super::progress::Reporter;
use super::secrets::Origin;
use super::signals;
use super::snapshot_name::{self, Narrow};
use super::streams::talk;
use crate::config::{self, Settings};
use crate::id::SnapshotId;
use crate::progress::Silent;
use crate::repository::local::CacheRoot;
use crate::repository::snapshots::{Listing, Snapshot, State};
use crate::repository::{Error, ErrorKind, Repository, Result};
use crate::select::{self, Wanted};
use crate::store::{Limits, Pace, Store};

pub struct Context {
    pub global: Global,
    pub environment: Environment,
    /// of all stores together
    limits: Arc<Limits>,
}

impl Context {
    pub fn new(global: Global, environment: Environment) -> Context {
        let upload = Pace::new(global.limit_upload);
        let download = Pace::new(global.limit_download);
        Context { global, environment, limits: Arc::new(Limits { upload, download }) }
    }

    /// How stores on other machines are reached.
    pub fn network(&self) -> Network<'_> {
        let silent = self.global.quiet || self.global.json;
        Network {
            environment: &self.environment.stores,
            limits: Arc::clone(&self.limits),
            connections: self.global.connections,
            notice: Box::new(move |error, left| {
                if !silent {
                    let left = left.as_secs();
                    talk(&format!("esker: {error}: trying again for up to {left} s"));
                }
            }),
        }
    }

    pub fn json(&self) -> bool {
        self.global.json
    }

    /// Something its owner should know, on standard error.
    pub fn warn(&self, message: &str) {
        talk(&format!("esker: warning: {message}"));
    }

    /// Talk that `--quiet` silences, and `--json` replaces.
    pub fn say(&self, message: &str) {
        if !self.global.quiet && !self.global.json {
            talk(message);
        }
    }

    /// Opens the repository that is meant, asking for a password if need be.
    pub fn open(&self) -> Result<Repository> {
        let settings = self.settings()?;
        let (name, configured_key) = self.repository_name(&settings)?;
        let place = location::place(&name)?;
        let cache = self.cache();
        if self.global.accept_other_repository {
            cache.forget_location(&place.to_string());
        }
        let store = location::open(&place, self.network(), &cache)?;
        let origin = Origin::find(&self.global, &self.environment, configured_key)?;
        Repository::open(store, &origin.unlock()?, &cache)
    }

    /// The store of the repository that is meant, for what needs no key.
    pub fn store(&self) -> Result<Arc<dyn Store>> {
        let settings = self.settings()?;
        let (name, _) = self.repository_name(&settings)?;
        self.store_at(&name)
    }

    /// The store at a place.
    pub fn store_at(&self, name: &OsStr) -> Result<Arc<dyn Store>> {
        location::open(&location::place(name)?, self.network(), &self.cache())
    }

    /// All snapshots. What cannot be believed is told.
    pub fn snapshots(&self, repository: &Repository) -> Result<Vec<Snapshot>> {
        Ok(self.listing(repository)?.snapshots)
    }

    /// The same with all made ready to read them.
    pub fn readable_snapshots(&self, repository: &Repository) -> Result<Vec<Snapshot>> {
        for trouble in repository.prepare_reading(&Silent)? {
            self.warn(&trouble.message);
        }
        self.snapshots(repository)
    }

    /// The same with what is known of those that cannot be believed.
    pub fn listing(&self, repository: &Repository) -> Result<Listing> {
        let listing = repository.list_snapshots()?;
        for trouble in &listing.troubles {
            self.warn(&trouble.message);
        }
        Ok(listing)
    }

    /// The snapshot that is meant; one that cannot be relied on comes with a warning.
    pub fn select<'a>(
        &self,
        repository: &Repository,
        snapshots: &'a [Snapshot],
        wanted: &Wanted,
        narrow: &Narrow,
    ) -> Result<&'a Snapshot> {
        let snapshot = select::select(repository, snapshots, wanted, &narrow.filter())?;
        if snapshot.state != State::Confirmed {
            let id = &snapshot.id.to_hex()[..8];
            let state = match snapshot.state {
                State::Distrusted => "signed by a key that was revoked",
                _ => "of a run that did not end well; it may lack data",
            };
            self.warn(&format!("snapshot {id} is {state}"));
        }
        Ok(snapshot)
    }

    /// The ids of the snapshots that are meant; nothing if none were named.
    pub fn select_all(
        &self,
        repository: &Repository,
        names: &[String],
        narrow: &Narrow,
    ) -> Result<Option<Vec<SnapshotId>>> {
        if names.is_empty() {
            return Ok(None);
        }
        let snapshots = self.snapshots(repository)?;
        let id = |name: &String| {
            let wanted = snapshot_name::parse_snapshot(name)?;
            self.select(repository, &snapshots, &wanted, narrow).map(|snapshot| snapshot.id)
        };
        names.iter().map(id).collect::<Result<_>>().map(Some)
    }

    /// Reports what goes on, and listens to signals. Called once the repository
    /// is open: before that, Ctrl-C simply ends the program.
    pub fn reporter(&self) -> Reporter {
        Reporter::new(&self.global, signals::listen())
    }

    /// The repository's name, and the key file that the configuration gives for it.
    fn repository_name<'a>(&self, settings: &'a Settings) -> Result<(OsString, Option<&'a Path>)> {
        let typed = self.global.repository.as_ref().or(self.environment.repository.as_ref());
        if let Some(name) = typed {
            return Ok((name.clone(), None));
        }
        match &settings.repository {
            Some(name) => Ok((name.into(), settings.key_file.as_deref())),
            None => Err(location::none_named()),
        }
    }

    pub fn config_file(&self) -> Option<PathBuf> {
        self.global.config.clone().or_else(|| self.environment.config_file())
    }

    fn settings(&self) -> Result<Settings> {
        let Some(file) = self.config_file() else { return Ok(Settings::default()) };
        let named = self.global.config.is_some() || self.environment.config.is_some();
        match config::read(&file)? {
            Some(settings) => Ok(settings),
            None if named => {
                let message = format!("configuration {}: there is no such file", file.display());
                Err(Error::new(ErrorKind::Usage, message))
            }
            None => Ok(Settings::default()),
        }
    }

    /// The cache directory; none, with a warning, where it cannot be used.
    pub fn cache(&self) -> CacheRoot {
        if self.global.no_cache {
            return CacheRoot::None;
        }
        let typed = self.global.cache_dir.clone();
        let Some(directory) = typed.or_else(|| self.environment.cache_directory()) else {
            self.warn("no place for a cache: set ESKER_CACHE_DIR or HOME; going on without one");
            return CacheRoot::None;
        };
        match usable(&directory) {
            Ok(directory) => CacheRoot::Directory(directory),
            Err(error) => {
                self.warn(&format!("cache {}: {error}: going on without one", directory.display()));
                CacheRoot::None
            }
        }
    }
}

/// Makes a cache directory that only its owner may read, and sees that it can be written.
fn usable(directory: &Path) -> std::io::Result<PathBuf> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    rustix::fs::access(directory, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)?;
    std::fs::canonicalize(directory)
}
