//! What was typed, the environment and the configuration, brought together:
//! which repository is meant, what opens it, where its cache is.

use std::ffi::{OsStr, OsString};
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::OnceLock;

use super::arguments::Global;
use super::environment::{Environment, StoreEnvironment};
use super::location::{self, Network};
use super::named::Named;
use super::progress::Reporter;
use super::secrets::Origin;
use super::signals;
use super::snapshot_name::{self, Narrow};
use super::streams::talk;
use crate::config::{self, Configuration, Profile};
use crate::id::SnapshotId;
use crate::progress::Silent;
use crate::repository::local::CacheRoot;
use crate::repository::snapshots::{Listing, Snapshot, State};
use crate::repository::{Error, ErrorKind, Repository, Result, Unlock};
use crate::select::{self, Wanted};
use crate::store::{Limits, Pace, Store};

pub struct Context {
    pub global: Global,
    pub environment: Environment,
    /// of all stores together
    limits: Arc<Limits>,
    /// read when it is first asked for
    configuration: OnceLock<Configuration>,
}

impl Context {
    pub fn new(global: Global, environment: Environment) -> Context {
        let upload = Pace::new(global.limit_upload);
        let download = Pace::new(global.limit_download);
        let limits = Arc::new(Limits { upload, download });
        Context { global, environment, limits, configuration: OnceLock::new() }
    }

