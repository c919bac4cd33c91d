//! Elasticsearch and OpenSearch, by their snapshot API: a snapshot is started, waited for and looked at; then the files
//! of its repository, a directory, are saved. The way back puts the files into a directory of their own within that one,
//! restores the snapshot from there as from a repository that is only read, and takes both away again. The repository
//! itself stays as it is: a server takes the newest list of snapshots that lies there for the one that counts, and an
//! older one, put beside it, would not be looked at.
//!
//! <https://www.elastic.co/guide/en/elasticsearch/reference/8.17/snapshot-restore-apis.html>

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;
use zeroize::Zeroizing;

use super::caller::Caller;
use super::fingerprint::{Count, Database, Fingerprint};
use super::http::Api;
use super::step::CallStep;
use super::{RestoreStep, give_bytes, give_fingerprint};
use crate::backup::Sink;
use crate::config::profile::ElasticsearchPreset;
use crate::format::entry::EntryKind;
use crate::repository::Result;
use crate::source::capture::metadata_of;
use crate::source::process::Deadline;
use crate::source::usage;

/// What the source says of the snapshot.
const SNAPSHOT: &str = "snapshot.json";
/// Where the repository's files lie in the source.
const FILES: &str = "repository";
/// Snapshots of ours that stay in the server's repository: the next one builds on them.
const KEPT: usize = 3;
/// What the directory of a way back, and the repository in it, are called; a number follows.
const RETURNING: &str = "esker-restore-";
/// How often is asked.
const SOON: Duration = Duration::from_millis(200);
const LATER: Duration = Duration::from_secs(5);
/// How long indices may take to come back, if the profile does not say.
const RETURN: Duration = Duration::from_secs(3600);

#[derive(Clone)]
pub struct Elasticsearch {
    settings: ElasticsearchPreset,
    url: Url,
    user: Option<(String, Zeroizing<String>)>,
}

/// Stored beside the files; what the way back needs.
#[derive(Deserialize, Serialize)]
struct Taken {
    repository: String,
    /// As the server said them: type and settings.
    definition: Value,
    snapshot: String,
    uuid: String,
    indices: Vec<String>,
    /// Whether templates and settings of the cluster belong to it.
    global_state: bool,
}

impl Elasticsearch {
    pub fn new(
        settings: &ElasticsearchPreset,
        password: Option<Zeroizing<String>>,
    ) -> Result<Elasticsearch> {
        let wrong = || {
            usage(format!(
                "elasticsearch: {:?} is no address: write http://localhost:9200",
                settings.url
            ))
        };
        let url = Url::parse(&settings.url).map_err(|_| wrong())?;
        if !matches!(url.scheme(), "http" | "https") || url.cannot_be_a_base() {
            return Err(wrong());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(usage(
                "elasticsearch: user and password do not belong into the address: write user and password",
            ));
        }
        if settings.repository.is_empty() || settings.repository.contains(['/', '*', ',', '?']) {
            return Err(usage(format!(
                "elasticsearch: {:?} is no name of a repository",
                settings.repository
            )));
        }
        let user = match (&settings.user, password) {
            (Some(user), password) => Some((user.clone(), password.unwrap_or_default())),
            (None, None) => None,
            (None, Some(_)) => return Err(usage("elasticsearch: a password without user")),
        };
        Ok(Elasticsearch { settings: settings.clone(), url, user })
    }

    pub fn check(&self) -> Result<()> {
        let path = &self.settings.path;
        match path.is_dir() {
            true => Ok(()),
            false => Err(usage(format!(
                "elasticsearch: {}: no such directory: the repository's files are to lie there",
                path.display()
            ))),
        }
    }

    fn api(&self) -> std::result::Result<Api, String> {
        Api::new(&self.url, self.user.clone())
    }

