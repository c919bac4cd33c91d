//! Presets: programs that esker knows how to ask for their data, and how to give it back to. Each says which tools it
//! needs, captures files one after another, takes a fingerprint beside them, and lists the steps of the way back.
//!
//! Paths in here are relative to the source, as a [`Sink`] takes them. Every preset leaves [`FINGERPRINT`] beside its
//! files.

mod caller;
mod elasticsearch;
pub mod fingerprint;
mod http;
mod mariadb;
mod mariadb_users;
mod mariadb_views;
mod names;
mod ndb;
mod postgresql;
mod redis;
mod redis_end;
mod sqlite;
mod step;

use std::collections::BTreeMap;

use self::caller::Caller;
use self::elasticsearch::Elasticsearch;
pub use self::fingerprint::{Fingerprint, compare_fingerprint};
use self::mariadb::Mariadb;
use self::ndb::Ndb;
use self::postgresql::Postgresql;
use self::redis::Redis;
use self::sqlite::Sqlite;
pub use self::step::{CallStep, CommandStep, RestoreStep};
use super::capture::file_metadata;
use super::{Environment, Surroundings, Told, checked_name, environment, limits};
use crate::backup::{Sink, StreamSource};
use crate::config::profile::{Preset, Source as Settings};
use crate::format::entry::Metadata;
use crate::repository::Result;

/// Where the fingerprint lies.
pub const FINGERPRINT: &str = "fingerprint.json";

/// The files that a snapshot has of a source, by their path relative to it.
pub type Stored = BTreeMap<Vec<u8>, Metadata>;

pub struct PresetSource {
    pub name: String,
    pub required: bool,
    caller: Caller,
    kind: Kind,
}

enum Kind {
    Postgresql(Postgresql),
    Mariadb(Mariadb),
    Sqlite(Sqlite),
    Redis(Redis),
    Elasticsearch(Elasticsearch),
    Ndb(Ndb),
}

impl PresetSource {
    /// The preset that a profile describes. Secrets are revealed here.
    pub fn new(
        settings: &Settings,
        preset: &Preset,
        surroundings: &Surroundings<'_>,
    ) -> Result<PresetSource> {
        let reveal = surroundings.reveal;
        let secret = |name: &str, secret: &Option<_>| -> Result<Environment> {
            secret.iter().map(|secret| Ok((name.to_owned(), reveal(secret)?))).collect()
        };
        let (name, through, secrets, kind) = match preset {
            Preset::Postgresql(settings) => {
                let secrets = secret("PGPASSWORD", &settings.password)?;
                let kind = Kind::Postgresql(Postgresql::new(settings.clone()));
                ("postgresql", settings.through.clone(), secrets, kind)
            }
            Preset::Mariadb(settings) => {
                let secrets = secret("MYSQL_PWD", &settings.password)?;
                let kind = Kind::Mariadb(Mariadb::new(settings.clone()));
                ("mariadb", settings.through.clone(), secrets, kind)
            }
            Preset::Sqlite(settings) => {
                let kind = Kind::Sqlite(Sqlite::new(settings)?);
                ("sqlite", settings.through.clone(), Environment::new(), kind)
            }
            Preset::Redis(settings) => {
                let secrets = secret("REDISCLI_AUTH", &settings.password)?;
                ("redis", settings.through.clone(), secrets, Kind::Redis(Redis::new(settings)))
            }
            Preset::Elasticsearch(settings) => {
                let password = settings.password.as_ref().map(reveal).transpose()?;
                let kind = Kind::Elasticsearch(Elasticsearch::new(settings, password)?);
                ("elasticsearch", None, Environment::new(), kind)
            }
            Preset::Ndb(settings) => {
                let kind = Kind::Ndb(Ndb::new(settings.clone(), surroundings.id)?);
                ("ndb", None, Environment::new(), kind)
            }
        };
        let name = settings.name.as_deref().unwrap_or(name);
        Ok(PresetSource {
            name: checked_name(name)?,
            required: settings.required.unwrap_or(true),
            caller: Caller {
                through: through.unwrap_or_default(),
                environment: environment(&settings.environment, surroundings)?,
                secrets,
                path: surroundings.path.clone(),
                temporary: surroundings.temporary.clone(),
                limits: limits(settings),
                deadline: Default::default(),
                told: Told::default(),
            },
            kind,
        })
    }