    /// How stores on other machines are reached.
    fn network_with<'a>(&self, environment: &'a StoreEnvironment) -> Network<'a> {
        let silent = self.global.quiet || self.global.json;
        Network {
            environment,
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

    /// The context of a command that is a step of a longer run: another repository is meant, and what the configuration
    /// says of its key counts.
    pub fn for_step(&self, global: Global) -> Result<Context> {
        let mut environment = Environment::read();
        if let Some(name) = &global.repository
            && self.named(name)?.origin().is_some()
        {
            environment.forget_key();
        }
        Ok(Context::new(global, environment))
    }

    /// The same where the configuration that is named need not be there yet: it is to be written.
    pub fn without_missing_configuration(&self) -> Context {
        let mut global = self.global.clone();
        let mut environment = Environment::read();
        if self.named_config().is_some_and(|named| !named.exists()) {
            (global.config, environment.config) = (None, None);
        }
        Context::new(global, environment)
    }

    /// Says what its owner should know, from any thread.
    pub fn warner(&self) -> impl Fn(&str) + Send + Sync + 'static {
        |message| talk(&format!("esker: warning: {message}"))
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
        let named = self.meant()?;
        let origin = Origin::find(&self.global, &self.environment, named.origin())?;
        self.open_with(&named, &origin)
    }

    /// Opens a repository by its name in the configuration, or its place. What the
    /// configuration says of its key counts before what was typed or is in the
    /// environment: a run may open several.
    pub fn open_named(&self, name: &str) -> Result<Repository> {
        let named = self.named(name.as_ref())?;
        let origin = self.origin_of(&named)?;
        self.open_with(&named, &origin)
    }

    /// What opens a repository that a profile names.
    pub fn origin_of(&self, named: &Named) -> Result<Origin> {
        match named.origin() {
            Some(origin) => Ok(origin),
            None => Origin::find(&self.global, &self.environment, None),
        }
    }

    /// The store of a repository, the one that is meant if none is named, and what
    /// opens it, asked for if need be.
    pub fn door(&self, name: Option<&str>) -> Result<(Arc<dyn Store>, Unlock)> {
        let (named, origin) = match name {
            Some(name) => {
                let named = self.named(name.as_ref())?;
                let origin = self.origin_of(&named)?;
                (named, origin)
            }
            None => {
                let named = self.meant()?;
                let origin = Origin::find(&self.global, &self.environment, named.origin())?;
                (named, origin)
            }
        };
        Ok((self.store_of(&named)?, origin.unlock()?))
    }

    /// Whether a repository was named for this command, and not by the configuration.
    pub fn has_named_repository(&self) -> bool {
        self.global.repository.is_some() || self.environment.repository.is_some()
    }

    fn open_with(&self, named: &Named, origin: &Origin) -> Result<Repository> {
        if self.global.accept_other_repository {
            self.cache().forget_location(&named.place.to_string());
        }
        let store = self.store_of(named)?;
        Repository::open(store, &origin.unlock()?, &self.cache())
    }

    /// The repository that is meant.
    fn meant(&self) -> Result<Named> {
        let typed = self.global.repository.as_ref().or(self.environment.repository.as_ref());
        let default = || self.configuration().map(|all| all.file.repository.clone());
        let name = match typed {
            Some(name) => name.clone(),
            None => OsString::from(default()?.ok_or_else(location::none_named)?),
        };
        self.named(&name)
    }

    /// A repository by its name in the configuration, or its place.
    pub fn named(&self, name: &OsStr) -> Result<Named> {
        Named::find(name, &self.configuration()?.file)
    }

    /// The store of the repository that is meant, for what needs no key.
    pub fn store(&self) -> Result<Arc<dyn Store>> {
        self.store_of(&self.meant()?)
    }

    /// The store of a repository, with what opens it.
    pub fn store_of(&self, named: &Named) -> Result<Arc<dyn Store>> {
        let own = named.store_environment()?;
        location::open(&named.place, self.network_of(named, own.as_ref()), &self.cache())
    }

    /// Makes the store of a repository that is to be.
    pub fn create_store(&self, named: &Named) -> Result<Arc<dyn Store>> {
        let own = named.store_environment()?;
        location::create(&named.place, self.network_of(named, own.as_ref()))
    }

    fn network_of<'a>(&'a self, named: &Named, own: Option<&'a StoreEnvironment>) -> Network<'a> {
        Network {
            limits: named.limits(&self.limits),
            connections: named.connections().or(self.global.connections),
            ..self.network_with(own.unwrap_or(&self.environment.stores))
        }
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

    /// The configuration file or directory that was named.
    fn named_config(&self) -> Option<&PathBuf> {
        self.global.config.as_ref().or(self.environment.config.as_ref())
    }

    /// The file or directory that the configuration is read from.
    pub fn config_place(&self) -> Option<PathBuf> {
        self.named_config().cloned().or_else(|| self.environment.config_directory())
    }

    /// The file that `init` writes a repository into.
    pub fn config_file(&self) -> Option<PathBuf> {
        match self.named_config() {
            Some(named) => Some(config::file_of(named)),
            None => Some(self.environment.config_directory()?.join("esker.toml")),
        }
    }

    /// The configuration; an empty one where there is none and none was named.
    pub fn configuration(&self) -> Result<&Configuration> {
        if let Some(configuration) = self.configuration.get() {
            return Ok(configuration);
        }
        let configuration = match self.load_configuration()? {
            Some(loaded) => loaded.sound()?,
            None => config::parse(Path::new(""), String::new()).configuration,
        };
        Ok(self.configuration.get_or_init(|| configuration))
    }

    /// The configuration with all that is wrong with it; none if there is none.
    pub fn load_configuration(&self) -> Result<Option<config::Loaded>> {
        let Some(place) = self.config_place() else { return Ok(None) };
        match config::load(&place)? {
            None if self.named_config().is_some() => {
                let what = if place.is_dir() { "no file *.toml in it" } else { "no such file" };
                let message = format!("configuration {}: there is {what}", place.display());
                Err(Error::new(ErrorKind::Usage, message))
            }
            loaded => Ok(loaded),
        }
    }

    /// All profiles of the configuration but templates.
    pub fn profiles(&self) -> Result<Vec<Profile>> {
        Ok(self.configuration()?.profiles().to_vec())
    }

    /// A profile by its name.
    pub fn profile(&self, name: &str) -> Result<Profile> {
        self.configuration()?.profile(name).cloned()
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
