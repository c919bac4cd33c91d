//! Goals: whatever a server says, an object comes whole or not at all, and a refusal is not taken for an absence. The
//! server is a few lines of our own, so that it can misbehave; `tests/stores/` has real ones.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use bytes::Bytes;

use super::*;

/// What to do instead of what was asked for.
enum Fault {
    Say(&'static str),
    /// ends the control connection, perhaps with words
    Close(&'static str),
    /// ends the data connection after so many bytes, and calls the transfer done
    Cut(usize),
}

type Faults = Box<dyn Fn(&str) -> Option<Fault> + Send + Sync>;

struct Fake {
    port: u16,
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    directories: Mutex<BTreeSet<String>>,
    said: Mutex<Vec<String>>,
    faults: Mutex<Faults>,
    mlsd: bool,
}

struct Session {
    fake: Arc<Fake>,
    control: TcpStream,
    data: Option<TcpListener>,
    offset: usize,
    renamed: String,
    directory: String,
}

impl Fake {
    fn start(mlsd: bool) -> (Arc<Fake>, FtpStore) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let fake = Arc::new(Fake {
            port: listener.local_addr().unwrap().port(),
            files: Mutex::default(),
            directories: Mutex::new(BTreeSet::from(["".to_owned()])),
            said: Mutex::default(),
            faults: Mutex::new(Box::new(|_| None)),
            mlsd,
        });
        let server = fake.clone();
        thread::spawn(move || {
            for control in listener.incoming() {
                let fake = server.clone();
                let (data, offset) = (None, 0);
                let (renamed, directory) = (String::new(), String::new());
                let control = control.unwrap();
                let mut session = Session { fake, control, data, offset, renamed, directory };
                thread::spawn(move || session.run());
            }
        });
        let address = format!("ftp://ada@127.0.0.1:{}/a/b", fake.port);
        let address = Address::parse(&address).unwrap();
        let secrets = Secrets { password: Some("secret".to_owned().into()), ..Secrets::default() };
        let store = FtpStore::new(&address, &secrets, Arc::default(), None).unwrap();
        (fake, store)
    }

    fn fails(&self, faults: impl Fn(&str) -> Option<Fault> + Send + Sync + 'static) {
        *self.faults.lock().unwrap() = Box::new(faults);
    }

    /// How often a command was given so far.
    fn count(&self, word: &str) -> usize {
        self.said.lock().unwrap().iter().filter(|said| said.starts_with(word)).count()
    }

    fn lines(&self, directory: &str) -> String {
        let mut lines = String::new();
        let name = |path: &str| {
            let (parent, name) = split(path);
            (parent == directory && !name.is_empty()).then(|| name.to_owned())
        };
        let mut line = |name: &str, facts: String, list: String| {
            lines += &if self.mlsd {
                format!("{facts} {name}\r\n")
            } else {
                format!("{list} {name}\r\n")
            };
        };
        for (path, object) in self.files.lock().unwrap().iter() {
            let length = object.len();
            let list = format!("-rw-------    1 1    1    {length} Nov 28 10:00");
            if let Some(name) = name(path) {
                line(&name, format!("type=file;size={length};"), list);
            }
        }
        let list = || "drwx------    1 1    1    4096 Nov 28 10:00".to_owned();
        for path in self.directories.lock().unwrap().iter() {
            if let Some(name) = name(path) {
                line(&name, "type=dir;".to_owned(), list());
            }
        }
        lines
    }
}

impl Session {
    fn say(&mut self, words: &str) {
        let _ = self.control.write_all(format!("{words}\r\n").as_bytes());
    }

    fn run(&mut self) {
        self.say("220 ready");
        let mut commands = BufReader::new(self.control.try_clone().unwrap()).lines();
        while let Some(Ok(command)) = commands.next() {
            self.fake.said.lock().unwrap().push(command.clone());
            let fault = (self.fake.faults.lock().unwrap())(&command);
            match fault {
                Some(Fault::Say(words)) => self.say(words),
                Some(Fault::Close(words)) => {
                    self.say(words);
                    let _ = self.control.shutdown(Shutdown::Both);
                }
                Some(Fault::Cut(length)) => self.answer(&command, Some(length)),
                None => self.answer(&command, None),
            }
        }
    }