    pub fn capture(&self, caller: &Caller, sink: &mut dyn Sink) -> std::result::Result<(), String> {
        let api = self.api()?;
        let repository = self.settings.repository.as_str();
        let definition = api
            .call("GET", &["_snapshot", repository], "", None)?
            .good(&format!("snapshot repository {repository}"))?[repository]
            .clone();
        if definition["type"] != "fs" {
            return Err(format!(
                "snapshot repository {repository} is of type {}, and not fs",
                definition["type"]
            ));
        }
        let before = self.fingerprint_by(&api)?;
        let name = format!("esker-{}", jiff::Timestamp::now().as_millisecond());
        let body = json!({
            "indices": self.settings.indices.as_ref().map_or("*".into(), |indices| indices.join(",")),
            "include_global_state": self.settings.indices.is_none(),
        });
        api.call(
            "PUT",
            &["_snapshot", repository, &name],
            "wait_for_completion=false",
            Some(body),
        )?
        .good(&format!("snapshot {name} does not start"))?;
        let done =
            wait_for_snapshot(&api, repository, &name, caller.deadline, &|| sink.interrupted());
        let snapshot = match done {
            Ok(snapshot) => snapshot,
            Err(message) => {
                // what is of no use is not left behind; that it failed is what matters
                let _ = api.call("DELETE", &["_snapshot", repository, &name], "", None);
                return Err(message);
            }
        };
        let after = self.fingerprint_by(&api)?;
        let taken = Taken {
            repository: repository.to_owned(),
            definition,
            snapshot: name,
            uuid: snapshot["uuid"].as_str().unwrap_or_default().to_owned(),
            indices: texts(&snapshot["indices"]),
            global_state: self.settings.indices.is_none(),
        };
        self.files(caller, sink, &taken, &snapshot)?;
        let text = serde_json::to_vec_pretty(&taken).map_err(|error| error.to_string())?;
        give_bytes(sink, SNAPSHOT.as_bytes(), &text)?;
        give_fingerprint(sink, &Fingerprint::around(before, after))?;
        if let Err(message) = self.remove_old(&api) {
            sink.note(b"", &format!("old snapshots stay on the server: {message}"));
        }
        Ok(())
    }

    /// The repository's files, all of one state that has the snapshot in it.
    fn files(
        &self,
        caller: &Caller,
        sink: &mut dyn Sink,
        taken: &Taken,
        snapshot: &Value,
    ) -> std::result::Result<(), String> {
        let path = &self.settings.path;
        let generation = || {
            fs::read(path.join("index.latest")).map_err(|error| {
                format!("{}: no repository of snapshots lies there: {error}", path.display())
            })
        };
        let begun = generation()?;
        let mark = format!("snap-{}.dat", taken.uuid);
        if taken.uuid.is_empty() || !path.join(&mark).exists() {
            return Err(format!(
                "{}: the snapshot that was just made is not there ({mark}): is it the directory of repository {}?",
                path.display(),
                taken.repository
            ));
        }
        let mut found = Walk { caller, mark: &mark, shards: 0 };
        found.directory(sink, path, FILES.as_bytes())?;
        let shards = snapshot["shards"]["total"].as_u64().unwrap_or(0);
        if found.shards != shards {
            return Err(format!(
                "{}: {} of {shards} shards of the snapshot are there",
                path.display(),
                found.shards
            ));
        }
        match generation()? == begun {
            true => Ok(()),
            false => Err(format!(
                "{}: the repository was changed by somebody else while it was read",
                path.display()
            )),
        }
    }

    /// Deletes what is older than the newest few of ours.
    fn remove_old(&self, api: &Api) -> std::result::Result<(), String> {
        let repository = self.settings.repository.as_str();
        let all = api
            .call("GET", &["_snapshot", repository, "esker-*"], "", None)?
            .good("list of snapshots")?;
        let mut names: Vec<&str> = all["snapshots"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|snapshot| snapshot["snapshot"].as_str())
            .filter(|name| {
                name.strip_prefix("esker-").is_some_and(|rest| rest.parse::<u64>().is_ok())
            })
            .collect();
        names.sort_by_key(|name| (name.len(), *name));
        let surplus = names.len().saturating_sub(KEPT);
        for name in &names[..surplus] {
            api.call("DELETE", &["_snapshot", repository, name], "", None)?.good(name)?;
        }
        Ok(())
    }

    pub fn fingerprint(
        &self,
        _caller: &Caller,
        _over: &dyn Fn() -> bool,
    ) -> std::result::Result<Fingerprint, String> {
        self.fingerprint_by(&self.api()?)
    }

