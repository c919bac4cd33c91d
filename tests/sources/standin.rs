//! A stand-in for Elasticsearch: as much of its snapshot API as is documented and esker uses, over a repository of type
//! fs that it writes with the names of files that a real one has. It has documents only as numbers.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// How the next snapshot ends.
#[derive(Clone, Copy, Default, PartialEq)]
pub enum Outcome {
    #[default]
    Success,
    Partial,
    Failed,
    /// Never.
    Running,
    /// SUCCESS is said, and a shard's file is not there.
    Lying,
}

#[derive(Default)]
pub struct Server {
    pub directory: PathBuf,
    /// Whether the repository is registered.
    pub registered: bool,
    /// Repositories in its directory that are only read, by name, and where each lies.
    pub read_only: BTreeMap<String, PathBuf>,
    /// Documents of each index, and whether it is open.
    pub indices: BTreeMap<String, (u64, bool)>,
    pub outcome: Outcome,
    /// How often a snapshot is asked for before it has ended.
    pub asks: u32,
    pub asked: u32,
    /// Health that is told before it is green.
    pub unhealthy: u32,
    pub refuse_restore: bool,
    /// Requests in their order, without those that only look.
    pub done: Vec<String>,
    pub password: Option<String>,
}

pub struct StandIn {
    pub port: u16,
    pub server: Arc<Mutex<Server>>,
}

impl StandIn {
    pub fn start(directory: PathBuf) -> StandIn {
        fs::create_dir_all(&directory).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Server { directory, registered: true, asks: 2, ..Server::default() };
        let server = Arc::new(Mutex::new(server));
        let shared = Arc::clone(&server);
        // it ends with the tests
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        StandIn { port, server }
    }
}

fn serve(stream: TcpStream, server: &Mutex<Server>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let mut words = line.split_whitespace().map(str::to_owned);
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        let (mut length, mut authorization) = (0, None);
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).unwrap();
            let Some((name, value)) = header.trim_end().split_once(": ") else {
                break;
            };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().unwrap(),
                "authorization" => authorization = Some(value.to_owned()),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let mut server = server.lock().unwrap();
        let (status, answer) = match server.password == authorization {
            true => server.answer(&method, &target, &body),
            false => (401, error("missing authentication credentials")),
        };
        let answer = answer.to_string();
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        );
        if stream.write_all((head + &answer).as_bytes()).is_err() {
            return;
        }
    }
}

fn error(reason: &str) -> Value {
    json!({ "error": { "root_cause": [{ "reason": reason }], "reason": reason } })
}

impl Server {
    fn answer(&mut self, method: &str, target: &str, body: &Value) -> (u16, Value) {
        let (path, _) = target.split_once('?').unwrap_or((target, ""));
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        if method != "GET" {
            self.done.push(format!("{method} {path}"));
        }
        match (method, parts.as_slice()) {
            ("GET", ["_snapshot", name]) => match self.place(name) {
                Some(place) => {
                    (200, json!({ *name: { "type": "fs", "settings": { "location": place } } }))
                }
                None => (404, error("[missing] missing")),
            },
            ("PUT", ["_snapshot", name]) => {
                let settings = &body["settings"];
                let location = PathBuf::from(settings["location"].as_str().unwrap());
                assert_eq!(body["type"], "fs");
                match *name {
                    "backups" => {
                        assert_eq!(
                            (&location, &settings["readonly"]),
                            (&self.directory, &Value::Null)
                        );
                        self.registered = true;
                    }
                    _ => {
                        assert!(
                            location.starts_with(&self.directory) && location != self.directory
                        );
                        assert_eq!(settings["readonly"], true);
                        self.read_only.insert((*name).to_owned(), location);
                    }
                }
                (200, json!({ "acknowledged": true }))
            }
            ("DELETE", ["_snapshot", name]) => {
                let known = self.place(name).is_some();
                self.registered &= *name != "backups";
                self.read_only.remove(*name);
                match known {
                    true => (200, json!({ "acknowledged": true })),
                    false => (404, error("[missing] missing")),
                }
            }
            ("PUT", ["_snapshot", "backups", name]) => {
                self.write(name);
                (200, json!({ "accepted": true }))
            }
            ("GET", ["_snapshot", "backups", "esker-*"]) => {
                let all: Vec<Value> = self
                    .names()
                    .iter()
                    .map(|name| json!({ "snapshot": name, "state": "SUCCESS" }))
                    .collect();
                (200, json!({ "snapshots": all }))
            }
            ("GET", ["_snapshot", repository, name]) => self.state(repository, name),
            ("DELETE", ["_snapshot", "backups", name]) => {
                fs::remove_file(self.directory.join(format!("snap-uuid-{name}.dat"))).unwrap();
                self.generation(1);
                (200, json!({ "acknowledged": true }))
            }
            ("POST", ["_snapshot", repository, name, "_restore"]) => {
                self.restore(repository, name, body)
            }
            ("POST", [_, "_refresh"]) => (200, json!({})),
            ("GET", ["_cat", "indices", ..]) => {
                let row = |(name, (documents, open)): (&String, &(u64, bool))| {
                    let count = if *open { json!(documents.to_string()) } else { Value::Null };
                    json!({ "index": name, "docs.count": count, "status": if *open { "open" } else { "close" } })
                };
                (200, self.indices.iter().map(row).collect())
            }
            ("POST", [index, "_close" | "_open"]) => {
                self.indices.get_mut(*index).unwrap().1 = parts[1] == "_open";
                (200, json!({ "acknowledged": true }))
            }
            ("GET", ["_cluster", "health"]) => {
                let status = if self.unhealthy > 0 { "red" } else { "green" };
                self.unhealthy = self.unhealthy.saturating_sub(1);
                (
                    200,
                    json!({ "status": status, "number_of_data_nodes": 2, "initializing_shards": 0 }),
                )
            }
            _ => (400, error("no handler found")),
        }
    }

