//! A configuration file as it is written: repositories, profiles with their
//! sources, and what surrounds a run. Names here are the keys of the file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::value::{Command, Period, Secret, Size};

#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// The repository of commands that are told none: a place, or a name of `repositories`.
    pub repository: Option<String>,
    /// What opens it.
    pub key_file: Option<PathBuf>,
    #[serde(default)]
    pub repositories: BTreeMap<String, RepositorySettings>,
    #[serde(default)]
    pub profiles: BTreeMap<String, ProfileSettings>,
    /// Who is told how runs end; a profile's own `notify` adds to it.
    pub notify: Option<Notify>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct RepositorySettings {
    /// A directory, or an address such as `s3://bucket/prefix`.
    pub url: String,
    pub key_file: Option<PathBuf>,
    pub password: Option<Secret>,
    pub identity: Option<PathBuf>,
    /// It may be away as long as what a profile promises of it still holds.
    #[serde(default)]
    pub removable: bool,
    /// Variables that its store reads, such as `AWS_SECRET_ACCESS_KEY`.
    #[serde(default)]
    pub environment: BTreeMap<String, Secret>,
    /// Bytes a second to a store on another machine.
    pub limit_upload: Option<Size>,
    pub limit_download: Option<Size>,
    #[schemars(range(min = 1, max = 256))]
    pub connections: Option<usize>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum ProfileKind {
    /// Takes snapshots.
    #[default]
    Backup,
    /// Restores the newest complete snapshot of another host's profile.
    Standby,
    /// Takes no snapshots: retention, prune, check, copy and drill only.
    Maintenance,
    /// Only there to be extended.
    Template,
}

impl ProfileKind {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            ProfileKind::Backup => "backup",
            ProfileKind::Standby => "standby",
            ProfileKind::Maintenance => "maintenance",
            ProfileKind::Template => "template",
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ProfileSettings {
    pub kind: Option<ProfileKind>,
    /// Profiles whose settings count where this one has none.
    #[serde(default)]
    pub extends: Vec<String>,
    /// Names of `repositories`, or places. The first that can be reached takes the snapshot, the others a copy of it.
    pub repositories: Option<Vec<String>>,
    /// The host that snapshots are of; this machine without it.
    pub host: Option<String>,
    pub tags: Option<Vec<String>>,
    /// The snapshot's name: `{host}`, `{profile}`, `{id}`, `{time:%Y-%m-%d}`.
    pub name: Option<String>,
    /// How long a snapshot is to be kept at least and at most.
    pub expire_after: Option<Period>,
    #[serde(default)]
    pub sources: Vec<Source>,
    /// Patterns that are left out of all paths.
    pub exclude: Option<Vec<String>>,
    /// zstd level from 1 to 22; 0 stores.
    #[schemars(range(min = 0, max = 22))]
    pub compression: Option<i32>,
    pub set: Option<Set>,

    /// Calendar expressions, of systemd or cron.
    pub schedule: Option<Vec<String>>,
    /// The time zone of the schedule: `Europe/Berlin`.
    #[schemars(extend("format" = "zone"))]
    pub zone: Option<String>,
    /// A run begins up to so much later, by chance.
    pub jitter: Option<Period>,
    /// Whether a run that was missed is made up for; true without it.
    pub catch_up: Option<bool>,
    pub conditions: Option<Conditions>,
    /// Nice and idle I/O for scheduled runs; true without it.
    pub nice: Option<bool>,

    /// What `status` holds the profile to.
    pub promises: Option<Promises>,
    pub suspicion: Option<Suspicion>,
    pub hooks: Option<Hooks>,
    pub retention: Option<Retention>,
    pub prune: Option<Prune>,
    pub check: Option<Check>,
    pub copy: Option<Vec<Copy>>,
    pub drill: Option<Drill>,
    pub notify: Option<Notify>,
    pub standby: Option<Standby>,
}

/// One source. Exactly one of `paths`, `command`, `tar` and `preset` is there.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Its first path component in a snapshot, if it is no path; what `--source` names.
    pub name: Option<String>,

    pub paths: Option<Vec<PathBuf>>,
    pub exclude: Option<Vec<String>>,
    #[serde(default)]
    pub one_file_system: bool,
    /// Paths that may be missing or unreadable.
    pub may_fail: Option<Vec<PathBuf>>,
    /// Directories on which something must be mounted.
    pub expect_mount: Option<Vec<PathBuf>>,

    /// What it prints is one file of the snapshot.
    pub command: Option<Command>,
    /// It prints a tar stream whose members become entries of the snapshot.
    pub tar: Option<Command>,
    /// Longest time a command may take.
    pub timeout: Option<Period>,
    /// Longest time a command may print nothing, and not end; six hours without it.
    pub idle_timeout: Option<Period>,
    /// What the last line of a whole stream begins with. Exit status 0 alone is not believed where this is known.
    pub ends_with: Option<String>,
    #[serde(default)]
    pub environment: BTreeMap<String, Secret>,

    pub preset: Option<Preset>,

    /// Whether the snapshot is partial without it; true without this.
    pub required: Option<bool>,
    /// Reads the source's stream and puts it back.
    pub restore: Option<Command>,
    /// Sources are restored in the order of these numbers, then of the file.
    pub restore_order: Option<i32>,
    /// Run around this source.
    pub hooks: Option<Hooks>,
}

/// A program esker knows how to ask for its data. `through` is put before every command: `kubectl exec -i pod --`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Preset {
    /// Each database with `pg_dump`, and roles with `pg_dumpall --globals-only`.
    Postgresql(PostgresqlPreset),
    /// MariaDB and MySQL: each database with its routines, triggers, events and views; users and grants.
    Mariadb(MariadbPreset),
    Sqlite(SqlitePreset),
    Redis(RedisPreset),
    /// Elasticsearch and OpenSearch, by their snapshot API.
    Elasticsearch(ElasticsearchPreset),
    /// Native backups of MySQL NDB clusters (RonDB).
    Ndb(NdbPreset),
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct PostgresqlPreset {
    pub through: Option<Vec<String>>,
    /// All that are not templates without it.
    pub databases: Option<Vec<String>>,
    pub exclude_databases: Option<Vec<String>>,
    pub host: Option<String>,
    pub port: Option<u16>,
    pub user: Option<String>,
    pub password: Option<Secret>,
    /// Roles and tablespaces; true without it.
    pub globals: Option<bool>,
    /// More arguments of `pg_dump`.
    pub arguments: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct MariadbPreset {
    pub through: Option<Vec<String>>,
    pub databases: Option<Vec<String>>,
    pub exclude_databases: Option<Vec<String>>,
    pub host: Option<String>,
    pub port: Option<u16>,
    pub socket: Option<PathBuf>,
    pub user: Option<String>,
    pub password: Option<Secret>,
    /// `include` (the default) or `exclude`.
    pub users: Option<Users>,
    /// `keep` the passwords of restored users, or take them `from` a file.
    pub passwords: Option<Passwords>,
    pub arguments: Option<Vec<String>>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Users {
    Include,
    Exclude,
}

#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum Passwords {
    Keep,
    /// A file of lines `user@host password`.
    From(PathBuf),
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct SqlitePreset {
    /// Database files, each saved as of one moment while it is written to.
    pub files: Vec<PathBuf>,
    pub through: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct RedisPreset {
    pub through: Option<Vec<String>>,
    pub host: Option<String>,
    pub port: Option<u16>,
    pub socket: Option<PathBuf>,
    pub user: Option<String>,
    pub password: Option<Secret>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ElasticsearchPreset {
    pub url: String,
    pub user: Option<String>,
    pub password: Option<Secret>,
    /// The snapshot repository's name, of type `fs`.
    pub repository: String,
    /// Where that repository lies on this machine.
    pub path: PathBuf,
    /// All without it.
    pub indices: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct NdbPreset {
    /// What starts a backup and waits: `ndb_mgm -e "START BACKUP {id} WAIT COMPLETED"`. None: it is there already.
    pub start: Option<Command>,
    /// Directories of data nodes that hold `BACKUP/BACKUP-<id>`.
    pub directories: Vec<PathBuf>,
    /// Ids of the data nodes that take part.
    pub nodes: Vec<u32>,
}

/// Snapshots of several hosts that count as one.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Set {
    /// May hold `{id}`, the number that `--set-id` gives, and `{time:%Y-%m-%d}`.
    pub name: String,
    /// Which part this profile contributes.
    pub part: String,
    /// All parts that make the set whole.
    pub parts: Vec<String>,
    /// Writers whose parts count: labels or ids of keys; the key of the first part without it.
    #[serde(default)]
    pub writers: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Conditions {
    #[serde(default)]
    pub mains_power: bool,
    #[serde(default)]
    pub not_metered: bool,
    #[serde(default)]
    pub mounts: Vec<PathBuf>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Promises {
    pub maximum_age: Option<Period>,
    pub drill: Option<Period>,
    pub check: Option<Period>,
    pub prune: Option<Period>,
}

/// When a run looks as if something was wrong with the source. Shares from 0 to 1.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Suspicion {
    #[schemars(range(min = 0, max = 1))]
    pub changed: Option<f64>,
    #[schemars(range(min = 1))]
    pub changed_times_median: Option<f64>,
    #[schemars(range(min = 0, max = 1))]
    pub deleted: Option<f64>,
    #[schemars(range(min = 0, max = 1))]
    pub stored_per_changed: Option<f64>,
    #[schemars(range(min = 0, max = 1))]
    pub stored_per_changed_median: Option<f64>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Hooks {
    #[serde(default)]
    pub before: Vec<Hook>,
    #[serde(default)]
    pub after: Vec<Hook>,
    #[serde(default)]
    pub success: Vec<Hook>,
    #[serde(default)]
    pub failure: Vec<Hook>,
    #[serde(default)]
    pub finally: Vec<Hook>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    pub run: Command,
    /// Ten minutes without it.
    pub timeout: Option<Period>,
    #[serde(default)]
    pub on_failure: OnFailure,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// The run, or the source, fails.
    #[default]
    Fail,
    Warn,
    Ignore,
}

/// As the options of `forget`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    pub every: Option<Period>,
    #[schemars(range(max = 4_294_967_295_u32))]
    pub last: Option<u64>,
    #[schemars(range(max = 4_294_967_295_u32))]
    pub hourly: Option<u64>,
    #[schemars(range(max = 4_294_967_295_u32))]
    pub daily: Option<u64>,
    #[schemars(range(max = 4_294_967_295_u32))]
    pub weekly: Option<u64>,
    #[schemars(range(max = 4_294_967_295_u32))]
    pub monthly: Option<u64>,
    #[schemars(range(max = 4_294_967_295_u32))]
    pub yearly: Option<u64>,
    /// All that are no older: `30d`, `1y 6mo`.
    #[schemars(extend("format" = "span"))]
    pub within: Option<String>,
    pub tags: Option<Vec<String>>,
    /// `host`, `profile`, `sources`, `tags`.
    pub group_by: Option<Vec<String>>,
    /// Whether only this host's and profile's snapshots are looked at: true without it, but for maintenance.
    pub only_own: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Prune {
    pub every: Option<Period>,
    /// As `--max-unused`: `5%`, `10G`.
    #[schemars(extend("format" = "share-or-size"))]
    pub max_unused: Option<String>,
    pub grace: Option<Period>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Check {
    pub every: Option<Period>,
    /// `100%` reads all data, `5%` another part each time.
    #[schemars(extend("format" = "share"))]
    pub read_data: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Copy {
    /// A name of `repositories`, or a place.
    pub to: String,
    pub every: Option<Period>,
    /// Only the newest, not all of the profile.
    #[serde(default)]
    pub latest: bool,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Drill {
    pub every: Option<Period>,
    /// How many files are restored, at least; everything with `all`.
    #[schemars(range(min = 1))]
    pub files: Option<u64>,
    #[serde(default)]
    pub all: bool,
    /// Compare with the live source, too.
    #[serde(default)]
    pub live: bool,
    /// Whether dumps of databases are loaded into a server of their own.
    #[serde(default)]
    pub databases: bool,
    /// A command of yours for a source: reads its stream, and fails if it is not good.
    #[serde(default)]
    pub commands: BTreeMap<String, Command>,
    /// Where to restore; a directory of the system's for temporary files without it.
    pub scratch: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Notify {
    /// Healthchecks style: `/start`, nothing, `/fail` behind it.
    pub ping: Option<Secret>,
    pub webhook: Option<Webhook>,
    pub mail: Option<Mail>,
    pub prometheus: Option<Prometheus>,
    /// `journal`, or a file that one JSON object a line is added to.
    pub log: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    pub url: Secret,
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// The body, with `{host}`, `{profile}`, `{state}`, `{sentence}`, `{last_good}`, `{age}`, `{command}`; JSON of all without it.
    pub body: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Mail {
    /// `smtp://host:25`, `smtps://host:465`, `smtp+starttls://host:587`
    pub server: String,
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub from: String,
    pub to: Vec<String>,
    pub subject: Option<String>,
    pub body: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Prometheus {
    pub textfile: Option<PathBuf>,
    /// A push gateway.
    pub push: Option<Secret>,
}

/// What a standby restores, and where.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Standby {
    pub host: String,
    pub profile: String,
    /// Beneath which paths are restored; in place without it.
    pub target: Option<PathBuf>,
    /// Sources to restore; all without it.
    pub sources: Option<Vec<String>>,
    /// Paths of the target that are never touched.
    #[serde(default)]
    pub keep: Vec<PathBuf>,
    /// Whether files that the snapshot does not have go.
    #[serde(default)]
    pub delete: bool,
}