    /// Documents of each index. Indices with a dot in front are the server's own, and change by themselves.
    fn fingerprint_by(&self, api: &Api) -> std::result::Result<Fingerprint, String> {
        let chosen =
            self.settings.indices.as_ref().map_or("*".to_owned(), |indices| indices.join(","));
        let answer = api.call("POST", &[&chosen, "_refresh"], "", None)?;
        if answer.status != 404 {
            answer.good("refresh")?;
        }
        let path = ["_cat", "indices", &chosen];
        let list = api
            .call("GET", &path, "format=json&h=index,docs.count", None)?
            .good("list of indices")?;
        let mut documents = BTreeMap::new();
        for index in list.as_array().into_iter().flatten() {
            let name = index["index"].as_str().unwrap_or_default();
            let count = index["docs.count"].as_str().and_then(|count| count.parse().ok());
            if let (false, Some(count)) = (name.is_empty() || name.starts_with('.'), count) {
                documents.insert(name.to_owned(), Count::Exact(count));
            }
        }
        let database = Database { tables: Some(documents), ..Database::default() };
        Ok(Fingerprint {
            kind: "elasticsearch".into(),
            databases: BTreeMap::from([("indices".into(), database)]),
        })
    }

    /// The files first, then the snapshot from them.
    pub fn restore_steps(&self, caller: &Caller) -> Vec<RestoreStep> {
        let name = format!("{RETURNING}{}", jiff::Timestamp::now().as_millisecond());
        let place = RestoreStep::Place { from: FILES.into(), to: self.settings.path.join(&name) };
        let (preset, limit) = (self.clone(), caller.limits.total.unwrap_or(RETURN));
        let call =
            move |file: &[u8], over: &dyn Fn() -> bool| preset.restore(file, &name, limit, over);
        let call = CallStep {
            path: SNAPSHOT.into(),
            what: format!("restore indices of repository {}", self.settings.repository),
            call: Box::new(call),
        };
        vec![place, RestoreStep::Call(call)]
    }

    /// Restores from the files in the directory `name`.
    fn restore(
        &self,
        file: &[u8],
        name: &str,
        limit: Duration,
        over: &dyn Fn() -> bool,
    ) -> std::result::Result<(), String> {
        let taken: Taken =
            serde_json::from_slice(file).map_err(|error| format!("{SNAPSHOT}: {error}"))?;
        let api = self.api()?;
        let repository = self.settings.repository.as_str();
        let known = api.call("GET", &["_snapshot", repository], "", None)?;
        let is_new = known.status == 404;
        let definition = match is_new {
            true => taken.definition.clone(),
            false => known.good("snapshot repository")?[repository].clone(),
        };
        self.let_in(name);
        let outcome = register_returning(&api, &definition, name)
            .and_then(|()| restore_from(&api, name, &taken, limit, over));
        self.clear(&api);
        outcome?;
        match is_new {
            true => register(&api, repository, &definition["type"], &definition["settings"])
                .map_err(|message| format!("the indices are back, but not their {message}")),
            false => Ok(()),
        }
    }

    /// Where there was no directory for the repository, one was made that nobody else may enter: it becomes the server's,
    /// as the files in it are.
    fn let_in(&self, name: &str) {
        let path = &self.settings.path;
        let (Ok(made), Ok(like)) = (fs::metadata(path), fs::metadata(path.join(name))) else {
            return;
        };
        let is_ours = made.uid() == rustix::process::geteuid().as_raw();
        if is_ours && made.mode() & 0o7777 == 0o700 && !path.join("index.latest").exists() {
            // what is not allowed is seen when the server reads
            let _ = fs::set_permissions(path, like.permissions());
            let _ = chown(path, Some(like.uid()), Some(like.gid()));
        }
    }