    /// Where a repository lies that is registered.
    fn place(&self, repository: &str) -> Option<PathBuf> {
        match repository {
            "backups" => self.registered.then(|| self.directory.clone()),
            _ => self.read_only.get(repository).cloned(),
        }
    }

    /// The snapshots of a repository: those of the newest list of its directory, whatever else lies there.
    fn listed(&self, repository: &str) -> Vec<String> {
        let entries = fs::read_dir(self.place(repository).unwrap()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let newest =
            names.filter_map(|name| name.strip_prefix("index-")?.parse::<u64>().ok()).max();
        let Some(newest) = newest else { return Vec::new() };
        let list = self.place(repository).unwrap().join(format!("index-{newest}"));
        serde_json::from_slice(&fs::read(list).unwrap()).unwrap()
    }

    fn generation(&self, more: u64) {
        let file = self.directory.join("index.latest");
        let now = fs::read(&file).map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().unwrap()));
        let _ = fs::remove_file(self.directory.join(format!("index-{now}")));
        let list = json!(self.names()).to_string();
        fs::write(self.directory.join(format!("index-{}", now + more)), list).unwrap();
        fs::write(file, (now + more).to_be_bytes()).unwrap();
    }

    fn write(&mut self, name: &str) {
        self.asked = 0;
        for (n, (index, (documents, _))) in self.indices.iter().enumerate() {
            let shard = self.directory.join(format!("indices/id-{index}/0"));
            fs::create_dir_all(&shard).unwrap();
            fs::write(shard.join(format!("__{index}")), documents.to_string()).unwrap();
            if n > 0 || self.outcome != Outcome::Lying {
                fs::write(shard.join(format!("snap-uuid-{name}.dat")), "shard").unwrap();
            }
        }
        let content = serde_json::to_vec(
            &self.indices.iter().map(|(name, (n, _))| (name, n)).collect::<BTreeMap<_, _>>(),
        );
        fs::write(self.directory.join(format!("snap-uuid-{name}.dat")), content.unwrap()).unwrap();
        self.generation(1);
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(&self.directory)
            .unwrap()
            .filter_map(|entry| {
                let name = entry.unwrap().file_name().into_string().unwrap();
                Some(name.strip_prefix("snap-uuid-")?.strip_suffix(".dat")?.to_owned())
            })
            .collect();
        names.sort();
        names
    }

    fn content(&self, repository: &str, name: &str) -> Option<BTreeMap<String, u64>> {
        let place = self.place(repository)?;
        if !self.listed(repository).iter().any(|listed| listed == name) {
            return None;
        }
        let bytes = fs::read(place.join(format!("snap-uuid-{name}.dat"))).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    fn state(&mut self, repository: &str, name: &str) -> (u16, Value) {
        let Some(content) = self.content(repository, name) else {
            return (404, error(&format!("[{repository}:{name}] is missing")));
        };
        self.asked += 1;
        let state = match self.outcome {
            _ if self.asked <= self.asks => "IN_PROGRESS",
            Outcome::Success | Outcome::Lying => "SUCCESS",
            Outcome::Partial => "PARTIAL",
            Outcome::Failed => "FAILED",
            Outcome::Running => "IN_PROGRESS",
        };
        let failures = match state {
            "PARTIAL" => {
                json!([{ "index": "logs", "shard_id": 0, "reason": "primary shard is\nnot allocated" }])
            }
            _ => json!([]),
        };
        let indices: Vec<&String> = content.keys().collect();
        let snapshot = json!({
            "snapshot": name, "uuid": format!("uuid-{name}"), "state": state, "indices": indices, "failures": failures,
            "reason": "Indices don't have primary shards", "shards": { "total": indices.len() },
        });
        (200, json!({ "snapshots": [snapshot] }))
    }

    fn restore(&mut self, repository: &str, name: &str, body: &Value) -> (u16, Value) {
        if self.refuse_restore {
            return (500, error("cannot restore"));
        }
        let content = self.content(repository, name).unwrap();
        for index in body["indices"].as_str().unwrap().split(',') {
            if self.indices.get(index).is_some_and(|(_, open)| *open) {
                return (
                    500,
                    error(&format!(
                        "cannot restore index [{index}] because an open index with same name exists"
                    )),
                );
            }
            self.indices.insert(index.to_owned(), (content[index], true));
        }
        (200, json!({ "accepted": true }))
    }
}