    fn answer(&mut self, command: &str, cut: Option<usize>) {
        let (word, path) = command.split_once(' ').unwrap_or((command, ""));
        let path = path.trim_end_matches('/').to_owned();
        let file = self.fake.files.lock().unwrap().get(&path).cloned();
        let is_directory = self.fake.directories.lock().unwrap().contains(&path);
        match (word, file) {
            ("USER", _) => self.say("331 password?"),
            ("PASS", _) => self.say("230 welcome"),
            ("TYPE" | "NOOP", _) => self.say("200 ok"),
            ("FEAT", _) if self.fake.mlsd => self.say("211-Features:\r\n MLST size*;\r\n211 End"),
            ("FEAT", _) => self.say("211-Features:\r\n SIZE\r\n211 End"),
            ("EPSV" | "PASV", _) => self.listen(word),
            ("SIZE", Some(file)) => self.say(&format!("213 {}", file.len())),
            ("MLST", Some(file)) => {
                self.say(&format!("250-x\r\n type=file;size={}; x\r\n250 End", file.len()));
            }
            ("REST", _) => {
                self.offset = path.parse().unwrap();
                self.say("350 go on");
            }
            ("RETR", Some(file)) => {
                let offset = std::mem::take(&mut self.offset);
                self.transfer(&file[offset..], cut);
            }
            ("STOR", _) => {
                self.say("150 go on");
                let mut object = Vec::new();
                self.data.take().unwrap().accept().unwrap().0.read_to_end(&mut object).unwrap();
                object.truncate(cut.unwrap_or(usize::MAX));
                self.fake.files.lock().unwrap().insert(path, object);
                self.say("226 done");
            }
            ("CWD", _) if is_directory => {
                self.directory = path;
                self.say("250 ok");
            }
            ("MLSD", _) if is_directory => self.transfer(self.fake.lines(&path).as_bytes(), cut),
            ("LIST", _) => {
                let own = "drwx------    1 1    1    4096 Nov 28 10:00 .\r\n";
                let lines = format!("{own}{}", self.fake.lines(&self.directory));
                self.transfer(lines.as_bytes(), cut);
            }
            ("MKD", _) => {
                self.fake.directories.lock().unwrap().insert(path);
                self.say("257 made");
            }
            ("DELE", Some(_)) => {
                self.fake.files.lock().unwrap().remove(&path);
                self.say("250 ok");
            }
            ("RNFR", Some(_)) => {
                self.renamed = path;
                self.say("350 where to?");
            }
            ("RNTO", _) => {
                let mut files = self.fake.files.lock().unwrap();
                let object = files.remove(&self.renamed).unwrap();
                files.insert(path, object);
                drop(files);
                self.say("250 ok");
            }
            _ => self.say("550 no"),
        }
    }

    fn listen(&mut self, word: &str) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        self.data = Some(listener);
        match word {
            "EPSV" => self.say(&format!("229 ok (|||{port}|)")),
            // an address that leads nowhere
            _ => self.say(&format!("227 ok (192,0,2,1,{},{})", port / 256, port % 256)),
        }
    }

    fn transfer(&mut self, bytes: &[u8], cut: Option<usize>) {
        self.say("150 here it comes");
        let (mut data, _) = self.data.take().unwrap().accept().unwrap();
        let sent = data.write_all(&bytes[..cut.unwrap_or(bytes.len())]);
        drop(data);
        self.say(if sent.is_ok() { "226 done" } else { "426 you left" });
    }
}

fn put(store: &FtpStore, key: &str, object: &[u8]) -> Result<()> {
    store.put(key, Bytes::copy_from_slice(object))
}

#[track_caller]
fn check_kind<T: std::fmt::Debug>(result: Result<T>, kind: ErrorKind) {
    assert_eq!(result.unwrap_err().kind(), kind);
}