    /// Takes away what the way back needed, also that of one which was interrupted; but not what the server still reads.
    fn clear(&self, api: &Api) {
        for entry in fs::read_dir(&self.settings.path).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| is_returning(name)) else { continue };
            let removed = api.call("DELETE", &["_snapshot", name], "", None);
            if removed.is_ok_and(|answer| answer.is_good() || answer.status == 404) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// Whether something is what a way back made for itself.
fn is_returning(name: &str) -> bool {
    name.strip_prefix(RETURNING)
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
}

fn register(
    api: &Api,
    name: &str,
    kind: &Value,
    settings: &Value,
) -> std::result::Result<(), String> {
    let body = json!({ "type": kind, "settings": settings });
    api.call("PUT", &["_snapshot", name], "", Some(body))?
        .good(&format!("snapshot repository {name}"))
        .map(drop)
}

/// Lets the server read the directory `name` in that of the repository which is defined so.
fn register_returning(
    api: &Api,
    definition: &Value,
    name: &str,
) -> std::result::Result<(), String> {
    let mut settings = definition["settings"].clone();
    let Some(location) = settings["location"].as_str().map(str::to_owned) else {
        return Err("the snapshot repository has no location: it is no directory".into());
    };
    settings["location"] = json!(format!("{}/{name}", location.trim_end_matches('/')));
    settings["readonly"] = json!(true);
    register(api, name, &definition["type"], &settings)
}

fn restore_from(
    api: &Api,
    repository: &str,
    taken: &Taken,
    limit: Duration,
    over: &dyn Fn() -> bool,
) -> std::result::Result<(), String> {
    // nothing is closed before the server has seen the snapshot
    let snapshot = state(api, repository, &taken.snapshot)?;
    if snapshot["state"] != "SUCCESS" {
        return Err(format!("snapshot {} is {} and not whole", taken.snapshot, snapshot["state"]));
    }
    let closed = close(api, &taken.indices)?;
    let outcome = bring_back(api, repository, taken, limit, over);
    if outcome.is_err() {
        for index in &closed {
            // one that is being restored cannot be opened, and need not
            let _ = api.call("POST", &[index, "_open"], "", None);
        }
    }
    outcome
}

/// The directory of a repository, entry by entry.
struct Walk<'a> {
    caller: &'a Caller,
    /// The file that each shard has of the snapshot.
    mark: &'a str,
    shards: u64,
}

impl Walk<'_> {
    fn directory(
        &mut self,
        sink: &mut dyn Sink,
        directory: &Path,
        path: &[u8],
    ) -> std::result::Result<(), String> {
        let wrong = |at: &Path, error: std::io::Error| format!("{}: {error}", at.display());
        let metadata = fs::symlink_metadata(directory).map_err(|error| wrong(directory, error))?;
        sink.entry(path, EntryKind::Directory, metadata_of(&metadata))
            .map_err(|error| error.to_string())?;
        let entries = fs::read_dir(directory).map_err(|error| wrong(directory, error))?;
        let mut entries: Vec<PathBuf> = entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<std::io::Result<_>>()
            .map_err(|error| wrong(directory, error))?;
        entries.sort();
        for entry in entries {
            if sink.interrupted() {
                return Err("interrupted".into());
            }
            self.caller.deadline.check("reading the repository")?;
            let name = entry.file_name().unwrap_or_default();
            if path == FILES.as_bytes() && name.to_str().is_some_and(is_returning) {
                continue;
            }
            let path = [path, b"/", name.as_bytes()].concat();
            let metadata = fs::symlink_metadata(&entry).map_err(|error| wrong(&entry, error))?;
            if metadata.is_dir() {
                self.directory(sink, &entry, &path)?;
            } else if metadata.is_file() {
                let mut file = fs::File::open(&entry).map_err(|error| wrong(&entry, error))?;
                let given = sink.file(&path, metadata_of(&metadata), &mut file);
                let bytes = given.map_err(|error| wrong(&entry, error))?;
                if bytes != metadata.len() {
                    return Err(format!("{}: it changed while it was read", entry.display()));
                }
                let in_shard = directory
                    .parent()
                    .and_then(Path::parent)
                    .is_some_and(|above| above.ends_with("indices"));
                self.shards += u64::from(name == self.mark && in_shard);
            } else {
                sink.note(&path, "left out: no file of a repository");
            }
        }
        Ok(())
    }
}

/// What the server says of one snapshot.
fn state(api: &Api, repository: &str, name: &str) -> std::result::Result<Value, String> {
    let answer = api.call("GET", &["_snapshot", repository, name], "", None)?;
    Ok(answer.good(&format!("snapshot {name}"))?["snapshots"][0].clone())
}