    /// Whether the tools are there, here or where `through` leads. Starts nothing that could change anything.
    pub fn check(&self) -> Result<()> {
        super::through::check(&self.caller.through, &self.caller.secrets)?;
        match &self.kind {
            Kind::Postgresql(preset) => preset.check(&self.caller),
            Kind::Mariadb(preset) => preset.check(&self.caller),
            Kind::Sqlite(preset) => preset.check(&self.caller),
            Kind::Redis(preset) => preset.check(&self.caller),
            Kind::Elasticsearch(preset) => preset.check(),
            Kind::Ndb(preset) => preset.check(&self.caller),
        }
    }

    pub fn stream(self, told: Told) -> StreamSource {
        let (name, required) = (self.name.clone(), self.required);
        if let Kind::Ndb(preset) = &self.kind
            && let Ok(id) = preset.number()
        {
            told.set_id(id);
        }
        let capture = move |sink: &mut dyn Sink| {
            let caller = self.caller.begin(told);
            match &self.kind {
                Kind::Postgresql(preset) => preset.capture(&caller, sink),
                Kind::Mariadb(preset) => preset.capture(&caller, sink),
                Kind::Sqlite(preset) => preset.capture(&caller, sink),
                Kind::Redis(preset) => preset.capture(&caller, sink),
                Kind::Elasticsearch(preset) => preset.capture(&caller, sink),
                Kind::Ndb(preset) => preset.capture(&caller, sink),
            }
        };
        StreamSource { name, required, capture: Box::new(capture) }
    }

    /// How what a snapshot stores is put back, in this order. Nothing is started or touched yet.
    pub fn restore_steps(&self, stored: &Stored) -> Result<Vec<RestoreStep>> {
        match &self.kind {
            Kind::Postgresql(preset) => preset.restore_steps(&self.caller, stored),
            Kind::Mariadb(preset) => preset.restore_steps(&self.caller, stored),
            Kind::Sqlite(preset) => preset.restore_steps(&self.caller, stored),
            Kind::Redis(preset) => preset.restore_steps(&self.caller, stored),
            Kind::Elasticsearch(preset) => Ok(preset.restore_steps(&self.caller)),
            Kind::Ndb(preset) => preset.restore_steps(stored),
        }
    }

    /// What the server holds now, to be compared with the fingerprint of a snapshot; `None` where there is no server to
    /// ask.
    pub fn fingerprint(
        &self,
        over: &dyn Fn() -> bool,
    ) -> std::result::Result<Option<Fingerprint>, String> {
        let caller = self.caller.begin(self.caller.told.clone());
        match &self.kind {
            Kind::Postgresql(preset) => preset.fingerprint(&caller, over).map(Some),
            Kind::Mariadb(preset) => preset.fingerprint(&caller, over).map(Some),
            Kind::Sqlite(preset) => preset.fingerprint(&caller, over).map(Some),
            Kind::Redis(preset) => preset.fingerprint(&caller, over).map(Some),
            Kind::Elasticsearch(preset) => preset.fingerprint(&caller, over).map(Some),
            Kind::Ndb(_) => Ok(None),
        }
    }
}

/// Gives the fingerprint to the sink.
fn give_fingerprint(
    sink: &mut dyn Sink,
    fingerprint: &Fingerprint,
) -> std::result::Result<(), String> {
    let bytes = fingerprint.to_bytes();
    give_bytes(sink, FINGERPRINT.as_bytes(), &bytes)
}

fn give_bytes(
    sink: &mut dyn Sink,
    path: &[u8],
    mut bytes: &[u8],
) -> std::result::Result<(), String> {
    sink.file(path, file_metadata(), &mut bytes).map(drop).map_err(|error| error.to_string())
}