#[test]
fn objects_go_and_come_with_and_without_mlsd() {
    for mlsd in [true, false] {
        let (fake, store) = Fake::start(mlsd);
        assert_eq!(store.list("").unwrap(), []);
        put(&store, "packs/ab/1", b"0123456789").unwrap();
        put(&store, "packs/ab/1", b"0123456789").unwrap();
        put(&store, "config", b"").unwrap();
        check_kind(put(&store, "packs/ab/1", b"012345678x"), ErrorKind::Exists);
        check_kind(put(&store, "packs/ab/1", b"0"), ErrorKind::Exists);
        assert_eq!(store.get("packs/ab/1", 10).unwrap(), "0123456789");
        check_kind(store.get("packs/ab/1", 9), ErrorKind::TooLarge);
        assert_eq!(store.get_range("packs/ab/1", 3, 4).unwrap(), "3456");
        assert_eq!(store.get_range("packs/ab/1", 3, 7).unwrap(), "3456789");
        check_kind(store.get_range("packs/ab/1", 3, 8), ErrorKind::Truncated);
        check_kind(store.get_range("packs/ab/1", u64::MAX, 1), ErrorKind::Truncated);
        for absent in ["packs/ab/2", "packs/ab", "packs/cd/1", "packs/ab/1/2"] {
            check_kind(store.get(absent, 10), ErrorKind::NotFound);
            store.delete(absent).unwrap();
        }
        let keys: Vec<String> = store.list("").unwrap().into_iter().map(|o| o.key).collect();
        assert_eq!(keys, ["config", "packs/ab/1"]);
        assert_eq!(store.list("packs/").unwrap()[0].length, 10);
        assert_eq!(store.list("snapshots/").unwrap(), []);
        store.delete("packs/ab/1").unwrap();
        assert_eq!(fake.files.lock().unwrap().len(), 1, "nothing is left under tmp/");
        assert_eq!(fake.count("USER"), 1, "all of it over one connection");
    }
}

#[test]
fn an_idle_connection_that_was_closed_is_replaced() {
    let (fake, store) = Fake::start(true);
    put(&store, "config", b"x").unwrap();
    fake.fails(|command| (command == "NOOP").then_some(Fault::Close("200 ok\r\n421 Timeout.")));
    let closed = store.pool.with(|connection| {
        connection.ask("NOOP")?;
        while connection.is_alive() {
            thread::yield_now();
        }
        Ok(())
    });
    closed.unwrap();
    assert_eq!(store.get("config", 1).unwrap(), "x");
    assert_eq!(fake.count("USER"), 2);
}

#[test]
fn a_connection_that_ends_in_the_middle_is_another_time_and_another_connection() {
    let (fake, store) = Fake::start(true);
    put(&store, "config", b"x").unwrap();
    for words in ["421 Timeout.", "", "4", "226 something else"] {
        fake.fails(move |command| command.starts_with("MLST").then_some(Fault::Close(words)));
        check_kind(store.get("config", 1), ErrorKind::Temporary);
        fake.fails(|_| None);
        assert_eq!(store.get("config", 1).unwrap(), "x", "{words}");
    }
    assert_eq!(fake.count("USER"), 5);
}

#[test]
fn what_ends_early_is_no_object_and_no_listing() {
    let (fake, store) = Fake::start(true);
    put(&store, "config", b"0123456789").unwrap();
    fake.fails(|command| command.starts_with("RETR").then_some(Fault::Cut(9)));
    check_kind(store.get("config", 10), ErrorKind::Temporary);
    check_kind(store.get_range("config", 0, 10), ErrorKind::Temporary);
    fake.fails(|command| command.starts_with("MLSD").then_some(Fault::Cut(5)));
    store.list("").unwrap_err();
    fake.fails(|command| command.starts_with("STOR").then_some(Fault::Cut(5)));
    check_kind(put(&store, "index/1", b"0123456789"), ErrorKind::Temporary);
    fake.fails(|_| None);
    assert_eq!(store.list("").unwrap().len(), 1);
    assert_eq!(fake.files.lock().unwrap().len(), 1, "what arrived of it is removed");
}

#[test]
fn a_part_of_a_long_object_leaves_the_connection_in_step() {
    let (fake, store) = Fake::start(true);
    let object: Vec<u8> = (0..20_000_000u32).map(|n| (n / 1000) as u8).collect();
    put(&store, "packs/00/long", &object).unwrap();
    for at in [0, 5_000_000, 19_999_000] {
        let part = store.get_range("packs/00/long", at, 1000).unwrap();
        assert!(part == object[at as usize..at as usize + 1000]);
    }
    assert_eq!(fake.count("USER"), 1);
}