fn wait_for_snapshot(
    api: &Api,
    repository: &str,
    name: &str,
    deadline: Deadline,
    over: &dyn Fn() -> bool,
) -> std::result::Result<Value, String> {
    let mut pause = SOON;
    let (mut shards, mut heard) = (Value::Null, Instant::now());
    loop {
        let snapshot = state(api, repository, name)?;
        if snapshot["shards"] != shards {
            (shards, heard) = (snapshot["shards"].clone(), Instant::now());
        }
        match snapshot["state"].as_str() {
            Some("SUCCESS") => return Ok(snapshot),
            Some("IN_PROGRESS" | "STARTED" | "INIT") => {}
            Some(state) => {
                return Err(format!("snapshot {name} is {state}: {}", failures(&snapshot)));
            }
            None => return Err(format!("the server does not say how snapshot {name} is")),
        }
        wait(&mut pause, over)?;
        deadline.check("the snapshot")?;
        deadline.check_silence("the snapshot", heard)?;
    }
}

/// Why shards are missing, the first few of them.
fn failures(snapshot: &Value) -> String {
    let of = |failure: &Value| {
        let text = |key: &str| failure[key].as_str().unwrap_or("?").to_owned();
        let shard = failure["shard_id"].as_u64().unwrap_or(0);
        format!("{}[{shard}] {}", text("index"), text("reason"))
    };
    let list = snapshot["failures"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut reasons: Vec<String> = list.iter().take(3).map(of).collect();
    if list.len() > 3 {
        reasons.push(format!("and {} more", list.len() - 3));
    }
    let reason = snapshot["reason"].as_str().unwrap_or("no reason is given");
    let text = if reasons.is_empty() { reason.to_owned() } else { reasons.join("; ") };
    crate::output::sentence(&text).into_owned()
}

/// Sleeps in short naps, a little longer each time it is called.
fn wait(pause: &mut Duration, over: &dyn Fn() -> bool) -> std::result::Result<(), String> {
    let until = Instant::now() + *pause;
    while Instant::now() < until {
        if over() {
            return Err("interrupted".into());
        }
        std::thread::sleep(SOON.min(until.saturating_duration_since(Instant::now())));
    }
    *pause = (*pause * 2).min(LATER);
    Ok(())
}

/// Closes those of the indices that are open; a server restores only over closed ones. Its own it replaces itself.
fn close(api: &Api, indices: &[String]) -> std::result::Result<Vec<String>, String> {
    let list = api
        .call("GET", &["_cat", "indices"], "format=json&h=index,status&expand_wildcards=all", None)?
        .good("list of indices")?;
    let mut closed: Vec<String> = Vec::new();
    for index in list.as_array().into_iter().flatten() {
        let name = index["index"].as_str().unwrap_or_default();
        let own = name.starts_with('.') && !name.starts_with(".ds-");
        if own || index["status"] == "close" || !indices.iter().any(|wanted| wanted == name) {
            continue;
        }
        let answer = api
            .call("POST", &[name, "_close"], "", None)?
            .good(&format!("index {name} does not close"));
        if let Err(message) = answer {
            for index in &closed {
                let _ = api.call("POST", &[index, "_open"], "", None);
            }
            return Err(message);
        }
        closed.push(name.to_owned());
    }
    Ok(closed)
}

fn bring_back(
    api: &Api,
    repository: &str,
    taken: &Taken,
    limit: Duration,
    over: &dyn Fn() -> bool,
) -> std::result::Result<(), String> {
    let body =
        json!({ "indices": taken.indices.join(","), "include_global_state": taken.global_state });
    api.call(
        "POST",
        &["_snapshot", repository, &taken.snapshot, "_restore"],
        "wait_for_completion=false",
        Some(body),
    )?
    .good(&format!("snapshot {} is not restored", taken.snapshot))?;
    let deadline = Deadline::after(Some(limit));
    let mut pause = SOON;
    loop {
        let health = api.call("GET", &["_cluster", "health"], "", None)?.good("health")?;
        // replicas have no place on a single node
        let alone = health["number_of_data_nodes"] == 1 && health["initializing_shards"] == 0;
        match health["status"].as_str() {
            Some("green") => return Ok(()),
            Some("yellow") if alone => return Ok(()),
            _ => {}
        }
        wait(&mut pause, over)?;
        deadline.check("the return of the indices")?;
    }
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}