#[test]
fn a_refusal_is_no_absence() {
    for mlsd in [true, false] {
        let (fake, store) = Fake::start(mlsd);
        put(&store, "marks/1", b"x").unwrap();
        let denied = |command: &str| {
            let words = ["SIZE", "MLST", "RETR", "DELE"];
            words.iter().any(|word| command.starts_with(word)).then_some(Fault::Say("550 Denied."))
        };
        fake.fails(denied);
        check_kind(store.get("marks/1", 1), ErrorKind::Permission);
        check_kind(store.delete("marks/1"), ErrorKind::Permission);
        check_kind(store.get("marks/2", 1), ErrorKind::NotFound);
        store.delete("marks/2").unwrap();
        fake.fails(|command| {
            let lists = command.starts_with("MLSD /a/b/marks") || command == "CWD /a/b/marks";
            lists.then_some(Fault::Say("550 Denied."))
        });
        check_kind(store.list("marks/"), ErrorKind::Permission);
        check_kind(store.list(""), ErrorKind::Permission);
        assert_eq!(fake.count("USER"), 1);
    }
}

/// As vsftpd does where it may enter but not read.
#[test]
fn a_directory_that_is_not_opened_is_not_empty() {
    let (fake, store) = Fake::start(false);
    put(&store, "marks/1", b"x").unwrap();
    let entered = Mutex::new(String::new());
    fake.fails(move |command| {
        let mut entered = entered.lock().unwrap();
        if let Some(directory) = command.strip_prefix("CWD ") {
            *entered = directory.to_owned();
        }
        (command.starts_with("LIST") && *entered == "/a/b/marks").then_some(Fault::Cut(0))
    });
    check_kind(store.list("marks/"), ErrorKind::Permission);
    check_kind(store.list(""), ErrorKind::Permission);
}

#[test]
fn a_directory_that_was_made_a_moment_ago_is_there() {
    let (fake, store) = Fake::start(true);
    put(&store, "config", b"x").unwrap();
    let server = fake.clone();
    fake.fails(move |command| {
        let made = command == "MLSD /a/b/marks"
            && server.directories.lock().unwrap().insert("/a/b/marks".to_owned());
        made.then_some(Fault::Say("550 no"))
    });
    assert_eq!(store.list("marks/").unwrap(), []);
    assert_eq!(fake.count("MLSD /a/b/marks"), 2);
}

#[test]
fn a_directory_that_vanishes_makes_the_listing_fail() {
    let (fake, store) = Fake::start(true);
    put(&store, "marks/1", b"x").unwrap();
    let server = fake.clone();
    fake.fails(move |command| {
        if command.starts_with("MLSD /a/b/marks") {
            server.directories.lock().unwrap().remove("/a/b/marks");
        }
        None
    });
    check_kind(store.list(""), ErrorKind::Temporary);
}

#[test]
fn pasv_is_taken_where_epsv_is_unknown() {
    let (fake, store) = Fake::start(true);
    fake.fails(|command| (command == "EPSV").then_some(Fault::Say("500 What?")));
    put(&store, "config", b"x").unwrap();
    assert_eq!(store.get("config", 1).unwrap(), "x");
    assert_eq!((fake.count("EPSV"), fake.count("USER")), (1, 1));
}

#[test]
fn the_reply_to_a_move_may_be_lost() {
    let (fake, store) = Fake::start(true);
    let server = fake.clone();
    fake.fails(move |command| {
        let path = command.strip_prefix("RNTO ")?;
        server.files.lock().unwrap().insert(path.to_owned(), b"x".to_vec());
        Some(Fault::Close(""))
    });
    check_kind(put(&store, "config", b"x"), ErrorKind::Temporary);
    fake.fails(|_| None);
    put(&store, "config", b"x").unwrap();
    assert_eq!(fake.count("STOR"), 1);
}

#[test]
fn what_a_full_server_refuses_is_full_and_no_password_is_shown() {
    let (fake, store) = Fake::start(true);
    fake.fails(|command| command.starts_with("STOR").then_some(Fault::Say("552 Quota.")));
    check_kind(put(&store, "config", b"x"), ErrorKind::Full);
    let (fake, store) = Fake::start(true);
    fake.fails(|command| command.starts_with("PASS").then_some(Fault::Say("530 No.")));
    let error = store.list("").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permission);
    assert!(error.to_string().contains("credentials"), "{error}");
    assert!(!format!("{error:?}").contains("secret"));
}

#[test]
fn no_more_connections_than_allowed() {
    let (fake, store) = Fake::start(true);
    put(&store, "config", b"x").unwrap();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..20).for_each(|_| assert_eq!(store.get("config", 1).unwrap(), "x")));
        }
    });
    assert!(fake.count("USER") <= CONNECTIONS, "{}", fake.count("USER"));
}
